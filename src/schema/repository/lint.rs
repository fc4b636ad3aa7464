//! What is wrong with the files of a repository before they are compared with anything.
//!
//! In: the compiled files. Out: remarks. Only what bites later is remarked on: in Avro, in a registry, in a client that
//! generates code. Style is another tool's.

use std::collections::HashSet;

use prost_reflect::{EnumDescriptor, FileDescriptor, Kind, MessageDescriptor};

use super::Repository;
use super::report::{Remark, Severity};

/// Remarks on every file, in the order of their names.
pub fn lint(repository: &Repository) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let events: HashSet<&str> = repository.messages().iter().map(|message| message.name.as_str()).collect();
    let referred = referred(repository);
    for file in repository.files() {
        remarks.extend(package(&file));
        file.enums().for_each(|en| remarks.extend(enumeration(&en)));
        for message in file.messages() {
            let name = message.full_name();
            if !events.contains(name) && !referred.contains(name) {
                let reason = "it is no event by the list, and no part of another message";
                let fix = format!("add `[messages.\"{name}\"]`, or remove it");
                remarks.push(Remark::lint(Severity::Warning, "message_unused", name, reason, fix));
            }
            nested(&message, &mut remarks);
        }
    }
    remarks
}

/// Messages nest at most as deep as the compiler allows, so this may recurse.
fn nested(message: &MessageDescriptor, remarks: &mut Vec<Remark>) {
    message.child_enums().for_each(|en| remarks.extend(enumeration(&en)));
    message.child_messages().filter(|nested| !nested.is_map_entry()).for_each(|message| nested(&message, remarks));
}

/// A package, and the folder that it asks for: registries and code generators find imports by it.
fn package(file: &FileDescriptor) -> Option<Remark> {
    let (name, package) = (file.name(), file.package_name());
    if package.is_empty() {
        let reason = "the file has no package, so its names may be anybody's";
        return Some(Remark::lint(Severity::Error, "package_missing", name, reason, "add `package team.name.v1;`"));
    }
    let folder = package.replace('.', "/");
    let fits = name.rsplit_once('/').is_some_and(|(path, _)| path == folder);
    let reason =
        format!("the file of package `{package}` is not in the folder `{folder}`, where some registries look for it");
    let fix = format!("move it there before others import it: `{folder}/{}`", name.rsplit('/').next().unwrap_or(name));
    (!fits).then(|| Remark::lint(Severity::Warning, "package_folder", name, reason, fix))
}

/// The first value stands for what a reader does not know, in Protobuf and in the derived Avro.
fn enumeration(en: &EnumDescriptor) -> Option<Remark> {
    let first = en.enum_descriptor_proto().value.first()?;
    let says_nothing =
        ["UNSPECIFIED", "UNKNOWN", "NONE", "INVALID", "UNDEFINED"].iter().any(|end| first.name().ends_with(end));
    let reason = format!("its first value `{}` is what readers take a value that they do not know for", first.name());
    let fix = "begin with one that ends in `_UNSPECIFIED`";
    (!says_nothing).then(|| Remark::lint(Severity::Warning, "enum_first_value", en.full_name(), reason, fix))
}

/// Full names of top-level messages that are part of another one.
fn referred(repository: &Repository) -> HashSet<String> {
    let mut referred = HashSet::new();
    for message in repository.pool().all_messages() {
        let within = top(&message);
        for field in message.fields() {
            if let Kind::Message(to) = field.kind()
                && top(&to) != within
            {
                referred.insert(top(&to).full_name().to_owned());
            }
        }
    }
    referred
}

fn top(message: &MessageDescriptor) -> MessageDescriptor {
    let mut top = message.clone();
    while let Some(parent) = top.parent_message() {
        top = parent;
    }
    top
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EventMessage;
    use crate::route::Mapping;
    use crate::schema::protos::ProtoFiles;

    /// What is remarked on a file when `a.v1.A` is the only event.
    #[track_caller]
    fn check(name: &str, text: &str, expected: &[&str]) {
        let text = format!("syntax = \"proto3\";\n{text}");
        let files = ProtoFiles::of([(name, text.as_str())]);
        let event = EventMessage::named("a.v1.A", Mapping::default());
        let remarks = lint(&Repository::new(files, vec![event]).expect("it compiles"));
        let told: Vec<_> = remarks.iter().map(|remark| format!("{} {}", remark.rule, remark.path)).collect();
        assert_eq!(told, expected, "{text}");
    }

    #[test]
    fn only_what_bites_later_is_remarked_on() {
        let file = "a/v1/a.proto";
        check(file, "package a.v1; message A { B b = 1; } message B {}", &[]);
        check(file, "package a.v1; message A {} message B {}", &["message_unused a.v1.B"]);
        check(file, "package a.v1; message A { C.B b = 1; } message C { message B {} }", &[]);
        check(file, "package a.v1; message A {} message B { B b = 1; }", &["message_unused a.v1.B"]);
        check("a.proto", "package a.v1; message A {}", &["package_folder a.proto"]);
        check("a.proto", "message A {}", &["package_missing a.proto", "message_unused A"]);
        check(file, "package a.v1; message A { E e = 1; enum E { PAID = 0; } }", &["enum_first_value a.v1.A.E"]);
        check(file, "package a.v1; message A {} enum E { E_UNSPECIFIED = 0; }", &[]);
    }
}
