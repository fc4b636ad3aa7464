//! Requests: asked for, looked at, agreed to.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Api;
use super::extract::{Id, Json, MaybeJson, Params, text_header};
use super::guard::Caller;
use super::problem::{Problem, kinds};
use crate::control::origin::Origin;
use crate::control::provider::Step;
use crate::control::request::{Ask, Request, RequestState};
use crate::control::resource::{ManagedBy, ResourceId, Spec};
use crate::control::store::{RequestFilter, RequestRow, StepState};
use crate::control::world::Change;

/// Entries of a page when nobody says how many, and at most.
pub(super) const PAGE: u32 = 100;
pub(super) const PAGE_MAX: u32 = 1_000;
/// Most characters of a reason, and of an idempotency key.
const REASON_CHARS_MAX: usize = 2_000;
const KEY_CHARS_MAX: usize = 200;
/// Most characters of a file's name.
const FILE_CHARS_MAX: usize = 500;

/// A request as it is shown.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RequestView {
    /// The request.
    #[serde(flatten)]
    pub request: Request,
    /// What is done for it, step by step; empty until it is applied.
    pub steps: Vec<StepView>,
    /// When it came in, milliseconds since 1970.
    pub created_ms: i64,
    /// When it changed last.
    pub updated_ms: i64,
}

/// A step as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StepView {
    /// Its place, from 0.
    pub seq: i64,
    /// What it is done to.
    #[schema(value_type = String)]
    pub target: ResourceId,
    /// One sentence.
    pub summary: String,
    /// Whether something is gone afterwards that nobody can bring back.
    pub is_destructive: bool,
    /// How far it has come.
    pub state: StepState,
    /// How often it was begun.
    pub attempts: i64,
    /// What came of it.
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
}

/// A part of a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// What to give as `after` for the next one; none: this is the last.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The first `limit` of what was found; there is a next page when more was.
    pub(super) fn of(mut items: Vec<T>, limit: u32, name: impl Fn(&T) -> String) -> Page<T> {
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().filter(|_| more).map(name);
        Page { items, next }
    }
}

/// What is asked of a page of requests.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    /// Only those in this state.
    state: Option<RequestState>,
    /// Only those about this service.
    service: Option<String>,
    /// Only those of this caller.
    actor: Option<String>,
    /// Only those after this one: `next` of a page.
    after: Option<String>,
    /// How many, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// `GET /v1/requests`
pub async fn list(State(api): State<Api>, Params(params): Params<ListParams>) -> Result<Response, Problem> {
    let limit = limit(params.limit)?;
    let filter = RequestFilter {
        state: params.state.map(|state| state.as_str().to_owned()),
        service: params.service,
        actor: params.actor,
    };
    let rows = api.store.requests::<Request>(&filter, params.after.as_deref(), limit + 1).await?;
    let views = rows.into_iter().map(|row| view(row, Vec::new())).collect();
    Ok(axum::Json(Page::of(views, limit, |view: &RequestView| view.request.id.clone())).into_response())
}

/// `GET /v1/requests/{id}`
pub async fn read(State(api): State<Api>, Id(id): Id) -> Result<Response, Problem> {
    let row = find(&api, &id).await?;
    let etag = etag(row.revision);
    let steps = steps(&api, &id).await?;
    Ok(([(header::ETAG, etag)], axum::Json(view(row, steps))).into_response())
}

/// The body of `POST /v1/requests`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRequest {
    /// The changes; each resource at most once.
    pub changes: Vec<NewChange>,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Which side asks; the API, unless a repository does.
    #[serde(default = "by_api")]
    pub managed_by: ManagedBy,
    /// Whether this side takes over what another one manages.
    #[serde(default)]
    pub take_over: bool,
}

fn by_api() -> ManagedBy {
    ManagedBy::Api
}

/// One change that is asked for.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewChange {
    /// Of what: `topic/core/orders`.
    #[schema(value_type = String)]
    pub id: ResourceId,
    /// What it is to be; null: it is to go.
    #[schema(value_type = Option<Object>)]
    pub spec: Option<Value>,
    /// The revision that the caller has seen.
    #[serde(default)]
    pub if_match: Option<i64>,
    /// The file that it comes from, in the repository that asks: whoever else would change it is told its name.
    #[serde(default)]
    pub file: Option<String>,
}

/// The parameters of everything that asks for a change.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ChangeParams {
    /// Whether only to say what would become of it.
    #[serde(default)]
    pub dry_run: bool,
    /// Why.
    pub reason: Option<String>,
}

/// `POST /v1/requests`
pub async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<ChangeParams>,
    headers: HeaderMap,
    Json(body): Json<NewRequest>,
) -> Result<Response, Problem> {
    let mut violations = Vec::new();
    let mut changes = Vec::with_capacity(body.changes.len().min(1_000));
    let mut origin = Origin { take_over: body.take_over, ..Origin::default() };
    for change in body.changes {
        if let Some(file) = change.file {
            check_file(&file)?;
            origin.files.insert(change.id.clone(), file);
        }
        match read_spec(&change.id, change.spec) {
            Ok(desired) => changes.push(Change { id: change.id, desired, if_match: change.if_match }),
            Err(problem) => violations.extend(problem.violations),
        }
    }
    if !violations.is_empty() {
        let detail = format!("{} specs cannot be read", violations.len());
        return Err(Problem { violations, ..Problem::new(kinds::INVALID, detail) });
    }
    let reason = if body.reason.is_empty() { params.reason.unwrap_or_default() } else { body.reason };
    let wish = Wish { changes, reason, dry_run: params.dry_run, managed_by: body.managed_by, origin };
    submit(&api, &caller, &headers, wish).await
}

fn check_file(file: &str) -> Result<(), Problem> {
    match file.chars().count() {
        1..=FILE_CHARS_MAX if !file.contains(char::is_control) => Ok(()),
        _ => {
            let detail = format!("`file` has 1 to {FILE_CHARS_MAX} characters, none of them a control character");
            Err(Problem::new(kinds::MALFORMED, detail))
        }
    }
}

/// A spec of the kind that the name says.
pub(super) fn read_spec(id: &ResourceId, spec: Option<Value>) -> Result<Option<Spec>, Problem> {
    let Some(value) = spec.filter(|value| !value.is_null()) else { return Ok(None) };
    Spec::read(id.kind, value).map(Some).map_err(|error| Problem::field(id, &error.field, &error.problem))
}

/// What a handler asks of the desk.
pub(super) struct Wish {
    pub(super) changes: Vec<Change>,
    pub(super) reason: String,
    pub(super) dry_run: bool,
    pub(super) managed_by: ManagedBy,
    pub(super) origin: Origin,
}

impl Wish {
    /// Changes from the API.
    pub(super) fn of_all(changes: Vec<Change>, reason: String, dry_run: bool) -> Wish {
        Wish { changes, reason, dry_run, managed_by: ManagedBy::Api, origin: Origin::default() }
    }

    /// One change, from the API.
    pub(super) fn of(change: Change, params: ChangeParams) -> Wish {
        let reason = params.reason.unwrap_or_default();
        Wish::of_all(vec![change], reason, params.dry_run)
    }
}

/// Asks for changes: 200 for what was only tried, 202 for what is taken in, a problem for what the rules refuse.
pub(super) async fn submit(api: &Api, caller: &Caller, headers: &HeaderMap, wish: Wish) -> Result<Response, Problem> {
    let asked: BTreeMap<ResourceId, Option<Spec>> =
        wish.changes.iter().map(|change| (change.id.clone(), change.desired.clone())).collect();
    let is_same = |request: &Request| {
        // What goes along with what was asked for was not asked for: grants on a topic that is deleted.
        let known =
            request.changes.iter().filter(|planned| !planned.is_along() || asked.contains_key(&planned.resource));
        let known = known.map(|planned| (planned.resource.clone(), planned.desired.clone()));
        known.collect::<BTreeMap<_, _>>() == asked
    };
    submit_if(api, caller, headers, wish, is_same).await
}

/// [`submit`] with another way to tell whether the request that has the same idempotency key is the one that is asked for.
pub(super) async fn submit_if(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    wish: Wish,
    is_same: impl Fn(&Request) -> bool,
) -> Result<Response, Problem> {
    check_names(&wish.changes)?;
    let key = idempotency_key(caller, headers, wish.dry_run)?;
    check_reason(&wish.reason)?;
    let ask = Ask {
        changes: wish.changes,
        reason: wish.reason,
        dry_run: wish.dry_run,
        idempotency_key: key.clone(),
        managed_by: wish.managed_by,
        source: caller.source.clone(),
    };
    let request = api.desk.submit_from(&caller.actor, ask, &wish.origin).await?;
    if key.is_some() && !is_same(&request) {
        return Err(another(request));
    }
    taken_in(api, request, wish.dry_run)
}

/// The reply to what was asked for before with the same idempotency key: for those whose changes follow from what there is, which
/// is another once they are made.
pub(super) async fn known_as(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    dry_run: bool,
    is_same: impl Fn(&Request) -> bool,
) -> Result<Option<Response>, Problem> {
    let Some(key) = idempotency_key(caller, headers, dry_run)? else { return Ok(None) };
    let mut tx = api.store.begin().await?;
    let Some(known) = tx.request_by_key::<Request>(&key).await? else { return Ok(None) };
    match known.document {
        request if is_same(&request) => taken_in(api, request, dry_run).map(Some),
        request => Err(another(request)),
    }
}

fn another(request: Request) -> Problem {
    let detail = format!("the idempotency key is that of request `{}`, which asks for something else", request.id);
    Problem { request: Some(request.id), ..Problem::new(kinds::CONFLICT, detail) }
}

/// Refuses names that cannot be read back from what is kept of them: those with nothing or a `/` where a name should be.
fn check_names(changes: &[Change]) -> Result<(), Problem> {
    let is_read_back = |change: &&Change| change.id.to_string().parse().as_ref() == Ok(&change.id);
    let Some(wrong) = changes.iter().find(|change| !is_read_back(change)) else { return Ok(()) };
    let detail =
        format!("`{}` names no resource; it is KIND/NAME, or KIND/CLUSTER/NAME for what is on a cluster", wrong.id);
    Err(Problem::new(kinds::INVALID, detail))
}

/// The caller's name of a request. Whose it is belongs to it: nobody is shown another one's request for guessing a key.
pub(super) fn idempotency_key(caller: &Caller, headers: &HeaderMap, dry_run: bool) -> Result<Option<String>, Problem> {
    let Some(key) = text_header(headers, "idempotency-key")?.filter(|_| !dry_run) else { return Ok(None) };
    if key.is_empty() || key.len() > KEY_CHARS_MAX {
        let detail = format!("header `idempotency-key` has 1 to {KEY_CHARS_MAX} characters");
        return Err(Problem::new(kinds::MALFORMED, detail));
    }
    Ok(Some(format!("{}\n{key}", caller.actor.name)))
}

/// The reply to a request as the desk took it.
pub(super) fn taken_in(api: &Api, request: Request, dry_run: bool) -> Result<Response, Problem> {
    if dry_run {
        return Ok((StatusCode::OK, axum::Json(request)).into_response());
    }
    api.meters.decided(&request);
    if request.state == RequestState::Rejected {
        return Err(Problem::rejected(&request));
    }
    api.wake.notify_one();
    let place = HeaderValue::try_from(format!("/v1/requests/{}", request.id)).expect("an id is ASCII");
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, place)], axum::Json(request)).into_response())
}

/// The body of an approval or denial.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// The hash of the plan that was looked at; without it the plan is taken as it is now.
    #[serde(default)]
    pub plan_hash: Option<String>,
}

/// `POST /v1/requests/{id}/approve`
pub async fn approve(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    MaybeJson(body): MaybeJson<Judgement>,
) -> Result<Response, Problem> {
    check_reason(&body.reason)?;
    let hash = match body.plan_hash {
        Some(hash) => hash,
        None => find(&api, &id).await?.plan_hash,
    };
    let request = api.desk.approve(&caller.actor, &id, &hash, &body.reason, &caller.source).await?;
    api.wake.notify_one();
    Ok(axum::Json(request).into_response())
}

/// `POST /v1/requests/{id}/deny`
pub async fn deny(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    MaybeJson(body): MaybeJson<Judgement>,
) -> Result<Response, Problem> {
    check_reason(&body.reason)?;
    let request = api.desk.deny(&caller.actor, &id, &body.reason, &caller.source).await?;
    Ok(axum::Json(request).into_response())
}

/// `POST /v1/requests/{id}/call_off`
pub async fn call_off(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    MaybeJson(body): MaybeJson<Judgement>,
) -> Result<Response, Problem> {
    check_reason(&body.reason)?;
    let request = api.desk.call_off(&caller.actor, &id, &body.reason, &caller.source).await?;
    api.wake.notify_one();
    Ok(axum::Json(request).into_response())
}

pub(super) fn check_reason(reason: &str) -> Result<(), Problem> {
    let length = reason.chars().count();
    if length <= REASON_CHARS_MAX {
        return Ok(());
    }
    let detail = format!("a reason has at most {REASON_CHARS_MAX} characters, this one has {length}");
    Err(Problem::new(kinds::MALFORMED, detail))
}

pub(super) async fn find(api: &Api, id: &str) -> Result<RequestRow<Request>, Problem> {
    api.store.request::<Request>(id).await?.ok_or_else(|| Problem::not_found(format_args!("request {id}")))
}

pub(super) async fn steps(api: &Api, id: &str) -> Result<Vec<StepView>, Problem> {
    let rows = api.store.steps::<Step>(id).await?;
    let view = |row: crate::control::store::StepRow<Step>| {
        let Step { target, summary, is_destructive, .. } = row.document;
        let (seq, state, attempts, result) = (row.seq, row.state, row.attempts, row.result);
        StepView { seq, target, summary, is_destructive, state, attempts, result }
    };
    Ok(rows.into_iter().map(view).collect())
}

pub(super) fn view(row: RequestRow<Request>, steps: Vec<StepView>) -> RequestView {
    RequestView { request: row.document, steps, created_ms: row.created_ms, updated_ms: row.updated_ms }
}

/// How many entries a page has.
pub(super) fn limit(asked: Option<u32>) -> Result<u32, Problem> {
    match asked.unwrap_or(PAGE) {
        limit @ 1..=PAGE_MAX => Ok(limit),
        limit => {
            let detail = format!("`limit` is {limit}; it must be from 1 to {PAGE_MAX}");
            Err(Problem::new(kinds::MALFORMED, detail))
        }
    }
}

/// A revision as a validator of HTTP.
pub(super) fn etag(revision: i64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\"")).expect("digits are ASCII")
}
