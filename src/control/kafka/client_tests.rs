//! What is sent again and what is not, against brokers that answer, break off, keep silent or talk nonsense as a test wants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, CreateTopicsResponse, MetadataResponse, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Encodable, StrBytes, decode_request_header_from_buffer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::config::Secret;
use crate::control::kafka::topics::NewTopic;
use crate::control::kafka::{KafkaAdmin, Mode};

/// What a broker does about a request.
enum Reply {
    /// Answers with the bytes of a response.
    Answer(Bytes),
    /// Answers, and closes the connection.
    Last(Bytes),
    /// Closes the connection.
    Close,
    /// Keeps the connection open and says nothing.
    Silence,
    /// Answers with these bytes, header and all.
    Raw(&'static [u8]),
}

type Script = dyn Fn(ApiKey, i16, usize) -> Reply + Send + Sync;

/// A broker that follows a script: what is asked, in which version, for which time.
struct Broker {
    address: Address,
    asked: Arc<Mutex<HashMap<i16, usize>>>,
    /// Ends with the broker.
    _tasks: JoinSet<()>,
}

impl Broker {
    async fn start(script: impl Fn(ApiKey, i16, usize) -> Reply + Send + Sync + 'static) -> Broker {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, script): (Arc<Mutex<HashMap<i16, usize>>>, Arc<Script>) = (Arc::default(), Arc::new(script));
        let mut tasks = JoinSet::new();
        let counts = Arc::clone(&asked);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve(socket, Arc::clone(&script), Arc::clone(&counts)));
            }
        });
        Broker { address: Address { host: "127.0.0.1".to_owned(), port }, asked, _tasks: tasks }
    }

    fn asked(&self, key: ApiKey) -> usize {
        self.asked.lock().unwrap().get(&(key as i16)).copied().unwrap_or_default()
    }
}

async fn serve(mut socket: TcpStream, script: Arc<Script>, asked: Arc<Mutex<HashMap<i16, usize>>>) {
    while let Ok(length) = socket.read_u32().await {
        let mut frame = vec![0; length as usize];
        socket.read_exact(&mut frame).await.unwrap();
        let header = decode_request_header_from_buffer(&mut Bytes::from(frame)).unwrap();
        let key = ApiKey::try_from(header.request_api_key).unwrap();
        let time = {
            let mut asked = asked.lock().unwrap();
            let time = asked.entry(header.request_api_key).or_default();
            *time += 1;
            *time
        };
        let version = header.request_api_version;
        let (body, more) = match script(key, version, time) {
            Reply::Answer(body) => (body, true),
            Reply::Last(body) => (body, false),
            Reply::Close => return,
            Reply::Silence => continue,
            Reply::Raw(bytes) => {
                socket.write_all(bytes).await.unwrap();
                continue;
            }
        };
        let mut answer = BytesMut::new();
        let id = ResponseHeader::default().with_correlation_id(header.correlation_id);
        id.encode(&mut answer, key.response_header_version(version)).unwrap();
        answer.extend_from_slice(&body);
        socket.write_u32(u32::try_from(answer.len()).unwrap()).await.unwrap();
        socket.write_all(&answer).await.unwrap();
        if !more {
            return;
        }
    }
}

fn encoded(response: &impl Encodable, version: i16) -> Bytes {
    let mut bytes = BytesMut::new();
    response.encode(&mut bytes, version).unwrap();
    bytes.freeze()
}

/// The versions of Kafka 4: what a well-behaved broker says first.
fn versions(version: i16, highest: i16) -> Reply {
    let api =
        |key: ApiKey| ApiVersion::default().with_api_key(key as i16).with_min_version(0).with_max_version(highest);
    let keys = [ApiKey::ApiVersions, ApiKey::Metadata, ApiKey::CreateTopics];
    Reply::Answer(encoded(&ApiVersionsResponse::default().with_api_keys(keys.map(api).to_vec()), version))
}

fn no_topics(version: i16) -> Bytes {
    let broker = MetadataResponseBroker::default().with_node_id(BrokerId(1)).with_host(StrBytes::from_static_str("?"));
    encoded(&MetadataResponse::default().with_brokers(vec![broker.with_port(-1)]), version)
}

fn created(version: i16, error_code: i16) -> Bytes {
    let topic = CreatableTopicResult::default().with_name(TopicName(StrBytes::from_static_str("t")));
    let topic = topic.with_error_code(error_code).with_topic_id(uuid::Uuid::from_u128(7));
    encoded(&CreateTopicsResponse::default().with_topics(vec![topic]), version)
}

fn client(brokers: &[&Broker]) -> KafkaClient {
    client_within(brokers, Timeouts::default())
}

/// A client for brokers that never answer: what is waited for in full is short.
fn hasty(brokers: &[&Broker]) -> KafkaClient {
    let (answer, call) = (Duration::from_millis(500), Duration::from_secs(3));
    client_within(brokers, Timeouts { connect: call, answer, call })
}

fn client_within(brokers: &[&Broker], timeouts: Timeouts) -> KafkaClient {
    let brokers = brokers.iter().map(|broker| broker.address.to_string()).collect();
    KafkaClient::new(Settings { brokers, tls: None, sasl: None, timeouts }).unwrap()
}

async fn create(client: &KafkaClient) -> Result<(), AdminError> {
    let topic = NewTopic { name: "t".to_owned(), partitions: Some(1), replicas: Some(1), configs: Vec::new() };
    KafkaAdmin::create_topics(client, &[topic], Mode::Apply).await?.remove(0).map(drop)
}

/// A broker that says its versions and follows the script from there.
async fn broker(script: impl Fn(ApiKey, i16, usize) -> Reply + Send + Sync + 'static) -> Broker {
    Broker::start(move |key, version, time| match key {
        ApiKey::ApiVersions => versions(version, 7),
        _ => script(key, version, time),
    })
    .await
}

#[tokio::test]
async fn a_change_that_was_sent_and_not_answered_is_never_sent_again() {
    for reply in
        [|| Reply::Close, || Reply::Silence, || Reply::Raw(b"\0\0\0\x05\0\0\0\x63\0"), || Reply::Raw(b"HTTP/1.1 400")]
    {
        let broker = broker(move |_, _, _| reply()).await;
        let error = create(&hasty(&[&broker])).await.unwrap_err();
        assert_eq!(error.code(), "unknown", "{error}");
        assert_eq!(broker.asked(ApiKey::CreateTopics), 1);
    }
}

#[tokio::test]
async fn a_change_that_the_controller_did_not_take_is_sent_again() {
    let broker = broker(|_, version, time| Reply::Answer(created(version, if time < 3 { 41 } else { 0 }))).await;
    assert_eq!(create(&client(&[&broker])).await, Ok(()));
    assert_eq!(broker.asked(ApiKey::CreateTopics), 3);
}

#[tokio::test]
async fn a_change_that_the_controller_never_takes_is_busy() {
    let broker = broker(|_, version, _| Reply::Answer(created(version, 41))).await;
    assert_eq!(create(&hasty(&[&broker])).await.unwrap_err().code(), "busy");
}

#[tokio::test]
async fn a_question_is_asked_again_and_elsewhere() {
    let silent = broker(|_, _, _| Reply::Silence).await;
    let moody =
        broker(|_, version, time| if time == 1 { Reply::Close } else { Reply::Answer(no_topics(version)) }).await;
    let short = Timeouts { answer: Duration::from_secs(1), ..Timeouts::default() };
    let client = client_within(&[&silent, &moody], short);
    assert_eq!(KafkaAdmin::list_topics(&client).await, Ok(Vec::new()));
    assert!(moody.asked(ApiKey::Metadata) == 2 || silent.asked(ApiKey::Metadata) == 1);
    let alone = broker(|_, _, _| Reply::Silence).await;
    let error = KafkaAdmin::list_topics(&hasty(&[&alone])).await.unwrap_err();
    assert_eq!(error.code(), "timeout", "{error}");
    assert!(alone.asked(ApiKey::Metadata) > 1);
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_nothing() {
    let broker = broker(|key, version, _| match key {
        ApiKey::CreateTopics => Reply::Last(created(version, 0)),
        _ => Reply::Answer(no_topics(version)),
    })
    .await;
    let client = client(&[&broker]);
    for _ in 0..3 {
        assert_eq!(create(&client).await, Ok(()));
        // Another connection there and back: by then the end of the first has arrived.
        assert_eq!(KafkaAdmin::list_topics(&self::client(&[&broker])).await, Ok(Vec::new()));
    }
    assert_eq!(broker.asked(ApiKey::CreateTopics), 3);
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let broker = broker(|_, version, _| Reply::Answer(no_topics(version))).await;
    let client = client(&[&broker]);
    for _ in 0..5 {
        KafkaAdmin::list_topics(&client).await.unwrap();
    }
    assert_eq!((broker.asked(ApiKey::ApiVersions), broker.asked(ApiKey::Metadata)), (1, 5));
}

#[tokio::test]
async fn what_is_no_broker_is_unreachable_and_what_is_too_old_is_not_supported() {
    let check = async |broker: Broker, code: &str, words: &str| {
        let (change, question) = (hasty(&[&broker]), hasty(&[&broker]));
        let (change, question) = tokio::join!(create(&change), KafkaAdmin::list_topics(&question));
        for error in [change, question.map(drop)] {
            let error = error.unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        assert_eq!(broker.asked(ApiKey::CreateTopics), 0);
    };
    let no_kafka = Broker::start(|_, _, _| Reply::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")).await;
    let no_header = Broker::start(|_, _, _| Reply::Raw(b"\0\0\0\x02\0\0")).await;
    let other_answer = Broker::start(|_, _, _| Reply::Raw(b"\0\0\0\x04\0\0\0\x63")).await;
    let closing = Broker::start(|_, _, _| Reply::Close).await;
    let silent = Broker::start(|_, _, _| Reply::Silence).await;
    let empty = Broker::start(|_, version, _| Reply::Answer(encoded(&ApiVersionsResponse::default(), version))).await;
    let old = Broker::start(|_, version, _| versions(version, -1)).await;
    // Together, since each waits out its time.
    tokio::join!(
        check(no_kafka, "unreachable", "limit"),
        check(no_header, "unreachable", "header"),
        check(other_answer, "unreachable", "instead of"),
        check(closing, "unreachable", "127.0.0.1"),
        check(silent, "unreachable", "in time"),
        check(empty, "not_supported", "does not offer"),
        check(old, "not_supported", "in versions"),
    );
}

#[test]
fn settings_of_no_use_are_refused_before_anything_is_sent() {
    let check = |brokers: &[&str], sasl: Option<Sasl>, tls: Option<ClientTls>, words: &str| {
        let brokers = brokers.iter().map(|broker| (*broker).to_owned()).collect();
        let refused = KafkaClient::new(Settings { brokers, tls, sasl, timeouts: Timeouts::default() }).unwrap_err();
        assert!(refused.to_string().contains(words), "{refused}");
    };
    let secret = || Secret::new("hush".to_owned());
    let sasl = |mechanism: &str| Sasl::Password {
        mechanism: mechanism.to_owned(),
        username: "u".to_owned(),
        password: secret(),
    };
    check(&[], None, None, "no broker");
    for broker in ["kafka", "kafka:", "kafka:0", "kafka:99999", ":9092"] {
        check(&[broker], None, None, broker);
    }
    check(&["kafka:9092"], Some(sasl("GSSAPI")), None, "GSSAPI");
    let oauth =
        Sasl::OAuth { token_url: String::new(), client_id: String::new(), client_secret: secret(), scope: None };
    check(&["kafka:9092"], Some(oauth), None, "OAUTHBEARER");
    let absent = ClientTls { ca_file: Some("absent.pem".into()), ..ClientTls::default() };
    check(&["kafka:9092"], None, Some(absent), "absent.pem");
    let client = KafkaClient::new(Settings {
        brokers: vec!["[::1]:9092".to_owned()],
        tls: None,
        sasl: Some(sasl("SCRAM-SHA-256")),
        timeouts: Timeouts::default(),
    });
    let shown = format!("{:?}", client.unwrap());
    assert!(shown.contains("::1") && !shown.contains("hush"), "{shown}");
}
