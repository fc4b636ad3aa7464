//! Events that were seen before.
//!
//! In: events and the time. Out: whether an event is a duplicate of one remembered. Never: more memory than its limit, or a
//! first event called a duplicate.
//!
//! Kafka delivers at least once: a producer that tries again, a sender that sends again because a reply was lost, and a
//! consumer that starts anew from its last commit all make duplicates. They have the same id and source, which is what
//! CloudEvents calls the identity of an event.
//!
//! What is promised: a duplicate is found if the event was remembered, not longer ago than the window, and fewer than
//! `events_max` other events were remembered since. What is not: anything across a restart or a rebalance, which moves a
//! partition to a consumer that has not seen its events; a sink that must not see duplicates then needs a key of its own.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::Event;

/// Remembers the identities of events, a bounded number for a bounded time. About 80 bytes for each.
#[derive(Debug)]
pub struct Dedup {
    events_max: usize,
    window: Duration,
    /// Keyed hashes: 128 bits, so that two identities are as good as never taken for one, and senders cannot make it so.
    keys: (RandomState, RandomState),
    known: HashSet<u128>,
    /// In the order in which they were remembered.
    order: VecDeque<(Instant, u128)>,
}

impl Dedup {
    /// Remembers at most so many events, each for as long as the window. `events_max` is the rate of the consumer's
    /// partitions times the window: 1,000 events a second and an hour are 3.6 million, 290 MB.
    pub fn new(events_max: usize, window: Duration) -> Dedup {
        let keys = (RandomState::new(), RandomState::new());
        Dedup { events_max: events_max.max(1), window, keys, known: HashSet::new(), order: VecDeque::new() }
    }

    /// Whether the event was remembered before.
    pub fn is_duplicate(&mut self, event: &Event<'_>, now: Instant) -> bool {
        self.forget_old(now);
        self.known.contains(&self.identity(event))
    }

    /// Remembers the event. To be called when its work is done: an event whose work failed is to be tried again.
    pub fn remember(&mut self, event: &Event<'_>, now: Instant) {
        self.forget_old(now);
        let identity = self.identity(event);
        if !self.known.insert(identity) {
            return;
        }
        self.order.push_back((now, identity));
        if self.order.len() > self.events_max {
            self.forget_first();
        }
    }

    /// Number of events that are remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn identity(&self, event: &Event<'_>) -> u128 {
        let identity = (&event.envelope.source, &event.envelope.id);
        u128::from(self.keys.0.hash_one(identity)) << 64 | u128::from(self.keys.1.hash_one(identity))
    }

    fn forget_old(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > self.window) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, identity)) = self.order.pop_front() {
            self.known.remove(&identity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::headers::ReadEnvelope;

    fn event(id: &str, source: &str) -> Event<'static> {
        let envelope = ReadEnvelope {
            event: "e".to_owned(),
            id: id.to_owned(),
            source: source.to_owned(),
            content_type: "application/json".to_owned(),
            time: None,
            received_ms: 0,
            key: None,
            sender: None,
            properties: None,
            traceparent: None,
            schema_header: None,
            headers: Vec::new(),
        };
        Event { topic: "t", envelope, value: None }
    }

    #[test]
    fn an_event_is_a_duplicate_only_of_one_remembered() {
        let (mut dedup, now) = (Dedup::new(10, Duration::from_secs(10)), Instant::now());
        assert!(!dedup.is_duplicate(&event("1", "a"), now));
        assert!(!dedup.is_duplicate(&event("1", "a"), now), "looking does not remember");
        dedup.remember(&event("1", "a"), now);
        assert!(dedup.is_duplicate(&event("1", "a"), now));
        assert!(!dedup.is_duplicate(&event("1", "b"), now), "another source");
        assert!(!dedup.is_duplicate(&event("", "1a"), now), "other parts of the same text");
    }

    #[test]
    fn it_never_holds_more_than_it_may_and_forgets_the_oldest() {
        let (mut dedup, now) = (Dedup::new(3, Duration::from_secs(10)), Instant::now());
        for id in 0..1_000 {
            dedup.remember(&event(&id.to_string(), "a"), now);
            // Remembering again changes nothing.
            dedup.remember(&event(&id.to_string(), "a"), now);
        }
        assert_eq!((dedup.len(), dedup.known.len()), (3, 3));
        assert!(!dedup.is_duplicate(&event("996", "a"), now));
        assert!(dedup.is_duplicate(&event("997", "a"), now));
    }

    #[test]
    fn it_forgets_what_is_older_than_the_window() {
        let (mut dedup, start) = (Dedup::new(10, Duration::from_secs(10)), Instant::now());
        dedup.remember(&event("1", "a"), start);
        dedup.remember(&event("2", "a"), start + Duration::from_secs(5));
        assert!(dedup.is_duplicate(&event("1", "a"), start + Duration::from_secs(10)));
        assert!(!dedup.is_duplicate(&event("1", "a"), start + Duration::from_secs(11)));
        assert!(dedup.is_duplicate(&event("2", "a"), start + Duration::from_secs(11)));
        assert_eq!(dedup.len(), 1);
    }
}
