//! What is wrong with one topic, as far as what is known of it tells.
//!
//! In: [`Facts`] of a topic: how it is desired, how it is, who reads it, what was measured. Out: findings, each with its evidence and
//! what to do. Never: I/O; a conclusion from what was not seen: whatever is `None` is left out.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::finding::{Finding, FindingKind};
use super::history::{Series, Traffic};
use crate::control::capacity::Resolved;
use crate::control::kafka::acls::{AclBinding, AclOperation, AclPattern, AclPermission, AclResource};
use crate::control::kafka::groups::GroupDescription;
use crate::control::kafka::topics::TopicDescription;
use crate::control::resource::{ResourceId, TopicSpec};

/// Days without a record after which a topic counts as unused.
const UNUSED_DAYS: i64 = 30;
/// Days of measurements before declared and measured are compared.
const MEASURED_DAYS: usize = 14;
/// What is measured below this share of what is declared is declared too large.
const OVER_DECLARED: f64 = 0.2;
/// How much more than its share a broker leads before it is told.
const SKEW: f64 = 2.0;

/// What is known of a topic.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    /// How it is desired; none: nobody manages it here.
    pub spec: Option<&'a TopicSpec>,
    /// What the resolver makes of that.
    pub resolved: Option<Resolved>,
    /// How it is; none: it is not there.
    pub topic: Option<&'a TopicDescription>,
    /// Its configs that matter, wherever their values come from.
    pub configs: BTreeMap<&'a str, &'a str>,
    /// The access rules of the cluster; none where it has no authorizer, or did not tell.
    pub acls: Option<Vec<&'a AclBinding>>,
    /// Kafka users of its owner.
    pub users: Vec<&'a str>,
    /// Kafka's quotas of those users: bytes a second on each broker, by key.
    pub quotas: BTreeMap<&'a str, BTreeMap<&'a str, f64>>,
    /// Bytes on disk, all copies; none when no broker told.
    pub bytes: Option<u64>,
    /// Groups that have read of it; none when nobody looked.
    pub groups: Option<Vec<Reader>>,
    /// What was measured of it.
    pub traffic: Option<&'a Traffic>,
    /// Event types of the proxy that go to it, and the most bytes that each lets through.
    pub event_bytes_max: BTreeMap<String, u64>,
}

/// A group that reads a topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reader {
    /// Its name.
    pub group: String,
    /// Its state in Kafka's words.
    pub state: String,
    /// Who is in it.
    pub members: usize,
    /// Records that it is behind.
    pub lag: i64,
    /// Records that went before it had read them.
    pub lost: i64,
    /// How far it was behind.
    pub history: Series,
}

impl Reader {
    /// A group as it is described.
    pub fn of(group: &GroupDescription) -> Reader {
        Reader {
            group: group.group.clone(),
            state: group.state.clone(),
            members: group.members.len(),
            ..Reader::default()
        }
    }
}

/// Everything that is wrong with a topic.
pub fn diagnose(id: &ResourceId, facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = Found { id, findings: Vec::new() };
    let Some(topic) = facts.topic else {
        if facts.spec.is_some() {
            let summary = format!("topic `{}` is not there", id.name);
            found.add(FindingKind::Missing, summary, json!({ "observed": null }));
        }
        return found.findings;
    };
    replicas(topic, facts, &mut found);
    configs(topic, facts, &mut found);
    access(facts, &mut found);
    quotas(topic, facts, &mut found);
    readers(facts, &mut found);
    traffic(facts, &mut found);
    found.findings
}

struct Found<'i> {
    id: &'i ResourceId,
    findings: Vec<Finding>,
}

impl Found<'_> {
    fn add(&mut self, kind: FindingKind, summary: String, evidence: serde_json::Value) {
        let cluster = self.id.cluster.as_deref().unwrap_or_default();
        self.findings.push(Finding::new(cluster, self.id, kind, summary, evidence));
    }
}

fn number(facts: &Facts<'_>, key: &str) -> Option<i64> {
    facts.configs.get(key)?.parse().ok()
}

fn replicas(topic: &TopicDescription, facts: &Facts<'_>, found: &mut Found<'_>) {
    let name = &topic.name;
    let least = number(facts, "min.insync.replicas").unwrap_or(1);
    let offline: Vec<i32> = topic.partitions.iter().filter(|p| p.leader.is_none()).map(|p| p.partition).collect();
    if !offline.is_empty() {
        let down = down(topic, &offline);
        let summary = format!("{} of {} partitions of `{name}` have no leader", offline.len(), topic.partitions.len());
        found.add(FindingKind::OfflinePartition, summary, json!({ "partitions": offline, "brokers": down }));
    }
    let behind: Vec<i32> =
        topic.partitions.iter().filter(|p| p.in_sync.len() < p.replicas.len()).map(|p| p.partition).collect();
    if !behind.is_empty() {
        let down = down(topic, &behind);
        let summary = format!("{} of {} partitions of `{name}` lack a copy", behind.len(), topic.partitions.len());
        found.add(FindingKind::UnderReplicated, summary, json!({ "partitions": behind, "brokers": down }));
    }
    let copies = topic.partitions.iter().map(|p| p.replicas.len()).min().unwrap_or(0) as i64;
    if least > copies {
        let summary = format!("`{name}` wants {least} replicas in sync and has {copies}: `acks=all` is always refused");
        let evidence = json!({ "min.insync.replicas": least, "replicas": copies });
        found.add(FindingKind::MinInsyncImpossible, summary, evidence);
    } else {
        let short: Vec<i32> =
            topic.partitions.iter().filter(|p| (p.in_sync.len() as i64) < least).map(|p| p.partition).collect();
        if !short.is_empty() {
            let summary = format!("`acks=all` is refused on {} partitions of `{name}`", short.len());
            let down = down(topic, &short);
            let evidence = json!({ "partitions": short, "min.insync.replicas": least, "brokers": down });
            found.add(FindingKind::BelowMinInsync, summary, evidence);
        }
    }
    // What is down leads nothing, and that is told already.
    if offline.is_empty() && behind.is_empty() {
        leaders(topic, found);
    }
}

/// Replicas of these partitions that are not in sync, by broker.
fn down(topic: &TopicDescription, partitions: &[i32]) -> BTreeSet<i32> {
    let of_them = topic.partitions.iter().filter(|p| partitions.contains(&p.partition));
    of_them.flat_map(|p| p.replicas.iter().filter(|broker| !p.in_sync.contains(broker))).copied().collect()
}

/// A broker that leads much more than its share although others should: only what an election can change.
fn leaders(topic: &TopicDescription, found: &mut Found<'_>) {
    let mut leads: BTreeMap<i32, usize> = BTreeMap::new();
    for partition in &topic.partitions {
        *leads.entry(partition.leader.unwrap_or(-1)).or_default() += 1;
    }
    let brokers: BTreeSet<i32> = topic.partitions.iter().flat_map(|p| p.replicas.iter().copied()).collect();
    let share = topic.partitions.len() as f64 / brokers.len().max(1) as f64;
    let not_preferred: Vec<i32> =
        topic.partitions.iter().filter(|p| p.leader != p.replicas.first().copied()).map(|p| p.partition).collect();
    let most = leads.iter().max_by_key(|(_, count)| **count);
    if let Some((broker, count)) = most
        && *count > 1
        && *count as f64 >= (share * SKEW).max(share + 1.0)
        && !not_preferred.is_empty()
    {
        let all = topic.partitions.len();
        let summary = format!("broker {broker} leads {count} of {all} partitions of `{}`", topic.name);
        let evidence = json!({ "leads": leads, "not_preferred": not_preferred });
        found.add(FindingKind::SkewedLeaders, summary, evidence);
    }
}

fn configs(topic: &TopicDescription, facts: &Facts<'_>, found: &mut Found<'_>) {
    let name = &topic.name;
    let deletes = facts.configs.get("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
    let (retention_ms, segment_ms) = (number(facts, "retention.ms"), number(facts, "segment.ms"));
    if let (true, Some(retention), Some(segment)) = (deletes, retention_ms, segment_ms)
        && retention >= 0
        && retention < segment
    {
        let summary = format!("`{name}` keeps records for up to {segment} ms, not {retention} ms");
        let evidence = json!({ "retention.ms": retention, "segment.ms": segment });
        found.add(FindingKind::RetentionUnderSegment, summary, evidence);
    }
    if let Some(resolved) = &facts.resolved {
        over_reserve(topic, facts, resolved, deletes, found);
    }
    let Some(most) = number(facts, "max.message.bytes").and_then(|most| u64::try_from(most).ok()) else { return };
    let declared =
        facts.resolved.as_ref().and_then(|resolved| resolved.configs.get("max.message.bytes")?.parse::<u64>().ok());
    let larger = facts.event_bytes_max.iter().filter(|(_, bytes)| **bytes > most);
    let larger: BTreeMap<&str, u64> = larger.map(|(event, bytes)| (event.as_str(), *bytes)).collect();
    if declared.is_some_and(|declared| declared > most) || !larger.is_empty() {
        let summary = format!("`{name}` refuses records over {most} bytes that are let through to it");
        let evidence = json!({ "max.message.bytes": most, "declared": declared, "event_types": larger });
        found.add(FindingKind::MessageSize, summary, evidence);
    }
}

/// What it may come to take against what is reserved for it: by its configs as they are, and by what is on disk now.
fn over_reserve(
    topic: &TopicDescription,
    facts: &Facts<'_>,
    resolved: &Resolved,
    deletes: bool,
    found: &mut Found<'_>,
) {
    let copies: u64 = topic.partitions.iter().map(|p| p.replicas.len() as u64).sum();
    let retention = number(facts, "retention.bytes");
    let worst = match retention.and_then(|bytes| u64::try_from(bytes).ok()) {
        Some(retention) => {
            let segment = number(facts, "segment.bytes").and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
            Some(copies.saturating_mul(retention.saturating_add(segment)))
        }
        None => None,
    };
    let reserved = resolved.reserve_bytes;
    let has_no_limit = deletes && retention.is_some_and(|retention| retention < 0);
    let over = worst.filter(|worst| deletes && *worst > reserved);
    let over_now = facts.bytes.filter(|bytes| *bytes > reserved);
    if has_no_limit || over.is_some() || over_now.is_some() {
        let name = &topic.name;
        let summary = match (has_no_limit, over) {
            (true, _) => format!("`{name}` has no limit by size, and {reserved} bytes are reserved for it"),
            (false, Some(worst)) => format!("`{name}` may take {worst} bytes, and {reserved} are reserved for it"),
            (false, None) => format!("`{name}` takes more than the {reserved} bytes that are reserved for it"),
        };
        let evidence = json!({
            "reserved_bytes": reserved,
            "bytes": facts.bytes,
            "may_take_bytes": worst,
            "retention.bytes": retention,
        });
        found.add(FindingKind::OverReserve, summary, evidence);
    }
}

/// Whether some rule of an access rule's kind bears on a topic.
fn bears_on(acl: &AclBinding, topic: &str) -> bool {
    acl.resource == AclResource::Topic
        && match acl.pattern {
            AclPattern::Literal => acl.name == topic || acl.name == "*",
            AclPattern::Prefixed => topic.starts_with(&acl.name),
            AclPattern::Other(_) => false,
        }
}

fn access(facts: &Facts<'_>, found: &mut Found<'_>) {
    let (Some(acls), Some(spec)) = (&facts.acls, facts.spec) else { return };
    let name = found.id.name.clone();
    let own: Vec<&&AclBinding> = acls.iter().filter(|acl| bears_on(acl, &name)).collect();
    let denied = own.iter().filter(|acl| acl.permission == AclPermission::Deny && acl.principal == "User:*");
    let denied: BTreeSet<String> = denied.map(|acl| format!("{:?}", acl.operation)).collect();
    if !denied.is_empty() {
        let summary = format!("topic `{name}` is closed: everybody is denied {denied:?}");
        found.add(FindingKind::Closed, summary, json!({ "denied": denied }));
    }
    // Through the proxy its owner needs no user at all.
    if facts.users.is_empty() {
        return;
    }
    let may = |acl: &&&AclBinding| {
        let user = acl.principal.strip_prefix("User:").unwrap_or_default();
        acl.permission == AclPermission::Allow
            && (user == "*" || facts.users.contains(&user))
            && matches!(acl.operation, AclOperation::Read | AclOperation::Write | AclOperation::All)
    };
    if !own.iter().any(may) {
        let summary = format!("no user of service `{}` may read or write `{name}`", spec.service);
        found.add(FindingKind::NoAccess, summary, json!({ "users": facts.users, "rules": own.len() }));
    }
}

fn quotas(topic: &TopicDescription, facts: &Facts<'_>, found: &mut Found<'_>) {
    let Some(resolved) = &facts.resolved else { return };
    let leading: BTreeSet<i32> = topic.partitions.iter().filter_map(|partition| partition.leader).collect();
    let brokers = leading.len().max(1) as f64;
    let needed = resolved.ingress_bytes_per_second as f64;
    for (user, values) in &facts.quotas {
        // Kafka's quota is of each broker.
        let Some(rate) = values.get("producer_byte_rate") else { continue };
        if rate * brokers < needed {
            let summary = format!(
                "user `{user}` may send {} bytes a second, `{}` is declared {needed}",
                rate * brokers,
                topic.name
            );
            let evidence = json!({
                "user": user,
                "producer_byte_rate": rate,
                "brokers": leading,
                "declared_bytes_per_second": needed,
            });
            found.add(FindingKind::QuotaThrottles, summary, evidence);
            return;
        }
    }
}

fn readers(facts: &Facts<'_>, found: &mut Found<'_>) {
    let groups = facts.groups.as_deref().unwrap_or_default();
    let name = found.id.name.clone();
    let told = |reader: &Reader| {
        let Reader { group, state, members, lag, lost, history } = reader;
        let growth = history.growth_per_day();
        json!({ "group": group, "state": state, "members": members, "lag": lag, "lost": lost, "growth_per_day": growth })
    };
    let all = |readers: &[&Reader]| json!({ "groups": readers.iter().map(|reader| told(reader)).collect::<Vec<_>>() });
    let of = |is: &dyn Fn(&Reader) -> bool| groups.iter().filter(|reader| is(reader)).collect::<Vec<&Reader>>();
    let names =
        |readers: &[&Reader]| readers.iter().map(|reader| format!("`{}`", reader.group)).collect::<Vec<_>>().join(", ");
    let dead = of(&|reader| reader.members == 0 && reader.lag > 0);
    if !dead.is_empty() {
        let summary = format!("nobody is in {}, and records of `{name}` wait", names(&dead));
        found.add(FindingKind::GroupDead, summary, all(&dead));
    }
    let growing = of(&|reader| reader.members > 0 && reader.lag > 0 && reader.history.only_grows());
    if !growing.is_empty() {
        let summary = format!("{} falls behind on `{name}`", names(&growing));
        found.add(FindingKind::LagGrowing, summary, all(&growing));
    }
    let lost = of(&|reader| reader.lost > 0);
    if !lost.is_empty() {
        let records: i64 = lost.iter().map(|reader| reader.lost).sum();
        let summary = format!("{records} records of `{name}` went before {} had read them", names(&lost));
        found.add(FindingKind::RecordsLost, summary, all(&lost));
    }
}

fn traffic(facts: &Facts<'_>, found: &mut Found<'_>) {
    let Some(traffic) = facts.traffic else { return };
    let name = found.id.name.clone();
    let idle = traffic.idle_days();
    if idle >= UNUSED_DAYS {
        let summary = format!("nothing was written to `{name}` for {idle} days");
        let evidence = json!({ "idle_days": idle, "records": traffic.end, "bytes": traffic.bytes });
        found.add(FindingKind::Unused, summary, evidence);
        return;
    }
    let (Some(spec), Some(measured)) = (facts.spec, traffic.peak_mb_per_second(MEASURED_DAYS)) else { return };
    let declared = spec.capacity.mb_per_second * spec.capacity.growth * spec.capacity.peak_factor;
    let evidence = json!({
        "declared_peak_mb_per_second": declared,
        "measured_peak_mb_per_second": measured,
        "suggested_mb_per_second": measured / spec.capacity.peak_factor,
        "days": traffic.peaks.len(),
    });
    if measured > declared {
        let summary = format!("`{name}` carries {measured:.3} MB/s at its peak, {declared:.3} are declared");
        found.add(FindingKind::UnderDeclared, summary, evidence);
    } else if measured < declared * OVER_DECLARED {
        let summary = format!("`{name}` carries {measured:.3} MB/s at its peak, and {declared:.3} are declared");
        found.add(FindingKind::OverDeclared, summary, evidence);
    }
}

#[cfg(test)]
#[path = "diagnose_tests.rs"]
mod tests;
