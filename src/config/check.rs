//! Checks.
use super::{Config, Problem};
use std::path::Path;

/// Reads, parses and checks a file.
pub fn load(_path: &Path) -> Result<Config, Vec<Problem>> {
    todo!()
}

/// Parses and checks a text; relative file names are relative to `folder`.
pub fn parse(_text: &str, _folder: &Path) -> Result<Config, Vec<Problem>> {
    todo!()
}

pub(super) fn nearest<'a>(_name: &str, _candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    todo!()
}
