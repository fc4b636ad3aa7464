//! One bad event type never stops the others.

use std::time::{Duration, Instant};

use iguazu::dev::brokers::EmbeddedBrokers;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::support::fixture::Fixture;
use super::support::http;
use super::support::kafka::{self, Topic};
use super::support::oracle::{self, Oracle};
use super::support::proxy::{Proxy, config, event_type, with_settings};
use super::support::read_back::Reader;
use super::support::{ports, registry, unique, wait_until};

/// Event types of each test, the bad ones among them.
const ALL: usize = 20;

#[tokio::test]
async fn while_a_topic_a_subject_and_a_cluster_are_missing_all_others_are_served() {
    let fixture = Fixture::new();
    let dead = ports::free(1)[0];
    let subject = "subject = \"it.nobody.registered.this\"";
    let bad = [
        ("it.no_topic", fixture.event_type("it.no_topic", &unique("it.nobody.made.this"), "")),
        ("it.no_subject", event_type("it.no_subject", &fixture.topic("it.no_subject"), "avro", subject)),
        ("it.no_cluster", fixture.event_type("it.no_cluster", "any", "").replace("\"core\"", "\"dead\"")),
    ];
    // Start-up is given ten minutes, so that what is served meanwhile is served before start-up is over.
    let config = format!("startup_wait_seconds = 600\n{}", fixture.config())
        + &format!("[clusters.dead]\nbrokers = [\"127.0.0.1:{dead}\"]\nregistry = \"main\"\n\n")
        + &bad.iter().map(|(_, table)| table.as_str()).collect::<String>()
        + &good(&fixture, ALL - bad.len());
    let mut proxy = Proxy::start_unready(&config);
    proxy.expect_log("event type is not available");
    proxy.expect_log("\"cluster\":\"dead\"");
    served(&proxy, ALL - bad.len()).await;
    assert_eq!(proxy.admin("/startup").await.status, 503, "the others did not wait for the end of start-up");
    let reasons = ["has no topic `it.nobody.made.this", "it.nobody.registered.this", "`dead`"];
    wait_until("the reasons are known", async || {
        let ready = proxy.admin("/ready").await;
        let unavailable = ready.json()["unavailable"].as_array().cloned().unwrap_or_default();
        let reason_of = |event: &str| {
            let found = unavailable.iter().find(|entry| entry["event"] == event);
            found.and_then(|entry| entry["reason"].as_str()).unwrap_or_default().to_owned()
        };
        let named = bad.iter().zip(reasons).all(|((event, _), reason)| reason_of(event).contains(reason));
        if named && unavailable.len() == bad.len() { Ok(()) } else { Err(ready.text()) }
    })
    .await;
    for (event, _) in &bad {
        unavailable(&proxy, event).await;
    }
    let ledger = proxy.settled().await;
    assert_eq!((ledger.delivered as usize, ledger.rejected as usize), (ALL - bad.len(), bad.len()));
    proxy.finish();
}

#[tokio::test]
async fn of_20_event_types_19_are_served_and_the_bad_one_heals() {
    let fixture = Fixture::new();
    let late = unique("it.late");
    let bad = fixture.event_type("it.late", &late, "");
    let config = format!("startup_wait_seconds = 1\n{}{bad}", fixture.config()) + &good(&fixture, ALL - 1);
    let mut proxy = Proxy::start_unready(&config);
    proxy.expect_log("event type is not available");
    proxy.expect_log("started degraded");
    proxy.await_ready().await;
    served(&proxy, ALL - 1).await;
    unavailable(&proxy, "it.late").await;
    let degraded = proxy.log().into_iter().find(|line| line.message().starts_with("started degraded"));
    let fields = degraded.expect("it says that it starts degraded").fields;
    assert_eq!((&fields["event_types"], fields["unavailable"].as_u64() >= Some(1)), (&json!(ALL), true));
    fixture.cluster.create_topic(&late, Topic::default());
    wait_until("the topic is found", async || accepted(&proxy, "it.late").await).await;
    let unavailable = proxy.admin("/ready").await.json()["unavailable"].clone();
    assert_eq!(unavailable, json!([]));
    proxy.settled().await;
    proxy.finish();
}

/// Each cause is mended while the proxy runs, and what it held up is served then.
#[tokio::test]
async fn of_20_with_a_dead_broker_a_dead_cluster_a_missing_topic_and_a_bad_subject_all_others_are_served_and_all_heal()
{
    let (cluster, registry) = (kafka::alone(), registry::shared());
    let (subject, avro_subject) = oracle::register(registry);
    let typed = |name: &str, topic: &str, subject: &str| {
        let settings = format!("subject = {subject:?}\navro_subject = {:?}\nacks = \"all\"", format!("{subject}-avro"));
        event_type(name, topic, "avro", &settings)
    };
    assert_eq!(avro_subject, format!("{subject}-avro"));
    let (topic, late_topic, late_subject) =
        (cluster.topic("it.twenty", Topic::default()), unique("it.late"), unique("it.v1.Late"));
    let good: String = (0..ALL - 3).map(|n| typed(&format!("it.good.{n}"), &topic, &subject)).collect();
    let config = |brokers: &str| {
        format!("startup_wait_seconds = 2\n{}", config(&cluster, registry))
            + &format!("[clusters.dead]\nbrokers = [{brokers:?}]\n\n")
            + &good
            + &typed("it.no_topic", &late_topic, &subject)
            + &typed("it.no_subject", &topic, &late_subject)
            + &event_type("it.no_cluster", "it.elsewhere", "raw_json", "").replace("\"core\"", "\"dead\"")
    };
    cluster.kill(3);
    wait_until("the cluster knows that the broker is dead", async || {
        let leaders = [0, 1, 2].map(|partition| cluster.leader(&topic, partition));
        if leaders.contains(&3) { Err(format!("{leaders:?}")) } else { Ok(()) }
    })
    .await;
    let mut proxy = Proxy::start_unready(&config(&format!("127.0.0.1:{}", ports::free(1)[0])));
    for expected in ["event type is not available", "started degraded", "\"cluster\":\"dead\"", "kafka client reports"]
    {
        proxy.expect_log(expected);
    }
    proxy.await_ready().await;
    served(&proxy, ALL - 3).await;
    for event in ["it.no_topic", "it.no_subject", "it.no_cluster"] {
        unavailable(&proxy, event).await;
    }
    let healed = async |proxy: &Proxy, event: &str| {
        wait_until("it is served", async || accepted(proxy, event).await).await;
        let ready = proxy.admin("/ready").await.json();
        let listed = ready["unavailable"].as_array().expect("a list").iter().any(|entry| entry["event"] == event);
        assert!(!listed, "{ready}");
    };
    cluster.create_topic(&late_topic, Topic { replicas: 1, ..Topic::default() });
    healed(&proxy, "it.no_topic").await;
    registry.register_protobuf(&late_subject, oracle::PROTOBUF);
    registry.register_avro(&format!("{late_subject}-avro"), &oracle::avro());
    healed(&proxy, "it.no_subject").await;
    let elsewhere = EmbeddedBrokers::start(1).expect("loopback has free ports");
    elsewhere.create_topic("it.elsewhere", 1, 1).expect("it is new");
    proxy.change_to(&config(elsewhere.bootstrap())).await;
    healed(&proxy, "it.no_cluster").await;
    cluster.restore();
    let ledger = proxy.settled().await;
    assert_eq!((ledger.delivered as usize, ledger.failed), (ALL, 0), "{ledger:?}");
    proxy.finish();
}

#[tokio::test]
async fn a_topic_that_is_deleted_takes_its_event_type_out_until_it_is_back() {
    let fixture = Fixture::new();
    let (gone, stays) = (fixture.topic("it.gone"), fixture.topic("it.stays"));
    let config = format!("schema_refresh_seconds = 5\n{}", fixture.config())
        + &fixture.event_type("it.gone", &gone, "")
        + &fixture.event_type("it.stays", &stays, "");
    let mut proxy = Proxy::start(&config).await;
    proxy.expect_log("event type is no longer available");
    proxy.expect_log("unknown topic");
    for event in ["it.gone", "it.stays"] {
        accepted(&proxy, event).await.expect("both topics are there");
    }
    proxy.settled().await;
    fixture.cluster.delete_topic(&gone);
    wait_until("the proxy sees that the topic is gone", async || {
        let ready = proxy.admin("/ready").await;
        let unavailable = &ready.json()["unavailable"][0];
        let seen = unavailable["event"] == "it.gone" && unavailable["reason"].to_string().contains(&gone);
        if seen { Ok(()) } else { Err(ready.text()) }
    })
    .await;
    unavailable(&proxy, "it.gone").await;
    accepted(&proxy, "it.stays").await.expect("the other one is not affected");
    proxy.await_ready().await;
    fixture.cluster.create_topic(&gone, Topic::default());
    wait_until("the topic is found again", async || accepted(&proxy, "it.gone").await).await;
    let ledger = proxy.settled().await;
    assert_eq!((ledger.delivered, ledger.failed), (4, 0), "{ledger:?}");
    proxy.finish();
    assert_eq!(Reader::new(&fixture.cluster, fixture.registry).read(&gone, 1).len(), 1);
}

#[tokio::test]
async fn a_topic_that_takes_nothing_leaves_the_others_their_room_and_they_lose_nothing() {
    let (kafka, registry) = (kafka::alone(), registry::shared());
    let (subject, avro_subject) = oracle::register(registry);
    let typed = |name: &str, topic: &str| {
        let settings = format!("subject = {subject:?}\navro_subject = {avro_subject:?}\nacks = \"all\"");
        event_type(name, topic, "avro", &settings)
    };
    // Its only replica is on a broker that is dead, so that no record is ever taken.
    let stuck = kafka.topic("it.stuck", Topic { partitions: 1, replicas: 1, ..Topic::default() });
    let topic = kafka.topic("it.good", Topic::default());
    let http = "drain_seconds = 6\nread_timeout_seconds = 5\nack_timeout_seconds = 130";
    // The smallest buffer, and records that are tried for longer than the test.
    let cluster = "buffer_bytes_max = 1048576\nmessage_timeout_ms = 120000\nbreaker_open_after_ms = 600000";
    let good: String = (0..ALL - 1).map(|n| typed(&format!("it.good.{n}"), &topic)).collect();
    let config = with_settings(&with_settings(&config(&kafka, registry), "http", http), "clusters.core", cluster)
        + &typed("it.stuck", &stuck)
        + &good;
    let mut proxy = Proxy::start(&config).await;
    for told in [
        "kafka client reports an error",
        "less than `message_timeout_ms`",
        "producer stopped before",
        "record was not delivered",
        "records could not be delivered",
    ] {
        proxy.expect_log(told);
    }
    let mut oracle = Oracle::default();
    let before = p99(&proxy, &mut oracle, 0).await;
    kafka.kill(kafka.leader(&stuck, 0));
    // It is offered more than the whole buffer.
    let mut refused = 0;
    for first in (1..4_000).step_by(100) {
        let events: Vec<Value> = (first..first + 100).map(|number| Oracle::event("it.stuck", number)).collect();
        let reply = proxy.send(&json!(events)).await.json();
        refused += reply["failed"].as_u64().expect("a number");
        let code = &reply["results"][0]["code"];
        assert!(code.is_null() || *code == json!("buffer_full"), "{reply}");
    }
    assert!(refused > 1_000, "only {refused} were refused");
    let held = sample(&proxy, "iguazu_events_in_memory_bytes", "it.stuck").await;
    let share = sample(&proxy, "iguazu_events_in_memory_max_bytes", "it.stuck").await;
    // What its leader may owe is an eighth less than its share. That bites first where all of it was sent while records waited.
    assert!(share == 524_288.0 && held <= share && held > 0.85 * share, "{held} of {share}");
    // Those that led the good topic's partitions on the dead broker have other leaders by the first reply.
    p99(&proxy, &mut oracle, 1).await;
    let beside = p99(&proxy, &mut oracle, 2).await;
    println!("p99 of the others: {before:?} before, {beside:?} beside a topic that takes nothing");
    // A busy machine takes its time; what is held up by the stuck one waits for its time-out, two minutes.
    assert!(beside < before * 3 + Duration::from_millis(250), "{before:?} before, {beside:?} beside it");
    let ledger = proxy.finish();
    assert_eq!((ledger.delivered as usize, ledger.rejected), (oracle.owed(), refused), "{ledger:?}");
    let findings = oracle.check(&Reader::new(&kafka, registry).read(&topic, oracle.owed()));
    assert_eq!((findings.events, findings.duplicates.len()), (oracle.owed(), 0));
}

/// The 99th of 100 times that the good event types' events take to be acknowledged; all of them must be.
async fn p99(proxy: &Proxy, oracle: &mut Oracle, series: u64) -> Duration {
    const ROUNDS: u64 = 20;
    let (good, url) = (ALL as u64 - 1, format!("{}/v1/events?reply=acknowledged", proxy.url()));
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let mut asked = JoinSet::new();
        for n in 0..good {
            let number = (series * ROUNDS + round) * good + n + 1;
            oracle.sent(number);
            oracle.acknowledged(number);
            let event = Oracle::event(&format!("it.good.{n}"), number).to_string();
            let request = http::client().post(&url).header("content-type", "application/json").body(event);
            asked.spawn(async move {
                let begun = Instant::now();
                let reply = http::send(request).await.expect("a reply");
                assert_eq!(reply.status, 200, "{}", reply.text());
                begun.elapsed()
            });
        }
        times.extend(asked.join_all().await);
    }
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

async fn sample(proxy: &Proxy, name: &str, event: &str) -> f64 {
    let samples = proxy.metrics().await;
    let found =
        samples.iter().find(|sample| sample.name == name && sample.labels.get("event").is_some_and(|e| e == event));
    found.unwrap_or_else(|| panic!("no {name} of {event}")).value
}

/// Tables of event types that nothing is wrong with: `it.good.0`, `it.good.1`, … They share a topic.
fn good(fixture: &Fixture, count: usize) -> String {
    let topic = fixture.topic("it.good");
    (0..count).map(|n| fixture.event_type(&format!("it.good.{n}"), &topic, "")).collect()
}

/// Waits until each of the good event types took one event.
async fn served(proxy: &Proxy, count: usize) {
    for n in 0..count {
        wait_until("it is served", async || {
            let ready = proxy.admin("/ready").await.json();
            let event = format!("it.good.{n}");
            let waits = ready["unavailable"].as_array().is_some_and(|all| all.iter().any(|e| e["event"] == event));
            if waits { Err(ready.to_string()) } else { accepted(proxy, &event).await }
        })
        .await;
    }
}

async fn accepted(proxy: &Proxy, event: &str) -> Result<(), String> {
    let reply = proxy.send(&Oracle::event(event, 1)).await;
    if reply.status == 202 { Ok(()) } else { Err(reply.text()) }
}

async fn unavailable(proxy: &Proxy, event: &str) {
    let reply = proxy.send(&Oracle::event(event, 1)).await;
    assert_eq!(reply.status, 503, "{event}: {}", reply.text());
    let result: &Value = &reply.json()["results"][0];
    assert_eq!(result["code"], json!("event_type_unavailable"), "{event}");
}
