//! Any event can be found by its id, and an audit tells what is missing and what is there twice.

use std::path::Path;

use serde_json::{Value, json};

use super::support::fixture::Fixture;
use super::support::oracle::Oracle;
use super::support::proxy::Proxy;
use super::support::tool::{Ended, iguazu};

/// Runs a command with the configuration of the proxy in this folder.
fn run(place: &Path, arguments: &[&str]) -> Ended {
    iguazu(place, &[arguments, &["--config", "iguazu.toml"]].concat())
}

#[tokio::test]
async fn an_event_is_found_by_its_id_and_what_is_nowhere_is_told() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.find");
    let event_types = fixture.event_type("it.find", &topic, "reply = \"acknowledged\"")
        + &fixture.event_type("it.single", &topic, "envelope = \"single\"\nreply = \"acknowledged\"");
    let proxy = Proxy::start(&(fixture.config() + &event_types)).await;
    let place = proxy.folder();
    for name in ["it.find", "it.single"] {
        let events: Vec<Value> = (1..=50)
            .map(|number| match number {
                // Without an id: the proxy makes one, and says it.
                25 => json!({"event": name, "payload": Oracle::payload(25)}),
                _ => Oracle::event(name, number),
            })
            .collect();
        let reply = proxy.post("/v1/events?results=all", "application/json", json!(events).to_string()).await;
        let result = reply.json()["results"][24].clone();
        let id = result["id"].as_str().unwrap_or_else(|| panic!("no id in {result}")).to_owned();
        let said = run(place, &["find", name, &id]).printed();
        let lines: Vec<_> = said.lines().collect();
        let (partition, offset) = (&result["partition"], &result["offset"]);
        let expected =
            format!("in Kafka: cluster core, topic {topic}, partition {partition}, offset {offset}, received 20");
        assert!(lines.len() == 2 && lines[0].starts_with(&expected), "{expected}: {said}");
        let event: Value = serde_json::from_str(lines[1]).expect("the event is JSON");
        assert_eq!((&event["id"], &event["payload"]["half"]), (&json!(id), &json!(12.5)), "{said}");
    }
    let foreign = run(place, &["find", "it.find", "o-7"]);
    assert_eq!(foreign.code, Some(64), "{foreign:?}");
    assert!(foreign.stderr.contains("name `--since TIME`"), "{}", foreign.stderr);
    let found = run(place, &["find", "it.find", "o-7", "--since", "2020-01-01T00:00:00Z"]).printed();
    assert!(found.starts_with("in Kafka: "), "{found}");
    let before = ["find", "it.find", "o-7", "--since", "2020-01-01T00:00:00Z", "--until", "2020-01-02T00:00:00Z"];
    let nowhere = "01900000-0000-7000-8000-000000000000";
    for nothing in
        [&before[..], &["find", "it.find", nowhere], &["find", "it.single", "o-0", "--since", "2020-01-01T00:00:00Z"]]
    {
        let ended = run(place, nothing);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{nothing:?}: {}", ended.stderr);
        let said = format!("is not there: looked into topic `{topic}` of cluster `core` from ");
        assert!(ended.stderr.contains(&said), "{said}: {}", ended.stderr);
    }
    proxy.settled().await;
    proxy.finish();
}

#[tokio::test]
async fn an_audit_tells_what_is_missing_and_what_is_there_twice() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.audit");
    let event_types =
        fixture.event_type("it.audit", &topic, "acks = \"all\"") + &fixture.event_type("it.audit.other", &topic, "");
    let proxy = Proxy::start(&(fixture.config() + &event_types)).await;
    let place = proxy.folder();
    let save = async |name: &str| {
        std::fs::write(place.join(name), proxy.admin("/ledger").await.body).expect("the folder is ours");
    };
    let send = async |name: &str, numbers: std::ops::RangeInclusive<u64>| {
        let events: Vec<Value> = numbers.map(|number| Oracle::event(name, number)).collect();
        assert_eq!(proxy.send(&json!(events)).await.status, 202);
        proxy.settled().await;
    };
    send("it.audit", 1..=10).await;
    save("begin.json").await;
    send("it.audit", 11..=40).await;
    send("it.audit.other", 100..=105).await;
    // A sender that sends again what it has sent.
    send("it.audit", 40..=41).await;
    save("end.json").await;

    let admin = format!("http://{}", proxy.admin_address());
    let said = run(place, &["audit", "it.audit", "it.audit.other", "--admin", &admin]).printed();
    let lines: Vec<_> = said.lines().skip(1).collect();
    let twice = "  duplicate o-40 (2 times)";
    let first = "it.audit: 42 acknowledged, 41 found, 0 missing, 1 duplicates; behind duplicates and what was on its way up to 1 \
                 may be missing unseen, --ids is exact";
    assert_eq!(lines, [first, twice, "it.audit.other: 6 acknowledged, 6 found, 0 missing, 0 duplicates"], "{said}");
    let saved = ["audit", "it.audit", "--ledger", "begin.json", "--ledger", "end.json"];
    let said = run(place, &saved).printed();
    assert!(said.contains("it.audit: 32 acknowledged, 31 found, 0 missing, 1 duplicates"), "{said}");

    // A ledger that says more than is there.
    let mut more = proxy.admin("/ledger").await.json();
    let account =
        more["event_types"].as_array_mut().and_then(|all| all.iter_mut().find(|one| one["event"] == "it.audit"));
    account.expect("it has an account")["delivered"] = json!(50);
    std::fs::write(place.join("end.json"), more.to_string()).expect("the folder is ours");
    let ended = run(place, &saved);
    let told = "it.audit: 40 acknowledged, 31 found, 8 missing, 1 duplicates";
    assert!(ended.code == Some(1) && ended.stdout.contains(told), "{ended:?}");

    std::fs::write(place.join("ids"), "o-40\no-41\no-nobody\n").expect("the folder is ours");
    let ended = run(place, &["audit", "it.audit", "--ids", "ids", "--last", "1h"]);
    let told =
        "it.audit: 3 acknowledged, 2 found, 1 missing, 1 duplicates\n  missing o-nobody\n  duplicate o-40 (2 times)\n";
    assert!(ended.code == Some(1) && ended.stdout.ends_with(told), "{ended:?}");
    std::fs::write(place.join("payload.json"), "{\"text\":\"{id}\"}").expect("the folder is ours");
    let load = [
        "load",
        &proxy.url(),
        "--event",
        "it.audit.other",
        "--payload",
        "payload.json",
        "--events",
        "500",
        "--batch",
        "50",
    ];
    let ended = iguazu(place, &[&load[..], &["--ids-file", "ids"]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    proxy.settled().await;
    let said = run(place, &["audit", "it.audit.other", "--ids", "ids"]).printed();
    assert!(said.contains("it.audit.other: 500 acknowledged, 500 found, 0 missing, 0 duplicates"), "{said}");
    proxy.finish();
}
