//! The failed log: records on disk that were accepted and then given up for good, until somebody takes them back.
//!
//! In: entries as of a spool, with headers that say why they failed ([`crate::dead_letter`]). Out: the same entries, to
//! `iguazu redrive`, beside a proxy that goes on writing or when there is none. Never: drops an entry for a newer one (the first ones
//! show where a trouble began, and a log that forgets would have to say so); removes one that nobody took back.
//!
//! It is a spool of which nothing is replayed: the same segments, writer and bounds, in a folder of its own. The proxy holds the
//! folder's lock and appends. A redrive holds another lock, reads what is there, and writes the cursor; the proxy sees the
//! cursor and removes segments that are settled whole.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::cursor::{Cursor, Place, Progress};
use super::entry::Entry;
use super::folder::{self, Folder};
use super::segment::{Segment, Step};
use super::{Settings, Shared, Spool, SpoolError};
use crate::envelope::headers::HeaderBuffer;

/// Opens the failed log of a cluster, made where it is missing, and starts its thread.
pub fn open(settings: &Settings, cluster: &str) -> Result<Arc<Spool>, SpoolError> {
    Spool::open_as("failed", settings, cluster).map(|(log, _)| log)
}

/// Removes segments of a failed log of which a redrive took everything back.
pub fn tidy(log: &Spool) -> io::Result<()> {
    let Shared { folder, inventory, queue, .. } = &*log.shared;
    // One that is damaged says nothing; the next redrive writes another.
    let Ok(cursor) = Cursor::load(&folder.cursor()) else { return Ok(()) };
    let held: Vec<_> = inventory.segments().iter().copied().collect();
    for held in held.into_iter().filter(|held| cursor.covers(held.base..held.base + held.durable)) {
        if held.is_open {
            queue.close_segment();
            continue;
        }
        match std::fs::remove_file(folder.segment(held.base)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        inventory.segments().retain(|other| other.base != held.base);
        inventory.used.fetch_sub(held.durable, Relaxed);
    }
    Ok(())
}

/// Takes entries out of the failed log of one cluster, from the oldest on, as far as they were written when it was opened.
#[derive(Debug)]
pub struct FailedReader {
    path: PathBuf,
    cluster: String,
    /// Segments that are not read to their end, by base, with the bytes that they had.
    left: std::vec::IntoIter<(u64, u64)>,
    segment: Option<(Segment, u64)>,
    progress: Progress,
    /// Where everything that was read ends.
    next: Place,
    saved: Cursor,
    headers: HeaderBuffer,
    /// What could not be read, and why.
    problems: Vec<String>,
    /// Unlocked by the kernel when it is closed, however the process ends.
    _lock: File,
}

/// Names an entry of a [`FailedReader`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EntryId(u64);

impl FailedReader {
    /// Opens the failed logs of all clusters that have one in this folder.
    ///
    /// # Errors
    /// [`SpoolError::Locked`] while another redrive is at work.
    pub fn open_all(root: &Path) -> Result<Vec<FailedReader>, SpoolError> {
        let listed = folder::clusters(root).map_err(|source| disk("list", root, source))?;
        let mut readers = Vec::new();
        for path in listed {
            readers.extend(FailedReader::open(path)?);
        }
        Ok(readers)
    }

    /// None when it holds no segment.
    fn open(path: PathBuf) -> Result<Option<FailedReader>, SpoolError> {
        let lock_path = path.join("redrive.lock");
        let lock = folder::private().create(true).open(&lock_path);
        let lock = lock.map_err(|source| disk("open", &lock_path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SpoolError::Locked { path: lock_path }),
            Err(TryLockError::Error(source)) => return Err(disk("lock", &lock_path, source)),
        }
        let segments = folder::segments(&path).map_err(|source| disk("list", &path, source))?;
        let mut problems = Vec::new();
        let saved = Cursor::load(&folder::cursor(&path)).unwrap_or_else(|error| {
            problems.push(format!("the cursor: {error}; everything is taken again"));
            Cursor::default()
        });
        if segments.is_empty() {
            return Ok(None);
        }
        let readable = segments.iter().find_map(|(base, _)| Segment::open(&folder::segment(&path, *base)).ok());
        let unnamed = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let cluster = readable.map_or_else(unnamed, |segment| segment.header.cluster);
        Ok(Some(FailedReader {
            path,
            cluster,
            left: segments.into_iter(),
            segment: None,
            progress: Progress::new(saved.clone()),
            next: Place::default(),
            saved,
            headers: HeaderBuffer::default(),
            problems,
            _lock: lock,
        }))
    }

    /// The cluster that its entries were meant for; its folder's name when no segment can be read.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// What could not be read so far; it is left as it is.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The next entry that nobody took back yet; none at the end.
    pub fn next_entry(&mut self) -> io::Result<Option<(EntryId, Entry<'_>)>> {
        let Some(place) = self.find()? else { return Ok(None) };
        let (segment, _) = self.segment.as_ref().expect("what was found is in a segment");
        let Some(entry) = Entry::read(segment.body(), &mut self.headers) else {
            return Err(io::Error::other("an entry whose checksum is right is none"));
        };
        self.progress.hand_out(place, entry.timestamp_ms);
        self.progress.reach(self.next.number());
        Ok(Some((EntryId(place.number()), entry)))
    }

    /// An entry was taken back: it needs nothing more.
    pub fn settle(&mut self, EntryId(number): EntryId) {
        self.progress.settle(number);
    }

    /// Writes down what was taken back, if that has changed. What was since is taken back once more after `kill -9`.
    pub fn save(&mut self) -> io::Result<()> {
        let cursor = self.progress.cursor();
        if cursor != self.saved {
            cursor.save(&folder::cursor(&self.path))?;
            self.saved = cursor;
        }
        Ok(())
    }

    /// Writes down what was taken back, and removes segments of which everything was, unless a proxy has the folder: then it
    /// does.
    pub fn finish(mut self) -> io::Result<()> {
        self.save()?;
        let Ok(owned) = Folder::lock(self.path.clone()) else { return Ok(()) };
        for (base, bytes) in folder::segments(owned.path())? {
            if self.saved.covers(base..base + bytes) {
                std::fs::remove_file(owned.segment(base))?;
            }
        }
        Ok(())
    }

    /// What cannot be read is never settled: its segment stays for people to look at.
    fn pass_over(&mut self, place: Place, why: &str) {
        self.problems.push(format!("segment {}: {why}", place.base));
        self.progress.hand_out(place, 0);
    }

    /// Goes on to the next entry that was not taken back.
    fn find(&mut self) -> io::Result<Option<Place>> {
        loop {
            let Some((segment, end)) = &mut self.segment else {
                let Some((base, bytes)) = self.left.next() else { return Ok(None) };
                // All of it was taken back, and only its file is still there.
                if self.saved.covers(base..base + bytes) {
                    self.progress.reach(base + bytes);
                    continue;
                }
                match Segment::open(&folder::segment(&self.path, base)) {
                    Ok(segment) if segment.header.base == base && segment.header.cluster == self.cluster => {
                        self.next = segment.place();
                        self.segment = Some((segment, bytes));
                    }
                    Ok(_) => self.pass_over(Place { base, at: 0 }, "it is of another place"),
                    Err(error) => self.pass_over(Place { base, at: 0 }, &error.to_string()),
                }
                continue;
            };
            match segment.step(*end)? {
                Step::Entry { at } => {
                    let place = Place { base: segment.header.base, at };
                    self.next = segment.place();
                    if !self.progress.is_done_with(place.number()) {
                        return Ok(Some(place));
                    }
                }
                Step::Damage { bytes } => {
                    let place = Place { base: segment.header.base, at: self.next.at };
                    self.next = segment.place();
                    self.pass_over(place, &format!("{bytes} bytes were changed by something"));
                }
                Step::End { .. } => {
                    self.next = segment.place();
                    self.progress.reach(self.next.number());
                    self.segment = None;
                }
            }
        }
    }
}

fn disk(verb: &'static str, path: &Path, source: io::Error) -> SpoolError {
    SpoolError::Disk { verb, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::outcome::{Account, Code, KeptIn, Ledger, Tracked};
    use crate::route::Lane;
    use crate::spool::{Memory, Refusal};

    struct Log {
        root: tempfile::TempDir,
        settings: Settings,
        log: Arc<Spool>,
        account: Arc<Account>,
    }

    impl Log {
        fn new(bytes_max: u64) -> Log {
            let root = tempfile::tempdir().unwrap();
            let settings = Settings { folder: root.path().to_owned(), bytes_max, sync_interval: Duration::ZERO };
            let log = open(&settings, "core").unwrap();
            Log { root, settings, log, account: Ledger::default().account("e", "core") }
        }

        fn fail(&self, number: u32) -> Result<(), Refusal> {
            let (headers, value) = (HeaderBuffer::default(), number.to_le_bytes());
            let entry = Entry {
                event: "e",
                topic: "t",
                lane: Lane::Standard,
                partition: None,
                tried: false,
                timestamp_ms: i64::from(number),
                key: None,
                headers: &headers,
                value: &value,
            };
            self.account.receive();
            let mut tracked = Tracked::new(&self.account, None, 0, 10);
            tracked.give_up(Code::DeliveryFailed);
            self.log.offer(&entry, tracked, Memory::Queue).map_err(|not_taken| not_taken.refusal)
        }

        /// Ends the writer, so that everything is on disk, and starts another.
        fn restart(&mut self) {
            self.log.close();
            // The old one holds the lock until it is gone.
            let elsewhere = tempfile::tempdir().unwrap();
            self.log =
                open(&Settings { folder: elsewhere.path().to_owned(), ..self.settings.clone() }, "core").unwrap();
            self.log = open(&self.settings, "core").unwrap();
        }

        fn reader(&self) -> FailedReader {
            let mut readers = FailedReader::open_all(self.root.path()).unwrap();
            assert_eq!(readers.len(), 1);
            readers.remove(0)
        }

        fn segments(&self) -> usize {
            let folder = folder::of_cluster(self.root.path(), "core");
            folder::segments(&folder).unwrap().len()
        }
    }

    fn until(mut is_so: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < end, "it is not so");
            std::thread::yield_now();
        }
    }

    fn rest(reader: &mut FailedReader) -> Vec<(EntryId, i64)> {
        let mut all = Vec::new();
        while let Some((id, entry)) = reader.next_entry().unwrap() {
            all.push((id, entry.timestamp_ms));
        }
        all
    }

    fn numbers(reader: &mut FailedReader) -> Vec<i64> {
        rest(reader).into_iter().map(|(_, number)| number).collect()
    }

    #[test]
    fn a_record_that_is_in_the_log_has_failed_and_is_counted_as_kept_there() {
        let log = Log::new(1 << 24);
        (0..3).for_each(|number| log.fail(number).unwrap());
        log.log.close();
        let balance = log.account.read();
        assert_eq!((balance.failed, balance.in_spool, balance.in_memory), (3, 0, 0));
        assert_eq!(log.account.kept().collect::<Vec<_>>(), [(KeptIn::FailedLog, 3)]);
        assert!(balance.holds());
        let segment = folder::segments(&folder::of_cluster(log.root.path(), "core")).unwrap()[0].0;
        let path = folder::segment(&folder::of_cluster(log.root.path(), "core"), segment);
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_was_taken_back_does_not_come_again_and_the_rest_does_whoever_writes_meanwhile() {
        let mut log = Log::new(1 << 24);
        (0..4).for_each(|number| log.fail(number).unwrap());
        log.restart();
        let mut reader = log.reader();
        assert!(matches!(FailedReader::open_all(log.root.path()), Err(SpoolError::Locked { .. })), "one at a time");
        let all = rest(&mut reader);
        assert_eq!(all.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [0, 1, 2, 3]);
        // Not all, and not in order.
        [2, 0].into_iter().for_each(|index| reader.settle(all[index].0));
        reader.finish().unwrap();
        log.fail(4).unwrap();
        log.restart();
        let mut reader = log.reader();
        let left = rest(&mut reader);
        assert_eq!(left.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [1, 3, 4]);
        left.iter().for_each(|(id, _)| reader.settle(*id));
        reader.finish().unwrap();
        assert_eq!(log.segments(), 2, "the proxy has the folder, and removes them");
        tidy(&log.log).unwrap();
        assert_eq!((log.segments(), log.log.stats().bytes), (0, 0));
        assert!(FailedReader::open_all(log.root.path()).unwrap().is_empty());
        log.fail(5).unwrap();
        log.restart();
        assert_eq!(numbers(&mut log.reader()), [5]);
    }

    #[test]
    fn a_log_of_which_everything_was_taken_back_goes_while_the_proxy_runs() {
        let log = Log::new(1 << 24);
        log.fail(7).unwrap();
        until(|| log.log.stats().written == 1);
        let mut reader = log.reader();
        let all = rest(&mut reader);
        reader.settle(all[0].0);
        reader.finish().unwrap();
        until(|| {
            tidy(&log.log).unwrap();
            log.log.stats().bytes == 0
        });
        assert_eq!(log.segments(), 0);
    }

    #[test]
    fn a_full_log_keeps_the_oldest_and_says_what_it_did_not_take() {
        let mut log = Log::new(100_000);
        let mut taken = 0;
        loop {
            match log.fail(taken) {
                Ok(()) => taken += 1,
                Err(Refusal::Full) => break,
                // The disk is slower than this loop.
                Err(refusal) => assert_eq!(refusal, Refusal::Behind),
            }
        }
        let full = log.log.stats().refused.into_iter().find(|(refusal, _)| *refusal == Refusal::Full);
        assert!(taken > 500 && full.is_some_and(|(_, count)| count == 1), "{taken}, {full:?}");
        log.restart();
        assert_eq!(numbers(&mut log.reader()), (0..i64::from(taken)).collect::<Vec<_>>());
        let kept = log.account.kept().collect::<Vec<_>>();
        assert_eq!(kept[0], (KeptIn::FailedLog, u64::from(taken)));
        assert!(log.account.read().holds(), "{:?}", log.account.read());
    }

    #[test]
    fn a_segment_that_cannot_be_read_is_told_and_left() {
        let mut log = Log::new(1 << 24);
        log.fail(0).unwrap();
        log.restart();
        log.fail(1).unwrap();
        log.restart();
        let folder = folder::of_cluster(log.root.path(), "core");
        let first = folder::segment(&folder, folder::segments(&folder).unwrap()[0].0);
        std::fs::write(&first, b"something else").unwrap();
        let mut reader = log.reader();
        assert_eq!(numbers(&mut reader), [1]);
        assert_eq!(reader.problems().len(), 1, "{:?}", reader.problems());
        rest(&mut reader).iter().for_each(|(id, _)| reader.settle(*id));
        drop(reader);
        let mut reader = log.reader();
        rest(&mut reader).iter().for_each(|(id, _)| reader.settle(*id));
        reader.finish().unwrap();
        tidy(&log.log).unwrap();
        assert!(first.exists(), "nobody took its entry back");
        assert_eq!(numbers(&mut log.reader()), [0; 0]);
    }
}
