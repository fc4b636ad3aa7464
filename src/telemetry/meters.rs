//! Counters of the HTTP doors.
//!
//! In: requests as they are answered, connections as they come and go. Out: readings at the moment of a scrape, and live
//! observations of durations. Never: a lock or a look-up by name per request; whoever counts holds its [`Door`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::Histogram;

use super::export;
use super::metrics::{HTTP_REQUEST_DURATION, HTTP_REQUEST_EVENTS};
use crate::outcome::Code;

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
    /// Connections accepted.
    pub connections_accepted: AtomicU64,
    /// Those whose TLS handshake failed.
    pub tls_failed: AtomicU64,
    /// Bytes of bodies being read or worked on, and of replies being written.
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
            results: std::array::from_fn(|_| AtomicU64::new(0)),
            refusals: std::array::from_fn(|_| AtomicU64::new(0)),
            duration: export::histogram(&HTTP_REQUEST_DURATION, &[name]),
            events: export::histogram(&HTTP_REQUEST_EVENTS, &[name]),
        });
        doors.push(Arc::clone(&door));
        door
    }

    /// All doors that were asked for.
    pub fn doors(&self) -> Vec<Arc<Door>> {
        self.doors.lock().expect("no code panics while it holds this lock").clone()
    }
}

/// The replies of one door. How long they took is observed for the whole process: see [`export::histogram`].
#[derive(Debug)]
pub struct Door {
    /// Its name, the label.
    pub name: &'static str,
    /// Replies by HTTP status, from 100.
    statuses: [AtomicU64; STATUSES],
    /// What replies said of events.
    results: [AtomicU64; Code::ALL.len()],
    /// Requests refused whole.
    refusals: [AtomicU64; Code::ALL.len()],
    duration: Histogram,
    events: Histogram,
}

const STATUSES: usize = 500;

impl Door {
    /// Counts a reply. A status outside 100..=599 counts as 599: none of ours.
    pub fn record(&self, status: u16, duration: Duration) {
        let index = usize::from(status).wrapping_sub(100).min(STATUSES - 1);
        self.statuses[index].fetch_add(1, Relaxed);
        self.duration.record(duration);
    }

    /// Counts a request whose events were taken.
    pub fn take(&self, events: u32) {
        self.events.record(f64::from(events));
    }

    /// Counts events that a reply says so of.
    pub fn tell(&self, code: Code, events: u64) {
        self.results[code.index()].fetch_add(events, Relaxed);
    }

    /// Counts a request that is refused whole.
    pub fn refuse(&self, code: Code) {
        self.refusals[code.index()].fetch_add(1, Relaxed);
    }

    /// What replies said of events, those codes that happened.
    pub fn results(&self) -> impl Iterator<Item = (Code, u64)> + '_ {
        by_code(&self.results)
    }

    /// Requests refused whole, those codes that happened.
    pub fn refusals(&self) -> impl Iterator<Item = (Code, u64)> + '_ {
        by_code(&self.refusals)
    }

    /// Replies by status, those that happened.
    pub fn replies(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let counts = self.statuses.iter().map(|count| count.load(Relaxed));
        (100..).zip(counts).filter(|(_, count)| *count > 0)
    }
}

fn by_code(counts: &[AtomicU64; Code::ALL.len()]) -> impl Iterator<Item = (Code, u64)> + '_ {
    Code::ALL.iter().zip(counts).map(|(code, n)| (*code, n.load(Relaxed))).filter(|(_, n)| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

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
