//! `iguazu schema`: examples, derived Avro schemas, registration.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Subcommand;

use super::Failure;
use super::target::{Target, TargetArgs};
use crate::dev::protos::{ProtoError, ProtoFiles};
use crate::dev::register::Registering;
use crate::dev::screen::{WIDTH, json_lines, shell_word};
use crate::route::Mapping;
use crate::schema::Registry;
use crate::transcode;

/// Arguments of `iguazu schema`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a valid payload of an event, every field set, and the curl line that posts it
    #[command(after_help = "\
Examples:
  iguazu schema example delivery.v1.StatusChanged          beside a running `iguazu dev`
  iguazu schema example orders.v1.OrderPlaced --payload-only > order.json
  iguazu schema example orders.v1.OrderPlaced --config /etc/iguazu.toml")]
    Example(ExampleArgs),
    /// Print the Avro schema that an event's Protobuf schema derives
    #[command(after_help = "\
Examples:
  iguazu schema derive delivery.v1.StatusChanged      from the registry of `iguazu dev`
  iguazu schema derive acme.Order --proto proto/      from files")]
    Derive(DeriveArgs),
    /// Register the Protobuf schemas of a configuration's event types, and the Avro schemas they derive
    #[command(after_help = "\
For CI: the proxy itself never registers. What is registered already stays as it is. A file that
others import is registered under the name they import it by. Nothing of an event type is
registered when its schema does not compile or cannot be derived.

Example:
  iguazu schema register --config /etc/iguazu.toml --proto proto/")]
    Register(RegisterArgs),
}

#[derive(Debug, clap::Args)]
struct ExampleArgs {
    /// Name of the event
    event: String,
    /// Only the payload
    #[arg(long)]
    payload_only: bool,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Debug, clap::Args)]
struct DeriveArgs {
    /// Name of the event; with --proto, full name of the message
    event: String,
    /// Folder with .proto files, the root of their imports; repeat for more
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "brokers"])]
    proto: Vec<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Debug, clap::Args)]
struct RegisterArgs {
    /// Configuration with the event types and registries
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Folder with .proto files, the root of their imports; repeat for more
    #[arg(long, value_name = "DIR", required = true)]
    proto: Vec<PathBuf>,
}

/// Runs it.
pub fn run(args: Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match args.command {
            Command::Example(args) => example(args).await,
            Command::Derive(args) => derive(args).await,
            Command::Register(args) => register(args).await,
        }
    })
}

async fn example(args: ExampleArgs) -> Result<(), Failure> {
    let target = args.target.find(&args.event)?;
    let payload = target.example(1).await?;
    let mut out = io::stdout().lock();
    for line in json_lines(&payload, WIDTH) {
        writeln!(out, "{line}")?;
    }
    if !args.payload_only {
        let listen = args.target.read()?.map(|(config, _)| config.http.listen.to_string());
        writeln!(out, "\n{}", curl(&target, listen.as_deref(), &payload))?;
    }
    Ok(())
}

/// The command that posts the payload to the door of bare payloads.
fn curl(target: &Target, listen: Option<&str>, payload: &str) -> String {
    let url = format!("http://{}/v1/events/{}", listen.unwrap_or("127.0.0.1:8080"), target.event_type.name);
    let body = json_lines(payload, WIDTH).join("\n");
    let (url, body) = (shell_word(&url), shell_word(&body));
    format!("curl -s {url} \\\n  -H 'content-type: application/json' \\\n  -d {body}")
}

async fn derive(args: DeriveArgs) -> Result<(), Failure> {
    let (message, mapping) = if args.proto.is_empty() {
        let target = args.target.find(&args.event)?;
        let message = target.message().await?;
        let message = message.ok_or_else(|| {
            Failure::Usage(format!("event `{}` has no schema of Protobuf to derive from", args.event))
        })?;
        (message, target.event_type.mapping)
    } else {
        let pool = ProtoFiles::under(&args.proto).and_then(|files| files.compile()).map_err(protos)?;
        let message = pool.get_message_by_name(&args.event);
        let message = message.ok_or_else(|| Failure::Usage(format!("no file has the message `{}`", args.event)))?;
        (message, Mapping::default())
    };
    let schema = transcode::avro_schema(&message, &mapping).map_err(Failure::because)?;
    writeln!(io::stdout().lock(), "{schema}")?;
    Ok(())
}

async fn register(args: RegisterArgs) -> Result<(), Failure> {
    let config = super::check::load(&args.config)?;
    let files = ProtoFiles::under(&args.proto).map_err(protos)?;
    let pool = files.compile().map_err(protos)?;
    let mut failed = false;
    for settings in &config.registries {
        let registry = Registry::new(settings).map_err(Failure::because)?;
        let mut registering = Registering::new(&registry, &files, &pool);
        for event_type in &config.events {
            let of_registry = config
                .clusters
                .iter()
                .any(|cluster| cluster.name == event_type.cluster && cluster.registry.as_ref() == Some(&settings.name));
            if !of_registry {
                continue;
            }
            match registering.event_type(event_type).await {
                Ok(None) => {}
                Ok(Some(done)) => {
                    let versions: Vec<_> = std::iter::once(&done.source)
                        .chain(&done.avro)
                        .map(|at| format!("{} version {} (id {})", at.subject, at.version, at.registered.id))
                        .collect();
                    writeln!(io::stdout().lock(), "{}: {}", done.event, versions.join(", "))?;
                }
                Err(error) => {
                    failed = true;
                    eprintln!("iguazu: {}", super::with_causes(&error));
                }
            }
        }
    }
    if failed { Err(Failure::Told) } else { Ok(()) }
}

fn protos(error: ProtoError) -> Failure {
    Failure::Usage(super::with_causes(&error))
}
