//! The admin listener's answers: `/live`, `/ready`, `/startup`, `/metrics`, `/ledger`, `/rejections`.
//!
//! In: method and path. Out: status, content type and body. Never: a socket; `serve` has those.

use std::sync::Arc;

use serde::Serialize;

use super::export::{self, Exporter};
use super::health::{self, Health, Measured};
use super::ledger::Books;
use crate::outcome::{Ledger, Rejection};

/// What the answers are made from.
pub struct AdminState {
    /// What the parts say of themselves.
    pub health: Arc<Health>,
    /// The metrics.
    pub exporter: Exporter,
    /// The accounts of all events.
    pub books: Books,
    /// The same, for the last rejections.
    pub ledger: Arc<Ledger>,
    /// Measures what [`Health`] is not told. Called with every probe, so it must be cheap and must not wait.
    pub measure: Box<dyn Fn() -> Measured + Send + Sync>,
}

impl std::fmt::Debug for AdminState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminState").field("health", &self.health).field("exporter", &self.exporter).finish()
    }
}

/// A reply of the admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// The body; the listener leaves it out for `HEAD`.
    pub body: String,
}

const PATHS: &str = "/live, /ready, /startup, /metrics, /ledger, /rejections and /rejections/EVENT";

/// Answers a request. `path` is the path alone, without a query.
pub fn respond(method: &str, path: &str, state: &AdminState) -> Reply {
    let probe: fn(&health::View) -> health::Answer = match path {
        "/live" => health::live,
        "/ready" => health::ready,
        "/startup" => health::startup,
        "/metrics" => return metrics(method, state),
        "/ledger" => return ledger(method, state),
        "/rejections" => return rejections(method, None, state),
        path if let Some(event) = path.strip_prefix("/rejections/") => return rejections(method, Some(event), state),
        _ => return text(404, format!("there is no such path here; there are {PATHS}\n")),
    };
    if !is_reading(method) {
        return not_allowed();
    }
    let answer = probe(&state.health.view((state.measure)()));
    Reply { status: answer.status, content_type: "application/json", body: answer.body }
}

fn metrics(method: &str, state: &AdminState) -> Reply {
    match is_reading(method) {
        true => Reply { status: 200, content_type: export::CONTENT_TYPE, body: state.exporter.render() },
        false => not_allowed(),
    }
}

fn ledger(method: &str, state: &AdminState) -> Reply {
    if !is_reading(method) {
        return not_allowed();
    }
    let mut body = serde_json::to_string(&state.books.statement()).expect("plain structs of strings and numbers");
    body.push('\n');
    Reply { status: 200, content_type: "application/json", body }
}

/// The last rejections, of one event type or of all that have some; never a payload's value.
fn rejections(method: &str, event: Option<&str>, state: &AdminState) -> Reply {
    if !is_reading(method) {
        return not_allowed();
    }
    let accounts = state.ledger.accounts();
    let wanted = accounts.iter().filter(|account| event.is_none_or(|event| account.event == event));
    let read: Vec<_> = wanted.map(|account| (account, account.recent.read())).collect();
    let shown = read.iter().filter(|(_, rejections)| event.is_some() || !rejections.is_empty());
    let events = shown.map(|(account, rejections)| RejectedOf {
        event: &account.event,
        cluster: &account.cluster,
        rejections: rejections.iter().map(ShownRejection::from).collect(),
    });
    let body = Rejections { events: events.collect() };
    let mut body = serde_json::to_string(&body).expect("plain structs of strings and numbers");
    body.push('\n');
    Reply { status: 200, content_type: "application/json", body }
}

#[derive(Serialize)]
struct Rejections<'a> {
    events: Vec<RejectedOf<'a>>,
}

#[derive(Serialize)]
struct RejectedOf<'a> {
    event: &'a str,
    cluster: &'a str,
    rejections: Vec<ShownRejection<'a>>,
}

#[derive(Serialize)]
struct ShownRejection<'a> {
    received_ms: u64,
    code: &'static str,
    message: &'a str,
    sender: Option<&'a str>,
    door: &'static str,
}

impl<'a> From<&'a Rejection> for ShownRejection<'a> {
    fn from(rejection: &'a Rejection) -> Self {
        let Rejection { received_ms, code, message, sender, door } = rejection;
        ShownRejection { received_ms: *received_ms, code: code.as_str(), message, sender: sender.as_deref(), door }
    }
}

fn is_reading(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}

fn not_allowed() -> Reply {
    text(405, "only GET and HEAD are answered here\n".to_owned())
}

fn text(status: u16, body: String) -> Reply {
    Reply { status, content_type: "text/plain; charset=utf-8", body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Code, EventError};
    use crate::telemetry::health::Buffer;

    fn state(fill: f64) -> AdminState {
        AdminState {
            health: Arc::default(),
            exporter: Exporter::new(vec![]),
            books: Books::open(Arc::default()),
            ledger: Arc::default(),
            measure: Box::new(move || Measured {
                buffers: vec![Buffer { cluster: "core".into(), lane: "standard", fill }],
                ..Measured::default()
            }),
        }
    }

    #[track_caller]
    fn check(method: &str, path: &str, state: &AdminState, status: u16, body: &str) {
        let reply = respond(method, path, state);
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.body);
        assert!(reply.body.contains(body), "{method} {path}: {}", reply.body);
    }

    #[test]
    fn every_path_answers_and_others_name_them() {
        let state = state(0.0);
        check("GET", "/", &state, 404, PATHS);
        check("GET", "/ready/", &state, 404, PATHS);
        check("POST", "/ready", &state, 405, "GET");
        check("DELETE", "/metrics", &state, 405, "GET");
        check("GET", "/startup", &state, 503, r#""started":false"#);
        check("GET", "/ready", &state, 503, r#""ready":false"#);
        check("HEAD", "/live", &state, 200, r#""live":true"#);
        check("GET", "/metrics", &state, 200, "# TYPE iguazu_build_info gauge");
        check("GET", "/ledger", &state, 200, r#""holds":true"#);
        check("POST", "/ledger", &state, 405, "GET");
        check("POST", "/rejections", &state, 405, "GET");
        check("GET", "/rejections/", &state, 200, r#"{"events":[]}"#);
        assert_eq!(respond("GET", "/metrics", &state).content_type, export::CONTENT_TYPE);
    }

    #[test]
    fn the_last_rejections_are_shown_of_all_or_of_one() {
        let state = state(0.0);
        let account = state.ledger.account("orders.placed", "core");
        state.ledger.account("quiet", "core");
        let error = EventError::new(Code::InvalidPayload, "`$.total` is a string, a number is needed");
        account.recent.note(|| Rejection::new(&error, 7, Some("shop"), "events"));
        let one = r#"{"received_ms":7,"code":"invalid_payload","message":"`$.total` is a string, a number is needed","sender":"shop","door":"events"}"#;
        let expected = format!(r#"{{"events":[{{"event":"orders.placed","cluster":"core","rejections":[{one}]}}]}}"#);
        check("GET", "/rejections", &state, 200, &expected);
        check("GET", "/rejections/orders.placed", &state, 200, &expected);
        check("GET", "/rejections/quiet", &state, 200, r#""event":"quiet","cluster":"core","rejections":[]"#);
    }

    #[test]
    fn what_is_measured_at_the_probe_counts() {
        let state = state(0.95);
        state.health.set_started();
        check("GET", "/ready", &state, 503, "core 95 %");
        check("GET", "/startup", &state, 200, r#""started":true"#);
        check("GET", "/live", &state, 200, r#""live":true"#);
    }
}
