//! `?dry_run=true`: what each event would become, or why it would be refused. Nothing is produced, counted or taken from a
//! limit. Status and counts follow the rules of any reply, 200 when every event would be taken; every event has a result.
//!
//! ```json
//! {"events":2,"succeeded":1,"failed":1,"dry_run":true,"results":[
//!   {"index":0,"id":"…","code":"valid","cluster":"core","topic":"t","key":"k","headers":{"ce_id":"…"},"value":{…},"warning":"…"},
//!   {"index":1,"id":"…","code":"unknown_event","message":"…","retry":false}]}
//! ```
//! In JSON bytes that are not UTF-8 stand as `{"base64":"…"}`, headers of one name as an array, and a value that cannot be
//! shown as JSON as `value_base64`.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use prost::Message as _;

use super::admission::Hold;
use super::media::Form;
use super::refusal::Refusal;
use super::reply;
use crate::envelope::{Event, Unreadable, proto};
use crate::outcome::{Code, EventError};
use crate::pipeline::{Ask, DryRun, Pipeline};

/// Events that are worked on before other connections of the thread get their turn.
const SLICE: u32 = 64;

/// Tries every event. The reply, which may be much larger than the body, is refused where there is no room for it.
pub(super) async fn answer<'a>(
    pipeline: &Pipeline,
    events: impl Iterator<Item = Result<Event<'a>, Unreadable<'a>>>,
    ask: &Ask<'_>,
    form: Form,
    mut hold: Hold<'_>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let (mut results, mut failures, mut index) = (Vec::new(), Vec::new(), 0);
    for event in events {
        let before = results.capacity();
        let tried = pipeline.dry_run(event, ask);
        if let Err((_, error)) = &tried {
            failures.push(error.code);
        }
        match form {
            Form::Json => write_result(index, &tried, &mut results),
            Form::Protobuf(_) => encode_result(index, tried, &mut results),
        }
        hold.grow(results.capacity() - before)?;
        index += 1;
        if index % SLICE == 0 {
            tokio::task::yield_now().await;
        }
    }
    let failed = failures.len() as u32;
    finish(index, failed, form, &mut results);
    let status = reply::status(index, failed, None, failures.iter().copied());
    let waits = failures.iter().filter(|code| code.retry()).map(|_| 0);
    Ok(reply::respond(status, form, hold.keep(results), reply::retry_after_seconds(waits)))
}

/// A record, or the id and the error of an event that would not become one.
type Tried = Result<DryRun, (String, EventError)>;

/// Puts the counts beside the results. Of Protobuf messages that stand one after the other a reader makes one.
fn finish(events: u32, failed: u32, form: Form, out: &mut Vec<u8>) {
    let succeeded = events - failed;
    match form {
        Form::Json => {
            let counts =
                format!("{{\"events\":{events},\"succeeded\":{succeeded},\"failed\":{failed},\"dry_run\":true,");
            out.splice(0..0, counts.into_bytes().into_iter().chain(*b"\"results\":["));
            out.extend_from_slice(b"]}");
        }
        Form::Protobuf(_) => {
            let counts = proto::BatchReply { events, succeeded, failed, ..proto::BatchReply::default() };
            counts.encode(out).expect("memory takes everything");
        }
    }
}

fn write_result(index: u32, tried: &Tried, out: &mut Vec<u8>) {
    out.extend_from_slice(if index == 0 { b"" } else { b"," });
    let _ = write!(out, "{{\"index\":{index}");
    match tried {
        Ok(record) => write_record(record, out),
        Err((id, error)) => write_error(id, error, out),
    }
    out.push(b'}');
}

fn write_record(record: &DryRun, out: &mut Vec<u8>) {
    write_member("id", &record.id, out);
    write_member("code", Code::Valid.as_str(), out);
    write_member("cluster", &record.cluster, out);
    write_member("topic", &record.topic, out);
    out.extend_from_slice(b",\"key\":");
    match &record.key {
        None => out.extend_from_slice(b"null"),
        Some(key) => write_bytes(key, out),
    }
    write_headers(&record.headers, out);
    match &record.value_json {
        Some(json) => {
            out.extend_from_slice(b",\"value\":");
            out.extend_from_slice(json.as_bytes());
        }
        None => write_member("value_base64", &STANDARD.encode(&record.value), out),
    }
    if let Some(warning) = &record.warning {
        write_member("warning", warning, out);
    }
}

/// An object, in the order of the first header of each name; a name that stands several times has an array.
fn write_headers(headers: &[(String, Vec<u8>)], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"headers\":{");
    let mut first = true;
    for (at, (name, value)) in headers.iter().enumerate() {
        let is_same = |(other, _): &&(String, Vec<u8>)| other == name;
        if headers[..at].iter().any(|header| is_same(&header)) {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        reply::write_string(name, out);
        out.push(b':');
        let more = headers[at + 1..].iter().filter(is_same);
        if more.clone().next().is_none() {
            write_bytes(value, out);
            continue;
        }
        out.push(b'[');
        write_bytes(value, out);
        for (_, value) in more {
            out.push(b',');
            write_bytes(value, out);
        }
        out.push(b']');
    }
    out.push(b'}');
}

fn write_error(id: &str, error: &EventError, out: &mut Vec<u8>) {
    if !id.is_empty() {
        write_member("id", id, out);
    }
    write_member("code", error.code.as_str(), out);
    write_member("message", &error.message, out);
    let _ = write!(out, ",\"retry\":{}", error.code.retry());
}

fn write_member(name: &str, text: &str, out: &mut Vec<u8>) {
    let _ = write!(out, ",\"{name}\":");
    reply::write_string(text, out);
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => reply::write_string(text, out),
        Err(_) => {
            let _ = write!(out, "{{\"base64\":\"{}\"}}", STANDARD.encode(bytes));
        }
    }
}

/// One result as a whole message of its own.
fn encode_result(index: u32, tried: Tried, out: &mut Vec<u8>) {
    let result = match tried {
        Ok(record) => proto::EventResult {
            index,
            id: record.id,
            code: Code::Valid.as_str().to_owned(),
            warning: record.warning.unwrap_or_default(),
            record: Some(proto::DryRunRecord {
                cluster: record.cluster,
                topic: record.topic,
                key: record.key,
                headers: record.headers.into_iter().map(|(name, value)| proto::Header { name, value }).collect(),
                value: record.value,
                value_json: record.value_json.unwrap_or_default(),
            }),
            ..proto::EventResult::default()
        },
        Err((id, error)) => {
            let (code, retry) = (error.code.as_str().to_owned(), error.code.retry());
            proto::EventResult { index, id, code, message: error.message, retry, ..proto::EventResult::default() }
        }
    };
    let reply = proto::BatchReply { results: vec![result], ..proto::BatchReply::default() };
    reply.encode(out).expect("memory takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> DryRun {
        DryRun {
            id: "1".to_owned(),
            cluster: "core".to_owned(),
            topic: "t".to_owned(),
            key: Some(vec![0xff]),
            headers: vec![("ce_id".to_owned(), b"1\"2".to_vec()), ("blob".to_owned(), vec![0xfe])],
            value: vec![0, 1],
            value_json: None,
            warning: Some("w".to_owned()),
        }
    }

    fn check(tried: Tried, expected: &str) {
        let mut out = Vec::new();
        write_result(0, &tried, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn an_error_is_shown_like_in_any_reply() {
        let error = || EventError::new(Code::UnknownEvent, "no \u{1}");
        let expected = r#"{"index":0,"code":"unknown_event","message":"no \u0001","retry":false}"#;
        check(Err((String::new(), error())), expected);
        check(Err(("7".to_owned(), error())), &expected.replace(r#""code""#, r#""id":"7","code""#));
    }

    #[test]
    fn a_record_is_shown_whatever_bytes_it_has() {
        check(
            Ok(record()),
            r#"{"index":0,"id":"1","code":"valid","cluster":"core","topic":"t","key":{"base64":"/w=="},"headers":{"ce_id":"1\"2","blob":{"base64":"/g=="}},"value_base64":"AAE=","warning":"w"}"#,
        );
        let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        check(
            Ok(DryRun {
                key: None,
                headers: vec![header("a", "1"), header("b", "2"), header("a", "3")],
                value_json: Some(r#"{"a":1}"#.to_owned()),
                warning: None,
                ..record()
            }),
            r#"{"index":0,"id":"1","code":"valid","cluster":"core","topic":"t","key":null,"headers":{"a":["1","3"],"b":"2"},"value":{"a":1}}"#,
        );
    }

    #[test]
    fn both_forms_say_the_same() {
        let tried = || [Ok(record()), Err(("7".to_owned(), EventError::new(Code::BufferFull, "full")))];
        let (mut json, mut protobuf) = (Vec::new(), Vec::new());
        for (index, tried) in (0..).zip(tried()) {
            write_result(index, &tried, &mut json);
            encode_result(index, tried, &mut protobuf);
        }
        finish(2, 1, Form::Json, &mut json);
        finish(2, 1, Form::Protobuf(""), &mut protobuf);
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let reply = proto::BatchReply::decode(&protobuf[..]).unwrap();
        assert_eq!(json["dry_run"], true);
        assert_eq!((&json["events"], &json["succeeded"], &json["failed"]), (&2.into(), &1.into(), &1.into()));
        assert_eq!((reply.events, reply.succeeded, reply.failed), (2, 1, 1));
        for (json, result) in json["results"].as_array().unwrap().iter().zip(&reply.results) {
            assert_eq!(json["index"], result.index);
            assert_eq!((&json["id"], &json["code"]), (&result.id.as_str().into(), &result.code.as_str().into()));
        }
        let shown = reply.results[0].record.as_ref().unwrap();
        assert_eq!((shown.topic.as_str(), shown.key.as_deref()), ("t", Some(&[0xff][..])));
        assert_eq!((shown.headers.len(), &shown.value[..]), (2, &[0, 1][..]));
        assert_eq!((reply.results[1].message.as_str(), reply.results[1].retry), ("full", true));
    }
}
