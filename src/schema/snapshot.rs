//! The schemas of each event type on disk, so that a restart needs no registry.
//!
//! In: what the last good load was made from. Out: the same after a restart. A file is replaced whole (written beside,
//! synced, renamed); one that is damaged or of a newer format is refused and left as it is, for a person or a newer
//! binary. Never: a file name that input has chosen.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::source::{Registered, Schema, SubjectVersion};

/// The first word of a snapshot file; its format version and the SHA-256 of the rest follow on the same line.
const MAGIC: &str = "iguazu-schemas";

/// The format that is written. The first one, so there is no previous one to read.
const FORMAT: u32 = 1;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What one event type was compiled from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Name of the registry.
    pub registry: String,
    /// Name of the event type.
    pub event: String,
    /// Subject of the Protobuf schema.
    pub subject: String,
    /// When the registry was asked, milliseconds since 1970.
    pub taken_ms: u64,
    /// The version that events without a reference use.
    pub default: u32,
    /// The loaded versions, ascending.
    pub versions: Vec<Held>,
}

/// One version of the subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The version.
    pub version: u32,
    /// The schema.
    pub registered: Registered,
    /// What it imports, by name, each before those that need it.
    pub imports: Vec<(String, Schema)>,
    /// The Avro schema that was chosen for it, for encoding `avro`.
    pub avro: Option<HeldAvro>,
}

/// A version of an Avro subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldAvro {
    /// The schema.
    pub version: SubjectVersion,
    /// Texts of the schemas that it refers to, each before those that need it.
    pub references: Vec<String>,
}

/// Why a snapshot could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk failed.
    #[error("cannot {verb} the schema snapshot {}", path.display())]
    Disk {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is of a format that this version does not know.
    #[error("the schema snapshot {} has format {format}, this version reads {FORMAT}; it is left as it is", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format version.
        format: u32,
    },
    /// The file is damaged.
    #[error("the schema snapshot {} is damaged: {problem}; it is left as it is, move it away to have a new one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The snapshot files of one state folder.
#[derive(Debug)]
pub struct Snapshots {
    folder: PathBuf,
    /// One writer at a time: the files written beside have fixed names, so that none is left behind.
    writing: Mutex<()>,
}

impl Snapshots {
    /// The files in the folder `schemas` of a state folder, which is made at the first write.
    pub fn new(state_dir: &Path) -> Snapshots {
        Snapshots { folder: state_dir.join("schemas"), writing: Mutex::new(()) }
    }

    /// What an event type was compiled from last; nothing when it was never loaded. Blocks.
    pub fn read(&self, registry: &str, event: &str) -> Result<Option<Content>, SnapshotError> {
        read_file(&self.path(registry, event))
    }

    /// Replaces an event type's file. Refuses when the one that is there could not be read. Blocks.
    pub fn write(&self, content: &Content) -> Result<(), SnapshotError> {
        let _one = self.writing.lock().expect("no code panics while it holds this lock");
        let path = self.path(&content.registry, &content.event);
        if read_file(&path)?.is_some_and(|there| there == *content) {
            return Ok(());
        }
        replace_file(&self.folder, &path, &encode(content)).map_err(|source| SnapshotError::Disk {
            verb: "write",
            path,
            source,
        })
    }

    /// The file of an event type. Names come from a configuration and may hold anything, so they are hashed.
    fn path(&self, registry: &str, event: &str) -> PathBuf {
        let mut hash = Sha256::new();
        hash.update(registry.len().to_be_bytes());
        hash.update(registry);
        hash.update(event);
        self.folder.join(format!("{}.snapshot", hex::encode(&hash.finalize()[..16])))
    }
}

fn encode(content: &Content) -> Vec<u8> {
    let body = serde_json::to_vec(content).expect("strings, numbers and lists are always JSON");
    let mut bytes = format!("{MAGIC} {FORMAT} {}\n", hex::encode(Sha256::digest(&body))).into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}

fn read_file(path: &Path) -> Result<Option<Content>, SnapshotError> {
    let disk = |source| SnapshotError::Disk { verb: "read", path: path.to_owned(), source };
    let damaged = |problem| SnapshotError::Damaged { path: path.to_owned(), problem };
    let bytes = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk(error)),
        Ok(about) if about.len() > FILE_BYTES_MAX => return Err(damaged("it is too large")),
        Ok(_) => fs::read(path).map_err(disk)?,
    };
    let line_end = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| damaged("it has no first line"))?;
    let (line, body) = (&bytes[..line_end], &bytes[line_end + 1..]);
    let line = std::str::from_utf8(line).map_err(|_| damaged("its first line is not text"))?;
    let mut words = line.split(' ');
    if words.next() != Some(MAGIC) {
        return Err(damaged("it does not begin like one"));
    }
    let format = words.next().and_then(|word| word.parse().ok()).ok_or_else(|| damaged("it names no format"))?;
    if format != FORMAT {
        return Err(SnapshotError::Format { path: path.to_owned(), format });
    }
    if words.next() != Some(hex::encode(Sha256::digest(body)).as_str()) {
        return Err(damaged("its checksum is another"));
    }
    serde_json::from_slice(body).map(Some).map_err(|_| damaged("its content does not fit its format"))
}

/// Writes beside, syncs, renames, syncs the folder: after a power cut there is the old file or the new one.
pub(crate) fn replace_file(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::source::Kind;

    fn content(event: &str) -> Content {
        let registered =
            Registered { id: 7, guid: Some("g".to_owned()), schema: Schema::new(Kind::Protobuf, "message A {}") };
        let held = Held { version: 3, registered, imports: Vec::new(), avro: None };
        Content {
            registry: "main".to_owned(),
            event: event.to_owned(),
            subject: "a.A".to_owned(),
            taken_ms: 1,
            default: 3,
            versions: vec![held],
        }
    }

    /// Writes a snapshot, spoils its file, and gives the error of reading it; the file must stay as it was spoiled.
    #[track_caller]
    fn check_refused(spoil: impl Fn(Vec<u8>) -> Vec<u8>, expected: &str) {
        let folder = tempfile::tempdir().expect("a folder");
        let snapshots = Snapshots::new(folder.path());
        snapshots.write(&content("e")).expect("written");
        let path = snapshots.path("main", "e");
        let spoilt = spoil(fs::read(&path).expect("there"));
        fs::write(&path, &spoilt).expect("spoilt");
        let error = snapshots.read("main", "e").expect_err("it is refused").to_string();
        assert!(error.contains(expected), "{error}");
        let mut newer = content("e");
        newer.taken_ms = 2;
        snapshots.write(&newer).expect_err("what cannot be read is not written over");
        assert_eq!(fs::read(&path).expect("there"), spoilt);
    }

    #[test]
    fn a_damaged_or_newer_file_is_refused_and_left_alone() {
        check_refused(|_| Vec::new(), "no first line");
        check_refused(|_| b"\xff\n".to_vec(), "not text");
        check_refused(|_| b"something else\n".to_vec(), "does not begin");
        check_refused(|_| b"iguazu-schemas x\n".to_vec(), "no format");
        check_refused(|b| String::from_utf8_lossy(&b).replacen(" 1 ", " 2 ", 1).into_bytes(), "format 2");
        check_refused(|b| b[..b.len() - 1].to_vec(), "checksum");
        check_refused(
            |mut b| {
                let last = b.len() - 5;
                b[last] ^= 1;
                b
            },
            "checksum",
        );
        let body = b"{\"other\":1}";
        let line = format!("{MAGIC} {FORMAT} {}\n", hex::encode(Sha256::digest(body)));
        check_refused(|_| [line.as_bytes(), body].concat(), "does not fit");
    }

    #[test]
    fn what_was_written_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let snapshots = Snapshots::new(folder.path());
        assert!(snapshots.read("main", "e").expect("nothing yet").is_none());
        for event in ["e", "../../etc/passwd", "a/b\0c", ""] {
            snapshots.write(&content(event)).expect("written");
            assert_eq!(snapshots.read("main", event).expect("read"), Some(content(event)));
        }
        let files = fs::read_dir(folder.path().join("schemas")).expect("there").count();
        assert_eq!(files, 4, "one file each, nothing left beside");
    }
}
