//! `iguazu ctl brake`: how much of an event type is let through for now.

use clap::Subcommand;
use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::client::Client;
use super::resources;
use super::show::{self, Output, Table, cell};
use crate::cli::Failure;
use crate::control::resource::Kind;

/// Arguments of `iguazu ctl brake`.
#[derive(Debug, Subcommand)]
pub(super) enum BrakeCommand {
    /// Let nothing through: senders are told to come back later
    Disable {
        /// The event type
        event: String,
        /// Why, for everybody else
        #[arg(long)]
        reason: String,
    },
    /// Let a share of the events through; the others are accepted and left out
    Sample {
        /// The event type
        event: String,
        /// More than 0 and less than 1: 0.01 is one event in a hundred
        share: f64,
        /// Why, for everybody else
        #[arg(long)]
        reason: String,
    },
    /// Let through again what its owner lets through
    Lift {
        /// The event type
        event: String,
    },
    /// Show the brakes that are on
    List,
}

pub(super) async fn run(client: &Client, command: BrakeCommand, output: Output) -> Result<(), Failure> {
    let at = |event: &str| {
        let mut url = client.of(&resources::id(Kind::EventType, event)?);
        url.path_segments_mut().expect("it has a path").push("brake");
        Ok::<_, Failure>(url)
    };
    match command {
        BrakeCommand::Disable { event, reason } => {
            let brake = put(client, at(&event)?, json!({ "disabled": true, "reason": reason })).await?;
            print(&brake, output)
        }
        BrakeCommand::Sample { event, share, reason } => {
            let brake = put(client, at(&event)?, json!({ "sample": share, "reason": reason })).await?;
            print(&brake, output)
        }
        BrakeCommand::Lift { event } => {
            client.send(Method::DELETE, at(&event)?, None).await?;
            show::say(&format!("the brake of {event} is lifted"))
        }
        BrakeCommand::List => list(client, output).await,
    }
}

async fn put(client: &Client, url: Url, body: Value) -> Result<Value, Failure> {
    Ok(client.send(Method::PUT, url, Some(&body)).await?)
}

fn print(brake: &Value, output: Output) -> Result<(), Failure> {
    match output {
        Output::Json => show::print_json(brake),
        Output::Table => show::print(&format!("{}: {}\n", cell(&brake["resource"]), told(brake))),
    }
}

/// What a brake does, who put it on, and why.
pub(super) fn told(brake: &Value) -> String {
    format!("{}, by {}: {}", hold(brake), cell(&brake["actor"]), cell(&brake["reason"]))
}

fn hold(brake: &Value) -> String {
    match brake["sample"].as_f64() {
        Some(share) => format!("a share of {share} is let through"),
        None => "nothing is let through".to_owned(),
    }
}

async fn list(client: &Client, output: Output) -> Result<(), Failure> {
    let reply = client.get(client.at(["v1", "brakes"])).await?;
    if output == Output::Json {
        return show::print_json(&reply);
    }
    let mut table = Table::new(&["EVENT TYPE", "WHAT", "SINCE", "WHO", "WHY"]);
    for brake in reply["items"].as_array().into_iter().flatten() {
        let since = brake["at_ms"].as_i64().map_or_else(|| "-".to_owned(), show::ago);
        table.row([cell(&brake["resource"]), hold(brake), since, cell(&brake["actor"]), cell(&brake["reason"])]);
    }
    table.print("no brake is on")
}
