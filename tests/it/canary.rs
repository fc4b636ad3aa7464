//! Ready means that it can deliver: every broker that leads a partition of the canary topic has acknowledged a record.

use super::support::fixture::Fixture;
use super::support::kafka::Topic;
use super::support::proxy::Proxy;
use super::support::read_back::Reader;

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
