//! The one place where it is decided who may come in.
//!
//! In: a request, and the right that its route needs. Out: the request with its [`Caller`], handed on; or a refusal, noted. Never:
//! a route that it does not stand before, a token in a log line, a refusal that tells one reason for not knowing somebody from
//! another.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::{debug, warn};

use super::Api;
use super::problem::{Problem, kinds};
use super::routes::{Right, Route, Scope};
use crate::auth::oidc::{Identity, OidcError};
use crate::auth::{Limiter, keys};
use crate::config;
use crate::control::actor::{Actor, Role};
use crate::control::store::Audit;
use crate::route;
use crate::serve::Peer;

/// Callers whose limits are kept; with more of them those that are idle are forgotten.
const CALLERS_MAX: usize = 10_000;
/// Refusals a second that are written into the audit log when nobody knows who was refused; others are only counted.
const NOTES_PER_SECOND: u64 = 5;
/// Most characters of a path in the audit log.
const PATH_CHARS_MAX: usize = 300;

/// Somebody who was let in.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// Who it is.
    pub actor: Actor,
    /// What for.
    pub scopes: BTreeSet<Scope>,
    /// How they are known: `token NAME`, `certificate`, `oidc`.
    pub via: String,
    /// From where: an address.
    pub source: String,
}

/// What a token of the API says of its bearer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Grant {
    /// Who they are.
    pub actor: Actor,
    /// What it may be used for.
    pub scopes: BTreeSet<Scope>,
    /// Who made it.
    pub made_by: String,
}

/// What a guard stands before.
#[derive(Clone)]
pub(super) struct Gate {
    api: Api,
    right: Right,
    time_max: std::time::Duration,
    /// Whether it takes one of the places of those that are worked on.
    takes_place: bool,
}

impl Gate {
    pub(super) fn before(api: &Api, route: &Route) -> Gate {
        Gate { api: api.clone(), right: route.right, time_max: route.time_max, takes_place: !route.is_waiting() }
    }
}

/// Stands before a route.
pub(super) async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let (api, method, version) = (gate.api.clone(), request.method().clone(), request.version());
    let mut response = pass(gate, request, next).await;
    if response.status() == StatusCode::PAYLOAD_TOO_LARGE && version < Version::HTTP_2 {
        // The rest of the body is not read, so that nothing can follow it on this connection; who sent it should know.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    api.meters.reply(&method, response.status().as_u16());
    response
}

async fn pass(gate: Gate, request: Request, next: Next) -> Response {
    let Gate { api, right, time_max, takes_place } = gate;
    let (mut head, body) = request.into_parts();
    let source = head.extensions.get::<Peer>().map(|peer| peer.address.ip().to_string()).unwrap_or_default();
    match admit(&api, right, &head, &source).await {
        Ok(None) => {}
        Ok(Some(caller)) => drop(head.extensions.insert(caller)),
        Err(refusal) => {
            api.meters.refused(refusal.outcome);
            note(&api, &head, &source, &refusal).await;
            return refusal.problem.into_response();
        }
    }
    let Ok(_place) = takes_place.then(|| api.places.try_acquire()).transpose() else {
        return Problem::new(kinds::BUSY, "too many requests at once").retry_after(1).into_response();
    };
    match tokio::time::timeout(time_max, next.run(Request::from_parts(head, body))).await {
        Ok(response) => response,
        Err(_) => Problem::new(kinds::SLOW, format!("not done within {} s", time_max.as_secs())).into_response(),
    }
}

struct Refusal {
    problem: Problem,
    /// Who it was, if that is known.
    actor: Option<String>,
    /// How it ended, in the audit log.
    outcome: &'static str,
}

async fn admit(api: &Api, right: Right, head: &Parts, source: &str) -> Result<Option<Caller>, Refusal> {
    if right == Right::Anyone {
        return Ok(None);
    }
    let unknown = |problem, outcome| Refusal { problem, actor: None, outcome };
    let caller = match identify(api, head, source).await {
        Ok(Some(caller)) => caller,
        Ok(None) => {
            let detail = "send `Authorization: Bearer TOKEN` with a token that is valid here";
            return Err(unknown(Problem::new(kinds::UNAUTHENTICATED, detail), "unauthenticated"));
        }
        Err(problem) => return Err(unknown(problem, "unavailable")),
    };
    let actor = || Some(caller.actor.name.clone());
    if let Err(wait_ms) = api.limits.take(&caller.actor.name) {
        let problem = Problem::new(kinds::RATE, "wait a moment").retry_after(wait_ms.div_ceil(1_000));
        return Err(Refusal { problem, actor: actor(), outcome: "rate_limited" });
    }
    if let Err(detail) = right.check(&caller) {
        return Err(Refusal { problem: Problem::new(kinds::FORBIDDEN, detail), actor: actor(), outcome: "forbidden" });
    }
    Ok(Some(caller))
}

impl Right {
    /// Whether a caller has it; else what they lack.
    pub fn check(self, caller: &Caller) -> Result<(), String> {
        let (scope, roles) = match self {
            Right::Anyone | Right::Known => return Ok(()),
            Right::Scoped(scope) => (scope, &[][..]),
            Right::Role(scope, roles) => (scope, roles),
        };
        if !caller.scopes.contains(&scope) {
            return Err(format!("it needs the scope `{}`", scope.as_str()));
        }
        if !roles.is_empty() && !roles.iter().any(|role| caller.actor.is(*role)) {
            let names: Vec<_> = roles.iter().map(|role| format!("`{}`", role.as_str())).collect();
            return Err(format!("it needs the role {}", names.join(" or ")));
        }
        Ok(())
    }
}

/// Who is asking; none when nobody knows.
async fn identify(api: &Api, head: &Parts, source: &str) -> Result<Option<Caller>, Problem> {
    if let Some(bearer) = bearer(&head.headers) {
        // A token of ours, or one that an operator says to begin with; those of an issuer have dots in them (RFC 7519).
        if bearer.starts_with(keys::PREFIX) || !bearer.contains('.') {
            let token = api.store.token::<Grant>(&hex::encode(keys::hash(bearer))).await?;
            return Ok(token.map(|token| Caller {
                actor: token.document.actor,
                scopes: token.document.scopes,
                via: format!("token {}", token.name),
                source: source.to_owned(),
            }));
        }
        let Some(issuer) = &api.issuer else { return Ok(None) };
        return match issuer.identify(bearer).await {
            Ok(Identity { name, groups }) => Ok(Some(api.known(name, groups, "oidc", source))),
            Err(error @ OidcError::Refused(_)) => {
                debug!(source, %error, "a token is not believed");
                Ok(None)
            }
            Err(OidcError::Unavailable(_)) => {
                let detail = "the identity provider does not answer, so nobody can tell who is asking";
                Err(Problem::new(kinds::BUSY, detail).retry_after(5))
            }
        };
    }
    let names = head.extensions.get::<Peer>().map(|peer| &*peer.names).unwrap_or_default();
    let known = names.iter().find_map(|name| api.certificates.iter().find(|known| known.name == *name));
    Ok(known.map(|known| {
        let groups = known.groups.iter().cloned().collect();
        api.known(known.name.clone(), groups, "certificate", source)
    }))
}

impl Api {
    /// A caller who is known by name and groups; those give the roles.
    fn known(&self, name: String, groups: BTreeSet<String>, via: &str, source: &str) -> Caller {
        let config::Roles { admin, auditor, expert, proxy } = &self.roles;
        let of = [(Role::Admin, admin), (Role::Auditor, auditor), (Role::Expert, expert), (Role::Proxy, proxy)];
        let has = |(_, wanted): &(Role, &Vec<String>)| wanted.iter().any(|group| groups.contains(group));
        let roles = of.into_iter().filter(has).map(|(role, _)| role).collect();
        let actor = Actor { name, groups, roles };
        Caller { scopes: scopes_of(&actor), actor, via: via.to_owned(), source: source.to_owned() }
    }
}

/// What somebody may use their own login for: of whoever is only a proxy, the snapshot.
pub(super) fn scopes_of(actor: &Actor) -> BTreeSet<Scope> {
    if actor.roles == BTreeSet::from([Role::Proxy]) {
        return BTreeSet::from([Scope::Snapshot]);
    }
    Scope::ALL.into_iter().collect()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Writes down that somebody was refused.
async fn note(api: &Api, head: &Parts, source: &str, refusal: &Refusal) {
    if refusal.actor.is_none() && api.notes.take(0, api.began.elapsed().as_millis() as u64).is_err() {
        return;
    }
    let path: String = head.uri.path().chars().take(PATH_CHARS_MAX).collect();
    debug!(source, path, outcome = refusal.outcome, "refused a caller");
    let written = async {
        let mut tx = api.store.begin().await?;
        tx.audit(Audit {
            actor: refusal.actor.as_deref().unwrap_or_default(),
            source,
            verb: &head.method.as_str().to_ascii_lowercase(),
            object: &path,
            request: "",
            outcome: refusal.outcome,
            detail: json!({ "problem": refusal.problem.detail }),
        })
        .await?;
        tx.commit().await
    };
    if let Err(error) = written.await {
        warn!(%error, "a refusal could not be written down");
    }
}

/// How often each caller may ask.
pub(super) struct Limits {
    by_actor: Mutex<HashMap<String, Limiter>>,
    per_second: u64,
    began: Instant,
}

impl Limits {
    pub(super) fn new(per_second: u64) -> Limits {
        Limits { by_actor: Mutex::default(), per_second, began: Instant::now() }
    }

    /// Takes one request of a caller, or says how many milliseconds to wait.
    fn take(&self, actor: &str) -> Result<(), u64> {
        let now_ms = self.began.elapsed().as_millis() as u64;
        let mut by_actor = self.by_actor.lock().expect("no code panics while it holds this lock");
        if !by_actor.contains_key(actor) && by_actor.len() >= CALLERS_MAX {
            // A caller that asks now and then gets a full bucket again, as it would have by now.
            by_actor.clear();
        }
        by_actor.entry(actor.to_owned()).or_insert_with(|| limiter(self.per_second)).take(0, now_ms)
    }
}

fn limiter(per_second: u64) -> Limiter {
    Limiter::new(&route::Limits { events_per_second: Some(per_second), ..route::Limits::default() })
}

/// The limit of what is noted of callers that nobody knows.
pub(super) fn notes() -> Limiter {
    limiter(NOTES_PER_SECOND)
}
