//! A request as it goes on, told to whoever listens (server-sent events).
//!
//! Each event is whole: who comes back after a break is told where everything stands, and misses nothing.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use super::Api;
use super::extract::Id;
use super::problem::Problem;
use super::requests::{RequestView, StepView, find, steps, view};
use crate::control::request::RequestState;

/// How often is looked for something new.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// How long one stream lasts; who still wants to know asks again. Shorter than what a connection lets a response take.
const LASTS: Duration = Duration::from_secs(45);
/// How soon that is, in milliseconds: what browsers and other clients go by.
const COME_BACK: Duration = Duration::from_millis(500);

/// `GET /v1/requests/{id}/events`: `step` for each step that has changed, `request` when the request has, `end` when nothing
/// more comes of it.
pub async fn follow(State(api): State<Api>, Id(id): Id) -> Result<Response, Problem> {
    find(&api, &id).await?;
    let watch = Watch { api, id, told: Told::default(), until: Instant::now() + LASTS, waiting: Vec::new() };
    let events = futures_util::stream::unfold(watch, async |mut watch| {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(event), watch))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(5))).into_response())
}

struct Watch {
    api: Api,
    id: String,
    told: Told,
    until: Instant,
    /// What is to be told next, the last one first.
    waiting: Vec<Event>,
}

/// What the listener knows.
#[derive(Default)]
struct Told {
    steps: Vec<StepView>,
    updated_ms: Option<i64>,
    ended: bool,
}

impl Watch {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop() {
                return Some(event);
            }
            if self.told.ended || self.api.stop.is_cancelled() || Instant::now() >= self.until {
                return None;
            }
            if self.told.updated_ms.is_some() {
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = self.api.stop.cancelled() => return None,
                }
            }
            // A store that does not answer ends the stream; whoever listens comes back.
            let steps = steps(&self.api, &self.id).await.ok()?;
            let row = find(&self.api, &self.id).await.ok()?;
            self.note(view(row, steps));
        }
    }

    fn note(&mut self, request: RequestView) {
        let mut events = Vec::new();
        for step in &request.steps {
            if !self.told.steps.contains(step) {
                events.push(event("step", step));
            }
        }
        self.told.steps.clone_from(&request.steps);
        let state = request.request.state;
        if self.told.updated_ms != Some(request.updated_ms) {
            events.push(event("request", &request.request));
            self.told.updated_ms = Some(request.updated_ms);
        }
        let goes_on = [RequestState::Pending, RequestState::Approved, RequestState::Applying];
        if !goes_on.contains(&state) {
            events.push(event("end", &serde_json::json!({ "state": state })));
            self.told.ended = true;
        }
        self.waiting.extend(events.into_iter().rev());
    }
}

fn event(name: &str, data: &impl serde::Serialize) -> Event {
    let text = serde_json::to_string(data).expect("what is shown has string keys and finite numbers");
    Event::default().event(name).retry(COME_BACK).data(text)
}
