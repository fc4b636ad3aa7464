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
                (Some(held), Some(derived)) => with_full_names(&held, "") == with_full_names(&derived, ""),
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

/// An Avro schema with every name written in full: registries leave out namespaces that follow from what is around.
fn with_full_names(of: &Value, namespace: &str) -> Value {
    match of {
        Value::String(name) if is_defined(name) && !name.contains('.') && !namespace.is_empty() => {
            Value::String(format!("{namespace}.{name}"))
        }
        Value::Array(branches) => branches.iter().map(|branch| with_full_names(branch, namespace)).collect(),
        Value::Object(members) => {
            let text = |key: &str| members.get(key).and_then(Value::as_str);
            let named = matches!(text("type"), Some("record" | "error" | "enum" | "fixed"));
            let full = text("name").filter(|_| named).map(|name| match text("namespace").unwrap_or(namespace) {
                "" => name.to_owned(),
                _ if name.contains('.') => name.to_owned(),
                namespace => format!("{namespace}.{name}"),
            });
            let within = full.as_deref().map(|full| full.rsplit_once('.').map_or("", |(namespace, _)| namespace));
            let within = within.unwrap_or(namespace);
            let member = |(key, value): (&String, &Value)| match (key.as_str(), &full) {
                ("namespace", Some(_)) => None,
                ("name", Some(full)) => Some((key.clone(), Value::from(full.as_str()))),
                ("type" | "items" | "values", _) => Some((key.clone(), with_full_names(value, within))),
                ("fields", Some(_)) => {
                    let fields = value.as_array().into_iter().flatten();
                    Some((key.clone(), fields.map(|field| with_full_names(field, within)).collect()))
                }
                _ => Some((key.clone(), value.clone())),
            };
            Value::Object(members.iter().filter_map(member).collect())
        }
        other => other.clone(),
    }
}

/// Whether a name is of a type that a schema defines, and none of Avro's own.
fn is_defined(name: &str) -> bool {
    const OWN: [&str; 14] = [
        "null", "boolean", "int", "long", "float", "double", "bytes", "string", "record", "error", "enum", "array",
        "map", "fixed",
    ];
    !OWN.contains(&name)
}

fn sorted(references: &[Reference]) -> Vec<(&str, &str, u32)> {
    let mut sorted: Vec<_> = references.iter().map(|r| (r.name.as_str(), r.subject.as_str(), r.version)).collect();
    sorted.sort_unstable();
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(one: &str, other: &str, same: bool) {
        let full = |text: &str| with_full_names(&parse(text).expect("JSON"), "");
        assert_eq!(full(one) == full(other), same, "{one} and {other}");
    }

    #[test]
    fn a_namespace_that_follows_from_what_is_around_may_be_left_out() {
        let of = |inner: &str, again: &str| {
            format!(
                r#"{{"type":"record","name":"R","namespace":"a.b","fields":[
                    {{"name":"x","type":["null",{{"type":"enum",{inner},"symbols":["A"]}}]}},
                    {{"name":"y","type":{{"type":"array","items":"{again}"}}}}]}}"#
            )
        };
        let written = of(r#""name":"E","namespace":"a.b""#, "a.b.E");
        check(&written, &of(r#""name":"E""#, "E"), true);
        check(&written, &of(r#""name":"a.b.E""#, "a.b.E"), true);
        check(&written, &of(r#""name":"E","namespace":"a""#, "a.E"), false);
        check(&written, &written.replace(r#""name":"y""#, r#""name":"y","proto.number":1"#), false);
        check(&written, &written.replace(r#""name":"R","namespace":"a.b""#, r#""name":"a.b.R""#), true);
    }
}
