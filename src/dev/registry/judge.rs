//! Whether a schema is one, whether two texts are the same schema, and whether one can follow another.
//!
//! Protobuf is compiled with everything it imports, Avro is parsed, JSON Schema must be a JSON object or boolean.
//! Compatibility is judged for Protobuf and Avro; of JSON Schemas every one may follow every other.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::state::Held;
use crate::schema::compatibility::avro::{self, Strictness};
use crate::schema::compatibility::{self, Direction, Finding, Incompatibility, Level, Names, Rule, protobuf};
use crate::schema::compile;
use crate::schema::source::{Family, Kind, Schema};
use crate::schema::structure::Structure;
use crate::transcode::avro_in::AvroPlan;

/// Name that the root file has in messages.
const FILE_NAME: &str = "schema.proto";

/// A schema that was checked, with its identity and the GUID made of that; or why it is none.
pub(super) fn check(family: &Family) -> Result<Held, String> {
    let schema = &family.root;
    let content = match schema.kind {
        Kind::Protobuf => compile::compile(FILE_NAME, family).map_err(|error| error.message)?.content(),
        Kind::Avro => {
            let references: Vec<_> = family.imports.iter().map(|(_, schema)| schema.text.as_str()).collect();
            AvroPlan::check(&schema.text, &references).map_err(|error| error.message)?;
            parse_json(&schema.text)?.to_string().into_bytes()
        }
        Kind::Json => match parse_json(&schema.text)? {
            value @ (Value::Object(_) | Value::Bool(_)) => value.to_string().into_bytes(),
            _ => return Err("a JSON Schema is an object or a boolean".to_owned()),
        },
    };
    let mut hash = Sha256::new();
    hash.update(schema.kind.as_str());
    for reference in &schema.references {
        for part in [&reference.name, &reference.subject, &reference.version.to_string()] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
    }
    hash.update([0]);
    hash.update(&content);
    let digest = hash.finalize();
    let identity = hex::encode(digest);
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    let guid = uuid::Builder::from_custom_bytes(half).into_uuid().to_string();
    Ok(Held { guid, identity, schema: schema.clone() })
}

/// Why a schema cannot follow these older ones at this level; empty when it can. Oldest first. JSON Schema is not judged.
pub(super) fn incompatibilities(new: &Family, older: &[(u32, Family)], level: Level) -> Vec<String> {
    let found = match new.root.kind {
        Kind::Avro => judge_as(new, older, level, parse_structure, |reader, writer, names, _| {
            avro::compare(reader, writer, names, Strictness::Specification)
        }),
        Kind::Protobuf => judge_as(
            new,
            older,
            level,
            |family| compile::compile(FILE_NAME, family).ok().map(|compiled| compiled.file),
            |reader, writer, names, _| protobuf::compare(reader, writer, names),
        ),
        Kind::Json => judge_as(new, older, level, |_| Some(()), |(), (), _, _| Vec::new()),
    };
    found.iter().map(|found| message(found, level)).collect()
}

/// Judges by one language's rules; a version in another language is followed by nothing in this one.
fn judge_as<S>(
    new: &Family,
    older: &[(u32, Family)],
    level: Level,
    parse: impl Fn(&Family) -> Option<S>,
    compare: impl Fn(&S, &S, Names<'_>, Direction) -> Vec<Finding>,
) -> Vec<Incompatibility> {
    let counts = if level.is_transitive() { older } else { &older[older.len().saturating_sub(1)..] };
    let other = counts.iter().find(|(_, old)| old.root.kind != new.root.kind && level != Level::None);
    if let Some((version, old)) = other {
        let finding = Finding {
            rule: Rule::SchemaTypeChanged,
            path: "the schema itself".to_owned(),
            reason: format!("version {version} is of type {}", old.root.kind.as_str()),
            fix: "use another subject".to_owned(),
        };
        return vec![Incompatibility { version: *version, direction: Direction::Backward, finding }];
    }
    let Some(new) = parse(new) else { return Vec::new() };
    let parsed = counts.iter().filter_map(|(version, old)| Some((*version, parse(old)?)));
    compatibility::judge(level, &new, &parsed.collect::<Vec<_>>(), compare)
}

/// One message of a verbose answer, in the form of Confluent's.
fn message(found: &Incompatibility, level: Level) -> String {
    let Incompatibility { version, finding: Finding { rule, path, reason, .. }, .. } = found;
    format!(
        "{{errorType:'{}', description:'{path}: {reason}', oldSchemaVersion: {version}, compatibility: '{level}'}}",
        rule.name().to_uppercase()
    )
}

fn parse_structure(family: &Family) -> Option<Structure> {
    Structure::parse(&family.root.text, family.imports.iter().map(|(_, schema)| schema.text.as_str())).ok()
}

/// The file alone as a base64 `FileDescriptorProto`.
pub(super) fn serialized(family: &Family) -> Result<String, String> {
    compile::compile(FILE_NAME, family).map(|file| file.to_base64()).map_err(|error| error.message)
}

fn parse_json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}

/// A schema with all that it refers to, or the reference that leads nowhere.
pub(super) fn family<'a>(
    schema: &Schema,
    resolve: impl Fn(&crate::schema::source::Reference) -> Option<&'a Schema>,
) -> Result<Family, String> {
    let mut imports: Vec<(String, Schema)> = Vec::new();
    let mut open = vec![(None, schema.references.clone().into_iter())];
    while let Some((_, references)) = open.last_mut() {
        let Some(reference) = references.next() else {
            if let Some((Some(done), _)) = open.pop() {
                imports.push(done);
            }
            continue;
        };
        if imports.iter().any(|(name, _)| *name == reference.name) {
            continue;
        }
        let (subject, version) = (&reference.subject, reference.version);
        let found = resolve(&reference).ok_or_else(|| {
            format!("reference `{}`: there is no version {version} of subject `{subject}`", reference.name)
        })?;
        // A version exists before one that refers to it, so there are no cycles; the bound is for a file edited by hand.
        if open.len() > 32 {
            return Err("references nest deeper than 32".to_owned());
        }
        open.push((Some((reference.name, found.clone())), found.references.clone().into_iter()));
    }
    Ok(Family { root: schema.clone(), imports })
}
