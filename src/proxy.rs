//! The data plane put together: a checked configuration in, listeners that serve out; and its end, in order.
//!
//! Start: producers and registries (nothing waits for them), admin listener, workers and doors, feed. Stop: no longer ready, a while as before,
//! then accept what is queued and no more, finish the requests, stop the feed, flush the producers, spool what is left, report the ledger. Never:
//! decides anything about an event.
//!
//! Threads: one current-thread runtime a worker for the path of events; one small multi-thread runtime (`control`) for the
//! admin listener, the feed and the registries; one poll thread a producer client; one thread a cluster's breaker.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, header};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{self, Config};
use crate::feed::control::{Follower, Pushed};
use crate::feed::{Feed, Loaders};
use crate::http::Doors;
use crate::outcome::{Balance, Ledger};
use crate::pipeline::{Pipeline, Snapshot, Watch};
use crate::produce::Producers;
use crate::schema::{Loader, Registry, RegistryError};
use crate::serve::{self, BindError, Counts, Drain, Encryption, Listener, Peer, Seat, Server, TlsError, Workers};
use crate::spool::SpoolError;
use crate::telemetry::admin::{self, AdminState};
use crate::telemetry::export;
use crate::telemetry::health::{Health, Measured};
use crate::telemetry::meters::HttpMeters;
use crate::telemetry::traces;

mod failed;
mod reload;
mod shown;
pub mod spools;

use failed::FailedLogs;
use reload::{InForce, Reloader, Source};
use shown::Shown;
use spools::Spools;

/// Threads of the runtime for everything beside the path of events.
const CONTROL_THREADS: usize = 2;
/// Connections of the admin listener: probes and scrapers.
const ADMIN_CONNECTIONS_MAX: usize = 256;
/// A worker or poll thread that has shown no sign of life for so long is stuck.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How soon a wait sees that there is a hurry.
const LOOK_UP: Duration = Duration::from_millis(20);
/// The share of `drain_seconds` that requests get; the producers get the rest but for the tail.
const DRAIN_SHARE: f64 = 0.4;
/// What is kept of `drain_seconds` for what ends after the producers: a tenth, at most this.
const TAIL_MAX: Duration = Duration::from_secs(1);

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    runtime: Runtime,
    http: Side,
    admin: Side,
    workers: Arc<Workers>,
    feed: JoinHandle<()>,
    reloads: Option<JoinHandle<()>>,
    follower: Option<JoinHandle<()>>,
    reload: mpsc::Sender<()>,
    /// Ends the feed, and the reloads before it.
    stop_feed: CancellationToken,
    upkeep: JoinHandle<()>,
    failed: FailedLogs,
    failed_upkeep: JoinHandle<()>,
    pipeline: Arc<Pipeline>,
    producers: Arc<Producers>,
    spools: Arc<Spools>,
    health: Arc<Health>,
    hurry: Hurry,
    tracing: Option<JoinHandle<()>>,
    stop_tracing: CancellationToken,
    drain_delay: Duration,
    drain: Duration,
}

/// Lets a stop end as soon as what is in memory is on disk. Clones are the same.
#[derive(Clone, Debug)]
pub struct Hurry {
    told: Arc<AtomicBool>,
    doors: Drain,
    producers: Arc<Producers>,
}

impl Hurry {
    /// Requests under way are cut off, and what Kafka has not acknowledged goes to disk, where there is one.
    pub fn tell(&self) {
        if !self.told.swap(true, Relaxed) {
            warn!("told to stop again: what is not delivered goes to disk at once");
            self.doors.cut_off_now();
            self.producers.give_up_on_brokers();
        }
    }

    /// Waits so long, or until it is told.
    fn wait(&self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time && !self.is_told() {
            std::thread::sleep(LOOK_UP);
        }
    }

    fn is_told(&self) -> bool {
        self.told.load(Relaxed)
    }
}

/// A listener and the switch that ends it.
#[derive(Debug)]
struct Side {
    address: SocketAddr,
    drain: Drain,
}

/// What may be added to a proxy; `iguazu dev` does.
#[derive(Default)]
pub struct Extras {
    /// Is told of every event that is refused.
    pub watch: Option<Watch>,
    /// Answers paths under `/dev/` on the listener of the doors. Blocking.
    pub site: Option<Site>,
    /// The file that the configuration was read from: it is read again when it changes, or a file that it names.
    pub file: Option<PathBuf>,
}

/// Answers a method and a path with its query.
pub type Site = Arc<dyn Fn(&str, &str) -> SiteReply + Send + Sync>;

/// A reply of a [`Site`], always JSON.
#[derive(Clone, Debug)]
pub struct SiteReply {
    /// HTTP status.
    pub status: u16,
    /// JSON text.
    pub body: String,
}

/// Why a proxy cannot start. What can heal by itself is not among it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("the listener's TLS cannot be set up: {0}")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Traces(#[from] traces::SetupError),
    #[error("the spool cannot be used: {0}")]
    Spool(#[from] SpoolError),
    #[error("no thread or runtime can be started: {0}")]
    Thread(#[from] io::Error),
}

impl Proxy {
    /// Starts everything. Returns once the listeners are bound; [`Proxy::wait_ready`] waits until events are served.
    pub fn start(config: Config) -> Result<Proxy, StartError> {
        Proxy::start_with(config, Extras::default())
    }

    /// [`Proxy::start`], with something added.
    pub fn start_with(config: Config, extras: Extras) -> Result<Proxy, StartError> {
        let base = Arc::new(config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(CONTROL_THREADS)
            .thread_name("control")
            .enable_all()
            .build()?;
        let _inside = runtime.enter();
        let health = Arc::new(Health::default());
        let pushed = base.routes.as_ref().zip(base.state_dir.as_deref());
        let pushed = pushed.map(|(routes, state_dir)| Arc::new(Pushed::open(routes, state_dir, Arc::clone(&health))));
        let (config, note) = match &pushed {
            Some(pushed) => {
                let (config, note) = pushed.merge(&base);
                (Arc::new(config), Some(note))
            }
            None => (Arc::clone(&base), None),
        };
        let pipeline = Arc::new(Pipeline::new(Arc::new(Ledger::default()), extras.watch));
        let (spools, readers) = Spools::open(&config)?;
        let spools = Arc::new(spools);
        spools::note_strangers(&config, &health);
        let producers = Arc::new(Producers::beside(spools.all()).with_wals(spools.wals()));
        let failed = FailedLogs::open(&config, &producers, &health)?;
        let loaders = loaders(&config)?;
        let meters = Arc::new(HttpMeters::default());
        let workers = Arc::new(Workers::start(config.http.workers)?);

        let (tracer, spans) = config.telemetry.traces.as_ref().map(traces::Exporter::new).transpose()?.unzip();
        let doors = Doors::new(&config.http, Arc::clone(&pipeline), Arc::clone(&meters)).traced(tracer.clone());
        let encryption = config.http.tls.as_ref().map(serve::encryption).transpose()?.map(Encryption::new);
        let (http, counts) = open_doors(&config.http, doors, extras.site, &workers, encryption.clone())?;
        let feed = Feed::new(
            Arc::clone(&config),
            Arc::clone(&pipeline),
            Arc::clone(&producers),
            loaders.clone(),
            Arc::clone(&health),
        );
        spools.start(readers, &config, &producers, pipeline.ledger())?;
        let in_force = Arc::new(InForce::new(Arc::clone(&config), loaders));
        let shown = Shown {
            in_force: Arc::clone(&in_force),
            pipeline: Arc::clone(&pipeline),
            producers: Arc::clone(&producers),
            meters,
            counts,
            workers: Arc::clone(&workers),
            spools: Arc::clone(&spools),
            failed: failed.clone(),
            pushed: pushed.clone(),
            tracer,
        };
        let admin = open_admin(&config.admin, Arc::new(shown.admin_state(Arc::clone(&health))))?;
        let stop_feed = CancellationToken::new();
        let (adopt, adopted) = mpsc::channel(1);
        let feed = runtime.spawn(feed.run(adopted, stop_feed.clone()));
        let (reload, asked) = mpsc::channel(1);
        if let Some((pushed, note)) = pushed.as_ref().zip(note) {
            pushed.note_in_force(note);
        }
        let source = pushed.zip(base.routes.clone()).map(|(pushed, routes)| {
            let (routes, changes) = watch::channel(Arc::new(routes));
            // Before anybody asks for more, so that nothing is missed.
            let news = pushed.news();
            (Source { pushed, news, routes }, changes)
        });
        let follower = source.as_ref().map(|(source, routes)| {
            let (pushed, routes) = (Arc::clone(&source.pushed), routes.clone());
            let follower = Follower { pushed, routes, health: Arc::clone(&health) };
            runtime.spawn(follower.run(stop_feed.clone()))
        });
        let reloads = (extras.file.is_some() || source.is_some()).then(|| {
            let (pipeline, producers, spools) = (Arc::clone(&pipeline), Arc::clone(&producers), Arc::clone(&spools));
            let (health, failed, file) = (Arc::clone(&health), failed.clone(), extras.file);
            let (base, pushed) = (ArcSwap::new(base), source.map(|(source, _)| source));
            let reloader = Reloader {
                file,
                base,
                pushed,
                in_force,
                pipeline,
                producers,
                spools,
                failed,
                health,
                encryption,
                feed: adopt,
            };
            runtime.spawn(reloader.run(asked, stop_feed.clone()))
        });
        let upkeep = runtime.spawn(keep_metrics_small());
        let failed_upkeep = runtime.spawn(failed.clone().look_after(Arc::clone(&health)));
        info!(http = %http.address, admin = %admin.address, "listening");
        drop(_inside);
        let stop_tracing = CancellationToken::new();
        let tracing = spans.map(|spans| runtime.spawn(spans.run(stop_tracing.clone())));
        let (drain_delay, drain) = (config.http.drain_delay, config.http.drain);
        let (doors, told) = (http.drain.clone(), Arc::default());
        let hurry = Hurry { told, doors, producers: Arc::clone(&producers) };
        Ok(Proxy {
            runtime,
            http,
            admin,
            workers,
            feed,
            reloads,
            follower,
            reload,
            stop_feed,
            upkeep,
            failed,
            failed_upkeep,
            pipeline,
            producers,
            spools,
            health,
            hurry,
            tracing,
            stop_tracing,
            drain_delay,
            drain,
        })
    }

    /// Where the doors are.
    pub fn http_addr(&self) -> SocketAddr {
        self.http.address
    }

    /// Where probes and metrics are.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.address
    }

    /// The path of events.
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// The accounts of all events.
    pub fn ledger(&self) -> &Arc<Ledger> {
        self.pipeline.ledger()
    }

    /// Reads the configuration's file again, if it is from one, and changes to what it says by now, or says why not. Does not
    /// wait for that.
    pub fn reload(&self) {
        // One that is asked for and not begun yet will read what is there now.
        let _ = self.reload.try_send(());
    }

    /// Blocks until every event type is served, or says which are not and why when the time is up.
    pub fn wait_ready(&self, timeout: Duration) -> Result<(), Vec<String>> {
        let deadline = Instant::now() + timeout;
        loop {
            let view = self.health.view(Measured::default());
            if view.started && view.unavailable.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(view.unavailable.into_iter().map(|c| format!("{}: {}", c.name, c.reason)).collect());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What a stop that takes too long can be told; for another thread than the one that calls [`Proxy::stop`].
    pub fn hurry(&self) -> Hurry {
        self.hurry.clone()
    }

    /// Stops in order, within `drain_seconds` after `drain_delay_seconds`, and returns the final ledger. Blocking.
    pub fn stop(self) -> Balance {
        self.health.set_draining();
        info!("draining");
        // Who asks `/ready` is told before the first connection is refused.
        self.hurry.wait(self.drain_delay);
        let started = Instant::now();
        let tail = (self.drain / 10).min(TAIL_MAX);
        let drained = self.runtime.block_on(self.http.drain.finish(self.drain.mul_f64(DRAIN_SHARE)));
        if drained.cut_off > 0 {
            warn!(connections = drained.cut_off, "connections did not finish in time and were cut off");
        }
        self.stop_feed.cancel();
        if let Some(Err(error)) = self.follower.map(|follower| self.runtime.block_on(follower)) {
            error!(%error, "the control plane is no longer followed");
        }
        if let Some(Err(error)) = self.reloads.map(|reloads| self.runtime.block_on(reloads)) {
            error!(%error, "the reloads ended by themselves");
        }
        if let Err(error) = self.runtime.block_on(self.feed) {
            error!(%error, "the feed ended by itself");
        }
        let left = self.drain.saturating_sub(started.elapsed() + tail);
        let replayed = self.spools.stop_replays(Instant::now() + left / 2, &self.hurry);
        if self.hurry.is_told() {
            // Clients that were started since.
            self.producers.give_up_on_brokers();
        }
        let stopped = self.producers.stop(self.drain.saturating_sub(started.elapsed() + tail));
        if stopped.purged > 0 {
            warn!(records = stopped.purged, "records could not be delivered before the deadline and were given up");
        }
        self.runtime.block_on(self.admin.drain.finish(tail / 2));
        self.stop_tracing.cancel();
        if let Some(Err(error)) = self.tracing.map(|tracing| self.runtime.block_on(tracing)) {
            error!(%error, "the exporter of traces ended by itself");
        }
        self.failed_upkeep.abort();
        self.upkeep.abort();
        if let Err(error) = self.runtime.block_on(self.upkeep)
            && !error.is_cancelled()
        {
            error!(%error, "the upkeep of metrics ended by itself");
        }
        // Whoever still holds the workers lets go with the runtime's last task; dropping them joins their threads. What may
        // still block is a look-up at a cluster that does not answer; it holds nothing that is worth waiting for.
        self.runtime.shutdown_timeout(tail / 2);
        drop(self.workers);
        // The last snapshot holds clients; what their end still reports must be reported before the books are closed.
        self.pipeline.replace(Snapshot::default());
        self.spools.close(replayed);
        self.failed.close();
        self.pipeline.ledger().write_off();
        let balance = self.pipeline.ledger().total();
        report(&balance);
        self.spools.report(&balance);
        balance
    }
}

/// The upkeep of what is observed, until it is aborted.
async fn keep_metrics_small() {
    let mut due = tokio::time::interval(export::UPKEEP_EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        export::upkeep();
    }
}

fn report(balance: &Balance) {
    let Balance { received, recovered, delivered, rejected, failed, lost, in_memory, in_spool } = *balance;
    let holds = balance.holds();
    if holds {
        info!(
            received,
            recovered, delivered, rejected, failed, lost, in_memory, in_spool, "every event is accounted for"
        );
    } else {
        error!(
            received,
            recovered, delivered, rejected, failed, lost, in_memory, in_spool, "not every event is accounted for"
        );
    }
}

fn loaders(config: &Config) -> Result<Loaders, RegistryError> {
    config.registries.iter().map(|settings| Ok((settings.name.clone(), loader(settings, config)?))).collect()
}

fn loader(settings: &config::Registry, config: &Config) -> Result<Arc<Loader>, RegistryError> {
    let registry = Arc::new(Registry::new(settings)?);
    Ok(Arc::new(Loader::new(registry, config.state_dir.as_deref())))
}

fn open_doors(
    settings: &config::Http,
    doors: Doors,
    site: Option<Site>,
    workers: &Workers,
    tls: Option<Encryption>,
) -> Result<(Side, Arc<Counts>), StartError> {
    let listener = Listener::bind(settings.listen, "http.listen")?;
    let (address, drain) = (listener.address, doors.drain().clone());
    let limits = serve::Limits::new(settings.connections_max, settings.read_timeout);
    let server = Server { listener, seats: workers.seats(), tls, limits, drain: drain.clone() };
    let doors = Arc::new(doors);
    let counts = match site {
        None => server.start(Arc::new(move |request: Request<Incoming>, peer: Peer| {
            let doors = Arc::clone(&doors);
            async move { doors.handle(request, peer).await }
        })),
        Some(site) => server.start(Arc::new(move |request: Request<Incoming>, peer: Peer| {
            let (doors, site) = (Arc::clone(&doors), Arc::clone(&site));
            async move {
                match request.uri().path().starts_with("/dev/") {
                    true => ask_site(site, &request).await,
                    false => doors.handle(request, peer).await,
                }
            }
        })),
    };
    Ok((Side { address, drain }, counts))
}

async fn ask_site(site: Site, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let method = request.method().as_str().to_owned();
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let answered = tokio::task::spawn_blocking(move || site(&method, &path)).await;
    let failed = |_| SiteReply { status: 500, body: r#"{"code":"internal","message":"the site failed"}"#.to_owned() };
    let SiteReply { status, body } = answered.unwrap_or_else(failed);
    respond(status, "application/json", body)
}

fn open_admin(settings: &config::Admin, state: Arc<AdminState>) -> Result<Side, StartError> {
    let listener = Listener::bind(settings.listen, "admin.listen")?;
    let (address, drain) = (listener.address, Drain::new());
    let seats = vec![Seat::on(tokio::runtime::Handle::current())];
    // When this listener drains there is nothing left to ask about.
    let limits =
        serve::Limits { linger: Duration::ZERO, ..serve::Limits::new(ADMIN_CONNECTIONS_MAX, Duration::from_secs(10)) };
    let server = Server { listener, seats, tls: None, limits, drain: drain.clone() };
    server.start(Arc::new(move |request: Request<Incoming>, _: Peer| {
        let state = Arc::clone(&state);
        async move {
            let admin::Reply { status, content_type, body } =
                admin::respond(request.method().as_str(), request.uri().path(), &state);
            respond(status, content_type, body)
        }
    }));
    Ok(Side { address, drain })
}

fn respond(status: u16, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, content_type);
    response.body(Full::new(Bytes::from(body))).expect("statuses of ours are valid")
}
