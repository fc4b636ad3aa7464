//! What is counted: bytes in flight, events by type, replies by door.

use super::*;

#[tokio::test]
async fn more_bytes_in_flight_than_the_budget_are_answered_503() {
    let site = Setup::new().http(|http| http.in_flight_bytes_max = 100).open();
    // Holds 90 of the 100 bytes, and waits with the rest of its body.
    let mut slow = TcpStream::connect(site.address).await.unwrap();
    slow.write_all(b"POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-length: 91\r\n\r\n").await.unwrap();
    slow.write_all(&[b' '; 90]).await.unwrap();
    while site.meters.in_flight_bytes.load(Relaxed) < 90 {
        tokio::task::yield_now().await;
    }
    let body = json!({"event": "page.viewed", "payload": {}});
    let answer = site.post_json("/v1/events", &body).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
    assert_eq!(answer.headers["retry-after"], "1");
    drop(slow);
    while site.meters.in_flight_bytes.load(Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(site.post_json("/v1/events", &body).await.code(), "event_type_unavailable");
    site.close().await;
}

/// Connections in HTTP/2 whose senders open no window for replies, and one in HTTP/1.1 that is not read.
#[tokio::test]
async fn replies_that_nobody_reads_are_in_the_budget_and_leave_it_with_their_connections() {
    const BUDGET: u64 = 4 << 20;
    let site =
        Setup::new().http(|http| (http.in_flight_bytes_max, http.batch_events_max) = (BUDGET as usize, 1_000)).open();
    let held = || site.meters.in_flight_bytes.load(Relaxed);
    let garbage = "x\n".repeat(1_000);
    let mut unread = Vec::new();
    let mut refused = 0;
    for _ in 0..4 {
        let io = TokioIo::new(TcpStream::connect(site.address).await.unwrap());
        let http2 = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(0)
            .handshake(io)
            .await;
        let (mut client, connection) = http2.unwrap();
        let connection = tokio::spawn(connection);
        for _ in 0..40 {
            let request = Request::post("http://a/v1/events").header("content-type", "application/x-ndjson");
            let request = request.body(Full::new(Bytes::from(garbage.clone()))).unwrap();
            let response = client.send_request(request).await.unwrap();
            refused += u32::from(response.status() == 503);
            assert!(held() <= BUDGET, "{} bytes", held());
            unread.push((client.clone(), response));
        }
        drop(connection);
    }
    let mut http1 = TcpStream::connect(site.address).await.unwrap();
    let request = format!(
        "POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n{garbage}",
        garbage.len()
    );
    http1.write_all(request.as_bytes()).await.unwrap();
    assert!(refused > 0 && held() > BUDGET / 2, "{refused} refused, {} bytes held", held());
    drop((unread, http1));
    while held() > 0 {
        tokio::task::yield_now().await;
    }
    let answer = site.post("/v1/events", &[("content-type", "application/x-ndjson")], garbage).await;
    assert_eq!((answer.status, answer.json()["failed"].as_u64()), (422, Some(1_000)));
    site.close().await;
}

#[tokio::test]
async fn an_envelope_that_cannot_be_read_is_counted_under_its_event() {
    let site = Setup::new().with_senders(&[web()]).open();
    let key = ("x-api-key", "igz_web");
    let check = async |path: &str, headers: &[(&str, &str)], body: &str, event: &str, code: &str| {
        let account = |name: &str| match name {
            Ledger::UNKNOWN => Arc::clone(site.doors.pipeline.ledger().unknown()),
            name => site.doors.pipeline.ledger().account(name, "core"),
        };
        let before = account(event).read().rejected;
        let answer = site.post(path, &[&[key], headers].concat(), body.to_owned()).await;
        assert_eq!(answer.code(), code, "{body}");
        assert_eq!(account(event).read().rejected, before + 1, "{body}");
        answer
    };
    let ndjson = ("content-type", "application/x-ndjson");
    let json = ("content-type", "application/json");
    let unreadable = r#"{"event":"page.viewed","id":"7","time":"yesterday","payload":{}}"#;
    for headers in [json, ndjson] {
        let answer = check("/v1/events", &[headers], unreadable, "page.viewed", "invalid_envelope").await;
        assert_eq!(answer.json()["results"][0]["id"], "7");
    }
    let line = r#"{"event":"page.viewed","payload":{},,}"#;
    check("/v1/events", &[ndjson], line, "page.viewed", "malformed_json").await;
    check("/v1/events/page.viewed", &[json, ("ce-time", "x")], "{}", "page.viewed", "invalid_envelope").await;
    // Who may not send it is told so, and nothing else of it.
    let other = unreadable.replace("page.viewed", "order.placed");
    check("/v1/events", &[json], &other, "order.placed", "forbidden_event").await;
    let nobody = unreadable.replace("page.viewed", "nobody.knows");
    check("/v1/events", &[json], &nobody, Ledger::UNKNOWN, "invalid_envelope").await;
    assert_eq!(site.close().await.rejected, 6);
}

#[tokio::test]
async fn a_panic_is_one_events_trouble_and_leaves_nothing_unsettled() {
    let mut setup = Setup::new().with_kafka();
    // A snapshot that cannot be: Avro without a schema. The pipeline asserts that there is none.
    let placed = setup.config.events.iter_mut().find(|event| event.name == "order.placed");
    placed.expect("configured").encoding = crate::route::Encoding::Avro;
    let site = setup.open();
    let viewed = json!({"event": "page.viewed", "payload": {}});
    let placed = json!({"event": "order.placed", "payload": {}});
    let answer = site.post_json("/v1/events", &json!([viewed, placed, placed, viewed])).await;
    let reply = answer.json();
    assert_eq!((answer.status, &reply["failed"]), (207, &json!(2)), "{reply}");
    assert_eq!((&reply["results"][0]["index"], &reply["results"][0]["code"]), (&json!(1), &json!("internal")));
    assert_eq!(reply["results"][1]["index"], json!(2));
    assert_eq!(site.post_json("/v1/events", &placed).await.status, 500);
    let total = site.close().await;
    assert_eq!((total.received, total.delivered, total.rejected), (5, 2, 3));
}

#[tokio::test]
async fn replies_are_counted_by_door_and_status() {
    let site = Setup::new().open();
    site.post("/v1/events", &[], "{").await;
    site.post("/v1/events/page.viewed", &[], "{}").await;
    site.post("/nowhere", &[], "").await;
    let counted: Vec<_> = ["events", "event", "other"]
        .iter()
        .flat_map(|door| {
            site.meters.door(door).replies().map(|(status, count)| (*door, status, count)).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(counted, [("events", 400, 1), ("event", 503, 1), ("other", 404, 1)]);
    site.close().await;
}
