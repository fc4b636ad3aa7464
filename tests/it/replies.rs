//! The reply says what is true: statuses, results, positions.

use serde_json::{Value, json};

use super::support::fixture::Fixture;
use super::support::oracle::Oracle;
use super::support::proxy::Proxy;
use super::support::read_back::Reader;

#[tokio::test]
async fn an_acknowledged_event_is_where_its_result_says() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.positions");
    let proxy = Proxy::start(&(fixture.config() + &fixture.event_type("it.positions", &topic, ""))).await;
    let mut events: Vec<Value> = (1..=200).map(|n| Oracle::event("it.positions", n)).collect();
    for (event, n) in events.iter_mut().zip(1u64..) {
        event["key"] = json!(format!("k{}", n % 17));
    }
    let reply =
        proxy.post("/v1/events?reply=acknowledged&results=all", "application/json", json!(events).to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let reply = reply.json();
    assert_eq!((&reply["reply"], &reply["succeeded"]), (&json!("acknowledged"), &json!(200)));
    let results = reply["results"].as_array().expect("results");
    assert_eq!(results.len(), 200);
    proxy.finish();
    let records = Reader::new(&fixture.cluster, fixture.registry).read(&topic, 200);
    for result in results {
        assert_eq!(result["code"], json!("acknowledged"));
        let at = (result["partition"].as_i64().expect("a partition"), result["offset"].as_i64().expect("an offset"));
        let record = records.iter().find(|r| (i64::from(r.partition), r.offset) == at).expect("a record at this place");
        assert_eq!(record.cloud_event.as_ref().expect("an event")["id"], result["id"]);
    }
}

#[tokio::test]
async fn each_reply_has_the_status_of_what_became_of_its_events() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.statuses");
    let config = fixture.config()
        + &fixture.event_type("it.ok", &topic, "")
        + &fixture.event_type("it.waits", &topic, "reply = \"acknowledged\"")
        + &fixture.event_type("it.small", &topic, "limits = { event_bytes_max = 20 }");
    let proxy = Proxy::start(&config).await;
    let ok = |n| Oracle::event("it.ok", n);
    let waits = |n| Oracle::event("it.waits", n);
    let unknown = json!({"event": "it.okk", "payload": {}});
    let bad = json!({"event": "it.ok", "payload": {"number": "x"}});
    let large = Oracle::event("it.small", 3);
    for (events, status, codes) in [
        (json!([ok(1)]), 202, json!([])),
        (json!([waits(1)]), 200, json!([])),
        (json!([ok(1), waits(2)]), 202, json!([])),
        (json!([unknown]), 404, json!(["unknown_event"])),
        (json!([unknown, unknown]), 404, json!(["unknown_event", "unknown_event"])),
        (json!([bad]), 422, json!(["invalid_payload"])),
        (json!([bad, unknown]), 422, json!(["invalid_payload", "unknown_event"])),
        (json!([large]), 413, json!(["event_too_large"])),
        (json!([ok(1), bad, waits(3)]), 207, json!(["invalid_payload"])),
    ] {
        let reply = proxy.send(&events).await;
        assert_eq!(reply.status, status, "{events} -> {}", reply.text());
        let results = reply.json()["results"].as_array().cloned().unwrap_or_default();
        let found: Vec<_> = results.iter().map(|result| result["code"].clone()).collect();
        assert_eq!(json!(found), codes, "{events} -> {}", reply.text());
    }
    let reply = proxy.send(&json!([unknown])).await;
    assert!(reply.text().contains("did you mean `it.ok`"), "{}", reply.text());
    let reply = proxy.send(&json!([bad])).await;
    assert!(reply.text().contains("$.number"), "the path is named: {}", reply.text());
    proxy.settled().await;
    proxy.finish();
}

#[tokio::test]
async fn an_unparseable_body_is_refused_whole_and_a_bad_line_alone() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.bodies");
    let proxy = Proxy::start(&(fixture.config() + &fixture.event_type("it.bodies", &topic, ""))).await;
    let good = Oracle::event("it.bodies", 1).to_string();
    let reply = proxy.post("/v1/events", "application/json", format!("[{good},")).await;
    assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("invalid_body")), "{}", reply.text());
    assert_eq!(proxy.ledger().await.received, 0, "nothing of it was taken");
    let lines = format!("{good}\n{{\"event\":\n\n{good}\r\n");
    let reply = proxy.post("/v1/events", "application/x-ndjson", lines).await;
    assert_eq!(reply.status, 207, "{}", reply.text());
    assert_eq!(
        (&reply.json()["failed"], &reply.json()["results"][0]["index"]),
        (&json!(1), &json!(1)),
        "{}",
        reply.text()
    );
    let ledger = proxy.settled().await;
    assert_eq!((ledger.received, ledger.delivered, ledger.rejected), (3, 2, 1));
    proxy.finish();
}

#[tokio::test]
async fn a_dry_run_shows_what_would_be_produced_and_produces_nothing() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.dry");
    let proxy = Proxy::start(&(fixture.config() + &fixture.event_type("it.dry", &topic, "key = \"text\""))).await;
    let reply = proxy.post("/v1/events?dry_run=true", "application/json", Oracle::event("it.dry", 9).to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!((&reply.json()["succeeded"], &reply.json()["failed"]), (&json!(1), &json!(0)));
    let result = &reply.json()["results"][0];
    assert_eq!(result["code"], json!("valid"));
    assert_eq!(result["topic"], json!(topic));
    assert_eq!(result["key"], Oracle::payload(9)["text"]);
    assert_eq!(result["value"]["half"], Oracle::payload(9)["half"]);
    assert_eq!(result["headers"]["ce_type"], json!("it.dry"));
    let ledger = proxy.ledger().await;
    assert_eq!((ledger.received, ledger.delivered), (0, 0));
    proxy.finish();
    assert!(Reader::new(&fixture.cluster, fixture.registry).read_within(&topic, 1, 1).is_empty());
}

#[tokio::test]
async fn unknown_fields_move_to_the_properties_within_their_limit() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.moved");
    let settings = "unknown_fields = \"properties\"";
    let proxy = Proxy::start(&(fixture.config() + &fixture.event_type("it.moved", &topic, settings))).await;
    let event = |bytes: usize, own: Value| {
        let payload = json!({"number": "1", "moved": "x".repeat(bytes)});
        json!({"event": "it.moved", "payload": payload, "properties": own})
    };
    let events =
        json!([event(4_000, json!({})), event(4_090, json!({})), event(2_500, json!({"own": "y".repeat(2_500)}))]);
    let reply = proxy.post("/v1/events", "application/json", events.to_string()).await;
    assert_eq!(reply.status, 207, "{}", reply.text());
    let reply = reply.json();
    let told: Vec<_> =
        reply["results"].as_array().expect("results").iter().map(|r| (&r["index"], &r["code"])).collect();
    assert_eq!(told, [(&json!(1), &json!("invalid_envelope")), (&json!(2), &json!("invalid_envelope"))]);
    proxy.settled().await;
    proxy.finish();
}

#[tokio::test]
async fn an_event_too_deep_fails_alone() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.deep");
    let raw = super::support::proxy::event_type("it.deep.raw", &topic, "raw_json", "");
    let proxy = Proxy::start(&(fixture.config() + &fixture.event_type("it.deep", &topic, "") + &raw)).await;
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let event = |name: &str, payload: String| format!("{{\"event\":\"{name}\",\"payload\":{payload}}}");
    let good = Oracle::event("it.deep", 1).to_string();
    for deep in [
        event("it.deep", format!("{{\"unknown\":{}}}", nested(101))),
        event("it.deep.raw", nested(101)),
        event("it.deep.raw", nested(5_000)),
    ] {
        for (media, body) in
            [("application/json", format!("[{deep},{good}]")), ("application/x-ndjson", format!("{deep}\n{good}"))]
        {
            let reply = proxy.post("/v1/events", media, body).await;
            assert_eq!((reply.status, &reply.json()["succeeded"]), (207, &json!(1)), "{}", reply.text());
            let result = &reply.json()["results"][0];
            assert!(result["code"] == json!("too_deep") || result["code"] == json!("unknown_field"), "{result}");
        }
    }
    let reply = proxy.post("/v1/events/it.deep.raw", "application/json", nested(100)).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    let reply = proxy.post("/v1/events/it.deep.raw", "application/json", nested(101)).await;
    assert_eq!((reply.status, &reply.json()["results"][0]["code"]), (422, &json!("too_deep")), "{}", reply.text());
    proxy.settled().await;
    proxy.finish();
}

#[tokio::test]
async fn compressed_bodies_are_read_and_bombs_are_not() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.compressed");
    let config = fixture.config().replace("[http]\n", "[http]\nbody_bytes_max = 65_536\n");
    let proxy = Proxy::start(&(config + &fixture.event_type("it.compressed", &topic, ""))).await;
    let event = Oracle::event("it.compressed", 1).to_string();
    for (encoding, body, status) in [
        ("gzip", gzip(event.as_bytes()), 202),
        ("zstd", zstd::encode_all(event.as_bytes(), 3).expect("in memory"), 202),
        ("gzip", gzip(&vec![b' '; 1 << 20]), 413),
        ("zstd", zstd::encode_all(&vec![b' '; 1 << 20][..], 3).expect("in memory"), 413),
        ("gzip", gzip(event.as_bytes())[..20].to_vec(), 400),
        ("br", event.clone().into_bytes(), 415),
    ] {
        let request = proxy.request("POST", "/v1/events").header("content-type", "application/json");
        let request = request.header("content-encoding", encoding).body(body);
        let reply = super::support::http::send(request).await.expect("a reply");
        assert_eq!(reply.status, status, "{encoding}: {}", reply.text());
    }
    proxy.settled().await;
    proxy.finish();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}
