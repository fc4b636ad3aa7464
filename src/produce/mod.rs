//! Step 6: record -> Kafka.
//!
//! In: a [`Record`] and the [`Tracked`] that follows it. Out: its delivery, settled exactly once from librdkafka's
//! report. One client per cluster and lane in use, each polled by a thread of its own. Never: waits for room, creates
//! a topic, or drops a record without counting it.

use std::sync::Arc;
use std::time::Duration;

use crate::config;
use crate::envelope::headers::HeaderBuffer;
use crate::outcome::{Code, Tracked};
use crate::route::Lane;

/// What goes to Kafka, borrowed from the thread's buffers.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Key; none is a null key, empty is zero bytes.
    pub key: Option<&'a [u8]>,
    /// Value; empty is zero bytes, never a tombstone.
    pub value: &'a [u8],
    /// Headers, in order.
    pub headers: &'a HeaderBuffer,
    /// When we received the event, milliseconds since 1970: the record's timestamp.
    pub timestamp_ms: i64,
}

impl Record<'_> {
    /// Bytes of key, value and headers.
    pub fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.len() + self.headers.bytes()
    }

    /// Bytes of the producer's budget that the record takes: value, key, headers, and librdkafka's own per record.
    pub fn cost_bytes(&self) -> u32 {
        todo!()
    }
}

/// The producer did not take a record; the caller rejects its event with `code`.
#[derive(Debug)]
pub struct Refused {
    /// Given back, unsettled.
    pub tracked: Box<Tracked>,
    /// Why: [`Code::BufferFull`] or [`Code::EventTooLarge`] or [`Code::EventTypeUnavailable`].
    pub code: Code,
    /// For people.
    pub message: String,
}

/// What a cluster says of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Number of partitions.
    pub partitions: i32,
    /// Largest record batch it takes (`max.message.bytes`); none when the cluster does not tell.
    pub max_message_bytes: Option<usize>,
}

/// Why a client or a topic is not usable.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ProduceError {
    #[error("cluster `{cluster}`: the client cannot be made")]
    Client { cluster: String, source: rdkafka::error::KafkaError },
    #[error("cluster `{cluster}` does not answer: {reason}")]
    Unreachable { cluster: String, reason: String },
    #[error("cluster `{cluster}` has no topic `{topic}`; create it, the proxy never does")]
    UnknownTopic { cluster: String, topic: String },
}

/// One librdkafka producer with its poll thread: one cluster, one lane.
#[derive(Debug)]
pub struct Client {}

impl Client {
    /// Makes the client and starts its poll thread. Does not wait for a broker.
    pub fn start(_cluster: &config::Cluster, _lane: Lane) -> Result<Arc<Client>, ProduceError> {
        todo!()
    }

    /// Hands a record to librdkafka, or refuses it at once.
    pub fn send(&self, _record: &Record<'_>, _tracked: Box<Tracked>) -> Result<(), Refused> {
        todo!()
    }

    /// Looks the topic up, waiting at most `timeout`. Blocking: for warm-up.
    pub fn topic(&self, _topic: &str, _timeout: Duration) -> Result<Topic, ProduceError> {
        todo!()
    }

    /// Stops: flush until the deadline, purge, poll until nothing is in flight, count the rest lost, join the thread.
    pub fn stop(&self, _deadline: Duration) {
        todo!()
    }
}
