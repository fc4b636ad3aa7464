//! Who may send what, and how much.

use serde_json::{Value, json};

use super::support::fixture::Fixture;
use super::support::http::{self, Reply};
use super::support::kafka::Topic;
use super::support::proxy::Proxy;
use super::support::read_back::Reader;
use super::support::tool::iguazu;
use super::support::{folder, unique, wait_until};

/// A payload value that nothing but Kafka may show.
const SECRET: &str = "the customer's own words";

/// A key that the real command made, and the table that it printed for the configuration.
struct Key {
    key: String,
    table: String,
}

impl Key {
    fn new(sender: &str, event: &str) -> Key {
        let text = iguazu(&folder("sender"), &["sender", "new", sender, "--events", event]).printed();
        let key = text.split_whitespace().find(|word| word.starts_with("igz_")).expect("the key is shown").to_owned();
        let at = text.find("[senders.").expect("the table is shown");
        assert!(!text[at..].contains(&key), "the configuration holds the hash only");
        Key { key, table: format!("{}\n", &text[at..]) }
    }
}

#[tokio::test]
async fn a_key_opens_what_its_sender_may_send_and_nothing_else() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.senders");
    let (shop, app) = (Key::new("shop", "it.orders"), Key::new("app", "it.clicks*"));
    let config = fixture.config()
        + &fixture.event_type("it.orders", &topic, "")
        + &fixture.event_type("it.clicks", &topic, "")
        + &shop.table
        + &app.table;
    let proxy = Proxy::start(&config).await;
    let wrong = format!("{}x", shop.key);
    let mut replies = String::new();
    for (key, event, status, code) in [
        (None, "it.orders", 401, "unauthenticated"),
        (Some(wrong.as_str()), "it.orders", 401, "unauthenticated"),
        (Some("sha256:00"), "it.orders", 401, "unauthenticated"),
        (Some(app.key.as_str()), "it.orders", 403, "forbidden_event"),
        (Some(shop.key.as_str()), "it.clicks", 403, "forbidden_event"),
        (Some(shop.key.as_str()), "it.nobody", 404, "unknown_event"),
        (Some(shop.key.as_str()), "it.orders", 202, ""),
    ] {
        let reply = send(&proxy, key, &json!({"event": event, "payload": {"number": "1", "text": SECRET}})).await;
        assert_eq!(reply.status, status, "{key:?} {event}: {}", reply.text());
        assert!(reply.text().contains(code), "{key:?} {event}: {}", reply.text());
        replies += &reply.text();
    }
    let bad = json!({"event": "it.orders", "payload": {"number": SECRET}});
    let reply = send(&proxy, Some(&shop.key), &bad).await;
    assert_eq!(reply.status, 422, "{}", reply.text());
    replies += &reply.text();
    let ledger = proxy.settled().await;
    assert_eq!((ledger.received, ledger.delivered), (5, 1), "a request without a sender holds no event");
    let metrics = proxy.admin("/metrics").await.text();
    let log = format!("{:?}", proxy.log());
    proxy.finish();
    for (place, text) in [("a reply", replies), ("the metrics", metrics), ("the log", log)] {
        for secret in [&shop.key, &app.key, &wrong, SECRET] {
            assert!(!text.contains(secret), "{place} shows a secret");
        }
    }
    let records = Reader::new(&fixture.cluster, fixture.registry).read(&topic, 1);
    let [record] = &records[..] else { panic!("one record, not {records:?}") };
    assert_eq!(record.header("iguazu-sender"), Some("shop"));
    assert_eq!(record.header("ce_source"), Some("shop"), "the default source is the sender");
    assert_eq!(record.value["text"], json!(SECRET));
}

// A limit of one byte a second lets one event pass and is then in debt for as many seconds as it had bytes: no test waits
// for that, and none is over before it. The events of one request are all weighed at one moment.

#[tokio::test]
async fn a_sender_over_its_limits_is_told_when_to_come_back_whatever_else_changes() {
    let fixture = Fixture::new();
    let (topic, late) = (fixture.topic("it.limits"), unique("it.late"));
    let (slow, small) = (Key::new("slow", "*"), Key::new("small", "*"));
    let config = format!("startup_wait_seconds = 1\n{}", fixture.config())
        + &fixture.event_type("it.limits", &topic, "")
        + &fixture.event_type("it.late", &late, "")
        + &slow.table
        + "limits = { bytes_per_second = 1 }\n"
        + &small.table
        + "limits = { event_bytes_max = 100 }\n";
    let mut proxy = Proxy::start_unready(&config);
    proxy.expect_log("event type is not available");
    proxy.expect_log("started degraded");
    proxy.await_ready().await;
    let event = |name: &str, text: usize| json!({"event": name, "payload": {"text": "x".repeat(text)}});
    let check_refused = async |key: &Key, text: usize, status: u16, code: &str| {
        let reply = send(&proxy, Some(&key.key), &event("it.limits", text)).await;
        let found = (reply.status, reply.json()["results"][0]["code"].clone());
        assert_eq!(found, (status, json!(code)), "{}", reply.text());
        reply
    };
    let reply = check_refused(&small, 200, 413, "event_too_large").await;
    assert!(reply.text().contains("sender `small`"), "whose limit it is: {}", reply.text());
    assert_eq!(send(&proxy, Some(&slow.key), &event("it.limits", 900)).await.status, 202);
    let reply = check_refused(&slow, 900, 429, "rate_limited").await;
    let seconds: u64 = reply.header("retry-after").and_then(|value| value.parse().ok()).expect("seconds");
    assert!((500..=920).contains(&seconds), "{seconds} s");

    // The snapshot is replaced; the sender's debt is not forgiven.
    fixture.cluster.create_topic(&late, Topic::default());
    wait_until("the topic is found", async || {
        let reply = send(&proxy, Some(&small.key), &event("it.late", 1)).await;
        if reply.status == 202 { Ok(()) } else { Err(reply.text()) }
    })
    .await;
    check_refused(&slow, 900, 429, "rate_limited").await;
    proxy.settled().await;
    proxy.finish();
}

#[tokio::test]
async fn an_event_takes_from_no_limit_when_another_refuses_it() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.shared");
    let [few, loud, other] = ["few", "loud", "other"].map(|sender| Key::new(sender, "*"));
    let config = fixture.config()
        + &fixture.event_type("it.narrow", &topic, "limits = { bytes_per_second = 1 }")
        + &fixture.event_type("it.wide", &topic, "")
        + &fixture.event_type("it.two", &topic, "limits = { events_per_second = 2 }")
        + &few.table
        + "limits = { events_per_second = 3 }\n"
        + &loud.table
        + "limits = { bytes_per_second = 1 }\n"
        + &other.table;
    let proxy = Proxy::start(&config).await;
    let check = async |key: &Key, events: &[&str], refused: &[u64]| {
        let payload = json!({"text": "x".repeat(900)});
        let events: Value = events.iter().map(|event| json!({"event": event, "payload": payload})).collect();
        let reply = send(&proxy, Some(&key.key), &events).await;
        let results = reply.json()["results"].as_array().cloned().unwrap_or_default();
        assert!(results.iter().all(|result| result["code"] == "rate_limited"), "{}", reply.text());
        let found: Vec<_> = results.iter().filter_map(|result| result["index"].as_u64()).collect();
        assert_eq!(found, refused, "{}", reply.text());
    };
    // Two are refused for their event type's limit; their sender may still send three.
    check(&few, &["it.narrow", "it.narrow", "it.narrow", "it.wide", "it.wide", "it.wide"], &[1, 2, 5]).await;
    // Two are refused for their sender's limit; of the two that the event type takes a second, one is left for others.
    check(&loud, &["it.two", "it.two", "it.two"], &[1, 2]).await;
    check(&other, &["it.two"], &[]).await;
    proxy.settled().await;
    proxy.finish();
}

async fn send(proxy: &Proxy, key: Option<&str>, events: &Value) -> Reply {
    let mut request = proxy.request("POST", "/v1/events").header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    http::send(request.body(events.to_string())).await.expect("a reply")
}
