//! Topics: capacity becomes partitions and configs, and Kafka is made to have them.
//!
//! Never: a topic with fewer partitions (Kafka cannot, and to delete it and make it anew loses what is in it), a config key that
//! nobody asked for, a topic of the same name with another id than the one that we made.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::access;
use super::{
    Answer, Comparison, Difference, Observed, Provider, Reach, Step, StepError, check_cluster, check_service, read_wish,
};
use crate::control::capacity::{self, Resolved, Unresolvable};
use crate::control::kafka::configs::{ConfigChange, ConfigResource, ConfigSource};
use crate::control::kafka::topics::NewTopic;
use crate::control::kafka::{AdminError, Mode};
use crate::control::policy::Facts;
use crate::control::resource::{EventTypeSpec, Expert, Found, Kind, ResourceId, Spec, TopicSpec, Violation, rule};
use crate::control::store::{Need, Resource};
use crate::control::world::{Change, World};

/// The provider of topics.
pub struct TopicProvider;

/// What a step wishes of a topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "wish", rename_all = "snake_case")]
enum Wish {
    /// It exists, with exactly so many partitions and copies, and these configs.
    Create { partitions: u32, replicas: u32, configs: BTreeMap<String, String> },
    /// It has these configs, and the topic none of its own for those without a value.
    Configure { configs: BTreeMap<String, Option<String>>, kafka_id: Option<Uuid> },
    /// It has at least so many partitions.
    Grow { partitions: u32, kafka_id: Option<Uuid> },
    /// The topic with this id is gone.
    Delete { kafka_id: Uuid },
}

/// A topic as Kafka has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    kafka_id: Uuid,
    partitions: u32,
    replicas: u32,
    /// Those that are set on the topic itself.
    configs: BTreeMap<String, String>,
}

/// A topic as it is to be: what the resolver makes of its capacity, and what an expert has set in its place.
pub fn resolve(spec: &TopicSpec, world: &World, cluster: &str) -> Result<Resolved, Vec<Unresolvable>> {
    let class = world.cluster(cluster).map(|view| view.class).unwrap_or_default();
    let mut resolved = capacity::resolve(&spec.wanted(), &class)?;
    if let Some(expert) = &spec.expert {
        resolved.configs.extend(expert.configs.clone());
        resolved.partitions = expert.partitions.unwrap_or(resolved.partitions);
        let bytes = |key: &str| resolved.configs.get(key).and_then(|text| text.parse::<u64>().ok());
        if let (Some(retention), Some(segment)) = (bytes("retention.bytes"), bytes("segment.bytes")) {
            resolved.reserve_bytes =
                capacity::reserve(&spec.wanted(), resolved.replicas, resolved.partitions.max(1), retention, segment);
        }
    }
    Ok(resolved)
}

fn read(observed: &Observed) -> Option<Seen> {
    match observed {
        Observed::Absent => None,
        Observed::Present(value) => serde_json::from_value(value.clone()).ok(),
    }
}

/// Whether what is there is the topic that was made for a resource, as far as its id is known.
fn made_by_us(resource: &Resource, seen: &Seen) -> bool {
    resource.kafka_id.as_ref().is_none_or(|id| *id == seen.kafka_id.to_string())
}

/// Whether a cluster has access rules: without them nobody can be kept out.
fn has_rules(cluster: &str, world: &World) -> bool {
    world.cluster(cluster).is_some_and(|view| !view.unsupported.contains_key(&Kind::Access))
}

/// Whether records that are kept now would go.
fn cuts(actual: &Seen, wanted: &Resolved) -> bool {
    // Below zero there is no limit.
    let limit = |configs: &BTreeMap<String, String>, key: &str| {
        let number = configs.get(key)?.parse::<i64>().ok()?;
        Some(u64::try_from(number).unwrap_or(u64::MAX))
    };
    let whole = |bytes: u64, partitions: u32| bytes.saturating_mul(u64::from(partitions));
    let bytes = limit(&actual.configs, "retention.bytes").zip(limit(&wanted.configs, "retention.bytes"));
    let times = limit(&actual.configs, "retention.ms").zip(limit(&wanted.configs, "retention.ms"));
    times.is_some_and(|(actual, wanted)| wanted < actual)
        // Up to a byte for each partition is rounding.
        || bytes.is_some_and(|(had, gets)| {
            whole(gets, wanted.partitions).saturating_add(u64::from(wanted.partitions)) < whole(had, actual.partitions)
        })
}

/// Whether old records go by another rule.
fn cleans_up_otherwise(actual: &Seen, wanted: &Resolved) -> bool {
    let policy = |configs: &BTreeMap<String, String>| configs.get("cleanup.policy").cloned();
    policy(&actual.configs).is_some_and(|actual| Some(actual) != policy(&wanted.configs))
}

impl TopicProvider {
    fn change(change: &Change) -> (&str, Option<&TopicSpec>) {
        let spec = match &change.desired {
            Some(Spec::Topic(spec)) => Some(spec),
            _ => None,
        };
        (change.id.cluster.as_deref().unwrap_or_default(), spec)
    }

    fn before<'w>(change: &Change, world: &'w World) -> Option<&'w TopicSpec> {
        match world.before(&change.id).map(|resource| &resource.spec) {
            Some(Spec::Topic(spec)) => Some(spec),
            _ => None,
        }
    }

    async fn seen(id: &ResourceId, reach: &Reach) -> Result<Option<Seen>, StepError> {
        let admin = reach.cluster(id)?;
        let described = admin.describe_topics(std::slice::from_ref(&id.name)).await?;
        let topic = match described.into_iter().next() {
            Some(Ok(topic)) => topic,
            Some(Err(AdminError::NotFound(_))) => return Ok(None),
            Some(Err(error)) => return Err(error.into()),
            None => {
                return Err(AdminError::Timeout { reason: "Kafka left the topic out of its answer".to_owned() }.into());
            }
        };
        let configs = admin.describe_configs(&[ConfigResource::Topic(id.name.clone())]).await?;
        let configs = configs.into_iter().next().transpose()?.unwrap_or_default();
        let own = configs.into_iter().filter(|entry| entry.source == ConfigSource::Topic);
        Ok(Some(Seen {
            kafka_id: topic.id,
            partitions: topic.partitions.len() as u32,
            replicas: topic.partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or(0) as u32,
            configs: own.filter_map(|entry| Some((entry.name, entry.value?))).collect(),
        }))
    }
}

impl Provider for TopicProvider {
    fn kind(&self) -> Kind {
        Kind::Topic
    }

    fn related(&self, change: &Change) -> Vec<ResourceId> {
        let service = change.desired.as_ref().and_then(|spec| spec.service(&change.id));
        service.map(|service| ResourceId::of(Kind::Service, service)).into_iter().collect()
    }

    fn violations(&self, change: &Change, world: &World) -> Vec<Violation> {
        let (cluster, spec) = Self::change(change);
        let mut found = Found::of(&change.id);
        check_cluster(&mut found, world, "topics");
        if world.cluster(cluster).is_none() {
            return found.violations();
        }
        let Some(spec) = spec else {
            let name = &change.id.name;
            let event_types = world.resources().filter(|row| row.id.kind == Kind::EventType);
            for row in event_types {
                let goes_to_it = |event: &EventTypeSpec| event.cluster == cluster && event.topic == *name;
                if matches!(world.after(&row.id), Some(Spec::EventType(event)) if goes_to_it(event)) {
                    let problem = format!("events of `{}` still go to it", row.id.name);
                    found.add("", rule::IN_USE, problem, "delete the event type, or send it elsewhere, first");
                }
            }
            return found.violations();
        };
        if let Some(retention) = spec.expert.as_ref().and_then(|expert| expert.configs.get("retention.bytes"))
            && !retention.parse::<i64>().is_ok_and(|bytes| bytes >= 0)
        {
            let problem = format!("`{retention}` is no limit by size, so that nothing can be reserved for it");
            found.add(
                "expert.configs.retention.bytes",
                rule::NO_LIMIT,
                problem,
                "say how many bytes a partition keeps",
            );
        }
        check_service(&mut found, world, &spec.service);
        let resolved = match resolve(spec, world, cluster) {
            Ok(resolved) => resolved,
            Err(wrong) => {
                for Unresolvable { field, problem, fix } in wrong {
                    found.add(field, rule::CAPACITY, problem, &fix);
                }
                return found.violations();
            }
        };
        if let Some(before) = Self::before(change, world).and_then(|before| resolve(before, world, cluster).ok()) {
            if resolved.partitions < before.partitions {
                let (now, wanted) = (before.partitions, resolved.partitions);
                found.add(
                    "capacity",
                    rule::NO_SHRINKING,
                    format!("it has {now} partitions, this would be {wanted}, and Kafka cannot take partitions away"),
                    "keep the capacity, or move to a new topic",
                );
            }
            if resolved.replicas != before.replicas {
                found.add(
                    "tier",
                    rule::NO_RECOPYING,
                    format!("it has {} copies, this tier has {}", before.replicas, resolved.replicas),
                    "move to a new topic of that tier",
                );
            }
        }
        found.violations()
    }

    fn facts(&self, change: &Change, world: &World, facts: &mut Facts) {
        let (cluster, spec) = Self::change(change);
        let Some(spec) = spec else { return };
        let Ok(resolved) = resolve(spec, world, cluster) else { return };
        facts.set("tier", spec.tier.as_str()).set("keyed", spec.keyed).set("expert", spec.expert.is_some());

        let taken = world.taken(&change.id);
        let view = world.cluster(cluster).cloned().unwrap_or_default();
        let more = resolved.reserve_bytes.saturating_sub(taken.own.disk_bytes);
        if let Some(budget) = view.disk_bytes_max.filter(|budget| *budget > 0) {
            facts.set("budget_share", more as f64 / budget as f64);
        }
        // Without an allowance a service has what one small topic takes: a hundredth of the cluster, as the rule beside it says.
        let allowance = world.service(&spec.service).and_then(|service| service.allowance_bytes);
        let allowance = allowance.or_else(|| view.disk_bytes_max.map(|budget| budget / 100)).unwrap_or(0);
        let reserved = world.service_reserve(&spec.service, cluster).disk_bytes;
        facts.set(
            "within_allowance",
            reserved.saturating_sub(taken.own.disk_bytes) + resolved.reserve_bytes <= allowance,
        );
        let limit = view.spec.topic_partitions_max.unwrap_or(view.class.topic_partitions_max);
        facts.set("over_partitions_max", resolved.partitions > limit);

        let Some(before) = Self::before(change, world) else { return };
        let Ok(was) = resolve(before, world, cluster) else { return };
        facts.set("partitions_factor", f64::from(resolved.partitions) / f64::from(was.partitions.max(1)));
        let number =
            |resolved: &Resolved, name: &str| resolved.configs.get(name).and_then(|text| text.parse::<u64>().ok());
        let is_cut = |name: &str| number(&resolved, name) < number(&was, name);
        // By size what counts is the whole topic: more partitions keep less each.
        let kept = |resolved: &Resolved| {
            number(resolved, "retention.bytes").map(|bytes| bytes * u64::from(resolved.partitions))
        };
        let keeps_less =
            kept(&resolved).is_some_and(|now| kept(&was).is_some_and(|was| now + u64::from(resolved.partitions) < was));
        // What is there may be kept longer than was ever desired: to restore what is desired cuts it all the same.
        let row = world.before(&change.id);
        let actual = row.and_then(|row| read(&Observed::Present(row.observed.clone()?)));
        let cuts_actual = actual.as_ref().is_some_and(|actual| cuts(actual, &resolved));
        facts.set("retention_cut", is_cut("retention.ms") || keeps_less || cuts_actual);
        let differs = |name: &str| resolved.configs.get(name) != was.configs.get(name);
        facts.set(
            "durability_change",
            resolved.replicas != was.replicas
                || differs("min.insync.replicas")
                || differs("cleanup.policy")
                || actual.as_ref().is_some_and(|actual| cleans_up_otherwise(actual, &resolved)),
        );
        let texts = |spec: &TopicSpec| TopicSpec { description: String::new(), ..spec.clone() };
        let is_as_desired = row
            .zip(row.and_then(|row| row.observed.clone()))
            .is_none_or(|(row, observed)| self.differences(row, world, &Observed::Present(observed)).is_empty());
        facts.set("only_text", texts(before) == texts(spec) && is_as_desired);
    }

    fn need(&self, change: &Change, world: &World) -> Option<Need> {
        let (cluster, spec) = Self::change(change);
        let resolved = resolve(spec?, world, cluster).ok()?;
        Some(Need {
            disk_bytes: resolved.reserve_bytes,
            partitions: u64::from(resolved.partitions) * u64::from(resolved.replicas),
            ingress_bytes_per_second: resolved.ingress_bytes_per_second,
        })
    }

    fn steps(&self, change: &Change, world: &World, observed: &Observed) -> Vec<Step> {
        let (cluster, spec) = Self::change(change);
        let step = |wish: Wish, summary: String| Step {
            target: change.id.clone(),
            is_destructive: matches!(wish, Wish::Delete { .. }),
            wish: serde_json::to_value(wish).expect("a wish has string keys"),
            summary,
        };
        let seen = read(observed);
        let name = &change.id.name;
        let Some(spec) = spec else {
            // The one that was made for us, and no other of its name.
            let ours = world.before(&change.id).and_then(|before| before.kafka_id.as_ref()?.parse().ok());
            let gone = |seen: Seen| {
                let kafka_id = ours.unwrap_or(seen.kafka_id);
                step(Wish::Delete { kafka_id }, format!("delete topic {name}"))
            };
            return seen.map(gone).into_iter().chain(self.opening(change, world)).collect();
        };
        let Ok(resolved) = resolve(spec, world, cluster) else { return Vec::new() };
        let Resolved { partitions, replicas, configs, .. } = resolved;
        // One that is there although we never made it is not changed: the wish to create it meets it as it is. So does one that
        // somebody deleted and made anew.
        let before = world.before(&change.id);
        let is_ours = |seen: &Seen| before.is_some_and(|before| made_by_us(before, seen));
        let Some(seen) = seen.filter(is_ours) else {
            let summary = format!("create topic {name} with {partitions} partitions in {replicas} copies");
            return vec![step(Wish::Create { partitions, replicas, configs }, summary)];
        };
        let mut steps = Vec::new();
        let kafka_id = Some(seen.kafka_id);
        // A key that we once set and no longer do goes back to the cluster's value; a key that we never set is not ours.
        let ours = Self::before(change, world).and_then(|before| resolve(before, world, cluster).ok());
        let ours: BTreeSet<String> = ours.into_iter().flat_map(|before| before.configs.into_keys()).collect();
        let dropped = ours.into_iter().filter(|key| !configs.contains_key(key) && seen.configs.contains_key(key));
        let changed = configs.iter().filter(|(key, value)| seen.configs.get(*key) != Some(value));
        let wanted: BTreeMap<String, Option<String>> = changed
            .map(|(key, value)| (key.clone(), Some(value.clone())))
            .chain(dropped.map(|key| (key, None)))
            .collect();
        if !wanted.is_empty() {
            let keys = wanted.keys().cloned().collect::<Vec<_>>().join(", ");
            steps.push(step(Wish::Configure { configs: wanted, kafka_id }, format!("set {keys} of topic {name}")));
        }
        if partitions > seen.partitions {
            let summary = format!("raise topic {name} from {} to {partitions} partitions", seen.partitions);
            steps.push(step(Wish::Grow { partitions, kafka_id }, summary));
        }
        steps
    }

    fn closing(&self, change: &Change, world: &World, observed: &Observed) -> Vec<Step> {
        let cluster = change.id.cluster.as_deref().unwrap_or_default();
        let is_there = matches!(observed, Observed::Present(_));
        if is_there && has_rules(cluster, world) { vec![access::close(cluster, &change.id.name)] } else { vec![] }
    }

    fn opening(&self, change: &Change, world: &World) -> Vec<Step> {
        let cluster = change.id.cluster.as_deref().unwrap_or_default();
        if has_rules(cluster, world) { vec![access::open(cluster, &change.id.name)] } else { vec![] }
    }

    fn differences(&self, resource: &Resource, world: &World, observed: &Observed) -> Vec<Difference> {
        let cluster = resource.id.cluster.as_deref().unwrap_or_default();
        let Spec::Topic(spec) = &resource.spec else { return vec![] };
        let Ok(resolved) = resolve(spec, world, cluster) else { return vec![] };
        let Some(seen) = read(observed) else { return vec![Difference::new("", "a topic", "none")] };
        let mut found = Vec::new();
        if !made_by_us(resource, &seen) {
            let ours = resource.kafka_id.as_deref().unwrap_or_default();
            found.push(Difference::new("kafka_id", ours, seen.kafka_id));
        }
        if seen.partitions != resolved.partitions {
            found.push(Difference::new("partitions", resolved.partitions, seen.partitions));
        }
        if seen.replicas != resolved.replicas {
            found.push(Difference::new("replicas", resolved.replicas, seen.replicas));
        }
        for (key, value) in &resolved.configs {
            let actual = seen.configs.get(key);
            if actual != Some(value) {
                found.push(Difference::new(key, value, actual.map_or("not set on the topic", String::as_str)));
            }
        }
        found
    }

    fn acceptable(&self, resource: &Resource, world: &World, observed: &Observed) -> Option<Option<Spec>> {
        let cluster = resource.id.cluster.as_deref().unwrap_or_default();
        let Spec::Topic(spec) = &resource.spec else { return None };
        let Some(seen) = read(observed) else { return Some(None) };
        let resolved = resolve(spec, world, cluster).ok()?;
        // The number of copies is the tier's, and no setting.
        if seen.replicas != resolved.replicas {
            return None;
        }
        let mut expert = spec.expert.clone().unwrap_or_else(|| Expert {
            configs: BTreeMap::new(),
            partitions: None,
            reason: "accepted as it was found".to_owned(),
        });
        for (key, value) in &resolved.configs {
            match seen.configs.get(key) {
                Some(actual) if actual != value => drop(expert.configs.insert(key.clone(), actual.clone())),
                Some(_) => {}
                // To leave it to the cluster is nothing that can be said.
                None => return None,
            }
        }
        if seen.partitions != resolved.partitions {
            expert.partitions = Some(seen.partitions);
        }
        let is_set = !expert.configs.is_empty() || expert.partitions.is_some();
        Some(Some(Spec::Topic(TopicSpec { expert: is_set.then_some(expert), ..spec.clone() })))
    }

    fn observe<'a>(&'a self, id: &'a ResourceId, reach: &'a Reach) -> Answer<'a, Observed> {
        Box::pin(async move {
            Ok(match Self::seen(id, reach).await? {
                None => Observed::Absent,
                Some(seen) => Observed::Present(serde_json::to_value(seen).expect("what is seen has string keys")),
            })
        })
    }

    fn compare(&self, step: &Step, observed: &Observed) -> Comparison {
        let seen = read(observed);
        match read_wish(step) {
            Ok(wish) => compare(&wish, seen.as_ref()),
            Err(problem) => Comparison::Conflict(problem),
        }
    }

    fn act<'a>(&'a self, step: &'a Step, reach: &'a Reach) -> Answer<'a, ()> {
        Box::pin(async move {
            let admin = reach.cluster(&step.target)?;
            let name = step.target.name.clone();
            let done = match read_wish(step).map_err(StepError::Conflict)? {
                Wish::Create { partitions, replicas, configs } => {
                    let topic = NewTopic {
                        name,
                        partitions: Some(partitions as i32),
                        replicas: Some(replicas as i16),
                        configs: configs.into_iter().collect(),
                    };
                    let created = admin.create_topics(&[topic], Mode::Apply).await?;
                    created.into_iter().map(|one| one.map(drop)).next()
                }
                Wish::Configure { configs, .. } => {
                    let change =
                        ConfigChange { resource: ConfigResource::Topic(name), values: configs.into_iter().collect() };
                    admin.alter_configs(&[change], Mode::Apply).await?.into_iter().next()
                }
                Wish::Grow { partitions, .. } => {
                    admin.create_partitions(&[(name, partitions as i32)], Mode::Apply).await?.into_iter().next()
                }
                Wish::Delete { kafka_id } => admin.delete_topics(&[kafka_id]).await?.into_iter().next(),
            };
            match done {
                // Whether it is as it was wished is read back by whoever asked.
                Some(Err(AdminError::AlreadyExists(_) | AdminError::NotFound(_))) | None => Ok(()),
                Some(done) => Ok(done?),
            }
        })
    }
}

fn compare(wish: &Wish, seen: Option<&Seen>) -> Comparison {
    let same = |is_same: bool| if is_same { Comparison::Same } else { Comparison::Different };
    let conflict = |text: String| Comparison::Conflict(text);
    match (wish, seen) {
        (Wish::Create { .. }, None) => Comparison::Different,
        (Wish::Create { partitions, replicas, configs }, Some(seen)) => {
            let other = configs.iter().find(|(key, value)| seen.configs.get(*key) != Some(value));
            if (seen.partitions, seen.replicas) != (*partitions, *replicas) {
                let Seen { partitions: has, replicas: copies, .. } = seen;
                conflict(format!(
                    "a topic of this name is there already, with {has} partitions in {copies} copies; adopt it, or choose another name"
                ))
            } else if let Some((key, _)) = other {
                conflict(format!(
                    "a topic of this name is there already, with another `{key}`; adopt it, or choose another name"
                ))
            } else {
                Comparison::Same
            }
        }
        (Wish::Delete { .. }, None) => Comparison::Same,
        (Wish::Delete { kafka_id }, Some(seen)) if seen.kafka_id != *kafka_id => {
            conflict("a topic of this name was made anew meanwhile; it is not ours to delete".to_owned())
        }
        (Wish::Delete { .. }, Some(_)) => Comparison::Different,
        (Wish::Configure { .. } | Wish::Grow { .. }, None) => conflict("the topic is gone".to_owned()),
        (Wish::Configure { kafka_id: Some(id), .. } | Wish::Grow { kafka_id: Some(id), .. }, Some(seen))
            if seen.kafka_id != *id =>
        {
            conflict("the topic was deleted and made anew meanwhile".to_owned())
        }
        (Wish::Configure { configs, .. }, Some(seen)) => {
            same(configs.iter().all(|(key, value)| seen.configs.get(key) == value.as_ref()))
        }
        (Wish::Grow { partitions, .. }, Some(seen)) => same(seen.partitions >= *partitions),
    }
}
