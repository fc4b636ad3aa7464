//! What an audit counts: copies of ids, against what was acknowledged.
//!
//! In: ids out of records; expected ids, or readings of ledgers. Out: a [`Verdict`]. Never: I/O.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use uuid::Uuid;

use crate::telemetry::ledger::{AccountStatement, Statement};

/// Most distinct ids that are kept in memory, at about 20 bytes each.
const DISTINCT_MAX: usize = 50_000_000;
/// Most duplicate ids that are kept as text.
const DUPLICATES_MAX: usize = 100_000;

/// There are too many ids.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are more than {DISTINCT_MAX} distinct ids; narrow the time with `--since` and `--until`")]
pub struct TooMany;

/// How often each id was found.
#[derive(Debug, Default)]
pub struct Copies {
    /// Those that must be there, and how often they are.
    expected: HashMap<String, u32>,
    /// All others, as a number: a UUID's own, else a hash of 128 bits with keys of this process.
    others: HashSet<u128>,
    keys: (RandomState, RandomState),
    /// Ids that are no expected ones and were found more than once.
    duplicates: BTreeMap<String, u32>,
    duplicates_not_kept: u64,
}

impl Copies {
    /// Nothing found yet of these that must be there.
    pub fn new(expected: Vec<String>) -> Copies {
        Copies { expected: expected.into_iter().map(|id| (id, 0)).collect(), ..Copies::default() }
    }

    /// Found one.
    pub fn add(&mut self, id: &str) -> Result<(), TooMany> {
        if let Some(copies) = self.expected.get_mut(id) {
            *copies += 1;
            return Ok(());
        }
        if self.others.insert(self.number(id)) {
            return if self.others.len() > DISTINCT_MAX { Err(TooMany) } else { Ok(()) };
        }
        if let Some(copies) = self.duplicates.get_mut(id) {
            *copies += 1;
        } else if self.duplicates.len() < DUPLICATES_MAX {
            self.duplicates.insert(id.to_owned(), 2);
        } else {
            self.duplicates_not_kept += 1;
        }
        Ok(())
    }

    fn number(&self, id: &str) -> u128 {
        // Only the one form that ids of ours have; others may be equal as a UUID and not as a text.
        match Uuid::try_parse(id) {
            Ok(uuid) if id.len() == 36 && !id.bytes().any(|byte| byte.is_ascii_uppercase()) => uuid.as_u128(),
            _ => u128::from(self.keys.0.hash_one(id)) << 64 | u128::from(self.keys.1.hash_one(id)),
        }
    }

    /// Expected ids that were not found, in their order.
    pub fn missing(&self) -> impl Iterator<Item = String> {
        let mut missing: Vec<_> =
            self.expected.iter().filter(|(_, copies)| **copies == 0).map(|(id, _)| id.clone()).collect();
        missing.sort();
        missing.into_iter()
    }

    /// Ids that were found more than once, in their order, and how often.
    pub fn duplicates(&self) -> impl Iterator<Item = String> {
        let expected = self.expected.iter().filter(|(_, copies)| **copies > 1);
        let mut all: Vec<_> =
            expected.chain(&self.duplicates).map(|(id, copies)| format!("{id} ({copies} times)")).collect();
        all.sort();
        all.into_iter()
    }

    /// Records that are one too many.
    fn too_many(&self) -> u64 {
        let expected = self.expected.values().map(|copies| u64::from(copies.saturating_sub(1)));
        let others = self.duplicates.values().map(|copies| u64::from(copies - 1));
        expected.chain(others).sum::<u64>() + self.duplicates_not_kept
    }
}

/// What the ledgers say was acknowledged in a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Delivered meanwhile.
    pub events: u64,
    /// Of those, at most so many were received before: they were in memory or in the spool at the beginning.
    pub earlier_max: u64,
    /// At most so many more may be in Kafka: they are in memory or in the spool at the end, or failed and may have been written.
    pub more_max: u64,
}

impl Acknowledged {
    /// Between the ledgers of the beginning, which are none where processes began with nothing, and those of the end.
    pub fn between(begins: &[Statement], ends: &[Statement], event: &str, cluster: &str) -> Acknowledged {
        let sum = |statements: &[Statement], number: &dyn Fn(&AccountStatement) -> u64| -> u64 {
            let all = statements.iter().flat_map(|statement| &statement.event_types);
            all.filter(|account| account.event == event && account.cluster == cluster).map(number).sum()
        };
        let grown = |number: &dyn Fn(&AccountStatement) -> u64| sum(ends, number).saturating_sub(sum(begins, number));
        let waiting = |account: &AccountStatement| account.counts.in_memory + account.counts.in_spool;
        let recovered = grown(&|account| account.counts.recovered);
        Acknowledged {
            events: grown(&|account| account.counts.delivered),
            earlier_max: sum(begins, &waiting) + recovered,
            more_max: sum(ends, &waiting) + grown(&|account| account.counts.failed),
        }
    }
}

/// How what was acknowledged compares with what Kafka holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    acknowledged: u64,
    found: u64,
    /// Acknowledged and not found.
    pub missing: u64,
    duplicates: u64,
    earlier_max: u64,
    more_max: u64,
    /// Whether `found` counts the expected ids only.
    is_of_ids: bool,
}

impl Verdict {
    /// Of a list of ids.
    pub fn of_ids(copies: &Copies) -> Verdict {
        let acknowledged = copies.expected.len() as u64;
        let missing = copies.missing().count() as u64;
        let duplicates = copies.too_many();
        Verdict {
            acknowledged,
            found: acknowledged - missing,
            missing,
            duplicates,
            is_of_ids: true,
            ..Verdict::default()
        }
    }

    /// Of counts alone.
    pub fn of_counts(acknowledged: Acknowledged, copies: &Copies) -> Verdict {
        let Acknowledged { events, earlier_max, more_max } = acknowledged;
        let found = copies.others.len() as u64;
        let duplicates = copies.too_many();
        // A sender may have sent an id twice: then each copy was acknowledged.
        let missing = events.saturating_sub(earlier_max).saturating_sub(found + duplicates);
        Verdict { acknowledged: events, found, missing, duplicates, earlier_max, more_max, is_of_ids: false }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Verdict { acknowledged, found, missing, duplicates, earlier_max, more_max, is_of_ids } = self;
        write!(f, "{acknowledged} acknowledged, {found} found, {missing} missing, {duplicates} duplicates")?;
        if *earlier_max > 0 {
            write!(f, "; up to {earlier_max} of the acknowledged were received before")?;
        }
        let unseen_max = if *is_of_ids { 0 } else { more_max + duplicates };
        if unseen_max > 0 {
            write!(
                f,
                "; behind duplicates and what was on its way up to {unseen_max} may be missing unseen, --ids is exact"
            )?;
        }
        if !is_of_ids && found > &(acknowledged + more_max) {
            let others = found - acknowledged - more_max;
            write!(f, "; {others} more are there than these ledgers know of: does another proxy send, too?")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::ledger::{Counts, FORMAT};

    fn copies(expected: &[&str], found: &[&str]) -> Copies {
        let mut copies = Copies::new(expected.iter().map(|id| (*id).to_owned()).collect());
        found.iter().for_each(|id| copies.add(id).expect("few"));
        copies
    }

    #[test]
    fn each_expected_id_is_found_or_missing_and_duplicates_are_told() {
        let check = |expected: &[&str], found: &[&str], told: &str, missing: &[&str], duplicates: &[&str]| {
            let copies = copies(expected, found);
            assert_eq!(Verdict::of_ids(&copies).to_string(), told);
            assert_eq!(copies.missing().collect::<Vec<_>>(), missing);
            assert_eq!(copies.duplicates().collect::<Vec<_>>(), duplicates);
        };
        check(&[], &["x"], "0 acknowledged, 0 found, 0 missing, 0 duplicates", &[], &[]);
        check(&["a", "b"], &["a"], "2 acknowledged, 1 found, 1 missing, 0 duplicates", &["b"], &[]);
        let twice = ["a (3 times)", "x (2 times)"];
        check(&["a"], &["a", "x", "a", "x", "a"], "1 acknowledged, 1 found, 0 missing, 3 duplicates", &[], &twice);
    }

    #[test]
    fn ids_that_are_equal_as_uuids_only_are_two() {
        let copies = copies(&[], &["017F22E2-79B0-7CC3-98C4-DC0C0C07398F", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"]);
        assert_eq!(copies.duplicates().count(), 0);
    }

    fn statement(counts: Counts) -> Statement {
        let account = AccountStatement {
            event: "e".to_owned(),
            cluster: "c".to_owned(),
            holds: true,
            moving: false,
            counts,
            rejected_by: BTreeMap::new(),
            failed_by: BTreeMap::new(),
        };
        let other = AccountStatement { cluster: "d".to_owned(), ..account.clone() };
        Statement {
            format: FORMAT,
            version: String::new(),
            started: String::new(),
            at: String::new(),
            holds: true,
            total: counts,
            event_types: vec![account, other],
        }
    }

    #[test]
    fn counts_say_what_must_be_there_and_what_they_cannot_know() {
        let check = |begins: &[Counts], ends: &[Counts], found: &[&str], told: &str| {
            let [begins, ends] =
                [begins, ends].map(|all| all.iter().map(|counts| statement(*counts)).collect::<Vec<_>>());
            let acknowledged = Acknowledged::between(&begins, &ends, "e", "c");
            assert_eq!(Verdict::of_counts(acknowledged, &copies(&[], found)).to_string(), told);
        };
        let none = Counts::default();
        let two = Counts { received: 2, delivered: 2, ..none };
        check(&[], &[two], &["a", "b"], "2 acknowledged, 2 found, 0 missing, 0 duplicates");
        check(
            &[],
            &[two, two],
            &["a", "a"],
            "4 acknowledged, 1 found, 2 missing, 1 duplicates; behind duplicates and what was on its way up to 1 may be missing unseen, --ids is exact",
        );
        check(&[two], &[Counts { delivered: 3, ..two }], &["a"], "1 acknowledged, 1 found, 0 missing, 0 duplicates");
        let carried = Counts { in_memory: 1, ..none };
        let told = "2 acknowledged, 1 found, 0 missing, 0 duplicates; up to 1 of the acknowledged were received before";
        check(&[carried], &[two], &["a"], told);
        let told = "2 acknowledged, 1 found, 1 missing, 0 duplicates; behind duplicates and what was on its way up to 3 may be missing unseen, --ids is exact";
        check(&[], &[Counts { in_spool: 1, failed: 2, ..two }], &["a"], told);
        let told = "0 acknowledged, 1 found, 0 missing, 0 duplicates; 1 more are there than these ledgers know of: does another proxy send, too?";
        check(&[], &[none], &["a"], told);
    }
}
