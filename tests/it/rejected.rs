//! Rejected events of event types that ask for it are in their dead-letter topic, as they were sent, and what failed is there,
//! too; good events do not notice, and `iguazu redrive` sends them back.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::support::fixture::Fixture;
use super::support::kafka::Topic;
use super::support::oracle::Oracle;
use super::support::proxy::{Ledger, Proxy, event_type};
use super::support::read_back::{ReadBack, Reader};
use super::support::tool::{Ended, iguazu};
use super::support::wait_until;

const EVENT: &str = "it.rejected";

async fn metric(proxy: &Proxy, name: &str, label: &str) -> u64 {
    let samples = proxy.metrics().await;
    let wanted = samples.iter().filter(|sample| {
        sample.name == name && (label.is_empty() || sample.labels.values().any(|value| value == label))
    });
    wanted.map(|sample| sample.value).sum::<f64>() as u64
}

/// Waits until so many dead letters are acknowledged.
async fn await_letters(proxy: &Proxy, count: u64) {
    wait_until("dead letters are in Kafka", async || match metric(proxy, "iguazu_dead_letters_sent_total", "").await {
        sent if sent == count => Ok(()),
        sent => Err(format!("{sent}, not {count}")),
    })
    .await;
}

/// Waits until dead letters are kept: their topic is looked up beside everything else.
async fn await_topic(proxy: &Proxy) {
    wait_until("the dead-letter topic is known", async || {
        let (sent, dropped) = counted(proxy).await;
        let refused = proxy.send(&json!({"event": EVENT, "id": "probe", "payload": 7})).await;
        assert_eq!(refused.status, 422, "{}", refused.text());
        // Each is counted before the next one is sent, so that none is on its way when a test begins to count.
        let now = wait_until("the probe is counted", async || {
            let now = counted(proxy).await;
            if now.0 + now.1 > sent + dropped { Ok(now) } else { Err(format!("{now:?}")) }
        });
        if now.await.0 > sent { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
}

/// Dead letters that are acknowledged, and those that found no topic.
async fn counted(proxy: &Proxy) -> (u64, u64) {
    let dropped = metric(proxy, "iguazu_dead_letters_dropped_total", "unavailable").await;
    (metric(proxy, "iguazu_dead_letters_sent_total", "").await, dropped)
}

/// The letters of a topic by the event's id, but for the probes.
fn letters(fixture: &Fixture, topic: &str, count: usize) -> BTreeMap<String, ReadBack> {
    let found = Reader::with(fixture.cluster.client(), None).read(topic, count);
    let by_id = found.into_iter().map(|letter| {
        let id = letter.header("iguazu-dead-letter-id").or(letter.header("ce_id"));
        (id.expect("these have ids").to_owned(), letter)
    });
    by_id.filter(|(id, _)| id != "probe").collect()
}

fn redrive(proxy: &Proxy, arguments: &[&str]) -> Ended {
    let to = proxy.url();
    let begin = ["redrive", "iguazu.toml", "--dead-letters", EVENT, "--to", to.as_str()];
    iguazu(proxy.folder(), &[&begin[..], arguments].concat())
}

#[tokio::test]
async fn what_is_rejected_for_its_content_is_in_the_dead_letter_topic_as_it_was_sent() {
    let fixture = Fixture::new();
    let (topic, dead) = (fixture.topic(EVENT), fixture.topic("it.rejected.dead"));
    let settings = format!(
        "key = \"text\"\nmissing_key = \"reject\"\ndead_letter = {dead:?}\nlimits = {{ event_bytes_max = 500 }}\n"
    );
    let proxy = Proxy::start(&(fixture.config() + &fixture.event_type(EVENT, &topic, &settings))).await;
    await_topic(&proxy).await;
    let before = metric(&proxy, "iguazu_dead_letters_sent_total", "").await;

    // Five kinds in one body, a good one among them.
    let large = json!({"event": EVENT, "id": "large", "payload": {"text": "x".repeat(600)}});
    let events = json!([
        {"event": EVENT, "id": "wrong", "key": "k", "source": "tests", "time": "2026-01-31T08:30:00+01:00",
         "properties": {"a": 1}, "headers": {"x-own": "h"}, "payload": {"number": true}},
        {"event": EVENT, "id": "good", "payload": {"text": "t"}},
        {"event": EVENT, "id": "unknown", "payload": {"text": "t", "colour": 1}},
        {"event": EVENT, "id": "keyless", "payload": {"number": 1}},
        large,
        {"event": EVENT, "id": "envelope", "time": "yesterday", "payload": {"text": "t"}},
        {"event": EVENT, "id": "schema", "schema": {"version": 99}, "payload": {"text": "t"}},
        {"event": "it.nobody", "id": "nobody", "payload": {}},
    ]);
    let reply = proxy.send(&events).await.json();
    let codes: Vec<_> = reply["results"].as_array().expect("results").iter().map(|r| r["code"].clone()).collect();
    let expected = [
        "invalid_payload",
        "unknown_field",
        "missing_key",
        "event_too_large",
        "invalid_envelope",
        "unknown_schema",
        "unknown_event",
    ];
    assert_eq!(codes, expected, "{reply}");
    let request =
        proxy.request("POST", &format!("/v1/events/{EVENT}")).header("content-type", "application/x-protobuf");
    let reply = request.header("ce-id", "wire").body(vec![0xff, 0x01]).send().await.expect("a reply");
    assert_eq!(reply.status(), 422);
    await_letters(&proxy, before + 7).await;
    let ledger = proxy.ledger_of(EVENT).await;
    assert_eq!(ledger.delivered, 1, "a dead letter is no event: {ledger:?}");
    proxy.finish();

    let found = letters(&fixture, &dead, before as usize + 7);
    let ids: Vec<_> = found.keys().map(String::as_str).collect();
    assert_eq!(ids, ["envelope", "keyless", "large", "schema", "unknown", "wire", "wrong"]);
    let wrong = &found["wrong"];
    assert_eq!(wrong.bytes.as_deref(), Some(&br#"{"number":true}"#[..]));
    assert_eq!(wrong.key.as_deref(), Some(&b"k"[..]));
    let received = wrong.timestamp_ms.expect("the time it was received");
    let headers: Vec<_> =
        wrong.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref().unwrap_or_default())).collect();
    let at = wrong.header("iguazu-dead-letter-at").expect("when").to_owned();
    let message = wrong.header("iguazu-dead-letter-message").expect("why").to_owned();
    assert!(message.contains("number") && !message.contains("true"), "the path, and no value: {message}");
    assert!(received > 1_700_000_000_000 && at.ends_with('Z'), "{at}");
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", "wrong"),
        ("ce_source", "tests"),
        ("ce_type", EVENT),
        ("content-type", "application/json"),
        ("ce_time", "2026-01-31T08:30:00+01:00"),
        ("ce_properties", "{\"a\":1}"),
        ("x-own", "h"),
        ("iguazu-dead-letter", "1"),
        ("iguazu-dead-letter-stage", "rejected"),
        ("iguazu-dead-letter-code", "invalid_payload"),
        ("iguazu-dead-letter-message", &message),
        ("iguazu-dead-letter-event", EVENT),
        ("iguazu-dead-letter-at", &at),
        ("iguazu-dead-letter-id", "wrong"),
        ("iguazu-dead-letter-door", "events"),
        ("iguazu-dead-letter-part", "payload"),
    ];
    assert_eq!(headers, expected);
    let check = |id: &str, header: &str, expected: &str| {
        assert_eq!(found[id].header(&format!("iguazu-dead-letter-{header}")), Some(expected), "{id}");
    };
    check("unknown", "code", "unknown_field");
    check("keyless", "code", "missing_key");
    check("large", "code", "event_too_large");
    check("schema", "schema", "version:99");
    check("wire", "code", "malformed_protobuf");
    check("wire", "door", "event");
    check("envelope", "part", "event");
    assert_eq!(found["wire"].bytes.as_deref(), Some(&[0xff, 0x01][..]));
    assert_eq!(found["wire"].header("content-type"), Some("application/x-protobuf"));
    let sent: Value = serde_json::from_slice(found["envelope"].bytes.as_deref().expect("a value")).expect("JSON");
    assert_eq!(sent, events[5], "envelope and payload together");
    assert_eq!(found["large"].bytes.as_deref().map(<[u8]>::len), Some(large["payload"].to_string().len()));
}

#[tokio::test]
async fn what_was_rejected_goes_through_the_door_again_after_a_fix() {
    let fixture = Fixture::new();
    let (topic, dead) = (fixture.topic(EVENT), fixture.topic("it.rejected.dead"));
    let settings = |more: &str| format!("dead_letter = {dead:?}\n{more}");
    let strict = fixture.config() + &fixture.event_type(EVENT, &topic, &settings(""));
    let proxy = Proxy::start(&strict).await;
    await_topic(&proxy).await;
    let probes = metric(&proxy, "iguazu_dead_letters_sent_total", "").await;
    let mut oracle = Oracle::default();
    let count = 100;
    let events: Vec<Value> = (1..=count)
        .map(|number| {
            oracle.sent(number);
            oracle.acknowledged(number);
            let mut event = Oracle::event(EVENT, number);
            // An id of the sender's with what HTTP headers do not carry as it is.
            event["source"] = json!("ü 100%");
            event["payload"]["colour"] = json!("not in the schema");
            event
        })
        .collect();
    assert_eq!(proxy.send(&json!(events)).await.status, 422);
    let lost_cause = proxy.send(&json!({"event": EVENT, "id": "lost", "payload": {"number": "no"}})).await;
    assert_eq!(lost_cause.status, 422, "{}", lost_cause.text());
    // The limit of a hundred a second may have left some out.
    wait_until("all dead letters are settled", async || {
        let sent = metric(&proxy, "iguazu_dead_letters_sent_total", "").await;
        let dropped = metric(&proxy, "iguazu_dead_letters_dropped_total", "rate_limited").await;
        if sent + dropped == probes + count + 1 { Ok(()) } else { Err(format!("{sent} and {dropped}")) }
    })
    .await;
    assert_eq!(metric(&proxy, "iguazu_dead_letters_dropped_total", "rate_limited").await, 0);
    let folder = proxy.folder().to_owned();
    proxy.finish();

    let lenient = fixture.config() + &fixture.event_type(EVENT, &topic, &settings("unknown_fields = \"drop\"\n"));
    let mut proxy = Proxy::start_in(folder, &lenient);
    proxy.await_ready().await;
    await_topic(&proxy).await;
    let only = ["--code", "unknown_field"];
    let told = redrive(&proxy, &[&only[..], &["--dry-run"]].concat()).printed();
    assert!(told.contains(&format!("{count} found")), "{told}");
    let told = redrive(&proxy, &only).printed();
    assert!(told.contains(&format!("{count} found")) && told.contains(&format!("{count} sent, 0 refused")), "{told}");
    let again = redrive(&proxy, &only).printed();
    assert!(again.starts_with("0 found"), "the position is kept: {again}");
    // Whatever is still wrong is refused again, and told.
    let lost = redrive(&proxy, &["--id", "lost"]);
    assert_eq!(lost.code, Some(1), "{lost:?}");
    assert!(lost.stdout.contains("1 refused again") && lost.stdout.contains("invalid_payload"), "{lost:?}");
    proxy.finish();
    let records = Reader::new(&fixture.cluster, fixture.registry).read(&topic, oracle.owed());
    let findings = oracle.check(&records);
    assert!(findings.duplicates.is_empty(), "{findings:?}");
    assert!(records.iter().all(|record| record.header("ce_source") == Some("ü 100%")), "{:?}", records[0].headers);
}

#[tokio::test]
async fn a_record_that_kafka_refuses_is_in_the_dead_letter_topic_and_goes_back_as_it_was() {
    let fixture = Fixture::new();
    let keyed = Topic { partitions: 1, replicas: 2, settings: &[("cleanup.policy", "compact")] };
    let (topic, dead) = (fixture.cluster.topic(EVENT, keyed), fixture.topic("it.rejected.dead"));
    let settings = format!("dead_letter = {dead:?}");
    let config = format!("state_dir = \"state\"\n{}", fixture.config());
    let mut proxy = Proxy::start(&(config + &fixture.event_type(EVENT, &topic, &settings))).await;
    proxy.expect_log("record was not delivered");
    await_topic(&proxy).await;
    let mut oracle = Oracle::default();
    let events: Vec<Value> = (1..=50)
        .map(|number| {
            oracle.sent(number);
            oracle.acknowledged(number);
            Oracle::event(EVENT, number)
        })
        .collect();
    assert_eq!(proxy.send(&json!(events)).await.status, 202);
    let ledger = proxy.settled().await;
    assert_eq!((ledger.failed, ledger.in_memory), (50, 0), "{ledger:?}");
    assert_eq!(metric(&proxy, "iguazu_events_failed_kept_total", "dead_letter_topic").await, 50);
    fixture.cluster.set(&topic, "cleanup.policy", "delete");
    let told = redrive(&proxy, &["--code", "record_refused"]).printed();
    assert!(told.contains("50 sent, 0 refused again"), "{told}");

    // A dead-letter topic that takes nothing makes no dead letter of a dead letter: then it is the failed log's.
    fixture.cluster.set(&topic, "cleanup.policy", "compact");
    fixture.cluster.set(&dead, "max.message.bytes", "100");
    let event = |number| json!({"event": EVENT, "id": format!("o-{number}"), "payload": Oracle::payload(number)});
    oracle.sent(51);
    oracle.acknowledged(51);
    assert_eq!(proxy.send(&event(51)).await.status, 202);
    wait_until("the last one failed", async || {
        let ledger = proxy.settled().await;
        if ledger.failed == 51 { Ok(()) } else { Err(format!("{ledger:?}")) }
    })
    .await;
    assert_eq!(metric(&proxy, "iguazu_events_failed_kept_total", "failed_log").await, 1);
    fixture.cluster.set(&topic, "cleanup.policy", "delete");
    let told = iguazu(proxy.folder(), &["redrive", "iguazu.toml", "--failed"]).printed();
    assert!(told.contains("1 sent, 0 refused again"), "{told}");
    proxy.finish();
    let records = Reader::new(&fixture.cluster, fixture.registry).read(&topic, oracle.owed());
    let findings = oracle.check(&records);
    assert!(findings.duplicates.is_empty(), "{findings:?}");
    let ours = |record: &ReadBack| record.headers.iter().any(|(name, _)| name.starts_with("iguazu-dead-letter"));
    assert!(!records.iter().any(ours), "what was added for people is gone");
}

#[tokio::test]
async fn a_flood_of_bad_events_takes_nothing_from_the_good_ones() {
    let fixture = Fixture::new();
    let (topic, dead) = (fixture.topic(EVENT), fixture.topic("it.rejected.dead"));
    // All are wanted, so that only the buffer of dead letters limits them.
    let sampling = "[dead_letters]\nevents_per_second = 1000000\n\n";
    let event_types = fixture.event_type(EVENT, &topic, &format!("dead_letter = {dead:?}"));
    let proxy = Proxy::start(&(fixture.config() + sampling + &event_types)).await;
    await_topic(&proxy).await;
    let before = proxy.ledger().await.rejected;
    let resident = proxy.resident_bytes();
    let bad: Vec<Value> = (0..200).map(|_| json!({"event": EVENT, "payload": {"number": "x".repeat(4_000)}})).collect();
    let bad = json!(bad).to_string();
    let mut oracle = Oracle::default();
    let flood = async {
        for _ in 0..100 {
            let reply = proxy.post("/v1/events", "application/json", bad.clone()).await;
            assert_eq!(reply.status, 422, "{}", reply.text());
        }
    };
    let good = async {
        for number in 1..=200 {
            oracle.sent(number);
            let event = Oracle::event(EVENT, number);
            let reply = proxy.post("/v1/events", "application/json", event.to_string()).await;
            assert_eq!(reply.status, 202, "{}", reply.text());
            oracle.acknowledged(number);
        }
    };
    tokio::join!(flood, good);
    let grown = proxy.resident_bytes().saturating_sub(resident);
    let ledger = proxy.settled().await;
    assert_eq!(ledger, Ledger { received: before + 20_200, delivered: 200, rejected: before + 20_000, ..ledger });
    wait_until("each is kept or counted", async || {
        let sent = metric(&proxy, "iguazu_dead_letters_sent_total", "").await;
        let dropped = metric(&proxy, "iguazu_dead_letters_dropped_total", "").await;
        if sent + dropped == before + 20_000 { Ok(()) } else { Err(format!("{sent} and {dropped}")) }
    })
    .await;
    // 80 MB were rejected; the buffer of dead letters is 16 MiB, and the allocator keeps some of what passed through.
    assert!(grown < 120 << 20, "{grown} bytes");
    let ready = proxy.admin("/ready").await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    proxy.finish();
    oracle.check(&Reader::new(&fixture.cluster, fixture.registry).read(&topic, oracle.owed()));
}

#[tokio::test]
async fn a_dead_letter_topic_that_is_missing_is_a_note_and_no_outage() {
    let fixture = Fixture::new();
    let (topic, dead) = (fixture.topic(EVENT), super::support::unique("it.rejected.dead"));
    let config = fixture.config() + &event_type(EVENT, &topic, "raw_json", &format!("dead_letter = {dead:?}"));
    let mut proxy = Proxy::start(&config).await;
    proxy.expect_log("dead letters are not kept now");
    wait_until("it is told on /ready", async || {
        let ready = proxy.admin("/ready").await;
        assert_eq!(ready.status, 200, "{}", ready.text());
        if ready.text().contains(&dead) { Ok(()) } else { Err(ready.text()) }
    })
    .await;
    assert_eq!(proxy.send(&json!({"event": EVENT, "payload": {}})).await.status, 202);
    let bad = || proxy.post(const { "/v1/events/it.rejected" }, "application/json", "{\"a\":");
    assert_eq!(bad().await.status, 422);
    assert_eq!(metric(&proxy, "iguazu_dead_letters_dropped_total", "unavailable").await, 1);
    fixture.cluster.create_topic(&dead, Topic::default());
    wait_until("it heals by itself", async || {
        bad().await;
        if metric(&proxy, "iguazu_dead_letters_sent_total", "").await > 0 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    assert!(!proxy.admin("/ready").await.text().contains(&dead));
    proxy.finish();
}
