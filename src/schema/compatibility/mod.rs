//! Whether one schema may follow another, by the rules of each language.
//!
//! In: two schemas, who reads and who wrote. Out: every [`Finding`]: where, which rule, why, and what to do. Never: I/O, or
//! a payload.
//!
//! [`protobuf`] has the rules by which Confluent's registry judges Protobuf, [`avro`] the resolution rules of the Avro
//! specification, [`derived`] what Avro's rules let pass and a consumer of a derived schema would still lose. [`judge`]
//! applies one of them at a [`Level`].

use std::fmt;

use serde::{Deserialize, Serialize};

pub mod avro;
pub mod derived;
pub mod protobuf;

/// What may follow what: the levels of a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Level {
    /// Anything.
    None,
    /// The new schema reads what the newest one wrote.
    #[default]
    Backward,
    /// The new schema reads what any version wrote.
    BackwardTransitive,
    /// The newest one reads what the new schema writes.
    Forward,
    /// Every version reads what the new schema writes.
    ForwardTransitive,
    /// Both, with the newest.
    Full,
    /// Both, with every version.
    FullTransitive,
}

impl Level {
    /// Every level.
    pub const ALL: [Level; 7] = [
        Level::None,
        Level::Backward,
        Level::BackwardTransitive,
        Level::Forward,
        Level::ForwardTransitive,
        Level::Full,
        Level::FullTransitive,
    ];

    /// The registry's name of it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::None => "NONE",
            Level::Backward => "BACKWARD",
            Level::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Level::Forward => "FORWARD",
            Level::ForwardTransitive => "FORWARD_TRANSITIVE",
            Level::Full => "FULL",
            Level::FullTransitive => "FULL_TRANSITIVE",
        }
    }

    /// The level of this name.
    pub fn parse(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.as_str() == name)
    }

    /// The directions that it asks for.
    pub const fn directions(self) -> &'static [Direction] {
        match self {
            Level::None => &[],
            Level::Backward | Level::BackwardTransitive => &[Direction::Backward],
            Level::Forward | Level::ForwardTransitive => &[Direction::Forward],
            Level::Full | Level::FullTransitive => &[Direction::Backward, Direction::Forward],
        }
    }

    /// The level that asks for all that either asks for.
    pub fn stricter(self, other: Level) -> Level {
        let asks = |direction| self.directions().contains(&direction) || other.directions().contains(&direction);
        match (asks(Direction::Backward), asks(Direction::Forward), self.is_transitive() || other.is_transitive()) {
            (false, false, _) => Level::None,
            (true, false, false) => Level::Backward,
            (true, false, true) => Level::BackwardTransitive,
            (false, true, false) => Level::Forward,
            (false, true, true) => Level::ForwardTransitive,
            (true, true, false) => Level::Full,
            (true, true, true) => Level::FullTransitive,
        }
    }

    /// Whether every version counts, or only the newest.
    pub const fn is_transitive(self) -> bool {
        matches!(self, Level::BackwardTransitive | Level::ForwardTransitive | Level::FullTransitive)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who reads what of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The new schema reads what the old one wrote.
    Backward,
    /// The old schema reads what the new one writes.
    Forward,
}

/// One reason why a reader cannot read what a writer wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule that is broken.
    pub rule: Rule,
    /// Where: full names of messages and fields, joined by dots.
    pub path: String,
    /// What the two have there; lowercase, no full stop.
    pub reason: String,
    /// What to do about it; lowercase, no full stop.
    pub fix: String,
}

/// A finding of [`judge`]: with which version, and who could not read whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Incompatibility {
    /// Version of the older schema; 0 for a base that no registry holds.
    pub version: u32,
    /// Who reads.
    pub direction: Direction,
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
}

/// What reader and writer are called in reasons.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The schema by which is read.
    pub reader: &'a str,
    /// The schema by which was written.
    pub writer: &'a str,
}

/// The rules that a change can break. Closed: names are part of the output of `iguazu schema check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it, and they are those of Confluent's registry and of Java's Avro")]
pub enum Rule {
    // Protobuf, by the names of Confluent's registry.
    PackageChanged,
    MessageRemoved,
    FieldKindChanged,
    FieldScalarKindChanged,
    FieldNamedTypeChanged,
    FieldNumericLabelChanged,
    RequiredFieldAdded,
    RequiredFieldRemoved,
    OneofFieldRemoved,
    MultipleFieldsMovedToOneof,
    FieldMovedToExistingOneof,
    // Avro, by the names of Java's library.
    NameMismatch,
    TypeMismatch,
    FixedSizeMismatch,
    MissingEnumSymbols,
    MissingUnionBranch,
    ReaderFieldMissingDefaultValue,
    // What Avro's rules let pass and a consumer would still lose.
    FieldRenamed,
    FieldNumberReused,
    EnumValueRenamed,
    EnumValueRemoved,
    NamespaceChanged,
    LogicalTypeChanged,
    // Of a registry's history rather than of two schemas.
    SchemaTypeChanged,
}

impl Rule {
    /// Its name, as in the output of `iguazu schema check`.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// Compares a new schema with the older ones of its subject, oldest first, as the level asks for; version 0 is a base that
/// no registry holds. `compare` is given
/// reader and writer, what they are called, and the direction.
pub fn judge<S>(
    level: Level,
    new: &S,
    older: &[(u32, S)],
    compare: impl Fn(&S, &S, Names<'_>, Direction) -> Vec<Finding>,
) -> Vec<Incompatibility> {
    let older = if level.is_transitive() { older } else { &older[older.len().saturating_sub(1)..] };
    let mut found = Vec::new();
    for (version, old) in older.iter().rev() {
        let old_name = if *version == 0 { "the base".to_owned() } else { format!("version {version}") };
        for direction in level.directions() {
            let findings = match direction {
                Direction::Backward => {
                    compare(new, old, Names { reader: "the new schema", writer: &old_name }, *direction)
                }
                Direction::Forward => {
                    compare(old, new, Names { reader: &old_name, writer: "the new schema" }, *direction)
                }
            };
            let of_version = |finding| Incompatibility { version: *version, direction: *direction, finding };
            found.extend(findings.into_iter().map(of_version));
        }
    }
    found
}

#[cfg(test)]
mod tests;
