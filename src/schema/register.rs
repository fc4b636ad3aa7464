//! Registration of a Protobuf schema and the Avro schema that it derives.
//!
//! In: a Protobuf text and where it goes. Out: both schemas in the registry. For `iguazu dev` and
//! `iguazu schema register`; the proxy never registers.

use super::client::Registry;
use super::compile;
use super::load::SchemaError;
use super::source::{Kind, Schema, SubjectVersion};
use crate::route::Mapping;
use crate::transcode;

/// What is to be registered.
#[derive(Clone, Debug)]
pub struct Registration<'a> {
    /// Subject of the Protobuf schema.
    pub subject: &'a str,
    /// The Protobuf schema.
    pub schema: &'a Schema,
    /// Full name of the message, where the default rule does not find it.
    pub message: Option<&'a str>,
    /// Mapping to Avro.
    pub mapping: Mapping,
    /// Subject of the derived schema, where it is not `<message full name>-avro`.
    pub avro_subject: Option<&'a str>,
}

/// Where both schemas are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BothRegistered {
    /// The Protobuf schema.
    pub source: SubjectVersion,
    /// The derived Avro schema.
    pub avro: SubjectVersion,
}

/// Registers a Protobuf schema and the Avro schema derived from it. What is registered already stays as it is. The
/// schema is compiled and derived before anything is registered, so a bad one leaves nothing behind.
pub async fn register_derived(
    registry: &Registry,
    registration: &Registration<'_>,
) -> Result<BothRegistered, SchemaError> {
    let Registration { subject, schema, .. } = *registration;
    let family = registry.family(&format!("subject `{subject}`"), schema).await?;
    let name = || format!("the schema for subject `{subject}`");
    let message = compile::compile(&format!("{subject}.proto"), &family)
        .and_then(|file| file.message(subject, registration.message))
        .map_err(|source| SchemaError::Compile { schema: name(), source })?;
    let derived = transcode::avro_schema(&message.descriptor, &registration.mapping)
        .map_err(|source| SchemaError::Plan { schema: name(), source })?;
    let avro_subject = match registration.avro_subject {
        Some(set) => set.to_owned(),
        None => format!("{}-avro", message.descriptor.full_name()),
    };
    Ok(BothRegistered {
        source: register(registry, subject, schema).await?,
        avro: register(registry, &avro_subject, &Schema::new(Kind::Avro, derived)).await?,
    })
}

/// Registers one schema and says which version it is.
pub async fn register(registry: &Registry, subject: &str, schema: &Schema) -> Result<SubjectVersion, SchemaError> {
    registry.register(subject, schema).await?;
    Ok(registry.find(subject, schema).await?)
}
