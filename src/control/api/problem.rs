//! What a refusal looks like: problem details (RFC 9457), with everything that is wrong in them.
//!
//! In: why something was not done. Out: a status and `application/problem+json`. Never: a secret, a cause that is ours to know
//! (those are logged), only the first of several mistakes.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tracing::error;

use crate::control::policy::Verdict;
use crate::control::request::{Request, RequestError};
use crate::control::resource::rule::{self, Rule};
use crate::control::resource::{ResourceId, Violation};
use crate::control::store::StoreError;

/// Media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// What kind of problem it is: a stable name, as a URN.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The kind, for people.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// This one, for people.
    pub detail: String,
    /// Everything that is wrong with what was asked for.
    pub violations: Vec<Violation>,
    /// The request that was recorded all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Seconds to wait before trying again; also in `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// A kind of problem: its name, what it is for people, its status.
pub type ProblemKind = (&'static str, &'static str, StatusCode);

/// The kinds there are.
#[allow(missing_docs, reason = "the titles say it")]
pub mod kinds {
    use super::{ProblemKind, StatusCode};

    pub const MALFORMED: ProblemKind =
        ("urn:iguazu:problem:malformed", "the request cannot be read", StatusCode::BAD_REQUEST);
    pub const INVALID: ProblemKind =
        ("urn:iguazu:problem:invalid", "what was asked for is refused", StatusCode::UNPROCESSABLE_ENTITY);
    pub const UNAUTHENTICATED: ProblemKind =
        ("urn:iguazu:problem:unauthenticated", "nobody knows who is asking", StatusCode::UNAUTHORIZED);
    pub const FORBIDDEN: ProblemKind =
        ("urn:iguazu:problem:forbidden", "the caller may not do this", StatusCode::FORBIDDEN);
    pub const NOT_FOUND: ProblemKind =
        ("urn:iguazu:problem:not-found", "there is nothing of this name", StatusCode::NOT_FOUND);
    pub const METHOD: ProblemKind =
        ("urn:iguazu:problem:method-not-allowed", "the path has no such method", StatusCode::METHOD_NOT_ALLOWED);
    pub const CONFLICT: ProblemKind = ("urn:iguazu:problem:conflict", "it is in another state", StatusCode::CONFLICT);
    pub const UNCHANGED: ProblemKind = ("urn:iguazu:problem:unchanged", "nothing changes", StatusCode::CONFLICT);
    pub const STALE: ProblemKind =
        ("urn:iguazu:problem:stale", "it has changed since it was read", StatusCode::PRECONDITION_FAILED);
    pub const TOO_LARGE: ProblemKind =
        ("urn:iguazu:problem:too-large", "the body is too large", StatusCode::PAYLOAD_TOO_LARGE);
    pub const MEDIA: ProblemKind =
        ("urn:iguazu:problem:unsupported-media-type", "the body is not JSON", StatusCode::UNSUPPORTED_MEDIA_TYPE);
    pub const RATE: ProblemKind =
        ("urn:iguazu:problem:rate-limited", "the caller asks too often", StatusCode::TOO_MANY_REQUESTS);
    pub const BUSY: ProblemKind =
        ("urn:iguazu:problem:busy", "too much is asked at once", StatusCode::SERVICE_UNAVAILABLE);
    pub const SLOW: ProblemKind = ("urn:iguazu:problem:timeout", "it took too long", StatusCode::GATEWAY_TIMEOUT);
    pub const CLUSTER: ProblemKind =
        ("urn:iguazu:problem:cluster-unavailable", "the cluster does not answer", StatusCode::BAD_GATEWAY);
    pub const STORE: ProblemKind =
        ("urn:iguazu:problem:store-unavailable", "the store does not answer", StatusCode::SERVICE_UNAVAILABLE);
    pub const INTERNAL: ProblemKind =
        ("urn:iguazu:problem:internal", "something of ours is wrong", StatusCode::INTERNAL_SERVER_ERROR);
}

impl Problem {
    /// A problem of a kind.
    pub fn new((kind, title, status): ProblemKind, detail: impl Into<String>) -> Problem {
        Problem {
            kind,
            title,
            status: status.as_u16(),
            detail: detail.into(),
            violations: Vec::new(),
            request: None,
            retry_after_seconds: None,
        }
    }

    /// A resource or something else that is not there.
    pub fn not_found(what: impl std::fmt::Display) -> Problem {
        Problem::new(kinds::NOT_FOUND, format!("there is no `{what}`"))
    }

    /// One thing is wrong with what was asked for.
    pub fn violated(violation: Violation) -> Problem {
        Problem { violations: vec![violation], ..Problem::new(kinds::INVALID, "one thing is wrong") }
    }

    /// Specs that cannot be read, with what is wrong in each.
    pub fn unreadable(violations: Vec<Violation>) -> Problem {
        let detail = match violations.len() {
            1 => "its spec cannot be read".to_owned(),
            count => format!("{count} specs cannot be read"),
        };
        Problem { violations, ..Problem::new(kinds::INVALID, detail) }
    }

    /// A request that the rules refused: everything that is wrong, under the status of what is.
    pub fn rejected(request: &Request) -> Problem {
        let mut violations: Vec<Violation> =
            request.changes.iter().flat_map(|planned| planned.violations.iter().cloned()).collect();
        for planned in &request.changes {
            if planned.decision.verdict == Verdict::Reject && planned.violations.is_empty() {
                violations.push(Violation {
                    resource: planned.resource.clone(),
                    field: String::new(),
                    rule: planned.decision.rule.clone().unwrap_or_default(),
                    problem: planned.decision.reason.clone(),
                    fix: "ask for less, or ask those who operate the cluster".to_owned(),
                });
            }
        }
        // One kind of mistake has a status of its own; of several, none stands for all.
        let one =
            |rules: &[Rule]| violations.iter().all(|violation| rules.iter().any(|rule| rule.id == violation.rule));
        let kind = if one(&[rule::NOT_YOURS]) {
            kinds::FORBIDDEN
        } else if one(&[rule::UNKNOWN]) {
            kinds::NOT_FOUND
        } else if one(&[rule::STALE]) {
            kinds::STALE
        } else if one(&[rule::BUSY, rule::MANAGED_ELSEWHERE]) {
            kinds::CONFLICT
        } else {
            kinds::INVALID
        };
        let detail = match &violations[..] {
            [violation] => format!("{}: {}", violation.resource, violation.problem),
            violations => format!("{} things are wrong", violations.len()),
        };
        Problem { violations, request: Some(request.id.clone()), ..Problem::new(kind, detail) }
    }

    /// A body whose field at a path is wrong.
    pub fn field(resource: &ResourceId, field: &str, problem: &str) -> Problem {
        Problem::violated(Violation {
            resource: resource.clone(),
            field: field.to_owned(),
            rule: rule::MALFORMED.id.to_owned(),
            problem: problem.to_owned(),
            fix: "look the field up in /v1/openapi.json".to_owned(),
        })
    }

    /// The same, to be tried again after so long.
    pub fn retry_after(self, seconds: u64) -> Problem {
        Problem { retry_after_seconds: Some(u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).expect("problems have string keys");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"iguazu\""));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Stale { .. } => Problem::new(kinds::STALE, error.to_string()),
            error => {
                error!(%error, "the store does not answer the API");
                Problem::new(kinds::STORE, "the store cannot be used for now").retry_after(2)
            }
        }
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let detail = error.to_string();
        match error {
            RequestError::Store(error) => error.into(),
            RequestError::Length { .. } => Problem::new(kinds::INVALID, detail),
            RequestError::Unknown { .. } => Problem::new(kinds::NOT_FOUND, detail),
            RequestError::WrongState { .. } => Problem::new(kinds::CONFLICT, detail),
            RequestError::OwnRequest | RequestError::NotAnApprover { .. } => Problem::new(kinds::FORBIDDEN, detail),
            RequestError::Stale { .. } => Problem::new(kinds::STALE, detail),
        }
    }
}
