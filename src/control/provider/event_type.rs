//! Event types of the proxy: checked by the parser of `[events.NAME]`, published when their schemas are there.
//!
//! In: an event type in the words of the proxy's configuration. Out: the same in the proxies' snapshot, as soon as the registry has
//! what the proxies will ask it for. Never: an event type without its schema in a snapshot, nor a request that fails for want of
//! one: it waits, what was published before stays, and it goes out by itself. A change that no schema follows from, such as a brake,
//! asks no registry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Answer, Comparison, Observed, Provider, Reach, Step, StepError, check_service, read_wish};
use crate::config::{self, Cluster, Problem, Settings};
use crate::control::policy::Facts;
use crate::control::resource::{EventTypeSpec, Found, Kind, ResourceId, Spec, Violation, rule};
use crate::control::store::{Need, Published};
use crate::control::world::{Change, World};
use crate::route::EventType;
use crate::schema::{Loader, Registry, RegistryError};

/// How long a registry that has no such subject is taken at its word: whoever waits for a schema has just registered it.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Settings that a spec says elsewhere.
const ELSEWHERE: [&str; 3] = ["cluster", "topic", "owner"];

/// What event types are checked against: the clusters of the configuration, and their registries.
#[derive(Debug, Default)]
pub struct EventChecks {
    clusters: Vec<Cluster>,
    loaders: BTreeMap<String, Arc<Loader>>,
}

impl EventChecks {
    /// Checks against these clusters and registries. Asks nobody yet.
    pub fn new(clusters: &[Cluster], registries: &[config::Registry]) -> Result<EventChecks, RegistryError> {
        let loader = |settings: &config::Registry| {
            let settings = config::Registry { negative_ttl: ASK_AGAIN, ..settings.clone() };
            let registry = Arc::new(Registry::new(&settings)?);
            Ok((settings.name, Arc::new(Loader::new(registry, None))))
        };
        let loaders = registries.iter().map(loader).collect::<Result<_, RegistryError>>()?;
        Ok(EventChecks { clusters: clusters.to_vec(), loaders })
    }

    /// The event type of these settings, or all that is wrong with them.
    pub fn parse(&self, name: &str, settings: &Settings) -> Result<EventType, Vec<Problem>> {
        config::check_event_type(name, settings, &self.clusters)
    }

    /// Why proxies could not serve it now: what of its schemas is missing.
    pub async fn missing_schema(&self, event_type: &EventType) -> Option<String> {
        event_type.subject.as_ref()?;
        let cluster = self.clusters.iter().find(|cluster| cluster.name == event_type.cluster)?;
        let Some(loader) = cluster.registry.as_ref().and_then(|name| self.loaders.get(name)) else {
            return Some(format!("cluster `{}` names no registry that the control plane has", cluster.name));
        };
        match loader.load(event_type).await {
            Ok(_) => None,
            Err(error) => Some(format!("waiting for schema: {error}")),
        }
    }

    /// What keeps an event type from standing beside the others that are published.
    fn contradicts(&self, name: &str, next: &Value, published: &[Published]) -> Option<String> {
        let others = published.iter().filter(|row| row.resource.kind == Kind::EventType && row.resource.name != name);
        let settings = |row: &Published| {
            let settings = row.next.as_ref().or(row.live.as_ref())?.as_object()?;
            Some((row.resource.name.clone(), settings.clone()))
        };
        let others = others.filter_map(settings).collect();
        config::check_beside(name, next.as_object()?, &others, &self.clusters)
    }

    /// What is missing before these settings may take the place of those that are published.
    pub(crate) async fn missing(&self, name: &str, live: Option<&Value>, next: &Value) -> Option<String> {
        let parse = |value: &Value| self.parse(name, value.as_object()?).ok();
        let Some(next) = parse(next) else {
            return Some("its settings are none of this version".to_owned());
        };
        // Schemas, topic and client stay: proxies go on with what they have.
        if live.and_then(parse).is_some_and(|live| live.with_light_settings_of(&next) == next) {
            return None;
        }
        self.missing_schema(&next).await
    }
}

/// The provider of event types.
#[derive(Debug)]
pub struct EventTypeProvider {
    checks: Arc<EventChecks>,
}

/// What a step wishes; none: nothing is published.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Wish {
    publish: Option<Value>,
}

impl EventTypeProvider {
    /// A provider that checks by these.
    pub fn new(checks: Arc<EventChecks>) -> EventTypeProvider {
        EventTypeProvider { checks }
    }

    fn spec(change: &Change) -> Option<&EventTypeSpec> {
        match &change.desired {
            Some(Spec::EventType(event_type)) => Some(event_type),
            _ => None,
        }
    }
}

/// The settings that proxies get.
fn settings(event_type: &EventTypeSpec) -> Settings {
    let mut settings = event_type.settings.clone();
    settings.insert("owner".to_owned(), event_type.service.clone().into());
    settings.insert("cluster".to_owned(), event_type.cluster.clone().into());
    settings.insert("topic".to_owned(), event_type.topic.clone().into());
    settings
}

impl Provider for EventTypeProvider {
    fn kind(&self) -> Kind {
        Kind::EventType
    }

    fn related(&self, change: &Change) -> Vec<ResourceId> {
        let Some(spec) = Self::spec(change) else { return vec![] };
        let dead_letter = spec.settings.get("dead_letter").and_then(Value::as_str);
        let topics = [Some(spec.topic.as_str()), dead_letter].into_iter().flatten();
        let topics = topics.map(|topic| ResourceId::on(Kind::Topic, &spec.cluster, topic));
        topics.chain([ResourceId::of(Kind::Service, &spec.service)]).collect()
    }

    fn violations(&self, change: &Change, world: &World) -> Vec<Violation> {
        let Some(spec) = Self::spec(change) else { return vec![] };
        let mut found = Found::of(&change.id);
        check_service(&mut found, world, &spec.service);
        for key in ELSEWHERE.iter().filter(|key| spec.settings.contains_key(**key)) {
            let problem = format!("`{key}` follows from what stands beside `settings`");
            found.add(&format!("settings.{key}"), rule::ELSEWHERE, problem, "leave it out there");
        }
        // What stands elsewhere counts.
        if let Err(problems) = self.checks.parse(&change.id.name, &settings(spec)) {
            let prefix = format!("events.{}", config::quoted(&change.id.name));
            for problem in problems {
                let key = problem.key.strip_prefix(&prefix).unwrap_or_default().trim_start_matches('.');
                let field = match key {
                    "" | "cluster" | "topic" => key.to_owned(),
                    key => format!("settings.{key}"),
                };
                found.add(&field, rule::EVENT_TYPE, problem.message, "say it as `[events.NAME]` of a proxy would");
            }
        }
        let dead_letter = spec.settings.get("dead_letter").and_then(Value::as_str);
        let topics = [("topic", Some(spec.topic.as_str())), ("settings.dead_letter", dead_letter)];
        for (field, topic) in topics.into_iter().filter_map(|(field, topic)| Some((field, topic?))) {
            if world.topic(&spec.cluster, topic).is_none() {
                let problem = format!("there is no topic `{topic}` on cluster `{}`", spec.cluster);
                found.add(field, rule::UNKNOWN_TOPIC, problem, "create it first, or in the same request");
            }
        }
        if let Some(topic) = dead_letter.and_then(|topic| world.topic(&spec.cluster, topic))
            && topic.service != spec.service
        {
            let problem = format!("it is a topic of service `{}`", topic.service);
            found.add("settings.dead_letter", rule::NOT_YOURS, problem, "name one of the service's own");
        }
        found.violations()
    }

    fn facts(&self, _: &Change, _: &World, _: &mut Facts) {}

    fn need(&self, _: &Change, _: &World) -> Option<Need> {
        None
    }

    fn steps(&self, change: &Change, _: &World, observed: &Observed) -> Vec<Step> {
        let name = &change.id.name;
        let (publish, summary) = match Self::spec(change) {
            Some(spec) => {
                let summary = format!("route event {name} to topic {} on {}", spec.topic, spec.cluster);
                (Some(Value::Object(settings(spec))), summary)
            }
            None => (None, format!("route event {name} no more")),
        };
        let wish = Wish { publish };
        if compare(&wish, observed) == Comparison::Same {
            return vec![];
        }
        let wish = serde_json::to_value(wish).expect("a wish has string keys");
        vec![Step { target: change.id.clone(), wish, summary, is_destructive: false }]
    }

    fn observe<'a>(&'a self, id: &'a ResourceId, reach: &'a Reach) -> Answer<'a, Observed> {
        Box::pin(async move { Ok(reach.store.published_of(id).await?.map_or(Observed::Absent, observed)) })
    }

    fn compare(&self, step: &Step, observed: &Observed) -> Comparison {
        match read_wish::<Wish>(step) {
            Ok(wish) => compare(&wish, observed),
            Err(problem) => Comparison::Conflict(problem),
        }
    }

    fn act<'a>(&'a self, step: &'a Step, reach: &'a Reach) -> Answer<'a, ()> {
        Box::pin(async move {
            let Wish { publish } = read_wish(step).map_err(StepError::Conflict)?;
            let Some(next) = publish else {
                let mut tx = reach.store.begin().await?;
                tx.withdraw(&step.target).await?;
                return Ok(tx.commit().await?);
            };
            let mut tx = reach.store.begin().await?;
            let published = tx.published().await?;
            drop(tx);
            let (checks, name, settings) = (Arc::clone(&self.checks), step.target.name.clone(), next.clone());
            let contradicts = move || checks.contradicts(&name, &settings, &published);
            // All event types are parsed: that is too long for a thread that serves others.
            if let Ok(Some(problem)) = tokio::task::spawn_blocking(contradicts).await {
                return Err(StepError::Conflict(problem));
            }
            // The registry is asked before the transaction, in which nobody else can write.
            let live = reach.store.published_of(&step.target).await?.and_then(|published| published.live);
            let missing = self.checks.missing(&step.target.name, live.as_ref(), &next).await;
            let mut tx = reach.store.begin().await?;
            match missing {
                None => tx.publish(&step.target, &next).await?,
                Some(reason) => tx.publish_later(&step.target, &next, &reason).await?,
            }
            Ok(tx.commit().await?)
        })
    }
}

/// What is there of an event type: what proxies have, and what waits to be.
pub(crate) fn observed(published: Published) -> Observed {
    let mut value = Map::new();
    value.extend(published.live.map(|live| ("published".to_owned(), live)));
    if let Some(next) = published.next {
        value.extend([("next".to_owned(), next), ("waiting".to_owned(), json!(published.reason))]);
    }
    Observed::Present(Value::Object(value))
}

fn compare(wish: &Wish, observed: &Observed) -> Comparison {
    let is_same = match (observed, &wish.publish) {
        (Observed::Absent, wished) => wished.is_none(),
        (Observed::Present(_), None) => false,
        (Observed::Present(value), Some(wished)) => {
            // What waits is on its way.
            value.get("next").or_else(|| value.get("published")) == Some(wished)
        }
    };
    if is_same { Comparison::Same } else { Comparison::Different }
}
