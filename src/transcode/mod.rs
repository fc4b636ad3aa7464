//! Step 5: payload -> value and key.
//!
//! In: a Protobuf message on the wire, or proto3 JSON. Out: an Avro datum, canonical Protobuf or proto3 JSON, and the
//! record's key, by a [`Plan`] that was compiled once per schema. Never: I/O, waiting, a tree of values, an allocation
//! per field, or a payload's value in an error.
//!
//! Event types whose subject is not Protobuf have plans of their own: [`avro_in`] and [`json_schema`]. A [`Transcoder`] is the
//! one of the three that a version of a subject has.
//!
//! | file | subject |
//! |---|---|
//! | `plan` | the tables: how each field is read, kept and written |
//! | `compile` | makes them of a descriptor |
//! | `avro_ops` | what fields are in Avro, by the mapping |
//! | `well_known`, `editions` | well-known types; files of Protobuf's editions |
//! | `names` | JSON member name -> slot |
//! | `slots` | frames of slots and lists of nodes, where values stand between reading and writing |
//! | `maps` | entries of map fields, each key once |
//! | `wire`, `json` | the front-ends: fill frames from Protobuf, from proto3 JSON |
//! | `avro`, `protobuf`, `json_out` | the back-ends: write frames |
//! | `direct` | from the wire to Avro in one pass, without slots, if the fields come in order |
//! | `key` | the record's key |
//! | `avro_schema`, `java_schema` | the Avro schema of the mapping `presence`, of `java-avro` |
//! | `time` | timestamps and durations |
//! | `buffer`, `fail` | output bytes; errors and their paths |
//! | `back` | the way back: an Avro datum as a front-end, and values as JSON for people |
//! | `subject` | the plan that a subject's language asks for |
//! | `avro_limits`, `avro_text` | how large Avro schemas may be; their texts as the crate `apache_avro` may see them |
//! | `avro_in` | payloads of Avro subjects |
//! | `json_schema` | payloads of JSON Schema subjects |

use prost_reflect::MessageDescriptor;

use crate::envelope::Payload;
use crate::outcome::{Code, EventError};
use crate::route::{Encoding, Mapping, UnknownFields};

mod avro;
pub mod avro_in;
pub(crate) mod avro_limits;
mod avro_ops;
mod avro_schema;
pub(crate) mod avro_text;
pub mod back;
mod buffer;
mod compile;
mod direct;
mod editions;
mod fail;
mod java_schema;
mod json;
mod json_out;
pub mod json_schema;
mod key;
mod maps;
mod names;
mod plan;
mod protobuf;
mod slots;
mod subject;
mod time;
mod well_known;
mod wire;

#[cfg(test)]
mod tests;

pub use editions::{lower_editions, read_descriptor_set};
use fail::{Done, Fail, Naming, event_error};
pub use plan::Plan;
pub use slots::Scratch;
use slots::{Frames, Notes, Slots, Span};
pub use subject::Transcoder;

/// What a plan is compiled for, beside the message.
#[derive(Clone, Copy, Debug)]
pub struct PlanSettings<'a> {
    /// What the value is to be; never [`Encoding::RawJson`].
    pub encoding: Encoding,
    /// Mapping to Avro and its policies.
    pub mapping: Mapping,
    /// Path of the field that is the record's key (`order.id`).
    pub key: Option<&'a str>,
    /// What happens to unknown fields.
    pub unknown_fields: UnknownFields,
}

/// Why a message cannot be transcoded at all: told when the plan is compiled, never per event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    /// What is wrong, with the field's full name.
    pub message: String,
}

/// What one event became. Reused from event to event: [`Output::clear`] keeps the capacity.
#[derive(Debug, Default)]
pub struct Output {
    /// The record's value. The caller may have put schema framing in front; the plan appends.
    pub value: Vec<u8>,
    /// The record's key, if `has_key`.
    pub key: Vec<u8>,
    /// Whether the key field was present.
    pub has_key: bool,
    /// Fields that were left out because the schema does not have them.
    pub fields_dropped: u32,
    /// Path of the first of them: a JSON path or a field number.
    pub first_dropped: String,
    /// Members for the envelope's `properties` (`"name":value` pairs, comma separated, without braces).
    pub properties: Vec<u8>,
    /// Enum numbers that were written as the default symbol.
    pub enums_defaulted: u32,
}

impl Output {
    /// Empties everything, keeps the memory.
    pub fn clear(&mut self) {
        self.value.clear();
        self.key.clear();
        self.has_key = false;
        self.fields_dropped = 0;
        self.first_dropped.clear();
        self.properties.clear();
        self.enums_defaulted = 0;
    }
}

/// A payload, and how it is read.
#[derive(Clone, Copy)]
enum Front<'a> {
    Wire(&'a [u8]),
    Json(&'a [u8]),
    Avro(&'a back::AvroReader, &'a [u8]),
}

/// What a front-end works on.
struct FrontState<'r> {
    frames: Frames<'r>,
    side: &'r mut Vec<u8>,
    path: &'r mut Vec<fail::Step>,
    order: &'r mut Vec<(u64, u32)>,
    unknown: &'r mut Vec<u64>,
    notes: Notes<'r>,
    out: &'r mut buffer::Buffer,
}

/// Spans count in 31 bits. Requests are limited to far less.
const PAYLOAD_BYTES_MAX: usize = 1 << 30;

impl Plan {
    /// Compiles a message. Cost: some tens of microseconds; call it on a blocking thread.
    pub fn compile(message: &MessageDescriptor, settings: &PlanSettings<'_>) -> Result<Plan, PlanError> {
        compile::compile(message, settings)
    }

    /// Appends the transcoded payload to `output.value` and sets its other fields. After an error `output` holds
    /// nothing of the event's value.
    pub fn transcode(
        &self,
        payload: Payload<'_>,
        scratch: &mut Scratch,
        output: &mut Output,
    ) -> Result<(), EventError> {
        scratch.clear();
        let (front, naming) = match payload {
            Payload::Json(text) => (Front::Json(text), Naming::Json),
            Payload::Protobuf(message) | Payload::Binary(message) => (Front::Wire(message), Naming::Wire),
            Payload::Avro(_) | Payload::Base64(_) => {
                let what =
                    format!("the schema is Protobuf, so the payload is JSON or Protobuf, not {}", payload.name());
                return Err(EventError::new(Code::WrongFormat, what));
            }
        };
        let done = self.run(front, scratch, output);
        done.map_err(|fail| event_error(self, &scratch.path, &fail, naming))
    }

    /// The steps: front-end, key, back-end.
    fn run(&self, front: Front<'_>, scratch: &mut Scratch, output: &mut Output) -> Done {
        let (payload, naming) = match front {
            Front::Json(payload) => (payload, Naming::Json),
            Front::Wire(payload) | Front::Avro(_, payload) => (payload, Naming::Wire),
        };
        if payload.len() > PAYLOAD_BYTES_MAX {
            let what = format!("the payload of {} bytes is over {PAYLOAD_BYTES_MAX} bytes", payload.len());
            return Err(Fail::new(Code::EventTooLarge, what));
        }
        let Scratch { words, nodes, unknown, side, path, order, keys, out, .. } = scratch;
        let root = match front {
            Front::Wire(_) => None,
            Front::Avro(reader, datum) => {
                let (frames, notes) = (Frames { words, nodes }, Notes { output });
                Some(reader.front(datum, FrontState { frames, side, path, order, unknown, notes, out })?)
            }
            Front::Json(_) => Some(json::read_root(&mut json::Reader {
                plan: self,
                tokens: json::Tokenizer::new(payload),
                frames: Frames { words, nodes },
                side,
                path,
                order,
                unknown,
                notes: Notes { output },
                out,
                any: json::AnyState::default(),
            })?),
        };
        let mut slots = Slots {
            plan: self,
            payload,
            side,
            naming,
            frames: Frames { words, nodes },
            path,
            order,
            notes: Notes { output },
            unnamed_enum: false,
            output_bytes_max: Slots::output_bytes_max(payload),
            fillable_words: Slots::fillable_words(payload),
        };
        let written = match root {
            None if self.encoding == Encoding::Avro => direct::write(&mut slots, keys, out),
            _ => None,
        };
        let (has_key, key_bytes) = match written {
            Some(written) => written,
            None => self.write_slots(&mut slots, root, out)?,
        };
        let (key, value) = out.content().split_at(key_bytes);
        output.has_key = has_key;
        output.key.extend_from_slice(key);
        output.value.extend_from_slice(value);
        Ok(())
    }

    /// Writes key and value by way of slots, those of `root` if they are filled: whether there is a key, and its length.
    fn write_slots(&self, slots: &mut Slots<'_>, root: Option<usize>, out: &mut buffer::Buffer) -> Done<(bool, usize)> {
        let root = match root {
            Some(root) => root,
            None => {
                let root = slots.frames.frame(&self.tables[0])?;
                wire::scan(slots, 0, root, Span::payload(0, slots.payload.len()))?;
                slots.check_required(0, root)?;
                root
            }
        };
        let has_key = !self.key.is_empty() && key::extract(slots, root, out)?;
        let key_bytes = out.len();
        match self.encoding {
            Encoding::Avro => avro::write_root(slots, root, out)?,
            Encoding::Protobuf => protobuf::write_message(slots, 0, root, out)?,
            Encoding::Json => json_out::write_message(slots, 0, root, out)?,
            Encoding::RawJson => unreachable!("compile refuses raw_json"),
        }
        Ok((has_key, key_bytes))
    }
}

/// The Avro schema that a mapping derives from a message, as JSON text in Avro's usual member order.
pub fn avro_schema(message: &MessageDescriptor, mapping: &Mapping) -> Result<String, PlanError> {
    match mapping {
        Mapping::Presence(policies) => avro_schema::derive(message, policies),
        Mapping::JavaAvro(java) => java_schema::derive(message, java),
    }
}
