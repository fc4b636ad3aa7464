//! A request on its way in: check, plan, decide, reserve; all of it in one transaction.
//!
//! In: the changes that somebody asks for. Out: a [`Request`] with its decision, kept in the store, or everything that is wrong with
//! it. Never: a write to Kafka; that is `apply`'s, once a request is approved.
//!
//! | file | subject |
//! |---|---|
//! | `load` | what the changes are judged with |
//! | `judge` | what is wrong with each of them, what is known of it, what it takes |
//! | `agree` | approvals and denials |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::actor::Actor;
use super::origin::{self, Origin};
use super::policy::{self, Approver, Decision, Table, Verdict};
use super::provider::Providers;
use super::quiet::Quiet;
use super::resource::{Found, ManagedBy, ResourceId, Spec, Violation, rule};
use super::store::{Audit, Need, NewRequest, Reservation, Store, StoreError, Tx};
use super::world::{Change, ClusterView, World};

mod agree;
mod judge;
mod load;

use judge::Spoken;

/// Most changes of one request.
pub const CHANGES_MAX: usize = 500;

/// What somebody asks for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The changes; each resource at most once.
    pub changes: Vec<Change>,
    /// Why.
    pub reason: String,
    /// Whether it is only to be told what would become of it.
    pub dry_run: bool,
    /// The caller's name of it, so that the same request is not taken twice.
    pub idempotency_key: Option<String>,
    /// Which side asks.
    pub managed_by: ManagedBy,
    /// From where: an address, for the audit log.
    pub source: String,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// Somebody must agree.
    Pending,
    /// It is to be applied.
    Approved,
    /// It is being applied.
    Applying,
    /// It is done.
    Ready,
    /// The rules refused it.
    Rejected,
    /// Somebody did.
    Denied,
    /// Whoever asked took it back.
    Withdrawn,
    /// What it deletes is closed, and is deleted when its quiet period is over.
    Quiet,
    /// What it was planned on has changed.
    Superseded,
    /// It could not be applied; its message says why.
    Failed,
}

impl RequestState {
    const ALL: [(RequestState, &'static str); 10] = [
        (RequestState::Pending, "pending"),
        (RequestState::Approved, "approved"),
        (RequestState::Applying, "applying"),
        (RequestState::Ready, "ready"),
        (RequestState::Rejected, "rejected"),
        (RequestState::Denied, "denied"),
        (RequestState::Withdrawn, "withdrawn"),
        (RequestState::Quiet, "quiet"),
        (RequestState::Superseded, "superseded"),
        (RequestState::Failed, "failed"),
    ];

    /// The name in replies and in the store.
    pub fn as_str(self) -> &'static str {
        RequestState::ALL.iter().find(|(state, _)| *state == self).expect("the list has every state").1
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Request {
    /// Its id, a UUIDv7.
    pub id: String,
    /// Who asks.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// How far it has come.
    pub state: RequestState,
    /// Why it is not further; empty when there is nothing to say.
    pub message: String,
    /// Its changes, in the order in which they are made.
    pub changes: Vec<Planned>,
    /// What becomes of it as a whole.
    pub verdict: Verdict,
    /// Who has agreed.
    pub approvals: Vec<Approval>,
    /// Which side asks.
    pub managed_by: ManagedBy,
    /// Hash of what it was planned on: an approval is of this and nothing else.
    pub plan_hash: String,
    /// Of a request that deletes topics: when that is, and whether it was called off.
    #[serde(default)]
    pub quiet: Option<Quiet>,
}

/// One change of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Planned {
    /// Of what.
    #[schema(value_type = String)]
    pub resource: ResourceId,
    /// The service that owns it, before the change if there was an owner; empty for a cluster.
    #[serde(default)]
    pub service: String,
    /// `create`, `update`, `rotate` or `delete`.
    pub operation: String,
    /// What it is to be; none: it is to go.
    pub desired: Option<Spec>,
    /// Revision of the resource that it was planned on; 0: there was none.
    pub revision: i64,
    /// What the rules say of it.
    pub decision: Decision,
    /// All that is wrong with it.
    pub violations: Vec<Violation>,
    /// What it will take of its cluster.
    pub need: Option<Need>,
    /// The file that it comes from, in the repository that asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// Somebody has agreed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Approval {
    /// Who.
    pub actor: String,
    /// In which parts.
    #[serde(rename = "as")]
    pub parts: BTreeSet<Approver>,
    /// What they said.
    pub reason: String,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
}

/// Why something was not done with a request.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum RequestError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a request has 1 to {CHANGES_MAX} changes, this one has {count}; ask for them in several requests")]
    Length { count: usize },
    #[error("there is no request `{id}`")]
    Unknown { id: String },
    #[error("request `{id}` is {state}, so it cannot be {verb}")]
    WrongState { id: String, state: &'static str, verb: &'static str },
    #[error("nobody approves a request of their own")]
    OwnRequest,
    #[error("`{actor}` is none of those who must agree: {by}")]
    NotAnApprover { actor: String, by: String },
    #[error("it is no longer what was planned: {what} has changed; ask again")]
    Stale { what: String },
}

/// What comes in, and who decides.
#[derive(Clone)]
pub struct Desk {
    pub(super) store: Store,
    providers: Providers,
    policy: Arc<ArcSwap<Table>>,
    clusters: Arc<ArcSwap<BTreeMap<String, ClusterView>>>,
}

impl Desk {
    /// A desk over this store. The table in force and what is known of clusters are replaced by others behind it.
    pub fn new(
        store: Store,
        providers: Providers,
        policy: Arc<ArcSwap<Table>>,
        clusters: Arc<ArcSwap<BTreeMap<String, ClusterView>>>,
    ) -> Desk {
        Desk { store, providers, policy, clusters }
    }

    /// The same desk with other rules: to try them.
    pub fn with_policy(&self, policy: Arc<ArcSwap<Table>>) -> Desk {
        Desk { policy, ..self.clone() }
    }

    /// [`Desk::submit_from`] of what comes from no file.
    pub async fn submit(&self, actor: &Actor, ask: Ask) -> Result<Request, RequestError> {
        self.submit_from(actor, ask, &Origin::default()).await
    }

    /// Takes a request in: it is refused with all reasons, waits for those who must agree, or is approved at once.
    pub async fn submit_from(&self, actor: &Actor, ask: Ask, origin: &Origin) -> Result<Request, RequestError> {
        let count = ask.changes.len();
        if count == 0 || count > CHANGES_MAX {
            return Err(RequestError::Length { count });
        }
        let mut tx = self.store.begin().await?;
        if let Some(key) = &ask.idempotency_key
            && let Some(known) = tx.request_by_key::<Request>(key).await?
        {
            return Ok(known.document);
        }
        let id = uuid::Uuid::now_v7().to_string();
        let (mut request, reservations) = self.plan(&mut tx, actor, &ask, origin, &id).await?;
        if ask.dry_run {
            return Ok(request);
        }
        request.state = match &request.verdict {
            Verdict::Auto => RequestState::Approved,
            Verdict::Review { .. } => RequestState::Pending,
            Verdict::Reject => RequestState::Rejected,
        };
        let new = NewRequest {
            id: &id,
            actor: &actor.name,
            service: request.service(),
            state: request.state.as_str(),
            document: &request,
            plan_hash: &request.plan_hash,
            idempotency_key: ask.idempotency_key.as_deref(),
        };
        tx.add_request(&new).await?;
        if request.state != RequestState::Rejected {
            tx.reserve(&reservations).await?;
        }
        for planned in &request.changes {
            let outcome = match &planned.decision.verdict {
                Verdict::Auto => "auto",
                Verdict::Review { .. } => "review",
                Verdict::Reject => "reject",
            };
            let detail = json!({
                "rule": planned.decision.rule,
                "policy_revision": planned.decision.policy_revision,
                "violations": planned.violations.iter().map(|violation| &violation.rule).collect::<Vec<_>>(),
            });
            tx.audit(Audit {
                actor: &actor.name,
                source: &ask.source,
                verb: &planned.operation,
                object: &planned.resource.to_string(),
                request: &id,
                outcome,
                detail,
            })
            .await?;
        }
        tx.commit().await?;
        Ok(request)
    }

    /// What would become of a request, and what it would reserve.
    async fn plan(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        ask: &Ask,
        origin: &Origin,
        id: &str,
    ) -> Result<(Request, Vec<Reservation>), RequestError> {
        let mut changes = self.with_grants(tx, ask).await?;
        changes.sort_by(|one, other| order(one).cmp(&order(other)));
        let world = self.load(tx, &changes, &actor.name).await?;
        let table = self.policy.load_full();
        let mut planned = Vec::with_capacity(changes.len());
        let (mut seen, mut spoken) = (BTreeSet::new(), Spoken::of(id));
        for change in &changes {
            let mut found = Found::of(&change.id);
            found.extend(self.violations(actor, change, &world, ask, origin));
            if !seen.insert(&change.id) {
                found.add("", rule::TWICE, "it stands in the request twice", "ask for it once");
            }
            let violations = found.violations();
            let (mut facts, need, over) = self.facts(actor, change, &world, &violations, &mut spoken);
            facts.set("handover", origin::is_handover(change, &world, &ask.managed_by));
            let mut decision = table.decide(facts);
            if decision.verdict == Verdict::Reject && !violations.is_empty() {
                decision.reason =
                    violations.iter().map(|v| format!("{}: {}", v.resource, v.problem)).collect::<Vec<_>>().join("; ");
            } else if let Some(over) = over {
                // What would fit says more than the rule that looked at it.
                decision.reason = format!("{}: {over}", decision.reason);
            }
            planned.push(Planned {
                resource: change.id.clone(),
                service: world.owner(change).to_owned(),
                operation: world.operation(change).as_str().to_owned(),
                desired: change.desired.clone(),
                revision: world.before(&change.id).map_or(0, |resource| resource.revision),
                decision,
                violations,
                need,
                file: origin.files.get(&change.id).cloned(),
            });
        }
        let verdict = policy::combine(planned.iter().map(|planned| &planned.decision));
        let mut request = Request {
            id: id.to_owned(),
            actor: actor.name.clone(),
            reason: ask.reason.clone(),
            state: RequestState::Pending,
            message: String::new(),
            changes: planned,
            verdict,
            approvals: Vec::new(),
            managed_by: ask.managed_by.clone(),
            plan_hash: String::new(),
            quiet: None,
        };
        request.plan_hash = request.hash(&world);
        Ok((request, spoken.reservations))
    }
}

/// In which order changes are made: what others need first, and what needs others is taken away first.
fn order(change: &Change) -> (bool, i64, &ResourceId) {
    let kind = change.id.kind as i64;
    match change.desired {
        Some(_) => (true, kind, &change.id),
        None => (false, -kind, &change.id),
    }
}

pub(super) async fn find(tx: &mut Tx, id: &str) -> Result<super::store::RequestRow<Request>, RequestError> {
    tx.request(id).await?.ok_or_else(|| RequestError::Unknown { id: id.to_owned() })
}

pub(super) fn wrong_state(request: &Request, verb: &'static str) -> RequestError {
    RequestError::WrongState { id: request.id.clone(), state: request.state.as_str(), verb }
}

impl Request {
    /// The service that it is about: of several, the first change's.
    pub fn service(&self) -> &str {
        let mut services = self.changes.iter().map(|planned| planned.service.as_str());
        services.find(|service| !service.is_empty()).unwrap_or_default()
    }

    /// What an approval is of: the changes, what they were planned on, and what was decided.
    fn hash(&self, world: &World) -> String {
        let planned: Vec<_> = self
            .changes
            .iter()
            .map(|planned| {
                let cluster = planned.resource.cluster.as_deref().and_then(|name| world.cluster(name));
                (
                    &planned.resource,
                    &planned.desired,
                    planned.revision,
                    &planned.decision,
                    cluster.map(|view| &view.spec),
                )
            })
            .collect();
        let text = serde_json::to_vec(&planned).expect("documents of ours have string keys and finite numbers");
        hex::encode(Sha256::digest(&text))
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
