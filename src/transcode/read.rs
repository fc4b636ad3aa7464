//! Values back to JSON, for people: `tail`, `dev` and other tools.
//!
//! In: a record's value without framing, and its schema. Out: JSON text on one line, sensitive fields masked. Never:
//! on the path of an event; it may allocate and be slow.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{Kind, MessageDescriptor};

use super::buffer::Buffer;
use super::fail::Fail;
use super::json::{Token, Tokenizer};
use super::json_out::write_quoted;
use super::{Output, Plan, PlanError, PlanSettings, Scratch, time};
use crate::envelope::Payload;
use crate::outcome::EventError;
use crate::route::{Encoding, Mapping, Presence, TimestampPolicy, UnknownFields};

/// What stands in place of a sensitive value.
const MASK: &[u8] = b"\"***\"";

/// Why a value cannot be shown as JSON.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The schema is not one.
    #[error("the Avro schema does not parse")]
    Schema(#[source] Box<apache_avro::Error>),
    /// The value is not one of the schema.
    #[error("the value is not an Avro datum of the schema")]
    Datum(#[source] Box<apache_avro::Error>),
    /// The value is longer than a datum of the schema.
    #[error("{0} bytes follow the Avro datum")]
    TrailingBytes(usize),
    /// The message type cannot be shown as JSON.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The value is not a message of the type.
    #[error(transparent)]
    Event(#[from] EventError),
}

/// An Avro datum as JSON: unions plain, bytes as base64, timestamps as RFC 3339, maps as objects with sorted keys.
/// `sensitive` are dotted paths of field names whose values are masked.
pub fn avro_to_json(schema_json: &str, datum: &[u8], sensitive: &[String]) -> Result<String, ReadError> {
    let schema = Schema::parse_str(schema_json).map_err(|e| ReadError::Schema(Box::new(e)))?;
    let mut rest = datum;
    let reader = GenericDatumReader::builder(&schema).build().map_err(|e| ReadError::Schema(Box::new(e)))?;
    let value = reader.read_value(&mut rest).map_err(|e| ReadError::Datum(Box::new(e)))?;
    if !rest.is_empty() {
        return Err(ReadError::TrailingBytes(rest.len()));
    }
    let mut out = Buffer::default();
    write_avro(&value, &mut out);
    let paths = sensitive.iter().map(|path| path.split('.').map(str::to_owned).collect()).collect();
    Ok(mask(out.content(), paths))
}

/// A Protobuf message as proto3 JSON. Unknown fields are left out, timestamps out of range shown as the nearest.
/// `sensitive` are dotted paths of field names whose values are masked.
pub fn protobuf_to_json(message: &MessageDescriptor, value: &[u8], sensitive: &[String]) -> Result<String, ReadError> {
    let mapping = Mapping::Presence(Presence { invalid_timestamp: TimestampPolicy::Clamp, ..Presence::default() });
    let unknown_fields = UnknownFields::Drop;
    let settings = PlanSettings { encoding: Encoding::Json, mapping, key: None, unknown_fields };
    let plan = Plan::compile(message, &settings)?;
    let mut output = Output::default();
    plan.transcode(Payload::Protobuf(value), &mut Scratch::default(), &mut output)?;
    Ok(mask(&output.value, sensitive.iter().map(|path| json_path(message, path)).collect()))
}

/// A path of field names in the names of proto3 JSON.
fn json_path(message: &MessageDescriptor, path: &str) -> Vec<String> {
    let mut within = Some(message.clone());
    let mut in_map = false;
    let names = path.split('.').map(|name| {
        if std::mem::take(&mut in_map) {
            return name.to_owned();
        }
        let field = within.as_ref().and_then(|message| message.get_field_by_name(name));
        let below = field.as_ref().map(|field| match field.kind() {
            Kind::Message(entry) if field.is_map() => (entry.map_entry_value_field().kind(), true),
            kind => (kind, false),
        });
        in_map = matches!(below, Some((_, true)));
        within = below.and_then(|(kind, _)| kind.as_message().cloned());
        field.map_or_else(|| name.to_owned(), |field| field.json_name().to_owned())
    });
    names.collect()
}

fn write_avro(value: &Value, out: &mut Buffer) {
    match value {
        Value::Null => out.slice(b"null"),
        Value::Boolean(b) => out.slice(if *b { b"true" } else { b"false" }),
        Value::Int(n) | Value::Date(n) | Value::TimeMillis(n) => out.slice(n.to_string().as_bytes()),
        Value::Long(n) | Value::TimeMicros(n) => out.slice(n.to_string().as_bytes()),
        Value::Float(x) => write_float(f64::from(*x), &x.to_string(), out),
        Value::Double(x) => write_float(*x, &serde_json::json!(x).to_string(), out),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => write_quoted(STANDARD.encode(bytes).as_bytes(), out),
        Value::String(text) | Value::Enum(_, text) => write_quoted(text.as_bytes(), out),
        Value::Union(_, inner) => write_avro(inner, out),
        Value::Array(items) => {
            out.byte(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.byte(b',');
                }
                write_avro(item, out);
            }
            out.byte(b']');
        }
        Value::Map(entries) => {
            let mut entries: Vec<_> = entries.iter().map(|(key, value)| (key.as_str(), value)).collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            write_members(&entries, out);
        }
        Value::Record(fields) => {
            let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value)).collect();
            write_members(&fields, out);
        }
        Value::TimestampMicros(n) => write_timestamp(i128::from(*n) * 1_000, out),
        Value::TimestampMillis(n) => write_timestamp(i128::from(*n) * 1_000_000, out),
        Value::TimestampNanos(n) => write_timestamp(i128::from(*n), out),
        Value::Uuid(id) => write_quoted(id.to_string().as_bytes(), out),
        Value::Decimal(number) => write_decimal(number, out),
        // None of our schemas has these; show them rather than fail.
        other => write_quoted(format!("{other:?}").as_bytes(), out),
    }
}

/// A number of scale zero and at most 16 bytes, as our mappings write them; quoted, because JSON's numbers are floats to many.
fn write_decimal(number: &apache_avro::Decimal, out: &mut Buffer) {
    let bytes = Vec::try_from(number.clone()).unwrap_or_default();
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let start = if negative { -1 } else { 0 };
    let value = bytes.iter().fold(start, |value: i128, byte| value << 8 | i128::from(*byte));
    write_quoted(value.to_string().as_bytes(), out);
}

fn write_float(value: f64, text: &str, out: &mut Buffer) {
    if value.is_finite() {
        out.slice(text.as_bytes());
    } else if value.is_nan() {
        out.slice(b"\"NaN\"");
    } else {
        out.slice(if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
    }
}

fn write_members(members: &[(&str, &Value)], out: &mut Buffer) {
    out.byte(b'{');
    for (i, (name, value)) in members.iter().enumerate() {
        if i > 0 {
            out.byte(b',');
        }
        write_quoted(name.as_bytes(), out);
        out.byte(b':');
        write_avro(value, out);
    }
    out.byte(b'}');
}

fn write_timestamp(nanos: i128, out: &mut Buffer) {
    let (seconds, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let in_range = i64::try_from(seconds).ok().and_then(|s| time::timestamp_in_range(s, nanos as i32, false).ok());
    match in_range {
        Some((seconds, nanos)) => write_quoted(time::timestamp_text(seconds, nanos).as_bytes(), out),
        None => out.slice(format!("\"{seconds} seconds since 1970\"").as_bytes()),
    }
}

/// Replaces the values at these paths; arrays on the way do not count as steps.
fn mask(json: &[u8], paths: Vec<Vec<String>>) -> String {
    let mut out = Buffer::default();
    let active: Vec<&[String]> = paths.iter().map(Vec::as_slice).collect();
    if active.is_empty() || copy(&mut Tokenizer::new(json), &active, &mut out).is_err() {
        // Our own back-ends wrote the text, so it can be read; nothing is shown unmasked if that is ever wrong.
        let shown = if active.is_empty() { json } else { MASK };
        return String::from_utf8_lossy(shown).into_owned();
    }
    String::from_utf8_lossy(out.content()).into_owned()
}

/// Copies one value; `active` is what is left of the paths that lead here.
fn copy(tokens: &mut Tokenizer<'_>, active: &[&[String]], out: &mut Buffer) -> Result<(), Box<Fail>> {
    let token = tokens.token()?;
    let start = tokens.pos;
    let mut side = Vec::new();
    match token {
        Token::Array | Token::Object if active.is_empty() => tokens.skip_value(0, &mut side)?,
        _ if token != Token::Null && active.iter().any(|path| path.is_empty()) => {
            tokens.skip_value(0, &mut side)?;
            out.slice(MASK);
            return Ok(());
        }
        Token::Array | Token::Object => {
            let close = if token == Token::Array { b']' } else { b'}' };
            tokens.bump();
            out.byte(if token == Token::Array { b'[' } else { b'{' });
            let (mut more, mut first) = (!tokens.is_empty(close), true);
            while more {
                if !std::mem::take(&mut first) {
                    out.byte(b',');
                }
                if token == Token::Array {
                    copy(tokens, active, out)?;
                } else {
                    tokens.name_quote()?;
                    let (from, span) = (tokens.pos, tokens.string(&mut side)?);
                    let name = if span.is_side() { &side[span.range()] } else { &tokens.text[span.range()] };
                    let steps = active.iter().filter_map(|path| path.split_first());
                    let below: Vec<_> =
                        steps.filter(|(step, _)| step.as_bytes() == name).map(|(_, rest)| rest).collect();
                    out.byte(b'"');
                    out.slice(&tokens.text[from..tokens.pos]);
                    tokens.colon()?;
                    out.byte(b':');
                    copy(tokens, &below, out)?;
                }
                more = tokens.more(close)?;
            }
            out.byte(close);
            return Ok(());
        }
        _ => tokens.skip_value(0, &mut side)?,
    }
    out.slice(&tokens.text[start..tokens.pos]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, sensitive: &[&str], expected: &str) {
        let paths = sensitive.iter().map(|path| path.split('.').map(str::to_owned).collect()).collect();
        assert_eq!(mask(json.as_bytes(), paths), expected, "{json} {sensitive:?}");
    }

    #[test]
    fn sensitive_values_do_not_show() {
        check(r#"{"a":1,"b":"x"}"#, &["b"], r#"{"a":1,"b":"***"}"#);
        check(r#"{"a":{"b":{"c":[1]}},"b":2}"#, &["a.b"], r#"{"a":{"b":"***"},"b":2}"#);
        check(r#"{"a":[{"b":1,"c":2},{"b":null}]}"#, &["a.b"], r#"{"a":[{"b":"***","c":2},{"b":null}]}"#);
        check("{\"\\u0061\":1}", &["a"], "{\"\\u0061\":\"***\"}");
        check(r#"{"a":1,"b":[{}]}"#, &[], r#"{"a":1,"b":[{}]}"#);
        check(r#"{"a":1}"#, &["a.b", "x"], r#"{"a":1}"#);
    }

    #[test]
    fn bytes_after_the_datum_are_an_error() {
        let error = avro_to_json("\"int\"", &[2, 0], &[]).unwrap_err();
        assert_eq!(error.to_string(), "1 bytes follow the Avro datum");
        assert!(matches!(avro_to_json("\"int\"", &[], &[]), Err(ReadError::Datum(_))));
        assert!(matches!(avro_to_json("{", &[], &[]), Err(ReadError::Schema(_))));
    }
}
