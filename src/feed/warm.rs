//! What an event type needs before its first event, and what is looked at again while it is served.
//!
//! In: an event type, the clients, the loader of its schemas. Out: what it is served with, or why it cannot be. Slow: brokers and
//! registries are asked. Never: changes a snapshot; that is the feed's.

use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use super::note_on;
use crate::config::Config;
use crate::pipeline::Ready;
use crate::produce::{Client, ProduceError, Producers, Topic, TopicHandle};
use crate::route::EventType;
use crate::schema::{Loader, Refreshed, SchemaError, SchemaSet};

/// How long a topic look-up may take.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(5);
/// How long every leading broker has to acknowledge a canary.
const CANARY_TIMEOUT: Duration = Duration::from_secs(5);

/// An event type that can be served, and what is to be said about its schemas.
pub(super) struct Warm {
    pub(super) ready: Ready,
    pub(super) note: Option<String>,
}

/// Why an event type cannot be served. One variant a cause, so that the reason that `/ready` shows names it.
#[derive(Debug, thiserror::Error)]
pub(super) enum WarmError {
    #[error("{0}")]
    Producer(#[from] ProduceError),
    #[error("{0}")]
    Schema(#[from] SchemaError),
}

/// Everything that an event type needs before its first event.
pub(super) async fn warm(
    config: &Config,
    producers: Arc<Producers>,
    loader: Option<Arc<Loader>>,
    event_type: Arc<EventType>,
) -> Result<Warm, WarmError> {
    let (client, topic) = look_up(config, producers, &event_type).await?;
    let handle = Arc::new(TopicHandle::new(&client, &event_type.topic)?);
    let loaded = match loader {
        None => None,
        Some(loader) => Some(loader.load(&event_type).await?),
    };
    let note = loaded.as_ref().and_then(note_on);
    let schemas = loaded.map(|loaded| Arc::new(loaded.set));
    Ok(Warm { ready: Ready { schemas, topic: handle, record_bytes_max: topic.max_message_bytes }, note })
}

/// Gives an event type the client that its cluster and lane have now; says whether that is another one.
pub(super) fn use_current(producers: &Producers, ready: &mut Ready) -> bool {
    let client = ready.topic.client();
    let current = producers.current(client.cluster(), client.lane());
    let Some(current) = current.filter(|current| !Arc::ptr_eq(current, client)) else { return false };
    match TopicHandle::new(&current, ready.topic.name()) {
        Ok(handle) => ready.topic = Arc::new(handle),
        // The one it has goes on, and the next tick tries again.
        Err(error) => {
            error!(cluster = current.cluster(), %error, "event type cannot change to the new producer");
            return false;
        }
    }
    true
}

/// Whether the topic is still as it was, and whether there are other schemas.
pub(super) async fn refresh(
    config: &Config,
    producers: Arc<Producers>,
    loader: Option<Arc<Loader>>,
    event_type: &EventType,
    schemas: Option<Arc<SchemaSet>>,
) -> (Result<Topic, ProduceError>, Option<Refreshed>) {
    let topic = look_up(config, producers, event_type).await.map(|(_, topic)| topic);
    match (loader, schemas) {
        (Some(loader), Some(schemas)) => (topic, Some(loader.refresh(event_type, &schemas).await)),
        _ => (topic, None),
    }
}

/// The client of an event type, with batches no larger than its topic takes, and what the cluster says of the topic.
async fn look_up(
    config: &Config,
    producers: Arc<Producers>,
    event_type: &EventType,
) -> Result<(Arc<Client>, Topic), ProduceError> {
    let cluster = config.clusters.iter().find(|c| c.name == event_type.cluster).cloned();
    let cluster = cluster.expect("the configuration is checked: an event type's cluster exists");
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
