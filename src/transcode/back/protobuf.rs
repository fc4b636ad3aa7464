//! A Protobuf message as JSON text for people: proto3 JSON, masked.
//!
//! In: a message on the wire and its descriptor. Out: its proto3 JSON on one line. Never: refuses what can be shown:
//! unknown fields are left out, a timestamp out of range is shown as the nearest in range.

use prost_reflect::MessageDescriptor;

use super::Mask;
use crate::envelope::Payload;
use crate::outcome::EventError;
use crate::route::{Encoding, Mapping, Presence, TimestampPolicy, UnknownFields};
use crate::transcode::{Output, Plan, PlanError, PlanSettings, Scratch};

/// Shows messages of one type. Immutable, shared by all threads.
#[derive(Debug)]
pub struct ProtobufReader {
    message: MessageDescriptor,
    plan: Plan,
}

impl ProtobufReader {
    /// Compiles a reader.
    ///
    /// # Errors
    /// What cannot be a plan: see [`Plan::compile`].
    pub fn compile(message: &MessageDescriptor) -> Result<ProtobufReader, PlanError> {
        let settings = PlanSettings {
            encoding: Encoding::Json,
            mapping: Mapping::Presence(Presence { invalid_timestamp: TimestampPolicy::Clamp, ..Presence::default() }),
            key: None,
            unknown_fields: UnknownFields::Drop,
        };
        Ok(ProtobufReader { message: message.clone(), plan: Plan::compile(message, &settings)? })
    }

    /// A message as proto3 JSON; what `mask` names is masked.
    ///
    /// # Errors
    /// When the bytes are not a message of the type, or have no JSON form.
    pub fn to_json(&self, value: &[u8], mask: &Mask) -> Result<String, EventError> {
        let mut output = Output::default();
        self.plan.transcode(Payload::Protobuf(value), &mut Scratch::default(), &mut output)?;
        mask.apply(&output.value, Some(&self.message))
    }
}
