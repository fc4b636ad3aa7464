//! A request's body as a batch of events, read one at a time.
//!
//! In: the body, in one of three forms. Out: its events in order, each with an error of its own, or one error for a body of
//! which nothing is taken. Never: an event parsed before it is asked for, but a body of one event.
//!
//! What makes a whole body bad: JSON that is not one valid text, Protobuf whose events cannot be told apart, no event at all,
//! too many. Lines of NDJSON stand for themselves: a bad one is that event's error.

use std::vec::IntoIter;

use super::json::{self, Failure};
use super::scan::{Kind, Problem, Scanner, SyntaxError};
use super::wire::{Field, Fields, WireError};
use super::{Event, Unreadable, protobuf};
use crate::outcome::{Code, EventError};

/// The forms a body comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON: one event object, an array of them, or `{"events":[…]}`.
    Json,
    /// One JSON event a line; blank lines are skipped and not counted.
    Ndjson,
    /// `iguazu.v1.EventBatch`.
    Protobuf,
}

/// The events of one body. An error is the body's: nothing of it is taken. An item's error is that event's alone.
#[derive(Debug)]
pub struct Batch<'a> {
    source: Source<'a>,
    remaining: usize,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one value a request, which a box would cost an allocation")]
enum Source<'a> {
    /// A body that is one event: it is read already, since checking its syntax is most of the work.
    One(Option<Result<Event<'a>, Unreadable<'a>>>),
    /// The elements of a JSON array, known to be valid JSON.
    Elements(IntoIter<&'a str>),
    Lines(Lines<'a>),
    Messages(Fields<'a>),
}

impl<'a> Batch<'a> {
    /// Checks the body as a whole as far as its form asks, and counts its events.
    ///
    /// # Errors
    /// [`Code::InvalidBody`] with line and column, byte, or reason; [`Code::BatchTooLong`] over `events_max` events.
    pub fn parse(form: Form, body: &'a [u8], events_max: usize) -> Result<Batch<'a>, EventError> {
        let batch = match form {
            Form::Json => json(body, events_max)?,
            Form::Ndjson => ndjson(body, events_max)?,
            Form::Protobuf => messages(body, events_max)?,
        };
        match batch.remaining {
            0 => Err(invalid_body("the body holds no event")),
            n if n > events_max => Err(too_long(events_max)),
            _ => Ok(batch),
        }
    }

    /// Number of events still to come.
    pub fn remaining(&self) -> usize {
        self.remaining
    }
}

impl<'a> Iterator for Batch<'a> {
    type Item = Result<Event<'a>, Unreadable<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = match &mut self.source {
            Source::One(event) => event.take()?,
            Source::Elements(elements) => {
                let text = elements.next()?;
                element(text).map_err(|error| json::unreadable(text.as_bytes(), error))
            }
            Source::Lines(lines) => {
                let (number, text) = lines.next()?;
                line(number, text).map_err(|error| json::unreadable(text, error))
            }
            Source::Messages(fields) => {
                let message = next_message(fields)?;
                protobuf::event(message).map_err(|error| protobuf::unreadable(message, error))
            }
        };
        self.remaining -= 1;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Batch<'_> {}

fn json(body: &[u8], events_max: usize) -> Result<Batch<'_>, EventError> {
    let text = simdutf8::compat::from_utf8(body)
        .map_err(|e| invalid_body(format!("the body is not valid UTF-8 at byte {}", e.valid_up_to())))?;
    if text.trim_ascii().is_empty() {
        return Err(invalid_body("the body is empty"));
    }
    let mut scanner = Scanner::new(text);
    let kind = scanner.kind().map_err(|e| invalid_json(text, e))?;
    if kind == Kind::Array {
        let spans = elements(&mut scanner, events_max).map_err(|e| e.of(text, events_max))?;
        return Ok(Batch { remaining: spans.len(), source: Source::Elements(spans.into_iter()) });
    }
    if kind != Kind::Object {
        let what = "the body must be an event, an array of events, or `{\"events\": […]}`, it is";
        return Err(invalid_body(format!("{what} {}", kind.named())));
    }
    let item = match json::event(&mut scanner) {
        Ok(event) => scanner.end().map(|()| Ok(event)).map_err(|e| invalid_json(text, e))?,
        Err(Failure::Syntax(error)) => return Err(invalid_json(text, error)),
        Err(Failure::Batch) => return wrapped(text, events_max),
        Err(Failure::Event(error)) => {
            // The event is refused, but only if the text around it is JSON at all.
            let mut scanner = Scanner::new(text);
            match scanner.value().and_then(|_| scanner.end()) {
                Err(e) if !e.is_too_deep() => return Err(invalid_json(text, e)),
                _ => Err(json::unreadable(body, error)),
            }
        }
    };
    Ok(Batch { source: Source::One(Some(item)), remaining: 1 })
}

/// `{"events":[…]}`, with nothing beside it: what stood there would apply to no event.
fn wrapped(text: &str, events_max: usize) -> Result<Batch<'_>, EventError> {
    let mut scanner = Scanner::new(text);
    let spans = members(&mut scanner, events_max).map_err(|e| e.of(text, events_max))?;
    scanner.end().map_err(|e| invalid_json(text, e))?;
    Ok(Batch { remaining: spans.len(), source: Source::Elements(spans.into_iter()) })
}

/// Why the events of a JSON body cannot be told apart.
enum Refusal {
    Syntax(SyntaxError),
    Shape(&'static str),
    TooLong,
}

impl From<SyntaxError> for Refusal {
    fn from(error: SyntaxError) -> Self {
        Refusal::Syntax(error)
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Syntax(error) => Refusal::Syntax(error),
            Problem::LoneSurrogate => Refusal::Shape("a member's name escapes half of a surrogate pair"),
        }
    }
}

impl Refusal {
    #[cold]
    fn of(self, text: &str, events_max: usize) -> EventError {
        match self {
            Refusal::Syntax(error) => invalid_json(text, error),
            Refusal::Shape(what) => invalid_body(what),
            Refusal::TooLong => too_long(events_max),
        }
    }
}

fn members<'a>(scanner: &mut Scanner<'a>, events_max: usize) -> Result<Vec<&'a str>, Refusal> {
    let mut events = None;
    scanner.kind()?;
    let mut member = scanner.first_member()?;
    while let Some(name) = member {
        if name != "events" {
            return Err(Refusal::Shape("an object with `events` has nothing else; an event has no `events`"));
        }
        if events.is_some() {
            return Err(Refusal::Shape("`events` stands twice"));
        }
        if scanner.kind()? != Kind::Array {
            return Err(Refusal::Shape("`events` must be an array of events"));
        }
        events = Some(array(scanner, events_max)?);
        member = scanner.next_member()?;
    }
    Ok(events.unwrap_or_default())
}

fn elements<'a>(scanner: &mut Scanner<'a>, events_max: usize) -> Result<Vec<&'a str>, Refusal> {
    let spans = array(scanner, events_max)?;
    scanner.end()?;
    Ok(spans)
}

/// The elements of an array. Stops at the first too many: a megabyte of `[0,0,…` must not become many of spans.
fn array<'a>(scanner: &mut Scanner<'a>, events_max: usize) -> Result<Vec<&'a str>, Refusal> {
    let mut spans = Vec::new();
    let mut more = scanner.first_element();
    while more {
        if spans.len() == events_max {
            return Err(Refusal::TooLong);
        }
        spans.push(scanner.unread_value()?);
        more = scanner.next_element()?;
    }
    Ok(spans)
}

fn element(text: &str) -> Result<Event<'_>, EventError> {
    only_event(text, |line, column| format!("the event is not valid JSON at its line {line} column {column}"))
}

/// The event that is all of a text; `not_json` says that it is no JSON at a line and column of it.
fn only_event(text: &str, not_json: impl FnOnce(usize, usize) -> String) -> Result<Event<'_>, EventError> {
    let mut scanner = Scanner::new(text);
    let event = json::event(&mut scanner).and_then(|event| Ok(scanner.end().map(|()| event)?));
    event.map_err(|failure| match failure {
        Failure::Event(error) => error,
        Failure::Batch => json::unknown("events"),
        Failure::Syntax(error) => {
            let (line, column) = error.position(text);
            EventError::new(Code::MalformedJson, format!("{}: {}", not_json(line, column), error.what))
        }
    })
}

fn ndjson(body: &[u8], events_max: usize) -> Result<Batch<'_>, EventError> {
    let lines = Lines { rest: body, number: 0 };
    // One more than allowed is enough to know.
    let remaining = lines.clone().take(events_max.saturating_add(1)).count();
    Ok(Batch { source: Source::Lines(lines), remaining })
}

/// The lines that are not blank, with their number from 1, counted as an editor counts them. Lines end in LF or CRLF.
#[derive(Clone, Debug)]
struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let end = memchr::memchr(b'\n', self.rest).unwrap_or(self.rest.len());
            let line = &self.rest[..end];
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            self.number += 1;
            if !line.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r')) {
                return Some((self.number, line));
            }
        }
        None
    }
}

fn line(number: usize, line: &[u8]) -> Result<Event<'_>, EventError> {
    let text = simdutf8::compat::from_utf8(line).map_err(|e| {
        let message = format!("line {number} is not valid UTF-8 at byte {}", e.valid_up_to());
        EventError::new(Code::InvalidUtf8, message)
    })?;
    only_event(text, |_, column| format!("line {number} is not valid JSON at column {column}"))
}

/// Checks the framing of the whole batch. What is inside an event is that event's matter.
fn messages(body: &[u8], events_max: usize) -> Result<Batch<'_>, EventError> {
    let mut fields = Fields::new(body);
    let mut remaining = 0;
    while let Some((number, field)) = fields.next().map_err(invalid_protobuf)? {
        if let (1, Field::Bytes(_)) = (number, field) {
            remaining += 1;
        }
        if remaining > events_max {
            return Err(too_long(events_max));
        }
    }
    Ok(Batch { source: Source::Messages(Fields::new(body)), remaining })
}

fn next_message<'a>(fields: &mut Fields<'a>) -> Option<&'a [u8]> {
    loop {
        if let (1, Field::Bytes(message)) = fields.next().expect("the framing was checked when the batch was parsed")? {
            return Some(message);
        }
    }
}

#[cold]
fn invalid_body(message: impl Into<String>) -> EventError {
    EventError::new(Code::InvalidBody, message)
}

#[cold]
fn invalid_json(text: &str, error: SyntaxError) -> EventError {
    let (line, column) = error.position(text);
    invalid_body(format!("the body is not valid JSON at line {line} column {column}: {}", error.what))
}

#[cold]
fn invalid_protobuf(error: WireError) -> EventError {
    invalid_body(format!("the body is not an `iguazu.v1.EventBatch`: at byte {} {}", error.at, error.what))
}

#[cold]
fn too_long(events_max: usize) -> EventError {
    let message =
        format!("the body holds more than {events_max} events (`http.batch_events_max`); send smaller batches");
    EventError::new(Code::BatchTooLong, message)
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
