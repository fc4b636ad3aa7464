//! What the demonstration posts, and what should come of it.
//!
//! In: event types. Out: [`Step`]s: requests, and the events in them. Pure but for the one sample file that `curl` reads.
//! Never: sends anything.

use std::io;
use std::path::Path;

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use uuid::Uuid;

use super::DevEvent;
use super::client::Post;
use super::demo::write_sample;
use super::example::{Example, Json};
use super::screen::shell_word;
use crate::envelope::proto;
use crate::outcome::Code;
use crate::route::{KeySource, Reply, UnknownFields};

/// One request of the demonstration.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it shows.
    pub title: &'static str,
    /// The request.
    pub post: Post,
    /// Its media type.
    pub content_type: &'static str,
    /// The same as a command to paste, where it is one line.
    pub command: Option<String>,
    /// Its body as people read it: each piece of JSON on lines of its own.
    pub shown: Vec<String>,
    /// The events in it that are to arrive.
    pub sent: Vec<Sent>,
    /// What should come back.
    pub expected: Expected,
}

/// An event that is to arrive in Kafka.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Event name.
    pub event: String,
    /// Its topic.
    pub topic: String,
    /// Its id.
    pub id: String,
    /// Its payload, as proto3 JSON.
    pub payload: String,
    /// Its message; none without a schema.
    pub message: Option<MessageDescriptor>,
}

/// What should come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Every event accepted.
    Accepted {
        /// The reply's status.
        status: u16,
    },
    /// The only event refused, with this code, in a message that has these words.
    Refused {
        /// The code.
        code: Code,
        /// What the message names: the path, piece by piece.
        names: Vec<String>,
    },
}

/// The steps for these event types. Those that need a message are left out where none has one.
pub fn steps(events: &[DevEvent], http: &str, folder: &Path) -> io::Result<Vec<Step>> {
    // The samples come by name; the second one is a message between services, the first one is from a browser.
    let Some(first) = events.first() else { return Ok(Vec::new()) };
    let with_message: Vec<_> = events.iter().filter(|event| event.message.is_some()).collect();
    let mut steps = vec![single(events.get(1).unwrap_or(first)), lines(first)];
    if let Some(bare) = with_message.get(2).or(with_message.last()) {
        steps.push(bare_protobuf(bare, http, folder)?);
        steps.push(protobuf_batch(&with_message));
    }
    steps.push(invalid(events.get(1).unwrap_or(first)));
    Ok(steps)
}

fn single(event: &DevEvent) -> Step {
    let sent = sent(event, 1);
    let key = envelope_key(event, &sent.id).map(|key| ("key", key));
    let members = [
        Some(("event", quoted(&sent.event))),
        Some(("id", quoted(&sent.id))),
        Some(("source", quoted("/demo/app"))),
        Some(("time", quoted("2026-03-14T09:26:53.589Z"))),
        key.map(|(name, key)| (name, quoted(&key))),
        Some(("properties", r#"{"experiment":"blue"}"#.to_owned())),
        Some(("payload", sent.payload.clone())),
    ];
    let body = object(members.into_iter().flatten());
    Step {
        title: "One JSON event, its envelope beside its payload; wait for Kafka",
        post: post("/v1/events?reply=acknowledged&results=all", JSON, body.clone().into()),
        content_type: JSON,
        command: None,
        shown: vec![body],
        sent: vec![sent],
        expected: Expected::Accepted { status: Code::Acknowledged.status() },
    }
}

fn lines(event: &DevEvent) -> Step {
    let sent: Vec<_> = (2..5).map(|number| sent(event, number)).collect();
    let lines: Vec<_> = sent.iter().map(|sent| json_event(event, sent)).collect();
    Step {
        title: "Three events, one a line",
        post: post("/v1/events", NDJSON, format!("{}\n", lines.join("\n")).into()),
        content_type: NDJSON,
        command: None,
        shown: vec![lines[0].clone(), "… and two more".to_owned()],
        expected: accepted(&[event]),
        sent,
    }
}

fn bare_protobuf(event: &DevEvent, http: &str, folder: &Path) -> io::Result<Step> {
    let sent = sent(event, 5);
    let body = Bytes::from(wire(&sent));
    let path = format!("/v1/events/{}", sent.event);
    let file = write_sample(folder, "event.bin", &body)?;
    let (file, url) = (shell_word(&format!("@{}", file.display())), shell_word(&format!("http://{http}{path}")));
    let mut headers = vec![("content-type".to_owned(), PROTOBUF.to_owned()), ("ce-id".to_owned(), sent.id.clone())];
    if let Some(key) = envelope_key(event, &sent.id) {
        headers.push(("ce-partitionkey".to_owned(), key));
    }
    let options: Vec<_> = headers.iter().map(|(n, v)| format!("-H {}", shell_word(&format!("{n}: {v}")))).collect();
    let command = format!("curl -s {url} \\\n  {} \\\n  --data-binary {file}", options.join(" \\\n  "));
    Ok(Step {
        title: "A bare Protobuf message, its envelope in headers",
        post: Post { path, headers, body },
        content_type: PROTOBUF,
        command: Some(command),
        shown: vec![],
        expected: accepted(&[event]),
        sent: vec![sent],
    })
}

fn protobuf_batch(events: &[&DevEvent]) -> Step {
    let chosen: Vec<_> = events.iter().take(3).copied().collect();
    let sent: Vec<_> = chosen.iter().zip(6..).map(|(event, number)| sent(event, number)).collect();
    let messages = chosen.iter().zip(&sent).map(|(event, sent)| proto::Event {
        event: sent.event.clone(),
        id: sent.id.clone(),
        key: envelope_key(event, &sent.id),
        payload_form: Some(proto::event::PayloadForm::Payload(wire(sent))),
        ..Default::default()
    });
    let batch = proto::EventBatch { events: messages.collect() };
    let body = Bytes::from(batch.encode_to_vec());
    let shown = format!("iguazu.v1.EventBatch with {} events, {} bytes", sent.len(), body.len());
    Step {
        title: "A Protobuf batch",
        post: post("/v1/events", PROTOBUF, body),
        content_type: PROTOBUF,
        command: None,
        shown: vec![shown],
        expected: accepted(&chosen),
        sent,
    }
}

/// An event that must be refused: a field that the schema does not have, as deep as there is a message to hide it in.
fn invalid(event: &DevEvent) -> Step {
    let refuses = event.event_type.unknown_fields == UnknownFields::Reject;
    let (body, code, names) = match &event.message {
        Some(message) if refuses => {
            let mut payload = Example::new(9).message(message);
            let path = misspell(&mut payload, message);
            let event = quoted(&event.event_type.name);
            let body = object([("event", event), ("payload", payload.compact())].into_iter());
            (body, Code::UnknownField, path)
        }
        _ => {
            let name = format!("{}s", event.event_type.name);
            let body = object([("event", quoted(&name)), ("payload", "{}".to_owned())].into_iter());
            (body, Code::UnknownEvent, vec![name])
        }
    };
    Step {
        title: "An event with a mistake",
        post: post("/v1/events", JSON, body.clone().into()),
        content_type: JSON,
        command: None,
        shown: vec![body],
        sent: vec![],
        expected: Expected::Refused { code, names },
    }
}

/// Adds a member `mistake` to the first message within the payload, or to itself; gives its path.
fn misspell(payload: &mut Json, message: &MessageDescriptor) -> Vec<String> {
    let Json::Object(members) = payload else { return Vec::new() };
    for field in message.fields().filter(|field| !field.is_list() && !field.is_map()) {
        let kind = field.kind();
        let Some(inner) = kind.as_message().filter(|inner| !inner.full_name().starts_with("google.protobuf.")) else {
            continue;
        };
        let member = members.iter_mut().find(|(name, _)| name == field.name());
        if let Some((name, value @ Json::Object(_))) = member {
            let mut path = vec![name.clone()];
            path.extend(misspell(value, inner));
            return path;
        }
    }
    members.push(("mistake".to_owned(), Json::Scalar("1".to_owned())));
    vec!["mistake".to_owned()]
}

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const PROTOBUF: &str = "application/x-protobuf";

fn post(path: &str, content_type: &str, body: Bytes) -> Post {
    Post { path: path.to_owned(), headers: vec![("content-type".to_owned(), content_type.to_owned())], body }
}

fn sent(event: &DevEvent, number: u32) -> Sent {
    let event_type = &event.event_type;
    let payload = match &event.message {
        Some(message) => Example::payload(number, message),
        None => format!("{{\"any\":\"JSON\",\"number\":{number}}}"),
    };
    Sent {
        event: event_type.name.clone(),
        topic: event_type.topic.clone(),
        id: Uuid::now_v7().to_string(),
        payload,
        message: event.message.clone(),
    }
}

fn json_event(event: &DevEvent, sent: &Sent) -> String {
    let key = envelope_key(event, &sent.id).map(|key| ("key", quoted(&key)));
    let members = [("event", quoted(&sent.event)), ("id", quoted(&sent.id))].into_iter();
    object(members.chain(key).chain([("payload", sent.payload.clone())]))
}

/// A key for event types that take theirs from the envelope.
fn envelope_key(event: &DevEvent, id: &str) -> Option<String> {
    (event.event_type.key == KeySource::Envelope).then(|| id[..8].to_owned())
}

/// The payload on the wire.
fn wire(sent: &Sent) -> Vec<u8> {
    let message = sent.message.clone().expect("only event types with a message are sent as Protobuf");
    let mut parser = serde_json::Deserializer::from_str(&sent.payload);
    let message = DynamicMessage::deserialize(message, &mut parser).expect("an example fits its message");
    message.encode_to_vec()
}

/// A mixed batch answers as its weakest event type does.
fn accepted(events: &[&DevEvent]) -> Expected {
    let weakest = events.iter().map(|event| event.event_type.reply).min().unwrap_or_default();
    let code = match weakest {
        Reply::Enqueued => Code::Enqueued,
        Reply::Durable => Code::Durable,
        Reply::Acknowledged => Code::Acknowledged,
    };
    Expected::Accepted { status: code.status() }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn object<'a>(members: impl Iterator<Item = (&'a str, String)>) -> String {
    let members: Vec<_> = members.map(|(name, value)| format!("{}:{value}", quoted(name))).collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::samples;

    fn messages() -> Vec<MessageDescriptor> {
        let files = samples::files();
        let pool = files.compile().expect("compiles");
        files.events(&pool).expect("events")
    }

    #[test]
    fn a_mistake_is_as_deep_as_it_can_be_hidden() {
        let messages = messages();
        let status = messages.iter().find(|message| message.name() == "StatusChanged").expect("a sample");
        let mut payload = Example::new(1).message(status);
        assert_eq!(misspell(&mut payload, status), ["position", "mistake"]);
        assert!(payload.compact().contains(r#""accuracy_m":12.5,"mistake":1}"#), "{}", payload.compact());
    }
}
