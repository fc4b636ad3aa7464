//! Records back into events: what a consumer written in Rust uses.
//!
//! In: a record as any Kafka client hands it out, as plain slices; a registry for the schema that its framing names. Out: an
//! [`Event`]: its envelope, and a [`Value`] that becomes a typed message, JSON or an Avro value. Every form that the proxy
//! writes is read: CloudEvents headers and the single header, prefix and header framing, Avro, Protobuf and JSON. Never:
//! names a Kafka client, commits an offset, asks the registry twice for what cannot change.
//!
//! ```
//! # use iguazu::consume::{Dedup, Reader, Record};
//! # use std::time::{Duration, Instant};
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let reader = Reader::new(None);
//! let mut dedup = Dedup::new(100_000, Duration::from_secs(3600));
//! let headers = [
//!     ("ce_specversion", Some(&b"1.0"[..])),
//!     ("ce_id", Some(b"0190163d-8694-739b-aea5-966c26f8ad91")),
//!     ("ce_source", Some(b"checkout")),
//!     ("ce_type", Some(b"page_viewed")),
//!     ("content-type", Some(b"application/json")),
//! ];
//! let record = Record {
//!     topic: "web",
//!     key: None,
//!     headers: &headers,
//!     value: Some(br#"{"path": "/"}"#),
//!     timestamp_ms: Some(1_735_689_600_000),
//! };
//! let event = reader.read(&record).await?;
//! if !dedup.is_duplicate(&event, Instant::now()) {
//!     assert_eq!(event.value.as_ref().unwrap().json()?, r#"{"path":"/"}"#);
//!     // ... do the work, and only then:
//!     dedup.remember(&event, Instant::now());
//! }
//! # Ok::<(), iguazu::consume::ReadError>(())
//! # }).unwrap();
//! ```
//!
//! With a registry, `Reader::new(Some(registry("http://registry:8081")?))`; the first record of a schema waits for it, later
//! ones do not ([`Reader::read_known`] never waits).
//!
//! | file | subject |
//! |---|---|
//! | `framing` | which schema a record's value has |
//! | `schemas` | schemas from the registry, and a small cache of them |
//! | `value` | a value and what it can become |
//! | `dedup` | events that were seen before |

use std::collections::HashMap;

use prost_reflect::MessageDescriptor;

use crate::config;
use crate::envelope::framing::FramingError;
use crate::envelope::headers::{self, ReadEnvelope};
use crate::outcome::EventError;
use crate::schema::{Registry, RegistryError};

mod dedup;
mod framing;
mod schemas;
mod value;

pub use dedup::Dedup;
pub use value::{Value, ValueSchema};

use framing::Framed;
use schemas::Schemas;

/// A record as a Kafka client hands it out, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Record<'r> {
    /// Topic.
    pub topic: &'r str,
    /// Key; none is null.
    pub key: Option<&'r [u8]>,
    /// Headers in their order; a value of none is null.
    pub headers: &'r [(&'r str, Option<&'r [u8]>)],
    /// Value; none is null, a tombstone.
    pub value: Option<&'r [u8]>,
    /// Timestamp, milliseconds since 1970: when the proxy received the event.
    pub timestamp_ms: Option<i64>,
}

/// An event as it stands in Kafka.
#[derive(Clone, Debug)]
pub struct Event<'r> {
    /// Topic of its record.
    pub topic: &'r str,
    /// Everything beside the payload.
    pub envelope: ReadEnvelope,
    /// The payload; none is a tombstone, which the proxy never writes.
    pub value: Option<Value<'r>>,
}

/// Why a record could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The record has no envelope: the proxy did not write it.
    #[error(transparent)]
    Envelope(#[from] headers::ReadError),
    /// The bytes that name the schema are damaged.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// The registry gives no schema. Whether a later try can help says [`RegistryError::is_outage`].
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The record names a schema, but the reader was made without a registry.
    #[error("no registry is known to ask for {0}")]
    NoRegistry(String),
    /// The schema does not compile, or cannot become what was asked for.
    #[error("{schema}: {problem}")]
    Schema {
        /// What names the schema: `schema id 5`.
        schema: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The value is not one of its schema.
    #[error("the value does not fit {schema}: {source}")]
    Value {
        /// What names the schema: `schema id 5`, or `JSON`.
        schema: String,
        /// What is wrong, and where in the value.
        source: EventError,
    },
}

/// Reads records. Shared: all its calls may run at once.
#[derive(Debug)]
pub struct Reader {
    schemas: Schemas,
    /// Descriptors by event name: position in the list.
    described: HashMap<String, usize>,
    messages: Vec<MessageDescriptor>,
}

impl Reader {
    /// A reader that asks this registry for schemas; without one only bare JSON can be read.
    pub fn new(registry: Option<Registry>) -> Reader {
        Reader { schemas: Schemas::new(registry), described: HashMap::new(), messages: Vec::new() }
    }

    /// The message that events of this name are to become, whatever schema they were written with. Needed for values that
    /// cannot say it themselves: JSON, and Avro of the mapping `java-avro`.
    #[must_use]
    pub fn with_message(mut self, event: &str, message: MessageDescriptor) -> Reader {
        self.described.insert(event.to_owned(), self.messages.len());
        self.messages.push(message);
        self
    }

    /// Subjects to look through for a schema that is named by its GUID, with registries that cannot be asked for one.
    #[must_use]
    pub fn with_subjects(mut self, subjects: Vec<String>) -> Reader {
        self.schemas.subjects = subjects;
        self
    }

    /// Reads a record. The first value of a schema waits for the registry, and for the schema to be compiled.
    ///
    /// # Errors
    /// [`ReadError`]. Only that of a registry may pass by itself.
    pub async fn read<'r>(&self, record: &Record<'r>) -> Result<Event<'r>, ReadError> {
        let envelope = envelope(record)?;
        let value = match record.value {
            None => None,
            Some(bytes) => Some(self.value(bytes, Some(&envelope)).await?),
        };
        Ok(Event { topic: record.topic, envelope, value })
    }

    /// Reads a record without waiting: none when its schema is not here yet. Then [`Reader::read`] fetches it.
    ///
    /// # Errors
    /// [`ReadError`], but none of the registry.
    pub fn read_known<'r>(&self, record: &Record<'r>) -> Result<Option<Event<'r>>, ReadError> {
        let envelope = envelope(record)?;
        let value = match record.value {
            None => None,
            Some(bytes) => {
                let framed = Framed::of(bytes, Some(&envelope))?;
                match self.schemas.known(&framed, self.message_of(Some(&envelope)))? {
                    Some(value) => Some(value),
                    None => return Ok(None),
                }
            }
        };
        Ok(Some(Event { topic: record.topic, envelope, value }))
    }

    /// Reads the value of a record whose envelope was read, or that has none: then a value with Confluent's prefix is read
    /// as that says, and any other is taken for JSON.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn value<'r>(&self, bytes: &'r [u8], envelope: Option<&ReadEnvelope>) -> Result<Value<'r>, ReadError> {
        let framed = Framed::of(bytes, envelope)?;
        let message = self.message_of(envelope);
        match self.schemas.known(&framed, message)? {
            Some(value) => Ok(value),
            None => self.schemas.fetch(&framed, message).await,
        }
    }

    fn message_of(&self, envelope: Option<&ReadEnvelope>) -> Option<(usize, &MessageDescriptor)> {
        let at = *self.described.get(&envelope?.event)?;
        Some((at, &self.messages[at]))
    }
}

/// The envelope of a record, in whichever form it was written.
///
/// # Errors
/// When the record was not written by the proxy.
pub fn envelope(record: &Record<'_>) -> Result<ReadEnvelope, headers::ReadError> {
    let present = record.headers.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
    headers::read(present, record.timestamp_ms.unwrap_or(0), record.key)
}

/// A client of the registry at this base URL, with the settings that the proxy has by default.
///
/// # Errors
/// When the URL is none.
pub fn registry(url: &str) -> Result<Registry, RegistryError> {
    Registry::new(&config::Registry::at(url))
}

#[cfg(test)]
mod tests;
