//! Event type -> [`SchemaSet`]: fetched, compiled, matched, remembered; and kept fresh behind the path.
//!
//! In: event types, and one registry. Out: a set that is ready for the path of an event, from the registry or, when that
//! is down, from what was loaded last (memory, then disk). A new version that is of no use never takes a good one's
//! place. Never: on the path of an event; compiling on a thread that serves connections.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;
use tracing::warn;

use super::SchemaSet;
use super::build::{self, Build, Candidate, Plans, Source};
use super::client::{Registry, RegistryError};
use super::compile::CompileError;
use super::snapshot::{Content, Held, Snapshots};
use super::source::{Family, SubjectVersion};
use crate::route::{EventType, SchemaType, Version};
use crate::transcode::PlanError;

/// Newest versions of a subject that are loaded, beside the default one.
pub const VERSIONS_MAX: usize = 32;

/// Newest versions of an Avro subject that are compared with a derived schema.
const CANDIDATES_MAX: usize = 64;

/// Questions that one load has under way at once.
const CONCURRENT_MAX: usize = 8;

/// Loads the schemas of one registry's event types. Shared; loads of different event types may run at once.
#[derive(Debug)]
pub struct Loader {
    registry: Arc<Registry>,
    snapshots: Option<Arc<Snapshots>>,
    plans: Arc<Plans>,
    /// By event name; as many as there are event types.
    memory: Mutex<HashMap<String, Memory>>,
}

/// What a load gives.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The schemas, ready.
    pub set: SchemaSet,
    /// Versions that exist and are not in the set, with the reason.
    pub skipped: Vec<Skipped>,
    /// Set when the registry was not asked successfully: the schemas are those of an earlier load.
    pub stale: Option<Stale>,
}

/// A version that was left out.
#[derive(Clone, Debug)]
pub struct Skipped {
    /// The version.
    pub version: u32,
    /// Why it is of no use.
    pub error: SchemaError,
}

/// Schemas that could not be looked up again.
#[derive(Clone, Debug)]
pub struct Stale {
    /// When they were last known to be current.
    pub since: SystemTime,
    /// Why they could not be looked up.
    pub error: SchemaError,
}

/// What a refresh found.
#[derive(Clone, Debug)]
pub enum Refreshed {
    /// Nothing that changes the set. What is wrong with newer versions is in the loader's status.
    Unchanged,
    /// Another set; it takes the place of the previous one.
    Changed(Loaded),
    /// The registry did not say; the previous set stays.
    Stale(Stale),
}

/// How an event type's schemas stand.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// When the registry last confirmed them.
    pub last_success: Option<SystemTime>,
    /// Since when they are served without confirmation: the last success before the first failure.
    pub stale_since: Option<SystemTime>,
    /// What is wrong with versions that are not loaded.
    pub problems: Vec<String>,
    /// Why the disk snapshot is not kept, if it is not.
    pub snapshot_problem: Option<String>,
}

/// Why an event type has no schemas.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The subject's schema, or one that it refers to, is in another language than the event type says.
    #[error(
        "{schema} is or refers to a schema of type {}, the event type expects {}; set `schema_type = \"{}\"` if that is meant",
        found.as_str(), expected.as_str(), found.setting()
    )]
    SchemaType {
        /// Which schema: subject and version.
        schema: String,
        /// The language it is in.
        found: SchemaType,
        /// The language of the event type.
        expected: SchemaType,
    },
    /// The subject's schema cannot be compiled, or has no fitting message.
    #[error("{schema}: {source}")]
    Compile {
        /// Which schema: subject and version.
        schema: String,
        /// Why.
        source: CompileError,
    },
    /// The message cannot be transcoded as the event type wants.
    #[error("{schema}: {source}")]
    Plan {
        /// Which schema: subject and version.
        schema: String,
        /// Why.
        source: PlanError,
    },
    /// No version of the Avro subject has the structure that the Protobuf schema derives.
    #[error(
        "subject `{avro_subject}` has no schema for subject `{subject}` version {version}: {difference}; register it with `iguazu schema register`"
    )]
    NoAvro {
        /// Subject of the derived schemas.
        avro_subject: String,
        /// Subject of the Protobuf schema.
        subject: String,
        /// Its version.
        version: u32,
        /// How the nearest version differs, or that there is none.
        difference: String,
    },
    /// The subject does not have the version that the event type asks for.
    #[error("subject `{subject}` has no version {version}; it has {listed}")]
    NoVersion {
        /// The subject.
        subject: String,
        /// The version asked for.
        version: u32,
        /// The newest ones it has.
        listed: String,
    },
    /// The framing needs a GUID and the registry gives none.
    #[error(
        "registry `{registry}` gives no usable GUID for {wanted}; use `framing = \"prefix\"`, or a registry that gives GUIDs"
    )]
    NoGuid {
        /// Name of the registry.
        registry: String,
        /// The schema.
        wanted: String,
    },
    /// The event type names no subject.
    #[error("event type `{event}` has no subject")]
    NoSubject {
        /// The event type.
        event: String,
    },
    /// A bug of ours, caught.
    #[error("compiling subject `{subject}` failed inside; this is a bug")]
    Internal {
        /// The subject.
        subject: String,
    },
}

/// What the loader remembers of an event type.
#[derive(Clone, Debug, Default)]
struct Memory {
    /// What the set was made from.
    content: Option<Arc<Content>>,
    /// What the registry listed when the set was made; nothing when it was made without asking.
    listed: Option<Listed>,
    status: Status,
}

/// The versions that a load was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    sources: Vec<u32>,
    /// The subject of the derived Avro schemas and its versions, where there are any.
    avro: Option<(String, Vec<u32>)>,
}

impl Loader {
    /// A loader for one registry. With a state folder, what it loads is kept there for the next start.
    pub fn new(registry: Arc<Registry>, state_dir: Option<&Path>) -> Loader {
        let snapshots = state_dir.map(|folder| Arc::new(Snapshots::new(folder)));
        Loader { registry, snapshots, plans: Arc::default(), memory: Mutex::default() }
    }

    /// The registry's client.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// How an event type's schemas stand.
    pub fn status(&self, event: &str) -> Status {
        self.with_memory(event, |memory| memory.status.clone())
    }

    /// Loads an event type's schemas: from the registry, or when it gives none, those that were loaded last.
    pub async fn load(&self, event_type: &EventType) -> Result<Loaded, SchemaError> {
        let previous = self.previous(event_type).await;
        let error = match self.load_from_registry(event_type, previous.as_deref()).await {
            Ok(loaded) => return Ok(loaded),
            Err(error) => error,
        };
        let Some(previous) = previous else { return Err(error) };
        let since = UNIX_EPOCH + Duration::from_millis(previous.taken_ms);
        let stale = Stale { since, error };
        match self.load_from(event_type, &previous).await {
            Ok(built) => {
                self.note_stale(&event_type.name, &stale);
                self.with_memory(&event_type.name, |memory| memory.content = Some(Arc::clone(&previous)));
                Ok(Loaded { set: built.set, skipped: built.skipped, stale: Some(stale) })
            }
            // Settings changed since: what is on disk does not serve them, and why the registry does not says more.
            Err(_) => Err(stale.error),
        }
    }

    /// Looks whether a set is still what the registry says: one or two short questions unless something changed.
    pub async fn refresh(&self, event_type: &EventType, previous: &SchemaSet) -> Refreshed {
        match self.try_refresh(event_type, previous).await {
            Ok(refreshed) => refreshed,
            Err(error) => {
                let status = self.status(&event_type.name);
                let since = status.stale_since.or(status.last_success).unwrap_or_else(SystemTime::now);
                let stale = Stale { since, error };
                self.note_stale(&event_type.name, &stale);
                Refreshed::Stale(stale)
            }
        }
    }

    async fn try_refresh(&self, event_type: &EventType, previous: &SchemaSet) -> Result<Refreshed, SchemaError> {
        let (content, listed) = self.with_memory(&event_type.name, |m| (m.content.clone(), m.listed.clone()));
        if let Some(known) = listed
            && self.list(event_type, &known).await? == known
        {
            self.note_success(&event_type.name);
            return Ok(Refreshed::Unchanged);
        }
        let loaded = self.load_from_registry(event_type, content.as_deref()).await?;
        Ok(if same(previous, &loaded.set) { Refreshed::Unchanged } else { Refreshed::Changed(loaded) })
    }

    /// What the registry lists now where a load was made from `known`. The versions of the Avro subject matter only while
    /// some version has no Avro schema: what was chosen stays chosen.
    async fn list(&self, event_type: &EventType, known: &Listed) -> Result<Listed, SchemaError> {
        let sources = self.registry.versions(subject_of(event_type)?).await?;
        let sources = considered(&sources, event_type.version);
        let waiting = !self.status(&event_type.name).problems.is_empty();
        let avro = match &known.avro {
            Some((subject, _)) if waiting => Some((subject.clone(), self.list_candidates(subject).await?)),
            unasked => unasked.clone(),
        };
        Ok(Listed { sources, avro })
    }

    async fn load_from_registry(
        &self,
        event_type: &EventType,
        previous: Option<&Content>,
    ) -> Result<Loaded, SchemaError> {
        let subject = subject_of(event_type)?;
        let listed = self.registry.versions(subject).await?;
        let wanted = considered(&listed, event_type.version);
        let default = match event_type.version {
            Version::Latest => wanted.last().copied(),
            Version::Number(number) => wanted.iter().copied().find(|version| *version == number),
        };
        let default = default.ok_or_else(|| no_version(event_type, subject, &listed))?;
        let sources = self.fetch_sources(subject, &wanted).await?;
        let mut build = Build::new(event_type, sources, default, previous);
        build = blocking(subject, move || build.compile()).await?;
        let mut avro = None;
        if build::derives_avro(event_type) {
            let avro_subject = build.avro_subject()?;
            let versions = self.list_candidates(&avro_subject).await?;
            build.candidates = self.fetch_candidates(&avro_subject, &versions).await?;
            build.avro_subject = Some(avro_subject.clone());
            avro = Some((avro_subject, versions));
        }
        self.complete_guids(event_type, &mut build).await?;
        let (plans, registry) = (Arc::clone(&self.plans), self.registry.name().to_owned());
        let built = blocking(subject, move || build.finish(&registry, &plans)).await??;
        self.remember(event_type, &built, Listed { sources: wanted, avro }).await;
        Ok(Loaded { set: built.set, skipped: built.skipped, stale: None })
    }

    /// Puts together again what was loaded before, without the registry.
    async fn load_from(&self, event_type: &EventType, content: &Content) -> Result<build::Built, SchemaError> {
        let subject = subject_of(event_type)?;
        let default = match event_type.version {
            Version::Latest => content.default,
            Version::Number(number) => number,
        };
        let mut build = Build::from_content(event_type, content, default);
        let (plans, registry) = (Arc::clone(&self.plans), self.registry.name().to_owned());
        blocking(subject, move || {
            build = build.compile();
            if build::derives_avro(&build.event_type) {
                build.avro_subject = Some(build.avro_subject()?);
            }
            build.finish(&registry, &plans)
        })
        .await?
    }

    async fn fetch_sources(&self, subject: &str, versions: &[u32]) -> Result<Vec<Source>, SchemaError> {
        let found = self.fetch_all(subject, versions).await?;
        Ok(found.into_iter().map(|(version, family)| Source::new(version, family)).collect())
    }

    async fn fetch_candidates(&self, subject: &str, versions: &[u32]) -> Result<Vec<Candidate>, SchemaError> {
        let found = self.fetch_all(subject, versions).await?;
        // A candidate whose references are gone can be nobody's schema.
        Ok(found.into_iter().filter_map(|(version, family)| Candidate::new(version, family.ok()?)).collect())
    }

    /// Versions of a subject with what they refer to, in the order asked for. A version that was deleted meanwhile is left
    /// out, one whose references cannot be resolved carries the reason; a registry that does not answer fails it all.
    async fn fetch_all(
        &self,
        subject: &str,
        versions: &[u32],
    ) -> Result<Vec<(SubjectVersion, Result<Family, RegistryError>)>, SchemaError> {
        let mut tasks = JoinSet::new();
        let mut found = Vec::with_capacity(versions.len());
        let mut waiting = versions.iter();
        loop {
            while tasks.len() < CONCURRENT_MAX
                && let Some(version) = waiting.next()
            {
                tasks.spawn(fetch(Arc::clone(&self.registry), subject.to_owned(), *version));
            }
            match tasks.join_next().await {
                None => break,
                Some(Ok(Ok(Some(version)))) => found.push(version),
                Some(Ok(Ok(None))) => {}
                Some(Ok(Err(error))) => return Err(error.into()),
                Some(Err(_)) => return Err(SchemaError::Internal { subject: subject.to_owned() }),
            }
        }
        found.sort_by_key(|(version, _)| version.version);
        Ok(found)
    }

    /// The newest versions of an Avro subject; none when it does not exist.
    async fn list_candidates(&self, subject: &str) -> Result<Vec<u32>, SchemaError> {
        match self.registry.versions(subject).await {
            Ok(versions) => Ok(versions[versions.len().saturating_sub(CANDIDATES_MAX)..].to_vec()),
            Err(RegistryError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Some registries give the GUID only in answers by id.
    async fn complete_guids(&self, event_type: &EventType, build: &mut Build) -> Result<(), SchemaError> {
        if event_type.framing != crate::route::Framing::Header {
            return Ok(());
        }
        for registered in build.registered_mut().filter(|registered| registered.guid.is_none()) {
            registered.guid = self.registry.schema(registered.id).await?.guid.clone();
        }
        Ok(())
    }

    /// What was loaded before: from memory, else from disk. It serves only the same subject.
    async fn previous(&self, event_type: &EventType) -> Option<Arc<Content>> {
        let remembered = self.with_memory(&event_type.name, |memory| memory.content.clone());
        let content = match (remembered, &self.snapshots) {
            (Some(content), _) => Some(content),
            (None, None) => None,
            (None, Some(snapshots)) => {
                let (snapshots, registry) = (Arc::clone(snapshots), self.registry.name().to_owned());
                let event = event_type.name.clone();
                let read = tokio::task::spawn_blocking(move || snapshots.read(&registry, &event)).await.ok()?;
                let read = read.map_err(|error| self.note_snapshot_problem(&event_type.name, &error));
                read.ok().flatten().map(Arc::new)
            }
        };
        content.filter(|content| Some(&content.subject) == event_type.subject.as_ref())
    }

    async fn remember(&self, event_type: &EventType, built: &build::Built, listed: Listed) {
        let content = Content {
            registry: self.registry.name().to_owned(),
            event: event_type.name.clone(),
            subject: built.set.subject.clone(),
            taken_ms: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
            default: built.set.versions[built.set.default].version,
            versions: built.held.clone(),
        };
        let content = Arc::new(content);
        let problems: Vec<_> = built.skipped.iter().map(|s| format!("version {}: {}", s.version, s.error)).collect();
        let told = self.with_memory(&event_type.name, |memory| {
            memory.content = Some(Arc::clone(&content));
            memory.listed = Some(listed);
            std::mem::replace(&mut memory.status.problems, problems)
        });
        self.note_success(&event_type.name);
        for skipped in &built.skipped {
            // A version that stays bad while others come and go is told once; `/ready` has its reason of the moment.
            let prefix = format!("version {}: ", skipped.version);
            if !told.iter().any(|problem| problem.starts_with(&prefix)) {
                let (event, version, error) = (&event_type.name, skipped.version, &skipped.error);
                warn!(%event, version, %error, "a schema version is of no use and is left out");
            }
        }
        if let Some(snapshots) = self.snapshots.clone() {
            match tokio::task::spawn_blocking(move || snapshots.write(&content)).await {
                Ok(Ok(())) => self.with_memory(&event_type.name, |memory| memory.status.snapshot_problem = None),
                Ok(Err(error)) => self.note_snapshot_problem(&event_type.name, &error),
                // The runtime is shutting down; the file that is there stays.
                Err(_) => {}
            }
        }
    }

    fn note_success(&self, event: &str) {
        self.with_memory(event, |memory| {
            memory.status.last_success = Some(SystemTime::now());
            memory.status.stale_since = None;
        });
    }

    fn note_stale(&self, event: &str, stale: &Stale) {
        let first = self.with_memory(event, |memory| memory.status.stale_since.replace(stale.since).is_none());
        if first {
            let age_seconds = stale.since.elapsed().unwrap_or_default().as_secs();
            let error = &stale.error;
            warn!(%event, age_seconds, %error, "schemas could not be looked up; those known are served");
        }
    }

    fn note_snapshot_problem(&self, event: &str, error: &super::snapshot::SnapshotError) {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let problem = format!("{error}{cause}");
        let before = self.with_memory(event, |memory| memory.status.snapshot_problem.replace(problem.clone()));
        if before.as_ref() != Some(&problem) {
            warn!(%event, %problem, "the schema snapshot is not kept");
        }
    }

    fn with_memory<T>(&self, event: &str, f: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memory = self.memory.lock().expect("no code panics while it holds this lock");
        f(memory.entry(event.to_owned()).or_default())
    }
}

/// One version with what it refers to; nothing when it was deleted since it was listed.
async fn fetch(
    registry: Arc<Registry>,
    subject: String,
    version: u32,
) -> Result<Option<(SubjectVersion, Result<Family, RegistryError>)>, RegistryError> {
    let found = match registry.version(&subject, version).await {
        Ok(found) => found,
        Err(RegistryError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let referrer = format!("subject `{subject}` version {version}");
    match registry.family(&referrer, &found.registered.schema).await {
        Ok(family) => Ok(Some((found, Ok(family)))),
        Err(error @ RegistryError::References { .. }) => Ok(Some((found, Err(error)))),
        Err(error) => Err(error),
    }
}

fn subject_of(event_type: &EventType) -> Result<&str, SchemaError> {
    event_type.subject.as_deref().ok_or_else(|| SchemaError::NoSubject { event: event_type.name.clone() })
}

/// The versions that are loaded: the newest ones, and the one that the event type is pinned to.
fn considered(listed: &[u32], version: Version) -> Vec<u32> {
    let newest = listed.len().saturating_sub(VERSIONS_MAX);
    let pinned = listed[..newest].iter().filter(|v| version == Version::Number(**v));
    pinned.chain(&listed[newest..]).copied().collect()
}

fn no_version(event_type: &EventType, subject: &str, listed: &[u32]) -> SchemaError {
    let version = match event_type.version {
        Version::Latest => 1,
        Version::Number(number) => number,
    };
    let newest: Vec<_> = listed.iter().rev().take(10).map(u32::to_string).collect();
    let listed = if newest.is_empty() { "none".to_owned() } else { newest.join(", ") };
    SchemaError::NoVersion { subject: subject.to_owned(), version, listed }
}

/// Whether two sets serve events alike. Compiled versions are shared, so being the same is being in one place.
fn same(a: &SchemaSet, b: &SchemaSet) -> bool {
    a.default == b.default
        && a.versions.len() == b.versions.len()
        && a.versions.iter().zip(&b.versions).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// Runs what computes for long on a thread of its own. A panic there is a bug, and an event type's, not the process's.
async fn blocking<T: Send + 'static>(
    subject: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SchemaError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| SchemaError::Internal { subject: subject.to_owned() })
}

impl Held {
    /// The schema with what it imports.
    pub(super) fn family(&self) -> Family {
        Family { root: self.registered.schema.clone(), imports: self.imports.clone() }
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
