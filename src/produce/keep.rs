//! Where records go that are given up for good: they are kept for people, and `iguazu redrive` takes them back.
//!
//! In: records whose events have failed. Out: the same with headers that say why, in the dead-letter topic of their event type, else
//! in the failed log of their cluster. Never: waits (the poll thread comes here), spools, tries the record's own topic again, or
//! makes a dead letter of a dead letter.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rdkafka::message::Message;
use tracing::error;

use super::beside::{Beside, headers_of};
use super::failure::Failure;
use super::{DeadLetters, Record};
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
    /// Whether a record out of a spool that no place takes stays in that spool.
    leaves_in_spool: AtomicBool,
    /// Dead-letter topics, by event name.
    letters: ArcSwap<HashMap<String, Arc<DeadLetters>>>,
}

impl Keeper {
    /// Keeps in this log what is given up from now on, by clients that are started from now on.
    pub fn keep_in(&self, log: &Arc<Spool>) {
        let _ = self.log.set(Arc::clone(log));
    }

    /// The same, and what the log does not take is not given up: it stays in the spool that it comes from, and is tried again.
    /// For a spool that nobody adds to: one that a proxy fills would be full of it one day.
    pub fn keep_all_in(&self, log: &Arc<Spool>) {
        self.leaves_in_spool.store(true, Relaxed);
        self.keep_in(log);
    }

    pub(super) fn leaves_in_spool(&self) -> bool {
        self.leaves_in_spool.load(Relaxed)
    }

    /// Sends what is given up to these dead-letter topics from now on, by event name.
    pub fn send_to(&self, letters: HashMap<String, Arc<DeadLetters>>) {
        self.letters.store(Arc::new(letters));
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

/// Who has a record that was given up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Taken {
    /// The client of its dead-letter topic: so many bytes of this client's budget are free.
    Sent {
        /// What the record took.
        freed_bytes: u32,
    },
    /// The failed log, until it is on disk in this client's budget: its room comes with [`Keep::take_back`].
    Lent,
}

impl Taken {
    /// Where it will be kept, if all goes well.
    pub(super) fn kept_in(self) -> KeptIn {
        match self {
            Taken::Sent { .. } => KeptIn::DeadLetterTopic,
            Taken::Lent => KeptIn::FailedLog,
        }
    }
}

/// One client's way to those places.
pub(super) struct Keep {
    keeper: Arc<Keeper>,
    way: Option<Beside>,
    logged_ms: AtomicU32,
}

impl Keep {
    pub(super) fn new(keeper: &Arc<Keeper>) -> Self {
        Keep { keeper: Arc::clone(keeper), way: keeper.log.get().map(Beside::new), logged_ms: AtomicU32::new(0) }
    }

    /// Whether a record that nothing keeps goes on waiting in the spool that it comes from.
    pub(super) fn leaves(&self, tracked: &Tracked) -> bool {
        tracked.is_from_spool() && self.keeper.leaves_in_spool()
    }

    /// Takes a record that is given up, or gives it back when nothing keeps it.
    pub(super) fn take(
        &self,
        message: &impl Message,
        failure: Failure,
        lane: Lane,
        mut tracked: Box<Tracked>,
    ) -> Result<Taken, Box<Tracked>> {
        if !tracked.is_worth_keeping() {
            return Err(tracked);
        }
        let account = Arc::clone(tracked.account());
        let mut headers = headers_of(message);
        // What did not get into its dead-letter topic says already where it was meant for.
        let meant_for = tracked.given_up().and_then(|_| dead_letter::read(headers.iter()).ok()?.topic);
        let topic = meant_for.as_deref().unwrap_or(message.topic());
        if tracked.given_up().is_none() {
            tracked.give_up(failure.code());
            stamp(failure.code(), failure.as_str(), &account.event, topic, &mut headers);
            match self.send(message, &headers, tracked) {
                Ok(freed_bytes) => return Ok(Taken::Sent { freed_bytes }),
                Err(back) => tracked = back,
            }
        }
        let Some(way) = &self.way else { return Err(tracked) };
        let entry = Entry {
            event: &account.event,
            topic,
            lane,
            partition: None,
            tried: failure.may_be_written(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key(),
            headers: &headers,
            value: message.payload().unwrap_or_default(),
        };
        way.take_lent(&entry, tracked).map(|()| Taken::Lent).map_err(|NotTaken { tracked, refusal }| {
            if !self.leaves(&tracked) {
                self.note_refusal(&account.cluster, refusal);
            }
            tracked
        })
    }

    /// Sends a record to the dead-letter topic of its event type: the room in this client's budget that it frees, or the record
    /// back, as it was.
    fn send(
        &self,
        message: &impl Message,
        headers: &HeaderBuffer,
        mut tracked: Box<Tracked>,
    ) -> Result<u32, Box<Tracked>> {
        let letters = self.keeper.letters.load();
        let Some(letters) = letters.get(&tracked.account().event) else { return Err(tracked) };
        let record = Record {
            key: message.key(),
            value: message.payload().unwrap_or_default(),
            headers,
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
        };
        let (cost_bytes, sent_ms) = (tracked.cost_bytes(), tracked.sent_ms());
        tracked.set_cost_bytes(record.cost_bytes());
        letters.send_given_up(&record, tracked).map(|()| cost_bytes).map_err(|mut tracked| {
            tracked.set_cost_bytes(cost_bytes);
            tracked.mark_sent(sent_ms);
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
