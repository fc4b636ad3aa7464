//! What the management plane manages: kinds, their names, and what is said of each.
//!
//! In: what people write, as JSON. Out: a [`Spec`] with its [`ResourceId`], or every [`Violation`] at once. Never: I/O, a value
//! that Kafka or the proxy would refuse.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod found;
mod names;
pub mod rule;
mod specs;

pub(crate) use found::Found;
pub use names::{NameError, check_topic};
pub use specs::{
    AccessSpec, ClusterMode, ClusterSpec, EventTypeSpec, Expert, GroupSpec, Level, Mechanism, Pattern, QuotaSpec,
    SenderSpec, ServiceSpec, Spec, SpecError, TopicSpec, UserSpec, Visibility,
};

/// A kind of resource. In the order in which they are made: a later kind may need an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Who owns the others: a service and its group.
    Service,
    /// A Kafka cluster, its budgets and operators.
    Cluster,
    /// A topic.
    Topic,
    /// A Kafka user with a password (SCRAM).
    User,
    /// A sender of the proxy with an API key.
    Sender,
    /// A consumer group.
    Group,
    /// An event type of the proxy.
    EventType,
    /// Who may publish, produce, consume or describe what.
    Access,
    /// A limit of the proxy and of Kafka.
    Quota,
}

impl Kind {
    /// Every kind, in the order in which they are made.
    pub const ALL: [Kind; 9] = [
        Kind::Service,
        Kind::Cluster,
        Kind::Topic,
        Kind::User,
        Kind::Sender,
        Kind::Group,
        Kind::EventType,
        Kind::Access,
        Kind::Quota,
    ];

    /// The name in paths, files and rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Service => "service",
            Kind::Cluster => "cluster",
            Kind::Topic => "topic",
            Kind::User => "user",
            Kind::Sender => "sender",
            Kind::Group => "group",
            Kind::EventType => "event_type",
            Kind::Access => "access",
            Kind::Quota => "quota",
        }
    }

    /// The name of the collection in paths.
    pub const fn plural(self) -> &'static str {
        match self {
            Kind::Service => "services",
            Kind::Cluster => "clusters",
            Kind::Topic => "topics",
            Kind::User => "users",
            Kind::Sender => "senders",
            Kind::Group => "groups",
            Kind::EventType => "event_types",
            Kind::Access => "access",
            Kind::Quota => "quotas",
        }
    }

    /// Whether such a thing is on a cluster, so that its name counts there only.
    pub const fn is_on_cluster(self) -> bool {
        match self {
            Kind::Topic | Kind::User | Kind::Group | Kind::Access | Kind::Quota => true,
            // An event has one name wherever it goes, and a sender may send events of several clusters.
            Kind::Service | Kind::Cluster | Kind::Sender | Kind::EventType => false,
        }
    }
}

/// The name of one resource: `topic/core/orders.placed.v1`, `service/orders`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId {
    /// What it is.
    pub kind: Kind,
    /// On which cluster; for kinds that are on one.
    pub cluster: Option<String>,
    /// Its name there.
    pub name: String,
}

impl ResourceId {
    /// The name of a resource that is on no cluster.
    pub fn of(kind: Kind, name: &str) -> ResourceId {
        debug_assert!(!kind.is_on_cluster());
        ResourceId { kind, cluster: None, name: name.to_owned() }
    }

    /// The name of a resource on a cluster.
    pub fn on(kind: Kind, cluster: &str, name: &str) -> ResourceId {
        debug_assert!(kind.is_on_cluster());
        ResourceId { kind, cluster: Some(cluster.to_owned()), name: name.to_owned() }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cluster {
            Some(cluster) => write!(f, "{}/{cluster}/{}", self.kind.as_str(), self.name),
            None => write!(f, "{}/{}", self.kind.as_str(), self.name),
        }
    }
}

/// A text that names no resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no resource; it is KIND/NAME, or KIND/CLUSTER/NAME for what is on a cluster")]
pub struct NoResourceId(String);

impl FromStr for ResourceId {
    type Err = NoResourceId;

    fn from_str(text: &str) -> Result<ResourceId, NoResourceId> {
        let wrong = || NoResourceId(text.to_owned());
        let (kind, rest) = text.split_once('/').ok_or_else(wrong)?;
        let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind).ok_or_else(wrong)?;
        let id = match (kind.is_on_cluster(), rest.split_once('/')) {
            (true, Some((cluster, name))) => ResourceId::on(kind, cluster, name),
            (false, None) => ResourceId::of(kind, rest),
            _ => return Err(wrong()),
        };
        let is_whole = !id.name.is_empty() && id.cluster.as_deref() != Some("");
        if is_whole { Ok(id) } else { Err(wrong()) }
    }
}

impl Serialize for ResourceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ResourceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One thing that is wrong with a request; all of them are told at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Violation {
    /// Whose.
    #[schema(value_type = String)]
    pub resource: ResourceId,
    /// Path of the field in its spec; empty when it is about the whole.
    pub field: String,
    /// The rule that it breaks; stable.
    pub rule: String,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub fix: String,
}

/// Who may change a resource: one side only, so that two sources of truth never fight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ManagedBy {
    /// The API, the console and `ctl` on the command line.
    Api,
    /// The files of one repository, by its name.
    Repository(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_names_and_is_read_back() {
        for text in ["service/orders", "topic/core/orders.placed.v1", "event_type/orders.placed", "access/core/a:b:c"] {
            assert_eq!(text.parse::<ResourceId>().unwrap().to_string(), text);
        }
        for text in
            ["", "orders", "topic/orders", "service/core/orders", "thing/x", "topic//x", "topic/core/", "service/"]
        {
            assert!(text.parse::<ResourceId>().is_err(), "{text}");
        }
    }

    #[test]
    fn kinds_are_in_the_order_in_which_they_need_each_other() {
        assert!(Kind::ALL.is_sorted());
        assert!(Kind::Topic < Kind::EventType && Kind::User < Kind::Access && Kind::EventType < Kind::Access);
    }
}
