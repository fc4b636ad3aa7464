//! The mapping `java-avro` against what Java's avro-protobuf 1.12.0 did: `tests/vectors`.

use std::collections::HashMap;

use prost_reflect::DescriptorPool;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::*;
use crate::route::{JavaAvro, JavaTimestamp, NestedSep};
use crate::transcode::{avro_schema, read_descriptor_set};

/// A payload, and the datum that Java made of it or its error.
#[derive(Deserialize)]
struct Case {
    case: String,
    message: String,
    wire_hex: String,
    avro_schema_ref: String,
    avro_hex: Option<String>,
    error: Option<String>,
}

/// A message, and the schema that Java printed for it or its error.
#[derive(Deserialize)]
struct Schema {
    #[serde(rename = "ref")]
    reference: String,
    schema: Option<Box<RawValue>>,
    error: Option<String>,
}

/// Where Java is wrong and we are right on purpose: cases by name, and why.
const DEPARTURES: [(&str, &str); 0] = [];

fn lines<T: for<'de> Deserialize<'de>>(file: &str) -> Vec<T> {
    let path = format!("{}/tests/vectors/{file}.zst", env!("CARGO_MANIFEST_DIR"));
    let text = zstd::decode_all(std::fs::File::open(&path).expect(&path)).expect(&path);
    let text = String::from_utf8(text).expect(&path);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn corpus() -> DescriptorPool {
    let path = format!("{}/tests/vectors/corpus.fds", env!("CARGO_MANIFEST_DIR"));
    read_descriptor_set(&std::fs::read(&path).expect(&path)).unwrap()
}

/// `name`, or `name#timestamp-millis`: the message, and the mapping with that conversion.
fn reference(pool: &DescriptorPool, reference: &str) -> (MessageDescriptor, Mapping) {
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
        let departs = DEPARTURES.iter().any(|(departure, _)| *departure == name);
        if agree == departs {
            let ours = ours.map(|value| value.iter().map(|b| format!("{b:02x}")).collect::<String>());
            wrong.push(format!("{name} {message} {wire_hex}\n  ours {ours:?}\n  Java {avro_hex:?} {error:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
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
