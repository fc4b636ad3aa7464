//! What the routes do, on a store of their own and without Kafka: nothing of it is asked before a request is applied.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::control::resource::{ClusterSpec, Kind, ResourceId, ServiceSpec, Spec};
use crate::control::store::{AuditLine, Resource, now_ms};

/// A plane with a cluster `core` and a service `orders` of the group `team-orders`, and tokens of those who ask.
pub(super) struct Office {
    pub(super) plane: Plane,
    pub(super) ann: String,
    pub(super) omar: String,
    pub(super) admin: String,
}

impl Office {
    pub(super) async fn open() -> Office {
        let plane = Plane::open().await;
        let cluster = json!({ "mode": "shared", "operators": ["platform"], "gb_month_price": 0.1, "disk_bytes": 1_000_000_000_000_u64 });
        let cluster: ClusterSpec = serde_json::from_value(cluster).unwrap();
        put(&plane, ResourceId::of(Kind::Cluster, "core"), Spec::Cluster(cluster), "").await;
        let service: ServiceSpec = serde_json::from_value(json!({ "group": "team-orders" })).unwrap();
        put(&plane, ResourceId::of(Kind::Service, "orders"), Spec::Service(service), "orders").await;
        let people = || [Scope::Read, Scope::Write, Scope::Approve, Scope::Secrets].into();
        let ann = in_group(&plane, "ann", "team-orders", people()).await;
        let omar = in_group(&plane, "omar", "platform", people()).await;
        let admin = plane.token("root", &[Role::Admin], Scope::ALL.into_iter().collect()).await;
        Office { plane, ann, omar, admin }
    }

    pub(super) async fn ask(&self, token: &str, method: &str, path: &str, body: Value) -> Reply {
        self.plane.send(token, method, path, &[], body).await
    }
}

pub(super) async fn in_group(plane: &Plane, name: &str, group: &str, scopes: BTreeSet<Scope>) -> String {
    let (token, hash) = keys::fresh().unwrap();
    let actor = Actor { name: name.to_owned(), groups: BTreeSet::from([group.to_owned()]), roles: BTreeSet::new() };
    let document = Grant { actor, scopes, made_by: "a test".to_owned() };
    let mut tx = plane.api.store.begin().await.unwrap();
    let hash = hex::encode(hash);
    tx.put_token(&Token { hash, name: name.to_owned(), document, expires_ms: None }).await.unwrap();
    tx.commit().await.unwrap();
    token
}

pub(super) async fn put(plane: &Plane, id: ResourceId, spec: Spec, service: &str) {
    let mut tx = plane.api.store.begin().await.unwrap();
    tx.put_resource(&Resource::new(id, service.to_owned(), spec)).await.unwrap();
    tx.commit().await.unwrap();
}

/// A topic that takes so much a second.
fn topic(mb_per_second: f64) -> Value {
    json!({ "service": "orders", "capacity": { "mb_per_second": mb_per_second } })
}

#[tokio::test]
async fn a_topic_is_explained_before_it_is_asked_for() {
    let office = Office::open().await;
    let reply = office.ask(&office.ann, "POST", "/v1/explain", json!({ "cluster": "core", "spec": topic(5.0) })).await;
    let explained = reply.json();
    // The worked example of the formulas: 5 MB/s for a day are 12 partitions and 1.66 TB.
    assert_eq!((reply.status, &explained["resolved"]["partitions"]), (200, &json!(12)), "{explained:#}");
    assert_eq!(explained["inputs"]["capacity"]["retention_hours"], 24.0, "what is assumed is shown");
    assert!(explained["resolved"]["steps"].as_array().unwrap().len() > 5, "{explained:#}");
    let (cost, bytes) = (&explained["monthly_cost"], &explained["resolved"]["reserve_bytes"]);
    assert!((cost.as_f64().unwrap() - bytes.as_f64().unwrap() / 1e9 * 0.1).abs() < 0.01, "{cost} for {bytes}");
    let wrong = office.ask(&office.ann, "POST", "/v1/explain", json!({ "cluster": "core", "spec": topic(-1.0) })).await;
    assert_eq!((wrong.status, &wrong.json()["violations"][0]["field"]), (422, &json!("capacity.mb_per_second")));
    let nowhere = office.ask(&office.ann, "POST", "/v1/explain", json!({ "cluster": "x", "spec": topic(1.0) })).await;
    assert_eq!(nowhere.status, 404);
}

#[tokio::test]
async fn what_is_spoken_for_is_taken_off_what_is_free_and_told_when_it_is_too_much() {
    let office = Office::open().await;
    let free = async || {
        let budgets = office.ask(&office.ann, "GET", "/v1/budgets", Value::Null).await.json();
        budgets["items"][0]["disk_bytes"].clone()
    };
    assert_eq!(free().await, json!({ "limit": 1_000_000_000_000_u64, "reserved": 0, "free": 1_000_000_000_000_u64 }));
    let asked = office.ask(&office.ann, "PUT", "/v1/topics/core/orders.a", topic(1.0)).await;
    assert_eq!(asked.status, 202, "{}", asked.text);
    let need = asked.json()["changes"][0]["need"]["disk_bytes"].as_u64().unwrap();
    assert_eq!(free().await["free"].as_u64().unwrap(), 1_000_000_000_000 - need);
    let too_much = office.ask(&office.ann, "PUT", "/v1/topics/core/orders.b", topic(100.0)).await;
    let problem = too_much.json();
    assert_eq!((too_much.status, &problem["violations"][0]["rule"]), (422, &json!("over-budget")), "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains("are free"), "{problem:#}");
    let metrics = office.plane.send("", "GET", "/metrics", &[], Value::Null).await.text;
    for line in [
        format!("iguazu_control_reserved_bytes{{cluster=\"core\"}} {need}"),
        "iguazu_control_budget_bytes{cluster=\"core\"} 1000000000000".to_owned(),
        "iguazu_control_decisions_total{decision=\"reject\"} 1".to_owned(),
        "iguazu_control_http_requests_total{method=\"PUT\",status=\"422\"} 1".to_owned(),
        "iguazu_control_requests{state=\"rejected\"} 1".to_owned(),
        "iguazu_control_requests_oldest_seconds{state=\"".to_owned(),
        "iguazu_control_store_up 1".to_owned(),
        "iguazu_control_routes_revision 0".to_owned(),
        "iguazu_control_proxies 0".to_owned(),
        "iguazu_control_reserved_partitions{cluster=\"core\"} ".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("iguazu_credential_expiry_timestamp_seconds{"), "no token ends: {metrics}");
    let mut tx = office.plane.api.store.begin().await.unwrap();
    let (late, soon) = (now_ms() + 9_000_000, now_ms() + 5_000_000);
    let tokens = [("late", late, &["team-orders"][..]), ("soon", soon, &["team-orders", "platform"]), ("gone", 1, &[])];
    for (name, expires_ms, groups) in tokens {
        let actor = Actor {
            name: name.to_owned(),
            groups: groups.iter().map(|group| group.to_string()).collect(),
            roles: BTreeSet::new(),
        };
        let document = Grant { actor, scopes: BTreeSet::new(), made_by: "a test".to_owned() };
        let hash = name.to_owned();
        tx.put_token(&Token { hash, name: name.to_owned(), document, expires_ms: Some(expires_ms) }).await.unwrap();
    }
    tx.commit().await.unwrap();
    let metrics = office.plane.send("", "GET", "/metrics", &[], Value::Null).await.text;
    let ends = |line: &str| {
        let (name, end) = line
            .strip_prefix("iguazu_credential_expiry_timestamp_seconds{kind=\"token\",name=\"")?
            .split_once("\"} ")?;
        Some((name.replace("\",owner=\"", " of "), (end.parse::<f64>().ok()? * 1e3) as i64 - now_ms()))
    };
    let ends: BTreeMap<_, _> = metrics.lines().filter_map(ends).collect();
    assert_eq!(
        ends.keys().collect::<Vec<_>>(),
        ["late of team-orders", "soon of "],
        "one that ended long ago is left out"
    );
    assert!(ends["late of team-orders"] > 8_000_000 && ends["soon of "] < 5_000_001, "{ends:?}");
}

#[tokio::test]
async fn an_onboarding_is_one_request_over_all_that_an_event_needs() {
    let office = Office::open().await;
    let body = json!({ "event": "order.placed", "service": "orders", "cluster": "core", "mb_per_second": 0.01, "through": "kafka" });
    let tried = office.ask(&office.ann, "POST", "/v1/onboardings?dry_run=true", body.clone()).await;
    let resources = |request: &Value| -> Vec<String> {
        let changes = request["changes"].as_array().unwrap().iter();
        changes.map(|change| change["resource"].as_str().unwrap().to_owned()).collect()
    };
    let expected = ["topic/core/order.placed", "user/core/orders", "access/core/orders:produce:order.placed"];
    assert_eq!((tried.status, resources(&tried.json())), (200, expected.map(str::to_owned).to_vec()), "{}", tried.text);
    let asked = office.ask(&office.ann, "POST", "/v1/onboardings", body).await;
    assert_eq!((asked.status, &asked.json()["state"]), (202, &json!("approved")), "{}", asked.text);
    assert_eq!(asked.header("location"), format!("/v1/requests/{}", asked.json()["id"].as_str().unwrap()));
    // What is kept of a request is read again with all others: a name that is none must not get there.
    for (event, cluster) in [("", "core"), ("a", ""), ("a", "b/c")] {
        let none = json!({ "event": event, "service": "orders", "cluster": cluster, "mb_per_second": 1 });
        let refused = office.ask(&office.ann, "POST", "/v1/onboardings", none).await;
        assert_eq!(refused.status, 422, "{event} {cluster}: {}", refused.text);
    }
    assert_eq!(office.ask(&office.ann, "GET", "/v1/requests", Value::Null).await.status, 200);
    let more = json!({ "event": "x", "service": "orders", "cluster": "core", "mb_per_second": 1, "partitions": 7 });
    assert_eq!(office.ask(&office.ann, "POST", "/v1/onboardings", more).await.status, 400);
}

#[tokio::test]
async fn another_policy_is_tried_on_the_past_before_it_is_in_force() {
    let office = Office::open().await;
    // Tier `critical` is reviewed; somebody denies one of two.
    let critical = json!({ "service": "orders", "capacity": { "mb_per_second": 0.01 }, "tier": "critical" });
    let mut ids = Vec::new();
    for name in ["a", "b"] {
        let asked = office.ask(&office.ann, "PUT", &format!("/v1/topics/core/orders.{name}"), critical.clone()).await;
        assert_eq!((asked.status, &asked.json()["state"]), (202, &json!("pending")), "{}", asked.text);
        ids.push(asked.json()["id"].as_str().unwrap().to_owned());
    }
    let deny = format!("/v1/requests/{}/deny", ids[0]);
    let denied = office.ask(&office.omar, "POST", &deny, json!({ "reason": "not yet" })).await;
    assert_eq!((denied.status, &denied.json()["state"]), (200, &json!("denied")), "{}", denied.text);

    let policy = office.ask(&office.ann, "GET", "/v1/policy", Value::Null).await;
    let mut rules = policy.json();
    let all = json!({ "id": "all-topics", "reason": "a test", "verdict": "auto", "when": [{ "fact": "kind", "is": "topic" }] });
    rules["rule"].as_array_mut().unwrap().insert(0, all);
    let replayed = office.ask(&office.admin, "POST", "/v1/policy:replay", json!({ "policy": rules })).await.json();
    assert_eq!(replayed["moves"], json!({ "review -> auto": 2 }), "{replayed:#}");
    assert_eq!((&replayed["requests"], &replayed["auto_though_denied"]), (&json!(2), &json!(1)));
    assert_eq!(replayed["different"][0]["would_be_rule"], "all-topics");
    let simulation = json!({ "policy": rules, "changes": [{ "id": "topic/core/orders.c", "spec": critical }] });
    let simulated = office.ask(&office.ann, "POST", "/v1/policy:simulate", simulation).await;
    assert_eq!(simulated.json()["verdict"]["verdict"], "auto", "{}", simulated.text);
    let still = office.ask(&office.ann, "PUT", "/v1/topics/core/orders.c?dry_run=true", critical.clone()).await;
    assert_eq!(still.json()["verdict"]["verdict"], "review", "nothing of it is in force");

    let put = async |token: &str, revision: &str, rules: &Value| {
        office.plane.send(token, "PUT", "/v1/policy", &[("if-match", revision)], rules.clone()).await
    };
    assert_eq!(put(&office.omar, "\"0\"", &rules).await.status, 403);
    assert_eq!(put(&office.admin, "\"7\"", &rules).await.status, 412);
    let mut unknown = rules.clone();
    unknown["rule"][0]["when"][0]["fact"] = json!("colour");
    let refused = put(&office.admin, policy.header("etag"), &unknown).await;
    assert!(refused.status == 422 && refused.text.contains("colour"), "{}", refused.text);
    let taken = put(&office.admin, policy.header("etag"), &rules).await;
    assert_eq!((taken.status, taken.header("etag")), (200, "\"1\""), "{}", taken.text);
    let now = office.ask(&office.ann, "PUT", "/v1/topics/core/orders.c?dry_run=true", critical).await;
    assert_eq!(now.json()["verdict"]["verdict"], "auto");
}

#[tokio::test]
async fn nobody_approves_their_own_and_a_plan_that_was_looked_at_is_the_one_approved() {
    let office = Office::open().await;
    let critical = json!({ "service": "orders", "capacity": { "mb_per_second": 0.01 }, "tier": "critical" });
    let asked = office.ask(&office.ann, "PUT", "/v1/topics/core/orders.a", critical).await.json();
    let path = format!("/v1/requests/{}/approve", asked["id"].as_str().unwrap());
    let own = office.ask(&office.ann, "POST", &path, json!({})).await;
    assert_eq!(own.status, 403, "{}", own.text);
    let other = office.ask(&office.omar, "POST", &path, json!({ "plan_hash": "another" })).await;
    assert_eq!(other.status, 412, "{}", other.text);
    let gone = office.ask(&office.omar, "POST", &path, json!({ "plan_hash": asked["plan_hash"] })).await;
    assert_eq!(gone.status, 409, "what was planned on something else is not approved any more: {}", gone.text);
}

#[tokio::test]
async fn who_listens_to_a_request_is_told_where_it_stands_and_how_it_ends() {
    let office = Office::open().await;
    let critical = json!({ "service": "orders", "capacity": { "mb_per_second": 0.01 }, "tier": "critical" });
    let asked = office.ask(&office.ann, "PUT", "/v1/topics/core/orders.a", critical).await.json();
    let id = asked["id"].as_str().unwrap();
    let (events, deny) = (format!("/v1/requests/{id}/events"), format!("/v1/requests/{id}/deny"));
    // The listener is there before it ends, and the stream ends with it.
    let (heard, denied) = tokio::join!(
        office.ask(&office.ann, "GET", &events, Value::Null),
        office.ask(&office.omar, "POST", &deny, json!({ "reason": "no" })),
    );
    assert_eq!((heard.status, denied.status), (200, 200), "{} {}", heard.text, denied.text);
    assert_eq!(heard.header("content-type"), "text/event-stream");
    let names: Vec<_> = heard.text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names.last(), Some(&"end"), "{}", heard.text);
    assert!(heard.text.contains(r#""state":"denied""#), "{}", heard.text);
    assert_eq!(office.ask(&office.ann, "GET", "/v1/requests/x/events", Value::Null).await.status, 404);
}

#[tokio::test]
async fn the_audit_log_is_paged_exported_and_checked() {
    let office = Office::open().await;
    for name in 0..5 {
        office.ask(&office.ann, "PUT", &format!("/v1/topics/core/orders.{name}"), topic(0.001)).await;
    }
    let page = office.ask(&office.admin, "GET", "/v1/audit?limit=2", Value::Null).await.json();
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next"]), (2, &json!("2")));
    let rest = office.ask(&office.admin, "GET", "/v1/audit?after=2", Value::Null).await.json();
    assert_eq!((&rest["items"][0]["seq"], &rest["next"]), (&json!(3), &Value::Null));
    let lines =
        office.plane.send(&office.admin, "GET", "/v1/audit", &[("accept", "application/x-ndjson")], Value::Null);
    let lines = lines.await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let lines: Vec<AuditLine> = lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(AuditLine::verify(&lines), Ok(()), "whoever took it away can check it");
    let verified = office.ask(&office.admin, "GET", "/v1/audit/verify", Value::Null).await.json();
    assert_eq!(verified, json!({ "intact": true, "lines": 5, "problem": null }));
}

#[tokio::test]
async fn pages_follow_each_other_without_a_gap() {
    let office = Office::open().await;
    for name in ["b", "a", "c"] {
        let spec: ServiceSpec = serde_json::from_value(json!({ "group": "g" })).unwrap();
        put(&office.plane, ResourceId::of(Kind::Service, name), Spec::Service(spec), name).await;
    }
    let (mut names, mut path) = (Vec::new(), "/v1/services?limit=3".to_owned());
    loop {
        let page = office.ask(&office.ann, "GET", &path, Value::Null).await.json();
        names.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/services?limit=3&after={}", next.replace('/', "%2F"));
    }
    assert_eq!(names, ["service/a", "service/b", "service/c", "service/orders"]);
    let found = office.ask(&office.ann, "GET", "/v1/search?q=ORD", Value::Null).await.json();
    assert_eq!(found["items"][0]["id"], "service/orders", "{found:#}");
}

#[tokio::test]
async fn a_second_user_with_the_same_grants_takes_over_without_a_gap() {
    let office = Office::open().await;
    let spec = |kind: Kind, value: Value| Spec::read(kind, value).unwrap();
    let topic = topic(0.001);
    put(&office.plane, ResourceId::on(Kind::Topic, "core", "orders.a"), spec(Kind::Topic, topic), "orders").await;
    let user = || spec(Kind::User, json!({ "service": "orders", "generation": 3 }));
    put(&office.plane, ResourceId::on(Kind::User, "core", "app"), user(), "orders").await;
    for level in ["produce", "publish"] {
        let grant = json!({ "service": "orders", "level": level, "target": "orders.a", "principal": "app" });
        let id = ResourceId::on(Kind::Access, "core", &format!("app:{level}:orders.a"));
        put(&office.plane, id, spec(Kind::Access, grant), "orders").await;
    }
    let rotate = "/v1/users/core/app/rotate?overlap=true";
    let tried = office.ask(&office.ann, "POST", &format!("{rotate}&dry_run=true"), Value::Null).await;
    let changes = tried.json()["changes"].clone();
    let resources: Vec<_> = changes.as_array().unwrap().iter().map(|change| change["resource"].clone()).collect();
    assert_eq!(resources, ["user/core/app.b", "access/core/app.b:produce:orders.a"], "{}", tried.text);
    assert_eq!(changes[0]["desired"]["spec"]["generation"], 1);
    put(&office.plane, ResourceId::on(Kind::User, "core", "app.b"), user(), "orders").await;
    let back =
        office.ask(&office.ann, "POST", "/v1/users/core/app.b/rotate?overlap=true&dry_run=true", Value::Null).await;
    let first = &back.json()["changes"][0];
    assert_eq!((&first["resource"], &first["desired"]["spec"]["generation"]), (&json!("user/core/app"), &json!(4)));
    let plain = office.ask(&office.ann, "POST", "/v1/users/core/app/rotate?dry_run=true", Value::Null).await;
    assert_eq!(plain.json()["changes"][0]["operation"], "rotate", "{}", plain.text);
}
