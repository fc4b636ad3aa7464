//! The dead-letter topics of event types, looked up beside the event types themselves.
//!
//! In: a configuration. Out: for each event type that has one, its [`DeadLetters`], usable as soon as the topic is known to exist, and
//! the same for what producers give up. Never: a reason for an event type to be unavailable; a topic that is missing is told on `/ready`,
//! and what would have gone there is counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tracing::{error, warn};

use super::retry_pause;
use crate::config::{Cluster, Config};
use crate::produce::{DeadLetters, ProduceError, Producers, TopicHandle};
use crate::route::{EventType, Lane};
use crate::telemetry::health::Health;

/// How long a topic look-up may take.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(5);

/// The dead-letter topics of a feed.
#[derive(Debug, Default)]
pub(super) struct Topics {
    entries: Vec<Entry>,
    under_way: JoinSet<Found>,
}

#[derive(Debug)]
struct Entry {
    letters: Arc<DeadLetters>,
    /// Look-ups that failed in a row.
    failures: u32,
    /// When it is to be looked up next; none while that is under way.
    due: Option<Instant>,
}

/// What a look-up found.
#[derive(Debug)]
struct Found {
    letters: Arc<DeadLetters>,
    handle: Result<TopicHandle, ProduceError>,
}

impl Topics {
    /// Takes the topics of this configuration; those that are as before stay as they are.
    pub(super) fn adopt(&mut self, config: &Config, producers: &Producers, health: &Health) {
        let mut before = std::mem::take(&mut self.entries);
        let sampling = config.dead_letters;
        for event_type in &config.events {
            let EventType { name, cluster, dead_letter: Some(topic), .. } = event_type else { continue };
            let is_same = |entry: &Entry| {
                let letters = &entry.letters;
                letters.event() == name
                    && letters.cluster() == cluster
                    && letters.topic() == topic
                    && letters.sampling() == sampling
            };
            self.entries.push(match before.iter().position(is_same) {
                Some(at) => before.swap_remove(at),
                None => {
                    let letters = Arc::new(DeadLetters::new(name, cluster, topic, sampling));
                    Entry { letters, failures: 0, due: Some(Instant::now()) }
                }
            });
        }
        before.iter().for_each(|gone| health.clear_condition(&condition(&gone.letters)));
        for cluster in &config.clusters {
            let of_cluster = self.entries.iter().filter(|entry| entry.letters.cluster() == cluster.name);
            let by_event = of_cluster.map(|entry| (entry.letters.event().to_owned(), Arc::clone(&entry.letters)));
            producers.keeper(&cluster.name).send_to(by_event.collect());
        }
    }

    /// The dead letters of an event type, if it keeps any.
    pub(super) fn find(&self, event: &str) -> Option<Arc<DeadLetters>> {
        let found = self.entries.iter().find(|entry| entry.letters.event() == event);
        found.map(|entry| Arc::clone(&entry.letters))
    }

    /// Takes in what was found since the last look, and looks up what is due.
    pub(super) fn look(&mut self, config: &Config, producers: &Arc<Producers>, health: &Health) {
        while let Some(found) = self.under_way.try_join_next() {
            // A look-up that panicked, or was interrupted, is a bug that the panic hook has logged; it is not tried again.
            let Ok(Found { letters, handle }) = found else { continue };
            let entry = self.entries.iter_mut().find(|entry| Arc::ptr_eq(&entry.letters, &letters));
            if let Some(entry) = entry {
                entry.take_in(handle, config.schema_refresh, health);
            }
        }
        let now = Instant::now();
        for entry in &mut self.entries {
            entry.use_current(producers);
            if entry.due.is_none_or(|due| due > now) {
                continue;
            }
            let cluster = config.clusters.iter().find(|cluster| cluster.name == entry.letters.cluster());
            let Some(cluster) = cluster.cloned() else { continue };
            entry.due = None;
            let (letters, producers) = (Arc::clone(&entry.letters), Arc::clone(producers));
            self.under_way.spawn_blocking(move || {
                let handle = look_up(&producers, &cluster, letters.topic());
                Found { letters, handle }
            });
        }
    }
}

impl Entry {
    fn take_in(&mut self, handle: Result<TopicHandle, ProduceError>, refresh: Duration, health: &Health) {
        let name = condition(&self.letters);
        match handle {
            Ok(handle) => {
                self.failures = 0;
                self.due = Some(Instant::now() + refresh);
                self.letters.set_handle(Some(Arc::new(handle)));
                health.clear_condition(&name);
            }
            Err(error) => {
                let (event, topic) = (self.letters.event(), self.letters.topic());
                if self.failures == 0 {
                    warn!(event, topic, %error, "dead letters are not kept now, they are counted only");
                }
                self.due = Some(Instant::now() + retry_pause(self.failures));
                self.failures += 1;
                // A cluster that is silent leaves it as it is: letters wait in their buffer.
                if error.is_final() {
                    self.letters.set_handle(None);
                }
                health.set_condition(&name, &error.to_string());
            }
        }
    }

    /// Goes on with the client that the cluster has now.
    fn use_current(&self, producers: &Producers) {
        let Some(handle) = self.letters.handle() else { return };
        let current = producers.current(handle.client().cluster(), Lane::DeadLetter);
        let Some(current) = current.filter(|current| !Arc::ptr_eq(current, handle.client())) else { return };
        match TopicHandle::new(&current, handle.name()) {
            Ok(handle) => self.letters.set_handle(Some(Arc::new(handle))),
            Err(error) => error!(cluster = current.cluster(), %error, "dead letters cannot change to the new producer"),
        }
    }
}

fn condition(letters: &DeadLetters) -> String {
    format!("dead letters of {}", letters.event())
}

/// Blocking.
fn look_up(producers: &Producers, cluster: &Cluster, topic: &str) -> Result<TopicHandle, ProduceError> {
    let mut client = producers.get_or_start(cluster, Lane::DeadLetter)?;
    if let Some(bytes) = client.topic(topic, TOPIC_TIMEOUT)?.max_message_bytes {
        client = producers.with_batches_within(cluster, Lane::DeadLetter, bytes)?;
    }
    TopicHandle::new(&client, topic)
}
