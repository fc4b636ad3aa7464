//! The Kafka header codec, both ways.

use super::Envelope;
use crate::route::{EnvelopeForm, EventType};

/// The headers of one record in one flat buffer, reused from event to event.
#[derive(Debug, Default)]
pub struct HeaderBuffer {
    bytes: Vec<u8>,
    /// Length of name and of value of each header, in order.
    lengths: Vec<(u32, u32)>,
}

impl HeaderBuffer {
    /// Empties it, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lengths.clear();
    }

    /// Appends one header.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(value);
        self.lengths.push((name.len() as u32, value.len() as u32));
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
        self.bytes.len()
    }

    /// Name and value of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.lengths.iter().map(move |&(name, value)| {
            let (head, tail) = rest.split_at(name as usize);
            let (body, tail) = tail.split_at(value as usize);
            rest = tail;
            (std::str::from_utf8(head).expect("pushed as &str"), body)
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

/// Writes an envelope as the event type's form wants it.
pub fn write(_envelope: &Envelope<'_>, _stamp: &Stamp<'_>, _event_type: &EventType, _out: &mut HeaderBuffer) {
    let _ = EnvelopeForm::Single;
    todo!()
}
