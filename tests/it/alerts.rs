//! Every alert of `deploy/prometheus` fires when it should and stays silent when it should not, goes to whom it concerns, and has a
//! runbook; judged by `promtool` and `amtool`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Command;

use iguazu::outcome::{Code, Fault};
use serde_json::json;

use super::support::folder;
use super::support::rules::{self, Rule};

/// What an alert makes of some series, looked at once.
struct Case {
    alert: &'static str,
    /// Minutes after the beginning, when it is looked at.
    minute: u32,
    /// Series and their values, one a minute (for cases of weeks one an hour), as `promtool` writes them.
    series: &'static [(&'static str, &'static str)],
    /// The labels that it fires with, but its name; none: it is silent.
    fires: Option<&'static str>,
}

const fn fires(
    alert: &'static str,
    minute: u32,
    series: &'static [(&'static str, &'static str)],
    labels: &'static str,
) -> Case {
    Case { alert, minute, series, fires: Some(labels) }
}

const fn silent(alert: &'static str, minute: u32, series: &'static [(&'static str, &'static str)]) -> Case {
    Case { alert, minute, series, fires: None }
}

const INFO: (&str, &str) =
    (r#"iguazu_event_type_info{event="a", owner="team-a", cluster="core", topic="t"}"#, "1x3000");
const START: (&str, &str) = (r#"iguazu_process_start_time_seconds{instance="p1"}"#, "0x3000");
const LOST: (&str, &str) = (r#"iguazu_events_lost_total{event="a", cluster="core"}"#, "0x6000");
const DELIVERED: (&str, &str) = (r#"iguazu_events_delivered_total{event="a", cluster="core"}"#, "0+10000x6000");

#[rustfmt::skip]
const CASES: &[Case] = &[
    // 2 %, over an hour.
    fires("IguazuDeliveryBudgetBurnsFast", 70, &[LOST, DELIVERED, (r#"iguazu_events_failed_total{event="a", cluster="core", code="delivery_failed"}"#, "0+200x80")], r#"cluster="core", severity="page""#),
    fires("IguazuDeliveryBudgetBurnsFast", 70, &[LOST, DELIVERED, (r#"iguazu_events_rejected_total{event="a", cluster="core", code="buffer_full"}"#, "0+200x80")], r#"cluster="core", severity="page""#),
    fires("IguazuDeliveryBudgetBurnsFast", 70, &[("iguazu_events_lost_total{event=\"a\", cluster=\"core\"}", "0+200x80"), DELIVERED], r#"cluster="core", severity="page""#),
    // 0.05 %: slower than six times the budget.
    silent("IguazuDeliveryBudgetBurnsFast", 70, &[LOST, DELIVERED, (r#"iguazu_events_failed_total{event="a", cluster="core", code="delivery_failed"}"#, "0+5x80")]),
    // It is over.
    silent("IguazuDeliveryBudgetBurnsFast", 120, &[LOST, DELIVERED, (r#"iguazu_events_failed_total{event="a", cluster="core", code="delivery_failed"}"#, "0+200x60 12000x70")]),
    // What senders got wrong, and what operators asked for.
    silent("IguazuDeliveryBudgetBurnsFast", 70, &[LOST, DELIVERED, (r#"iguazu_events_rejected_total{event="a", cluster="core", code="invalid_payload"}"#, "0+5000x80"), (r#"iguazu_events_rejected_total{event="a", cluster="core", code="disabled"}"#, "0+5000x80")]),
    // No traffic.
    silent("IguazuDeliveryBudgetBurnsFast", 70, &[LOST, (r#"iguazu_events_delivered_total{event="a", cluster="core"}"#, "5x80")]),
    // 0.05 %, over a day.
    fires("IguazuDeliveryBudgetBurnsSlowly", 26 * 60, &[LOST, DELIVERED, (r#"iguazu_events_failed_total{event="a", cluster="core", code="delivery_failed"}"#, "0+5x1600")], r#"cluster="core", severity="ticket""#),
    // 0.02 %, over three days.
    fires("IguazuDeliveryBudgetBurnsSlowly", 73 * 60, &[LOST, DELIVERED, (r#"iguazu_events_failed_total{event="a", cluster="core", code="delivery_failed"}"#, "0+2x4500")], r#"cluster="core", severity="ticket""#),
    // 0.005 %: within the budget.
    silent("IguazuDeliveryBudgetBurnsSlowly", 26 * 60, &[LOST, (r#"iguazu_events_delivered_total{event="a", cluster="core"}"#, "0+20000x6000"), (r#"iguazu_events_failed_total{event="a", cluster="core", code="delivery_failed"}"#, "0+1x1600")]),

    fires("IguazuEventsLost", 10, &[(r#"iguazu_events_lost_total{event="a", cluster="core"}"#, "0 0 0 3x20")], r#"event="a", cluster="core", severity="page""#),
    // Its first sample is a loss.
    fires("IguazuEventsLost", 10, &[(r#"iguazu_events_lost_total{event="a", cluster="core"}"#, "_x3 3x20")], r#"event="a", cluster="core", severity="page""#),
    silent("IguazuEventsLost", 10, &[LOST]),
    silent("IguazuEventsLost", 70, &[(r#"iguazu_events_lost_total{event="a", cluster="core"}"#, "0 0 0 3x80")]),

    fires("IguazuEventsFailed", 10, &[(r#"iguazu_events_failed_total{event="a", cluster="core", code="record_refused"}"#, "_x5 3x20")], r#"event="a", cluster="core", code="record_refused", severity="ticket""#),
    silent("IguazuEventsFailed", 40, &[(r#"iguazu_events_failed_total{event="a", cluster="core", code="record_refused"}"#, "3x50")]),

    fires("IguazuEventsKeptNowhere", 10, &[(r#"iguazu_events_failed_kept_total{event="a", cluster="core", place="nowhere"}"#, "1 1 1 2x20")], r#"event="a", cluster="core", severity="page""#),
    silent("IguazuEventsKeptNowhere", 10, &[(r#"iguazu_events_failed_kept_total{event="a", cluster="core", place="failed_log"}"#, "1 1 1 2x20")]),

    fires("IguazuDown", 5, &[(r#"up{job="iguazu-proxy", instance="p1"}"#, "1 0x10")], r#"job="iguazu-proxy", instance="p1", severity="page""#),
    silent("IguazuDown", 5, &[(r#"up{job="iguazu-proxy", instance="p1"}"#, "1 0 1x10"), (r#"up{job="other", instance="o"}"#, "0x10")]),

    fires("IguazuNoProxies", 10, &[(r#"iguazu_http_connections{instance="p1"}"#, "1 1 stale")], r#"severity="page""#),
    silent("IguazuNoProxies", 10, &[(r#"iguazu_http_connections{instance="p1"}"#, "0x10")]),

    fires("IguazuCrashLoop", 15, &[(r#"iguazu_process_start_time_seconds{instance="p1"}"#, "1 1 2 2 3 3 4x20")], r#"instance="p1", severity="page""#),
    // A deployment restarts it once.
    silent("IguazuCrashLoop", 15, &[(r#"iguazu_process_start_time_seconds{instance="p1"}"#, "1 1 2x20")]),

    fires("IguazuOverloaded", 15, &[(r#"iguazu_http_refused_total{instance="p1", door="events", code="overloaded"}"#, "0+5x20")], r#"instance="p1", severity="page""#),
    silent("IguazuOverloaded", 15, &[(r#"iguazu_http_refused_total{instance="p1", door="events", code="invalid_body"}"#, "0+5x20")]),

    fires("IguazuConnectionsRefused", 15, &[(r#"iguazu_http_connections_refused_total{instance="p1"}"#, "0+5x20")], r#"instance="p1", severity="ticket""#),
    silent("IguazuConnectionsRefused", 15, &[(r#"iguazu_http_connections_refused_total{instance="p1"}"#, "7x20")]),

    fires("IguazuDescriptorsHigh", 15, &[(r#"iguazu_process_open_fds{instance="p1"}"#, "900x20"), (r#"iguazu_process_max_fds{instance="p1"}"#, "1000x20")], r#"instance="p1", severity="ticket""#),
    silent("IguazuDescriptorsHigh", 15, &[(r#"iguazu_process_open_fds{instance="p1"}"#, "700x20"), (r#"iguazu_process_max_fds{instance="p1"}"#, "1000x20")]),

    fires("IguazuErrorsLogged", 10, &[(r#"iguazu_log_lines_total{instance="p1", level="error"}"#, "0 0 1x20")], r#"instance="p1", level="error", severity="ticket""#),
    // Its first sample has an error already.
    fires("IguazuErrorsLogged", 10, &[(r#"iguazu_log_lines_total{instance="p1", level="error"}"#, "_x3 1x20")], r#"instance="p1", level="error", severity="ticket""#),
    silent("IguazuErrorsLogged", 10, &[(r#"iguazu_log_lines_total{instance="p1", level="warn"}"#, "0 0 1x20")]),

    fires("IguazuConfigRefused", 10, &[(r#"iguazu_config_reloads_total{instance="p1", result="refused"}"#, "0 0 1x20")], r#"instance="p1", result="refused", severity="ticket""#),
    silent("IguazuConfigRefused", 10, &[(r#"iguazu_config_reloads_total{instance="p1", result="applied"}"#, "0 0 1x20"), (r#"iguazu_config_reloads_total{instance="p1", result="refused"}"#, "1x20")]),

    fires("IguazuConfigDiffers", 20, &[(r#"iguazu_config_fingerprint{job="iguazu-proxy", instance="p1"}"#, "1x30"), (r#"iguazu_config_fingerprint{job="iguazu-proxy", instance="p2"}"#, "2x30")], r#"job="iguazu-proxy", severity="ticket""#),
    // A rollout takes a few minutes.
    silent("IguazuConfigDiffers", 20, &[(r#"iguazu_config_fingerprint{job="iguazu-proxy", instance="p1"}"#, "1x5 2x30"), (r#"iguazu_config_fingerprint{job="iguazu-proxy", instance="p2"}"#, "2x30"), (r#"iguazu_config_fingerprint{job="iguazu-other", instance="p3"}"#, "3x30")]),

    fires("IguazuCertificateExpires", 90, &[(r#"iguazu_certificate_expiry_timestamp_seconds{instance="p1", use="listener", name="http"}"#, "864000x100")], r#"instance="p1", use="listener", name="http", severity="ticket""#),
    fires("IguazuCertificateExpires", 10, &[(r#"iguazu_certificate_expiry_timestamp_seconds{instance="p1", use="listener", name="http"}"#, "86400x100")], r#"instance="p1", use="listener", name="http", severity="page""#),
    silent("IguazuCertificateExpires", 90, &[(r#"iguazu_certificate_expiry_timestamp_seconds{instance="p1", use="listener", name="http"}"#, "2592000x100")]),

    fires("IguazuClusterUnreachable", 5, &[(r#"iguazu_breaker_state{instance="p1", cluster="core"}"#, "0 2 1 2x20"), (r#"iguazu_breaker_state{instance="p2", cluster="core"}"#, "0x20")], r#"cluster="core", severity="page""#),
    silent("IguazuClusterUnreachable", 5, &[(r#"iguazu_breaker_state{instance="p1", cluster="core"}"#, "0 0 0 2 0 0x20")]),

    fires("IguazuCanaryMissing", 15, &[(r#"iguazu_canary_acknowledged{instance="p1", cluster="core", lane="standard"}"#, "1 0x20"), (r#"iguazu_canary_acknowledged{instance="p2", cluster="core", lane="standard"}"#, "1x20")], r#"cluster="core", lane="standard", severity="page""#),
    silent("IguazuCanaryMissing", 15, &[(r#"iguazu_canary_acknowledged{instance="p1", cluster="core", lane="standard"}"#, "0x5 1x20")]),

    fires("IguazuAckSlow", 20, &[(r#"iguazu_producer_ack_latency_seconds_bucket{cluster="core", lane="all", le="5"}"#, "0+90x30"), (r#"iguazu_producer_ack_latency_seconds_bucket{cluster="core", lane="all", le="10"}"#, "0+100x30"), (r#"iguazu_producer_ack_latency_seconds_bucket{cluster="core", lane="all", le="+Inf"}"#, "0+100x30")], r#"cluster="core", lane="all", severity="page""#),
    silent("IguazuAckSlow", 20, &[(r#"iguazu_producer_ack_latency_seconds_bucket{cluster="core", lane="all", le="5"}"#, "0+100x30"), (r#"iguazu_producer_ack_latency_seconds_bucket{cluster="core", lane="all", le="10"}"#, "0+100x30"), (r#"iguazu_producer_ack_latency_seconds_bucket{cluster="core", lane="all", le="+Inf"}"#, "0+100x30")]),

    fires("IguazuBufferHigh", 10, &[(r#"iguazu_producer_buffer_bytes{instance="p1", cluster="core", lane="all"}"#, "90x20"), (r#"iguazu_producer_buffer_max_bytes{instance="p1", cluster="core", lane="all"}"#, "100x20")], r#"cluster="core", lane="all", severity="page""#),
    silent("IguazuBufferHigh", 10, &[(r#"iguazu_producer_buffer_bytes{instance="p1", cluster="core", lane="all"}"#, "90 70x20"), (r#"iguazu_producer_buffer_max_bytes{instance="p1", cluster="core", lane="all"}"#, "100x20")]),

    fires("IguazuRegistryStale", 60, &[(r#"iguazu_registry_stale_seconds{instance="p1", registry="main"}"#, "0+60x70")], r#"registry="main", severity="ticket""#),
    silent("IguazuRegistryStale", 60, &[(r#"iguazu_registry_stale_seconds{instance="p1", registry="main"}"#, "0+60x20 0x50")]),

    fires("IguazuSchemaVersionsLeftOut", 90, &[(r#"iguazu_schema_versions_left_out{instance="p1", registry="main"}"#, "1x100")], r#"registry="main", severity="ticket""#),
    silent("IguazuSchemaVersionsLeftOut", 90, &[(r#"iguazu_schema_versions_left_out{instance="p1", registry="main"}"#, "0x100")]),

    fires("IguazuSpoolFilling", 10, &[(r#"iguazu_spool_bytes{instance="p1", cluster="core", log="spool"}"#, "60x20"), (r#"iguazu_spool_max_bytes{instance="p1", cluster="core", log="spool"}"#, "100x20")], r#"instance="p1", cluster="core", log="spool", severity="ticket""#),
    silent("IguazuSpoolFilling", 10, &[(r#"iguazu_spool_bytes{instance="p1", cluster="core", log="spool"}"#, "40x20"), (r#"iguazu_spool_max_bytes{instance="p1", cluster="core", log="spool"}"#, "100x20")]),

    // A percent in five minutes is full in a few hours.
    fires("IguazuSpoolFullSoon", 30, &[(r#"iguazu_spool_bytes{instance="p1", cluster="core", log="wal"}"#, "200+5x40"), (r#"iguazu_spool_max_bytes{instance="p1", cluster="core", log="wal"}"#, "1000x40")], r#"instance="p1", cluster="core", log="wal", severity="page""#),
    fires("IguazuSpoolFullSoon", 30, &[(r#"iguazu_spool_bytes{instance="p1", cluster="core", log="wal"}"#, "950x40"), (r#"iguazu_spool_max_bytes{instance="p1", cluster="core", log="wal"}"#, "1000x40")], r#"instance="p1", cluster="core", log="wal", severity="page""#),
    // It empties.
    silent("IguazuSpoolFullSoon", 30, &[(r#"iguazu_spool_bytes{instance="p1", cluster="core", log="wal"}"#, "800-5x40"), (r#"iguazu_spool_max_bytes{instance="p1", cluster="core", log="wal"}"#, "1000x40")]),
    // A hiccup that filled little of it.
    silent("IguazuSpoolFullSoon", 10, &[(r#"iguazu_spool_bytes{instance="p1", cluster="core", log="wal"}"#, "0+5x12"), (r#"iguazu_spool_max_bytes{instance="p1", cluster="core", log="wal"}"#, "1000x40")]),

    fires("IguazuSpoolRefuses", 10, &[(r#"iguazu_spool_refused_total{instance="p1", cluster="core", log="spool", reason="full"}"#, "0+9x20")], r#"cluster="core", log="spool", reason="full", severity="page""#),
    // One too large is its sender's, and a proxy that stops closes its spool.
    silent("IguazuSpoolRefuses", 10, &[(r#"iguazu_spool_refused_total{instance="p1", cluster="core", log="spool", reason="too_large"}"#, "0+9x20"), (r#"iguazu_spool_refused_total{instance="p1", cluster="core", log="spool", reason="closed"}"#, "0+9x20")]),

    fires("IguazuSpoolDiskFailing", 10, &[(r#"iguazu_spool_failing{instance="p1", cluster="core", log="spool"}"#, "0 1x20")], r#"instance="p1", cluster="core", log="spool", severity="page""#),
    silent("IguazuSpoolDiskFailing", 10, &[(r#"iguazu_spool_failing{instance="p1", cluster="core", log="spool"}"#, "0 1 0x20")]),

    fires("IguazuSpoolDamaged", 10, &[(r#"iguazu_spool_damaged_bytes_total{instance="p1", cluster="core", log="spool"}"#, "0 0 4096x20")], r#"instance="p1", cluster="core", log="spool", severity="page""#),
    silent("IguazuSpoolDamaged", 10, &[(r#"iguazu_spool_damaged_bytes_total{instance="p1", cluster="core", log="spool"}"#, "0x20")]),

    fires("IguazuFailedLogFilling", 10, &[(r#"iguazu_failed_log_bytes{instance="p1", cluster="core"}"#, "90x20"), (r#"iguazu_failed_log_max_bytes{instance="p1", cluster="core"}"#, "100x20")], r#"instance="p1", cluster="core", severity="ticket""#),
    fires("IguazuFailedLogFilling", 10, &[(r#"iguazu_failed_log_failing{instance="p1", cluster="core"}"#, "1x20")], r#"instance="p1", cluster="core", severity="ticket""#),
    // Nothing is kept there: that was chosen.
    silent("IguazuFailedLogFilling", 10, &[(r#"iguazu_failed_log_bytes{instance="p1", cluster="core"}"#, "0x20"), (r#"iguazu_failed_log_max_bytes{instance="p1", cluster="core"}"#, "0x20"), (r#"iguazu_failed_log_failing{instance="p1", cluster="core"}"#, "0x20")]),

    fires("IguazuEventTypeUnavailable", 20, &[INFO, START, (r#"iguazu_event_type_unavailable{instance="p1", event="a", cluster="core"}"#, "1x30")], r#"event="a", cluster="core", owner="team-a", severity="ticket""#),
    // Those without series of their own are nobody's, so the operator's.
    fires("IguazuEventTypeUnavailable", 20, &[INFO, START, (r#"iguazu_event_type_unavailable{instance="p1", event="(other)", cluster="core"}"#, "3x30")], r#"event="(other)", cluster="core", severity="ticket""#),
    // A schema that comes a moment later.
    silent("IguazuEventTypeUnavailable", 15, &[INFO, START, (r#"iguazu_event_type_unavailable{instance="p1", event="a", cluster="core"}"#, "1 1 stale")]),
    // Proxies are replaced one after the other: at any time one of them is starting.
    silent("IguazuEventTypeUnavailable", 15, &[
        INFO, START, (r#"iguazu_event_type_unavailable{instance="p1", event="a", cluster="core"}"#, "1x4 stale"),
        (r#"iguazu_process_start_time_seconds{instance="p2"}"#, "_x4 240x20"), (r#"iguazu_event_type_unavailable{instance="p2", event="a", cluster="core"}"#, "_x4 1x4 stale"),
        (r#"iguazu_process_start_time_seconds{instance="p3"}"#, "_x8 480x20"), (r#"iguazu_event_type_unavailable{instance="p3", event="a", cluster="core"}"#, "_x8 1x4 stale"),
        (r#"iguazu_process_start_time_seconds{instance="p4"}"#, "_x12 720x20"), (r#"iguazu_event_type_unavailable{instance="p4", event="a", cluster="core"}"#, "_x12 1x4"),
    ]),

    fires("IguazuRejectedRatioHigh", 20, &[INFO, (r#"iguazu_events_received_total{instance="p1", event="a", cluster="core"}"#, "0+1000x30"), (r#"iguazu_events_rejected_total{instance="p1", event="a", cluster="core", code="invalid_payload"}"#, "0+100x30")], r#"event="a", owner="team-a", severity="ticket""#),
    // Two owners are told while proxies are replaced.
    fires("IguazuRejectedRatioHigh", 20, &[(r#"iguazu_event_type_info{instance="p1", event="a", owner="team-a", cluster="core", topic="t"}"#, "2x30"), (r#"iguazu_event_type_info{instance="p2", event="a", owner="team-b", cluster="core", topic="t"}"#, "1x30"), (r#"iguazu_events_received_total{instance="p1", event="a", cluster="core"}"#, "0+1000x30"), (r#"iguazu_events_rejected_total{instance="p1", event="a", cluster="core", code="invalid_payload"}"#, "0+100x30")], r#"event="a", owner="team-a", severity="ticket""#),
    // Nobody is named as its owner: the operator's.
    fires("IguazuRejectedRatioHigh", 20, &[(r#"iguazu_event_type_info{instance="p1", event="a", owner="", cluster="core", topic="t"}"#, "1x30"), (r#"iguazu_events_received_total{instance="p1", event="a", cluster="core"}"#, "0+1000x30"), (r#"iguazu_events_rejected_total{instance="p1", event="a", cluster="core", code="invalid_payload"}"#, "0+100x30")], r#"event="a", severity="ticket""#),
    // 1 %, and what is ours or asked for.
    silent("IguazuRejectedRatioHigh", 20, &[INFO, (r#"iguazu_events_received_total{instance="p1", event="a", cluster="core"}"#, "0+1000x30"), (r#"iguazu_events_rejected_total{instance="p1", event="a", cluster="core", code="invalid_payload"}"#, "0+10x30"), (r#"iguazu_events_rejected_total{instance="p1", event="a", cluster="core", code="buffer_full"}"#, "0+300x30"), (r#"iguazu_events_rejected_total{instance="p1", event="a", cluster="core", code="sampled_out"}"#, "0+300x30")]),
    // Somebody tries something out: a few in a minute.
    silent("IguazuRejectedRatioHigh", 20, &[INFO, (r#"iguazu_events_received_total{instance="p1", event="a", cluster="core"}"#, "0+3x30"), (r#"iguazu_events_rejected_total{instance="p1", event="a", cluster="core", code="invalid_payload"}"#, "0+3x30")]),

    fires("IguazuUnknownEvents", 20, &[(r#"iguazu_events_received_total{instance="p1", event="a", cluster="core"}"#, "0+1000x30"), (r#"iguazu_events_received_total{instance="p1", event="(unknown)", cluster="(none)"}"#, "0+100x30"), (r#"iguazu_events_rejected_total{instance="p1", event="(unknown)", cluster="(none)", code="unknown_event"}"#, "0+100x30")], r#"severity="ticket""#),
    silent("IguazuUnknownEvents", 20, &[(r#"iguazu_events_received_total{instance="p1", event="a", cluster="core"}"#, "0+1000x30"), (r#"iguazu_events_received_total{instance="p1", event="(unknown)", cluster="(none)"}"#, "0+1x30"), (r#"iguazu_events_rejected_total{instance="p1", event="(unknown)", cluster="(none)", code="unknown_event"}"#, "0+1x30")]),

    fires("IguazuDeadLettersDropped", 15, &[INFO, (r#"iguazu_dead_letters_dropped_total{instance="p1", event="a", cluster="core", reason="unavailable"}"#, "0+2x20")], r#"event="a", owner="team-a", severity="ticket""#),
    // Beyond `telemetry.event_types_max` nobody's name is known, and where nobody is named none: the operator's.
    fires("IguazuDeadLettersDropped", 15, &[INFO, (r#"iguazu_dead_letters_dropped_total{instance="p1", event="b", cluster="core", reason="too_large"}"#, "0+2x20")], r#"event="b", severity="ticket""#),
    // That is what the limit is for.
    silent("IguazuDeadLettersDropped", 15, &[INFO, (r#"iguazu_dead_letters_dropped_total{instance="p1", event="a", cluster="core", reason="rate_limited"}"#, "0+2x20")]),

    fires("IguazuHotKey", 45, &[INFO, (r#"iguazu_events_hot_key_total{instance="p1", event="a", cluster="core"}"#, "0+9x60")], r#"event="a", owner="team-a", severity="ticket""#),
    fires("IguazuHotKey", 45, &[INFO, (r#"iguazu_events_hot_key_total{instance="p1", event="(other)", cluster="core"}"#, "0+9x60")], r#"event="(other)", severity="ticket""#),
    silent("IguazuHotKey", 45, &[INFO, (r#"iguazu_events_hot_key_total{instance="p1", event="a", cluster="core"}"#, "0+9x10 90x50")]),

    fires("IguazuRoutesOld", 30, &[(r#"iguazu_routes_age_seconds{instance="p1"}"#, "0+60x40")], r#"instance="p1", severity="ticket""#),
    silent("IguazuRoutesOld", 30, &[(r#"iguazu_routes_age_seconds{instance="p1"}"#, "20x40")]),

    fires("IguazuRoutesHeld", 15, &[(r#"iguazu_routes_held{instance="p1"}"#, "1x20")], r#"instance="p1", severity="ticket""#),
    fires("IguazuRoutesHeld", 15, &[(r#"iguazu_routes_held{instance="p1"}"#, "0x20"), (r#"iguazu_routes_refused_total{instance="p1", reason="signature"}"#, "0 0 1x20")], r#"instance="p1", severity="ticket""#),
    silent("IguazuRoutesHeld", 15, &[(r#"iguazu_routes_held{instance="p1"}"#, "0x20"), (r#"iguazu_routes_refused_total{instance="p1", reason="signature"}"#, "4x20")]),

    fires("IguazuControlErrors", 20, &[(r#"iguazu_control_http_requests_total{method="GET", status="200"}"#, "0+90x30"), (r#"iguazu_control_http_requests_total{method="GET", status="503"}"#, "0+10x30")], r#"severity="ticket""#),
    silent("IguazuControlErrors", 20, &[(r#"iguazu_control_http_requests_total{method="GET", status="200"}"#, "0+90x30"), (r#"iguazu_control_http_requests_total{method="GET", status="404"}"#, "0+90x30"), (r#"iguazu_control_http_requests_total{method="GET", status="503"}"#, "0+1x30")]),

    fires("IguazuControlStoreDown", 10, &[(r#"iguazu_control_store_up{instance="c1"}"#, "0x20"), (r#"iguazu_control_store_up{instance="c2"}"#, "1x20")], r#"instance="c1", severity="ticket""#),
    silent("IguazuControlStoreDown", 10, &[(r#"iguazu_control_store_up{instance="c1"}"#, "0 0 1x20")]),

    fires("IguazuControlRequestsStuck", 30, &[(r#"iguazu_control_requests_oldest_seconds{state="applying"}"#, "0+60x40")], r#"state="applying", severity="ticket""#),
    fires("IguazuControlRequestsStuck", 10, &[(r#"iguazu_control_requests_oldest_seconds{state="pending"}"#, "200000x20")], r#"state="pending", severity="ticket""#),
    // A person has a night to decide, and what is closed before it is deleted waits on purpose.
    silent("IguazuControlRequestsStuck", 10, &[(r#"iguazu_control_requests_oldest_seconds{state="pending"}"#, "40000x20"), (r#"iguazu_control_requests_oldest_seconds{state="quiet"}"#, "400000x20"), (r#"iguazu_control_requests_oldest_seconds{state="applying"}"#, "20x20")]),

    fires("IguazuDriftFound", 20, &[(r#"iguazu_control_findings{instance="c1", cluster="core", kind="drift", severity="warning"}"#, "2x30"), (r#"iguazu_control_findings{instance="c2", cluster="core", kind="drift", severity="warning"}"#, "2x30")], r#"cluster="core", kind="drift", severity="ticket""#),
    silent("IguazuDriftFound", 20, &[(r#"iguazu_control_findings{instance="c1", cluster="core", kind="drift", severity="warning"}"#, "0x30"), (r#"iguazu_control_findings{instance="c1", cluster="core", kind="unused", severity="info"}"#, "9x30")]),

    fires("IguazuFindingCritical", 15, &[(r#"iguazu_control_findings{instance="c1", cluster="core", kind="offline_partition", severity="critical"}"#, "1x20")], r#"cluster="core", kind="offline_partition", severity="page""#),
    silent("IguazuFindingCritical", 15, &[(r#"iguazu_control_findings{instance="c1", cluster="core", kind="lag_growing", severity="warning"}"#, "1x20"), (r#"iguazu_control_findings{instance="c1", cluster="core", kind="under_replicated", severity="critical"}"#, "0x20")]),

    fires("IguazuClusterNotObserved", 10, &[(r#"iguazu_control_observed_age_seconds{instance="c1", cluster="core"}"#, "4000x20")], r#"cluster="core", severity="ticket""#),
    // One node looks at it; the other has not for long.
    silent("IguazuClusterNotObserved", 10, &[(r#"iguazu_control_observed_age_seconds{instance="c1", cluster="core"}"#, "4000x20"), (r#"iguazu_control_observed_age_seconds{instance="c2", cluster="core"}"#, "30x20")]),

    fires("IguazuClusterDiskFull", 30, &[(r#"iguazu_control_disk_used_ratio{instance="c1", cluster="core"}"#, "0.9x40")], r#"cluster="core", severity="page""#),
    fires("IguazuClusterDiskFull", 30, &[(r#"iguazu_control_disk_used_ratio{instance="c1", cluster="core"}"#, "0.5x40"), (r#"iguazu_control_disk_full_timestamp_seconds{instance="c1", cluster="core"}"#, "172800x40")], r#"cluster="core", severity="page""#),
    silent("IguazuClusterDiskFull", 30, &[(r#"iguazu_control_disk_used_ratio{instance="c1", cluster="core"}"#, "0.5x40"), (r#"iguazu_control_disk_full_timestamp_seconds{instance="c1", cluster="core"}"#, "864000x40")]),

    fires("IguazuBudgetRunsOut", 90, &[(r#"iguazu_control_reserved_bytes{instance="c1", cluster="core"}"#, "90x100"), (r#"iguazu_control_budget_bytes{instance="c1", cluster="core"}"#, "100x100")], r#"cluster="core", severity="ticket""#),
    fires("IguazuBudgetRunsOut", 90, &[(r#"iguazu_control_reserved_partitions{instance="c1", cluster="core"}"#, "90x100"), (r#"iguazu_control_budget_partitions{instance="c1", cluster="core"}"#, "100x100")], r#"cluster="core", severity="ticket""#),
    fires("IguazuBudgetRunsOut", 90, &[(r#"iguazu_control_reserved_ingress_bytes_per_second{instance="c1", cluster="core"}"#, "90x100"), (r#"iguazu_control_budget_ingress_bytes_per_second{instance="c1", cluster="core"}"#, "100x100")], r#"cluster="core", severity="ticket""#),
    // Half of it is left, for less than two weeks.
    fires("IguazuBudgetRunsOut", 26 * 60, &[(r#"iguazu_control_reserved_bytes{instance="c1", cluster="core"}"#, "30000+10x1600"), (r#"iguazu_control_budget_bytes{instance="c1", cluster="core"}"#, "100000x1600")], r#"cluster="core", severity="ticket""#),
    silent("IguazuBudgetRunsOut", 90, &[(r#"iguazu_control_reserved_bytes{instance="c1", cluster="core"}"#, "50x100"), (r#"iguazu_control_budget_bytes{instance="c1", cluster="core"}"#, "100x100"), (r#"iguazu_control_reserved_ingress_bytes_per_second{instance="c1", cluster="core"}"#, "80x100"), (r#"iguazu_control_budget_ingress_bytes_per_second{instance="c1", cluster="core"}"#, "100x100")]),
    // Nobody set a limit.
    silent("IguazuBudgetRunsOut", 90, &[(r#"iguazu_control_reserved_ingress_bytes_per_second{instance="c1", cluster="core"}"#, "90x100")]),

    // Eleven days after it was seen first it has two left.
    fires("IguazuCredentialExpires", 11 * 24 * 60, &[(r#"iguazu_credential_expiry_timestamp_seconds{instance="c1", kind="token", name="ci"}"#, "1123200x300")], r#"kind="token", name="ci", severity="ticket""#),
    // Whose it is is told since the plane was upgraded.
    fires("IguazuCredentialExpires", 11 * 24 * 60, &[(r#"iguazu_credential_expiry_timestamp_seconds{instance="c1", kind="token", name="ci"}"#, "1123200x200 _x100"), (r#"iguazu_credential_expiry_timestamp_seconds{instance="c1", kind="token", name="ci", owner="team-orders"}"#, "_x200 1123200x100")], r#"kind="token", name="ci", owner="team-orders", severity="ticket""#),
    // It ended a week ago, and nobody missed it.
    silent("IguazuCredentialExpires", 11 * 24 * 60, &[(r#"iguazu_credential_expiry_timestamp_seconds{instance="c1", kind="token", name="ci"}"#, "345600x300")]),
    // What is made for a day.
    silent("IguazuCredentialExpires", 180, &[(r#"iguazu_credential_expiry_timestamp_seconds{instance="c1", kind="token", name="ci"}"#, "86400x200")]),
    silent("IguazuCredentialExpires", 180, &[(r#"iguazu_credential_expiry_timestamp_seconds{instance="c1", kind="token", name="ci"}"#, "7776000x200")]),
];

#[test]
fn every_alert_fires_when_it_should_and_is_silent_when_it_should_not() {
    let alerts: BTreeSet<String> = rules::all().into_iter().filter_map(|rule| rule.alert).collect();
    let told = |fires: bool| -> BTreeSet<String> {
        CASES.iter().filter(|case| case.fires.is_some() == fires).map(|case| case.alert.to_owned()).collect()
    };
    assert_eq!(
        (&told(true), &told(false)),
        (&alerts, &alerts),
        "each alert has a case in which it fires and one in which it does not"
    );

    let folder = folder("alerts");
    let mut files = Vec::new();
    for alert in &alerts {
        let cases: Vec<&Case> = CASES.iter().filter(|case| case.alert == alert).collect();
        let (rules, tests) = (format!("{alert}.rules.json"), format!("{alert}.tests.json"));
        std::fs::write(folder.join(&rules), rules_of(alert)).expect("the folder is ours");
        std::fs::write(folder.join(&tests), promtool_tests(&cases, &rules)).expect("the folder is ours");
        files.push(tests);
    }
    run(Command::new("promtool").current_dir(&folder).args(["test", "rules"]).args(files));
}

#[test]
fn an_autoscaler_is_told_of_the_fullest_buffer_of_each_pod() {
    let buffer = |pod: &str, lane: &str, value: u32| {
        let labels = format!("namespace=\"events\", pod=\"{pod}\", cluster=\"core\", lane=\"{lane}\"");
        let series = |metric: &str, value: u32| json!({ "series": format!("{metric}{{{labels}}}"), "values": format!("{value}x5") });
        [series("iguazu_producer_buffer_bytes", value), series("iguazu_producer_buffer_max_bytes", 100)]
    };
    let series = [buffer("p-1", "standard", 20), buffer("p-1", "all", 70), buffer("p-2", "standard", 10)].concat();
    let told = |pod: &str, value: f64| {
        let labels = format!("iguazu_pod_buffer_fill_ratio{{namespace=\"events\", pod=\"{pod}\"}}");
        json!({ "labels": labels, "value": value })
    };
    let asked = json!([{
        "expr": "iguazu_pod_buffer_fill_ratio", "eval_time": "5m", "exp_samples": [told("p-1", 0.7), told("p-2", 0.1)],
    }]);
    let test = json!({ "interval": "1m", "input_series": series, "promql_expr_test": asked });
    let file = std::path::absolute("deploy/prometheus/recording.yml").expect("there is a current folder");
    let tests = json!({ "rule_files": [file], "evaluation_interval": "1m", "tests": [test] }).to_string();
    let folder = folder("recorded");
    std::fs::write(folder.join("tests.json"), tests).expect("the folder is ours");
    run(Command::new("promtool").current_dir(&folder).args(["test", "rules", "tests.json"]));
}

/// The rules of one alert, and what is recorded for it, if anything: evaluating all of them for every case takes minutes.
fn rules_of(alert: &str) -> String {
    let all = rules::all();
    let wanted: Vec<&Rule> = all.iter().filter(|rule| rule.alert.as_deref() == Some(alert)).collect();
    let needs_recorded = wanted.iter().any(|rule| rule.expr.contains("iguazu:"));
    let recorded = all.iter().filter(|rule| needs_recorded && rule.record.is_some());
    let rules: Vec<&Rule> = recorded.chain(wanted).collect();
    json!({ "groups": [{ "name": alert, "rules": rules }] }).to_string()
}

/// Cases of one alert as `promtool test rules` reads them. JSON is YAML.
fn promtool_tests(cases: &[&Case], rules: &str) -> String {
    // The longest of them need no rates, which want a sample a minute.
    let is_long = cases.iter().any(|case| case.minute > 5 * 24 * 60);
    let (step, every) = match cases.iter().map(|case| case.minute).max() {
        _ if is_long => ("1h", "1h"),
        Some(0..=180) | None => ("1m", "1m"),
        Some(_) => ("1m", "10m"),
    };
    let tests: Vec<_> = cases
        .iter()
        .map(|case| {
            let series: Vec<_> =
                case.series.iter().map(|(series, values)| json!({ "series": series, "values": values })).collect();
            let samples: Vec<_> =
                case.fires.iter().map(|labels| json!({ "labels": format!("{{{labels}}}"), "value": 1 })).collect();
            let firing = format!(
                "max without (alertname, alertstate) (ALERTS{{alertname={:?}, alertstate=\"firing\"}})",
                case.alert
            );
            let looked_at = format!("{}m", case.minute);
            json!({
                "name": format!("{} {}", case.alert, if case.fires.is_some() { "fires" } else { "is silent" }),
                "interval": step,
                "input_series": series,
                "promql_expr_test": [{ "expr": firing, "eval_time": looked_at, "exp_samples": samples }],
            })
        })
        .collect();
    json!({ "rule_files": [rules], "evaluation_interval": every, "tests": tests }).to_string()
}

/// Runs it; what it printed when it succeeds.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; run tests/run.sh --fetch"));
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    write!(text, "{}", String::from_utf8_lossy(&output.stderr)).expect("a String takes everything");
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

#[test]
fn the_rules_name_what_is_served() {
    let recorded = recorded();
    for rule in rules::all() {
        let unknown = rules::unknown_in(&rule.expr, &recorded);
        assert!(unknown.is_empty(), "{:?}: {unknown:?}", rule.alert.or(rule.record));
    }
}

fn recorded() -> BTreeSet<String> {
    rules::all().into_iter().filter_map(|rule| rule.record).collect()
}

#[test]
fn what_counts_against_the_objective_is_every_code_that_is_ours() {
    // Operators asked for `disabled`; of `unknown` nothing is known yet, and the ledger says later.
    let on_purpose = [Code::Disabled, Code::Unknown];
    let ours = Code::ALL.iter().filter(|code| code.fault() == Fault::Ours && !on_purpose.contains(code));
    let ours: Vec<_> = ours.map(|code| code.as_str()).collect();
    let all = rules::all();
    let rule = |record: &str| {
        let found = all.iter().find(|rule| rule.record.as_deref() == Some(record));
        &found.unwrap_or_else(|| panic!("no rule records {record}")).expr
    };
    let refused = format!("iguazu_events_rejected_total{{code=~\"{}\"}}", ours.join("|"));
    assert!(rule("iguazu:undelivered:rate5m").contains(&refused), "the rule should ask for {refused}");
    let mistakes = format!("iguazu_events_rejected_total{{code!~\"{}|disabled|unknown|sampled_out\"}}", ours.join("|"));
    assert!(rule("iguazu:rejected:ratio5m").contains(&mistakes), "the rule should ask for {mistakes}");
}

#[test]
fn every_alert_has_a_runbook_with_its_four_parts() {
    let text = std::fs::read_to_string("deploy/docs/runbooks.md").expect("the page is there");
    let mut sections = BTreeMap::new();
    for section in text.split("\n## ").skip(1) {
        let (name, body) = section.split_once('\n').expect("a section has a body");
        assert!(sections.insert(name.to_lowercase(), body).is_none(), "two sections are called {name}");
    }
    let mut needed = BTreeSet::new();
    for rule in rules::all().into_iter().filter(|rule| rule.alert.is_some()) {
        let alert = rule.alert.expect("it was just asked");
        let anchor = alert.to_lowercase();
        assert_eq!(rule.annotations["runbook_url"], format!("deploy/docs/runbooks.md#{anchor}"), "{alert}");
        assert!(rule.annotations.contains_key("summary"), "{alert} has no summary");
        assert!(matches!(rule.labels["severity"].as_str(), "page" | "ticket"), "{alert}");
        let body = sections.get(&anchor).unwrap_or_else(|| panic!("{alert} has no section in runbooks.md"));
        for part in ["**What it means.** ", "**How to see it.** ", "**What to do.** ", "**How to undo it.** "] {
            let said = body.split(part).nth(1).unwrap_or_else(|| panic!("the section of {alert} lacks {part}"));
            assert!(said.split("\n\n").next().is_some_and(|said| said.len() > 20), "{alert} says nothing under {part}");
        }
        needed.insert(anchor);
    }
    let unneeded: Vec<_> =
        sections.keys().filter(|name| name.starts_with("iguazu") && !needed.contains(*name)).collect();
    assert!(unneeded.is_empty(), "no alert leads to {unneeded:?}");
}

#[test]
fn what_a_team_causes_goes_to_the_team_and_the_rest_to_the_operator() {
    let file = "deploy/prometheus/alertmanager.yml";
    run(Command::new("amtool").args(["check-config", file]));
    let goes_to = |labels: &[&str]| -> String {
        let mut command = Command::new("amtool");
        command.args(["config", "routes", "test", "--config.file", file]).args(labels);
        let output = command.output().expect("amtool is installed by tests/run.sh");
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("names of receivers are UTF-8").trim().to_owned()
    };
    for rule in rules::all().into_iter().filter(|rule| rule.alert.is_some()) {
        let name = format!("alertname={}", rule.alert.as_deref().expect("it was just asked"));
        let severity = format!("severity={}", rule.labels["severity"]);
        let operator = if rule.labels["severity"] == "page" { "operator-pager" } else { "operator" };
        assert_eq!(goes_to(&[&name, &severity]), operator, "{name}");
        if rule.expr.contains("owner)") {
            assert_eq!(goes_to(&[&name, &severity, "owner=checkout"]), "team-checkout", "{name}");
            assert_eq!(goes_to(&[&name, &severity, "owner=nobody-known"]), operator, "{name}");
        }
    }
}
