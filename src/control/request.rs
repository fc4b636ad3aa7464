//! A request on its way in: check, plan, decide, reserve; all of it in one transaction.
//!
//! In: the changes that somebody asks for. Out: a [`Request`] with its decision, kept in the store, or everything that is wrong with
//! it. Never: a write to Kafka; that is `apply`'s, once a request is approved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::actor::{Actor, topic_of};
use super::admission::over_budget;
use super::left;
use super::origin::{self, Origin};
use super::policy::{self, Approver, Decision, Facts, Table, Verdict};
use super::provider::Providers;
use super::quiet::Quiet;
use super::resource::{Found, Kind, ManagedBy, ResourceId, Spec, Violation};
use super::store::{Audit, Need, NewRequest, Reservation, ResourceState, Store, StoreError, Taken, Tx};
use super::world::{Change, ClusterView, World};

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
        let mut request = self.plan(&mut tx, actor, &ask, origin, &id).await?;
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
        if request.state == RequestState::Rejected {
            tx.drop_reservations(&id).await?;
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

    /// What would become of a request, with its reservations made in the transaction.
    async fn plan(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        ask: &Ask,
        origin: &Origin,
        id: &str,
    ) -> Result<Request, RequestError> {
        let mut changes = self.with_grants(tx, ask).await?;
        changes.sort_by(|one, other| order(one).cmp(&order(other)));
        let world = self.load(tx, &changes, &actor.name).await?;
        let table = self.policy.load_full();
        let mut planned = Vec::with_capacity(changes.len());
        let (mut seen, mut spoken) = (BTreeSet::new(), Spoken { request: id, by_cluster: BTreeMap::new() });
        for change in &changes {
            let mut found = Found::of(&change.id);
            found.extend(self.violations(actor, change, &world, ask, origin));
            if !seen.insert(&change.id) {
                found.add("", "twice", "it stands in the request twice", "ask for it once");
            }
            let violations = found.violations();
            let (mut facts, need, over) = self.facts(tx, actor, change, &world, &violations, &mut spoken).await?;
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
        Ok(request)
    }

    fn violations(&self, actor: &Actor, change: &Change, world: &World, ask: &Ask, origin: &Origin) -> Vec<Violation> {
        let id = &change.id;
        let mut found = Found::of(id);
        if !actor.may_ask(id, change.desired.as_ref(), world) {
            let problem = format!("`{}` is of no group that owns it", actor.name);
            found.add("", "not-yours", problem, "ask its owner, or join the group");
            // What is wrong with what is not theirs is not theirs to know.
            return found.violations();
        }
        let before = world.before(id);
        if let (Some(wanted), found_revision) = (change.if_match, before.map_or(0, |resource| resource.revision))
            && wanted != found_revision
        {
            let problem = format!("it is at revision {found_revision}, not {wanted}");
            found.add("", "stale", problem, "read it again");
        }
        if let Some(before) = before {
            origin::check(change, world, ask, origin, &mut found);
            if matches!(before.state, ResourceState::Applying | ResourceState::Deleting) {
                found.add("", "busy", "it is being changed", "wait until that is done");
            }
        } else if change.desired.is_none() {
            found.add("", "unknown", "there is nothing of this name", "look at the list");
            return found.violations();
        }
        if let Some(spec) = &change.desired {
            found.extend(spec.violations(id));
            if let Spec::Topic(topic) = spec
                && topic.expert.is_some()
                && !actor.may_set_by_hand(id, world)
            {
                let fix = "leave `expert` out and say what capacity is needed, or ask somebody with the role `expert`";
                found.add("expert", "not-an-expert", "Kafka's own settings need the role `expert`", fix);
            }
        }
        match self.providers.of(id.kind) {
            Some(provider) => found.extend(provider.violations(change, world)),
            None => {
                let problem = format!("{} is managed by no provider", id.kind.as_str());
                found.add("", "unmanaged-kind", problem, "leave it out");
            }
        }
        found.violations()
    }

    /// What is known of a change, what it needs, and what of that is not free; what it needs is reserved if it is.
    async fn facts(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        change: &Change,
        world: &World,
        violations: &[Violation],
        spoken: &mut Spoken<'_>,
    ) -> Result<(Facts, Option<Need>, Option<String>), RequestError> {
        let id = &change.id;
        let mut facts = Facts::default();
        facts.set("kind", id.kind.as_str()).set("operation", world.operation(change).as_str());
        facts.set("violations", violations.len() as f64);
        let service = change.desired.as_ref().and_then(|spec| spec.service(id));
        let service = service.or_else(|| world.before(id).map(|resource| resource.service.as_str()));
        let owns = service.is_some_and(|service| actor.owns(service, world));
        let before = world.before(id).map(|resource| resource.service.as_str());
        facts.set("own_service", owns);
        facts.set("gives_away", before.is_some_and(|before| service != Some(before)) && !owns);
        if let Some(view) = id.cluster.as_deref().and_then(|cluster| world.cluster(cluster)) {
            facts.set("environment", view.spec.environment.as_str());
            if let Some(used) = view.disk_used {
                facts.set("disk_used", used);
            }
        }
        if let Some(topic) = topic_of(id, world)
            && let Some(Spec::Topic(topic)) = world.after(&topic)
        {
            facts.set("own_topic", service == Some(&topic.service));
            let visibility = if topic.visibility == super::resource::Visibility::Open { "open" } else { "restricted" };
            facts.set("topic_visibility", visibility);
        }
        if !violations.is_empty() {
            return Ok((facts, None, None));
        }
        let Some(provider) = self.providers.of(id.kind) else { return Ok((facts, None, None)) };
        // What is desired already can only be asked for because it is not so.
        let is_desired = world.before(id).is_some_and(|before| change.desired.as_ref() == Some(&before.spec));
        facts.set("restore", is_desired);
        provider.facts(change, world, &mut facts);
        let need = provider.need(change, world);
        let mut over = None;
        if let (Some(need), Some(cluster)) = (need, &id.cluster) {
            // Earlier changes of the same request have spoken for theirs.
            let request = spoken.request.to_owned();
            let spoken = spoken.by_cluster.entry(cluster.clone()).or_default();
            let taken = world.taken(id);
            let taken = Taken { all: taken.all.plus(*spoken), own: taken.own };
            facts.set("grows", need.disk_bytes > taken.own.disk_bytes);
            over = world.cluster(cluster).and_then(|view| over_budget(view, taken, need));
            facts.set("over_budget", over.is_some());
            if over.is_none() {
                let (cluster, resource) = (cluster.clone(), id.to_string());
                tx.reserve(&Reservation { cluster, resource, request, need }).await?;
                *spoken = spoken.plus(need.over(taken.own));
            }
        }
        Ok((facts, need, over))
    }

    /// Everything that these changes are judged with, as of this transaction.
    pub(super) async fn load(&self, tx: &mut Tx, changes: &[Change], requester: &str) -> Result<World, RequestError> {
        let mut world = World::of(changes, requester);
        let known = self.clusters.load_full();
        let mut wanted: BTreeSet<ResourceId> = BTreeSet::new();
        for change in changes {
            wanted.insert(change.id.clone());
            wanted.extend(self.providers.of(change.id.kind).into_iter().flat_map(|provider| provider.related(change)));
        }
        for id in &wanted {
            if let Some(resource) = tx.resource(id).await? {
                wanted_service(&mut world, tx, &resource.service).await?;
                if resource.managed_by != ManagedBy::Api
                    && let Some(file) = tx.file(id).await?
                {
                    world.add_file(id, file);
                }
                world.add(resource);
            }
        }
        for topic in changes.iter().filter(|change| change.id.kind == Kind::Topic && change.desired.is_none()) {
            // Whoever still sends events to it must be known to whoever deletes it.
            let cluster = topic.id.cluster.as_deref().unwrap_or_default();
            for row in tx.named_after(Kind::EventType, "", &topic.id.name).await? {
                let goes_to_it = matches!(&row.spec, Spec::EventType(event) if event.cluster == cluster);
                if goes_to_it && world.before(&row.id).is_none() {
                    world.add(row);
                }
            }
        }
        left::load(tx, changes, &mut world).await?;
        let clusters: BTreeSet<&str> = wanted.iter().filter_map(|id| id.cluster.as_deref()).collect();
        for cluster in clusters {
            // What is registered counts; what is only in the configuration may not be written to.
            let Some(row) = tx.resource(&ResourceId::of(Kind::Cluster, cluster)).await? else { continue };
            let Spec::Cluster(spec) = row.spec else { continue };
            world.add_cluster(cluster, known.get(cluster).cloned().unwrap_or_default().with_spec(spec));
        }
        let (mut taken, mut services) = (BTreeMap::new(), BTreeSet::new());
        for change in changes.iter().filter(|change| change.id.kind == Kind::Topic) {
            let cluster = change.id.cluster.as_deref().unwrap_or_default();
            let all = match taken.get(cluster) {
                Some(all) => *all,
                None => tx.taken_by_all(cluster).await?,
            };
            taken.insert(cluster, all);
            let own = tx.taken_by(cluster, &change.id.to_string()).await?;
            world.add_taken(&change.id, Taken { all, own });
            let service = change.desired.as_ref().and_then(|spec| spec.service(&change.id)).unwrap_or_default();
            if services.insert((service, cluster)) {
                let reserved = tx.disk_of_service(service, cluster).await?;
                world.add_service_reserve(service, cluster, reserved);
            }
        }
        Ok(world)
    }
}

async fn wanted_service(world: &mut World, tx: &mut Tx, service: &str) -> Result<(), RequestError> {
    let id = ResourceId::of(Kind::Service, service);
    if !service.is_empty()
        && world.before(&id).is_none()
        && let Some(resource) = tx.resource(&id).await?
    {
        world.add(resource);
    }
    Ok(())
}

/// What earlier changes of a request have spoken for.
struct Spoken<'r> {
    request: &'r str,
    by_cluster: BTreeMap<String, Need>,
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
    /// The service that it is about: of several, the first change's.
    pub fn service(&self) -> &str {
        let mut services = self.changes.iter().map(|planned| planned.service.as_str());
        services.find(|service| !service.is_empty()).unwrap_or_default()
    }

    /// Everybody who must agree.
    pub fn approvers(&self) -> BTreeSet<Approver> {
        match &self.verdict {
            Verdict::Review { by } => by.clone(),
            Verdict::Auto | Verdict::Reject => BTreeSet::new(),
        }
    }

    /// In which parts somebody may agree: those that they have for every change that asks for them.
    pub(super) fn parts_of(&self, actor: &Actor, world: &World) -> BTreeSet<Approver> {
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
