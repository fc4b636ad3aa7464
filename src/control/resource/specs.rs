//! What is said of each kind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Found, Kind, ResourceId, Violation, check_topic, names, rule};
use crate::control::capacity::{Capacity, Tier, Wanted};

/// What is said of a resource, by its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", content = "spec", rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is what its type says")]
pub enum Spec {
    Service(ServiceSpec),
    Cluster(ClusterSpec),
    Topic(TopicSpec),
    User(UserSpec),
    Sender(SenderSpec),
    Group(GroupSpec),
    EventType(EventTypeSpec),
    Access(AccessSpec),
    Quota(QuotaSpec),
}

/// A service: the owner of everything else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// The group whose members own it; the caller's token must name it.
    pub group: String,
    /// What it does.
    #[serde(default)]
    pub description: String,
    /// Whom to call at night.
    #[serde(default)]
    pub on_call: Option<String>,
    /// Most bytes of disk that its topics may reserve on each cluster without a person.
    #[serde(default)]
    pub allowance_bytes: Option<u64>,
}

/// Whose a cluster is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClusterMode {
    /// It is only looked at: nothing is ever written to it.
    #[default]
    Observe,
    /// Many services, operated by the platform.
    Shared,
    /// Its own operators decide, and may set Kafka's own settings there.
    Dedicated,
}

/// A Kafka cluster. How it is reached is in the configuration file, since that names secrets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterSpec {
    /// `prod`, `staging`, …: a label.
    #[serde(default)]
    pub environment: String,
    /// Whose it is.
    #[serde(default)]
    pub mode: ClusterMode,
    /// Groups whose members operate it.
    #[serde(default)]
    pub operators: Vec<String>,
    /// Bytes of disk over all brokers that topics may reserve; by default 85 % of what the brokers say they have.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
    /// Whether other things are on its disks too, so that how full they are says nothing of Kafka: for development.
    #[serde(default)]
    pub shares_disks: bool,
    /// Partitions of all topics, copies counted.
    #[serde(default)]
    pub partitions_max: Option<u32>,
    /// Bytes a second of all producers at the peak.
    #[serde(default)]
    pub ingress_bytes_per_second: Option<u64>,
    /// Most partitions of one topic without a person's consent.
    #[serde(default)]
    pub topic_partitions_max: Option<u32>,
    /// Most copies of each partition, whatever a topic's tier: for clusters of one broker, for development. Tiers promise less there.
    #[serde(default)]
    pub replicas_max: Option<u32>,
    /// Hours between the closing of a topic and its deletion, in which that can be called off; by default 72.
    #[serde(default)]
    pub quiet_hours: Option<f64>,
    /// Price of a reserved gigabyte (10^9) for a month.
    #[serde(default)]
    pub gb_month_price: f64,
    /// Price of a partition's copy for a month.
    #[serde(default)]
    pub partition_month_price: f64,
}

/// Who may read a topic without asking its owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Nobody.
    #[default]
    Restricted,
    /// Every service.
    Open,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicSpec {
    /// The service that owns it.
    pub service: String,
    /// Its traffic.
    pub capacity: Capacity,
    /// What it is for.
    #[serde(default)]
    pub tier: Tier,
    /// For tier `state`: bytes of the latest records of all keys, over all partitions, one copy.
    #[serde(default)]
    pub state_bytes: Option<u64>,
    /// Whether records have keys, so that more partitions would move them.
    #[serde(default)]
    pub keyed: bool,
    /// Who may read it.
    #[serde(default)]
    pub visibility: Visibility,
    /// What is in it.
    #[serde(default)]
    pub description: String,
    /// Kafka's own settings, set by hand.
    #[serde(default)]
    pub expert: Option<Expert>,
}

/// What somebody who knows better sets by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Expert {
    /// Settings by Kafka's names; they take the place of the resolved ones.
    #[serde(default)]
    pub configs: BTreeMap<String, String>,
    /// Partitions, in place of the resolved number.
    #[serde(default)]
    pub partitions: Option<u32>,
    /// Why.
    pub reason: String,
}

/// How a Kafka user proves who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum Mechanism {
    /// SCRAM-SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// SCRAM-SHA-512.
    #[default]
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// A Kafka user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    /// The service that owns it.
    pub service: String,
    /// How it proves who it is.
    #[serde(default)]
    pub mechanism: Mechanism,
    /// Its passwords so far; a greater number makes a new one.
    #[serde(default = "one")]
    pub generation: u32,
    /// Where the password is written to; none: it is shown once to whoever asked for it.
    #[serde(default)]
    pub sink: Option<String>,
}

/// A sender of the proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SenderSpec {
    /// The service that owns it.
    pub service: String,
    /// Its keys so far; a greater number makes a new one, and the one before stays valid for `overlap_hours`.
    #[serde(default = "one")]
    pub generation: u32,
    /// For how long the key before the newest one is still taken.
    #[serde(default = "overlap_hours")]
    pub overlap_hours: u32,
    /// Most events a second of this sender.
    #[serde(default)]
    pub events_per_second: Option<u64>,
    /// Most payload bytes a second of this sender.
    #[serde(default)]
    pub bytes_per_second: Option<u64>,
    /// Lets nothing of it through for now.
    #[serde(default)]
    pub disabled: bool,
    /// Lets this share of its events through for now; the others are accepted and left out.
    #[serde(default)]
    pub sample: Option<f64>,
}

impl SenderSpec {
    /// A sender of a service, and all else as it is when nobody says.
    pub fn of(service: &str) -> SenderSpec {
        SenderSpec {
            service: service.to_owned(),
            generation: one(),
            overlap_hours: overlap_hours(),
            events_per_second: None,
            bytes_per_second: None,
            disabled: false,
            sample: None,
        }
    }
}

fn one() -> u32 {
    1
}

fn overlap_hours() -> u32 {
    24
}

/// A consumer group: who it is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// The service that owns it.
    pub service: String,
    /// What it does.
    #[serde(default)]
    pub description: String,
}

/// An event type of the proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventTypeSpec {
    /// The service that owns it.
    pub service: String,
    /// The cluster of its topic.
    pub cluster: String,
    /// Its topic there.
    pub topic: String,
    /// Everything else that `[events.NAME]` of the proxy's configuration has, in the same words.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub settings: Map<String, Value>,
}

/// What somebody may do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Send its events through the proxy.
    Publish,
    /// Write records directly.
    Produce,
    /// Read records, in groups whose name begins with the service's.
    Consume,
    /// See that it is there and how it is set.
    Describe,
}

impl Level {
    /// The name in requests, rules and names of grants.
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Publish => "publish",
            Level::Produce => "produce",
            Level::Consume => "consume",
            Level::Describe => "describe",
        }
    }
}

/// How a grant names its topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// The topic of this name.
    #[default]
    Literal,
    /// All topics whose names begin so.
    Prefix,
}

/// Who may do what with which topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessSpec {
    /// The service that gets it.
    pub service: String,
    /// What it may do.
    pub level: Level,
    /// Name of the topic, or what its name begins with; for `publish` the event type.
    pub target: String,
    /// How `target` is meant.
    #[serde(default)]
    pub pattern: Pattern,
    /// The Kafka user that gets it; for `publish` the sender.
    pub principal: String,
}

/// A limit. One object drives the proxy's limit and Kafka's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaSpec {
    /// The service that it limits.
    pub service: String,
    /// The Kafka user whose rates are limited.
    #[serde(default)]
    pub user: Option<String>,
    /// The event type whose rates the proxy limits.
    #[serde(default)]
    pub event_type: Option<String>,
    /// Bytes a second that may be produced, over the whole cluster.
    #[serde(default)]
    pub produce_bytes_per_second: Option<u64>,
    /// Bytes a second that may be consumed, over the whole cluster.
    #[serde(default)]
    pub consume_bytes_per_second: Option<u64>,
    /// Events a second, by the proxy.
    #[serde(default)]
    pub events_per_second: Option<u64>,
}

/// A spec that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct SpecError {
    /// Path of the field; empty when it is about the whole.
    pub field: String,
    /// What is wrong.
    pub problem: String,
}

impl Spec {
    /// Reads a spec of this kind.
    pub fn read(kind: Kind, value: Value) -> Result<Spec, SpecError> {
        fn of<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, SpecError> {
            serde_path_to_error::deserialize(value).map_err(|error| {
                let field = error.path().to_string();
                SpecError {
                    field: if field == "." { String::new() } else { field },
                    problem: error.inner().to_string(),
                }
            })
        }
        Ok(match kind {
            Kind::Service => Spec::Service(of(value)?),
            Kind::Cluster => Spec::Cluster(of(value)?),
            Kind::Topic => Spec::Topic(of(value)?),
            Kind::User => Spec::User(of(value)?),
            Kind::Sender => Spec::Sender(of(value)?),
            Kind::Group => Spec::Group(of(value)?),
            Kind::EventType => Spec::EventType(of(value)?),
            Kind::Access => Spec::Access(of(value)?),
            Kind::Quota => Spec::Quota(of(value)?),
        })
    }

    /// What it is of.
    pub fn kind(&self) -> Kind {
        match self {
            Spec::Service(_) => Kind::Service,
            Spec::Cluster(_) => Kind::Cluster,
            Spec::Topic(_) => Kind::Topic,
            Spec::User(_) => Kind::User,
            Spec::Sender(_) => Kind::Sender,
            Spec::Group(_) => Kind::Group,
            Spec::EventType(_) => Kind::EventType,
            Spec::Access(_) => Kind::Access,
            Spec::Quota(_) => Kind::Quota,
        }
    }

    /// The service that owns it; a service is its own, a cluster belongs to its operators.
    pub fn service<'s>(&'s self, id: &'s ResourceId) -> Option<&'s str> {
        match self {
            Spec::Service(_) => Some(&id.name),
            Spec::Cluster(_) => None,
            Spec::Topic(spec) => Some(&spec.service),
            Spec::User(spec) => Some(&spec.service),
            Spec::Sender(spec) => Some(&spec.service),
            Spec::Group(spec) => Some(&spec.service),
            Spec::EventType(spec) => Some(&spec.service),
            Spec::Access(spec) => Some(&spec.service),
            Spec::Quota(spec) => Some(&spec.service),
        }
    }

    /// All that is wrong with it as far as it alone tells.
    pub fn violations(&self, id: &ResourceId) -> Vec<Violation> {
        let mut found = Found::of(id);
        let checked = match id.kind {
            Kind::Topic => check_topic(&id.name),
            // Its name is made of others' names.
            Kind::Access | Kind::EventType | Kind::Quota => Ok(()),
            _ => names::check_other(&id.name),
        };
        if let Err(error) = checked {
            found.add("", rule::NAME, error.to_string(), "choose another name");
        }
        match self {
            Spec::Service(spec) if spec.group.is_empty() => {
                found.add(
                    "group",
                    rule::REQUIRED,
                    "a service without a group has no owner",
                    "name the group of its team",
                );
            }
            Spec::Topic(TopicSpec { expert: Some(expert), .. }) if expert.reason.trim().is_empty() => {
                found.add(
                    "expert.reason",
                    rule::REQUIRED,
                    "settings by hand need a reason",
                    "say why the resolved ones do not do",
                );
            }
            Spec::Cluster(ClusterSpec { quiet_hours: Some(hours), .. }) if !(0.0..=8_760.0).contains(hours) => {
                found.add(
                    "quiet_hours",
                    rule::RANGE,
                    "a quiet period has 0 to 8,760 hours",
                    "say how long a deletion can be called off",
                );
            }
            Spec::Access(spec) => spec.check(&mut found),
            Spec::Quota(spec) => spec.check(&mut found),
            Spec::Sender(spec) => spec.check(&mut found),
            _ => {}
        }
        found.violations()
    }
}

impl TopicSpec {
    /// What the resolver turns into partitions and settings.
    pub fn wanted(&self) -> Wanted {
        Wanted { capacity: self.capacity, tier: self.tier, state_bytes: self.state_bytes }
    }
}

impl AccessSpec {
    /// The name of the grant: one for each principal, level and target.
    pub fn name(&self) -> String {
        let star = if self.pattern == Pattern::Prefix { "*" } else { "" };
        format!("{}:{}:{}{star}", self.principal, self.level.as_str(), self.target)
    }

    fn check(&self, found: &mut Found<'_>) {
        if self.pattern == Pattern::Prefix && self.level == Level::Publish {
            found.add("pattern", rule::NO_PREFIX, "publishing is granted by event type", "grant each event type");
        }
        if self.name() != found.id().name {
            let name = self.name();
            found.add("", rule::NAME, "a grant is named by what it grants", format!("name it `{name}`"));
        }
    }
}

impl SenderSpec {
    fn check(&self, found: &mut Found<'_>) {
        for (field, limit) in
            [("events_per_second", self.events_per_second), ("bytes_per_second", self.bytes_per_second)]
        {
            if limit == Some(0) {
                found.add(field, rule::ZERO, "a limit of 0 lets nothing through", "say `disabled` if that is meant");
            }
        }
        if self.sample.is_some_and(|share| !(share > 0.0 && share < 1.0)) {
            found.add(
                "sample",
                rule::SHARE,
                "it is not more than 0 and less than 1",
                "`0.01` is one event in a hundred",
            );
        }
    }
}

impl QuotaSpec {
    fn check(&self, found: &mut Found<'_>) {
        if let Some(limited) = self.user.as_ref().or(self.event_type.as_ref())
            && *limited != found.id().name
        {
            found.add("", rule::NAME, "a quota is named by what it limits", format!("name it `{limited}`"));
        }
        match (&self.user, &self.event_type) {
            (None, None) => found.add("", rule::REQUIRED, "it limits nobody", "name a `user` or an `event_type`"),
            (Some(_), None) if self.events_per_second.is_some() => {
                found.add(
                    "events_per_second",
                    rule::NOT_BY_KAFKA,
                    "Kafka limits bytes, not records",
                    "limit the event type",
                );
            }
            (None, Some(_)) if self.consume_bytes_per_second.is_some() => {
                found.add(
                    "consume_bytes_per_second",
                    rule::NOT_BY_PROXY,
                    "nobody reads through the proxy",
                    "limit the user",
                );
            }
            _ => {}
        }
        if self.produce_bytes_per_second == Some(0)
            || self.consume_bytes_per_second == Some(0)
            || self.events_per_second == Some(0)
        {
            found.add(
                "",
                rule::ZERO,
                "a limit of 0 lets nothing through",
                "take the access away, or disable the event type",
            );
        }
    }
}
