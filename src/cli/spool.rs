//! `iguazu spool ls|verify|drain`: looks at a folder of spools and wals, and empties one whose proxy is gone.
//!
//! In: the folder; to drain it, a configuration with its clusters. Out: what waits, for which cluster, what was given up, whether
//! the files are sound; events in Kafka. Never: changes a folder that it only looks at, or takes one from a proxy that runs.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::Failure;
use crate::config::FAILED_FOLDER;
use crate::envelope::time;
use crate::produce::wal;
use crate::spool::inspect::{self, Contents};

mod drain;

/// Arguments of `iguazu spool`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
FOLDER is the configuration's `spool.folder`. `ls` and `verify` read every entry and may run
beside the proxy; what it is writing at the moment shows as torn. They look at the failed log in
FOLDER/failed as well.

`drain` needs the folder for itself: it is for the volume of a proxy that is gone. Each event goes
to the cluster that it was meant for, as the configuration reaches it, and is removed once Kafka
has acknowledged it. What Kafka refuses for good goes to the failed log of that folder:
FOLDER/failed, or the configuration's `failed.folder` if FOLDER is its `spool.folder`. Exit code 0
means that nothing is left, in that log either, and that the folder can go; 1, on every run, that
something is: `redrive --failed` takes back what is in the failed log.

Examples:
  iguazu spool ls /var/lib/iguazu/spool
  iguazu spool verify /var/lib/iguazu/spool
  iguazu spool drain /etc/iguazu.toml --folder /mnt/orphan/spool
  iguazu redrive /etc/iguazu.toml --failed --folder /mnt/orphan/spool/failed")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What waits, and what was given up, by cluster and event.
    Ls {
        /// The spool's folder
        folder: PathBuf,
    },
    /// Check every file; exit code 1 when something is not as it was written.
    Verify {
        /// The spool's folder
        folder: PathBuf,
    },
    /// Produce what is left in a folder; exit code 1 while something is.
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
        Command::Drain { config, folder } => drain::run(&super::check::load(&config)?, folder),
    }
}

fn ls(folder: &Path) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for (log, contents) in look(folder, &folder.join(FAILED_FOLDER))? {
        write!(out, "{}", Shown(log, &contents))?;
    }
    Ok(())
}

fn verify(folder: &Path) -> Result<(), Failure> {
    let all = look(folder, &folder.join(FAILED_FOLDER))?;
    let mut out = io::stdout().lock();
    all.iter().try_for_each(|(log, contents)| write!(out, "{}", Verdict(*log, contents)))?;
    if all.iter().all(|(_, contents)| contents.is_sound()) { Ok(()) } else { Err(Failure::Told) }
}

/// Which log of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Log {
    Spool,
    Wal,
    Failed,
}

impl Log {
    /// What stands behind the cluster's name.
    fn mark(self) -> &'static str {
        match self {
            Log::Spool => "",
            Log::Wal => " (wal)",
            Log::Failed => " (failed)",
        }
    }

    /// What its events do.
    fn verb(self) -> &'static str {
        match self {
            Log::Spool | Log::Wal => "wait",
            Log::Failed => "were given up",
        }
    }
}

/// What is in a folder of spools, in the wals below it, and in this folder of failed logs.
fn look(folder: &Path, failed: &Path) -> Result<Vec<(Log, Contents)>, Failure> {
    let read = |log, folder: &Path| {
        let unreadable = |error| Failure::Failed(format!("cannot read {}: {error}", folder.display()));
        let contents = inspect::contents(folder).map_err(unreadable)?;
        Ok::<_, Failure>(contents.into_iter().map(move |contents| (log, contents)))
    };
    let wals = wal::folder(folder);
    let mut found: Vec<_> = read(Log::Spool, folder)?.collect();
    if wals.exists() {
        found.extend(read(Log::Wal, &wals)?);
    }
    if failed.exists() {
        // A proxy makes one for each cluster, and hopes that it stays empty.
        found.extend(read(Log::Failed, failed)?.filter(|(_, contents)| contents.segments > 0 || !contents.is_sound()));
    }
    Ok(found)
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
        let (mark, verb) = (log.mark(), log.verb());
        write!(f, "{name}{mark}: {events} events {verb}, {bytes} bytes in {segments} segments")?;
        if let Some((first, last)) = received_ms {
            write!(f, ", received from {} to {}", at(*first), at(*last))?;
        }
        writeln!(f)?;
        contents.waiting.iter().try_for_each(|(event, count)| writeln!(f, "  {count:>12}  {event}"))
    }
}

/// Whether its files are as they were written, as lines.
struct Verdict<'a>(Log, &'a Contents);

impl std::fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Verdict(log, contents) = self;
        let Contents { torn_bytes, damaged_bytes, put_aside, problems, .. } = contents;
        let verdict = if contents.is_sound() { "sound" } else { "NOT sound" };
        let entries = waiting(contents) + contents.settled;
        writeln!(f, "{}{}: {verdict}; {entries} entries", name(contents), log.mark())?;
        if *torn_bytes > 0 {
            writeln!(f, "  {torn_bytes} bytes at an end are being written, or were when the writer was cut off")?;
        }
        if *damaged_bytes > 0 {
            writeln!(f, "  {damaged_bytes} bytes were changed by something; the events in them are lost")?;
        }
        if *put_aside > 0 {
            writeln!(
                f,
                "  {put_aside} damaged segments were put aside (*.damaged); remove them when they are of no use"
            )?;
        }
        problems.iter().try_for_each(|problem| writeln!(f, "  {problem}"))
    }
}

fn at(milliseconds: i64) -> String {
    let nanos = milliseconds.rem_euclid(1_000) * 1_000_000;
    time::from_timestamp(milliseconds.div_euclid(1_000), nanos as i32).unwrap_or_else(|| format!("{milliseconds} ms"))
}
