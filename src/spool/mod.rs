//! The disk beside the producers: records that Kafka does not take now wait here, within a byte limit and across restarts.
//!
//! In: an [`Entry`] and the [`Tracked`] that follows its event, from any thread. Out: the event settled as
//! [`Spooled`](crate::outcome::Delivery::Spooled) once its entry survives a power cut, and later the entry, from the [`Reader`].
//! Each cluster has a spool of its own with a thread that writes. Never: waits for the disk outside that thread, drops an entry
//! to make room for another, touches a file of a format that it does not know.
//!
//! On disk: a folder a cluster, in it segments of entries, each entry with its checksum, and a cursor that says which are
//! settled. A full disk, a read-only one or one with errors makes the spool refuse what is new and try again; what it has
//! taken already stays in memory until then.
//!
//! Reading order: `entry` (the bytes), `segment` (a file of them), `queue` and `writer` (in), [`reader`] and `cursor` (out),
//! `inventory` (what is there), `folder` (names and rights), [`inspect`] (for people), [`failed`] (the same for what was given up).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tracing::{error, warn};

use crate::outcome::Tracked;

mod entry;
mod segment;
mod folder;
mod queue;
mod writer;
mod cursor;
mod inventory;
pub mod reader;
pub mod failed;
pub mod inspect;

pub use entry::Entry;
pub use inventory::ErrorKind;
pub use queue::{Memory, Refusal, Returns};
pub use reader::{Reader, Slot};
pub use segment::SegmentError;

use cursor::Cursor;
use folder::Folder;
use inventory::{Held, Inventory};
use queue::{Awaited, Queue};

/// How a spool is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder of the spools of all clusters.
    pub folder: PathBuf,
    /// Most bytes on disk of one cluster.
    pub bytes_max: u64,
    /// How long what was written may wait for others to share its sync; zero: every group of entries that waits while the disk
    /// syncs the one before is synced next.
    pub sync_interval: Duration,
}

/// Bytes after which another segment is begun: what is settled is freed in pieces of this size.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Most bytes in memory that come from senders and wait for the disk, over the producers' budgets.
const QUEUE_BYTES: u64 = 32 * 1024 * 1024;

impl Settings {
    fn segment_bytes(&self) -> u64 {
        SEGMENT_BYTES.min(self.bytes_max / 8)
    }

    fn queue_bytes(&self) -> u64 {
        QUEUE_BYTES.min(self.bytes_max / 2)
    }
}

/// Why a spool cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SpoolError {
    #[error("cannot {verb} `{}`: {source}", path.display())]
    Disk { verb: &'static str, path: PathBuf, source: io::Error },
    #[error("`{}` belongs to another process; each proxy needs a spool folder of its own", path.display())]
    Locked { path: PathBuf },
    #[error("the spool's thread cannot be started: {0}")]
    Thread(#[source] io::Error),
}

/// A spool did not take an entry.
#[derive(Debug)]
pub struct NotTaken {
    /// Given back, unsettled.
    pub tracked: Box<Tracked>,
    /// Why.
    pub refusal: Refusal,
}

/// The spool of one cluster. Dropping it closes it.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What writer, reader and everybody who offers have in common.
#[derive(Debug)]
struct Shared {
    /// What it is: `spool`, `wal` or `failed`.
    name: &'static str,
    cluster: String,
    folder: Folder,
    settings: Settings,
    queue: Queue,
    inventory: Inventory,
    /// Told by the reader.
    awaited: Awaited,
    trouble: Mutex<Option<Trouble>>,
    /// Set when there is something new to read.
    news: Mutex<bool>,
    news_changed: Condvar,
}

#[derive(Clone, Debug)]
struct Trouble {
    reason: String,
    since: Instant,
}

/// A reading of a spool.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Bytes on disk, and those on their way there.
    pub bytes: u64,
    /// Most of them.
    pub bytes_max: u64,
    /// Bytes of the queue's memory that wait for the disk.
    pub queue_bytes: u64,
    /// Most of them.
    pub queue_bytes_max: u64,
    /// How long ago the oldest event in it was received; none when it is empty.
    pub oldest: Option<Duration>,
    /// Entries written since the start.
    pub written: u64,
    /// Entries refused since the start, by reason.
    pub refused: [(Refusal, u64); Refusal::ALL.len()],
    /// Entries settled since the start.
    pub settled: u64,
    /// Bytes found that are no entries although entries follow them.
    pub damaged_bytes: u64,
    /// Errors of the disk, by kind.
    pub errors: [(ErrorKind, u64); ErrorKind::ALL.len()],
    /// Why it takes nothing at the moment, and for how long that has been so.
    pub trouble: Option<(String, Duration)>,
}

impl Stats {
    /// From 0, empty, to 1, full; 1 as well when the disk does not take anything.
    pub fn fill(&self) -> f64 {
        if self.trouble.is_some() {
            return 1.0;
        }
        self.bytes as f64 / self.bytes_max.max(1) as f64
    }
}

impl Spool {
    /// Opens the spool of a cluster, made where it is missing, and starts its thread. What is found in it comes from the reader,
    /// of which there is one.
    pub fn open(settings: &Settings, cluster: &str) -> Result<(Arc<Spool>, Reader), SpoolError> {
        Spool::open_as("spool", settings, cluster)
    }

    /// [`Spool::open`], under the name that its thread and its log lines have.
    pub fn open_as(name: &'static str, settings: &Settings, cluster: &str) -> Result<(Arc<Spool>, Reader), SpoolError> {
        let folder = Folder::open(&settings.folder, cluster)?;
        let failed = |verb, path: &Path| {
            let path = path.to_owned();
            move |source| SpoolError::Disk { verb, path, source }
        };
        let found = folder::segments(folder.path()).map_err(failed("list", folder.path()))?;
        let damaged = folder::damaged(folder.path()).map_err(failed("list", folder.path()))?;
        let path = folder.cursor();
        let cursor = Cursor::load(&path).unwrap_or_else(|error| {
            let path = path.display();
            error!(cluster, %path, %error, "the spool's cursor is lost, all that is in the spool is produced again");
            Cursor::default()
        });
        let inventory = Inventory::default();
        inventory.used.store(found.iter().chain(&damaged).map(|(_, bytes)| bytes).sum(), Relaxed);
        let held = |&(base, bytes): &(u64, u64)| Held { base, durable: bytes, is_open: false, first_ms: 0 };
        inventory.segments().extend(found.iter().map(held));
        // A number is never given twice: entries of the last segment may be settled, and are then passed over.
        let next_base = found.last().map_or(0, |(base, bytes)| base + bytes).max(cursor.end());
        let salt = uuid::Uuid::new_v4().as_fields().0;
        let shared = Arc::new(Shared {
            name,
            cluster: cluster.to_owned(),
            folder,
            settings: settings.clone(),
            queue: Queue::new(salt, settings.queue_bytes(), settings.bytes_max),
            inventory,
            awaited: Awaited::default(),
            trouble: Mutex::new(None),
            news: Mutex::new(false),
            news_changed: Condvar::new(),
        });
        let writer = writer::start(Arc::clone(&shared), next_base).map_err(SpoolError::Thread)?;
        let reader = Reader::new(Arc::clone(&shared), cursor, next_base);
        Ok((Arc::new(Spool { shared, writer: Mutex::new(Some(writer)) }), reader))
    }

    /// Takes a record, or refuses it at once. The event is settled when its entry is on disk; where the memory is lent, the
    /// lender is told that as well.
    pub fn offer(&self, entry: &Entry<'_>, tracked: Box<Tracked>, memory: Memory<'_>) -> Result<(), NotTaken> {
        let Shared { queue, inventory, .. } = &*self.shared;
        queue.push(entry, tracked, memory, inventory).map_err(|(refusal, tracked)| NotTaken { tracked, refusal })
    }

    /// The cluster that its entries are for.
    pub fn cluster(&self) -> &str {
        &self.shared.cluster
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// What there is to be known of it now.
    pub fn stats(&self) -> Stats {
        let Shared { inventory, settings, queue, .. } = &*self.shared;
        let oldest_ms = u64::try_from(inventory.oldest_ms.load(Relaxed)).unwrap_or(0);
        let oldest = SystemTime::UNIX_EPOCH + Duration::from_millis(oldest_ms);
        let trouble = self.shared.trouble().clone();
        Stats {
            bytes: inventory.used.load(Relaxed),
            bytes_max: settings.bytes_max,
            queue_bytes: queue.own_bytes(),
            queue_bytes_max: settings.queue_bytes(),
            oldest: (oldest_ms > 0).then(|| oldest.elapsed().unwrap_or_default()),
            written: inventory.written.load(Relaxed),
            refused: inventory.refusals(),
            settled: inventory.settled.load(Relaxed),
            damaged_bytes: inventory.damaged_bytes.load(Relaxed),
            errors: inventory.errors(),
            trouble: trouble.map(|trouble| (trouble.reason, trouble.since.elapsed())),
        }
    }

    /// Takes nothing more, writes what it has taken, and ends its thread. Blocks for as long as the disk takes; what the disk
    /// does not take is settled as failed. A second call does nothing.
    pub fn close(&self) {
        self.shared.queue.close();
        let writer = self.writer.lock().expect("no code panics while it holds this lock").take();
        if let Some(Err(_)) = writer.map(JoinHandle::join) {
            error!(cluster = self.cluster(), "the spool's thread panicked");
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// There is something new to read.
    fn tell_reader(&self) {
        *self.news.lock().expect("no code panics while it holds this lock") = true;
        self.news_changed.notify_all();
    }

    /// Waits until there is something new to read, at most so long.
    fn await_news(&self, timeout: Duration) {
        let news = self.news.lock().expect("no code panics while it holds this lock");
        let waited = self.news_changed.wait_timeout_while(news, timeout, |news| !*news);
        *waited.expect("no code panics while it holds this lock").0 = false;
    }

    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().expect("no code panics while it holds this lock")
    }

    /// The disk does not take anything: what is new is refused until it does.
    fn note_trouble(&self, doing: &'static str, error: &io::Error) {
        self.inventory.count_error(error);
        self.queue.set_failing(true);
        let mut trouble = self.trouble();
        let is_new = trouble.is_none();
        let since = trouble.as_ref().map_or_else(Instant::now, |trouble| trouble.since);
        *trouble = Some(Trouble { reason: format!("cannot {doing}: {error}"), since });
        if is_new {
            let (log, cluster, folder) = (self.name, &self.cluster, self.folder.path().display());
            warn!(log, cluster, %folder, doing, %error, "the spool's disk fails, new events are not spooled until it works again");
        }
    }

    fn end_trouble(&self) {
        if let Some(trouble) = self.trouble().take() {
            self.queue.set_failing(false);
            let (log, cluster, seconds) = (self.name, &self.cluster, trouble.since.elapsed().as_secs());
            warn!(log, cluster, seconds, "the spool's disk works again");
        }
    }
}

#[cfg(test)]
mod tests;
