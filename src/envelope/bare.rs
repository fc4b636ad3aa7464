//! The envelope of the door `POST /v1/events/{event}`, where the body is the payload and nothing else.
//!
//! In: the request's headers, names in lower case as HTTP/2 and hyper have them. Out: an [`Envelope`] and perhaps a schema
//! reference. Never: the body, a header that is none of these (they belong to HTTP and are passed over):
//!
//! | header | becomes |
//! |---|---|
//! | `ce-id`, `ce-source`, `ce-time` | id, source, time |
//! | `ce-partitionkey` | key |
//! | `ce-properties` | properties, a JSON object |
//! | `ce-specversion` | nothing; must be `1.0` |
//! | `ce-type` | nothing; the path names the event, see [`event_name`] |
//! | `ce-NAME`, any other attribute | a record header `ce_NAME`, as the Kafka binding of CloudEvents has it; names are lower-case letters and digits, values have no control characters (CloudEvents 1.0.2, sections 3.1 and 3.2) |
//! | `iguazu-schema-version`, `iguazu-schema-id` | schema reference |
//! | `iguazu-header-NAME` | the sender's own record header NAME, in lower case, its value byte for byte |
//! | `traceparent` | trace context; one that is malformed is ignored, as W3C asks of everybody who did not make it |
//!
//! Values of `ce-` headers are unquoted and percent-decoded as the HTTP binding of CloudEvents 1.0.2 says (section 3.1.3.2).
//! `ce-datacontenttype` and `ce-dataschema` are refused: the first is `Content-Type`, and the second would be untrue of a
//! record whose value was transcoded. So are names that a JSON event has and CloudEvents has not: as
//! attributes they would be kept, and not do what their sender meant.

use std::borrow::Cow;

use super::{Envelope, SchemaReference, json, rules};
use crate::outcome::{Code, EventError};

/// Longest `ce-` attribute name taken; CloudEvents advises 20 characters.
const ATTRIBUTE_BYTES_MAX: usize = 64;

/// Attributes that mean something which has another place here, and that place.
const ELSEWHERE: [(&str, &str); 9] = [
    ("datacontenttype", "`Content-Type` says it"),
    ("dataschema", "name the schema with `iguazu-schema-version` or `iguazu-schema-id`"),
    ("schema", "name the schema with `iguazu-schema-version` or `iguazu-schema-id`"),
    ("schemaversion", "name the schema with `iguazu-schema-version`"),
    ("schemaid", "name the schema with `iguazu-schema-id`"),
    ("key", "the partition key is `ce-partitionkey`"),
    ("event", "the path names the event"),
    ("data", "the body is the payload"),
    ("payload", "the body is the payload"),
];

/// The envelope that these headers describe, and the schema reference among them.
///
/// # Errors
/// [`Code::InvalidEnvelope`] for a value that breaks its rule, a header that stands twice, or a `ce-` or `iguazu-` header
/// that cannot be kept; [`Code::InvalidUtf8`] for a value that is no text.
pub fn from_headers<'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<(Envelope<'a>, Option<SchemaReference>), EventError> {
    let mut envelope = Envelope::default();
    let mut schema = None;
    for (name, value) in headers {
        if let Some(attribute) = name.strip_prefix("ce-") {
            let text = decode(name, value)?;
            add_attribute(&mut envelope, name, attribute, text)?;
        } else if let Some(ours) = name.strip_prefix("iguazu-") {
            add_ours(&mut envelope, &mut schema, name, ours, value)?;
        } else if name == "traceparent" {
            let text = std::str::from_utf8(value).ok().filter(|text| rules::is_traceparent(text));
            envelope.traceparent = text.map(Cow::Borrowed);
        }
    }
    Ok((envelope, schema))
}

/// The event name in `ce-type`, for doors whose path does not name the event, and to compare where it does.
///
/// # Errors
/// As [`from_headers`].
pub fn event_name<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<Option<Cow<'a, str>>, EventError> {
    let mut found = None;
    for (name, value) in headers.filter(|(name, _)| *name == "ce-type") {
        put(&mut found, name, rules::event_name(decode(name, value)?, name)?)?;
    }
    Ok(found)
}

fn add_attribute<'a>(
    envelope: &mut Envelope<'a>,
    name: &str,
    attribute: &str,
    text: Cow<'a, str>,
) -> Result<(), EventError> {
    match attribute {
        "id" => put(&mut envelope.id, name, rules::id(text, name)?),
        "source" => put(&mut envelope.source, name, rules::source(text, name)?),
        "time" => put(&mut envelope.time, name, rules::time(text, name)?),
        "partitionkey" => put(&mut envelope.key, name, rules::key(text, name)?),
        "properties" => match rules::properties_text(text, name)? {
            Some(properties) => put(&mut envelope.properties, name, properties),
            None => Ok(()),
        },
        "specversion" if text == "1.0" => Ok(()),
        "specversion" => Err(rules::invalid(name, "must be `1.0`")),
        "type" => Ok(()),
        extension => add_extension(envelope, name, extension, text),
    }
}

fn add_extension<'a>(
    envelope: &mut Envelope<'a>,
    name: &str,
    extension: &str,
    text: Cow<'a, str>,
) -> Result<(), EventError> {
    if let Some((_, place)) = ELSEWHERE.iter().find(|(taken, _)| *taken == extension) {
        return Err(rules::invalid(name, format_args!("must not be sent: {place}")));
    }
    let legal = extension.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if extension.is_empty() || extension.len() > ATTRIBUTE_BYTES_MAX || !legal {
        let what = format_args!(
            "is no CloudEvents attribute: 1 to {ATTRIBUTE_BYTES_MAX} lower-case letters and digits after `ce-`"
        );
        return Err(rules::invalid(name, what));
    }
    rules::without_control(&text, name)?;
    let header = format!("ce_{extension}");
    if envelope.headers.iter().any(|(known, _)| *known == header) {
        return Err(rules::invalid(name, "stands twice"));
    }
    let value = match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    rules::add_checked_header(envelope, Cow::Owned(header), value)
}

fn add_ours<'a>(
    envelope: &mut Envelope<'a>,
    schema: &mut Option<SchemaReference>,
    name: &'a str,
    ours: &'a str,
    value: &'a [u8],
) -> Result<(), EventError> {
    if let Some(header) = ours.strip_prefix("header-") {
        return rules::add_header(envelope, Cow::Borrowed(header), Cow::Borrowed(value));
    }
    let kind = match ours {
        "schema-version" => "version",
        "schema-id" => "id",
        _ => {
            let what = "is none of `iguazu-schema-version`, `iguazu-schema-id` and `iguazu-header-NAME`";
            return Err(rules::invalid(name, what));
        }
    };
    if schema.is_some() {
        return Err(rules::invalid(name, "is the second reference to a schema, one is allowed"));
    }
    let text = std::str::from_utf8(value).unwrap_or_default();
    let reference = json::schema_reference(kind, text);
    *schema = Some(reference.map_err(|_| rules::invalid(name, "must be an integer from 1 to 2147483647"))?);
    Ok(())
}

fn put<'a>(field: &mut Option<Cow<'a, str>>, name: &str, value: Cow<'a, str>) -> Result<(), EventError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(rules::invalid(name, "stands twice")),
    }
}

/// A `ce-` header's value: unquoted if it is a quoted string (RFC 9110, section 5.6.4), then percent-decoded once. A `%`
/// without two hexadecimal digits stands for itself.
fn decode<'a>(name: &str, value: &'a [u8]) -> Result<Cow<'a, str>, EventError> {
    let plain = match value {
        [b'"', quoted @ .., b'"'] => unquote(quoted),
        value => Cow::Borrowed(value),
    };
    let decoded = match memchr::memchr(b'%', &plain) {
        Some(_) => Cow::Owned(percent_decode(&plain)),
        None => plain,
    };
    let text = match decoded {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).ok(),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).ok(),
    };
    text.ok_or_else(|| EventError::new(Code::InvalidUtf8, format!("header `{name}` is not valid UTF-8")))
}

fn unquote(quoted: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', quoted).is_none() {
        return Cow::Borrowed(quoted);
    }
    let mut out = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(&byte) = bytes.next() {
        out.push(if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte });
    }
    Cow::Owned(out)
}

fn percent_decode(text: &[u8]) -> Vec<u8> {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = match (byte, after) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        out.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(headers: &[(&str, &str)], expected: Result<Envelope<'_>, &str>) {
        let found = from_headers(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
        match (found, expected) {
            (Err(error), Err(part)) => assert!(error.message.contains(part), "{}, not {part}", error.message),
            (found, expected) => {
                assert_eq!(
                    found.map(|(e, _)| e).map_err(|e| e.message),
                    expected.map_err(str::to_owned),
                    "{headers:?}"
                );
            }
        }
    }

    fn check_schema(headers: &[(&str, &str)], expected: Result<Option<SchemaReference>, &str>) {
        let found = from_headers(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
        match (found, expected) {
            (Err(error), Err(part)) => assert!(error.message.contains(part), "{}, not {part}", error.message),
            (found, expected) => assert_eq!(found.map(|(_, s)| s).ok(), expected.ok(), "{headers:?}"),
        }
    }

    #[test]
    fn a_header_that_cannot_be_kept_is_refused_by_name() {
        check(&[("ce-id", "")], Err("`ce-id` is empty"));
        check(&[("ce-id", "a"), ("ce-id", "b")], Err("`ce-id` stands twice"));
        check(&[("ce-id", "a%0Ab")], Err("`ce-id` holds a control character"));
        check(&[("ce-source", "%ff")], Err("header `ce-source` is not valid UTF-8"));
        check(&[("ce-time", "yesterday")], Err("`ce-time` is not an RFC 3339 time"));
        check(&[("ce-properties", "[1]")], Err("`ce-properties` must be an object"));
        check(&[("ce-specversion", "0.3")], Err("`ce-specversion` must be `1.0`"));
        check(&[("ce-datacontenttype", "text/plain")], Err("`Content-Type` says it"));
        check(&[("ce-dataschema", "https://example.com/s")], Err("iguazu-schema-version"));
        check(&[("ce-key", "k")], Err("`ce-key` must not be sent: the partition key is `ce-partitionkey`"));
        check(&[("ce-schemaversion", "1")], Err("`iguazu-schema-version`"));
        check(&[("ce-schema-version", "1")], Err("no CloudEvents attribute"));
        check(&[("ce-data", "1")], Err("the body is the payload"));
        for value in ["a%0Ab", "%00", "%7F", "%C2%85", "\t"] {
            check(&[("ce-subject", value)], Err("`ce-subject` holds a control character"));
        }
        check(&[("iguazu-header-ce-id", "x")], Err("reserved"));
        check(&[("ce-", "x")], Err("no CloudEvents attribute"));
        check(&[("ce-a_b", "x")], Err("no CloudEvents attribute"));
        check(&[("ce-subject", "x"), ("ce-subject", "y")], Err("`ce-subject` stands twice"));
        check(&[("iguazu-sender", "somebody")], Err("`iguazu-sender` is none of"));
        check(&[("iguazu-header-ce_id", "x")], Err("reserved"));
        check(&[("iguazu-header-", "x")], Err("a name of 0 bytes"));
    }

    #[test]
    fn what_belongs_to_http_is_passed_over() {
        let headers =
            [("content-type", "application/json"), ("x-other", "1"), ("ce-type", "a"), ("ce-specversion", "1.0")];
        check(&headers, Ok(Envelope::default()));
        check(&[("traceparent", "not one")], Ok(Envelope::default()));
    }

    #[test]
    fn every_field_has_its_header() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let headers = [
            ("ce-id", "100%"),
            ("ce-source", "/a%20b/%C3%A9"),
            ("ce-time", "2026-01-31T08:30:00Z"),
            ("ce-partitionkey", "\"k \\\"1\\\"\""),
            ("ce-properties", "{\"a\":1}"),
            ("ce-subject", "s"),
            ("iguazu-header-x-team", "blue"),
            ("traceparent", trace),
        ];
        let expected = Envelope {
            id: Some("100%".into()),
            source: Some("/a b/é".into()),
            time: Some("2026-01-31T08:30:00Z".into()),
            key: Some("k \"1\"".into()),
            properties: Some("{\"a\":1}".into()),
            headers: vec![("ce_subject".into(), Cow::Borrowed(b"s")), ("x-team".into(), Cow::Borrowed(b"blue"))],
            traceparent: Some(trace.into()),
        };
        check(&headers, Ok(expected));
    }

    #[test]
    fn one_schema_may_be_named() {
        let (version, id) = (SchemaReference::Version(3), SchemaReference::Id(17));
        check_schema(&[("iguazu-schema-version", "0")], Err("from 1 to 2147483647"));
        check_schema(&[("iguazu-schema-version", "latest")], Err("`iguazu-schema-version` must be an integer"));
        check_schema(&[("iguazu-schema-id", "+1")], Err("`iguazu-schema-id` must be an integer"));
        check_schema(&[("iguazu-schema-id", "1"), ("iguazu-schema-version", "1")], Err("second reference"));
        check_schema(&[], Ok(None));
        check_schema(&[("iguazu-schema-version", "3")], Ok(Some(version)));
        check_schema(&[("iguazu-schema-id", "17")], Ok(Some(id)));
    }

    #[test]
    fn the_event_name_is_the_ce_type() {
        let name = |headers: &[(&'static str, &'static str)]| {
            let found = event_name(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
            found.map(|name| name.map(Cow::into_owned)).map_err(|e| e.message)
        };
        assert_eq!(name(&[("ce-id", "1")]), Ok(None));
        assert_eq!(name(&[("ce-type", "delivery.status%5Fchanged")]), Ok(Some("delivery.status_changed".to_owned())));
        assert!(name(&[("ce-type", "a"), ("ce-type", "b")]).is_err_and(|m| m.contains("stands twice")));
        assert!(name(&[("ce-type", "")]).is_err_and(|m| m.contains("is empty")));
    }

    proptest! {
        #[test]
        fn no_headers_panic(name in "(ce-[a-z]{0,8}|ce-(id|time|properties)|iguazu-header-.{0,4}|traceparent)", value: Vec<u8>) {
            let _ = from_headers([(name.as_str(), value.as_slice())].into_iter());
        }

        #[test]
        fn what_is_percent_encoded_is_decoded(text: String) {
            let encoded: String = text.bytes().map(|b| format!("%{b:02X}")).collect();
            prop_assert_eq!(decode("ce-id", encoded.as_bytes()).expect("valid UTF-8"), text);
        }
    }
}
