//! What one request waits for: the deliveries of its records.
//!
//! In: each record as it is handed to a producer, and what became of it. Out: a wait until all are known. Never: made for a request
//! that does not wait.

use std::sync::Mutex;

use tokio::sync::Notify;

use super::Delivery;

/// The deliveries that one request waits for. Made only when a request waits.
#[derive(Debug)]
pub struct BatchState {
    inner: Mutex<Waiting>,
    done: Notify,
}

#[derive(Debug)]
pub(super) struct Waiting {
    /// Index in the request and what became of it.
    settled: Vec<(u32, Delivery)>,
    /// Records handed to a producer and not settled yet.
    open: usize,
    /// The reply was written without them.
    pub(super) is_over: bool,
}

impl Default for BatchState {
    fn default() -> Self {
        let inner = Waiting { settled: Vec::new(), open: 0, is_over: false };
        BatchState { inner: Mutex::new(inner), done: Notify::new() }
    }
}

impl BatchState {
    /// One more record is on its way.
    pub fn expect_one(&self) {
        self.lock().open += 1;
    }

    /// The record at `index` is settled; says whether the reply was written without it.
    pub(super) fn settle(&self, index: u32, delivery: Delivery) -> bool {
        let mut inner = self.lock();
        inner.settled.push((index, delivery));
        inner.open -= 1;
        if inner.open == 0 {
            self.done.notify_one();
        }
        inner.is_over
    }

    /// This much is known of the record at `index`, which is not settled yet.
    pub(super) fn note(&self, index: u32, delivery: Delivery) {
        self.lock().settled.push((index, delivery));
    }

    /// A record that was announced by [`BatchState::expect_one`] was not taken after all.
    pub(super) fn forget_one(&self) {
        let mut inner = self.lock();
        inner.open -= 1;
        if inner.open == 0 {
            self.done.notify_one();
        }
    }

    /// Waits until every record is settled. May be dropped at any time and called again.
    pub async fn settled(&self) {
        loop {
            if self.lock().open == 0 {
                return;
            }
            self.done.notified().await;
        }
    }

    /// What is settled so far, by index in the request; of what is there twice, the later counts.
    pub fn take(&self) -> Vec<(u32, Delivery)> {
        std::mem::take(&mut self.lock().settled)
    }

    /// The same, and what comes later comes too late for the reply.
    pub fn take_last(&self) -> Vec<(u32, Delivery)> {
        let mut inner = self.lock();
        inner.is_over = true;
        std::mem::take(&mut inner.settled)
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.inner.lock().expect("no code panics while it holds this lock")
    }
}
