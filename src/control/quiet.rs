//! Deletion of topics: they are closed first, and deleted after a quiet period in which it can be called off.
//!
//! In: a request that deletes topics. Out: which of its changes wait, and in which phase it is. Never: a deletion on the day it was
//! approved, unless the cluster's operators set no quiet period; a grant that outlives its topic, so that the next topic of that name
//! would inherit it.
//!
//! ```text
//!  approved ─▶ close: nobody reads or writes it ─▶ quiet ─┬─ its time is up ─▶ revoke, delete by id, open ─▶ ready
//!              (everything else of the request is done)   └─ called off ─────▶ open ─▶ withdrawn
//! ```

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::actor::Actor;
use super::request::{Ask, Desk, Planned, Request, RequestError, RequestState};
use super::resource::{AccessSpec, ClusterSpec, Kind, Level, Pattern, ResourceId, Spec};
use super::store::{Audit, StoreError, Tx};
use super::world::Change;

/// Hours between closing and deletion where a cluster does not say: what nobody misses over a weekend is missed by nobody.
const QUIET_HOURS: f64 = 72.0;

/// How far the deletion of a request's topics has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Quiet {
    /// Hours from closing to deletion.
    pub hours: f64,
    /// When they are deleted, milliseconds since 1970; none until they are closed.
    pub until_ms: Option<i64>,
    /// Who called it off.
    pub called_off: Option<String>,
}

/// What is to be done with a request next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Everything at once: there is nothing to wait for.
    All,
    /// Close what is to be deleted; everything else is done.
    Close,
    /// Delete what was closed.
    Delete,
    /// Open it again.
    Open,
}

impl Quiet {
    /// The period of a cluster.
    pub fn hours_of(spec: &ClusterSpec) -> f64 {
        spec.quiet_hours.unwrap_or(QUIET_HOURS)
    }
}

impl Request {
    /// What is to be done with it next. One that has begun to wait is never in [`Phase::All`] again.
    pub(super) fn phase(&self) -> Phase {
        match &self.quiet {
            None => Phase::All,
            Some(Quiet { called_off: Some(_), .. }) => Phase::Open,
            Some(Quiet { until_ms: None, .. }) => Phase::Close,
            Some(_) => Phase::Delete,
        }
    }

    /// Whether a change waits for the quiet period: the deletion of a topic, of what is granted on it, and of those who have that or
    /// own it, since all of it is there again when the deletion is called off.
    pub(super) fn waits(&self, planned: &Planned) -> bool {
        let is_deleted = |topic: &ResourceId| {
            self.changes.iter().any(|change| change.resource == *topic && change.desired.is_none())
        };
        match planned.resource.kind {
            _ if planned.desired.is_some() => false,
            Kind::Topic => true,
            Kind::Access => {
                let cluster = planned.resource.cluster.as_deref().unwrap_or_default();
                let target = planned.resource.name.splitn(3, ':').nth(2).unwrap_or_default();
                is_deleted(&ResourceId::on(Kind::Topic, cluster, target))
            }
            Kind::User | Kind::Sender => self.changes.iter().any(|change| {
                let ResourceId { kind, cluster, name } = &change.resource;
                let is_on_its_cluster = planned.resource.cluster.is_none() || *cluster == planned.resource.cluster;
                let is_its_own = name.split(':').next() == Some(planned.resource.name.as_str());
                *kind == Kind::Access && is_on_its_cluster && is_its_own && self.waits(change)
            }),
            Kind::Service => {
                self.changes.iter().any(|change| change.resource.kind == Kind::Topic && self.waits(change))
            }
            _ => false,
        }
    }

    /// Whether a change is to be carried out in a phase.
    pub(super) fn is_due(&self, planned: &Planned, phase: Phase) -> bool {
        match phase {
            Phase::All => true,
            Phase::Close => !self.waits(planned),
            Phase::Delete => self.waits(planned),
            Phase::Open => false,
        }
    }
}

impl Planned {
    /// The change that it was planned from.
    pub fn change(&self) -> Change {
        Change { id: self.resource.clone(), desired: self.desired.clone(), if_match: None }
    }

    /// Whether it may be there only because of another change: what was granted on a topic or to a user goes with it.
    pub fn is_along(&self) -> bool {
        self.desired.is_none() && matches!(self.resource.kind, Kind::Access | Kind::Quota)
    }
}

impl Desk {
    /// Calls a deletion off: its topics are opened again. Whoever asked for it may, and whoever had to agree.
    pub async fn call_off(&self, actor: &Actor, id: &str, reason: &str, source: &str) -> Result<Request, RequestError> {
        let mut tx = self.store.begin().await?;
        let mut row = super::request::find(&mut tx, id).await?;
        let changes: Vec<Change> = row.document.changes.iter().map(Planned::change).collect();
        let world = self.load(&mut tx, &changes, &row.document.actor).await?;
        let request = &mut row.document;
        let note = |outcome: &'static str| Audit {
            actor: &actor.name,
            source,
            verb: "call-off",
            object: id,
            request: id,
            outcome,
            detail: json!({ "reason": reason }),
        };
        let Some(quiet) = request.quiet.as_ref().filter(|_| request.state == RequestState::Quiet).cloned() else {
            return Err(super::request::wrong_state(request, "called off"));
        };
        if request.actor != actor.name && request.parts_of(actor, &world).is_empty() {
            tx.audit(note("not_an_approver")).await?;
            tx.commit().await?;
            let by = request.approvers().into_iter().map(|part| part.as_str()).collect::<Vec<_>>().join(", ");
            return Err(RequestError::NotAnApprover { actor: actor.name.clone(), by });
        }
        request.quiet = Some(Quiet { called_off: Some(actor.name.clone()), ..quiet });
        request.state = RequestState::Approved;
        request.message = reason.to_owned();
        row.state = row.document.state.as_str().to_owned();
        tx.put_request(&row).await?;
        tx.audit(note("done")).await?;
        tx.commit().await?;
        Ok(row.document)
    }

    /// What is asked, and with each topic, user, sender and event type that is to go what is granted on it or to it and what limits it:
    /// the next one of that name, whoever makes it, is to inherit nothing.
    pub(super) async fn with_grants(&self, tx: &mut Tx, ask: &Ask) -> Result<Vec<Change>, StoreError> {
        let mut changes = ask.changes.clone();
        for ResourceId { kind, cluster, name } in
            ask.changes.iter().filter(|gone| gone.desired.is_none()).map(|gone| &gone.id)
        {
            let rows = match kind {
                Kind::Topic => tx.named(Kind::Access, "", &format!(":{name}")).await?,
                Kind::User | Kind::Sender | Kind::EventType => {
                    let mut rows = tx.named(Kind::Quota, name, "").await?;
                    rows.extend(match kind {
                        Kind::EventType => tx.named(Kind::Access, "", &format!(":{name}")).await?,
                        _ => tx.named(Kind::Access, &format!("{name}:"), "").await?,
                    });
                    rows
                }
                _ => continue,
            };
            for row in rows {
                let publishes = |access: &AccessSpec| access.level == Level::Publish;
                let goes_along = match (kind, &row.spec) {
                    (Kind::Topic, Spec::Access(access)) => {
                        access.target == *name && access.pattern == Pattern::Literal && !publishes(access)
                    }
                    (Kind::User, Spec::Access(access)) => access.principal == *name && !publishes(access),
                    (Kind::Sender, Spec::Access(access)) => access.principal == *name && publishes(access),
                    (Kind::EventType, Spec::Access(access)) => access.target == *name && publishes(access),
                    (Kind::User, Spec::Quota(quota)) => quota.user.as_ref() == Some(name),
                    (Kind::EventType, Spec::Quota(quota)) => quota.event_type.as_ref() == Some(name),
                    _ => false,
                };
                // What a sender may publish and what limits an event type stand on the cluster of its topic.
                let is_there = cluster.is_none() || row.id.cluster == *cluster;
                if goes_along && is_there && !changes.iter().any(|change| change.id == row.id) {
                    changes.push(Change { id: row.id, desired: None, if_match: None });
                }
            }
        }
        Ok(changes)
    }
}
