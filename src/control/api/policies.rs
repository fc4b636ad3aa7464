//! The rules: read, replaced, and tried before they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Api;
use super::extract::{Json, Params, text_header};
use super::guard::Caller;
use super::problem::{Problem, kinds};
use super::requests::{NewChange, PAGE_MAX, check_reason, etag, limit, read_spec};
use crate::control::policy::{FACTS, Table, Verdict};
use crate::control::request::{Ask, Request, RequestState};
use crate::control::resource::{ManagedBy, ResourceId};
use crate::control::store::{Audit, RequestFilter};
use crate::control::world::Change;

/// `GET /v1/policy`
pub async fn read(State(api): State<Api>) -> Response {
    let table = api.policy.load_full();
    ([(header::ETAG, etag(table.revision as i64))], axum::Json(&*table)).into_response()
}

/// What is said beside other rules.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct PutParams {
    /// Why, for the audit log.
    reason: Option<String>,
}

/// `PUT /v1/policy`
pub async fn put(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<PutParams>,
    headers: HeaderMap,
    Json(table): Json<Table>,
) -> Result<Response, Problem> {
    check(&table)?;
    let reason = params.reason.unwrap_or_default();
    check_reason(&reason)?;
    let mut tx = api.store.begin().await?;
    // Read while nobody else writes: two who replace the same table do not both succeed.
    let before = crate::control::node::policy(&api.store).await?;
    if let Some(seen) = text_header(&headers, "if-match")?
        && seen.trim() != format!("\"{}\"", before.revision)
    {
        let detail = format!("the policy is at revision {}, not {seen}", before.revision);
        return Err(Problem::new(kinds::STALE, detail));
    }
    let revision = tx.put_policy(&table, &caller.actor.name).await?;
    let hash = |table: &Table| {
        let text = serde_json::to_vec(&table.rules).expect("tables have string keys and finite numbers");
        hex::encode(Sha256::digest(&text))
    };
    tx.audit(Audit {
        actor: &caller.actor.name,
        source: &caller.source,
        verb: "put-policy",
        object: "policy",
        request: "",
        outcome: "done",
        detail: json!({ "reason": reason, "revision": revision, "before": hash(&before), "after": hash(&table), "rules": table.rules }),
    })
    .await?;
    tx.commit().await?;
    let table = Table { revision: revision as u64, ..table };
    api.policy.store(Arc::new(table.clone()));
    Ok(([(header::ETAG, etag(revision))], axum::Json(table)).into_response())
}

fn check(table: &Table) -> Result<(), Problem> {
    let known = FACTS.iter().map(|(name, _)| *name).collect();
    table.check(Some(&known)).map_err(|error| Problem::new(kinds::INVALID, error.to_string()))
}

/// The body of `POST /v1/policy:simulate`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Simulation {
    /// The rules to try.
    pub policy: Table,
    /// What would be asked for, by the caller.
    pub changes: Vec<NewChange>,
}

/// `POST /v1/policy:simulate`: what would become of these changes under other rules.
pub async fn simulate(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<Simulation>,
) -> Result<Response, Problem> {
    check(&body.policy)?;
    let changes = body.changes.into_iter().map(|change| {
        let desired = read_spec(&change.id, change.spec)?;
        Ok(Change { id: change.id, desired, if_match: change.if_match })
    });
    let ask = Ask {
        changes: changes.collect::<Result<_, Problem>>()?,
        reason: String::new(),
        dry_run: true,
        idempotency_key: None,
        managed_by: ManagedBy::Api,
        source: caller.source.clone(),
    };
    let desk = api.desk.with_policy(Arc::new(ArcSwap::from_pointee(body.policy)));
    Ok(axum::Json(desk.submit(&caller.actor, ask).await?).into_response())
}

/// The body of `POST /v1/policy:replay`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// The rules to try.
    pub policy: Table,
    /// Only requests before this one.
    #[serde(default)]
    pub before: Option<String>,
    /// Most requests to try them on, the newest first.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// What other rules would have made of requests of the past.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Replayed {
    /// Requests that were looked at.
    pub requests: u32,
    /// Changes in them.
    pub changes: u32,
    /// Changes by what the rules made of them then, and would make of them: `review -> auto`.
    pub moves: BTreeMap<String, u32>,
    /// Of the changes that nobody would have looked at any more, those of requests that somebody denied.
    pub auto_though_denied: u32,
    /// The changes that would have gone otherwise.
    pub different: Vec<Difference>,
    /// What to give as `before` for older requests; none: there are none.
    pub next: Option<String>,
}

/// A change that would have gone otherwise.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// Its request.
    pub request: String,
    /// Of what.
    #[schema(value_type = String)]
    pub resource: ResourceId,
    /// What the rules made of it then.
    pub was: Verdict,
    /// The rule of then.
    pub was_rule: Option<String>,
    /// What they would make of it.
    pub would_be: Verdict,
    /// The rule that would.
    pub would_be_rule: Option<String>,
    /// How the request ended.
    pub state: RequestState,
}

/// `POST /v1/policy:replay`: the facts of recorded requests, decided on by other rules.
pub async fn replay(State(api): State<Api>, Json(body): Json<Replay>) -> Result<Response, Problem> {
    check(&body.policy)?;
    let limit = limit(Some(body.limit.unwrap_or(PAGE_MAX)))?;
    let rows = api.store.requests::<Request>(&RequestFilter::default(), body.before.as_deref(), limit + 1).await?;
    let mut replayed = Replayed { next: None, ..Replayed::default() };
    if rows.len() > limit as usize {
        replayed.next = rows.get(limit as usize - 1).map(|row| row.id.clone());
    }
    for row in rows.into_iter().take(limit as usize) {
        replayed.requests += 1;
        for planned in row.document.changes {
            let would_be = body.policy.decide(planned.decision.facts.clone());
            replayed.changes += 1;
            let move_ = format!("{} -> {}", planned.decision.verdict.as_str(), would_be.verdict.as_str());
            *replayed.moves.entry(move_).or_default() += 1;
            if would_be.verdict == Verdict::Auto && row.document.state == RequestState::Denied {
                replayed.auto_though_denied += 1;
            }
            if would_be.verdict != planned.decision.verdict {
                replayed.different.push(Difference {
                    request: row.id.clone(),
                    resource: planned.resource,
                    was: planned.decision.verdict,
                    was_rule: planned.decision.rule,
                    would_be: would_be.verdict,
                    would_be_rule: would_be.rule,
                    state: row.document.state,
                });
            }
        }
    }
    Ok(axum::Json(replayed).into_response())
}
