//! `iguazu probe URL`: asks a listener how it is, for images that have neither a shell nor an HTTP client.
//!
//! In: an address such as the admin listener's `/ready`. Out: its answer, and exit code 0 when it is well. Never: follows a redirect,
//! waits longer than it is told to.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use super::{Failure, with_causes};
use crate::dev::trust::trust;

/// Arguments of `iguazu probe`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code 0 when the answer is 200, else 1; the answer is printed either way. It is for health
checks of containers; Kubernetes asks by itself.

Examples:
  iguazu probe http://127.0.0.1:8081/ready
  iguazu probe https://127.0.0.1:8090/ready --ca /etc/iguazu/ca.pem")]
pub struct Args {
    /// What to ask: `/live`, `/ready` or `/startup` of a proxy, `/health` or `/ready` of a management plane
    #[arg(value_name = "URL", value_parser = address)]
    url: Url,
    /// PEM file of the authorities to trust instead of the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Seconds that the answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

/// Runs it.
pub fn run(args: Args) -> Result<(), Failure> {
    let tls = trust(args.ca.as_deref()).map_err(|error| Failure::Usage(with_causes(&error)))?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(args.timeout))
        .build()
        .map_err(Failure::because)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, text) = runtime.block_on(async {
        let response = client.get(args.url).send().await.map_err(Failure::because)?;
        let status = response.status();
        Ok::<_, Failure>((status, response.text().await.map_err(Failure::because)?))
    })?;
    writeln!(io::stdout(), "{}", text.trim_end())?;
    if status == reqwest::StatusCode::OK { Ok(()) } else { Err(Failure::Told) }
}

fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| "must be an address such as `http://127.0.0.1:8081/ready`".to_owned())
}
