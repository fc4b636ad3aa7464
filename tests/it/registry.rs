//! What the registry does is felt when an event type is warmed, and never by an event.

use serde_json::{Value, json};

use super::support::fixture::Fixture;
use super::support::gate::{Gate, Gatekeeper};
use super::support::oracle::{self, Oracle};
use super::support::proxy::{Proxy, config_with, event_type};
use super::support::read_back::Reader;
use super::support::{folder, wait_until};

/// An event type of the oracle's message, and one that has no schema.
const AVRO: &str = "it.avro";
const RAW: &str = "it.raw";

/// A proxy's configuration whose registry is behind a gate.
struct Gated {
    fixture: Fixture,
    gate: Gatekeeper,
    topic: String,
}

impl Gated {
    async fn new() -> Gated {
        let fixture = Fixture::new();
        let gate = Gatekeeper::start(&fixture.registry.address());
        let topic = fixture.topic("it.registry");
        Gated { fixture, gate, topic }
    }

    /// `head` are settings of the file, `registry` are settings of the registry.
    fn config(&self, head: &str, registry: &str) -> String {
        let url = self.fixture.registry.url_behind(self.gate.address());
        let tables = config_with(&self.fixture.cluster.brokers(), &url);
        let avro = self.fixture.event_type(AVRO, &self.topic, "");
        format!("{head}\n{tables}{registry}\n\n{avro}") + &event_type(RAW, &self.topic, "raw_json", "")
    }
}

#[tokio::test]
async fn a_registry_that_is_down_at_start_stops_only_what_needs_it_and_only_until_it_is_back() {
    check_start(Gate::Shut, "").await;
}

#[tokio::test]
async fn a_registry_that_is_silent_at_start_does_not_hold_it_up() {
    check_start(Gate::Silent, "timeout_ms = 300").await;
}

async fn check_start(gate: Gate, registry: &str) {
    let gated = Gated::new().await;
    gated.gate.set(gate);
    let mut proxy = Proxy::start_unready(&gated.config("startup_wait_seconds = 1", registry));
    proxy.expect_log("event type is not available");
    proxy.expect_log("started degraded");
    wait_until("what needs no registry is served", async || takes(&proxy, RAW).await).await;
    proxy.await_ready().await;
    assert_code(&proxy, Oracle::event(AVRO, 1), 503, "event_type_unavailable").await;
    wait_until("the reason is shown", async || shown(&proxy, "unavailable", "registry `main`").await).await;
    gated.gate.set(Gate::Open);
    wait_until("it heals by itself", async || takes(&proxy, AVRO).await).await;
    assert_eq!(proxy.admin("/ready").await.json()["unavailable"], json!([]));
    proxy.settled().await;
    proxy.finish();
}

#[tokio::test]
async fn a_registry_that_stops_later_is_not_missed_by_events_but_its_silence_is_shown() {
    let gated = Gated::new().await;
    let mut proxy = Proxy::start(&gated.config("schema_refresh_seconds = 5", "")).await;
    proxy.expect_log("schemas could not be looked up; those known are served");
    gated.gate.set(Gate::Shut);
    wait_until("the metric shows it", async || {
        let seconds = metric(&proxy, "iguazu_registry_stale_seconds").await;
        if seconds > 0.0 { Ok(()) } else { Err(format!("{seconds} s")) }
    })
    .await;
    let shows = async || shown(&proxy, "conditions", "they may be old, the registry did not say").await;
    wait_until("/ready shows it", shows).await;
    takes(&proxy, AVRO).await.expect("what is warm is served");
    assert_eq!(proxy.admin("/ready").await.status, 200);
    gated.gate.set(Gate::Open);
    wait_until("it is fresh again", async || {
        let (seconds, ready) =
            (metric(&proxy, "iguazu_registry_stale_seconds").await, proxy.admin("/ready").await.json());
        let fresh = seconds == 0.0 && ready["conditions"] == json!([]);
        if fresh { Ok(()) } else { Err(format!("{seconds} s, {ready}")) }
    })
    .await;
    proxy.settled().await;
    proxy.finish();
}

#[tokio::test]
async fn while_a_question_to_the_registry_hangs_events_of_warm_types_pass() {
    let gated = Gated::new().await;
    let proxy = Proxy::start(&gated.config("schema_refresh_seconds = 5", "timeout_ms = 60_000")).await;
    gated.gate.set(Gate::Silent);
    let asked = metric(&proxy, "iguazu_registry_requests_total").await;
    wait_until("a refresh is under way", async || {
        let now = metric(&proxy, "iguazu_registry_requests_total").await;
        if now > asked { Ok(()) } else { Err(format!("{now} requests")) }
    })
    .await;
    let events: Value = (1..=1000).map(|number| Oracle::event(AVRO, number)).collect();
    let reply = proxy.post("/v1/events?reply=acknowledged", "application/json", events.to_string()).await;
    assert_eq!((reply.status, &reply.json()["succeeded"]), (200, &json!(1000)), "{}", reply.text());
    assert_eq!(metric(&proxy, "iguazu_registry_requests_total").await, asked + 1.0, "it hangs still");
    // Nor does the question hold up the end.
    proxy.finish();
}

#[tokio::test]
async fn no_event_costs_a_request_to_the_registry() {
    let gated = Gated::new().await;
    let proxy = Proxy::start(&gated.config("schema_refresh_seconds = 86_400", "")).await;
    let before = (gated.gate.asked_bytes(), metric(&proxy, "iguazu_registry_requests_total").await);
    for first in (1..=1000).step_by(100) {
        let events: Value = (first..first + 100).map(|number| Oracle::event(AVRO, number)).collect();
        assert_eq!(proxy.send(&events).await.status, 202);
    }
    assert_code(&proxy, asking(json!({"version": 77})), 422, "unknown_schema").await;
    assert_code(&proxy, asking(json!({"id": 777_777})), 422, "unknown_schema").await;
    assert_code(&proxy, json!({"event": AVRO, "payload": {"nobody": 1}}), 422, "unknown_field").await;
    let after = (gated.gate.asked_bytes(), metric(&proxy, "iguazu_registry_requests_total").await);
    assert!(before.0 > 0, "the gate counts");
    assert_eq!(before, after);
    proxy.settled().await;
    proxy.finish();
}

#[tokio::test]
async fn with_a_state_dir_a_restart_needs_no_registry() {
    let gated = Gated::new().await;
    let config = gated.config("state_dir = \"state\"", "");
    let place = folder("proxy");
    let mut first = Proxy::start_in(place.clone(), &config);
    first.await_ready().await;
    takes(&first, AVRO).await.expect("the registry is there");
    first.settled().await;
    first.finish();
    gated.gate.set(Gate::Shut);
    let mut second = Proxy::start_in(place, &config);
    second.expect_log("schemas could not be looked up; those known are served");
    second.await_ready().await;
    takes(&second, AVRO).await.expect("the schemas are on disk");
    assert!(metric(&second, "iguazu_registry_stale_seconds").await > 0.0);
    shown(&second, "conditions", "they may be old").await.expect("it is marked");
    let told =
        second.log().into_iter().filter(|line| line.level == "WARN" && line.fields.get("event") == Some(&json!(AVRO)));
    assert_eq!(told.count(), 1, "one trouble is one warning: {:?}", second.log());
    second.settled().await;
    second.finish();
    let records = Reader::new(&gated.fixture.cluster, gated.fixture.registry).read(&gated.topic, 2);
    assert_eq!(records[0].value, records[1].value);
    let ids: Vec<_> = records.iter().map(|record| record.schema.as_ref().and_then(|schema| schema.id)).collect();
    assert!(ids[0].is_some() && ids[0] == ids[1], "{ids:?}");
}

#[tokio::test]
async fn a_new_version_is_taken_up_once_it_is_of_use_and_the_old_ones_stay() {
    let gated = Gated::new().await;
    let fixture = &gated.fixture;
    let mut proxy = Proxy::start(&gated.config("schema_refresh_seconds = 5", "")).await;
    proxy.expect_log("a schema version is of no use and is left out");
    let newer = json!({"event": AVRO, "payload": {"number": "2", "added": "new"}});
    assert_code(&proxy, newer.clone(), 422, "unknown_field").await;

    // Without its Avro schema the new version is of no use.
    let text = oracle::PROTOBUF.replace("digits = 4;", "digits = 4;\n  string added = 5;");
    fixture.registry.register_protobuf(&fixture.subject, &text);
    let reported = async || shown(&proxy, "conditions", "left out: version 2").await;
    wait_until("the new version is reported", reported).await;
    wait_until("it is logged", async || {
        let logged = proxy.log().iter().any(|line| line.message().starts_with("a schema version is of no use"));
        if logged { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    assert_eq!(proxy.admin("/ready").await.status, 200);
    takes(&proxy, AVRO).await.expect("the old version is still served");
    assert_code(&proxy, newer.clone(), 422, "unknown_field").await;
    assert_code(&proxy, asking(json!({"version": 2})), 422, "unknown_schema").await;

    let mut avro = oracle::avro();
    let fields = avro["fields"].as_array_mut().expect("a list");
    fields.push(json!({"name": "added", "type": "string", "default": ""}));
    let id = fixture.registry.register_avro(&fixture.avro_subject, &avro);
    wait_until("the new version is taken up", async || {
        let reply = proxy.send(&newer).await;
        if reply.status == 202 { Ok(()) } else { Err(reply.text()) }
    })
    .await;
    assert_eq!(proxy.admin("/ready").await.json()["conditions"], json!([]));
    assert_eq!(proxy.send(&asking(json!({"version": 1}))).await.status, 202);
    assert_eq!(proxy.send(&asking(json!({"version": 2}))).await.status, 202);
    assert_code(&proxy, asking(json!({"version": 3})), 422, "unknown_schema").await;
    let ledger = proxy.settled().await;
    proxy.finish();

    let records = Reader::new(&fixture.cluster, fixture.registry).read(&gated.topic, ledger.delivered as usize);
    let of_new = records.iter().filter(|record| record.schema.as_ref().and_then(|schema| schema.id) == Some(id));
    assert_eq!((records.len(), of_new.count()), (4, 2), "{records:?}");
    assert!(records.iter().any(|record| record.value["added"] == "new"));
}

/// The event 1 by a schema of the sender's choice.
fn asking(schema: Value) -> Value {
    let mut event = Oracle::event(AVRO, 1);
    event["schema"] = schema;
    event
}

/// Sends the event 1 of this name; the reply, if it was not taken.
async fn takes(proxy: &Proxy, event: &str) -> Result<(), String> {
    let reply = proxy.send(&Oracle::event(event, 1)).await;
    if reply.status == 202 { Ok(()) } else { Err(reply.text()) }
}

async fn assert_code(proxy: &Proxy, event: Value, status: u16, code: &str) {
    let reply = proxy.send(&event).await;
    let found = (reply.status, reply.json()["results"][0]["code"].clone());
    assert_eq!(found, (status, json!(code)), "{event} -> {}", reply.text());
}

/// Whether `/ready` tells this under one of its keys.
async fn shown(proxy: &Proxy, under: &str, text: &str) -> Result<(), String> {
    let ready = proxy.admin("/ready").await;
    if ready.json()[under].to_string().contains(text) { Ok(()) } else { Err(ready.text()) }
}

async fn metric(proxy: &Proxy, name: &str) -> f64 {
    proxy.metrics().await.iter().filter(|sample| sample.name == name).map(|sample| sample.value).sum()
}
