//! How long deliveries take.
//!
//! In: the milliseconds from `send` to the acknowledgement, seen by the poll thread. Out: counts in doubling buckets.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Number of buckets: up to 1, 2, 4 ... 131,072 ms, and everything above.
const BUCKETS: usize = 19;

/// Acknowledged records by the time from `send` to their report.
#[derive(Debug, Default)]
pub struct Latency {
    counts: [AtomicU64; BUCKETS],
    sum_ms: AtomicU64,
}

/// What a [`Latency`] held when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencyReading {
    /// Upper bound of each bucket in milliseconds, inclusive, and the records in it alone. The last bound is
    /// `u64::MAX`.
    pub buckets: Vec<(u64, u64)>,
    /// Sum of all times, milliseconds.
    pub sum_ms: u64,
    /// Number of records.
    pub count: u64,
}

impl Latency {
    pub(super) fn record(&self, ms: u32) {
        let bucket = (u32::BITS - ms.saturating_sub(1).leading_zeros()) as usize;
        self.counts[bucket.min(BUCKETS - 1)].fetch_add(1, Relaxed);
        self.sum_ms.fetch_add(u64::from(ms), Relaxed);
    }

    /// The counts as they stand.
    pub fn read(&self) -> LatencyReading {
        let bound = |bucket: usize| if bucket == BUCKETS - 1 { u64::MAX } else { 1 << bucket };
        let buckets: Vec<_> = self.counts.iter().enumerate().map(|(i, n)| (bound(i), n.load(Relaxed))).collect();
        let count = buckets.iter().map(|(_, n)| n).sum();
        LatencyReading { buckets, sum_ms: self.sum_ms.load(Relaxed), count }
    }
}

impl LatencyReading {
    /// The bound of the bucket in which the `share` (0..=1) of all records lies; none without records.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        self.buckets.iter().find_map(|(bound, n)| {
            seen += n;
            (self.count > 0 && seen >= rank).then(|| Duration::from_millis(*bound))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_bucket_that_just_holds_it() {
        for (ms, bound) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (131_072, 131_072), (131_073, u64::MAX)] {
            let latency = Latency::default();
            latency.record(ms);
            let reading = latency.read();
            assert_eq!(reading.buckets.iter().find(|(_, n)| *n == 1).map(|(bound, _)| *bound), Some(bound), "{ms} ms");
            assert_eq!((reading.count, reading.sum_ms), (1, u64::from(ms)));
        }
    }

    #[test]
    fn quantiles_are_upper_bounds() {
        let latency = Latency::default();
        assert_eq!(latency.read().quantile(0.5), None);
        (0..99).for_each(|_| latency.record(3));
        latency.record(900);
        assert_eq!(latency.read().quantile(0.5), Some(Duration::from_millis(4)));
        assert_eq!(latency.read().quantile(0.99), Some(Duration::from_millis(4)));
        assert_eq!(latency.read().quantile(1.0), Some(Duration::from_millis(1_024)));
    }
}
