//! A record's key is what the event type says, byte for byte, and lands where Java's client would put it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::support::fixture::Fixture;
use super::support::java_keys;
use super::support::kafka::Topic;
use super::support::proxy::{Proxy, event_type};
use super::support::read_back::{ReadBack, Reader};
use super::support::{long, unique};

/// A thousand partitions take the cluster a while to make.
fn partition_counts() -> &'static [usize] {
    if long() { &java_keys::COUNTS } else { &java_keys::COUNTS[..3] }
}

#[tokio::test]
async fn a_key_lands_in_the_partition_that_javas_client_chooses() {
    let fixture = Fixture::new();
    // A key comes as text; what is not UTF-8 the golden vectors have for others.
    let keys: Vec<_> = java_keys::all().into_iter().filter(|java| std::str::from_utf8(&java.key).is_ok()).collect();
    assert!(keys.len() > 20 && keys.iter().any(|java| java.key.is_empty()), "only {} keys are text", keys.len());
    let mut config = fixture.config();
    let mut types = vec![];
    for partitions in partition_counts() {
        let name = format!("it.keys.{partitions}");
        let settings = Topic { partitions: *partitions as i32, ..Topic::default() };
        let topic = fixture.cluster.topic(&name, settings);
        config += &fixture.event_type(&name, &topic, "");
        types.push((name, topic, *partitions));
    }
    let proxy = Proxy::start(&config).await;
    for (name, _, _) in &types {
        let event = |key: &[u8]| json!({"event": name, "payload": {}, "key": String::from_utf8_lossy(key)});
        let events: Vec<Value> = keys.iter().map(|java| event(&java.key)).collect();
        let reply = proxy.send(&json!(events)).await;
        assert_eq!(reply.status, 202, "{}", reply.text());
    }
    proxy.settled().await;
    proxy.finish();
    for (_, topic, partitions) in &types {
        let records = Reader::new(&fixture.cluster, fixture.registry).read(topic, keys.len());
        let found: BTreeMap<&[u8], i32> =
            records.iter().map(|record| (record.key.as_deref().expect("a key"), record.partition)).collect();
        for java in &keys {
            let place = found.get(&java.key[..]);
            assert_eq!(place, Some(&java.partition_of(*partitions)), "key {:?} of {partitions}", java.key);
        }
    }
}

#[tokio::test]
async fn a_key_that_comes_too_often_is_dropped_and_named_in_a_header() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.hot");
    let config = fixture.config() + &fixture.event_type("it.hot", &topic, "hot_key_events_per_second = 5");
    let proxy = Proxy::start(&config).await;
    // The events of a request are received at the same time.
    let event =
        |n: usize| json!({"event": "it.hot", "payload": {}, "key": if n.is_multiple_of(10) { "cold" } else { "hot" }});
    let reply = proxy.send(&json!((0..40).map(event).collect::<Vec<_>>())).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    proxy.settled().await;
    let samples = proxy.metrics().await.into_iter().filter(|sample| sample.name == "iguazu_events_hot_key_total");
    assert_eq!(samples.map(|sample| sample.value).sum::<f64>(), 31.0);
    proxy.finish();
    let mut found = BTreeMap::<(Option<String>, Option<String>), usize>::new();
    for record in Reader::new(&fixture.cluster, fixture.registry).read(&topic, 40) {
        let key = record.key.as_deref().map(|key| String::from_utf8_lossy(key).into_owned());
        *found.entry((key, record.header("iguazu-hot-key").map(str::to_owned))).or_default() += 1;
    }
    let text = |text: &str| Some(text.to_owned());
    let expected = [((None, text("hot")), 31), ((text("cold"), None), 4), ((text("hot"), None), 5)];
    assert_eq!(found, BTreeMap::from(expected));
}

#[tokio::test]
async fn no_key_is_not_an_empty_key() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.null");
    let config = fixture.config()
        + &fixture.event_type("it.null", &topic, "")
        + &fixture.event_type("it.never", &topic, "key = false")
        + &fixture.event_type("it.must", &topic, "missing_key = \"reject\"");
    let proxy = Proxy::start(&config).await;
    let cases = [
        ("absent", json!({"event": "it.null"}), None),
        ("empty", json!({"event": "it.null", "key": ""}), Some("")),
        ("never", json!({"event": "it.never", "key": "k"}), None),
        ("must", json!({"event": "it.must", "key": "k"}), Some("k")),
    ];
    for (id, event, _) in &cases {
        let mut event = event.clone();
        (event["id"], event["payload"]) = (json!(id), json!({}));
        let reply = proxy.send(&event).await;
        assert_eq!(reply.status, 202, "{}", reply.text());
    }
    let reply = proxy.send(&json!({"event": "it.must", "payload": {}})).await;
    assert_eq!((reply.status, &reply.json()["results"][0]["code"]), (422, &json!("missing_key")), "{}", reply.text());
    proxy.settled().await;
    proxy.finish();
    let found = keys_by_id(&Reader::new(&fixture.cluster, fixture.registry).read(&topic, cases.len()));
    for (id, _, key) in &cases {
        assert_eq!(found[*id].as_deref(), key.map(str::as_bytes), "{id}");
    }
}

/// One field of each kind that can be a key.
const KINDS: &str = r#"syntax = "proto3";
package it.v1;

message Keyed {
  enum Colour {
    COLOUR_UNSPECIFIED = 0;
    COLOUR_RED = 1;
  }
  message Inner {
    string id = 1;
  }
  string text = 1;
  optional string maybe = 2;
  int32 int32 = 3;
  int64 int64 = 4;
  uint64 uint64 = 5;
  sint32 sint32 = 6;
  fixed64 fixed64 = 7;
  bool flag = 8;
  bytes raw = 9;
  double half = 10;
  Colour colour = 11;
  Inner inner = 12;
}
"#;

#[tokio::test]
async fn a_field_of_the_payload_is_the_key_as_text() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.fields");
    let subject = unique("it.v1.Keyed");
    fixture.registry.register_protobuf(&subject, KINDS);
    // Path, payload, key. A field without presence always has a value.
    let cases = [
        ("text", json!({"text": "kéy"}), Some("kéy")),
        ("text", json!({}), Some("")),
        ("maybe", json!({"maybe": ""}), Some("")),
        ("maybe", json!({}), None),
        ("int32", json!({"int32": -7}), Some("-7")),
        ("int64", json!({"int64": "-9223372036854775808"}), Some("-9223372036854775808")),
        ("uint64", json!({"uint64": "18446744073709551615"}), Some("18446744073709551615")),
        ("sint32", json!({"sint32": 5}), Some("5")),
        ("fixed64", json!({"fixed64": "6"}), Some("6")),
        ("flag", json!({"flag": true}), Some("true")),
        ("raw", json!({"raw": "AAEC/w=="}), Some("AAEC/w==")),
        ("half", json!({"half": 1.5}), Some("1.5")),
        ("colour", json!({"colour": "COLOUR_RED"}), Some("COLOUR_RED")),
        ("inner.id", json!({"inner": {"id": "i"}}), Some("i")),
        ("inner.id", json!({}), None),
    ];
    let name = |path: &str| format!("it.fields.{path}");
    let mut config = fixture.config();
    let mut paths: Vec<_> = cases.iter().map(|(path, _, _)| *path).collect();
    paths.dedup();
    for path in paths {
        config += &event_type(&name(path), &topic, "json", &format!("subject = {subject:?}\nkey = {path:?}"));
    }
    let proxy = Proxy::start(&config).await;
    for (id, (path, payload, _)) in cases.iter().enumerate() {
        // The envelope's key does not count here.
        let event = json!({"event": name(path), "id": id.to_string(), "payload": payload, "key": "envelope"});
        let reply = proxy.send(&event).await;
        assert_eq!(reply.status, 202, "{event} -> {}", reply.text());
    }
    proxy.settled().await;
    proxy.finish();
    let found = keys_by_id(&Reader::new(&fixture.cluster, fixture.registry).read(&topic, cases.len()));
    for (id, (path, payload, key)) in cases.iter().enumerate() {
        assert_eq!(found[&id.to_string()].as_deref(), key.map(str::as_bytes), "{path} of {payload}");
    }
}

fn keys_by_id(records: &[ReadBack]) -> BTreeMap<String, Option<Vec<u8>>> {
    let id = |record: &ReadBack| {
        let event = record.cloud_event.as_ref().expect("the CloudEvents SDK reads the headers");
        event["id"].as_str().expect("an id is text").to_owned()
    };
    records.iter().map(|record| (id(record), record.key.clone())).collect()
}
