//! Puts Protobuf files into a registry, for the event types that use them.
//!
//! In: files, event types, a registry. Out: each event type's Protobuf schema registered with what it imports, and the
//! derived Avro schema where it is stored as Avro. For `iguazu dev` and `iguazu schema register`; the proxy never registers.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, FileDescriptor};

use super::protos::ProtoFiles;
use crate::route::{Encoding, EventType, SchemaType};
use crate::schema::register::{self, Registration};
use crate::schema::source::{Kind, Reference, Schema, SubjectVersion};
use crate::schema::{Registry, SchemaError};

/// Why an event type's schema cannot be registered.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum RegisterError {
    #[error("event `{event}`: no file has the message `{message}`; add its folder with `--proto DIR`")]
    NoMessage { event: String, message: String },
    #[error("event `{event}`")]
    Event { event: String, source: SchemaError },
    #[error("import `{file}`")]
    Import { file: String, source: SchemaError },
}

/// What was registered for an event type.
#[derive(Clone, Debug)]
pub struct Done {
    /// Event name.
    pub event: String,
    /// Its Protobuf schema.
    pub source: SubjectVersion,
    /// Its derived Avro schema, if it is stored as Avro.
    pub avro: Option<SubjectVersion>,
}

/// Registers what one event type after the other needs; files that are imported, once.
#[derive(Debug)]
pub struct Registering<'a> {
    registry: &'a Registry,
    files: &'a ProtoFiles,
    pool: &'a DescriptorPool,
    imports: HashMap<String, Reference>,
}

impl<'a> Registering<'a> {
    /// Nothing is sent yet.
    pub fn new(registry: &'a Registry, files: &'a ProtoFiles, pool: &'a DescriptorPool) -> Self {
        Registering { registry, files, pool, imports: HashMap::new() }
    }

    /// Registers an event type's schemas. None for an event type without a schema of Protobuf.
    pub async fn event_type(&mut self, event_type: &EventType) -> Result<Option<Done>, RegisterError> {
        // Avro and JSON Schema subjects are no files of this kind: whoever owns them registers them.
        let Some(subject) = event_type.subject.as_ref().filter(|_| event_type.schema_type == SchemaType::Protobuf)
        else {
            return Ok(None);
        };
        let event = event_type.name.clone();
        let name = event_type.message.as_ref().unwrap_or(subject);
        let message = self.pool.get_message_by_name(name);
        let message =
            message.ok_or_else(|| RegisterError::NoMessage { event: event.clone(), message: name.clone() })?;
        let schema = self.schema(&message.parent_file()).await?;
        let failed = |source| RegisterError::Event { event: event.clone(), source };
        if event_type.encoding != Encoding::Avro {
            let source = register::register(self.registry, subject, &schema).await.map_err(failed)?;
            return Ok(Some(Done { event, source, avro: None }));
        }
        let registration = Registration {
            subject,
            schema: &schema,
            message: event_type.message.as_deref(),
            mapping: event_type.mapping,
            avro_subject: event_type.avro_subject.as_deref(),
        };
        let both = register::register_derived(self.registry, &registration).await.map_err(failed)?;
        Ok(Some(Done { event, source: both.source, avro: Some(both.avro) }))
    }

    /// A file as a schema, once everything that it imports is registered: each under its import name, as Confluent's
    /// serializers do it. Files that a file imports stand before it, so that the list is worked through from its end.
    async fn schema(&mut self, file: &FileDescriptor) -> Result<Schema, RegisterError> {
        let mut open = vec![file.clone()];
        loop {
            let next = open.last().expect("the loop ends with the first file").clone();
            let missing: Vec<_> =
                self.own_imports(&next).filter(|import| !self.imports.contains_key(import.name())).collect();
            if !missing.is_empty() {
                open.extend(missing);
                continue;
            }
            let references = self.own_imports(&next).map(|import| self.imports[import.name()].clone()).collect();
            let text = self.files.text(next.name()).unwrap_or_default().to_owned();
            let schema = Schema { kind: Kind::Protobuf, text, references };
            open.pop();
            if open.is_empty() {
                return Ok(schema);
            }
            if !self.imports.contains_key(next.name()) {
                let name = next.name().to_owned();
                let failed = |source| RegisterError::Import { file: name.clone(), source };
                let found = register::register(self.registry, &name, &schema).await.map_err(failed)?;
                let reference = Reference { name: name.clone(), subject: name.clone(), version: found.version };
                self.imports.insert(name, reference);
            }
        }
    }

    /// What a file imports, but Google's own files, which every reader of Protobuf brings along.
    fn own_imports(&self, file: &FileDescriptor) -> impl Iterator<Item = FileDescriptor> {
        let imports: Vec<_> = file.dependencies().filter(|import| self.files.text(import.name()).is_some()).collect();
        imports.into_iter()
    }
}
