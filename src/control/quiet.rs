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
use super::resource::{ClusterSpec, Kind, Pattern, ResourceId, Spec};
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

    /// Whether a change waits for the quiet period: the deletion of a topic, and of what is granted on it.
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

    /// What is asked, and with each topic that is to go what was granted on it by its name.
    pub(super) async fn with_grants(&self, tx: &mut Tx, ask: &Ask) -> Result<Vec<Change>, StoreError> {
        let mut changes = ask.changes.clone();
        let topics = ask.changes.iter().filter(|change| change.id.kind == Kind::Topic && change.desired.is_none());
        for topic in topics {
            let cluster = topic.id.cluster.as_deref().unwrap_or_default();
            for grant in tx.named_after(Kind::Access, cluster, &topic.id.name).await? {
                let is_on_it = match &grant.spec {
                    Spec::Access(access) => access.target == topic.id.name && access.pattern == Pattern::Literal,
                    _ => false,
                };
                if is_on_it && !changes.iter().any(|change| change.id == grant.id) {
                    changes.push(Change { id: grant.id, desired: None, if_match: None });
                }
            }
        }
        Ok(changes)
    }
}
