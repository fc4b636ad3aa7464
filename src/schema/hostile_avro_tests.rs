//! Avro schemas that somebody wrote to hurt: every way in reads them in bounded time, memory and stack, or refuses them with a
//! reason. They come from registries, from files of the command line, and with the records that a consumer reads.

use std::time::{Duration, Instant};

use super::avro::Structure;
use super::compatibility::avro::{Strictness, compare};
use super::compatibility::{Finding, Names};
use crate::dev::example_schema;
use crate::route::{Encoding, UnknownFields};
use crate::transcode::avro_in::AvroPlan;
use crate::transcode::avro_text::AvroText;
use crate::transcode::back::{AvroReader, AvroSchema, Mask};

/// What one way may take without optimisation, on a busy machine; with it, it takes a fiftieth.
const TIME_MAX: Duration = Duration::from_secs(30);

/// What each way says of a schema: those of events, of consumers, of matching and comparing, of datums as JSON and back into
/// messages, of registries, and of examples.
fn ways(text: &str, references: &[String]) -> [(&'static str, Result<(), String>); 7] {
    let text_of = |references: &[String]| AvroText::parse(text, references).map(drop);
    let structure = || {
        let parse = || Structure::parse(text, references.iter().map(String::as_str)).map_err(|error| error.message);
        let (one, other) = (parse()?, parse()?);
        assert_eq!(one.differences(&other), [], "a schema equals itself");
        compared(&one, &other);
        Ok(())
    };
    let datum = || {
        let schema = AvroSchema::parse(text, references).map_err(|error| error.message)?;
        let _ = schema.to_json(&[], &Mask::default());
        let _ = schema.check(&[]);
        let _ = AvroReader::compile(schema, None, Encoding::Json);
        Ok(())
    };
    let timed = |way: &'static str, done: &dyn Fn() -> Result<(), String>| {
        let start = Instant::now();
        let result = done();
        assert!(start.elapsed() < TIME_MAX, "{way} took {:?}", start.elapsed());
        if let Err(message) = &result {
            assert!(message.len() < 2_000, "{way}: the error itself is {} bytes long", message.len());
        }
        (way, result)
    };
    let plan = || AvroPlan::compile(text, references, None, UnknownFields::Reject).map_err(|error| error.message);
    [
        timed("plan", &|| plan().map(drop)),
        timed("text", &|| text_of(references)),
        timed("structure", &structure),
        timed("datum", &datum),
        timed("registry", &|| AvroPlan::check(text, references).map_err(|error| error.message)),
        timed("example", &|| example_schema::avro(1, text, references).map(drop)),
        timed("masked", &|| {
            let schema = AvroSchema::parse(text, references).map_err(|error| error.message)?;
            let _ = schema.to_json(&[0; 64], &Mask::new(&["a.a.a".to_owned()]));
            Ok(())
        }),
    ]
}

fn compared(reader: &Structure, writer: &Structure) -> Vec<Finding> {
    let found = compare(reader, writer, Names { reader: "new", writer: "old" }, Strictness::Consumers);
    assert!(found.iter().all(|finding| finding.path.len() + finding.reason.len() < 5_000), "short findings");
    found
}

#[track_caller]
fn all_take(text: &str, references: &[String]) {
    for (way, result) in ways(text, references) {
        assert_eq!(result, Ok(()), "{way}");
    }
}

/// Some ways need not see what is wrong; those named do.
#[track_caller]
fn refused(text: &str, references: &[String], by: &[&str], part: &str) {
    for (way, result) in ways(text, references) {
        match result {
            Err(message) if by.contains(&way) => assert!(message.contains(part), "{way}: {message}, not {part}"),
            Ok(()) if by.contains(&way) => panic!("{way} takes it"),
            _ => {}
        }
    }
}

const BUILDERS: [&str; 4] = ["plan", "text", "registry", "example"];
const ALL: [&str; 7] = ["plan", "text", "structure", "datum", "registry", "example", "masked"];

fn record(name: &str, fields: &str) -> String {
    format!(r#"{{"type":"record","name":"{name}","fields":[{fields}]}}"#)
}

fn field(name: &str, of: &str) -> String {
    format!(r#"{{"name":"{name}","type":{of}}}"#)
}

fn each(n: usize, text: impl Fn(usize) -> String) -> String {
    (0..n).map(text).collect::<Vec<_>>().join(",")
}

/// Records that hold the one before them twice, `fill` as their fields' defaults.
fn doubling(levels: usize, fill: &str) -> String {
    each(levels, |i| {
        let of = |name| match i {
            0 => field(name, r#""null""#),
            _ => format!(r#"{{"name":"{name}","type":"R{}"{fill}}}"#, i - 1),
        };
        record(&format!("R{i}"), &[of("a"), of("b")].join(","))
    })
}

#[test]
fn records_that_double_with_each_level_are_read_once_each() {
    all_take(&format!("[{}]", doubling(40, "")), &[]);
    // The last one first on the way in, but written out last: a record of its own for each reference.
    let references: Vec<_> = (0..40)
        .map(|i| {
            doubling(i + 1, "")
                .rsplit_once("},{\"type\":\"record\"")
                .map_or_else(|| doubling(1, ""), |(_, last)| format!("{{\"type\":\"record\"{last}").replace("}{", "{"))
        })
        .collect();
    all_take("\"R39\"", &references);
}

#[test]
fn defaults_that_double_with_each_level_are_refused() {
    for fill in [r#","default":{}"#, r#","default":{"a":{},"b":{}}"#, r#","default":{"a":{"a":{}}}"#] {
        let part = "the default of field";
        refused(&format!("[{}]", doubling(40, fill)), &[], &["plan", "registry"], part);
    }
    // Through unions, of which each branch is tried.
    let levels = each(45, |i| {
        let before = if i == 0 { r#"["null","int"]"#.to_owned() } else { format!(r#"["null","R{}"]"#, i - 1) };
        record(&format!("R{i}"), &field("a", &before))
    });
    let fill = format!("{}5{}", r#"{"a":"#.repeat(45), "}".repeat(45));
    let root = record("Root", &format!(r#"{{"name":"x","type":["null","int","R44"],"default":{fill}}}"#));
    all_take(&format!("[{levels},{root}]"), &[]);
    let wrong = root.replace(":5}", ":\"5\"}");
    refused(&format!("[{levels},{wrong}]"), &[], &["plan", "registry"], "the default of field");
    // A large one, tried against each of many types.
    let branches = each(900, |i| record(&format!("B{i}"), &field("a", "\"int\"")));
    let large = each(100_000, |i| i.to_string());
    let root = record("Root", &format!(r#"{{"name":"x","type":[{branches}],"default":[{large}]}}"#));
    refused(&root, &[], &["plan", "registry"], "the default of field");
    let root =
        record("Root", &format!(r#"{{"name":"x","type":{{"type":"array","items":"int"}},"default":[{large}]}}"#));
    refused(&root, &[], &["plan", "registry"], "too large");
}

#[test]
fn names_that_are_defined_twice_are_refused() {
    // The second of that name holds the first, and its default then itself, without end.
    let first = record("R", "");
    let second = record("R", r#"{"name":"r","type":"R","default":{}}"#);
    let third = record("S", r#"{"name":"r","type":"R","default":{}}"#);
    refused(&format!("[{first},{second},{third}]"), &[], &ALL, "defined twice");
    refused(&second, std::slice::from_ref(&first), &ALL, "defined twice");
    refused(&record("R", &field("a", &record(".R", ""))), &[], &BUILDERS, "defined twice");
    // The same by an alias that is another type's name: aliases do not lead anywhere.
    let aliased =
        record("R", r#"{"name":"r","type":"S","default":{}}"#).replace(r#""fields""#, r#""aliases":["S"],"fields""#);
    let circle = record("T", r#"{"name":"r","type":"S","default":{}}"#);
    all_take(&format!("[{},{aliased},{circle}]", record("S", "")), &[]);
    // A type without a body stands for one of that name, and would be copied.
    for kind in ["record", "enum", "fixed"] {
        let named = record(&format!("n.{kind}"), "");
        let outer = record("n.R", &field("a", &format!(r#"{{"type":"{kind}"}}"#)));
        refused(&format!("[{named},{outer}]"), &[], &ALL, "");
    }
    refused("\"iguazu_family\"", &[], &["plan", "structure", "datum", "registry"], "not defined");
    refused(&record("iguazu_family", ""), &[], &["plan", "registry"], "defined twice");
}

#[test]
fn types_inside_types_do_not_multiply() {
    // A name for each level and alias: copies of all that is inside.
    let aliases = each(5_000, |i| format!("\"A{i}\""));
    let inner = each(5_000, |i| field(&format!("f{i}"), "\"int\""));
    let root = record("R", &inner).replace(r#""fields""#, &format!(r#""aliases":[{aliases}],"fields""#));
    all_take(&root, &[]);
    let nested = |levels: usize| {
        let wide =
            record("Wide", &[inner.as_str(), &field("more", &record("More", &inner.replace('f', "g")))].join(","));
        (0..levels).fold(wide, |inner, i| record(&format!("R{i}"), &field("a", &inner)))
    };
    all_take(&nested(3), &[]);
    refused(&nested(35), &[], &BUILDERS, "too many types inside others");
}

#[test]
fn long_chains_of_names_do_not_exhaust_the_stack() {
    let link = |i: usize| match i {
        0 => record("R0", &field("a", "\"int\"")),
        _ => record(&format!("R{i}"), &field("a", &format!(r#""R{}""#, i - 1))),
    };
    let chain = (0..2).map(|k| format!("[{}]", each(900, |i| link(900 * k + i)))).collect::<Vec<_>>();
    let root = |members: &str| record("Root", members);
    let fields =
        chain.iter().enumerate().map(|(i, union)| field(&format!("u{i}"), union)).collect::<Vec<_>>().join(",");
    all_take(&root(&fields), &[]);
    all_take(&root(&format!("{fields},{}", field("last", r#""R1799""#))), &[]);
    // By field numbers, those without are passed over.
    let numbered = r#"{"name":"last","type":"R1799","proto.number":1}"#;
    let numbers = fields.replace(r#"{"name":"a""#, r#"{"proto.number":1,"name":"a""#);
    all_take(&root(&format!("{numbers},{numbered}")), &[]);
    // Deep ones that go on in the next text.
    let deep = |k: usize| {
        let inner = if k == 0 { "\"int\"".to_owned() } else { format!("\"K{}\"", k - 1) };
        let nested = (0..40).fold(inner, |inner, i| record(&format!("D{k}x{i}"), &field("a", &inner)));
        record(&format!("K{k}"), &field("a", &nested))
    };
    let references: Vec<_> = (0..60).map(deep).collect();
    all_take(r#""K59""#, &references);
    refused(r#""K60""#, &references, &ALL, "");
}

#[test]
fn deep_long_and_wide_schemas_are_refused() {
    let deep = |open: &str, close: &str, levels: usize| open.repeat(levels) + "\"int\"" + &close.repeat(levels);
    for levels in [127, 20_000] {
        refused(&deep(r#"{"type":"array","items":"#, "}", levels), &[], &BUILDERS, "");
        refused(&deep("[", "]", levels), &[], &BUILDERS, "");
    }
    refused(&deep(r#"{"type":"map","values":"#, "}", 20_000), &[], &ALL, "not JSON");
    for name in ["N".repeat(513), "N".repeat(1 << 20)] {
        let part = "at most 512 are allowed";
        refused(&record(&name, ""), &[], &ALL, part);
        refused(&record("R", &field(&name, "\"int\"")), &[], &ALL, part);
        refused(&format!("\"{name}\""), &[], &ALL, part);
        refused(&record("R", &field("a", &format!("\"{name}\""))), &[], &ALL, part);
        let within = record("R", "").replace(r#""fields""#, &format!(r#""namespace":"{name}","fields""#));
        refused(&within, &[], &ALL, part);
    }
    let symbols =
        |n: usize| format!(r#"{{"type":"enum","name":"E","symbols":[{}]}}"#, each(n, |i| format!("\"S{i}\"")));
    all_take(&symbols(10_000), &[]);
    let fields = |n: usize| record("R", &each(n, |i| field(&format!("f{i}"), "\"int\"")));
    all_take(&fields(5_000), &[]);
    refused(&fields(201_000), &[], &ALL, "more than 400000");
    let union = |n: usize| format!("[{}]", each(n, |i| record(&format!("R{i}"), "")));
    all_take(&union(1_000), &[]);
    refused(&union(1_001), &[], &ALL, "at most 1000 are allowed");
    refused(r#"{"type":"fixed","name":"F","size":18446744073709551615}"#, &[], &["plan"], "bytes");
}

/// What costs nothing on disk may still cost time for each element.
#[test]
fn a_few_bytes_do_not_become_many_steps() {
    let nothings = record("R", &each(30_000, |i| field(&format!("f{i}"), "\"null\"")));
    let array = format!(r#"{{"type":"array","items":{nothings}}}"#);
    let schema = AvroSchema::parse(&array, &[]).expect("a schema");
    let start = Instant::now();
    // 2^17 records of 30,000 nulls each, in four bytes.
    let refused = schema.check(&[0x80, 0x80, 0x10, 0]).expect_err("too many");
    assert_eq!(refused.code, crate::outcome::Code::PayloadExpands);
    schema.to_json(&[0x80, 0x80, 0x10, 0], &Mask::default()).expect_err("too many");
    assert!(start.elapsed() < TIME_MAX, "{:?}", start.elapsed());
    schema.check(&[4, 0]).expect("two are not many");
}

#[test]
fn comparing_two_large_schemas_takes_bounded_time_and_text() {
    let parse = |text: &str| Structure::parse(text, []).expect("a schema");
    let timed = |one: &str, other: &str, least: usize| {
        let (one, other) = (parse(one), parse(other));
        let start = Instant::now();
        let (found, differences) = (compared(&one, &other), one.differences(&other));
        assert!(start.elapsed() < TIME_MAX, "{:?}", start.elapsed());
        assert!((least..=500).contains(&found.len()), "{} findings", found.len());
        assert!(!differences.is_empty() && differences.iter().all(|d| d.here.len() + d.there.len() < 5_000));
    };
    let symbols = |prefix: &str| {
        format!(r#"{{"type":"enum","name":"E","symbols":[{}]}}"#, each(20_000, |i| format!("\"{prefix}{i}\"")))
    };
    timed(&symbols("S"), &symbols("T"), 1);
    let fields = |prefix: &str| record("R", &each(10_000, |i| field(&format!("{prefix}{i}"), "\"int\"")));
    timed(&fields("a"), &fields("b"), 500);
    let union = |prefix: &str| format!("[{}]", each(1_000, |i| record(&format!("{prefix}{i}"), "")));
    timed(&union("A"), &union("B"), 1);
    let unions = |prefix: &str| {
        let first = field("f0", &union(prefix));
        let names = format!("[{}]", each(1_000, |i| format!("\"{prefix}{i}\"")));
        let more = each(30, |i| field(&format!("g{i}"), &names));
        record("Root", &format!("{first},{more}"))
    };
    timed(&unions("A"), &unions("B"), 31);
}
