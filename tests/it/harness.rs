//! Tests of what the other tests stand on: a cluster that is not up, or a consumer that reads nothing, must not look like a
//! promise kept.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use super::support::gate::{Gate, Gatekeeper};
use super::support::java_keys::{self, JavaKey};
use super::support::kafka::{self, Cluster, STRANGER, Topic, WRITER};
use super::support::oracle::{self, Oracle};
use super::support::proxy::samples;
use super::support::read_back::Reader;
use super::support::{PATIENCE, http, registry};

#[test]
fn a_record_in_a_topic_with_two_replicas_is_read_back() {
    let cluster = kafka::shared();
    let topic = cluster.topic("harness.read", Topic::default());
    let (partition, offset) = cluster.produce(&topic, Some(b"a key"), br#"{"plain":true}"#).expect("the cluster is up");
    let records = Reader::new(&cluster, registry::shared()).read(&topic, 1);
    let [record] = &records[..] else { panic!("one record, not {records:?}") };
    assert_eq!((record.partition, record.offset), (partition, offset));
    assert_eq!(record.key.as_deref(), Some(&b"a key"[..]));
    assert_eq!(record.value, json!({"plain": true}));
}

#[test]
fn registered_schemas_decode_what_is_framed_with_their_ids() {
    let (cluster, registry) = (kafka::shared(), registry::shared());
    let topic = cluster.topic("harness.decode", Topic { partitions: 1, ..Topic::default() });
    let protobuf = registry.register_protobuf("harness.v1.Pair-protobuf", PAIR);
    let avro = json!({"type": "record", "name": "Pair", "fields": [{"name": "number", "type": "long"}]});
    let avro = registry.register_avro("harness.v1.Pair-avro", &avro);
    // The second message of the file: the count of indexes, then the index, both in zigzag. Field 1 is 150.
    cluster.produce(&topic, None, &framed(protobuf, &[2, 2, 0x08, 0x96, 0x01])).expect("the cluster is up");
    cluster.produce(&topic, None, &framed(avro, &[0xac, 0x02])).expect("the cluster is up");
    let records = Reader::new(&cluster, registry).read(&topic, 2);
    let kinds: Vec<_> = records.iter().map(|record| record.schema.as_ref().expect("framed").kind.as_str()).collect();
    assert_eq!(kinds, ["PROTOBUF", "AVRO"]);
    assert_eq!(records[0].schema.as_ref().and_then(|s| s.message.as_deref()), Some("harness.v1.Second"));
    assert_eq!(records[0].value, json!({"number": "150"}));
    assert_eq!(records[1].value, json!({"number": 150}));
}

#[test]
fn keys_land_where_javas_client_puts_them() {
    let (cluster, keys) = (kafka::shared(), java_keys::all());
    let topic = cluster.topic("harness.keys", Topic { partitions: 12, ..Topic::default() });
    let mut client = cluster.client();
    let producer: BaseProducer = client.set("partitioner", "murmur2_random").create().expect("constant settings");
    for JavaKey { key, .. } in &keys {
        producer.send(BaseRecord::to(&topic).key(key).payload("x")).expect("the buffer has room");
    }
    producer.flush(PATIENCE).expect("the cluster is up");
    let records = Reader::with(cluster.client(), None).read(&topic, keys.len());
    let found: BTreeSet<_> =
        records.iter().map(|record| (record.key.clone().unwrap_or_default(), record.partition)).collect();
    let expected: BTreeSet<_> = keys.iter().map(|key| (key.key.clone(), key.partition_of(12))).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_gate_that_is_shut_cuts_connections_and_opens_again() {
    let registry = registry::shared();
    let gate = Gatekeeper::start(&registry.address());
    let url = format!("{}/subjects", registry.url_behind(gate.address()));
    let client = http::client();
    let ask = async || http::send(client.get(&url).timeout(Duration::from_secs(5))).await;
    assert_eq!(ask().await.map(|reply| reply.status), Ok(200));
    gate.set(Gate::Shut);
    assert!(ask().await.is_err(), "a shut gate let a request pass");
    gate.set(Gate::Silent);
    let silent = http::send(client.get(&url).timeout(Duration::from_millis(300))).await;
    assert!(silent.is_err(), "a silent gate let an answer pass");
    gate.set(Gate::Open);
    assert_eq!(ask().await.map(|reply| reply.status), Ok(200));
}

const PAIR: &str = r#"syntax = "proto3";
package harness.v1;

message First {
  string text = 1;
}

message Second {
  int64 number = 1;
}
"#;

fn framed(id: u32, rest: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), rest].concat()
}

#[test]
fn an_incompatible_schema_is_refused_by_the_registry() {
    let registry = registry::shared();
    let schema = |kind: &str| {
        let schema = json!({"type": "record", "name": "R", "fields": [{"name": "f", "type": kind}]});
        json!({"schemaType": "AVRO", "schema": schema.to_string()})
    };
    let path = "/subjects/harness.incompatible/versions";
    registry.call("POST", path, Some(&schema("long"))).expect("the first version is taken");
    let refused = registry.call("POST", path, Some(&schema("string")));
    assert!(refused.as_ref().is_err_and(|e| e.starts_with("409")), "{refused:?}");
}

#[test]
fn a_user_without_the_right_is_refused_and_one_with_it_is_not() {
    let cluster = kafka::shared();
    let topic = cluster.topic("harness.rights", Topic::default());
    cluster.allow(WRITER.0, &topic, &["Write", "Describe"]);
    for mechanism in ["SCRAM-SHA-512", "PLAIN"] {
        let produce_as = |user: (&str, &str)| {
            let mut client = cluster.client();
            client.set("bootstrap.servers", cluster.sasl_brokers()).set("security.protocol", "SASL_PLAINTEXT");
            client.set("sasl.mechanism", mechanism).set("sasl.username", user.0).set("sasl.password", user.1);
            kafka::produce(&client, &topic, None, b"x")
        };
        assert!(produce_as(STRANGER).is_err_and(|e| e.contains("authorization")), "{mechanism}");
        produce_as(WRITER).unwrap_or_else(|e| panic!("{mechanism}: {e}"));
    }
}

#[test]
fn the_tls_listener_takes_records_from_who_trusts_its_authority() {
    let cluster = kafka::shared();
    let topic = cluster.topic("harness.tls", Topic::default());
    let mut client = cluster.client();
    client.set("bootstrap.servers", cluster.tls_brokers()).set("security.protocol", "ssl");
    client.set("ssl.ca.location", kafka::ca_file().display().to_string());
    kafka::produce(&client, &topic, None, b"x").expect("the certificate is for 127.0.0.1");
}

#[test]
fn a_killed_node_hands_its_partitions_over_and_comes_back() {
    let cluster = kafka::alone();
    let topic = cluster.topic("harness.kill", Topic { partitions: 1, ..Topic::default() });
    let leader = cluster.leader(&topic, 0);
    cluster.kill(leader);
    cluster.produce(&topic, None, b"after the kill").expect("the other replica takes over");
    assert_ne!(cluster.leader(&topic, 0), leader);
    cluster.restore();
}

#[test]
fn a_paused_node_of_a_cluster_of_its_own_answers_again_when_it_is_resumed() {
    let cluster = Cluster::start(1);
    let topic = cluster.topic("harness.pause", Topic { partitions: 1, replicas: 1, settings: &[] });
    cluster.pause(1);
    let client: BaseProducer = cluster.client().create().expect("the settings are constant");
    let paused = client.client().fetch_metadata(None, Duration::from_secs(1));
    assert!(paused.is_err(), "a paused node answered");
    cluster.resume(1);
    let (_, offset) = cluster.produce(&topic, None, b"x").expect("the node answers again");
    assert_eq!(offset, 0);
}

#[test]
fn the_oracle_notices_what_is_lost_changed_or_invented() {
    let mut oracle = Oracle::default();
    oracle.sent(7);
    oracle.acknowledged(7);
    let record = |number: u64, payload: u64| {
        let json = json!({"topic": "t", "partition": 0, "offset": 0, "timestamp_ms": 0, "key_hex": null, "headers": [],
            "cloud_event": {"id": Oracle::id(number)}, "schema": null, "value_hex": "00",
            "value": Oracle::payload(payload)});
        serde_json::from_value(json).expect("the fields of a record")
    };
    let breaks_the_law = |records: Vec<_>| std::panic::catch_unwind(|| oracle.check(&records)).is_err();
    assert!(breaks_the_law(vec![]), "lost");
    assert!(breaks_the_law(vec![record(7, 7), record(8, 8)]), "invented");
    assert!(breaks_the_law(vec![record(7, 8)]), "changed");
    let findings = oracle.check(&[record(7, 7), record(7, 7)]);
    assert_eq!(findings.duplicates.into_iter().collect::<Vec<_>>(), [(7, 2)]);
}

#[test]
fn the_oracles_schemas_are_taken_by_the_registry() {
    let (subject, avro_subject) = oracle::register(registry::shared());
    for subject in [subject, avro_subject] {
        registry::shared().call("GET", &format!("/subjects/{subject}/versions/1"), None).expect("registered");
    }
}

#[test]
fn metrics_are_read_with_their_labels() {
    let text = "# HELP a b\n# TYPE a counter\na{event=\"x, {y}\",code=\"z\"} 3\nb 0.5\n";
    let [a, b] = &samples(text)[..] else { panic!("two samples") };
    assert_eq!((a.name.as_str(), a.labels["event"].as_str(), a.labels["code"].as_str()), ("a", "x, {y}", "z"));
    assert_eq!((b.name.as_str(), b.value), ("b", 0.5));
}
