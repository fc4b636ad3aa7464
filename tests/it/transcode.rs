//! `iguazu transcode`, as people run it: lines in, as many lines out, in the same order.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::support::folder;
use super::support::process::command;
use super::support::tool::{Ended, iguazu};

const PROTO: &str = r#"syntax = "proto3";
package shop.v1;
import "google/protobuf/timestamp.proto";
enum Color { RED = 0; GREEN = 5; }
message Order {
  string id = 1; sint64 cents = 2; repeated Item items = 3; google.protobuf.Timestamp at = 4; Color color = 5;
  map<uint32, string> notes = 6; oneof paid { bool cash = 7; string card = 8; } optional int32 maybe = 9;
  message Item { string sku = 1; fixed32 count = 2; }
}
"#;

const JSON: &str = r#"{"id":"o-1","cents":"-5","items":[{"sku":"a","count":2},{}],"at":"2025-01-31T12:00:00.000123Z","color":"GREEN","notes":{"7":"x"},"card":"4111","maybe":0}"#;

/// A folder with the message above.
fn place() -> PathBuf {
    let place = folder("transcode");
    std::fs::create_dir_all(place.join("proto/shop/v1")).expect("the folder is ours");
    std::fs::write(place.join("proto/shop/v1/order.proto"), PROTO).expect("the folder is ours");
    place
}

/// Runs it with these lines as its input.
fn transcode(place: &Path, arguments: &[&str], input: &[u8]) -> Ended {
    let mut command = command(env!("CARGO_BIN_EXE_iguazu"));
    command.current_dir(place).arg("transcode").args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary is there");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let output = std::thread::scope(|scope| {
        // Both at once: a long input is answered before it ends. A command that refuses its arguments reads nothing.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("it ends")
    });
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

const ORDER: [&str; 4] = ["--proto", "proto", "--message", "shop.v1.Order"];

/// From one form to another.
fn step(place: &Path, from: &str, to: &str, input: &str) -> String {
    let arguments = [&ORDER[..], &["--from", from, "--to", to]].concat();
    transcode(place, &arguments, input.as_bytes()).printed()
}

#[test]
fn a_line_that_is_wrong_is_an_error_in_its_place() {
    let place = place();
    let check = |from: &str, lines: &[(&str, &str)]| {
        let arguments = [&ORDER[..], &["--from", from, "--to", "json"]].concat();
        let input: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
        let ended = transcode(&place, &arguments, input.as_bytes());
        let found: Vec<_> = ended.stdout.lines().collect();
        assert_eq!(found.len(), lines.len(), "{found:?} {}", ended.stderr);
        for ((line, expected), found) in lines.iter().zip(found) {
            assert!(found.starts_with(expected), "{from} {line:?}: {found}");
        }
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    };
    check(
        "json",
        &[
            (r#"{"id":"a"}"#, r#"{"id":"a"}"#),
            ("", "error malformed_json $: expected a value"),
            (r#"{"items":[{"sku":"x"},{"sku":5}]}"#, "error invalid_payload $.items[1].sku: expected a string"),
            (r#"{"nope":1}"#, "error unknown_field $: `shop.v1.Order` has no field `nope`"),
            ("{}", "{}"),
        ],
    );
    check(
        "protobuf",
        &[
            ("0a0161", r#"{"id":"a"}"#),
            ("", "{}"),
            ("0a01", "error malformed_protobuf $.id (field 1): the value ends"),
            ("0a0", "error invalid_payload $: the line is not hexadecimal: it has 3 digits"),
            ("0g", "error invalid_payload $: the line is not hexadecimal: character 2 is no digit"),
            ("  0A0161\r", r#"{"id":"a"}"#),
        ],
    );
    check(
        "avro",
        &[
            ("02610000000000000000 00", "error invalid_payload $: the line is not hexadecimal"),
            ("026100000000000000", "error malformed_avro $.maybe (field 9): a number is cut off"),
            ("02610000000000000000ff", "error malformed_avro $: 1 bytes follow the datum"),
            ("02610000000000000000", r#"{"id":"a"}"#),
        ],
    );
}

#[test]
fn a_payload_goes_round_in_any_direction() {
    let place = place();
    for way in [
        &["json", "avro", "protobuf", "json"][..],
        &["json", "protobuf", "avro", "json"],
        &["json", "json", "avro", "avro", "protobuf", "protobuf", "json"],
    ] {
        let mut text = format!("{JSON}\n{{}}\n");
        for pair in way.windows(2) {
            text = step(&place, pair[0], pair[1], &text);
        }
        assert_eq!(text, format!("{JSON}\n{{}}\n"), "{way:?}");
    }
}

#[test]
fn either_mapping_with_its_parameters_goes_there_and_back() {
    let place = place();
    for parameters in [
        &["--uint64", "decimal", "--unknown-enum", "string"][..],
        &["--mapping", "java-avro", "--nested-sep", "$"],
        &["--mapping", "java-avro", "--timestamp", "micros", "--enum-default", "--no-avro-java-string"],
    ] {
        let order = [&ORDER[..], parameters].concat();
        let run =
            |rest: &[&str], input: &str| transcode(&place, &[&order[..], rest].concat(), input.as_bytes()).printed();
        let datum = run(&["--from", "json", "--to", "avro"], &format!("{JSON}\n"));
        let json = run(&["--from", "avro", "--to", "json"], &datum);
        // What Java's mapping loses: a member of a oneof, or an optional field, that has its default.
        let expected = if parameters[0] == "--mapping" { JSON.replace(",\"maybe\":0", "") } else { JSON.to_owned() };
        assert_eq!(json, format!("{expected}\n"), "{parameters:?}");
        // A schema of its own is read without being told how it was made.
        std::fs::write(place.join("own.avsc"), run(&["--print-schema"], "")).expect("the folder is ours");
        let own = [&ORDER[..], &["--avro-schema", "own.avsc", "--from", "avro", "--to", "json"]].concat();
        assert_eq!(transcode(&place, &own, datum.as_bytes()).printed(), json, "{parameters:?}");
    }
}

#[test]
fn a_schema_alone_is_enough_for_the_way_back() {
    let place = place();
    let schema = iguazu(&place, &[&["transcode"], &ORDER[..], &["--print-schema"]].concat()).printed();
    std::fs::write(place.join("order.avsc"), &schema).expect("the folder is ours");
    let datum = step(&place, "json", "avro", &format!("{JSON}\n"));
    for to in ["protobuf", "json"] {
        let alone = transcode(&place, &["--avro-schema", "order.avsc", "--from", "avro", "--to", to], datum.as_bytes());
        assert_eq!(alone.printed(), step(&place, "json", to, &format!("{JSON}\n")), "{to}");
    }
    // An older version of the schema, read into the message as it is now.
    let older = r#"{"type":"record","name":"Order","fields":[{"name":"key","type":"string","proto.number":1}]}"#;
    std::fs::write(place.join("older.avsc"), older).expect("the folder is ours");
    let arguments = [&ORDER[..], &["--avro-schema", "older.avsc", "--from", "avro", "--to", "json"]].concat();
    assert_eq!(transcode(&place, &arguments, b"0261").printed(), "{\"id\":\"a\"}\n");
}

#[test]
fn fields_that_are_left_out_are_said_at_the_end() {
    let place = place();
    let arguments = [&ORDER[..], &["--from", "json", "--to", "json", "--unknown-fields", "drop"]].concat();
    let ended = transcode(&place, &arguments, b"{\"nope\":1,\"id\":\"a\"}\n{\"neither\":2}");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "{\"id\":\"a\"}\n{}\n"), "{}", ended.stderr);
    let told = "iguazu: 2 fields were left out; first: $: `shop.v1.Order` has no field `nope`\n";
    assert_eq!(ended.stderr, told);
}

#[test]
fn wrong_usage_says_what_is_missing_and_exits_64() {
    let place = place();
    std::fs::write(place.join("bad.avsc"), "{").expect("the folder is ours");
    std::fs::write(place.join("bad.fds"), [0xff]).expect("the folder is ours");
    let check = |arguments: &[&str], expected: &str| {
        let ended = transcode(&place, arguments, b"");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(64), ""), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{arguments:?}: {}", ended.stderr);
    };
    let from_to = ["--from", "json", "--to", "avro"];
    check(&from_to, "--message");
    check(&[&["--message", "shop.v1.Order"], &from_to[..]].concat(), "--message needs --proto or --descriptors");
    check(
        &[&["--proto", "proto", "--message", "shop.v1.Ordre"], &from_to[..]].concat(),
        "did you mean `shop.v1.Order`?",
    );
    check(&[&["--descriptors", "bad.fds", "--message", "a.B"], &from_to[..]].concat(), "bad.fds: ");
    let java = [&ORDER[..], &from_to, &["--mapping", "java-avro"]].concat();
    check(&[&java[..], &["--uint64", "wrap"]].concat(), "--uint64 is not a parameter of the mapping `java-avro`");
    check(&[&java[..], &["--unknown-enum", "string"]].concat(), "a value that `java-avro` does not have");
    check(&["--avro-schema", "bad.avsc", "--from", "avro", "--to", "json"], "it is not JSON");
    check(&["--avro-schema", "bad.avsc", "--from", "json", "--to", "json"], "--from json need --message");
    check(&[&ORDER[..], &["--avro-schema", "bad.avsc"], &from_to[..]].concat(), "it needs --from avro");
}

#[test]
fn many_lines_come_out_in_their_order() {
    let place = place();
    let lines = |make: &dyn Fn(u32) -> String| (0..20_000).map(|n| make(n) + "\n").collect::<String>();
    let input = lines(&|n| if n % 1_000 == 999 { "{".to_owned() } else { format!(r#"{{"id":"{n}"}}"#) });
    let arguments = [&ORDER[..], &["--from", "json", "--to", "json"]].concat();
    let ended = transcode(&place, &arguments, input.as_bytes());
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let found: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(found.len(), 20_000);
    for (n, (line, found)) in input.lines().zip(found).enumerate() {
        assert!(found == line || n % 1_000 == 999 && found.starts_with("error malformed_json"), "{n}: {found}");
    }
}
