//! What is asked of a plane of its own process is live in a proxy at once: routes, and brakes on them.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::control_routes::{Onboarding, await_condition, gauge, raw, send, until};
use super::support::control::{self, Control};
use super::support::fixture::Fixture;
use super::support::oracle::Oracle;
use super::support::proxy::Proxy;
use super::support::tool::iguazu;
use super::support::{folder, ports, wait_until};

/// A plane of its own process, a proxy that lives by it, and people with tokens.
struct OverHttp {
    fixture: Fixture,
    folder: PathBuf,
    written: String,
    plane: Control,
    proxy: Proxy,
    admin: String,
    ann: String,
    orders: Onboarding,
}

impl OverHttp {
    async fn start() -> OverHttp {
        let fixture = Fixture::new();
        let (port, folder) = (ports::free(1)[0], folder("routes"));
        let written = control::config(&fixture.cluster, "").replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
        let plane = Control::start_in(folder.clone(), &written);
        let admin = plane.admin().await;
        let ann = plane.token(&admin, "ann", &["team-orders"], &[]).await;
        let token = plane.token(&admin, "proxies", &[], &["proxy"]).await;
        let keys = plane.get(&token, "/v1/snapshot/keys").await["public_keys"].clone();
        let (url, token_file) = (plane.url(), folder.join("token"));
        std::fs::write(&token_file, token).unwrap();
        std::fs::set_permissions(&token_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let proxy = Proxy::start(&format!(
            "state_dir = \"state\"\n\n[routes]\nsource = \"control\"\nurl = {url:?}\ntoken_file = {token_file:?}\npublic_key = {keys}\n\n{}",
            fixture.config()
        ))
        .await;
        let service = json!([{ "id": "service/orders", "spec": { "group": "team-orders" } }]);
        plane.done(&ann, service).await;
        OverHttp { fixture, folder, written, plane, proxy, admin, ann, orders: Onboarding::new() }
    }

    fn route(&self, settings: Value) -> Value {
        let event = &self.orders.event;
        let spec = json!({ "service": "orders", "cluster": "core", "topic": event, "settings": settings });
        json!({ "id": format!("event_type/{event}"), "spec": spec })
    }

    /// Asks for the event, its topic, a sender and its right, and gives the sender's key once it is through.
    async fn onboard(&self) -> String {
        let Onboarding { event, sender } = &self.orders;
        let changes = json!([
            { "id": format!("topic/core/{event}"), "spec": { "service": "orders", "capacity": { "mb_per_second": 0.01 } } },
            self.route(raw()),
            { "id": format!("sender/{sender}"), "spec": { "service": "orders" } },
            { "id": self.orders.grant_id(), "spec": { "service": "orders", "level": "publish", "target": event, "principal": sender } },
        ]);
        self.plane.done(&self.ann, changes).await;
        let path = format!("/v1/senders/{sender}/secret");
        let secret = self.plane.ask(&self.ann, "POST", &path, &Value::Null).await.json();
        secret["secret"].as_str().expect("it is there once").to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_by_plain_http_is_live_in_a_proxy_and_outlives_the_plane() {
    let begun = Instant::now();
    let mut all = OverHttp::start().await;
    all.proxy.expect_log("does not answer");
    println!("a plane and a proxy were up after {:?}", begun.elapsed());
    let begun = Instant::now();
    let key = all.onboard().await;
    let applied = begun.elapsed();
    let braked = json!([all.route(json!({ "encoding": "raw_json", "disabled": true }))]);
    let OverHttp { fixture, folder, written, plane, proxy, ann, orders, .. } = all;
    let event = &orders.event;
    until(&proxy, &key, event, 1, 202).await;
    println!("ready after {applied:?}, live after {:?}", begun.elapsed());
    let proxies = plane.get(&ann, "/v1/proxies").await;
    assert_eq!((proxies["items"].as_array().unwrap().len(), proxies["revision"].is_u64()), (1, true), "{proxies}");

    // The plane is killed and comes back: the proxy has served meanwhile, and has what comes next.
    let revision = gauge(&proxy, "iguazu_routes_revision").await;
    plane.kill();
    await_condition(&proxy, "control plane", Some("does not answer")).await;
    assert_eq!(send(&proxy, &key, &Oracle::event(event, 2)).await.status, 202);
    let plane = Control::start_in(folder, &written);
    plane.done(&ann, braked).await;
    until(&proxy, &key, event, 3, 503).await;
    assert!(gauge(&proxy, "iguazu_routes_revision").await > revision);
    proxy.settled().await;
    proxy.finish();
    plane.finish();
    drop(fixture);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_and_owners_brake_an_event_type_at_once_and_nobody_else_does() {
    let all = OverHttp::start().await;
    let key = all.onboard().await;
    let OverHttp { fixture, folder, plane, proxy, admin, ann, orders, .. } = all;
    let event = &orders.event;
    let olga = plane.token(&admin, "olga", &["platform"], &[]).await;
    let zed = plane.token(&admin, "zed", &["team-bills"], &[]).await;
    until(&proxy, &key, event, 1, 202).await;
    let path = format!("/v1/event_types/{event}/brake");
    let ask = async |token: &str, method: &str, body: Value| plane.ask(token, method, &path, &body).await;
    let told = async || plane.get(&ann, &format!("/v1/event_types/{event}")).await["brake"].clone();

    // Who neither owns it nor operates its cluster may not, and that is written down; nor is a brake without a reason taken.
    let hold = json!({ "disabled": true, "reason": "it floods the cluster" });
    assert_eq!(ask(&zed, "PUT", hold.clone()).await.status, 403);
    assert_eq!(ask(&zed, "DELETE", Value::Null).await.status, 403);
    assert_eq!(ask("", "PUT", hold.clone()).await.status, 401);
    for wrong in
        [json!({ "disabled": true, "reason": " " }), json!({ "sample": 1.5, "reason": "x" }), json!({ "reason": "x" })]
    {
        let reply = ask(&olga, "PUT", wrong).await;
        assert_eq!(reply.status, 422, "{}", reply.text());
    }
    let nothing = plane.ask(&olga, "PUT", "/v1/event_types/nobody.knows/brake", &hold).await;
    assert_eq!((nothing.status, told().await), (404, Value::Null));

    // An operator of the cluster brakes another team's event type, while Kafka itself is none of their business.
    let begun = Instant::now();
    let reply = ask(&olga, "PUT", hold).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let refused = until(&proxy, &key, event, 2, 503).await;
    let in_force = begun.elapsed();
    assert_eq!(refused.json()["results"][0]["code"], "disabled");
    let what = told().await;
    assert_eq!(
        (&what["disabled"], &what["actor"], &what["reason"]),
        (&json!(true), &json!("olga"), &json!("it floods the cluster"))
    );
    // What the owner desires is as it was, and says so where files are compared; to ask for it again lifts no brake.
    let spec = plane.get(&ann, &format!("/v1/event_types/{event}")).await["spec"].clone();
    assert_eq!(spec["settings"], raw());
    let route = json!([{ "id": format!("event_type/{event}"), "spec": {
        "service": "orders", "cluster": "core", "topic": event,
        "settings": { "encoding": "raw_json", "limits": { "events_per_second": 1000 } } } }]);
    plane.done(&ann, route).await;
    assert_eq!(send(&proxy, &key, &Oracle::event(event, 3)).await.status, 503);

    // Shown and lifted on the command line, by its owner.
    std::fs::write(folder.join("ann"), &ann).unwrap();
    let ctl = |arguments: &[&str]| {
        let url = plane.url();
        let ended = iguazu(&folder, &[&["ctl", "--url", &url, "--token-file", "ann"], arguments].concat());
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    };
    for shown in [ctl(&["brake", "list"]), ctl(&["get", "event", event])] {
        assert!(shown.contains("nothing is let through") && shown.contains("it floods the cluster"), "{shown}");
    }
    let begun = Instant::now();
    ctl(&["brake", "lift", event]);
    until(&proxy, &key, event, 4, 202).await;
    let lifted = begun.elapsed();
    assert!(ctl(&["brake", "sample", event, "0.000001", "--reason", "a test"]).contains("a share of"));
    wait_until("the sample", async || {
        let events: Vec<Value> = (0..20).map(|number| Oracle::event(event, 100 + number)).collect();
        let reply = send(&proxy, &key, &json!(events)).await;
        if reply.text().contains("sampled_out") { Ok(()) } else { Err(reply.text()) }
    })
    .await;
    ctl(&["brake", "lift", event]);
    println!("a brake was in force after {in_force:?}, lifted after {lifted:?}");
    assert!(in_force.as_secs() < 5 && lifted.as_secs() < 5, "{in_force:?} {lifted:?}");
    assert_eq!(ask(&ann, "DELETE", Value::Null).await.status, 404, "there is none");

    let audit = plane.get(&admin, "/v1/audit?limit=1000").await;
    let lines = audit["items"].as_array().unwrap().iter();
    let brakes: Vec<String> = lines
        .filter(|line| line["verb"].as_str().is_some_and(|verb| verb.contains("brake")))
        .map(|line| ["actor", "verb", "outcome"].map(|name| line[name].as_str().unwrap()).join(" "))
        .collect();
    assert_eq!(
        brakes,
        [
            "zed brake not_theirs",
            "zed lift-brake not_theirs",
            "olga brake done",
            "ann lift-brake done",
            "ann brake done",
            "ann lift-brake done",
        ]
    );
    proxy.settled().await;
    proxy.finish();
    plane.finish();
    drop(fixture);
}
