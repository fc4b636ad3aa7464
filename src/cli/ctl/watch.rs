//! `iguazu ctl watch`: what happens, as it happens.
//!
//! In: the audit log, looked at every second. Out: a line on stdout for each line of it. Never: a line twice, a line left out.

use std::time::Duration;

use serde_json::Value;

use super::client::Client;
use super::show::{self, Output, cell};
use crate::cli::Failure;

/// How often it is looked.
const PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `iguazu ctl watch`.
#[derive(Debug, clap::Args)]
pub(super) struct WatchArgs {
    /// Begin after this line of the log [default: with what happens from now on]
    #[arg(long, value_name = "SEQ")]
    after: Option<i64>,
    /// End after so many lines
    #[arg(short = 'n', long, value_name = "N")]
    number: Option<usize>,
}

pub(super) async fn run(client: &Client, args: WatchArgs, output: Output) -> Result<(), Failure> {
    let mut left = args.number.unwrap_or(usize::MAX);
    let mut after = match args.after {
        Some(after) => after,
        None => last(client).await?,
    };
    loop {
        let mut url = client.at(["v1", "audit"]);
        url.query_pairs_mut().append_pair("after", &after.to_string()).append_pair("limit", "500");
        let reply = client.get(url).await?;
        let lines = reply["items"].as_array().map_or(&[][..], Vec::as_slice);
        for line in lines {
            if left == 0 {
                return Ok(());
            }
            after = line["seq"].as_i64().unwrap_or(after).max(after);
            show::print(&told(line, output))?;
            left -= 1;
        }
        if left == 0 {
            return Ok(());
        }
        if lines.is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The number of the newest line.
async fn last(client: &Client) -> Result<i64, Failure> {
    let reply = client.get(client.at(["v1", "audit", "verify"])).await?;
    Ok(reply["lines"].as_i64().unwrap_or(0))
}

fn told(line: &Value, output: Output) -> String {
    if output == Output::Json {
        return format!("{line}\n");
    }
    let text = |name: &str| cell(&line[name]);
    let request = match line["request"].as_str() {
        Some(request) if !request.is_empty() => format!("  request {request}"),
        _ => String::new(),
    };
    format!(
        "{:>6}  {}  {} {}: {}{request}\n",
        text("seq"),
        text("actor"),
        text("verb"),
        text("object"),
        text("outcome")
    )
}
