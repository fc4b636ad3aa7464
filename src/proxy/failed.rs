//! The failed logs of all clusters: opened before the producers, looked after while they run, closed after them.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::warn;

use super::StartError;
use crate::config::{self, Config};
use crate::produce::Producers;
use crate::spool::{self, Spool, failed};
use crate::telemetry::health::Health;

/// How soon it shows that a redrive took something back.
const TIDY_EVERY: Duration = Duration::from_secs(2);

/// The failed logs, one a cluster; none where nothing is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct FailedLogs {
    settings: Option<config::Failed>,
    logs: Arc<Mutex<Vec<Arc<Spool>>>>,
}

impl FailedLogs {
    /// Opens the log of every cluster and lets its producers keep there what they give up. A folder that nobody named stops
    /// nothing: what is given up is then counted only, and `/ready` says so.
    pub(super) fn open(config: &Config, producers: &Producers, health: &Health) -> Result<FailedLogs, StartError> {
        let logs = FailedLogs { settings: config.failed.clone(), logs: Arc::default() };
        logs.add(config, producers, health)?;
        Ok(logs)
    }

    /// The same for clusters that are new to a configuration.
    pub(super) fn add(&self, config: &Config, producers: &Producers, health: &Health) -> Result<(), StartError> {
        let Some(settings) = &self.settings else { return Ok(()) };
        for cluster in &config.clusters {
            let mut logs = self.logs();
            if logs.iter().any(|log| log.cluster() == cluster.name) {
                continue;
            }
            match failed::open(&settings_of(settings), &cluster.name) {
                Ok(log) => {
                    producers.keeper(&cluster.name).keep_in(&log);
                    logs.push(log);
                }
                Err(error) if settings.is_named => return Err(error.into()),
                Err(error) => {
                    warn!(cluster = cluster.name, %error, "there is no failed log, what is given up is counted only");
                    let reason =
                        "its folder cannot be used, so what is given up is counted only; name one in `failed.folder`";
                    health.set_condition(&name_of(&cluster.name), reason);
                }
            }
        }
        Ok(())
    }

    pub(super) fn all(&self) -> Vec<Arc<Spool>> {
        self.logs().clone()
    }

    fn logs(&self) -> MutexGuard<'_, Vec<Arc<Spool>>> {
        self.logs.lock().expect("no code panics while it holds this lock")
    }

    /// Removes what a redrive took back, and shows what is wrong, until it is aborted.
    pub(super) async fn look_after(self, health: Arc<Health>) {
        if self.settings.is_none() {
            return;
        }
        let mut due = tokio::time::interval(TIDY_EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            let (logs, health) = (self.all(), Arc::clone(&health));
            // The files are the disk's, which may hang. Nothing is left half done when this ends with the process.
            let looked = tokio::task::spawn_blocking(move || logs.iter().for_each(|log| look(log, &health)));
            if looked.await.is_err() {
                return;
            }
        }
    }

    /// Writes what is still in memory. To be called when nothing is given up any more.
    pub(super) fn close(&self) {
        self.all().iter().for_each(|log| log.close());
    }
}

fn look(log: &Spool, health: &Health) {
    let tidied = failed::tidy(log);
    let (name, stats) = (name_of(log.cluster()), log.stats());
    match (tidied, stats.trouble) {
        (_, Some((reason, _))) => health.set_condition(&name, &format!("its disk takes nothing: {reason}")),
        (Err(error), _) => health.set_condition(&name, &format!("what was taken back cannot be removed: {error}")),
        (Ok(()), None) if stats.bytes >= stats.bytes_max / 10 * 9 => {
            let reason = "it is nearly full (`failed.bytes_max`), what is given up then is counted only; `iguazu redrive` empties it";
            health.set_condition(&name, reason);
        }
        (Ok(()), None) => health.clear_condition(&name),
    }
}

fn name_of(cluster: &str) -> String {
    format!("failed log of {cluster}")
}

fn settings_of(settings: &config::Failed) -> spool::Settings {
    let config::Failed { folder, bytes_max, .. } = settings.clone();
    spool::Settings { folder, bytes_max, sync_interval: Duration::ZERO }
}
