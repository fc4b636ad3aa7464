//! What is told of a repository: the state of each subject, and remarks with where, why and what to do.

use std::fmt;

use serde::Serialize;

use super::Fault;
use crate::schema::compatibility::{Direction, Incompatibility};

/// Everything that is told.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether no remark is an error.
    pub ok: bool,
    /// Every subject, in the order of registration, registry by registry.
    pub subjects: Vec<Subject>,
    /// What there is to say.
    pub remarks: Vec<Remark>,
}

/// A subject, and what registering would do to it.
#[derive(Clone, Debug, Serialize)]
pub struct Subject {
    /// Name of the registry; none when compared with files.
    pub registry: Option<String>,
    /// Its name.
    pub subject: String,
    /// `PROTOBUF` or `AVRO`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What would be done.
    pub status: Status,
    /// Its newest version.
    pub version: Option<u32>,
    /// The level that the change was held to.
    pub level: &'static str,
}

/// What registering would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing: the newest version is this.
    Unchanged,
    /// Make its first version.
    New,
    /// Make a next version.
    Changed,
}

/// How much a remark weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It must not be merged so.
    Error,
    /// It is likely a mistake.
    Warning,
    /// It is worth knowing.
    Note,
}

/// Whose rule it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleSet {
    /// Ours, about the files alone.
    Lint,
    /// Confluent's for Protobuf.
    Protobuf,
    /// Ours for derived Avro schemas.
    Avro,
    /// The registry's own.
    Registry,
    /// That registries hold what the repository says.
    Drift,
}

/// One thing that there is to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// How much it weighs.
    pub severity: Severity,
    /// Whose rule it is.
    pub rules: RuleSet,
    /// The rule's name.
    pub rule: String,
    /// The registry, if it is about one.
    pub registry: Option<String>,
    /// The subject, if it is about one.
    pub subject: Option<String>,
    /// The version that the change was compared with.
    pub version: Option<u32>,
    /// Who could not read whom.
    pub direction: Option<Direction>,
    /// Where: a file, a message, a field.
    pub path: String,
    /// What is there; lowercase, no full stop.
    pub reason: String,
    /// What to do; lowercase, no full stop.
    pub fix: String,
}

impl Remark {
    /// A remark about the files alone.
    pub fn lint(
        severity: Severity,
        rule: &str,
        path: &str,
        reason: impl Into<String>,
        fix: impl Into<String>,
    ) -> Remark {
        Remark {
            severity,
            rules: RuleSet::Lint,
            rule: rule.to_owned(),
            registry: None,
            subject: None,
            version: None,
            direction: None,
            path: path.to_owned(),
            reason: reason.into(),
            fix: fix.into(),
        }
    }

    /// A remark about what a registry has under a subject.
    pub fn about(
        rules: RuleSet,
        rule: &str,
        subject: &str,
        reason: impl Into<String>,
        fix: impl Into<String>,
    ) -> Remark {
        let subject_too = Some(subject.to_owned());
        Remark { rules, subject: subject_too, ..Remark::lint(Severity::Error, rule, subject, reason, fix) }
    }

    /// A rule that a change breaks.
    pub fn incompatible(rules: RuleSet, subject: &str, found: Incompatibility) -> Remark {
        let Incompatibility { version, direction, finding } = found;
        Remark {
            version: (version > 0).then_some(version),
            direction: Some(direction),
            path: finding.path,
            ..Remark::about(rules, &finding.rule.name(), subject, finding.reason, finding.fix)
        }
    }
}

impl From<Fault> for Remark {
    fn from(fault: Fault) -> Remark {
        Remark::lint(Severity::Error, "no_schema", &fault.path, fault.reason, fault.fix)
    }
}

impl Report {
    /// Adds remarks, those of a registry by its name; the same one twice is one.
    pub fn add(&mut self, registry: Option<&str>, remarks: impl IntoIterator<Item = Remark>) {
        for mut remark in remarks {
            remark.registry = remark.subject.as_ref().and(registry).map(str::to_owned);
            if !self.remarks.contains(&remark) {
                self.remarks.push(remark);
            }
        }
        self.ok = self.remarks.iter().all(|remark| remark.severity != Severity::Error);
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        })
    }
}

impl fmt::Display for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuleSet::Lint => "lint",
            RuleSet::Protobuf => "protobuf",
            RuleSet::Avro => "avro",
            RuleSet::Registry => "registry",
            RuleSet::Drift => "drift",
        })
    }
}

impl fmt::Display for Remark {
    /// Three lines: what, by which rule and against what, what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}: {}", self.severity, self.path, self.reason)?;
        write!(f, "  rule {} ({})", self.rule, self.rules)?;
        if let Some(subject) = self.subject.as_ref().filter(|subject| **subject != self.path) {
            write!(f, ", subject `{subject}`")?;
        }
        if let Some(registry) = &self.registry {
            write!(f, ", registry `{registry}`")?;
        }
        write!(f, "\n  fix: {}", self.fix)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}: ")?;
        }
        let Subject { subject, level, .. } = self;
        match (self.status, self.version) {
            (Status::New, _) => write!(f, "{subject}: new"),
            (Status::Unchanged, Some(version)) => write!(f, "{subject}: version {version}, unchanged"),
            (Status::Changed, Some(version)) => write!(f, "{subject}: next after version {version} ({level})"),
            (Status::Unchanged, None) => write!(f, "{subject}: unchanged"),
            (Status::Changed, None) => write!(f, "{subject}: changed ({level})"),
        }
    }
}
