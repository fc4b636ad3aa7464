//! The reference of all settings, made from what reads them.
//!
//! In: the documented examples, which show every setting, and what the readers ask of each key of them. Out: the reference as
//! Markdown (`deploy/docs/settings.md`), and the same of one setting. Never: a list of settings that is kept by hand: kinds, bounds
//! and defaults are the readers', descriptions are the examples' comments.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::asked::{Asked, asked_by};
use super::change::fixed_settings;
use super::{SCHEMAS_FILE, check, control, nearest, schemas};

/// Stands for a name that a user chooses.
const NAME: &str = "NAME";

/// What must be there in some forms of its table.
const WHERE_IT_APPLIES: &str = "required where it applies";

/// A file that settings stand in.
struct Example {
    title: &'static str,
    file: &'static str,
    text: &'static str,
    asked: fn(&str) -> BTreeMap<String, Asked>,
    /// Tables that are described with another file.
    elsewhere: &'static [&'static str],
    intro: &'static str,
}

const EXAMPLES: [Example; 3] = [
    Example {
        title: "The proxy",
        file: "iguazu.toml",
        text: include_str!("../../deploy/iguazu.toml"),
        asked: |text| {
            // Where routes come from decides on what else is asked; the example shows one.
            let mut asked = asked_by(text, check::read);
            let elsewhere = asked_by(&text.replace("source = \"file\"", "source = \"control\""), check::read);
            let of_routes = elsewhere.into_iter().filter(|(key, _)| key.starts_with("routes."));
            asked.extend(of_routes.filter(|(key, _)| key != "routes.source"));
            asked
        },
        elsewhere: &[],
        intro: "`iguazu proxy FILE` reads it at its start, again when it or a file that it names has other content, and at SIGHUP. \
                *restart*: a running proxy refuses a change of this setting and keeps what it has; all others are taken up while it runs.",
    },
    Example {
        title: "The management plane",
        file: "iguazu-control.toml",
        text: include_str!("../../deploy/iguazu-control.toml"),
        asked: |text| asked_by(text, control::read),
        elsewhere: &["clusters", "registries"],
        intro: "`iguazu control FILE` reads it once, at its start. `[clusters.NAME]` and `[registries.NAME]` are as in the proxy's file, \
                and one file may serve both.",
    },
    Example {
        title: "Schemas",
        file: SCHEMAS_FILE,
        text: include_str!("../../deploy/iguazu-schemas.toml"),
        asked: |text| asked_by(text, |root| schemas::read(root, Path::new(SCHEMAS_FILE))),
        elsewhere: &["registries"],
        intro: "The commands of `iguazu schema` read it, and a proxy whose `schemas_file` names it. `[registries.NAME]` is as in the \
                proxy's file.",
    },
];

/// One setting, wherever it stands in an example.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    /// Its key, names in it as [`NAME`].
    key: Vec<String>,
    kind: String,
    default: String,
    needs_restart: bool,
    description: String,
}

/// A table of a file.
struct Section {
    header: Vec<String>,
    description: String,
    settings: Vec<Setting>,
}

/// All settings, as Markdown.
pub fn reference() -> String {
    let mut text = "# Settings\n\nMade by `iguazu check --settings` from the code that reads them; `iguazu check --explain KEY` shows one. \
        The examples that are linked below have all of them in use, with comments. Files and folders are relative to the folder of the \
        file that names them.\n"
        .to_owned();
    for example in &EXAMPLES {
        let Example { title, file, intro, .. } = example;
        text += &format!("\n## {title}\n\nExample: [{file}](../{file}). {intro}\n");
        let has_restarts = example.file == "iguazu.toml";
        for section in example.sections() {
            text += &section.markdown(has_restarts);
        }
    }
    text
}

/// What a setting is, by its key or the end of it; an `Err` says which key may be meant.
pub fn explain(key: &str) -> Result<String, String> {
    let wanted = parts(key);
    let mut found = Vec::new();
    let mut known = Vec::new();
    for example in &EXAMPLES {
        for setting in example.sections().into_iter().flat_map(|section| section.settings) {
            if setting.is_at(&wanted) {
                found.push(setting.explained(example.file));
            }
            known.push(setting.key.join("."));
        }
    }
    if !found.is_empty() {
        return Ok(found.join("\n"));
    }
    match nearest(key, known.iter().flat_map(|key| [key.as_str(), key.rsplit('.').next().unwrap_or_default()])) {
        Some(near) => Err(format!("there is no setting `{key}`; did you mean `{near}`?")),
        None => Err(format!("there is no setting `{key}`; `iguazu check --settings` shows all of them")),
    }
}

impl Example {
    /// The tables of the file in its order, each with its settings in the order of the file.
    fn sections(&self) -> Vec<Section> {
        let full = in_full(self.text);
        let asked = (self.asked)(&full);
        let names: BTreeSet<Vec<String>> = asked
            .iter()
            .filter(|(_, asked)| asked.has_names)
            .map(|(key, _)| pattern(&parts(key), &BTreeSet::new()))
            .collect();
        // Names in names (`control.sinks.NAME`) do not occur, so that one pass finds all.
        let pattern_of = |key: &str| pattern(&parts(key), &names);
        let is_table = |asked: &Asked| asked.has_names || asked.kind.as_deref() == Some("table");
        let tables: BTreeSet<_> =
            asked.iter().filter(|(_, asked)| is_table(asked)).map(|(key, _)| pattern_of(key)).collect();
        // What is not asked in every table of its kind is asked in some forms of it only.
        let mut counts: BTreeMap<Vec<String>, usize> = BTreeMap::new();
        asked.keys().for_each(|key| *counts.entry(pattern_of(key)).or_default() += 1);
        let count = |key: &[String]| counts.get(key).copied().unwrap_or_default();
        let is_always = |key: &[String]| key.len() < 2 || count(key) >= count(&key[..key.len() - 1]);
        let comments = comments(self.text);
        let fixed = if self.file == "iguazu.toml" { fixed_settings() } else { vec![] };
        let mut sections: Vec<Section> = vec![Section { header: vec![], description: String::new(), settings: vec![] }];
        for comment in comments.iter().filter(|comment| comment.is_header) {
            let header = pattern_of(&comment.key);
            if !self.elsewhere.contains(&header[0].as_str()) && !sections.iter().any(|known| known.header == header) {
                sections.push(Section { header, description: comment.lines.join("\n"), settings: vec![] });
            }
        }
        let place = |key: &String| {
            comments.iter().position(|comment| comment.key == *key || is_below(key, &comment.key) && !comment.is_header)
        };
        let mut keys: Vec<&String> = asked.keys().collect();
        keys.sort_by_cached_key(|key| place(key).unwrap_or(usize::MAX));
        for key in keys {
            let (asked, key_pattern) = (&asked[key], pattern_of(key));
            if key.ends_with(']') || tables.contains(&key_pattern) || self.elsewhere.contains(&key_pattern[0].as_str())
            {
                continue;
            }
            let inherited = || asked.what.as_deref().filter(|what| !what.is_empty()).map(capitalised);
            let of_table = || comments.iter().find(|comment| !comment.is_header && is_below(key, &comment.key));
            let own = comments.iter().find(|comment| comment.key == *key).filter(|comment| !comment.lines.is_empty());
            let description = own.map(|comment| comment.lines.join(" ")).or_else(inherited);
            let description = description.or_else(|| Some(of_table()?.lines.join(" "))).unwrap_or_default();
            let setting = Setting {
                kind: asked.kind.clone().unwrap_or_default(),
                default: match asked.is_required {
                    true if is_always(&key_pattern) => "required".to_owned(),
                    true => WHERE_IT_APPLIES.to_owned(),
                    false => asked.default.clone().unwrap_or_default(),
                },
                needs_restart: fixed.iter().any(|fixed| is_fixed(&key_pattern, fixed)),
                description,
                key: key_pattern,
            };
            let section = sections.iter_mut().filter(|section| setting.key.starts_with(&section.header));
            let section = section.max_by_key(|section| section.header.len()).expect("the root holds every key");
            section.add(setting);
        }
        sections
    }
}

impl Section {
    /// Adds a setting, or what another place in the example tells of it: a text, or that it need not be there.
    fn add(&mut self, setting: Setting) {
        let same = |known: &&mut Setting| {
            let is_kind = known.kind == setting.kind || known.kind.is_empty() || setting.kind.is_empty();
            known.key == setting.key && is_kind
        };
        let Some(known) = self.settings.iter_mut().find(same) else { return self.settings.push(setting) };
        if known.kind.is_empty() {
            known.kind = setting.kind;
        }
        if known.description.is_empty() {
            known.description = setting.description;
        }
        if known.default != setting.default && [&known.default, &setting.default].contains(&&"required".to_owned()) {
            known.default = WHERE_IT_APPLIES.to_owned();
        }
    }

    fn markdown(&self, has_restarts: bool) -> String {
        let mut text = match self.header.as_slice() {
            [] => String::new(),
            header => format!("\n### `[{}]`\n\n", header.join(".")),
        };
        if !self.description.is_empty() {
            text += &format!("{}\n", self.description);
        }
        if self.settings.is_empty() {
            return text;
        }
        text += "\n| Setting | Value | Default | |\n|---|---|---|---|\n";
        for setting in &self.settings {
            let key = setting.key[self.header.len()..].join(".");
            let restart = if has_restarts && setting.needs_restart { "*restart* " } else { "" };
            let cells = [&setting.kind, &setting.default, &format!("{restart}{}", setting.description)];
            let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            text += &format!("| `{key}` | {} |\n", cells.join(" | "));
        }
        text
    }
}

impl Setting {
    /// Whether a user means it: its key or the end of it, with a name of their own or [`NAME`].
    fn is_at(&self, wanted: &[String]) -> bool {
        let Some(skipped) = self.key.len().checked_sub(wanted.len()) else { return false };
        self.key[skipped..].iter().zip(wanted).all(|(key, wanted)| key == wanted || key == NAME)
            && wanted.last() == self.key.last()
    }

    fn explained(&self, file: &str) -> String {
        let Setting { kind, default, description, .. } = self;
        let key = self.key.join(".");
        let default = match default.as_str() {
            "" => "not set by default".to_owned(),
            required if required.starts_with("required") => required.to_owned(),
            default => format!("default {default}"),
        };
        let restart = if self.needs_restart { "; a change needs a restart" } else { "" };
        format!("{key} ({file})\n  {kind}; {default}{restart}\n  {description}\n")
    }
}

/// An example with every setting that it shows commented out (`#` and no blank) in use.
pub(super) fn in_full(text: &str) -> String {
    let in_use: Vec<_> = text.lines().map(|line| setting_line(line).unwrap_or(line)).collect();
    in_use.join("\n")
}

/// A line without the `#` that puts it out of use; none where it is a comment.
fn setting_line(line: &str) -> Option<&str> {
    match line.strip_prefix('#') {
        None => Some(line),
        Some(rest) if rest.starts_with(|first: char| !first.is_whitespace()) => Some(rest),
        Some(_) => None,
    }
}

/// What an example says of a table or a setting.
struct Comment {
    /// As it stands there, names included.
    key: String,
    is_header: bool,
    lines: Vec<String>,
}

fn comments(text: &str) -> Vec<Comment> {
    let mut found = Vec::new();
    let (mut lines, mut table): (Vec<String>, Option<String>) = (Vec::new(), None);
    for line in text.lines() {
        let Some(setting) = setting_line(line) else {
            let comment = line.trim_start_matches('#');
            lines.push(comment.strip_prefix(' ').unwrap_or(comment).to_owned());
            continue;
        };
        if let Some(header) = setting.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            table = Some(header.to_owned());
            found.push(Comment { key: header.to_owned(), is_header: true, lines: std::mem::take(&mut lines) });
        } else if let Some((key, _)) = setting.split_once(" = ") {
            let key = table.as_ref().map_or(key.to_owned(), |table| format!("{table}.{key}"));
            found.push(Comment { key, is_header: false, lines: std::mem::take(&mut lines) });
        }
        lines.clear();
    }
    found
}

/// Whether a key stands in an inline table.
fn is_below(key: &str, table: &str) -> bool {
    key.strip_prefix(table).is_some_and(|rest| rest.starts_with(['.', '[']))
}

/// A fixed table fixes all that is in it; `http.tls` only whether it is there.
fn is_fixed(key: &[String], fixed: &str) -> bool {
    key.join(".") == fixed || key[0] == fixed
}

/// A sentence of its own.
fn capitalised(what: &str) -> String {
    let mut letters = what.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// The parts of a dotted key, without quotes.
fn parts(key: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut is_quoted = false;
    for c in key.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            '.' if !is_quoted => parts.push(String::new()),
            c => parts.last_mut().expect("there is one at least").push(c),
        }
    }
    parts
}

/// A key with [`NAME`] for what stands directly in a table of names.
fn pattern(key: &[String], names: &BTreeSet<Vec<String>>) -> Vec<String> {
    let mut pattern = Vec::new();
    for part in key {
        let part = if names.contains(&pattern) { NAME } else { part };
        pattern.push(part.to_owned());
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Vec<(&'static str, Setting)> {
        let of = |example: &'static Example| {
            example.sections().into_iter().flat_map(|section| section.settings).map(|setting| (example.file, setting))
        };
        EXAMPLES.iter().flat_map(of).collect()
    }

    #[test]
    fn every_setting_is_in_an_example_and_is_described_there() {
        let settings = settings();
        assert!(settings.len() > 150, "only {} settings", settings.len());
        let lacks = |(file, setting): (&str, Setting)| {
            let key = setting.key.join(".");
            // Those are librdkafka's, which has a reference of its own.
            let is_clients = key.starts_with("clusters.NAME.librdkafka.");
            match (setting.kind.is_empty(), setting.description.is_empty() && !is_clients) {
                (true, _) => Some(format!("deploy/{file} does not show `{key}`")),
                (_, true) => Some(format!("deploy/{file} does not say what `{key}` is")),
                _ => None,
            }
        };
        let lacking: Vec<_> = settings.into_iter().filter_map(lacks).collect();
        assert!(lacking.is_empty(), "{}", lacking.join("\n"));
    }

    #[test]
    fn the_reference_in_the_documentation_is_this_one() {
        let written = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/docs/settings.md"));
        let written = written.expect("the documentation has it");
        let same = written.lines().zip(reference().lines().map(str::to_owned)).find(|(written, made)| written != made);
        assert_eq!(same, None, "`iguazu check --settings > deploy/docs/settings.md` writes it anew");
        assert_eq!(written.len(), reference().len());
    }

    #[test]
    fn what_is_fixed_while_a_proxy_runs_is_said() {
        let settings = settings();
        let check = |key: &str, expected: bool| {
            let found = settings.iter().find(|(_, setting)| setting.key.join(".") == key);
            let (_, setting) = found.unwrap_or_else(|| panic!("{key}"));
            assert_eq!(setting.needs_restart, expected, "{key}");
        };
        check("http.listen", true);
        check("http.tls.certificate_file", false);
        check("spool.bytes_max", true);
        check("state_dir", true);
        check("schema_refresh_seconds", false);
        check("clusters.NAME.brokers", false);
        check("events.NAME.topic", false);
        check("routes.source", true);
        check("routes.url", false);
        let keys: BTreeSet<_> = settings.iter().map(|(_, setting)| setting.key.join(".")).collect();
        for fixed in fixed_settings() {
            let is_there = |key: &String| key == fixed || key.starts_with(&format!("{fixed}."));
            assert!(keys.iter().any(is_there), "`{fixed}` is no setting");
        }
    }

    #[test]
    fn one_setting_is_explained_by_its_key_or_the_end_of_it() {
        let told = explain("clusters.core.linger_ms").expect("it is one");
        assert!(told.contains("milliseconds, 1 to 1000; default `75`"), "{told}");
        assert_eq!(explain("linger_ms").as_ref(), Ok(&told));
        assert!(explain("http.drain_seconds").expect("it is one").contains("needs a restart"));
        assert!(explain("events.\"a.b\".acks").expect("it is one").contains("`leader`, `all`; default `\"leader\"`"));
        assert_eq!(explain("lingerms"), Err("there is no setting `lingerms`; did you mean `linger_ms`?".to_owned()));
        assert!(explain("core").is_err());
    }
}
