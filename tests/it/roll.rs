//! A fleet behind a load balancer that knows it by its probes only: every proxy is restarted, one is taken away, all under load,
//! and nobody who sends notices, not even those whose request is a proxy's first.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::balancer::{Backend, Balancer};
use super::support::fixture::Fixture;
use super::support::load::{Load, Stream};
use super::support::oracle::Oracle;
use super::support::proxy::{Proxy, with_settings};
use super::support::read_back::Reader;
use super::support::{folder, http, ports, wait_until};

const PROXIES: usize = 3;
const STREAMS: usize = 3;
/// How long a proxy that stops goes on: the balancer asks four times in that.
const DELAY_SECONDS: u64 = 1;
/// The event of each proxy's first request.
const FIRST: &str = "it.roll.first";

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
    let firsts = fixture.topic(FIRST);
    let config = config + &events + &fixture.event_type(FIRST, &firsts, "");
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

    let mut first_requests = Vec::new();
    let load = Load::start(balancer.address(), &streams.iter().map(|(stream, _)| stream.clone()).collect::<Vec<_>>());
    let mut delivered = 0;
    for number in 0..PROXIES {
        load.await_replies(20);
        proxies[number].terminate();
        let left: Vec<_> = ["p0", "p1", "p2"].into_iter().filter(|name| *name != format!("p{number}")).collect();
        balancer.await_up(&left).await;
        // The port is free again when the one before is gone.
        delivered += proxies.remove(number).finish().delivered;
        // Nothing comes to it before this one.
        balancer.keep_away(number);
        proxies.insert(number, start(number).await);
        first_requests.push(first_request(&proxies[number], number as u64).await);
        balancer.let_in(number);
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
    check_first_requests(first_requests, &all_sent[0].took);
    let mut found = Reader::new(&fixture.cluster, fixture.registry).read(&firsts, PROXIES).len() as u64;
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

/// How long the first request of a proxy takes that is ready and has served nobody: an event, acknowledged.
async fn first_request(proxy: &Proxy, number: u64) -> Duration {
    let event = Oracle::event(FIRST, number + 1);
    let request = http::client().post(format!("{}/v1/events?reply=acknowledged", proxy.url()));
    let request = request.header("content-type", "application/json").body(json!(event).to_string());
    let begun = Instant::now();
    let reply = http::send(request).await.expect("the proxy answers");
    let took = begun.elapsed();
    assert_eq!(reply.status, 200, "{}", reply.text());
    took
}

/// A proxy that is ready has nothing left to make for its first request: schemas are compiled, connections are open. The median of
/// the first ones, since any one request may wait for a core: two of three would have to.
fn check_first_requests(mut firsts: Vec<Duration>, all: &[Duration]) {
    let mut all = all.to_vec();
    firsts.sort();
    all.sort();
    let (first, median) = (firsts[firsts.len() / 2], all[all.len() / 2]);
    println!("first requests took {firsts:?}, the median of {} is {median:?}", all.len());
    assert!(first <= 2 * median, "first requests took {firsts:?}, the median of all is {median:?}");
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
        let event = Oracle::event("it.delay", number);
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
