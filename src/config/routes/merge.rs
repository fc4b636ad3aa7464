//! A configuration and what was pushed -> the configuration in force.
//!
//! In: a configuration whose event types come from a control plane, the document in force, and what was good before it. Out: the
//! configuration with its event types and senders, checked by the very parser of `[events.NAME]`. Never: a whole document refused
//! for one bad route: that one is held at its last good version, or left out where it has none, and all others go on.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::document::{Document, DocumentKey, DocumentSender, Settings};
use crate::config::check::parse_as;
use crate::config::reader::quoted;
use crate::config::{Cluster, Config, Problem, Sender, Spool, events, http, names, senders};
use crate::route::{Brake, EventType, Limits};

/// The largest `http.body_bytes_max` that a proxy may have: where no proxy is known, no limit is held against it.
const BODY_BYTES_MAX: usize = 104_857_600;

/// What is good: everything that is in force, as it was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Good {
    /// Event types by name.
    pub events: BTreeMap<String, Settings>,
    /// Senders by name.
    pub senders: BTreeMap<String, DocumentSender>,
}

/// Something of a document that is not in force as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What: `event type orders.placed`, `sender orders`.
    pub name: String,
    /// Whether its last good version is in force.
    pub has_good: bool,
    /// What is wrong with it.
    pub problem: String,
}

/// What came of a document.
#[derive(Clone, Debug)]
pub struct Merged {
    /// The configuration that is to be in force.
    pub config: Config,
    /// What of the document, or of those before it, is in it.
    pub good: Good,
    /// What is not in it as the document has it.
    pub held: Vec<Held>,
    /// Event types for clusters that this configuration does not have: they are for other proxies.
    pub elsewhere: usize,
    /// When the first key in it ends, milliseconds since 1970.
    pub next_expiry_ms: Option<i64>,
}

/// Puts the event types and senders of a document into a configuration, with this proxy's share of all rates.
pub fn merge(base: &Config, document: &Document, before: &Good, proxies: u32, now_ms: i64) -> Merged {
    let mut held = Vec::new();
    let is_here = |settings: &Settings| {
        let cluster = settings.get("cluster").and_then(serde_json::Value::as_str);
        // One that names none is nobody's, and everybody says so.
        cluster.is_none_or(|name| base.clusters.iter().any(|cluster| cluster.name == name))
    };
    let wanted: BTreeMap<String, Settings> = document
        .events
        .iter()
        .filter(|(_, settings)| is_here(settings))
        .map(|(name, settings)| (name.clone(), settings.clone()))
        .collect();
    let elsewhere = document.events.len() - wanted.len();
    let (mut event_types, events) = good_events(base, wanted, &before.events, &mut held);
    let (mut senders, good_senders) = good_senders(document, &before.senders, now_ms, &mut held);
    for limits in event_types.iter_mut().map(|e| &mut e.limits).chain(senders.iter_mut().map(|s| &mut s.limits)) {
        limits.bytes_per_second = limits.bytes_per_second.map(|rate| share(rate, proxies));
        limits.events_per_second = limits.events_per_second.map(|rate| share(rate, proxies));
    }
    let keys = good_senders.values().flat_map(|sender| &sender.keys);
    let next_expiry_ms = keys.filter_map(|key| key.expires_ms).filter(|expires_ms| *expires_ms > now_ms).min();
    let waiting = document.waiting.iter().filter(|(name, waiting)| {
        let is_here = base.clusters.iter().any(|cluster| cluster.name == waiting.cluster);
        is_here && !events.contains_key(*name)
    });
    let waiting = waiting.map(|(name, waiting)| (name.clone(), waiting.clone())).collect();
    let config = Config { events: event_types, waiting, senders, ..base.clone() };
    Merged { config, good: Good { events, senders: good_senders }, held, elsewhere, next_expiry_ms }
}

/// All that is wrong with an event type, beyond what other event types and a proxy's own settings say; or what it is.
pub fn check_event_type(name: &str, settings: &Settings, clusters: &[Cluster]) -> Result<EventType, Vec<Problem>> {
    let mut event_types = parse_for_any_proxy([(name, settings)], clusters)?;
    let missing = || Problem { line: 0, key: String::new(), message: "no event type".to_owned() };
    event_types.pop().ok_or_else(|| vec![missing()])
}

/// What keeps an event type from standing beside others that stand together; none if nothing does.
pub fn check_beside(
    name: &str,
    settings: &Settings,
    others: &BTreeMap<String, Settings>,
    clusters: &[Cluster],
) -> Option<String> {
    let blamed_in = |events: &BTreeMap<String, Settings>| {
        let all = events.iter().map(|(name, settings)| (name.as_str(), settings));
        parse_for_any_proxy(all, clusters).map_or_else(|problems| blame(&problems, events), |_| BTreeMap::new())
    };
    let mut all = others.clone();
    all.insert(name.to_owned(), settings.clone());
    let with = blamed_in(&all);
    if with.is_empty() {
        return None;
    }
    // What was wrong without it is no fault of its own.
    all.remove(name);
    let without = blamed_in(&all);
    with.into_iter().find(|(blamed, problem)| without.get(blamed) != Some(problem)).map(|(_, problem)| problem)
}

/// Reads event types as generously as any proxy may.
fn parse_for_any_proxy<'e>(
    events: impl IntoIterator<Item = (&'e str, &'e Settings)>,
    clusters: &[Cluster],
) -> Result<Vec<EventType>, Vec<Problem>> {
    let text = toml_of(events)?;
    let (folder, sync_interval) = (PathBuf::new(), Duration::ZERO);
    let spool = Spool { folder, bytes_max: u64::MAX, sync_interval, is_ephemeral: false };
    let (parsed, _) = parse_as(&text, Path::new(""), |mut root| {
        let (mut http, _) = http::read(&mut root);
        http.body_bytes_max = BODY_BYTES_MAX;
        events::read(&mut root, &http, clusters, None, Some(&spool))
    });
    parsed.map(|(event_types, _)| event_types)
}

/// One proxy's share. Rounded up: to round down would let nothing through of what is rare.
fn share(rate: u64, proxies: u32) -> u64 {
    rate.div_ceil(u64::from(proxies.max(1)))
}

/// The event types that are good, and their settings: each in its version of now, else in the one before.
fn good_events(
    base: &Config,
    mut wanted: BTreeMap<String, Settings>,
    before: &BTreeMap<String, Settings>,
    held: &mut Vec<Held>,
) -> (Vec<EventType>, BTreeMap<String, Settings>) {
    let mut problems_of: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let problems = match parse(base, &wanted) {
            Ok(event_types) => {
                for (name, problem) in problems_of {
                    let has_good = wanted.contains_key(&name);
                    held.push(Held { name: format!("event type {name}"), has_good, problem });
                }
                return (event_types, wanted);
            }
            Err(problems) => problems,
        };
        let mut blamed = blame(&problems, &wanted);
        if blamed.is_empty() {
            // It is about no event type that can be told from the others: none is kept of which nothing is known.
            let all = problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ");
            let strangers = wanted.iter().filter(|(name, settings)| before.get(*name) != Some(settings));
            blamed = strangers.map(|(name, _)| (name.clone(), all.clone())).collect();
            if blamed.is_empty() {
                blamed = wanted.keys().map(|name| (name.clone(), all.clone())).collect();
            }
        }
        for (name, problem) in blamed {
            let is_second = problems_of.contains_key(&name);
            let good = before.get(&name).filter(|good| !is_second && wanted.get(&name) != Some(good)).cloned();
            match good {
                Some(good) => wanted.insert(name.clone(), good),
                None => wanted.remove(&name),
            };
            problems_of.entry(name).or_insert(problem);
        }
    }
}

/// Reads event types as if they stood in the configuration's file.
fn parse(base: &Config, wanted: &BTreeMap<String, Settings>) -> Result<Vec<EventType>, Vec<Problem>> {
    let text = toml_of(wanted.iter().map(|(name, settings)| (name.as_str(), settings)))?;
    let (parsed, _) = parse_as(&text, Path::new(""), |mut root| {
        events::read(&mut root, &base.http, &base.clusters, base.schemas.as_ref(), base.spool.as_ref())
    });
    parsed.map(|(event_types, _)| event_types)
}

/// `[events.NAME]` of each. What TOML cannot say, such as null, is a problem of its event type.
fn toml_of<'e>(events: impl IntoIterator<Item = (&'e str, &'e Settings)>) -> Result<String, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut tables = toml::Table::new();
    for (name, settings) in events {
        match toml::Table::try_from(settings) {
            Ok(table) => drop(tables.insert(name.to_owned(), toml::Value::Table(table))),
            Err(error) => {
                let key = format!("events.{}", quoted(name));
                problems.push(Problem { line: 0, key, message: format!("cannot be said in TOML: {error}") });
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let document = toml::Table::from_iter([("events".to_owned(), toml::Value::Table(tables))]);
    toml::to_string(&document).map_err(|error| {
        vec![Problem { line: 0, key: "events".to_owned(), message: format!("cannot be said in TOML: {error}") }]
    })
}

/// Which event types the problems are about, and what is wrong with each.
fn blame(problems: &[Problem], wanted: &BTreeMap<String, Settings>) -> BTreeMap<String, String> {
    let names: HashMap<String, &String> =
        wanted.keys().map(|name| (format!("events.{}", quoted(name)), name)).collect();
    let mut blamed: BTreeMap<String, String> = BTreeMap::new();
    for problem in problems {
        // The longest beginning that is an event type: keys and names have dots.
        let ends = problem.key.match_indices('.').map(|(at, _)| at).chain([problem.key.len()]);
        let found = ends.filter_map(|end| Some((end, *names.get(&problem.key[..end])?))).next_back();
        let Some((end, name)) = found else { continue };
        let field = problem.key[end..].trim_start_matches('.');
        let text = if field.is_empty() { problem.message.clone() } else { format!("{field}: {}", problem.message) };
        match blamed.get_mut(name) {
            Some(all) => {
                all.push_str("; ");
                all.push_str(&text);
            }
            None => drop(blamed.insert(name.clone(), text)),
        }
    }
    blamed
}

/// The senders that are good, with the keys that are taken now.
fn good_senders(
    document: &Document,
    before: &BTreeMap<String, DocumentSender>,
    now_ms: i64,
    held: &mut Vec<Held>,
) -> (Vec<Sender>, BTreeMap<String, DocumentSender>) {
    let mut owners: HashMap<[u8; 32], String> = HashMap::new();
    let (mut senders, mut good) = (Vec::new(), BTreeMap::new());
    for (name, wanted) in &document.senders {
        let problem = match sender(name, wanted, now_ms, &mut owners) {
            Ok(sender) => {
                senders.push(sender);
                good.insert(name.clone(), wanted.clone());
                continue;
            }
            Err(problem) => problem,
        };
        let last = before.get(name).filter(|last| *last != wanted).map(|last| both_allow(last, wanted));
        let last = last.and_then(|last| Some((sender(name, &last, now_ms, &mut owners).ok()?, last)));
        held.push(Held { name: format!("sender {name}"), has_good: last.is_some(), problem });
        if let Some((sender, last)) = last {
            senders.push(sender);
            good.insert(name.clone(), last);
        }
    }
    (senders, good)
}

/// A sender as it was, without what was taken from it since: what is wrong with it now must not give a key back.
fn both_allow(last: &DocumentSender, wanted: &DocumentSender) -> DocumentSender {
    let keys = last.keys.iter().filter(|key| wanted.keys.iter().any(|kept| kept.sha256 == key.sha256));
    let events = last.events.iter().filter(|event| wanted.events.contains(event));
    DocumentSender { keys: keys.cloned().collect(), events: events.cloned().collect(), ..last.clone() }
}

fn sender(
    name: &str,
    wanted: &DocumentSender,
    now_ms: i64,
    owners: &mut HashMap<[u8; 32], String>,
) -> Result<Sender, String> {
    names::event(name)?;
    let is_taken = |key: &&DocumentKey| key.expires_ms.is_none_or(|expires_ms| expires_ms > now_ms);
    let mut key_hashes = Vec::new();
    for key in wanted.keys.iter().filter(is_taken) {
        let hash = senders::sha256(&key.sha256).ok_or("a key's digest is not 64 hexadecimal digits")?;
        if let Some(owner) = owners.get(&hash).filter(|owner| *owner != name) {
            return Err(format!("a key of it is a key of sender `{owner}` as well; a key says who is asking"));
        }
        key_hashes.push(hash);
    }
    let limits = wanted.limits;
    if limits.bytes_per_second == Some(0) || limits.events_per_second == Some(0) || limits.event_bytes_max == Some(0) {
        return Err("a limit of 0 lets nothing through; `disabled` says that".to_owned());
    }
    let brake = match (wanted.disabled, wanted.sample) {
        (true, _) => Brake::Disabled,
        (false, None) => Brake::Off,
        (false, Some(share)) if share > 0.0 && share < 1.0 => Brake::sample(share),
        (false, Some(share)) => return Err(format!("`sample` is {share}; it must be more than 0 and less than 1")),
    };
    owners.extend(key_hashes.iter().map(|hash| (*hash, name.to_owned())));
    Ok(Sender {
        name: name.to_owned(),
        key_hashes,
        events: wanted.events.clone(),
        limits: Limits {
            event_bytes_max: limits.event_bytes_max.and_then(|bytes| usize::try_from(bytes).ok()),
            bytes_per_second: limits.bytes_per_second,
            events_per_second: limits.events_per_second,
        },
        brake,
    })
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
