//! A wal before a client, against embedded brokers.

use std::collections::BTreeSet;

use super::*;
use crate::dev::brokers::{ALL_BROKERS, EmbeddedBrokers};
use crate::dev::read_back::{Start, TopicReader};
use crate::envelope::headers::HeaderBuffer;
use crate::outcome::{Account, Balance, BatchState, Delivery, Ledger};
use crate::produce::Producers;
use crate::produce::settings::tests::cluster;
use crate::produce::wait::wait_for;
use crate::produce::wal::Volume;
use crate::spool::{Settings, Spool};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a request waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Nothing,
    Disk,
    Kafka,
}

/// Brokers with two topics, a wal, and the client behind it.
struct Bench {
    brokers: EmbeddedBrokers,
    folder: tempfile::TempDir,
    wal: Arc<Wal>,
    reader: Option<Reader>,
    to: Destination,
    account: Arc<Account>,
}

impl Bench {
    fn new() -> Bench {
        let brokers = EmbeddedBrokers::start(1).expect("loopback has free ports");
        for topic in ["orders", "stuck"] {
            brokers.create_topic(topic, 1, 1).expect("the topic is new");
        }
        Bench::open(brokers, tempfile::tempdir().unwrap(), 10_000_000)
    }

    fn open(brokers: EmbeddedBrokers, folder: tempfile::TempDir, bytes_max: u64) -> Bench {
        let settings = Settings { folder: folder.path().to_owned(), bytes_max, sync_interval: Duration::ZERO };
        let (log, reader) = Spool::open(&settings, "core").unwrap();
        let wal = Arc::new(Wal::new(log, Volume::Lasting));
        let producers = Arc::new(Producers::default().with_wals([Arc::clone(&wal)]));
        let ledger = Arc::new(Ledger::default());
        let account = ledger.account("order.placed", "core");
        let cluster = cluster(brokers.bootstrap());
        let to = Destination { cluster, producers, ledger };
        Bench { brokers, folder, wal, reader: Some(reader), to, account }
    }

    /// The next process, on the same disk.
    fn reopen(self) -> Bench {
        let Bench { brokers, folder, wal, reader, to, account } = self;
        drop((wal, reader, to, account));
        Bench::open(brokers, folder, 10_000_000)
    }

    fn client(&self) -> Arc<Client> {
        self.to.producers.get_or_start(&self.to.cluster, Lane::Wal).expect("the settings are right")
    }

    fn send(&self, topic: &str, value: &str, wait: Wait) -> Result<Option<Arc<BatchState>>, (Code, String)> {
        let handle = TopicHandle::new(&self.client(), topic).unwrap();
        let headers = HeaderBuffer::default();
        let value = value.as_bytes();
        let record = Record { key: Some(b"k"), value, headers: &headers, timestamp_ms: 1_700_000_000_000 };
        self.account.receive();
        let batch = (wait != Wait::Nothing).then(Arc::<BatchState>::default);
        let mut tracked = Tracked::new(&self.account, batch.as_ref(), 7, record.cost_bytes());
        if wait == Wait::Kafka {
            tracked.await_kafka();
        }
        handle.send(&record, tracked).map(|()| batch).map_err(|refused| {
            refused.tracked.refused();
            self.account.reject(refused.code);
            (refused.code, refused.message)
        })
    }

    fn send_all(&self, topic: &str, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.send(topic, &number.to_string(), Wait::Nothing).expect("there is room");
        }
    }

    fn start(&mut self) -> WalSender {
        let reader = self.reader.take().expect("one sender a process");
        WalSender::start(Arc::clone(&self.wal), reader, self.to.clone()).unwrap()
    }

    #[track_caller]
    fn until(&self, mut is_so: impl FnMut(&Balance) -> bool) {
        let begin = Instant::now();
        while !is_so(&self.account.read()) {
            assert!(begin.elapsed() < PATIENCE, "{:?} {:?}", self.account.read(), self.wal.log().stats());
            std::thread::yield_now();
        }
    }

    /// Stops everything in order; the ledger.
    #[track_caller]
    fn stop(&self, sender: Option<WalSender>) -> Balance {
        let rest = sender.and_then(WalSender::stop);
        self.to.producers.stop(Duration::from_secs(2));
        self.wal.log().close();
        rest.into_iter().for_each(Rest::finish);
        let balance = self.account.read();
        assert!(balance.holds() && balance.in_memory == 0, "{balance:?}");
        balance
    }

    fn read(&self, topic: &str, count: usize) -> Vec<u32> {
        let reader = TopicReader::open(self.brokers.bootstrap(), &[], topic, &Start::Beginning).expect("it exists");
        let read = |_| {
            let record = reader.next(PATIENCE).expect("the topic can be read").expect("the record comes in time");
            String::from_utf8(record.value.expect("it has a value")).unwrap().parse().unwrap()
        };
        (0..count).map(read).collect()
    }
}

fn settled(batch: Option<Arc<BatchState>>) -> Vec<(u32, Delivery)> {
    let batch = batch.expect("a request waits");
    wait_for(batch.settled(), PATIENCE).expect("it is settled in time");
    batch.take()
}

#[test]
fn what_kafka_does_not_take_is_durable_all_the_same_and_goes_there_later() {
    let mut bench = Bench::new();
    bench.brokers.take_down(ALL_BROKERS).expect("the brokers obey");
    let sender = bench.start();
    assert_eq!(settled(bench.send("orders", "1", Wait::Disk).unwrap()), [(7, Delivery::Spooled)]);
    let batch = bench.send("orders", "2", Wait::Kafka).unwrap();
    // On disk, and its request goes on waiting.
    bench.until(|balance| balance.in_spool + balance.in_memory == 2 && bench.wal.log().stats().written == 2);
    let waiting = batch.clone().expect("a request waits");
    assert_eq!(wait_for(waiting.settled(), Duration::from_millis(1)), None);
    assert_eq!(waiting.take(), [(7, Delivery::Spooled)], "that much is known");
    bench.brokers.bring_up(ALL_BROKERS).expect("the brokers obey");
    assert_eq!(settled(batch), [(7, Delivery::Delivered { partition: 0, offset: 1 })]);
    assert_eq!(bench.stop(Some(sender)), Balance { received: 2, delivered: 2, ..Balance::default() });
    assert_eq!(bench.wal.log().stats().bytes, 0, "nothing is left on disk");
}

#[test]
fn what_the_reply_did_not_wait_for_is_counted_when_it_comes() {
    let mut bench = Bench::new();
    let batch = bench.send("orders", "1", Wait::Kafka).unwrap().expect("a request waits");
    // It is counted a moment before its request knows.
    let mut known = Vec::new();
    bench.until(|balance| {
        known.extend(batch.take());
        balance.in_spool == 1 && !known.is_empty()
    });
    assert_eq!(known, [(7, Delivery::Spooled)]);
    assert_eq!(batch.take_last(), []);
    assert_eq!(bench.account.late.load(Relaxed), 0);
    let sender = bench.start();
    bench.until(|balance| balance.delivered == 1);
    assert_eq!(bench.stop(Some(sender)).delivered, 1);
    assert_eq!(bench.account.late.load(Relaxed), 1);
}

#[test]
fn a_restart_goes_on_where_the_last_process_was() {
    let mut bench = Bench::new();
    let sender = bench.start();
    bench.send_all("orders", 0..500);
    bench.until(|balance| balance.delivered == 500);
    bench.brokers.take_down(ALL_BROKERS).expect("the brokers obey");
    bench.send_all("orders", 500..900);
    bench.until(|balance| balance.in_spool + balance.in_memory == 400);
    let balance = bench.stop(Some(sender));
    assert_eq!((balance.delivered, balance.in_spool), (500, 400), "{balance:?}");
    bench.brokers.bring_up(ALL_BROKERS).expect("the brokers obey");
    let mut bench = bench.reopen();
    bench.send_all("orders", 900..1_000);
    let sender = bench.start();
    bench.until(|balance| balance.delivered == 500);
    let balance = bench.stop(Some(sender));
    assert_eq!(balance, Balance { received: 100, recovered: 400, delivered: 500, ..Balance::default() });
    assert_eq!(bench.read("orders", 1_000), (0..1_000).collect::<Vec<_>>());
}

#[test]
fn a_topic_that_takes_nothing_holds_up_no_other_and_keeps_its_order() {
    let mut bench = Bench::new();
    bench.brokers.set_leader("stuck", 0, None).expect("the brokers obey");
    let sender = bench.start();
    for number in 0..300 {
        bench.send_all("stuck", number..number + 1);
        bench.send_all("orders", number..number + 1);
    }
    // What is stuck fills its window first: more than a third of all.
    bench.send_all("stuck", 300..10_000);
    bench.send_all("orders", 300..600);
    bench.until(|balance| balance.delivered == 600);
    bench.send_all("stuck", 10_000..10_100);
    bench.brokers.set_leader("stuck", 0, Some(1)).expect("the brokers obey");
    bench.until(|balance| balance.delivered == 10_700);
    assert_eq!(bench.stop(Some(sender)).delivered, 10_700);
    assert_eq!(bench.read("orders", 600), (0..600).collect::<Vec<_>>());
    assert_eq!(bench.read("stuck", 10_100), (0..10_100).collect::<Vec<_>>());
}

#[test]
fn of_a_topic_that_is_stuck_for_long_no_more_is_taken_and_others_go_on() {
    let brokers = EmbeddedBrokers::start(1).expect("loopback has free ports");
    for topic in ["orders", "stuck"] {
        brokers.create_topic(topic, 1, 1).expect("the topic is new");
    }
    brokers.set_leader("stuck", 0, None).expect("the brokers obey");
    let mut bench = Bench::open(brokers, tempfile::tempdir().unwrap(), 400_000);
    let sender = bench.start();
    let (mut orders, mut stuck, begin) = (0, 1, Instant::now());
    bench.send_all("stuck", 0..1);
    while begin.elapsed() < STUCK {
        std::thread::yield_now();
    }
    let send_orders = |orders: &mut u32, count| {
        for _ in 0..count {
            bench.send("orders", &format!("{orders:0>100}"), Wait::Nothing).expect("it is not stuck");
            *orders += 1;
        }
        bench.until(|balance| balance.delivered == u64::from(*orders));
    };
    let (code, _) = loop {
        assert!(begin.elapsed() < PATIENCE, "{stuck} are taken");
        match bench.send("stuck", &stuck.to_string(), Wait::Nothing) {
            Ok(_) => stuck += 1,
            Err(refused) => break refused,
        }
        send_orders(&mut orders, 20);
    };
    assert_eq!(code, Code::EventTypeUnavailable);
    // Twice what the wal holds passes by those that are stuck.
    (0..40).for_each(|_| send_orders(&mut orders, 100));
    bench.brokers.set_leader("stuck", 0, Some(1)).expect("the brokers obey");
    bench.until(|balance| balance.delivered == u64::from(orders + stuck));
    while bench.send("stuck", &stuck.to_string(), Wait::Nothing).is_err() {
        assert!(begin.elapsed() < 2 * PATIENCE, "it is taken again");
        std::thread::yield_now();
    }
    bench.until(|balance| balance.delivered == u64::from(orders + stuck + 1));
    bench.stop(Some(sender));
    assert_eq!(bench.read("stuck", stuck as usize + 1), (0..=stuck).collect::<Vec<_>>());
}

#[test]
fn another_client_takes_over_when_the_one_before_has_nothing_on_its_way() {
    let mut bench = Bench::new();
    let sender = bench.start();
    bench.send_all("orders", 0..2_000);
    bench.until(|balance| balance.delivered > 0);
    bench.to.producers.replace(&bench.to.cluster, Lane::Wal).expect("it starts");
    bench.send_all("orders", 2_000..4_000);
    for client in bench.to.producers.displaced() {
        bench.to.producers.retire(client, PATIENCE);
    }
    bench.until(|balance| balance.delivered == 4_000);
    assert_eq!(bench.stop(Some(sender)).delivered, 4_000);
    assert_eq!(bench.read("orders", 4_000), (0..4_000).collect::<Vec<_>>());
}

#[test]
fn a_wal_that_can_take_no_more_says_so_and_takes_nothing() {
    let brokers = EmbeddedBrokers::start(1).expect("loopback has free ports");
    let bench = Bench::open(brokers, tempfile::tempdir().unwrap(), 20_000);
    let large = "9".repeat(3_000);
    let (code, message) = loop {
        match bench.send("orders", &large, Wait::Nothing) {
            Ok(_) => bench.until(|balance| balance.in_memory == 0),
            Err(refused) => break refused,
        }
    };
    assert_eq!((code, message.contains("`spool.bytes_max`")), (Code::DiskUnavailable, true), "{message}");
    let (code, _) = bench.send("orders", &"9".repeat(1_000_000), Wait::Disk).expect_err("it is too large");
    assert_eq!(code, Code::EventTooLarge);
    bench.wal.hold_back(BTreeSet::from(["stuck".to_owned()]));
    let (code, _) = bench.send("stuck", "1", Wait::Disk).expect_err("it is held back");
    assert_eq!(code, Code::EventTypeUnavailable);
    bench.send("orders", "1", Wait::Nothing).expect("it is another topic, and there is room for a small one");
    bench.wal.log().close();
    let (code, _) = bench.send("orders", "1", Wait::Disk).expect_err("it is closed");
    assert_eq!(code, Code::EventTypeUnavailable);
    let balance = bench.stop(None);
    assert_eq!((balance.rejected, balance.in_spool), (4, balance.received - 4), "{balance:?}");
}

const COST: u32 = 500;
const AMPLE: Room = Room { records: 1_000, bytes: 1_000_000 };

#[test]
fn nothing_overtakes_what_came_back() {
    let now = Instant::now();
    let mut order = Order::new(now);
    let next = |order: &Order, now| order.next(&AMPLE, COST, now);
    (0..3).for_each(|_| order.sent(COST, now));
    order.settle(Fate::Again, COST, now);
    assert_eq!(next(&order, now), Next::PassOver);
    let later = now + PAUSE;
    assert!(!order.may_go_on(later), "two that follow it are on their way");
    order.forget_passed_over();
    assert_eq!(next(&order, later), Next::PassOver, "another topic made the reader go back");
    order.pass_over(1);
    order.settle(Fate::Settled, COST, now);
    order.settle(Fate::Again, COST, now);
    assert!(!order.may_go_on(now) && order.may_go_on(later));
    order.forget_passed_over();
    assert_eq!(next(&order, later), Next::Send);
}

#[test]
fn a_topic_that_settles_nothing_is_passed_over_until_it_does() {
    let now = Instant::now();
    let mut order = Order::new(now);
    let small = Room { records: 2, bytes: 1_000_000 };
    (0..2).for_each(|_| order.sent(COST, now));
    assert_eq!(order.next(&small, COST, now), Next::Wait);
    assert_eq!(order.next(&AMPLE, COST, now), Next::Send);
    let later = now + STUCK;
    assert_eq!((order.next(&AMPLE, COST, later), order.may_go_on(later)), (Next::PassOver, false));
    order.pass_over(40);
    order.settle(Fate::Settled, COST, later);
    assert_eq!((order.next(&AMPLE, COST, later), order.may_go_on(later)), (Next::PassOver, true));
    order.forget_passed_over();
    assert_eq!(order.next(&AMPLE, COST, later), Next::Send);
}

#[test]
fn a_topic_has_no_more_than_half_of_the_room_and_always_room_for_one() {
    let now = Instant::now();
    let mut order = Order::new(now);
    let nothing = Room { records: 0, bytes: 0 };
    assert_eq!(order.next(&nothing, COST, now), Next::Send);
    order.sent(COST, now);
    assert_eq!(order.next(&nothing, COST, now), Next::Wait);
    assert_eq!(order.next(&Room { records: 10, bytes: 2 * u64::from(COST) - 1 }, COST, now), Next::Wait);
    assert_eq!(order.next(&Room { records: 10, bytes: 2 * u64::from(COST) }, COST, now), Next::Send);
}
