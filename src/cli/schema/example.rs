//! `iguazu schema example EVENT`: a payload to begin with.

use std::io::{self, Write as _};

use crate::cli::Failure;
use crate::cli::target::{Target, TargetArgs};
use crate::dev::screen::{WIDTH, json_lines, shell_word};

/// Arguments of `iguazu schema example`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  iguazu schema example delivery.v1.StatusChanged          beside a running `iguazu dev`
  iguazu schema example orders.v1.OrderPlaced --payload-only > order.json
  iguazu schema example orders.v1.OrderPlaced --config /etc/iguazu.toml")]
pub struct Args {
    /// Name of the event
    event: String,
    /// Only the payload
    #[arg(long)]
    payload_only: bool,
    #[command(flatten)]
    target: TargetArgs,
}

/// Runs it.
pub async fn run(args: Args) -> Result<(), Failure> {
    let target = args.target.find(&args.event)?;
    let payload = target.example(1).await?;
    let mut out = io::stdout().lock();
    for line in json_lines(&payload, WIDTH) {
        writeln!(out, "{line}")?;
    }
    if !args.payload_only {
        let listen = args.target.read()?.map(|(config, _)| config.http.listen.to_string());
        writeln!(out, "\n{}", curl(&target, listen.as_deref(), &payload))?;
    }
    Ok(())
}

/// The command that posts the payload to the door of bare payloads.
fn curl(target: &Target, listen: Option<&str>, payload: &str) -> String {
    let url = format!("http://{}/v1/events/{}", listen.unwrap_or("127.0.0.1:8080"), target.event_type.name);
    let body = json_lines(payload, WIDTH).join("\n");
    let (url, body) = (shell_word(&url), shell_word(&body));
    format!("curl -s {url} \\\n  -H 'content-type: application/json' \\\n  -d {body}")
}
