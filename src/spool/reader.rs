//! What takes entries out again.
//!
//! In: what is on disk. Out: entries from the oldest on, each until it is settled; segments whose entries all are, removed; and
//! a cursor, so that the next start goes on here. Never: hands out what a power cut could still take back, or removes a segment
//! with an entry that is not settled.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tracing::{error, warn};

use super::Shared;
use super::cursor::{Cursor, Place, Progress};
use super::entry::Entry;
use super::inventory::Held;
use super::segment::{Segment, SegmentError, Step};
use crate::envelope::headers::HeaderBuffer;
use crate::outcome::Awaiting;

/// Most entries that are looked at and not settled: each is remembered, in about 100 bytes.
const OPEN_MAX: usize = 262_144;

/// Takes entries out of one spool. There is one a spool.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    /// Where the next entry is looked for.
    next: Place,
    segment: Option<Segment>,
    /// The entry that was found and not taken, and when its event was received.
    found: Option<(Place, i64)>,
    progress: Progress,
    /// The cursor on disk.
    saved: Cursor,
    headers: HeaderBuffer,
    /// What was there at the start lies before this.
    old_before: u64,
    recovery: Recovery,
    /// Segments that something changed, by their bases.
    damaged: Vec<u64>,
    /// How long a segment is kept that is appended to and all of whose entries are settled.
    keep_open: Duration,
    /// Up to where the segment that is appended to was all settled, and since when it has been.
    idle: (u64, Instant),
}

#[derive(Debug, PartialEq, Eq)]
enum Recovery {
    UnderWay,
    Done,
}

/// Names an entry that was taken, until it is settled: its number, which ascends in the order in which entries were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u64);

impl Slot {
    /// The number; it is also where the entry is, in bytes since the first one.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, saved: Cursor, old_before: u64) -> Self {
        Reader {
            shared,
            next: Place::default(),
            segment: None,
            found: None,
            progress: Progress::new(saved.clone()),
            saved,
            headers: HeaderBuffer::default(),
            old_before,
            recovery: Recovery::UnderWay,
            damaged: Vec::new(),
            keep_open: Duration::ZERO,
            idle: (0, Instant::now()),
        }
    }

    /// Keeps the segment that is appended to for so long after its last entry was settled: to begin another takes two more syncs.
    pub fn keep_open(&mut self, keep_open: Duration) {
        self.keep_open = keep_open;
    }

    /// Reads everything that was there at the start and is not settled, and calls `found` for each entry; afterwards they are
    /// handed out from the first on. It is to be called before anything is taken, and may be called again after an error: no
    /// entry is told twice.
    pub fn recover(&mut self, mut found: impl FnMut(&Entry<'_>)) -> io::Result<()> {
        while self.recovery == Recovery::UnderWay {
            self.find()?;
            match self.found.take() {
                Some((place, _)) if place.base < self.old_before => {
                    let segment = self.segment.as_ref().expect("what was found is in a segment");
                    if let Some(entry) = Entry::read(segment.body(), &mut self.headers) {
                        found(&entry);
                    }
                    self.next = segment.place();
                }
                _ => self.recovery = Recovery::Done,
            }
        }
        self.go_to(Place::default());
        Ok(())
    }

    /// The next entry and its slot, if there is one on disk; the same until it is taken. None as well while so many are not
    /// settled that no more can be remembered.
    pub fn peek(&mut self) -> io::Result<Option<(Slot, Entry<'_>)>> {
        if self.found.is_none() {
            self.find()?;
            self.progress.reach(self.found.map_or(self.next, |(place, _)| place).number());
            self.note_oldest();
        }
        let too_many = self.progress.open() >= OPEN_MAX;
        let may_be_shown = |(place, _): &(Place, i64)| !too_many || self.progress.was_passed_over(place.number());
        let Some((place, _)) = self.found.filter(may_be_shown) else { return Ok(None) };
        let segment = self.segment.as_ref().expect("what was found is in a segment");
        Ok(Entry::read(segment.body(), &mut self.headers).map(|entry| (Slot(place.number()), entry)))
    }

    /// Takes the entry that [`Reader::peek`] showed; it is to be settled.
    pub fn take(&mut self) -> Slot {
        let (place, timestamp_ms) = self.leave();
        self.progress.hand_out(place, timestamp_ms);
        self.progress.reach(self.next.number());
        Slot(place.number())
    }

    /// Leaves the entry that [`Reader::peek`] showed for later.
    pub fn pass_over(&mut self) {
        let (place, timestamp_ms) = self.leave();
        self.progress.pass_over(place, timestamp_ms);
        self.progress.reach(self.next.number());
    }

    fn leave(&mut self) -> (Place, i64) {
        let found = self.found.take().expect("an entry was shown");
        self.next = self.segment.as_ref().expect("what was found is in a segment").place();
        found
    }

    /// An entry that was taken needs nothing more.
    pub fn settle(&mut self, Slot(number): Slot) {
        if self.progress.settle(number) {
            self.shared.inventory.settled.fetch_add(1, Relaxed);
        }
    }

    /// The request that waits for this entry, if one does; it is told once.
    pub fn awaiting(&self, Slot(number): Slot) -> Option<Awaiting> {
        self.shared.awaited.take(number)
    }

    /// An entry that was taken is left for later.
    pub fn give_back(&mut self, Slot(number): Slot) {
        self.progress.give_back(number);
    }

    /// Entries that were taken or left for later, and are not settled.
    pub fn open(&self) -> usize {
        self.progress.open()
    }

    /// The number before which everything was looked at.
    pub fn reached(&self) -> u64 {
        self.progress.front()
    }

    /// Goes back to the first entry that was left for later, if there is one; what was taken and is not settled is not shown
    /// again.
    pub fn go_back(&mut self) {
        if let Some(place) = self.progress.first_passed_over() {
            self.go_to(place);
        }
    }

    /// Whatever was taken and is not settled is handed out again.
    pub fn rewind(&mut self) {
        self.progress.give_back_all();
        self.go_back();
    }

    /// The folder that it reads.
    pub fn folder(&self) -> &Path {
        self.shared.folder.path()
    }

    /// Waits until there is more to read, at most so long.
    pub fn wait(&self, timeout: Duration) {
        self.shared.await_news(timeout);
    }

    /// Removes segments all of whose entries are settled.
    pub fn tidy(&mut self) {
        self.note_oldest();
        let segments: Vec<Held> = self.shared.inventory.segments().iter().copied().collect();
        for held in segments {
            let end = held.base + held.durable;
            if !self.progress.is_settled(held.base..end) {
                continue;
            }
            if held.is_open {
                // What the writer still appends to can go as well, once it has ended it.
                if self.idle.0 != end {
                    self.idle = (end, Instant::now());
                }
                if self.idle.1.elapsed() >= self.keep_open {
                    self.shared.queue.close_segment();
                }
            } else if self.remove(held) && self.next.base == held.base {
                self.go_to(Place { base: end, at: 0 });
            }
        }
    }

    /// Writes down what is settled, if that has changed.
    pub fn save(&mut self) -> io::Result<()> {
        let cursor = self.progress.cursor();
        if cursor != self.saved {
            cursor.save(&self.shared.folder.cursor()).inspect_err(|error| self.shared.inventory.count_error(error))?;
            self.saved = cursor;
        }
        Ok(())
    }

    fn go_to(&mut self, place: Place) {
        self.next = place;
        self.found = None;
        self.segment = None;
    }

    /// Looks for the next entry that is not settled.
    fn find(&mut self) -> io::Result<()> {
        while let Some(held) = self.current() {
            if self.segment.is_none() && !self.open_segment(held)? {
                continue;
            }
            let segment = self.segment.as_mut().expect("it was just opened");
            match segment.step(held.durable)? {
                Step::Entry { at } => {
                    let place = Place { base: held.base, at };
                    let entry = Entry::read(segment.body(), &mut self.headers).map(|entry| entry.timestamp_ms);
                    let bytes = segment.body().len() as u64;
                    self.next = segment.place();
                    let Some(timestamp_ms) = entry else {
                        self.note_damage(held, bytes);
                        continue;
                    };
                    if !self.progress.is_done_with(place.number()) {
                        self.found = Some((place, timestamp_ms));
                        return Ok(());
                    }
                }
                Step::Damage { bytes } => self.note_damage(held, bytes),
                // The writer may have written and ended it since; then the next look finds more.
                Step::End { .. } if held.is_open => return Ok(()),
                Step::End { torn_bytes } => {
                    if torn_bytes > 0 && self.recovery == Recovery::UnderWay {
                        let cluster = &self.shared.cluster;
                        let segment = held.base;
                        warn!(
                            cluster,
                            segment, torn_bytes, "the spool's writer was cut off, its last entry is dropped"
                        );
                    }
                    self.go_to(Place { base: held.base + held.durable, at: 0 });
                }
            }
        }
        Ok(())
    }

    /// The segment in which the next entry is looked for. Those of which the cursor says that all is settled are passed over.
    fn current(&mut self) -> Option<Held> {
        let segments = self.shared.inventory.segments();
        let index = segments.partition_point(|held| held.base < self.next.base);
        let settled = segments
            .iter()
            .skip(index)
            .take_while(|held| !held.is_open && self.progress.is_settled(held.base..held.base + held.durable));
        let skipped = if self.segment.is_some() { 0 } else { settled.count() };
        let held = segments.get(index + skipped).copied();
        drop(segments);
        if let Some(held) = held.filter(|held| held.base > self.next.base) {
            self.next = Place { base: held.base, at: 0 };
        }
        held
    }

    /// Opens a segment at the place where to go on; one that cannot be read is left on disk and passed over.
    fn open_segment(&mut self, held: Held) -> io::Result<bool> {
        let path = self.shared.folder.segment(held.base);
        let opened = match Segment::open(&path) {
            Ok(segment) if segment.header.base != held.base || segment.header.cluster != self.shared.cluster => {
                Err(SegmentError::NoSegment)
            }
            opened => opened,
        };
        match opened {
            Ok(mut segment) => {
                if self.next.at > 0 {
                    segment.seek(self.next.at);
                }
                self.segment = Some(segment);
                Ok(true)
            }
            Err(SegmentError::Disk(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Err(error) => {
                let (cluster, path) = (&self.shared.cluster, path.display());
                error!(cluster, %path, %error, "a segment of the spool is not read, it is left as it is");
                self.shared.inventory.segments().retain(|other| other.base != held.base);
                self.shared.inventory.damaged_bytes.fetch_add(held.durable, Relaxed);
                self.go_to(Place { base: held.base + held.durable, at: 0 });
                Ok(false)
            }
        }
    }

    /// Bytes of a segment are no entries. It is told once, and the file is put aside when the rest of it is settled.
    fn note_damage(&mut self, held: Held, bytes: u64) {
        if held.base < self.old_before && self.recovery == Recovery::Done {
            return;
        }
        self.shared.inventory.damaged_bytes.fetch_add(bytes, Relaxed);
        let (cluster, segment) = (&self.shared.cluster, held.base);
        error!(cluster, segment, bytes, "a segment of the spool is damaged, the events in these bytes are lost");
        if !self.damaged.contains(&held.base) {
            self.damaged.push(held.base);
        }
    }

    /// Takes a settled segment away; false when the disk does not let it go.
    fn remove(&mut self, held: Held) -> bool {
        let Shared { folder, inventory, cluster, .. } = &*self.shared;
        let path = folder.segment(held.base);
        let damaged = self.damaged.iter().position(|base| *base == held.base);
        let removed = match damaged {
            Some(_) => std::fs::rename(&path, folder.damaged(held.base)),
            None => std::fs::remove_file(&path),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                inventory.count_error(&error);
                let path = path.display();
                warn!(cluster, %path, %error, "a settled segment of the spool cannot be removed");
                return false;
            }
            _ => {}
        }
        inventory.segments().retain(|other| other.base != held.base);
        match damaged {
            Some(index) => drop(self.damaged.swap_remove(index)),
            None => drop(inventory.used.fetch_sub(held.durable, Relaxed)),
        }
        true
    }

    /// Shows how old the oldest event is; one that was not looked at yet is as old as its segment's first.
    fn note_oldest(&self) {
        let read = self.progress.first().or(self.found).map(|(_, timestamp_ms)| timestamp_ms);
        let unread = || {
            let segments = self.shared.inventory.segments();
            let next = segments.iter().find(|held| held.base >= self.next.base)?;
            let has_more = next.base > self.next.base || next.durable > self.next.at;
            has_more.then_some(next.first_ms)
        };
        self.shared.inventory.oldest_ms.store(read.or_else(unread).unwrap_or(0), Relaxed);
    }
}
