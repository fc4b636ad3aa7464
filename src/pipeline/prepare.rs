//! One event -> the record to produce. Does no I/O, keeps no state but the thread's buffers, never waits.

use std::time::Instant;

use metrics::Histogram;

use crate::envelope::headers::{self, HeaderBuffer, Stamp};
use crate::envelope::{self, Event, Payload, ids};
use crate::outcome::{Code, EventError};
use crate::produce::{Record, TopicHandle};
use crate::route::{Encoding, EventType, KeySource, MissingKey};
use crate::telemetry::export;
use crate::telemetry::metrics::TRANSCODE_DURATION;
use crate::telemetry::traces::DeliverySpan;
use crate::transcode::{Output, Scratch};

use super::{Ask, Live, Ready};

/// The source of an event that names none and whose sender is not known.
pub(super) const ANONYMOUS: &str = "anonymous";

/// Of so many events one is timed: two looks at the clock cost as much as a fifth of a small event's transcoding.
const TIMED_ONE_IN: u32 = 64;

/// A thread's buffers. Their contents are one event's; their memory is reused.
#[derive(Debug)]
pub(super) struct Work {
    scratch: Scratch,
    output: Output,
    headers: HeaderBuffer,
    properties: String,
    id: [u8; 36],
    /// Events that were prepared, wrapping; one in so many is timed.
    turn: u32,
    durations: [Histogram; Encoding::ALL.len()],
    /// What the events of the slice under way cost beyond ordinary ones, counted in ordinary ones.
    pub(super) extra_cost: u32,
}

impl Default for Work {
    fn default() -> Self {
        Work {
            scratch: Scratch::default(),
            output: Output::default(),
            headers: HeaderBuffer::default(),
            properties: String::new(),
            id: [0; 36],
            turn: 0,
            durations: Encoding::ALL.map(|encoding| export::histogram(&TRANSCODE_DURATION, &[encoding.as_str()])),
            extra_cost: 0,
        }
    }
}

/// A record in the thread's buffers, and what its reply should say.
pub(super) struct Prepared<'w> {
    pub(super) record: Record<'w>,
    pub(super) id: &'w str,
    /// Where it goes instead of the intended cluster, which takes nothing now.
    pub(super) stand_in: Option<&'w TopicHandle>,
    /// Fields that were left out.
    pub(super) dropped: u32,
    pub(super) warning: Option<String>,
    /// Of a sampled event: its delivery.
    pub(super) span: Option<Box<DeliverySpan>>,
}

/// Turns one event into the record to produce, and now and then notes how long that took.
pub(super) fn prepare<'w>(
    live: &'w Live,
    ready: &'w Ready,
    event: &'w Event<'_>,
    ask: &Ask<'w>,
    work: &'w mut Work,
) -> Result<Prepared<'w>, EventError> {
    work.turn = work.turn.wrapping_add(1);
    if work.turn % TIMED_ONE_IN != 0 {
        return make(live, ready, event, ask, work);
    }
    let duration = work.durations[live.event_type.encoding as usize].clone();
    let begun = Instant::now();
    let prepared = make(live, ready, event, ask, work);
    duration.record(begun.elapsed());
    prepared
}

fn make<'w>(
    live: &'w Live,
    ready: &'w Ready,
    event: &'w Event<'_>,
    ask: &Ask<'w>,
    work: &'w mut Work,
) -> Result<Prepared<'w>, EventError> {
    let event_type = &*live.event_type;
    work.output.clear();
    let schema_header = match &ready.schemas {
        None => {
            store_as_sent(event_type, event.payload, &mut work.output.value)?;
            &[][..]
        }
        Some(schemas) => {
            let schema = schemas.get(event.schema)?;
            work.output.value.extend_from_slice(&schema.prefix);
            work.extra_cost = work.extra_cost.saturating_add(schema.plan.extra_cost(event.payload.bytes().len()));
            schema.plan.transcode(event.payload, &mut work.scratch, &mut work.output)?;
            // The header lives as long as the snapshot; it is copied into the buffer below.
            schema.header.as_slice()
        }
    };
    let key = match &event_type.key {
        KeySource::None => None,
        KeySource::Envelope => event.envelope.key.as_deref().map(str::as_bytes),
        KeySource::Field(_) => work.output.has_key.then_some(work.output.key.as_slice()),
    };
    // An unset field without presence reads as empty, so for whoever insists on a key an empty one is none.
    if event_type.missing_key == MissingKey::Reject && key.is_none_or(<[u8]>::is_empty) {
        return Err(missing_key(event_type));
    }
    let hot_key = key.filter(|key| ready.hot_keys.as_ref().is_some_and(|hot| hot.is_hot(key, ask.received_ms)));
    let properties = match work.output.properties.is_empty() {
        true => event.envelope.properties.as_deref(),
        false => {
            add_properties(event.envelope.properties.as_deref(), &work.output.properties, &mut work.properties);
            Some(within(&work.properties)?)
        }
    };
    let id = match &event.envelope.id {
        Some(id) => id.as_ref(),
        None => ids::fresh(&mut work.id, ask.received_ms),
    };
    let sender = ask.sender.map(|sender| sender.name.as_str());
    let source = event.envelope.source.as_deref().or(sender).unwrap_or(ANONYMOUS);
    let own = event.envelope.traceparent.as_deref();
    let span = ask.tracing.and_then(|tracing| tracing.deliver(own, &event_type.topic));
    let traceparent = span.as_ref().map(|span| span.traceparent()).or(own).or(ask.traceparent);
    work.headers.clear();
    let stamp = Stamp { id, source, sender, properties, traceparent, received_ms: ask.received_ms, schema_header };
    headers::write(&event.envelope, &stamp, event_type, &mut work.headers);
    if let Some(key) = hot_key {
        work.headers.push(headers::HOT_KEY, key);
        live.account.note_hot_key();
    }
    let stand_in = ready.stand_in();
    if stand_in.is_some() {
        work.headers.push(headers::INTENDED_CLUSTER, event_type.cluster.as_bytes());
    }
    let key = if hot_key.is_some() { None } else { key };
    let record =
        Record { key, value: &work.output.value, headers: &work.headers, timestamp_ms: ask.received_ms as i64 };
    fits(&record, ready, event_type)?;
    let dropped = work.output.fields_dropped;
    let warning = (dropped > 0 || work.output.enums_defaulted > 0).then(|| warning(&work.output));
    Ok(Prepared { record, id, stand_in, dropped, warning, span })
}

/// `raw_json`: any JSON text, byte for byte.
fn store_as_sent(event_type: &EventType, payload: Payload<'_>, value: &mut Vec<u8>) -> Result<(), EventError> {
    debug_assert_eq!(event_type.encoding, Encoding::RawJson, "only raw_json has no schema");
    let Payload::Json(json) = payload else {
        let message = format!("event `{}` takes JSON only, its payloads have no schema", event_type.name);
        return Err(EventError::new(Code::WrongFormat, message));
    };
    envelope::check_json(json)?;
    value.extend_from_slice(json);
    Ok(())
}

/// Joins the envelope's properties and the unknown fields that moved there. The envelope's own win.
fn add_properties(own: Option<&str>, moved: &[u8], out: &mut String) {
    out.clear();
    out.push('{');
    out.push_str(std::str::from_utf8(moved).expect("the plan copies members from JSON that it checked"));
    // A later member of the same name wins with every common parser, so the envelope's own come last.
    let own = own.and_then(|json| json.trim().strip_prefix('{')?.strip_suffix('}')).unwrap_or("").trim();
    if !own.is_empty() {
        out.push(',');
        out.push_str(own);
    }
    out.push('}');
}

/// The limit of the properties that senders write holds for those that move there, too.
fn within(properties: &str) -> Result<&str, EventError> {
    let (bytes, limit) = (properties.len(), envelope::PROPERTIES_BYTES_MAX);
    if bytes <= limit {
        return Ok(properties);
    }
    let message = format!(
        "`properties` has {bytes} bytes with the payload's unknown fields, at most {limit} are allowed; leave some of them out"
    );
    Err(EventError::new(Code::InvalidEnvelope, message))
}

/// Refuses a record that its topic would refuse: librdkafka does not split a refused batch, so its neighbours would suffer.
fn fits(record: &Record<'_>, ready: &Ready, event_type: &EventType) -> Result<(), EventError> {
    let Some(limit) = ready.record_bytes_max else { return Ok(()) };
    let bytes = record.batch_bytes();
    if bytes <= limit {
        return Ok(());
    }
    let message = format!("the record has {bytes} bytes, topic `{}` takes {limit}", event_type.topic);
    Err(EventError::new(Code::EventTooLarge, message))
}

#[cold]
fn missing_key(event_type: &EventType) -> EventError {
    let wanted = match &event_type.key {
        KeySource::Field(path) => format!("its payload field `{path}`"),
        _ => "the envelope's `key`".to_owned(),
    };
    EventError::new(Code::MissingKey, format!("event `{}` needs a key: {wanted} is not set", event_type.name))
}

#[cold]
fn warning(output: &Output) -> String {
    let mut text = String::new();
    if output.fields_dropped > 0 {
        text = format!("{} unknown field(s) left out, the first at {}", output.fields_dropped, output.first_dropped);
    }
    if output.enums_defaulted > 0 {
        let join = if text.is_empty() { "" } else { "; " };
        text.push_str(&format!("{join}{} unknown enum number(s) stored as the default", output.enums_defaulted));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_stay_json_whatever_they_end_with() {
        for (own, moved, expected) in [
            (None, r#""x":2"#, r#"{"x":2}"#),
            (Some("{}"), r#""x":2"#, r#"{"x":2}"#),
            (Some(r#"{"a":{"b":1}}"#), r#""x":2"#, r#"{"x":2,"a":{"b":1}}"#),
            (Some(r#" { "a" : {"b":{}} } "#), r#""x":{"y":{}}"#, r#"{"x":{"y":{}},"a" : {"b":{}}}"#),
        ] {
            let mut joined = String::new();
            add_properties(own, moved.as_bytes(), &mut joined);
            assert_eq!(joined, expected);
            assert!(serde_json::from_str::<serde_json::Value>(&joined).is_ok(), "{joined}");
        }
    }

    #[test]
    fn what_moves_to_the_properties_is_within_their_limit() {
        let check = |bytes: usize, expected: Result<usize, Code>| {
            let properties = "x".repeat(bytes);
            assert_eq!(within(&properties).map(str::len).map_err(|error| error.code), expected);
        };
        check(4_097, Err(Code::InvalidEnvelope));
        check(4_096, Ok(4_096));
    }

    #[test]
    fn raw_json_is_json_and_utf8_and_not_too_deep() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for (payload, expected) in [
            (&b"{\"a\":\"\xff\"}"[..], Err(Code::InvalidUtf8)),
            (&b"{\"a\":1"[..], Err(Code::MalformedJson)),
            (&b"{} {}"[..], Err(Code::MalformedJson)),
            (&b""[..], Err(Code::MalformedJson)),
            (deep.as_bytes(), Err(Code::TooDeep)),
            (&b" {\"a\": [1, null]}\n"[..], Ok(())),
        ] {
            assert_eq!(envelope::check_json(payload).map_err(|error| error.code), expected);
        }
    }
}
