//! A cache with a bound: what came first goes first.

use std::collections::VecDeque;
use std::sync::Mutex;

use dashmap::DashMap;

/// Values by key, up to a total weight in bytes. Values are cheap to clone.
#[derive(Debug)]
pub(super) struct Bounded<V> {
    entries: DashMap<String, (V, usize)>,
    order: Mutex<Order>,
    weight_max: usize,
}

#[derive(Debug, Default)]
struct Order {
    keys: VecDeque<String>,
    weight: usize,
}

/// What an entry costs beside its value: two keys and the tables' slots, roughly.
const ENTRY_BYTES: usize = 256;

impl<V: Clone> Bounded<V> {
    pub fn new(weight_max: usize) -> Self {
        Bounded { entries: DashMap::new(), order: Mutex::default(), weight_max }
    }

    pub fn get(&self, key: &str) -> Option<V> {
        self.entries.get(key).map(|entry| entry.0.clone())
    }

    /// Adds or replaces a value of so many bytes, and drops the oldest ones until all fit.
    pub fn insert(&self, key: String, value: V, bytes: usize) {
        let weight = bytes + key.len() + ENTRY_BYTES;
        let mut order = self.order.lock().expect("no code panics while it holds this lock");
        match self.entries.insert(key.clone(), (value, weight)) {
            Some((_, replaced)) => order.weight -= replaced,
            None => order.keys.push_back(key),
        }
        order.weight += weight;
        while order.weight > self.weight_max {
            let Some(oldest) = order.keys.pop_front() else { break };
            if let Some((_, (_, dropped))) = self.entries.remove(&oldest) {
                order.weight -= dropped;
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_the_bound_is_reached() {
        let cache = Bounded::new(10 * (ENTRY_BYTES + 110));
        for n in 0..1_000 {
            cache.insert(format!("{n:010}"), n, 100);
            assert!(cache.len() <= 10);
        }
        assert_eq!(cache.get("0000000989"), None);
        assert_eq!(cache.get("0000000999"), Some(999));
    }

    #[test]
    fn a_replaced_value_is_weighed_once() {
        let cache = Bounded::new(2 * (ENTRY_BYTES + 101));
        cache.insert("a".to_owned(), 1, 100);
        for n in 0..100 {
            cache.insert("b".to_owned(), n, 100);
        }
        assert_eq!((cache.get("a"), cache.get("b")), (Some(1), Some(99)));
    }

    #[test]
    fn what_is_larger_than_the_cache_is_not_kept() {
        let cache = Bounded::new(1_000);
        cache.insert("a".to_owned(), 1, 2_000);
        assert_eq!(cache.get("a"), None);
    }
}
