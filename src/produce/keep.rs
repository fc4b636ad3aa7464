//! Where records go that are given up for good: they are kept for people, and `iguazu redrive` takes them back.
//!
//! In: records whose events have failed. Out: the same in the failed log of their cluster, with headers that say why. Never:
//! waits (the poll thread comes here), spools, or tries the record's own topic again.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rdkafka::message::Message;
use tracing::error;

use super::beside::{Beside, headers_of};
use super::failure::Failure;
use crate::dead_letter::{self, GivenUp};
use crate::envelope::headers::HeaderBuffer;
use crate::outcome::{Code, KeptIn, Tracked};
use crate::route::Lane;
use crate::spool::{Entry, Memory, NotTaken, Refusal, Spool};

/// How often it is logged that a record is kept nowhere although there is a place.
const LOG_EVERY_MS: u32 = 10_000;

/// The places of one cluster; its clients share them.
#[derive(Debug, Default)]
pub struct Keeper {
    log: OnceLock<Arc<Spool>>,
}

impl Keeper {
    /// Keeps in this log what is given up from now on, by clients that are started from now on.
    pub fn keep_in(&self, log: &Arc<Spool>) {
        let _ = self.log.set(Arc::clone(log));
    }

    /// Takes an entry of the spool whose record no client takes. Gives it back when it is to be tried again: the log's disk is
    /// behind.
    pub(super) fn take_entry(&self, entry: &Entry<'_>, code: Code, tracked: Box<Tracked>) -> Result<(), NotTaken> {
        let Some(log) = self.log.get() else { return Err(NotTaken { tracked, refusal: Refusal::Closed }) };
        let mut headers = HeaderBuffer::default();
        entry.headers.iter().for_each(|(name, value)| headers.push(name, value));
        // No client took it, so there is no reason of a client.
        stamp(code, code.as_str(), entry.event, entry.topic, &mut headers);
        log.offer(&Entry { headers: &headers, ..*entry }, tracked, Memory::Queue)
    }
}

/// One client's way to those places.
pub(super) struct Keep {
    way: Option<Beside>,
    logged_ms: AtomicU32,
}

impl Keep {
    pub(super) fn new(keeper: &Arc<Keeper>) -> Self {
        Keep { way: keeper.log.get().map(Beside::new), logged_ms: AtomicU32::new(0) }
    }

    /// Takes a record that is given up, or gives it back when nothing keeps it. Its room in the client's budget comes with
    /// [`Keep::take_back`].
    pub(super) fn take(
        &self,
        message: &impl Message,
        failure: Failure,
        lane: Lane,
        mut tracked: Box<Tracked>,
    ) -> Result<KeptIn, Box<Tracked>> {
        if !tracked.is_worth_keeping() {
            return Err(tracked);
        }
        tracked.give_up(failure.code());
        let Some(way) = &self.way else { return Err(tracked) };
        let account = Arc::clone(tracked.account());
        let mut headers = headers_of(message);
        stamp(failure.code(), failure.as_str(), &account.event, message.topic(), &mut headers);
        let entry = Entry {
            event: &account.event,
            topic: message.topic(),
            lane,
            partition: None,
            tried: failure.may_be_written(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key(),
            headers: &headers,
            value: message.payload().unwrap_or_default(),
        };
        way.take_lent(&entry, tracked).map(|()| KeptIn::FailedLog).map_err(|NotTaken { tracked, refusal }| {
            self.note_refusal(&account.cluster, refusal);
            tracked
        })
    }

    /// Records and bytes whose room in the budget is free again; they are told once.
    pub(super) fn take_back(&self) -> (u64, u64) {
        self.way.as_ref().map_or((0, 0), Beside::take_back)
    }

    /// Records on their way to the disk.
    pub(super) fn lent(&self) -> u64 {
        self.way.as_ref().map_or(0, Beside::lent)
    }

    fn note_refusal(&self, cluster: &str, refusal: Refusal) {
        // Never 0, which stands for never; that two seconds of a month look alike costs a line.
        let now_ms = (now_ms() as u32).max(1);
        let before = self.logged_ms.load(Relaxed);
        if before == 0 || now_ms.wrapping_sub(before) >= LOG_EVERY_MS {
            self.logged_ms.store(now_ms, Relaxed);
            let reason = refusal.as_str();
            error!(cluster, reason, "the failed log does not take what was given up, which is counted only");
        }
    }
}

fn stamp(code: Code, reason: &str, event: &str, topic: &str, headers: &mut HeaderBuffer) {
    let code = code.as_str();
    dead_letter::write_given_up(&GivenUp { code, reason, event, topic, at_ms: now_ms() }, headers);
}

fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(0)
}
