//! One librdkafka producer with its poll thread: one cluster, one lane.
//!
//! In: records, one call each. Out: their deliveries, from the poll thread. A record is refused at once or settled later,
//! never both and never neither: what is handed to librdkafka holds a place in the budget until it is reported, and a
//! stop waits for exactly those places.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};
use tracing::{debug, error, warn};

use super::bell::Bell;
use super::breaker::Gate;
use super::budget::NoRoom;
use super::context::{Context, Resend, care_from};
use super::handle::set_credentials;
use super::keep::Keeper;
use super::partition::{Item, Partitions, Place};
use super::wal::Wal;
use super::{ClientError, ErrorKind, Failure, ProduceError, Record, Refused, TopicHandle, settings, topic};
use crate::config::{self, Sasl};
use crate::outcome::{Code, Tracked};
use crate::route::Lane;
use crate::spool::{NotTaken, Spool};
use crate::telemetry::sources;

/// How long the poll thread rests when there is nothing to report. Waiting inside librdkafka's poll would wake it for every
/// batch, and rdkafka spins through the last millisecond of each wait; so reports are taken in bulk, unless a request waits for
/// one: then its [`Bell`] wakes it at once.
const REST: Duration = Duration::from_millis(5);
/// How long it rests while no record is in flight.
const IDLE_REST: Duration = Duration::from_millis(20);
/// How long one call of a flush lasts; reports of that time count as received at its beginning.
const FLUSH: Duration = Duration::from_millis(20);
/// Records that wait for so long over their linger are a sign of a leader that hangs. More than the step in which ages are told.
const UNEASY_AFTER: Duration = Duration::from_secs(2);
/// What a stop keeps of its deadline for the reports of purged records: a quarter of it, within these bounds. 400,000 reports
/// took 157 ms (measured).
const PURGE_WAIT_MIN: Duration = Duration::from_millis(250);
const PURGE_WAIT_MAX: Duration = Duration::from_secs(1);
/// The same where purged records go to the spool: half of the deadline, and no more than a full buffer of the default size takes
/// at the spool's least speed (60 MB/s), twice over.
const SPOOL_WAIT_MAX: Duration = Duration::from_secs(10);

/// One librdkafka producer with its poll thread: one cluster, one lane. Dropping it without [`Client::stop`] gives up
/// what is not delivered yet, and may block for as long as that takes.
pub struct Client {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The wal that records go to first, in the lane of that name.
    wal: Option<Arc<Wal>>,
    message_bytes_max: usize,
    /// What librdkafka's `batch.size` is.
    batch_bytes_max: usize,
    pub(super) limits: topic::Limits,
    /// Locked while a canary is under way.
    pub(super) proof: Mutex<super::canary::Proof>,
    /// What came of the last one, for those who cannot wait.
    pub(super) last_canary: super::canary::Last,
    /// A topic to ask the cluster about, for a sign of life.
    topic_known: Mutex<Option<String>>,
}

/// What the clients of a cluster share.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Where records wait that the cluster does not take now.
    pub spool: Option<Arc<Spool>>,
    /// Where records go that are given up for good.
    pub keeper: Arc<Keeper>,
    /// Whether the cluster takes records.
    pub gate: Arc<Gate>,
    /// Where live records go first, for the lane `wal`.
    pub wal: Option<Arc<Wal>>,
}

struct Shared {
    producer: BaseProducer<Context>,
    stopping: AtomicBool,
    /// Set by the first stop, and by a later one that has less time.
    patience: Mutex<Option<Patience>>,
}

/// Until when a stop waits for what.
#[derive(Clone, Copy, Debug)]
struct Patience {
    flush: Instant,
    purge: Instant,
}

impl Patience {
    /// Both within the deadline, the purge last.
    fn within(deadline: Duration, has_spool: bool) -> Patience {
        let kept = match has_spool {
            true => (deadline / 2).clamp(PURGE_WAIT_MIN, SPOOL_WAIT_MAX),
            false => (deadline / 4).clamp(PURGE_WAIT_MIN, PURGE_WAIT_MAX),
        };
        let flush = Instant::now() + deadline.saturating_sub(kept);
        Patience { flush, purge: flush + kept }
    }
}

/// What a stop had to leave undelivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Records given up because the deadline passed; each is settled as failed.
    pub purged: u64,
    /// Records that librdkafka never reported. They stay unsettled: whoever stops must count them lost.
    pub unreported: u64,
    /// Records that wait on disk.
    pub spooled: u64,
}

impl Stopped {
    /// The sum of two.
    pub(super) fn plus(self, other: Stopped) -> Stopped {
        Stopped {
            purged: self.purged + other.purged,
            unreported: self.unreported + other.unreported,
            spooled: self.spooled + other.spooled,
        }
    }
}

impl Client {
    /// Makes the client and starts its poll thread. Does not wait for a broker. With a spool, records that the cluster does not
    /// take now wait there.
    pub fn start(
        cluster: &config::Cluster,
        lane: Lane,
        spool: Option<&Arc<Spool>>,
    ) -> Result<Arc<Client>, ProduceError> {
        Client::start_amid(cluster, lane, &Surroundings { spool: spool.cloned(), ..Surroundings::default() })
    }

    /// [`Client::start`], with what the clients of its cluster share.
    pub fn start_amid(
        cluster: &config::Cluster,
        lane: Lane,
        surroundings: &Surroundings,
    ) -> Result<Arc<Client>, ProduceError> {
        let config = settings::client_config(settings::producer(cluster, lane));
        let failed = |source| ProduceError::Client { cluster: cluster.name.clone(), source };
        let native = config.create_native_config().map_err(failed)?;
        let limit = |name: &str| Ok(native.get(name).map_err(failed)?.parse().unwrap_or(usize::MAX));
        let (message_bytes_max, batch_bytes_max) = (limit("message.max.bytes")?, limit("batch.size")?);
        let context = Context::new(cluster, lane, surroundings);
        let producer = config.create_with_context(context).map_err(failed)?;
        let shared = Arc::new(Shared { producer, stopping: AtomicBool::new(false), patience: Mutex::default() });
        let thread = std::thread::Builder::new()
            .name(format!("produce-{}-{}", cluster.name, lane.as_str()))
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.poll_until_stopped()
            })
            .map_err(|source| ProduceError::Thread { cluster: cluster.name.clone(), source })?;
        // An admin client has no poll thread of ours that could answer librdkafka's wish for a token.
        let limits = topic::Limits::new(config, !matches!(cluster.sasl, Some(Sasl::OAuth { .. })));
        Ok(Arc::new(Client {
            shared,
            thread: Mutex::new(Some(thread)),
            wal: surroundings.wal.clone(),
            message_bytes_max,
            batch_bytes_max,
            limits,
            proof: Mutex::default(),
            last_canary: super::canary::Last::default(),
            topic_known: Mutex::default(),
        }))
    }

    /// Takes room in the budget for a record and hands it to librdkafka, or refuses it at once.
    pub(super) fn send(
        &self,
        topic: &TopicHandle,
        record: &Record<'_>,
        partition: Option<i32>,
        mut tracked: Box<Tracked>,
    ) -> Result<(), Refused> {
        let context = self.context();
        if !context.gate.is_closed() {
            match self.divert(topic.name(), record, tracked) {
                None => return Ok(()),
                Some(not_taken) => tracked = not_taken,
            }
        }
        if tracked.account().is_over_share() && !tracked.is_from_spool() {
            return self.spool_or_refuse(NoRoom::ShareFull, topic.name(), record, tracked);
        }
        let held_bytes = match context.budget.take(tracked.cost_bytes()) {
            Ok(held_bytes) => held_bytes,
            Err(no_room) => return self.spool_or_refuse(no_room, topic.name(), record, tracked),
        };
        let now_ms = context.clock.now_ms();
        let mut partition = partition;
        if held_bytes >= context.care_from.load(Relaxed) && partition.is_none() {
            match self.place(topic, record, &tracked, now_ms) {
                Place::At(placed, leader) => {
                    partition = placed;
                    tracked.mark_leader(leader);
                }
                Place::Nowhere => {
                    context.budget.give_back(tracked.cost_bytes());
                    return self.spool_or_refuse(NoRoom::LeaderFull, topic.name(), record, tracked);
                }
            }
        }
        tracked.mark_sent(now_ms);
        if tracked.is_awaited() && !tracked.is_from_spool() {
            context.note_awaited(now_ms);
        }
        context.ages.add(now_ms);
        topic.produce(record, partition, tracked).map_err(|(error, mut tracked)| {
            context.settle_debt(&mut tracked, false);
            context.release(&tracked);
            self.refuse(&error, topic.name(), record, tracked)
        })
    }

    /// Chooses where a record goes while the buffer fills, or records wait for too long.
    #[cold]
    fn place(&self, topic: &TopicHandle, record: &Record<'_>, tracked: &Tracked, now_ms: u32) -> Place {
        // What comes from the spool has its own pace.
        let item = Item { key: record.key, cost_bytes: tracked.cost_bytes(), must_go: tracked.is_from_spool() };
        self.context().leaders.place(topic.partitions(), item, now_ms)
    }

    /// Stops: flush, purge, poll until nothing is in flight, join the thread; all of it within `deadline`, of which the end is
    /// kept for the purge. Every record is settled, or counted in what is returned. Blocking; records that come later are
    /// refused. A second stop waits for the first one, which then ends by the earlier of the two deadlines.
    pub fn stop(&self, deadline: Duration) -> Stopped {
        self.hasten(deadline);
        let mut thread = self.thread.lock().expect("no code panics while it holds this lock");
        let Some(handle) = thread.take() else { return Stopped::default() };
        let context = self.context();
        context.budget.close();
        let mut stopped = Stopped::default();
        if !self.shared.flush() {
            let (records, spooled) = (context.budget.records(), context.spooled.load(Relaxed));
            stopped.unreported = self.shared.purge();
            stopped.spooled = context.spooled.load(Relaxed) - spooled;
            stopped.purged = records.saturating_sub(stopped.unreported + stopped.spooled);
        }
        self.shared.stopping.store(true, Relaxed);
        handle.thread().unpark();
        if handle.join().is_err() {
            error!(cluster = self.cluster(), lane = self.lane().as_str(), "poll thread panicked");
        }
        if stopped != Stopped::default() {
            let (cluster, lane) = (self.cluster(), self.lane().as_str());
            let Stopped { purged, unreported, spooled } = stopped;
            warn!(cluster, lane, purged, unreported, spooled, "producer stopped before everything was delivered");
        }
        stopped
    }

    /// Lets a stop, one that is under way or the next one, take no longer than this from now on.
    pub(super) fn hasten(&self, deadline: Duration) {
        self.hasten_to(Patience::within(deadline, self.context().beside.is_some()));
    }

    /// Lets a stop, one that is under way or the next one, wait for brokers no longer: what they have not acknowledged goes to
    /// disk, or is given up where there is none.
    pub(super) fn give_up_on_brokers(&self) {
        let now = Instant::now();
        let wait = if self.context().beside.is_some() { SPOOL_WAIT_MAX } else { PURGE_WAIT_MAX };
        self.hasten_to(Patience { flush: now, purge: now + wait });
    }

    fn hasten_to(&self, patience: Patience) {
        let mut before = self.shared.patience.lock().expect("no code panics while it holds this lock");
        *before = Some(before.map_or(patience, |before| Patience {
            flush: before.flush.min(patience.flush),
            purge: before.purge.min(patience.purge),
        }));
    }

    /// Lets connections from now on log in by a cluster's settings, where it does so by password: a client that drains behind
    /// another one may still have to connect.
    pub(super) fn log_in_as(&self, cluster: &config::Cluster) {
        if let Some(Sasl::Password { username, password, .. }) = &cluster.sasl
            && !set_credentials(self, username, password.expose())
        {
            warn!(cluster = cluster.name, lane = self.lane().as_str(), "the client does not take the new password");
        }
    }

    /// Most bytes of a record batch. A topic that takes less would refuse whole batches of records that fit.
    pub fn batch_bytes_max(&self) -> usize {
        self.batch_bytes_max
    }

    /// Largest record that librdkafka takes, in bytes.
    pub(super) fn message_bytes_max(&self) -> usize {
        self.message_bytes_max
    }

    /// The wal that records go to first.
    pub(super) fn wal(&self) -> Option<&Wal> {
        self.wal.as_deref()
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.context().cluster
    }

    /// The lane.
    pub fn lane(&self) -> Lane {
        self.context().lane
    }

    /// Bytes of records taken and not yet settled.
    pub fn buffered_bytes(&self) -> u64 {
        self.context().budget.bytes()
    }

    /// The most that [`Client::buffered_bytes`] may become.
    pub fn buffer_bytes_max(&self) -> u64 {
        self.context().budget.bytes_max()
    }

    /// Records taken and not yet settled.
    pub fn in_flight(&self) -> u64 {
        self.context().budget.records()
    }

    /// How long the oldest of them has been waiting, at most a few per cent of the message timeout too much.
    pub fn oldest_age(&self) -> Option<Duration> {
        let context = self.context();
        context.ages.oldest(context.clock.now_ms())
    }

    /// How long ago the poll thread last came round; for `/live`. More than a few seconds means that it hangs or is gone,
    /// but for a slow token endpoint (ten seconds at most).
    pub fn poll_age(&self) -> Duration {
        let context = self.context();
        let polled_ms = context.polled_ms.load(Relaxed);
        Duration::from_millis(u64::from(context.clock.now_ms().wrapping_sub(polled_ms)))
    }

    /// Records acknowledged so far.
    pub fn delivered(&self) -> u64 {
        self.context().delivered.load(Relaxed)
    }

    /// What librdkafka says of itself, as of up to [`settings::STATISTICS_INTERVAL`] ago.
    pub fn statistics(&self) -> sources::Statistics {
        self.context().statistics.read()
    }

    /// Whether the last canary was acknowledged by every broker that should; none before the first.
    pub fn is_proven(&self) -> Option<bool> {
        self.last_canary.get()
    }

    /// Records given up so far, by reason.
    pub fn failures(&self) -> impl Iterator<Item = (Failure, u64)> + '_ {
        Failure::ALL.into_iter().zip(self.context().failed.iter().map(|n| n.load(Relaxed)))
    }

    /// Errors that librdkafka reported of the connection so far, by kind.
    pub fn errors(&self) -> impl Iterator<Item = (ErrorKind, u64)> + '_ {
        self.context().health.counts()
    }

    /// What the connection suffers from, unless something went through since; for `/ready`.
    pub fn last_error(&self) -> Option<ClientError> {
        let context = self.context();
        context.health.last(context.clock.now_ms())
    }

    /// Whether it takes no records any more, because it is being stopped.
    pub fn is_stopping(&self) -> bool {
        self.context().budget.is_closed()
    }

    /// Whether the client is beyond repair; replace it.
    pub fn is_fatal(&self) -> bool {
        self.shared.producer.client().fatal_error().is_some()
    }

    /// From now on it also takes records that are meant for the cluster of another client; those that it does not deliver wait
    /// in the spool of that one.
    pub fn stand_in_for(&self, intended: &Client) {
        if let (Some(own), Some(other)) = (&self.context().beside, &intended.context().beside) {
            own.stand_in_for(other);
        }
    }

    /// Whether records go to the cluster as usual, or a trial may.
    pub fn lets_pass(&self) -> bool {
        self.context().gate.lets_pass()
    }

    /// Records that the cluster has answered so far, with an acknowledgement or a refusal for good.
    pub(super) fn answered(&self) -> u64 {
        let refused = self.failures().filter(|(failure, _)| failure.is_answer()).map(|(_, count)| count);
        self.delivered() + refused.sum::<u64>()
    }

    /// Whether records wait that should have been acknowledged by now.
    pub(super) fn is_waiting(&self) -> bool {
        self.oldest_age().is_some_and(|age| age > self.context().linger)
    }

    /// The error that says that no broker can be reached, or that they refuse our login, unless something went through since.
    pub(super) fn cut_off(&self) -> Option<ClientError> {
        let context = self.context();
        context.health.cut_off(context.clock.now_ms())
    }

    /// Places records with care when some wait for too long, and as usual when none does; says whether they do.
    pub(super) fn look_out(&self) -> bool {
        let context = self.context();
        let is_uneasy = self.oldest_age().is_some_and(|age| age > context.linger + UNEASY_AFTER);
        let care_from = if is_uneasy { 0 } else { care_from(context.lane, context.budget.bytes_max()) };
        context.care_from.store(care_from, Relaxed);
        is_uneasy
    }

    /// Asks the cluster which brokers lead its partitions now. Blocking.
    pub(super) fn learn_leaders(&self, timeout: Duration) {
        match self.producer().client().fetch_metadata(None, timeout) {
            Ok(metadata) => {
                let leaders = &self.context().leaders;
                metadata
                    .topics()
                    .iter()
                    .filter(|topic| leaders.knows(topic.name()))
                    .for_each(|topic| self.learn(topic));
            }
            Err(error) => debug!(cluster = self.cluster(), %error, "the leaders are not told"),
        }
    }

    /// Takes in which brokers lead the partitions of a topic.
    pub(super) fn learn(&self, topic: &MetadataTopic) {
        self.context().leaders.learn(topic.name(), topic.partitions().iter().map(|partition| partition.leader()));
    }

    /// What is known of a topic's partitions.
    pub(super) fn partitions(&self, topic: &str) -> Arc<Partitions> {
        self.context().leaders.topic(topic)
    }

    /// Bytes that each broker owes, of records that were placed with care.
    pub fn debts(&self) -> Vec<(i32, u64)> {
        self.context().leaders.debts()
    }

    /// Notes a topic that exists, or may.
    pub(super) fn note_topic(&self, topic: &str) {
        let mut known = self.topic_known.lock().expect("no code panics while it holds this lock");
        known.get_or_insert_with(|| topic.to_owned());
    }

    /// Whether the cluster answers a question about a topic, whatever it says. True as well when no topic is known, and so
    /// nothing to ask. Blocking.
    pub(super) fn answers(&self, timeout: Duration) -> bool {
        let topic = self.topic_known.lock().expect("no code panics while it holds this lock").clone();
        topic.is_none_or(|topic| self.metadata(&topic, timeout).map_or_else(|error| error.is_final(), |_| true))
    }

    /// Something other than a record went through, or did not.
    pub(super) fn note_success(&self) {
        self.context().health.worked();
    }

    pub(super) fn producer(&self) -> &BaseProducer<Context> {
        &self.shared.producer
    }

    fn context(&self) -> &Context {
        self.shared.producer.context()
    }

    /// The breaker is not closed: unless it is a trial, a record waits on disk rather than fill the memory. None once the spool
    /// has it. Where there is none, or it takes nothing, the budget decides as always.
    #[cold]
    fn divert(&self, topic: &str, record: &Record<'_>, tracked: Box<Tracked>) -> Option<Box<Tracked>> {
        let context = self.context();
        let has_proof_only = !tracked.may_be_spooled() && !tracked.is_from_spool();
        if has_proof_only || context.gate.pass() || tracked.is_from_spool() || context.budget.is_closed() {
            return Some(tracked);
        }
        let Some(beside) = &context.beside else { return Some(tracked) };
        if record.batch_bytes() > self.message_bytes_max {
            return Some(tracked);
        }
        beside.take_new(topic, record, context.lane, tracked).err().map(|not_taken| not_taken.tracked)
    }

    /// A record that finds no room waits on disk, where there is a spool that takes it.
    #[cold]
    fn spool_or_refuse(
        &self,
        no_room: NoRoom,
        topic: &str,
        record: &Record<'_>,
        tracked: Box<Tracked>,
    ) -> Result<(), Refused> {
        let context = self.context();
        let beside = context.beside.as_ref().filter(|_| no_room != NoRoom::Closed && tracked.may_be_spooled());
        let Some(beside) = beside else { return Err(self.refuse_without_room(no_room, tracked)) };
        if record.batch_bytes() > self.message_bytes_max {
            return Err(self.refuse_too_large(record, tracked));
        }
        beside.take_new(topic, record, context.lane, tracked).map_err(|NotTaken { tracked, refusal }| {
            let mut refused = self.refuse_without_room(no_room, tracked);
            refused.message.push_str(beside.why(refusal));
            refused
        })
    }

    #[cold]
    pub(super) fn refuse_too_large(&self, record: &Record<'_>, tracked: Box<Tracked>) -> Refused {
        let (cluster, bytes, limit) = (self.cluster(), record.batch_bytes(), self.message_bytes_max);
        let message = format!(
            "the record has {bytes} bytes, the client of cluster `{cluster}` takes {limit} (`message.max.bytes`)"
        );
        Refused { tracked, code: Code::EventTooLarge, message }
    }

    #[cold]
    fn refuse_without_room(&self, no_room: NoRoom, tracked: Box<Tracked>) -> Refused {
        let (cluster, lane) = (self.cluster(), self.lane().as_str());
        let (code, message) = match no_room {
            NoRoom::Closed => {
                (Code::EventTypeUnavailable, format!("cluster `{cluster}`: its producer is being stopped"))
            }
            NoRoom::ShareFull => {
                let (limit, event) = (tracked.account().share_bytes(), &tracked.account().event);
                let message = format!("event `{event}`: the {limit} bytes that it may take of the buffer are taken");
                (Code::BufferFull, message)
            }
            NoRoom::LeaderFull => {
                let message = format!(
                    "cluster `{cluster}`: the broker that it would go to is behind, and has its part of the buffer"
                );
                (Code::BufferFull, message)
            }
            NoRoom::Full => {
                let limit = self.buffer_bytes_max();
                (
                    Code::BufferFull,
                    format!("cluster `{cluster}`: the {limit} bytes of the {lane} lane's buffer are taken"),
                )
            }
        };
        Refused { tracked, code, message }
    }

    #[cold]
    fn refuse(&self, error: &KafkaError, topic: &str, record: &Record<'_>, tracked: Box<Tracked>) -> Refused {
        let cluster = self.cluster();
        let (code, message) = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => {
                (Code::BufferFull, format!("cluster `{cluster}`: librdkafka's queue is full"))
            }
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => return self.refuse_too_large(record, tracked),
            _ => (Code::EventTypeUnavailable, format!("cluster `{cluster}`: topic `{topic}` takes no record")),
        };
        debug!(cluster, topic, code = code.as_str(), %error, "record refused");
        Refused { tracked, code, message }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({}, {}, {} in flight)", self.cluster(), self.lane().as_str(), self.in_flight())
    }
}

impl Shared {
    fn poll_until_stopped(&self) {
        let context = self.producer.context();
        let _bell = Bell::hang(&self.producer);
        while !self.stopping.load(Relaxed) {
            context.polled_ms.store(context.clock.now_ms(), Relaxed);
            // One call takes one thing that librdkafka has to say: the reports of a batch, an error, a log line.
            self.producer.poll(Duration::ZERO);
            self.resend();
            context.take_back();
            if !context.called.swap(false, Relaxed) {
                std::thread::park_timeout(if context.budget.records() == 0 { IDLE_REST } else { REST });
            }
        }
    }

    /// Until when the stop that is under way waits.
    fn patience(&self) -> Patience {
        let patience = *self.patience.lock().expect("no code panics while it holds this lock");
        patience.expect("a stop says how long it may take before it waits")
    }

    /// Waits until every record is settled; false when the time for it passed first.
    fn flush(&self) -> bool {
        let context = self.producer.context();
        let budget = &context.budget;
        while budget.records() > 0 {
            let left = self.patience().flush.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // It polls as well; two threads may poll at once. When it has nothing more to wait for, a report is being
            // handled by the other thread, or a sender that was let in before the stop is about to hand its record over.
            context.polled_ms.store(context.clock.now_ms(), Relaxed);
            if self.producer.flush(left.min(FLUSH)).is_ok() {
                self.producer.poll(Duration::from_millis(1));
            }
            self.resend();
            context.take_back();
        }
        true
    }

    /// Makes librdkafka report every record it has, and waits for the reports. Returns the records without one.
    fn purge(&self) -> u64 {
        let end = self.patience().purge;
        let context = self.producer.context();
        let budget = &context.budget;
        while budget.records() > 0 && Instant::now() < end {
            // Again and again, because a sender that was let in before the stop may hand its record over only now.
            self.producer.purge(PurgeConfig::default().queue().inflight());
            self.producer.poll(Duration::from_millis(10));
            self.resend();
            context.take_back();
        }
        // For what a disk has not taken yet its spool or failed log still answers.
        budget.records().saturating_sub(context.lent())
    }

    /// Sends those records once more whose batch was refused for another record of it.
    fn resend(&self) {
        let context = self.producer.context();
        for Resend { record, tracked } in context.take_resends() {
            let base = BaseRecord {
                topic: record.topic(),
                partition: Some(record.partition()),
                payload: record.payload(),
                key: record.key(),
                timestamp: record.timestamp().to_millis(),
                headers: record.headers().cloned(),
                delivery_opaque: tracked,
            };
            if let Err((error, base)) = self.producer.send(base) {
                context.give_up(&record, &error, base.delivery_opaque);
            }
        }
    }
}
