//! Brokers that die, hang, fill up, refuse: what was acknowledged is in Kafka, what was not is told, all is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::support::fixture::Fixture;
use super::support::http::Reply;
use super::support::kafka::{self, Cluster, Topic, WRITER, ca_file};
use super::support::oracle::{self, Oracle};
use super::support::proxy::{Ledger, Proxy, config_with, event_type, with_settings};
use super::support::read_back::Reader;
use super::support::registry::{self, Registry};
use super::support::{unique, wait_until};

/// librdkafka's errors of brokers that are away.
const AWAY: &str = "kafka client reports an error";

/// For tests that break the cluster, which [`Fixture`] shares.
struct Broken {
    cluster: kafka::Alone,
    registry: &'static Registry,
    subjects: (String, String),
}

impl Broken {
    fn new() -> Broken {
        let registry = registry::shared();
        Broken { cluster: kafka::alone(), registry, subjects: oracle::register(registry) }
    }

    fn event_type(&self, name: &str, topic: &str, settings: &str) -> String {
        let (subject, avro_subject) = &self.subjects;
        let settings = format!("subject = {subject:?}\navro_subject = {avro_subject:?}\n{settings}");
        event_type(name, topic, "avro", &settings)
    }

    async fn proxy(&self, config: &str, event_types: &str) -> Proxy {
        let mut proxy = Proxy::start(&(config.to_owned() + event_types)).await;
        proxy.expect_log(AWAY);
        // On a busy machine the election of new leaders may take longer than its patience.
        proxy.expect_log("breaker opened");
        proxy
    }

    fn config(&self) -> String {
        super::support::proxy::config(&self.cluster, self.registry)
    }
}

/// What was sent of one event type, and what the replies said.
struct Stream {
    name: &'static str,
    oracle: Oracle,
    next: u64,
    /// Where each acknowledged event is, by the reply.
    partitions: BTreeMap<u64, i64>,
}

impl Stream {
    fn new(name: &'static str) -> Stream {
        Stream { name, oracle: Oracle::default(), next: 1, partitions: BTreeMap::new() }
    }

    /// Sends a batch of ten that waits for its acknowledgements; how many came.
    async fn send(&mut self, proxy: &Proxy) -> usize {
        let numbers = self.next..self.next + 10;
        self.next = numbers.end;
        let events: Vec<Value> = numbers
            .clone()
            .map(|number| {
                self.oracle.sent(number);
                let mut event = Oracle::event(self.name, number);
                event["key"] = json!(number.to_string());
                event
            })
            .collect();
        let reply =
            proxy.post("/v1/events?reply=acknowledged&results=all", "application/json", json!(events).to_string());
        let reply = reply.await.json();
        let results = reply["results"].as_array().unwrap_or_else(|| panic!("a result for each event: {reply}"));
        let taken: Vec<_> = results.iter().filter(|result| result["code"] == json!("acknowledged")).collect();
        for result in &taken {
            let number = numbers.start + result["index"].as_u64().expect("an index");
            self.oracle.acknowledged(number);
            self.partitions.insert(number, result["partition"].as_i64().expect("a partition"));
        }
        taken.len()
    }
}

/// With `acks = "all"` no acknowledged event is missing. With `acks = "leader"` those may be that the killed leader
/// acknowledged before its follower had them, and no others: each is in a partition that it led.
#[tokio::test]
async fn a_killed_broker_loses_no_event_that_all_replicas_acknowledged() {
    let broken = Broken::new();
    let topics = ["it.kill.all", "it.kill.leader"].map(|name| broken.cluster.topic(name, Topic::default()));
    let event_types = broken.event_type("it.kill.all", &topics[0], "acks = \"all\"")
        + &broken.event_type("it.kill.leader", &topics[1], "acks = \"leader\"");
    let proxy = broken.proxy(&broken.config(), &event_types).await;
    let mut all = Stream::new("it.kill.all");
    let mut leader = Stream::new("it.kill.leader");
    send_batches(&proxy, [&mut all, &mut leader], 10).await;
    let killed = broken.cluster.leader(&topics[0], 0);
    let led: BTreeSet<i64> =
        (0..3).filter(|partition| broken.cluster.leader(&topics[1], *partition as usize) == killed).collect();
    // The kill falls into batches that are under way.
    tokio::join!(send_batches(&proxy, [&mut all, &mut leader], 20), async {
        wait_until("events are under way", async || match proxy.ledger().await.in_memory {
            0 => Err("none in memory".to_owned()),
            _ => Ok(()),
        })
        .await;
        broken.cluster.kill(killed);
    });
    broken.cluster.restart(killed);
    broken.cluster.restore();
    send_batches(&proxy, [&mut all, &mut leader], 5).await;
    let ledger = proxy.settled().await;
    assert_eq!(ledger.failed, 0, "every event outlives a new leader's election: {ledger:?}");
    let by_event = [proxy.ledger_of("it.kill.all").await, proxy.ledger_of("it.kill.leader").await];
    proxy.finish();
    let reader = Reader::new(&broken.cluster, broken.registry);
    let findings = all.oracle.check(&reader.read(&topics[0], all.oracle.owed()));
    assert!(findings.duplicates.is_empty(), "the lane `all` is idempotent: {findings:?}");
    assert_eq!(findings.events as u64, by_event[0].delivered);
    let records = reader.read_within(&topics[1], leader.oracle.owed(), 5);
    let found: BTreeSet<u64> = records.iter().map(oracle::number_of).collect();
    let missing: BTreeMap<_, _> = leader.partitions.iter().filter(|(number, _)| !found.contains(number)).collect();
    let allowed = missing.values().all(|partition| led.contains(partition));
    assert!(allowed, "not of the killed leader's partitions {led:?}: {missing:?}");
    assert_eq!(leader.oracle.owed() as u64, by_event[1].delivered, "what was acknowledged was counted");
}

async fn send_batches(proxy: &Proxy, streams: [&mut Stream; 2], batches: usize) {
    let [one, two] = streams;
    for _ in 0..batches {
        let taken = tokio::join!(one.send(proxy), two.send(proxy));
        assert_eq!(taken, (10, 10), "the reply waits for as long as an election takes");
    }
}

#[tokio::test]
async fn a_broker_that_hangs_delays_events_and_loses_none() {
    let broken = Broken::new();
    let topic = broken.cluster.topic("it.hang", Topic::default());
    let proxy = broken.proxy(&broken.config(), &broken.event_type("it.hang", &topic, "acks = \"all\"")).await;
    let mut oracle = Oracle::default();
    let mut numbers = 1..;
    let mut send = async |count: usize| {
        let numbers: Vec<u64> = numbers.by_ref().take(count).collect();
        let events: Vec<Value> = numbers.iter().map(|number| Oracle::event("it.hang", *number)).collect();
        let reply = proxy.send(&json!(events)).await;
        assert_eq!(reply.status, 202, "{}", reply.text());
        for number in numbers {
            oracle.sent(number);
            oracle.acknowledged(number);
        }
    };
    send(100).await;
    proxy.settled().await;
    let hung = broken.cluster.leader(&topic, 0);
    broken.cluster.pause(hung);
    for _ in 0..10 {
        send(100).await;
    }
    broken.cluster.resume(hung);
    let ledger = proxy.settled().await;
    assert_eq!((ledger.delivered, ledger.failed), (1_100, 0), "{ledger:?}");
    proxy.finish();
    let findings = oracle.check(&Reader::new(&broken.cluster, broken.registry).read(&topic, oracle.owed()));
    assert!(findings.duplicates.is_empty(), "the lane `all` is idempotent: {findings:?}");
}

#[tokio::test]
async fn a_full_buffer_is_told_at_once_and_heals() {
    let broken = Broken::new();
    let topic = broken.cluster.topic("it.full", Topic::default());
    // The smallest buffer, and time enough for three brokers to come back.
    let settings = "buffer_bytes_max = 1048576\nmessage_timeout_ms = 120000";
    let config = with_settings(&broken.config(), "clusters.core", settings);
    let config = with_settings(&config, "http", "drain_seconds = 150\nack_timeout_seconds = 130");
    let mut proxy = broken.proxy(&config, &broken.event_type("it.full", &topic, "acks = \"all\"")).await;
    let mut oracle = Oracle::default();
    let mut numbers = 1..;
    (1..=3).for_each(|node| broken.cluster.pause(node));
    let refused = loop {
        let number = numbers.next().expect("there is always another number");
        let mut event = Oracle::event("it.full", number);
        // A header, so that few events fill the buffer; what the payload is, the oracle says.
        event["headers"] = json!({"x-ballast": "b".repeat(8_000)});
        oracle.sent(number);
        let reply = proxy.send(&event).await;
        match reply.status {
            202 => oracle.acknowledged(number),
            _ => break reply,
        }
        assert!(number < 200, "the buffer of 1 MiB took 200 events of 8 kB");
    };
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.json()["results"][0]["code"], json!("buffer_full"), "{}", refused.text());
    assert!(refused.header("retry-after").is_some(), "{:?}", refused.headers);
    assert!(oracle.owed() > 10, "only {} events were taken", oracle.owed());
    let ready = proxy.admin("/ready").await;
    assert!(ready.status == 503 && ready.text().contains("core"), "{} {}", ready.status, ready.text());
    broken.cluster.restore();
    proxy.settled().await;
    proxy.await_ready().await;
    let number = numbers.next().expect("there is always another number");
    oracle.sent(number);
    assert_eq!(proxy.send(&Oracle::event("it.full", number)).await.status, 202, "there is room again");
    oracle.acknowledged(number);
    let ledger = proxy.settled().await;
    assert_eq!((ledger.rejected, ledger.failed), (1, 0), "{ledger:?}");
    proxy.finish();
    let findings = oracle.check(&Reader::new(&broken.cluster, broken.registry).read(&topic, oracle.owed()));
    assert!(findings.duplicates.is_empty() && findings.unacknowledged.is_empty(), "{findings:?}");
}

#[tokio::test]
async fn an_unknown_topic_is_refused_never_made_and_served_once_it_is_there() {
    let fixture = Fixture::new();
    let (here, missing) = (fixture.topic("it.here"), unique("it.missing"));
    let config =
        fixture.config() + &fixture.event_type("it.here", &here, "") + &fixture.event_type("it.missing", &missing, "");
    let mut proxy = Proxy::start_unready(&with_startup_wait(&config, 1));
    proxy.expect_log("event type is not available");
    proxy.expect_log("some event types are not available");
    proxy.expect_log("unknown topic");
    let ready = wait_until("it starts degraded", async || {
        let ready = proxy.admin("/ready").await;
        if ready.status == 200 { Ok(ready) } else { Err(ready.text()) }
    })
    .await;
    let text = ready.text();
    assert!(text.contains("it.missing") && text.contains(&missing), "it says which and why: {text}");
    let refused = proxy.send(&Oracle::event("it.missing", 1)).await;
    assert_refused(&refused, 503, "event_type_unavailable");
    assert!(!refused.text().contains(&missing), "the reason is the operator's: {}", refused.text());
    assert_eq!(proxy.send(&Oracle::event("it.here", 1)).await.status, 202, "the others are served");
    // It would exist by now, had the proxy or its client made it.
    fixture.cluster.create_topic(&missing, Topic::default());
    wait_until("the event type heals", async || {
        let reply = proxy.send(&Oracle::event("it.missing", 2)).await;
        if reply.status == 202 { Ok(()) } else { Err(reply.text()) }
    })
    .await;
    let ready = proxy.admin("/ready").await.text();
    assert!(!ready.contains("it.missing"), "{ready}");
    let ledger = proxy.settled().await;
    assert_eq!((ledger.delivered, ledger.failed), (2, 0), "{ledger:?}");
    proxy.finish();
    assert_eq!(Reader::new(&fixture.cluster, fixture.registry).read(&missing, 1).len(), 1);
}

#[tokio::test]
async fn a_record_over_the_topics_limit_is_refused_and_its_neighbours_are_not() {
    let fixture = Fixture::new();
    let settings = &[("max.message.bytes", "5000"), ("min.insync.replicas", "1")];
    let topic = fixture.cluster.topic("it.limit", Topic { settings, ..Topic::default() });
    let proxy = Proxy::start(&(fixture.config() + &fixture.event_type("it.limit", &topic, ""))).await;
    let large = json!({"event": "it.limit", "payload": {"text": "x".repeat(6_000)}});
    assert_refused(&proxy.send(&large).await, 413, "event_too_large");
    let mut oracle = Oracle::default();
    let events: Vec<Value> = (1..=21)
        .map(|number| match number {
            11 => large.clone(),
            _ => {
                oracle.sent(number);
                oracle.acknowledged(number);
                Oracle::event("it.limit", number)
            }
        })
        .collect();
    let reply = proxy.send(&json!(events)).await;
    assert_eq!((reply.status, &reply.json()["succeeded"]), (207, &json!(20)), "{}", reply.text());
    let results = reply.json()["results"].clone();
    assert_eq!((&results[0]["index"], &results[0]["code"]), (&json!(10), &json!("event_too_large")), "{results}");
    let ledger = proxy.settled().await;
    let expected = Ledger { received: 22, delivered: 20, rejected: 2, ..Ledger::default() };
    assert_eq!(ledger, expected, "refused before it was sent");
    proxy.finish();
    oracle.check(&Reader::new(&fixture.cluster, fixture.registry).read(&topic, 20));
}

/// One way to reach the cluster: its brokers, and the lines of `[clusters.core]`.
struct Access {
    brokers: String,
    settings: String,
}

impl Access {
    fn tls(cluster: &Cluster) -> Access {
        Access { brokers: cluster.tls_brokers(), settings: format!("tls = {{ ca_file = {:?} }}", ca_file()) }
    }

    /// SCRAM with the password in a file, which `folder` keeps.
    fn scram(cluster: &Cluster, folder: &std::path::Path, password: &str) -> Access {
        let file = folder.join("password");
        std::fs::write(&file, password).expect("the folder is ours");
        let ours_alone = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&file, ours_alone).expect("the file is ours");
        let (user, _) = WRITER;
        let sasl = format!("sasl = {{ mechanism = \"SCRAM-SHA-512\", username = {user:?}, password_file = {file:?} }}");
        Access { brokers: cluster.sasl_brokers(), settings: format!("tls = false\n{sasl}") }
    }

    fn config(&self, fixture: &Fixture, event_types: &str) -> String {
        let config = config_with(&self.brokers, &fixture.registry.url());
        with_settings(&config, "clusters.core", &self.settings) + event_types
    }
}

#[tokio::test]
async fn events_are_delivered_over_tls_and_after_a_login() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.secure");
    fixture.cluster.allow(WRITER.0, &topic, &["Write", "Describe", "Describe_Configs"]);
    let folder = super::support::folder("password");
    let accesses = [Access::tls(&fixture.cluster), Access::scram(&fixture.cluster, &folder, WRITER.1)];
    let mut oracle = Oracle::default();
    for (access, number) in accesses.iter().zip(1..) {
        let config = access.config(&fixture, &fixture.event_type("it.secure", &topic, "reply = \"acknowledged\""));
        let proxy = Proxy::start(&config).await;
        oracle.sent(number);
        let reply = proxy.send(&Oracle::event("it.secure", number)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        oracle.acknowledged(number);
        assert_no_secret(&proxy);
        proxy.finish();
    }
    oracle.check(&Reader::new(&fixture.cluster, fixture.registry).read(&topic, 2));
}

#[tokio::test]
async fn a_wrong_password_makes_the_event_type_unavailable_and_is_told_on_ready() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.locked");
    let folder = super::support::folder("password");
    let wrong = "wrong-secret";
    let config =
        Access::scram(&fixture.cluster, &folder, wrong).config(&fixture, &fixture.event_type("it.locked", &topic, ""));
    let mut proxy = Proxy::start_unready(&with_startup_wait(&config, 1));
    for expected in [AWAY, "event type is not available", "some event types are not available"] {
        proxy.expect_log(expected);
    }
    wait_until("the reason is on /ready", async || {
        let ready = proxy.admin("/ready").await.text();
        if ready.contains("authentication") { Ok(()) } else { Err(ready) }
    })
    .await;
    let refused = proxy.send(&Oracle::event("it.locked", 1)).await;
    assert_refused(&refused, 503, "event_type_unavailable");
    for said_to_us in ["authentication", "127.0.0.1", "SASL", "roker"] {
        assert!(!refused.text().contains(said_to_us), "a sender is told what brokers say: {}", refused.text());
    }
    let log = format!("{:?} {}", proxy.log(), proxy.admin("/ready").await.text());
    assert!(!log.contains(wrong), "the password is told: {log}");
    proxy.finish();
}

/// Waits for event types at the start no longer than this.
fn with_startup_wait(config: &str, seconds: u32) -> String {
    format!("startup_wait_seconds = {seconds}\n{config}")
}

fn assert_no_secret(proxy: &Proxy) {
    let log = format!("{:?}", proxy.log());
    assert!(!log.contains(WRITER.1), "the password is in the log: {log}");
}

fn assert_refused(reply: &Reply, status: u16, code: &str) {
    let told = reply.json();
    assert_eq!((reply.status, &told["results"][0]["code"]), (status, &json!(code)), "{told}");
}
