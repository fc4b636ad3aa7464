//! A change of a request judged: what is wrong with it, what is known of it, what it takes.
//!
//! In: a change and the [`World`] that it is judged in. Out: all that is wrong with it, the facts that the rules decide on, the
//! need that is to be reserved for it. Never: I/O; a decision: that is the rules'.

use std::collections::BTreeMap;

use super::{Ask, Desk};
use crate::control::actor::{Actor, topic_of};
use crate::control::admission::over_budget;
use crate::control::origin::{self, Origin};
use crate::control::policy::Facts;
use crate::control::resource::{Found, Spec, Violation, Visibility, rule};
use crate::control::store::{Need, Reservation, ResourceState, Taken};
use crate::control::world::{Change, World};

impl Desk {
    /// All that is wrong with a change.
    pub(super) fn violations(
        &self,
        actor: &Actor,
        change: &Change,
        world: &World,
        ask: &Ask,
        origin: &Origin,
    ) -> Vec<Violation> {
        let id = &change.id;
        let mut found = Found::of(id);
        if !actor.may_ask(id, change.desired.as_ref(), world) {
            let problem = format!("`{}` is of no group that owns it", actor.name);
            found.add("", rule::NOT_YOURS, problem, "ask its owner, or join the group");
            // What is wrong with what is not theirs is not theirs to know.
            return found.violations();
        }
        let before = world.before(id);
        if let (Some(wanted), found_revision) = (change.if_match, before.map_or(0, |resource| resource.revision))
            && wanted != found_revision
        {
            let problem = format!("it is at revision {found_revision}, not {wanted}");
            found.add("", rule::STALE, problem, "read it again");
        }
        if let Some(before) = before {
            origin::check(change, world, ask, origin, &mut found);
            if matches!(before.state, ResourceState::Applying | ResourceState::Deleting) {
                found.add("", rule::BUSY, "it is being changed", "wait until that is done");
            }
        } else if change.desired.is_none() {
            found.add("", rule::UNKNOWN, "there is nothing of this name", "look at the list");
            return found.violations();
        }
        if let Some(spec) = &change.desired {
            found.extend(spec.violations(id));
            if let Spec::Topic(topic) = spec
                && topic.expert.is_some()
                && !actor.may_set_by_hand(id, world)
            {
                let fix = "leave `expert` out and say what capacity is needed, or ask somebody with the role `expert`";
                found.add("expert", rule::NOT_AN_EXPERT, "Kafka's own settings need the role `expert`", fix);
            }
        }
        match self.providers.of(id.kind) {
            Some(provider) => found.extend(provider.violations(change, world)),
            None => {
                let problem = format!("{} is managed by no provider", id.kind.as_str());
                found.add("", rule::UNMANAGED_KIND, problem, "leave it out");
            }
        }
        found.violations()
    }

    /// What is known of a change, what it needs, and what of that is not free; what it needs is spoken for if it is.
    pub(super) fn facts(
        &self,
        actor: &Actor,
        change: &Change,
        world: &World,
        violations: &[Violation],
        spoken: &mut Spoken<'_>,
    ) -> (Facts, Option<Need>, Option<String>) {
        let id = &change.id;
        let mut facts = Facts::default();
        facts.set("kind", id.kind.as_str()).set("operation", world.operation(change).as_str());
        facts.set("violations", violations.len() as f64);
        let service = change.desired.as_ref().and_then(|spec| spec.service(id));
        let service = service.or_else(|| world.before(id).map(|resource| resource.service.as_str()));
        let owns = service.is_some_and(|service| actor.owns(service, world));
        let before = world.before(id).map(|resource| resource.service.as_str());
        facts.set("own_service", owns);
        facts.set("gives_away", before.is_some_and(|before| service != Some(before)) && !owns);
        if let Some(view) = id.cluster.as_deref().and_then(|cluster| world.cluster(cluster)) {
            facts.set("environment", view.spec.environment.as_str());
            if let Some(used) = view.disk_used {
                facts.set("disk_used", used);
            }
        }
        if let Some(topic) = topic_of(id, world)
            && let Some(Spec::Topic(topic)) = world.after(&topic)
        {
            facts.set("own_topic", service == Some(&topic.service));
            let visibility = if topic.visibility == Visibility::Open { "open" } else { "restricted" };
            facts.set("topic_visibility", visibility);
        }
        if !violations.is_empty() {
            return (facts, None, None);
        }
        let Some(provider) = self.providers.of(id.kind) else { return (facts, None, None) };
        // What is desired already can only be asked for because it is not so.
        let is_desired = world.before(id).is_some_and(|before| change.desired.as_ref() == Some(&before.spec));
        facts.set("restore", is_desired);
        provider.facts(change, world, &mut facts);
        let need = provider.need(change, world);
        let mut over = None;
        if let (Some(need), Some(cluster)) = (need, &id.cluster) {
            // Earlier changes of the same request have spoken for theirs.
            let request = spoken.request.to_owned();
            let sum = spoken.by_cluster.entry(cluster.clone()).or_default();
            let taken = world.taken(id);
            let taken = Taken { all: taken.all.plus(*sum), own: taken.own };
            facts.set("grows", need.disk_bytes > taken.own.disk_bytes);
            over = world.cluster(cluster).and_then(|view| over_budget(view, taken, need));
            facts.set("over_budget", over.is_some());
            if over.is_none() {
                let (cluster, resource) = (cluster.clone(), id.to_string());
                *sum = sum.plus(need.over(taken.own));
                spoken.reservations.push(Reservation { cluster, resource, request, need });
            }
        }
        (facts, need, over)
    }
}

/// What earlier changes of a request have spoken for.
pub(super) struct Spoken<'r> {
    request: &'r str,
    by_cluster: BTreeMap<String, Need>,
    /// What is to be reserved, should the request be let in.
    pub(super) reservations: Vec<Reservation>,
}

impl Spoken<'_> {
    pub(super) fn of(request: &str) -> Spoken<'_> {
        Spoken { request, by_cluster: BTreeMap::new(), reservations: Vec::new() }
    }
}
