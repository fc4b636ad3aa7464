//! What waits to be written: entries as bytes, and the events they are of.
//!
//! In: entries from any thread, refused at once where there is no room. Out: batches for the writer. Never: waits for the disk.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use super::entry::Entry;
use super::inventory::Inventory;
use crate::outcome::{Awaiting, Code, Delivery, Tracked};

/// Whose memory an entry's bytes are until they are on disk.
#[derive(Clone, Copy, Debug)]
pub enum Memory<'a> {
    /// The spool's own, which is bounded.
    Queue,
    /// The budget of the producer that gave the record up, which is bounded: it is told there when it gets its room back.
    Lent(&'a Arc<Returns>),
}

/// Why the spool did not take an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// So many bytes of the disk are taken as it may have.
    Full,
    /// The disk is slower than what comes.
    Behind,
    /// The disk does not take anything at the moment.
    Failing,
    /// It is larger than any record of a cluster.
    TooLarge,
    /// The proxy is stopping, and the spool has stopped.
    Closed,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Refusal; 5] =
        [Refusal::Full, Refusal::Behind, Refusal::Failing, Refusal::TooLarge, Refusal::Closed];

    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Refusal::Full => "full",
            Refusal::Behind => "behind",
            Refusal::Failing => "failing",
            Refusal::TooLarge => "too_large",
            Refusal::Closed => "closed",
        }
    }
}

/// Room that its lender may take back: counted by the writer, taken by whoever lent the memory.
#[derive(Debug, Default)]
pub struct Returns {
    /// Bytes and records.
    room: Mutex<(u64, u64)>,
}

impl Returns {
    /// Bytes and records so far that the spool no longer holds in memory; they are not told again.
    pub fn take(&self) -> (u64, u64) {
        std::mem::take(&mut *self.room.lock().expect("no code panics while it holds this lock"))
    }

    fn add(&self, bytes: u32) {
        let mut room = self.room.lock().expect("no code panics while it holds this lock");
        *room = (room.0 + u64::from(bytes), room.1 + 1);
    }
}

/// Entries that are written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) waiting: Vec<Waiting>,
    /// Bytes of those whose memory is the queue's.
    own_bytes: u64,
    /// When the first event was received.
    pub(super) first_ms: i64,
    /// Where it begins, once it is written: the number of its first entry.
    pub(super) begins: u64,
    /// Whether a request waits for one of its entries.
    pub(super) is_awaited: bool,
}

#[derive(Debug)]
pub(super) struct Waiting {
    tracked: Box<Tracked>,
    lent: Option<Arc<Returns>>,
    /// Where its entry begins in the batch.
    at: u64,
}

impl Batch {
    /// Its events are on disk, and its memory is free.
    fn settle(&mut self, awaited: &Awaited) {
        let begins = self.begins;
        for Waiting { tracked, lent, at } in self.waiting.drain(..) {
            let cost_bytes = tracked.cost_bytes();
            if let Some(awaiting) = tracked.settle_on_disk() {
                awaited.add(begins + at, awaiting);
            }
            if let Some(returns) = lent {
                returns.add(cost_bytes);
            }
        }
    }

    /// Its events are given up.
    fn give_up(&mut self) {
        for Waiting { tracked, lent, .. } in self.waiting.drain(..) {
            let cost_bytes = tracked.cost_bytes();
            tracked.settle(Delivery::Failed(Code::DeliveryFailed));
            if let Some(returns) = lent {
                returns.add(cost_bytes);
            }
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.own_bytes = 0;
        self.is_awaited = false;
    }
}

/// Requests that wait for what becomes of entries on disk, by the numbers of those.
#[derive(Debug, Default)]
pub(super) struct Awaited(Mutex<HashMap<u64, Awaiting>>);

/// Most of them. Those whose replies are written go first; one that finds no room is told what is known, that it is on disk.
const AWAITED_MAX: usize = 65_536;

impl Awaited {
    fn add(&self, number: u64, awaiting: Awaiting) {
        let mut all = self.lock();
        if all.len() >= AWAITED_MAX {
            all.retain(|_, awaiting| !awaiting.is_over());
        }
        if all.len() < AWAITED_MAX {
            all.insert(number, awaiting);
        } else {
            awaiting.settle(Delivery::Spooled);
        }
    }

    /// Who waits for this entry.
    pub(super) fn take(&self, number: u64) -> Option<Awaiting> {
        self.lock().remove(&number)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Awaiting>> {
        self.0.lock().expect("no code panics while it holds this lock")
    }
}

/// The queue of one spool.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// Begins the checksums of everything that this process writes.
    pub(super) salt: u32,
    bytes_max: u64,
    disk_bytes_max: u64,
}

#[derive(Debug, Default)]
struct Inner {
    next: Batch,
    /// Emptied batches, for their memory.
    spare: Vec<Batch>,
    /// Bytes of the queue's memory that are not on disk yet.
    own_bytes: u64,
    is_closed: bool,
    is_failing: bool,
    close_segment: bool,
}

/// What the writer is to do.
pub(super) enum Work {
    Write(Batch),
    /// The reader has settled all that the open segment holds.
    CloseSegment,
    /// The time to wait for more is over.
    Due,
    /// Nothing comes any more.
    Closed,
}

/// Emptied batches that are kept.
const SPARE: usize = 4;
/// A batch that has grown larger than this is not kept.
const SPARE_BYTES_MAX: usize = 4 * 1024 * 1024;

impl Queue {
    pub(super) fn new(salt: u32, bytes_max: u64, disk_bytes_max: u64) -> Self {
        Queue { inner: Mutex::default(), changed: Condvar::new(), salt, bytes_max, disk_bytes_max }
    }

    /// Takes an entry, or gives the event back.
    pub(super) fn push(
        &self,
        entry: &Entry<'_>,
        tracked: Box<Tracked>,
        memory: Memory<'_>,
        inventory: &Inventory,
    ) -> Result<(), (Refusal, Box<Tracked>)> {
        let bytes = entry.bytes() as u64;
        let is_own = matches!(memory, Memory::Queue);
        let mut inner = self.lock();
        let refusal = if inner.is_closed {
            Some(Refusal::Closed)
        } else if inner.is_failing {
            Some(Refusal::Failing)
        } else if !entry.fits() {
            Some(Refusal::TooLarge)
        } else if inventory.used.load(Relaxed) + bytes > self.disk_bytes_max {
            Some(Refusal::Full)
        } else if is_own && inner.own_bytes + bytes > self.bytes_max {
            Some(Refusal::Behind)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            drop(inner);
            inventory.count_refusal(refusal);
            return Err((refusal, tracked));
        }
        inventory.used.fetch_add(bytes, Relaxed);
        let was_empty = inner.next.waiting.is_empty();
        if was_empty {
            inner.next.first_ms = entry.timestamp_ms;
        }
        if is_own {
            inner.own_bytes += bytes;
            inner.next.own_bytes += bytes;
        }
        let at = inner.next.bytes.len() as u64;
        inner.next.is_awaited |= tracked.is_awaited();
        entry.write(self.salt, &mut inner.next.bytes);
        let lent = match memory {
            Memory::Queue => None,
            Memory::Lent(returns) => Some(Arc::clone(returns)),
        };
        inner.next.waiting.push(Waiting { tracked, lent, at });
        drop(inner);
        if was_empty {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Waits for work, until `due` at most.
    pub(super) fn next(&self, due: Option<Instant>) -> Work {
        let mut inner = self.lock();
        loop {
            if !inner.next.waiting.is_empty() {
                let spare = inner.spare.pop().unwrap_or_default();
                return Work::Write(std::mem::replace(&mut inner.next, spare));
            }
            if inner.is_closed {
                return Work::Closed;
            }
            if std::mem::take(&mut inner.close_segment) {
                return Work::CloseSegment;
            }
            inner = match due.map(|due| due.saturating_duration_since(Instant::now())) {
                Some(left) if left.is_zero() => return Work::Due,
                Some(left) => self.changed.wait_timeout(inner, left).expect("no code panics while it holds it").0,
                None => self.changed.wait(inner).expect("no code panics while it holds this lock"),
            };
        }
    }

    /// Waits until then, or until the queue is closed; says whether it is. Nothing is taken meanwhile.
    pub(super) fn pause(&self, until: Instant) -> bool {
        let mut inner = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if inner.is_closed || left.is_zero() {
                return inner.is_closed;
            }
            inner = self.changed.wait_timeout(inner, left).expect("no code panics while it holds this lock").0;
        }
    }

    /// These entries are on disk: their events are told so.
    pub(super) fn settle(&self, batches: &mut Vec<Batch>, inventory: &Inventory, awaited: &Awaited) {
        for mut batch in batches.drain(..) {
            inventory.written.fetch_add(batch.waiting.len() as u64, Relaxed);
            batch.settle(awaited);
            self.recycle(batch);
        }
    }

    /// These entries are given up: their events have failed.
    pub(super) fn give_up(&self, batch: &mut Batch, inventory: &Inventory) {
        inventory.used.fetch_sub(batch.bytes.len() as u64, Relaxed);
        batch.give_up();
        self.recycle(std::mem::take(batch));
    }

    fn recycle(&self, mut batch: Batch) {
        let mut inner = self.lock();
        inner.own_bytes -= batch.own_bytes;
        batch.clear();
        if inner.spare.len() < SPARE && batch.bytes.capacity() <= SPARE_BYTES_MAX {
            inner.spare.push(batch);
        }
    }

    /// Whether entries are refused because the disk does not take any.
    pub(super) fn set_failing(&self, is_failing: bool) {
        self.lock().is_failing = is_failing;
    }

    /// Lets the writer close the segment that it appends to, once it has nothing else to do.
    pub(super) fn close_segment(&self) {
        self.lock().close_segment = true;
        self.changed.notify_one();
    }

    /// Takes nothing any more. What waits is still written.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Bytes of its own memory that wait for the disk.
    pub(super) fn own_bytes(&self) -> u64 {
        self.lock().own_bytes
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds this lock")
    }
}
