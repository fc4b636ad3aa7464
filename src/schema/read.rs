//! Values back into JSON, for people: `tail`, dry runs, `iguazu dev`.
//!
//! In: a value without framing. Out: JSON text with the schema's field names, sensitive fields masked. Never: used on
//! the path of an event.

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost_reflect::prost_types::Timestamp;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Map, Number, Value};

/// What a masked field shows.
const MASK: &str = "***";

/// Reads values of one schema.
#[derive(Clone, Debug)]
pub enum ValueReader {
    /// Avro datums.
    Avro(Box<apache_avro::Schema>),
    /// Protobuf messages.
    Protobuf(MessageDescriptor),
    /// Proto3 JSON, stored as text.
    Json,
}

/// Why a value could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value is not {0}")]
pub struct ReadError(&'static str);

impl ValueReader {
    /// A reader of Avro datums by a schema's text and the texts that it refers to.
    pub fn avro(text: &str, references: &[String]) -> Result<ValueReader, apache_avro::Error> {
        let schema = if references.is_empty() {
            apache_avro::Schema::parse_str(text)?
        } else {
            let (mut schema, known) = apache_avro::Schema::parse_str_with_list(text, references)?;
            schema.denormalize(&known)?;
            schema
        };
        Ok(ValueReader::Avro(Box::new(schema)))
    }

    /// A value without its framing as JSON text. `sensitive` are paths of field names (`card.number`); what they name is
    /// masked wherever lists and maps lie between.
    pub fn read(&self, datum: &[u8], sensitive: &[String]) -> Result<String, ReadError> {
        let mut json = match self {
            ValueReader::Avro(schema) => read_avro(schema, datum).ok_or(ReadError("an Avro datum of its schema"))?,
            ValueReader::Protobuf(message) => read_protobuf(message, datum).ok_or(ReadError("a Protobuf message"))?,
            ValueReader::Json => serde_json::from_slice(datum).map_err(|_| ReadError("JSON"))?,
        };
        for path in sensitive {
            mask(&mut json, &path.split('.').collect::<Vec<_>>());
        }
        Ok(json.to_string())
    }
}

fn read_avro(schema: &apache_avro::Schema, datum: &[u8]) -> Option<Value> {
    let mut rest = datum;
    let value = GenericDatumReader::builder(schema).build().ok()?.read_value(&mut rest).ok()?;
    rest.is_empty().then(|| avro_to_json(value))
}

fn read_protobuf(message: &MessageDescriptor, datum: &[u8]) -> Option<Value> {
    let message = DynamicMessage::decode(message.clone(), datum).ok()?;
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).ok()
}

fn avro_to_json(value: Avro) -> Value {
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(flag) => Value::Bool(flag),
        Avro::Int(number) | Avro::Date(number) | Avro::TimeMillis(number) => number.into(),
        Avro::Long(number) | Avro::TimeMicros(number) => number.into(),
        Avro::Float(number) => float(f64::from(number)),
        Avro::Double(number) => float(number),
        Avro::String(text) | Avro::Enum(_, text) => Value::String(text),
        Avro::Bytes(bytes) | Avro::Fixed(_, bytes) => Value::String(BASE64.encode(bytes)),
        Avro::Union(_, inner) => avro_to_json(*inner),
        Avro::Array(items) => items.into_iter().map(avro_to_json).collect(),
        Avro::Map(entries) => {
            let mut entries: Vec<_> = entries.into_iter().collect();
            // Their order in the datum is lost by now; sorted is at least the same every time.
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().map(|(key, value)| (key, avro_to_json(value))).collect())
        }
        Avro::Record(fields) => fields.into_iter().map(|(name, value)| (name, avro_to_json(value))).collect(),
        Avro::TimestampMillis(millis) => timestamp(millis, 1_000),
        Avro::TimestampMicros(micros) => timestamp(micros, 1_000_000),
        Avro::TimestampNanos(nanos) => timestamp(nanos, 1_000_000_000),
        Avro::Decimal(number) => decimal(number),
        // No mapping of ours writes the rest; a schema from elsewhere may, and its debug form is better than nothing.
        other => Value::String(format!("{other:?}")),
    }
}

/// A number of scale zero, as our mappings write `uint64`; as text, because JSON's numbers are floats to many.
fn decimal(number: apache_avro::Decimal) -> Value {
    let bytes = Vec::try_from(number).unwrap_or_default();
    let start = if bytes.first().is_some_and(|first| *first >= 0x80) { -1 } else { 0 };
    Value::String(bytes.iter().fold(start, |value: i128, byte| value << 8 | i128::from(*byte)).to_string())
}

/// JSON has no NaN and no infinities; proto3 JSON writes them as strings.
fn float(number: f64) -> Value {
    let name = if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    Number::from_f64(number).map_or_else(|| Value::String(name.to_owned()), Value::Number)
}

fn timestamp(count: i64, per_second: i64) -> Value {
    let nanos = count.rem_euclid(per_second) * (1_000_000_000 / per_second);
    let nanos = i32::try_from(nanos).expect("less than a second");
    Value::String(Timestamp { seconds: count.div_euclid(per_second), nanos }.to_string())
}

fn mask(json: &mut Value, path: &[&str]) {
    let Some((name, rest)) = path.split_first() else {
        if !json.is_null() {
            *json = Value::String(MASK.to_owned());
        }
        return;
    };
    match json {
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, path)),
        Value::Object(members) => match find(members, name) {
            Some(member) => mask(member, rest),
            // The keys of a map are no field names: the path goes on in its values.
            None => members.values_mut().filter(|v| v.is_object() || v.is_array()).for_each(|value| mask(value, path)),
        },
        _ => {}
    }
}

/// A member by its field name, or by the lowerCamel form that proto3 JSON gives it.
fn find<'a>(members: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Value> {
    let name = if members.contains_key(name) { name.to_owned() } else { camel(name) };
    members.get_mut(&name)
}

fn camel(name: &str) -> String {
    let mut upper = false;
    let mut camel = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                camel.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => camel.push(c),
        }
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"type":"record","name":"R","fields":[
        {"name":"id","type":"string"},
        {"name":"at","type":["null",{"type":"long","logicalType":"timestamp-micros"}]},
        {"name":"raw","type":"bytes"},
        {"name":"d","type":"double"},
        {"name":"cards","type":{"type":"map","values":{"type":"record","name":"C","fields":[{"name":"card_number","type":"string"}]}}}]}"#;

    fn datum() -> Vec<u8> {
        let mut datum = vec![2, b'x', 2];
        // -1 microsecond, zig-zag.
        datum.push(1);
        datum.extend_from_slice(&[2, 0xff]);
        datum.extend_from_slice(&f64::NAN.to_le_bytes());
        datum.extend_from_slice(&[2, 2, b'k', 4, b'4', b'2', 0]);
        datum
    }

    #[track_caller]
    fn check(sensitive: &[&str], expected: &str) {
        let reader = ValueReader::avro(SCHEMA, &[]).expect("a good schema");
        let sensitive: Vec<_> = sensitive.iter().map(|s| (*s).to_owned()).collect();
        let found: Value =
            serde_json::from_str(&reader.read(&datum(), &sensitive).expect("a good datum")).expect("JSON");
        assert_eq!(found, serde_json::from_str::<Value>(expected).expect("JSON"));
    }

    #[test]
    fn what_is_no_datum_is_refused() {
        let reader = ValueReader::avro(SCHEMA, &[]).expect("a good schema");
        assert!(reader.read(&datum()[..5], &[]).is_err(), "cut off");
        assert!(reader.read(&[datum(), vec![0]].concat(), &[]).is_err(), "something behind");
        assert!(ValueReader::Json.read(b"{", &[]).is_err());
    }

    #[test]
    fn a_datum_is_shown_as_json() {
        check(
            &[],
            r#"{"id":"x","at":"1969-12-31T23:59:59.999999Z","raw":"/w==","d":"NaN","cards":{"k":{"card_number":"42"}}}"#,
        );
    }

    #[test]
    fn sensitive_fields_are_masked_also_inside_maps() {
        check(
            &["id", "cards.card_number", "not.there"],
            r#"{"id":"***","at":"1969-12-31T23:59:59.999999Z","raw":"/w==","d":"NaN","cards":{"k":{"card_number":"***"}}}"#,
        );
    }

    #[test]
    fn sensitive_fields_are_masked_under_their_json_name() {
        let json = br#"{"card":[{"cardNumber":"42"},{"cardNumber":null}]}"#;
        let masked = ValueReader::Json.read(json, &["card.card_number".to_owned()]).expect("JSON");
        assert_eq!(masked, r#"{"card":[{"cardNumber":"***"},{"cardNumber":null}]}"#);
    }
}
