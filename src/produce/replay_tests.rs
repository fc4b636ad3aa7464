//! A spool beside a client, against embedded brokers.

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::dev::brokers::{ALL_BROKERS, EmbeddedBrokers};
use crate::envelope::headers::HeaderBuffer;
use crate::outcome::Balance;
use crate::produce::settings::tests::cluster;
use crate::produce::{State, Stopped};
use crate::spool::Settings;

const PATIENCE: Duration = Duration::from_secs(30);

/// Brokers with two topics, a spool, and the clients beside it.
struct Bench {
    brokers: EmbeddedBrokers,
    _folder: tempfile::TempDir,
    spool: Arc<Spool>,
    reader: Option<Reader>,
    to: Destination,
    account: Arc<Account>,
}

impl Bench {
    fn new(bytes_max: u64) -> Bench {
        let brokers = EmbeddedBrokers::start(1).expect("loopback has free ports");
        for topic in ["orders", "stuck"] {
            brokers.create_topic(topic, 1, 1).expect("the topic is new");
        }
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { folder: folder.path().to_owned(), bytes_max, sync_interval: Duration::ZERO };
        let (spool, reader) = Spool::open(&settings, "core").unwrap();
        let mut cluster = cluster(brokers.bootstrap());
        cluster.message_timeout = Duration::from_secs(1);
        cluster.buffer_bytes_max = 100_000;
        let producers = Arc::new(Producers::beside([Arc::clone(&spool)]));
        let ledger = Arc::new(Ledger::default());
        let account = ledger.account("order.placed", "core");
        let to = Destination { cluster, producers, ledger };
        Bench { brokers, _folder: folder, spool, reader: Some(reader), to, account }
    }

    fn client(&self) -> Arc<Client> {
        self.to.producers.get_or_start(&self.to.cluster, Lane::Standard).expect("the settings are right")
    }

    fn send(&self, topic: &str, value: &[u8]) -> Result<(), (Code, String)> {
        let handle = TopicHandle::new(&self.client(), topic).unwrap();
        let headers = HeaderBuffer::default();
        let record = Record { key: None, value, headers: &headers, timestamp_ms: 1_700_000_000_000 };
        self.account.receive();
        let tracked = Tracked::new(&self.account, None, 0, record.cost_bytes());
        handle.send(&record, tracked).map_err(|refused| {
            refused.tracked.refused();
            self.account.reject(refused.code);
            (refused.code, refused.message)
        })
    }

    fn replay(&mut self) -> Replay {
        let reader = self.reader.take().expect("one replay a test");
        Replay::start(Arc::clone(&self.spool), reader, self.to.clone()).unwrap()
    }

    #[track_caller]
    fn until(&self, is_so: impl Fn(&Balance) -> bool) {
        let begin = Instant::now();
        while !is_so(&self.account.read()) {
            assert!(begin.elapsed() < PATIENCE, "{:?} {:?}", self.account.read(), self.spool.stats());
            std::thread::yield_now();
        }
    }

    /// So many events wait in the spool; the brokers are up again, and refuse the first batch for good that they are asked to take.
    #[track_caller]
    fn spool_what_is_refused_once(&mut self, events: u64) {
        self.brokers.take_down(ALL_BROKERS).expect("the brokers obey");
        (0..events).for_each(|_| self.send("orders", b"o").expect("there is room"));
        self.until(|balance| balance.in_spool == events);
        let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
        self.brokers.fail_requests(RDKafkaApiKey::Produce, vec![refusal]).expect("the brokers obey");
        self.brokers.bring_up(ALL_BROKERS).expect("the brokers obey");
    }

    /// Stops everything in order; the ledger.
    #[track_caller]
    fn stop(&self, replay: Option<Replay>) -> Balance {
        let rest = replay.and_then(Replay::stop);
        self.to.producers.stop(PATIENCE);
        self.spool.close();
        rest.into_iter().for_each(Rest::finish);
        let balance = self.account.read();
        assert!(balance.holds() && balance.in_memory == 0, "{balance:?}");
        balance
    }
}

#[test]
fn while_the_breaker_is_open_records_wait_on_disk_and_not_in_memory_and_it_closes_when_they_are_taken() {
    let mut bench = Bench::new(10_000_000);
    bench.to.cluster.breaker_open_after = Duration::from_millis(300);
    bench.to.cluster.breaker_retry_after = Duration::from_millis(100);
    // Longer than the test: what the client has it keeps.
    bench.to.cluster.message_timeout = Duration::from_secs(300);
    bench.send("orders", b"x").expect("there is room");
    bench.until(|balance| balance.delivered == 1);
    let gates = bench.to.producers.gates();
    let gate = Arc::clone(&gates[0].1);
    assert_eq!((gates.len(), gates[0].0.as_str(), gate.state()), (1, "core", State::Closed));

    bench.brokers.take_down(ALL_BROKERS).expect("the brokers obey");
    bench.send("orders", b"x").expect("there is room");
    bench.until(|_| gate.state() == State::Open);
    let reason = gate.trouble().expect("it is open").reason;
    assert!(reason.starts_with("nothing was acknowledged for"), "{reason}");
    (0..50).for_each(|_| bench.send("orders", b"x").expect("there is room"));
    bench.until(|balance| balance.in_spool == 50 && balance.in_memory == 1);
    assert_eq!(bench.client().in_flight(), 1, "none of them went to the client");

    let replay = bench.replay();
    bench.brokers.bring_up(ALL_BROKERS).expect("the brokers obey");
    bench.until(|balance| balance.in_memory + balance.in_spool == 0 && gate.state() == State::Closed);
    assert!(gate.trouble().is_none());
    assert_eq!(bench.stop(Some(replay)), Balance { received: 52, delivered: 52, ..Balance::default() });
}

#[test]
fn without_a_spool_an_open_breaker_leaves_it_to_the_budget() {
    let mut bench = Bench::new(10_000_000);
    bench.to.producers = Arc::default();
    bench.to.cluster.breaker_open_after = Duration::from_millis(300);
    bench.to.cluster.message_timeout = Duration::from_secs(300);
    bench.brokers.take_down(ALL_BROKERS).expect("the brokers obey");
    bench.send("orders", &[7; 1_000]).expect("there is room");
    let gate = Arc::clone(&bench.to.producers.gates()[0].1);
    bench.until(|_| gate.state() == State::Open);
    let refused = std::iter::repeat_with(|| bench.send("orders", &[7; 1_000])).find_map(Result::err);
    assert_eq!(refused.map(|(code, _)| code), Some(Code::BufferFull));
    bench.brokers.bring_up(ALL_BROKERS).expect("the brokers obey");
    bench.until(|balance| balance.in_memory == 0);
    bench.stop(None);
}

#[test]
fn records_that_the_broker_refuses_never_open_the_breaker() {
    let mut bench = Bench::new(10_000_000);
    bench.to.cluster.breaker_open_after = Duration::from_millis(300);
    bench.to.cluster.message_timeout = Duration::from_secs(300);
    bench.client().topic("orders", PATIENCE).expect("it exists");
    let gate = Arc::clone(&bench.to.producers.gates()[0].1);
    let begin = Instant::now();
    while begin.elapsed() < 3 * bench.to.cluster.breaker_open_after {
        let refusals = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE];
        bench.brokers.fail_requests(RDKafkaApiKey::Produce, refusals).expect("the brokers obey");
        bench.send("orders", b"x").expect("there is room");
        bench.until(|balance| balance.in_memory == 0);
    }
    let balance = bench.stop(None);
    assert_eq!((balance.failed, balance.delivered), (balance.received, 0));
    assert_eq!(gate.entered().map(|(_, count)| count).sum::<u64>(), 0);
    assert!(bench.to.producers.gates().is_empty(), "a stop ends the breakers");
}

#[test]
fn a_stop_keeps_on_disk_what_cannot_be_delivered() {
    let bench = Bench::new(10_000_000);
    bench.brokers.take_down(ALL_BROKERS).expect("the brokers obey");
    (0..100).for_each(|_| bench.send("orders", b"x").expect("there is room"));
    let stopped = bench.client().stop(Duration::from_secs(1));
    assert_eq!(stopped, Stopped { purged: 0, unreported: 0, spooled: 100 });
    assert_eq!(bench.stop(None), Balance { received: 100, in_spool: 100, ..Balance::default() });
}

#[test]
fn what_finds_no_room_goes_to_disk_until_that_is_full_and_is_delivered_in_the_end() {
    let mut bench = Bench::new(200_000);
    bench.brokers.take_down(ALL_BROKERS).expect("the brokers obey");
    let (mut taken, value) = (0, [7; 1_000]);
    let (code, message) = loop {
        match bench.send("orders", &value) {
            Ok(()) => taken += 1,
            // The disk has half of its limit in memory at most.
            Err((_, message)) if message.contains("behind") => std::thread::yield_now(),
            Err(refused) => break refused,
        }
        assert!(taken < 1_000, "100,000 bytes of memory and 200,000 of disk took a thousand records");
    };
    assert!(taken > 150, "only {taken} records were taken");
    assert_eq!(code, Code::BufferFull);
    assert!(message.contains("so is its spool"), "{message}");
    bench.brokers.bring_up(ALL_BROKERS).expect("the brokers obey");
    let replay = bench.replay();
    // What timed out before the brokers were back found the spool full.
    bench.until(|balance| balance.in_memory + balance.in_spool == 0);
    let balance = bench.stop(Some(replay));
    assert_eq!(balance.delivered + balance.failed, taken, "{balance:?}");
    assert!(balance.delivered > 80, "{balance:?}");
    assert_eq!(bench.spool.stats().bytes, 0, "nothing is left on disk");
}

#[test]
fn a_topic_that_takes_nothing_holds_up_no_other_and_is_served_once_it_does() {
    let mut bench = Bench::new(10_000_000);
    bench.brokers.set_leader("stuck", 0, None).expect("the brokers obey");
    bench.brokers.take_down(ALL_BROKERS).expect("the brokers obey");
    (0..20).for_each(|_| bench.send("stuck", b"s").expect("there is room"));
    (0..50).for_each(|_| bench.send("orders", b"o").expect("there is room"));
    bench.until(|balance| balance.in_spool == 70);
    bench.brokers.bring_up(ALL_BROKERS).expect("the brokers obey");
    let replay = bench.replay();
    bench.until(|balance| balance.delivered == 50);
    bench.brokers.set_leader("stuck", 0, Some(1)).expect("the brokers obey");
    bench.until(|balance| balance.delivered == 70);
    let expected = Balance { received: 70, delivered: 70, ..Balance::default() };
    assert_eq!(bench.stop(Some(replay)), expected);
}

#[test]
fn what_kafka_refuses_for_good_does_not_come_again() {
    let mut bench = Bench::new(10_000_000);
    bench.spool_what_is_refused_once(3);
    let replay = bench.replay();
    bench.until(|balance| balance.delivered + balance.failed == 3);
    let balance = bench.stop(Some(replay));
    assert!(balance.failed > 0 && balance.in_spool == 0, "{balance:?}");
}

#[test]
fn what_is_refused_for_good_and_finds_no_place_stays_in_the_spool_where_that_is_asked_for() {
    let mut bench = Bench::new(10_000_000);
    let elsewhere = tempfile::tempdir().unwrap();
    let settings = Settings { folder: elsewhere.path().to_owned(), ..bench.spool.settings().clone() };
    let log = crate::spool::failed::open(&settings, "core").unwrap();
    bench.to.producers.keeper("core").keep_all_in(&log);
    log.close();
    bench.spool_what_is_refused_once(3);
    let replay = bench.replay();
    bench.until(|balance| balance.delivered == 3);
    assert_eq!(bench.stop(Some(replay)), Balance { received: 3, delivered: 3, ..Balance::default() });
    assert!(!log.stats().refused.contains(&(Refusal::Closed, 0)), "it was refused, and found no place");
}

#[test]
fn a_topic_that_takes_nothing_is_tried_with_one_record_now_and_then() {
    let (mut pace, now) = (Pace::default(), Instant::now());
    for _ in 0..WINDOW_FIRST {
        assert_eq!(pace.next(now), Next::Send);
        pace.sent();
    }
    assert_eq!(pace.next(now), Next::Wait);
    pace.settle(Fate::Settled, now);
    assert_eq!((pace.next(now), pace.window), (Next::Send, WINDOW_FIRST + 1));
    pace.settle(Fate::Again, now);
    assert_eq!((pace.next(now), pace.next(now + PAUSE)), (Next::PassOver, Next::PassOver), "others are on their way");
    (0..WINDOW_FIRST - 2).for_each(|_| pace.settle(Fate::Again, now));
    assert_eq!((pace.next(now), pace.next(now + PAUSE)), (Next::PassOver, Next::Send));
    pace.sent();
    assert_eq!(pace.next(now + PAUSE), Next::PassOver, "one is on its way");
    pace.settle(Fate::Settled, now);
    assert_eq!(pace.next(now), Next::Send);
}
