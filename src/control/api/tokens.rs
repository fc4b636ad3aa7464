//! Tokens of the API: made, listed, taken away; and the one that the first admin comes in with.
//!
//! Never: keeps a token in clear, makes one that may more than whoever asks for it.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::{info, warn};

use super::Api;
use super::extract::{Id, Json};
use super::guard::{Caller, Grant};
use super::problem::{Problem, kinds};
use super::requests::Page;
use super::routes::Scope;
use crate::auth::keys;
use crate::config::Secret;
use crate::control::actor::{Actor, Role};
use crate::control::private_file;
use crate::control::store::{Audit, Store, StoreError, Token};

/// Name of the token that the first admin comes in with.
const BOOTSTRAP: &str = "bootstrap";
/// How long a token lasts when nobody says: ninety days.
const HOURS: u64 = 90 * 24;
const HOURS_MAX: u64 = 366 * 24;
const HOUR_MS: i64 = 3_600_000;
/// Most characters of a name, and most groups.
const NAME_CHARS_MAX: usize = 100;
const GROUPS_MAX: usize = 200;

/// Who is asking, as they are known.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Me {
    /// Name, groups and roles.
    #[serde(flatten)]
    pub actor: Actor,
    /// What they may do.
    pub scopes: BTreeSet<Scope>,
    /// How they are known.
    pub via: String,
}

/// `GET /v1/me`
pub async fn me(Extension(caller): Extension<Caller>) -> Response {
    let Caller { actor, scopes, via, .. } = caller;
    axum::Json(Me { actor, scopes, via }).into_response()
}

/// The body of `POST /v1/tokens`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Its name: there is one of each.
    pub name: String,
    /// Who its bearer is; only an admin may name somebody else than themselves. By default the caller, for an admin `name`.
    #[serde(default)]
    pub actor: Option<String>,
    /// The groups that its bearer is in; by default the caller's.
    #[serde(default)]
    pub groups: Option<BTreeSet<String>>,
    /// The roles that its bearer has; by default none, of the first token `admin`.
    #[serde(default)]
    pub roles: Option<BTreeSet<Role>>,
    /// What it may be used for; by default all that its bearer may but for `tokens` and `admin`.
    #[serde(default)]
    pub scopes: Option<BTreeSet<Scope>>,
    /// For how long it lasts; by default ninety days. 0: for ever, which only an admin may say.
    #[serde(default)]
    pub expires_hours: Option<u64>,
}

/// A token as it is shown.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TokenView {
    /// Its name.
    pub name: String,
    /// Who its bearer is, what it may be used for, and who made it.
    #[serde(flatten)]
    pub grant: Grant,
    /// When it ends, milliseconds since 1970.
    pub expires_ms: Option<i64>,
}

/// A token, this once.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
pub struct MadeToken {
    /// What to send as `Authorization: Bearer …`.
    pub token: String,
    /// What is kept of it.
    #[serde(flatten)]
    pub view: TokenView,
}

/// `GET /v1/tokens`: the caller's own; an admin sees all.
pub async fn list(State(api): State<Api>, Extension(caller): Extension<Caller>) -> Result<Response, Problem> {
    let tokens = api.store.tokens::<Grant>().await?;
    let views = tokens.into_iter().filter(|token| may_see(&caller, &token.document));
    let items = views.map(|token| TokenView { name: token.name, grant: token.document, expires_ms: token.expires_ms });
    Ok(axum::Json(Page { items: items.collect(), next: None }).into_response())
}

fn may_see(caller: &Caller, grant: &Grant) -> bool {
    caller.actor.is(Role::Admin) || grant.actor.name == caller.actor.name || grant.made_by == caller.actor.name
}

/// `POST /v1/tokens`
pub async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Json(new): Json<NewToken>,
) -> Result<Response, Problem> {
    let is_first = caller.actor.name == BOOTSTRAP && caller.via == format!("token {BOOTSTRAP}");
    let (name, hours) = (new.name.clone(), new.expires_hours);
    let grant = granted(&caller, new, is_first)?;
    let random = |_| Problem::new(kinds::INTERNAL, "the system's random generator failed");
    let (token, hash) = keys::fresh().map_err(random)?;
    let mut tx = api.store.begin().await?;
    let known = api.store.tokens::<Grant>().await?;
    if known.iter().any(|token| token.name == name) {
        return Err(Problem::new(kinds::CONFLICT, format!("there is a token named `{name}`; take it away first")));
    }
    let expires_ms = match hours.unwrap_or(HOURS) {
        0 => None,
        hours => Some(tx.now_ms() + hours as i64 * HOUR_MS),
    };
    if is_first {
        // Used up in the same transaction: of two who come with it at once, one comes too late.
        if !known.iter().any(|token| token.name == BOOTSTRAP && !is_used(token)) {
            return Err(Problem::new(kinds::UNAUTHENTICATED, "the bootstrap token was used"));
        }
        tx.put_token(&used(tx.now_ms())).await?;
    }
    let kept = Token { hash: hex::encode(hash), name: name.clone(), document: grant.clone(), expires_ms };
    tx.put_token(&kept).await?;
    tx.audit(Audit {
        actor: &caller.actor.name,
        source: &caller.source,
        verb: "create-token",
        object: &name,
        request: "",
        outcome: "done",
        detail: json!({ "grant": grant, "expires_ms": expires_ms }),
    })
    .await?;
    tx.commit().await?;
    // One that is not there is another node's, and of no use any more.
    if is_first
        && let Some(file) = &api.bootstrap_file
        && let Err(error) = std::fs::remove_file(file)
        && error.kind() != ErrorKind::NotFound
    {
        warn!(file = %file.display(), %error, "the file of the used bootstrap token cannot be removed");
    }
    let made = MadeToken { token, view: TokenView { name, grant, expires_ms } };
    Ok((StatusCode::CREATED, axum::Json(made)).into_response())
}

/// What the new token may, or why not.
fn granted(caller: &Caller, new: NewToken, is_first: bool) -> Result<Grant, Problem> {
    let forbid = |what: &str| Err(Problem::new(kinds::FORBIDDEN, format!("a token may not more than you: {what}")));
    let refuse = |detail: String| Err(Problem::new(kinds::INVALID, detail));
    let length = new.name.chars().count();
    if length == 0 || length > NAME_CHARS_MAX || new.name.contains(|c: char| c == '/' || c.is_control()) {
        return refuse(format!("`name` has 1 to {NAME_CHARS_MAX} characters, none of them `/` or a control character"));
    }
    if new.groups.as_ref().is_some_and(|groups| groups.len() > GROUPS_MAX) {
        return refuse(format!("`groups` has at most {GROUPS_MAX} entries"));
    }
    let is_admin = is_first || caller.actor.is(Role::Admin);
    if !is_admin {
        match new.expires_hours {
            Some(0) => return forbid("`expires_hours` of 0"),
            _ if new.actor.as_ref().is_some_and(|actor| *actor != caller.actor.name) => return forbid("`actor`"),
            _ if new.groups.as_ref().is_some_and(|groups| !groups.is_subset(&caller.actor.groups)) => {
                return forbid("`groups`");
            }
            _ if new.roles.as_ref().is_some_and(|roles| !roles.is_subset(&caller.actor.roles)) => {
                return forbid("`roles`");
            }
            _ if new.scopes.as_ref().is_some_and(|scopes| !scopes.is_subset(&caller.scopes)) => {
                return forbid("`scopes`");
            }
            _ => {}
        }
    }
    if new.expires_hours.is_some_and(|hours| hours > HOURS_MAX) {
        return refuse(format!("`expires_hours` is at most {HOURS_MAX}"));
    }
    let name = match new.actor {
        Some(actor) if actor.is_empty() || actor == BOOTSTRAP || actor.chars().count() > NAME_CHARS_MAX => {
            return refuse(format!("`actor` has 1 to {NAME_CHARS_MAX} characters, and is not `{BOOTSTRAP}`"));
        }
        Some(actor) => actor,
        None if is_admin => new.name,
        None => caller.actor.name.clone(),
    };
    let first = if is_first { BTreeSet::from([Role::Admin]) } else { BTreeSet::new() };
    let own = if is_admin { BTreeSet::new() } else { caller.actor.groups.clone() };
    let actor = Actor { name, groups: new.groups.unwrap_or(own), roles: new.roles.unwrap_or(first) };
    let scopes = new.scopes.unwrap_or_else(|| {
        let may = super::guard::scopes_of(&actor);
        let is_plain =
            |scope: &Scope| is_admin && actor.is(Role::Admin) || !matches!(scope, Scope::Tokens | Scope::Admin);
        may.into_iter().filter(|scope| is_plain(scope) && (is_admin || caller.scopes.contains(scope))).collect()
    });
    Ok(Grant { actor, scopes, made_by: caller.actor.name.clone() })
}

/// `DELETE /v1/tokens/{name}`: one's own; an admin may take any away.
pub async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Id(name): Id,
) -> Result<Response, Problem> {
    let mut tx = api.store.begin().await?;
    let known = api.store.tokens::<Grant>().await?.into_iter().find(|token| token.name == name);
    // What is not theirs is not theirs to know of. The mark of the used bootstrap token stays, so that there is never another.
    if known.is_none_or(|token| !may_see(&caller, &token.document) || name == BOOTSTRAP) {
        return Err(Problem::not_found(format_args!("token {name}")));
    }
    tx.delete_token(&name).await?;
    tx.audit(Audit {
        actor: &caller.actor.name,
        source: &caller.source,
        verb: "delete-token",
        object: &name,
        request: "",
        outcome: "done",
        detail: json!({}),
    })
    .await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Where the token comes from that the first admin comes in with.
#[derive(Clone, Copy, Debug)]
pub enum First<'a> {
    /// The operator says it. While it was not used, each start takes what is said then.
    Said(&'a Secret),
    /// It is made, if none ever was, and put into this file, which only its owner may read.
    Made(&'a Path),
}

/// Sees to it that there is a token that the first admin comes in with, unless it was used: it makes another token, once, and
/// does nothing else.
pub async fn bootstrap(store: &Store, first: First<'_>) -> Result<(), BootstrapError> {
    let mut tx = store.begin().await?;
    let known = store.tokens::<Grant>().await?.into_iter().find(|token| token.name == BOOTSTRAP);
    let hash = match (first, known) {
        (_, Some(known)) if is_used(&known) => return Ok(()),
        (First::Made(_), Some(_)) => return Ok(()),
        (First::Said(token), known) => {
            let hash = keys::hash(token.expose());
            if known.is_some_and(|known| known.hash == hex::encode(hash)) {
                return Ok(());
            }
            hash
        }
        (First::Made(file), None) => {
            let (token, hash) = keys::fresh()?;
            private_file::write(file, &token)
                .map_err(|source| BootstrapError::File { file: file.to_owned(), source })?;
            hash
        }
    };
    let document = Grant {
        actor: Actor { name: BOOTSTRAP.to_owned(), groups: BTreeSet::new(), roles: BTreeSet::new() },
        scopes: BTreeSet::from([Scope::Tokens]),
        made_by: "control".to_owned(),
    };
    tx.put_token(&Token { hash: hex::encode(hash), name: BOOTSTRAP.to_owned(), document, expires_ms: None }).await?;
    tx.commit().await?;
    match first {
        First::Made(file) => {
            info!(file = %file.display(), "the first token of an admin is made with the one in this file")
        }
        First::Said(_) => info!("the first token of an admin is made with the one in `control.bootstrap_token_file`"),
    }
    Ok(())
}

/// Why there is no token to begin with.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum BootstrapError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Random(#[from] keys::NoRandomness),
    #[error("`{}` cannot be written: {source}", file.display())]
    File { file: std::path::PathBuf, source: std::io::Error },
}

/// What is left of the bootstrap token: its name, so that there is never another one. It opens nothing, so that it has no end that
/// somebody would have to be told of.
fn used(now_ms: i64) -> Token<Grant> {
    let actor = Actor { name: BOOTSTRAP.to_owned(), groups: BTreeSet::new(), roles: BTreeSet::new() };
    let document = Grant { actor, scopes: BTreeSet::new(), made_by: "control".to_owned() };
    Token { hash: format!("used-{now_ms}"), name: BOOTSTRAP.to_owned(), document, expires_ms: None }
}

fn is_used(bootstrap: &Token<Grant>) -> bool {
    bootstrap.document.scopes.is_empty()
}
