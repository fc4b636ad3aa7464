//! How many events of an event type are in memory, and the bytes that they take, in one word.
//!
//! In: each event with its cost. Out: both sums. Never: more than one atomic addition an event.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Events and their bytes in one word: what an event costs to count stays one addition.
#[derive(Debug, Default)]
pub struct InMemory(AtomicU64);

/// Bits 36..64: events. Bits 0..36: bytes. A client's budget ends at 2^34 bytes.
const ONE_IN_MEMORY: u64 = 1 << 36;

impl InMemory {
    pub(super) fn add(&self, cost_bytes: u32) {
        self.0.fetch_add(ONE_IN_MEMORY + u64::from(cost_bytes), Relaxed);
    }

    pub(super) fn remove(&self, cost_bytes: u32) {
        self.0.fetch_sub(ONE_IN_MEMORY + u64::from(cost_bytes), Relaxed);
    }

    pub(super) fn take_events(&self) -> u64 {
        self.0.swap(0, Relaxed) / ONE_IN_MEMORY
    }

    /// Number of events.
    pub fn events(&self) -> u64 {
        self.0.load(Relaxed) / ONE_IN_MEMORY
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> u64 {
        self.0.load(Relaxed) % ONE_IN_MEMORY
    }
}
