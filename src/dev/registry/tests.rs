//! The embedded registry as a client sees it.

use serde_json::{Value, json};

use super::*;

const PROTO: &str = "syntax = \"proto3\"; package a; message A { string the_id = 1; map<string, int32> m = 2; }";

async fn start() -> EmbeddedRegistry {
    EmbeddedRegistry::start(Options::default()).await.expect("a free port")
}

async fn ask(registry: &EmbeddedRegistry, method: &str, path: &str, body: Value) -> (u16, Value) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("no settings to be wrong");
    let method = method.parse().expect("a method");
    let request = client.request(method, format!("{}{path}", registry.url()));
    let request = if body.is_null() { request } else { request.body(body.to_string()) };
    let response = request.send().await.expect("it answers");
    let status = response.status().as_u16();
    let body = response.bytes().await.expect("it ends");
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// Makes a request after others, and compares status and error code, or the answer.
async fn check(registry: &EmbeddedRegistry, method: &str, path: &str, body: Value, expected: (u16, Value)) {
    let (status, answer) = ask(registry, method, path, body).await;
    let shown = answer.get("error_code").cloned().unwrap_or_else(|| answer.clone());
    assert_eq!((status, shown), expected, "{method} {path} answered {answer}");
}

fn proto(text: &str) -> Value {
    json!({"schemaType": "PROTOBUF", "schema": text})
}

fn avro(fields: &str) -> Value {
    json!({"schema": format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)})
}

const X: &str = r#"{"name":"x","type":"int"}"#;

#[tokio::test]
async fn an_avro_schema_whose_defaults_double_with_each_level_is_refused_at_once() {
    let r = &start().await;
    let records: Vec<_> = (1..40)
        .map(|i| {
            let of = |name: &str| json!({"name": name, "type": format!("R{}", i - 1), "default": {}});
            json!({"type": "record", "name": format!("R{i}"), "fields": [of("a"), of("b")]})
        })
        .collect();
    let first = json!({"type": "record", "name": "R0", "fields": []});
    let schema = json!([vec![first], records].concat()).to_string();
    let asked = ask(r, "POST", "/subjects/s/versions", json!({"schema": schema}));
    let (status, answer) = tokio::time::timeout(std::time::Duration::from_secs(60), asked).await.expect("an answer");
    assert_eq!((status, answer["error_code"].as_u64()), (422, Some(42_201)), "{answer}");
}

#[tokio::test]
async fn what_is_not_there_or_not_right_has_confluents_error_code() {
    let r = &start().await;
    ask(r, "POST", "/subjects/s/versions", avro(X)).await;
    for (method, path, body, status, code) in [
        ("GET", "/subjects/no/versions", Value::Null, 404, 40_401),
        ("GET", "/subjects/no/versions/1", Value::Null, 404, 40_401),
        ("GET", "/subjects/s/versions/9", Value::Null, 404, 40_402),
        ("GET", "/subjects/s/versions/abc", Value::Null, 422, 42_202),
        ("GET", "/subjects/s/versions/0", Value::Null, 422, 42_202),
        ("GET", "/schemas/ids/99", Value::Null, 404, 40_403),
        ("GET", "/schemas/guids/x", Value::Null, 404, 40_403),
        ("GET", "/nothing/here", Value::Null, 404, 404),
        ("POST", "/subjects/no", avro(X), 404, 40_401),
        ("POST", "/subjects/s", avro(""), 404, 40_403),
        ("POST", "/subjects/s", Value::Null, 422, 42_201),
        ("POST", "/subjects/s/versions", json!({"schema": "{"}), 422, 42_201),
        ("POST", "/subjects/s/versions", json!({"schema": "{}", "schemaType": "XML"}), 422, 42_201),
        ("POST", "/subjects/s/versions", json!({"schema": "[1]", "schemaType": "JSON"}), 422, 42_201),
        ("POST", "/subjects/s/versions", proto("message A { B b = 1; }"), 422, 42_201),
        ("POST", "/subjects/s/versions", proto("AAAA"), 422, 42_201),
        ("POST", "/subjects/s/versions", proto(&" ".repeat(2 << 20)), 422, 42_209),
        ("POST", "/subjects/a%00b/versions", avro(X), 422, 42_208),
        ("DELETE", "/subjects/no", Value::Null, 404, 40_401),
        ("DELETE", "/subjects/s?permanent=true", Value::Null, 404, 40_405),
        ("DELETE", "/subjects/s/versions/1?permanent=true", Value::Null, 404, 40_407),
        ("GET", "/config/s", Value::Null, 404, 40_408),
        ("PUT", "/config", json!({"compatibility": "SOME"}), 422, 42_203),
        ("GET", "/mode/s", Value::Null, 404, 40_409),
        ("PUT", "/mode", json!({"mode": "IMPORT"}), 422, 42_204),
        ("PATCH", "/config", Value::Null, 405, 405),
    ] {
        check(r, method, path, body, (status, code.into())).await;
    }
    let missing = json!({"schemaType": "PROTOBUF", "schema": PROTO,
        "references": [{"name": "b.proto", "subject": "b", "version": 1}]});
    check(r, "POST", "/subjects/a/versions", missing, (422, 42_201.into())).await;
    let huge = proto(&" ".repeat(5 << 20));
    check(r, "POST", "/subjects/s/versions", huge, (413, 42_209.into())).await;
}

#[tokio::test]
async fn one_schema_has_one_id_and_one_version_a_subject() {
    let r = &start().await;
    let (_, first) = ask(r, "POST", "/subjects/a/versions", proto(PROTO)).await;
    assert_eq!((&first["id"], &first["version"]), (&json!(1), &json!(1)));
    let spaced = format!("// a comment\n{PROTO}\n\n");
    let (_, again) = ask(r, "POST", "/subjects/a/versions?normalize=true", proto(&spaced)).await;
    assert_eq!((&again["id"], &again["version"], &again["guid"]), (&json!(1), &json!(1), &first["guid"]));
    let (_, elsewhere) = ask(r, "POST", "/subjects/b/versions", proto(PROTO)).await;
    assert_eq!((&elsewhere["id"], &elsewhere["version"]), (&json!(1), &json!(1)));
    check(r, "GET", "/subjects", Value::Null, (200, json!(["a", "b"]))).await;
    check(r, "GET", "/subjects?subjectPrefix=b", Value::Null, (200, json!(["b"]))).await;
    check(r, "GET", "/schemas/ids/1/subjects", Value::Null, (200, json!(["a", "b"]))).await;
    let users = json!([{"subject": "a", "version": 1}, {"subject": "b", "version": 1}]);
    check(r, "GET", "/schemas/ids/1/versions", Value::Null, (200, users)).await;
    let (_, found) = ask(r, "POST", "/subjects/b", proto(&spaced)).await;
    assert_eq!((&found["subject"], &found["version"], &found["id"]), (&json!("b"), &json!(1), &json!(1)));
    let (_, by_guid) =
        ask(r, "GET", &format!("/schemas/guids/{}", first["guid"].as_str().expect("one")), Value::Null).await;
    assert_eq!(by_guid["schema"], json!(PROTO));
}

#[tokio::test]
async fn text_and_base64_form_are_one_schema() {
    let r = &start().await;
    ask(r, "POST", "/subjects/a/versions", proto(PROTO)).await;
    let (_, serialized) = ask(r, "GET", "/schemas/ids/1?format=serialized", Value::Null).await;
    let encoded = serialized["schema"].as_str().expect("text");
    assert!(BASE64.decode(encoded).is_ok(), "{encoded}");
    let (status, found) = ask(r, "POST", "/subjects/a", proto(encoded)).await;
    assert_eq!((status, &found["id"]), (200, &json!(1)));
    let (_, elsewhere) = ask(r, "POST", "/subjects/b/versions", proto(encoded)).await;
    assert_eq!(elsewhere["id"], json!(1));
    let renamed = PROTO.replace("= 1;", "= 1 [json_name = \"ID\"];");
    let (_, other) = ask(r, "POST", "/subjects/c/versions", proto(&renamed)).await;
    assert_eq!(other["id"], json!(2), "a JSON name of one's own is another schema");
}

#[tokio::test]
async fn the_latest_version_is_the_newest_that_is_not_deleted() {
    let r = &start().await;
    let two = format!("{X},{}", r#"{"name":"y","type":"int","default":0}"#);
    ask(r, "POST", "/subjects/s/versions", avro(X)).await;
    ask(r, "POST", "/subjects/s/versions", avro(&two)).await;
    for latest in ["latest", "-1"] {
        let (_, found) = ask(r, "GET", &format!("/subjects/s/versions/{latest}"), Value::Null).await;
        assert_eq!(found["version"], json!(2));
        assert_eq!(found.get("schemaType"), None, "Avro is the type that is not said");
    }
    check(r, "DELETE", "/subjects/s/versions/latest", Value::Null, (200, json!(2))).await;
    check(r, "DELETE", "/subjects/s/versions/2", Value::Null, (404, 40_406.into())).await;
    check(r, "GET", "/subjects/s/versions", Value::Null, (200, json!([1]))).await;
    check(r, "GET", "/subjects/s/versions?deleted=true", Value::Null, (200, json!([1, 2]))).await;
    let (status, _) = ask(r, "GET", "/schemas/ids/2", Value::Null).await;
    assert_eq!(status, 200, "what was written with it can still be read");
    check(r, "DELETE", "/subjects/s/versions/2?permanent=true", Value::Null, (200, json!(2))).await;
    check(r, "GET", "/schemas/ids/2", Value::Null, (404, 40_403.into())).await;
    check(r, "DELETE", "/subjects/s", Value::Null, (200, json!([1]))).await;
    check(r, "DELETE", "/subjects/s", Value::Null, (404, 40_404.into())).await;
    check(r, "GET", "/subjects", Value::Null, (200, json!([]))).await;
    check(r, "GET", "/subjects?deleted=true", Value::Null, (200, json!(["s"]))).await;
    check(r, "DELETE", "/subjects/s?permanent=true", Value::Null, (200, json!([1]))).await;
    check(r, "GET", "/subjects?deleted=true", Value::Null, (200, json!([]))).await;
    let (_, anew) = ask(r, "POST", "/subjects/s/versions", avro(X)).await;
    assert_eq!((&anew["id"], &anew["version"]), (&json!(3), &json!(1)), "an id is never given again");
}

#[tokio::test]
async fn what_others_refer_to_is_not_deleted() {
    let r = &start().await;
    ask(r, "POST", "/subjects/b/versions", proto("syntax = \"proto3\"; package b; message B {}")).await;
    let referring = json!({"schemaType": "PROTOBUF",
        "schema": "syntax = \"proto3\"; package a; import \"b.proto\"; message A { b.B b = 1; }",
        "references": [{"name": "b.proto", "subject": "b", "version": 1}]});
    let (status, _) = ask(r, "POST", "/subjects/a/versions", referring.clone()).await;
    assert_eq!(status, 200);
    let (_, found) = ask(r, "GET", "/subjects/a/versions/1", Value::Null).await;
    assert_eq!(found["references"], referring["references"]);
    check(r, "GET", "/subjects/b/versions/1/referencedby", Value::Null, (200, json!([2]))).await;
    check(r, "DELETE", "/subjects/b", Value::Null, (422, 42_206.into())).await;
    check(r, "DELETE", "/subjects/b/versions/1", Value::Null, (422, 42_206.into())).await;
    check(r, "DELETE", "/subjects/a", Value::Null, (200, json!([1]))).await;
    check(r, "DELETE", "/subjects/b", Value::Null, (200, json!([1]))).await;
}

#[tokio::test]
async fn compatibility_is_judged_at_the_level_of_the_subject() {
    let r = &start().await;
    let wider = format!("{X},{}", r#"{"name":"y","type":"int"}"#);
    ask(r, "POST", "/subjects/s/versions", avro(X)).await;
    check(r, "POST", "/subjects/s/versions", avro(&wider), (409, 409.into())).await;
    let path = "/compatibility/subjects/s/versions/latest";
    check(r, "POST", path, avro(&wider), (200, json!({"is_compatible": false}))).await;
    let (_, verbose) = ask(r, "POST", &format!("{path}?verbose=true"), avro(&wider)).await;
    let message = "{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', description:'R.y: the new schema needs it, version 1 \
        does not write it, and it has no default', oldSchemaVersion: 1, compatibility: 'BACKWARD'}";
    assert_eq!(verbose, json!({"is_compatible": false, "messages": [message]}));
    check(r, "POST", path, avro(""), (200, json!({"is_compatible": true}))).await;
    for (level, compatible) in [("NONE", true), ("FORWARD", true), ("FULL", false), ("BACKWARD_TRANSITIVE", false)] {
        check(r, "PUT", "/config/s", json!({"compatibility": level}), (200, json!({"compatibility": level}))).await;
        check(r, "GET", "/config/s", Value::Null, (200, json!({"compatibilityLevel": level}))).await;
        check(r, "POST", path, avro(&wider), (200, json!({"is_compatible": compatible}))).await;
    }
    check(r, "GET", "/config", Value::Null, (200, json!({"compatibilityLevel": "BACKWARD"}))).await;
}

#[tokio::test]
async fn a_transitive_level_looks_at_every_version() {
    let r = &start().await;
    let y = |kind: &str| format!("{X},{}", json!({"name": "y", "type": kind, "default": ""}));
    ask(r, "POST", "/subjects/s/versions", avro(&y("string"))).await;
    ask(r, "POST", "/subjects/s/versions", avro(X)).await;
    let number = avro(&format!("{X},{}", r#"{"name":"y","type":"int","default":0}"#));
    let path = "/compatibility/subjects/s/versions";
    check(r, "POST", path, number.clone(), (200, json!({"is_compatible": true}))).await;
    check(r, "POST", &format!("{path}/1"), number.clone(), (200, json!({"is_compatible": false}))).await;
    ask(r, "PUT", "/config/s", json!({"compatibility": "BACKWARD_TRANSITIVE"})).await;
    check(r, "POST", path, number.clone(), (200, json!({"is_compatible": false}))).await;
    check(r, "POST", "/subjects/s/versions", number, (409, 409.into())).await;
}

#[tokio::test]
async fn protobuf_is_judged_with_what_it_imports() {
    let r = &start().await;
    ask(r, "POST", "/subjects/p/versions", proto(PROTO)).await;
    let path = "/compatibility/subjects/p/versions";
    for (text, compatible) in [
        (PROTO.replace("the_id", "other"), true),
        (PROTO.replace("string the_id", "double the_id"), false),
        (PROTO.replace("package a", "package b"), false),
    ] {
        check(r, "POST", path, proto(&text), (200, json!({"is_compatible": compatible}))).await;
    }
    check(r, "POST", path, avro(X), (200, json!({"is_compatible": false}))).await;
    check(r, "POST", "/subjects/p/versions", avro(X), (409, 409.into())).await;

    let imported = |field: &str| proto(&format!("syntax = \"proto3\"; package b; message B {{ {field} }}"));
    let importing = |version: u32| {
        json!({"schemaType": "PROTOBUF",
            "schema": "syntax = \"proto3\"; package q; import \"b.proto\"; message Q { b.B b = 1; }",
            "references": [{"name": "b.proto", "subject": "b.proto", "version": version}]})
    };
    ask(r, "PUT", "/config/b.proto", json!({"compatibility": "NONE"})).await;
    for field in ["int32 x = 1;", "int32 y = 1;", "string x = 1;"] {
        let (status, answer) = ask(r, "POST", "/subjects/b.proto/versions", imported(field)).await;
        assert_eq!(status, 200, "{answer}");
    }
    ask(r, "POST", "/subjects/q/versions", importing(1)).await;
    let path = "/compatibility/subjects/q/versions/latest";
    check(r, "POST", path, importing(2), (200, json!({"is_compatible": true}))).await;
    check(r, "POST", path, importing(3), (200, json!({"is_compatible": false}))).await;
}

#[tokio::test]
async fn of_json_schemas_every_one_may_follow_every_other() {
    let r = &start().await;
    let schema = |text: &str| json!({"schemaType": "JSON", "schema": text});
    ask(r, "POST", "/subjects/j/versions", schema(r#"{"type":"string"}"#)).await;
    let (status, _) = ask(r, "POST", "/subjects/j/versions", schema(r#"{"type":"number"}"#)).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn lists_come_in_pages_with_what_is_deleted_or_without() {
    let r = &start().await;
    for name in ["a", "b", "c"] {
        ask(r, "POST", &format!("/subjects/{name}/versions"), avro(X)).await;
    }
    check(r, "DELETE", "/subjects/b", Value::Null, (200, json!([1]))).await;
    for (query, expected) in [
        ("", json!(["a", "c"])),
        ("?deleted=true", json!(["a", "b", "c"])),
        ("?deletedOnly=true", json!(["b"])),
        ("?offset=1", json!(["c"])),
        ("?limit=1", json!(["a"])),
        ("?deleted=true&offset=1&limit=1", json!(["b"])),
        ("?offset=9", json!([])),
        ("?limit=-1", json!(["a", "c"])),
    ] {
        check(r, "GET", &format!("/subjects{query}"), Value::Null, (200, expected)).await;
    }
    check(r, "GET", "/subjects/b/versions?deletedOnly=true", Value::Null, (200, json!([1]))).await;
}

#[tokio::test]
async fn what_it_does_not_have_is_refused_and_not_dropped() {
    let r = &start().await;
    let with = |name: &str| {
        let mut schema = avro(X);
        schema[name] = json!({});
        schema
    };
    for (method, path, body) in [
        ("POST", "/subjects/s/versions", with("metadata")),
        ("POST", "/subjects/s/versions", with("ruleSet")),
        ("PUT", "/config/s", json!({"compatibility": "FULL", "compatibilityGroup": "version"})),
    ] {
        check(r, method, path, body, (422, 42_205.into())).await;
    }
    let normalised = json!({"compatibility": "FULL", "normalize": true, "alias": null});
    check(r, "PUT", "/config/s", normalised, (200, json!({"compatibility": "FULL"}))).await;
}

#[tokio::test]
async fn a_subject_in_mode_readonly_takes_nothing_new() {
    let r = &start().await;
    ask(r, "POST", "/subjects/s/versions", avro(X)).await;
    check(r, "PUT", "/mode", json!({"mode": "READONLY"}), (200, json!({"mode": "READONLY"}))).await;
    check(r, "POST", "/subjects/s/versions", avro(""), (422, 42_205.into())).await;
    check(r, "DELETE", "/subjects/s", Value::Null, (422, 42_205.into())).await;
    let (status, _) = ask(r, "POST", "/subjects/s/versions", avro(X)).await;
    assert_eq!(status, 200, "what is registered already is only looked up");
    check(r, "PUT", "/mode/s", json!({"mode": "READWRITE"}), (200, json!({"mode": "READWRITE"}))).await;
    check(r, "DELETE", "/subjects/s", Value::Null, (200, json!([1]))).await;
    check(r, "DELETE", "/mode", Value::Null, (200, json!({"mode": "READONLY"}))).await;
    check(r, "GET", "/mode", Value::Null, (200, json!({"mode": "READWRITE"}))).await;
}

#[tokio::test]
async fn a_restart_finds_everything_in_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { folder: Some(folder.path().to_owned()), ..Options::default() };
    let first = EmbeddedRegistry::start(options.clone()).await.expect("started");
    let (_, registered) = ask(&first, "POST", "/subjects/a/versions", proto(PROTO)).await;
    ask(&first, "PUT", "/config/a", json!({"compatibility": "FULL"})).await;
    first.stop().await;
    let second = EmbeddedRegistry::start(options.clone()).await.expect("started again");
    let (_, found) = ask(&second, "GET", "/subjects/a/versions/1", Value::Null).await;
    assert_eq!((&found["guid"], &found["schema"]), (&registered["guid"], &json!(PROTO)));
    check(&second, "GET", "/config/a", Value::Null, (200, json!({"compatibilityLevel": "FULL"}))).await;
    second.stop().await;

    let file = folder.path().join("registry.json");
    for (content, expected) in [(r#"{"format":2}"#, "format 2"), ("{", "damaged"), (r#"{"format":1}"#, "damaged")] {
        std::fs::write(&file, content).expect("spoilt");
        let error = EmbeddedRegistry::start(options.clone()).await.expect_err("it is refused").to_string();
        assert!(error.contains(expected) && error.contains("registry.json"), "{error}");
        assert_eq!(std::fs::read_to_string(&file).expect("there"), content, "it is left as it was");
    }
}

#[tokio::test]
async fn tests_can_make_it_fail_and_count_its_requests() {
    let r = &start().await;
    r.set_failing(Some(503));
    check(r, "GET", "/subjects", Value::Null, (503, 503.into())).await;
    r.set_failing(None);
    check(r, "GET", "/subjects?deleted=true", Value::Null, (200, json!([]))).await;
    assert_eq!((r.requests(), r.requests_for("/subjects"), r.requests_for("/config")), (2, 2, 0));
}

#[tokio::test]
async fn a_taken_port_is_an_error() {
    let r = start().await;
    let error = EmbeddedRegistry::start(Options { listen: r.addr(), ..Options::default() }).await;
    assert_eq!(error.expect_err("it is taken").kind(), io::ErrorKind::AddrInUse);
}
