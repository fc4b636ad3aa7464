//! Schemas that change while the proxy runs: nothing stops, nothing is lost, and what is wrong is told once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use serde_json::{Value, json};

use super::support::fixture::Fixture;
use super::support::proxy::{Proxy, event_type};
use super::support::read_back::Reader;
use super::support::{unique, wait_until};

/// Name of the event type of most tests.
const EVENT: &str = "it.evolving";

/// A message with so many fields beside its number.
fn protobuf(fields: usize) -> String {
    let more: String = (1..=fields).map(|n| format!(" string more{n} = {};", n + 1)).collect();
    format!("syntax = \"proto3\"; package it.v1; message Evolving {{ int64 number = 1;{more} }}")
}

/// The Avro schema that it derives.
fn avro(fields: usize) -> Value {
    let more = (1..=fields).map(|n| json!({"name": format!("more{n}"), "type": "string", "default": ""}));
    let fields: Vec<_> = std::iter::once(json!({"name": "number", "type": "long", "default": 0})).chain(more).collect();
    json!({"type": "record", "name": "Evolving", "namespace": "it.v1", "fields": fields})
}

/// A subject of this test's own, on a topic of its own.
struct Evolving {
    fixture: Fixture,
    subject: String,
    avro_subject: String,
    topic: String,
}

impl Evolving {
    fn new() -> Evolving {
        let fixture = Fixture::new();
        let (subject, topic) = (unique("it.v1.Evolving"), fixture.topic("it.evolving"));
        Evolving { fixture, avro_subject: format!("{subject}-avro"), subject, topic }
    }

    /// Registers the next version, and its Avro schema; the ids of both.
    fn register(&self, fields: usize) -> (u32, u32) {
        let registry = self.fixture.registry;
        let id = registry.register_protobuf(&self.subject, &protobuf(fields));
        (id, registry.register_avro(&self.avro_subject, &avro(fields)))
    }

    fn config(&self, encoding: &str) -> String {
        let avro = if encoding == "avro" { format!("avro_subject = {:?}\n", self.avro_subject) } else { String::new() };
        let settings = format!("subject = {:?}\nmessage = \"it.v1.Evolving\"\n{avro}", self.subject);
        let tables = self.fixture.config() + &event_type(EVENT, &self.topic, encoding, &settings);
        format!("schema_refresh_seconds = 5\n{tables}")
    }

    fn records(&self, count: u64) -> Vec<super::support::read_back::ReadBack> {
        Reader::new(&self.fixture.cluster, self.fixture.registry).read(&self.topic, count as usize)
    }

    /// Lets the registry take any text from now on: its rules for this subject are off.
    fn take_anything(&self) {
        for rule in ["VALIDITY", "COMPATIBILITY", "INTEGRITY"] {
            self.fixture.registry.set_rule(&self.subject, rule, "NONE");
        }
    }
}

fn event(number: u64, schema: Value, more: Option<&str>) -> Value {
    let mut event = json!({"event": EVENT, "payload": {"number": number.to_string()}});
    if !schema.is_null() {
        event["schema"] = schema;
    }
    if let Some(name) = more {
        event["payload"][name] = json!("more");
    }
    event
}

async fn assert_code(proxy: &Proxy, event: &Value, status: u16, code: &str) {
    let reply = proxy.send(event).await;
    assert_eq!((reply.status, &reply.json()["results"][0]["code"]), (status, &json!(code)), "{}", reply.text());
}

/// Waits until an event is taken.
async fn await_taken(proxy: &Proxy, event: &Value) {
    wait_until("the event is taken", async || {
        let reply = proxy.send(event).await;
        if reply.status == 202 { Ok(()) } else { Err(reply.text()) }
    })
    .await;
}

/// Waits until `/ready` shows this condition, or any other text.
async fn await_shown(proxy: &Proxy, part: &str) {
    wait_until("the condition is shown", async || {
        let ready = proxy.admin("/ready").await;
        assert_eq!(ready.status, 200, "it stays ready: {}", ready.text());
        if ready.json()["conditions"].to_string().contains(part) { Ok(()) } else { Err(ready.text()) }
    })
    .await;
}

async fn await_nothing_shown(proxy: &Proxy) {
    wait_until("no condition is shown", async || {
        let ready = proxy.admin("/ready").await.json();
        if ready["conditions"] == json!([]) { Ok(()) } else { Err(ready.to_string()) }
    })
    .await;
}

/// Log lines about versions that are left out.
fn left_out(proxy: &Proxy) -> Vec<u64> {
    let lines = proxy.log();
    let told = lines.iter().filter(|line| line.message().starts_with("a schema version is of no use"));
    told.map(|line| line.fields["version"].as_u64().expect("a number")).collect()
}

async fn left_out_metric(proxy: &Proxy) -> f64 {
    let samples = proxy.metrics().await;
    samples.iter().filter(|sample| sample.name == "iguazu_schema_versions_left_out").map(|sample| sample.value).sum()
}

#[tokio::test]
async fn a_new_version_is_taken_up_under_load_and_nothing_is_lost() {
    let evolving = Evolving::new();
    let (first_id, first_avro) = evolving.register(0);
    let proxy = Proxy::start(&evolving.config("avro")).await;
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut second_avro = 0;
    let load = async {
        while !stop.load(Relaxed) {
            let next = sent.load(Relaxed);
            let pinned =
                |n: u64| [Value::Null, json!({"version": 1}), json!({"id": first_id})][(n % 3) as usize].clone();
            let events: Value = (next..next + 50).map(|n| event(n, pinned(n), None)).collect();
            let reply = proxy.send(&events).await;
            assert_eq!(reply.status, 202, "{}", reply.text());
            sent.fetch_add(50, Relaxed);
        }
    };
    let evolve = async {
        let newer = event(1_000_000, Value::Null, Some("more1"));
        assert_code(&proxy, &newer, 422, "unknown_field").await;
        second_avro = evolving.register(1).1;
        await_taken(&proxy, &newer).await;
        await_taken(&proxy, &event(1_000_001, json!({"version": 2}), Some("more1"))).await;
        // Those who still send the old version go on.
        await_taken(&proxy, &event(1_000_002, json!({"version": 1}), None)).await;
        await_taken(&proxy, &event(1_000_003, json!({"id": first_id}), None)).await;
        assert_code(&proxy, &event(1, json!({"version": 1}), Some("more1")), 422, "unknown_field").await;
        assert_code(&proxy, &event(1, json!({"version": 3}), None), 422, "unknown_schema").await;
        stop.store(true, Relaxed);
    };
    tokio::join!(load, evolve);
    let ledger = proxy.settled().await;
    proxy.finish();
    assert_eq!(ledger.delivered, sent.load(Relaxed) + 4, "{ledger:?}");
    let records = evolving.records(ledger.delivered);
    let mut numbers: Vec<_> = records.iter().map(|r| r.value["number"].as_u64().expect("a number")).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len() as u64, ledger.delivered, "each event once");
    for record in &records {
        let number = record.value["number"].as_u64().expect("a number");
        let id = record.schema.as_ref().and_then(|schema| schema.id);
        match number {
            1_000_000 | 1_000_001 => assert_eq!(id, Some(second_avro)),
            1_000_002.. => assert_eq!(id, Some(first_avro)),
            // Those that named no version went by the newest one of their moment.
            n if n % 3 == 0 => assert!(id == Some(first_avro) || id == Some(second_avro)),
            _ => assert_eq!(id, Some(first_avro), "{number}"),
        }
    }
}

#[tokio::test]
async fn a_bad_new_version_keeps_the_old_one_is_told_once_and_heals_with_the_next() {
    let evolving = Evolving::new();
    evolving.register(0);
    evolving.take_anything();
    let mut proxy = Proxy::start(&evolving.config("avro")).await;
    proxy.expect_log("a schema version is of no use and is left out");
    let registry = evolving.fixture.registry;
    let bad = [
        // Another message, none of which is the event's.
        (
            "syntax = \"proto3\"; package it.v1; message Other { int64 number = 1; }",
            "there is no message `it.v1.Evolving`",
        ),
        // No legal Protobuf: two fields of one number.
        ("syntax = \"proto3\"; package it.v1; message Evolving { int64 number = 1; int64 other = 1; }", "number"),
        // An import that is registered nowhere.
        (
            "syntax = \"proto3\"; package it.v1; import \"gone.proto\"; message Evolving { Gone gone = 1; }",
            "gone.proto",
        ),
        // Good Protobuf whose Avro schema nobody has registered.
        (&protobuf(2), "has no schema for subject"),
    ];
    for ((text, problem), version) in bad.iter().zip(2..) {
        registry.register_protobuf(&evolving.subject, text);
        await_shown(&proxy, &format!("left out: version {version}")).await;
        await_shown(&proxy, problem).await;
        assert_code(&proxy, &event(0, json!({"version": version}), None), 422, "unknown_schema").await;
        assert_eq!(proxy.send(&event(version, Value::Null, None)).await.status, 202, "the old one is served");
        assert_eq!(left_out_metric(&proxy).await, (version - 1) as f64);
    }
    wait_until("each is told", async || {
        let told = left_out(&proxy);
        if told.len() >= 4 { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    assert_eq!(left_out(&proxy), [2, 3, 4, 5], "each is told once");
    // The next good one heals it; what is still of no use stays told.
    evolving.register(3);
    await_taken(&proxy, &event(100, Value::Null, Some("more3"))).await;
    assert_eq!(left_out(&proxy), [2, 3, 4, 5]);
    for version in 2..=5 {
        registry.call("DELETE", &format!("/subjects/{}/versions/{version}", evolving.subject), None).expect("deleted");
    }
    await_nothing_shown(&proxy).await;
    assert_eq!(left_out_metric(&proxy).await, 0.0);
    let ledger = proxy.settled().await;
    proxy.finish();
    assert_eq!(ledger.delivered, 5, "{ledger:?}");
}

#[tokio::test]
async fn a_start_on_a_bad_newest_version_serves_the_one_before() {
    let evolving = Evolving::new();
    evolving.register(0);
    let registry = evolving.fixture.registry;
    registry.register_protobuf(&evolving.subject, &protobuf(1));
    let mut proxy = Proxy::start_unready(&evolving.config("avro"));
    proxy.expect_log("a schema version is of no use and is left out");
    proxy.await_ready().await;
    await_shown(&proxy, "left out: version 2").await;
    await_taken(&proxy, &event(1, Value::Null, None)).await;
    registry.register_avro(&evolving.avro_subject, &avro(1));
    await_taken(&proxy, &event(2, Value::Null, Some("more1"))).await;
    await_nothing_shown(&proxy).await;
    proxy.settled().await;
    proxy.finish();
}

#[tokio::test]
async fn a_deleted_version_is_no_longer_taken_and_the_one_before_is_the_newest() {
    let evolving = Evolving::new();
    evolving.register(0);
    evolving.register(1);
    let proxy = Proxy::start(&evolving.config("avro")).await;
    await_taken(&proxy, &event(1, Value::Null, Some("more1"))).await;
    let delete = format!("/subjects/{}/versions/2", evolving.subject);
    evolving.fixture.registry.call("DELETE", &delete, None).expect("deleted");
    wait_until("the version is gone", async || {
        let reply = proxy.send(&event(2, json!({"version": 2}), None)).await;
        let code = reply.json()["results"][0]["code"].clone();
        if (reply.status, &code) == (422, &json!("unknown_schema")) { Ok(()) } else { Err(reply.text()) }
    })
    .await;
    assert_code(&proxy, &event(3, Value::Null, Some("more1")), 422, "unknown_field").await;
    await_taken(&proxy, &event(4, Value::Null, None)).await;
    assert_eq!(proxy.admin("/ready").await.status, 200);
    proxy.settled().await;
    proxy.finish();
}

#[tokio::test]
async fn the_32_newest_versions_are_taken_and_older_ones_are_unknown() {
    let evolving = Evolving::new();
    let ids: Vec<u32> =
        (0..34).map(|n| evolving.fixture.registry.register_protobuf(&evolving.subject, &protobuf(n))).collect();
    let proxy = Proxy::start(&evolving.config("protobuf")).await;
    for version in 1..=34u64 {
        let id = ids[version as usize - 1];
        for schema in [json!({"version": version}), json!({"id": id})] {
            let event = event(version, schema, None);
            match version {
                1 | 2 => assert_code(&proxy, &event, 422, "unknown_schema").await,
                _ => assert_eq!(proxy.send(&event).await.status, 202, "{event}"),
            }
        }
    }
    let reply = proxy.send(&event(0, json!({"version": 1}), None)).await;
    let message = reply.json()["results"][0]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("has no version 1 loaded; loaded: 3 (id"), "{message}");
    proxy.settled().await;
    proxy.finish();
}

#[tokio::test]
async fn avro_and_json_schema_subjects_evolve_alike() {
    let fixture = Fixture::new();
    let registry = fixture.registry;
    let (of_avro, of_json) = (unique("it.avro"), unique("it.json"));
    let (avro_topic, json_topic) = (fixture.topic("it.avro"), fixture.topic("it.json"));
    let ids = [registry.register_avro(&of_avro, &avro(0))];
    let json_schema = |properties: &str| {
        let draft = "http://json-schema.org/draft-07/schema#";
        let text = format!(
            "{{\"$schema\":{draft:?},\"type\":\"object\",\"additionalProperties\":false,\"properties\":{{{properties}}}}}"
        );
        json!({"schemaType": "JSON", "schema": text})
    };
    registry.register(&of_json, &json_schema("\"number\":{}"));
    registry.set_rule(&of_json, "VALIDITY", "NONE");
    registry.set_rule(&of_json, "COMPATIBILITY", "NONE");
    let config = fixture.config()
        + &event_type("it.avro", &avro_topic, "avro", &format!("subject = {of_avro:?}\nschema_type = \"avro\""))
        + &event_type("it.json", &json_topic, "json", &format!("subject = {of_json:?}\nschema_type = \"json\""));
    let mut proxy = Proxy::start(&format!("schema_refresh_seconds = 5\n{config}")).await;
    proxy.expect_log("a schema version is of no use and is left out");
    let newer = |name: &str| json!({"event": name, "payload": {"number": 1, "more1": "more"}});
    let older = |name: &str| json!({"event": name, "payload": {"number": 1}, "schema": {"version": 1}});
    for name in ["it.avro", "it.json"] {
        assert_code(&proxy, &newer(name), 422, "unknown_field").await;
        assert_eq!(proxy.send(&older(name)).await.status, 202);
    }
    let second = registry.register_avro(&of_avro, &avro(1));
    registry.register(&of_json, &json_schema("\"number\":{\"type\":\"strin\"}"));
    await_shown(&proxy, "schemas of it.json").await;
    registry.register(&of_json, &json_schema("\"number\":{},\"more1\":{}"));
    for name in ["it.avro", "it.json"] {
        await_taken(&proxy, &newer(name)).await;
        assert_eq!(proxy.send(&older(name)).await.status, 202);
    }
    proxy.settled().await;
    proxy.finish();
    let records = Reader::new(&fixture.cluster, registry).read(&avro_topic, 3);
    let found: Vec<_> = records.iter().map(|record| record.schema.as_ref().and_then(|schema| schema.id)).collect();
    assert_eq!(found.iter().filter(|id| **id == Some(second)).count(), 1, "{found:?}");
    assert_eq!(found.iter().filter(|id| **id == Some(ids[0])).count(), 2, "{found:?}");
}
