//! The Avro schema that the `presence` mapping derives from a message.
//!
//! In: a message descriptor. Out: Avro schema text, the same for the same descriptor. Never: anything that needs a
//! payload; what cannot be said in Avro is refused here, when plans are compiled.
//!
//! Avro full name = Protobuf full name; fields in the order of declaration, each with the property `proto.number`, and
//! `proto.type` where Avro's type is not Protobuf's plainest, so that the way back needs nothing else;
//! what can be absent is a union with null; maps with string keys are Avro maps, others arrays of entries;
//! `Timestamp` is `timestamp-micros`, `Duration` microseconds, wrappers are nullable scalars, `Struct` and its kin
//! and `Any` JSON text; groups are records like other messages.

use std::collections::HashSet;
use std::fmt::Write;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use super::PlanError;
use super::editions::has_presence;
use super::well_known::{WellKnown, declared_fields, well_known};
use crate::route::{Presence, Uint64Policy, UnknownEnumPolicy};

/// Definitions nest at most this deep in the text; parsers recurse.
pub(super) const NESTING_MAX: usize = 100;

/// The schema's text.
pub(super) fn derive(message: &MessageDescriptor, policies: &Presence) -> Result<String, PlanError> {
    let mut writer = Writer { policies, text: String::new(), defined: HashSet::new(), nesting: 0 };
    writer.message(message, None)?;
    Ok(writer.text)
}

struct Writer<'a> {
    policies: &'a Presence,
    text: String,
    /// Full names that are defined already.
    defined: HashSet<String>,
    nesting: usize,
}

impl Writer<'_> {
    /// A record's definition, or its name if it was defined before. `within` is the namespace around it.
    fn record(&mut self, message: &MessageDescriptor, within: Option<&str>) -> Result<(), PlanError> {
        let Some(namespace) = self.define("record", message.full_name(), within)? else { return Ok(()) };
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            let name = message.full_name();
            return refuse(format!("`{name}`: messages are defined more than {NESTING_MAX} levels deep"));
        }
        self.text.push_str(",\"fields\":[");
        let mut names = HashSet::new();
        for (i, field) in declared_fields(message).iter().enumerate() {
            if !names.insert(field.name().to_owned()) {
                return refuse(format!("`{}`: two fields have this name", field.full_name()));
            }
            check_name(field.name(), field.full_name())?;
            self.text.push_str(if i > 0 { ",{" } else { "{" });
            let _ = write!(self.text, "\"name\":\"{}\",\"type\":", field.name());
            self.field(field, message.is_map_entry(), &namespace)?;
            let _ = write!(self.text, ",\"proto.number\":{}", field.number());
            if let Some(name) = proto_type(field)? {
                let _ = write!(self.text, ",\"proto.type\":\"{name}\"");
            }
            self.text.push('}');
        }
        self.text.push_str("]}");
        self.nesting -= 1;
        Ok(())
    }

    /// A field's type and default.
    fn field(&mut self, field: &FieldDescriptor, in_entry: bool, namespace: &str) -> Result<(), PlanError> {
        if field.is_map() {
            return self.map(field, namespace);
        }
        if field.is_list() {
            self.text.push_str("{\"type\":\"array\",\"items\":");
            self.value(field, Some(namespace))?;
            self.text.push_str("},\"default\":[]");
            return Ok(());
        }
        if has_presence(field) && !in_entry && !field.is_required() {
            self.text.push_str("[\"null\",");
            self.value(field, Some(namespace))?;
            self.text.push_str("],\"default\":null");
            return Ok(());
        }
        self.value(field, Some(namespace))?;
        if !field.is_required() {
            self.default_of(field);
        }
        Ok(())
    }

    fn map(&mut self, field: &FieldDescriptor, namespace: &str) -> Result<(), PlanError> {
        let kind = field.kind();
        let entry = kind.as_message().expect("a map is a list of entry messages");
        if entry.map_entry_key_field().kind() == Kind::String {
            self.text.push_str("{\"type\":\"map\",\"values\":");
            self.value(&entry.map_entry_value_field(), Some(namespace))?;
            self.text.push_str("},\"default\":{}");
        } else {
            self.text.push_str("{\"type\":\"array\",\"items\":");
            self.record(entry, Some(namespace))?;
            self.text.push_str(",\"logicalType\":\"map\"},\"default\":[]");
        }
        Ok(())
    }

    /// The type of one value.
    fn value(&mut self, field: &FieldDescriptor, within: Option<&str>) -> Result<(), PlanError> {
        let name = match field.kind() {
            Kind::Bool => "\"boolean\"",
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "\"int\"",
            Kind::Uint32 | Kind::Fixed32 => "\"long\"",
            Kind::Uint64 | Kind::Fixed64 if self.policies.uint64 == Uint64Policy::Decimal => {
                "{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":20,\"scale\":0}"
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => "\"long\"",
            Kind::Float => "\"float\"",
            Kind::Double => "\"double\"",
            Kind::String => "\"string\"",
            Kind::Bytes => "\"bytes\"",
            Kind::Enum(en) if self.policies.unknown_enum == UnknownEnumPolicy::String => {
                let _ = write!(self.text, "{{\"type\":\"string\",\"proto.type\":\"{}\"}}", en.full_name());
                return Ok(());
            }
            Kind::Enum(en) => return self.enumeration(&en, within),
            Kind::Message(message) => return self.message(&message, within),
        };
        self.text.push_str(name);
        Ok(())
    }

    fn message(&mut self, message: &MessageDescriptor, within: Option<&str>) -> Result<(), PlanError> {
        let name = message.full_name();
        match well_known(message)? {
            WellKnown::Timestamp => self.text.push_str("{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}"),
            WellKnown::Duration => {
                let _ = write!(self.text, "{{\"type\":\"long\",\"proto.type\":\"{name}\",\"unit\":\"micros\"}}");
            }
            WellKnown::Struct | WellKnown::Value | WellKnown::ListValue | WellKnown::Any => {
                let _ = write!(self.text, "{{\"type\":\"string\",\"proto.type\":\"{name}\"}}");
            }
            WellKnown::Wrapper => {
                let value = declared_fields(message).into_iter().next().expect("well_known checked the field");
                self.value(&value, within)?;
            }
            WellKnown::None | WellKnown::FieldMask => self.record(message, within)?,
        }
        Ok(())
    }

    fn enumeration(&mut self, en: &EnumDescriptor, within: Option<&str>) -> Result<(), PlanError> {
        if self.define("enum", en.full_name(), within)?.is_none() {
            return Ok(());
        }
        let symbols: Vec<_> = en.enum_descriptor_proto().value.iter().map(|v| format!("\"{}\"", v.name())).collect();
        let default = symbols.first().cloned().unwrap_or_default();
        let _ = write!(self.text, ",\"symbols\":[{}],\"default\":{default}", symbols.join(","));
        let numbers = en.enum_descriptor_proto().value.iter().map(|value| value.number());
        if !numbers.clone().eq(0..symbols.len() as i32) {
            let numbers: Vec<_> = numbers.map(|number| number.to_string()).collect();
            let _ = write!(self.text, ",\"proto.numbers\":[{}]", numbers.join(","));
        }
        self.text.push('}');
        Ok(())
    }

    /// Opens the definition of a named type and returns its namespace; or writes a reference and returns none.
    fn define(&mut self, kind: &str, full: &str, within: Option<&str>) -> Result<Option<String>, PlanError> {
        let (namespace, name) = full.rsplit_once('.').unwrap_or(("", full));
        if self.defined.contains(full) {
            // Without a dot the reference would mean a type of the namespace around it.
            if namespace.is_empty() && within.is_some_and(|within| !within.is_empty()) {
                return refuse(format!(
                    "`{full}` is in no package, so Avro cannot refer to it; give its file a package"
                ));
            }
            let _ = write!(self.text, "\"{full}\"");
            return Ok(None);
        }
        for part in full.split('.') {
            check_name(part, full)?;
        }
        if namespace.is_empty() && AVRO_TYPES.contains(&name) {
            return refuse(format!("`{full}` is the name of a type of Avro; give its file a package"));
        }
        self.defined.insert(full.to_owned());
        let _ = write!(self.text, "{{\"type\":\"{kind}\",\"name\":\"{name}\"");
        if !namespace.is_empty() || within.is_some_and(|within| !within.is_empty()) {
            let _ = write!(self.text, ",\"namespace\":\"{namespace}\"");
        }
        Ok(Some(namespace.to_owned()))
    }

    fn default_of(&mut self, field: &FieldDescriptor) {
        let default = match field.kind() {
            Kind::Bool => "false".to_owned(),
            Kind::Float | Kind::Double => "0.0".to_owned(),
            Kind::String | Kind::Bytes => "\"\"".to_owned(),
            Kind::Enum(en) => {
                let first = en.enum_descriptor_proto().value.first().map(|value| value.name().to_owned());
                format!("\"{}\"", first.unwrap_or_default())
            }
            Kind::Message(_) => return,
            Kind::Uint64 | Kind::Fixed64 if self.policies.uint64 == Uint64Policy::Decimal => "\"\\u0000\"".to_owned(),
            _ => "0".to_owned(),
        };
        let _ = write!(self.text, ",\"default\":{default}");
    }
}

/// The Protobuf type of a field's values where Avro's does not say it, so that the way back needs no descriptor.
fn proto_type(field: &FieldDescriptor) -> Result<Option<String>, PlanError> {
    if let Kind::Message(entry) = field.kind()
        && field.is_map()
    {
        let has_record = entry.map_entry_key_field().kind() != Kind::String;
        return if has_record { Ok(None) } else { proto_type(&entry.map_entry_value_field()) };
    }
    let name = match field.kind() {
        Kind::Uint32 => "uint32",
        Kind::Fixed32 => "fixed32",
        Kind::Sint32 => "sint32",
        Kind::Sfixed32 => "sfixed32",
        Kind::Uint64 => "uint64",
        Kind::Fixed64 => "fixed64",
        Kind::Sint64 => "sint64",
        Kind::Sfixed64 => "sfixed64",
        Kind::Message(message) if well_known(&message)? == WellKnown::Wrapper => {
            return Ok(Some(message.full_name().to_owned()));
        }
        _ => return Ok(None),
    };
    Ok(Some(name.to_owned()))
}

pub(super) const AVRO_TYPES: [&str; 14] = [
    "null", "boolean", "int", "long", "float", "double", "bytes", "string", "record", "error", "enum", "array", "map",
    "fixed",
];

pub(super) fn check_name(name: &str, full: &str) -> Result<(), PlanError> {
    let mut letters = name.bytes();
    let starts_well = letters.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if starts_well && letters.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(());
    }
    refuse(format!("`{full}`: `{name}` is not a name that Avro allows (letters, digits and `_`)"))
}

pub(super) fn refuse<T>(message: String) -> Result<T, PlanError> {
    Err(PlanError { message })
}
