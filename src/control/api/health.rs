//! What probes and scrapers ask; it is for everybody, so it tells little.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{Api, meters};
use crate::telemetry::export;

/// The process answers.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Health {
    live: bool,
}

/// Whether to send requests here.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Ready {
    /// Yes or no.
    ready: bool,
    /// Whether the store answers.
    store: bool,
    /// Whether it is being stopped.
    stopping: bool,
}

/// `GET /health`: the process answers.
pub async fn health() -> Response {
    axum::Json(Health { live: true }).into_response()
}

/// `GET /ready`: the store answers, and nobody stops this node.
pub async fn ready(State(api): State<Api>) -> Response {
    let store = api.store.ping().await.is_ok();
    let stopping = api.stop.is_cancelled();
    let ready = store && !stopping;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(Ready { ready, store, stopping })).into_response()
}

/// `GET /metrics`
pub async fn metrics(State(api): State<Api>) -> Response {
    let text = meters::render(&api).await;
    ([(header::CONTENT_TYPE, HeaderValue::from_static(export::CONTENT_TYPE))], text).into_response()
}
