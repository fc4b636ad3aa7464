//! Another configuration in the place of the one in force.
//!
//! In: a checked configuration and the loaders of its registries; clients and spools of clusters that are new to it can be made.
//! Out: a snapshot of its event types and senders at once, and other clients for clusters that it changes. An event type whose
//! settings did not change keeps its state, limits and account; one that needs another topic, client or schema is served as
//! before until that is warm. Never: refuses; what is wrong with a configuration is found before it comes here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use tracing::{error, info};

use super::{Entry, Feed, Loaders, condition_of_next, registry_of, senders_of, show_doubt, show_missing, show_schemas};
use crate::auth::Limiter;
use crate::config::{self, Config};
use crate::pipeline::State;
use crate::produce::Client;
use crate::route::{Brake, EventType};

/// What a feed is to change to.
#[derive(Debug)]
pub struct Adopt {
    /// The configuration.
    pub config: Arc<Config>,
    /// The loaders of its registries; those of registries that did not change are the same as before.
    pub loaders: Loaders,
    /// Told once the snapshot with it is in place.
    pub done: oneshot::Sender<()>,
}

impl Feed {
    pub(super) fn adopt(&mut self, Adopt { config, loaders, done }: Adopt) {
        let before = std::mem::replace(&mut self.config, Arc::clone(&config));
        let loaders_before = std::mem::replace(&mut self.loaders, loaders);
        self.senders = senders_of(&config, &self.senders);
        if before.routes.is_some() && before.revision.is_none() && config.revision.is_some() {
            // The first routes there are: start-up begins with them.
            self.patience = Instant::now() + config.startup_wait;
        }

        let names = config.clusters.iter().map(|cluster| cluster.name.as_str());
        let changed: HashSet<&str> = names.filter(|name| config::is_changed_cluster(&before, &config, name)).collect();
        for cluster in config.clusters.iter().filter(|cluster| changed.contains(cluster.name.as_str())) {
            // It was tried out before; what fails now are the resources of this machine, and the clients of before go on.
            if let Err(error) = self.producers.change(cluster) {
                error!(cluster = cluster.name, %error, "the cluster's producer cannot be replaced");
            }
        }
        let is_stale = |event_type: &EventType| {
            let loader = |config: &Config, loaders: &Loaders| loaders.get(registry_of(config, event_type)?).cloned();
            let same = match (loader(&before, &loaders_before), loader(&config, &self.loaders)) {
                (Some(before), Some(after)) => Arc::ptr_eq(&before, &after),
                (before, after) => before.is_none() && after.is_none(),
            };
            changed.contains(event_type.cluster.as_str()) || !same
        };
        let stale: HashSet<String> =
            config.events.iter().filter(|event_type| is_stale(event_type)).map(|e| e.name.clone()).collect();

        let entries = std::mem::take(&mut self.entries).into_iter();
        let mut entries: HashMap<String, Entry> =
            entries.map(|entry| (entry.live.event_type.name.clone(), entry)).collect();
        for event_type in &config.events {
            let entry = match entries.remove(&event_type.name) {
                None => {
                    info!(event = event_type.name, "event type is new");
                    self.new_entry(event_type)
                }
                Some(entry) => self.change_entry(entry, event_type, stale.contains(&event_type.name)),
            };
            self.entries.push(entry);
        }
        for event in entries.into_keys() {
            info!(%event, "event type is taken out; what is queued of it is delivered");
            show_schemas(&self.health, &event, None);
            show_doubt(&self.health, &event, None);
            show_missing(&self.health, &event, None);
            self.health.clear_condition(&condition_of_next(&event));
        }
        self.show_brakes(&before);
        self.dead_letters.adopt(&config, &self.producers, &self.health);
        self.publish();
        // Nobody waits for it when the proxy is about to stop.
        let _ = done.send(());
    }

    /// Shows on `/ready` which brakes are on, so that nobody forgets one.
    pub(super) fn show_brakes(&self, before: &Config) {
        let brakes = |config: &Config| -> Vec<(String, Brake)> {
            let of_events = config.events.iter().map(|e| (format!("brake of {}", e.name), e.brake));
            let of_senders = config.senders.iter().map(|s| (format!("brake of sender {}", s.name), s.brake));
            of_events.chain(of_senders).collect()
        };
        let now = brakes(&self.config);
        for (name, _) in brakes(before).iter().filter(|(name, _)| now.iter().all(|(kept, _)| kept != name)) {
            self.health.clear_condition(name);
        }
        for (name, brake) in &now {
            match brake.describe() {
                Some(what) => self.health.set_condition(name, &what),
                None => self.health.clear_condition(name),
            }
        }
    }

    /// Gives an entry other settings, or none. `is_stale` says that its cluster or registry is another one now.
    fn change_entry(&mut self, mut entry: Entry, next: &EventType, is_stale: bool) -> Entry {
        let wanted = entry.next.as_ref().unwrap_or(&entry.live.event_type);
        if **wanted == *next && !is_stale {
            return entry;
        }
        let event = &next.name;
        if entry.live.event_type.limits != next.limits {
            entry.live.limiter = Arc::new(Limiter::new(&next.limits));
        }
        let light = entry.live.event_type.with_light_settings_of(next);
        let is_heavy = light != *next;
        let wants_the_same = wanted.with_light_settings_of(next) == *next;
        entry.live.event_type = Arc::new(light);
        match &entry.live.state {
            State::Ready(_) if is_heavy => entry.next = Some(Arc::new(next.clone())),
            _ => {
                entry.next = None;
                self.health.clear_condition(&condition_of_next(event));
                entry.live.account = self.pipeline.ledger().account(event, &next.cluster);
                entry.live.event_type = Arc::new(next.clone());
            }
        }
        // What is under way for the same clients, topic and schemas is still of use.
        if is_stale || !wants_the_same {
            entry.id = self.new_id();
            entry.failures = 0;
            entry.is_silent = false;
            entry.due = Some(Instant::now());
        }
        entry
    }

    /// Clients of clusters that the configuration does not have any more, that no event type uses, and for which nothing waits on
    /// disk.
    pub(super) fn unused_clients(&self) -> Vec<Arc<Client>> {
        let is_listed = |name: &str| self.config.clusters.iter().any(|cluster| cluster.name == name);
        let in_use = |client: &Arc<Client>| {
            self.entries.iter().any(|entry| match &entry.live.state {
                State::Ready(ready) => {
                    let topics = std::iter::once(&ready.topic).chain(&ready.failover);
                    topics.map(|topic| topic.client()).any(|used| Arc::ptr_eq(used, client))
                }
                State::Unavailable(_) => false,
            })
        };
        let mut clients = self.producers.all();
        clients.retain(|client| {
            let cluster = client.cluster();
            !is_listed(cluster) && !in_use(client) && !self.producers.has_entries(cluster)
        });
        clients
    }
}
