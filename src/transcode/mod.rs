//! Step 5: payload -> value and key.
//!
//! In: a Protobuf message on the wire, or proto3 JSON. Out: an Avro datum, canonical Protobuf or proto3 JSON, and the
//! record's key, by a [`Plan`] that was compiled once per schema. Never: I/O, waiting, a tree of values, an allocation
//! per field, or a payload's value in an error.

use prost_reflect::MessageDescriptor;

use crate::envelope::Payload;
use crate::outcome::EventError;
use crate::route::{Encoding, Mapping, UnknownFields};

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

/// A compiled schema. Immutable, shared by all threads.
#[derive(Debug)]
pub struct Plan {}

/// Scratch memory of one thread; empty between events, its capacity stays.
#[derive(Debug, Default)]
pub struct Scratch {}

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

impl Plan {
    /// Compiles a message. Cost: some tens of microseconds; call it on a blocking thread.
    pub fn compile(_message: &MessageDescriptor, _settings: &PlanSettings<'_>) -> Result<Plan, PlanError> {
        todo!()
    }

    /// Appends the transcoded payload to `output.value` and sets its other fields.
    pub fn transcode(
        &self,
        _payload: Payload<'_>,
        _scratch: &mut Scratch,
        _output: &mut Output,
    ) -> Result<(), EventError> {
        todo!()
    }
}

/// The Avro schema that a mapping derives from a message, as JSON text in Avro's usual member order.
pub fn avro_schema(_message: &MessageDescriptor, _mapping: &Mapping) -> Result<String, PlanError> {
    todo!()
}
