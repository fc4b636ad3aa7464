//! Sampled requests and events are spans in a collector, and the trace goes on in Kafka; a collector that is down is nobody's trouble.

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

use super::support::collector::{Collector, attribute};
use super::support::fixture::Fixture;
use super::support::http;
use super::support::proxy::{Proxy, event_type};
use super::support::read_back::{ReadBack, Reader};
use super::support::{ports, wait_until};

const EVENT: &str = "it.traced";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const OTHER_TRACE: &str = "11111111111111111111111111111111";
const OTHER_PARENT: &str = "2222222222222222";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn traced(endpoint: &str, settings: &str) -> String {
    format!("[telemetry.traces]\nendpoint = {endpoint:?}\n{settings}\n\n")
}

async fn send(proxy: &Proxy, traceparent: Option<&str>, events: serde_json::Value) {
    let mut request = proxy.request("POST", "/v1/events?reply=acknowledged").header("content-type", "application/json");
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    let reply = http::send(request.body(events.to_string())).await.expect("the proxy answers");
    assert_eq!(reply.status, 200, "{}", reply.text());
}

async fn spans_counted(proxy: &Proxy, result: &str) -> u64 {
    let samples = proxy.metrics().await;
    let of = |sample: &&super::support::proxy::Sample| {
        sample.name == "iguazu_trace_spans_total" && sample.labels.get("result").is_some_and(|label| label == result)
    };
    samples.iter().find(of).map_or(0, |sample| sample.value as u64)
}

fn record<'r>(records: &'r [ReadBack], id: &str) -> &'r ReadBack {
    records.iter().find(|record| record.header("ce_id") == Some(id)).unwrap_or_else(|| panic!("{id}: {records:?}"))
}

/// The span that this record's `traceparent` names.
fn span_of<'s>(spans: &'s [Span], record: &ReadBack) -> &'s Span {
    let traceparent = record.header("traceparent").expect("it has one");
    let named = |span: &&Span| format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id)) == traceparent;
    spans.iter().find(named).unwrap_or_else(|| panic!("{traceparent} is none of {spans:#?}"))
}

#[tokio::test]
async fn a_sampled_request_and_its_events_are_spans_and_the_trace_goes_on_in_kafka() {
    let fixture = Fixture::new();
    let (topic, collector) = (fixture.topic(EVENT), Collector::start());
    let config = fixture.config()
        + &traced(&collector.endpoint(), "service_name = \"iguazu-test\"")
        + &event_type(EVENT, &topic, "raw_json", "");
    let proxy = Proxy::start(&config).await;

    let own = format!("00-{OTHER_TRACE}-{OTHER_PARENT}-01");
    let events = json!([
        {"event": EVENT, "id": "plain", "payload": {}},
        {"event": EVENT, "id": "own", "traceparent": own, "payload": {}},
    ]);
    send(&proxy, Some(&format!("00-{TRACE}-{PARENT}-01")), events).await;
    let unsampled = format!("00-{TRACE}-{PARENT}-00");
    send(&proxy, Some(&unsampled), json!({"event": EVENT, "id": "unsampled", "payload": {}})).await;
    send(&proxy, None, json!({"event": EVENT, "id": "none", "payload": {}})).await;

    let spans = collector.await_spans(3).await;
    assert!(collector.services().iter().all(|name| name.contains("iguazu-test")), "{:?}", collector.services());
    let request =
        spans.iter().find(|span| span.kind == i32::from(SpanKind::Server)).expect("there is one of the request");
    assert_eq!((hex(&request.trace_id).as_str(), hex(&request.parent_span_id).as_str()), (TRACE, PARENT));
    assert_eq!(request.name, "POST /v1/events");
    assert_eq!(attribute(request, "http.response.status_code").as_deref(), Some("200"));
    assert_eq!(attribute(request, "messaging.batch.message_count").as_deref(), Some("2"));
    assert!(request.start_time_unix_nano < request.end_time_unix_nano, "{request:?}");

    let records = Reader::with(fixture.cluster.client(), None).read(&topic, 4);
    let plain = span_of(&spans, record(&records, "plain"));
    assert_eq!((&plain.trace_id, &plain.parent_span_id), (&request.trace_id, &request.span_id));
    assert_eq!((plain.kind, plain.links.len()), (SpanKind::Producer.into(), 0));
    assert_eq!(plain.name, format!("send {topic}"));
    assert_eq!(attribute(plain, "iguazu.outcome").as_deref(), Some("delivered"));
    assert_eq!(attribute(plain, "iguazu.event").as_deref(), Some(EVENT));
    assert_eq!(attribute(plain, "messaging.kafka.offset"), Some(record(&records, "plain").offset.to_string()));

    let own = span_of(&spans, record(&records, "own"));
    assert_eq!((hex(&own.trace_id).as_str(), hex(&own.parent_span_id).as_str()), (OTHER_TRACE, OTHER_PARENT));
    assert_eq!(own.links.len(), 1, "{own:?}");
    assert_eq!((&own.links[0].trace_id, &own.links[0].span_id), (&request.trace_id, &request.span_id));

    assert_eq!(record(&records, "unsampled").header("traceparent"), Some(unsampled.as_str()));
    assert_eq!(record(&records, "none").header("traceparent"), None);
    wait_until("spans are counted", async || match spans_counted(&proxy, "exported").await {
        3 => Ok(()),
        count => Err(format!("{count}")),
    })
    .await;
    proxy.finish();
}

#[tokio::test]
async fn a_collector_that_is_down_costs_spans_and_nothing_else() {
    let fixture = Fixture::new();
    let topic = fixture.topic(EVENT);
    let endpoint = format!("http://127.0.0.1:{}/v1/traces", ports::free(1)[0]);
    let config =
        fixture.config() + &traced(&endpoint, "sample_ratio = 1.0") + &event_type(EVENT, &topic, "raw_json", "");
    let mut proxy = Proxy::start(&config).await;
    proxy.expect_log("the collector of traces takes no spans");
    for _ in 0..20 {
        send(&proxy, None, json!({"event": EVENT, "payload": {}})).await;
    }
    // Twenty of requests, twenty of their events.
    wait_until("spans are given up", async || match spans_counted(&proxy, "failed").await {
        40 => Ok(()),
        count => Err(format!("{count}")),
    })
    .await;
    let warnings = proxy.log().iter().filter(|line| line.message() == "the collector of traces takes no spans").count();
    assert_eq!(warnings, 1, "it is said now and then only");
    assert_eq!(proxy.finish().delivered, 20);
}
