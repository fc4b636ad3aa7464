//! Brakes of event types: put on, lifted, listed.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::Api;
use super::extract::{Json, Named};
use super::guard::Caller;
use super::problem::{Problem, kinds};
use super::requests::Page;
use crate::control::brake::{Brake, BrakeError, Hold};

/// The body of `PUT /v1/event_types/{name}/brake`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBrake {
    /// Whether nothing is let through.
    #[serde(default)]
    pub disabled: bool,
    /// The share of events that is let through, more than 0 and less than 1.
    #[serde(default)]
    pub sample: Option<f64>,
    /// Why, for everybody else.
    pub reason: String,
}

/// `PUT /v1/event_types/{name}/brake`: in force in the proxies with their next snapshot.
pub async fn put(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    Json(new): Json<NewBrake>,
) -> Result<Response, Problem> {
    let hold = Hold { disabled: new.disabled, sample: new.sample };
    let brake = api.desk.brake(&caller.actor, &id, hold, &new.reason, &caller.source).await?;
    api.snapshots.look_now();
    Ok(axum::Json(brake).into_response())
}

/// `DELETE /v1/event_types/{name}/brake`
pub async fn lift(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
) -> Result<Response, Problem> {
    api.desk.lift_brake(&caller.actor, &id, &caller.source).await?;
    api.snapshots.look_now();
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET /v1/brakes`: those that are on.
pub async fn list(State(api): State<Api>) -> Result<Response, Problem> {
    let items = api.store.brakes::<Brake>().await?;
    Ok(axum::Json(Page { items, next: None }).into_response())
}

impl From<BrakeError> for Problem {
    fn from(error: BrakeError) -> Problem {
        let detail = error.to_string();
        match error {
            BrakeError::Store(error) => error.into(),
            BrakeError::Unknown(_) | BrakeError::NotOn(_) => Problem::new(kinds::NOT_FOUND, detail),
            BrakeError::NotYours { .. } => Problem::new(kinds::FORBIDDEN, detail),
            BrakeError::Hold | BrakeError::Reason => Problem::new(kinds::INVALID, detail),
        }
    }
}
