//! Calls of the management API.
//!
//! In: a method, a path, a body. Out: the reply as JSON, or a [`ClientError`] that holds everything that the API said is wrong. Never: a
//! redirect that is followed, a reply without bound, a write that is sent again without a key that makes it the same one.

use std::time::{Duration, UNIX_EPOCH};

use bytes::BytesMut;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, RETRY_AFTER};
use reqwest::{Method, Response, Url};
use serde::Deserialize;
use serde_json::Value;

use super::place::Place;
use crate::cli::{Failure, with_causes};
use crate::control::resource::{ResourceId, Violation};
use crate::dev::trust::trust;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a reply may take: a request over 500 resources is planned in one transaction.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a look whether it is there may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest reply that is held in memory: a page of resources has some hundred kilobytes.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// How often a call is tried that may be sent again.
const TRIES: u32 = 4;
/// The longest pause before another try, whatever the API asks for.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Resources of one page of a list.
pub(super) const PAGE: u32 = 500;

/// The API.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    place: Place,
}

/// Why there is no answer to use.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub(super) enum ClientError {
    #[error("cannot reach the management API at {url} (named by {named_by})")]
    Unreachable { url: Url, named_by: String, source: reqwest::Error },
    #[error("the management API at {url} broke off its reply")]
    Broken { url: Url, source: reqwest::Error },
    #[error("the reply of {url} is larger than {REPLY_BYTES_MAX} bytes")]
    TooLarge { url: Url },
    #[error("{url} answered {status}, which is none of the management API's: is it another server?")]
    NotOurs { url: Url, status: u16 },
    #[error("the reply of {url} has another form than this `iguazu ctl` knows; are client and server of one version?")]
    Unknown { url: Url, source: serde_json::Error },
    #[error("{}", .0.told())]
    Refused(Box<Problem>),
}

/// What the API says when it refuses (RFC 9457).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    pub status: u16,
    #[serde(rename = "type")]
    pub code: String,
    pub title: String,
    pub detail: String,
    pub violations: Vec<Violation>,
}

impl Problem {
    /// All of it, a line for each thing that is wrong and one for what would be right.
    pub(super) fn told(&self) -> String {
        let mut text = match (self.title.is_empty(), self.detail.is_empty()) {
            (false, false) if self.title != self.detail => format!("{}: {}", self.title, self.detail),
            (false, _) => self.title.clone(),
            (true, false) => self.detail.clone(),
            (true, true) => format!("the management API answered {}", self.status),
        };
        if self.status == 401 {
            text.push_str("\n  a token is needed, or this one is not valid (any more): `--token-file FILE`");
        }
        for violation in &self.violations {
            text.push('\n');
            text.push_str(&told(violation));
        }
        text
    }
}

/// One thing that is wrong: where, what, by which rule, and what would be right.
pub(super) fn told(violation: &Violation) -> String {
    let Violation { resource, field, rule, problem, fix } = violation;
    let field = if field.is_empty() { String::new() } else { format!(" {field}") };
    format!("  {resource}{field}: {problem} (rule {rule})\n    fix: {fix}")
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::because(error)
    }
}

impl Client {
    pub(super) fn new(place: Place) -> Result<Client, Failure> {
        let tls = trust(place.ca.as_deref()).map_err(|error| Failure::Usage(with_causes(&error)))?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(REPLY_TIMEOUT)
            .build()
            .map_err(Failure::because)?;
        Ok(Client { http, place })
    }

    /// Where it is.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// An address below the API's: these segments, each as it is.
    pub(super) fn at<'s>(&self, segments: impl IntoIterator<Item = &'s str>) -> Url {
        let mut url = self.place.url.clone();
        url.path_segments_mut().expect("http and https addresses have paths").pop_if_empty().extend(segments);
        url
    }

    /// The address of a resource.
    pub(super) fn of(&self, id: &ResourceId) -> Url {
        let cluster = id.cluster.as_deref();
        self.at(["v1", id.kind.plural()].into_iter().chain(cluster).chain([id.name.as_str()]))
    }

    /// Reads. Tried again when nobody answers.
    pub(super) async fn get(&self, url: Url) -> Result<Value, ClientError> {
        self.call(Method::GET, url, None, None).await
    }

    /// Asks for something that is not done twice: tried again under one key.
    pub(super) async fn ask(&self, url: Url, body: &Value) -> Result<Value, ClientError> {
        self.ask_by(Method::POST, url, body).await
    }

    /// [`Client::ask`] by another method.
    pub(super) async fn ask_by(&self, method: Method, url: Url, body: &Value) -> Result<Value, ClientError> {
        let key = uuid::Uuid::new_v4().to_string();
        self.call(method, url, Some(body), Some(&key)).await
    }

    /// Sends something once.
    pub(super) async fn send(&self, method: Method, url: Url, body: Option<&Value>) -> Result<Value, ClientError> {
        let response = self.begin(&method, &url, body, None, Some(REPLY_TIMEOUT)).await?;
        self.finish(url, response).await
    }

    /// Everything of a list, or the first `limit` of it.
    pub(super) async fn list(&self, url: Url, limit: Option<usize>) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let keep = |item| {
            items.push(item);
            Ok(())
        };
        self.pages(url, limit, keep).await?;
        Ok(items)
    }

    /// All items of a list, page by page; each goes to `take`, which says whether it wants more.
    pub(super) async fn pages(
        &self,
        url: Url,
        limit: Option<usize>,
        mut take: impl FnMut(Value) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut left = limit.unwrap_or(usize::MAX);
        let mut after: Option<String> = None;
        while left > 0 {
            let mut page = url.clone();
            page.query_pairs_mut().append_pair("limit", &left.min(PAGE as usize).to_string());
            if let Some(after) = &after {
                page.query_pairs_mut().append_pair("after", after);
            }
            let mut reply = self.get(page).await?;
            let Value::Array(items) = reply["items"].take() else { return Ok(()) };
            for item in items.into_iter().take(left) {
                left -= 1;
                take(item)?;
            }
            match reply["next"].take() {
                // A server that sends the same place again would have us ask for ever.
                Value::String(next) if after.as_ref() != Some(&next) => after = Some(next),
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// Looks whether it is there: its status, what it says, and its clock, milliseconds since 1970.
    pub(super) async fn probe(&self, url: Url) -> Result<(u16, Value, Option<i64>), ClientError> {
        let response = self.begin(&Method::GET, &url, None, None, Some(PROBE_TIMEOUT)).await?;
        let status = response.status().as_u16();
        let date = response.headers().get(DATE).and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok());
        let date_ms = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_millis() as i64);
        let body = self.body(&url, response).await?;
        let said = serde_json::from_slice(&body).map_err(|_| ClientError::NotOurs { url, status })?;
        Ok((status, said, date_ms))
    }

    /// Opens a reply that comes in parts: lines of a log, events.
    pub(super) async fn stream(&self, url: &Url, accept: &str) -> Result<Response, ClientError> {
        let mut request = self.http.get(url.clone()).header(ACCEPT, accept);
        if let Some(authorization) = &self.place.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = request.send().await.map_err(|source| self.unreachable(url, source))?;
        if response.status().is_success() {
            return Ok(response);
        }
        match self.finish(url.clone(), response).await {
            Err(error) => Err(error),
            Ok(_) => Err(ClientError::NotOurs { url: url.clone(), status: 0 }),
        }
    }

    async fn call(
        &self,
        method: Method,
        url: Url,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<Value, ClientError> {
        let mut number = 0;
        loop {
            number += 1;
            let begun = self.begin(&method, &url, body, key, Some(REPLY_TIMEOUT)).await;
            let pause = match &begun {
                Ok(response) if matches!(response.status().as_u16(), 429 | 503) => retry_after(response, number),
                // Nobody listens: that does not pass in the time that we would wait.
                Err(ClientError::Unreachable { source, .. }) if source.is_connect() => None,
                Err(_) => Some(pause(number)),
                Ok(_) => None,
            };
            match pause {
                Some(pause) if number < TRIES => tokio::time::sleep(pause).await,
                _ => return self.finish(url, begun?).await,
            }
        }
    }

    async fn begin(
        &self,
        method: &Method,
        url: &Url,
        body: Option<&Value>,
        key: Option<&str>,
        timeout: Option<Duration>,
    ) -> Result<Response, ClientError> {
        let mut request = self.http.request(method.clone(), url.clone());
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        if let Some(authorization) = &self.place.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        request.send().await.map_err(|source| self.unreachable(url, source))
    }

    fn unreachable(&self, url: &Url, source: reqwest::Error) -> ClientError {
        // The message of the cause has the address with its query in it; it is told once.
        let (named_by, source) = (self.place.named_by.clone(), source.without_url());
        let mut url = url.clone();
        url.set_query(None);
        url.set_path("");
        ClientError::Unreachable { url, named_by, source }
    }

    async fn finish(&self, url: Url, response: Response) -> Result<Value, ClientError> {
        let status = response.status();
        let content_type =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_json = content_type.contains("json");
        let body = self.body(&url, response).await?;
        if status.is_success() && body.is_empty() {
            return Ok(Value::Null);
        }
        if !is_json {
            return Err(ClientError::NotOurs { url, status: status.as_u16() });
        }
        let unknown = |source| ClientError::Unknown { url: url.clone(), source };
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(unknown);
        }
        let problem: Problem = serde_json::from_slice(&body).map_err(unknown)?;
        Err(ClientError::Refused(Box::new(Problem { status: status.as_u16(), ..problem })))
    }

    async fn body(&self, url: &Url, mut response: Response) -> Result<BytesMut, ClientError> {
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= REPLY_BYTES_MAX => body.extend_from_slice(&chunk),
                Ok(Some(_)) => return Err(ClientError::TooLarge { url: url.clone() }),
                Ok(None) => return Ok(body),
                Err(source) => return Err(ClientError::Broken { url: url.clone(), source: source.without_url() }),
            }
        }
    }
}

/// How long the API wants to be left alone; none when it does not want to be asked again.
fn retry_after(response: &Response, number: u32) -> Option<Duration> {
    let told = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs);
    Some(told.unwrap_or_else(|| pause(number)).min(PAUSE_MAX))
}

fn pause(number: u32) -> Duration {
    Duration::from_millis(200 << number.min(5)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_violation_is_told_with_its_field_and_its_fix() {
        let text = r#"{ "type": "rejected", "title": "the request is refused", "detail": "2 things are wrong with it",
            "violations": [
                { "resource": "topic/core/x", "field": "capacity.consumers", "rule": "range", "problem": "0 is too few", "fix": "say 1 or more" },
                { "resource": "service/x", "field": "", "rule": "not-yours", "problem": "it is not yours", "fix": "ask its owner" } ] }"#;
        let problem: Problem = serde_json::from_str(text).expect("a problem");
        assert_eq!(
            problem.told(),
            "the request is refused: 2 things are wrong with it\n  \
             topic/core/x capacity.consumers: 0 is too few (rule range)\n    fix: say 1 or more\n  \
             service/x: it is not yours (rule not-yours)\n    fix: ask its owner"
        );
    }
}
