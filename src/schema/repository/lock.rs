//! `schemas.lock`: what was registered, by version and id.
//!
//! In: what a merge found or made. Out: a TOML file, the same for the same state, to be committed or kept beside the build.
//! `iguazu schema check --drift` compares it with what registries hold later.

use std::io::Write as _;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::schema::source::{Reference, SubjectVersion};

/// The format that is written and read.
const FORMAT: u32 = 1;

/// The first lines of the file.
const HEAD: &str =
    "# Written by `iguazu schema register`: what registries hold of this repository. Not to be edited.\n";

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    format: u32,
    /// The commit that was merged, if it was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// By registry and subject.
    #[serde(default, rename = "subject")]
    pub subjects: Vec<Locked>,
}

/// One subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Locked {
    /// Name of the registry.
    pub registry: String,
    /// The subject.
    pub subject: String,
    /// `PROTOBUF` or `AVRO`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its version.
    pub version: u32,
    /// The registry's id.
    pub id: u32,
    /// The registry's GUID, where it gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guid: Option<String>,
    /// SHA-256 of the text as the registry holds it, in hex.
    pub sha256: String,
    /// What it refers to, `name = subject@version`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
}

/// Why a lock file cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum LockError {
    #[error("cannot be read")]
    Read(#[from] io::Error),
    #[error("is no lock file: {0}")]
    Damaged(String),
    #[error("has format {0}, this version reads {FORMAT}; update iguazu")]
    Format(u32),
}

impl Locked {
    /// A version of a subject as it is locked.
    pub fn new(registry: &str, found: &SubjectVersion) -> Locked {
        let schema = &found.registered.schema;
        let reference = |r: &Reference| format!("{} = {}@{}", r.name, r.subject, r.version);
        let mut references: Vec<_> = schema.references.iter().map(reference).collect();
        references.sort();
        Locked {
            registry: registry.to_owned(),
            subject: found.subject.clone(),
            kind: schema.kind.as_str().to_owned(),
            version: found.version,
            id: found.registered.id,
            guid: found.registered.guid.clone(),
            sha256: hex::encode(Sha256::digest(&schema.text)),
            references,
        }
    }
}

impl Lock {
    /// A lock of these subjects.
    pub fn new(commit: Option<String>, mut subjects: Vec<Locked>) -> Lock {
        subjects.sort();
        Lock { format: FORMAT, commit, subjects }
    }

    /// Reads a file; none if there is none.
    pub fn read(path: &Path) -> Result<Option<Lock>, LockError> {
        #[derive(Deserialize)]
        struct JustFormat {
            format: u32,
        }
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let damaged = |error: toml::de::Error| LockError::Damaged(error.message().to_owned());
        match toml::from_str::<JustFormat>(&text).map_err(damaged)?.format {
            FORMAT => Ok(Some(toml::from_str(&text).map_err(damaged)?)),
            other => Err(LockError::Format(other)),
        }
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        let body = toml::to_string(self).expect("strings and numbers in lists can be written as TOML");
        format!("{HEAD}{body}")
    }

    /// Writes the file beside, and then in its place: whoever reads it has the old one or the new one.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let beside = path.with_extension("lock.new");
        let mut file = fs::File::create(&beside)?;
        file.write_all(self.text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    }
}
