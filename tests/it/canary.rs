//! Ready means that it can deliver: every broker that leads a partition of the canary topic has acknowledged a record.

use std::time::{Duration, Instant};

use super::support::fixture::Fixture;
use super::support::kafka::{self, Topic};
use super::support::oracle::{self, Oracle};
use super::support::proxy::{Proxy, config, event_type, with_settings};
use super::support::raw::{Raw, post};
use super::support::read_back::Reader;
use super::support::registry;

#[tokio::test]
async fn every_leading_broker_acknowledges_a_canary_before_the_proxy_is_ready() {
    let fixture = Fixture::new();
    let settings = &[("min.insync.replicas", "1")];
    let canary = fixture.cluster.topic("it.canary", Topic { partitions: 6, replicas: 2, settings });
    let topic = fixture.topic("it.after-canary");
    let config =
        fixture.config().replace("[clusters.core]\n", &format!("[clusters.core]\ncanary_topic = {canary:?}\n"));
    let proxy = Proxy::start(&(config + &fixture.event_type("it.after", &topic, ""))).await;
    let records = Reader::new(&fixture.cluster, fixture.registry).read(&canary, 3);
    let leaders: std::collections::BTreeSet<usize> =
        records.iter().map(|record| fixture.cluster.leader(&canary, record.partition as usize)).collect();
    assert_eq!(leaders.len(), 3, "one canary at each broker: {records:?}");
    assert_eq!(proxy.ledger().await.received, 0, "canaries are no events");
    proxy.finish();
}

/// What the first request would have to wait for is done before: connections, metadata, plans. Each request has a connection of
/// its own, so that the first one is like the others. Of five starts the best counts: what was left to do would cost each of them,
/// and whatever else this machine does only ever adds.
#[tokio::test]
async fn the_first_request_after_the_start_takes_no_longer_than_twice_the_following_ones() {
    const STARTS: usize = 5;
    const FOLLOWING: u64 = 20;
    // What a process that is not optimised takes to touch its code and memory for the first time. A connection to a broker, its
    // metadata or a schema, were one of them left to the first request, would take several times as long.
    const FIRST_TOUCH: Duration = Duration::from_millis(1);
    // Alone, so that no other test's brokers and proxies are measured with it.
    let (kafka, registry) = (kafka::alone(), registry::shared());
    let (subject, avro_subject) = oracle::register(registry);
    let canary = kafka.topic("it.warm-canary", Topic { partitions: 6, ..Topic::default() });
    let topic = kafka.topic("it.warm", Topic::default());
    let settings = format!("canary_topic = {canary:?}\nlinger_ms = 5");
    let of_event = format!("subject = {subject:?}\navro_subject = {avro_subject:?}");
    let config = with_settings(&config(&kafka, registry), "clusters.core", &settings)
        + &event_type("it.warm", &topic, "avro", &of_event);
    for reply in ["enqueued", "acknowledged"] {
        let (mut firsts, mut followings) = (Vec::new(), Vec::new());
        for _ in 0..STARTS {
            let proxy = Proxy::start(&config).await;
            firsts.push(time_one(&proxy, reply, 1).await);
            for number in 2..2 + FOLLOWING {
                followings.push(time_one(&proxy, reply, number).await);
            }
            proxy.settled().await;
            proxy.finish();
        }
        let first = firsts.into_iter().min().expect("there were starts");
        let following = median(followings);
        println!("{reply}: the first request took {first:?}, the following ones {following:?}");
        let most = 2 * following + FIRST_TOUCH;
        assert!(first <= most, "{reply}: the first request took {first:?}, the following ones {following:?}");
    }
}

/// How long a request takes, from its first byte to its whole reply.
async fn time_one(proxy: &Proxy, reply: &str, number: u64) -> Duration {
    let body = Oracle::event("it.warm", number).to_string();
    let request = post(&format!("/v1/events?reply={reply}"), "application/json", body.as_bytes());
    let mut connection = Raw::connect(proxy.http()).await;
    let begun = Instant::now();
    connection.write(&request).await.expect("the proxy reads");
    let reply = connection.reply().await.expect("the proxy answers");
    let took = begun.elapsed();
    assert!(reply.status == 200 || reply.status == 202, "{reply:?}");
    took
}

fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort();
    durations[durations.len() / 2]
}
