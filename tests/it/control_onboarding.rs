//! The whole way of an event: asked for in one call, agreed to, sent with a key through the proxy, read by somebody else's client;
//! and every operation that nobody was granted is refused by Kafka.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use serde_json::{Value, json};

use super::control_requests::as_user;
use super::support::control::{self, Control};
use super::support::fixture::Fixture;
use super::support::http::{self, Reply};
use super::support::kafka::{python, script};
use super::support::oracle::{self, Oracle};
use super::support::process::{Process, command};
use super::support::proxy::Proxy;
use super::support::read_back::Reader;
use super::support::{folder, unique, wait_until};

/// What each kind of grant lets its user do, of all that `tests/python/operations.py` tries. The others have none.
const ALLOWED: [(&str, &[&str]); 4] = [
    ("produce", &["produce", "produce_idempotent", "describe_topic", "list_offsets"]),
    ("consume", &["consume", "assign", "describe_topic", "list_offsets", "describe_group"]),
    ("describe", &["describe_topic", "list_offsets", "describe_configs"]),
    ("nothing", &[]),
];

async fn send(proxy: &Proxy, key: &str, events: &Value) -> Reply {
    let request = proxy.request("POST", "/v1/events?reply=acknowledged").header("content-type", "application/json");
    http::send(request.bearer_auth(key).body(events.to_string())).await.expect("a reply")
}

/// Sends the first event until its reply has one of these statuses.
async fn until(proxy: &Proxy, key: &str, event: &str, statuses: &[u16]) {
    wait_until("the reply", async || match send(proxy, key, &Oracle::event(event, 1)).await {
        reply if statuses.contains(&reply.status) => Ok(()),
        reply => Err(format!("{} {}", reply.status, reply.text())),
    })
    .await;
}

/// Has an independent client try everything as each of these users.
fn try_everything(question: &Value) -> Value {
    let mut command = command(python());
    command.arg(script("operations.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn("operations.py", command);
    let mut stdin = process.child().stdin.take().expect("stdin is a pipe");
    stdin.write_all(question.to_string().as_bytes()).expect("it reads");
    drop(stdin);
    let mut output = String::new();
    let mut stdout = process.child().stdout.take().expect("stdout is a pipe");
    stdout.read_to_string(&mut output).expect("it writes UTF-8");
    let status = process.wait();
    assert!(status.success(), "operations.py: {status}");
    serde_json::from_str(&output).unwrap_or_else(|e| panic!("{e} in {output}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_onboarded_agreed_to_sent_and_read_and_nobody_can_do_more_than_was_granted() {
    let fixture = Fixture::new();
    let registry = format!("[registries.main]\nurls = [{:?}]\n\n", fixture.registry.url());
    let written = control::config(&fixture.cluster, "").replacen("\nbrokers", "\nregistry = \"main\"\nbrokers", 1);
    let plane = Control::start(&format!("{written}{registry}"));
    let admin = plane.admin().await;
    let ann = plane.token(&admin, "ann", &["team-orders"], &[]).await;
    let omar = plane.token(&admin, "omar", &["platform"], &[]).await;
    let token = plane.token(&admin, "proxies", &[], &["proxy"]).await;
    let keys = plane.get(&token, "/v1/snapshot/keys").await["public_keys"].clone();
    let token_file = folder("onboarding").join("token");
    std::fs::write(&token_file, token).unwrap();
    std::fs::set_permissions(&token_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (service, event) = (unique("orders"), unique("orders.placed"));
    plane.done(&ann, json!([{ "id": format!("service/{service}"), "spec": { "group": "team-orders" } }])).await;

    // More than a small topic, so that somebody must agree; of a schema that nobody has registered yet.
    let subject = unique(oracle::MESSAGE);
    let asked =
        json!({ "event": event, "service": service, "cluster": "core", "mb_per_second": 2, "subject": subject });
    let reply = plane.ask(&ann, "POST", "/v1/onboardings", &asked).await;
    let request = reply.json();
    assert_eq!((reply.status, &request["state"]), (202, &json!("pending")), "{request:#}");
    let (path, approval) = (
        format!("/v1/requests/{}/approve", request["id"].as_str().unwrap()),
        json!({ "plan_hash": request["plan_hash"] }),
    );
    assert_eq!(plane.ask(&ann, "POST", &path, &approval).await.status, 403, "nobody agrees to their own");
    let agreed = plane.ask(&omar, "POST", &path, &approval).await;
    assert_eq!(agreed.status, 200, "{}", agreed.text());
    plane.ready(&ann, request["id"].as_str().unwrap()).await;
    let waiting = plane.get(&ann, &format!("/v1/event_types/{event}")).await;
    assert_eq!(waiting["state"], "waiting", "{waiting:#}");
    assert!(waiting["message"].as_str().unwrap().contains("schema"), "{waiting:#}");
    let secret = format!("/v1/senders/{service}/secret");
    assert_eq!(plane.ask(&admin, "POST", &secret, &Value::Null).await.status, 404, "it is for who asked");
    let key = plane.ask(&ann, "POST", &secret, &Value::Null).await.json()["secret"].as_str().unwrap().to_owned();
    assert_eq!(plane.ask(&ann, "POST", &secret, &Value::Null).await.status, 404, "it is shown once");

    // The schema comes, and the event type goes live by itself, in a proxy that runs.
    let url = plane.url();
    let proxy = Proxy::start(&format!(
        "state_dir = \"state\"\n\n[routes]\nsource = \"control\"\nurl = {url:?}\ntoken_file = {token_file:?}\npublic_key = {keys}\n\n{}",
        fixture.config()
    ))
    .await;
    // Until then nobody's event of that name is taken.
    until(&proxy, &key, &event, &[404, 503]).await;
    fixture.registry.register_protobuf(&subject, oracle::PROTOBUF);
    fixture.registry.register_avro(&format!("{}-avro", oracle::MESSAGE), &oracle::avro());
    let mut oracle = Oracle::default();
    oracle.sent(1);
    until(&proxy, &key, &event, &[200]).await;
    oracle.acknowledged(1);
    assert_eq!(send(&proxy, "nobody", &Oracle::event(&event, 2)).await.status, 401);
    assert_eq!(send(&proxy, &key, &Oracle::event(&format!("{event}.more"), 2)).await.status, 404);

    // Users of all levels, each with their password.
    let mut changes = Vec::new();
    let users: Vec<_> = ALLOWED.iter().map(|(level, _)| (*level, format!("{service}-{level}"))).collect();
    for (level, user) in &users {
        changes.push(json!({ "id": format!("user/core/{user}"), "spec": { "service": service } }));
        if *level != "nothing" {
            let spec = json!({ "service": service, "level": level, "target": event, "principal": user });
            changes.push(json!({ "id": format!("access/core/{user}:{level}:{event}"), "spec": spec }));
        }
    }
    plane.done(&ann, Value::from(changes)).await;
    let mut passwords = serde_json::Map::new();
    for (_, user) in &users {
        let revealed = plane.ask(&ann, "POST", &format!("/v1/users/core/{user}/secret"), &Value::Null).await.json();
        passwords.insert(user.clone(), revealed["secret"].clone());
    }

    // The one that may read it reads what was sent, by a client that shares no code with us.
    let reader = &users[1].1;
    let mut client = as_user(&fixture.cluster, reader, passwords[reader].as_str().unwrap());
    client.set("group.id", format!("{service}.readers"));
    let (read, sent) = (Reader::with(client, Some(fixture.registry.url())), event.clone());
    let records = tokio::task::spawn_blocking(move || read.read(&sent, 1)).await.unwrap();
    oracle.check(&records);
    assert_eq!(records[0].header("iguazu-sender"), Some(service.as_str()));

    // And everything that there is to try is tried as each of them.
    let others = fixture.topic("others.topic");
    let question = json!({
        "brokers": fixture.cluster.sasl_brokers(), "users": passwords, "topic": event, "other_topic": others,
        "group": format!("{service}.readers"), "other_group": "others.readers",
    });
    let tried = tokio::task::spawn_blocking(move || try_everything(&question)).await.unwrap();
    for ((_, user), (level, allowed)) in users.iter().zip(ALLOWED) {
        let outcomes = tried[user].as_object().unwrap();
        assert!(outcomes.len() >= 28, "{outcomes:?}");
        for (operation, outcome) in outcomes {
            let outcome = outcome.as_str().unwrap();
            match allowed.contains(&operation.as_str()) {
                true => assert_eq!(outcome, "ok", "{level}: {operation}"),
                // `_NOENT` is librdkafka's word for partitions of a topic that it is not shown.
                false => {
                    let is_refused = outcome.ends_with("AUTHORIZATION_FAILED") || outcome == "_NOENT";
                    assert!(is_refused, "{level}: {operation}: {outcome}");
                }
            }
        }
        assert!(allowed.iter().all(|operation| outcomes.contains_key(*operation)), "{level}: {outcomes:?}");
    }
    proxy.settled().await;
    proxy.finish();
    plane.finish();
}
