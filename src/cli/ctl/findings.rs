//! `iguazu ctl findings` and `diagnose`: what is not as it should be, and what to do.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Client;
use super::follow::{self, AskArgs};
use super::show::{self, Output, Table, cell};
use super::{fields, resources};
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
    #[command(flatten)]
    ask: AskArgs,
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
    let items = client.list(url, None).await?;
    if output == Output::Json {
        return show::print_json(&json!({ "items": items }));
    }
    let mut table = Table::new(&["FINDING", "SEVERITY", "KIND", "RESOURCE", "SINCE", "WHAT", "TO DO"]);
    for item in &items {
        let text = |name: &str| cell(&item[name]);
        let since = item["since_ms"].as_i64().map_or_else(|| "-".to_owned(), show::ago);
        table.row([text("id"), text("severity"), text("kind"), text("resource"), since, text("summary"), text("ways")]);
    }
    table.print("Kafka is as it was asked for, as far as was looked")
}

async fn decide(client: &Client, args: DecideArgs, verb: &str, output: Output) -> Result<(), Failure> {
    let mut url = client.at(["v1", "findings", &args.id, verb]);
    args.ask.put_into(&mut url);
    let reply = client.ask(url, &json!({})).await?;
    follow::conclude(client, reply, args.ask.dry_run, &args.ask.wait, output).await
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
    let mut text = String::new();
    for finding in reply["findings"].as_array().into_iter().flatten() {
        text.push_str(&told(finding));
    }
    if text.is_empty() {
        text.push_str("nothing is wrong with it, as far as was looked\n");
    }
    let number =
        |name: &str| reply[name].as_f64().map_or_else(|| "unknown".to_owned(), |number| format!("{number:.3}"));
    let bytes = reply["bytes"].as_u64().map_or_else(|| "unknown".to_owned(), show::bytes);
    text.push_str(&format!("partitions: {}, on disk: {bytes}\n", cell(&reply["partitions"])));
    text.push_str(&format!(
        "peak: {} MB/s declared, {} MB/s measured\n",
        number("declared_peak_mb_per_second"),
        number("measured_peak_mb_per_second")
    ));
    for group in reply["groups"].as_array().into_iter().flatten() {
        let of = |name: &str| cell(&group[name]);
        text.push_str(&format!(
            "read by {} ({}), {} members, {} behind\n",
            of("group"),
            of("state"),
            of("members"),
            of("lag")
        ));
    }
    for (what, why) in reply["unknown"].as_object().into_iter().flatten() {
        text.push_str(&format!("could not be looked at: {what}: {}\n", cell(why)));
    }
    show::print(&text)
}

fn told(finding: &Value) -> String {
    let of = |name: &str| cell(&finding[name]);
    let mut text = format!("{} {}: {}\n", of("severity"), of("kind"), of("summary"));
    for (path, value) in fields::flat(&finding["evidence"]) {
        text.push_str(&format!("    {path}: {}\n", cell(value)));
    }
    text.push_str(&format!("    fix: {}\n", of("fix")));
    text
}
