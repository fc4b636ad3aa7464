//! The files that a configuration names.
//!
//! In: a file name, relative to the configuration's folder. Out: its path, or the secret in it; and of all of them what was in
//! them, so that a change is seen. Never: a secret in a problem, or a secret that stands in the configuration itself.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::Secret;
use super::reader::{Item, Table};

/// Passwords and tokens are short; a longer file is the wrong one.
const SECRET_BYTES_MAX: u64 = 65_536;

/// The files that a configuration was made from, and what was in each. Two that are equal make equal configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, Option<[u8; 32]>>);

impl Files {
    /// Notes a file as it is now.
    pub(super) fn note(&mut self, path: &Path) {
        self.0.insert(path.to_owned(), digest_of(path));
    }

    /// The same files as they are now. Reads all of them: a time stamp does not tell of a link that leads elsewhere now, by
    /// which Kubernetes replaces what is mounted. Blocking.
    pub fn read_again(&self) -> Files {
        Files(self.0.keys().map(|path| (path.clone(), digest_of(path))).collect())
    }

    /// These and the others; where both have one, it is as in these.
    pub fn and(mut self, others: &Files) -> Files {
        for (path, digest) in &others.0 {
            self.0.entry(path.clone()).or_insert(*digest);
        }
        self
    }

    /// Whether a file's content is the same in both.
    pub fn is_same_in(&self, other: &Files, path: &Path) -> bool {
        self.0.get(path) == other.0.get(path)
    }

    /// 48 bits of a hash of all of them: a number that a gauge holds exactly, to see whether proxies run by the same files.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Sha256::new();
        self.0.values().for_each(|digest| hash.update(digest.unwrap_or_default()));
        hash.finalize()[..6].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// SHA-256 of a file's content; none when it cannot be read.
fn digest_of(path: &Path) -> Option<[u8; 32]> {
    std::fs::read(path).ok().map(|content| Sha256::digest(content).into())
}

impl Table<'_> {
    /// A readable file.
    pub(super) fn file(&mut self, key: &'static str) -> Option<PathBuf> {
        self.take(key)?.file()
    }

    /// A readable file; its absence is a problem.
    pub(super) fn need_file(&mut self, key: &'static str, what: &str) -> PathBuf {
        self.need(key, what).and_then(Item::file).unwrap_or_default()
    }

    /// A readable file that others must not read.
    pub(super) fn need_private_file(&mut self, key: &'static str, what: &str) -> PathBuf {
        self.need(key, what)
            .and_then(|item| item.file_opened(Some("private key")))
            .map(|(path, _)| path)
            .unwrap_or_default()
    }

    /// The secret in a file.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<Secret> {
        self.take(key)?.secret()
    }

    /// The secret in a file; its absence is a problem.
    pub(super) fn need_secret(&mut self, key: &'static str, what: &str) -> Secret {
        self.need(key, what).and_then(Item::secret).unwrap_or(Secret(String::new()))
    }
}

impl Item<'_> {
    fn file(self) -> Option<PathBuf> {
        self.is_meant_as("file");
        self.file_opened(None).map(|(path, _)| path)
    }

    /// Text of a file without the line break at its end, which editors add.
    fn secret(self) -> Option<Secret> {
        self.is_meant_as("file with a secret");
        let (path, file) = self.clone().file_opened(Some("secret"))?;
        let mut text = String::new();
        let read = file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text);
        let path = path.display();
        match read {
            Err(error) => self.wrong(format!("`{path}` cannot be read: {error}")),
            Ok(_) if text.len() as u64 > SECRET_BYTES_MAX => {
                self.wrong(format!("`{path}` is over {SECRET_BYTES_MAX} bytes, which no secret is"))
            }
            Ok(_) => match text.trim_end_matches(['\r', '\n']) {
                "" => self.wrong(format!("`{path}` is empty")),
                secret => Some(Secret(secret.to_owned())),
            },
        }
    }

    /// Opens a file; one that holds something private and that everybody may read is a warning.
    fn file_opened(self, private: Option<&str>) -> Option<(PathBuf, std::fs::File)> {
        self.is_meant_as("file with a private key");
        let path = self.source.folder.join(self.clone().string()?);
        self.source.note_file(&path);
        let opened = std::fs::File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
        let shown = path.display();
        let (metadata, file) = match opened {
            Ok((metadata, _)) if metadata.is_dir() => return self.wrong(format!("`{shown}` is a folder")),
            Ok(opened) => opened,
            Err(error) => return self.wrong(format!("`{shown}` cannot be read: {error}")),
        };
        if let Some(private) = private.filter(|_| everybody_may_read(&metadata)) {
            self.warning(format!(
                "everybody on this machine may read the {private} in `{shown}`; take that right away"
            ));
        }
        Some((path, file))
    }
}

/// Whether "others" may read. The group may: Kubernetes gives a pod its secrets through one (`fsGroup`).
#[cfg(unix)]
fn everybody_may_read(metadata: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::mode(metadata) & 0o004 != 0
}

#[cfg(not(unix))]
fn everybody_may_read(_metadata: &std::fs::Metadata) -> bool {
    false
}
