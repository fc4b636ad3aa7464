//! `iguazu ctl service`: a service as a whole.
//!
//! In: a service, and what becomes of what it owns. Out: all that it owns, or one request over it. Never: a change of one resource at a
//! time; what cannot be done with all of them is done with none.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Client, ClientError};
use super::follow::{self, AskArgs};
use super::resources::{confirm, gist, kinds, state};
use super::show::{self, Output, Table, cell, count};
use super::{fields, requests};
use crate::cli::Failure;
use crate::control::api::problem::kinds::UNCHANGED;
use crate::control::resource::Kind;

/// Arguments of `iguazu ctl service`.
#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    /// Show a service, all that it owns, and the requests about it that are open
    Show {
        /// Its name
        service: String,
    },
    /// Ask for other values of some fields, of all resources of a kind
    #[command(after_help = "\
Fields that are not named stay as they are; `FIELD=` without a value takes one out.

Examples:
  iguazu ctl service set orders topic capacity.retention_hours=72 --reason 'a weekend longer'
  iguazu ctl service set orders topic tier=critical --cluster core --name 'orders.money.*' --dry-run")]
    Set(SetArgs),
    /// Ask for all that it owns to belong to another service, whose owners must agree
    #[command(after_help = "\
What is handed over keeps its names, keys and passwords. A consumer that moves to a service may use
the names of groups that begin with that one's, too.

Example:
  iguazu ctl service hand-over orders checkout --reason 'one team from now on'")]
    HandOver(HandOverArgs),
    /// Ask for a new password or key for each of its users and senders
    Rotate(SelectedArgs),
    /// Ask for all of its event types and senders to let nothing through
    Freeze(WholeArgs),
    /// Ask for all of its event types and senders to let everything through again
    Thaw(WholeArgs),
    /// Ask for all that it owns to go, and the service itself
    #[command(after_help = "\
Its topics are closed at once and deleted when the quiet period is over; until then `iguazu ctl
request call-off` keeps them.")]
    Decommission {
        #[command(flatten)]
        whole: WholeArgs,
        /// Do not ask whether it is meant
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct WholeArgs {
    /// The service
    service: String,
    #[command(flatten)]
    ask: AskArgs,
}

/// Which of its resources.
#[derive(Debug, clap::Args)]
struct Selection {
    /// Only on this cluster
    #[arg(long)]
    cluster: Option<String>,
    /// Only of this name; one that ends in `*` is of all that begin so; repeat for more
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct SelectedArgs {
    #[command(flatten)]
    whole: WholeArgs,
    #[command(flatten)]
    selection: Selection,
}

#[derive(Debug, clap::Args)]
pub(super) struct SetArgs {
    /// The service
    service: String,
    /// Of which kind
    #[arg(value_name = "KIND", value_parser = kinds())]
    kind: Kind,
    /// What changes: FIELD=VALUE, repeat for more
    #[arg(value_name = "FIELD=VALUE", required = true, value_parser = fields::assignment)]
    fields: Vec<fields::Assignment>,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct HandOverArgs {
    /// The service
    service: String,
    /// The one that gets it
    to: String,
    /// Only what is of this kind; repeat for more
    #[arg(long = "kind", value_name = "KIND", value_parser = kinds())]
    kinds: Vec<Kind>,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    ask: AskArgs,
}

pub(super) async fn run(client: &Client, command: ServiceCommand, output: Output) -> Result<(), Failure> {
    match command {
        ServiceCommand::Show { service } => show_whole(client, &service, output).await,
        ServiceCommand::Set(args) => {
            let edit = args.selection.edit(&[args.kind], json!({ "set": fields::patch(&args.fields)? }));
            change(client, &args.service, &[edit], &args.ask, output).await
        }
        ServiceCommand::HandOver(args) => {
            let edit = args.selection.edit(&args.kinds, json!({ "hand_over": args.to }));
            change(client, &args.service, &[edit], &args.ask, output).await
        }
        ServiceCommand::Rotate(SelectedArgs { whole, selection }) => {
            let edit = selection.edit(&[], json!("rotate"));
            change(client, &whole.service, &[edit], &whole.ask, output).await
        }
        ServiceCommand::Freeze(whole) => freeze(client, &whole, json!(true), output).await,
        ServiceCommand::Thaw(whole) => freeze(client, &whole, Value::Null, output).await,
        ServiceCommand::Decommission { whole, yes } => decommission(client, &whole, yes, output).await,
    }
}

impl Selection {
    fn edit(&self, kinds: &[Kind], change: Value) -> Value {
        json!({ "kinds": kinds, "cluster": self.cluster, "names": self.names, "change": change })
    }
}

/// Everything that it owns.
async fn owned(client: &Client, service: &str) -> Result<Vec<Value>, Failure> {
    let mut url = client.at(["v1", "search"]);
    url.query_pairs_mut().append_pair("service", service);
    client.list(url, None).await
}

async fn show_whole(client: &Client, service: &str, output: Output) -> Result<(), Failure> {
    let resource = client.get(client.at(["v1", "services", service])).await?;
    let items = owned(client, service).await?;
    let open = requests::open(client, service).await?;
    if output == Output::Json {
        return show::print_json(&json!({ "service": resource, "resources": items, "requests": open }));
    }
    let spec = &resource["spec"];
    let mut text = format!("{service}: group {}, on call {}\n", cell(&spec["group"]), cell(&spec["on_call"]));
    let cost: f64 = items.iter().filter_map(|item| item["monthly_cost"].as_f64()).sum();
    if cost > 0.0 {
        text.push_str(&format!("{cost:.2} a month by its clusters' prices\n"));
    }
    let mut table = Table::new(&["RESOURCE", "STATE", "WHAT"]);
    for item in items.iter().filter(|item| item["spec"]["kind"] != "service") {
        let id = cell(&item["id"]);
        let kind = Kind::ALL.into_iter().find(|kind| id.starts_with(&format!("{}/", kind.as_str())));
        let what = kind.filter(|kind| *kind != Kind::Service).map(|kind| gist(kind, &item["spec"]));
        if let Some(what) = what {
            table.row([id, state(item), what]);
        }
    }
    if table.is_empty() {
        text.push_str("it owns nothing yet\n");
    } else {
        text.push_str(&table.text());
    }
    for request in &open {
        text.push_str(&format!(
            "open: request {} of {}: {}\n",
            cell(&request["id"]),
            cell(&request["actor"]),
            cell(&request["state"])
        ));
    }
    show::print(&text)
}

async fn change(client: &Client, service: &str, edits: &[Value], ask: &AskArgs, output: Output) -> Result<(), Failure> {
    let mut url = client.at(["v1", "services", service, "resources"]);
    ask.put_into(&mut url);
    match client.ask_by(reqwest::Method::PATCH, url, &json!({ "edits": edits })).await {
        Ok(reply) => follow::conclude(client, reply, ask.dry_run, &ask.wait, output).await,
        // What is wished is so: a script that asks again has not failed.
        Err(ClientError::Refused(problem)) if problem.code == UNCHANGED.0 => show::say(&problem.told()),
        Err(error) => Err(error.into()),
    }
}

async fn freeze(client: &Client, whole: &WholeArgs, disabled: Value, output: Output) -> Result<(), Failure> {
    let edits = [
        json!({ "kinds": ["event_type"], "change": { "set": { "settings": { "disabled": disabled } } } }),
        json!({ "kinds": ["sender"], "change": { "set": { "disabled": disabled } } }),
    ];
    change(client, &whole.service, &edits, &whole.ask, output).await
}

async fn decommission(client: &Client, whole: &WholeArgs, yes: bool, output: Output) -> Result<(), Failure> {
    let WholeArgs { service, ask } = whole;
    if !yes && !ask.dry_run {
        client.get(client.at(["v1", "services", service])).await?;
        let items = owned(client, service).await?;
        let topics = items.iter().filter(|item| cell(&item["id"]).starts_with("topic/")).count();
        // The service itself is among them.
        let others = items.len().saturating_sub(1);
        let what = format!(
            "service {service} and {} to delete, {} among them",
            count(others, "resource"),
            count(topics, "topic")
        );
        confirm(&what, service)?;
    }
    let mut edits = vec![json!({ "kinds": ["service"], "change": "delete" })];
    edits.push(json!({ "change": "delete" }));
    change(client, service, &edits, ask, output).await
}
