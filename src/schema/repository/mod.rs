//! A repository of Protobuf files and the registries that hold its schemas.
//!
//! In: the files, and which of their messages are events ([`crate::config::Schemas`]). Out: what each subject is to hold
//! ([`Entry`]), in the order in which it can be registered; whether it may ([`gate`]); and it registered ([`merge`]). For
//! `iguazu schema` and `iguazu dev`, never for the proxy.

use std::collections::{BTreeMap, HashSet};

use prost_reflect::{DescriptorPool, FileDescriptor, MessageDescriptor};
use serde::Serialize;

use super::compatibility::derived::Derived;
use super::protos::{ProtoError, ProtoFiles};
use super::source::{Kind, Reference, Schema};
use crate::config::EventMessage;

pub mod claim;
pub mod drift;
pub mod gate;
pub mod held;
pub mod lint;
pub mod lock;
pub mod merge;
pub mod report;

/// Files, compiled, and the messages of theirs that are events.
#[derive(Debug)]
pub struct Repository {
    files: ProtoFiles,
    pool: DescriptorPool,
    messages: Vec<EventMessage>,
}

/// What one subject is to hold.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The subject.
    pub subject: String,
    /// What it is to hold.
    pub content: Content,
}

/// What a subject is to hold.
#[derive(Clone, Debug)]
pub enum Content {
    /// A Protobuf file: one that others import, under the name by which they do, or that of an event's message.
    Protobuf {
        /// The file, compiled.
        file: FileDescriptor,
        /// Its text.
        text: String,
        /// The names of the files that it imports, each a subject too. Google's own files are not among them: every reader of
        /// Protobuf brings those along.
        imports: Vec<String>,
        /// The event's message, with its Avro schema if it is to have one. None for a file that is only imported.
        event: Option<Event>,
    },
    /// The Avro schema of an event's message.
    Avro(Box<Derived>),
}

/// The event that a file is registered for.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its message.
    pub message: MessageDescriptor,
    /// The same with its Avro schema; none if no Avro is derived.
    pub derived: Option<Box<Derived>>,
}

/// What keeps a repository from being registered at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The message or file.
    pub path: String,
    /// What is wrong with it; lowercase, no full stop.
    pub reason: String,
    /// What to do about it; lowercase, no full stop.
    pub fix: String,
}

impl Repository {
    /// Compiles the files. The error names file, line and column.
    pub fn new(files: ProtoFiles, messages: Vec<EventMessage>) -> Result<Repository, ProtoError> {
        let pool = files.compile()?;
        Ok(Repository { files, pool, messages })
    }

    /// The compiled files, those that they import included.
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// The files of the repository, in the order of their names.
    pub fn files(&self) -> impl Iterator<Item = FileDescriptor> {
        self.files.iter().filter_map(|(name, _)| self.pool.get_file_by_name(name))
    }

    /// The messages that are events.
    pub fn messages(&self) -> &[EventMessage] {
        &self.messages
    }

    /// What each subject is to hold; a subject stands behind all that its schema refers to. Or everything that keeps
    /// messages from having a schema.
    pub fn entries(&self) -> Result<Vec<Entry>, Vec<Fault>> {
        let (mut entries, mut faults, mut imported) = (Vec::new(), Vec::new(), HashSet::new());
        for settings in &self.messages {
            match self.event(settings) {
                Ok(event) => {
                    let file = event.message.parent_file();
                    self.add_imports(&file, &mut imported, &mut entries);
                    let derived = event.derived.clone();
                    entries.push(Entry { subject: settings.subject.clone(), content: self.content(file, Some(event)) });
                    if let (Some(derived), Some(subject)) = (derived, &settings.avro_subject) {
                        entries.push(Entry { subject: subject.clone(), content: Content::Avro(derived) });
                    }
                }
                Err(fault) => faults.push(fault),
            }
        }
        faults.extend(shared_subjects(&entries));
        if faults.is_empty() { Ok(entries) } else { Err(faults) }
    }

    fn event(&self, settings: &EventMessage) -> Result<Event, Fault> {
        let fault = |reason: String, fix: &str| Fault { path: settings.name.clone(), reason, fix: fix.to_owned() };
        let message = self.pool.get_message_by_name(&settings.name);
        let message = message.filter(|message| self.files.text(message.parent_file().name()).is_some());
        let message = message.ok_or_else(|| {
            fault("no file has this message".to_owned(), "mend its name, or take it out of the list of events")
        })?;
        if let Some(parent) = message.parent_message() {
            let reason =
                format!("it is nested in `{}`; clients number nested messages differently", parent.full_name());
            return Err(fault(reason, "make it a top-level message of its file"));
        }
        let derived = settings.avro_subject.as_ref().map(|_| Derived::new(&message, &settings.mapping)).transpose();
        let derived = derived.map_err(|error| {
            fault(
                format!("no Avro schema can be derived: {error}"),
                "change the message, or say `avro = false` if its events are not stored as Avro",
            )
        })?;
        Ok(Event { message, derived: derived.map(Box::new) })
    }

    /// The files that a file imports, each behind those that it imports itself. A list and no recursion: imports may nest
    /// deeply.
    fn add_imports(&self, file: &FileDescriptor, done: &mut HashSet<String>, entries: &mut Vec<Entry>) {
        let mut open: Vec<FileDescriptor> = self.own_imports(file);
        while let Some(next) = open.last().cloned() {
            let missing: Vec<_> =
                self.own_imports(&next).into_iter().filter(|import| !done.contains(import.name())).collect();
            if !missing.is_empty() {
                open.extend(missing);
                continue;
            }
            open.pop();
            if done.insert(next.name().to_owned()) {
                entries.push(Entry { subject: next.name().to_owned(), content: self.content(next, None) });
            }
        }
    }

    fn own_imports(&self, file: &FileDescriptor) -> Vec<FileDescriptor> {
        file.dependencies().filter(|import| self.files.text(import.name()).is_some()).collect()
    }

    fn content(&self, file: FileDescriptor, event: Option<Event>) -> Content {
        Content::Protobuf {
            text: self.files.text(file.name()).unwrap_or_default().to_owned(),
            imports: self.own_imports(&file).iter().map(|import| import.name().to_owned()).collect(),
            file,
            event,
        }
    }
}

/// Subjects that two different schemas would share.
fn shared_subjects(entries: &[Entry]) -> Vec<Fault> {
    let mut holders: BTreeMap<&str, &Entry> = BTreeMap::new();
    let mut faults = Vec::new();
    for entry in entries {
        let other = *holders.entry(&entry.subject).or_insert(entry);
        if !std::ptr::eq(other, entry) {
            faults.push(Fault {
                path: entry.subject.clone(),
                reason: format!("{} and {} would share this subject", other.what(), entry.what()),
                fix: "give one of them another subject".to_owned(),
            });
        }
    }
    faults
}

impl Entry {
    /// The language of its schema.
    pub fn kind(&self) -> Kind {
        match self.content {
            Content::Protobuf { .. } => Kind::Protobuf,
            Content::Avro(_) => Kind::Avro,
        }
    }

    /// Its schema, with the references that its imports have come to; none while one of them has no version yet.
    pub fn schema(&self, versions: &BTreeMap<String, u32>) -> Option<Schema> {
        match &self.content {
            Content::Avro(derived) => Some(Schema::new(Kind::Avro, derived.text())),
            Content::Protobuf { text, imports, .. } => {
                let reference = |name: &String| {
                    let version = *versions.get(name)?;
                    Some(Reference { name: name.clone(), subject: name.clone(), version })
                };
                let references = imports.iter().map(reference).collect::<Option<_>>()?;
                Some(Schema { kind: Kind::Protobuf, text: text.clone(), references })
            }
        }
    }

    /// What it is, for messages.
    fn what(&self) -> String {
        match &self.content {
            Content::Protobuf { event: Some(event), .. } => format!("message `{}`", event.message.full_name()),
            Content::Protobuf { file, .. } => format!("file `{}`", file.name()),
            Content::Avro(derived) => format!("the Avro schema of `{}`", derived.message().full_name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Mapping;

    const MONEY: (&str, &str) =
        ("m.proto", "syntax = \"proto3\"; package m; import \"base.proto\"; message M { b.Base b = 1; }");
    const BASE: (&str, &str) = ("base.proto", "syntax = \"proto3\"; package b; message Base {}");
    const ORDER: (&str, &str) = (
        "a.proto",
        "syntax = \"proto3\"; package a; import \"m.proto\"; import \"google/protobuf/timestamp.proto\";
         message A { m.M m = 1; google.protobuf.Timestamp at = 2; message N {} } message B { fixed32 x = 1; }",
    );

    #[track_caller]
    fn check(events: &[(&str, &str)], expected: Result<&[&str], &str>) {
        let event = |(name, avro): &(&str, &str)| {
            let avro_subject = Some((*avro).to_owned()).filter(|subject| !subject.is_empty());
            EventMessage { avro_subject, ..EventMessage::named(name, Mapping::default()) }
        };
        let files = ProtoFiles::of([MONEY, BASE, ORDER]);
        let repository = Repository::new(files, events.iter().map(event).collect()).expect("it compiles");
        match (repository.entries(), expected) {
            (Ok(entries), Ok(expected)) => {
                assert_eq!(entries.iter().map(|entry| entry.subject.as_str()).collect::<Vec<_>>(), expected);
            }
            (Err(faults), Err(expected)) => {
                let told: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.path, fault.reason)).collect();
                assert!(told.join("; ").contains(expected), "{told:?}");
            }
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn what_has_no_schema_is_told_all_at_once() {
        check(&[("a.Gone", "x")], Err("a.Gone: no file has this message"));
        check(&[("a.A.N", "x")], Err("a.A.N: it is nested in `a.A`"));
        check(&[("google.protobuf.Timestamp", "")], Err("no file has this message"));
        check(
            &[("a.A", "m.proto")],
            Err("m.proto: file `m.proto` and the Avro schema of `a.A` would share this subject"),
        );
    }

    #[test]
    fn a_subject_stands_behind_all_that_its_schema_refers_to() {
        check(&[("a.A", "a.A-avro")], Ok(&["base.proto", "m.proto", "a.A", "a.A-avro"]));
        check(&[("b.Base", ""), ("a.B", "x")], Ok(&["b.Base", "base.proto", "m.proto", "a.B", "x"]));
        check(&[], Ok(&[]));
    }
}
