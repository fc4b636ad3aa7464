//! Looks at a cluster's clients ten times a second, works its breaker, and sees when a leader hangs.
//!
//! In: what the clients of all lanes count. Out: the state of the [`Gate`] that they share. One thread a cluster. Never: on the
//! path of an event.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::breaker::{Breaker, Gate, Patience, Signs, State};
use super::{Client, ClientError};

/// How often it looks.
const TICK: Duration = Duration::from_millis(100);
/// How long an answer may take that tells whether the cluster is back.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the leaders are asked for while records wait for too long, and how long that may take.
const LEARN_EVERY: Duration = Duration::from_secs(2);
const LEARN_TIMEOUT: Duration = Duration::from_millis(500);
/// When it comes this late, the machine was asleep and not the cluster.
const OVERSLEPT: Duration = Duration::from_secs(2);

/// The thread of a cluster. Stops when it is told to, or dropped.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    cluster: String,
    gate: Arc<Gate>,
    clients: Mutex<Vec<Watched>>,
    stop: AtomicBool,
}

/// A client, and how many records were answered at the last look.
#[derive(Debug)]
struct Watched {
    client: Weak<Client>,
    answered: u64,
}

impl Watch {
    /// Starts to watch a cluster that has no clients yet.
    pub(super) fn start(cluster: &str, patience: Patience) -> io::Result<Watch> {
        let shared = Arc::new(Shared {
            cluster: cluster.to_owned(),
            gate: Arc::default(),
            clients: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let thread = std::thread::Builder::new().name(format!("breaker-{cluster}")).spawn({
            let shared = Arc::clone(&shared);
            move || shared.until_stopped(patience)
        })?;
        Ok(Watch { shared, thread: Some(thread) })
    }

    /// What the breaker says.
    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.shared.gate
    }

    /// Watches one more client, until it is gone.
    pub(super) fn add(&self, client: &Arc<Client>) {
        self.shared.clients().push(Watched { client: Arc::downgrade(client), answered: 0 });
    }

    /// Looks no more; the thread ends soon.
    pub(super) fn hasten(&self) {
        self.shared.stop.store(true, Relaxed);
        self.thread.iter().for_each(|thread| thread.thread().unpark());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hasten();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            error!(cluster = self.shared.cluster, "the breaker's thread panicked");
        }
    }
}

impl Shared {
    fn clients(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.clients.lock().expect("no code panics while it holds this lock")
    }

    fn until_stopped(&self, patience: Patience) {
        let mut breaker = Breaker::new(patience, Instant::now());
        let mut waiting_since = None;
        let mut looked = Instant::now();
        let mut learnt = looked;
        while !self.stop.load(Relaxed) {
            std::thread::park_timeout(TICK);
            let clients = self.living();
            let answered = breaker.wants_probe(Instant::now()).then(|| self.probe(&clients));
            let now = Instant::now();
            if now - looked > OVERSLEPT && answered.is_none() {
                waiting_since = None;
            }
            looked = now;
            let uneasy: Vec<_> = clients.iter().filter(|client| client.look_out()).collect();
            if !uneasy.is_empty() && now - learnt > LEARN_EVERY {
                // Leaders move while a broker is away.
                uneasy.iter().for_each(|client| client.learn_leaders(LEARN_TIMEOUT));
                learnt = Instant::now();
            }
            let acknowledged = self.has_news();
            let is_waiting = clients.iter().any(|client| client.is_waiting());
            waiting_since = waiting_since.filter(|_| !acknowledged).or(Some(now)).filter(|_| is_waiting);
            let errors: Vec<ClientError> = clients.iter().filter_map(|client| client.cut_off()).collect();
            let signs = Signs {
                stalled: waiting_since.map(|since| now - since),
                is_cut_off: !errors.is_empty(),
                acknowledged,
                tried: self.gate.has_tried(),
                answered,
            };
            if acknowledged {
                self.gate.renew_trials();
            }
            self.enter(breaker.look(&signs, now), &signs, errors.first());
        }
    }

    /// The clients that are not gone.
    fn living(&self) -> Vec<Arc<Client>> {
        let mut clients = self.clients();
        clients.retain(|watched| watched.client.strong_count() > 0);
        clients.iter().filter_map(|watched| watched.client.upgrade()).collect()
    }

    /// Whether a record was acknowledged, or refused for good, since the last look.
    fn has_news(&self) -> bool {
        let mut news = false;
        for watched in self.clients().iter_mut() {
            let Some(client) = watched.client.upgrade() else { continue };
            news |= std::mem::replace(&mut watched.answered, client.answered()) != watched.answered;
        }
        news
    }

    /// Whether the cluster answers at all.
    fn probe(&self, clients: &[Arc<Client>]) -> bool {
        clients.first().is_some_and(|client| client.answers(PROBE_TIMEOUT))
    }

    fn enter(&self, state: State, signs: &Signs, error: Option<&ClientError>) {
        let stalled_seconds = signs.stalled.unwrap_or_default().as_secs_f64();
        let reason = || match state {
            State::HalfOpen => {
                "the cluster answers again, and a few records are let through to see whether it takes them".to_owned()
            }
            _ => {
                let cause = error.map(|error| format!("; {error}")).unwrap_or_default();
                format!("nothing was acknowledged for {stalled_seconds:.1} s while records were waiting{cause}")
            }
        };
        if !self.gate.set(state, reason) {
            return;
        }
        let cluster = &self.cluster;
        match state {
            State::Open => {
                let error = error.map(ToString::to_string);
                warn!(cluster, stalled_seconds, error, "breaker opened, the cluster takes no records");
            }
            State::HalfOpen => info!(cluster, "breaker is half-open, the cluster is tried"),
            State::Closed => info!(cluster, "breaker closed, the cluster takes records again"),
        }
    }
}
