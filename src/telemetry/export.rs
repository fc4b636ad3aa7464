//! Readings and observations -> the text that Prometheus scrapes.
//!
//! In: numbers that others hold, read at the moment of the scrape, and durations, observed through handles of `metrics`.
//! Out: the text exposition format, version 0.0.4, written by `metrics-exporter-prometheus`. Never: a count of its own of
//! what somebody else counts already.
//!
//! There are two recorders. Histograms are live: one recorder of the whole process keeps them ([`histogram`]). Counters and
//! gauges go onto a [`Page`], a recorder that lives for one scrape: a recorder never lowers a counter and never forgets a
//! series, so a longer-lived one would hide the failures of a client that took over from another, and go on serving a
//! cluster that is gone.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use ::metrics::{Histogram, Label, with_local_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::metrics::{self, Kind, Metric};
use super::{logs, process, sources};

/// Content type of what [`Exporter::render`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How often [`upkeep`] is due.
pub const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// Writes what it knows onto a page. Called with every scrape, so it must be cheap and must not wait.
pub type Source = Box<dyn Fn(&mut Page) + Send + Sync>;

/// Everything that is served as `/metrics`.
pub struct Exporter {
    sources: Vec<Source>,
}

/// Notes when the process started, as early as somebody calls it: the first call is what counts, and every call gives it.
pub fn note_start() -> SystemTime {
    static STARTED: OnceLock<SystemTime> = OnceLock::new();
    *STARTED.get_or_init(SystemTime::now)
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Exporter({} sources)", self.sources.len())
    }
}

impl Exporter {
    /// An exporter of these sources; build, process and the histograms of this process come by themselves.
    pub fn new(sources: Vec<Source>) -> Self {
        note_start();
        Exporter { sources }
    }

    /// All metrics as they stand, as [`CONTENT_TYPE`], in the order of the catalogue and of their labels: what differs
    /// between two scrapes is what changed.
    pub fn render(&self) -> String {
        let mut page = Page::default();
        for source in &self.sources {
            source(&mut page);
        }
        sources::build(&mut page);
        logs::write(&mut page);
        process::write(&mut page, note_start());
        in_order(&(page.into_text() + &live().render()))
    }
}

/// The families of the recorders' texts, which come out of hash maps, in the order of the catalogue, each one's series in
/// that of their labels. Labels and help texts have no line breaks (they are escaped), so a blank line ends a family.
fn in_order(text: &str) -> String {
    let mut families: Vec<&str> = text.split_terminator("\n\n").collect();
    families.sort_by_cached_key(|family| {
        let name = family.lines().find_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        metrics::ALL.iter().position(|metric| name == Some(metric.name))
    });
    let mut ordered = String::with_capacity(text.len());
    for family in families {
        let mut series: Vec<String> = Vec::new();
        let mut is_open = false;
        for line in family.lines() {
            if line.starts_with('#') {
                ordered.extend([line, "\n"]);
                continue;
            }
            // The lines of a histogram's series stay together: its buckets ascending, its sum, its count.
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            match series.last_mut().filter(|_| is_open) {
                Some(last) => last.extend(["\n", line]),
                None => series.push(line.to_owned()),
            }
            is_open = name.ends_with("_bucket") || name.ends_with("_sum");
        }
        series.sort();
        series.iter().for_each(|lines| ordered.extend([lines, "\n"]));
    }
    ordered
}

/// The handle that observes a histogram with these values of its labels. Ask once and keep it: making it takes locks,
/// observing takes none. The series is served from now on until the process ends.
pub fn histogram(metric: &'static Metric, labels: &[&str]) -> Histogram {
    debug_assert_eq!(metric.kind, Kind::Histogram, "{} is no histogram", metric.name);
    live();
    ::metrics::histogram!(metric.name, named(metric, labels))
}

/// Sorts observations into their buckets. Until then, or until a scrape, each takes 16 bytes: whoever runs the proxy must
/// call this every [`UPKEEP_EVERY`], so that they take as many as come in that time, scraped or not.
pub fn upkeep() {
    live().run_upkeep();
}

/// The recorder of this process, installed at first use.
fn live() -> &'static PrometheusHandle {
    static LIVE: OnceLock<PrometheusHandle> = OnceLock::new();
    LIVE.get_or_init(|| {
        let recorder = recorder();
        let handle = recorder.handle();
        ::metrics::set_global_recorder(recorder).expect("no other code of ours installs a recorder");
        handle
    })
}

/// A recorder that knows the catalogue.
fn recorder() -> PrometheusRecorder {
    let histograms = metrics::ALL.iter().filter(|metric| metric.kind == Kind::Histogram);
    let builder = histograms.fold(PrometheusBuilder::new(), |builder, metric| {
        let builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.bounds);
        builder.expect("a test sees to it that every histogram has bounds")
    });
    let recorder = builder.build_recorder();
    with_local_recorder(&recorder, || metrics::ALL.iter().for_each(|metric| describe(metric)));
    recorder
}

fn describe(metric: &Metric) {
    match metric.kind {
        Kind::Counter => ::metrics::describe_counter!(metric.name, metric.help),
        Kind::Gauge => ::metrics::describe_gauge!(metric.name, metric.help),
        Kind::Histogram => ::metrics::describe_histogram!(metric.name, metric.help),
    }
}

fn named(metric: &'static Metric, values: &[&str]) -> Vec<Label> {
    debug_assert_eq!(metric.labels.len(), values.len(), "labels of {}", metric.name);
    metric.labels.iter().zip(values).map(|(name, value)| Label::new(*name, (*value).to_owned())).collect()
}

/// Counters and gauges of one scrape, being written down.
#[derive(Debug)]
pub struct Page {
    recorder: PrometheusRecorder,
}

impl Default for Page {
    fn default() -> Self {
        Page { recorder: recorder() }
    }
}

impl Page {
    /// A counter or gauge with these values of its labels. Counters are whole: a fraction is rounded down.
    pub fn set(&mut self, metric: &'static Metric, labels: &[&str], value: impl Into<Value>) {
        debug_assert_ne!(metric.kind, Kind::Histogram, "{} is a histogram", metric.name);
        let (labels, value) = (named(metric, labels), value.into());
        with_local_recorder(&self.recorder, || match metric.kind {
            Kind::Counter => ::metrics::counter!(metric.name, labels).absolute(value.whole()),
            _ => ::metrics::gauge!(metric.name, labels).set(value.number()),
        });
    }

    /// The text, in the order of a hash map.
    pub fn into_text(self) -> String {
        self.recorder.handle().render()
    }
}

/// A sample's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A whole number; exact in a counter, and in a gauge up to 2^53.
    Whole(u64),
    /// Any other; finite, not negative.
    Fraction(f64),
}

impl Value {
    fn whole(self) -> u64 {
        match self {
            Value::Whole(number) => number,
            Value::Fraction(number) => number as u64,
        }
    }

    fn number(self) -> f64 {
        match self {
            Value::Whole(number) => number as f64,
            Value::Fraction(number) => number,
        }
    }
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

impl From<Duration> for Value {
    /// Seconds.
    fn from(time: Duration) -> Self {
        Value::Fraction(time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(write: impl Fn(&mut Page), expected: &str) {
        let mut page = Page::default();
        write(&mut page);
        let text = page.into_text();
        let samples: Vec<_> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
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
    fn counters_stay_exact_and_gauges_may_have_fractions() {
        check(
            |page| page.set(&metrics::HTTP_CONNECTIONS_REFUSED, &[], u64::MAX),
            &format!("{} {}", metrics::HTTP_CONNECTIONS_REFUSED.name, u64::MAX),
        );
        check(|page| page.set(&metrics::PROCESS_CPU, &[], 2.75), "iguazu_process_cpu_seconds_total 2");
        check(|page| page.set(&metrics::SNAPSHOT_AGE, &[], 0.25), "iguazu_snapshot_age_seconds 0.25");
    }

    #[test]
    fn two_scrapes_have_the_same_order_whatever_wrote_them() {
        let series = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let exporter = |order: Vec<&'static str>| {
            Exporter::new(vec![Box::new(move |page| {
                for registry in &order {
                    page.set(&metrics::REGISTRY_REQUESTS, &[registry], 1u64);
                    page.set(&metrics::EVENTS_LOST, &[registry, registry], 1u64);
                }
            })])
        };
        histogram(&metrics::HTTP_REQUEST_DURATION, &["order"]).record(1.0);
        let text = exporter(series.to_vec()).render();
        assert!(!text.contains("\n\n"), "a blank line:\n{text}");
        let names = |text: &str| -> Vec<String> {
            let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
            types.map(str::to_owned).collect()
        };
        let in_catalogue: Vec<_> = metrics::ALL.iter().map(|metric| metric.name.to_owned()).collect();
        let served = names(&text);
        assert!(served.len() > 5, "{text}");
        assert_eq!(served, in_catalogue.into_iter().filter(|name| served.contains(name)).collect::<Vec<_>>());
        let requests = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| line.starts_with("iguazu_registry_requests_total{"));
            lines.map(str::to_owned).collect()
        };
        assert!(requests(&text).is_sorted() && requests(&text).len() == series.len(), "{text}");
        assert_eq!(requests(&exporter(series.into_iter().rev().collect()).render()), requests(&text));
        let bounds: Vec<f64> = text
            .lines()
            .filter_map(|line| line.strip_prefix("iguazu_http_request_duration_seconds_bucket{door=\"order\",le=\""))
            .filter_map(|rest| rest.split_once('"')?.0.parse().ok())
            .collect();
        assert!(bounds.len() > 5 && bounds.is_sorted(), "{bounds:?}");
    }

    #[test]
    fn what_a_scrape_no_longer_reads_is_not_served_and_a_counter_may_start_over() {
        let readings = std::sync::Mutex::new(vec![vec![("a", 3u64)], vec![("a", 9), ("b", 1)]]);
        let exporter = Exporter::new(vec![Box::new(move |page| {
            for (registry, requests) in readings.lock().unwrap().pop().unwrap() {
                page.set(&metrics::REGISTRY_REQUESTS, &[registry], requests);
            }
        })]);
        let requests = |text: &str| {
            let lines = text.lines().filter(|line| line.starts_with("iguazu_registry_requests_total{"));
            lines.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
        };
        let series = |registry, count| format!("iguazu_registry_requests_total{{registry=\"{registry}\"}} {count}");
        assert_eq!(requests(&exporter.render()), [series("a", 9), series("b", 1)].into());
        assert_eq!(requests(&exporter.render()), [series("a", 3)].into());
    }

    #[test]
    fn the_process_started_once_whoever_asks_and_whenever() {
        let start = |text: &str| {
            let line = text.lines().find(|line| line.starts_with("iguazu_process_start_time_seconds ")).unwrap();
            line.to_owned()
        };
        let first = start(&Exporter::new(vec![]).render());
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(start(&Exporter::new(vec![]).render()), first);
    }

    #[test]
    fn buckets_are_cumulative_and_infinity_holds_them_all() {
        let metric = &metrics::HTTP_REQUEST_DURATION;
        let exporter = Exporter::new(vec![]);
        let observed = histogram(metric, &["buckets"]);
        // On a bound, just above it, and above the last; before, between and after the upkeeps.
        for seconds in [metric.bounds[0], metric.bounds[0] + 1e-9, 1e9] {
            observed.record(seconds);
            upkeep();
        }
        observed.record(0.0);
        let text = exporter.render();
        let counts: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("iguazu_http_request_duration_seconds_bucket{door=\"buckets\",le=\""))
            .map(|rest| rest.split_once("\"} ").unwrap())
            .map(|(bound, count)| (bound.parse::<f64>().unwrap(), count.parse::<u64>().unwrap()))
            .collect();
        let below = |bound: f64| 2 + u64::from(bound > metric.bounds[0]) + u64::from(bound.is_infinite());
        let bounds = metric.bounds.iter().copied().chain([f64::INFINITY]);
        assert_eq!(counts, bounds.map(|bound| (bound, below(bound))).collect::<Vec<_>>());
        assert!(text.contains("iguazu_http_request_duration_seconds_count{door=\"buckets\"} 4\n"), "{text}");
    }
}
