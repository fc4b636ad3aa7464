//! What the fields of an envelope may hold, the same for every form an event comes in.
//!
//! In: one field as its sender wrote it. Out: the field, or an error that names it and its limit. Never: a field's value
//! in an error, a changed value.

use std::borrow::Cow;

use super::scan::{Kind, Scanner};
use super::{Envelope, depth, time};
use crate::outcome::{Code, EventError};

/// Most bytes of an event name: Kafka's limit of a topic name (249) with some room.
pub(super) const NAME_BYTES_MAX: usize = 255;
const ID_BYTES_MAX: usize = 128;
const SOURCE_BYTES_MAX: usize = 512;
const KEY_BYTES_MAX: usize = 1024;
/// Most bytes of the properties, those that moved there from the payload among them.
pub(crate) const PROPERTIES_BYTES_MAX: usize = 4096;
const HEADERS_MAX: usize = 64;
const HEADER_NAME_BYTES_MAX: usize = 128;
const HEADERS_BYTES_MAX: usize = 8192;

/// Names that the proxy and Kafka's serializers write; a sender's header must not pass for one of them.
const RESERVED_PREFIXES: [&str; 4] = ["ce_", "ce-", "iguazu-", "__"];
const RESERVED_NAMES: [&str; 2] = ["content-type", "traceparent"];

/// The error of a field: `field` is what its sender calls it, `what` goes on from there.
#[cold]
pub(super) fn invalid(field: &str, what: impl std::fmt::Display) -> EventError {
    EventError::new(Code::InvalidEnvelope, format!("`{field}` {what}"))
}

pub(super) fn event_name<'a>(name: Cow<'a, str>, field: &str) -> Result<Cow<'a, str>, EventError> {
    within(&name, field, 1, NAME_BYTES_MAX)?;
    Ok(name)
}

pub(super) fn id<'a>(id: Cow<'a, str>, field: &str) -> Result<Cow<'a, str>, EventError> {
    within(&id, field, 1, ID_BYTES_MAX)?;
    without_control(&id, field)?;
    Ok(id)
}

pub(super) fn source<'a>(source: Cow<'a, str>, field: &str) -> Result<Cow<'a, str>, EventError> {
    within(&source, field, 1, SOURCE_BYTES_MAX)?;
    without_control(&source, field)?;
    Ok(source)
}

pub(super) fn key<'a>(key: Cow<'a, str>, field: &str) -> Result<Cow<'a, str>, EventError> {
    within(&key, field, 0, KEY_BYTES_MAX)?;
    Ok(key)
}

pub(super) fn time<'a>(text: Cow<'a, str>, field: &str) -> Result<Cow<'a, str>, EventError> {
    time::check_time(&text).map_err(|what| invalid(field, what))?;
    Ok(text)
}

pub(super) fn traceparent<'a>(text: Cow<'a, str>, field: &str) -> Result<Cow<'a, str>, EventError> {
    match is_traceparent(&text) {
        true => Ok(text),
        false => Err(invalid(field, "is not a W3C trace context such as `00-<32 hex>-<16 hex>-01`")),
    }
}

/// Properties that arrived as text of unknown content.
pub(super) fn properties_text<'a>(text: Cow<'a, str>, field: &str) -> Result<Option<Cow<'a, str>>, EventError> {
    let mut scanner = Scanner::new(&text);
    let whole = scanner.value().and_then(|_| scanner.end());
    whole.map_err(|e| match e.is_too_deep() {
        true => depth::too_deep(field, &text),
        false => invalid(field, format_args!("is not valid JSON at byte {}: {}", e.at, e.what)),
    })?;
    properties(text, field)
}

/// Properties that are known to be one JSON value. An object without members is none.
pub(super) fn properties<'a>(json: Cow<'a, str>, field: &str) -> Result<Option<Cow<'a, str>>, EventError> {
    let json = trim(json);
    match Scanner::new(&json).kind() {
        Ok(Kind::Object) => {}
        Ok(kind) => return Err(invalid(field, format_args!("must be an object, it is {}", kind.named()))),
        Err(error) => return Err(invalid(field, error.what)),
    }
    within(&json, field, 2, PROPERTIES_BYTES_MAX)?;
    let empty = json[1..json.len() - 1].bytes().all(is_json_space);
    Ok((!empty).then_some(json))
}

fn trim(text: Cow<'_, str>) -> Cow<'_, str> {
    let space = |c: char| c.is_ascii() && is_json_space(c as u8);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim_matches(space)),
        Cow::Owned(text) if text.starts_with(space) || text.ends_with(space) => {
            Cow::Owned(text.trim_matches(space).to_owned())
        }
        owned => owned,
    }
}

fn is_json_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Adds one of the sender's own headers, if its name is not reserved and there is room.
pub(super) fn add_header<'a>(
    envelope: &mut Envelope<'a>,
    name: Cow<'a, str>,
    value: Cow<'a, [u8]>,
) -> Result<(), EventError> {
    header_name(&name)?;
    add_checked_header(envelope, name, value)
}

/// Adds a header whose name was checked or made here, if there is room.
pub(super) fn add_checked_header<'a>(
    envelope: &mut Envelope<'a>,
    name: Cow<'a, str>,
    value: Cow<'a, [u8]>,
) -> Result<(), EventError> {
    let headers = &mut envelope.headers;
    if headers.len() == HEADERS_MAX {
        return Err(invalid("headers", format_args!("has more than {HEADERS_MAX} headers")));
    }
    let bytes = headers.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>() + name.len() + value.len();
    if bytes > HEADERS_BYTES_MAX {
        return Err(invalid("headers", format_args!("has more than {HEADERS_BYTES_MAX} bytes of names and values")));
    }
    headers.push((name, value));
    Ok(())
}

fn header_name(name: &str) -> Result<(), EventError> {
    if name.is_empty() || name.len() > HEADER_NAME_BYTES_MAX {
        let what = format_args!("has a name of {} bytes, 1 to {HEADER_NAME_BYTES_MAX} are allowed", name.len());
        return Err(invalid("headers", what));
    }
    if has_control(name) {
        return Err(invalid("headers", "has a name with a control character"));
    }
    let starts_with = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if RESERVED_PREFIXES.iter().any(|p| starts_with(p)) || RESERVED_NAMES.iter().any(|n| n.eq_ignore_ascii_case(name)) {
        let (prefixes, names) = (RESERVED_PREFIXES.join("`, `"), RESERVED_NAMES.join("`, `"));
        let what = format_args!("has the reserved name `{name}`; reserved are `{prefixes}` at the start, `{names}`");
        return Err(invalid("headers", what));
    }
    Ok(())
}

/// Whether a text is a `traceparent` of W3C Trace Context: version `00` as it stands, later versions with what they add.
pub fn is_traceparent(text: &str) -> bool {
    let hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |part: &[u8]| part.iter().all(|b| *b == b'0');
    let Some((known, added)) = text.as_bytes().split_first_chunk::<55>() else { return false };
    let (version, trace, parent, flags) = (&known[..2], &known[3..35], &known[36..52], &known[53..]);
    [known[2], known[35], known[52]] == *b"---"
        && [version, trace, parent, flags].into_iter().all(hex)
        && version != b"ff"
        && !zero(trace)
        && !zero(parent)
        && match added {
            [] => true,
            // A later version may go on after a dash; all of it is one header value.
            [b'-', rest @ ..] => version != b"00" && rest.iter().all(u8::is_ascii_graphic) && text.len() <= 128,
            _ => false,
        }
}

fn within(text: &str, field: &str, min: usize, max: usize) -> Result<(), EventError> {
    if text.len() < min {
        return Err(invalid(field, "is empty"));
    }
    if text.len() > max {
        return Err(invalid(field, format_args!("has {} bytes, at most {max} are allowed", text.len())));
    }
    Ok(())
}

pub(super) fn without_control(text: &str, field: &str) -> Result<(), EventError> {
    if has_control(text) { Err(invalid(field, "holds a control character")) } else { Ok(()) }
}

fn has_control(text: &str) -> bool {
    // All control characters are below 0x20, 0x7F, or two bytes that begin with 0xC2: rare enough to look twice. A fold,
    // because a loop that may stop early is not vectorized.
    let suspect = text.bytes().fold(false, |found, b| found | (b < 0x20) | (b == 0x7F) | (b == 0xC2));
    suspect && text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Checks the outcome of one field's rule: the value, or a part of the message.
    fn check<T: std::fmt::Debug + PartialEq>(found: Result<T, EventError>, expected: Result<T, &str>) {
        match (found, expected) {
            (Err(error), Err(part)) => {
                assert_eq!(error.code, Code::InvalidEnvelope);
                assert!(error.message.contains(part), "{}, not {part}", error.message);
            }
            (found, expected) => assert_eq!(found.map_err(|e| e.message), expected.map_err(str::to_owned)),
        }
    }

    #[test]
    fn names_ids_sources_and_keys_have_limits() {
        let long = |n: usize| Cow::Owned("x".repeat(n));
        check(event_name("".into(), "event"), Err("`event` is empty"));
        check(event_name(long(256), "event"), Err("`event` has 256 bytes, at most 255"));
        check(id("".into(), "id"), Err("`id` is empty"));
        check(id(long(129), "id"), Err("`id` has 129 bytes, at most 128"));
        check(id("a\nb".into(), "ce-id"), Err("`ce-id` holds a control character"));
        check(id("a\u{7f}".into(), "id"), Err("control character"));
        check(id("a\u{85}".into(), "id"), Err("control character"));
        check(id(long(128), "id"), Ok(long(128)));
        check(id("Â£é".into(), "id"), Ok("Â£é".into()));
        check(source(long(513), "source"), Err("at most 512"));
        check(source("\0".into(), "source"), Err("control character"));
        check(key(long(1025), "key"), Err("at most 1024"));
        check(key("".into(), "key"), Ok("".into()));
        check(key("a\nb".into(), "key"), Ok("a\nb".into()));
    }

    #[test]
    fn properties_are_an_object_with_a_limit() {
        let text = |t: &'static str| properties_text(Cow::Borrowed(t), "properties");
        check(text(""), Err("not valid JSON at byte 0"));
        check(text("{\"a\":}"), Err("not valid JSON at byte 5"));
        check(text("{} {}"), Err("not valid JSON at byte 3"));
        check(text("[1]"), Err("must be an object, it is an array"));
        check(text("null"), Err("must be an object, it is null"));
        let big = |n: usize| Cow::Owned(format!("{{\"a\":\"{}\"}}", "x".repeat(n - 8)));
        check(properties_text(big(4097), "properties"), Err("has 4097 bytes, at most 4096"));
        check(properties_text(big(4096), "properties"), Ok(Some(big(4096))));
        check(text("{ }"), Ok(None));
        check(text(" {\"a\":1} "), Ok(Some("{\"a\":1}".into())));
        check(properties_text(Cow::Owned(" {\"a\":1} ".into()), "properties"), Ok(Some("{\"a\":1}".into())));
    }

    #[test]
    fn reserved_and_endless_headers_are_refused() {
        let add = |name: &str| {
            let mut envelope = Envelope::default();
            add_header(&mut envelope, Cow::Owned(name.to_owned()), Cow::Borrowed(b"v")).map(|()| envelope.headers.len())
        };
        for name in [
            "ce_id",
            "CE_x",
            "iguazu-sender",
            "Iguazu-X",
            "__value_schema_id",
            "Content-Type",
            "traceparent",
            "ce-key",
            "CE-Id",
        ] {
            check(add(name), Err("reserved"));
        }
        check(add(""), Err("a name of 0 bytes"));
        check(add(&"n".repeat(129)), Err("a name of 129 bytes, 1 to 128"));
        check(add("a\u{1}"), Err("control character"));
        for name in ["ce", "tracestate", "x-iguazu-", "_", "content-types", "é"] {
            check(add(name), Ok(1));
        }
        let mut envelope = Envelope::default();
        for _ in 0..64 {
            check(add_header(&mut envelope, "same".into(), Cow::Borrowed(b"")), Ok(()));
        }
        check(add_header(&mut envelope, "same".into(), Cow::Borrowed(b"")), Err("more than 64 headers"));
        let mut envelope = Envelope::default();
        check(add_header(&mut envelope, "n".into(), Cow::Owned(vec![0; 8191])), Ok(()));
        check(add_header(&mut envelope, "n".into(), Cow::Borrowed(b"")), Err("more than 8192 bytes"));
    }

    #[test]
    fn a_traceparent_is_what_w3c_says() {
        let check = |text: &str, expected| assert_eq!(is_traceparent(text), expected, "{text}");
        check("", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", false);
        check("00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false);
        check("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false);
        check("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", false);
        check("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.", false);
        check("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-a b", false);
        check("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", true);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true);
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = is_traceparent(&text);
            let _ = properties_text(Cow::Borrowed(&text), "properties");
            let _ = header_name(&text);
            let _ = id(Cow::Borrowed(&text), "id");
        }
    }
}
