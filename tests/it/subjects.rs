//! Event types whose subject is an Avro schema or a JSON Schema.

use iguazu::envelope::proto;
use prost::Message as _;
use serde_json::{Value, json};

use super::support::fixture::Fixture;
use super::support::http::{self, Reply};
use super::support::proxy::{Proxy, event_type};
use super::support::read_back::Reader;
use super::support::tool::iguazu;
use super::support::{unique, wait_until};

/// A record that uses a type of another subject.
fn shop(item: &str) -> Value {
    json!({"type": "record", "name": "Count", "namespace": "it.shop", "fields": [
        {"name": "warehouse", "type": {"type": "record", "name": "Warehouse", "fields": [{"name": "id", "type": "string"}]}},
        {"name": "total", "type": "long"},
        {"name": "note", "type": ["null", "string"], "default": null},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "either", "type": ["null", "string", "long"], "default": null},
        {"name": "items", "type": {"type": "array", "items": item}}]})
}

/// The count of the warehouse with this number, as a sender writes it.
fn count(number: u64) -> Value {
    json!({"total": number, "warehouse": {"id": format!("w-{number}")}, "items": [{"sku": "a"}, {"sku": "b"}],
        "price": "12.50", "at": "2026-01-31T08:30:00.125Z", "note": "three"})
}

/// The same as a datum, by hand: it shares no code with the proxy.
fn datum(number: u64) -> Vec<u8> {
    let zig_zag = |value: i64| {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        let mut bytes = vec![];
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        bytes
    };
    let text = |text: &str| [zig_zag(text.len() as i64), text.as_bytes().to_vec()].concat();
    [
        text(&format!("w-{number}")),
        zig_zag(number as i64),
        [zig_zag(1), text("three")].concat(),
        zig_zag(1_769_848_200_125),
        vec![4, 4, 0xe2],
        zig_zag(0),
        // Two blocks, the first with its size in bytes: legal, and not how it is stored.
        [vec![1, 4], text("a"), vec![2], text("b"), vec![0]].concat(),
    ]
    .concat()
}

#[tokio::test]
async fn an_avro_subject_takes_json_and_datums_and_stores_them_by_that_very_schema() {
    let fixture = Fixture::new();
    let registry = fixture.registry;
    let (item, subject) = (unique("it.item"), unique("it.count"));
    let name = format!("it.shop.{}", item.replace(['.', '-'], "_"));
    let (_, short) = name.rsplit_once('.').expect("it has a namespace");
    registry.register_avro(
        &item,
        &json!({"type": "record", "name": short, "namespace": "it.shop",
        "fields": [{"name": "sku", "type": "string"}]}),
    );
    let references = json!([{"name": name, "subject": item, "version": 1}]);
    let request = json!({"schemaType": "AVRO", "schema": shop(&name).to_string(), "references": references});
    let id = registry.register(&subject, &request);
    let topic = fixture.topic("it.count");
    let settings = format!("subject = {subject:?}\nschema_type = \"avro\"\nkey = \"warehouse.id\"");
    let config = fixture.config() + &event_type("it.count", &topic, "avro", &settings);
    let proxy = Proxy::start(&config).await;

    let taken = |reply: Reply| assert_eq!(reply.status, 202, "{}", reply.text());
    taken(proxy.send(&json!({"event": "it.count", "payload": count(1)})).await);
    taken(
        proxy
            .send(&json!([{"event": "it.count", "payload_base64": base64(&datum(2)), "schema": {"version": 1}}]))
            .await,
    );
    let event = proto::Event {
        event: "it.count".to_owned(),
        payload_form: Some(proto::event::PayloadForm::Payload(datum(3))),
        ..proto::Event::default()
    };
    let body = proto::EventBatch { events: vec![event] }.encode_to_vec();
    taken(proxy.post("/v1/events", "application/x-protobuf", body).await);
    taken(proxy.post("/v1/events/it.count", "application/avro", datum(4)).await);
    taken(proxy.post("/v1/events/it.count", "avro/binary", datum(5)).await);
    taken(proxy.post("/v1/events/it.count", "application/json", count(6).to_string()).await);

    let with = |change: &dyn Fn(&mut Value)| {
        let mut payload = count(7);
        change(&mut payload);
        payload.to_string()
    };
    let json = "application/json";
    let wrong = [
        (json, with(&|p| p["total"] = json!("secret")).into_bytes(), "invalid_payload", "$.total"),
        (json, with(&|p| p["items"][1] = json!({})).into_bytes(), "missing_field", "$.items[1].sku"),
        (json, with(&|p| p["price"] = json!(0.125)).into_bytes(), "out_of_range", "$.price"),
        (json, with(&|p| p["either"] = json!({"secret": 1})).into_bytes(), "invalid_payload", "$.either"),
        (json, with(&|p| p["more"] = json!(1)).into_bytes(), "unknown_field", "`more`"),
        ("application/avro", datum(7)[..20].to_vec(), "malformed_avro", "at byte"),
        ("application/avro", [datum(7), vec![0]].concat(), "malformed_avro", "follow"),
        ("application/x-protobuf", datum(7), "wrong_format", "not Protobuf"),
    ];
    for (content_type, body, code, part) in wrong {
        let reply = proxy.post("/v1/events/it.count", content_type, body).await;
        let result = reply.json()["results"][0].clone();
        assert_eq!((reply.status, &result["code"]), (422, &json!(code)), "{result}");
        let message = result["message"].as_str().unwrap_or_default();
        assert!(message.contains(part) && !message.contains("secret"), "{part:?}: {message}");
    }
    let reply = proxy.post("/v1/events", "application/avro", datum(7)).await;
    assert_eq!((reply.status, &reply.json()["code"]), (415, &json!("unsupported_media_type")), "{}", reply.text());
    let dry = proxy.post("/v1/events/it.count?dry_run=true", "application/avro", datum(8)).await.json();
    assert_eq!((&dry["results"][0]["key"], &dry["results"][0]["value"]["total"]), (&json!("w-8"), &json!(8)), "{dry}");

    proxy.settled().await;
    let place = proxy.folder().to_owned();
    let tail = iguazu(&place, &["tail", "it.count", "-n", "6", "--config", "iguazu.toml"]).printed();
    assert_eq!(tail.matches("\"note\":\"three\"").count(), 6, "{tail}");
    let example = iguazu(&place, &["schema", "example", "it.count", "--config", "iguazu.toml", "--payload-only"]);
    taken(proxy.post("/v1/events/it.count", "application/json", example.printed()).await);
    proxy.settled().await;
    proxy.finish();
    let mut records = Reader::new(&fixture.cluster, registry).read(&topic, 7);
    records.retain(|record| record.value["note"] == "three");
    records.sort_by_key(|record| record.value["total"].as_u64());
    assert_eq!(records.len(), 6);
    for (record, number) in records.iter().zip(1..) {
        let schema = record.schema.as_ref().expect("it is framed");
        assert_eq!((schema.kind.as_str(), schema.id), ("AVRO", Some(id)));
        assert_eq!(record.key.as_deref(), Some(format!("w-{number}").as_bytes()));
        assert_eq!(record.header("content-type"), Some("application/avro"));
        assert_eq!((&record.value["total"], &record.value["price"]), (&json!(number), &json!("12.50")), "{record:?}");
        assert_eq!(record.value["items"], json!([{"sku": "a"}, {"sku": "b"}]));
        // All that differs between the records is the number: one value has one form, whatever it came in.
        let plain = |bytes: &[u8]| [&bytes[..8], &bytes[10..]].concat();
        let first = plain(records[0].bytes.as_ref().expect("a value"));
        assert_eq!(plain(record.bytes.as_ref().expect("a value")), first);
    }
}

const TICKET: &str = r#"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "required": ["id", "from"],
    "additionalProperties": false, "properties": {"id": {"type": "string", "minLength": 2}, "urgent": {"type": "boolean"},
    "from": {"$ref": "person.json"}}}"#;
const PERSON: &str = r#"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
    "properties": {"mail": {"type": "string", "pattern": "@"}}}"#;

#[tokio::test]
async fn a_json_schema_subject_is_checked_and_stored_as_sent_behind_its_framing() {
    let fixture = Fixture::new();
    let registry = fixture.registry;
    let (person, subject) = (unique("it.person"), unique("it.ticket"));
    registry.register(&person, &json!({"schemaType": "JSON", "schema": PERSON}));
    let references = json!([{"name": "person.json", "subject": person, "version": 1}]);
    let id = registry.register(&subject, &json!({"schemaType": "JSON", "schema": TICKET, "references": references}));
    let topic = fixture.topic("it.ticket");
    let settings = format!("subject = {subject:?}\nschema_type = \"json\"\nkey = \"id\"");
    let config = fixture.config() + &event_type("it.ticket", &topic, "json", &settings);
    let proxy = Proxy::start(&config).await;

    let sent = r#"{"id": "t-1",  "from": {"mail": "a@b", "other": [1.50]}}"#;
    let reply = proxy.post("/v1/events/it.ticket", "application/json", sent).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    for (payload, code, part) in [
        (r#"{"id":"t-2"}"#, "missing_field", "$: `from` is missing (`required` at `#/required`)"),
        (r#"{"id":"s","from":{}}"#, "invalid_payload", "$.id: the value does not satisfy the schema (`minLength`"),
        (
            r#"{"id":"t-2","from":{"mail":"secret"}}"#,
            "invalid_payload",
            "$.from.mail: the value does not satisfy the schema (`pattern`",
        ),
        (r#"{"id":"t-2","from":{},"more":"secret"}"#, "unknown_field", "$: `more` is no member"),
        (r#"{"id":"t-2","from":{},"id":"t-3"}"#, "invalid_payload", "`id` stands there twice"),
    ] {
        let event = format!("{{\"event\":\"it.ticket\",\"payload\":{payload}}}");
        let reply = proxy.post("/v1/events", "application/json", event).await;
        let result = reply.json()["results"][0].clone();
        assert_eq!((reply.status, &result["code"]), (422, &json!(code)), "{result}");
        let message = result["message"].as_str().unwrap_or_default();
        assert!(message.contains(part) && !message.contains("secret"), "{part:?}: {message}");
    }
    let dry = proxy.post("/v1/events/it.ticket?dry_run=true", "application/json", sent).await.json();
    assert_eq!((&dry["results"][0]["key"], &dry["results"][0]["value"]["id"]), (&json!("t-1"), &json!("t-1")), "{dry}");

    proxy.settled().await;
    let place = proxy.folder().to_owned();
    let tail = iguazu(&place, &["tail", "it.ticket", "-n", "1", "--config", "iguazu.toml"]).printed();
    assert!(tail.contains("\"mail\":\"a@b\""), "{tail}");
    let example = iguazu(&place, &["schema", "example", "it.ticket", "--config", "iguazu.toml"]).printed();
    assert!(example.contains("\"from\"") && example.contains("curl"), "{example}");
    proxy.finish();
    let records = Reader::new(&fixture.cluster, registry).read(&topic, 1);
    let schema = records[0].schema.as_ref().expect("it is framed");
    assert_eq!((schema.kind.as_str(), schema.id), ("JSON", Some(id)));
    let framed = [&[0], &id.to_be_bytes()[..], sent.as_bytes()].concat();
    assert_eq!(records[0].bytes.as_deref(), Some(framed.as_slice()));
    assert_eq!(
        (records[0].key.as_deref(), records[0].header("content-type")),
        (Some(&b"t-1"[..]), Some("application/json"))
    );
}

#[tokio::test]
async fn a_subject_of_another_language_than_the_event_type_says_is_refused_and_says_so() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.language");
    let config = fixture.config()
        + &event_type("it.a", &topic, "avro", &format!("subject = {:?}", fixture.avro_subject))
        + &event_type("it.b", &topic, "avro", &format!("subject = {:?}\nschema_type = \"avro\"", fixture.subject));
    let mut proxy = Proxy::start_unready(&format!("startup_wait_seconds = 1\n{config}"));
    proxy.expect_log("event type is not available");
    proxy.expect_log("started degraded");
    wait_until("the reasons are shown", async || {
        let request = reqwest::Client::new().get(format!("http://{}/ready", proxy.admin_address()));
        let ready = http::send(request).await?.text();
        let says = |part: &str| ready.contains(part);
        let all = says("type AVRO, the event type expects PROTOBUF; set `schema_type = \\\"avro\\\"`")
            && says("type PROTOBUF, the event type expects AVRO; set `schema_type = \\\"protobuf\\\"`");
        if all { Ok(()) } else { Err(ready) }
    })
    .await;
    proxy.finish();
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
