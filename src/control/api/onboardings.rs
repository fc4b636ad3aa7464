//! An event from nothing to its first record, in one call of six fields.
//!
//! In: which event, whose, where, how much. Out: one request over all that it needs. Never: another way to change anything than a
//! request.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Api;
use super::extract::{Json, Params};
use super::guard::Caller;
use super::problem::Problem;
use super::requests::{ChangeParams, Wish, known_as, submit_if};
use crate::control::capacity::Capacity;
use crate::control::request::Request;
use crate::control::resource::{
    AccessSpec, EventTypeSpec, Kind, Level, Mechanism, Pattern, ResourceId, SenderSpec, Spec, TopicSpec, UserSpec,
};
use crate::control::world::Change;

/// The body of `POST /v1/onboardings`: what cannot be known; all else follows, and can be changed afterwards.
#[derive(Clone, Debug, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Onboarding {
    /// The event's name; also its topic's.
    pub event: String,
    /// The service that owns it; also the name of its sender or user.
    pub service: String,
    /// The cluster of its topic.
    pub cluster: String,
    /// Average megabytes (10^6) a second.
    pub mb_per_second: f64,
    /// The subject of its schema in the registry. Without one, events are JSON that nobody checks.
    #[serde(default)]
    pub subject: Option<String>,
    /// How it is sent.
    #[serde(default)]
    pub through: Through,
}

/// How events are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Through {
    /// By HTTP, with an API key.
    #[default]
    Proxy,
    /// By a Kafka client, with a user and password.
    Kafka,
}

/// `POST /v1/onboardings`
pub async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<ChangeParams>,
    headers: HeaderMap,
    Json(onboarding): Json<Onboarding>,
) -> Result<Response, Problem> {
    let changes = changes(&onboarding);
    let all: BTreeMap<_, _> = changes.iter().map(|change| (change.id.clone(), change.desired.clone())).collect();
    // What was there already when it was asked for was left out.
    let is_same = |request: &Request| {
        let mut planned = request.changes.iter();
        planned.all(|planned| all.get(&planned.resource) == Some(&planned.desired))
    };
    if let Some(known) = known_as(&api, &caller, &headers, params.dry_run, is_same).await? {
        return Ok(known);
    }
    let mut kept = Vec::with_capacity(changes.len());
    for change in changes {
        // A service has one sender and user for all its events: who has one keeps its key.
        let is_shared = matches!(change.id.kind, Kind::Sender | Kind::User);
        if !(is_shared && api.store.resource(&change.id).await?.is_some()) {
            kept.push(change);
        }
    }
    let reason = params.reason.unwrap_or_else(|| format!("onboard {}", onboarding.event));
    let wish = Wish::of_all(kept, reason, params.dry_run);
    submit_if(&api, &caller, &headers, wish, is_same).await
}

/// Everything that an event needs.
fn changes(onboarding: &Onboarding) -> Vec<Change> {
    let Onboarding { event, service, cluster, mb_per_second, subject, through } = onboarding.clone();
    let change = |id, spec| Change { id, desired: Some(spec), if_match: None };
    let topic = TopicSpec {
        service: service.clone(),
        capacity: Capacity::of(mb_per_second),
        tier: Default::default(),
        state_bytes: None,
        keyed: false,
        visibility: Default::default(),
        description: String::new(),
        expert: None,
    };
    let grant = |level| AccessSpec {
        service: service.clone(),
        level,
        target: event.clone(),
        pattern: Pattern::Literal,
        principal: service.clone(),
    };
    let access = |grant: AccessSpec| change(ResourceId::on(Kind::Access, &cluster, &grant.name()), Spec::Access(grant));
    let topic = change(ResourceId::on(Kind::Topic, &cluster, &event), Spec::Topic(topic));
    match through {
        Through::Kafka => {
            let user =
                UserSpec { service: service.clone(), mechanism: Mechanism::default(), generation: 1, sink: None };
            vec![
                topic,
                change(ResourceId::on(Kind::User, &cluster, &service), Spec::User(user)),
                access(grant(Level::Produce)),
            ]
        }
        Through::Proxy => {
            let sender = SenderSpec::of(&service);
            let settings = EventTypeSpec {
                service: service.clone(),
                cluster: cluster.clone(),
                topic: event.clone(),
                settings: settings(subject),
            };
            vec![
                topic,
                change(ResourceId::of(Kind::Sender, &service), Spec::Sender(sender)),
                change(ResourceId::of(Kind::EventType, &event), Spec::EventType(settings)),
                access(grant(Level::Publish)),
            ]
        }
    }
}

/// The event type's settings, in the words of the proxy's configuration.
fn settings(subject: Option<String>) -> Map<String, Value> {
    let encoding = if subject.is_some() { "avro" } else { "raw_json" };
    let subject = subject.map(|subject| ("subject".to_owned(), subject.into()));
    [("encoding".to_owned(), encoding.into())].into_iter().chain(subject).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(through: Through) -> Vec<String> {
        let onboarding = Onboarding {
            event: "order.placed".into(),
            service: "orders".into(),
            cluster: "core".into(),
            mb_per_second: 0.5,
            subject: Some("orders.v1.Placed".into()),
            through,
        };
        let changes = changes(&onboarding);
        // What is named by what it grants is named right, and nothing of it is wrong by itself.
        for change in &changes {
            assert_eq!(change.desired.as_ref().unwrap().violations(&change.id), vec![], "{}", change.id);
        }
        changes.iter().map(|change| change.id.to_string()).collect()
    }

    #[test]
    fn an_event_gets_all_that_its_way_needs_and_no_more() {
        assert_eq!(
            names(Through::Proxy),
            [
                "topic/core/order.placed",
                "sender/orders",
                "event_type/order.placed",
                "access/core/orders:publish:order.placed"
            ]
        );
        assert_eq!(
            names(Through::Kafka),
            ["topic/core/order.placed", "user/core/orders", "access/core/orders:produce:order.placed"]
        );
    }
}
