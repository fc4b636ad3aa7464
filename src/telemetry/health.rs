//! Whether the process is alive, has started, and can take events.
//!
//! In: what each part says of itself, and what was measured at the moment of a probe. Out: a [`View`] of that moment, and the
//! answers that follow from it, as pure functions. Never: "Kafka is down" as a reason to be not ready. All proxies would
//! leave at once, while their buffers could still bridge the outage.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::Serialize;

/// A buffer that is fuller than this has no room for the next burst.
const BUFFER_FILL_MAX: f64 = 0.9;

/// What the parts of the process say of themselves. Shared; all calls are short.
#[derive(Debug, Default)]
pub struct Health {
    started: AtomicBool,
    draining: AtomicBool,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    conditions: BTreeMap<String, Note>,
    unavailable: BTreeMap<String, Note>,
}

#[derive(Debug)]
struct Note {
    reason: String,
    since: Instant,
}

impl Health {
    /// Start-up is over: everything is warm, or the wait for it is.
    pub fn set_started(&self) {
        self.started.store(true, Relaxed);
    }

    /// Whether start-up is over.
    pub fn has_started(&self) -> bool {
        self.started.load(Relaxed)
    }

    /// The process is shutting down; there is no way back.
    pub fn set_draining(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Whether the process is shutting down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Something is not as it should be, under a name that later calls replace or clear (`schemas of orders.placed`).
    /// Shown on `/ready` for people; nothing waits for it, and it is never a reason to be not ready.
    pub fn set_condition(&self, name: &str, reason: &str) {
        note(&mut self.notes().conditions, name.to_owned(), reason.to_owned());
    }

    /// It is as it should be again.
    pub fn clear_condition(&self, name: &str) {
        self.notes().conditions.remove(name);
    }

    /// The event types that cannot be served now, with the reason; all others can.
    pub fn set_unavailable(&self, unavailable: Vec<(String, String)>) {
        let mut notes = self.notes();
        let mut before = std::mem::take(&mut notes.unavailable);
        for (event, reason) in unavailable {
            if let Some(same) = before.remove(&event) {
                notes.unavailable.insert(event.clone(), same);
            }
            note(&mut notes.unavailable, event, reason);
        }
    }

    /// Everything as of now, together with what others measured.
    pub fn view(&self, measured: Measured) -> View {
        let now = Instant::now();
        let notes = self.notes();
        let shown = |notes: &BTreeMap<String, Note>| -> Vec<Condition> {
            notes.iter().map(|(name, note)| Condition::new(name, note, now)).collect()
        };
        let troubles = measured.spools.iter().filter_map(SpoolLevel::condition);
        View {
            started: self.has_started(),
            draining: self.is_draining(),
            conditions: shown(&notes.conditions).into_iter().chain(troubles).chain(measured.conditions).collect(),
            unavailable: shown(&notes.unavailable),
            buffers: measured.buffers,
            spools: measured.spools,
            silent: measured.pulses.into_iter().filter(Pulse::is_silent).collect(),
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().expect("no code panics while it holds this lock")
    }
}

/// Enters a reason. Another reason for the same thing is still the same trouble: it keeps the time at which it began.
fn note(notes: &mut BTreeMap<String, Note>, name: String, reason: String) {
    let since = notes.get(&name).map_or_else(Instant::now, |before| before.since);
    notes.insert(name, Note { reason, since });
}

/// What others measure at the moment of a probe.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// How full each producer's buffer is.
    pub buffers: Vec<Buffer>,
    /// Signs of life of the threads that must not stop; those that ended on purpose are not among them.
    pub pulses: Vec<Pulse>,
    /// How full each cluster's spool is, and what is wrong with it.
    pub spools: Vec<SpoolLevel>,
    /// What else is not as it should be: breakers that are not closed.
    pub conditions: Vec<Condition>,
}

/// How full a cluster's spool or wal is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpoolLevel {
    /// The cluster.
    pub cluster: String,
    /// `spool` or `wal`.
    pub log: &'static str,
    /// From 0, empty, to 1, full; 1 as well while its disk takes nothing.
    pub fill: f64,
    /// Why its disk takes nothing, and for how long it has not.
    #[serde(skip)]
    pub trouble: Option<(String, Duration)>,
}

impl SpoolLevel {
    fn condition(&self) -> Option<Condition> {
        let (reason, since) = self.trouble.clone()?;
        Some(Condition { name: format!("{} of {}", self.log, self.cluster), reason, since })
    }
}

/// How full a producer's buffer is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Buffer {
    /// Its cluster.
    pub cluster: String,
    /// Its lane.
    pub lane: &'static str,
    /// From 0, empty, to 1, full.
    pub fill: f64,
}

/// How long a thread has been silent.
#[derive(Clone, Debug, PartialEq)]
pub struct Pulse {
    /// The thread.
    pub name: String,
    /// Time since it last came round.
    pub silence: Duration,
    /// Most that may be.
    pub silence_max: Duration,
}

impl Pulse {
    fn is_silent(&self) -> bool {
        self.silence > self.silence_max
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What: an event, a cluster.
    pub name: String,
    /// Why.
    pub reason: String,
    /// For how long.
    pub since: Duration,
}

impl Condition {
    fn new(name: &str, note: &Note, now: Instant) -> Self {
        let since = now.saturating_duration_since(note.since);
        Condition { name: name.to_owned(), reason: note.reason.clone(), since }
    }
}

/// The process at one moment: all that the answers follow from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Whether start-up is over.
    pub started: bool,
    /// Whether it is shutting down.
    pub draining: bool,
    /// What is not as it should be, by name.
    pub conditions: Vec<Condition>,
    /// Event types that cannot be served, by name.
    pub unavailable: Vec<Condition>,
    /// How full the producers' buffers are.
    pub buffers: Vec<Buffer>,
    /// How full the clusters' spools are; none where nothing is spooled.
    pub spools: Vec<SpoolLevel>,
    /// Threads that have been silent for too long.
    pub silent: Vec<Pulse>,
}

/// The answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status: 200 or 503.
    pub status: u16,
    /// JSON.
    pub body: String,
}

/// `/startup`: 200 once start-up is over, warm or degraded.
pub fn startup(view: &View) -> Answer {
    #[derive(Serialize)]
    struct Body<'a> {
        started: bool,
        waiting_for: Vec<Shown<'a>>,
    }
    let waiting_for = if view.started { vec![] } else { waiting_for(view) };
    answer(view.started, &Body { started: view.started, waiting_for })
}

/// `/ready`: 200 while events can be taken. It also shows what is not as it should be without being a reason.
pub fn ready(view: &View) -> Answer {
    #[derive(Serialize)]
    struct Body<'a> {
        ready: bool,
        reasons: Vec<String>,
        unavailable: Vec<Unavailable<'a>>,
        conditions: Vec<Shown<'a>>,
        buffers: &'a [Buffer],
        #[serde(skip_serializing_if = "<[SpoolLevel]>::is_empty")]
        spools: &'a [SpoolLevel],
    }
    #[derive(Serialize)]
    struct Unavailable<'a> {
        event: &'a str,
        reason: &'a str,
        since_seconds: u64,
    }
    let reasons = reasons_not_ready(view);
    let unavailable = view.unavailable.iter().map(|condition| Unavailable {
        event: &condition.name,
        reason: &condition.reason,
        since_seconds: condition.since.as_secs(),
    });
    let body = Body {
        ready: reasons.is_empty(),
        reasons,
        unavailable: unavailable.collect(),
        conditions: view.conditions.iter().map(Shown::new).collect(),
        buffers: &view.buffers,
        spools: &view.spools,
    };
    answer(body.ready, &body)
}

/// `/live`: 200 while every thread comes round. Nothing else can be mended by a restart.
pub fn live(view: &View) -> Answer {
    #[derive(Serialize)]
    struct Body<'a> {
        live: bool,
        silent: Vec<Silent<'a>>,
    }
    #[derive(Serialize)]
    struct Silent<'a> {
        thread: &'a str,
        silent_seconds: u64,
        silent_seconds_max: u64,
    }
    let silent = view.silent.iter().map(|pulse| Silent {
        thread: &pulse.name,
        silent_seconds: pulse.silence.as_secs(),
        silent_seconds_max: pulse.silence_max.as_secs(),
    });
    answer(view.silent.is_empty(), &Body { live: view.silent.is_empty(), silent: silent.collect() })
}

fn reasons_not_ready(view: &View) -> Vec<String> {
    let mut reasons = Vec::new();
    if view.draining {
        reasons.push("shutting down".to_owned());
    }
    if !view.started {
        let waiting_for: Vec<_> = waiting_for(view).iter().map(|shown| shown.name).collect();
        reasons.push(match waiting_for.is_empty() {
            true => "starting".to_owned(),
            false => format!("starting; waiting for {}", waiting_for.join(", ")),
        });
    }
    reasons.extend(full_buffers(view));
    reasons
}

/// A reason only when *every* cluster has neither memory nor spool with room: as long as one has room, its event types must be
/// served, and the others' get 503 `buffer_full` one by one. Probes bring their own patience (Kubernetes:
/// `failureThreshold`), so there is none here.
fn full_buffers(view: &View) -> Option<String> {
    let mut fullest: BTreeMap<&str, f64> = BTreeMap::new();
    for buffer in &view.buffers {
        let fill = fullest.entry(&buffer.cluster).or_default();
        *fill = fill.max(buffer.fill);
    }
    // A wal is no room for other event types.
    for spool in view.spools.iter().filter(|spool| spool.log == "spool") {
        if let Some(fill) = fullest.get_mut(spool.cluster.as_str()) {
            *fill = fill.min(spool.fill);
        }
    }
    let all_full = !fullest.is_empty() && fullest.values().all(|fill| *fill > BUFFER_FILL_MAX);
    all_full.then(|| {
        let percent = |(cluster, fill): (&&str, &f64)| format!("{cluster} {:.0} %", fill * 100.0);
        format!(
            "every cluster's buffer is over {:.0} % full: {}",
            BUFFER_FILL_MAX * 100.0,
            fullest.iter().map(percent).collect::<Vec<_>>().join(", ")
        )
    })
}

/// What start-up waits for: the event types that cannot be served yet.
fn waiting_for(view: &View) -> Vec<Shown<'_>> {
    view.unavailable.iter().map(Shown::new).collect()
}

/// A condition as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    reason: &'a str,
    since_seconds: u64,
}

impl<'a> Shown<'a> {
    fn new(condition: &'a Condition) -> Self {
        Shown { name: &condition.name, reason: &condition.reason, since_seconds: condition.since.as_secs() }
    }
}

fn answer(is_well: bool, body: &impl Serialize) -> Answer {
    let mut body = serde_json::to_string(body).expect("plain structs of strings and numbers");
    body.push('\n');
    Answer { status: if is_well { 200 } else { 503 }, body }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
