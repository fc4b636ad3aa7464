//! Sends a load run's requests at their pace and counts the replies.
//!
//! In: bodies, a pace and an end. Out: a [`Tally`]. Never: sends a request before its moment, measures an open loop from
//! when a late request was finally sent (that would hide the waiting: coordinated omission), leaves one in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::tally::{Sent, Tally};
use super::template::{Bodies, RunId};
use crate::dev::client::{Address, Connection, Post};

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Open loop: at fixed moments, whether or not earlier ones were answered.
    EventsPerSecond(f64),
    /// Closed loop: each connection sends its next request when the last one was answered.
    AsFastAsAnswered,
}

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// After so long.
    After(Duration),
    /// After so many events.
    Events(u64),
}

/// A run to drive.
#[derive(Debug)]
pub struct Run {
    /// Where to.
    pub address: Address,
    /// Path with its query.
    pub path: String,
    /// Headers of each request.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub bodies: Bodies,
    /// Ids.
    pub id: RunId,
    /// Events of a request.
    pub batch: u32,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// Pace.
    pub pace: Pace,
    /// End.
    pub end: End,
    /// Whether what became of each event is kept.
    pub keeps_fates: bool,
}

/// How long a request may take: longer than the proxy itself waits for Kafka (`http.ack_timeout_seconds`, 35).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);
/// How long after its end an open loop goes on sending what it is late with.
const LATE_MAX: Duration = Duration::from_secs(10);
/// Pause after a connection could not be made: a target that is down is asked ten times a second per connection.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);
/// The pacing thread sleeps at least so long; requests due in between start together, each measured from its own moment.
const PACE_SLEEP_MIN: Duration = Duration::from_micros(100);

/// How far the run is; for the progress bar.
#[derive(Debug, Default)]
pub struct Progress {
    /// Events in requests that were begun.
    pub begun: AtomicU64,
    /// Events whose request ended.
    pub ended: AtomicU64,
    /// Events of those that were accepted.
    pub accepted: AtomicU64,
    /// Set to stop the run: nothing new is sent, what is in flight is waited for.
    pub stop: AtomicBool,
}

/// What a run came to.
#[derive(Debug)]
pub struct Driven {
    /// The counts.
    pub tally: Tally,
    /// From the first request to the last reply.
    pub took: Duration,
    /// Events that should have been sent by the end and were not.
    pub unsent: u64,
}

/// What the workers of a run share.
#[derive(Debug)]
struct Shared {
    run: Run,
    progress: Arc<Progress>,
    start: Instant,
    /// Number of the next request.
    next: AtomicU64,
    /// Requests of the whole run, where that is fixed.
    requests: Option<u64>,
    /// Nothing is begun from then on.
    last_start: Option<Instant>,
    /// One permit for each request of an open loop whose moment has come.
    due: Semaphore,
}

/// A request to send.
#[derive(Clone, Copy, Debug)]
struct Turn {
    number: u64,
    /// The moment from which its latency counts.
    from: Instant,
}

/// Drives the run to its end, or until it is stopped, and waits for every reply.
pub async fn drive(run: Run, progress: Arc<Progress>) -> Driven {
    let start = Instant::now();
    let batch = f64::from(run.batch);
    let per_second = match run.pace {
        Pace::EventsPerSecond(events) => Some(events / batch),
        Pace::AsFastAsAnswered => None,
    };
    let requests = match (run.end, per_second) {
        (End::Events(events), _) => Some(events.div_ceil(u64::from(run.batch))),
        (End::After(duration), Some(per_second)) => Some((duration.as_secs_f64() * per_second).ceil() as u64),
        (End::After(_), None) => None,
    };
    let last_start = match (run.end, per_second, requests) {
        (_, Some(per_second), Some(n)) => Some(start + Duration::from_secs_f64(n as f64 / per_second) + LATE_MAX),
        (End::After(duration), ..) => Some(start + duration),
        (End::Events(_), ..) => None,
    };
    let (workers, keeps_fates) = (run.connections, run.keeps_fates);
    let shared = Shared { run, progress, start, next: AtomicU64::new(0), requests, last_start, due: Semaphore::new(0) };
    let shared = Arc::new(shared);
    let pacer = per_second.map(|per_second| {
        let shared = Arc::clone(&shared);
        std::thread::Builder::new().name("pace".to_owned()).spawn(move || pace(&shared, per_second))
    });

    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        tasks.spawn(work(Arc::clone(&shared)));
    }
    let mut tally = Tally::new(keeps_fates);
    while let Some(done) = tasks.join_next().await {
        tally.merge(done.expect("a worker does not panic and is not aborted"));
    }
    let took = start.elapsed();
    shared.progress.stop.store(true, Relaxed);
    if let Some(Ok(pacer)) = pacer {
        pacer.join().expect("the pacing thread does not panic");
    }
    let wanted = match (shared.run.end, requests) {
        (End::Events(events), _) => events,
        (End::After(_), Some(requests)) => requests * u64::from(shared.run.batch),
        (End::After(_), None) => tally.events,
    };
    let unsent = wanted.saturating_sub(tally.events);
    Driven { tally, took, unsent }
}

/// Lets each request of an open loop start at its moment. A thread of its own: it sleeps to about 50 us, where the
/// runtime's timers have a granularity of a millisecond.
fn pace(shared: &Shared, per_second: f64) {
    let total = shared.requests.expect("an open loop knows how many requests it sends");
    let mut released = 0;
    while released < total && !shared.progress.stop.load(Relaxed) {
        let due = ((shared.start.elapsed().as_secs_f64() * per_second) as u64 + 1).min(total);
        shared.due.add_permits((due - released) as usize);
        released = due;
        let next = shared.start + Duration::from_secs_f64(released as f64 / per_second);
        // Short naps, so that a stopped run with a low rate ends at once.
        let nap = next.saturating_duration_since(Instant::now()).min(Duration::from_millis(50));
        std::thread::sleep(nap.max(PACE_SLEEP_MIN));
    }
    // Workers that still wait learn that nothing more comes; those with late requests go on.
    while shared.due.available_permits() > 0 && !shared.progress.stop.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
    }
    shared.due.close();
}

/// One connection: turn after turn, to the end.
async fn work(shared: Arc<Shared>) -> Tally {
    let run = &shared.run;
    let mut tally = Tally::new(run.keeps_fates);
    let mut connection = None;
    while let Some(turn) = shared.turn().await {
        let first = turn.number * u64::from(run.batch);
        let count = match run.end {
            End::Events(events) => u64::from(run.batch).min(events - first) as u32,
            End::After(_) => run.batch,
        };
        shared.progress.begun.fetch_add(count.into(), Relaxed);
        let body = run.bodies.body(&run.id, first, count as usize);
        let sent = Sent { first, count, body_bytes: body.len() };
        let post = Post { path: run.path.clone(), headers: run.headers.clone(), body };
        let open = match connection.take() {
            Some(open) => Ok(open),
            None => Connection::open(&run.address, REQUEST_TIMEOUT).await,
        };
        let accepted_before = tally.events_accepted;
        match open {
            Ok(mut open) => match open.post(&post, REQUEST_TIMEOUT).await {
                Ok(answer) => {
                    tally.answered(sent, &answer, turn.from.elapsed());
                    // A server may end a connection after a reply; then the next request opens another.
                    connection = open.is_open().then_some(open);
                }
                Err(error) => tally.unanswered(sent, &error),
            },
            Err(error) => {
                tally.unanswered(sent, &error);
                tokio::time::sleep(CONNECT_PAUSE).await;
            }
        }
        shared.progress.ended.fetch_add(count.into(), Relaxed);
        shared.progress.accepted.fetch_add(tally.events_accepted - accepted_before, Relaxed);
    }
    tally
}

impl Shared {
    /// The next request, at its moment; none at the end.
    async fn turn(&self) -> Option<Turn> {
        if let Pace::EventsPerSecond(_) = self.run.pace {
            // Closed when the run is stopped or everything has begun.
            self.due.acquire().await.ok()?.forget();
        }
        let late = self.last_start.is_some_and(|last| Instant::now() >= last);
        if late || self.progress.stop.load(Relaxed) {
            // What is still due will not be sent; the pacing thread need not wait for it.
            self.due.close();
            return None;
        }
        let number = self.next.fetch_add(1, Relaxed);
        if self.requests.is_some_and(|requests| number >= requests) {
            return None;
        }
        let from = match self.run.pace {
            Pace::EventsPerSecond(events) => {
                self.start + Duration::from_secs_f64(number as f64 * f64::from(self.run.batch) / events)
            }
            Pace::AsFastAsAnswered => Instant::now(),
        };
        Some(Turn { number, from })
    }
}
