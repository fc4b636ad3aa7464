//! The mapping `presence`: its policies, well-known types, groups, `Any` and editions.

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use prost_reflect::DynamicMessage;
use prost_reflect::prost::Message as _;

use super::*;
use crate::outcome::Code;
use crate::route::{Presence, TimestampPolicy, Uint64Policy, UnknownEnumPolicy};
use crate::transcode::avro_schema;
use crate::transcode::back::{AvroSchema, Mask};

const NO_POLICIES: Presence = Presence {
    uint64: Uint64Policy::Reject,
    unknown_enum: UnknownEnumPolicy::DefaultSymbol,
    invalid_timestamp: TimestampPolicy::Reject,
};

fn with(policies: Presence) -> PlanSettings<'static> {
    let mapping = Mapping::Presence(policies);
    PlanSettings { mapping, unknown_fields: UnknownFields::Drop, ..settings(Encoding::Avro) }
}

/// The schema's text and the datum of a payload, which apache-avro must be able to read by that schema.
fn avro(message: &MessageDescriptor, policies: Presence, payload: Payload<'_>) -> (String, Result<String, Code>) {
    let text = avro_schema(message, &Mapping::Presence(policies)).unwrap();
    let schema = apache_avro::Schema::parse_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let datum = run(message, &with(policies), payload).map(|output| output.value).map_err(|e| e.code);
    if let Ok(datum) = &datum {
        let mut rest = datum.as_slice();
        GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut rest).unwrap();
        assert!(rest.is_empty(), "{text}");
    }
    (text, datum.map(|datum| hex_of(&datum)))
}

/// What is in the text of a schema between the braces of `fields`.
fn fields_of(schema: &str) -> String {
    let fields = schema.split_once("\"fields\":[").unwrap().1.strip_suffix("]}").unwrap();
    // Which Protobuf number a field is has a test of its own, in `schema`.
    let kinds = ["uint32", "sint32", "fixed32", "sfixed32", "uint64", "sint64", "fixed64", "sfixed64"];
    kinds.iter().fold(fields.to_owned(), |fields, kind| fields.replace(&format!(",\"proto.type\":\"{kind}\""), ""))
}

#[track_caller]
fn check_json(message: &MessageDescriptor, payload: Payload<'_>, expected: Result<&str, (Code, &str)>) {
    let dropping = PlanSettings { unknown_fields: UnknownFields::Drop, ..settings(Encoding::Json) };
    let found = run(message, &dropping, payload).map(|output| String::from_utf8(output.value).unwrap());
    match (&found, expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found, expected),
        (Err(error), Err((code, text))) if error.code == code && error.message.starts_with(text) => {}
        (found, expected) => panic!("{found:?}, not {expected:?}"),
    }
}

#[test]
fn an_unsigned_64_bit_number_is_what_its_policy_says() {
    let content = "message M { uint64 a = 1; optional fixed64 b = 2; repeated uint64 c = 3; map<string, uint64> d = 4;
        map<uint64, bool> e = 5; google.protobuf.UInt64Value f = 6; }";
    let message = descriptor(&proto3(content), "t.M");
    // 2^64-1 in each field.
    let all = hex("08 ffffffffffffffffff01 11 ffffffffffffffff 1a0a ffffffffffffffffff01
        22 0e 0a0161 10 ffffffffffffffffff01 2a 0d 08 ffffffffffffffffff01 1001 32 0b 08 ffffffffffffffffff01");
    let policies = |uint64| Presence { uint64, ..NO_POLICIES };
    for policy in [Uint64Policy::Reject, Uint64Policy::Wrap] {
        let (text, datum) = avro(&message, policies(policy), Payload::Protobuf(&all));
        assert!(fields_of(&text).starts_with(r#"{"name":"a","type":"long","default":0,"proto.number":1}"#), "{text}");
        let wrapped = "01 0201 020100 0202610100 02010100 0201".replace(' ', "");
        let expected = if policy == Uint64Policy::Reject { Err(Code::OutOfRange) } else { Ok(wrapped) };
        assert_eq!(datum, expected);
    }
    let (text, datum) = avro(&message, policies(Uint64Policy::Decimal), Payload::Protobuf(&all));
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":20,"scale":0}"#;
    let expected = [
        format!(r#"{{"name":"a","type":{decimal},"default":"\u0000","proto.number":1}}"#),
        format!(r#"{{"name":"b","type":["null",{decimal}],"default":null,"proto.number":2}}"#),
        format!(r#"{{"name":"c","type":{{"type":"array","items":{decimal}}},"default":[],"proto.number":3}}"#),
    ];
    assert!(fields_of(&text).starts_with(&expected.join(",")), "{text}");
    let max = "1200ffffffffffffffff";
    assert_eq!(datum.unwrap(), format!("{max}02{max}02{max}0002 0261{max}00 02{max}0100 02{max}").replace(' ', ""));
}

#[test]
fn a_decimal_is_as_short_as_its_sign_allows() {
    let message = descriptor(&proto3("message M { uint64 a = 1; }"), "t.M");
    let policies = Presence { uint64: Uint64Policy::Decimal, ..NO_POLICIES };
    for (number, expected) in [
        (0, "0200"),
        (1, "0201"),
        (127, "027f"),
        (128, "040080"),
        (255, "0400ff"),
        (256, "040100"),
        (32_767, "047fff"),
        (32_768, "06008000"),
        (i64::MAX as u64, "107fffffffffffffff"),
        (1 << 63, "12008000000000000000"),
    ] {
        let json = format!("{{\"a\":\"{number}\"}}");
        let (_, datum) = avro(&message, policies, Payload::Json(json.as_bytes()));
        assert_eq!(datum.as_deref(), Ok(expected), "{number}");
    }
    let text = avro_schema(&message, &Mapping::Presence(policies)).unwrap();
    let json = |datum| AvroSchema::parse(&text, &[]).unwrap().to_json(&hex(datum), &Mask::default()).unwrap();
    assert_eq!(json("1200ffffffffffffffff"), r#"{"a":"18446744073709551615"}"#);
    assert_eq!(json("0200"), r#"{"a":"0"}"#);
}

#[test]
fn an_enum_is_what_its_policy_says() {
    let content = "enum Color { RED = 0; GREEN = 5; LIGHT = -1; }
        message M { Color a = 1; optional Color b = 2; repeated Color c = 3; map<string, Color> d = 4; }";
    let message = descriptor(&proto3(content), "t.M");
    let unknown = hex("0863 1063 1a0263 05 2205 0a0161 1063");
    let policies = |unknown_enum| Presence { unknown_enum, ..NO_POLICIES };
    let (_, datum) = avro(&message, policies(UnknownEnumPolicy::Reject), Payload::Protobuf(&unknown));
    assert_eq!(datum, Err(Code::UnknownEnumValue));
    let (_, datum) = avro(&message, policies(UnknownEnumPolicy::DefaultSymbol), Payload::Protobuf(&unknown));
    assert_eq!(datum.unwrap(), "00 0200 04000200 0202610000".replace(' ', ""));
    let (text, datum) = avro(&message, policies(UnknownEnumPolicy::String), Payload::Protobuf(&unknown));
    let string = r#"{"type":"string","proto.type":"t.Color"}"#;
    let expected = [
        format!(r#"{{"name":"a","type":{string},"default":"RED","proto.number":1}}"#),
        format!(r#"{{"name":"b","type":["null",{string}],"default":null,"proto.number":2}}"#),
    ];
    assert!(fields_of(&text).starts_with(&expected.join(",")), "{text}");
    assert_eq!(datum.unwrap(), "043939 02043939 04 043939 0a475245454e 00 02 0261 043939 00".replace(' ', ""));
    let (_, datum) =
        avro(&message, policies(UnknownEnumPolicy::String), Payload::Protobuf(&hex("10 ffffffffffffffffff01")));
    assert_eq!(datum.unwrap(), "06524544 020a4c49474854 00 00".replace(' ', ""));
    // The number is counted only where another symbol stands for it.
    let defaulted = |unknown_enum| {
        run(&message, &with(policies(unknown_enum)), Payload::Protobuf(&unknown)).unwrap().enums_defaulted
    };
    assert_eq!(defaulted(UnknownEnumPolicy::String), 0);
    assert_eq!(defaulted(UnknownEnumPolicy::DefaultSymbol), 4);
}

#[test]
fn long_symbols_of_short_numbers_do_not_become_gigabytes() {
    let symbol = "S".repeat(500);
    let content = format!("enum E {{ ZERO = 0; {symbol} = 1; }} message M {{ repeated E e = 1; }}");
    let message = descriptor(&proto3(&content), "t.M");
    let mut payload = hex("0a a08d06");
    payload.resize(payload.len() + 100_000, 1);
    let policies = Presence { unknown_enum: UnknownEnumPolicy::String, ..NO_POLICIES };
    let error = run(&message, &with(policies), Payload::Protobuf(&payload)).unwrap_err();
    assert_eq!(error.code, Code::PayloadExpands);
}

#[test]
fn a_timestamp_out_of_range_is_what_its_policy_says() {
    let message = descriptor(&proto3("message M { google.protobuf.Timestamp at = 1; }"), "t.M");
    let policies = |invalid_timestamp| Presence { invalid_timestamp, ..NO_POLICIES };
    for (payload, clamped) in [
        // Nanos of -1 and of 10^9; the year 10,000; the year 0.
        ("0a0b 10ffffffffffffffffff01", -1),
        ("0a06 108094ebdc03", 1_000_000),
        ("0a07 0880fd97a1b007", 253_402_300_799_999_999),
        ("0a0b 08ff919fdf97feffffff01", -62_135_596_800_000_000i64),
    ] {
        let (_, datum) = avro(&message, policies(TimestampPolicy::Reject), Payload::Protobuf(&hex(payload)));
        assert_eq!(datum, Err(Code::OutOfRange), "{payload}");
        let (text, datum) = avro(&message, policies(TimestampPolicy::Clamp), Payload::Protobuf(&hex(payload)));
        let schema = apache_avro::Schema::parse_str(&text).unwrap();
        let datum = hex(&datum.unwrap());
        let value = GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut datum.as_slice()).unwrap();
        let at = Value::Union(1, Box::new(Value::TimestampMicros(clamped)));
        assert_eq!(value, Value::Record(vec![("at".to_owned(), at)]), "{payload}");
    }
}

#[test]
fn a_well_known_type_may_be_the_event_itself() {
    let pool = descriptor(&proto3("message M {}"), "t.M").parent_pool().clone();
    for (name, schema, json, datum) in [
        ("Timestamp", r#"{"type":"long","logicalType":"timestamp-micros"}"#, r#""1970-01-01T00:00:01Z""#, "80897a"),
        (
            "Duration",
            r#"{"type":"long","proto.type":"google.protobuf.Duration","unit":"micros"}"#,
            r#""-0.000001s""#,
            "01",
        ),
        ("Int32Value", r#""int""#, "-1", "01"),
        ("UInt64Value", r#""long""#, r#""1""#, "02"),
        ("BoolValue", r#""boolean""#, "true", "01"),
        ("DoubleValue", r#""double""#, "1.5", "000000000000f83f"),
        ("StringValue", r#""string""#, r#""a""#, "0261"),
        ("BytesValue", r#""bytes""#, r#""/w==""#, "02ff"),
        (
            "Struct",
            r#"{"type":"string","proto.type":"google.protobuf.Struct"}"#,
            r#"{"a":null}"#,
            "147b2261223a6e756c6c7d",
        ),
        ("Value", r#"{"type":"string","proto.type":"google.protobuf.Value"}"#, r#""a""#, "06226122"),
        ("ListValue", r#"{"type":"string","proto.type":"google.protobuf.ListValue"}"#, "[true]", "0c5b747275655d"),
        ("Any", r#"{"type":"string","proto.type":"google.protobuf.Any"}"#, "{}", "047b7d"),
        ("Empty", r#"{"type":"record","name":"Empty","namespace":"google.protobuf","fields":[]}"#, "{}", ""),
        (
            "FieldMask",
            concat!(
                r#"{"type":"record","name":"FieldMask","namespace":"google.protobuf","fields":[{"name":"paths","#,
                r#""type":{"type":"array","items":"string"},"default":[],"proto.number":1}]}"#
            ),
            r#""aB""#,
            "0206615f6200",
        ),
    ] {
        let message = pool.get_message_by_name(&format!("google.protobuf.{name}")).unwrap();
        let (text, from_json) = avro(&message, NO_POLICIES, Payload::Json(json.as_bytes()));
        assert_eq!(text, schema);
        assert_eq!(from_json.as_deref(), Ok(datum), "{name}");
        let wire = run(&message, &settings(Encoding::Protobuf), Payload::Json(json.as_bytes())).unwrap().value;
        assert_eq!(avro(&message, NO_POLICIES, Payload::Protobuf(&wire)).1.as_deref(), Ok(datum), "{name}");
        check_json(&message, Payload::Protobuf(&wire), Ok(json));
        check_json(&message, Payload::Json(b"#"), Err((Code::MalformedJson, "$: expected a value")));
    }
}

fn any_message() -> MessageDescriptor {
    let content = "message Inner { int32 a = 1; string b = 2; Inner next = 3; google.protobuf.Any any = 4; }
        message M { google.protobuf.Any any = 1; repeated google.protobuf.Any many = 2; }";
    descriptor(&proto3(content), "t.M")
}

/// The wire form of a message's JSON, by prost-reflect.
fn wire_of(message: &MessageDescriptor, json: &str) -> Vec<u8> {
    let mut json = serde_json::Deserializer::from_str(json);
    DynamicMessage::deserialize(message.clone(), &mut json).unwrap().encode_to_vec()
}

#[test]
fn an_any_is_the_message_in_it_whichever_form_it_came_in() {
    let message = any_message();
    // prost-reflect does not read an empty one.
    check_json(&message, Payload::Json(br#"{"any":{},"many":[{}]}"#), Ok(r#"{"any":{},"many":[{}]}"#));
    check_json(&message, Payload::Protobuf(&hex("0a00 1200")), Ok(r#"{"any":{},"many":[{}]}"#));
    for json in [
        r#"{"any":{"@type":"x/t.Inner"}}"#,
        r#"{"any":{"@type":"x/t.Inner","a":1,"b":"y\n"}}"#,
        r#"{"any":{"@type":"x/t.M","any":{"@type":"x/t.M"}}}"#,
        r#"{"any":{"@type":"x/google.protobuf.Duration","value":"1s"}}"#,
        r#"{"any":{"@type":"x/google.protobuf.Any","value":{"@type":"x/t.M"}}}"#,
        r#"{"any":{"@type":"x/google.protobuf.Struct","value":{"a":[{"@type":true}]}}}"#,
        r#"{"many":[{"@type":"x/t.Inner","next":{"a":1,"any":{"@type":"x/t.Inner","a":2}}},{"@type":"x/t.M"}]}"#,
    ] {
        let wire = wire_of(&message, json);
        check_json(&message, Payload::Protobuf(&wire), Ok(json));
        check_json(&message, Payload::Json(json.as_bytes()), Ok(json));
        let encoded = run(&message, &settings(Encoding::Protobuf), Payload::Json(json.as_bytes())).unwrap().value;
        assert_eq!(hex_of(&encoded), hex_of(&wire), "{json}");
        let (_, from_json) = avro(&message, NO_POLICIES, Payload::Json(json.as_bytes()));
        assert_eq!(from_json, avro(&message, NO_POLICIES, Payload::Protobuf(&wire)).1, "{json}");
    }
    let empty = r#"{"any":{"@type":"x/google.protobuf.Empty"}}"#;
    let wire = wire_of(&message, r#"{"any":{"@type":"x/google.protobuf.Empty","value":{}}}"#);
    check_json(&message, Payload::Protobuf(&wire), Ok(empty));
    check_json(&message, Payload::Json(empty.as_bytes()), Ok(empty));
    let with_value = br#"{"any":{"value":{},"@type":"x/google.protobuf.Empty"}}"#;
    check_json(&message, Payload::Json(with_value), Ok(empty));
    // The well-known types need no import.
    let alone = "syntax = \"proto3\"; package t; import \"google/protobuf/any.proto\"; message M { google.protobuf.Any any = 1; }";
    let json = r#"{"any":{"@type":"x/google.protobuf.Struct","value":{"a":null}}}"#;
    check_json(&descriptor(alone, "t.M"), Payload::Json(json.as_bytes()), Ok(json));
    let last = r#"{"any":{"a":1,"b":"\u0079","\u0040type":"x\/t.Inner"}}"#;
    check_json(&message, Payload::Json(last.as_bytes()), Ok(r#"{"any":{"@type":"x/t.Inner","a":1,"b":"y"}}"#));
}

#[test]
fn an_any_that_cannot_be_read_is_refused_with_its_place() {
    let message = any_message();
    let refuse = |json: &str, code, text| check_json(&message, Payload::Json(json.as_bytes()), Err((code, text)));
    let unknown = "$.any: the `google.protobuf.Any` holds a message that the schema's files do not declare";
    refuse(r#"{"any":{"@type":"x/t.Nope"}}"#, Code::InvalidPayload, unknown);
    refuse(r#"{"any":{"@type":"t.Inner"}}"#, Code::InvalidPayload, unknown);
    refuse(r#"{"any":{"a":1}}"#, Code::InvalidPayload, "$.any: the `google.protobuf.Any` has no `@type`");
    refuse(r#"{"any":{"@type":1}}"#, Code::InvalidPayload, "$.any: expected a string as `@type`, received a number");
    refuse(r#"{"any":{"@type":"x/t.M","@type":"x/t.M"}}"#, Code::InvalidPayload, "$.any: `@type` stands there twice");
    refuse(r#"{"any":[]}"#, Code::InvalidPayload, "$.any: expected an object, received an array");
    refuse(
        r#"{"any":{"@type":"x/t.Inner","a":"z"}}"#,
        Code::InvalidPayload,
        "$.any.value.a: expected a 32-bit integer",
    );
    refuse(
        r#"{"any":{"@type":"x/google.protobuf.Duration"}}"#,
        Code::InvalidPayload,
        "$.any.value: the `google.protobuf.Any` has no `value`",
    );
    refuse(
        r#"{"any":{"@type":"x/google.protobuf.Duration","value":"1s","a":1}}"#,
        Code::InvalidPayload,
        "$.any.value: this `google.protobuf.Any` has the members `@type` and `value` only",
    );
    for (wire, code, text) in [
        ("0a02 1200", Code::InvalidPayload, ""),
        ("0a03 1201 61", Code::InvalidPayload, "$.any (field 1): the `google.protobuf.Any` holds"),
        ("0a08 0a06 782f742e4e6f", Code::InvalidPayload, "$.any (field 1): the `google.protobuf.Any` holds"),
        ("0a0e 0a09 782f742e496e6e6572 1201 08", Code::MalformedProtobuf, "$.any.value.a (field 1): a varint"),
    ] {
        let expected = if wire == "0a02 1200" { Ok(r#"{"any":{}}"#) } else { Err((code, text)) };
        check_json(&message, Payload::Protobuf(&hex(wire)), expected);
    }
    let strict = run(&message, &settings(Encoding::Json), Payload::Json(br#"{"any":{"@type":"x/t.M","@typo":1}}"#));
    assert_eq!(strict.unwrap_err().code, Code::UnknownField);
    let nested = |n: usize| format!("{}{{}}{}", "{\"any\":".repeat(n), ",\"@type\":\"x/t.M\"}".repeat(n));
    refuse(&nested(90).replacen(",\"@type\":\"x/t.M\"}", "}", 0), Code::TooDeep, "$.any");
}

#[test]
fn a_group_is_a_message_with_another_frame() {
    let proto = r#"syntax = "proto2"; package t; message M {
        optional group G = 1 { optional int32 a = 2; repeated string b = 3; optional group H = 4 { optional M m = 5; } }
        repeated group R = 6 { required int32 c = 7; }
        oneof one { group O = 8 { optional int32 d = 9; } int32 e = 10; }
        optional int32 after = 11;
    }"#;
    let message = descriptor(proto, "t.M");
    for (wire, json, canonical) in [
        ("0b 1001 0c", r#"{"g":{"a":1}}"#, "0b 1001 0c"),
        ("0b 0c", r#"{"g":{}}"#, "0b 0c"),
        // Merged, with a field between.
        (
            "0b 1001 1a0178 0c 5801 0b 1002 1a0179 0c",
            r#"{"g":{"a":2,"b":["x","y"]},"after":1}"#,
            "0b 1002 1a0178 1a0179 0c 5801",
        ),
        ("0b 23 2a02 5801 24 0c", r#"{"g":{"h":{"m":{"after":1}}}}"#, "0b 23 2a02 5801 24 0c"),
        ("33 3801 34 33 3802 34", r#"{"r":[{"c":1},{"c":2}]}"#, "33 3801 34 33 3802 34"),
        ("43 4801 44 5002", r#"{"e":2}"#, "5002"),
        ("5002 43 4801 44", r#"{"o":{"d":1}}"#, "43 4801 44"),
        // Behind a length it is an unknown field, as is an unknown group inside.
        ("0a02 1001 5801", r#"{"after":1}"#, "5801"),
        ("0b f301 f401 1001 0c", r#"{"g":{"a":1}}"#, "0b 1001 0c"),
    ] {
        let dropping = |encoding| PlanSettings { unknown_fields: UnknownFields::Drop, ..settings(encoding) };
        let wire = hex(wire);
        check_json(&message, Payload::Protobuf(&wire), Ok(json));
        let found = run(&message, &dropping(Encoding::Protobuf), Payload::Protobuf(&wire)).unwrap().value;
        assert_eq!(hex_of(&found), canonical.replace(' ', ""), "{json}");
        let found = run(&message, &dropping(Encoding::Protobuf), Payload::Json(json.as_bytes())).unwrap().value;
        assert_eq!(hex_of(&found), canonical.replace(' ', ""), "{json}");
        let (_, from_wire) = avro(&message, NO_POLICIES, Payload::Protobuf(&wire));
        assert_eq!(from_wire, avro(&message, NO_POLICIES, Payload::Json(json.as_bytes())).1, "{json}");
        assert!(from_wire.is_ok());
    }
    for (wire, text) in [
        ("0b", "$.g (field 1): a group has no end"),
        ("0b 1001", "$.g (field 1): a group has no end"),
        ("0b 34", "$.g (field 1): a group ends that did not begin"),
        ("0c", "$: a group ends that did not begin"),
        ("0b 1001 0b 0c", "$.g (field 1): a group has no end"),
        ("0b 10", "$.g.a (field 2): a varint is cut off"),
        ("0b 23 2a05 5801 24 0c", "$.g.h.m (field 5): the value ends after"),
    ] {
        check_json(&message, Payload::Protobuf(&hex(wire)), Err((Code::MalformedProtobuf, text)));
    }
    check_json(&message, Payload::Protobuf(&hex("33 34")), Err((Code::MissingField, "$.r[0].c (field 7)")));
    check_json(&message, Payload::Json(br#"{"r":[{}]}"#), Err((Code::MissingField, "$.r[0].c")));
    let text = avro_schema(&message, &Mapping::default()).unwrap();
    let g = r#"{"name":"g","type":["null",{"type":"record","name":"G","namespace":"t.M","fields":["#;
    assert!(fields_of(&text).starts_with(g), "{text}");
}

#[test]
fn groups_nest_to_the_limit_and_no_deeper() {
    let proto = r#"syntax = "proto2"; package t; message M { optional group G = 1 { optional M m = 2; } }"#;
    let message = descriptor(proto, "t.M");
    // A group and a message a time.
    let nested = |n: usize| {
        (0..n).fold(Vec::new(), |inner, _| {
            let mut outer = vec![0x0b];
            prost::encoding::bytes::encode(2, &inner, &mut outer);
            outer.push(0x0c);
            outer
        })
    };
    assert!(run(&message, &settings(Encoding::Avro), Payload::Protobuf(&nested(50))).is_ok());
    for n in [51, 10_000] {
        let refused = run(&message, &settings(Encoding::Avro), Payload::Protobuf(&nested(n))).unwrap_err();
        assert_eq!(refused.code, Code::TooDeep, "{n}");
    }
    let directly = r#"syntax = "proto2"; package t; message M { optional group G = 1 { optional int32 a = 2; } }"#;
    let message = descriptor(directly, "t.M");
    let unknown = "0b".repeat(100_000);
    check_json(&message, Payload::Protobuf(&hex(&unknown)), Err((Code::TooDeep, "$.g (field 1)")));
}

#[test]
fn a_map_may_have_keys_of_every_type() {
    let kinds = [
        ("int32", "int", "10 ffffffffffffffffff01", "01"),
        ("int64", "long", "10 ffffffffffffffffff01", "01"),
        ("uint32", "long", "10 ffffffff0f", "feffffff1f"),
        ("uint64", "long", "10 01", "02"),
        ("sint32", "int", "10 01", "01"),
        ("sint64", "long", "10 01", "01"),
        ("fixed32", "long", "15 ffffffff", "feffffff1f"),
        ("fixed64", "long", "11 0100000000000000", "02"),
        ("sfixed32", "int", "15 ffffffff", "01"),
        ("sfixed64", "long", "11 ffffffffffffffff", "01"),
        ("bool", "boolean", "10 01", "01"),
    ];
    for (kind, avro_type, value, datum) in kinds {
        let message = descriptor(&proto3(&format!("message M {{ map<{kind}, {kind}> m = 1; }}")), "t.M");
        let value = hex(value);
        // The key has field number 1, the value 2; their tags differ by 8.
        let mut entry = value.clone();
        entry[0] -= 8;
        entry.extend_from_slice(&value);
        let mut wire = Vec::new();
        prost::encoding::bytes::encode(1, &entry, &mut wire);
        let (text, found) = avro(&message, NO_POLICIES, Payload::Protobuf(&wire));
        assert_eq!(found.unwrap(), format!("02{datum}{datum}00"), "{kind}");
        let default = if kind == "bool" { "false" } else { "0" };
        let expected = format!(
            concat!(
                r#"{{"name":"m","type":{{"type":"array","items":{{"type":"record","name":"MEntry","namespace":"t.M","#,
                r#""fields":[{{"name":"key","type":"{0}","default":{1},"proto.number":1}},"#,
                r#"{{"name":"value","type":"{0}","default":{1},"proto.number":2}}]}},"logicalType":"map"}},"#,
                r#""default":[],"proto.number":1}}"#
            ),
            avro_type, default
        );
        assert_eq!(fields_of(&text), expected);
        let json = run(&message, &settings(Encoding::Json), Payload::Protobuf(&wire)).unwrap().value;
        assert_eq!(avro(&message, NO_POLICIES, Payload::Json(&json)).1, Ok(format!("02{datum}{datum}00")), "{kind}");
    }
}

#[test]
fn a_map_entry_without_a_value_has_the_first_symbol_of_a_closed_enum() {
    let proto = r#"syntax = "proto2"; package t; enum E { ONE = 1; TWO = 2; } message M { map<string, E> m = 1; }"#;
    let message = descriptor(proto, "t.M");
    let wire = hex("0a03 0a0161");
    check_json(&message, Payload::Protobuf(&wire), Ok(r#"{"m":{"a":"ONE"}}"#));
    let rejects = Presence { unknown_enum: UnknownEnumPolicy::Reject, ..NO_POLICIES };
    assert_eq!(avro(&message, rejects, Payload::Protobuf(&wire)).1.as_deref(), Ok("0202610000"));
    let canonical = run(&message, &settings(Encoding::Protobuf), Payload::Protobuf(&wire)).unwrap().value;
    assert_eq!(hex_of(&canonical), "0a050a01611001");
}

#[test]
fn extensions_and_message_sets_are_unknown_fields() {
    let proto = r#"syntax = "proto2"; package t;
        message Set { option message_set_wire_format = true; extensions 4 to max; }
        message M { optional int32 a = 1; optional Set set = 2; extensions 100 to 199; }
        extend M { optional string e = 100; }"#;
    let message = descriptor(proto, "t.M");
    let wire = hex("0801 a206 0178 1206 0b 1004 1a00 0c");
    check_json(&message, Payload::Protobuf(&wire), Ok(r#"{"a":1,"set":{}}"#));
    assert_eq!(avro(&message, NO_POLICIES, Payload::Protobuf(&wire)).1.as_deref(), Ok("020202"));
    let strict = run(&message, &settings(Encoding::Avro), Payload::Protobuf(&wire)).unwrap_err();
    assert_eq!(strict.code, Code::UnknownField);
}
