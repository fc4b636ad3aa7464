//! What is to be said of a cluster as a whole: its disks, what can be managed there, what could not be seen, whether something happened.
//!
//! In: what a pass saw. Out: findings. Never: I/O.

use std::collections::BTreeMap;

use serde_json::json;

use super::budget;
use super::diff::Compared;
use super::finding::{Finding, FindingKind};
use super::room::Room;
use super::snapshot::Snapshot;
use crate::control::probe::{Probe, Support};
use crate::control::resource::{Kind, ResourceId};
use crate::control::world::World;

/// What is to be said of the cluster itself.
pub(super) fn findings(
    cluster: &str,
    world: &World,
    snapshot: &Snapshot,
    seen: &Probe,
    room: &Room,
    compared: &Compared,
) -> Vec<Finding> {
    let id = ResourceId::of(Kind::Cluster, cluster);
    let mut found = Vec::new();
    let mut add = |kind, summary: String, evidence| found.push(Finding::new(cluster, &id, kind, summary, evidence));
    let used = world.cluster(cluster).and_then(|view| view.disk_used).unwrap_or(0.0);
    let rung = budget::rung(used);
    let shares: BTreeMap<String, Option<f64>> =
        seen.brokers.iter().map(|broker| (broker.id.to_string(), broker.used())).collect();
    if rung >= budget::Rung::Page {
        let plan = budget::trim_plan(&held(cluster, world, snapshot, room), to_free(seen));
        let summary = format!("the fullest disk of `{cluster}` is {:.0} % full", used * 100.0);
        add(FindingKind::DiskFull, summary, json!({ "used": shares, "rung": rung, "trim_plan": plan }));
    } else if rung >= budget::Rung::Warn {
        let summary = format!("the fullest disk of `{cluster}` is {:.0} % full", used * 100.0);
        add(FindingKind::DiskFilling, summary, json!({ "used": shares, "rung": rung }));
    }
    let failed: BTreeMap<String, &Vec<String>> = seen
        .brokers
        .iter()
        .filter(|broker| !broker.failed_dirs.is_empty())
        .map(|broker| (broker.id.to_string(), &broker.failed_dirs))
        .collect();
    if !failed.is_empty() {
        add(FindingKind::DiskFailed, format!("directories of `{cluster}` cannot be used"), json!({ "dirs": failed }));
    }
    let typed = world.cluster(cluster).and_then(|view| view.spec.disk_bytes);
    if typed.is_none() && seen.brokers.iter().any(|broker| broker.total_bytes.is_none()) {
        let hidden: Vec<i32> = seen.brokers.iter().filter(|b| b.total_bytes.is_none()).map(|b| b.id).collect();
        let summary = format!("nobody knows how much room `{cluster}` has");
        add(FindingKind::BudgetUnknown, summary, json!({ "brokers": hidden }));
    }
    let no: BTreeMap<Kind, &Support> =
        seen.support.iter().filter(|(_, support)| **support != Support::Yes).map(|(kind, s)| (*kind, s)).collect();
    if !no.is_empty() {
        let kinds = no.keys().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
        add(FindingKind::Unsupported, format!("`{cluster}` does not let us manage {kinds}"), json!({ "kinds": no }));
    }
    let unknown = snapshot.unknown();
    let is_expected = |what: &str| match what {
        "access rules" => no.contains_key(&Kind::Access),
        "users" => no.contains_key(&Kind::User),
        "quotas" => no.contains_key(&Kind::Quota),
        _ => false,
    };
    let unseen: BTreeMap<&str, String> =
        unknown.iter().filter(|(what, _)| !is_expected(what)).map(|(what, error)| (*what, error.to_string())).collect();
    if !unseen.is_empty() || !compared.unknown.is_empty() {
        let summary = format!("some of `{cluster}` could not be seen");
        let examples: BTreeMap<String, &String> =
            compared.unknown.iter().take(10).map(|(id, why)| (id.to_string(), why)).collect();
        let evidence = json!({ "parts": unseen, "resources": compared.unknown.len(), "examples": examples });
        add(FindingKind::Unobserved, summary, evidence);
    }
    if super::is_mass(compared.findings.len(), compared.seen.len()) {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        compared.findings.iter().for_each(|finding| *kinds.entry(finding.kind.as_str()).or_default() += 1);
        let (count, of) = (compared.findings.len(), compared.seen.len());
        let summary = format!("{count} of {of} resources of `{cluster}` are otherwise than desired");
        add(FindingKind::MassChange, summary, json!({ "count": count, "of": of, "kinds": kinds }));
    }
    found
}

/// Bytes that must go for the fullest disk to be below the rung where somebody is woken up, over all brokers.
fn to_free(seen: &Probe) -> u64 {
    let over = seen.brokers.iter().filter_map(|broker| {
        let (total, usable) = (broker.total_bytes?, broker.usable_bytes?);
        Some(total.saturating_sub(usable).saturating_sub((total as f64 * 0.80) as u64))
    });
    // A topic's bytes lie on all of its brokers: as much must go from each.
    over.max().unwrap_or(0).saturating_mul(seen.brokers.len() as u64)
}

/// Managed topics with a limit by size, and what they hold.
fn held(cluster: &str, world: &World, snapshot: &Snapshot, room: &Room) -> Vec<budget::Held> {
    let topics = world
        .resources()
        .filter(|resource| resource.id.kind == Kind::Topic && resource.id.cluster.as_deref() == Some(cluster));
    let held = topics.filter_map(|resource| {
        let name = &resource.id.name;
        let topic = snapshot.topic(name)?;
        Some(budget::Held {
            topic: name.clone(),
            bytes: *room.held.get(name)?,
            partitions: topic.partitions.len() as u32,
            replicas: topic.partitions.first()?.replicas.len() as u32,
            retention_bytes: snapshot.config(name, "retention.bytes")?.parse().ok()?,
        })
    });
    held.collect()
}
