//! A schema as a registry holds it, and the schemas that it refers to.

use serde::{Deserialize, Serialize};

pub use crate::route::SchemaType as Kind;

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
