//! The data plane put together: a checked configuration in, listeners that serve out; and its end, in order.
//!
//! Start: producers and registries (nothing waits for them), admin listener, workers and doors, feed. Stop: no longer ready,
//! accept what is queued and no more, finish the requests, stop the feed, flush the producers, spool what is left, report the ledger. Never:
//! decides anything about an event.
//!
//! Threads: one current-thread runtime a worker for the path of events; one small multi-thread runtime (`control`) for the
//! admin listener, the feed and the registries; one poll thread a producer client; one thread a cluster's breaker.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, header};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{self, Config};
use crate::feed::{self, Feed};
use crate::http::Doors;
use crate::outcome::{Balance, Ledger};
use crate::pipeline::{Pipeline, Ready, Snapshot, State, Watch};
use crate::produce::{Client, Gate, Producers, Trouble, Wal};
use crate::route::Lane;
use crate::schema::{Loader, Registry, RegistryError};
use crate::serve::{self, BindError, Counts, Drain, Listener, Peer, Seat, Server, TlsError, Workers};
use crate::spool::{Spool, SpoolError};
use crate::telemetry::admin::{self, AdminState};
use crate::telemetry::export::{self, Exporter, Page, Source};
use crate::telemetry::health::{Buffer, Condition, Health, Measured, Pulse};
use crate::telemetry::ledger::Books;
use crate::telemetry::meters::HttpMeters;
use crate::telemetry::sources;

mod failed;
pub mod spools;

use failed::FailedLogs;
use spools::Spools;

/// Threads of the runtime for everything beside the path of events.
const CONTROL_THREADS: usize = 2;
/// Connections of the admin listener: probes and scrapers.
const ADMIN_CONNECTIONS_MAX: usize = 256;
/// A worker or poll thread that has shown no sign of life for so long is stuck.
const SILENCE_MAX: Duration = Duration::from_secs(30);
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
    stop_feed: CancellationToken,
    upkeep: JoinHandle<()>,
    failed: FailedLogs,
    failed_upkeep: JoinHandle<()>,
    pipeline: Arc<Pipeline>,
    producers: Arc<Producers>,
    spools: Spools,
    health: Arc<Health>,
    drain: Duration,
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
        let config = Arc::new(config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(CONTROL_THREADS)
            .thread_name("control")
            .enable_all()
            .build()?;
        let _inside = runtime.enter();
        let health = Arc::new(Health::default());
        let pipeline = Arc::new(Pipeline::new(Arc::new(Ledger::default()), extras.watch));
        let (mut spools, readers) = Spools::open(&config)?;
        spools::note_strangers(&config, &health);
        let producers = Producers::beside(spools.all().iter().cloned()).with_wals(spools.wals().iter().cloned());
        let producers = Arc::new(producers);
        let failed = FailedLogs::open(&config, &producers, &health)?;
        let loaders = loaders(&config)?;
        let meters = Arc::new(HttpMeters::default());
        let workers = Arc::new(Workers::start(config.http.workers)?);

        let doors = Doors::new(&config.http, Arc::clone(&pipeline), Arc::clone(&meters));
        let (http, counts) = open_doors(&config.http, doors, extras.site, &workers)?;
        let feed = Feed::new(
            Arc::clone(&config),
            Arc::clone(&pipeline),
            Arc::clone(&producers),
            loaders.clone(),
            Arc::clone(&health),
        );
        spools.start(readers, &config, &producers, pipeline.ledger())?;
        let shown = Shown {
            config: Arc::clone(&config),
            pipeline: Arc::clone(&pipeline),
            producers: Arc::clone(&producers),
            loaders,
            meters,
            counts,
            workers: Arc::clone(&workers),
            spools: spools.all().to_vec(),
            failed: failed.all().to_vec(),
            wals: spools.wals().to_vec(),
        };
        let admin = open_admin(&config.admin, Arc::new(shown.admin_state(Arc::clone(&health))))?;
        let stop_feed = CancellationToken::new();
        let feed = runtime.spawn(feed.run(stop_feed.clone()));
        let upkeep = runtime.spawn(keep_metrics_small());
        let failed_upkeep = runtime.spawn(failed.clone().look_after(Arc::clone(&health)));
        info!(http = %http.address, admin = %admin.address, "listening");
        drop(_inside);
        let drain = config.http.drain;
        Ok(Proxy {
            runtime,
            http,
            admin,
            workers,
            feed,
            stop_feed,
            upkeep,
            failed,
            failed_upkeep,
            pipeline,
            producers,
            spools,
            health,
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

    /// Stops in order, within `drain_seconds`, and returns the final ledger. Blocking.
    pub fn stop(mut self) -> Balance {
        let started = Instant::now();
        let tail = (self.drain / 10).min(TAIL_MAX);
        self.health.set_draining();
        info!("draining");
        let drained = self.runtime.block_on(self.http.drain.finish(self.drain.mul_f64(DRAIN_SHARE)));
        if drained.cut_off > 0 {
            warn!(connections = drained.cut_off, "connections did not finish in time and were cut off");
        }
        self.stop_feed.cancel();
        if let Err(error) = self.runtime.block_on(self.feed) {
            error!(%error, "the feed ended by itself");
        }
        let left = self.drain.saturating_sub(started.elapsed() + tail);
        let replayed = self.spools.stop_replays(Instant::now() + left / 2);
        let stopped = self.producers.stop(self.drain.saturating_sub(started.elapsed() + tail));
        if stopped.purged > 0 {
            warn!(records = stopped.purged, "records could not be delivered before the deadline and were given up");
        }
        self.runtime.block_on(self.admin.drain.finish(tail / 2));
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

fn loaders(config: &Config) -> Result<HashMap<String, Arc<Loader>>, RegistryError> {
    let loader = |settings: &config::Registry| {
        let registry = Arc::new(Registry::new(settings)?);
        Ok((settings.name.clone(), Arc::new(Loader::new(registry, config.state_dir.as_deref()))))
    };
    config.registries.iter().map(loader).collect()
}

fn open_doors(
    settings: &config::Http,
    doors: Doors,
    site: Option<Site>,
    workers: &Workers,
) -> Result<(Side, Arc<Counts>), StartError> {
    let listener = Listener::bind(settings.listen, "http.listen")?;
    let (address, drain) = (listener.address, doors.drain().clone());
    let tls = settings.tls.as_ref().map(serve::encryption).transpose()?;
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

/// What the admin listener shows: the parts that metrics and probes are read from.
struct Shown {
    config: Arc<Config>,
    pipeline: Arc<Pipeline>,
    producers: Arc<Producers>,
    loaders: HashMap<String, Arc<Loader>>,
    meters: Arc<HttpMeters>,
    counts: Arc<Counts>,
    workers: Arc<Workers>,
    spools: Vec<Arc<Spool>>,
    failed: Vec<Arc<Spool>>,
    wals: Vec<Arc<Wal>>,
}

impl Shown {
    /// Spools and wals, with what to call each.
    fn logs(&self) -> impl Iterator<Item = (&'static str, &Spool)> {
        let spools = self.spools.iter().map(|spool| ("spool", &**spool));
        spools.chain(self.wals.iter().map(|wal| ("wal", &**wal.log())))
    }

    fn admin_state(self, health: Arc<Health>) -> AdminState {
        let books = Books::open(Arc::clone(self.pipeline.ledger()));
        let shown = Arc::new(self);
        let write = Arc::clone(&shown);
        let source: Source = Box::new(move |page| write.write(page));
        let measure = Box::new(move || shown.measure());
        AdminState { health, exporter: Exporter::new(vec![source]), books, measure }
    }

    fn write(&self, page: &mut Page) {
        sources::ledger(page, self.pipeline.ledger());
        sources::snapshot(page, &self.read_snapshot());
        self.meters.connections_max.store(self.config.http.connections_max as u64, Relaxed);
        self.meters.connections.store(self.counts.open.load(Relaxed) as u64, Relaxed);
        self.meters.connections_refused.store(self.counts.refused.load(Relaxed), Relaxed);
        sources::http(page, &self.meters);
        for client in self.producers.all() {
            sources::producer(page, &read_producer(&client));
        }
        for (cluster, gate) in self.producers.gates() {
            let entered = gate.entered().map(|(state, count)| (state.as_str(), count)).collect();
            sources::breaker(page, &sources::Breaker { cluster: &cluster, state: gate.state() as u64, entered });
        }
        for (log, spool) in self.logs() {
            sources::spool(page, &spools::reading(log, spool));
        }
        for letters in self.pipeline.snapshot().live().iter().filter_map(|live| live.dead_letters.as_ref()) {
            let dropped = letters.dropped().map(|(why, count)| (why.as_str(), count)).collect();
            let (event, cluster, sent) = (letters.event(), letters.cluster(), letters.sent());
            sources::dead_letters(page, &sources::DeadLetters { event, cluster, sent, dropped });
        }
        for log in &self.failed {
            sources::failed_log(page, &spools::reading("failed", log));
        }
        for (name, loader) in &self.loaders {
            sources::registry(page, &self.read_registry(name, loader));
        }
    }

    fn read_snapshot(&self) -> sources::Snapshot {
        let snapshot = self.pipeline.snapshot();
        let ready = snapshot.live().iter().filter(|live| matches!(live.state, State::Ready(_))).count() as u64;
        let unavailable = snapshot.live().len() as u64 - ready;
        sources::Snapshot { version: snapshot.version(), age: snapshot.age(), ready, unavailable }
    }

    fn read_registry<'s>(&'s self, name: &'s str, loader: &Loader) -> sources::Registry<'s> {
        let counts = loader.registry().counts();
        let events = self.config.events.iter().filter(|event| feed::registry_of(&self.config, event) == Some(name));
        let (mut stale, mut left_out) = (Duration::ZERO, 0);
        for event in events {
            let status = loader.status(&event.name);
            left_out += status.problems.len() as u64;
            let age = status.stale_since.and_then(|since| since.elapsed().ok());
            stale = stale.max(age.unwrap_or_default());
        }
        let snapshot = self.pipeline.snapshot();
        let versions =
            snapshot.live().iter().filter(|live| feed::registry_of(&self.config, &live.event_type) == Some(name));
        let versions = versions.map(|live| match &live.state {
            State::Ready(Ready { schemas: Some(schemas), .. }) => schemas.versions.len() as u64,
            _ => 0,
        });
        sources::Registry {
            name,
            requests: counts.requests.load(Relaxed),
            hits: counts.hits.load(Relaxed),
            misses: counts.misses.load(Relaxed),
            failed: counts.failed.load(Relaxed),
            stale,
            versions: versions.sum(),
            left_out,
        }
    }

    fn measure(&self) -> Measured {
        let clients = self.producers.all();
        let buffer = |client: &Arc<Client>| Buffer {
            cluster: client.cluster().to_owned(),
            lane: client.lane().as_str(),
            fill: client.buffered_bytes() as f64 / client.buffer_bytes_max().max(1) as f64,
        };
        let pulse = |client: &Arc<Client>| Pulse {
            name: format!("produce-{}-{}", client.cluster(), client.lane().as_str()),
            silence: client.poll_age(),
            silence_max: SILENCE_MAX,
        };
        let stuck = self.workers.stalled(SILENCE_MAX).into_iter().map(|name| Pulse {
            name: name.to_owned(),
            silence: SILENCE_MAX,
            silence_max: Duration::ZERO,
        });
        Measured {
            // Events find room however many dead letters there are.
            buffers: clients.iter().filter(|client| client.lane() != Lane::DeadLetter).map(buffer).collect(),
            pulses: clients.iter().map(pulse).chain(stuck).collect(),
            spools: spools::levels(self.logs()),
            conditions: self.producers.gates().into_iter().filter_map(open_breaker).collect(),
        }
    }
}

/// What `/ready` says of a cluster that does not take records as usual.
fn open_breaker((cluster, gate): (String, Arc<Gate>)) -> Option<Condition> {
    let Trouble { reason, since } = gate.trouble()?;
    Some(Condition { name: format!("breaker of {cluster}"), reason, since })
}

fn read_producer(client: &Client) -> sources::Producer<'_> {
    sources::Producer {
        cluster: client.cluster(),
        lane: client.lane().as_str(),
        buffer_bytes: client.buffered_bytes(),
        buffer_bytes_max: client.buffer_bytes_max(),
        in_flight: client.in_flight(),
        oldest: client.oldest_age(),
        requests: client.requests(),
        failures: client.failures().map(|(failure, count)| (failure.as_str(), count)).collect(),
        errors: client.errors().map(|(kind, count)| (kind.as_str(), count)).collect(),
    }
}
