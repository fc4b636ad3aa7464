//! What replies say, without a socket.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use serde_json::json;

use super::super::admission::Budget;
use super::*;
use crate::outcome::Code::*;

fn result(index: u32, code: Code) -> EventResult {
    EventResult {
        index,
        id: String::new(),
        code,
        message: String::new(),
        reply: Reply::Enqueued,
        position: None,
        warning: None,
        retry_after_ms: None,
    }
}

/// A batch in which so many events succeeded, the weakest of them so, and the others failed.
fn taken(succeeded: u32, weakest: Option<Reply>, failures: &[Code]) -> Taken {
    let mut taken = Taken::default();
    taken.refused = failures.len() as u32;
    taken.events = succeeded + taken.refused;
    taken.weakest = weakest;
    taken.results = failures.iter().zip(succeeded..).map(|(code, index)| result(index, *code)).collect();
    taken
}

const PROTOBUF: Form = Form::Protobuf("application/x-protobuf");

fn say(taken: &Taken, form: Form) -> Response<Full<Bytes>> {
    let budget = Budget::new(1_000_000, Arc::default());
    batch(taken, form, budget.hold())
}

async fn text(response: Response<Full<Bytes>>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[test]
fn the_status_says_what_is_true_of_all_events() {
    let check = |succeeded: u32, weakest: Option<Reply>, failures: &[Code], expected: u16| {
        let response = say(&taken(succeeded, weakest, failures), Form::Json);
        assert_eq!(response.status().as_u16(), expected, "{succeeded} {weakest:?} and {failures:?}");
    };
    let (none, enqueued, acknowledged) = (None, Some(Reply::Enqueued), Some(Reply::Acknowledged));
    // All failed alike: the status of their code.
    check(0, none, &[UnknownEvent], 404);
    check(0, none, &[ForbiddenEvent, ForbiddenEvent], 403);
    check(0, none, &[EventTooLarge], 413);
    check(0, none, &[InvalidPayload, InvalidPayload], 422);
    check(0, none, &[RateLimited, RateLimited], 429);
    check(0, none, &[BufferFull], 503);
    check(0, none, &[EventTypeUnavailable], 503);
    check(0, enqueued, &[Unknown, Unknown], 504);
    for code in Code::ALL.iter().filter(|code| !code.is_success()) {
        check(0, none, &[*code], code.status());
    }
    // All failed, each in its way.
    check(0, none, &[UnknownEvent, InvalidPayload], 422);
    check(0, none, &[RateLimited, InvalidPayload], 422);
    check(0, none, &[UnknownEvent, BufferFull], 503);
    check(0, acknowledged, &[Unknown, DeliveryFailed], 503);
    check(0, acknowledged, &[Unknown, InvalidPayload], 503);
    // Some failed: any mixture.
    check(1, enqueued, &[UnknownEvent], 207);
    check(99, enqueued, &[BufferFull], 207);
    check(1, acknowledged, &[Unknown], 207);
    // None failed: the weakest class.
    check(1, enqueued, &[], 202);
    check(2, acknowledged, &[], 200);
    check(0, none, &[], 200);
}

#[test]
fn who_may_send_again_is_told_when() {
    let check = |failures: &[(Code, Option<u64>)], expected: Option<&str>| {
        let mut taken = taken(1, Some(Reply::Enqueued), &failures.iter().map(|(code, _)| *code).collect::<Vec<_>>());
        for (result, (_, wait_ms)) in taken.results.iter_mut().zip(failures) {
            result.retry_after_ms = *wait_ms;
        }
        let response = say(&taken, Form::Json);
        let told = response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap());
        assert_eq!(told, expected, "{failures:?}");
    };
    check(&[], None);
    check(&[(InvalidPayload, None)], None);
    check(&[(BufferFull, None)], Some("1"));
    check(&[(RateLimited, Some(1)), (InvalidPayload, None)], Some("1"));
    check(&[(RateLimited, Some(2_001)), (BufferFull, None)], Some("3"));
}

#[tokio::test]
async fn a_reply_in_json_leaves_out_what_is_empty() {
    let told = |taken: Taken| async move { text(say(&taken, Form::Json)).await };
    let counts = |succeeded, failed| json!({"events": succeeded + failed, "succeeded": succeeded, "failed": failed});
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect(text);

    for (reply, name) in [(Reply::Enqueued, "enqueued"), (Reply::Acknowledged, "acknowledged")] {
        for succeeded in [1, 2] {
            let mut expected = counts(succeeded, 0);
            expected["reply"] = name.into();
            assert_eq!(parse(&told(taken(succeeded, Some(reply), &[])).await), expected);
        }
    }
    let mut failed = taken(0, None, &[InvalidPayload]);
    failed.results[0].id = "a\"b".to_owned();
    failed.results[0].message = "at order.id".to_owned();
    let mut expected = counts(0, 1);
    expected["results"] =
        json!([{"index": 0, "id": "a\"b", "code": "invalid_payload", "message": "at order.id", "retry": false}]);
    assert_eq!(parse(&told(failed).await), expected);

    let mut mixed = taken(2, Some(Reply::Enqueued), &[RateLimited]);
    mixed.results[0].retry_after_ms = Some(250);
    mixed
        .results
        .insert(0, EventResult { position: Some((3, 41)), warning: Some("w".to_owned()), ..result(1, Acknowledged) });
    let mut expected = counts(2, 1);
    expected["reply"] = "enqueued".into();
    expected["results"] = json!([
        {"index": 1, "code": "acknowledged", "partition": 3, "offset": 41, "warning": "w"},
        {"index": 2, "code": "rate_limited", "retry": true, "retry_after_ms": 250},
    ]);
    assert_eq!(parse(&told(mixed).await), expected);
}

#[tokio::test]
async fn a_reply_in_protobuf_says_the_same() {
    let mut mixed = taken(1, Some(Reply::Enqueued), &[UnknownEvent]);
    mixed.results[0].message = "no such".to_owned();
    let response = say(&mixed, PROTOBUF);
    assert_eq!(response.status(), 207);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/x-protobuf");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let reply = proto::BatchReply::decode(bytes).unwrap();
    assert_eq!((reply.events, reply.succeeded, reply.failed, reply.error), (2, 1, 1, None));
    let told = &reply.results[0];
    assert_eq!(
        (told.index, told.code.as_str(), told.message.as_str(), told.retry),
        (1, "unknown_event", "no such", false)
    );
}

#[tokio::test]
async fn a_refused_request_is_told_why_in_the_form_it_asked_for() {
    let response = refusal(BodyTooLarge, "too \"large\"", Form::Json);
    assert_eq!(response.status(), 413);
    assert_eq!(text(response).await, r#"{"code":"body_too_large","message":"too \"large\"","retry":false}"#);
    let bytes = refusal(Overloaded, "full", PROTOBUF).into_body().collect().await.unwrap().to_bytes();
    let error = proto::BatchReply::decode(bytes).unwrap().error.unwrap();
    assert_eq!((error.code.as_str(), error.message.as_str(), error.retry), ("overloaded", "full", true));
}
