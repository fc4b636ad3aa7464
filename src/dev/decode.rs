//! A record back into an event, as a consumer library would read it: for `iguazu tail`, `iguazu dev` and load runs.
//!
//! In: a record, and a registry for the schema that its framing names. Out: a [`Line`], which is JSON. A record that cannot
//! be decoded becomes a line with an `error`. Never: fails as a whole, shows a field that is marked sensitive.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost_reflect::MessageDescriptor;
use prost_reflect::prost_types::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::read_back::Consumed;
use crate::config;
use crate::envelope::framing;
use crate::envelope::headers::{self, ReadEnvelope};
use crate::route::EventType;
use crate::schema::source::{Kind, Registered};
use crate::schema::{Registry, RegistryError, ValueReader, compile};

/// A record as one line of JSON. What is not known is left out.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Event name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The event's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Who it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// When it happened, by its sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// When the proxy received it, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<String>,
    /// Partition of the record.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its key; null when it has none.
    pub key: Option<Text>,
    /// The sender's own headers; a name that comes more than once has a list.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, OneOrMore>,
    /// What has no place in the schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<Box<RawValue>>,
    /// The authenticated sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The payload; null for a tombstone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    /// Why the envelope or the payload is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Bytes that are mostly text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Text {
    /// Valid UTF-8.
    Utf8(String),
    /// Anything else.
    Bytes {
        /// In base64.
        base64: String,
    },
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Text::Utf8(text.to_owned()),
            Err(_) => Text::Bytes { base64: BASE64.encode(bytes) },
        }
    }
}

/// A header's value, or its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum OneOrMore {
    /// The name comes once.
    One(Text),
    /// The name comes more than once.
    More(Vec<Text>),
}

/// A record's payload, and the schema that it was read with.
#[derive(Clone, Debug)]
pub struct Payload {
    /// As JSON text.
    pub json: String,
    /// What the framing says, for people: `schema id 5`; empty for bare JSON.
    pub schema: String,
}

/// Decodes records. Holds the schemas that it met.
#[derive(Debug)]
pub struct Decoder {
    registry: Option<Registry>,
    readers: HashMap<Key, Result<Arc<ValueReader>, String>>,
    guids: HashMap<[u8; 16], u32>,
    runtime: tokio::runtime::Runtime,
}

/// A schema, and for Protobuf the message in it.
type Key = (u32, Vec<i32>);

/// Schemas that are kept, and as many GUIDs.
const READERS_MAX: usize = 10_000;

/// The longest the registry may take for all that one schema refers to.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(30);

impl Decoder {
    /// A decoder that asks this registry; without one only JSON can be read.
    pub fn new(registry: Option<&config::Registry>) -> Result<Decoder, DecoderError> {
        let registry = registry.map(Registry::new).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Decoder { registry, readers: HashMap::new(), guids: HashMap::new(), runtime })
    }

    /// The record as a line; `sensitive` are paths of fields to mask. `subjects` are where a schema that is named by its
    /// GUID is looked for.
    pub fn line(&mut self, record: &Consumed, sensitive: &[String], subjects: &[String]) -> Line {
        let (envelope, problem) = match envelope(record) {
            Ok(envelope) => (Some(envelope), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let payload = match &record.value {
            None => Ok("null".to_owned()),
            Some(value) => self.payload(value, envelope.as_ref(), sensitive, subjects).map(|payload| payload.json),
        };
        let (payload, payload_problem) = match payload {
            Ok(json) => (RawValue::from_string(json).ok(), None),
            Err(problem) => (None, Some(problem)),
        };
        let problems: Vec<_> = problem.into_iter().chain(payload_problem).collect();
        let error = (!problems.is_empty()).then(|| problems.join("; "));
        let received_ms = envelope.as_ref().map(|envelope| envelope.received_ms).or(record.timestamp_ms);
        let mut line = Line {
            event: None,
            id: None,
            source: None,
            time: None,
            received: received_ms.map(rfc3339),
            partition: record.partition,
            offset: record.offset,
            key: record.key.as_deref().map(Text::from),
            headers: BTreeMap::new(),
            properties: None,
            sender: None,
            payload,
            error,
        };
        match envelope {
            Some(envelope) => {
                line.event = Some(envelope.event);
                line.id = Some(envelope.id);
                line.source = Some(envelope.source);
                line.time = envelope.time;
                line.sender = envelope.sender;
                line.headers = by_name(envelope.headers.iter().map(|(n, v)| (n.as_str(), v.as_slice())));
                // Text that is not JSON is shown as a JSON string: a line is always JSON.
                line.properties = envelope.properties.and_then(|text| {
                    let quoted = serde_json::Value::from(text.as_str()).to_string();
                    RawValue::from_string(text).or_else(|_| RawValue::from_string(quoted)).ok()
                });
            }
            None => {
                let headers =
                    record.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?)));
                line.headers = by_name(headers);
            }
        }
        line
    }

    /// The payload of a record's value. Without an envelope, a value with a prefix is read as that says.
    pub fn payload(
        &mut self,
        value: &[u8],
        envelope: Option<&ReadEnvelope>,
        sensitive: &[String],
        subjects: &[String],
    ) -> Result<Payload, String> {
        let read = |reader: &ValueReader, bytes: &[u8], schema: String| {
            let json = reader.read(bytes, sensitive).map_err(|error| with_schema(&error.to_string(), &schema))?;
            Ok(Payload { json, schema })
        };
        let content_type = envelope.map(|envelope| envelope.content_type.as_str());
        if content_type == Some("application/json") {
            // JSON of a JSON Schema is framed; no JSON text begins as the prefix does.
            return match framing::read_prefix(value) {
                Ok((id, json)) => read(&ValueReader::Json, json, format!("schema id {id}")),
                Err(_) => read(&ValueReader::Json, value, String::new()),
            };
        }
        let header = envelope.and_then(|envelope| envelope.schema_header.as_deref());
        let (id, named, indexed) = match header {
            Some(header) => {
                let (guid, rest) = framing::read_header_value(header).map_err(|error| error.to_string())?;
                let id = self.by_guid(guid, subjects)?;
                (id, format!("schema GUID {}", uuid::Uuid::from_bytes(guid)), Indexed::Apart(rest))
            }
            None => {
                let (id, rest) = match framing::read_prefix(value) {
                    Ok(read) => read,
                    // Foreign records are often plain JSON.
                    Err(_) if envelope.is_none() => return read(&ValueReader::Json, value, String::new()),
                    Err(error) => return Err(error.to_string()),
                };
                (id, format!("schema id {id}"), Indexed::Before(rest))
            }
        };
        let kind = self.registered(id)?.schema.kind;
        let (indexes, datum) = match (kind, indexed) {
            (Kind::Protobuf, Indexed::Before(rest)) => framing::read_indexes(rest).map_err(|e| e.to_string())?,
            (Kind::Protobuf, Indexed::Apart(rest)) => {
                (framing::read_indexes(rest).map_err(|error| error.to_string())?.0, value)
            }
            (_, Indexed::Before(rest)) => (Vec::new(), rest),
            (_, Indexed::Apart(_)) => (Vec::new(), value),
        };
        read(&*self.reader(id, indexes)?, datum, named)
    }

    fn reader(&mut self, id: u32, indexes: Vec<i32>) -> Result<Arc<ValueReader>, String> {
        let key = (id, indexes);
        if let Some(known) = self.readers.get(&key) {
            return known.clone();
        }
        let made = self.make_reader(id, &key.1).map(Arc::new);
        if self.readers.len() >= READERS_MAX {
            self.readers.clear();
        }
        // A registry that does not answer is asked again for the next record: it is only kept what cannot change.
        if made.is_ok() {
            self.readers.insert(key, made.clone());
        }
        made
    }

    fn make_reader(&self, id: u32, indexes: &[i32]) -> Result<ValueReader, String> {
        let registered = self.registered(id)?;
        let name = format!("schema id {id}");
        let family = self.ask(|registry| async move {
            let registered = registry.schema(id).await?;
            registry.family(&format!("schema id {id}"), &registered.schema).await
        })?;
        match registered.schema.kind {
            Kind::Avro => {
                let references: Vec<_> = family.imports.iter().map(|(_, schema)| schema.text.clone()).collect();
                ValueReader::avro(&registered.schema.text, &references)
                    .map_err(|error| with_schema(&error.to_string(), &name))
            }
            Kind::Protobuf => {
                let compiled = compile::compile(&format!("{id}.proto"), &family).map_err(|error| error.to_string())?;
                let message = message_at(compiled.file.messages().collect(), indexes);
                message
                    .map(ValueReader::Protobuf)
                    .ok_or_else(|| format!("{name} has no message with indexes {indexes:?}"))
            }
            Kind::Json => Ok(ValueReader::Json),
        }
    }

    fn registered(&self, id: u32) -> Result<Arc<Registered>, String> {
        self.ask(|registry| registry.schema(id))
    }

    /// Registries are not asked by GUID: it is found among the versions of the subjects that it may be of.
    fn by_guid(&mut self, guid: [u8; 16], subjects: &[String]) -> Result<u32, String> {
        if let Some(id) = self.guids.get(&guid) {
            return Ok(*id);
        }
        let wanted = uuid::Uuid::from_bytes(guid);
        for subject in subjects {
            let versions = self.ask(|registry| registry.versions(subject)).unwrap_or_default();
            for version in versions.into_iter().rev() {
                let found = self.ask(|registry| registry.version(subject, version))?;
                let same = |text: &String| text.parse::<uuid::Uuid>().is_ok_and(|guid| guid == wanted);
                if found.registered.guid.as_ref().is_some_and(same) {
                    self.guids.insert(guid, found.registered.id);
                    return Ok(found.registered.id);
                }
            }
        }
        Err(format!("no version of {} has the schema GUID {wanted}", subjects.join(" or ")))
    }

    fn ask<'a, T, F>(&'a self, question: impl FnOnce(&'a Registry) -> F) -> Result<T, String>
    where
        F: Future<Output = Result<T, RegistryError>>,
    {
        let registry = self.registry.as_ref().ok_or("no registry is known; name it with `--registry URL`")?;
        let answer = self.runtime.block_on(async { tokio::time::timeout(REGISTRY_TIMEOUT, question(registry)).await });
        match answer {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the registry took longer than {} s", REGISTRY_TIMEOUT.as_secs())),
        }
    }
}

/// Why a decoder cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DecoderError {
    /// The registry's settings are of no use.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// No runtime for its calls.
    #[error("cannot start a runtime")]
    Runtime(#[from] std::io::Error),
}

/// Where a Protobuf value's message indexes are, if it has any.
#[derive(Clone, Copy)]
enum Indexed<'a> {
    /// In front of the value.
    Before(&'a [u8]),
    /// In the header; the value stands bare.
    Apart(&'a [u8]),
}

/// The envelope of a record.
pub fn envelope(record: &Consumed) -> Result<ReadEnvelope, headers::ReadError> {
    let all = record.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?)));
    headers::read(all, record.timestamp_ms.unwrap_or(0), record.key.as_deref())
}

/// Subjects that an event type's values may have a schema of.
pub fn subjects(event_type: &EventType) -> Vec<String> {
    let message = event_type.message.as_ref().or(event_type.subject.as_ref());
    let avro = event_type.avro_subject.clone().or(message.map(|message| format!("{message}-avro")));
    avro.into_iter().chain(event_type.subject.clone()).collect()
}

fn message_at(messages: Vec<MessageDescriptor>, indexes: &[i32]) -> Option<MessageDescriptor> {
    let (first, rest) = indexes.split_first()?;
    let message = messages.into_iter().nth(usize::try_from(*first).ok()?)?;
    if rest.is_empty() { Some(message) } else { message_at(message.child_messages().collect(), rest) }
}

fn by_name<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> BTreeMap<String, OneOrMore> {
    let mut by_name = BTreeMap::new();
    for (name, value) in headers {
        let value = Text::from(value);
        match by_name.remove(name) {
            None => by_name.insert(name.to_owned(), OneOrMore::One(value)),
            Some(OneOrMore::One(first)) => by_name.insert(name.to_owned(), OneOrMore::More(vec![first, value])),
            Some(OneOrMore::More(mut values)) => {
                values.push(value);
                by_name.insert(name.to_owned(), OneOrMore::More(values))
            }
        };
    }
    by_name
}

fn with_schema(problem: &str, schema: &str) -> String {
    if schema.is_empty() { problem.to_owned() } else { format!("{problem} ({schema})") }
}

fn rfc3339(ms: i64) -> String {
    let nanos = i32::try_from(ms.rem_euclid(1000) * 1_000_000).expect("less than a second");
    Timestamp { seconds: ms.div_euclid(1000), nanos }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(headers: &[(&str, &[u8])], value: Option<&[u8]>) -> Consumed {
        Consumed {
            partition: 1,
            offset: 7,
            timestamp_ms: Some(1_773_480_413_589),
            key: Some(vec![0xff]),
            value: value.map(<[u8]>::to_vec),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), Some(value.to_vec()))).collect(),
        }
    }

    const ENVELOPE: &[(&str, &[u8])] = &[
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_source", b"s"),
        ("ce_type", b"a.B"),
        ("content-type", b"application/json"),
    ];

    fn check(headers: &[(&str, &[u8])], value: Option<&[u8]>, expected: &str) {
        let line = Decoder::new(None).expect("a decoder").line(&record(headers, value), &["card".to_owned()], &[]);
        let line = serde_json::to_string(&line).expect("JSON");
        assert!(line.contains(expected), "{line}");
    }

    #[test]
    fn what_cannot_be_decoded_is_a_line_with_an_error() {
        check(&[], Some(b"\xff"), r#""error":"the record has no header `ce_type`; the value is not JSON""#);
        check(ENVELOPE, Some(b"{"), r#""error":"the value is not JSON""#);
        check(&[], Some(b"\x00\x00\x00\x00\x01x"), "no registry is known");
    }

    #[test]
    fn a_line_says_what_the_record_holds() {
        let head =
            r#"{"event":"a.B","id":"1","source":"s","received":"2026-03-14T09:26:53.589Z","partition":1,"offset":7,"#;
        check(ENVELOPE, Some(br#"{"n":1}"#), head);
        check(ENVELOPE, Some(br#"{"n":1}"#), r#""key":{"base64":"/w=="},"payload":{"n":1}}"#);
        check(ENVELOPE, None, r#""payload":null"#);
        check(ENVELOPE, Some(br#"{"card":"4"}"#), r#""payload":{"card":"***"}"#);
        let own: Vec<_> = ENVELOPE.iter().copied().chain([("h", &b"1"[..]), ("h", b"2"), ("g", b"3")]).collect();
        check(&own, Some(b"1"), r#""headers":{"g":"3","h":["1","2"]}"#);
        check(
            &[],
            Some(br#"{"foreign":1}"#),
            r#""payload":{"foreign":1},"error":"the record has no header `ce_type`""#,
        );
    }
}
