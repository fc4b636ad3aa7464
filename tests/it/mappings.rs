//! Both mappings to Avro, by schemas in a real registry, read back by fastavro.

use serde_json::{Value, json};

use super::support::fixture::Fixture;
use super::support::proxy::{Proxy, event_type};
use super::support::read_back::Reader;
use super::support::unique;

const PROTOBUF: &str = r#"syntax = "proto3";
package it.v1;
option java_multiple_files = true;
enum Color { RED = 0; GREEN = 5; }
message Mapped {
  Color color = 1;
  uint64 total = 2;
  optional int32 maybe = 3;
  map<int32, string> by = 4;
  Inner inner = 5;
  message Inner { string text = 1; }
}
"#;

/// The event that Avro cannot hold as it is: an unknown symbol, a number over 2^63-1, an absent field.
fn payload() -> Value {
    json!({"color": 7, "total": "18446744073709551615", "by": {"-1": "x"}, "inner": {"text": "y"}})
}

#[tokio::test]
async fn an_event_is_what_its_mapping_says_to_an_independent_reader() {
    let string = json!({"type": "string", "avro.java.string": "String"});
    let mapped = |fields: Value| json!({"type": "record", "name": "Mapped", "namespace": "it.v1", "fields": fields});
    let inner = |text: &Value| {
        let field = json!({"name": "text", "type": text, "default": ""});
        json!(["null", {"type": "record", "name": "Inner", "namespace": "it.v1.Mapped", "fields": [field]}])
    };
    let entries = |text: &Value| {
        let fields =
            json!([{"name": "key", "type": "int", "default": 0}, {"name": "value", "type": text, "default": ""}]);
        let entry = json!({"type": "record", "name": "ByEntry", "namespace": "it.v1.Mapped", "fields": fields});
        json!({"type": "array", "items": entry})
    };
    let mut map = entries(&json!("string"));
    map["logicalType"] = json!("map");
    let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 0});
    let presence = mapped(json!([
        {"name": "color", "type": "string", "default": "RED"},
        {"name": "total", "type": decimal, "default": "\u{0}"},
        {"name": "maybe", "type": ["null", "int"], "default": null},
        {"name": "by", "type": map, "default": []},
        {"name": "inner", "type": inner(&json!("string")), "default": null},
    ]));
    let color = json!({"type": "enum", "name": "Color", "namespace": "it.v1", "symbols": ["RED", "GREEN"]});
    let java = mapped(json!([
        {"name": "color", "type": color, "default": "RED"},
        {"name": "total", "type": "long", "default": 0},
        {"name": "maybe", "type": "int", "default": 0},
        {"name": "by", "type": entries(&string), "default": []},
        {"name": "inner", "type": inner(&string), "default": null},
    ]));
    let by = json!([{"key": -1, "value": "x"}]);
    for (settings, schema, expected) in [
        (
            "uint64 = \"decimal\"\nunknown_enum = \"string\"",
            presence,
            json!({"color": "7", "total": "18446744073709551615", "maybe": null, "by": by, "inner": {"text": "y"}}),
        ),
        (
            "mapping = \"java-avro\"\nunknown_enum = \"default\"",
            java,
            json!({"color": "RED", "total": -1, "maybe": 0, "by": by, "inner": {"text": "y"}}),
        ),
    ] {
        check(settings, &schema, &expected).await;
    }
}

async fn check(settings: &str, schema: &Value, expected: &Value) {
    let fixture = Fixture::new();
    let (name, topic) = ("it.mapped", fixture.topic("it.mapped"));
    let subject = unique("it.v1.Mapped");
    let avro_subject = format!("{subject}-avro");
    fixture.registry.register_protobuf(&subject, PROTOBUF);
    fixture.registry.register_avro(&avro_subject, schema);
    let settings =
        format!("subject = {subject:?}\navro_subject = {avro_subject:?}\nmessage = \"it.v1.Mapped\"\n{settings}");
    let proxy = Proxy::start(&(fixture.config() + &event_type(name, &topic, "avro", &settings))).await;
    let reply = proxy.send(&json!({"event": name, "payload": payload()})).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    proxy.settled().await;
    proxy.finish();
    let records = Reader::new(&fixture.cluster, fixture.registry).read(&topic, 1);
    let [record] = &records[..] else { panic!("one record, not {records:?}") };
    assert_eq!(record.value, *expected, "{settings}");
}
