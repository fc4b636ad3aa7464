//! The last rejections of an event type, for people who look for the cause.
//!
//! In: rejections as they happen. Out: the last of them. Never: waits (one that comes while another is noted is left out: there are
//! plenty then), a payload's value, more memory than [`EACH_MAX`] rejections of each account and [`ALL_MAX`] of all.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::{Code, EventError};

/// Rejections that are kept of each account.
pub const EACH_MAX: usize = 100;
/// Rejections that are kept of all accounts of a ledger: 8 MB at most.
pub const ALL_MAX: usize = 20_000;
/// Most bytes of a message.
const MESSAGE_BYTES_MAX: usize = 300;

/// A rejection as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// When the event was received, milliseconds since 1970.
    pub received_ms: u64,
    /// Why.
    pub code: Code,
    /// What was wrong where: the JSON path or field, the limit; cut off after 300 bytes.
    pub message: Box<str>,
    /// Who sent it, if that is known.
    pub sender: Option<Box<str>>,
    /// The door by which it came.
    pub door: &'static str,
}

impl Rejection {
    /// A rejection for this reason.
    pub fn new(error: &EventError, received_ms: u64, sender: Option<&str>, door: &'static str) -> Rejection {
        let end = error.message.floor_char_boundary(MESSAGE_BYTES_MAX);
        let (code, message, sender) = (error.code, error.message[..end].into(), sender.map(Into::into));
        Rejection { received_ms, code, message, sender, door }
    }
}

/// The last rejections of one account.
#[derive(Debug, Default)]
pub struct Recent {
    kept: Mutex<VecDeque<Rejection>>,
    /// How many are kept of all accounts.
    of_all: Arc<AtomicUsize>,
}

impl Recent {
    /// None yet, beside those of others.
    pub(super) fn beside(of_all: &Arc<AtomicUsize>) -> Recent {
        Recent { kept: Mutex::default(), of_all: Arc::clone(of_all) }
    }

    /// Keeps a rejection; where there is no room, in the place of the oldest of the same account.
    pub fn note(&self, make: impl FnOnce() -> Rejection) {
        let Ok(mut kept) = self.kept.try_lock() else { return };
        let is_full = kept.len() >= EACH_MAX
            || self.of_all.fetch_update(Relaxed, Relaxed, |all| (all < ALL_MAX).then_some(all + 1)).is_err();
        if is_full && kept.pop_front().is_none() {
            return;
        }
        kept.push_back(make());
    }

    /// Those that are kept, the newest first.
    pub fn read(&self) -> Vec<Rejection> {
        let kept = self.kept.lock().expect("no code panics while it holds this lock");
        kept.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(number: u64) -> Rejection {
        Rejection::new(&EventError::new(Code::InvalidPayload, "wrong"), number, None, "events")
    }

    fn numbers(recent: &Recent) -> Vec<u64> {
        recent.read().iter().map(|rejection| rejection.received_ms).collect()
    }

    #[test]
    fn the_last_ones_are_kept_the_newest_first() {
        let recent = Recent::default();
        (0..250).for_each(|number| recent.note(|| rejection(number)));
        assert_eq!(numbers(&recent), (150..250).rev().collect::<Vec<_>>());
    }

    #[test]
    fn all_together_are_bounded_and_whoever_has_some_keeps_the_newest() {
        let of_all = Arc::new(AtomicUsize::new(ALL_MAX - 2));
        let (one, other) = (Recent::beside(&of_all), Recent::beside(&of_all));
        (0..5).for_each(|number| one.note(|| rejection(number)));
        other.note(|| rejection(7));
        assert_eq!((numbers(&one), numbers(&other)), (vec![4, 3], vec![]));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let error = EventError::new(Code::UnknownEvent, "ü".repeat(200) + "x");
        let message = Rejection::new(&error, 0, Some("shop"), "event").message;
        assert_eq!(&*message, "ü".repeat(150));
        let error = EventError::new(Code::UnknownEvent, "x".to_owned() + &"ü".repeat(200));
        assert_eq!(Rejection::new(&error, 0, None, "event").message.len(), 299);
    }
}
