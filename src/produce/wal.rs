//! The wal of a cluster: event types that are `ordered` or `durable` are on disk before they are produced.
//!
//! In: records of the lane `wal`. Out: entries in a log of their own, in the order in which they were taken, from which
//! [`WalSender`](super::WalSender) produces them. Never: waits, lets a record pass by the log, or says that it took one which it
//! did not.
//!
//! The log is kept as a spool is, in a folder beside it: what waits there for a cluster that is down must not come between.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::{Client, Record, Refused};
use crate::outcome::{Code, Tracked};
use crate::route::Lane;
use crate::spool::{Entry, Memory, NotTaken, Refusal, Spool};

/// The folder of the wals of all clusters, in the spools' folder.
pub fn folder(spools: &Path) -> PathBuf {
    spools.join("wal")
}

/// Whether what is on this disk outlives the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// It does.
    Lasting,
    /// It goes with the pod: no reply may be called durable.
    Ephemeral,
}

/// The wal of one cluster.
#[derive(Debug)]
pub struct Wal {
    log: Arc<Spool>,
    volume: Volume,
    /// Topics of which no more is taken: they take nothing while others do, and enough of theirs waits.
    held_back: Mutex<BTreeSet<String>>,
    /// Whether there are any.
    holds_back: AtomicBool,
}

impl Wal {
    /// The wal whose log this is.
    pub fn new(log: Arc<Spool>, volume: Volume) -> Wal {
        Wal { log, volume, held_back: Mutex::default(), holds_back: AtomicBool::new(false) }
    }

    /// Its log.
    pub fn log(&self) -> &Arc<Spool> {
        &self.log
    }

    /// Whether an event on its disk may be called durable.
    pub fn offers_durable(&self) -> bool {
        self.volume == Volume::Lasting
    }

    /// Takes no more of these topics from now on, and of all others.
    pub(super) fn hold_back(&self, topics: BTreeSet<String>) {
        self.holds_back.store(!topics.is_empty(), Relaxed);
        *self.held_back.lock().expect("no code panics while it holds this lock") = topics;
    }

    fn is_held_back(&self, topic: &str) -> bool {
        let topics = || self.held_back.lock().expect("no code panics while it holds this lock");
        self.holds_back.load(Relaxed) && topics().contains(topic)
    }
}

impl Client {
    /// Appends a record to the wal, from which it is produced later, or refuses it at once.
    pub(super) fn append(
        &self,
        wal: &Wal,
        topic: &str,
        record: &Record<'_>,
        tracked: Box<Tracked>,
    ) -> Result<(), Refused> {
        if record.batch_bytes() > self.message_bytes_max() {
            return Err(self.refuse_too_large(record, tracked));
        }
        if wal.is_held_back(topic) {
            let message = "its topic takes nothing now, and enough of its events wait on disk".to_owned();
            return Err(Refused { tracked, code: Code::EventTypeUnavailable, message });
        }
        let account = Arc::clone(tracked.account());
        let Record { key, value, headers, timestamp_ms } = *record;
        let (event, lane) = (&*account.event, Lane::Wal);
        let entry = Entry { event, topic, lane, partition: None, tried: false, timestamp_ms, key, headers, value };
        let taken = wal.log.offer(&entry, tracked, Memory::Queue);
        taken.map_err(|not_taken| self.refuse_unwritten(not_taken))
    }

    #[cold]
    fn refuse_unwritten(&self, NotTaken { tracked, refusal }: NotTaken) -> Refused {
        let (code, what) = match refusal {
            Refusal::Full => (Code::DiskUnavailable, "the wal has as many bytes as it may (`spool.bytes_max`)"),
            Refusal::Failing => (Code::DiskUnavailable, "the wal's disk takes nothing now"),
            Refusal::Behind => (Code::BufferFull, "the wal's disk is behind"),
            Refusal::TooLarge => (Code::EventTooLarge, "the record is too large for the wal"),
            Refusal::Closed => (Code::EventTypeUnavailable, "the wal is closed, the proxy is stopping"),
        };
        Refused { tracked, code, message: format!("cluster `{}`: {what}", self.cluster()) }
    }
}
