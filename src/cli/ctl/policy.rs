//! `iguazu ctl policy`: the table of who decides on what.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Client;
use super::show::{self, Output, Table, cell, count};
use super::{fields, files};
use crate::cli::Failure;
use crate::control::policy;

/// Arguments of `iguazu ctl policy`.
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Show the rules in force, in the order in which they are tried
    Show {
        /// As the TOML file that `test`, `replay` and `set` take
        #[arg(long)]
        toml: bool,
    },
    /// Say what a table would decide on a change, without asking for it
    #[command(after_help = "\
Examples:
  iguazu ctl policy test topic/core/orders.placed.v1 service=orders capacity.mb_per_second=50
  iguazu ctl policy test -f kafka/topic/core/orders.yaml --rules new.toml")]
    Test(TestArgs),
    /// Say which requests of the past a table would have decided on otherwise
    Replay {
        /// File with the table
        #[arg(value_name = "RULES")]
        rules: PathBuf,
    },
    /// Put another table in force
    Set {
        /// File with the table
        #[arg(value_name = "RULES")]
        rules: PathBuf,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// Name of the resource, as KIND/CLUSTER/NAME
    #[arg(value_name = "RESOURCE", required_unless_present = "file")]
    resource: Option<String>,
    /// What it would be: FIELD=VALUE; none: it would be deleted
    #[arg(value_name = "FIELD=VALUE", value_parser = fields::assignment)]
    fields: Vec<fields::Assignment>,
    /// Take resource and spec from a file, as `iguazu ctl export` writes them
    #[arg(short, long, value_name = "FILE", conflicts_with = "resource")]
    file: Option<PathBuf>,
    /// Try this table [default: the one in force]
    #[arg(long, value_name = "RULES")]
    rules: Option<PathBuf>,
}

pub(super) async fn run(client: &Client, command: PolicyCommand, output: Output) -> Result<(), Failure> {
    match command {
        PolicyCommand::Show { toml } => show_rules(client, toml, output).await,
        PolicyCommand::Test(args) => test(client, args, output).await,
        PolicyCommand::Replay { rules } => replay(client, &rules, output).await,
        PolicyCommand::Set { rules, reason } => set(client, &rules, &reason, output).await,
    }
}

/// Reads a table, and refuses what the API would refuse, with its place in the file.
fn read(file: &Path) -> Result<Value, Failure> {
    let wrong = |what: &dyn std::fmt::Display| Failure::Usage(format!("{}: {what}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    let table = policy::Table::parse(&text, None).map_err(|error| wrong(&error))?;
    Ok(serde_json::to_value(table).expect("a table has string keys"))
}

async fn show_rules(client: &Client, toml: bool, output: Output) -> Result<(), Failure> {
    let reply = client.get(client.at(["v1", "policy"])).await?;
    if toml {
        let text = toml::to_string(&reply).map_err(Failure::because)?;
        return show::print(&text);
    }
    if output == Output::Json {
        return show::print_json(&reply);
    }
    let mut table = Table::new(&["RULE", "VERDICT", "WHEN", "REASON"]);
    for rule in reply["rule"].as_array().into_iter().flatten() {
        let conditions = rule["when"].as_array().into_iter().flatten().map(condition);
        let verdict = match &rule["by"] {
            Value::Null => cell(&rule["verdict"]),
            by => format!("{} by {}", cell(&rule["verdict"]), cell(by)),
        };
        table.row([cell(&rule["id"]), verdict, conditions.collect::<Vec<_>>().join(" and "), cell(&rule["reason"])]);
    }
    table.print("there are no rules: an operator reviews everything")
}

fn condition(condition: &Value) -> String {
    let fact = cell(&condition["fact"]);
    let tests = [("is", "="), ("in", "in"), ("at_most", "<="), ("over", ">")];
    let told = tests.iter().find(|(name, _)| !condition[*name].is_null());
    told.map_or_else(|| fact.clone(), |(name, sign)| format!("{fact} {sign} {}", cell(&condition[*name])))
}

async fn test(client: &Client, args: TestArgs, output: Output) -> Result<(), Failure> {
    let (id, mut spec) = match &args.file {
        Some(file) => files::read_one(file)?,
        // Clap wants one of them.
        None => (args.resource.unwrap_or_default(), Value::Null),
    };
    fields::set(&mut spec, &args.fields)?;
    let rules = match &args.rules {
        Some(rules) => read(rules)?,
        None => client.get(client.at(["v1", "policy"])).await?,
    };
    let body = json!({ "changes": [{ "id": id, "spec": spec }], "policy": rules });
    let reply = client.send(reqwest::Method::POST, client.at(["v1", "policy:simulate"]), Some(&body)).await?;
    if output == Output::Json {
        return show::print_json(&reply);
    }
    let request = super::follow::typed(&reply)?;
    show::print(&request.told())
}

async fn replay(client: &Client, rules: &Path, output: Output) -> Result<(), Failure> {
    let body = json!({ "policy": read(rules)? });
    let reply = client.send(reqwest::Method::POST, client.at(["v1", "policy:replay"]), Some(&body)).await?;
    match output {
        Output::Json => show::print_json(&reply),
        Output::Table => show::print(&replayed(&reply)),
    }
}

/// What another table would have made of the past.
fn replayed(reply: &Value) -> String {
    let mut text = format!("{} changes of {} requests\n", cell(&reply["changes"]), cell(&reply["requests"]));
    for (what, number) in reply["moves"].as_object().into_iter().flatten() {
        text.push_str(&format!("  {what}: {number}\n"));
    }
    if reply["auto_though_denied"].as_u64().is_some_and(|number| number > 0) {
        text.push_str(&format!(
            "  of those that nobody would have seen, denied: {}\n",
            cell(&reply["auto_though_denied"])
        ));
    }
    let mut table = Table::new(&["REQUEST", "RESOURCE", "WAS", "BY RULE", "WOULD BE", "BY RULE", "ENDED"]);
    for different in reply["different"].as_array().into_iter().flatten() {
        let of = |name: &str| cell(&different[name]);
        let verdict = |name: &str| cell(&different[name]["verdict"]);
        table.row([
            of("request"),
            of("resource"),
            verdict("was"),
            of("was_rule"),
            verdict("would_be"),
            of("would_be_rule"),
            of("state"),
        ]);
    }
    if !table.is_empty() {
        text.push_str(&table.text());
    }
    text
}

async fn set(client: &Client, rules: &Path, reason: &str, output: Output) -> Result<(), Failure> {
    let mut url = client.at(["v1", "policy"]);
    url.query_pairs_mut().append_pair("reason", reason);
    let table = read(rules)?;
    let reply = client.send(reqwest::Method::PUT, url, Some(&table)).await?;
    match output {
        Output::Json => show::print_json(&reply),
        Output::Table => {
            let rules = table["rule"].as_array().map_or(0, Vec::len);
            show::say(&format!("{} in force, revision {}", count(rules, "rule"), cell(&reply["revision"])))
        }
    }
}
