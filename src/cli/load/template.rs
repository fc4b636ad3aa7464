//! What a load run sends: request bodies made from one event, in which only the id changes.
//!
//! In: an event's name and one payload. Out: bodies of any batch size, and the id of the n-th event of the run. Never:
//! an encoder per event: a body is copied bytes with ids written over them, so that the generator costs little beside
//! what it measures. A payload is a pure function of its id, which is what `--verify` checks.

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use uuid::Uuid;

use crate::envelope::proto;

/// Stands for the id in templates; ids have its length, so one is written over the other.
pub const PLACEHOLDER: &str = "ffffffff-ffff-7fff-bfff-ffffffffffff";

/// How events are written into bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object, or `{"events":[…]}` when a request has several.
    Json,
    /// One JSON event a line.
    Ndjson,
    /// `iguazu.v1.EventBatch`.
    Protobuf,
}

impl Format {
    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Protobuf => "application/x-protobuf",
        }
    }
}

/// The event that is sent over and over.
#[derive(Clone, Debug)]
pub struct EventTemplate<'a> {
    /// Event name.
    pub event: &'a str,
    /// Its payload as JSON, with [`PLACEHOLDER`] where the id goes.
    pub payload: &'a str,
    /// Its message, to write the payload as Protobuf.
    pub message: Option<&'a MessageDescriptor>,
    /// Key of the envelope, with [`PLACEHOLDER`] where the id goes.
    pub key: Option<&'a str>,
}

/// Makes request bodies.
#[derive(Clone, Debug)]
pub struct Bodies {
    before: &'static [u8],
    /// One event, and where in it the id goes.
    event: Vec<u8>,
    id_at: Vec<usize>,
    between: &'static [u8],
    after: &'static [u8],
}

impl Bodies {
    /// Prepares bodies of `batch` events.
    pub fn new(template: &EventTemplate<'_>, format: Format, batch: usize) -> Result<Bodies, String> {
        let (event, [before, between, after]): (Vec<u8>, [&'static str; 3]) = match format {
            Format::Json if batch > 1 => (json_event(template).into_bytes(), ["{\"events\":[", ",", "]}"]),
            Format::Json => (json_event(template).into_bytes(), ["", "", ""]),
            Format::Ndjson => (json_event(template).into_bytes(), ["", "\n", "\n"]),
            Format::Protobuf => (protobuf_event(template)?, ["", "", ""]),
        };
        let id_at = positions(&event, PLACEHOLDER.as_bytes());
        let [before, between, after] = [before, between, after].map(str::as_bytes);
        Ok(Bodies { before, event, id_at, between, after })
    }

    /// The body with events `first` to `first + count - 1` of the run.
    pub fn body(&self, run: &RunId, first: u64, count: usize) -> Bytes {
        let one = self.event.len() + self.between.len();
        let mut body = Vec::with_capacity(self.before.len() + count * one + self.after.len());
        body.extend_from_slice(self.before);
        for n in 0..count {
            if n > 0 {
                body.extend_from_slice(self.between);
            }
            let start = body.len();
            body.extend_from_slice(&self.event);
            let id = run.id(first + n as u64);
            for at in &self.id_at {
                body[start + at..start + at + id.len()].copy_from_slice(&id);
            }
        }
        body.extend_from_slice(self.after);
        Bytes::from(body)
    }
}

/// The ids of one run: UUIDv7 whose time is the run's start and whose last 48 bits count its events. What lies between
/// is random, so that two runs have no id in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId {
    bytes: [u8; 16],
}

/// The bytes of an id that are the run's.
const RUN_BYTES: usize = 10;

impl RunId {
    /// A run that starts now.
    pub fn new() -> RunId {
        // A counter within the millisecond would be in bits that are the event's here, so the rest is random instead.
        let mut bytes = *Uuid::now_v7().as_bytes();
        bytes[7..RUN_BYTES].copy_from_slice(&Uuid::new_v4().as_bytes()[7..RUN_BYTES]);
        RunId { bytes }
    }

    /// Id of the n-th event.
    pub fn id(&self, n: u64) -> [u8; 36] {
        let mut bytes = self.bytes;
        bytes[RUN_BYTES..].copy_from_slice(&n.to_be_bytes()[2..]);
        let mut text = [0; 36];
        Uuid::from_bytes(bytes).hyphenated().encode_lower(&mut text);
        text
    }

    /// Which event of the run has this id; none for those of others.
    pub fn number(&self, id: &str) -> Option<u64> {
        let bytes = *Uuid::try_parse(id).ok()?.as_bytes();
        let mut n = [0; 8];
        n[2..].copy_from_slice(&bytes[RUN_BYTES..]);
        (bytes[..RUN_BYTES] == self.bytes[..RUN_BYTES]).then(|| u64::from_be_bytes(n))
    }
}

/// A payload in which a text field holds [`PLACEHOLDER`]: the key's field if it is one, else the first that is an id by
/// its name, else the first. A payload without top-level text stays as it is, and only its envelope has the id.
pub fn with_placeholder(payload: &str, message: &MessageDescriptor, key: Option<&str>) -> String {
    let is_text = |field: &prost_reflect::FieldDescriptor| {
        field.kind() == prost_reflect::Kind::String && !field.is_list() && !field.is_map()
    };
    let texts: Vec<_> = message.fields().filter(is_text).map(|field| field.name().to_owned()).collect();
    let by_name = || texts.iter().find(|name| name.ends_with("id"));
    let Some(chosen) = texts.iter().find(|name| Some(name.as_str()) == key).or_else(by_name).or(texts.first()) else {
        return payload.to_owned();
    };
    let Ok(mut members) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(payload) else {
        return payload.to_owned();
    };
    members.insert(chosen.clone(), PLACEHOLDER.into());
    serde_json::Value::Object(members).to_string()
}

fn json_event(template: &EventTemplate<'_>) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let key = template.key.map(|key| format!("\"key\":{},", quoted(key))).unwrap_or_default();
    let (event, payload) = (quoted(template.event), one_line(template.payload));
    format!("{{\"event\":{event},\"id\":\"{PLACEHOLDER}\",{key}\"payload\":{payload}}}")
}

/// NDJSON has one event a line. JSON text has line breaks only between its tokens, never within a string.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

/// One `events` field of an `EventBatch`, tag and length included: a batch is these one after the other.
fn protobuf_event(template: &EventTemplate<'_>) -> Result<Vec<u8>, String> {
    let payload = match template.message {
        Some(message) => proto::event::PayloadForm::Payload(to_protobuf(template.payload, message)?),
        None => proto::event::PayloadForm::PayloadJson(template.payload.to_owned()),
    };
    let event = proto::Event {
        event: template.event.to_owned(),
        id: PLACEHOLDER.to_owned(),
        key: template.key.map(str::to_owned),
        payload_form: Some(payload),
        ..Default::default()
    };
    Ok(proto::EventBatch { events: vec![event] }.encode_to_vec())
}

/// A JSON payload as a Protobuf message on the wire.
pub fn to_protobuf(payload: &str, message: &MessageDescriptor) -> Result<Vec<u8>, String> {
    let mut parser = serde_json::Deserializer::from_str(payload);
    let parsed = DynamicMessage::deserialize(message.clone(), &mut parser)
        .and_then(|parsed| parser.end().map(|()| parsed))
        .map_err(|e| format!("the payload is not a `{}`: {e}", message.full_name()))?;
    Ok(parsed.encode_to_vec())
}

fn positions(text: &[u8], part: &[u8]) -> Vec<usize> {
    memchr::memmem::find_iter(text, part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(format: Format, batch: usize) -> Bodies {
        let payload = format!("{{\"a\":\"{PLACEHOLDER}\",\n\"b\":1}}");
        let template = EventTemplate { event: "e\"1", payload: &payload, message: None, key: Some("k-{}") };
        Bodies::new(&template, format, batch).expect("bodies")
    }

    fn check_json(value: &serde_json::Value, id: &[u8; 36]) {
        let id = std::str::from_utf8(id).expect("ASCII");
        assert_eq!((value["event"].as_str(), value["id"].as_str()), (Some("e\"1"), Some(id)));
        assert_eq!(value["payload"]["a"].as_str(), Some(id));
    }

    #[test]
    fn each_form_holds_the_events_asked_for_with_their_ids() {
        let run = RunId::new();
        let single = bodies(Format::Json, 1).body(&run, 7, 1);
        check_json(&serde_json::from_slice(&single).expect("JSON"), &run.id(7));

        let batch = bodies(Format::Json, 3).body(&run, 7, 3);
        let batch: serde_json::Value = serde_json::from_slice(&batch).expect("JSON");
        check_json(&batch["events"][2], &run.id(9));

        let lines = bodies(Format::Ndjson, 2).body(&run, 0, 2);
        let lines: Vec<_> = lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 2);
        check_json(&serde_json::from_slice(lines[1]).expect("JSON"), &run.id(1));

        let batch = bodies(Format::Protobuf, 2).body(&run, 0, 2);
        let batch = proto::EventBatch::decode(batch).expect("Protobuf");
        assert_eq!(batch.events[1].id.as_bytes(), run.id(1));
    }

    #[test]
    fn an_id_is_a_uuid_v7_that_tells_its_number() {
        let run = RunId::new();
        for n in [0, 1, 1 << 40] {
            let id = run.id(n);
            let text = std::str::from_utf8(&id).expect("ASCII");
            assert_eq!(run.number(text), Some(n));
            assert_eq!(RunId::new().number(text), None, "another run's");
            assert_eq!(Uuid::try_parse(text).expect("a UUID").get_version_num(), 7);
        }
        assert_eq!(run.number("order-1"), None);
        assert_eq!(PLACEHOLDER.len(), 36);
    }
}
