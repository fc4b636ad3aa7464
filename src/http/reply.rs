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
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use prost::Message as _;

use super::admission::Hold;
use super::media::Form;
use crate::envelope::proto;
use crate::outcome::{Code, Fault};
use crate::pipeline::{EventResult, Taken};
use crate::route::Reply;

/// The reply to a request whose events were taken, one by one, or refused. Its bytes stay in the budget until they are
/// written.
pub(super) fn batch(taken: &Taken, form: Form, hold: Hold<'_>) -> Response<Full<Bytes>> {
    let failures = taken.results.iter().filter(|result| !result.code.is_success());
    let status = status(taken.events, taken.refused, taken.weakest, failures.clone().map(|result| result.code));
    let body = match (ready_made(taken), form) {
        (Some(body), Form::Json) => Bytes::from_static(body),
        (None, Form::Json) => hold.keep(batch_json(taken)),
        (_, Form::Protobuf(_)) => hold.keep(batch_protobuf(taken).encode_to_vec()),
    };
    let waits = failures.filter(|result| result.code.retry()).map(|result| result.retry_after_ms.unwrap_or(0));
    respond(status, form, body, retry_after_seconds(waits))
}

/// The reply to a request of which nothing was taken.
pub(super) fn refusal(code: Code, message: &str, form: Form) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(code.status()).expect("codes have valid statuses");
    let body = match form {
        Form::Json => {
            let mut out = Vec::with_capacity(64 + message.len());
            let _ = write!(out, "{{\"code\":\"{}\",\"message\":", code.as_str());
            write_string(message, &mut out);
            let _ = write!(out, ",\"retry\":{}}}", code.retry());
            out
        }
        Form::Protobuf(_) => {
            let (code, retry) = (code.as_str().to_owned(), code.retry());
            let error = proto::RequestError { code, message: message.to_owned(), retry };
            proto::BatchReply { error: Some(error), ..proto::BatchReply::default() }.encode_to_vec()
        }
    };
    respond(status, form, body.into(), None)
}

/// A response in the form that was asked for.
pub(super) fn respond(
    status: StatusCode,
    form: Form,
    body: Bytes,
    retry_after_seconds: Option<u64>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
    if let Some(seconds) = retry_after_seconds {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The status of a reply. `failures` are the codes of the events that were refused or failed.
///
/// - nothing failed: 200 when every event is acknowledged, or durable where that was asked for, or the run is dry, 202 when one is only enqueued;
/// - some failed: 207, the results say which;
/// - all failed alike: the status of their code (404, 413, 422, 429, 503, 504 …);
/// - all failed, for different reasons: 422 when all of them are the sender's, else 503.
pub(super) fn status(
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

/// How long to wait before sending again what may then succeed: the longest of these waits in milliseconds, at least a second.
pub(super) fn retry_after_seconds(waits_ms: impl Iterator<Item = u64>) -> Option<u64> {
    waits_ms.map(|wait_ms| wait_ms.div_ceil(1_000).max(1)).max()
}

/// By far the most common replies.
fn ready_made(taken: &Taken) -> Option<&'static [u8]> {
    let one = (taken.events, taken.refused, taken.results.is_empty()) == (1, 0, true);
    one.then_some(match taken.weakest {
        Some(Reply::Enqueued) => br#"{"events":1,"succeeded":1,"failed":0,"reply":"enqueued"}"#,
        Some(Reply::Durable) => br#"{"events":1,"succeeded":1,"failed":0,"reply":"durable"}"#,
        _ => br#"{"events":1,"succeeded":1,"failed":0,"reply":"acknowledged"}"#,
    })
}

fn batch_json(taken: &Taken) -> Vec<u8> {
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
    out
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
        record: None,
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
