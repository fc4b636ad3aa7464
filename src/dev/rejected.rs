//! The last events and requests that the proxy refused, for `GET /dev/rejected`.
//!
//! In: rejections, told by the proxy. Out: the last 1,000 of them. Never: a payload or an envelope's value but the id.

use std::collections::VecDeque;
use std::sync::Mutex;

use serde::Serialize;

use crate::outcome::Code;

/// Rejections that are kept.
const KEPT: usize = 1_000;

/// One event, or one whole request, that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// Event name; empty when it could not be read.
    pub event: String,
    /// The event's id, as far as it is known.
    pub id: String,
    /// Why, from the closed set.
    pub code: &'static str,
    /// Why, for people.
    pub message: String,
}

/// The last rejections. Shared with the proxy.
#[derive(Debug, Default)]
pub struct Rejected {
    ring: Mutex<VecDeque<Rejection>>,
}

impl Rejected {
    /// Remembers one.
    pub fn note(&self, event: &str, id: &str, code: Code, message: &str) {
        let mut ring = self.ring.lock().expect("no code panics while it holds this lock");
        if ring.len() == KEPT {
            ring.pop_front();
        }
        let (event, id, message) = (event.to_owned(), id.to_owned(), message.to_owned());
        ring.push_back(Rejection { event, id, code: code.as_str(), message });
    }

    /// Those that are remembered, oldest first.
    pub fn list(&self) -> Vec<Rejection> {
        self.ring.lock().expect("no code panics while it holds this lock").iter().cloned().collect()
    }

    /// Forgets them.
    pub fn reset(&self) {
        self.ring.lock().expect("no code panics while it holds this lock").clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_rejection_makes_room() {
        let rejected = Rejected::default();
        for n in 0..=KEPT {
            rejected.note("e", &n.to_string(), Code::UnknownField, "m");
        }
        let list = rejected.list();
        assert_eq!((list.len(), list[0].id.as_str()), (KEPT, "1"));
        rejected.reset();
        assert!(rejected.list().is_empty());
    }
}
