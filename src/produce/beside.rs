//! A client's way to a disk of its cluster: the spool, or the failed log.
//!
//! In: records that find no room before they are sent, and records that come back undelivered. Out: both on disk, or refused at
//! once. Never: waits; the poll thread comes here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rdkafka::message::{Headers, Message};

use super::Record;
use crate::envelope::headers::HeaderBuffer;
use crate::outcome::Tracked;
use crate::route::Lane;
use crate::spool::{Entry, Memory, NotTaken, Refusal, Returns, Spool};

/// The disk, and the room in the client's budget that it holds.
pub(super) struct Beside {
    spool: Arc<Spool>,
    returns: Arc<Returns>,
    /// Records on their way to the disk whose room is the client's.
    lent: AtomicU64,
}

impl Beside {
    pub(super) fn new(spool: &Arc<Spool>) -> Self {
        Beside { spool: Arc::clone(spool), returns: Arc::default(), lent: AtomicU64::new(0) }
    }

    /// Takes a record that was not sent.
    pub(super) fn take_new(
        &self,
        topic: &str,
        record: &Record<'_>,
        lane: Lane,
        tracked: Box<Tracked>,
    ) -> Result<(), NotTaken> {
        let account = Arc::clone(tracked.account());
        let Record { key, value, headers, timestamp_ms } = *record;
        let event = &account.event;
        let entry = Entry { event, topic, lane, partition: None, tried: false, timestamp_ms, key, headers, value };
        self.spool.offer(&entry, tracked, Memory::Queue)
    }

    /// Takes a record that came back; its room in the budget comes with [`Beside::take_back`].
    pub(super) fn take_returned(
        &self,
        message: &impl Message,
        tried: bool,
        lane: Lane,
        tracked: Box<Tracked>,
    ) -> Result<(), Box<Tracked>> {
        let account = Arc::clone(tracked.account());
        let headers = headers_of(message);
        let entry = Entry {
            event: &account.event,
            topic: message.topic(),
            lane,
            // Where it was to go was decided by key and partitioner, and is again.
            partition: None,
            tried,
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key(),
            headers: &headers,
            value: message.payload().unwrap_or_default(),
        };
        self.take_lent(&entry, tracked).map_err(|not_taken| not_taken.tracked)
    }

    /// Takes an entry in the memory that its record has in the client's budget.
    pub(super) fn take_lent(&self, entry: &Entry<'_>, tracked: Box<Tracked>) -> Result<(), NotTaken> {
        self.lent.fetch_add(1, Relaxed);
        self.spool.offer(entry, tracked, Memory::Lent(&self.returns)).inspect_err(|_| {
            self.lent.fetch_sub(1, Relaxed);
        })
    }

    /// Records and bytes whose room in the budget is free again; they are told once.
    pub(super) fn take_back(&self) -> (u64, u64) {
        let (bytes, records) = self.returns.take();
        self.lent.fetch_sub(records, Relaxed);
        (records, bytes)
    }

    /// Records on their way to the disk.
    pub(super) fn lent(&self) -> u64 {
        self.lent.load(Relaxed)
    }

    /// Why the spool took nothing, to be added to why the client did not.
    pub(super) fn why(&self, refusal: Refusal) -> &'static str {
        match refusal {
            Refusal::Full => ", and so is its spool (`spool.bytes_max`)",
            Refusal::Behind => ", and the spool's disk is behind",
            Refusal::Failing => ", and the spool's disk fails",
            Refusal::TooLarge => ", and the record is too large for the spool",
            Refusal::Closed => ", and the spool is closed",
        }
    }
}

/// The headers of a record that came back.
pub(super) fn headers_of(message: &impl Message) -> HeaderBuffer {
    let mut buffer = HeaderBuffer::default();
    for header in message.headers().into_iter().flat_map(Headers::iter) {
        buffer.push(header.key, header.value.unwrap_or_default());
    }
    buffer
}
