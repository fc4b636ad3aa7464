//! What the admin listener shows: the parts that metrics and probes are read from.
//!
//! In: the parts of a running proxy. Out: readings of them, at the moment of a scrape or a probe. Never: waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::SILENCE_MAX;
use super::failed::FailedLogs;
use super::reload::InForce;
use super::spools::{self, Spools};
use crate::config::Config;
use crate::feed;
use crate::feed::control::Pushed;
use crate::outcome::Ledger;
use crate::pipeline::{Live, Pipeline, Ready, State};
use crate::produce::{Client, Gate, Producers, Trouble};
use crate::route::{EventType, Lane};
use crate::schema::Loader;
use crate::serve::{Counts, Workers};
use crate::telemetry::admin::AdminState;
use crate::telemetry::export::{Exporter, Page, Source};
use crate::telemetry::health::{Buffer, Condition, Health, Measured, Pulse};
use crate::telemetry::ledger::Books;
use crate::telemetry::meters::HttpMeters;
use crate::telemetry::traces::Tracer;
use crate::telemetry::{accounts, sources};

/// The parts of a running proxy.
pub(super) struct Shown {
    pub(super) in_force: Arc<InForce>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) producers: Arc<Producers>,
    pub(super) meters: Arc<HttpMeters>,
    pub(super) counts: Arc<Counts>,
    pub(super) workers: Arc<Workers>,
    pub(super) spools: Arc<Spools>,
    pub(super) failed: FailedLogs,
    pub(super) pushed: Option<Arc<Pushed>>,
    pub(super) tracer: Option<Arc<Tracer>>,
}

impl Shown {
    pub(super) fn admin_state(self, health: Arc<Health>) -> AdminState {
        let ledger = Arc::clone(self.pipeline.ledger());
        let books = Books::open(Arc::clone(&ledger));
        let shown = Arc::new(self);
        let write = Arc::clone(&shown);
        let source: Source = Box::new(move |page| write.write(page));
        let measure = Box::new(move || shown.measure());
        AdminState { health, exporter: Exporter::new(vec![source]), books, ledger, measure }
    }

    fn write(&self, page: &mut Page) {
        let parts = self.in_force.parts();
        let event_types_max = parts.config.telemetry.event_types_max;
        accounts::write(page, self.pipeline.ledger(), event_types_max);
        write_event_types(page, self.pipeline.snapshot().live(), event_types_max);
        sources::config(page, &self.in_force.reading());
        sources::certificates(page, &parts.certificates);
        sources::snapshot(page, &self.read_snapshot());
        if let Some(tracer) = &self.tracer {
            sources::spans(page, &tracer.counts());
        }
        if let Some(pushed) = &self.pushed {
            sources::routes(page, &pushed.reading());
        }
        self.meters.connections_max.store(parts.config.http.connections_max as u64, Relaxed);
        self.meters.connections.store(self.counts.open.load(Relaxed) as u64, Relaxed);
        self.meters.connections_refused.store(self.counts.refused.load(Relaxed), Relaxed);
        self.meters.connections_accepted.store(self.counts.accepted.load(Relaxed), Relaxed);
        self.meters.tls_failed.store(self.counts.tls_failed.load(Relaxed), Relaxed);
        sources::http(page, &self.meters);
        for client in self.producers.all() {
            sources::producer(page, &read_producer(&client));
        }
        for (cluster, gate) in self.producers.gates() {
            let entered = gate.entered().map(|(state, count)| (state.as_str(), count)).collect();
            sources::breaker(page, &sources::Breaker { cluster: &cluster, state: gate.state() as u64, entered });
        }
        for (log, spool) in self.spools.logs() {
            sources::spool(page, &spools::reading(log, &spool));
        }
        for letters in self.pipeline.snapshot().live().iter().filter_map(|live| live.dead_letters.as_ref()) {
            let dropped = letters.dropped().map(|(why, count)| (why.as_str(), count)).collect();
            let (event, cluster, sent) = (letters.event(), letters.cluster(), letters.sent());
            sources::dead_letters(page, &sources::DeadLetters { event, cluster, sent, dropped });
        }
        for log in self.failed.all() {
            sources::failed_log(page, &spools::reading("failed", &log));
        }
        for (name, loader) in &parts.loaders {
            sources::registry(page, &self.read_registry(&parts.config, name, loader));
        }
    }

    fn read_snapshot(&self) -> sources::Snapshot {
        let snapshot = self.pipeline.snapshot();
        let (mut ready, mut degraded, mut unavailable) = (0, 0, 0);
        for live in snapshot.live() {
            match &live.state {
                State::Ready(Ready { is_assumed: false, .. }) => ready += 1,
                State::Ready(_) => degraded += 1,
                State::Unavailable(_) => unavailable += 1,
            }
        }
        sources::Snapshot { version: snapshot.version(), age: snapshot.age(), ready, degraded, unavailable }
    }

    fn read_registry<'s>(&self, config: &Config, name: &'s str, loader: &Loader) -> sources::Registry<'s> {
        let counts = loader.registry().counts();
        let events = config.events.iter().filter(|event| feed::registry_of(config, event) == Some(name));
        let (mut stale, mut left_out) = (Duration::ZERO, 0);
        for event in events {
            let status = loader.status(&event.name);
            left_out += status.problems.len() as u64;
            let age = status.stale_since.and_then(|since| since.elapsed().ok());
            stale = stale.max(age.unwrap_or_default());
        }
        let snapshot = self.pipeline.snapshot();
        let versions = snapshot.live().iter().filter(|live| feed::registry_of(config, &live.event_type) == Some(name));
        let versions = versions.map(|live| match &live.state {
            State::Ready(Ready { schemas: Some(schemas), .. }) => schemas.versions.len() as u64,
            _ => 0,
        });
        sources::Registry {
            name,
            requests: counts.requests.load(Relaxed),
            hits: counts.hits.load(Relaxed),
            misses: counts.misses.load(Relaxed),
            failed: counts.failed.load(Relaxed),
            stale,
            versions: versions.sum(),
            left_out,
        }
    }

    fn measure(&self) -> Measured {
        let clients = self.producers.all();
        let buffer = |client: &Arc<Client>| Buffer {
            cluster: client.cluster().to_owned(),
            lane: client.lane().as_str(),
            fill: client.buffered_bytes() as f64 / client.buffer_bytes_max().max(1) as f64,
        };
        let pulse = |client: &Arc<Client>| Pulse {
            name: format!("produce-{}-{}", client.cluster(), client.lane().as_str()),
            silence: client.poll_age(),
            silence_max: SILENCE_MAX,
        };
        let stuck = self.workers.stalled(SILENCE_MAX).into_iter().map(|name| Pulse {
            name: name.to_owned(),
            silence: SILENCE_MAX,
            silence_max: Duration::ZERO,
        });
        Measured {
            // Events find room however many dead letters there are.
            buffers: clients.iter().filter(|client| client.lane() != Lane::DeadLetter).map(buffer).collect(),
            pulses: clients.iter().map(pulse).chain(stuck).collect(),
            spools: spools::levels(&self.spools.logs()),
            conditions: self.producers.gates().into_iter().filter_map(open_breaker).collect(),
        }
    }
}

/// Whose event types are, and which cannot be served. Those whose account has no series of its own have none here either.
fn write_event_types(page: &mut Page, all: &[Live], shown_max: usize) {
    let mut others = BTreeMap::<&str, u64>::new();
    for Live { event_type, account, state, .. } in all {
        let EventType { name, owner, cluster, topic, .. } = &**event_type;
        let is_shown = account.ordinal < shown_max as u64;
        if is_shown {
            sources::event_type(page, &sources::EventType { event: name, owner: owner.as_deref(), cluster, topic });
        }
        match state {
            State::Ready(_) => {}
            State::Unavailable(_) if is_shown => sources::unavailable(page, name, cluster, 1),
            State::Unavailable(_) => *others.entry(cluster).or_default() += 1,
        }
    }
    others.into_iter().for_each(|(cluster, count)| sources::unavailable(page, Ledger::OTHER, cluster, count));
}

/// What `/ready` says of a cluster that does not take records as usual.
fn open_breaker((cluster, gate): (String, Arc<Gate>)) -> Option<Condition> {
    let Trouble { reason, since } = gate.trouble()?;
    Some(Condition { name: format!("breaker of {cluster}"), reason, since })
}

fn read_producer(client: &Client) -> sources::Producer<'_> {
    sources::Producer {
        cluster: client.cluster(),
        lane: client.lane().as_str(),
        buffer_bytes: client.buffered_bytes(),
        buffer_bytes_max: client.buffer_bytes_max(),
        in_flight: client.in_flight(),
        oldest: client.oldest_age(),
        acknowledged: client.delivered(),
        statistics: client.statistics(),
        canary: client.is_proven(),
        failures: client.failures().map(|(failure, count)| (failure.as_str(), count)).collect(),
        errors: client.errors().map(|(kind, count)| (kind.as_str(), count)).collect(),
    }
}
