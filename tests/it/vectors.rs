//! The recorded vectors, decoded by fastavro as well: what we show of a datum is what it holds.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::Stdio;

use iguazu::transcode::back::{AvroSchema, Mask};
use serde_json::{Value, json};

use super::support::kafka::{python, script};
use super::support::process::command;

/// The lines of a file of `tests/vectors`.
fn lines(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/vectors/{file}.zst", env!("CARGO_MANIFEST_DIR"));
    let text = zstd::decode_all(std::fs::File::open(&path).expect(&path)).expect(&path);
    let text = String::from_utf8(text).expect("the vectors are text");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

#[test]
fn fastavro_reads_in_every_recorded_datum_what_we_show_of_it() {
    let schemas: HashMap<String, String> = lines("java-avro-schemas.jsonl")
        .into_iter()
        .filter(|line| line["schema"].is_object())
        .map(|line| (line["ref"].as_str().expect("a name").to_owned(), line["schema"].to_string()))
        .collect();
    let cases: Vec<(String, String)> = lines("java-avro.jsonl")
        .into_iter()
        .filter_map(|line| {
            let schema = schemas.get(line["avro_schema_ref"].as_str()?)?;
            Some((schema.clone(), line["avro_hex"].as_str()?.to_owned()))
        })
        .collect();
    assert!(cases.len() > 900, "{} cases", cases.len());
    let asked: String =
        cases.iter().map(|(schema, hex)| json!({"schema": schema, "hex": hex}).to_string() + "\n").collect();
    let mut command = command(python());
    command.arg(script("decode_avro.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("Python is there");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || drop(stdin.write_all(asked.as_bytes())));
        child.wait_with_output().expect("it ends")
    });
    assert!(output.status.success(), "decode_avro.py: {}", output.status);
    let theirs = String::from_utf8(output.stdout).expect("it prints UTF-8");
    let mut parsed = HashMap::new();
    let mut wrong = Vec::new();
    let (mut found, mut beyond) = (0, 0);
    for ((schema, hex), theirs) in cases.iter().zip(theirs.lines()) {
        found += 1;
        let reader = parsed.entry(schema.clone()).or_insert_with(|| AvroSchema::parse(schema, &[]).expect("a schema"));
        let ours = reader.to_json(&bytes(hex), &Mask::default()).expect("a datum");
        let ours: Value = serde_json::from_str(&ours).expect("JSON");
        let theirs: Value = serde_json::from_str(theirs).expect("JSON");
        // Times outside the years 1 to 9999, which Java's arithmetic makes; Python has no date for them.
        let overflows = theirs["error"].as_str().is_some_and(|error| error.starts_with("OverflowError"));
        beyond += usize::from(overflows);
        if !overflows && !same(&ours, &theirs) {
            wrong.push(format!("{hex}\n  ours   {ours}\n  theirs {theirs}"));
        }
    }
    assert_eq!((found, beyond), (cases.len(), 5), "datums read, and of those with times beyond Python's");
    assert!(wrong.is_empty(), "{} of {found} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Equal but for the digits of a 32-bit float, which Python widens, and for how `+00:00` is written.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64().map(|a| a as f32) == b.as_f64().map(|b| b as f32),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        (Value::String(a), Value::String(b)) => a == b || whole(a) == whole(b),
        (a, b) => a == b,
    }
}

/// A time without the zeros at the end of its fraction, and with `Z` for `+00:00`.
fn whole(time: &str) -> String {
    let time = time.replace("+00:00", "Z");
    match time.split_once('.') {
        Some((seconds, fraction)) if fraction.ends_with('Z') => {
            let digits = fraction.trim_end_matches('Z').trim_end_matches('0');
            if digits.is_empty() { format!("{seconds}Z") } else { format!("{seconds}.{digits}Z") }
        }
        _ => time,
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("digits")).collect()
}
