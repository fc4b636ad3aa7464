//! The files that a configuration names.
//!
//! In: a file name, relative to the configuration's folder. Out: its path, or the secret in it. Never: a secret in a
//! problem, or a secret that stands in the configuration itself.

use std::io::Read;
use std::path::PathBuf;

use super::Secret;
use super::reader::{Item, Table};

/// Passwords and tokens are short; a longer file is the wrong one.
const SECRET_BYTES_MAX: u64 = 65_536;

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

    /// The secret in a file; its absence is a problem.
    pub(super) fn need_secret(&mut self, key: &'static str, what: &str) -> Secret {
        self.need(key, what).and_then(Item::secret).unwrap_or(Secret(String::new()))
    }
}

impl Item<'_> {
    fn file(self) -> Option<PathBuf> {
        self.file_opened(None).map(|(path, _)| path)
    }

    /// Text of a file without the line break at its end, which editors add.
    fn secret(self) -> Option<Secret> {
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
        let path = self.source.folder.join(self.clone().string()?);
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
