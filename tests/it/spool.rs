//! The spool's files survive what happens to processes and disks: `kill -9` at any moment, a disk that is full and has room
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use iguazu::envelope::headers::HeaderBuffer;
use iguazu::outcome::{Account, BatchState, Delivery, Ledger, Tracked};
use iguazu::route::Lane;
use iguazu::spool::{Entry, ErrorKind, Memory, Reader, Refusal, Settings, Spool};

use super::support::process::{Process, command};
use super::support::{folder, long, wait_for};

/// Says in which folder a child of this test binary writes, and from which number on.
const CHILD: &str = "IGUAZU_SPOOL_CHILD";

fn settings(folder: &Path, bytes_max: u64) -> Settings {
    Settings { folder: folder.to_owned(), bytes_max, sync_interval: Duration::ZERO }
}

/// The value of an entry: from one to 700 bytes that follow from its number.
fn value(number: u64) -> Vec<u8> {
    let text = format!("{number} ");
    text.bytes().cycle().take(text.len() + (number * 37 % 700) as usize).collect()
}

/// The number of an entry whose content is right.
fn number_of(entry: &Entry<'_>) -> u64 {
    let text = std::str::from_utf8(entry.value).expect("values are text");
    let number = text.split(' ').next().and_then(|number| number.parse().ok());
    let number = number.unwrap_or_else(|| panic!("{text}"));
    assert_eq!(entry.value, value(number));
    assert_eq!(entry.headers.iter().collect::<Vec<_>>(), [("ce_id", number.to_string().as_bytes())]);
    number
}

/// Offers entries and is told which are on disk.
struct Source {
    spool: Arc<Spool>,
    account: Arc<Account>,
    batch: Arc<BatchState>,
}

impl Source {
    fn open(settings: &Settings) -> (Source, Reader) {
        let (spool, mut reader) = Spool::open(settings, "core").expect("the folder is ours");
        let account = Ledger::default().account("e", "core");
        reader.recover(|_| account.recover()).expect("the disk can be read");
        (Source { spool, account, batch: Arc::default() }, reader)
    }

    fn offer(&self, number: u64) -> Result<(), Refusal> {
        let (value, mut headers) = (value(number), HeaderBuffer::default());
        headers.push("ce_id", number.to_string().as_bytes());
        let entry = Entry {
            event: "e",
            topic: "t",
            lane: Lane::Standard,
            partition: None,
            tried: false,
            timestamp_ms: 1,
            key: None,
            headers: &headers,
            value: &value,
        };
        let tracked = Tracked::new(&self.account, Some(&self.batch), number as u32, 0);
        self.account.receive();
        self.spool.offer(&entry, tracked, Memory::Queue).map_err(|not_taken| {
            not_taken.tracked.refused();
            self.account.reject(iguazu::outcome::Code::BufferFull);
            not_taken.refusal
        })
    }

    /// Those that are on disk and were not told before.
    fn spooled(&self) -> Vec<u64> {
        let settled = self.batch.take();
        assert!(settled.iter().all(|(_, delivery)| *delivery == Delivery::Spooled), "{settled:?}");
        settled.into_iter().map(|(number, _)| number.into()).collect()
    }
}

/// What a child has said, line by line: `S n` entry n is on disk, `D n` entry n was taken out and settled, `C` the cursor is on
/// disk.
#[derive(Default)]
struct Said {
    spooled: BTreeSet<u64>,
    delivered: BTreeMap<u64, usize>,
    /// Delivered, and on disk as settled: these must never come again.
    finished: BTreeSet<u64>,
    /// Delivered by this child.
    own: BTreeSet<u64>,
}

impl Said {
    fn take(&mut self, line: &str) {
        let number = |text: &str| text.parse::<u64>().expect("whole lines only");
        match line.split_once(' ') {
            Some(("S", text)) => drop(self.spooled.insert(number(text))),
            Some(("D", text)) => {
                let number = number(text);
                assert!(
                    !self.finished.contains(&number),
                    "{number} was settled, the cursor said so, and it came again"
                );
                *self.delivered.entry(number).or_default() += 1;
                self.own.insert(number);
            }
            None if line == "C" => self.finished.append(&mut self.own),
            _ => {}
        }
    }
}

/// Writes and takes out at the same time, and says so, until it has done so many steps.
fn write_and_settle(folder: &Path, first: u64, steps: u64, mut say: impl FnMut(String)) -> (Source, Reader) {
    // Small segments, so that many are begun and removed.
    let (source, mut reader) = Source::open(&settings(folder, 400_000));
    for step in 0..steps {
        for number in first + 3 * step..first + 3 * step + 3 {
            // Full is fine: what is not taken is not promised.
            let _ = source.offer(number);
        }
        source.spooled().iter().for_each(|number| say(format!("S {number}\n")));
        let mut taken = Vec::new();
        while taken.len() < 4
            && let Some((_, entry)) = reader.peek().expect("the disk can be read")
        {
            let number = number_of(&entry);
            say(format!("D {number}\n"));
            taken.push(reader.take());
        }
        // Out of order.
        let count = taken.len();
        taken.rotate_left(count.min(1));
        taken.into_iter().for_each(|slot| reader.settle(slot));
        reader.tidy();
        if step % 7 == 0 {
            reader.save().expect("the disk has room");
            say("C\n".to_owned());
        }
    }
    (source, reader)
}

/// By itself it is a process that is not killed; the test below runs it in a process that is.
#[test]
fn a_process_that_is_left_alone_settles_what_it_wrote() {
    let to_parent = |line: String| std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent reads");
    if let Ok(order) = std::env::var(CHILD) {
        let (first, folder) = order.split_once(' ').expect("a number and a folder");
        // The test harness has begun a line.
        to_parent("\n".to_owned());
        write_and_settle(Path::new(folder), first.parse().expect("a number"), u64::MAX, to_parent);
    }
    let folder = folder("spool-alone");
    let mut said = Said::default();
    let (source, mut reader) = write_and_settle(&folder, 1, 200, |line| said.take(line.trim_end()));
    source.spool.close();
    said.spooled.extend(source.spooled());
    while let Some((_, entry)) = reader.peek().expect("the disk can be read") {
        said.take(&format!("D {}", number_of(&entry)));
        let slot = reader.take();
        reader.settle(slot);
    }
    assert_eq!(said.spooled.iter().collect::<Vec<_>>(), said.delivered.keys().collect::<Vec<_>>());
    assert!(said.delivered.values().all(|count| *count == 1), "{:?}", said.delivered);
}

#[test]
fn whenever_a_process_is_killed_what_was_on_disk_is_found_and_what_was_settled_is_not() {
    let folder = folder("spool-killed");
    let rounds = if long() { 500 } else { 50 };
    let mut said = Said::default();
    let mut random = u64::from(std::process::id()) | 1;
    println!("seed {random}");
    for round in 0..rounds {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut command = command(std::env::current_exe().expect("this program has a file"));
        let child = "spool::a_process_that_is_left_alone_settles_what_it_wrote";
        command.args(["--exact", child, "--nocapture", "--test-threads", "1"]);
        command.env(CHILD, format!("{} {}", 1 + round * 1_000_000, folder.display())).stdout(Stdio::piped());
        let mut process = Process::spawn("a writer of the spool", command);
        let mut lines = BufReader::new(process.child().stdout.take().expect("it is a pipe"));
        // Killed after so many lines, wherever it has got to by then; what it said until then still comes out of the pipe.
        let patience = (random >> 33) % 2_000;
        let (mut line, mut count) = (String::new(), 0);
        while lines.read_line(&mut line).expect("a pipe can be read") > 0 {
            if line.ends_with('\n') {
                said.take(line.trim_end());
            }
            line.clear();
            count += 1;
            if count == patience + 10 {
                process.kill();
            }
        }
        assert!(count >= patience + 10, "the child ended by itself after {count} lines");
        said.own.clear();
    }
    let (_source, mut reader) = Source::open(&settings(&folder, 400_000));
    let mut left = BTreeSet::new();
    while let Some((_, entry)) = reader.peek().expect("the disk can be read") {
        let number = number_of(&entry);
        assert!(!said.finished.contains(&number), "{number} was settled, and it is there again");
        assert!(left.insert(number), "{number} is there twice");
        reader.take();
    }
    let lost: Vec<_> = said.spooled.iter().filter(|n| !said.delivered.contains_key(n) && !left.contains(n)).collect();
    assert!(lost.is_empty(), "{} entries were on disk and are gone: {lost:?}", lost.len());
    assert!(said.spooled.len() > 1_000, "only {} entries were written", said.spooled.len());
    assert!(said.finished.len() > 100, "only {} were settled", said.finished.len());
}

/// How the process below gets a disk that is full: it may mount one, or its files may not grow.
const DISK: &str = "IGUAZU_DISK";

/// A disk that is small at first.
enum Disk {
    Mounted(PathBuf),
    Limited(PathBuf),
}

impl Disk {
    fn open(kind: &str) -> Disk {
        let folder = folder("disk");
        match kind {
            "mounted" => {
                Disk::run("mount", &["-t", "tmpfs", "-o", "size=1m", "spool", &folder.to_string_lossy()]);
                Disk::Mounted(folder)
            }
            _ => Disk::Limited(folder),
        }
    }

    fn folder(&self) -> &Path {
        match self {
            Disk::Mounted(folder) | Disk::Limited(folder) => folder,
        }
    }

    fn enlarge(&self) {
        match self {
            Disk::Mounted(folder) => Disk::run("mount", &["-o", "remount,size=16m", &folder.to_string_lossy()]),
            Disk::Limited(_) => Disk::run("prlimit", &["--pid", &std::process::id().to_string(), "--fsize=unlimited:"]),
        }
    }

    /// Whether it could be done: files that may not grow are still files that can be written.
    fn make_read_only(&self) -> bool {
        let Disk::Mounted(folder) = self else { return false };
        Disk::run("mount", &["-o", "remount,ro", &folder.to_string_lossy()]);
        true
    }

    fn run(program: &str, arguments: &[&str]) {
        let status = Command::new(program).args(arguments).status();
        assert!(status.as_ref().is_ok_and(|status| status.success()), "{program} {arguments:?}: {status:?}");
    }
}

/// Runs this test in a process that can have a full disk: in a namespace of its own everybody may mount one, and where there are no
/// namespaces a limit on the size of files does.
fn run_with_a_small_disk() {
    let mut test = vec![std::env::current_exe().expect("this program has a file").into_os_string()];
    let name = "spool::a_disk_that_is_full_is_told_refuses_what_is_new_and_heals";
    test.extend(["--exact", name, "--nocapture"].map(Into::into));
    let namespace = ["--user", "--map-root-user", "--mount", "--"];
    let has_namespaces = Command::new("unshare").args(namespace).arg("true").status().is_ok_and(|s| s.success());
    let mut command = if has_namespaces {
        let mut command = command("unshare");
        command.args(namespace).env(DISK, "mounted");
        command
    } else {
        let mut command = command("sh");
        command.args(["-c", "trap '' XFSZ; ulimit -S -f 500; exec \"$@\"", "sh"]).env(DISK, "limited");
        command
    };
    let status = Process::spawn("the test with a small disk", {
        command.args(test);
        command
    })
    .wait();
    assert!(status.success(), "{status}");
}

#[test]
fn a_disk_that_is_full_is_told_refuses_what_is_new_and_heals() {
    let Ok(kind) = std::env::var(DISK) else { return run_with_a_small_disk() };
    let disk = Disk::open(&kind);
    let (source, mut reader) = Source::open(&settings(disk.folder(), 64 << 20));
    let mut taken = BTreeSet::new();
    let mut numbers = 1..;
    let refusal = loop {
        let number = numbers.next().expect("there is always another number");
        match source.offer(number) {
            Ok(()) => drop(taken.insert(number)),
            Err(refusal) => break refusal,
        }
        assert!(number < 1_000_000, "a disk of 1 MiB took a million entries");
    };
    assert_eq!(refusal, Refusal::Failing);
    let stats = source.spool.stats();
    let (reason, _) = stats.trouble.clone().expect("it is told");
    let is_told = ["No space left", "File too large"].iter().any(|words| reason.contains(words));
    assert!(is_told && stats.fill() >= 1.0, "{stats:?}");
    assert!(stats.errors.iter().any(|(kind, count)| *kind == ErrorKind::Full && *count > 0), "{stats:?}");
    assert!(source.account.read().in_memory > 0, "what was taken is kept in memory");
    assert!(source.account.read().holds(), "{:?}", source.account.read());

    disk.enlarge();
    let mut spooled = BTreeSet::new();
    wait_for("everything is on disk", || {
        spooled.extend(source.spooled());
        if spooled == taken { Ok(()) } else { Err(format!("{} of {}", spooled.len(), taken.len())) }
    });
    wait_for("the trouble is over", || match source.spool.stats().trouble {
        None => Ok(()),
        Some((reason, _)) => Err(reason),
    });
    let number = numbers.next().expect("there is always another number");
    source.offer(number).expect("there is room");
    taken.insert(number);
    source.spool.close();
    let mut found = Vec::new();
    while let Some((_, entry)) = reader.peek().expect("the disk can be read") {
        found.push(number_of(&entry));
        reader.take();
    }
    assert_eq!(found, taken.into_iter().collect::<Vec<_>>(), "each once, in order");
    assert!(source.account.read().holds(), "{:?}", source.account.read());
    drop((source, reader));
    if disk.make_read_only() {
        check_read_only(&disk, &found);
    }
}

/// A process that starts on a disk that became read-only produces what waits there, and spools nothing.
fn check_read_only(disk: &Disk, expected: &[u64]) {
    let (source, mut reader) = Source::open(&settings(disk.folder(), 64 << 20));
    let mut found = Vec::new();
    while let Some((_, entry)) = reader.peek().expect("the disk can be read") {
        found.push(number_of(&entry));
        let slot = reader.take();
        reader.settle(slot);
    }
    assert_eq!(found, expected);
    source.offer(1).expect("nothing is known of the disk yet");
    wait_for("the trouble is told", || source.spool.stats().trouble.ok_or_else(|| "none".to_owned()));
    assert_eq!(source.offer(2), Err(Refusal::Failing));
    let errors = source.spool.stats().errors;
    assert!(errors.iter().any(|(kind, count)| *kind == ErrorKind::ReadOnly && *count > 0), "{errors:?}");
    source.spool.close();
    let ledger = source.account.read();
    assert!(ledger.holds() && ledger.failed == 1, "what the disk does not take until the stop has failed: {ledger:?}");
}
