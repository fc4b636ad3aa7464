//! What was accepted and then failed for good is kept, exactly that, and `iguazu redrive` takes it back.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde_json::{Value, json};

use super::support::fixture::Fixture;
use super::support::kafka::{Topic, WRITER};
use super::support::oracle::Oracle;
use super::support::process::{Process, command};
use super::support::proxy::{Proxy, config_with, event_type, with_settings};
use super::support::read_back::Reader;
use super::support::tool::{Ended, iguazu};
use super::support::{folder, wait_for, wait_until};

const EVENT: &str = "it.kept";
/// What the writer needs of a topic beside the right to write.
const SEE: [&str; 2] = ["Describe", "Describe_Configs"];
/// What the proxy logs of records that fail.
const TOLD: [&str; 4] = [
    "record was not delivered",
    "kafka client reports an error",
    "event type is no longer available",
    "event type is not available",
];

/// A configuration whose proxy logs in as [`WRITER`], with a failed log below its `state_dir`.
fn config(fixture: &Fixture, cluster: &str, events: &str) -> String {
    let file = folder("password").join("password");
    std::fs::write(&file, WRITER.1).expect("the folder is ours");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("the file is ours");
    let user = WRITER.0;
    let sasl = format!("sasl = {{ mechanism = \"SCRAM-SHA-512\", username = {user:?}, password_file = {file:?} }}");
    let config = config_with(&fixture.cluster.sasl_brokers(), &fixture.registry.url());
    let config = with_settings(&config, "clusters.core", &format!("tls = false\n{sasl}\n{cluster}"));
    format!("state_dir = \"state\"\n{config}{events}")
}

async fn start(config: &str) -> Proxy {
    let mut proxy = Proxy::start(config).await;
    TOLD.iter().for_each(|told| proxy.expect_log(told));
    proxy
}

/// Sends a batch of ten and notes what was accepted; how many were.
async fn send(proxy: &Proxy, oracle: &mut Oracle, first: u64) -> usize {
    let events: Vec<Value> = (first..first + 10)
        .map(|number| {
            oracle.sent(number);
            Oracle::event(EVENT, number)
        })
        .collect();
    let reply = proxy.post("/v1/events?results=all", "application/json", json!(events).to_string()).await.json();
    let results = reply["results"].as_array().unwrap_or_else(|| panic!("a result for each event: {reply}"));
    let accepted = results.iter().filter(|result| result["code"] == json!("enqueued"));
    accepted.map(|result| oracle.acknowledged(first + result["index"].as_u64().expect("an index"))).count()
}

async fn metric(proxy: &Proxy, name: &str, label: &str) -> u64 {
    let samples = proxy.metrics().await;
    let wanted = samples.iter().filter(|sample| {
        sample.name == name && (label.is_empty() || sample.labels.values().any(|value| value == label))
    });
    wanted.map(|sample| sample.value).sum::<f64>() as u64
}

/// Waits until everything that failed is on disk; how many that is.
async fn kept(proxy: &Proxy) -> u64 {
    let failed = proxy.settled().await.failed;
    assert_eq!(metric(proxy, "iguazu_events_failed_kept_total", "failed_log").await, failed, "all that failed is kept");
    assert_eq!(metric(proxy, "iguazu_events_failed_kept_total", "").await, failed, "and in one place");
    failed
}

/// Runs `iguazu redrive` on the failed log of a proxy in this folder.
fn redrive(place: &Path, arguments: &[&str]) -> Ended {
    iguazu(place, &[&["redrive", "iguazu.toml", "--failed"], arguments].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_revoked_right_makes_fail_is_kept_and_taken_back_and_nothing_else() {
    let fixture = Fixture::new();
    let topic = fixture.topic(EVENT);
    fixture.cluster.allow(WRITER.0, &topic, &[&SEE[..], &["Write"]].concat());
    let config = config(&fixture, "linger_ms = 5", &fixture.event_type(EVENT, &topic, ""));
    let proxy = start(&config).await;
    let mut oracle = Oracle::default();
    let mut next = (1..).step_by(10);
    for _ in 0..20 {
        assert_eq!(send(&proxy, &mut oracle, next.next().expect("numbers do not end")).await, 10);
    }
    // Under load: what is on its way when the right goes, and what comes after.
    let load = async {
        while proxy.ledger().await.failed < 300 {
            send(&proxy, &mut oracle, next.next().expect("numbers do not end")).await;
        }
    };
    let revoke = async {
        let (cluster, topic) = (&fixture.cluster, &topic);
        tokio::task::block_in_place(|| cluster.revoke(WRITER.0, topic, &["Write"]));
    };
    tokio::join!(load, revoke);
    let failed = kept(&proxy).await;
    assert!(failed >= 300, "{failed}");
    let log = proxy.folder().join("state/failed");
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let files = walk(&log);
    assert!(files.iter().any(|file| file.extension().is_some_and(|kind| kind == "seg")), "{files:?}");
    assert!(files.iter().all(|file| mode(file) == 0o600), "only we can read them: {files:?}");

    let told = redrive(proxy.folder(), &["--dry-run"]).printed();
    assert!(told.ends_with(&format!("{failed} found, 0 left out by the filters; nothing was sent\n")), "{told}");
    let told = redrive(proxy.folder(), &["--dry-run", "--event", "it.other"]).printed();
    assert!(told.contains(&format!("0 found, {failed} left out")), "{told}");
    // Still without the right.
    let refused = redrive(proxy.folder(), &[]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stdout.contains(&format!("0 sent, {failed} refused again")), "{refused:?}");

    fixture.cluster.allow(WRITER.0, &topic, &["Write"]);
    let told = redrive(proxy.folder(), &[]).printed();
    assert!(told.contains(&format!("{failed} found, 0 left out by the filters: {failed} sent, 0 refused")), "{told}");
    assert!(redrive(proxy.folder(), &[]).printed().starts_with("0 found"), "nothing comes twice");
    wait_until("the proxy frees the disk", async || match metric(&proxy, "iguazu_failed_log_bytes", "").await {
        0 => Ok(()),
        bytes => Err(format!("{bytes} bytes")),
    })
    .await;
    // The proxy heals without a restart, too.
    wait_until("events are delivered again", async || {
        let before = proxy.settled().await.delivered;
        send(&proxy, &mut oracle, next.next().expect("numbers do not end")).await;
        if proxy.settled().await.delivered == before + 10 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    let late = kept(&proxy).await - failed;
    if late > 0 {
        redrive(proxy.folder(), &[]).printed();
    }
    let ledger = proxy.finish();
    assert_eq!(ledger.delivered + ledger.failed, oracle.owed() as u64);
    let records = Reader::new(&fixture.cluster, fixture.registry).read(&topic, oracle.owed());
    let findings = oracle.check(&records);
    assert!(findings.duplicates.is_empty(), "what is forbidden is never written: {findings:?}");
    let names = |record: &super::support::read_back::ReadBack| {
        record.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    assert!(
        records.iter().all(|record| names(record) == names(&records[0])),
        "the same headers, whichever way it came"
    );
    assert!(records.iter().all(|record| record.timestamp_ms.is_some_and(|ms| ms > 0)));
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn what_a_deleted_topic_makes_fail_is_taken_back_once_it_is_there_again() {
    let fixture = Fixture::new();
    let topic = fixture.topic(EVENT);
    let event_type = fixture.event_type(EVENT, &topic, "");
    let config = with_settings(&fixture.config(), "clusters.core", "linger_ms = 5\nmessage_timeout_ms = 3000");
    // The folder is named, so that it must be usable.
    let proxy = start(&(config + "[failed]\nfolder = \"kept\"\n\n" + &event_type)).await;
    let (mut before, mut oracle) = (Oracle::default(), Oracle::default());
    send(&proxy, &mut before, 1).await;
    assert_eq!(proxy.settled().await.delivered, 10);
    fixture.cluster.delete_topic(&topic);
    for first in (11..211).step_by(10) {
        send(&proxy, &mut oracle, first).await;
    }
    let failed = kept(&proxy).await;
    assert_eq!(failed as usize, oracle.owed(), "accepted, and the topic is gone");
    assert!(failed > 0, "the client does not know at once");
    let folder = proxy.folder().to_owned();
    proxy.finish();

    let gone = redrive(&folder, &[]);
    assert_eq!(gone.code, Some(1), "{gone:?}");
    assert!(gone.stdout.contains("has no topic"), "{gone:?}");
    fixture.cluster.create_topic(&topic, Topic::default());
    let told = redrive(&folder, &[]).printed();
    assert!(told.contains(&format!("{failed} sent, 0 refused again")), "{told}");
    // Nobody else has the folder, so that the disk is free by now.
    assert!(walk(&folder.join("kept")).iter().all(|file| file.extension().is_none_or(|kind| kind != "seg")));
    let findings = oracle.check(&Reader::new(&fixture.cluster, fixture.registry).read(&topic, oracle.owed()));
    assert!(findings.duplicates.is_empty(), "{findings:?}");
}

/// A topic that takes no record without a key, so that the broker refuses each of the events below.
fn keyed_topic(fixture: &Fixture) -> String {
    fixture.cluster.topic(EVENT, Topic { partitions: 1, replicas: 2, settings: &[("cleanup.policy", "compact")] })
}

/// A proxy to which so many events without a key were sent, with a payload of this length; all were accepted, and have failed.
async fn fill(config: &str, count: u64, bytes: usize) -> Proxy {
    let proxy = start(config).await;
    let text = "x".repeat(bytes);
    for first in (0..count).step_by(100) {
        let event = |number| json!({"event": EVENT, "id": format!("k-{number}"), "payload": {"text": text}});
        let events: Vec<Value> = (first..(first + 100).min(count)).map(event).collect();
        let reply = proxy.send(&json!(events)).await;
        assert_eq!(reply.status, 202, "{}", reply.text());
    }
    assert_eq!(proxy.settled().await.failed, count);
    proxy
}

#[tokio::test]
async fn a_redrive_that_is_killed_goes_on_where_it_was() {
    let fixture = Fixture::new();
    let topic = keyed_topic(&fixture);
    let config = fixture.config() + "[failed]\nfolder = \"kept\"\n\n" + &event_type(EVENT, &topic, "raw_json", "");
    let count = 20_000;
    let proxy = fill(&config, count, 200).await;
    assert_eq!(kept(&proxy).await, count);
    fixture.cluster.set(&topic, "cleanup.policy", "delete");
    let mut command = command(env!("CARGO_BIN_EXE_iguazu"));
    command.current_dir(proxy.folder()).args(["redrive", "iguazu.toml", "--failed"]);
    let mut first = Process::spawn("iguazu redrive", command);
    let consumer: BaseConsumer = fixture.cluster.client().create().expect("the settings are constant");
    let in_kafka = || {
        let (_, end) = consumer.fetch_watermarks(&topic, 0, Duration::from_secs(10)).expect("the topic is there");
        end as u64
    };
    // Killed as soon as something is in Kafka.
    wait_for("the redrive is under way", || if in_kafka() > 0 { Ok(()) } else { Err("nothing yet".to_owned()) });
    first.kill();
    let told = redrive(proxy.folder(), &[]).printed();
    println!("{told}");
    assert!(redrive(proxy.folder(), &[]).printed().starts_with("0 found"));
    proxy.finish();
    let total = in_kafka();
    // The first run had sent some, and what was on its way to replicas is there as well.
    assert!((count..2 * count).contains(&total), "{total} records");
    let ids = ids(&fixture, &topic, total as usize);
    assert_eq!(ids.len() as u64, count, "every event, and twice with the same id at most");
}

/// The distinct ids in a topic.
fn ids(fixture: &Fixture, topic: &str, records: usize) -> std::collections::BTreeSet<String> {
    let found = Reader::with(fixture.cluster.client(), None).read(topic, records);
    found.iter().map(|record| record.header("ce_id").expect("every event has an id").to_owned()).collect()
}

#[tokio::test]
async fn a_full_failed_log_keeps_the_oldest_and_says_what_it_could_not_keep() {
    let fixture = Fixture::new();
    let topic = keyed_topic(&fixture);
    let config = with_settings(&fixture.config(), "http", "body_bytes_max = 10000000");
    let failed = "[failed]\nfolder = \"kept\"\nbytes_max = 16777216\n\n";
    let mut proxy = fill(&(config + failed + &event_type(EVENT, &topic, "raw_json", "")), 300, 90_000).await;
    proxy.expect_log("the failed log does not take what was given up");
    let ledger = proxy.settled().await;
    ledger.check();
    let places = "iguazu_events_failed_kept_total";
    let kept = metric(&proxy, places, "failed_log").await;
    assert_eq!(kept + metric(&proxy, places, "nowhere").await, 300);
    assert!((150..300).contains(&kept), "16 MiB hold so many: {kept}");
    assert_eq!(metric(&proxy, "iguazu_failed_log_refused_total", "full").await, 300 - kept);
    wait_until("it is told on /ready", async || {
        let ready = proxy.admin("/ready").await.text();
        if ready.contains("failed log of core") { Ok(()) } else { Err(ready) }
    })
    .await;
    fixture.cluster.set(&topic, "cleanup.policy", "delete");
    redrive(proxy.folder(), &[]).printed();
    proxy.finish();
    let found = ids(&fixture, &topic, kept as usize);
    let last = found.iter().map(|id| id["k-".len()..].parse::<u64>().expect("a number")).max();
    assert_eq!(found.len() as u64, kept);
    // What a batch was refused for is sent again on its own, so that the order is only nearly that in which events came.
    assert!(last.is_some_and(|last| last < 299), "the oldest are kept: {last:?}");
}
