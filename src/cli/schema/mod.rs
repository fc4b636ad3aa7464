//! `iguazu schema`: from Protobuf files to registries: examples, derived Avro schemas, the gate of a change, its merge.

use clap::Subcommand;

use super::Failure;

mod check;
mod derive;
mod diff;
mod example;
mod register;
mod workspace;

/// Arguments of `iguazu schema`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a valid payload of an event, every field set, and the curl line that posts it
    Example(example::Args),
    /// Print the Avro schema that an event's Protobuf schema derives
    Derive(derive::Args),
    /// Say whether a change of Protobuf files may be merged: the gate of a pull request
    Check(check::Args),
    /// Register Protobuf files and the Avro schemas that they derive: the step after a merge
    Register(register::Args),
    /// Show what differs between files and a registry, or between two versions
    Diff(diff::Args),
}

/// Runs it.
pub fn run(args: Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match args.command {
            Command::Example(args) => example::run(args).await,
            Command::Derive(args) => derive::run(args).await,
            Command::Check(args) => check::run(args).await,
            Command::Register(args) => register::run(args).await,
            Command::Diff(args) => diff::run(args).await,
        }
    })
}
