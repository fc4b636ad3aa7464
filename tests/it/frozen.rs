//! A broker that hangs: it keeps its connections and answers nothing.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::kafka::{self, Topic};
use super::support::oracle::{self, Oracle};
use super::support::proxy::{Proxy, config, event_type, with_settings};
use super::support::read_back::Reader;
use super::support::{long, registry, wait_until};

const NULL: &str = "it.frozen.null";
const KEYED: &str = "it.frozen.keyed";

/// Longest time in which nothing is acknowledged while one of three brokers hangs. A busy machine takes its time.
const GAP_MAX: Duration = Duration::from_secs(4);

#[tokio::test]
async fn while_one_of_three_brokers_hangs_the_others_go_on_and_nothing_is_lost() {
    let (cluster, registry) = (kafka::alone(), registry::shared());
    let (subject, avro_subject) = oracle::register(registry);
    // No other broker takes the partitions over, so that their records wait for as long as the broker hangs.
    let topic = cluster.topic("it.frozen", Topic { partitions: 6, replicas: 1, settings: &[] });
    let settings = |key: &str| format!("subject = {subject:?}\navro_subject = {avro_subject:?}\n{key}");
    let tuned = "buffer_bytes_max = 4194304\nlinger_ms = 20\nbreaker_open_after_ms = 60000";
    let config = with_settings(&config(&cluster, registry), "clusters.core", tuned)
        + "[spool]\nfolder = \"spool\"\n\n"
        + &event_type(NULL, &topic, "avro", &settings("key = false"))
        + &event_type(KEYED, &topic, "avro", &settings("key = \"text\""));
    let mut proxy = Proxy::start(&config).await;
    for told in ["kafka client reports an error", "record was not delivered and waits on disk"] {
        proxy.expect_log(told);
    }
    let mut oracle = Oracle::default();
    let mut next = 1;
    send(&proxy, &mut oracle, &mut next).await;
    proxy.settled().await;
    let before = proxy.resident_bytes();

    cluster.pause(cluster.leader(&topic, 0));
    let frozen = Instant::now();
    let (mut delivered, mut moved, mut gap) = (0, Instant::now(), Duration::ZERO);
    while frozen.elapsed() < Duration::from_secs(if long() { 20 } else { 8 }) {
        send(&proxy, &mut oracle, &mut next).await;
        let now = proxy.ledger_of(NULL).await.delivered;
        gap = gap.max(moved.elapsed());
        if now > delivered {
            (delivered, moved) = (now, Instant::now());
        }
    }
    assert!(gap < GAP_MAX, "nothing was acknowledged for {gap:?}");
    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "it grew by {grown} bytes");
    cluster.restore();
    let ledger = wait_until("all is delivered", async || {
        let ledger = proxy.ledger().await;
        if ledger.in_memory + ledger.in_spool == 0 { Ok(ledger) } else { Err(format!("{ledger:?}")) }
    })
    .await;
    assert_eq!((ledger.failed, ledger.rejected, ledger.delivered as usize), (0, 0, oracle.owed()), "{ledger:?}");
    proxy.finish();
    let findings = oracle.check(&Reader::new(&cluster, registry).read(&topic, oracle.owed()));
    assert!(findings.unacknowledged.is_empty(), "{findings:?}");
}

/// Sends twenty events without and twenty with a key; each must be accepted.
async fn send(proxy: &Proxy, oracle: &mut Oracle, next: &mut u64) {
    let numbers = *next..*next + 40;
    *next = numbers.end;
    let event = |number: u64| {
        oracle.sent(number);
        Oracle::event(if number.is_multiple_of(2) { NULL } else { KEYED }, number)
    };
    let events: Vec<Value> = numbers.clone().map(event).collect();
    let reply = proxy.send(&json!(events)).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    numbers.for_each(|number| oracle.acknowledged(number));
}
