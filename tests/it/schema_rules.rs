//! Our resolution of Avro schemas against Apache Avro's own, on the schemas that the corpus of changes derives.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;

use iguazu::route::Mapping;
use iguazu::schema::compatibility::Names;
use iguazu::schema::compatibility::avro::{Strictness, compare};
use iguazu::schema::compile;
use iguazu::schema::source::{Family, Kind, Schema};
use iguazu::schema::structure::Structure;
use iguazu::transcode;
use serde_json::{Value, json};

use super::support::folder;
use super::support::kafka::{python, script};
use super::support::process::{Process, command};

#[test]
fn apache_avro_says_the_same_of_every_change_of_the_corpus() {
    let (mut pairs, mut ours) = (String::new(), BTreeMap::new());
    for (name, before, after) in changes() {
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

/// Name and derived schemas, before and after, of every change.
fn changes() -> Vec<(String, String, String)> {
    let mut files: Vec<_> =
        std::fs::read_dir("tests/schema_changes").expect("the package's folder").flatten().collect();
    files.sort_by_key(|file| file.path());
    let texts = files.iter().map(|file| std::fs::read_to_string(file.path()).expect("it can be read"));
    let of_file = |text: String| -> Vec<_> {
        let changes = text.split("\n= ").skip(1).map(|change| {
            let mut parts = change.split("\n--- ");
            let name = parts.next().and_then(|head| head.lines().next()).expect("a name").to_owned();
            let parts: BTreeMap<_, _> = parts.map(|part| part.split_once('\n').expect("a header and a text")).collect();
            (name, derive(&parts, "before"), derive(&parts, "after"))
        });
        changes.collect()
    };
    texts.flat_map(of_file).collect()
}

fn derive(parts: &BTreeMap<&str, &str>, side: &str) -> String {
    let schema = |text: &str| {
        let head = if text.contains("syntax =") { "" } else { "syntax = \"proto3\"; package t;\n" };
        Schema::new(Kind::Protobuf, format!("{head}{text}"))
    };
    let imports = parts.iter().filter_map(|(header, text)| Some((header.strip_prefix(side)?.strip_prefix(' ')?, text)));
    let imports = imports.map(|(name, text)| (name.to_owned(), schema(text))).collect();
    let compiled = compile::compile("m.proto", &Family { root: schema(parts[side]), imports }).expect("it compiles");
    let message = compiled.messages().find(|message| message.descriptor.name() == "M").expect("M").descriptor;
    transcode::avro_schema(&message, &Mapping::default()).expect("it can be derived")
}
