//! Resources as files of a repository: one YAML file each.
//!
//! In: a folder. Out: what its files say, each checked as far as it alone tells, or every problem of every file at once; and the other
//! way round, files for what is there. Never: half of a folder's files, a file name that holds a name as it came, a link out of the
//! folder.
//!
//! YAML, since that is what every tool of this trade reads (and JSON is YAML, so what a program writes is read too). It is YAML 1.2: `no`
//! is a text and `1e3` is a number.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::Failure;
use crate::control::resource::{Kind, ResourceId, Spec};

/// Largest file that is read: a resource has some hundred bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most files of a folder.
const FILES_MAX: usize = 100_000;
/// How deep folders may be in one another.
const DEPTH_MAX: usize = 16;
/// The file that says whose the folder is.
pub(super) const SETTINGS: &str = "iguazu-ctl.yaml";

/// A file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// As everywhere: `topic/core/orders.placed.v1`.
    id: String,
    /// What is desired.
    spec: Value,
}

/// What a folder says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    repository: String,
}

/// One resource of a folder.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FileSpec {
    /// The file, below the folder.
    pub file: String,
    /// What it is desired to be.
    pub spec: Spec,
    /// Whether it counts passwords or keys by itself; else they are counted by who rotates them.
    pub counts: bool,
}

/// Everything that a folder says.
#[derive(Debug, Default)]
pub(super) struct Folder {
    /// The resources.
    pub resources: BTreeMap<ResourceId, FileSpec>,
    /// The name of its repository, if it says it.
    pub repository: Option<String>,
}

/// Reads a folder whole, or tells every problem in it.
pub(super) fn read(folder: &Path) -> Result<Folder, Failure> {
    let mut paths = Vec::new();
    let mut problems = Vec::new();
    collect(folder, 0, &mut paths).map_err(|error| Failure::Usage(format!("{}: {error}", folder.display())))?;
    paths.sort();
    let mut read = Folder::default();
    for path in paths {
        let shown = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
        if shown == SETTINGS {
            match parse::<Settings>(&path) {
                Ok(settings) => read.repository = Some(settings.repository),
                Err(problem) => problems.push(format!("{shown}: {problem}")),
            }
            continue;
        }
        match one(&path) {
            Err(found) => problems.extend(found.into_iter().map(|problem| format!("{shown}: {problem}"))),
            Ok((id, spec, counts)) => match read.resources.get(&id) {
                Some(first) => problems.push(format!("{shown}: {id} is in {} too; keep one of them", first.file)),
                None => _ = read.resources.insert(id, FileSpec { file: shown, spec, counts }),
            },
        }
    }
    match problems.is_empty() {
        true => Ok(read),
        false => Err(Failure::Usage(problems.join("\n"))),
    }
}

/// Reads a file: name and spec as they stand there.
pub(super) fn read_one(path: &Path) -> Result<(String, Value), Failure> {
    let wrong = |problem: String| Failure::Usage(format!("{}: {problem}", path.display()));
    let document: Document = parse(path).map_err(wrong)?;
    Ok((document.id, document.spec))
}

/// Every file below a folder that may hold a resource.
fn collect(folder: &Path, depth: usize, into: &mut Vec<PathBuf>) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("more than {DEPTH_MAX} folders in one another"));
    }
    for entry in fs::read_dir(folder).map_err(|error| error.to_string())? {
        let entry = entry.map_err(|error| error.to_string())?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // `.git`, editors' own.
        if name.starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(|error| error.to_string())?;
        let is_ours = ["yaml", "yml", "json"].iter().any(|end| name.ends_with(&format!(".{end}")));
        if kind.is_dir() {
            collect(&entry.path(), depth + 1, into)?;
        } else if kind.is_symlink() && is_ours {
            return Err(format!("{} is a link; put the file itself there", entry.path().display()));
        } else if kind.is_file() && is_ours {
            into.push(entry.path());
            if into.len() > FILES_MAX {
                return Err(format!("more than {FILES_MAX} files"));
            }
        }
    }
    Ok(())
}

fn one(path: &Path) -> Result<(ResourceId, Spec, bool), Vec<String>> {
    let Document { id, spec } = parse(path).map_err(|problem| vec![problem])?;
    let id: ResourceId = id.parse().map_err(|error| vec![format!("id: {error}")])?;
    let counts = !spec["generation"].is_null();
    let at = |field: &str| if field.is_empty() { "spec".to_owned() } else { format!("spec.{field}") };
    let spec = Spec::read(id.kind, spec).map_err(|error| vec![format!("{}: {}", at(&error.field), error.problem)])?;
    let violations = spec.violations(&id);
    let told = violations.iter().map(|found| {
        let field = if found.field.is_empty() { "id".to_owned() } else { format!("spec.{}", found.field) };
        format!("{field}: {} (rule {}); {}", found.problem, found.rule, found.fix)
    });
    let told: Vec<_> = told.collect();
    if told.is_empty() { Ok((id, spec, counts)) } else { Err(told) }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let metadata = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(format!("has {} bytes, at most {FILE_BYTES_MAX} are read", metadata.len()));
    }
    let text = fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    serde_saphyr::from_str(&text).map_err(|error| error.to_string())
}

/// Writes one file for each resource, below the folder by kind and cluster. What is in the folder already is replaced only where
/// it is the same resource's.
pub(super) fn write(
    folder: &Path,
    repository: Option<&str>,
    resources: &BTreeMap<ResourceId, Spec>,
) -> Result<(), Failure> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::Failed(format!("cannot write {}: {error}", path.display()))
    };
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    let known = read(folder)?;
    if let Some(repository) = repository {
        let path = folder.join(SETTINGS);
        let head = "# Whose files these are; `iguazu ctl plan` and `apply` read it.\n";
        let text = yaml(&Settings { repository: repository.to_owned() })?;
        fs::write(&path, format!("{head}{text}")).map_err(|error| failed(&path, &error))?;
    }
    for (id, spec) in resources {
        // What has a file keeps it, wherever it is.
        let path = match known.resources.get(id) {
            Some(file) => folder.join(&file.file),
            None => path_of(folder, id),
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| failed(parent, &error))?;
        }
        let document = Document { id: id.to_string(), spec: shortest(spec) };
        fs::write(&path, yaml(&document)?).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

fn yaml<T: Serialize>(document: &T) -> Result<String, Failure> {
    serde_saphyr::to_string(document).map_err(|error| Failure::Failed(format!("it cannot be written as YAML: {error}")))
}

fn path_of(folder: &Path, id: &ResourceId) -> PathBuf {
    let mut path = folder.join(id.kind.as_str());
    path.extend(id.cluster.as_deref().map(file_name));
    path.join(format!("{}.yaml", file_name(&id.name)))
}

/// A name as that of a file: what may not be in one, on any system, is escaped, so that two names never share a file.
fn file_name(name: &str) -> String {
    let mut safe = String::new();
    for (position, byte) in name.bytes().enumerate() {
        match byte {
            // Upper case would meet lower case on file systems that do not tell them apart.
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => safe.push(char::from(byte)),
            b'.' if position > 0 => safe.push('.'),
            _ => safe.push_str(&format!("%{byte:02X}")),
        }
    }
    safe
}

/// A spec without what has its default anyway, and without the count of passwords, which is not for files to say.
pub(super) fn shortest(spec: &Spec) -> Value {
    let mut value = inner(spec);
    let kind = spec.kind();
    if matches!(kind, Kind::User | Kind::Sender) {
        let object = value.as_object_mut();
        object.and_then(|fields| fields.remove("generation"));
    }
    let wanted = Spec::read(kind, value.clone()).expect("a spec without its counts is one");
    let is_same = |value: &Value| Spec::read(kind, value.clone()).is_ok_and(|spec| spec == wanted);
    shorten(&mut value, &[], &is_same);
    value
}

/// What is said of a resource, without its kind.
pub(super) fn inner(spec: &Spec) -> Value {
    let mut document = serde_json::to_value(spec).expect("specs have string keys and finite numbers");
    document["spec"].take()
}

/// Takes out each field without which the whole is the same.
fn shorten(whole: &mut Value, path: &[String], is_same: &dyn Fn(&Value) -> bool) {
    let pointer: String = path.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect();
    let Some(Value::Object(fields)) = whole.pointer(&pointer) else { return };
    for name in fields.keys().cloned().collect::<Vec<_>>() {
        let mut without = whole.clone();
        let object = without.pointer_mut(&pointer).and_then(Value::as_object_mut);
        object.and_then(|fields| fields.remove(&name));
        if is_same(&without) {
            *whole = without;
        } else {
            let below: Vec<_> = path.iter().cloned().chain([name]).collect();
            shorten(whole, &below, is_same);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            fs::write(path, text).expect("written");
        }
        folder
    }

    #[test]
    fn every_problem_of_every_file_is_told_at_once_with_its_file() {
        let topic = "id: topic/core/a\nspec:\n  service: s\n  capacity: { mb_per_second: 1 }\n";
        let folder = folder(&[
            ("a.yaml", topic),
            ("b.yaml", topic),
            ("c.yaml", "id: nothing\nspec: {}\n"),
            ("d.yaml", "id: topic/core/d\nspec:\n  service: s\n  capacity: { mb_per_second: 1 }\n  segment.bytes: 5\n"),
            ("e.yaml", "id: service/e\nspec: { group: '' }\n"),
            ("f.yaml", "id: service/e\n  spec: x\n"),
            ("g.json", "{ \"id\": \"service/g\", \"spec\": { \"group\": \"team\" }, \"more\": 1 }"),
            ("h/i.yml", "id: topic/core/_own\nspec:\n  service: s\n  capacity: { mb_per_second: 1 }\n"),
            (".hidden/x.yaml", "not ours"),
            ("README.md", "not ours"),
        ]);
        let error = read(folder.path()).expect_err("wrong").to_string();
        for told in [
            "b.yaml: topic/core/a is in a.yaml too",
            "c.yaml: id: `nothing` names no resource",
            "d.yaml: spec.segment.bytes: unknown field `segment.bytes`",
            "e.yaml: spec.group: a service without a group has no owner (rule required)",
            "f.yaml: ",
            "g.json: ",
            "h/i.yml: id: names that begin with `_`",
        ] {
            assert!(error.contains(told), "{told:?} is missing in\n{error}");
        }
        assert!(!error.contains("not ours") && !error.contains(".hidden"), "{error}");
    }

    #[test]
    fn what_was_written_is_read_back_the_same_and_holds_no_default() {
        let specs = [
            (
                "topic/core/orders.placed",
                json!({ "service": "orders", "capacity": { "mb_per_second": 0.5, "consumers": 6 } }),
            ),
            ("service/orders", json!({ "group": "team-orders", "description": "no: yes\n\"quoted\" # and more" })),
            (
                "access/core/app:consume:orders.*",
                json!({ "service": "orders", "level": "consume", "target": "orders.", "pattern": "prefix", "principal": "app" }),
            ),
            (
                "event_type/orders.placed",
                json!({ "service": "orders", "cluster": "core", "topic": "orders.placed", "settings": { "encoding": "raw_json", "limits": { "bytes_max": 1000 } } }),
            ),
            ("user/core/App", json!({ "service": "orders", "sink": "vault:kv/app" })),
            ("user/core/app", json!({ "service": "orders" })),
        ];
        let resources: BTreeMap<ResourceId, Spec> = specs
            .iter()
            .map(|(id, spec)| {
                let id: ResourceId = id.parse().expect("an id");
                (id.clone(), Spec::read(id.kind, spec.clone()).expect("a spec"))
            })
            .collect();
        let folder = folder(&[]);
        write(folder.path(), Some("platform/kafka"), &resources).expect("written");
        let back = read(folder.path()).expect("read");
        assert_eq!(back.repository.as_deref(), Some("platform/kafka"));
        assert_eq!(
            back.resources.iter().map(|(id, file)| (id.clone(), file.spec.clone())).collect::<BTreeMap<_, _>>(),
            resources
        );
        for (id, spec) in &specs {
            let id: ResourceId = id.parse().expect("an id");
            assert_eq!(shortest(&resources[&id]), *spec, "{id}");
        }
        let names: Vec<_> = back.resources.values().map(|file| file.file.as_str()).collect();
        assert!(names.contains(&"access/core/app%3Aconsume%3Aorders.%2A.yaml"), "{names:?}");
        assert!(names.contains(&"user/core/%41pp.yaml"), "{names:?}");
        // A file that was moved stays where it is.
        fs::rename(folder.path().join("service/orders.yaml"), folder.path().join("mine.yaml")).expect("moved");
        write(folder.path(), None, &resources).expect("written");
        assert_eq!(read(folder.path()).expect("read").resources.len(), specs.len());
    }
}
