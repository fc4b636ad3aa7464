//! The spools of all clusters: opened before the producers, emptied while they run, closed after them. One of a cluster that the
//! configuration does not have any more goes on until the end.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::{Hurry, StartError};
use crate::config::{self, Config};
use crate::outcome::{Balance, Ledger};
use crate::produce::{Destination, Producers, Replay, Rest};
use crate::spool::{self, Reader, Spool, inspect};
use crate::telemetry::health::{Health, SpoolLevel};
use crate::telemetry::sources;

/// How soon a stop sees that an ephemeral spool is empty.
const POLL: Duration = Duration::from_millis(10);

/// The spools, one a cluster; none when nothing is spooled.
#[derive(Debug, Default)]
pub(super) struct Spools {
    opened: Mutex<Opened>,
    is_ephemeral: bool,
}

#[derive(Debug, Default)]
struct Opened {
    spools: Vec<Arc<Spool>>,
    replays: Vec<Replay>,
}

impl Spools {
    /// Opens the spool of every cluster. Nothing is read from them yet.
    pub(super) fn open(config: &Config) -> Result<(Spools, Vec<Reader>), StartError> {
        let Some(settings) = &config.spool else { return Ok((Spools::default(), vec![])) };
        let names = config.clusters.iter().map(|cluster| cluster.name.as_str());
        let opened = names.map(|name| Spool::open(&settings_of(settings), name));
        let (spools, readers) = opened.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let opened = Mutex::new(Opened { spools, replays: vec![] });
        Ok((Spools { opened, is_ephemeral: settings.is_ephemeral }, readers))
    }

    pub(super) fn all(&self) -> Vec<Arc<Spool>> {
        self.opened().spools.clone()
    }

    /// Opens the spools of clusters that are new to a configuration, and begins to produce what is in them: of a cluster that was
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
            let replay = Replay::start(Arc::clone(&spool), reader, to);
            open.spools.push(spool);
            open.replays.push(replay?);
        }
        Ok(())
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().expect("no code panics while it holds this lock")
    }

    /// Begins to produce what is in them.
    pub(super) fn start(
        &self,
        readers: Vec<Reader>,
        config: &Config,
        producers: &Arc<Producers>,
        ledger: &Arc<Ledger>,
    ) -> Result<(), StartError> {
        let mut open = self.opened();
        for (spool, reader) in open.spools.clone().into_iter().zip(readers) {
            let cluster = config.clusters.iter().find(|cluster| cluster.name == spool.cluster()).cloned();
            let cluster = cluster.expect("a spool was opened for each cluster of the configuration");
            let to = Destination { cluster, producers: Arc::clone(producers), ledger: Arc::clone(ledger) };
            open.replays.push(Replay::start(spool, reader, to)?);
        }
        Ok(())
    }

    /// Produces nothing more. What goes with the process is given a chance before, until then or until there is a hurry.
    pub(super) fn stop_replays(&self, until: Instant, hurry: &Hurry) -> Vec<Rest> {
        let mut open = self.opened();
        let is_time = || Instant::now() < until && !hurry.is_told();
        while self.is_ephemeral && is_time() && !open.replays.iter().all(Replay::is_empty) {
            std::thread::sleep(POLL);
        }
        open.replays.drain(..).filter_map(Replay::stop).collect()
    }

    /// Writes what is still in memory and the cursors. To be called when no delivery report can come any more.
    pub(super) fn close(&self, rests: Vec<Rest>) {
        self.all().iter().for_each(|spool| spool.close());
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

/// The settings of a spool.
pub fn settings_of(settings: &config::Spool) -> spool::Settings {
    let config::Spool { folder, bytes_max, sync_interval, .. } = settings.clone();
    spool::Settings { folder, bytes_max, sync_interval }
}

/// Shows what waits for clusters that the configuration does not have.
pub(super) fn note_strangers(config: &Config, health: &Health) {
    let Some(settings) = &config.spool else { return };
    for cluster in &config.clusters {
        health.clear_condition(&condition_of(&inspect::folder_of(&settings.folder, &cluster.name)));
    }
    let known = config.clusters.iter().map(|cluster| cluster.name.as_str());
    for folder in inspect::strangers(&settings.folder, known).unwrap_or_default() {
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
pub(super) fn levels(spools: &[Arc<Spool>]) -> Vec<SpoolLevel> {
    let level = |spool: &Arc<Spool>| {
        let stats = spool.stats();
        SpoolLevel { cluster: spool.cluster().to_owned(), fill: stats.fill(), trouble: stats.trouble }
    };
    spools.iter().map(level).collect()
}

/// What one shows of itself, for `/metrics`.
pub(super) fn reading(spool: &Spool) -> sources::Spool<'_> {
    let stats = spool.stats();
    sources::Spool {
        cluster: spool.cluster(),
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
