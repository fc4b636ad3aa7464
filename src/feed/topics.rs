//! What was known of topics in the last run, for a start while their cluster does not answer.
//!
//! In: what clusters say of topics. Out: the same, from the file `topics.json` in `state_dir`, in the next run. Never: a reason not
//! to start: a file that cannot be read or written is told and done without.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::produce::Topic;
use crate::schema::replace_file;

/// The file's format, and the only one that is read.
const FORMAT: u32 = 1;

/// Topics by cluster and name.
#[derive(Debug, Default)]
pub(super) struct Topics {
    folder: Option<PathBuf>,
    known: BTreeMap<String, BTreeMap<String, Known>>,
    is_changed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    partitions: i32,
    max_message_bytes: Option<usize>,
}

#[derive(Serialize, Deserialize)]
struct File<K> {
    format: u32,
    topics: K,
}

impl Topics {
    /// Those of the last run; none without a folder. Blocking.
    pub(super) fn load(folder: Option<&Path>) -> Topics {
        let folder = folder.map(Path::to_owned);
        let known = folder.as_deref().and_then(|folder| {
            let path = path(folder);
            read(&path)
                .inspect_err(|reason| warn!(path = %path.display(), reason, "what was known of topics is lost"))
                .ok()
        });
        Topics { folder, known: known.unwrap_or_default(), is_changed: false }
    }

    /// What was said of a topic last.
    pub(super) fn get(&self, cluster: &str, topic: &str) -> Option<Topic> {
        let Known { partitions, max_message_bytes } = *self.known.get(cluster)?.get(topic)?;
        Some(Topic { partitions, max_message_bytes, leaders: BTreeSet::new() })
    }

    /// Notes what a cluster says of a topic now.
    pub(super) fn note(&mut self, cluster: &str, name: &str, topic: &Topic) {
        let Topic { partitions, max_message_bytes, leaders: _ } = *topic;
        let known = Known { partitions, max_message_bytes };
        let topics = self.known.entry(cluster.to_owned()).or_default();
        self.is_changed |= topics.insert(name.to_owned(), known) != Some(known);
    }

    /// Forgets a topic that its cluster does not have any more.
    pub(super) fn forget(&mut self, cluster: &str, name: &str) {
        let removed = self.known.get_mut(cluster).and_then(|topics| topics.remove(name));
        self.is_changed |= removed.is_some();
    }

    /// Writes what changed since the last time, if something did. Blocking.
    pub(super) fn save(&mut self) {
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        let Some(folder) = &self.folder else { return };
        let file = File { format: FORMAT, topics: &self.known };
        let bytes = serde_json::to_vec_pretty(&file).expect("texts and numbers are JSON");
        let written = std::fs::create_dir_all(folder).and_then(|()| replace_file(folder, &path(folder), &bytes));
        if let Err(error) = written {
            warn!(path = %path(folder).display(), %error, "what is known of topics cannot be kept for the next start");
        }
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("topics.json")
}

fn read(path: &Path) -> Result<BTreeMap<String, BTreeMap<String, Known>>, String> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        read => read.map_err(|error| error.to_string())?,
    };
    let file: File<serde_json::Value> = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if file.format != FORMAT {
        return Err(format!("it has format {}, this version reads {FORMAT}", file.format));
    }
    serde_json::from_value(file.topics).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_known_is_there_in_the_next_run_and_what_is_gone_is_not() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let topic = |partitions| Topic { partitions, max_message_bytes: Some(1_000), leaders: BTreeSet::new() };
        let mut topics = Topics::load(Some(folder.path()));
        assert_eq!(topics.get("core", "a"), None);
        topics.note("core", "a", &topic(3));
        topics.note("core", "b", &Topic { partitions: 1, max_message_bytes: None, leaders: BTreeSet::new() });
        topics.note("core", "a", &topic(6));
        topics.forget("core", "b");
        topics.forget("other", "b");
        topics.save();
        let again = Topics::load(Some(folder.path()));
        assert_eq!((again.get("core", "a"), again.get("core", "b")), (Some(topic(6)), None));
        assert_eq!(Topics::load(None).get("core", "a"), None);
    }

    #[test]
    fn a_file_that_is_damaged_or_newer_is_done_without() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        for text in ["", "{", r#"{"format":2,"topics":{}}"#, r#"{"format":1,"topics":{"core":{"a":7}}}"#] {
            std::fs::write(folder.path().join("topics.json"), text).expect("the folder is ours");
            assert_eq!(Topics::load(Some(folder.path())).get("core", "a"), None, "{text}");
        }
    }
}
