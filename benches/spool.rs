//! What the spool takes, on this disk.
//!
//! `cargo bench --bench spool` prints how many events and bytes a second reach the disk, and how long a request with
//! `reply=durable` waits for it at 5,000 events a second, while they are taken out and settled as by a Kafka that
//! acknowledges at once, next to what a sync takes by itself in the same run. `cargo test --benches` runs both for a
//! moment and checks that what was written is there.
//!
//! The folder is `target/tmp`: what matters is the disk under it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use iguazu::envelope::headers::HeaderBuffer;
use iguazu::outcome::{Account, BatchState, Ledger, Tracked};
use iguazu::route::Lane;
use iguazu::spool::{Entry, Memory, Reader, Settings, Spool};

/// Threads that offer.
const THREADS: usize = 2;
/// Events a second of the second measurement, and how many are offered at once.
const RATE: u32 = 5_000;
const GROUP: u32 = 5;

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (events, seconds) = if is_bench { (2_000_000, 8) } else { (10_000, 1) };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target folder can be written");
    // First, because the disk is busy for a while with what the other one wrote and removed.
    latency(&folder.path().join("latency"), Duration::from_secs(seconds));
    throughput(&folder.path().join("throughput"), events);
}

/// The headers of an event as the pipeline writes them, 300 bytes of value, a key.
struct Sample {
    headers: HeaderBuffer,
    value: Vec<u8>,
}

impl Sample {
    fn new() -> Sample {
        let mut headers = HeaderBuffer::default();
        headers.push("ce_specversion", b"1.0");
        headers.push("ce_id", b"0193a4c8-7b5e-7c3a-9d2f-1b6e8f0a4c5d");
        headers.push("ce_source", b"checkout-service");
        headers.push("ce_type", b"delivery.status_changed");
        headers.push("content-type", b"application/avro");
        Sample { headers, value: vec![b'v'; 300] }
    }

    fn entry(&self) -> Entry<'_> {
        Entry {
            event: "delivery.status_changed",
            topic: "delivery_status_changed",
            lane: Lane::Standard,
            partition: None,
            tried: false,
            timestamp_ms: 1_735_689_600_000,
            key: Some(b"courier-01"),
            headers: &self.headers,
            value: &self.value,
        }
    }
}

fn open(folder: &Path) -> (Arc<Spool>, Reader, Arc<Account>) {
    let settings = Settings { folder: folder.to_owned(), bytes_max: 8 << 30, sync_interval: Duration::ZERO };
    let (spool, mut reader) = Spool::open(&settings, "core").expect("the folder is ours");
    reader.recover(|_| {}).expect("the disk can be read");
    (spool, reader, Ledger::default().account("e", "core"))
}

fn throughput(folder: &Path, events: u32) {
    let (spool, mut reader, account) = open(folder);
    let sample = Sample::new();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..events / THREADS as u32 {
                    let mut tracked = Tracked::new(&account, None, 0, 700);
                    // A full queue is what a sender is told to wait for.
                    while let Err(not_taken) = spool.offer(&sample.entry(), tracked, Memory::Queue) {
                        tracked = not_taken.tracked;
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    spool.close();
    let taken = begin.elapsed().as_secs_f64();
    assert_eq!(account.read().in_spool, u64::from(events), "everything is on disk");
    let bytes = spool.stats().bytes as f64;
    let (rate, megabytes) = (f64::from(events) / taken, bytes / taken / 1e6);
    println!("written and synced   {rate:>9.0} events/s {megabytes:>7.0} MB/s   goal 150000 events/s, 60 MB/s");

    let begin = Instant::now();
    let mut found = 0;
    while reader.peek().expect("the disk can be read").is_some() {
        let slot = reader.take();
        reader.settle(slot);
        found += 1;
    }
    reader.tidy();
    assert_eq!(found, events, "everything is there");
    let taken = begin.elapsed().as_secs_f64();
    println!("read and settled     {:>9.0} events/s {:>7.0} MB/s", f64::from(events) / taken, bytes / taken / 1e6);
}

/// What the wal's sender does while events come: takes them, settles them, and writes the cursor twice a second.
fn settle_until(end: &AtomicBool, reader: &mut Reader) -> u32 {
    let (mut taken, mut saved) = (0, Instant::now());
    reader.keep_open(Duration::from_secs(10));
    while !end.load(Relaxed) {
        while reader.peek().expect("the disk can be read").is_some() {
            let slot = reader.take();
            reader.settle(slot);
            taken += 1;
        }
        if saved.elapsed() > Duration::from_millis(500) {
            saved = Instant::now();
            reader.tidy();
            reader.save().expect("the disk has room");
        }
        reader.wait(Duration::from_millis(5));
    }
    taken
}

fn latency(folder: &Path, duration: Duration) {
    let (spool, mut reader, account) = open(folder);
    let alone_before = syncs(folder, duration / 4);
    let end = Arc::new(AtomicBool::new(false));
    let sender = std::thread::spawn({
        let end = Arc::clone(&end);
        move || settle_until(&end, &mut reader)
    });
    let sample = Sample::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let waits = runtime.block_on(async {
        let mut groups = Vec::new();
        let mut due = tokio::time::interval(Duration::from_secs(1) * GROUP / RATE);
        let begin = Instant::now();
        while begin.elapsed() < duration {
            due.tick().await;
            let batch = Arc::new(BatchState::default());
            let offered = Instant::now();
            for index in 0..GROUP {
                let tracked = Tracked::new(&account, Some(&batch), index, 700);
                spool.offer(&sample.entry(), tracked, Memory::Queue).expect("the queue has room");
            }
            groups.push(tokio::spawn(async move {
                batch.settled().await;
                offered.elapsed()
            }));
        }
        let mut waits = histogram();
        for group in groups {
            waits += group.await.expect("no task panics").as_nanos() as u64;
        }
        waits
    });
    end.store(true, Relaxed);
    assert!(sender.join().expect("the thread does not panic") > 0, "what was written can be read");
    let mut alone = syncs(folder, duration / 4);
    alone.add(alone_before).expect("both have the same bounds");
    let (own, sync) = (waits.value_at_quantile(0.99) as f64, alone.value_at_quantile(0.99) as f64);
    println!(
        "durable              p50 {:.2} ms, p99 {:.2} ms at {RATE} events/s; a sync by itself p50 {:.2} ms, p99 {:.2} ms; ratio {:.1}, goal 3",
        waits.value_at_quantile(0.5) as f64 / 1e6,
        own / 1e6,
        alone.value_at_quantile(0.5) as f64 / 1e6,
        sync / 1e6,
        own / sync
    );
}

/// How long this disk takes to sync a small write, asked as often as groups are offered. A sync that takes longer than that also
/// counts for those that could not begin meanwhile: the events above come whether the disk is busy or not.
fn syncs(folder: &Path, duration: Duration) -> Histogram<u64> {
    let every = Duration::from_secs(1) * GROUP / RATE;
    let path = folder.join("sync");
    let mut file = File::create(&path).expect("the folder is ours");
    let mut took = histogram();
    let begin = Instant::now();
    while begin.elapsed() < duration {
        let start = Instant::now();
        file.write_all(&[b'x'; 3_000]).and_then(|()| file.sync_data()).expect("the disk works");
        let elapsed = start.elapsed();
        let corrected = took.record_correct(elapsed.as_nanos() as u64, every.as_nanos() as u64);
        corrected.expect("the histogram grows by itself");
        std::thread::sleep(every.saturating_sub(elapsed));
    }
    std::fs::remove_file(&path).expect("the file is ours");
    took
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}
