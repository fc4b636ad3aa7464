//! The thread that writes.
//!
//! In: batches from the queue. Out: entries on disk, and only then their events settled: one write and one sync for all that came
//! in while the disk was busy with those before. Never: syncs a file again whose sync failed (the kernel may have dropped what
//! it could not write, and says so once); what is not known to be on disk is written to another file.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Shared;
use super::inventory::Held;
use super::queue::{Batch, Work};
use super::segment::Header;

/// Pause before a disk that failed is tried again; doubles up to the second.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// Bytes that are synced before their time: until then they are also in memory.
const UNSYNCED_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Starts the thread; its first segment begins with entry `next_base` or a later one.
pub(super) fn start(shared: Arc<Shared>, next_base: u64) -> io::Result<JoinHandle<()>> {
    let name = format!("{}-{}", shared.name, shared.cluster);
    let writer = Writer { shared, next_base, open: None, unwritten: Vec::new(), unsynced: Vec::new(), due: None };
    std::thread::Builder::new().name(name).spawn(move || writer.run())
}

struct Writer {
    shared: Arc<Shared>,
    /// Least base of the next segment.
    next_base: u64,
    open: Option<Open>,
    unwritten: Vec<Batch>,
    /// Written, and kept in memory until they are synced.
    unsynced: Vec<Batch>,
    /// When they are to be.
    due: Option<Instant>,
}

/// The segment that is appended to.
struct Open {
    base: u64,
    file: File,
    /// Bytes written.
    bytes: u64,
    /// Bytes synced.
    durable: u64,
}

/// What failed.
type Failed = (&'static str, io::Error);

impl Writer {
    fn run(mut self) {
        let mut pause = RETRY_FIRST;
        loop {
            match self.shared.queue.next(self.due) {
                Work::Write(batch) => self.unwritten.push(batch),
                Work::CloseSegment if self.unsynced.is_empty() => {
                    self.close_segment();
                    continue;
                }
                Work::CloseSegment | Work::Due => {}
                Work::Closed => return self.finish(),
            }
            while let Err((doing, error)) = self.advance(Instant::now()) {
                self.shared.note_trouble(doing, &error);
                if self.shared.queue.pause(Instant::now() + pause) {
                    return self.finish();
                }
                pause = (pause * 2).min(RETRY_LAST);
            }
            pause = RETRY_FIRST;
            // Only a sync proves that the disk works.
            if self.unsynced.is_empty() {
                self.shared.end_trouble();
            }
        }
    }

    /// Writes what waits, and syncs it when that is due.
    fn advance(&mut self, now: Instant) -> Result<(), Failed> {
        while !self.unwritten.is_empty() {
            self.append()?;
        }
        if self.unsynced.is_empty() {
            return Ok(());
        }
        let due = *self.due.get_or_insert(now + self.shared.settings.sync_interval);
        // Whoever waits, waits for the disk and not for company: what came meanwhile is in the next group.
        let due = if self.unsynced.iter().any(|batch| batch.is_awaited) { now } else { due };
        let much = self.open.as_ref().is_some_and(|open| open.bytes - open.durable >= UNSYNCED_BYTES_MAX);
        if due <= now || much { self.sync() } else { Ok(()) }
    }

    /// Writes the oldest batch that waits.
    fn append(&mut self) -> Result<(), Failed> {
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(Open::begin(&self.shared, self.next_base, self.unwritten[0].first_ms)?),
        };
        let batch = &self.unwritten[0];
        if let Err(error) = open.file.write_all(&batch.bytes) {
            // What was written of it is taken back, so that entries go on where they ended.
            if open.take_back().is_err() {
                self.abandon();
            }
            return Err(("write", error));
        }
        let mut batch = self.unwritten.remove(0);
        batch.begins = open.base + open.bytes;
        open.bytes += batch.bytes.len() as u64;
        self.unsynced.push(batch);
        Ok(())
    }

    /// Makes what was written survive a power cut, and settles its events.
    fn sync(&mut self) -> Result<(), Failed> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if let Err(error) = open.file.sync_data() {
            self.abandon();
            return Err(("sync", error));
        }
        open.durable = open.bytes;
        let (base, durable) = (open.base, open.durable);
        let inventory = &self.shared.inventory;
        self.due = None;
        // Before the reader may see them: an event is spooled first and tried again later.
        self.shared.queue.settle(&mut self.unsynced, inventory, &self.shared.awaited);
        inventory.update(base, |held| held.durable = durable);
        if durable >= self.shared.settings.segment_bytes() {
            self.close_segment();
        }
        self.shared.tell_reader();
        Ok(())
    }

    /// Leaves the segment as it is, with what is known to be on disk; everything else goes to the next one.
    fn abandon(&mut self) {
        let Some(open) = self.open.take() else { return };
        // Where even this fails, the next start finds entries twice.
        let _ = open.file.set_len(open.durable);
        self.next_base = open.base + open.bytes;
        self.shared.inventory.update(open.base, |held| held.is_open = false);
        self.due = None;
        self.unsynced.append(&mut self.unwritten);
        self.unwritten = std::mem::take(&mut self.unsynced);
    }

    /// Ends the segment; the next entry begins another.
    fn close_segment(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.next_base = open.base + open.bytes;
        self.shared.inventory.update(open.base, |held| held.is_open = false);
        self.shared.tell_reader();
    }

    /// Writes what is left, or gives it up.
    fn finish(mut self) {
        while let Work::Write(batch) = self.shared.queue.next(None) {
            self.unwritten.push(batch);
        }
        let written = self.write_all().inspect_err(|(doing, error)| self.shared.note_trouble(doing, error));
        if written.is_err() {
            let Shared { queue, inventory, .. } = &*self.shared;
            self.unsynced.iter_mut().chain(&mut self.unwritten).for_each(|batch| queue.give_up(batch, inventory));
        }
        self.close_segment();
    }

    fn write_all(&mut self) -> Result<(), Failed> {
        while !self.unwritten.is_empty() {
            self.append()?;
        }
        if self.unsynced.is_empty() { Ok(()) } else { self.sync() }
    }
}

impl Open {
    /// Makes a segment, so that it is still there after a power cut.
    fn begin(shared: &Shared, base: u64, first_ms: i64) -> Result<Open, Failed> {
        let header = Header { cluster: shared.cluster.clone(), base, salt: shared.queue.salt };
        let path = shared.folder.segment(base);
        let file = header.create(&path).map_err(|error| ("make a segment", error))?;
        let synced = file.sync_all().and_then(|()| shared.folder.sync());
        synced.map_err(|error| {
            // Nothing is in it yet; it must not be in the way when this is tried again.
            let _ = std::fs::remove_file(&path);
            ("sync a new segment", error)
        })?;
        let bytes = header.bytes();
        shared.inventory.used.fetch_add(bytes, Relaxed);
        shared.inventory.segments().push_back(Held { base, durable: bytes, is_open: true, first_ms });
        Ok(Open { base, file, bytes, durable: bytes })
    }

    /// Cuts off what was written after the last whole batch.
    fn take_back(&mut self) -> io::Result<()> {
        use std::io::Seek as _;
        self.file.set_len(self.bytes)?;
        self.file.seek(io::SeekFrom::Start(self.bytes))?;
        Ok(())
    }
}
