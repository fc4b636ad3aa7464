//! Faults that no real broker shows when it is asked to: librdkafka's mock cluster injects them.

use iguazu::dev::brokers::EmbeddedBrokers;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::json;

use super::support::proxy::{Proxy, event_type};
use super::support::wait_until;

/// A sequence that the broker did not expect is an error that librdkafka's idempotent client never recovers from.
#[tokio::test]
async fn a_producer_that_is_beyond_repair_is_replaced_and_its_neighbour_is_not_disturbed() {
    let brokers = EmbeddedBrokers::start(1).expect("loopback has free ports");
    brokers.create_topic("it.fatal", 1, 1).expect("it is new");
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n\n[admin]\nlisten = \"127.0.0.1:0\"\n\n\
         [clusters.core]\nbrokers = [{:?}]\nlinger_ms = 5\n\n",
        brokers.bootstrap()
    ) + &event_type("it.all", "it.fatal", "raw_json", "acks = \"all\"")
        + &event_type("it.leader", "it.fatal", "raw_json", "acks = \"leader\"");
    let mut proxy = Proxy::start(&config).await;
    proxy.expect_log("producer turned fatal and is replaced");
    proxy.expect_log("kafka client reports an error");
    proxy.expect_log("record was not delivered");
    proxy.expect_log("\"text\":\"");
    let send = async |event: &str| {
        let event = json!({"event": event, "payload": {"a": 1}});
        proxy.post("/v1/events?reply=acknowledged", "application/json", event.to_string()).await
    };
    assert_eq!(send("it.all").await.status, 200);

    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    brokers.fail_requests(RDKafkaApiKey::Produce, vec![error]).expect("the brokers obey");
    let failed = send("it.all").await;
    assert_eq!(failed.status, 503, "{}", failed.text());
    assert_eq!(failed.json()["results"][0]["code"], json!("delivery_failed"), "{}", failed.text());
    assert_eq!(send("it.leader").await.status, 200, "the other lane has a client of its own");
    wait_until("another client has taken over", async || {
        let reply = send("it.all").await;
        if reply.status == 200 { Ok(()) } else { Err(reply.text()) }
    })
    .await;
    let replaced = proxy.log().into_iter().find(|line| line.message().contains("turned fatal"));
    assert_eq!(replaced.map(|line| line.fields["lane"].clone()), Some(json!("all")));
    proxy.settled().await;
    let ledger = proxy.finish();
    assert_eq!(ledger.delivered, 3, "{ledger:?}");
}
