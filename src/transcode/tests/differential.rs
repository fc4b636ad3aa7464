//! Against independent implementations: apache-avro for datums, prost-reflect for Protobuf and proto3 JSON.

use std::collections::HashMap;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use prost_reflect::prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, Value};

use super::*;
use crate::route::{JavaAvro, Presence, Uint64Policy, UnknownEnumPolicy};
use crate::transcode::avro_schema;
use crate::transcode::well_known::declared_fields;

pub(super) fn message() -> MessageDescriptor {
    let content = r#"
        enum Color { RED = 0; GREEN = 5; BLUE = -7; }
        message M {
          string text = 31; int32 i32 = 1; int64 i64 = 2; uint32 u32 = 3; uint64 u64 = 4; sint32 s32 = 5; sint64 s64 = 6;
          bool yes = 7; bytes blob = 9; Color color = 10;
          fixed32 f32 = 11; fixed64 f64 = 12; sfixed32 sf32 = 13; sfixed64 sf64 = 14; float flt = 15; double dbl = 16;
          M inner = 17; repeated sint32 ints = 18; repeated string texts = 19; repeated M inners = 20;
          map<string, int32> by_name = 21; map<int32, M> by_number = 22; map<bool, string> by_bool = 32;
          oneof choice { int32 num = 23; M msg = 24; string word = 25; }
          optional int32 maybe = 27; google.protobuf.Timestamp at = 28; repeated double dbls = 29;
          repeated Color colors = 30; repeated bool flags = 33; repeated fixed32 f32s = 34 [packed = false];
          google.protobuf.UInt32Value wrapped = 35; google.protobuf.Duration took = 600;
          google.protobuf.Int64Value wrapped64 = 601;
        }
    "#;
    descriptor(&proto3(content), "t.M")
}

/// A message made of bytes that steer which fields are set and to what.
pub(super) fn build(message: &MessageDescriptor, steer: &mut std::slice::Iter<'_, u8>, depth: usize) -> DynamicMessage {
    let mut built = DynamicMessage::new(message.clone());
    let next = |steer: &mut std::slice::Iter<'_, u8>| steer.next().copied().unwrap_or(0);
    if message.full_name() == "google.protobuf.Timestamp" || message.full_name() == "google.protobuf.Duration" {
        let sign = if message.name() == "Timestamp" || next(steer) > 128 { 1 } else { -1 };
        built.set_field_by_number(1, Value::I64(sign * i64::from(next(steer)) * 98_765_431));
        built.set_field_by_number(2, Value::I32(sign as i32 * i32::from(next(steer)) * 3_906_251));
        return built;
    }
    let fields: Vec<_> = message.fields().collect();
    let count = next(steer) % 12;
    for _ in 0..count {
        let field = &fields[usize::from(next(steer)) % fields.len()];
        if depth == 0 && matches!(field.kind(), Kind::Message(_)) {
            continue;
        }
        let value = if field.is_map() {
            let entry = field.kind();
            let entry = entry.as_message().unwrap();
            let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            let key = match one(&key, steer, depth) {
                Value::String(key) => MapKey::String(key),
                Value::I32(key) => MapKey::I32(key),
                Value::Bool(key) => MapKey::Bool(key),
                other => panic!("{other:?}"),
            };
            Value::Map(HashMap::from([(key, one(&value, steer, depth))]))
        } else if field.is_list() {
            Value::List((0..next(steer) % 4).map(|_| one(field, steer, depth)).collect())
        } else {
            one(field, steer, depth)
        };
        built.set_field(field, value);
    }
    built
}

fn one(field: &FieldDescriptor, steer: &mut std::slice::Iter<'_, u8>, depth: usize) -> Value {
    let raw = (0..1 + steer.next().copied().unwrap_or(0) % 8)
        .fold(0u64, |n, _| n << 8 | u64::from(steer.next().copied().unwrap_or(0)));
    match field.kind() {
        Kind::Bool => Value::Bool(raw % 2 == 1),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(raw as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(raw as i64),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(raw as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(raw >> 1),
        // Not a number is not equal to itself, and the NaN payload is not kept by JSON.
        Kind::Float => Value::F32(Some(f32::from_bits(raw as u32)).filter(|x| !x.is_nan()).unwrap_or(1.5)),
        Kind::Double => Value::F64(Some(f64::from_bits(raw)).filter(|x| !x.is_nan()).unwrap_or(-2.5)),
        Kind::String => Value::String(
            ["", "a", "ä\"\\\n\u{1}", "0123456789abcdef", "x😀y"][raw as usize % 5].repeat(1 + raw as usize % 7),
        ),
        Kind::Bytes => Value::Bytes(raw.to_le_bytes()[..raw as usize % 9].to_vec().into()),
        Kind::Enum(_) => Value::EnumNumber([0, 5, -7][raw as usize % 3]),
        Kind::Message(inner) => Value::Message(build(&inner, steer, depth.saturating_sub(1))),
    }
}

/// Groups, closed enums, required fields, messages in a oneof, defaults.
fn proto2_message() -> MessageDescriptor {
    let proto = r#"syntax = "proto2"; package t;
        enum Color { RED = 0; GREEN = 5; BLUE = -7; }
        message M {
          optional group G = 1 { optional int32 a = 2; repeated group H = 3 { optional M m = 4; repeated Color c = 5; } }
          repeated group R = 6 { optional string s = 7; }
          optional Color color = 8 [default = GREEN]; repeated Color colors = 9 [packed = true];
          oneof o { group X = 10 { optional uint64 u = 11; } M m = 12; Color one = 13; bytes b = 14; }
          map<int32, Color> by_number = 15; optional int32 number = 16 [default = 7]; repeated fixed64 fixed = 17;
        }"#;
    descriptor(proto, "t.M")
}

/// What Avro has other types for by the policies.
#[derive(Clone, Copy)]
struct Types {
    decimal: bool,
    symbols: bool,
}

/// The Avro value of a message by the `presence` mapping, written down independently of the plan.
fn avro_of(message: &DynamicMessage, types: Types) -> Avro {
    let fields = declared_fields(&prost_reflect::ReflectMessage::descriptor(message));
    let members = fields.iter().map(|field| {
        let value = message.get_field(field);
        let value = match &*value {
            Value::List(items) => {
                Avro::Array(items.iter().map(|item| avro_value(item, &field.kind(), types)).collect())
            }
            Value::Map(entries) => {
                let entry = field.kind();
                let kind = entry.as_message().unwrap().map_entry_value_field().kind();
                if entries.keys().all(|key| matches!(key, MapKey::String(_))) && field.name() == "by_name" {
                    let text = |key: &MapKey| key.as_str().unwrap().to_owned();
                    Avro::Map(entries.iter().map(|(key, value)| (text(key), avro_value(value, &kind, types))).collect())
                } else {
                    let key = |key: &MapKey| match key {
                        MapKey::I32(n) => Avro::Int(*n),
                        MapKey::Bool(b) => Avro::Boolean(*b),
                        other => panic!("{other:?}"),
                    };
                    let pair =
                        |(k, v)| vec![("key".to_owned(), key(k)), ("value".to_owned(), avro_value(v, &kind, types))];
                    Avro::Array(entries.iter().map(|entry| Avro::Record(pair(entry))).collect())
                }
            }
            _ if field.supports_presence() && !message.has_field(field) => Avro::Union(0, Box::new(Avro::Null)),
            value if field.supports_presence() => Avro::Union(1, Box::new(avro_value(value, &field.kind(), types))),
            value => avro_value(value, &field.kind(), types),
        };
        (field.name().to_owned(), value)
    });
    Avro::Record(members.collect())
}

fn avro_value(value: &Value, kind: &Kind, types: Types) -> Avro {
    match (value, kind) {
        (Value::Bool(b), _) => Avro::Boolean(*b),
        (Value::I32(n), _) => Avro::Int(*n),
        (Value::I64(n), _) => Avro::Long(*n),
        (Value::U32(n), _) => Avro::Long(i64::from(*n)),
        (Value::U64(n), _) if types.decimal => Avro::Decimal(apache_avro::Decimal::from(shortest(*n))),
        (Value::U64(n), _) => Avro::Long(*n as i64),
        (Value::F32(x), _) => Avro::Float(*x),
        (Value::F64(x), _) => Avro::Double(*x),
        (Value::String(s), _) => Avro::String(s.clone()),
        (Value::Bytes(b), _) => Avro::Bytes(b.to_vec()),
        (Value::EnumNumber(n), Kind::Enum(en)) => {
            let symbols: Vec<_> = en.enum_descriptor_proto().value.iter().collect();
            let at = symbols.iter().position(|symbol| symbol.number() == *n).unwrap();
            if types.symbols {
                return Avro::String(symbols[at].name().to_owned());
            }
            Avro::Enum(at as u32, symbols[at].name().to_owned())
        }
        (Value::Message(inner), Kind::Message(message)) => {
            let part = |number| inner.get_field_by_number(number).unwrap().into_owned();
            match message.name() {
                "Timestamp" | "Duration" => {
                    let micros =
                        part(1).as_i64().unwrap() * 1_000_000 + i64::from(part(2).as_i32().unwrap().div_euclid(1_000));
                    if message.name() == "Timestamp" { Avro::TimestampMicros(micros) } else { Avro::Long(micros) }
                }
                "UInt32Value" => Avro::Long(i64::from(part(1).as_u32().unwrap())),
                "Int64Value" => Avro::Long(part(1).as_i64().unwrap()),
                _ => avro_of(inner, types),
            }
        }
        (value, _) => panic!("a value of another kind than its field: {value}"),
    }
}

/// Big-endian two's complement, as Avro's decimals are, as short as Java's `BigInteger` writes it.
fn shortest(n: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = n.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    if bytes.first().is_none_or(|first| *first >= 0x80) {
        bytes.insert(0, 0);
    }
    bytes
}

fn dynamic(message: &MessageDescriptor, bytes: &[u8]) -> DynamicMessage {
    DynamicMessage::decode(message.clone(), bytes).unwrap()
}

/// A payload with some of its bytes replaced.
pub(super) fn changed(mut wire: Vec<u8>, changes: Vec<(prop::sample::Index, u8)>) -> Vec<u8> {
    for (at, byte) in changes {
        if !wire.is_empty() {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
    }
    wire
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn datums_and_messages_equal_those_of_others(steer in prop::collection::vec(any::<u8>(), 0..400)) {
        let message = message();
        let built = build(&message, &mut steer.iter(), 3);
        let wire = built.encode_to_vec();
        let json = serde_json::to_string(&built).unwrap();

        for (uint64, unknown_enum) in [
            (Uint64Policy::Reject, UnknownEnumPolicy::DefaultSymbol),
            (Uint64Policy::Decimal, UnknownEnumPolicy::String),
        ] {
            let mapping = Mapping::Presence(Presence { uint64, unknown_enum, ..Presence::default() });
            let settings = PlanSettings { mapping, ..settings(Encoding::Avro) };
            let schema = apache_avro::Schema::parse_str(&avro_schema(&message, &mapping).unwrap()).unwrap();
            let decimal = uint64 == Uint64Policy::Decimal;
            let expected = avro_of(&built, Types { decimal, symbols: unknown_enum == UnknownEnumPolicy::String });
            let writer = GenericDatumWriter::builder(&schema).build().unwrap();
            let datum = writer.write_value_to_vec(expected.clone()).unwrap();
            let from_wire = run(&message, &settings, Payload::Protobuf(&wire)).unwrap().value;
            prop_assert_eq!(&from_wire, &datum, "{}", json);
            let from_json = run(&message, &settings, Payload::Json(json.as_bytes())).unwrap().value;
            prop_assert_eq!(&from_json, &datum, "{}", json);
            let reader = GenericDatumReader::builder(&schema).build().unwrap();
            prop_assert_eq!(reader.read_value(&mut &from_wire[..]).unwrap(), expected);
        }
        let mapping = Mapping::JavaAvro(JavaAvro::default());
        let java = PlanSettings { mapping, ..settings(Encoding::Avro) };
        let schema = apache_avro::Schema::parse_str(&avro_schema(&message, &mapping).unwrap()).unwrap();
        let from_wire = run(&message, &java, Payload::Protobuf(&wire)).unwrap().value;
        prop_assert_eq!(&run(&message, &java, Payload::Json(json.as_bytes())).unwrap().value, &from_wire, "{}", json);
        let mut rest = &from_wire[..];
        GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut rest).unwrap();
        prop_assert!(rest.is_empty(), "{}", json);

        let canonical = run(&message, &settings(Encoding::Protobuf), Payload::Protobuf(&wire)).unwrap().value;
        prop_assert!(dynamic(&message, &canonical) == dynamic(&message, &wire), "{}", json);
        let from_json = run(&message, &settings(Encoding::Protobuf), Payload::Json(json.as_bytes())).unwrap().value;
        prop_assert_eq!(&from_json, &canonical, "{}", json);
        let again = run(&message, &settings(Encoding::Protobuf), Payload::Protobuf(&canonical)).unwrap().value;
        prop_assert_eq!(&again, &canonical);

        let to_json = run(&message, &settings(Encoding::Json), Payload::Protobuf(&wire)).unwrap().value;
        let theirs: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&to_json).unwrap(), theirs);
    }

    #[test]
    fn messages_of_proto2_equal_those_of_others(steer in prop::collection::vec(any::<u8>(), 0..300)) {
        let message = proto2_message();
        let built = build(&message, &mut steer.iter(), 3);
        let wire = built.encode_to_vec();
        let json = serde_json::to_string(&built).unwrap();
        let canonical = run(&message, &settings(Encoding::Protobuf), Payload::Protobuf(&wire)).unwrap().value;
        prop_assert!(dynamic(&message, &canonical) == dynamic(&message, &wire), "{}", json);
        let from_json = run(&message, &settings(Encoding::Protobuf), Payload::Json(json.as_bytes())).unwrap().value;
        prop_assert_eq!(&from_json, &canonical, "{}", json);
        let to_json = run(&message, &settings(Encoding::Json), Payload::Protobuf(&wire)).unwrap().value;
        let theirs: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&to_json).unwrap(), theirs);
        let schema = apache_avro::Schema::parse_str(&avro_schema(&message, &Mapping::default()).unwrap()).unwrap();
        let expected = avro_of(&built, Types { decimal: false, symbols: false });
        let datum = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(expected).unwrap();
        let from_wire = run(&message, &settings(Encoding::Avro), Payload::Protobuf(&wire)).unwrap().value;
        prop_assert_eq!(&from_wire, &datum, "{}", json);
    }

    #[test]
    fn no_bytes_of_proto2_panic(
        steer in prop::collection::vec(any::<u8>(), 0..200),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let message = proto2_message();
        let wire = changed(build(&message, &mut steer.iter(), 2).encode_to_vec(), changes);
        let dropping = PlanSettings { unknown_fields: UnknownFields::Drop, ..settings(Encoding::Protobuf) };
        if let Ok(output) = run(&message, &dropping, Payload::Protobuf(&wire)) {
            prop_assert!(DynamicMessage::decode(message, &output.value[..]).is_ok(), "{:02x?}", wire);
        }
    }

    /// Payloads that are almost messages: what is accepted means the same to prost, which alone takes a known field of another
    /// wire type for an element of a list or map (`80 02 09` for a map of field 32) instead of an unknown field.
    #[test]
    fn what_is_accepted_means_the_same_to_prost(
        steer in prop::collection::vec(any::<u8>(), 0..200),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let message = message();
        let wire = changed(build(&message, &mut steer.iter(), 2).encode_to_vec(), changes);
        let dropping = PlanSettings { unknown_fields: UnknownFields::Drop, ..settings(Encoding::Protobuf) };
        if let Ok(output) = run(&message, &dropping, Payload::Protobuf(&wire))
            && let Ok(theirs) = DynamicMessage::decode(message.clone(), &wire[..])
            && !oracle::read(&message, &wire).is_mistyped
        {
            let ours = dynamic(&message, &output.value);
            let same = |a: &DynamicMessage, b: &DynamicMessage| serde_json::to_value(a).ok() == serde_json::to_value(b).ok();
            // Descriptors are recursive, so messages must not be shown with `Debug`.
            prop_assert!(same(&ours, &theirs), "{:02x?}", wire);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let message = message();
        for encoding in [Encoding::Avro, Encoding::Protobuf, Encoding::Json] {
            for unknown_fields in [UnknownFields::Reject, UnknownFields::Properties] {
                let settings = PlanSettings { unknown_fields, key: Some("inner.inner.text"), ..settings(encoding) };
                let plan = Plan::compile(&message, &settings).unwrap();
                let _ = transcode(&plan, Payload::Protobuf(&bytes));
                let _ = transcode(&plan, Payload::Json(&bytes));
            }
        }
    }

    #[test]
    fn no_json_panics(
        json in "(\\{|\\[|\\}|\\]|,|:|\"inner\":|\"texts\":|\"byNumber\":\\{\"1\":|\"at\":\"2|null|1e9|-0|\"\\\\ud8|\"a\"| ){0,30}",
        steer in prop::collection::vec(any::<u8>(), 0..100),
        cut in any::<prop::sample::Index>(),
    ) {
        let message = message();
        let plan = Plan::compile(&message, &settings(Encoding::Avro)).unwrap();
        let _ = transcode(&plan, Payload::Json(json.as_bytes()));
        let valid = serde_json::to_vec(&build(&message, &mut steer.iter(), 2)).unwrap();
        let cut = cut.index(valid.len());
        prop_assert!(transcode(&plan, Payload::Json(&valid[..cut])).is_err());
    }

    /// A message that is cut off may be a shorter message; it is never read past its end, and never panics.
    #[test]
    fn no_prefix_panics(steer in prop::collection::vec(any::<u8>(), 0..200)) {
        let message = message();
        let plan = Plan::compile(&message, &settings(Encoding::Avro)).unwrap();
        let wire = build(&message, &mut steer.iter(), 2).encode_to_vec();
        for end in 0..wire.len() {
            let ours = transcode(&plan, Payload::Protobuf(&wire[..end])).is_ok();
            let theirs = DynamicMessage::decode(message.clone(), &wire[..end]).is_ok();
            prop_assert_eq!(ours, theirs, "cut at {}", end);
        }
    }
}
