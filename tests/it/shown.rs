//! What operators see of a running proxy: whose an event type is, results by door and code, the last rejections without a payload.

use serde_json::json;

use super::support::fixture::Fixture;
use super::support::proxy::{Proxy, Sample, event_type, with_settings};

const EVENT: &str = "it.shown";

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
