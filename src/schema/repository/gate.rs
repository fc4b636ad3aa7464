//! Whether a repository may be merged: the gate of a change.
//!
//! In: entries, and what a registry or another state of the files holds. Out: a [`Report`]. Every subject whose schema
//! would change is judged, those that only import what changed too, by Confluent's Protobuf rules, by ours for derived Avro,
//! and by the registry itself where it can be asked. Never: a change to a registry.

use std::collections::BTreeMap;

use super::held::Held;
use super::report::{Remark, Report, RuleSet, Severity, Status, Subject};
use super::{Content, Entry, Event};
use crate::schema::client::{Registry, RegistryError};
use crate::schema::compatibility::avro::{self, Strictness};
use crate::schema::compatibility::derived::{self, Derived};
use crate::schema::compatibility::{self, Level, protobuf};
use crate::schema::compile;
use crate::schema::register::DryRun;
use crate::schema::source::Kind;
use crate::schema::structure::Structure;

/// Compares entries with what a registry holds, and adds to the report. `level` is what a change must keep to even where the
/// registry asks for less.
pub async fn against_registry(
    registry: &Registry,
    entries: &[Entry],
    level: Level,
    report: &mut Report,
) -> Result<(), RegistryError> {
    let name = Some(registry.name());
    // Versions of imports that are registered as they are; others have none yet.
    let mut settled = BTreeMap::new();
    for entry in entries {
        let held = Held::fetch(registry, &entry.subject, level).await?;
        let status = status(entry, &held, &settled);
        let version = held.newest().map(|newest| newest.version);
        if let (Status::Unchanged, Some(version)) = (status, version) {
            settled.insert(entry.subject.clone(), version);
        }
        let level = level.stricter(held.level);
        if status == Status::Changed {
            report.add(name, judge(entry, &held, level));
            let asked = match entry.schema(&settled) {
                Some(schema) => registry.dry_run(&entry.subject, &schema).await?,
                None => DryRun::Unknown("it imports what is not registered yet".to_owned()),
            };
            report.add(name, said(&entry.subject, asked, report));
        }
        report.subjects.push(Subject {
            registry: name.map(str::to_owned),
            subject: entry.subject.clone(),
            kind: entry.kind().as_str(),
            status,
            version,
            level: level.as_str(),
        });
    }
    report.add(None, []);
    Ok(())
}

/// Compares entries with those of another state of the same repository.
pub fn against_files(entries: &[Entry], base: &[Entry], level: Level, report: &mut Report) {
    for entry in entries {
        let other = base.iter().find(|other| other.subject == entry.subject);
        let (status, found) = match other.map(|other| (&entry.content, &other.content)) {
            None => (Status::New, Vec::new()),
            Some((Content::Avro(new), Content::Avro(old))) => {
                let found = compatibility::judge(level, &**new, &[(0, (**old).clone())], |reader, writer, names, _| {
                    avro::compare(reader.structure(), writer.structure(), names, Strictness::Consumers)
                });
                let status = if new.text() == old.text() { Status::Unchanged } else { Status::Changed };
                (status, remarks(RuleSet::Avro, entry, found))
            }
            Some((
                Content::Protobuf { file: new, event, .. },
                Content::Protobuf { file: old, event: old_event, .. },
            )) => {
                let found = compatibility::judge(level, new, &[(0, old.clone())], |reader, writer, names, _| {
                    protobuf::compare(reader, writer, names)
                });
                let mut found = remarks(RuleSet::Protobuf, entry, found);
                if let (Some(Event { derived: Some(new), .. }), Some(Event { derived: Some(old), .. })) =
                    (event, old_event)
                {
                    found.extend(losses(entry, new, &[(0, old.message().clone())], level));
                }
                let same = compile::content(new) == compile::content(old);
                (if same && found.is_empty() { Status::Unchanged } else { Status::Changed }, found)
            }
            Some(_) => (Status::Changed, vec![another_type(entry, "the base")]),
        };
        report.add(None, found);
        report.subjects.push(Subject {
            registry: None,
            subject: entry.subject.clone(),
            kind: entry.kind().as_str(),
            status,
            version: None,
            level: level.as_str(),
        });
    }
    for gone in base.iter().filter(|old| entries.iter().all(|entry| entry.subject != old.subject)) {
        let reason = "it is not registered from here any more; its versions stay in the registry, and in use";
        let fix = "nothing, if its event types are gone";
        let remark = Remark::about(RuleSet::Lint, "subject_abandoned", &gone.subject, reason, fix);
        report.add(None, [Remark { severity: Severity::Note, ..remark }]);
    }
    report.add(None, []);
}

/// What registering the entry would do.
pub(super) fn status(entry: &Entry, held: &Held, imports: &BTreeMap<String, u32>) -> Status {
    match held.newest() {
        None => Status::New,
        Some(_) if held.is(entry, imports) => Status::Unchanged,
        Some(_) => Status::Changed,
    }
}

/// What keeps an entry from being the next version.
fn judge(entry: &Entry, held: &Held, level: Level) -> Vec<Remark> {
    if let Some(newest) = held.newest().filter(|newest| newest.registered.schema.kind != entry.kind()) {
        return vec![another_type(entry, &format!("version {}", newest.version))];
    }
    match &entry.content {
        Content::Avro(new) => {
            let older = held.all(Kind::Avro, |family| {
                let imports = family.imports.iter().map(|(_, schema)| schema.text.as_str());
                Structure::parse(&family.root.text, imports).ok()
            });
            let found = compatibility::judge(level, new.structure(), &older, |reader, writer, names, _| {
                avro::compare(reader, writer, names, Strictness::Consumers)
            });
            remarks(RuleSet::Avro, entry, found)
        }
        Content::Protobuf { file, event, .. } => {
            let older = held.all(Kind::Protobuf, |family| compile::compile(file.name(), family).ok());
            let files: Vec<_> = older.iter().map(|(version, compiled)| (*version, compiled.file.clone())).collect();
            let found = compatibility::judge(level, file, &files, |reader, writer, names, _| {
                protobuf::compare(reader, writer, names)
            });
            let mut found = remarks(RuleSet::Protobuf, entry, found);
            if let Some(Event { derived: Some(new), .. }) = event {
                let name = new.message().full_name();
                let message = |(version, compiled): &(u32, compile::Compilation)| {
                    Some((*version, compiled.messages().find(|m| m.descriptor.full_name() == name)?.descriptor))
                };
                found.extend(losses(entry, new, &older.iter().filter_map(message).collect::<Vec<_>>(), level));
            }
            found
        }
    }
}

/// What consumers of the derived Avro schema would lose without being told.
fn losses(
    entry: &Entry,
    new: &Derived,
    older: &[(u32, prost_reflect::MessageDescriptor)],
    level: Level,
) -> Vec<Remark> {
    let found = compatibility::judge(level, new.message(), older, derived::losses);
    remarks(RuleSet::Avro, entry, found)
}

fn remarks(rules: RuleSet, entry: &Entry, found: Vec<compatibility::Incompatibility>) -> Vec<Remark> {
    found.into_iter().map(|found| Remark::incompatible(rules, &entry.subject, found)).collect()
}

fn another_type(entry: &Entry, of: &str) -> Remark {
    let reason = format!("it is to hold a schema of type {}, {of} is of another", entry.kind().as_str());
    let fix = "use another subject: one never holds schemas of two types";
    Remark::about(RuleSet::Registry, "schema_type_changed", &entry.subject, reason, fix)
}

/// What the registry said. That it refuses what was refused already is nothing new.
fn said(subject: &str, asked: DryRun, report: &Report) -> Option<Remark> {
    match asked {
        DryRun::Taken => None,
        DryRun::Refused(messages) => {
            let known = report.remarks.iter().any(|remark| remark.subject.as_deref() == Some(subject));
            let reason = match messages.as_slice() {
                [] => "the registry would not take it, and does not say why".to_owned(),
                messages => format!("the registry would not take it: {}", messages.join("; ")),
            };
            let fix = "keep what consumers rely on, or register it under another subject";
            let remark = Remark::about(RuleSet::Registry, "refused", subject, reason, fix);
            Some(Remark { severity: if known { Severity::Note } else { Severity::Error }, ..remark })
        }
        DryRun::Unknown(why) => {
            let reason = format!("the registry could not be asked, only our own rules were: {why}");
            let remark = Remark::about(RuleSet::Registry, "not_asked", subject, reason, "nothing");
            Some(Remark { severity: Severity::Note, ..remark })
        }
    }
}
