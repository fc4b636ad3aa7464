//! How long the oldest record of a client has been waiting for its report.
//!
//! In: when each record was sent and settled. Out: an upper bound of the oldest one's age. Never: a list of records.
//! Retriable errors stay inside librdkafka until the record times out, so this age is the first sign of a sick cluster.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Milliseconds since a client was started, in 32 bits: differences are right for 49 days.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Clock(Instant::now())
    }

    #[allow(clippy::cast_possible_truncation, reason = "wrapping is the point: readers subtract with wrapping")]
    pub(super) fn now_ms(self) -> u32 {
        self.0.elapsed().as_millis() as u32
    }
}

const SLOTS: u32 = 64;

/// Records not yet settled, counted by the slice of time in which they were sent.
#[derive(Debug)]
pub(super) struct Ages {
    open: [AtomicU32; SLOTS as usize],
    /// A slice is `1 << shift` milliseconds.
    shift: u32,
}

impl Ages {
    /// Slices wide enough that all of them cover twice the time librdkafka keeps a record. A record that outlives even
    /// that is reported as younger than it is.
    pub(super) fn new(message_timeout: Duration) -> Self {
        let slice_ms = (message_timeout.as_millis() * 2 / u128::from(SLOTS)).clamp(64, 1 << 20);
        let shift = u128::BITS - (slice_ms - 1).leading_zeros();
        Ages { open: std::array::from_fn(|_| AtomicU32::new(0)), shift }
    }

    pub(super) fn add(&self, sent_ms: u32) {
        self.slot(sent_ms >> self.shift).fetch_add(1, Relaxed);
    }

    pub(super) fn remove(&self, sent_ms: u32) {
        self.slot(sent_ms >> self.shift).fetch_sub(1, Relaxed);
    }

    /// The oldest record's age, at most one slice too old; none when nothing is open.
    pub(super) fn oldest(&self, now_ms: u32) -> Option<Duration> {
        let now_slice = now_ms >> self.shift;
        let back = (0..SLOTS).rev().find(|back| self.slot(now_slice.wrapping_sub(*back)).load(Relaxed) > 0)?;
        let into_slice_ms = now_ms & ((1 << self.shift) - 1);
        Some(Duration::from_millis(u64::from(into_slice_ms) + (u64::from(back) << self.shift)))
    }

    fn slot(&self, slice: u32) -> &AtomicU32 {
        &self.open[(slice % SLOTS) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sent: &[u32], settled: &[u32], now_ms: u32, oldest_ms: Option<u64>) {
        let ages = Ages::new(Duration::from_secs(30));
        sent.iter().for_each(|ms| ages.add(*ms));
        settled.iter().for_each(|ms| ages.remove(*ms));
        assert_eq!(ages.oldest(now_ms), oldest_ms.map(Duration::from_millis), "{sent:?} {settled:?} {now_ms}");
    }

    #[test]
    fn the_oldest_open_record_decides() {
        check(&[], &[], 5, None);
        check(&[5], &[5], 5, None);
        check(&[0], &[], 1_000, Some(1_000));
        check(&[0, 30_000], &[], 31_000, Some(31_000));
        check(&[0, 30_000], &[0], 31_000, Some(31_000 - 29 * 1_024));
        check(&[1_023], &[], 1_024, Some(1_024));
        check(&[0], &[], 64 * 1_024 - 1, Some(64 * 1_024 - 1));
    }

    #[test]
    fn the_clock_may_wrap() {
        check(&[u32::MAX - 10], &[], 4, Some(1_024 + 4));
        check(&[u32::MAX - 10], &[u32::MAX - 10], 4, None);
    }
}
