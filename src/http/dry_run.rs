//! `?dry_run=true`: what each event would become, or why it would be refused. Nothing is produced, counted or taken from a
//! limit. Always 200 and JSON: each event says for itself how it would have fared.
//!
//! ```json
//! {"events":2,"failed":1,"results":[
//!   {"index":0,"cluster":"core","topic":"t","key":"k","headers":{"ce_id":"…"},"value":{…},"warning":"…"},
//!   {"index":1,"code":"unknown_event","message":"…","retry":false}]}
//! ```
//! Bytes that are not UTF-8 stand as `{"base64":"…"}`; a value that cannot be shown as JSON, as `value_base64`.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};

use super::admission::Hold;
use super::refusal::Refusal;
use super::reply;
use crate::envelope::Event;
use crate::outcome::EventError;
use crate::pipeline::{Ask, DryRun, Pipeline};

/// Events that are worked on before other connections of the thread get their turn.
const SLICE: u32 = 64;

/// Tries every event. The reply, which may be larger than the body, is held in the body's share of the budget.
pub(super) async fn answer<'a>(
    pipeline: &Pipeline,
    events: impl Iterator<Item = Result<Event<'a>, EventError>>,
    ask: &Ask<'_>,
    hold: &mut Hold<'_>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let (mut results, mut index, mut failed) = (Vec::new(), 0, 0);
    for event in events {
        let before = results.len();
        if index > 0 {
            results.push(b',');
        }
        match event.and_then(|event| pipeline.dry_run(&event, ask)) {
            Ok(record) => write_record(index, &record, &mut results),
            Err(error) => {
                failed += 1;
                write_error(index, &error, &mut results);
            }
        }
        hold.grow(results.len() - before)?;
        index += 1;
        if index % SLICE == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut json = Vec::with_capacity(results.len() + 64);
    let _ = write!(json, "{{\"events\":{index},\"failed\":{failed},\"results\":[");
    json.extend_from_slice(&results);
    json.extend_from_slice(b"]}");
    Ok(reply::json(StatusCode::OK, json))
}

fn write_record(index: u32, record: &DryRun, out: &mut Vec<u8>) {
    let _ = write!(out, "{{\"index\":{index},\"cluster\":");
    reply::write_string(&record.cluster, out);
    out.extend_from_slice(b",\"topic\":");
    reply::write_string(&record.topic, out);
    out.extend_from_slice(b",\"key\":");
    match &record.key {
        None => out.extend_from_slice(b"null"),
        Some(key) => write_bytes(key, out),
    }
    out.extend_from_slice(b",\"headers\":{");
    for (i, (name, value)) in record.headers.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        reply::write_string(name, out);
        out.push(b':');
        write_bytes(value, out);
    }
    match &record.value_json {
        Some(json) => {
            out.extend_from_slice(b"},\"value\":");
            out.extend_from_slice(json.as_bytes());
        }
        None => {
            let _ = write!(out, "}},\"value_base64\":\"{}\"", STANDARD.encode(&record.value));
        }
    }
    if let Some(warning) = &record.warning {
        out.extend_from_slice(b",\"warning\":");
        reply::write_string(warning, out);
    }
    out.push(b'}');
}

fn write_error(index: u32, error: &EventError, out: &mut Vec<u8>) {
    let (code, retry) = (error.code.as_str(), error.code.retry());
    let _ = write!(out, "{{\"index\":{index},\"code\":\"{code}\",\"message\":");
    reply::write_string(&error.message, out);
    let _ = write!(out, ",\"retry\":{retry}}}");
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => reply::write_string(text, out),
        Err(_) => {
            let _ = write!(out, "{{\"base64\":\"{}\"}}", STANDARD.encode(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Code;

    #[test]
    fn a_record_is_shown_whatever_bytes_it_has() {
        let record = DryRun {
            cluster: "core".to_owned(),
            topic: "t".to_owned(),
            key: Some(vec![0xff]),
            headers: vec![("ce_id".to_owned(), b"1\"2".to_vec()), ("blob".to_owned(), vec![0xfe])],
            value: vec![0, 1],
            value_json: None,
            warning: Some("w".to_owned()),
        };
        let shown = |record: &DryRun| {
            let mut out = Vec::new();
            write_record(3, record, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            shown(&record),
            r#"{"index":3,"cluster":"core","topic":"t","key":{"base64":"/w=="},"headers":{"ce_id":"1\"2","blob":{"base64":"/g=="}},"value_base64":"AAE=","warning":"w"}"#
        );
        let record = DryRun {
            key: None,
            headers: Vec::new(),
            value_json: Some(r#"{"a":1}"#.to_owned()),
            warning: None,
            ..record
        };
        assert_eq!(
            shown(&record),
            r#"{"index":3,"cluster":"core","topic":"t","key":null,"headers":{},"value":{"a":1}}"#
        );
    }

    #[test]
    fn an_error_is_shown_like_in_any_reply() {
        let mut out = Vec::new();
        write_error(0, &EventError::new(Code::UnknownEvent, "no \u{1}"), &mut out);
        let expected = r#"{"index":0,"code":"unknown_event","message":"no \u0001","retry":false}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
