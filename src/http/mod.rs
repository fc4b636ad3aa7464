//! Step 1, provisional.
use crate::auth::Sender;
use crate::config;
use crate::envelope::{Batch, batch::Form};
use crate::pipeline::{Ask, Pipeline};
use crate::serve::{Drain, Peer};
use crate::telemetry::meters::{Door, HttpMeters};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use std::sync::Arc;
use std::time::Instant;
/// The doors.
#[derive(Debug)]
pub struct Doors {
    pipeline: Arc<Pipeline>,
    drain: Drain,
    door: Arc<Door>,
    settings: config::Http,
}
impl Doors {
    /// New.
    pub fn new(settings: &config::Http, pipeline: Arc<Pipeline>, meters: Arc<HttpMeters>) -> Doors {
        Doors { pipeline, drain: Drain::new(), door: meters.door("events"), settings: settings.clone() }
    }
    /// Drain.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }
    /// Handle.
    pub async fn handle(&self, request: Request<Incoming>, _peer: Peer) -> Response<Full<Bytes>> {
        let begun = Instant::now();
        let query = request.uri().query().unwrap_or("").to_owned();
        let form = match request.headers().get("content-type").map(|v| v.as_bytes()) {
            Some(b"application/x-ndjson") => Form::Ndjson,
            Some(b"application/x-protobuf") => Form::Protobuf,
            _ => Form::Json,
        };
        let Ok(body) = Limited::new(request.into_body(), self.settings.body_bytes_max).collect().await else {
            return reply(413, "{}".into());
        };
        let body = body.to_bytes();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        let ask = Ask {
            sender: None::<&Sender>,
            reply: query.contains("reply=acknowledged").then_some(crate::route::Reply::Acknowledged),
            traceparent: None,
            received_ms: now,
            all_results: query.contains("results=all"),
        };
        let mut batch = match Batch::parse(form, &body, self.settings.batch_events_max) {
            Ok(batch) => batch,
            Err(e) => {
                return reply(
                    e.code.status(),
                    format!("{{\"code\":\"{}\",\"message\":{:?}}}", e.code.as_str(), e.message),
                );
            }
        };
        let mut taken = self.pipeline.take(&mut batch, &ask).await;
        taken.wait(self.settings.ack_timeout).await;
        let status = if taken.refused == 0 { 202 } else { 207 };
        if !ask.all_results {
            taken.keep_only_telling();
        }
        self.door.record(status, begun.elapsed());
        let results: Vec<String> = taken
            .results
            .iter()
            .map(|r| {
                format!(
                    "{{\"index\":{},\"id\":{:?},\"code\":\"{}\",\"message\":{:?},\"pos\":\"{:?}\"}}",
                    r.index,
                    r.id,
                    r.code.as_str(),
                    r.message,
                    r.position
                )
            })
            .collect();
        reply(
            status,
            format!("{{\"events\":{},\"failed\":{},\"results\":[{}]}}", taken.events, taken.refused, results.join(",")),
        )
    }
}
fn reply(status: u16, body: String) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap()
}
