//! The commands around the proxy: what they refuse, and the way a schema takes into production.

use std::path::Path;

use serde_json::json;

use super::support::fixture::Fixture;
use super::support::proxy::{Proxy, event_type, with_settings};
use super::support::read_back::Reader;
use super::support::tool::{iguazu, shell, taken_port};
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
            [(2, "http.listen: "), (3, "http.lissten: "), (6, "clusters.core.brokers: "), (9, ""), (10, ""), (11, "")];
        for (line, key) in listed {
            let problem = format!("\nbad.toml:{line}: {key}");
            assert!(ended.stderr.contains(&problem), "{command}: {problem:?} is missing:\n{}", ended.stderr);
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
async fn load_fails_when_an_event_is_refused_or_nobody_listens() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.load");
    let limits = "limits = { events_per_second = 20 }";
    let config = fixture.config()
        + &event_type("it.load", &topic, "raw_json", "")
        + &event_type("it.few", &topic, "raw_json", limits);
    let proxy = Proxy::start(&config).await;
    let place = proxy.folder().to_owned();
    std::fs::write(place.join("payload.json"), "{\"id\":\"{id}\"}").expect("the folder is ours");
    let check = |url: &str, event: &str, code: i32, last_line: &str, never: &str| {
        let load = ["load", url, "--event", event, "--payload", "payload.json", "--events", "200", "--batch", "10"];
        let ended = iguazu(&place, &load);
        assert_eq!(ended.code, Some(code), "{event}: {}{}", ended.stdout, ended.stderr);
        let last = ended.stderr.lines().last().unwrap_or_default();
        assert!(last.contains(last_line), "{event}: {last_line:?} is not in {last:?}");
        assert!(!ended.stdout.contains(never), "{event}: {}", ended.stdout);
    };
    check(&proxy.url(), "it.load", 0, "json it.load to ", "no request was answered");
    check(&proxy.url(), "nobody.knows", 1, "iguazu: 200 of 200 events were not accepted: 200 unknown_event", "202");
    check(&proxy.url(), "it.few", 1, "rate_limited", "unknown");
    let (held, address) = taken_port();
    drop(held);
    check(&format!("http://{address}"), "it.load", 1, &format!("iguazu: cannot connect to {address}: "), "latency");
    proxy.settled().await;
    proxy.finish();
}

#[tokio::test]
async fn load_speaks_tls_with_a_proxy_that_a_known_authority_vouches_for() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.load.tls");
    let place = folder("proxy");
    self_signed(&place);
    std::fs::write(place.join("payload.json"), "{}").expect("the folder is ours");
    let tls = "tls = { certificate_file = \"cert.pem\", key_file = \"key.pem\" }";
    let config = with_settings(&fixture.config(), "http", tls) + &event_type("it.load.tls", &topic, "raw_json", "");
    let mut proxy = Proxy::start_in(place.clone(), &config);
    proxy.await_ready().await;
    let url = proxy.url().replace("http:", "https:");
    let load = ["load", &url, "--event", "it.load.tls", "--payload", "payload.json", "--events", "50"];
    let ended = iguazu(&place, &[&load[..], &["--ca", "cert.pem"]].concat());
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let unproven = iguazu(&place, &load);
    assert_eq!(unproven.code, Some(1), "this system trusts a certificate of a test: {}", unproven.stderr);
    assert!(unproven.stderr.contains("does not prove to be it"), "{}", unproven.stderr);
    let ledger = proxy.settled().await;
    assert_eq!(ledger.delivered, 50);
    proxy.finish();
}

/// A certificate for 127.0.0.1 that is its own authority, made by the `openssl` command: `cert.pem`, `key.pem`.
fn self_signed(place: &Path) {
    let line = "umask 077 && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
                -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
                -keyout key.pem -out cert.pem";
    assert_eq!(shell(place, line).code, Some(0), "the openssl command is installed");
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
    assert!(first.contains(&format!("main: {subject}-avro version 1 ")), "{first}");
    let again = iguazu(&place, &register).printed();
    assert_eq!(again, first.replace("registered\n", "unchanged\n"), "what is registered stays as it is");

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
