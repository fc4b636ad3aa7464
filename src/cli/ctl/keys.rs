//! `iguazu ctl keys`: what proxies know the plane by.
//!
//! In: what the API says of the keys that snapshots are signed with. Out: the public keys, one a line. Never: anything secret.

use serde_json::Value;

use super::client::Client;
use super::show::{self, Output, cell};
use crate::cli::Failure;

pub(super) async fn run(client: &Client, output: Output) -> Result<(), Failure> {
    let reply = client.get(client.at(["v1", "snapshot", "keys"])).await?;
    if output == Output::Json {
        return show::print_json(&reply);
    }
    let keys = reply["public_keys"].as_array().map_or(&[][..], Vec::as_slice);
    let line = |key: &Value| format!("{}\n", cell(key));
    show::print(&keys.iter().map(line).collect::<String>())
}
