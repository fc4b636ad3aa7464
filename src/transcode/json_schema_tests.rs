use super::*;

fn compiled(schema: &str) -> JsonSchema {
    JsonSchema::compile(schema, &[], None).expect("a good schema")
}

#[track_caller]
fn check(schema: &str, payload: &str, expected: Result<(), (Code, &str)>) {
    let mut output = Output::default();
    let done = compiled(schema).transcode(Payload::Json(payload.as_bytes()), &mut output);
    match (done, expected) {
        (Ok(()), Ok(())) => assert_eq!(output.value, payload.as_bytes(), "stored as sent"),
        (Err(error), Err((code, part))) => {
            assert!(error.code == code && error.message.contains(part), "{error:?}, not {code:?} {part}");
            assert!(!error.message.contains("secret"), "{error:?}");
        }
        (done, _) => panic!("{payload}: {done:?}, not {expected:?}"),
    }
}

#[test]
fn what_would_take_forever_is_stopped() {
    let refused = Err((Code::PayloadExpands, "steps"));
    // Nothing but a circle is no condition.
    check(r##"{"allOf":[{"$ref":"#"}]}"##, "{}", Ok(()));
    let either = r##"{"type":"object","required":["a"],"anyOf":[
        {"properties":{"a":{"$ref":"#"}}},{"properties":{"a":{"$ref":"#"}}}]}"##;
    let deep = [&r#"{"a":"#.repeat(60), "{}", &"}".repeat(60)].concat();
    check(either, &deep, refused);
    let both = r##"{"type":["array","number"],"anyOf":[{"items":{"$ref":"#"}},{"items":{"$ref":"#"}}],"maximum":1}"##;
    check(both, &["[".repeat(60), "2".to_owned(), "]".repeat(60)].concat(), refused);
}

const ORDER: &str = r#"{"type":"object","required":["id"],"additionalProperties":false,"properties":{
    "id":{"type":"string","minLength":1},
    "cents":{"type":"integer","minimum":0},
    "mail":{"format":"email"},
    "colour":{"enum":["RED","GREEN"]},
    "lines":{"type":"array","items":{"$ref":"line.json"}}}}"#;
const LINE: &str = r#"{"type":"object","properties":{"sku":{"pattern":"^[A-Z]+$"}}}"#;

fn order(reference: &str, key: Option<&str>) -> Result<JsonSchema, PlanError> {
    JsonSchema::compile(ORDER, &[(reference.to_owned(), LINE.to_owned())], key)
}

#[test]
fn what_is_wrong_is_told_by_path_and_keyword_and_never_by_value() {
    let schema = order("line.json", None).expect("a good schema");
    let check = |payload: &str, code: Code, expected: &str| {
        let done = schema.transcode(Payload::Json(payload.as_bytes()), &mut Output::default());
        let error = done.expect_err(payload);
        assert!(
            error.code == code && error.message.contains(expected),
            "{payload}: {error:?}, not {code:?} {expected}"
        );
        assert!(!error.message.contains("secret"), "{error:?}");
    };
    let invalid = Code::InvalidPayload;
    check("{}", Code::MissingField, "$: `id` is missing (`required` at `#/required`)");
    check(r#"{"id":"1","other":"secret"}"#, Code::UnknownField, "$: `other` is no member that the schema allows");
    check(
        r#"{"id":""}"#,
        invalid,
        "$.id: the value does not satisfy the schema (`minLength` at `#/properties/id/minLength`)",
    );
    check(r#"{"id":"1","cents":-1}"#, invalid, "$.cents: the value does not satisfy the schema (`minimum`");
    check(r#"{"id":"1","mail":"secret"}"#, invalid, "$.mail: the value does not satisfy the schema (`format`");
    check(r#"{"id":"1","colour":"secret"}"#, invalid, "$.colour: the value does not satisfy the schema (`enum`");
    check(
        r#"{"id":"1","lines":[{},{"sku":"secret"}]}"#,
        invalid,
        "$.lines[1].sku: the value does not satisfy the schema (`pattern`",
    );
    check("\"secret\"", invalid, "$: the value does not satisfy the schema (`type`");
    check(r#"{"id":"1","id":"2"}"#, invalid, "member `id` stands there twice");
    check(r#"{"id":1e999}"#, Code::OutOfRange, "does not fit 64 bits");
    check(r#"{"id":"1""#, Code::MalformedJson, "byte 9");
    check(&"[".repeat(200), Code::TooDeep, "100 levels");
    check(&format!("\"{}\"", "a".repeat(JSON_PAYLOAD_BYTES_MAX)), Code::EventTooLarge, "may have 262144");
    for payload in [Payload::Binary(b"{}"), Payload::Avro(b"{}"), Payload::Protobuf(b"{}")] {
        let error = schema.transcode(payload, &mut Output::default()).expect_err("not JSON");
        assert_eq!(error.code, Code::WrongFormat);
    }
}

#[test]
fn a_payload_is_stored_as_it_was_sent_and_its_key_is_read() {
    let check = |key: &str, payload: &str, expected: Option<&str>| {
        let mut output = Output::default();
        let schema = order("line.json", Some(key)).expect("a good schema");
        schema.transcode(Payload::Json(payload.as_bytes()), &mut output).expect("taken");
        let found = output.has_key.then(|| String::from_utf8(output.key).expect("text"));
        assert_eq!((output.value.as_slice(), found.as_deref()), (payload.as_bytes(), expected), "{key} {payload}");
    };
    check("cents", r#" {"id": "1"} "#, None);
    check("cents", r#"{"id":"1","cents":5}"#, Some("5"));
    check("id", r#"{"id":"a\u00e9"}"#, Some("aé"));
}

#[test]
fn references_are_found_by_name_and_nowhere_else() {
    for name in ["line.json", "./line.json"] {
        order(name, None).expect(name);
    }
    let error = order("other.json", None).expect_err("there is none");
    assert!(error.message.contains("line.json"), "{error}");
    let by_id = r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"https://acme.example/order.json",
        "$ref":"https://acme.example/parts/line.json"}"##;
    let line = r#"{"$id":"https://acme.example/parts/line.json","type":"object"}"#;
    for (name, text) in [("whatever", line), ("https://acme.example/parts/line.json", LINE), ("parts/line.json", LINE)]
    {
        let schema = JsonSchema::compile(by_id, &[(name.to_owned(), text.to_owned())], None).expect(name);
        schema.transcode(Payload::Json(b"{}"), &mut Output::default()).expect("an object");
    }
    for remote in ["https://acme.example/x.json", "file:///etc/passwd", "http://127.0.0.1:1/"] {
        let schema = format!(r#"{{"$ref":"{remote}"}}"#);
        JsonSchema::compile(&schema, &[], None).expect_err(remote);
    }
}

#[test]
fn every_draft_that_registries_take_is_read() {
    let check = |schema: &str, payload: &str, taken: bool| {
        let done = compiled(schema).transcode(Payload::Json(payload.as_bytes()), &mut Output::default());
        assert_eq!(done.is_ok(), taken, "{schema} {payload}: {done:?}");
    };
    let draft4 = r#"{"$schema":"http://json-schema.org/draft-04/schema#","maximum":5,"exclusiveMaximum":true}"#;
    check(draft4, "5", false);
    check(draft4, "4", true);
    let draft6 = r#"{"$schema":"http://json-schema.org/draft-06/schema#","contains":{"const":1}}"#;
    check(draft6, "[2]", false);
    let draft7 =
        r#"{"$schema":"http://json-schema.org/draft-07/schema#","if":{"type":"string"},"then":{"minLength":2}}"#;
    check(draft7, "\"a\"", false);
    check(draft7, "1", true);
    // Without `$schema` it is draft 7, in which `items` may be a list and `prefixItems` means nothing.
    check(r#"{"items":[{"type":"string"}],"prefixItems":[{"type":"number"}]}"#, "[\"a\"]", true);
    let draft2019 = r#"{"$schema":"https://json-schema.org/draft/2019-09/schema","dependentRequired":{"a":["b"]}}"#;
    check(draft2019, "{\"a\":1}", false);
    let draft2020 = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","prefixItems":[{"type":"number"}]}"#;
    check(draft2020, "[\"a\"]", false);
    check("true", "{}", true);
    check("false", "{}", false);
}

#[test]
fn a_schema_that_is_none_is_refused_when_it_is_compiled() {
    for (schema, part) in [
        ("{", "is not JSON"),
        (r#"{"type":"strin"}"#, "cannot be used"),
        (r#"{"pattern":"("}"#, "cannot be used"),
        (r##"{"$ref":"#/nowhere"}"##, "cannot be used"),
        ("1", "cannot be used"),
    ] {
        let error = JsonSchema::compile(schema, &[], None).expect_err(schema);
        assert!(error.message.contains(part), "{schema}: {error}");
    }
    JsonSchema::compile(&["{\"not\":".repeat(500).as_str(), "{}", &"}".repeat(500)].concat(), &[], None)
        .expect_err("too deep");
}

#[test]
fn a_regular_expression_cannot_stall_its_thread() {
    let evil = r#"{"type":"string","pattern":"^(?=(a+)+$)(a+)+\\1$"}"#;
    let text = format!("\"{}!\"", "a".repeat(5_000));
    let begin = std::time::Instant::now();
    let done = compiled(evil).transcode(Payload::Json(text.as_bytes()), &mut Output::default());
    assert!(done.is_err());
    assert!(begin.elapsed() < std::time::Duration::from_secs(5), "{:?}", begin.elapsed());
}

/// Each level has two ways to the one below: failing, and holding.
fn diamonds(levels: usize, keyword: &str, leaf: &str) -> String {
    let level = |i: usize| {
        let below = format!(r##"{{"$ref":"#/definitions/d{i}"}}"##);
        format!(r#""d{}":{{"{keyword}":[{below},{below}]}}"#, i + 1)
    };
    let levels: Vec<_> = (0..levels).map(level).collect();
    let last = levels.len();
    format!(r##"{{"$ref":"#/definitions/d{last}","definitions":{{"d0":{leaf},{}}}}}"##, levels.join(","))
}

#[test]
fn ways_that_double_with_each_level_of_the_schema_are_stopped() {
    let refused = Err((Code::PayloadExpands, "steps"));
    for draft in ["", r#""$schema":"https://json-schema.org/draft/2020-12/schema","#] {
        let schema = |keyword: &str, leaf: &str| diamonds(40, keyword, leaf).replacen('{', &format!("{{{draft}"), 1);
        check(&schema("anyOf", r#"{"type":"integer"}"#), "\"secret\"", refused);
        check(&schema("oneOf", r#"{"const":1}"#), "2", refused);
        check(&schema("allOf", r#"{"type":"integer"}"#), "2", refused);
        check(&schema("anyOf", r#"{"type":"integer"}"#), "2", Ok(()));
    }
}

#[test]
fn long_lists_in_a_schema_are_counted() {
    let refused = Err((Code::PayloadExpands, "steps"));
    let numbers = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    let many = |value: &str, n: usize| format!("[{}]", vec![value; n].join(","));
    check(&format!(r#"{{"items":{{"enum":[{}]}}}}"#, numbers(50_000)), &many("49999", 40_000), refused);
    // A branch that fails is not counted itself, so its way is counted before it is taken.
    let either = format!(r#"{{"items":{{"anyOf":[{{"enum":[{}]}},true]}}}}"#, numbers(50_000));
    check(&either, &many("50001", 40_000), refused);
    let patterns: Vec<_> = (0..299).map(|i| format!(r#""^x{i}$":true"#)).collect();
    let members: Vec<_> = (0..5_000).map(|i| format!(r#""m{i}":1"#)).collect();
    let members = format!("{{{}}}", members.join(","));
    check(&format!(r#"{{"patternProperties":{{{}}}}}"#, patterns.join(",")), &members, refused);
    check(r#"{"patternProperties":{"^m[0-9]+$":{"type":"integer"}}}"#, &members, Ok(()));
    // What people write goes far below the limit.
    let countries = (0..250).map(|i| format!(r#""C{i}""#)).collect::<Vec<_>>().join(",");
    check(&format!(r#"{{"items":{{"enum":[{countries}]}}}}"#), &many("\"C249\"", 30_000), Ok(()));
}

#[test]
fn a_schema_that_is_too_large_is_refused_when_it_is_compiled() {
    let refused = |schema: String, part: &str| {
        let error = JsonSchema::compile(&schema, &[], None).expect_err(part);
        assert!(error.message.contains(part) && error.message.len() < 1_000, "{error}");
    };
    let patterns: Vec<_> = (0..301).map(|i| format!(r#"{{"pattern":"^a{i}"}}"#)).collect();
    refused(format!(r#"{{"anyOf":[{}]}}"#, patterns.join(",")), "more than 300 regular expressions");
    refused(r#"{"pattern":"(a{1,999}){1,999}"}"#.to_owned(), "cannot be used");
    let properties: Vec<_> = (0..20_001).map(|i| format!(r#""p{i}":{{}}"#)).collect();
    refused(format!(r#"{{"properties":{{{}}}}}"#, properties.join(",")), "more than 20000 schemas");
    // It goes on after an item that is none of the list, before anything is counted.
    let numbers: Vec<_> = (0..2_000).map(|i| i.to_string()).collect();
    refused(
        format!(r#"{{"contains":{{"enum":[{}]}}}}"#, numbers.join(",")),
        "`contains` beside a list of more than 1024",
    );
    compiled(r#"{"contains":{"enum":[1,2,3]}}"#);
}
