//! The accounts of the ledger as samples, within a bound on their number.
//!
//! In: a ledger, and how many of its accounts have series of their own. Out: those, and for all others one account a cluster,
//! `(other)`. Never: moves an account from one to the other while the process runs, which would look like a counter that fell.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use super::export::Page;
use super::metrics as m;
use crate::outcome::{Account, Balance, Code, KeptIn, Ledger};

/// Writes the accounts. The first `shown_max` have series of their own, in the order in which the process came to know them,
/// which is that of the configuration; unknown names always have.
pub fn write(page: &mut Page, ledger: &Ledger, shown_max: usize) {
    let mut accounts = ledger.accounts();
    accounts.sort_by_key(|account| account.ordinal);
    accounts.retain(|account| account.event != Ledger::UNKNOWN);
    let others = accounts.split_off(shown_max.min(accounts.len()));
    for account in accounts.iter().chain([ledger.unknown()]) {
        let mut sums = Sums::default();
        sums.add(account);
        sums.write(page, &account.event, &account.cluster);
    }
    let mut by_cluster = BTreeMap::<&str, Sums>::new();
    for account in &others {
        by_cluster.entry(&account.cluster).or_default().add(account);
    }
    by_cluster.iter().for_each(|(cluster, sums)| sums.write(page, Ledger::OTHER, cluster));
    page.set(&m::EVENT_TYPES_UNLABELLED, &[], others.len() as u64);
}

/// The numbers of one account, or of several together.
#[derive(Default)]
struct Sums {
    balance: Balance,
    received_bytes: u64,
    delivered_bytes: u64,
    delivered_elsewhere: u64,
    in_memory_bytes: u64,
    /// None while one of them may take all of a buffer.
    share_bytes: Option<u64>,
    hot_keys: u64,
    late: u64,
    fields_dropped: u64,
    rejections: BTreeMap<Code, u64>,
    failures: BTreeMap<Code, u64>,
    kept: BTreeMap<KeptIn, u64>,
}

impl Sums {
    fn add(&mut self, account: &Account) {
        self.balance = self.balance.plus(account.read());
        self.received_bytes += account.received_bytes.load(Relaxed);
        self.delivered_bytes += account.delivered_bytes.load(Relaxed);
        self.delivered_elsewhere += account.delivered_elsewhere.load(Relaxed);
        self.in_memory_bytes += account.in_memory.bytes();
        if account.share_bytes() != u64::MAX {
            *self.share_bytes.get_or_insert_default() += account.share_bytes();
        }
        self.hot_keys += account.hot_keys.load(Relaxed);
        self.late += account.late.load(Relaxed);
        self.fields_dropped += account.fields_dropped.load(Relaxed);
        account.rejections().for_each(|(code, count)| *self.rejections.entry(code).or_default() += count);
        account.failures().for_each(|(code, count)| *self.failures.entry(code).or_default() += count);
        account.kept().for_each(|(place, count)| *self.kept.entry(place).or_default() += count);
    }

    fn write(&self, page: &mut Page, event: &str, cluster: &str) {
        let (labels, balance) = ([event, cluster], self.balance);
        page.set(&m::EVENTS_RECEIVED, &labels, balance.received);
        page.set(&m::EVENTS_RECEIVED_BYTES, &labels, self.received_bytes);
        page.set(&m::EVENTS_RECOVERED, &labels, balance.recovered);
        page.set(&m::EVENTS_DELIVERED, &labels, balance.delivered);
        page.set(&m::EVENTS_DELIVERED_BYTES, &labels, self.delivered_bytes);
        page.set(&m::EVENTS_DELIVERED_ELSEWHERE, &labels, self.delivered_elsewhere);
        page.set(&m::EVENTS_LOST, &labels, balance.lost);
        page.set(&m::EVENTS_IN_MEMORY, &labels, balance.in_memory);
        page.set(&m::EVENTS_IN_MEMORY_BYTES, &labels, self.in_memory_bytes);
        if let Some(share_bytes) = self.share_bytes {
            page.set(&m::EVENTS_IN_MEMORY_BYTES_MAX, &labels, share_bytes);
        }
        page.set(&m::EVENTS_HOT_KEY, &labels, self.hot_keys);
        page.set(&m::EVENTS_IN_SPOOL, &labels, balance.in_spool);
        page.set(&m::EVENTS_LATE, &labels, self.late);
        page.set(&m::EVENTS_FIELDS_DROPPED, &labels, self.fields_dropped);
        for (code, count) in &self.rejections {
            page.set(&m::EVENTS_REJECTED, &[event, cluster, code.as_str()], *count);
        }
        for (code, count) in &self.failures {
            page.set(&m::EVENTS_FAILED, &[event, cluster, code.as_str()], *count);
        }
        for (place, count) in &self.kept {
            page.set(&m::EVENTS_FAILED_KEPT, &[event, cluster, place.as_str()], *count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_bound_counts_together_and_what_was_shown_stays() {
        let ledger = Ledger::default();
        for (event, cluster) in [("z", "core"), ("m", "core"), ("a", "edge"), ("b", "core"), ("c", "core")] {
            ledger.account(event, cluster).receive();
        }
        ledger.account("b", "core").reject(Code::InvalidPayload);
        ledger.account("c", "core").reject(Code::InvalidPayload);
        ledger.unknown().receive();
        let check = |shown_max, expected: &[&str]| {
            let mut page = Page::default();
            write(&mut page, &ledger, shown_max);
            let text = page.into_text();
            let mut found: Vec<_> = text
                .lines()
                .filter(|line| line.starts_with("iguazu_events_received_total{") || line.contains("code="))
                .map(|line| line.split_once('{').unwrap().1)
                .collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{shown_max}");
        };
        check(
            2,
            &[
                r#"event="(other)",cluster="core",code="invalid_payload"} 2"#,
                r#"event="(other)",cluster="core"} 2"#,
                r#"event="(other)",cluster="edge"} 1"#,
                r#"event="(unknown)",cluster="(none)"} 1"#,
                r#"event="m",cluster="core"} 1"#,
                r#"event="z",cluster="core"} 1"#,
            ],
        );
        // One that comes later does not push out another.
        ledger.account("0", "edge").receive();
        check(
            2,
            &[
                r#"event="(other)",cluster="core",code="invalid_payload"} 2"#,
                r#"event="(other)",cluster="core"} 2"#,
                r#"event="(other)",cluster="edge"} 2"#,
                r#"event="(unknown)",cluster="(none)"} 1"#,
                r#"event="m",cluster="core"} 1"#,
                r#"event="z",cluster="core"} 1"#,
            ],
        );
    }
}
