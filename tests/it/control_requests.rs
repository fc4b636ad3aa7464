//! A request from the first word to a client that works: real Kafka with users and access rules, looked at by others' clients.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use iguazu::control::actor::{Actor, Role};
use iguazu::control::apply::Applier;
use iguazu::control::capacity::Class;
use iguazu::control::kafka::{KafkaAdmin, Settings};
use iguazu::control::policy::Table;
use iguazu::control::provider::{Answer, Comparison, Observed, Provider, Providers, Reach, Step};
use iguazu::control::request::{Ask, Desk, Request, RequestState};
use iguazu::control::resource::{Kind, ManagedBy, ResourceId, Spec, Violation};
use iguazu::control::seal::{KEY_BYTES, Sealer};
use iguazu::control::store::{Need, Resource, ResourceState, Store};
use iguazu::control::world::{Change, ClusterView, World};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};

use super::kafka_admin::{TIMEOUTS, admin, password};
use super::support::kafka::{self, ADMIN, Cluster};
use super::support::{folder, unique};

/// A plane over one cluster: a desk, an applier, a store.
pub struct Plane {
    pub desk: Desk,
    pub applier: Applier,
    pub store: Store,
    pub reach: Reach,
    pub clusters: Arc<ArcSwap<BTreeMap<String, ClusterView>>>,
    sealer: Arc<Sealer>,
}

impl Plane {
    pub async fn over(cluster: &Cluster, providers: Providers, node: &str, address: &str) -> Plane {
        let store = Store::open(address).await.unwrap();
        let view =
            ClusterView { class: Class::default(), disk_bytes_max: Some(10_u64.pow(13)), ..ClusterView::default() };
        let clusters = Arc::new(ArcSwap::from_pointee(BTreeMap::from([("core".to_owned(), view)])));
        let policy = Arc::new(ArcSwap::from_pointee(Table::default()));
        let desk = Desk::new(store.clone(), providers.clone(), policy, Arc::clone(&clusters));
        let client: Arc<dyn KafkaAdmin> = Arc::new(admin(cluster));
        let settings = Settings {
            brokers: cluster.sasl_brokers().split(',').map(str::to_owned).collect(),
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
        let applier = Applier::new(store.clone(), desk.clone(), providers, reach.clone(), node);
        Plane { desk, applier, store, reach, clusters, sealer }
    }

    pub async fn new(cluster: &Cluster) -> Plane {
        let plane = Plane::over(cluster, Providers::default(), "node", &address()).await;
        let admin = Actor { name: "root".into(), groups: BTreeSet::new(), roles: BTreeSet::from([Role::Admin]) };
        let spec = r#"{ "mode": "shared", "shares_disks": true, "operators": ["platform"] }"#;
        // A cluster that is not registered is no cluster: nobody reviews the first one.
        let request = plane.desk.submit(&admin, ask(vec![change("cluster/core", Some(spec))])).await.unwrap();
        let root2 = Actor { name: "root2".into(), ..admin };
        plane.desk.approve(&root2, &request.id, &request.plan_hash, "", "").await.unwrap();
        assert_eq!(plane.applier.run_once().await.unwrap(), 1);
        plane
    }

    /// Submits, applies, and expects it to be through.
    pub async fn done(&self, actor: &Actor, changes: Vec<Change>) -> Request {
        let request = self.desk.submit(actor, ask(changes)).await.unwrap();
        assert_eq!(request.state, RequestState::Approved, "{request:#?}");
        self.applier.run_once().await.unwrap();
        let request = self.request(&request.id).await;
        assert_eq!((request.state, request.message.as_str()), (RequestState::Ready, ""));
        request
    }

    pub async fn request(&self, id: &str) -> Request {
        self.store.request::<Request>(id).await.unwrap().unwrap().document
    }

    pub async fn resource(&self, id: &str) -> Option<Resource> {
        self.store.resource(&id.parse().unwrap()).await.unwrap()
    }

    /// The password that its requester reads, once.
    pub async fn password_of(&self, id: &str, generation: i64, reader: &str) -> Option<String> {
        let mut tx = self.store.begin().await.unwrap();
        let sealed = tx.take_secret(id, generation, reader).await.unwrap()?;
        tx.commit().await.unwrap();
        Some((*self.sealer.open(&sealed, &format!("{id}#{generation}")).unwrap()).clone())
    }
}

pub fn address() -> String {
    format!("sqlite:{}", folder("control").join("control.db").display())
}

pub fn ann() -> Actor {
    Actor { name: "ann".into(), groups: BTreeSet::from(["team-orders".to_owned()]), roles: BTreeSet::new() }
}

pub fn change(id: &str, spec: Option<&str>) -> Change {
    let id: ResourceId = id.parse().unwrap();
    let desired = spec.map(|spec| Spec::read(id.kind, serde_json::from_str(spec).unwrap()).unwrap());
    Change { id, desired, if_match: None }
}

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

pub fn topic_spec(mb_per_second: f64) -> String {
    format!(r#"{{ "service": "orders", "capacity": {{ "mb_per_second": {mb_per_second} }} }}"#)
}

pub fn as_user(cluster: &Cluster, user: &str, password: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster.sasl_brokers())
        .set("security.protocol", "SASL_PLAINTEXT")
        .set("sasl.mechanism", "SCRAM-SHA-512")
        .set("sasl.username", user)
        .set("sasl.password", password)
        .set("message.timeout.ms", "20000");
    config
}

/// The fate of each record, from its delivery report.
#[derive(Default)]
struct Fates(std::sync::Mutex<Vec<Result<(), RDKafkaErrorCode>>>);

impl rdkafka::ClientContext for Fates {}
impl ProducerContext for Fates {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let fate = result.as_ref().map(drop).map_err(|(error, _)| error.rdkafka_error_code().unwrap());
        self.0.lock().unwrap().push(fate);
    }
}

pub fn produce(config: &ClientConfig, topic: &str) -> Result<(), RDKafkaErrorCode> {
    let producer: BaseProducer<Fates> = config.create_with_context(Fates::default()).unwrap();
    producer
        .send(BaseRecord::<(), [u8]>::to(topic).payload(b"x"))
        .map_err(|(error, _)| error.rdkafka_error_code().unwrap())?;
    producer.flush(Duration::from_secs(25)).unwrap();
    let fate = producer.context().0.lock().unwrap().pop();
    fate.expect("a flushed record has a report")
}

fn consume(config: &ClientConfig, topic: &str, group: &str) -> Result<(), RDKafkaErrorCode> {
    let mut config = config.clone();
    let consumer: BaseConsumer = config.set("group.id", group).set("auto.offset.reset", "earliest").create().unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while std::time::Instant::now() < until {
        match consumer.poll(Duration::from_millis(500)) {
            Some(Ok(_)) => return Ok(()),
            Some(Err(error)) => return Err(error.rdkafka_error_code().unwrap()),
            None => {}
        }
    }
    panic!("neither a record nor an error of {topic} in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_onboarding_in_one_request_gives_a_client_that_can_do_what_was_granted_and_nothing_else() {
    let cluster = kafka::shared();
    let plane = Plane::new(&cluster).await;
    let (mine, user, group) = (unique("orders.placed"), unique("orders-app"), "orders.readers");
    let others = unique("others.topic");
    let admin = admin(&cluster);
    admin
        .create_topics(&[super::kafka_admin::new_topic(&others, 1, 1, &[])], iguazu::control::kafka::Mode::Apply)
        .await
        .unwrap();
    let user_spec = r#"{ "service": "orders" }"#;
    let access = |level: &str| {
        let spec =
            format!(r#"{{ "service": "orders", "level": "{level}", "target": "{mine}", "principal": "{user}" }}"#);
        change(&format!("access/core/{user}:{level}:{mine}"), Some(&spec))
    };
    // In any order: what others need comes first.
    let request = plane
        .done(
            &ann(),
            vec![
                access("produce"),
                access("consume"),
                change(&format!("user/core/{user}"), Some(user_spec)),
                change(&format!("topic/core/{mine}"), Some(&topic_spec(0.01))),
                change("service/orders", Some(r#"{ "group": "team-orders" }"#)),
            ],
        )
        .await;
    assert_eq!(
        request.changes.iter().map(|planned| planned.resource.kind).collect::<Vec<_>>(),
        [Kind::Service, Kind::Topic, Kind::User, Kind::Access, Kind::Access]
    );

    // Read back by another client than ours.
    let theirs: AdminClient<DefaultClientContext> = as_admin(&cluster).create().unwrap();
    let described = theirs.describe_configs(&[ResourceSpecifier::Topic(&mine)], &AdminOptions::new()).await.unwrap();
    let configs = described.into_iter().next().unwrap().unwrap();
    for (key, value) in [("min.insync.replicas", "1"), ("retention.ms", "86400000"), ("cleanup.policy", "delete")] {
        assert_eq!(configs.get(key).and_then(|entry| entry.value.clone()).as_deref(), Some(value), "{key}");
    }

    // The password is there once, for who asked.
    let id = format!("user/core/{user}");
    assert_eq!(plane.password_of(&id, 1, "bob").await, None);
    let secret = plane.password_of(&id, 1, "ann").await.unwrap();
    assert_eq!(plane.password_of(&id, 1, "ann").await, None);

    let config = as_user(&cluster, &user, &secret);
    let (mine2, others2, user2) = (mine.clone(), others.clone(), config.clone());
    tokio::task::spawn_blocking(move || {
        assert_eq!(produce(&user2, &mine2), Ok(()), "what was granted");
        assert_eq!(consume(&user2, &mine2, group), Ok(()), "what was granted");
        assert_eq!(produce(&user2, &others2), Err(RDKafkaErrorCode::TopicAuthorizationFailed));
        assert_eq!(consume(&user2, &others2, group), Err(RDKafkaErrorCode::TopicAuthorizationFailed));
        assert_eq!(consume(&user2, &mine2, "bills.readers"), Err(RDKafkaErrorCode::GroupAuthorizationFailed));
    })
    .await
    .unwrap();

    // What is taken away is gone, and what another grant needs stays.
    plane.done(&ann(), vec![change(&format!("access/core/{user}:produce:{mine}"), None)]).await;
    assert!(plane.resource(&format!("access/core/{user}:produce:{mine}")).await.is_none());
    let (mine2, config2) = (mine.clone(), config.clone());
    tokio::task::spawn_blocking(move || {
        assert_eq!(produce(&config2, &mine2), Err(RDKafkaErrorCode::TopicAuthorizationFailed));
        assert_eq!(consume(&config2, &mine2, "orders.others"), Ok(()), "describe is still granted with consume");
    })
    .await
    .unwrap();
    assert_eq!(plane.store.verify_audit().await.unwrap().map(|lines| lines > 5), Ok(true));
}

fn as_admin(cluster: &Cluster) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster.sasl_brokers())
        .set("security.protocol", "SASL_PLAINTEXT")
        .set("sasl.mechanism", "PLAIN")
        .set("sasl.username", ADMIN.0)
        .set("sasl.password", ADMIN.1);
    config
}

#[tokio::test]
async fn a_topic_that_is_there_already_is_never_taken_over_nor_changed() {
    let cluster = kafka::shared();
    let plane = Plane::new(&cluster).await;
    plane.done(&ann(), vec![change("service/orders", Some(r#"{ "group": "team-orders" }"#))]).await;
    let name = unique("orders.theirs");
    let admin = admin(&cluster);
    let theirs = super::kafka_admin::new_topic(&name, 5, 1, &[("retention.ms", "1234567")]);
    admin.create_topics(&[theirs], iguazu::control::kafka::Mode::Apply).await.unwrap();
    super::kafka_admin::describe(&admin, &name, |topic| topic.partitions.len() == 5).await;
    // It is on Kafka and not in the store: a plan to create it meets what is there. The steps are planned on that.
    let request =
        plane.desk.submit(&ann(), ask(vec![change(&format!("topic/core/{name}"), Some(&topic_spec(0.01)))])).await;
    let request = request.unwrap();
    plane.applier.run_once().await.unwrap();
    let request = plane.request(&request.id).await;
    assert_eq!(request.state, RequestState::Failed, "{request:#?}");
    assert!(request.message.contains("there already"), "{}", request.message);
    let after = super::kafka_admin::describe(&admin, &name, |_| true).await;
    assert_eq!(after.partitions.len(), 5);
    let failed = plane.resource(&format!("topic/core/{name}")).await.unwrap();
    assert_eq!(failed.state, ResourceState::Failed);
}

/// A provider whose every act stops the process, so to speak: right before it does something, or right after.
pub struct Killed {
    pub inner: Arc<dyn Provider>,
    /// How many acts may go until it happens, and whether it happens after the act.
    pub left: Arc<std::sync::Mutex<Option<(u32, bool)>>>,
}

impl Provider for Killed {
    fn kind(&self) -> Kind {
        self.inner.kind()
    }
    fn related(&self, change: &Change) -> Vec<ResourceId> {
        self.inner.related(change)
    }
    fn violations(&self, change: &Change, world: &World) -> Vec<Violation> {
        self.inner.violations(change, world)
    }
    fn facts(&self, change: &Change, world: &World, facts: &mut iguazu::control::policy::Facts) {
        self.inner.facts(change, world, facts);
    }
    fn need(&self, change: &Change, world: &World) -> Option<Need> {
        self.inner.need(change, world)
    }
    fn steps(&self, change: &Change, world: &World, observed: &Observed) -> Vec<Step> {
        self.inner.steps(change, world, observed)
    }
    fn closing(&self, change: &Change, world: &World, observed: &Observed) -> Vec<Step> {
        self.inner.closing(change, world, observed)
    }
    fn opening(&self, change: &Change, world: &World) -> Vec<Step> {
        self.inner.opening(change, world)
    }
    fn observe<'a>(&'a self, id: &'a ResourceId, reach: &'a Reach) -> Answer<'a, Observed> {
        self.inner.observe(id, reach)
    }
    fn compare(&self, step: &Step, observed: &Observed) -> Comparison {
        self.inner.compare(step, observed)
    }
    fn act<'a>(&'a self, step: &'a Step, reach: &'a Reach) -> Answer<'a, ()> {
        Box::pin(async move {
            let dies_after = {
                let mut left = self.left.lock().unwrap();
                match left.as_mut() {
                    Some((0, after)) => Some(*after),
                    Some((left, _)) => {
                        *left -= 1;
                        None
                    }
                    None => None,
                }
            };
            if dies_after == Some(false) {
                std::future::pending::<()>().await;
            }
            self.inner.act(step, reach).await?;
            if dies_after == Some(true) {
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_node_that_dies_at_any_step_leaves_a_request_that_another_one_ends_the_same() {
    let cluster = kafka::shared();
    for dies in (0..3).flat_map(|acts| [(acts, false), (acts, true)]) {
        let plane = Plane::new(&cluster).await;
        plane.done(&ann(), vec![change("service/orders", Some(r#"{ "group": "team-orders" }"#))]).await;
        let (topic, user) = (unique("orders.killed"), unique("killed-app"));
        let access =
            format!(r#"{{ "service": "orders", "level": "produce", "target": "{topic}", "principal": "{user}" }}"#);
        let request = plane
            .desk
            .submit(
                &ann(),
                ask(vec![
                    change(&format!("topic/core/{topic}"), Some(&topic_spec(0.01))),
                    change(&format!("user/core/{user}"), Some(r#"{ "service": "orders" }"#)),
                    change(&format!("access/core/{user}:produce:{topic}"), Some(&access)),
                ]),
            )
            .await
            .unwrap();

        // A node that stops for ever in the middle of an act; it is dropped there, as `kill -9` would.
        let left = Arc::new(std::sync::Mutex::new(Some(dies)));
        let mut providers = Providers::default();
        for kind in [Kind::Topic, Kind::User, Kind::Access] {
            let inner = Arc::clone(providers.of(kind).unwrap());
            providers.add(Arc::new(Killed { inner, left: Arc::clone(&left) }));
        }
        let dying = plane.applier.with_providers(providers, "dying");
        let died = tokio::time::timeout(Duration::from_secs(4), dying.apply(&request.id)).await;
        assert!(died.is_err(), "{dies:?}: it came to the end: {died:?}");
        plane.store.release(&plane.store.lease("apply", "dying", 1).await.unwrap().unwrap()).await.unwrap();

        plane.applier.run_once().await.unwrap();
        let ended = plane.request(&request.id).await;
        assert_eq!((ended.state, ended.message.as_str()), (RequestState::Ready, ""), "{dies:?}");
        let secret = plane.password_of(&format!("user/core/{user}"), 1, "ann").await.unwrap();
        let config = as_user(&cluster, &user, &secret);
        let sent = tokio::task::spawn_blocking(move || produce(&config, &topic)).await.unwrap();
        assert_eq!(sent, Ok(()), "{dies:?}");
        let taken = plane.store.taken("core").await.unwrap();
        assert_eq!(Some(taken), ended.changes.iter().find_map(|planned| planned.need), "{dies:?}: one reservation");
        assert_eq!(plane.store.verify_audit().await.unwrap().map(|lines| lines > 0), Ok(true));
    }
}

#[tokio::test]
async fn growth_is_applied_and_what_was_set_by_hand_on_kafka_is_not_touched() {
    let cluster = kafka::shared();
    let plane = Plane::new(&cluster).await;
    plane.done(&ann(), vec![change("service/orders", Some(r#"{ "group": "team-orders" }"#))]).await;
    let name = unique("orders.grows");
    let id = format!("topic/core/{name}");
    plane.done(&ann(), vec![change(&id, Some(&topic_spec(0.01)))]).await;
    let admin = admin(&cluster);
    let by_hand = iguazu::control::kafka::configs::ConfigChange {
        resource: iguazu::control::kafka::configs::ConfigResource::Topic(name.clone()),
        values: vec![("preallocate".into(), Some("true".into()))],
    };
    admin.alter_configs(&[by_hand], iguazu::control::kafka::Mode::Apply).await.unwrap();
    let grown = r#"{ "service": "orders", "capacity": { "mb_per_second": 0.02, "consumers": 6 } }"#;
    plane.done(&ann(), vec![change(&id, Some(grown))]).await;
    let topic = super::kafka_admin::describe(&admin, &name, |topic| topic.partitions.len() == 6).await;
    let resource = plane.resource(&id).await.unwrap();
    assert_eq!(resource.kafka_id.as_deref(), Some(&*topic.id.to_string()));
    assert_eq!((resource.generation, resource.state), (2, ResourceState::Ready));
    let observed = resource.observed.unwrap();
    assert_eq!(observed["configs"]["preallocate"], "true");
}
