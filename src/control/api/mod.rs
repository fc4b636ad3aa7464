//! The API of the management plane: HTTP and JSON in front of the desk and the store.
//!
//! In: requests of people, of CI jobs, of `iguazu ctl`, of proxies. Out: replies; problem details for what was refused. Never:
//! decides anything, writes to Kafka, answers a route that the guard does not stand before.
//!
//! ```text
//!  serve ─▶ router ─▶ guard ─▶ handler ─▶ desk, store
//!           routes    who, and   resources, requests, tokens, secrets, …
//!                     may they
//! ```
//!
//! Every route is a row of [`routes::table`] with the right that it needs; a test goes over all rows and all roles.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::http::{HeaderValue, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::{Extension, Router};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::policy::Table;
use super::provider::Reach;
use super::reconcile::Reconciler;
use super::request::Desk;
use super::snapshot::Snapshots;
use super::store::Store;
use super::world::ClusterView;
use crate::auth::Limiter;
use crate::auth::oidc::Issuer;
use crate::config;
use crate::telemetry::certificates::Expiry;

pub mod problem;
pub mod routes;
pub mod guard;
mod audit;
mod brakes;
mod events;
mod explain;
mod extract;
mod findings;
mod health;
mod meters;
mod onboardings;
pub mod openapi;
mod policies;
mod requests;
mod resources;
mod rules;
mod secrets;
mod services;
pub mod tokens;

use extract::BODY_BYTES_MAX;
use problem::{Problem, kinds};

/// Requests that are worked on at a time.
const PLACES: usize = 256;

/// What the handlers work with. Clones are the same.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

/// See [`Api`].
pub struct Inner {
    /// The store.
    pub store: Store,
    /// Where changes are asked for.
    pub desk: Desk,
    /// The rules in force.
    pub policy: Arc<ArcSwap<Table>>,
    /// What is known of the clusters.
    pub clusters: Arc<ArcSwap<BTreeMap<String, ClusterView>>>,
    /// Clusters, store and seal.
    pub reach: Reach,
    /// Is told when there may be something to apply.
    pub wake: Arc<Notify>,
    /// Ends what waits.
    pub stop: CancellationToken,
    /// What is really there, as it was seen last.
    pub reconciler: Reconciler,
    snapshots: Arc<Snapshots>,
    meters: meters::Meters,
    bootstrap_file: Option<std::path::PathBuf>,
    issuer: Option<Issuer>,
    roles: config::Roles,
    certificates: Vec<config::Certificate>,
    limits: guard::Limits,
    notes: Limiter,
    places: Semaphore,
    expiries: Expiries,
    began: Instant,
}

/// Reads when the certificates of a node end.
pub type Expiries = Box<dyn Fn() -> Vec<Expiry> + Send + Sync>;

/// What an API is put together from.
pub struct Parts {
    /// The store.
    pub store: Store,
    /// Where changes are asked for.
    pub desk: Desk,
    /// The rules in force.
    pub policy: Arc<ArcSwap<Table>>,
    /// What is known of the clusters.
    pub clusters: Arc<ArcSwap<BTreeMap<String, ClusterView>>>,
    /// Clusters, store and seal.
    pub reach: Reach,
    /// Is told when there may be something to apply.
    pub wake: Arc<Notify>,
    /// Ends what waits.
    pub stop: CancellationToken,
    /// What is really there, as it was seen last.
    pub reconciler: Reconciler,
    /// What proxies poll for.
    pub snapshots: Arc<Snapshots>,
    /// The file of the token that the first admin comes in with.
    pub bootstrap_file: Option<std::path::PathBuf>,
    /// Who says who somebody is.
    pub issuer: Option<Issuer>,
    /// Which groups have which roles.
    pub roles: config::Roles,
    /// Callers by a name in their certificate.
    pub certificates: Vec<config::Certificate>,
    /// Requests a second that one caller may make.
    pub requests_per_second: u64,
    /// Asked with every scrape.
    pub expiries: Expiries,
}

impl Api {
    /// An API over these.
    pub fn new(parts: Parts) -> Api {
        let Parts { store, desk, policy, clusters, reach, wake, stop, snapshots, bootstrap_file, .. } = parts;
        let Parts { reconciler, issuer, roles, certificates, requests_per_second, expiries, .. } = parts;
        Api(Arc::new(Inner {
            store,
            desk,
            policy,
            clusters,
            reach,
            wake,
            stop,
            reconciler,
            snapshots,
            meters: meters::Meters::default(),
            bootstrap_file,
            issuer,
            roles,
            certificates,
            limits: guard::Limits::new(requests_per_second),
            notes: guard::notes(),
            places: Semaphore::new(PLACES),
            expiries,
            began: Instant::now(),
        }))
    }
}

impl FromRef<Api> for Arc<Snapshots> {
    fn from_ref(api: &Api) -> Self {
        Arc::clone(&api.snapshots)
    }
}

impl Deref for Api {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// The rows of the table, each behind its guard.
pub fn router(api: &Api, rows: Vec<routes::Route>) -> Router {
    let mount = |router: Router<Api>, row: routes::Route| {
        let gate = guard::Gate::before(api, &row);
        let handler = match row.kind {
            Some(kind) => row.handler.layer(Extension(kind)),
            None => row.handler,
        };
        router.route(&row.path, handler.layer(from_fn_with_state(gate, guard::guard)))
    };
    let nowhere = || async { Problem::new(kinds::NOT_FOUND, "there is no such path; /v1/openapi.json lists them") };
    let no_method = || async { Problem::new(kinds::METHOD, "the path is there, the method is not") };
    rows.into_iter()
        .fold(Router::new(), mount)
        .method_not_allowed_fallback(no_method)
        .fallback(nowhere)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(map_response(as_ours))
        .with_state(api.clone())
}

/// What holds for every reply: nobody keeps it, nobody shows it as something else than it is.
async fn as_ours(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    response
}

#[cfg(test)]
mod tests;
