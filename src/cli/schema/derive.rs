//! `iguazu schema derive`: the Avro schema that a message becomes.

use std::io::{self, Write as _};
use std::path::PathBuf;

use prost_reflect::{DescriptorPool, MessageDescriptor};

use super::workspace::protos;
use crate::cli::Failure;
use crate::cli::target::TargetArgs;
use crate::config;
use crate::route::Mapping;
use crate::schema::protos::ProtoFiles;
use crate::transcode;

/// Arguments of `iguazu schema derive`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
One schema a line. The mapping is the event type's, or that of `--schemas`, or what `--mapping` and
`--set` say; their keys are those of a configuration's event types.

Examples:
  iguazu schema derive delivery.v1.StatusChanged           from the registry of `iguazu dev`
  iguazu schema derive acme.v1.Order --proto proto/        a message of files
  iguazu schema derive acme/v1/order.proto --proto proto/  every top-level message of a file
  iguazu schema derive acme.v1.Order --schemas iguazu-schemas.toml
  iguazu schema derive acme.v1.Order --proto proto/ --mapping java-avro")]
pub struct Args {
    /// Name of the event; with --proto or --schemas, full name of a message, or a file by its import name
    name: String,
    /// Folder with .proto files, the root of their imports; repeat for more
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "brokers"])]
    proto: Vec<PathBuf>,
    /// The file that says which folders and which mapping
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "brokers", "proto"])]
    schemas: Option<PathBuf>,
    /// Mapping to Avro: `presence` or `java-avro`
    #[arg(long, value_name = "NAME")]
    mapping: Option<String>,
    /// Another setting of the mapping, such as `uint64=wrap`; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    #[command(flatten)]
    target: TargetArgs,
}

/// Runs it.
pub async fn run(args: Args) -> Result<(), Failure> {
    let set = args.mapping.iter().map(|name| ("mapping".to_owned(), name.clone())).chain(args.set);
    let set: Vec<_> = set.collect();
    let set = if set.is_empty() { None } else { Some(config::parse_mapping(&set).map_err(Failure::Usage)?) };
    let (messages, mapping) = if let Some(file) = &args.schemas {
        let schemas = super::workspace::load(file)?;
        let pool = compile(&schemas.proto)?;
        let listed = schemas.messages.iter().find(|message| message.name == args.name);
        let mapping = listed.map_or(schemas.mapping, |message| message.mapping);
        (find(&pool, &args.name)?, mapping)
    } else if args.proto.is_empty() {
        let target = args.target.find(&args.name)?;
        let message = target.message().await?;
        let message = message
            .ok_or_else(|| Failure::Usage(format!("event `{}` has no schema of Protobuf to derive from", args.name)))?;
        (vec![message], target.event_type.mapping)
    } else {
        (find(&compile(&args.proto)?, &args.name)?, Mapping::default())
    };
    let mut out = io::stdout().lock();
    for message in messages {
        let schema = transcode::avro_schema(&message, &set.unwrap_or(mapping)).map_err(Failure::because)?;
        writeln!(out, "{schema}")?;
    }
    Ok(())
}

fn compile(folders: &[PathBuf]) -> Result<DescriptorPool, Failure> {
    ProtoFiles::under(folders).and_then(|files| files.compile()).map_err(protos)
}

/// A message, or the top-level messages of a file.
fn find(pool: &DescriptorPool, name: &str) -> Result<Vec<MessageDescriptor>, Failure> {
    if let Some(file) = pool.get_file_by_name(name) {
        return Ok(file.messages().collect());
    }
    let message = pool.get_message_by_name(name);
    message.map(|message| vec![message]).ok_or_else(|| Failure::Usage(format!("no file has the message `{name}`")))
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it has the form KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
