use std::borrow::Cow;

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::envelope::{Envelope, Payload, SchemaReference, proto};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn read(form: Form, body: &[u8]) -> Result<Vec<Result<Event<'_>, EventError>>, EventError> {
    let batch = Batch::parse(form, body, 5)?;
    let announced = batch.remaining();
    let events: Vec<_> = batch.map(|item| item.map_err(|unreadable| unreadable.error)).collect();
    assert_eq!(events.len(), announced, "the batch announced another number of events");
    Ok(events)
}

/// Checks that a body is refused whole.
fn check_body(form: Form, body: impl AsRef<[u8]>, code: Code, part: &str) {
    let error = read(form, body.as_ref()).expect_err("the body is refused");
    assert_eq!(error.code, code, "{}", error.message);
    assert!(error.message.contains(part), "{}, not {part}", error.message);
}

/// Checks the events of a body: for each its name, or the code and a part of the message of its error.
fn check_events(form: Form, body: impl AsRef<[u8]>, expected: &[Result<&str, (Code, &str)>]) {
    let events = read(form, body.as_ref()).expect("the body is taken");
    assert_eq!(events.len(), expected.len());
    for (event, expected) in events.into_iter().zip(expected) {
        match (event, expected) {
            (Ok(event), Ok(name)) => assert_eq!(event.name, *name),
            (Err(error), Err((code, part))) => {
                assert_eq!(error.code, *code, "{}", error.message);
                assert!(error.message.contains(part), "{}, not {part}", error.message);
            }
            (event, expected) => panic!("{event:?}, not {expected:?}"),
        }
    }
}

/// Checks one JSON event with these members beside name and payload: its envelope and schema, or a part of its error.
fn check_member(members: &str, expected: Result<(Envelope<'_>, Option<SchemaReference>), &str>) {
    let body = format!("{{\"event\":\"a\",{members},\"payload\":{{}}}}");
    let event = read(Form::Json, body.as_bytes()).expect("valid JSON").pop().expect("one event");
    match (event, expected) {
        (Err(error), Err(part)) => {
            assert_eq!(error.code, Code::InvalidEnvelope);
            assert!(error.message.contains(part), "{}, not {part}", error.message);
        }
        (event, expected) => {
            let found = event.map(|e| (e.envelope, e.schema)).map_err(|e| e.message);
            assert_eq!(found, expected.map_err(str::to_owned), "{members}");
        }
    }
}

/// `Ok` of [`check_member`] for an envelope with one field changed.
fn with<'a>(change: impl FnOnce(&mut Envelope<'a>)) -> Result<(Envelope<'a>, Option<SchemaReference>), &'static str> {
    let mut envelope = Envelope::default();
    change(&mut envelope);
    Ok((envelope, None))
}

const A: &str = "{\"event\":\"a\",\"payload\":{}}";

#[test]
fn json_that_is_not_one_text_is_refused_whole() {
    let check = |body: &str, part| check_body(Form::Json, body, Code::InvalidBody, part);
    check("", "the body is empty");
    check(" \n", "the body is empty");
    check(&format!("\u{feff}{A}"), "at line 1 column 1: a byte order mark");
    check("{\"event\":", "at line 1 column 10: the text ends too early");
    check("{\n\"event\":\"a\",\n\"payload\":{}]}", "at line 3 column 13");
    check("{\"event\":\"a\",\"payload\":{\"a\":1", "the text ends too early");
    check(&format!("{A}{A}"), "at line 1 column 27: there is more text");
    check(&format!("[{A},]"), "a value is expected");
    check(&format!("[{A}] x"), "there is more text");
    check(&format!("{{\"events\":[{A}]}} x"), "there is more text");
    check(&format!("{{\"events\":[{A}}}"), "`,` or `]` is expected");
    check("5", "it is a number");
    check("\"event\"", "it is a string");
    check_body(Form::Json, b"{\"event\":\"\xff\"}", Code::InvalidBody, "not valid UTF-8 at byte 10");
    // Refused as an event first, but the text behind it is not JSON: nothing is taken.
    check("{\"foo\":1,,}", "at line 1 column 10");
    check("{\"event\":1,\"payload\":{}} x", "there is more text");
}

/// Its plan judges it, and the events beside it are taken.
#[test]
fn a_payload_with_an_end_is_passed_on_whatever_is_in_it() {
    let check = |form, body: &str, payload: &str| {
        let events = read(form, body.as_bytes()).expect("the body is taken");
        assert_eq!(events.len(), 2, "{body}");
        assert_eq!(events[0].as_ref().unwrap().payload.bytes(), payload.as_bytes());
    };
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for payload in ["{]", "[1,,2]", "{\"a\":tru}", "{\"a\"}", "[\"\t\"]", deep.as_str()] {
        let event = format!("{{\"payload\":{payload},\"event\":\"a\"}}");
        check(Form::Json, &format!("[{event},{A}]"), payload);
        check(Form::Json, &format!("{{\"events\":[{event},{A}]}}"), payload);
        check(Form::Ndjson, &format!("{event}\n{A}"), payload);
    }
}

#[test]
fn an_element_that_is_no_event_leaves_its_neighbours_alone() {
    for (element, code, part) in [
        ("{\"event\":\"a\",,\"payload\":{}}", Code::MalformedJson, "at its line 1 column 14"),
        ("{\"event\":\"a\"]", Code::MalformedJson, "`,` or `}` is expected"),
        ("[]", Code::InvalidEnvelope, "must be an object"),
        ("5", Code::InvalidEnvelope, "must be an object"),
    ] {
        check_events(Form::Json, format!("[{element},{A}]"), &[Err((code, part)), Ok("a")]);
    }
}

#[test]
fn a_body_without_events_or_with_too_many_is_refused_whole() {
    check_body(Form::Json, "[]", Code::InvalidBody, "holds no event");
    check_body(Form::Json, "{\"events\":[]}", Code::InvalidBody, "holds no event");
    check_body(Form::Ndjson, "", Code::InvalidBody, "holds no event");
    check_body(Form::Ndjson, "\n \r\n", Code::InvalidBody, "holds no event");
    check_body(Form::Protobuf, "", Code::InvalidBody, "holds no event");
    let six = |separator| [A; 6].join(separator);
    check_body(Form::Json, format!("[{}]", six(",")), Code::BatchTooLong, "more than 5 events");
    check_body(Form::Json, format!("{{\"events\":[{}]}}", six(",")), Code::BatchTooLong, "more than 5 events");
    check_body(Form::Json, format!("[{}", "0,".repeat(1_000_000)), Code::BatchTooLong, "more than 5 events");
    check_body(Form::Ndjson, six("\n"), Code::BatchTooLong, "more than 5 events");
    check_body(Form::Protobuf, [0x0A, 0x00].repeat(6), Code::BatchTooLong, "more than 5 events");
}

#[test]
fn an_object_with_events_has_nothing_else() {
    check_body(Form::Json, format!("{{\"events\":[{A}],\"schema\":1}}"), Code::InvalidBody, "nothing else");
    check_body(Form::Json, format!("{{\"event\":\"a\",\"events\":[{A}]}}"), Code::InvalidBody, "nothing else");
    check_body(Form::Json, "{\"events\":[],\"events\":[]}", Code::InvalidBody, "`events` stands twice");
    check_body(Form::Json, "{\"events\":{}}", Code::InvalidBody, "must be an array");
}

#[test]
fn protobuf_whose_events_cannot_be_told_apart_is_refused_whole() {
    check_body(Form::Protobuf, [0x0A, 0x05, 0x00], Code::InvalidBody, "not an `iguazu.v1.EventBatch`: at byte 1");
    check_body(Form::Protobuf, [0x0A, 0x00, 0x00], Code::InvalidBody, "at byte 2 a field number");
    check_body(Form::Protobuf, A, Code::InvalidBody, "EventBatch");
}

#[test]
fn every_json_shape_holds_events() {
    check_events(Form::Json, A, &[Ok("a")]);
    check_events(Form::Json, format!(" {A}\r\n"), &[Ok("a")]);
    check_events(Form::Json, format!("[{A}]"), &[Ok("a")]);
    check_events(Form::Json, format!("[{A} ,\n{A}]"), &[Ok("a"), Ok("a")]);
    check_events(Form::Json, format!("{{\"events\" : [{A},{A}] }}"), &[Ok("a"), Ok("a")]);
}

#[test]
fn one_bad_event_fails_alone() {
    let bad = |part| Err((Code::InvalidEnvelope, part));
    check_events(
        Form::Json,
        format!("[{A},5,{{}},{A}]"),
        &[Ok("a"), bad("is a number"), bad("`event` is missing"), Ok("a")],
    );
    check_events(Form::Json, format!("[{{\"events\":[]}},{A}]"), &[bad("`events` is no field"), Ok("a")]);
    check_events(Form::Json, "{\"event\":\"a\"}", &[bad("`payload` is missing")]);
    let lines = format!("{A}\r\n\n{{\"event\":\"a\" x\n\t\n{A} {A}\n{{\"event\":1}}\n{A}");
    let malformed = |part| Err((Code::MalformedJson, part));
    check_events(
        Form::Ndjson,
        lines,
        &[
            Ok("a"),
            malformed("line 3 is not valid JSON at column 14: `,` or `}`"),
            malformed("line 5 is not valid JSON at column 28: there is more text"),
            bad("`event` must be a string, it is a number"),
            Ok("a"),
        ],
    );
    let lines = [b"{\"event\":\"\xff\"}\n", A.as_bytes()].concat();
    check_events(Form::Ndjson, lines, &[Err((Code::InvalidUtf8, "line 1 is not valid UTF-8 at byte 10")), Ok("a")]);
    check_events(Form::Ndjson, format!("[{A}]\n{A}"), &[bad("must be an object, it is an array"), Ok("a")]);
    check_events(Form::Ndjson, format!("\u{feff}{A}\n{A}\n"), &[malformed("byte order mark"), Ok("a")]);
}

#[test]
fn an_event_that_cannot_be_read_is_known_by_its_name_and_id_all_the_same() {
    let check = |form, body: &[u8], expected: (Option<&str>, Option<&str>)| {
        let mut batch = Batch::parse(form, body, 5).expect("the body is taken");
        let unreadable = batch.next().expect("one event").expect_err("it cannot be read");
        let found = (unreadable.name.as_deref(), unreadable.id.as_deref());
        assert_eq!(found, expected, "{}", String::from_utf8_lossy(body));
    };
    let json = |body: &str, expected| {
        check(Form::Json, body.as_bytes(), expected);
        check(Form::Json, format!("[{body}]").as_bytes(), expected);
        check(Form::Ndjson, body.as_bytes(), expected);
    };
    let deep = "[".repeat(200) + &"]".repeat(200);
    check(Form::Ndjson, b"5", (None, None));
    json("{}", (None, None));
    json("{\"event\":1,\"id\":\"7\"}", (None, Some("7")));
    json("{\"event\":\"\"}", (None, None));
    json("{\"event\":\"a\"}", (Some("a"), None));
    json("{\"time\":5,\"payload\":{\"event\":\"b\"},\"event\":\"a\",\"id\":\"7\"}", (Some("a"), Some("7")));
    json(&format!("{{\"payload\":{deep},\"time\":5,\"event\":\"a\"}}"), (Some("a"), None));
    json("{\"nonsense\":\"\\ud800\",\"event\":\"a\"}", (Some("a"), None));
    check(Form::Ndjson, b"{\"event\":\"a\",\"id\":\"7\",,", (Some("a"), Some("7")));
    check(Form::Ndjson, b"{\"event\":\"a\",\"id\":\"\xff\"}", (Some("a"), None));
    // Field 1 is the name, 4 the id, 12 a `traceparent` that is none.
    check(Form::Protobuf, b"\x0a\x09\x62\x01x\x0a\x01a\x22\x017", (Some("a"), Some("7")));
    check(Form::Protobuf, b"\x0a\x05\x0a\x01a\x22\x05", (Some("a"), None));
}

#[test]
fn properties_that_are_too_deep_are_told_where() {
    let nested = "[".repeat(100) + &"]".repeat(100);
    let event = format!("{{\"event\":\"a\",\"payload\":{{}},\"properties\":{{\"x\":{nested}}}}}");
    let too_deep = Err((Code::TooDeep, "properties.x[0][0][0][0][0][0][0]…: values nest deeper than 100 levels"));
    check_events(Form::Json, &event, &[too_deep]);
    check_events(Form::Json, format!("[{event},{A}]"), &[too_deep, Ok("a")]);
    check_events(Form::Ndjson, format!("{event}\n{A}"), &[too_deep, Ok("a")]);
}

#[test]
fn a_protobuf_event_fails_alone() {
    let event = |event: proto::Event| proto::EventBatch { events: vec![event] }.encode_to_vec();
    let named = || proto::Event {
        event: "a".to_owned(),
        payload_form: Some(proto::event::PayloadForm::Payload(vec![])),
        ..Default::default()
    };
    let check = |bytes: Vec<u8>, code, part| {
        let bytes = [bytes, event(named())].concat();
        check_events(Form::Protobuf, bytes, &[Err((code, part)), Ok("a")]);
    };
    check(vec![0x0A, 0x02, 0x0A, 0x05], Code::MalformedProtobuf, "not an `iguazu.v1.Event`: at byte 1");
    check(vec![0x0A, 0x03, 0x0A, 0x01, 0xFF], Code::InvalidUtf8, "`event` of the envelope");
    check(event(proto::Event { event: String::new(), ..named() }), Code::InvalidEnvelope, "`event` is missing");
    check(event(proto::Event { payload_form: None, ..named() }), Code::InvalidEnvelope, "`payload` is missing");
    check(event(proto::Event { id: "\n".to_owned(), ..named() }), Code::InvalidEnvelope, "`id` holds a control");
    check(
        event(proto::Event { properties: "[]".to_owned(), ..named() }),
        Code::InvalidEnvelope,
        "`properties` must be",
    );
    check(event(proto::Event { properties: "{".to_owned(), ..named() }), Code::InvalidEnvelope, "not valid JSON");
    check(
        event(proto::Event { traceparent: "1".to_owned(), ..named() }),
        Code::InvalidEnvelope,
        "`traceparent` is not",
    );
    let time = prost_reflect::prost_types::Timestamp { seconds: 1 << 40, nanos: 0 };
    check(event(proto::Event { time: Some(time), ..named() }), Code::InvalidEnvelope, "`time` is not a timestamp");
    let version = |n| Some(proto::event::Schema::SchemaVersion(n));
    check(event(proto::Event { schema: version(0), ..named() }), Code::InvalidEnvelope, "from 1 to 2147483647");
    let id = Some(proto::event::Schema::SchemaId(1 << 31));
    check(event(proto::Event { schema: id, ..named() }), Code::InvalidEnvelope, "from 0 to 2147483647");
    let headers = vec![proto::Header { name: "ce_id".to_owned(), value: vec![] }];
    check(event(proto::Event { headers, ..named() }), Code::InvalidEnvelope, "reserved");
}

#[test]
fn protobuf_rules_hold_for_events() {
    let check = |event: &[u8], expected: Event<'_>| {
        let body = [&[0x0A, event.len() as u8], event].concat();
        assert_eq!(read(Form::Protobuf, &body).expect("a batch"), vec![Ok(expected)]);
    };
    let plain = |payload| Event { name: "a".into(), payload, envelope: Envelope::default(), schema: None };
    let empty = Payload::Binary(&[]);
    // The last value wins, in a oneof over its other members, too.
    check(&[0x0A, 1, b'b', 0x0A, 1, b'a', 0x1A, 1, b'1', 0x12, 0], plain(empty));
    check(&[0x0A, 1, b'a', 0x12, 0, 0x1A, 1, b'1'], plain(Payload::Json(b"1")));
    let version_then_id = Event { schema: Some(SchemaReference::Id(2)), ..plain(empty) };
    check(&[0x0A, 1, b'a', 0x12, 0, 0x50, 1, 0x58, 2], version_then_id);
    // Unknown fields and known ones of another wire type are skipped.
    check(&[0x0A, 1, b'a', 0x12, 0, 0x20, 7, 0xA2, 0x06, 1, 9, 0xA3, 0x06, 0xA4, 0x06], plain(empty));
    // A message that stands twice is merged.
    let mut merged = plain(empty);
    merged.envelope.time = Some("1970-01-01T00:00:01.000000002Z".into());
    check(&[0x0A, 1, b'a', 0x12, 0, 0x32, 2, 0x08, 1, 0x32, 2, 0x10, 2], merged);
    // An empty string is none, but an empty key is a key.
    let mut keyed = plain(empty);
    keyed.envelope.key = Some("".into());
    check(&[0x0A, 1, b'a', 0x12, 0, 0x22, 0, 0x2A, 0, 0x42, 0, 0x62, 0, 0x3A, 0], keyed);
}

#[test]
fn every_member_of_a_json_event_has_its_rule() {
    check_member(
        "\"foo\":1",
        Err("`foo` is no field of an envelope; known: `event`, `payload`, `payload_base64`, `id`"),
    );
    check_member("\"id\":\"1\",\"id\":\"1\"", Err("`id` stands twice"));
    check_member("\"payload_base64\":1", Err("`payload_base64` must be a string, it is a number"));
    check_member("\"payload_base64\":\"AA==\"", Err("`payload_base64` stands beside `payload`"));
    check_member("\"payload_base64\":null", with(|_| {}));
    check_member("\"id\":7", Err("`id` must be a string, it is a number"));
    check_member("\"id\":\"\"", Err("`id` is empty"));
    check_member("\"id\":\"\\ud800\"", Err("`id` escapes half of a surrogate pair"));
    check_member("\"source\":{}", Err("`source` must be a string, it is an object"));
    check_member("\"time\":\"now\"", Err("`time` is not an RFC 3339 time"));
    check_member("\"time\":1700000000", Err("`time` must be a string, it is a number"));
    check_member("\"key\":false", Err("`key` must be a string, it is a boolean"));
    check_member("\"properties\":[]", Err("`properties` must be an object, it is an array"));
    check_member("\"headers\":[]", Err("`headers` must be an object, it is an array"));
    check_member("\"headers\":{\"n\":1}", Err("one is a number"));
    check_member("\"headers\":{\"n\":{}}", Err("neither a string nor"));
    check_member("\"headers\":{\"n\":{\"hex\":\"\"}}", Err("neither a string nor"));
    check_member("\"headers\":{\"n\":{\"base64\":\"\",\"x\":1}}", Err("neither a string nor"));
    check_member("\"headers\":{\"n\":{\"base64\":\"*\"}}", Err("not base64"));
    check_member("\"headers\":{\"n\":{\"base64\":1}}", Err("must be a string"));
    check_member("\"headers\":{\"Ce_Id\":\"\"}", Err("reserved name `Ce_Id`"));
    check_member("\"schema\":1", Err("`schema` must be an object, it is a number"));
    check_member("\"schema\":{}", Err("exactly one of `version` and `id`"));
    check_member("\"schema\":{\"version\":1,\"id\":1}", Err("exactly one of `version` and `id`"));
    check_member("\"schema\":{\"name\":1}", Err("exactly one of `version` and `id`"));
    for number in ["0", "-1", "1.0", "1e0", "\"1\"", "null", "2147483648", "99999999999999999999"] {
        check_member(&format!("\"schema\":{{\"version\":{number}}}"), Err("an integer from 1 to 2147483647"));
    }
    check_member("\"traceparent\":\"00-0-0-00\"", Err("`traceparent` is not a W3C trace context"));
    check_member("\"event\":\"b\"", Err("`event` stands twice"));
    check_member("\"payload\":{}", Err("`payload` stands twice"));
}

#[test]
fn every_member_of_a_json_event_is_read() {
    check_member("\"id\":\"1\"", with(|e| e.id = Some("1".into())));
    check_member("\"id\":\"\\u0031\"", with(|e| e.id = Some("1".into())));
    check_member("\"i\\u0064\":\"1\"", with(|e| e.id = Some("1".into())));
    check_member("\"source\":\"/s\"", with(|e| e.source = Some("/s".into())));
    check_member("\"time\":\"2026-01-31T08:30:00+01:00\"", with(|e| e.time = Some("2026-01-31T08:30:00+01:00".into())));
    check_member("\"key\":\"\"", with(|e| e.key = Some("".into())));
    check_member("\"properties\": {\"a\": [1]} ", with(|e| e.properties = Some("{\"a\": [1]}".into())));
    check_member("\"properties\":{ }", with(|_| ()));
    let headers = vec![("n".into(), Cow::Borrowed(&b"v"[..])), ("n".into(), Cow::Borrowed(&[0xFF][..]))];
    check_member("\"headers\":{\"n\":\"v\",\"n\":{\"base64\":\"/w\"}}", with(|e| e.headers = headers));
    check_member(&format!("\"traceparent\":\"{TRACE}\""), with(|e| e.traceparent = Some(TRACE.into())));
    check_member("\"schema\":{\"version\":3}", Ok((Envelope::default(), Some(SchemaReference::Version(3)))));
    check_member("\"schema\":{\"id\":0}", Ok((Envelope::default(), Some(SchemaReference::Id(0)))));
    for field in ["id", "source", "time", "key", "properties", "headers", "schema", "traceparent"] {
        check_member(&format!("\"{field}\":null"), with(|_| ()));
    }
}

#[test]
fn a_payload_is_any_json_value_as_it_stands() {
    let check = |payload: &str| {
        let body = format!("{{\"payload\": {payload} ,\"event\":\"a\"}}");
        let events = read(Form::Json, body.as_bytes()).expect("valid JSON");
        assert_eq!(events[0].as_ref().map(|e| e.payload), Ok(Payload::Json(payload.as_bytes())));
    };
    for payload in ["{\"a\" : 1.50}", "[]", "\"text\"", "-0.0e7", "true", "null", "{\"events\":[]}"] {
        check(payload);
    }
}

#[test]
fn what_can_be_borrowed_is_borrowed() {
    let body = format!(
        "{{\"event\":\"a\",\"id\":\"1\",\"headers\":{{\"n\":\"v\"}},\"payload\":{{}},\"key\":\"k\",\"traceparent\":\"{TRACE}\"}}"
    );
    let event = read(Form::Json, body.as_bytes()).expect("valid").remove(0).expect("an event");
    let envelope = &event.envelope;
    let fields = [Some(&event.name), envelope.id.as_ref(), envelope.key.as_ref(), envelope.traceparent.as_ref()];
    assert!(fields.iter().all(|field| matches!(field, Some(Cow::Borrowed(_)))), "{event:?}");
    assert!(matches!(envelope.headers[0], (Cow::Borrowed(_), Cow::Borrowed(_))));
}

/// An event in its Protobuf form with everything legal, to be written as JSON as well.
fn any_event() -> impl Strategy<Value = proto::Event> {
    let schema = proptest::option::of(prop_oneof![
        (1u32..1 << 31).prop_map(proto::event::Schema::SchemaVersion),
        (0u32..1 << 31).prop_map(proto::event::Schema::SchemaId),
    ]);
    let header = ("[a-b]{1,3}", any::<Vec<u8>>()).prop_map(|(name, value)| proto::Header { name, value });
    let time = proptest::option::of((-62_135_596_800i64..=253_402_300_799, 0..1_000_000_000i32));
    let texts = ("[a-z.\"\\\\é]{1,20}", "[ -~é]{0,20}", "[ -~é]{0,20}", proptest::option::of(any::<String>()));
    let rest = (schema, proptest::collection::vec(header, 0..4), time, any::<bool>(), any::<bool>());
    (texts, rest).prop_map(|((event, id, source, key), (schema, headers, time, traced, rich))| proto::Event {
        event,
        payload_form: Some(proto::event::PayloadForm::PayloadJson("{\"a\":1}".to_owned())),
        id,
        source,
        time: time.map(|(seconds, nanos)| prost_reflect::prost_types::Timestamp { seconds, nanos }),
        key,
        properties: if rich { "{\"p\":[1,{}]}".to_owned() } else { String::new() },
        headers,
        schema,
        traceparent: if traced { TRACE.to_owned() } else { String::new() },
    })
}

fn as_json(event: &proto::Event) -> String {
    let text = |text: &str| serde_json::to_string(text).expect("strings are JSON");
    let mut members = vec![format!("\"event\":{},\"payload\":{{\"a\":1}}", text(&event.event))];
    let mut member = |name: &str, value: &str| {
        if !value.is_empty() {
            members.push(format!("\"{name}\":{}", text(value)));
        }
    };
    member("id", &event.id);
    member("source", &event.source);
    member("time", &event.time.map(|t| t.to_string()).unwrap_or_default());
    member("traceparent", &event.traceparent);
    if let Some(key) = &event.key {
        members.push(format!("\"key\":{}", text(key)));
    }
    if !event.properties.is_empty() {
        members.push(format!("\"properties\":{}", event.properties));
    }
    let headers = event.headers.iter().map(|header| match std::str::from_utf8(&header.value) {
        Ok(value) => format!("\"{}\":{}", header.name, text(value)),
        Err(_) => format!("\"{}\":{{\"base64\":\"{}\"}}", header.name, base64(&header.value)),
    });
    members.push(format!("\"headers\":{{{}}}", headers.collect::<Vec<_>>().join(",")));
    match &event.schema {
        None => {}
        Some(proto::event::Schema::SchemaVersion(n)) => members.push(format!("\"schema\":{{\"version\":{n}}}")),
        Some(proto::event::Schema::SchemaId(n)) => members.push(format!("\"schema\":{{\"id\":{n}}}")),
    }
    format!("{{{}}}", members.join(", "))
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

proptest! {
    #[test]
    fn json_ndjson_and_protobuf_say_the_same(events in proptest::collection::vec(any_event(), 1..5)) {
        let json: Vec<String> = events.iter().map(as_json).collect();
        let wire = proto::EventBatch { events }.encode_to_vec();
        let from_wire = read(Form::Protobuf, &wire)?;
        prop_assert!(from_wire.iter().all(Result::is_ok), "{:?}", from_wire);
        let array = format!("[{}]", json.join(","));
        prop_assert_eq!(&read(Form::Json, array.as_bytes())?, &from_wire);
        let lines = json.join("\n");
        prop_assert_eq!(&read(Form::Ndjson, lines.as_bytes())?, &from_wire);
    }

    #[test]
    fn no_body_panics(body: Vec<u8>) {
        for form in [Form::Json, Form::Ndjson, Form::Protobuf] {
            let _ = read(form, &body);
        }
    }

    #[test]
    fn no_damaged_body_panics(events in proptest::collection::vec(any_event(), 1..3), at: prop::sample::Index, byte: u8) {
        let json = format!("[{}]", events.iter().map(as_json).collect::<Vec<_>>().join(",\n"));
        let wire = proto::EventBatch { events }.encode_to_vec();
        for (form, body) in [(Form::Json, json.as_bytes()), (Form::Ndjson, json.as_bytes()), (Form::Protobuf, &wire)] {
            let mut damaged = body.to_vec();
            damaged[at.index(body.len())] = byte;
            let _ = read(form, &damaged);
            let _ = read(form, &body[..at.index(body.len())]);
        }
    }
}
