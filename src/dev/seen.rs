//! What the brokers of a dev hold: the records of every topic of this dev, read when somebody asks.
//!
//! In: topics. Out: their records so far, decoded; the newest 20,000. Never: reads while nobody asks, so that a
//! load run measures the proxy and not this; commits an offset.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::read_back::{self, Consumed};

/// Records that are kept over all topics, newest last, and their bytes.
const KEPT_RECORDS: usize = 20_000;
const KEPT_BYTES: usize = 64 << 20;

/// How long one question to the brokers may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the records cannot be told.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SeenError {
    #[error("the brokers cannot be read")]
    Client(#[from] KafkaError),
    #[error("no event type is named `{event}`")]
    UnknownEvent { event: String },
    #[error("reading topic `{topic}` took longer than {} s", ASK_TIMEOUT.as_secs())]
    Slow { topic: String },
}

/// Reads the topics of a dev.
pub struct Seen {
    consumer: BaseConsumer,
    partitions: i32,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    kept: VecDeque<(String, Arc<Consumed>)>,
    kept_bytes: usize,
    /// Next offset to read, by topic and partition.
    next: HashMap<(String, i32), i64>,
    /// Records before this offset were forgotten by a reset.
    floor: HashMap<(String, i32), i64>,
}

impl Seen {
    /// Begins to read these topics, each with so many partitions.
    /// The connection is as `produce::settings::connection` gives it.
    pub fn start(connection: &[(String, String)], topics: &[String], partitions: i32) -> Result<Seen, SeenError> {
        let mut config = ClientConfig::new();
        config.extend(connection.iter().cloned());
        let consumer: BaseConsumer = config
            // Never joined; without one rdkafka does not hand out records.
            .set("group.id", "iguazu-dev")
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "50")
            // Fetched ahead while nobody asks: little, so that a load run is not slowed.
            .set("queued.min.messages", "100")
            .set("queued.max.messages.kbytes", "1024")
            .create()?;
        let mut assignment = TopicPartitionList::new();
        for topic in topics {
            for partition in 0..partitions {
                assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
            }
        }
        consumer.assign(&assignment)?;
        Ok(Seen { consumer, partitions, inner: Mutex::default() })
    }

    /// The records that the topic holds now, oldest first within each partition, as far as they are kept.
    pub fn records(&self, topic: &str) -> Result<Vec<Arc<Consumed>>, SeenError> {
        let mut inner = self.inner.lock().expect("no code panics while it holds this lock");
        let ends = self.ends(topic)?;
        let deadline = Instant::now() + ASK_TIMEOUT;
        while !inner.has_reached(topic, &ends) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(SeenError::Slow { topic: topic.to_owned() });
            }
            // Errors of librdkafka pass by themselves, or the deadline tells.
            if let Some(Ok(message)) = self.consumer.poll(left.min(Duration::from_millis(100))) {
                let topic = rdkafka::Message::topic(&message).to_owned();
                inner.keep(topic, read_back::consumed(&message));
            }
        }
        Ok(inner.kept.iter().filter(|(of, _)| of == topic).map(|(_, record)| Arc::clone(record)).collect())
    }

    /// Forgets what these topics hold now.
    pub fn reset(&self, topics: &[String]) -> Result<(), SeenError> {
        let mut inner = self.inner.lock().expect("no code panics while it holds this lock");
        for topic in topics {
            for (partition, end) in self.ends(topic)? {
                inner.floor.insert((topic.clone(), partition), end);
            }
        }
        inner.kept.clear();
        inner.kept_bytes = 0;
        Ok(())
    }

    /// Partitions that hold something, and the offset after their last record.
    fn ends(&self, topic: &str) -> Result<Vec<(i32, i64)>, SeenError> {
        let mut ends = Vec::new();
        for partition in 0..self.partitions {
            let (_, end) = self.consumer.fetch_watermarks(topic, partition, ASK_TIMEOUT)?;
            if end > 0 {
                ends.push((partition, end));
            }
        }
        Ok(ends)
    }
}

impl Inner {
    fn has_reached(&self, topic: &str, ends: &[(i32, i64)]) -> bool {
        ends.iter().all(|(partition, end)| {
            let place = (topic.to_owned(), *partition);
            let next = self.next.get(&place).copied().unwrap_or(0).max(self.floor.get(&place).copied().unwrap_or(0));
            next >= *end
        })
    }

    fn keep(&mut self, topic: String, record: Consumed) {
        let place = (topic.clone(), record.partition);
        self.next.insert(place.clone(), record.offset + 1);
        if self.floor.get(&place).is_some_and(|floor| record.offset < *floor) {
            return;
        }
        self.kept_bytes += bytes(&record);
        self.kept.push_back((topic, Arc::new(record)));
        while self.kept.len() > KEPT_RECORDS || self.kept_bytes > KEPT_BYTES {
            let Some((_, oldest)) = self.kept.pop_front() else { break };
            self.kept_bytes -= bytes(&oldest);
        }
    }
}

fn bytes(record: &Consumed) -> usize {
    let headers: usize = record.headers.iter().map(|(n, v)| n.len() + v.as_ref().map_or(0, Vec::len)).sum();
    record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len) + headers
}
