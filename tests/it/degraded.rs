//! A start while Kafka or a registry does not answer: what was known in the last run is served, on the spool.

use serde_json::{Value, json};

use super::support::gate::{Gate, Gatekeeper};
use super::support::kafka::{self, Topic};
use super::support::oracle::{self, Oracle};
use super::support::proxy::{Proxy, config_with, event_type, with_settings};
use super::support::read_back::Reader;
use super::support::{registry, wait_until};

const EVENT: &str = "it.degraded";

#[tokio::test]
async fn a_start_without_kafka_and_registry_takes_known_events_to_disk_and_delivers_them_later() {
    let (cluster, registry) = (kafka::alone(), registry::shared());
    let (topic, new) = (cluster.topic(EVENT, Topic::default()), cluster.topic("it.degraded.new", Topic::default()));
    let (subject, avro_subject) = oracle::register(registry);
    let gate = Gatekeeper::start(&registry.address());
    let settings = format!("subject = {subject:?}\navro_subject = {avro_subject:?}\nacks = \"all\"");
    let config = config_with(&cluster.brokers(), &registry.url_behind(gate.address()));
    let config = with_settings(&config, "clusters.core", "buffer_bytes_max = 16777216\nmessage_timeout_ms = 2000");
    let config = with_settings(&config, "http", "drain_seconds = 6\nread_timeout_seconds = 5");
    let config = format!("state_dir = \"state\"\n{config}[spool]\nfolder = \"spool\"\n\n")
        + &event_type(EVENT, &topic, "avro", &settings);
    let mut oracle = Oracle::default();
    let before = Proxy::start(&format!("startup_wait_seconds = 60\n{config}")).await;
    let folder = before.folder().to_owned();
    send(&before, &mut oracle, 1..11).await;
    before.settled().await;
    before.finish();

    (1..=3).for_each(|node| cluster.kill(node));
    gate.set(Gate::Shut);
    let with_new = format!("startup_wait_seconds = 1\n{config}") + &event_type("it.degraded.new", &new, "raw_json", "");
    let mut proxy = Proxy::start_in(folder, &with_new);
    for expected in [
        "event type is not available",
        "started degraded",
        "kafka client reports",
        "breaker opened",
        "record was not delivered and waits",
    ] {
        proxy.expect_log(expected);
    }
    proxy.expect_log("registry");
    proxy.await_ready().await;
    wait_until("what was known is served", async || {
        let conditions = proxy.admin("/ready").await.json()["conditions"].to_string();
        if conditions.contains(&format!("cluster of {EVENT}")) { Ok(()) } else { Err(conditions) }
    })
    .await;
    send(&proxy, &mut oracle, 11..111).await;
    let refused = proxy.send(&json!({"event": "it.degraded.new", "payload": {}})).await;
    assert_eq!(refused.status, 503, "nothing is known of its topic: {}", refused.text());
    let states = proxy.metrics().await;
    let state = |name: &str| {
        let of_state = |state: &&_| -> bool {
            let sample: &super::support::proxy::Sample = state;
            sample.name == "iguazu_event_types" && sample.labels["state"] == name
        };
        states.iter().find(of_state).map(|sample| sample.value)
    };
    assert_eq!([state("ready"), state("degraded"), state("unavailable")], [Some(0.0), Some(1.0), Some(1.0)]);
    wait_until("events are on disk", async || {
        let ledger = proxy.ledger().await;
        if ledger.in_spool >= 99 { Ok(()) } else { Err(format!("{ledger:?}")) }
    })
    .await;

    cluster.restore();
    gate.set(Gate::Open);
    wait_until("all is delivered and nothing is degraded", async || {
        let (ledger, ready) = (proxy.ledger().await, proxy.admin("/ready").await.json());
        let healthy = ready["unavailable"] == json!([]) && !ready["conditions"].to_string().contains("cluster of");
        if ledger.in_memory + ledger.in_spool == 0 && healthy { Ok(()) } else { Err(format!("{ledger:?} {ready}")) }
    })
    .await;
    send(&proxy, &mut oracle, 111..121).await;
    let ledger = proxy.finish();
    assert_eq!((ledger.delivered, ledger.failed, ledger.rejected), (110, 0, 1), "{ledger:?}");
    let findings = oracle.check(&Reader::new(&cluster, registry).read(&topic, oracle.owed()));
    assert!(findings.unacknowledged.is_empty(), "{findings:?}");
}

async fn send(proxy: &Proxy, oracle: &mut Oracle, numbers: std::ops::Range<u64>) {
    numbers.clone().for_each(|number| oracle.sent(number));
    let events: Vec<Value> = numbers.clone().map(|number| Oracle::event(EVENT, number)).collect();
    let reply = proxy.send(&json!(events)).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    numbers.for_each(|number| oracle.acknowledged(number));
}
