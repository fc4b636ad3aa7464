//! From the door to Kafka: what is accepted arrives, once, as what it was promised to arrive as.

use serde_json::Value;

use super::support::kafka::{self, Topic};
use super::support::oracle::{self, Oracle};
use super::support::proxy::{Proxy, config, event_type};
use super::support::read_back::Reader;
use super::support::registry;

#[tokio::test]
async fn every_accepted_event_is_in_kafka_in_each_encoding() {
    let (cluster, registry) = (kafka::shared(), registry::shared());
    let (subject, avro_subject) = oracle::register(registry);
    let settings = format!("subject = {subject:?}\nmessage = {:?}\nkey = \"number\"\n", oracle::MESSAGE);
    let avro_settings = format!("{settings}avro_subject = {avro_subject:?}\n");
    let encodings = [("avro", &avro_settings), ("protobuf", &settings), ("json", &settings)];
    let event_types = encodings.map(|(encoding, settings)| {
        let (event, topic) = (format!("numbered.{encoding}"), cluster.topic("path", Topic::default()));
        (event_type(&event, &topic, encoding, settings), event, topic)
    });
    let tables: String = event_types.iter().map(|(table, ..)| table.as_str()).collect();
    let proxy = Proxy::start(&format!("{}{tables}", config(&cluster, registry))).await;

    for (_, event, topic) in &event_types {
        let mut oracle = Oracle::default();
        for first in (1..=1000).step_by(100) {
            let numbers = first..first + 100;
            numbers.clone().for_each(|number| oracle.sent(number));
            let events: Value = numbers.clone().map(|number| Oracle::event(event, number)).collect();
            let reply = proxy.send(&events).await;
            assert_eq!(reply.status, 202, "{event}: {}", reply.text());
            numbers.for_each(|number| oracle.acknowledged(number));
        }
        let records = Reader::new(&cluster, registry).read(topic, oracle.owed());
        let findings = oracle.check(&records);
        assert_eq!((findings.events, findings.duplicates.len()), (1000, 0), "{event}");
        let keyed = |record| Some(oracle::number_of(record).to_string().into_bytes());
        assert!(records.iter().all(|record| record.key == keyed(record)), "{event}: a key is not the payload's number");
    }
    let ledger = proxy.finish();
    assert_eq!((ledger.received, ledger.delivered), (3000, 3000));
}
