//! A fleet behind a load balancer that knows it by its probes only: every proxy is restarted, one is taken away, all under load,
//! and nobody who sends notices.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::balancer::{Backend, Balancer};
use super::support::fixture::Fixture;
use super::support::load::{Load, Stream};
use super::support::proxy::{Proxy, with_settings};
use super::support::read_back::Reader;
use super::support::{folder, http, ports, wait_until};

const PROXIES: usize = 3;
const STREAMS: usize = 3;
/// How long a proxy that stops goes on: the balancer asks ten times in that.
const DELAY_SECONDS: u64 = 1;
/// Requests of a fresh proxy that its first one is compared with.
const REQUESTS: usize = 50;
/// What a first request may take beside twice the median: on two cores that run brokers, a balancer and senders, waking up alone
/// takes some milliseconds now and then.
const FLOOR: Duration = Duration::from_millis(50);

fn config_at(config: &str, backend: Backend) -> String {
    let Backend { http, admin } = backend;
    let config = config.replacen("127.0.0.1:0", &format!("127.0.0.1:{http}"), 1);
    config.replacen("127.0.0.1:0", &format!("127.0.0.1:{admin}"), 1)
}

#[tokio::test]
async fn a_rolling_restart_and_a_scale_down_behind_a_balancer_are_not_noticed() {
    let fixture = Fixture::new();
    let config = with_settings(&fixture.config(), "http", &format!("drain_delay_seconds = {DELAY_SECONDS}"));
    let streams: Vec<_> = (0..STREAMS)
        .map(|number| {
            let event = format!("it.roll.{number}");
            let topic = fixture.topic(&event);
            let query = if number == 0 { "reply=acknowledged" } else { "reply=enqueued" };
            (Stream { event, query }, topic)
        })
        .collect();
    let events: String = streams.iter().map(|(stream, topic)| fixture.event_type(&stream.event, topic, "")).collect();
    let config = config + &events;
    let backends: Vec<_> =
        ports::free(2 * PROXIES).chunks(2).map(|pair| Backend { http: pair[0], admin: pair[1] }).collect();
    let start = async |number: usize| {
        let mut proxy = Proxy::start_in(folder("proxy"), &config_at(&config, backends[number]));
        proxy.await_ready().await;
        proxy
    };
    let mut proxies = Vec::new();
    for number in 0..PROXIES {
        proxies.push(start(number).await);
    }
    let mut balancer = Balancer::start(&backends);
    balancer.await_up(&["p0", "p1", "p2"]).await;

    let load = Load::start(balancer.address(), &streams.iter().map(|(stream, _)| stream.clone()).collect::<Vec<_>>());
    let mut delivered = 0;
    for number in 0..PROXIES {
        load.await_replies(20);
        proxies[number].terminate();
        let left: Vec<_> = ["p0", "p1", "p2"].into_iter().filter(|name| *name != format!("p{number}")).collect();
        balancer.await_up(&left).await;
        // The port is free again when the one before is gone.
        delivered += proxies.remove(number).finish().delivered;
        proxies.insert(number, start(number).await);
        balancer.await_up(&["p0", "p1", "p2"]).await;
    }
    load.await_replies(20);
    let mut last = proxies.pop().expect("there are three");
    last.terminate();
    balancer.await_up(&["p0", "p1"]).await;
    delivered += last.finish().delivered;
    load.await_replies(20);

    let all_sent = load.stop();
    for proxy in proxies {
        delivered += proxy.finish().delivered;
    }
    let mut found = 0;
    for ((stream, topic), mut sent) in streams.iter().zip(all_sent) {
        let codes: BTreeSet<_> = sent.codes.keys().map(String::as_str).collect();
        assert!(codes.is_subset(&BTreeSet::from(["acknowledged", "enqueued"])), "{}: {:?}", stream.event, sent.codes);
        // No proxy died: what was accepted into memory is owed as well.
        sent.enqueued.iter().for_each(|number| sent.oracle.acknowledged(*number));
        let records = Reader::new(&fixture.cluster, fixture.registry).read(topic, sent.oracle.owed());
        let findings = sent.oracle.check(&records);
        assert!(findings.duplicates.is_empty() && findings.unacknowledged.is_empty(), "{findings:?}");
        println!("{}: {} events, the slowest reply took {:?}", stream.event, findings.events, sent.slowest);
        found += findings.events as u64;
    }
    assert_eq!(delivered, found);
}

/// A proxy that is ready has nothing left to make for its first request: schemas are compiled, connections are open.
#[tokio::test]
async fn the_first_request_of_a_fresh_proxy_is_about_as_fast_as_any() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.fresh");
    let proxy = Proxy::start(&(fixture.config() + &fixture.event_type("it.fresh", &topic, ""))).await;
    let mut took = Vec::new();
    for number in 1..=REQUESTS as u64 {
        // A connection of its own each, as the first one has.
        let client = http::client();
        let event = super::support::oracle::Oracle::event("it.fresh", number);
        let request = client.post(format!("{}/v1/events", proxy.url())).header("content-type", "application/json");
        let begun = Instant::now();
        let reply = http::send(request.body(json!(event).to_string())).await.expect("the proxy answers");
        took.push(begun.elapsed());
        assert_eq!(reply.status, 202, "{}", reply.text());
    }
    let first = took[0];
    took.sort();
    let median = took[took.len() / 2];
    println!("the first request took {first:?}, the median is {median:?}");
    assert!(first <= 2 * median + FLOOR, "{first:?}, and the median is {median:?}");
    proxy.finish();
}

/// A balancer that asks seldom: until it has asked, connections and requests come as before.
#[tokio::test]
async fn a_proxy_that_stops_says_so_and_goes_on_until_balancers_have_heard() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.delay");
    let config = with_settings(&fixture.config(), "http", "drain_delay_seconds = 600");
    let mut proxy = Proxy::start(&(config + &fixture.event_type("it.delay", &topic, ""))).await;
    proxy.terminate();
    wait_until("it is no longer ready", async || match proxy.admin("/ready").await.status {
        503 => Ok(()),
        status => Err(format!("{status}")),
    })
    .await;
    for number in 1..=20 {
        // A new connection each time.
        let client = http::client();
        let event = super::support::oracle::Oracle::event("it.delay", number);
        let request = client.post(format!("{}/v1/events?reply=acknowledged", proxy.url()));
        let request = request.header("content-type", "application/json").body(json!(event).to_string());
        let reply = http::send(request).await.expect("the proxy answers");
        assert_eq!((reply.status, reply.header("connection")), (200, None), "{}", reply.text());
    }
    proxy.expect_log("told to stop again");
    // A second signal ends the wait.
    proxy.terminate();
    assert_eq!(proxy.finish().delivered, 20);
}
