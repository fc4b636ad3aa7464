//! The door `POST /v1/events/{event}`: the body is one event's payload and nothing else, its envelope is in the headers.

use std::borrow::Cow;
use std::iter;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::HeaderMap;

use super::media::{self, Media};
use super::refusal::Refusal;
use super::{Asked, Doors, body, dry_run};
use crate::envelope::{Event, Payload, bare};
use crate::outcome::{Code, EventError};

pub(super) async fn answer(
    doors: &Doors,
    name: &str,
    asked: &Asked<'_>,
    body: Incoming,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let declared = Media::declared(asked.headers)?;
    let mut body = body::read(body, asked.headers, &doors.limits, &doors.budget).await?;
    let media = match declared {
        Some(media) => media,
        None => Media::sniffed(&body.bytes)?,
    };
    let payload = match media {
        Media::Json => Payload::Json(&body.bytes),
        Media::Protobuf => Payload::Protobuf(&body.bytes),
        Media::Ndjson => return Err(media::unsupported()),
    };
    // An envelope that cannot be read is that event's error, and is counted like any other.
    let mut events = iter::once(event(name, payload, asked.headers));
    if asked.params.dry_run {
        return dry_run::answer(&doors.pipeline, events, &asked.ask(), &mut body.hold).await;
    }
    let taken = doors.pipeline.take(&mut events, &asked.ask()).await;
    drop(events);
    drop(body);
    Ok(doors.settle(taken, asked).await)
}

fn event<'a>(name: &'a str, payload: Payload<'a>, headers: &'a HeaderMap) -> Result<Event<'a>, EventError> {
    let pairs = || headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    if headers.contains_key("ce-type")
        && let Some(typed) = bare::event_name(pairs())?
        && typed != name
    {
        let message = "`ce-type` and the path name different events; leave `ce-type` out";
        return Err(EventError::new(Code::InvalidEnvelope, message));
    }
    let (envelope, schema) = bare::from_headers(pairs())?;
    Ok(Event { name: Cow::Borrowed(name), payload, envelope, schema })
}
