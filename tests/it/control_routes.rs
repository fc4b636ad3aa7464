//! What is approved in the control plane is live in the proxies, without a restart; and what they refuse to believe.

use std::time::Instant;

use iguazu::config::{ROUTES_FORMAT, SigningKey, Statement, digest};
use iguazu::control::kafka::KafkaAdmin as _;
use iguazu::control::kafka::quotas::{QuotaFilter, QuotaMatch};
use iguazu::control::request::{Request, RequestState};
use iguazu::control::store::ResourceState;
use iguazu::control::world::Change;
use serde_json::{Value, json};

use super::support::fixture::Fixture;
use super::support::http::{self, Reply};
use super::support::oracle::Oracle;
use super::support::plane::{Plane, ann, ask, change, gone};
use super::support::proxy::Proxy;
use super::support::read_back::Reader;
use super::support::{unique, wait_until};

/// An event type with its topic, a sender, and the right to send it.
pub struct Onboarding {
    pub event: String,
    pub sender: String,
}

impl Onboarding {
    pub fn new() -> Onboarding {
        Onboarding { event: unique("orders.placed"), sender: unique("orders-web") }
    }

    fn changes(&self, settings: Value) -> Vec<Change> {
        let topic = json!({ "service": "orders", "capacity": { "mb_per_second": 0.01 } });
        vec![
            change(&format!("topic/core/{}", self.event), topic),
            self.route(settings),
            self.key(json!({})),
            self.grant(),
        ]
    }

    fn route(&self, settings: Value) -> Change {
        let spec = json!({ "service": "orders", "cluster": "core", "topic": self.event, "settings": settings });
        change(&format!("event_type/{}", self.event), spec)
    }

    fn key(&self, settings: Value) -> Change {
        let mut spec = json!({ "service": "orders" });
        spec.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        change(&format!("sender/{}", self.sender), spec)
    }

    pub fn grant_id(&self) -> String {
        format!("access/core/{}:publish:{}", self.sender, self.event)
    }

    fn grant(&self) -> Change {
        let spec = json!({ "service": "orders", "level": "publish", "target": self.event, "principal": self.sender });
        change(&self.grant_id(), spec)
    }
}

pub fn raw() -> Value {
    json!({ "encoding": "raw_json" })
}

fn config(fixture: &Fixture, plane: &Plane) -> String {
    plane.routes() + &fixture.config()
}

pub async fn send(proxy: &Proxy, key: &str, events: &Value) -> Reply {
    let request = proxy.request("POST", "/v1/events").header("content-type", "application/json");
    http::send(request.bearer_auth(key).body(events.to_string())).await.expect("a reply")
}

/// Sends an event until its reply has this status.
pub async fn until(proxy: &Proxy, key: &str, event: &str, number: u64, status: u16) -> Reply {
    let body = Oracle::event(event, number);
    wait_until("the reply", async || match send(proxy, key, &body).await {
        reply if reply.status == status => Ok(reply),
        reply => Err(format!("{} {}", reply.status, reply.text())),
    })
    .await
}

pub async fn gauge(proxy: &Proxy, name: &str) -> u64 {
    let samples = proxy.metrics().await;
    samples.iter().filter(|sample| sample.name == name).map(|sample| sample.value).sum::<f64>() as u64
}

async fn refused(proxy: &Proxy, reason: &str) -> u64 {
    let samples = proxy.metrics().await;
    let found = samples.iter().find(|sample| {
        sample.name == "iguazu_routes_refused_total" && sample.labels.get("reason").is_some_and(|label| label == reason)
    });
    found.expect("every reason is shown").value as u64
}

/// Waits until `/ready` says something under a name; none: until it says nothing there.
pub async fn await_condition(proxy: &Proxy, name: &str, text: Option<&str>) {
    wait_until("the condition", async || {
        let ready = proxy.admin("/ready").await.json();
        let conditions = ready["conditions"].as_array().expect("a list").clone();
        let found = conditions.iter().find(|condition| condition["name"] == name);
        let reason = found.map(|condition| condition["reason"].as_str().expect("a text").to_owned());
        match (&reason, text) {
            (None, None) => Ok(()),
            (Some(reason), Some(text)) if reason.contains(text) => Ok(()),
            _ => Err(ready.to_string()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_approved_is_live_in_a_proxy_that_runs() {
    let fixture = Fixture::new();
    let plane = Plane::start(&fixture).await;
    let mut proxy = Proxy::start(&config(&fixture, &plane)).await;
    assert_eq!(send(&proxy, "nobody", &Oracle::event("any", 1)).await.status, 401, "nobody is let in by nobody");

    let (one, other) = (Onboarding::new(), Onboarding::new());
    let begun = Instant::now();
    plane.done(one.changes(raw())).await;
    let applied = begun.elapsed();
    let key = plane.key_of(&one.sender, 1).await;
    until(&proxy, &key, &one.event, 1, 202).await;
    println!("applied after {applied:?}, live after {:?}", begun.elapsed());

    let avro = json!({ "encoding": "avro", "subject": fixture.subject, "avro_subject": fixture.avro_subject });
    plane.done(other.changes(avro)).await;
    let other_key = plane.key_of(&other.sender, 1).await;
    let mut oracle = Oracle::default();
    oracle.sent(1);
    until(&proxy, &other_key, &other.event, 1, 202).await;
    oracle.acknowledged(1);
    assert_eq!(send(&proxy, &key, &Oracle::event(&other.event, 2)).await.status, 403, "it is granted to another");
    plane.done(vec![gone(&other.grant_id())]).await;
    // Until the proxy knows of it some are taken.
    oracle.sent(3);
    until(&proxy, &other_key, &other.event, 3, 403).await;
    plane.done(vec![gone(&format!("event_type/{}", other.event))]).await;
    until(&proxy, &other_key, &other.event, 4, 404).await;

    proxy.await_ready().await;
    assert!(gauge(&proxy, "iguazu_routes_revision").await > 1_600_000_000_000);
    proxy.settled().await;
    proxy.finish();
    plane.finish().await;
    oracle.check(&Reader::new(&fixture.cluster, fixture.registry).read(&other.event, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_rotated_with_overlap_and_a_sender_that_is_revoked_is_out() {
    let fixture = Fixture::new();
    let plane = Plane::start(&fixture).await;
    let orders = Onboarding::new();
    plane.done(orders.changes(raw())).await;
    let first = plane.key_of(&orders.sender, 1).await;
    let proxy = Proxy::start(&config(&fixture, &plane)).await;
    until(&proxy, &first, &orders.event, 1, 202).await;

    plane.done(vec![orders.key(json!({ "generation": 2, "overlap_hours": 1 }))]).await;
    let second = plane.key_of(&orders.sender, 2).await;
    until(&proxy, &second, &orders.event, 2, 202).await;
    assert_eq!(send(&proxy, &first, &Oracle::event(&orders.event, 3)).await.status, 202, "both are taken");

    plane.done(vec![orders.key(json!({ "generation": 3, "overlap_hours": 0 }))]).await;
    let third = plane.key_of(&orders.sender, 3).await;
    until(&proxy, &third, &orders.event, 4, 202).await;
    for old in [&first, &second] {
        until(&proxy, old, &orders.event, 5, 401).await;
    }
    plane.done(vec![gone(&orders.grant_id()), gone(&format!("sender/{}", orders.sender))]).await;
    until(&proxy, &third, &orders.event, 6, 401).await;
    assert_eq!(proxy.settled().await.failed, 0);
    proxy.finish();
    plane.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brakes_and_quotas_reach_a_proxy_that_runs() {
    let fixture = Fixture::new();
    let plane = Plane::start(&fixture).await;
    let orders = Onboarding::new();
    plane.done(orders.changes(raw())).await;
    let key = plane.key_of(&orders.sender, 1).await;
    let proxy = Proxy::start(&config(&fixture, &plane)).await;
    until(&proxy, &key, &orders.event, 1, 202).await;

    plane.done(vec![orders.route(json!({ "encoding": "raw_json", "disabled": true }))]).await;
    until(&proxy, &key, &orders.event, 2, 503).await;
    plane.done(vec![orders.route(raw()), orders.key(json!({ "disabled": true }))]).await;
    let reply = until(&proxy, &key, &orders.event, 3, 503).await;
    assert_eq!(reply.json()["results"][0]["code"], "disabled");
    plane.done(vec![orders.key(json!({}))]).await;
    until(&proxy, &key, &orders.event, 4, 202).await;

    let quota = format!("quota/core/{}", orders.event);
    let limits =
        |bytes: u64| json!({ "service": "orders", "event_type": orders.event, "produce_bytes_per_second": bytes });
    plane.done(vec![change(&quota, limits(1))]).await;
    let reply = until(&proxy, &key, &orders.event, 5, 429).await;
    assert_eq!(reply.json()["results"][0]["code"], "rate_limited");
    plane.done(vec![change(&quota, limits(100_000_000))]).await;
    until(&proxy, &key, &orders.event, 6, 202).await;
    plane.done(vec![gone(&quota)]).await;
    plane.await_event(&orders.event, |event| event.is_some_and(|event| event.get("limits").is_none())).await;
    proxy.settled().await;
    proxy.finish();
    plane.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_signed_older_or_of_another_format_is_refused_whole() {
    let fixture = Fixture::new();
    let plane = Plane::start(&fixture).await;
    let orders = Onboarding::new();
    plane.done(orders.changes(raw())).await;
    let key = plane.key_of(&orders.sender, 1).await;
    let mut proxy = Proxy::start(&config(&fixture, &plane)).await;
    proxy.expect_log("is refused whole");
    until(&proxy, &key, &orders.event, 1, 202).await;
    let revision = gauge(&proxy, "iguazu_routes_revision").await;

    let nothing = r#"{"events":{},"senders":{}}"#;
    let statement = |revision: u64, format: u32| Statement { format, revision, sha256: digest(nothing), proxies: 1 };
    let newer = plane.signed(&statement(revision + 9, ROUTES_FORMAT), nothing);
    let forged = {
        let mut forged: Value = serde_json::from_str(&newer).unwrap();
        let changed = forged["statement"].as_str().unwrap().replace("\"proxies\":1", "\"proxies\":2");
        assert_ne!(forged["statement"], changed);
        forged["statement"] = changed.into();
        forged.to_string()
    };
    for (answer, reason, text) in [
        (forged, "signature", "signed by none of the keys"),
        (plane.signed(&statement(revision - 1, ROUTES_FORMAT), nothing), "older", "has gone back"),
        (plane.signed(&statement(revision, ROUTES_FORMAT), nothing), "contradiction", "another document"),
        (plane.signed(&statement(revision + 9, ROUTES_FORMAT + 1), nothing), "format", "this version reads"),
        (plane.signed(&statement(revision + 9, ROUTES_FORMAT), "{}"), "digest", "not the one that was signed"),
    ] {
        *plane.instead.lock().unwrap() = Some(answer);
        wait_until(reason, async || match refused(&proxy, reason).await {
            0 => Err(proxy.admin("/ready").await.text()),
            _ => Ok(()),
        })
        .await;
        await_condition(&proxy, "routes", Some(text)).await;
        assert_eq!(send(&proxy, &key, &Oracle::event(&orders.event, 2)).await.status, 202, "{reason}");
    }
    assert_eq!(gauge(&proxy, "iguazu_routes_revision").await, revision);

    *plane.instead.lock().unwrap() = None;
    await_condition(&proxy, "routes", None).await;
    plane.done(vec![orders.route(json!({ "encoding": "raw_json", "disabled": true }))]).await;
    until(&proxy, &key, &orders.event, 3, 503).await;
    proxy.settled().await;
    proxy.finish();
    plane.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_route_stays_as_it_was_and_the_others_change() {
    let fixture = Fixture::new();
    let plane = Plane::start(&fixture).await;
    let (bad, good) = (Onboarding::new(), Onboarding::new());
    plane.done(bad.changes(raw())).await;
    plane.done(good.changes(raw())).await;
    let (bad_key, good_key) = (plane.key_of(&bad.sender, 1).await, plane.key_of(&good.sender, 1).await);
    let mut proxy = Proxy::start(&config(&fixture, &plane)).await;
    proxy.expect_log("a route is refused");
    until(&proxy, &bad_key, &bad.event, 1, 202).await;
    until(&proxy, &good_key, &good.event, 1, 202).await;

    // As a control plane of another version might: it knows a setting that this proxy does not.
    let mut tx = plane.store.begin().await.unwrap();
    let id = format!("event_type/{}", bad.event).parse().unwrap();
    let mut live = tx.published_of(&id).await.unwrap().unwrap().live.unwrap();
    live["disabled"] = json!(true);
    live["teleport"] = json!("yes");
    tx.publish(&id, &live).await.unwrap();
    tx.commit().await.unwrap();
    plane.done(vec![good.route(json!({ "encoding": "raw_json", "disabled": true }))]).await;
    until(&proxy, &good_key, &good.event, 2, 503).await;
    assert_eq!(send(&proxy, &bad_key, &Oracle::event(&bad.event, 2)).await.status, 202, "its last good version");
    let name = format!("route of event type {}", bad.event);
    await_condition(&proxy, &name, Some("teleport")).await;
    assert_eq!(gauge(&proxy, "iguazu_routes_held").await, 1);

    // A restart keeps it so.
    let folder = proxy.folder().to_owned();
    proxy.settled().await;
    proxy.finish();
    let mut proxy = Proxy::start_in(folder, &config(&fixture, &plane));
    proxy.expect_log("a route is refused");
    until(&proxy, &bad_key, &bad.event, 3, 202).await;

    plane.done(vec![bad.route(json!({ "encoding": "raw_json", "disabled": true }))]).await;
    until(&proxy, &bad_key, &bad.event, 4, 503).await;
    await_condition(&proxy, &name, None).await;
    proxy.settled().await;
    proxy.finish();
    plane.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_starts_without_its_control_plane_from_the_last_good_routes() {
    let fixture = Fixture::new();
    let plane = Plane::start(&fixture).await;
    let orders = Onboarding::new();
    plane.done(orders.changes(raw())).await;
    let key = plane.key_of(&orders.sender, 1).await;
    let text = config(&fixture, &plane);
    let mut proxy = Proxy::start(&text).await;
    proxy.expect_log("does not answer");
    until(&proxy, &key, &orders.event, 1, 202).await;
    plane.go_down();
    await_condition(&proxy, "control plane", Some("does not answer")).await;
    assert_eq!(send(&proxy, &key, &Oracle::event(&orders.event, 2)).await.status, 202);
    let folder = proxy.folder().to_owned();
    proxy.settled().await;
    proxy.finish();

    let mut proxy = Proxy::start_in(folder.clone(), &text);
    proxy.expect_log("does not answer");
    proxy.await_ready().await;
    assert_eq!(send(&proxy, &key, &Oracle::event(&orders.event, 3)).await.status, 202);
    // It is back and goes on.
    plane.come_back();
    plane.done(vec![orders.route(json!({ "encoding": "raw_json", "disabled": true }))]).await;
    until(&proxy, &key, &orders.event, 4, 503).await;
    await_condition(&proxy, "control plane", None).await;
    proxy.settled().await;
    proxy.finish();

    // Somebody has given themselves a key, on the proxy's own disk.
    plane.go_down();
    let kept = folder.join("state").join("routes.json");
    let copy = std::fs::read_to_string(&kept).unwrap();
    let changed = copy.replace("sha256\\\":\\\"", "sha256\\\":\\\"00");
    assert_ne!(copy, changed);
    std::fs::write(&kept, changed).unwrap();
    let mut proxy = Proxy::start_in(folder, &text);
    for expected in ["does not answer", "of no use"] {
        proxy.expect_log(expected);
    }
    await_condition(&proxy, "control plane", Some("does not answer")).await;
    let ready = proxy.admin("/ready").await;
    assert_eq!(
        (ready.status, ready.json()["ready"].clone()),
        (503, json!(false)),
        "without routes there is nothing to take"
    );
    plane.come_back();
    until(&proxy, &key, &orders.event, 5, 503).await;
    proxy.await_ready().await;
    proxy.finish();
    plane.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_type_waits_for_its_schema_and_goes_live_by_itself() {
    let fixture = Fixture::new();
    let plane = Plane::start(&fixture).await;
    let orders = Onboarding::new();
    let subject = unique("it.v1.Late");
    plane.done(orders.changes(json!({ "encoding": "json", "subject": subject, "message": "it.v1.Numbered" }))).await;
    let id = format!("event_type/{}", orders.event);
    let waiting = plane.resource(&id).await.unwrap();
    assert_eq!(waiting.state, ResourceState::Waiting);
    assert!(
        waiting.message.contains("waiting for schema") && waiting.message.contains(&subject),
        "{}",
        waiting.message
    );
    let key = plane.key_of(&orders.sender, 1).await;
    let proxy = Proxy::start(&config(&fixture, &plane)).await;
    let reply = until(&proxy, &key, &orders.event, 1, 503).await;
    let result = reply.json()["results"][0].clone();
    assert_eq!(result["code"], "event_type_unavailable", "{result}");
    let message = result["message"].as_str().expect("a text");
    assert!(message.contains("waits for its schema") && message.contains(&subject), "{message}");
    assert!(reply.header("retry-after").is_some(), "{:?}", reply.headers);
    let ready = proxy.admin("/ready").await;
    let listed = ready.json()["unavailable"].clone();
    assert_eq!((ready.status, listed[0]["event"].as_str()), (200, Some(&*orders.event)), "{listed}");
    assert!(listed[0]["reason"].as_str().is_some_and(|reason| reason.contains(&subject)), "{listed}");
    // Whoever may not send it is told no more than of any other name.
    let other = Onboarding::new();
    plane.done(vec![other.key(json!({}))]).await;
    let stranger = plane.key_of(&other.sender, 1).await;
    until(&proxy, &stranger, &orders.event, 1, 404).await;

    fixture.registry.register_protobuf(&subject, super::support::oracle::PROTOBUF);
    until(&proxy, &key, &orders.event, 2, 202).await;
    let ready = plane.resource(&id).await.unwrap();
    assert_eq!((ready.state, ready.message.as_str()), (ResourceState::Ready, ""));
    assert_eq!(proxy.admin("/ready").await.json()["unavailable"], json!([]));

    // Other settings whose schema is not there yet leave those of before in force.
    let next = unique("it.v1.Later");
    plane.done(vec![orders.route(json!({ "encoding": "json", "subject": next, "message": "it.v1.Numbered" }))]).await;
    assert_eq!(plane.resource(&id).await.unwrap().state, ResourceState::Waiting);
    plane.await_event(&orders.event, |event| event.is_some_and(|event| event["subject"] == json!(subject))).await;
    assert_eq!(send(&proxy, &key, &Oracle::event(&orders.event, 3)).await.status, 202);
    fixture.registry.register_protobuf(&next, super::support::oracle::PROTOBUF);
    plane.await_event(&orders.event, |event| event.is_some_and(|event| event["subject"] == json!(next))).await;
    proxy.settled().await;
    proxy.finish();
    plane.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rates_of_the_fleet_are_shared_among_the_proxies_that_ask() {
    let fixture = Fixture::new();
    let plane = Plane::start(&fixture).await;
    let orders = Onboarding::new();
    plane.done(orders.changes(json!({ "encoding": "raw_json", "limits": { "events_per_second": 10 } }))).await;
    let key = plane.key_of(&orders.sender, 1).await;
    let text = config(&fixture, &plane);
    let one = Proxy::start(&text).await;
    let other = Proxy::start(&text).await;
    for proxy in [&one, &other] {
        wait_until("the share", async || match gauge(proxy, "iguazu_routes_proxies").await {
            2 => Ok(()),
            proxies => Err(format!("{proxies} proxies")),
        })
        .await;
        // The events of one request are all weighed at one moment: of a second's worth each proxy has a half.
        let events: Vec<Value> = (0..20).map(|number| Oracle::event(&orders.event, number)).collect();
        let reply = send(proxy, &key, &json!(events)).await.json();
        assert_eq!((&reply["succeeded"], &reply["failed"]), (&json!(5), &json!(15)), "{reply}");
        proxy.settled().await;
    }
    one.finish();
    other.finish();
    plane.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_addresses_of_the_control_plane_change_while_a_proxy_runs() {
    let fixture = Fixture::new();
    let mut plane = Plane::start(&fixture).await;
    let orders = Onboarding::new();
    plane.done(orders.changes(raw())).await;
    let key = plane.key_of(&orders.sender, 1).await;
    let (stranger, _) = SigningKey::fresh().unwrap();
    let (stranger, known) = (stranger.public().to_string(), plane.public_key().to_owned());
    let mut proxy = Proxy::start_unready(&(plane.routes_by(&[&plane.url()], &[&stranger]) + &fixture.config()));
    for expected in ["is refused whole", "does not answer"] {
        proxy.expect_log(expected);
    }
    await_condition(&proxy, "routes", Some("signed by none of the keys")).await;

    // As a key is replaced: both are taken, one has signed.
    proxy.change_to(&(plane.routes_by(&[&plane.url()], &[&stranger, &known]) + &fixture.config())).await;
    until(&proxy, &key, &orders.event, 1, 202).await;

    // Another node over the same store has the same snapshot, and goes on where the first is gone.
    let second = plane.second_node().await;
    proxy.change_to(&(plane.routes_by(&[&plane.url(), &second], &[&known]) + &fixture.config())).await;
    let revision = gauge(&proxy, "iguazu_routes_revision").await;
    plane.go_down();
    plane.done(vec![orders.route(json!({ "encoding": "raw_json", "disabled": true }))]).await;
    until(&proxy, &key, &orders.event, 2, 503).await;
    assert!(gauge(&proxy, "iguazu_routes_revision").await > revision);
    assert_eq!(gauge(&proxy, "iguazu_routes_refused_total").await, refused(&proxy, "signature").await);
    proxy.settled().await;
    proxy.finish();
    plane.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_types_of_a_cluster_that_a_proxy_does_not_have_are_left_to_others_until_it_has_it() {
    let fixture = Fixture::new();
    let plane = Plane::start(&fixture).await;
    let orders = Onboarding::new();
    plane.done(orders.changes(raw())).await;
    let key = plane.key_of(&orders.sender, 1).await;
    let far = Onboarding { event: unique("orders.far"), sender: orders.sender.clone() };
    let mut tx = plane.store.begin().await.unwrap();
    let settings = json!({ "cluster": "far", "topic": orders.event, "encoding": "raw_json" });
    tx.publish(&format!("event_type/{}", far.event).parse().unwrap(), &settings).await.unwrap();
    let grant = json!({ "sender": far.sender, "event": far.event });
    tx.publish(&far.grant_id().parse().unwrap(), &grant).await.unwrap();
    tx.commit().await.unwrap();
    plane.await_event(&far.event, |event| event.is_some()).await;

    let text = config(&fixture, &plane);
    let proxy = Proxy::start(&text).await;
    until(&proxy, &key, &orders.event, 1, 202).await;
    until(&proxy, &key, &far.event, 1, 404).await;
    assert_eq!(gauge(&proxy, "iguazu_routes_held").await, 0, "it is no problem of this proxy");
    let brokers = fixture.cluster.brokers();
    let brokers: Vec<_> = brokers.split(',').collect();
    proxy.change_to(&format!("{text}[clusters.far]\nbrokers = {brokers:?}\n")).await;
    until(&proxy, &key, &far.event, 2, 202).await;
    proxy.settled().await;
    proxy.finish();
    plane.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_quota_limits_an_event_type_in_the_proxies_and_a_user_in_kafka() {
    let fixture = Fixture::new();
    let plane = Plane::start(&fixture).await;
    let orders = Onboarding::new();
    let user = unique("orders-app");
    plane.done(orders.changes(raw())).await;
    plane.done(vec![change(&format!("user/core/{user}"), json!({ "service": "orders" }))]).await;
    let quota = format!("quota/core/{user}");
    let spec = |bytes: u64| {
        json!({ "service": "orders", "user": user, "event_type": orders.event, "produce_bytes_per_second": bytes,
            "events_per_second": 50 })
    };
    let admin = super::kafka_admin::admin(&fixture.cluster);
    let in_kafka = async || {
        let filter =
            QuotaFilter { user: Some(QuotaMatch::Exactly(user.clone())), strict: true, ..QuotaFilter::default() };
        let quotas = admin.describe_quotas(&filter).await.unwrap();
        quotas.into_iter().flat_map(|quota| quota.values).collect::<Vec<_>>()
    };
    for bytes in [1_000_000, 2_000_000] {
        plane.done(vec![change(&quota, spec(bytes))]).await;
        let limits = json!({ "bytes_per_second": bytes, "events_per_second": 50 });
        plane.await_event(&orders.event, |event| event.is_some_and(|event| event["limits"] == limits)).await;
        // Kafka counts on each of the three brokers by itself: a third each, and half as much again.
        assert_eq!(in_kafka().await, [("producer_byte_rate".to_owned(), bytes as f64 / 2.0)]);
    }
    plane.done(vec![gone(&quota)]).await;
    plane.await_event(&orders.event, |event| event.is_some_and(|event| event.get("limits").is_none())).await;
    assert_eq!(in_kafka().await, []);
    plane.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_type_that_proxies_would_refuse_is_refused_when_it_is_asked_for() {
    let fixture = Fixture::new();
    let plane = Plane::start(&fixture).await;
    let orders = Onboarding::new();
    let refused = async |settings: Value, topic: &str| {
        let spec = json!({ "service": "orders", "cluster": "core", "topic": topic, "settings": settings });
        let request = plane.desk.submit(&ann(), ask(vec![change(&format!("event_type/{}", orders.event), spec)])).await;
        let request = request.unwrap();
        assert_eq!(request.state, RequestState::Rejected, "{request:#?}");
        let violations = &request.changes[0].violations;
        violations.iter().map(|v| format!("{}: {}", v.field, v.problem)).collect::<Vec<_>>()
    };
    let found =
        refused(json!({ "encoding": "wax", "limits": { "events_per_second": 0 }, "topic": "x" }), "no-topic").await;
    assert_eq!(
        found,
        [
            "settings.topic: `topic` follows from what stands beside `settings`",
            "settings.encoding: `wax` is none of `avro`, `protobuf`, `json`, `raw_json`",
            "settings.limits.events_per_second: 0 is out of range; it must be at least 1",
            "topic: there is no topic `no-topic` on cluster `core`",
        ]
    );
    // Two messages under one Avro subject are each right by itself.
    let other = Onboarding::new();
    let avro = |subject: &str| json!({ "encoding": "avro", "subject": subject, "avro_subject": fixture.avro_subject });
    plane.done(orders.changes(avro(&fixture.subject))).await;
    let request = plane.desk.submit(&ann(), ask(other.changes(avro("another.Message")))).await.unwrap();
    plane.applier.run_once().await.unwrap();
    let request = plane.store.request::<Request>(&request.id).await.unwrap().unwrap().document;
    assert_eq!(request.state, RequestState::Failed);
    assert!(request.message.contains("two messages never share one"), "{}", request.message);
    plane.await_event(&orders.event, |event| event.is_some()).await;
    plane.finish().await;
}
