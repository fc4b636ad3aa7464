//! Which keys come so often that one partition would have to take them all.
//!
//! In: a key, and the second in which its event was received. Out: whether it came more often in that second than it may. Never: a
//! key kept, a lock, or more memory than at first: keys are counted in a fixed sketch, which may count too much for a key that
//! shares its cells with others, and never too little.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Cells of each row. A key is counted too high only where both its cells are shared with others.
const CELLS: usize = 2_048;
const ROWS: usize = 2;

/// The keys of an event type, counted by the second (a count-min sketch).
#[derive(Debug)]
pub struct HotKeys {
    events_per_second: u32,
    /// Keyed: senders choose the keys.
    hasher: RandomState,
    /// The second in the upper half, the count in the lower one.
    rows: [Box<[AtomicU64]>; ROWS],
}

impl HotKeys {
    /// Keys that come more often than this in one second are hot for the rest of it.
    pub fn new(events_per_second: u32) -> Self {
        let row = |_| (0..CELLS).map(|_| AtomicU64::new(0)).collect();
        HotKeys { events_per_second, hasher: RandomState::new(), rows: std::array::from_fn(row) }
    }

    /// Counts the key; says whether it is hot. `now_ms` is since 1970.
    pub fn is_hot(&self, key: &[u8], now_ms: u64) -> bool {
        let second = now_ms / 1_000;
        let hash = self.hasher.hash_one(key);
        // The halves of a good hash are as good as two.
        let cells = [hash as u32, (hash >> 32) as u32].map(|half| half as usize % CELLS);
        let counts = self.rows.iter().zip(cells).map(|(row, cell)| count(&row[cell], second as u32));
        counts.min().unwrap_or(0) > self.events_per_second
    }
}

/// Counts one more in this second.
fn count(cell: &AtomicU64, second: u32) -> u32 {
    let next = |held: u64| {
        let (held_second, count) = ((held >> 32) as u32, held as u32);
        let count = if held_second == second { count.saturating_add(1) } else { 1 };
        u64::from(second) << 32 | u64::from(count)
    };
    let before = cell.fetch_update(Relaxed, Relaxed, |held| Some(next(held)));
    next(before.unwrap_or(0)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hot_from_the_event_on_that_is_one_too_many_and_until_the_second_is_over() {
        let keys = HotKeys::new(3);
        let hot = |key: &[u8], now_ms| keys.is_hot(key, now_ms);
        assert_eq!([0; 5].map(|_| hot(b"a", 5_000)), [false, false, false, true, true]);
        assert!(!hot(b"b", 5_999) && !hot(b"", 5_999), "other keys are not");
        assert!(hot(b"a", 5_999));
        assert!(!hot(b"a", 6_000));
    }

    #[test]
    fn many_cold_keys_do_not_make_each_other_hot() {
        let keys = HotKeys::new(20);
        let hot = (0..4_000_u32).filter(|key| keys.is_hot(&key.to_le_bytes(), 1_000)).count();
        assert_eq!(hot, 0, "about two keys share a cell");
    }

    #[test]
    fn threads_count_together() {
        let keys = HotKeys::new(1_000);
        let hot: usize = std::thread::scope(|scope| {
            let count = || (0..1_000).filter(|_| keys.is_hot(b"a", 1_000)).count();
            let threads = [(); 4].map(|()| scope.spawn(count));
            threads.into_iter().map(|thread| thread.join().expect("it only counts")).sum()
        });
        // Two that count at once may pass each other between the rows, and each then sees the lower count of both: at the limit one
        // of them counts as cold for each other thread.
        assert!((2_997..=3_000).contains(&hot), "{hot}");
        assert!(keys.is_hot(b"a", 1_000), "none is lost");
    }
}
