//! The spools and wals of all clusters: opened before the producers, emptied while they run, closed after them. Those of a
//! cluster that the configuration does not have any more go on until the end.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::{Hurry, StartError};
use crate::config::{self, Config};
use crate::outcome::{Balance, Ledger};
use crate::produce::wal::{self, Volume};
use crate::produce::{Destination, Producers, Replay, Rest, Wal, WalSender};
use crate::spool::{self, Reader, Spool, SpoolError, inspect};
use crate::telemetry::health::{Health, SpoolLevel};
use crate::telemetry::sources;

/// How soon a stop sees that the spools and the wals are empty.
const POLL: Duration = Duration::from_millis(10);
/// When nothing of them was delivered for so long, a stop leaves what is on a disk that stays. Longer than a linger, and than a
/// partition without a leader while its brokers are well.
const STUCK: Duration = Duration::from_secs(3);

/// The spools and the wals, one of each a cluster; none when nothing is spooled.
#[derive(Debug, Default)]
pub(super) struct Spools {
    opened: Mutex<Opened>,
    is_ephemeral: bool,
}

#[derive(Debug, Default)]
struct Opened {
    spools: Vec<Arc<Spool>>,
    wals: Vec<Arc<Wal>>,
    replays: Vec<Replay>,
    senders: Vec<WalSender>,
}

impl Opened {
    /// Whether everything in them is delivered.
    fn is_empty(&self) -> bool {
        self.replays.iter().all(Replay::is_empty) && self.senders.iter().all(WalSender::is_empty)
    }

    /// Entries that are done with since the start.
    fn settled(&self) -> u64 {
        let replayed: u64 = self.replays.iter().map(Replay::settled).sum();
        replayed + self.senders.iter().map(WalSender::settled).sum::<u64>()
    }
}

/// What is to be read from the spools and the wals, in the order of the clusters.
pub(super) type Readers = (Vec<Reader>, Vec<Reader>);

impl Spools {
    /// Opens the spool and the wal of every cluster. Nothing is read from them yet.
    pub(super) fn open(config: &Config) -> Result<(Spools, Readers), StartError> {
        let Some(settings) = &config.spool else { return Ok((Spools::default(), Readers::default())) };
        let names = || config.clusters.iter().map(|cluster| cluster.name.as_str());
        let spools = names().map(|name| Spool::open(&settings_of(settings), name)).collect::<Result<Vec<_>, _>>()?;
        let wals = names().map(|name| open_wal(settings, name)).collect::<Result<Vec<_>, _>>()?;
        let (spools, of_spools) = spools.into_iter().unzip();
        let (wals, of_wals) = wals.into_iter().unzip();
        let opened = Mutex::new(Opened { spools, wals, replays: vec![], senders: vec![] });
        Ok((Spools { opened, is_ephemeral: settings.is_ephemeral }, (of_spools, of_wals)))
    }

    pub(super) fn all(&self) -> Vec<Arc<Spool>> {
        self.opened().spools.clone()
    }

    /// Opens the spools and wals of clusters that are new to a configuration, and begins to produce what is in them: of a cluster that was
    /// taken out before, or in an earlier run.
    pub(super) fn add(
        &self,
        config: &Config,
        producers: &Arc<Producers>,
        ledger: &Arc<Ledger>,
    ) -> Result<(), StartError> {
        let Some(settings) = &config.spool else { return Ok(()) };
        for cluster in &config.clusters {
            let mut open = self.opened();
            if open.spools.iter().any(|spool| spool.cluster() == cluster.name) {
                continue;
            }
            let (spool, reader) = Spool::open(&settings_of(settings), &cluster.name)?;
            producers.add_spool(&spool);
            let to =
                Destination { cluster: cluster.clone(), producers: Arc::clone(producers), ledger: Arc::clone(ledger) };
            let (wal, of_wal) = open_wal(settings, &cluster.name)?;
            producers.add_wal(Arc::clone(&wal));
            let replay = Replay::start(Arc::clone(&spool), reader, to.clone());
            let sender = WalSender::start(Arc::clone(&wal), of_wal, to);
            open.spools.push(spool);
            open.wals.push(wal);
            open.replays.push(replay?);
            open.senders.push(sender?);
        }
        Ok(())
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().expect("no code panics while it holds this lock")
    }

    pub(super) fn wals(&self) -> Vec<Arc<Wal>> {
        self.opened().wals.clone()
    }

    /// Spools and wals, with what to call each.
    pub(super) fn logs(&self) -> Vec<(&'static str, Arc<Spool>)> {
        let open = self.opened();
        let spools = open.spools.iter().map(|spool| ("spool", Arc::clone(spool)));
        spools.chain(open.wals.iter().map(|wal| ("wal", Arc::clone(wal.log())))).collect()
    }

    /// Begins to produce what is in them.
    pub(super) fn start(
        &self,
        (of_spools, of_wals): Readers,
        config: &Config,
        producers: &Arc<Producers>,
        ledger: &Arc<Ledger>,
    ) -> Result<(), StartError> {
        let to = |name: &str| {
            let cluster = config.clusters.iter().find(|cluster| cluster.name == name).cloned();
            let cluster = cluster.expect("a spool was opened for each cluster of the configuration");
            Destination { cluster, producers: Arc::clone(producers), ledger: Arc::clone(ledger) }
        };
        let mut open = self.opened();
        for (spool, reader) in open.spools.clone().into_iter().zip(of_spools) {
            let to = to(spool.cluster());
            open.replays.push(Replay::start(spool, reader, to)?);
        }
        for (wal, reader) in open.wals.clone().into_iter().zip(of_wals) {
            let to = to(wal.log().cluster());
            open.senders.push(WalSender::start(wal, reader, to)?);
        }
        Ok(())
    }

    /// Produces nothing more. What waits is given a chance before, until then or until there is a hurry: all of it where the disk
    /// goes with the process, else for as long as some of it is delivered.
    pub(super) fn stop_replays(&self, until: Instant, hurry: &Hurry) -> Vec<Rest> {
        let mut open = self.opened();
        let is_time = || Instant::now() < until && !hurry.is_told();
        let (mut settled, mut moved) = (0, Instant::now());
        while is_time() && !open.is_empty() {
            let so_far = open.settled();
            if std::mem::replace(&mut settled, so_far) != so_far {
                moved = Instant::now();
            } else if moved.elapsed() > STUCK && !self.is_ephemeral {
                break;
            }
            std::thread::sleep(POLL);
        }
        let mut rests: Vec<_> = open.replays.drain(..).filter_map(Replay::stop).collect();
        rests.extend(open.senders.drain(..).filter_map(WalSender::stop));
        rests
    }

    /// Writes what is still in memory and the cursors. To be called when no delivery report can come any more.
    pub(super) fn close(&self, rests: Vec<Rest>) {
        self.logs().iter().for_each(|(_, log)| log.close());
        rests.into_iter().for_each(Rest::finish);
    }

    /// Says what is left on disk.
    pub(super) fn report(&self, balance: &Balance) {
        let events = balance.in_spool;
        if events > 0 && self.is_ephemeral {
            error!(events, "events are left in a spool that is ephemeral; keep its folder, or they are lost with it");
        } else if events > 0 {
            info!(events, "events are left in the spool; the next start delivers them, or `iguazu spool drain`");
        }
    }
}

/// Opens the wal of a cluster.
fn open_wal(settings: &config::Spool, cluster: &str) -> Result<(Arc<Wal>, Reader), SpoolError> {
    let of_wal = spool::Settings { folder: wal::folder(&settings.folder), ..settings_of(settings) };
    let (log, reader) = Spool::open_as("wal", &of_wal, cluster)?;
    let volume = if settings.is_ephemeral { Volume::Ephemeral } else { Volume::Lasting };
    Ok((Arc::new(Wal::new(log, volume)), reader))
}

/// The settings of a spool.
pub fn settings_of(settings: &config::Spool) -> spool::Settings {
    let config::Spool { folder, bytes_max, sync_interval, .. } = settings.clone();
    spool::Settings { folder, bytes_max, sync_interval }
}

/// Shows what waits for clusters that the configuration does not have.
pub(super) fn note_strangers(config: &Config, health: &Health) {
    let Some(settings) = &config.spool else { return };
    for cluster in &config.clusters {
        for root in [settings.folder.clone(), wal::folder(&settings.folder)] {
            health.clear_condition(&condition_of(&inspect::folder_of(&root, &cluster.name)));
        }
    }
    let known = config.clusters.iter().map(|cluster| cluster.name.as_str());
    let wals = wal::folder(&settings.folder);
    let strangers = inspect::strangers(&settings.folder, known.clone()).unwrap_or_default();
    let strangers = strangers.into_iter().chain(inspect::strangers(&wals, known).unwrap_or_default());
    for folder in strangers {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        warn!(folder = %name, "the spool holds events of a cluster that is not configured");
        let what = "it holds events of a cluster that is not configured; `iguazu spool ls` says of which";
        health.set_condition(&condition_of(&folder), what);
    }
}

/// Under which name `/ready` shows a folder of a cluster that is not configured.
fn condition_of(folder: &Path) -> String {
    format!("spool folder {}", folder.file_name().unwrap_or_default().to_string_lossy())
}

/// How full they are, for `/ready`.
pub(super) fn levels(logs: &[(&'static str, Arc<Spool>)]) -> Vec<SpoolLevel> {
    let level = |(log, spool): &(&'static str, Arc<Spool>)| {
        let stats = spool.stats();
        SpoolLevel { cluster: spool.cluster().to_owned(), log, fill: stats.fill(), trouble: stats.trouble }
    };
    logs.iter().map(level).collect()
}

/// What one shows of itself, for `/metrics`.
pub(super) fn reading<'s>(log: &'static str, spool: &'s Spool) -> sources::Spool<'s> {
    let stats = spool.stats();
    sources::Spool {
        cluster: spool.cluster(),
        log,
        bytes: stats.bytes,
        bytes_max: stats.bytes_max,
        queue_bytes: stats.queue_bytes,
        oldest: stats.oldest,
        is_failing: stats.trouble.is_some(),
        written: stats.written,
        refused: stats.refused.map(|(refusal, count)| (refusal.as_str(), count)).to_vec(),
        settled: stats.settled,
        errors: stats.errors.map(|(kind, count)| (kind.as_str(), count)).to_vec(),
        damaged_bytes: stats.damaged_bytes,
    }
}
