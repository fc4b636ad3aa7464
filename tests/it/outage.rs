//! Kafka is down: events wait on disk, nothing is lost, and it is delivered when Kafka is back, whatever happened to the proxy
//! meanwhile.

use serde_json::{Value, json};

use super::support::kafka::{self, Alone, Topic};
use super::support::oracle::{self, Oracle};
use super::support::proxy::{Ledger, Proxy, config, event_type, with_settings};
use super::support::read_back::Reader;
use super::support::registry::{self, Registry};
use super::support::tool::iguazu;
use super::support::{long, wait_until};

/// What the proxy logs of it.
const TOLD: [&str; 4] = [
    "breaker opened",
    "kafka client reports an error",
    "record was not delivered and waits on disk",
    "producer stopped before everything was delivered",
];

/// A cluster to break, and proxies that send to it.
struct Outage {
    cluster: Alone,
    registry: &'static Registry,
    subjects: (String, String),
    topic: String,
}

impl Outage {
    fn new(name: &str) -> Outage {
        let (cluster, registry) = (kafka::alone(), registry::shared());
        let topic = cluster.topic(name, Topic::default());
        Outage { cluster, registry, subjects: oracle::register(registry), topic }
    }

    /// With a spool beside it, and records that are given up soon.
    fn config(&self, cluster: &str, http: &str) -> String {
        let (subject, avro_subject) = &self.subjects;
        // All replicas must have it, so that what is acknowledged outlives brokers that are killed.
        let settings = format!("subject = {subject:?}\navro_subject = {avro_subject:?}\nacks = \"all\"");
        let config = with_settings(&config(&self.cluster, self.registry), "clusters.core", cluster);
        let config = with_settings(&config, "http", http);
        config + "[spool]\nfolder = \"spool\"\n\n" + &event_type(EVENT, &self.topic, "avro", &settings)
    }

    async fn proxy(&self, config: &str) -> Proxy {
        let mut proxy = Proxy::start(config).await;
        TOLD.iter().for_each(|told| proxy.expect_log(told));
        proxy
    }

    /// Starts a proxy again, in the folder of the one before.
    async fn restart(&self, folder: std::path::PathBuf, config: &str) -> Proxy {
        let mut proxy = Proxy::start_in(folder, config);
        TOLD.iter().for_each(|told| proxy.expect_log(told));
        proxy.await_ready().await;
        proxy
    }

    fn read(&self, oracle: &Oracle) -> oracle::Findings {
        oracle.check(&Reader::new(&self.cluster, self.registry).read(&self.topic, oracle.owed()))
    }
}

const EVENT: &str = "it.outage";

/// Sends batches of ten; each must be accepted.
async fn send(proxy: &Proxy, oracle: &mut Oracle, numbers: std::ops::Range<u64>) {
    for first in numbers.step_by(10) {
        let numbers = first..first + 10;
        let event = |number| {
            oracle.sent(number);
            Oracle::event(EVENT, number)
        };
        let events: Vec<Value> = numbers.clone().map(event).collect();
        let reply = proxy.send(&json!(events)).await;
        assert_eq!(reply.status, 202, "{}", reply.text());
        numbers.for_each(|number| oracle.acknowledged(number));
    }
}

/// Waits until the ledger is as it should be.
async fn until(proxy: &Proxy, what: &str, is_so: impl Fn(&Ledger) -> bool) -> Ledger {
    wait_until(what, async || {
        let ledger = proxy.ledger().await;
        if is_so(&ledger) { Ok(ledger) } else { Err(format!("{ledger:?}")) }
    })
    .await
}

/// Finds an event with the configuration in this folder.
fn check_found(place: &std::path::Path, number: u64, expected: &str) {
    let find = ["find", EVENT, &Oracle::id(number), "--config", "iguazu.toml", "--since", "2020-01-01T00:00:00Z"];
    let said = iguazu(place, &find).printed();
    assert!(said.starts_with(expected), "event {number}: {said}");
}

/// Waits until the breaker stands at this; `/ready` then.
async fn until_breaker(proxy: &Proxy, state: f64) -> String {
    wait_until("the breaker", async || match metric(proxy, "iguazu_breaker_state").await {
        found if found == state => Ok(()),
        found => Err(format!("{found}")),
    })
    .await;
    proxy.admin("/ready").await.text()
}

async fn metric(proxy: &Proxy, name: &str) -> f64 {
    let samples = proxy.metrics().await;
    let sample = samples.iter().find(|sample| sample.name == name);
    sample.unwrap_or_else(|| panic!("no metric {name}")).value
}

#[tokio::test]
async fn all_brokers_down_under_load_and_back_loses_nothing() {
    let outage = Outage::new(EVENT);
    // The smallest buffer, so that events find no room, and the shortest timeout, so that others come back.
    let cluster = "buffer_bytes_max = 1048576\nmessage_timeout_ms = 2000\nbreaker_open_after_ms = 1500\nbreaker_retry_after_ms = 200";
    let proxy = outage.proxy(&outage.config(cluster, "workers = 1")).await;
    let mut oracle = Oracle::default();
    send(&proxy, &mut oracle, 1..301).await;
    (1..=3).for_each(|node| outage.cluster.kill(node));
    send(&proxy, &mut oracle, 301..4_001).await;
    let meanwhile = proxy.ledger().await;
    assert!(meanwhile.in_memory + meanwhile.in_spool >= 3_700, "none of them is refused or delivered: {meanwhile:?}");
    let ready = proxy.admin("/ready").await;
    assert_eq!(ready.status, 200, "the spool has room: {}", ready.text());
    // A record is tried now and then; all others wait on disk.
    let waiting =
        until(&proxy, "the buffer is on disk", |ledger| ledger.in_memory <= 1 && ledger.in_spool > 3_000).await;
    let ready = until_breaker(&proxy, 2.0).await;
    assert!(ready.contains("breaker of core") && ready.contains("nothing was acknowledged for"), "{ready}");
    assert_eq!(waiting.received, waiting.delivered + waiting.in_memory + waiting.in_spool, "{waiting:?}");
    assert!(metric(&proxy, "iguazu_spool_bytes").await > 1_000_000.0);
    assert!(metric(&proxy, "iguazu_spool_oldest_seconds").await > 0.0);
    if long() {
        wait_until("a minute is over", async || match metric(&proxy, "iguazu_spool_oldest_seconds").await {
            60.0.. => Ok(()),
            seconds => Err(format!("{seconds} s")),
        })
        .await;
    }
    // A sender that wants to know is told the truth: neither acknowledged nor failed.
    oracle.sent(4_001);
    let reply = proxy.post("/v1/events?reply=acknowledged&results=all", "application/json", {
        oracle.acknowledged(4_001);
        Oracle::event(EVENT, 4_001).to_string()
    });
    let reply = reply.await;
    assert_eq!((reply.status, &reply.json()["results"][0]["code"]), (202, &json!("spooled")), "{}", reply.text());
    outage.cluster.restore();
    send(&proxy, &mut oracle, 4_011..4_111).await;
    let ledger = until(&proxy, "all is delivered", |ledger| ledger.in_memory + ledger.in_spool == 0).await;
    assert_eq!((ledger.failed, ledger.rejected, ledger.delivered), (0, 0, oracle.owed() as u64), "{ledger:?}");
    until_breaker(&proxy, 0.0).await;
    wait_until("the disk is free again", async || match metric(&proxy, "iguazu_spool_bytes").await {
        0.0 => Ok(()),
        bytes => Err(format!("{bytes} bytes")),
    })
    .await;
    let errors = proxy.metrics().await.into_iter().filter(|sample| sample.name == "iguazu_spool_errors_total");
    assert!(errors.map(|sample| sample.value).sum::<f64>() == 0.0, "the disk works");
    proxy.finish();
    let findings = outage.read(&oracle);
    assert!(findings.unacknowledged.is_empty(), "{findings:?}");
    println!(
        "{} of {} events are there twice: timed out, and written all the same",
        findings.duplicates.len(),
        findings.events
    );
}

#[tokio::test]
async fn what_waits_on_disk_outlives_the_proxy_however_it_ends() {
    let outage = Outage::new(EVENT);
    let config = outage.config(
        "buffer_bytes_max = 16777216\nmessage_timeout_ms = 2000",
        "drain_seconds = 6\nread_timeout_seconds = 5\nworkers = 1",
    );
    let (stopped, killed) = (outage.proxy(&config).await, outage.proxy(&config).await);
    let orphaned = outage.proxy(&config).await;
    let folders = [&stopped, &killed, &orphaned].map(|proxy| proxy.folder().to_owned());
    let mut oracle = Oracle::default();
    send(&stopped, &mut oracle, 1..101).await;
    stopped.settled().await;
    (1..=3).for_each(|node| outage.cluster.pause(node));
    send(&stopped, &mut oracle, 101..601).await;
    send(&killed, &mut oracle, 601..1_001).await;
    send(&orphaned, &mut oracle, 1_001..1_101).await;

    // SIGTERM while everything is still in memory: the stop spools it.
    let ledger = stopped.finish();
    assert_eq!((ledger.delivered, ledger.failed, ledger.in_spool), (100, 0, 500), "{ledger:?}");
    for (proxy, events) in [(killed, 400), (orphaned, 100)] {
        until(&proxy, "the events are on disk", |ledger| ledger.in_memory <= 1 && ledger.received == events).await;
        proxy.kill();
    }
    let spool = |place: &std::path::Path| place.join("spool").to_string_lossy().into_owned();
    let listed = iguazu(&folders[2], &["spool", "ls", &spool(&folders[2])]).printed();
    assert!(listed.contains("core: 100 events wait") && listed.contains("100  it.outage"), "{listed}");
    let verified = iguazu(&folders[2], &["spool", "verify", &spool(&folders[2])]).printed();
    assert!(verified.contains("core: sound; 100 entries"), "{verified}");

    outage.cluster.restore();
    let [stopped, killed, orphaned] = folders;
    check_found(&orphaned, 1_050, "in the spool, for topic");
    check_found(&orphaned, 1, "in Kafka: cluster core, topic");
    for (folder, events) in [(stopped, 500), (killed, 400)] {
        let proxy = outage.restart(folder, &config).await;
        let ledger = until(&proxy, "what was found is delivered", |ledger| ledger.delivered == events).await;
        assert_eq!((ledger.recovered, ledger.failed, ledger.received), (events, 0, 0), "{ledger:?}");
        let ledger = proxy.finish();
        assert_eq!((ledger.recovered, ledger.delivered, ledger.in_spool), (events, events, 0), "{ledger:?}");
    }
    let drained = iguazu(&orphaned, &["spool", "drain", "iguazu.toml"]).printed();
    assert_eq!(drained, "100 events found: 100 delivered, 0 refused for good, 0 left\n");
    check_found(&orphaned, 1_050, "in Kafka: cluster core, topic");
    let listed = iguazu(&orphaned, &["spool", "ls", &spool(&orphaned)]).printed();
    assert!(!listed.contains("it.outage"), "{listed}");
    let findings = outage.read(&oracle);
    assert!(findings.unacknowledged.is_empty(), "{findings:?}");
    println!(
        "{} of {} events are there twice: timed out, and written all the same",
        findings.duplicates.len(),
        findings.events
    );
}

#[tokio::test]
async fn a_stop_empties_what_is_on_disk_as_long_as_kafka_takes_it_and_says_what_goes_with_the_pod() {
    let outage = Outage::new(EVENT);
    let config = |drain: u32| {
        let http = format!("drain_seconds = {drain}\nread_timeout_seconds = 5\nworkers = 1");
        // So long a linger that thousands of events take a second.
        outage.config("buffer_bytes_max = 16777216\nmessage_timeout_ms = 2000\nlinger_ms = 200", &http)
    };
    let ephemeral = |config: String| config.replace("[spool]", "[spool]\nephemeral = true");
    // Kafka stays away for one of them, comes back during the stop of another, and is there for the one that has its disk again.
    let elsewhere = outage.cluster.topic(EVENT, Topic::default());
    let mut away = outage.proxy(&ephemeral(config(6)).replace(&outage.topic, &elsewhere)).await;
    let mut back = outage.proxy(&ephemeral(config(120))).await;
    let lasting = outage.proxy(&config(120)).await;
    let (mut oracle, mut gone) = (Oracle::default(), Oracle::default());
    (1..=3).for_each(|node| outage.cluster.pause(node));
    send(&away, &mut gone, 1..101).await;
    send(&back, &mut oracle, 1..201).await;
    send(&lasting, &mut oracle, 201..6_201).await;
    for (proxy, events) in [(&away, 100), (&back, 200), (&lasting, 6_000)] {
        until(proxy, "the events are on disk", |ledger| ledger.in_memory <= 1 && ledger.received == events).await;
    }

    away.expect_log("events are left in a spool that is ephemeral");
    let ledger = away.finish();
    assert_eq!((ledger.delivered, ledger.in_spool), (0, 100), "{ledger:?}");
    let folder = lasting.folder().to_owned();
    lasting.kill();
    back.terminate();
    outage.cluster.restore();
    let ledger = back.finish();
    assert_eq!((ledger.delivered, ledger.in_spool), (200, 0), "{ledger:?}");

    let mut lasting = Proxy::start_in(folder, &config(120));
    until(&lasting, "some are delivered", |ledger| ledger.delivered > 0).await;
    lasting.terminate();
    let ledger = lasting.finish();
    assert_eq!((ledger.recovered, ledger.delivered, ledger.in_spool), (6_000, 6_000, 0), "{ledger:?}");
    let findings = outage.read(&oracle);
    assert!(findings.unacknowledged.is_empty(), "{findings:?}");
}
