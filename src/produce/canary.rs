//! Proof that records can be delivered: one acknowledged by every broker that leads a partition of the canary topic.
//!
//! In: the canary topic, and the brokers that lead what is routed. Out: which brokers acknowledged. It also opens the connections that the first events would wait
//! for (15 to 20 ms of CPU a broker, measured). Never: in the ledger; canaries have an account of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::warn;

use super::wait::wait_for;
use super::{Client, ProduceError, Record, Topic, TopicHandle};
use crate::envelope::headers::HeaderBuffer;
use crate::outcome::{BatchState, Delivery, Ledger, Tracked};

/// What a canary record holds, for people who look into the topic.
const VALUE: &[u8] = b"iguazu canary";

/// What came of a round of canary records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// The brokers that acknowledged one, by id.
    pub brokers: Vec<i32>,
    /// Partitions of the canary topic that have no leader now.
    pub without_leader: usize,
    /// How long the slowest took.
    pub took: Duration,
}

/// Whether a canary was acknowledged by every leading broker.
#[derive(Debug, Default)]
pub(super) enum Proof {
    /// None was tried yet.
    #[default]
    None,
    /// The last one was not.
    Failed {
        /// When that was known.
        at: Instant,
        /// Why.
        reason: String,
    },
    /// It was.
    Given {
        /// By these.
        brokers: BTreeSet<i32>,
        /// They lead routed partitions and none of the canary topic: nothing can be proven of them, which has been said.
        out_of_reach: BTreeSet<i32>,
    },
}

/// What came of the last canary: nothing yet, or whether it was acknowledged.
#[derive(Debug, Default)]
pub(super) struct Last(AtomicU8);

impl Last {
    fn set(&self, acknowledged: bool) {
        self.0.store(1 + u8::from(acknowledged), Relaxed);
    }

    pub(super) fn get(&self) -> Option<bool> {
        match self.0.load(Relaxed) {
            0 => None,
            known => Some(known == 2),
        }
    }
}

impl Client {
    /// [`Client::canary`], unless one was acknowledged before by every broker that leads a partition of `routed`. Those who ask
    /// while one is under way share its result. Blocking.
    pub fn prove(self: &Arc<Self>, topic: &str, routed: &Topic, timeout: Duration) -> Result<(), ProduceError> {
        let asked = Instant::now();
        let mut proof = self.proof.lock().expect("no code panics while it holds this lock");
        let is_known = |brokers: &BTreeSet<i32>, out_of_reach: &BTreeSet<i32>| {
            routed.leaders.iter().all(|leader| brokers.contains(leader) || out_of_reach.contains(leader))
        };
        let mut told = BTreeSet::new();
        match &mut *proof {
            Proof::Given { brokers, out_of_reach } if is_known(brokers, out_of_reach) => return Ok(()),
            Proof::Failed { at, reason } if *at > asked => {
                let (cluster, reason) = (self.cluster().to_owned(), reason.clone());
                return Err(ProduceError::Unreachable { cluster, reason });
            }
            Proof::Given { out_of_reach, .. } => told = std::mem::take(out_of_reach),
            Proof::Failed { .. } | Proof::None => {}
        }
        let result = self.canary(topic, timeout);
        self.last_canary.set(result.is_ok());
        *proof = match &result {
            Ok(canary) => {
                let brokers: BTreeSet<i32> = canary.brokers.iter().copied().collect();
                let beyond: BTreeSet<i32> = routed.leaders.difference(&brokers).copied().collect();
                if !beyond.is_subset(&told) {
                    let cluster = self.cluster();
                    warn!(
                        cluster,
                        canary_topic = topic,
                        brokers = ?beyond,
                        "the canary topic has no partition on brokers that lead routed ones; give it more"
                    );
                }
                Proof::Given { brokers, out_of_reach: told.into_iter().chain(beyond).collect() }
            }
            Err(error) => Proof::Failed { at: Instant::now(), reason: error.to_string() },
        };
        result.map(|_| ())
    }

    /// Produces one record to a partition of each broker that leads one of the topic's, and waits for all
    /// acknowledgements. Blocking: for warm-up.
    pub fn canary(self: &Arc<Self>, topic: &str, timeout: Duration) -> Result<Canary, ProduceError> {
        let start = Instant::now();
        let handle = TopicHandle::new(self, topic)?;
        let metadata = self.metadata(topic, timeout)?;
        let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
        let led: BTreeMap<i32, i32> =
            partitions.iter().filter(|p| p.leader() >= 0).map(|p| (p.leader(), p.id())).collect();
        let without_leader = partitions.iter().filter(|p| p.leader() < 0).count();

        let brokers: Vec<i32> = led.keys().copied().collect();
        let silent = self.produce_canaries(&handle, &led, timeout.saturating_sub(start.elapsed()));
        if brokers.is_empty() || !silent.is_empty() {
            let names = silent.iter().map(|id| format!("broker {id}")).collect::<Vec<_>>().join(", ");
            let brokers = if names.is_empty() { "any broker, none leads a partition".to_owned() } else { names };
            return Err(ProduceError::NoCanary {
                cluster: self.cluster().to_owned(),
                topic: topic.to_owned(),
                brokers,
                timeout,
            });
        }
        self.note_success();
        Ok(Canary { brokers, without_leader, took: start.elapsed() })
    }

    /// Returns the brokers that did not acknowledge in time.
    fn produce_canaries(&self, topic: &TopicHandle, led: &BTreeMap<i32, i32>, timeout: Duration) -> Vec<i32> {
        let account = Ledger::default().account("(canary)", self.cluster());
        let batch = Arc::new(BatchState::default());
        let headers = HeaderBuffer::default();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp_ms = i64::try_from(since_1970.as_millis()).unwrap_or(0);
        let record = Record { key: None, value: VALUE, headers: &headers, timestamp_ms };
        for (index, partition) in (0..).zip(led.values()) {
            let tracked = Tracked::of_the_moment(&account, &batch, index, record.cost_bytes());
            if let Err(refused) = self.send(topic, &record, Some(*partition), tracked) {
                refused.tracked.refused();
            }
        }
        // When it times out, the rest settles on the canaries' account later, where nobody looks.
        wait_for(batch.settled(), timeout);
        let settled = batch.take();
        let acknowledged = |index| settled.iter().any(|(i, d)| *i == index && matches!(d, Delivery::Delivered { .. }));
        (0..).zip(led.keys()).filter(|(index, _)| !acknowledged(*index)).map(|(_, broker)| *broker).collect()
    }
}
