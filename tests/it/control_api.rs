//! The management plane as a program: the real binary, plain HTTP, a real Kafka with users and access rules.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::control_requests::{as_user, produce};
use super::support::control::{self, Control};
use super::support::process::{self, Process};
use super::support::{fetched, folder, kafka, long, unique};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_onboarding_by_plain_http_gives_a_client_that_can_produce() {
    let cluster = kafka::shared();
    let plane = Control::start(&control::config(&cluster, ""));
    let admin = plane.admin().await;
    let ann = plane.token(&admin, "ann", &["team-orders"], &[]).await;
    let (topic, user) = (unique("orders.placed"), unique("orders-app"));
    let grant = format!("access/core/{user}:produce:{topic}");
    let changes = json!([
        { "id": "service/orders", "spec": { "group": "team-orders" } },
        { "id": format!("topic/core/{topic}"), "spec": { "service": "orders", "capacity": { "mb_per_second": 0.01 } } },
        { "id": format!("user/core/{user}"), "spec": { "service": "orders" } },
        { "id": grant, "spec": { "service": "orders", "level": "produce", "target": topic, "principal": user } },
    ]);

    // What would become of it is told first, and nothing is kept.
    let body = json!({ "changes": changes, "reason": "orders are placed" });
    let tried = plane.ask(&ann, "POST", "/v1/requests?dry_run=true", &body).await;
    assert_eq!((tried.status, &tried.json()["verdict"]["verdict"]), (200, &json!("auto")), "{}", tried.text());
    assert_eq!(plane.get(&ann, "/v1/requests").await["items"], json!([]));

    let request = plane.done(&ann, changes).await;
    assert!(request["steps"].as_array().unwrap().iter().all(|step| step["state"] == "done"), "{request:#}");
    let reply = plane.ask(&ann, "GET", &format!("/v1/topics/core/{topic}"), &Value::Null).await;
    assert_eq!((reply.status, &reply.json()["state"]), (200, &json!("ready")), "{}", reply.text());
    assert_eq!(reply.header("etag"), Some(format!("\"{}\"", reply.json()["revision"]).as_str()));
    let found = plane.get(&ann, &format!("/v1/topics?q={topic}&service=orders&state=ready")).await;
    assert_eq!(found["items"][0]["id"], json!(format!("topic/core/{topic}")));

    // The password is there once, for who asked.
    let secret = format!("/v1/users/core/{user}/secret");
    assert_eq!(plane.ask(&admin, "POST", &secret, &Value::Null).await.status, 404);
    let revealed = plane.ask(&ann, "POST", &secret, &Value::Null).await;
    assert_eq!((revealed.status, revealed.header("cache-control")), (200, Some("no-store")));
    assert_eq!(plane.ask(&ann, "POST", &secret, &Value::Null).await.status, 404);
    let config = as_user(&cluster, &user, revealed.json()["secret"].as_str().unwrap());
    assert_eq!(tokio::task::spawn_blocking(move || produce(&config, &topic)).await.unwrap(), Ok(()));
    plane.finish();
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_as_problem_details() {
    let cluster = kafka::shared();
    let plane = Control::start(&control::config(&cluster, ""));
    let admin = plane.admin().await;
    let ann = plane.token(&admin, "ann", &["team-orders"], &[]).await;
    plane.done(&ann, json!([{ "id": "service/orders", "spec": { "group": "team-orders" } }])).await;
    let check = async |method: &str, path: &str, body: Value, status: u16, kind: &str| {
        let reply = plane.ask(&ann, method, path, &body).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{method} {path}");
        let problem = reply.json();
        assert_eq!(problem["type"], json!(format!("urn:iguazu:problem:{kind}")), "{problem:#}");
        assert_eq!(problem["status"], json!(status));
        problem
    };

    let topic = "/v1/topics/core/orders.x";
    let bad = json!({ "service": "bills", "capacity": { "mb_per_second": -1, "retention_hours": 0 } });
    let problem = check("PUT", topic, bad, 403, "forbidden").await;
    assert_eq!(problem["violations"][0]["rule"], "not-yours");
    let bad = json!({ "service": "orders", "capacity": { "mb_per_second": -1, "retention_hours": 0 } });
    let problem = check("PUT", "/v1/topics/core/_x", bad, 422, "invalid").await;
    let rules: Vec<_> = problem["violations"].as_array().unwrap().iter().map(|found| &found["rule"]).collect();
    assert_eq!(rules, ["name", "capacity", "capacity"], "{problem:#}");
    assert!(problem["request"].is_string(), "{problem:#}");
    let unread =
        check("PUT", topic, json!({ "service": "orders", "capacity": { "mb_per_second": "much" } }), 422, "invalid");
    assert_eq!(unread.await["violations"][0]["field"], "capacity.mb_per_second");
    check("PUT", topic, json!({ "service": "orders", "partitions": 7 }), 422, "invalid").await;
    check("DELETE", topic, Value::Null, 403, "forbidden").await;
    check("GET", topic, Value::Null, 404, "not-found").await;
    check("GET", "/v1/nothing", Value::Null, 404, "not-found").await;
    check("PATCH", topic, Value::Null, 405, "method-not-allowed").await;
    check("GET", "/v1/topics?limit=0", Value::Null, 400, "malformed").await;
    check("GET", "/v1/topics?colour=red", Value::Null, 400, "malformed").await;
    check("GET", "/v1/topics?after=x", Value::Null, 400, "malformed").await;
    check("GET", "/v1/topics/core/a%2Fb", Value::Null, 400, "malformed").await;
    check("POST", "/v1/requests", json!({ "changes": [] }), 422, "invalid").await;
    check("POST", "/v1/requests", json!({ "changes": [], "colour": 1 }), 400, "malformed").await;
    check("POST", "/v1/requests", json!({ "reason": "x".repeat(2 << 20) }), 413, "too-large").await;
    check("POST", "/v1/requests/nobody/approve", Value::Null, 404, "not-found").await;
    check("GET", "/v1/tokens", Value::Null, 403, "forbidden").await;
    let plain = plane.request(&ann, "PUT", topic).body("{}");
    assert_eq!(super::support::http::send(plain).await.unwrap().status, 415);
    plane.finish();
}

#[tokio::test]
async fn a_change_is_made_once_for_each_key_and_only_to_what_was_seen() {
    let cluster = kafka::shared();
    let plane = Control::start(&control::config(&cluster, ""));
    let admin = plane.admin().await;
    let ann = plane.token(&admin, "ann", &["team-orders"], &[]).await;
    let bob = plane.token(&admin, "bob", &["team-bills"], &[]).await;
    let put = async |token: &str, path: &str, key: &str, if_match: &str, description: &str| {
        let mut request = plane.request(token, "PUT", path).header("content-type", "application/json");
        for (name, value) in [("idempotency-key", key), ("if-match", if_match)] {
            if !value.is_empty() {
                request = request.header(name, value);
            }
        }
        let group = if token == bob { "team-bills" } else { "team-orders" };
        let body = json!({ "group": group, "description": description }).to_string();
        super::support::http::send(request.body(body)).await.unwrap()
    };
    let path = "/v1/services/orders";
    let first = put(&ann, path, "one", "", "a").await;
    let again = put(&ann, path, "one", "", "a").await;
    assert_eq!((first.status, again.status, &first.json()["id"]), (202, 202, &again.json()["id"]));
    let other = put(&ann, path, "one", "", "b").await;
    assert_eq!(other.status, 409, "the key is that of another change: {}", other.text());
    let bobs = put(&bob, "/v1/services/bills", "one", "", "a").await;
    assert_ne!(bobs.json()["id"], first.json()["id"], "a key is its caller's");
    plane.ready(&ann, first.json()["id"].as_str().unwrap()).await;

    let revision = plane.get(&ann, path).await["revision"].clone();
    assert_eq!(put(&ann, path, "", "\"99\"", "b").await.status, 412);
    assert_eq!(put(&ann, path, "", "99", "b").await.status, 400);
    let matched = put(&ann, path, "", &format!("\"{revision}\""), "b").await;
    assert_eq!(matched.status, 202, "{}", matched.text());
    plane.ready(&ann, matched.json()["id"].as_str().unwrap()).await;
    assert_eq!(plane.get(&ann, path).await["spec"]["description"], "b");
    plane.finish();
}

#[tokio::test]
async fn the_bootstrap_token_is_private_and_used_once_and_never_made_again() {
    use std::os::unix::fs::PermissionsExt as _;
    let cluster = kafka::shared();
    let config = control::config(&cluster, "");
    let plane = Control::start(&config);
    let file = plane.folder().join(plane.bootstrap_file());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let first = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    for (method, path) in [("GET", "/v1/topics"), ("PUT", "/v1/services/x"), ("GET", "/v1/requests")] {
        assert_eq!(plane.ask(&first, method, path, &json!({})).await.status, 403, "it makes a token, and nothing else");
    }
    let admin = plane.ask(&first, "POST", "/v1/tokens", &json!({ "name": "root" })).await;
    assert_eq!(admin.status, 201, "{}", admin.text());
    let second = plane.ask(&first, "POST", "/v1/tokens", &json!({ "name": "root2" })).await;
    assert_eq!(second.status, 401, "{}", second.text());
    assert!(!file.exists());
    let folder = plane.folder().to_owned();
    plane.finish();

    let plane = Control::start_in(folder, &config);
    assert!(!file.exists(), "there is never a second one");
    let token = admin.json()["token"].as_str().unwrap().to_owned();
    let me = plane.get(&token, "/v1/me").await;
    assert_eq!((&me["name"], &me["roles"]), (&json!("root"), &json!(["admin"])));

    // Nobody gives away more than they have.
    let ann = plane.token(&token, "ann", &["team-orders"], &[]).await;
    let forbidden = plane.ask(&ann, "POST", "/v1/tokens", &json!({ "name": "x" })).await;
    assert_eq!(forbidden.status, 403, "{}", forbidden.text());
    let body = json!({ "name": "ann-all", "actor": "ann", "groups": ["team-orders"], "scopes": ["read", "tokens"] });
    let made = plane.ask(&token, "POST", "/v1/tokens", &body).await.json();
    let ann = made["token"].as_str().unwrap();
    for more in [
        json!({ "name": "y", "actor": "root" }),
        json!({ "name": "y", "groups": ["platform"] }),
        json!({ "name": "y", "roles": ["admin"] }),
        json!({ "name": "y", "scopes": ["write"] }),
        json!({ "name": "y", "expires_hours": 0 }),
    ] {
        assert_eq!(plane.ask(ann, "POST", "/v1/tokens", &more).await.status, 403, "{more}");
    }
    let less = plane.ask(ann, "POST", "/v1/tokens", &json!({ "name": "ann-ci", "scopes": ["read"] })).await;
    assert_eq!(less.status, 201, "{}", less.text());
    assert_eq!(plane.ask(ann, "POST", "/v1/tokens", &json!({ "name": "root" })).await.status, 409);
    let listed = plane.get(ann, "/v1/tokens").await;
    let names: Vec<_> = listed["items"].as_array().unwrap().iter().map(|token| token["name"].clone()).collect();
    assert_eq!(names, ["ann", "ann-all", "ann-ci"], "theirs, and no other's");
    assert!(!listed.to_string().contains("hash"), "{listed}");
    assert_eq!(plane.ask(ann, "DELETE", "/v1/tokens/root", &Value::Null).await.status, 404);
    assert_eq!(plane.ask(ann, "DELETE", "/v1/tokens/ann-ci", &Value::Null).await.status, 204);
    let gone = plane.ask(less.json()["token"].as_str().unwrap(), "GET", "/v1/me", &Value::Null).await;
    assert_eq!(gone.status, 401);
    plane.finish();
}

#[tokio::test]
async fn a_bootstrap_token_that_is_said_can_be_said_again_until_it_was_used() {
    let cluster = kafka::shared();
    let home = folder("control");
    let say = |token: &str| control::write_private(&home.join("first-token"), token);
    let more = "bootstrap_token_file = \"first-token\"\n";
    let make = async |plane: &Control, token: &str, name: &str| {
        plane.ask(token, "POST", "/v1/tokens", &json!({ "name": name })).await.status
    };
    // The first node made one of its own, and its file was lost with it.
    let plane = Control::start_in(home.clone(), &control::config(&cluster, ""));
    let lost = std::fs::read_to_string(plane.bootstrap_file()).unwrap().trim().to_owned();
    std::fs::remove_file(plane.bootstrap_file()).unwrap();
    plane.finish();

    let (mistaken, meant) = ("a-token-that-was-mistaken-0123456789", "bWVhbnQgZm9yIHRoZSBmaXJzdCBhZG1pbiBhbG9uZQ==");
    say(mistaken);
    let plane = Control::start_in(home.clone(), &control::config(&cluster, more));
    assert_eq!(make(&plane, &lost, "root").await, 401);
    assert_eq!(plane.ask(mistaken, "GET", "/v1/topics", &Value::Null).await.status, 403, "it is known, and no more");
    plane.finish();
    say(meant);
    let plane = Control::start_in(home.clone(), &control::config(&cluster, more));
    assert_eq!(make(&plane, mistaken, "root").await, 401);
    assert_eq!(make(&plane, meant, "root").await, 201);
    assert_eq!(make(&plane, meant, "again").await, 401);
    plane.finish();

    // It stays where the operator has put it, and opens nothing; nor does another one.
    for token in [meant, mistaken] {
        say(token);
        let plane = Control::start_in(home.clone(), &control::config(&cluster, more));
        assert_eq!(make(&plane, token, "again").await, 401);
        assert!(!home.join("state/bootstrap-token").exists() && home.join("first-token").exists());
        plane.finish();
    }
}

/// An independent program reads the description and asks whatever that allows, and what it does not allow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_answers_as_its_description_says_whatever_is_asked() {
    let cluster = kafka::shared();
    let mut plane = Control::start(
        &control::config(&cluster, "requests_per_second = 100000").replace("requests_per_second = 1000\n", ""),
    );
    // Topics with odd names are asked for, and some of them are not what Kafka takes.
    plane.expect_log("a step is tried again later");
    let admin = plane.admin().await;
    let (phases, examples) = if long() { ("coverage,fuzzing,stateful", "40") } else { ("coverage", "1") };
    let mut tool = process::command(fetched("venv/bin/st"));
    tool.current_dir(plane.folder()).arg("run").arg(format!("{}/v1/openapi.json", plane.url()));
    tool.args(["-H", &format!("Authorization: Bearer {admin}"), "--phases", phases, "--max-examples", examples]);
    // What waits for something is asked about elsewhere, and who takes tokens away takes away its own.
    tool.args([
        "--exclude-path-regex",
        "/(events|snapshot)$|^/v1/tokens/",
        "--workers",
        "2",
        "--request-timeout",
        "40",
    ]);
    tool.args(["--checks", CHECKS, "--no-color"]);
    let output = folder("schemathesis").join("log");
    let log = std::fs::File::create(&output).unwrap();
    tool.stdout(log.try_clone().unwrap()).stderr(log);
    let status = tokio::task::spawn_blocking(move || {
        let (mut tool, began) = (Process::spawn("schemathesis", tool), Instant::now());
        loop {
            match tool.exit_status() {
                Some(status) => break status,
                None => assert!(began.elapsed() < Duration::from_secs(900), "schemathesis comes to no end"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let status = status.await.unwrap();
    assert!(status.success(), "{status}: {}", std::fs::read_to_string(&output).unwrap());
    plane.finish();
}

/// What is asked of each reply. What is refused for reasons that no schema can say (rules, budgets) is not among it.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,missing_required_header";
