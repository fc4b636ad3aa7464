//! Thirty-one cases that break naive converters, a test each. What needs more than a line is tested where it belongs and
//! named here.

use super::*;
use crate::outcome::Code;
use crate::route::{JavaAvro, JavaUnknownEnum};

const MESSAGES: &str = r#"
    enum Color { option allow_alias = true; RED = 0; CRIMSON = 0; BLUE = 7; NEG = -5; GREEN = 2; }
    message Inner { int32 a = 1; string b = 2; repeated int32 many = 3; Inner next = 4; }
    message M {
      int32 i = 1; uint32 u32 = 2; uint64 u64 = 3; bool yes = 4; string text = 5; double dbl = 6; float flt = 7;
      repeated int32 packed = 8; repeated int32 unpacked = 9 [packed = false]; repeated fixed32 fixed = 10;
      Inner inner = 11; oneof one { int32 num = 12; Inner msg = 13; string word = 14; }
      map<string, Inner> map = 15; Color color = 16; optional int32 maybe = 17; google.protobuf.Timestamp at = 18;
      repeated Inner inners = 19; google.protobuf.Any any = 20; int32 far = 536870911; map<string, int32> counts = 21;
    }
"#;

fn message() -> MessageDescriptor {
    descriptor(&proto3(MESSAGES), "t.M")
}

/// What a payload says to us, as JSON; fields that are unknown are dropped.
#[track_caller]
fn check(wire: &str, expected: Result<&str, Code>) {
    check_of(&message(), wire, expected);
}

#[track_caller]
fn check_of(message: &MessageDescriptor, wire: &str, expected: Result<&str, Code>) {
    let settings = PlanSettings { unknown_fields: UnknownFields::Drop, ..settings(Encoding::Json) };
    let found = run(message, &settings, Payload::Protobuf(&hex(wire)));
    let found = found.map(|output| String::from_utf8(output.value).unwrap()).map_err(|e| e.code);
    assert_eq!(found.as_deref().map_err(|code| *code), expected, "{wire}");
}

/// The datum of a one-field message `M` by both mappings.
#[track_caller]
fn check_avro(content: &str, wire: &str, presence: Result<&str, Code>, java: Result<&str, Code>) {
    let message = descriptor(&proto3(&format!("option java_multiple_files = true; {content}")), "t.M");
    for (mapping, expected) in [(Mapping::default(), presence), (Mapping::JavaAvro(JavaAvro::default()), java)] {
        let settings = PlanSettings { mapping, unknown_fields: UnknownFields::Drop, ..settings(Encoding::Avro) };
        let found = run(&message, &settings, Payload::Protobuf(&hex(wire)));
        let found = found.map(|output| hex_of(&output.value)).map_err(|e| e.code);
        assert_eq!(found, expected.map(|datum| datum.replace(' ', "")), "{wire} {mapping:?}");
    }
}

const MALFORMED: Result<&str, Code> = Err(Code::MalformedProtobuf);

#[test]
fn row_01_unknown_fields_are_skipped_but_their_framing_is_checked() {
    check("a206 04 ffffffff 0801", Ok(r#"{"i":1}"#));
    check("a206 05 ffffffff", MALFORMED);
}

#[test]
fn row_02_packed_and_unpacked_mix() {
    check("4202 0102 4003 4201 04", Ok(r#"{"packed":[1,2,3,4]}"#));
    check("4801 4a02 0203", Ok(r#"{"unpacked":[1,2,3]}"#));
}

#[test]
fn row_03_packed_runs_end_with_a_value() {
    check("5203 000000", MALFORMED);
    check("4202 0180", MALFORMED);
}

#[test]
fn row_04_a_known_field_with_another_wire_type_is_unknown() {
    check("0a02 0801 2801", Ok("{}"));
}

#[test]
fn row_05_the_last_scalar_wins() {
    check("0801 2a0161 0802 2a0162", Ok(r#"{"i":2,"text":"b"}"#));
}

#[test]
fn row_06_a_singular_message_sent_twice_is_merged() {
    check("5a04 0801 1801 5a05 120178 1802", Ok(r#"{"inner":{"a":1,"b":"x","many":[1,2]}}"#));
}

#[test]
fn row_07_a_later_member_of_a_oneof_clears_the_earlier() {
    check("6a02 0801 6005", Ok(r#"{"num":5}"#));
    check("6a02 0801 6a03 120178", Ok(r#"{"msg":{"a":1,"b":"x"}}"#));
    check("6a02 0801 6005 6a03 120178", Ok(r#"{"msg":{"b":"x"}}"#));
}

#[test]
fn row_08_map_entries_may_be_incomplete_and_repeated() {
    check("aa0105 0a0161 1001 aa0105 0a0162 1002 aa0105 0a0161 1003", Ok(r#"{"counts":{"a":3,"b":2}}"#));
    check("aa0100", Ok(r#"{"counts":{"":0}}"#));
    check("aa0107 1007 0a0161 1805", Ok(r#"{"counts":{"a":7}}"#));
    // A message that is missing is an empty record, in Java within its union.
    check_avro(
        "message N { int32 a = 1; } message M { map<string, N> m = 1; }",
        "0a03 0a0161",
        Ok("02 0261 00 00"),
        Ok("02 0261 02 00 00"),
    );
}

#[test]
fn row_09_what_is_required_must_be_there_however_deep() {
    let proto = "syntax = \"proto2\"; package t; message R { required int32 a = 1; optional int32 b = 2; }
        message M { optional R r = 1; repeated R rs = 2; }";
    let message = descriptor(proto, "t.M");
    check_of(&message, "0a00", Err(Code::MissingField));
    check_of(&message, "1202 0801 1202 1001", Err(Code::MissingField));
    check_of(&message, "0a02 1001 0a02 0801", Ok(r#"{"r":{"a":1,"b":1}}"#));
    check_of(&descriptor(proto, "t.R"), "", Err(Code::MissingField));
}

/// Known groups: `presence::a_group_is_a_message_with_another_frame`.
#[test]
fn row_10_unknown_groups_balance() {
    check("a306 0801 ab06 ac06 a406 0802", Ok(r#"{"i":2}"#));
    check("a306 ab06 a406 ac06", MALFORMED);
    check("a306", MALFORMED);
    check("a406", MALFORMED);
    let known = "syntax = \"proto2\"; package t; option java_multiple_files = true;
        message M { optional group G = 1 { optional int32 a = 2; } }";
    let java = PlanSettings { mapping: Mapping::JavaAvro(JavaAvro::default()), ..settings(Encoding::Avro) };
    let error = Plan::compile(&descriptor(known, "t.M"), &java).unwrap_err();
    assert!(error.message.starts_with("`t.M.g` is a group"), "{}", error.message);
}

#[test]
fn row_11_tags_that_cannot_be_are_refused() {
    for tag in ["00", "01", "02", "06", "07", "0e", "0f", "8080808010", "ffffffffff01", "80808080808080808000"] {
        check(&format!("{tag} 00"), MALFORMED);
    }
    check("f8ffffff0f 07", Ok(r#"{"far":7}"#));
}

#[test]
fn row_12_varints_have_at_most_ten_bytes_and_are_cut_to_the_field_s_width() {
    check("08 ffffffffffffffffff7f", Ok(r#"{"i":-1}"#));
    check("08 81808080808080808000", Ok(r#"{"i":1}"#));
    check("08 ffffffffffffffffffff00", MALFORMED);
    check("08 8080808010", Ok("{}"));
    check("2080808080 10", Ok(r#"{"yes":true}"#));
    check("8001 878080808001", Ok(r#"{"color":"BLUE"}"#));
}

#[test]
fn row_13_unsigned_numbers_that_avro_has_no_type_for() {
    check_avro("message M { uint32 u = 1; }", "08 ffffffff0f", Ok("feffffff1f"), Ok("01"));
    check_avro("message M { uint64 u = 1; }", "08 ffffffffffffffffff01", Err(Code::OutOfRange), Ok("01"));
}

#[test]
fn row_14_the_bits_of_floats_are_kept() {
    let content = "message M { double d = 1; float f = 2; }";
    for (wire, datum) in [
        // A signalling NaN with a payload, -0, infinity, the smallest denormal.
        ("09 010000000000f47f 15 0100a0ff", "010000000000f47f 0100a0ff"),
        ("09 0000000000000080 15 00000080", "0000000000000080 00000080"),
        ("09 000000000000f07f 15 000080ff", "000000000000f07f 000080ff"),
        ("09 0100000000000000 15 01000000", "0100000000000000 01000000"),
    ] {
        check_avro(content, wire, Ok(datum), Ok(datum));
    }
    check("31 000000000000f87f 3d 000080ff", Ok(r#"{"dbl":"NaN","flt":"-Infinity"}"#));
}

#[test]
fn row_15_strings_are_utf_8() {
    check("2a01 ff", Err(Code::InvalidUtf8));
    check("2a02 c080", Err(Code::InvalidUtf8));
    check("2a03 eda080", Err(Code::InvalidUtf8));
    check("aa0103 0a01ff", Err(Code::InvalidUtf8));
    let proto2 = "syntax = \"proto2\"; package t; message M { optional string s = 1; }";
    check_of(&descriptor(proto2, "t.M"), "0a01 ff", Err(Code::InvalidUtf8));
}

#[test]
fn row_16_enums_are_written_by_declaration() {
    let content = "enum E { option allow_alias = true; RED = 0; CRIMSON = 0; BLUE = 7; NEG = -5; MAX = 2147483647; }
        message M { E e = 1; }";
    check_avro(content, "0807", Ok("04"), Ok("04"));
    check_avro(content, "0800", Ok("00"), Ok("00"));
    check_avro(content, "08 fbffffffffffffffff01", Ok("06"), Ok("06"));
    check_avro(content, "08 ffffffff07", Ok("08"), Ok("08"));
    check_avro(content, "0801", Ok("00"), Err(Code::UnknownEnumValue));
    let message = descriptor(&proto3(content), "t.M");
    let mapping = Mapping::JavaAvro(JavaAvro { unknown_enum: JavaUnknownEnum::Default, ..JavaAvro::default() });
    let output = run(&message, &PlanSettings { mapping, ..settings(Encoding::Avro) }, Payload::Protobuf(&hex("0801")));
    assert_eq!(output.map(|output| (output.value, output.enums_defaulted)), Ok((vec![0], 1)));
    let closed =
        "syntax = \"proto2\"; package t; enum E { ONE = 1; } message M { optional E e = 1; repeated E es = 2; }";
    check_of(&descriptor(closed, "t.M"), "0805 1001 1005", Ok(r#"{"es":["ONE"]}"#));
}

/// At every byte: `differential::no_prefix_panics`.
#[test]
fn row_17_nothing_is_read_past_its_end() {
    check("08", MALFORMED);
    check("2a03 6161", MALFORMED);
    check("5a02 0880 01", MALFORMED);
    check("5a02 1205 6161616161", MALFORMED);
    check("2a ffffffff0f", MALFORMED);
    check("2a ffffffffffffffffff01", MALFORMED);
}

#[test]
fn row_18_messages_and_groups_nest_to_100() {
    let nested = |n: usize| {
        (0..n).fold(Vec::new(), |inner, level| {
            let mut outer = Vec::new();
            prost::encoding::bytes::encode(if level == n - 1 { 11 } else { 4 }, &inner, &mut outer);
            outer
        })
    };
    let code =
        |payload: &[u8]| run(&message(), &settings(Encoding::Avro), Payload::Protobuf(payload)).map_err(|e| e.code);
    assert!(code(&nested(100)).is_ok());
    assert_eq!(code(&nested(101)).err(), Some(Code::TooDeep));
    assert_eq!(code(&nested(30_000)).err(), Some(Code::TooDeep));
    check(&format!("{}{}", "a306".repeat(100), "a406".repeat(100)), Ok("{}"));
    check(&"a306".repeat(101), Err(Code::TooDeep));
}

/// Far smaller limits hold before a payload comes here: `http`'s body limit and the event type's own.
#[test]
fn row_19_a_payload_over_a_gigabyte_is_refused_before_it_is_read() {
    let payload = vec![0; super::super::PAYLOAD_BYTES_MAX + 1];
    let error = run(&message(), &settings(Encoding::Avro), Payload::Protobuf(&payload)).unwrap_err();
    assert_eq!(error.code, Code::EventTooLarge);
}

/// By lists, JSON, enum symbols: `amplification`, `presence::long_symbols_of_short_numbers_do_not_become_gigabytes`.
#[test]
fn row_20_a_payload_does_not_become_many_times_itself() {
    let fields: String = (1..=300).map(|n| format!("optional int32 field_{n} = {n} [default = 2000000000];")).collect();
    let proto = format!(
        "syntax = \"proto2\"; package t; option java_multiple_files = true;
         message W {{ {fields} }} message M {{ repeated W w = 1; }}"
    );
    let mapping = Mapping::JavaAvro(JavaAvro::default());
    let java = PlanSettings { mapping, ..settings(Encoding::Avro) };
    let message = descriptor(&proto, "t.M");
    let code = |n: usize| run(&message, &java, Payload::Protobuf(&hex("0a00").repeat(n))).map_err(|e| e.code).err();
    assert_eq!(code(10), None);
    assert_eq!(code(10_000), Some(Code::PayloadExpands));
}

#[test]
fn row_21_a_list_is_one_block_and_a_zero() {
    let content = "message M { repeated int32 r = 1; map<string, int32> m = 2; }";
    check_avro(content, "", Ok("00 00"), Ok("00 00"));
    check_avro(content, "0a02 0103 1205 0a0161 1001", Ok("04 0206 00 02 0261 02 00"), Ok("04 0206 00 02 0261 02 00"));
}

#[test]
fn row_22_null_is_the_first_branch_and_the_first_symbol_the_default() {
    let content = "enum E { A = 0; } message N {} message M { N n = 1; E e = 2; }";
    check_avro(content, "", Ok("00 00"), Ok("00 00"));
    check_avro(content, "0a00", Ok("02 00"), Ok("02 00"));
    let message = descriptor(&proto3(content), "t.M");
    let text = crate::transcode::avro_schema(&message, &Mapping::default()).unwrap();
    assert!(text.contains(r#""type":["null",{"#) && text.contains(r#""symbols":["A"],"default":"A""#), "{text}");
}

#[test]
fn row_23_a_zero_that_was_sent_is_told_from_none_only_where_there_is_presence() {
    let content = "message M { int32 i = 1; optional int32 o = 2; oneof x { int32 m = 3; } }";
    check_avro(content, "", Ok("00 00 00"), Ok("00 00 00"));
    check_avro(content, "0800 1000 1800", Ok("00 0200 0200"), Ok("00 00 00"));
}

/// That it is no tombstone: `tests/it/round_trip.rs`.
#[test]
fn row_24_an_empty_payload_is_an_event() {
    check_avro("message M {}", "", Ok(""), Ok(""));
    check("", Ok("{}"));
}

/// Extensions and MessageSets: `presence::extensions_and_message_sets_are_unknown_fields`.
#[test]
fn row_25_an_any_of_an_unknown_type_has_no_json() {
    check("a20108 0a06 782f742e4e6f", Err(Code::InvalidPayload));
    check("a20107 0a05 782f742e4d", Ok(r#"{"any":{"@type":"x/t.M"}}"#));
}

/// Clamping: `presence::a_timestamp_out_of_range_is_what_its_policy_says`.
#[test]
fn row_26_timestamps_are_checked_and_rounded_down() {
    let content = "message M { google.protobuf.Timestamp at = 1; }";
    let record = |seconds: &str, nanos: &str| format!("02 {seconds} {nanos}");
    for (wire, presence, seconds, nanos) in [
        // 1 ns; -1 s and 1 ns; -1 s and 999,999,999 ns.
        ("0a02 1001", Ok("02 00"), "00", "02"),
        ("0a0d 08ffffffffffffffffff01 1001", Ok("02 ff887a"), "01", "02"),
        ("0a11 08ffffffffffffffffff01 10ff93ebdc03", Ok("02 01"), "01", "fea7d6b907"),
        ("0a0b 10ffffffffffffffffff01", Err(Code::OutOfRange), "00", "01"),
        ("0a06 108094ebdc03", Err(Code::OutOfRange), "00", "80a8d6b907"),
        ("0a0a 08ffffffffffffffff7f", Err(Code::OutOfRange), "feffffffffffffffff01", "00"),
    ] {
        check_avro(content, wire, presence, Ok(&record(seconds, nanos)));
    }
}

#[test]
fn row_27_the_order_and_the_size_of_numbers_do_not_matter() {
    check("f8ffffff0f 01 4201 02 0803 4001", Ok(r#"{"i":3,"packed":[2,1],"far":1}"#));
    let message = descriptor(&proto3("message M { int32 a = 536870911; int32 b = 70000; int32 c = 1; }"), "t.M");
    let plan = Plan::compile(&message, &settings(Encoding::Avro)).unwrap();
    assert!(plan.tables[0].by_tag.len() <= 512 * 8);
}

/// Events in a batch are framed by length: `envelope::batch`.
#[test]
fn row_28_two_messages_in_a_row_are_one_message() {
    check("0801 2a0161 0802", Ok(r#"{"i":2,"text":"a"}"#));
}

/// Each rule: `json_rules`.
#[test]
fn row_29_json_is_read_strictly() {
    for json in [
        r#"{"i":1,"i":2}"#,
        r#"{"u32":1,"u32":1}"#,
        r#"{"text":"\ud800"}"#,
        r#"{"dbl":1e400}"#,
        "\u{feff}{}",
        "{} x",
        r#"{"i":1.5}"#,
    ] {
        assert!(run(&message(), &settings(Encoding::Avro), Payload::Json(json.as_bytes())).is_err(), "{json}");
    }
    let found = run(&message(), &settings(Encoding::Json), Payload::Json(br#"{"i":1e1}"#)).unwrap().value;
    assert_eq!(found, br#"{"i":10}"#);
    let deep = format!("{{\"inner\":{}", "{\"next\":".repeat(100_000));
    let error = run(&message(), &settings(Encoding::Avro), Payload::Json(deep.as_bytes())).unwrap_err();
    assert_eq!(error.code, Code::TooDeep);
}

/// Import cycles, missing references, files of one package: `schema::compile`; that the old plan stays: `schema::load`.
#[test]
fn row_30_what_no_plan_can_be_made_of_is_refused_when_compiled() {
    use prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto};
    let clash = proto3("message M { int32 a = 1 [json_name = \"x\"]; int32 x = 2 [json_name = \"y\"]; }");
    let error = Plan::compile(&descriptor(&clash, "t.M"), &settings(Encoding::Avro)).unwrap_err();
    assert!(error.message.starts_with("`t.M`: two fields have the JSON name `x`"), "{}", error.message);
    let message = |file_name: &str| {
        let file = FileDescriptorProto {
            name: Some(file_name.to_owned()),
            package: Some("p".to_owned()),
            message_type: vec![DescriptorProto { name: Some("M".to_owned()), ..Default::default() }],
            ..Default::default()
        };
        let mut pool = prost_reflect::DescriptorPool::new();
        pool.add_file_descriptor_proto(file).unwrap();
        pool.get_message_by_name("p.M").unwrap()
    };
    // A file that is renamed has another Java class, so its name must not count unseen.
    let java = Mapping::JavaAvro(JavaAvro::default());
    let schema = |file_name| crate::transcode::avro_schema(&message(file_name), &java);
    assert!(schema("a/my_testFile.proto").unwrap().contains(r#""namespace":"p.MyTestfile""#));
    for (file_name, expected) in [
        ("orders-value/3.proto", "the file's own name, which is lost; set `java_multiple_files = true`"),
        ("a/_b.proto", "Java can make no class of a file name with empty parts"),
        ("a/b", "the file's own name, which is lost"),
    ] {
        let error = schema(file_name).unwrap_err();
        assert!(error.message.contains(expected), "{}", error.message);
    }
}

/// An id of another type, deleted, or unknown: `schema::load` and `tests/it/registry.rs`.
#[test]
fn row_31_an_event_that_names_a_schema_that_is_not_loaded_is_refused() {
    let set = crate::schema::SchemaSet { subject: "s".to_owned(), default: 0, versions: Vec::new() };
    let reference = Some(crate::envelope::SchemaReference::Id(7));
    assert_eq!(set.get(reference).unwrap_err().code, Code::UnknownSchema);
}
