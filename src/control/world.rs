//! What a change is judged against: the resources that it touches, as they are and as they will be.
//!
//! In: rows of the store, what clusters said of themselves, the changes of one request. Out: one view for every check and plan of
//! that request. Never: I/O; it is loaded once, so that everything that is decided is decided on the same facts.

use std::collections::BTreeMap;

use super::capacity::Class;
use super::resource::{ClusterMode, ClusterSpec, Kind, ResourceId, ServiceSpec, Spec, TopicSpec};
use super::store::{Resource, Taken};

/// One change that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Of what.
    pub id: ResourceId,
    /// What it is to be; none: it is to go.
    pub desired: Option<Spec>,
    /// The revision that the caller has seen, where it insists on it.
    pub if_match: Option<i64>,
}

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It was not there.
    Create,
    /// It was.
    Update,
    /// It gets a new password or key.
    Rotate,
    /// It goes.
    Delete,
}

impl Operation {
    /// The name in rules and in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "create",
            Operation::Update => "update",
            Operation::Rotate => "rotate",
            Operation::Delete => "delete",
        }
    }
}

/// A cluster as planning needs it.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// What is said of it.
    pub spec: ClusterSpec,
    /// What its brokers can do.
    pub class: Class,
    /// Bytes of disk that topics may reserve over all brokers; none when nobody knows.
    pub disk_bytes_max: Option<u64>,
    /// Whether whoever has no ACL may do everything there (`allow.everyone.if.no.acl.found`); none when it did not tell.
    pub is_open: Option<bool>,
    /// Why a kind cannot be managed there, by kind.
    pub unsupported: BTreeMap<Kind, String>,
    /// Bytes that topics which nobody manages here may come to take: they are not free.
    pub unmanaged_bytes: u64,
    /// Bytes of reservations whose topics have their place on brokers.
    pub placed_bytes: u64,
    /// The share of the fullest broker's disks that is in use; none when nobody knows.
    pub disk_used: Option<f64>,
    /// Its brokers.
    pub brokers: Vec<BrokerRoom>,
}

impl ClusterView {
    /// The same with what is said of it now, which goes before what its brokers say.
    pub fn with_spec(self, spec: ClusterSpec) -> ClusterView {
        ClusterView {
            class: Class { replicas_max: spec.replicas_max, ..self.class },
            disk_bytes_max: spec.disk_bytes.or(self.disk_bytes_max),
            disk_used: self.disk_used.filter(|_| !spec.shares_disks),
            spec,
            ..self
        }
    }
}

/// The room on one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerRoom {
    /// Its id.
    pub id: i32,
    /// Bytes that topics may reserve there; none when nobody knows.
    pub limit_bytes: Option<u64>,
    /// Bytes that topics which have their place there may come to take.
    pub committed_bytes: u64,
}

impl ClusterView {
    /// The first broker that would have no room for so many bytes in so many replicas, beside what others have reserved. Kafka
    /// gives each broker its turn and looks at no disk, so that each must have room for the largest share.
    pub fn full_broker(&self, bytes: u64, replicas: u64, others_bytes: u64) -> Option<BrokerRoom> {
        let brokers = self.brokers.len() as u64;
        if brokers == 0 || replicas == 0 {
            return None;
        }
        let share = |bytes: u64, of: u64, all: u64| {
            u64::try_from((u128::from(bytes) * u128::from(of)).div_ceil(u128::from(all))).unwrap_or(u64::MAX)
        };
        let own = share(bytes, replicas.div_ceil(brokers), replicas);
        let waiting = share(others_bytes.saturating_sub(self.placed_bytes), 1, brokers);
        let is_full = |room: &&BrokerRoom| {
            let taken = room.committed_bytes.saturating_add(waiting).saturating_add(own);
            room.limit_bytes.is_some_and(|limit| taken > limit)
        };
        self.brokers.iter().find(is_full).copied()
    }
}

/// The view.
#[derive(Clone, Debug, Default)]
pub struct World {
    before: BTreeMap<ResourceId, Resource>,
    after: BTreeMap<ResourceId, Option<Spec>>,
    clusters: BTreeMap<String, ClusterView>,
    taken: BTreeMap<ResourceId, Taken>,
    service_reserves: BTreeMap<(String, String), u64>,
    files: BTreeMap<ResourceId, String>,
    requester: String,
}

impl World {
    /// The view of a request with these changes, by whom.
    pub fn of(changes: &[Change], requester: &str) -> World {
        let after = changes.iter().map(|change| (change.id.clone(), change.desired.clone())).collect();
        World { after, requester: requester.to_owned(), ..World::default() }
    }

    /// Who asks: the one who may read a password that comes of it.
    pub fn requester(&self) -> &str {
        &self.requester
    }

    /// Adds a row of the store.
    pub fn add(&mut self, resource: Resource) {
        self.before.insert(resource.id.clone(), resource);
    }

    /// Adds a cluster.
    pub fn add_cluster(&mut self, name: &str, view: ClusterView) {
        self.clusters.insert(name.to_owned(), view);
    }

    /// Adds what is spoken for of the cluster of a resource.
    pub fn add_taken(&mut self, id: &ResourceId, taken: Taken) {
        self.taken.insert(id.clone(), taken);
    }

    /// Adds what a service's topics have reserved on a cluster.
    pub fn add_service_reserve(&mut self, service: &str, cluster: &str, bytes: u64) {
        self.service_reserves.insert((service.to_owned(), cluster.to_owned()), bytes);
    }

    /// Adds the file that a resource comes from.
    pub fn add_file(&mut self, id: &ResourceId, file: String) {
        self.files.insert(id.clone(), file);
    }

    /// The file that a resource comes from, in the repository that manages it.
    pub fn file(&self, id: &ResourceId) -> Option<&str> {
        self.files.get(id).map(String::as_str)
    }

    /// A resource as it is.
    pub fn before(&self, id: &ResourceId) -> Option<&Resource> {
        self.before.get(id)
    }

    /// A resource as it will be when the request is through.
    pub fn after(&self, id: &ResourceId) -> Option<&Spec> {
        match self.after.get(id) {
            Some(desired) => desired.as_ref(),
            None => self.before.get(id).map(|resource| &resource.spec),
        }
    }

    /// All resources, as they are.
    pub fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.before.values()
    }

    /// A cluster; none when there is none of this name.
    pub fn cluster(&self, name: &str) -> Option<&ClusterView> {
        self.clusters.get(name)
    }

    /// A service as it will be.
    pub fn service(&self, name: &str) -> Option<&ServiceSpec> {
        match self.after(&ResourceId::of(Kind::Service, name)) {
            Some(Spec::Service(spec)) => Some(spec),
            _ => None,
        }
    }

    /// A topic as it will be.
    pub fn topic(&self, cluster: &str, name: &str) -> Option<&TopicSpec> {
        match self.after(&ResourceId::on(Kind::Topic, cluster, name)) {
            Some(Spec::Topic(spec)) => Some(spec),
            _ => None,
        }
    }

    /// What is spoken for of a resource's cluster.
    pub fn taken(&self, id: &ResourceId) -> Taken {
        self.taken.get(id).copied().unwrap_or_default()
    }

    /// Bytes that a service's topics have reserved on a cluster.
    pub fn service_reserve(&self, service: &str, cluster: &str) -> u64 {
        self.service_reserves.get(&(service.to_owned(), cluster.to_owned())).copied().unwrap_or(0)
    }

    /// The service that owns what a change is about, else the one that is to; empty for a cluster.
    pub fn owner<'w>(&'w self, change: &'w Change) -> &'w str {
        let before = self.before(&change.id).map(|resource| resource.service.as_str());
        before.or_else(|| change.desired.as_ref()?.service(&change.id)).unwrap_or_default()
    }

    /// What a change does.
    pub fn operation(&self, change: &Change) -> Operation {
        let generation = |spec: &Spec| match spec {
            Spec::User(user) => Some(user.generation),
            Spec::Sender(sender) => Some(sender.generation),
            _ => None,
        };
        match (self.before(&change.id), &change.desired) {
            (_, None) => Operation::Delete,
            (None, Some(_)) => Operation::Create,
            (Some(before), Some(desired)) if generation(&before.spec) < generation(desired) => Operation::Rotate,
            (Some(_), Some(_)) => Operation::Update,
        }
    }

    /// Whether something may be written to a cluster.
    pub fn is_writable(&self, cluster: &str) -> bool {
        self.cluster(cluster).is_some_and(|view| view.spec.mode != ClusterMode::Observe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_broker_must_have_room_for_the_largest_share() {
        let room = |id, committed_bytes| BrokerRoom { id, limit_bytes: Some(1_000), committed_bytes };
        let view = ClusterView {
            brokers: vec![room(1, 100), room(2, 900), room(3, 100)],
            placed_bytes: 1_100,
            ..ClusterView::default()
        };
        // Six replicas over three brokers: a third each.
        assert_eq!(view.full_broker(300, 6, 1_100), None);
        assert_eq!(view.full_broker(301, 6, 1_100).map(|room| room.id), Some(2));
        // One replica may come to lie on the fullest one.
        assert_eq!(view.full_broker(101, 1, 1_100).map(|room| room.id), Some(2));
        // What is reserved and has no place yet may, too.
        assert_eq!(view.full_broker(300, 6, 1_103).map(|room| room.id), Some(2));
        let hidden = ClusterView { brokers: vec![BrokerRoom { limit_bytes: None, ..room(1, 0) }], ..view.clone() };
        assert_eq!(hidden.full_broker(u64::MAX, 1, 0), None);
        assert_eq!(ClusterView::default().full_broker(1, 1, 0), None);
    }
}
