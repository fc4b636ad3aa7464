//! Stopping without losing a request.
//!
//! [`Drain::begin`] makes acceptors take what is queued and close, and connections finish what they have begun;
//! [`Drain::finish`] waits for them until a deadline, lets those that wait for others answer with what they know, then cuts off and
//! counts the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Most of a deadline that is kept for last answers, and the same again for connections that are cut off, to drop what they hold.
const CUT_OFF_MAX: Duration = Duration::from_secs(1);

/// The one switch that ends a server, and the list of all its tasks. Clones are the same switch.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The same as `begin`, readable without a lock: it is asked with every request.
    begun: AtomicBool,
    begin: CancellationToken,
    last_call: CancellationToken,
    /// The same as `cut_off`, readable without a lock.
    is_cut_off: AtomicBool,
    cut_off: CancellationToken,
    tasks: TaskTracker,
    connections: AtomicUsize,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that had not finished by the deadline and were cut off.
    pub cut_off: usize,
}

impl Drain {
    /// A switch that nobody has thrown.
    pub fn new() -> Self {
        Drain::default()
    }

    /// Throws the switch. May be called again.
    pub fn begin(&self) {
        self.inner.begun.store(true, Relaxed);
        self.inner.begin.cancel();
    }

    /// Whether the switch was thrown.
    pub fn is_begun(&self) -> bool {
        self.inner.begun.load(Relaxed)
    }

    /// Waits until the switch is thrown.
    pub async fn begun(&self) {
        self.inner.begin.cancelled().await;
    }

    /// Throws the switch if nobody has and waits until every acceptor, connection and request has ended. In the last fifth of
    /// the timeout requests are to answer with what is known, and in the last tenth the rest is cut off.
    pub async fn finish(&self, timeout: Duration) -> Drained {
        self.begin();
        self.inner.tasks.close();
        let kept = (timeout / 10).min(CUT_OFF_MAX);
        if tokio::time::timeout(timeout - 2 * kept, self.inner.tasks.wait()).await.is_ok() {
            return Drained { cut_off: 0 };
        }
        self.inner.last_call.cancel();
        if tokio::time::timeout(kept, self.inner.tasks.wait()).await.is_ok() {
            return Drained { cut_off: 0 };
        }
        let cut_off = self.inner.connections.load(Relaxed);
        self.inner.is_cut_off.store(true, Relaxed);
        self.inner.cut_off.cancel();
        // They only have to be polled once more. A worker that is stuck is not waited for.
        let _ = tokio::time::timeout(kept, self.inner.tasks.wait()).await;
        Drained { cut_off }
    }

    /// Cuts off what has not ended yet, before the timeout of [`Drain::finish`].
    pub fn cut_off_now(&self) {
        self.inner.is_cut_off.store(true, Relaxed);
        self.inner.cut_off.cancel();
    }

    /// Waits until a request that waits for somebody else has to answer with what it knows, to be heard at all.
    pub async fn last_call(&self) {
        self.inner.last_call.cancelled().await;
    }

    /// The list of tasks; whoever spawns one enters it here.
    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    /// Whether the deadline of [`Drain::finish`] has passed.
    pub(super) fn is_cut_off(&self) -> bool {
        self.inner.is_cut_off.load(Relaxed)
    }

    /// Waits until the deadline of [`Drain::finish`] has passed.
    pub(super) async fn cut_off(&self) {
        self.inner.cut_off.cancelled().await;
    }

    /// Counts a connection for as long as the guard lives.
    pub(super) fn count_connection(&self) -> impl Drop + Send + use<> {
        self.inner.connections.fetch_add(1, Relaxed);
        Counted(Arc::clone(&self.inner))
    }
}

struct Counted(Arc<Inner>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}
