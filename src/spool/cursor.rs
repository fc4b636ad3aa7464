//! Which entries are settled: in memory while they are tried, on disk for the next start.
//!
//! In: numbers of entries as they are handed out and settled, in any order. Out: where to go on. Never: forgets an entry that is
//! not settled; a cursor that is lost or old makes duplicates, not losses.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::Path;

use super::folder;

const MAGIC: &[u8; 8] = b"IGUCURSR";
/// A reader takes this version and the one before, which has no list of what is open: there `front` ends at the first of those.
const VERSION: u16 = 2;
const FIXED_BYTES: usize = 26;
const FIXED_BYTES_BEFORE: usize = 22;

/// What was settled, by the numbers of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Every entry before this one, but for the open ones.
    pub(super) front: u64,
    /// Those before it that were not settled.
    pub(super) open: BTreeSet<u64>,
    /// Those after it that were, all the same.
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
        bytes.extend_from_slice(&self.front.to_le_bytes());
        bytes.extend_from_slice(&(self.open.len() as u32).to_le_bytes());
        let numbers = self.ahead.iter().chain(&self.open);
        numbers.for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        folder::replace(path, &bytes)
    }

    fn parse(bytes: &[u8]) -> Result<Cursor, CursorError> {
        if !bytes.starts_with(MAGIC) || bytes.len() < FIXED_BYTES_BEFORE + 4 {
            return Err(CursorError::Damaged);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        let fixed_bytes = match version {
            VERSION => FIXED_BYTES,
            1 => FIXED_BYTES_BEFORE,
            _ => return Err(CursorError::Version { found: version }),
        };
        let (content, sum) = bytes.split_at(bytes.len() - 4);
        if crc32c::crc32c(content).to_le_bytes() != *sum {
            return Err(CursorError::Damaged);
        }
        let (fixed, numbers) = content.split_at_checked(fixed_bytes).ok_or(CursorError::Damaged)?;
        let ahead = u32::from_le_bytes(fixed[10..14].try_into().expect("four bytes"));
        let front = u64::from_le_bytes(fixed[14..22].try_into().expect("eight bytes"));
        let mut numbers = numbers.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let ahead = numbers.by_ref().take(ahead as usize).collect();
        Ok(Cursor { front, ahead, open: numbers.collect() })
    }

    /// Whether this entry was settled.
    pub(super) fn has(&self, number: u64) -> bool {
        number < self.front && !self.open.contains(&number) || self.ahead.contains(&number)
    }

    /// Whether every entry in this range was settled, and is not only unknown.
    pub(super) fn covers(&self, range: Range<u64>) -> bool {
        range.end <= self.front && self.open.range(range).next().is_none()
    }

    /// The number that follows all that the cursor knows of.
    pub(super) fn end(&self) -> u64 {
        self.ahead.last().map_or(self.front, |last| self.front.max(last + 1))
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

/// What was handed out: only the entries that are not settled are remembered, each by itself.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// What was settled before the start.
    before: Cursor,
    /// Every entry before this one was looked at since the start; what is not open has been settled.
    front: u64,
    open: BTreeMap<u64, Open>,
    passed_over: BTreeSet<u64>,
}

/// An entry that is not settled.
#[derive(Clone, Copy, Debug)]
struct Open {
    place: Place,
    timestamp_ms: i64,
}

impl Progress {
    pub(super) fn new(before: Cursor) -> Self {
        Progress { before, ..Progress::default() }
    }

    /// Whether an entry that is read is not to be handed out: it was settled, or is being tried.
    pub(super) fn is_done_with(&self, number: u64) -> bool {
        match number < self.front {
            true => !self.passed_over.contains(&number),
            false => self.before.has(number),
        }
    }

    /// Whether nothing in this range is of use any more.
    pub(super) fn is_settled(&self, range: Range<u64>) -> bool {
        let was_settled = range.end <= self.before.front && self.before.open.range(range.clone()).next().is_none();
        (was_settled || range.end <= self.front) && self.open.range(range).next().is_none()
    }

    /// Notes that every entry before this one was looked at.
    pub(super) fn reach(&mut self, number: u64) {
        self.front = self.front.max(number);
    }

    /// The number before which every entry was looked at.
    pub(super) fn front(&self) -> u64 {
        self.front
    }

    /// Notes an entry that is handed out.
    pub(super) fn hand_out(&mut self, place: Place, timestamp_ms: i64) {
        self.open.insert(place.number(), Open { place, timestamp_ms });
        self.passed_over.remove(&place.number());
    }

    /// Notes an entry that is to be handed out later.
    pub(super) fn pass_over(&mut self, place: Place, timestamp_ms: i64) {
        self.open.insert(place.number(), Open { place, timestamp_ms });
        self.passed_over.insert(place.number());
    }

    /// Notes that an entry which was handed out is to be handed out again. An unknown one was settled before.
    pub(super) fn give_back(&mut self, number: u64) {
        if self.open.contains_key(&number) {
            self.passed_over.insert(number);
        }
    }

    /// Everything that is not settled is to be handed out again.
    pub(super) fn give_back_all(&mut self) {
        self.passed_over.extend(self.open.keys());
    }

    /// Notes that an entry needs nothing more; says whether it did. An unknown one was settled before.
    pub(super) fn settle(&mut self, number: u64) -> bool {
        self.passed_over.remove(&number);
        self.open.remove(&number).is_some()
    }

    /// Entries that are not settled and were looked at.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// The first of them: where it is, and when its event was received.
    pub(super) fn first(&self) -> Option<(Place, i64)> {
        self.open.first_key_value().map(|(_, open)| (open.place, open.timestamp_ms))
    }

    /// The first entry that is to be handed out again.
    pub(super) fn first_passed_over(&self) -> Option<Place> {
        self.passed_over.first().map(|number| self.open[number].place)
    }

    /// Whether the entry is one of those.
    pub(super) fn was_passed_over(&self, number: u64) -> bool {
        self.passed_over.contains(&number)
    }

    /// What the next start must know.
    pub(super) fn cursor(&self) -> Cursor {
        let not_looked_at = self.before.open.range(self.front.min(self.before.front)..).copied();
        let front = self.front.max(self.before.front);
        Cursor {
            front,
            open: self.open.keys().copied().chain(not_looked_at).collect(),
            ahead: self.before.ahead.range(front..).copied().collect(),
        }
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
        for number in numbers {
            progress.hand_out(place(number), number as i64);
            progress.reach(number + 1);
        }
        progress
    }

    fn cursor(front: u64, open: &[u64]) -> Cursor {
        Cursor { front, open: open.iter().copied().collect(), ahead: BTreeSet::new() }
    }

    #[test]
    fn the_cursor_names_what_is_not_settled() {
        // Numbers have gaps: a new process begins its own.
        let mut progress = handed_out([3, 4, 9, 10]);
        assert!(progress.settle(4) && progress.settle(10) && !progress.settle(10));
        assert_eq!((progress.cursor(), progress.open()), (cursor(11, &[3, 9]), 2));
        assert!(progress.is_settled(4..9) && !progress.is_settled(3..9) && !progress.is_settled(10..12));
        progress.settle(3);
        assert_eq!((progress.cursor(), progress.first()), (cursor(11, &[9]), Some((place(9), 9))));
        progress.settle(9);
        assert_eq!((progress.cursor(), progress.open(), progress.first()), (cursor(11, &[]), 0, None));
    }

    #[test]
    fn only_what_is_not_settled_is_handed_out_again() {
        let mut progress = handed_out([1, 2, 3, 4]);
        progress.settle(2);
        progress.give_back_all();
        assert_eq!(progress.first_passed_over(), Some(place(1)));
        let again: Vec<_> = (1..=5).filter(|number| !progress.is_done_with(*number)).collect();
        assert_eq!(again, [1, 3, 4, 5]);
        progress.hand_out(place(1), 0);
        progress.settle(1);
        assert_eq!(progress.cursor(), cursor(5, &[3, 4]));
    }

    #[test]
    fn what_is_passed_over_waits_while_others_are_tried() {
        let mut progress = handed_out([1]);
        progress.pass_over(place(2), 2);
        progress.hand_out(place(3), 3);
        progress.reach(4);
        assert_eq!(progress.first_passed_over(), Some(place(2)));
        assert!(progress.is_done_with(1) && !progress.is_done_with(2) && progress.is_done_with(3));
        progress.give_back(1);
        progress.give_back(7);
        assert_eq!(progress.first_passed_over(), Some(place(1)), "and an unknown one is no trouble");
        assert_eq!(progress.cursor(), cursor(4, &[1, 2, 3]));
    }

    #[test]
    fn what_an_earlier_process_left_open_stays_so_until_it_is_looked_at() {
        let mut progress = Progress::new(Cursor { front: 10, open: [3, 7].into(), ahead: [12].into() });
        let open: Vec<_> = (0..14).filter(|number| !progress.is_done_with(*number)).collect();
        assert_eq!(open, [3, 7, 10, 11, 13]);
        assert!(progress.is_settled(4..7) && !progress.is_settled(4..8) && !progress.is_settled(8..11));
        progress.hand_out(place(3), 0);
        progress.reach(4);
        progress.settle(3);
        assert_eq!(progress.cursor(), Cursor { front: 10, open: [7].into(), ahead: [12].into() });
        progress.hand_out(place(7), 0);
        progress.hand_out(place(10), 0);
        progress.reach(13);
        assert_eq!(progress.cursor(), cursor(13, &[7, 10]));
    }

    #[test]
    fn a_cursor_is_read_back_and_one_that_is_damaged_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        assert_eq!(Cursor::load(&path).unwrap(), Cursor::default());
        let all = Cursor { front: 7, open: [1, 3].into(), ahead: [9, 1_000].into() };
        for written in [cursor(0, &[]), cursor(u64::MAX, &[]), cursor(7, &[1, 3]), all] {
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

    #[test]
    fn a_cursor_of_the_version_before_is_read() {
        let mut bytes = b"IGUCURSR\x01\0\x02\0\0\0".to_vec();
        [7_u64, 9, 1_000].iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        let expected = Cursor { front: 7, open: BTreeSet::new(), ahead: [9, 1_000].into() };
        assert_eq!(Cursor::parse(&bytes).unwrap(), expected);
        assert_eq!(expected.end(), 1_001);
    }
}
