//! The corpus of schema changes under `tests/schema_changes`, and the rules of Avro on schemas that no message derives.

use std::collections::{BTreeMap, BTreeSet};

use super::avro::Strictness;
use super::derived::Derived;
use super::*;
use crate::route::Mapping;
use crate::schema::compile::{self, Compilation};
use crate::schema::source::{Family, Kind, Schema};
use crate::schema::structure::Structure;

/// One change, as a file of the corpus has it.
#[derive(Default)]
struct Change {
    name: String,
    /// `RULES DIRECTION: RULE PATH`.
    expected: BTreeSet<String>,
    /// Texts by side and file name; the event's own file has no name.
    texts: BTreeMap<(String, String), String>,
}

impl Change {
    fn compile(&self, side: &str) -> Compilation {
        let schema = |text: &str| Schema::new(Kind::Protobuf, with_syntax(text));
        let of_side = self.texts.iter().filter(|((of, file), _)| of == side && !file.is_empty());
        let family = Family {
            root: schema(&self.texts[&(side.to_owned(), String::new())]),
            imports: of_side.map(|((_, file), text)| (file.clone(), schema(text))).collect(),
        };
        compile::compile("m.proto", &family).unwrap_or_else(|error| panic!("{}, {side}: {error}", self.name))
    }

    fn found(&self) -> BTreeSet<String> {
        let (before, after) = (self.compile("before"), self.compile("after"));
        let message = |of: &Compilation| of.messages().find(|m| m.descriptor.name() == "M").expect("M").descriptor;
        let derive = |of: &Compilation| Derived::new(&message(of), &Mapping::default()).expect("it can be derived");
        let mut found = BTreeSet::new();
        let mut add = |rules: &str, findings: Vec<Incompatibility>| {
            for Incompatibility { direction, finding, .. } in findings {
                let direction = format!("{direction:?}").to_lowercase();
                found.insert(format!("{rules} {direction}: {} {}", finding.rule.name(), finding.path));
                assert!(!finding.reason.is_empty() && !finding.fix.is_empty(), "{finding:?}");
            }
        };
        let older = [(1, before.file.clone())];
        let protobuf = |reader: &_, writer: &_, names: Names<'_>, _| protobuf::compare(reader, writer, names);
        add("protobuf", judge(Level::Full, &after.file, &older, protobuf));
        add("avro", judge(Level::Full, &derive(&after), &[(1, derive(&before))], derived::compare));
        found
    }
}

fn with_syntax(text: &str) -> String {
    if text.contains("syntax =") { text.to_owned() } else { format!("syntax = \"proto3\"; package t;\n{text}") }
}

fn changes() -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    let folder = std::fs::read_dir("tests/schema_changes").expect("tests run in the package's folder");
    let mut paths: Vec<_> = folder.map(|entry| entry.expect("it can be listed").path()).collect();
    paths.sort();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("it can be read");
        let mut open: Option<(String, String)> = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("= ") {
                changes.push(Change { name: name.to_owned(), ..Change::default() });
                open = None;
                continue;
            }
            // What stands before the first change says what the file is about.
            let Some(change) = changes.last_mut().filter(|_| open.is_some() || line.contains(' ')) else { continue };
            if let Some(header) = line.strip_prefix("--- ") {
                let (side, file) = header.split_once(' ').unwrap_or((header, ""));
                open = Some((side.to_owned(), file.to_owned()));
            } else if let Some(open) = &open {
                let text = change.texts.entry(open.clone()).or_default();
                text.push_str(line);
                text.push('\n');
            } else if line.starts_with("protobuf ") || line.starts_with("avro ") {
                change.expected.insert(line.to_owned());
            }
        }
    }
    changes
}

#[test]
fn every_change_of_the_corpus_gets_its_verdict() {
    let changes = changes();
    assert!(changes.len() >= 60, "{} changes", changes.len());
    let wrong = changes.iter().filter_map(|change| {
        let found = change.found();
        let lines =
            |of: &BTreeSet<String>, sign: &str| of.iter().map(|line| format!("\n  {sign}{line}")).collect::<String>();
        let missing: BTreeSet<_> = change.expected.difference(&found).cloned().collect();
        let unexpected: BTreeSet<_> = found.difference(&change.expected).cloned().collect();
        let same = missing.is_empty() && unexpected.is_empty();
        (!same).then(|| format!("{}{}{}", change.name, lines(&missing, "-"), lines(&unexpected, "+")))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "- expected and not found, + found and not expected\n{}", wrong.join("\n"));
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"a.R","fields":[{fields}]}}"#)
}

/// What keeps the first schema from reading the second, by the specification alone.
#[track_caller]
fn check(reader: &str, writer: &str, expected: &[(Rule, &str)]) {
    let parse = |text: &str| Structure::parse(text, []).expect(text);
    let names = Names { reader: "here", writer: "there" };
    let found = avro::compare(&parse(reader), &parse(writer), names, Strictness::Specification);
    let found: Vec<_> = found.iter().map(|finding| (finding.rule, finding.path.as_str())).collect();
    assert_eq!(found, expected, "{reader} reads {writer}");
}

#[test]
fn primitive_types_promote_one_way() {
    let whole = "the schema itself";
    check("\"long\"", "\"int\"", &[]);
    check("\"double\"", "\"int\"", &[]);
    check("\"double\"", "\"float\"", &[]);
    check("\"bytes\"", "\"string\"", &[]);
    check("\"string\"", "\"bytes\"", &[]);
    check("\"int\"", "\"long\"", &[(Rule::TypeMismatch, whole)]);
    check("\"float\"", "\"double\"", &[(Rule::TypeMismatch, whole)]);
    check("\"boolean\"", "\"int\"", &[(Rule::TypeMismatch, whole)]);
    check(r#"{"type":"array","items":"long"}"#, r#"{"type":"array","items":"int"}"#, &[]);
    check(r#"{"type":"map","values":"int"}"#, r#"{"type":"map","values":"long"}"#, &[(Rule::TypeMismatch, whole)]);
    check(r#"{"type":"array","items":"int"}"#, r#"{"type":"map","values":"int"}"#, &[(Rule::TypeMismatch, whole)]);
}

#[test]
fn a_reader_needs_a_branch_for_everything_that_may_be_written() {
    let whole = "the schema itself";
    check(r#"["null","long"]"#, "\"int\"", &[]);
    check(r#"["null","long"]"#, r#"["int","null"]"#, &[]);
    check(r#"["null","long"]"#, "\"string\"", &[(Rule::MissingUnionBranch, whole)]);
    check("\"long\"", r#"["int","long"]"#, &[]);
    check("\"long\"", r#"["null","long"]"#, &[(Rule::TypeMismatch, whole)]);
    let of = |name: &str| format!(r#"["null",{{"type":"record","name":"{name}","fields":[]}}]"#);
    check(&of("a.R"), &of("b.R"), &[]);
    check(&of("a.R"), &of("a.S"), &[(Rule::MissingUnionBranch, whole)]);
}

#[test]
fn a_field_is_found_by_its_name_then_by_its_aliases_and_else_needs_a_default() {
    let (x, y) = (record(r#"{"name":"x","type":"int"}"#), record(r#"{"name":"y","type":"int"}"#));
    check(&x, &y, &[(Rule::ReaderFieldMissingDefaultValue, "a.R.x")]);
    check(&record(r#"{"name":"x","type":"int","default":0}"#), &y, &[]);
    check(&record(r#"{"name":"x","type":"int","aliases":["y"]}"#), &y, &[]);
    check(&record(r#"{"name":"x","type":"string","aliases":["y"]}"#), &y, &[(Rule::TypeMismatch, "a.R.x")]);
    check(&record(""), &x, &[]);
}

#[test]
fn named_types_are_the_same_by_short_name_or_alias() {
    let named = |rest: &str| format!(r#"{{"type":"fixed","size":4,{rest}}}"#);
    check(&named(r#""name":"a.F""#), &named(r#""name":"b.F""#), &[]);
    check(&named(r#""name":"a.F""#), &named(r#""name":"a.G""#), &[(Rule::NameMismatch, "a.G")]);
    check(&named(r#""name":"a.F","aliases":["G"]"#), &named(r#""name":"a.G""#), &[]);
    check(&named(r#""name":"a.F","aliases":["b.G"]"#), &named(r#""name":"b.G""#), &[]);
    let eight = r#"{"type":"fixed","size":8,"name":"a.F"}"#;
    check(eight, &named(r#""name":"a.F""#), &[(Rule::FixedSizeMismatch, "a.F")]);
    let en = r#"{"type":"enum","symbols":["A"],"name":"a.F"}"#;
    check(en, eight, &[(Rule::TypeMismatch, "a.F")]);
}

#[test]
fn an_enum_without_default_needs_every_symbol() {
    let of = |symbols: &str| format!(r#"{{"type":"enum","name":"E","symbols":[{symbols}]}}"#);
    check(&of(r#""A""#), &of(r#""A","B""#), &[(Rule::MissingEnumSymbols, "E")]);
    check(&of(r#""A"],"default":"A","x":["#), &of(r#""A","B""#), &[]);
    check(&of(r#""B","A""#), &of(r#""A""#), &[]);
}

#[test]
fn types_are_followed_through_their_names() {
    let of = |leaf: &str| {
        record(&format!(
            r#"{{"name":"one","type":{{"type":"record","name":"N","fields":[{{"name":"x","type":"{leaf}"}}]}}}},{{"name":"two","type":"N"}}"#
        ))
    };
    check(&of("int"), &of("string"), &[(Rule::TypeMismatch, "a.R.one.x")]);
    let chain = |leaf: &str| {
        let record =
            |n: u32, of: &str| format!(r#"{{"type":"record","name":"R{n}","fields":[{{"name":"x","type":{of}}}]}}"#);
        let link = |n: u32| record(n, &format!(r#"["null","R{}"]"#, n + 1));
        let links: Vec<_> = (0..900).map(link).chain([record(900, &format!("\"{leaf}\""))]).collect();
        format!("[{}]", links.join(","))
    };
    check(&chain("int"), &chain("string"), &[(Rule::TypeMismatch, "R900.x")]);
    let long = chain("int");
    check(&long, &long, &[]);
}

#[test]
fn a_level_says_who_reads_whom_and_how_far_back() {
    let older = [(1, 'a'), (3, 'b')];
    let told = |level: Level| {
        let all = judge(level, &'c', &older, |reader, writer, _, _| {
            let reason = format!("{reader} reads {writer}");
            vec![Finding { rule: Rule::TypeMismatch, path: String::new(), reason, fix: String::new() }]
        });
        all.iter().map(|one| format!("{}: {}", one.version, one.finding.reason)).collect::<Vec<_>>().join(", ")
    };
    for (level, expected) in [
        (Level::None, ""),
        (Level::Backward, "3: c reads b"),
        (Level::BackwardTransitive, "3: c reads b, 1: c reads a"),
        (Level::Forward, "3: b reads c"),
        (Level::ForwardTransitive, "3: b reads c, 1: a reads c"),
        (Level::Full, "3: c reads b, 3: b reads c"),
        (Level::FullTransitive, "3: c reads b, 3: b reads c, 1: c reads a, 1: a reads c"),
    ] {
        assert_eq!(told(level), expected, "{level}");
        assert_eq!(Level::parse(level.as_str()), Some(level));
        assert_eq!(level.stricter(Level::None), level);
        assert_eq!(level.stricter(Level::FullTransitive), Level::FullTransitive);
        assert_eq!(level.stricter(level), level);
    }
}
