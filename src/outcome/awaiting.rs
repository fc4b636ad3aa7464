//! What a request is told that waits longer than its record is in memory.
//!
//! In: what became of a record. Out: a request that knows it, or a count of what came too late for its reply. Never: waits.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{Account, BatchState, Delivery, Tracked};

/// A request that waits for what Kafka says of a record that is on disk. It knows that much; dropped, it learns nothing more.
#[derive(Debug)]
pub struct Awaiting {
    account: Arc<Account>,
    batch: Arc<BatchState>,
    index: u32,
}

impl Awaiting {
    /// Tells the request what became of the record.
    pub fn settle(self, delivery: Delivery) {
        tell(&self.account, &self.batch, self.index, delivery);
    }

    /// Whether its reply was written without it.
    pub fn is_over(&self) -> bool {
        self.batch.lock().is_over
    }
}

impl Tracked {
    /// Counts the record as on disk and tells its request, or returns what the request goes on waiting for.
    #[allow(clippy::boxed_local, reason = "it lives in a box, as for librdkafka")]
    pub fn settle_on_disk(mut self: Box<Self>) -> Option<Awaiting> {
        if !self.awaits_kafka || self.batch.is_none() || self.given_up.is_some() {
            self.settle(Delivery::Spooled);
            return None;
        }
        self.open = false;
        self.end_span(Delivery::Spooled);
        self.leave_memory();
        self.account.in_spool.fetch_add(1, Relaxed);
        let batch = self.batch.take()?;
        batch.note(self.index, Delivery::Spooled);
        Some(Awaiting { account: Arc::clone(&self.account), batch, index: self.index })
    }
}

/// Tells a request what became of a record, and counts it if that comes too late.
pub(super) fn tell(account: &Account, batch: &BatchState, index: u32, delivery: Delivery) {
    if batch.settle(index, delivery) {
        account.late.fetch_add(1, Relaxed);
    }
}
