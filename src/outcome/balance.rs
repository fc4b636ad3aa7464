//! A reading of the counts of events, and the law that holds between them.
//!
//! In: the numbers of one account, or of several. Out: their sum, and whether every event is accounted for. Never: changes a count.

/// A reading of an [`Account`](super::Account); all numbers are events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of `Account`")]
pub struct Balance {
    pub received: u64,
    pub recovered: u64,
    pub delivered: u64,
    pub rejected: u64,
    pub failed: u64,
    pub lost: u64,
    pub in_memory: u64,
    pub in_spool: u64,
}

impl Balance {
    /// The ledger law: every event that came in is accounted for, and none is lost.
    pub fn holds(&self) -> bool {
        self.received + self.recovered
            == self.delivered + self.rejected + self.failed + self.lost + self.in_memory + self.in_spool
            && self.lost == 0
    }

    /// The sum of two readings.
    pub fn plus(self, other: Balance) -> Balance {
        Balance {
            received: self.received + other.received,
            recovered: self.recovered + other.recovered,
            delivered: self.delivered + other.delivered,
            rejected: self.rejected + other.rejected,
            failed: self.failed + other.failed,
            lost: self.lost + other.lost,
            in_memory: self.in_memory + other.in_memory,
            in_spool: self.in_spool + other.in_spool,
        }
    }
}
