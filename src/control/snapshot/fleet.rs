//! Who asks for snapshots, and how many they are.
//!
//! In: polls, by the name that each proxy gives itself. Out: the number of proxies that share the rates. Never: a list without an
//! end: a node remembers as many as there is room for, and forgets those that are gone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::control::store::{ProxySeen, Store, StoreError};

/// A proxy that has not asked for so long is gone.
pub const PRESENT: Duration = Duration::from_secs(30);
/// How often a node says in the store whom it has seen.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Most proxies of one node.
const PROXIES_MAX: usize = 20_000;
/// Longest name.
const NAME_MAX: usize = 64;

/// The proxies that a node knows.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    seen: Mutex<HashMap<String, Seen>>,
    /// There is one that was not there before.
    new: Notify,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Seen {
    /// Polls of it that wait.
    polls: u32,
    last: Instant,
    /// What it says that it has.
    revision: u64,
}

#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    known: usize,
    count: u32,
}

/// A poll under way.
pub(super) struct Visit<'f> {
    fleet: &'f Fleet,
    name: String,
}

impl Fleet {
    /// Notes that a proxy asks; none where there is no room, or the name is none.
    pub(super) fn enter(&self, name: &str, revision: u64) -> Option<Visit<'_>> {
        let is_name = !name.is_empty()
            && name.len() <= NAME_MAX
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if !is_name {
            return None;
        }
        let mut seen = self.seen();
        if !seen.contains_key(name) {
            if seen.len() >= PROXIES_MAX {
                return None;
            }
            self.new.notify_one();
        }
        let entry = seen.entry(name.to_owned()).or_insert(Seen { polls: 0, last: Instant::now(), revision });
        entry.polls += 1;
        entry.last = Instant::now();
        entry.revision = revision;
        Some(Visit { fleet: self, name: name.to_owned() })
    }

    /// Waits until a proxy asks that did not before.
    pub(super) async fn changed(&self) {
        self.new.notified().await;
    }

    /// How many there are, of all nodes; the store is asked now and then only. At least one.
    pub(super) async fn count(&self, store: &Store) -> Result<u32, StoreError> {
        let (seen, known) = {
            let mut seen = self.seen();
            seen.retain(|_, seen| seen.polls > 0 || seen.last.elapsed() < PRESENT);
            let told = self.told();
            let is_due = told.at.is_none_or(|at| at.elapsed() >= TELL_EVERY) || told.known != seen.len();
            if !is_due {
                return Ok(told.count);
            }
            let list: Vec<ProxySeen> = seen
                .iter()
                .map(|(name, seen)| {
                    let waits = seen.polls > 0;
                    let ago = if waits { Duration::ZERO } else { seen.last.elapsed() };
                    ProxySeen { name: name.clone(), ago_ms: ago.as_millis() as i64, revision: seen.revision as i64 }
                })
                .collect();
            (list, seen.len())
        };
        let count = store.note_proxies(&seen, PRESENT.as_millis() as i64).await?;
        let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        *self.told() = Told { at: Some(Instant::now()), known, count };
        Ok(count)
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.seen.lock().expect("no code panics while it holds this lock")
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("no code panics while it holds this lock")
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if let Some(seen) = self.fleet.seen().get_mut(&self.name) {
            seen.polls = seen.polls.saturating_sub(1);
            seen.last = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn proxies_are_counted_once_over_all_nodes_and_forgotten_when_they_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", folder.path().join("s.db").display())).await.unwrap();
        let (one, other) = (Fleet::default(), Fleet::default());
        assert_eq!(one.count(&store).await.unwrap(), 1, "a share of nobody is the whole");
        let a = one.enter("a", 0).unwrap();
        let b = one.enter("b", 0).unwrap();
        assert_eq!(one.count(&store).await.unwrap(), 2);
        let moved = other.enter("b", 0).unwrap();
        let c = other.enter("c", 0).unwrap();
        assert_eq!(other.count(&store).await.unwrap(), 3);
        drop((a, b, moved, c));
        for name in ["", "a b", "a/b", &"x".repeat(65)] {
            assert!(one.enter(name, 0).is_none(), "{name}");
        }
        assert_eq!(store.note_proxies(&[], 0).await.unwrap(), 0, "none within no time");
        store.close().await;
    }
}
