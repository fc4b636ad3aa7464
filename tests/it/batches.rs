//! Batches never exceed what a topic takes: librdkafka does not split one that is refused.

use serde_json::Value;

use super::support::fixture::Fixture;
use super::support::kafka::Topic;
use super::support::oracle::Oracle;
use super::support::proxy::Proxy;
use super::support::read_back::Reader;

/// Events of the request: some 300 kB in all, to one partition.
const EVENTS: u64 = 1_000;

#[tokio::test]
async fn records_that_fit_are_delivered_to_a_topic_that_takes_small_batches() {
    let fixture = Fixture::new();
    let settings = &[("max.message.bytes", "5000")];
    let small = fixture.cluster.topic("it.small", Topic { partitions: 1, replicas: 2, settings });
    let large = fixture.topic("it.large");
    let config =
        fixture.config() + &fixture.event_type("it.small", &small, "") + &fixture.event_type("it.large", &large, "");
    let proxy = Proxy::start(&config).await;
    for (name, topic) in [("it.small", &small), ("it.large", &large)] {
        let mut oracle = Oracle::default();
        for number in 1..=EVENTS {
            oracle.sent(number);
            oracle.acknowledged(number);
        }
        let events: Value = (1..=EVENTS).map(|number| Oracle::event(name, number)).collect();
        let reply = proxy.post("/v1/events?reply=acknowledged", "application/json", events.to_string()).await;
        let (succeeded, first) = (reply.json()["succeeded"].clone(), reply.json()["results"][0].clone());
        assert_eq!(reply.status, 200, "{name}: {succeeded} succeeded, the first result is {first}");
        oracle.check(&Reader::new(&fixture.cluster, fixture.registry).read(topic, EVENTS as usize));
    }
    proxy.finish();
}
