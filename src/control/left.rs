//! What a service owns and what is on a cluster, when those are to go: nothing is left without them.
//!
//! In: changes of a request, rows of the store. Out: what would be left; a change that was right when it was planned and is not any
//! more. Never: a decision; a deletion that was not asked for.

use super::provider::Providers;
use super::request::CHANGES_MAX;
use super::resource::{Found, Kind, ResourceId, rule};
use super::store::{Resource, StoreError, Tx};
use super::world::{Change, World};

/// Adds to a view what a service that is to go owns, and what is on a cluster that is: of many, that there are more than a request
/// can take away.
pub(super) async fn load(tx: &mut Tx, changes: &[Change], world: &mut World) -> Result<(), StoreError> {
    for gone in changes.iter().filter(|change| change.desired.is_none()) {
        let rows = match gone.id.kind {
            Kind::Service => tx.owned_by(&gone.id.name, CHANGES_MAX as u32 + 1).await?,
            Kind::Cluster => tx.on_cluster(&gone.id.name, CHANGES_MAX as u32 + 1).await?,
            _ => continue,
        };
        for row in rows {
            if world.before(&row.id).is_none() {
                world.add(row);
            }
        }
    }
    Ok(())
}

/// Adds what speaks against the deletion of a service or a cluster: what would be left of it.
pub(super) fn check(found: &mut Found<'_>, world: &World) {
    let ResourceId { kind, name, .. } = found.id();
    let is_left = |row: &&Resource| {
        world.after(&row.id).is_some_and(|spec| match kind {
            Kind::Service => row.id.kind != Kind::Service && spec.service(&row.id) == Some(name),
            Kind::Cluster => row.id.cluster.as_ref() == Some(name),
            _ => false,
        })
    };
    let left: Vec<&Resource> = world.resources().filter(is_left).collect();
    let Some(first) = left.first() else { return };
    let (count, first) = (left.len().min(CHANGES_MAX), &first.id);
    let more = if left.len() > CHANGES_MAX { "more than " } else { "" };
    let (problem, fix) = match kind {
        Kind::Service => (
            format!("it still owns {more}{count} resources, such as `{first}`"),
            "delete them or hand them over, before or in the same request (`iguazu ctl service decommission`, `hand-over`)",
        ),
        _ => (format!("{more}{count} resources are still on it, such as `{first}`"), "delete them first"),
    };
    found.add("", rule::IN_USE, problem, fix);
}

/// The first resource whose change was right when it was planned, and is not any more.
pub(super) fn first_broken(providers: &Providers, changes: &[Change], world: &World) -> Option<String> {
    let is_broken = |change: &&Change| {
        let provider = providers.of(change.id.kind);
        provider.is_some_and(|provider| !provider.violations(change, world).is_empty())
    };
    changes.iter().find(is_broken).map(|change| format!("what `{}` needs", change.id))
}
