//! The path of an event, in order: envelope -> route -> admission -> schema -> transcode -> produce.
//!
//! In: the events of one request and what it asks for. Out: records handed to the producers, and a [`Taken`] from which
//! the door writes its reply. It runs on a [`Snapshot`], which is replaced whole by [`Pipeline::replace`] and never changed.
//! Never: I/O, a task or an allocation per event that went well, an `.await` between counting an event received and
//! handing it on (so a sender that goes away cannot make an event fall between).

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::auth::{Limiter, Sender, Senders};
use crate::envelope::headers::{self, HeaderBuffer, Stamp};
use crate::envelope::{self, Event, Payload, ids};
use crate::outcome::{Account, BatchState, Code, Delivery, EventError, Ledger, Tracked};
use crate::produce::{Record, TopicHandle};
use crate::route::{Encoding, EventType, KeySource, MissingKey, Reply, Routes};
use crate::schema::SchemaSet;
use crate::transcode::{Output, Scratch};

/// Events that are worked on before other connections of the thread get their turn.
const SLICE: usize = 256;

/// The source of an event that names none and whose sender is not known.
const ANONYMOUS: &str = "anonymous";

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
    /// Whether it can be served, and with what.
    pub state: State,
}

/// Whether an event type can be served.
#[derive(Clone, Debug)]
pub enum State {
    /// Topic known, schemas compiled, client running.
    Ready(Ready),
    /// It answers `event_type_unavailable` for this reason, and is tried again behind.
    Unavailable(String),
}

/// What an event type that can be served is served with.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Its compiled schemas; none for `raw_json`.
    pub schemas: Option<Arc<SchemaSet>>,
    /// Its topic, of the client of its cluster and lane.
    pub topic: Arc<TopicHandle>,
    /// Largest record that its topic takes, in bytes, where the cluster tells.
    pub record_bytes_max: Option<usize>,
}

impl Snapshot {
    /// A snapshot of these event types and senders.
    pub fn new(live: Vec<Live>, senders: Senders) -> Self {
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
    /// Results with something to say, by index; those of events that are still awaited among them.
    pub results: Vec<EventResult>,
    /// The weakest wait of an event that was taken.
    pub weakest: Option<Reply>,
    awaited: Option<Arc<BatchState>>,
}

impl Taken {
    /// Waits for the deliveries that the reply is to tell, at most so long. What is not known by then is `unknown`.
    pub async fn wait(&mut self, timeout: Duration) {
        let Some(batch) = self.awaited.take() else { return };
        let in_time = tokio::time::timeout(timeout, batch.settled()).await.is_ok();
        let settled: HashMap<u32, Delivery> = batch.take().into_iter().collect();
        for result in self.results.iter_mut().filter(|r| r.code == Code::Enqueued && r.reply == Reply::Acknowledged) {
            match settled.get(&result.index) {
                Some(Delivery::Delivered { partition, offset }) => {
                    result.code = Code::Acknowledged;
                    result.position = Some((*partition, *offset));
                }
                Some(Delivery::Failed(code)) => {
                    result.code = *code;
                    result.message = format!("accepted, then not delivered: {}", code.help());
                    self.refused += 1;
                }
                None => {
                    debug_assert!(!in_time, "every awaited record is settled before the batch is");
                    result.code = Code::Unknown;
                    result.message = format!("Kafka did not answer within {} ms", timeout.as_millis());
                    self.refused += 1;
                }
            }
        }
    }

    /// Drops results that a reply without `?results=all` leaves out: those of events that simply went through.
    pub fn keep_only_telling(&mut self) {
        self.results.retain(|r| !r.code.is_success() || r.warning.is_some());
    }
}

/// What an event would become, for `?dry_run=true`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
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

/// A thread's buffers. Their contents are one event's; their memory is reused.
#[derive(Debug)]
struct Work {
    scratch: Scratch,
    output: Output,
    headers: HeaderBuffer,
    properties: String,
    id: [u8; 36],
}

thread_local! {
    static WORK: RefCell<Work> = RefCell::new(Work {
        scratch: Scratch::default(),
        output: Output::default(),
        headers: HeaderBuffer::default(),
        properties: String::new(),
        id: [0; 36],
    });
}

/// A record in the thread's buffers, and what its reply should say.
struct Prepared<'w> {
    record: Record<'w>,
    id: &'w str,
    /// Fields that were left out.
    dropped: u32,
    warning: Option<String>,
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
        events: &mut (impl Iterator<Item = Result<Event<'a>, EventError>> + Send),
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
        events: &mut impl Iterator<Item = Result<Event<'a>, EventError>>,
        ask: &Ask<'_>,
        taken: &mut Taken,
    ) -> bool {
        let snapshot = self.snapshot.load();
        let now_ms = self.started.elapsed().as_millis() as u64;
        // A batch is mostly of one event type, so the name is compared with the last one before it is looked up.
        let mut last = None;
        WORK.with_borrow_mut(|work| {
            for _ in 0..SLICE {
                let Some(item) = events.next() else { return false };
                self.take_one((&snapshot, &mut last), item, ask, now_ms, work, taken);
            }
            true
        })
    }

    /// From received to handed on or rejected, without a gap.
    fn take_one<'s>(
        &self,
        (snapshot, last): (&'s Snapshot, &mut Option<&'s Live>),
        item: Result<Event<'_>, EventError>,
        ask: &Ask<'_>,
        now_ms: u64,
        work: &mut Work,
        taken: &mut Taken,
    ) {
        let index = taken.events;
        taken.events += 1;
        let event = match item {
            Ok(event) => event,
            Err(error) => {
                self.ledger.unknown().receive();
                return self.reject(self.ledger.unknown(), ("", ""), index, error.into(), taken);
            }
        };
        let names = (event.name.as_ref(), event.envelope.id.as_deref().unwrap_or(""));
        let same = last.filter(|live| live.event_type.name == event.name);
        let Some(live) = same.or_else(|| snapshot.find(&event.name)) else {
            let error = unknown_event(&event.name, &snapshot.routes);
            self.ledger.unknown().receive();
            return self.reject(self.ledger.unknown(), names, index, error.into(), taken);
        };
        *last = Some(live);
        live.account.receive();
        let ready = match admit(live, &event, ask, now_ms) {
            Ok(ready) => ready,
            Err(no) => return self.reject(&live.account, names, index, no, taken),
        };
        let prepared = match prepare(live, ready, &event, ask, work) {
            Ok(prepared) => prepared,
            Err(error) => return self.reject(&live.account, names, index, error.into(), taken),
        };
        let reply = ask.reply.map_or(live.event_type.reply, |asked| asked.max(live.event_type.reply));
        let awaited = (reply > Reply::Enqueued).then(|| Arc::clone(taken.awaited.get_or_insert_default()));
        let tracked = Tracked::new(&live.account, awaited.as_ref(), index, prepared.record.cost_bytes());
        match ready.topic.send(&prepared.record, tracked) {
            Ok(()) => {
                if prepared.dropped > 0 {
                    live.account.note_dropped(prepared.dropped);
                }
                taken.accept(index, prepared.id, reply, prepared.warning, ask.all_results);
            }
            Err(refused) => {
                refused.tracked.refused();
                let error = EventError::new(refused.code, refused.message);
                self.reject(&live.account, (names.0, prepared.id), index, error.into(), taken);
            }
        }
    }

    /// Counts an event refused, tells the watch, and notes its result.
    #[cold]
    fn reject(&self, account: &Account, (event, id): (&str, &str), index: u32, no: No, taken: &mut Taken) {
        account.reject(no.error.code);
        if let Some(watch) = &self.watch {
            watch(event, id, &no.error);
        }
        taken.refused += 1;
        taken.results.push(EventResult {
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

    /// What an event would become. Counts nothing, takes nothing from a limit, produces nothing.
    pub fn dry_run(&self, event: &Event<'_>, ask: &Ask<'_>) -> Result<DryRun, EventError> {
        let snapshot = self.snapshot.load();
        let Some(live) = snapshot.find(&event.name) else { return Err(unknown_event(&event.name, &snapshot.routes)) };
        let ready = may_pass(live, event, ask)?;
        WORK.with_borrow_mut(|work| {
            let prepared = prepare(live, ready, event, ask, work)?;
            let record = &prepared.record;
            let value_json = match &ready.schemas {
                None => std::str::from_utf8(record.value).ok().map(str::to_owned),
                Some(schemas) => schemas.get(event.schema)?.value_as_json(record.value, &live.event_type.sensitive),
            };
            Ok(DryRun {
                cluster: live.event_type.cluster.clone(),
                topic: live.event_type.topic.clone(),
                key: record.key.map(<[u8]>::to_vec),
                headers: record.headers.iter().map(|(n, v)| (n.to_owned(), v.to_vec())).collect(),
                value: record.value.to_vec(),
                value_json,
                warning: prepared.warning,
            })
        })
    }
}

impl Taken {
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

/// The checks of admission that take nothing.
fn may_pass<'s>(live: &'s Live, event: &Event<'_>, ask: &Ask<'_>) -> Result<&'s Ready, EventError> {
    let event_type = &*live.event_type;
    if let Some(sender) = ask.sender
        && !sender.may_send(&event_type.name)
    {
        let message = format!("sender `{}` may not send event `{}`", sender.name, event_type.name);
        return Err(EventError::new(Code::ForbiddenEvent, message));
    }
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
        State::Ready(ready) => Ok(ready),
        State::Unavailable(reason) => Err(EventError::new(
            Code::EventTypeUnavailable,
            format!("event `{}` is not available: {reason}", event_type.name),
        )),
    }
}

/// Turns one event into the record to produce. Does no I/O, keeps no state but the thread's buffers, never waits.
fn prepare<'w>(
    live: &'w Live,
    ready: &Ready,
    event: &'w Event<'_>,
    ask: &Ask<'w>,
    work: &'w mut Work,
) -> Result<Prepared<'w>, EventError> {
    let event_type = &*live.event_type;
    work.output.clear();
    let schema_header = match &ready.schemas {
        None => {
            store_as_sent(event_type, event.payload, &mut work.output.value)?;
            &[][..]
        }
        Some(schemas) => {
            let schema = schemas.get(event.schema)?;
            work.output.value.extend_from_slice(&schema.prefix);
            schema.plan.transcode(event.payload, &mut work.scratch, &mut work.output)?;
            // The header lives as long as the snapshot; it is copied into the buffer below.
            schema.header.as_slice()
        }
    };
    let key = match &event_type.key {
        KeySource::None => None,
        KeySource::Envelope => event.envelope.key.as_deref().map(str::as_bytes),
        KeySource::Field(_) => work.output.has_key.then_some(work.output.key.as_slice()),
    };
    // An unset field without presence reads as empty, so for whoever insists on a key an empty one is none.
    if event_type.missing_key == MissingKey::Reject && key.is_none_or(<[u8]>::is_empty) {
        return Err(missing_key(event_type));
    }
    let properties = match work.output.properties.is_empty() {
        true => event.envelope.properties.as_deref(),
        false => {
            add_properties(event.envelope.properties.as_deref(), &work.output.properties, &mut work.properties);
            Some(work.properties.as_str())
        }
    };
    let id = match &event.envelope.id {
        Some(id) => id.as_ref(),
        None => ids::fresh(&mut work.id, ask.received_ms),
    };
    let sender = ask.sender.map(|sender| sender.name.as_str());
    let source = event.envelope.source.as_deref().or(sender).unwrap_or(ANONYMOUS);
    let traceparent = event.envelope.traceparent.as_deref().or(ask.traceparent);
    work.headers.clear();
    let stamp = Stamp { id, source, sender, properties, traceparent, received_ms: ask.received_ms, schema_header };
    headers::write(&event.envelope, &stamp, event_type, &mut work.headers);
    let record =
        Record { key, value: &work.output.value, headers: &work.headers, timestamp_ms: ask.received_ms as i64 };
    fits(&record, ready, event_type)?;
    let dropped = work.output.fields_dropped;
    let warning = (dropped > 0 || work.output.enums_defaulted > 0).then(|| warning(&work.output));
    Ok(Prepared { record, id, dropped, warning })
}

/// `raw_json`: any JSON text, byte for byte.
fn store_as_sent(event_type: &EventType, payload: Payload<'_>, value: &mut Vec<u8>) -> Result<(), EventError> {
    debug_assert_eq!(event_type.encoding, Encoding::RawJson, "only raw_json has no schema");
    let Payload::Json(json) = payload else {
        let message = format!("event `{}` takes JSON only, its payloads have no schema", event_type.name);
        return Err(EventError::new(Code::WrongFormat, message));
    };
    envelope::check_json(json)?;
    value.extend_from_slice(json);
    Ok(())
}

/// Joins the envelope's properties and the unknown fields that moved there. The envelope's own win.
fn add_properties(own: Option<&str>, moved: &[u8], out: &mut String) {
    out.clear();
    out.push('{');
    out.push_str(std::str::from_utf8(moved).expect("the plan copies members from JSON that it checked"));
    // A later member of the same name wins with every common parser, so the envelope's own come last.
    let own = own.and_then(|json| json.trim().strip_prefix('{')?.strip_suffix('}')).unwrap_or("").trim();
    if !own.is_empty() {
        out.push(',');
        out.push_str(own);
    }
    out.push('}');
}

/// Refuses a record that its topic would refuse: librdkafka does not split a refused batch, so its neighbours would suffer.
fn fits(record: &Record<'_>, ready: &Ready, event_type: &EventType) -> Result<(), EventError> {
    let Some(limit) = ready.record_bytes_max else { return Ok(()) };
    let bytes = record.batch_bytes();
    if bytes <= limit {
        return Ok(());
    }
    let message = format!("the record has {bytes} bytes, topic `{}` takes {limit}", event_type.topic);
    Err(EventError::new(Code::EventTooLarge, message))
}

#[cold]
fn unknown_event(name: &str, routes: &Routes) -> EventError {
    let nearest = routes.nearest(name).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
    let message = format!("no event type is named `{shown}`{nearest}; add `[events.\"{shown}\"]` to the configuration");
    EventError::new(Code::UnknownEvent, message)
}

#[cold]
fn missing_key(event_type: &EventType) -> EventError {
    let wanted = match &event_type.key {
        KeySource::Field(path) => format!("its payload field `{path}`"),
        _ => "the envelope's `key`".to_owned(),
    };
    EventError::new(Code::MissingKey, format!("event `{}` needs a key: {wanted} is not set", event_type.name))
}

#[cold]
fn warning(output: &Output) -> String {
    let mut text = String::new();
    if output.fields_dropped > 0 {
        text = format!("{} unknown field(s) left out, the first at {}", output.fields_dropped, output.first_dropped);
    }
    if output.enums_defaulted > 0 {
        let join = if text.is_empty() { "" } else { "; " };
        text.push_str(&format!("{join}{} unknown enum number(s) stored as the default", output.enums_defaulted));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_stay_json_whatever_they_end_with() {
        for (own, moved, expected) in [
            (None, r#""x":2"#, r#"{"x":2}"#),
            (Some("{}"), r#""x":2"#, r#"{"x":2}"#),
            (Some(r#"{"a":{"b":1}}"#), r#""x":2"#, r#"{"x":2,"a":{"b":1}}"#),
            (Some(r#" { "a" : {"b":{}} } "#), r#""x":{"y":{}}"#, r#"{"x":{"y":{}},"a" : {"b":{}}}"#),
        ] {
            let mut joined = String::new();
            add_properties(own, moved.as_bytes(), &mut joined);
            assert_eq!(joined, expected);
            assert!(serde_json::from_str::<serde_json::Value>(&joined).is_ok(), "{joined}");
        }
    }

    #[test]
    fn raw_json_is_json_and_utf8_and_not_too_deep() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for (payload, expected) in [
            (&b"{\"a\":\"\xff\"}"[..], Err(Code::InvalidUtf8)),
            (&b"{\"a\":1"[..], Err(Code::MalformedJson)),
            (&b"{} {}"[..], Err(Code::MalformedJson)),
            (&b""[..], Err(Code::MalformedJson)),
            (deep.as_bytes(), Err(Code::MalformedJson)),
            (&b" {\"a\": [1, null]}\n"[..], Ok(())),
        ] {
            assert_eq!(envelope::check_json(payload).map_err(|error| error.code), expected);
        }
    }
}
