//! What is really there: findings and what to do about them, a topic looked at now, what of each cluster is spoken for.

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::Api;
use super::explain::views;
use super::extract::{Id, Named, Params};
use super::guard::Caller;
use super::problem::{Problem, kinds};
use super::requests::{ChangeParams, Page, answer, check_reason, idempotency_key, limit};
use crate::control::reconcile::budget::{BrokerBudget, Rung};
use crate::control::reconcile::{self, FindingKind, ReconcileError, SettleError, Settlement, Way};
use crate::control::resource::ClusterMode;

/// What is asked of a page of findings.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    /// Only those on this cluster.
    cluster: Option<String>,
    /// Only those of this kind.
    kind: Option<FindingKind>,
    /// Only those after this one: `next` of a page.
    after: Option<String>,
    /// How many, 1 to 1000.
    limit: Option<u32>,
}

/// `GET /v1/findings`
pub async fn list(State(api): State<Api>, Params(params): Params<ListParams>) -> Result<Response, Problem> {
    let limit = limit(params.limit)?;
    let (cluster, after) = (params.cluster.as_deref(), params.after.as_deref());
    let found = api.reconciler.findings(cluster, params.kind, after, limit + 1).await?;
    Ok(axum::Json(Page::of(found, limit, |finding| finding.id.clone())).into_response())
}

/// `POST /v1/findings/{id}/accept`: what is there becomes what is desired.
pub async fn accept(
    state: State<Api>,
    caller: Extension<Caller>,
    id: Id,
    params: Params<ChangeParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    settle(Way::Accept, state, caller, id, params, &headers).await
}

/// `POST /v1/findings/{id}/restore`: what is desired is made so again.
pub async fn restore(
    state: State<Api>,
    caller: Extension<Caller>,
    id: Id,
    params: Params<ChangeParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    settle(Way::Restore, state, caller, id, params, &headers).await
}

async fn settle(
    way: Way,
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Id(finding): Id,
    Params(params): Params<ChangeParams>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let reason = params.reason.unwrap_or_default();
    check_reason(&reason)?;
    let settlement = Settlement {
        finding: &finding,
        way,
        reason: &reason,
        source: &caller.source,
        dry_run: params.dry_run,
        idempotency_key: idempotency_key(&caller, headers, params.dry_run)?,
    };
    let request = api.reconciler.settle(&caller.actor, &settlement).await?;
    answer(&api, params.dry_run, request)
}

/// `GET /v1/topics/{cluster}/{name}/diagnosis`: the topic is looked at now.
pub async fn diagnose(State(api): State<Api>, Named(id): Named) -> Result<Response, Problem> {
    super::resources::find(&api, &id).await?;
    Ok(axum::Json(api.reconciler.diagnose(&id).await?).into_response())
}

/// What of a cluster is spoken for.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Budget {
    /// The cluster.
    pub cluster: String,
    /// Whose it is.
    pub mode: ClusterMode,
    /// Bytes of disk over all brokers.
    pub disk_bytes: Amount,
    /// Partitions, copies counted.
    pub partitions: Amount,
    /// Bytes a second of all producers at the peak.
    pub ingress_bytes_per_second: Amount,
    /// Bytes that topics which nobody manages here may come to take.
    pub unmanaged_bytes: u64,
    /// What the fullest disk asks for.
    pub rung: Rung,
    /// Each broker, with when its disks are full at the rate of now.
    pub brokers: Vec<BrokerBudget>,
    /// When it was looked at, milliseconds since 1970; none: never.
    pub at_ms: Option<i64>,
}

/// A limit, and what is left of it.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Amount {
    /// Most; none: nobody has said, and nobody knows.
    pub limit: Option<u64>,
    /// What is spoken for.
    pub reserved: u64,
    /// What is left.
    pub free: Option<u64>,
}

impl Amount {
    fn of(limit: Option<u64>, reserved: u64) -> Amount {
        Amount { limit, reserved, free: limit.map(|limit| limit.saturating_sub(reserved)) }
    }
}

/// `GET /v1/budgets`
pub async fn budgets(State(api): State<Api>) -> Result<Response, Problem> {
    let views = views(&api).await?;
    let view = |budget: reconcile::Budget| Budget {
        mode: views.get(&budget.cluster).map(|view| view.spec.mode).unwrap_or_default(),
        disk_bytes: Amount { free: budget.free_bytes, ..Amount::of(budget.disk_bytes, budget.reserved_bytes) },
        partitions: Amount::of(budget.partitions_max.map(u64::from), budget.partitions),
        ingress_bytes_per_second: Amount::of(budget.ingress_max, budget.ingress),
        unmanaged_bytes: budget.unmanaged_bytes,
        rung: budget.rung,
        brokers: budget.brokers,
        at_ms: budget.at_ms,
        cluster: budget.cluster,
    };
    let items = api.reconciler.budgets().await?.into_iter().map(view).collect();
    Ok(axum::Json(Page { items, next: None }).into_response())
}

impl From<SettleError> for Problem {
    fn from(error: SettleError) -> Self {
        let detail = error.to_string();
        match error {
            SettleError::Store(error) => error.into(),
            SettleError::Request(error) => error.into(),
            SettleError::Unknown { .. } => Problem::new(kinds::NOT_FOUND, detail),
            SettleError::NoWay { .. } | SettleError::Gone => Problem::new(kinds::CONFLICT, detail),
            SettleError::Unseen(_) => Problem::new(kinds::CLUSTER, detail),
        }
    }
}

impl From<ReconcileError> for Problem {
    fn from(error: ReconcileError) -> Self {
        let detail = error.to_string();
        match error {
            ReconcileError::Store(error) => error.into(),
            ReconcileError::Request(error) => error.into(),
            ReconcileError::NotRegistered { .. } | ReconcileError::NotConfigured { .. } => {
                Problem::new(kinds::NOT_FOUND, detail)
            }
            ReconcileError::NotOurs { .. } => Problem::new(kinds::CONFLICT, detail),
            ReconcileError::Unseen { .. } | ReconcileError::OtherCluster { .. } => {
                Problem::new(kinds::CLUSTER, detail).retry_after(5)
            }
        }
    }
}
