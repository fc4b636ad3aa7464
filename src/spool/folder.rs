//! Where a spool is on disk: a folder for each cluster, segments, a cursor, a lock.
//!
//! In: the spool's folder and a cluster's name. Out: paths, made so that only we can read them. Never: a name that contains
//! input; a folder is named after a hash of the cluster's name, a segment after the number of its first entry.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::SpoolError;

const SEGMENT: &str = "seg";
/// A segment that something changed: its sound entries are settled, the rest is for people to look at.
const DAMAGED: &str = "damaged";

/// The folder of one cluster, locked for this process.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Unlocked by the kernel when it is closed, however the process ends.
    _lock: File,
}

impl Folder {
    /// Makes the folder where it is missing, and locks it.
    pub(super) fn open(root: &Path, cluster: &str) -> Result<Folder, SpoolError> {
        Folder::lock(of_cluster(root, cluster))
    }

    /// Locks the folder of a cluster, made where it is missing.
    pub(super) fn lock(path: PathBuf) -> Result<Folder, SpoolError> {
        let failed = |verb, path: &Path| {
            let path = path.to_owned();
            move |source| SpoolError::Disk { verb, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed("make", &path))?;
        let file = path.join("lock");
        // On a disk that became read-only a lock of before still does: what waits there can be produced.
        let opened = private().create(true).open(&file).or_else(|error| File::open(&file).map_err(|_| error));
        let lock = opened.map_err(failed("open", &file))?;
        match lock.try_lock() {
            Ok(()) => Ok(Folder { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(SpoolError::Locked { path }),
            Err(TryLockError::Error(source)) => Err(SpoolError::Disk { verb: "lock", path: file, source }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn cursor(&self) -> PathBuf {
        cursor(&self.path)
    }

    pub(super) fn segment(&self, base: u64) -> PathBuf {
        segment(&self.path, base)
    }

    /// Where a segment is put that something changed.
    pub(super) fn damaged(&self, base: u64) -> PathBuf {
        self.segment(base).with_extension(DAMAGED)
    }

    /// Makes new, renamed and removed files of the folder survive a power cut.
    pub(super) fn sync(&self) -> io::Result<()> {
        sync(&self.path)
    }
}

/// The folder of a cluster.
pub(super) fn of_cluster(root: &Path, cluster: &str) -> PathBuf {
    let hash = Sha256::digest(cluster);
    root.join(hex::encode(&hash[..16]))
}

/// The folders of all clusters, sorted.
pub(super) fn clusters(root: &Path) -> io::Result<Vec<PathBuf>> {
    let named_by_us = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        path.is_dir() && name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let entries = fs::read_dir(root)?.map(|entry| Ok(entry?.path()));
    let mut found: Vec<_> = entries.collect::<io::Result<_>>()?;
    found.retain(named_by_us);
    found.sort();
    Ok(found)
}

pub(super) fn cursor(folder: &Path) -> PathBuf {
    folder.join("cursor")
}

pub(super) fn segment(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:020}.{SEGMENT}"))
}

/// The segments of a cluster's folder, by the number of their first entry, with the bytes of each.
pub(super) fn segments(folder: &Path) -> io::Result<Vec<(u64, u64)>> {
    listed(folder, SEGMENT)
}

/// The same of those that something changed.
pub(super) fn damaged(folder: &Path) -> io::Result<Vec<(u64, u64)>> {
    listed(folder, DAMAGED)
}

fn listed(folder: &Path, kind: &str) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let base = name.to_str().and_then(|name| name.split_once('.')).filter(|(_, ending)| *ending == kind);
        if let Some(base) = base.and_then(|(base, _)| base.parse().ok()) {
            match entry.metadata() {
                Ok(metadata) => found.push((base, metadata.len())),
                // A running proxy settled it just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Writes a file whole: after a power cut there is the old one or the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = private().create(true).truncate(true).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    sync(path.parent().unwrap_or(Path::new(".")))
}

/// Opens files to write that only we can read.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_folder_has_one_owner_and_nobody_else_reads_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path(), "core").unwrap();
        assert!(matches!(Folder::open(root.path(), "core"), Err(SpoolError::Locked { .. })));
        Folder::open(root.path(), "edge").expect("another cluster has a folder of its own");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&folder.path().join("lock")), 0o600);
        replace(&folder.cursor(), b"x").unwrap();
        assert_eq!(mode(&folder.cursor()), 0o600);
        drop(folder);
        Folder::open(root.path(), "core").expect("the lock ends with its owner");
    }

    #[test]
    fn no_name_contains_what_the_cluster_is_called() {
        let root = tempfile::tempdir().unwrap();
        let name = "../../etc/Secret Name";
        let folder = Folder::open(root.path(), name).unwrap();
        assert_eq!(folder.path().parent(), Some(root.path()));
        assert_eq!(clusters(root.path()).unwrap(), [folder.path()]);
        assert!(!folder.path().to_string_lossy().contains("Secret"));
    }

    #[test]
    fn only_segments_are_listed_in_the_order_of_their_entries() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path(), "core").unwrap();
        for base in [1_000, 9, u64::MAX] {
            fs::write(folder.segment(base), [0; 3]).unwrap();
        }
        fs::write(folder.damaged(5), b"").unwrap();
        fs::write(folder.path().join("notes.txt"), b"").unwrap();
        fs::write(folder.path().join("x.seg"), b"").unwrap();
        assert_eq!(segments(folder.path()).unwrap(), [(9, 3), (1_000, 3), (u64::MAX, 3)]);
        assert_eq!(damaged(folder.path()).unwrap(), [(5, 0)]);
    }
}
