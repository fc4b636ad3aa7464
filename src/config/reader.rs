//! Reads TOML tables and collects problems.
//!
//! In: a parsed document. Out: typed values, or a default where a value is absent or wrong. Everything that does not
//! fit becomes a [`Problem`] with its dotted key and line. Never: stops at the first problem.
//!
//! A [`Table`] remembers the keys it was asked for; those are the known ones, so that no second list of them exists.
//! [`Table::finish`] refuses the rest.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::asked::{Listener, bounds, grouped};
use super::{Files, Problem, nearest};

/// The document's text positions and what was found wrong with it so far.
pub(super) struct Source<'s> {
    /// Relative file names are relative to this folder.
    pub(super) folder: &'s Path,
    /// Byte position of each line's start.
    line_starts: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    files: RefCell<Files>,
    /// For the reference of the settings: what is asked of each key.
    pub(super) listener: Listener,
}

impl<'s> Source<'s> {
    pub(super) fn new(text: &str, folder: &'s Path) -> Self {
        let line_starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1));
        Source {
            folder,
            line_starts: line_starts.collect(),
            problems: RefCell::default(),
            warnings: RefCell::default(),
            files: RefCell::default(),
            listener: Listener::default(),
        }
    }

    /// The line that a byte position is on, from 1.
    pub(super) fn line(&self, position: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= position)
    }

    pub(super) fn root<'t>(&'t self, document: &'t DeTable<'t>) -> Table<'t>
    where
        's: 't,
    {
        Table { source: self, key: String::new(), line: 0, entries: Some(document), known: vec![], refused: vec![] }
    }

    pub(super) fn problem(&self, line: usize, key: impl Into<String>, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { line, key: key.into(), message: message.into() });
    }

    pub(super) fn warning(&self, line: usize, key: impl Into<String>, message: impl Into<String>) {
        self.warnings.borrow_mut().push(Problem { line, key: key.into(), message: message.into() });
    }

    /// Notes a file that the document names, as it is now.
    pub(super) fn note_file(&self, path: &Path) {
        self.files.borrow_mut().note(path);
    }

    /// Notes files that another document, which this one names, was made from.
    pub(super) fn note_files(&self, others: &Files) {
        let noted = self.files.take();
        self.files.replace(noted.and(others));
    }

    /// The files that the document named.
    pub(super) fn files(&self) -> Files {
        self.files.borrow().clone()
    }

    /// Problems and warnings, each in the order of the file.
    pub(super) fn into_findings(self) -> (Vec<Problem>, Vec<Problem>) {
        let sorted = |mut list: Vec<Problem>| {
            list.sort_by(|a, b| (a.line, &a.key, &a.message).cmp(&(b.line, &b.key, &b.message)));
            list
        };
        (sorted(self.problems.into_inner()), sorted(self.warnings.into_inner()))
    }
}

/// One table of the document; absent optional tables are empty ones.
pub(super) struct Table<'s> {
    pub(super) source: &'s Source<'s>,
    /// Dotted key; empty for the document.
    pub(super) key: String,
    /// Line of its header; 0 when it is absent.
    pub(super) line: usize,
    entries: Option<&'s DeTable<'s>>,
    known: Vec<&'static str>,
    refused: Vec<&'static str>,
}

impl<'s> Table<'s> {
    /// The value at `key`, which is a known key from now on.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Item<'s>> {
        self.known.push(key);
        self.source.listener.note(|| self.key_of(key), |_| {});
        self.item(key)
    }

    /// The same; its absence is a problem. `what` says what stands there.
    pub(super) fn need(&mut self, key: &'static str, what: &str) -> Option<Item<'s>> {
        let item = self.take(key);
        self.source.listener.note(
            || self.key_of(key),
            |asked| {
                asked.is_required = true;
                asked.what = Some(what.to_owned());
            },
        );
        if item.is_none() {
            self.source.problem(self.line, self.key_of(key), format!("missing: {what}"));
        }
        item
    }

    /// A known key that must not be here, and why.
    pub(super) fn refuse(&mut self, key: &'static str, why: &str) {
        // The first reason is the one that counts.
        if self.refused.contains(&key) {
            return;
        }
        self.refused.push(key);
        if let Some(item) = self.item(key) {
            item.problem(why);
        }
    }

    /// A key that is for somebody else to read.
    pub(super) fn leave(&mut self, key: &'static str) {
        self.refused.push(key);
    }

    /// Says what holds when a key is left out, for the reference of the settings.
    pub(super) fn by_default(&self, key: &str, default: impl FnOnce() -> String) {
        self.source.listener.note(|| self.key_of(key), |asked| asked.default = Some(default()));
    }

    pub(super) fn string(&mut self, key: &'static str) -> Option<String> {
        self.take(key)?.string()
    }

    pub(super) fn string_or(&mut self, key: &'static str, default: &str) -> String {
        self.by_default(key, || format!("`{default:?}`"));
        self.string(key).unwrap_or_else(|| default.to_owned())
    }

    pub(super) fn flag(&mut self, key: &'static str) -> bool {
        self.flag_or(key, false)
    }

    pub(super) fn flag_or(&mut self, key: &'static str, default: bool) -> bool {
        self.by_default(key, || format!("`{default}`"));
        self.take(key).and_then(Item::boolean).unwrap_or(default)
    }

    pub(super) fn number(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        self.by_default(key, || format!("`{}`", grouped(default)));
        self.optional_number(key, range).unwrap_or(default)
    }

    /// A number that has no default, or one that follows from something else.
    pub(super) fn optional_number(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.take(key).and_then(|item| item.number(range))
    }

    /// A number of bytes, events or connections.
    pub(super) fn size(&mut self, key: &'static str, default: usize, range: RangeInclusive<u64>) -> usize {
        self.number(key, default as u64, range) as usize
    }

    pub(super) fn seconds(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.number(key, default, range))
    }

    pub(super) fn milliseconds(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.number(key, default, range))
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, options: &[(&'static str, T)]) -> Option<T> {
        self.take(key)?.choice(options)
    }

    /// One of the options, or the default, which is one of them.
    pub(super) fn choice_or<T: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        options: &[(&'static str, T)],
        default: T,
    ) -> T {
        let name = || options.iter().find(|(_, option)| *option == default).map_or("", |(name, _)| name);
        self.by_default(key, || format!("`{:?}`", name()));
        self.choice(key, options).unwrap_or(default)
    }

    /// The items of a list; none when it is absent.
    pub(super) fn list(&mut self, key: &'static str) -> Vec<Item<'s>> {
        self.take(key).and_then(Item::list).unwrap_or_default()
    }

    /// The items of a list that must be there and hold something.
    pub(super) fn need_list(&mut self, key: &'static str, what: &str) -> Vec<Item<'s>> {
        let Some(list) = self.need(key, what).and_then(Item::list) else { return vec![] };
        if list.is_empty() {
            self.problem(key, format!("must not be empty: {what}"));
        }
        list
    }

    pub(super) fn table(&mut self, key: &'static str) -> Option<Table<'s>> {
        self.take(key)?.table()
    }

    /// The table at `key`, an empty one when it is absent.
    pub(super) fn section(&mut self, key: &'static str) -> Table<'s> {
        self.table(key).unwrap_or_else(|| Table {
            source: self.source,
            key: self.key_of(key),
            line: 0,
            entries: None,
            known: vec![],
            refused: vec![],
        })
    }

    /// The tables of a table whose keys are names, in the order of the names.
    pub(super) fn children(&mut self, key: &'static str) -> Vec<(Item<'s>, Table<'s>)> {
        self.source.listener.note(|| self.key_of(key), |asked| asked.has_names = true);
        let Some(parent) = self.table(key) else { return vec![] };
        parent.items().into_iter().filter_map(|item| item.clone().table().map(|table| (item, table))).collect()
    }

    /// Every value, whatever its key.
    pub(super) fn items(&self) -> Vec<Item<'s>> {
        let entries = self.entries.into_iter().flatten();
        entries.map(|(name, value)| self.item_of(name.get_ref(), name.span(), value)).collect()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.is_some_and(|entries| entries.contains_key(key))
    }

    /// Notes a problem with the value at `key`, or with its absence.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        self.source.problem(self.line_of(key), self.key_of(key), message);
    }

    pub(super) fn warning(&self, key: &str, message: impl Into<String>) {
        self.source.warning(self.line_of(key), self.key_of(key), message);
    }

    /// Refuses every key that nobody asked for.
    pub(super) fn finish(&self) {
        let known: Vec<_> = self.known.iter().copied().filter(|key| !self.refused.contains(key)).collect();
        for item in self.items() {
            let name = item.name.as_str();
            if known.contains(&name) || self.refused.contains(&name) {
                continue;
            }
            match nearest(name, known.iter().copied()) {
                Some(near) => item.problem(format!("unknown key `{name}`; did you mean `{near}`?")),
                None => item.problem(format!("unknown key `{name}`; known here: {}", enumerate(&known))),
            }
        }
    }

    fn item(&self, key: &str) -> Option<Item<'s>> {
        let (name, value) = self.entries?.get_key_value(key)?;
        Some(self.item_of(name.get_ref(), name.span(), value))
    }

    fn item_of(&self, name: &str, at: Range<usize>, value: &'s Spanned<DeValue<'s>>) -> Item<'s> {
        Item {
            source: self.source,
            key: self.key_of(name),
            name: name.to_owned(),
            line: self.source.line(at.start),
            value: value.get_ref(),
        }
    }

    fn key_of(&self, key: &str) -> String {
        if self.key.is_empty() { quoted(key) } else { format!("{}.{}", self.key, quoted(key)) }
    }

    fn line_of(&self, key: &str) -> usize {
        self.item(key).map_or(self.line, |item| item.line)
    }
}

/// One value with its place.
#[derive(Clone)]
pub(super) struct Item<'s> {
    pub(super) source: &'s Source<'s>,
    /// Dotted key, `clusters.core.brokers[1]`.
    pub(super) key: String,
    /// Last part of the key, as it is; that of the list for an item of a list.
    pub(super) name: String,
    /// Line of its key.
    pub(super) line: usize,
    value: &'s DeValue<'s>,
}

impl<'s> Item<'s> {
    /// A text that is not empty.
    pub(super) fn string(self) -> Option<String> {
        self.is_meant_as("text");
        match self.value {
            DeValue::String(text) if text.trim().is_empty() => self.wrong("must not be empty"),
            DeValue::String(text) => Some(text.clone().into_owned()),
            _ => self.wrong_kind("a string"),
        }
    }

    /// Says what a value must be, for the reference of the settings.
    pub(super) fn is_meant_as(&self, kind: &str) {
        self.source.listener.note(|| self.key.clone(), |asked| asked.kind(kind));
    }

    pub(super) fn boolean(self) -> Option<bool> {
        self.is_meant_as("`true` or `false`");
        self.value.as_bool().or_else(|| self.wrong_kind("`true` or `false`"))
    }

    pub(super) fn number(self, range: RangeInclusive<u64>) -> Option<u64> {
        let kind = || format!("{}{}", counted(&self.name), bounds(&range));
        self.source.listener.note(|| self.key.clone(), |asked| asked.kind(kind()));
        let DeValue::Integer(integer) = self.value else { return self.wrong_kind("a whole number") };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        number.filter(|number| range.contains(number)).or_else(|| {
            let (least, most) = (range.start(), range.end());
            match *most {
                u64::MAX => self.wrong(format!("{integer} is out of range; it must be at least {least}")),
                most => self.wrong(format!("{integer} is out of range; it must be from {least} to {most}")),
            }
        })
    }

    /// A fraction between 0 and 1, neither of them.
    pub(super) fn share(self) -> Option<f64> {
        self.is_meant_as("fraction, between 0 and 1");
        let number = match self.value {
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            DeValue::Integer(integer) => integer.as_str().parse::<f64>().ok(),
            _ => return self.wrong_kind("a fraction"),
        };
        let found = number.filter(|number| *number > 0.0 && *number < 1.0);
        found.or_else(|| self.wrong("must be more than 0 and less than 1, such as `0.01` for one event in a hundred"))
    }

    /// A fraction from 0 to 1, both of them allowed.
    pub(super) fn ratio(self) -> Option<f64> {
        self.is_meant_as("fraction, from 0 to 1");
        let number = match self.value {
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            DeValue::Integer(integer) => integer.as_str().parse::<f64>().ok(),
            _ => return self.wrong_kind("a fraction"),
        };
        let found = number.filter(|number| (0.0..=1.0).contains(number));
        found.or_else(|| self.wrong("must be from 0 to 1, such as `0.01` for one in a hundred"))
    }

    pub(super) fn choice<T: Copy>(self, options: &[(&'static str, T)]) -> Option<T> {
        let names: Vec<_> = options.iter().map(|(name, _)| *name).collect();
        self.source.listener.note(|| self.key.clone(), |asked| asked.kind(enumerate(&names)));
        let DeValue::String(text) = self.value else {
            return self.wrong_kind(&format!("one of {}", enumerate(&names)));
        };
        let found = options.iter().find(|(name, _)| name == text).map(|(_, value)| *value);
        found.or_else(|| self.wrong(format!("`{text}` is none of {}", enumerate(&names))))
    }

    pub(super) fn list(self) -> Option<Vec<Item<'s>>> {
        self.is_meant_as("list");
        let DeValue::Array(array) = self.value else { return self.wrong_kind("a list") };
        let items = array.iter().enumerate().map(|(index, value)| Item {
            source: self.source,
            key: format!("{}[{index}]", self.key),
            name: self.name.clone(),
            line: self.source.line(value.span().start),
            value: value.get_ref(),
        });
        Some(items.collect())
    }

    pub(super) fn table(self) -> Option<Table<'s>> {
        self.is_meant_as("table");
        let DeValue::Table(entries) = self.value else { return self.wrong_kind("a table") };
        let Item { source, key, line, .. } = self;
        Some(Table { source, key, line, entries: Some(entries), known: vec![], refused: vec![] })
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// The text, when it is one.
    pub(super) fn text(&self) -> Option<&'s str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_boolean(&self) -> bool {
        self.value.is_bool()
    }

    pub(super) fn problem(&self, message: impl Into<String>) {
        self.source.problem(self.line, self.key.clone(), message);
    }

    pub(super) fn warning(&self, message: impl Into<String>) {
        self.source.warning(self.line, self.key.clone(), message);
    }

    /// Notes a problem; for use as the value of an expression.
    pub(super) fn wrong<T>(&self, message: impl Into<String>) -> Option<T> {
        self.problem(message);
        None
    }

    fn wrong_kind<T>(&self, wanted: &str) -> Option<T> {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.wrong(format!("must be {wanted}, not {found}"))
    }
}

/// A part of a dotted key as TOML writes it.
pub(crate) fn quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { format!("\"{}\"", key.escape_debug()) }
}

/// What a number counts, by the end of its key.
fn counted(key: &str) -> &'static str {
    let units = [
        ("_bytes_per_second", "bytes a second"),
        ("bytes_per_second", "bytes a second"),
        ("_per_second", "number a second"),
        ("_ms", "milliseconds"),
        (".ms", "milliseconds"),
        ("_seconds", "seconds"),
        ("bytes_max", "bytes"),
        ("_bytes", "bytes"),
        (".bytes", "bytes"),
    ];
    units.iter().find(|(end, _)| key.ends_with(end)).map_or("number", |(_, unit)| unit)
}

/// `a`, `b`, `c`.
pub(super) fn enumerate(names: &[impl AsRef<str>]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}
