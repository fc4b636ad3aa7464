//! The spools and wals of all clusters: opened before the producers, emptied while they run, closed after them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::StartError;
use crate::config::{self, Config};
use crate::outcome::{Balance, Ledger};
use crate::produce::wal::{self, Volume};
use crate::produce::{Destination, Producers, Replay, Rest, Wal, WalSender};
use crate::spool::{self, Reader, Spool, inspect};
use crate::telemetry::health::{Health, SpoolLevel};
use crate::telemetry::sources;

/// How soon a stop sees that an ephemeral spool or a wal is empty.
const POLL: Duration = Duration::from_millis(10);
/// A wal that has delivered nothing for so long is left as it is by a stop.
const STUCK: Duration = Duration::from_secs(1);

/// The spools and the wals, one of each a cluster; none when nothing is spooled.
#[derive(Debug, Default)]
pub(super) struct Spools {
    spools: Vec<Arc<Spool>>,
    wals: Vec<Arc<Wal>>,
    replays: Vec<Replay>,
    senders: Vec<WalSender>,
    is_ephemeral: bool,
}

/// What is to be read from the spools and the wals, in the order of the clusters.
pub(super) type Readers = (Vec<Reader>, Vec<Reader>);

impl Spools {
    /// Opens the spool and the wal of every cluster. Nothing is read from them yet.
    pub(super) fn open(config: &Config) -> Result<(Spools, Readers), StartError> {
        let Some(settings) = &config.spool else { return Ok((Spools::default(), Readers::default())) };
        let of_spool = settings_of(settings);
        let of_wal = spool::Settings { folder: wal::folder(&settings.folder), ..of_spool.clone() };
        let open = |log, settings: &spool::Settings| {
            let names = config.clusters.iter().map(|cluster| cluster.name.as_str());
            names.map(|name| Spool::open_as(log, settings, name)).collect::<Result<Vec<_>, _>>()
        };
        let (spools, of_spools) = open("spool", &of_spool)?.into_iter().unzip();
        let (logs, of_wals): (Vec<_>, _) = open("wal", &of_wal)?.into_iter().unzip();
        let volume = if settings.is_ephemeral { Volume::Ephemeral } else { Volume::Lasting };
        let wals = logs.into_iter().map(|log| Arc::new(Wal::new(log, volume))).collect();
        let is_ephemeral = settings.is_ephemeral;
        Ok((Spools { spools, wals, replays: vec![], senders: vec![], is_ephemeral }, (of_spools, of_wals)))
    }

    pub(super) fn all(&self) -> &[Arc<Spool>] {
        &self.spools
    }

    pub(super) fn wals(&self) -> &[Arc<Wal>] {
        &self.wals
    }

    /// Begins to produce what is in them.
    pub(super) fn start(
        &mut self,
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
        for (spool, reader) in self.spools.iter().zip(of_spools) {
            self.replays.push(Replay::start(Arc::clone(spool), reader, to(spool.cluster()))?);
        }
        for (wal, reader) in self.wals.iter().zip(of_wals) {
            self.senders.push(WalSender::start(Arc::clone(wal), reader, to(wal.log().cluster()))?);
        }
        Ok(())
    }

    /// Produces nothing more. What goes with the process, and a wal that is being delivered, are given a chance before, until
    /// then.
    pub(super) fn stop_replays(&mut self, until: Instant) -> Vec<Rest> {
        while self.is_ephemeral && Instant::now() < until && !self.replays.iter().all(Replay::is_empty) {
            std::thread::sleep(POLL);
        }
        let (mut settled, mut moved) = (0, Instant::now());
        while Instant::now() < until && !self.senders.iter().all(WalSender::is_empty) {
            let so_far = self.senders.iter().map(WalSender::settled).sum();
            if std::mem::replace(&mut settled, so_far) != so_far {
                moved = Instant::now();
            } else if moved.elapsed() > STUCK && !self.is_ephemeral {
                break;
            }
            std::thread::sleep(POLL);
        }
        let replays = self.replays.drain(..).filter_map(Replay::stop);
        replays.chain(self.senders.drain(..).filter_map(WalSender::stop)).collect()
    }

    /// Writes what is still in memory and the cursors. To be called when no delivery report can come any more.
    pub(super) fn close(&self, rests: Vec<Rest>) {
        self.spools.iter().for_each(|spool| spool.close());
        self.wals.iter().for_each(|wal| wal.log().close());
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
    let wals = wal::folder(&settings.folder);
    let strangers = inspect::strangers(&settings.folder, known.clone()).unwrap_or_default();
    let strangers = strangers.into_iter().chain(inspect::strangers(&wals, known).unwrap_or_default());
    for folder in strangers {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        warn!(folder = %name, "the spool holds events of a cluster that is not configured");
        let what = "it holds events of a cluster that is not configured; `iguazu spool ls` says of which";
        health.set_condition(&format!("spool folder {name}"), what);
    }
}

/// How full they are, for `/ready`.
pub(super) fn levels<'s>(logs: impl Iterator<Item = (&'static str, &'s Spool)>) -> Vec<SpoolLevel> {
    let level = |(log, spool): (&'static str, &Spool)| {
        let stats = spool.stats();
        SpoolLevel { cluster: spool.cluster().to_owned(), log, fill: stats.fill(), trouble: stats.trouble }
    };
    logs.map(level).collect()
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
