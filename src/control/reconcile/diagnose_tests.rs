//! Each fault, and the finding that it makes; and that a topic without faults makes none.

use super::*;
use crate::control::capacity::{Class, Wanted, resolve};
use crate::control::kafka::topics::PartitionDescription;
use crate::control::resource::Spec;

/// A topic, as it is desired and just so.
struct Healthy {
    id: ResourceId,
    spec: TopicSpec,
    resolved: Resolved,
    topic: TopicDescription,
    acls: Vec<AclBinding>,
    traffic: Traffic,
    groups: Vec<Reader>,
    quota: f64,
    events: BTreeMap<String, u64>,
    bytes: u64,
}

impl Healthy {
    fn new() -> Healthy {
        let spec =
            r#"{ "service": "orders", "capacity": { "mb_per_second": 0.1, "consumers": 6 }, "tier": "critical" }"#;
        let Ok(Spec::Topic(spec)) =
            Spec::read(crate::control::resource::Kind::Topic, serde_json::from_str(spec).unwrap())
        else {
            unreachable!("it is a topic")
        };
        let wanted: Wanted = spec.wanted();
        let resolved = resolve(&wanted, &Class::default()).unwrap();
        let partition = |number: i32| PartitionDescription {
            partition: number,
            leader: Some(number % 3 + 1),
            replicas: vec![number % 3 + 1, (number + 1) % 3 + 1, (number + 2) % 3 + 1],
            in_sync: vec![1, 2, 3],
            offline: vec![],
        };
        let topic = TopicDescription {
            name: "orders.placed".into(),
            id: uuid::Uuid::from_u128(7),
            internal: false,
            partitions: (0..6).map(partition).collect(),
        };
        let rule = AclBinding {
            resource: AclResource::Topic,
            pattern: AclPattern::Literal,
            name: "orders.placed".into(),
            principal: "User:orders-app".into(),
            host: "*".into(),
            operation: AclOperation::Write,
            permission: AclPermission::Allow,
        };
        let peaks = (0..14).map(|day| (day, 0.3e6)).collect();
        Healthy {
            id: "topic/core/orders.placed".parse().unwrap(),
            resolved,
            spec,
            topic,
            acls: vec![rule],
            traffic: Traffic { first_ms: 1, last_ms: 2, moved_ms: 2, end: 9, bytes: 9, peaks },
            groups: vec![Reader {
                group: "orders.readers".into(),
                state: "Stable".into(),
                members: 1,
                ..Reader::default()
            }],
            quota: 1e6,
            events: BTreeMap::from([("orders.placed".to_owned(), 1_000)]),
            bytes: 1_000,
        }
    }

    fn set(&mut self, key: &str, value: &str) {
        self.resolved.configs.insert(key.into(), value.into());
    }

    /// The kinds of what is found when its configs are these, in place of the desired ones.
    fn kinds(&self, configs: &BTreeMap<String, String>) -> Vec<&'static str> {
        let quota = BTreeMap::from([("producer_byte_rate", self.quota)]);
        let facts = Facts {
            spec: Some(&self.spec),
            resolved: Some(self.resolved.clone()),
            topic: Some(&self.topic),
            configs: configs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
            acls: Some(self.acls.iter().collect()),
            users: vec!["orders-app"],
            quotas: BTreeMap::from([("orders-app", quota)]),
            bytes: Some(self.bytes),
            groups: Some(self.groups.clone()),
            traffic: Some(&self.traffic),
            event_bytes_max: self.events.clone(),
        };
        let found = diagnose(&self.id, &facts);
        for finding in &found {
            assert!(!finding.summary.is_empty() && !finding.fix.is_empty() && finding.evidence.is_object());
        }
        found.iter().map(|finding| finding.kind.as_str()).collect()
    }
}

/// What one fault makes of a healthy topic.
fn check(fault: impl FnOnce(&mut Healthy, &mut BTreeMap<String, String>), expected: &[&str]) {
    let mut topic = Healthy::new();
    let mut configs = topic.resolved.configs.clone();
    fault(&mut topic, &mut configs);
    assert_eq!(topic.kinds(&configs), expected);
}

fn put(key: &'static str, value: &'static str) -> impl FnOnce(&mut Healthy, &mut BTreeMap<String, String>) {
    move |_, configs| drop(configs.insert(key.to_owned(), value.to_owned()))
}

#[test]
fn a_topic_that_is_as_it_should_be_has_no_findings() {
    check(|_, _| {}, &[]);
}

#[test]
fn a_topic_that_is_not_there_is_missing_if_somebody_desires_it() {
    let healthy = Healthy::new();
    let missing = Facts { spec: Some(&healthy.spec), ..Facts::default() };
    assert_eq!(diagnose(&healthy.id, &missing)[0].kind, FindingKind::Missing);
    assert_eq!(diagnose(&healthy.id, &Facts::default()), vec![]);
}

#[test]
fn each_fault_of_replicas_is_told_with_its_brokers() {
    check(|topic, _| topic.topic.partitions[1].in_sync = vec![1, 2], &["under_replicated"]);
    check(|topic, _| topic.topic.partitions[1].in_sync = vec![1], &["under_replicated", "below_min_insync"]);
    check(
        |topic, _| {
            topic.topic.partitions[1].in_sync = vec![];
            topic.topic.partitions[1].leader = None;
        },
        &["offline_partition", "under_replicated", "below_min_insync"],
    );
    check(put("min.insync.replicas", "4"), &["min_insync_impossible"]);
    check(|topic, _| topic.topic.partitions.iter_mut().for_each(|p| p.leader = Some(2)), &["skewed_leaders"]);
    // One that is elected is not told.
    check(|topic, _| topic.topic.partitions[0].leader = Some(2), &[]);
    let mut down = Healthy::new();
    down.topic.partitions[0].in_sync = vec![1, 3];
    let facts = Facts { spec: Some(&down.spec), topic: Some(&down.topic), ..Facts::default() };
    assert_eq!(diagnose(&down.id, &facts)[0].evidence["brokers"], json!([2]));
}

#[test]
fn each_fault_of_configs_is_told() {
    check(put("retention.bytes", "-1"), &["over_reserve"]);
    check(put("retention.bytes", "999999999999"), &["over_reserve"]);
    check(|topic, _| topic.bytes = u64::MAX, &["over_reserve"]);
    check(put("segment.ms", "604800000"), &["retention_under_segment"]);
    check(put("max.message.bytes", "500"), &["message_size"]);
    check(|topic, _| topic.events.extend([("orders.large".to_owned(), 99_000_000)]), &["message_size"]);
    check(|topic, _| topic.set("max.message.bytes", "2000000"), &["message_size"]);
    // A compacted topic has no retention to compare.
    check(
        |_, configs| {
            configs.insert("cleanup.policy".into(), "compact".into());
            configs.insert("retention.bytes".into(), "-1".into());
            configs.insert("segment.ms".into(), "604800000".into());
        },
        &[],
    );
}

#[test]
fn each_fault_of_access_and_quotas_is_told() {
    check(|topic, _| topic.acls.clear(), &["no_access"]);
    check(|topic, _| topic.acls[0].principal = "User:somebody-else".into(), &["no_access"]);
    check(|topic, _| topic.acls[0].name = "orders.other".into(), &["no_access"]);
    check(|topic, _| (topic.acls[0].pattern, topic.acls[0].name) = (AclPattern::Prefixed, "orders.".into()), &[]);
    check(
        |topic, _| {
            let deny =
                AclBinding { permission: AclPermission::Deny, principal: "User:*".into(), ..topic.acls[0].clone() };
            topic.acls.push(deny);
        },
        &["closed"],
    );
    check(|topic, _| topic.quota = 1_000.0, &["quota_throttles"]);
}

#[test]
fn each_fault_of_readers_is_told() {
    check(|topic, _| (topic.groups[0].members, topic.groups[0].lag) = (0, 5), &["group_dead"]);
    check(|topic, _| topic.groups[0].members = 0, &[]);
    check(|topic, _| topic.groups[0].lost = 3, &["records_lost"]);
    let growing = |topic: &mut Healthy, _: &mut BTreeMap<String, String>| {
        topic.groups[0].lag = 30;
        (1..4_i64).for_each(|at| topic.groups[0].history.add(at * 3_600_000, at as f64 * 10.0, 1));
    };
    check(growing, &["lag_growing"]);
    check(|topic, _| topic.groups[0].lag = 30, &[]);
}

#[test]
fn what_is_measured_is_compared_with_what_is_declared() {
    let peak = |mb: f64| (0..14).map(|day| (day, mb * 1e6)).collect::<BTreeMap<i64, f64>>();
    // Declared is 0.1 MB/s, half as much again for growth, three times that at the peak: 0.45.
    check(move |topic, _| topic.traffic.peaks = peak(0.5), &["under_declared"]);
    check(move |topic, _| topic.traffic.peaks = peak(0.05), &["over_declared"]);
    check(move |topic, _| topic.traffic.peaks = peak(0.05).into_iter().take(13).collect(), &[]);
    check(|topic, _| topic.traffic.last_ms = 31 * 86_400_000, &["unused"]);
}

#[test]
fn what_was_not_seen_makes_no_finding() {
    let healthy = Healthy::new();
    let facts = Facts {
        spec: Some(&healthy.spec),
        resolved: Some(healthy.resolved.clone()),
        topic: Some(&healthy.topic),
        users: vec!["orders-app"],
        ..Facts::default()
    };
    assert_eq!(diagnose(&healthy.id, &facts), vec![]);
}
