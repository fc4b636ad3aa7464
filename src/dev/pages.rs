//! `GET /dev/events?event=`, `GET /dev/rejected`, `POST /dev/reset`: what a test asserts on, on the proxy's own port.
//!
//! In: method, path and query of a request. Out: JSON. May take seconds: not for a thread that serves events. Never: a
//! payload of a rejected event.

use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::decode::{self, Decoder, Line};
use super::read_back::Consumed;
use super::rejected::Rejected;
use super::seen::{Seen, SeenError};
use crate::route::EventType;

/// Records that one answer holds at most, and when nothing is said.
const LIMIT_MAX: usize = 10_000;
const LIMIT: usize = 100;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// JSON.
    pub body: String,
}

/// A record as Kafka holds it.
#[derive(Clone, Debug)]
pub struct Raw {
    /// The record.
    pub record: Arc<Consumed>,
    /// What names its schema, for people; empty for bare JSON.
    pub schema: String,
}

/// Everything the pages tell from.
pub struct Pages {
    seen: Seen,
    rejected: Arc<Rejected>,
    decoder: Mutex<Decoder>,
    event_types: Vec<EventType>,
}

impl Pages {
    /// The pages of these event types.
    pub fn new(seen: Seen, rejected: Arc<Rejected>, decoder: Decoder, event_types: Vec<EventType>) -> Pages {
        Pages { seen, rejected, decoder: Mutex::new(decoder), event_types }
    }

    /// Answers a request.
    pub fn answer(&self, method: &str, path: &str, query: &str) -> Page {
        match (method, path) {
            ("GET", "/dev/events") => self.events(query),
            ("GET", "/dev/rejected") => json(200, &self.rejected.list()),
            ("POST", "/dev/reset") => self.reset(),
            (_, "/dev/events" | "/dev/rejected" | "/dev/reset") => error(405, "this path takes another method"),
            _ => error(404, "there are `/dev/events`, `/dev/rejected` and `/dev/reset`"),
        }
    }

    /// The records of an event that Kafka holds now, as [`Line`]s, oldest first within each partition.
    pub fn lines(&self, event: &str) -> Result<Vec<Line>, SeenError> {
        let event_type = self.event_types.iter().find(|event_type| event_type.name == event);
        let event_type = event_type.ok_or_else(|| SeenError::UnknownEvent { event: event.to_owned() })?;
        let records = self.seen.records(&event_type.topic)?;
        let decoder = self.decoder.lock().expect("no code panics while it holds this lock");
        let lines = records.iter().map(|record| decoder.line(record, &event_type.sensitive));
        Ok(lines.filter(|line| line.event.as_deref().is_none_or(|of| of == event)).collect())
    }

    /// One record as Kafka holds it, and what names its schema.
    pub fn raw(&self, event: &str, partition: i32, offset: i64) -> Result<Option<Raw>, SeenError> {
        let event_type = self.event_types.iter().find(|event_type| event_type.name == event);
        let event_type = event_type.ok_or_else(|| SeenError::UnknownEvent { event: event.to_owned() })?;
        let records = self.seen.records(&event_type.topic)?;
        let found = records.into_iter().find(|record| record.partition == partition && record.offset == offset);
        Ok(found.map(|record| {
            let decoder = self.decoder.lock().expect("no code panics while it holds this lock");
            let envelope = decode::envelope(&record).ok();
            let value = record.value.as_deref().unwrap_or_default();
            let payload = decoder.payload(value, envelope.as_ref(), &[]);
            Raw { schema: payload.map(|payload| payload.schema).unwrap_or_default(), record }
        }))
    }

    fn events(&self, query: &str) -> Page {
        let (mut event, mut limit) = (None, LIMIT);
        for (name, value) in parameters(query) {
            match (name.as_str(), value.parse()) {
                ("event", _) => event = Some(value),
                ("limit", Ok(n)) if (1..=LIMIT_MAX).contains(&n) => limit = n,
                ("limit", _) => return error(400, &format!("`limit` is a number from 1 to {LIMIT_MAX}")),
                (other, _) => {
                    return error(400, &format!("there is no parameter `{other}`; there are `event` and `limit`"));
                }
            }
        }
        let Some(event) = event else { return error(400, "name the event: `/dev/events?event=NAME`") };
        match self.lines(&event) {
            Ok(lines) => json(200, &lines[lines.len().saturating_sub(limit)..]),
            Err(unknown @ SeenError::UnknownEvent { .. }) => error(404, &unknown.to_string()),
            Err(other) => error(503, &super::with_causes(&other)),
        }
    }

    fn reset(&self) -> Page {
        self.rejected.reset();
        let topics: Vec<_> = self.event_types.iter().map(|event_type| event_type.topic.clone()).collect();
        match self.seen.reset(&topics) {
            Ok(()) => json(200, &serde_json::json!({})),
            Err(problem) => error(503, &super::with_causes(&problem)),
        }
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

fn json(status: u16, value: &(impl Serialize + ?Sized)) -> Page {
    let body = serde_json::to_string(value).expect("strings, numbers and JSON that was checked");
    Page { status, body }
}

fn error(status: u16, message: &str) -> Page {
    json(status, &serde_json::json!({ "error": message }))
}

fn parameters(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// Undoes the percent-encoding of a query.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = (first == b'%').then(|| after.get(..2)).flatten().and_then(|digits| std::str::from_utf8(digits).ok());
        rest = match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                &after[2..]
            }
            None => {
                bytes.push(if first == b'+' { b' ' } else { first });
                after
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_browsers_write_it() {
        let pairs: Vec<_> = parameters("event=a%2Eb+c&limit=&x").collect();
        let text = |text: &str| text.to_owned();
        assert_eq!(pairs, [(text("event"), text("a.b c")), (text("limit"), text("")), (text("x"), text(""))]);
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }
}
