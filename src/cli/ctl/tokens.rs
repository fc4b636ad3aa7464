//! `iguazu ctl token`: tokens of the API, for CI jobs, proxies and people without a login.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::client::Client;
use super::resources::SecretFile;
use super::show::{self, Output, Table, cell};
use crate::cli::Failure;

/// Arguments of `iguazu ctl token`.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Show which tokens there are, and what each may do
    List,
    /// Make a token; it is shown this once
    #[command(after_help = "\
The bootstrap token that `iguazu control` leaves in its `state_dir` at the first start, or that
`control.bootstrap_token_file` names, makes the first token, with the role admin, and is of no use
afterwards.

Examples:
  iguazu ctl token create root --role admin --out root.token --token-file state/bootstrap-token
  iguazu ctl token create orders-ci --group team-orders --days 90 --out orders-ci.token
  iguazu ctl token create proxy --role proxy --out proxy.token")]
    Create(CreateArgs),
    /// Take a token away, at once
    Delete {
        /// Its name
        name: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// Its name, as it will stand in the audit log
    name: String,
    /// Group that whoever has it is in; repeat for more
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// What it may do everywhere: admin, auditor, expert or proxy; repeat for more
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Who its bearer is, if that is not its name
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// What it may be used for: read, write, approve, secrets, tokens, admin or snapshot; repeat for more [default: what its bearer may]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// For how many days it is good
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=366))]
    days: u32,
    /// File to write it to; it must not be there, and only its owner may read it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) async fn run(client: &Client, command: TokenCommand, output: Output) -> Result<(), Failure> {
    match command {
        TokenCommand::List => list(client, output).await,
        TokenCommand::Create(args) => create(client, args, output).await,
        TokenCommand::Delete { name } => {
            client.send(reqwest::Method::DELETE, client.at(["v1", "tokens", &name]), None).await?;
            show::say(&format!("token `{name}` is of no use any more"))
        }
    }
}

async fn list(client: &Client, output: Output) -> Result<(), Failure> {
    let items = client.list(client.at(["v1", "tokens"]), None).await?;
    if output == Output::Json {
        return show::print_json(&json!({ "items": items }));
    }
    let mut table = Table::new(&["NAME", "WHO", "GROUPS", "ROLES", "FOR", "EXPIRES"]);
    for item in &items {
        let expires = item["expires_ms"].as_i64().map_or_else(|| "never".to_owned(), show::until);
        let actor = &item["actor"];
        table.row([
            cell(&item["name"]),
            cell(&actor["name"]),
            cell(&actor["groups"]),
            cell(&actor["roles"]),
            cell(&item["scopes"]),
            expires,
        ]);
    }
    table.print("there are no tokens")
}

async fn create(client: &Client, args: CreateArgs, output: Output) -> Result<(), Failure> {
    let file = args.out.as_deref().map(SecretFile::create).transpose()?;
    let mut body = json!({ "name": args.name, "expires_hours": args.days * 24 });
    for (name, values) in [("groups", args.groups), ("roles", args.roles), ("scopes", args.scopes)] {
        if !values.is_empty() {
            body[name] = json!(values);
        }
    }
    if let Some(actor) = args.actor {
        body["actor"] = json!(actor);
    }
    let mut reply = client.send(reqwest::Method::POST, client.at(["v1", "tokens"]), Some(&body)).await?;
    let Value::String(token) = reply["token"].take() else {
        return Err(Failure::Failed("the reply holds no token".to_owned()));
    };
    let token = Zeroizing::new(token);
    match (file, output) {
        (Some(file), _) => file.write(&token),
        (None, Output::Json) => {
            reply["token"] = json!(&*token);
            show::print_json(&reply)
        }
        (None, Output::Table) => show::print(&format!("{}\n", &*token)),
    }
}
