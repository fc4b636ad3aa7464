//! What is not as it should be: listed, looked into, settled.

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::Api;
use super::extract::{Id, MaybeJson, Named, Params};
use super::guard::Caller;
use super::problem::{Problem, kinds};
use super::requests::{ChangeParams, Page, check_reason, idempotency_key, limit, taken_in};
use crate::control::reconcile::{Finding, FindingKind, ReconcileError, SettleError, Settlement, Way};

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
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// `GET /v1/findings`
pub async fn list(State(api): State<Api>, Params(params): Params<ListParams>) -> Result<Response, Problem> {
    let limit = limit(params.limit)?;
    let ListParams { cluster, kind, after, .. } = params;
    let found = api.reconciler.findings(cluster.as_deref(), kind, after.as_deref(), limit + 1).await?;
    Ok(axum::Json(Page::of(found, limit, |finding: &Finding| finding.id.clone())).into_response())
}

/// Why something is decided.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Because {
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `POST /v1/findings/{id}/accept`: what is there becomes what is desired.
pub async fn accept(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Params(params): Params<ChangeParams>,
    headers: HeaderMap,
    MaybeJson(body): MaybeJson<Because>,
) -> Result<Response, Problem> {
    settle(&api, &caller, &headers, (&id, Way::Accept), params, body).await
}

/// `POST /v1/findings/{id}/restore`: what is desired is made so again.
pub async fn restore(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Params(params): Params<ChangeParams>,
    headers: HeaderMap,
    MaybeJson(body): MaybeJson<Because>,
) -> Result<Response, Problem> {
    settle(&api, &caller, &headers, (&id, Way::Restore), params, body).await
}

async fn settle(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    (finding, way): (&str, Way),
    params: ChangeParams,
    body: Because,
) -> Result<Response, Problem> {
    let reason = body.reason.or(params.reason).unwrap_or_default();
    check_reason(&reason)?;
    let idempotency_key = idempotency_key(caller, headers, params.dry_run)?;
    let source = &*caller.source;
    let settlement = Settlement { finding, way, reason: &reason, source, dry_run: params.dry_run, idempotency_key };
    let request = api.reconciler.settle(&caller.actor, &settlement).await?;
    taken_in(api, request, params.dry_run)
}

/// `GET /v1/topics/{cluster}/{name}/diagnosis`: the topic looked at now.
pub async fn diagnose(State(api): State<Api>, Named(id): Named) -> Result<Response, Problem> {
    Ok(axum::Json(api.reconciler.diagnose(&id).await?).into_response())
}

impl From<SettleError> for Problem {
    fn from(error: SettleError) -> Self {
        let detail = error.to_string();
        match error {
            SettleError::Store(error) => error.into(),
            SettleError::Request(error) => error.into(),
            SettleError::Unknown { .. } => Problem::new(kinds::NOT_FOUND, detail),
            SettleError::NoWay { .. } | SettleError::Gone => Problem::new(kinds::CONFLICT, detail),
            SettleError::Unseen(_) => Problem::new(kinds::CLUSTER, detail).retry_after(5),
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
