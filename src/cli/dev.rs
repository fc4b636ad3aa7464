//! `iguazu dev`: everything on this machine.

use std::path::PathBuf;
use std::time::Instant;

use super::interrupt::Interrupt;
use super::ready_file::ReadyFile;
use super::{Failure, with_causes};
use crate::dev::demo::{self, Stay};
use crate::dev::screen::Screen;
use crate::dev::site::SiteFile;
use crate::dev::{Dev, DevError, Options, SITE_FILE};
use crate::telemetry::logs::{self, Level};

/// Arguments of `iguazu dev`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The brokers and the registry are embedded: they take free ports and live in this process; the
brokers keep only the last megabytes of each partition. While it runs, `.iguazu-dev.toml` in the
current folder tells `iguazu tail`, `load` and `schema` where it is. A second one in the same folder
leaves that file alone and writes `.iguazu-dev.PORT.toml`, for `--config`.

For tests (JSON; on the port of the proxy):
  GET  /dev/events?event=NAME&limit=N    the event's records so far, decoded as by `iguazu tail`
  GET  /dev/rejected                     the last rejections
  POST /dev/reset                        forgets both

Examples:
  iguazu dev                                       the samples; stays up until ^C
  iguazu dev --once                                shows them and ends; exit code 1 if one is wrong
  iguazu dev --proto proto/                        your own: each message that is part of no other
  iguazu dev --config iguazu.toml --proto proto/   your own configuration, on embedded brokers
  iguazu dev --quiet --port 0 --ready-file ready.json &")]
pub struct Args {
    /// Folder with your own .proto files, the root of their imports; repeat for more
    #[arg(long, value_name = "DIR")]
    proto: Vec<PathBuf>,
    /// Serve this configuration's event types; its brokers and registries become the embedded ones
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Port for events; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Port for /ready and /metrics [default: a free one]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    admin_port: u16,
    /// End after the demonstration
    #[arg(long, conflicts_with = "quiet")]
    once: bool,
    /// No demonstration, no output
    #[arg(long)]
    quiet: bool,
    /// Write the addresses there, as JSON, once everything is ready; removed when it stops
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// What it logs on stderr: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "warn", hide_possible_values = true)]
    log_level: Level,
}

/// Runs it.
pub fn run(args: Args) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let begun = Instant::now();
    logs::start(args.log_level).map_err(Failure::because)?;
    let options = Options { protos: args.proto, config: args.config, port: args.port, admin_port: args.admin_port };
    let mut ready = args.ready_file.map(ReadyFile::at).transpose()?;
    let dev = Dev::start(&options).map_err(failure)?;
    let took = begun.elapsed();
    // One that ends by itself is not looked for.
    let site = if args.once { None } else { leave_site(&dev) };
    if let Some(ready) = &mut ready {
        let addresses = &dev.addresses;
        ready.write(serde_json::json!({
            "http": format!("http://{}", addresses.http),
            "admin": format!("http://{}", addresses.admin),
            "brokers": addresses.brokers,
            "registry": addresses.registry,
            "config": site.as_ref().map(SiteFile::name),
        }))?;
    }
    let stay = if args.once { Stay::No } else { Stay::UntilInterrupted(site.as_ref()) };
    let mut screen = if args.quiet { Screen::nowhere() } else { Screen::stdout() };
    let right = match args.quiet {
        true => true,
        false => demo::show(&dev, &mut screen, took, stay)?,
    };
    if !args.once {
        interrupt.wait_forever();
    }
    drop((site, ready));
    let balance = dev.stop();
    demo::farewell(&mut screen, &balance)?;
    match right && balance.holds() {
        true => Ok(()),
        // While it stays up, what was shown is on the screen, and ^C is how it ends.
        false if !args.once && balance.holds() => Ok(()),
        false => Err(Failure::Told),
    }
}

/// Tells other commands in this folder where it is.
fn leave_site(dev: &Dev) -> Option<SiteFile> {
    match std::env::current_dir().and_then(|folder| dev.write_site(&folder)) {
        Ok(site) => Some(site),
        Err(error) => {
            eprintln!("iguazu: cannot write `{SITE_FILE}` here, so other commands need flags: {error}");
            None
        }
    }
}

fn failure(error: DevError) -> Failure {
    let text = with_causes(&error);
    if error.is_usage() { Failure::Usage(text) } else { Failure::Failed(text) }
}
