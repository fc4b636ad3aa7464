//! Faults that are made on a real Kafka, each on a topic of its own, and what a diagnosis says of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use iguazu::control::kafka::quotas::{QuotaChange, QuotaEntity, QuotaName};
use iguazu::control::kafka::{KafkaAdmin as _, Mode};
use iguazu::control::reconcile::Reconciler;
use iguazu::control::reconcile::history::Traffic;
use iguazu::control::reconcile::topic::Diagnosis;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;

use super::control_reconcile::{reconciler, root};
use super::control_requests::{Plane, ann, ask, change, topic_spec};
use super::kafka_admin::admin;
use super::support::kafka::{self, Cluster, Topic};
use super::support::{referee, unique, wait_until};

const DAY_MS: i64 = 86_400_000;

struct Clinic {
    plane: Plane,
    reconciler: Reconciler,
    /// Its topics, by what will be wrong with them.
    topics: BTreeMap<&'static str, String>,
}

impl Clinic {
    async fn diagnose(&self, fault: &str) -> Diagnosis {
        let id = format!("topic/core/{}", self.topics[fault]).parse().unwrap();
        self.reconciler.diagnose(&id).await.unwrap()
    }

    /// Waits until a topic's findings are these, each with evidence and a fix; brokers show what was done a moment later.
    async fn expect(&self, fault: &'static str, expected: &[&str]) -> Diagnosis {
        wait_until(fault, async || {
            let diagnosis = self.diagnose(fault).await;
            assert_eq!(diagnosis.unknown, BTreeMap::new());
            let mut kinds: Vec<&str> = diagnosis.findings.iter().map(|finding| finding.kind.as_str()).collect();
            kinds.sort_unstable();
            let told = |finding: &iguazu::control::reconcile::Finding| {
                finding.evidence.as_object().is_some_and(|evidence| !evidence.is_empty()) && !finding.fix.is_empty()
            };
            match kinds == expected && diagnosis.findings.iter().all(told) {
                true => Ok(diagnosis),
                false => Err(format!("{diagnosis:#?}")),
            }
        })
        .await
    }

    fn set(&self, cluster: &Cluster, fault: &str, key: &str, value: &str) {
        let name = &self.topics[fault];
        let question = json!([
            { "client": "confluent", "do": "alter_config", "kind": "TOPIC", "name": name, "key": key, "value": value },
        ]);
        referee::ask(cluster, &question);
    }

    /// Says of a topic what would have been measured of it.
    async fn measured(&self, fault: &str, traffic: &Traffic) {
        let mut tx = self.plane.store.begin().await.unwrap();
        tx.put_measure("core", &format!("topic/{}", self.topics[fault]), traffic).await.unwrap();
        tx.commit().await.unwrap();
    }
}

/// A plane with a topic for each of these faults, of a service with a user who may write to all but one of them.
async fn clinic(cluster: &Cluster, faults: &[&'static str]) -> (Clinic, String) {
    let plane = Plane::new(cluster).await;
    let reconciler = reconciler(&plane);
    let app = unique("clinic-app");
    let topics: BTreeMap<&str, String> =
        faults.iter().map(|fault| (*fault, unique(&format!("clinic.{fault}")))).collect();
    let mut changes = vec![
        change("service/orders", Some(r#"{ "group": "team-orders" }"#)),
        change(&format!("user/core/{app}"), Some(r#"{ "service": "orders" }"#)),
    ];
    for (fault, topic) in &topics {
        changes.push(change(&format!("topic/core/{topic}"), Some(&topic_spec(0.01))));
        if *fault != "no_access" {
            let spec = json!({ "service": "orders", "level": "produce", "target": topic, "principal": app });
            changes.push(change(&format!("access/core/{app}:produce:{topic}"), Some(&spec.to_string())));
        }
    }
    plane.done(&ann(), changes).await;
    (Clinic { plane, reconciler, topics }, app)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_that_somebody_makes_has_a_finding_that_says_so() {
    let cluster = kafka::shared();
    let faults = [
        "healthy",
        "drift",
        "over_reserve",
        "retention_under_segment",
        "message_size",
        "no_access",
        "group_dead",
        "records_lost",
        "lag_growing",
        "missing",
        "closed",
        "unused",
        "over_declared",
        "under_declared",
    ];
    let (clinic, app) = clinic(&cluster, &faults).await;
    clinic.expect("healthy", &[]).await;

    // Settings.
    clinic.set(&cluster, "drift", "compression.type", "gzip");
    clinic.expect("drift", &["drift"]).await;
    clinic.set(&cluster, "over_reserve", "retention.bytes", "999999999999");
    clinic.expect("over_reserve", &["drift", "over_reserve"]).await;
    clinic.set(&cluster, "retention_under_segment", "retention.ms", "60000");
    clinic.expect("retention_under_segment", &["drift", "retention_under_segment"]).await;
    clinic.set(&cluster, "message_size", "max.message.bytes", "1000");
    clinic.expect("message_size", &["drift", "message_size"]).await;

    // Access.
    clinic.expect("no_access", &["no_access"]).await;
    let deny = json!([{ "client": "confluent", "do": "create_acls", "principal": "User:*", "rules": [
        ["TOPIC", "LITERAL", clinic.topics["closed"], "*", "WRITE", "DENY"],
    ]}]);
    referee::ask(&cluster, &deny);
    clinic.expect("closed", &["closed"]).await;

    // Groups.
    let write = |fault: &str, count: usize| {
        for _ in 0..count {
            cluster.produce(&clinic.topics[fault], Some(b"same key"), b"value").unwrap();
        }
    };
    let commit = |fault: &str, group: &str, offset: i64| {
        let offsets = json!({ "0": offset, "1": offset, "2": offset });
        let question = json!([
            { "client": "python", "do": "commit", "group": group, "topic": clinic.topics[fault], "offsets": offsets },
        ]);
        referee::ask(&cluster, &question);
    };
    write("group_dead", 3);
    commit("group_dead", &unique("orders.dead"), 0);
    let dead = clinic.expect("group_dead", &["group_dead"]).await;
    assert_eq!(dead.groups[0].lag, 3);

    write("records_lost", 5);
    let reader = unique("orders.late");
    commit("records_lost", &reader, 0);
    let config = cluster.client();
    let others: AdminClient<DefaultClientContext> = config.create().unwrap();
    let mut up_to = TopicPartitionList::new();
    (0..3).for_each(|p| up_to.add_partition_offset(&clinic.topics["records_lost"], p, Offset::End).unwrap());
    others.delete_records(&up_to, &AdminOptions::new()).await.unwrap();
    let lost = clinic.expect("records_lost", &["records_lost"]).await;
    assert_eq!(lost.findings[0].evidence["groups"][0]["lost"], 5);

    // A consumer that is in its group and does not come forward.
    let group = unique("orders.slow");
    write("lag_growing", 1);
    let mut slow = config.clone();
    slow.set("group.id", &group).set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
    let topic = clinic.topics["lag_growing"].clone();
    let consumer: Arc<BaseConsumer> = Arc::new(slow.create().unwrap());
    consumer.subscribe(&[&topic]).unwrap();
    let joined = Arc::clone(&consumer);
    tokio::task::spawn_blocking(move || {
        super::support::wait_for("the consumer's partitions", || {
            joined.poll(Duration::from_millis(100));
            let assigned = joined.assignment().map_err(|error| error.to_string())?;
            if assigned.count() == 3 { Ok(()) } else { Err(format!("{assigned:?}")) }
        });
        let mut offsets = TopicPartitionList::new();
        (0..3).for_each(|p| offsets.add_partition_offset(&topic, p, Offset::Offset(0)).unwrap());
        joined.commit(&offsets, rdkafka::consumer::CommitMode::Sync).unwrap();
        joined.pause(&joined.assignment().unwrap()).unwrap();
    })
    .await
    .unwrap();
    for _ in 0..2 {
        clinic.reconciler.pass("core").await.unwrap();
        write("lag_growing", 2);
    }
    let growing = clinic.expect("lag_growing", &["lag_growing"]).await;
    assert_eq!((growing.groups[0].members, growing.groups[0].lag), (1, 5));
    drop(consumer);

    // What was measured for two weeks.
    let peaks = |mb_per_second: f64| (0..14).map(|day| (20_000 + day, mb_per_second * 1e6)).collect::<BTreeMap<_, _>>();
    let quiet =
        Traffic { first_ms: 1, last_ms: 40 * DAY_MS, moved_ms: DAY_MS, end: 0, bytes: 0, peaks: BTreeMap::new() };
    clinic.measured("unused", &quiet).await;
    clinic.expect("unused", &["unused"]).await;
    let busy = |mb| Traffic { first_ms: 1, last_ms: DAY_MS, moved_ms: DAY_MS, end: 0, bytes: 0, peaks: peaks(mb) };
    clinic.measured("over_declared", &busy(0.000_1)).await;
    clinic.expect("over_declared", &["over_declared"]).await;
    clinic.measured("under_declared", &busy(0.5)).await;
    let under = clinic.expect("under_declared", &["under_declared"]).await;
    assert_eq!(under.measured_peak_mb_per_second, Some(0.5));

    cluster.delete_topic(&clinic.topics["missing"]);
    clinic.expect("missing", &["missing"]).await;

    // A quota slows its user down on every topic that it sends to.
    let entity = QuotaEntity { user: Some(QuotaName::Name(app.clone())), ..QuotaEntity::default() };
    let slow = QuotaChange { entity: entity.clone(), values: vec![("producer_byte_rate".into(), Some(10.0))] };
    admin(&cluster).alter_quotas(&[slow], Mode::Apply).await.unwrap();
    let throttled = clinic.expect("healthy", &["quota_throttles"]).await;
    assert_eq!(throttled.findings[0].evidence["user"], app);
    let free = QuotaChange { entity, values: vec![("producer_byte_rate".into(), None)] };
    admin(&cluster).alter_quotas(&[free], Mode::Apply).await.unwrap();
    clinic.expect("healthy", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_are_down_are_named_by_the_topics_that_miss_them() {
    let cluster = kafka::alone();
    let plane = Plane::new(&cluster).await;
    let reconciler = reconciler(&plane);
    let spec = json!({ "service": "orders", "tier": "critical", "capacity": { "mb_per_second": 0.01 } }).to_string();
    let critical = unique("clinic.critical");
    let service = change("service/orders", Some(r#"{ "group": "team-orders" }"#));
    let changes = vec![service, change(&format!("topic/core/{critical}"), Some(&spec))];
    let request = plane.desk.submit(&ann(), ask(changes)).await.unwrap();
    plane.desk.approve(&root(), &request.id, &request.plan_hash, "", "").await.unwrap();
    plane.applier.run_once().await.unwrap();
    let alone = cluster.topic("clinic.alone", Topic { replicas: 1, ..Topic::default() });
    let all = cluster
        .topic("clinic.all", Topic { replicas: 3, settings: &[("min.insync.replicas", "3")], ..Topic::default() });
    let clinic =
        Clinic { plane, reconciler, topics: BTreeMap::from([("critical", critical), ("alone", alone), ("all", all)]) };
    for topic in ["critical", "alone", "all"] {
        clinic.expect(topic, &[]).await;
    }
    clinic.reconciler.pass("core").await.unwrap();

    cluster.stop(3);
    let under = clinic.expect("critical", &["under_replicated"]).await;
    assert_eq!(under.findings[0].evidence["brokers"], json!([3]));
    clinic.expect("all", &["below_min_insync", "under_replicated"]).await;
    // The one copy of a partition that was on it is gone with it.
    clinic.expect("alone", &["below_min_insync", "offline_partition", "under_replicated"]).await;
    // A broker that is down still counts as one: nobody's quota or copies change for it.
    clinic.reconciler.pass("core").await.unwrap();
    let probed = clinic.reconciler.probed("core").await.unwrap().unwrap();
    assert_eq!(probed.brokers.iter().map(|broker| broker.is_up).collect::<Vec<_>>(), [true, true, false]);
    assert!(probed.brokers[2].total_bytes.is_some());
    assert_eq!(clinic.plane.clusters.load()["core"].class.brokers, 3);

    // It is back, and leads nothing until somebody elects it.
    cluster.restart(3);
    clinic.expect("critical", &["skewed_leaders"]).await;
    clinic.expect("alone", &[]).await;
}
