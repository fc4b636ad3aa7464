//! Where snapshots come from: the configuration file, or a control plane in its place.
//!
//! In: a checked [`Config`], and later others in its place. Out: a [`Snapshot`] in the pipeline, made anew whenever an event type becomes available,
//! stops being so, or gets a new schema version. Everything slow about an event type is done here, ahead of its events:
//! its client is started, its topic looked up, its schemas fetched and compiled. Each event type is warmed on its own, so one
//! that is bad never holds up another. Another configuration leaves event types alone that it does not change; one that it
//! changes is served as before until it is warm. Never: touches the path of an event but by replacing the snapshot.
//!
//! Reading order: this file (what is due, what was found, what is published), `adopt` (another configuration), `warm` (the slow
//! work), `topics` (what was known in the last run).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{self, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::auth::{Limiter, Senders};
use crate::config::Config;
use crate::pipeline::{Live, Outage, Pipeline, Snapshot, State};
use crate::produce::{Client, ProduceError, Producers, Topic};
use crate::route::EventType;
use crate::schema::{Loaded, Loader, Refreshed, Stale};
use crate::telemetry::health::Health;

mod adopt;
pub mod control;
mod dead_letters;
mod stand_in;
#[cfg(test)]
mod tests;
mod topics;
mod warm;

pub use adopt::Adopt;
use stand_in::StandIns;
use topics::Topics;
use warm::{Need, Warm, WarmError, refresh, use_current, warm};

/// Event types of a cluster that are warmed at the same time; each may hold a blocking thread for as long as its cluster is silent.
const WARMING_MAX: usize = 8;
/// Pause before an event type that is not available is tried again; doubles up to the second.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// The longest one for an event type that is served though its cluster does not answer.
const ASSUMED_RETRY: Duration = Duration::from_secs(5);
/// How often the feed looks whether something is due.
const TICK: Duration = Duration::from_millis(250);

/// Loaders of schemas, by the name of their registry.
pub type Loaders = HashMap<String, Arc<Loader>>;

/// Keeps the pipeline's snapshot true to the configuration file.
#[derive(Debug)]
pub struct Feed {
    config: Arc<Config>,
    pipeline: Arc<Pipeline>,
    producers: Arc<Producers>,
    loaders: Loaders,
    health: Arc<Health>,
    /// Until when everything is waited for; then what can be served is, by what was known in the last run.
    patience: Instant,
    topics: Topics,
    /// Made once and cloned into each snapshot: a clone shares the limits, a new table would begin them anew.
    senders: Senders,
    entries: Vec<Entry>,
    /// The next entry's number.
    next_id: u64,
    /// What is being warmed or refreshed: the task and the number of its entry.
    under_way: HashMap<task::Id, u64>,
    /// Room for work on the event types of each cluster.
    room: HashMap<String, Arc<Semaphore>>,
    dead_letters: dead_letters::Topics,
    /// Clients that another one took over from, to be retired at the next tick: by then no worker is inside a slice of
    /// events that it began with the snapshot before.
    outgoing: Vec<Arc<Client>>,
}

/// One event type as the feed sees it.
#[derive(Debug)]
struct Entry {
    /// Its number. Another one is given when work that is under way is of no use any more.
    id: u64,
    live: Live,
    /// The settings that it is to have, while those of `live` serve until these are warm.
    next: Option<Arc<EventType>>,
    /// Tries that failed in a row.
    failures: u32,
    /// Its cluster did not answer the last try.
    is_silent: bool,
    /// When it is to be warmed or refreshed next; none while that is under way.
    due: Option<Instant>,
}

/// What came of working on the entry with this number.
struct Done {
    id: u64,
    found: Found,
}

enum Found {
    Warmed(Result<Warm, WarmError>),
    /// The topic as it is now, and what became of the schemas, where there are any.
    Refreshed(Result<Topic, ProduceError>, StandIns, Option<Box<Refreshed>>),
}

impl Feed {
    /// A feed of this configuration. Publishes a first snapshot, in which no event type is available yet.
    pub fn new(
        config: Arc<Config>,
        pipeline: Arc<Pipeline>,
        producers: Arc<Producers>,
        loaders: Loaders,
        health: Arc<Health>,
    ) -> Self {
        let senders = senders_of(&config, &Senders::default());
        let patience = Instant::now() + config.startup_wait;
        let topics = Topics::load(config.state_dir.as_deref());
        let mut feed = Feed {
            patience,
            topics,
            config,
            pipeline,
            producers,
            loaders,
            health,
            senders,
            entries: Vec::new(),
            next_id: 0,
            under_way: HashMap::new(),
            room: HashMap::new(),
            dead_letters: dead_letters::Topics::default(),
            outgoing: Vec::new(),
        };
        let config = Arc::clone(&feed.config);
        feed.dead_letters.adopt(&config, &feed.producers, &feed.health);
        feed.entries = config.events.iter().map(|event_type| feed.new_entry(event_type)).collect();
        feed.show_brakes(&config);
        feed.publish();
        feed
    }

    /// Warms, heals and refreshes until it is told to stop. Start-up is over when everything is warm, or when
    /// `startup_wait_seconds` have passed: the proxy then starts degraded. Other configurations come from `adopt`.
    pub async fn run(mut self, mut adopt: mpsc::Receiver<Adopt>, stop: CancellationToken) {
        let mut work: JoinSet<Done> = JoinSet::new();
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(done) = work.join_next_with_id() => {
                    let mut changed = self.take_in(done);
                    while let Some(done) = work.try_join_next_with_id() {
                        changed |= self.take_in(done);
                    }
                    if changed {
                        self.publish();
                    }
                }
                Some(next) = adopt.recv() => {
                    self.adopt(next);
                    self.begin_what_is_due(&mut work);
                }
                _ = tick.tick() => {
                    task::block_in_place(|| self.topics.save());
                    self.renew_clients();
                    self.begin_what_is_due(&mut work);
                    self.dead_letters.look(&self.config, &self.producers, &self.health);
                }
            }
            self.note_start();
        }
        work.shutdown().await;
        task::block_in_place(|| self.topics.save());
    }

    fn begin_what_is_due(&mut self, work: &mut JoinSet<Done>) {
        let now = Instant::now();
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            if entry.due.is_none_or(|due| due > now) {
                continue;
            }
            let need = self.need(entry, entry.next.as_ref().unwrap_or(&entry.live.event_type));
            let entry = &mut self.entries[index];
            entry.due = None;
            let id = entry.id;
            let event_type = Arc::clone(entry.next.as_ref().unwrap_or(&entry.live.event_type));
            let loader = registry_of(&self.config, &event_type).and_then(|name| self.loaders.get(name)).cloned();
            // A cluster that is silent holds up its own event types only.
            let room = self.room.entry(event_type.cluster.clone());
            let room = Arc::clone(room.or_insert_with(|| Arc::new(Semaphore::new(WARMING_MAX))));
            let (config, producers) = (Arc::clone(&self.config), Arc::clone(&self.producers));
            let task = match &entry.live.state {
                State::Ready(ready) if entry.next.is_none() => {
                    let ready = ready.clone();
                    work.spawn(async move {
                        let _room = room.acquire().await;
                        Done { id, found: refresh(&config, producers, loader, &event_type, &ready).await }
                    })
                }
                _ => work.spawn(async move {
                    let _room = room.acquire().await;
                    let found = Found::Warmed(warm(&config, producers, loader, event_type, need).await);
                    Done { id, found }
                }),
            };
            self.under_way.insert(task.id(), id);
        }
    }

    /// Takes in what a task found; says whether the snapshot is to change. A task that panicked is our own bug, which the
    /// panic hook has logged: its event type is tried again.
    fn take_in(&mut self, done: Result<(task::Id, Done), JoinError>) -> bool {
        match done {
            Ok((id, done)) => {
                self.under_way.remove(&id);
                self.apply(done)
            }
            Err(error) => {
                let id = self.under_way.remove(&error.id());
                if let Some(entry) = self.entries.iter_mut().find(|entry| Some(entry.id) == id) {
                    entry.due = Some(Instant::now() + RETRY_LAST);
                }
                false
            }
        }
    }

    /// Replaces clients that are beyond repair, gives every event type the client that its cluster and lane have now, and
    /// retires those that no snapshot has had since the tick before.
    fn renew_clients(&mut self) {
        let (unused, displaced) = (self.unused_clients(), self.producers.displaced());
        let is_in = |clients: &[Arc<Client>], client: &Arc<Client>| clients.iter().any(|c| Arc::ptr_eq(c, client));
        for client in std::mem::take(&mut self.outgoing) {
            // A cluster that was taken out may be back.
            if is_in(&displaced, &client) || is_in(&unused, &client) {
                self.producers.retire(client, self.config.http.drain);
            }
        }
        for client in self.producers.all().into_iter().filter(|client| client.is_fatal()) {
            let (cluster, lane) = (client.cluster(), client.lane());
            warn!(cluster, lane = lane.as_str(), "producer turned fatal and is replaced");
            let settings = self.config.clusters.iter().find(|c| c.name == cluster);
            if let Some(Err(error)) = settings.map(|settings| self.producers.replace(settings, lane)) {
                error!(cluster, lane = lane.as_str(), %error, "producer cannot be replaced");
            }
        }
        let mut changed = false;
        for entry in &mut self.entries {
            let State::Ready(ready) = &mut entry.live.state else { continue };
            changed |= use_current(&self.producers, ready);
        }
        if changed {
            self.publish();
        }
        self.outgoing = self.producers.displaced();
        self.outgoing.extend(self.unused_clients());
    }

    /// Takes in what was found; says whether the snapshot is to change.
    fn apply(&mut self, Done { id, found }: Done) -> bool {
        // One that is not there was taken out or changed meanwhile.
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else { return false };
        let event_type = Arc::clone(entry.next.as_ref().unwrap_or(&entry.live.event_type));
        let event = &event_type.name;
        let refresh = self.config.schema_refresh;
        let loader = registry_of(&self.config, &event_type).and_then(|name| self.loaders.get(name));
        let left_out = || loader.map(|loader| loader.status(event).problems).unwrap_or_default();
        match found {
            Found::Warmed(Ok(Warm { mut ready, note, topic, doubt, missing })) => {
                let doubt = match &entry.live.state {
                    State::Unavailable(outage) if ready.is_assumed && doubt.is_none() => Some(outage.reason.clone()),
                    _ => doubt,
                };
                show_doubt(&self.health, event, doubt.as_deref());
                if let Some(topic) = &topic {
                    self.topics.note(&event_type.cluster, &event_type.topic, topic);
                }
                show_schemas(&self.health, event, note.clone());
                show_missing(&self.health, event, missing.clone());
                // What is wrong with its schemas the loader has logged.
                if note.is_some() || entry.failures > 0 {
                    info!(%event, note, "event type is available");
                }
                entry.failures = 0;
                // One that is assumed is looked at again soon, and so are clusters that cannot stand in.
                let pause = if missing.is_some() { refresh.min(RETRY_LAST) } else { refresh };
                entry.due = Some(Instant::now() + if ready.is_assumed { RETRY_FIRST } else { pause });
                // Another client may have taken over while this event type was warmed.
                use_current(&self.producers, &mut ready);
                if entry.next.take().is_some() {
                    info!(%event, "event type has its new settings now");
                    self.health.clear_condition(&condition_of_next(event));
                    entry.live.account = self.pipeline.ledger().account(event, &event_type.cluster);
                    entry.live.event_type = event_type;
                }
                entry.live.state = State::Ready(ready);
                true
            }
            Found::Warmed(Err(error)) if entry.next.is_some() => {
                let reason = error.to_string();
                if entry.failures == 0 {
                    warn!(%event, %reason, "event type cannot have its new settings yet, those of before stay in force");
                }
                entry.due = Some(Instant::now() + retry_pause(entry.failures));
                entry.failures += 1;
                self.health.set_condition(&condition_of_next(event), &reason);
                false
            }
            Found::Warmed(Err(error)) => {
                let reason = error.to_string();
                entry.is_silent = error.is_silence();
                if error.is_refusal() {
                    self.topics.forget(&event_type.cluster, &event_type.topic);
                }
                if entry.failures == 0 {
                    warn!(%event, %reason, "event type is not available");
                }
                entry.due = Some(Instant::now() + retry_pause(entry.failures));
                entry.failures += 1;
                match &mut entry.live.state {
                    State::Unavailable(outage) => std::mem::replace(&mut outage.reason, reason.clone()) != reason,
                    state => {
                        *state = State::Unavailable(Outage::new(reason));
                        true
                    }
                }
            }
            Found::Refreshed(Err(error), _, _) if error.is_final() => {
                let reason = error.to_string();
                warn!(%event, %reason, "event type is no longer available");
                self.topics.forget(&event_type.cluster, &event_type.topic);
                show_doubt(&self.health, event, None);
                entry.is_silent = false;
                entry.due = Some(Instant::now() + RETRY_FIRST);
                entry.failures = 1;
                entry.live.state = State::Unavailable(Outage::new(reason));
                true
            }
            Found::Refreshed(topic, stand_ins, schemas) => {
                let State::Ready(ready) = &mut entry.live.state else { return false };
                show_missing(&self.health, event, stand_ins.missing.clone());
                // A cluster that does not answer leaves everything as it is: events wait in the buffer.
                let mut changed = false;
                match &topic {
                    Ok(topic) => {
                        self.topics.note(&event_type.cluster, &event_type.topic, topic);
                        changed = std::mem::replace(&mut ready.is_assumed, false);
                        if changed {
                            info!(%event, "event type's cluster answers now");
                            show_doubt(&self.health, event, None);
                        }
                        entry.failures = 0;
                    }
                    Err(error) if ready.is_assumed => {
                        show_doubt(&self.health, event, Some(&error.to_string()));
                        entry.failures += 1;
                    }
                    Err(_) => {}
                }
                let pause = if stand_ins.missing.is_some() { refresh.min(RETRY_LAST) } else { refresh };
                let pause = if ready.is_assumed { retry_pause(entry.failures).min(ASSUMED_RETRY) } else { pause };
                entry.due = Some(Instant::now() + pause);
                let limit = match topic {
                    Ok(topic) => stand_ins.least(topic.max_message_bytes),
                    Err(_) => ready.record_bytes_max,
                };
                changed |= std::mem::replace(&mut ready.record_bytes_max, limit) != limit;
                changed |= stand_ins.put_into(ready);
                // The snapshot has the client of before, and the tick sees none of that any more.
                changed |= use_current(&self.producers, ready);
                let Some(schemas) = schemas else { return changed };
                match *schemas {
                    Refreshed::Changed(loaded) => {
                        let note = note_on(&loaded);
                        show_schemas(&self.health, event, note.clone());
                        let version = loaded.set.versions[loaded.set.default].version;
                        info!(%event, version, note, "event type has other schema versions now");
                        ready.schemas = Some(Arc::new(loaded.set));
                        true
                    }
                    // A newer version that is of no use leaves the set as it was.
                    Refreshed::Unchanged => {
                        show_schemas(&self.health, event, note_of(None, left_out()));
                        changed
                    }
                    Refreshed::Stale(stale) => {
                        show_schemas(&self.health, event, note_of(Some(&stale), left_out()));
                        changed
                    }
                }
            }
        }
    }

    fn new_entry(&mut self, event_type: &EventType) -> Entry {
        let live = Live {
            event_type: Arc::new(event_type.clone()),
            account: self.pipeline.ledger().account(&event_type.name, &event_type.cluster),
            limiter: Arc::new(Limiter::new(&event_type.limits)),
            dead_letters: None,
            state: State::Unavailable(Outage::new("it is being warmed")),
        };
        Entry { id: self.new_id(), live, next: None, failures: 0, is_silent: false, due: Some(Instant::now()) }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn publish(&self) {
        let live = |entry: &Entry| {
            let dead_letters = self.dead_letters.find(&entry.live.event_type.name);
            Live { dead_letters, ..entry.live.clone() }
        };
        let live: Vec<Live> = self.entries.iter().map(live).collect();
        let unavailable = live.iter().filter_map(|live| match &live.state {
            State::Ready(_) => None,
            State::Unavailable(outage) => Some((live.event_type.name.clone(), outage.reason.clone())),
        });
        let waiting = self.config.waiting.iter().map(|(event, waiting)| (event.clone(), waiting.reason.clone()));
        self.health.set_unavailable(unavailable.chain(waiting).collect());
        let awaited = self.config.waiting.iter().map(|(event, waiting)| {
            let schema =
                waiting.subject.as_ref().map(|subject| format!(", of subject `{subject}`")).unwrap_or_default();
            (event.clone(), format!("it waits for its schema{schema}"))
        });
        let waiting = awaited.collect();
        self.pipeline.replace(Snapshot::new(live, self.senders.clone()).with_waiting(waiting));
    }

    fn note_start(&mut self) {
        // Without any routes nothing can be taken, however long the control plane has been waited for.
        let has_routes = self.config.routes.is_none() || self.config.revision.is_some();
        if self.health.has_started() || !has_routes {
            return;
        }
        let cold = self.entries.iter().filter(|entry| matches!(entry.live.state, State::Unavailable(_))).count();
        if cold == 0 {
            info!(event_types = self.entries.len(), "started, everything is warm");
            self.health.set_started();
        } else if Instant::now() >= self.patience {
            self.give_up_waiting();
            warn!(
                unavailable = cold,
                event_types = self.entries.len(),
                "started degraded, some event types are not available"
            );
            self.health.set_started();
        }
    }

    /// Tries at once what was waited for, with less.
    fn give_up_waiting(&mut self) {
        for entry in &mut self.entries {
            let waits = matches!(entry.live.state, State::Unavailable(_));
            entry.due = entry.due.map(|due| if waits { Instant::now() } else { due });
        }
    }

    /// What an event type may be served without.
    fn need(&self, entry: &Entry, event_type: &EventType) -> Need {
        if Instant::now() < self.patience {
            return Need::Everything;
        }
        let (cluster, topic) = (&event_type.cluster, &event_type.topic);
        // Without a disk to wait on, events of a cluster that does not answer are better refused.
        let has_spool = self.producers.spool_of(cluster).is_some();
        let known = self.topics.get(cluster, topic).filter(|_| entry.is_silent && has_spool && entry.next.is_none());
        known.map_or(Need::NoProof, Need::NoCluster)
    }
}

/// Shows on `/ready` that an event type is served though its cluster does not answer or does not prove that it acknowledges.
fn show_doubt(health: &Health, event: &str, reason: Option<&str>) {
    let name = format!("cluster of {event}");
    match reason {
        Some(reason) => {
            let what = format!("degraded, its events wait in memory or on disk until this is over: {reason}");
            health.set_condition(&name, &what);
        }
        None => health.clear_condition(&name),
    }
}

/// Under which name `/ready` shows that settings are not in force yet.
fn condition_of_next(event: &str) -> String {
    format!("settings of {event}")
}

/// What people should know of schemas that were loaded all the same.
fn note_on(loaded: &Loaded) -> Option<String> {
    let left_out = loaded.skipped.iter().map(|skipped| format!("version {}: {}", skipped.version, skipped.error));
    note_of(loaded.stale.as_ref(), left_out.collect())
}

/// What people should know of schemas that are served: that they may be old, and which versions are not among them.
fn note_of(stale: Option<&Stale>, left_out: Vec<String>) -> Option<String> {
    let stale = stale.map(|stale| format!("they may be old, the registry did not say: {}", stale.error));
    let left_out = left_out.into_iter().map(|problem| format!("left out: {problem}"));
    let notes: Vec<String> = stale.into_iter().chain(left_out).collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// Shows on `/ready` what is to be known of an event type's schemas; it is served all the same.
fn show_schemas(health: &Health, event: &str, note: Option<String>) {
    show(health, &format!("schemas of {event}"), note);
}

/// Shows on `/ready` what is wrong with clusters that are to stand in; the event type is served all the same.
fn show_missing(health: &Health, event: &str, missing: Option<String>) {
    show(health, &format!("failover of {event}"), missing);
}

fn show(health: &Health, name: &str, note: Option<String>) {
    match note {
        Some(note) => health.set_condition(name, &note),
        None => health.clear_condition(name),
    }
}

/// The registry that an event type's schemas come from; none for `raw_json`.
pub fn registry_of<'c>(config: &'c Config, event_type: &EventType) -> Option<&'c str> {
    event_type.subject.as_ref()?;
    config.clusters.iter().find(|c| c.name == event_type.cluster)?.registry.as_deref()
}

/// The table of senders; those that stay go on with what they have taken of their limits.
fn senders_of(config: &Config, before: &Senders) -> Senders {
    let senders = before.with(&config.senders);
    if config.asks_senders() { senders.without_strangers() } else { senders }
}

fn retry_pause(failures: u32) -> Duration {
    RETRY_FIRST.saturating_mul(1 << failures.min(10)).min(RETRY_LAST)
}
