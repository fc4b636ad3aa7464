//! `--ready-file FILE`: tells scripts and tests where a command listens, for as long as it does.
//!
//! In: addresses. Out: a file with JSON that appears whole, and is gone once the command begins to end. Never: removes a
//! file that somebody else has written there since.

use std::io;
use std::path::PathBuf;

use super::Failure;

/// The file of a running command; removed when this is dropped.
#[derive(Debug)]
pub struct ReadyFile {
    path: PathBuf,
    text: Option<String>,
}

impl ReadyFile {
    /// Nothing is ready yet: what a command that was killed left there is removed, so that nobody takes it for this one's.
    pub fn at(path: PathBuf) -> Result<ReadyFile, Failure> {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Failure::Failed(format!("cannot replace {}: {error}", path.display())))
            }
            _ => Ok(ReadyFile { path, text: None }),
        }
    }

    /// Writes the addresses, and the id of this process. Whoever waits for the file may read it as soon as it is there.
    pub fn write(&mut self, mut addresses: serde_json::Value) -> Result<(), Failure> {
        addresses["pid"] = std::process::id().into();
        let text = format!("{addresses}\n");
        let failed = |error: io::Error| Failure::Failed(format!("cannot write {}: {error}", self.path.display()));
        let mut part = self.path.as_os_str().to_owned();
        part.push(".part");
        std::fs::write(&part, &text).map_err(failed)?;
        std::fs::rename(&part, &self.path).map_err(failed)?;
        self.text = Some(text);
        Ok(())
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        let Some(text) = &self.text else { return };
        if std::fs::read_to_string(&self.path).is_ok_and(|found| found == *text) {
            // What cannot be removed is replaced at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leftover_is_gone_at_once_and_a_file_of_somebody_else_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ready.json");
        std::fs::write(&path, "of one that was killed").expect("written");
        let mut first = ReadyFile::at(path.clone()).expect("no trouble");
        assert!(!path.exists());
        first.write(serde_json::json!({"http": "127.0.0.1:1"})).expect("written");
        let text = std::fs::read_to_string(&path).expect("there");
        assert_eq!(text, format!("{{\"http\":\"127.0.0.1:1\",\"pid\":{}}}\n", std::process::id()));
        std::fs::write(&path, "of another").expect("written");
        drop(first);
        assert!(path.exists());
        let mut second = ReadyFile::at(path.clone()).expect("no trouble");
        second.write(serde_json::json!({})).expect("written");
        drop(second);
        assert!(!path.exists());
    }
}
