//! `[senders.NAME]`: who may send what.

use std::collections::HashMap;

use crate::route::EventType;

use super::reader::{Item, Table};
use super::{Http, Sender, events, names, nearest};

pub(super) fn read(root: &mut Table<'_>, http: &Http, event_types: &[EventType]) -> Vec<Sender> {
    let mut owners = HashMap::new();
    let mut senders = Vec::new();
    for (item, mut table) in root.children("senders") {
        if let Err(message) = names::event(&item.name) {
            item.problem(message);
        }
        let hashes = table.need_list("key_hashes", "the hashes of its API keys; `iguazu sender new` makes both");
        let allowed = table.need_list("events", "the events it may send; `*` at the end of one matches any rest");
        senders.push(Sender {
            name: item.name.clone(),
            key_hashes: hashes.into_iter().filter_map(|hash| key_hash(hash, &item.name, &mut owners)).collect(),
            events: allowed.into_iter().filter_map(|pattern| event_pattern(pattern, event_types)).collect(),
            limits: events::limits(&mut table, http),
            brake: events::brake(&mut table),
        });
        table.finish();
    }
    senders
}

/// `sha256:` and 64 hexadecimal digits, of no other sender and not twice.
fn key_hash(item: Item<'_>, sender: &str, owners: &mut HashMap<[u8; 32], String>) -> Option<[u8; 32]> {
    let text = item.clone().string()?;
    let Some(hash) = text.strip_prefix("sha256:").and_then(sha256) else {
        // The value is not shown: it might be the key itself.
        return item
            .wrong("must be `sha256:` and the 64 hexadecimal digits of the key's SHA-256, never the key itself");
    };
    match owners.insert(hash, sender.to_owned()) {
        Some(owner) if owner == sender => item.wrong("stands here twice"),
        Some(owner) => item.wrong(format!("is a key of sender `{owner}` as well; a key says who is asking")),
        None => Some(hash),
    }
}

/// 64 hexadecimal digits.
pub(super) fn sha256(hex: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

/// An event name, or the beginning of one with `*` at its end. One that matches nothing is a slip of the pen: the
/// sender would be refused what it was meant to be allowed.
fn event_pattern(item: Item<'_>, event_types: &[EventType]) -> Option<String> {
    let pattern = item.clone().string()?;
    let names = || event_types.iter().map(|event_type| event_type.name.as_str());
    let matched = match pattern.strip_suffix('*') {
        Some(start) if start.contains('*') => return item.wrong("`*` may stand at the end only"),
        Some("") => true,
        Some(start) => names().any(|name| name.starts_with(start)),
        None => names().any(|name| name == pattern),
    };
    if matched {
        return Some(pattern);
    }
    match nearest(&pattern, names()) {
        Some(near) => item.wrong(format!("matches no event type; did you mean `{near}`?")),
        None => item.wrong("matches no event type"),
    }
}
