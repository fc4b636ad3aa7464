//! The way back: datums that are none are refused, what is one becomes the message that it came from.

use prost_reflect::ReflectMessage;

use super::differential::{build, message};
use super::*;
use crate::outcome::Code;
use crate::route::{JavaAvro, JavaTimestamp, NestedSep, Presence, Uint64Policy, UnknownEnumPolicy};
use crate::transcode::avro_schema;
use crate::transcode::back::{AvroReader, AvroSchema, Mask};
use proptest::prelude::*;
use prost_reflect::prost::Message;
use prost_reflect::{DynamicMessage, Value};

/// A reader of datums by a schema's text.
fn reader(schema: &str, message: Option<&MessageDescriptor>, into: Encoding) -> Result<AvroReader, PlanError> {
    AvroReader::compile(AvroSchema::parse(schema, &[]).expect("a schema"), message, into)
}

fn read(reader: &AvroReader, datum: &[u8]) -> Result<Output, EventError> {
    let mut output = Output::default();
    reader.transcode(datum, &mut Scratch::default(), &mut output).map(|()| output)
}

/// The Avro schema of a message of `proto3`.
fn derived(content: &str) -> (MessageDescriptor, String) {
    let message = descriptor(&proto3(content), "t.M");
    let schema = avro_schema(&message, &Mapping::default()).expect("a mapping");
    (message, schema)
}

#[test]
fn what_is_no_datum_is_refused_where_it_is_wrong() {
    let content = r#"
        enum Color { RED = 0; GREEN = 5; }
        message M {
          string s = 1; repeated int32 ints = 2; map<string, int32> by_name = 3; M m = 4; bool b = 5; Color c = 6;
          uint32 u = 7; repeated google.protobuf.Empty nothing = 8; map<int32, int32> by_number = 9;
          oneof one { int32 x = 10; int32 y = 11; } google.protobuf.Struct json = 12; int32 i = 13;
        }
    "#;
    let (message, schema) = derived(content);
    let into_message = reader(&schema, Some(&message), Encoding::Protobuf).unwrap();
    let for_people = AvroSchema::parse(&schema, &[]).unwrap();
    let good = "00 00 00 00 00 00 00 00 00 00 00 00 00";
    // A datum that is good up to this field, then these bytes.
    let at = |fields: usize, bytes: &str| [&hex(good)[..fields], &hex(bytes)].concat();
    let check = |datum: Vec<u8>, code: Code, place: &str| {
        let error = read(&into_message, &datum).expect_err(place);
        assert_eq!(error.code, code, "{error} {datum:02x?}");
        assert!(error.message.starts_with(place), "{error}");
        let shown = for_people.to_json(&datum, &Mask::default());
        // What only the message knows is fine for people: a oneof, a range, a duplicate key.
        if matches!(code, Code::MalformedAvro | Code::PayloadExpands | Code::InvalidUtf8) {
            assert_eq!(shown.expect_err(place).code, code, "{datum:02x?}");
        }
    };
    read(&into_message, &hex(good)).unwrap();
    check(at(0, ""), Code::MalformedAvro, "$.s (field 1): a number is cut off");
    check(at(0, "02"), Code::MalformedAvro, "$.s (field 1): the value ends after the datum");
    check(at(0, "01"), Code::MalformedAvro, "$.s (field 1): a length is negative");
    check(at(0, "feffffffffffffffff01"), Code::MalformedAvro, "$.s (field 1): the value ends after");
    check(at(0, "ffffffffffffffffffff01"), Code::MalformedAvro, "$.s (field 1): a number is cut off or longer");
    check(at(0, "02ff"), Code::InvalidUtf8, "$.s (field 1): the string is not valid UTF-8");
    check(at(1, "feffffffffffffffff01"), Code::PayloadExpands, "$.ints (field 2): the datum of");
    check(at(1, "ffffffffffffffffff01 00"), Code::PayloadExpands, "$.ints (field 2): the datum of");
    check(at(1, "01 00 00"), Code::MalformedAvro, "$.ints (field 2): a number is cut off");
    check(at(1, "01 00"), Code::MalformedAvro, "$.ints[0] (field 2): a number is cut off");
    check(at(1, "01 01"), Code::MalformedAvro, "$.ints (field 2): a block's size is negative");
    check(at(1, "01 feff0f 00"), Code::MalformedAvro, "$.ints (field 2): a block's size is negative or beyond");
    check(at(1, "02 ffffffffff01"), Code::MalformedAvro, "$.ints[0] (field 2): an int is longer than 32 bits");
    check(at(2, "02 02ff 00"), Code::InvalidUtf8, "$.by_name[0] (field 3): the string");
    check(
        at(2, "04 0261 00 0261 02 00 00 00 00 00 00 00 00 00 00 00"),
        Code::InvalidPayload,
        "$.by_name (field 3): the",
    );
    check(at(3, "04"), Code::MalformedAvro, "$.m (field 4): branch number 2 is not one of 2");
    check(at(3, "01"), Code::MalformedAvro, "$.m (field 4): branch number -1 is not one of 2");
    check(at(3, "02 00 00 00 00 00 04"), Code::MalformedAvro, "$.m.c (field 6): symbol number 2 is not one of 2");
    check(at(4, "02 02"), Code::MalformedAvro, "$.b (field 5): a boolean is neither 0 nor 1");
    check(at(6, "01"), Code::OutOfRange, "$.u (field 7): the number does not fit an unsigned 32-bit integer");
    check(at(7, "feffffff0f"), Code::PayloadExpands, "$.nothing (field 8): the datum of");
    check(at(8, "04 02 00 02 00 00 00 00 00 00"), Code::InvalidPayload, "$.by_number (field 9): the map has");
    check(at(8, "02 02 01 00 04"), Code::MalformedAvro, "$.x (field 10): branch");
    check(at(9, "02 00 02 00 00 00"), Code::InvalidPayload, "$.y (field 11): `x` of the same oneof is set too");
    check(at(11, "02 02 7b 00"), Code::MalformedJson, "$.json (field 12): ");
    check(at(11, "02 04 5b5d 00"), Code::InvalidPayload, "$.json (field 12): expected an object");
    check([hex(good), vec![0, 0]].concat(), Code::MalformedAvro, "$: 2 bytes follow the datum");
    check(hex("000000").iter().chain(&hex("020000 00").repeat(40_000)).copied().collect(), Code::TooDeep, "$.m.m.m");
}

#[test]
fn a_few_bytes_cannot_ask_for_much() {
    // Each record has two of the next: 2^40 records without a byte.
    let mut schema = r#"{"type":"record","name":"R40","fields":[]}"#.to_owned();
    for level in (0..20).rev() {
        schema = format!(
            r#"{{"type":"record","name":"R{level}","fields":[{{"name":"a","type":{schema},"proto.number":1}},{{"name":"b","type":"R{}","proto.number":2}}]}}"#,
            if level == 19 { 40 } else { level + 1 },
        );
    }
    let parsed = AvroSchema::parse(&schema, &[]).unwrap();
    assert_eq!(parsed.to_json(&[], &Mask::default()).unwrap_err().code, Code::PayloadExpands);
    let by_itself = reader(&schema, None, Encoding::Protobuf).unwrap();
    assert_eq!(read(&by_itself, &[]).unwrap_err().code, Code::PayloadExpands);
    let other = descriptor(&proto3("message M { int32 other = 9; }"), "t.M");
    let unknown = reader(&schema, Some(&other), Encoding::Protobuf).unwrap();
    assert_eq!(read(&unknown, &[]).unwrap_err().code, Code::PayloadExpands);
    let endless = r#"{"type":"record","name":"R","fields":[{"name":"r","type":"R","proto.number":1}]}"#;
    assert_eq!(
        AvroSchema::parse(endless, &[]).unwrap().to_json(&[], &Mask::default()).unwrap_err().code,
        Code::TooDeep
    );
    assert_eq!(read(&reader(endless, None, Encoding::Protobuf).unwrap(), &[]).unwrap_err().code, Code::TooDeep);
}

#[test]
fn a_schema_that_does_not_fit_its_message_is_refused_when_compiled() {
    let message =
        descriptor(&proto3("message N {} message M { int32 a = 1; repeated N n = 2; map<int32, N> m = 3; }"), "t.M");
    let check = |field: &str, expected: &str| {
        let schema = format!(r#"{{"type":"record","name":"M","fields":[{field}]}}"#);
        let error = reader(&schema, Some(&message), Encoding::Protobuf).expect_err(field);
        assert!(error.message.contains(expected), "{}", error.message);
    };
    check(r#"{"name":"a","type":"string"}"#, "`M.a`: Avro `string` cannot become `int32`");
    check(r#"{"name":"a","type":"long"}"#, "`M.a`: Avro `long` cannot become `int32`");
    check(r#"{"name":"a","type":["int","string"]}"#, "`M.a`: a union can become a field only if");
    check(r#"{"name":"n","type":"int"}"#, "`M.n`: Avro `int` cannot become a repeated field");
    check(r#"{"name":"m","type":{"type":"map","values":"int"}}"#, "`M.m`: the keys of an Avro map are strings");
    check(r#"{"name":"x","type":"int","proto.number":2}"#, "`M.x`: Avro `int` cannot become a repeated field");
    let alone = |field: &str, expected: &str| {
        let schema = format!(r#"{{"type":"record","name":"M","fields":[{field}]}}"#);
        let error = reader(&schema, None, Encoding::Protobuf).expect_err(field);
        assert!(error.message.contains(expected), "{}", error.message);
    };
    alone(r#"{"name":"a","type":"int"}"#, "`M.a` has no `proto.number`");
    alone(r#"{"name":"a","type":"null","proto.number":1}"#, "`M.a`: Avro `null` is of no Protobuf type");
    alone(
        r#"{"name":"a","type":"string","proto.number":1,"proto.type":"a.Color"}"#,
        "`M.a` is a `a.Color`, which only",
    );
}

#[test]
fn older_and_newer_schemas_are_read_by_number() {
    let (_, schema) =
        derived("enum E { A = 0; B = 1; C = 2; } message M { string old_name = 1; int32 gone = 2; E e = 3; }");
    let now =
        descriptor(&proto3("enum E { A = 0; B = 1; } message M { string name = 1; E e = 3; int32 later = 4; }"), "t.M");
    let reader = reader(&schema, Some(&now), Encoding::Json).unwrap();
    let check = |datum: &str, json: &str, dropped: u32| {
        let output = read(&reader, &hex(datum)).unwrap();
        assert_eq!(
            (String::from_utf8_lossy(&output.value).as_ref(), output.fields_dropped),
            (json, dropped),
            "{datum}"
        );
    };
    check("0278 00 02", r#"{"name":"x","e":"B"}"#, 0);
    check("0278 02 00", r#"{"name":"x"}"#, 1);
    // The message does not know symbol C. Without numbers in the schema there is nothing to keep.
    check("0278 00 04", r#"{"name":"x"}"#, 1);
}

#[test]
fn datums_of_java_are_read_by_name_with_the_descriptor() {
    // As avro-protobuf 1.12 derives it: no numbers, presence only of messages, maps as entries, uint32 as int.
    let schema = r#"{"type":"record","name":"M","namespace":"t","fields":[
        {"name":"u","type":"int","default":0},
        {"name":"maybe","type":{"type":"string","avro.java.string":"String"},"default":""},
        {"name":"x","type":"int","default":0},{"name":"y","type":"int","default":0},
        {"name":"at","type":["null",{"type":"record","name":"Timestamp","namespace":"com.google.protobuf","fields":[
            {"name":"seconds","type":"long","default":0},{"name":"nanos","type":"int","default":0}]}],"default":null},
        {"name":"by_name","type":{"type":"array","items":{"type":"record","name":"ByNameEntry","namespace":"t.O$M","fields":[
            {"name":"key","type":"string","default":""},{"name":"value","type":["null","M"],"default":null}]}},"default":[]}]}"#;
    let schema = schema.replace(r#""M"]"#, r#""t.M"]"#);
    let content = "message M { uint32 u = 1; optional string maybe = 2; oneof one { int32 x = 3; int32 y = 4; } \
                   google.protobuf.Timestamp at = 5; map<string, M> by_name = 6; }";
    let message = descriptor(&proto3(content), "t.M");
    let reader = reader(&schema, Some(&message), Encoding::Json).unwrap();
    let check = |datum: &str, json: &str| {
        assert_eq!(String::from_utf8_lossy(&read(&reader, &hex(datum)).unwrap().value), json, "{datum}");
    };
    check("00 00 00 00 00 00", "{}");
    check("01 00 00 06 00 00", r#"{"u":4294967295,"y":3}"#);
    check("00 0261 00 00 02 0402 00", r#"{"maybe":"a","at":"1970-01-01T00:00:02.000000001Z"}"#);
    check("00 00 00 00 00 02 026b 02 020000000000 00", r#"{"byName":{"k":{"u":1}}}"#);
    check("00 00 00 00 00 02 026b 00 00", r#"{"byName":{"k":{}}}"#);
}

/// Every mapping and policy that changes the schema, and back. Left out is what Java's mapping loses: that a member of a
/// oneof is set to its default, as `null` in a `Struct` is.
#[test]
fn a_message_comes_back_from_either_mapping() {
    let content = r#"
        enum Color { RED = 0; GREEN = 5; BLUE = -7; }
        message M {
          uint64 u = 1; repeated fixed64 us = 2; Color color = 3; repeated Color colors = 4; map<string, Color> named = 5;
          google.protobuf.Timestamp at = 6; M m = 7; map<uint32, M> numbered = 8; google.protobuf.BoolValue flag = 9;
          google.protobuf.Struct more = 10; google.protobuf.Any any = 11; google.protobuf.Duration took = 12;
          google.protobuf.FieldMask mask = 13; google.protobuf.Empty empty = 14; float f = 15; uint32 small = 16;
        }
    "#;
    let message = descriptor(&proto3(content), "t.M");
    let json = r#"{"u":"U","us":["U","0"],"color":"BLUE","colors":["GREEN","RED"],"named":{"a":"GREEN"},
        "at":"2025-01-31T12:00:00.123Z","m":{"u":"7"},"numbered":{"4294967295":{},"1":{"color":"GREEN"}},"flag":false,
        "more":{"a":[true,"b"]},"any":{"@type":"type.googleapis.com/t.M","u":"3"},"took":"-1.5s","mask":"a,b.cD",
        "empty":{},"f":"NaN","small":4294967295}"#;
    let presence = |uint64, unknown_enum| Mapping::Presence(Presence { uint64, unknown_enum, ..Presence::default() });
    let java =
        |timestamp| Mapping::JavaAvro(JavaAvro { timestamp, nested_sep: NestedSep::Dollar, ..JavaAvro::default() });
    for (mapping, u) in [
        (Mapping::default(), "9223372036854775807"),
        (presence(Uint64Policy::Wrap, UnknownEnumPolicy::Reject), "18446744073709551615"),
        (presence(Uint64Policy::Decimal, UnknownEnumPolicy::String), "18446744073709551615"),
        (java(JavaTimestamp::Record), "18446744073709551615"),
        (java(JavaTimestamp::Millis), "18446744073709551615"),
        (java(JavaTimestamp::Micros), "18446744073709551615"),
    ] {
        let json = json.replace("\"U\"", &format!("{u:?}"));
        let canonical = run(&message, &settings(Encoding::Protobuf), Payload::Json(json.as_bytes())).unwrap().value;
        let to_avro = PlanSettings { mapping, ..settings(Encoding::Avro) };
        let datum = run(&message, &to_avro, Payload::Protobuf(&canonical)).unwrap().value;
        let schema = avro_schema(&message, &mapping).unwrap();
        let back = read(&reader(&schema, Some(&message), Encoding::Protobuf).unwrap(), &datum).unwrap().value;
        assert_eq!(back, canonical, "{mapping:?}");
        let shown = AvroSchema::parse(&schema, &[]).unwrap().to_json(&datum, &Mask::default());
        shown.unwrap_or_else(|error| panic!("{mapping:?}: {error}"));
    }
}

#[test]
fn names_that_only_java_writes_are_read() {
    let schema = r#"{"type":"record","name":"M","namespace":".Foo-bar$A","fields":[
        {"name":"x","type":["null",".Foo-bar$A.M"],"default":null},
        {"name":"y","type":{"type":"array","items":{"type":"enum","name":"E","namespace":"p.3$B","symbols":["S"]}}}]}"#;
    let shown = AvroSchema::parse(schema, &[]).unwrap().to_json(&hex("02 00 00 0200 00"), &Mask::default());
    assert_eq!(shown.unwrap(), r#"{"x":{"x":null,"y":[]},"y":["S"]}"#);
}

#[test]
fn decimals_are_shown_with_their_scale() {
    let check = |scale: u32, datum: &str, expected: &str| {
        let schema = format!(r#"{{"type":"bytes","logicalType":"decimal","precision":38,"scale":{scale}}}"#);
        let shown = AvroSchema::parse(&schema, &[]).unwrap().to_json(&hex(datum), &Mask::default());
        assert_eq!(shown.unwrap(), expected, "{scale} {datum}");
    };
    check(0, "04 04e2", r#""1250""#);
    check(2, "04 04e2", r#""12.50""#);
    check(2, "02 05", r#""0.05""#);
    check(2, "02 fb", r#""-0.05""#);
    check(3, "02 00", r#""0.000""#);
    check(38, "02 01", r#""0.00000000000000000000000000000000000001""#);
    // More than 128 bits, or a scale that no such number has, stay bytes.
    check(2, &format!("22 {}", "01".repeat(17)), r#""AQEBAQEBAQEBAQEBAQEBAQE=""#);
    check(39, "02 01", r#""AQ==""#);
    let fixed = r#"{"type":"fixed","name":"F","size":2,"logicalType":"decimal","precision":4,"scale":1}"#;
    assert_eq!(AvroSchema::parse(fixed, &[]).unwrap().to_json(&hex("ff85"), &Mask::default()).unwrap(), r#""-12.3""#);
}

#[test]
fn long_lists_of_scalars_come_back_whole() {
    let (message, schema) = derived("message M { repeated bool flags = 1; repeated int32 ints = 2 [packed = false]; }");
    let mut wire = Vec::new();
    let flags = vec![1; 600_000];
    wire.push(0x0a);
    prost_reflect::prost::encoding::encode_varint(flags.len() as u64, &mut wire);
    wire.extend_from_slice(&flags);
    wire.extend_from_slice(&[0x10, 7, 0x10, 0x80, 1]);
    let datum = run(&message, &settings(Encoding::Avro), Payload::Protobuf(&wire)).unwrap().value;
    let back = read(&reader(&schema, Some(&message), Encoding::Protobuf).unwrap(), &datum).unwrap().value;
    let differs = back.iter().zip(&wire).position(|(a, b)| a != b);
    assert!(back == wire, "{} {} {differs:?} {:02x?}", back.len(), wire.len(), &back[back.len() - 8..]);
}

#[test]
fn a_datum_is_shown_by_the_names_of_its_schema() {
    let schema = r#"{"type":"record","name":"R","fields":[
        {"name":"id","type":"string"},
        {"name":"at","type":["null",{"type":"long","logicalType":"timestamp-micros"}]},
        {"name":"raw","type":"bytes"},{"name":"d","type":"double"},{"name":"f","type":"float"},
        {"name":"cards","type":{"type":"map","values":{"type":"record","name":"C","fields":[{"name":"card_number","type":"string"}]}}},
        {"name":"big","type":{"type":"bytes","logicalType":"decimal","precision":20,"scale":0}}]}"#;
    let datum = [
        hex("0278 02 01 02ff"),
        f64::NAN.to_le_bytes().to_vec(),
        0.1f32.to_le_bytes().to_vec(),
        hex("02 026b 043432 00 12 00ffffffffffffffff"),
    ]
    .concat();
    let check = |sensitive: &[&str], expected: &str| {
        let mask = Mask::new(&sensitive.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
        assert_eq!(AvroSchema::parse(schema, &[]).unwrap().to_json(&datum, &mask).unwrap(), expected, "{sensitive:?}");
    };
    let shown = |id: &str, raw: &str, card: &str| {
        format!(
            r#"{{"id":"{id}","at":"1969-12-31T23:59:59.999999Z","raw":"{raw}","d":"NaN","f":0.1,"cards":{{"k":{{"card_number":"{card}"}}}},"big":"18446744073709551615"}}"#
        )
    };
    check(&[], &shown("x", "/w==", "42"));
    check(&["id", "cards.card_number", "not.there"], &shown("***", "/w==", "***"));
    check(&["raw", "cards.k"], &shown("x", "***", "42"));
}

/// Cuts what Avro cannot keep: nanoseconds below a microsecond.
pub(super) fn cut(message: &mut DynamicMessage) {
    if matches!(message.descriptor().full_name(), "google.protobuf.Timestamp" | "google.protobuf.Duration") {
        let nanos = message.get_field_by_number(2).unwrap().as_i32().unwrap();
        message.set_field_by_number(2, Value::I32(nanos.div_euclid(1_000) * 1_000));
        return;
    }
    let fields: Vec<_> = message.fields().map(|(field, _)| field).collect();
    for field in fields {
        match message.get_field_mut(&field) {
            Value::Message(inner) => cut(inner),
            Value::List(items) => items.iter_mut().for_each(|item| {
                if let Value::Message(inner) = item {
                    cut(inner)
                }
            }),
            Value::Map(entries) => {
                entries.values_mut().for_each(|value| {
                    if let Value::Message(inner) = value {
                        cut(inner)
                    }
                });
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Protobuf -> Avro -> Protobuf gives the same bytes, with the descriptor and without it.
    #[test]
    fn a_message_comes_back_byte_for_byte(steer in prop::collection::vec(any::<u8>(), 0..400)) {
        let message = message();
        let mut built = build(&message, &mut steer.iter(), 3);
        cut(&mut built);
        let canonical = run(&message, &settings(Encoding::Protobuf), Payload::Protobuf(&built.encode_to_vec())).unwrap().value;
        let datum = run(&message, &settings(Encoding::Avro), Payload::Protobuf(&canonical)).unwrap().value;
        let schema = avro_schema(&message, &Mapping::default()).unwrap();
        let back = read(&reader(&schema, Some(&message), Encoding::Protobuf).unwrap(), &datum).unwrap().value;
        prop_assert_eq!(&back, &canonical);
        // Without the descriptor one field is packed that the message declares unpacked; parsers take both.
        let alone = read(&reader(&schema, None, Encoding::Protobuf).unwrap(), &datum).unwrap().value;
        let alone = run(&message, &settings(Encoding::Protobuf), Payload::Protobuf(&alone)).unwrap().value;
        prop_assert_eq!(&alone, &canonical);
        let json = read(&reader(&schema, Some(&message), Encoding::Json).unwrap(), &datum).unwrap().value;
        let expected = run(&message, &settings(Encoding::Json), Payload::Protobuf(&canonical)).unwrap().value;
        prop_assert_eq!(&json, &expected);
        let again = read(&reader(&schema, Some(&message), Encoding::Avro).unwrap(), &datum).unwrap().value;
        prop_assert_eq!(&again, &datum);
    }

    /// Datums that are almost datums: refused or read, never a panic; what is read is written again as it was.
    #[test]
    fn no_datum_panics(
        steer in prop::collection::vec(any::<u8>(), 0..200),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut_at in any::<prop::sample::Index>(),
    ) {
        let message = message();
        let wire = build(&message, &mut steer.iter(), 2).encode_to_vec();
        let mut datum = run(&message, &settings(Encoding::Avro), Payload::Protobuf(&wire)).unwrap().value;
        let schema = avro_schema(&message, &Mapping::default()).unwrap();
        let known = reader(&schema, Some(&message), Encoding::Protobuf).unwrap();
        let alone = reader(&schema, None, Encoding::Protobuf).unwrap();
        let for_people = AvroSchema::parse(&schema, &[]).unwrap();
        let short = &datum[..cut_at.index(datum.len())];
        prop_assert!(read(&known, short).is_err() && read(&alone, short).is_err());
        prop_assert!(for_people.to_json(short, &Mask::default()).is_err());
        for (at, byte) in changes {
            let at = at.index(datum.len());
            datum[at] = byte;
        }
        let (a, b) = (read(&known, &datum), read(&alone, &datum));
        if a.is_ok() {
            prop_assert!(for_people.to_json(&datum, &Mask::default()).is_ok() && b.is_ok());
        }
    }

    #[test]
    fn no_bytes_panic_on_the_way_back(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let message = message();
        let schema = avro_schema(&message, &Mapping::default()).unwrap();
        for into in [Encoding::Protobuf, Encoding::Json, Encoding::Avro] {
            let _ = read(&reader(&schema, Some(&message), into).unwrap(), &bytes);
        }
        let _ = AvroSchema::parse(&schema, &[]).unwrap().to_json(&bytes, &Mask::new(&["inner.text".to_owned()]));
    }
}
