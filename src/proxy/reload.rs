//! The configuration in force, and how another one takes its place while the proxy runs.
//!
//! In: the configuration's file, when a signal asks for it or when it or a file that it names has changed; and what a control plane
//! pushes, where event types come from one. Out: the proxy runs by what they say now, or goes on as before and says all that is wrong: in the log, on `/ready`, in
//! `iguazu_config_reloads_total`. Never: takes a part of a configuration, drops an event, or waits for a broker or registry.
//!
//! Files are compared by content once a second: time stamps do not tell of a link that leads elsewhere now, by which Kubernetes
//! replaces what is mounted, and there is nothing to be told by on network file systems. What has just changed is looked at
//! once more before it is read, so that a file that is being written is not taken for whole.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::failed::FailedLogs;
use super::loader;
use super::spools::{self, Spools};
use crate::config::{self, Accepted, Config, Files, Problem, Routes};
use crate::feed::control::{NoteInForce, Pushed};
use crate::feed::{Adopt, Loaders};
use crate::pipeline::Pipeline;
use crate::produce::{Producers, settings};
use crate::serve::{self, Encryption};
use crate::telemetry::certificates::{self, Expiry};
use crate::telemetry::health::Health;
use crate::telemetry::sources;

/// How often the files are compared. What changed is in force within twice this and a little.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Under which name `/ready` shows that a configuration was refused.
const CONDITION: &str = "config";

/// The configuration that the proxy runs by.
#[derive(Debug)]
pub(super) struct InForce {
    parts: ArcSwap<Parts>,
    applied: AtomicU64,
    refused: AtomicU64,
}

/// A configuration and what was made from it.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) config: Arc<Config>,
    pub(super) loaders: Loaders,
    /// When its certificates end.
    pub(super) certificates: Vec<Expiry>,
    since: Instant,
}

impl Parts {
    fn new(config: Arc<Config>, loaders: Loaders) -> Parts {
        Parts { certificates: certificates::of_proxy(&config), config, loaders, since: Instant::now() }
    }
}

impl InForce {
    pub(super) fn new(config: Arc<Config>, loaders: Loaders) -> InForce {
        let parts = Parts::new(config, loaders);
        InForce { parts: ArcSwap::from_pointee(parts), applied: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    pub(super) fn parts(&self) -> Arc<Parts> {
        self.parts.load_full()
    }

    pub(super) fn reading(&self) -> sources::Config {
        let parts = self.parts();
        sources::Config {
            applied: self.applied.load(Relaxed),
            refused: self.refused.load(Relaxed),
            age: parts.since.elapsed(),
            fingerprint: parts.config.files.fingerprint(),
        }
    }
}

/// Puts other configurations in force.
#[derive(Debug)]
pub(super) struct Reloader {
    /// The configuration's file; none when it is not from one.
    pub(super) file: Option<PathBuf>,
    /// What that said last, before any routes were put into it.
    pub(super) base: ArcSwap<Config>,
    pub(super) pushed: Option<Source>,
    pub(super) in_force: Arc<InForce>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) producers: Arc<Producers>,
    pub(super) spools: Arc<Spools>,
    pub(super) failed: FailedLogs,
    pub(super) health: Arc<Health>,
    pub(super) encryption: Option<Encryption>,
    pub(super) feed: mpsc::Sender<Adopt>,
}

/// The control plane that routes come from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) pushed: Arc<Pushed>,
    pub(super) news: watch::Receiver<Option<Arc<Accepted>>>,
    /// Told how it is reached, as soon as the file says otherwise.
    pub(super) routes: watch::Sender<Arc<Routes>>,
}

/// A configuration that can be put in force: what of it could fail was done.
struct Prepared {
    /// What the file said; none if only routes are new.
    base: Option<Arc<Config>>,
    config: Arc<Config>,
    loaders: Loaders,
    certificate: Option<Arc<ServerConfig>>,
    note: Option<NoteInForce>,
}

enum Due {
    /// The files are compared.
    Look,
    /// The file is read, changed or not.
    Read,
    /// There are other routes, or a key in them has ended.
    Routes,
}

impl Reloader {
    /// Looks at the files until it is told to stop. `asked` is a signal that they are to be read whether they changed or not.
    pub(super) async fn run(self, mut asked: mpsc::Receiver<()>, stop: CancellationToken) {
        let reloader = Arc::new(self);
        // As they were when they were read last, whether that was taken or refused.
        let mut known = reloader.base.load().files.clone();
        let mut news = reloader.pushed.as_ref().map(|source| source.news.clone());
        let mut seen: Option<Files> = None;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = asked.recv() => Due::Read,
                () = next_news(&mut news) => Due::Routes,
                () = reloader.next_expiry() => Due::Routes,
                _ = look.tick(), if reloader.file.is_some() => Due::Look,
            };
            let is_asked = match due {
                Due::Routes => {
                    reloader.renew_routes().await;
                    continue;
                }
                Due::Read => true,
                Due::Look => false,
            };
            let again = {
                let known = known.clone();
                task::spawn_blocking(move || known.read_again()).await
            };
            let Ok(now) = again else { continue };
            if !is_asked && (now == known || seen.as_ref() != Some(&now)) {
                seen = (now != known).then_some(now);
                continue;
            }
            seen = None;
            known = reloader.reload().await;
        }
    }

    /// Reads the file and puts it in force, or says what is wrong. The files that were read.
    async fn reload(self: &Arc<Self>) -> Files {
        let reloader = Arc::clone(self);
        let Ok((prepared, files)) = task::spawn_blocking(move || reloader.prepare()).await else {
            // A bug of ours, which the panic hook has logged.
            return self.in_force.parts().config.files.clone();
        };
        match prepared {
            Ok(prepared) => self.put_in_force(prepared).await,
            Err(problems) => self.refuse(&problems),
        }
        // Those of the one in force too: the file that is missing may be one of them.
        files.and(&self.in_force.parts().config.files.read_again())
    }

    /// Everything that can fail, before anything is changed. Blocking.
    fn prepare(&self) -> (Result<Prepared, Vec<Problem>>, Files) {
        let Some(file) = &self.file else { return (Err(vec![]), Files::default()) };
        let (loaded, files) = config::load_with_files(file);
        (loaded.and_then(|next| self.prepare_parts(next)), files)
    }

    fn prepare_parts(&self, base: Config) -> Result<Prepared, Vec<Problem>> {
        let (next, note) = self.with_routes(&base);
        let parts = self.in_force.parts();
        let now = &*parts.config;
        let mut problems = config::restarts_for(now, &next);
        let mut refuse = |key: String, error: &dyn std::error::Error| {
            problems.push(Problem { line: 0, key, message: error.to_string() });
        };
        let certificate =
            next.http.tls.as_ref().and_then(|files| {
                serve::encryption(files).inspect_err(|error| refuse("http.tls".to_owned(), error)).ok()
            });
        let mut loaders = Loaders::new();
        for registry in &next.registries {
            let name = &registry.name;
            let kept = parts.loaders.get(name).filter(|_| !config::is_changed_registry(now, &next, name)).cloned();
            match kept.map_or_else(|| loader(registry, &next), Ok) {
                Ok(loader) => drop(loaders.insert(name.clone(), loader)),
                Err(error) => refuse(format!("registries.{name}"), &error),
            }
        }
        for cluster in &next.clusters {
            let name = &cluster.name;
            let is_new = now.clusters.iter().all(|known| known.name != *name);
            if (is_new || config::is_changed_cluster(now, &next, name))
                && let Err(error) = settings::try_out(cluster)
            {
                refuse(format!("clusters.{name}"), &error);
            }
        }
        if problems.is_empty()
            && let Err(error) = self
                .failed
                .add(&next, &self.producers, &self.health)
                .and_then(|()| self.spools.add(&next, &self.producers, self.pipeline.ledger()))
        {
            problems.push(Problem { line: 0, key: "spool".to_owned(), message: error.to_string() });
        }
        match problems.is_empty() {
            true => Ok(Prepared { base: Some(Arc::new(base)), config: Arc::new(next), loaders, certificate, note }),
            false => Err(problems),
        }
    }

    /// A file's configuration with the routes that are pushed.
    fn with_routes(&self, base: &Config) -> (Config, Option<NoteInForce>) {
        // One that takes its routes from elsewhere is refused: that needs a restart.
        let source = self.pushed.as_ref().filter(|_| base.routes.is_some());
        let Some(source) = source else { return (base.clone(), None) };
        let (config, note) = source.pushed.merge(base);
        (config, Some(note))
    }

    /// Puts the routes of now in force. Nothing of it can fail: clusters, registries and listeners stay as they are.
    async fn renew_routes(self: &Arc<Self>) {
        let reloader = Arc::clone(self);
        let merged = task::spawn_blocking(move || reloader.with_routes(&reloader.base.load()));
        // A bug of ours, which the panic hook has logged.
        let Ok((config, note)) = merged.await else { return };
        let loaders = self.in_force.parts().loaders.clone();
        self.put_in_force(Prepared { base: None, config: Arc::new(config), loaders, certificate: None, note }).await;
    }

    /// Waits until a key that is in force ends.
    async fn next_expiry(&self) {
        match self.pushed.as_ref().and_then(|source| source.pushed.next_expiry()) {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    }

    async fn put_in_force(&self, Prepared { base, config, loaders, certificate, note }: Prepared) {
        for problem in config.warnings.iter().filter(|_| base.is_some()) {
            warn!(%problem, "configuration");
        }
        let (done, adopted) = oneshot::channel();
        let adopt = Adopt { config: Arc::clone(&config), loaders: loaders.clone(), done };
        if self.feed.send(adopt).await.is_err() || adopted.await.is_err() {
            // The proxy is stopping, and its feed has.
            return;
        }
        if let (Some(encryption), Some(certificate)) = (&self.encryption, certificate) {
            encryption.renew(certificate);
        }
        let (events, clusters) = (config.events.len(), config.clusters.len());
        let since = if base.is_some() { Instant::now() } else { self.in_force.parts().since };
        self.in_force.parts.store(Arc::new(Parts { since, ..Parts::new(Arc::clone(&config), loaders) }));
        if let (Some(source), Some(note)) = (&self.pushed, note) {
            task::block_in_place(|| source.pushed.note_in_force(note));
        }
        let Some(base) = base else { return };
        spools::note_strangers(&config, &self.health);
        if let (Some(source), Some(routes)) = (&self.pushed, &base.routes)
            && **source.routes.borrow() != *routes
        {
            source.routes.send_replace(Arc::new(routes.clone()));
        }
        self.base.store(base);
        self.health.clear_condition(CONDITION);
        // Last: whoever waits for it finds the rest done.
        self.in_force.applied.fetch_add(1, Relaxed);
        info!(events, clusters, "the configuration was read again and is in force");
    }

    fn refuse(&self, problems: &[Problem]) {
        for problem in problems {
            warn!(%problem, "configuration refused");
        }
        let file = self.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        let count = problems.len();
        warn!(file, problems = count, "the configuration is not taken, the one before stays in force");
        let listed: Vec<_> = problems.iter().map(Problem::to_string).collect();
        let reason = format!("refused, the one before stays in force: {}", listed.join("; "));
        self.health.set_condition(CONDITION, &reason);
        self.in_force.refused.fetch_add(1, Relaxed);
    }
}

/// Waits for other routes; for ever where none are pushed.
async fn next_news(news: &mut Option<watch::Receiver<Option<Arc<Accepted>>>>) {
    if let Some(news) = news
        && news.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
