//! Counters of the HTTP doors.
//!
//! In: requests as they are answered, connections as they come and go. Out: readings at the moment of a scrape. Never: a
//! lock or a look-up by name per request; whoever counts holds its [`Door`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::export::Buckets;

/// The numbers of the doors' listener. Shared by all its threads.
#[derive(Debug, Default)]
pub struct HttpMeters {
    doors: Mutex<Vec<Arc<Door>>>,
    /// Open connections.
    pub connections: AtomicU64,
    /// Most of them.
    pub connections_max: AtomicU64,
    /// Connections refused because there were too many.
    pub connections_refused: AtomicU64,
    /// Bytes of bodies being read or worked on.
    pub in_flight_bytes: AtomicU64,
    /// Most of them.
    pub in_flight_bytes_max: AtomicU64,
}

impl HttpMeters {
    /// The door with this name, made at first use. Ask once and keep it.
    pub fn door(&self, name: &'static str) -> Arc<Door> {
        let mut doors = self.doors.lock().expect("no code panics while it holds this lock");
        if let Some(door) = doors.iter().find(|door| door.name == name) {
            return Arc::clone(door);
        }
        let door = Arc::new(Door {
            name,
            statuses: std::array::from_fn(|_| AtomicU64::new(0)),
            duration: Histogram::default(),
        });
        doors.push(Arc::clone(&door));
        door
    }

    /// All doors that were asked for.
    pub fn doors(&self) -> Vec<Arc<Door>> {
        self.doors.lock().expect("no code panics while it holds this lock").clone()
    }
}

/// The replies of one door.
#[derive(Debug)]
pub struct Door {
    /// Its name, the label.
    pub name: &'static str,
    /// Replies by HTTP status, from 100.
    statuses: [AtomicU64; STATUSES],
    duration: Histogram,
}

const STATUSES: usize = 500;

impl Door {
    /// Counts a reply. A status outside 100..=599 counts as 599: none of ours.
    pub fn record(&self, status: u16, duration: Duration) {
        let index = usize::from(status).wrapping_sub(100).min(STATUSES - 1);
        self.statuses[index].fetch_add(1, Relaxed);
        self.duration.record(duration);
    }

    /// Replies by status, those that happened.
    pub fn replies(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let counts = self.statuses.iter().map(|count| count.load(Relaxed));
        (100..).zip(counts).filter(|(_, count)| *count > 0)
    }

    /// How long they took.
    pub fn duration(&self) -> Buckets {
        self.duration.read()
    }
}

/// Upper bounds of the buckets, microseconds: from a reply out of memory to the longest wait for an acknowledgement.
const BOUNDS_US: [u64; 16] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000,
];

/// Durations counted in fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS_US.len()],
    above: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.counts.get(bucket).unwrap_or(&self.above).fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// The counts as they stand, in seconds.
    pub fn read(&self) -> Buckets {
        let seconds = |us: u64| us as f64 / 1e6;
        let buckets: Vec<_> =
            BOUNDS_US.iter().zip(&self.counts).map(|(us, count)| (seconds(*us), count.load(Relaxed))).collect();
        // The number is the sum of what was read, so that the last bucket is never less than the one before it.
        let count = buckets.iter().map(|(_, count)| count).sum::<u64>() + self.above.load(Relaxed);
        Buckets { buckets, sum: seconds(self.sum_us.load(Relaxed)), count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_that_just_holds_it() {
        for (us, bound) in [
            (0, Some(0.00025)),
            (250, Some(0.00025)),
            (251, Some(0.0005)),
            (30_000_000, Some(30.0)),
            (30_000_001, None),
        ] {
            let histogram = Histogram::default();
            histogram.record(Duration::from_micros(us));
            let reading = histogram.read();
            let found = reading.buckets.iter().find(|(_, count)| *count == 1).map(|(bound, _)| *bound);
            assert_eq!(found, bound, "{us} us");
            assert_eq!((reading.count, reading.sum), (1, us as f64 / 1e6));
        }
    }

    #[test]
    fn a_door_counts_by_status_and_no_status_panics() {
        let meters = HttpMeters::default();
        let door = meters.door("events");
        for status in [0, 99, 100, 202, 202, 503, 599, 600, u16::MAX] {
            meters.door("events").record(status, Duration::ZERO);
        }
        assert_eq!(door.replies().collect::<Vec<_>>(), [(100, 1), (202, 2), (503, 1), (599, 5)]);
        assert_eq!(meters.doors().len(), 1);
    }
}
