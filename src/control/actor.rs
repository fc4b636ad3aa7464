//! Who asks, and what they may.
//!
//! In: what a token says of its bearer. Out: yes or no for a resource. Never: a right that is not written here; whoever is not
//! named may nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::policy::Approver;
use super::resource::{ClusterMode, Kind, Level, ResourceId, Spec};
use super::world::World;

/// What somebody may do everywhere, beside what their groups own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, and who else may.
    Admin,
    /// Reads everything, the audit log too.
    Auditor,
    /// May set Kafka's own settings by hand, with a reason.
    Expert,
    /// A proxy: reads snapshots.
    Proxy,
}

impl Role {
    /// The name in tokens and replies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Auditor => "auditor",
            Role::Expert => "expert",
            Role::Proxy => "proxy",
        }
    }
}

/// Somebody who asks: a person, a CI job, a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Actor {
    /// Their name, as it stands in the audit log.
    pub name: String,
    /// The groups that they are in.
    #[serde(default)]
    pub groups: BTreeSet<String>,
    /// What they may do everywhere.
    #[serde(default)]
    pub roles: BTreeSet<Role>,
}

impl Actor {
    /// Whether they have this role.
    pub fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether they are of the group that owns a service; of one that is about to be made, of the group that is to own it.
    pub fn owns(&self, service: &str, world: &World) -> bool {
        let before = match world.before(&ResourceId::of(Kind::Service, service)).map(|resource| &resource.spec) {
            Some(Spec::Service(spec)) => Some(spec),
            _ => None,
        };
        // Whoever renames the owning group must be of the one that owns it now, not of the one that is to.
        before.or_else(|| world.service(service)).is_some_and(|spec| self.groups.contains(&spec.group))
    }

    /// Whether they operate a cluster.
    pub fn operates(&self, cluster: &str, world: &World) -> bool {
        let operators = world.cluster(cluster).map(|view| &view.spec.operators);
        self.is(Role::Admin) || operators.is_some_and(|groups| groups.iter().any(|group| self.groups.contains(group)))
    }

    /// Whether they may set Kafka's own settings of a resource: experts everywhere, operators of a dedicated cluster there.
    pub fn may_set_by_hand(&self, id: &ResourceId, world: &World) -> bool {
        let operates = |cluster: &str| {
            let view = world.cluster(cluster).filter(|view| view.spec.mode == ClusterMode::Dedicated);
            view.is_some() && self.operates(cluster, world)
        };
        self.is(Role::Expert) || self.is(Role::Admin) || id.cluster.as_deref().is_some_and(operates)
    }

    /// Whether they may ask for a change of this resource at all; whether it is made is for the rules to say.
    pub fn may_ask(&self, id: &ResourceId, spec: Option<&Spec>, world: &World) -> bool {
        if self.is(Role::Admin) {
            return true;
        }
        match id.kind {
            Kind::Cluster => false,
            _ => {
                let current = world.before(id).map(|resource| resource.service.as_str());
                let wanted = spec.and_then(|spec| spec.service(id));
                // Its owner may give it to another service; whether that one wants it is asked there.
                let owns = current.or(wanted).is_some_and(|service| self.owns(service, world));
                // Whose topic or event type it is may take away what others were granted on it.
                let granted_by = || {
                    let event_type = match &world.before(id)?.spec {
                        Spec::Access(access) if access.level == Level::Publish => {
                            world.before(&ResourceId::of(Kind::EventType, &access.target))
                        }
                        _ => None,
                    };
                    let topic = || world.before(&topic_of(id, world)?);
                    Some(event_type.or_else(topic)?.service.as_str())
                };
                let is_taken_away = spec.is_none() && id.kind == Kind::Access;
                let operates = || id.cluster.as_deref().is_some_and(|cluster| self.operates(cluster, world));
                owns || operates() || is_taken_away && granted_by().is_some_and(|service| self.owns(service, world))
            }
        }
    }

    /// In which of these parts they may agree to a change that somebody else asks for.
    pub fn may_approve_as(&self, approver: Approver, id: &ResourceId, world: &World) -> bool {
        match approver {
            Approver::Owner => {
                let service = world.before(id).map(|resource| resource.service.as_str());
                let service = service.or_else(|| world.after(id).and_then(|spec| spec.service(id)));
                service.is_some_and(|service| self.owns(service, world))
            }
            Approver::TopicOwner => {
                // Of a topic that goes with what was granted on it, the one whose it was.
                let owner = topic_of(id, world).and_then(|topic| {
                    let after = world.after(&topic).and_then(|spec| spec.service(&topic)).map(str::to_owned);
                    after.or_else(|| world.before(&topic).map(|before| before.service.clone()))
                });
                owner.is_some_and(|service| self.owns(&service, world))
            }
            Approver::NewOwner => {
                let service = world.after(id).and_then(|spec| spec.service(id));
                service.is_some_and(|service| self.owns(service, world))
            }
            Approver::Operator => match &id.cluster {
                Some(cluster) => self.operates(cluster, world),
                None => self.is(Role::Admin),
            },
        }
    }
}

/// The topic that a grant or an event type is about.
pub fn topic_of(id: &ResourceId, world: &World) -> Option<ResourceId> {
    let spec = world.after(id).or_else(|| world.before(id).map(|resource| &resource.spec))?;
    match spec {
        Spec::Topic(_) => Some(id.clone()),
        Spec::Access(access) if access.level == Level::Publish => {
            topic_of(&ResourceId::of(Kind::EventType, &access.target), world)
        }
        Spec::Access(access) => Some(ResourceId::on(Kind::Topic, id.cluster.as_deref()?, &access.target)),
        Spec::EventType(event_type) => Some(ResourceId::on(Kind::Topic, &event_type.cluster, &event_type.topic)),
        _ => None,
    }
}
