//! Quotas: of an event type the proxies' limit, which goes out with their snapshot; of a user Kafka's client quota. One that names
//! both limits both: events that come through the proxies, and what the user writes past them.
//!
//! Kafka's quotas hold on each broker by itself. What is asked for the whole cluster is shared out over the brokers, with half as
//! much again, since a client's partitions are seldom spread evenly.
//!
//! Never: a quota of a user that nobody asked for; the quotas of others are not looked at.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Answer, Comparison, Observed, Provider, Reach, Step, StepError, check_cluster, publish, read_wish, resolve,
};
use crate::control::kafka::quotas::{QuotaChange, QuotaEntity, QuotaFilter, QuotaMatch, QuotaName};
use crate::control::kafka::{AdminError, Mode};
use crate::control::policy::Facts;
use crate::control::resource::{Found, Kind, QuotaSpec, ResourceId, Spec, Violation, rule};
use crate::control::snapshot::PublishedQuota;
use crate::control::store::{Need, Resource};
use crate::control::world::{Change, World};

/// A client's partitions are seldom spread evenly over the brokers.
const SKEW: f64 = 1.5;
const PRODUCE: &str = "producer_byte_rate";
const CONSUME: &str = "consumer_byte_rate";

/// The provider of quotas.
pub struct QuotaProvider;

/// What a step wishes of a user's quota: each key with its value on each broker, none for no limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wish {
    user: String,
    values: BTreeMap<String, Option<f64>>,
}

impl QuotaProvider {
    fn spec(change: &Change) -> Option<&QuotaSpec> {
        match &change.desired {
            Some(Spec::Quota(quota)) => Some(quota),
            _ => None,
        }
    }
}

/// The step that tells the proxies of their part.
fn publish_step(change: &Change, desired: Option<&QuotaSpec>, observed: &Observed) -> Option<Step> {
    let published = desired.and_then(|quota| {
        let QuotaSpec { produce_bytes_per_second: bytes_per_second, events_per_second, .. } = *quota;
        Some(PublishedQuota { event: quota.event_type.clone()?, bytes_per_second, events_per_second })
    });
    let told =
        |limit: Option<u64>, what: &str| limit.map_or(format!("any number of {what}"), |l| format!("{l} {what}"));
    let summary = match &published {
        Some(PublishedQuota { event, bytes_per_second, events_per_second }) => {
            let (bytes, events) = (told(*bytes_per_second, "bytes"), told(*events_per_second, "events"));
            format!("let the proxies take {bytes} and {events} of {event} a second")
        }
        None => "let the proxies forget this limit".to_owned(),
    };
    let published = published.map(|published| serde_json::to_value(published).expect("texts and numbers are JSON"));
    publish::step(&change.id, published, observed, summary)
}

/// Bytes a second that a service's topics on a cluster are made for, with those of the same request that are new.
fn ingress(service: &str, cluster: &str, world: &World) -> u64 {
    let new = world.wanted().filter_map(|(id, spec)| match spec {
        Some(Spec::Topic(topic)) if topic.service == service && id.cluster.as_deref() == Some(cluster) => {
            world.before(id).is_none().then_some(resolve(topic, world, cluster).ok()?.ingress_bytes_per_second)
        }
        _ => None,
    });
    world.service_reserve(service, cluster).ingress_bytes_per_second.saturating_add(new.sum())
}

/// What a broker is told for what is asked of the whole cluster.
fn per_broker(bytes_per_second: u64, brokers: u32) -> f64 {
    match brokers {
        0 | 1 => bytes_per_second as f64,
        // Never more than the whole.
        brokers => (bytes_per_second as f64 / f64::from(brokers) * SKEW).ceil().min(bytes_per_second as f64),
    }
}

impl Provider for QuotaProvider {
    fn kind(&self) -> Kind {
        Kind::Quota
    }

    fn related(&self, change: &Change) -> Vec<ResourceId> {
        let Some(quota) = Self::spec(change) else { return vec![] };
        let cluster = change.id.cluster.as_deref().unwrap_or_default();
        let user = quota.user.iter().map(|user| ResourceId::on(Kind::User, cluster, user));
        let event_type = quota.event_type.iter().map(|name| ResourceId::of(Kind::EventType, name));
        user.chain(event_type).chain([ResourceId::of(Kind::Service, &quota.service)]).collect()
    }

    fn violations(&self, change: &Change, world: &World) -> Vec<Violation> {
        let cluster = change.id.cluster.as_deref().unwrap_or_default();
        let mut found = Found::of(&change.id);
        // One that limits no user is the proxies' alone, whatever the cluster can do.
        let before = world.before(&change.id).map(|resource| &resource.spec);
        let limits_user = |spec: &Spec| matches!(spec, Spec::Quota(QuotaSpec { user: Some(_), .. }));
        if change.desired.iter().chain(before).any(limits_user) {
            check_cluster(&mut found, world, "quotas");
        } else if world.cluster(cluster).is_none() {
            let problem = format!("there is no cluster `{cluster}`");
            found.add("", rule::UNKNOWN_CLUSTER, problem, "name one that is registered");
        }
        let Some(quota) = Self::spec(change) else { return found.violations() };
        let user = quota.user.as_ref().map(|user| ("user", ResourceId::on(Kind::User, cluster, user)));
        let event_type = quota.event_type.as_ref().map(|name| ("event_type", ResourceId::of(Kind::EventType, name)));
        for (field, id) in user.into_iter().chain(event_type) {
            match world.after(&id) {
                None => found.add(
                    field,
                    rule::UNKNOWN,
                    format!("there is no {id}"),
                    "create it first, or in the same request",
                ),
                Some(spec) if spec.service(&id) != Some(&quota.service) => {
                    found.add(
                        field,
                        rule::NOT_YOURS,
                        format!("{id} is not of service `{}`", quota.service),
                        "name one of the service's own",
                    );
                }
                Some(_) => {}
            }
        }
        found.violations()
    }

    fn facts(&self, change: &Change, world: &World, facts: &mut Facts) {
        let Some(quota) = Self::spec(change) else { return };
        let before = match world.before(&change.id).map(|resource| &resource.spec) {
            Some(Spec::Quota(before)) => Some(before),
            _ => None,
        };
        // What was never limited, and what is limited more than before, may hurt traffic of today.
        let cut = |now: Option<u64>, was: Option<u64>| now.is_some_and(|now| was.is_none_or(|was| now < was));
        let was = |of: fn(&QuotaSpec) -> Option<u64>| before.and_then(of);
        let is_cut = cut(quota.produce_bytes_per_second, was(|quota| quota.produce_bytes_per_second))
            || cut(quota.consume_bytes_per_second, was(|quota| quota.consume_bytes_per_second))
            || cut(quota.events_per_second, was(|quota| quota.events_per_second));
        facts.set("below_use", before.is_some() && is_cut);
        // Nobody has reserved a share of what consumers may read: only what is no more than before is within it.
        let reads_more = match (quota.user.as_ref().and(quota.consume_bytes_per_second), before) {
            (None, _) => false,
            (Some(now), before) => {
                before.and_then(|before| before.consume_bytes_per_second).is_none_or(|was| now > was)
            }
        };
        let cluster = change.id.cluster.as_deref().unwrap_or_default();
        let writes_more =
            quota.produce_bytes_per_second.is_some_and(|now| now > ingress(&quota.service, cluster, world));
        facts.set("within_allowance", !reads_more && !writes_more);
    }

    fn need(&self, _: &Change, _: &World) -> Option<Need> {
        None
    }

    fn steps(&self, change: &Change, world: &World, observed: &Observed) -> Vec<Step> {
        let before = match world.before(&change.id).map(|resource| &resource.spec) {
            Some(Spec::Quota(before)) => Some(before),
            _ => None,
        };
        let user_of = |quota: Option<&QuotaSpec>| quota.and_then(|quota| quota.user.clone());
        let cluster = change.id.cluster.as_deref().and_then(|name| world.cluster(name));
        let brokers = cluster.map_or(1, |view| view.class.brokers);
        let desired = Self::spec(change);
        let published = publish_step(change, desired, observed);
        let Some(user) = user_of(desired).or_else(|| user_of(before)) else { return published.into_iter().collect() };
        let wanted = |of: fn(&QuotaSpec) -> Option<u64>| desired.and_then(of).map(|bytes| per_broker(bytes, brokers));
        let produce = wanted(|quota| quota.produce_bytes_per_second);
        let consume = wanted(|quota| quota.consume_bytes_per_second);
        let values = BTreeMap::from([(PRODUCE.to_owned(), produce), (CONSUME.to_owned(), consume)]);
        let wish = Wish { user, values };
        if compare(&wish, observed) == Comparison::Same {
            return published.into_iter().collect();
        }
        let told =
            |value: Option<f64>| value.map_or("no limit".to_owned(), |value| format!("{value} bytes/s a broker"));
        let summary = format!("let {} produce {} and consume {}", wish.user, told(produce), told(consume));
        let wish = serde_json::to_value(wish).expect("a wish has string keys");
        let limit = Step { target: change.id.clone(), wish, summary, is_destructive: false };
        published.into_iter().chain([limit]).collect()
    }

    fn acceptable(&self, resource: &Resource, world: &World, observed: &Observed) -> Option<Option<Spec>> {
        let Spec::Quota(quota) = &resource.spec else { return None };
        let cluster = resource.id.cluster.as_deref().and_then(|name| world.cluster(name));
        let brokers = cluster.map_or(1, |view| view.class.brokers);
        let has = values(observed);
        if has.is_empty() {
            return Some(None);
        }
        // Only what comes out the same when it is shared out again can be said for the whole cluster.
        let whole = |key: &str| match has.get(key) {
            None => Some(None),
            Some(value) => {
                let whole = (value * f64::from(brokers.max(1)) / if brokers > 1 { SKEW } else { 1.0 }).floor() as u64;
                (per_broker(whole, brokers) == *value).then_some(Some(whole))
            }
        };
        let (produce_bytes_per_second, consume_bytes_per_second) = (whole(PRODUCE)?, whole(CONSUME)?);
        let spec = QuotaSpec { produce_bytes_per_second, consume_bytes_per_second, ..quota.clone() };
        Some(Some(Spec::Quota(spec)))
    }

    fn observe<'a>(&'a self, id: &'a ResourceId, reach: &'a Reach) -> Answer<'a, Observed> {
        Box::pin(async move {
            // A quota is named by whom it limits.
            let filter = QuotaFilter {
                user: Some(QuotaMatch::Exactly(id.name.clone())),
                strict: true,
                ..QuotaFilter::default()
            };
            let quotas = match reach.cluster(id)?.describe_quotas(&filter).await {
                // There are none where there can be none.
                Err(AdminError::NotSupported { .. }) => vec![],
                quotas => quotas?,
            };
            let values: BTreeMap<String, f64> = quotas.into_iter().flat_map(|quota| quota.values).collect();
            let values = (!values.is_empty()).then(|| ("values".to_owned(), serde_json::json!(values)));
            publish::observe(id, reach, values.into_iter().collect()).await
        })
    }

    fn compare(&self, step: &Step, observed: &Observed) -> Comparison {
        if let Some(comparison) = publish::compare(step, observed) {
            return comparison;
        }
        match read_wish::<Wish>(step) {
            Ok(wish) => compare(&wish, observed),
            Err(problem) => Comparison::Conflict(problem),
        }
    }

    fn act<'a>(&'a self, step: &'a Step, reach: &'a Reach) -> Answer<'a, ()> {
        Box::pin(async move {
            if publish::act(step, reach).await? {
                return Ok(());
            }
            let Wish { user, values } = read_wish(step).map_err(StepError::Conflict)?;
            let entity = QuotaEntity { user: Some(QuotaName::Name(user)), ..QuotaEntity::default() };
            let change = QuotaChange { entity, values: values.into_iter().collect() };
            let done = reach.cluster(&step.target)?.alter_quotas(&[change], Mode::Apply).await?;
            Ok(done.into_iter().next().unwrap_or(Ok(()))?)
        })
    }
}

/// What is set, by key.
fn values(observed: &Observed) -> BTreeMap<String, f64> {
    match observed {
        Observed::Absent => BTreeMap::new(),
        Observed::Present(value) => {
            value.get("values").and_then(|values| serde_json::from_value(values.clone()).ok()).unwrap_or_default()
        }
    }
}

fn compare(wish: &Wish, observed: &Observed) -> Comparison {
    let has = values(observed);
    let is_same = wish.values.iter().all(|(key, value)| has.get(key) == value.as_ref());
    if is_same { Comparison::Same } else { Comparison::Different }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_a_cluster_is_shared_out_and_never_more_than_the_whole() {
        assert_eq!(per_broker(1_000, 1), 1_000.0);
        assert_eq!(per_broker(900, 3), 450.0);
        assert_eq!(per_broker(1_000, 0), 1_000.0);
        assert_eq!(per_broker(100, 2), 75.0);
    }
}
