//! What a slice of a request's events has in common, and whose count the event in hand is in.
//!
//! In: events as they are received and settled. Out: counts on their accounts, each event once. Never: loses one to a panic.

use std::any::Any;
use std::panic;

use super::prepare::Work;
use super::{Ask, Live, Snapshot, Taken, WORK};
use crate::outcome::{Account, Code, EventError, Rejection};

/// What a slice of events has in common, and how far it has come.
pub(super) struct Slice<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) ask: &'s Ask<'s>,
    pub(super) now_ms: u64,
    /// The event type of the last event: a batch is mostly of one, so the name is compared before it is looked up.
    pub(super) last: Option<&'s Live>,
    pub(super) in_hand: InHand<'s>,
}

/// Whose count an event is in.
pub(super) enum InHand<'s> {
    /// There is none.
    Nothing,
    /// Received, and not settled yet.
    Received(&'s Account),
    /// Rejected, or its token answers for it.
    Settled,
}

impl<'s> Slice<'s> {
    pub(super) fn receive(&mut self, account: &'s Account) {
        account.receive();
        self.in_hand = InHand::Received(account);
    }

    /// Rejects the event in hand, if it is not settled.
    pub(super) fn settle(&mut self, code: Code) {
        if let InHand::Received(account) = std::mem::replace(&mut self.in_hand, InHand::Settled) {
            account.reject(code);
        }
    }

    /// The same, and keeps the reason for people.
    pub(super) fn refuse(&mut self, error: &EventError) {
        if let InHand::Received(account) = self.in_hand {
            let Ask { received_ms, door, sender, .. } = *self.ask;
            let sender = sender.map(|sender| sender.name.as_str());
            account.recent.note(|| Rejection::new(error, received_ms, sender, door));
        }
        self.settle(error.code);
    }
}

/// Settles the event in whose course we panicked (the panic hook has logged it), so that neither the ledger nor its sender
/// misses it. What its sender sends again may have been written already.
#[cold]
pub(super) fn after_panic(panic: Box<dyn Any + Send>, slice: &mut Slice<'_>, taken: &mut Taken) {
    if let InHand::Nothing = slice.in_hand {
        // Before an event was received: there is nothing to settle, and no way to go on.
        panic::resume_unwind(panic);
    }
    slice.settle(Code::Internal);
    slice.in_hand = InHand::Nothing;
    WORK.set(Work::default());
    let index = taken.events - 1;
    if taken.results.last().is_none_or(|last| last.index != index) {
        let message = "the proxy failed on this event, which is a bug; its log has more";
        taken.refuse(index, "", EventError::new(Code::Internal, message).into());
    }
}
