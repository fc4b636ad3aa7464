//! The rules of `deploy/prometheus`, and whether what a query names exists.

use std::collections::{BTreeMap, BTreeSet};

use iguazu::outcome::Code;
use iguazu::telemetry::metrics::{self, Kind};
use serde::{Deserialize, Serialize};

/// One rule: an alert or a recorded series.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name of the series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// Name of the alert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// The query.
    pub expr: String,
    /// How long it must hold.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub holds: Option<String>,
    /// What the alert carries beside the labels of the query.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What people read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct File {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

/// All rules, recorded series first.
pub fn all() -> Vec<Rule> {
    let read = |file: &str| -> File {
        let path = format!("deploy/prometheus/{file}");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    let files = ["recording.yml", "alerts.yml"].map(read);
    files.into_iter().flat_map(|file| file.groups).flat_map(|group| group.rules).collect()
}

/// Labels that a scrape adds; the last two in Kubernetes.
const ADDED: [&str; 4] = ["instance", "job", "namespace", "pod"];

/// What a query names that nobody serves: metrics, labels, codes.
pub fn unknown_in(query: &str, recorded: &BTreeSet<String>) -> Vec<String> {
    let (mut unknown, mut labels) = (Vec::new(), BTreeSet::from(ADDED));
    for selector in selectors(query) {
        let known = match known_labels(selector.name, recorded) {
            Some(known) => known,
            None => {
                unknown.push(format!("metric {}", selector.name));
                continue;
            }
        };
        for (label, value) in &selector.matchers {
            if !known.contains(label) && !ADDED.contains(label) {
                unknown.push(format!("label {label} of {}", selector.name));
            }
            if *label == "code" {
                let codes: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
                unknown
                    .extend(value.split('|').filter(|code| !codes.contains(code)).map(|code| format!("code {code}")));
            }
        }
        labels.extend(known);
    }
    labels.extend(query.contains("count_values(\"fingerprint\"").then_some("fingerprint"));
    for clause in ["by (", "on (", "group_left (", "without ("] {
        for rest in query.split(clause).skip(1) {
            let list = rest.split(')').next().unwrap_or_default().split(',').map(str::trim);
            unknown.extend(
                list.filter(|label| !labels.contains(label)).map(|label| format!("label {label} in {clause}…)")),
            );
        }
    }
    unknown
}

fn known_labels(name: &str, recorded: &BTreeSet<String>) -> Option<BTreeSet<&'static str>> {
    match name {
        "ALERTS" => return Some(BTreeSet::from(["alertname", "alertstate", "severity"])),
        "up" => return Some(BTreeSet::new()),
        _ if recorded.contains(name) => return Some(BTreeSet::from(["cluster", "event", "owner"])),
        _ => {}
    }
    let of = |metric: &&&metrics::Metric| match metric.kind {
        Kind::Histogram => {
            name.strip_prefix(metric.name).is_some_and(|end| ["_bucket", "_sum", "_count"].contains(&end))
        }
        _ => metric.name == name,
    };
    let metric = metrics::ALL.iter().find(of)?;
    let mut labels: BTreeSet<&'static str> = metric.labels.iter().copied().collect();
    labels.extend(name.ends_with("_bucket").then_some("le"));
    Some(labels)
}

/// A metric and what is asked of its labels.
struct Selector<'a> {
    name: &'a str,
    matchers: Vec<(&'a str, &'a str)>,
}

/// The selectors of a query. It is in the dialect of our own files, which Prometheus itself parses elsewhere: every metric is one of
/// ours, `up` or `ALERTS`, and no label's value has a brace.
fn selectors(query: &str) -> Vec<Selector<'_>> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut quoted = false;
    let mut at = 0;
    while let Some(c) = query[at..].chars().next() {
        if c == '"' {
            quoted = !quoted;
        }
        if quoted || !is_name(c) {
            at += c.len_utf8();
            continue;
        }
        let end = query[at..].find(|c| !is_name(c)).map_or(query.len(), |length| at + length);
        let name = &query[at..end];
        at = end;
        if !(name.starts_with("iguazu") || name == "up" || name == "ALERTS") {
            continue;
        }
        let mut matchers = Vec::new();
        if let Some(list) = query[at..].strip_prefix('{') {
            let list = &list[..list.find('}').expect("Prometheus has parsed it")];
            at += list.len() + 2;
            let mut parts = list.split('"');
            while let (Some(label), Some(value)) = (parts.next(), parts.next()) {
                matchers.push((label.trim_matches([',', ' ', '=', '~', '!']), value));
            }
        }
        found.push(Selector { name, matchers });
    }
    found
}
