//! Confluent's rules for Protobuf (`protobuf-provider`, package `diff`): what a reader of one file makes of the bytes that
//! a writer of another file wrote.
//!
//! In: two compiled files. Out: what breaks; names of fields do not count, numbers and wire types do. Types of other
//! files are compared where a field refers to them; those of the file itself all are, used or not.

use std::collections::{BTreeMap, HashSet};

use prost_reflect::prost_types::field_descriptor_proto::Label as Written;
use prost_reflect::{FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, OneofDescriptor, Syntax};

use super::{Finding, Names, Rule};

/// What keeps a reader of `reader` from reading what was written by `writer`.
pub fn compare(reader: &FileDescriptor, writer: &FileDescriptor, names: Names<'_>) -> Vec<Finding> {
    let mut comparison =
        Comparison { reader, writer, names, found: Vec::new(), seen: HashSet::new(), open: Vec::new() };
    if reader.package_name() != writer.package_name() {
        let (now, then) = (package(reader), package(writer));
        comparison.differ(
            Rule::PackageChanged,
            then.to_owned(),
            format!("the package is {now} in {}, {then} in {}", names.reader, names.writer),
            "keep the package; a new package is a new message with a subject of its own".to_owned(),
        );
    }
    comparison.messages(reader.messages().collect(), writer.messages().collect());
    // Types of other files are compared from a list, not by recursion, so that a long chain of them is no deep stack.
    while let Some((reader, writer)) = comparison.open.pop() {
        comparison.message(&reader, &writer);
    }
    comparison.found
}

fn package(file: &FileDescriptor) -> &str {
    if file.package_name().is_empty() { "no package" } else { file.package_name() }
}

struct Comparison<'a> {
    reader: &'a FileDescriptor,
    writer: &'a FileDescriptor,
    names: Names<'a>,
    found: Vec<Finding>,
    /// Full names of messages of other files that are compared or waiting to be.
    seen: HashSet<(String, String)>,
    open: Vec<(MessageDescriptor, MessageDescriptor)>,
}

impl Comparison<'_> {
    /// Messages of one file, or nested in one message, by their names.
    fn messages(&mut self, reader: Vec<MessageDescriptor>, writer: Vec<MessageDescriptor>) {
        for written in writer.iter().filter(|message| !message.is_map_entry()) {
            match reader.iter().find(|message| message.name() == written.name() && !message.is_map_entry()) {
                Some(read) => self.message(read, written),
                None => {
                    let reason = format!("{} has no such message, {} has it", self.names.reader, self.names.writer);
                    let fix = "keep the message; mark it `deprecated` if nobody should use it".to_owned();
                    self.differ(Rule::MessageRemoved, written.full_name().to_owned(), reason, fix);
                }
            }
        }
    }

    /// Messages nest at most as deep as the compiler allows, so this may recurse.
    fn message(&mut self, reader: &MessageDescriptor, writer: &MessageDescriptor) {
        let of = |message: &MessageDescriptor| -> BTreeMap<u32, FieldDescriptor> {
            message.fields().map(|field| (field.number(), field)).collect()
        };
        let (read, written) = (of(reader), of(writer));
        self.oneofs(reader, writer, &read, &written);
        for (number, field) in &written {
            match read.get(number) {
                Some(other) => self.field(other, field),
                None if field.is_required() => {
                    let reason = format!(
                        "{} requires field {number}, {} does not have it",
                        self.names.writer, self.names.reader
                    );
                    let fix = "make the field `optional` first, and remove it when every reader has that".to_owned();
                    self.differ(Rule::RequiredFieldRemoved, field.full_name().to_owned(), reason, fix);
                }
                None => {}
            }
        }
        for (number, field) in
            read.iter().filter(|(number, field)| field.is_required() && !written.contains_key(number))
        {
            let reason =
                format!("{} requires field {number}, which {} never wrote", self.names.reader, self.names.writer);
            self.differ(
                Rule::RequiredFieldAdded,
                field.full_name().to_owned(),
                reason,
                "make the new field `optional`".to_owned(),
            );
        }
        self.messages(reader.child_messages().collect(), writer.child_messages().collect());
    }

    fn oneofs(
        &mut self,
        reader: &MessageDescriptor,
        writer: &MessageDescriptor,
        read: &BTreeMap<u32, FieldDescriptor>,
        written: &BTreeMap<u32, FieldDescriptor>,
    ) {
        for oneof in real_oneofs(reader) {
            let from: Vec<_> = oneof.fields().filter_map(|field| written.get(&field.number())).collect();
            let moved: Vec<_> =
                from.iter().filter(|field| oneof_of(field).is_none()).map(|field| field.name()).collect();
            let reason = |what: &str| {
                format!(
                    "{} has {} in the oneof `{}`, {} has {what}",
                    self.names.reader,
                    moved.join(" and "),
                    oneof.name(),
                    self.names.writer
                )
            };
            if moved.len() > 1 {
                let reason = reason("them outside; a writer may set all of them, a reader keeps one");
                let fix = "leave the fields where they are, and add new ones to the oneof".to_owned();
                self.differ(Rule::MultipleFieldsMovedToOneof, oneof.full_name().to_owned(), reason, fix);
            } else if moved.len() == 1 && from.len() > 1 {
                let reason = reason("it outside; a writer may set it beside a member of the oneof, a reader keeps one");
                let fix = "leave the field where it is, and add a new one to the oneof".to_owned();
                self.differ(Rule::FieldMovedToExistingOneof, oneof.full_name().to_owned(), reason, fix);
            }
        }
        for oneof in real_oneofs(writer) {
            // A oneof that is gone as a whole leaves fields behind, or nothing; its members are judged as fields.
            if !real_oneofs(reader).any(|other| other.name() == oneof.name()) {
                continue;
            }
            for field in oneof.fields().filter(|field| !read.contains_key(&field.number())) {
                let reason = format!(
                    "{} has it in the oneof `{}`, {} does not have it, and takes such an event for one with nothing set",
                    self.names.writer,
                    oneof.name(),
                    self.names.reader
                );
                let fix = "keep the member; mark it `deprecated` if nobody should set it".to_owned();
                self.differ(Rule::OneofFieldRemoved, field.full_name().to_owned(), reason, fix);
            }
        }
    }

    fn field(&mut self, reader: &FieldDescriptor, writer: &FieldDescriptor) {
        let labels = (label(reader), label(writer));
        self.types(writer.full_name(), reader, writer, labels);
    }

    fn types(&mut self, path: &str, reader: &FieldDescriptor, writer: &FieldDescriptor, labels: (Label, Label)) {
        let keep = "keep the field as it was and add one with a new number".to_owned();
        let (read, written) = (reader.kind(), writer.kind());
        if reader.is_map() && writer.is_map() {
            let entries = (read.as_message(), written.as_message());
            let (Some(read), Some(written)) = entries else { return };
            let none = (Label::None, Label::None);
            self.types(path, &read.map_entry_key_field(), &written.map_entry_key_field(), none);
            self.types(path, &read.map_entry_value_field(), &written.map_entry_value_field(), none);
            return;
        }
        let reason =
            format!("it is {} in {}, {} in {}", shown(reader), self.names.reader, shown(writer), self.names.writer);
        let message = |field: &FieldDescriptor, kind: &Kind| kind.as_message().filter(|_| !field.is_map()).cloned();
        match (message(reader, &read), message(writer, &written)) {
            (Some(read), Some(written)) => self.referred(path, read, written, reason, keep),
            (None, None) if !reader.is_map() && !writer.is_map() => {
                let group = scalar_group(&read);
                if group != scalar_group(&written) {
                    self.differ(Rule::FieldScalarKindChanged, path.to_owned(), reason, keep);
                } else if group != Scalar::StringOrBytes && labels.0.differs(labels.1) {
                    self.differ(Rule::FieldNumericLabelChanged, path.to_owned(), reason, keep);
                }
            }
            _ => self.differ(Rule::FieldKindChanged, path.to_owned(), reason, keep),
        }
    }

    /// The messages that two fields are of: the same name within their packages, and compatible themselves.
    fn referred(
        &mut self,
        path: &str,
        read: MessageDescriptor,
        written: MessageDescriptor,
        reason: String,
        fix: String,
    ) {
        if local_name(&read) != local_name(&written) {
            return self.differ(Rule::FieldNamedTypeChanged, path.to_owned(), reason, fix);
        }
        // Those of the files themselves are compared anyway.
        if read.parent_file() == *self.reader && written.parent_file() == *self.writer {
            return;
        }
        if self.seen.insert((read.full_name().to_owned(), written.full_name().to_owned())) {
            self.open.push((read, written));
        }
    }

    fn differ(&mut self, rule: Rule, path: String, reason: String, fix: String) {
        self.found.push(Finding { rule, path, reason, fix });
    }
}

/// The oneofs of the source text; those that `optional` makes are none.
fn real_oneofs(message: &MessageDescriptor) -> impl Iterator<Item = OneofDescriptor> {
    message.oneofs().filter(|oneof| !oneof.is_synthetic())
}

fn oneof_of(field: &FieldDescriptor) -> Option<OneofDescriptor> {
    field.containing_oneof().filter(|oneof| !oneof.is_synthetic())
}

/// The label as written in the text: proto3 may leave it out, members of a oneof have none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    None,
    Optional,
    Required,
    Repeated,
}

impl Label {
    /// A label that is not written is like any other.
    fn differs(self, other: Label) -> bool {
        self != Label::None && other != Label::None && self != other
    }
}

fn label(field: &FieldDescriptor) -> Label {
    let written = field.field_descriptor_proto();
    match written.label() {
        Written::Repeated => Label::Repeated,
        Written::Required => Label::Required,
        Written::Optional if written.proto3_optional() => Label::Optional,
        Written::Optional if field.parent_file().syntax() == Syntax::Proto2 && oneof_of(field).is_none() => {
            Label::Optional
        }
        Written::Optional => Label::None,
    }
}

/// Scalars whose values a reader of one can read from a writer of another.
#[derive(PartialEq, Eq)]
enum Scalar {
    Number,
    Signed,
    StringOrBytes,
    Fixed32,
    Fixed64,
    Float,
    Double,
}

fn scalar_group(kind: &Kind) -> Scalar {
    match kind {
        Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Bool | Kind::Enum(_) => Scalar::Number,
        Kind::Sint32 | Kind::Sint64 => Scalar::Signed,
        Kind::Fixed32 | Kind::Sfixed32 => Scalar::Fixed32,
        Kind::Fixed64 | Kind::Sfixed64 => Scalar::Fixed64,
        Kind::Float => Scalar::Float,
        Kind::Double => Scalar::Double,
        // Messages never come here.
        Kind::String | Kind::Bytes | Kind::Message(_) => Scalar::StringOrBytes,
    }
}

fn local_name(message: &MessageDescriptor) -> String {
    let (name, package) = (message.full_name(), message.package_name());
    name.strip_prefix(package).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name).to_owned()
}

/// A field's type as written: `repeated int32`, `map<string, a.B>`.
pub(super) fn shown(field: &FieldDescriptor) -> String {
    if let Some(entry) = field.kind().as_message().filter(|message| message.is_map_entry()) {
        let of = |field: FieldDescriptor| kind_name(&field.kind());
        return format!("map<{}, {}>", of(entry.map_entry_key_field()), of(entry.map_entry_value_field()));
    }
    let name = kind_name(&field.kind());
    match label(field) {
        Label::None => name,
        Label::Optional => format!("optional {name}"),
        Label::Required => format!("required {name}"),
        Label::Repeated => format!("repeated {name}"),
    }
}

fn kind_name(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(en) => en.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}
