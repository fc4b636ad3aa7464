//! A node of the management plane put together: a checked configuration in, an API that answers out; and its end, in order.
//!
//! Start: store, seal, clusters, desk, applier, API. Stop: no more requests, those under way are answered, the step under way is
//! waited for a while, the lease is given back. Never: waits for Kafka to start or to answer; what is asked of it waits in the
//! store.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use tracing::{debug, error, info, warn};
use zeroize::Zeroizing;

use super::api::tokens::{self, First};
use super::api::{self, Api, Expiries};
use super::apply::{Applier, ApplyError, Crew};
use super::gate::Gate;
use super::kafka::{KafkaAdmin, KafkaClient, Settings, SetupError, Timeouts};
use super::policy::Table;
use super::private_file;
use super::provider::{EventChecks, EventTypeProvider, Providers, Reach, UserProvider};
use super::reconcile::{self, Reconciler};
use super::request::Desk;
use super::resource::{ClusterMode, ClusterSpec, Kind, ResourceId, Spec};
use super::seal::{KEY_BYTES, NoRandomness, Sealer};
use super::sink::Sinks;
use super::snapshot::{KeyError, Keys, Snapshots};
use super::store::{Audit, Resource, Store, StoreError};
use super::world::ClusterView;
use crate::auth::oidc::Issuer;
use crate::config::{self, Cluster, Control, ControlConfig, Files, ManagedCluster};
use crate::schema::RegistryError;
use crate::serve::{self, BindError, Drain, Encryption, Listener, Peer, Seat, Server, TlsError};
use crate::telemetry::{certificates, export};

/// Threads of a node: what it does is wait for Kafka and the store.
const THREADS: usize = 2;
/// Open connections of the API.
pub const CONNECTIONS_MAX: usize = 1_024;
/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stop waits for requests, and for the step that is being done.
const DRAIN: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(10);
/// How often is looked for requests that another node took in, and for rules that it put in force.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A running node.
#[derive(Debug)]
pub struct Node {
    runtime: Runtime,
    address: SocketAddr,
    drain: Drain,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    store: Store,
    bootstrap_file: Option<PathBuf>,
    public_keys: Vec<String>,
}

/// What a node is given in place of what it would make itself: another kind of Kafka than one that speaks its protocol.
#[derive(Clone, Default)]
pub struct Given {
    /// Administration of clusters, by name.
    pub admins: BTreeMap<String, Arc<dyn KafkaAdmin>>,
    /// Why a kind cannot be managed on any of them, by kind.
    pub unsupported: BTreeMap<Kind, String>,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("the listener's TLS cannot be set up: {0}")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bootstrap(#[from] tokens::BootstrapError),
    #[error("cluster `{cluster}` cannot be managed: {source}")]
    Cluster { cluster: String, source: SetupError },
    #[error("`{}` cannot be used: {problem}", file.display())]
    Key { file: PathBuf, problem: String },
    #[error("`control.sinks` cannot be used: {0}")]
    Sink(String),
    #[error("`control.oidc` cannot be used: {0}")]
    Oidc(String),
    #[error(transparent)]
    Snapshot(#[from] KeyError),
    #[error("a registry cannot be asked: {0}")]
    Registry(#[source] RegistryError),
    #[error(transparent)]
    Random(#[from] NoRandomness),
    #[error("`{}` cannot be used: {source}", folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error("no thread or runtime can be started: {0}")]
    Thread(#[from] io::Error),
}

impl Node {
    /// Starts everything. Returns once the API is listened for.
    pub fn start(config: &ControlConfig) -> Result<Node, StartError> {
        Node::start_with(config, Given::default())
    }

    /// [`Node::start`] with some of what it would make itself.
    pub fn start_with(config: &ControlConfig, given: Given) -> Result<Node, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("control")
            .enable_all()
            .build()?;
        let started = runtime.block_on(start(config, given));
        let Started { address, drain, stop, tasks, store, bootstrap_file, public_keys } = started?;
        // What proxies are told as `routes.public_key`.
        info!(%address, public_keys = public_keys.join(" "), "listening");
        Ok(Node { runtime, address, drain, stop, tasks, store, bootstrap_file, public_keys })
    }

    /// Where the API is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file that the token of the first admin is put into, unless `control.bootstrap_token_file` says one; it is there until
    /// it is used.
    pub fn bootstrap_file(&self) -> Option<&Path> {
        self.bootstrap_file.as_deref()
    }

    /// What proxies know it by: `routes.public_key` of their configuration.
    pub fn public_keys(&self) -> &[String] {
        &self.public_keys
    }

    /// Stops in order. Blocking.
    pub fn stop(self) {
        info!("stopping");
        self.stop.cancel();
        let drained = self.runtime.block_on(self.drain.finish(DRAIN));
        if drained.cut_off > 0 {
            warn!(connections = drained.cut_off, "connections did not finish in time and were cut off");
        }
        for task in self.tasks {
            if let Err(error) = self.runtime.block_on(task) {
                error!(%error, "a part of the node ended by itself");
            }
        }
        self.runtime.block_on(self.store.close());
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        info!("stopped");
    }
}

struct Started {
    address: SocketAddr,
    drain: Drain,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    store: Store,
    bootstrap_file: Option<PathBuf>,
    public_keys: Vec<String>,
}

async fn start(config: &ControlConfig, given: Given) -> Result<Started, StartError> {
    let control = &config.control;
    let folder = &control.state_dir;
    private_file::folder(folder).map_err(|source| StartError::Folder { folder: folder.clone(), source })?;
    let store = Store::open(control.store.expose()).await?;
    let sealer = Arc::new(Sealer::new(&*seal_key(control)?));
    let (mut clients, settings) = clients(&config.clusters)?;
    // What is given keeps no settings and no users, so that a look at it finds nothing but that.
    let looks_by_itself = given.admins.is_empty();
    clients.extend(given.admins);
    // Nothing below this can write to a cluster that is only looked at.
    let clients = clients.into_iter().map(|(name, admin)| {
        let gate: Arc<dyn KafkaAdmin> = Arc::new(Gate::new(&name, store.clone(), admin));
        (name, gate)
    });
    let clients: BTreeMap<_, _> = clients.collect();
    let view = ClusterView { unsupported: given.unsupported, ..ClusterView::default() };
    let views = config.clusters.iter().map(|cluster| (cluster.name.clone(), view.clone()));
    let clusters = Arc::new(ArcSwap::from_pointee(views.collect::<BTreeMap<_, _>>()));
    register(&store, config).await?;
    let policy = Arc::new(ArcSwap::from_pointee(policy(&store).await?));
    let made_token = control.state_dir.join("bootstrap-token");
    let first = control.bootstrap_token.as_ref().map_or(First::Made(&made_token), First::Said);
    let bootstrap_file = matches!(first, First::Made(_)).then(|| made_token.clone());

    let checks = EventChecks::new(&config.clusters, &config.registries).map_err(StartError::Registry)?;
    let checks = Arc::new(checks);
    let mut providers = Providers::default();
    providers.add(Arc::new(UserProvider::with(Sinks::new(&control.sinks).map_err(StartError::Sink)?)));
    providers.add(Arc::new(EventTypeProvider::new(Arc::clone(&checks))));
    let keys = Keys::open(&snapshot_key_file(control))?;
    let public_keys = keys.public().iter().map(ToString::to_string).collect();
    let snapshots = Arc::new(Snapshots::new(store.clone(), keys, checks));
    let desk = Desk::new(store.clone(), providers.clone(), Arc::clone(&policy), Arc::clone(&clusters));
    let reach = Reach { clusters: clients, settings, store: store.clone(), sealer };
    // Another name each time: what an older process of this node may still be about to write is fenced off.
    let node = uuid::Uuid::now_v7().to_string();
    let reconciler = Reconciler::new(
        store.clone(),
        desk.clone(),
        providers.clone(),
        reach.clone(),
        Arc::clone(&clusters),
        &node,
        reconcile::Settings::default(),
    );
    if looks_by_itself {
        reconciler.remember().await?;
    }
    let applier = Applier::new(store.clone(), desk.clone(), providers, reach.clone(), &node);
    let (stop, wake) = (CancellationToken::new(), Arc::new(Notify::new()));
    let api = Api::new(api::Parts {
        store: store.clone(),
        desk,
        reconciler: reconciler.clone(),
        policy: Arc::clone(&policy),
        clusters,
        reach,
        wake: Arc::clone(&wake),
        stop: stop.clone(),
        snapshots: Arc::clone(&snapshots),
        bootstrap_file: bootstrap_file.clone(),
        issuer: control.oidc.clone().map(Issuer::new).transpose().map_err(StartError::Oidc)?,
        roles: control.roles.clone(),
        certificates: control.certificates.clone(),
        requests_per_second: control.requests_per_second,
        expiries: expiries(config),
    });
    let router = api::router(&api, api::routes::table());
    let encryption = control.tls.as_ref().map(serve::encryption).transpose()?.map(Encryption::new);
    let (address, drain) = listen(control, router, encryption.clone())?;
    // Nothing that may fail comes after it: a store that several nodes share keeps it, and the file of one may be gone with it.
    tokens::bootstrap(&store, first).await?;
    let renewal = control.tls.clone().zip(encryption).map(|(tls, encryption)| Renewal {
        files: config.files.clone(),
        tls,
        encryption,
    });
    let round = Rounds { crew: Crew::new(applier), store: store.clone(), policy, wake, stop: stop.clone(), renewal };
    let mut tasks = vec![tokio::spawn(round.run()), tokio::spawn(snapshots.run(stop.clone()))];
    if looks_by_itself {
        let stop = stop.clone();
        tasks.push(tokio::spawn(async move { reconciler.run(stop).await }));
    }
    Ok(Started { address, drain, stop, tasks, store, bootstrap_file, public_keys })
}

fn listen(control: &Control, router: Router, tls: Option<Encryption>) -> Result<(SocketAddr, Drain), StartError> {
    let listener = Listener::bind(control.listen, "control.listen")?;
    let (address, drain) = (listener.address, Drain::new());
    let seats = vec![Seat::on(tokio::runtime::Handle::current())];
    let limits = serve::Limits::new(CONNECTIONS_MAX, HEAD_TIMEOUT);
    let server = Server { listener, seats, tls, limits, drain: drain.clone() };
    server.start(Arc::new(move |mut request: Request<Incoming>, peer: Peer| {
        let mut router = router.clone();
        request.extensions_mut().insert(peer);
        async move { router.call(request).await.unwrap_or_else(|never: Infallible| match never {}) }
    }));
    Ok((address, drain))
}

/// Reads when the certificates of this node end, as their files are now.
fn expiries(config: &ControlConfig) -> Expiries {
    let config = config.clone();
    Box::new(move || certificates::of_control(&config))
}

/// What is done behind the API, round after round.
struct Rounds {
    crew: Crew,
    store: Store,
    policy: Arc<ArcSwap<Table>>,
    wake: Arc<Notify>,
    stop: CancellationToken,
    renewal: Option<Renewal>,
}

/// A certificate that may be renewed.
struct Renewal {
    /// What was in all files of the configuration when they were read last.
    files: Files,
    tls: config::Tls,
    encryption: Encryption,
}

impl Renewal {
    /// Takes another certificate over when one is there. Blocking.
    fn look(&mut self) {
        let files = self.files.read_again();
        if files == self.files {
            return;
        }
        self.files = files;
        match serve::encryption(&self.tls) {
            Ok(renewed) => {
                info!("the certificate of the API was read again");
                self.encryption.renew(renewed);
            }
            Err(error) => warn!(%error, "the certificate of the API cannot be used; the one before stays"),
        }
    }
}

impl Rounds {
    async fn run(mut self) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.stop.is_cancelled() {
            self.apply().await;
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = self.wake.notified() => {}
                ended = self.crew.ended() => ended.note(),
                _ = tick.tick() => self.keep_up().await,
            }
        }
        self.crew.finish(GRACE).await;
    }

    async fn apply(&mut self) {
        match self.crew.look().await {
            Ok(()) => {}
            Err(ApplyError::NotOurs) => debug!("another node applies requests"),
            Err(error) => warn!(%error, "requests could not be applied; they are tried again"),
        }
    }

    async fn keep_up(&mut self) {
        self.look_for_policy().await;
        export::upkeep();
        if let Some(mut renewal) = self.renewal.take() {
            let looked = tokio::task::spawn_blocking(move || {
                renewal.look();
                renewal
            });
            self.renewal = looked.await.ok();
        }
    }

    /// Takes over the rules that another node put in force.
    async fn look_for_policy(&self) {
        match policy(&self.store).await {
            Ok(table) if table.revision != self.policy.load().revision => {
                info!(revision = table.revision, "a policy of another node is in force");
                self.policy.store(Arc::new(table));
            }
            Ok(_) => {}
            Err(error) => debug!(%error, "the policy could not be read"),
        }
    }
}

/// The rules in force: those of the store, else those that come with the program.
pub(super) async fn policy(store: &Store) -> Result<Table, StoreError> {
    let kept = store.policy::<Table>().await?;
    Ok(kept.map_or_else(Table::default, |(revision, table)| Table { revision: revision as u64, ..table }))
}

type Clients = (BTreeMap<String, Arc<dyn KafkaAdmin>>, BTreeMap<String, Settings>);

fn clients(clusters: &[Cluster]) -> Result<Clients, StartError> {
    let (mut clients, mut all) = (Clients::default().0, BTreeMap::new());
    for cluster in clusters {
        let settings = Settings {
            brokers: cluster.brokers.clone(),
            tls: cluster.tls.clone(),
            sasl: cluster.sasl.clone(),
            timeouts: Timeouts::default(),
        };
        let client = KafkaClient::new(settings.clone())
            .map_err(|source| StartError::Cluster { cluster: cluster.name.clone(), source })?;
        clients.insert(cluster.name.clone(), Arc::new(client));
        all.insert(cluster.name.clone(), settings);
    }
    Ok((clients, all))
}

/// Registers the clusters of the configuration that are not registered yet, as it says. Whoever may write the configuration may
/// do so; afterwards it is for the API to change.
async fn register(store: &Store, config: &ControlConfig) -> Result<(), StoreError> {
    for cluster in &config.clusters {
        let id = ResourceId::of(Kind::Cluster, &cluster.name);
        let said = config.control.clusters.iter().find(|said| said.name == cluster.name);
        let mut tx = store.begin().await?;
        if tx.resource(&id).await?.is_some() {
            continue;
        }
        let spec = spec_of(said);
        let (object, detail) = (id.to_string(), json!({ "mode": spec.mode }));
        let resource = Resource::new(id, String::new(), Spec::Cluster(spec));
        tx.put_resource(&resource).await?;
        tx.audit(Audit {
            actor: "control",
            source: "configuration",
            verb: "create",
            object: &object,
            request: "",
            outcome: "done",
            detail,
        })
        .await?;
        tx.commit().await?;
        info!(cluster = object, "registered a cluster of the configuration");
    }
    Ok(())
}

fn spec_of(said: Option<&ManagedCluster>) -> ClusterSpec {
    let Some(said) = said else { return ClusterSpec::default() };
    ClusterSpec {
        environment: said.environment.clone(),
        mode: match said.mode {
            "shared" => ClusterMode::Shared,
            "dedicated" => ClusterMode::Dedicated,
            _ => ClusterMode::Observe,
        },
        operators: said.operators.clone(),
        disk_bytes: said.disk_bytes,
        shares_disks: said.shares_disks,
        partitions_max: said.partitions_max,
        ingress_bytes_per_second: said.ingress_bytes_per_second,
        replicas_max: said.replicas_max,
        ..ClusterSpec::default()
    }
}

/// The file of the keys that snapshots are signed with; it is made at the first start.
fn snapshot_key_file(control: &Control) -> PathBuf {
    control.snapshot_key_file.clone().unwrap_or_else(|| control.state_dir.join("snapshot.pem"))
}

/// The key that secrets at rest are sealed with: of the configuration, else of a file that is made at the first start.
fn seal_key(control: &Control) -> Result<Zeroizing<[u8; KEY_BYTES]>, StartError> {
    let file = control.state_dir.join("seal.key");
    match &control.seal_key {
        Some(key) => {
            read_key(key.expose()).map_err(|problem| StartError::Key { file: "seal_key_file".into(), problem })
        }
        None => key_in(&file),
    }
}

/// The key in a file of this node, made when there is none.
pub(super) fn key_in(file: &Path) -> Result<Zeroizing<[u8; KEY_BYTES]>, StartError> {
    let wrong = |problem: String| StartError::Key { file: file.to_owned(), problem };
    match std::fs::read_to_string(file) {
        Ok(text) => read_key(&Zeroizing::new(text)).map_err(wrong),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            let random = ring::rand::SystemRandom::new();
            ring::rand::SecureRandom::fill(&random, key.as_mut()).map_err(|_| NoRandomness)?;
            let text = Zeroizing::new(BASE64.encode(*key));
            private_file::write(file, &text).map_err(|error| wrong(error.to_string()))?;
            Ok(key)
        }
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn read_key(text: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, String> {
    let wrong = || format!("a key is {KEY_BYTES} bytes in base64, as `openssl rand -base64 {KEY_BYTES}` makes one");
    let bytes = Zeroizing::new(BASE64.decode(text.trim()).map_err(|_| wrong())?);
    Ok(Zeroizing::new(bytes.as_slice().try_into().map_err(|_| wrong())?))
}
