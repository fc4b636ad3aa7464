use std::fs;
use std::time::Duration;

use super::*;
use crate::envelope::headers::HeaderBuffer;
use crate::outcome::{Account, Balance, Ledger};
use crate::route::Lane;

/// Longest wait for the writer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A spool's folder, and the ledger of the events in it.
struct Fixture {
    root: tempfile::TempDir,
    account: Arc<Account>,
    settings: Settings,
}

impl Fixture {
    fn new(bytes_max: u64) -> Fixture {
        let root = tempfile::tempdir().unwrap();
        let account = Ledger::default().account("e", "core");
        let settings = Settings { folder: root.path().to_owned(), bytes_max, sync_interval: Duration::ZERO };
        Fixture { root, account, settings }
    }

    fn open(&self) -> (Arc<Spool>, Reader) {
        let (spool, mut reader) = Spool::open(&self.settings, "core").unwrap();
        reader.recover(|_| {}).unwrap();
        (spool, reader)
    }

    /// Offers an entry with this value; whether it was taken.
    fn offer(&self, spool: &Spool, value: &[u8], memory: Memory<'_>) -> Result<(), Refusal> {
        self.account.receive();
        let tracked = Tracked::new(&self.account, None, 0, value.len() as u32);
        let mut headers = HeaderBuffer::default();
        headers.push("ce_id", value);
        let entry = Entry {
            event: "e",
            topic: "t",
            lane: Lane::Standard,
            partition: None,
            tried: false,
            timestamp_ms: 1_000,
            key: None,
            headers: &headers,
            value,
        };
        spool.offer(&entry, tracked, memory).map_err(|not_taken| {
            not_taken.tracked.refused();
            self.account.reject(crate::outcome::Code::BufferFull);
            not_taken.refusal
        })
    }

    fn write(&self, spool: &Spool, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.offer(spool, number.to_string().as_bytes(), Memory::Queue).expect("there is room");
        }
    }

    /// The same in groups of ten that are synced before the next, so that they are in several segments of 1,000 bytes.
    fn write_apart(&self, spool: &Spool, numbers: std::ops::Range<u32>) {
        for first in numbers.step_by(10) {
            self.write(spool, first..first + 10);
            let begin = Instant::now();
            while self.account.read().in_memory > 0 {
                assert!(begin.elapsed() < PATIENCE, "{:?}", spool.stats());
                std::thread::yield_now();
            }
        }
    }

    fn segments(&self) -> Vec<PathBuf> {
        self.files("seg")
    }

    fn files(&self, kind: &str) -> Vec<PathBuf> {
        let folder = folder::of_cluster(self.root.path(), "core");
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|found| found == kind));
        files.sort();
        files
    }
}

/// The next so many entries, as numbers, with the slots to settle them by. Waits for the writer.
fn take(reader: &mut Reader, count: usize) -> Vec<(u32, Slot)> {
    let begin = Instant::now();
    let mut taken = Vec::new();
    while taken.len() < count {
        match number(reader) {
            Some(number) => taken.push((number, reader.take())),
            None => reader.wait(PATIENCE.saturating_sub(begin.elapsed())),
        }
        assert!(begin.elapsed() < PATIENCE, "only {} of {count} entries came", taken.len());
    }
    taken
}

fn number(reader: &mut Reader) -> Option<u32> {
    let (_, entry) = reader.peek().unwrap()?;
    assert_eq!(entry.headers.iter().collect::<Vec<_>>(), [("ce_id", entry.value)]);
    Some(std::str::from_utf8(entry.value).unwrap().trim_end_matches('.').parse().unwrap())
}

fn numbers(taken: &[(u32, Slot)]) -> Vec<u32> {
    taken.iter().map(|(number, _)| *number).collect()
}

/// Everything that there is.
fn rest(reader: &mut Reader) -> Vec<u32> {
    let mut found = Vec::new();
    while let Some(number) = number(reader) {
        found.push(number);
        reader.take();
    }
    found
}

#[test]
fn a_full_spool_keeps_what_it_has_and_refuses_what_is_new() {
    let fixture = Fixture::new(10_000);
    let (spool, mut reader) = fixture.open();
    let mut taken = 0;
    let refusal = loop {
        match fixture.offer(&spool, format!("{taken:.<400}").as_bytes(), Memory::Queue) {
            Ok(()) => taken += 1,
            // The queue is smaller than the disk.
            Err(Refusal::Behind) => std::thread::yield_now(),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal, Refusal::Full);
    assert!((10..25).contains(&taken), "{taken} entries of more than 800 bytes");
    let entries = take(&mut reader, taken);
    assert_eq!(numbers(&entries), (0..taken as u32).collect::<Vec<_>>(), "the oldest are kept");
    assert!(spool.stats().refused[0] == (Refusal::Full, 1) && spool.stats().bytes <= 10_000, "{:?}", spool.stats());
    assert!(fixture.account.read().holds(), "{:?}", fixture.account.read());
    for (_, slot) in entries {
        reader.settle(slot);
    }
    reader.tidy();
    fixture.offer(&spool, b"1", Memory::Queue).expect("settled segments made room");
}

#[test]
fn a_queue_that_the_disk_does_not_keep_up_with_refuses_what_is_new() {
    let inventory = Inventory::default();
    let queue = Queue::new(0, 1_000, 1_000_000);
    let (account, headers) = (Ledger::default().account("e", "core"), HeaderBuffer::default());
    let (event, topic, lane, value) = ("e", "t", Lane::All, &[0; 300]);
    let entry = Entry {
        event,
        topic,
        lane,
        partition: None,
        tried: false,
        timestamp_ms: 0,
        key: None,
        headers: &headers,
        value,
    };
    let push = |memory| {
        let tracked = Tracked::new(&account, None, 0, 300);
        queue.push(&entry, tracked, memory, &inventory).map_err(|(refusal, tracked)| {
            tracked.refused();
            refusal
        })
    };
    let returns = Arc::new(Returns::default());
    let took: Vec<_> = (0..4).map(|_| push(Memory::Queue)).collect();
    assert_eq!(took, [Ok(()), Ok(()), Err(Refusal::Behind), Err(Refusal::Behind)]);
    assert_eq!(push(Memory::Lent(&returns)), Ok(()), "lent memory is not the queue's");
    assert_eq!((queue.own_bytes(), inventory.used.load(Relaxed)), (2 * entry.bytes() as u64, 3 * entry.bytes() as u64));
    let queue::Work::Write(batch) = queue.next(None) else { panic!("three entries wait") };
    assert_eq!(push(Memory::Queue), Err(Refusal::Behind), "what is being written is still in memory");
    assert_eq!(returns.take(), (0, 0));
    queue.settle(&mut vec![batch], &inventory, &Awaited::default());
    assert_eq!((returns.take(), returns.take(), queue.own_bytes()), ((300, 1), (0, 0), 0));
    queue.set_failing(true);
    assert_eq!(push(Memory::Queue), Err(Refusal::Failing));
    queue.close();
    assert_eq!(push(Memory::Lent(&returns)), Err(Refusal::Closed));
    assert_eq!((account.read().in_spool, account.read().in_memory), (3, 0));
    assert_eq!(inventory.refusals().map(|(_, count)| count), [0, 3, 1, 0, 1]);
}

#[test]
fn a_closed_spool_gives_events_back_and_has_written_those_it_took() {
    let fixture = Fixture::new(1_000_000);
    let (spool, reader) = fixture.open();
    fixture.write(&spool, 0..100);
    spool.close();
    assert_eq!(fixture.offer(&spool, b"0", Memory::Queue), Err(Refusal::Closed));
    let expected = Balance { received: 101, in_spool: 100, rejected: 1, ..Balance::default() };
    assert_eq!(fixture.account.read(), expected);
    drop((spool, reader));
    assert_eq!(rest(&mut fixture.open().1), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_second_process_is_refused() {
    let fixture = Fixture::new(1_000_000);
    let _first = fixture.open();
    let second = Spool::open(&fixture.settings, "core").expect_err("the folder is locked");
    assert!(matches!(second, SpoolError::Locked { .. }), "{second}");
}

#[test]
fn what_is_settled_is_removed_and_what_is_not_stays() {
    let fixture = Fixture::new(8_000);
    let (spool, mut reader) = fixture.open();
    fixture.write_apart(&spool, 0..60);
    let taken = take(&mut reader, 60);
    let before = fixture.segments();
    assert!(before.len() >= 3, "{before:?}");
    for (_, slot) in &taken[1..] {
        reader.settle(*slot);
    }
    reader.tidy();
    let left = fixture.segments();
    assert!(left.len() < before.len() && left[0] == before[0], "the first entry is not settled: {left:?}");
    assert_eq!(spool.stats().settled, 59);
    reader.settle(taken[0].1);
    let begin = Instant::now();
    while !fixture.segments().is_empty() {
        reader.tidy();
        assert_eq!(number(&mut reader), None);
        reader.wait(Duration::from_millis(10));
        assert!(begin.elapsed() < PATIENCE, "{:?} are left", fixture.segments());
    }
    let stats = spool.stats();
    assert_eq!((stats.bytes, stats.oldest), (0, None), "{stats:?}");
    fixture.write(&spool, 60..61);
    assert_eq!(numbers(&take(&mut reader, 1)), [60], "it goes on after having been empty");
}

#[test]
fn what_was_not_settled_comes_again_after_a_restart_and_nothing_else() {
    let fixture = Fixture::new(8_000);
    let (spool, mut reader) = fixture.open();
    fixture.write_apart(&spool, 0..60);
    let taken = take(&mut reader, 50);
    for (number, slot) in taken {
        if number < 20 || number % 3 == 0 {
            reader.settle(slot);
        }
    }
    reader.tidy();
    reader.save().unwrap();
    drop((spool, reader));
    let expected: Vec<u32> = (20..60).filter(|number| number % 3 != 0 || *number >= 50).collect();

    let (spool, mut reader) = Spool::open(&fixture.settings, "core").unwrap();
    let mut recovered = Vec::new();
    reader.recover(|entry| recovered.push(std::str::from_utf8(entry.value).unwrap().parse::<u32>().unwrap())).unwrap();
    assert_eq!(recovered, expected);
    fixture.write(&spool, 60..65);
    let taken = take(&mut reader, expected.len() + 5);
    assert_eq!(
        numbers(&taken),
        [expected.clone(), (60..65).collect()].concat(),
        "new ones come after those that were found"
    );
    drop((spool, reader));
    fixture.open().1.recover(|_| panic!("it was recovered already")).unwrap();
}

#[test]
fn a_cursor_that_is_lost_or_damaged_makes_duplicates_and_no_losses() {
    for damage in [|path: &Path| fs::remove_file(path).unwrap(), |path: &Path| fs::write(path, b"IGUCURSRx").unwrap()] {
        let fixture = Fixture::new(1_000_000);
        let (spool, mut reader) = fixture.open();
        fixture.write(&spool, 0..10);
        take(&mut reader, 10)[..5].iter().for_each(|(_, slot)| reader.settle(*slot));
        reader.save().unwrap();
        drop((spool, reader));
        damage(&folder::cursor(&folder::of_cluster(fixture.root.path(), "core")));
        assert_eq!(rest(&mut fixture.open().1), (0..10).collect::<Vec<_>>());
    }
}

#[test]
fn an_entry_that_is_to_be_tried_again_comes_again_and_its_settled_neighbours_do_not() {
    let fixture = Fixture::new(1_000_000);
    let (spool, mut reader) = fixture.open();
    fixture.write(&spool, 0..10);
    for (number, slot) in take(&mut reader, 8) {
        if number % 2 == 0 {
            reader.settle(slot);
        }
    }
    assert_eq!(number(&mut reader), Some(8));
    assert_eq!(reader.open(), 4);
    reader.rewind();
    let again = take(&mut reader, 6);
    assert_eq!(numbers(&again), [1, 3, 5, 7, 8, 9]);
    again.iter().for_each(|(_, slot)| reader.settle(*slot));
    assert_eq!((reader.open(), number(&mut reader)), (0, None));
}

#[test]
fn what_is_passed_over_comes_later_while_others_are_on_their_way() {
    let fixture = Fixture::new(8_000);
    let (spool, mut reader) = fixture.open();
    fixture.write_apart(&spool, 0..40);
    let mut on_their_way = Vec::new();
    while let Some(number) = number(&mut reader) {
        match number % 10 {
            0 => reader.pass_over(),
            1 => on_their_way.push(reader.take()),
            _ => {
                let slot = reader.take();
                reader.settle(slot);
            }
        }
    }
    reader.tidy();
    reader.go_back();
    let again = take(&mut reader, 2);
    assert_eq!(numbers(&again), [0, 10], "those on their way are not among them");
    reader.settle(again[1].1);
    reader.give_back(again[0].1);
    reader.give_back(on_their_way[3]);
    reader.save().unwrap();
    drop((spool, reader));
    assert_eq!(rest(&mut fixture.open().1), [0, 1, 11, 20, 21, 30, 31], "none of them was settled");
}

#[test]
fn a_segment_of_another_version_is_left_alone_and_the_others_are_read() {
    let fixture = Fixture::new(8_000);
    let (spool, reader) = fixture.open();
    fixture.write_apart(&spool, 0..60);
    drop((spool, reader));
    let all = rest(&mut fixture.open().1);
    let foreign = fixture.segments()[0].clone();
    let mut bytes = fs::read(&foreign).unwrap();
    bytes[8] = 9;
    fs::write(&foreign, &bytes).unwrap();
    let (spool, mut reader) = fixture.open();
    let others = rest(&mut reader);
    assert!(!others.is_empty() && others.len() < all.len() && all.ends_with(&others), "{others:?}");
    reader.tidy();
    assert_eq!(fs::read(&foreign).unwrap(), bytes, "it is left as it is");
    assert!(spool.stats().damaged_bytes > 0);
    drop((spool, reader));
    let contents = &inspect::contents(fixture.root.path()).unwrap()[0];
    assert!(contents.problems[0].contains("format version 9"), "{contents:?}");
}

#[test]
fn a_damaged_segment_gives_its_sound_entries_and_is_put_aside() {
    let fixture = Fixture::new(1_000_000);
    let (spool, reader) = fixture.open();
    fixture.write(&spool, 0..10);
    drop((spool, reader));
    let path = fixture.segments().remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(!inspect::contents(fixture.root.path()).unwrap()[0].is_sound());

    let (spool, mut reader) = fixture.open();
    let taken = take(&mut reader, 9);
    taken.iter().for_each(|(_, slot)| reader.settle(*slot));
    assert_eq!(number(&mut reader), None);
    reader.tidy();
    assert_eq!((fixture.segments().len(), fixture.files("damaged").len()), (0, 1));
    assert_eq!(fs::read(&fixture.files("damaged")[0]).unwrap(), bytes);
    assert!(spool.stats().damaged_bytes > 0 && spool.stats().bytes == bytes.len() as u64, "{:?}", spool.stats());
}

#[test]
fn with_an_interval_events_wait_for_the_sync() {
    let mut fixture = Fixture::new(1_000_000);
    fixture.settings.sync_interval = Duration::from_secs(3600);
    let (spool, mut reader) = fixture.open();
    fixture.write(&spool, 0..5);
    assert_eq!((number(&mut reader), fixture.account.read().in_spool), (None, 0));
    spool.close();
    assert_eq!(fixture.account.read().in_spool, 5, "a stop syncs at once");
    assert_eq!(numbers(&take(&mut reader, 5)), [0, 1, 2, 3, 4]);
}

#[test]
fn what_is_in_a_folder_is_told_without_changing_it() {
    let fixture = Fixture::new(1_000_000);
    let (spool, mut reader) = fixture.open();
    fixture.write(&spool, 0..10);
    take(&mut reader, 4).iter().for_each(|(_, slot)| reader.settle(*slot));
    reader.save().unwrap();
    let [contents] = &inspect::contents(fixture.root.path()).unwrap()[..] else { panic!("one cluster") };
    assert_eq!(contents.cluster.as_deref(), Some("core"));
    assert_eq!((contents.waiting.clone(), contents.settled), ([("e".to_owned(), 6)].into(), 4));
    assert_eq!(contents.received_ms, Some((1_000, 1_000)));
    assert!(contents.is_sound() && contents.torn_bytes == 0, "{contents:?}");
    assert_eq!(contents.bytes, spool.stats().bytes);
}
