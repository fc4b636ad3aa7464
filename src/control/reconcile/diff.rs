//! What is desired against what is there, resource by resource, without asking the cluster for each.
//!
//! In: resources and a snapshot. Out: findings, what was seen, what could not be seen, what nobody manages. Never: a write; a
//! difference of what was not seen, of what is being changed, or of what was changed after the snapshot began.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::SLICE;
use super::finding::{Finding, FindingKind, Way};
use super::snapshot::Snapshot;
use crate::control::kafka::KafkaAdmin;
use crate::control::kafka::quotas::QuotaName;
use crate::control::provider::{Difference, Observed, Provider, Providers, Reach};
use crate::control::resource::{Kind, ResourceId};
use crate::control::store::{Resource, ResourceState};
use crate::control::world::World;

/// Rules and quotas of a user are listed together up to this many, so that a list stays readable.
const LISTED_MAX: usize = 50;

/// What came of a comparison.
#[derive(Debug, Default)]
pub struct Compared {
    /// Resources that are otherwise than desired.
    pub findings: Vec<Finding>,
    /// Resources that were compared.
    pub seen: BTreeSet<ResourceId>,
    /// Resources of which something else was seen than the last time, with the revision that they had.
    pub changed: Vec<(ResourceId, i64, Option<Value>)>,
    /// Resources that could not be seen, and why.
    pub unknown: BTreeMap<ResourceId, String>,
    /// Whether the groups that read topics were looked at.
    pub with_groups: bool,
}

/// Compares every resource of a cluster with a snapshot of it. What was changed within `settle_ms` before the snapshot began is
/// left for the next time: brokers may not show it yet.
pub async fn compare(
    cluster: &str,
    world: &World,
    snapshot: &Arc<Snapshot>,
    providers: &Providers,
    reach: &Reach,
    settle_ms: i64,
) -> Compared {
    let admin: Arc<dyn KafkaAdmin> = Arc::clone(snapshot) as Arc<dyn KafkaAdmin>;
    let reach = Reach { clusters: BTreeMap::from([(cluster.to_owned(), admin)]), ..reach.clone() };
    let mut compared = Compared::default();
    for (at, resource) in
        world.resources().filter(|resource| resource.id.cluster.as_deref() == Some(cluster)).enumerate()
    {
        if at % SLICE == SLICE - 1 {
            tokio::task::yield_now().await;
        }
        let Some(provider) = providers.of(resource.id.kind) else { continue };
        // What is on its way, or failed on it, has a request that tells of it.
        if resource.state != ResourceState::Ready || resource.updated_ms + settle_ms >= snapshot.begun_ms {
            continue;
        }
        match provider.observe(&resource.id, &reach).await {
            Err(error) => drop(compared.unknown.insert(resource.id.clone(), error.to_string())),
            Ok(observed) => {
                compared.findings.extend(finding(cluster, resource, provider.as_ref(), world, &observed));
                compared.seen.insert(resource.id.clone());
                let value = match observed {
                    Observed::Absent => None,
                    Observed::Present(value) => Some(value),
                };
                if value != resource.observed {
                    compared.changed.push((resource.id.clone(), resource.revision, value));
                }
            }
        }
    }
    compared
}

/// What is otherwise about a resource, if anything is.
pub fn finding(
    cluster: &str,
    resource: &Resource,
    provider: &dyn Provider,
    world: &World,
    observed: &Observed,
) -> Option<Finding> {
    let differences = provider.differences(resource, world, observed);
    if differences.is_empty() {
        return None;
    }
    let id = &resource.id;
    let (kind, summary) = match observed {
        Observed::Absent => (FindingKind::Missing, format!("{id} is desired and not there")),
        Observed::Present(_) if differences.iter().any(|difference| difference.field == "kafka_id") => {
            (FindingKind::Recreated, format!("{id} was deleted and made anew by somebody else"))
        }
        Observed::Present(_) => {
            let fields: Vec<&str> = differences.iter().map(|difference| difference.field.as_str()).collect();
            (FindingKind::Drift, format!("{id} is otherwise than desired: {}", fields.join(", ")))
        }
    };
    let mut finding = Finding::new(cluster, id, kind, summary, evidence(&differences, observed));
    // A topic that somebody else made is not taken over by restoring: what it holds is not ours.
    if kind != FindingKind::Recreated {
        finding.ways.insert(Way::Restore);
    }
    if provider.acceptable(resource, world, observed).is_some() {
        finding.ways.insert(Way::Accept);
    }
    Some(finding)
}

fn evidence(differences: &[Difference], observed: &Observed) -> Value {
    let observed = match observed {
        Observed::Absent => &Value::Null,
        Observed::Present(value) => value,
    };
    json!({ "differences": differences, "observed": observed })
}

/// What is on a cluster and in no row of ours. Kafka's own topics are nobody's to manage.
pub fn unmanaged(cluster: &str, world: &World, snapshot: &Snapshot) -> BTreeMap<ResourceId, Value> {
    let mut found = BTreeMap::new();
    let mut add = |kind: Kind, name: &str, observed: Value| {
        let id = ResourceId::on(kind, cluster, name);
        if world.before(&id).is_none() {
            found.insert(id, observed);
        }
    };
    for topic in snapshot.topics().filter(|topic| !topic.internal) {
        let replicas = topic.partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or(0);
        add(Kind::Topic, &topic.name, json!({ "partitions": topic.partitions.len(), "replicas": replicas }));
    }
    for user in snapshot.users() {
        let mechanisms: Vec<&str> = user.credentials.iter().map(|(mechanism, _)| mechanism.sasl_name()).collect();
        add(Kind::User, &user.user, json!({ "mechanisms": mechanisms }));
    }
    for quota in snapshot.quotas() {
        if let Some(QuotaName::Name(user)) = &quota.entity.user {
            add(Kind::Quota, user, json!({ "values": quota.values.iter().cloned().collect::<BTreeMap<_, _>>() }));
        }
    }
    // Rules are listed with whom they are for, under the name of a grant that nobody has written down.
    let ours = granted(cluster, world);
    let mut by_principal: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for acl in snapshot.acls() {
        let text = format!(
            "{:?} {:?} {:?} {:?} `{}` from {}",
            acl.permission, acl.operation, acl.resource, acl.pattern, acl.name, acl.host
        );
        if !ours.contains(acl.principal.strip_prefix("User:").unwrap_or_default()) {
            by_principal.entry(&acl.principal).or_default().push(text);
        }
    }
    for (principal, mut rules) in by_principal {
        rules.sort();
        let all = rules.len();
        rules.truncate(LISTED_MAX);
        add(Kind::Access, principal, json!({ "rules": rules, "count": all }));
    }
    found
}

/// Users with a grant of ours.
fn granted<'w>(cluster: &str, world: &'w World) -> BTreeSet<&'w str> {
    let grants = world
        .resources()
        .filter(|resource| resource.id.kind == Kind::Access && resource.id.cluster.as_deref() == Some(cluster));
    grants.filter_map(|resource| Some(resource.id.name.split_once(':')?.0)).collect()
}
