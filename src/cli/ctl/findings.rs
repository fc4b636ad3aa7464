//! `iguazu ctl findings` and `diagnose`: what is not as it should be, and what to do.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Client;
use super::follow::{self, WaitArgs};
use super::resources;
use super::show::{self, Output, Table, cell};
use crate::cli::Failure;
use crate::control::resource::Kind;

/// Arguments of `iguazu ctl findings`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct FindingsArgs {
    #[command(subcommand)]
    command: Option<FindingsCommand>,
    /// Only of this cluster
    #[arg(long)]
    cluster: Option<String>,
    /// Only of this kind, such as `drift`
    #[arg(long)]
    kind: Option<String>,
}

#[derive(Debug, Subcommand)]
enum FindingsCommand {
    /// What is there is what is desired from now on
    Accept(DecideArgs),
    /// What is desired is made so again
    Restore(DecideArgs),
}

#[derive(Debug, clap::Args)]
struct DecideArgs {
    /// Its id
    id: String,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    wait: WaitArgs,
}

pub(super) async fn run(client: &Client, args: FindingsArgs, output: Output) -> Result<(), Failure> {
    match args.command {
        Some(FindingsCommand::Accept(args)) => return decide(client, args, "accept", output).await,
        Some(FindingsCommand::Restore(args)) => return decide(client, args, "restore", output).await,
        None => {}
    }
    let mut url = client.at(["v1", "findings"]);
    for (name, value) in [("cluster", &args.cluster), ("kind", &args.kind)] {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    let mut items = Vec::new();
    client
        .pages(url, None, |item| {
            items.push(item);
            Ok(())
        })
        .await?;
    if output == Output::Json {
        return show::print_json(&json!({ "items": items }));
    }
    let mut table = Table::new(&["FINDING", "KIND", "RESOURCE", "EVIDENCE", "FIX"]);
    for item in &items {
        let text = |name: &str| cell(&item[name]);
        table.row([text("id"), text("kind"), text("resource"), text("evidence"), text("fix")]);
    }
    table.print("Kafka is as it was asked for, as far as was looked")
}

async fn decide(client: &Client, args: DecideArgs, verb: &str, output: Output) -> Result<(), Failure> {
    let url = client.at(["v1", "findings", &args.id, verb]);
    let reply = client.ask(url, &json!({ "reason": args.reason })).await?;
    follow::conclude(client, reply, false, &args.wait, output).await
}

/// Arguments of `iguazu ctl diagnose`.
#[derive(Debug, clap::Args)]
pub(super) struct DiagnoseArgs {
    /// The topic, as CLUSTER/NAME
    #[arg(value_name = "TOPIC")]
    topic: String,
}

pub(super) async fn diagnose(client: &Client, args: DiagnoseArgs, output: Output) -> Result<(), Failure> {
    let mut url = client.of(&resources::id(Kind::Topic, &args.topic)?);
    url.path_segments_mut().expect("it has a path").push("diagnosis");
    let reply = client.get(url).await?;
    if output == Output::Json {
        return show::print_json(&reply);
    }
    let found = ["findings", "items"].iter().find_map(|name| reply[*name].as_array()).map_or(&[][..], Vec::as_slice);
    if found.is_empty() {
        return show::print("nothing is wrong with it, as far as was looked\n");
    }
    show::print(&found.iter().map(told).collect::<String>())
}

fn told(finding: &Value) -> String {
    let code = ["code", "kind"].iter().find_map(|name| finding[*name].as_str()).unwrap_or("finding");
    format!("{code}: {}\n    fix: {}\n", cell(&finding["evidence"]), cell(&finding["fix"]))
}
