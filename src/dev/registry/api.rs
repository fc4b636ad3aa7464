//! The REST API: a request against the state, and its answer. Pure but for the time that compiling takes.
//!
//! Error codes are those of Confluent Schema Registry (`core/.../rest/exceptions/Errors.java`).

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::judge;
use super::state::{Entry, Held, Mode, State, Subject};
use crate::schema::compatibility::Level;
use crate::schema::source::{Family, Kind, Reference, Schema};

/// Largest schema text; how many schemas and how many bytes of them there may be.
const TEXT_BYTES_MAX: usize = 1 << 20;
const SCHEMAS_MAX: usize = 20_000;
const SCHEMAS_BYTES_MAX: usize = 256 << 20;

/// Longest subject name, in bytes.
const SUBJECT_BYTES_MAX: usize = 1_024;

/// One request, its path decoded.
#[derive(Debug)]
pub(super) struct Ask {
    method: String,
    path: Vec<String>,
    query: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Status and JSON.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    status: u16,
    code: u32,
    message: String,
}

impl Refusal {
    pub fn new(status: u16, code: u32, message: impl Into<String>) -> Refusal {
        Refusal { status, code, message: message.into() }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Answer {
        Answer::error(refusal.status, refusal.code, &refusal.message)
    }
}

impl Answer {
    pub fn error(status: u16, code: u32, message: &str) -> Answer {
        Answer { status, body: json!({"error_code": code, "message": message}).to_string().into_bytes() }
    }

    fn ok(value: Value) -> Result<Answer, Refusal> {
        Ok(Answer { status: 200, body: value.to_string().into_bytes() })
    }
}

/// A schema as clients post it. `metadata` and `ruleSet` are not kept, so a schema that has them is refused.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    schema: String,
    schema_type: Option<String>,
    references: Option<Vec<Reference>>,
    metadata: Option<Value>,
    rule_set: Option<Value>,
}

impl Ask {
    pub fn new(method: &str, path: &str, query: &str, body: &[u8]) -> Ask {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(&value.replace('+', " ")))
        };
        Ask {
            method: method.to_owned(),
            path: path.split('/').filter(|segment| !segment.is_empty()).map(decode).collect(),
            query: query.split('&').filter(|part| !part.is_empty()).map(pair).collect(),
            body: body.to_vec(),
        }
    }

    /// Whether it leaves the state as it is, so that nobody has to wait for it.
    pub fn is_read_only(&self) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        matches!(
            (self.method.as_str(), &path[..]),
            ("GET" | "HEAD", _) | ("POST", ["compatibility", ..] | ["subjects", _])
        )
    }

    pub fn answer(&self, state: &mut State) -> Result<Answer, Refusal> {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        match (self.method.as_str(), &path[..]) {
            ("GET" | "HEAD", []) => Answer::ok(json!({})),
            ("GET", ["subjects"]) => self.subjects(state),
            ("POST", ["subjects", subject]) => self.look_up(state, subject),
            ("DELETE", ["subjects", subject]) => self.delete_subject(state, subject),
            ("GET", ["subjects", subject, "versions"]) => {
                let only_deleted = self.flag("deletedOnly");
                let versions = self.visible(state, subject)?.into_iter();
                let versions = versions.filter(|entry| !only_deleted || entry.deleted);
                self.page(versions.map(|entry| entry.version.into()).collect())
            }
            ("POST", ["subjects", subject, "versions"]) => self.register(state, subject),
            ("GET", ["subjects", subject, "versions", version]) => {
                let entry = self.entry(state, subject, version)?;
                Answer::ok(self.describe(state, Some((subject, entry.version)), entry.id)?)
            }
            ("DELETE", ["subjects", subject, "versions", version]) => self.delete_version(state, subject, version),
            ("GET", ["subjects", subject, "versions", version, "schema"]) => {
                let entry = self.entry(state, subject, version)?;
                raw(&state.schemas[&entry.id].schema)
            }
            ("GET", ["subjects", subject, "versions", version, "referencedby"]) => {
                let entry = self.entry(state, subject, version)?;
                Answer::ok(json!(state.referrers(subject, entry.version)))
            }
            ("GET", ["schemas"]) => self.all(state),
            ("GET", ["schemas", "types"]) => Answer::ok(json!(["JSON", "PROTOBUF", "AVRO"])),
            ("GET", ["schemas", "ids", id]) => Answer::ok(self.describe(state, None, schema_id(state, id)?)?),
            ("GET", ["schemas", "ids", id, "schema"]) => raw(&state.schemas[&schema_id(state, id)?].schema),
            ("GET", ["schemas", "ids", id, "subjects"]) => {
                let mut names: Vec<_> = state.users(schema_id(state, id)?).into_iter().map(|(name, _)| name).collect();
                names.dedup();
                Answer::ok(json!(names))
            }
            ("GET", ["schemas", "ids", id, "versions"]) => {
                let users = state.users(schema_id(state, id)?).into_iter();
                Answer::ok(users.map(|(subject, version)| json!({"subject": subject, "version": version})).collect())
            }
            ("GET", ["schemas", "guids", guid]) => Answer::ok(self.describe(state, None, by_guid(state, guid)?)?),
            ("GET", ["schemas", "guids", guid, "ids"]) => Answer::ok(json!([by_guid(state, guid)?])),
            (_, ["config"]) => self.global_config(state),
            (_, ["config", subject]) => self.subject_config(state, subject),
            (_, ["mode"]) => self.global_mode(state),
            (_, ["mode", subject]) => self.subject_mode(state, subject),
            ("POST", ["compatibility", "subjects", subject, "versions"]) => self.compatibility(state, subject, None),
            ("POST", ["compatibility", "subjects", subject, "versions", version]) => {
                self.compatibility(state, subject, Some(version))
            }
            ("GET", ["contexts"]) => Answer::ok(json!(["."])),
            ("GET", ["v1", "metadata", "id"]) => Answer::ok(json!({"scope": {"path": [], "clusters": {}}, "id": ""})),
            ("GET", ["v1", "metadata", "version"]) => {
                Answer::ok(json!({"version": env!("CARGO_PKG_VERSION"), "commitId": ""}))
            }
            _ => Err(Refusal::new(404, 404, "HTTP 404 Not Found")),
        }
    }

    fn subjects(&self, state: &State) -> Result<Answer, Refusal> {
        let prefix = self.parameter("subjectPrefix").unwrap_or("");
        let (deleted, deleted_only) = (self.flag("deleted"), self.flag("deletedOnly"));
        let shown = |subject: &Subject| match (subject.live().next().is_some(), deleted_only) {
            (live, true) => !live && !subject.versions.is_empty(),
            (live, false) => live || deleted && !subject.versions.is_empty(),
        };
        let names = state.subjects.iter().filter(|(name, subject)| name.starts_with(prefix) && shown(subject));
        self.page(names.map(|(name, _)| Value::from(name.as_str())).collect())
    }

    /// All versions of all subjects.
    fn all(&self, state: &State) -> Result<Answer, Refusal> {
        let prefix = self.parameter("subjectPrefix").unwrap_or("");
        let (deleted, latest_only) = (self.flag("deleted"), self.flag("latestOnly"));
        let mut found = Vec::new();
        for (name, subject) in state.subjects.iter().filter(|(name, _)| name.starts_with(prefix)) {
            let mut versions: Vec<_> = subject.versions.iter().filter(|entry| deleted || !entry.deleted).collect();
            if latest_only {
                versions = versions.split_off(versions.len().saturating_sub(1));
            }
            for entry in versions {
                found.push(self.describe(state, Some((name, entry.version)), entry.id)?);
            }
        }
        self.page(found)
    }

    /// The part of a list that `offset` and `limit` name.
    fn page(&self, list: Vec<Value>) -> Result<Answer, Refusal> {
        let number = |name| self.parameter(name).and_then(|value| value.parse::<usize>().ok());
        // A limit below one is none, as with Confluent.
        let limit = number("limit").filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        Answer::ok(list.into_iter().skip(number("offset").unwrap_or(0)).take(limit).collect())
    }

    fn look_up(&self, state: &State, name: &str) -> Result<Answer, Refusal> {
        let versions = self.visible(state, name)?;
        let held = self.posted(state)?;
        let found = versions.iter().rev().find(|entry| state.schemas[&entry.id].identity == held.identity);
        let found =
            found.ok_or_else(|| Refusal::new(404, 40_403, format!("subject `{name}` does not have this schema")))?;
        Answer::ok(self.describe(state, Some((name, found.version)), found.id)?)
    }

    fn register(&self, state: &mut State, name: &str) -> Result<Answer, Refusal> {
        if name.is_empty() || name.len() > SUBJECT_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(Refusal::new(422, 42_208, "a subject has 1 to 1024 bytes and no control character"));
        }
        let held = self.posted(state)?;
        let existing = state.subjects.get(name).and_then(|subject| {
            subject.live().find(|entry| state.schemas[&entry.id].identity == held.identity).copied()
        });
        let entry = match existing {
            Some(entry) => entry,
            None => {
                writable(state, name)?;
                let full = state.schemas.len() >= SCHEMAS_MAX
                    || state.schemas.values().map(|held| held.schema.text.len()).sum::<usize>() > SCHEMAS_BYTES_MAX;
                if full {
                    return Err(Refusal::new(422, 42_209, "the embedded registry is full"));
                }
                let problems = self.problems(state, name, &held.schema, None)?;
                if let Some(first) = problems.first() {
                    let message = format!("the schema is not compatible with those of subject `{name}`: {first}");
                    return Err(Refusal::new(409, 409, message));
                }
                state.register(name, held)
            }
        };
        let mut answer = self.describe(state, Some((name, entry.version)), entry.id)?;
        // Clients that only expect an id get little more; the subject is not in Confluent's answer either.
        answer.as_object_mut().expect("it describes a schema").remove("subject");
        Answer::ok(answer)
    }

    fn compatibility(&self, state: &State, name: &str, version: Option<&str>) -> Result<Answer, Refusal> {
        let only = version.map(|version| self.entry(state, name, version)).transpose()?;
        let held = self.posted(state)?;
        let problems = self.problems(state, name, &held.schema, only.map(|entry| entry.version))?;
        let mut answer = json!({"is_compatible": problems.is_empty()});
        if self.flag("verbose") {
            answer["messages"] = json!(problems);
        }
        Answer::ok(answer)
    }

    /// Why a schema may not follow those of a subject, or one of them.
    fn problems(&self, state: &State, name: &str, new: &Schema, only: Option<u32>) -> Result<Vec<String>, Refusal> {
        let Some(subject) = state.subjects.get(name) else { return Ok(Vec::new()) };
        let of = |schema: &Schema| judge::family(schema, |reference| state.resolve(reference));
        let older: Vec<(u32, Family)> = subject
            .live()
            .filter(|entry| only.is_none_or(|only| only == entry.version))
            .filter_map(|entry| Some((entry.version, of(&state.schemas[&entry.id].schema).ok()?)))
            .collect();
        let new = of(new).map_err(|problem| Refusal::new(422, 42_201, problem))?;
        Ok(judge::incompatibilities(&new, &older, state.level_of(name)))
    }

    fn delete_subject(&self, state: &mut State, name: &str) -> Result<Answer, Refusal> {
        writable(state, name)?;
        let permanent = self.flag("permanent");
        let subject = state.subjects.get(name).filter(|subject| !subject.versions.is_empty());
        let subject = subject.ok_or_else(|| no_subject(name))?;
        let live: Vec<u32> = subject.live().map(|entry| entry.version).collect();
        let versions: Vec<u32> = match (permanent, live.is_empty()) {
            (false, true) => {
                return Err(Refusal::new(404, 40_404, format!("subject `{name}` is soft-deleted already")));
            }
            (true, false) => {
                return Err(Refusal::new(404, 40_405, format!("subject `{name}` must be soft-deleted first")));
            }
            (false, false) => live,
            (true, true) => subject.versions.iter().map(|entry| entry.version).collect(),
        };
        if let Some(version) = versions.iter().find(|version| !state.referrers(name, **version).is_empty()) {
            return Err(referenced(name, *version));
        }
        let subject = state.subjects.get_mut(name).expect("it was found above");
        if permanent {
            subject.versions.clear();
            state.sweep();
        } else {
            subject.versions.iter_mut().for_each(|entry| entry.deleted = true);
        }
        Answer::ok(json!(versions))
    }

    fn delete_version(&self, state: &mut State, name: &str, version: &str) -> Result<Answer, Refusal> {
        writable(state, name)?;
        let permanent = self.flag("permanent");
        let subject = state.subjects.get(name).filter(|subject| !subject.versions.is_empty());
        let entry = *find_entry(subject.ok_or_else(|| no_subject(name))?, version, true)?;
        let version = entry.version;
        match (permanent, entry.deleted) {
            (false, true) => {
                let message = format!("version {version} of subject `{name}` is soft-deleted already");
                return Err(Refusal::new(404, 40_406, message));
            }
            (true, false) => {
                let message = format!("version {version} of subject `{name}` must be soft-deleted first");
                return Err(Refusal::new(404, 40_407, message));
            }
            _ => {}
        }
        if !state.referrers(name, version).is_empty() {
            return Err(referenced(name, version));
        }
        let subject = state.subjects.get_mut(name).expect("it was found above");
        if permanent {
            subject.versions.retain(|entry| entry.version != version);
            state.sweep();
        } else {
            subject.versions.iter_mut().filter(|e| e.version == version).for_each(|entry| entry.deleted = true);
        }
        Answer::ok(json!(version))
    }

    fn global_config(&self, state: &mut State) -> Result<Answer, Refusal> {
        match self.method.as_str() {
            "GET" => Answer::ok(json!({"compatibilityLevel": state.level.unwrap_or_default()})),
            "PUT" => {
                let level = self.level()?;
                state.level = Some(level);
                Answer::ok(json!({"compatibility": level}))
            }
            "DELETE" => Answer::ok(json!({"compatibilityLevel": state.level.take().unwrap_or_default()})),
            _ => Err(no_method()),
        }
    }

    fn subject_config(&self, state: &mut State, name: &str) -> Result<Answer, Refusal> {
        let none = || Refusal::new(404, 40_408, format!("subject `{name}` has no compatibility level of its own"));
        match self.method.as_str() {
            "GET" => match state.subjects.get(name).and_then(|subject| subject.level) {
                Some(level) => Answer::ok(json!({"compatibilityLevel": level})),
                None if self.flag("defaultToGlobal") => {
                    Answer::ok(json!({"compatibilityLevel": state.level.unwrap_or_default()}))
                }
                None => Err(none()),
            },
            "PUT" => {
                let level = self.level()?;
                state.subjects.entry(name.to_owned()).or_default().level = Some(level);
                Answer::ok(json!({"compatibility": level}))
            }
            "DELETE" => {
                let level = state.subjects.get_mut(name).and_then(|subject| subject.level.take()).ok_or_else(none)?;
                state.sweep();
                Answer::ok(json!({"compatibilityLevel": level}))
            }
            _ => Err(no_method()),
        }
    }

    fn global_mode(&self, state: &mut State) -> Result<Answer, Refusal> {
        match self.method.as_str() {
            "GET" => Answer::ok(json!({"mode": state.mode.unwrap_or_default()})),
            "PUT" => {
                let mode = self.mode()?;
                state.mode = Some(mode);
                Answer::ok(json!({"mode": mode}))
            }
            "DELETE" => Answer::ok(json!({"mode": state.mode.take().unwrap_or_default()})),
            _ => Err(no_method()),
        }
    }

    fn subject_mode(&self, state: &mut State, name: &str) -> Result<Answer, Refusal> {
        let none = || Refusal::new(404, 40_409, format!("subject `{name}` has no mode of its own"));
        match self.method.as_str() {
            "GET" => match state.subjects.get(name).and_then(|subject| subject.mode) {
                Some(mode) => Answer::ok(json!({"mode": mode})),
                None if self.flag("defaultToGlobal") => Answer::ok(json!({"mode": state.mode.unwrap_or_default()})),
                None => Err(none()),
            },
            "PUT" => {
                let mode = self.mode()?;
                state.subjects.entry(name.to_owned()).or_default().mode = Some(mode);
                Answer::ok(json!({"mode": mode}))
            }
            "DELETE" => {
                let mode = state.subjects.get_mut(name).and_then(|subject| subject.mode.take()).ok_or_else(none)?;
                state.sweep();
                Answer::ok(json!({"mode": mode}))
            }
            _ => Err(no_method()),
        }
    }

    /// The posted schema, checked with all that it refers to.
    fn posted(&self, state: &State) -> Result<Held, Refusal> {
        let invalid = |problem: String| Refusal::new(422, 42_201, format!("invalid schema: {problem}"));
        let posted: Posted = serde_json::from_slice(&self.body).map_err(|error| invalid(error.to_string()))?;
        if posted.schema.len() > TEXT_BYTES_MAX {
            return Err(Refusal::new(422, 42_209, format!("the schema has over {TEXT_BYTES_MAX} bytes")));
        }
        if posted.metadata.is_some() || posted.rule_set.is_some() {
            return Err(Refusal::new(422, 42_205, "the embedded registry keeps no `metadata` and no `ruleSet`"));
        }
        let kind = posted.schema_type.as_deref().unwrap_or(Kind::Avro.as_str());
        let kind = Kind::parse(kind).ok_or_else(|| invalid(format!("there is no schema type `{kind}`")))?;
        let schema = Schema { kind, text: posted.schema, references: posted.references.unwrap_or_default() };
        let family = judge::family(&schema, |reference| state.resolve(reference)).map_err(invalid)?;
        judge::check(&family).map_err(invalid)
    }

    /// A schema as answers show it; `schemaType` is left out for Avro, references when there are none.
    fn describe(&self, state: &State, of: Option<(&str, u32)>, id: u32) -> Result<Value, Refusal> {
        let held = &state.schemas[&id];
        let mut answer = Map::new();
        if let Some((subject, version)) = of {
            answer.insert("subject".to_owned(), subject.into());
            answer.insert("version".to_owned(), version.into());
            answer.insert("id".to_owned(), id.into());
        }
        answer.insert("guid".to_owned(), held.guid.as_str().into());
        if held.schema.kind != Kind::Avro {
            answer.insert("schemaType".to_owned(), held.schema.kind.as_str().into());
        }
        let serialized = held.schema.kind == Kind::Protobuf && self.parameter("format") == Some("serialized");
        let text = if serialized {
            let family = judge::family(&held.schema, |reference| state.resolve(reference));
            let serialized = family.and_then(|family| judge::serialized(&family));
            serialized.map_err(|problem| Refusal::new(422, 42_201, format!("invalid schema: {problem}")))?
        } else {
            held.schema.text.clone()
        };
        answer.insert("schema".to_owned(), text.into());
        if !held.schema.references.is_empty() {
            answer.insert("references".to_owned(), json!(held.schema.references));
        }
        Ok(answer.into())
    }

    /// The versions of a subject that the request may see; there is at least one.
    fn visible<'a>(&self, state: &'a State, name: &str) -> Result<Vec<&'a Entry>, Refusal> {
        let deleted = self.flag("deleted") || self.flag("deletedOnly");
        let subject = state.subjects.get(name).ok_or_else(|| no_subject(name))?;
        let versions: Vec<_> = subject.versions.iter().filter(|entry| deleted || !entry.deleted).collect();
        if versions.is_empty() { Err(no_subject(name)) } else { Ok(versions) }
    }

    fn entry<'a>(&self, state: &'a State, name: &str, version: &str) -> Result<&'a Entry, Refusal> {
        self.visible(state, name)?;
        find_entry(&state.subjects[name], version, self.flag("deleted"))
    }

    fn level(&self) -> Result<Level, Refusal> {
        let body: Map<String, Value> = serde_json::from_slice(&self.body).unwrap_or_default();
        let name = body.get("compatibility").or(body.get("compatibilityLevel")).and_then(Value::as_str);
        let level = name.and_then(Level::parse).ok_or_else(|| {
            let levels = "the compatibility level is NONE, BACKWARD, FORWARD or FULL, or one with _TRANSITIVE";
            Refusal::new(422, 42_203, levels)
        })?;
        // Every schema is normalised, so that asking for it changes nothing; the rest would.
        let harmless = |name: &str| matches!(name, "compatibility" | "compatibilityLevel" | "normalize");
        match body.iter().find(|(name, value)| !harmless(name) && !value.is_null()) {
            Some((name, _)) => Err(Refusal::new(422, 42_205, format!("the embedded registry has no setting `{name}`"))),
            None => Ok(level),
        }
    }

    fn mode(&self) -> Result<Mode, Refusal> {
        #[derive(Deserialize)]
        struct Config {
            mode: Mode,
        }
        let parsed = serde_json::from_slice::<Config>(&self.body);
        parsed.map(|config| config.mode).map_err(|_| {
            Refusal::new(422, 42_204, "the mode is READWRITE or READONLY; the embedded registry has no other")
        })
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

/// The schema's text as the whole answer. JSON stands as it is, Protobuf text as a JSON string.
fn raw(schema: &Schema) -> Result<Answer, Refusal> {
    match schema.kind {
        Kind::Avro | Kind::Json => Ok(Answer { status: 200, body: schema.text.clone().into_bytes() }),
        Kind::Protobuf => Answer::ok(Value::from(schema.text.as_str())),
    }
}

fn find_entry<'a>(subject: &'a Subject, version: &str, deleted: bool) -> Result<&'a Entry, Refusal> {
    let visible = |entry: &&Entry| deleted || !entry.deleted;
    let found = match version {
        "latest" | "-1" => subject.versions.iter().rfind(visible),
        number => {
            let number = number.parse::<u32>().ok().filter(|number| *number > 0);
            let number = number
                .ok_or_else(|| Refusal::new(422, 42_202, "a version is a number from 1 to 2^31-1, `latest` or -1"))?;
            subject.entry(number).filter(visible)
        }
    };
    found.ok_or_else(|| Refusal::new(404, 40_402, format!("there is no version {version}")))
}

fn schema_id(state: &State, id: &str) -> Result<u32, Refusal> {
    let found = id.parse::<u32>().ok().filter(|id| state.schemas.contains_key(id));
    found.ok_or_else(|| Refusal::new(404, 40_403, format!("there is no schema with id {id}")))
}

fn by_guid(state: &State, guid: &str) -> Result<u32, Refusal> {
    let found = state.schemas.iter().find(|(_, held)| held.guid == guid).map(|(id, _)| *id);
    found.ok_or_else(|| Refusal::new(404, 40_403, "there is no schema with this GUID"))
}

fn writable(state: &State, name: &str) -> Result<(), Refusal> {
    match state.mode_of(name) {
        Mode::Readwrite => Ok(()),
        Mode::Readonly => Err(Refusal::new(422, 42_205, format!("subject `{name}` is in mode READONLY"))),
    }
}

fn no_subject(name: &str) -> Refusal {
    Refusal::new(404, 40_401, format!("there is no subject `{name}`"))
}

fn referenced(name: &str, version: u32) -> Refusal {
    Refusal::new(422, 42_206, format!("other schemas refer to version {version} of subject `{name}`"))
}

fn no_method() -> Refusal {
    Refusal::new(405, 405, "HTTP 405 Method Not Allowed")
}

/// Percent-decodes a part of a URL; what is not an escape stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => char::from(*high).to_digit(16).zip(char::from(*low).to_digit(16)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
