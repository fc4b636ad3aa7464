//! `[routes]`: where event types and senders come from: this file, one of their own beside it, or a control plane that pushes them.
//!
//! In: the table `[routes]`; and what a control plane sent. Out: how it is reached and by which keys it is known; and a
//! configuration with its event types and senders in it. Never: two sources at once; I/O beyond the files that the table names.
//!
//! | file | subject |
//! |---|---|
//! | `beside` | event types and senders in a file of their own |
//! | `document` | what is pushed: event types in the words of `[events.NAME]`, senders |
//! | `signed` | how it is signed, and what is refused whole |
//! | `merge` | a configuration and a document -> the configuration in force; one bad route is held at its last good version |

use std::path::{Path, PathBuf};

use super::reader::{Item, Table};
use super::{Secret, registries};

mod beside;
mod document;
mod merge;
mod signed;

pub(super) use beside::read_beside;
pub use document::{Document, DocumentKey, DocumentLimits, DocumentSender, DocumentWaiting, Settings};
pub use merge::{Good, Held, Merged, check_beside, check_event_type, merge};
pub use signed::{Accepted, FORMAT, PublicKey, Refusal, Signature, Signed, SigningKey, Statement, accept, digest};

/// Where event types and senders come from.
pub(super) enum Origin {
    /// The configuration's own file.
    Here,
    /// A file of their own.
    Beside(PathBuf),
    /// A control plane.
    Control(Routes),
}

/// How the control plane is reached that event types and senders come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// Base URLs of its nodes, tried in order.
    pub urls: Vec<String>,
    /// The token by which it knows this proxy.
    pub token: Secret,
    /// PEM file of trusted authorities; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Keys that it may sign with; one of them must have.
    pub public_keys: Vec<PublicKey>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum From {
    #[default]
    File,
    Control,
}

/// Reads the table.
pub(super) fn read(root: &mut Table<'_>, state_dir: Option<&Path>) -> Origin {
    let mut table = root.section("routes");
    let source = table.choice_or("source", &[("file", From::File), ("control", From::Control)], From::File);
    if source == From::File {
        for key in ["url", "token_file", "ca_file", "public_key"] {
            table.refuse(key, "has no effect without `source = \"control\"`: event types stand in this file");
        }
        let file = table.file("file");
        table.finish();
        let Some(file) = file else { return Origin::Here };
        for key in ["events", "senders"] {
            root.refuse(key, "stands beside `routes.file`, and there is one source of event types and senders; move it there, or take `routes.file` out");
        }
        return Origin::Beside(file);
    }
    table.refuse("file", "has no effect with `source = \"control\"`: event types come from the control plane");
    for key in ["events", "senders"] {
        if root.has(key) {
            root.problem(
                key,
                "stands beside `routes.source = \"control\"`, and there is one source of event types and senders; take it out, or take the control plane out",
            );
        }
    }
    if state_dir.is_none() {
        table.problem(
            "source",
            "`control` needs `state_dir`: the last good routes are kept there, so that a start needs no control plane",
        );
    }
    let urls: Vec<String> =
        one_or_more(&mut table, "url", "the base URL of the control plane, or a list of its nodes'")
            .into_iter()
            .filter_map(registries::url)
            .collect();
    let token = table.need_secret("token_file", "the file with the token by which the control plane knows this proxy");
    if let Some(clear) = urls.iter().find(|url| url.starts_with("http://") && !is_loopback(url)) {
        table.warning("url", format!("`{clear}` is not https, so that the token crosses the network in clear"));
    }
    let keys =
        one_or_more(&mut table, "public_key", "the key that the control plane signs with; it shows it at its start");
    let routes = Routes {
        urls,
        token,
        ca_file: table.file("ca_file"),
        public_keys: keys.into_iter().filter_map(public_key).collect(),
    };
    table.finish();
    Origin::Control(routes)
}

/// A text, or a list of texts that is not empty.
fn one_or_more<'s>(table: &mut Table<'s>, key: &'static str, what: &str) -> Vec<Item<'s>> {
    match table.need(key, what) {
        None => vec![],
        Some(item) if item.text().is_some() => vec![item],
        Some(_) => table.need_list(key, what),
    }
}

fn public_key(item: Item<'_>) -> Option<PublicKey> {
    let text = item.clone().string()?;
    PublicKey::parse(&text).or_else(|| item.wrong("must be `ed25519:` and the 32 bytes of a key in base64"))
}

fn is_loopback(url: &str) -> bool {
    let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
