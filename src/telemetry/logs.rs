//! Log lines: JSON for machines, plain for people, on stderr; stdout belongs to data.
//!
//! In: `tracing` events. Out: one line each. Never: an environment variable as a setting, a line per event on the path
//! of an event ([`Sampled`] is for those).

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

use super::export::Page;
use super::metrics::LOG_LINES;
use crate::outcome::Code;

/// How much is logged. What a level means: `error` loses events or wants a hand, `warn` is retried or degraded, `info`
/// is the life of the process, `debug` has senders' mistakes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// Only what loses events or wants a hand.
    Error,
    /// Also what is retried or degraded.
    Warn,
    /// Also the life of the process.
    #[default]
    Info,
    /// Also senders' mistakes.
    Debug,
}

impl Level {
    const fn filter(self) -> LevelFilter {
        match self {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
        }
    }
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line, fields at its top level.
    Json,
    /// For people, with colours.
    Human,
}

/// Begins to log on stderr: for people when it is a terminal, else JSON. Fails when something else in the process has
/// begun already.
pub fn start(level: Level) -> Result<(), tracing::subscriber::SetGlobalDefaultError> {
    let form = if std::io::stderr().is_terminal() { Form::Human } else { Form::Json };
    tracing::subscriber::set_global_default(subscriber(level, form, std::io::stderr))
}

/// The subscriber that [`start`] installs, for any writer.
pub fn subscriber<W>(level: Level, form: Form, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = match form {
        Form::Json => fmt::layer().json().flatten_event(true).with_writer(writer).boxed(),
        Form::Human => fmt::layer().compact().with_target(false).with_writer(writer).boxed(),
    };
    let counted = Counted.with_filter(LevelFilter::WARN.min(level.filter()));
    Registry::default().with(lines.with_filter(targets(level))).with(counted)
}

/// Lines so far, for metrics: at `warn`, and at `error`.
static WARNINGS: AtomicU64 = AtomicU64::new(0);
static ERRORS: AtomicU64 = AtomicU64::new(0);

struct Counted;

impl<S: Subscriber> tracing_subscriber::Layer<S> for Counted {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        match *event.metadata().level() {
            tracing::Level::WARN => drop(WARNINGS.fetch_add(1, Relaxed)),
            tracing::Level::ERROR => drop(ERRORS.fetch_add(1, Relaxed)),
            _ => {}
        }
    }
}

/// Writes how many lines there were.
pub(super) fn write(page: &mut Page) {
    for (level, lines) in [("warn", &WARNINGS), ("error", &ERRORS)] {
        page.set(&LOG_LINES, &[level], lines.load(Relaxed));
    }
}

/// Ours at the level that was asked for; libraries say at `info` and below what only their authors want to know.
fn targets(level: Level) -> Targets {
    let ours = level.filter();
    Targets::new().with_default(ours.min(LevelFilter::WARN)).with_target(env!("CARGO_CRATE_NAME"), ours)
}

/// Lets at most one line a second through for each code: the first at once, the next with the number of those that were
/// left out. What is left out is not even formatted.
#[derive(Debug)]
pub struct Sampled {
    clock: Instant,
    slots: [Slot; Code::ALL.len()],
}

#[derive(Debug)]
struct Slot {
    /// Milliseconds on the clock before which no line goes through.
    closed_until_ms: AtomicU64,
    suppressed: AtomicU64,
}

impl Default for Sampled {
    fn default() -> Self {
        let slot = |_| Slot { closed_until_ms: AtomicU64::new(0), suppressed: AtomicU64::new(0) };
        Sampled { clock: Instant::now(), slots: std::array::from_fn(slot) }
    }
}

impl Sampled {
    const EVERY: Duration = Duration::from_secs(1);

    /// Calls `write` if it is this code's turn, with the number of lines that were left out since the last one.
    ///
    /// ```
    /// # use iguazu::{outcome::Code, telemetry::logs::Sampled};
    /// # let sampled = Sampled::default();
    /// sampled.line(Code::BufferFull, |suppressed| tracing::warn!(suppressed, "producer buffer is full"));
    /// ```
    pub fn line(&self, code: Code, write: impl FnOnce(u64)) {
        if let Some(suppressed) = self.admit(code, self.clock.elapsed()) {
            write(suppressed);
        }
    }

    fn admit(&self, code: Code, now: Duration) -> Option<u64> {
        let slot = &self.slots[code.index()];
        let now_ms = now.as_millis() as u64;
        let closed_until_ms = slot.closed_until_ms.load(Relaxed);
        let next_ms = now_ms + Self::EVERY.as_millis() as u64;
        // Of threads that come at the same moment one wins; the others' lines are left out.
        let is_turn = now_ms >= closed_until_ms
            && slot.closed_until_ms.compare_exchange(closed_until_ms, next_ms, Relaxed, Relaxed).is_ok();
        if is_turn {
            return Some(slot.suppressed.swap(0, Relaxed));
        }
        slot.suppressed.fetch_add(1, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is written at this level and in this form.
    fn lines(level: Level, form: Form) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(subscriber(level, form, move || writer.clone()), || {
            tracing::error!("it is lost");
            tracing::warn!(cluster = "core", queued_bytes = 7, "producer buffer is full");
            tracing::info!("it has started");
            tracing::debug!("a sender's mistake");
            tracing::error!(target: "hyper", "connection failed");
            tracing::warn!(target: "h2::codec", "frame is odd");
            tracing::info!(target: "reqwest", "starting new connection");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn check(level: Level, count: usize) {
        assert_eq!(lines(level, Form::Json).lines().count(), count, "{level:?}");
    }

    #[test]
    fn libraries_never_say_more_than_warnings() {
        check(Level::Error, 2);
        check(Level::Warn, 4);
        check(Level::Info, 5);
        check(Level::Debug, 6);
    }

    #[test]
    fn a_json_line_has_its_fields_at_the_top_level() {
        let text = lines(Level::Warn, Form::Json);
        let line: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["message"], "producer buffer is full");
        assert_eq!(line["cluster"], "core");
        assert_eq!(line["queued_bytes"], 7);
        assert_eq!(line["target"], module_path!());
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
    }

    #[test]
    fn a_line_for_people_has_everything_on_one_line() {
        let text = lines(Level::Warn, Form::Human);
        assert_eq!(text.lines().count(), 4);
        let line = text.lines().nth(1).unwrap();
        assert!(line.contains("producer buffer is full") && line.contains("core"), "{line}");
    }

    #[test]
    fn the_first_line_of_a_code_goes_through_and_then_one_a_second() {
        let sampled = Sampled::default();
        let admit = |code, ms| sampled.admit(code, Duration::from_millis(ms));
        assert_eq!(admit(Code::BufferFull, 5), Some(0));
        assert_eq!(admit(Code::BufferFull, 5), None);
        assert_eq!(admit(Code::BufferFull, 1_004), None);
        assert_eq!(admit(Code::Internal, 6), Some(0), "codes do not hide each other");
        assert_eq!(admit(Code::BufferFull, 1_005), Some(2));
        assert_eq!(admit(Code::BufferFull, 9_000), Some(0));
    }

    #[test]
    fn threads_that_come_together_write_one_line_and_none_is_uncounted() {
        let sampled = Sampled::default();
        let (written, suppressed) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        if let Some(left_out) = sampled.admit(Code::BufferFull, Duration::ZERO) {
                            written.fetch_add(1, Relaxed);
                            suppressed.fetch_add(left_out, Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(written.load(Relaxed), 1);
        let left_out = sampled.admit(Code::BufferFull, Duration::from_secs(1)).unwrap();
        assert_eq!(suppressed.load(Relaxed) + left_out, 7_999);
    }
}
