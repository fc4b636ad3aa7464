//! Deletion of topics on a real Kafka: closed at once, deleted later by its id, and called off in between.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use iguazu::control::actor::Actor;
use iguazu::control::apply::{Applier, ApplyError};
use iguazu::control::kafka::{KafkaAdmin as _, Timeouts};
use iguazu::control::provider::Providers;
use iguazu::control::quiet::Quiet;
use iguazu::control::request::{Request, RequestError, RequestState};
use iguazu::control::resource::Kind;
use iguazu::control::store::ResourceState;
use rdkafka::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use serde_json::{Value, json};

use super::control_reconcile::root;
use super::control_requests::{Killed, Plane, ann, as_user, ask, change, produce, topic_spec};
use super::kafka_admin::{admin, client, codes, describe, password};
use super::support::kafka::{self, Cluster, STRANGER, Topic};
use super::support::{referee, unique, wait_until};

fn bob() -> Actor {
    Actor { name: "bob".into(), ..ann() }
}

fn ops() -> Actor {
    Actor { name: "ops".into(), groups: BTreeSet::from(["platform".to_owned()]), roles: BTreeSet::new() }
}

/// A plane with a topic, a user, and a grant; the quiet period of its cluster is so many hours, or the one that there is without.
struct Shop {
    plane: Plane,
    topic: String,
    app: String,
    client: ClientConfig,
}

impl Shop {
    async fn open(cluster: &Cluster, quiet_hours: Option<f64>) -> Shop {
        let plane = Plane::new(cluster).await;
        let spec =
            json!({ "mode": "shared", "shares_disks": true, "operators": ["platform"], "quiet_hours": quiet_hours })
                .to_string();
        let request = plane.desk.submit(&root(), ask(vec![change("cluster/core", Some(&spec))])).await.unwrap();
        let other = Actor { name: "root2".into(), ..root() };
        plane.desk.approve(&other, &request.id, &request.plan_hash, "", "").await.unwrap();
        plane.applier.run_once().await.unwrap();
        let (topic, app) = (unique("orders.old"), unique("old-app"));
        let access = |target: &str| {
            let name = format!("access/core/{app}:produce:{target}");
            let spec = json!({ "service": "orders", "level": "produce", "target": target, "principal": app });
            change(&name, Some(&spec.to_string()))
        };
        plane
            .done(
                &ann(),
                vec![
                    change("service/orders", Some(r#"{ "group": "team-orders" }"#)),
                    change(&format!("topic/core/{topic}"), Some(&topic_spec(0.01))),
                    change(&format!("topic/core/{topic}.stays"), Some(&topic_spec(0.01))),
                    change(&format!("user/core/{app}"), Some(r#"{ "service": "orders" }"#)),
                    access(&topic),
                    access(&format!("{topic}.stays")),
                ],
            )
            .await;
        let secret = plane.password_of(&format!("user/core/{app}"), 1, "ann").await.unwrap();
        let client = as_user(cluster, &app, &secret);
        Shop { plane, topic, app, client }
    }

    fn topic_id(&self) -> String {
        format!("topic/core/{}", self.topic)
    }

    /// Asks for the deletion of the topic; owner and operator agree.
    async fn agreed(&self) -> Request {
        let changes = vec![change(&self.topic_id(), None)];
        let request = self.plane.desk.submit(&ann(), ask(changes)).await.unwrap();
        assert_eq!(request.state, RequestState::Pending, "{request:#?}");
        for who in [bob(), ops()] {
            self.plane.desk.approve(&who, &request.id, &request.plan_hash, "", "").await.unwrap();
        }
        request
    }

    /// Waits for the end of the quiet period.
    async fn quiet_is_over(&self, id: &str) {
        wait_until("the end of the quiet period", async || {
            let Some(Quiet { until_ms: Some(until), .. }) = self.plane.request(id).await.quiet else { return Ok(()) };
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
            if until <= now { Ok(()) } else { Err(format!("{} ms to go", until - now)) }
        })
        .await;
    }

    /// A node begins with a request, goes on with it after something has happened, and dies at an act: after so many of them, right
    /// before it or right after.
    async fn dies(&self, request: &Request, at: (u32, bool), happens: impl AsyncFn()) {
        let left = Arc::new(std::sync::Mutex::new(Some(at)));
        let mut providers = Providers::default();
        for kind in [Kind::Topic, Kind::Access] {
            let inner = Arc::clone(providers.of(kind).unwrap());
            providers.add(Arc::new(Killed { inner, left: Arc::clone(&left) }));
        }
        let dying = self.plane.applier.with_providers(providers, "dying");
        let died = tokio::time::timeout(Duration::from_secs(4), async {
            dying.apply(&request.id).await.unwrap();
            happens().await;
            dying.apply(&request.id).await
        });
        let died = died.await;
        let steps = self.plane.store.steps::<Value>(&request.id).await.unwrap();
        assert!(died.is_err(), "{at:?}: it came to the end: {died:?}, {steps:#?}");
        self.plane.store.release(&self.plane.store.lease("apply", "dying", 1).await.unwrap().unwrap()).await.unwrap();
    }

    async fn produce(&self, topic: &str) -> Result<(), RDKafkaErrorCode> {
        let (client, topic) = (self.client.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || produce(&client, &topic)).await.unwrap()
    }

    async fn exists(&self, cluster: &Cluster) -> bool {
        codes(&admin(cluster).describe_topics(std::slice::from_ref(&self.topic)).await.unwrap()) == ["ok"]
    }

    /// What another client sees of rules: those of the user, and those of everybody for the topic.
    fn rules(&self, cluster: &Cluster) -> (Value, Vec<Value>) {
        let questions = json!([
            { "client": "python", "do": "acls", "principal": format!("User:{}", self.app) },
            { "client": "confluent", "do": "acls", "principal": "User:*" },
        ]);
        let mut answers = referee::ask(cluster, &questions);
        let everybody = answers.remove(1).as_array().unwrap().clone();
        (answers.remove(0), everybody.into_iter().filter(|rule| rule[2] == self.topic).collect())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_closed_at_once_and_called_off_it_is_as_it_was() {
    let cluster = kafka::shared();
    let shop = Shop::open(&cluster, None).await;
    assert_eq!(shop.produce(&shop.topic).await, Ok(()));
    let before = shop.rules(&cluster);
    let request = shop.agreed().await;
    shop.plane.applier.run_once().await.unwrap();

    let closed = shop.plane.request(&request.id).await;
    assert_eq!(closed.state, RequestState::Quiet, "{closed:#?}");
    assert_eq!(closed.quiet.as_ref().map(|quiet| quiet.hours), Some(72.0), "where the cluster does not say");
    assert_eq!(shop.plane.resource(&shop.topic_id()).await.unwrap().state, ResourceState::Deleting);
    assert_eq!(shop.produce(&shop.topic).await, Err(RDKafkaErrorCode::TopicAuthorizationFailed), "from its start");
    assert_eq!(shop.produce(&format!("{}.stays", shop.topic)).await, Ok(()), "nothing else is closed");
    assert!(shop.exists(&cluster).await);
    // Its time is not up, however often somebody looks.
    shop.plane.applier.run_once().await.unwrap();
    assert!(shop.exists(&cluster).await);
    // Meanwhile nothing else is done with it.
    let busy =
        shop.plane.desk.submit(&ann(), ask(vec![change(&shop.topic_id(), Some(&topic_spec(0.02)))])).await.unwrap();
    assert!(busy.changes[0].violations.iter().any(|violation| violation.rule == "busy"), "{busy:#?}");

    let eve = Actor { name: "eve".into(), groups: BTreeSet::new(), roles: BTreeSet::new() };
    let refused = shop.plane.desk.call_off(&eve, &request.id, "", "").await;
    assert!(matches!(refused, Err(RequestError::NotAnApprover { .. })), "{refused:?}");
    shop.plane.desk.call_off(&ops(), &request.id, "the billing job reads it", "127.0.0.1").await.unwrap();
    shop.plane.applier.run_once().await.unwrap();
    let off = shop.plane.request(&request.id).await;
    assert_eq!((off.state, off.message.as_str()), (RequestState::Withdrawn, "called off by ops"));
    assert_eq!(shop.produce(&shop.topic).await, Ok(()));
    assert_eq!(shop.rules(&cluster), before, "every rule is as it was");
    for id in [shop.topic_id(), format!("access/core/{}:produce:{}", shop.app, shop.topic)] {
        assert_eq!(shop.plane.resource(&id).await.unwrap().state, ResourceState::Ready, "{id}");
    }
    assert_eq!(shop.plane.store.verify_audit().await.unwrap().map(|lines| lines > 0), Ok(true));
}

/// What the page for operators has them do with a store that was put back: the node is kept from Kafka until they have looked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_reaches_no_kafka_deletes_nothing_and_what_is_overdue_can_be_called_off_there() {
    let cluster = kafka::shared();
    let shop = Shop::open(&cluster, Some(0.0001)).await;
    let request = shop.agreed().await;
    shop.plane.applier.run_once().await.unwrap();
    shop.quiet_is_over(&request.id).await;

    let nowhere = Timeouts {
        connect: Duration::from_millis(200),
        answer: Duration::from_millis(300),
        call: Duration::from_millis(500),
    };
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut reach = shop.plane.reach.clone();
    reach.clusters.insert("core".into(), Arc::new(client(&closed, None, password("PLAIN", STRANGER), nowhere)));
    let Plane { store, desk, .. } = &shop.plane;
    let apart = Applier::new(store.clone(), desk.clone(), Providers::default(), reach, "apart");
    let waits = apart.apply(&request.id).await;
    assert!(matches!(waits, Err(ApplyError::Later { .. })), "{waits:?}");
    assert_eq!(shop.plane.request(&request.id).await.state, RequestState::Quiet);
    desk.call_off(&ops(), &request.id, "it was called off before", "").await.unwrap();
    shop.plane.applier.run_once().await.unwrap();
    assert_eq!(shop.plane.request(&request.id).await.state, RequestState::Withdrawn);
    assert!(shop.exists(&cluster).await);
    assert_eq!(shop.produce(&shop.topic).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_its_quiet_period_a_topic_goes_and_nothing_that_was_granted_on_it_outlives_it() {
    let cluster = kafka::shared();
    let shop = Shop::open(&cluster, Some(0.0001)).await;
    assert_eq!(shop.produce(&shop.topic).await, Ok(()));
    let taken = shop.plane.store.taken("core").await.unwrap();
    let request = shop.agreed().await;
    shop.plane.applier.run_once().await.unwrap();
    assert!(shop.exists(&cluster).await);
    shop.quiet_is_over(&request.id).await;
    shop.plane.applier.run_once().await.unwrap();
    let ended = shop.plane.request(&request.id).await;
    assert_eq!((ended.state, ended.message.as_str()), (RequestState::Ready, ""));
    assert!(!shop.exists(&cluster).await);
    let (own, everybody) = shop.rules(&cluster);
    let names: Vec<&str> = own.as_array().unwrap().iter().map(|rule| rule[2].as_str().unwrap()).collect();
    assert_eq!(names, [format!("{}.stays", shop.topic), format!("{}.stays", shop.topic)], "its own rules are gone");
    assert_eq!(everybody, Vec::<Value>::new(), "and what closed it, so that a later topic of its name is open");
    for id in [shop.topic_id(), format!("access/core/{}:produce:{}", shop.app, shop.topic)] {
        assert!(shop.plane.resource(&id).await.is_none(), "{id}");
    }
    assert_eq!(shop.plane.store.taken("core").await.unwrap().disk_bytes * 2, taken.disk_bytes, "its room is free");
    assert_eq!(shop.produce(&format!("{}.stays", shop.topic)).await, Ok(()));
}

#[tokio::test]
async fn a_topic_that_was_made_anew_in_its_quiet_period_is_not_deleted() {
    let cluster = kafka::shared();
    let shop = Shop::open(&cluster, Some(0.0001)).await;
    let request = shop.agreed().await;
    shop.plane.applier.run_once().await.unwrap();
    cluster.delete_topic(&shop.topic);
    wait_until("the topic is gone", async || if shop.exists(&cluster).await { Err("no".into()) } else { Ok(()) }).await;
    cluster.create_topic(&shop.topic, Topic::default());
    let theirs = describe(&admin(&cluster), &shop.topic, |_| true).await.id;
    shop.quiet_is_over(&request.id).await;
    shop.plane.applier.run_once().await.unwrap();
    let ended = shop.plane.request(&request.id).await;
    assert_eq!(ended.state, RequestState::Failed, "{ended:#?}");
    assert!(ended.message.contains("made anew"), "{}", ended.message);
    assert_eq!(describe(&admin(&cluster), &shop.topic, |_| true).await.id, theirs);
}

#[tokio::test]
async fn a_node_that_dies_at_any_step_of_a_deletion_leaves_one_that_another_node_ends_the_same() {
    let cluster = kafka::shared();
    // Close; then revoke, delete, open.
    for dies in (0..4).map(|acts| (acts, true)).chain([(2, false)]) {
        let shop = Shop::open(&cluster, Some(0.0001)).await;
        let request = shop.agreed().await;
        shop.dies(&request, dies, async || shop.quiet_is_over(&request.id).await).await;

        shop.plane.applier.run_once().await.unwrap();
        shop.quiet_is_over(&request.id).await;
        shop.plane.applier.run_once().await.unwrap();
        let ended = shop.plane.request(&request.id).await;
        assert_eq!((ended.state, ended.message.as_str()), (RequestState::Ready, ""), "{dies:?}");
        assert!(!shop.exists(&cluster).await, "{dies:?}");
        assert_eq!(shop.rules(&cluster).1, Vec::<Value>::new(), "{dies:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_while_it_opens_what_was_called_off_leaves_it_to_another_one() {
    let cluster = kafka::shared();
    // Close goes; open dies, before it is done or after.
    for dies in [(1, false), (1, true)] {
        let shop = Shop::open(&cluster, None).await;
        let before = shop.rules(&cluster);
        let request = shop.agreed().await;
        let called_off = async || {
            shop.plane.desk.call_off(&ann(), &request.id, "it is needed", "127.0.0.1").await.unwrap();
        };
        shop.dies(&request, dies, called_off).await;

        shop.plane.applier.run_once().await.unwrap();
        let ended = shop.plane.request(&request.id).await;
        assert_eq!((ended.state, ended.message.as_str()), (RequestState::Withdrawn, "called off by ann"), "{dies:?}");
        assert_eq!(shop.rules(&cluster), before, "{dies:?}: every rule is as it was");
        assert_eq!(shop.produce(&shop.topic).await, Ok(()), "{dies:?}");
        for id in [shop.topic_id(), format!("access/core/{}:produce:{}", shop.app, shop.topic)] {
            assert_eq!(shop.plane.resource(&id).await.unwrap().state, ResourceState::Ready, "{dies:?}: {id}");
        }
    }
}
