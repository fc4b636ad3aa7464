//! Step 6: record -> Kafka.
//!
//! In: a [`Record`] and the [`Tracked`] that follows it. Out: its delivery, settled exactly once from librdkafka's
//! report. One client per cluster and lane in use, each polled by a thread of its own. Never: waits for room, creates
//! a topic, or drops a record without counting it.
//!
//! Reading order: [`client`] (start, send, stop), `handle` (librdkafka's C interface), `context` (what librdkafka calls back), `failure` (its errors in our
//! codes), `beside` and `replay` (what waits on disk, in and out), [`wal`] and `wal_sender` (what is on disk first), `keep` and `dead_letters` (what is given up for good, and what was rejected), `breaker` and `watch` (whether the cluster takes records), `partition` (which of its leaders do), `settings` (what it is configured with), `topic` and `canary` (warm-up), [`producers`] (the set of clients).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::envelope::headers::HeaderBuffer;
use crate::outcome::{Code, Tracked};

pub mod client;
mod handle;
mod bell;
mod context;
mod budget;
mod beside;
mod keep;
mod dead_letters;
mod replay;
pub mod wal;
mod wal_sender;
mod age;
mod breaker;
mod watch;
mod partition;
pub mod failure;
mod health;
mod statistics;
pub mod settings;
mod topic;
mod canary;
mod wait;
mod token;
pub mod producers;

pub use breaker::{Gate, Patience, State, Trouble};
pub use canary::Canary;
pub use client::{Client, Stopped, Surroundings};
pub use dead_letters::{DeadLetters, Dropped, Sampling};
pub use failure::Failure;
pub use handle::TopicHandle;
pub use health::{ClientError, ErrorKind};
pub use keep::Keeper;
pub use producers::Producers;
pub use replay::{Destination, Replay, Rest};
pub use wal::Wal;
pub use wal_sender::WalSender;

/// What goes to Kafka, borrowed from the thread's buffers.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Key; none is a null key, empty is zero bytes.
    pub key: Option<&'a [u8]>,
    /// Value; empty is zero bytes, never a tombstone.
    pub value: &'a [u8],
    /// Headers, in order.
    pub headers: &'a HeaderBuffer,
    /// When we received the event, milliseconds since 1970: the record's timestamp. Kafka reads 0 as "now".
    pub timestamp_ms: i64,
}

/// What a queued record takes beside its bytes: librdkafka's message, our [`Tracked`], and what the allocator rounds up to.
/// This and the next two are fitted to the growth of the resident set over 200,000 queued records of 310 bytes with 0, 1,
/// 2, 6 and 9 headers (234, 380, 434, 746 and 900 bytes beside their own).
const RECORD_OVERHEAD_BYTES: usize = 240;
/// What the list of headers takes when there is at least one.
const HEADERS_OVERHEAD_BYTES: usize = 88;
/// What each header takes beside its name and value.
const HEADER_OVERHEAD_BYTES: usize = 68;

/// Most bytes that the framing of a record batch of one record adds to it: the batch's header of 61 bytes, the
/// record's length, attributes, timestamp and offset deltas, and the lengths of key, value and headers (format v2).
const BATCH_OVERHEAD_BYTES: usize = 61 + 36;
/// Most bytes that the lengths of one header's name and value take.
const HEADER_LENGTHS_BYTES: usize = 10;

impl Record<'_> {
    /// Bytes of key, value and headers.
    pub fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.len() + self.headers.bytes()
    }

    /// Bytes of the producer's budget that the record takes: value, key, headers, and what holding them costs.
    pub fn cost_bytes(&self) -> u32 {
        let headers = match self.headers.len() {
            0 => 0,
            n => HEADERS_OVERHEAD_BYTES + n * HEADER_OVERHEAD_BYTES,
        };
        u32::try_from(self.bytes() + RECORD_OVERHEAD_BYTES + headers).unwrap_or(u32::MAX)
    }

    /// Most bytes of an uncompressed record batch that holds only this record: what to compare with
    /// [`Topic::max_message_bytes`].
    pub fn batch_bytes(&self) -> usize {
        self.bytes() + BATCH_OVERHEAD_BYTES + self.headers.len() * HEADER_LENGTHS_BYTES
    }
}

/// The producer did not take a record; the caller rejects its event with `code`.
#[derive(Debug)]
pub struct Refused {
    /// Given back, unsettled.
    pub tracked: Box<Tracked>,
    /// Why: [`Code::BufferFull`], [`Code::EventTooLarge`] or [`Code::EventTypeUnavailable`].
    pub code: Code,
    /// For people.
    pub message: String,
}

/// What a cluster says of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Number of partitions.
    pub partitions: i32,
    /// Largest record batch it takes (`max.message.bytes`); none when the cluster does not tell.
    pub max_message_bytes: Option<usize>,
    /// The brokers that lead a partition of it, by id.
    pub leaders: BTreeSet<i32>,
}

/// Why a client or a topic is not usable.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ProduceError {
    #[error("cluster `{cluster}`: the client cannot be made: {source}")]
    Client { cluster: String, source: rdkafka::error::KafkaError },
    #[error("cluster `{cluster}`: the client takes no topic `{topic}`: {source}")]
    Handle { cluster: String, topic: String, source: Box<rdkafka::error::KafkaError> },
    #[error("cluster `{cluster}`: the poll thread cannot be started")]
    Thread { cluster: String, source: std::io::Error },
    #[error("cluster `{cluster}` does not answer: {reason}")]
    Unreachable { cluster: String, reason: String },
    #[error("cluster `{cluster}` has no topic `{topic}`; create it, the proxy never does")]
    UnknownTopic { cluster: String, topic: String },
    #[error("cluster `{cluster}` does not let us see or write topic `{topic}`; grant Describe and Write on it")]
    Forbidden { cluster: String, topic: String },
    #[error("cluster `{cluster}`: no acknowledgement of a record in `{topic}` from {brokers} within {timeout:?}")]
    NoCanary { cluster: String, topic: String, brokers: String, timeout: Duration },
}

#[cfg(test)]
mod client_tests;

impl ProduceError {
    /// Whether the cluster answered, and the topic cannot be used until somebody does something about it.
    pub fn is_final(&self) -> bool {
        matches!(self, ProduceError::UnknownTopic { .. } | ProduceError::Forbidden { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(value: &'a [u8], key: Option<&'a [u8]>, headers: &'a HeaderBuffer) -> Record<'a> {
        Record { key, value, headers, timestamp_ms: 1 }
    }

    #[test]
    fn a_record_costs_more_than_its_bytes_and_every_header_counts() {
        let (none, mut two) = (HeaderBuffer::default(), HeaderBuffer::default());
        two.push("ce_id", b"1");
        two.push("ce_type", b"22");
        assert_eq!(record(&[0; 300], Some(&[0; 10]), &none).cost_bytes(), 310 + 240);
        assert_eq!(record(&[0; 300], None, &two).cost_bytes(), 300 + 240 + 88 + 2 * 68 + 15);
        assert_eq!(record(&[], None, &none).cost_bytes(), 240);
        assert_eq!(record(&[], Some(&[]), &none).batch_bytes(), 97);
    }
}
