//! Brakes: how much of an event type is let through for now, said by those who see the trouble, whoever's event type it is.
//!
//! In: an event type, what of it is let through, why, who says so. Out: a brake in the store, which goes out to the proxies with their
//! next snapshot; or it lifted; and a line in the audit log of every attempt. Never: a plan, an approval or a wait for Kafka, as
//! there is no time for one; a change of what the owner desires: that stays as it is, and is in force again once the brake is
//! lifted.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::actor::Actor;
use super::request::Desk;
use super::resource::{Kind, ResourceId, Spec};
use super::store::{Audit, StoreError};
use super::world::{ClusterView, World};

/// Longest reason, in characters: it stands on `/ready` of every proxy's operator and in lists.
const REASON_CHARS_MAX: usize = 500;

/// A brake.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Brake {
    /// Of which event type.
    #[schema(value_type = String)]
    pub resource: ResourceId,
    /// What is let through.
    #[serde(flatten)]
    pub hold: Hold,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub actor: String,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
}

/// What is let through: nothing, or a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Hold {
    /// Whether nothing is let through: senders are told to come back later.
    #[serde(default)]
    pub disabled: bool,
    /// The share of events that is let through, more than 0 and less than 1; the others are accepted and left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<f64>,
}

/// Why a brake was not put on or lifted.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum BrakeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no `{0}`")]
    Unknown(ResourceId),
    #[error("`{0}` has no brake that could be lifted")]
    NotOn(ResourceId),
    #[error("`{actor}` is neither of the group that owns `{resource}` nor an operator of its cluster")]
    NotYours { actor: String, resource: ResourceId },
    #[error("a brake is `disabled`, or a `sample` of more than 0 and less than 1")]
    Hold,
    #[error("a brake says why, in 1 to {REASON_CHARS_MAX} characters: others are to know")]
    Reason,
}

impl Hold {
    /// Whether it holds anything, and can be meant so.
    fn is_meant(self) -> bool {
        match (self.disabled, self.sample) {
            (disabled, None) => disabled,
            (disabled, Some(share)) => !disabled && share > 0.0 && share < 1.0,
        }
    }

    /// The stricter one of this and what is said elsewhere.
    pub fn and(self, disabled: bool, sample: Option<f64>) -> Hold {
        match (self.disabled || disabled, self.sample, sample) {
            (true, ..) => Hold { disabled: true, sample: None },
            (false, Some(one), Some(other)) => Hold { disabled: false, sample: Some(one.min(other)) },
            (false, one, other) => Hold { disabled: false, sample: one.or(other) },
        }
    }
}

impl Desk {
    /// Puts a brake on an event type, in the place of the one before.
    pub async fn brake(
        &self,
        actor: &Actor,
        id: &ResourceId,
        hold: Hold,
        reason: &str,
        source: &str,
    ) -> Result<Brake, BrakeError> {
        let reason = reason.trim();
        let length = reason.chars().count();
        if !hold.is_meant() {
            return Err(BrakeError::Hold);
        }
        if length == 0 || length > REASON_CHARS_MAX {
            return Err(BrakeError::Reason);
        }
        let detail = json!({ "hold": hold, "reason": reason });
        let mut tx = self.may_brake(actor, id, "brake", &detail, source).await?;
        let (reason, actor, at_ms) = (reason.to_owned(), actor.name.clone(), tx.now_ms());
        let brake = Brake { resource: id.clone(), hold, reason, actor, at_ms };
        tx.put_brake(id, &brake).await?;
        tx.commit().await?;
        Ok(brake)
    }

    /// Lifts the brake of an event type: what its owner desires is in force again.
    pub async fn lift_brake(&self, actor: &Actor, id: &ResourceId, source: &str) -> Result<(), BrakeError> {
        let mut tx = self.may_brake(actor, id, "lift-brake", &json!({}), source).await?;
        if !tx.lift_brake(id).await? {
            return Err(BrakeError::NotOn(id.clone()));
        }
        tx.commit().await?;
        Ok(())
    }

    /// A transaction of somebody who may; the attempt of whoever may not is written down.
    async fn may_brake(
        &self,
        actor: &Actor,
        id: &ResourceId,
        verb: &str,
        detail: &serde_json::Value,
        source: &str,
    ) -> Result<super::store::Tx, BrakeError> {
        let mut tx = self.store.begin().await?;
        let row = tx.resource(id).await?;
        let Some((row, Spec::EventType(spec))) = row.map(|row| (row.service, row.spec)) else {
            return Err(BrakeError::Unknown(id.clone()));
        };
        let mut world = World::default();
        if let Some(service) = tx.resource(&ResourceId::of(Kind::Service, &row)).await? {
            world.add(service);
        }
        let cluster = tx.resource(&ResourceId::of(Kind::Cluster, &spec.cluster)).await?;
        if let Some(Spec::Cluster(cluster)) = cluster.map(|cluster| cluster.spec) {
            world.add_cluster(&spec.cluster, ClusterView::default().with_spec(cluster));
        }
        let may = actor.owns(&row, &world) || actor.operates(&spec.cluster, &world);
        let object = id.to_string();
        let outcome = if may { "done" } else { "not_theirs" };
        let detail = detail.clone();
        let note = Audit { actor: &actor.name, source, verb, object: &object, request: "", outcome, detail };
        tx.audit(note).await?;
        if !may {
            tx.commit().await?;
            return Err(BrakeError::NotYours { actor: actor.name.clone(), resource: id.clone() });
        }
        Ok(tx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_holds_the_stricter_one_counts() {
        let sample = |share| Hold { disabled: false, sample: Some(share) };
        let disabled = Hold { disabled: true, sample: None };
        assert_eq!(sample(0.5).and(false, None), sample(0.5));
        assert_eq!(sample(0.5).and(false, Some(0.1)), sample(0.1));
        assert_eq!(sample(0.1).and(false, Some(0.5)), sample(0.1));
        assert_eq!(sample(0.1).and(true, None), disabled);
        assert_eq!(disabled.and(false, Some(0.5)), disabled);
    }

    #[test]
    fn a_brake_is_one_thing_and_holds_something() {
        let check = |disabled, sample, expected| {
            let hold = Hold { disabled, sample };
            assert_eq!(hold.is_meant(), expected, "{hold:?}");
        };
        check(true, None, true);
        check(false, Some(0.01), true);
        for sample in [0.0, 1.0, -0.5, 7.0, f64::NAN] {
            check(false, Some(sample), false);
        }
        check(false, None, false);
        check(true, Some(0.5), false);
    }
}
