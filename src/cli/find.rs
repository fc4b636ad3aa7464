//! `iguazu find EVENT ID`: where an event is.
//!
//! In: an event name and an id. Out: partition and offset with the event itself, or that it waits in the spool, or that it is in
//! neither. Never: reads a whole topic: our ids and the records' timestamps are the time an event was received, so reading
//! begins there.

use std::io;
use std::path::{Path, PathBuf};

use super::Failure;
use super::interrupt::Interrupt;
use super::moments::{moment, shown};
use super::target::{Target, TargetArgs};
use crate::dev::decode::{self, Decoder};
use crate::dev::window::Window;
use crate::envelope::{headers, ids};
use crate::produce::{settings, wal};
use crate::spool::{Entry, inspect};

/// How far before its id's time an event may have been received: clocks of senders that make their own ids.
const EARLY_MS: i64 = 60_000;
/// How far records are looked at behind it, by default: what waited on disk stands behind what came after it.
const LATE_MS: i64 = 3_600_000;
/// How far copies are looked for behind the first one.
const COPIES_MS: i64 = 60_000;

/// Arguments of `iguazu find`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints where the event is and, when it is in Kafka, the event as `iguazu tail` does. Exit code 1
when it is nowhere. An id that Iguazu made (a UUIDv7) says when its event was received, so only
records of that time are read: from a minute before to an hour after, since what waited on disk
stands behind later records. Any other id needs --since.

Examples:
  iguazu find orders.placed 0190163d-8694-739b-aea5-966c26f8ad91 --config /etc/iguazu.toml
  iguazu find orders.placed order-17 --since 2026-01-31T09:00:00Z --until 2026-01-31T10:00:00Z
  iguazu find page_viewed 0190163d-8694-739b-aea5-966c26f8ad91 --brokers kafka-1:9092 --topic web")]
pub struct Args {
    /// Name of the event
    event: String,
    /// Its id
    id: String,
    /// It was not received before, RFC 3339 [default: a minute before the id's time]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<i64>,
    /// Read no further than records that were received then [default: an hour after the id's time]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<i64>,
    /// Folder of the spool to look into [default: the configuration's `spool.folder`]
    #[arg(long, value_name = "FOLDER")]
    spool: Option<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
}

/// The time in which to look, milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    since: i64,
    until: i64,
}

/// Runs it.
pub fn run(args: Args) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let range = range(&args.id, args.since, args.until)?;
    let target = args.target.find(&args.event)?;
    let mut out = io::stdout().lock();
    let spool = match &args.spool {
        Some(folder) => Some(folder.clone()),
        None => args.target.read()?.and_then(|(config, _)| config.spool).map(|spool| spool.folder),
    };
    let mut found = 0;
    let mut looked_into = Vec::new();
    if let Some(folder) = spool.filter(|folder| args.spool.is_some() || folder.exists()) {
        found += find_in_spool(&folder, &args, &mut out)?;
        looked_into.push(format!("the spool `{}`", folder.display()));
    }
    match find_in_kafka(&target, &args, range, &interrupt, &mut out) {
        Ok(records) => found += records,
        // A spool holds events because Kafka is away: that it is there is an answer all the same.
        Err(Failure::Failed(reason)) if found > 0 => eprintln!("iguazu: {reason}"),
        Err(failure) => return Err(failure),
    }
    if interrupt.happened() {
        return Err(Failure::Interrupted);
    }
    if found > 0 {
        return Ok(());
    }
    let (event_type, cluster) = (&target.event_type, &target.cluster.name);
    let until = if range.until == i64::MAX { "now".to_owned() } else { shown(range.until) };
    looked_into.insert(
        0,
        format!("topic `{}` of cluster `{cluster}` from {} to {until}", event_type.topic, shown(range.since)),
    );
    Err(Failure::Failed(format!(
        "event `{}` is not there: looked into {}; an event that was received or delivered at another time needs `--since` and `--until`",
        args.id,
        looked_into.join(" and ")
    )))
}

fn range(id: &str, since: Option<i64>, until: Option<i64>) -> Result<Range, Failure> {
    let received = ids::time_of(id).and_then(|ms| i64::try_from(ms).ok());
    let range = match (received, since) {
        (_, Some(since)) => Range { since, until: until.unwrap_or(i64::MAX) },
        (Some(ms), None) => Range { since: ms - EARLY_MS, until: until.unwrap_or(ms + LATE_MS) },
        (None, None) => {
            return Err(Failure::Usage(format!(
                "`{id}` is no UUIDv7, so it does not say when its event was received; name `--since TIME`"
            )));
        }
    };
    if range.since > range.until {
        return Err(Failure::Usage(format!("`--until` is before {}", shown(range.since))));
    }
    Ok(range)
}

/// How many of its entries wait in the spool or the wal.
fn find_in_spool(folder: &Path, args: &Args, out: &mut impl io::Write) -> Result<u64, Failure> {
    let mut lines = Vec::new();
    let mut look = |cluster: &str, entry: &Entry<'_>| {
        let is_it = entry.event == args.event
            && headers::read(entry.headers.iter(), entry.timestamp_ms, entry.key).is_ok_and(|read| read.id == args.id);
        if is_it {
            lines.push(format!(
                "in the spool, for topic {} of cluster {cluster}, received {}",
                entry.topic,
                shown(entry.timestamp_ms)
            ));
        }
    };
    let unreadable = |error| Failure::Failed(format!("cannot read {}: {error}", folder.display()));
    let mut contents = inspect::visit(folder, &mut look).map_err(unreadable)?;
    let wals = wal::folder(folder);
    if wals.exists() {
        contents.extend(inspect::visit(&wals, &mut look).map_err(unreadable)?);
    }
    for problem in contents.iter().flat_map(|contents| &contents.problems) {
        eprintln!("iguazu: the spool cannot be read whole: {problem}");
    }
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    Ok(lines.len() as u64)
}

/// How many of its records are in the topic.
fn find_in_kafka(
    target: &Target,
    args: &Args,
    range: Range,
    interrupt: &Interrupt,
    out: &mut impl io::Write,
) -> Result<u64, Failure> {
    let (event_type, cluster) = (&target.event_type, &target.cluster);
    let mut window = open_window(target, range.since, range.until)?;
    let mut decoder = None;
    let mut found = 0;
    while let Some(record) = window.next(|| interrupt.happened()).map_err(|error| target.unreached(&error))? {
        let is_it = decode::envelope(&record).is_ok_and(|read| read.id == args.id && read.event == event_type.name);
        if !is_it {
            continue;
        }
        found += 1;
        let received = record.timestamp_ms.unwrap_or(range.since);
        window.end_at(received.saturating_add(COPIES_MS));
        let decoder = match &mut decoder {
            Some(decoder) => decoder,
            none => none.insert(
                Decoder::new(target.registry.as_ref(), decode::subjects(event_type)).map_err(Failure::because)?,
            ),
        };
        writeln!(
            out,
            "in Kafka: cluster {}, topic {}, partition {}, offset {}, received {}",
            cluster.name,
            event_type.topic,
            record.partition,
            record.offset,
            shown(received)
        )?;
        serde_json::to_writer(&mut *out, &decoder.line(&record, &event_type.sensitive)).map_err(io::Error::from)?;
        writeln!(out)?;
    }
    Ok(found)
}

/// The event's topic from then on, to records that were received later than `until`.
pub fn open_window(target: &Target, since: i64, until: i64) -> Result<Window, Failure> {
    let connection = settings::connection(&target.cluster);
    let bootstrap = target.cluster.brokers.join(",");
    let window = Window::open(&bootstrap, &connection, &target.event_type.topic, since, until);
    window.map_err(|error| target.unreached(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

    #[test]
    fn an_id_of_ours_says_when_and_any_other_needs_to_be_told() {
        let ms = 0x0190_163d_8694;
        let check = |id: &str, since, until| range(id, since, until).map_err(|error| error.to_string());
        assert_eq!(check(OURS, None, None), Ok(Range { since: ms - EARLY_MS, until: ms + LATE_MS }));
        assert_eq!(check(OURS, None, Some(ms)), Ok(Range { since: ms - EARLY_MS, until: ms }));
        assert_eq!(check("order-17", Some(5), None), Ok(Range { since: 5, until: i64::MAX }));
        assert!(check("order-17", None, Some(5)).is_err_and(|error| error.contains("--since")));
        assert!(check(OURS, Some(5), Some(4)).is_err());
    }
}
