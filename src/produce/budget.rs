//! The byte budget of one client.
//!
//! In: what each record takes. Out: whether there is room, how many bytes and records are held. Never: waits.
//!
//! librdkafka's own limit counts neither headers nor its overhead (measured: 2.9 times its limit in memory), so it is
//! set out of reach and this one decides.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Bytes, records and the closed flag in one word, so that a sender needs one atomic addition and a stop cannot miss a
/// record: whoever added before the flag was set is seen by the stop, whoever came after sees the flag.
#[derive(Debug)]
pub(super) struct Budget {
    /// Bit 63: closed. Bits 36..63: records. Bits 0..36: bytes.
    held: AtomicU64,
    bytes_max: u64,
}

const CLOSED: u64 = 1 << 63;
const RECORD: u64 = 1 << 36;
const BYTES: u64 = RECORD - 1;

/// Why a record does not get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    Full,
    /// The event type's own share is taken.
    ShareFull,
    /// The leader of its partition owes too much already, or each that it may go to does.
    LeaderFull,
    Closed,
}

impl Budget {
    /// The largest limit that leaves room in the word for what many threads add at once before they take it back.
    pub(super) const BYTES_MAX: u64 = 1 << 34;

    pub(super) fn new(bytes_max: usize) -> Self {
        Budget { held: AtomicU64::new(0), bytes_max: (bytes_max as u64).min(Self::BYTES_MAX) }
    }

    /// Takes room for a record, or says why there is none. The bytes that were held before.
    pub(super) fn take(&self, cost_bytes: u32) -> Result<u64, NoRoom> {
        let before = self.held.fetch_add(RECORD + u64::from(cost_bytes), SeqCst);
        let refusal = if before & CLOSED != 0 {
            NoRoom::Closed
        } else if (before & BYTES) + u64::from(cost_bytes) > self.bytes_max {
            NoRoom::Full
        } else {
            return Ok(before & BYTES);
        };
        self.give_back(cost_bytes);
        Err(refusal)
    }

    /// Gives back what a record took.
    pub(super) fn give_back(&self, cost_bytes: u32) {
        self.give_back_all(1, u64::from(cost_bytes));
    }

    /// Gives back what so many records took together.
    pub(super) fn give_back_all(&self, records: u64, bytes: u64) {
        self.held.fetch_sub(records * RECORD + bytes, SeqCst);
    }

    /// Lets no record in any more.
    pub(super) fn close(&self) {
        self.held.fetch_or(CLOSED, SeqCst);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.held.load(SeqCst) & CLOSED != 0
    }

    pub(super) fn records(&self) -> u64 {
        (self.held.load(SeqCst) & !CLOSED) / RECORD
    }

    pub(super) fn bytes(&self) -> u64 {
        self.held.load(SeqCst) & BYTES
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_takes_nothing() {
        let budget = Budget::new(1000);
        assert_eq!(budget.take(1001), Err(NoRoom::Full));
        assert_eq!((budget.records(), budget.bytes()), (0, 0));
        assert_eq!(budget.take(600), Ok(0));
        assert_eq!(budget.take(401), Err(NoRoom::Full));
        assert_eq!(budget.take(400), Ok(600));
        assert_eq!((budget.records(), budget.bytes()), (2, 1000));
        budget.give_back(600);
        assert_eq!((budget.records(), budget.bytes()), (1, 400));
    }

    #[test]
    fn a_closed_budget_lets_nothing_in_and_still_counts_what_it_holds() {
        let budget = Budget::new(1000);
        assert_eq!(budget.take(10), Ok(0));
        budget.close();
        assert_eq!(budget.take(1), Err(NoRoom::Closed));
        assert_eq!((budget.records(), budget.bytes()), (1, 10));
        budget.give_back(10);
        assert_eq!((budget.records(), budget.bytes()), (0, 0));
        budget.close();
        assert_eq!(budget.take(1), Err(NoRoom::Closed));
    }

    #[test]
    fn threads_never_hold_more_than_the_limit_and_give_everything_back() {
        let budget = Budget::new(5_000);
        std::thread::scope(|scope| {
            for cost in [100, 700, 1_300] {
                let budget = &budget;
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        if budget.take(cost).is_ok() {
                            budget.give_back(cost);
                        }
                    }
                });
            }
        });
        assert_eq!((budget.records(), budget.bytes()), (0, 0));
    }
}
