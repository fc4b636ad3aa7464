//! An approved request carried out: observe, compare, act, read back, step by step, in a journal.
//!
//! In: approved requests of the store. Out: Kafka as they wish it, resources that say so, the audit log. Never: a step that is not in
//! the journal before it is begun, a step of a node that another one took over from, a change sent again without looking first, a
//! wait without an end.
//!
//! One node applies at a time; on it `crew` carries out several requests side by side, and `turn` says which: a cluster that does
//! not answer holds up what is asked of it, and nothing else.
//!
//! A node that is killed anywhere leaves the request `applying`. Whoever has the lease next goes on with the first step that is not
//! done: it looks at what is there, and so it makes no difference whether the step was done, half done or not begun.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::info;

use super::origin;
use super::provider::{Comparison, Observed, Providers, Reach, Step, StepError};
use super::quiet::{Phase, Quiet};
use super::request::{Desk, Planned, Request, RequestError, RequestState};
use super::resource::{Kind, ManagedBy, ResourceId, Spec};
use super::store::{Audit, Lease, RequestRow, Resource, ResourceState, StepState, Store, StoreError, now_ms};
use super::world::World;
use crate::telemetry::export;
use crate::telemetry::metrics::CONTROL_TIME_TO_READY;

mod crew;
mod turn;

pub use crew::Crew;

/// For how long a node has the right to apply; it is kept before each step.
const LEASE: Duration = Duration::from_secs(15);
/// The lease's name: one node applies at a time.
const LEASE_NAME: &str = "apply";
/// How long after an act its effect may take to be seen: brokers answer reads from their own copy of the metadata.
const SETTLE: Duration = Duration::from_secs(10);
/// The first pause between two looks; it doubles up to a second.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// How often a step is tried that failed in a way that may pass; then the request waits for the next round.
const TRIES_MAX: u32 = 3;
/// After how many rounds a step that may pass has failed for good.
const ATTEMPTS_MAX: i64 = 60;
/// The actor of what the plane does by itself.
const SELF: &str = "control";

/// Carries out requests.
#[derive(Clone)]
pub struct Applier {
    store: Store,
    desk: Desk,
    providers: Providers,
    reach: Reach,
    /// This node's name in leases.
    node: String,
}

/// Why a request was left for later.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ApplyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("another node applies requests")]
    NotOurs,
    #[error("`{step}` did not go, it is tried again later: {source}")]
    Later { step: String, source: StepError },
}

/// What stops a request for good.
struct Stopped(String);

impl Applier {
    /// An applier of this node.
    pub fn new(store: Store, desk: Desk, providers: Providers, reach: Reach, node: &str) -> Applier {
        Applier { store, desk, providers, reach, node: node.to_owned() }
    }

    /// The same with other providers and under another name: a second node.
    pub fn with_providers(&self, providers: Providers, node: &str) -> Applier {
        Applier { providers, node: node.to_owned(), ..self.clone() }
    }

    /// Carries out every request that is approved or was begun, each of them once; says how many came to an end.
    pub async fn run_once(&self) -> Result<usize, ApplyError> {
        Crew::new(self.clone()).once().await
    }

    /// Carries out one request, as far as it goes.
    pub async fn apply(&self, id: &str) -> Result<(), ApplyError> {
        let lease = self.lease().await?;
        let applied = self.carry_out(&lease, id).await;
        self.store.release(&lease).await?;
        applied
    }

    async fn carry_out(&self, lease: &Lease, id: &str) -> Result<(), ApplyError> {
        let row = self.begin(lease, id).await?;
        let Some(row) = row else { return Ok(()) };
        let stopped = self.steps(lease, &row).await?;
        self.finish(lease, id, stopped.err()).await
    }

    async fn lease(&self) -> Result<Lease, ApplyError> {
        let lease = self.store.lease(LEASE_NAME, &self.node, LEASE.as_millis() as i64).await?;
        lease.ok_or(ApplyError::NotOurs)
    }

    /// Plans the steps on what is there now, and writes them down together with what is desired.
    async fn begin(&self, lease: &Lease, id: &str) -> Result<Option<RequestRow<Request>>, ApplyError> {
        let Some(row) = self.store.request::<Request>(id).await? else { return Ok(None) };
        match row.document.state {
            RequestState::Applying => return Ok(Some(row)),
            RequestState::Approved | RequestState::Quiet if is_due(&row.document) => {}
            _ => return Ok(None),
        }
        let mut seen = Vec::with_capacity(row.document.changes.len());
        for planned in &row.document.changes {
            let observed = self.look(planned).await;
            seen.push(observed.map_err(|source| ApplyError::Later { step: planned.resource.to_string(), source })?);
        }

        let mut tx = self.store.begin().await?;
        tx.fenced(lease).await?;
        let Some(mut row) = tx.request::<Request>(id).await? else { return Ok(None) };
        let changes: Vec<_> = row.document.changes.iter().map(Planned::change).collect();
        let world = self.desk.load(&mut tx, &changes, &row.document.actor).await?;
        if row.document.phase() == Phase::All {
            row.document.quiet = quiet(&row.document, &world, &seen);
        }
        let phase = row.document.phase();
        let mut steps: Vec<Step> = Vec::new();
        for ((planned, change), observed) in row.document.changes.iter().zip(&changes).zip(&seen) {
            if let Some(provider) = self.providers.of(planned.resource.kind) {
                let is_topic = planned.resource.kind == Kind::Topic && row.document.waits(planned);
                steps.extend(match phase {
                    Phase::Close if is_topic => provider.closing(change, &world, observed),
                    Phase::Open if is_topic => provider.opening(change, &world),
                    _ if row.document.is_due(planned, phase) => provider.steps(change, &world, observed),
                    _ => Vec::new(),
                });
            }
            // What was done before the quiet period is not done again.
            if matches!(phase, Phase::Delete | Phase::Open) && !row.document.waits(planned) {
                continue;
            }
            let before = world.before(&planned.resource).cloned();
            let state = if planned.desired.is_some() { ResourceState::Applying } else { ResourceState::Deleting };
            let resource = match (&planned.desired, before) {
                (None, None) => continue,
                (None, Some(before)) => Resource { state, message: String::new(), ..before },
                (Some(desired), before) => {
                    let managed_by = origin::after(change, &world, &row.document.managed_by);
                    if managed_by == row.document.managed_by {
                        tx.put_file(&planned.resource, planned.file.as_deref()).await?;
                    }
                    desired_row(managed_by, planned, desired, before, state)
                }
            };
            tx.put_resource(&resource).await?;
        }
        row.document.state = RequestState::Applying;
        row.state = row.document.state.as_str().to_owned();
        tx.add_steps(lease, id, &steps).await?;
        tx.put_request(&row).await?;
        tx.commit().await?;
        Ok(self.store.request(id).await?)
    }

    async fn look(&self, planned: &Planned) -> Result<Observed, StepError> {
        match self.providers.of(planned.resource.kind) {
            Some(provider) => provider.observe(&planned.resource, &self.reach).await,
            None => Ok(Observed::Absent),
        }
    }

    /// Does the steps that are not done. The inner result is what stops the request for good.
    async fn steps(&self, lease: &Lease, row: &RequestRow<Request>) -> Result<Result<(), Stopped>, ApplyError> {
        for step in self.store.steps::<Step>(&row.id).await? {
            if step.state == StepState::Done {
                continue;
            }
            // Kept before each step, so that it outlasts the step's own time.
            let kept = self.lease().await?;
            if kept != *lease {
                return Err(StoreError::Fenced { lease: LEASE_NAME.to_owned() }.into());
            }
            self.note_step(lease, &row.id, step.seq, StepState::Begun, None).await?;
            let began = Instant::now();
            match self.make_so(&step.document).await {
                Ok(acted) => {
                    let result = json!({ "acted": acted, "ms": began.elapsed().as_millis() as u64 });
                    self.note_step(lease, &row.id, step.seq, StepState::Done, Some(&result)).await?;
                }
                Err(error) if error.may_pass() && step.attempts < ATTEMPTS_MAX => {
                    let result = json!({ "error": error.to_string() });
                    self.note_step(lease, &row.id, step.seq, StepState::Todo, Some(&result)).await?;
                    return Err(ApplyError::Later { step: step.document.summary, source: error });
                }
                Err(error) => {
                    let text = format!("{}: {error}", step.document.summary);
                    let result = json!({ "error": error.to_string() });
                    self.note_step(lease, &row.id, step.seq, StepState::Failed, Some(&result)).await?;
                    return Ok(Err(Stopped(text)));
                }
            }
        }
        Ok(Ok(()))
    }

    async fn note_step(
        &self,
        lease: &Lease,
        request: &str,
        seq: i64,
        state: StepState,
        result: Option<&Value>,
    ) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        tx.put_step(lease, request, seq, state, result).await?;
        tx.commit().await
    }

    /// Observe, compare, act where there is a difference, read back. Says whether anything had to be done.
    async fn make_so(&self, step: &Step) -> Result<bool, StepError> {
        let unmanaged = || StepError::Conflict(format!("`{}` is managed by no provider", step.target));
        let provider = self.providers.of(step.target.kind).ok_or_else(unmanaged)?;
        let mut acted = false;
        let mut failed = None;
        for _ in 0..TRIES_MAX {
            match provider.compare(step, &provider.observe(&step.target, &self.reach).await?) {
                Comparison::Same => return Ok(acted),
                Comparison::Conflict(text) => return Err(StepError::Conflict(text)),
                Comparison::Different => {}
            }
            // Whether an act that failed was made all the same is for the next look to say, never for another act.
            failed = provider.act(step, &self.reach).await.err();
            if let Some(error) = &failed
                && !error.may_pass()
            {
                break;
            }
            acted = true;
            let until = Instant::now() + SETTLE;
            let mut pause = LOOK_AGAIN;
            while Instant::now() < until {
                if let Ok(observed) = provider.observe(&step.target, &self.reach).await
                    && provider.compare(step, &observed) == Comparison::Same
                {
                    return Ok(acted);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
        let unseen = || StepError::Conflict(format!("it was done, and is not seen after {} s", SETTLE.as_secs()));
        Err(failed.unwrap_or_else(unseen))
    }

    /// Closes the books of a request: resources, reservations, audit.
    async fn finish(&self, lease: &Lease, id: &str, stopped: Option<Stopped>) -> Result<(), ApplyError> {
        let Some(row) = self.store.request::<Request>(id).await? else { return Ok(()) };
        let mut seen = Vec::with_capacity(row.document.changes.len());
        for planned in &row.document.changes {
            // What cannot be looked at now is seen by the next reconciliation.
            seen.push(self.look(planned).await.ok());
        }
        let mut tx = self.store.begin().await?;
        tx.fenced(lease).await?;
        let Some(mut row) = tx.request::<Request>(id).await? else { return Ok(()) };
        let message = stopped.map(|Stopped(message)| message);
        let phase = row.document.phase();
        let until_ms = row.document.quiet.as_ref().map(|quiet| tx.now_ms() + (quiet.hours * 3_600_000.0) as i64);
        for (planned, observed) in row.document.changes.iter().zip(seen) {
            let waits = row.document.waits(planned);
            if matches!(phase, Phase::Delete | Phase::Open) && !waits {
                continue;
            }
            let Some(mut resource) = tx.resource(&planned.resource).await? else { continue };
            if let Some(Observed::Present(value)) = &observed {
                // What is to go is the one that it was when it was closed.
                if planned.desired.is_some() || resource.kafka_id.is_none() {
                    resource.kafka_id = value.get("kafka_id").and_then(Value::as_str).map(str::to_owned);
                }
                resource.observed = Some(value.clone());
                resource.observed_ms = Some(tx.now_ms());
            }
            let outcome = match (&message, &planned.desired) {
                (None, None) if phase == Phase::Close && waits => {
                    "it goes when the quiet period is over, and that can be called off"
                        .clone_into(&mut resource.message);
                    tx.put_resource(&resource).await?;
                    "quiet"
                }
                (None, _) if phase == Phase::Open => {
                    resource.state = ResourceState::Ready;
                    resource.message.clear();
                    tx.put_resource(&resource).await?;
                    "called_off"
                }
                (None, Some(_)) => {
                    // It is as it was wished, and yet not in use: the provider says what it waits for.
                    let waits_for = resource.observed.as_ref().and_then(|seen| seen.get("waiting")?.as_str());
                    let message = waits_for.filter(|_| observed.is_some()).map(str::to_owned);
                    resource.state = if message.is_some() { ResourceState::Waiting } else { ResourceState::Ready };
                    resource.message = message.unwrap_or_default();
                    tx.put_resource(&resource).await?;
                    "done"
                }
                (None, None) => {
                    tx.delete_resource(&planned.resource).await?;
                    tx.put_file(&planned.resource, None).await?;
                    if let Some(cluster) = &planned.resource.cluster {
                        tx.free(cluster, &planned.resource.to_string()).await?;
                    }
                    "done"
                }
                (Some(message), _) => {
                    resource.state = ResourceState::Failed;
                    resource.message.clone_from(message);
                    tx.put_resource(&resource).await?;
                    "failed"
                }
            };
            let detail = json!({ "generation": resource.generation, "message": message });
            let object = planned.resource.to_string();
            let verb = format!("apply-{}", planned.operation);
            tx.audit(Audit {
                actor: SELF,
                source: &self.node,
                verb: &verb,
                object: &object,
                request: id,
                outcome,
                detail,
            })
            .await?;
        }
        // What failed half way may take room all the same: its reservation stays until the resource is deleted.
        tx.settle_reservations(id).await?;
        row.document.state = match (&message, phase) {
            (Some(_), _) => RequestState::Failed,
            (None, Phase::Close) => RequestState::Quiet,
            (None, Phase::Open) => RequestState::Withdrawn,
            (None, Phase::All | Phase::Delete) => RequestState::Ready,
        };
        row.document.message = match (message, phase, &row.document.quiet) {
            (Some(message), ..) => message,
            (None, Phase::Open, Some(Quiet { called_off: Some(who), .. })) => format!("called off by {who}"),
            _ => String::new(),
        };
        if let (Phase::Close, Some(quiet)) = (phase, &mut row.document.quiet) {
            quiet.until_ms = until_ms;
        }
        row.state = row.document.state.as_str().to_owned();
        tx.put_request(&row).await?;
        tx.commit().await?;
        let state = row.document.state.as_str();
        let took_ms = u64::try_from(super::store::now_ms() - row.created_ms).unwrap_or(0);
        export::histogram(&CONTROL_TIME_TO_READY, &[state]).record(Duration::from_millis(took_ms));
        info!(request = id, state, "request has come to its end");
        Ok(())
    }
}

/// Whether something is to be done with a request now.
fn is_due(request: &Request) -> bool {
    let until = request.quiet.as_ref().filter(|quiet| quiet.called_off.is_none()).and_then(|quiet| quiet.until_ms);
    request.state != RequestState::Quiet || until.is_some_and(|until| until <= now_ms())
}

/// The quiet period of a request that deletes topics which are there.
fn quiet(request: &Request, world: &World, seen: &[Observed]) -> Option<Quiet> {
    let deleted = request.changes.iter().zip(seen).filter(|(planned, observed)| {
        planned.resource.kind == Kind::Topic && planned.desired.is_none() && **observed != Observed::Absent
    });
    let hours = deleted.filter_map(|(planned, _)| {
        let cluster = planned.resource.cluster.as_deref()?;
        Some(Quiet::hours_of(&world.cluster(cluster)?.spec))
    });
    let hours = hours.fold(0.0, f64::max);
    (hours > 0.0).then(|| Quiet { hours, ..Quiet::default() })
}

/// The row of a resource that is about to be as desired.
fn desired_row(
    managed_by: ManagedBy,
    planned: &Planned,
    desired: &Spec,
    before: Option<Resource>,
    state: ResourceState,
) -> Resource {
    let id: &ResourceId = &planned.resource;
    let service = desired.service(id).unwrap_or_default().to_owned();
    let (generation, revision) = before.as_ref().map_or((0, 0), |before| (before.generation, before.revision));
    debug_assert!(id.kind != Kind::Service || service == id.name);
    Resource {
        id: id.clone(),
        service,
        spec: desired.clone(),
        generation: generation + 1,
        revision,
        state,
        message: String::new(),
        managed_by,
        kafka_id: before.as_ref().and_then(|before| before.kafka_id.clone()),
        observed: before.as_ref().and_then(|before| before.observed.clone()),
        observed_ms: before.as_ref().and_then(|before| before.observed_ms),
        created_ms: before.map_or(0, |before| before.created_ms),
        updated_ms: 0,
    }
}
