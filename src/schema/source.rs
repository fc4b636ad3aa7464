//! A schema as a registry holds it, and the schemas that it refers to.

use serde::{Deserialize, Serialize};

/// The language of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    /// Avro, the registry's default: its answers leave the type out.
    Avro,
    /// Protobuf, as text or as a base64 `FileDescriptorProto`.
    Protobuf,
    /// JSON Schema.
    Json,
}

impl Kind {
    /// The registry's name of it, as in `schemaType`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Avro => "AVRO",
            Kind::Protobuf => "PROTOBUF",
            Kind::Json => "JSON",
        }
    }

    /// The kind with this name in `schemaType`.
    pub fn parse(name: &str) -> Option<Kind> {
        [Kind::Avro, Kind::Protobuf, Kind::Json].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A schema that another one builds on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// What the referring text calls it: an import path for Protobuf, a full name for Avro.
    pub name: String,
    /// The subject it is registered under.
    pub subject: String,
    /// Its version there.
    pub version: u32,
}

/// A schema's text and what it refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Its language.
    pub kind: Kind,
    /// Its text, exactly as registered.
    pub text: String,
    /// What it refers to directly.
    pub references: Vec<Reference>,
}

impl Schema {
    /// A schema that refers to nothing.
    pub fn new(kind: Kind, text: impl Into<String>) -> Schema {
        Schema { kind, text: text.into(), references: Vec::new() }
    }
}

/// A schema with the names that the registry gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The registry's id.
    pub id: u32,
    /// The registry's GUID, where it gives one; never computed by us.
    pub guid: Option<String>,
    /// The schema.
    pub schema: Schema,
}

/// One version of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectVersion {
    /// The subject.
    pub subject: String,
    /// The version, from 1.
    pub version: u32,
    /// What is registered there.
    pub registered: Registered,
}

/// A schema with everything that it refers to, directly or not: what it takes to compile it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family {
    /// The schema itself.
    pub root: Schema,
    /// What it refers to, by the name that the referring text uses; each stands before those that need it.
    pub imports: Vec<(String, Schema)>,
}

impl From<Schema> for Family {
    fn from(root: Schema) -> Family {
        Family { root, imports: Vec::new() }
    }
}
