//! `iguazu dev`: everything on this machine.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::interrupt::Interrupt;
use super::ready_file::ReadyFile;
use super::{Failure, with_causes};
use crate::dev::demo::{self, Stay};
use crate::dev::kafka::Installation;
use crate::dev::screen::Screen;
use crate::dev::site::{CTL_SITE_FILE, SiteFile};
use crate::dev::{Dev, DevError, Options, SITE_FILE};
use crate::telemetry::logs::{self, Level};

/// Arguments of `iguazu dev`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The brokers and the registry are embedded: they take free ports and live in this process; the
brokers keep only the last megabytes of each partition. While it runs, `.iguazu-dev.toml` in the
current folder tells `iguazu tail`, `load` and `schema` where it is, and `.iguazu-ctl.toml` tells
`iguazu ctl` where the management plane is. A second one in the same folder leaves these files alone
and writes `.iguazu-dev.PORT.toml`, for `--config`.

For tests (JSON; on the port of the proxy):
  GET  /dev/events?event=NAME&limit=N    the event's records so far, decoded as by `iguazu tail`
  GET  /dev/rejected                     the last rejections
  POST /dev/reset                        forgets both

Examples:
  iguazu dev                                       the samples; stays up until ^C
  iguazu dev --once                                shows them and ends; exit code 1 if one is wrong
  iguazu dev --proto proto/                        your own: each message that is part of no other
  iguazu dev --config iguazu.toml --proto proto/   your own configuration, on embedded brokers
  iguazu dev --kafka target/kafka/lib              on the Kafka that deploy/dev.sh --kafka fetched
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
    /// Port for the management API [default: a free one]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    control_port: u16,
    /// Serve what the management plane has, as `iguazu ctl` asks for it, in place of the samples
    #[arg(long, conflicts_with_all = ["proto", "config", "once"])]
    self_serve: bool,
    /// A real Kafka with users and access rules in place of the embedded brokers: the folder with its jars
    #[arg(long, value_name = "DIR")]
    kafka: Option<PathBuf>,
    /// The Java that runs it, 17 or newer
    #[arg(long, value_name = "FILE", default_value = "java", requires = "kafka")]
    java: PathBuf,
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
    let kafka = args.kafka.map(|jars| Installation { jars, java: args.java });
    let options = Options {
        protos: args.proto,
        config: args.config,
        port: args.port,
        admin_port: args.admin_port,
        control_port: args.control_port,
        self_serve: args.self_serve,
        kafka,
    };
    let mut ready = args.ready_file.map(ReadyFile::at).transpose()?;
    let dev = Dev::start(&options).map_err(failure)?;
    let took = begun.elapsed();
    // One that ends by itself is not looked for.
    let site = if args.once { None } else { leave_site(&dev, SITE_FILE, Dev::write_site) };
    let ctl_site = if args.once { None } else { leave_site(&dev, CTL_SITE_FILE, Dev::write_ctl_site) };
    if let Some(ready) = &mut ready {
        let addresses = &dev.addresses;
        ready.write(serde_json::json!({
            "http": format!("http://{}", addresses.http),
            "admin": format!("http://{}", addresses.admin),
            "brokers": addresses.brokers,
            "registry": addresses.registry,
            "config": site.as_ref().map(SiteFile::name),
            "control": format!("http://{}", addresses.control),
            "token_file": dev.control().token_file,
            "reviewer_token_file": dev.control().reviewer_file,
        }))?;
    }
    let stay = if args.once { Stay::No } else { Stay::UntilInterrupted(site.as_ref()) };
    let mut screen = if args.quiet { Screen::nowhere() } else { Screen::stdout() };
    let right = match (args.quiet, args.self_serve) {
        (true, _) => true,
        (false, true) => demo::greet_self_serve(&dev, &mut screen, took)?,
        (false, false) => demo::show(&dev, &mut screen, took, stay)?,
    };
    if !args.once {
        interrupt.wait_forever();
    }
    drop((site, ctl_site, ready));
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
fn leave_site(dev: &Dev, name: &str, write: fn(&Dev, &Path) -> io::Result<SiteFile>) -> Option<SiteFile> {
    match std::env::current_dir().and_then(|folder| write(dev, &folder)) {
        Ok(site) => Some(site),
        Err(error) => {
            eprintln!("iguazu: cannot write `{name}` here, so other commands need flags: {error}");
            None
        }
    }
}

fn failure(error: DevError) -> Failure {
    let text = with_causes(&error);
    if error.is_usage() { Failure::Usage(text) } else { Failure::Failed(text) }
}
