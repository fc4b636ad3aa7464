//! The audit log: looked at, taken away as JSON lines, checked.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tracing::error;

use super::Api;
use super::extract::{Params, text_header};
use super::problem::{Problem, kinds};
use super::requests::{PAGE_MAX, Page, limit};
use crate::control::store::{AuditLine, StoreError};

/// Media type of JSON lines.
const LINES: &str = "application/x-ndjson";

/// What is asked of the log.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    /// Only lines after this one.
    after: Option<i64>,
    /// How many.
    limit: Option<u32>,
}

/// `GET /v1/audit`: a page; with `Accept: application/x-ndjson` all lines after `after`, or the first `limit` of them.
pub async fn list(
    State(api): State<Api>,
    Params(params): Params<ListParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = params.after.unwrap_or(0);
    if after < 0 {
        return Err(Problem::new(kinds::MALFORMED, "`after` is the number of a line, from 0"));
    }
    if text_header(&headers, "accept")?.is_some_and(|accept| accept.contains(LINES)) {
        let left = params.limit.map(u64::from).unwrap_or(u64::MAX);
        return Ok(
            ([(header::CONTENT_TYPE, HeaderValue::from_static(LINES))], export(api, after, left)).into_response()
        );
    }
    let limit = limit(params.limit)?;
    let lines = api.store.audit_lines(after, limit + 1).await?;
    Ok(axum::Json(Page::of(lines, limit, |line: &AuditLine| line.seq.to_string())).into_response())
}

/// The lines after one, a thousand at a time, as they are read. Whoever does not come to the end goes on after the last line that
/// they have.
fn export(api: Api, after: i64, left: u64) -> Body {
    let chunks = futures_util::stream::unfold((api, after, left), async |(api, after, left)| {
        let most = left.min(u64::from(PAGE_MAX)) as u32;
        if most == 0 {
            return None;
        }
        let lines = match api.store.audit_lines(after, most).await {
            Ok(lines) => lines,
            Err(error) => {
                error!(%error, "the audit log could not be read to its end");
                return Some((Err(error), (api, after, 0)));
            }
        };
        let last = lines.last()?.seq;
        let mut text = Vec::new();
        for line in &lines {
            serde_json::to_writer(&mut text, line).expect("lines have string keys, and memory takes everything");
            text.push(b'\n');
        }
        let left = left.saturating_sub(lines.len() as u64);
        Some((Ok::<_, StoreError>(Bytes::from(text)), (api, last, left)))
    });
    Body::from_stream(chunks)
}

/// Whether the log is as it was written.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Verified {
    /// Whether each line follows the one before it.
    pub intact: bool,
    /// How many lines there are, or were read until the first that is wrong.
    pub lines: i64,
    /// What is wrong.
    pub problem: Option<String>,
}

/// `GET /v1/audit/verify`
pub async fn verify(State(api): State<Api>) -> Result<Response, Problem> {
    let verified = match api.store.verify_audit().await? {
        Ok(lines) => Verified { intact: true, lines, problem: None },
        Err(broken) => Verified { intact: false, lines: broken.seq - 1, problem: Some(broken.to_string()) },
    };
    Ok(axum::Json(verified).into_response())
}
