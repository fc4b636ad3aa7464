//! What waits on disk goes to Kafka.
//!
//! In: the entries of a spool. Out: records to the cluster that they were meant for, each until it is settled. One thread a
//! cluster. Never: takes the room that live events need, tries more than one record of a topic at a time while that takes none,
//! goes to another cluster or topic than the entry says.
//!
//! It goes from the oldest entry to the newest, and then again over those that were not delivered: one topic that takes nothing
//! does not hold up the others.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::{Client, Producers, Record, Refused, TopicHandle};
use crate::config::Cluster;
use crate::outcome::{Account, BatchState, Code, Delivery, Ledger, Tracked};
use crate::route::Lane;
use crate::spool::{Entry, NotTaken, Reader, Refusal, Slot, Spool};

/// Records of a topic that are tried at the same time when nothing is known of it.
const WINDOW_FIRST: usize = 100;
/// Most records that are tried at the same time.
const WINDOW_MAX: usize = 10_000;
/// The share of a client's budget that it may fill together with live events; the rest is for those.
const BUDGET_SHARE: u64 = 2;
/// How long it rests while records are on their way.
const REST: Duration = Duration::from_millis(10);
/// How soon it sees that it is to stop while there is nothing to do.
const IDLE_REST: Duration = Duration::from_millis(100);
/// How often the cursor is written. What was settled since is produced twice after `kill -9`.
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// Pause before a topic that took nothing is tried again, and after an error of the disk.
const PAUSE: Duration = Duration::from_secs(1);

/// The accounts that were asked for, by event name.
pub(super) type Accounts = HashMap<String, Arc<Account>>;

/// Where a spool's entries go, and where they count.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The cluster.
    pub cluster: Cluster,
    /// Its clients are started where there are none.
    pub producers: Arc<Producers>,
    /// What is found is counted `recovered`, what becomes of it by event name.
    pub ledger: Arc<Ledger>,
}

impl Destination {
    /// Ends an entry that its client refuses for good: it goes where the cluster's keeper puts it, or has failed. False while
    /// the keeper has no room for it, or leaves it in the spool, and the entry is to be tried again.
    pub(super) fn give_up(&self, entry: &Entry<'_>, mut tracked: Box<Tracked>, code: Code) -> bool {
        tracked.give_up(code);
        let keeper = self.producers.keeper(&self.cluster.name);
        match keeper.take_entry(entry, code, tracked) {
            Ok(()) => true,
            Err(NotTaken { mut tracked, refusal }) if refusal == Refusal::Behind || keeper.leaves_in_spool() => {
                tracked.try_again();
                tracked.refused();
                false
            }
            Err(NotTaken { tracked, .. }) => {
                tracked.settle(Delivery::Failed(code));
                true
            }
        }
    }
}

/// The thread that produces a spool's entries.
#[derive(Debug)]
pub struct Replay {
    spool: Arc<Spool>,
    thread: JoinHandle<Rest>,
    signals: Arc<Signals>,
}

#[derive(Debug, Default)]
struct Signals {
    stop: AtomicBool,
    /// There was nothing left to produce when it last looked.
    is_empty: AtomicBool,
    settled: AtomicU64,
}

impl Replay {
    /// Counts what is in the spool and begins to produce it.
    pub fn start(spool: Arc<Spool>, reader: Reader, to: Destination) -> io::Result<Replay> {
        let signals = Arc::new(Signals::default());
        let thread = std::thread::Builder::new().name(format!("replay-{}", to.cluster.name)).spawn({
            let signals = Arc::clone(&signals);
            let run = Run {
                rest: Rest::new(reader),
                to,
                accounts: HashMap::new(),
                flows_by_name: HashMap::new(),
                flows: Vec::new(),
                saved: Instant::now(),
            };
            move || run.until_stopped(&signals)
        })?;
        Ok(Replay { spool, thread, signals })
    }

    /// The spool that it empties.
    pub fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    /// Whether there was nothing left to produce when it last looked.
    pub fn is_empty(&self) -> bool {
        self.signals.is_empty.load(Relaxed)
    }

    /// Entries settled since the start.
    pub fn settled(&self) -> u64 {
        self.signals.settled.load(Relaxed)
    }

    /// Produces nothing more. To be called before the producers stop; what is on its way is settled by [`Rest::finish`].
    pub fn stop(self) -> Option<Rest> {
        self.signals.stop.store(true, Relaxed);
        self.thread.join().inspect_err(|_| error!(cluster = self.spool.cluster(), "the replay's thread panicked")).ok()
    }
}

/// What was on its way to Kafka when the replay stopped.
#[derive(Debug)]
pub struct Rest {
    pub(super) reader: Reader,
    pub(super) batch: Arc<BatchState>,
    /// What the next record is known by in the batch.
    pub(super) next: u32,
    /// Records handed to a producer and not settled.
    pub(super) in_flight: HashMap<u32, Sent>,
    /// One was passed over or not delivered: it is handed out again after all others were.
    to_retry: bool,
}

/// A record that was handed to a producer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) slot: Slot,
    /// Index of the flow that it is of.
    pub(super) flow: usize,
    pub(super) cost_bytes: u32,
}

impl Rest {
    pub(super) fn new(reader: Reader) -> Self {
        Rest { reader, batch: Arc::default(), next: 0, in_flight: HashMap::new(), to_retry: false }
    }

    /// Notes that the entry which the reader shows was handed to a producer, as `next` of the batch.
    pub(super) fn note_sent(&mut self, sent: Sent) {
        self.in_flight.insert(self.next, sent);
        self.next = self.next.wrapping_add(1);
        self.reader.take();
    }

    /// Writes down what was settled. To be called when no delivery report can come any more, and the spool is closed.
    pub fn finish(mut self) {
        self.settle(|_, _| {});
        // Past the end of the last segment, which then can go as well.
        let looked = self.reader.peek().map(drop);
        self.reader.tidy();
        if let Err(error) = looked.and_then(|()| self.reader.save()) {
            warn!(%error, "the spool's cursor cannot be written, some events will be produced twice");
        }
    }

    /// Takes in what became of records, and tells their flows.
    pub(super) fn settle(&mut self, mut tell: impl FnMut(Sent, Fate)) {
        for (index, delivery) in self.batch.take() {
            let Some(sent) = self.in_flight.remove(&index) else { continue };
            if delivery == Delivery::Spooled {
                self.reader.give_back(sent.slot);
                self.to_retry = true;
                tell(sent, Fate::Again);
                continue;
            }
            if let Some(awaiting) = self.reader.awaiting(sent.slot) {
                awaiting.settle(delivery);
            }
            self.reader.settle(sent.slot);
            tell(sent, Fate::Settled);
        }
    }
}

/// What became of a record that was on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Kafka has it, or has refused it for good.
    Settled,
    /// It is to be tried again.
    Again,
}

struct Run {
    rest: Rest,
    to: Destination,
    accounts: Accounts,
    /// Index of the flow of each lane and topic.
    flows_by_name: HashMap<(Lane, String), usize>,
    flows: Vec<Flow>,
    saved: Instant,
}

/// The entries of one topic.
struct Flow {
    handle: Option<Arc<TopicHandle>>,
    pace: Pace,
}

/// Why nothing more is handed out in this round.
enum Halt {
    /// There is nothing more on disk, or what was not delivered lies too far back.
    Empty,
    /// As many records are on their way as may be, or live events need the room.
    Enough,
    /// The disk or the client does not work now.
    Trouble(String),
}

impl Run {
    fn until_stopped(mut self, signals: &Signals) -> Rest {
        self.recover(signals);
        let mut resume = Instant::now();
        while !signals.stop.load(Relaxed) {
            let now = Instant::now();
            let Run { rest, flows, .. } = &mut self;
            rest.settle(|sent, fate| {
                flows[sent.flow].pace.settle(fate, now);
                signals.settled.fetch_add(u64::from(fate == Fate::Settled), Relaxed);
            });
            let halt = if now < resume { Halt::Enough } else { self.hand_out(now) };
            self.keep_books();
            let is_through = matches!(halt, Halt::Empty) && self.rest.in_flight.is_empty();
            signals.is_empty.store(is_through && !self.rest.to_retry, Relaxed);
            match halt {
                Halt::Empty if is_through && self.rest.to_retry => self.begin_again(now),
                Halt::Empty if is_through => self.rest.reader.wait(IDLE_REST),
                Halt::Empty | Halt::Enough => std::thread::park_timeout(REST),
                Halt::Trouble(reason) => {
                    let cluster = &self.to.cluster.name;
                    warn!(cluster, reason, "the spool cannot be produced now");
                    resume = now + PAUSE;
                }
            }
        }
        self.rest
    }

    /// Goes back to the oldest entry that was not delivered, once a topic that took nothing may be tried.
    fn begin_again(&mut self, now: Instant) {
        let pauses = self.flows.iter().filter_map(|flow| flow.pace.paused_until(now));
        match pauses.min() {
            Some(until) if self.flows.iter().all(|flow| flow.pace.paused_until(now).is_some()) => {
                self.rest.reader.wait((until - now).min(IDLE_REST));
            }
            _ => {
                self.rest.to_retry = false;
                self.rest.reader.rewind();
            }
        }
    }

    /// Counts what was found.
    fn recover(&mut self, signals: &Signals) {
        let Run { rest, accounts, to, .. } = self;
        recover(&mut rest.reader, accounts, to, &signals.stop);
    }

    /// Hands entries to their producers for as long as they and the pace allow. Those of a topic that takes nothing are passed
    /// over.
    fn hand_out(&mut self, now: Instant) -> Halt {
        let Run { rest, to, accounts, flows_by_name, flows, .. } = self;
        let current = Lane::ALL.map(|lane| to.producers.current(&to.cluster.name, lane));
        let is_current =
            |handle: &Arc<TopicHandle>| current.iter().flatten().any(|client| Arc::ptr_eq(client, handle.client()));
        flows.iter_mut().for_each(|flow| flow.handle = flow.handle.take().filter(is_current));
        while rest.in_flight.len() < WINDOW_MAX {
            let (slot, entry) = match rest.reader.peek() {
                Ok(Some(shown)) => shown,
                Ok(None) => return Halt::Empty,
                Err(error) => return Halt::Trouble(error.to_string()),
            };
            let index = flow_of(flows_by_name, flows, entry.lane, entry.topic);
            let flow = &mut flows[index];
            match flow.pace.next(now) {
                Next::Send => {}
                Next::Wait => return Halt::Enough,
                Next::PassOver => {
                    rest.to_retry = true;
                    rest.reader.pass_over();
                    continue;
                }
            }
            let handle = match &flow.handle {
                Some(handle) => handle,
                None => match handle(to, entry.lane, entry.topic) {
                    Ok(handle) => &*flow.handle.insert(handle),
                    Err(error) => return Halt::Trouble(error.to_string()),
                },
            };
            // While the breaker is open nothing is tried; half-open, entries are trials like other records.
            if !has_room(handle.client()) || !handle.client().lets_pass() {
                return Halt::Enough;
            }
            let account = account(accounts, to, entry.event);
            let record =
                Record { key: entry.key, value: entry.value, headers: entry.headers, timestamp_ms: entry.timestamp_ms };
            let cost_bytes = record.cost_bytes();
            let tracked = Tracked::from_spool(account, &rest.batch, rest.next, cost_bytes);
            match handle.send_again(&record, entry.partition, tracked) {
                Ok(()) => {}
                Err(Refused { tracked, code, .. }) if code == Code::BufferFull || handle.client().is_stopping() => {
                    tracked.refused();
                    return Halt::Enough;
                }
                // Its topic is gone, or it is larger than the client takes by now: as for a live event, that is the end.
                Err(Refused { tracked, code, message }) => {
                    if !to.give_up(&entry, tracked, code) {
                        return Halt::Enough;
                    }
                    error!(
                        cluster = to.cluster.name,
                        code = code.as_str(),
                        reason = message,
                        "event of the spool is given up"
                    );
                }
            }
            flow.pace.sent();
            rest.note_sent(Sent { slot, flow: index, cost_bytes });
        }
        Halt::Enough
    }

    /// Removes what is settled from the disk, and writes the cursor now and then.
    fn keep_books(&mut self) {
        self.rest.reader.tidy();
        if self.saved.elapsed() < SAVE_EVERY {
            return;
        }
        self.saved = Instant::now();
        if let Err(error) = self.rest.reader.save() {
            warn!(cluster = self.to.cluster.name, %error, "the spool's cursor cannot be written");
        }
    }
}

/// Counts what was found on disk at the start, unless it is to stop first.
pub(super) fn recover(reader: &mut Reader, accounts: &mut Accounts, to: &Destination, stop: &AtomicBool) {
    let (cluster, folder) = (&to.cluster.name, reader.folder().to_owned());
    let mut found = 0_u64;
    while let Err(error) = reader.recover(|entry| {
        account(accounts, to, entry.event).recover();
        found += 1;
    }) {
        warn!(cluster, folder = %folder.display(), %error, "the spool cannot be read");
        if stop.load(Relaxed) {
            return;
        }
        std::thread::park_timeout(PAUSE);
    }
    if found > 0 {
        let folder = folder.display();
        info!(cluster, %folder, events = found, "events were found in the spool and will be produced");
    }
}

fn flow_of(by_name: &mut HashMap<(Lane, String), usize>, flows: &mut Vec<Flow>, lane: Lane, topic: &str) -> usize {
    let place = (lane, topic.to_owned());
    *by_name.entry(place).or_insert_with(|| {
        flows.push(Flow { handle: None, pace: Pace::default() });
        flows.len() - 1
    })
}

/// The account of an event in the ledger.
pub(super) fn account<'a>(accounts: &'a mut Accounts, to: &Destination, event: &str) -> &'a Arc<Account> {
    if !accounts.contains_key(event) {
        accounts.insert(event.to_owned(), to.ledger.account(event, &to.cluster.name));
    }
    &accounts[event]
}

fn handle(to: &Destination, lane: Lane, topic: &str) -> Result<Arc<TopicHandle>, super::ProduceError> {
    let client = to.producers.get_or_start(&to.cluster, lane)?;
    Ok(Arc::new(TopicHandle::new(&client, topic)?))
}

/// Live events come first: they need the client's room, entries have theirs on disk.
fn has_room(client: &Client) -> bool {
    client.buffered_bytes() < client.buffer_bytes_max() / BUDGET_SHARE
}

/// How many records of a topic are tried at the same time: more and more while it takes them, and one now and then while it
/// takes none.
#[derive(Debug)]
struct Pace {
    window: usize,
    in_flight: usize,
    /// It took none of those that it was asked to take last, and is not asked before then.
    suspect_until: Option<Instant>,
}

/// What is to be done with the next entry of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Send,
    /// Enough are on their way.
    Wait,
    /// The topic takes none now.
    PassOver,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { window: WINDOW_FIRST, in_flight: 0, suspect_until: None }
    }
}

impl Pace {
    fn next(&self, now: Instant) -> Next {
        match self.suspect_until {
            Some(until) if now < until || self.in_flight > 0 => Next::PassOver,
            _ if self.in_flight < self.window => Next::Send,
            _ => Next::Wait,
        }
    }

    fn sent(&mut self) {
        self.in_flight += 1;
    }

    fn settle(&mut self, fate: Fate, now: Instant) {
        self.in_flight -= 1;
        match fate {
            Fate::Settled => {
                self.suspect_until = None;
                self.window = (self.window + 1).min(WINDOW_MAX);
            }
            Fate::Again => {
                self.suspect_until = Some(now + PAUSE);
                self.window = WINDOW_FIRST;
            }
        }
    }

    /// Until when it is not asked, if it is not.
    fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.suspect_until.filter(|until| now < *until)
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
