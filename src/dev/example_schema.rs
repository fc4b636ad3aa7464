//! A plausible payload for an Avro schema or a JSON Schema: `iguazu schema example`, the load of `iguazu load`.
//!
//! In: a schema's text and those that it refers to. Out: JSON that the event type takes, as far as the schema says what it
//! takes: a JSON Schema's `pattern` is not solved. Never: a value that holds itself.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{Name, UuidSchema};
use serde_json::Value;

use super::example::{Example, Json, LEVELS_MAX, quoted};
use crate::transcode::avro_text::AvroText;

/// How deep a JSON Schema is followed.
const DEPTH_MAX: usize = 12;

/// The example with this number for an Avro schema; `references` are the texts of schemas whose names it uses.
///
/// # Errors
/// Why the schema cannot be read.
pub fn avro(number: u32, text: &str, references: &[String]) -> Result<String, String> {
    let text = AvroText::parse(text, references)?;
    let mut making = Avro { example: Example::new(number), known: HashMap::new(), inside: Vec::new() };
    text.all().for_each(|schema| making.define(schema));
    Ok(making.value(text.root(), "value").unwrap_or_else(|| scalar("null")).compact())
}

struct Avro<'s> {
    example: Example,
    known: HashMap<&'s Name, &'s Schema>,
    /// Records that the value being made is inside of.
    inside: Vec<&'s Name>,
}

impl<'s> Avro<'s> {
    fn define(&mut self, schema: &'s Schema) {
        if let Some(name) = schema.name()
            && !matches!(schema, Schema::Ref { .. })
        {
            self.known.insert(name, schema);
        }
        match schema {
            Schema::Array(array) => self.define(&array.items),
            Schema::Map(map) => self.define(&map.types),
            Schema::Union(union) => union.variants().iter().for_each(|branch| self.define(branch)),
            Schema::Record(record) => record.fields.iter().for_each(|field| self.define(&field.schema)),
            _ => {}
        }
    }

    /// None where a value would hold itself, or there is enough of it.
    fn value(&mut self, schema: &'s Schema, name: &str) -> Option<Json> {
        Some(match schema {
            Schema::Null => scalar("null"),
            Schema::Boolean => scalar("true"),
            Schema::Int => Json::Scalar(self.example.integer(name, false)),
            Schema::Long => Json::Scalar(self.example.integer(name, true)),
            Schema::Float | Schema::Double => scalar(super::example::decimal(name)),
            Schema::String => Json::Scalar(quoted(&self.example.string(name))),
            Schema::Bytes | Schema::BigDecimal => scalar("\"aWd1YXp1\""),
            Schema::Fixed(fixed) | Schema::Duration(fixed) => Json::Scalar(quoted(&zeros(fixed.size))),
            Schema::Enum(of) => Json::Scalar(quoted(of.symbols.get(1).or(of.symbols.first())?)),
            Schema::Date => scalar("\"2026-03-14\""),
            Schema::TimeMillis | Schema::TimeMicros => scalar("\"09:26:53.589\""),
            Schema::TimestampMillis | Schema::TimestampMicros | Schema::TimestampNanos => {
                scalar("\"2026-03-14T09:26:53.589Z\"")
            }
            Schema::LocalTimestampMillis | Schema::LocalTimestampMicros | Schema::LocalTimestampNanos => {
                scalar("\"2026-03-14T09:26:53.589\"")
            }
            Schema::Uuid(UuidSchema::String | UuidSchema::Bytes | UuidSchema::Fixed(_)) => {
                scalar("\"6fa459ea-ee8a-3ca4-894e-db77e160355e\"")
            }
            // One digit fits every decimal.
            Schema::Decimal(decimal) if decimal.scale < decimal.precision => scalar("\"7\""),
            Schema::Decimal(_) => scalar("\"0\""),
            Schema::Array(array) => Json::List(self.value(&array.items, name).into_iter().collect()),
            Schema::Map(map) => {
                Json::Object(self.value(&map.types, name).map(|value| ("name".to_owned(), value)).into_iter().collect())
            }
            Schema::Union(union) => self.union(union.variants(), name)?,
            Schema::Record(record) => {
                if self.example.is_full() || self.inside.len() >= LEVELS_MAX || self.inside.contains(&&record.name) {
                    return None;
                }
                self.inside.push(&record.name);
                let members = record.fields.iter().map(|field| {
                    let value = self.value(&field.schema, &field.name);
                    // A field that would hold its own record has a default, or is null: it may be left out.
                    value.map(|value| (field.name.clone(), value))
                });
                let members = members.collect::<Vec<_>>().into_iter().flatten().collect();
                self.inside.pop();
                Json::Object(members)
            }
            Schema::Ref { name: known } => {
                let schema = *self.known.get(known)?;
                return self.value(schema, name);
            }
        })
    }

    /// The first type that is not null; tagged where there are more.
    fn union(&mut self, branches: &'s [Schema], name: &str) -> Option<Json> {
        let mut others = branches.iter().filter(|branch| !matches!(branch, Schema::Null));
        let Some(first) = others.next() else { return Some(scalar("null")) };
        let has_null = branches.iter().any(|branch| matches!(branch, Schema::Null));
        let Some(value) = self.value(first, name) else { return has_null.then(|| scalar("null")) };
        match (others.next(), first.name()) {
            (Some(_), Some(tag)) => Some(Json::Object(vec![(tag.to_string(), value)])),
            (Some(_), None) if matches!(first, Schema::Map(_)) => Some(Json::Object(vec![("map".to_owned(), value)])),
            _ => Some(value),
        }
    }
}

/// Base64 of so many zero bytes.
fn zeros(bytes: usize) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(vec![0; bytes.min(1 << 16)])
}

fn scalar(text: &str) -> Json {
    Json::Scalar(text.to_owned())
}

/// The example with this number for a JSON Schema; `references` are the schemas that it refers to, by name.
///
/// # Errors
/// Why the schema cannot be read.
pub fn json_schema(number: u32, text: &str, references: &[(String, String)]) -> Result<String, String> {
    let read = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
    let root = read(text)?;
    let mut known = HashMap::new();
    for (name, text) in references {
        known.insert(name.as_str(), read(text)?);
    }
    let making = JsonSchema { example: Example::new(number), root: &root, known: &known };
    Ok(making.value(&root, &root, "value", 0).unwrap_or_else(|| scalar("null")).compact())
}

struct JsonSchema<'s> {
    example: Example,
    root: &'s Value,
    known: &'s HashMap<&'s str, Value>,
}

impl<'s> JsonSchema<'s> {
    /// A value for a schema of a document; none where it would never end.
    fn value(&self, schema: &'s Value, document: &'s Value, name: &str, depth: usize) -> Option<Json> {
        if depth > DEPTH_MAX || self.example.is_full() {
            return None;
        }
        let given = ["const", "default"].iter().find_map(|key| schema.get(*key));
        let listed = ["examples", "enum"].iter().find_map(|key| schema.get(*key)?.get(0));
        if let Some(value) = given.or(listed) {
            return Some(Json::Scalar(value.to_string()));
        }
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let (schema, document) = self.find(reference, document)?;
            return self.value(schema, document, name, depth + 1);
        }
        if let Some(first) = ["allOf", "oneOf", "anyOf"].iter().find_map(|key| schema.get(*key)?.get(0))
            && schema.get("properties").is_none()
        {
            return self.value(first, document, name, depth + 1);
        }
        let number = |key: &str| schema.get(key).and_then(Value::as_f64);
        let kind = match schema.get("type") {
            Some(Value::Array(kinds)) => kinds.iter().find_map(Value::as_str).unwrap_or_default(),
            Some(kind) => kind.as_str().unwrap_or_default(),
            None if schema.get("properties").is_some() => "object",
            None if schema.get("items").is_some() => "array",
            None => "string",
        };
        Some(match kind {
            "object" => {
                let properties = schema.get("properties").and_then(Value::as_object);
                let members = properties
                    .into_iter()
                    .flatten()
                    .filter_map(|(name, schema)| Some((name.clone(), self.value(schema, document, name, depth + 1)?)));
                Json::Object(members.collect())
            }
            "array" => {
                let items = schema.get("items").or(schema.get("prefixItems"));
                let first = items.map(|items| items.get(0).unwrap_or(items));
                Json::List(first.and_then(|items| self.value(items, document, name, depth + 1)).into_iter().collect())
            }
            "boolean" => scalar("true"),
            "null" => scalar("null"),
            "integer" | "number" => {
                let least = number("minimum").or(number("exclusiveMinimum").map(|least| least + 1.0));
                match (least, number("maximum").or(number("exclusiveMaximum").map(|most| most - 1.0))) {
                    (Some(least), _) if least > 3.0 => Json::Scalar(least.ceil().to_string()),
                    (_, Some(most)) if most < 3.0 => Json::Scalar(most.floor().to_string()),
                    _ if kind == "number" => scalar("2.5"),
                    _ => scalar("3"),
                }
            }
            _ => Json::Scalar(quoted(&self.text(schema, name))),
        })
    }

    fn text(&self, schema: &Value, name: &str) -> String {
        let text = match schema.get("format").and_then(Value::as_str).unwrap_or_default() {
            "date-time" => "2026-03-14T09:26:53.589Z".to_owned(),
            "date" => "2026-03-14".to_owned(),
            "time" => "09:26:53.589Z".to_owned(),
            "email" => "ada@example.com".to_owned(),
            "uuid" => "6fa459ea-ee8a-3ca4-894e-db77e160355e".to_owned(),
            "uri" | "uri-reference" | "iri" => "https://example.com/a".to_owned(),
            "ipv4" => "192.0.2.7".to_owned(),
            "ipv6" => "2001:db8::7".to_owned(),
            "hostname" => "host.example.com".to_owned(),
            _ => self.example.string(name),
        };
        let length = |key: &str| schema.get(key).and_then(Value::as_u64).map(|length| length.min(10_000) as usize);
        let mut text: String = text.chars().take(length("maxLength").unwrap_or(usize::MAX)).collect();
        let missing = length("minLength").unwrap_or(0).saturating_sub(text.chars().count());
        text.extend(std::iter::repeat_n('x', missing));
        text
    }

    /// What `#/a/b`, `name` or `name#/a/b` means in a document.
    fn find(&self, reference: &str, document: &'s Value) -> Option<(&'s Value, &'s Value)> {
        let (name, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        let of_name = |(known, _): &(&&str, &Value)| name == **known || name.ends_with(&format!("/{known}"));
        let document = match name {
            "" => document,
            _ if self.root.get("$id").and_then(Value::as_str) == Some(name) => self.root,
            _ => self.known.iter().find(of_name)?.1,
        };
        Some((document.pointer(pointer)?, document))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Payload;
    use crate::route::UnknownFields;
    use crate::transcode::avro_in::AvroPlan;
    use crate::transcode::json_schema::JsonSchema as Plan;
    use crate::transcode::{Output, Scratch, Transcoder};

    fn taken(plan: Transcoder, example: &str) {
        let done = plan.transcode(Payload::Json(example.as_bytes()), &mut Scratch::default(), &mut Output::default());
        done.unwrap_or_else(|error| panic!("{example}: {error}"));
    }

    #[test]
    fn an_example_of_an_avro_schema_is_taken_by_it() {
        let item = r#"{"type":"record","name":"p.Item","fields":[{"name":"sku","type":"string"},{"name":"up","type":["null","Item"]}]}"#;
        let schema = r#"{"type":"record","name":"p.Order","fields":[
            {"name":"order_id","type":"string"},{"name":"n","type":"int"},{"name":"l","type":"long"},{"name":"f","type":"float"},
            {"name":"b","type":"bytes"},{"name":"x","type":{"type":"fixed","name":"X","size":3}},{"name":"y","type":"boolean"},
            {"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}},{"name":"i","type":"p.Item"},
            {"name":"is","type":{"type":"array","items":"p.Item"}},{"name":"m","type":{"type":"map","values":"E"}},
            {"name":"u","type":["null","p.Item","string"]},{"name":"v","type":["null",{"type":"map","values":"int"},"long"]},
            {"name":"d","type":{"type":"int","logicalType":"date"}},{"name":"t","type":{"type":"long","logicalType":"time-micros"}},
            {"name":"at","type":{"type":"long","logicalType":"timestamp-nanos"}},
            {"name":"lt","type":{"type":"long","logicalType":"local-timestamp-micros"}},
            {"name":"p","type":{"type":"bytes","logicalType":"decimal","precision":2,"scale":2}},
            {"name":"g","type":{"type":"string","logicalType":"uuid"}},{"name":"o","type":["null","Order"]}]}"#;
        let references = [item.to_owned()];
        let plan = AvroPlan::compile(schema, &references, None, UnknownFields::Reject).expect("a good schema");
        let example = avro(1, schema, &references).expect("an example");
        assert!(example.starts_with("{\"order_id\":\"order-1001\",\"n\":3,"), "{example}");
        taken(Transcoder::Avro(plan), &example);
    }

    #[test]
    fn an_example_of_a_json_schema_is_taken_by_it() {
        let line = r##"{"type":"object","properties":{"sku":{"$ref":"#/definitions/sku"}},"definitions":{"sku":{"type":"string","minLength":20}}}"##;
        let schema = r##"{"type":"object","additionalProperties":false,"required":["id","n","lines"],"properties":{
            "id":{"type":"string","maxLength":4},"n":{"type":"integer","minimum":7},"k":{"type":"number","exclusiveMaximum":1},
            "at":{"type":"string","format":"date-time"},"c":{"enum":["x","y"]},"z":{"const":5},"mail":{"format":"email"},
            "lines":{"type":"array","minItems":1,"items":{"$ref":"line.json"}},"any":{"anyOf":[{"type":"null"}]},
            "up":{"$ref":"#"},"b":{"type":["boolean","null"]}}}"##;
        let references = [("line.json".to_owned(), line.to_owned())];
        let example = json_schema(1, schema, &references).expect("an example");
        let flat = schema.replace(r##""up":{"$ref":"#"},"##, "");
        let plan = Plan::compile(&flat, &references, None).expect("a good schema");
        taken(Transcoder::JsonSchema(plan), &json_schema(1, &flat, &references).expect("an example"));
        assert!(example.contains("\"up\":{"), "{example}");
    }
}
