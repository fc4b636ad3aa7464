//! The short way from Protobuf to Avro, against the way over slots: what it takes, what it leaves, and that both say the same.

use proptest::prelude::*;
use prost_reflect::prost::Message;

use super::differential::{build, changed};
use super::*;
use crate::route::{JavaAvro, JavaUnknownEnum, Presence, TimestampPolicy, Uint64Policy, UnknownEnumPolicy};

/// Every type of field, declared by ascending number.
fn message() -> MessageDescriptor {
    let content = r#"
        enum Color { RED = 0; GREEN = 5; BLUE = -7; }
        message Swapped { string b = 2; string a = 1; M m = 3; }
        message M {
          int32 i32 = 1; int64 i64 = 2; uint32 u32 = 3; uint64 u64 = 4; sint32 s32 = 5; sint64 s64 = 6; bool yes = 7;
          string text = 8; bytes blob = 9; Color color = 10; fixed32 f32 = 11; fixed64 f64 = 12; sfixed32 sf32 = 13;
          sfixed64 sf64 = 14; float flt = 15; double dbl = 16; M inner = 17; repeated sint32 ints = 18;
          repeated string texts = 19; repeated M inners = 20; map<string, int32> by_name = 21; map<int32, M> by_number = 22;
          oneof choice { int32 num = 23; M msg = 24; string word = 25; }
          optional int32 maybe = 27; google.protobuf.Timestamp at = 28; repeated double dbls = 29;
          repeated Color colors = 30; map<bool, string> by_bool = 32; repeated bool flags = 33;
          repeated fixed32 f32s = 34 [packed = false]; google.protobuf.UInt32Value wrapped = 35;
          repeated Swapped swapped = 36; map<string, Color> by_color = 37; google.protobuf.Duration took = 600;
        }
    "#;
    descriptor(&proto3(content), "t.M")
}

/// Closed enums, required fields, defaults.
fn proto2_message() -> MessageDescriptor {
    let proto = r#"syntax = "proto2"; package t;
        enum Color { GREEN = 5; BLUE = -7; }
        message M {
          required int32 id = 1; optional Color color = 2 [default = BLUE]; repeated Color colors = 3 [packed = true];
          optional string text = 4 [default = "x"]; map<int32, Color> by_number = 5;
          repeated M inners = 7;
        }"#;
    descriptor(proto, "t.M")
}

fn avro(mapping: Mapping) -> PlanSettings<'static> {
    PlanSettings { mapping, ..settings(Encoding::Avro) }
}

/// What a payload becomes, and what it becomes by way of slots alone; whether it took no slots.
fn both_ways(plan: &mut Plan, wire: &[u8]) -> (Result<Output, EventError>, Result<Output, EventError>, bool) {
    let run = |plan: &Plan| {
        let (mut output, mut scratch) = (Output::default(), Scratch::default());
        let done = plan.transcode(Payload::Protobuf(wire), &mut scratch, &mut output);
        (done.map(|()| output), scratch.words.is_empty())
    };
    let (first, is_direct) = run(plan);
    let direct: Vec<_> = plan.tables.iter_mut().map(|table| table.direct.take()).collect();
    let (second, _) = run(plan);
    plan.tables.iter_mut().zip(direct).for_each(|(table, direct)| table.direct = direct);
    (first, second, is_direct)
}

fn is_same(first: &Result<Output, EventError>, second: &Result<Output, EventError>) -> bool {
    let parts = |output: &Output| {
        let Output { value, key, has_key, fields_dropped, first_dropped, enums_defaulted, .. } = output;
        (value.clone(), key.clone(), *has_key, *fields_dropped, first_dropped.clone(), *enums_defaulted)
    };
    first.as_ref().map(parts) == second.as_ref().map(parts)
}

/// Whether a payload goes the short way; it means the same either way.
fn goes_direct(message: &MessageDescriptor, settings: &PlanSettings<'_>, wire: &str) -> bool {
    let mut plan = Plan::compile(message, settings).unwrap();
    let (first, second, is_direct) = both_ways(&mut plan, &hex(wire));
    assert!(is_same(&first, &second), "{wire}: {first:?}, by way of slots {second:?}");
    is_direct
}

#[test]
fn what_is_not_plain_takes_the_way_over_slots() {
    let (message, settings) = (message(), avro(Mapping::default()));
    for wire in [
        "1001 0801",                               // out of order
        "0801 0802",                               // twice
        "b80101 c20100",                           // two members of a oneof
        "8a0100 8a0100",                           // two parts of a message
        "080182 01",                               // cut off
        "0a00",                                    // another wire type
        "d00100",                                  // an unknown field
        "4201ff",                                  // a string that is not UTF-8
        "5003",                                    // an enum's number without a symbol
        "20ffffffffffffffffff01",                  // over 2^63
        "aa0105 0a0161 1001 aa0105 0a0161 1002",   // a key twice
        "aa0105 0a0161 1001 aa0106 8a000161 1002", // a key twice, with its tag in two ways
        "aa0104 1001 0a00",                        // an entry's value before its key
        "b20102 0801",                             // an entry without a message
        "9201010290 0102",                         // a list in two forms
        "9a010161 0801 9a010162",                  // a list in two parts
        "8a010208",                                // ends after the message around it
    ] {
        assert!(!goes_direct(&message, &settings, wire), "{wire}");
    }
}

#[test]
fn what_serialisers_write_goes_the_short_way() {
    let (message, settings) = (message(), avro(Mapping::default()));
    for wire in [
        "",
        "0801 10ffffffffffffffffff01 18ffffffff0f 3801 420161 4a01ff 5005",
        "8a0104 42026162",
        "92010301ac02 9a010161 9a010162 a20100 a2010208 01",
        "aa0105 0a0161 1001 aa0105 0a0162 1002 aa0102 1003",
        "b20104 0801 1200",
        "c20100 d80107",
        "920100",
        "a20103a20100",
        "9a02020805 a202060a01611201 62",
    ] {
        assert!(goes_direct(&message, &settings, wire), "{wire}");
    }
}

#[test]
fn the_key_is_the_same_either_way() {
    let message = message();
    for key in ["text", "inner.inner.text", "i64", "color", "maybe", "yes", "wrapped.value", "word", "dbl"] {
        let settings = PlanSettings { key: Some(key), ..avro(Mapping::default()) };
        for wire in [
            "",
            "10ac02 3801 420161 5005",
            "8a0107 8a0104 42026162",
            "8a0100",
            "d80107",
            "ca010161",
            "8a010242 00 8a01034201 62",
            "420161 420162",
            "9a020208 05",
        ] {
            goes_direct(&message, &settings, wire);
        }
    }
}

#[test]
fn what_proto2_requires_and_defaults_is_the_same_either_way() {
    let message = proto2_message();
    for mapping in [Mapping::default(), Mapping::JavaAvro(JavaAvro::default())] {
        for wire in
            ["", "0801", "0801 1005", "0801 1006", "0801 1a0205 05", "0801 1a0205 06", "0801 2a020801", "0801 3a00"]
        {
            goes_direct(&message, &avro(mapping), wire);
        }
    }
    assert!(goes_direct(&message, &avro(Mapping::default()), "0801 1005 1a0105 220161 2a0408011005 3a020802"));
}

#[test]
fn a_group_takes_the_way_over_slots() {
    let proto = r#"syntax = "proto2"; package t; message M { optional int32 i = 1; optional group G = 2 { optional int32 j = 1; } }"#;
    let (message, settings) = (descriptor(proto, "t.M"), avro(Mapping::default()));
    assert!(goes_direct(&message, &settings, "0801"));
    assert!(!goes_direct(&message, &settings, "0801 13 0802 14"));
    assert!(!goes_direct(&message, &PlanSettings { key: Some("g.j"), ..settings }, "0801 13 0802 14"));
}

#[test]
fn messages_that_nest_too_deep_are_refused_either_way() {
    let message = message();
    let nested = |levels: usize| {
        (0..levels).fold(Vec::new(), |inner: Vec<u8>, _| {
            let mut outer = vec![0x8a, 0x01];
            prost::encode_length_delimiter(inner.len(), &mut outer).unwrap();
            [outer, inner].concat()
        })
    };
    let mut plan = Plan::compile(&message, &avro(Mapping::default())).unwrap();
    for (levels, is_accepted) in [(100, true), (101, false)] {
        let (first, second, is_direct) = both_ways(&mut plan, &nested(levels));
        assert!(is_same(&first, &second), "{levels}");
        assert_eq!((first.is_ok(), is_direct), (is_accepted, is_accepted), "{levels}");
    }
}

/// Mappings that read or write some field in another way.
fn mappings() -> Vec<Mapping> {
    let presence = Presence::default();
    let java = JavaAvro::default();
    vec![
        Mapping::Presence(presence),
        Mapping::Presence(Presence { uint64: Uint64Policy::Wrap, unknown_enum: UnknownEnumPolicy::Reject, ..presence }),
        Mapping::Presence(Presence {
            uint64: Uint64Policy::Decimal,
            unknown_enum: UnknownEnumPolicy::String,
            invalid_timestamp: TimestampPolicy::Clamp,
        }),
        Mapping::JavaAvro(java),
        Mapping::JavaAvro(JavaAvro { unknown_enum: JavaUnknownEnum::Throw, ..java }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn both_ways_say_the_same(
        steer in prop::collection::vec(any::<u8>(), 0..300),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        drops in any::<bool>(),
    ) {
        let unknown_fields = if drops { UnknownFields::Drop } else { UnknownFields::Reject };
        for (message, key) in [(message(), "inner.text"), (proto2_message(), "text")] {
            let wire = build(&message, &mut steer.iter(), 3).encode_to_vec();
            let damaged = changed(wire.clone(), changes.clone());
            for mapping in mappings() {
                for key in [None, Some(key)] {
                    let settings = PlanSettings { key, unknown_fields, ..avro(mapping) };
                    let mut plan = Plan::compile(&message, &settings).unwrap();
                    for wire in [&wire, &damaged] {
                        let (first, second, _) = both_ways(&mut plan, wire);
                        prop_assert!(is_same(&first, &second), "{:02x?}: {:?}, by way of slots {:?}", wire, first, second);
                    }
                }
            }
        }
    }
}
