//! The derived Avro schema, and what is refused when plans are compiled.

use super::*;
use crate::transcode::{avro_schema, read};

#[test]
fn the_schema_says_what_the_mapping_says() {
    let content = r#"
        enum Color { RED = 0; GREEN = 5; }
        message Order {
          message Item { string sku = 1; uint32 count = 2; Order parent = 3; }
          string id = 5;
          Item first = 1;
          repeated Item items = 2;
          Color color = 3;
          optional Color maybe = 4;
          map<string, Item> by_name = 6;
          map<int32, double> by_number = 7;
          google.protobuf.Timestamp at = 8;
          repeated google.protobuf.Timestamp times = 9;
          google.protobuf.StringValue note = 10;
          google.protobuf.Struct more = 11;
          bytes blob = 12;
          oneof one { int64 a = 13; bool b = 14; }
        }
    "#;
    let message = descriptor(&proto3(content), "t.Order");
    let text = avro_schema(&message, &Mapping::default()).unwrap();
    let expected = concat!(
        r#"{"type":"record","name":"Order","namespace":"t","fields":["#,
        r#"{"name":"id","type":"string","default":"","proto.number":5},"#,
        r#"{"name":"first","type":["null",{"type":"record","name":"Item","namespace":"t.Order","fields":["#,
        r#"{"name":"sku","type":"string","default":"","proto.number":1},"#,
        r#"{"name":"count","type":"long","default":0,"proto.number":2},"#,
        r#"{"name":"parent","type":["null","t.Order"],"default":null,"proto.number":3}]}],"default":null,"proto.number":1},"#,
        r#"{"name":"items","type":{"type":"array","items":"t.Order.Item"},"default":[],"proto.number":2},"#,
        r#"{"name":"color","type":{"type":"enum","name":"Color","namespace":"t","symbols":["RED","GREEN"],"default":"RED"},"default":"RED","proto.number":3},"#,
        r#"{"name":"maybe","type":["null","t.Color"],"default":null,"proto.number":4},"#,
        r#"{"name":"by_name","type":{"type":"map","values":"t.Order.Item"},"default":{},"proto.number":6},"#,
        r#"{"name":"by_number","type":{"type":"array","items":{"type":"record","name":"ByNumberEntry","namespace":"t.Order","fields":["#,
        r#"{"name":"key","type":"int","default":0,"proto.number":1},"#,
        r#"{"name":"value","type":"double","default":0.0,"proto.number":2}]},"logicalType":"map"},"default":[],"proto.number":7},"#,
        r#"{"name":"at","type":["null",{"type":"long","logicalType":"timestamp-micros"}],"default":null,"proto.number":8},"#,
        r#"{"name":"times","type":{"type":"array","items":{"type":"long","logicalType":"timestamp-micros"}},"default":[],"proto.number":9},"#,
        r#"{"name":"note","type":["null","string"],"default":null,"proto.number":10},"#,
        r#"{"name":"more","type":["null",{"type":"string","proto.type":"google.protobuf.Struct"}],"default":null,"proto.number":11},"#,
        r#"{"name":"blob","type":"bytes","default":"","proto.number":12},"#,
        r#"{"name":"a","type":["null","long"],"default":null,"proto.number":13},"#,
        r#"{"name":"b","type":["null","boolean"],"default":null,"proto.number":14}]}"#,
    );
    assert_eq!(text, expected);
    apache_avro::Schema::parse_str(&text).unwrap();
}

#[test]
fn a_required_field_has_no_default() {
    let proto =
        "syntax = \"proto2\"; package t; message M { required string a = 1; optional string b = 2 [default = \"x\"]; }";
    let text = avro_schema(&descriptor(proto, "t.M"), &Mapping::default()).unwrap();
    let expected = concat!(
        r#"{"type":"record","name":"M","namespace":"t","fields":[{"name":"a","type":"string","proto.number":1},"#,
        r#"{"name":"b","type":["null","string"],"default":null,"proto.number":2}]}"#,
    );
    assert_eq!(text, expected);
}

#[test]
fn what_cannot_be_transcoded_is_refused_when_compiled() {
    let deep: String = (0..101).map(|n| format!("message D{n} {{ D{} next = 1; }}\n", n + 1)).collect();
    let deep = proto3(&format!("{deep} message D101 {{}}"));
    for (proto, message, expected) in [
        ("syntax = \"proto3\"; message string { int32 a = 1; }", "string", "`string` is the name of a type of Avro"),
        (
            "syntax = \"proto3\"; message M { message N { M m = 1; } N n = 1; }",
            "M",
            "`M` is in no package, so Avro cannot refer to it",
        ),
        (&deep, "t.D0", "`t.D100`: messages are defined more than 100 levels deep"),
        (
            "syntax = \"proto3\"; package google.protobuf; message Timestamp { int64 seconds = 1; }",
            "google.protobuf.Timestamp",
            "`google.protobuf.Timestamp` is not declared as in protobuf's own file",
        ),
    ] {
        let message = descriptor(proto, message);
        let error = Plan::compile(&message, &settings(Encoding::Avro)).unwrap_err();
        assert!(error.message.starts_with(expected), "{}", error.message);
    }
    let message = descriptor(&proto3("message M {}"), "t.M");
    let error = Plan::compile(&message, &settings(Encoding::RawJson)).unwrap_err();
    assert!(error.message.starts_with("encoding `raw_json` has no schema"), "{}", error.message);
}

#[test]
fn the_plan_and_the_schema_are_the_same_for_every_order_of_numbers() {
    let message = descriptor(&proto3("message M { int32 z = 536870911; string a = 3; int32 m = 1; }"), "t.M");
    let output = run(&message, &settings(Encoding::Avro), Payload::Json(br#"{"m":1,"z":2,"a":"x"}"#)).unwrap();
    assert_eq!(output.value, hex("04 0278 02"));
}

#[test]
fn tools_read_values_back() {
    let content = r#"
        enum Color { RED = 0; GREEN = 5; }
        message Inner { string secret_name = 1; int64 n = 2; }
        message M {
          Inner inner = 1; repeated Inner inners = 2; google.protobuf.Timestamp at = 3; bytes blob = 4; Color color = 5;
          map<string, Inner> by_name = 6; double x = 7; string card = 8;
        }
    "#;
    let message = descriptor(&proto3(content), "t.M");
    let json = r#"{"inner":{"secretName":"s","n":"1"},"inners":[{"secretName":"t"}],"at":"2024-01-01T00:00:00.500Z",
        "blob":"+/8=","color":"GREEN","byName":{"b":{"secretName":"u"},"a":{}},"x":"NaN","card":"4111"}"#;
    let value = |encoding| run(&message, &settings(encoding), Payload::Json(json.as_bytes())).unwrap().value;
    let sensitive = ["inner.secret_name", "inners.secret_name", "by_name.b", "card"].map(str::to_owned);
    let avro =
        read::avro_to_json(&avro_schema(&message, &Mapping::default()).unwrap(), &value(Encoding::Avro), &sensitive);
    let expected = concat!(
        r#"{"inner":{"secret_name":"***","n":1},"inners":[{"secret_name":"***","n":0}],"at":"2024-01-01T00:00:00.500Z","#,
        r#""blob":"+/8=","color":"GREEN","by_name":{"a":{"secret_name":"","n":0},"b":"***"},"x":"NaN","card":"***"}"#,
    );
    assert_eq!(avro.unwrap(), expected);
    let protobuf = read::protobuf_to_json(&message, &value(Encoding::Protobuf), &sensitive);
    let expected = concat!(
        r#"{"inner":{"secretName":"***","n":"1"},"inners":[{"secretName":"***"}],"at":"2024-01-01T00:00:00.500Z","#,
        r#""blob":"+/8=","color":"GREEN","byName":{"b":"***","a":{}},"x":"NaN","card":"***"}"#,
    );
    assert_eq!(protobuf.unwrap(), expected);
}
