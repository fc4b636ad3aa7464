//! Step 4: subject -> schema.
//!
//! In: the subjects that event types name, fetched ahead from a Confluent-compatible registry. Out: for each event
//! type a [`SchemaSet`]: every loaded version with its compiled plan and framing bytes. Never: a registry call on the
//! path of an event, a registration while producing.
//!
//! In the order of the work: [`client`] asks the registry, [`compile`] turns Protobuf text into a message,
//! [`structure`] finds the Avro schema that equals the derived one, [`load`] puts a [`SchemaSet`] together and keeps it
//! fresh, [`snapshot`] keeps on disk what a restart needs, [`read`] turns values back into JSON for people. Beside it,
//! [`compatibility`] says whether one schema may follow another, for whoever registers.

use std::sync::Arc;

use crate::envelope::SchemaReference;
use crate::outcome::{Code, EventError};
use crate::transcode::Transcoder;

mod avro;
mod build;
mod cache;
pub mod client;
pub mod compatibility;
pub mod compile;
mod connect;
#[cfg(test)]
mod hostile_avro_tests;
mod limits;
pub mod load;
pub mod protos;
pub mod read;
mod references;
pub mod register;
pub mod repository;
pub mod snapshot;
pub mod source;
pub mod structure;

pub use client::{Registry, RegistryError};
pub use load::{Loaded, Loader, Refreshed, SchemaError, Stale};
pub use read::ValueReader;
pub(crate) use snapshot::replace_file;

/// The versions of an event type's subject that are loaded, compiled and ready.
#[derive(Clone, Debug)]
pub struct SchemaSet {
    /// The subject, for messages.
    pub subject: String,
    /// Position in `versions` of the one that events without a reference use.
    pub default: usize,
    /// Loaded versions, newest last.
    pub versions: Vec<Arc<Compiled>>,
}

/// One version of a subject, ready for the path of an event.
#[derive(Debug)]
pub struct Compiled {
    /// Version of the source subject.
    pub version: u32,
    /// Registry id of the source schema.
    pub id: u32,
    /// Registry id that the value's framing names: that of the Avro schema where it is derived, else the source's.
    pub value_id: u32,
    /// What turns payloads into values.
    pub plan: Transcoder,
    /// Bytes in front of the value (prefix framing), or empty.
    pub prefix: Vec<u8>,
    /// Value of the record header `__value_schema_id` (header framing), or empty.
    pub header: Vec<u8>,
    /// Turns values back into JSON, for people.
    pub reader: ValueReader,
}

impl SchemaSet {
    /// The version that an event wants. Unknown ones are an error, never a fetch.
    pub fn get(&self, reference: Option<SchemaReference>) -> Result<&Compiled, EventError> {
        let found = match reference {
            None => self.versions.get(self.default),
            Some(SchemaReference::Version(n)) => self.versions.iter().find(|v| v.version == n),
            Some(SchemaReference::Id(id)) => self.versions.iter().find(|v| v.id == id),
        };
        found.map(Arc::as_ref).ok_or_else(|| self.unknown(reference))
    }

    #[cold]
    fn unknown(&self, reference: Option<SchemaReference>) -> EventError {
        let loaded: Vec<_> = self.versions.iter().map(|v| format!("{} (id {})", v.version, v.id)).collect();
        let wanted = match reference {
            Some(SchemaReference::Version(n)) => format!("version {n}"),
            Some(SchemaReference::Id(id)) => format!("id {id}"),
            None => "a default version".to_owned(),
        };
        let (subject, loaded) = (&self.subject, loaded.join(", "));
        EventError::new(Code::UnknownSchema, format!("subject `{subject}` has no {wanted} loaded; loaded: {loaded}"))
    }
}

impl Compiled {
    /// A value as it stands in Kafka, framing included, as JSON text; sensitive fields are masked. Nothing when the
    /// value is not one of this schema. For people and tools, never for the path of an event.
    pub fn value_as_json(&self, value: &[u8], sensitive: &[String]) -> Option<String> {
        let datum = value.strip_prefix(self.prefix.as_slice())?;
        self.reader.read(datum, sensitive).ok()
    }
}
