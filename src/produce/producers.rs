//! The clients in use, one for each cluster and lane.
//!
//! In: a cluster and a lane. Out: its client, started at first use. A client whose settings changed, or that turned fatal,
//! is replaced: the new one takes over, the old one drains behind. Never: on the path of an event.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{error, info};

use super::breaker::{Gate, Patience};
use super::wal::Wal;
use super::watch::Watch;
use super::{Client, Keeper, ProduceError, Stopped, Surroundings};
use crate::config::Cluster;
use crate::route::Lane;
use crate::spool::Spool;

/// How long a cluster that did not answer is taken to be silent.
const SILENCE: Duration = Duration::from_secs(15);
/// Most bytes of dead letters in memory, for each cluster: a flood of bad events takes no more.
const DEAD_LETTER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The share of a stop's deadline that the clients of events have where there are clients of dead letters.
const EVENTS_SHARE: f64 = 0.8;

type Clients = BTreeMap<(String, Lane), Arc<Client>>;

/// A client that stops, gone as soon as it has, and the thread that waits for it.
#[derive(Debug)]
struct Draining {
    client: Weak<Client>,
    thread: JoinHandle<Stopped>,
}

/// The clients in use, and those that drain behind.
#[derive(Debug, Default)]
pub struct Producers {
    clients: Mutex<Clients>,
    /// Beside whom records wait that a cluster does not take, by cluster.
    spools: HashMap<String, Arc<Spool>>,
    /// Where records go that a cluster's clients give up, by cluster.
    keepers: Mutex<HashMap<String, Arc<Keeper>>>,
    /// Where records of the lane `wal` go first, by cluster.
    wals: HashMap<String, Arc<Wal>>,
    /// When a cluster did not answer a look-up.
    silent: Mutex<HashMap<String, Instant>>,
    /// The breakers, one a cluster, from its first client on.
    watches: Mutex<BTreeMap<String, Watch>>,
    /// Those that another one took over from and that are not retired yet; records may still be in them.
    displaced: Mutex<Vec<Arc<Client>>>,
    draining: Mutex<Vec<Draining>>,
}

impl Producers {
    /// None yet; those of these clusters will have a spool beside them.
    pub fn beside(spools: impl IntoIterator<Item = Arc<Spool>>) -> Self {
        let spools = spools.into_iter().map(|spool| (spool.cluster().to_owned(), spool));
        Producers { spools: spools.collect(), ..Producers::default() }
    }

    /// Where records go that the clients of this cluster give up.
    pub fn keeper(&self, cluster: &str) -> Arc<Keeper> {
        let mut keepers = self.keepers.lock().expect("no code panics while it holds this lock");
        Arc::clone(keepers.entry(cluster.to_owned()).or_default())
    }

    /// The same, with these wals for the lane of that name.
    pub fn with_wals(mut self, wals: impl IntoIterator<Item = Arc<Wal>>) -> Self {
        self.wals = wals.into_iter().map(|wal| (wal.log().cluster().to_owned(), wal)).collect();
        self
    }

    /// The client of this cluster and lane; started if there is none.
    pub fn get_or_start(&self, cluster: &Cluster, lane: Lane) -> Result<Arc<Client>, ProduceError> {
        let mut clients = self.clients();
        if let Some(client) = clients.get(&(cluster.name.clone(), lane)) {
            return Ok(Arc::clone(client));
        }
        self.put_in_place(&mut clients, cluster.clone(), lane, None)
    }

    /// The client of this cluster and lane, if there is one.
    pub fn current(&self, cluster: &str, lane: Lane) -> Option<Arc<Client>> {
        self.clients().get(&(cluster.to_owned(), lane)).cloned()
    }

    /// The client of this cluster and lane, whose batches have at most so many bytes. One with larger batches is replaced:
    /// librdkafka does not split a batch that a topic with a smaller `max.message.bytes` refuses. The one that was replaced
    /// goes on until it is given to [`Producers::retire`].
    pub fn with_batches_within(
        &self,
        cluster: &Cluster,
        lane: Lane,
        bytes: usize,
    ) -> Result<Arc<Client>, ProduceError> {
        let mut clients = self.clients();
        if let Some(client) = clients.get(&(cluster.name.clone(), lane))
            && client.batch_bytes_max() <= bytes
        {
            return Ok(Arc::clone(client));
        }
        let (name, lane_name) = (&cluster.name, lane.as_str());
        info!(cluster = name, lane = lane_name, bytes, "a topic takes smaller batches, the producer is replaced");
        self.put_in_place(&mut clients, cluster.clone(), lane, Some(bytes))
    }

    /// Starts a new client for this cluster and lane, with these settings and batches no larger than those of the one that
    /// it takes over from. That one goes on until it is given to [`Producers::retire`]: after the snapshot with the new
    /// one is in place.
    pub fn replace(&self, cluster: &Cluster, lane: Lane) -> Result<Arc<Client>, ProduceError> {
        let mut clients = self.clients();
        let bytes = clients.get(&(cluster.name.clone(), lane)).map(|before| before.batch_bytes_max());
        self.put_in_place(&mut clients, cluster.clone(), lane, bytes)
    }

    /// Starts a client, with batches of at most so many bytes where that is said, and lists the one that it takes over from.
    fn put_in_place(
        &self,
        clients: &mut Clients,
        mut cluster: Cluster,
        lane: Lane,
        batch_bytes_max: Option<usize>,
    ) -> Result<Arc<Client>, ProduceError> {
        if let Some(bytes) = batch_bytes_max {
            cluster.librdkafka.push(("batch.size".to_owned(), bytes.to_string()));
        }
        let (spool, wal) = match lane {
            Lane::Wal => (None, self.wals.get(&cluster.name).cloned()),
            Lane::DeadLetter => (None, None),
            _ => (self.spools.get(&cluster.name).cloned(), None),
        };
        let (keeper, mut gate) = (self.keeper(&cluster.name), self.gate_of(&cluster)?);
        if lane == Lane::DeadLetter {
            // What becomes of dead letters neither opens the breaker nor closes it.
            gate = Arc::default();
            cluster.buffer_bytes_max = cluster.buffer_bytes_max.min(DEAD_LETTER_BYTES_MAX);
        }
        let client = Client::start_amid(&cluster, lane, &Surroundings { spool, wal, keeper, gate })?;
        if lane != Lane::DeadLetter {
            self.watches().get(&cluster.name).expect("its gate was just asked for").add(&client);
        }
        let before = clients.insert((cluster.name, lane), Arc::clone(&client));
        self.displaced.lock().expect("no code panics while it holds this lock").extend(before);
        Ok(client)
    }

    /// The gate of a cluster's breaker, which is made where there is none.
    fn gate_of(&self, cluster: &Cluster) -> Result<Arc<Gate>, ProduceError> {
        let mut watches = self.watches();
        if let Some(watch) = watches.get(&cluster.name) {
            return Ok(Arc::clone(watch.gate()));
        }
        let patience = Patience { open_after: cluster.breaker_open_after, retry_after: cluster.breaker_retry_after };
        let watch = Watch::start(&cluster.name, patience)
            .map_err(|source| ProduceError::Thread { cluster: cluster.name.clone(), source })?;
        let gate = Arc::clone(watch.gate());
        watches.insert(cluster.name.clone(), watch);
        Ok(gate)
    }

    /// Whether the cluster did not answer a look-up a moment ago.
    pub fn is_silent(&self, cluster: &str) -> bool {
        let silent = self.silent.lock().expect("no code panics while it holds this lock");
        silent.get(cluster).is_some_and(|since| since.elapsed() < SILENCE)
    }

    /// Notes that the cluster did not answer a look-up.
    pub fn note_silence(&self, cluster: &str) {
        let mut silent = self.silent.lock().expect("no code panics while it holds this lock");
        silent.insert(cluster.to_owned(), Instant::now());
    }

    /// The breakers, by cluster.
    pub fn gates(&self) -> Vec<(String, Arc<Gate>)> {
        self.watches().iter().map(|(cluster, watch)| (cluster.clone(), Arc::clone(watch.gate()))).collect()
    }

    /// Those that another one took over from and that are not retired yet.
    pub fn displaced(&self) -> Vec<Arc<Client>> {
        self.displaced.lock().expect("no code panics while it holds this lock").clone()
    }

    /// Stops a client that was replaced, or whose cluster is no longer routed to, on a thread of its own.
    pub fn retire(&self, client: Arc<Client>, deadline: Duration) {
        self.clients().retain(|_, current| !Arc::ptr_eq(current, &client));
        let mut displaced = self.displaced.lock().expect("no code panics while it holds this lock");
        displaced.retain(|other| !Arc::ptr_eq(other, &client));
        drop(displaced);
        let mut draining = self.draining.lock().expect("no code panics while it holds this lock");
        draining.retain(|draining| !draining.thread.is_finished());
        draining.extend(stop_behind(client, deadline));
    }

    /// The clients that take records, by cluster and lane.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.clients().values().cloned().collect()
    }

    /// Stops every client, all at the same time, and waits for those that drain already, all within `deadline`. Blocking; see
    /// [`Client::stop`]. Returns the sum of what had to be left.
    pub fn stop(&self, deadline: Duration) -> Stopped {
        let watches = std::mem::take(&mut *self.watches());
        watches.values().for_each(Watch::hasten);
        let clients = std::mem::take(&mut *self.clients());
        let displaced = std::mem::take(&mut *self.displaced.lock().expect("no code panics while it holds this lock"));
        let mut draining = std::mem::take(&mut *self.draining.lock().expect("no code panics while it holds this lock"));
        draining.iter().filter_map(|draining| draining.client.upgrade()).for_each(|client| client.hasten(deadline));
        // What the others give up in the end goes to the clients of dead letters, which therefore end last.
        let started = Instant::now();
        let all = clients.into_values().chain(displaced);
        let (letters, events): (Vec<_>, Vec<_>) = all.partition(|client| client.lane() == Lane::DeadLetter);
        let for_events = if letters.is_empty() { deadline } else { deadline.mul_f64(EVENTS_SHARE) };
        draining.extend(events.into_iter().filter_map(|client| stop_behind(client, for_events)));
        let stopped = join(draining);
        let left = deadline.saturating_sub(started.elapsed());
        let letters = letters.into_iter().filter_map(|client| stop_behind(client, left)).collect();
        stopped.plus(join(letters))
    }

    fn watches(&self) -> MutexGuard<'_, BTreeMap<String, Watch>> {
        self.watches.lock().expect("no code panics while it holds this lock")
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().expect("no code panics while it holds this lock")
    }
}

/// Waits for all of them; the sum of what they had to leave.
fn join(draining: Vec<Draining>) -> Stopped {
    let stopped = draining.into_iter().map(|draining| draining.thread.join().unwrap_or_default());
    stopped.fold(Stopped::default(), |sum, one| sum.plus(one))
}

fn stop_behind(client: Arc<Client>, deadline: Duration) -> Option<Draining> {
    let name = format!("drain-{}-{}", client.cluster(), client.lane().as_str());
    let weak = Arc::downgrade(&client);
    match std::thread::Builder::new().name(name).spawn(move || client.stop(deadline)) {
        Ok(thread) => Some(Draining { client: weak, thread }),
        // The closure is gone with the client's handle: its drop stops it if nobody else holds one.
        Err(error) => {
            error!(%error, "no thread to stop a producer on");
            None
        }
    }
}
