//! Step 2: a request's body -> events, and the Kafka header codec, both ways.
//!
//! In: the body's bytes, already decompressed. Out: [`Event`]s that borrow from them, one at a time. Never: I/O,
//! waiting, a `serde_json::Value`, or a copy of a payload.

use std::borrow::Cow;

use crate::outcome::{Code, EventError};

pub mod batch;
mod json;
mod scan;
mod depth;
mod skip;
mod protobuf;
mod wire;
pub mod bare;
mod rules;
pub mod time;
pub mod headers;
pub mod framing;
pub mod ids;
pub mod proto;

pub use batch::Batch;
pub(crate) use rules::PROPERTIES_BYTES_MAX;
pub use rules::is_traceparent;
pub use time::check_time;

/// One event as its sender wrote it, borrowed from the request's body.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// Event name.
    pub name: Cow<'a, str>,
    /// The payload, not looked at yet.
    pub payload: Payload<'a>,
    /// Everything beside the payload.
    pub envelope: Envelope<'a>,
    /// Version or id of the source schema, when the sender names one.
    pub schema: Option<SchemaReference>,
}

/// An event that cannot be read, and what is known of it all the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreadable<'a> {
    /// Its name, if that can be read.
    pub name: Option<Cow<'a, str>>,
    /// Its id, if that can be read.
    pub id: Option<Cow<'a, str>>,
    /// Why.
    pub error: EventError,
    /// What was sent.
    pub sent: Sent<'a>,
}

/// What a sender sent of one event, as far as it can be told apart from its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent<'a> {
    /// The payload; the envelope is known beside it, or cannot be read.
    Payload(Payload<'a>),
    /// Envelope and payload together, an event as `POST /v1/events` takes it in JSON.
    JsonEvent(&'a [u8]),
    /// The same as the message `iguazu.v1.Event` on the wire.
    ProtobufEvent(&'a [u8]),
}

impl<'a> Sent<'a> {
    /// The bytes as they were sent.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Sent::Payload(payload) => payload.bytes(),
            Sent::JsonEvent(bytes) | Sent::ProtobufEvent(bytes) => bytes,
        }
    }
}

/// A payload as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// JSON text that nobody has checked: of one that came inside a JSON envelope no more than its end was found.
    Json(&'a [u8]),
    /// A Protobuf message on the wire.
    Protobuf(&'a [u8]),
    /// An Avro datum, without a container or framing around it.
    Avro(&'a [u8]),
    /// Bytes in the binary form that the event type's schema has, Protobuf or Avro: the envelope around them does not say.
    Binary(&'a [u8]),
    /// The same in base64.
    Base64(&'a [u8]),
}

impl<'a> Payload<'a> {
    /// The bytes as they were sent, whatever they are.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Payload::Json(bytes)
            | Payload::Protobuf(bytes)
            | Payload::Avro(bytes)
            | Payload::Binary(bytes)
            | Payload::Base64(bytes) => bytes,
        }
    }

    /// What it is, for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Payload::Json(_) => "JSON",
            Payload::Protobuf(_) => "Protobuf",
            Payload::Avro(_) => "Avro",
            Payload::Binary(_) | Payload::Base64(_) => "binary",
        }
    }
}

/// Which schema an event says it was written with; always one of the *source* subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaReference {
    /// Version of the event type's subject.
    Version(u32),
    /// Registry id of a version of the event type's subject.
    Id(u32),
}

/// What stands beside the payload. What a sender left out is `None`; the pipeline fills in id and source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Envelope<'a> {
    /// The sender's id of the event.
    pub id: Option<Cow<'a, str>>,
    /// Who sent it.
    pub source: Option<Cow<'a, str>>,
    /// Time of creation, RFC 3339, checked.
    pub time: Option<Cow<'a, str>>,
    /// Partition key.
    pub key: Option<Cow<'a, str>>,
    /// The non-schematised JSON object, as text.
    pub properties: Option<Cow<'a, str>>,
    /// The sender's own headers, in order.
    pub headers: Vec<(Cow<'a, str>, Cow<'a, [u8]>)>,
    /// W3C trace context.
    pub traceparent: Option<Cow<'a, str>>,
}

/// Whether the bytes are one JSON text: UTF-8, well formed, at most 100 levels deep.
pub fn check_json(bytes: &[u8]) -> Result<(), EventError> {
    let text = simdutf8::compat::from_utf8(bytes).map_err(|e| {
        EventError::new(Code::InvalidUtf8, format!("the payload is not valid UTF-8 at byte {}", e.valid_up_to()))
    })?;
    let mut scanner = scan::Scanner::new(text);
    scanner.value().and_then(|_| scanner.end()).map_err(|problem| {
        if problem.is_too_deep() {
            return depth::too_deep("$", text);
        }
        let (line, column) = problem.position(text);
        EventError::new(Code::MalformedJson, format!("the payload is not valid JSON at line {line} column {column}"))
    })
}
