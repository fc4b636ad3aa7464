//! A client against embedded brokers. Each test ends with the ledger law.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::canary::Proof;
use super::settings::tests::cluster;
use super::wait::wait_for;
use super::*;
use crate::config::Cluster;
use crate::dev::brokers::{ALL_BROKERS, EmbeddedBrokers};
use crate::dev::read_back::{Consumed, Start, TopicReader};
use crate::envelope::headers::HeaderBuffer;
use crate::outcome::{Account, BatchState, Delivery, Ledger, Tracked};
use crate::route::Lane;
use crate::telemetry::export::Exporter;

const WAIT: Duration = Duration::from_secs(20);
const RECEIVED_MS: i64 = 1_700_000_000_123;

fn orders(client: &Arc<Client>) -> TopicHandle {
    TopicHandle::new(client, "orders").expect("the name is a topic's")
}

/// Brokers with the topic `orders`, an account, and a client made for each test.
struct Bench {
    brokers: EmbeddedBrokers,
    account: Arc<Account>,
    batch: Arc<BatchState>,
    sent: u32,
}

impl Bench {
    fn new(brokers: i32, partitions: i32) -> Self {
        let brokers = EmbeddedBrokers::start(brokers).expect("loopback has free ports");
        brokers.create_topic("orders", partitions, 1).expect("the topic is new");
        let account = Ledger::default().account("order.placed", "core");
        Bench { brokers, account, batch: Arc::default(), sent: 0 }
    }

    fn cluster(&self) -> Cluster {
        cluster(self.brokers.bootstrap())
    }

    fn start(&self, change: impl FnOnce(&mut Cluster), lane: Lane) -> Arc<Client> {
        let mut cluster = self.cluster();
        change(&mut cluster);
        Client::start(&cluster, lane, None).expect("the settings are right")
    }

    fn send(&mut self, client: &Arc<Client>, record: &Record<'_>) -> Result<(), Code> {
        self.account.receive();
        let tracked = Tracked::new(&self.account, Some(&self.batch), self.sent, record.cost_bytes());
        self.sent += 1;
        orders(client).send(record, tracked).map_err(|refused| {
            refused.tracked.refused();
            self.account.reject(refused.code);
            assert!(!refused.message.is_empty());
            refused.code
        })
    }

    fn send_value(&mut self, client: &Arc<Client>, value: &[u8]) -> Result<(), Code> {
        let headers = HeaderBuffer::default();
        self.send(client, &Record { key: None, value, headers: &headers, timestamp_ms: RECEIVED_MS })
    }

    /// What became of every record that was sent, once all of it is known, by index.
    fn settled(&self) -> Vec<(u32, Delivery)> {
        wait_for(self.batch.settled(), WAIT).expect("every record is settled in time");
        let mut settled = self.batch.take();
        settled.sort_unstable_by_key(|(index, _)| *index);
        settled
    }

    fn read_back(&self, records: usize) -> Vec<Consumed> {
        let reader = TopicReader::open(self.brokers.bootstrap(), &[], "orders", &Start::Beginning).expect("it exists");
        let read = |_| reader.next(WAIT).expect("the topic can be read").expect("the record comes in time");
        (0..records).map(read).collect()
    }

    fn assert_balanced(&self, client: &Client) {
        let balance = self.account.read();
        assert!(balance.holds() && balance.in_memory == 0, "{balance:?}");
        assert_eq!((client.in_flight(), client.buffered_bytes(), client.oldest_age()), (0, 0, None));
    }
}

fn failed(settled: &[(u32, Delivery)]) -> BTreeMap<&'static str, usize> {
    settled.iter().fold(BTreeMap::new(), |mut counts, (_, delivery)| {
        let code = match delivery {
            Delivery::Delivered { .. } => "delivered",
            Delivery::Failed(code) => code.as_str(),
            Delivery::Spooled => "spooled",
        };
        *counts.entry(code).or_default() += 1;
        counts
    })
}

#[test]
fn a_full_buffer_refuses_at_once_and_takes_records_again_when_reports_come() {
    let mut bench = Bench::new(1, 1);
    let client = bench.start(|cluster| cluster.buffer_bytes_max = 3 * 340, Lane::Standard);
    bench.brokers.take_down(ALL_BROKERS).expect("the brokers obey");
    assert_eq!([0; 4].map(|_| bench.send_value(&client, &[7; 100])), [Ok(()), Ok(()), Ok(()), Err(Code::BufferFull)]);
    assert_eq!((client.in_flight(), client.buffered_bytes()), (3, client.buffer_bytes_max()));
    assert!(client.oldest_age().is_some());
    bench.brokers.bring_up(ALL_BROKERS).expect("the brokers obey");
    assert_eq!(failed(&bench.settled()), BTreeMap::from([("delivered", 3)]));
    assert_eq!(bench.send_value(&client, &[7; 100]), Ok(()));
    bench.settled();
    assert_eq!(client.stop(WAIT), Stopped::default());
    bench.assert_balanced(&client);
}

#[test]
fn a_record_over_the_clients_limit_is_refused_with_the_limit() {
    let mut bench = Bench::new(1, 1);
    let limit = ("message.max.bytes".to_owned(), "2000".to_owned());
    let client = bench.start(|cluster| cluster.librdkafka.push(limit), Lane::Standard);
    assert_eq!(bench.send_value(&client, &[7; 3_000]), Err(Code::EventTooLarge));
    assert_eq!(bench.send_value(&client, &[7; 1_000]), Ok(()));
    bench.settled();
    client.stop(WAIT);
    bench.assert_balanced(&client);
}

#[test]
fn an_unknown_topic_is_refused_and_not_made() {
    let bench = Bench::new(1, 3);
    let client = bench.start(|_| (), Lane::Standard);
    for _ in 0..2 {
        let unknown = client.topic("nowhere", WAIT);
        assert!(matches!(&unknown, Err(ProduceError::UnknownTopic { topic, .. }) if topic == "nowhere"), "{unknown:?}");
    }
    let topic = client.topic("orders", WAIT).expect("it exists");
    assert_eq!((topic.partitions, topic.max_message_bytes), (3, None));
    let made = TopicReader::open(bench.brokers.bootstrap(), &[], "nowhere", &Start::Beginning);
    assert!(made.is_err());
}

#[test]
fn a_silent_cluster_is_told_apart_from_an_unknown_topic() {
    let bench = Bench::new(1, 1);
    bench.brokers.take_down(ALL_BROKERS).expect("the brokers obey");
    let client = bench.start(|_| (), Lane::Standard);
    let silent = client.topic("orders", Duration::from_millis(500));
    assert!(matches!(silent, Err(ProduceError::Unreachable { .. })), "{silent:?}");
    assert!(client.last_error().is_some(), "the error callback says why");
    bench.brokers.bring_up(ALL_BROKERS).expect("the brokers obey");
    client.topic("orders", WAIT).expect("the broker is back");
    assert_eq!(client.last_error(), None);
}

#[test]
fn a_record_that_no_broker_takes_in_time_fails_as_unknown() {
    let mut bench = Bench::new(1, 1);
    let client = bench.start(|cluster| cluster.message_timeout = Duration::from_millis(600), Lane::Standard);
    client.topic("orders", WAIT).expect("it exists");
    bench.brokers.take_down(ALL_BROKERS).expect("the brokers obey");
    assert_eq!(bench.send_value(&client, b"late"), Ok(()));
    assert_eq!(failed(&bench.settled()), BTreeMap::from([("unknown", 1)]));
    assert_eq!(client.failures().find(|(_, n)| *n > 0), Some((Failure::TimedOut, 1)));
    client.stop(WAIT);
    bench.assert_balanced(&client);
}

#[test]
fn a_broker_that_refuses_a_record_for_good_is_told_apart_from_a_failure() {
    let refusals = [
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, "record_refused"),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD, "record_refused"),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "delivery_failed"),
    ];
    for (refusal, code) in refusals {
        let mut bench = Bench::new(1, 1);
        let client = bench.start(|_| (), Lane::Standard);
        bench.brokers.fail_requests(RDKafkaApiKey::Produce, vec![refusal]).expect("the brokers obey");
        assert_eq!(bench.send_value(&client, b"refused"), Ok(()));
        assert_eq!(failed(&bench.settled()), BTreeMap::from([(code, 1)]), "{refusal:?}");
        client.stop(WAIT);
        bench.assert_balanced(&client);
    }
}

#[test]
fn a_stop_settles_what_cannot_be_delivered() {
    let mut bench = Bench::new(1, 2);
    let client = bench.start(|_| (), Lane::Standard);
    client.topic("orders", WAIT).expect("it exists");
    bench.brokers.take_down(ALL_BROKERS).expect("the brokers obey");
    let taken = (0..500).filter(|_| bench.send_value(&client, &[1; 50]).is_ok()).count();
    let stopped = client.stop(Duration::from_millis(50));
    assert_eq!(stopped, Stopped { purged: taken as u64, unreported: 0, spooled: 0 });
    assert_eq!(bench.settled().len(), 500);
    bench.assert_balanced(&client);
}

#[test]
fn a_stop_delivers_what_can_be_delivered_and_is_done_once() {
    let mut bench = Bench::new(3, 12);
    let settings = |cluster: &mut Cluster| {
        cluster.name = "observed".to_owned();
        cluster.slow_linger = Duration::from_millis(300);
    };
    let client = bench.start(settings, Lane::Slow);
    assert!((0..2_000).all(|_| bench.send_value(&client, &[1; 50]).is_ok()));
    assert_eq!(client.stop(WAIT), Stopped::default());
    assert_eq!(client.stop(WAIT), Stopped::default());
    assert_eq!(failed(&bench.settled()), BTreeMap::from([("delivered", 2_000)]));
    assert_eq!(bench.send_value(&client, b"too late"), Err(Code::EventTypeUnavailable));
    bench.assert_balanced(&client);
    assert_eq!(client.delivered(), 2_000);
    let observed = r#"iguazu_producer_ack_latency_seconds_count{cluster="observed",lane="slow"} 2000"#;
    assert!(Exporter::new(vec![]).render().lines().any(|line| line == observed));
}

#[test]
fn a_leader_that_hangs_gets_no_more_than_half_of_the_buffer_and_the_others_go_on() {
    let mut bench = Bench::new(3, 6);
    for partition in 0..6 {
        bench.brokers.set_leader("orders", partition, Some(partition % 3 + 1)).expect("the brokers obey");
    }
    let client = bench.start(|cluster| cluster.buffer_bytes_max = 200_000, Lane::Standard);
    client.topic("orders", WAIT).expect("it exists");
    bench.brokers.set_round_trip(1, Duration::from_secs(8)).expect("the brokers obey");
    let (begin, mut taken) = (Instant::now(), 0);
    // The client holds 588 of them at most, so many go on while one leader answers nothing.
    while taken < 5_000 {
        assert!(
            begin.elapsed() < Duration::from_secs(7),
            "after {taken} records nothing went on: {:?}",
            client.debts()
        );
        match bench.send_value(&client, &[7; 100]) {
            Ok(()) => taken += 1,
            Err(code) => assert_eq!(code, Code::BufferFull),
        }
    }
    let headers = HeaderBuffer::default();
    let mut refused = BTreeMap::<usize, u32>::new();
    for n in 0..600 {
        let key = format!("key-{}", n % 6);
        let record =
            Record { key: Some(key.as_bytes()), value: &[7; 600], headers: &headers, timestamp_ms: RECEIVED_MS };
        let sent = bench.send(&client, &record);
        *refused.entry(n % 6).or_default() += u32::from(sent.is_err());
    }
    assert!(client.buffered_bytes() < client.buffer_bytes_max(), "there is room for others all the time");
    assert!(refused.values().any(|count| *count > 0), "keys of the silent leader are refused: {refused:?}");
    bench.brokers.set_round_trip(1, Duration::ZERO).expect("the brokers obey");
    let settled = failed(&bench.settled());
    assert_eq!(settled.keys().collect::<Vec<_>>(), [&"delivered"], "{settled:?}");
    assert!(client.debts().iter().all(|(_, bytes)| *bytes == 0), "{:?}", client.debts());
    client.stop(WAIT);
    bench.assert_balanced(&client);
}

#[test]
fn a_stop_amid_senders_loses_nothing() {
    let bench = Bench::new(1, 4);
    let client = bench.start(|_| (), Lane::Standard);
    let topic = orders(&client);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let headers = HeaderBuffer::default();
                let record = Record { key: None, value: b"x", headers: &headers, timestamp_ms: RECEIVED_MS };
                loop {
                    bench.account.receive();
                    let tracked = Tracked::new(&bench.account, None, 0, record.cost_bytes());
                    if let Err(refused) = topic.send(&record, tracked) {
                        refused.tracked.refused();
                        bench.account.reject(refused.code);
                        if refused.code == Code::EventTypeUnavailable {
                            break;
                        }
                        std::thread::yield_now();
                    }
                }
            });
        }
        let busy = Instant::now() + WAIT;
        while client.delivered() < 1_000 && Instant::now() < busy {
            std::thread::yield_now();
        }
        client.stop(Duration::from_millis(20));
    });
    bench.assert_balanced(&client);
    assert!(bench.account.read().delivered >= 1_000);
}

#[test]
fn a_client_that_is_dropped_settles_its_records() {
    let mut bench = Bench::new(1, 1);
    bench.brokers.take_down(ALL_BROKERS).expect("the brokers obey");
    let client = bench.start(|_| (), Lane::Standard);
    assert_eq!(bench.send_value(&client, b"left"), Ok(()));
    drop(client);
    assert_eq!(failed(&bench.settled()), BTreeMap::from([("delivery_failed", 1)]));
    let balance = bench.account.read();
    assert!(balance.holds() && balance.in_memory == 0, "{balance:?}");
}

#[test]
fn empty_and_absent_keys_and_values_stay_apart() {
    let mut bench = Bench::new(1, 1);
    let client = bench.start(|_| (), Lane::Standard);
    let headers = HeaderBuffer::default();
    for (key, value) in [(None, &b""[..]), (Some(&b""[..]), b"v"), (Some(b"k"), b"")] {
        let record = Record { key, value, headers: &headers, timestamp_ms: RECEIVED_MS };
        assert_eq!(bench.send(&client, &record), Ok(()));
    }
    bench.settled();
    let read: Vec<_> = bench.read_back(3).into_iter().map(|record| (record.key, record.value)).collect();
    let (empty, some) = (|| Some(Vec::new()), |text: &[u8]| Some(text.to_vec()));
    assert_eq!(read, [(None, empty()), (empty(), some(b"v")), (some(b"k"), empty())]);
    client.stop(WAIT);
    bench.assert_balanced(&client);
}

#[test]
fn a_record_arrives_as_it_was_sent_in_every_lane_and_its_report_says_where() {
    for lane in Lane::ALL {
        let mut bench = Bench::new(1, 4);
        let client = bench.start(|_| (), lane);
        let mut headers = HeaderBuffer::default();
        for (name, value) in [("ce_id", &b"7"[..]), ("x", b"1"), ("x", b""), ("a", b"\0\xff")] {
            headers.push(name, value);
        }
        let key = Some(&b"customer-7"[..]);
        let record = Record { key, value: b"\0\0\0\0\x07", headers: &headers, timestamp_ms: RECEIVED_MS };
        for _ in 0..3 {
            assert_eq!(bench.send(&client, &record), Ok(()));
        }
        let settled = bench.settled();
        let read = bench.read_back(3);
        for ((_, delivery), read) in settled.iter().zip(&read) {
            assert_eq!(*delivery, Delivery::Delivered { partition: read.partition, offset: read.offset }, "{lane:?}");
            let sent: Vec<_> = headers.iter().map(|(n, v)| (n.to_owned(), Some(v.to_vec()))).collect();
            assert_eq!(read.headers, sent);
            assert_eq!((read.key.as_deref(), read.value.as_deref()), (record.key, Some(record.value)));
            assert_eq!(read.timestamp_ms, Some(RECEIVED_MS));
        }
        client.stop(WAIT);
        bench.assert_balanced(&client);
    }
}

/// The safe twin of the handle is rdkafka's own `send`.
#[test]
fn a_handle_sends_what_rdkafka_sends() {
    let mut bench = Bench::new(1, 1);
    let client = bench.start(|_| (), Lane::Standard);
    let twin = ClientConfig::new().set("bootstrap.servers", bench.brokers.bootstrap()).create::<BaseProducer>();
    let twin = twin.expect("the settings are right");
    let mut several = HeaderBuffer::default();
    for (name, value) in [("ce_id", &b"7"[..]), ("", b""), ("x", b"\0\xff"), ("x", b"2")] {
        several.push(name, value);
    }
    let none = HeaderBuffer::default();
    for headers in [&none, &several] {
        for (key, value) in [(None, &b""[..]), (Some(&b""[..]), b"v"), (Some(b"k\0"), b"\0\x01")] {
            let record = Record { key, value, headers, timestamp_ms: RECEIVED_MS };
            assert_eq!(bench.send(&client, &record), Ok(()));
            let owned = headers
                .iter()
                .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(value) }));
            let base = BaseRecord {
                topic: "orders",
                partition: None,
                payload: Some(value),
                key,
                timestamp: Some(RECEIVED_MS),
                headers: (!headers.is_empty()).then_some(owned),
                delivery_opaque: (),
            };
            twin.send(base).map_err(|(error, _)| error).expect("the twin takes the record");
            twin.flush(WAIT).expect("the twin's record is delivered");
            bench.settled();
            let read = bench.read_back(bench.sent as usize * 2);
            let [.., one, other] = &read[..] else { panic!("{read:?}") };
            let content = |r: &Consumed| (r.key.clone(), r.value.clone(), r.headers.clone(), r.timestamp_ms);
            assert_eq!(content(one), content(other));
        }
    }
    client.stop(WAIT);
    bench.assert_balanced(&client);
}

#[test]
fn a_canary_reaches_every_broker_that_leads_and_no_ledger() {
    let bench = Bench::new(3, 6);
    for partition in 0..6 {
        bench.brokers.set_leader("orders", partition, Some(partition % 3 + 1)).expect("the brokers obey");
    }
    let client = bench.start(|_| (), Lane::Standard);
    let canary = client.canary("orders", WAIT).expect("every broker answers");
    assert_eq!((canary.brokers, canary.without_leader), (vec![1, 2, 3], 0));
    assert!(matches!(client.canary("nowhere", WAIT), Err(ProduceError::UnknownTopic { .. })));
    assert_eq!(bench.account.read().received, 0);

    let refusals = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 1_000];
    bench.brokers.fail_requests(RDKafkaApiKey::Produce, refusals).expect("the brokers obey");
    let silent = client.canary("orders", Duration::from_millis(300));
    let names = "broker 1, broker 2, broker 3";
    assert!(matches!(&silent, Err(ProduceError::NoCanary { brokers, .. }) if brokers == names), "{silent:?}");
    client.stop(Duration::ZERO);
    bench.assert_balanced(&client);
}

#[test]
fn a_proof_holds_for_the_brokers_that_gave_it_and_the_others_are_told() {
    let bench = Bench::new(3, 3);
    bench.brokers.create_topic("canary", 1, 1).expect("it is new");
    bench.brokers.set_leader("canary", 0, Some(1)).expect("the brokers obey");
    let client = bench.start(|_| (), Lane::Standard);
    let led_by = |leaders: &[i32]| {
        let leaders = leaders.iter().copied().collect();
        Topic { partitions: 3, max_message_bytes: None, leaders }
    };
    let out_of_reach = |leaders: &[i32]| {
        client.prove("canary", &led_by(leaders), WAIT).expect("every broker answers");
        match &*client.proof.lock().expect("no test panics while it holds this lock") {
            Proof::Given { out_of_reach, .. } => out_of_reach.iter().copied().collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(out_of_reach(&[1]), Vec::<i32>::new());
    assert_eq!(out_of_reach(&[1, 2]), [2], "broker 2 leads no partition of the canary topic");
    assert_eq!(out_of_reach(&[2, 3]), [2, 3]);
    bench.assert_balanced(&client);
}

#[test]
fn the_poll_thread_shows_that_it_lives() {
    let bench = Bench::new(1, 1);
    let client = bench.start(|_| (), Lane::Standard);
    let end = Instant::now() + WAIT;
    let first = loop {
        let age = client.poll_age();
        std::thread::yield_now();
        if client.poll_age() < age || Instant::now() > end {
            break age;
        }
    };
    assert!(first < Duration::from_secs(2), "{first:?}");
}

#[test]
fn producers_hold_one_client_a_lane_and_replace_it_without_loss() {
    let mut bench = Bench::new(1, 1);
    let (producers, cluster) = (Producers::default(), bench.cluster());
    let standard = producers.get_or_start(&cluster, Lane::Standard).expect("it starts");
    assert!(Arc::ptr_eq(&standard, &producers.get_or_start(&cluster, Lane::Standard).expect("it is there")));
    let all = producers.get_or_start(&cluster, Lane::All).expect("it starts");
    assert_eq!(producers.all().len(), 2);

    assert_eq!(bench.send_value(&standard, b"old"), Ok(()));
    let new = producers.replace(&cluster, Lane::Standard).expect("it starts");
    let displaced = producers.displaced();
    assert!(matches!(&displaced[..], [old] if Arc::ptr_eq(old, &standard) && !Arc::ptr_eq(old, &new)));
    producers.retire(standard, WAIT);
    assert_eq!(producers.displaced().len(), 0);
    assert_eq!(bench.send_value(&new, b"new"), Ok(()));
    assert_eq!(bench.send_value(&all, b"all"), Ok(()));
    assert_eq!(producers.stop(WAIT), Stopped::default());
    assert_eq!(failed(&bench.settled()), BTreeMap::from([("delivered", 3)]));
    assert_eq!(producers.all().len(), 0);
    bench.assert_balanced(&new);
}

#[test]
fn a_client_that_drains_behind_does_not_hold_up_a_stop_with_less_time() {
    let mut bench = Bench::new(1, 1);
    let producers = Producers::default();
    let client = producers.get_or_start(&bench.cluster(), Lane::Standard).expect("it starts");
    bench.brokers.take_down(ALL_BROKERS).expect("the brokers obey");
    assert_eq!(bench.send_value(&client, b"left"), Ok(()));
    producers.retire(Arc::clone(&client), WAIT);
    let begun = Instant::now();
    assert_eq!(producers.stop(Duration::from_millis(300)), Stopped { purged: 1, unreported: 0, spooled: 0 });
    assert!(begun.elapsed() < WAIT / 4, "{:?}", begun.elapsed());
    bench.assert_balanced(&client);
}
