//! What the embedded registry holds, and the rules by which subjects, versions and ids come and go. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::schema::compatibility::Level;
use crate::schema::source::{Reference, Schema};

/// Everything. Cheap to clone: schemas are shared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    #[serde(with = "shared")]
    pub schemas: BTreeMap<u32, Arc<Held>>,
    pub subjects: BTreeMap<String, Subject>,
    pub level: Option<Level>,
    pub mode: Option<Mode>,
    /// The highest id that was ever given: an id is never given again, also not when its schema is gone.
    #[serde(default)]
    pub last_id: u32,
}

/// A schema and its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub guid: String,
    /// What two texts of one schema have in common.
    pub identity: String,
    pub schema: Schema,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    /// Ascending by version.
    pub versions: Vec<Entry>,
    pub level: Option<Level>,
    pub mode: Option<Mode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub version: u32,
    pub id: u32,
    /// Soft-deleted: still readable by id, and with `deleted=true`.
    pub deleted: bool,
}

/// Whether schemas may be registered and deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Mode {
    #[default]
    Readwrite,
    Readonly,
}

impl Subject {
    pub fn live(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.versions.iter().filter(|entry| !entry.deleted)
    }

    pub fn entry(&self, version: u32) -> Option<&Entry> {
        self.versions.iter().find(|entry| entry.version == version)
    }
}

impl State {
    /// The id of a schema that is held already, under whatever subject.
    pub fn id_of(&self, identity: &str) -> Option<u32> {
        self.schemas.iter().find(|(_, held)| held.identity == identity).map(|(id, _)| *id)
    }

    /// Puts a schema into a subject. The same schema in it gives the version that it has; the same schema anywhere gives
    /// the id that it has.
    pub fn register(&mut self, subject: &str, held: Held) -> Entry {
        let id = self.id_of(&held.identity).unwrap_or_else(|| {
            let id = self.schemas.last_key_value().map_or(0, |(last, _)| *last).max(self.last_id) + 1;
            self.last_id = id;
            self.schemas.insert(id, Arc::new(held));
            id
        });
        let subject = self.subjects.entry(subject.to_owned()).or_default();
        if let Some(there) = subject.live().find(|entry| entry.id == id) {
            return *there;
        }
        let version = subject.versions.last().map_or(1, |last| last.version + 1);
        let entry = Entry { version, id, deleted: false };
        subject.versions.push(entry);
        entry
    }

    /// The schema that a reference names; soft-deleted versions do not count.
    pub fn resolve(&self, reference: &Reference) -> Option<&Schema> {
        let entry = self.subjects.get(&reference.subject)?.entry(reference.version).filter(|entry| !entry.deleted)?;
        self.schemas.get(&entry.id).map(|held| &held.schema)
    }

    /// Ids of the schemas that refer to a version and are in use.
    pub fn referrers(&self, subject: &str, version: u32) -> Vec<u32> {
        let refers =
            |id: &u32| self.schemas[id].schema.references.iter().any(|r| r.subject == subject && r.version == version);
        let mut ids: Vec<u32> = self.subjects.values().flat_map(Subject::live).map(|entry| entry.id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.retain(refers);
        ids
    }

    /// Subjects and versions that have a schema.
    pub fn users(&self, id: u32) -> Vec<(&str, u32)> {
        let of_subject = |(name, subject)| {
            let (name, subject): (&String, &Subject) = (name, subject);
            subject.live().filter(move |entry| entry.id == id).map(move |entry| (name.as_str(), entry.version))
        };
        self.subjects.iter().flat_map(of_subject).collect()
    }

    /// Drops schemas that no version has any more, and subjects without any version or setting.
    pub fn sweep(&mut self) {
        self.subjects.retain(|_, s| !s.versions.is_empty() || s.level.is_some() || s.mode.is_some());
        let used: std::collections::HashSet<u32> =
            self.subjects.values().flat_map(|subject| subject.versions.iter().map(|entry| entry.id)).collect();
        self.schemas.retain(|id, _| used.contains(id));
    }

    pub fn level_of(&self, subject: &str) -> Level {
        self.subjects.get(subject).and_then(|s| s.level).or(self.level).unwrap_or_default()
    }

    pub fn mode_of(&self, subject: &str) -> Mode {
        self.subjects.get(subject).and_then(|s| s.mode).or(self.mode).unwrap_or_default()
    }
}

/// Shared schemas on disk: written as if they were not shared.
mod shared {
    use super::{Arc, BTreeMap, Deserialize, Held};

    pub fn serialize<S: serde::Serializer>(
        schemas: &BTreeMap<u32, Arc<Held>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(schemas.iter().map(|(id, held)| (id, held.as_ref())))
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<u32, Arc<Held>>, D::Error> {
        let schemas = BTreeMap::<u32, Held>::deserialize(deserializer)?;
        Ok(schemas.into_iter().map(|(id, held)| (id, Arc::new(held))).collect())
    }
}
