//! `/ledger`: what became of every event since this process started, as JSON for people and programs.
//!
//! In: the accounts. Out: a [`Statement`], which `iguazu audit` reads back. Never: counts anything itself, stops events to read
//! them: while events move, an account is read again until its numbers belong together.
//!
//! ```json
//! {
//!   "format": 1, "version": "0.1.0", "started": "2026-01-01T00:00:00Z", "at": "2026-01-01T00:01:00.5Z", "holds": true,
//!   "total": {"received": 9, "recovered": 0, "delivered": 7, "rejected": 1, "failed": 0, "lost": 0, "in_memory": 1, "in_spool": 0},
//!   "event_types": [
//!     {"event": "a", "cluster": "core", "holds": true, "moving": false, "received": 9, "recovered": 0, "delivered": 7,
//!      "rejected": 1, "failed": 0, "lost": 0, "in_memory": 1, "in_spool": 0,
//!      "rejected_by": {"invalid_payload": 1}, "failed_by": {}}
//!   ]
//! }
//! ```
//!
//! All numbers are events. `recovered` is what was found in the spool at the start: what an earlier process received. `holds` is
//! the law, `received + recovered = delivered + rejected + failed + lost + in_memory + in_spool` and `lost = 0`. Where events
//! moved during every reading, `moving` is true, and `holds` says of such an account only that nothing is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::envelope::time;
use crate::outcome::{Account, Balance, Code, Ledger};

/// The version of the JSON's shape.
pub const FORMAT: u32 = 1;
/// How often an account is read again whose numbers do not belong together, because events moved meanwhile, and the pause before.
const READINGS_MAX: usize = 50;
const PAUSE: Duration = Duration::from_millis(2);
/// The pauses of all accounts together.
const PATIENCE: Duration = Duration::from_millis(200);

/// The ledger and since when it has been kept.
#[derive(Debug)]
pub struct Books {
    ledger: Arc<Ledger>,
    started: SystemTime,
}

/// What `/ledger` serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// [`FORMAT`].
    pub format: u32,
    /// The version of the program.
    pub version: String,
    /// When the process started, RFC 3339: everything is counted from then on.
    pub started: String,
    /// When this was read, RFC 3339.
    pub at: String,
    /// Whether the law holds for every account.
    pub holds: bool,
    /// The sum over all accounts.
    pub total: Counts,
    /// The accounts, by event name and cluster; that of unknown names last.
    pub event_types: Vec<AccountStatement>,
}

/// One account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountStatement {
    /// Event name, or `(unknown)`.
    pub event: String,
    /// The cluster that the event type is mapped to, or `(none)`.
    pub cluster: String,
    /// Whether the law holds; where events are moving, whether nothing is lost.
    pub holds: bool,
    /// Whether events moved during every reading, so that the numbers are not of one moment.
    pub moving: bool,
    /// The numbers.
    #[serde(flatten)]
    pub counts: Counts,
    /// Rejections by code, those that happened.
    pub rejected_by: BTreeMap<String, u64>,
    /// Failures after acceptance by code, those that happened.
    pub failed_by: BTreeMap<String, u64>,
}

/// The numbers of the law; all are events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of `outcome::Account`")]
pub struct Counts {
    pub received: u64,
    pub recovered: u64,
    pub delivered: u64,
    pub rejected: u64,
    pub failed: u64,
    pub lost: u64,
    pub in_memory: u64,
    pub in_spool: u64,
}

impl Books {
    /// The books of a process that starts now.
    pub fn open(ledger: Arc<Ledger>) -> Books {
        Books { ledger, started: SystemTime::now() }
    }

    /// Everything as it stands.
    pub fn statement(&self) -> Statement {
        // However many accounts there are, and however busy they are.
        let patience = Instant::now() + PATIENCE;
        let pause = || match Instant::now() < patience {
            true => std::thread::sleep(PAUSE),
            false => std::hint::spin_loop(),
        };
        let event_types: Vec<_> =
            self.ledger.accounts().iter().map(|account| AccountStatement::of(account, pause)).collect();
        let total = event_types.iter().fold(Balance::default(), |sum, account| sum.plus(account.counts.into()));
        Statement {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: rfc3339(self.started),
            at: rfc3339(SystemTime::now()),
            holds: event_types.iter().all(|account| account.holds),
            total: total.into(),
            event_types,
        }
    }
}

impl AccountStatement {
    fn of(account: &Account, pause: impl FnMut()) -> AccountStatement {
        let (balance, moving) = read(|| account.read(), pause);
        let by_code = |counts: &mut dyn Iterator<Item = (Code, u64)>| {
            counts.map(|(code, count)| (code.as_str().to_owned(), count)).collect()
        };
        AccountStatement {
            event: account.event.clone(),
            cluster: account.cluster.clone(),
            holds: balance.holds() || (moving && balance.lost == 0),
            moving,
            counts: balance.into(),
            rejected_by: by_code(&mut account.rejections()),
            failed_by: by_code(&mut account.failures()),
        }
    }
}

/// A reading whose numbers belong together, and false; or the last one of many in which they did not because events moved, and
/// true. A worker that waits for its turn on a busy machine is between two counts for a while, so that a difference means
/// something only when it stays.
fn read(mut reading: impl FnMut() -> Balance, mut pause: impl FnMut()) -> (Balance, bool) {
    let mut last = reading();
    let mut moving = false;
    for _ in 0..READINGS_MAX {
        if last.holds() || last.lost > 0 {
            return (last, false);
        }
        pause();
        let next = reading();
        moving |= next != last;
        last = next;
    }
    (last, moving)
}

impl From<Balance> for Counts {
    fn from(balance: Balance) -> Self {
        let Balance { received, recovered, delivered, rejected, failed, lost, in_memory, in_spool } = balance;
        Counts { received, recovered, delivered, rejected, failed, lost, in_memory, in_spool }
    }
}

impl From<Counts> for Balance {
    fn from(counts: Counts) -> Self {
        let Counts { received, recovered, delivered, rejected, failed, lost, in_memory, in_spool } = counts;
        Balance { received, recovered, delivered, rejected, failed, lost, in_memory, in_spool }
    }
}

fn rfc3339(moment: SystemTime) -> String {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = (since.subsec_millis() * 1_000_000) as i32;
    time::from_timestamp(since.as_secs() as i64, millis).expect("the clock is within the years 1 to 9999")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Delivery, Tracked};

    #[test]
    fn a_statement_has_the_documented_shape() {
        let ledger = Arc::new(Ledger::default());
        let account = ledger.account("orders.placed", "core");
        (0..5).for_each(|_| account.receive());
        account.recover();
        Tracked::new(&account, None, 0, 1).settle(Delivery::Delivered { partition: 0, offset: 0 });
        Tracked::new(&account, None, 0, 1).settle(Delivery::Failed(Code::DeliveryFailed));
        Tracked::new(&account, None, 0, 1).settle(Delivery::Spooled);
        account.reject(Code::InvalidPayload);
        let held = Tracked::new(&account, None, 0, 1);
        let books = Books { ledger: Arc::clone(&ledger), started: UNIX_EPOCH };
        let Statement { at: _, version: _, ref total, ref event_types, .. } = books.statement();
        assert_eq!(
            serde_json::to_value(&event_types[0]).unwrap(),
            serde_json::json!({
                "event": "orders.placed", "cluster": "core", "holds": true, "moving": false,
                "received": 5, "recovered": 1, "delivered": 1, "rejected": 1, "failed": 1, "lost": 0,
                "in_memory": 1, "in_spool": 2,
                "rejected_by": {"invalid_payload": 1}, "failed_by": {"delivery_failed": 1},
            })
        );
        assert_eq!((event_types.len(), event_types[1].event.as_str()), (2, Ledger::UNKNOWN));
        assert_eq!((total.received, total.in_spool), (5, 2));
        let text = serde_json::to_string(&books.statement()).unwrap();
        assert!(text.starts_with(r#"{"format":1,"version":""#) && text.contains(r#""started":"1970-01-01T00:00:00Z""#));
        assert!(serde_json::from_str::<Statement>(&text).unwrap().holds, "it is read back: {text}");
        drop(held);
        let after = books.statement();
        assert!(!after.holds && !after.event_types[0].holds && after.total.lost == 1, "{after:?}");
    }

    #[test]
    fn an_event_that_is_counted_nowhere_breaks_the_law() {
        let books = Books::open(Arc::default());
        books.ledger.account("a", "core").receive();
        let statement = books.statement();
        assert!(!statement.holds && !statement.event_types[0].moving, "{statement:?}");
    }

    #[test]
    fn numbers_are_of_one_moment_or_are_said_not_to_be() {
        let balance = |received, delivered| Balance { received, delivered, ..Balance::default() };
        // The readings one after the other, the last one for ever.
        let check = |readings: &[(u64, u64)], expected: (u64, u64), moving: bool| {
            let mut at = 0;
            let reading = || {
                let (received, delivered) = readings[at.min(readings.len() - 1)];
                at += 1;
                balance(received, delivered)
            };
            assert_eq!(read(reading, || ()), (balance(expected.0, expected.1), moving), "{readings:?}");
        };
        check(&[(5, 5)], (5, 5), false);
        check(&[(5, 4), (6, 5), (7, 7), (8, 7)], (7, 7), false);
        check(&[(5, 4), (5, 4), (5, 5)], (5, 5), false);
        check(&[(5, 4)], (5, 4), false);
        check(&[(5, 4), (6, 4)], (6, 4), true);
        let lost = Balance { received: 1, lost: 1, ..Balance::default() };
        assert_eq!(read(|| lost, || panic!("there is nothing to wait for")), (lost, false));
    }
}
