//! What the doors promise, over real sockets; what needs Kafka has the embedded brokers. Every test ends with the ledger law.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::auth::{Limiter, Senders, keys};
use crate::config::Config;
use crate::dev::brokers::EmbeddedBrokers;
use crate::envelope::proto;
use crate::outcome::{Balance, Ledger};
use crate::pipeline::{Live, Outage, Ready, Snapshot, State};
use crate::produce::{Client, TopicHandle};
use crate::route::EventType;
use crate::serve::{Limits as ServeLimits, Listener, Server, Workers};

const CONFIG: &str = r#"
[http]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[clusters.core]
brokers = ["127.0.0.1:1"]
linger_ms = 5
[events."page.viewed"]
cluster = "core"
topic = "page_viewed"
encoding = "raw_json"
[events."order.placed"]
cluster = "core"
topic = "order_placed"
encoding = "raw_json"
reply = "acknowledged"
"#;

struct Site {
    address: SocketAddr,
    doors: Arc<Doors>,
    meters: Arc<HttpMeters>,
    workers: Workers,
    kafka: Option<(EmbeddedBrokers, Arc<Client>)>,
}

/// What a test changes before the site opens.
struct Setup {
    config: Config,
    kafka: bool,
    senders: Senders,
}

impl Setup {
    fn new() -> Self {
        let config = crate::config::parse(CONFIG, Path::new(".")).expect("the configuration of this test is valid");
        Setup { config, kafka: false, senders: Senders::default() }
    }

    fn http(mut self, change: impl FnOnce(&mut config::Http)) -> Self {
        change(&mut self.config.http);
        self
    }

    fn with_kafka(self) -> Self {
        Setup { kafka: true, ..self }
    }

    fn with_senders(self, senders: &[config::Sender]) -> Self {
        Setup { senders: Senders::new(senders), ..self }
    }

    fn open(mut self) -> Site {
        let kafka = self.kafka.then(|| {
            let brokers = EmbeddedBrokers::start(1).expect("brokers start");
            for event in &self.config.events {
                brokers.create_topic(&event.topic, 1, 1).expect("the topic is new");
            }
            self.config.clusters[0].brokers = vec![brokers.bootstrap().to_owned()];
            let lane = self.config.events[0].lane();
            let client = Client::start(&self.config.clusters[0], lane, None).expect("the client starts");
            for event in &self.config.events {
                client.topic(&event.topic, Duration::from_secs(10)).expect("the brokers answer");
            }
            (brokers, client)
        });
        let pipeline = Arc::new(Pipeline::new(Arc::new(Ledger::default()), None));
        let live = |event_type: &EventType| Live {
            dead_letters: None,
            event_type: Arc::new(event_type.clone()),
            account: pipeline.ledger().account(&event_type.name, &event_type.cluster),
            limiter: Arc::new(Limiter::new(&event_type.limits)),
            state: match &kafka {
                None => State::Unavailable(Outage::new("this test has no Kafka")),
                Some((_, client)) => {
                    let topic = TopicHandle::new(client, &event_type.topic).expect("the topic has a valid name");
                    State::Ready(Ready {
                        schemas: None,
                        topic: Arc::new(topic),
                        hot_keys: None,
                        failover: vec![],
                        record_bytes_max: None,
                    })
                }
            },
        };
        let live = self.config.events.iter().map(live).collect();
        pipeline.replace(Snapshot::new(live, self.senders));
        let meters = Arc::new(HttpMeters::default());
        let doors = Arc::new(Doors::new(&self.config.http, pipeline, Arc::clone(&meters)));
        let workers = Workers::start(1).expect("a thread starts");
        let listener = Listener::bind(self.config.http.listen, "a test").expect("port 0 is free");
        let address = listener.address;
        let limits = ServeLimits::new(100, Duration::from_secs(5));
        let limits = ServeLimits { linger: Duration::from_millis(10), ..limits };
        let server = Server { listener, seats: workers.seats(), tls: None, limits, drain: doors.drain().clone() };
        server.start(Arc::clone(&doors));
        Site { address, doors, meters, workers, kafka }
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{} {:?}", self.status, self.body))
    }

    fn code(&self) -> String {
        let json = self.json();
        let code = json.get("code").or_else(|| json.pointer("/results/0/code"));
        code.and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

impl Site {
    async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let io = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let (mut client, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut request = Request::post(path).header("host", "a");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.read(client.send_request(request.body(Full::new(body.into())).unwrap()).await).await;
        drop(client);
        let _ = connection.await;
        answer
    }

    async fn read(&self, response: hyper::Result<Response<Incoming>>) -> Answer {
        let (head, body) = response.expect("every request is answered").into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    async fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.post(path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// Sends bytes as they are; what came back until the server closed.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.unwrap();
        String::from_utf8(reply).unwrap()
    }

    async fn close(self) -> Balance {
        self.doors.drain().finish(Duration::from_secs(5)).await;
        assert_eq!(self.meters.in_flight_bytes.load(Relaxed), 0, "every request gave its bytes back");
        let ledger = Arc::clone(self.doors.pipeline.ledger());
        tokio::task::spawn_blocking(|| {
            self.workers.stop();
            if let Some((brokers, client)) = self.kafka {
                client.stop(Duration::from_secs(10));
                drop(brokers);
            }
        })
        .await
        .unwrap();
        let total = ledger.total();
        assert!(total.holds(), "{total:?}");
        total
    }
}

#[tokio::test]
async fn a_request_that_fits_no_door_is_told_which_there_are() {
    let site = Setup::new().open();
    let answer = site.post("/topics/a", &[], "").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"));
    assert!(answer.json()["message"].as_str().unwrap().contains("POST /v1/events"));
    let reply = site.raw(b"GET /v1/events HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 405 ") && reply.contains("allow: POST\r\n"), "{reply}");
    let reply = site.raw(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 200 ") && reply.contains("POST /v1/events"), "{reply}");
    assert_eq!(site.close().await, Balance::default());
}

#[tokio::test]
async fn a_request_that_is_wrong_as_a_whole_takes_nothing() {
    let site = Setup::new().http(|http| (http.body_bytes_max, http.batch_events_max) = (1_000, 10)).open();
    let json = ("content-type", "application/json");
    let check = async |path: &str, headers: &[(&str, &str)], body: Vec<u8>, status: u16, code: &str| {
        let answer = site.post(path, headers, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path} {headers:?}");
        assert_eq!(answer.json()["results"], Value::Null, "{path} {headers:?}");
    };
    check("/v1/events?reply=safe", &[json], b"{}".to_vec(), 400, "invalid_parameter").await;
    check("/v1/events", &[json], b"".to_vec(), 400, "invalid_body").await;
    check("/v1/events", &[json], b"[{".to_vec(), 400, "invalid_body").await;
    check("/v1/events", &[], b"a=b".to_vec(), 415, "unsupported_media_type").await;
    check("/v1/events", &[("content-type", "text/plain")], b"{}".to_vec(), 415, "unsupported_media_type").await;
    check("/v1/events", &[json, ("content-encoding", "br")], b"{}".to_vec(), 415, "unsupported_media_type").await;
    check("/v1/events", &[json, ("content-encoding", "gzip")], b"{}".to_vec(), 400, "invalid_body").await;
    check("/v1/events", &[json, ("content-encoding", "zstd")], b"{}".to_vec(), 400, "invalid_body").await;
    check("/v1/events", &[json], vec![b' '; 1_001], 413, "body_too_large").await;
    check("/v1/events", &[json], format!("[{}]", ["{}"; 11].join(",")).into_bytes(), 413, "batch_too_long").await;
    let ndjson = ("content-type", "application/x-ndjson");
    check("/v1/events/page.viewed", &[ndjson], b"{}\n{}".to_vec(), 415, "unsupported_media_type").await;
    for coding in ["gzip", "zstd"] {
        let bomb = compressed(coding, &vec![b' '; 50_000]);
        check("/v1/events", &[json, ("content-encoding", coding)], bomb, 413, "body_too_large").await;
    }
    assert_eq!(site.close().await, Balance::default());
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_refused_while_it_arrives() {
    let site = Setup::new().http(|http| http.body_bytes_max = 1_000).open();
    let mut request = b"POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
        transfer-encoding: chunked\r\n\r\n"
        .to_vec();
    for _ in 0..11 {
        request.extend_from_slice(format!("64\r\n{}\r\n", " ".repeat(100)).as_bytes());
    }
    let reply = site.raw(&request).await;
    assert!(reply.starts_with("HTTP/1.1 413 ") && reply.contains("http.body_bytes_max"), "{reply}");
    site.close().await;
}

#[tokio::test]
async fn the_reply_to_a_refused_upload_survives_it() {
    let site = Setup::new().http(|http| http.body_bytes_max = 1_000).open();
    let mut request = b"POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-length: 4000000\r\n\r\n".to_vec();
    request.resize(4_000_000, b' ');
    let reply = site.raw(&request).await;
    assert!(reply.starts_with("HTTP/1.1 413 ") && reply.contains("4000000 bytes"), "{reply}");
    site.close().await;
}

/// hyper answers it before we see it, and has no place for a body.
#[tokio::test]
async fn what_is_no_http_is_answered_400_without_a_body() {
    let site = Setup::new().open();
    for request in ["GARBAGE\r\n\r\n", "POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n"] {
        let reply = site.raw(request.as_bytes()).await;
        assert!(reply.starts_with("HTTP/1.1 400 ") && reply.ends_with("\r\n\r\n"), "{reply}");
    }
    site.close().await;
}

#[tokio::test]
async fn a_body_that_stops_arriving_is_answered_408() {
    let site = Setup::new().http(|http| http.read_timeout = Duration::from_millis(20)).open();
    let reply = site.raw(b"POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{\"event\":").await;
    assert!(reply.starts_with("HTTP/1.1 408 ") && reply.contains("after 9 bytes"), "{reply}");
    site.close().await;
}

#[tokio::test]
async fn a_sender_that_asks_before_it_sends_is_told_to_go_on_or_not() {
    let site = Setup::new().http(|http| http.body_bytes_max = 1_000).open();
    let ask = |length: usize| {
        format!(
            "POST /v1/events HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let reply = site.raw(ask(1_001).as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");

    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream.write_all(ask(2).as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"[]").await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 "), "{reply}");
    site.close().await;
}

#[tokio::test]
async fn a_sender_is_told_neither_why_an_event_type_is_not_available_nor_what_others_send() {
    let site = Setup::new().with_senders(&[web()]).open();
    let answer = site.post("/v1/events/page.viewed", &[("x-api-key", "igz_web")], "{}").await;
    let message = answer.json()["results"][0]["message"].as_str().unwrap().to_owned();
    assert_eq!(answer.status, 503);
    assert!(message.contains("`page.viewed` is not available, for 0 s now"), "{message}");
    assert!(!message.contains("no Kafka"), "{message}");
    for (name, expected) in [
        ("page.vewed", "`page.vewed`; did you mean `page.viewed`?"),
        ("order.place", "`order.place`; check the name, or ask those who run this proxy"),
    ] {
        let answer = site.post(&format!("/v1/events/{name}"), &[("x-api-key", "igz_web")], "{}").await;
        let message = answer.json()["results"][0]["message"].as_str().unwrap().to_owned();
        assert!(message.ends_with(expected) || message.contains(expected), "{message}");
        assert!(!message.contains("configuration"), "{message}");
    }
    site.close().await;
}

#[tokio::test]
async fn a_body_without_anything_in_it_is_told_what_to_send() {
    let site = Setup::new().open();
    for headers in [&[][..], &[("content-type", "application/json")]] {
        for body in ["", " \n"] {
            if headers.is_empty() && !body.is_empty() {
                continue;
            }
            let answer = site.post("/v1/events/page.viewed", headers, body).await;
            assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_body"));
            assert!(answer.json()["message"].as_str().unwrap().contains("the body is empty"));
        }
    }
    let answer = site.post("/v1/events/page.viewed", &[("content-type", "application/x-protobuf")], "").await;
    assert_eq!(answer.code(), "event_type_unavailable", "an empty message is one");
    site.close().await;
}

#[tokio::test]
async fn events_that_fail_say_why_one_by_one() {
    let site = Setup::new().open();
    let event = |name: &str| json!({"event": name, "id": "1", "payload": {}});
    let answer = site.post_json("/v1/events", &event("page.vewed")).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "unknown_event"));
    assert!(answer.json()["results"][0]["message"].as_str().unwrap().contains("`page.viewed`"));

    let answer = site.post_json("/v1/events", &event("page.viewed")).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "event_type_unavailable"));
    assert_eq!(
        (&answer.headers["retry-after"], &answer.json()["results"][0]["id"]),
        (&"1".parse().unwrap(), &json!("1"))
    );

    let ndjson = format!("{}\nnot json\n{}", event("nobody"), event("page.viewed"));
    let answer = site.post("/v1/events", &[("content-type", "application/x-ndjson")], ndjson).await;
    assert_eq!((answer.status, answer.json()["failed"].as_u64()), (503, Some(3)));
    let total = site.close().await;
    assert_eq!((total.received, total.rejected), (5, 5));
}

#[tokio::test]
async fn an_envelope_in_headers_that_cannot_be_read_is_its_events_error() {
    let site = Setup::new().open();
    let json = ("content-type", "application/json");
    let answer = site.post("/v1/events/page.viewed", &[json, ("ce-time", "yesterday")], "{}").await;
    assert_eq!((answer.status, answer.code().as_str()), (422, "invalid_envelope"));
    let answer = site.post("/v1/events/page.viewed", &[json, ("ce-type", "order.placed")], "{}").await;
    assert_eq!((answer.status, answer.code().as_str()), (422, "invalid_envelope"));
    let answer = site.post("/v1/events/page.viewed", &[json, ("ce-type", "page.viewed")], "{}").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "event_type_unavailable"));
    assert_eq!(site.close().await.rejected, 3);
}

/// A sender that may send `page.*`, with the key `igz_web`.
fn web() -> config::Sender {
    config::Sender {
        name: "web".to_owned(),
        key_hashes: vec![keys::hash("igz_web")],
        events: vec!["page.*".to_owned()],
        limits: crate::route::Limits::default(),
    }
}

#[tokio::test]
async fn once_a_sender_exists_a_key_is_needed() {
    let site = Setup::new().with_senders(&[web()]).open();
    let check = async |path: &str, key: Option<(&str, &str)>, status: u16, code: &str| {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(key);
        let answer = site.post(path, &headers, "{}").await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path} {key:?}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("igz_"), "no reply repeats a key");
        answer
    };
    let answer = check("/v1/events/page.viewed", None, 401, "unauthenticated").await;
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
    check("/v1/events/page.viewed", Some(("authorization", "Bearer igz_other")), 401, "unauthenticated").await;
    check("/v1/events?nonsense", Some(("x-api-key", "igz_other")), 401, "unauthenticated").await;
    check("/v1/events/order.placed", Some(("authorization", "Bearer igz_web")), 403, "forbidden_event").await;
    check("/v1/events/page.viewed", Some(("authorization", "Bearer igz_web")), 503, "event_type_unavailable").await;
    check("/v1/events/page.viewed", Some(("x-api-key", "igz_web")), 503, "event_type_unavailable").await;
    site.close().await;
}

#[tokio::test]
async fn events_go_in_through_every_form_and_are_counted() {
    let site = Setup::new().with_kafka().open();
    let event = json!({"event": "page.viewed", "payload": {"n": 1}});
    let json_type = ("content-type", "application/json");
    let check = async |path: &str, headers: &[(&str, &str)], body: Vec<u8>, events: u64| {
        let answer = site.post(path, headers, body).await;
        let expected = json!({"events": events, "succeeded": events, "failed": 0, "reply": "enqueued"});
        assert_eq!((answer.status, answer.json()), (202, expected), "{path} {headers:?}");
    };
    check("/v1/events", &[], event.to_string().into(), 1).await;
    check("/v1/events", &[json_type], json!([event, event]).to_string().into(), 2).await;
    check("/v1/events", &[json_type], json!({"events": [event, event, event]}).to_string().into(), 3).await;
    let lines = format!("{event}\n{event}\n");
    check("/v1/events", &[("content-type", "application/x-ndjson")], lines.clone().into(), 2).await;
    for coding in ["gzip", "zstd"] {
        let headers = [("content-type", "application/x-ndjson"), ("content-encoding", coding)];
        check("/v1/events", &headers, compressed(coding, lines.as_bytes()), 2).await;
    }
    check("/v1/events/page.viewed", &[json_type], b"{\"n\":1}".into(), 1).await;
    check("/v1/events/page%2Eviewed", &[("ce-id", "1")], b"[1]".into(), 1).await;
    let total = site.close().await;
    assert_eq!((total.received, total.delivered), (14, 14));
}

#[tokio::test]
async fn a_reply_waits_for_kafka_when_the_event_type_or_the_request_asks() {
    let site = Setup::new().with_kafka().open();
    let viewed = json!({"event": "page.viewed", "payload": {}});
    let placed = json!({"event": "order.placed", "payload": {}});

    let answer = site.post_json("/v1/events", &placed).await;
    let expected = json!({"events": 1, "succeeded": 1, "failed": 0, "reply": "acknowledged"});
    assert_eq!((answer.status, answer.json()), (200, expected));
    let answer = site.post_json("/v1/events?reply=enqueued", &placed).await;
    assert_eq!(answer.json()["reply"], "acknowledged", "a request never weakens what an event type says");

    let answer = site.post_json("/v1/events?reply=acknowledged&results=all", &json!([viewed, viewed])).await;
    assert_eq!(answer.status, 200);
    let offsets: Vec<_> = answer.json()["results"].as_array().unwrap().iter().map(|r| r["offset"].clone()).collect();
    assert_eq!(offsets, [0, 1]);

    let answer = site.post_json("/v1/events?results=all", &json!([viewed, placed])).await;
    let codes: Vec<_> = answer.json()["results"].as_array().unwrap().iter().map(|r| r["code"].clone()).collect();
    assert_eq!((answer.status, answer.json()["reply"].clone()), (202, json!("enqueued")), "the weakest class");
    assert_eq!(codes, ["enqueued", "acknowledged"]);

    let answer = site.post_json("/v1/events", &json!([placed, {"event": "nobody", "payload": {}}])).await;
    assert_eq!((answer.status, answer.json()["reply"].clone()), (207, json!("acknowledged")));
    let protobuf = [("content-type", "application/json"), ("accept", "application/x-protobuf")];
    let answer = site.post("/v1/events?reply=acknowledged&results=all", &protobuf, viewed.to_string()).await;
    let reply = proto::BatchReply::decode(answer.body).unwrap();
    assert_eq!((reply.succeeded, reply.results[0].offset), (1, Some(3)));
    let total = site.close().await;
    assert_eq!((total.delivered, total.rejected), (8, 1));
}

#[tokio::test]
async fn kafka_that_does_not_answer_in_time_is_answered_504() {
    let site = Setup::new().http(|http| http.ack_timeout = Duration::from_millis(1)).with_kafka().open();
    let (brokers, _) = site.kafka.as_ref().unwrap();
    brokers.set_round_trip(1, Duration::from_millis(300)).unwrap();
    let answer = site.post_json("/v1/events", &json!({"event": "order.placed", "id": "7", "payload": {}})).await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "unknown"));
    let result = &answer.json()["results"][0];
    assert_eq!((&result["id"], &result["retry"]), (&json!("7"), &json!(true)));
    assert_eq!(site.close().await.delivered, 1, "unknown is not lost: it was written after all");
}

#[tokio::test]
async fn a_dry_run_shows_the_record_and_produces_nothing() {
    let site = Setup::new().with_kafka().open();
    let events = json!([
        {"event": "page.viewed", "id": "1", "source": "web", "key": "k", "payload": {"n": 1}},
        {"event": "nobody", "payload": {}},
    ]);
    let answer = site.post_json("/v1/events?dry_run=true", &events).await;
    let shown = answer.json();
    assert_eq!((answer.status, &shown["events"], &shown["failed"]), (207, &json!(2), &json!(1)));
    let record = &shown["results"][0];
    assert_eq!(
        (&record["topic"], &record["key"], &record["value"]),
        (&json!("page_viewed"), &json!("k"), &json!({"n": 1}))
    );
    assert_eq!(record["headers"]["ce_id"], "1");
    assert_eq!(shown["results"][1]["code"], "unknown_event");
    assert_eq!(site.post_json("/v1/events?dry_run=true", &events[0]).await.status, 200);
    assert_eq!(site.post_json("/v1/events?dry_run=true", &events[1]).await.status, 404);
    let protobuf = [("content-type", "application/json"), ("accept", "application/protobuf")];
    let answer = site.post("/v1/events?dry_run=true", &protobuf, events.to_string()).await;
    assert_eq!((answer.status, &answer.headers["content-type"]), (207, &"application/protobuf".parse().unwrap()));
    let reply = proto::BatchReply::decode(answer.body).unwrap();
    assert_eq!((reply.succeeded, reply.failed, reply.results[1].code.as_str()), (1, 1, "unknown_event"));
    assert_eq!(reply.results[0].record.as_ref().unwrap().topic, "page_viewed");
    let answer = site.post("/v1/events/page.viewed?dry_run=true", &[("ce-id", "2")], "{}").await;
    assert_eq!(answer.json()["results"][0]["headers"]["ce_id"], "2");
    assert_eq!(site.close().await, Balance::default());
}

#[tokio::test]
async fn many_requests_share_one_http2_connection() {
    let site = Setup::new().with_kafka().open();
    let io = TokioIo::new(TcpStream::connect(site.address).await.unwrap());
    let (client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut replies = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let body = Full::new(Bytes::from_static(b"{\"event\":\"page.viewed\",\"payload\":{}}"));
        let request = Request::post("http://a/v1/events").body(body).unwrap();
        let mut client = client.clone();
        replies.spawn(async move { client.send_request(request).await.unwrap().status() });
    }
    assert!(replies.join_all().await.iter().all(|status| *status == 202));
    drop(client);
    assert_eq!(site.close().await.delivered, 50);
    connection.await.unwrap().unwrap();
}

/// Bodies and headers that nobody would send, and some that are nearly right.
fn odd_requests() -> impl Strategy<Value = (String, Vec<(&'static str, &'static str)>, Vec<u8>)> {
    let path = prop_oneof![
        Just("/v1/events".to_owned()),
        Just("/v1/events?dry_run=true".to_owned()),
        Just("/v1/events/page.viewed".to_owned()),
        Just("/v1/events/page.viewed?results=all".to_owned()),
        "/v1/events/[a-z%0-9]{1,8}",
    ];
    let media = prop::sample::select(vec!["application/json", "application/x-ndjson", "application/x-protobuf", "a/b"]);
    let coding = prop::sample::select(vec!["identity", "gzip", "zstd"]);
    let body = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        "[\\[\\]{}\":,a-z0-9 \n]{0,200}".prop_map(String::into_bytes),
        "\\{\"event\":\"page.viewed\",\"payload\":[\\[\\]{}\":,0-9]{0,40}\\}".prop_map(String::into_bytes),
    ];
    let headers = (media, coding, any::<bool>()).prop_map(|(media, coding, zipped)| {
        (vec![("content-type", media), ("content-encoding", coding)], coding, zipped)
    });
    (path, headers, body).prop_map(|(path, (headers, coding, zipped), body)| {
        let body = if zipped { compressed(coding, &body) } else { body };
        (path, headers, body)
    })
}

#[test]
fn whatever_is_sent_is_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let site = runtime.block_on(async { Setup::new().with_kafka().open() });
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 300, ..ProptestConfig::default() });
    let result = runner.run(&odd_requests(), |(path, headers, body)| {
        let answer = runtime.block_on(site.post(&path, &headers, body));
        prop_assert!(answer.status < 500, "{} {:?}", answer.status, answer.body);
        prop_assert!(!answer.body.is_empty());
        Ok(())
    });
    runtime.block_on(site.close());
    result.unwrap();
}

fn compressed(coding: &str, bytes: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::encode_all(bytes, 3).unwrap(),
        _ => bytes.to_vec(),
    }
}

mod accounts;
