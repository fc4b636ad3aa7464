//! One topic looked at now: what is known of it, put together for [`super::diagnose`].
//!
//! In: a topic's name. Out: a [`Diagnosis`]. Never: a write; a finding from a question that failed: those are listed beside.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::diagnose::{self, Facts, Reader};
use super::finding::Finding;
use super::history::{Look, Traffic};
use super::measure::{self, Measured};
use super::room::Room;
use super::snapshot::{EFFECTIVE, Parts, Snapshot};
use super::{ROWS, ReconcileError, Reconciler, diff};
use crate::control::kafka::acls::{AclBinding, AclFilter, AclNameFilter, AclPattern, AclResource};
use crate::control::kafka::configs::ConfigResource;
use crate::control::kafka::quotas::{QuotaEntity, QuotaFilter, QuotaMatch, QuotaName};
use crate::control::kafka::{AdminError, KafkaAdmin};
use crate::control::provider::resolve;
use crate::control::resource::{Kind, ResourceId, Spec, TopicSpec};
use crate::control::store::{Filter, Page, now_ms};
use crate::control::world::World;

/// What a look at a topic came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Diagnosis {
    /// The topic.
    #[schema(value_type = String)]
    pub topic: ResourceId,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// What is wrong; empty: nothing that can be seen.
    pub findings: Vec<Finding>,
    /// Partitions.
    pub partitions: Option<u32>,
    /// Bytes on disk, all copies.
    pub bytes: Option<u64>,
    /// Megabytes a second that are declared for the peak.
    pub declared_peak_mb_per_second: Option<f64>,
    /// Megabytes a second that were measured at peaks.
    pub measured_peak_mb_per_second: Option<f64>,
    /// Groups that have read of it: name, members, and how far they are behind.
    pub groups: Vec<GroupLag>,
    /// What could not be asked, and why.
    pub unknown: BTreeMap<String, String>,
}

/// A group that reads a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GroupLag {
    /// Its name.
    pub group: String,
    /// Its state in Kafka's words.
    pub state: String,
    /// Who is in it.
    pub members: usize,
    /// Records that it is behind.
    pub lag: i64,
}

impl Reconciler {
    /// Looks at one topic of a registered cluster now.
    pub async fn diagnose(&self, id: &ResourceId) -> Result<Diagnosis, ReconcileError> {
        let cluster = id.cluster.as_deref().unwrap_or_default();
        let not_configured = || ReconcileError::NotConfigured { cluster: cluster.to_owned() };
        let admin = Arc::clone(self.reach.clusters.get(cluster).ok_or_else(not_configured)?);
        let world = self.world_of(id).await?;
        let users: Vec<String> =
            world.resources().filter(|row| row.id.kind == Kind::User).map(|row| row.id.name.clone()).collect();
        let unseen = |source| ReconcileError::Unseen { cluster: cluster.to_owned(), source };
        let snapshot = look(admin.as_ref(), &id.name, &users).await.map_err(unseen)?;
        let room = super::room::room(&snapshot, &HashMap::new());
        let mut unknown: BTreeMap<String, String> =
            snapshot.unknown().into_iter().map(|(what, error)| (what.to_owned(), error.to_string())).collect();

        let known: Option<Traffic> = self.store.measure(cluster, &format!("topic/{}", id.name)).await?;
        let mut measured = Measured::default();
        match measure::look(admin.as_ref(), &[snapshot.topic(&id.name)].into_iter().flatten().collect::<Vec<_>>()).await
        {
            Ok(looked) => {
                let mut traffic = known.unwrap_or_default();
                if let Some(ends) = looked.get(&id.name) {
                    let copies = copies(&snapshot, &id.name).max(1);
                    let bytes = room.held.get(&id.name).copied().unwrap_or(0) / copies;
                    let look = Look { at_ms: now_ms(), begin: ends.begin(), end: ends.end(), bytes };
                    // What two looks shortly after each other see is no peak of a day; it only tells that it is alive.
                    if traffic.first_ms == 0 || look.end > traffic.end {
                        traffic.moved_ms = look.at_ms;
                        traffic.last_ms = traffic.last_ms.max(look.at_ms);
                    }
                    traffic.first_ms = if traffic.first_ms == 0 { look.at_ms } else { traffic.first_ms };
                }
                measured.traffic.insert(id.name.clone(), traffic);
                match measure::readers(admin.as_ref(), &looked).await {
                    Ok(mut readers) => {
                        for reader in readers.get_mut(&id.name).into_iter().flatten() {
                            let subject = measure::reader_subject(&id.name, &reader.group);
                            let before: Option<Reader> = self.store.measure(cluster, &subject).await?;
                            reader.history = before.map(|before| before.history).unwrap_or_default();
                            reader.history.add(now_ms(), reader.lag as f64, 1);
                        }
                        measured.readers = Some(readers);
                    }
                    Err(error) => drop(unknown.insert("groups".to_owned(), error.to_string())),
                }
            }
            Err(error) => drop(unknown.insert("offsets".to_owned(), error.to_string())),
        }

        let index = Index::of(cluster, &world, &snapshot);
        let facts = facts_of(id, &world, &snapshot, &index, &measured, &room);
        let mut findings = diagnose::diagnose(id, &facts);
        let looked = world.before(id).zip(self.providers.of(Kind::Topic));
        if let Some((resource, provider)) = looked {
            match provider.observe(id, &self.reach).await {
                Ok(observed) => {
                    findings.retain(|finding| finding.kind != super::FindingKind::Missing);
                    findings.extend(diff::finding(cluster, resource, provider.as_ref(), &world, &observed));
                }
                Err(error) => drop(unknown.insert("topic".to_owned(), error.to_string())),
            }
        }
        findings.sort_by_key(|finding| (std::cmp::Reverse(finding.severity), finding.kind));
        for finding in &mut findings {
            let row = self.store.finding::<Finding>(&finding.id).await?;
            finding.since_ms = row.map_or_else(now_ms, |row| row.first_ms);
        }
        let traffic = measured.traffic.get(&id.name);
        let readers = measured.readers.as_ref().and_then(|readers| readers.get(&id.name));
        Ok(Diagnosis {
            topic: id.clone(),
            at_ms: now_ms(),
            partitions: facts.topic.map(|topic| topic.partitions.len() as u32),
            bytes: facts.bytes,
            declared_peak_mb_per_second: facts
                .resolved
                .as_ref()
                .map(|resolved| resolved.ingress_bytes_per_second as f64 / 1e6),
            measured_peak_mb_per_second: traffic.and_then(|traffic| traffic.peak_mb_per_second(1)),
            groups: readers.into_iter().flatten().map(GroupLag::of).collect(),
            unknown,
            findings,
        })
    }

    /// A topic, with its owner's users and the event types that go to it.
    async fn world_of(&self, id: &ResourceId) -> Result<World, ReconcileError> {
        let cluster = id.cluster.as_deref().unwrap_or_default();
        let mut world = World::of(&[], super::SELF);
        let said = self.store.resource(&ResourceId::of(Kind::Cluster, cluster)).await?;
        if let (Some(view), Some(Spec::Cluster(spec))) =
            (self.clusters.load().get(cluster), said.map(|resource| resource.spec))
        {
            world.add_cluster(cluster, view.clone().with_spec(spec));
        }
        let Some(topic) = self.store.resource(id).await? else { return Ok(world) };
        let users = Filter {
            kind: Some(Kind::User),
            cluster: Some(cluster.to_owned()),
            service: Some(topic.service.clone()),
            ..Filter::default()
        };
        let events = Filter { kind: Some(Kind::EventType), text: Some(id.name.clone()), ..Filter::default() };
        for filter in [users, events] {
            for row in self.store.resources(&filter, &Page { after: None, limit: ROWS }).await? {
                world.add(row);
            }
        }
        world.add(topic);
        Ok(world)
    }
}

impl GroupLag {
    fn of(reader: &Reader) -> GroupLag {
        let Reader { group, state, members, lag, .. } = reader;
        GroupLag { group: group.clone(), state: state.clone(), members: *members, lag: *lag }
    }
}

/// A snapshot of one topic and of what bears on it.
async fn look(admin: &dyn KafkaAdmin, topic: &str, users: &[String]) -> Result<Snapshot, AdminError> {
    let begun_ms = now_ms();
    let cluster = admin.describe_cluster().await?;
    let ids: Vec<i32> = cluster.brokers.iter().map(|broker| broker.id).collect();
    let names = [topic.to_owned()];
    let resources = [ConfigResource::Topic(topic.to_owned())];
    let rules = AclFilter {
        resource: Some(AclResource::Topic),
        name: AclNameFilter::BearingOn(topic.to_owned()),
        ..AclFilter::default()
    };
    let (topics, configs, acls, dirs) = tokio::join!(
        admin.describe_topics(&names),
        admin.describe_configs(&resources),
        admin.describe_acls(&rules),
        admin.describe_log_dirs(&ids),
    );
    let mut quotas = Ok(Vec::new());
    for user in users {
        let user = Some(QuotaMatch::Exactly(user.clone()));
        match (admin.describe_quotas(&QuotaFilter { user, strict: true, ..QuotaFilter::default() }).await, &mut quotas)
        {
            (Ok(more), Ok(quotas)) => quotas.extend(more),
            (Err(error), quotas) => *quotas = Err(error),
            (Ok(_), Err(_)) => {}
        }
    }
    // One that is not there is no reason why others may be missing.
    let topics =
        topics.map(|each| each.into_iter().filter(|one| !matches!(one, Err(AdminError::NotFound(_)))).collect());
    let log_dirs = match dirs {
        Ok(each) => ids.into_iter().zip(each).collect(),
        Err(error) => ids.into_iter().map(|id| (id, Err(error.clone()))).collect(),
    };
    // Of a cluster's users nothing is said here.
    let users = Ok(Vec::new());
    let mut snapshot = Snapshot::of(begun_ms, Parts { cluster, topics, acls, users, quotas, log_dirs });
    if let Ok(Some(configs)) = configs.map(|each| each.into_iter().next())
        && snapshot.topic(topic).is_some()
    {
        snapshot.add_configs(topic, configs);
    }
    Ok(snapshot)
}

fn copies(snapshot: &Snapshot, topic: &str) -> u64 {
    let first = snapshot.topic(topic).and_then(|topic| topic.partitions.first());
    first.map_or(0, |partition| partition.replicas.len() as u64)
}

/// What bears on topics, by topic and by service: so that each of ten thousand is not looked for among all the others.
pub(super) struct Index<'a> {
    users: HashMap<&'a str, Vec<&'a str>>,
    /// Rules of a topic's very name, and those that may bear on many.
    literal: Option<HashMap<&'a str, Vec<&'a AclBinding>>>,
    wide: Vec<&'a AclBinding>,
    quotas: HashMap<&'a str, BTreeMap<&'a str, f64>>,
    /// The most bytes of each event type, by topic.
    events: HashMap<&'a str, BTreeMap<String, Option<u64>>>,
}

impl<'a> Index<'a> {
    /// Of what is on a cluster.
    pub(super) fn of(cluster: &str, world: &'a World, snapshot: &'a Snapshot) -> Index<'a> {
        let mut index = Index {
            users: HashMap::new(),
            literal: snapshot.has_acls().then(HashMap::new),
            wide: Vec::new(),
            quotas: HashMap::new(),
            events: HashMap::new(),
        };
        for resource in world.resources() {
            match &resource.spec {
                Spec::User(user) if resource.id.cluster.as_deref() == Some(cluster) => {
                    index.users.entry(&user.service).or_default().push(&resource.id.name);
                }
                Spec::EventType(event) if event.cluster == cluster => {
                    let most = event.settings.get("limits").and_then(|limits| limits.get("event_bytes_max")?.as_u64());
                    index.events.entry(&event.topic).or_default().insert(resource.id.name.clone(), most);
                }
                _ => {}
            }
        }
        for acl in snapshot.acls().filter(|acl| acl.resource == AclResource::Topic) {
            match &mut index.literal {
                Some(literal) if acl.pattern == AclPattern::Literal && acl.name != "*" => {
                    literal.entry(&acl.name).or_default().push(acl);
                }
                _ => index.wide.push(acl),
            }
        }
        for quota in snapshot.quotas() {
            if let QuotaEntity { user: Some(QuotaName::Name(user)), client_id: None, ip: None } = &quota.entity {
                let values = quota.values.iter().map(|(key, value)| (key.as_str(), *value));
                index.quotas.entry(user).or_default().extend(values);
            }
        }
        index
    }
}

/// What is known of a topic.
pub(super) fn facts_of<'a>(
    id: &ResourceId,
    world: &'a World,
    snapshot: &'a Snapshot,
    index: &Index<'a>,
    measured: &'a Measured,
    room: &Room,
) -> Facts<'a> {
    let cluster = id.cluster.as_deref().unwrap_or_default();
    let spec: Option<&TopicSpec> = match world.before(id).map(|resource| &resource.spec) {
        Some(Spec::Topic(spec)) => Some(spec),
        _ => None,
    };
    let users = spec.and_then(|spec| index.users.get(spec.service.as_str())).cloned().unwrap_or_default();
    let configs = EFFECTIVE.iter().filter_map(|key| Some((*key, snapshot.config(&id.name, key)?)));
    let quotas = users.iter().filter_map(|user| Some((*user, index.quotas.get(user)?.clone())));
    let literal = |rules: &HashMap<&'a str, Vec<&'a AclBinding>>| {
        let own = rules.get(id.name.as_str()).into_iter().flatten();
        own.chain(&index.wide).copied().collect()
    };
    Facts {
        spec,
        resolved: spec.and_then(|spec| resolve(spec, world, cluster).ok()),
        topic: snapshot.topic(&id.name),
        configs: configs.collect(),
        acls: index.literal.as_ref().map(literal),
        quotas: quotas.collect(),
        users,
        bytes: room.held.get(&id.name).copied(),
        groups: measured.readers.as_ref().map(|readers| readers.get(&id.name).cloned().unwrap_or_default()),
        traffic: measured.traffic.get(&id.name),
        event_bytes_max: index.events.get(id.name.as_str()).cloned().unwrap_or_default(),
    }
}
