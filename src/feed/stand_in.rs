//! The clusters that stand in while an event type's own takes nothing: ready before they are needed.
//!
//! In: an event type with `failover`. Out: its topic on each of those clusters that has it and answers. Never: a reason for the
//! event type to be unavailable; what is missing is a note on `/ready`, and is looked up again.

use std::sync::Arc;

use super::look_up;
use crate::config::Config;
use crate::pipeline::Ready;
use crate::produce::{Producers, TopicHandle};
use crate::route::EventType;

/// What was found on the clusters that stand in.
#[derive(Debug, Default)]
pub(super) struct StandIns {
    topics: Vec<Arc<TopicHandle>>,
    record_bytes_max: Option<usize>,
    /// What is wrong with those that are left out, or may be out of date.
    pub(super) missing: Option<String>,
}

impl StandIns {
    /// The least of the size limits there and of this one, as far as they are told.
    pub(super) fn least(&self, limit: Option<usize>) -> Option<usize> {
        limit.into_iter().chain(self.record_bytes_max).min()
    }

    /// Gives the event type what was found; says whether it had something else.
    pub(super) fn put_into(self, ready: &mut Ready) -> bool {
        let same = |(a, b): (&Arc<TopicHandle>, &Arc<TopicHandle>)| Arc::ptr_eq(a.client(), b.client());
        if ready.failover.len() == self.topics.len() && ready.failover.iter().zip(&self.topics).all(same) {
            return false;
        }
        self.topics.iter().for_each(|topic| topic.client().stand_in_for(ready.topic.client()));
        ready.failover = self.topics;
        true
    }
}

/// Looks the topic up on every cluster that is to stand in. One that is silent keeps the handle that `ready` has.
pub(super) async fn stand_ins(
    config: &Config,
    producers: Arc<Producers>,
    event_type: &EventType,
    ready: &Ready,
) -> StandIns {
    let mut found = StandIns::default();
    let mut missing = Vec::new();
    for cluster in &event_type.failover {
        let held = ready.failover.iter().find(|topic| topic.client().cluster() == cluster);
        // A dead cluster is asked once in a while, and not by each event type that it is to stand in for.
        let looked_up = match producers.is_silent(cluster) {
            true => Err("it did not answer a moment ago".to_owned()),
            false => match look_up(config, Arc::clone(&producers), event_type, cluster).await {
                Ok((client, topic)) => {
                    found.record_bytes_max = found.least(topic.max_message_bytes);
                    TopicHandle::new(&client, &event_type.topic).map(Arc::new).map_err(|error| error.to_string())
                }
                Err(error) => {
                    if error.is_final() {
                        missing.push(error.to_string());
                        continue;
                    }
                    producers.note_silence(cluster);
                    Err(error.to_string())
                }
            },
        };
        match (looked_up, held) {
            (Ok(topic), _) => found.topics.push(topic),
            (Err(reason), held) => {
                missing.push(format!("cluster `{cluster}`: {reason}"));
                found.topics.extend(held.cloned());
            }
        }
    }
    found.missing = (!missing.is_empty()).then(|| missing.join("; "));
    found
}
