//! Protobuf text -> descriptors -> the message of an event type.
//!
//! In: a schema and everything it imports, in memory. Out: the compiled file, and its message that an event's payload
//! is. Never: I/O, or an import from anywhere but the registry and Google's well-known types. Takes up to some
//! milliseconds: call it on a blocking thread.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto};
use prost_reflect::{FileDescriptor, MessageDescriptor};
use protox::file::{File, FileResolver, GoogleFileResolver};

use super::limits::Size;
use super::source::{Family, Kind, Schema};
use crate::transcode::lower_editions;

/// Candidates that an error lists at most.
const CANDIDATES_MAX: usize = 10;

/// Why a schema is of no use for an event type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CompileError {
    /// What is wrong and where; lowercase, no full stop.
    pub message: String,
}

/// A compiled Protobuf file.
#[derive(Clone, Debug)]
pub struct Compilation {
    /// The file, with everything it imports in its pool.
    pub file: FileDescriptor,
}

/// The message that the payloads of an event type are.
#[derive(Clone, Debug)]
pub struct EventMessage {
    /// The message. Always a top-level one: nested ones are numbered differently by different clients.
    pub descriptor: MessageDescriptor,
    /// Its position among the file's top-level messages, as registered: the message index of the wire format.
    pub index: u32,
}

/// Compiles a Protobuf schema. `file_name` names the root in errors, which give line and column.
pub fn compile(file_name: &str, family: &Family) -> Result<Compilation, CompileError> {
    if family.root.kind != Kind::Protobuf {
        let kind = family.root.kind.as_str();
        return Err(error(format!("the schema is of type {kind}; events need one of type PROTOBUF")));
    }
    let mut files = HashMap::with_capacity(family.imports.len() + 1);
    for (name, schema) in &family.imports {
        if schema.kind != Kind::Protobuf {
            return Err(error(format!("import `{name}` is a schema of type {}", schema.kind.as_str())));
        }
        files.insert(name.clone(), read(name, schema)?);
    }
    files.insert(file_name.to_owned(), read(file_name, &family.root)?);
    let mut size = Size::default();
    files.values().try_for_each(|file| size.add(file.file_descriptor_proto())).map_err(error)?;
    let file = contained(|| {
        let mut compiler = protox::Compiler::with_file_resolver(InMemory { files });
        // The debug form is the one with file, line and column.
        compiler.open_file(file_name).map_err(|cause| error(one_line(&format!("{cause:?}"))))?;
        Ok(compiler.descriptor_pool().get_file_by_name(file_name))
    })?;
    let file = file.ok_or_else(|| error(format!("`{file_name}` compiles to nothing")))?;
    Ok(Compilation { file })
}

/// Runs a part of the compiler, which is not ours: descriptors that nobody's parser wrote make some versions of it panic, and one
/// subject's must not stop another's from loading.
fn contained<T>(run: impl FnOnce() -> Result<T, CompileError>) -> Result<T, CompileError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(error("the schema makes the Protobuf compiler panic, so it is not a valid one".to_owned()))
    })
}

impl Compilation {
    /// The message of an event type: the one that its setting names; else the one whose full name is the subject; else
    /// the file's only top-level message.
    pub fn message(&self, subject: &str, setting: Option<&str>) -> Result<EventMessage, CompileError> {
        let subject = without_context(subject);
        let name = setting.unwrap_or(subject);
        if let Some(found) = self.messages().find(|message| message.descriptor.full_name() == name) {
            return Ok(found);
        }
        if let Some(elsewhere) = self.file.parent_pool().get_message_by_name(name) {
            let problem = match elsewhere.parent_message() {
                Some(parent) => format!("nested in `{}`", parent.full_name()),
                None => format!("declared in the import `{}`", elsewhere.parent_file().name()),
            };
            return Err(error(format!(
                "message `{name}` is {problem}; an event's message is a top-level one of its file"
            )));
        }
        if setting.is_some() {
            return Err(error(format!("there is no message `{name}`; there are {}", self.candidates())));
        }
        let mut messages = self.messages();
        match (messages.next(), messages.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(error("there is no message in the file".to_owned())),
            _ => {
                Err(error(format!("none of {} is called `{subject}`; set `message` to one of them", self.candidates())))
            }
        }
    }

    /// The file's top-level messages, in the order of their declaration.
    pub fn messages(&self) -> impl Iterator<Item = EventMessage> + '_ {
        self.file.messages().zip(0..).map(|(descriptor, index)| EventMessage { descriptor, index })
    }

    /// The file alone, without what it imports, as a base64 `FileDescriptorProto`.
    pub fn to_base64(&self) -> String {
        BASE64.encode(self.file.encode_to_vec())
    }

    /// What text and base64 form of one schema have in common, and two texts that differ only in comments and blanks: see
    /// [`content`].
    pub fn content(&self) -> Vec<u8> {
        content(&self.file)
    }

    fn candidates(&self) -> String {
        let mut names: Vec<_> = self.messages().map(|m| format!("`{}`", m.descriptor.full_name())).collect();
        let more = names.len().saturating_sub(CANDIDATES_MAX);
        names.truncate(CANDIDATES_MAX);
        if more > 0 {
            names.push(format!("{more} more"));
        }
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

/// The descriptor of a file without its name, its positions in the text, and the JSON names that follow from field names,
/// which some tools write and some leave out. What it imports is in it by name only.
pub fn content(file: &FileDescriptor) -> Vec<u8> {
    let mut file: FileDescriptorProto = file.file_descriptor_proto().clone();
    file.name = None;
    file.source_code_info = None;
    file.message_type.iter_mut().for_each(drop_json_names);
    file.encode_to_vec()
}

/// Messages nest at most as deep as the compiler allows, so this may recurse.
fn drop_json_names(message: &mut DescriptorProto) {
    for field in message.field.iter_mut().chain(&mut message.extension) {
        if field.json_name == Some(json_name(field.name())) {
            field.json_name = None;
        }
    }
    message.nested_type.iter_mut().for_each(drop_json_names);
}

/// The JSON name that protoc gives a field: underscores go, the letter behind one is upper case.
fn json_name(name: &str) -> String {
    let mut after = false;
    name.chars()
        .filter_map(|c| {
            let upper = std::mem::replace(&mut after, c == '_');
            match c {
                '_' => None,
                c if upper => Some(c.to_ascii_uppercase()),
                c => Some(c),
            }
        })
        .collect()
}

/// Parses a file, from text or from the base64 `FileDescriptorProto` that Python's clients register.
pub(crate) fn read(name: &str, schema: &Schema) -> Result<File, CompileError> {
    let Some(encoded) = base64_form(&schema.text) else {
        return File::from_source(name, &schema.text).map_err(|cause| {
            let hint = if is_of_an_edition(&schema.text) { EDITION_AS_TEXT } else { "" };
            error(format!("{}{hint}", one_line(&format!("{cause:?}"))))
        });
    };
    let bytes = BASE64
        .decode(encoded)
        .map_err(|_| error(format!("`{name}` is neither Protobuf text nor a base64 file descriptor")))?;
    let lowered = lower_editions(name, &bytes).map_err(|cause| error(format!("`{name}` is base64, but {cause}")))?;
    if let Some(lowered) = lowered {
        return File::decode_file_descriptor_proto(lowered.as_slice())
            .map_err(|cause| error(format!("`{name}` cannot be read as a file descriptor: {cause}")));
    }
    let mut file = FileDescriptorProto::decode(bytes.as_slice())
        .map_err(|cause| error(format!("`{name}` is base64, but not of a file descriptor: {cause}")))?;
    // The descriptor's own name is the one from its author's disk; imports use the name of the reference.
    file.name = Some(name.to_owned());
    Ok(File::from_file_descriptor_proto(file))
}

/// What to do about a file of an edition, which cannot be compiled from text.
const EDITION_AS_TEXT: &str = "; files of Protobuf editions are read as descriptors only: register the base64 \
    `FileDescriptorProto` of the file instead of its text, or use `syntax = \"proto3\"`";

/// Whether the first statement of a Protobuf text says its edition.
fn is_of_an_edition(text: &str) -> bool {
    let statements = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    statements.take(1).any(|first| first.starts_with("edition"))
}

/// The text without line breaks, if it can be nothing but base64: every Protobuf file has a quote, brace or semicolon.
fn base64_form(text: &str) -> Option<String> {
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'\r' | b'\n');
    let text = text.trim();
    (!text.is_empty() && text.bytes().all(is_base64)).then(|| text.replace(['\r', '\n'], ""))
}

/// A subject without the context that it may be qualified with (`:.context:subject`).
pub(crate) fn without_context(subject: &str) -> &str {
    subject.strip_prefix(":.").and_then(|rest| rest.split_once(':')).map_or(subject, |(_, subject)| subject)
}

struct InMemory {
    files: HashMap<String, File>,
}

impl FileResolver for InMemory {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.files.get(name) {
            Some(file) => Ok(file.clone()),
            None => GoogleFileResolver::new().open_file(name),
        }
    }
}

fn error(message: String) -> CompileError {
    CompileError { message }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"syntax = "proto3"; package a.v1;
        message Second { string id = 1; message Inner { string id = 1; } }
        message First { Second second = 1; map<string, string> tags = 2; }"#;
    const ONE: &str = r#"syntax = "proto3"; package a.v1; message Only { string id = 1; }"#;

    fn family(text: &str, imports: &[(&str, &str)]) -> Family {
        let schema = |text: &str| Schema::new(Kind::Protobuf, text);
        let imports = imports.iter().map(|(name, text)| ((*name).to_owned(), schema(text))).collect();
        Family { root: schema(text), imports }
    }

    #[track_caller]
    fn check(text: &str, imports: &[(&str, &str)], expected: Result<(), &str>) {
        let found = compile("root.proto", &family(text, imports)).map(|_| ());
        match (found, expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) if error.message.contains(part) => {}
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }

    #[track_caller]
    fn check_message(text: &str, subject: &str, setting: Option<&str>, expected: Result<(&str, u32), &str>) {
        let imports = [("other.proto", r#"syntax = "proto3"; package o; message Other {}"#)];
        let text = text.replacen("package", "import \"other.proto\"; package", 1);
        let found =
            compile("root.proto", &family(&text, &imports)).expect("the file is good").message(subject, setting);
        let found = found.map(|m| (m.descriptor.full_name().to_owned(), m.index)).map_err(|e| e.message);
        match (&found, expected) {
            (Ok((name, index)), Ok(wanted)) => assert_eq!((name.as_str(), *index), wanted),
            (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
            _ => panic!("{found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn a_schema_that_cannot_be_compiled_says_why_and_where() {
        check("syntax = \"proto3\"; message A { string x = ; }", &[], Err("root.proto:1:"));
        check("syntax = \"proto3\"; message A { B b = 1; }", &[], Err("'B'"));
        check("syntax = \"proto3\"; import \"gone.proto\"; message A {}", &[], Err("gone.proto"));
        check("// A.\nedition = \"2023\"; message A {}", &[], Err("register the base64 `FileDescriptorProto`"));
        check("AAAA", &[], Err("not of a file descriptor"));
        check("AAA", &[], Err("neither"));
        check("syntax = \"proto3\"; message A { string foo_bar = 1; string fooBar = 2; }", &[], Err("fooBar"));
    }

    #[test]
    fn an_import_cycle_is_refused() {
        let a = "syntax = \"proto3\"; import \"b.proto\"; message A {}";
        let b = "syntax = \"proto3\"; import \"a.proto\"; message B {}";
        let root = "syntax = \"proto3\"; import \"a.proto\"; message Root {}";
        check(root, &[("a.proto", a), ("b.proto", b)], Err("cycle"));
        check("syntax = \"proto3\"; import \"root.proto\"; message Root {}", &[], Err("cycle"));
    }

    #[test]
    fn two_files_may_share_a_package_but_not_a_message() {
        let root = "syntax = \"proto3\"; package p; import \"b.proto\"; message A { B b = 1; }";
        check(root, &[("b.proto", "syntax = \"proto3\"; package p; message B {}")], Ok(()));
        check(root, &[("b.proto", "syntax = \"proto3\"; package p; message B {} message A {}")], Err("p.A"));
    }

    #[test]
    fn the_wrong_kind_of_schema_is_refused() {
        let json = Family::from(Schema::new(Kind::Json, "{}"));
        let message = compile("root.proto", &json).expect_err("it is no Protobuf").message;
        assert!(message.contains("JSON") && message.contains("PROTOBUF"), "{message}");
        let mut imports_avro = family("syntax = \"proto3\"; import \"b.proto\";", &[]);
        imports_avro.imports.push(("b.proto".to_owned(), Schema::new(Kind::Avro, "\"int\"")));
        let message = compile("root.proto", &imports_avro).expect_err("its import is no Protobuf").message;
        assert!(message.contains("b.proto") && message.contains("AVRO"), "{message}");
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        let deep = format!("syntax = \"proto3\"; {}{}", "message A { ".repeat(50_000), "}".repeat(50_000));
        check(&deep, &[], Err("recursion"));
    }

    #[test]
    fn well_known_types_need_no_reference() {
        let text = "syntax = \"proto3\"; import \"google/protobuf/timestamp.proto\";
            message A { google.protobuf.Timestamp at = 1; }";
        check(text, &[], Ok(()));
    }

    #[test]
    fn the_message_is_found_by_setting_then_subject_then_alone() {
        check_message(TWO, "anything", Some("a.v1.First"), Ok(("a.v1.First", 1)));
        check_message(TWO, "a.v1.First", Some("a.v1.Second"), Ok(("a.v1.Second", 0)));
        check_message(TWO, "a.v1.First", None, Ok(("a.v1.First", 1)));
        check_message(TWO, ":.staging:a.v1.First", None, Ok(("a.v1.First", 1)));
        check_message(ONE, "orders-value", None, Ok(("a.v1.Only", 0)));
        check_message(TWO, "orders-value", None, Err("none of `a.v1.Second`, `a.v1.First` is called `orders-value`"));
        check_message(TWO, "x", Some("a.v1.Third"), Err("there is no message `a.v1.Third`; there are `a.v1.Second`"));
        check_message(ONE, "x", Some("a.v1.Third"), Err("there is no message `a.v1.Third`"));
        check_message(TWO, "x", Some("a.v1.Second.Inner"), Err("nested in `a.v1.Second`"));
        check_message(TWO, "a.v1.Second.Inner", None, Err("nested in `a.v1.Second`"));
        check_message(TWO, "o.Other", None, Err("declared in the import `other.proto`"));
        check_message("syntax = \"proto3\"; package p;", "x", None, Err("no message in the file"));
    }

    #[test]
    fn the_base64_form_is_the_same_schema() {
        let text = compile("root.proto", &family(TWO, &[])).expect("good");
        let encoded = text.to_base64();
        let again = compile("registered.proto", &family(&encoded, &[])).expect("good as base64");
        let message = again.message("a.v1.First", None).expect("there");
        assert_eq!(message.index, 1);
        assert!(message.descriptor.get_field(2).expect("tags").is_map());
        let wrapped = format!("{}\n{}\n", &encoded[..8], &encoded[8..]);
        compile("registered.proto", &family(&wrapped, &[])).expect("line breaks are allowed");
    }

    #[test]
    fn a_file_of_an_edition_is_read_from_its_descriptor() {
        use prost_reflect::prost_types::{DescriptorProto, FieldDescriptorProto};
        // `edition` is field 14, which the types of prost do not have.
        let edition = |number: u64| {
            let field = FieldDescriptorProto {
                name: Some("a".to_owned()),
                number: Some(1),
                label: Some(1),
                r#type: Some(5),
                ..FieldDescriptorProto::default()
            };
            let name = Some("M".to_owned());
            let message = DescriptorProto { name, field: vec![field], ..DescriptorProto::default() };
            let file = FileDescriptorProto {
                name: Some("disk/name.proto".to_owned()),
                package: Some("b.v".to_owned()),
                message_type: vec![message],
                syntax: Some("editions".to_owned()),
                ..FileDescriptorProto::default()
            };
            let mut bytes = file.encode_to_vec();
            prost_reflect::prost::encoding::uint64::encode(14, &number, &mut bytes);
            // `options.features.field_presence = IMPLICIT`, which prost does not have either.
            bytes.extend([0x42, 5, 0x92, 3, 2, 8, 2]);
            BASE64.encode(bytes)
        };
        let compiled = compile("root.proto", &family(&edition(1000), &[])).expect("edition 2023");
        assert_eq!(compiled.file.name(), "root.proto");
        let message = compiled.message("b.v.M", None).expect("there").descriptor;
        let avro = crate::transcode::avro_schema(&message, &crate::route::Mapping::default()).expect("good");
        assert!(avro.contains(r#"{"name":"a","type":"int","default":0,"proto.number":1}"#), "{avro}");
        check(&edition(1998), &[], Err("edition 1998 is not known; 2023 and 2024 are"));
    }

    #[test]
    fn a_base64_import_goes_by_the_name_of_its_reference() {
        let other = compile("disk/name.proto", &family("syntax = \"proto3\"; package o; message O {}", &[]));
        let other = other.expect("good").to_base64();
        let root = "syntax = \"proto3\"; import \"o/o.proto\"; message A { o.O o = 1; }";
        check(root, &[("o/o.proto", &other)], Ok(()));
    }
}

#[cfg(test)]
#[path = "hostile_tests.rs"]
mod hostile_tests;
