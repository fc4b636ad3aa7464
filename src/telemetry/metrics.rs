//! The catalogue: every metric there is.
//!
//! Labels are closed sets: names from the configuration, codes, lanes, statuses; never an id, a header or a message.
//! `deploy/docs/metrics.md` is this table as text, and a test compares it with what is served.

/// What kind of metric it is, in Prometheus' terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; starts at zero with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations counted in fixed buckets, with their sum and number.
    Histogram,
}

impl Kind {
    /// The name in the text format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, PartialEq)]
pub struct Metric {
    /// `iguazu_<subject>_<unit>`; counters end in `_total`.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Names of its labels, in order.
    pub labels: &'static [&'static str],
    /// What one is.
    pub unit: &'static str,
    /// One line for people.
    pub help: &'static str,
    /// Upper bounds of a histogram's buckets in its unit, inclusive, ascending; the one without a bound comes on top.
    pub bounds: &'static [f64],
}

macro_rules! catalogue {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $unit:literal, $help:literal $(, $bound:literal)*;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                unit: $unit,
                help: $help,
                bounds: &[$($bound),*],
            };
        )*

        /// Every metric, in the order of the documentation and of what is served.
        pub const ALL: &[&Metric] = &[$(&$constant),*];
    };
}

catalogue! {
    EVENTS_RECEIVED = Counter "iguazu_events_received_total" ["event", "cluster"] "events", "events that were read out of a request, by event type and intended cluster; unknown names count as `(unknown)`";
    EVENTS_RECEIVED_BYTES = Counter "iguazu_events_received_bytes_total" ["event", "cluster"] "bytes", "bytes of their payloads as they were sent, of those that could be read";
    EVENTS_RECOVERED = Counter "iguazu_events_recovered_total" ["event", "cluster"] "events", "events found in the spool at start";
    EVENTS_DELIVERED = Counter "iguazu_events_delivered_total" ["event", "cluster"] "events", "events that Kafka acknowledged";
    EVENTS_DELIVERED_BYTES = Counter "iguazu_events_delivered_bytes_total" ["event", "cluster"] "bytes", "bytes of their records as a producer's buffer counts them: value, key, headers, and what holding them costs (at least 240 a record)";
    EVENTS_DELIVERED_ELSEWHERE = Counter "iguazu_events_delivered_elsewhere_total" ["event", "cluster"] "events", "events among them that a `failover` cluster acknowledged, while the intended one took nothing";
    EVENTS_REJECTED = Counter "iguazu_events_rejected_total" ["event", "cluster", "code"] "events", "events that the reply refused, by code; `sampled_out` were accepted and left out on purpose (`sample`)";
    EVENTS_FAILED = Counter "iguazu_events_failed_total" ["event", "cluster", "code"] "events", "events that were accepted and then given up for good, by code";
    EVENTS_FAILED_KEPT = Counter "iguazu_events_failed_kept_total" ["event", "cluster", "place"] "events", "failed events by where their record is kept for `iguazu redrive`: in the `dead_letter_topic`, in the `failed_log`, or `nowhere`";
    EVENTS_LOST = Counter "iguazu_events_lost_total" ["event", "cluster"] "events", "events of whose fate nothing is known; anything but 0 is a bug";
    EVENTS_IN_MEMORY = Gauge "iguazu_events_in_memory" ["event", "cluster"] "events", "events in a producer's buffer now";
    EVENTS_IN_MEMORY_BYTES = Gauge "iguazu_events_in_memory_bytes" ["event", "cluster"] "bytes", "bytes that they take of the producer's buffer";
    EVENTS_IN_MEMORY_BYTES_MAX = Gauge "iguazu_events_in_memory_max_bytes" ["event", "cluster"] "bytes", "most of them (`buffer_bytes_max` of the event type); more goes to the spool, or is refused";
    EVENTS_IN_SPOOL = Gauge "iguazu_events_in_spool" ["event", "cluster"] "events", "events in the spool now";
    EVENTS_LATE = Counter "iguazu_events_late_total" ["event", "cluster"] "events", "events whose fate was known only after the reply that should have told it, which said `unknown` or `spooled`";
    EVENTS_FIELDS_DROPPED = Counter "iguazu_events_fields_dropped_total" ["event", "cluster"] "events", "events with at least one field that the schema does not have and that was left out";
    EVENTS_HOT_KEY = Counter "iguazu_events_hot_key_total" ["event", "cluster"] "events", "events that went without their key, because it came more often than `hot_key_events_per_second`";
    EVENT_TYPE_INFO = Gauge "iguazu_event_type_info" ["event", "owner", "cluster", "topic"] "1", "always 1; whose an event type is and where it goes, to be joined with the series that have `event` and `cluster`; `owner` is empty where nobody is named";
    EVENT_TYPES_UNLABELLED = Gauge "iguazu_event_types_unlabelled" [] "event types", "event types beyond `telemetry.event_types_max`, which count together as `(other)`, with their cluster";

    EVENT_TYPES = Gauge "iguazu_event_types" ["state"] "event types", "event types that can be served (`ready`), that are though their cluster has not answered since the start, so that their events wait on disk (`degraded`), and that cannot (`unavailable`); `/ready` says why";
    EVENT_TYPE_UNAVAILABLE = Gauge "iguazu_event_type_unavailable" ["event", "cluster"] "event types", "1 while an event type cannot be served; not there while it can. Those beyond `telemetry.event_types_max` count together as `(other)`";
    SNAPSHOT_VERSION = Gauge "iguazu_snapshot_version" [] "version", "number of times that event types, schemas and producers were replaced";
    CONFIG_RELOADS = Counter "iguazu_config_reloads_total" ["result"] "reloads", "configurations read again while running: `applied`, or `refused` because something in them is wrong (the one before stays in force, `/ready` says why)";
    CONFIG_AGE = Gauge "iguazu_config_age_seconds" [] "seconds", "time since the configuration in force was read";
    CONFIG_FINGERPRINT = Gauge "iguazu_config_fingerprint" [] "hash", "48 bits of a hash of the configuration in force and of all files that it names: the same number, the same files";
    ROUTES_REVISION = Gauge "iguazu_routes_revision" [] "revision", "revision of the control plane's routes in force (`routes.source = \"control\"`): its milliseconds since 1970 when they were made, so the same number at all proxies that have the same routes; 0 before there are any";
    ROUTES_AGE = Gauge "iguazu_routes_age_seconds" [] "seconds", "time since the control plane last said what is in force, or that there is nothing newer; since 1970 if it never did";
    ROUTES_PROXIES = Gauge "iguazu_routes_proxies" [] "proxies", "proxies that share the rates of routes and senders, as the control plane counts them";
    ROUTES_HELD = Gauge "iguazu_routes_held" [] "routes", "event types and senders that are not in force as the control plane has them, because that is refused: at their last good version, or left out; `/ready` says why";
    ROUTES_REQUESTS = Counter "iguazu_routes_requests_total" ["result"] "requests", "questions to the control plane: `asked`, and among them `unanswered`";
    ROUTES_REFUSED = Counter "iguazu_routes_refused_total" ["reason"] "documents", "what the control plane sent and was refused whole, by reason; `/ready` says more";
    SNAPSHOT_AGE = Gauge "iguazu_snapshot_age_seconds" [] "seconds", "time since they were last replaced";
    CERTIFICATE_EXPIRY = Gauge "iguazu_certificate_expiry_timestamp_seconds" ["use", "name"] "seconds", "when a certificate ends, seconds since 1970, the soonest of its file: of a listener (`listener`: `http`, `control`), of ours as a client (`client`: the cluster), of an authority that we believe (`authority`: whose)";

    HTTP_REQUESTS = Counter "iguazu_http_requests_total" ["door", "status"] "requests", "requests that were answered, by door and HTTP status";
    HTTP_REQUEST_DURATION = Histogram "iguazu_http_request_duration_seconds" ["door"] "seconds", "time from a request's head to its reply, waiting for acknowledgements included",
        0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0;
    HTTP_REQUEST_EVENTS = Histogram "iguazu_http_request_events" ["door"] "events", "events of a request, of those that were taken at all",
        1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0;
    HTTP_RESULTS = Counter "iguazu_http_results_total" ["door", "code"] "events", "what replies said of events, by door and code; dry runs left out";
    HTTP_REFUSED = Counter "iguazu_http_refused_total" ["door", "code"] "requests", "requests that were refused as a whole, none of their events received, by door and code";
    HTTP_CONNECTIONS = Gauge "iguazu_http_connections" [] "connections", "open connections";
    HTTP_CONNECTIONS_MAX = Gauge "iguazu_http_connections_max" [] "connections", "most open connections (`http.connections_max`)";
    HTTP_CONNECTIONS_REFUSED = Counter "iguazu_http_connections_refused_total" [] "connections", "connections refused because there were too many";
    HTTP_CONNECTIONS_ACCEPTED = Counter "iguazu_http_connections_accepted_total" [] "connections", "connections that were accepted; many for few requests is a sender that keeps none";
    HTTP_TLS_FAILED = Counter "iguazu_http_tls_failed_total" [] "connections", "connections among them whose TLS handshake failed";
    HTTP_IN_FLIGHT = Gauge "iguazu_http_in_flight_bytes" [] "bytes", "bytes of bodies being read or worked on, and of replies being written";
    HTTP_IN_FLIGHT_MAX = Gauge "iguazu_http_in_flight_max_bytes" [] "bytes", "most of them (`http.in_flight_bytes_max`)";

    TRANSCODE_DURATION = Histogram "iguazu_transcode_duration_seconds" ["encoding"] "seconds", "time from an admitted event to its record: value, key and headers; one in 64 events is measured",
        0.000_000_25, 0.000_000_5, 0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.01, 0.1;

    PRODUCER_BUFFER = Gauge "iguazu_producer_buffer_bytes" ["cluster", "lane"] "bytes", "bytes of records that wait for their delivery report, headers and client overhead included";
    PRODUCER_BUFFER_MAX = Gauge "iguazu_producer_buffer_max_bytes" ["cluster", "lane"] "bytes", "most of them (`buffer_bytes_max`)";
    PRODUCER_IN_FLIGHT = Gauge "iguazu_producer_in_flight_records" ["cluster", "lane"] "records", "records that wait for their delivery report";
    PRODUCER_OLDEST = Gauge "iguazu_producer_oldest_unacknowledged_seconds" ["cluster", "lane"] "seconds", "age of the oldest of them: the first sign of a sick cluster, because the client retries in silence";
    PRODUCER_ACK_LATENCY = Histogram "iguazu_producer_ack_latency_seconds" ["cluster", "lane"] "seconds", "time from handing a record to the client to its acknowledgement, linger included",
        0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0;
    PRODUCER_ACKNOWLEDGED = Counter "iguazu_producer_acknowledged_total" ["cluster", "lane"] "records", "records that brokers acknowledged, canaries and dead letters included";
    PRODUCER_BROKER_ACK = Gauge "iguazu_producer_broker_ack_seconds" ["cluster", "lane"] "seconds", "99th percentile of the time from sending a request to a broker to its answer, of the slowest broker, over the ten seconds before the last look; without linger and queue, so it tells Kafka's share";
    PRODUCER_REQUESTS = Counter "iguazu_producer_requests_total" ["cluster", "lane"] "requests", "Produce requests that were sent, as of up to ten seconds ago; the fewer for the same records, the better `linger_ms` fills them";
    PRODUCER_BATCHES = Counter "iguazu_producer_batches_total" ["cluster", "lane"] "batches", "record batches that were made, as of up to ten seconds ago: acknowledged records by batches is the size of a batch";
    PRODUCER_SENT_BYTES = Counter "iguazu_producer_sent_bytes_total" ["cluster", "lane"] "bytes", "bytes that were sent to brokers, compressed, as of up to ten seconds ago";
    PRODUCER_FAILURES = Counter "iguazu_producer_failures_total" ["cluster", "lane", "reason"] "records", "records that the client gave up, by reason";
    PRODUCER_ERRORS = Counter "iguazu_producer_errors_total" ["cluster", "lane", "kind"] "errors", "errors of the client's connections, by kind";
    CANARY = Gauge "iguazu_canary_acknowledged" ["cluster", "lane"] "1", "1 while every broker that leads a routed partition has acknowledged a canary record (`canary_topic`), 0 when the last try failed; not there before the first try";

    BREAKER_STATE = Gauge "iguazu_breaker_state" ["cluster"] "1", "whether the cluster takes records: 0 closed (it does), 1 half-open (it is tried), 2 open (it does not); `/ready` says why";
    BREAKER_TRANSITIONS = Counter "iguazu_breaker_transitions_total" ["cluster", "state"] "transitions", "changes of a breaker, by the state that it changed to";

    SPOOL_BYTES = Gauge "iguazu_spool_bytes" ["cluster", "log"] "bytes", "bytes of the cluster's spool on disk and on their way there; `log` is `spool`, or `wal` for that of `ordered` and `durable` event types";
    SPOOL_BYTES_MAX = Gauge "iguazu_spool_max_bytes" ["cluster", "log"] "bytes", "most of them (`spool.bytes_max`); what is new is refused then";
    SPOOL_QUEUE = Gauge "iguazu_spool_queue_bytes" ["cluster", "log"] "bytes", "bytes of events in memory that wait for the spool's disk, those in a producer's buffer left out";
    SPOOL_OLDEST = Gauge "iguazu_spool_oldest_seconds" ["cluster", "log"] "seconds", "time since the oldest event in the spool was received; 0 when it is empty";
    SPOOL_FAILING = Gauge "iguazu_spool_failing" ["cluster", "log"] "1", "1 while the spool's disk takes nothing, so that events wait in memory only; `/ready` says why";
    SPOOL_WRITTEN = Counter "iguazu_spool_written_total" ["cluster", "log"] "events", "events written to the spool";
    SPOOL_REFUSED = Counter "iguazu_spool_refused_total" ["cluster", "log", "reason"] "events", "events that the spool did not take: it was `full`, its disk was `behind` or `failing`, or the event was `too_large`, or the spool `closed`";
    SPOOL_REPLAYED = Counter "iguazu_spool_replayed_total" ["cluster", "log"] "events", "events out of the spool that Kafka acknowledged or refused for good";
    SPOOL_ERRORS = Counter "iguazu_spool_errors_total" ["cluster", "log", "kind"] "errors", "errors of the spool's disk: no space (`full`), `read_only`, `other`";
    SPOOL_DAMAGED = Counter "iguazu_spool_damaged_bytes_total" ["cluster", "log"] "bytes", "bytes of the spool that something changed or that cannot be read; the events in them are lost";

    DEAD_LETTERS_SENT = Counter "iguazu_dead_letters_sent_total" ["event", "cluster"] "events", "rejected events that are in the dead-letter topic of their event type, acknowledged";
    DEAD_LETTERS_DROPPED = Counter "iguazu_dead_letters_dropped_total" ["event", "cluster", "reason"] "events", "rejected events that are not kept there: there were too many (`rate_limited`), the `buffer_full`, one `too_large`, the topic `unavailable`, or Kafka did not take it (`failed`)";

    FAILED_LOG_BYTES = Gauge "iguazu_failed_log_bytes" ["cluster"] "bytes", "bytes of the cluster's failed log on disk and on their way there";
    FAILED_LOG_BYTES_MAX = Gauge "iguazu_failed_log_max_bytes" ["cluster"] "bytes", "most of them (`failed.bytes_max`); what is given up then is kept nowhere";
    FAILED_LOG_FAILING = Gauge "iguazu_failed_log_failing" ["cluster"] "1", "1 while the failed log's disk takes nothing; `/ready` says why";
    FAILED_LOG_WRITTEN = Counter "iguazu_failed_log_written_total" ["cluster"] "events", "events written to the failed log";
    FAILED_LOG_REFUSED = Counter "iguazu_failed_log_refused_total" ["cluster", "reason"] "events", "events that the failed log did not take, by reason as in `iguazu_spool_refused_total`";
    FAILED_LOG_ERRORS = Counter "iguazu_failed_log_errors_total" ["cluster", "kind"] "errors", "errors of the failed log's disk: no space (`full`), `read_only`, `other`";

    REGISTRY_REQUESTS = Counter "iguazu_registry_requests_total" ["registry"] "requests", "HTTP requests to the registry, tries included";
    REGISTRY_LOOKUPS = Counter "iguazu_registry_lookups_total" ["registry", "outcome"] "look-ups", "look-ups answered from memory (`hit`), asked of the registry (`miss`), and not answered by it (`failed`)";
    REGISTRY_STALE = Gauge "iguazu_registry_stale_seconds" ["registry"] "seconds", "for how long schemas have been served without a check that they are the newest; 0 while the registry answers";
    SCHEMA_VERSIONS = Gauge "iguazu_schema_versions" ["registry"] "versions", "schema versions that are loaded and compiled";
    SCHEMA_LEFT_OUT = Gauge "iguazu_schema_versions_left_out" ["registry"] "versions", "versions of event types' subjects that are of no use and left out; `/ready` says why";

    CONTROL_HTTP = Counter "iguazu_control_http_requests_total" ["method", "status"] "requests", "requests that the API of the management plane answered, by method and HTTP status";
    CONTROL_REFUSED = Counter "iguazu_control_refused_total" ["reason"] "requests", "requests among them that were not let in: `unauthenticated`, `forbidden`, `rate_limited`, or the identity provider or the store was `unavailable`";
    CONTROL_DECISIONS = Counter "iguazu_control_decisions_total" ["decision"] "changes", "changes that were asked for, by what the rules made of them: `auto`, `review`, `reject`";
    CONTROL_REQUESTS = Gauge "iguazu_control_requests" ["state"] "requests", "requests in the store, by how far they have come";
    CONTROL_REQUESTS_OLDEST = Gauge "iguazu_control_requests_oldest_seconds" ["state"] "seconds", "time since the request that has waited longest in a state that is not its last one got there";
    CONTROL_TIME_TO_READY = Histogram "iguazu_control_time_to_ready_seconds" ["result"] "seconds", "time from asking to `ready` or `failed`, of requests that this node has ended; waiting for people included",
        0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0, 86400.0;
    CONTROL_RESERVED = Gauge "iguazu_control_reserved_bytes" ["cluster"] "bytes", "disk of the cluster that is spoken for";
    CONTROL_BUDGET = Gauge "iguazu_control_budget_bytes" ["cluster"] "bytes", "most of it";
    CONTROL_RESERVED_PARTITIONS = Gauge "iguazu_control_reserved_partitions" ["cluster"] "partitions", "partitions that are spoken for, copies counted";
    CONTROL_BUDGET_PARTITIONS = Gauge "iguazu_control_budget_partitions" ["cluster"] "partitions", "most of them";
    CONTROL_RESERVED_INGRESS = Gauge "iguazu_control_reserved_ingress_bytes_per_second" ["cluster"] "bytes a second", "bytes a second of all producers at the peak that are spoken for";
    CONTROL_BUDGET_INGRESS = Gauge "iguazu_control_budget_ingress_bytes_per_second" ["cluster"] "bytes a second", "most of them";
    CONTROL_DISK_USED = Gauge "iguazu_control_disk_used_ratio" ["cluster"] "ratio", "share of the fullest broker's disks that is in use, by whatever";
    CONTROL_DISK_FULL = Gauge "iguazu_control_disk_full_timestamp_seconds" ["cluster"] "seconds", "when the first broker's disks are full at the rate of now, seconds since 1970; not there while none grows";
    CONTROL_OBSERVED = Gauge "iguazu_control_observed_age_seconds" ["cluster"] "seconds", "time since the cluster was last looked at with success; not there if it never was";
    CONTROL_FINDINGS = Gauge "iguazu_control_findings" ["cluster", "kind", "severity"] "findings", "what is not as it should be, by kind, such as `drift`; `iguazu ctl findings` says more";
    CONTROL_ROUTES_REVISION = Gauge "iguazu_control_routes_revision" [] "revision", "revision of the routes that proxies get, as `iguazu_routes_revision` of the proxies; 0 before there are any";
    CONTROL_PROXIES = Gauge "iguazu_control_proxies" [] "proxies", "proxies that ask for routes, of all nodes";
    CONTROL_STORE_UP = Gauge "iguazu_control_store_up" [] "1", "1 when the store answered all that a scrape asks of it; else what it did not answer is left out";
    CREDENTIAL_EXPIRY = Gauge "iguazu_credential_expiry_timestamp_seconds" ["kind", "name", "owner"] "seconds", "when a credential ends, seconds since 1970: `token` of the API by its name, the 200 that end soonest; those that never end are left out; `owner` is the group of its bearer, empty when there is none or more than one";

    LOG_LINES = Counter "iguazu_log_lines_total" ["level"] "lines", "lines logged at `warn` and at `error`; `logs.md` says what each means";
    TRACE_SPANS = Counter "iguazu_trace_spans_total" ["result"] "spans", "spans of sampled requests: `exported`, or not because there were too many (`dropped`) or the collector did not take them (`failed`)";

    BUILD_INFO = Gauge "iguazu_build_info" ["version"] "1", "always 1; the label is the version";
    PROCESS_START = Gauge "iguazu_process_start_time_seconds" [] "seconds", "when the process started, seconds since 1970";
    PROCESS_CPU = Counter "iguazu_process_cpu_seconds_total" [] "seconds", "CPU time used, user and system, in whole seconds";
    PROCESS_RESIDENT = Gauge "iguazu_process_resident_memory_bytes" [] "bytes", "memory in RAM";
    PROCESS_THREADS = Gauge "iguazu_process_threads" [] "threads", "threads, those of the Kafka clients included";
    PROCESS_FDS = Gauge "iguazu_process_open_fds" [] "descriptors", "open file descriptors";
    PROCESS_FDS_MAX = Gauge "iguazu_process_max_fds" [] "descriptors", "most of them";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_follow_the_rule() {
        let mut seen = std::collections::HashSet::new();
        for metric in ALL {
            let name = metric.name;
            assert!(seen.insert(name), "{name} is there twice");
            assert!(name.starts_with("iguazu_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}: counters end in _total");
            assert!(!metric.help.ends_with('.') && !metric.help.contains('\n'), "{name}: one line, no full stop");
            for label in metric.labels {
                assert!(!matches!(*label, "le" | "id" | "message"), "{name} has a label `{label}`");
            }
        }
    }

    #[test]
    fn histograms_and_only_they_have_bounds_and_those_ascend() {
        for metric in ALL {
            assert_eq!(metric.kind == Kind::Histogram, !metric.bounds.is_empty(), "{}", metric.name);
            assert!(metric.bounds.is_sorted_by(|low, high| 0.0 < *low && low < high), "{}", metric.name);
        }
    }

    #[test]
    fn a_name_with_a_unit_has_it_at_its_end() {
        for metric in ALL.iter().filter(|metric| matches!(metric.unit, "seconds" | "bytes")) {
            let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
            assert!(name.ends_with(&format!("_{}", metric.unit)), "{name} is in {}", metric.unit);
        }
    }
}
