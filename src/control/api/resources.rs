//! The collections, one of each kind: list, read, ask for a change.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::extract::{JsonBytes, Named, Params, text_header};
use super::guard::Caller;
use super::problem::{Problem, kinds};
use super::requests::{ChangeParams, PAGE_MAX, Page, Wish, etag, limit, read_spec, submit};
use super::{Api, explain};
use crate::control::resource::{AccessSpec, Kind, Level, ResourceId, SenderSpec, Spec, UserSpec};
use crate::control::store::{Filter, Page as StorePage, Resource, ResourceState};
use crate::control::world::{Change, ClusterView};

/// A resource as it is shown.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ResourceView {
    /// The resource.
    #[serde(flatten)]
    pub resource: Resource,
    /// What it costs a month by the prices of its cluster, where that has any: topics only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly_cost: Option<f64>,
}

impl ResourceView {
    fn of(resource: Resource, views: &BTreeMap<String, ClusterView>) -> ResourceView {
        ResourceView { monthly_cost: explain::monthly_cost(&resource, views), resource }
    }
}

/// What is asked of a page of resources.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    /// Only what is on this cluster.
    cluster: Option<String>,
    /// Only what this service owns.
    service: Option<String>,
    /// Only what has this text in its name, service or description.
    q: Option<String>,
    /// Only what has come this far.
    state: Option<ResourceState>,
    /// Only what comes after this one: `next` of a page.
    after: Option<String>,
    /// How many, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// `GET /v1/topics` and so on.
pub async fn list(
    State(api): State<Api>,
    Extension(kind): Extension<Kind>,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    page(&api, Some(kind), params).await
}

/// `GET /v1/search`: resources of every kind.
pub async fn search(State(api): State<Api>, Params(params): Params<ListParams>) -> Result<Response, Problem> {
    page(&api, None, params).await
}

async fn page(api: &Api, kind: Option<Kind>, params: ListParams) -> Result<Response, Problem> {
    let limit = limit(params.limit)?;
    let after = params.after.map(|after| after.parse()).transpose();
    let after: Option<ResourceId> =
        after.map_err(|error| Problem::new(kinds::MALFORMED, format!("`after`: {error}; take `next` of a page")))?;
    let filter = Filter {
        kind,
        cluster: params.cluster,
        service: params.service,
        text: params.q.filter(|text| !text.is_empty()),
        state: params.state,
    };
    let found = api.store.resources(&filter, &StorePage { after, limit: limit + 1 }).await?;
    let views = explain::views(api).await?;
    let shown = found.into_iter().map(|resource| ResourceView::of(resource, &views)).collect();
    Ok(axum::Json(Page::of(shown, limit, |view: &ResourceView| view.resource.id.to_string())).into_response())
}

/// `GET /v1/topics/{cluster}/{name}` and so on.
pub async fn read(State(api): State<Api>, Named(id): Named) -> Result<Response, Problem> {
    let view = ResourceView::of(find(&api, &id).await?, &explain::views(&api).await?);
    Ok(([(header::ETAG, etag(view.resource.revision))], axum::Json(view)).into_response())
}

/// `PUT /v1/topics/{cluster}/{name}` and so on.
pub async fn put(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    Params(params): Params<ChangeParams>,
    headers: HeaderMap,
    JsonBytes(body): JsonBytes,
) -> Result<Response, Problem> {
    let value =
        serde_json::from_slice(&body).map_err(|error| Problem::new(kinds::MALFORMED, format!("body: {error}")))?;
    let desired = read_spec(&id, Some(value))?;
    if desired.is_none() {
        return Err(Problem::new(kinds::MALFORMED, "body: a spec is an object; DELETE takes a resource away"));
    }
    let if_match = seen(&headers)?;
    submit(&api, &caller, &headers, Wish::of(Change { id, desired, if_match }, params)).await
}

/// `DELETE /v1/topics/{cluster}/{name}` and so on.
pub async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    Params(params): Params<ChangeParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let if_match = seen(&headers)?;
    submit(&api, &caller, &headers, Wish::of(Change { id, desired: None, if_match }, params)).await
}

/// The parameters of a rotation.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct RotateParams {
    /// Whether only to say what would become of it.
    #[serde(default)]
    pub dry_run: bool,
    /// Why.
    pub reason: Option<String>,
    /// Users only: a second user (`NAME.b`, or `NAME` of that one) with the same grants gets the new password, so that nobody is
    /// locked out before they have switched; take the first one away afterwards.
    #[serde(default)]
    pub overlap: bool,
}

/// `POST /v1/users/{cluster}/{name}/rotate`, `POST /v1/senders/{name}/rotate`: a new password or key.
pub async fn rotate(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    Params(params): Params<RotateParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let resource = find(&api, &id).await?;
    let RotateParams { dry_run, reason, overlap } = params;
    let changes = if overlap {
        twin(&api, resource).await?
    } else {
        let desired = renewed(resource.spec).ok_or_else(|| no_secret(&id))?;
        // Two who rotate at once get one new secret, not two.
        let if_match = seen(&headers)?.or(Some(resource.revision));
        vec![Change { id, desired: Some(desired), if_match }]
    };
    let wish = Wish::of_all(changes, reason.unwrap_or_default(), dry_run);
    submit(&api, &caller, &headers, wish).await
}

fn no_secret(id: &ResourceId) -> Problem {
    Problem::new(kinds::CONFLICT, format!("`{id}` has no secret that could be changed"))
}

/// The same with its next secret; none for what has none.
pub(super) fn renewed(spec: Spec) -> Option<Spec> {
    match spec {
        Spec::User(user) => Some(Spec::User(UserSpec { generation: user.generation.saturating_add(1), ..user })),
        Spec::Sender(sender) => {
            Some(Spec::Sender(SenderSpec { generation: sender.generation.saturating_add(1), ..sender }))
        }
        _ => None,
    }
}

/// The other one of two users that take turns, with a new password and the grants of this one.
async fn twin(api: &Api, resource: Resource) -> Result<Vec<Change>, Problem> {
    let (Spec::User(user), Some(cluster)) = (&resource.spec, &resource.id.cluster) else {
        return Err(Problem::new(
            kinds::MALFORMED,
            "`overlap` is for users; the keys of a sender overlap by themselves",
        ));
    };
    let name = resource.id.name.strip_suffix(".b").map_or_else(|| format!("{}.b", resource.id.name), str::to_owned);
    let id = ResourceId::on(Kind::User, cluster, &name);
    let known = api.store.resource(&id).await?;
    let (desired, if_match) = match known {
        Some(known) => (renewed(known.spec).ok_or_else(|| no_secret(&id))?, Some(known.revision)),
        None => (Spec::User(UserSpec { generation: 1, ..user.clone() }), Some(0)),
    };
    let mut changes = vec![Change { id, desired: Some(desired), if_match }];
    let filter = Filter { kind: Some(Kind::Access), cluster: Some(cluster.clone()), ..Filter::default() };
    let filter = Filter { service: Some(user.service.clone()), ..filter };
    let grants = api.store.resources(&filter, &StorePage { after: None, limit: PAGE_MAX }).await?;
    for grant in grants {
        let Spec::Access(access) = grant.spec else { continue };
        // What is published goes through a sender, which may have the same name.
        if access.principal != resource.id.name || access.level == Level::Publish {
            continue;
        }
        let access = AccessSpec { principal: name.clone(), ..access };
        let id = ResourceId::on(Kind::Access, cluster, &access.name());
        changes.push(Change { id, desired: Some(Spec::Access(access)), if_match: None });
    }
    Ok(changes)
}

pub(super) async fn find(api: &Api, id: &ResourceId) -> Result<Resource, Problem> {
    api.store.resource(id).await?.ok_or_else(|| Problem::not_found(id))
}

/// The revision that the caller has seen: of `If-Match`, or none at all by `If-None-Match: *`.
fn seen(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let malformed = |name: &str, what: &str| Problem::new(kinds::MALFORMED, format!("header `{name}` must be {what}"));
    if let Some(none) = text_header(headers, "if-none-match")? {
        return if none == "*" { Ok(Some(0)) } else { Err(malformed("if-none-match", "`*`")) };
    }
    let Some(text) = text_header(headers, "if-match")? else { return Ok(None) };
    let revision = text.trim().strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let revision = revision.and_then(|digits| digits.parse().ok()).filter(|revision| *revision > 0);
    revision.map(Some).ok_or_else(|| malformed("if-match", "one revision in quotes, as `ETag` gives it"))
}
