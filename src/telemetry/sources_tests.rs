use super::*;
use crate::outcome::{Code, Delivery, Ledger, Tracked};
use crate::telemetry::accounts;
use crate::telemetry::export::{Exporter, histogram};
use crate::telemetry::metrics::{self, Kind};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything that the proxy can show, each at least once.
fn exporter() -> Exporter {
    let ledger_shown = Arc::new(Ledger::default());
    let account = ledger_shown.account("orders.placed", "core");
    (0..3).for_each(|_| account.receive());
    account.set_share(1_000);
    account.reject(Code::InvalidPayload);
    Tracked::new(&account, None, 1, 10).settle(Delivery::Failed(Code::DeliveryFailed));
    Tracked::new(&account, None, 2, 10).settle(Delivery::Delivered { partition: 0, offset: 0 });

    let meters = HttpMeters::default();
    let door = meters.door("events");
    door.record(202, Duration::from_millis(3));
    door.take(3);
    door.tell(Code::Enqueued, 2);
    door.refuse(Code::Unauthenticated);
    histogram(&m::TRANSCODE_DURATION, &["avro"]).record(Duration::from_micros(2));
    histogram(&m::PRODUCER_ACK_LATENCY, &["core", "standard"]).record(Duration::from_millis(1));

    Exporter::new(vec![
        Box::new(move |page| accounts::write(page, &ledger_shown, 10)),
        Box::new(|page| {
            let (event, cluster, topic) = ("orders.placed", "core", "orders");
            event_type(page, &EventType { event, owner: Some("checkout"), cluster, topic });
            unavailable(page, event, cluster, 1);
            spans(page, &Spans { exported: 3, dropped: 2, failed: 1 });
            let ends = Duration::from_secs(1_900_000_000);
            certificates(page, &[Expiry { role: "listener", name: "http".to_owned(), ends }]);
        }),
        Box::new(move |page| http(page, &meters)),
        Box::new(|page| {
            producer(
                page,
                &Producer {
                    cluster: "core",
                    lane: "standard",
                    buffer_bytes: 10,
                    buffer_bytes_max: 100,
                    in_flight: 1,
                    oldest: Some(Duration::from_millis(1_500)),
                    acknowledged: 3,
                    statistics: Statistics { requests: 3, batches: 2, sent_bytes: 900, ..Statistics::default() },
                    canary: Some(true),
                    failures: vec![("timed_out", 0)],
                    errors: vec![("transport", 2)],
                },
            );
        }),
        Box::new(|page| breaker(page, &Breaker { cluster: "core", state: 2, entered: vec![("open", 1)] })),
        Box::new(|page| {
            let (refused, errors) = (vec![("full", 7)], vec![("other", 1)]);
            let oldest = Some(Duration::from_secs(60));
            let (bytes, bytes_max, queue_bytes, damaged_bytes) = (10, 100, 5, 3);
            let (cluster, log, is_failing, written, settled) = ("core", "wal", true, 9, 8);
            let shown = Spool {
                cluster,
                log,
                bytes,
                bytes_max,
                queue_bytes,
                oldest,
                is_failing,
                written,
                refused,
                settled,
                errors,
                damaged_bytes,
            };
            spool(page, &shown);
            failed_log(page, &shown);
            let dropped = vec![("rate_limited", 4)];
            dead_letters(page, &DeadLetters { event: "orders.placed", cluster, sent: 6, dropped });
        }),
        Box::new(|page| {
            registry(page, &Registry { name: "main", stale: Duration::from_secs(9), ..Registry::default() })
        }),
        Box::new(|page| config(page, &Config { applied: 2, refused: 1, fingerprint: 77, ..Config::default() })),
        Box::new(|page| routes(page, &Routes { revision: 5, refused: vec![("older", 1)], ..Routes::default() })),
        Box::new(|page| snapshot(page, &Snapshot { version: 3, ready: 19, unavailable: 1, ..Snapshot::default() })),
    ])
}

/// Name of the metric and names of the labels of a sample, without those of a histogram's own.
fn parts(sample: &str) -> (&str, Vec<&str>) {
    let (name, rest) = sample.split_once(['{', ' ']).unwrap();
    let labels = match sample.contains('{') {
        true => rest.split_once('}').unwrap().0.split(',').map(|label| label.split_once('=').unwrap().0).collect(),
        false => vec![],
    };
    (name, labels)
}

#[test]
fn what_is_served_is_the_catalogue() {
    let text = exporter().render();
    let (mut help, mut kinds, mut labels) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut current = "";
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, words) = rest.split_once(' ').unwrap();
            assert_eq!(help.insert(name, words), None, "{name} is served twice");
            current = name;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, current);
            kinds.insert(name, kind);
        } else {
            let (name, found) = parts(line);
            assert!(name.starts_with(current), "{line} stands under {current}");
            let found = found.into_iter().filter(|label| *label != "le").collect::<Vec<_>>();
            labels.entry(current).or_insert_with(BTreeSet::new).insert(found);
        }
    }
    // Without /proc the process shows its start time only.
    let is_there = |metric: &&&metrics::Metric| {
        let of_proc = metric.name.starts_with("iguazu_process_") && metric.name != metrics::PROCESS_START.name;
        cfg!(target_os = "linux") || !of_proc
    };
    help.retain(|name, _| !is_of_control(name));
    for metric in metrics::ALL.iter().filter(is_there).filter(|metric| !is_of_control(metric.name)) {
        assert_eq!(help.remove(metric.name), Some(metric.help), "{}", metric.name);
        assert_eq!(kinds.get(metric.name), Some(&metric.kind.as_str()), "{}", metric.name);
        assert_eq!(labels.get(metric.name), Some(&BTreeSet::from([metric.labels.to_vec()])), "{}", metric.name);
    }
    assert!(help.is_empty(), "served but not in the catalogue: {help:?}");
}

/// What the management plane serves, and no proxy.
fn is_of_control(name: &str) -> bool {
    name.starts_with("iguazu_control_") || name == metrics::CREDENTIAL_EXPIRY.name
}

#[test]
fn the_numbers_are_those_of_the_ledger() {
    let text = exporter().render();
    for sample in [
        r#"iguazu_events_received_total{event="orders.placed",cluster="core"} 3"#,
        r#"iguazu_events_received_total{event="(unknown)",cluster="(none)"} 0"#,
        r#"iguazu_events_rejected_total{event="orders.placed",cluster="core",code="invalid_payload"} 1"#,
        r#"iguazu_events_failed_total{event="orders.placed",cluster="core",code="delivery_failed"} 1"#,
        r#"iguazu_events_failed_kept_total{event="orders.placed",cluster="core",place="nowhere"} 1"#,
        r#"iguazu_dead_letters_dropped_total{event="orders.placed",cluster="core",reason="rate_limited"} 4"#,
        r#"iguazu_failed_log_refused_total{cluster="core",reason="full"} 7"#,
        r#"iguazu_events_delivered_total{event="orders.placed",cluster="core"} 1"#,
        r#"iguazu_events_lost_total{event="orders.placed",cluster="core"} 0"#,
        r#"iguazu_event_type_info{event="orders.placed",owner="checkout",cluster="core",topic="orders"} 1"#,
        r#"iguazu_event_type_unavailable{event="orders.placed",cluster="core"} 1"#,
        r#"iguazu_http_requests_total{door="events",status="202"} 1"#,
        r#"iguazu_http_results_total{door="events",code="enqueued"} 2"#,
        r#"iguazu_http_refused_total{door="events",code="unauthenticated"} 1"#,
        r#"iguazu_canary_acknowledged{cluster="core",lane="standard"} 1"#,
        r#"iguazu_certificate_expiry_timestamp_seconds{use="listener",name="http"} 1900000000"#,
        r#"iguazu_trace_spans_total{result="failed"} 1"#,
        r#"iguazu_producer_oldest_unacknowledged_seconds{cluster="core",lane="standard"} 1.5"#,
        r#"iguazu_producer_failures_total{cluster="core",lane="standard",reason="timed_out"} 0"#,
        r#"iguazu_registry_stale_seconds{registry="main"} 9"#,
        r#"iguazu_event_types{state="unavailable"} 1"#,
    ] {
        assert!(text.lines().any(|line| line == sample), "{sample} is not in\n{text}");
    }
}

#[test]
fn every_histogram_is_whole() {
    let text = exporter().render();
    let of_proxy = |metric: &&&metrics::Metric| metric.kind == Kind::Histogram && !is_of_control(metric.name);
    for metric in metrics::ALL.iter().filter(of_proxy) {
        for part in ["_bucket{", "_sum{", "_count{"] {
            assert!(text.contains(&format!("{}{part}", metric.name)), "{}{part}", metric.name);
        }
        assert!(text.contains("le=\"+Inf\""));
    }
}
