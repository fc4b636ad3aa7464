//! Who agrees to a request, and who says no.
//!
//! In: a request that waits, somebody, the hash of the plan that they have seen. Out: the request approved, denied or taken back.
//! Never: an approval of one's own request, or of a plan that is no longer what was seen.

use std::collections::BTreeSet;

use serde_json::json;

use super::{Approval, Desk, Planned, Request, RequestError, RequestState, find, wrong_state};
use crate::control::actor::Actor;
use crate::control::left;
use crate::control::policy::{Approver, Verdict};
use crate::control::store::Audit;
use crate::control::world::{Change, World};

impl Desk {
    /// Agrees to a request, to the plan with this hash and no other.
    pub async fn approve(
        &self,
        actor: &Actor,
        id: &str,
        plan_hash: &str,
        reason: &str,
        source: &str,
    ) -> Result<Request, RequestError> {
        let mut tx = self.store.begin().await?;
        let mut row = find(&mut tx, id).await?;
        let request = &mut row.document;
        if request.state != RequestState::Pending {
            return Err(wrong_state(request, "approved"));
        }
        let note = |outcome: &'static str| Audit {
            actor: &actor.name,
            source,
            verb: "approve",
            object: id,
            request: id,
            outcome,
            detail: json!({ "reason": reason }),
        };
        if request.actor == actor.name {
            tx.audit(note("own_request")).await?;
            tx.commit().await?;
            return Err(RequestError::OwnRequest);
        }
        let changes: Vec<Change> = request.changes.iter().map(Planned::change).collect();
        let world = self.load(&mut tx, &changes, &request.actor).await?;
        let stale = stale(request, plan_hash, &world).or_else(|| left::first_broken(&self.providers, &changes, &world));
        if let Some(stale) = stale {
            request.state = RequestState::Superseded;
            request.message = format!("{stale} has changed since it was planned");
            row.state = request.state.as_str().to_owned();
            tx.put_request(&row).await?;
            tx.drop_reservations(id).await?;
            tx.audit(note("stale")).await?;
            tx.commit().await?;
            return Err(RequestError::Stale { what: stale });
        }
        let parts = request.parts_of(actor, &world);
        if parts.is_empty() {
            let by = request.approvers().into_iter().map(Approver::as_str).collect::<Vec<_>>().join(", ");
            tx.audit(note("not_an_approver")).await?;
            tx.commit().await?;
            return Err(RequestError::NotAnApprover { actor: actor.name.clone(), by });
        }
        request.approvals.push(Approval {
            actor: actor.name.clone(),
            parts,
            reason: reason.to_owned(),
            at_ms: tx.now_ms(),
        });
        if request.is_agreed() {
            request.state = RequestState::Approved;
        }
        row.state = row.document.state.as_str().to_owned();
        tx.put_request(&row).await?;
        tx.audit(note("done")).await?;
        tx.commit().await?;
        Ok(row.document)
    }

    /// Says no to a request; or takes it back, for the one who asked.
    pub async fn deny(&self, actor: &Actor, id: &str, reason: &str, source: &str) -> Result<Request, RequestError> {
        let mut tx = self.store.begin().await?;
        let mut row = find(&mut tx, id).await?;
        let request = &mut row.document;
        if request.state != RequestState::Pending {
            return Err(wrong_state(request, "denied"));
        }
        let changes: Vec<Change> = request.changes.iter().map(Planned::change).collect();
        let world = self.load(&mut tx, &changes, &request.actor).await?;
        let is_own = request.actor == actor.name;
        if !is_own && request.parts_of(actor, &world).is_empty() {
            let by = request.approvers().into_iter().map(Approver::as_str).collect::<Vec<_>>().join(", ");
            return Err(RequestError::NotAnApprover { actor: actor.name.clone(), by });
        }
        request.state = if is_own { RequestState::Withdrawn } else { RequestState::Denied };
        request.message = reason.to_owned();
        row.state = row.document.state.as_str().to_owned();
        tx.put_request(&row).await?;
        tx.drop_reservations(id).await?;
        let detail = json!({ "reason": reason });
        let verb = if is_own { "withdraw" } else { "deny" };
        tx.audit(Audit { actor: &actor.name, source, verb, object: id, request: id, outcome: "done", detail }).await?;
        tx.commit().await?;
        Ok(row.document)
    }
}

/// The first thing that is no longer as it was when the request was planned.
fn stale(request: &Request, plan_hash: &str, world: &World) -> Option<String> {
    if request.plan_hash != plan_hash {
        return Some("the plan".to_owned());
    }
    let moved = request
        .changes
        .iter()
        .find(|planned| world.before(&planned.resource).map_or(0, |resource| resource.revision) != planned.revision);
    moved.map(|planned| planned.resource.to_string())
}

impl Request {
    /// Everybody who must agree.
    pub fn approvers(&self) -> BTreeSet<Approver> {
        match &self.verdict {
            Verdict::Review { by } => by.clone(),
            Verdict::Auto | Verdict::Reject => BTreeSet::new(),
        }
    }

    /// In which parts somebody may agree: those that they have for every change that asks for them.
    pub(in crate::control) fn parts_of(&self, actor: &Actor, world: &World) -> BTreeSet<Approver> {
        let asks = |planned: &&Planned, part: Approver| match &planned.decision.verdict {
            Verdict::Review { by } => by.contains(&part),
            Verdict::Auto | Verdict::Reject => false,
        };
        let may = |part: &Approver| {
            let mut changes = self.changes.iter().filter(|planned| asks(planned, *part));
            changes.all(|planned| actor.may_approve_as(*part, &planned.resource, world))
        };
        self.approvers().into_iter().filter(may).collect()
    }

    /// Whether all who must have agreed.
    fn is_agreed(&self) -> bool {
        let agreed: BTreeSet<Approver> = self.approvals.iter().flat_map(|approval| approval.parts.clone()).collect();
        self.approvers().is_subset(&agreed)
    }
}
