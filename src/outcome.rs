//! What became of an event.
//!
//! In: the pipeline's rejections, the producers' delivery reports. Out: a [`Code`] for every reply, metric
//! and log line, and the [`Ledger`], which accounts for every event ever received.
//! Never: waits, does I/O, or carries a payload value in a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use dashmap::DashMap;

mod awaiting;
mod balance;
mod batch;
mod in_memory;
mod kept_in;

pub use awaiting::Awaiting;
pub use balance::Balance;
pub use batch::BatchState;
pub use in_memory::InMemory;
pub use kept_in::KeptIn;

use awaiting::tell;

/// Whose mistake an error is: the reply's status and the log level follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody's: the event went through.
    None,
    /// The sender must change the event or the request; sending it again as it is will fail again.
    Sender,
    /// Ours or Kafka's: the same event may succeed later.
    Ours,
}

/// Makes the closed set of codes: name, wire form, HTTP status when every event of a request ended so,
/// fault, whether sending the same event again can help, and one sentence for the documentation.
macro_rules! codes {
    ($($name:ident, $text:literal, $status:literal, $fault:ident, $retry:literal, $help:literal;)*) => {
        /// What became of an event or of a request. Stable: replies, metrics and logs use [`Code::as_str`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Code { $(#[doc = $help] $name,)* }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code as it stands in replies, labels and logs.
            pub const fn as_str(self) -> &'static str { match self { $(Code::$name => $text,)* } }

            /// The HTTP status of a reply in which every event ended with this code.
            pub const fn status(self) -> u16 { match self { $(Code::$name => $status,)* } }

            /// Whose fault it is.
            pub const fn fault(self) -> Fault { match self { $(Code::$name => Fault::$fault,)* } }

            /// Whether the same event may succeed when it is sent again.
            pub const fn retry(self) -> bool { match self { $(Code::$name => $retry,)* } }

            /// One sentence for people: what it means and what to do.
            pub const fn help(self) -> &'static str { match self { $(Code::$name => $help,)* } }
        }
    };
}

codes! {
    Enqueued, "enqueued", 202, None, false, "checked, converted and in the producer's buffer; Kafka has not answered yet";
    Spooled, "spooled", 202, None, false, "Kafka does not take the event now; it is on the proxy's disk and is delivered when Kafka does";
    Acknowledged, "acknowledged", 200, None, false, "Kafka acknowledged the record; the result names its partition and offset";
    Durable, "durable", 200, None, false, "the event is on the proxy's disk and is delivered whatever happens to the process, or Kafka's in-sync replicas all have it";
    Valid, "valid", 200, None, false, "dry run: the event would be taken, as its result shows; nothing was produced";

    InvalidBody, "invalid_body", 400, Sender, false, "the request's body could not be parsed, so no event of it was taken";
    InvalidParameter, "invalid_parameter", 400, Sender, false, "a query parameter or header of the request has a value that is not allowed";
    ReplyNotOffered, "reply_not_offered", 400, Sender, false, "the request asks for `reply=durable`, which the event type does not offer; operators set `reply = \"durable\"`";
    Unauthenticated, "unauthenticated", 401, Sender, false, "the request has no API key, or one that no sender has; send `Authorization: Bearer <key>`";
    ForbiddenEvent, "forbidden_event", 403, Sender, false, "the sender is not allowed to send this event; its `events` setting lists those it may";
    NotFound, "not_found", 404, Sender, false, "there is no such path on this listener";
    UnknownEvent, "unknown_event", 404, Sender, false, "no event type has this name; the message names the nearest one that the sender may send, operators add others under `[events]`";
    MethodNotAllowed, "method_not_allowed", 405, Sender, false, "the path exists, but not with this method";
    BodyTimeout, "body_timeout", 408, Sender, true, "the request's body did not arrive in time";
    BodyTooLarge, "body_too_large", 413, Sender, false, "the request's body is over the limit, as sent or after decompression; send smaller batches";
    BatchTooLong, "batch_too_long", 413, Sender, false, "the request holds more events than a batch may; send smaller batches";
    EventTooLarge, "event_too_large", 413, Sender, false, "the event or its record is over the limit of its event type or topic";
    UnsupportedMediaType, "unsupported_media_type", 415, Sender, false, "the `Content-Type` or `Content-Encoding` is none that this path takes";

    InvalidEnvelope, "invalid_envelope", 422, Sender, false, "a field of the envelope is missing, has the wrong type or an illegal value";
    WrongFormat, "wrong_format", 422, Sender, false, "the event type does not take payloads of this format";
    InvalidPayload, "invalid_payload", 422, Sender, false, "the payload does not fit the schema at the path that the message names";
    MalformedJson, "malformed_json", 422, Sender, false, "the payload is not valid JSON";
    MalformedProtobuf, "malformed_protobuf", 422, Sender, false, "the payload is not a valid Protobuf message on the wire";
    MalformedAvro, "malformed_avro", 422, Sender, false, "the payload is not a valid Avro datum of its schema";
    InvalidUtf8, "invalid_utf8", 422, Sender, false, "a string is not valid UTF-8";
    UnknownField, "unknown_field", 422, Sender, false, "the payload has a field that the schema does not have, and the event type refuses those";
    MissingField, "missing_field", 422, Sender, false, "a required field is missing";
    OutOfRange, "out_of_range", 422, Sender, false, "a number, timestamp or duration is outside the range of its field";
    UnknownEnumValue, "unknown_enum_value", 422, Sender, false, "an enum field names no constant of its enum";
    TooDeep, "too_deep", 422, Sender, false, "messages or JSON values nest deeper than 100 levels";
    PayloadExpands, "payload_expands", 422, Sender, false, "the payload would expand into far more bytes or nodes than it has";
    MissingKey, "missing_key", 422, Sender, false, "the event type needs a key and the event has none";
    UnknownSchema, "unknown_schema", 422, Sender, false, "the schema version or id that the event names is not one of the event type's subject";
    RateLimited, "rate_limited", 429, Sender, true, "the sender or the event type is over its limit; wait as long as `Retry-After` says";

    Internal, "internal", 500, Ours, true, "a bug of ours; the log of the proxy has more";
    Overloaded, "overloaded", 503, Ours, true, "too many connections or too many bytes in flight; retry after the pause that `Retry-After` names";
    EventTypeUnavailable, "event_type_unavailable", 503, Ours, true, "the event type's cluster, topic or schema is not available; it is tried again by itself, `/ready` on the admin listener says why";
    BufferFull, "buffer_full", 503, Ours, true, "the buffer of the event type's cluster is full; retry after the pause that `Retry-After` names";
    DiskUnavailable, "disk_unavailable", 503, Ours, true, "the event type needs the proxy's disk, which is full or does not work now; retry after the pause that `Retry-After` names";
    DeliveryFailed, "delivery_failed", 503, Ours, true, "Kafka refused the record, or the client gave it up before it was written";
    RecordRefused, "record_refused", 422, Sender, false, "the broker refuses this record for good, for example as too large";
    Unknown, "unknown", 504, Ours, true, "the deadline passed before Kafka answered; the event may have been written, send it again with the same id";
}

impl Code {
    /// The position in [`Code::ALL`], for tables indexed by code.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether it is the event itself that is refused: not who sent it, how often, or that it cannot be taken now.
    pub const fn is_about_content(self) -> bool {
        matches!(
            self,
            Code::EventTooLarge
                | Code::InvalidEnvelope
                | Code::WrongFormat
                | Code::InvalidPayload
                | Code::MalformedJson
                | Code::MalformedProtobuf
                | Code::MalformedAvro
                | Code::InvalidUtf8
                | Code::UnknownField
                | Code::MissingField
                | Code::OutOfRange
                | Code::UnknownEnumValue
                | Code::TooDeep
                | Code::PayloadExpands
                | Code::MissingKey
                | Code::UnknownSchema
        )
    }

    /// Whether the event went through as far as the reply says.
    pub const fn is_success(self) -> bool {
        matches!(self.fault(), Fault::None)
    }
}

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
        })
    }

    /// The same for a record out of the spool: while it is tried it counts as in memory. `batch` is told that it is still
    /// [`Delivery::Spooled`] when it is to be tried again.
    pub fn from_spool(account: &Arc<Account>, batch: &Arc<BatchState>, index: u32, cost_bytes: u32) -> Box<Tracked> {
        let mut tracked = Tracked::new(account, Some(batch), index, cost_bytes);
        tracked.kept = Kept::Spool;
        account.in_spool.fetch_sub(1, Relaxed);
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
        self.account.in_memory.remove(self.cost_bytes);
        let delivery = self.verdict(delivery);
        match delivery {
            Delivery::Delivered { .. } => {
                self.account.delivered.fetch_add(1, Relaxed);
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

    /// The producer did not take the record: the caller rejects the event itself.
    #[allow(clippy::boxed_local, reason = "it lives in a box, which is librdkafka's opaque")]
    pub fn refused(mut self: Box<Self>) {
        self.open = false;
        self.account.in_memory.remove(self.cost_bytes);
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
            self.account.in_memory.remove(self.cost_bytes);
            // A token that a panic drops was not handed over: what librdkafka has is no longer ours to drop.
            let delivery = match std::thread::panicking() {
                _ if self.is_from_spool() => Delivery::Spooled,
                panicking if panicking || self.given_up.is_some() => self.verdict(Delivery::Failed(Code::Internal)),
                _ => Delivery::Failed(Code::Unknown),
            };
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
    /// Events that were read out of a request.
    pub received: AtomicU64,
    /// Events found in the spool at start.
    pub recovered: AtomicU64,
    /// Events that Kafka acknowledged.
    pub delivered: AtomicU64,
    /// Events among them that another cluster has, while the intended one took nothing.
    pub delivered_elsewhere: AtomicU64,
    /// Events that the reply refused.
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
    /// Unknown fields that were left out, over all events.
    pub fields_dropped: AtomicU64,
    /// Events whose fate was known only after the reply that should have told it.
    pub late: AtomicU64,
    rejected_by: [AtomicU64; Code::ALL.len()],
    failed_by: [AtomicU64; Code::ALL.len()],
    kept: [AtomicU64; KeptIn::ALL.len()],
}

impl Account {
    fn new(event: &str, cluster: &str) -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Account {
            event: event.to_owned(),
            cluster: cluster.to_owned(),
            received: AtomicU64::new(0),
            recovered: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            delivered_elsewhere: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            in_memory: InMemory::default(),
            share_bytes: AtomicU64::new(u64::MAX),
            hot_keys: AtomicU64::new(0),
            in_spool: AtomicU64::new(0),
            fields_dropped: AtomicU64::new(0),
            late: AtomicU64::new(0),
            rejected_by: zeros(),
            failed_by: zeros(),
            kept: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Counts an event that was read out of a request.
    pub fn receive(&self) {
        self.received.fetch_add(1, Relaxed);
    }

    /// Counts an event that was found in the spool.
    pub fn recover(&self) {
        self.recovered.fetch_add(1, Relaxed);
        self.in_spool.fetch_add(1, Relaxed);
    }

    /// Counts an event that the reply refuses.
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
    unknown: Arc<Account>,
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger { accounts: DashMap::new(), unknown: Arc::new(Account::new(Self::UNKNOWN, Self::NO_CLUSTER)) }
    }
}

impl Ledger {
    /// The label under which events count whose name no event type has.
    pub const UNKNOWN: &'static str = "(unknown)";
    /// The cluster label of those.
    pub const NO_CLUSTER: &'static str = "(none)";

    /// The account of an event type, made at first use. For warm-up, not for the path of an event.
    pub fn account(&self, event: &str, cluster: &str) -> Arc<Account> {
        let entry = self.accounts.entry((event.to_owned(), cluster.to_owned()));
        Arc::clone(&entry.or_insert_with(|| Arc::new(Account::new(event, cluster))))
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

    /// Counts what is still in memory as lost: for the end, when no delivery report can come any more.
    pub fn write_off(&self) -> u64 {
        let write_off = |account: Arc<Account>| {
            let left = account.in_memory.take_events();
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
