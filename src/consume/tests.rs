//! Every form that the proxy writes is read back through the embedded registry; what is none of them is refused.

use serde_json::json;

use super::*;
use crate::dev::registry::{EmbeddedRegistry, Options};
use crate::envelope::{framing as wire, proto};
use crate::outcome::Code;
use crate::schema::source::{Kind, Schema};
use crate::transcode::avro_schema;

/// The message `iguazu.v1.Header`, of which there is generated code, beside another one.
const TEXT: &str = "syntax = \"proto3\"; package iguazu.v1; message Other { message Inner { int32 n = 1; } }
                    message Header { string name = 1; bytes value = 2; }";
/// `{name: "n", value: 0xff}` on the wire, as a datum, and as proto3 JSON.
const MESSAGE: &[u8] = &[0x0a, 1, b'n', 0x12, 1, 0xff];
const DATUM: &[u8] = &[2, b'n', 2, 0xff];
const JSON: &str = r#"{"name":"n","value":"/w=="}"#;

struct Fixture {
    server: EmbeddedRegistry,
    client: Registry,
}

impl Fixture {
    async fn new() -> Fixture {
        let server = EmbeddedRegistry::start(Options::default()).await.expect("a free port");
        let client = registry(&server.url()).expect("a URL");
        Fixture { server, client }
    }

    fn reader(&self) -> Reader {
        Reader::new(Some(registry(&self.server.url()).expect("a URL")))
    }

    /// Registers a schema; its id and GUID.
    async fn register(&self, kind: Kind, text: &str) -> (u32, [u8; 16]) {
        let id = self.client.register(&format!("s-{}", kind.as_str()), &Schema::new(kind, text)).await.expect("good");
        let guid = self.client.schema(id).await.expect("there").guid.clone().expect("it gives one");
        (id, uuid::Uuid::parse_str(&guid).expect("a GUID").into_bytes())
    }
}

fn message() -> MessageDescriptor {
    let family = crate::schema::source::Family::from(Schema::new(Kind::Protobuf, TEXT));
    let compiled = crate::schema::compile::compile("test.proto", &family).expect("it compiles");
    compiled.file.parent_pool().get_message_by_name("iguazu.v1.Header").expect("it is there")
}

fn derived() -> String {
    avro_schema(&message(), &Default::default()).expect("a mapping")
}

/// Headers of both envelope forms, for a value of this content type.
fn envelopes(content_type: &str, schema: Option<&[u8]>) -> Vec<Vec<(String, Vec<u8>)>> {
    let single = proto::Envelope {
        format_version: 1,
        id: "1".to_owned(),
        source: "s".to_owned(),
        r#type: "a.B".to_owned(),
        content_type: content_type.to_owned(),
        ..Default::default()
    };
    let attributes = [("ce_specversion", "1.0"), ("ce_id", "1"), ("ce_source", "s"), ("ce_type", "a.B")];
    let attributes = attributes.into_iter().chain([("content-type", content_type)]);
    let cloud_events = attributes.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).collect();
    let single = vec![("iguazu-envelope".to_owned(), prost::Message::encode_to_vec(&single))];
    let with_schema = |mut headers: Vec<_>| {
        headers.extend(schema.map(|schema| (wire::HEADER.to_owned(), schema.to_vec())));
        headers
    };
    [cloud_events, single].into_iter().map(with_schema).collect()
}

/// Reads a value in both envelope forms; what it became must be the same.
async fn read(
    reader: &Reader,
    content_type: &str,
    schema: Option<&[u8]>,
    value: &[u8],
) -> Result<[String; 3], ReadError> {
    let mut found = Vec::new();
    for headers in envelopes(content_type, schema) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), Some(value.as_slice()))).collect();
        let record =
            Record { topic: "t", key: Some(b"k"), headers: &headers, value: Some(value), timestamp_ms: Some(7) };
        let event = reader.read(&record).await?;
        assert_eq!((event.envelope.id.as_str(), event.envelope.event.as_str()), ("1", "a.B"));
        assert!(reader.read_known(&record)?.is_some(), "the second time it is known");
        let value = event.value.expect("no tombstone");
        let message: String = match value.message::<proto::Header>() {
            Ok(message) => format!("{} {:?}", message.name, message.value),
            Err(error) => error.to_string(),
        };
        found.push([value.json()?, value.proto3_json().unwrap_or_default(), message]);
    }
    assert_eq!(found[0], found[1]);
    Ok(found.remove(0))
}

#[tokio::test]
async fn what_is_no_event_of_ours_is_refused() {
    let fixture = Fixture::new().await;
    let reader = fixture.reader();
    let (id, guid) = fixture.register(Kind::Protobuf, TEXT).await;
    let check = async |content_type: &str, schema: Option<&[u8]>, value: &[u8], expected: &str| {
        let error = read(&reader, content_type, schema, value).await.expect_err(expected);
        assert!(error.to_string().contains(expected), "{error} instead of {expected}");
    };
    let foreign = Record { topic: "t", key: None, headers: &[], value: Some(b"{}"), timestamp_ms: None };
    assert_eq!(reader.read(&foreign).await.expect_err("no envelope").to_string(), "the record has no header `ce_type`");
    check("application/avro", None, b"", "cut short").await;
    check("application/avro", None, b"xabcd", "begins with byte 0x78").await;
    check("application/avro", None, &wire::write_prefix(77, None), "has no schema with id 77").await;
    check("application/avro", Some(b"\x01"), b"", "cut short").await;
    check("application/avro", Some(&wire::header_value([7; 16], None)), b"", "has no schema with GUID 0707").await;
    let framed = |indexes: &[i32], value: &[u8]| [&wire::write_prefix(id, Some(indexes)), value].concat();
    check("application/x-protobuf", None, &framed(&[9], b""), "it has no message with indexes [9]").await;
    check("application/x-protobuf", None, &framed(&[1], b"\x0a\x05n"), "$.name (field 1): the value ends").await;
    check("application/json", None, b"{", "the value does not fit JSON: $: expected a member's name").await;
    let alone = Reader::new(None);
    let error = read(&alone, "application/avro", None, &wire::write_prefix(1, None)).await.expect_err("no registry");
    assert_eq!(error.to_string(), "no registry is known to ask for schema id 1");
    let far = wire::header_value(guid, Some(&[0; 80]));
    check("application/x-protobuf", Some(&far), b"", "message indexes").await;
}

#[tokio::test]
async fn every_encoding_and_framing_becomes_the_same_message() {
    let fixture = Fixture::new().await;
    let reader = fixture.reader();
    let typed = "n [255]".to_owned();
    let (id, guid) = fixture.register(Kind::Protobuf, TEXT).await;
    let expected = [JSON.to_owned(), JSON.to_owned(), typed.clone()];
    let prefixed = [&wire::write_prefix(id, Some(&[1])), MESSAGE].concat();
    assert_eq!(read(&reader, "application/x-protobuf", None, &prefixed).await.expect("prefix"), expected);
    let header = wire::header_value(guid, Some(&[1]));
    assert_eq!(read(&reader, "application/x-protobuf", Some(&header), MESSAGE).await.expect("header"), expected);
    // The same schema, another message of it.
    let inner = [&wire::write_prefix(id, Some(&[0, 0])), &[0x08, 5][..]].concat();
    assert_eq!(read(&reader, "application/x-protobuf", None, &inner).await.expect("nested")[0], r#"{"n":5}"#);

    let (id, guid) = fixture.register(Kind::Avro, &derived()).await;
    let prefixed = [&wire::write_prefix(id, None), DATUM].concat();
    assert_eq!(read(&reader, "application/avro", None, &prefixed).await.expect("prefix"), expected);
    let header = wire::header_value(guid, None);
    assert_eq!(read(&reader, "application/avro", Some(&header), DATUM).await.expect("header"), expected);

    let told = fixture.reader().with_message("a.B", message());
    assert_eq!(read(&told, "application/json", None, JSON.as_bytes()).await.expect("JSON"), expected);
    let untold = read(&reader, "application/json", None, JSON.as_bytes()).await.expect("JSON");
    assert!(untold[2].contains("must be told with `Reader::with_message`"), "{}", untold[2]);
}

#[tokio::test]
async fn avro_without_numbers_needs_the_message() {
    let fixture = Fixture::new().await;
    let schema = json!({"type": "record", "name": "Header", "fields": [
        {"name": "name", "type": "string", "default": ""}, {"name": "value", "type": "bytes", "default": ""}]});
    let (id, _) = fixture.register(Kind::Avro, &schema.to_string()).await;
    let value = [&wire::write_prefix(id, None), DATUM].concat();
    let untold = read(&fixture.reader(), "application/avro", None, &value).await.expect("an Avro value");
    assert!(untold[2].contains("`Header.name` has no `proto.number`"), "{}", untold[2]);
    let told = fixture.reader().with_message("a.B", message());
    let expected = [JSON.to_owned(), JSON.to_owned(), "n [255]".to_owned()];
    assert_eq!(read(&told, "application/avro", None, &value).await.expect("told"), expected);
}

#[tokio::test]
async fn a_schema_is_asked_for_once_and_never_by_read_known() {
    let fixture = Fixture::new().await;
    let reader = fixture.reader();
    let (id, _) = fixture.register(Kind::Avro, &derived()).await;
    let asked = || fixture.server.requests_for(&format!("/schemas/ids/{id}"));
    let before = asked();
    let value = [&wire::write_prefix(id, None), DATUM].concat();
    let headers = envelopes("application/avro", None).remove(0);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), Some(value.as_slice()))).collect();
    let record = Record { topic: "t", key: None, headers: &headers, value: Some(&value), timestamp_ms: None };
    assert!(reader.read_known(&record).expect("an event").is_none());
    assert_eq!(asked(), before);
    for _ in 0..50 {
        read(&reader, "application/avro", None, &value).await.expect("an event");
    }
    assert_eq!(asked(), before + 1);
    let tombstone = Record { value: None, ..record };
    assert!(reader.read_known(&tombstone).expect("an event").expect("known").value.is_none());
}

#[tokio::test]
async fn an_avro_value_is_checked_before_it_is_built() {
    let fixture = Fixture::new().await;
    let schema = json!({"type": "record", "name": "R", "fields": [
        {"name": "a", "type": {"type": "array", "items": "null"}}]});
    let (id, _) = fixture.register(Kind::Avro, &schema.to_string()).await;
    let reader = fixture.reader();
    let avro = async |datum: &[u8]| {
        let value = [&wire::write_prefix(id, None), datum].concat();
        let value = reader.value(&value, None).await.expect("framed");
        value.avro()
    };
    // 2^32 nulls in six bytes.
    match avro(&[0x80, 0x80, 0x80, 0x80, 0x20, 0]).await {
        Err(ReadError::Value { source, .. }) => assert_eq!(source.code, Code::PayloadExpands),
        other => panic!("{other:?}"),
    }
    let value = avro(&[4, 0]).await.expect("two nulls");
    let nulls = apache_avro::types::Value::Array(vec![apache_avro::types::Value::Null; 2]);
    assert_eq!(value, apache_avro::types::Value::Record(vec![("a".to_owned(), nulls)]));
}
