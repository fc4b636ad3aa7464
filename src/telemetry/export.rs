//! Readings -> the text that Prometheus scrapes.
//!
//! In: numbers that others hold, read at the moment of the scrape. Out: the text exposition format, version 0.0.4.
//! Never: a count of its own. A recorder with a registry of its own (the `metrics` crates) would keep a copy of each
//! number, go on serving a cluster that is gone, and hold every observation of a histogram until somebody scrapes;
//! all our numbers are atomics already, so writing them down is all there is to do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use super::metrics::{self, Kind, Metric};
use super::{process, sources};

/// Content type of what [`Exporter::render`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes what it knows onto a page. Called with every scrape, so it must be cheap and must not wait.
pub type Source = Box<dyn Fn(&mut Page) + Send + Sync>;

/// Everything that is served as `/metrics`.
pub struct Exporter {
    sources: Vec<Source>,
    started: SystemTime,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Exporter({} sources)", self.sources.len())
    }
}

impl Exporter {
    /// An exporter of these sources; build and process come by themselves.
    pub fn new(sources: Vec<Source>) -> Self {
        Exporter { sources, started: SystemTime::now() }
    }

    /// All metrics as they stand, as [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        let mut page = Page::default();
        for source in &self.sources {
            source(&mut page);
        }
        sources::build(&mut page);
        process::write(&mut page, self.started);
        page.into_text()
    }
}

/// A reading of a histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    /// Upper bound of each bucket in the metric's unit, inclusive, ascending, and the observations in it alone. What is
    /// above the last bound, or in a bucket whose bound is infinite, counts in `count` only.
    pub buckets: Vec<(f64, u64)>,
    /// Sum of all observations in the metric's unit.
    pub sum: f64,
    /// Number of all observations.
    pub count: u64,
}

/// Samples being written down.
#[derive(Debug, Default)]
pub struct Page {
    /// Lines by metric.
    lines: BTreeMap<&'static str, String>,
}

impl Page {
    /// A counter or gauge with these values of its labels.
    pub fn set(&mut self, metric: &'static Metric, labels: &[&str], value: impl Into<Value>) {
        debug_assert_ne!(metric.kind, Kind::Histogram, "{} is a histogram", metric.name);
        self.line(metric, "", labels, None, value.into());
    }

    /// A histogram with these values of its labels.
    pub fn observe(&mut self, metric: &'static Metric, labels: &[&str], reading: &Buckets) {
        debug_assert_eq!(metric.kind, Kind::Histogram, "{} is no histogram", metric.name);
        let mut below = 0;
        for (bound, count) in reading.buckets.iter().filter(|(bound, _)| bound.is_finite()) {
            below += count;
            self.line(metric, "_bucket", labels, Some(&bound.to_string()), Value::Whole(below));
        }
        self.line(metric, "_bucket", labels, Some("+Inf"), Value::Whole(reading.count));
        self.line(metric, "_sum", labels, None, Value::Fraction(reading.sum));
        self.line(metric, "_count", labels, None, Value::Whole(reading.count));
    }

    /// The text, metrics in the order of the catalogue.
    pub fn into_text(self) -> String {
        let mut text = String::new();
        for metric in metrics::ALL {
            let Some(lines) = self.lines.get(metric.name) else { continue };
            let (name, help, kind) = (metric.name, metric.help, metric.kind.as_str());
            let _ = write!(text, "# HELP {name} {}\n# TYPE {name} {kind}\n{lines}", escape(help, false));
        }
        text
    }

    fn line(&mut self, metric: &'static Metric, suffix: &str, labels: &[&str], bound: Option<&str>, value: Value) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "labels of {}", metric.name);
        let text = self.lines.entry(metric.name).or_default();
        let _ = write!(text, "{}{suffix}", metric.name);
        let named = metric.labels.iter().copied().zip(labels.iter().copied()).chain(bound.map(|bound| ("le", bound)));
        let mut open = '{';
        for (label, value) in named {
            let _ = write!(text, "{open}{label}=\"{}\"", escape(value, true));
            open = ',';
        }
        if open == ',' {
            text.push('}');
        }
        let _ = match value {
            Value::Whole(number) => writeln!(text, " {number}"),
            Value::Fraction(number) => writeln!(text, " {number}"),
        };
    }
}

/// A sample's value; whole numbers stay exact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// Any other; finite.
    Fraction(f64),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Value::Whole(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Fraction(number)
    }
}

impl From<std::time::Duration> for Value {
    /// Seconds.
    fn from(time: std::time::Duration) -> Self {
        Value::Fraction(time.as_secs_f64())
    }
}

fn escape(text: &str, in_quotes: bool) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\n', "\\n");
    if in_quotes { escaped.replace('"', "\\\"") } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(write: impl Fn(&mut Page), expected: &str) {
        let mut page = Page::default();
        write(&mut page);
        let text = page.into_text();
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples.join("\n"), expected);
    }

    #[test]
    fn a_label_with_quotes_breaks_and_backslashes_stays_one_label() {
        check(
            |page| page.set(&metrics::EVENTS_LOST, &["a\"b\\c\nd", "core"], 1u64),
            r#"iguazu_events_lost_total{event="a\"b\\c\nd",cluster="core"} 1"#,
        );
    }

    #[test]
    fn whole_numbers_stay_exact() {
        check(
            |page| page.set(&metrics::HTTP_IN_FLIGHT, &[], u64::MAX),
            "iguazu_http_in_flight_bytes 18446744073709551615",
        );
        check(|page| page.set(&metrics::SNAPSHOT_AGE, &[], 0.25), "iguazu_snapshot_age_seconds 0.25");
    }

    #[test]
    fn buckets_are_cumulative_and_infinity_holds_them_all() {
        let reading =
            Buckets { buckets: vec![(0.001, 2), (0.5, 0), (1.0, 3), (f64::INFINITY, 4)], sum: 12.5, count: 9 };
        check(
            |page| page.observe(&metrics::HTTP_REQUEST_DURATION, &["events"], &reading),
            "iguazu_http_request_duration_seconds_bucket{door=\"events\",le=\"0.001\"} 2\n\
             iguazu_http_request_duration_seconds_bucket{door=\"events\",le=\"0.5\"} 2\n\
             iguazu_http_request_duration_seconds_bucket{door=\"events\",le=\"1\"} 5\n\
             iguazu_http_request_duration_seconds_bucket{door=\"events\",le=\"+Inf\"} 9\n\
             iguazu_http_request_duration_seconds_sum{door=\"events\"} 12.5\n\
             iguazu_http_request_duration_seconds_count{door=\"events\"} 9",
        );
    }
}
