//! `routes.file`: event types and senders in a file of their own, so that they can be mounted and changed apart from the rest.
//!
//! In: the configuration's document, and the other file. Out: what was read there, its problems among those of the configuration,
//! each with the file and its line. Never: anything but `[events]` and `[senders]` in that file.

use std::path::Path;

use super::super::check::load_as;
use super::Table;

/// Reads the file; none when something is wrong with it, which is then a problem of `routes.file`.
pub(in super::super) fn read_beside<T>(
    root: &Table<'_>,
    path: &Path,
    read: impl FnOnce(&mut Table<'_>) -> T,
) -> Option<T> {
    let (parsed, files) = load_as(path, "the file", |mut beside| {
        let found = read(&mut beside);
        beside.finish();
        found
    });
    root.source.note_files(&files);
    let told = |finding| format!("`{}`: {finding}", path.display());
    match parsed {
        Ok((found, warnings)) => {
            warnings.iter().for_each(|warning| root.source.warning(0, "routes.file", told(warning)));
            Some(found)
        }
        Err(problems) => {
            problems.iter().for_each(|problem| root.source.problem(0, "routes.file", told(problem)));
            None
        }
    }
}
