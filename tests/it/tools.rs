//! The commands around the proxy: what they refuse, and the way a schema takes into production.

use serde_json::json;

use super::support::fixture::Fixture;
use super::support::proxy::{Proxy, event_type};
use super::support::read_back::Reader;
use super::support::tool::{iguazu, taken_port};
use super::support::{folder, unique};

#[test]
fn check_lists_every_problem_with_its_line_and_exits_64() {
    let place = folder("check");
    let config = "[http]\nlisten = \"here\"\nlissten = 1\n\n[clusters.core]\nbrokers = []\n\n\
                  [events.\"a\"]\ncluster = \"cor\"\ntopic = \"a b\"\nencoding = \"avrow\"\n";
    std::fs::write(place.join("bad.toml"), config).expect("the folder is ours");
    for command in ["check", "proxy"] {
        let ended = iguazu(&place, &[command, "bad.toml"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(64), ""), "{command}: {}", ended.stderr);
        let listed =
            ["line 2: http.listen", "line 3: http.lissten", "line 6: clusters.core.brokers", "line 9:", "line 10:"];
        for problem in listed.into_iter().chain(["line 11:"]) {
            assert!(ended.stderr.contains(problem), "{command}: {problem:?} is missing:\n{}", ended.stderr);
        }
    }
    let missing = iguazu(&place, &["check", "nowhere.toml"]);
    assert_eq!(missing.code, Some(64), "{}", missing.stderr);
    assert!(missing.stderr.contains("nowhere.toml"), "{}", missing.stderr);
}

#[test]
fn a_proxy_whose_port_is_taken_says_which_setting_to_change() {
    let place = folder("proxy");
    let (_held, address) = taken_port();
    for (http, admin, setting) in [
        (address.to_string(), "127.0.0.1:0".to_owned(), "http.listen"),
        ("127.0.0.1:0".to_owned(), address.to_string(), "admin.listen"),
    ] {
        let config = format!("[http]\nlisten = {http:?}\n\n[admin]\nlisten = {admin:?}\n");
        std::fs::write(place.join("iguazu.toml"), config).expect("the folder is ours");
        let ended = iguazu(&place, &["proxy", "iguazu.toml", "--log-level", "warn"]);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        let said = format!("address {address} is in use; choose another with {setting}");
        assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn what_schema_register_registers_is_what_the_proxy_serves() {
    let fixture = Fixture::new();
    let (topic, subject) = (fixture.topic("it.registered"), unique("it.registered"));
    let place = folder("proxy");
    std::fs::create_dir_all(place.join("proto/it/v1")).expect("the folder is ours");
    let write = |file: &str, text: &str| {
        std::fs::write(place.join("proto").join(file), text).expect("the folder is ours");
    };
    // Imports and names of this test's own: an import is registered under its name, and tests share a registry.
    write(
        "it/v1/money.proto",
        "syntax = \"proto3\";\npackage it.v1;\n\nmessage Money {\n  int64 minor_units = 1;\n  string currency = 2;\n}\n",
    );
    write(
        "it/v1/paid.proto",
        "syntax = \"proto3\";\npackage it.v1;\n\nimport \"it/v1/money.proto\";\nimport \"google/protobuf/timestamp.proto\";\n\n\
         message Paid {\n  string order_id = 1;\n  Money total = 2;\n  google.protobuf.Timestamp paid_at = 3;\n  \
         map<string, Money> parts = 4;\n}\n",
    );
    let settings = format!(
        "subject = {subject:?}\nmessage = \"it.v1.Paid\"\navro_subject = \"{subject}-avro\"\nkey = \"order_id\""
    );
    let config = fixture.config() + &event_type("it.paid", &topic, "avro", &settings);
    std::fs::write(place.join("iguazu.toml"), &config).expect("the folder is ours");
    let register = ["schema", "register", "--config", "iguazu.toml", "--proto", "proto"];
    let first = iguazu(&place, &register).printed();
    assert!(first.contains("it.paid:") && first.contains("version 1"), "{first}");
    assert_eq!(iguazu(&place, &register).printed(), first, "what is registered stays as it is");

    let mut proxy = Proxy::start_in(place, &config);
    proxy.await_ready().await;
    let payload = json!({"order_id": "o-1", "total": {"minor_units": "1250", "currency": "EUR"},
        "paid_at": "2026-01-02T03:04:05Z", "parts": {"tip": {"minor_units": "50", "currency": "EUR"}}});
    let reply = proxy.send(&json!({"event": "it.paid", "payload": payload})).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    proxy.settled().await;
    proxy.finish();
    let records = Reader::new(&fixture.cluster, fixture.registry).read(&topic, 1);
    assert_eq!(records[0].key.as_deref(), Some(&b"o-1"[..]));
    let value = &records[0].value;
    assert_eq!((&value["total"]["minor_units"], &value["parts"]["tip"]["currency"]), (&json!(1250), &json!("EUR")));
}
