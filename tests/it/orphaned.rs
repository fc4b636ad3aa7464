//! The folder of a proxy that is gone: whoever goes by what `iguazu spool drain` says when it is to be deleted loses nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::support::kafka::{self, Alone, Topic};
use super::support::proxy::{Proxy, config, event_type, with_settings};
use super::support::read_back::Reader;
use super::support::tool::{Ended, iguazu};
use super::support::{registry, wait_until};

/// Events of each event type.
const EVENTS: u64 = 20;
/// One that Kafka takes, one that it refuses, and the same by way of the wal.
const TAKEN: &str = "it.orphaned";
const REFUSED: &str = "it.orphaned.refused";
const DURABLE: &str = "it.orphaned.durable";

/// The folder of a proxy that was killed while Kafka was away, with `EVENTS` of each event type on its disk.
async fn orphan(cluster: &Alone, taken: &str, refused: &str) -> PathBuf {
    let settings = "message_timeout_ms = 1000\nlinger_ms = 5\nslow_linger_ms = 5";
    let config = with_settings(&config(cluster, registry::shared()), "clusters.core", settings)
        + "[spool]\nfolder = \"volume/spool\"\n\n"
        + &event_type(TAKEN, taken, "raw_json", "")
        + &event_type(REFUSED, refused, "raw_json", "")
        + &event_type(DURABLE, refused, "raw_json", "reply = \"durable\"");
    let mut proxy = Proxy::start(&config).await;
    for told in ["kafka client reports an error", "waits on disk", "breaker opened"] {
        proxy.expect_log(told);
    }
    (1..=3).for_each(|node| cluster.pause(node));
    let event = |name: &str, number| json!({"event": name, "id": id(name, number), "payload": {"number": number}});
    let events = |name: &'static str| (0..EVENTS).map(move |number| event(name, number));
    let events: Vec<Value> = [TAKEN, REFUSED, DURABLE].into_iter().flat_map(events).collect();
    let reply = proxy.send(&json!(events)).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    wait_until("the events are on disk", async || {
        let (all, wal) = (proxy.ledger().await, proxy.ledger_of(DURABLE).await);
        // Those of the wal go to the client from there, and those of the spool are tried one at a time.
        match (all.in_memory - wal.in_memory, wal.in_memory + wal.in_spool) {
            (0..=1, EVENTS) if all.received == 3 * EVENTS => Ok(()),
            _ => Err(format!("{all:?} {wal:?}")),
        }
    })
    .await;
    let folder = proxy.folder().to_owned();
    proxy.kill();
    cluster.restore();
    folder
}

fn id(event: &str, number: u64) -> String {
    format!("{event}-{number}")
}

fn ids(events: &[&str]) -> BTreeSet<String> {
    events.iter().flat_map(|event| (0..EVENTS).map(|number| id(event, number))).collect()
}

fn ids_in(cluster: &Alone, topic: &str, records: u64) -> BTreeSet<String> {
    let found = Reader::with(cluster.client(), None).read(topic, records as usize);
    found.iter().map(|record| record.header("ce_id").expect("every event has an id").to_owned()).collect()
}

fn drain(place: &Path) -> Ended {
    iguazu(place, &["spool", "drain", "iguazu.toml", "--folder", "volume/spool"])
}

/// The drain says that something is left, and what.
fn check_left(ended: &Ended, said: &[&str]) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(said.iter().all(|said| ended.stdout.contains(said)), "{said:?}: {ended:?}");
}

#[tokio::test]
async fn what_kafka_refuses_in_a_drain_is_kept_on_that_volume_and_every_drain_says_so_until_it_is_taken_back() {
    let cluster = kafka::alone();
    let taken = cluster.topic(TAKEN, Topic::default());
    // It takes no record without a key.
    let compacted = Topic { partitions: 1, replicas: 2, settings: &[("cleanup.policy", "compact")] };
    let refused = cluster.topic(REFUSED, compacted);
    let place = orphan(&cluster, &taken, &refused).await;

    let given_up = format!("core (failed): {} events were given up", 2 * EVENTS);
    let redrive = "`iguazu redrive CONFIG --failed --folder volume/spool/failed` takes back what was given up";
    let first = drain(&place);
    let told = format!("{} events found: {EVENTS} delivered, {} refused for good, 0 left", 3 * EVENTS, 2 * EVENTS);
    check_left(&first, &[&told, &given_up, redrive]);
    assert_eq!(ids_in(&cluster, &taken, EVENTS), ids(&[TAKEN]));
    // A Job that is tried again.
    check_left(&drain(&place), &["0 events found: 0 delivered, 0 refused for good, 0 left", &given_up, redrive]);
    let listed = iguazu(&place, &["spool", "ls", "volume/spool"]).printed();
    assert!(listed.contains(&given_up) && listed.contains(&format!("{EVENTS}  {REFUSED}")), "{listed}");
    let verified = iguazu(&place, &["spool", "verify", "volume/spool"]).printed();
    assert!(verified.contains(&format!("core (failed): sound; {} entries", 2 * EVENTS)), "{verified}");

    // A name of the folder that is none.
    for wrong in ["volume/failed", "volume"] {
        let redriven = iguazu(&place, &["redrive", "iguazu.toml", "--failed", "--folder", wrong]);
        assert_eq!(redriven.code, Some(64), "{redriven:?}");
        assert!(redriven.stderr.contains(&format!("{wrong}` holds no failed log")), "{redriven:?}");
    }
    let drained = iguazu(&place, &["spool", "drain", "iguazu.toml", "--folder", "volume"]);
    assert_eq!(drained.code, Some(1), "{drained:?}");
    assert!(drained.stderr.contains("holds no spool"), "{drained:?}");

    // Kafka still refuses: it stays.
    let redrive = || iguazu(&place, &["redrive", "iguazu.toml", "--failed", "--folder", "volume/spool/failed"]);
    check_left(&redrive(), &[&format!("{} refused again", 2 * EVENTS)]);
    check_left(&drain(&place), &[&given_up]);
    cluster.set(&refused, "cleanup.policy", "delete");
    let told = redrive().printed();
    assert!(told.contains(&format!("{} sent, 0 refused again", 2 * EVENTS)), "{told}");
    assert_eq!(drain(&place).printed(), "0 events found: 0 delivered, 0 refused for good, 0 left\n");
    assert_eq!(ids_in(&cluster, &refused, 2 * EVENTS), ids(&[REFUSED, DURABLE]));
}
