//! What an event type needs before its first event, and what is looked at again while it is served.
//!
//! In: an event type, the clients, the loader of its schemas. Out: what it is served with, or why it cannot be. Slow: brokers and
//! registries are asked. Never: changes a snapshot; that is the feed's.

use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use super::stand_in::stand_ins;
use super::{Found, note_on};
use crate::config::Config;
use crate::pipeline::Ready;
use crate::produce::{Client, ProduceError, Producers, Topic, TopicHandle};
use crate::route::{EventType, HotKeys};
use crate::schema::{Loader, SchemaError};

/// How long a topic look-up may take.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(5);
/// How long every leading broker has to acknowledge a canary.
const CANARY_TIMEOUT: Duration = Duration::from_secs(5);

/// An event type that can be served, and what is to be said about its schemas.
pub(super) struct Warm {
    pub(super) ready: Ready,
    pub(super) note: Option<String>,
    /// What its cluster said of the topic, if it was asked.
    pub(super) topic: Option<Topic>,
    /// Why it is doubtful that its cluster takes events now, where that is known.
    pub(super) doubt: Option<String>,
    /// What is wrong with clusters that are to stand in.
    pub(super) missing: Option<String>,
}

/// What a look-up may do without.
#[derive(Clone, Debug)]
pub(super) enum Need {
    /// Nothing: its cluster answers, and acknowledges a canary where there is one.
    Everything,
    /// The canary: who starts degraded does not wait for it.
    NoProof,
    /// Its cluster, which did not answer: this is what it said of the topic in the last run.
    NoCluster(Topic),
}

pub(super) struct LookedUp {
    pub(super) client: Arc<Client>,
    pub(super) topic: Topic,
    doubt: Option<String>,
}

/// Why an event type cannot be served. One variant a cause, so that the reason that `/ready` shows names it.
#[derive(Debug, thiserror::Error)]
pub(super) enum WarmError {
    #[error("{0}")]
    Producer(#[from] ProduceError),
    #[error("{0}")]
    Schema(#[from] SchemaError),
}

impl WarmError {
    /// Whether the cluster did not answer, so that nothing is known of the topic now.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, WarmError::Producer(error) if !error.is_final())
    }

    /// Whether the cluster says that the topic cannot be used.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, WarmError::Producer(error) if error.is_final())
    }
}

/// Everything that an event type needs before its first event.
pub(super) async fn warm(
    config: &Config,
    producers: Arc<Producers>,
    loader: Option<Arc<Loader>>,
    event_type: Arc<EventType>,
    need: Need,
) -> Result<Warm, WarmError> {
    let is_assumed = matches!(need, Need::NoCluster(_));
    let LookedUp { client, topic, doubt } =
        look_up(config, Arc::clone(&producers), &event_type, &event_type.cluster, need).await?;
    let handle = Arc::new(TopicHandle::new(&client, &event_type.topic)?);
    let loaded = match loader {
        None => None,
        Some(loader) => Some(loader.load(&event_type).await?),
    };
    let note = loaded.as_ref().and_then(note_on);
    let schemas = loaded.map(|loaded| Arc::new(loaded.set));
    let is_doubted = is_assumed || doubt.is_some();
    let mut ready = Ready {
        schemas,
        topic: handle,
        hot_keys: event_type.hot_key_events_per_second.map(|rate| Arc::new(HotKeys::new(rate))),
        failover: vec![],
        record_bytes_max: None,
        is_assumed: is_doubted,
    };
    let stand_ins = stand_ins(config, producers, &event_type, &ready).await;
    ready.record_bytes_max = stand_ins.least(topic.max_message_bytes);
    let missing = stand_ins.missing.clone();
    stand_ins.put_into(&mut ready);
    Ok(Warm { ready, note, topic: (!is_assumed).then_some(topic), doubt, missing })
}

/// Gives an event type the clients that its clusters and its lane have now; says whether those are other ones.
pub(super) fn use_current(producers: &Producers, ready: &mut Ready) -> bool {
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
pub(super) async fn refresh(
    config: &Config,
    producers: Arc<Producers>,
    loader: Option<Arc<Loader>>,
    event_type: &EventType,
    ready: &Ready,
) -> Found {
    let topic = look_up(config, Arc::clone(&producers), event_type, &event_type.cluster, Need::Everything).await;
    let stand_ins = stand_ins(config, producers, event_type, ready).await;
    let schemas = match (loader, &ready.schemas) {
        (Some(loader), Some(schemas)) => Some(Box::new(loader.refresh(event_type, schemas).await)),
        _ => None,
    };
    Found::Refreshed(topic.map(|found| found.topic), stand_ins, schemas)
}

/// The client of an event type on one of its clusters, with batches no larger than its topic takes, and what that cluster says of
/// the topic.
pub(super) async fn look_up(
    config: &Config,
    producers: Arc<Producers>,
    event_type: &EventType,
    cluster: &str,
    need: Need,
) -> Result<LookedUp, ProduceError> {
    let cluster = config.clusters.iter().find(|c| c.name == cluster).cloned();
    let cluster = cluster.expect("the configuration is checked: an event type's clusters exist");
    let (lane, topic, name) = (event_type.lane(), event_type.topic.clone(), cluster.name.clone());
    let look_up = tokio::task::spawn_blocking(move || {
        let mut client = producers.get_or_start(&cluster, lane)?;
        let topic = match &need {
            Need::NoCluster(topic) => topic.clone(),
            Need::Everything | Need::NoProof => client.topic(&topic, TOPIC_TIMEOUT)?,
        };
        if let Some(bytes) = topic.max_message_bytes {
            client = producers.with_batches_within(&cluster, lane, bytes)?;
        }
        let prove =
            || cluster.canary_topic.as_ref().map_or(Ok(()), |canary| client.prove(canary, &topic, CANARY_TIMEOUT));
        let doubt = match need {
            Need::Everything => prove().map(|()| None)?,
            Need::NoProof => prove().err().map(|error| error.to_string()),
            Need::NoCluster(_) => None,
        };
        Ok(LookedUp { client, topic, doubt })
    });
    let interrupted =
        |_| Err(ProduceError::Unreachable { cluster: name, reason: "the look-up was interrupted".to_owned() });
    look_up.await.unwrap_or_else(interrupted)
}
