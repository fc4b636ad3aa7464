//! `[failed]`: the log on disk of what was accepted and then given up for good.

use std::path::Path;

use super::reader::{Item, Table};
use super::{Failed, Spool};

/// The failed log's folder below that of the spool or `state_dir`, where none is named.
pub const FOLDER: &str = "failed";
/// The least that is of use: a few segments.
const BYTES_LEAST: u64 = 16_777_216;

/// Reads it. By default the log is beside what is on disk anyway; none where nothing is.
pub(super) fn read(root: &mut Table<'_>, spool: Option<&Spool>, state_dir: Option<&Path>) -> Option<Failed> {
    let mut table = root.section("failed");
    let named = table.take("folder").and_then(Item::string).map(|name| table.source.folder.join(name));
    let bytes_max = table.number("bytes_max", 1_073_741_824, 0..=17_592_186_044_416);
    table.finish();
    if bytes_max == 0 {
        if named.is_some() {
            table.problem("bytes_max", "0 keeps nothing, so that `folder` would have no effect; leave one of them out");
        }
        return None;
    }
    if bytes_max < BYTES_LEAST {
        table.problem(
            "bytes_max",
            format!("{bytes_max} is out of range; it must be 0 (nothing is kept) or at least {BYTES_LEAST}"),
        );
    }
    if let Some(folder) = &named {
        if folder.exists() && !folder.is_dir() {
            table.problem("folder", format!("`{}` is a file; it must be a folder", folder.display()));
        }
        if spool.is_some_and(|spool| spool.folder == *folder) {
            table.problem("folder", "is the `spool.folder`, whose events are delivered; name another one");
        }
    }
    let is_named = named.is_some();
    let beside = spool.map(|spool| spool.folder.as_path()).or(state_dir);
    let folder = named.or_else(|| beside.map(|folder| folder.join(FOLDER)));
    if folder.is_none() && table.has("bytes_max") {
        table.problem(
            "folder",
            "missing: the folder of what was given up; by default below `spool.folder` or `state_dir`",
        );
    }
    folder.map(|folder| Failed { folder, bytes_max, is_named })
}
