//! A control plane in the test's own process: desk, applier and snapshots over a store of its own, real Kafka and a real registry,
//! and a small server that proxies ask.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use iguazu::config::{self, SigningKey};
use iguazu::control::actor::{Actor, Role};
use iguazu::control::apply::Applier;
use iguazu::control::kafka::{KafkaAdmin, Settings};
use iguazu::control::policy::Table;
use iguazu::control::provider::{EventChecks, EventTypeProvider, Providers, Reach};
use iguazu::control::request::{Ask, Desk, Request, RequestState};
use iguazu::control::resource::{ManagedBy, ResourceId, Spec};
use iguazu::control::seal::{KEY_BYTES, Sealer};
use iguazu::control::snapshot::{Keys, Snapshots, router};
use iguazu::control::store::{Resource, Store};
use iguazu::control::world::{Change, ClusterView};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::fixture::Fixture;
use super::gate::{Gate, Gatekeeper};
use super::kafka::ADMIN;
use super::{folder, wait_until};
use crate::kafka_admin::{TIMEOUTS, admin, password};

/// The token of proxies.
const TOKEN: &str = "a proxy's token";

/// A control plane. End it with [`Plane::finish`].
pub struct Plane {
    pub desk: Desk,
    pub applier: Applier,
    pub store: Store,
    pub snapshots: Arc<Snapshots>,
    sealer: Arc<Sealer>,
    /// What the next answers are instead of the snapshot.
    pub instead: Arc<Mutex<Option<String>>>,
    folder: PathBuf,
    server: Option<Server>,
    gate: Gatekeeper,
    public_key: String,
    makes: Option<(CancellationToken, JoinHandle<()>)>,
    others: Vec<(CancellationToken, JoinHandle<()>, Server)>,
}

struct Server {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(snapshots: &Arc<Snapshots>, instead: &Arc<Mutex<Option<String>>>) -> (SocketAddr, Server) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let app = router(Arc::clone(snapshots)).layer(from_fn_with_state(Arc::clone(instead), door));
        let served = axum::serve(listener, app).with_graceful_shutdown(stop.clone().cancelled_owned());
        let task = tokio::spawn(async move { served.await.unwrap() });
        (address, Server { stop, task })
    }
}

impl Plane {
    /// A plane over the fixture's cluster and registry, on a port of its own, with the cluster and the service `orders` registered.
    pub async fn start(fixture: &Fixture) -> Plane {
        let folder = folder("plane");
        let store = Store::open(&format!("sqlite:{}", folder.join("control.db").display())).await.unwrap();
        let written = config::parse(&fixture.config(), &folder).unwrap();
        let checks = Arc::new(EventChecks::new(&written.clusters, &written.registries).unwrap());
        let mut providers = Providers::default();
        providers.add(Arc::new(EventTypeProvider::new(Arc::clone(&checks))));
        let view = ClusterView { disk_bytes_max: Some(10_u64.pow(13)), ..ClusterView::default() };
        let clusters = Arc::new(ArcSwap::from_pointee(BTreeMap::from([("core".to_owned(), view)])));
        let policy = Arc::new(ArcSwap::from_pointee(Table::default()));
        let desk = Desk::new(store.clone(), providers.clone(), policy, clusters);
        let client: Arc<dyn KafkaAdmin> = Arc::new(admin(&fixture.cluster));
        let settings = Settings {
            brokers: fixture.cluster.sasl_brokers().split(',').map(str::to_owned).collect(),
            tls: None,
            sasl: password("PLAIN", ADMIN),
            timeouts: TIMEOUTS,
        };
        let sealer = Arc::new(Sealer::new(&[7; KEY_BYTES]));
        let reach = Reach {
            clusters: BTreeMap::from([("core".to_owned(), client)]),
            settings: BTreeMap::from([("core".to_owned(), settings)]),
            store: store.clone(),
            sealer: Arc::clone(&sealer),
        };
        let applier = Applier::new(store.clone(), desk.clone(), providers, reach, "node");
        let keys = Keys::open(&folder.join("snapshot.pem")).unwrap();
        let public_key = keys.public()[0].to_string();
        let snapshots = Arc::new(Snapshots::new(store.clone(), keys, checks));
        let stop = CancellationToken::new();
        let makes = tokio::spawn(Arc::clone(&snapshots).run(stop.clone()));
        std::fs::write(folder.join("token"), TOKEN).unwrap();
        std::fs::set_permissions(folder.join("token"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let instead = Arc::default();
        let (address, server) = Server::start(&snapshots, &instead).await;
        let plane = Plane {
            desk,
            applier,
            store,
            snapshots,
            sealer,
            instead,
            folder,
            server: Some(server),
            gate: Gatekeeper::start(&address.to_string()),
            public_key,
            makes: Some((stop, makes)),
            others: Vec::new(),
        };
        plane.register().await;
        plane
    }

    async fn register(&self) {
        let admin = Actor { name: "root".into(), groups: BTreeSet::new(), roles: BTreeSet::from([Role::Admin]) };
        let cluster = json!({ "mode": "shared", "shares_disks": true, "operators": ["platform"] });
        let request = self.desk.submit(&admin, ask(vec![change("cluster/core", cluster)])).await.unwrap();
        let second = Actor { name: "root2".into(), ..admin };
        self.desk.approve(&second, &request.id, &request.plan_hash, "", "").await.unwrap();
        assert_eq!(self.applier.run_once().await.unwrap(), 1);
        self.done(vec![change("service/orders", json!({ "group": "team-orders" }))]).await;
    }

    /// Resets the connections of those who ask, until it is back.
    pub fn go_down(&self) {
        self.gate.set(Gate::Shut);
    }

    /// Answers again, where it did before.
    pub fn come_back(&self) {
        self.gate.set(Gate::Open);
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.gate.address())
    }

    /// What a proxy's configuration says of it: to stand before any table.
    pub fn routes(&self) -> String {
        self.routes_by(&[&self.url()], &[&self.public_key])
    }

    /// The same, of nodes at these addresses that sign with one of these keys.
    pub fn routes_by(&self, urls: &[&str], keys: &[&str]) -> String {
        let token = self.folder.join("token");
        format!(
            "state_dir = \"state\"\n\n[routes]\nsource = \"control\"\nurl = {urls:?}\ntoken_file = {token:?}\npublic_key = {keys:?}\n\n"
        )
    }

    /// The key that it signs with.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// A second node over the same store and keys: where it listens.
    pub async fn second_node(&mut self) -> String {
        let keys = Keys::open(&self.folder.join("snapshot.pem")).unwrap();
        let snapshots = Arc::new(Snapshots::new(self.store.clone(), keys, Arc::default()));
        let stop = CancellationToken::new();
        let makes = tokio::spawn(Arc::clone(&snapshots).run(stop.clone()));
        let (address, server) = Server::start(&snapshots, &Arc::default()).await;
        self.others.push((stop, makes, server));
        format!("http://{address}")
    }

    /// Asks for changes as a member of the team `orders`, has an operator agree where one must, and applies them.
    pub async fn done(&self, changes: Vec<Change>) -> Request {
        let request = self.desk.submit(&ann(), ask(changes)).await.unwrap();
        if request.state == RequestState::Pending {
            self.desk.approve(&olga(), &request.id, &request.plan_hash, "", "").await.unwrap();
        } else {
            assert_eq!(request.state, RequestState::Approved, "{request:#?}");
        }
        self.applier.run_once().await.unwrap();
        let request = self.store.request::<Request>(&request.id).await.unwrap().unwrap().document;
        assert_eq!((request.state, request.message.as_str()), (RequestState::Ready, ""));
        request
    }

    /// A resource as it is.
    pub async fn resource(&self, id: &str) -> Option<Resource> {
        self.store.resource(&id.parse().unwrap()).await.unwrap()
    }

    /// A sender's key, which is there once.
    pub async fn key_of(&self, sender: &str, generation: i64) -> String {
        let id = format!("sender/{sender}");
        let mut tx = self.store.begin().await.unwrap();
        let sealed = tx.take_secret(&id, generation, "ann").await.unwrap().expect("nobody has read it");
        tx.commit().await.unwrap();
        (*self.sealer.open(&sealed, &format!("{id}#{generation}")).unwrap()).clone()
    }

    /// A snapshot as a proxy that has nothing gets it.
    pub async fn snapshot(&self) -> String {
        let request = super::http::client().get(format!("{}/v1/snapshot?wait=20", self.url()));
        let reply = super::http::send(request.bearer_auth(TOKEN)).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.text()
    }

    /// Signs a statement and a document with the plane's own key, as the plane would not.
    pub fn signed(&self, statement: &config::Statement, document: &str) -> String {
        let pem = std::fs::read_to_string(self.folder.join("snapshot.pem")).unwrap();
        let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, der).unwrap();
        let key = SigningKey::from_pkcs8(&der).unwrap();
        let signed = config::Signed::new(statement, &[key], Some(document.to_owned()));
        serde_json::to_string(&signed).unwrap()
    }

    /// Ends it.
    pub async fn finish(mut self) {
        let (stop, makes) = self.makes.take().expect("it is finished once");
        let server = self.server.take().expect("it is finished once");
        for (stop, makes, server) in std::mem::take(&mut self.others).into_iter().chain([(stop, makes, server)]) {
            stop.cancel();
            makes.await.unwrap();
            server.stop.cancel();
            server.task.await.unwrap();
        }
        self.store.close().await;
    }

    /// Waits until the newest snapshot says this of an event type; none: that there is none.
    pub async fn await_event(&self, event: &str, wanted: impl Fn(Option<&Value>) -> bool) {
        wait_until("the snapshot", async || {
            let signed: Value = serde_json::from_str(&self.snapshot().await).unwrap();
            let document: Value = serde_json::from_str(signed["document"].as_str().unwrap()).unwrap();
            if wanted(document["events"].get(event)) { Ok(()) } else { Err(document.to_string()) }
        })
        .await;
    }
}

/// Lets in who knows the token, and says something else where a test wants that.
async fn door(State(instead): State<Arc<Mutex<Option<String>>>>, request: HttpRequest, next: Next) -> Response {
    let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if token != Some(&format!("Bearer {TOKEN}")) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let answer = instead.lock().unwrap().clone();
    match answer {
        Some(answer) => answer.into_response(),
        None => next.run(request).await,
    }
}

/// A member of the team that owns the service `orders`.
pub fn ann() -> Actor {
    Actor { name: "ann".into(), groups: BTreeSet::from(["team-orders".to_owned()]), roles: BTreeSet::new() }
}

/// An operator of the cluster, who is of every team.
fn olga() -> Actor {
    let groups = ["platform", "team-orders"].map(str::to_owned);
    Actor { name: "olga".into(), groups: BTreeSet::from(groups), roles: BTreeSet::from([Role::Admin]) }
}

/// A change to this spec.
pub fn change(id: &str, spec: Value) -> Change {
    let id: ResourceId = id.parse().unwrap();
    let desired = Some(Spec::read(id.kind, spec).unwrap());
    Change { id, desired, if_match: None }
}

/// A change to nothing.
pub fn gone(id: &str) -> Change {
    Change { id: id.parse().unwrap(), desired: None, if_match: None }
}

/// Changes as they are asked for.
pub fn ask(changes: Vec<Change>) -> Ask {
    Ask {
        changes,
        reason: "it is needed".into(),
        dry_run: false,
        idempotency_key: None,
        managed_by: ManagedBy::Api,
        source: "127.0.0.1".into(),
    }
}
