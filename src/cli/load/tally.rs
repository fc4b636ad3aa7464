//! What a load run counted: outcomes per event, latencies per request, bytes; and how it is printed.
//!
//! In: replies, as they come. Out: one summary. Never: a number without its unit, a latency of a request that nobody
//! answered (those are counted beside).

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Deserialize;

use crate::dev::client::{Answer, ClientError};

/// Latencies are kept from a microsecond to this long, at three significant digits.
const LATENCY_MICROS_MAX: u64 = 600_000_000;

/// What is known of an event after its request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The reply says that it went through.
    Accepted,
    /// The reply says that it did not, or it was never sent.
    Refused,
    /// Nobody can say: the reply did not come, or says so itself.
    Unknown,
}

/// How a request or an event ended: HTTP status (0 without a reply) and code.
type Ending = (u16, String);

/// Counts of one worker, or of the whole run once they are merged.
#[derive(Debug)]
pub struct Tally {
    latencies_micros: Histogram<u64>,
    events_by_ending: BTreeMap<Ending, u64>,
    /// Events whose reply says that they went through.
    pub events_accepted: u64,
    /// Events in requests that were sent or tried.
    pub events: u64,
    requests: u64,
    requests_unanswered: u64,
    bytes_sent: u64,
    bytes_received: u64,
    /// First event, number of events, and what became of them; kept only for `--verify`.
    fates: Option<Vec<(u64, u32, Fate)>>,
}

/// The events of one request.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Number of the first in the run.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// Bytes of the body.
    pub body_bytes: usize,
}

/// The parts of a reply that are counted.
#[derive(Debug, Deserialize)]
struct Reply {
    #[serde(default)]
    results: Vec<ReplyResult>,
    /// Set when the request was refused as a whole.
    code: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ReplyResult {
    index: u32,
    code: String,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(keeps_fates: bool) -> Tally {
        Tally {
            latencies_micros: Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3).expect("the bounds are in order"),
            events_by_ending: BTreeMap::new(),
            events_accepted: 0,
            events: 0,
            requests: 0,
            requests_unanswered: 0,
            bytes_sent: 0,
            bytes_received: 0,
            fates: keeps_fates.then(Vec::new),
        }
    }

    /// Counts a reply.
    pub fn answered(&mut self, sent: Sent, answer: &Answer, latency: Duration) {
        self.count(sent);
        self.bytes_received += answer.body.len() as u64;
        self.latencies_micros.saturating_record(latency.as_micros() as u64);
        let status = answer.status.as_u16();
        let reply: Option<Reply> = serde_json::from_slice(&answer.body).ok();
        match reply {
            Some(Reply { code: Some(code), .. }) => {
                self.end(status, &code, sent.count.into());
                self.fate(sent.first, sent.count, fate(&code));
            }
            Some(Reply { mut results, code: None }) => {
                results.sort_by_key(|result| result.index);
                results.dedup_by_key(|result| result.index);
                results.retain(|result| result.index < sent.count);
                self.per_event(sent, status, &results);
            }
            // Something else answers there: all that is known is its status.
            None => {
                let code = if answer.status.is_success() { "accepted" } else { "no iguazu reply" };
                self.end(status, code, sent.count.into());
                let fate = if answer.status.is_success() { Fate::Accepted } else { Fate::Unknown };
                self.fate(sent.first, sent.count, fate);
            }
        }
    }

    /// A reply names the events with something to say; the others went through, as its status says.
    fn per_event(&mut self, sent: Sent, status: u16, results: &[ReplyResult]) {
        let rest = match status {
            202 => "enqueued",
            200 => "acknowledged",
            _ => "accepted",
        };
        let mut next = 0;
        for result in results {
            self.fate(sent.first + u64::from(next), result.index - next, Fate::Accepted);
            self.fate(sent.first + u64::from(result.index), 1, fate(&result.code));
            self.end(status, &result.code, 1);
            next = result.index + 1;
        }
        self.fate(sent.first + u64::from(next), sent.count - next, Fate::Accepted);
        self.end(status, rest, u64::from(sent.count) - results.len() as u64);
    }

    /// Counts a request without a reply.
    pub fn unanswered(&mut self, sent: Sent, error: &ClientError) {
        self.count(sent);
        self.requests_unanswered += 1;
        let (code, fate) = match error {
            ClientError::Connect { .. } | ClientError::Tls { .. } => ("no connection", Fate::Refused),
            ClientError::Broken { .. } => ("connection broken", Fate::Unknown),
            ClientError::Timeout { .. } => ("no reply in time", Fate::Unknown),
        };
        self.end(0, code, sent.count.into());
        self.fate(sent.first, sent.count, fate);
    }

    fn count(&mut self, sent: Sent) {
        self.events += u64::from(sent.count);
        self.requests += 1;
        self.bytes_sent += sent.body_bytes as u64;
    }

    fn end(&mut self, status: u16, code: &str, events: u64) {
        if events == 0 {
            return;
        }
        match self.events_by_ending.iter_mut().find(|((s, c), _)| *s == status && c == code) {
            Some((_, n)) => *n += events,
            None => {
                self.events_by_ending.insert((status, code.to_owned()), events);
            }
        }
    }

    fn fate(&mut self, first: u64, count: u32, fate: Fate) {
        if count == 0 {
            return;
        }
        if fate == Fate::Accepted {
            self.events_accepted += u64::from(count);
        }
        if let Some(fates) = &mut self.fates {
            fates.push((first, count, fate));
        }
    }

    /// Adds another worker's counts.
    pub fn merge(&mut self, other: Tally) {
        self.latencies_micros.add(&other.latencies_micros).expect("both have the same bounds");
        for ((status, code), n) in other.events_by_ending {
            self.end(status, &code, n);
        }
        self.events_accepted += other.events_accepted;
        self.events += other.events;
        self.requests += other.requests;
        self.requests_unanswered += other.requests_unanswered;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        if let (Some(fates), Some(others)) = (&mut self.fates, other.fates) {
            fates.extend(others);
        }
    }

    /// What became of each event of the run, by its number; events that were not sent are `Refused`.
    pub fn fates(&self) -> Vec<Fate> {
        let known = self.fates.as_deref().unwrap_or(&[]);
        let end = known.iter().map(|(first, count, _)| first + u64::from(*count)).max().unwrap_or(0);
        let mut fates = vec![Fate::Refused; end as usize];
        for (first, count, fate) in known {
            fates[*first as usize..][..*count as usize].fill(*fate);
        }
        fates
    }

    /// Prints the summary.
    pub fn print(&self, out: &mut impl Write, run: &RunSummary) -> io::Result<()> {
        let seconds = run.took.as_secs_f64().max(0.001);
        let per_second = |n: u64| grouped((n as f64 / seconds).round() as u64);
        writeln!(out, "  {} in {seconds:.1} s: {} events/s", run.what, per_second(self.events))?;
        if run.unsent > 0 {
            writeln!(out, "  not sent: {} events; no connection was free in time", grouped(run.unsent))?;
        }
        if self.latencies_micros.is_empty() {
            writeln!(out, "\n  no request was answered, so there is no latency to show")?;
        } else {
            self.print_latencies(out, run.measured_from)?;
        }

        writeln!(out, "\n  {:<34}{:>14}", "outcome", "events")?;
        for ((status, code), events) in &self.events_by_ending {
            let status = if *status == 0 { "---".to_owned() } else { status.to_string() };
            writeln!(out, "  {:<34}{:>14}", format!("{status} {code}"), grouped(*events))?;
        }
        let (sent, received) = (bytes(self.bytes_sent), bytes(self.bytes_received));
        writeln!(out, "\n  bodies: {sent} sent, {received} received, in {} requests", grouped(self.requests))
    }

    fn print_latencies(&self, out: &mut impl Write, measured_from: &str) -> io::Result<()> {
        writeln!(out, "\n  latency of a request, {measured_from}")?;
        let quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
        for (name, _) in quantiles {
            write!(out, "  {name:>10}")?;
        }
        writeln!(out, "  {:>10}", "max")?;
        for (_, quantile) in quantiles {
            write!(out, "  {:>10}", milliseconds(self.latencies_micros.value_at_quantile(quantile)))?;
        }
        writeln!(out, "  {:>10}", milliseconds(self.latencies_micros.max()))?;
        writeln!(out, "  over {} requests that were answered", grouped(self.latencies_micros.len()))?;
        match self.requests_unanswered {
            0 => Ok(()),
            n => writeln!(out, "  and {} that were not, which no latency counts", grouped(n)),
        }
    }

    /// What is missing from a run in which every event is sent and accepted, in one line; none when nothing is.
    pub fn shortfall(&self, unsent: u64) -> Option<String> {
        let not_accepted = self.events - self.events_accepted;
        let mut parts = Vec::new();
        if not_accepted > 0 {
            let (n, all) = (grouped(not_accepted), grouped(self.events));
            parts.push(format!("{n} of {all} events were not accepted: {}", self.refusals().join(", ")));
        }
        if unsent > 0 {
            parts.push(format!("{} events were not sent in time", grouped(unsent)));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// How often each code stands for an event that was not accepted, the most frequent first.
    fn refusals(&self) -> Vec<String> {
        let mut by_code = BTreeMap::<&str, u64>::new();
        for ((_, code), events) in &self.events_by_ending {
            if fate(code) != Fate::Accepted {
                *by_code.entry(code).or_default() += events;
            }
        }
        let mut by_code: Vec<_> = by_code.into_iter().collect();
        by_code.sort_by_key(|(_, events)| std::cmp::Reverse(*events));
        by_code.into_iter().map(|(code, events)| format!("{} {code}", grouped(events))).collect()
    }
}

/// What the summary says beside the counts.
#[derive(Clone, Debug)]
pub struct RunSummary {
    /// What ran, for its first line.
    pub what: String,
    /// From which moment latencies are measured.
    pub measured_from: &'static str,
    /// From the first request to the last reply.
    pub took: Duration,
    /// Events that an open loop should have sent and did not.
    pub unsent: u64,
}

fn fate(code: &str) -> Fate {
    match code {
        "accepted" | "enqueued" | "acknowledged" => Fate::Accepted,
        "unknown" | "delivery_failed" | "internal" => Fate::Unknown,
        _ => Fate::Refused,
    }
}

/// `12,345`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn milliseconds(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{:.2} ms", micros as f64 / 1e3),
        10_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

fn bytes(n: u64) -> String {
    match n {
        0..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        _ => format!("{:.1} MB", n as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str, expected: &[(&str, u64)], fates: &[Fate]) {
        let mut tally = Tally::new(true);
        let answer = Answer { status: status.try_into().expect("a status"), body: body.to_owned().into() };
        let sent = Sent { first: 0, count: fates.len() as u32, body_bytes: 1 };
        tally.answered(sent, &answer, Duration::from_millis(1));
        let got: Vec<_> = tally.events_by_ending.iter().map(|((_, code), n)| (code.as_str(), *n)).collect();
        assert_eq!(got, expected, "{body}");
        assert_eq!(tally.fates(), fates, "{body}");
        assert_eq!(tally.events, tally.events_by_ending.values().sum::<u64>());
        let accepted = fates.iter().filter(|fate| **fate == Fate::Accepted).count() as u64;
        assert_eq!(tally.events_accepted, accepted);
    }

    #[test]
    fn every_event_of_a_reply_is_counted_once() {
        use Fate::{Accepted, Refused, Unknown};
        check(400, r#"{"code":"invalid_body","message":"m","retry":false}"#, &[("invalid_body", 2)], &[Refused; 2]);
        check(500, "<html>", &[("no iguazu reply", 1)], &[Unknown]);
        check(
            207,
            r#"{"results":[{"index":2,"code":"unknown_field"},{"index":0,"code":"buffer_full"}]}"#,
            &[("accepted", 2), ("buffer_full", 1), ("unknown_field", 1)],
            &[Refused, Accepted, Refused, Accepted],
        );
        check(504, r#"{"results":[{"index":0,"code":"unknown"}]}"#, &[("unknown", 1)], &[Unknown]);
        // Results that are not of this request, or say the same twice, change no sum.
        let odd = r#"{"results":[{"index":9,"code":"a"},{"index":0,"code":"a"},{"index":0,"code":"b"}]}"#;
        check(207, odd, &[("a", 1), ("accepted", 1)], &[Refused, Accepted]);
        check(202, r#"{"received":3,"accepted":3}"#, &[("enqueued", 3)], &[Accepted; 3]);
        check(200, r#"{"received":1,"accepted":1}"#, &[("acknowledged", 1)], &[Accepted]);
    }

    #[test]
    fn what_was_not_accepted_is_told_with_its_reasons() {
        let mut tally = Tally::new(false);
        let sent = |count| Sent { first: 0, count, body_bytes: 1 };
        let answer = |status: u16, body: &'static str| Answer {
            status: status.try_into().expect("a status"),
            body: body.as_bytes().into(),
        };
        tally.answered(sent(3), &answer(202, r#"{"received":3}"#), Duration::from_millis(1));
        assert_eq!(tally.shortfall(0), None);
        tally.unanswered(sent(1), &ClientError::Timeout { authority: "a".to_owned(), seconds: 1 });
        let body = r#"{"results":[{"index":0,"code":"buffer_full"},{"index":1,"code":"buffer_full"}]}"#;
        tally.answered(sent(3), &answer(207, body), Duration::from_millis(1));
        let refused = "3 of 7 events were not accepted: 2 buffer_full, 1 no reply in time";
        assert_eq!(tally.shortfall(0).as_deref(), Some(refused));
        assert_eq!(tally.shortfall(5), Some(format!("{refused}; 5 events were not sent in time")));
    }

    #[test]
    fn without_an_answer_there_are_no_latencies() {
        let mut tally = Tally::new(false);
        let sent = Sent { first: 0, count: 1, body_bytes: 1 };
        tally.unanswered(sent, &ClientError::Timeout { authority: "a".to_owned(), seconds: 1 });
        let run = RunSummary { what: String::new(), measured_from: "m", took: Duration::from_secs(1), unsent: 0 };
        let mut out = Vec::new();
        tally.print(&mut out, &run).expect("a Vec takes everything");
        let text = String::from_utf8(out).expect("text");
        assert!(text.contains("no request was answered") && !text.contains("p50"), "{text}");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!((bytes(420).as_str(), bytes(4_200_000).as_str()), ("0.4 kB", "4.2 MB"));
        assert_eq!(milliseconds(420), "0.42 ms");
        assert_eq!(milliseconds(42_000), "42.0 ms");
        assert_eq!(milliseconds(4_200_000), "4.20 s");
    }
}
