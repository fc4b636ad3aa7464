//! The mapping `java-avro` against what Java's avro-protobuf 1.12.0 did: `tests/vectors`.

use std::collections::HashMap;

use prost_reflect::DescriptorPool;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::*;
use crate::route::{JavaAvro, JavaTimestamp, JavaUnknownEnum, NestedSep};
use crate::transcode::{avro_schema, read_descriptor_set};

/// A payload, and the datum that Java made of it or its error.
#[derive(Deserialize)]
pub(super) struct Case {
    pub(super) case: String,
    pub(super) message: String,
    pub(super) wire_hex: String,
    pub(super) avro_schema_ref: String,
    pub(super) avro_hex: Option<String>,
    error: Option<String>,
}

/// A message, and the schema that Java printed for it or its error.
#[derive(Deserialize)]
pub(super) struct Schema {
    #[serde(rename = "ref")]
    pub(super) reference: String,
    pub(super) schema: Option<Box<RawValue>>,
    error: Option<String>,
}

/// Where Java is wrong and we are right on purpose.
struct Departure {
    reason: &'static str,
    message: &'static str,
    wire: &'static str,
    /// A payload whose datum is what Java writes for `wire`.
    java: &'static str,
    /// A payload whose datum is ours, or none if we refuse it.
    ours: Option<&'static str>,
}

const DEPARTURES: [Departure; 4] = [
    Departure {
        reason: "a later member clears the others of its oneof (Protobuf's specification); in Java a cleared message comes back \
                 when it is sent again (case `oneof-msg-scalar-msg`)",
        message: "acme.oneofs.v1.OneOfs",
        wire: "52 02 0801 20 05 52 03 120162",
        java: "52 05 0801 120162",
        ours: Some("52 03 120162"),
    },
    Departure {
        reason: "a string of proto2 that is not UTF-8 cannot be an Avro string; Java puts U+FFFD in its place, which is another \
                 event than the one that was sent",
        message: "acme.p2.Rep",
        wire: "3a 01 ff",
        java: "3a 03 efbfbd",
        ours: None,
    },
    Departure {
        reason: "the same in a list",
        message: "acme.p2.Rep",
        wire: "42 02 c080",
        java: "42 06 efbfbdefbfbd",
        ours: None,
    },
    Departure {
        reason: "the same for a field of an edition with `utf8_validation = NONE`",
        message: "acme.ed23.Ed",
        wire: "4a 01 ff",
        java: "4a 03 efbfbd",
        ours: None,
    },
];

#[test]
fn where_we_depart_from_java_we_do_so_on_purpose() {
    let pool = corpus();
    for Departure { reason, message, wire, java, ours } in DEPARTURES {
        let (message, mapping) = reference(&pool, message);
        let settings = PlanSettings { mapping, unknown_fields: UnknownFields::Drop, ..settings(Encoding::Avro) };
        let datum =
            |payload: &str| run(&message, &settings, Payload::Protobuf(&hex(payload))).map(|output| output.value);
        let found = datum(wire);
        assert_ne!(found, datum(java), "Java agrees by now: {reason}");
        assert_eq!(found.ok(), ours.map(|ours| datum(ours).unwrap()), "{reason}");
    }
}

pub(super) fn lines<T: for<'de> Deserialize<'de>>(file: &str) -> Vec<T> {
    let path = format!("{}/tests/vectors/{file}.zst", env!("CARGO_MANIFEST_DIR"));
    let text = zstd::decode_all(std::fs::File::open(&path).expect(&path)).expect(&path);
    let text = String::from_utf8(text).expect(&path);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

pub(super) fn corpus() -> DescriptorPool {
    let path = format!("{}/tests/vectors/corpus.fds", env!("CARGO_MANIFEST_DIR"));
    read_descriptor_set(&std::fs::read(&path).expect(&path)).unwrap()
}

/// `name`, or `name#timestamp-millis`: the message, and the mapping with that conversion.
pub(super) fn reference(pool: &DescriptorPool, reference: &str) -> (MessageDescriptor, Mapping) {
    let (name, conversion) = reference.split_once('#').unwrap_or((reference, ""));
    let timestamp = match conversion {
        "" => JavaTimestamp::Record,
        "timestamp-millis" => JavaTimestamp::Millis,
        "timestamp-micros" => JavaTimestamp::Micros,
        other => panic!("{other}"),
    };
    let java = JavaAvro { nested_sep: NestedSep::Dollar, timestamp, ..JavaAvro::default() };
    (pool.get_message_by_name(name).expect(name), Mapping::JavaAvro(java))
}

#[test]
fn schemas_are_those_that_java_prints() {
    let pool = corpus();
    let mut wrong = Vec::new();
    for Schema { reference: name, schema, error } in lines("java-avro-schemas.jsonl") {
        let (message, mapping) = reference(&pool, &name);
        match (avro_schema(&message, &mapping), schema) {
            (Ok(ours), Some(theirs)) if ours == compact(theirs.get()) => {}
            (Ok(ours), Some(theirs)) => wrong.push(format!("{name}\n  ours {ours}\n  Java {}", compact(theirs.get()))),
            (Err(_), None) => {}
            (ours, _) => wrong.push(format!("{name}: ours {ours:?}, Java's error {error:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn datums_are_those_that_java_writes() {
    let pool = corpus();
    let mut plans = HashMap::new();
    let mut wrong = Vec::new();
    for case in lines::<Case>("java-avro.jsonl") {
        let Case { case: name, message, wire_hex, avro_schema_ref, avro_hex, error } = case;
        let plan = plans.entry(avro_schema_ref.clone()).or_insert_with(|| {
            let (message, mapping) = reference(&pool, &avro_schema_ref);
            let unknown_fields = UnknownFields::Drop;
            Plan::compile(&message, &PlanSettings { encoding: Encoding::Avro, mapping, key: None, unknown_fields })
        });
        let ours = match plan {
            Ok(plan) => transcode(plan, Payload::Protobuf(&hex(&wire_hex))).map(|output| output.value),
            Err(PlanError { message }) => Err(EventError::new(crate::outcome::Code::InvalidPayload, message.clone())),
        };
        let agree = match (&ours, &avro_hex) {
            (Ok(ours), Some(theirs)) => *ours == hex(theirs),
            (ours, theirs) => ours.is_err() && theirs.is_none(),
        };
        if !agree {
            let ours = ours.map(|value| value.iter().map(|b| format!("{b:02x}")).collect::<String>());
            wrong.push(format!("{name} {message} {wire_hex}\n  ours {ours:?}\n  Java {avro_hex:?} {error:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[track_caller]
fn check_schema(proto: &str, message: &str, java: JavaAvro, expected: Result<&str, &str>) {
    let found = avro_schema(&descriptor(proto, message), &Mapping::JavaAvro(java)).map_err(|e| e.message);
    match (&found, expected) {
        (Ok(found), Ok(expected)) => assert!(found.contains(expected), "{found}"),
        (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found}"),
        _ => panic!("{found:?}, not {expected:?}"),
    }
}

#[test]
fn what_java_refuses_and_what_no_parser_takes_is_refused_when_compiled() {
    let java = JavaAvro::default();
    let dollar = JavaAvro { nested_sep: NestedSep::Dollar, ..java };
    let two = |content: &str| format!("syntax = \"proto2\"; package p; option java_multiple_files = true; {content}");
    let t = |content: &str, expected| check_schema(&two(content), "p.M", java, Err(expected));
    t("message M { optional group G = 1 {} }", "`p.M.g` is a group, which `java-avro` does not know");
    t("message M { optional bytes b = 1 [default = \"x\"]; }", "`p.M.b`: `java-avro` has no default of type bytes");
    t("message M { optional float f = 1 [default = nan]; }", "`p.M.f`: `java-avro` has no default that is infinite");
    t("message M { optional double d = 1 [default = -inf]; }", "`p.M.d`: `java-avro` has no default that is infinite");
    let clash = "message M { optional A_B one = 1; optional A.B two = 2; } message A { message B {} } message A_B {}";
    check_schema(&two(clash), "p.M", java, Ok(r#""namespace":"p.A""#));
    let clash = "syntax = \"proto3\"; package p; option java_package = \"p.A\"; option java_multiple_files = true;
        message M { B one = 1; A.B two = 2; } message B {} message A { message B {} }";
    check_schema(clash, "p.M", JavaAvro { nested_sep: NestedSep::Underscore, ..java }, Ok("p.A.A"));
    let clash = "syntax = \"proto3\"; package p; option java_multiple_files = true;
        message M { A one = 1; M_A two = 2; message A { message X {} X x = 1; } } message M_A { message X {} X x = 1; }";
    let underscore = JavaAvro { nested_sep: NestedSep::Underscore, ..java };
    check_schema(clash, "p.M", underscore, Err("`p.M_A.X` and `p.M.A.X` are both `p.M_A.X` in Avro"));
    check_schema(clash, "p.M", java, Ok(r#""namespace":"p.M.A""#));
    let odd = "syntax = \"proto3\"; package p; option java_outer_classname = \"Foo-bar\"; message M {}";
    check_schema(odd, "p.M", java, Err("`p.Foo-bar`: `Foo-bar` is not a name that Avro allows"));
    check_schema(odd, "p.M", dollar, Ok(r#""namespace":"p.Foo-bar""#));
    let bare = "syntax = \"proto3\"; option java_multiple_files = true; message M { N n = 1; message N { M m = 1; } }";
    check_schema(bare, "M", java, Err("`M` is in no package, so Avro cannot refer to it"));
    let deep: String = (0..101).map(|n| format!("message D{n} {{ D{} next = 1; }}\n", n + 1)).collect();
    let deep = proto3(&format!("option java_multiple_files = true; {deep} message D101 {{}}"));
    check_schema(&deep, "t.D0", java, Err("`t.D100`: messages are defined more than 100 levels deep"));
}

#[test]
fn the_parameters_change_what_they_say() {
    let java = JavaAvro::default();
    let proto = "syntax = \"proto3\"; package p; message M { E e = 1; string s = 2; message N { message O {} O o = 1; } N n = 3; }
        enum E { A = 0; B = 1; }";
    let t = |java, expected| check_schema(proto, "p.M", java, Ok(expected));
    t(
        java,
        r#"{"type":"record","name":"M","namespace":"p.Test","fields":[{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]},"default":"A"}"#,
    );
    t(JavaAvro { enum_default: true, ..java }, r#""symbols":["A","B"],"default":"A"},"default":"A"}"#);
    t(java, r#"{"name":"s","type":{"type":"string","avro.java.string":"String"},"default":""}"#);
    t(JavaAvro { avro_java_string: false, ..java }, r#"{"name":"s","type":"string","default":""}"#);
    t(java, r#""name":"O","namespace":"p.Test.M.N""#);
    t(JavaAvro { nested_sep: NestedSep::Underscore, ..java }, r#""name":"O","namespace":"p.Test_M_N""#);
    t(JavaAvro { nested_sep: NestedSep::Dollar, ..java }, r#""name":"O","namespace":"p.Test$M$N""#);
}

#[test]
fn an_unknown_enum_number_is_refused_or_the_first_symbol() {
    let message = descriptor(&proto3("enum E { A = 0; B = 1; } message M { repeated E e = 1; }"), "t.M");
    let with = |unknown_enum| {
        let mapping = Mapping::JavaAvro(JavaAvro { unknown_enum, ..JavaAvro::default() });
        run(&message, &PlanSettings { mapping, ..settings(Encoding::Avro) }, Payload::Protobuf(&hex("0a02 0105")))
    };
    let error = with(JavaUnknownEnum::Throw).unwrap_err();
    assert_eq!(error.code, crate::outcome::Code::UnknownEnumValue);
    assert!(error.message.starts_with("$.e[1] (field 1)"), "{}", error.message);
    let output = with(JavaUnknownEnum::Default).unwrap();
    assert_eq!((hex_of(&output.value).as_str(), output.enums_defaulted), ("04020000", 1));
}

#[test]
fn defaults_are_printed_as_java_prints_them() {
    for (value, expected) in [
        ("0.1", "0.1"),
        ("5", "5.0"),
        ("-0.0", "-0.0"),
        ("123456.5", "123456.5"),
        ("1e6", "1000000.0"),
        ("1e7", "1.0E7"),
        ("12345678", "1.2345678E7"),
        ("1e-3", "0.001"),
        ("1.25e-4", "1.25E-4"),
        ("1e300", "1.0E300"),
    ] {
        let proto =
            format!("syntax = \"proto2\"; package p; message M {{ optional double d = 1 [default = {value}]; }}");
        let expected = format!(r#"{{"name":"d","type":"double","default":{expected}}}"#);
        check_schema(&proto, "p.M", JavaAvro::default(), Ok(&expected));
    }
    for (field, expected) in [
        ("int32 f = 1 [default = -5]", "-5"),
        ("uint32 f = 1 [default = 4294967295]", "-1"),
        ("fixed64 f = 1 [default = 18446744073709551615]", "-1"),
        ("float f = 1 [default = 0.1]", "0.1"),
        ("bool f = 1 [default = true]", "true"),
        ("E f = 1 [default = B]", r#""B""#),
        ("E f = 1", r#""A""#),
        ("M f = 1", "null"),
        (r#"string f = 1 [default = "\303\251\"\\\n\001/"]"#, "\"é\\\"\\\\\\n\\u0001/\""),
    ] {
        let proto = format!(
            "syntax = \"proto2\"; package p; enum E {{ A = 3; B = 1; }} message M {{ optional {field}; required int32 z = 2; }}"
        );
        check_schema(
            &proto,
            "p.M",
            JavaAvro::default(),
            Ok(&format!(r#","default":{expected}}},{{"name":"z","type":"int"}}]"#)),
        );
    }
}

#[test]
fn absent_fields_have_their_defaults() {
    let proto = r#"syntax = "proto2"; package p; enum E { A = 3; B = 1; }
        message M {
          optional int32 i = 1 [default = -7]; optional uint32 u = 2 [default = 4294967295];
          optional float f = 3 [default = -0.0]; optional string s = 4 [default = "x"]; optional E e = 5;
          optional E d = 6 [default = B]; oneof o { bool b = 7 [default = true]; int32 n = 8; } map<string, E> m = 9;
        }"#;
    let message = descriptor(proto, "p.M");
    let mapping = Mapping::JavaAvro(JavaAvro::default());
    for (wire, expected) in [
        ("", "0d 01 00000080 0278 00 02 01 00 00"),
        ("0800 1000 1d00000000 2200 2801 3003 3800", "00 00 00000000 00 02 00 00 00 00"),
        ("3801 4002", "0d 01 00000080 0278 00 02 01 04 00"),
        ("4a03 0a0161", "0d 01 00000080 0278 00 02 01 00 02 0261 00 00"),
    ] {
        let settings = PlanSettings { mapping, ..settings(Encoding::Avro) };
        let found = run(&message, &settings, Payload::Protobuf(&hex(wire))).unwrap().value;
        assert_eq!(hex_of(&found), expected.replace(' ', ""), "{wire}");
    }
}

/// JSON text without the whitespace between its tokens.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let significant = |c: &char| {
        let keep = in_string || !c.is_ascii_whitespace();
        if *c == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = *c == '\\' && !escaped;
        keep
    };
    json.chars().filter(significant).collect()
}
