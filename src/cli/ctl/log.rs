//! `iguazu ctl log`: the audit log.

use std::io::{self, Write as _};

use super::client::Client;
use super::show::{self, Output, Table, cell};
use crate::cli::Failure;
use clap::Subcommand;

/// Arguments of `iguazu ctl log`.
#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// Show the last lines
    List {
        /// Only what comes after this line
        #[arg(long, value_name = "SEQ")]
        after: Option<i64>,
        /// Most that are shown
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// Say whether every line is as it was written
    #[command(after_help = "\
Each line holds the hash of the one before it. Whoever changes or drops one has to write all later
ones anew: keep the last hash elsewhere, and compare.

Exit code 1 when a line was changed.")]
    Verify,
    /// Print all of it, one JSON document a line
    Export {
        /// Only what comes after this line
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        after: i64,
    },
}

pub(super) async fn run(client: &Client, command: LogCommand, output: Output) -> Result<(), Failure> {
    match command {
        LogCommand::List { after, limit } => list(client, after, limit, output).await,
        LogCommand::Verify => verify(client, output).await,
        LogCommand::Export { after } => export(client, after).await,
    }
}

async fn list(client: &Client, after: Option<i64>, limit: usize, output: Output) -> Result<(), Failure> {
    let mut url = client.at(["v1", "audit"]);
    if let Some(after) = after {
        url.query_pairs_mut().append_pair("after", &after.to_string());
    }
    url.query_pairs_mut().append_pair("limit", &limit.to_string());
    let reply = client.get(url).await?;
    if output == Output::Json {
        return show::print_json(&reply);
    }
    let mut table = Table::new(&["SEQ", "AGE", "WHO", "FROM", "DID", "WITH", "OUTCOME"]);
    for line in reply["items"].as_array().into_iter().flatten() {
        let age = line["at_ms"].as_i64().map_or_else(|| "-".to_owned(), show::ago);
        let text = |name: &str| cell(&line[name]);
        table.row([text("seq"), age, text("actor"), text("source"), text("verb"), text("object"), text("outcome")]);
    }
    table.print("nothing was done yet")
}

async fn verify(client: &Client, output: Output) -> Result<(), Failure> {
    let reply = client.get(client.at(["v1", "audit", "verify"])).await?;
    let is_whole = reply["intact"].as_bool() == Some(true);
    match output {
        Output::Json => show::print_json(&reply)?,
        Output::Table if is_whole => {
            show::print(&format!("{} lines, each as it was written\n", cell(&reply["lines"])))?
        }
        Output::Table => show::print(&format!("{}\n", cell(&reply["problem"])))?,
    }
    if is_whole { Ok(()) } else { Err(Failure::Told) }
}

async fn export(client: &Client, after: i64) -> Result<(), Failure> {
    let mut url = client.at(["v1", "audit"]);
    url.query_pairs_mut().append_pair("after", &after.to_string());
    let mut response = client.stream(&url, "application/x-ndjson").await?;
    let mut out = io::stdout().lock();
    loop {
        match response.chunk().await {
            Ok(Some(piece)) => out.write_all(&piece)?,
            Ok(None) => break,
            Err(error) => return Err(Failure::because(error.without_url())),
        }
    }
    out.flush()?;
    Ok(())
}
