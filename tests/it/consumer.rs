//! What the proxy produced, read back by consumers: ours in Rust, and Confluent's, fastavro's and the CloudEvents SDK's in
//! Python. All of them find the same event, whatever the encoding, the framing and the form of the envelope.

use std::path::Path;

use iguazu::consume::{Reader, Value as EventValue};
use iguazu::dev::registry::{EmbeddedRegistry, Options};
use prost::Message as _;
use serde_json::{Value, json};

use super::consumer_example::{self as example, Next};
use super::support::kafka::{self, Topic};
use super::support::process::command;
use super::support::proxy::{Proxy, config_with, event_type};
use super::support::read_back::{ReadBack, Reader as Python};
use super::support::tool::iguazu;
use super::support::{PATIENCE, folder, http, unique};

/// Of each kind of field one. Names are single words, which proto3 JSON leaves as they are.
const PROTO: &str = r#"syntax = "proto3";
package it.v1;
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
message Everything {
  enum Color { RED = 0; GREEN = 5; BLUE = -7; }
  message Inner { string sku = 1; sint64 price = 2; Inner inner = 3; }
  string text = 1; sint64 big = 2; uint32 small = 3; fixed64 huge = 4; bytes raw = 5; double ratio = 6; float half = 7;
  bool yes = 8; Color color = 9; repeated sfixed32 ints = 10; repeated Inner inners = 11; map<string, Inner> named = 12;
  map<uint32, string> numbered = 13; oneof paid { bool cash = 14; string card = 15; } optional int32 maybe = 16;
  google.protobuf.Timestamp at = 17; google.protobuf.StringValue note = 18; google.protobuf.Struct more = 19;
  google.protobuf.Duration took = 20; repeated Color colors = 21;
}
"#;

/// The part of it that the typed consumer below knows: an older version of the message.
#[derive(Clone, PartialEq, prost::Message)]
struct Older {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(sint64, tag = "2")]
    big: i64,
    #[prost(int32, repeated, packed = "false", tag = "21")]
    colors: Vec<i32>,
    #[prost(int32, optional, tag = "16")]
    maybe: Option<i32>,
}

fn payload() -> Value {
    json!({
        "text": "zwölf \" \u{1}", "big": "-9007199254740993", "small": 4_294_967_295_u32, "huge": "9223372036854775807",
        "raw": "AP8=", "ratio": -0.125, "half": 0.5, "yes": true, "color": "BLUE", "ints": [1, -1],
        "inners": [{"sku": "a", "price": "-5", "inner": {"sku": "b"}}, {}], "named": {"k": {"sku": "c"}},
        "numbered": {"7": "seven"}, "card": "4111", "maybe": 0, "at": "2025-01-31T12:00:00.000123Z", "note": "",
        "more": {"a": [1.5, null, {"b": "c"}]}, "took": "-1.500s", "colors": ["GREEN", "RED"],
    })
}

/// An event type of this test.
struct Kind {
    name: String,
    topic: String,
    encoding: &'static str,
    envelope: &'static str,
    framing: &'static str,
}

const KINDS: [(&str, &str, &str); 10] = [
    ("avro", "cloudevents", "prefix"),
    ("avro", "cloudevents", "header"),
    ("avro", "single", "prefix"),
    ("avro", "single", "header"),
    ("protobuf", "cloudevents", "prefix"),
    ("protobuf", "cloudevents", "header"),
    ("protobuf", "single", "header"),
    ("json", "cloudevents", "prefix"),
    ("json", "single", "prefix"),
    ("raw_json", "cloudevents", "prefix"),
];

/// The registry's client for Python blocks this thread, and the registry needs one: so more than one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_consumer_reads_the_same_event() {
    let cluster = kafka::shared();
    let registry = EmbeddedRegistry::start(Options::default()).await.expect("a free port");
    let mut config = config_with(&cluster.brokers(), &registry.url());
    let mut kinds = Vec::new();
    for (encoding, envelope, framing) in KINDS {
        let name = format!("it.{encoding}.{envelope}.{framing}");
        let topic = cluster.topic(&name, Topic::default());
        let schema = if encoding == "raw_json" { "" } else { "subject = \"it.v1.Everything\"\n" };
        let framed =
            if matches!(encoding, "avro" | "protobuf") { format!("framing = {framing:?}\n") } else { String::new() };
        config += &event_type(&name, &topic, encoding, &format!("{schema}{framed}envelope = {envelope:?}"));
        kinds.push(Kind { name, topic, encoding, envelope, framing });
    }
    register(&config);
    let proxy = Proxy::start(&config).await;
    for kind in &kinds {
        let event = json!({
            "event": kind.name, "id": "e-1", "source": "it/consumer", "time": "2025-01-31T12:00:00.5+01:00", "key": "k",
            "payload": payload(), "properties": {"free": [1]}, "headers": {"own": "h"},
        });
        // The second is a duplicate, as after a reply that was lost. Same key, same partition: the last one comes last.
        let end = json!({"event": kind.name, "id": "end", "key": "k", "payload": {}});
        let events = json!([event, event, end]);
        let request = proxy.request("POST", "/v1/events").header("content-type", "application/json");
        let reply = http::send(request.body(events.to_string())).await.expect("a reply");
        assert_eq!(reply.status, 202, "{}: {}", kind.name, reply.text());
    }
    proxy.settled().await;
    proxy.finish();

    let url = registry.url();
    let brokers = cluster.brokers();
    tokio::task::spawn_blocking(move || {
        for kind in &kinds {
            check_rust(kind, &brokers, &url);
        }
        let python = Python::with(kafka::shared().client(), Some(url.clone()));
        for kind in &kinds {
            let records = python.read(&kind.topic, 3);
            assert_eq!(records.len(), 3, "{}", kind.name);
            check_python(kind, &records[0]);
        }
        for kind in kinds.iter().filter(|kind| kind.encoding == "avro" && kind.envelope == "cloudevents") {
            check_documented_python(kind, &brokers, &url);
        }
    })
    .await
    .expect("no panic");
    registry.stop().await;
}

/// Registers the message and what it derives, as CI does.
fn register(config: &str) {
    let place = folder("consumer");
    std::fs::create_dir_all(place.join("proto/it/v1")).expect("the folder is ours");
    std::fs::write(place.join("proto/it/v1/everything.proto"), PROTO).expect("the folder is ours");
    std::fs::write(place.join("iguazu.toml"), config).expect("the folder is ours");
    iguazu(&place, &["schema", "register", "--config", "iguazu.toml", "--proto", "proto"]).printed();
}

/// Panics when it is asked after the time in which everything should have come.
fn in_time() -> impl Fn() -> bool {
    let begin = std::time::Instant::now();
    move || {
        assert!(begin.elapsed() < PATIENCE, "not all events came within {PATIENCE:?}");
        true
    }
}

/// Runs the example consumer on one topic: two records of one event, then the end.
fn check_rust(kind: &Kind, brokers: &str, registry: &str) {
    let group = unique("it-consumer");
    let settings = example::Settings { brokers, registry, group: &group, topics: &[&kind.topic] };
    let mut reader = example::reader(&settings).expect("a reader");
    if kind.encoding.ends_with("json") {
        reader = reader.with_message(&kind.name, message());
    }
    let mut seen = 0;
    let mut work = |event: &iguazu::consume::Event<'_>| {
        let envelope = &event.envelope;
        if envelope.id == "end" {
            return Ok(Next::Stop);
        }
        seen += 1;
        assert_eq!((envelope.event.as_str(), envelope.id.as_str()), (kind.name.as_str(), "e-1"));
        assert_eq!(envelope.source, "it/consumer");
        assert_eq!(envelope.time.as_deref(), Some("2025-01-31T12:00:00.5+01:00"));
        assert_eq!(envelope.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(envelope.properties.as_deref(), Some(r#"{"free":[1]}"#));
        assert_eq!(envelope.headers, [("own".to_owned(), b"h".to_vec())]);
        check_value(kind, event.value.as_ref().expect("no tombstone"));
        Ok(Next::Go)
    };
    let mut aside = |_: &iguazu::consume::Record<'_>, error: &iguazu::consume::ReadError| panic!("{error}");
    example::consume(&settings, reader, &in_time(), &mut work, &mut aside).expect("the brokers are there");
    assert_eq!(seen, 1, "{}: the second record is the same event", kind.name);
}

fn check_value(kind: &Kind, value: &EventValue<'_>) {
    let json: Value = serde_json::from_str(&value.proto3_json().expect("proto3 JSON")).expect("JSON");
    assert_eq!(json, payload(), "{}", kind.name);
    let typed: Older = value.message().expect("a message");
    let expected =
        Older { text: "zwölf \" \u{1}".to_owned(), big: -9_007_199_254_740_993, colors: vec![5, 0], maybe: Some(0) };
    assert_eq!(typed, expected, "{}", kind.name);
    assert_eq!(value.avro().is_ok(), kind.encoding == "avro", "{}", kind.name);
    // What it becomes is Protobuf that Google's own rules take: the same message again.
    let protobuf = value.protobuf().expect("a message");
    assert_eq!(Older::decode(protobuf.as_ref()).expect("a message"), expected);
}

fn check_python(kind: &Kind, record: &ReadBack) {
    let schema = record.schema.as_ref();
    let named = match kind.framing {
        "header" => schema.and_then(|schema| schema.guid.as_deref()).is_some(),
        _ if kind.encoding.ends_with("json") => schema.is_none(),
        _ => schema.and_then(|schema| schema.id).is_some(),
    };
    assert!(named, "{}: {schema:?}", kind.name);
    let expected = match kind.encoding {
        "avro" => plain(EVERY_AVRO),
        _ => payload(),
    };
    let found = same_times(record.value.clone());
    assert_eq!(found, expected, "{}", kind.name);
    match kind.envelope {
        "single" => {
            let envelope = record.envelope.as_ref().expect("`iguazu-envelope` is read by the .proto file");
            assert_eq!((&envelope["id"], &envelope["type"]), (&json!("e-1"), &json!(kind.name)));
            assert_eq!(envelope["properties"], json!(r#"{"free":[1]}"#));
        }
        _ => {
            let event = record.cloud_event.as_ref().expect("the CloudEvents SDK reads the headers");
            assert_eq!((&event["id"], &event["type"]), (&json!("e-1"), &json!(kind.name)));
            assert_eq!(event["source"], json!("it/consumer"));
            assert_eq!(event["properties"], json!(r#"{"free":[1]}"#));
        }
    }
}

/// Runs the Python of `deploy/docs/consuming.md` as it stands there.
fn check_documented_python(kind: &Kind, brokers: &str, registry: &str) {
    let page = include_str!("../../deploy/docs/consuming.md");
    let snippet = page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it has Python");
    let driver = format!(
        "{snippet}\n\nimport json, sys\n\n\ndef work(envelope, payload):\n    \
             print(json.dumps([envelope['ce_id'], payload['text']]))\n    \
             return envelope['ce_id'] != 'end'\n\n\nconsume(*sys.argv[1:], work)\n"
    );
    let script = folder("documented").join("consume.py");
    std::fs::write(&script, driver).expect("the folder is ours");
    let mut command = command(kafka::python());
    command.arg(&script).args([brokers, registry, &kind.topic, &unique("it-documented")]);
    let output = command.output().expect("Python is there");
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {said}", kind.name);
    let found: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(found, [json!(["e-1", "zwölf \" \u{1}"]), json!(["end", ""])], "{}: {said}", kind.name);
}

/// The payload as fastavro decodes the derived schema: numbers as numbers, absence as null.
const EVERY_AVRO: &str = r#"{"text":"zwölf \" \u0001","big":-9007199254740993,"small":4294967295,"huge":9223372036854775807,
    "raw":"AP8=","ratio":-0.125,"half":0.5,"yes":true,"color":"BLUE","ints":[1,-1],
    "inners":[{"sku":"a","price":-5,"inner":{"sku":"b","price":0,"inner":null}},{"sku":"","price":0,"inner":null}],
    "named":{"k":{"sku":"c","price":0,"inner":null}},"numbered":[{"key":7,"value":"seven"}],"cash":null,"card":"4111",
    "maybe":0,"at":"2025-01-31T12:00:00.000123Z","note":"","more":"{\"a\":[1.5,null,{\"b\":\"c\"}]}","took":-1500000,
    "colors":["GREEN","RED"]}"#;

fn plain(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Python writes `+00:00` where RFC 3339 also knows `Z`.
fn same_times(mut value: Value) -> Value {
    if let Some(Value::String(at)) = value.get_mut("at") {
        *at = at.replace("+00:00", "Z");
    }
    value
}

/// The message, as a consumer of JSON knows it from its own copy of the files.
fn message() -> prost_reflect::MessageDescriptor {
    let place = folder("message");
    let path = place.join("everything.proto");
    std::fs::write(&path, PROTO).expect("the folder is ours");
    let files = protox::compile([&path], [Path::new(&place)]).expect("it compiles");
    let pool = prost_reflect::DescriptorPool::from_file_descriptor_set(files).expect("compiled files fit together");
    pool.get_message_by_name("it.v1.Everything").expect("it is there")
}

#[test]
fn a_record_that_is_no_event_is_set_aside_and_the_next_one_read() {
    use rdkafka::message::{Header, OwnedHeaders};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    let cluster = kafka::shared();
    let topic = cluster.topic("it.foreign", Topic { partitions: 1, ..Topic::default() });
    let producer: BaseProducer = cluster.client().create().expect("a producer");
    for (id, value) in [(None, "{}"), (Some("1"), "{"), (Some("2"), "{\"n\":1}")] {
        let mut record = BaseRecord::<(), str>::to(&topic).payload(value);
        if let Some(id) = id {
            let headers = [("ce_specversion", "1.0"), ("ce_id", id), ("ce_source", "s"), ("ce_type", "t")];
            let headers = headers.into_iter().chain([("content-type", "application/json")]);
            record =
                record.headers(headers.fold(OwnedHeaders::new(), |headers, (key, value)| {
                    headers.insert(Header { key, value: Some(value) })
                }));
        }
        producer.send(record).map_err(|(error, _)| error).expect("there is room");
    }
    producer.flush(std::time::Duration::from_secs(30)).expect("the brokers are there");
    let (group, brokers) = (unique("it-foreign"), cluster.brokers());
    let settings =
        example::Settings { brokers: &brokers, registry: "http://127.0.0.1:1", group: &group, topics: &[&topic] };
    let (mut values, mut reasons) = (Vec::new(), Vec::new());
    let mut work = |event: &iguazu::consume::Event<'_>| {
        // Bare JSON is shown as it is; whether it is JSON shows when it is used.
        match event.value.as_ref().expect("no tombstone").json() {
            Ok(json) => values.push(json),
            Err(error) => values.push(error.to_string()),
        }
        Ok(if values.len() == 2 { Next::Stop } else { Next::Go })
    };
    let mut aside =
        |_: &iguazu::consume::Record<'_>, error: &iguazu::consume::ReadError| reasons.push(error.to_string());
    example::consume(&settings, Reader::new(None), &in_time(), &mut work, &mut aside).expect("the brokers are there");
    assert_eq!(reasons, ["the record has no header `ce_type`"]);
    assert!(values[0].starts_with("the value does not fit JSON: $: expected"), "{}", values[0]);
    assert_eq!(values[1], r#"{"n":1}"#);
}
