//! `--dead-letters`: from a dead-letter topic back through a door, or to the topic that a record was meant for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use sha2::{Digest as _, Sha256};

use super::door::Door;
use super::failed::Way;
use super::{Filter, Progress, Tally};
use crate::cli::Failure;
use crate::cli::interrupt::Interrupt;
use crate::config::{Cluster, Config};
use crate::dead_letter::{self, Reason, Stage};
use crate::dev::read_back::{Consumed, consumed};
use crate::produce::settings;

/// Most records, and most bytes, that are sent before the position is written down: so many are sent twice after `kill -9`.
const CHUNK: usize = 256;
const CHUNK_BYTES: usize = 16 << 20;
/// How long a look-up of offsets may take.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing may come of a partition that is not at its end.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How soon ^C is seen while nothing comes.
const POLL: Duration = Duration::from_millis(100);

pub(super) fn run(config: &Config, event: &str, door: &Door, filter: &Filter, dry_run: bool) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let event_type = config.events.iter().find(|known| known.name == event);
    let event_type = event_type.ok_or_else(|| Failure::Usage(format!("there is no event type `{event}`")))?;
    let no_topic = || Failure::Usage(format!("event type `{event}` has no `dead_letter` topic"));
    let topic = event_type.dead_letter.as_deref().ok_or_else(no_topic)?;
    let cluster = config.clusters.iter().find(|cluster| cluster.name == event_type.cluster);
    let cluster = cluster.expect("a checked configuration has the clusters that its event types name");

    let mut letters = Letters::open(cluster, topic, &group(event, filter)).map_err(Failure::because)?;
    let (mut tally, mut progress, mut way) = (Tally::default(), Progress::start(), Way::new(cluster));
    while !interrupt.happened() {
        let Some(chunk) = letters.chunk(&interrupt)? else { break };
        let wanted = chunk.iter().filter_map(|letter| Some((letter, wanted(letter, event, filter, &mut tally)?)));
        let wanted: Vec<_> = wanted.collect();
        if dry_run {
            continue;
        }
        let (rejected, failed): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|(_, reason)| reason.stage == Stage::Rejected);
        for (letter, reason) in &failed {
            way.send_letter(letter, reason, &mut tally);
        }
        door.post_all(&rejected, &mut tally)?;
        way.flush(&mut tally);
        letters.commit().map_err(Failure::because)?;
        progress.tell(&tally);
    }
    way.stop(&mut tally);
    match tally.tell(dry_run) {
        _ if interrupt.happened() => Err(Failure::Interrupted),
        told => told,
    }
}

/// Why the letter is kept, if it is of the event and the filters want it.
fn wanted(letter: &Consumed, event: &str, filter: &Filter, tally: &mut Tally) -> Option<Reason> {
    let headers = letter.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref().unwrap_or_default()));
    let reason = match dead_letter::read(headers) {
        Ok(reason) => reason,
        Err(error) => {
            tally.problems.push(format!("partition {}, offset {}: {error}", letter.partition, letter.offset));
            return None;
        }
    };
    // Event types may share a topic.
    if reason.event != event {
        return None;
    }
    let id = || reason.id.clone().or_else(|| crate::dev::decode::envelope(letter).ok().map(|envelope| envelope.id));
    match filter.wants(&reason, letter.timestamp_ms.unwrap_or(0), id) {
        true => tally.find(&reason),
        false => {
            tally.left_out += 1;
            return None;
        }
    }
    Some(reason)
}

/// The consumer group that keeps the position: of one event and one set of filters, so that what a filter leaves out is there for
/// another run.
fn group(event: &str, filter: &Filter) -> String {
    let hash = Sha256::digest(format!("{event}\n{filter:?}"));
    let hash = hex::encode(&hash[..8]);
    format!("iguazu-redrive-{hash}")
}

/// A dead-letter topic from the group's position to where it ended when it was opened.
struct Letters {
    consumer: BaseConsumer,
    topic: String,
    /// By partition: the next offset, and where it ends.
    left: BTreeMap<i32, (i64, i64)>,
    /// By partition: the offset after the last one that was handed out.
    reached: BTreeMap<i32, i64>,
}

impl Letters {
    fn open(cluster: &Cluster, topic: &str, group: &str) -> Result<Letters, KafkaError> {
        let mut config: ClientConfig = settings::connection(cluster).into_iter().collect();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("allow.auto.create.topics", "false")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true");
        let consumer: BaseConsumer = config.create()?;
        let metadata = consumer.fetch_metadata(Some(topic), KAFKA_TIMEOUT)?;
        let found = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
        let mut wanted = TopicPartitionList::new();
        for partition in found {
            wanted.add_partition(topic, partition.id());
        }
        let committed = consumer.committed_offsets(wanted, KAFKA_TIMEOUT)?;
        let (mut left, mut assignment) = (BTreeMap::new(), TopicPartitionList::new());
        for element in committed.elements() {
            let partition = element.partition();
            let (low, high) = consumer.fetch_watermarks(topic, partition, KAFKA_TIMEOUT)?;
            let first = match element.offset() {
                // Retention may have taken what comes next.
                Offset::Offset(offset) => offset.max(low),
                _ => low,
            };
            if first < high {
                left.insert(partition, (first, high));
                assignment.add_partition_offset(topic, partition, Offset::Offset(first))?;
            }
        }
        consumer.assign(&assignment)?;
        Ok(Letters { consumer, topic: topic.to_owned(), left, reached: BTreeMap::new() })
    }

    /// The next letters; none at the end, or after ^C.
    fn chunk(&mut self, interrupt: &Interrupt) -> Result<Option<Vec<Consumed>>, Failure> {
        let (mut chunk, mut bytes, mut heard) = (Vec::new(), 0, Instant::now());
        while !self.left.is_empty() && chunk.len() < CHUNK && bytes < CHUNK_BYTES {
            if interrupt.happened() {
                return Ok(None);
            }
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let letter = consumed(&message);
                    let Some((_, end)) = self.left.get(&letter.partition).copied() else { continue };
                    let (partition, is_last) = (letter.partition, letter.offset + 1 >= end);
                    // What came after the end was known may be what this run makes.
                    if letter.offset < end {
                        self.reached.insert(letter.partition, letter.offset + 1);
                        bytes += letter.value.as_ref().map_or(0, Vec::len);
                        chunk.push(letter);
                    }
                    if is_last {
                        self.left.remove(&partition);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(self.left.remove(&partition)),
                // What a client says that tries again by itself is not the end.
                Some(Err(error)) if heard.elapsed() > SILENCE_MAX => return Err(Failure::because(error)),
                None if heard.elapsed() > SILENCE_MAX => {
                    return Err(Failure::Failed(format!("topic `{}` does not answer", self.topic)));
                }
                Some(Err(_)) | None => {}
            }
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    /// Writes down what was handed out.
    fn commit(&self) -> Result<(), KafkaError> {
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in &self.reached {
            offsets.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))?;
        }
        self.consumer.commit(&offsets, CommitMode::Sync)
    }
}

/// The bytes of a letter's value.
pub(super) fn value(letter: &Consumed) -> Bytes {
    Bytes::from(letter.value.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_with_other_filters_has_a_position_of_its_own() {
        let none = group("a.b", &Filter::default());
        assert!(none.starts_with("iguazu-redrive-") && none == group("a.b", &Filter::default()));
        assert_ne!(none, group("a.c", &Filter::default()));
        assert_ne!(none, group("a.b", &Filter { codes: vec!["missing_key".to_owned()], ..Filter::default() }));
    }
}
