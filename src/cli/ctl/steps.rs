//! The progress of a running request.
//!
//! In: server-sent events, and the request as the API shows it. Out: a line on stderr for each step, once it is done. Never: a step twice.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::time::Instant;

use super::client::Client;
use super::show::{cell, say};
use super::sse::Reader;

/// The steps that were told.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeSet<i64>);

impl Told {
    /// Tells steps as they are done, until the stream of them ends or the time is up.
    pub(super) async fn follow(&mut self, client: &Client, id: &str, until: Instant) {
        let url = client.at(["v1", "requests", id, "events"]);
        let told = async {
            let Ok(mut response) = client.stream(&url, "text/event-stream").await else { return };
            let mut reader = Reader::default();
            while let Ok(Some(piece)) = response.chunk().await {
                let Ok(events) = reader.read(&piece) else { return };
                for event in events {
                    match event.name.as_str() {
                        "step" => _ = serde_json::from_str(&event.data).map(|step| self.tell_step(&step)),
                        "end" => return,
                        _ => {}
                    }
                }
            }
        };
        let _ = tokio::time::timeout_at(until, told).await;
    }

    /// Tells what is new in a request; says whether anything is.
    pub(super) fn tell(&mut self, request: &Value) -> bool {
        let mut is_new = false;
        for step in request["steps"].as_array().into_iter().flatten() {
            is_new |= self.tell_step(step);
        }
        is_new
    }

    fn tell_step(&mut self, step: &Value) -> bool {
        let (Some(seq), Some(line)) = (step["seq"].as_i64(), line(step)) else { return false };
        let is_new = self.0.insert(seq);
        if is_new {
            // Nothing is left to do when nobody listens.
            let _ = say(&line);
        }
        is_new
    }
}

/// `  done  create topic orders.placed.v1 (34 ms)`; none for what is not done yet.
fn line(step: &Value) -> Option<String> {
    let state = step["state"].as_str().filter(|state| matches!(*state, "done" | "failed"))?;
    let summary = step["summary"].as_str()?;
    let took = step["result"]["ms"].as_u64().map(|ms| format!(" ({ms} ms)")).unwrap_or_default();
    let why = match &step["result"]["error"] {
        Value::Null => String::new(),
        error => format!(": {}", cell(error)),
    };
    Some(format!("  {state}  {summary}{took}{why}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_is_told_once_and_when_it_is_done() {
        let step = |seq: i64, state: &str, result: Value| json!({ "seq": seq, "state": state, "summary": "make it", "result": result });
        assert_eq!(line(&step(0, "begun", Value::Null)), None);
        assert_eq!(line(&step(0, "done", json!({ "ms": 34 }))).as_deref(), Some("  done  make it (34 ms)"));
        assert_eq!(line(&step(0, "failed", json!({ "error": "no" }))).as_deref(), Some("  failed  make it: no"));
        let mut told = Told::default();
        let request = json!({ "steps": [step(0, "done", Value::Null), step(1, "todo", Value::Null)] });
        assert_eq!((told.tell(&request), told.tell(&request)), (true, false));
    }
}
