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
