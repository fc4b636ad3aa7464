//! The clients in use, one for each cluster and lane.
//!
//! In: a cluster and a lane. Out: its client, started at first use. A client whose settings changed, or that turned fatal,
//! is replaced: the new one takes over, the old one drains behind. Which settings a cluster has is known here, so that nobody
//! who still holds those of before can start a client with them. Never: on the path of an event.

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

/// The share of a stop's deadline that the clients of events have where there are clients of dead letters.
const EVENTS_SHARE: f64 = 0.8;
/// How long a cluster that did not answer is taken to be silent.
const SILENCE: Duration = Duration::from_secs(15);

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
    /// The settings that clients are started with, by cluster: those of its first client until [`Producers::change`].
    settings: Mutex<HashMap<String, Arc<Cluster>>>,
    /// Beside whom records wait that a cluster does not take, by cluster.
    spools: Mutex<HashMap<String, Arc<Spool>>>,
    /// Where records go that a cluster's clients give up, by cluster.
    keepers: Mutex<HashMap<String, Arc<Keeper>>>,
    /// Where records of the lane `wal` go first, by cluster.
    wals: Mutex<HashMap<String, Arc<Wal>>>,
    /// When a cluster did not answer a look-up.
    silent: Mutex<HashMap<String, Instant>>,
    /// The breakers, one a cluster, from its first client on.
    watches: Mutex<BTreeMap<String, Watch>>,
    /// Those that another one took over from and that are not retired yet; records may still be in them.
    displaced: Mutex<Vec<Arc<Client>>>,
    draining: Mutex<Vec<Draining>>,
    /// Those that the last stop waits for.
    stopping: Mutex<Vec<Weak<Client>>>,
}

impl Producers {
    /// None yet; those of these clusters will have a spool beside them.
    pub fn beside(spools: impl IntoIterator<Item = Arc<Spool>>) -> Self {
        let spools = spools.into_iter().map(|spool| (spool.cluster().to_owned(), spool));
        Producers { spools: Mutex::new(spools.collect()), ..Producers::default() }
    }

    /// Clients of the spool's cluster that are started from now on have it beside them.
    pub fn add_spool(&self, spool: &Arc<Spool>) {
        self.spools().insert(spool.cluster().to_owned(), Arc::clone(spool));
    }

    /// The spool of a cluster, if it has one.
    pub fn spool_of(&self, cluster: &str) -> Option<Arc<Spool>> {
        self.spools().get(cluster).cloned()
    }

    /// Whether something waits for this cluster on disk, in its spool or its wal.
    pub fn has_entries(&self, cluster: &str) -> bool {
        let wal = self.wals().get(cluster).cloned();
        self.spool_of(cluster).is_some_and(|spool| spool.stats().bytes > 0)
            || wal.is_some_and(|wal| wal.log().stats().bytes > 0)
    }

    /// From now on these are the settings of the cluster, whatever those have who ask for a client; its clients are replaced.
    /// Those that others took over from go on until they are given to [`Producers::retire`].
    pub fn change(&self, cluster: &Cluster) -> Result<(), ProduceError> {
        self.settings().insert(cluster.name.clone(), Arc::new(cluster.clone()));
        if let Some(watch) = self.watches().get(&cluster.name) {
            watch.set_patience(patience_with(cluster));
        }
        let mut clients = Lane::ALL.into_iter().filter_map(|lane| Some((lane, self.current(&cluster.name, lane)?)));
        clients.try_for_each(|(lane, client)| {
            let (name, lane_name) = (&cluster.name, lane.as_str());
            info!(cluster = name, lane = lane_name, "the cluster's settings changed, the producer is replaced");
            // What it still has to deliver needs the password that the brokers know by now.
            client.log_in_as(cluster);
            self.replace(cluster, lane).map(drop)
        })
    }

    /// Where records go that the clients of this cluster give up.
    pub fn keeper(&self, cluster: &str) -> Arc<Keeper> {
        let mut keepers = self.keepers.lock().expect("no code panics while it holds this lock");
        Arc::clone(keepers.entry(cluster.to_owned()).or_default())
    }

    /// The same, with these wals for the lane of that name.
    pub fn with_wals(self, wals: impl IntoIterator<Item = Arc<Wal>>) -> Self {
        wals.into_iter().for_each(|wal| self.add_wal(wal));
        self
    }

    /// The client of its cluster's lane `wal` has this wal before it, if it is started from now on.
    pub fn add_wal(&self, wal: Arc<Wal>) {
        self.wals().insert(wal.log().cluster().to_owned(), wal);
    }

    fn wals(&self) -> MutexGuard<'_, HashMap<String, Arc<Wal>>> {
        self.wals.lock().expect("no code panics while it holds this lock")
    }

    /// The client of this cluster and lane; started if there is none.
    pub fn get_or_start(&self, cluster: &Cluster, lane: Lane) -> Result<Arc<Client>, ProduceError> {
        let mut clients = self.clients();
        if let Some(client) = clients.get(&(cluster.name.clone(), lane)) {
            return Ok(Arc::clone(client));
        }
        self.put_in_place(&mut clients, cluster, lane, None)
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
        self.put_in_place(&mut clients, cluster, lane, Some(bytes))
    }

    /// Starts a new client for this cluster and lane, with these settings and batches no larger than those of the one that
    /// it takes over from. That one goes on until it is given to [`Producers::retire`]: after the snapshot with the new
    /// one is in place.
    pub fn replace(&self, cluster: &Cluster, lane: Lane) -> Result<Arc<Client>, ProduceError> {
        let mut clients = self.clients();
        let bytes = clients.get(&(cluster.name.clone(), lane)).map(|before| before.batch_bytes_max());
        self.put_in_place(&mut clients, cluster, lane, bytes)
    }

    /// Starts a client, with batches of at most so many bytes where that is said, and lists the one that it takes over from.
    fn put_in_place(
        &self,
        clients: &mut Clients,
        cluster: &Cluster,
        lane: Lane,
        batch_bytes_max: Option<usize>,
    ) -> Result<Arc<Client>, ProduceError> {
        let mut cluster =
            Cluster::clone(self.settings().entry(cluster.name.clone()).or_insert_with(|| Arc::new(cluster.clone())));
        if let Some(bytes) = batch_bytes_max {
            cluster.librdkafka.push(("batch.size".to_owned(), bytes.to_string()));
        }
        // Only events that come in say whether the cluster takes records, and only they wait in its spool: what is in the wal waits
        // there in order, and what becomes of a dead letter is no event's.
        let of_events = !matches!(lane, Lane::Wal | Lane::DeadLetter);
        let surroundings = Surroundings {
            spool: self.spool_of(&cluster.name).filter(|_| of_events),
            keeper: self.keeper(&cluster.name),
            gate: if of_events { self.gate_of(&cluster)? } else { Arc::default() },
            wal: self.wals().get(&cluster.name).filter(|_| lane == Lane::Wal).cloned(),
        };
        let client = Client::start_amid(&cluster, lane, &surroundings)?;
        // Where there is none any more, a stop has taken it, and takes the client as soon as this has let go of them.
        if of_events && let Some(watch) = self.watches().get(&cluster.name) {
            watch.add(&client);
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
        let watch = Watch::start(&cluster.name, patience_with(cluster))
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
        let is_used = displaced.iter().any(|other| other.cluster() == client.cluster());
        drop(displaced);
        let is_used = is_used || self.clients().values().any(|other| other.cluster() == client.cluster());
        // With its last client the breaker of a cluster goes.
        let watch = if is_used { None } else { self.watches().remove(client.cluster()) };
        let mut draining = self.draining.lock().expect("no code panics while it holds this lock");
        draining.retain(|draining| !draining.thread.is_finished());
        draining.extend(stop_behind(client, deadline, watch));
    }

    /// The clients that take records, by cluster and lane.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.clients().values().cloned().collect()
    }

    /// Lets a stop that is under way, or the next one, wait for brokers no longer; see [`Producers::stop`].
    pub fn give_up_on_brokers(&self) {
        self.all().iter().chain(&self.displaced()).for_each(|client| client.give_up_on_brokers());
        let draining = self.draining.lock().expect("no code panics while it holds this lock");
        let draining: Vec<_> = draining.iter().filter_map(|draining| draining.client.upgrade()).collect();
        let stopping: Vec<_> = self.stopping().iter().filter_map(Weak::upgrade).collect();
        draining.iter().chain(&stopping).for_each(|client| client.give_up_on_brokers());
    }

    fn stopping(&self) -> MutexGuard<'_, Vec<Weak<Client>>> {
        self.stopping.lock().expect("no code panics while it holds this lock")
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
        draining.extend(events.into_iter().filter_map(|client| stop_behind(client, for_events, None)));
        let of_letters = letters.iter().map(Arc::downgrade);
        *self.stopping() = draining.iter().map(|draining| Weak::clone(&draining.client)).chain(of_letters).collect();
        let stopped = join(draining);
        let left = deadline.saturating_sub(started.elapsed());
        let letters = letters.into_iter().filter_map(|client| stop_behind(client, left, None)).collect();
        stopped.plus(join(letters))
    }

    fn settings(&self) -> MutexGuard<'_, HashMap<String, Arc<Cluster>>> {
        self.settings.lock().expect("no code panics while it holds this lock")
    }

    fn spools(&self) -> MutexGuard<'_, HashMap<String, Arc<Spool>>> {
        self.spools.lock().expect("no code panics while it holds this lock")
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

fn patience_with(cluster: &Cluster) -> Patience {
    Patience { open_after: cluster.breaker_open_after, retry_after: cluster.breaker_retry_after }
}

fn stop_behind(client: Arc<Client>, deadline: Duration, watch: Option<Watch>) -> Option<Draining> {
    let name = format!("drain-{}-{}", client.cluster(), client.lane().as_str());
    let weak = Arc::downgrade(&client);
    match std::thread::Builder::new().name(name).spawn(move || {
        // The end of a watch may wait for an answer of the cluster.
        drop(watch);
        client.stop(deadline)
    }) {
        Ok(thread) => Some(Draining { client: weak, thread }),
        // The closure is gone with the client's handle: its drop stops it if nobody else holds one.
        Err(error) => {
            error!(%error, "no thread to stop a producer on");
            None
        }
    }
}
