//! Step 1: bytes in, replies out.
//!
//! In: HTTP requests, and the pipeline that their events go to. Out: a reply that says what is true of every event. Never:
//! looks into a payload, waits without a limit, holds more bytes of bodies and replies than the budget, or repeats a payload
//! or a key.
//!
//! | door | body |
//! |---|---|
//! | `POST /v1/events` (`events.rs`) | JSON event, array or `{"events":[…]}`; NDJSON; `iguazu.v1.EventBatch` |
//! | `POST /v1/events/{event}` (`event.rs`) | the bare payload, JSON or Protobuf; envelope in `ce-*` headers |
//!
//! A request goes: route, sender, parameters, media type, body (all of these can refuse it as a whole, with nothing taken),
//! then event by event along the pipeline, then the wait that it asked for, then the reply. What is no HTTP, and a head over its
//! limit, never come here: hyper answers them 400 and 431, without a body.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response};

use crate::auth::Sender;
use crate::config;
use crate::envelope;
use crate::outcome::Code;
use crate::pipeline::{Ask, Pipeline, Taken};
use crate::serve::{Drain, Handler, Peer};
use crate::telemetry::meters::{Door, HttpMeters};
use crate::telemetry::traces::{self, Tracer, Tracing};

mod admission;
mod api_key;
mod body;
mod decode;
mod dry_run;
mod event;
mod events;
mod media;
mod params;
mod refusal;
mod reply;
mod routes;

use admission::{Budget, Hold};
use media::Form;
use params::Params;
use refusal::Refusal;
use routes::Route;

/// What a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of one body, as sent and after decompression.
    pub body_bytes_max: usize,
    /// Most events of one request.
    pub batch_events_max: usize,
    /// How long a body may pause between two chunks.
    pub read_timeout: Duration,
    /// How long a reply waits for acknowledgements.
    pub ack_timeout: Duration,
}

/// All doors of one listener.
#[derive(Debug)]
pub struct Doors {
    pipeline: Arc<Pipeline>,
    limits: Limits,
    budget: Budget,
    drain: Drain,
    meters: Meters,
    tracer: Option<Arc<Tracer>>,
}

/// Where each door counts its replies.
#[derive(Debug)]
struct Meters {
    events: Arc<Door>,
    event: Arc<Door>,
    /// Requests that found no door, and the help page.
    other: Arc<Door>,
}

/// What traces know of a request.
#[derive(Clone, Copy)]
struct Trace<'a> {
    /// The trace context that it brought.
    parent: Option<&'a str>,
    /// None where there are no traces.
    tracing: Option<&'a Tracing<'a>>,
}

/// A request that found its door: everything but the body.
struct Asked<'a> {
    headers: &'a HeaderMap,
    params: Params,
    sender: Option<&'a Sender>,
    form: Form,
    trace: Trace<'a>,
    /// Where the door counts.
    door: &'a Door,
}

impl Doors {
    /// The doors in front of a pipeline. Their replies, and the bytes of their bodies, are counted in the meters.
    pub fn new(settings: &config::Http, pipeline: Arc<Pipeline>, meters: Arc<HttpMeters>) -> Doors {
        let limits = Limits {
            body_bytes_max: settings.body_bytes_max,
            batch_events_max: settings.batch_events_max,
            read_timeout: settings.read_timeout,
            ack_timeout: settings.ack_timeout,
        };
        let door = |name| meters.door(name);
        let doors = Meters { events: door("events"), event: door("event"), other: door("other") };
        let budget = Budget::new(settings.in_flight_bytes_max, meters);
        Doors { pipeline, limits, budget, drain: Drain::new(), meters: doors, tracer: None }
    }

    /// The same, with spans of what is sampled.
    pub fn traced(self, tracer: Option<Arc<Tracer>>) -> Doors {
        Doors { tracer, ..self }
    }

    /// What ends the listener of these doors.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Answers one request. May be dropped at any time: an event is either handed on and counted, or was never received.
    pub async fn handle(&self, request: Request<Incoming>, _peer: Peer) -> Response<Full<Bytes>> {
        let begun = Instant::now();
        let (head, body) = request.into_parts();
        let form = Form::asked_by(&head.headers);
        let traceparent = head.headers.get("traceparent").and_then(|value| value.to_str().ok());
        let parent = traceparent.filter(|text| envelope::is_traceparent(text));
        let tracing = self.tracer.as_ref().map(|tracer| Tracing::begin(tracer, parent));
        let trace = Trace { parent, tracing: tracing.as_ref() };
        let (meter, route, response) = match routes::find(&head.method, head.uri.path()) {
            Ok(Route::Help) => (&self.meters.other, "/", help()),
            Ok(Route::Events) => (&self.meters.events, "/v1/events", self.answer(None, &head, body, form, trace).await),
            Ok(Route::Event(name)) => {
                (&self.meters.event, "/v1/events/{event}", self.answer(Some(&name), &head, body, form, trace).await)
            }
            Err(refusal) => (&self.meters.other, "(none)", refused(refusal, &self.meters.other, form)),
        };
        let status = response.status().as_u16();
        meter.record(status, begun.elapsed());
        if let Some(tracing) = tracing {
            tracing.end(&traces::End { method: head.method.as_str(), route, status });
        }
        response
    }

    /// Everything that the two doors have in common. `event` is the name in the path, where the path has one.
    async fn answer(
        &self,
        event: Option<&str>,
        head: &Parts,
        body: Incoming,
        form: Form,
        trace: Trace<'_>,
    ) -> Response<Full<Bytes>> {
        let door = if event.is_some() { &self.meters.event } else { &self.meters.events };
        let answer = async {
            let sender = self.authenticate(&head.headers)?;
            let params = Params::parse(head.uri.query())?;
            let asked = Asked { headers: &head.headers, params, sender: sender.as_deref(), form, trace, door };
            match event {
                None => events::answer(self, &asked, body).await,
                Some(name) => event::answer(self, name, &asked, body).await,
            }
        };
        answer.await.unwrap_or_else(|refusal| refused(refusal, door, form))
    }

    /// The sender of a request; none when everybody may send.
    fn authenticate(&self, headers: &HeaderMap) -> Result<Option<Arc<Sender>>, Refusal> {
        let snapshot = self.pipeline.snapshot();
        let senders = snapshot.senders();
        if senders.is_open() {
            return Ok(None);
        }
        let sender = api_key::find(headers).and_then(|key| senders.find(key));
        sender.map(|sender| Some(Arc::clone(sender))).ok_or_else(Refusal::unauthenticated)
    }

    /// Waits as long as the request asked, and says what became of its events. The share of the budget that its body and its
    /// results had becomes that of the results, and then that of the reply.
    async fn settle(&self, mut taken: Taken, asked: &Asked<'_>, mut hold: Hold<'_>) -> Response<Full<Bytes>> {
        hold.set(taken.bytes());
        asked.door.take(taken.events);
        taken.wait(self.limits.ack_timeout, self.drain.last_call()).await;
        tell(&taken, asked);
        if let Some(tracing) = asked.trace.tracing {
            tracing.note(taken.events, taken.refused);
        }
        if !asked.params.all_results {
            taken.keep_only_telling();
        }
        reply::batch(&taken, asked.form, hold)
    }
}

impl Handler for Doors {
    type Body = Full<Bytes>;

    async fn respond(&self, request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
        self.handle(request, peer).await
    }
}

impl<'a> Asked<'a> {
    /// What the pipeline is asked for, with the time of now.
    fn ask(&self) -> Ask<'a> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ask {
            sender: self.sender,
            reply: self.params.reply,
            traceparent: self.trace.tracing.and_then(Tracing::traceparent).or(self.trace.parent),
            tracing: self.trace.tracing.filter(|_| !self.params.dry_run),
            door: self.door.name,
            received_ms: now.as_millis() as u64,
            all_results: self.params.all_results,
        }
    }
}

/// Counts what the reply says of each event. Those that simply went through have no result unless all were asked for.
fn tell(taken: &Taken, asked: &Asked<'_>) {
    let told = taken.results.len() as u64;
    let sampled_out = if asked.params.all_results { 0 } else { u64::from(taken.sampled_out) };
    let enqueued = u64::from(taken.events).saturating_sub(told + sampled_out);
    for (code, events) in [(Code::Enqueued, enqueued), (Code::SampledOut, sampled_out)] {
        if events > 0 {
            asked.door.tell(code, events);
        }
    }
    for run in taken.results.chunk_by(|one, next| one.code == next.code) {
        asked.door.tell(run[0].code, run.len() as u64);
    }
}

/// Counts a request that is refused whole, and says so.
#[cold]
fn refused(refusal: Refusal, door: &Door, form: Form) -> Response<Full<Bytes>> {
    door.refuse(refusal.code());
    refusal.reply(form)
}

/// What `GET /` answers, for somebody who tries the address.
const HELP: &str = "\
Iguazu takes events here.

POST /v1/events           {\"event\":\"NAME\",\"payload\":{...}}, an array of those, NDJSON, or iguazu.v1.EventBatch
POST /v1/events/NAME      the bare payload, JSON or Protobuf; envelope in ce-* headers

?reply=enqueued|durable|acknowledged  ?results=all|failed  ?dry_run=true|false
";

fn help() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(HELP.as_bytes())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

#[cfg(test)]
mod tests;
