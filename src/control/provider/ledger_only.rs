//! Kinds that are only written down: services, clusters, groups. Nothing is done anywhere else.

use super::{Answer, Comparison, Observed, Provider, Reach, Step};
use crate::control::policy::Facts;
use crate::control::resource::{Kind, ResourceId, Spec, Violation};
use crate::control::store::Need;
use crate::control::world::{Change, World};

/// A kind that has no other place than the store.
pub(super) struct LedgerOnly(pub(super) Kind);

impl Provider for LedgerOnly {
    fn kind(&self) -> Kind {
        self.0
    }

    fn related(&self, change: &Change) -> Vec<ResourceId> {
        let service = change.desired.as_ref().and_then(|spec| spec.service(&change.id));
        service.map(|service| ResourceId::of(Kind::Service, service)).into_iter().collect()
    }

    fn violations(&self, change: &Change, world: &World) -> Vec<Violation> {
        let mut violations = Vec::new();
        if let Some(Spec::Group(group)) = &change.desired
            && world.service(&group.service).is_none()
        {
            violations.push(Violation {
                resource: change.id.clone(),
                field: "service".to_owned(),
                rule: "unknown-service".to_owned(),
                problem: format!("there is no service `{}`", group.service),
                fix: "create the service, or name another".to_owned(),
            });
        }
        violations
    }

    fn facts(&self, _: &Change, _: &World, _: &mut Facts) {}

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
