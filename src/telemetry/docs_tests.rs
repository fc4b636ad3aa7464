//! The tables of `deploy/docs` are generated from the code; these tests hold them to it.

use std::fmt::Write as _;
use std::path::Path;

use super::metrics;
use crate::outcome::{Code, Fault};

/// Compares a generated document with the one in the repository. What it should be is written beside the build's
/// output, so that taking it over is one `cp`.
#[track_caller]
fn check(name: &str, expected: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documented = std::fs::read_to_string(root.join("deploy/docs").join(name)).unwrap_or_default();
    if documented != expected {
        let generated = root.join("target/docs").join(name);
        std::fs::create_dir_all(generated.parent().unwrap()).unwrap();
        std::fs::write(&generated, expected).unwrap();
        panic!("deploy/docs/{name} is not what the code says; run\n  cp target/docs/{name} deploy/docs/{name}");
    }
}

#[test]
fn the_documented_errors_are_those_of_the_code() {
    let mut text = "\
# Codes

What became of an event or of a request: the `code` of replies, the label of metrics, the field of log lines. The set is
closed and the names are stable. *Status* is that of a reply in which every event ended so; *retry* says whether the same
event may succeed when it is sent again, as it is and with the same id.

This table is generated from `src/outcome/code.rs`.

| code | status | whose fault | retry | meaning |
|---|---|---|---|---|
"
    .to_owned();
    for code in Code::ALL {
        let fault = match code.fault() {
            Fault::None => "nobody's",
            Fault::Sender => "the sender's",
            Fault::Ours => "ours or Kafka's",
        };
        let retry = if code.retry() { "yes" } else { "no" };
        let (name, status, help) = (code.as_str(), code.status(), code.help());
        writeln!(text, "| `{name}` | {status} | {fault} | {retry} | {help} |").unwrap();
    }
    check("errors.md", &text);
}

#[test]
fn the_documented_metrics_are_those_of_the_catalogue() {
    let mut text = "\
# Metrics

Served as `/metrics` on the admin listener; those of the management plane (`iguazu_control_…`) by its API. Labels are closed sets: names from the configuration,
codes (`errors.md`), lanes, statuses. Per event type and cluster, when nothing is moving,
`received + recovered = delivered + rejected + failed + lost + in_memory + in_spool`, and `lost` is 0.

Counters and gauges are read at the moment of the scrape. What is gone is no longer served, and a producer client that
takes over from another counts from 0 again, which `rate` and `increase` understand. Histograms are those of the process:
a series of a cluster that is gone stays as it was until the process ends.

Event types beyond `telemetry.event_types_max` (1000) count together as `(other)`. `iguazu_event_type_info` tells whose an event
type is: `sum by (owner) (rate(iguazu_events_rejected_total[5m]) * on (instance, event, cluster) group_left (owner) iguazu_event_type_info)`.
Why events were rejected lately is on the same listener, without their payloads: `/rejections`, `/rejections/EVENT`.

This table is generated from `src/telemetry/metrics.rs`.

| metric | kind | labels | unit | meaning |
|---|---|---|---|---|
"
    .to_owned();
    for metric in metrics::ALL {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, labels) = (metric.name, metric.kind.as_str(), labels.join(", "));
        writeln!(text, "| `{name}` | {kind} | {labels} | {} | {} |", metric.unit, metric.help).unwrap();
    }
    text += "\nBuckets of the histograms, upper bounds; on top of each comes `+Inf`:\n\n";
    for metric in metrics::ALL.iter().filter(|metric| !metric.bounds.is_empty()) {
        let bounds: Vec<_> = metric.bounds.iter().map(f64::to_string).collect();
        writeln!(text, "- `{}`: {}", metric.name, bounds.join(", ")).unwrap();
    }
    check("metrics.md", &text);
}
