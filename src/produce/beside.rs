//! A client's way to a disk of its cluster: the spool, or the failed log.
//!
//! In: records that find no room before they are sent, and records that come back undelivered. Out: both on disk, or refused at
//! once. Never: waits; the poll thread comes here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use rdkafka::message::{Headers, Message};

use super::Record;
use crate::envelope::headers::{HeaderBuffer, INTENDED_CLUSTER};
use crate::outcome::Tracked;
use crate::route::Lane;
use crate::spool::{Entry, Memory, NotTaken, Refusal, Returns, Spool};

/// The disk, and the room in the client's budget that it holds.
pub(super) struct Beside {
    spool: Arc<Spool>,
    /// The spools of the clusters that this one stands in for: what it does not take waits for its own cluster.
    others: Mutex<HashMap<String, Arc<Spool>>>,
    returns: Arc<Returns>,
    /// Records on their way to the disk whose room is the client's.
    lent: AtomicU64,
}

impl Beside {
    pub(super) fn new(spool: &Arc<Spool>) -> Self {
        let (others, returns) = (Mutex::default(), Arc::default());
        Beside { spool: Arc::clone(spool), others, returns, lent: AtomicU64::new(0) }
    }

    /// Takes records, too, that are meant for the cluster of another spool.
    pub(super) fn stand_in_for(&self, other: &Beside) {
        let mut others = self.others.lock().expect("no code panics while it holds this lock");
        others.insert(other.spool.cluster().to_owned(), Arc::clone(&other.spool));
    }

    /// The spool of the cluster that a record is meant for.
    fn spool_for(&self, tracked: &Tracked) -> Option<Arc<Spool>> {
        if !tracked.is_elsewhere() {
            return Some(Arc::clone(&self.spool));
        }
        let others = self.others.lock().expect("no code panics while it holds this lock");
        others.get(&tracked.account().cluster).cloned()
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
        let Some(spool) = self.spool_for(&tracked) else { return Err(NotTaken { tracked, refusal: Refusal::Closed }) };
        let Record { key, value, headers, timestamp_ms } = *record;
        let of_its_own = tracked.is_elsewhere().then(|| for_its_own_cluster(headers.iter()));
        let (event, headers) = (&account.event, of_its_own.as_ref().unwrap_or(headers));
        let entry = Entry { event, topic, lane, partition: None, tried: false, timestamp_ms, key, headers, value };
        spool.offer(&entry, tracked, Memory::Queue)
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
        let Some(spool) = self.spool_for(&tracked) else { return Err(tracked) };
        let headers = match tracked.is_elsewhere() {
            true => for_its_own_cluster(headers_of(message).iter()),
            false => headers_of(message),
        };
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
        self.lend_to(&spool, &entry, tracked).map_err(|not_taken| not_taken.tracked)
    }

    /// Takes an entry in the memory that its record has in the client's budget.
    pub(super) fn take_lent(&self, entry: &Entry<'_>, tracked: Box<Tracked>) -> Result<(), NotTaken> {
        self.lend_to(&self.spool, entry, tracked)
    }

    fn lend_to(&self, spool: &Spool, entry: &Entry<'_>, tracked: Box<Tracked>) -> Result<(), NotTaken> {
        self.lent.fetch_add(1, Relaxed);
        spool.offer(entry, tracked, Memory::Lent(&self.returns)).inspect_err(|_| {
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

/// A record's headers for the cluster that it is meant for: without the one that names it.
fn for_its_own_cluster<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> HeaderBuffer {
    let mut kept = HeaderBuffer::default();
    headers.filter(|(name, _)| *name != INTENDED_CLUSTER).for_each(|(name, value)| kept.push(name, value));
    kept
}
