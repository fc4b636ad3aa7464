//! What became of an event.
//!
//! In: the pipeline's rejections, the producers' delivery reports. Out: a [`Code`] for every reply, metric
//! and log line, and the [`Ledger`], which accounts for every event ever received.
//! Never: waits, does I/O, or carries a payload value in a message.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use dashmap::DashMap;
use tokio::sync::Notify;

use crate::telemetry::traces::DeliverySpan;

mod awaiting;
mod balance;
mod code;
mod in_memory;
mod recent;

pub use awaiting::Awaiting;
pub use balance::Balance;
pub use code::{Code, Fault};
pub use in_memory::InMemory;
pub use recent::{Recent, Rejection};

use awaiting::tell;

/// Why an event was not taken. The message names the thing and the limit, never a payload's value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EventError {
    /// What went wrong, from the closed set.
    pub code: Code,
    /// What, where, the limit, and what to do; lowercase, no full stop.
    pub message: String,
}

impl EventError {
    /// An error with its message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        EventError { code, message: message.into() }
    }
}

/// What Kafka, or the client on its behalf, finally said of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Written and acknowledged as the event type's `acks` asks.
    Delivered {
        /// Partition the record is in.
        partition: i32,
        /// Its offset there.
        offset: i64,
    },
    /// Given up for good; [`Code::DeliveryFailed`], [`Code::RecordRefused`] or [`Code::Unknown`] (timed out: it may
    /// have been written all the same).
    Failed(Code),
    /// Neither yet: it is on the disk of the spool, from where it will be tried again.
    Spooled,
}

/// Where a record is kept that was accepted and then given up for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum KeptIn {
    /// In the dead-letter topic of its event type, acknowledged.
    DeadLetterTopic,
    /// In the failed log, on disk.
    FailedLog,
    /// Nowhere: there is no such place, or none that took it.
    Nowhere,
}

impl KeptIn {
    /// Every place.
    pub const ALL: [KeptIn; 3] = [KeptIn::DeadLetterTopic, KeptIn::FailedLog, KeptIn::Nowhere];

    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            KeptIn::DeadLetterTopic => "dead_letter_topic",
            KeptIn::FailedLog => "failed_log",
            KeptIn::Nowhere => "nowhere",
        }
    }
}

/// The deliveries that one request waits for. Made only when a request waits.
#[derive(Debug)]
pub struct BatchState {
    inner: Mutex<Waiting>,
    done: Notify,
}

#[derive(Debug)]
struct Waiting {
    /// Index in the request and what became of it.
    settled: Vec<(u32, Delivery)>,
    /// Records handed to a producer and not settled yet.
    open: usize,
    /// The reply was written without them.
    is_over: bool,
}

impl Default for BatchState {
    fn default() -> Self {
        let inner = Waiting { settled: Vec::new(), open: 0, is_over: false };
        BatchState { inner: Mutex::new(inner), done: Notify::new() }
    }
}

impl BatchState {
    /// One more record is on its way.
    pub fn expect_one(&self) {
        self.lock().open += 1;
    }

    /// The record at `index` is settled; says whether the reply was written without it.
    fn settle(&self, index: u32, delivery: Delivery) -> bool {
        let mut inner = self.lock();
        inner.settled.push((index, delivery));
        inner.open -= 1;
        if inner.open == 0 {
            self.done.notify_one();
        }
        inner.is_over
    }

    /// This much is known of the record at `index`, which is not settled yet.
    fn note(&self, index: u32, delivery: Delivery) {
        self.lock().settled.push((index, delivery));
    }

    /// A record that was announced by [`BatchState::expect_one`] was not taken after all.
    fn forget_one(&self) {
        let mut inner = self.lock();
        inner.open -= 1;
        if inner.open == 0 {
            self.done.notify_one();
        }
    }

    /// Waits until every record is settled. May be dropped at any time and called again.
    pub async fn settled(&self) {
        loop {
            if self.lock().open == 0 {
                return;
            }
            self.done.notified().await;
        }
    }

    /// What is settled so far, by index in the request; of what is there twice, the later counts.
    pub fn take(&self) -> Vec<(u32, Delivery)> {
        std::mem::take(&mut self.lock().settled)
    }

    /// The same, and what comes later comes too late for the reply.
    pub fn take_last(&self) -> Vec<(u32, Delivery)> {
        let mut inner = self.lock();
        inner.is_over = true;
        std::mem::take(&mut inner.settled)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.inner.lock().expect("no code panics while it holds this lock")
    }
}

/// Travels with a record through librdkafka and settles it exactly once: by [`Tracked::settle`] from a delivery
/// report, by [`Tracked::refused`] when the producer did not take it, or when it is dropped unsettled: as failed by a
/// panic on the way to the producer, else as lost.
#[derive(Debug)]
pub struct Tracked {
    account: Arc<Account>,
    batch: Option<Arc<BatchState>>,
    index: u32,
    cost_bytes: u32,
    /// On the producing client's clock; fills what would be padding.
    sent_ms: u32,
    resends: u8,
    /// The leader that owes its acknowledgement, as the producing client numbers them; 0 when nobody counts.
    leader: u8,
    open: bool,
    kept: Kept,
    /// Why it was given up for good, while it is on its way to where it is kept for people.
    given_up: Option<Code>,
    /// Whether its request waits for Kafka even where the record is on disk first.
    awaits_kafka: bool,
    /// Of a sampled event.
    span: Option<Box<DeliverySpan>>,
}

/// Where a record is beside a producer's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// Nowhere; it may be spooled.
    Nowhere,
    /// In the spool, from which it comes.
    Spool,
    /// Nowhere; it goes to another than its intended cluster, and may be spooled for that one.
    Elsewhere,
    /// Nowhere, and nobody needs it again.
    Never,
}

impl Tracked {
    /// Counts the event as in memory. `cost_bytes` is what the record takes of the producer's budget.
    pub fn new(account: &Arc<Account>, batch: Option<&Arc<BatchState>>, index: u32, cost_bytes: u32) -> Box<Tracked> {
        account.in_memory.add(cost_bytes);
        if let Some(batch) = batch {
            batch.expect_one();
        }
        let (account, batch) = (Arc::clone(account), batch.cloned());
        let (kept, given_up) = (Kept::Nowhere, None);
        Box::new(Tracked {
            account,
            batch,
            index,
            cost_bytes,
            sent_ms: 0,
            resends: 0,
            leader: 0,
            open: true,
            kept,
            given_up,
            awaits_kafka: false,
            span: None,
        })
    }

    /// The same for a record out of the spool: while it is tried it counts as in memory. `batch` is told that it is still
    /// [`Delivery::Spooled`] when it is to be tried again.
    pub fn from_spool(account: &Arc<Account>, batch: &Arc<BatchState>, index: u32, cost_bytes: u32) -> Box<Tracked> {
        let mut tracked = Tracked::new(account, Some(batch), index, cost_bytes);
        tracked.kept = Kept::Spool;
        account.in_spool.fetch_sub(1, Relaxed);
        account.replayed.fetch_add(1, Relaxed);
        tracked
    }

    /// The same for a record that proves something now and is of no use later: it is never spooled.
    pub fn of_the_moment(account: &Arc<Account>, batch: &Arc<BatchState>, index: u32, cost_bytes: u32) -> Box<Tracked> {
        let mut tracked = Tracked::new(account, Some(batch), index, cost_bytes);
        tracked.kept = Kept::Never;
        tracked
    }

    /// The same for a record for which no request waits and which is never spooled: a dead letter, with an account of its own.
    pub fn beside_the_ledger(account: &Arc<Account>, cost_bytes: u32) -> Box<Tracked> {
        let mut tracked = Tracked::new(account, None, 0, cost_bytes);
        tracked.kept = Kept::Never;
        tracked
    }

    /// The record goes to another cluster than the intended one.
    pub fn mark_elsewhere(&mut self) {
        self.kept = Kept::Elsewhere;
    }

    /// Whether [`Tracked::mark_elsewhere`] was called.
    pub fn is_elsewhere(&self) -> bool {
        self.kept == Kept::Elsewhere
    }

    /// Whether its entry is in the spool already.
    pub fn is_from_spool(&self) -> bool {
        self.kept == Kept::Spool
    }

    /// Whether the spool may take it.
    pub fn may_be_spooled(&self) -> bool {
        matches!(self.kept, Kept::Nowhere | Kept::Elsewhere) && self.given_up.is_none()
    }

    /// The event has failed for good with this code; what happens from now on only decides where its record is kept:
    /// [`Delivery::Delivered`] in a dead-letter topic, [`Delivery::Spooled`] in the failed log, else nowhere.
    pub fn give_up(&mut self, code: Code) {
        self.given_up = Some(code);
    }

    /// It is not given up after all: the place where it would be kept has no room at the moment, and the spool still has it.
    pub fn try_again(&mut self) {
        self.given_up = None;
    }

    /// Why it was given up, if it was.
    pub fn given_up(&self) -> Option<Code> {
        self.given_up
    }

    /// Whether its record is worth keeping once it is given up. Not that of a canary or of a dead letter.
    pub fn is_worth_keeping(&self) -> bool {
        self.kept != Kept::Never
    }

    /// Notes that the record has other bytes now.
    pub fn set_cost_bytes(&mut self, cost_bytes: u32) {
        self.account.in_memory.remove(self.cost_bytes);
        self.account.in_memory.add(cost_bytes);
        self.cost_bytes = cost_bytes;
    }

    /// Lets its request wait for Kafka where the record goes to the wal first; see [`Tracked::settle_on_disk`].
    pub fn await_kafka(&mut self) {
        self.awaits_kafka = true;
    }

    /// Ends this span when the record is settled for the first time.
    pub fn trace(&mut self, span: Box<DeliverySpan>) {
        self.span = Some(span);
    }

    /// Whether a request waits for it.
    pub fn is_awaited(&self) -> bool {
        self.batch.is_some()
    }

    /// Bytes of the producer's budget that the record holds.
    pub fn cost_bytes(&self) -> u32 {
        self.cost_bytes
    }

    /// Notes when the producer took the record: milliseconds on the client's own clock, wrapping.
    pub fn mark_sent(&mut self, now_ms: u32) {
        self.sent_ms = now_ms;
    }

    /// What [`Tracked::mark_sent`] noted.
    pub fn sent_ms(&self) -> u32 {
        self.sent_ms
    }

    /// Notes which leader owes its acknowledgement.
    pub fn mark_leader(&mut self, leader: u8) {
        self.leader = leader;
    }

    /// The leader that owes its acknowledgement; none does from then on.
    pub fn take_leader(&mut self) -> u8 {
        std::mem::take(&mut self.leader)
    }

    /// Counts one more try that the record needs through no fault of its own; returns how many it has had.
    pub fn count_resend(&mut self) -> u8 {
        self.resends = self.resends.saturating_add(1);
        self.resends
    }

    /// The event type's account.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Counts what became of the record and tells the request that waits for it.
    #[allow(clippy::boxed_local, reason = "it lives in a box, which is librdkafka's opaque")]
    pub fn settle(mut self: Box<Self>, delivery: Delivery) {
        self.open = false;
        self.leave_memory();
        let delivery = self.verdict(delivery);
        self.end_span(delivery);
        match delivery {
            Delivery::Delivered { .. } => {
                self.account.delivered.fetch_add(1, Relaxed);
                self.account.delivered_bytes.fetch_add(self.cost_bytes.into(), Relaxed);
                if self.is_elsewhere() {
                    self.account.delivered_elsewhere.fetch_add(1, Relaxed);
                }
            }
            Delivery::Failed(code) => self.account.fail(code),
            Delivery::Spooled => drop(self.account.in_spool.fetch_add(1, Relaxed)),
        }
        if let Some(batch) = self.batch.take() {
            tell(&self.account, &batch, self.index, delivery);
        }
    }

    pub(in crate::outcome) fn end_span(&mut self, delivery: Delivery) {
        if let Some(span) = self.span.take() {
            span.end(&self.account, delivery);
        }
    }

    /// Of a record that was given up the delivery says where it is kept; the event has failed wherever that is.
    fn verdict(&self, delivery: Delivery) -> Delivery {
        let (kept_in, code) = match (self.given_up, delivery) {
            (Some(code), Delivery::Delivered { .. }) => (KeptIn::DeadLetterTopic, code),
            (Some(code), Delivery::Spooled) => (KeptIn::FailedLog, code),
            (Some(code), Delivery::Failed(_)) | (None, Delivery::Failed(code)) => (KeptIn::Nowhere, code),
            (None, _) => return delivery,
        };
        self.account.kept[kept_in as usize].fetch_add(1, Relaxed);
        Delivery::Failed(code)
    }

    pub(in crate::outcome) fn leave_memory(&self) {
        self.account.in_memory.remove(self.cost_bytes);
        if self.is_from_spool() {
            self.account.replayed.fetch_sub(1, Relaxed);
        }
    }

    /// The producer did not take the record: the caller rejects the event itself.
    #[allow(clippy::boxed_local, reason = "it lives in a box, which is librdkafka's opaque")]
    pub fn refused(mut self: Box<Self>) {
        self.open = false;
        self.leave_memory();
        if self.is_from_spool() {
            self.account.in_spool.fetch_add(1, Relaxed);
        }
        if let Some(batch) = self.batch.take() {
            batch.forget_one();
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if self.open {
            self.leave_memory();
            // A token that a panic drops was not handed over: what librdkafka has is no longer ours to drop.
            let delivery = match std::thread::panicking() {
                _ if self.is_from_spool() => Delivery::Spooled,
                panicking if panicking || self.given_up.is_some() => self.verdict(Delivery::Failed(Code::Internal)),
                _ => Delivery::Failed(Code::Unknown),
            };
            self.end_span(delivery);
            match delivery {
                Delivery::Failed(Code::Unknown) if self.given_up.is_none() => {
                    self.account.lost.fetch_add(1, Relaxed);
                }
                Delivery::Failed(code) => self.account.fail(code),
                _ => drop(self.account.in_spool.fetch_add(1, Relaxed)),
            }
            if let Some(batch) = self.batch.take() {
                tell(&self.account, &batch, self.index, delivery);
            }
        }
    }
}

/// The event counts of one event type and its intended cluster. All numbers are events.
#[derive(Debug)]
pub struct Account {
    /// Event name, or [`Ledger::UNKNOWN`] for names that no event type has.
    pub event: String,
    /// The cluster that the event type is mapped to.
    pub cluster: String,
    /// Its place among the accounts of its ledger, in the order in which they were made.
    pub ordinal: u64,
    /// Events that were read out of a request.
    pub received: AtomicU64,
    /// Bytes of their payloads, as they were sent.
    pub received_bytes: AtomicU64,
    /// Events found in the spool at start.
    pub recovered: AtomicU64,
    /// Events that Kafka acknowledged.
    pub delivered: AtomicU64,
    /// Bytes of their records, as a producer's budget counts them.
    pub delivered_bytes: AtomicU64,
    /// Events among them that another cluster has, while the intended one took nothing.
    pub delivered_elsewhere: AtomicU64,
    /// Events that the reply refused, and those that a sample left out.
    pub rejected: AtomicU64,
    /// Events accepted and then given up for good.
    pub failed: AtomicU64,
    /// Events of whose fate nothing is known. Must stay zero.
    pub lost: AtomicU64,
    /// Events in a producer's buffer now, and the bytes that they take of it.
    pub in_memory: InMemory,
    /// Most of those bytes.
    share_bytes: AtomicU64,
    /// Events that went without their key, because too many others had it.
    pub hot_keys: AtomicU64,
    /// Events in the spool now.
    pub in_spool: AtomicU64,
    /// Those in memory that are on disk as well, because they are being tried out of the spool.
    replayed: AtomicU64,
    /// Unknown fields that were left out, over all events.
    pub fields_dropped: AtomicU64,
    /// Events whose fate was known only after the reply that should have told it.
    pub late: AtomicU64,
    rejected_by: [AtomicU64; Code::ALL.len()],
    failed_by: [AtomicU64; Code::ALL.len()],
    kept: [AtomicU64; KeptIn::ALL.len()],
    /// The last rejections, for people.
    pub recent: Recent,
}

impl Account {
    fn new(event: &str, cluster: &str, ordinal: u64, recent: Recent) -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Account {
            event: event.to_owned(),
            cluster: cluster.to_owned(),
            ordinal,
            received: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            recovered: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            delivered_bytes: AtomicU64::new(0),
            delivered_elsewhere: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            in_memory: InMemory::default(),
            share_bytes: AtomicU64::new(u64::MAX),
            hot_keys: AtomicU64::new(0),
            in_spool: AtomicU64::new(0),
            replayed: AtomicU64::new(0),
            fields_dropped: AtomicU64::new(0),
            late: AtomicU64::new(0),
            rejected_by: zeros(),
            failed_by: zeros(),
            kept: std::array::from_fn(|_| AtomicU64::new(0)),
            recent,
        }
    }

    /// Counts an event that was read out of a request.
    pub fn receive(&self) {
        self.received.fetch_add(1, Relaxed);
    }

    /// Counts the bytes of an event's payload.
    #[inline]
    pub fn note_payload(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts an event that was found in the spool.
    pub fn recover(&self) {
        self.recovered.fetch_add(1, Relaxed);
        self.in_spool.fetch_add(1, Relaxed);
    }

    /// Counts an event that the reply refuses, or that a sample leaves out.
    pub fn reject(&self, code: Code) {
        self.rejected.fetch_add(1, Relaxed);
        self.rejected_by[code.index()].fetch_add(1, Relaxed);
    }

    /// Counts an event that was accepted and then given up for good.
    fn fail(&self, code: Code) {
        self.failed_by[code.index()].fetch_add(1, Relaxed);
        self.failed.fetch_add(1, Relaxed);
    }

    /// Its events may take so many bytes of a producer's buffer, and one event always may.
    pub fn set_share(&self, bytes: u64) {
        self.share_bytes.store(bytes, Relaxed);
    }

    /// Most bytes that its events may take of a producer's buffer.
    pub fn share_bytes(&self) -> u64 {
        self.share_bytes.load(Relaxed)
    }

    /// Whether its events take more than their share, that of the caller among them.
    #[inline]
    pub fn is_over_share(&self) -> bool {
        self.in_memory.bytes() > self.share_bytes() && self.in_memory.events() > 1
    }

    /// Counts an event that goes without its key.
    pub fn note_hot_key(&self) {
        self.hot_keys.fetch_add(1, Relaxed);
    }

    /// Counts an event some of whose fields were left out.
    pub fn note_dropped(&self, fields: u32) {
        self.fields_dropped.fetch_add(u64::from(fields), Relaxed);
    }

    /// Rejections by code, those that happened.
    pub fn rejections(&self) -> impl Iterator<Item = (Code, u64)> + '_ {
        by_code(&self.rejected_by)
    }

    /// Failures after acceptance by code, those that happened.
    pub fn failures(&self) -> impl Iterator<Item = (Code, u64)> + '_ {
        by_code(&self.failed_by)
    }

    /// Where the records of failed events are kept, those places that have one.
    pub fn kept(&self) -> impl Iterator<Item = (KeptIn, u64)> + '_ {
        let counts = KeptIn::ALL.into_iter().zip(&self.kept);
        counts.map(|(place, n)| (place, n.load(Relaxed))).filter(|(_, n)| *n > 0)
    }

    /// The numbers as they stand. Consistent only while nothing is moving.
    pub fn read(&self) -> Balance {
        let read = |n: &AtomicU64| n.load(Relaxed);
        Balance {
            received: read(&self.received),
            recovered: read(&self.recovered),
            delivered: read(&self.delivered),
            rejected: read(&self.rejected),
            failed: read(&self.failed),
            lost: read(&self.lost),
            in_memory: self.in_memory.events(),
            in_spool: read(&self.in_spool),
        }
    }
}

fn by_code(counts: &[AtomicU64; Code::ALL.len()]) -> impl Iterator<Item = (Code, u64)> + '_ {
    Code::ALL.iter().zip(counts).map(|(code, n)| (*code, n.load(Relaxed))).filter(|(_, n)| *n > 0)
}

/// The accounts of every event type, for as long as the process lives: a snapshot that is replaced keeps its accounts.
#[derive(Debug)]
pub struct Ledger {
    accounts: DashMap<(String, String), Arc<Account>>,
    made: AtomicU64,
    /// Rejections that are kept of all of them.
    recent: Arc<AtomicUsize>,
    unknown: Arc<Account>,
}

impl Default for Ledger {
    fn default() -> Self {
        let recent = Arc::default();
        let unknown = Account::new(Self::UNKNOWN, Self::NO_CLUSTER, u64::MAX, Recent::beside(&recent));
        Ledger { accounts: DashMap::new(), made: AtomicU64::new(0), recent, unknown: Arc::new(unknown) }
    }
}

impl Ledger {
    /// The label under which events count whose name no event type has.
    pub const UNKNOWN: &'static str = "(unknown)";
    /// The cluster label of those.
    pub const NO_CLUSTER: &'static str = "(none)";

    /// The label under which event types count together that have no series of their own.
    pub const OTHER: &'static str = "(other)";

    /// The account of an event type, made at first use. For warm-up, not for the path of an event.
    pub fn account(&self, event: &str, cluster: &str) -> Arc<Account> {
        let entry = self.accounts.entry((event.to_owned(), cluster.to_owned()));
        let make = || Account::new(event, cluster, self.made.fetch_add(1, Relaxed), Recent::beside(&self.recent));
        Arc::clone(&entry.or_insert_with(|| Arc::new(make())))
    }

    /// The account of events whose name no event type has, and of those whose name could not be read.
    pub fn unknown(&self) -> &Arc<Account> {
        &self.unknown
    }

    /// All accounts, sorted by event and cluster; that of unknown names last.
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        let mut all: Vec<_> = self.accounts.iter().map(|entry| Arc::clone(entry.value())).collect();
        all.sort_by(|a, b| (&a.event, &a.cluster).cmp(&(&b.event, &b.cluster)));
        all.push(Arc::clone(&self.unknown));
        all
    }

    /// Counts what is still in memory as lost, but for what is on disk as well: for the end, when no delivery report can come any
    /// more. How many are lost.
    pub fn write_off(&self) -> u64 {
        let write_off = |account: Arc<Account>| {
            let on_disk = account.replayed.swap(0, Relaxed);
            account.in_spool.fetch_add(on_disk, Relaxed);
            let left = account.in_memory.take_events().saturating_sub(on_disk);
            account.lost.fetch_add(left, Relaxed);
            left
        };
        self.accounts().into_iter().map(write_off).sum()
    }

    /// The sum over all accounts.
    pub fn total(&self) -> Balance {
        self.accounts().iter().fold(Balance::default(), |sum, account| sum.plus(account.read()))
    }
}

#[cfg(test)]
mod tests;
