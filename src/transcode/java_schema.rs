//! The Avro schema that the mapping `java-avro` derives from a message: the text that Java's avro-protobuf 1.12 prints.
//!
//! In: a message descriptor and the mapping's parameters. Out: Avro schema text. Never: anything that needs a payload;
//! what Java refuses, and names that no Avro parser takes, are refused here.
//!
//! Avro full name = the name of the Java class that protoc would generate, by avro-protobuf's own rules; fields in the
//! order of declaration; singular messages are unions with null, nothing else is; maps are arrays of entries; a type is
//! written where it is met first and named afterwards, and a namespace stands only where it changes.

use std::collections::HashMap;
use std::fmt::Write;

use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, Value};

use super::PlanError;
use super::avro_schema::{AVRO_TYPES, NESTING_MAX, check_name, refuse};
use super::well_known::{WellKnown, declared_fields, well_known};
use crate::route::{JavaAvro, JavaTimestamp, NestedSep};

/// The schema's text.
pub(super) fn derive(message: &MessageDescriptor, parameters: &JavaAvro) -> Result<String, PlanError> {
    let mut writer = Writer { parameters, text: String::new(), defined: HashMap::new(), nesting: 0 };
    writer.message(message, "")?;
    Ok(writer.text)
}

struct Writer<'a> {
    parameters: &'a JavaAvro,
    text: String,
    /// Avro full names that are defined already, and which Protobuf type each is.
    defined: HashMap<String, String>,
    nesting: usize,
}

impl Writer<'_> {
    /// A message's type. `within` is the namespace around it.
    fn message(&mut self, message: &MessageDescriptor, within: &str) -> Result<(), PlanError> {
        let logical = match self.parameters.timestamp {
            _ if well_known(message)? != WellKnown::Timestamp => None,
            JavaTimestamp::Record => None,
            JavaTimestamp::Millis => Some("timestamp-millis"),
            JavaTimestamp::Micros => Some("timestamp-micros"),
        };
        if let Some(logical) = logical {
            let _ = write!(self.text, "{{\"type\":\"long\",\"logicalType\":\"{logical}\"}}");
            return Ok(());
        }
        let namespace = self.namespace(&message.parent_file(), message.parent_message())?;
        if !self.define("record", message.name(), &namespace, message.full_name(), within)? {
            return Ok(());
        }
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            let name = message.full_name();
            return refuse(format!("`{name}`: messages are defined more than {NESTING_MAX} levels deep"));
        }
        self.text.push_str(",\"fields\":[");
        for (i, field) in declared_fields(message).iter().enumerate() {
            check_name(field.name(), field.full_name())?;
            self.text.push_str(if i > 0 { ",{" } else { "{" });
            let _ = write!(self.text, "\"name\":\"{}\",\"type\":", field.name());
            self.field(field, &namespace)?;
            self.default_of(field)?;
            self.text.push('}');
        }
        self.text.push_str("]}");
        self.nesting -= 1;
        Ok(())
    }

    fn field(&mut self, field: &FieldDescriptor, namespace: &str) -> Result<(), PlanError> {
        if field.is_group() {
            let name = field.full_name();
            return refuse(format!("`{name}` is a group, which `java-avro` does not know; use a message"));
        }
        let is_message = matches!(field.kind(), Kind::Message(_));
        match field.cardinality() {
            Cardinality::Repeated => {
                self.text.push_str("{\"type\":\"array\",\"items\":");
                self.value(field, namespace)?;
                self.text.push('}');
            }
            Cardinality::Optional if is_message => {
                self.text.push_str("[\"null\",");
                self.value(field, namespace)?;
                self.text.push(']');
            }
            _ => self.value(field, namespace)?,
        }
        Ok(())
    }

    fn value(&mut self, field: &FieldDescriptor, namespace: &str) -> Result<(), PlanError> {
        let name = match field.kind() {
            Kind::Bool => "\"boolean\"",
            Kind::Int32 | Kind::Uint32 | Kind::Sint32 | Kind::Fixed32 | Kind::Sfixed32 => "\"int\"",
            Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64 => "\"long\"",
            Kind::Float => "\"float\"",
            Kind::Double => "\"double\"",
            Kind::String if self.parameters.avro_java_string => "{\"type\":\"string\",\"avro.java.string\":\"String\"}",
            Kind::String => "\"string\"",
            Kind::Bytes => "\"bytes\"",
            Kind::Enum(en) => return self.enumeration(&en, namespace),
            Kind::Message(message) => return self.message(&message, namespace),
        };
        self.text.push_str(name);
        Ok(())
    }

    fn enumeration(&mut self, en: &EnumDescriptor, within: &str) -> Result<(), PlanError> {
        let namespace = self.namespace(&en.parent_file(), en.parent_message())?;
        if !self.define("enum", en.name(), &namespace, en.full_name(), within)? {
            return Ok(());
        }
        let symbols: Vec<_> = en.enum_descriptor_proto().value.iter().map(|v| format!("\"{}\"", v.name())).collect();
        let _ = write!(self.text, ",\"symbols\":[{}]", symbols.join(","));
        if let (true, Some(first)) = (self.parameters.enum_default, symbols.first()) {
            let _ = write!(self.text, ",\"default\":{first}");
        }
        self.text.push('}');
        Ok(())
    }

    /// Opens the definition of a named type, or writes a reference and returns false.
    fn define(&mut self, kind: &str, name: &str, namespace: &str, full: &str, within: &str) -> Result<bool, PlanError> {
        let avro_name = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") };
        match self.defined.get(&avro_name) {
            Some(other) if other == full => {
                if namespace.is_empty() && !within.is_empty() {
                    return refuse(format!(
                        "`{full}` is in no package, so Avro cannot refer to it; give its file a package"
                    ));
                }
                let is_short = namespace == within && !AVRO_TYPES.contains(&name);
                let _ = write!(self.text, "\"{}\"", if is_short { name } else { &avro_name });
                return Ok(false);
            }
            Some(other) => {
                return refuse(format!(
                    "`{full}` and `{other}` are both `{avro_name}` in Avro; their files need different `java_package`s"
                ));
            }
            None => {}
        }
        check_name(name, full)?;
        self.defined.insert(avro_name, full.to_owned());
        let _ = write!(self.text, "{{\"type\":\"{kind}\",\"name\":\"{name}\"");
        if namespace != within {
            let _ = write!(self.text, ",\"namespace\":\"{namespace}\"");
        }
        Ok(true)
    }

    /// The package and the classes around a type, as avro-protobuf joins them. It does not do what protoc does: it never
    /// appends `OuterClass`, lower-cases all but the first letter of each part of a file's name, and leaves a dot in front
    /// of the class where there is no package.
    fn namespace(&self, file: &FileDescriptor, mut parent: Option<MessageDescriptor>) -> Result<String, PlanError> {
        let options = file.file_descriptor_proto().options.as_ref();
        let package = options.and_then(|options| options.java_package.as_deref()).unwrap_or(file.package_name());
        let mut classes = Vec::new();
        while let Some(message) = parent {
            classes.insert(0, message.name().to_owned());
            parent = message.parent_message();
        }
        let outer = match options {
            Some(options) if options.java_multiple_files() => None,
            Some(options) if options.java_outer_classname.is_some() => Some(options.java_outer_classname().to_owned()),
            _ => Some(class_of_file(file.name())?),
        };
        classes.splice(0..0, outer);
        let classes = classes.join(self.parameters.nested_sep.as_str());
        let namespace = match (package, self.parameters.nested_sep) {
            (_, _) if classes.is_empty() => package.to_owned(),
            ("", NestedSep::Dot | NestedSep::Underscore) => classes,
            _ => format!("{package}.{classes}"),
        };
        // With `$` the text is Java's, whether or not it is legal.
        if self.parameters.nested_sep != NestedSep::Dollar && !namespace.is_empty() {
            for part in namespace.split('.') {
                check_name(part, &namespace)?;
            }
        }
        Ok(namespace)
    }

    fn default_of(&mut self, field: &FieldDescriptor) -> Result<(), PlanError> {
        if field.is_required() {
            return Ok(());
        }
        let explicit = field.field_descriptor_proto().default_value.is_some();
        let refused = |what: &str| {
            let name = field.full_name();
            refuse(format!("`{name}`: `java-avro` has no default {what}; remove the default"))
        };
        let default = match (field.kind(), field.default_value()) {
            _ if field.cardinality() == Cardinality::Repeated => "[]".to_owned(),
            (Kind::Message(_), _) => "null".to_owned(),
            (Kind::Enum(en), value) => {
                let symbols = &en.enum_descriptor_proto().value;
                let number = value.as_enum_number().filter(|_| explicit);
                let symbol = symbols.iter().find(|symbol| Some(symbol.number()) == number).or(symbols.first());
                format!("\"{}\"", symbol.map_or("", |symbol| symbol.name()))
            }
            (_, Value::Bool(flag)) => flag.to_string(),
            (_, Value::I32(number)) => number.to_string(),
            (_, Value::U32(number)) => (number as i32).to_string(),
            (_, Value::I64(number)) => number.to_string(),
            (_, Value::U64(number)) => (number as i64).to_string(),
            (_, Value::F32(number)) if number.is_finite() => java_float(&format!("{number:e}")),
            (_, Value::F64(number)) if number.is_finite() => java_float(&format!("{number:e}")),
            (_, Value::F32(_) | Value::F64(_)) => return refused("that is infinite or not a number"),
            (_, Value::String(text)) => json_string(&text),
            (_, _) if explicit => return refused("of type bytes"),
            (_, _) => "\"\"".to_owned(),
        };
        let _ = write!(self.text, ",\"default\":{default}");
        Ok(())
    }
}

/// The class of a file: `my_testFile.proto` is `MyTestfile`.
fn class_of_file(path: &str) -> Result<String, PlanError> {
    let hint = "set `java_multiple_files = true` or `java_outer_classname` in it";
    let base = path.rsplit('/').next().unwrap_or(path);
    let name = base.rsplit_once('.').map_or("", |(name, _)| name);
    // A registry does not keep the name of a file: what is left of `SUBJECT/VERSION.proto` is a number.
    if name.is_empty() || name.bytes().all(|byte| byte.is_ascii_digit()) {
        return refuse(format!(
            "the Avro namespace of `{path}` would come from the file's own name, which is lost; {hint}"
        ));
    }
    let parts = name.trim_end_matches('_').split('_').map(|part| {
        let mut letters = part.chars();
        let first = letters.next()?;
        Some(first.to_uppercase().chain(letters.flat_map(char::to_lowercase)).collect::<String>())
    });
    match parts.collect() {
        Some(class) => Ok(class),
        None => refuse(format!("`{path}`: Java can make no class of a file name with empty parts between `_`; {hint}")),
    }
}

/// A number in scientific form as `Double.toString` writes it: plain from 10^-3 to 10^7, else with an `E`.
fn java_float(scientific: &str) -> String {
    let (mantissa, exponent) = scientific.split_once('e').expect("the form `1.5e3` has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent of a float is a number");
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let with_point =
        |before: &str, after: &str| format!("{sign}{before}.{}", if after.is_empty() { "0" } else { after });
    match exponent {
        0..=6 => {
            let digits = format!("{digits:0<width$}", width = exponent as usize + 1);
            let (before, after) = digits.split_at(exponent as usize + 1);
            with_point(before, after)
        }
        -3..=-1 => format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1) as usize)),
        _ => {
            let (before, after) = digits.split_at(1);
            format!("{}E{exponent}", with_point(before, after))
        }
    }
}

/// A JSON string as Jackson writes it: only what must be escaped is.
fn json_string(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\0'..='\u{1f}' => {
                let _ = write!(json, "\\u{:04X}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
    json
}
