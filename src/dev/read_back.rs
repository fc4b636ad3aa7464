//! Reads a topic back, all partitions, without a consumer group.
//!
//! In: a topic and where to begin. Out: its records, in order within each partition. Partitions are assigned by hand (0.5 s
//! to the first record on the mock cluster, against 3.2 s with a subscription; measured). Never: commits an offset.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Kafka};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::metadata::Metadata;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use tracing::debug;

/// How long opening a reader waits for the cluster.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// The oldest record of each partition.
    Beginning,
    /// What is produced from now on.
    End,
    /// These partitions only, each from its offset.
    Offsets(Vec<(i32, i64)>),
    /// In each partition the first record with this timestamp or a later one, milliseconds since 1970.
    Time(i64),
}

/// A record as Kafka holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// Partition.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
    /// Timestamp, milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Key; none is null.
    pub key: Option<Vec<u8>>,
    /// Value; none is null, a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order; a value of none is null.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Consumed {
    /// The value of the first header of this name; none when there is none or it is null.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(n, _)| n == name)?.1.as_deref()
    }
}

/// Why a topic cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ReadError {
    #[error("the reader of topic `{topic}` cannot be made: {source}")]
    Client { topic: String, source: KafkaError },
    #[error("the cluster at {brokers} does not answer: {source}")]
    Unreachable { brokers: String, source: KafkaError },
    #[error("the cluster has no topic `{topic}`")]
    UnknownTopic { topic: String },
    #[error("topic `{topic}` cannot be read: {source}")]
    Read { topic: String, source: KafkaError },
}

/// Reads one topic.
pub struct TopicReader {
    consumer: BaseConsumer<Quiet>,
    topic: String,
    /// Each partition and where reading it began.
    first: Vec<(i32, Offset)>,
}

/// What a reader came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A record.
    Record(Consumed),
    /// The end of this partition, as of now.
    End(i32),
}

impl TopicReader {
    /// Opens a topic. `extra_config` holds librdkafka's settings for the login, as `produce::settings::connection` gives
    /// them. Blocking, ten seconds at most for each partition and the look-up.
    pub fn open(
        bootstrap: &str,
        extra_config: &[(String, String)],
        topic: &str,
        start: &Start,
    ) -> Result<TopicReader, ReadError> {
        let mut config = ClientConfig::new();
        config
            .set("enable.auto.commit", "false")
            // Never joined; without one rdkafka does not hand out records.
            .set("group.id", "iguazu-reader")
            .set("allow.auto.create.topics", "false")
            .set("auto.offset.reset", "earliest")
            // A reader of a quiet topic sees a new record this much later at most.
            .set("fetch.wait.max.ms", "100")
            .set("enable.partition.eof", "true");
        config.extend(extra_config.iter().cloned());
        config.set("bootstrap.servers", bootstrap).set_log_level(RDKafkaLogLevel::Warning);
        let failed = |source| ReadError::Client { topic: topic.to_owned(), source };
        let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet).map_err(failed)?;

        let unreachable = |source| ReadError::Unreachable { brokers: bootstrap.to_owned(), source };
        let metadata = consumer.fetch_metadata(Some(topic), OPEN_TIMEOUT).map_err(unreachable)?;
        let partitions = partitions(&metadata, topic)?;
        let mut assignment = TopicPartitionList::new();
        let first = first_offsets(&consumer, topic, &partitions, start).map_err(unreachable)?;
        for (partition, offset) in &first {
            assignment.add_partition_offset(topic, *partition, *offset).map_err(failed)?;
        }
        consumer.assign(&assignment).map_err(failed)?;
        Ok(TopicReader { consumer, topic: topic.to_owned(), first })
    }

    /// Number of partitions that the topic had when it was opened.
    pub fn partitions(&self) -> usize {
        self.first.len()
    }

    /// Where the partitions end now, those left out in which reading began at the end. Blocking.
    pub fn ends(&self) -> Result<BTreeMap<i32, i64>, ReadError> {
        let mut ends = BTreeMap::new();
        for (partition, first) in &self.first {
            let watermarks = self.consumer.fetch_watermarks(&self.topic, *partition, OPEN_TIMEOUT);
            let (low, end) = watermarks.map_err(|source| ReadError::Read { topic: self.topic.clone(), source })?;
            let begin = match first {
                Offset::Offset(offset) => (*offset).max(low),
                _ => low,
            };
            if begin < end {
                ends.insert(*partition, end);
            }
        }
        Ok(ends)
    }

    /// Reads nothing more of a partition.
    pub fn leave(&self, partition: i32) -> Result<(), ReadError> {
        let mut left = TopicPartitionList::new();
        left.add_partition(&self.topic, partition);
        self.consumer.pause(&left).map_err(|source| ReadError::Read { topic: self.topic.clone(), source })
    }

    /// The next record of any partition; none when `timeout` passes first. What passes by itself, a broker that is away for
    /// a while, is not an error.
    pub fn next(&self, timeout: Duration) -> Result<Option<Consumed>, ReadError> {
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.step(left)? {
                Some(Step::Record(record)) => return Ok(Some(record)),
                Some(Step::End(_)) if !left.is_zero() => {}
                _ => return Ok(None),
            }
        }
    }

    /// [`TopicReader::next`] that also says when a partition is at its end.
    pub fn step(&self, timeout: Duration) -> Result<Option<Step>, ReadError> {
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.consumer.poll(left) {
                Some(Ok(message)) => return Ok(Some(Step::Record(consumed(&message)))),
                Some(Err(KafkaError::PartitionEOF(partition))) => return Ok(Some(Step::End(partition))),
                Some(Err(source)) if !is_passing(&source) => {
                    return Err(ReadError::Read { topic: self.topic.clone(), source });
                }
                Some(Err(_)) | None => {}
            }
            if left.is_zero() {
                return Ok(None);
            }
        }
    }
}

fn partitions(metadata: &Metadata, topic: &str) -> Result<Vec<i32>, ReadError> {
    let unknown = || ReadError::UnknownTopic { topic: topic.to_owned() };
    let found = metadata.topics().first().ok_or_else(unknown)?;
    match found.error().map(Kafka::from) {
        None => Ok(found.partitions().iter().map(|partition| partition.id()).collect()),
        Some(Kafka::UnknownTopicOrPartition | Kafka::UnknownTopic) => Err(unknown()),
        Some(code) => Err(ReadError::Read { topic: topic.to_owned(), source: KafkaError::MetadataFetch(code) }),
    }
}

/// The end is looked up here and now: `Offset::End` would be resolved after this returns, and skip what comes in between.
fn first_offsets(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    partitions: &[i32],
    start: &Start,
) -> Result<Vec<(i32, Offset)>, KafkaError> {
    match start {
        Start::Beginning => Ok(partitions.iter().map(|partition| (*partition, Offset::Beginning)).collect()),
        Start::Offsets(offsets) => Ok(offsets.iter().map(|(p, offset)| (*p, Offset::Offset(*offset))).collect()),
        Start::Time(ms) => {
            let mut wanted = TopicPartitionList::new();
            for partition in partitions {
                wanted.add_partition_offset(topic, *partition, Offset::Offset(*ms))?;
            }
            let found = consumer.offsets_for_times(wanted, OPEN_TIMEOUT)?;
            let first = found.elements().into_iter().map(|element| match (element.error(), element.offset()) {
                (Err(error), _) => Err(error),
                (Ok(()), offset @ Offset::Offset(_)) => Ok((element.partition(), offset)),
                (Ok(()), _) => {
                    let partition = element.partition();
                    let (low, end) = consumer.fetch_watermarks(topic, partition, OPEN_TIMEOUT)?;
                    // No record is as late. Or the cluster is the embedded one, which looks up no timestamps: it does not find
                    // one for all times either.
                    let is_blind = low < end && first_of_all(consumer, topic, partition)?.is_none();
                    Ok((partition, Offset::Offset(if is_blind { low } else { end })))
                }
            });
            first.collect()
        }
        Start::End => partitions
            .iter()
            .map(|partition| {
                let (_, end) = consumer.fetch_watermarks(topic, *partition, OPEN_TIMEOUT)?;
                Ok((*partition, Offset::Offset(end)))
            })
            .collect(),
    }
}

/// The first record by timestamp.
fn first_of_all(consumer: &BaseConsumer<Quiet>, topic: &str, partition: i32) -> Result<Option<i64>, KafkaError> {
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition_offset(topic, partition, Offset::Offset(0))?;
    let found = consumer.offsets_for_times(wanted, OPEN_TIMEOUT)?;
    Ok(found.elements().first().and_then(|element| match element.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }))
}

/// A copy of a record.
pub fn consumed(message: &BorrowedMessage<'_>) -> Consumed {
    let headers = message.headers().map(|headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    Consumed {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Kafka::BrokerTransportFailure
                | Kafka::AllBrokersDown
                | Kafka::Resolve
                | Kafka::OperationTimedOut
                | Kafka::NotLeaderForPartition
                | Kafka::LeaderNotAvailable
        )
    )
}

/// Errors come back from `next`; librdkafka's log lines are for who debugs the reader.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, text: &str) {
        debug!(facility, text, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "reader reports an error");
    }

    fn stats_raw(&self, _: &[u8]) {}
}

impl ConsumerContext for Quiet {}
