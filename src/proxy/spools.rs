//! The spools of all clusters: opened before the producers, emptied while they run, closed after them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::StartError;
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
    spools: Vec<Arc<Spool>>,
    replays: Vec<Replay>,
    is_ephemeral: bool,
}

impl Spools {
    /// Opens the spool of every cluster. Nothing is read from them yet.
    pub(super) fn open(config: &Config) -> Result<(Spools, Vec<Reader>), StartError> {
        let Some(settings) = &config.spool else { return Ok((Spools::default(), vec![])) };
        let names = config.clusters.iter().map(|cluster| cluster.name.as_str());
        let opened = names.map(|name| Spool::open(&settings_of(settings), name));
        let (spools, readers) = opened.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        Ok((Spools { spools, replays: vec![], is_ephemeral: settings.is_ephemeral }, readers))
    }

    pub(super) fn all(&self) -> &[Arc<Spool>] {
        &self.spools
    }

    /// Begins to produce what is in them.
    pub(super) fn start(
        &mut self,
        readers: Vec<Reader>,
        config: &Config,
        producers: &Arc<Producers>,
        ledger: &Arc<Ledger>,
    ) -> Result<(), StartError> {
        for (spool, reader) in self.spools.iter().zip(readers) {
            let cluster = config.clusters.iter().find(|cluster| cluster.name == spool.cluster()).cloned();
            let cluster = cluster.expect("a spool was opened for each cluster of the configuration");
            let to = Destination { cluster, producers: Arc::clone(producers), ledger: Arc::clone(ledger) };
            self.replays.push(Replay::start(Arc::clone(spool), reader, to)?);
        }
        Ok(())
    }

    /// Produces nothing more. What goes with the process is given a chance before, until then.
    pub(super) fn stop_replays(&mut self, until: Instant) -> Vec<Rest> {
        while self.is_ephemeral && Instant::now() < until && !self.replays.iter().all(Replay::is_empty) {
            std::thread::sleep(POLL);
        }
        self.replays.drain(..).filter_map(Replay::stop).collect()
    }

    /// Writes what is still in memory and the cursors. To be called when no delivery report can come any more.
    pub(super) fn close(&self, rests: Vec<Rest>) {
        self.spools.iter().for_each(|spool| spool.close());
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
    let known = config.clusters.iter().map(|cluster| cluster.name.as_str());
    for folder in inspect::strangers(&settings.folder, known).unwrap_or_default() {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        warn!(folder = %name, "the spool holds events of a cluster that is not configured");
        let what = "it holds events of a cluster that is not configured; `iguazu spool ls` says of which";
        health.set_condition(&format!("spool folder {name}"), what);
    }
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
