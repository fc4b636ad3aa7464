//! The Kafka header codec, both ways.
//!
//! In: an envelope and what the proxy adds to it, or a record's headers. Out: the record's headers in one flat buffer, or the
//! envelope back. Never: the record's value, an allocation while writing once the buffer has grown.
//!
//! Two forms, by event type. **CloudEvents** 1.0 binary mode, one header an attribute, in this order: `ce_specversion`, `ce_id`,
//! `ce_source`, `ce_type`, `content-type`, then where there is something to say `ce_time`, `ce_properties`, `iguazu-sender`,
//! `traceparent`, `__value_schema_id`, then the sender's own. **Single**: the message `iguazu.v1.Envelope` in the header
//! `iguazu-envelope`, and `__value_schema_id` beside it, because Kafka's deserializers look for it.
//!
//! Values are plain UTF-8, as the Kafka binding of CloudEvents says. Some readers (the `core` API of the Python package
//! `cloudevents` 2.2) percent-decode them all the same, as over HTTP, so a `%` that two hexadecimal digits follow is written
//! `%25` in `ce_` headers: they read the true value, readers that do not decode see the escape, and nobody takes one value for
//! another. In `ce_properties` no reader need be wrong: JSON has its own escape for `%`.

use super::proto;
use super::wire::{push_varint, varint_len};
use super::{Envelope, framing};
use crate::route::{EnvelopeForm, EventType};

/// The header of the form `single`.
pub const SINGLE: &str = "iguazu-envelope";
/// The header that names the authenticated sender.
pub const SENDER: &str = "iguazu-sender";
/// The header of a record that went to another cluster than the one that its event type is mapped to: the name of that one.
pub const INTENDED_CLUSTER: &str = "iguazu-intended-cluster";
/// The header of a record that goes without its key, because too many others have it: the key.
pub const HOT_KEY: &str = "iguazu-hot-key";
/// The only version of `iguazu.v1.Envelope` so far.
const FORMAT_VERSION: u32 = 1;

/// The headers of one record in two flat buffers, reused from event to event. Names are kept as text, so that reading them
/// back need not check them again.
#[derive(Debug, Default)]
pub struct HeaderBuffer {
    names: String,
    values: Vec<u8>,
    /// Length of name and of value of each header, in order.
    lengths: Vec<(u32, u32)>,
}

impl HeaderBuffer {
    /// Empties it, keeps the memory.
    pub fn clear(&mut self) {
        self.names.clear();
        self.values.clear();
        self.lengths.clear();
    }

    /// Appends one header.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        self.push_with(name, |bytes| bytes.extend_from_slice(value));
    }

    /// Appends one header whose value is written in place.
    fn push_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.names.push_str(name);
        let start = self.values.len();
        write(&mut self.values);
        self.lengths.push((name.len() as u32, (self.values.len() - start) as u32));
    }

    /// Number of headers.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.names.len() + self.values.len()
    }

    /// Name and value of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let (mut names, mut values) = (self.names.as_str(), self.values.as_slice());
        self.lengths.iter().map(move |&(name_bytes, value_bytes)| {
            let (name, value);
            (name, names) = names.split_at(name_bytes as usize);
            (value, values) = values.split_at(value_bytes as usize);
            (name, value)
        })
    }
}

/// What the proxy itself adds to an envelope before it is written.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// The event's id: the sender's, or a UUIDv7 of ours.
    pub id: &'a str,
    /// The event's source: the envelope's, or the sender's name.
    pub source: &'a str,
    /// Name of the authenticated sender, if any.
    pub sender: Option<&'a str>,
    /// `properties` after unknown fields were moved there.
    pub properties: Option<&'a str>,
    /// Trace context: the event's, or the request's.
    pub traceparent: Option<&'a str>,
    /// When the proxy received it, milliseconds since 1970.
    pub received_ms: u64,
    /// Value of `__value_schema_id`, or empty.
    pub schema_header: &'a [u8],
}

/// Writes an envelope as the event type's form wants it. Of the envelope itself only `time` and `headers` are read: the stamp
/// has the rest, and the record its key.
pub fn write(envelope: &Envelope<'_>, stamp: &Stamp<'_>, event_type: &EventType, out: &mut HeaderBuffer) {
    match event_type.envelope {
        EnvelopeForm::CloudEvents => {
            write_cloud_events(envelope, stamp, &event_type.name, event_type.encoding.content_type(), out);
        }
        EnvelopeForm::Single => write_single(envelope, stamp, event_type, out),
    }
}

/// Writes the form `cloudevents`, with a value of this content type.
pub fn write_cloud_events(
    envelope: &Envelope<'_>,
    stamp: &Stamp<'_>,
    event: &str,
    content_type: &str,
    out: &mut HeaderBuffer,
) {
    out.push("ce_specversion", b"1.0");
    push_attribute(out, "ce_id", stamp.id.as_bytes());
    push_attribute(out, "ce_source", stamp.source.as_bytes());
    push_attribute(out, "ce_type", event.as_bytes());
    out.push("content-type", content_type.as_bytes());
    if let Some(time) = &envelope.time {
        out.push("ce_time", time.as_bytes());
    }
    if let Some(properties) = stamp.properties {
        out.push_with("ce_properties", |bytes| push_json(bytes, properties));
    }
    if let Some(sender) = stamp.sender {
        out.push(SENDER, sender.as_bytes());
    }
    if let Some(traceparent) = stamp.traceparent {
        out.push("traceparent", traceparent.as_bytes());
    }
    push_schema(out, stamp);
    for (name, value) in &envelope.headers {
        // Only the door that takes `ce-` headers makes such names: they are attributes, too.
        match name.starts_with("ce_") {
            true => push_attribute(out, name, value),
            false => out.push(name, value),
        }
    }
}

fn push_schema(out: &mut HeaderBuffer, stamp: &Stamp<'_>) {
    if !stamp.schema_header.is_empty() {
        out.push(framing::HEADER, stamp.schema_header);
    }
}

/// Writes an attribute; a `%` that some readers would take for an escape becomes `%25`.
fn push_attribute(out: &mut HeaderBuffer, name: &str, value: &[u8]) {
    out.push_with(name, |bytes| {
        let mut rest = value;
        while let Some(percent) = memchr::memchr(b'%', rest) {
            let (before, after) = rest.split_at(percent + 1);
            bytes.extend_from_slice(before);
            if matches!(after, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()) {
                bytes.extend_from_slice(b"25");
            }
            rest = after;
        }
        bytes.extend_from_slice(rest);
    });
}

/// Writes JSON text on one line and without a `%`. In valid JSON a line end can only stand between tokens and a `%` only in a
/// string, so neither needs a look at what is around it.
fn push_json(out: &mut Vec<u8>, json: &str) {
    let special = |b: &u8| matches!(b, b'%' | b'\n' | b'\r' | b'\t');
    let mut rest = json.as_bytes();
    while let Some(at) = rest.iter().position(special) {
        out.extend_from_slice(&rest[..at]);
        if rest[at] == b'%' {
            out.extend_from_slice(b"\\u0025");
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Writes `iguazu.v1.Envelope` by hand, in the order of its numbers as a generated encoder would.
fn write_single(envelope: &Envelope<'_>, stamp: &Stamp<'_>, event_type: &EventType, out: &mut HeaderBuffer) {
    out.push_with(SINGLE, |bytes| {
        push_number(bytes, 1, u64::from(FORMAT_VERSION));
        push_bytes(bytes, 2, stamp.id.as_bytes());
        push_bytes(bytes, 3, stamp.source.as_bytes());
        push_bytes(bytes, 4, event_type.name.as_bytes());
        push_bytes(bytes, 5, event_type.encoding.content_type().as_bytes());
        push_bytes(bytes, 6, envelope.time.as_deref().unwrap_or_default().as_bytes());
        push_number(bytes, 7, stamp.received_ms);
        push_bytes(bytes, 8, stamp.sender.unwrap_or_default().as_bytes());
        push_bytes(bytes, 9, stamp.properties.unwrap_or_default().as_bytes());
        push_bytes(bytes, 10, stamp.traceparent.unwrap_or_default().as_bytes());
        for (name, value) in &envelope.headers {
            push_tag(bytes, 11, 2);
            push_varint(bytes, (bytes_len(name.as_bytes()) + bytes_len(value)) as u64);
            push_bytes(bytes, 1, name.as_bytes());
            push_bytes(bytes, 2, value);
        }
    });
    push_schema(out, stamp);
}

/// A field of ours has a number below 16, so its tag is one byte.
fn push_tag(out: &mut Vec<u8>, number: u8, wire_type: u8) {
    out.push(number << 3 | wire_type);
}

fn push_number(out: &mut Vec<u8>, number: u8, value: u64) {
    if value != 0 {
        push_tag(out, number, 0);
        push_varint(out, value);
    }
}

fn push_bytes(out: &mut Vec<u8>, number: u8, value: &[u8]) {
    if !value.is_empty() {
        push_tag(out, number, 2);
        push_varint(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}

/// What [`push_bytes`] appends.
fn bytes_len(value: &[u8]) -> usize {
    if value.is_empty() { 0 } else { 1 + varint_len(value.len() as u64) + value.len() }
}

/// An envelope as a consumer reads it back from a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadEnvelope {
    /// Event name.
    pub event: String,
    /// Id of the event.
    pub id: String,
    /// Who the event comes from.
    pub source: String,
    /// Media type of the record's value.
    pub content_type: String,
    /// When the event happened, RFC 3339, if its sender said.
    pub time: Option<String>,
    /// When the proxy received it, milliseconds since 1970: from the envelope where it says so, else the record's timestamp.
    pub received_ms: i64,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The authenticated sender.
    pub sender: Option<String>,
    /// The non-schematised JSON object, as text.
    pub properties: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Value of `__value_schema_id`; see [`framing::read_header_value`].
    pub schema_header: Option<Vec<u8>>,
    /// All other headers: the sender's own, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Why a record's headers are no envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A header that every envelope has is not there: the record is not one of ours.
    #[error("the record has no header `{0}`")]
    Missing(&'static str),
    /// A header that is text is not.
    #[error("header `{0}` is not valid UTF-8")]
    NotText(String),
    /// The envelope was written by a later version.
    #[error("header `iguazu-envelope` has format version {0}, this reader knows version {FORMAT_VERSION}")]
    FormatVersion(u32),
    /// The header of the form `single` is damaged.
    #[error("header `iguazu-envelope` is not an `iguazu.v1.Envelope`")]
    Malformed(#[source] prost::DecodeError),
}

/// Reads the envelope of a record, in whichever form it was written. `timestamp_ms` and `key` are the record's own.
///
/// # Errors
/// [`ReadError`], for records that were not written by [`write()`].
pub fn read<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    timestamp_ms: i64,
    key: Option<&[u8]>,
) -> Result<ReadEnvelope, ReadError> {
    let mut found = Found::default();
    for (name, value) in headers {
        found.add(name, value)?;
    }
    let key = key.map(<[u8]>::to_vec);
    match found.single.take() {
        Some(single) => found.into_single(single, timestamp_ms, key),
        None => found.into_cloud_events(timestamp_ms, key),
    }
}

/// The headers of a record by what they say.
#[derive(Default)]
struct Found {
    single: Option<Vec<u8>>,
    event: Option<String>,
    id: Option<String>,
    source: Option<String>,
    content_type: Option<String>,
    time: Option<String>,
    sender: Option<String>,
    properties: Option<String>,
    traceparent: Option<String>,
    schema_header: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Found {
    fn add(&mut self, name: &str, value: &[u8]) -> Result<(), ReadError> {
        let field = match name {
            "ce_specversion" => return Ok(()),
            "ce_id" => &mut self.id,
            "ce_source" => &mut self.source,
            "ce_type" => &mut self.event,
            "ce_time" => &mut self.time,
            "ce_properties" => &mut self.properties,
            "content-type" => &mut self.content_type,
            SENDER => &mut self.sender,
            "traceparent" => &mut self.traceparent,
            SINGLE => {
                self.single = Some(value.to_vec());
                return Ok(());
            }
            framing::HEADER => {
                self.schema_header = Some(value.to_vec());
                return Ok(());
            }
            name => {
                let value = if name.starts_with("ce_") { unescape(value) } else { value.to_vec() };
                self.headers.push((name.to_owned(), value));
                return Ok(());
            }
        };
        let value = if name.starts_with("ce_") { unescape(value) } else { value.to_vec() };
        *field = Some(String::from_utf8(value).map_err(|_| ReadError::NotText(name.to_owned()))?);
        Ok(())
    }

    fn into_cloud_events(self, timestamp_ms: i64, key: Option<Vec<u8>>) -> Result<ReadEnvelope, ReadError> {
        Ok(ReadEnvelope {
            event: self.event.ok_or(ReadError::Missing("ce_type"))?,
            id: self.id.ok_or(ReadError::Missing("ce_id"))?,
            source: self.source.ok_or(ReadError::Missing("ce_source"))?,
            content_type: self.content_type.ok_or(ReadError::Missing("content-type"))?,
            time: self.time,
            received_ms: timestamp_ms,
            key,
            sender: self.sender,
            properties: self.properties,
            traceparent: self.traceparent,
            schema_header: self.schema_header,
            headers: self.headers,
        })
    }

    fn into_single(self, single: Vec<u8>, timestamp_ms: i64, key: Option<Vec<u8>>) -> Result<ReadEnvelope, ReadError> {
        let message: proto::Envelope = prost::Message::decode(single.as_slice()).map_err(ReadError::Malformed)?;
        if message.format_version != FORMAT_VERSION {
            return Err(ReadError::FormatVersion(message.format_version));
        }
        let given = |text: String| (!text.is_empty()).then_some(text);
        let own = message.headers.into_iter().map(|header| (header.name, header.value));
        Ok(ReadEnvelope {
            event: message.r#type,
            id: message.id,
            source: message.source,
            content_type: message.content_type,
            time: given(message.time),
            received_ms: i64::try_from(message.received_ms).ok().filter(|ms| *ms > 0).unwrap_or(timestamp_ms),
            key,
            sender: given(message.sender),
            properties: given(message.properties),
            traceparent: given(message.traceparent),
            schema_header: self.schema_header,
            headers: own.chain(self.headers).collect(),
        })
    }
}

/// Undoes [`push_attribute`]: `%25` only ever stands where it wrote it.
fn unescape(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        out.push(byte);
        rest = if byte == b'%' { after.strip_prefix(b"25").unwrap_or(after) } else { after };
    }
    out
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
