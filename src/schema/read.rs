//! Values back into JSON, for people: `tail`, dry runs, `iguazu dev`.
//!
//! In: a value without framing. Out: JSON text on one line, sensitive fields masked: by the names of its schema for Avro,
//! as proto3 JSON for Protobuf, as it stands for JSON. Never: used on the path of an event.

use std::sync::{Arc, OnceLock};

use prost_reflect::MessageDescriptor;

use crate::outcome::{Code, EventError};
use crate::transcode::PlanError;
use crate::transcode::back::{AvroSchema, AvroSchemaError, Mask, ProtobufReader};

/// Reads values of one schema.
#[derive(Clone, Debug)]
pub enum ValueReader {
    /// Avro datums.
    Avro(Arc<AvroSchema>),
    /// Protobuf messages.
    Protobuf(Arc<LazyReader>),
    /// JSON text.
    Json,
}

/// A reader of Protobuf messages that is compiled when it is first used: most event types are never looked at.
#[derive(Debug)]
pub struct LazyReader {
    message: MessageDescriptor,
    reader: OnceLock<Result<ProtobufReader, PlanError>>,
}

impl ValueReader {
    /// A reader of Avro datums by a schema's text and the texts that it refers to.
    ///
    /// # Errors
    /// When the text is not a schema.
    pub fn avro(text: &str, references: &[String]) -> Result<ValueReader, AvroSchemaError> {
        Ok(ValueReader::Avro(Arc::new(AvroSchema::parse(text, references)?)))
    }

    /// A reader of messages of this type.
    pub fn protobuf(message: MessageDescriptor) -> ValueReader {
        ValueReader::Protobuf(Arc::new(LazyReader { message, reader: OnceLock::new() }))
    }

    /// A value without its framing as JSON text. `sensitive` are paths of field names (`card.number`); what they name is
    /// masked wherever lists and maps lie between.
    ///
    /// # Errors
    /// When the value is not one of the schema; the message begins with the path.
    pub fn read(&self, value: &[u8], sensitive: &[String]) -> Result<String, EventError> {
        let mask = Mask::new(sensitive);
        match self {
            ValueReader::Avro(schema) => schema.to_json(value, &mask),
            ValueReader::Protobuf(lazy) => lazy.reader()?.to_json(value, &mask),
            ValueReader::Json => mask.apply(value, None),
        }
    }
}

impl LazyReader {
    fn reader(&self) -> Result<&ProtobufReader, EventError> {
        let reader = self.reader.get_or_init(|| ProtobufReader::compile(&self.message));
        reader.as_ref().map_err(|error| EventError::new(Code::InvalidPayload, error.message.clone()))
    }
}
