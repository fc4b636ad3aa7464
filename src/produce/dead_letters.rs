//! The dead-letter topic of one event type.
//!
//! In: dead letters of rejected events, within a limit, and records that were given up. Out: both handed to a client with a small
//! buffer of its own, or dropped and counted. Never: waits, a place in the events' ledger, a dead letter of a dead letter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwapOption;

use super::{Record, Refused, TopicHandle};
use crate::auth::Limiter;
use crate::outcome::{Account, Code, Ledger, Tracked};
use crate::route::Limits;

/// Why a dead letter of a rejected event was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Dropped {
    /// There were too many, and it is not of the sample.
    RateLimited,
    /// The buffer of dead letters is full.
    BufferFull,
    /// It is larger than a record may be.
    TooLarge,
    /// The topic is not known to exist, or the proxy is stopping.
    Unavailable,
    /// Kafka did not take it.
    Failed,
}

impl Dropped {
    /// Every reason.
    pub const ALL: [Dropped; 5] =
        [Dropped::RateLimited, Dropped::BufferFull, Dropped::TooLarge, Dropped::Unavailable, Dropped::Failed];

    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Dropped::RateLimited => "rate_limited",
            Dropped::BufferFull => "buffer_full",
            Dropped::TooLarge => "too_large",
            Dropped::Unavailable => "unavailable",
            Dropped::Failed => "failed",
        }
    }
}

/// How many dead letters of rejected events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// All of so many a second, averaged over a second.
    pub events_per_second: u64,
    /// Beyond that one in so many; 0: none.
    pub one_in: u64,
}

/// Where the dead letters of one event type go. Shared by all threads, kept when a snapshot is replaced.
#[derive(Debug)]
pub struct DeadLetters {
    topic: String,
    sampling: Sampling,
    handle: ArcSwapOption<TopicHandle>,
    /// Of the dead letters of rejected events; none of the ledger's.
    account: Arc<Account>,
    limiter: Limiter,
    over: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
}

impl DeadLetters {
    /// A topic that is not known to exist yet.
    pub fn new(event: &str, cluster: &str, topic: &str, sampling: Sampling) -> Self {
        let limits = Limits { events_per_second: Some(sampling.events_per_second), ..Limits::default() };
        DeadLetters {
            topic: topic.to_owned(),
            sampling,
            handle: ArcSwapOption::empty(),
            account: Ledger::default().account(event, cluster),
            limiter: Limiter::new(&limits),
            over: AtomicU64::new(0),
            dropped: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Event name.
    pub fn event(&self) -> &str {
        &self.account.event
    }

    /// The cluster.
    pub fn cluster(&self) -> &str {
        &self.account.cluster
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// How many are kept.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// The topic's handle, once it is known to exist.
    pub fn handle(&self) -> Option<Arc<TopicHandle>> {
        self.handle.load_full()
    }

    /// Sets or takes away the topic's handle.
    pub fn set_handle(&self, handle: Option<Arc<TopicHandle>>) {
        self.handle.store(handle);
    }

    /// Whether a dead letter of so many bytes is to be made; counts it as dropped if not. `now_ms` is any steady clock.
    pub fn admit(&self, bytes: usize, now_ms: u64) -> bool {
        if self.limiter.take(bytes, now_ms).is_ok() {
            return true;
        }
        let over = self.over.fetch_add(1, Relaxed);
        let is_of_the_sample = self.sampling.one_in > 0 && over.is_multiple_of(self.sampling.one_in);
        if !is_of_the_sample {
            self.count(Dropped::RateLimited);
        }
        is_of_the_sample
    }

    /// Sends the dead letter of a rejected event, or counts it as dropped.
    pub fn send(&self, record: &Record<'_>) {
        let Some(handle) = &*self.handle.load() else { return self.count(Dropped::Unavailable) };
        let tracked = Tracked::beside_the_ledger(&self.account, record.cost_bytes());
        if let Err(Refused { tracked, code, .. }) = handle.send(record, tracked) {
            tracked.refused();
            self.count(match code {
                Code::BufferFull => Dropped::BufferFull,
                Code::EventTooLarge => Dropped::TooLarge,
                _ => Dropped::Unavailable,
            });
        }
    }

    /// Sends a record that was given up, or gives it back.
    pub(super) fn send_given_up(&self, record: &Record<'_>, tracked: Box<Tracked>) -> Result<(), Box<Tracked>> {
        let Some(handle) = &*self.handle.load() else { return Err(tracked) };
        handle.send(record, tracked).map_err(|refused| refused.tracked)
    }

    /// Dead letters of rejected events that Kafka has acknowledged.
    pub fn sent(&self) -> u64 {
        self.account.delivered.load(Relaxed)
    }

    /// Those that were dropped, by why.
    pub fn dropped(&self) -> impl Iterator<Item = (Dropped, u64)> + '_ {
        let failed = self.account.failed.load(Relaxed) + self.account.lost.load(Relaxed);
        Dropped::ALL.into_iter().zip(&self.dropped).map(move |(why, count)| match why {
            Dropped::Failed => (why, failed),
            _ => (why, count.load(Relaxed)),
        })
    }

    fn count(&self, why: Dropped) {
        self.dropped[why as usize].fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::headers::HeaderBuffer;

    fn letters(events_per_second: u64, one_in: u64) -> DeadLetters {
        DeadLetters::new("e", "core", "dead", Sampling { events_per_second, one_in })
    }

    fn dropped(letters: &DeadLetters, why: Dropped) -> u64 {
        letters.dropped().find(|(other, _)| *other == why).map_or(0, |(_, count)| count)
    }

    #[test]
    fn beyond_the_limit_a_sample_is_kept_and_the_rest_is_counted() {
        let check = |one_in, kept: u64| {
            let letters = letters(10, one_in);
            let admitted = (0..110).filter(|_| letters.admit(1, 0)).count() as u64;
            assert_eq!((admitted, dropped(&letters, Dropped::RateLimited)), (10 + kept, 100 - kept), "one in {one_in}");
        };
        check(0, 0);
        check(1, 100);
        check(20, 5);
    }

    #[test]
    fn without_a_topic_a_dead_letter_is_counted_and_a_record_is_given_back() {
        let (letters, headers) = (letters(10, 0), HeaderBuffer::default());
        let record = Record { key: None, value: b"x", headers: &headers, timestamp_ms: 1 };
        letters.send(&record);
        assert_eq!((letters.sent(), dropped(&letters, Dropped::Unavailable)), (0, 1));
        let account = Ledger::default().account("e", "core");
        account.receive();
        let mut tracked = Tracked::new(&account, None, 0, 1);
        tracked.give_up(Code::DeliveryFailed);
        let back = letters.send_given_up(&record, tracked).expect_err("there is no topic");
        back.settle(crate::outcome::Delivery::Failed(Code::DeliveryFailed));
        assert!(account.read().holds());
    }
}
