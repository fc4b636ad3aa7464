//! `iguazu spool ls|verify|drain`: looks at a folder of spools and wals, and empties one whose proxy is gone.
//!
//! In: the folder; to drain it, a configuration with its clusters. Out: what waits, for which cluster, whether its files are
//! sound; events in Kafka. Never: changes a folder that it only looks at, or takes one from a proxy that runs.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;

use super::Failure;
use super::interrupt::Interrupt;
use crate::config::Config;
use crate::envelope::time;
use crate::outcome::{Balance, Ledger};
use crate::produce::wal::{self, Volume};
use crate::produce::{Destination, Producers, Replay, Rest, Wal, WalSender};
use crate::spool::inspect::{self, Contents};
use crate::spool::{Settings, Spool};

/// How soon ^C and the end are seen.
const POLL: Duration = Duration::from_millis(50);
/// How long what is on its way to Kafka may take once everything was handed out, or after ^C.
const FLUSH: Duration = Duration::from_secs(10);

/// Arguments of `iguazu spool`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
FOLDER is the configuration's `spool.folder`. `ls` and `verify` read every entry and may run
beside the proxy; what it is writing at the moment shows as torn. `drain` needs the folder for
itself: it is for the volume of a proxy that is gone. Each event goes to the cluster that it was
meant for, as the configuration reaches it, and is removed once Kafka has acknowledged it.

Examples:
  iguazu spool ls /var/lib/iguazu/spool
  iguazu spool verify /var/lib/iguazu/spool
  iguazu spool drain /etc/iguazu.toml --folder /mnt/orphan/spool")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What waits, by cluster and event.
    Ls {
        /// The spool's folder
        folder: PathBuf,
    },
    /// Check every file; exit code 1 when something is not as it was written.
    Verify {
        /// The spool's folder
        folder: PathBuf,
    },
    /// Produce what is left in a folder.
    Drain {
        /// Configuration with the clusters
        config: PathBuf,
        /// The spool's folder [default: the configuration's `spool.folder`]
        #[arg(long)]
        folder: Option<PathBuf>,
    },
}

/// Runs it.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Ls { folder } => ls(&folder),
        Command::Verify { folder } => verify(&folder),
        Command::Drain { config, folder } => drain(&super::check::load(&config)?, folder),
    }
}

fn ls(folder: &Path) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for (log, contents) in look(folder)? {
        write!(out, "{}", Shown(log, &contents))?;
    }
    Ok(())
}

fn verify(folder: &Path) -> Result<(), Failure> {
    let all = look(folder)?;
    let mut out = io::stdout().lock();
    for (log, contents) in &all {
        let Contents { torn_bytes, damaged_bytes, put_aside, problems, .. } = contents;
        let verdict = if contents.is_sound() { "sound" } else { "NOT sound" };
        let entries = waiting(contents) + contents.settled;
        writeln!(out, "{}{}: {verdict}; {entries} entries", name(contents), log.mark())?;
        if *torn_bytes > 0 {
            writeln!(out, "  {torn_bytes} bytes at an end are being written, or were when the writer was cut off")?;
        }
        if *damaged_bytes > 0 {
            writeln!(out, "  {damaged_bytes} bytes were changed by something; the events in them are lost")?;
        }
        if *put_aside > 0 {
            writeln!(
                out,
                "  {put_aside} damaged segments were put aside (*.damaged); remove them when they are of no use"
            )?;
        }
        for problem in problems {
            writeln!(out, "  {problem}")?;
        }
    }
    if all.iter().all(|(_, contents)| contents.is_sound()) { Ok(()) } else { Err(Failure::Told) }
}

/// Which log of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Log {
    Spool,
    Wal,
}

impl Log {
    /// What stands behind the cluster's name.
    fn mark(self) -> &'static str {
        match self {
            Log::Spool => "",
            Log::Wal => " (wal)",
        }
    }
}

fn look(folder: &Path) -> Result<Vec<(Log, Contents)>, Failure> {
    let read = |log, folder: &Path| {
        let unreadable = |error| Failure::Failed(format!("cannot read {}: {error}", folder.display()));
        let contents = inspect::contents(folder).map_err(unreadable)?;
        Ok::<_, Failure>(contents.into_iter().map(move |contents| (log, contents)))
    };
    let wals = wal::folder(folder);
    let spools = read(Log::Spool, folder)?;
    match wals.exists() {
        true => Ok(spools.chain(read(Log::Wal, &wals)?).collect()),
        false => Ok(spools.collect()),
    }
}

fn waiting(contents: &Contents) -> u64 {
    contents.waiting.values().sum()
}

/// The cluster's name, or its folder when no segment says it.
fn name(contents: &Contents) -> String {
    contents.cluster.clone().unwrap_or_else(|| contents.folder.display().to_string())
}

/// What one cluster's spool or wal holds, as lines.
struct Shown<'a>(Log, &'a Contents);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shown(log, contents) = self;
        let Contents { segments, bytes, received_ms, .. } = contents;
        let (name, events) = (name(contents), waiting(contents));
        write!(f, "{name}{}: {events} events wait, {bytes} bytes in {segments} segments", log.mark())?;
        if let Some((first, last)) = received_ms {
            write!(f, ", received from {} to {}", at(*first), at(*last))?;
        }
        writeln!(f)?;
        contents.waiting.iter().try_for_each(|(event, count)| writeln!(f, "  {count:>12}  {event}"))
    }
}

fn at(milliseconds: i64) -> String {
    let nanos = milliseconds.rem_euclid(1_000) * 1_000_000;
    time::from_timestamp(milliseconds.div_euclid(1_000), nanos as i32).unwrap_or_else(|| format!("{milliseconds} ms"))
}

/// One spool or wal that is being emptied.
enum Emptying {
    Spool(Replay),
    Wal(WalSender),
}

impl Emptying {
    fn is_empty(&self) -> bool {
        match self {
            Emptying::Spool(replay) => replay.is_empty(),
            Emptying::Wal(sender) => sender.is_empty(),
        }
    }

    fn stop(self) -> (Arc<Spool>, Option<Rest>) {
        match self {
            Emptying::Spool(replay) => (Arc::clone(replay.spool()), replay.stop()),
            Emptying::Wal(sender) => (Arc::clone(sender.wal().log()), sender.stop()),
        }
    }
}

fn drain(config: &Config, folder: Option<PathBuf>) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let folder = folder.or_else(|| config.spool.as_ref().map(|spool| spool.folder.clone()));
    let no_folder = || Failure::Usage("the configuration has no `[spool]`; name the folder with `--folder`".to_owned());
    let folder = folder.ok_or_else(no_folder)?;
    let (ledger, producers) = (Arc::new(Ledger::default()), Arc::new(Producers::default()));
    let of_spool = Settings { folder: folder.clone(), bytes_max: u64::MAX, sync_interval: Duration::ZERO };
    let of_wal = Settings { folder: wal::folder(&folder), ..of_spool.clone() };
    let mut emptying = Vec::new();
    for (log, contents) in look(&folder)?.iter().filter(|(_, contents)| contents.segments > 0) {
        let cluster = contents.cluster.as_ref().and_then(|name| config.clusters.iter().find(|c| c.name == *name));
        let Some(cluster) = cluster.cloned() else {
            let name = name(contents);
            return Err(Failure::Usage(format!(
                "events wait for `{name}`, of which the configuration knows no cluster"
            )));
        };
        let settings = if *log == Log::Wal { &of_wal } else { &of_spool };
        let (spool, reader) = Spool::open(settings, &cluster.name).map_err(Failure::because)?;
        let to = Destination { cluster, producers: Arc::clone(&producers), ledger: Arc::clone(&ledger) };
        emptying.push(match log {
            Log::Spool => Emptying::Spool(Replay::start(spool, reader, to)?),
            Log::Wal => Emptying::Wal(WalSender::start(Arc::new(Wal::new(spool, Volume::Lasting)), reader, to)?),
        });
    }
    while !interrupt.happened() && !emptying.iter().all(Emptying::is_empty) {
        std::thread::sleep(POLL);
    }
    let (spools, rests): (Vec<_>, Vec<_>) = emptying.into_iter().map(Emptying::stop).unzip();
    producers.stop(FLUSH);
    spools.iter().for_each(|spool| spool.close());
    rests.into_iter().flatten().for_each(Rest::finish);
    let Balance { recovered, delivered, failed, in_spool, .. } = ledger.total();
    writeln!(
        io::stdout(),
        "{recovered} events found: {delivered} delivered, {failed} refused for good, {in_spool} left"
    )?;
    match (failed, in_spool) {
        _ if interrupt.happened() => Err(Failure::Interrupted),
        (0, 0) => Ok(()),
        _ => Err(Failure::Told),
    }
}
