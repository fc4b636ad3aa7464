//! Faults under load: brokers that die, one, two, the controller; that are restarted one after the other; networks that lose,
//! delay and break; a cluster that is away while its neighbour is not; a buffer that fills. Each ends with the conservation
//! oracle, the ledger law and the memory ([`Ordeal::end`]).
//!
//! What no real broker shows when it is asked to, librdkafka's mock cluster injects.

use std::time::Duration;

use iguazu::dev::brokers::EmbeddedBrokers;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::json;

use super::support::fixture::Fixture;
use super::support::gate::{Gate, Gatekeeper};
use super::support::kafka::Topic;
use super::support::load::{Load, Stream};
use super::support::long;
use super::support::oracle::Oracle;
use super::support::ordeal::{Happened, Ordeal};
use super::support::proxy::{Proxy, event_type, with_settings};
use super::support::read_back::Reader;
use super::support::tool::iguazu;
use super::support::wait_until;

/// librdkafka's errors of brokers that are away.
const AWAY: &str = "kafka client reports an error";

/// Requests that are answered between two faults: time for what the fault did to show.
const BETWEEN: u64 = 20;

#[tokio::test]
async fn the_death_of_the_controller_and_of_two_brokers_costs_time_and_no_event() {
    let ordeal = Ordeal::new("it.deaths");
    let proxy = ordeal.start(&ordeal.config(&ordeal.cluster.brokers())).await;
    let (before, load) = (proxy.resident_bytes(), ordeal.load(&proxy));
    // In the long form often enough to say how many events go with a leader that was the only one to have them.
    for _ in 0..if long() { 10 } else { 1 } {
        load.await_replies(BETWEEN);
        let controller = ordeal.cluster.controller();
        ordeal.cluster.kill(controller);
        load.await_replies(BETWEEN);
        ordeal.cluster.restore();
    }
    // Neither a quorum nor enough replicas are left.
    let leader = ordeal.cluster.leader(ordeal.topic("all"), 0);
    let other = 1 + leader % 3;
    ordeal.cluster.kill(leader);
    ordeal.cluster.kill(other);
    spooled(&proxy, 50.0).await;
    ordeal.cluster.restore();
    load.await_replies(BETWEEN);
    let happened = Happened { leaders_changed: true, connections_broke: true, ..Happened::default() };
    let verdict = ordeal.end(proxy, load, before, happened).await;
    assert_eq!(verdict.ledger.rejected, 0, "there was room for all: {verdict:?}");
}

#[tokio::test]
async fn brokers_that_are_restarted_one_after_the_other_cost_no_event() {
    let ordeal = Ordeal::new("it.rolling");
    let proxy = ordeal.start(&ordeal.config(&ordeal.cluster.brokers())).await;
    let (before, load) = (proxy.resident_bytes(), ordeal.load(&proxy));
    for node in 1..=3 {
        load.await_replies(BETWEEN);
        ordeal.cluster.stop(node);
        load.await_replies(BETWEEN);
        ordeal.cluster.restart(node);
        ordeal.cluster.restore();
    }
    let happened = Happened { leaders_changed: true, connections_broke: true, ..Happened::default() };
    let verdict = ordeal.end(proxy, load, before, happened).await;
    assert_eq!(verdict.ledger.rejected, 0, "{verdict:?}");
}

/// One broker is stopped for longer than a record may wait; in the long form for 20 s.
#[tokio::test]
async fn a_broker_that_hangs_under_load_costs_time_and_no_event() {
    let ordeal = Ordeal::new("it.hangs");
    let proxy = ordeal.start(&ordeal.config(&ordeal.cluster.brokers())).await;
    let (before, load) = (proxy.resident_bytes(), ordeal.load(&proxy));
    load.await_replies(BETWEEN);
    ordeal.cluster.pause(2);
    spooled(&proxy, 50.0).await;
    if long() {
        load.go_on_for(Duration::from_secs(20));
    }
    ordeal.cluster.resume(2);
    load.await_replies(BETWEEN);
    let happened = Happened { leaders_changed: true, connections_broke: true, ..Happened::default() };
    let verdict = ordeal.end(proxy, load, before, happened).await;
    assert_eq!(verdict.ledger.rejected, 0, "there was room for all: {verdict:?}");
}

#[tokio::test]
async fn a_network_that_is_slow_breaks_and_swallows_costs_time_and_no_event() {
    let ordeal = Ordeal::new("it.network");
    let gates = ordeal.cluster.gates();
    let proxy = ordeal.start(&ordeal.config(&ordeal.cluster.gated_brokers())).await;
    let (before, load) = (proxy.resident_bytes(), ordeal.load(&proxy));
    load.await_replies(BETWEEN);
    gates.iter().for_each(|gate| gate.set(Gate::Slow(Duration::from_millis(200))));
    load.await_replies(BETWEEN);
    let made = || gates.iter().map(Gatekeeper::connections).sum::<u64>();
    for _ in 0..5 {
        let connections = made();
        gates.iter().for_each(Gatekeeper::reset);
        wait_until("the proxy connects again", async || match made() {
            now if now > connections => Ok(()),
            now => Err(format!("{now} connections")),
        })
        .await;
        load.await_replies(4);
    }
    gates.iter().for_each(|gate| gate.set(Gate::Narrow(200_000)));
    load.await_replies(BETWEEN);
    gates.iter().for_each(|gate| gate.set(Gate::Open));
    // What was asked arrives and is done; nobody is told. Then the connection breaks.
    gates[0].set(Gate::Silent);
    load.await_replies(BETWEEN);
    gates[0].reset();
    gates[0].set(Gate::Open);
    // One broker is behind a hole for longer than a record may wait.
    gates[1].set(Gate::Hole);
    let spooled_before = metric(&proxy, "iguazu_spool_written_total").await;
    spooled(&proxy, spooled_before + 30.0).await;
    gates[1].set(Gate::Open);
    load.await_replies(BETWEEN);
    let verdict = ordeal.end(proxy, load, before, Happened { connections_broke: true, ..Happened::default() }).await;
    assert_eq!(verdict.ledger.rejected, 0, "{verdict:?}");
}

/// Two clusters of one proxy, the same brokers twice: by their own addresses, and through gates that are shut.
#[tokio::test]
async fn a_cluster_that_is_away_is_not_felt_by_the_other() {
    let ordeal = Ordeal::new("it.apart");
    let gates = ordeal.cluster.gates();
    let far_topic = ordeal.cluster.topic("it.apart.far", Topic::default());
    let far = format!(
        "[clusters.far]\nbrokers = [{:?}]\nmessage_timeout_ms = 2000\nbuffer_bytes_max = 4194304\n\n",
        gates[0].address().to_string()
    ) + &event_type("it.far", &far_topic, "raw_json", "acks = \"all\"").replace("\"core\"", "\"far\"");
    let proxy = ordeal.start(&(ordeal.config(&ordeal.cluster.brokers()) + &far)).await;
    let (before, load) = (proxy.resident_bytes(), ordeal.load(&proxy));
    load.await_replies(BETWEEN);
    gates.iter().for_each(|gate| gate.set(Gate::Shut));
    for number in 1..=500 {
        let event = json!({"event": "it.far", "id": format!("far-{number}"), "payload": {"number": number}});
        assert_eq!(proxy.send(&event).await.status, 202);
    }
    let waiting = wait_until("they wait on disk", async || {
        let ledger = proxy.ledger_of("it.far").await;
        if ledger.in_spool >= 499 { Ok(ledger) } else { Err(format!("{ledger:?}")) }
    })
    .await;
    assert_eq!((waiting.received, waiting.failed, waiting.rejected), (500, 0, 0), "{waiting:?}");
    let written = proxy.metrics().await.into_iter().find(|sample| {
        sample.name == "iguazu_spool_written_total" && sample.labels.get("cluster").is_some_and(|c| c == "core")
    });
    assert_eq!(written.map(|sample| sample.value), Some(0.0), "nothing of the other cluster had to wait");
    gates.iter().for_each(|gate| gate.set(Gate::Open));
    let verdict = ordeal.end(proxy, load, before, Happened::default()).await;
    assert!(verdict.ledger.delivered > 500 && verdict.ledger.rejected == 0, "{verdict:?}");
    assert!(verdict.sent.values().all(|sent| sent.slowest < Duration::from_secs(5)), "somebody waited: {verdict:?}");
}

/// A spool that is full keeps what it has, refuses what is new, and has room again when Kafka is back.
#[tokio::test]
async fn a_full_spool_keeps_the_oldest_and_refuses_what_is_new() {
    let ordeal = Ordeal::new("it.brim");
    let gates = ordeal.cluster.gates();
    let topic = ordeal.cluster.topic("it.ballast", Topic::default());
    // What is in memory and times out, a full spool cannot take either.
    let config = patient(&ordeal.config(&ordeal.cluster.gated_brokers()));
    let config = with_settings(&config, "spool", "bytes_max = 16777216")
        + &event_type("it.ballast", &topic, "raw_json", "acks = \"all\"");
    let proxy = ordeal.start(&config).await;
    let (before, load) = (proxy.resident_bytes(), ordeal.load(&proxy));
    load.await_replies(BETWEEN);
    gates.iter().for_each(|gate| gate.set(Gate::Shut));
    // Few events fill it.
    let text = "b".repeat(60_000);
    let send = async |number: u32| {
        let id = format!("ballast-{number}");
        proxy.send(&json!({"event": "it.ballast", "id": id, "payload": {"number": number, "text": text}})).await
    };
    let mut taken = 0;
    let refused = loop {
        let reply = send(taken).await;
        if reply.status != 202 {
            break reply;
        }
        taken += 1;
        assert!(taken < 5_000, "a buffer and a spool of 16 MiB each took 5,000 events of 60 kB");
    };
    let code = refused.json()["results"][0]["code"].clone();
    assert_eq!((refused.status, code), (503, json!("buffer_full")), "{}", refused.text());
    assert!(refused.header("retry-after").is_some(), "{:?}", refused.headers);
    assert!(metric(&proxy, "iguazu_spool_refused_total").await > 0.0, "it is counted");
    gates.iter().for_each(|gate| gate.set(Gate::Open));
    wait_until("there is room again", async || {
        let reply = send(taken).await;
        if reply.status == 202 { Ok(()) } else { Err(reply.text()) }
    })
    .await;
    load.await_replies(BETWEEN);
    let ballast = wait_until("all that was taken is delivered", async || {
        let ledger = proxy.ledger_of("it.ballast").await;
        if ledger.in_memory + ledger.in_spool == 0 { Ok(ledger) } else { Err(format!("{ledger:?}")) }
    })
    .await;
    assert_eq!((ballast.delivered, ballast.failed), (u64::from(taken) + 1, 0), "{ballast:?}");
    ordeal.end(proxy, load, before, Happened { connections_broke: true, ..Happened::default() }).await;
}

/// Kafka is away and the disk is full: that is told, what is new is refused, and what was accepted is delivered when both are back.
#[tokio::test]
async fn a_full_disk_beside_brokers_that_are_away_is_told_and_costs_no_accepted_event() {
    let ordeal = Ordeal::new("it.disk");
    let gates = ordeal.cluster.gates();
    let config = patient(&ordeal.config(&ordeal.cluster.gated_brokers()));
    let config = config.replace("buffer_bytes_max = 16777216", "buffer_bytes_max = 1048576");
    let mut proxy = ordeal.start_with_small_files(&config, 256).await;
    proxy.expect_log("the spool's disk");
    let (before, load) = (proxy.resident_bytes(), ordeal.load(&proxy));
    load.await_replies(BETWEEN);
    gates.iter().for_each(|gate| gate.set(Gate::Shut));
    // Both logs of the cluster are on it: the spool, and the wal of the durable events.
    wait_until("the disk is full, and both say so", async || {
        let ready = proxy.admin("/ready").await.text();
        let is_full = |log: &str| {
            let reason = ready.split(&format!("\"{log} of core\",\"reason\":\"")).nth(1);
            reason.is_some_and(|reason| reason.starts_with("cannot write: File too large"))
        };
        if is_full("spool") && is_full("wal") { Ok(()) } else { Err(ready) }
    })
    .await;
    let full = proxy.metrics().await.into_iter().find(|sample| {
        sample.name == "iguazu_spool_errors_total" && sample.labels.get("kind").is_some_and(|kind| kind == "full")
    });
    assert!(full.is_some_and(|full| full.value > 0.0), "the kind of trouble is counted");
    wait_until("what is new is refused", async || match proxy.ledger().await.rejected {
        0 => Err("none".to_owned()),
        _ => Ok(()),
    })
    .await;
    proxy.enlarge_files();
    gates.iter().for_each(|gate| gate.set(Gate::Open));
    wait_until("the disk works again", async || {
        let ready = proxy.admin("/ready").await.text();
        if ready.contains("cannot write") { Err(ready) } else { Ok(()) }
    })
    .await;
    load.await_replies(BETWEEN);
    ordeal.end(proxy, load, before, Happened { connections_broke: true, ..Happened::default() }).await;
}

/// The same configuration, but what is in memory stays there for as long as a test takes.
fn patient(config: &str) -> String {
    let longer = [
        ("message_timeout_ms = 3000", "message_timeout_ms = 60000"),
        ("ack_timeout_seconds = 10", "ack_timeout_seconds = 70"),
        ("drain_seconds = 8", "drain_seconds = 70"),
    ];
    longer.iter().fold(config.to_owned(), |config, (short, long)| config.replace(short, long))
}

/// What was accepted for a topic that is deleted has failed, and is counted so; nothing else is touched, and the event type is
/// served again when its topic is back.
#[tokio::test]
async fn a_topic_that_is_deleted_under_load_takes_nothing_else_along() {
    let fixture = Fixture::new();
    let (gone, stays) = (fixture.topic("it.torn"), fixture.topic("it.whole"));
    let config = format!("schema_refresh_seconds = 5\nstate_dir = \"state\"\n{}", fixture.config());
    let config = with_settings(&config, "clusters.core", "message_timeout_ms = 4000\nlinger_ms = 20")
        + &fixture.event_type("it.torn", &gone, "acks = \"all\"")
        + &fixture.event_type("it.whole", &stays, "acks = \"all\"");
    let mut proxy = Proxy::start(&config).await;
    let told = ["event type is no longer available", "event type is not available", "record was not delivered", AWAY];
    told.iter().chain(&["unknown topic"]).for_each(|told| proxy.expect_log(told));
    let streams = ["it.torn", "it.whole"].map(|event| Stream { event: event.to_owned(), query: "" });
    let load = Load::start(proxy.http(), &streams);
    load.await_replies(BETWEEN);
    fixture.cluster.delete_topic(&gone);
    wait_until("the proxy sees that the topic is gone", async || {
        let ready = proxy.admin("/ready").await.text();
        if ready.contains(&gone) { Ok(()) } else { Err(ready) }
    })
    .await;
    load.await_replies(BETWEEN);
    fixture.cluster.create_topic(&gone, Topic::default());
    let delivered = proxy.ledger_of("it.torn").await.delivered;
    wait_until("the event type is served again", async || match proxy.ledger_of("it.torn").await.delivered {
        now if now > delivered => Ok(()),
        now => Err(format!("{now} delivered")),
    })
    .await;
    let [mut torn, mut whole] = <[_; 2]>::try_from(load.stop()).expect("two streams");
    proxy.settled().await;
    let [torn_ledger, whole_ledger] = [proxy.ledger_of("it.torn").await, proxy.ledger_of("it.whole").await];
    let place = proxy.folder().to_owned();
    // When a record's time is over while it is on its way, the client begins a new epoch, and Kafka does not know again what it repeats.
    let has_new_epoch =
        proxy.log().iter().any(|line| line.fields.get("facility").is_some_and(|facility| facility == "REQTMOUT"));
    proxy.finish();
    println!("deleted: {torn_ledger:?} {:?}", torn.codes);
    // The last one that was accepted and is not in the new topic came after the old one was gone.
    torn.enqueued.iter().for_each(|number| torn.oracle.acknowledged(*number));
    let reader = Reader::new(&fixture.cluster, fixture.registry);
    let since = (torn_ledger.delivered - delivered) as usize;
    let failed = torn.oracle.missing(&reader.read(&gone, since)).last().copied();
    let id = Oracle::id(failed.expect("something failed"));
    let find = ["find", "it.torn", &id, "--since", "2020-01-01T00:00:00Z", "--config", "iguazu.toml"];
    let said = iguazu(&place, &find).printed();
    assert!(said.starts_with("in the failed log"), "{id}: {said}");
    assert!(torn.count("event_type_unavailable") > 0, "{:?}", torn.codes);
    assert_eq!(
        torn_ledger.rejected,
        torn.count("event_type_unavailable"),
        "what was refused was told: {torn_ledger:?}"
    );
    assert_eq!(whole_ledger.delivered, whole.enqueued.len() as u64, "{whole_ledger:?}");
    whole.enqueued.iter().for_each(|number| whole.oracle.acknowledged(*number));
    let findings = whole.oracle.check(&reader.read(&stays, whole.oracle.owed()));
    assert!(findings.duplicates.is_empty() || has_new_epoch, "{findings:?}");
}

/// Brokers that do not answer: small events fill the buffer, whose bytes are the memory that it takes.
#[tokio::test]
async fn a_buffer_that_is_full_takes_no_more_memory_than_its_budget() {
    const BUFFER_BYTES: u64 = 64 << 20;
    let brokers = EmbeddedBrokers::start(1).expect("loopback has free ports");
    brokers.create_topic("it.fill", 3, 1).expect("it is new");
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\ndrain_seconds = 12\nread_timeout_seconds = 1\nack_timeout_seconds = 70\n\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n\n\
         [clusters.core]\nbrokers = [{:?}]\nbuffer_bytes_max = {BUFFER_BYTES}\nmessage_timeout_ms = 60000\n\n",
        brokers.bootstrap()
    ) + &event_type("it.fill", "it.fill", "raw_json", "acks = \"all\"");
    let mut proxy = Proxy::start(&config).await;
    for told in ["record was not delivered", "producer stopped", "could not be delivered", "configuration", AWAY] {
        proxy.expect_log(told);
    }
    let events = |first: u64| -> Vec<serde_json::Value> {
        (first..first + 500)
            .map(|n| json!({"event": "it.fill", "payload": {"n": n, "text": "t".repeat(200)}}))
            .collect()
    };
    assert_eq!(proxy.send(&json!(events(0))).await.status, 202);
    proxy.settled().await;
    let before = proxy.resident_bytes();
    brokers.set_round_trip(1, Duration::from_secs(600)).expect("the brokers obey");
    let mut first = 500;
    while proxy.send(&json!(events(first))).await.status == 202 {
        first += 500;
        assert!(first < 1_000_000, "64 MiB took a million events");
    }
    let grown = proxy.resident_peak_bytes().saturating_sub(before);
    println!("{first} events in a buffer of {BUFFER_BYTES} bytes: {grown} bytes more, {before} before");
    assert!(grown <= BUFFER_BYTES * 115 / 100, "a buffer of {BUFFER_BYTES} bytes took {grown}");
    let ledger = proxy.finish();
    assert!(ledger.failed > 0 && ledger.rejected > 0, "{ledger:?}");
}

/// The sum over the labels.
async fn metric(proxy: &Proxy, name: &str) -> f64 {
    proxy.metrics().await.iter().filter(|sample| sample.name == name).map(|sample| sample.value).sum()
}

/// Waits until so many events went to disk.
async fn spooled(proxy: &Proxy, count: f64) {
    wait_until("events wait on disk", async || match metric(proxy, "iguazu_spool_written_total").await {
        written if written >= count => Ok(()),
        written => Err(format!("{written} written")),
    })
    .await;
}

/// A sequence that the broker did not expect is an error that librdkafka's idempotent client never recovers from.
#[tokio::test]
async fn a_producer_that_is_beyond_repair_is_replaced_and_its_neighbour_is_not_disturbed() {
    let brokers = EmbeddedBrokers::start(1).expect("loopback has free ports");
    brokers.create_topic("it.fatal", 1, 1).expect("it is new");
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n\n[admin]\nlisten = \"127.0.0.1:0\"\n\n\
         [clusters.core]\nbrokers = [{:?}]\nlinger_ms = 5\n\n",
        brokers.bootstrap()
    ) + &event_type("it.all", "it.fatal", "raw_json", "acks = \"all\"")
        + &event_type("it.leader", "it.fatal", "raw_json", "acks = \"leader\"");
    let mut proxy = Proxy::start(&config).await;
    proxy.expect_log("producer turned fatal and is replaced");
    proxy.expect_log("kafka client reports an error");
    proxy.expect_log("record was not delivered");
    proxy.expect_log("\"text\":\"");
    let send = async |event: &str| {
        let event = json!({"event": event, "payload": {"a": 1}});
        proxy.post("/v1/events?reply=acknowledged", "application/json", event.to_string()).await
    };
    assert_eq!(send("it.all").await.status, 200);

    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    brokers.fail_requests(RDKafkaApiKey::Produce, vec![error]).expect("the brokers obey");
    let failed = send("it.all").await;
    assert_eq!(failed.status, 503, "{}", failed.text());
    assert_eq!(failed.json()["results"][0]["code"], json!("delivery_failed"), "{}", failed.text());
    assert_eq!(send("it.leader").await.status, 200, "the other lane has a client of its own");
    wait_until("another client has taken over", async || {
        let reply = send("it.all").await;
        if reply.status == 200 { Ok(()) } else { Err(reply.text()) }
    })
    .await;
    let replaced = proxy.log().into_iter().find(|line| line.message().contains("turned fatal"));
    assert_eq!(replaced.map(|line| line.fields["lane"].clone()), Some(json!("all")));
    proxy.settled().await;
    let ledger = proxy.finish();
    assert_eq!(ledger.delivered, 3, "{ledger:?}");
}
