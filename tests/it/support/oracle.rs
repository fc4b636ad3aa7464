//! The conservation oracle: says what must be in Kafka after a fault, from nothing but the numbers of the events.
//!
//! The payload of an event is a pure function of its number, so nothing has to be remembered but what was sent and what was
//! acknowledged. The law: every acknowledged event is in Kafka; every event in Kafka was sent; its bytes are right;
//! duplicates are listed, and whether they are allowed is for the test to say.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::read_back::ReadBack;
use super::registry::Registry;

/// Protobuf text of the payload's message.
pub const PROTOBUF: &str = r#"syntax = "proto3";
package it.v1;

message Numbered {
  int64 number = 1;
  string text = 2;
  double half = 3;
  repeated int32 digits = 4;
}
"#;

/// The message's full name.
pub const MESSAGE: &str = "it.v1.Numbered";

/// The Avro schema that the mapping `presence` derives from it.
pub fn avro() -> Value {
    json!({"type": "record", "name": "Numbered", "namespace": "it.v1", "fields": [
        {"name": "number", "type": "long", "default": 0},
        {"name": "text", "type": "string", "default": ""},
        {"name": "half", "type": "double", "default": 0.0},
        {"name": "digits", "type": {"type": "array", "items": "int"}, "default": []},
    ]})
}

/// Registers both schemas under subjects of their own: the Protobuf subject, the Avro subject.
pub fn register(registry: &Registry) -> (String, String) {
    let subject = super::unique("it.v1.Numbered");
    let avro_subject = format!("{subject}-avro");
    registry.register_protobuf(&subject, PROTOBUF);
    registry.register_avro(&avro_subject, &avro());
    (subject, avro_subject)
}

/// What was sent and what came of it.
#[derive(Debug, Default)]
pub struct Oracle {
    sent: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    refused: BTreeSet<u64>,
}

/// What [`Oracle::check`] found and does not judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// Distinct events in Kafka.
    pub events: usize,
    /// Events in Kafka of which the sender was told nothing, or a failure: timed out is not the same as not written.
    pub unacknowledged: BTreeSet<u64>,
    /// Events that are in Kafka more than once, and how often.
    pub duplicates: BTreeMap<u64, usize>,
}

impl Oracle {
    /// The event with this number, as `POST /v1/events` takes it. Its number is in its id.
    pub fn event(name: &str, number: u64) -> Value {
        json!({"event": name, "id": Self::id(number), "payload": Self::payload(number)})
    }

    /// The id of the event with this number.
    pub fn id(number: u64) -> String {
        format!("o-{number}")
    }

    /// The payload of the event with this number, proto3 JSON of [`MESSAGE`]: from one to 400 characters of text, all digits.
    pub fn payload(number: u64) -> Value {
        let noise = scatter(number);
        let text: String = std::iter::successors(Some(noise), |n| Some(scatter(*n)))
            .flat_map(|n| format!("{n:016x}").into_bytes())
            .map(char::from)
            .take(1 + (noise % 400) as usize)
            .collect();
        let digits: Vec<u64> = number.to_string().bytes().map(|digit| u64::from(digit - b'0')).collect();
        json!({"number": number, "text": text, "half": number as f64 / 2.0, "digits": digits})
    }

    /// Notes that an event was sent, whatever comes of it. Numbers begin at 1: proto3 JSON leaves out a field that is 0.
    pub fn sent(&mut self, number: u64) {
        assert!(number > 0, "the numbers of events begin at 1");
        self.sent.insert(number);
    }

    /// Notes that a reply said of an event that it was accepted or acknowledged: from then on it must not be lost.
    pub fn acknowledged(&mut self, number: u64) {
        assert!(self.sent.contains(&number), "event {number} was acknowledged and never sent");
        self.acknowledged.insert(number);
    }

    /// Notes that a reply refused an event before anything was produced: it must not be in Kafka.
    pub fn refused(&mut self, number: u64) {
        assert!(self.sent.contains(&number), "event {number} was refused and never sent");
        self.refused.insert(number);
    }

    /// Takes back that an event must not be lost: something happened that may take it along.
    pub fn forgive(&mut self, number: u64) {
        self.acknowledged.remove(&number);
    }

    /// How many events must be in Kafka at least.
    pub fn owed(&self) -> usize {
        self.acknowledged.len()
    }

    /// Checks the law on all records of the topic; panics with the numbers of the events that break it.
    pub fn check(&self, records: &[ReadBack]) -> Findings {
        self.judge(records).unwrap_or_else(|broken| panic!("{broken}"))
    }

    /// Acknowledged events that are not in these records.
    pub fn missing(&self, records: &[ReadBack]) -> BTreeSet<u64> {
        let found: BTreeSet<u64> = records.iter().map(number_of).collect();
        self.acknowledged.difference(&found).copied().collect()
    }

    /// [`Oracle::check`] that says how the law is broken instead of panicking.
    pub fn judge(&self, records: &[ReadBack]) -> Result<Findings, String> {
        let mut found = BTreeMap::<u64, usize>::new();
        for record in records {
            let number = number_of(record);
            let place = format!("{}/{}@{}", record.topic, record.partition, record.offset);
            if !self.sent.contains(&number) {
                return Err(format!("event {number} at {place} was never sent"));
            }
            if self.refused.contains(&number) {
                return Err(format!("event {number} at {place} was refused"));
            }
            let expected = Self::payload(number);
            if !same(&expected, &record.value) {
                return Err(format!("event {number} at {place} is {}, not {expected}", record.value));
            }
            *found.entry(number).or_default() += 1;
        }
        let lost: Vec<_> = self.acknowledged.iter().filter(|number| !found.contains_key(number)).collect();
        if !lost.is_empty() {
            return Err(format!("{} acknowledged events are not in Kafka: {lost:?}", lost.len()));
        }
        Ok(Findings {
            events: found.len(),
            unacknowledged: found.keys().filter(|number| !self.acknowledged.contains(number)).copied().collect(),
            duplicates: found.into_iter().filter(|(_, count)| *count > 1).collect(),
        })
    }
}

/// The number of the event that a record holds, by its id.
pub fn number_of(record: &ReadBack) -> u64 {
    let id = record.cloud_event.as_ref().and_then(|event| event.get("id")).and_then(Value::as_str);
    let number = id.and_then(|id| id.strip_prefix("o-")).and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("a record's id is none of the oracle's: {record:?}"))
}

/// Equal but for the two ways in which proto3 JSON and Avro write a 64-bit number.
fn same(expected: &Value, found: &Value) -> bool {
    let Some(found) = found.as_object() else { return false };
    let expected = expected.as_object().expect("a payload is an object");
    expected.len() == found.len()
        && expected.iter().all(|(name, value)| match found.get(name) {
            Some(Value::String(text)) if value.is_i64() => text.parse().ok() == value.as_i64(),
            other => other == Some(value),
        })
}

/// A bijection that spreads small numbers over all 64 bits (the finaliser of SplitMix64).
fn scatter(number: u64) -> u64 {
    let n = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
