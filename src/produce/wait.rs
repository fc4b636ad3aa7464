//! Waits for a future on a thread that has no runtime; for warm-up, never for the path of an event.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The future's output, or none when `timeout` passes first. The future must need no timer and no I/O driver.
pub(super) fn wait_for<F: Future>(future: F, timeout: Duration) -> Option<F::Output> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let deadline = Instant::now() + timeout;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        std::thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_future_that_is_never_ready_ends_with_the_timeout() {
        assert_eq!(wait_for(std::future::pending::<()>(), Duration::from_millis(5)), None);
    }

    #[test]
    fn another_thread_wakes_the_wait() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || sender.send(7));
        assert_eq!(wait_for(receiver, Duration::from_secs(10)), Some(Ok(7)));
        thread.join().expect("the thread sends and ends").expect("the receiver is waiting");
    }
}
