//! What somebody decides about a difference: what is there becomes desired, or what is desired is made so again.
//!
//! In: a finding and a way. Out: an ordinary request, judged by the ordinary rules. Never: a change of its own; a decision about what
//! was there yesterday: it is looked at again first.

use serde_json::Value;

use super::Reconciler;
use super::finding::{Finding, Way};
use crate::control::actor::Actor;
use crate::control::provider::{Observed, StepError};
use crate::control::request::{Ask, Request, RequestError};
use crate::control::resource::{ManagedBy, Spec};
use crate::control::store::{Resource, StoreError};
use crate::control::world::Change;

/// What somebody decides.
#[derive(Clone, Debug)]
pub struct Settlement<'a> {
    /// About which finding.
    pub finding: &'a str,
    /// What.
    pub way: Way,
    /// Why.
    pub reason: &'a str,
    /// From where: an address, for the audit log.
    pub source: &'a str,
    /// Whether it is only to be told what would become of it.
    pub dry_run: bool,
    /// The caller's name of it.
    pub idempotency_key: Option<String>,
}

/// Why nothing was asked for.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SettleError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("there is no finding `{id}`; it may have gone by itself, look at the list")]
    Unknown { id: String },
    #[error("`{kind}` cannot be {way}: {fix}")]
    NoWay { kind: &'static str, way: &'static str, fix: String },
    #[error("it is no longer so: what is there is as desired")]
    Gone,
    #[error("the cluster cannot be looked at now: {0}")]
    Unseen(#[source] StepError),
}

impl Reconciler {
    /// Asks for what settles a finding.
    pub async fn settle(&self, actor: &Actor, settlement: &Settlement<'_>) -> Result<Request, SettleError> {
        let id = settlement.finding;
        let row = self.store.finding::<Finding>(id).await?;
        let finding = row.ok_or_else(|| SettleError::Unknown { id: id.to_owned() })?.document;
        let way = match settlement.way {
            Way::Accept => "accepted",
            Way::Restore => "restored",
        };
        let no_way = |fix: &str| SettleError::NoWay { kind: finding.kind.as_str(), way, fix: fix.to_owned() };
        if !finding.ways.contains(&settlement.way) {
            return Err(no_way(&finding.fix));
        }
        let resource = self.store.resource(&finding.resource).await?.ok_or(SettleError::Gone)?;
        let (desired, managed_by) = match settlement.way {
            // Whoever manages it desires it already.
            Way::Restore => (Some(resource.spec.clone()), resource.managed_by.clone()),
            Way::Accept => {
                let spec = self.actual(actor, &resource).await?;
                (
                    spec.ok_or_else(|| no_way("what is there cannot be said in a specification; restore it"))?,
                    ManagedBy::Api,
                )
            }
        };
        let change = Change { id: resource.id.clone(), desired, if_match: Some(resource.revision) };
        let ask = Ask {
            changes: vec![change],
            reason: settlement.reason.to_owned(),
            dry_run: settlement.dry_run,
            idempotency_key: settlement.idempotency_key.clone(),
            managed_by,
            source: settlement.source.to_owned(),
        };
        Ok(self.desk.submit(actor, ask).await?)
    }

    /// What would have to be desired for what is there now to be right; the inner none: that it is gone.
    async fn actual(&self, actor: &Actor, resource: &Resource) -> Result<Option<Option<Spec>>, SettleError> {
        let Some(provider) = self.providers.of(resource.id.kind) else { return Ok(None) };
        let observed = provider.observe(&resource.id, &self.reach).await.map_err(SettleError::Unseen)?;
        let same = Change { id: resource.id.clone(), desired: Some(resource.spec.clone()), if_match: None };
        let mut tx = self.store.begin().await?;
        let world = self.desk.load(&mut tx, &[same], &actor.name).await?;
        drop(tx);
        if provider.differences(resource, &world, &observed).is_empty() {
            return Err(SettleError::Gone);
        }
        Ok(provider.acceptable(resource, &world, &observed))
    }
}

/// What was seen, as the store keeps it.
pub(super) fn value_of(observed: Observed) -> Option<Value> {
    match observed {
        Observed::Absent => None,
        Observed::Present(value) => Some(value),
    }
}
