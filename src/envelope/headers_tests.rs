use std::borrow::Cow;

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::route::{
    Acks, Encoding, EventType, Framing, KeySource, Limits, Mapping, MissingKey, Reply, SchemaType, UnknownFields,
    Version,
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const FORMS: [EnvelopeForm; 2] = [EnvelopeForm::CloudEvents, EnvelopeForm::Single];

fn event_type(envelope: EnvelopeForm) -> EventType {
    EventType {
        name: "delivery.status_changed".to_owned(),
        owner: None,
        cluster: "core".to_owned(),
        failover: Vec::new(),
        topic: "delivery_status_changed".to_owned(),
        subject: None,
        schema_type: SchemaType::Protobuf,
        message: None,
        version: Version::Latest,
        mapping: Mapping::default(),
        avro_subject: None,
        encoding: Encoding::Avro,
        framing: Framing::Prefix,
        envelope,
        key: KeySource::Envelope,
        missing_key: MissingKey::Null,
        acks: Acks::Leader,
        reply: Reply::Enqueued,
        ordered: false,
        low_rate: false,
        unknown_fields: UnknownFields::Reject,
        buffer_bytes_max: 1_048_576,
        hot_key_events_per_second: None,
        limits: Limits::default(),
        sensitive: Vec::new(),
        dead_letter: None,
    }
}

fn stamp() -> Stamp<'static> {
    Stamp {
        id: "1",
        source: "/s",
        sender: None,
        properties: None,
        traceparent: None,
        received_ms: 1_700_000_000_123,
        schema_header: &[],
    }
}

fn written(form: EnvelopeForm, envelope: &Envelope<'_>, stamp: &Stamp<'_>) -> Vec<(String, Vec<u8>)> {
    let mut out = HeaderBuffer::default();
    write(envelope, stamp, &event_type(form), &mut out);
    let headers: Vec<_> = out.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    assert_eq!(headers.len(), out.len());
    assert_eq!(headers.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>(), out.bytes());
    headers
}

fn read_back(headers: &[(String, Vec<u8>)]) -> Result<ReadEnvelope, ReadError> {
    read(headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())), 42, Some(b"k"))
}

/// Checks the exact headers of the CloudEvents form.
fn check_golden(envelope: &Envelope<'_>, stamp: &Stamp<'_>, expected: &[(&str, &[u8])]) {
    let headers = written(EnvelopeForm::CloudEvents, envelope, stamp);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    assert_eq!(headers, expected);
}

#[test]
fn a_bare_event_has_five_headers() {
    check_golden(
        &Envelope::default(),
        &stamp(),
        &[
            ("ce_specversion", b"1.0"),
            ("ce_id", b"1"),
            ("ce_source", b"/s"),
            ("ce_type", b"delivery.status_changed"),
            ("content-type", b"application/avro"),
        ],
    );
}

#[test]
fn a_full_event_has_its_headers_in_order() {
    let envelope = Envelope {
        time: Some("2026-01-31T08:30:00+01:00".into()),
        headers: vec![("x-team".into(), Cow::Borrowed(b"50%20\xff")), ("ce_subject".into(), Cow::Borrowed(b"%20"))],
        // What the stamp says instead.
        id: Some("not this".into()),
        ..Envelope::default()
    };
    let stamp = Stamp {
        source: "/café/100%",
        sender: Some("app%20"),
        properties: Some("{\"discount\":\n \"%20\"}"),
        traceparent: Some(TRACE),
        schema_header: &[1, 7],
        ..stamp()
    };
    check_golden(
        &envelope,
        &stamp,
        &[
            ("ce_specversion", b"1.0"),
            ("ce_id", b"1"),
            ("ce_source", "/café/100%".as_bytes()),
            ("ce_type", b"delivery.status_changed"),
            ("content-type", b"application/avro"),
            ("ce_time", b"2026-01-31T08:30:00+01:00"),
            ("ce_properties", b"{\"discount\": \"\\u002520\"}"),
            ("iguazu-sender", b"app%20"),
            ("traceparent", TRACE.as_bytes()),
            ("__value_schema_id", &[1, 7]),
            ("x-team", b"50%20\xff"),
            ("ce_subject", b"%2520"),
        ],
    );
}

#[test]
fn the_single_form_is_one_header_and_the_schemas() {
    let headers = written(EnvelopeForm::Single, &Envelope::default(), &Stamp { schema_header: &[1, 7], ..stamp() });
    let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["iguazu-envelope", "__value_schema_id"]);
    let headers = written(EnvelopeForm::Single, &Envelope::default(), &stamp());
    assert_eq!(headers.len(), 1);
}

#[test]
fn headers_that_are_no_envelope_are_told_why() {
    let check = |headers: &[(&str, &[u8])], expected: &str| {
        let found = read(headers.iter().copied(), 0, None).expect_err("no envelope");
        assert_eq!(found.to_string(), expected);
    };
    check(&[], "the record has no header `ce_type`");
    check(&[("ce_type", b"a")], "the record has no header `ce_id`");
    check(&[("ce_type", b"a"), ("ce_id", b"\xff")], "header `ce_id` is not valid UTF-8");
    check(&[(SINGLE, b"\xff")], "header `iguazu-envelope` is not an `iguazu.v1.Envelope`");
    let version = |n| proto::Envelope { format_version: n, ..Default::default() }.encode_to_vec();
    check(&[(SINGLE, &version(2))], "header `iguazu-envelope` has format version 2, this reader knows version 1");
    check(&[(SINGLE, &[])], "header `iguazu-envelope` has format version 0, this reader knows version 1");
}

#[test]
fn a_buffer_that_was_used_before_allocates_nothing() {
    let mut out = HeaderBuffer::default();
    let envelope = Envelope { headers: vec![("n".into(), Cow::Borrowed(b"v"))], ..Envelope::default() };
    for form in FORMS {
        write(&envelope, &stamp(), &event_type(form), &mut out);
        let grown = (out.names.capacity(), out.values.capacity(), out.lengths.capacity(), out.values.as_ptr());
        out.clear();
        assert!(out.is_empty());
        write(&envelope, &stamp(), &event_type(form), &mut out);
        assert_eq!((out.names.capacity(), out.values.capacity(), out.lengths.capacity(), out.values.as_ptr()), grown);
        out.clear();
    }
}

/// What an event may carry, with much `%` in it.
fn texts() -> impl Strategy<Value = [Option<String>; 5]> {
    let text = || proptest::option::of("[%0-9a-f]{1,12}|[ -~é]{1,20}");
    (text(), text(), text(), text(), text()).prop_map(|(a, b, c, d, e)| [a, b, c, d, e])
}

fn any_headers() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    proptest::collection::vec(("x-[a-z]{0,4}|ce_[a-z]{3}x", "[%0-9a-f]{0,12}".prop_map(String::into_bytes)), 0..4)
}

proptest! {
    #[test]
    fn what_is_written_reads_back(texts in texts(), own in any_headers(), schema_header: Vec<u8>) {
        let [id, source, time, sender, note] = &texts;
        let envelope = Envelope {
            time: time.as_deref().map(Cow::Borrowed),
            headers: own.iter().map(|(n, v)| (Cow::Borrowed(n.as_str()), Cow::Borrowed(v.as_slice()))).collect(),
            ..Envelope::default()
        };
        let properties = note.as_ref().map(|note| serde_json::json!({ "note": note }).to_string());
        let stamp = Stamp {
            id: id.as_deref().unwrap_or("1"),
            source: source.as_deref().unwrap_or("/s"),
            sender: sender.as_deref(),
            properties: properties.as_deref(),
            traceparent: note.as_ref().map(|_| TRACE),
            schema_header: &schema_header,
            ..stamp()
        };
        for form in FORMS {
            let mut found = read_back(&written(form, &envelope, &stamp)).expect("an envelope");
            let same_json = |a: Option<&str>, b: Option<&str>| {
                let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
                a.map(json) == b.map(json)
            };
            prop_assert!(same_json(found.properties.as_deref(), properties.as_deref()), "{:?}", found.properties);
            found.properties = None;
            let received_ms = if form == EnvelopeForm::Single { 1_700_000_000_123 } else { 42 };
            let expected = ReadEnvelope {
                event: "delivery.status_changed".to_owned(),
                id: stamp.id.to_owned(),
                source: stamp.source.to_owned(),
                content_type: "application/avro".to_owned(),
                // A time is never like this; the rule for attributes does not apply to it.
                time: found.time.clone(),
                received_ms,
                key: Some(b"k".to_vec()),
                sender: sender.clone(),
                properties: None,
                traceparent: stamp.traceparent.map(str::to_owned),
                schema_header: (!schema_header.is_empty()).then(|| schema_header.clone()),
                headers: own.clone(),
            };
            prop_assert_eq!(found, expected, "{:?}", form);
        }
    }

    /// An independent encoder agrees with ours byte for byte.
    #[test]
    fn the_single_form_is_what_prost_writes(texts in texts(), own in any_headers()) {
        let [id, source, time, sender, properties] = texts.clone();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let message = proto::Envelope {
            format_version: 1,
            id: text(&id),
            source: text(&source),
            r#type: "delivery.status_changed".to_owned(),
            content_type: "application/avro".to_owned(),
            time: text(&time),
            received_ms: 1_700_000_000_123,
            sender: text(&sender),
            properties: text(&properties),
            traceparent: String::new(),
            headers: own.iter().map(|(n, v)| proto::Header { name: n.clone(), value: v.clone() }).collect(),
        };
        let envelope = Envelope {
            time: time.as_deref().map(Cow::Borrowed),
            headers: own.iter().map(|(n, v)| (Cow::Borrowed(n.as_str()), Cow::Borrowed(v.as_slice()))).collect(),
            ..Envelope::default()
        };
        let stamp = Stamp {
            id: id.as_deref().unwrap_or_default(),
            source: source.as_deref().unwrap_or_default(),
            sender: sender.as_deref(),
            properties: properties.as_deref(),
            ..stamp()
        };
        prop_assert_eq!(&written(EnvelopeForm::Single, &envelope, &stamp)[0].1, &message.encode_to_vec());
    }

    #[test]
    fn no_headers_panic(headers: Vec<(String, Vec<u8>)>, single: Vec<u8>) {
        let _ = read_back(&headers);
        let _ = read_back(&[(SINGLE.to_owned(), single)]);
    }

    /// Encoded as the HTTP binding says (section 3.1.3.2), through the bare door, into Kafka and back.
    #[test]
    fn an_attribute_of_the_bare_door_reads_back(text in "[ -~é\u{10ffff}%\"]{0,40}") {
        let encode = |c: char| match c {
            '!'..='~' if c != '"' && c != '%' => c.to_string(),
            c => c.to_string().bytes().map(|b| format!("%{b:02X}")).collect(),
        };
        let encoded: String = text.chars().map(encode).collect();
        let headers = [("ce-subject", encoded.as_bytes())];
        let (envelope, _) = crate::envelope::bare::from_headers(headers.into_iter()).expect("text without control characters");
        for form in FORMS {
            let found = read_back(&written(form, &envelope, &stamp())).expect("an envelope");
            prop_assert_eq!(&found.headers, &[("ce_subject".to_owned(), text.clone().into_bytes())]);
        }
    }

    /// A reader that percent-decodes, and one that does not but knows our escape, both get the value.
    #[test]
    fn readers_that_percent_decode_get_the_true_value(value in "[%0-9a-fé]{0,16}") {
        let mut out = HeaderBuffer::default();
        push_attribute(&mut out, "ce_id", value.as_bytes());
        let (_, escaped) = out.iter().next().expect("one header");
        prop_assert_eq!(&unescape(escaped), value.as_bytes());
        prop_assert_eq!(&unquote(escaped), value.as_bytes());
    }
}

/// As Python's `urllib.parse.unquote`: what is no escape stands for itself.
fn unquote(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let hex = digits.filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(decoded) if byte == b'%' => {
                out.push(decoded);
                rest = &after[2..];
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}
