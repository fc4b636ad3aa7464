//! The door `POST /v1/events`: many events, or one, each with its envelope inside.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Incoming;

use super::body::{self, Body};
use super::media::{self, Media};
use super::refusal::Refusal;
use super::{Asked, Doors, dry_run};
use crate::config;
use crate::envelope::Batch;
use crate::envelope::batch::Form;

pub(super) async fn answer(doors: &Doors, asked: &Asked<'_>, body: Incoming) -> Result<Response<Full<Bytes>>, Refusal> {
    let declared = Media::declared(asked.headers)?;
    let Body { bytes, mut hold } = body::read(body, asked.headers, &doors.limits, &doors.budget).await?;
    let media = match declared {
        Some(media) => media,
        None => Media::sniffed(&bytes)?,
    };
    let form = match media {
        Media::Json => Form::Json,
        Media::Ndjson => Form::Ndjson,
        Media::Protobuf => Form::Protobuf,
        // A datum has no envelope around it, so it does not say which event it is.
        Media::Avro => return Err(media::unsupported()),
    };
    let mut batch = Batch::parse(form, &bytes, doors.limits.batch_events_max)?;
    if asked.params.dry_run {
        return dry_run::answer(&doors.pipeline, batch, &asked.ask(), asked.form, hold).await;
    }
    // Every event may have a result. What there is no room to say is refused before an event is taken, since afterwards the
    // reply has to say it. One result is less than what a connection takes anyway.
    if batch.remaining() > 1 {
        hold.grow(batch.remaining() * config::RESULT_BYTES)?;
    }
    let taken = doors.pipeline.take(&mut batch, &asked.ask()).await;
    // Nothing that is waited for from here on needs the body.
    drop(batch);
    drop(bytes);
    Ok(doors.settle(taken, asked, hold).await)
}
