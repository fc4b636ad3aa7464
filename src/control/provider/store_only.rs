//! Kinds that are only written down: services, clusters, groups. Nothing is done anywhere else.

use super::{Answer, Comparison, Observed, Provider, Reach, Step, check_service};
use crate::control::left;
use crate::control::policy::Facts;
use crate::control::resource::{Found, Kind, ResourceId, Spec, Violation};
use crate::control::store::Need;
use crate::control::world::{Change, World};

/// A kind that has no other place than the store.
pub(super) struct StoreOnly(pub(super) Kind);

impl Provider for StoreOnly {
    fn kind(&self) -> Kind {
        self.0
    }

    fn related(&self, change: &Change) -> Vec<ResourceId> {
        let service = change.desired.as_ref().and_then(|spec| spec.service(&change.id));
        service.map(|service| ResourceId::of(Kind::Service, service)).into_iter().collect()
    }

    fn violations(&self, change: &Change, world: &World) -> Vec<Violation> {
        let mut found = Found::of(&change.id);
        if let Some(Spec::Group(group)) = &change.desired {
            check_service(&mut found, world, &group.service);
        }
        if change.desired.is_none() {
            left::check(&mut found, world);
        }
        found.violations()
    }

    fn facts(&self, change: &Change, world: &World, facts: &mut Facts) {
        let allowance = |spec: Option<&Spec>| match spec {
            Some(Spec::Service(service)) => service.allowance_bytes,
            _ => None,
        };
        let before = allowance(world.before(&change.id).map(|resource| &resource.spec));
        if let Some(after) = allowance(change.desired.as_ref()) {
            facts.set("more_allowance", before.is_none_or(|before| after > before));
        }
    }

    fn need(&self, _: &Change, _: &World) -> Option<Need> {
        None
    }

    fn steps(&self, _: &Change, _: &World, _: &Observed) -> Vec<Step> {
        Vec::new()
    }

    fn observe<'a>(&'a self, _: &'a ResourceId, _: &'a Reach) -> Answer<'a, Observed> {
        Box::pin(async { Ok(Observed::Absent) })
    }

    fn compare(&self, _: &Step, _: &Observed) -> Comparison {
        Comparison::Same
    }

    fn act<'a>(&'a self, _: &'a Step, _: &'a Reach) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
