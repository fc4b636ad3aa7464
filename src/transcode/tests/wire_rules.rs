//! The rules of the wire format and of the `presence` mapping, a case a line.

use super::*;
use crate::outcome::Code;
use crate::route::{Presence, TimestampPolicy, Uint64Policy, UnknownEnumPolicy};

const PROTO2: &str = r#"
    syntax = "proto2";
    package t;
    enum Closed { ONE = 1; TWO = 2; }
    message Inner { required int32 must = 1; optional int32 may = 2; }
    message M {
      optional int32 i = 1;
      optional Closed closed = 2;
      repeated Closed many = 3;
      repeated Closed packed = 4 [packed = true];
      optional Inner inner = 5;
      repeated int32 unpacked = 6;
      map<string, Closed> by_name = 7;
      optional string s = 8;
      map<string, Inner> inners = 9;
    }
    message Required { required int32 must = 1; }
"#;

fn proto3_message() -> MessageDescriptor {
    let content = r#"
        enum Color { option allow_alias = true; RED = 0; GREEN = 5; LIME = 5; BLUE = -1; }
        message Inner { int32 a = 1; string b = 2; Inner next = 3; repeated int32 many = 4; }
        message M {
          int32 i32 = 1; int64 i64 = 2; uint32 u32 = 3; uint64 u64 = 4; sint32 s32 = 5; sint64 s64 = 6;
          bool yes = 7; string text = 8; bytes blob = 9; Color color = 10;
          fixed32 f32 = 11; fixed64 f64 = 12; sfixed32 sf32 = 13; sfixed64 sf64 = 14; float flt = 15; double dbl = 16;
          Inner inner = 17; repeated int32 ints = 18; repeated string texts = 19; repeated Inner inners = 20;
          map<string, int32> by_name = 21; map<int32, Inner> by_number = 22;
          oneof choice { int32 num = 23; Inner msg = 24; string word = 25; Inner other = 26; }
          optional int32 maybe = 27; google.protobuf.Timestamp at = 28; repeated double dbls = 29;
          repeated Color colors = 30;
          int32 far = 536870911;
        }
    "#;
    descriptor(&proto3(content), "t.M")
}

/// The payload as JSON of what was understood, or the error's code and the path in its message.
fn read(message: &MessageDescriptor, payload: &str) -> Result<String, (Code, String)> {
    read_with(message, &settings(Encoding::Json), payload)
}

fn read_with(
    message: &MessageDescriptor,
    settings: &PlanSettings<'_>,
    payload: &str,
) -> Result<String, (Code, String)> {
    match run(message, settings, Payload::Protobuf(&hex(payload))) {
        Ok(output) => Ok(String::from_utf8(output.value).unwrap()),
        Err(e) => Err((e.code, e.message.split(':').next().unwrap_or_default().to_owned())),
    }
}

fn dropping() -> PlanSettings<'static> {
    PlanSettings { unknown_fields: UnknownFields::Drop, ..settings(Encoding::Json) }
}

#[test]
fn bytes_that_are_no_message_are_refused_with_the_field() {
    let message = proto3_message();
    for (payload, code, path) in [
        ("08", Code::MalformedProtobuf, "$.i32 (field 1)"),
        ("0880", Code::MalformedProtobuf, "$.i32 (field 1)"),
        ("08 ffffffffffffffffffff 01", Code::MalformedProtobuf, "$.i32 (field 1)"),
        ("42 05 61", Code::MalformedProtobuf, "$.text (field 8)"),
        ("42 ffffffffffffffffff01", Code::MalformedProtobuf, "$.text (field 8)"),
        ("5d 000000", Code::MalformedProtobuf, "$.f32 (field 11)"),
        ("61 00000000000000", Code::MalformedProtobuf, "$.f64 (field 12)"),
        ("42 01 ff", Code::InvalidUtf8, "$.text (field 8)"),
        ("8a01 03 12 01 ff", Code::InvalidUtf8, "$.inner.b (field 2)"),
        ("a201 00 a201 03 12 01 ff", Code::InvalidUtf8, "$.inners[1].b (field 2)"),
        ("aa01 03 0a 01 ff", Code::InvalidUtf8, "$.by_name[0] (field 21)"),
        ("9201 02 0180", Code::MalformedProtobuf, "$.ints (field 18)"),
        ("9201 0b ffffffffffffffffffff01", Code::MalformedProtobuf, "$.ints (field 18)"),
        ("ea01 07 00000000000000", Code::MalformedProtobuf, "$.dbls (field 29)"),
        ("8a01 02 0a 05", Code::MalformedProtobuf, "$.inner (field 17)"),
        ("00", Code::MalformedProtobuf, "$"),
        ("0200", Code::MalformedProtobuf, "$"),
        ("0f", Code::MalformedProtobuf, "$"),
        ("0e", Code::MalformedProtobuf, "$"),
        ("80", Code::MalformedProtobuf, "$"),
        ("ffffffffff01 00", Code::MalformedProtobuf, "$"),
    ] {
        let refused = read(&message, payload);
        assert_eq!(refused, Err((code, path.to_owned())), "{payload}");
    }
}

#[test]
fn unknown_fields_are_skipped_but_must_be_well_formed() {
    let message = proto3_message();
    // Field 100 in each wire type, and a group with a nested one in it.
    for unknown in ["a006 01", "a106 0000000000000000", "a206 02 ffff", "a506 00000000", "a306 0801 a306 a406 a406"] {
        assert_eq!(read_with(&message, &dropping(), &format!("{unknown} 0801")), Ok("{\"i32\":1}".into()), "{unknown}");
        assert_eq!(read(&message, unknown), Err((Code::UnknownField, "$".into())), "{unknown}");
    }
    for broken in ["a006", "a106 00", "a206 03 ffff", "a506 00", "a306", "a306 ac06", "a406", "a306 0e a406", "a706"] {
        let refused = read_with(&message, &dropping(), broken);
        assert_eq!(refused, Err((Code::MalformedProtobuf, "$".into())), "{broken}");
    }
}

#[test]
fn dropped_fields_are_counted_and_the_first_is_named() {
    let message = proto3_message();
    let output = run(&message, &dropping(), Payload::Protobuf(&hex("8a01 03 a006 01 a006 01 0a 01 00"))).unwrap();
    assert_eq!(output.fields_dropped, 3);
    assert_eq!(output.first_dropped, "$: `t.M` has no field 100");
    let output = run(&message, &dropping(), Payload::Protobuf(&hex("8a01 03 a00601"))).unwrap();
    assert_eq!(output.first_dropped, "$.inner (field 17): `t.Inner` has no field 100");
}

#[test]
fn unknown_groups_nest_to_the_limit_and_no_deeper() {
    let message = proto3_message();
    let nested = |n: usize| format!("{}{}", "a306".repeat(n), "a406".repeat(n));
    assert_eq!(read_with(&message, &dropping(), &nested(100)), Ok("{}".into()));
    assert_eq!(read_with(&message, &dropping(), &nested(101)), Err((Code::TooDeep, "$".into())));
}

#[test]
fn messages_nest_to_the_limit_and_no_deeper() {
    let message = proto3_message();
    let nested = |n: usize| {
        let mut payload = Vec::new();
        for level in (0..n).rev() {
            let mut outer = Vec::new();
            prost::encoding::bytes::encode(if level == 0 { 17 } else { 3 }, &payload, &mut outer);
            payload = outer;
        }
        payload
    };
    for encoding in [Encoding::Avro, Encoding::Protobuf, Encoding::Json] {
        run(&message, &settings(encoding), Payload::Protobuf(&nested(100))).unwrap();
        let refused = run(&message, &settings(encoding), Payload::Protobuf(&nested(101))).unwrap_err();
        assert_eq!(refused.code, Code::TooDeep, "{encoding:?}");
        let refused = run(&message, &settings(encoding), Payload::Protobuf(&nested(20_000))).unwrap_err();
        assert_eq!(refused.code, Code::TooDeep, "{encoding:?}");
    }
}

#[test]
fn values_are_read_by_the_rules_of_the_wire() {
    let message = proto3_message();
    for (payload, json) in [
        ("", "{}"),
        // The last wins; overlong varints; truncation to 32 bits, but not of a bool.
        ("0801 0802", r#"{"i32":2}"#),
        ("08 ffffffffffffffffff7f", r#"{"i32":-1}"#),
        ("08 ffffffff7f", r#"{"i32":-1}"#),
        ("08 8080808010", "{}"),
        ("38 8080808010", r#"{"yes":true}"#),
        ("08 81808080808080808000", r#"{"i32":1}"#),
        ("18 ffffffff0f", r#"{"u32":4294967295}"#),
        ("20 ffffffffffffffffff01", r#"{"u64":"18446744073709551615"}"#),
        ("28 01 30 01", r#"{"s32":-1,"s64":"-1"}"#),
        ("5d ffffffff 6d ffffffff", r#"{"f32":4294967295,"sf32":-1}"#),
        ("7d 00000080", r#"{"flt":-0.0}"#),
        ("7d 0000c07f", r#"{"flt":"NaN"}"#),
        ("f8ffffff0f 07", r#"{"far":7}"#),
        // Merging, last wins, packed and unpacked mixed.
        ("8a01 02 0801 8a01 03 12 01 78 8a01 02 2005", r#"{"inner":{"a":1,"b":"x","many":[5]}}"#),
        ("8a01 02 2001 8a01 02 2002", r#"{"inner":{"many":[1,2]}}"#),
        ("9201 02 0102 9001 03 9201 00 9201 01 04", r#"{"ints":[1,2,3,4]}"#),
        ("a201 00 a201 02 0801", r#"{"inners":[{},{"a":1}]}"#),
        // Oneof.
        ("b801 01 ca01 01 78", r#"{"word":"x"}"#),
        ("c201 02 0801 b801 00", r#"{"num":0}"#),
        ("c201 02 0801 c201 03 12 01 78", r#"{"msg":{"a":1,"b":"x"}}"#),
        ("c201 02 0801 b801 05 c201 03 12 01 78", r#"{"msg":{"b":"x"}}"#),
        ("c201 02 0801 d201 00 c201 00", r#"{"msg":{}}"#),
        ("d801 00", r#"{"maybe":0}"#),
        // Maps: duplicate keys, missing key, missing value, value first.
        ("aa01 05 0a 01 61 1001 aa01 05 0a 01 62 1002 aa01 05 0a 01 61 1003", r#"{"byName":{"a":3,"b":2}}"#),
        ("aa01 00", r#"{"byName":{"":0}}"#),
        ("aa01 05 1007 0a 01 61", r#"{"byName":{"a":7}}"#),
        ("b201 02 0805", r#"{"byNumber":{"5":{}}}"#),
        ("b201 06 0805 12 02 0801", r#"{"byNumber":{"5":{"a":1}}}"#),
        // Enums: alias, unknown number, negative.
        ("50 05", r#"{"color":"GREEN"}"#),
        ("50 63", r#"{"color":99}"#),
        ("50 ffffffffffffffffff01", r#"{"color":"BLUE"}"#),
        ("e201 02 0801", r#"{"at":"1970-01-01T00:00:01Z"}"#),
    ] {
        assert_eq!(read(&message, payload), Ok(json.to_owned()), "{payload}");
    }
    assert_eq!(read_with(&message, &dropping(), "0a 01 31 0802"), Ok(r#"{"i32":2}"#.into()));
    assert_eq!(read(&message, "0a 01 31"), Err((Code::UnknownField, "$".into())));
}

#[test]
fn a_oneof_member_that_a_later_one_replaces_must_be_well_formed_still() {
    let message = proto3_message();
    let broken = "c201 03 12 01 ff b801 01";
    assert_eq!(read(&message, broken), Err((Code::InvalidUtf8, "$.msg.b (field 2)".into())));
    let broken = "b201 07 0805 12 03 12 01 ff b201 02 0805";
    assert_eq!(read(&message, broken), Err((Code::InvalidUtf8, "$.by_number.b (field 2)".into())));
}

#[test]
fn a_long_map_keeps_the_first_place_and_the_last_value_of_each_key() {
    let message = proto3_message();
    let mut payload = Vec::new();
    for (i, key) in (0..200).map(|i| (i, i * 7 % 40)) {
        let mut entry = Vec::new();
        prost::encoding::string::encode(1, &format!("k{key}"), &mut entry);
        prost::encoding::int32::encode(2, &i, &mut entry);
        prost::encoding::bytes::encode(21, &entry, &mut payload);
    }
    let output = run(&message, &settings(Encoding::Json), Payload::Protobuf(&payload)).unwrap();
    let expected: Vec<_> = (0..40).map(|i| format!("\"k{}\":{}", i * 7 % 40, i + 160)).collect();
    assert_eq!(String::from_utf8(output.value).unwrap(), format!("{{\"byName\":{{{}}}}}", expected.join(",")));
}

#[test]
fn proto2_keeps_presence_closed_enums_and_required_fields() {
    let message = descriptor(PROTO2, "t.M");
    for (payload, json) in [
        ("0800", r#"{"i":0}"#),
        ("1002", r#"{"closed":"TWO"}"#),
        ("3001 3203020304", r#"{"unpacked":[1,2,3,4]}"#),
        ("2a 02 1001 2a 02 0801", r#"{"inner":{"must":1,"may":1}}"#),
    ] {
        assert_eq!(read(&message, payload), Ok(json.to_owned()), "{payload}");
    }
    for (payload, json) in [
        ("1003", "{}"),
        ("1801 1803 1802", r#"{"many":["ONE","TWO"]}"#),
        ("2203 010302", r#"{"packed":["ONE","TWO"]}"#),
        ("3a 05 0a 01 61 1003 3a 05 0a 01 62 1001", r#"{"byName":{"b":"ONE"}}"#),
        ("3a 07 0a 01 61 1003 1001 3a 07 0a 01 62 1001 1003", r#"{"byName":{"a":"ONE"}}"#),
    ] {
        assert_eq!(read_with(&message, &dropping(), payload), Ok(json.to_owned()), "{payload}");
        assert_eq!(read(&message, payload).unwrap_err().0, Code::UnknownEnumValue, "{payload}");
    }
    assert_eq!(read(&message, "2a 00"), Err((Code::MissingField, "$.inner.must (field 1)".into())));
    assert_eq!(read(&message, "4a 02 0a 00"), Err((Code::MissingField, "$.inners[0].must (field 1)".into())));
    assert_eq!(read(&message, "42 01 ff"), Err((Code::InvalidUtf8, "$.s (field 8)".into())));
    let required = descriptor(PROTO2, "t.Required");
    assert_eq!(read(&required, ""), Err((Code::MissingField, "$.must (field 1)".into())));
}

#[test]
fn the_mapping_s_policies_decide_what_avro_cannot_hold() {
    let message = proto3_message();
    let avro = |policies, payload: &str| {
        let settings = PlanSettings { mapping: Mapping::Presence(policies), ..settings(Encoding::Avro) };
        run(&message, &settings, Payload::Protobuf(&hex(payload)))
    };
    let default = Presence::default();
    let code = |policies, payload| avro(policies, payload).map(|_| ()).map_err(|e| e.code);
    let too_large = "20 ffffffffffffffffff01";
    assert_eq!(code(default, too_large), Err(Code::OutOfRange));
    assert_eq!(code(Presence { uint64: Uint64Policy::Wrap, ..default }, too_large), Ok(()));
    let unknown_color = "5063 f201 0163";
    assert_eq!(avro(default, unknown_color).unwrap().enums_defaulted, 2);
    let rejects = Presence { unknown_enum: UnknownEnumPolicy::Reject, ..default };
    assert_eq!(code(rejects, unknown_color), Err(Code::UnknownEnumValue));
    let error = avro(rejects, "f201 020063").unwrap_err();
    assert!(error.message.starts_with("$.colors[1] (field 30): "), "{}", error.message);
    let late = "e201 0a 08 ffffffffffffffff7f";
    assert_eq!(code(default, late), Err(Code::OutOfRange));
    assert_eq!(code(Presence { invalid_timestamp: TimestampPolicy::Clamp, ..default }, late), Ok(()));
}

#[test]
fn canonical_protobuf_is_the_same_whatever_the_order_was() {
    let message = proto3_message();
    for (payload, canonical) in [
        ("42 01 61 0801", "0801 42 01 61"),
        ("0800 4200 3800", ""),
        ("7d 00000080", "7d 00000080"),
        ("9001 01 9001 02", "9201 02 0102"),
        ("aa01 00", "aa01 04 0a00 1000"),
        ("b201 02 0805", "b201 04 0805 1200"),
        ("d801 00", "d801 00"),
        ("8a01 02 0801 8a01 02 0802", "8a01 02 0802"),
        ("8a01 808000", "8a01 00"),
    ] {
        let output = run(&message, &settings(Encoding::Protobuf), Payload::Protobuf(&hex(payload))).unwrap();
        assert_eq!(output.value, hex(canonical), "{payload}");
    }
}

#[test]
fn a_key_is_read_from_the_payload() {
    let message = proto3_message();
    let key = |path: &str, payload: &str| {
        let settings = PlanSettings { key: Some(path), ..settings(Encoding::Avro) };
        let output = run(&message, &settings, Payload::Protobuf(&hex(payload))).unwrap();
        output.has_key.then(|| String::from_utf8(output.key).unwrap())
    };
    for (path, payload, expected) in [
        ("text", "42 03 61620a", Some("ab\n")),
        ("text", "", Some("")),
        ("i64", "10 ffffffffffffffffff01", Some("-1")),
        ("u64", "20 ffffffff0f", Some("4294967295")),
        ("yes", "3801", Some("true")),
        ("blob", "4a 02 fbff", Some("+/8=")),
        ("color", "5005", Some("GREEN")),
        ("color", "5009", Some("9")),
        ("dbl", "81010000000000000840", Some("3.0")),
        ("flt", "7d 0000807f", Some("Infinity")),
        ("maybe", "", None),
        ("maybe", "d80100", Some("0")),
        ("inner.b", "", None),
        ("inner.b", "8a0100", Some("")),
        ("inner.b", "8a01 03 120178", Some("x")),
        ("inner.next.a", "8a01 04 1a 02 0807", Some("7")),
        ("inner.next.a", "8a01 00", None),
        ("msg.a", "c201 02 0801", Some("1")),
        ("msg.a", "c201 02 0801 b80101", None),
    ] {
        assert_eq!(key(path, payload).as_deref(), expected, "{path} of {payload}");
    }
    // The message that the key was read from is still written whole.
    let payload = hex("8a01 07 0801 1a 03 12 01 78");
    let keyed = PlanSettings { key: Some("inner.next.b"), ..settings(Encoding::Avro) };
    let (with, without) = (
        run(&message, &keyed, Payload::Protobuf(&payload)).unwrap(),
        run(&message, &settings(Encoding::Avro), Payload::Protobuf(&payload)).unwrap(),
    );
    assert_eq!(with.value, without.value);
}

#[test]
fn a_key_that_is_not_one_field_is_refused_when_compiled() {
    let message = proto3_message();
    for (path, expected) in [
        ("nope", "key `nope`: `t.M` has no field `nope`; it has `i32`, `i64`"),
        ("inner.nope", "key `inner.nope`: `t.Inner` has no field `nope`; it has `a`, `b`, `next`, `many`"),
        ("inner", "key `inner`: field `inner` of `t.M` is a message; name a field in it: `a`, `b`"),
        ("ints", "key `ints`: field `ints` of `t.M` has many values, a key has one"),
        ("by_name", "key `by_name`: field `by_name` of `t.M` has many values"),
        ("text.x", "key `text.x`: field `text` of `t.M` has no field `x` in it"),
        ("", "key ``: `t.M` has no field ``"),
    ] {
        let settings = PlanSettings { key: Some(path), ..settings(Encoding::Avro) };
        let error = Plan::compile(&message, &settings).unwrap_err();
        assert!(error.message.starts_with(expected), "{}", error.message);
    }
}

#[test]
fn an_empty_payload_is_an_event() {
    let message = descriptor(&proto3("message Nothing {}"), "t.Nothing");
    for encoding in [Encoding::Avro, Encoding::Protobuf] {
        assert_eq!(run(&message, &settings(encoding), Payload::Protobuf(b"")).unwrap().value, b"");
    }
}
