//! `iguazu sender new NAME`: makes an API key, and the block to paste into the configuration.

use std::io::{self, Write as _};

use clap::Subcommand;

use super::Failure;
use crate::auth::keys;

/// Arguments of `iguazu sender`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an API key; it is shown this once, the configuration holds only its hash
    #[command(after_help = "\
Examples:
  iguazu sender new checkout --events 'orders.*' --events page.viewed
  iguazu sender new backfill --events '*'")]
    New {
        /// Name of the sender: the default source of its events, and a label of the metrics
        #[arg(value_parser = sender_name)]
        name: String,
        /// Event that it may send, `*` at the end for any rest; repeat for more [default: every event]
        #[arg(long, value_name = "EVENT", value_parser = event_pattern)]
        events: Vec<String>,
    },
}

/// Runs it.
pub fn run(args: Args) -> Result<(), Failure> {
    let Command::New { name, events } = args.command;
    let (key, hash) = keys::fresh().map_err(Failure::because)?;
    let allowed = allowed(&name, &events);
    let block = block(&name, &hash, &events);
    write!(
        io::stdout().lock(),
        "\
The key of `{name}`, shown only now; the sender puts it into its requests:

    Authorization: Bearer {key}

{allowed} For the configuration:

{block}"
    )?;
    Ok(())
}

/// What the key opens, in words: the widest right is not given in silence.
fn allowed(name: &str, events: &[String]) -> String {
    match events.is_empty() || events.iter().any(|event| event == "*") {
        true => format!("`{name}` may send EVERY event, those that do not exist yet too; `--events NAME` narrows it."),
        false => format!("`{name}` may send {}, and nothing else.", events.join(", ")),
    }
}

/// The lines for the configuration.
fn block(name: &str, hash: &[u8; 32], events: &[String]) -> String {
    let every = ["*".to_owned()];
    let events = if events.is_empty() { &every } else { events };
    let quoted: Vec<_> = events.iter().map(|event| toml::Value::String(event.clone()).to_string()).collect();
    let name = toml::Value::String(name.to_owned());
    let hash = hex::encode(hash);
    format!("[senders.{name}]\nkey_hashes = [\"sha256:{hash}\"]\nevents = [{}]\n", quoted.join(", "))
}

fn sender_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match !text.is_empty() && text.len() <= 249 && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err("a sender's name is 1 to 249 ASCII letters, digits, `.`, `_`, `-`".to_owned()),
    }
}

fn event_pattern(text: &str) -> Result<String, String> {
    let start = text.strip_suffix('*').unwrap_or(text);
    match !text.is_empty() && !start.contains(['*', ',']) && !start.contains(char::is_whitespace) {
        true => Ok(text.to_owned()),
        false => Err("an event's name, or the beginning of names with `*` at its end; repeat the flag for more".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_is_toml_whatever_the_names_are() {
        let text = block("web.shop", &[0xab; 32], &["a.\"b\"*".to_owned()]);
        let table: toml::Table = text.parse().expect("valid TOML");
        assert_eq!(table["senders"]["web.shop"]["events"][0].as_str(), Some("a.\"b\"*"));
        let hash = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(table["senders"]["web.shop"]["key_hashes"][0].as_str(), Some(hash.as_str()));
    }

    #[test]
    fn a_key_for_everything_says_so() {
        assert!(allowed("s", &[]).contains("EVERY event"));
        assert!(allowed("s", &["a".to_owned(), "*".to_owned()]).contains("EVERY event"));
        assert_eq!(allowed("s", &["a.*".to_owned(), "b".to_owned()]), "`s` may send a.*, b, and nothing else.");
    }

    #[test]
    fn an_event_pattern_is_one_that_the_configuration_takes() {
        for bad in ["", "*a", "a**", "a,b", "a b"] {
            assert!(event_pattern(bad).is_err(), "{bad:?}");
        }
        for good in ["*", "a.*", "orders.v1.OrderPlaced"] {
            assert!(event_pattern(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_sender_has_a_name_that_fits_everywhere() {
        for bad in ["", "a b", "ü", "a\nb"] {
            assert!(sender_name(bad).is_err(), "{bad:?}");
        }
        assert!(sender_name("checkout-service_2").is_ok());
    }
}
