//! `iguazu redrive`: sends what was kept of failed and rejected events back, after a fix.
//!
//! In: the failed log of a proxy that runs or is gone, or an event type's dead-letter topic. Out: failed records in the topics that
//! they were meant for, byte for byte with the same key, headers and timestamp; rejected events through a proxy's door, as their
//! senders sent them; what was taken back does not come again. Never: drops what is refused again, which stays where it is (a dead
//! letter in its topic, where the proxy has put another), or takes a record that the filters leave out.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use prost_reflect::prost_types::Timestamp;

use super::Failure;
use crate::dead_letter::Reason;

mod dead_letters;
mod door;
mod failed;

use door::Door;

/// Arguments of `iguazu redrive`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What a filter leaves out stays where it is. Killed and run again, it goes on where it was: what
was on its way (half a second) is sent twice, with the same id. Exit code 1 if something was
refused again; it stays, too.

--failed takes the records of the failed log (`failed.folder`) back, beside a proxy that runs or
of one that is gone. Each goes to the topic that it was meant for, through the configuration's
cluster, with acks=all.

--dead-letters reads the event type's dead-letter topic. Events that were rejected go through the
door of the proxy at --to, as their senders sent them, with the same id; the door's sender may have
to be allowed to send them (--api-key-file). Records that failed go to the topic that they were
meant for. The position is that of a consumer group, iguazu-redrive-…, one for each event and
set of filters.

Examples:
  iguazu redrive iguazu.toml --failed --dry-run
  iguazu redrive iguazu.toml --failed --event orders.placed --since 2026-01-31T08:00:00Z
  iguazu redrive iguazu.toml --failed --folder /mnt/orphan/spool/failed
  iguazu redrive iguazu.toml --dead-letters orders.placed --code invalid_payload \\
                 --to http://127.0.0.1:8080")]
#[command(group = clap::ArgGroup::new("source").required(true).args(["failed", "dead_letters"]))]
pub struct Args {
    /// Configuration with the clusters
    config: PathBuf,
    /// Take back the records of the failed log
    #[arg(long)]
    failed: bool,
    /// The failed log's folder [default: the configuration's `failed.folder`]
    #[arg(long, requires = "failed")]
    folder: Option<PathBuf>,
    /// Take back the dead letters of this event type
    #[arg(long, value_name = "EVENT")]
    dead_letters: Option<String>,
    /// Base URL of the proxy through which rejected events go [default: the configuration's `http.listen`]
    #[arg(long, value_name = "URL", requires = "dead_letters")]
    to: Option<String>,
    /// PEM file with the authority of an `https` proxy's certificate [default: those of this system]
    #[arg(long, value_name = "FILE", requires = "to")]
    ca: Option<PathBuf>,
    /// File with the API key of a sender
    #[arg(long, value_name = "FILE", requires = "dead_letters")]
    api_key_file: Option<PathBuf>,
    #[command(flatten)]
    filter: Filter,
    /// Say what would be taken, and take nothing
    #[arg(long)]
    dry_run: bool,
}

/// Which records are taken; all that is given must hold.
#[derive(Debug, Default, clap::Args)]
struct Filter {
    /// Only this event; may stand several times
    #[arg(long = "event", value_name = "EVENT")]
    events: Vec<String>,
    /// Only this code, as in `deploy/docs/errors.md`; may stand several times
    #[arg(long = "code", value_name = "CODE")]
    codes: Vec<String>,
    /// Only the event with this id; may stand several times
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
    /// Only events received at this time or later, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    since: Option<i64>,
    /// Only events received before this time
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    until: Option<i64>,
}

/// Milliseconds since 1970.
fn milliseconds(text: &str) -> Result<i64, String> {
    let time: Timestamp = text.parse().map_err(|_| "must be a time such as `2026-01-31T08:30:00Z`".to_owned())?;
    Ok(time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000)
}

impl Filter {
    /// Whether a record is to be taken; its id is looked up only if that is asked for.
    fn wants(&self, reason: &Reason, received_ms: i64, id: impl FnOnce() -> Option<String>) -> bool {
        let among = |wanted: &[String], found: &str| wanted.is_empty() || wanted.iter().any(|one| one == found);
        among(&self.events, &reason.event)
            && among(&self.codes, &reason.code)
            && self.since.is_none_or(|since| received_ms >= since)
            && self.until.is_none_or(|until| received_ms < until)
            && (self.ids.is_empty() || id().is_some_and(|id| among(&self.ids, &id)))
    }
}

/// Runs it.
pub fn run(args: Args) -> Result<(), Failure> {
    let config = super::check::load_with_routes(&args.config)?;
    if let Some(event) = &args.dead_letters {
        let to = args.to.clone().unwrap_or_else(|| format!("http://{}", config.http.listen));
        let door = Door::open(&to, args.ca.as_deref(), args.api_key_file.as_deref())?;
        return dead_letters::run(&config, event, &door, &args.filter, args.dry_run);
    }
    failed::run(&config, args.folder, &args.filter, args.dry_run)
}

/// What a run came to.
#[derive(Debug, Default)]
struct Tally {
    /// Wanted by the filters, by event and code.
    found: BTreeMap<(String, String), u64>,
    /// Left out by the filters.
    left_out: u64,
    /// Taken back.
    done: u64,
    /// Refused again, by why.
    refused: BTreeMap<String, u64>,
    /// Not tried, or not answered.
    open: u64,
    /// What could not be read.
    problems: Vec<String>,
}

impl Tally {
    fn find(&mut self, reason: &Reason) {
        *self.found.entry((reason.event.clone(), reason.code.clone())).or_default() += 1;
    }

    fn refuse(&mut self, why: impl Into<String>) {
        *self.refused.entry(why.into()).or_default() += 1;
    }

    /// Says it, and what the exit code follows from.
    fn tell(&self, dry_run: bool) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let Tally { found, left_out, done, refused, open, problems } = self;
        found.iter().try_for_each(|((event, code), count)| writeln!(out, "{count:>12}  {event}  {code}"))?;
        let (found, again): (u64, u64) = (found.values().sum(), refused.values().sum());
        match dry_run {
            true => writeln!(out, "{found} found, {left_out} left out by the filters; nothing was sent")?,
            false => writeln!(
                out,
                "{found} found, {left_out} left out by the filters: {done} sent, {again} refused again, {open} not tried"
            )?,
        }
        refused.iter().try_for_each(|(why, count)| writeln!(out, "{count:>12}  refused: {why}"))?;
        problems.iter().try_for_each(|problem| writeln!(out, "  {problem}"))?;
        out.flush()?;
        if again == 0 && *open == 0 && problems.is_empty() { Ok(()) } else { Err(Failure::Told) }
    }
}

/// Says how far it is, now and then, for whoever watches a terminal.
struct Progress {
    told: Instant,
}

/// How often it says so.
const TELL_EVERY: Duration = Duration::from_secs(1);

impl Progress {
    fn start() -> Progress {
        Progress { told: Instant::now() }
    }

    fn tell(&mut self, tally: &Tally) {
        if self.told.elapsed() >= TELL_EVERY && io::stderr().is_terminal() {
            self.told = Instant::now();
            let again: u64 = tally.refused.values().sum();
            eprint!("\r{} sent, {again} refused again ", tally.done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::Stage;

    fn check(filter: &Filter, expected: bool) {
        let reason = Reason {
            stage: Stage::Failed,
            code: "unknown".to_owned(),
            message: "timed_out".to_owned(),
            event: "a.b".to_owned(),
            topic: None,
            id: None,
            part: None,
            is_base64: false,
            schema: None,
        };
        assert_eq!(filter.wants(&reason, 1_000, || Some("7".to_owned())), expected, "{filter:?}");
    }

    #[test]
    fn a_record_is_taken_if_all_that_is_asked_for_holds() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        check(&Filter { events: texts(&["a.c"]), ..Filter::default() }, false);
        check(&Filter { codes: texts(&["delivery_failed"]), ..Filter::default() }, false);
        check(&Filter { ids: texts(&["8"]), ..Filter::default() }, false);
        check(&Filter { since: Some(1_001), ..Filter::default() }, false);
        check(&Filter { until: Some(1_000), ..Filter::default() }, false);
        check(&Filter { events: texts(&["a.b"]), codes: texts(&["record_refused"]), ..Filter::default() }, false);
        check(&Filter::default(), true);
        let (events, codes, ids) = (texts(&["x", "a.b"]), texts(&["unknown"]), texts(&["7"]));
        check(&Filter { events, codes, ids, since: Some(1_000), until: Some(1_001) }, true);
    }

    #[test]
    fn a_time_is_rfc_3339() {
        assert_eq!(milliseconds("1970-01-01T00:00:01.500Z"), Ok(1_500));
        assert!(milliseconds("yesterday").is_err_and(|told| told.contains("2026-01-31T08:30:00Z")));
    }
}
