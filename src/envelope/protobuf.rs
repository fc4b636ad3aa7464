//! One event as `iguazu.v1.Event` on the wire.
//!
//! In: the bytes of the message. Out: an [`Event`] that borrows from them. Never: a decoded payload; only `time` becomes new
//! text. The rules are Protobuf's: a later value of a field wins, a field of another wire type or number is skipped, an
//! empty string is as good as absent (not so the key, which is `optional`, and the payload, which is a oneof).

use std::borrow::Cow;

use super::wire::{Field, Fields, WireError};
use super::{Envelope, Event, Payload, SchemaReference, Sent, Unreadable, rules, time};
use crate::outcome::{Code, EventError};

/// Reads an event.
pub(super) fn event(message: &[u8]) -> Result<Event<'_>, EventError> {
    let mut read = Read::default();
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next().map_err(malformed)? {
        match field {
            Field::Bytes(bytes) => read.bytes(number, bytes)?,
            Field::Varint(value) => read.varint(number, value),
            Field::Other => {}
        }
    }
    read.finish()
}

/// An event that cannot be read, with what can be read of it all the same: name and id, up to the first byte that is wrong.
#[cold]
pub(super) fn unreadable(message: &[u8], error: EventError) -> Unreadable<'_> {
    let mut found = Unreadable { name: None, id: None, error, sent: Sent::ProtobufEvent(message) };
    let mut fields = Fields::new(message);
    while let Ok(Some((number, field))) = fields.next() {
        match (number, field) {
            (1, Field::Bytes(name)) => {
                let name = text("event", name).and_then(|name| rules::event_name(Cow::Borrowed(name), "event"));
                found.name = name.ok();
            }
            (4, Field::Bytes(id)) => {
                found.id = text("id", id).and_then(|id| rules::id(Cow::Borrowed(id), "id")).ok();
            }
            _ => {}
        }
    }
    found
}

/// What is read of an event so far.
#[derive(Default)]
struct Read<'a> {
    name: &'a str,
    payload: Option<Payload<'a>>,
    id: &'a str,
    source: &'a str,
    time: Option<Timestamp>,
    key: Option<&'a str>,
    properties: &'a str,
    traceparent: &'a str,
    /// A version or an id, out of range perhaps.
    schema: Option<(&'static str, u64)>,
    envelope: Envelope<'a>,
}

#[derive(Clone, Copy, Default)]
struct Timestamp {
    seconds: i64,
    nanos: i32,
}

impl<'a> Read<'a> {
    fn bytes(&mut self, number: u32, bytes: &'a [u8]) -> Result<(), EventError> {
        match number {
            1 => self.name = text("event", bytes)?,
            2 => self.payload = Some(Payload::Binary(bytes)),
            3 => self.payload = Some(Payload::Json(text("payload_json", bytes)?.as_bytes())),
            4 => self.id = text("id", bytes)?,
            5 => self.source = text("source", bytes)?,
            6 => self.time.get_or_insert_default().merge(bytes)?,
            7 => self.key = Some(text("key", bytes)?),
            8 => self.properties = text("properties", bytes)?,
            9 => {
                let (name, value) = header(bytes)?;
                rules::add_header(&mut self.envelope, Cow::Borrowed(name), Cow::Borrowed(value))?;
            }
            12 => self.traceparent = text("traceparent", bytes)?,
            _ => {}
        }
        Ok(())
    }

    fn varint(&mut self, number: u32, value: u64) {
        // A uint32 is the low half of what stands on the wire.
        match number {
            10 => self.schema = Some(("schema_version", value & 0xFFFF_FFFF)),
            11 => self.schema = Some(("schema_id", value & 0xFFFF_FFFF)),
            _ => {}
        }
    }

    fn finish(self) -> Result<Event<'a>, EventError> {
        if self.name.is_empty() {
            return Err(rules::invalid("event", "is missing: the event's name"));
        }
        let name = rules::event_name(Cow::Borrowed(self.name), "event")?;
        let payload = self.payload.ok_or_else(|| rules::invalid("payload", "is missing"))?;
        let given = |text: &'a str| (!text.is_empty()).then_some(Cow::Borrowed(text));
        let mut envelope = self.envelope;
        envelope.id = given(self.id).map(|id| rules::id(id, "id")).transpose()?;
        envelope.source = given(self.source).map(|source| rules::source(source, "source")).transpose()?;
        envelope.time = self.time.map(Timestamp::text).transpose()?;
        envelope.key = self.key.map(|key| rules::key(Cow::Borrowed(key), "key")).transpose()?;
        if let Some(properties) = given(self.properties) {
            envelope.properties = rules::properties_text(properties, "properties")?;
        }
        let traceparent = given(self.traceparent);
        envelope.traceparent = traceparent.map(|text| rules::traceparent(text, "traceparent")).transpose()?;
        let schema = self.schema.map(|(field, number)| schema_reference(field, number)).transpose()?;
        Ok(Event { name, payload, envelope, schema })
    }
}

impl Timestamp {
    /// A message that stands twice is merged, field by field.
    fn merge(&mut self, message: &[u8]) -> Result<(), EventError> {
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next().map_err(malformed)? {
            match (number, field) {
                (1, Field::Varint(value)) => self.seconds = value as i64,
                (2, Field::Varint(value)) => self.nanos = value as i32,
                _ => {}
            }
        }
        Ok(())
    }

    fn text<'a>(self) -> Result<Cow<'a, str>, EventError> {
        let text = time::from_timestamp(self.seconds, self.nanos);
        let what = "is not a timestamp from 0001-01-01 to 9999-12-31 with 0 to 999999999 nanoseconds";
        text.map(Cow::Owned).ok_or_else(|| rules::invalid("time", what))
    }
}

fn header(message: &[u8]) -> Result<(&str, &[u8]), EventError> {
    let (mut name, mut value) = ("", &[][..]);
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next().map_err(malformed)? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => name = text("headers.name", bytes)?,
            (2, Field::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Ok((name, value))
}

fn schema_reference(field: &'static str, number: u64) -> Result<SchemaReference, EventError> {
    // A registry stores both numbers as signed 32-bit integers, and counts versions from 1.
    let known = u32::try_from(number).ok().filter(|n| *n <= i32::MAX as u32);
    match (field, known) {
        ("schema_version", Some(n)) if n > 0 => Ok(SchemaReference::Version(n)),
        ("schema_version", _) => Err(rules::invalid(field, "must be from 1 to 2147483647")),
        (_, Some(n)) => Ok(SchemaReference::Id(n)),
        _ => Err(rules::invalid(field, "must be from 0 to 2147483647")),
    }
}

fn text<'a>(field: &str, bytes: &'a [u8]) -> Result<&'a str, EventError> {
    simdutf8::basic::from_utf8(bytes)
        .map_err(|_| EventError::new(Code::InvalidUtf8, format!("`{field}` of the envelope is not valid UTF-8")))
}

#[cold]
fn malformed(error: WireError) -> EventError {
    let message = format!("the event is not an `iguazu.v1.Event`: at byte {} {}", error.at, error.what);
    EventError::new(Code::MalformedProtobuf, message)
}
