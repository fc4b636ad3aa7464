//! Where snapshots come from: the configuration file (later also the control plane).
//!
//! In: a checked [`Config`]. Out: a [`Snapshot`] in the pipeline, made anew whenever an event type becomes available,
//! stops being so, or gets a new schema version. Everything slow about an event type is done here, ahead of its events:
//! its client is started, its topic looked up, its schemas fetched and compiled. Each event type is warmed on its own, so one
//! that is bad never holds up another. Never: touches the path of an event but by replacing the snapshot.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{self, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::auth::{Limiter, Senders};
use crate::config::Config;
use crate::outcome::Ledger;
use crate::pipeline::{Live, Outage, Pipeline, Ready, Snapshot, State};
use crate::produce::{Client, ProduceError, Producers, Topic, TopicHandle};
use crate::route::{EventType, HotKeys};
use crate::schema::{Loaded, Loader, Refreshed, SchemaError, Stale};
use crate::telemetry::health::Health;

mod dead_letters;
mod stand_in;

use stand_in::{StandIns, stand_ins};

/// Event types of a cluster that are warmed at the same time; each may hold a blocking thread for as long as its cluster is silent.
const WARMING_MAX: usize = 8;
/// How long a topic look-up may take.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(5);
/// How long every leading broker has to acknowledge a canary.
const CANARY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before an event type that is not available is tried again; doubles up to the second.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// How often the feed looks whether something is due.
const TICK: Duration = Duration::from_millis(250);

/// Keeps the pipeline's snapshot true to the configuration file.
#[derive(Debug)]
pub struct Feed {
    config: Arc<Config>,
    pipeline: Arc<Pipeline>,
    producers: Arc<Producers>,
    loaders: HashMap<String, Arc<Loader>>,
    health: Arc<Health>,
    /// Made once and cloned into each snapshot: a clone shares the limits, a new table would begin them anew.
    senders: Senders,
    entries: Vec<Entry>,
    /// What is being warmed or refreshed: the task and the index of its event type.
    under_way: HashMap<task::Id, usize>,
    dead_letters: dead_letters::Topics,
    /// Clients that another one took over from, to be retired at the next tick: by then no worker is inside a slice of
    /// events that it began with the snapshot before.
    outgoing: Vec<Arc<Client>>,
}

/// One event type as the feed sees it.
#[derive(Debug)]
struct Entry {
    live: Live,
    /// Tries that failed in a row.
    failures: u32,
    /// When it is to be warmed or refreshed next; none while that is under way.
    due: Option<Instant>,
}

/// What came of working on the event type at this index.
struct Done {
    index: usize,
    found: Found,
}

enum Found {
    Warmed(Result<Warm, WarmError>),
    /// The topic as it is now, and what became of the schemas, where there are any.
    Refreshed(Result<Topic, ProduceError>, StandIns, Option<Box<Refreshed>>),
}

/// An event type that can be served, and what is to be said about its schemas.
struct Warm {
    ready: Ready,
    note: Option<String>,
    /// What is wrong with clusters that are to stand in.
    missing: Option<String>,
}

/// Why an event type cannot be served. One variant a cause, so that the reason that `/ready` shows names it.
#[derive(Debug, thiserror::Error)]
enum WarmError {
    #[error("{0}")]
    Producer(#[from] ProduceError),
    #[error("{0}")]
    Schema(#[from] SchemaError),
}

impl Feed {
    /// A feed of this configuration. Publishes a first snapshot, in which no event type is available yet.
    pub fn new(
        config: Arc<Config>,
        pipeline: Arc<Pipeline>,
        producers: Arc<Producers>,
        loaders: HashMap<String, Arc<Loader>>,
        health: Arc<Health>,
    ) -> Self {
        let entries = config.events.iter().map(|event_type| Entry::new(event_type, pipeline.ledger())).collect();
        let senders = Senders::new(&config.senders);
        let (under_way, outgoing) = (HashMap::new(), Vec::new());
        let mut dead_letters = dead_letters::Topics::default();
        dead_letters.adopt(&config, &producers, &health);
        let feed =
            Feed { config, pipeline, producers, loaders, health, senders, entries, under_way, dead_letters, outgoing };
        feed.publish();
        feed
    }

    /// Warms, heals and refreshes until it is told to stop. Start-up is over when everything is warm, or when
    /// `startup_wait_seconds` have passed: the proxy then starts degraded.
    pub async fn run(mut self, stop: CancellationToken) {
        let patience = Instant::now() + self.config.startup_wait;
        let room: HashMap<String, Arc<Semaphore>> =
            self.config.clusters.iter().map(|c| (c.name.clone(), Arc::new(Semaphore::new(WARMING_MAX)))).collect();
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
                _ = tick.tick() => {
                    self.renew_clients();
                    self.begin_what_is_due(&mut work, &room);
                    self.dead_letters.look(&self.config, &self.producers, &self.health);
                }
            }
            self.note_start(patience);
        }
        work.shutdown().await;
    }

    fn begin_what_is_due(&mut self, work: &mut JoinSet<Done>, room: &HashMap<String, Arc<Semaphore>>) {
        let now = Instant::now();
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if entry.due.is_none_or(|due| due > now) {
                continue;
            }
            entry.due = None;
            let event_type = Arc::clone(&entry.live.event_type);
            let loader = registry_of(&self.config, &event_type).and_then(|name| self.loaders.get(name)).cloned();
            // A cluster that is silent holds up its own event types only.
            let room = Arc::clone(&room[&event_type.cluster]);
            let (config, producers) = (Arc::clone(&self.config), Arc::clone(&self.producers));
            let task = match &entry.live.state {
                State::Ready(ready) => {
                    let ready = ready.clone();
                    work.spawn(async move {
                        let _room = room.acquire().await;
                        Done { index, found: refresh(&config, producers, loader, &event_type, &ready).await }
                    })
                }
                State::Unavailable(_) => work.spawn(async move {
                    let _room = room.acquire().await;
                    let found = Found::Warmed(warm(&config, producers, loader, event_type).await);
                    Done { index, found }
                }),
            };
            self.under_way.insert(task.id(), index);
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
                if let Some(index) = self.under_way.remove(&error.id()) {
                    self.entries[index].due = Some(Instant::now() + RETRY_LAST);
                }
                false
            }
        }
    }

    /// Replaces clients that are beyond repair, gives every event type the client that its cluster and lane have now, and
    /// retires those that no snapshot has had since the tick before.
    fn renew_clients(&mut self) {
        for client in std::mem::take(&mut self.outgoing) {
            self.producers.retire(client, self.config.http.drain);
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
    }

    /// Takes in what was found; says whether the snapshot is to change.
    fn apply(&mut self, Done { index, found }: Done) -> bool {
        let entry = &mut self.entries[index];
        let event = &entry.live.event_type.name;
        let refresh = self.config.schema_refresh;
        let loader = registry_of(&self.config, &entry.live.event_type).and_then(|name| self.loaders.get(name));
        let left_out = || loader.map(|loader| loader.status(event).problems).unwrap_or_default();
        match found {
            Found::Warmed(Ok(Warm { mut ready, note, missing })) => {
                show_schemas(&self.health, event, note.clone());
                show(&self.health, &format!("failover of {event}"), missing.clone());
                // What is wrong with its schemas the loader has logged.
                if note.is_some() || entry.failures > 0 {
                    info!(%event, note, "event type is available");
                }
                entry.failures = 0;
                entry.due = Some(Instant::now() + if missing.is_some() { refresh.min(RETRY_LAST) } else { refresh });
                // Another client may have taken over while this event type was warmed.
                use_current(&self.producers, &mut ready);
                entry.live.state = State::Ready(ready);
                true
            }
            Found::Warmed(Err(error)) => {
                let reason = error.to_string();
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
                entry.due = Some(Instant::now() + RETRY_FIRST);
                entry.failures = 1;
                entry.live.state = State::Unavailable(Outage::new(reason));
                true
            }
            Found::Refreshed(topic, stand_ins, schemas) => {
                let is_missing = stand_ins.missing.is_some();
                entry.due = Some(Instant::now() + if is_missing { refresh.min(RETRY_LAST) } else { refresh });
                let State::Ready(ready) = &mut entry.live.state else { return false };
                show(&self.health, &format!("failover of {event}"), stand_ins.missing.clone());
                // A cluster that does not answer leaves everything as it is: events wait in the buffer.
                let limit = match topic {
                    Ok(topic) => stand_ins.least(topic.max_message_bytes),
                    Err(_) => ready.record_bytes_max,
                };
                let changed = std::mem::replace(&mut ready.record_bytes_max, limit) != limit;
                let changed = stand_ins.put_into(ready) || changed;
                use_current(&self.producers, ready);
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
        self.health.set_unavailable(unavailable.collect());
        self.pipeline.replace(Snapshot::new(live, self.senders.clone()));
    }

    fn note_start(&self, patience: Instant) {
        if self.health.has_started() {
            return;
        }
        let cold = self.entries.iter().filter(|entry| matches!(entry.live.state, State::Unavailable(_))).count();
        if cold == 0 {
            info!(event_types = self.entries.len(), "started, everything is warm");
            self.health.set_started();
        } else if Instant::now() >= patience {
            warn!(
                unavailable = cold,
                event_types = self.entries.len(),
                "started degraded, some event types are not available"
            );
            self.health.set_started();
        }
    }
}

impl Entry {
    fn new(event_type: &EventType, ledger: &Ledger) -> Self {
        let live = Live {
            event_type: Arc::new(event_type.clone()),
            account: ledger.account(&event_type.name, &event_type.cluster),
            limiter: Arc::new(Limiter::new(&event_type.limits)),
            dead_letters: None,
            state: State::Unavailable(Outage::new("it is being warmed")),
        };
        Entry { live, failures: 0, due: Some(Instant::now()) }
    }
}

/// Everything that an event type needs before its first event.
async fn warm(
    config: &Config,
    producers: Arc<Producers>,
    loader: Option<Arc<Loader>>,
    event_type: Arc<EventType>,
) -> Result<Warm, WarmError> {
    let (client, topic) = look_up(config, Arc::clone(&producers), &event_type, &event_type.cluster).await?;
    let handle = Arc::new(TopicHandle::new(&client, &event_type.topic)?);
    let loaded = match loader {
        None => None,
        Some(loader) => Some(loader.load(&event_type).await?),
    };
    let note = loaded.as_ref().and_then(note_on);
    let schemas = loaded.map(|loaded| Arc::new(loaded.set));
    let hot_keys = event_type.hot_key_events_per_second.map(|rate| Arc::new(HotKeys::new(rate)));
    let mut ready = Ready { schemas, topic: handle, hot_keys, failover: vec![], record_bytes_max: None };
    let stand_ins = stand_ins(config, producers, &event_type, &ready).await;
    ready.record_bytes_max = stand_ins.least(topic.max_message_bytes);
    let missing = stand_ins.missing.clone();
    stand_ins.put_into(&mut ready);
    Ok(Warm { ready, note, missing })
}

/// Gives an event type the clients that its clusters and its lane have now; says whether those are other ones.
fn use_current(producers: &Producers, ready: &mut Ready) -> bool {
    let mut changed = renew(producers, &mut ready.topic);
    for topic in &mut ready.failover {
        changed |= renew(producers, topic);
    }
    if changed {
        ready.failover.iter().for_each(|topic| topic.client().stand_in_for(ready.topic.client()));
    }
    changed
}

fn renew(producers: &Producers, topic: &mut Arc<TopicHandle>) -> bool {
    let client = topic.client();
    let current = producers.current(client.cluster(), client.lane());
    let Some(current) = current.filter(|current| !Arc::ptr_eq(current, client)) else { return false };
    match TopicHandle::new(&current, topic.name()) {
        Ok(handle) => *topic = Arc::new(handle),
        // The one it has goes on, and the next tick tries again.
        Err(error) => {
            error!(cluster = current.cluster(), %error, "event type cannot change to the new producer");
            return false;
        }
    }
    true
}

/// Whether the topic is still as it was, here and on the clusters that stand in, and whether there are other schemas.
async fn refresh(
    config: &Config,
    producers: Arc<Producers>,
    loader: Option<Arc<Loader>>,
    event_type: &EventType,
    ready: &Ready,
) -> Found {
    let topic = look_up(config, Arc::clone(&producers), event_type, &event_type.cluster).await.map(|(_, topic)| topic);
    let stand_ins = stand_ins(config, producers, event_type, ready).await;
    let schemas = match (loader, &ready.schemas) {
        (Some(loader), Some(schemas)) => Some(Box::new(loader.refresh(event_type, schemas).await)),
        _ => None,
    };
    Found::Refreshed(topic, stand_ins, schemas)
}

/// The client of an event type on one of its clusters, with batches no larger than its topic takes, and what that cluster says of
/// the topic.
async fn look_up(
    config: &Config,
    producers: Arc<Producers>,
    event_type: &EventType,
    cluster: &str,
) -> Result<(Arc<Client>, Topic), ProduceError> {
    let cluster = config.clusters.iter().find(|c| c.name == cluster).cloned();
    let cluster = cluster.expect("the configuration is checked: an event type's clusters exist");
    let (lane, topic, name) = (event_type.lane(), event_type.topic.clone(), cluster.name.clone());
    let look_up = tokio::task::spawn_blocking(move || {
        let mut client = producers.get_or_start(&cluster, lane)?;
        let topic = client.topic(&topic, TOPIC_TIMEOUT)?;
        if let Some(bytes) = topic.max_message_bytes {
            client = producers.with_batches_within(&cluster, lane, bytes)?;
        }
        if let Some(canary) = &cluster.canary_topic {
            client.prove(canary, &topic, CANARY_TIMEOUT)?;
        }
        Ok((client, topic))
    });
    let interrupted =
        |_| Err(ProduceError::Unreachable { cluster: name, reason: "the look-up was interrupted".to_owned() });
    look_up.await.unwrap_or_else(interrupted)
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

fn retry_pause(failures: u32) -> Duration {
    RETRY_FIRST.saturating_mul(1 << failures.min(10)).min(RETRY_LAST)
}
