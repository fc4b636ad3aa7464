//! Who may do what where: every kind of caller, every mode of a cluster, every verb.

use std::collections::BTreeMap;

use serde_json::json;

use super::flows::put;
use super::*;
use crate::control::resource::{Kind, ResourceId, Spec};

/// The modes; a cluster of each is named by it.
const MODES: [&str; 3] = ["observe", "shared", "dedicated"];

/// What is asked for on a cluster, by name: method, path, body. A `?` in front of a path's end has it tried only.
fn verbs(cluster: &str) -> Vec<(&'static str, &'static str, String, Value)> {
    let topic = |more: Value| {
        let mut spec = json!({ "service": "orders", "capacity": { "mb_per_second": 0.001 } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let grant = |target: &str| json!({ "service": "orders", "level": "produce", "target": target, "principal": "app" });
    let tried = |path: String| format!("{path}?dry_run=true");
    let on = |kind: &str, name: &str| tried(format!("/v1/{kind}/{cluster}/{name}"));
    let expert = json!({ "expert": { "configs": { "segment.ms": "60000" }, "reason": "a test" } });
    vec![
        ("look", "GET", format!("/v1/topics/{cluster}/orders.a"), Value::Null),
        ("create a small topic", "PUT", on("topics", "orders.new"), topic(json!({}))),
        ("create a critical topic", "PUT", on("topics", "orders.new"), topic(json!({ "tier": "critical" }))),
        ("set Kafka's own settings", "PUT", on("topics", "orders.a"), topic(expert)),
        ("describe a topic", "PUT", on("topics", "orders.a"), topic(json!({ "description": "x" }))),
        ("delete a topic", "DELETE", on("topics", "orders.a"), Value::Null),
        ("create a user", "PUT", on("users", "new"), json!({ "service": "orders" })),
        ("write to the own topic", "PUT", on("access", "app:produce:orders.a"), grant("orders.a")),
        ("write to another's topic", "PUT", on("access", "app:produce:bills.a"), grant("bills.a")),
        ("take a grant away", "DELETE", on("access", "bills-app:produce:orders.a"), Value::Null),
        (
            "change all of a service's topics",
            "PATCH",
            tried("/v1/services/orders/resources".to_owned()),
            json!({ "edits": [{ "kinds": ["topic"], "cluster": cluster, "change": { "set": { "description": "y" } } }] }),
        ),
        (
            "change the cluster",
            "PUT",
            tried(format!("/v1/clusters/{cluster}")),
            json!({ "mode": "shared", "operators": ["guests"] }),
        ),
    ]
}

/// What is asked for wherever.
fn verbs_everywhere() -> Vec<(&'static str, &'static str, String, Value)> {
    vec![
        ("read the audit log", "GET", "/v1/audit".to_owned(), Value::Null),
        ("put rules in force", "PUT", "/v1/policy".to_owned(), json!({ "rule": [] })),
        ("make an admin's token", "POST", "/v1/tokens".to_owned(), json!({ "name": "x", "roles": ["admin"] })),
        ("live by the snapshot", "GET", "/v1/snapshot?wait=0".to_owned(), Value::Null),
    ]
}

/// What came of it, in a word or two.
fn outcome(reply: &Reply) -> String {
    let body: Value = serde_json::from_str(&reply.text).unwrap_or_default();
    let Some(verdict) = body["verdict"]["verdict"].as_str() else { return reply.status.to_string() };
    let by = body["verdict"]["by"].as_array().into_iter().flatten().filter_map(Value::as_str);
    match verdict {
        "review" => format!("review by {}", by.collect::<Vec<_>>().join("+")),
        "reject" => {
            let violation = &body["changes"][0]["violations"][0]["rule"];
            format!("reject: {}", violation.as_str().unwrap_or("over-budget"))
        }
        verdict => verdict.to_owned(),
    }
}

async fn office() -> (Plane, BTreeMap<&'static str, String>) {
    let plane = Plane::open().await;
    let spec = |kind, value| Spec::read(kind, value).unwrap();
    let view = || ClusterView { disk_bytes_max: Some(1_000_000_000_000), ..ClusterView::default() };
    plane
        .api
        .clusters
        .store(Arc::new(MODES.iter().chain(&["other"]).map(|name| ((*name).to_owned(), view())).collect()));
    for (service, group) in [("orders", "team-orders"), ("bills", "team-bills")] {
        put(&plane, ResourceId::of(Kind::Service, service), spec(Kind::Service, json!({ "group": group })), service)
            .await;
    }
    for cluster in MODES.into_iter().chain(["other"]) {
        let mode = if cluster == "other" { "dedicated" } else { cluster };
        let operators =
            json!({ "mode": mode, "operators": [format!("ops-{cluster}")], "disk_bytes": 1_000_000_000_000_u64 });
        put(&plane, ResourceId::of(Kind::Cluster, cluster), spec(Kind::Cluster, operators), "").await;
        for (service, user) in [("orders", "app"), ("bills", "bills-app")] {
            let topic = json!({ "service": service, "capacity": { "mb_per_second": 0.001 } });
            let id = ResourceId::on(Kind::Topic, cluster, &format!("{service}.a"));
            put(&plane, id, spec(Kind::Topic, topic), service).await;
            let id = ResourceId::on(Kind::User, cluster, user);
            put(&plane, id, spec(Kind::User, json!({ "service": service })), service).await;
        }
        let grant = json!({ "service": "bills", "level": "produce", "target": "orders.a", "principal": "bills-app" });
        let id = ResourceId::on(Kind::Access, cluster, "bills-app:produce:orders.a");
        put(&plane, id, spec(Kind::Access, grant), "bills").await;
    }
    let people: BTreeSet<_> = [Scope::Read, Scope::Write, Scope::Approve, Scope::Secrets, Scope::Tokens].into();
    let all: BTreeSet<_> = Scope::ALL.into_iter().collect();
    let mut callers = BTreeMap::from([("anonymous", String::new())]);
    for (name, groups, roles) in [
        ("member", vec!["guests"], vec![]),
        ("owner", vec!["team-orders"], vec![]),
        ("colleague", vec!["team-orders"], vec![]),
        ("its operator", vec!["ops-observe", "ops-shared", "ops-dedicated"], vec![]),
        ("another's operator", vec!["ops-other"], vec![]),
        ("expert", vec!["team-orders"], vec![Role::Expert]),
        ("auditor", vec!["guests"], vec![Role::Auditor]),
        ("admin", vec![], vec![Role::Admin]),
    ] {
        let (token, hash) = keys::fresh().unwrap();
        let actor = Actor {
            name: name.to_owned(),
            groups: groups.into_iter().map(str::to_owned).collect(),
            roles: roles.into_iter().collect(),
        };
        let scopes = if actor.roles.contains(&Role::Admin) { all.clone() } else { people.clone() };
        let document = Grant { actor, scopes, made_by: "a test".to_owned() };
        let mut tx = plane.api.store.begin().await.unwrap();
        let hash = hex::encode(hash);
        tx.put_token(&Token { hash, name: name.to_owned(), document, expires_ms: None }).await.unwrap();
        tx.commit().await.unwrap();
        callers.insert(name, token);
    }
    (plane, callers)
}

const CALLERS: [&str; 7] = ["anonymous", "member", "owner", "its operator", "another's operator", "expert", "admin"];

#[tokio::test]
async fn every_caller_does_what_is_theirs_where_the_clusters_mode_lets_it_be_done() {
    let (plane, callers) = office().await;
    let ask = async |caller: &str, method: &str, path: &str, body: &Value| {
        let token = &callers[caller];
        match token.is_empty() {
            true => plane.ask_as("", &[], method, path).await.0.to_string(),
            false => outcome(&plane.send(token, method, path, &[], body.clone()).await),
        }
    };
    let mut matrix = String::new();
    let mut told: BTreeMap<(&str, &str, &str), String> = BTreeMap::new();
    for mode in MODES {
        for (verb, method, path, body) in verbs(mode) {
            writeln!(matrix, "{mode}: {verb}").unwrap();
            for caller in CALLERS {
                let outcome = ask(caller, method, &path, &body).await;
                writeln!(matrix, "  {caller:<20}{outcome}").unwrap();
                told.insert((mode, verb, caller), outcome);
            }
        }
        // Somebody's request for a critical topic waits for an operator: who may agree to it?
        if mode == "observe" {
            continue;
        }
        writeln!(matrix, "{mode}: agree to the owner's critical topic").unwrap();
        for caller in CALLERS.into_iter().chain(["colleague"]) {
            let critical = json!({ "service": "orders", "capacity": { "mb_per_second": 0.001 }, "tier": "critical" });
            let path = format!("/v1/topics/{mode}/orders.{}", caller.replace([' ', '\''], "-"));
            let asked = plane.send(&callers["owner"], "PUT", &path, &[], critical).await;
            assert_eq!(asked.status, 202, "{}", asked.text);
            let path = format!("/v1/requests/{}/approve", asked.json()["id"].as_str().unwrap());
            let agreed = ask(caller, "POST", &path, &json!({})).await;
            let agreed = if agreed.starts_with("review") { "agreed".to_owned() } else { agreed };
            writeln!(matrix, "  {caller:<20}{agreed}").unwrap();
            told.insert((mode, "agree", caller), agreed);
        }
    }
    for (verb, method, path, body) in verbs_everywhere() {
        writeln!(matrix, "everywhere: {verb}").unwrap();
        for caller in CALLERS.into_iter().chain(["auditor"]) {
            // Whether the guard lets somebody in is asked here, not what comes of it.
            let outcome = ask(caller, method, &path, &body).await;
            let outcome = if ["401", "403"].contains(&outcome.as_str()) { outcome } else { "let in".to_owned() };
            writeln!(matrix, "  {caller:<20}{outcome}").unwrap();
        }
    }
    let golden = include_str!("matrix.txt");
    if matrix != golden {
        let taken_over = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/docs/matrix.txt");
        std::fs::create_dir_all(taken_over.parent().unwrap()).unwrap();
        std::fs::write(&taken_over, &matrix).unwrap();
    }
    assert_eq!(matrix, golden, "if this is as intended: cp target/docs/matrix.txt src/control/api/tests/matrix.txt");

    // What is in the file is not whatever happened to come out.
    for ((mode, verb, caller), outcome) in &told {
        let at = format!("{mode}: {verb}: {caller}: {outcome}");
        let is_refused = outcome.starts_with("reject") || outcome.starts_with('4');
        match *caller {
            "anonymous" => assert_eq!(outcome, "401", "{at}"),
            _ if *verb == "look" => assert_eq!(outcome, "200", "{at}"),
            "member" => assert!(is_refused, "{at}"),
            "another's operator" => assert!(is_refused, "{at}"),
            _ if *mode == "observe" && *verb != "change the cluster" => assert!(is_refused, "{at}"),
            "owner" if ["set Kafka's own settings", "agree", "change the cluster"].contains(verb) => {
                assert!(is_refused, "{at}");
            }
            "its operator" if *verb == "change the cluster" => assert!(is_refused, "{at}"),
            "its operator" if *verb == "set Kafka's own settings" => assert_eq!(is_refused, *mode == "shared", "{at}"),
            // Nothing that cannot be undone is done by one person.
            _ if *verb == "delete a topic" => assert!(outcome.starts_with("review by owner+operator"), "{at}"),
            _ => {}
        }
    }
}
