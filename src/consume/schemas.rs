//! Schemas of values, from the registry, and a small cache of them.
//!
//! In: how a record names its value's schema. Out: the value with its schema, compiled. Never: keeps more than
//! [`SCHEMAS_MAX`], or what may change: a registry that does not answer is asked again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use prost_reflect::MessageDescriptor;

use super::ReadError;
use super::framing::{Framed, SchemaName};
use super::value::{Value, ValueSchema};
use crate::schema::source::{Family, Kind, Schema};
use crate::schema::{Registry, RegistryError, compile};

/// Schemas that are kept. A topic has a few; beyond this the cache begins anew.
const SCHEMAS_MAX: usize = 1_000;

/// The registry and what it said.
#[derive(Debug)]
pub(super) struct Schemas {
    registry: Option<Registry>,
    /// Where a GUID is looked for in registries that cannot be asked for one.
    pub(super) subjects: Vec<String>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// What a schema is says whether message indexes stand in front of the value.
    kinds: HashMap<SchemaName, Kind>,
    schemas: HashMap<Key, Arc<ValueSchema>>,
}

/// A schema, for Protobuf the message in it, and the message that its values are to become.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    name: SchemaName,
    indexes: Vec<i32>,
    message: Option<usize>,
}

impl Schemas {
    pub(super) fn new(registry: Option<Registry>) -> Schemas {
        Schemas { registry, subjects: Vec::new(), held: Mutex::default() }
    }

    /// The value with its schema, if that is here.
    pub(super) fn known<'r>(
        &self,
        framed: &Framed<'r>,
        message: Option<(usize, &MessageDescriptor)>,
    ) -> Result<Option<Value<'r>>, ReadError> {
        let mut held = self.held();
        let kind = match framed.schema {
            SchemaName::None => Some(Kind::Json),
            name => held.kinds.get(&name).copied(),
        };
        let Some(kind) = kind else { return Ok(None) };
        let (key, bytes) = key(framed, kind, message)?;
        if framed.schema == SchemaName::None && !held.schemas.contains_key(&key) {
            let schema = ValueSchema::json(framed.schema, None, message.map(|(_, message)| message.clone()));
            held.schemas.insert(key.clone(), Arc::new(schema));
        }
        Ok(held.schemas.get(&key).map(|schema| Value::new(bytes, Arc::clone(schema))))
    }

    /// The value with its schema, by way of the registry.
    pub(super) async fn fetch<'r>(
        &self,
        framed: &Framed<'r>,
        message: Option<(usize, &MessageDescriptor)>,
    ) -> Result<Value<'r>, ReadError> {
        let name = framed.schema;
        let registry = self.registry.as_ref().ok_or_else(|| ReadError::NoRegistry(name.to_string()))?;
        let schema = self.ask(registry, name).await?;
        let kind = schema.kind;
        let family = registry.family(&name.to_string(), &schema).await?;
        let (key, bytes) = key(framed, kind, message)?;
        let message = message.map(|(_, message)| message.clone());
        let compiled = compiled(name, &family, &key.indexes, message)
            .map_err(|problem| ReadError::Schema { schema: name.to_string(), problem })?;
        let compiled = Arc::new(compiled);
        let mut held = self.held();
        if held.schemas.len() >= SCHEMAS_MAX {
            *held = Held::default();
        }
        held.kinds.insert(name, kind);
        held.schemas.insert(key, Arc::clone(&compiled));
        Ok(Value::new(bytes, compiled))
    }

    async fn ask(&self, registry: &Registry, name: SchemaName) -> Result<Schema, RegistryError> {
        match name {
            SchemaName::None => unreachable!("bare JSON is always known"),
            SchemaName::Id(id) => Ok(registry.schema(id).await?.schema.clone()),
            SchemaName::Guid(guid) => {
                let guid = uuid::Uuid::from_bytes(guid);
                match registry.schema_by_guid(&guid.to_string()).await {
                    Err(RegistryError::NotFound { .. } | RegistryError::Invalid { .. })
                        if !self.subjects.is_empty() =>
                    {
                        self.search(registry, guid).await
                    }
                    answer => answer,
                }
            }
        }
    }

    /// Looks for a GUID among the versions of the subjects.
    async fn search(&self, registry: &Registry, guid: uuid::Uuid) -> Result<Schema, RegistryError> {
        for subject in &self.subjects {
            let versions = match registry.versions(subject).await {
                Err(RegistryError::NotFound { .. }) => continue,
                versions => versions?,
            };
            for version in versions.into_iter().rev() {
                let registered = registry.version(subject, version).await?.registered;
                let is_it = |text: &str| text.parse::<uuid::Uuid>().is_ok_and(|found| found == guid);
                if registered.guid.as_deref().is_some_and(is_it) {
                    return Ok(registered.schema);
                }
            }
        }
        registry.schema_by_guid(&guid.to_string()).await
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no code panics while it holds this lock")
    }
}

/// Which schema it is, and the value's own bytes.
fn key<'r>(
    framed: &Framed<'r>,
    kind: Kind,
    message: Option<(usize, &MessageDescriptor)>,
) -> Result<(Key, &'r [u8]), ReadError> {
    let (indexes, bytes) = match kind {
        Kind::Protobuf => framed.protobuf()?,
        Kind::Avro | Kind::Json => (Vec::new(), framed.plain()),
    };
    Ok((Key { name: framed.schema, indexes, message: message.map(|(at, _)| at) }, bytes))
}

fn compiled(
    name: SchemaName,
    family: &Family,
    indexes: &[i32],
    message: Option<MessageDescriptor>,
) -> Result<ValueSchema, String> {
    match family.root.kind {
        Kind::Avro => {
            let references = family.imports.iter().map(|(_, schema)| schema.text.clone()).collect();
            ValueSchema::avro(name, &family.root.text, references, message).map_err(|error| error.to_string())
        }
        Kind::Protobuf => {
            let compiled = compile::compile("value.proto", family).map_err(|error| error.to_string())?;
            let own = message_at(compiled.file.messages().collect(), indexes);
            let own = own.ok_or_else(|| format!("it has no message with indexes {indexes:?}"))?;
            Ok(ValueSchema::protobuf(name, &family.root.text, own))
        }
        Kind::Json => Ok(ValueSchema::json(name, Some(&family.root.text), message)),
    }
}

fn message_at(messages: Vec<MessageDescriptor>, indexes: &[i32]) -> Option<MessageDescriptor> {
    let (first, rest) = indexes.split_first()?;
    let message = messages.into_iter().nth(usize::try_from(*first).ok()?)?;
    if rest.is_empty() { Some(message) } else { message_at(message.child_messages().collect(), rest) }
}
