//! What is sent to the dead-letter topic of an event that the reply refuses for its content.
//!
//! In: the event as it was sent, and why it is refused. Out: a dead letter with the sender's own bytes, handed on or dropped and
//! counted. Never: for an event type without a dead-letter topic, for what was refused for another reason (who sent it, how
//! often, or that we cannot take it now), waits.

use super::{Ask, Live};
use crate::dead_letter::{self, Rejected};
use crate::envelope::headers::{self, HeaderBuffer, Stamp};
use crate::envelope::{Event, Payload, SchemaReference, Sent, ids};
use crate::outcome::EventError;
use crate::produce::{DeadLetters, Record};
use crate::route::SchemaType;

/// Of an event whose envelope was read. Its id is empty where the sender gave none.
#[cold]
pub(super) fn rejected(live: &Live, event: &Event<'_>, id: &str, error: &EventError, ask: &Ask<'_>, now_ms: u64) {
    let Some(topic) = wanted(live, event.payload.bytes().len(), error, now_ms) else { return };
    let mut fresh = [0; 36];
    let id = if id.is_empty() { ids::fresh(&mut fresh, ask.received_ms) } else { id };
    let sender = ask.sender.map(|sender| sender.name.as_str());
    let stamp = Stamp {
        id,
        source: event.envelope.source.as_deref().or(sender).unwrap_or(super::prepare::ANONYMOUS),
        sender,
        properties: event.envelope.properties.as_deref(),
        traceparent: event.envelope.traceparent.as_deref().or(ask.traceparent),
        received_ms: ask.received_ms,
        schema_header: &[],
    };
    let mut out = HeaderBuffer::default();
    let sent = Sent::Payload(event.payload);
    headers::write_cloud_events(&event.envelope, &stamp, &event.name, content_type(sent, live), &mut out);
    let schema = event.schema.map(|schema| match schema {
        SchemaReference::Version(number) => format!("version:{number}"),
        SchemaReference::Id(number) => format!("id:{number}"),
    });
    let key = event.envelope.key.as_deref().map(str::as_bytes);
    send(topic, &Letter { live, sent, id, schema: schema.as_deref(), error, ask, key }, out);
}

/// Of an event of which only its name, and perhaps its id, could be read.
#[cold]
pub(super) fn unreadable(live: &Live, sent: Sent<'_>, id: &str, error: &EventError, ask: &Ask<'_>, now_ms: u64) {
    let Some(topic) = wanted(live, sent.bytes().len(), error, now_ms) else { return };
    let mut out = HeaderBuffer::default();
    out.push("content-type", content_type(sent, live).as_bytes());
    if let Some(sender) = ask.sender {
        out.push(headers::SENDER, sender.name.as_bytes());
    }
    send(topic, &Letter { live, sent, id, schema: None, error, ask, key: None }, out);
}

/// The topic, if there is one, the error is of the kind, and its limit lets this one through.
fn wanted<'l>(live: &'l Live, bytes: usize, error: &EventError, now_ms: u64) -> Option<&'l DeadLetters> {
    let topic = live.dead_letters.as_deref()?;
    (error.code.is_about_content() && topic.admit(bytes, now_ms)).then_some(topic)
}

struct Letter<'l> {
    live: &'l Live,
    sent: Sent<'l>,
    id: &'l str,
    schema: Option<&'l str>,
    error: &'l EventError,
    ask: &'l Ask<'l>,
    key: Option<&'l [u8]>,
}

fn send(topic: &DeadLetters, letter: &Letter<'_>, mut headers: HeaderBuffer) {
    let Letter { live, sent, id, schema, error, ask, key } = *letter;
    let (value, encoding) = match sent {
        Sent::Payload(Payload::Base64(text)) => (text, Some("base64")),
        sent => (sent.bytes(), None),
    };
    let rejected = Rejected {
        code: error.code.as_str(),
        message: &error.message,
        event: &live.event_type.name,
        id,
        door: ask.door,
        part: if matches!(sent, Sent::Payload(_)) { dead_letter::Part::Payload } else { dead_letter::Part::Event },
        encoding,
        schema,
        received_ms: i64::try_from(ask.received_ms).unwrap_or(i64::MAX),
    };
    dead_letter::write_rejected(&rejected, &mut headers);
    topic.send(&Record { key, value, headers: &headers, timestamp_ms: rejected.received_ms });
}

/// Of the bytes as they were sent, once base64 is undone.
fn content_type(sent: Sent<'_>, live: &Live) -> &'static str {
    match sent {
        Sent::Payload(Payload::Json(_)) | Sent::JsonEvent(_) => "application/json",
        Sent::Payload(Payload::Protobuf(_)) | Sent::ProtobufEvent(_) => "application/x-protobuf",
        Sent::Payload(Payload::Avro(_)) => "application/avro",
        // Whatever the schema's binary form is.
        Sent::Payload(Payload::Binary(_) | Payload::Base64(_)) => match live.event_type.schema_type {
            SchemaType::Avro => "application/avro",
            SchemaType::Protobuf | SchemaType::Json => "application/x-protobuf",
        },
    }
}
