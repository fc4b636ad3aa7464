//! Protobuf editions, lowered to what descriptors without editions can say.
//!
//! In: an encoded `FileDescriptorProto`. Out: the same file as proto2, with the resolved features written where they
//! count. Never: text; the compiler that reads Protobuf text knows no editions.
//!
//! Most features have a form in proto2: required and packed fields, groups for `DELIMITED`, closed enums. What has none
//! stays as a feature of the field or enum itself and is read back from there: implicit presence and open enums.
//! `utf8_validation = NONE` is not kept, because an Avro string is UTF-8 in any case.

use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Syntax, Value};

use super::PlanError;

/// What `syntax` says in files of editions.
const EDITIONS: &str = "editions";

/// `google.protobuf.Edition`, the numbers that are known here.
const EDITION_2023: i32 = 1000;
const EDITION_2024: i32 = 1001;

/// Members of `google.protobuf.FeatureSet`.
const IMPLICIT: i32 = 2;
const LEGACY_REQUIRED: i32 = 3;
const OPEN: i32 = 1;
const PACKED: i32 = 1;
const DELIMITED: i32 = 2;

/// `FieldDescriptorProto.Type` and `Label`.
const TYPE_GROUP: i32 = 10;
const TYPE_MESSAGE: i32 = 11;
const LABEL_REQUIRED: i32 = 2;
const LABEL_REPEATED: i32 = 3;
/// Strings, groups, messages and bytes are never packed.
const UNPACKABLE: [i32; 4] = [9, 10, 11, 12];

/// The messages of an encoded `FileDescriptorSet`, which must hold everything that its files import. Files of editions are
/// lowered.
pub fn read_descriptor_set(set: &[u8]) -> Result<DescriptorPool, PlanError> {
    let mut set = decode("google.protobuf.FileDescriptorSet", set)?;
    let mut failed = None;
    each(&mut set, "file", &mut |file| {
        failed = failed.take().or(check_syntax(file).and_then(|()| lower_file(file)).err())
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let unfit = |why: &str| PlanError { message: format!("the file descriptors do not fit together: {why}") };
    // Descriptors that no compiler wrote make some versions of the library panic rather than refuse them.
    let pool = std::panic::catch_unwind(|| DescriptorPool::decode(set.encode_to_vec().as_slice()));
    pool.map_err(|_| unfit("no compiler writes such"))?.map_err(|e| unfit(&e.to_string()))
}

fn check_syntax(file: &DynamicMessage) -> Result<(), PlanError> {
    match text(file, "syntax").as_str() {
        "" | "proto2" | "proto3" | EDITIONS => Ok(()),
        other => {
            let start: String = other.chars().take(40).collect();
            Err(PlanError { message: format!("`{}`: {start:?} is no syntax of Protobuf", text(file, "name")) })
        }
    }
}

/// An encoded `FileDescriptorProto` of an edition as one of proto2, by the name that imports use; none if the file is of
/// proto2 or proto3.
pub fn lower_editions(name: &str, descriptor: &[u8]) -> Result<Option<Vec<u8>>, PlanError> {
    let mut file = decode("google.protobuf.FileDescriptorProto", descriptor)?;
    if text(&file, "syntax") != EDITIONS {
        return Ok(None);
    }
    file.set_field_by_name("name", Value::String(name.to_owned()));
    lower_file(&mut file)?;
    Ok(Some(file.encode_to_vec()))
}

fn decode(message: &str, bytes: &[u8]) -> Result<DynamicMessage, PlanError> {
    let message = DescriptorPool::global().get_message_by_name(message).expect("descriptors describe themselves");
    DynamicMessage::decode(message, bytes).map_err(|e| PlanError { message: format!("not of a file descriptor: {e}") })
}

fn lower_file(file: &mut DynamicMessage) -> Result<(), PlanError> {
    if text(file, "syntax") != EDITIONS {
        return Ok(());
    }
    let edition = number(file, "edition");
    if !(EDITION_2023..=EDITION_2024).contains(&edition) {
        let message = format!("`{}`: edition {edition} is not known; 2023 and 2024 are", text(file, "name"));
        return Err(PlanError { message });
    }
    let features = Features::default().with(file);
    let package = Some(text(file, "package")).filter(|package| !package.is_empty());
    let package = package.map_or_else(String::new, |package| format!(".{package}"));
    file.set_field_by_name("syntax", Value::String("proto2".to_owned()));
    file.clear_field_by_name("edition");
    each(file, "message_type", &mut |message| lower_message(message, &package, features));
    each(file, "enum_type", &mut |en| lower_enum(en, features));
    Ok(())
}

/// Whether absence of a field differs from its default value.
pub(super) fn has_presence(field: &FieldDescriptor) -> bool {
    let is_plain = field.containing_oneof().is_none() && !matches!(field.kind(), prost_reflect::Kind::Message(_));
    let is_implicit = || is_plain && feature(&field.options(), "field_presence") == IMPLICIT;
    field.supports_presence() && !(field.parent_file().syntax() == Syntax::Proto2 && is_implicit())
}

/// Whether an unknown number of the enum makes the field an unknown one.
pub(super) fn is_closed(en: &EnumDescriptor) -> bool {
    en.parent_file().syntax() == Syntax::Proto2 && feature(&en.options(), "enum_type") != OPEN
}

/// The features that count for reading a message, resolved.
#[derive(Clone, Copy)]
struct Features {
    presence: i32,
    enum_type: i32,
    repeated: i32,
    encoding: i32,
}

/// The defaults of the editions 2023 and 2024.
impl Default for Features {
    fn default() -> Self {
        Features { presence: 1, enum_type: OPEN, repeated: PACKED, encoding: 1 }
    }
}

impl Features {
    /// These features where an element does not set its own.
    fn with(self, element: &DynamicMessage) -> Features {
        let options = element.get_field_by_name("options").expect("every element has options");
        let set = |name, inherited| match feature(options.as_message().expect("options are a message"), name) {
            0 => inherited,
            own => own,
        };
        Features {
            presence: set("field_presence", self.presence),
            enum_type: set("enum_type", self.enum_type),
            repeated: set("repeated_field_encoding", self.repeated),
            encoding: set("message_encoding", self.encoding),
        }
    }
}

/// `within` is the full name of what the message is in, with a dot in front.
fn lower_message(message: &mut DynamicMessage, within: &str, outer: Features) {
    let features = outer.with(message);
    let name = format!("{within}.{}", text(message, "name"));
    let is_entry = |message: &DynamicMessage| {
        let options = message.get_field_by_name("options").expect("messages have options");
        options.as_message().and_then(|options| options.get_field_by_name("map_entry")?.as_bool()).unwrap_or_default()
    };
    let in_entry = is_entry(message);
    let mut entries = Vec::new();
    each(message, "nested_type", &mut |nested| {
        if is_entry(nested) {
            entries.push(format!("{name}.{}", text(nested, "name")));
        }
        lower_message(nested, &name, features);
    });
    each(message, "enum_type", &mut |en| lower_enum(en, features));
    each(message, "field", &mut |field| {
        let is_map = entries.contains(&text(field, "type_name"));
        lower_field(field, features, is_map || in_entry);
    });
}

/// `in_map`: the field is a map, or the key or value of one, which are never groups.
fn lower_field(field: &mut DynamicMessage, outer: Features, in_map: bool) {
    let features = outer.with(field);
    let (of_type, label) = (number(field, "type"), number(field, "label"));
    if of_type == TYPE_MESSAGE && features.encoding == DELIMITED && !in_map {
        field.set_field_by_name("type", Value::EnumNumber(TYPE_GROUP));
    }
    if label == LABEL_REPEATED && !UNPACKABLE.contains(&of_type) {
        let packed = Value::Bool(features.repeated == PACKED);
        in_options(field, |options| options.set_field_by_name("packed", packed));
    }
    if label != LABEL_REPEATED && features.presence == LEGACY_REQUIRED {
        field.set_field_by_name("label", Value::EnumNumber(LABEL_REQUIRED));
    }
    set_feature(field, "field_presence", features.presence);
}

fn lower_enum(en: &mut DynamicMessage, outer: Features) {
    let features = outer.with(en);
    set_feature(en, "enum_type", features.enum_type);
}

/// The number of a feature that is set in these options, zero for none.
fn feature(options: &DynamicMessage, name: &str) -> i32 {
    let Some(features) = options.get_field_by_name("features") else { return 0 };
    features.as_message().map_or(0, |features| number(features, name))
}

fn set_feature(element: &mut DynamicMessage, name: &str, value: i32) {
    in_options(element, |options| {
        if let Some(Value::Message(features)) = options.get_field_by_name_mut("features") {
            features.set_field_by_name(name, Value::EnumNumber(value));
        }
    });
}

fn in_options(element: &mut DynamicMessage, change: impl FnOnce(&mut DynamicMessage)) {
    if let Some(Value::Message(options)) = element.get_field_by_name_mut("options") {
        change(options);
    }
}

fn each(parent: &mut DynamicMessage, list: &str, change: &mut dyn FnMut(&mut DynamicMessage)) {
    if let Some(Value::List(items)) = parent.get_field_by_name_mut(list) {
        for item in items {
            if let Value::Message(item) = item {
                change(item);
            }
        }
    }
}

fn text(message: &DynamicMessage, field: &str) -> String {
    let value = message.get_field_by_name(field);
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn number(message: &DynamicMessage, field: &str) -> i32 {
    message.get_field_by_name(field).and_then(|value| value.as_enum_number()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

    use super::*;

    #[test]
    fn descriptors_that_no_compiler_wrote_are_refused() {
        let check = |syntax: &str, names: [&str; 2], part: &str| {
            let message = |name: &str| DescriptorProto { name: Some(name.to_owned()), ..DescriptorProto::default() };
            let file = FileDescriptorProto {
                name: Some("a.proto".to_owned()),
                syntax: Some(syntax.to_owned()),
                message_type: names.map(message).into(),
                ..FileDescriptorProto::default()
            };
            let error = read_descriptor_set(&FileDescriptorSet { file: vec![file] }.encode_to_vec()).expect_err(part);
            assert!(error.message.contains(part), "{error}");
        };
        check("proto9", ["A", "B"], "`a.proto`: \"proto9\" is no syntax of Protobuf");
        check("editions", ["A", "B"], "edition 0 is not known");
        check("proto3", ["A", "A"], "do not fit together");
        assert!(read_descriptor_set(b"\x0a\x05").is_err());
    }
}
