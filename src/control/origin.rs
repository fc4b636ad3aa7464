//! One side only changes a resource: the API, or the files of one repository; and how it passes from one to the other.
//!
//! In: who manages a resource, and which side asks for a change of it. Out: whether that side may, or where to change it instead, by the
//! name of the file. Never: I/O, a resource that passes to another side in silence.

use std::collections::BTreeMap;

use super::request::Ask;
use super::resource::{Found, ManagedBy, ResourceId, Spec, rule};
use super::world::{Change, Operation, World};

/// Where the changes of a request come from, beside who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file of each resource that has one, in the repository that asks.
    pub files: BTreeMap<ResourceId, String>,
    /// Whether the side that asks is to manage from now on what another one manages.
    pub take_over: bool,
}

/// Adds what speaks against a change of what another side manages.
pub(super) fn check(change: &Change, world: &World, ask: &Ask, origin: &Origin, found: &mut Found<'_>) {
    let Some(before) = world.before(&change.id) else { return };
    if before.managed_by == ask.managed_by || is_only_rotated(change, world) {
        return;
    }
    if origin.take_over && change.desired.is_some() {
        return;
    }
    let (problem, fix) = match (&before.managed_by, world.file(&change.id)) {
        (ManagedBy::Api, _) => (
            "it is managed by the API".to_owned(),
            "change it there; or take it over: `iguazu ctl apply --take-over`".to_owned(),
        ),
        (ManagedBy::Repository(name), Some(file)) => (
            format!("it is managed by file `{file}` of repository `{name}`"),
            format!("change `{file}` there, and have it applied; or take it over (`take_over`)"),
        ),
        (ManagedBy::Repository(name), None) => (
            format!("it is managed by repository `{name}`"),
            "change it there, and have it applied; or take it over (`take_over`)".to_owned(),
        ),
    };
    found.add("", rule::MANAGED_ELSEWHERE, problem, &fix);
}

/// Who manages a resource once a change of it is made.
pub(super) fn after(change: &Change, world: &World, asks: &ManagedBy) -> ManagedBy {
    match world.before(&change.id) {
        // How many passwords there were is not for files to say: whoever asks for a new one takes nothing over.
        Some(before) if is_only_rotated(change, world) => before.managed_by.clone(),
        _ => asks.clone(),
    }
}

/// Whether nothing changes but that there is a new password or key.
fn is_only_rotated(change: &Change, world: &World) -> bool {
    let uncounted = |spec: &Spec| {
        let mut spec = spec.clone();
        match &mut spec {
            Spec::User(user) => user.generation = 0,
            Spec::Sender(sender) => sender.generation = 0,
            _ => {}
        }
        spec
    };
    let before = world.before(&change.id).map(|before| uncounted(&before.spec));
    world.operation(change) == Operation::Rotate && before == change.desired.as_ref().map(uncounted)
}

/// Whether a change leaves the resource as it is, and gives it to another side.
pub(super) fn is_handover(change: &Change, world: &World, asks: &ManagedBy) -> bool {
    let before = world.before(&change.id);
    before.is_some_and(|before| Some(&before.spec) == change.desired.as_ref() && before.managed_by != *asks)
}
