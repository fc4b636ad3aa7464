//! `iguazu spool drain`: empties the folder of a proxy that is gone.
//!
//! In: the folder, and a configuration with its clusters. Out: events in Kafka; what Kafka refuses for good in the folder's failed
//! log; success only when nothing is left that anybody could miss, so that a folder may go by the exit code. Never: settles an
//! event that is neither acknowledged nor kept, or takes a folder from a proxy that runs.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Log, Shown, Verdict, look, name, waiting};
use crate::cli::Failure;
use crate::cli::interrupt::Interrupt;
use crate::config::{Cluster, Config, FAILED_FOLDER};
use crate::outcome::{Balance, Ledger};
use crate::produce::wal::{self, Volume};
use crate::produce::{Destination, Producers, Replay, Rest, Wal, WalSender};
use crate::spool::inspect;
use crate::spool::{Reader, Settings, Spool, SpoolError, failed};

/// How soon ^C and the end are seen.
const POLL: Duration = Duration::from_millis(50);
/// How long what is on its way to Kafka, or to the failed log, may take once everything was handed out, or after ^C.
const FLUSH: Duration = Duration::from_secs(10);
/// How long a redrive may have the failed log at its end.
const REDRIVE_ENDS: Duration = Duration::from_secs(5);
/// A failed log whose disk takes nothing ends the drain when nothing was settled for so long.
const STUCK: Duration = Duration::from_secs(30);

pub(super) fn run(config: &Config, folder: Option<PathBuf>) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let folder = folder.or_else(|| config.spool.as_ref().map(|spool| spool.folder.clone()));
    let no_folder = || Failure::Usage("the configuration has no `[spool]`; name the folder with `--folder`".to_owned());
    let folder = folder.ok_or_else(no_folder)?;
    let failed = failed_log_of(config, &folder);
    let logs = open(config, &folder)?;
    let (ledger, producers) = (Arc::new(Ledger::default()), Arc::new(Producers::default()));
    let failed_logs = open_failed_logs(config, &failed, &producers, &interrupt)?;
    let start = |log| Emptying::start(log, &producers, &ledger);
    let emptying = logs.into_iter().map(start).collect::<io::Result<Vec<_>>>()?;
    let mut watch = Watch::start();
    while !interrupt.happened() && !emptying.iter().all(Emptying::is_empty) {
        if watch.is_stuck(&failed_logs, &ledger.total()) {
            break;
        }
        std::thread::sleep(POLL);
    }
    let (spools, rests): (Vec<_>, Vec<_>) = emptying.into_iter().map(Emptying::stop).unzip();
    producers.stop(FLUSH);
    // What the failed log has not written is still in the spool, and is settled there only if it gets so far.
    let end = Instant::now() + FLUSH;
    while ledger.total().in_memory > 0 && Instant::now() < end {
        std::thread::sleep(POLL);
    }
    spools.iter().for_each(|spool| spool.close());
    rests.into_iter().flatten().for_each(Rest::finish);
    let troubles: Vec<_> = failed_logs.iter().filter_map(|log| log.stats().trouble).collect();
    for log in failed_logs {
        failed::tidy(&log)?;
        log.close();
    }
    let Balance { recovered, delivered, failed: refused, in_spool, .. } = ledger.total();
    let mut out = io::stdout().lock();
    writeln!(out, "{recovered} events found: {delivered} delivered, {refused} refused for good, {in_spool} left")?;
    for (trouble, _) in troubles {
        writeln!(out, "what is refused cannot be kept in {}, and stays in the spool: {trouble}", failed.display())?;
    }
    let is_empty = tell_what_is_left(&folder, &failed, &mut out)?;
    match is_empty {
        _ if interrupt.happened() => Err(Failure::Interrupted),
        true => Ok(()),
        false => Err(Failure::Told),
    }
}

/// The failed log that belongs to a folder of spools: the one that the proxy of that folder has by default, unless the folder
/// is that of this very configuration.
fn failed_log_of(config: &Config, folder: &Path) -> PathBuf {
    let is_same = |spool: &Path| match (spool.canonicalize(), folder.canonicalize()) {
        (Ok(spool), Ok(folder)) => spool == folder,
        _ => false,
    };
    let is_ours = config.spool.as_ref().is_some_and(|spool| is_same(&spool.folder));
    let named = config.failed.as_ref().filter(|_| is_ours).map(|failed| failed.folder.clone());
    named.unwrap_or_else(|| folder.join(FAILED_FOLDER))
}

/// A spool or wal that is to be emptied, and the cluster that it is for.
struct Opened {
    log: Log,
    spool: Arc<Spool>,
    reader: Reader,
    cluster: Cluster,
}

/// Opens every spool and wal that holds something. A proxy that runs has them, so that nobody can.
fn open(config: &Config, folder: &Path) -> Result<Vec<Opened>, Failure> {
    let of_spool = settings(folder);
    let of_wal = settings(&wal::folder(folder));
    let found = look(folder, &folder.join(FAILED_FOLDER))?;
    // A mistaken name must not look like a folder that is empty by now.
    if found.is_empty() && !inspect::is_folder_of_logs(&of_wal.folder) {
        return Err(Failure::Failed(format!(
            "`{}` holds no spool; it must be what was the `spool.folder` of a proxy",
            folder.display()
        )));
    }
    let mut opened = Vec::new();
    for (log, contents) in &found {
        let settings = match log {
            _ if contents.segments == 0 => continue,
            Log::Spool => &of_spool,
            Log::Wal => &of_wal,
            Log::Failed => continue,
        };
        let cluster = contents.cluster.as_ref().and_then(|name| config.clusters.iter().find(|c| c.name == *name));
        let Some(cluster) = cluster.cloned() else {
            let name = name(contents);
            return Err(Failure::Usage(format!(
                "events wait for `{name}`, of which the configuration knows no cluster"
            )));
        };
        let (spool, reader) = Spool::open(settings, &cluster.name).map_err(Failure::because)?;
        opened.push(Opened { log: *log, spool, reader, cluster });
    }
    Ok(opened)
}

fn settings(folder: &Path) -> Settings {
    Settings { folder: folder.to_owned(), bytes_max: u64::MAX, sync_interval: Duration::ZERO }
}

/// Opens the failed log of every cluster, as a proxy does, and lets the producers keep there what they give up.
fn open_failed_logs(
    config: &Config,
    folder: &Path,
    producers: &Producers,
    interrupt: &Interrupt,
) -> Result<Vec<Arc<Spool>>, Failure> {
    let settings = settings(folder);
    let end = Instant::now() + REDRIVE_ENDS;
    let open = |cluster: &Cluster| loop {
        match failed::open(&settings, &cluster.name) {
            Err(SpoolError::Locked { .. }) if Instant::now() < end && !interrupt.happened() => std::thread::sleep(POLL),
            Err(error) => return Err(Failure::because(error)),
            Ok(log) => {
                producers.keeper(&cluster.name).keep_all_in(&log);
                return Ok(log);
            }
        }
    };
    config.clusters.iter().map(open).collect()
}

/// One spool or wal that is being emptied.
enum Emptying {
    Spool(Replay),
    Wal(WalSender),
}

impl Emptying {
    fn start(opened: Opened, producers: &Arc<Producers>, ledger: &Arc<Ledger>) -> io::Result<Emptying> {
        let Opened { log, spool, reader, cluster } = opened;
        let to = Destination { cluster, producers: Arc::clone(producers), ledger: Arc::clone(ledger) };
        match log {
            Log::Wal => {
                let wal = Arc::new(Wal::new(spool, Volume::Lasting));
                WalSender::start(wal, reader, to).map(Emptying::Wal)
            }
            Log::Spool | Log::Failed => Replay::start(spool, reader, to).map(Emptying::Spool),
        }
    }

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

/// Sees that what is refused finds no place, and that nothing else goes on.
struct Watch {
    settled: u64,
    moved: Instant,
}

impl Watch {
    fn start() -> Watch {
        Watch { settled: 0, moved: Instant::now() }
    }

    fn is_stuck(&mut self, failed_logs: &[Arc<Spool>], balance: &Balance) -> bool {
        let so_far = balance.delivered + balance.failed;
        if std::mem::replace(&mut self.settled, so_far) != so_far {
            self.moved = Instant::now();
        }
        self.moved.elapsed() > STUCK && failed_logs.iter().any(|log| log.stats().trouble.is_some())
    }
}

/// Says what is still in the folder and in its failed log; whether that is nothing.
fn tell_what_is_left(folder: &Path, failed: &Path, out: &mut impl io::Write) -> Result<bool, Failure> {
    let mut left = look(folder, failed)?;
    left.retain(|(_, contents)| waiting(contents) > 0 || !contents.is_sound());
    for (log, contents) in &left {
        write!(out, "{}", Shown(*log, contents))?;
        if !contents.is_sound() {
            write!(out, "{}", Verdict(*log, contents))?;
        }
    }
    if left.iter().any(|(log, contents)| *log == Log::Failed && waiting(contents) > 0) {
        let failed = failed.display();
        writeln!(out, "`iguazu redrive CONFIG --failed --folder {failed}` takes back what was given up")?;
    }
    Ok(left.is_empty())
}
