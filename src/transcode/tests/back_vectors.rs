//! The way back over the recorded vectors: every datum that Java wrote, and every datum of ours for the same payloads.

use std::collections::HashMap;

use prost_reflect::DynamicMessage;

use super::back::cut;
use super::java_avro::{Case, Schema, corpus, lines, reference};
use super::*;
use crate::transcode::avro_schema;
use crate::transcode::back::{AvroReader, AvroSchema, Mask};

/// Plans and readers of one message by one mapping.
struct Ways {
    there: Plan,
    canonical: Plan,
    back: AvroReader,
    schema: AvroSchema,
}

impl Ways {
    fn new(message: &MessageDescriptor, mapping: Mapping, schema: &str) -> Ways {
        let settings = |encoding| PlanSettings { mapping, unknown_fields: UnknownFields::Drop, ..settings(encoding) };
        let schema = AvroSchema::parse(schema, &[]).unwrap();
        Ways {
            there: Plan::compile(message, &settings(Encoding::Avro)).unwrap(),
            canonical: Plan::compile(message, &settings(Encoding::Protobuf)).unwrap(),
            back: AvroReader::compile(schema.clone(), Some(message), Encoding::Protobuf).unwrap(),
            schema,
        }
    }

    /// The message that the datum becomes, which must become the datum again.
    fn loop_back(&self, datum: &[u8]) -> Result<Vec<u8>, String> {
        let mut output = Output::default();
        let read = self.back.transcode(datum, &mut Scratch::default(), &mut output);
        read.map_err(|error| format!("not read: {error}"))?;
        let again = transcode(&self.there, Payload::Protobuf(&output.value)).map_err(|error| format!("{error}"))?;
        if again.value != datum {
            return Err(format!("becomes {}", hex_of(&again.value)));
        }
        self.schema.to_json(datum, &Mask::default()).map_err(|error| format!("not shown: {error}"))?;
        Ok(output.value)
    }
}

#[test]
fn a_datum_that_java_wrote_becomes_a_message_and_the_same_datum_again() {
    let pool = corpus();
    let printed: HashMap<_, _> = lines("java-avro-schemas.jsonl")
        .into_iter()
        .filter_map(|Schema { reference, schema, .. }| Some((reference, schema?.get().to_owned())))
        .collect();
    assert!(printed.len() > 40, "{}", printed.len());
    let (mut ways, mut wrong, mut looped) = (HashMap::new(), Vec::new(), 0);
    for Case { case, avro_schema_ref, avro_hex, .. } in lines::<Case>("java-avro.jsonl") {
        let Some(datum) = avro_hex else { continue };
        let ways = ways.entry(avro_schema_ref.clone()).or_insert_with(|| {
            let (message, mapping) = reference(&pool, &avro_schema_ref);
            // Not every schema was recorded; those that were are compared elsewhere.
            let schema = printed.get(&avro_schema_ref).cloned();
            let schema = schema.unwrap_or_else(|| avro_schema(&message, &mapping).unwrap());
            Ways::new(&message, mapping, &schema)
        });
        looped += 1;
        if let Err(problem) = ways.loop_back(&hex(&datum)) {
            wrong.push(format!("{case} {avro_schema_ref} {datum}: {problem}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {looped}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(looped > 1_000, "{looped}");
}

#[test]
fn a_payload_comes_back_from_our_own_mapping_as_the_canonical_message() {
    let pool = corpus();
    let (mut ways, mut wrong, mut looped) = (HashMap::new(), Vec::new(), 0);
    for Case { case, message, wire_hex, .. } in lines::<Case>("java-avro.jsonl") {
        let descriptor = pool.get_message_by_name(&message).expect(&message);
        let mapping = Mapping::default();
        let Ok(schema) = avro_schema(&descriptor, &mapping) else { continue };
        let ways = ways.entry(message.clone()).or_insert_with(|| Ways::new(&descriptor, mapping, &schema));
        let payload = hex(&wire_hex);
        let Ok(there) = transcode(&ways.there, Payload::Protobuf(&payload)) else { continue };
        looped += 1;
        let canonical = transcode(&ways.canonical, Payload::Protobuf(&payload)).unwrap().value;
        match ways.loop_back(&there.value) {
            Err(problem) => wrong.push(format!("{case} {message} {wire_hex}: {problem}")),
            // The policy for unknown enum numbers loses the number, and says so; nanoseconds are cut to microseconds.
            Ok(back) if back != canonical && there.enums_defaulted == 0 && !is_cut(&descriptor, &canonical, &back) => {
                wrong.push(format!("{case} {message} {}: back as {}", hex_of(&canonical), hex_of(&back)));
            }
            Ok(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{} of {looped}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(looped > 1_000, "{looped}");
}

/// Whether a message came back without its nanoseconds below a microsecond, and else as it was.
fn is_cut(message: &MessageDescriptor, canonical: &[u8], back: &[u8]) -> bool {
    let decode = |bytes| DynamicMessage::decode(message.clone(), bytes).unwrap();
    let mut expected = decode(canonical);
    cut(&mut expected);
    // Entries of a map have no order here, and NaN is not equal to itself: compared as JSON.
    serde_json::to_value(&expected).unwrap() == serde_json::to_value(decode(back)).unwrap()
}
