//! The way back: an Avro datum -> Protobuf, proto3 JSON, or JSON by the names of its schema.
//!
//! In: a datum without framing, the Avro schema that it was written with and, where there is one, the descriptor of the
//! message that it is to become. Out: what the plan's back-ends write, or plain JSON for people. Never: a value tree, more
//! memory than the datum's size accounts for, or a value in an error.
//!
//! | file | subject |
//! |---|---|
//! | `schema` | an Avro schema's text -> nodes |
//! | `describe` | a message from the properties of an Avro schema alone |
//! | `program` | which field fills which slot, decided once per schema and message |
//! | `datum`, `fill` | the front-end: a datum -> frames |
//! | `text` | a datum -> JSON by the names of its schema |
//! | `protobuf` | a Protobuf message -> proto3 JSON for people |
//! | `mask` | hides values in JSON |

use prost_reflect::MessageDescriptor;

use super::fail::{Naming, event_error};
use super::{Output, Plan, PlanError, PlanSettings, Scratch};
use crate::outcome::EventError;
use crate::route::{Encoding, Mapping, UnknownFields};

mod datum;
mod describe;
mod fill;
mod mask;
mod program;
mod protobuf;
mod schema;
mod text;

pub use mask::Mask;
pub use protobuf::ProtobufReader;
pub use schema::{AvroSchema, AvroSchemaError};

use program::Program;

/// Turns datums of one Avro schema into messages of one type. Immutable, shared by all threads.
#[derive(Debug)]
pub struct AvroReader {
    schema: AvroSchema,
    plan: Plan,
    program: Program,
}

impl AvroReader {
    /// Compiles a reader. `into` says what datums become: [`Encoding::Protobuf`], [`Encoding::Json`] (proto3 JSON), or
    /// [`Encoding::Avro`] by the default mapping.
    ///
    /// With `message`, datums become messages of that type: fields are matched by the schema's property `proto.number`,
    /// else by name, so schemas of older and newer versions and of either mapping can be read. Fields that the message does
    /// not have are left out and counted ([`Output::fields_dropped`]).
    ///
    /// Without it, the schema's own properties make the message. They suffice for the wire: names of messages are lost, and
    /// enums that the mapping wrote as strings need the descriptor.
    ///
    /// # Errors
    /// A schema and a message that do not fit each other, with the field's name.
    pub fn compile(
        schema: AvroSchema,
        message: Option<&MessageDescriptor>,
        into: Encoding,
    ) -> Result<AvroReader, PlanError> {
        let settings = PlanSettings {
            encoding: into,
            mapping: Mapping::default(),
            key: None,
            unknown_fields: UnknownFields::Drop,
        };
        AvroReader::compile_with(schema, message, &settings)
    }

    /// The same with settings of one's own: another mapping for [`Encoding::Avro`], other unknown fields, a key.
    ///
    /// # Errors
    /// As [`AvroReader::compile`].
    pub fn compile_with(
        schema: AvroSchema,
        message: Option<&MessageDescriptor>,
        settings: &PlanSettings<'_>,
    ) -> Result<AvroReader, PlanError> {
        let made;
        let message = match message {
            Some(message) => message,
            None => {
                made = describe::describe(&schema)?;
                &made
            }
        };
        let plan = Plan::compile(message, settings)?;
        let program = program::compile(&schema, &plan, message)?;
        Ok(AvroReader { schema, plan, program })
    }

    /// Appends what the datum becomes to `output.value`. After an error `output` holds nothing of its value.
    ///
    /// # Errors
    /// [`Code::MalformedAvro`](crate::outcome::Code::MalformedAvro) for what is no datum of the schema, and what the
    /// back-end refuses. The message begins with the path of the field.
    pub fn transcode(&self, datum: &[u8], scratch: &mut Scratch, output: &mut Output) -> Result<(), EventError> {
        scratch.clear();
        let done = self.plan.run(super::Front::Avro(self, datum), scratch, output);
        done.map_err(|fail| event_error(&self.plan, &scratch.path, &fail, Naming::Wire))
    }

    /// Reads a datum into frames.
    pub(super) fn front(&self, datum: &[u8], at: super::FrontState<'_>) -> super::fail::Done<usize> {
        let super::FrontState { frames, side, path, order, unknown, notes, out } = at;
        let datum = datum::Datum::new(datum);
        let (schema, program, plan) = (&self.schema, &self.program, &self.plan);
        fill::Filler { schema, program, plan, datum, frames, side, path, order, unknown, notes, out }.root()
    }
}
