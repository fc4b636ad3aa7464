//! A consumer in Rust, complete: events in, each handled once, none lost. Made to be copied.
//!
//! In: brokers, a registry, topics, and what to do with an event. Out: the work, done in the order of each key. What it
//! shows: records of any Kafka client become events; an offset is stored only after the work, so that a crash repeats events
//! and never skips them; the repeats are found by their id; a registry that is away is waited for; a record that cannot be
//! read is set aside and does not stop the rest. Never: an offset committed for work that was not done.

use std::time::{Duration, Instant};

use iguazu::consume::{self, Dedup, Event, ReadError, Reader, Record};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

/// Where events come from, and who reads them.
pub struct Settings<'a> {
    /// `host:port,…`.
    pub brokers: &'a str,
    /// Base URL of the schema registry.
    pub registry: &'a str,
    /// Consumer group: its members share the partitions, and its offsets say how far it is.
    pub group: &'a str,
    /// Topics to read.
    pub topics: &'a [&'a str],
}

/// What to do after an event.
pub enum Next {
    /// Read the next one.
    Go,
    /// Stop; everything so far is committed.
    Stop,
}

/// What is done with an event. An error ends the consumer; the event is read again by the next one.
pub type Work<'w> = &'w mut dyn FnMut(&Event<'_>) -> Result<Next, Box<dyn std::error::Error>>;

/// Reads events and hands each to `work`, until that says stop or `go_on` says no, which is asked twice a second at least. A
/// record that is no event of Iguazu's, or whose schema is none, goes to `aside` with the reason.
pub fn consume(
    settings: &Settings<'_>,
    reader: Reader,
    go_on: &dyn Fn() -> bool,
    work: Work<'_>,
    aside: &mut dyn FnMut(&Record<'_>, &ReadError),
) -> Result<(), Box<dyn std::error::Error>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", settings.brokers)
        .set("group.id", settings.group)
        .set("auto.offset.reset", "earliest")
        // Commits every five seconds what was stored; stored is only what is done.
        .set("enable.auto.commit", "true")
        .set("enable.auto.offset.store", "false")
        // Records of transactions that were rolled back are not shown; Iguazu writes none, others may.
        .set("isolation.level", "read_committed")
        .create()?;
    consumer.subscribe(settings.topics)?;
    // Only the first record of each schema waits for the registry, so one thread is enough.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut dedup = Dedup::new(1_000_000, Duration::from_secs(3600));
    let mut next = Next::Go;
    while matches!(next, Next::Go) && go_on() {
        let Some(message) = consumer.poll(Duration::from_millis(500)) else { continue };
        let message = message?;
        let headers = headers(&message);
        let record = Record {
            topic: message.topic(),
            key: message.key(),
            headers: &headers,
            value: message.payload(),
            timestamp_ms: message.timestamp().to_millis(),
        };
        match runtime.block_on(read(&reader, &record)) {
            Ok(event) if dedup.is_duplicate(&event, Instant::now()) => {}
            Ok(event) => {
                next = work(&event)?;
                dedup.remember(&event, Instant::now());
            }
            Err(error) => aside(&record, &error),
        }
        consumer.store_offset_from_message(&message)?;
    }
    consumer.commit_consumer_state(CommitMode::Sync)?;
    Ok(())
}

fn headers<'m>(message: &'m BorrowedMessage<'_>) -> Vec<(&'m str, Option<&'m [u8]>)> {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    headers.map(|header| (header.key, header.value)).collect()
}

/// Reads a record; waits for a registry that is away, because to skip the record would lose it.
async fn read<'r>(reader: &Reader, record: &Record<'r>) -> Result<Event<'r>, ReadError> {
    loop {
        match reader.read(record).await {
            Err(ReadError::Registry(error)) if error.is_outage() => {
                eprintln!("waiting for the registry: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            read => return read,
        }
    }
}

/// A reader that knows the registry.
pub fn reader(settings: &Settings<'_>) -> Result<Reader, Box<dyn std::error::Error>> {
    Ok(Reader::new(Some(consume::registry(settings.registry)?)))
}
