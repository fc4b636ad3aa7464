//! Payloads of Avro subjects, against `apache-avro` as an independent reader.

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use proptest::prelude::*;

use super::*;
use crate::transcode::Transcoder;

/// A schema with what is special about each kind of type.
const SCHEMA: &str = r#"{"type":"record","name":"shop.v1.Order","fields":[
    {"name":"id","type":"string"},
    {"name":"cents","type":"long","default":7},
    {"name":"count","type":"int","default":-1},
    {"name":"paid","type":"boolean","default":false},
    {"name":"note","type":["null","string"],"default":null},
    {"name":"maybe","type":["string","null"],"default":"x"},
    {"name":"nothing_said","type":["null","long"]},
    {"name":"either","type":["null","string","long","boolean",{"type":"array","items":"int"}],"default":null},
    {"name":"colour","type":{"type":"enum","name":"Colour","symbols":["RED","GREEN"]},"default":"GREEN"},
    {"name":"tags","type":{"type":"map","values":"string"},"default":{}},
    {"name":"items","type":{"type":"array","items":{"type":"record","name":"Item","fields":[
        {"name":"sku","type":"string"},{"name":"next","type":["null","Item"],"default":null}]}},"default":[]},
    {"name":"what","type":["null","Item",{"type":"record","name":"Other","fields":[{"name":"sku","type":"string"}]}],"default":null},
    {"name":"raw","type":"bytes","default":"\u00ff"},
    {"name":"half","type":{"type":"fixed","name":"Two","size":2},"default":"ab"},
    {"name":"ratio","type":"double","default":0.5},
    {"name":"small","type":"float","default":1}]}"#;

fn plan(schema: &str, key: Option<&str>, unknown_fields: UnknownFields) -> Transcoder {
    Transcoder::Avro(AvroPlan::compile(schema, &[], key, unknown_fields).expect("a good schema"))
}

fn run(plan: &Transcoder, payload: Payload<'_>) -> Result<Output, EventError> {
    let mut output = Output::default();
    plan.transcode(payload, &mut Scratch::default(), &mut output).map(|()| output)
}

/// What an independent reader finds in a datum.
fn read(schema: &str, datum: &[u8]) -> Avro {
    let schema = apache_avro::Schema::parse_str(schema).expect("a good schema");
    let mut rest = datum;
    let value = GenericDatumReader::builder(&schema).build().expect("a reader").read_value(&mut rest);
    let value = value.expect("a datum");
    assert!(rest.is_empty(), "{} bytes follow", rest.len());
    value
}

/// The field of the order that a payload (with an id, unless it has one) becomes, or the refusal.
fn field(name: &str, members: &str) -> Result<Avro, EventError> {
    let json =
        if members.contains("\"id\"") { format!("{{{members}}}") } else { format!("{{{members},\"id\":\"1\"}}") };
    let output = run(&plan(SCHEMA, None, UnknownFields::Reject), Payload::Json(json.as_bytes()))?;
    let Avro::Record(fields) = read(SCHEMA, &output.value) else { panic!("a record") };
    Ok(fields.into_iter().find(|(known, _)| known == name).expect("a field").1)
}

#[track_caller]
fn refused(members: &str, code: Code, part: &str) {
    let error = field("id", members).expect_err(members);
    assert!(error.code == code && error.message.contains(part), "{members}: {error:?}, not {code:?} {part}");
    assert!(!error.message.contains("secret"), "{error:?}");
}

#[track_caller]
fn taken(name: &str, member: &str, expected: Avro) {
    assert_eq!(field(name, member).unwrap_or_else(|error| panic!("{member}: {error:?}")), expected, "{member}");
}

#[test]
fn json_that_is_not_of_the_schema_is_refused_with_its_place() {
    use Code::*;
    refused(r#""id":1"#, InvalidPayload, "$.id: expected a string for `string`, received a number");
    refused(r#""id":null"#, InvalidPayload, "$.id: expected a string for `string`, received null");
    refused(r#""cents":1,"cents":2"#, InvalidPayload, "$.cents: the field stands there twice");
    refused(r#""cents":1.5"#, InvalidPayload, "$.cents: expected an integer");
    refused(r#""cents":9223372036854775808"#, OutOfRange, "$.cents: the number does not fit `long`");
    refused(r#""cents":"secret""#, InvalidPayload, "$.cents: the string is not long");
    refused(r#""count":2147483648"#, OutOfRange, "$.count: the number does not fit `int`");
    refused(r#""small":1e39"#, OutOfRange, "$.small: the number does not fit `float`");
    refused(
        r#""colour":"secret""#,
        UnknownEnumValue,
        "$.colour: the string is none of the symbols of enum `shop.v1.Colour`",
    );
    refused(r#""tags":{"a":"1","\u0061":"2"}"#, InvalidPayload, "$.tags: the map has the same key twice");
    refused(r#""tags":{"a":"1","b":2}"#, InvalidPayload, "$.tags[1]: expected a string");
    refused(r#""items":[{"sku":"1"},{}]"#, MissingField, "$.items[1].sku: the field is missing");
    refused(r#""items":[{"sku":"1","next":{"sku":2}}]"#, InvalidPayload, "$.items[0].next.sku: expected a string");
    refused(r#""items":[{"sku":"1","other":2}]"#, UnknownField, "$.items[0]: `shop.v1.Item` has no field `other`");
    refused(r#""raw":"secret!""#, InvalidPayload, "$.raw: the string is not base64");
    refused(r#""half":"YWJj""#, InvalidPayload, "$.half: expected 2 bytes, received 3");
    refused(
        r#""note":{"string":"secret"}"#,
        InvalidPayload,
        "$.note: expected a string for `string`, received an object",
    );
    refused(
        r#""either":{"text":"secret"}"#,
        InvalidPayload,
        "$.either: expected one member whose name is the type: `null` or `string` or `long`",
    );
    refused(r#""either":{"long":1,"string":"secret"}"#, InvalidPayload, "$.either: expected one member");
    refused(r#""either":{}"#, InvalidPayload, "$.either: expected one member");
    refused(
        r#""what":{"sku":"1"}"#,
        InvalidPayload,
        "$.what: expected one member whose name is the type: `null` or `shop.v1.Item`",
    );
    refused(r#""id":"1" x"#, MalformedJson, "");
    let bytes = run(&plan(SCHEMA, None, UnknownFields::Reject), Payload::Json(b"{\"id\":\"\xff\"}"));
    assert_eq!(bytes.map_err(|error| error.code).err(), Some(InvalidUtf8));
    let protobuf = run(&plan(SCHEMA, None, UnknownFields::Reject), Payload::Protobuf(b""));
    assert_eq!(protobuf.map_err(|error| error.code).err(), Some(WrongFormat));
    let deep = format!(
        "\"items\":[{{\"sku\":\"1\",\"next\":{}null{}}}]",
        "{\"sku\":\"1\",\"next\":".repeat(200),
        "}".repeat(200)
    );
    refused(&deep, TooDeep, "nest deeper than 100");
}

#[test]
fn json_becomes_what_a_user_expects() {
    let union = |at: u32, value: Avro| Avro::Union(at, Box::new(value));
    let text = |text: &str| Avro::String(text.to_owned());
    taken("cents", r#""paid":true"#, Avro::Long(7));
    taken("cents", r#""cents":"9007199254740993""#, Avro::Long(9_007_199_254_740_993));
    taken("cents", r#""cents":1e3"#, Avro::Long(1_000));
    taken("count", r#""paid":true"#, Avro::Int(-1));
    taken("note", r#""note":"a\u00e9""#, union(1, text("aé")));
    taken("note", r#""note":null"#, union(0, Avro::Null));
    taken("maybe", r#""maybe":null"#, union(1, Avro::Null));
    taken("maybe", r#""paid":true"#, union(0, text("x")));
    taken("nothing_said", r#""paid":true"#, union(0, Avro::Null));
    taken("either", r#""either":"5""#, union(1, text("5")));
    taken("either", r#""either":5"#, union(2, Avro::Long(5)));
    taken("either", r#""either":true"#, union(3, Avro::Boolean(true)));
    taken("either", r#""either":[1]"#, union(4, Avro::Array(vec![Avro::Int(1)])));
    taken("either", r#""either":{"long":"5"}"#, union(2, Avro::Long(5)));
    taken(
        "what",
        r#""what":{"shop.v1.Other":{"sku":"1"}}"#,
        union(2, Avro::Record(vec![("sku".to_owned(), text("1"))])),
    );
    taken("colour", r#""paid":true"#, Avro::Enum(1, "GREEN".to_owned()));
    taken("raw", r#""paid":true"#, Avro::Bytes(vec![0xff]));
    taken("raw", r#""raw":"_w""#, Avro::Bytes(vec![0xff]));
    taken("half", r#""half":"YWI=""#, Avro::Fixed(2, b"ab".to_vec()));
    taken("ratio", r#""ratio":"-Infinity""#, Avro::Double(f64::NEG_INFINITY));
    taken("ratio", r#""paid":true"#, Avro::Double(0.5));
    // Members in any order, nested lists of more than 63 items, whose count takes two bytes.
    let items: Vec<_> = (0..100).map(|n| format!("{{\"next\":{{\"sku\":\"n{n}\"}},\"sku\":\"{n}\"}}")).collect();
    let found =
        field("items", &format!("\"items\":[{}],\"id\":\"1\",\"tags\":{{\"b\":\"1\",\"a\":\"2\"}}", items.join(",")));
    let Ok(Avro::Array(found)) = found else { panic!("{found:?}") };
    assert_eq!(found.len(), 100);
    let last = Avro::Record(vec![("sku".to_owned(), text("n99")), ("next".to_owned(), union(0, Avro::Null))]);
    assert_eq!(found[99], Avro::Record(vec![("sku".to_owned(), text("99")), ("next".to_owned(), union(1, last))]));
}

#[test]
fn logical_types_take_their_text_or_their_number() {
    let check = |of: &str, json: &str, expected: Result<&[u8], &str>| {
        let plan = plan(of, None, UnknownFields::Reject);
        let found = run(&plan, Payload::Json(json.as_bytes())).map(|output| output.value);
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{of} {json}"),
            (Err(error), Err(part)) => assert!(error.message.contains(part), "{of} {json}: {error:?}"),
            _ => panic!("{of} {json}: {found:?}, not {expected:?}"),
        }
    };
    let long = |value: i64| {
        let mut out = Vec::new();
        push_long(&mut out, value);
        out
    };
    let date = r#"{"type":"int","logicalType":"date"}"#;
    check(date, r#""2026-02-30""#, Err("not a date such as"));
    check(date, r#""2026-01-01T00:00:00Z""#, Err("not a date such as"));
    check(date, r#""1970-01-03""#, Ok(&[4]));
    check(date, r#""1969-12-31""#, Ok(&[1]));
    check(date, "-1", Ok(&[1]));
    let time = r#"{"type":"int","logicalType":"time-millis"}"#;
    check(time, r#""08:30:00+01:00""#, Err("not a time such as"));
    check(time, r#""24:00""#, Err("not a time such as"));
    check(time, r#""00:00:00.0025""#, Ok(&[4]));
    check(time, r#""08:30""#, Ok(&long(30_600_000)));
    let micros = r#"{"type":"long","logicalType":"timestamp-micros"}"#;
    check(micros, r#""2026-01-31T08:30:00""#, Err("not an RFC 3339 timestamp"));
    check(micros, r#""1970-01-01T01:00:00.0000019+01:00""#, Ok(&[2]));
    check(micros, r#""1969-12-31T23:59:59.9999999Z""#, Ok(&[1]));
    check(micros, "1.5", Err("expected an integer"));
    let nanos = r#"{"type":"long","logicalType":"timestamp-nanos"}"#;
    check(nanos, r#""9999-12-31T00:00:00Z""#, Err("does not fit `timestamp`"));
    let local = r#"{"type":"long","logicalType":"local-timestamp-millis"}"#;
    check(local, r#""1970-01-01T00:00:00Z""#, Err("without offset"));
    check(local, r#""1970-01-01T00:00:00.002""#, Ok(&[4]));
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":5,"scale":2}"#;
    check(decimal, r#""12.345""#, Err("does not fit a decimal of 5 digits, 2 of them fractional"));
    check(decimal, "123.4", Ok(&[4, 0x30, 0x34]));
    check(decimal, "1234", Err("does not fit"));
    check(decimal, "1e400", Err("does not fit"));
    check(decimal, r#""secret""#, Err("not a decimal such as"));
    check(decimal, "-1.00", Ok(&[2, 0x9c]));
    check(decimal, "1.28", Ok(&[4, 0, 0x80]));
    check(decimal, "12.500e0", Ok(&[4, 4, 0xe2]));
    check(decimal, "0.00", Ok(&[2, 0]));
    let fixed = r#"{"type":"fixed","name":"D","size":3,"logicalType":"decimal","precision":5,"scale":0}"#;
    check(fixed, "-2", Ok(&[0xff, 0xff, 0xfe]));
    check(fixed, "300", Ok(&[0, 1, 44]));
    let uuid = r#"{"type":"string","logicalType":"uuid"}"#;
    check(uuid, r#""6fa459ea-ee8a-3ca4-894e""#, Err("not a UUID"));
    let text = "6fa459ea-ee8a-3ca4-894e-db77e160355e";
    check(uuid, &format!("\"{text}\""), Ok(&[&[72], text.as_bytes()].concat()));
    let wide = r#"{"type":"bytes","logicalType":"decimal","precision":39,"scale":0}"#;
    assert!(AvroPlan::compile(wide, &[], None, UnknownFields::Reject).is_err_and(|e| e.message.contains("39 digits")));
}

#[test]
fn a_datum_that_is_not_of_the_schema_is_refused() {
    let check = |of: &str, datum: &[u8], code: Code, part: &str| {
        let error = run(&plan(of, None, UnknownFields::Reject), Payload::Avro(datum)).expect_err(of);
        assert!(error.code == code && error.message.contains(part), "{of} {datum:?}: {error:?}");
    };
    let array = |items: &str| format!("{{\"type\":\"array\",\"items\":{items}}}");
    check("\"string\"", &[], Code::MalformedAvro, "ends within a number");
    check("\"string\"", &[4, b'a'], Code::MalformedAvro, "ends within a value");
    check("\"string\"", &[1], Code::MalformedAvro, "a length is negative");
    check("\"string\"", &[2, 0xff], Code::InvalidUtf8, "$: a string is not valid UTF-8");
    check("\"string\"", &[2, b'a', 0], Code::MalformedAvro, "1 bytes follow the datum");
    check("\"long\"", &[0xff; 11], Code::MalformedAvro, "more than 64 bits");
    check("\"int\"", &[0x80, 0x80, 0x80, 0x80, 0x10], Code::MalformedAvro, "an int has more than 32 bits");
    check("\"boolean\"", &[2], Code::MalformedAvro, "a boolean is 0 or 1");
    check("[\"null\",\"long\"]", &[4, 2], Code::MalformedAvro, "no such branch");
    check(r#"{"type":"enum","name":"E","symbols":["A"]}"#, &[2], Code::UnknownEnumValue, "enum `E`");
    check(&array("\"int\""), &[4, 2], Code::MalformedAvro, "$[1]: the payload ends within a number");
    check(&array("\"int\""), &[3, 100, 2, 2], Code::MalformedAvro, "a block is larger");
    check(
        &array("\"null\""),
        &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        Code::PayloadExpands,
        "would become",
    );
    check(
        &array("\"null\""),
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0],
        Code::MalformedAvro,
        "too many items",
    );
    let map = r#"{"type":"map","values":"int"}"#;
    check(map, &[4, 2, b'a', 2, 2, b'a', 2, 0], Code::InvalidPayload, "same key twice");
    let recursive = r#"{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]}"#;
    check(recursive, &[], Code::TooDeep, "nest deeper");
}

#[test]
fn a_datum_is_stored_in_its_canonical_form() {
    let check = |of: &str, datum: &[u8], expected: &[u8]| {
        let output = run(&plan(of, None, UnknownFields::Reject), Payload::Avro(datum)).expect("a good datum");
        assert_eq!(output.value, expected, "{of} {datum:?}");
    };
    check("\"long\"", &[0x82, 0x80, 0], &[2]);
    let ints = r#"{"type":"array","items":"int"}"#;
    check(ints, &[0], &[0]);
    check(ints, &[2, 2, 3, 4, 4, 6, 0], &[6, 2, 4, 6, 0]);
    let map = r#"{"type":"map","values":"int"}"#;
    check(map, &[2, 2, b'a', 2, 1, 6, 2, b'b', 4, 0], &[4, 2, b'a', 2, 2, b'b', 4, 0]);
}

#[test]
fn a_payload_may_come_in_base64() {
    let plan = plan("\"bytes\"", None, UnknownFields::Reject);
    let check = |text: &[u8], expected: Result<&[u8], Code>| {
        let found = run(&plan, Payload::Base64(text)).map(|output| output.value).map_err(|error| error.code);
        assert_eq!(found.as_deref(), expected.as_ref().copied(), "{text:?}");
    };
    check(b"!", Err(Code::WrongFormat));
    check(b"\\u0041", Err(Code::WrongFormat));
    check(b"Av8=", Ok(&[2, 0xff]));
    check(b"Av8", Ok(&[2, 0xff]));
    check(b"CP\\/\\/\\/\\/8", Ok(&[8, 0xff, 0xff, 0xff, 0xff]));
}

#[test]
fn unknown_members_go_where_the_event_type_says() {
    let schema =
        r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"record","name":"I","fields":[]}}]}"#;
    let json = br#"{"x":{"y":[1]},"a":{"z":1},"q\"":2}"#;
    let dropped = run(&plan(schema, None, UnknownFields::Drop), Payload::Json(json)).expect("taken");
    assert_eq!((dropped.fields_dropped, dropped.first_dropped.as_str()), (3, "$: `R` has no field `x`"));
    let moved = run(&plan(schema, None, UnknownFields::Properties), Payload::Json(json)).expect("taken");
    assert_eq!((moved.fields_dropped, moved.properties.as_slice()), (1, &br#""x":{"y":[1]},"q\"":2"#[..]));
    let twice = run(&plan(schema, None, UnknownFields::Properties), Payload::Json(br#"{"x":1,"a":{},"x":2}"#));
    assert!(twice.is_err_and(|error| error.message.contains("member `x` stands there twice")));
}

#[test]
fn a_key_is_read_from_its_field() {
    let check = |path: &str, members: &str, expected: Option<&str>| {
        let json = format!("{{\"id\":\"1\",{members}}}");
        let output =
            run(&plan(SCHEMA, Some(path), UnknownFields::Reject), Payload::Json(json.as_bytes())).expect("taken");
        let key = output.has_key.then(|| String::from_utf8(output.key).expect("text"));
        assert_eq!(key.as_deref(), expected, "{path} {members}");
    };
    check("note", r#""paid":true"#, None);
    check("note", r#""note":"n","tags":{"a":"1"}"#, Some("n"));
    check("cents", r#""cents":-5"#, Some("-5"));
    check("paid", r#""paid":true"#, Some("true"));
    check("colour", r#""items":[{"sku":"1"}]"#, Some("GREEN"));
    check("raw", r#""items":[{"sku":"1","next":{"sku":"2"}}],"what":{"shop.v1.Other":{"sku":"1"}}"#, Some("/w=="));
    for (path, part) in [
        ("nobody", "`shop.v1.Order` has no field `nobody`; it has `id`"),
        ("tags", "a map is no key"),
        ("ratio", "a double is no key"),
        ("what.sku", "a union has no field `sku`"),
        ("id.x", "a string has no field `x`"),
    ] {
        let error = AvroPlan::compile(SCHEMA, &[], Some(path), UnknownFields::Reject).expect_err(path);
        assert!(error.message.contains(part), "{path}: {error}");
    }
}

#[test]
fn types_may_come_from_references() {
    let item = r#"{"type":"record","name":"shop.v1.Item","fields":[{"name":"sku","type":"string"}]}"#.to_owned();
    let order = r#"{"type":"record","name":"shop.v1.Order","fields":[{"name":"a","type":"Item"},{"name":"b","type":["null","shop.v1.Item"]}]}"#;
    let plan = AvroPlan::compile(order, &[item], Some("a.sku"), UnknownFields::Reject).expect("a good schema");
    let output = run(&Transcoder::Avro(plan), Payload::Json(br#"{"b":{"sku":"2"},"a":{"sku":"1"}}"#)).expect("taken");
    assert_eq!((output.value.as_slice(), output.key.as_slice()), (&[2, b'1', 2, 2, b'2'][..], &b"1"[..]));
}

#[test]
fn a_small_payload_does_not_become_a_large_record() {
    let schema = format!(
        r#"{{"type":"array","items":{{"type":"record","name":"R","fields":[{{"name":"a","type":"string","default":"{}"}}]}}}}"#,
        "x".repeat(10_000)
    );
    let json = format!("[{}]", vec!["{}"; 1_000].join(","));
    let error =
        run(&plan(&schema, None, UnknownFields::Reject), Payload::Json(json.as_bytes())).expect_err("too large");
    assert_eq!(error.code, Code::PayloadExpands);
    let huge = schema.replace(&"x".repeat(10_000), &"x".repeat(70_000));
    assert!(AvroPlan::compile(&huge, &[], None, UnknownFields::Reject).is_err_and(|e| e.message.contains("too large")));
    let wrong = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int","default":"x"}]}"#;
    assert!(AvroPlan::compile(wrong, &[], None, UnknownFields::Reject).is_err());
}

proptest! {
    #[test]
    fn no_datum_panics_and_what_is_taken_is_a_datum(datum: Vec<u8>) {
        let plan = plan(SCHEMA, Some("colour"), UnknownFields::Reject);
        if let Ok(output) = run(&plan, Payload::Avro(&datum)) {
            read(SCHEMA, &output.value);
        }
    }

    #[test]
    fn the_datum_of_json_is_canonical(
        id in ".{0,80}", cents: i64, tags in proptest::collection::btree_map(".{0,5}", ".{0,5}", 0..80), skus in proptest::collection::vec(".{0,9}", 0..80),
    ) {
        let items: Vec<_> = skus.iter().map(|sku| serde_json::json!({"sku": sku, "next": {"sku": sku}})).collect();
        let json = serde_json::json!({"id": id, "cents": cents, "tags": tags, "items": items}).to_string();
        let plan = plan(SCHEMA, Some("id"), UnknownFields::Reject);
        let first = run(&plan, Payload::Json(json.as_bytes())).expect("taken");
        prop_assert_eq!(first.key.as_slice(), id.as_bytes());
        let Avro::Record(fields) = read(SCHEMA, &first.value) else { panic!("a record") };
        prop_assert_eq!(&fields[0].1, &Avro::String(id));
        prop_assert_eq!(&fields[1].1, &Avro::Long(cents));
        let Avro::Map(found) = &fields[9].1 else { panic!("a map") };
        prop_assert_eq!(found.len(), tags.len());
        let again = run(&plan, Payload::Avro(&first.value)).expect("its own datum");
        prop_assert_eq!(again.value, first.value);
    }

    #[test]
    fn no_json_panics(json in r#"[{}\[\]",:a-z0-9\\. ]{0,60}"#) {
        let _ = run(&plan(SCHEMA, None, UnknownFields::Drop), Payload::Json(json.as_bytes()));
    }
}
