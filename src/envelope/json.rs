//! One event as JSON.
//!
//! In: the text of an object with the members of [`FIELDS`]. Out: an [`Event`] that borrows from it. Never: a tree, a look
//! into the payload beyond where it ends. An optional field that is `null` is as good as absent: many serializers write it so.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::scan::{Kind, Problem, Scanner, SyntaxError};
use super::{Envelope, Event, Payload, SchemaReference, Sent, Unreadable, depth, rules};
use crate::config;
use crate::outcome::EventError;

/// What an event may say, in the order of the documentation.
const FIELDS: [&str; 11] = [
    "event",
    "payload",
    "payload_base64",
    "id",
    "source",
    "time",
    "key",
    "properties",
    "headers",
    "schema",
    "traceparent",
];

/// Why no event came out.
#[derive(Debug)]
pub(super) enum Failure {
    /// The text is not JSON from here on; it may be a body that is refused whole.
    Syntax(SyntaxError),
    /// The text is an object with the member `events`: a batch, not an event.
    Batch,
    /// The event is refused. The text behind the place is not looked at yet.
    Event(EventError),
}

impl From<SyntaxError> for Failure {
    fn from(error: SyntaxError) -> Self {
        Failure::Syntax(error)
    }
}

impl From<EventError> for Failure {
    fn from(error: EventError) -> Self {
        Failure::Event(error)
    }
}

/// Reads the event that comes next; leaves the scanner behind it.
pub(super) fn event<'a>(scanner: &mut Scanner<'a>) -> Result<Event<'a>, Failure> {
    let kind = scanner.kind()?;
    if kind != Kind::Object {
        return Err(rules::invalid("event", format_args!("must be an object, it is {}", kind.named())).into());
    }
    let mut read = Read::default();
    let mut seen = 0u16;
    let mut member = scanner.first_member().map_err(|problem| lone("a name", problem))?;
    while let Some(name) = member {
        let Some(field) = FIELDS.iter().position(|field| *field == name) else {
            return Err(if name == "events" { Failure::Batch } else { unknown(&name).into() });
        };
        if seen & 1 << field != 0 {
            return Err(rules::invalid(FIELDS[field], "stands twice").into());
        }
        seen |= 1 << field;
        read.field(FIELDS[field], scanner)?;
        member = scanner.next_member().map_err(|problem| lone("a name", problem))?;
    }
    Ok(read.finish()?)
}

/// An event that cannot be read, with what can be read of it all the same: name and id, as far as its text is JSON.
#[cold]
pub(super) fn unreadable(text: &[u8], error: EventError) -> Unreadable<'_> {
    let sent = Sent::JsonEvent(text);
    // Whatever comes after the first byte that is no text is not looked at.
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(e) => std::str::from_utf8(&text[..e.valid_up_to()]).expect("it was just found valid up to here"),
    };
    let mut found = Unreadable { name: None, id: None, error, sent };
    // Stops where the text is no JSON; what was found by then is found.
    let _ = find_names(&mut Scanner::new(text), &mut found);
    found
}

fn find_names<'a>(scanner: &mut Scanner<'a>, found: &mut Unreadable<'a>) -> Result<(), Problem> {
    if scanner.kind()? != Kind::Object {
        return Ok(());
    }
    let mut member = scanner.first_member()?;
    while let Some(name) = member {
        let is_text = scanner.kind()? == Kind::String;
        match name.as_ref() {
            "event" if is_text => found.name = rules::event_name(scanner.string()?, "event").ok(),
            "id" if is_text => found.id = rules::id(scanner.string()?, "id").ok(),
            _ => drop(scanner.unread_value()?),
        }
        member = scanner.next_member()?;
    }
    Ok(())
}

/// What is read of an event so far.
#[derive(Default)]
struct Read<'a> {
    name: Option<Cow<'a, str>>,
    payload: Option<Payload<'a>>,
    schema: Option<SchemaReference>,
    envelope: Envelope<'a>,
}

impl<'a> Read<'a> {
    fn field(&mut self, field: &'static str, scanner: &mut Scanner<'a>) -> Result<(), Failure> {
        let envelope = &mut self.envelope;
        match field {
            "event" => self.name = Some(rules::event_name(required_string(scanner, field)?, field)?),
            "payload" => self.payload(Payload::Json(scanner.unread_value()?.as_bytes()))?,
            "payload_base64" => {
                if let Some(text) = base64_text(scanner, field)? {
                    self.payload(Payload::Base64(text.as_bytes()))?;
                }
            }
            "id" => envelope.id = checked(scanner, field, rules::id)?,
            "source" => envelope.source = checked(scanner, field, rules::source)?,
            "time" => envelope.time = checked(scanner, field, rules::time)?,
            "key" => envelope.key = checked(scanner, field, rules::key)?,
            "traceparent" => envelope.traceparent = checked(scanner, field, rules::traceparent)?,
            "properties" => {
                let json = value(scanner, field)?;
                if json != "null" {
                    envelope.properties = rules::properties(Cow::Borrowed(json), field)?;
                }
            }
            "headers" => headers(scanner, envelope)?,
            "schema" => self.schema = schema(scanner)?,
            _ => unreachable!("every name of `FIELDS` has an arm"),
        }
        Ok(())
    }

    fn payload(&mut self, payload: Payload<'a>) -> Result<(), EventError> {
        match self.payload.replace(payload) {
            None => Ok(()),
            Some(_) => Err(rules::invalid("payload_base64", "stands beside `payload`; an event has one of the two")),
        }
    }

    fn finish(self) -> Result<Event<'a>, EventError> {
        let name = self.name.ok_or_else(|| rules::invalid("event", "is missing: the event's name"))?;
        let payload = self.payload.ok_or_else(|| rules::invalid("payload", "is missing"))?;
        Ok(Event { name, payload, envelope: self.envelope, schema: self.schema })
    }
}

/// A field's value as text. One that is too deep is that event's trouble, and not that of the body.
fn value<'a>(scanner: &mut Scanner<'a>, field: &'static str) -> Result<&'a str, Failure> {
    let rest = scanner.rest();
    scanner.value().map_err(|error| match error.is_too_deep() {
        true => depth::too_deep(field, rest).into(),
        false => error.into(),
    })
}

/// An optional field's string after its rule; none if it is `null`.
fn checked<'a>(
    scanner: &mut Scanner<'a>,
    field: &'static str,
    rule: impl FnOnce(Cow<'a, str>, &str) -> Result<Cow<'a, str>, EventError>,
) -> Result<Option<Cow<'a, str>>, Failure> {
    if scanner.kind()? == Kind::Null {
        scanner.value()?;
        return Ok(None);
    }
    Ok(Some(rule(required_string(scanner, field)?, field)?))
}

fn required_string<'a>(scanner: &mut Scanner<'a>, field: &str) -> Result<Cow<'a, str>, Failure> {
    let kind = scanner.kind()?;
    if kind != Kind::String {
        return Err(rules::invalid(field, format_args!("must be a string, it is {}", kind.named())).into());
    }
    scanner.string().map_err(|problem| lone(field, problem))
}

/// Text in base64, which is decoded where the schema is known; none if it is `null`.
fn base64_text<'a>(scanner: &mut Scanner<'a>, field: &'static str) -> Result<Option<&'a str>, Failure> {
    let kind = scanner.kind()?;
    if !matches!(kind, Kind::String | Kind::Null) {
        return Err(rules::invalid(field, format_args!("must be a string, it is {}", kind.named())).into());
    }
    Ok(scanner.value()?.strip_prefix('"').and_then(|text| text.strip_suffix('"')))
}

/// `{"NAME": "text"}` or `{"NAME": {"base64": "…"}}`. A name may stand twice, as it may in Kafka.
fn headers<'a>(scanner: &mut Scanner<'a>, envelope: &mut Envelope<'a>) -> Result<(), Failure> {
    if !is_object(scanner, "headers")? {
        return Ok(());
    }
    let mut member = scanner.first_member().map_err(|problem| lone("headers", problem))?;
    while let Some(name) = member {
        let value = match scanner.kind()? {
            Kind::String => match scanner.string().map_err(|problem| lone("headers", problem))? {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            },
            Kind::Object => Cow::Owned(base64_value(scanner)?),
            kind => {
                let what = format_args!("must have strings or `{{\"base64\": …}}` as values, one is {}", kind.named());
                return Err(rules::invalid("headers", what).into());
            }
        };
        rules::add_header(envelope, name, value)?;
        member = scanner.next_member().map_err(|problem| lone("headers", problem))?;
    }
    Ok(())
}

/// The standard alphabet, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn base64_value(scanner: &mut Scanner<'_>) -> Result<Vec<u8>, Failure> {
    let shape = || rules::invalid("headers", "has a value that is neither a string nor `{\"base64\": \"…\"}`");
    if scanner.first_member().map_err(|problem| lone("headers", problem))?.as_deref() != Some("base64") {
        return Err(shape().into());
    }
    let text = required_string(scanner, "headers: base64")?;
    let value =
        BASE64.decode(text.as_bytes()).map_err(|_| rules::invalid("headers", "has a value that is not base64"))?;
    match scanner.next_member().map_err(|problem| lone("headers", problem))? {
        None => Ok(value),
        Some(_) => Err(shape().into()),
    }
}

/// `{"version": n}` or `{"id": n}`.
fn schema(scanner: &mut Scanner<'_>) -> Result<Option<SchemaReference>, Failure> {
    if !is_object(scanner, "schema")? {
        return Ok(None);
    }
    let shape = || rules::invalid("schema", "must have exactly one of `version` and `id`");
    let Some(name) = scanner.first_member().map_err(|problem| lone("schema", problem))? else {
        return Err(shape().into());
    };
    let number = scanner.value()?;
    let reference = schema_reference(&name, number).map_err(|what| rules::invalid("schema", what))?;
    match scanner.next_member().map_err(|problem| lone("schema", problem))? {
        None => Ok(Some(reference)),
        Some(_) => Err(shape().into()),
    }
}

/// A schema reference from its kind and its number in decimal digits, or what is wrong with it. Registries count versions
/// from 1 and store both numbers as signed 32-bit integers.
pub(super) fn schema_reference(kind: &str, number: &str) -> Result<SchemaReference, &'static str> {
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let parsed = number.parse::<u32>().ok().filter(|n| digits && *n <= i32::MAX as u32);
    match (kind, parsed) {
        ("version", Some(n)) if n > 0 => Ok(SchemaReference::Version(n)),
        ("version", _) => Err("must have an integer from 1 to 2147483647 as its `version`"),
        ("id", Some(n)) => Ok(SchemaReference::Id(n)),
        ("id", None) => Err("must have an integer from 0 to 2147483647 as its `id`"),
        _ => Err("must have exactly one of `version` and `id`"),
    }
}

/// Whether the object `field` comes next; `null`, which is as good as absent, is skipped.
fn is_object(scanner: &mut Scanner<'_>, field: &str) -> Result<bool, Failure> {
    match scanner.kind()? {
        Kind::Object => Ok(true),
        Kind::Null => {
            scanner.value()?;
            Ok(false)
        }
        kind => Err(rules::invalid(field, format_args!("must be an object, it is {}", kind.named())).into()),
    }
}

#[cold]
fn lone(field: &str, problem: Problem) -> Failure {
    match problem {
        Problem::Syntax(error) => Failure::Syntax(error),
        Problem::LoneSurrogate => {
            rules::invalid(field, "escapes half of a surrogate pair, which is no character").into()
        }
    }
}

/// A field that is none of ours. The name is the sender's: shown up to a length, without what would break a log line.
#[cold]
pub(super) fn unknown(name: &str) -> EventError {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    let nearest = config::nearest(name, FIELDS).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
    rules::invalid(&shown, format_args!("is no field of an envelope{nearest}; known: `{}`", FIELDS.join("`, `")))
}
