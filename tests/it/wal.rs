//! Event types that are `durable` or `ordered`: what a 200 says holds whatever happens to the proxy, and Kafka has each key's
//! events in order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::support::fixture::Fixture;
use super::support::http;
use super::support::kafka::{self, Topic};
use super::support::oracle::{self, Oracle, number_of};
use super::support::proxy::{Ledger, Proxy, config, event_type, with_settings};
use super::support::read_back::{ReadBack, Reader};
use super::support::registry;
use super::support::tool::iguazu;
use super::support::{long, wait_until};

const EVENT: &str = "it.wal";
const SPOOL: &str = "[spool]\nfolder = \"spool\"\n\n";
/// Keys of the events that are in order.
const KEYS: u64 = 7;

fn keyed(name: &str, number: u64) -> Value {
    let mut event = Oracle::event(name, number);
    event["key"] = json!(format!("k{}", number % KEYS));
    event
}

async fn until(proxy: &Proxy, what: &str, is_so: impl Fn(&Ledger) -> bool) -> Ledger {
    wait_until(what, async || {
        let ledger = proxy.ledger().await;
        if is_so(&ledger) { Ok(ledger) } else { Err(format!("{ledger:?}")) }
    })
    .await
}

async fn delivered(proxy: &Proxy) -> Ledger {
    until(proxy, "everything is delivered", |ledger| ledger.in_memory + ledger.in_spool == 0).await
}

async fn ask(proxy: &Proxy, query: &str, events: &Value) -> (u16, Value) {
    let reply = proxy.post(&format!("/v1/events?results=all{query}"), "application/json", events.to_string()).await;
    (reply.status, reply.json())
}

fn codes(reply: &Value) -> Vec<&str> {
    let results = reply["results"].as_array().map_or(&[][..], Vec::as_slice);
    results.iter().map(|result| result["code"].as_str().expect("a result has a code")).collect()
}

#[tokio::test]
async fn a_request_may_wait_longer_within_the_lane_and_nowhere_else() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.wal.replies");
    let config = fixture.config()
        + SPOOL
        + &fixture.event_type("it.durable", &topic, "reply = \"durable\"")
        + &fixture.event_type("it.ordered", &topic, "ordered = true")
        + &fixture.event_type("it.plain", &topic, "");
    let proxy = Proxy::start(&config).await;
    let [durable, ordered, plain] = ["it.durable", "it.ordered", "it.plain"].map(|name| Oracle::event(name, 1));
    let mut accepted = 0;
    for (query, events, status, expected, reply) in [
        ("", json!([durable]), 200, vec!["durable"], json!("durable")),
        ("&reply=enqueued", json!([durable]), 200, vec!["durable"], json!("durable")),
        ("&reply=durable", json!([durable, ordered]), 200, vec!["durable", "durable"], json!("durable")),
        ("&reply=acknowledged", json!([durable, ordered]), 200, vec!["acknowledged"; 2], json!("acknowledged")),
        ("", json!([ordered]), 202, vec!["enqueued"], json!("enqueued")),
        ("", json!([durable, plain]), 202, vec!["durable", "enqueued"], json!("enqueued")),
        ("&reply=durable", json!([plain]), 400, vec!["reply_not_offered"], Value::Null),
        ("&reply=durable", json!([plain, durable]), 207, vec!["reply_not_offered", "durable"], json!("durable")),
    ] {
        let (found, body) = ask(&proxy, query, &events).await;
        assert_eq!((found, codes(&body), &body["reply"]), (status, expected, &reply), "{query} {events}: {body}");
        accepted += body["succeeded"].as_u64().expect("a number");
        for result in body["results"].as_array().expect("results") {
            assert_eq!(result["offset"].is_u64(), result["code"] == json!("acknowledged"), "{result}");
        }
    }
    let one = proxy.post("/v1/events", "application/json", durable.to_string()).await;
    assert_eq!(one.text(), r#"{"events":1,"succeeded":1,"failed":0,"reply":"durable"}"#);
    let ledger = delivered(&proxy).await;
    assert_eq!((ledger.delivered, ledger.rejected), (accepted + 1, 2), "{ledger:?}");
    wait_until("the cursor says so", async || {
        let listed = iguazu(proxy.folder(), &["spool", "ls", "spool"]).printed();
        if listed.contains("core (wal): 0 events wait") { Ok(()) } else { Err(listed) }
    })
    .await;
    proxy.finish();
}

#[tokio::test]
async fn while_kafka_is_down_a_durable_event_is_taken_and_one_that_waits_for_kafka_is_told() {
    let cluster = kafka::alone();
    let registry = registry::shared();
    let (subject, avro_subject) = oracle::register(registry);
    let topic = cluster.topic(EVENT, Topic::default());
    let settings = format!("subject = {subject:?}\navro_subject = {avro_subject:?}\nreply = \"durable\"");
    let config = with_settings(&config(&cluster, registry), "clusters.core", "message_timeout_ms = 1000");
    let times = "ack_timeout_seconds = 2\ndrain_seconds = 10\nread_timeout_seconds = 5";
    let config = with_settings(&config, "http", times) + SPOOL + &event_type(EVENT, &topic, "avro", &settings);
    let mut proxy = Proxy::start(&config).await;
    for told in ["kafka client reports an error", "producer stopped before", "waits on disk"] {
        proxy.expect_log(told);
    }
    let mut oracle = Oracle::default();
    (1..=3).for_each(|node| cluster.pause(node));
    for number in 1..=50 {
        oracle.sent(number);
        let (status, reply) = ask(&proxy, "", &keyed(EVENT, number)).await;
        assert_eq!((status, codes(&reply)), (200, vec!["durable"]), "{reply}");
        oracle.acknowledged(number);
    }
    oracle.sent(51);
    let (status, reply) = ask(&proxy, "&reply=acknowledged", &keyed(EVENT, 51)).await;
    assert_eq!((status, codes(&reply)), (202, vec!["spooled"]), "{reply}");
    oracle.acknowledged(51);
    let ledger = proxy.ledger().await;
    assert_eq!((ledger.delivered, ledger.in_memory + ledger.in_spool), (0, 51), "{ledger:?}");
    let (folder, listed) = (proxy.folder().to_owned(), |folder: &Path| iguazu(folder, &["spool", "ls", "spool"]));
    let ledger = proxy.finish();
    assert_eq!((ledger.in_spool, ledger.failed), (51, 0), "{ledger:?}");
    let waiting = listed(&folder).printed();
    assert!(waiting.contains("core (wal): 51 events wait") && waiting.contains("51  it.wal"), "{waiting}");
    let verified = iguazu(&folder, &["spool", "verify", "spool"]).printed();
    assert!(verified.contains("core (wal): sound; 51 entries"), "{verified}");
    cluster.restore();
    let drained = iguazu(&folder, &["spool", "drain", "iguazu.toml"]).printed();
    assert_eq!(drained, "51 events found: 51 delivered, 0 refused for good, 0 left\n");
    let records = Reader::new(&cluster, registry).read(&topic, 51);
    oracle.check(&records);
    check_order(&records, 1);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_told_and_never_called_durable() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.wal.disk");
    let cluster = with_settings(&fixture.config(), "clusters.core", "message_timeout_ms = 1000");
    let config = with_settings(&cluster, "http", "ack_timeout_seconds = 2")
        + SPOOL
        + &fixture.event_type(EVENT, &topic, "reply = \"durable\"")
        + &fixture.event_type("it.plain", &topic, "");
    let mut proxy = Proxy::start(&config).await;
    proxy.expect_log("the spool's disk fails");
    proxy.expect_log("the spool's disk works again");
    proxy.expect_log("the wal's cursor cannot be written");
    let wal = proxy.folder().join("spool/wal");
    let away = proxy.folder().join("away");
    let hidden = std::fs::read_dir(&wal).expect("it is there").flatten().next().expect("a folder a cluster").path();
    std::fs::rename(&hidden, &away).expect("both are in one folder");
    // It was taken before the disk's trouble was known.
    let (status, reply) = ask(&proxy, "", &keyed(EVENT, 1)).await;
    assert_eq!((status, codes(&reply)), (504, vec!["unknown"]), "{reply}");
    assert!(reply["results"][0]["message"].as_str().is_some_and(|text| text.starts_with("the disk")), "{reply}");
    let refused = proxy.send(&keyed(EVENT, 2)).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{}", refused.text());
    assert_eq!(codes(&refused.json()), ["disk_unavailable"]);
    assert_eq!(proxy.send(&keyed("it.plain", 3)).await.status, 202, "it needs no disk");
    let ready = proxy.admin("/ready").await;
    assert!(ready.status == 200 && ready.text().contains("wal of core"), "{}", ready.text());
    let failing = |samples: &[super::support::proxy::Sample]| {
        let is_wal = |labels: &BTreeMap<String, String>| labels.get("log").is_some_and(|log| log == "wal");
        let found = samples.iter().find(|s| s.name == "iguazu_spool_failing" && is_wal(&s.labels));
        found.expect("it is served").value
    };
    assert_eq!(failing(&proxy.metrics().await), 1.0);

    std::fs::rename(&away, &hidden).expect("both are in one folder");
    wait_until("the disk works again", async || match failing(&proxy.metrics().await) {
        0.0 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    let (status, reply) = ask(&proxy, "", &keyed(EVENT, 4)).await;
    assert_eq!((status, codes(&reply)), (200, vec!["durable"]), "{reply}");
    let ledger = delivered(&proxy).await;
    assert_eq!((ledger.delivered, ledger.rejected), (3, 1), "{ledger:?}");
    let late = proxy.metrics().await.into_iter().filter(|sample| sample.name == "iguazu_events_late_total");
    assert_eq!(late.map(|sample| sample.value).sum::<f64>(), 1.0, "the first one's fate came after its reply");
    proxy.finish();
}

/// Counts how often a key's events begin again, and panics where they are not in order: each time they must go on to where they
/// had been, with none of those in between missing.
fn check_order(records: &[ReadBack], begins_max: usize) -> usize {
    let mut logs = BTreeMap::<(i32, u64), Vec<u64>>::new();
    for record in records {
        let number = number_of(record);
        logs.entry((record.partition, number % KEYS)).or_default().push(number);
    }
    let mut most = 0;
    for (place, numbers) in logs {
        let (mut seen, mut next, mut begins) = (Vec::new(), 0, 0);
        for number in &numbers {
            match seen.binary_search(number) {
                Ok(index) if index == next => next += 1,
                Ok(index) if index < next => (next, begins) = (index + 1, begins + 1),
                Err(index) if index == seen.len() && next == seen.len() => {
                    seen.push(*number);
                    next += 1;
                }
                _ => panic!("{place:?}: {number} is out of order in {numbers:?}"),
            }
        }
        assert_eq!(next, seen.len(), "{place:?}: the events that came again end too early in {numbers:?}");
        assert!(begins <= begins_max, "{place:?}: {begins} times anew in {numbers:?}");
        most = most.max(begins);
    }
    most
}

/// One sender, which sends on when its reply is there: only so is there an order to keep.
async fn send_in_order(proxy: &Proxy, oracle: &mut Oracle, numbers: std::ops::Range<u64>) {
    for first in numbers.step_by(10) {
        let numbers = first..first + 10;
        numbers.clone().for_each(|number| oracle.sent(number));
        let events: Vec<Value> = numbers.clone().map(|number| keyed(EVENT, number)).collect();
        let reply = proxy.send(&json!(events)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        numbers.for_each(|number| oracle.acknowledged(number));
    }
}

#[tokio::test]
async fn order_holds_through_a_killed_leader_a_killed_proxy_and_restarts() {
    let cluster = kafka::alone();
    let registry = registry::shared();
    let (subject, avro_subject) = oracle::register(registry);
    let settings = [("min.insync.replicas", "2")];
    let topic = cluster.topic("it.wal.order", Topic { partitions: 3, replicas: 3, settings: &settings });
    let settings =
        format!("subject = {subject:?}\navro_subject = {avro_subject:?}\nordered = true\nreply = \"durable\"");
    let config = config(&cluster, registry) + SPOOL + &event_type(EVENT, &topic, "avro", &settings);
    let start = async |folder: Option<PathBuf>| {
        let mut proxy = match folder {
            Some(folder) => Proxy::start_in(folder, &config),
            None => Proxy::start_unready(&config),
        };
        for told in ["kafka client reports an error", "producer stopped before", "waits on disk"] {
            proxy.expect_log(told);
        }
        proxy.await_ready().await;
        proxy
    };
    let mut oracle = Oracle::default();
    let proxy = start(None).await;
    let folder = proxy.folder().to_owned();
    send_in_order(&proxy, &mut oracle, 1..501).await;
    cluster.kill(cluster.leader(&topic, 0));
    send_in_order(&proxy, &mut oracle, 501..1_501).await;
    proxy.kill();

    let proxy = start(Some(folder.clone())).await;
    send_in_order(&proxy, &mut oracle, 1_501..2_001).await;
    cluster.restore();
    send_in_order(&proxy, &mut oracle, 2_001..2_501).await;
    let ledger = proxy.finish();
    assert_eq!((ledger.failed, ledger.rejected), (0, 0), "{ledger:?}");

    let proxy = start(Some(folder)).await;
    send_in_order(&proxy, &mut oracle, 2_501..2_601).await;
    delivered(&proxy).await;
    proxy.finish();
    let records = Reader::new(&cluster, registry).read(&topic, oracle.owed());
    let findings = oracle.check(&records);
    assert!(findings.unacknowledged.is_empty(), "{findings:?}");
    // Once after the kill; a stop may purge what was on its way.
    let begins = check_order(&records, 2);
    println!("{} of {} events came again, {begins} times anew", findings.duplicates.len(), findings.events);
}

/// What many senders know together.
#[derive(Default)]
struct Senders {
    oracle: Mutex<Oracle>,
    stop: AtomicBool,
}

impl Senders {
    /// Sends batch after batch until the proxy is gone. Nothing is sent twice: what got no reply stays unknown.
    async fn send(self: Arc<Self>, url: String, numbers: std::ops::RangeFrom<u64>) {
        let (client, mut numbers) = (http::client(), numbers);
        while !self.stop.load(Relaxed) {
            let batch: Vec<u64> = numbers.by_ref().take(3).collect();
            batch.iter().for_each(|number| self.oracle().sent(*number));
            let events: Vec<Value> = batch.iter().map(|number| keyed(EVENT, *number)).collect();
            let request = client.post(format!("{url}/v1/events")).header("content-type", "application/json");
            let Ok(reply) = http::send(request.body(json!(events).to_string())).await else { return };
            assert_eq!(reply.status, 200, "{}", reply.text());
            batch.iter().for_each(|number| self.oracle().acknowledged(*number));
        }
    }

    fn oracle(&self) -> std::sync::MutexGuard<'_, Oracle> {
        self.oracle.lock().expect("no test panics while it holds this lock")
    }
}

#[tokio::test]
async fn whenever_the_proxy_is_killed_no_event_that_was_called_durable_is_missing() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.wal.killed");
    let config = fixture.config() + SPOOL + &fixture.event_type(EVENT, &topic, "reply = \"durable\"");
    let senders = Arc::new(Senders::default());
    let mut random = u64::from(std::process::id()) | 1;
    println!("seed {random}");
    let rounds: u64 = if long() { 50 } else { 6 };
    let mut folder = None;
    let start = async |folder: Option<PathBuf>| match folder {
        None => Proxy::start(&config).await,
        Some(folder) => {
            let mut proxy = Proxy::start_in(folder, &config);
            proxy.expect_log("the spool's writer was cut off");
            proxy.await_ready().await;
            proxy
        }
    };
    for round in 0..rounds {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let proxy = start(folder.take()).await;
        let begin = senders.oracle().owed();
        let send = |sender| {
            let first = 1 + (round * 8 + sender) * 1_000_000;
            tokio::spawn(Arc::clone(&senders).send(proxy.url(), first..))
        };
        let tasks: Vec<_> = (0..8).map(send).collect();
        let enough = begin + 1 + (random >> 33) as usize % 1_500;
        wait_until("enough events are durable", async || match senders.oracle().owed() {
            owed if owed >= enough => Ok(()),
            owed => Err(format!("{owed} of {enough}")),
        })
        .await;
        folder = Some(proxy.folder().to_owned());
        proxy.kill();
        for task in tasks {
            task.await.expect("every reply was a 200");
        }
    }
    let proxy = start(folder).await;
    let ledger = delivered(&proxy).await;
    assert_eq!((ledger.failed, ledger.delivered), (0, ledger.recovered), "{ledger:?}");
    proxy.finish();
    let oracle = std::mem::take(&mut *senders.oracle());
    assert!(oracle.owed() > rounds as usize, "only {} events were durable", oracle.owed());
    let findings = oracle.check(&Reader::new(&fixture.cluster, fixture.registry).read(&topic, oracle.owed()));
    println!(
        "{} events, {} of which no reply told, {} twice: killed between acknowledgement and cursor",
        findings.events,
        findings.unacknowledged.len(),
        findings.duplicates.len()
    );
}
