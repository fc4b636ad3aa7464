//! The derived Avro schema, and what is refused when plans are compiled.

use super::*;
use crate::transcode::avro_schema;

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
        r#"{"name":"count","type":"long","default":0,"proto.number":2,"proto.type":"uint32"},"#,
        r#"{"name":"parent","type":["null","t.Order"],"default":null,"proto.number":3}]}],"default":null,"proto.number":1},"#,
        r#"{"name":"items","type":{"type":"array","items":"t.Order.Item"},"default":[],"proto.number":2},"#,
        r#"{"name":"color","type":{"type":"enum","name":"Color","namespace":"t","symbols":["RED","GREEN"],"default":"RED","proto.numbers":[0,5]},"default":"RED","proto.number":3},"#,
        r#"{"name":"maybe","type":["null","t.Color"],"default":null,"proto.number":4},"#,
        r#"{"name":"by_name","type":{"type":"map","values":"t.Order.Item"},"default":{},"proto.number":6},"#,
        r#"{"name":"by_number","type":{"type":"array","items":{"type":"record","name":"ByNumberEntry","namespace":"t.Order","fields":["#,
        r#"{"name":"key","type":"int","default":0,"proto.number":1},"#,
        r#"{"name":"value","type":"double","default":0.0,"proto.number":2}]},"logicalType":"map"},"default":[],"proto.number":7},"#,
        r#"{"name":"at","type":["null",{"type":"long","logicalType":"timestamp-micros"}],"default":null,"proto.number":8},"#,
        r#"{"name":"times","type":{"type":"array","items":{"type":"long","logicalType":"timestamp-micros"}},"default":[],"proto.number":9},"#,
        r#"{"name":"note","type":["null","string"],"default":null,"proto.number":10,"proto.type":"google.protobuf.StringValue"},"#,
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
fn a_field_says_what_it_was_where_its_avro_type_does_not() {
    let check = |field: &str, expected: Option<&str>| {
        let message = descriptor(&proto3(&format!("message M {{ {field} = 1; }}")), "t.M");
        let text = avro_schema(&message, &Mapping::default()).unwrap();
        let expected = expected.map_or_else(
            || "\"proto.number\":1}]}".to_owned(),
            |name| format!("\"proto.number\":1,\"proto.type\":\"{name}\"}}]}}"),
        );
        assert!(text.ends_with(&expected), "{field}: {text}");
    };
    for kind in ["uint32", "fixed32", "sint32", "sfixed32", "uint64", "fixed64", "sint64", "sfixed64"] {
        for shape in ["", "repeated ", "optional "] {
            check(&format!("{shape}{kind} a"), Some(kind));
        }
        check(&format!("map<string, {kind}> a"), Some(kind));
        // The entries are a record of their own, whose fields say it.
        check(&format!("map<int32, {kind}> a"), None);
    }
    for kind in ["bool", "int32", "int64", "float", "double", "string", "bytes", "M", "google.protobuf.Timestamp"] {
        check(&format!("{kind} a"), None);
    }
    check("google.protobuf.BytesValue a", Some("google.protobuf.BytesValue"));
    check("repeated google.protobuf.Int64Value a", Some("google.protobuf.Int64Value"));
}
