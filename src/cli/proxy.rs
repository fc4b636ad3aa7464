//! `iguazu proxy CONFIG`.

use std::path::PathBuf;

use super::{Failure, LogLevel};

/// Arguments of `iguazu proxy`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Stops at SIGTERM or ^C: takes no more, answers what it has, flushes to Kafka within
`http.drain_seconds`, and reports the ledger. Exit code 64 when the configuration has a problem,
1 when it ended with events lost.

Example:
  iguazu proxy /etc/iguazu.toml --log-level warn")]
pub struct Args {
    /// The file
    #[arg(value_name = "CONFIG")]
    config: PathBuf,
    /// Write the addresses there, as JSON, once it is ready
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// Runs it.
pub fn run(_args: Args, _level: LogLevel) -> Result<(), Failure> {
    todo!()
}

/// Sends log lines to stderr from this level on: for people on a terminal, JSON otherwise.
pub fn log(_level: LogLevel) {}
