//! A plausible payload for a message: `iguazu schema example`, the events of `iguazu dev`, the load of `iguazu load`.
//!
//! In: a message's descriptor. Out: proto3 JSON in which every field is set (of a oneof the first one), in the order of
//! the declaration. Never: a value that its field refuses. What is made up follows the field's name and type.

use std::cell::Cell;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// Messages, records and other values that hold values in one example.
const VALUES_MAX: usize = 10_000;

/// How deep an example goes.
pub(super) const LEVELS_MAX: usize = 50;

/// Makes examples; each `number` gives other ids, so that several examples are several events.
#[derive(Debug)]
pub struct Example {
    number: u32,
    /// Messages that the value being written is inside of: a recursive field ends where it would repeat one.
    inside: Vec<String>,
    /// Values that may still be made: messages that hold another twice double with each level.
    left: Cell<usize>,
}

/// A value in its JSON form, before it is laid out. Objects keep the order of their members.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// Any scalar, as JSON text.
    Scalar(String),
    /// An array.
    List(Vec<Json>),
    /// An object.
    Object(Vec<(String, Json)>),
}

impl Example {
    /// The example with this number.
    pub fn new(number: u32) -> Self {
        Example { number, inside: Vec::new(), left: Cell::new(VALUES_MAX) }
    }

    /// A payload for the message, as compact JSON text.
    pub fn payload(number: u32, message: &MessageDescriptor) -> String {
        Example::new(number).message(message).compact()
    }

    /// Counts one value more that holds others, and says whether there are enough of them: it and those like it are left out.
    pub(super) fn is_full(&self) -> bool {
        self.left.set(self.left.get().saturating_sub(1));
        self.left.get() == 0 || self.inside.len() >= LEVELS_MAX
    }

    /// A payload for the message.
    pub fn message(&mut self, message: &MessageDescriptor) -> Json {
        self.inside.push(message.full_name().to_owned());
        let mut members = Vec::new();
        for field in message.fields() {
            let first_of_its_oneof = field.containing_oneof().is_none_or(|oneof| {
                oneof.is_synthetic() || oneof.fields().next().is_some_and(|first| first.number() == field.number())
            });
            if first_of_its_oneof && let Some(value) = self.field(&field) {
                members.push((field.name().to_owned(), value));
            }
        }
        self.inside.pop();
        Json::Object(members)
    }

    fn field(&mut self, field: &FieldDescriptor) -> Option<Json> {
        if field.is_map() {
            let Kind::Message(entry) = field.kind() else { return None };
            let key = match entry.map_entry_key_field().kind() {
                Kind::String => "name".to_owned(),
                Kind::Bool => "true".to_owned(),
                _ => "1".to_owned(),
            };
            return Some(Json::Object(vec![(key, self.value(&entry.map_entry_value_field(), field.name())?)]));
        }
        let value = self.value(field, field.name())?;
        Some(if field.is_list() { Json::List(vec![value]) } else { value })
    }

    /// None where a value would hold itself.
    fn value(&mut self, field: &FieldDescriptor, name: &str) -> Option<Json> {
        let text = match field.kind() {
            Kind::Message(message) => return self.nested(&message),
            Kind::String => quoted(&self.string(name)),
            Kind::Bytes => quoted("aWd1YXp1"),
            Kind::Bool => "true".to_owned(),
            Kind::Double | Kind::Float => decimal(name).to_owned(),
            Kind::Enum(kind) => {
                // The first constant is nearly always "unspecified"; those after it say something.
                let default = kind.default_value();
                let mut others = kind.values().filter(|value| value.number() != default.number());
                let first = others.next();
                // A status that follows on another one is not the first of all.
                let later = others.next().filter(|_| name == "status" || name == "state");
                quoted(later.or(first).unwrap_or(default).name())
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => self.integer(name, true),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Uint32 | Kind::Fixed32 => self.integer(name, false),
        };
        Some(Json::Scalar(text))
    }

    fn nested(&mut self, message: &MessageDescriptor) -> Option<Json> {
        let text = match message.full_name() {
            "google.protobuf.Timestamp" => "\"2026-03-14T09:26:53.589Z\"",
            "google.protobuf.Duration" => "\"1.500s\"",
            "google.protobuf.FieldMask" => "\"name\"",
            "google.protobuf.Struct" => "{\"any\":\"JSON\"}",
            "google.protobuf.Value" => "\"any JSON\"",
            "google.protobuf.ListValue" => "[\"any\",\"JSON\"]",
            "google.protobuf.Empty" => "{}",
            "google.protobuf.Any" => {
                "{\"@type\":\"type.googleapis.com/google.protobuf.Duration\",\"value\":\"1.500s\"}"
            }
            "google.protobuf.DoubleValue" | "google.protobuf.FloatValue" => "12.5",
            "google.protobuf.Int32Value" | "google.protobuf.UInt32Value" => "3",
            "google.protobuf.Int64Value" | "google.protobuf.UInt64Value" => "\"1250\"",
            "google.protobuf.BoolValue" => "true",
            "google.protobuf.StringValue" => "\"some text\"",
            "google.protobuf.BytesValue" => "\"aWd1YXp1\"",
            name if self.is_full() || self.inside.iter().any(|outer| outer == name) => return None,
            _ => return Some(self.message(message)),
        };
        Some(Json::Scalar(text.to_owned()))
    }

    /// A text for a field of this name.
    pub(super) fn string(&self, name: &str) -> String {
        let lower = name.to_ascii_lowercase();
        let number = 1000 + self.number;
        if let Some(kind) = lower.strip_suffix("_id").or(lower.strip_suffix("_uuid")) {
            return format!("{}-{number}", kind.replace('_', "-"));
        }
        if lower == "id" || lower == "uuid" {
            return format!("id-{number}");
        }
        let is = |word: &str, part: &str| word == part || word.strip_suffix('s') == Some(part);
        let found = STRINGS.iter().find(|(part, _)| lower.split('_').any(|word| is(word, part)));
        found.map_or_else(|| format!("some {}", lower.replace('_', " ")), |(_, text)| (*text).to_owned())
    }

    /// An integer for a field of this name, of more than 32 bits if it may be.
    pub(super) fn integer(&self, name: &str, wide: bool) -> String {
        let lower = name.to_ascii_lowercase();
        let is = |part: &str| lower.split('_').any(|word| word == part);
        match () {
            () if wide && (is("ms") || is("millis")) && (is("at") || is("time") || is("timestamp")) => {
                "1773480413589".to_owned()
            }
            () if wide && (is("at") || is("timestamp")) => "1773480413".to_owned(),
            () if is("id") => (1000 + self.number).to_string(),
            () if is("cents") || is("amount") || is("price") || is("total") || is("units") => "1250".to_owned(),
            () if is("ms") || is("millis") || is("bytes") => "350".to_owned(),
            () if is("year") => "2026".to_owned(),
            () if is("percent") => "75".to_owned(),
            () => "3".to_owned(),
        }
    }
}

/// Texts by a word of the field's name.
const STRINGS: &[(&str, &str)] = &[
    ("email", "ada@example.com"),
    ("url", "https://example.com/a"),
    ("uri", "https://example.com/a"),
    ("referrer", "https://example.com/"),
    ("phone", "+1 555 0100"),
    ("ip", "192.0.2.7"),
    ("host", "host.example.com"),
    ("agent", "ExampleApp/4.2"),
    ("currency", "EUR"),
    ("country", "PT"),
    ("city", "Lisboa"),
    ("region", "Lisboa"),
    ("street", "Rua Augusta 1"),
    ("address", "Rua Augusta 1, Lisboa"),
    ("postcode", "1100-048"),
    ("zip", "1100-048"),
    ("locale", "pt-PT"),
    ("language", "pt"),
    ("timezone", "Europe/Lisbon"),
    ("zone", "Europe/Lisbon"),
    ("version", "4.2.0"),
    ("platform", "android"),
    ("os", "android"),
    ("device", "phone"),
    ("sku", "SKU-7"),
    ("color", "blue"),
    ("path", "/a/b"),
    ("time", "2026-03-14T09:26:53.589Z"),
    ("at", "2026-03-14T09:26:53.589Z"),
    ("date", "2026-03-14"),
    ("name", "Ada"),
    ("title", "A title"),
    ("note", "left at the door"),
    ("comment", "left at the door"),
    ("description", "left at the door"),
    ("reason", "changed plans"),
    ("status", "ready"),
    ("code", "A7"),
    ("tag", "new"),
    ("wish", "no onions"),
    ("wishe", "no onions"),
    ("campaign", "SPRING"),
    ("experiment", "blue"),
];

/// A number with a fraction for a field of this name.
pub(super) fn decimal(name: &str) -> &'static str {
    let lower = name.to_ascii_lowercase();
    let starts = |part: &str| lower.split('_').any(|word| word.starts_with(part));
    match () {
        () if starts("lat") => "38.7078",
        () if starts("lon") || starts("lng") => "-9.1366",
        () if starts("ratio") || starts("share") || starts("probability") || starts("score") => "0.75",
        () => "12.5",
    }
}

/// A text as JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Json {
    /// Without any space.
    pub fn compact(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) {
        match self {
            Json::Scalar(text) => out.push_str(text),
            Json::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { "," });
                    item.write(out);
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (i, (name, value)) in members.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { "," });
                    out.push_str(&quoted(name));
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::DynamicMessage;

    use super::*;

    const EVERYTHING: &str = r#"
        syntax = "proto3";
        package p;
        import "google/protobuf/any.proto";
        import "google/protobuf/duration.proto";
        import "google/protobuf/empty.proto";
        import "google/protobuf/field_mask.proto";
        import "google/protobuf/struct.proto";
        import "google/protobuf/timestamp.proto";
        import "google/protobuf/wrappers.proto";
        enum Color { COLOR_UNSPECIFIED = 0; BLUE = 1; }
        message Everything {
          double latitude = 1; float score = 2; int32 a = 3; int64 created_at_ms = 4; uint32 b = 5; uint64 c = 6;
          sint32 d = 7; sint64 e = 8; fixed32 f = 9; fixed64 g = 10; sfixed32 h = 11; sfixed64 i = 12;
          bool j = 13; string user_id = 14; bytes k = 15; Color color = 16; repeated Color colors = 17;
          optional string note = 18; repeated string tags = 19; Inner inner = 20; repeated Inner inners = 21;
          map<string, Inner> by_name = 22; map<int32, string> by_number = 23; map<bool, double> by_truth = 24;
          oneof choice { string left = 25; Inner right = 26; }
          Everything parent = 27; repeated Everything children = 28; map<string, Everything> others = 29;
          google.protobuf.Timestamp t = 30; google.protobuf.Duration dur = 31; google.protobuf.FieldMask m = 32;
          google.protobuf.Struct s = 33; google.protobuf.Value v = 34; google.protobuf.ListValue l = 35;
          google.protobuf.Empty n = 36; google.protobuf.Any any = 37;
          google.protobuf.DoubleValue w1 = 38; google.protobuf.FloatValue w2 = 39; google.protobuf.Int32Value w3 = 40;
          google.protobuf.UInt32Value w4 = 41; google.protobuf.Int64Value w5 = 42; google.protobuf.UInt64Value w6 = 43;
          google.protobuf.BoolValue w7 = 44; google.protobuf.StringValue w8 = 45; google.protobuf.BytesValue w9 = 46;
        }
        message Inner { string name = 1; Everything up = 2; }
    "#;

    fn everything() -> MessageDescriptor {
        let file = protox::file::File::from_source("p.proto", EVERYTHING).expect("parses");
        let mut resolver = protox::file::ChainFileResolver::new();
        resolver.add(protox::file::GoogleFileResolver::new());
        let set = prost_types_set(file, resolver);
        set.get_message_by_name("p.Everything").expect("it is there")
    }

    fn prost_types_set(
        file: protox::file::File,
        mut resolver: protox::file::ChainFileResolver,
    ) -> prost_reflect::DescriptorPool {
        struct One(protox::file::File);
        impl protox::file::FileResolver for One {
            fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
                match name == self.0.name() {
                    true => Ok(self.0.clone()),
                    false => Err(protox::Error::file_not_found(name)),
                }
            }
        }
        resolver.add(One(file));
        let mut compiler = protox::Compiler::with_file_resolver(resolver);
        compiler.open_file("p.proto").expect("compiles");
        compiler.descriptor_pool()
    }

    fn parse(message: &MessageDescriptor, json: &str) -> DynamicMessage {
        let mut parser = serde_json::Deserializer::from_str(json);
        DynamicMessage::deserialize(message.clone(), &mut parser).unwrap_or_else(|e| panic!("{e}: {json}"))
    }

    #[test]
    fn an_example_is_valid_and_sets_every_field() {
        let message = everything();
        let example = parse(&message, &Example::payload(1, &message));
        let unset = ["right", "parent", "children", "others"];
        for field in message.fields().filter(|field| !unset.contains(&field.name())) {
            assert!(example.has_field(&field), "{} is not set", field.name());
        }
    }

    #[test]
    fn examples_of_other_numbers_have_other_ids() {
        let message = everything();
        assert_ne!(Example::payload(1, &message), Example::payload(2, &message));
        assert_eq!(Example::payload(1, &message), Example::payload(1, &message));
    }

    #[test]
    fn members_are_in_the_order_of_the_declaration() {
        let text = Example::payload(0, &everything());
        assert!(text.starts_with("{\"latitude\":38.7078,\"score\":0.75,\"a\":3,"), "{text}");
    }
}
