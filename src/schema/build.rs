//! What was fetched -> a [`SchemaSet`], in two steps of pure computing.
//!
//! In: the versions of a subject and of its Avro subject. Out: compiled versions, what of them to keep on disk, and the
//! reason for each version that is of no use. Never: I/O; call it on a blocking thread.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use dashmap::{DashMap, Entry};

use super::client::RegistryError;
use super::compile::{self, CompileError, EventMessage};
use super::load::{SchemaError, Skipped};
use super::read::ValueReader;
use super::snapshot::{Content, Held, HeldAvro};
use super::source::{Family, Kind, Registered, SubjectVersion};
use super::structure::Structure;
use super::{Compiled, SchemaSet};
use crate::envelope::framing;
use crate::route::{Encoding, EventType, Framing, KeySource, Mapping, SchemaType, UnknownFields, Version};
use crate::transcode::avro_in::AvroPlan;
use crate::transcode::json_schema::JsonSchema;
use crate::transcode::{self, Plan, PlanError, PlanSettings, Transcoder};

/// The set of an event type, in the making.
pub(super) struct Build {
    pub event_type: EventType,
    sources: Vec<Source>,
    /// The version that events without a reference are to use.
    default: u32,
    /// The one that they used before, which stays while the new one is of no use. Without it the newest one that is of use
    /// stands in.
    fallback: Option<u32>,
    /// Avro ids chosen before, by source id: what was chosen stays chosen.
    chosen: HashMap<u32, u32>,
    /// The subject of the derived schemas, once known.
    pub avro_subject: Option<String>,
    /// Its versions, ascending.
    pub candidates: Vec<Candidate>,
}

/// One version of the subject.
pub(super) struct Source {
    version: SubjectVersion,
    family: Result<Family, RegistryError>,
    /// Of Protobuf schemas, once compiled.
    message: Option<Result<EventMessage, CompileError>>,
}

/// One version of the Avro subject.
pub(super) struct Candidate {
    version: SubjectVersion,
    references: Vec<String>,
    /// None for a text that is no Avro schema of ours to read.
    structure: Option<Structure>,
}

/// What came out.
pub(super) struct Built {
    pub set: SchemaSet,
    pub skipped: Vec<Skipped>,
    pub held: Vec<Held>,
}

/// Compiled versions that are in use somewhere, by everything that they depend on.
#[derive(Debug, Default)]
pub(super) struct Plans {
    compiled: DashMap<PlanKey, Weak<Compiled>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PlanKey {
    subject: String,
    version: u32,
    id: u32,
    schema_type: SchemaType,
    message: Option<String>,
    encoding: Encoding,
    mapping: Mapping,
    key: Option<String>,
    unknown_fields: UnknownFields,
    prefix: Vec<u8>,
    header: Vec<u8>,
}

impl Source {
    pub fn new(version: SubjectVersion, family: Result<Family, RegistryError>) -> Source {
        Source { version, family, message: None }
    }
}

impl Candidate {
    /// A candidate, if it is an Avro schema at all.
    pub fn new(version: SubjectVersion, family: Family) -> Option<Candidate> {
        if family.root.kind != Kind::Avro {
            return None;
        }
        let references: Vec<_> = family.imports.into_iter().map(|(_, schema)| schema.text).collect();
        Some(Candidate { version, references, structure: None })
    }

    /// Reads the text. Not done when it is fetched: that happens on a thread that serves others.
    fn read(&mut self) {
        let references = self.references.iter().map(String::as_str);
        self.structure = Structure::parse(&self.version.registered.schema.text, references).ok();
    }

    fn held(&self) -> HeldAvro {
        HeldAvro { version: self.version.clone(), references: self.references.clone() }
    }
}

impl Build {
    pub fn new(event_type: &EventType, sources: Vec<Source>, default: u32, previous: Option<&Content>) -> Build {
        let fallback = previous.filter(|_| event_type.version == Version::Latest).map(|content| content.default);
        let chosen = previous.map(chosen).unwrap_or_default();
        let event_type = event_type.clone();
        Build { event_type, sources, default, fallback, chosen, avro_subject: None, candidates: Vec::new() }
    }

    /// The same from what was kept of an earlier load.
    pub fn from_content(event_type: &EventType, content: &Content, default: u32) -> Build {
        let source = |held: &Held| {
            let (subject, registered) = (content.subject.clone(), held.registered.clone());
            Source::new(SubjectVersion { subject, version: held.version, registered }, Ok(held.family()))
        };
        let sources = content.versions.iter().map(source).collect();
        let mut build = Build::new(event_type, sources, default, Some(content));
        let mut held: Vec<_> = content.versions.iter().filter_map(|held| held.avro.as_ref()).collect();
        held.sort_by_key(|avro| avro.version.version);
        held.dedup_by_key(|avro| avro.version.version);
        build.candidates = held
            .into_iter()
            .map(|avro| Candidate {
                version: avro.version.clone(),
                references: avro.references.clone(),
                structure: None,
            })
            .collect();
        build
    }

    /// Compiles the texts, where they are Protobuf, and finds the message in each.
    pub fn compile(mut self) -> Build {
        if self.event_type.schema_type != SchemaType::Protobuf {
            return self;
        }
        for source in &mut self.sources {
            let Ok(family) = &source.family else { continue };
            let (subject, version) = (&source.version.subject, source.version.version);
            let found = compile::compile(&format!("{subject}/{version}.proto"), family)
                .and_then(|file| file.message(subject, self.event_type.message.as_deref()));
            source.message = Some(found);
        }
        self
    }

    /// The subject of the derived schemas: as set, else the message's full name and `-avro`, in the subject's context. The
    /// message is the default version's, or where that has none, the one of the version that stands in for it.
    pub fn avro_subject(&self) -> Result<String, SchemaError> {
        if let Some(subject) = &self.event_type.avro_subject {
            return Ok(subject.clone());
        }
        let message_of = |source: &Source| {
            let message = source.family(SchemaType::Protobuf).and_then(|_| source.message());
            message.map(|message| message.descriptor.full_name().to_owned())
        };
        let found = |version: u32| self.sources.iter().find(|source| source.version.version == version);
        let name = match found(self.default).map_or_else(|| Err(self.no_version()), message_of) {
            Ok(name) => name,
            Err(error) => {
                let others = self.fallback.and_then(found).into_iter().chain(self.others());
                others.filter_map(|source| message_of(source).ok()).next().ok_or(error)?
            }
        };
        let subject = self.event_type.subject.as_deref().unwrap_or_default();
        let context = subject.strip_suffix(compile::without_context(subject)).unwrap_or_default();
        Ok(format!("{context}{name}-avro"))
    }

    /// The schemas by which values may be framed.
    pub fn registered_mut(&mut self) -> Box<dyn Iterator<Item = &mut Registered> + Send + '_> {
        match derives_avro(&self.event_type) {
            true => Box::new(self.candidates.iter_mut().map(|candidate| &mut candidate.version.registered)),
            false => Box::new(self.sources.iter_mut().map(|source| &mut source.version.registered)),
        }
    }

    /// Matches, plans and frames each version. An error is about the default version.
    pub fn finish(mut self, registry: &str, plans: &Plans) -> Result<Built, SchemaError> {
        self.candidates.iter_mut().for_each(Candidate::read);
        let mut built = Built {
            set: SchemaSet {
                subject: self.event_type.subject.clone().unwrap_or_default(),
                default: 0,
                versions: Vec::with_capacity(self.sources.len()),
            },
            skipped: Vec::new(),
            held: Vec::with_capacity(self.sources.len()),
        };
        for source in &self.sources {
            match self.build_one(source, registry, plans) {
                Ok((compiled, held)) => {
                    built.set.versions.push(compiled);
                    built.held.push(held);
                }
                Err(error) => built.skipped.push(Skipped { version: source.version.version, error }),
            }
        }
        let position = |version: u32| built.set.versions.iter().position(|compiled| compiled.version == version);
        let others = || self.others().find_map(|source| position(source.version.version));
        match position(self.default).or_else(|| self.fallback.and_then(position)).or_else(others) {
            Some(default) => {
                built.set.default = default;
                plans.sweep();
                Ok(built)
            }
            None => {
                let reason = built.skipped.into_iter().find(|skipped| skipped.version == self.default);
                Err(reason.map_or_else(|| self.no_version(), |skipped| skipped.error))
            }
        }
    }

    fn build_one(&self, source: &Source, registry: &str, plans: &Plans) -> Result<(Arc<Compiled>, Held), SchemaError> {
        let family = source.family(self.event_type.schema_type)?;
        let message = match self.event_type.schema_type {
            SchemaType::Protobuf => Some(source.message()?),
            SchemaType::Avro | SchemaType::Json => None,
        };
        let avro = match message {
            Some(message) if derives_avro(&self.event_type) => Some(self.choose(source, message)?),
            _ => None,
        };
        let compiled = self.plan(source, Language { family, message, avro }, registry, plans)?;
        let held = Held {
            version: source.version.version,
            registered: source.version.registered.clone(),
            imports: family.imports.clone(),
            avro: avro.map(Candidate::held),
        };
        Ok((compiled, held))
    }

    /// The Avro schema for a version: the one chosen before if it still fits, else the highest that fits.
    fn choose(&self, source: &Source, message: &EventMessage) -> Result<&Candidate, SchemaError> {
        let planned = |source_error: PlanError| source.plan_error(source_error);
        let text = transcode::avro_schema(&message.descriptor, &self.event_type.mapping).map_err(planned)?;
        let derived = Structure::parse(&text, []).map_err(|e| planned(PlanError { message: e.message }))?;
        let mut nearest = None;
        let mut fitting = Vec::new();
        for candidate in self.candidates.iter().rev() {
            let Some(structure) = &candidate.structure else { continue };
            let differences = derived.differences(structure);
            match differences.first() {
                None => fitting.push(candidate),
                Some(first) if nearest.as_ref().is_none_or(|(_, count, _)| differences.len() < *count) => {
                    nearest = Some((first.clone(), differences.len(), candidate.version.version));
                }
                Some(_) => {}
            }
        }
        let before = self.chosen.get(&source.version.registered.id);
        let kept = fitting.iter().find(|candidate| Some(&candidate.version.registered.id) == before);
        if let Some(chosen) = kept.or(fitting.first()) {
            return Ok(chosen);
        }
        let difference = match nearest {
            None => "it has no Avro schema at all".to_owned(),
            Some((first, 1, version)) => first.describe("derived", &format!("in version {version}")),
            Some((first, count, version)) => {
                let first = first.describe("derived", &format!("in version {version}"));
                format!("{first}, and {} more", if count == 2 { "one".to_owned() } else { (count - 1).to_string() })
            }
        };
        Err(SchemaError::NoAvro {
            avro_subject: self.avro_subject.clone().unwrap_or_default(),
            subject: source.version.subject.clone(),
            version: source.version.version,
            difference,
        })
    }

    fn plan(
        &self,
        source: &Source,
        language: Language<'_>,
        registry: &str,
        plans: &Plans,
    ) -> Result<Arc<Compiled>, SchemaError> {
        let event_type = &self.event_type;
        let framed = language.avro.map_or(&source.version, |avro| &avro.version);
        let (prefix, header) = frame(event_type, framed, language.message.map(|message| message.index), registry)?;
        let key = match &event_type.key {
            KeySource::Field(path) => Some(path.as_str()),
            KeySource::Envelope | KeySource::None => None,
        };
        let plan_key = PlanKey {
            subject: source.version.subject.clone(),
            version: source.version.version,
            id: source.version.registered.id,
            schema_type: event_type.schema_type,
            message: language.message.map(|message| message.descriptor.full_name().to_owned()),
            encoding: event_type.encoding,
            mapping: event_type.mapping,
            key: key.map(str::to_owned),
            unknown_fields: event_type.unknown_fields,
            prefix: prefix.clone(),
            header: header.clone(),
        };
        plans.get(plan_key, || {
            Ok(Compiled {
                version: source.version.version,
                id: source.version.registered.id,
                value_id: framed.registered.id,
                plan: language.transcoder(event_type, key).map_err(|error| source.plan_error(error))?,
                prefix,
                header,
                reader: language.reader(event_type.encoding).map_err(|error| source.plan_error(error))?,
            })
        })
    }

    /// The versions that may stand in for the newest one while that is of no use, newest first.
    fn others(&self) -> impl Iterator<Item = &Source> {
        let wanted = self.event_type.version == Version::Latest;
        self.sources.iter().rev().filter(move |_| wanted)
    }

    fn no_version(&self) -> SchemaError {
        let listed: Vec<_> = self.sources.iter().map(|source| source.version.version.to_string()).collect();
        SchemaError::NoVersion {
            subject: self.event_type.subject.clone().unwrap_or_default(),
            version: self.default,
            listed: if listed.is_empty() { "none".to_owned() } else { listed.join(", ") },
        }
    }
}

/// What a version's plan is made of: its texts, and for Protobuf its message and the Avro schema that was chosen for it.
#[derive(Clone, Copy)]
struct Language<'a> {
    family: &'a Family,
    message: Option<&'a EventMessage>,
    avro: Option<&'a Candidate>,
}

impl Language<'_> {
    fn transcoder(&self, event_type: &EventType, key: Option<&str>) -> Result<Transcoder, PlanError> {
        let root = &self.family.root;
        Ok(match self.message {
            Some(message) => {
                let settings = PlanSettings {
                    encoding: event_type.encoding,
                    mapping: event_type.mapping,
                    key,
                    unknown_fields: event_type.unknown_fields,
                };
                Transcoder::Protobuf(Plan::compile(&message.descriptor, &settings)?)
            }
            None if root.kind == Kind::Avro => {
                let references = self.reference_texts();
                Transcoder::Avro(AvroPlan::compile(&root.text, &references, key, event_type.unknown_fields)?)
            }
            None => {
                let references: Vec<_> =
                    self.family.imports.iter().map(|(name, schema)| (name.clone(), schema.text.clone())).collect();
                Transcoder::JsonSchema(JsonSchema::compile(&root.text, &references, key)?)
            }
        })
    }

    fn reader(&self, encoding: Encoding) -> Result<ValueReader, PlanError> {
        let avro = match (self.message, self.avro) {
            (_, Some(avro)) => ValueReader::avro(&avro.version.registered.schema.text, &avro.references),
            (None, None) if encoding == Encoding::Avro => {
                ValueReader::avro(&self.family.root.text, &self.reference_texts())
            }
            (Some(message), None) if encoding == Encoding::Protobuf => {
                return Ok(ValueReader::protobuf(message.descriptor.clone()));
            }
            _ => return Ok(ValueReader::Json),
        };
        avro.map_err(|error| PlanError { message: format!("the registered Avro schema cannot be read: {error}") })
    }

    fn reference_texts(&self) -> Vec<String> {
        self.family.imports.iter().map(|(_, schema)| schema.text.clone()).collect()
    }
}

impl Source {
    /// The texts, if they are in the language that the event type expects.
    fn family(&self, expected: SchemaType) -> Result<&Family, SchemaError> {
        let family = self.family.as_ref().map_err(|error| SchemaError::from(error.clone()))?;
        let kinds = family.imports.iter().map(|(_, schema)| schema.kind).chain([family.root.kind]);
        match kinds.into_iter().find(|kind| *kind != expected) {
            None => Ok(family),
            Some(found) => Err(SchemaError::SchemaType { schema: self.name(), found, expected }),
        }
    }

    fn message(&self) -> Result<&EventMessage, SchemaError> {
        if let Err(error) = &self.family {
            return Err(error.clone().into());
        }
        let found = self.message.as_ref().expect("every source is compiled before it is used");
        found.as_ref().map_err(|error| SchemaError::Compile { schema: self.name(), source: error.clone() })
    }

    fn plan_error(&self, source: PlanError) -> SchemaError {
        SchemaError::Plan { schema: self.name(), source }
    }

    fn name(&self) -> String {
        format!("subject `{}` version {}", self.version.subject, self.version.version)
    }
}

impl Plans {
    /// A compiled version, made at most once while anybody uses it.
    fn get(
        &self,
        key: PlanKey,
        make: impl FnOnce() -> Result<Compiled, SchemaError>,
    ) -> Result<Arc<Compiled>, SchemaError> {
        // The entry stays locked while the plan is made, so that two event types of one subject make it once.
        match self.compiled.entry(key) {
            Entry::Occupied(mut there) => match there.get().upgrade() {
                Some(compiled) => Ok(compiled),
                None => {
                    let compiled = Arc::new(make()?);
                    there.insert(Arc::downgrade(&compiled));
                    Ok(compiled)
                }
            },
            Entry::Vacant(free) => {
                let compiled = Arc::new(make()?);
                free.insert(Arc::downgrade(&compiled));
                Ok(compiled)
            }
        }
    }

    /// Forgets what nobody uses any more.
    fn sweep(&self) {
        self.compiled.retain(|_, compiled| compiled.strong_count() > 0);
    }
}

fn chosen(content: &Content) -> HashMap<u32, u32> {
    let pair = |held: &Held| Some((held.registered.id, held.avro.as_ref()?.version.registered.id));
    content.versions.iter().filter_map(pair).collect()
}

/// Whether values are Avro by a schema that is derived from the subject's.
pub(super) fn derives_avro(event_type: &EventType) -> bool {
    event_type.schema_type == SchemaType::Protobuf && event_type.encoding == Encoding::Avro
}

/// Prefix and header by which a value names its schema; both empty for proto3 JSON, which has no framing.
fn frame(
    event_type: &EventType,
    framed: &SubjectVersion,
    message_index: Option<u32>,
    registry: &str,
) -> Result<(Vec<u8>, Vec<u8>), SchemaError> {
    // The compiler refuses files with anywhere near 2^31 messages.
    let indexes = message_index.map(|index| [index as i32]);
    let indexes = match (event_type.encoding, event_type.schema_type) {
        (Encoding::Avro, _) | (Encoding::Json, SchemaType::Json) => None,
        (Encoding::Protobuf, _) => indexes.as_ref().map(|indexes| &indexes[..]),
        (Encoding::Json | Encoding::RawJson, _) => return Ok((Vec::new(), Vec::new())),
    };
    match event_type.framing {
        Framing::Prefix => Ok((framing::write_prefix(framed.registered.id, indexes), Vec::new())),
        Framing::Header => {
            let guid = framed.registered.guid.as_deref().and_then(|guid| uuid::Uuid::parse_str(guid).ok());
            let guid = guid.ok_or_else(|| SchemaError::NoGuid {
                registry: registry.to_owned(),
                wanted: format!("subject `{}` version {}", framed.subject, framed.version),
            })?;
            Ok((Vec::new(), framing::header_value(guid.into_bytes(), indexes)))
        }
    }
}
