//! What is in a wal goes to Kafka, in order.
//!
//! In: the entries of a wal. Out: records, those of a topic in the order of the log, each until it is settled; one thread a
//! cluster. Never: sends a record of a topic while an earlier one of it waits to be sent, goes to another cluster or topic than
//! the entry says, gives one up that Kafka does not refuse for good.
//!
//! The client is idempotent and its records have no timeout, so what it has on its way stays in order. A topic that takes
//! nothing is passed over, with all that follows of it; the reader goes back to it when it takes some again, or when what had come back
//! may be tried once more. So it holds up others for seconds and not for ever; when too much of it waits, no more of it is
//! taken at the door.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{error, warn};

use super::replay::{Accounts, Fate, Sent, account, recover};
use super::wal::Wal;
use super::{Client, Destination, ProduceError, Record, Refused, Rest, TopicHandle};
use crate::outcome::{Code, Tracked};
use crate::route::Lane;
use crate::spool::Reader;

/// Most records on their way at the same time, but for one of each topic.
const WINDOW_MAX: usize = 16_384;
/// A topic that has settled none of its records for so long takes nothing now.
const STUCK: Duration = Duration::from_secs(3);
/// Entries of a topic that takes nothing while others do: when so many wait, no more are taken. The reader remembers four times
/// as many in all.
const HELD_BACK_AFTER: usize = 65_536;
/// The share of the wal's bytes that lie behind the first of them, with the same effect.
const HELD_BACK_SHARE: u64 = 2;
/// How long it rests while records are on their way.
const REST: Duration = Duration::from_millis(5);
/// How soon it sees that it is to stop while there is nothing to do.
const IDLE_REST: Duration = Duration::from_millis(100);
/// How often the cursor is written. What was settled since is produced twice after `kill -9`.
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// How long the segment that is appended to is kept when all in it is settled.
const KEEP_SEGMENT: Duration = Duration::from_secs(10);
/// Pause before what came back is tried again, and after an error of the disk or the client.
const PAUSE: Duration = Duration::from_secs(1);

/// The thread that produces a wal's entries.
#[derive(Debug)]
pub struct WalSender {
    wal: Arc<Wal>,
    thread: JoinHandle<Rest>,
    signals: Arc<Signals>,
}

#[derive(Debug, Default)]
struct Signals {
    stop: AtomicBool,
    /// Everything was settled when it last looked.
    is_empty: AtomicBool,
    settled: AtomicU64,
}

impl WalSender {
    /// Counts what is in the wal and begins to produce it.
    pub fn start(wal: Arc<Wal>, mut reader: Reader, to: Destination) -> io::Result<WalSender> {
        let signals = Arc::new(Signals::default());
        reader.keep_open(KEEP_SEGMENT);
        let thread = std::thread::Builder::new().name(format!("wal-{}", to.cluster.name)).spawn({
            let (wal, signals) = (Arc::clone(&wal), Arc::clone(&signals));
            let now = Instant::now();
            let run = Run {
                rest: Rest::new(reader),
                wal,
                to,
                client: None,
                accounts: Accounts::new(),
                flows_by_topic: HashMap::new(),
                flows: Vec::new(),
                moved: now,
                saved: now,
            };
            move || run.until_stopped(&signals)
        })?;
        Ok(WalSender { wal, thread, signals })
    }

    /// The wal that it empties.
    pub fn wal(&self) -> &Arc<Wal> {
        &self.wal
    }

    /// Whether everything was settled when it last looked.
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
        let cluster = self.wal.log().cluster();
        self.thread.join().inspect_err(|_| error!(cluster, "the wal's thread panicked")).ok()
    }
}

struct Run {
    rest: Rest,
    wal: Arc<Wal>,
    to: Destination,
    /// The client that has what is on its way. Another one takes over when it has nothing any more.
    client: Option<Arc<Client>>,
    accounts: Accounts,
    flows_by_topic: HashMap<String, usize>,
    flows: Vec<Flow>,
    /// When a record of any topic was last settled.
    moved: Instant,
    saved: Instant,
}

/// The entries of one topic.
struct Flow {
    topic: String,
    handle: Option<Arc<TopicHandle>>,
    order: Order,
    is_held_back: bool,
}

/// Why nothing more is handed out in this round.
enum Halt {
    /// There is nothing more on disk, or as much was passed over as can be remembered.
    Empty,
    /// As many records are on their way as may be.
    Enough,
    /// The disk or the client does not work now.
    Trouble(String),
}

impl Run {
    fn until_stopped(mut self, signals: &Signals) -> Rest {
        recover(&mut self.rest.reader, &mut self.accounts, &self.to, &signals.stop);
        let mut resume = Instant::now();
        while !signals.stop.load(Relaxed) {
            let now = Instant::now();
            self.settle(now, signals);
            if self.flows.iter().any(|flow| flow.order.may_go_on(now)) {
                self.flows.iter_mut().for_each(|flow| flow.order.forget_passed_over());
                self.rest.reader.go_back();
            }
            let halt = if now < resume { Halt::Enough } else { self.hand_out(now) };
            self.hold_back(now);
            self.keep_books(now);
            signals.is_empty.store(matches!(halt, Halt::Empty) && self.rest.reader.open() == 0, Relaxed);
            match halt {
                Halt::Empty if self.rest.in_flight.is_empty() => self.rest.reader.wait(IDLE_REST),
                Halt::Empty => self.rest.reader.wait(REST),
                Halt::Enough => std::thread::park_timeout(REST),
                Halt::Trouble(reason) => {
                    warn!(cluster = self.to.cluster.name, reason, "the wal cannot be produced now");
                    resume = now + PAUSE;
                }
            }
        }
        self.rest
    }

    /// Takes in what became of records.
    fn settle(&mut self, now: Instant, signals: &Signals) {
        let Run { rest, flows, moved, .. } = self;
        rest.settle(|Sent { flow, cost_bytes, .. }, fate| {
            flows[flow].order.settle(fate, cost_bytes, now);
            if fate == Fate::Settled {
                *moved = now;
                signals.settled.fetch_add(1, Relaxed);
            }
        });
    }

    /// Hands entries to the client, those of a topic in order.
    fn hand_out(&mut self, now: Instant) -> Halt {
        if !self.has_its_client() {
            return Halt::Enough;
        }
        let Run { rest, to, client, accounts, flows_by_topic, flows, .. } = self;
        loop {
            let (slot, entry) = match rest.reader.peek() {
                Ok(Some(shown)) => shown,
                Ok(None) => return Halt::Empty,
                Err(error) => return Halt::Trouble(error.to_string()),
            };
            let client = match client {
                Some(client) => &*client,
                None => match to.producers.get_or_start(&to.cluster, Lane::Wal) {
                    Ok(started) => client.insert(started),
                    Err(error) => return Halt::Trouble(error.to_string()),
                },
            };
            let index = flow_of(flows_by_topic, flows, entry.topic, now);
            let flow = &mut flows[index];
            let record =
                Record { key: entry.key, value: entry.value, headers: entry.headers, timestamp_ms: entry.timestamp_ms };
            let cost_bytes = record.cost_bytes();
            let room = Room {
                records: WINDOW_MAX.saturating_sub(rest.in_flight.len()),
                bytes: client.buffer_bytes_max().saturating_sub(client.buffered_bytes()),
            };
            match flow.order.next(&room, cost_bytes, now) {
                Next::Send => {}
                Next::Wait => return Halt::Enough,
                Next::PassOver => {
                    flow.order.pass_over(slot.number());
                    rest.reader.pass_over();
                    continue;
                }
            }
            let handle = match &flow.handle {
                Some(handle) => handle,
                None => match handle(client, entry.topic) {
                    Ok(handle) => flow.handle.insert(handle),
                    Err(error) => return Halt::Trouble(error.to_string()),
                },
            };
            let account = account(accounts, to, entry.event);
            let tracked = Tracked::from_spool(account, &rest.batch, rest.next, cost_bytes);
            match handle.send_again(&record, entry.partition, tracked) {
                Ok(()) => {}
                Err(Refused { tracked, code, .. }) if code == Code::BufferFull || client.is_stopping() => {
                    tracked.refused();
                    return Halt::Enough;
                }
                // It is larger than the client takes by now, or its topic is none: as for a live event, that is the end.
                Err(Refused { tracked, code, message }) => {
                    if !to.give_up(&entry, tracked, code) {
                        return Halt::Enough;
                    }
                    error!(
                        cluster = to.cluster.name,
                        code = code.as_str(),
                        reason = message,
                        "event of the wal is given up"
                    );
                }
            }
            flow.order.sent(cost_bytes, now);
            rest.note_sent(Sent { slot, flow: index, cost_bytes });
        }
    }

    /// Changes to the client that the cluster has now, once the one before has nothing on its way; false until then.
    fn has_its_client(&mut self) -> bool {
        let current = self.to.producers.current(&self.to.cluster.name, Lane::Wal);
        let is_same = match (&self.client, &current) {
            (Some(ours), Some(current)) => Arc::ptr_eq(ours, current),
            (ours, current) => ours.is_none() && current.is_none(),
        };
        if !is_same {
            if !self.rest.in_flight.is_empty() {
                return false;
            }
            self.client = current;
            self.flows.iter_mut().for_each(|flow| flow.handle = None);
        }
        self.client.as_ref().is_none_or(|client| !client.is_fatal() && !client.is_stopping())
    }

    /// Removes what is settled from the disk, and writes the cursor now and then.
    fn keep_books(&mut self, now: Instant) {
        self.rest.reader.tidy();
        if now - self.saved < SAVE_EVERY {
            return;
        }
        self.saved = now;
        if let Err(error) = self.rest.reader.save() {
            warn!(cluster = self.to.cluster.name, %error, "the wal's cursor cannot be written");
        }
    }

    /// Takes no more of topics that take nothing while others do, and of which enough waits.
    fn hold_back(&mut self, now: Instant) {
        let cluster = &self.to.cluster.name;
        let span_max = self.wal.log().settings().bytes_max / HELD_BACK_SHARE;
        let reached = self.rest.reader.reached();
        let mut changed = false;
        for Flow { topic, order, is_held_back, .. } in &mut self.flows {
            let alone = order.is_stuck(now) && self.moved > order.moved + STUCK;
            let much = order.passed_over >= HELD_BACK_AFTER
                || order.first_passed_over.is_some_and(|first| reached - first > span_max);
            let is_to_be = order.is_stuck(now) && (*is_held_back || alone && much);
            if is_to_be != *is_held_back {
                *is_held_back = is_to_be;
                changed = true;
                match is_to_be {
                    true => warn!(cluster, topic, "the topic takes nothing, no more of its events are taken"),
                    false => warn!(cluster, topic, "the topic takes something again, and so do we"),
                }
            }
        }
        if changed {
            let held_back = self.flows.iter().filter(|flow| flow.is_held_back).map(|flow| flow.topic.clone());
            self.wal.hold_back(held_back.collect::<BTreeSet<_>>());
        }
    }
}

fn flow_of(by_topic: &mut HashMap<String, usize>, flows: &mut Vec<Flow>, topic: &str, now: Instant) -> usize {
    if let Some(index) = by_topic.get(topic) {
        return *index;
    }
    by_topic.insert(topic.to_owned(), flows.len());
    flows.push(Flow { topic: topic.to_owned(), handle: None, order: Order::new(now), is_held_back: false });
    flows.len() - 1
}

fn handle(client: &Arc<Client>, topic: &str) -> Result<Arc<TopicHandle>, ProduceError> {
    Ok(Arc::new(TopicHandle::new(client, topic)?))
}

/// How much more may be on its way, of all topics together.
#[derive(Clone, Copy, Debug)]
struct Room {
    records: usize,
    bytes: u64,
}

/// Keeps one topic's records in order.
#[derive(Debug)]
struct Order {
    in_flight: usize,
    in_flight_bytes: u64,
    /// When one was last settled, or the first of those on their way was sent.
    moved: Instant,
    /// Entries that must be sent before any that follow them: the reader is to go back to them.
    passed_over: usize,
    /// Where the first of them is, if it was passed over and did not come back.
    first_passed_over: Option<u64>,
    /// One came back: those on their way are older than it or follow it, so that it must wait for them.
    has_returned: bool,
    paused_until: Option<Instant>,
}

/// What is to be done with the next entry of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Send,
    /// Enough are on their way, and they are moving.
    Wait,
    /// The topic takes none now, or not this one.
    PassOver,
}

impl Order {
    fn new(now: Instant) -> Self {
        Order {
            in_flight: 0,
            in_flight_bytes: 0,
            moved: now,
            passed_over: 0,
            first_passed_over: None,
            has_returned: false,
            paused_until: None,
        }
    }

    /// A topic has at most half of the room that all others leave: however many are stuck, there is some left.
    fn next(&self, room: &Room, cost_bytes: u32, now: Instant) -> Next {
        if self.passed_over > 0 || !self.is_moving(now) {
            return Next::PassOver;
        }
        let has_room = self.in_flight < room.records && self.in_flight_bytes + u64::from(cost_bytes) <= room.bytes;
        if self.in_flight == 0 || has_room { Next::Send } else { Next::Wait }
    }

    fn sent(&mut self, cost_bytes: u32, now: Instant) {
        if self.in_flight == 0 {
            self.moved = now;
        }
        self.in_flight += 1;
        self.in_flight_bytes += u64::from(cost_bytes);
    }

    fn settle(&mut self, fate: Fate, cost_bytes: u32, now: Instant) {
        self.in_flight -= 1;
        self.in_flight_bytes -= u64::from(cost_bytes);
        match fate {
            Fate::Settled => self.moved = now,
            Fate::Again => {
                self.has_returned = true;
                self.passed_over += 1;
                self.paused_until = Some(now + PAUSE);
            }
        }
        self.has_returned &= self.in_flight > 0;
    }

    fn pass_over(&mut self, number: u64) {
        self.passed_over += 1;
        self.first_passed_over.get_or_insert(number);
    }

    /// The reader goes back: they are about to be shown again.
    fn forget_passed_over(&mut self) {
        self.passed_over = 0;
        self.first_passed_over = None;
    }

    /// Whether there is something to go back for, and it may be sent.
    fn may_go_on(&self, now: Instant) -> bool {
        self.passed_over > 0 && self.is_moving(now)
    }

    fn is_moving(&self, now: Instant) -> bool {
        !self.has_returned && !self.is_stuck(now) && self.paused_until.is_none_or(|until| until <= now)
    }

    /// Whether it takes nothing of what it was asked to take.
    fn is_stuck(&self, now: Instant) -> bool {
        self.in_flight > 0 && now.saturating_duration_since(self.moved) >= STUCK
    }
}

#[cfg(test)]
#[path = "wal_tests.rs"]
mod tests;
