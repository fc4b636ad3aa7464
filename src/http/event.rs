//! The door `POST /v1/events/{event}`: the body is one event's payload and nothing else, its envelope is in the headers.

use std::borrow::Cow;
use std::iter;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::HeaderMap;

use super::body::{self, Body};
use super::media::{self, Media};
use super::refusal::Refusal;
use super::{Asked, Doors, dry_run};
use crate::envelope::{Event, Payload, Sent, Unreadable, bare};
use crate::outcome::{Code, EventError};

pub(super) async fn answer(
    doors: &Doors,
    name: &str,
    asked: &Asked<'_>,
    body: Incoming,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let declared = Media::declared(asked.headers)?;
    let Body { bytes, hold } = body::read(body, asked.headers, &doors.limits, &doors.budget).await?;
    let media = match declared {
        Some(media) => media,
        None if bytes.is_empty() => return Err(empty()),
        None => Media::sniffed(&bytes)?,
    };
    let payload = match media {
        Media::Json if bytes.trim_ascii().is_empty() => return Err(empty()),
        Media::Json => Payload::Json(&bytes),
        Media::Protobuf => Payload::Protobuf(&bytes),
        Media::Avro => Payload::Avro(&bytes),
        Media::Ndjson => return Err(media::unsupported()),
    };
    // An envelope that cannot be read is that event's error, and is counted like any other.
    let event = event(name, payload, asked.headers);
    let sent = Sent::Payload(payload);
    let mut events = iter::once(event.map_err(|error| Unreadable { name: Some(name.into()), id: None, error, sent }));
    if asked.params.dry_run {
        return dry_run::answer(&doors.pipeline, events, &asked.ask(), asked.form, hold).await;
    }
    let taken = doors.pipeline.take(&mut events, &asked.ask()).await;
    drop(events);
    drop(bytes);
    Ok(doors.settle(taken, asked, hold).await)
}

/// JSON has no empty text; a Protobuf message may well be empty.
#[cold]
fn empty() -> Refusal {
    let message = "the body is empty; it must be the event's payload, `{}` if there is nothing to say \
        (only with `Content-Type: application/x-protobuf` an empty body is a message)";
    Refusal::new(Code::InvalidBody, message)
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
