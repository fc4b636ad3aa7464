//! `iguazu ctl`: the client of the management API, for people and CI.
//!
//! In: arguments, files of a repository, what the API says. Out: requests; tables for people, JSON for machines, and exit codes that a
//! script can tell apart. Never: decides anything: what is allowed, who must agree and what becomes of a capacity is the API's to say.

use std::io::{self, Write as _};

use clap::{CommandFactory as _, Subcommand};
use clap_complete::Shell;

use super::Failure;

mod brakes;
mod capacity;
mod client;
mod doctor;
mod fields;
mod files;
mod findings;
mod follow;
mod keys;
mod log;
mod place;
mod plan;
mod policy;
mod requests;
mod resources;
mod rules;
mod service;
mod show;
mod sse;
mod steps;
mod tokens;
mod watch;

use client::Client;
use show::Output;

/// Arguments of `iguazu ctl`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Where the API is, and the token for it, is said by --url and --token-file, else by
IGUAZU_CONTROL_URL and IGUAZU_CONTROL_TOKEN_FILE, else by `url`, `token_file` and `ca_file` in
`.iguazu-ctl.toml` of the current folder (`iguazu dev` leaves one), else in
`~/.config/iguazu/ctl.toml`.

Every write is a request: it is planned and decided on, applied at once or when somebody has agreed,
and waited for. --dry-run says what would become of it.

Examples:
  iguazu ctl create service orders group=team-orders
  iguazu ctl onboard orders.placed --service orders --mb-per-second 0.5
  iguazu ctl list topics --search orders
  iguazu ctl request approve ID --reason 'as talked about'
  iguazu ctl plan -f kafka/ && iguazu ctl apply -f kafka/

Exit codes: 0 done, 1 refused or failed, 2 `plan` found a difference, 64 wrong usage or a wrong
file, 75 somebody must agree first, or it is not applied yet.")]
pub struct Args {
    #[command(flatten)]
    place: place::PlaceArgs,
    /// How it is printed
    #[arg(short, long, global = true, value_enum, default_value = "table", help_heading = "Where")]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything that an event needs, in one request: topic, route, and who may send it
    Onboard(capacity::OnboardArgs),
    /// Show one resource
    Get(resources::GetArgs),
    /// Show all resources of a kind
    List(resources::ListArgs),
    /// Ask for a new resource
    Create(resources::CreateArgs),
    /// Ask for other values of some fields
    Set(resources::SetArgs),
    /// Ask for resources to go
    Delete(resources::DeleteArgs),
    /// Ask for a new password or key
    Rotate(resources::RotateArgs),
    /// Take a password or key, which is given out once
    Secret(resources::SecretArgs),
    /// A service as a whole: what it owns, and changes over all of it
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Show requests, and decide on them
    #[command(subcommand)]
    Request(requests::RequestCommand),
    /// Show what becomes of a topic's capacity: partitions, settings, disk, cost
    Explain(capacity::ExplainArgs),
    /// Show what wishes are judged by, and what is good practice for each field
    Rules(rules::RulesArgs),
    /// Show what of each cluster is spoken for, and what is free
    Budget(capacity::BudgetArgs),
    /// Show what is not as it should be; accept it, or restore what was desired
    Findings(findings::FindingsArgs),
    /// Say what is wrong with a topic, and what to do
    Diagnose(findings::DiagnoseArgs),
    /// Let less of an event type through for now, whoever's it is
    #[command(subcommand)]
    Brake(brakes::BrakeCommand),
    /// Show who decides on what; try another table
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// The audit log: who did what, and whether the log is as it was written
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Tokens of the API
    #[command(subcommand)]
    Token(tokens::TokenCommand),
    /// Print what proxies know the plane by: `routes.public_key` of their configuration
    #[command(after_help = "Example:\n  iguazu ctl keys")]
    Keys,
    /// Say whether everything is reachable, allowed and in time, and what to do
    Doctor,
    /// Show what happens, as it happens
    Watch(watch::WatchArgs),
    /// Write what is there into files of a folder
    Export(plan::ExportArgs),
    /// Show what `apply` would change: files against what is there
    Plan(plan::PlanArgs),
    /// Make what is there as the files say
    Apply(plan::ApplyArgs),
    /// Print a script that completes commands in a shell
    #[command(after_help = "Example:\n  source <(iguazu ctl completion bash)")]
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// Runs it.
pub fn run(args: Args) -> Result<(), Failure> {
    let Args { place, output, command } = args;
    if let Command::Completion { shell } = command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut super::Cli::command(), "iguazu", &mut script);
        io::stdout().lock().write_all(&script)?;
        return Ok(());
    }
    let client = Client::new(place.find()?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Onboard(args) => capacity::onboard(&client, args, output).await,
            Command::Get(args) => resources::get(&client, args, output).await,
            Command::List(args) => resources::list(&client, args, output).await,
            Command::Create(args) => resources::create(&client, args, output).await,
            Command::Set(args) => resources::set(&client, args, output).await,
            Command::Delete(args) => resources::delete(&client, args, output).await,
            Command::Rotate(args) => resources::rotate(&client, args, output).await,
            Command::Secret(args) => resources::secret(&client, args, output).await,
            Command::Service(command) => service::run(&client, command, output).await,
            Command::Request(command) => requests::run(&client, command, output).await,
            Command::Explain(args) => capacity::explain(&client, args, output).await,
            Command::Rules(args) => rules::rules(&client, args, output).await,
            Command::Budget(args) => capacity::budget(&client, args, output).await,
            Command::Findings(args) => findings::run(&client, args, output).await,
            Command::Diagnose(args) => findings::diagnose(&client, args, output).await,
            Command::Brake(command) => brakes::run(&client, command, output).await,
            Command::Policy(command) => policy::run(&client, command, output).await,
            Command::Log(command) => log::run(&client, command, output).await,
            Command::Token(command) => tokens::run(&client, command, output).await,
            Command::Keys => keys::run(&client, output).await,
            Command::Doctor => doctor::run(&client, output).await,
            Command::Watch(args) => watch::run(&client, args, output).await,
            Command::Export(args) => plan::export(&client, args).await,
            Command::Plan(args) => plan::plan(&client, args, output).await,
            Command::Apply(args) => plan::apply(&client, args, output).await,
            Command::Completion { .. } => Ok(()),
        }
    })
}
