//! What the readers of a file ask of each key: its kind, its bounds, its default, whether it must be there.
//!
//! In: the questions that readers put to a text that has every setting. Out: those questions by key, for the reference of the
//! settings. Never: anything while a configuration is read for use, where nobody listens.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use toml::de::DeTable;

use super::reader::{Source, Table};

/// What was asked of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// What a value must be, with its bounds.
    pub(super) kind: Option<String>,
    /// What holds when it is left out.
    pub(super) default: Option<String>,
    /// Whether it must be there.
    pub(super) is_required: bool,
    /// What the reader says stands there.
    pub(super) what: Option<String>,
    /// Whether the keys in it are names that a user chooses.
    pub(super) has_names: bool,
}

/// Collects what is asked, where somebody listens.
#[derive(Debug, Default)]
pub(super) struct Listener(Option<RefCell<BTreeMap<String, Asked>>>);

impl Listener {
    fn listening() -> Listener {
        Listener(Some(RefCell::default()))
    }

    /// Notes a question about a key. Neither closure is called where nobody listens.
    pub(super) fn note(&self, key: impl FnOnce() -> String, note: impl FnOnce(&mut Asked)) {
        if let Some(asked) = &self.0 {
            note(asked.borrow_mut().entry(key()).or_default());
        }
    }
}

impl Asked {
    /// The first kind that was asked for is what a user sees; what it is then read as is nothing to them.
    pub(super) fn kind(&mut self, kind: impl Into<String>) {
        self.kind.get_or_insert_with(|| kind.into());
    }
}

/// Everything that a reader asks of a text, whatever it finds wrong with it.
pub(super) fn asked_by<T>(text: &str, read: impl FnOnce(Table<'_>) -> T) -> BTreeMap<String, Asked> {
    let mut source = Source::new(text, Path::new(""));
    source.listener = Listener::listening();
    let Ok(document) = DeTable::parse(text) else { return BTreeMap::new() };
    let document = document.into_inner();
    read(source.root(&document));
    std::mem::take(&mut source.listener).0.map(RefCell::into_inner).unwrap_or_default()
}

/// A range as a sentence says it, after the name of what is counted.
pub(super) fn bounds(range: &RangeInclusive<u64>) -> String {
    match (*range.start(), *range.end()) {
        (0, u64::MAX) => String::new(),
        (least, u64::MAX) => format!(", at least {}", grouped(least)),
        (least, most) => format!(", {} to {}", grouped(least), grouped(most)),
    }
}

/// A number as TOML lets people read it: `1_048_576`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    if digits.len() > 4 { groups.join("_") } else { digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_toml_has_them() {
        let written: Vec<_> = [0, 999, 5000, 10_000, 1_048_576].into_iter().map(grouped).collect();
        assert_eq!(written, ["0", "999", "5000", "10_000", "1_048_576"]);
        assert_eq!(bounds(&(1..=u64::MAX)), ", at least 1");
        assert_eq!(bounds(&(0..=600)), ", 0 to 600");
    }

    #[test]
    fn questions_are_noted_only_where_somebody_listens() {
        let silent = Listener::default();
        silent.note(|| unreachable!("nobody listens"), |_| unreachable!("nobody listens"));
        let asked = asked_by("a = 7\n[t.x]\n", |mut root| {
            root.number("a", 5, 1..=9);
            root.string_or("b", "none");
            root.children("t").into_iter().for_each(|(_, mut table)| {
                table.need("c", "the thing");
            });
        });
        let of = |key: &str| asked.get(key).cloned().unwrap_or_else(|| panic!("{key}: {asked:?}"));
        assert_eq!((of("a").kind.as_deref(), of("a").default.as_deref()), (Some("number, 1 to 9"), Some("`5`")));
        assert_eq!(of("b").default.as_deref(), Some("`\"none\"`"));
        assert!(of("t").has_names);
        assert_eq!((of("t.x.c").is_required, of("t.x.c").what.as_deref()), (true, Some("the thing")));
    }
}
