//! `iguazu control CONFIG`: a node of the management plane, until SIGTERM or ^C.
//!
//! In: a configuration. Out: logs, and an API. Never: starts with a problem in its configuration; waits for Kafka.

use std::path::PathBuf;

use tracing::warn;

use super::Failure;
use super::interrupt::Interrupt;
use super::ready_file::ReadyFile;
use crate::config;
use crate::control::node::{self, Node};
use crate::serve;
use crate::telemetry::logs::{self, Level};

/// Arguments of `iguazu control`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
At the first start a token is put into `bootstrap-token` in `control.state_dir`, unless one is said
by `control.bootstrap_token_file`: whoever can read it makes the first admin's token with it, once.
What proxies are told as `routes.public_key` is in the log line `listening`.
Stops at SIGTERM or ^C: answers what it has and ends the step that it is at. Exit code 64 when the
configuration has a problem.

Example:
  iguazu control /etc/iguazu-control.toml --log-level warn")]
pub struct Args {
    /// The configuration file
    #[arg(value_name = "CONFIG")]
    config: PathBuf,
    /// Write the address there, as JSON, once it listens; removed when it stops
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// What it logs on stderr, as JSON unless that is a terminal: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info", hide_possible_values = true)]
    log_level: Level,
}

/// Runs it.
pub fn run(args: Args) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let config = config::load_control(&args.config).map_err(|found| super::check::problems(&args.config, found))?;
    logs::start(args.log_level).map_err(Failure::because)?;
    for problem in &config.warnings {
        warn!(%problem, "configuration");
    }
    serve::raise_open_files(node::CONNECTIONS_MAX);
    let mut ready = args.ready_file.map(ReadyFile::at).transpose()?;
    let node = Node::start(&config).map_err(Failure::because)?;
    if let Some(ready) = &mut ready {
        let bootstrap_file = node.bootstrap_file().map(|file| file.display().to_string());
        ready.write(serde_json::json!({ "control": node.address().to_string(), "bootstrap_file": bootstrap_file }))?;
    }
    interrupt.wait_forever();
    drop(ready);
    node.stop();
    Ok(())
}
