//! The path of an event, in order: envelope -> route -> admission -> schema -> transcode -> produce.
//!
//! In: the events of one request and what it asks for. Out: records handed to the producers, and a [`Taken`] from which
//! the door writes its reply. It runs on a [`Snapshot`], which is replaced whole by [`Pipeline::replace`] and never changed.
//! Never: I/O, a task or an allocation per event that went well, an `.await` between counting an event received and
//! handing it on (so a sender that goes away cannot make an event fall between).

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::auth::{Limiter, Sender, Senders};
use crate::envelope::{Event, Unreadable, ids};
use crate::outcome::{Account, BatchState, Code, Delivery, EventError, Ledger, Tracked};
use crate::produce::DeadLetters;
use crate::route::{Brake, EventType, Lane, Reply, Routes};
use crate::telemetry::traces::Tracing;

mod letter;
mod prepare;
mod slice;
mod state;

pub use state::{Outage, Ready, State};

use prepare::{Work, prepare};
use slice::{InHand, Slice, after_panic};

/// Events that are worked on before other connections of the thread get their turn; slow ones count as several.
const SLICE: u32 = 256;

/// How long senders of what is disabled are told to wait. Somebody has to take the brake off first.
const DISABLED_WAIT_MS: u64 = 60_000;

/// Events of a request that are told which name is near to theirs. Finding it takes microseconds for every event type, and
/// neighbours wait meanwhile.
const SUGGESTIONS_MAX: u32 = 8;

/// Everything the path needs to know, as of one moment: who may send, which event types there are, their schemas and
/// producers. Built and warmed beside the path, swapped in whole.
#[derive(Debug, Default)]
pub struct Snapshot {
    routes: Routes,
    live: Vec<Live>,
    senders: Senders,
    version: u64,
    since: Option<Instant>,
}

/// One event type of a snapshot.
#[derive(Clone, Debug)]
pub struct Live {
    /// Its settings.
    pub event_type: Arc<EventType>,
    /// Its account in the ledger, on its intended cluster.
    pub account: Arc<Account>,
    /// Its limits over all senders; shared with the snapshots before and after.
    pub limiter: Arc<Limiter>,
    /// Where its rejected events go, if they go anywhere; shared as well.
    pub dead_letters: Option<Arc<DeadLetters>>,
    /// Whether it can be served, and with what.
    pub state: State,
}

impl Snapshot {
    /// A snapshot of these event types and senders.
    pub fn new(live: Vec<Live>, senders: Senders) -> Self {
        live.iter().for_each(|live| live.account.set_share(live.event_type.buffer_bytes_max as u64));
        let routes = Routes::new(live.iter().map(|l| l.event_type.name.as_str()));
        Snapshot { routes, live, senders, version: 0, since: None }
    }

    /// Its number, from 1: how many snapshots there were, this one included.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How long it has been in force.
    pub fn age(&self) -> Duration {
        self.since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Who may send.
    pub fn senders(&self) -> &Senders {
        &self.senders
    }

    /// The event types, in the order of the configuration.
    pub fn live(&self) -> &[Live] {
        &self.live
    }

    /// The event type with this name.
    pub fn find(&self, name: &str) -> Option<&Live> {
        self.routes.find(name).map(|index| &self.live[index])
    }
}

/// What a request asks for its events.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Who makes it; none when no sender exists.
    pub sender: Option<&'a Sender>,
    /// What its reply is to wait for at least; never weakens what an event type says.
    pub reply: Option<Reply>,
    /// Trace context of the request, for events without one.
    pub traceparent: Option<&'a str>,
    /// The request as traces see it, where there are any.
    pub tracing: Option<&'a Tracing<'a>>,
    /// The door by which it came, as metrics call it.
    pub door: &'static str,
    /// When it arrived, milliseconds since 1970.
    pub received_ms: u64,
    /// Whether every event gets a result, or only those with something to say.
    pub all_results: bool,
}

/// What became of one event, as far as the reply tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventResult {
    /// Position in the request, from 0.
    pub index: u32,
    /// The event's id: the sender's, or ours. Empty when the event could not be read.
    pub id: String,
    /// What became of it.
    pub code: Code,
    /// Why, for an event that was refused.
    pub message: String,
    /// What the reply waited for in this event's case.
    pub reply: Reply,
    /// Partition and offset, once acknowledged.
    pub position: Option<(i32, i64)>,
    /// What the sender should know of an event that was taken all the same.
    pub warning: Option<String>,
    /// How long to wait before sending it again, where that is known.
    pub retry_after_ms: Option<u64>,
}

/// What became of a request's events.
#[derive(Debug, Default)]
pub struct Taken {
    /// Events received.
    pub events: u32,
    /// Events refused, or failed as far as is known.
    pub refused: u32,
    /// Events that a sample left out; they count as gone through.
    pub sampled_out: u32,
    /// Results with something to say, by index; those of events that are still awaited among them.
    pub results: Vec<EventResult>,
    /// The weakest wait of an event that was taken.
    pub weakest: Option<Reply>,
    awaited: Option<Arc<BatchState>>,
}

impl Taken {
    /// Waits for the deliveries that the reply is to tell, at most so long and not beyond the last call of a proxy that stops. What
    /// is not known by then is `unknown`.
    pub async fn wait(&mut self, timeout: Duration, last_call: impl Future<Output = ()>) {
        let Some(batch) = self.awaited.take() else { return };
        let (in_time, is_stopping) = tokio::select! {
            biased;
            in_time = tokio::time::timeout(timeout, batch.settled()) => (in_time.is_ok(), false),
            () = last_call => (false, true),
        };
        let settled = if in_time { batch.take() } else { batch.take_last() };
        let settled: HashMap<u32, Delivery> = settled.into_iter().collect();
        for result in self.results.iter_mut().filter(|r| r.code == Code::Enqueued && r.reply > Reply::Enqueued) {
            let is_durable = result.reply == Reply::Durable;
            match settled.get(&result.index) {
                Some(Delivery::Delivered { partition, offset }) => {
                    result.code = if is_durable { Code::Durable } else { Code::Acknowledged };
                    result.position = Some((*partition, *offset));
                }
                Some(Delivery::Spooled) if is_durable => result.code = Code::Durable,
                Some(Delivery::Failed(code)) => {
                    result.code = *code;
                    result.message = format!("accepted, then not delivered: {}", code.help());
                    self.refused += 1;
                }
                Some(Delivery::Spooled) => {
                    result.code = Code::Spooled;
                    self.weakest = Some(Reply::Enqueued);
                }
                None => {
                    debug_assert!(!in_time, "every awaited record is settled before the batch is");
                    result.code = Code::Unknown;
                    let who = if is_durable { "the disk" } else { "Kafka" };
                    result.message = match is_stopping {
                        true => format!("the proxy is stopping, and {who} has not answered yet"),
                        false => format!("{who} did not answer within {} ms", timeout.as_millis()),
                    };
                    self.refused += 1;
                }
            }
        }
    }

    /// Bytes of memory that the results take, roughly.
    pub fn bytes(&self) -> usize {
        let texts =
            self.results.iter().map(|r| r.id.len() + r.message.len() + r.warning.as_ref().map_or(0, String::len));
        self.results.capacity() * size_of::<EventResult>() + texts.sum::<usize>()
    }

    /// Drops results that a reply without `?results=all` leaves out: those of events that simply went through.
    pub fn keep_only_telling(&mut self) {
        self.results.retain(|r| !r.code.is_success() || r.warning.is_some());
    }
}

/// What an event would become, for `?dry_run=true`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    /// The event's id: the sender's, or one as it would be made.
    pub id: String,
    /// Cluster it would go to.
    pub cluster: String,
    /// Topic it would go to.
    pub topic: String,
    /// Key it would have.
    pub key: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The value in Kafka, framing included.
    pub value: Vec<u8>,
    /// The value as JSON text, where it has a schema or is JSON itself.
    pub value_json: Option<String>,
    /// What the sender should know.
    pub warning: Option<String>,
}

/// Is told of every event that is refused: its name (empty when it could not be read), its id as far as known, and why.
pub type Watch = Box<dyn Fn(&str, &str, &EventError) + Send + Sync>;

/// Runs events along the path, on the current snapshot.
pub struct Pipeline {
    snapshot: ArcSwap<Snapshot>,
    version: AtomicU64,
    ledger: Arc<Ledger>,
    watch: Option<Watch>,
    started: Instant,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("version", &self.version).finish_non_exhaustive()
    }
}

thread_local! {
    static WORK: RefCell<Work> = RefCell::default();
}

impl Pipeline {
    /// A pipeline that knows no event type yet.
    pub fn new(ledger: Arc<Ledger>, watch: Option<Watch>) -> Self {
        let (snapshot, version) = (ArcSwap::default(), AtomicU64::new(0));
        Pipeline { snapshot, version, ledger, watch, started: Instant::now() }
    }

    /// Puts a new snapshot in the place of the old one. Requests under way finish on the one they began with, slice by slice.
    pub fn replace(&self, mut snapshot: Snapshot) {
        snapshot.version = self.version.fetch_add(1, Relaxed) + 1;
        snapshot.since = Some(Instant::now());
        self.snapshot.store(Arc::new(snapshot));
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The ledger.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Takes a request's events along the path. Between slices of 256 events other requests get their turn; when the sender
    /// goes away there, the events of slices not begun were never received.
    pub async fn take<'a>(
        &self,
        events: &mut (impl Iterator<Item = Result<Event<'a>, Unreadable<'a>>> + Send),
        ask: &Ask<'_>,
    ) -> Taken {
        let mut taken = Taken::default();
        while self.take_slice(events, ask, &mut taken) {
            tokio::task::yield_now().await;
        }
        taken
    }

    /// Takes the next events; says whether there may be more.
    fn take_slice<'a>(
        &self,
        events: &mut impl Iterator<Item = Result<Event<'a>, Unreadable<'a>>>,
        ask: &Ask<'_>,
        taken: &mut Taken,
    ) -> bool {
        let snapshot = self.snapshot.load();
        let now_ms = self.started.elapsed().as_millis() as u64;
        let end = taken.events.saturating_add(SLICE);
        let mut slice = Slice { snapshot: &snapshot, ask, now_ms, last: None, in_hand: InHand::Nothing };
        WORK.with_borrow_mut(|work| work.extra_cost = 0);
        loop {
            // A panic is a bug of ours, and one event's. All that it can leave half done is settled or made anew below.
            let run = panic::catch_unwind(AssertUnwindSafe(|| {
                WORK.with_borrow_mut(|work| {
                    while taken.events.saturating_add(work.extra_cost) < end {
                        let Some(item) = events.next() else { return false };
                        self.take_one(&mut slice, item, ask, work, taken);
                        slice.in_hand = InHand::Nothing;
                    }
                    true
                })
            }));
            match run {
                Ok(more) => return more,
                Err(panic) => after_panic(panic, &mut slice, taken),
            }
        }
    }

    /// From received to handed on or rejected, without a gap.
    fn take_one<'s>(
        &'s self,
        slice: &mut Slice<'s>,
        item: Result<Event<'_>, Unreadable<'_>>,
        ask: &Ask<'_>,
        work: &mut Work,
        taken: &mut Taken,
    ) {
        let index = taken.events;
        taken.events += 1;
        let event = match item {
            Ok(event) => event,
            Err(unreadable) => {
                // An event that says its name is that event type's trouble, and not everybody's.
                let live = unreadable.name.as_deref().and_then(|name| slice.snapshot.find(name));
                slice.receive(live.map_or(self.ledger.unknown(), |live| &live.account));
                let names = (unreadable.name.as_deref().unwrap_or(""), unreadable.id.as_deref().unwrap_or(""));
                let forbidden = live.and_then(|live| may_send(live, ask).err());
                let error = forbidden.unwrap_or(unreadable.error);
                if let Some(live) = live {
                    letter::unreadable(live, unreadable.sent, names.1, &error, ask, slice.now_ms);
                }
                return self.reject(slice, names, index, error.into(), taken);
            }
        };
        let names = (event.name.as_ref(), event.envelope.id.as_deref().unwrap_or(""));
        let same = slice.last.filter(|live| live.event_type.name == event.name);
        let Some(live) = same.or_else(|| slice.snapshot.find(&event.name)) else {
            slice.receive(self.ledger.unknown());
            let routes = (taken.refused < SUGGESTIONS_MAX).then_some(&slice.snapshot.routes);
            let error = unknown_event(&event.name, routes, ask);
            return self.reject(slice, names, index, error.into(), taken);
        };
        slice.last = Some(live);
        slice.receive(&live.account);
        live.account.note_payload(event.payload.bytes().len());
        if is_braked(live, ask) {
            match brake(live, &event, ask) {
                Ok(true) => {}
                Ok(false) => {
                    slice.settle(Code::SampledOut);
                    return taken.leave_out(index, names.1, ask.all_results);
                }
                Err(no) => return self.reject(slice, names, index, no, taken),
            }
        }
        let ready = match admit(live, &event, ask, slice.now_ms) {
            Ok(ready) => ready,
            Err(no) => {
                letter::rejected(live, &event, names.1, &no.error, ask, slice.now_ms);
                return self.reject(slice, names, index, no, taken);
            }
        };
        let prepared = match prepare(live, ready, &event, ask, work) {
            Ok(prepared) => prepared,
            Err(error) => {
                letter::rejected(live, &event, names.1, &error, ask, slice.now_ms);
                return self.reject(slice, names, index, error.into(), taken);
            }
        };
        let reply = ask.reply.map_or(live.event_type.reply, |asked| asked.max(live.event_type.reply));
        let awaited = (reply > Reply::Enqueued).then(|| Arc::clone(taken.awaited.get_or_insert_default()));
        let mut tracked = Tracked::new(&live.account, awaited.as_ref(), index, prepared.record.cost_bytes());
        if reply == Reply::Acknowledged && live.event_type.lane() == Lane::Wal {
            tracked.await_kafka();
        }
        if prepared.stand_in.is_some() {
            tracked.mark_elsewhere();
        }
        if let Some(span) = prepared.span {
            tracked.trace(span);
        }
        // From here on the token answers for the event.
        slice.in_hand = InHand::Settled;
        match prepared.stand_in.unwrap_or(&ready.topic).send(&prepared.record, tracked) {
            Ok(()) => {
                if prepared.dropped > 0 {
                    live.account.note_dropped(prepared.dropped);
                }
                taken.accept(index, prepared.id, reply, prepared.warning, ask.all_results);
            }
            Err(refused) => {
                slice.in_hand = InHand::Received(&live.account);
                refused.tracked.refused();
                let error = EventError::new(refused.code, refused.message);
                letter::rejected(live, &event, prepared.id, &error, ask, slice.now_ms);
                self.reject(slice, (names.0, prepared.id), index, error.into(), taken);
            }
        }
    }

    /// Counts the event in hand refused, tells the watch, and notes its result.
    #[cold]
    fn reject(&self, slice: &mut Slice<'_>, (event, id): (&str, &str), index: u32, no: No, taken: &mut Taken) {
        slice.refuse(&no.error);
        if let Some(watch) = &self.watch {
            watch(event, id, &no.error);
        }
        taken.refuse(index, id, no);
    }

    /// What an event would become; if nothing, its id as far as that is known, and why. Counts nothing, takes nothing from a
    /// limit, produces nothing.
    pub fn dry_run(
        &self,
        item: Result<Event<'_>, Unreadable<'_>>,
        ask: &Ask<'_>,
    ) -> Result<DryRun, (String, EventError)> {
        let snapshot = self.snapshot.load();
        match item {
            Ok(event) => {
                let id = || event.envelope.id.as_deref().unwrap_or("").to_owned();
                try_out(&snapshot, &event, ask).map_err(|error| (id(), error))
            }
            Err(unreadable) => {
                let live = unreadable.name.as_deref().and_then(|name| snapshot.find(name));
                let forbidden = live.and_then(|live| may_send(live, ask).err());
                Err((unreadable.id.unwrap_or_default().into_owned(), forbidden.unwrap_or(unreadable.error)))
            }
        }
    }
}

fn try_out(snapshot: &Snapshot, event: &Event<'_>, ask: &Ask<'_>) -> Result<DryRun, EventError> {
    let Some(live) = snapshot.find(&event.name) else {
        return Err(unknown_event(&event.name, Some(&snapshot.routes), ask));
    };
    may_send(live, ask)?;
    if let Some(what) = disabled(live, ask) {
        return Err(EventError::new(Code::Disabled, what));
    }
    let ready = may_pass(live, event, ask)?;
    WORK.with_borrow_mut(|work| {
        let prepared = prepare(live, ready, event, ask, work)?;
        let record = &prepared.record;
        let value_json = match &ready.schemas {
            None => std::str::from_utf8(record.value).ok().map(str::to_owned),
            Some(schemas) => schemas.get(event.schema)?.value_as_json(record.value, &live.event_type.sensitive),
        };
        Ok(DryRun {
            id: prepared.id.to_owned(),
            cluster: prepared.stand_in.map_or(&*live.event_type.cluster, |topic| topic.client().cluster()).to_owned(),
            topic: live.event_type.topic.clone(),
            key: record.key.map(<[u8]>::to_vec),
            headers: record.headers.iter().map(|(n, v)| (n.to_owned(), v.to_vec())).collect(),
            value: record.value.to_vec(),
            value_json,
            warning: prepared.warning,
        })
    })
}

impl Taken {
    #[cold]
    fn refuse(&mut self, index: u32, id: &str, no: No) {
        self.refused += 1;
        self.results.push(EventResult {
            index,
            id: id.to_owned(),
            code: no.error.code,
            message: no.error.message,
            reply: Reply::Enqueued,
            position: None,
            warning: None,
            retry_after_ms: no.retry_after_ms,
        });
    }

    fn leave_out(&mut self, index: u32, id: &str, all: bool) {
        self.sampled_out += 1;
        if all {
            let (id, code, message) = (id.to_owned(), Code::SampledOut, String::new());
            let (reply, position, warning, retry_after_ms) = (Reply::Enqueued, None, None, None);
            self.results.push(EventResult { index, id, code, message, reply, position, warning, retry_after_ms });
        }
    }

    fn accept(&mut self, index: u32, id: &str, reply: Reply, warning: Option<String>, all: bool) {
        self.weakest = Some(self.weakest.map_or(reply, |weakest| weakest.min(reply)));
        if all || warning.is_some() || reply > Reply::Enqueued {
            let (id, code, message) = (id.to_owned(), Code::Enqueued, String::new());
            self.results.push(EventResult {
                index,
                id,
                code,
                message,
                reply,
                position: None,
                warning,
                retry_after_ms: None,
            });
        }
    }
}

/// Why an event is not let through, and how long to wait where that is known.
struct No {
    error: EventError,
    retry_after_ms: Option<u64>,
}

impl From<EventError> for No {
    fn from(error: EventError) -> Self {
        No { error, retry_after_ms: None }
    }
}

/// Whether the event may pass, before anything is decoded; takes it from the limits.
fn admit<'s>(live: &'s Live, event: &Event<'_>, ask: &Ask<'_>, now_ms: u64) -> Result<&'s Ready, No> {
    let ready = may_pass(live, event, ask)?;
    let bytes = event.payload.bytes().len();
    let over = |what: String, wait_ms: u64| No {
        error: EventError::new(Code::RateLimited, format!("{what} is over its limit; wait {wait_ms} ms")),
        retry_after_ms: Some(wait_ms),
    };
    if let Some(sender) = ask.sender {
        sender.limiter().take(bytes, now_ms).map_err(|wait| over(format!("sender `{}`", sender.name), wait))?;
    }
    live.limiter.take(bytes, now_ms).map_err(|wait| {
        // The sender's own limit comes first, so that a sender over it takes nothing from the limit that it shares with
        // others; and an event that the shared limit refuses costs its sender nothing.
        if let Some(sender) = ask.sender {
            sender.limiter().give_back(bytes);
        }
        over(format!("event `{}`", live.event_type.name), wait)
    })?;
    Ok(ready)
}

/// Whether operators let less than all of its event type or sender through.
fn is_braked(live: &Live, ask: &Ask<'_>) -> bool {
    live.event_type.brake != Brake::Off || ask.sender.is_some_and(|sender| sender.brake() != Brake::Off)
}

/// Whether a braked event is let through; takes nothing from limits. Of two samples the smaller one decides.
#[cold]
fn brake(live: &Live, event: &Event<'_>, ask: &Ask<'_>) -> Result<bool, No> {
    may_send(live, ask)?;
    if let Some(what) = disabled(live, ask) {
        let message = format!("{what}; wait {DISABLED_WAIT_MS} ms");
        return Err(No { error: EventError::new(Code::Disabled, message), retry_after_ms: Some(DISABLED_WAIT_MS) });
    }
    let mut own = [0; 36];
    let id = event.envelope.id.as_deref().unwrap_or_else(|| ids::fresh(&mut own, ask.received_ms)).as_bytes();
    let of_sender = ask.sender.map_or(Brake::Off, Sender::brake);
    Ok(live.event_type.brake.lets_through(id) && of_sender.lets_through(id))
}

/// What operators have disabled of an event's type and sender, in words for the sender.
fn disabled(live: &Live, ask: &Ask<'_>) -> Option<String> {
    let sender = ask.sender.filter(|sender| sender.brake() == Brake::Disabled);
    match (live.event_type.brake, sender) {
        (Brake::Disabled, _) => Some(format!("event `{}` is disabled for now", live.event_type.name)),
        (_, Some(sender)) => Some(format!("sender `{}` is disabled for now", sender.name)),
        _ => None,
    }
}

fn may_send(live: &Live, ask: &Ask<'_>) -> Result<(), EventError> {
    let name = &live.event_type.name;
    match ask.sender {
        Some(sender) if !sender.may_send(name) => {
            let message = format!("sender `{}` may not send event `{name}`", sender.name);
            Err(EventError::new(Code::ForbiddenEvent, message))
        }
        _ => Ok(()),
    }
}

/// The checks of admission that take nothing.
fn may_pass<'s>(live: &'s Live, event: &Event<'_>, ask: &Ask<'_>) -> Result<&'s Ready, EventError> {
    let event_type = &*live.event_type;
    may_send(live, ask)?;
    let bytes = event.payload.bytes().len();
    if let Some(limit) = event_type.limits.event_bytes_max
        && bytes > limit
    {
        let message = format!("the payload has {bytes} bytes, event `{}` takes {limit}", event_type.name);
        return Err(EventError::new(Code::EventTooLarge, message));
    }
    if let Some(sender) = ask.sender
        && let Some(limit) = sender.event_bytes_max()
        && bytes > limit
    {
        let message = format!("the payload has {bytes} bytes, sender `{}` may send {limit}", sender.name);
        return Err(EventError::new(Code::EventTooLarge, message));
    }
    match &live.state {
        State::Ready(ready) if ask.reply == Some(Reply::Durable) && !ready.topic.offers_durable() => {
            let name = &event_type.name;
            let message = format!(
                "event `{name}` does not offer `reply=durable`; ask for `acknowledged`, or those who run this proxy for it"
            );
            Err(EventError::new(Code::ReplyNotOffered, message))
        }
        State::Ready(ready) => Ok(ready),
        State::Unavailable(outage) => Err(unavailable(event_type, outage)),
    }
}

/// The reason stays with the operators: it names brokers and topics, and what they said.
#[cold]
fn unavailable(event_type: &EventType, outage: &Outage) -> EventError {
    let (name, seconds) = (&event_type.name, outage.since.elapsed().as_secs());
    let message = format!("event `{name}` is not available, for {seconds} s now; send it again later");
    EventError::new(Code::EventTypeUnavailable, message)
}

/// A sender is told only of names that it may send; from `routes`, if they may be searched.
#[cold]
fn unknown_event(name: &str, routes: Option<&Routes>, ask: &Ask<'_>) -> EventError {
    let may = |known: &str| ask.sender.is_none_or(|sender| sender.may_send(known));
    let nearest = routes.and_then(|routes| routes.nearest(name, may));
    let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
    let message = match nearest {
        Some(nearest) => format!("no event type is named `{shown}`; did you mean `{nearest}`?"),
        None => format!("no event type is named `{shown}`; check the name, or ask those who run this proxy to add it"),
    };
    EventError::new(Code::UnknownEvent, message)
}
