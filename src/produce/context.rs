//! What librdkafka calls back, on the thread that polls.
//!
//! In: delivery reports, errors, log lines. Out: settled [`Tracked`]s, counts, `tracing` events. Never: blocks, does I/O
//! (but for a new login token, see `token`), or panics: a report that is not handled here is lost.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::Histogram;
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message, OwnedMessage};
use rdkafka::producer::ProducerContext;
use tracing::{debug, error, info, trace, warn};

use super::Surroundings;
use super::age::{Ages, Clock};
use super::beside::Beside;
use super::breaker::Gate;
use super::budget::Budget;
use super::failure::{Failure, classify};
use super::health::{ErrorKind, Health};
use super::keep::{Keep, Taken};
use super::partition::{self, Leaders};
use super::settings;
use super::statistics::Statistics;
use super::token::TokenSource;
use crate::config::Cluster;
use crate::outcome::{Delivery, KeptIn, Tracked};
use crate::route::Lane;
use crate::telemetry::export;
use crate::telemetry::metrics::PRODUCER_ACK_LATENCY;

/// How often a record is sent again because a neighbour in its batch was invalid.
const RESENDS_MAX: u8 = 3;
/// How often failures of one kind are logged.
const LOG_EVERY_MS: u32 = 10_000;

/// How long after its linger a record counts as awaited. What takes longer is late anyway.
const AWAITED_FOR: Duration = Duration::from_secs(1);

/// Most bytes of dead letters in memory, for each cluster: a flood of bad events takes no more.
const DEAD_LETTER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A record to send once more; its place in the budget is still taken.
pub(super) struct Resend {
    pub(super) record: OwnedMessage,
    pub(super) tracked: Box<Tracked>,
}

/// The state that a client's senders, its poll thread and its readers share.
pub(super) struct Context {
    pub(super) cluster: String,
    pub(super) lane: Lane,
    /// How long a record waits for others before it is sent.
    pub(super) linger: Duration,
    pub(super) clock: Clock,
    /// When the poll thread last asked librdkafka for reports, on the clock: when a report counts as received, so that the
    /// clock is read once a batch.
    pub(super) polled_ms: AtomicU32,
    /// When the last record was sent that a request waits for, on the clock.
    awaited_ms: AtomicU32,
    /// Set whenever librdkafka had something to say.
    pub(super) called: AtomicBool,
    /// Whether the cluster takes records, as far as its breaker knows.
    pub(super) gate: Arc<Gate>,
    pub(super) budget: Budget,
    /// When so many bytes are held, records are placed with care.
    pub(super) care_from: AtomicU64,
    pub(super) leaders: Leaders,
    pub(super) ages: Ages,
    ack_latency: Histogram,
    pub(super) health: Health,
    pub(super) delivered: AtomicU64,
    pub(super) failed: [AtomicU64; Failure::ALL.len()],
    logged_ms: [AtomicU32; Failure::ALL.len()],
    /// What librdkafka said of itself last.
    pub(super) statistics: Statistics,
    resends: Mutex<Vec<Resend>>,
    /// The spool of the cluster, where there is one.
    pub(super) beside: Option<Beside>,
    /// Records that were not delivered and are on disk, or on their way there.
    pub(super) spooled: AtomicU64,
    /// Where records go that are given up.
    pub(super) keep: Keep,
    token: Option<TokenSource>,
}

/// Bytes held from which on records are placed with care, as long as no record waits for too long. Never in the lane `wal`, whose
/// records keep the partition that their order is of.
pub(super) fn care_from(lane: Lane, bytes_max: u64) -> u64 {
    match lane {
        Lane::Wal | Lane::DeadLetter => u64::MAX,
        Lane::Standard | Lane::Slow | Lane::All => partition::care_from(bytes_max),
    }
}

impl Context {
    pub(super) fn new(cluster: &Cluster, lane: Lane, surroundings: &Surroundings) -> Self {
        let bytes_max = match lane {
            Lane::DeadLetter => cluster.buffer_bytes_max.min(DEAD_LETTER_BYTES_MAX),
            _ => cluster.buffer_bytes_max,
        };
        Context {
            cluster: cluster.name.clone(),
            lane,
            linger: settings::linger(cluster, lane),
            clock: Clock::start(),
            polled_ms: AtomicU32::new(0),
            awaited_ms: AtomicU32::new(0),
            called: AtomicBool::new(false),
            gate: Arc::clone(&surroundings.gate),
            budget: Budget::new(bytes_max),
            care_from: AtomicU64::new(care_from(lane, bytes_max as u64)),
            leaders: Leaders::new(bytes_max as u64, settings::linger(cluster, lane).as_millis() as u32),
            ages: Ages::new(cluster.message_timeout),
            ack_latency: export::histogram(&PRODUCER_ACK_LATENCY, &[&cluster.name, lane.as_str()]),
            health: Health::default(),
            delivered: AtomicU64::new(0),
            failed: std::array::from_fn(|_| AtomicU64::new(0)),
            logged_ms: std::array::from_fn(|_| AtomicU32::new(0)),
            statistics: Statistics::default(),
            resends: Mutex::new(Vec::new()),
            beside: surroundings.spool.as_ref().map(Beside::new),
            spooled: AtomicU64::new(0),
            keep: Keep::new(&surroundings.keeper),
            token: TokenSource::new(cluster),
        }
    }

    /// A request waits for a record that is sent now.
    pub(super) fn note_awaited(&self, now_ms: u32) {
        self.awaited_ms.store(now_ms, Relaxed);
    }

    /// Whether requests wait for records, as far as those can be expected to be acknowledged in time.
    pub(super) fn is_awaited(&self) -> bool {
        let since_ms = self.clock.now_ms().wrapping_sub(self.awaited_ms.load(Relaxed));
        u128::from(since_ms) < (self.linger + AWAITED_FOR).as_millis()
    }

    /// Takes room in the budget back and forgets when the record was sent.
    pub(super) fn release(&self, tracked: &Tracked) {
        self.ages.remove(tracked.sent_ms());
        self.budget.give_back(tracked.cost_bytes());
    }

    /// The leader of the record's partition owes it no more.
    pub(super) fn settle_debt(&self, tracked: &mut Tracked, is_acknowledged: bool) {
        match tracked.take_leader() {
            0 => {}
            leader => {
                let acknowledged_ms = is_acknowledged.then(|| self.polled_ms.load(Relaxed));
                self.leaders.settle(leader, tracked.cost_bytes(), acknowledged_ms);
            }
        }
    }

    /// The records that wait to be sent again. Filled only after a broker refused a batch for one record of it.
    pub(super) fn take_resends(&self) -> Vec<Resend> {
        std::mem::take(&mut *self.resends.lock().expect("no code panics while it holds this lock"))
    }

    /// Room that a disk has kept for records of ours is free again.
    pub(super) fn take_back(&self) {
        let spooled = self.beside.as_ref().map_or((0, 0), Beside::take_back);
        for (records, bytes) in [spooled, self.keep.take_back()] {
            if records > 0 {
                self.budget.give_back_all(records, bytes);
            }
        }
    }

    /// Records on their way to a disk, which answers for them.
    pub(super) fn lent(&self) -> u64 {
        self.beside.as_ref().map_or(0, Beside::lent) + self.keep.lent()
    }

    /// A record was not delivered: to the spool with it if another try may help, else it is given up. Its room in the budget is
    /// kept until it is on disk.
    fn keep_or_give_up(&self, message: &BorrowedMessage<'_>, error: &KafkaError, tracked: Box<Tracked>) {
        let failure = classify(error);
        // What a cluster that only stands in refuses, the intended one may take.
        let may_help = failure.is_worth_another_try() || (tracked.is_elsewhere() && failure.is_of_the_topic());
        let beside = self.beside.as_ref().filter(|_| may_help && tracked.may_be_spooled());
        let Some(beside) = beside else { return self.give_up(message, error, tracked) };
        let sent_ms = tracked.sent_ms();
        // Dropped from the queue, it was never sent: then it cannot become a duplicate.
        let tried = failure != Failure::Purged;
        match beside.take_returned(message, tried, self.lane, tracked) {
            Ok(()) => {
                self.ages.remove(sent_ms);
                self.note_spooled(failure, message.topic(), error);
            }
            // The spool is full or its disk fails, as its metrics say.
            Err(tracked) => self.give_up(message, error, tracked),
        }
    }

    fn note_spooled(&self, failure: Failure, topic: &str, error: &KafkaError) {
        self.failed[failure as usize].fetch_add(1, Relaxed);
        let so_far = self.spooled.fetch_add(1, Relaxed) + 1;
        if self.may_log(failure) {
            let (cluster, lane, failure) = (self.cluster.as_str(), self.lane.as_str(), failure.as_str());
            warn!(cluster, lane, topic, failure, so_far, %error, "record was not delivered and waits on disk");
        }
    }

    /// A record was given up: it is kept for people where there is a place for it. One out of the spool stays there if another
    /// try may help.
    pub(super) fn give_up(&self, message: &impl Message, error: &KafkaError, tracked: Box<Tracked>) {
        let (failure, topic) = (classify(error), message.topic());
        if tracked.is_from_spool() && tracked.given_up().is_none() && failure.is_worth_another_try() {
            self.release(&tracked);
            self.note_spooled(failure, topic, error);
            return tracked.settle(Delivery::Spooled);
        }
        // Before it is settled: whoever is told of it finds it counted.
        let so_far = self.failed[failure as usize].fetch_add(1, Relaxed) + 1;
        let sent_ms = tracked.sent_ms();
        let kept_in = match self.keep.take(message, failure, self.lane, tracked) {
            Ok(taken) => {
                self.ages.remove(sent_ms);
                if let Taken::Sent { freed_bytes } = taken {
                    self.budget.give_back(freed_bytes);
                }
                taken.kept_in()
            }
            Err(mut tracked) if self.keep.leaves(&tracked) => {
                tracked.try_again();
                self.release(&tracked);
                self.spooled.fetch_add(1, Relaxed);
                return tracked.settle(Delivery::Spooled);
            }
            Err(tracked) => {
                self.release(&tracked);
                tracked.settle(Delivery::Failed(failure.code()));
                KeptIn::Nowhere
            }
        };
        if self.may_log(failure) {
            let (cluster, lane, code) = (self.cluster.as_str(), self.lane.as_str(), failure.code().as_str());
            let (failure, kept_in) = (failure.as_str(), kept_in.as_str());
            error!(cluster, lane, topic, code, failure, kept_in, so_far, %error, "record was not delivered");
        }
    }

    fn acknowledge(&self, message: &BorrowedMessage<'_>, tracked: Box<Tracked>) {
        // A record that was sent and reported since the poll began took no time that can be told.
        let taken_ms = self.polled_ms.load(Relaxed).wrapping_sub(tracked.sent_ms());
        let taken_ms = if taken_ms > i32::MAX as u32 { 0 } else { taken_ms };
        self.ack_latency.record(Duration::from_millis(taken_ms.into()));
        self.release(&tracked);
        self.delivered.fetch_add(1, Relaxed);
        self.health.worked();
        tracked.settle(Delivery::Delivered { partition: message.partition(), offset: message.offset() });
    }

    /// The first failure of a kind is logged, then one every ten seconds.
    fn may_log(&self, failure: Failure) -> bool {
        // 0 stands for never.
        let now_ms = self.clock.now_ms().max(1);
        let last = &self.logged_ms[failure as usize];
        let before = last.load(Relaxed);
        (before == 0 || now_ms.wrapping_sub(before) >= LOG_EVERY_MS)
            && last.compare_exchange(before, now_ms, Relaxed, Relaxed).is_ok()
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Tracked>;

    fn delivery(&self, result: &DeliveryResult<'_>, mut tracked: Box<Tracked>) {
        self.called.store(true, Relaxed);
        self.settle_debt(&mut tracked, result.is_ok());
        match result {
            Ok(message) => self.acknowledge(message, tracked),
            // The broker refused the whole batch for another record of it, which by now is out of the way.
            Err((error, message)) if classify(error) == Failure::Neighbour && tracked.count_resend() <= RESENDS_MAX => {
                let record = message.detach();
                self.resends.lock().expect("no code panics while it holds this lock").push(Resend { record, tracked });
            }
            Err((error, message)) => self.keep_or_give_up(message, error, tracked),
        }
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.called.store(true, Relaxed);
        let (cluster, lane) = (self.cluster.as_str(), self.lane.as_str());
        // Whatever librdkafka cannot do it tries again, and what it gives up comes as a report of the record: so its
        // errors are our warnings. It repeats in the error callback what is wrong with a broker, hence one step lower.
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                warn!(cluster, lane, facility, text, "librdkafka");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => info!(cluster, lane, facility, text, "librdkafka"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => debug!(cluster, lane, facility, text, "librdkafka"),
            RDKafkaLogLevel::Debug => trace!(cluster, lane, facility, text, "librdkafka"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.called.store(true, Relaxed);
        let kind = ErrorKind::of(error.rdkafka_error_code());
        let is_new = self.health.failed(kind, reason, self.clock.now_ms());
        let (cluster, lane, kind) = (self.cluster.as_str(), self.lane.as_str(), kind.as_str());
        if is_new {
            warn!(cluster, lane, kind, reason, "kafka client reports an error");
        } else {
            debug!(cluster, lane, kind, reason, "kafka client reports an error");
        }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        match &self.token {
            Some(source) => Ok(source.fetch()?),
            None => Err("the cluster's settings have no token endpoint".into()),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.statistics.take(statistics);
    }
}
