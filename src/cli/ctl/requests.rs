//! `iguazu ctl request`: requests and who agrees to them.

use clap::Subcommand;
use serde_json::{Value, json};
use std::time::Duration;

use super::client::Client;
use super::follow::{self, RequestReply, WaitArgs};
use super::show::{self, Output, Table};
use crate::cli::Failure;

/// Most open requests in each state that are shown of a service.
const OPEN_MAX: usize = 100;

/// Arguments of `iguazu ctl request`.
#[derive(Debug, Subcommand)]
pub(super) enum RequestCommand {
    /// Show requests, the newest first
    List(ListArgs),
    /// Show one: what it changes, what was decided and why, who has agreed
    Show {
        /// Its id
        id: String,
    },
    /// Agree to a request, to the very plan that it shows
    Approve(VerdictArgs),
    /// Say no to a request; or take your own back
    Deny(VerdictArgs),
    /// Keep the topics that a request deletes, while its quiet period lasts
    CallOff(VerdictArgs),
    /// Wait until a request is applied, and show each step
    Watch {
        /// Its id
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only in this state: pending, approved, applying, quiet, ready, rejected, denied, withdrawn, superseded or failed
    #[arg(long)]
    state: Option<String>,
    /// Only of this service
    #[arg(long)]
    service: Option<String>,
    /// Most that are shown
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

#[derive(Debug, clap::Args)]
pub(super) struct VerdictArgs {
    /// Its id
    id: String,
    /// Why, for whoever asked and for the audit log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Hash of the plan that was looked at; another one is not agreed to [default: the plan of now]
    #[arg(long, value_name = "HASH")]
    plan: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
}

pub(super) async fn run(client: &Client, command: RequestCommand, output: Output) -> Result<(), Failure> {
    match command {
        RequestCommand::List(args) => list(client, args, output).await,
        RequestCommand::Show { id } => {
            let reply = client.get(of(client, &id)).await?;
            show_one(&reply, output)
        }
        RequestCommand::Approve(args) => decide(client, args, "approve", output).await,
        RequestCommand::Deny(args) => decide(client, args, "deny", output).await,
        RequestCommand::CallOff(args) => decide(client, args, "call_off", output).await,
        RequestCommand::Watch { id, wait } => {
            let limit = Duration::from_secs(wait.timeout);
            let (reply, request) = follow::wait_for_end(client, &id, limit).await?;
            if output == Output::Json {
                show::print_json(&reply)?;
            }
            follow::outcome(&request, output)
        }
    }
}

fn of(client: &Client, id: &str) -> reqwest::Url {
    client.at(["v1", "requests", id])
}

async fn list(client: &Client, args: ListArgs, output: Output) -> Result<(), Failure> {
    let mut url = client.at(["v1", "requests"]);
    for (name, value) in [("state", &args.state), ("service", &args.service)] {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    let items = client.list(url, Some(args.limit)).await?;
    if output == Output::Json {
        return show::print_json(&json!({ "items": items }));
    }
    let mut table = Table::new(&["REQUEST", "AGE", "BY", "STATE", "WAITS FOR", "WHAT", "REASON"]);
    for item in &items {
        let request = follow::typed(item)?;
        let by = if request.state == "pending" { missing(&request) } else { "-".to_owned() };
        table.row([
            request.id.clone(),
            age(&request.id),
            request.actor.clone(),
            request.state.clone(),
            by,
            gist(&request),
            request.reason,
        ]);
    }
    table.print("no requests")
}

/// Requests about a service that have not come to an end.
pub(super) async fn open(client: &Client, service: &str) -> Result<Vec<Value>, Failure> {
    let mut items = Vec::new();
    for state in ["pending", "approved", "applying", "quiet"] {
        let mut url = client.at(["v1", "requests"]);
        url.query_pairs_mut().append_pair("state", state).append_pair("service", service);
        items.extend(client.list(url, Some(OPEN_MAX)).await?);
    }
    Ok(items)
}

/// In which parts somebody has yet to agree.
fn missing(request: &RequestReply) -> String {
    let agreed = |part: &&String| request.approvals.iter().any(|approval| approval.parts.contains(*part));
    let missing: Vec<_> =
        request.verdict.by.iter().filter(|part| !agreed(part)).map(|part| part.replace('_', " ")).collect();
    missing.join(", ")
}

/// How old it is: an id says when it was made.
fn age(id: &str) -> String {
    let made = uuid::Uuid::try_parse(id).ok().and_then(|id| id.get_timestamp());
    made.map_or_else(
        || "-".to_owned(),
        |made| {
            let (seconds, nanos) = made.to_unix();
            show::ago(seconds as i64 * 1000 + i64::from(nanos) / 1_000_000)
        },
    )
}

fn gist(request: &RequestReply) -> String {
    match request.changes.as_slice() {
        [] => "-".to_owned(),
        [one] => format!("{} {}", one.operation, one.resource),
        [first, rest @ ..] => format!("{} {} and {} more", first.operation, first.resource, rest.len()),
    }
}

fn show_one(reply: &Value, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return show::print_json(reply);
    }
    let request = follow::typed(reply)?;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("{name:<12}{value}\n"));
        }
    };
    line("request", &request.id);
    line("by", &request.actor);
    line("reason", &request.reason);
    line("state", &request.state);
    line("why", &request.message);
    line("verdict", &request.verdict.told());
    for approval in &request.approvals {
        let parts: Vec<_> = approval.parts.iter().map(|part| part.replace('_', " ")).collect();
        let reason = if approval.reason.is_empty() { String::new() } else { format!(": {}", approval.reason) };
        line("agreed", &format!("{} as {}{reason}", approval.actor, parts.join(" and ")));
    }
    line("plan", &request.plan_hash);
    text.push_str(&request.told());
    show::print(&text)
}

async fn decide(client: &Client, args: VerdictArgs, verb: &'static str, output: Output) -> Result<(), Failure> {
    let plan_hash = match args.plan {
        Some(plan) => plan,
        None => follow::typed(&client.get(of(client, &args.id)).await?)?.plan_hash,
    };
    let mut url = of(client, &args.id);
    url.path_segments_mut().expect("it has a path").push(verb);
    let body = json!({ "reason": args.reason, "plan_hash": plan_hash });
    let reply = client.send(reqwest::Method::POST, url, Some(&body)).await?;
    if verb == "approve" {
        return follow::conclude(client, reply, false, &args.wait, output).await;
    }
    match output {
        Output::Json => show::print_json(&reply),
        Output::Table => show::say(&format!("request {} is {}", args.id, show::cell(&reply["state"]))),
    }
}
