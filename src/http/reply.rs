//! What a request is told: status, counts, and results.
//!
//! ```json
//! {"events":3,"succeeded":2,"failed":1,"reply":"acknowledged","results":[
//!   {"index":1,"id":"…","code":"invalid_payload","message":"…","retry":false},
//!   {"index":2,"id":"…","code":"acknowledged","partition":0,"offset":41,"warning":"…"}]}
//! ```
//! `reply` is the weakest class of those that succeeded, and absent when none did. What is empty is left out. A request that
//! is refused as a whole gets `{"code":"…","message":"…","retry":false}`. `Accept: application/x-protobuf` turns both into
//! `iguazu.v1.BatchReply`.

use std::io::Write as _;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use prost::Message as _;

use super::media::Media;
use crate::envelope::proto;
use crate::outcome::{Code, Fault};
use crate::pipeline::{EventResult, Taken};
use crate::route::Reply;

/// How a reply is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// `application/json`.
    #[default]
    Json,
    /// `iguazu.v1.BatchReply`.
    Protobuf,
}

impl Form {
    /// The first form in `Accept` that we have; JSON when there is none. Weights are passed over: nobody who can read
    /// Protobuf lists it without meaning it.
    pub(super) fn asked_by(headers: &HeaderMap) -> Form {
        let Some(accept) = headers.get(ACCEPT).filter(|value| *value != "*/*") else { return Form::Json };
        let Ok(accept) = accept.to_str() else { return Form::Json };
        let media = accept.split(',').find_map(|one| Media::named(one.split(';').next().unwrap_or_default().trim()));
        if media == Some(Media::Protobuf) { Form::Protobuf } else { Form::Json }
    }
}

/// The reply to a request whose events were taken, one by one, or refused.
pub(super) fn batch(taken: &Taken, form: Form) -> Response<Full<Bytes>> {
    let failures = taken.results.iter().filter(|result| !result.code.is_success());
    let status = status(taken.events, taken.refused, taken.weakest, failures.clone().map(|result| result.code));
    let mut response = match form {
        Form::Json => json(status, batch_json(taken)),
        Form::Protobuf => protobuf(status, batch_protobuf(taken)),
    };
    if let Some(seconds) = retry_after_seconds(failures) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The reply to a request of which nothing was taken.
pub(super) fn refusal(code: Code, message: &str, form: Form) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(code.status()).expect("codes have valid statuses");
    match form {
        Form::Json => {
            let mut out = Vec::with_capacity(64 + message.len());
            let _ = write!(out, "{{\"code\":\"{}\",\"message\":", code.as_str());
            write_string(message, &mut out);
            let _ = write!(out, ",\"retry\":{}}}", code.retry());
            json(status, out)
        }
        Form::Protobuf => {
            let (code, retry) = (code.as_str().to_owned(), code.retry());
            let error = proto::RequestError { code, message: message.to_owned(), retry };
            protobuf(status, proto::BatchReply { error: Some(error), ..proto::BatchReply::default() })
        }
    }
}

/// A JSON response.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    respond(status, "application/json", body.into())
}

fn protobuf(status: StatusCode, reply: proto::BatchReply) -> Response<Full<Bytes>> {
    respond(status, "application/x-protobuf", reply.encode_to_vec().into())
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The status of a reply. `failures` are the codes of the events that were refused or failed.
///
/// - nothing failed: 200 when every event is acknowledged, 202 when one is only enqueued;
/// - some failed: 207, the results say which;
/// - all failed alike: the status of their code (404, 413, 422, 429, 503, 504 …);
/// - all failed, for different reasons: 422 when all of them are the sender's, else 503.
fn status(
    events: u32,
    failed: u32,
    weakest: Option<Reply>,
    failures: impl Iterator<Item = Code> + Clone,
) -> StatusCode {
    if failed == 0 {
        return if weakest == Some(Reply::Enqueued) { StatusCode::ACCEPTED } else { StatusCode::OK };
    }
    if failed < events {
        return StatusCode::MULTI_STATUS;
    }
    let first = failures.clone().next().expect("an event that failed has a result");
    if failures.clone().all(|code| code == first) {
        return StatusCode::from_u16(first.status()).expect("codes have valid statuses");
    }
    let all_the_senders = failures.clone().all(|code| code.fault() == Fault::Sender);
    if all_the_senders { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// How long to wait before sending again what may then succeed: the longest wait that an event was told, at least a second.
fn retry_after_seconds<'a>(failures: impl Iterator<Item = &'a EventResult>) -> Option<u64> {
    let again = failures.filter(|result| result.code.retry());
    again.map(|result| result.retry_after_ms.unwrap_or(0).div_ceil(1_000).max(1)).max()
}

fn batch_json(taken: &Taken) -> Bytes {
    // By far the most common replies, ready made.
    if (taken.events, taken.refused, taken.results.is_empty()) == (1, 0, true) {
        return Bytes::from_static(match taken.weakest {
            Some(Reply::Enqueued) => br#"{"events":1,"succeeded":1,"failed":0,"reply":"enqueued"}"#,
            _ => br#"{"events":1,"succeeded":1,"failed":0,"reply":"acknowledged"}"#,
        });
    }
    // About what a result takes that has an id and a message.
    let mut out = Vec::with_capacity(96 + 192 * taken.results.len());
    let (events, failed) = (taken.events, taken.refused);
    let _ = write!(out, "{{\"events\":{events},\"succeeded\":{},\"failed\":{failed}", events - failed);
    if let Some(reply) = taken.weakest.filter(|_| failed < events) {
        let _ = write!(out, ",\"reply\":\"{}\"", reply.as_str());
    }
    for (i, result) in taken.results.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b",\"results\":[" } else { b"," });
        write_result(result, &mut out);
    }
    out.extend_from_slice(if taken.results.is_empty() { b"}" } else { b"]}" });
    out.into()
}

fn write_result(result: &EventResult, out: &mut Vec<u8>) {
    let _ = write!(out, "{{\"index\":{}", result.index);
    if !result.id.is_empty() {
        out.extend_from_slice(b",\"id\":");
        write_string(&result.id, out);
    }
    let _ = write!(out, ",\"code\":\"{}\"", result.code.as_str());
    if !result.message.is_empty() {
        out.extend_from_slice(b",\"message\":");
        write_string(&result.message, out);
    }
    if !result.code.is_success() {
        let _ = write!(out, ",\"retry\":{}", result.code.retry());
    }
    if let Some(ms) = result.retry_after_ms {
        let _ = write!(out, ",\"retry_after_ms\":{ms}");
    }
    if let Some((partition, offset)) = result.position {
        let _ = write!(out, ",\"partition\":{partition},\"offset\":{offset}");
    }
    if let Some(warning) = &result.warning {
        out.extend_from_slice(b",\"warning\":");
        write_string(warning, out);
    }
    out.push(b'}');
}

/// A JSON string, quoted and escaped.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("memory takes everything, and a str is valid JSON");
}

fn batch_protobuf(taken: &Taken) -> proto::BatchReply {
    let result = |result: &EventResult| proto::EventResult {
        index: result.index,
        id: result.id.clone(),
        code: result.code.as_str().to_owned(),
        message: result.message.clone(),
        retry: result.code.retry(),
        reply: if result.code.is_success() { result.reply.as_str().to_owned() } else { String::new() },
        partition: result.position.map(|(partition, _)| partition),
        offset: result.position.map(|(_, offset)| offset),
        warning: result.warning.clone().unwrap_or_default(),
        retry_after_ms: result.retry_after_ms,
    };
    proto::BatchReply {
        events: taken.events,
        succeeded: taken.events - taken.refused,
        failed: taken.refused,
        reply: taken
            .weakest
            .filter(|_| taken.refused < taken.events)
            .map(|reply| reply.as_str().to_owned())
            .unwrap_or_default(),
        results: taken.results.iter().map(result).collect(),
        error: None,
    }
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
