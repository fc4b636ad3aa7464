//! Every encoding, envelope form and door, read back by a consumer that shares no code with us.

use iguazu::envelope::proto;
use prost::Message as _;
use serde_json::{Value, json};

use super::support::fixture::Fixture;
use super::support::oracle::Oracle;
use super::support::proxy::{Proxy, event_type};
use super::support::read_back::{ReadBack, Reader};

/// Events sent through each door.
const EACH: u64 = 5;

#[tokio::test]
async fn each_encoding_and_envelope_is_read_back_by_an_independent_consumer() {
    let fixture = Fixture::new();
    let mut config = fixture.config();
    let mut types = vec![];
    for (encoding, envelope) in [
        ("avro", "cloudevents"),
        ("avro", "single"),
        ("protobuf", "cloudevents"),
        ("json", "cloudevents"),
        ("raw_json", "cloudevents"),
    ] {
        let name = format!("it.{encoding}.{envelope}");
        let topic = fixture.topic(&name);
        let settings = fixture.schema_settings(encoding, &format!("envelope = {envelope:?}"));
        config += &event_type(&name, &topic, encoding, &settings);
        types.push((name, topic, encoding, envelope));
    }
    let proxy = Proxy::start(&config).await;
    let mut oracles = vec![];
    for (name, _, encoding, _) in &types {
        oracles.push(send_through_every_door(&proxy, name, *encoding != "raw_json").await);
    }
    let ledger = proxy.settled().await;
    assert_eq!(ledger.delivered, ledger.received, "{ledger:?}");
    proxy.finish();
    let reader = Reader::new(&fixture.cluster, fixture.registry);
    for ((name, topic, encoding, envelope), oracle) in types.iter().zip(&oracles) {
        let records = reader.read(topic, oracle.owed());
        if *envelope == "cloudevents" {
            let findings = oracle.check(&records);
            assert!(findings.duplicates.is_empty() && findings.unacknowledged.is_empty(), "{name}: {findings:?}");
        }
        for record in &records {
            check_record(record, name, encoding, envelope);
        }
    }
}

/// Sends numbered events through each door and body form that takes them; everything must be taken.
async fn send_through_every_door(proxy: &Proxy, name: &str, protobuf: bool) -> Oracle {
    let mut oracle = Oracle::default();
    let mut next = 1..;
    let mut numbers = |oracle: &mut Oracle| -> Vec<u64> {
        let numbers: Vec<u64> = next.by_ref().take(EACH as usize).collect();
        for number in &numbers {
            oracle.sent(*number);
            oracle.acknowledged(*number);
        }
        numbers
    };
    let accepted = |reply: super::support::http::Reply, count: usize| {
        assert_eq!(reply.status, 202, "{name}: {}", reply.text());
        if reply.header("content-type") == Some("application/json") {
            assert_eq!(reply.json()["succeeded"], json!(count), "{name}: {}", reply.text());
        }
    };
    let json = "application/json";
    for number in numbers(&mut oracle) {
        accepted(proxy.send(&Oracle::event(name, number)).await, 1);
    }
    let array: Vec<Value> = numbers(&mut oracle).into_iter().map(|n| Oracle::event(name, n)).collect();
    accepted(proxy.send(&json!(array)).await, array.len());
    let object: Vec<Value> = numbers(&mut oracle).into_iter().map(|n| Oracle::event(name, n)).collect();
    accepted(proxy.send(&json!({"events": object})).await, object.len());
    let lines: Vec<String> = numbers(&mut oracle).into_iter().map(|n| Oracle::event(name, n).to_string()).collect();
    accepted(proxy.post("/v1/events", "application/x-ndjson", lines.join("\n")).await, lines.len());
    for number in numbers(&mut oracle) {
        let request = proxy.request("POST", &format!("/v1/events/{name}")).header("content-type", json);
        let request = request.header("ce-id", Oracle::id(number)).body(Oracle::payload(number).to_string());
        accepted(super::support::http::send(request).await.expect("a reply"), 1);
    }
    if protobuf {
        let events: Vec<proto::Event> = numbers(&mut oracle).into_iter().map(|n| protobuf_event(name, n)).collect();
        let body = proto::EventBatch { events }.encode_to_vec();
        accepted(proxy.post("/v1/events", "application/x-protobuf", body).await, EACH as usize);
        for number in numbers(&mut oracle) {
            let request =
                proxy.request("POST", &format!("/v1/events/{name}")).header("content-type", "application/protobuf");
            let request = request.header("ce-id", Oracle::id(number)).body(protobuf_payload(number));
            accepted(super::support::http::send(request).await.expect("a reply"), 1);
        }
    }
    oracle
}

fn protobuf_event(name: &str, number: u64) -> proto::Event {
    let mut event = proto::Event { event: name.to_owned(), id: Oracle::id(number), ..proto::Event::default() };
    event.payload_form = Some(proto::event::PayloadForm::Payload(protobuf_payload(number)));
    event
}

/// The oracle's payload on the wire, by prost and not by us.
fn protobuf_payload(number: u64) -> Vec<u8> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Numbered {
        #[prost(int64, tag = "1")]
        number: i64,
        #[prost(string, tag = "2")]
        text: String,
        #[prost(double, tag = "3")]
        half: f64,
        #[prost(int32, repeated, tag = "4")]
        digits: Vec<i32>,
    }
    let payload = Oracle::payload(number);
    let digits = payload["digits"].as_array().expect("an array").iter();
    Numbered {
        number: payload["number"].as_i64().expect("a number"),
        text: payload["text"].as_str().expect("a text").to_owned(),
        half: payload["half"].as_f64().expect("a number"),
        digits: digits.map(|d| d.as_i64().expect("a digit") as i32).collect(),
    }
    .encode_to_vec()
}

fn check_record(record: &ReadBack, name: &str, encoding: &str, envelope: &str) {
    let kind = record.schema.as_ref().map(|schema| schema.kind.as_str());
    let expected = match encoding {
        "avro" => Some("AVRO"),
        "protobuf" => Some("PROTOBUF"),
        _ => None,
    };
    assert_eq!(kind, expected, "{name}");
    if envelope == "single" {
        assert_eq!(record.headers.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["iguazu-envelope"], "{name}");
        return;
    }
    let content_type = match encoding {
        "avro" => "application/avro",
        "protobuf" => "application/x-protobuf",
        _ => "application/json",
    };
    assert_eq!(record.header("content-type"), Some(content_type), "{name}");
    assert_eq!(record.header("ce_specversion"), Some("1.0"), "{name}");
    assert_eq!(record.header("ce_type"), Some(name), "{name}");
    let event = record.cloud_event.as_ref().expect("the CloudEvents SDK reads the headers");
    assert_eq!(event["type"], json!(name));
    assert_eq!(event["source"], json!("anonymous"));
}

#[tokio::test]
async fn the_envelope_arrives_as_it_was_sent() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.envelope");
    let config = fixture.config() + &fixture.event_type("it.envelope", &topic, "");
    let proxy = Proxy::start(&config).await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let before_ms = now_ms();
    let reply = proxy
        .send(&json!({
            "event": "it.envelope", "payload": {"number": "7"}, "id": "id 1%", "source": "it/tests", "time": "2026-01-02T03:04:05.678Z",
            "key": "kéy", "properties": {"a": [1, {"b": "ü"}]}, "headers": {"x-own": "plain", "x-bytes": {"base64": "AAEC"}},
            "traceparent": traceparent,
        }))
        .await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    proxy.settled().await;
    proxy.finish();
    let records = Reader::new(&fixture.cluster, fixture.registry).read(&topic, 1);
    let [record] = &records[..] else { panic!("one record, not {records:?}") };
    assert_eq!(record.key.as_deref(), Some("kéy".as_bytes()));
    assert_eq!(record.header("ce_time"), Some("2026-01-02T03:04:05.678Z"));
    assert_eq!(record.header("traceparent"), Some(traceparent));
    assert_eq!(record.header("x-own"), Some("plain"));
    assert_eq!(record.header("x-bytes"), Some("\0\u{1}\u{2}"));
    let event = record.cloud_event.as_ref().expect("the CloudEvents SDK reads the headers");
    assert_eq!(event["id"], json!("id 1%"));
    assert_eq!(event["source"], json!("it/tests"));
    let properties: Value = serde_json::from_str(event["properties"].as_str().expect("text")).expect("JSON");
    assert_eq!(properties, json!({"a": [1, {"b": "ü"}]}));
    let received_ms = record.timestamp_ms.expect("the producer's timestamp") as u128;
    assert!((before_ms..=now_ms()).contains(&received_ms), "the record's time is when we received it");
}

fn now_ms() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis()
}
