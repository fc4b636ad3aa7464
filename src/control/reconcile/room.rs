//! How a cluster's topics lie on its brokers: what each may come to take there.
//!
//! In: a snapshot, and what is reserved. Out: bytes for each broker, and what nobody manages may grow to. Never: I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::snapshot::Snapshot;
use crate::control::kafka::topics::TopicDescription;

/// What a topic that nobody declared is taken to grow by.
const UNDECLARED_GROWTH: f64 = 1.2;

/// What lies where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes that topics may come to take on each broker.
    pub committed: BTreeMap<i32, u64>,
    /// Those of managed topics of them: reservations that have a place.
    pub placed_bytes: u64,
    /// Those of topics that nobody manages.
    pub unmanaged_bytes: u64,
    /// Bytes on disk by topic, all copies.
    pub held: HashMap<String, u64>,
}

/// Lays reservations out over the brokers that have the replicas; `reserved` is by topic.
pub fn room(snapshot: &Snapshot, reserved: &HashMap<&str, u64>) -> Room {
    let mut room = Room::default();
    let mut on_broker: HashMap<(&str, i32), u64> = HashMap::new();
    for (broker, replica) in snapshot.replicas() {
        *room.held.entry(replica.topic.clone()).or_default() += replica.bytes;
        *on_broker.entry((replica.topic.as_str(), broker)).or_default() += replica.bytes;
    }
    for topic in snapshot.topics() {
        let copies = copies(topic);
        let all: u64 = copies.values().sum();
        match reserved.get(topic.name.as_str()) {
            Some(bytes) if all > 0 => {
                for (broker, count) in copies {
                    let share = (u128::from(*bytes) * u128::from(count)).div_ceil(u128::from(all));
                    *room.committed.entry(broker).or_default() += u64::try_from(share).unwrap_or(u64::MAX);
                }
                room.placed_bytes += bytes;
            }
            Some(_) => {}
            None => {
                let brokers: BTreeSet<i32> = copies.keys().copied().collect();
                for broker in brokers {
                    let now = on_broker.get(&(topic.name.as_str(), broker)).copied().unwrap_or(0);
                    let grown = grown(snapshot, &topic.name, copies[&broker], now);
                    *room.committed.entry(broker).or_default() += grown;
                    room.unmanaged_bytes += grown;
                }
            }
        }
    }
    room
}

/// What some copies of an undeclared topic may grow to: a fifth more than now, up to where its retention by size stops it.
fn grown(snapshot: &Snapshot, topic: &str, copies: u64, now: u64) -> u64 {
    let number = |key: &str| snapshot.config(topic, key).and_then(|text| text.parse::<u64>().ok());
    let more = (now as f64 * UNDECLARED_GROWTH) as u64;
    match number("retention.bytes") {
        Some(retention) => {
            let segment = number("segment.bytes").unwrap_or(0);
            more.min(copies.saturating_mul(retention.saturating_add(segment))).max(now)
        }
        None => more,
    }
}

/// Copies of a topic's partitions on each broker.
fn copies(topic: &TopicDescription) -> BTreeMap<i32, u64> {
    let mut copies = BTreeMap::new();
    for broker in topic.partitions.iter().flat_map(|partition| &partition.replicas) {
        *copies.entry(*broker).or_default() += 1;
    }
    copies
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::Parts;
    use super::*;
    use crate::control::kafka::cluster::ClusterDescription;
    use crate::control::kafka::log_dirs::{LogDir, Replica};
    use crate::control::kafka::topics::PartitionDescription;

    fn topic(name: &str, replicas: &[&[i32]]) -> TopicDescription {
        let partition = |(number, replicas): (usize, &&[i32])| PartitionDescription {
            partition: number as i32,
            leader: replicas.first().copied(),
            replicas: replicas.to_vec(),
            in_sync: replicas.to_vec(),
            offline: vec![],
        };
        let partitions = replicas.iter().enumerate().map(partition).collect();
        TopicDescription { name: name.into(), id: uuid::Uuid::from_u128(1), internal: false, partitions }
    }

    #[test]
    fn a_reservation_lies_where_its_copies_are_and_the_undeclared_a_fifth_over_what_it_has() {
        let replica =
            |topic: &str, bytes| Replica { topic: topic.into(), partition: 0, bytes, offset_lag: 0, is_future: false };
        let dir = |replicas| LogDir { path: "d".into(), failed: None, total_bytes: None, usable_bytes: None, replicas };
        let parts = Parts {
            cluster: ClusterDescription { id: "c".into(), controller: None, brokers: vec![], may: None },
            topics: Ok(vec![Ok(topic("ours", &[&[1, 2], &[1, 3]])), Ok(topic("theirs", &[&[2]]))]),
            acls: Ok(vec![]),
            users: Ok(vec![]),
            quotas: Ok(vec![]),
            log_dirs: BTreeMap::from([
                (1, Ok(vec![dir(vec![replica("ours", 40)])])),
                (2, Ok(vec![dir(vec![replica("ours", 30), replica("theirs", 100)])])),
            ]),
        };
        let snapshot = Snapshot::of(1, parts);
        let room = room(&snapshot, &HashMap::from([("ours", 1_000)]));
        assert_eq!(room.committed, BTreeMap::from([(1, 500), (2, 250 + 120), (3, 250)]));
        assert_eq!((room.placed_bytes, room.unmanaged_bytes), (1_000, 120));
        assert_eq!(room.held, HashMap::from([("ours".to_owned(), 70), ("theirs".to_owned(), 100)]));
    }
}
