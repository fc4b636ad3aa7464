//! Which entries are settled: in memory while they are tried, on disk for the next start.
//!
//! In: numbers of entries as they are handed out and settled, in any order. Out: where to go on. Never: forgets an entry that is
//! not settled; a cursor that is lost or old makes duplicates, not losses.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::Path;

use super::folder;

const MAGIC: &[u8; 8] = b"IGUCURSR";
/// A reader takes this version and, once there is one, the version before.
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 22;

/// What was settled, by the numbers of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Every entry before this one.
    pub(super) done: u64,
    /// Those after it that were settled out of order; at most as many as are tried at the same time.
    pub(super) ahead: BTreeSet<u64>,
}

/// Why a cursor is not used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CursorError {
    #[error("it has format version {found}, this program reads {VERSION}")]
    Version { found: u16 },
    #[error("it is damaged")]
    Damaged,
    #[error("it cannot be read: {0}")]
    Disk(#[from] io::Error),
}

impl Cursor {
    /// Reads it; a missing file says that nothing was settled.
    pub(super) fn load(path: &Path) -> Result<Cursor, CursorError> {
        match std::fs::read(path) {
            Ok(bytes) => Cursor::parse(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Cursor::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts it in the place of the one before, whole.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.ahead.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.done.to_le_bytes());
        self.ahead.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        folder::replace(path, &bytes)
    }

    fn parse(bytes: &[u8]) -> Result<Cursor, CursorError> {
        if !bytes.starts_with(MAGIC) || bytes.len() < FIXED_BYTES + 4 {
            return Err(CursorError::Damaged);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(CursorError::Version { found: version });
        }
        let (content, sum) = bytes.split_at(bytes.len() - 4);
        if crc32c::crc32c(content).to_le_bytes() != *sum {
            return Err(CursorError::Damaged);
        }
        let (numbers, _) = content[14..].as_chunks::<8>();
        let mut numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let done = numbers.next().ok_or(CursorError::Damaged)?;
        Ok(Cursor { done, ahead: numbers.collect() })
    }

    /// Whether this entry was settled.
    pub(super) fn has(&self, number: u64) -> bool {
        number < self.done || self.ahead.contains(&number)
    }
}

/// Where an entry is, or is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The segment, by its base; when it is not there, the first one after it.
    pub(super) base: u64,
    /// Where the entry begins in the segment's file; 0 for the segment's first one.
    pub(super) at: u64,
}

impl Place {
    /// The number of the entry there. It stays the same whatever happens to the entries before it, and ascends: a segment's base
    /// is at least that of the one before and its length.
    pub(super) fn number(self) -> u64 {
        self.base + self.at
    }
}

/// Entries that were handed out, in order, the first of which is not settled.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// What was settled before: at the last start, or before the last rewind.
    before: Cursor,
    slots: VecDeque<Slot>,
    open: usize,
}

#[derive(Debug)]
struct Slot {
    place: Place,
    timestamp_ms: i64,
    is_settled: bool,
}

impl Progress {
    pub(super) fn new(before: Cursor) -> Self {
        Progress { before, slots: VecDeque::new(), open: 0 }
    }

    /// Whether an entry that is read was settled before it could be handed out.
    pub(super) fn was_settled(&self, number: u64) -> bool {
        self.before.has(number)
    }

    /// Notes an entry that is handed out. Numbers ascend.
    pub(super) fn hand_out(&mut self, place: Place, timestamp_ms: i64) {
        self.slots.push_back(Slot { place, timestamp_ms, is_settled: false });
        self.open += 1;
    }

    /// Notes that an entry needs nothing more. An unknown one was settled before.
    pub(super) fn settle(&mut self, number: u64) {
        let Ok(index) = self.slots.binary_search_by_key(&number, |slot| slot.place.number()) else { return };
        if !std::mem::replace(&mut self.slots[index].is_settled, true) {
            self.open -= 1;
        }
        while self.slots.front().is_some_and(|slot| slot.is_settled) {
            self.slots.pop_front();
        }
    }

    /// Entries handed out and not settled.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// The first of them: where it is, and when its event was received.
    pub(super) fn first(&self) -> Option<(Place, i64)> {
        self.slots.front().map(|slot| (slot.place, slot.timestamp_ms))
    }

    /// Forgets what was handed out and is not settled; it will be handed out again from here.
    pub(super) fn rewind(&mut self, next: Place) -> Place {
        let from = self.first().map_or(next, |(place, _)| place);
        self.before = self.cursor(next.number());
        self.slots.clear();
        self.open = 0;
        from
    }

    /// What the next start must know; `next` is the number of the entry that would be handed out next.
    pub(super) fn cursor(&self, next: u64) -> Cursor {
        let done = self.slots.front().map_or(next, |slot| slot.place.number());
        let settled = self.slots.iter().filter(|slot| slot.is_settled).map(|slot| slot.place.number());
        let before = self.before.ahead.range(done..).copied();
        Cursor { done, ahead: settled.chain(before).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: u64) -> Place {
        Place { base: 0, at: number }
    }

    fn handed_out(numbers: impl IntoIterator<Item = u64>) -> Progress {
        let mut progress = Progress::default();
        numbers.into_iter().for_each(|number| progress.hand_out(place(number), number as i64));
        progress
    }

    fn cursor(done: u64, ahead: &[u64]) -> Cursor {
        Cursor { done, ahead: ahead.iter().copied().collect() }
    }

    #[test]
    fn the_cursor_stays_before_the_first_entry_that_is_not_settled() {
        // Numbers have gaps: a new process begins its own.
        let mut progress = handed_out([3, 4, 9, 10]);
        progress.settle(4);
        progress.settle(10);
        progress.settle(10);
        assert_eq!((progress.cursor(11), progress.open()), (cursor(3, &[4, 10]), 2));
        progress.settle(3);
        assert_eq!(progress.cursor(11), cursor(9, &[10]));
        assert_eq!(progress.first(), Some((place(9), 9)));
        progress.settle(9);
        assert_eq!((progress.cursor(11), progress.open(), progress.first()), (cursor(11, &[]), 0, None));
    }

    #[test]
    fn what_was_settled_before_a_rewind_is_not_handed_out_again() {
        let mut progress = handed_out([1, 2, 3, 4]);
        progress.settle(2);
        assert_eq!(progress.rewind(place(5)), place(1));
        let again: Vec<_> = (1..=5).filter(|number| !progress.was_settled(*number)).collect();
        assert_eq!(again, [1, 3, 4, 5]);
        progress.hand_out(place(1), 0);
        progress.settle(1);
        assert_eq!(progress.cursor(3), cursor(3, &[]));
        assert_eq!(progress.rewind(place(3)), place(3), "nothing is open");
    }

    #[test]
    fn a_cursor_is_read_back_and_one_that_is_damaged_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        assert_eq!(Cursor::load(&path).unwrap(), Cursor::default());
        for written in [cursor(0, &[]), cursor(u64::MAX, &[]), cursor(7, &[9, 1_000])] {
            written.save(&path).unwrap();
            assert_eq!(Cursor::load(&path).unwrap(), written);
        }
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(Cursor::parse(&bytes).is_err(), "byte {at} is damaged");
            assert!(Cursor::parse(&whole[..at]).is_err(), "cut off at {at}");
        }
    }
}
