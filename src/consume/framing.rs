//! Which schema a record's value has.
//!
//! In: a value, and its record's envelope. Out: the name of its schema, and the bytes that are the value itself. Never: asks
//! anybody.

use std::fmt;

use crate::envelope::framing::{self, FramingError};
use crate::envelope::headers::ReadEnvelope;

/// How a record names its value's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SchemaName {
    /// Not at all: it is JSON.
    None,
    /// By the registry's id, in front of the value.
    Id(u32),
    /// By its GUID, in the header `__value_schema_id`.
    Guid([u8; 16]),
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SchemaName::None => f.write_str("JSON"),
            SchemaName::Id(id) => write!(f, "schema id {id}"),
            SchemaName::Guid(guid) => write!(f, "schema GUID {}", uuid::Uuid::from_bytes(*guid)),
        }
    }
}

/// A value taken out of its framing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framed<'r> {
    pub(super) schema: SchemaName,
    /// For Protobuf: where the message indexes are.
    indexes: Indexes,
    /// The value; with [`Indexes::Before`], the indexes stand in front.
    bytes: &'r [u8],
}

#[derive(Clone, Copy, Debug)]
enum Indexes {
    Before,
    /// In the header, of which so many bytes are theirs.
    Apart([u8; INDEX_BYTES_MAX], usize),
}

/// Messages nest far less deep in any real file.
const INDEX_BYTES_MAX: usize = 64;

impl<'r> Framed<'r> {
    /// Takes a value out of its framing. Without an envelope, a value without a prefix is taken for JSON.
    pub(super) fn of(value: &'r [u8], envelope: Option<&ReadEnvelope>) -> Result<Framed<'r>, FramingError> {
        if let Some(header) = envelope.and_then(|envelope| envelope.schema_header.as_deref()) {
            let (guid, rest) = framing::read_header_value(header)?;
            let mut bytes = [0; INDEX_BYTES_MAX];
            bytes.get_mut(..rest.len()).ok_or(FramingError::Indexes)?.copy_from_slice(rest);
            let indexes = Indexes::Apart(bytes, rest.len());
            return Ok(Framed { schema: SchemaName::Guid(guid), indexes, bytes: value });
        }
        // JSON never begins with the prefix's zero byte; values of JSON Schema subjects have the prefix.
        let is_json = envelope.is_none_or(|envelope| envelope.content_type == "application/json");
        match framing::read_prefix(value) {
            Ok((id, bytes)) => Ok(Framed { schema: SchemaName::Id(id), indexes: Indexes::Before, bytes }),
            Err(_) if is_json => Ok(Framed { schema: SchemaName::None, indexes: Indexes::Before, bytes: value }),
            Err(error) => Err(error),
        }
    }

    /// The value, if it is of a kind that has no indexes.
    pub(super) fn plain(&self) -> &'r [u8] {
        self.bytes
    }

    /// The message indexes and the value, if it is Protobuf.
    pub(super) fn protobuf(&self) -> Result<(Vec<i32>, &'r [u8]), FramingError> {
        match &self.indexes {
            Indexes::Before => framing::read_indexes(self.bytes),
            Indexes::Apart(bytes, len) => Ok((framing::read_indexes(&bytes[..*len])?.0, self.bytes)),
        }
    }
}
