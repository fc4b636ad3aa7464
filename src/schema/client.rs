//! The client of one schema registry, Confluent REST over HTTP.
//!
//! In: subjects, versions and ids. Out: schemas as registered, with all that they refer to. The same question asked by
//! many at once is one request; what cannot change is kept, what does not exist is not asked again for a while. Never:
//! called on the path of an event, a GUID of our own making, a credential in an error.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use dashmap::DashMap;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::cache::Bounded;
use super::connect::{self, Endpoint, MEDIA_TYPE};
use super::source::{Kind, Reference, Registered, Schema, SubjectVersion};
use crate::config;

/// Tries of one question, over all URLs; with more URLs than this, each gets one.
const TRIES_MAX: usize = 3;

/// First and longest pause between two tries; each is a random part of it (full jitter).
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Bytes of schemas that are kept.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// Bytes of answers "does not exist" that are kept.
const MISSING_BYTES_MAX: usize = 1 << 20;

/// Longest part of a registry's own message that is passed on, in characters.
const MESSAGE_CHARS_MAX: usize = 300;

/// The client. Shared; all its calls may run at once.
#[derive(Debug)]
pub struct Registry {
    name: String,
    endpoints: Vec<Endpoint>,
    /// The URL that answered last: questions begin there, so that a dead first URL does not cost each of them a timeout.
    preferred: AtomicUsize,
    http: reqwest::Client,
    timeout: Duration,
    negative_ttl: Duration,
    kept: Bounded<Arc<Registered>>,
    missing: Bounded<(Instant, RegistryError)>,
    flights: DashMap<String, Flight>,
    counts: Counts,
}

/// A question under way; whoever asks the same waits for its answer.
type Flight = Arc<OnceCell<Result<Bytes, RegistryError>>>;

/// What happened to the client's look-ups since it was made.
#[derive(Debug, Default)]
pub struct Counts {
    /// HTTP requests sent, tries included.
    pub requests: AtomicU64,
    /// Look-ups answered from memory: kept schemas and remembered absences.
    pub hits: AtomicU64,
    /// Look-ups that went to the registry.
    pub misses: AtomicU64,
    /// Look-ups that the registry did not answer: unreachable, refused, not understood.
    pub failed: AtomicU64,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A subject and its versions.
    Subject(String),
    /// One version, or the latest one.
    Version(String, Option<u32>),
    /// A schema by id.
    Id(u32),
    /// A schema by GUID.
    Guid(String),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Subject(subject) => write!(f, "subject `{subject}`"),
            Wanted::Version(subject, Some(version)) => write!(f, "version {version} of subject `{subject}`"),
            Wanted::Version(subject, None) => write!(f, "latest version of subject `{subject}`"),
            Wanted::Id(id) => write!(f, "schema with id {id}"),
            Wanted::Guid(guid) => write!(f, "schema with GUID {guid}"),
        }
    }
}

/// Why a registry gave no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The registry works and does not have it. Not asked again before the registry's `negative_ttl`.
    #[error("registry `{registry}` has no {wanted}")]
    NotFound {
        /// Name of the registry.
        registry: String,
        /// What it does not have.
        wanted: Wanted,
    },
    /// The credentials are wrong or not enough.
    #[error("registry `{registry}` ({host}) refused us with status {status}, asked for {wanted}; check `auth`")]
    Refused {
        /// Name of the registry.
        registry: String,
        /// Host and port of the URL that answered.
        host: String,
        /// HTTP status, 401 or 403.
        status: u16,
        /// What was asked for.
        wanted: Wanted,
    },
    /// No URL answered; a later try may succeed.
    #[error("registry `{registry}` did not answer in {tries} tries, asked for {wanted}; last try: {cause}")]
    Unreachable {
        /// Name of the registry.
        registry: String,
        /// What was asked for.
        wanted: Wanted,
        /// How often it was tried, over all URLs.
        tries: usize,
        /// Host and reason of the last try.
        cause: String,
    },
    /// The registry does not take a schema that was to be registered.
    #[error("registry `{registry}` ({host}) does not take a schema for {wanted}: {message} (error {code})")]
    Rejected {
        /// Name of the registry.
        registry: String,
        /// Host and port of the URL that answered.
        host: String,
        /// What was to be registered.
        wanted: Wanted,
        /// The registry's `error_code`.
        code: u64,
        /// The registry's message.
        message: String,
    },
    /// An answer that is not what the API says.
    #[error("registry `{registry}` ({host}) was asked for {wanted} and {problem}")]
    Invalid {
        /// Name of the registry.
        registry: String,
        /// Host and port of the URL that answered.
        host: String,
        /// What was asked for.
        wanted: Wanted,
        /// What it answered.
        problem: String,
    },
    /// What a schema refers to cannot be put together.
    #[error("{referrer} {problem}")]
    References {
        /// The schema that refers.
        referrer: String,
        /// What is wrong.
        problem: String,
    },
    /// The client cannot be made from its settings.
    #[error("registry `{registry}`: {problem}")]
    Settings {
        /// Name of the registry.
        registry: String,
        /// What is wrong.
        problem: String,
    },
}

impl RegistryError {
    /// Whether the registry was not there to answer, so that what is known from before may stand in.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            RegistryError::Unreachable { .. } | RegistryError::Refused { .. } | RegistryError::Invalid { .. }
        )
    }
}

impl Registry {
    /// A client by its settings. Reads the authorities' file; sends nothing.
    pub fn new(settings: &config::Registry) -> Result<Registry, RegistryError> {
        let wrong = |problem: String| RegistryError::Settings { registry: settings.name.clone(), problem };
        let endpoints = connect::endpoints(&settings.urls).map_err(wrong)?;
        let http = connect::http_client(settings, &endpoints).map_err(wrong)?;
        Ok(Registry {
            name: settings.name.clone(),
            endpoints,
            preferred: AtomicUsize::new(0),
            http,
            timeout: settings.timeout,
            negative_ttl: settings.negative_ttl,
            kept: Bounded::new(KEPT_BYTES_MAX),
            missing: Bounded::new(MISSING_BYTES_MAX),
            flights: DashMap::new(),
            counts: Counts::default(),
        })
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What happened to its look-ups so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The versions of a subject that are not deleted, ascending. Asked anew each time.
    pub async fn versions(&self, subject: &str) -> Result<Vec<u32>, RegistryError> {
        let wanted = Wanted::Subject(subject.to_owned());
        let body = self.get(&format!("/subjects/{}/versions", encode(subject)), &wanted).await?;
        let mut versions: Vec<u32> = self.parse(&body, &wanted)?;
        versions.sort_unstable();
        Ok(versions)
    }

    /// One version of a subject. It cannot change, so it is asked for once.
    pub async fn version(&self, subject: &str, version: u32) -> Result<SubjectVersion, RegistryError> {
        let wanted = Wanted::Version(subject.to_owned(), Some(version));
        let path = format!("/subjects/{}/versions/{version}", encode(subject));
        let registered = match self.kept.get(&path) {
            Some(kept) => {
                self.counts.hits.fetch_add(1, Relaxed);
                kept
            }
            None => {
                let body = self.get(&path, &wanted).await?;
                self.keep(path, self.parse_registered(&body, &wanted, None)?)
            }
        };
        Ok(SubjectVersion { subject: subject.to_owned(), version, registered: Registered::clone(&registered) })
    }

    /// The newest version of a subject. Asked anew each time.
    pub async fn latest(&self, subject: &str) -> Result<SubjectVersion, RegistryError> {
        let wanted = Wanted::Version(subject.to_owned(), None);
        let body = self.get(&format!("/subjects/{}/versions/latest", encode(subject)), &wanted).await?;
        let answer: Answer = self.parse(&body, &wanted)?;
        let version = answer.version.ok_or_else(|| self.invalid(&wanted, "answered without a version"))?;
        let registered = self.parse_registered(&body, &wanted, None)?;
        let path = format!("/subjects/{}/versions/{version}", encode(subject));
        let registered = self.keep(path, registered);
        Ok(SubjectVersion { subject: subject.to_owned(), version, registered: Registered::clone(&registered) })
    }

    /// A schema by its id. It cannot change, so it is asked for once.
    pub async fn schema(&self, id: u32) -> Result<Arc<Registered>, RegistryError> {
        let wanted = Wanted::Id(id);
        let path = format!("/schemas/ids/{id}");
        if let Some(kept) = self.kept.get(&path) {
            self.counts.hits.fetch_add(1, Relaxed);
            return Ok(kept);
        }
        let body = self.get(&path, &wanted).await?;
        Ok(self.keep(path, self.parse_registered(&body, &wanted, Some(id))?))
    }

    /// A schema by its GUID. For consumers, of values that a header names the schema of; asked anew each time.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], and [`RegistryError::Invalid`] of registries that do not know GUIDs.
    pub async fn schema_by_guid(&self, guid: &str) -> Result<Schema, RegistryError> {
        let wanted = Wanted::Guid(guid.to_owned());
        let body = self.get(&format!("/schemas/guids/{}", encode(guid)), &wanted).await?;
        // Its id is of no use here, and not every registry says it.
        Ok(self.parse_registered(&body, &wanted, Some(0))?.schema)
    }

    /// One question, asked once however many ask it.
    async fn get(&self, path: &str, wanted: &Wanted) -> Result<Bytes, RegistryError> {
        if let Some((until, error)) = self.missing.get(path)
            && Instant::now() < until
        {
            self.counts.hits.fetch_add(1, Relaxed);
            return Err(error);
        }
        let landing = Landing { flights: &self.flights, path, flight: self.board(path) };
        landing.flight.get_or_init(|| self.fetch(path, wanted)).await.clone()
    }

    fn board(&self, path: &str) -> Flight {
        Arc::clone(&self.flights.entry(path.to_owned()).or_default())
    }

    async fn fetch(&self, path: &str, wanted: &Wanted) -> Result<Bytes, RegistryError> {
        self.counts.misses.fetch_add(1, Relaxed);
        let answer = self.ask(Method::GET, path, wanted, None).await;
        match &answer {
            Err(error @ RegistryError::NotFound { .. }) => {
                let until = Instant::now() + self.negative_ttl;
                self.missing.insert(path.to_owned(), (until, error.clone()), 128);
            }
            Err(_) => {
                self.counts.failed.fetch_add(1, Relaxed);
            }
            Ok(_) => {}
        }
        answer
    }

    /// Tries the URLs in turn, from the one that answered last, until one answers or the tries are used up.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        wanted: &Wanted,
        body: Option<String>,
    ) -> Result<Bytes, RegistryError> {
        let tries = TRIES_MAX.max(self.endpoints.len());
        let first = self.preferred.load(Relaxed);
        let mut cause = String::new();
        for number in 0..tries {
            let index = (first + number) % self.endpoints.len();
            let endpoint = &self.endpoints[index];
            match self.try_once(endpoint, &method, path, wanted, body.clone()).await {
                Try::Answered(answer) => {
                    self.preferred.store(index, Relaxed);
                    return answer;
                }
                Try::Failed(problem) => cause = format!("{}: {problem}", endpoint.host),
            }
            if number + 1 < tries {
                tokio::time::sleep(jitter(number)).await;
            }
        }
        Err(RegistryError::Unreachable { registry: self.name.clone(), wanted: wanted.clone(), tries, cause })
    }

    async fn try_once(
        &self,
        endpoint: &Endpoint,
        method: &Method,
        path: &str,
        wanted: &Wanted,
        body: Option<String>,
    ) -> Try {
        self.counts.requests.fetch_add(1, Relaxed);
        let url = format!("{}{path}", endpoint.base.as_str().trim_end_matches('/'));
        let mut request = self.http.request(method.clone(), url).timeout(self.timeout);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, MEDIA_TYPE).body(body);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Try::Failed(self.reason(&error)),
        };
        let status = response.status();
        match read_limited(response).await {
            Ok(Some(body)) => self.judge(endpoint, status, body, wanted),
            Ok(None) => {
                let problem = format!("answered with more than {ANSWER_BYTES_MAX} bytes");
                Try::Answered(Err(self.invalid_at(&endpoint.host, wanted, problem)))
            }
            Err(error) => Try::Failed(self.reason(&error)),
        }
    }

    /// What an HTTP answer means: taken, refused, not there, or worth another try.
    fn judge(&self, endpoint: &Endpoint, status: StatusCode, body: Bytes, wanted: &Wanted) -> Try {
        let registry = self.name.clone();
        let (host, wanted) = (endpoint.host.clone(), wanted.clone());
        if status.is_success() {
            return Try::Answered(Ok(body));
        }
        if status == StatusCode::REQUEST_TIMEOUT || status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
        {
            return Try::Failed(format!("status {}", status.as_u16()));
        }
        let refusal: Refusal = serde_json::from_slice(&body).unwrap_or_default();
        Try::Answered(Err(match (status.as_u16(), refusal.error_code) {
            (status @ (401 | 403), _) => RegistryError::Refused { registry, host, status, wanted },
            (404, Some(40_402)) => match wanted {
                Wanted::Subject(subject) => {
                    RegistryError::NotFound { registry, wanted: Wanted::Version(subject, None) }
                }
                wanted => RegistryError::NotFound { registry, wanted },
            },
            (404, Some(40_401)) => match wanted {
                Wanted::Version(subject, _) => RegistryError::NotFound { registry, wanted: Wanted::Subject(subject) },
                wanted => RegistryError::NotFound { registry, wanted },
            },
            (404, Some(40_400..=40_499)) => RegistryError::NotFound { registry, wanted },
            (404, _) => {
                let problem = "answered 404 as for a path it does not know; is its URL that of a schema registry?";
                RegistryError::Invalid { registry, host, wanted, problem: problem.to_owned() }
            }
            (409 | 422, Some(code)) => {
                RegistryError::Rejected { registry, host, wanted, code, message: shorten(&refusal.message) }
            }
            (status, _) => {
                let problem = format!("answered with status {status}");
                RegistryError::Invalid { registry, host, wanted, problem }
            }
        }))
    }

    fn reason(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() {
            return format!("no answer within {} ms", self.timeout.as_millis());
        }
        // The innermost cause says it ("connection refused"); the outer ones repeat the URL.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        shorten(&cause.to_string())
    }

    pub(super) fn parse<'a, T: Deserialize<'a>>(&self, body: &'a [u8], wanted: &Wanted) -> Result<T, RegistryError> {
        serde_json::from_slice(body)
            .map_err(|error| self.invalid(wanted, format!("answered with JSON that does not fit: {error}")))
    }

    pub(super) fn parse_registered(
        &self,
        body: &[u8],
        wanted: &Wanted,
        id: Option<u32>,
    ) -> Result<Registered, RegistryError> {
        let answer: Answer = self.parse(body, wanted)?;
        let kind = answer.schema_type.as_deref().unwrap_or(Kind::Avro.as_str());
        let kind = Kind::parse(kind)
            .ok_or_else(|| self.invalid(wanted, format!("answered with the schema type `{}`", shorten(kind))))?;
        let id = id.or(answer.id).ok_or_else(|| self.invalid(wanted, "answered without an id"))?;
        let schema = Schema { kind, text: answer.schema, references: answer.references.unwrap_or_default() };
        Ok(Registered { id, guid: answer.guid, schema })
    }

    fn keep(&self, path: String, registered: Registered) -> Arc<Registered> {
        let registered = Arc::new(registered);
        self.kept.insert(path, Arc::clone(&registered), registered.schema.text.len());
        registered
    }

    pub(super) fn invalid(&self, wanted: &Wanted, problem: impl Into<String>) -> RegistryError {
        let host = &self.endpoints[self.preferred.load(Relaxed)].host;
        self.invalid_at(host, wanted, problem.into())
    }

    fn invalid_at(&self, host: &str, wanted: &Wanted, problem: String) -> RegistryError {
        RegistryError::Invalid { registry: self.name.clone(), host: host.to_owned(), wanted: wanted.clone(), problem }
    }
}

/// Takes a question off the board when it is answered, or when the last one who asked it has gone.
struct Landing<'a> {
    flights: &'a DashMap<String, Flight>,
    path: &'a str,
    flight: Flight,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        // Two holders are the board and this one: nobody else waits.
        self.flights.remove_if(self.path, |_, flight| {
            Arc::ptr_eq(flight, &self.flight) && (flight.initialized() || Arc::strong_count(flight) == 2)
        });
    }
}

/// What came of one request.
enum Try {
    /// An answer, good or bad, that another try would not change.
    Answered(Result<Bytes, RegistryError>),
    /// None; worth another try.
    Failed(String),
}

/// An answer about a schema. Members that an answer of one kind does not have are optional.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    schema: String,
    schema_type: Option<String>,
    id: Option<u32>,
    pub(super) version: Option<u32>,
    guid: Option<String>,
    references: Option<Vec<Reference>>,
}

#[derive(Default, Deserialize)]
struct Refusal {
    error_code: Option<u64>,
    #[serde(default)]
    message: String,
}

/// The body, or nothing when it is over the limit.
async fn read_limited(mut response: reqwest::Response) -> Result<Option<Bytes>, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

/// A random pause before the next try: between nothing and a bound that doubles, so that many clients spread out.
fn jitter(number: usize) -> Duration {
    let bound = BACKOFF_MIN.saturating_mul(1 << number.min(16)).min(BACKOFF_MAX);
    let random = (uuid::Uuid::new_v4().as_u128() >> 64) as u32;
    bound.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// A subject as one segment of a path.
pub(super) fn encode(subject: &str) -> String {
    let mut encoded = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Foreign text for one line of a message.
pub(super) fn shorten(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
