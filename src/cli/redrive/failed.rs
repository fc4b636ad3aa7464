//! `--failed`: from the failed log back to Kafka.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Filter, Progress, Tally};
use crate::cli::Failure;
use crate::cli::interrupt::Interrupt;
use crate::config::{Cluster, Config};
use crate::dead_letter::{self, Reason};
use crate::dev::read_back::Consumed;
use crate::envelope::headers::{self, HeaderBuffer};
use crate::outcome::{Account, BatchState, Code, Delivery, Ledger, Tracked};
use crate::produce::{Producers, Record, Refused, TopicHandle};
use crate::route::Lane;
use crate::spool::failed::{EntryId, FailedReader};
use crate::spool::{Entry, inspect};

/// The strongest: what is taken back is not in the log any more.
const LANE: Lane = Lane::All;
/// Most records on their way at the same time.
const WINDOW: usize = 10_000;
/// How often what was taken back is written down: what was since is sent twice after `kill -9`.
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// How long it rests while records are on their way and no other may be.
const REST: Duration = Duration::from_millis(10);
/// How long the look-up of a topic may take.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what is on its way may take after ^C.
const FLUSH: Duration = Duration::from_secs(10);

pub(super) fn run(config: &Config, folder: Option<PathBuf>, filter: &Filter, dry_run: bool) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let folder = folder.or_else(|| config.failed.as_ref().map(|failed| failed.folder.clone()));
    let no_folder =
        || Failure::Usage("the configuration has no failed log; name its folder with `--folder`".to_owned());
    let folder = folder.ok_or_else(no_folder)?;
    // A mistaken name must not look like a log of which everything was taken back.
    if !inspect::is_folder_of_logs(&folder) {
        let folder = folder.display();
        return Err(Failure::Usage(format!(
            "`{folder}` holds no failed log; by default it is the folder `failed` below `spool.folder` or `state_dir`"
        )));
    }
    let mut tally = Tally::default();
    for reader in FailedReader::open_all(&folder).map_err(Failure::because)? {
        match dry_run {
            true => count(reader, filter, &mut tally)?,
            false => take_back(reader, config, filter, &interrupt, &mut tally)?,
        }
    }
    match tally.tell(dry_run) {
        _ if interrupt.happened() => Err(Failure::Interrupted),
        told => told,
    }
}

fn count(mut reader: FailedReader, filter: &Filter, tally: &mut Tally) -> Result<(), Failure> {
    while let Some((_, entry)) = reader.next_entry()? {
        note(&entry, filter, tally);
    }
    tally.problems.extend(reader.problems().iter().map(|problem| format!("{}: {problem}", reader.cluster())));
    Ok(())
}

/// Whether the entry is to be taken.
fn note(entry: &Entry<'_>, filter: &Filter, tally: &mut Tally) -> bool {
    let reason = match dead_letter::read(entry.headers.iter()) {
        Ok(reason) => reason,
        Err(error) => {
            tally.problems.push(format!("an entry of event `{}`: {error}", entry.event));
            return false;
        }
    };
    let id = || headers::read(entry.headers.iter(), entry.timestamp_ms, None).ok().map(|envelope| envelope.id);
    let wanted = filter.wants(&reason, entry.timestamp_ms, id);
    match wanted {
        true => tally.find(&reason),
        false => tally.left_out += 1,
    }
    wanted
}

fn take_back(
    mut reader: FailedReader,
    config: &Config,
    filter: &Filter,
    interrupt: &Interrupt,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let name = reader.cluster().to_owned();
    let Some(cluster) = config.clusters.iter().find(|cluster| cluster.name == name) else {
        tally.problems.push(format!("records are kept for `{name}`, of which the configuration knows no cluster"));
        return Ok(());
    };
    let mut way = Way::new(cluster);
    let (mut saved, mut progress) = (Instant::now(), Progress::start());
    while let Some((id, entry)) = reader.next_entry()? {
        if interrupt.happened() {
            break;
        }
        if note(&entry, filter, tally) {
            match way.topic(entry.topic) {
                Ok(topic) => way.send(&topic, &entry, id, tally),
                Err(why) => tally.refuse(why),
            }
        }
        way.settle(tally).into_iter().for_each(|id| reader.settle(id));
        if saved.elapsed() >= SAVE_EVERY {
            saved = Instant::now();
            reader.save()?;
        }
        progress.tell(tally);
    }
    // The client itself gives up what takes longer than its message timeout.
    let patience = if interrupt.happened() { FLUSH } else { cluster.message_timeout + FLUSH };
    let end = Instant::now() + patience;
    while !way.in_flight.is_empty() && Instant::now() < end {
        std::thread::sleep(REST);
        way.settle(tally).into_iter().for_each(|id| reader.settle(id));
        progress.tell(tally);
    }
    way.producers.stop(FLUSH);
    way.settle(tally).into_iter().for_each(|id| reader.settle(id));
    tally.open += way.in_flight.len() as u64;
    tally.problems.extend(reader.problems().iter().map(|problem| format!("{name}: {problem}")));
    Ok(reader.finish()?)
}

/// The way to one cluster.
pub(super) struct Way<'c> {
    cluster: &'c Cluster,
    producers: Producers,
    /// Each topic's handle, or why there is none.
    topics: HashMap<String, Result<Arc<TopicHandle>, String>>,
    account: Arc<Account>,
    batch: Arc<BatchState>,
    in_flight: HashMap<u32, EntryId>,
    next: u32,
    headers: HeaderBuffer,
}

impl<'c> Way<'c> {
    pub(super) fn new(cluster: &'c Cluster) -> Self {
        Way {
            cluster,
            producers: Producers::default(),
            topics: HashMap::new(),
            account: Ledger::default().account("(redrive)", &cluster.name),
            batch: Arc::default(),
            in_flight: HashMap::new(),
            next: 0,
            headers: HeaderBuffer::default(),
        }
    }

    /// The topic, if it is there and takes records.
    fn topic(&mut self, topic: &str) -> Result<Arc<TopicHandle>, String> {
        if !self.topics.contains_key(topic) {
            let handle = look_up(&self.producers, self.cluster, topic).map_err(|error| error.to_string());
            self.topics.insert(topic.to_owned(), handle);
        }
        self.topics[topic].clone()
    }

    /// Hands a record to the client, as soon as it takes one.
    fn send(&mut self, topic: &TopicHandle, entry: &Entry<'_>, id: EntryId, tally: &mut Tally) {
        self.headers.clear();
        let own = entry.headers.iter().filter(|(name, _)| !dead_letter::is_ours(name));
        own.for_each(|(name, value)| self.headers.push(name, value));
        let Entry { key, value, timestamp_ms, .. } = *entry;
        let record = Record { key, value, headers: &self.headers, timestamp_ms };
        let index = self.next;
        self.next = self.next.wrapping_add(1);
        loop {
            let tracked = Tracked::of_the_moment(&self.account, &self.batch, index, record.cost_bytes());
            match topic.send(&record, tracked) {
                Ok(()) => drop(self.in_flight.insert(index, id)),
                Err(Refused { tracked, code: Code::BufferFull, .. }) => {
                    tracked.refused();
                    std::thread::sleep(REST);
                    continue;
                }
                Err(Refused { tracked, message, .. }) => {
                    tracked.refused();
                    tally.refuse(message);
                }
            }
            return;
        }
    }

    /// Sends the record that a dead letter holds to the topic that it was meant for.
    pub(super) fn send_letter(&mut self, letter: &Consumed, reason: &Reason, tally: &mut Tally) {
        let Some(topic) = &reason.topic else { return tally.refuse("it does not say which topic it was meant for") };
        let handle = match self.topic(topic) {
            Ok(handle) => handle,
            Err(why) => return tally.refuse(why),
        };
        let mut headers = HeaderBuffer::default();
        letter.headers.iter().for_each(|(name, value)| headers.push(name, value.as_deref().unwrap_or_default()));
        let entry = Entry {
            event: &reason.event,
            topic,
            lane: LANE,
            partition: None,
            tried: false,
            timestamp_ms: letter.timestamp_ms.unwrap_or(0),
            key: letter.key.as_deref(),
            headers: &headers,
            value: letter.value.as_deref().unwrap_or_default(),
        };
        // A letter has no place that is settled: its position is written down when all of the chunk are.
        self.send(&handle, &entry, EntryId::default(), tally);
    }

    /// Waits until everything is acknowledged, or given up by the client.
    pub(super) fn flush(&mut self, tally: &mut Tally) {
        let end = Instant::now() + self.cluster.message_timeout + FLUSH;
        while !self.in_flight.is_empty() && Instant::now() < end {
            std::thread::sleep(REST);
            self.settle(tally);
        }
    }

    /// Ends the clients.
    pub(super) fn stop(mut self, tally: &mut Tally) {
        self.producers.stop(FLUSH);
        self.settle(tally);
        tally.open += self.in_flight.len() as u64;
    }

    /// Entries that Kafka has acknowledged since the last look. Waits while too many are on their way.
    fn settle(&mut self, tally: &mut Tally) -> Vec<EntryId> {
        let mut done = Vec::new();
        loop {
            for (index, delivery) in self.batch.take() {
                let Some(id) = self.in_flight.remove(&index) else { continue };
                match delivery {
                    Delivery::Delivered { .. } => {
                        tally.done += 1;
                        done.push(id);
                    }
                    Delivery::Failed(code) => tally.refuse(code.as_str()),
                    Delivery::Spooled => tally.open += 1,
                }
            }
            if self.in_flight.len() < WINDOW {
                return done;
            }
            std::thread::sleep(REST);
        }
    }
}

fn look_up(
    producers: &Producers,
    cluster: &Cluster,
    topic: &str,
) -> Result<Arc<TopicHandle>, crate::produce::ProduceError> {
    let mut client = producers.get_or_start(cluster, LANE)?;
    // A topic that is not there, or that we may not write, is told before records wait for it.
    if let Some(bytes) = client.topic(topic, TOPIC_TIMEOUT)?.max_message_bytes {
        client = producers.with_batches_within(cluster, LANE, bytes)?;
    }
    Ok(Arc::new(TopicHandle::new(&client, topic)?))
}
