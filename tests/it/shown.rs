//! What operators see of a running proxy: whose an event type is, results by door and code, the last rejections without a payload.

use serde_json::json;

use super::support::fixture::Fixture;
use super::support::oracle::Oracle;
use super::support::proxy::{Proxy, Sample, event_type, with_settings};
use super::support::wait_until;

const EVENT: &str = "it.shown";
const ABSENT: &str = "it.shown.absent";
/// Good events that a log must not grow with; a tenth of that is wrong, and another tenth nobody knows.
const EVENTS_LOGGED: u64 = 20_000;
/// Lines that one life of a proxy may have more than another one by chance, such as a client's that connects twice.
const LINES_MORE: u64 = 5;

#[track_caller]
fn check(samples: &[Sample], name: &str, labels: &[(&str, &str)], expected: f64) {
    let wanted = |sample: &&Sample| {
        sample.name == name
            && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|found| found == value))
    };
    let found: Vec<_> = samples.iter().filter(wanted).map(|sample| sample.value).collect();
    assert_eq!(found, [expected], "{name} {labels:?}");
}

#[tokio::test]
async fn replies_are_counted_by_door_and_code_and_owners_are_told() {
    let fixture = Fixture::new();
    let topic = fixture.topic(EVENT);
    let config = fixture.config()
        + "[telemetry]\nevent_types_max = 1\n\n"
        + &event_type(EVENT, &topic, "raw_json", "owner = \"checkout\"")
        + &event_type("it.shown.more", &topic, "raw_json", "")
        + &event_type("it.shown.most", &topic, "raw_json", "");
    let proxy = Proxy::start(&config).await;
    let good = json!({"event": EVENT, "payload": {"a": 1}});
    let (more, most) =
        (json!({"event": "it.shown.more", "payload": 1}), json!({"event": "it.shown.most", "payload": 2}));
    let unknown = json!({"event": "nobody.knows", "payload": {}});
    assert_eq!(proxy.send(&json!([good, more, most, unknown])).await.status, 207);
    assert_eq!(proxy.post("/v1/events/it.shown", "application/json", "{}").await.status, 202);
    assert_eq!(proxy.post("/v1/events", "application/json", "[").await.status, 400);
    assert_eq!(proxy.post("/v1/events/it.shown?reply=acknowledged", "application/json", "{}").await.status, 200);
    proxy.settled().await;

    let samples = proxy.metrics().await;
    let results = "iguazu_http_results_total";
    check(&samples, results, &[("door", "events"), ("code", "enqueued")], 3.0);
    check(&samples, results, &[("door", "events"), ("code", "unknown_event")], 1.0);
    check(&samples, results, &[("door", "event"), ("code", "enqueued")], 1.0);
    check(&samples, results, &[("door", "event"), ("code", "acknowledged")], 1.0);
    check(&samples, "iguazu_http_refused_total", &[("door", "events"), ("code", "invalid_body")], 1.0);
    check(&samples, "iguazu_http_request_events_sum", &[("door", "events")], 4.0);
    let labels = [("event", EVENT), ("owner", "checkout"), ("cluster", "core"), ("topic", topic.as_str())];
    check(&samples, "iguazu_event_type_info", &labels, 1.0);
    check(&samples, "iguazu_events_received_total", &[("event", EVENT)], 3.0);
    check(&samples, "iguazu_events_received_bytes_total", &[("event", EVENT)], 11.0);
    check(&samples, "iguazu_events_received_total", &[("event", "(other)"), ("cluster", "core")], 2.0);
    check(&samples, "iguazu_event_types_unlabelled", &[], 2.0);
    assert!(!samples.iter().any(|sample| sample.labels.values().any(|value| value == "it.shown.more")), "{samples:?}");
    check(&samples, "iguazu_log_lines_total", &[("level", "error")], 0.0);
    proxy.finish();
}

#[tokio::test]
async fn the_last_rejections_are_shown_without_a_payload() {
    let fixture = Fixture::new();
    let topic = fixture.topic(EVENT);
    let config = with_settings(&fixture.config(), "http", "") + &fixture.event_type(EVENT, &topic, "");
    let proxy = Proxy::start(&config).await;
    let secret = "do-not-show-me";
    for _ in 0..130 {
        let reply = proxy.send(&json!({"event": EVENT, "payload": {"number": secret}})).await;
        assert_eq!(reply.status, 422, "{}", reply.text());
    }
    let reply = proxy.admin(&format!("/rejections/{EVENT}")).await;
    assert!(!reply.text().contains(secret), "{}", reply.text());
    let shown = reply.json();
    let rejections = shown["events"][0]["rejections"].as_array().expect("a list");
    assert_eq!(rejections.len(), 100);
    for rejection in rejections {
        assert_eq!((rejection["code"].as_str(), rejection["door"].as_str()), (Some("invalid_payload"), Some("events")));
        assert!(rejection["message"].as_str().is_some_and(|message| message.contains("number")), "{rejection}");
        assert!(rejection["received_ms"].as_u64().is_some_and(|ms| ms > 1_600_000_000_000), "{rejection}");
    }
    assert_eq!(proxy.admin("/rejections").await.json(), shown);
    proxy.finish();
}

/// Two of them beyond what has series of its own.
#[tokio::test]
async fn an_event_type_that_cannot_be_served_is_told_by_its_name_while_that_is_so() {
    let fixture = Fixture::new();
    let topic = fixture.topic(EVENT);
    let absent = |name: &str| event_type(name, ABSENT, "raw_json", "owner = \"checkout\"");
    let config = format!(
        "startup_wait_seconds = 0\n{}[telemetry]\nevent_types_max = 2\n\n{}{}",
        fixture.config(),
        event_type(EVENT, &topic, "raw_json", ""),
        absent("it.shown.late"),
    );
    let others = [absent("it.shown.more"), absent("it.shown.most")].concat();
    let mut proxy = Proxy::start_unready(&(config.clone() + &others));
    proxy.expect_log("event type is not available");
    proxy.expect_log("started degraded");
    proxy.await_ready().await;
    let told = async || -> Vec<(String, f64)> {
        let samples = proxy.metrics().await.into_iter().filter(|sample| sample.name == "iguazu_event_type_unavailable");
        samples
            .map(|sample| (format!("{} {}", sample.labels["event"], sample.labels["cluster"]), sample.value))
            .collect()
    };
    let told_until = async |wanted: &[(&str, f64)]| {
        wait_until("what cannot be served is told", async || {
            let told = told().await;
            let is_so = told.iter().map(|(name, count)| (name.as_str(), *count)).eq(wanted.iter().copied());
            if is_so { Ok(()) } else { Err(format!("{told:?}")) }
        })
        .await;
    };
    told_until(&[("(other) core", 2.0), ("it.shown.late core", 1.0)]).await;
    // It goes to a topic that is there.
    proxy.change_to(&config.replace(ABSENT, &topic)).await;
    told_until(&[]).await;
    proxy.finish();
}

/// However many events come, good or bad: what one may look for of an event is counted, and not in the log.
#[tokio::test]
async fn the_log_does_not_grow_with_events() {
    let fixture = Fixture::new();
    let topic = fixture.topic(EVENT);
    let config = fixture.config() + &fixture.event_type(EVENT, &topic, "");
    let mut lines = Vec::new();
    for (requests, events) in [(1, 1), (EVENTS_LOGGED / 1000, 1000)] {
        let proxy = Proxy::start(&config).await;
        for request in 0..requests {
            let numbers = (request * events..(request + 1) * events).map(|number| number + 1);
            let good: Vec<_> = numbers.map(|number| Oracle::event(EVENT, number)).collect();
            assert_eq!(proxy.send(&json!(good)).await.status, 202);
            let wrong: Vec<_> =
                (0..events / 10 + 1).map(|_| json!({"event": EVENT, "payload": {"number": "x"}})).collect();
            assert_eq!(proxy.send(&json!(wrong)).await.status, 422);
            let unknown: Vec<_> =
                (0..events / 10 + 1).map(|_| json!({"event": "nobody.knows", "payload": {}})).collect();
            assert_eq!(proxy.send(&json!(unknown)).await.status, 404);
            assert_eq!(proxy.post("/v1/events", "application/json", "[").await.status, 400);
        }
        let log = proxy.folder().join("log");
        assert!(proxy.finish().delivered >= requests * events);
        // Whole, since the proxy has ended.
        lines.push(std::fs::read_to_string(log).expect("a proxy has a log").lines().count() as u64);
    }
    let [few, many] = lines[..] else { panic!("two proxies ran") };
    println!("{few} lines with one event, {many} with {EVENTS_LOGGED}");
    assert!(many <= few + LINES_MORE, "{few} lines with one event, {many} with {EVENTS_LOGGED}");
}
