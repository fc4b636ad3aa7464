//! What each kind of resource knows how to do: the contract, and who fulfils it.
//!
//! In: a change and the [`World`] it is judged in. Out: what is wrong with it, what is known of it, the steps that make it so, and
//! those steps done. Never: a decision about who may; a step that cannot be looked at before and after it is done.
//!
//! A step is a wish, not a command: whoever carries it out observes, compares, acts only where there is a difference, and reads
//! back. A node that is killed in between leaves nothing to guess: the next one observes.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kafka::{AdminError, KafkaAdmin, Settings};
use super::policy::Facts;
use super::resource::{Found, Kind, ResourceId, Spec, Violation, rule};
use super::seal::Sealer;
use super::sink::SinkError;
use super::store::{Need, Resource, ResourceState, Store};
use super::world::{Change, World};

mod access;
mod event_type;
mod publish;
mod quota;
mod sender;
mod store_only;
mod topic;
mod user;

pub use access::AccessProvider;
pub use event_type::{EventChecks, EventTypeProvider};
pub use quota::QuotaProvider;
pub use sender::SenderProvider;
pub use topic::{TopicProvider, resolve};
pub use user::UserProvider;

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Step {
    /// What it is done to.
    #[schema(value_type = String)]
    pub target: ResourceId,
    /// What is to be so, in the words of the kind's provider. Never a secret.
    #[schema(value_type = Object)]
    pub wish: Value,
    /// For people: one sentence.
    pub summary: String,
    /// Whether something is gone afterwards that nobody can bring back.
    pub is_destructive: bool,
}

/// What is there.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed {
    /// Nothing of that name.
    Absent,
    /// This, in the words of the kind's provider. A text under `waiting` says what it waits for before it is in use.
    Present(Value),
}

/// How a step's wish compares with what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It is so.
    Same,
    /// It is not so yet.
    Different,
    /// It is otherwise in a way that this step must not change.
    Conflict(String),
}

/// One thing that is otherwise than desired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// What of it: a config's name, `partitions`, …; empty for the whole.
    pub field: String,
    /// How it is desired.
    pub desired: String,
    /// How it is.
    pub actual: String,
}

impl Difference {
    fn new(field: &str, desired: impl ToString, actual: impl ToString) -> Difference {
        Difference { field: field.to_owned(), desired: desired.to_string(), actual: actual.to_string() }
    }
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Kafka did not do it.
    #[error(transparent)]
    Kafka(#[from] AdminError),
    /// The store did not.
    #[error(transparent)]
    Store(#[from] super::store::StoreError),
    /// The place for a new password did not take it.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// What is there is otherwise.
    #[error("{0}")]
    Conflict(String),
}

impl StepError {
    /// Whether the same step may go later.
    pub fn may_pass(&self) -> bool {
        match self {
            StepError::Kafka(error) => !matches!(
                error,
                AdminError::Forbidden(_)
                    | AdminError::Invalid(_)
                    | AdminError::Policy(_)
                    | AdminError::SecurityDisabled(_)
                    | AdminError::NotSupported { .. }
            ),
            StepError::Store(_) => true,
            StepError::Sink(error) => error.may_pass,
            StepError::Conflict(_) => false,
        }
    }
}

/// What a provider works with.
#[derive(Clone)]
pub struct Reach {
    /// Clusters by name.
    pub clusters: BTreeMap<String, Arc<dyn KafkaAdmin>>,
    /// How each of them is reached: a new password is proved by a login. A cluster that is not among them has no logins.
    pub settings: BTreeMap<String, Settings>,
    /// The store.
    pub store: Store,
    /// What seals secrets in it.
    pub sealer: Arc<Sealer>,
}

impl Reach {
    /// The cluster that a resource is on.
    pub fn cluster(&self, id: &ResourceId) -> Result<&Arc<dyn KafkaAdmin>, StepError> {
        let name = id.cluster.as_deref().unwrap_or_default();
        let unknown = || StepError::Conflict(format!("`{id}` is on a cluster that the configuration does not have"));
        self.clusters.get(name).ok_or_else(unknown)
    }
}

/// A future of a provider's.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StepError>> + Send + 'a>>;

/// What a kind of resource knows how to do.
pub trait Provider: Send + Sync {
    /// Which kind.
    fn kind(&self) -> Kind;

    /// Other resources that a change must be judged with.
    fn related(&self, change: &Change) -> Vec<ResourceId>;

    /// All that is wrong with a change, beyond what its spec alone tells.
    fn violations(&self, change: &Change, world: &World) -> Vec<Violation>;

    /// What is known of a change, for the decision. Only of changes without violations.
    fn facts(&self, change: &Change, world: &World, facts: &mut Facts);

    /// What it will take of its cluster.
    fn need(&self, change: &Change, world: &World) -> Option<Need>;

    /// What must be done to what was observed. Only for changes without violations.
    fn steps(&self, change: &Change, world: &World, observed: &Observed) -> Vec<Step>;

    /// What keeps everybody out of what is to be deleted, and can be taken back; by default nothing, and then there is no waiting.
    fn closing(&self, _: &Change, _: &World, _: &Observed) -> Vec<Step> {
        Vec::new()
    }

    /// What takes [`Provider::closing`] back.
    fn opening(&self, _: &Change, _: &World) -> Vec<Step> {
        Vec::new()
    }

    /// What of a resource is otherwise than desired: by default what would have to be done to it.
    fn differences(&self, resource: &Resource, world: &World, observed: &Observed) -> Vec<Difference> {
        let change = Change { id: resource.id.clone(), desired: Some(resource.spec.clone()), if_match: None };
        let steps = self.steps(&change, world, observed);
        steps.into_iter().map(|step| Difference::new("", step.summary, "it is not so")).collect()
    }

    /// What would have to be desired for what is there to be right: none, that it is gone. The outer none: no specification says
    /// that. By default only what is gone can be accepted.
    fn acceptable(&self, _: &Resource, _: &World, observed: &Observed) -> Option<Option<Spec>> {
        match observed {
            Observed::Absent => Some(None),
            Observed::Present(_) => None,
        }
    }

    /// Looks at what is there. An error is *unknown*, never *absent*.
    fn observe<'a>(&'a self, id: &'a ResourceId, reach: &'a Reach) -> Answer<'a, Observed>;

    /// Whether a step's wish is fulfilled by what is there.
    fn compare(&self, step: &Step, observed: &Observed) -> Comparison;

    /// Does what a step wishes. Done twice it does no harm.
    fn act<'a>(&'a self, step: &'a Step, reach: &'a Reach) -> Answer<'a, ()>;
}

/// The providers by kind.
#[derive(Clone)]
pub struct Providers(BTreeMap<Kind, Arc<dyn Provider>>);

impl Default for Providers {
    fn default() -> Self {
        let mut providers = Providers(BTreeMap::new());
        providers.add(Arc::new(TopicProvider));
        providers.add(Arc::new(AccessProvider));
        providers.add(Arc::new(UserProvider::default()));
        providers.add(Arc::new(SenderProvider));
        providers.add(Arc::new(QuotaProvider));
        for kind in [Kind::Service, Kind::Cluster, Kind::Group] {
            providers.add(Arc::new(store_only::StoreOnly(kind)));
        }
        providers
    }
}

impl Providers {
    /// Adds one, or replaces the one of its kind.
    pub fn add(&mut self, provider: Arc<dyn Provider>) {
        self.0.insert(provider.kind(), provider);
    }

    /// The one of this kind; none where it is not managed yet.
    pub fn of(&self, kind: Kind) -> Option<&Arc<dyn Provider>> {
        self.0.get(&kind)
    }
}

/// What a step wishes, in a provider's own words.
fn read_wish<W: serde::de::DeserializeOwned>(step: &Step) -> Result<W, String> {
    serde_json::from_value(step.wish.clone()).map_err(|error| format!("the step is none of this version: {error}"))
}

/// What is wrong with the cluster that a change is on, for a kind in the plural.
fn check_cluster(found: &mut Found<'_>, world: &World, kinds: &str) {
    let id = found.id();
    let cluster = id.cluster.as_deref().unwrap_or_default();
    let Some(view) = world.cluster(cluster) else {
        let problem = format!("there is no cluster `{cluster}`");
        return found.add("", rule::UNKNOWN_CLUSTER, problem, "name one that is registered");
    };
    if !world.is_writable(cluster) {
        let problem = format!("cluster `{cluster}` is only looked at");
        found.add("", rule::OBSERVED_CLUSTER, problem, "let an operator change its mode");
    } else if let Some(why) = view.unsupported.get(&id.kind) {
        let problem = format!("cluster `{cluster}` does not let us manage {kinds}: {why}");
        found.add("", rule::UNSUPPORTED, problem, "choose another cluster");
    }
}

/// What is wrong with the service that is to own a resource.
fn check_service(found: &mut Found<'_>, world: &World, service: &str) {
    let row = world.before(&ResourceId::of(Kind::Service, service));
    if world.service(service).is_none() {
        let problem = format!("there is no service `{service}`");
        found.add("service", rule::UNKNOWN_SERVICE, problem, "create the service, or name another");
    } else if row.is_some_and(|row| row.state == ResourceState::Deleting) {
        let problem = format!("service `{service}` is being deleted");
        found.add("service", rule::SERVICE_GOES, problem, "name another, or call the deletion off");
    }
}
