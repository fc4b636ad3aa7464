//! A service as a whole: one change over what it owns becomes one request with one plan.
//!
//! In: edits: which of a service's resources, and what becomes of them. Out: one request over all that change by them. Never: another
//! way to change anything than a request, a resource of another service, a part of what was selected.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Api;
use super::extract::{Json, Named, Params};
use super::guard::Caller;
use super::problem::{Problem, kinds};
use super::requests::{ChangeParams, PAGE_MAX, Wish, known_as, read_spec, submit_if};
use super::resources::{find, renewed};
use crate::control::request::{CHANGES_MAX, Planned, Request};
use crate::control::resource::{Kind, ResourceId, Spec};
use crate::control::store::{Filter, Page, Resource};
use crate::control::world::Change;

/// Most edits of one change, and names of one edit: somebody must be able to read it.
const EDITS_MAX: usize = 20;
const NAMES_MAX: usize = 500;

/// The body of `PATCH /v1/services/{name}/resources`.
#[derive(Clone, Debug, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceChange {
    /// What becomes of which resources, one edit after the other.
    pub edits: Vec<Edit>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// What becomes of some of a service's resources.
#[derive(Clone, Debug, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// Only those of these kinds; empty: of every kind, the service itself left out.
    #[serde(default)]
    pub kinds: Vec<Kind>,
    /// Only those on this cluster.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Only those of these names; a name that ends in `*` stands for all that begin so. Empty: of every name.
    #[serde(default)]
    pub names: Vec<String>,
    /// What becomes of each of them.
    pub change: Becomes,
}

/// What becomes of a resource.
#[derive(Clone, Debug, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Becomes {
    /// These fields of its spec are so, all others stay; null takes one out (JSON Merge Patch, RFC 7396).
    #[schema(value_type = Object)]
    Set(Map<String, Value>),
    /// It belongs to this service.
    HandOver(String),
    /// It gets a new password or key: users and senders.
    Rotate,
    /// It goes.
    Delete,
}

/// `PATCH /v1/services/{name}/resources`
pub async fn change(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(service): Named,
    Params(params): Params<ChangeParams>,
    headers: HeaderMap,
    Json(body): Json<ServiceChange>,
) -> Result<Response, Problem> {
    body.check(&service)?;
    let is_same = |request: &Request| body.explains(&service, request);
    // What was asked for may be done by now: asked again, it is answered before it is looked at what there is left to change.
    if let Some(known) = known_as(&api, &caller, &headers, params.dry_run, is_same).await? {
        return Ok(known);
    }
    find(&api, &service).await?;
    let mut edited = BTreeMap::new();
    for (number, edit) in body.edits.iter().enumerate() {
        let selected = select(&api, &service, edit).await?;
        if let Some(name) = edit.first_missing(&selected) {
            let detail = format!("`edits[{number}]`: `{service}` has nothing named `{name}` of these kinds there");
            return Err(Problem::new(kinds::INVALID, detail));
        }
        for resource in selected {
            let resource: &mut Edited = edited.entry(resource.id.clone()).or_insert_with(|| Edited::of(resource));
            resource.edit(number, edit)?;
        }
        if edited.len() > CHANGES_MAX {
            return Err(too_many(&service));
        }
    }
    if edited.is_empty() {
        let detail = format!("the edits select nothing that `{service}` owns");
        return Err(Problem::new(kinds::INVALID, detail));
    }
    let changes = changes(edited)?;
    if changes.is_empty() {
        let detail = format!("nothing changes: what the edits select of `{service}` is so already");
        return Err(Problem::new(kinds::CONFLICT, detail));
    }
    let reason = if body.reason.is_empty() { params.reason.unwrap_or_default() } else { body.reason.clone() };
    let wish = Wish::of_all(changes, reason, params.dry_run);
    submit_if(&api, &caller, &headers, wish, is_same).await
}

/// What an edit is about, of what the service owns now.
async fn select(api: &Api, service: &ResourceId, edit: &Edit) -> Result<Vec<Resource>, Problem> {
    let mut selected = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| edit.is_about_kind(*kind)) {
        let filter = Filter { kind: Some(kind), service: Some(service.name.clone()), ..Filter::default() };
        let filter = Filter { cluster: edit.cluster.clone().filter(|_| kind.is_on_cluster()), ..filter };
        let mut after = None;
        loop {
            let page = api.store.resources(&filter, &Page { after, limit: PAGE_MAX }).await?;
            let is_last = page.len() < PAGE_MAX as usize;
            after = page.last().map(|resource| resource.id.clone());
            selected.extend(page.into_iter().filter(|resource| edit.is_about(resource)));
            if selected.len() > CHANGES_MAX {
                return Err(too_many(service));
            }
            if is_last {
                break;
            }
        }
    }
    Ok(selected)
}

fn too_many(service: &ResourceId) -> Problem {
    let detail = format!(
        "the edits select more than {CHANGES_MAX} resources of `{service}`, and a request has at most so many changes; select fewer by \
         `kinds`, `cluster` or `names`"
    );
    Problem::new(kinds::INVALID, detail)
}

/// A resource on its way through the edits.
struct Edited {
    before: Resource,
    /// Its spec so far; none: it goes.
    spec: Option<Value>,
    /// Whether it gets a new secret.
    renew: bool,
}

impl Edited {
    fn of(before: Resource) -> Edited {
        Edited { spec: Some(bare(&before.spec)), before, renew: false }
    }

    fn edit(&mut self, number: usize, edit: &Edit) -> Result<(), Problem> {
        let Some(spec) = &mut self.spec else {
            let detail = format!("`edits[{number}]` changes `{}`, which an edit before it takes away", self.before.id);
            return Err(Problem::new(kinds::INVALID, detail));
        };
        match &edit.change {
            Becomes::Set(fields) => merge(spec, fields),
            Becomes::HandOver(to) => spec["service"] = json!(to),
            Becomes::Rotate => self.renew = true,
            Becomes::Delete => self.spec = None,
        }
        Ok(())
    }
}

/// What is to be asked for: all that is not so already.
fn changes(edited: BTreeMap<ResourceId, Edited>) -> Result<Vec<Change>, Problem> {
    let mut changes = Vec::with_capacity(edited.len());
    let mut violations = Vec::new();
    for (id, Edited { before, spec, renew }) in edited {
        let desired = match read_spec(&id, spec) {
            Ok(desired) => desired,
            Err(problem) => {
                violations.extend(problem.violations);
                continue;
            }
        };
        let desired = if renew { desired.and_then(renewed) } else { desired };
        if desired.as_ref() != Some(&before.spec) {
            // All are planned on what was selected: what somebody changes in between is refused.
            changes.push(Change { id, desired, if_match: Some(before.revision) });
        }
    }
    if violations.is_empty() {
        return Ok(changes);
    }
    let detail = format!("{} specs cannot be so", violations.len());
    Err(Problem { violations, ..Problem::new(kinds::INVALID, detail) })
}

/// A spec without the name of its kind.
fn bare(spec: &Spec) -> Value {
    serde_json::to_value(spec).expect("specs have string keys and finite numbers")["spec"].take()
}

/// JSON Merge Patch, RFC 7396.
fn merge(document: &mut Value, patch: &Map<String, Value>) {
    if !document.is_object() {
        *document = Value::Object(Map::new());
    }
    let fields = document.as_object_mut().expect("it was made one");
    for (name, value) in patch {
        match value {
            Value::Null => _ = fields.remove(name),
            Value::Object(patch) => merge(fields.entry(name.clone()).or_insert(Value::Null), patch),
            value => _ = fields.insert(name.clone(), value.clone()),
        }
    }
}

impl ServiceChange {
    fn check(&self, service: &ResourceId) -> Result<(), Problem> {
        let invalid = |detail: String| Err(Problem::new(kinds::INVALID, detail));
        let count = self.edits.len();
        if count == 0 || count > EDITS_MAX {
            return invalid(format!("a change of a service has 1 to {EDITS_MAX} edits, this one has {count}"));
        }
        for (number, edit) in self.edits.iter().enumerate() {
            let names = edit.names.len();
            if names > NAMES_MAX {
                return invalid(format!(
                    "`edits[{number}].names` has {names} entries, at most {NAMES_MAX} are allowed"
                ));
            }
            let has_secret = |kind: &Kind| matches!(kind, Kind::User | Kind::Sender);
            match &edit.change {
                Becomes::Rotate => {
                    if let Some(kind) = edit.kinds.iter().find(|kind| !has_secret(kind)) {
                        let kind = kind.as_str();
                        return invalid(format!(
                            "`edits[{number}]`: a {kind} has no secret that could be changed; users and senders have"
                        ));
                    }
                }
                Becomes::HandOver(_) if edit.kinds.contains(&Kind::Service) => {
                    return invalid(format!(
                        "`edits[{number}]`: a service belongs to its group: set `group` of `{service}` instead"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a request is what these edits ask for, as far as it can be told when they are done.
    fn explains(&self, service: &ResourceId, request: &Request) -> bool {
        let is_edited = |planned: &Planned| self.edits.iter().any(|edit| edit.explains(service, planned));
        request.changes.iter().any(is_edited)
            && request.changes.iter().all(|planned| is_edited(planned) || planned.is_along())
    }
}

impl Edit {
    fn is_about_kind(&self, kind: Kind) -> bool {
        match kind {
            // A cluster belongs to no service.
            Kind::Cluster => false,
            _ if !self.kinds.is_empty() => self.kinds.contains(&kind),
            Kind::Service => false,
            Kind::User | Kind::Sender => true,
            _ => self.change != Becomes::Rotate,
        }
    }

    fn is_about_name(&self, id: &ResourceId) -> bool {
        let is_meant = |name: &String| match name.strip_suffix('*') {
            Some(beginning) => id.name.starts_with(beginning),
            None => id.name == *name,
        };
        self.is_about_kind(id.kind) && (self.names.is_empty() || self.names.iter().any(is_meant))
    }

    /// A name that stands for itself, and is none of those that were found.
    fn first_missing(&self, selected: &[Resource]) -> Option<&str> {
        let is_missing = |name: &&String| !name.ends_with('*') && selected.iter().all(|found| found.id.name != **name);
        self.names.iter().find(is_missing).map(String::as_str)
    }

    fn is_about(&self, resource: &Resource) -> bool {
        let cluster = match &resource.spec {
            Spec::EventType(event_type) => Some(&event_type.cluster),
            _ => resource.id.cluster.as_ref(),
        };
        // What is on no cluster at all is not left out for the wrong one, nor is it on the one that is meant.
        self.is_about_name(&resource.id) && (self.cluster.is_none() || self.cluster.as_ref() == cluster)
    }

    fn explains(&self, service: &ResourceId, planned: &Planned) -> bool {
        if !self.is_about_name(&planned.resource) {
            return false;
        }
        let Some(desired) = &planned.desired else { return self.change == Becomes::Delete };
        match &self.change {
            Becomes::Delete => false,
            Becomes::Rotate => {
                planned.operation == "rotate" && desired.service(&planned.resource) == Some(&service.name)
            }
            Becomes::HandOver(to) => desired.service(&planned.resource) == Some(to),
            Becomes::Set(fields) => {
                let mut again = bare(desired);
                merge(&mut again, fields);
                Spec::read(planned.resource.kind, again).is_ok_and(|again| again == *desired)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_merged_as_its_rfc_says() {
        // The test cases of RFC 7396, appendix A, whose patches are objects.
        for (document, patch, expected) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let read = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
            let mut merged = read(document);
            merge(&mut merged, read(patch).as_object().unwrap());
            assert_eq!(merged, read(expected), "{document} {patch}");
        }
    }

    #[test]
    fn an_edit_is_about_what_it_names_and_nothing_else() {
        let check = |edit: Value, id: &str, expected: bool| {
            let edit: Edit = serde_json::from_value(edit).unwrap();
            assert_eq!(edit.is_about_name(&id.parse().unwrap()), expected, "{edit:?} {id}");
        };
        check(json!({ "change": "delete" }), "topic/core/orders.a", true);
        check(json!({ "change": "delete" }), "service/orders", false);
        check(json!({ "change": "delete", "kinds": ["service"] }), "service/orders", true);
        check(json!({ "change": "delete", "kinds": ["cluster"] }), "cluster/core", false);
        check(json!({ "change": "rotate" }), "topic/core/orders.a", false);
        check(json!({ "change": "rotate" }), "user/core/app", true);
        check(json!({ "change": "delete", "names": ["orders.*"] }), "topic/core/orders.a", true);
        check(json!({ "change": "delete", "names": ["orders.*"] }), "topic/core/order", false);
        check(json!({ "change": "delete", "names": ["orders"] }), "topic/core/orders.a", false);
        check(json!({ "change": "delete", "kinds": ["user"], "names": ["*"] }), "topic/core/orders.a", false);
    }
}
