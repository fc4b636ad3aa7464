//! An embedded schema registry: for `iguazu dev`, and for tests.
//!
//! In: HTTP on one address, normally a loopback one. Out: the part of Confluent's REST API that serializers, deserializers
//! and our own client use. Kept in memory, or in one file that is replaced whole. It checks that a schema compiles, that its
//! references exist and that it may follow its older versions (JSON Schemas always may). Two texts of one schema are one
//! schema, as if every request said `normalize=true`. Metadata, rules and modes but READWRITE and READONLY are refused, not
//! dropped. Never: for
//! production; it has one user's rights and no replication.
//!
//! Tests can make it slow, make it fail, and ask how often it was asked what.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use dashmap::DashMap;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

mod api;
mod judge;
mod state;
mod store;

use api::{Answer, Ask};
use store::Store;

use crate::schema::compatibility::Level;

/// Largest request body.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Open connections; further ones wait in the listener's queue.
const CONNECTIONS_MAX: usize = 256;

/// How long request headers and a body may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Paths that are counted apart. Paths are input, so there is a bound.
const COUNTED_PATHS_MAX: usize = 10_000;

/// What a registry is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Folder of its file; none keeps everything in memory.
    pub folder: Option<PathBuf>,
    /// Credentials that it asks for; none: nobody is asked.
    pub login: Option<Login>,
    /// Compatibility level of an empty registry, until somebody sets another.
    pub level: Level,
}

impl Default for Options {
    /// In memory, on a free loopback port, for everybody.
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Options { listen, folder: None, login: None, level: Level::default() }
    }
}

/// Credentials that requests must carry.
#[derive(Clone, Debug)]
pub enum Login {
    /// HTTP basic: user name and password.
    Basic(String, String),
    /// A bearer token.
    Bearer(String),
}

/// A running registry. Dropping it stops it without waiting for requests under way.
#[derive(Debug)]
pub struct EmbeddedRegistry {
    addr: SocketAddr,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    /// The whole header that is wanted, where one is.
    authorization: Option<String>,
    delay_ms: AtomicU64,
    failing: AtomicU16,
    requests: AtomicU64,
    by_path: DashMap<String, u64>,
}

impl EmbeddedRegistry {
    /// Starts a registry on the current runtime. Errors: the address is taken, the file is damaged or of a newer format.
    pub async fn start(options: Options) -> io::Result<EmbeddedRegistry> {
        let (folder, level) = (options.folder.clone(), options.level);
        let store =
            tokio::task::spawn_blocking(move || Store::open(folder, level)).await.map_err(io::Error::other)??;
        let listener = TcpListener::bind(options.listen).await?;
        let shared = Arc::new(Shared {
            store,
            authorization: options.login.as_ref().map(Login::header),
            delay_ms: AtomicU64::new(0),
            failing: AtomicU16::new(0),
            requests: AtomicU64::new(0),
            by_path: DashMap::new(),
        });
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let addr = listener.local_addr()?;
        tasks.spawn(accept(listener, Arc::clone(&shared), tasks.clone(), stopping.clone()));
        Ok(EmbeddedRegistry { addr, shared, tasks, stopping })
    }

    /// Base URL, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops listening, ends all connections and waits until they are gone.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Makes every answer wait so long, for tests. Zero: no wait.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.delay_ms.store(delay.as_millis() as u64, Relaxed);
    }

    /// Makes every answer this HTTP status, for tests. None: as usual.
    pub fn set_failing(&self, status: Option<u16>) {
        self.shared.failing.store(status.unwrap_or(0), Relaxed);
    }

    /// Requests so far, those refused or made to fail included.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Relaxed)
    }

    /// Requests so far for one path as sent, without its query (`/subjects/a/versions`).
    pub fn requests_for(&self, path: &str) -> u64 {
        self.shared.by_path.get(path).map_or(0, |count| *count)
    }
}

impl Drop for EmbeddedRegistry {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

impl Login {
    fn header(&self) -> String {
        match self {
            Login::Basic(username, password) => format!("Basic {}", BASE64.encode(format!("{username}:{password}"))),
            Login::Bearer(token) => format!("Bearer {token}"),
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tasks: TaskTracker, stopping: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = tokio::select! {
            () = stopping.cancelled() => return,
            place = Arc::clone(&places).acquire_owned() => place.expect("the semaphore is never closed"),
        };
        let stream = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match stream {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "a connection to the embedded registry could not be accepted");
                // Out of file descriptors, most likely: accepting again at once would only spin.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (shared, stopping) = (Arc::clone(&shared), stopping.clone());
        tasks.spawn(async move {
            let _place = place;
            let service = service_fn(|request| answer(Arc::clone(&shared), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(READ_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = stopping.cancelled() => {}
                ended = connection => if let Err(error) = ended {
                    debug!(%error, "a connection to the embedded registry ended badly");
                }
            }
        });
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    shared.count(request.uri().path());
    let delay = Duration::from_millis(shared.delay_ms.load(Relaxed));
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if let Ok(status) = StatusCode::from_u16(shared.failing.load(Relaxed)) {
        return Ok(respond(Answer::error(status.as_u16(), u32::from(status.as_u16()), "made to fail")));
    }
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if shared.authorization.is_some() && shared.authorization.as_deref() != given {
        return Ok(respond(Answer::error(401, 40_101, "authentication is needed")));
    }
    let (head, body) = request.into_parts();
    let body = match tokio::time::timeout(READ_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return Ok(respond(Answer::error(413, 42_209, "the body is over 4 MiB, or was cut off"))),
        Err(_) => return Ok(respond(Answer::error(408, 408, "the body did not arrive in time"))),
    };
    let ask = Ask::new(head.method.as_str(), head.uri.path(), head.uri.query().unwrap_or(""), &body);
    // Compiling takes milliseconds and the file is synced: not on a thread that serves others.
    let answered = tokio::task::spawn_blocking(move || shared.store.answer(&ask)).await;
    Ok(respond(answered.unwrap_or_else(|_| Answer::error(500, 50_001, "a bug of the embedded registry"))))
}

impl Shared {
    fn count(&self, path: &str) {
        self.requests.fetch_add(1, Relaxed);
        if let Some(mut count) = self.by_path.get_mut(path) {
            *count += 1;
        } else if self.by_path.len() < COUNTED_PATHS_MAX {
            *self.by_path.entry(path.to_owned()).or_default() += 1;
        }
    }
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media_type = hyper::header::HeaderValue::from_static("application/vnd.schemaregistry.v1+json");
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

#[cfg(test)]
mod tests;
