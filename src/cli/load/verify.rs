//! `--verify`: whether Kafka holds exactly what was accepted.
//!
//! In: the topic, read while the run goes on (embedded brokers keep only the last records), and what became of each event.
//! Out: a [`Verdict`]. Never: trusts the proxy: ids, keys' and payloads' bytes come from the records themselves.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::tally::{Fate, grouped};
use super::template::{PLACEHOLDER, RunId};
use crate::cli::Failure;
use crate::cli::tail;
use crate::cli::target::Target;
use crate::dev::decode;
use crate::dev::read_back::{Consumed, Start};

/// How long after the run nothing new may come before what is missing is called missing: longer than a record may wait
/// in a producer (`message_timeout_ms`, 30 s).
const QUIET_MAX: Duration = Duration::from_secs(35);
/// How soon the end of the run is seen.
const POLL: Duration = Duration::from_millis(50);

/// Reads the topic in a thread of its own.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<(), Failure>>,
}

#[derive(Debug)]
struct Shared {
    found: Mutex<Found>,
    /// Told whenever something was found.
    more: Condvar,
    stop: AtomicBool,
}

/// What was found of a run.
#[derive(Debug, Default)]
struct Found {
    /// Copies of each event, by its number.
    copies: Vec<u32>,
    /// Records of the run that have a payload of another form than the first one had.
    differing: u64,
    /// The first record's value, its id blanked out.
    form: Option<Vec<u8>>,
    /// When something was found last.
    last: Option<Instant>,
    failed: bool,
}

impl Watch {
    /// Begins to read at the topic's end.
    pub fn start(target: &Target, run: RunId) -> Result<Watch, Failure> {
        let reader = tail::open(target, &Start::End)?;
        let shared = Shared { found: Mutex::default(), more: Condvar::new(), stop: AtomicBool::new(false) };
        let shared = Arc::new(shared);
        let inside = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("verify".to_owned()).spawn(move || {
            while !inside.stop.load(Relaxed) {
                match reader.next(POLL) {
                    Ok(Some(record)) => {
                        let mut found = inside.found.lock().expect("no code panics while it holds this lock");
                        found.add(&record, &run);
                        inside.more.notify_one();
                    }
                    Ok(None) => {}
                    Err(error) => {
                        inside.found.lock().expect("no code panics while it holds this lock").failed = true;
                        inside.more.notify_one();
                        return Err(Failure::because(error));
                    }
                }
            }
            Ok(())
        })?;
        Ok(Watch { shared, thread })
    }

    /// Waits until everything that was accepted is found, or nothing more comes, and compares.
    pub fn finish(self, fates: &[Fate]) -> Result<Verdict, Failure> {
        let begun = Instant::now();
        let mut found = self.shared.found.lock().expect("no code panics while it holds this lock");
        while !found.failed
            && !found.has_all(fates)
            && found.last.map_or(begun, |last| last.max(begun)).elapsed() < QUIET_MAX
        {
            found = self.shared.more.wait_timeout(found, POLL).expect("no code panics while it holds this lock").0;
        }
        let verdict = found.verdict(fates);
        drop(found);
        self.shared.stop.store(true, Relaxed);
        self.thread.join().map_err(|_| Failure::Failed("the reader panicked; this is a bug".to_owned()))??;
        Ok(verdict)
    }
}

impl Found {
    fn add(&mut self, record: &Consumed, run: &RunId) {
        let Ok(envelope) = decode::envelope(record) else { return };
        let Some(n) = run.number(&envelope.id).and_then(|n| usize::try_from(n).ok()) else { return };
        if self.copies.len() <= n {
            self.copies.resize(n + 1, 0);
        }
        self.copies[n] += 1;
        self.last = Some(Instant::now());
        let mut form = record.value.clone().unwrap_or_default();
        let at: Vec<_> = memchr::memmem::find_iter(&form, envelope.id.as_bytes()).collect();
        for at in at {
            form[at..at + PLACEHOLDER.len()].copy_from_slice(PLACEHOLDER.as_bytes());
        }
        match &self.form {
            None => self.form = Some(form),
            Some(first) => self.differing += u64::from(*first != form),
        }
    }

    fn copies_of(&self, n: usize) -> u32 {
        self.copies.get(n).copied().unwrap_or(0)
    }

    fn has_all(&self, fates: &[Fate]) -> bool {
        fates.iter().enumerate().all(|(n, fate)| *fate != Fate::Accepted || self.copies_of(n) > 0)
    }

    fn verdict(&self, fates: &[Fate]) -> Verdict {
        let mut verdict = Verdict { differing: self.differing, ..Verdict::default() };
        for n in 0..fates.len().max(self.copies.len()) {
            let copies = self.copies_of(n);
            verdict.duplicates += u64::from(copies.saturating_sub(1));
            match (fates.get(n).copied().unwrap_or(Fate::Refused), copies) {
                (Fate::Accepted, 0) => verdict.missing += 1,
                (Fate::Accepted, _) => verdict.found += 1,
                (Fate::Refused, 0) | (Fate::Unknown, 0) => {}
                (Fate::Refused, _) => verdict.refused_yet_found += 1,
                (Fate::Unknown, _) => verdict.unknown_and_found += 1,
            }
        }
        verdict.accepted = verdict.found + verdict.missing;
        verdict
    }
}

/// How what was accepted compares with what Kafka holds. All numbers are events but `duplicates`, which is records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    accepted: u64,
    found: u64,
    missing: u64,
    duplicates: u64,
    refused_yet_found: u64,
    unknown_and_found: u64,
    differing: u64,
}

impl Verdict {
    /// Whether everything accepted is there, nothing that was refused, and every payload as sent. Duplicates are allowed:
    /// delivery is at least once.
    pub fn holds(&self) -> bool {
        self.missing == 0 && self.refused_yet_found == 0 && self.differing == 0
    }

    /// Prints it.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let sign = if self.missing == 0 { "=" } else { "≠" };
        writeln!(out, "\n  Kafka: accepted {} {sign} found {}", grouped(self.accepted), grouped(self.found))?;
        writeln!(out, "  {:<34}{:>14}", "missing", grouped(self.missing))?;
        writeln!(out, "  {:<34}{:>14}", "duplicates", grouped(self.duplicates))?;
        for (label, n) in [
            ("refused, and yet there", self.refused_yet_found),
            ("without a reply, and there", self.unknown_and_found),
            ("payload not a function of its id", self.differing),
        ] {
            if n > 0 {
                writeln!(out, "  {label:<34}{:>14}", grouped(n))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, value: &str) -> Consumed {
        let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
        Consumed {
            partition: 0,
            offset: 0,
            timestamp_ms: Some(0),
            key: None,
            value: Some(value.as_bytes().to_vec()),
            headers: vec![
                header("ce_specversion", "1.0"),
                header("ce_id", id),
                header("ce_source", "s"),
                header("ce_type", "t"),
                header("content-type", "application/json"),
            ],
        }
    }

    fn check(fates: &[Fate], found: &[u64], expected: Verdict, holds: bool) {
        let run = RunId::new();
        let mut all = Found::default();
        all.add(&record("someone-elses", "{}"), &run);
        for n in found {
            let id = String::from_utf8(run.id(*n).to_vec()).expect("ASCII");
            all.add(&record(&id, &format!("{{\"id\":\"{id}\"}}")), &run);
        }
        let verdict = all.verdict(fates);
        assert_eq!((verdict, verdict.holds()), (expected, holds), "{fates:?} {found:?}");
    }

    #[test]
    fn what_was_accepted_must_be_found_and_nothing_that_was_refused() {
        use Fate::{Accepted, Refused, Unknown};
        let none = Verdict::default();
        check(&[Accepted, Accepted], &[0], Verdict { accepted: 2, found: 1, missing: 1, ..none }, false);
        check(&[Refused], &[0], Verdict { refused_yet_found: 1, ..none }, false);
        check(&[], &[0], Verdict { refused_yet_found: 1, ..none }, false);
        check(&[Unknown, Unknown], &[1], Verdict { unknown_and_found: 1, ..none }, true);
        check(&[Accepted], &[0, 0], Verdict { accepted: 1, found: 1, duplicates: 1, ..none }, true);
        check(&[Accepted, Refused], &[0], Verdict { accepted: 1, found: 1, ..none }, true);
    }

    #[test]
    fn a_payload_that_is_not_of_its_id_is_seen() {
        let run = RunId::new();
        let mut all = Found::default();
        for (n, payload_n) in [(0, 0), (1, 1), (2, 1)] {
            let text = |n| String::from_utf8(run.id(n).to_vec()).expect("ASCII");
            all.add(&record(&text(n), &text(payload_n)), &run);
        }
        assert_eq!(all.verdict(&[Fate::Accepted; 3]).differing, 1);
    }
}
