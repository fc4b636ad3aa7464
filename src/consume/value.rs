//! A value and what it can become.
//!
//! In: a value's bytes and its schema. Out: a typed message, JSON, an Avro value. Never: compiled twice; what a schema's
//! values become is compiled when it is first asked for, and kept with the schema.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use apache_avro::reader::datum::GenericDatumReader;
use prost_reflect::MessageDescriptor;

use super::ReadError;
use super::framing::SchemaName;
use crate::envelope::Payload;
use crate::outcome::{Code, EventError};
use crate::route::{Encoding, Mapping, UnknownFields};
use crate::schema::ValueReader;
use crate::schema::source::Kind;
use crate::transcode::avro_text::AvroText;
use crate::transcode::back::{AvroReader, AvroSchema, AvroSchemaError};
use crate::transcode::{Output, Plan, PlanError, PlanSettings, Scratch};

/// A schema of values, compiled.
#[derive(Debug)]
pub struct ValueSchema {
    name: SchemaName,
    kind: Kind,
    text: String,
    references: Vec<String>,
    /// What the values are to become, where they cannot say it themselves.
    message: Option<MessageDescriptor>,
    reader: ValueReader,
    protobuf: OnceLock<Result<Way, PlanError>>,
    json: OnceLock<Result<Way, PlanError>>,
    avro: OnceLock<Result<AvroText, String>>,
}

/// How values become something else.
#[derive(Debug)]
enum Way {
    Avro(AvroReader),
    Json(Plan),
}

impl ValueSchema {
    pub(super) fn avro(
        name: SchemaName,
        text: &str,
        references: Vec<String>,
        message: Option<MessageDescriptor>,
    ) -> Result<ValueSchema, AvroSchemaError> {
        let reader = ValueReader::avro(text, &references)?;
        Ok(ValueSchema { references, message, ..ValueSchema::new(name, Kind::Avro, text, reader) })
    }

    pub(super) fn protobuf(name: SchemaName, text: &str, own: MessageDescriptor) -> ValueSchema {
        let reader = ValueReader::protobuf(own.clone());
        ValueSchema { message: Some(own), ..ValueSchema::new(name, Kind::Protobuf, text, reader) }
    }

    pub(super) fn json(name: SchemaName, text: Option<&str>, message: Option<MessageDescriptor>) -> ValueSchema {
        let new = ValueSchema::new(name, Kind::Json, text.unwrap_or_default(), ValueReader::Json);
        ValueSchema { message, ..new }
    }

    fn new(name: SchemaName, kind: Kind, text: &str, reader: ValueReader) -> ValueSchema {
        let (protobuf, json, avro) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let (text, references, message) = (text.to_owned(), Vec::new(), None);
        ValueSchema { name, kind, text, references, message, reader, protobuf, json, avro }
    }

    /// The language of the schema; [`Kind::Json`] also for JSON that no schema describes.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The schema's text as registered; empty for JSON that no schema describes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The message that values are or become: of Protobuf its own, else the one that the reader was told.
    pub fn message(&self) -> Option<&MessageDescriptor> {
        self.message.as_ref()
    }

    /// What values of Avro or JSON pass to become Protobuf.
    fn protobuf_way(&self) -> Result<&Way, ReadError> {
        self.way(&self.protobuf, Encoding::Protobuf)
    }

    fn way<'s>(&'s self, kept: &'s OnceLock<Result<Way, PlanError>>, into: Encoding) -> Result<&'s Way, ReadError> {
        let compile = || match (&self.reader, &self.message) {
            (ValueReader::Avro(schema), message) => {
                AvroReader::compile(AvroSchema::clone(schema), message.as_ref(), into).map(Way::Avro)
            }
            (_, Some(message)) => {
                let unknown_fields = UnknownFields::Drop;
                let settings = PlanSettings { encoding: into, mapping: Mapping::default(), key: None, unknown_fields };
                Plan::compile(message, &settings).map(Way::Json)
            }
            (_, None) => Err(PlanError {
                message: "the message that JSON is of must be told with `Reader::with_message`".to_owned(),
            }),
        };
        kept.get_or_init(compile).as_ref().map_err(|error| self.wrong(error.message.clone()))
    }

    fn wrong(&self, problem: String) -> ReadError {
        ReadError::Schema { schema: self.name.to_string(), problem }
    }

    fn unfit(&self, source: EventError) -> ReadError {
        ReadError::Value { schema: self.name.to_string(), source }
    }
}

/// A record's value with its schema, without framing.
#[derive(Clone, Debug)]
pub struct Value<'r> {
    bytes: &'r [u8],
    schema: Arc<ValueSchema>,
}

thread_local! {
    /// Memory of the conversions, kept from value to value.
    static MEMORY: RefCell<(Scratch, Output)> = RefCell::default();
}

impl<'r> Value<'r> {
    pub(super) fn new(bytes: &'r [u8], schema: Arc<ValueSchema>) -> Value<'r> {
        Value { bytes, schema }
    }

    /// The value without framing: an Avro datum, a Protobuf message, JSON text.
    pub fn bytes(&self) -> &'r [u8] {
        self.bytes
    }

    /// Its schema.
    pub fn schema(&self) -> &ValueSchema {
        &self.schema
    }

    /// What names its schema, for messages: `schema id 5`, `schema GUID …`, `JSON`.
    pub fn schema_name(&self) -> String {
        self.schema.name.to_string()
    }

    /// The value as a generated message. Avro and JSON are converted first, see [`Value::protobuf`].
    ///
    /// # Errors
    /// [`ReadError::Value`] when it is not one, [`ReadError::Schema`] when its schema cannot become a message.
    pub fn message<M: prost::Message + Default>(&self) -> Result<M, ReadError> {
        M::decode(self.protobuf()?.as_ref()).map_err(|error| {
            let what = format!("$: not a message of this type: {error}");
            self.schema.unfit(EventError::new(Code::MalformedProtobuf, what))
        })
    }

    /// The value as a Protobuf message on the wire; as it stands if it is one. From Avro of the mapping `presence` no
    /// descriptor is needed; Avro of `java-avro`, and JSON, become the message of
    /// [`Reader::with_message`](super::Reader::with_message).
    ///
    /// # Errors
    /// As [`Value::message`].
    pub fn protobuf(&self) -> Result<Cow<'r, [u8]>, ReadError> {
        match self.schema.kind {
            Kind::Protobuf => Ok(Cow::Borrowed(self.bytes)),
            Kind::Avro | Kind::Json => self.convert(self.schema.protobuf_way()?).map(Cow::Owned),
        }
    }

    /// The value as JSON on one line: an Avro datum by the names of its schema (numbers as numbers, times as RFC 3339, bytes
    /// as base64), a Protobuf message as proto3 JSON, JSON as it stands.
    ///
    /// # Errors
    /// [`ReadError::Value`].
    pub fn json(&self) -> Result<String, ReadError> {
        self.json_masked(&[])
    }

    /// The same, with the values at these paths of field names (`card.number`) masked.
    ///
    /// # Errors
    /// [`ReadError::Value`].
    pub fn json_masked(&self, sensitive: &[String]) -> Result<String, ReadError> {
        self.schema.reader.read(self.bytes, sensitive).map_err(|source| self.schema.unfit(source))
    }

    /// The value as proto3 JSON: the same text for the same event, whatever its encoding. Avro needs what
    /// [`Value::protobuf`] needs; JSON is taken for proto3 JSON already.
    ///
    /// # Errors
    /// As [`Value::message`].
    pub fn proto3_json(&self) -> Result<String, ReadError> {
        match self.schema.kind {
            Kind::Protobuf | Kind::Json => self.json(),
            Kind::Avro => {
                let json = self.convert(self.schema.way(&self.schema.json, Encoding::Json)?)?;
                Ok(String::from_utf8(json).expect("the back-end writes UTF-8"))
            }
        }
    }

    /// An Avro datum as a value of the crate `apache_avro`.
    ///
    /// # Errors
    /// [`ReadError::Schema`] when the value is not Avro, [`ReadError::Value`] when it is no datum of its schema.
    pub fn avro(&self) -> Result<apache_avro::types::Value, ReadError> {
        let schema = &self.schema;
        let ValueReader::Avro(own) = &schema.reader else {
            return Err(schema.wrong(format!("a value of type {} is no Avro datum", schema.kind.as_str())));
        };
        // The crate allocates what a datum announces; ours has checked by then that the datum holds it.
        own.check(self.bytes).map_err(|source| schema.unfit(source))?;
        let theirs = schema.avro.get_or_init(|| AvroText::parse(&schema.text, &schema.references));
        let theirs = theirs.as_ref().map_err(|problem| schema.wrong(problem.clone()))?;
        let reader = GenericDatumReader::builder(theirs.root()).writer_schemata(vec![theirs.family()]);
        let reader = reader.and_then(|reader| reader.build()).map_err(|error| schema.wrong(error.to_string()))?;
        reader.read_value(&mut &self.bytes[..]).map_err(|error| schema.wrong(error.to_string()))
    }

    fn convert(&self, way: &Way) -> Result<Vec<u8>, ReadError> {
        MEMORY.with_borrow_mut(|(scratch, output)| {
            output.clear();
            let done = match way {
                Way::Avro(reader) => reader.transcode(self.bytes, scratch, output),
                Way::Json(plan) => plan.transcode(Payload::Json(self.bytes), scratch, output),
            };
            done.map(|()| output.value.clone()).map_err(|source| self.schema.unfit(source))
        })
    }
}
