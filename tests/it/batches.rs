//! A batch is the client's affair: none is larger than its topic takes, since librdkafka does not split one that is refused,
//! and no record fails for another one of its batch.

use serde_json::{Value, json};

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

/// A compacted topic takes no record without a key. Kafka refuses the whole batch for it, and says which record it was; the
/// others of the batch are sent once more. In two lanes: one is idempotent, its sequence numbers have to go on.
#[tokio::test]
async fn a_record_that_kafka_refuses_does_not_take_its_batch_with_it() {
    let fixture = Fixture::new();
    let settings = &[("cleanup.policy", "compact"), ("min.insync.replicas", "1")];
    let topic = fixture.cluster.topic("it.compact", Topic { partitions: 1, replicas: 2, settings });
    let config = fixture.config()
        + &fixture.event_type("it.compact.leader", &topic, "acks = \"leader\"")
        + &fixture.event_type("it.compact.all", &topic, "acks = \"all\"");
    let mut proxy = Proxy::start(&config).await;
    proxy.expect_log("record was not delivered");
    let mut oracle = Oracle::default();
    for (name, from) in [("it.compact.leader", 0), ("it.compact.all", 100)] {
        let bad = [from + 7, from + 30];
        let events = (from + 1..=from + 50).map(|number| {
            oracle.sent(number);
            let mut event = Oracle::event(name, number);
            if !bad.contains(&number) {
                oracle.acknowledged(number);
                event["key"] = json!(number.to_string());
            }
            event
        });
        let events: Value = events.collect();
        let reply = proxy.post("/v1/events?reply=acknowledged", "application/json", events.to_string()).await;
        assert_eq!((reply.status, &reply.json()["succeeded"]), (207, &json!(48)), "{name}: {}", reply.text());
        let results = reply.json()["results"].clone();
        for (result, number) in results.as_array().into_iter().flatten().zip(bad) {
            let told = (&result["index"], &result["code"]);
            assert_eq!(told, (&json!(number - from - 1), &json!("record_refused")), "{name}: {results}");
        }
    }
    let ledger = proxy.settled().await;
    assert_eq!((ledger.delivered, ledger.failed), (96, 4), "{ledger:?}");
    proxy.finish();
    let findings = oracle.check(&Reader::new(&fixture.cluster, fixture.registry).read(&topic, oracle.owed()));
    assert!(findings.duplicates.is_empty() && findings.unacknowledged.is_empty(), "{findings:?}");
}
