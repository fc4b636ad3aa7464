//! Which partition a record goes to, and what each leader still owes: a broker that hangs must not fill the whole client.
//!
//! In: a record's key and cost, what is known of its topic's leaders, the time. Out: a partition whose leader has room, or none.
//! Never: I/O. While a client is well nobody asks: librdkafka's own partitioner chooses, and nothing is counted here. It is asked as
//! soon as the buffer fills or records wait for too long, and then no leader gets more than half of the budget: what was sent
//! before is within [`CARE_SHARE`], what is counted from then on within [`LEADER_SHARE`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};

use arc_swap::ArcSwap;

/// The part of the budget, in eighths, from which on records are placed with care.
pub(super) const CARE_SHARE: u64 = 1;
/// The part of the budget, in eighths, that the records of one leader may take that are counted.
pub(super) const LEADER_SHARE: u64 = 3;
/// Leaders that are told apart. Those of a larger cluster share nothing, and are not held back.
const LEADERS_MAX: usize = 255;
/// How long a leader may owe records without acknowledging any before null-key records avoid it.
const SUSPECT_AFTER_MS: u32 = 2_000;

/// A leader, numbered from 1 in the order in which they were seen; 0 stands for none.
pub(super) type LeaderId = u8;

/// The leaders that a client sends to.
#[derive(Debug)]
pub(super) struct Leaders {
    /// Broker ids, in order.
    brokers: Mutex<Vec<i32>>,
    broker_count: AtomicUsize,
    debts: Box<[Debt]>,
    topics: RwLock<HashMap<String, Arc<Partitions>>>,
    /// Where the next choice begins.
    turn: AtomicU32,
    /// Most bytes that one leader may owe.
    bytes_max: u64,
    /// For how long null-key records stay with a partition.
    stay_ms: u32,
}

/// What a leader owes.
#[derive(Debug, Default)]
struct Debt {
    bytes: AtomicU64,
    /// When it last acknowledged a record, or owed nothing.
    alive_ms: AtomicU32,
}

/// The partitions of a topic.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    /// The leader of each; empty while they are not known.
    leaders: ArcSwap<Vec<LeaderId>>,
    /// The partition that null-key records stay with in the upper half, until when in the lower one.
    stay: AtomicU64,
}

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To this partition, or to the one that librdkafka chooses; the leader owes it.
    At(Option<i32>, LeaderId),
    /// Nowhere: each leader that it may go to owes too much.
    Nowhere,
}

/// A record to be placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) cost_bytes: u32,
    /// It is counted, and goes whatever its leader owes.
    pub(super) must_go: bool,
}

impl Leaders {
    /// For a client with this budget and linger.
    pub(super) fn new(budget_bytes: u64, linger_ms: u32) -> Self {
        Leaders {
            brokers: Mutex::default(),
            broker_count: AtomicUsize::new(0),
            debts: (0..=LEADERS_MAX).map(|_| Debt::default()).collect(),
            topics: RwLock::default(),
            turn: AtomicU32::new(0),
            bytes_max: budget_bytes * LEADER_SHARE / 8,
            stay_ms: linger_ms.max(10),
        }
    }

    /// The partitions of a topic, not known yet when nobody has asked before.
    pub(super) fn topic(&self, name: &str) -> Arc<Partitions> {
        let mut topics = self.topics.write().expect("no code panics while it holds this lock");
        Arc::clone(topics.entry(name.to_owned()).or_default())
    }

    /// Whether anybody asked for the topic.
    pub(super) fn knows(&self, topic: &str) -> bool {
        self.topics.read().expect("no code panics while it holds this lock").contains_key(topic)
    }

    /// Takes in which broker leads each partition; a negative id is none.
    pub(super) fn learn(&self, topic: &str, leaders: impl Iterator<Item = i32>) {
        let partitions = self.topic(topic);
        let before = partitions.leaders.load();
        // A partition that has lost its leader still waits for that one, until it has another.
        let known = |(index, broker): (usize, i32)| match self.id_of(broker) {
            0 => before.get(index).copied().unwrap_or(0),
            leader => leader,
        };
        partitions.leaders.store(Arc::new(leaders.enumerate().map(known).collect()));
    }

    /// Chooses where a record goes, and counts it.
    pub(super) fn place(&self, partitions: &Partitions, item: Item<'_>, now_ms: u32) -> Place {
        // With one broker there is nobody whose room could be kept.
        let has_neighbours = self.broker_count.load(Relaxed) > 1;
        let leaders = partitions.leaders.load();
        if !has_neighbours || leaders.iter().all(|leader| *leader == 0) {
            return Place::At(None, 0);
        }
        match item.key {
            Some(key) => {
                let leader = leaders[partition_of(key, leaders.len())];
                match self.lend(leader, item, now_ms) {
                    true => Place::At(None, leader),
                    false => Place::Nowhere,
                }
            }
            None => self.place_anywhere(partitions, &leaders, item, now_ms),
        }
    }

    /// Of a record without a key: to the partition of the one before it for a while, so that batches fill.
    fn place_anywhere(&self, partitions: &Partitions, leaders: &[LeaderId], item: Item<'_>, now_ms: u32) -> Place {
        let stay = partitions.stay.load(Relaxed);
        let (partition, until_ms) = ((stay >> 32) as usize, stay as u32);
        let left_ms = until_ms.wrapping_sub(now_ms);
        let may_stay = left_ms > 0 && left_ms <= self.stay_ms;
        if may_stay
            && partition < leaders.len()
            && self.is_good(leaders[partition], now_ms)
            && self.lend(leaders[partition], Item { must_go: false, ..item }, now_ms)
        {
            return Place::At(Some(partition as i32), leaders[partition]);
        }
        let first = self.turn.fetch_add(1, Relaxed) as usize;
        let candidates = (0..leaders.len()).map(|next| (first + next) % leaders.len());
        for partition in candidates.filter(|partition| leaders[*partition] > 0) {
            let leader = leaders[partition];
            if self.is_good(leader, now_ms) && self.lend(leader, Item { must_go: false, ..item }, now_ms) {
                let until_ms = now_ms.wrapping_add(self.stay_ms);
                partitions.stay.store((partition as u64) << 32 | u64::from(until_ms), Relaxed);
                return Place::At(Some(partition as i32), leader);
            }
        }
        if item.must_go { Place::At(None, 0) } else { Place::Nowhere }
    }

    /// A record is settled, or comes back; acknowledged or not.
    pub(super) fn settle(&self, leader: LeaderId, cost_bytes: u32, acknowledged_ms: Option<u32>) {
        let debt = &self.debts[usize::from(leader)];
        debt.bytes.fetch_sub(u64::from(cost_bytes), Relaxed);
        if let Some(now_ms) = acknowledged_ms {
            debt.alive_ms.store(now_ms, Relaxed);
        }
    }

    /// Bytes that each broker owes, those that were seen so far.
    pub(super) fn debts(&self) -> Vec<(i32, u64)> {
        let brokers = self.brokers.lock().expect("no code panics while it holds this lock");
        brokers.iter().zip(&self.debts[1..]).map(|(broker, debt)| (*broker, debt.bytes.load(Relaxed))).collect()
    }

    /// Counts a record as owed, if there is room.
    fn lend(&self, leader: LeaderId, item: Item<'_>, now_ms: u32) -> bool {
        if leader == 0 {
            return true;
        }
        let debt = &self.debts[usize::from(leader)];
        let before = debt.bytes.fetch_add(u64::from(item.cost_bytes), Relaxed);
        if before == 0 {
            debt.alive_ms.store(now_ms, Relaxed);
        } else if before + u64::from(item.cost_bytes) > self.bytes_max && !item.must_go {
            debt.bytes.fetch_sub(u64::from(item.cost_bytes), Relaxed);
            return false;
        }
        true
    }

    /// Whether a leader acknowledged lately, or owes nothing.
    fn is_good(&self, leader: LeaderId, now_ms: u32) -> bool {
        let debt = &self.debts[usize::from(leader)];
        let silent_ms = now_ms.wrapping_sub(debt.alive_ms.load(Relaxed));
        debt.bytes.load(Relaxed) == 0 || silent_ms <= SUSPECT_AFTER_MS + self.stay_ms || silent_ms > u32::MAX / 2
    }

    fn id_of(&self, broker: i32) -> LeaderId {
        if broker < 0 {
            return 0;
        }
        let mut brokers = self.brokers.lock().expect("no code panics while it holds this lock");
        let index = brokers.iter().position(|known| *known == broker).unwrap_or_else(|| {
            brokers.push(broker);
            self.broker_count.store(brokers.len(), Relaxed);
            brokers.len() - 1
        });
        LeaderId::try_from(index + 1).unwrap_or(0)
    }
}

/// The partition that Java's client, and librdkafka's `murmur2_random`, choose for a key.
fn partition_of(key: &[u8], partitions: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % partitions
}

/// MurmurHash2, 32 bits, with the seed of Kafka's clients (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A budget of 800: 300 a leader. Six partitions on the brokers 7, 8 and 9.
    fn leaders() -> (Leaders, Arc<Partitions>) {
        let leaders = Leaders::new(800, 10);
        leaders.learn("orders", [7, 8, 9, 7, 8, 9].into_iter());
        let partitions = leaders.topic("orders");
        (leaders, partitions)
    }

    const fn item(key: Option<&[u8]>, cost_bytes: u32) -> Item<'_> {
        Item { key, cost_bytes, must_go: false }
    }

    #[test]
    fn a_key_goes_where_javas_client_puts_it() {
        let vectors = include_str!("../../tests/golden/java_partitions.txt");
        let mut seen = 0;
        for line in vectors.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split(' ');
            let hex = words.next().filter(|hex| *hex != "-").unwrap_or_default();
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("the vectors are in hex");
            let key: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            for (word, count) in words.zip([1, 3, 12, 1000]) {
                assert_eq!(partition_of(&key, count).to_string(), word, "{hex} of {count}");
                seen += 1;
            }
        }
        assert!(seen > 100, "only {seen} vectors");
    }

    #[test]
    fn nothing_is_chosen_while_the_leaders_are_not_known_or_there_is_one_broker() {
        let leaders = Leaders::new(800, 10);
        let unknown = leaders.topic("unknown");
        assert_eq!(leaders.place(&unknown, item(None, 1_000), 0), Place::At(None, 0));
        leaders.learn("orders", [7, 7, -1].into_iter());
        let orders = leaders.topic("orders");
        assert_eq!(leaders.place(&orders, item(None, 1_000), 0), Place::At(None, 0));
        assert_eq!(leaders.place(&orders, item(Some(b"key"), 1_000), 0), Place::At(None, 0));
    }

    #[test]
    fn records_without_a_key_stay_together_for_a_while_and_then_move_on() {
        let (leaders, orders) = leaders();
        let at = |now_ms| match leaders.place(&orders, item(None, 1), now_ms) {
            Place::At(Some(partition), _) => partition,
            other => panic!("{other:?}"),
        };
        let first = at(100);
        assert_eq!([101, 105, 109].map(at), [first; 3]);
        assert_ne!(at(110), first);
    }

    #[test]
    fn a_leader_that_owes_too_much_gets_no_more_until_it_pays() {
        let (leaders, orders) = leaders();
        let key = item(Some(b"key"), 100);
        let Place::At(None, leader) = leaders.place(&orders, key, 0) else { panic!("there is room") };
        assert!(leader > 0);
        assert_eq!(
            [0; 3].map(|_| leaders.place(&orders, key, 0)),
            [Place::At(None, leader), Place::At(None, leader), Place::Nowhere]
        );
        assert_eq!(leaders.place(&orders, Item { must_go: true, ..key }, 0), Place::At(None, leader));
        leaders.settle(leader, 100, None);
        leaders.settle(leader, 100, Some(1));
        assert_eq!(leaders.place(&orders, key, 1), Place::At(None, leader));
        let owed: u64 = leaders.debts().iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(owed, 300);
    }

    #[test]
    fn a_partition_without_a_leader_still_waits_for_the_one_before() {
        let (leaders, orders) = leaders();
        leaders.learn("orders", [-1, 9, -1].into_iter());
        assert_eq!(**orders.leaders.load(), [1, 3, 3]);
    }

    #[test]
    fn records_without_a_key_avoid_a_leader_that_is_silent_and_find_no_place_when_all_owe_too_much() {
        let (leaders, orders) = leaders();
        // One record is at each leader; the first one never acknowledges.
        let placed = [0, 100, 200].map(|now_ms| leaders.place(&orders, item(None, 1), now_ms));
        let of = |place: Place| match place {
            Place::At(Some(_), leader) => leader,
            other => panic!("{other:?}"),
        };
        let [silent, second, third] = placed.map(of);
        assert_eq!(std::collections::BTreeSet::from([silent, second, third]).len(), 3);
        for now_ms in (300..10_000).step_by(100) {
            let leader = of(leaders.place(&orders, item(None, 1), now_ms));
            assert!(leader != silent || now_ms <= 100 + SUSPECT_AFTER_MS, "at {now_ms}");
            if leader != silent {
                leaders.settle(leader, 1, Some(now_ms));
            }
            for (leader, bytes) in [(second, 0), (third, 0)] {
                leaders.settle(leader, bytes, Some(now_ms));
            }
        }
        // A clock that is read a little earlier by another thread is no silence.
        assert!(leaders.is_good(second, 9_000));
        let full = std::iter::repeat_with(|| leaders.place(&orders, item(None, 100), 10_000)).take(10);
        assert_eq!(full.filter(|place| *place == Place::Nowhere).count(), 10 - 4);
    }
}
