//! What each part of the proxy shows of itself, written onto a page.
//!
//! In: readings. Out: samples of the catalogue's counters and gauges. The parts know nothing of these; whoever puts the
//! proxy together makes a reading of each and calls these functions from an exporter's source. Histograms are not read:
//! whoever measures a duration observes it itself, through a handle.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::certificates::Expiry;
use super::export::Page;
use super::meters::HttpMeters;
use super::metrics as m;

/// Whose an event type is, and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct EventType<'a> {
    /// Event name.
    pub event: &'a str,
    /// Who owns it, if somebody does.
    pub owner: Option<&'a str>,
    /// Its intended cluster.
    pub cluster: &'a str,
    /// Its topic.
    pub topic: &'a str,
}

/// One event type.
pub fn event_type(page: &mut Page, reading: &EventType<'_>) {
    let EventType { event, owner, cluster, topic } = *reading;
    page.set(&m::EVENT_TYPE_INFO, &[event, owner.unwrap_or_default(), cluster, topic], 1u64);
}

/// Event types of one label and cluster that cannot be served; to be left out where there are none.
pub fn unavailable(page: &mut Page, event: &str, cluster: &str, event_types: u64) {
    page.set(&m::EVENT_TYPE_UNAVAILABLE, &[event, cluster], event_types);
}

/// The doors and their listener.
pub fn http(page: &mut Page, meters: &HttpMeters) {
    for door in meters.doors() {
        for (status, count) in door.replies() {
            page.set(&m::HTTP_REQUESTS, &[door.name, &status.to_string()], count);
        }
        for (code, count) in door.results() {
            page.set(&m::HTTP_RESULTS, &[door.name, code.as_str()], count);
        }
        for (code, count) in door.refusals() {
            page.set(&m::HTTP_REFUSED, &[door.name, code.as_str()], count);
        }
    }
    let read = |number: &AtomicU64| number.load(Relaxed);
    page.set(&m::HTTP_CONNECTIONS, &[], read(&meters.connections));
    page.set(&m::HTTP_CONNECTIONS_MAX, &[], read(&meters.connections_max));
    page.set(&m::HTTP_CONNECTIONS_REFUSED, &[], read(&meters.connections_refused));
    page.set(&m::HTTP_CONNECTIONS_ACCEPTED, &[], read(&meters.connections_accepted));
    page.set(&m::HTTP_TLS_FAILED, &[], read(&meters.tls_failed));
    page.set(&m::HTTP_IN_FLIGHT, &[], read(&meters.in_flight_bytes));
    page.set(&m::HTTP_IN_FLIGHT_MAX, &[], read(&meters.in_flight_bytes_max));
}

/// A reading of one producer client.
#[derive(Clone, Debug)]
pub struct Producer<'a> {
    /// Its cluster.
    pub cluster: &'a str,
    /// Its lane.
    pub lane: &'a str,
    /// Bytes of records that wait for their report.
    pub buffer_bytes: u64,
    /// Most of them.
    pub buffer_bytes_max: u64,
    /// Records that wait for their report.
    pub in_flight: u64,
    /// Age of the oldest of them; none without records.
    pub oldest: Option<Duration>,
    /// Records acknowledged.
    pub acknowledged: u64,
    /// What its client says of itself now and then.
    pub statistics: Statistics,
    /// Whether the last canary was acknowledged by all that should; none before the first.
    pub canary: Option<bool>,
    /// Records given up, by reason; zeros are shown too, so that a first one is seen as an increase.
    pub failures: Vec<(&'static str, u64)>,
    /// Errors of connections, by kind.
    pub errors: Vec<(&'static str, u64)>,
}

/// What librdkafka says of a client every ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Produce requests sent.
    pub requests: u64,
    /// Record batches made.
    pub batches: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// 99th percentile of the time that the slowest broker took to answer, lately.
    pub broker_ack: Duration,
}

/// One producer client.
pub fn producer(page: &mut Page, reading: &Producer<'_>) {
    let labels = [reading.cluster, reading.lane];
    page.set(&m::PRODUCER_BUFFER, &labels, reading.buffer_bytes);
    page.set(&m::PRODUCER_BUFFER_MAX, &labels, reading.buffer_bytes_max);
    page.set(&m::PRODUCER_IN_FLIGHT, &labels, reading.in_flight);
    page.set(&m::PRODUCER_OLDEST, &labels, reading.oldest.unwrap_or_default());
    page.set(&m::PRODUCER_ACKNOWLEDGED, &labels, reading.acknowledged);
    page.set(&m::PRODUCER_BROKER_ACK, &labels, reading.statistics.broker_ack);
    page.set(&m::PRODUCER_REQUESTS, &labels, reading.statistics.requests);
    page.set(&m::PRODUCER_BATCHES, &labels, reading.statistics.batches);
    page.set(&m::PRODUCER_SENT_BYTES, &labels, reading.statistics.sent_bytes);
    if let Some(given) = reading.canary {
        page.set(&m::CANARY, &labels, u64::from(given));
    }
    for (reason, count) in &reading.failures {
        page.set(&m::PRODUCER_FAILURES, &[reading.cluster, reading.lane, reason], *count);
    }
    for (kind, count) in &reading.errors {
        page.set(&m::PRODUCER_ERRORS, &[reading.cluster, reading.lane, kind], *count);
    }
}

/// A reading of one cluster's breaker.
#[derive(Clone, Debug)]
pub struct Breaker<'a> {
    /// The cluster.
    pub cluster: &'a str,
    /// 0 closed, 1 half-open, 2 open.
    pub state: u64,
    /// How often each state was entered.
    pub entered: Vec<(&'static str, u64)>,
}

/// One cluster's breaker.
pub fn breaker(page: &mut Page, reading: &Breaker<'_>) {
    page.set(&m::BREAKER_STATE, &[reading.cluster], reading.state);
    for (state, count) in &reading.entered {
        page.set(&m::BREAKER_TRANSITIONS, &[reading.cluster, state], *count);
    }
}

/// A reading of one cluster's spool or wal.
#[derive(Clone, Debug)]
pub struct Spool<'a> {
    /// The cluster.
    pub cluster: &'a str,
    /// Which of the two.
    pub log: &'static str,
    /// Bytes on disk and on their way there.
    pub bytes: u64,
    /// Most of them.
    pub bytes_max: u64,
    /// Bytes in memory that wait for the disk.
    pub queue_bytes: u64,
    /// Age of the oldest event; none when it is empty.
    pub oldest: Option<Duration>,
    /// Whether the disk takes nothing.
    pub is_failing: bool,
    /// Events written.
    pub written: u64,
    /// Events refused, by reason; zeros are shown too.
    pub refused: Vec<(&'static str, u64)>,
    /// Events settled.
    pub settled: u64,
    /// Errors of the disk, by kind.
    pub errors: Vec<(&'static str, u64)>,
    /// Bytes that are lost.
    pub damaged_bytes: u64,
}

/// One cluster's spool or wal.
pub fn spool(page: &mut Page, reading: &Spool<'_>) {
    let labels = [reading.cluster, reading.log];
    page.set(&m::SPOOL_BYTES, &labels, reading.bytes);
    page.set(&m::SPOOL_BYTES_MAX, &labels, reading.bytes_max);
    page.set(&m::SPOOL_QUEUE, &labels, reading.queue_bytes);
    page.set(&m::SPOOL_OLDEST, &labels, reading.oldest.unwrap_or_default());
    page.set(&m::SPOOL_FAILING, &labels, u64::from(reading.is_failing));
    page.set(&m::SPOOL_WRITTEN, &labels, reading.written);
    page.set(&m::SPOOL_REPLAYED, &labels, reading.settled);
    page.set(&m::SPOOL_DAMAGED, &labels, reading.damaged_bytes);
    for (reason, count) in &reading.refused {
        page.set(&m::SPOOL_REFUSED, &[reading.cluster, reading.log, reason], *count);
    }
    for (kind, count) in &reading.errors {
        page.set(&m::SPOOL_ERRORS, &[reading.cluster, reading.log, kind], *count);
    }
}

/// A reading of one event type's dead letters of rejected events.
#[derive(Clone, Debug)]
pub struct DeadLetters<'a> {
    /// Event name.
    pub event: &'a str,
    /// Its cluster.
    pub cluster: &'a str,
    /// Acknowledged.
    pub sent: u64,
    /// Not kept, by why; zeros are shown too.
    pub dropped: Vec<(&'static str, u64)>,
}

/// One event type's dead letters of rejected events.
pub fn dead_letters(page: &mut Page, reading: &DeadLetters<'_>) {
    let DeadLetters { event, cluster, sent, dropped } = reading;
    page.set(&m::DEAD_LETTERS_SENT, &[event, cluster], *sent);
    for (reason, count) in dropped {
        page.set(&m::DEAD_LETTERS_DROPPED, &[event, cluster, reason], *count);
    }
}

/// One cluster's failed log, which is a spool of which nothing is replayed.
pub fn failed_log(page: &mut Page, reading: &Spool<'_>) {
    let cluster = reading.cluster;
    page.set(&m::FAILED_LOG_BYTES, &[cluster], reading.bytes);
    page.set(&m::FAILED_LOG_BYTES_MAX, &[cluster], reading.bytes_max);
    page.set(&m::FAILED_LOG_FAILING, &[cluster], u64::from(reading.is_failing));
    page.set(&m::FAILED_LOG_WRITTEN, &[cluster], reading.written);
    for (reason, count) in &reading.refused {
        page.set(&m::FAILED_LOG_REFUSED, &[cluster, reason], *count);
    }
    for (kind, count) in &reading.errors {
        page.set(&m::FAILED_LOG_ERRORS, &[cluster, kind], *count);
    }
}

/// A reading of one registry and the schemas from it.
#[derive(Clone, Debug, Default)]
pub struct Registry<'a> {
    /// Its name.
    pub name: &'a str,
    /// HTTP requests, tries included.
    pub requests: u64,
    /// Look-ups answered from memory.
    pub hits: u64,
    /// Look-ups that went to the registry.
    pub misses: u64,
    /// Look-ups that it did not answer.
    pub failed: u64,
    /// For how long schemas have been served unchecked; zero while it answers.
    pub stale: Duration,
    /// Schema versions loaded and compiled.
    pub versions: u64,
    /// Versions that are of no use and left out.
    pub left_out: u64,
}

/// One registry.
pub fn registry(page: &mut Page, reading: &Registry<'_>) {
    let name = reading.name;
    page.set(&m::REGISTRY_REQUESTS, &[name], reading.requests);
    for (outcome, count) in [("hit", reading.hits), ("miss", reading.misses), ("failed", reading.failed)] {
        page.set(&m::REGISTRY_LOOKUPS, &[name, outcome], count);
    }
    page.set(&m::REGISTRY_STALE, &[name], reading.stale);
    page.set(&m::SCHEMA_VERSIONS, &[name], reading.versions);
    page.set(&m::SCHEMA_LEFT_OUT, &[name], reading.left_out);
}

/// A reading of the snapshot in force.
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    /// How many there were, this one included.
    pub version: u64,
    /// Time since it was put in place.
    pub age: Duration,
    /// Event types that can be served.
    pub ready: u64,
    /// Event types that are, though their cluster has not answered since the start.
    pub degraded: u64,
    /// Event types that cannot.
    pub unavailable: u64,
}

/// A reading of the configuration in force.
#[derive(Clone, Copy, Debug, Default)]
pub struct Config {
    /// Configurations that were put in force while running.
    pub applied: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Time since the one in force was read.
    pub age: Duration,
    /// A hash of its files.
    pub fingerprint: u64,
}

/// The configuration in force.
pub fn config(page: &mut Page, reading: &Config) {
    page.set(&m::CONFIG_RELOADS, &["applied"], reading.applied);
    page.set(&m::CONFIG_RELOADS, &["refused"], reading.refused);
    page.set(&m::CONFIG_AGE, &[], reading.age);
    page.set(&m::CONFIG_FINGERPRINT, &[], reading.fingerprint);
}

/// A reading of what a control plane pushes.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// Revision in force.
    pub revision: u64,
    /// Time since the control plane confirmed it.
    pub age: Duration,
    /// Among how many proxies rates are shared.
    pub proxies: u64,
    /// Routes that are not in force as they were pushed.
    pub held: u64,
    /// Questions.
    pub asked: u64,
    /// Those without an answer.
    pub unanswered: u64,
    /// Documents that were refused, by reason; zeros are shown too.
    pub refused: Vec<(&'static str, u64)>,
}

/// What a control plane pushes.
pub fn routes(page: &mut Page, reading: &Routes) {
    page.set(&m::ROUTES_REVISION, &[], reading.revision);
    page.set(&m::ROUTES_AGE, &[], reading.age);
    page.set(&m::ROUTES_PROXIES, &[], reading.proxies);
    page.set(&m::ROUTES_HELD, &[], reading.held);
    page.set(&m::ROUTES_REQUESTS, &["asked"], reading.asked);
    page.set(&m::ROUTES_REQUESTS, &["unanswered"], reading.unanswered);
    for (reason, count) in &reading.refused {
        page.set(&m::ROUTES_REFUSED, &[reason], *count);
    }
}

/// The snapshot in force.
pub fn snapshot(page: &mut Page, reading: &Snapshot) {
    page.set(&m::EVENT_TYPES, &["ready"], reading.ready);
    page.set(&m::EVENT_TYPES, &["degraded"], reading.degraded);
    page.set(&m::EVENT_TYPES, &["unavailable"], reading.unavailable);
    page.set(&m::SNAPSHOT_VERSION, &[], reading.version);
    page.set(&m::SNAPSHOT_AGE, &[], reading.age);
}

/// When certificates end, the soonest of each name.
pub fn certificates(page: &mut Page, expiries: &[Expiry]) {
    for Expiry { role, name, ends } in expiries {
        page.set(&m::CERTIFICATE_EXPIRY, &[role, name], *ends);
    }
}

/// What became of spans.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spans {
    /// The collector has them.
    pub exported: u64,
    /// There were too many.
    pub dropped: u64,
    /// The collector did not take them.
    pub failed: u64,
}

/// What became of spans.
pub fn spans(page: &mut Page, reading: &Spans) {
    for (result, count) in [("exported", reading.exported), ("dropped", reading.dropped), ("failed", reading.failed)] {
        page.set(&m::TRACE_SPANS, &[result], count);
    }
}

/// The version of this program.
pub fn build(page: &mut Page) {
    page.set(&m::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1u64);
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
