//! `iguazu proxy CONFIG`: the data plane, until SIGTERM or ^C.
//!
//! In: a configuration. Out: logs, and an exit code that says whether every event is accounted for. Never: starts with a
//! problem in its configuration; what may heal by itself (brokers, registries) is waited for and then tried behind.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tracing::warn;

use super::Failure;
use super::interrupt::{Interrupt, Signal};
use super::ready_file::ReadyFile;
use crate::outcome::Balance;
use crate::proxy::{Extras, Proxy};
use crate::serve;
use crate::telemetry::logs::{self, Level};

/// How soon a thread that listens for a second signal sees that there is nothing left to stop.
const LISTEN: Duration = Duration::from_millis(50);

/// Arguments of `iguazu proxy`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Stops at SIGTERM or ^C: is no longer ready, goes on for `http.drain_delay_seconds`, takes no
more, answers what it has, flushes to Kafka within `http.drain_seconds`, and reports the ledger.
A second signal puts what is not delivered on disk at once. Exit code 64 when the configuration
has a problem, 1 when it ended with events lost.

The configuration and the files that it names are read again when they change, and at SIGHUP.
One with a problem is refused whole; the log and `/ready` say what is wrong.

Example:
  iguazu proxy /etc/iguazu.toml --log-level warn")]
pub struct Args {
    /// The configuration file
    #[arg(value_name = "CONFIG")]
    config: PathBuf,
    /// Write the addresses there, as JSON, once it listens (`/ready` then says what is served); removed when it stops
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// What it logs on stderr, as JSON unless that is a terminal: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info", hide_possible_values = true)]
    log_level: Level,
}

/// Runs it.
pub fn run(args: Args) -> Result<(), Failure> {
    let interrupt = Interrupt::listen_for_reloads()?;
    let config = super::check::load(&args.config)?;
    logs::start(args.log_level).map_err(Failure::because)?;
    for problem in &config.warnings {
        warn!(%problem, "configuration");
    }
    serve::raise_open_files(config.http.connections_max);
    let mut ready = args.ready_file.map(ReadyFile::at).transpose()?;
    let extras = Extras { file: Some(args.config), ..Extras::default() };
    let proxy = Proxy::start_with(config, extras).map_err(Failure::because)?;
    if let Some(ready) = &mut ready {
        let (http, admin) = (proxy.http_addr(), proxy.admin_addr());
        ready.write(serde_json::json!({ "http": http.to_string(), "admin": admin.to_string() }))?;
    }
    while interrupt.wait_for_signal() == Signal::Reload {
        proxy.reload();
    }
    drop(ready);
    let balance = stop(proxy, interrupt)?;
    if balance.holds() { Ok(()) } else { Err(Failure::Told) }
}

/// Stops, in less time when the signal comes again.
fn stop(proxy: Proxy, interrupt: Interrupt) -> Result<Balance, Failure> {
    let (hurry, stopped) = (proxy.hurry(), Arc::new(AtomicBool::new(false)));
    let is_stopped = Arc::clone(&stopped);
    let listener = std::thread::Builder::new().name("hurry".to_owned()).spawn(move || {
        while !is_stopped.load(Relaxed) {
            if interrupt.next_within(LISTEN) == Some(Signal::Stop) {
                hurry.tell();
            }
        }
    })?;
    let balance = proxy.stop();
    stopped.store(true, Relaxed);
    let _ = listener.join();
    Ok(balance)
}
