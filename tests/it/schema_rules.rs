//! Our rules against those of others, on the corpus of changes: of the derived Avro schemas against Apache Avro's own resolution, of
//! Protobuf against buf's rules for the wire.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;

use iguazu::route::Mapping;
use iguazu::schema::compatibility::avro::{Strictness, compare};
use iguazu::schema::compatibility::{Names, protobuf};
use iguazu::schema::compile::{self, Compilation};
use iguazu::schema::source::{Family, Kind, Schema};
use iguazu::schema::structure::Structure;
use iguazu::transcode;
use serde_json::{Value, json};

use super::support::kafka::{python, script};
use super::support::process::{Process, command};
use super::support::{fetched, folder, long};

#[test]
fn apache_avro_says_the_same_of_every_change_of_the_corpus() {
    let (mut pairs, mut ours) = (String::new(), BTreeMap::new());
    for change in corpus() {
        let (name, before, after) = (&change.name, change.derive("before"), change.derive("after"));
        for (direction, reader, writer) in [("backward", &after, &before), ("forward", &before, &after)] {
            let name = format!("{name}, {direction}");
            writeln!(pairs, "{}", json!({"name": name, "reader": reader, "writer": writer})).expect("a string grows");
            let parse = |text: &str| Structure::parse(text, []).expect("it was derived");
            let names = Names { reader: "the reader", writer: "the writer" };
            let found = compare(&parse(reader), &parse(writer), names, Strictness::Specification);
            ours.insert(name, found.is_empty());
        }
    }
    assert!(ours.len() > 120 && ours.values().any(|compatible| !compatible), "{} verdicts", ours.len());
    let place = folder("avro-rules");
    std::fs::write(place.join("pairs"), pairs).expect("the folder is ours");
    let open = |name: &str| std::fs::File::create(place.join(name)).expect("the folder is ours");
    let mut python = {
        let mut command = command(python());
        command.arg(script("avro_rules.py")).stdout(Stdio::from(open("verdicts")));
        command.stdin(std::fs::File::open(place.join("pairs")).expect("it was just written"));
        Process::spawn("avro rules", command)
    };
    assert!(python.wait().success(), "the script failed; what it said is above");
    let verdicts = std::fs::read_to_string(place.join("verdicts")).expect("it printed");
    let mut wrong = Vec::new();
    for line in verdicts.lines() {
        let verdict: Value = serde_json::from_str(line).expect("it prints JSON");
        let name = verdict["step"].as_str().expect("every verdict has its name");
        if verdict["answer"] != json!(ours[name]) {
            wrong.push(format!("{name}: ours {}, Apache Avro's {}", ours[name], verdict["answer"]));
        }
    }
    assert_eq!(verdicts.lines().count(), ours.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Changes of which buf says something else than Confluent's rules, which are ours, and why.
const BUF_DIFFERS: [(&str, &[&str]); 6] = [
    (
        "buf wants a number that is gone to be reserved; Confluent's rules look at numbers only while they are used",
        &["a value gets another number", "a field gets another number", "an imported enum loses a value"],
    ),
    (
        "Confluent's rules follow a type by its place or number, buf by its name",
        &["an enum is renamed, its field with it", "int32 becomes an enum", "one enum becomes another"],
    ),
    (
        "Confluent's rules judge a file's own messages, and each that is gone; buf those of all files, and none that is gone",
        &[
            "an imported message that is not used changes",
            "a message moves into an imported file of the same package",
            "a message is added",
            "a message that nothing uses is removed",
            "a message that nothing uses is added",
            "a nested message is removed with its field",
        ],
    ),
    (
        "Confluent's rules let one field move into a new oneof, and judge the other way too; buf lets none move, and members come",
        &["a member is added", "one field moves into a new oneof", "a oneof is renamed"],
    ),
    (
        "Confluent's rules do not look at how often a field may stand there, nor at what it is when it does not",
        &[
            "a plain number becomes repeated, which Confluent's rules do not see",
            "a string becomes repeated",
            "repeated bytes become optional",
            "a message becomes repeated",
            "an optional string becomes required",
            "a default changes",
        ],
    ),
    ("a map's entry is a message, whose name buf compares", &["a map with a field renamed"]),
];

#[test]
fn buf_says_the_same_of_every_change_but_of_those_whose_reason_is_known() {
    if !long() || !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return;
    }
    let (buf, place) = (fetched("buf/bin/buf"), folder("buf"));
    let rules = r#"{"version":"v2","breaking":{"use":["WIRE"]}}"#;
    let listed: Vec<_> = BUF_DIFFERS.iter().flat_map(|(_, names)| *names).copied().collect();
    let (mut differ, mut known) = (Vec::new(), 0);
    for (at, change) in corpus().iter().enumerate() {
        let place = place.join(at.to_string());
        for (header, text) in &change.parts {
            let (side, file) = header.split_once(' ').unwrap_or((header, "m.proto"));
            let path = place.join(side).join(file);
            std::fs::create_dir_all(path.parent().expect("it is in a folder")).expect("the folder is ours");
            std::fs::write(path, with_syntax(text)).expect("the folder is ours");
        }
        let mut command = command(&buf);
        command.args(["breaking", ".", "--against", "../before", "--config", rules, "--against-config", rules]);
        command.current_dir(place.join("after")).env("HOME", &place);
        let said = command.output().expect("buf runs");
        let theirs = match said.status.code() {
            Some(0) => true,
            // What it says of changes that break something.
            Some(100) => false,
            _ => panic!("{}: {}", change.name, String::from_utf8_lossy(&said.stderr)),
        };
        let file = |side| change.compile(side).messages().next().expect("a message").descriptor.parent_file();
        let (before, after) = (file("before"), file("after"));
        let names = Names { reader: "the reader", writer: "the writer" };
        let ours =
            [(&before, &after), (&after, &before)].iter().all(|(a, b)| protobuf::compare(a, b, names).is_empty());
        match (ours == theirs, listed.contains(&change.name.as_str())) {
            (true, false) => {}
            (false, true) => known += 1,
            (same, _) => differ.push(format!("{}: the same: {same}; ours {ours}, buf's {theirs}", change.name)),
        }
    }
    assert!(differ.is_empty(), "what is listed and is not so, or is so and not listed:\n{}", differ.join("\n"));
    assert_eq!(known, listed.len(), "a listed change is none of the corpus");
}

/// One change of the corpus.
struct Change {
    name: String,
    /// Texts by side and, where it is an import, the file's name.
    parts: BTreeMap<String, String>,
}

fn corpus() -> Vec<Change> {
    let mut files: Vec<_> =
        std::fs::read_dir("tests/schema_changes").expect("the package's folder").flatten().collect();
    files.sort_by_key(|file| file.path());
    let texts = files.iter().map(|file| std::fs::read_to_string(file.path()).expect("it can be read"));
    let of_file = |text: String| -> Vec<_> {
        let changes = text.split("\n= ").skip(1).map(|change| {
            let mut parts = change.split("\n--- ");
            let name = parts.next().and_then(|head| head.lines().next()).expect("a name").to_owned();
            let parts = parts.map(|part| part.split_once('\n').expect("a header and a text"));
            Change { name, parts: parts.map(|(header, text)| (header.to_owned(), text.to_owned())).collect() }
        });
        changes.collect()
    };
    texts.flat_map(of_file).collect()
}

fn with_syntax(text: &str) -> String {
    let head = if text.contains("syntax =") { "" } else { "syntax = \"proto3\"; package t;\n" };
    format!("{head}{text}")
}

impl Change {
    fn compile(&self, side: &str) -> Compilation {
        let schema = |text: &str| Schema::new(Kind::Protobuf, with_syntax(text));
        let of_side = |header: &str| Some(header.strip_prefix(side)?.strip_prefix(' ')?.to_owned());
        let imports = self.parts.iter().filter_map(|(header, text)| Some((of_side(header)?, schema(text)))).collect();
        compile::compile("m.proto", &Family { root: schema(&self.parts[side]), imports }).expect("it compiles")
    }

    /// The derived schema of a side.
    fn derive(&self, side: &str) -> String {
        let compiled = self.compile(side);
        let message = compiled.messages().find(|message| message.descriptor.name() == "M").expect("M").descriptor;
        transcode::avro_schema(&message, &Mapping::default()).expect("it can be derived")
    }
}
