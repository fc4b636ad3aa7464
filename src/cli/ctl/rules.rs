//! `iguazu ctl rules`: the rules that wishes are judged by, and what is good practice.

use super::client::Client;
use super::show::{self, Output};
use crate::cli::Failure;

/// Arguments of `iguazu ctl rules`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  iguazu ctl rules                     all of them
  iguazu ctl rules topic.capacity      those about a field
  iguazu ctl rules user                those about a kind")]
pub(super) struct RulesArgs {
    /// Only those about this field (`KIND.FIELD`) or kind
    field: Option<String>,
}

pub(super) async fn rules(client: &Client, args: RulesArgs, output: Output) -> Result<(), Failure> {
    let mut url = client.at(["v1", "rules"]);
    if let Some(field) = &args.field {
        url.query_pairs_mut().append_pair("about", field);
    }
    let reply = client.get(url).await?;
    if output == Output::Json {
        return show::print_json(&reply);
    }
    let text = |rule: &serde_json::Value, key: &str| rule[key].as_str().unwrap_or_default().to_owned();
    let mut told = String::new();
    for rule in reply["items"].as_array().into_iter().flatten() {
        let about: Vec<&str> =
            rule["about"].as_array().into_iter().flatten().filter_map(|field| field.as_str()).collect();
        told.push_str(&format!("{} ({})\n", text(rule, "id"), about.join(", ")));
        told.push_str(&format!("  asks for: {}\n  good practice: {}\n", text(rule, "asks"), text(rule, "practice")));
    }
    match told.is_empty() {
        true => show::say("no rule is about that; fields are written as in `topic.capacity`"),
        false => show::print(&told),
    }
}
