//! What a registry holds of a subject, fetched once, and whether an entry of the repository is it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Content, Entry};
use crate::schema::client::{Registry, RegistryError};
use crate::schema::compatibility::Level;
use crate::schema::compile;
use crate::schema::source::{Family, Kind, Reference, SubjectVersion};

/// A subject as a registry holds it.
#[derive(Clone, Debug)]
pub struct Held {
    /// Versions that are not deleted, ascending; of those before the newest, only what the level asks for.
    pub versions: Vec<(SubjectVersion, Family)>,
    /// The level that holds for it.
    pub level: Level,
}

impl Held {
    /// Fetches a subject: the newest version, or all where the level, or `at_least`, looks at all. A subject that is not
    /// there has no versions.
    pub async fn fetch(registry: &Registry, subject: &str, at_least: Level) -> Result<Held, RegistryError> {
        let level = registry.level(subject).await?;
        let mut numbers = match registry.versions(subject).await {
            Ok(numbers) => numbers,
            Err(RegistryError::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        if !level.is_transitive() && !at_least.is_transitive() {
            numbers.drain(..numbers.len().saturating_sub(1));
        }
        let mut versions = Vec::with_capacity(numbers.len());
        for number in numbers {
            let version = registry.version(subject, number).await?;
            let referrer = format!("subject `{subject}` version {number}");
            let family = registry.family(&referrer, &version.registered.schema).await?;
            versions.push((version, family));
        }
        Ok(Held { versions, level })
    }

    /// The newest version.
    pub fn newest(&self) -> Option<&SubjectVersion> {
        self.versions.last().map(|(version, _)| version)
    }

    /// Whether the newest version is the entry's schema, what it refers to included.
    pub fn is(&self, entry: &Entry, imports: &BTreeMap<String, u32>) -> bool {
        let Some((version, family)) = self.versions.last() else { return false };
        let held = &version.registered.schema;
        if held.kind != entry.kind() {
            return false;
        }
        match &entry.content {
            Content::Avro(derived) => match (parse(&held.text), parse(derived.text())) {
                (Some(held), Some(derived)) => held == derived,
                _ => held.text == derived.text(),
            },
            Content::Protobuf { file, .. } => {
                let wanted = entry.schema(imports).map(|schema| schema.references);
                let same_references = wanted.is_some_and(|wanted| sorted(&wanted) == sorted(&held.references));
                let text = compile::compile(file.name(), family);
                same_references && text.is_ok_and(|held| held.content() == compile::content(file))
            }
        }
    }

    /// Its versions of a language, compiled or parsed; those that cannot be are left out, since nothing could be made by them
    /// either.
    pub fn all<S>(&self, kind: Kind, parse: impl Fn(&Family) -> Option<S>) -> Vec<(u32, S)> {
        let of_kind = self.versions.iter().filter(|(version, _)| version.registered.schema.kind == kind);
        of_kind.filter_map(|(version, family)| Some((version.version, parse(family)?))).collect()
    }
}

fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

fn sorted(references: &[Reference]) -> Vec<(&str, &str, u32)> {
    let mut sorted: Vec<_> = references.iter().map(|r| (r.name.as_str(), r.subject.as_str(), r.version)).collect();
    sorted.sort_unstable();
    sorted
}
