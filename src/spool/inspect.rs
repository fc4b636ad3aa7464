//! Looks at a spool's folder, for people.
//!
//! In: the folder, of a running proxy or of none. Out: what each cluster's spool holds, and whether its files are sound. Never:
//! changes or locks anything.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::cursor::Cursor;
use super::entry::Entry;
use super::folder;
use super::segment::{Segment, Step};
use crate::envelope::headers::HeaderBuffer;

/// What one cluster's spool holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Its folder.
    pub folder: PathBuf,
    /// The cluster that its entries are for; none when no segment says.
    pub cluster: Option<String>,
    /// Segments, those that something changed and that were put aside left out.
    pub segments: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Entries that are not settled, by event name.
    pub waiting: BTreeMap<String, u64>,
    /// Entries that are settled and not removed yet.
    pub settled: u64,
    /// When the first and the last event that waits were received, milliseconds since 1970.
    pub received_ms: Option<(i64, i64)>,
    /// What was being written when the process or the machine stopped, or is being written now.
    pub torn_bytes: u64,
    /// Bytes that are no entries although entries follow them.
    pub damaged_bytes: u64,
    /// Segments that were put aside because of that.
    pub put_aside: u64,
    /// What cannot be read, and why.
    pub problems: Vec<String>,
}

impl Contents {
    /// Whether every byte is accounted for.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty() && self.damaged_bytes == 0 && self.put_aside == 0
    }
}

/// Reads the spools of all clusters, each entry of them.
pub fn contents(root: &Path) -> io::Result<Vec<Contents>> {
    visit(root, &mut |_, _| {})
}

/// [`contents`], with a look at each entry that waits and the cluster that it is for.
pub fn visit(root: &Path, look: &mut dyn FnMut(&str, &Entry<'_>)) -> io::Result<Vec<Contents>> {
    folder::clusters(root)?.into_iter().map(|folder| read(&folder, look)).collect()
}

/// Whether it is a folder of spools, of wals or of failed logs: whoever opens one makes a folder of each cluster in it.
pub fn is_folder_of_logs(root: &Path) -> bool {
    folder::clusters(root).is_ok_and(|found| !found.is_empty())
}

/// The folder of a cluster's spool, whether there is one or not.
pub fn folder_of(root: &Path, cluster: &str) -> PathBuf {
    folder::of_cluster(root, cluster)
}

/// Folders with entries for none of these clusters. Reads no entry.
pub fn strangers<'a>(root: &Path, clusters: impl Iterator<Item = &'a str>) -> io::Result<Vec<PathBuf>> {
    let known: Vec<_> = clusters.map(|cluster| folder::of_cluster(root, cluster)).collect();
    let mut strange = folder::clusters(root)?;
    strange.retain(|folder| !known.contains(folder) && folder::segments(folder).is_ok_and(|found| !found.is_empty()));
    Ok(strange)
}

fn read(path: &Path, look: &mut dyn FnMut(&str, &Entry<'_>)) -> io::Result<Contents> {
    let mut contents = Contents { folder: path.to_owned(), ..Contents::default() };
    let cursor = Cursor::load(&folder::cursor(path)).unwrap_or_else(|error| {
        contents.problems.push(format!("the cursor: {error}"));
        Cursor::default()
    });
    let damaged = folder::damaged(path)?;
    contents.put_aside = damaged.len() as u64;
    contents.bytes = damaged.iter().map(|(_, bytes)| bytes).sum();
    for (base, bytes) in folder::segments(path)? {
        contents.segments += 1;
        contents.bytes += bytes;
        if let Err(problem) = contents.read_segment(&folder::segment(path, base), base, (bytes, &cursor), look) {
            contents.problems.push(format!("segment {base}: {problem}"));
        }
    }
    Ok(contents)
}

impl Contents {
    fn read_segment(
        &mut self,
        path: &Path,
        base: u64,
        (bytes, cursor): (u64, &Cursor),
        look: &mut dyn FnMut(&str, &Entry<'_>),
    ) -> Result<(), String> {
        let mut segment = Segment::open(path).map_err(|error| error.to_string())?;
        if segment.header.base != base {
            return Err(format!("it was segment {}", segment.header.base));
        }
        match &self.cluster {
            Some(cluster) if *cluster != segment.header.cluster => {
                return Err(format!("it is for cluster `{}`", segment.header.cluster));
            }
            _ => self.cluster = Some(segment.header.cluster.clone()),
        }
        let mut headers = HeaderBuffer::default();
        loop {
            match segment.step(bytes).map_err(|error| error.to_string())? {
                Step::Entry { at } => match Entry::read(segment.body(), &mut headers) {
                    Some(_) if cursor.has(base + at) => self.settled += 1,
                    Some(entry) => {
                        look(&segment.header.cluster, &entry);
                        self.count(&entry);
                    }
                    None => self.damaged_bytes += segment.body().len() as u64,
                },
                Step::Damage { bytes } => self.damaged_bytes += bytes,
                Step::End { torn_bytes } => {
                    self.torn_bytes += torn_bytes;
                    return Ok(());
                }
            }
        }
    }

    fn count(&mut self, entry: &Entry<'_>) {
        *self.waiting.entry(entry.event.to_owned()).or_default() += 1;
        let (first, last) = self.received_ms.unwrap_or((entry.timestamp_ms, entry.timestamp_ms));
        self.received_ms = Some((first.min(entry.timestamp_ms), last.max(entry.timestamp_ms)));
    }
}
