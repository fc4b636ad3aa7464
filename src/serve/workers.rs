//! The threads that serve connections: one current-thread runtime each, so that a request never changes threads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// How often a worker shows that it is alive.
const BEAT: Duration = Duration::from_millis(250);

/// Worker threads, named `worker-0` and so on. Joined by [`Workers::stop`], at the latest when dropped.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    started: Instant,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Worker {
    name: String,
    seat: Arc<Seat>,
    /// When it last showed that it is alive, milliseconds since `started`.
    last_beat_ms: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// A place where connections can be served: a runtime, and how many it has.
#[derive(Debug)]
pub struct Seat {
    runtime: Handle,
    open: AtomicUsize,
}

impl Seat {
    /// A seat on any runtime, for a listener that needs no workers of its own.
    pub fn on(runtime: Handle) -> Arc<Seat> {
        Arc::new(Seat { runtime, open: AtomicUsize::new(0) })
    }

    /// Connections open here.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// The seat with the fewest open connections.
    pub(super) fn freest(seats: &[Arc<Seat>]) -> &Arc<Seat> {
        seats.iter().min_by_key(|seat| seat.open()).expect("a listener has at least one seat")
    }

    /// Takes the seat for as long as the guard lives.
    pub(super) fn take(self: &Arc<Self>) -> Taken {
        self.open.fetch_add(1, Relaxed);
        Taken(Arc::clone(self))
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

/// One connection's place on a [`Seat`].
pub(super) struct Taken(Arc<Seat>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

impl Workers {
    /// Starts so many threads, at least one.
    pub fn start(workers: usize) -> io::Result<Workers> {
        let (started, stop) = (Instant::now(), CancellationToken::new());
        let workers = (0..workers.max(1)).map(|i| Worker::start(format!("worker-{i}"), started, &stop));
        Ok(Workers { workers: workers.collect::<io::Result<_>>()?, started, stop })
    }

    /// Where connections can be served.
    pub fn seats(&self) -> Vec<Arc<Seat>> {
        self.workers.iter().map(|worker| Arc::clone(&worker.seat)).collect()
    }

    /// Names of the workers that have not shown for so long that they are alive. One that is stuck serves nobody, and only
    /// a restart helps.
    pub fn stalled(&self, longer_than: Duration) -> Vec<&str> {
        let now_ms = self.started.elapsed().as_millis() as u64;
        let allowed_ms = longer_than.as_millis() as u64;
        let stalled = |w: &&Worker| now_ms.saturating_sub(w.last_beat_ms.load(Relaxed)) > allowed_ms;
        self.workers.iter().filter(stalled).map(|worker| worker.name.as_str()).collect()
    }

    /// Ends every task that is left and joins the threads. Blocking, and not for use inside a runtime's task; call it after
    /// [`super::Drain::finish`].
    pub fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.stop.cancel();
        for thread in self.workers.iter_mut().filter_map(|worker| worker.thread.take()) {
            // A panic has been reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.join();
    }
}

impl Worker {
    fn start(name: String, started: Instant, stop: &CancellationToken) -> io::Result<Worker> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let seat = Seat::on(runtime.handle().clone());
        let last_beat_ms = Arc::new(AtomicU64::new(started.elapsed().as_millis() as u64));
        let (stop, beat) = (stop.clone(), Arc::clone(&last_beat_ms));
        let run = move || {
            runtime.block_on(async {
                let mut every = tokio::time::interval(BEAT);
                while stop.run_until_cancelled(every.tick()).await.is_some() {
                    beat.store(started.elapsed().as_millis() as u64, Relaxed);
                }
            });
        };
        let thread = Some(std::thread::Builder::new().name(name.clone()).spawn(run)?);
        Ok(Worker { name, seat, last_beat_ms, thread })
    }
}
