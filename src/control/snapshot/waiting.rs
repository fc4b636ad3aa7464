//! Event types that wait for their schemas, and go out by themselves.
//!
//! In: what waits. Out: it published as soon as nothing is missing, and its resource ready. Never: more questions to a registry at
//! once than it is good for; what was changed or taken away meanwhile.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tracing::info;

use super::Snapshots;
use crate::control::store::{Audit, Published, ResourceState, StoreError};

/// How often what waits is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How many are looked at in one look; the others have the next one.
const LOOKS_MAX: u32 = 20;

impl Snapshots {
    /// Publishes what waited and misses nothing any more.
    pub(super) async fn promote_waiting(&self) -> Result<(), StoreError> {
        {
            let mut looked = self.looked.lock().expect("no code panics while it holds this lock");
            if looked.is_some_and(|at: Instant| at.elapsed() < LOOK_EVERY) {
                return Ok(());
            }
            *looked = Some(Instant::now());
        }
        for waiting in self.store.waiting(LOOKS_MAX).await? {
            let Some(next) = &waiting.next else { continue };
            let missing = self.checks.missing(&waiting.resource.name, waiting.live.as_ref(), next).await;
            self.note(&waiting, next, missing).await?;
        }
        Ok(())
    }

    /// Writes down what was found, unless something else is wished by now.
    async fn note(&self, waiting: &Published, next: &Value, missing: Option<String>) -> Result<(), StoreError> {
        let id = &waiting.resource;
        let mut tx = self.store.begin().await?;
        let still = tx.published_of(id).await?.and_then(|published| published.next);
        if still.as_ref() != Some(next) {
            return Ok(());
        }
        let Some(mut resource) = tx.resource(id).await?.filter(|r| r.state == ResourceState::Waiting) else {
            return Ok(());
        };
        match missing {
            Some(reason) => {
                // Also so that those that were not looked at have the next look.
                tx.publish_later(id, next, &reason).await?;
                if resource.message != reason {
                    resource.message = reason;
                    tx.put_resource(&resource).await?;
                }
            }
            None => {
                tx.publish(id, next).await?;
                resource.state = ResourceState::Ready;
                resource.message.clear();
                resource.observed = Some(json!({ "published": next }));
                resource.observed_ms = Some(tx.now_ms());
                tx.put_resource(&resource).await?;
                let object = id.to_string();
                tx.audit(Audit {
                    actor: "control",
                    source: "",
                    verb: "publish",
                    object: &object,
                    request: "",
                    outcome: "done",
                    detail: json!({ "waited_for": waiting.reason }),
                })
                .await?;
                info!(event = id.name, "event type has its schema now and goes to the proxies");
            }
        }
        tx.commit().await
    }
}
