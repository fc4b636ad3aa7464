//! The state behind a lock, and its file.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::api::{Answer, Ask, Refusal};
use super::state::State;
use crate::schema::compatibility::Level;

/// The file's format; others are refused.
const FORMAT: u32 = 1;

/// The state, its lock and its file.
#[derive(Debug)]
pub(super) struct Store {
    state: Mutex<Arc<State>>,
    file: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct OnDisk<S> {
    format: u32,
    state: S,
}

#[derive(Deserialize)]
struct JustFormat {
    format: u32,
}

impl Store {
    /// The state of a folder's file, or an empty one at this level. Blocks.
    pub fn open(folder: Option<PathBuf>, level: Level) -> io::Result<Store> {
        let empty = State { level: Some(level), ..State::default() };
        let Some(folder) = folder else { return Ok(Store { state: Mutex::new(Arc::new(empty)), file: None }) };
        fs::create_dir_all(&folder)?;
        let file = folder.join("registry.json");
        let state = match fs::read(&file) {
            Ok(bytes) => parse(&bytes).map_err(|problem| {
                io::Error::new(io::ErrorKind::InvalidData, format!("registry file {}: {problem}", file.display()))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => empty,
            Err(error) => return Err(error),
        };
        Ok(Store { state: Mutex::new(Arc::new(state)), file: Some(file) })
    }

    /// Answers one request. Blocks: it may compile, and it may write the file.
    pub fn answer(&self, ask: &Ask) -> Answer {
        if ask.is_read_only() {
            let state = Arc::clone(&self.lock());
            return ask.answer(&mut State::clone(&state)).unwrap_or_else(Answer::from);
        }
        let mut state = self.lock();
        let mut next = State::clone(&state);
        match ask.answer(&mut next) {
            Err(refusal) => refusal.into(),
            Ok(answer) if next == **state => answer,
            Ok(answer) => match self.write(&next) {
                Ok(()) => {
                    *state = Arc::new(next);
                    answer
                }
                Err(error) => {
                    Refusal::new(500, 50_001, format!("the registry's file cannot be written: {error}")).into()
                }
            },
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<State>> {
        // What a panic leaves behind is the state before: changes are made on a copy.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self, state: &State) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let bytes = serde_json::to_vec(&OnDisk { format: FORMAT, state })?;
        replace(file, &bytes)
    }
}

fn parse(bytes: &[u8]) -> Result<State, String> {
    match serde_json::from_slice::<JustFormat>(bytes) {
        Ok(JustFormat { format: FORMAT }) => {}
        Ok(JustFormat { format }) => return Err(format!("has format {format}, this version reads {FORMAT}")),
        Err(error) => return Err(format!("is damaged: {error}")),
    }
    let on_disk = serde_json::from_slice::<OnDisk<State>>(bytes).map_err(|error| format!("is damaged: {error}"))?;
    let State { schemas, subjects, .. } = &on_disk.state;
    let known = |entry: &super::state::Entry| schemas.contains_key(&entry.id);
    match subjects.values().all(|subject| subject.versions.iter().all(known)) {
        true => Ok(on_disk.state),
        false => Err("is damaged: a version has a schema that is not there".to_owned()),
    }
}

/// Written beside, synced, renamed: after a crash there is the old file or the new one.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = file.with_extension("new");
    let mut new = fs::File::create(&beside)?;
    new.write_all(bytes)?;
    new.sync_all()?;
    fs::rename(&beside, file)
}
