//! `GET /v1/snapshot?after=REVISION&proxies=N&wait=SECONDS&proxy=NAME`: the long poll.
//!
//! In: what a proxy has. Out: 200 with a signed snapshot as soon as there is another one or another share, without the document for
//! whoever has it; 204 when the wait is over. Never: waits longer than [`WAIT_MAX`], or holds more polls than there is room for;
//! says whether a proxy may ask: that is decided before.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::warn;

use super::{Current, PRESENT, Snapshots};
use crate::control::store::ProxySeen;

/// Longest wait of one poll.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What a proxy says.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Poll {
    /// The revision that it has; none: nothing.
    pub after: Option<u64>,
    /// The share that it has.
    pub proxies: Option<u32>,
    /// How long it waits for another, in seconds.
    #[serde(default)]
    pub wait: u64,
    /// Its name, the same in all its runs; whoever gives none is not counted.
    #[serde(default)]
    pub proxy: String,
}

/// The keys that snapshots are signed with.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct PublicKeys {
    /// `ed25519:BASE64` of each: what `routes.public_key` of a proxy is.
    pub public_keys: Vec<String>,
}

/// The proxies that live by snapshots.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Proxies {
    /// The newest revision; none before there is any.
    pub revision: Option<u64>,
    /// Those that have asked of late, by name.
    pub items: Vec<Proxy>,
}

/// A proxy.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Proxy {
    /// Its name.
    pub name: String,
    /// The revision that it had when it asked last.
    pub revision: u64,
    /// How long ago that was, in seconds.
    pub seen_seconds_ago: u64,
}

/// The routes, for a server that has decided before who may ask: proxies for the first, everybody who may read for the others.
pub fn router(snapshots: Arc<Snapshots>) -> Router {
    let router = Router::new().route("/v1/snapshot", get(wait_for_snapshot)).route("/v1/snapshot/keys", get(show_keys));
    router.route("/v1/proxies", get(show_proxies)).with_state(snapshots)
}

/// Waits for another snapshot.
pub async fn wait_for_snapshot(State(snapshots): State<Arc<Snapshots>>, Query(poll): Query<Poll>) -> Response {
    let Ok(_room) = Arc::clone(&snapshots.room).try_acquire_owned() else {
        return refuse("too many proxies wait on this node");
    };
    let _visit = snapshots.fleet.enter(&poll.proxy, poll.after.unwrap_or_default());
    let until = Instant::now() + Duration::from_secs(poll.wait).min(WAIT_MAX);
    let mut news = snapshots.current.subscribe();
    loop {
        let current = news.borrow_and_update().clone();
        if let Some(current) = current.filter(|current| current.is_news_to(&poll)) {
            return current.reply_to(&poll);
        }
        tokio::select! {
            changed = news.changed() => if changed.is_err() { break },
            () = tokio::time::sleep_until(until) => break,
            () = snapshots.stopping.cancelled() => break,
        }
    }
    StatusCode::NO_CONTENT.into_response()
}

/// Shows the public keys. They are no secret.
pub async fn show_keys(State(snapshots): State<Arc<Snapshots>>) -> axum::Json<PublicKeys> {
    let public_keys = snapshots.keys.public().iter().map(ToString::to_string).collect();
    axum::Json(PublicKeys { public_keys })
}

/// Shows who lives by snapshots, and which they have.
pub async fn show_proxies(State(snapshots): State<Arc<Snapshots>>) -> Response {
    let revision = snapshots.current.borrow().as_ref().map(|current| current.revision);
    match snapshots.store.proxies(PRESENT.as_millis() as i64).await {
        Ok(seen) => {
            let item = |seen: ProxySeen| Proxy {
                name: seen.name,
                revision: seen.revision.max(0) as u64,
                seen_seconds_ago: seen.ago_ms.max(0) as u64 / 1_000,
            };
            axum::Json(Proxies { revision, items: seen.into_iter().map(item).collect() }).into_response()
        }
        Err(error) => {
            warn!(%error, "who lives by snapshots cannot be read");
            refuse("the store cannot be read")
        }
    }
}

impl Current {
    /// Also an older one is news: a proxy refuses it, and says so where its operators see it.
    fn is_news_to(&self, poll: &Poll) -> bool {
        poll.after != Some(self.revision) || poll.proxies.is_some_and(|proxies| proxies != self.proxies)
    }

    fn reply_to(&self, poll: &Poll) -> Response {
        let has_document = poll.after == Some(self.revision);
        let body = if has_document { self.brief.clone() } else { self.whole.clone() };
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
    }
}

fn refuse(detail: &str) -> Response {
    let problem = serde_json::json!({
        "type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": detail, "violations": [],
    });
    let body = problem.to_string();
    let headers = [(header::CONTENT_TYPE, "application/problem+json"), (header::RETRY_AFTER, "2")];
    (StatusCode::SERVICE_UNAVAILABLE, headers, body).into_response()
}
