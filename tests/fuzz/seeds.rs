//! What the fuzzer starts from: inputs of each target that are valid or nearly so.

use std::path::Path;

use prost::Message;

use crate::protocol::{Payload, Request};
use crate::recorded::Suite;
use crate::targets::MESSAGES;

/// Inputs of the target with this name.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "wire" | "json" => of_the_suite(target),
        "schema" => schemas(),
        "batch" => batches(),
        "headers" => record_headers(),
        other => panic!("there is no target {other}"),
    }
}

/// The payloads of the official conformance suite.
fn of_the_suite(target: &str) -> Vec<Vec<u8>> {
    let suite = Suite::load().expect("the recorded suite is there");
    let requests = suite.exchanges.iter().map(|exchange| Request::decode(&exchange.request[..]));
    let seed = |request: Request| {
        let choice = MESSAGES.iter().position(|name| *name == request.message_type)? as u8;
        match (target, request.payload?) {
            ("wire", Payload::Protobuf(payload)) | ("json", Payload::Json(payload)) => {
                Some([&[choice], &payload[..]].concat())
            }
            _ => None,
        }
    };
    let mut seeds: Vec<_> = requests.filter_map(|request| seed(request.expect("it was recorded"))).collect();
    seeds.sort_unstable();
    seeds.dedup();
    seeds
}

fn schemas() -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/examples")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the examples are there") {
            let path = entry.expect("and readable").path();
            if path.is_dir() { folders.push(path) } else { texts.push(std::fs::read(path).expect("and readable")) }
        }
    }
    texts.sort_unstable();
    texts.extend(TEXTS.map(|text| text.as_bytes().to_vec()));
    let suite = Suite::load().expect("the recorded suite is there");
    let files = suite.pool().expect("its descriptors are good");
    let descriptors = files.files().map(|file| [&[1], &file.encode_to_vec()[..]].concat());
    texts.iter().map(|text| [b"\0", &text[..]].concat()).chain(descriptors).collect()
}

const TEXTS: [&str; 2] = [
    "syntax=\"proto2\";package a.b;message M{required M m=1;optional group G=2{}repeated E e=3[packed=true];enum E{A=-1;B=7;}\
     extensions 100 to max;oneof o{bytes x=536870911;}map<bool,M>k=5;reserved 9;message N{}}extend M{optional int32 z=100;}",
    "syntax=\"proto3\";import\"google/protobuf/struct.proto\";message M{optional google.protobuf.Value v=1[json_name=\"w\"];}",
];

fn batches() -> Vec<Vec<u8>> {
    let event =
        r#"{"event":"a.b","id":"x","source":"s","time":"2024-01-01T00:00:00Z","key":"k","payload":{"a":[1,"\u00e4"]},"#;
    let event =
        format!("{event}\"properties\":{{\"p\":null}},\"headers\":{{\"h\":\"v\"}},\"schema\":{{\"version\":1}}}}");
    let mut protobuf = Vec::new();
    for n in 0..3u8 {
        // Name, JSON payload and id of an event, all of them strings.
        prost::encoding::bytes::encode(1, &vec![10, 3, b'a', b'.', b'b', 18, 1, n, 26, 1, b'x'], &mut protobuf);
    }
    let json = [event.clone(), format!("[{event},{event}]"), format!("{{\"events\":[{event}]}}")];
    let mut seeds: Vec<_> = json.iter().map(|text| [b"\0", text.as_bytes()].concat()).collect();
    seeds.push([b"\x01", format!("{event}\n\n{event}\n").as_bytes()].concat());
    seeds.push([b"\x02", &protobuf[..]].concat());
    seeds
}

/// Both forms of the envelope; see [`crate::targets`] for how they are written.
fn record_headers() -> Vec<Vec<u8>> {
    let header = |name: u8, value: &[u8]| [&[name, value.len() as u8], value].concat();
    let cloud_events = [header(2, b"1.0"), header(3, b"id"), header(4, b"s%25"), header(5, b"a.b"), header(8, b"x/y")];
    let mut single = Vec::new();
    prost::encoding::uint32::encode(1, &1, &mut single);
    for number in 2..6 {
        prost::encoding::string::encode(number, &"text".to_owned(), &mut single);
    }
    let single = [header(0, &single), header(1, &[1; 17])];
    vec![cloud_events.concat(), single.concat(), vec![0, 0, 0, 0, 1, 4, 0, 6, 9]]
}
