//! The resolution rules of the Avro specification ("Schema Resolution"): whether a reader's schema takes every datum that
//! was written by a writer's.
//!
//! In: two schemas with their names resolved. Out: what a reader cannot take. Types are followed through names, which
//! libraries that compare references by name do not do. Never: recursion over more than one definition at a time.

use std::collections::HashSet;

use super::super::avro::{Field, Named, Shape, Structure, Type};
use super::{Finding, Names, Rule};

/// How much must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// The specification, as registries judge it: named types by their short names, logical types not at all.
    Specification,
    /// Also namespaces, which readers with generated classes look types up by, and logical types, which say what a number
    /// means.
    Consumers,
}

/// What keeps a reader from reading what a writer wrote.
pub fn compare(reader: &Structure, writer: &Structure, names: Names<'_>, strictness: Strictness) -> Vec<Finding> {
    let mut resolution = Resolution { reader, writer, names, strictness, seen: HashSet::new(), open: Vec::new() };
    let mut found = Vec::new();
    resolution.types("", &reader.root, &writer.root, &mut found);
    while let Some((path, read, written)) = resolution.open.pop() {
        resolution.named(&path, &read, &written, &mut found);
    }
    found
}

struct Resolution<'a> {
    reader: &'a Structure,
    writer: &'a Structure,
    names: Names<'a>,
    strictness: Strictness,
    /// Pairs of named types that are compared or waiting to be.
    seen: HashSet<(String, String)>,
    open: Vec<(String, String, String)>,
}

impl Resolution<'_> {
    fn types(&mut self, path: &str, reader: &Type, writer: &Type, found: &mut Vec<Finding>) {
        self.branches(path, reader, writer, writer, found);
    }

    /// `whole` is what was written there: `writer`, or the union that it is a branch of.
    fn branches(&mut self, path: &str, reader: &Type, writer: &Type, whole: &Type, found: &mut Vec<Finding>) {
        if let Shape::Union(branches) = &writer.shape {
            // The datum may be of any branch; what several of them break is told once.
            let before = found.len();
            branches.iter().for_each(|branch| self.branches(path, reader, branch, whole, found));
            let mut of_branches = found.split_off(before);
            of_branches.dedup();
            return found.extend(of_branches);
        }
        if let Shape::Union(branches) = &reader.shape {
            // A branch of the same name or type goes before one that only takes it too.
            let same = branches.iter().find(|branch| branch.shape == writer.shape);
            return match same.or_else(|| branches.iter().find(|branch| self.may_match(branch, writer))) {
                Some(branch) => self.branches(path, branch, writer, whole, found),
                None => {
                    let reason =
                        format!("{} writes {whole}, {} reads only {reader}", self.names.writer, self.names.reader);
                    let fix = "keep every type that was ever written there".to_owned();
                    found.push(finding(Rule::MissingUnionBranch, path, reason, fix));
                }
            };
        }
        let mismatch = |rule, what: &str| {
            let reason = format!("it is {reader} in {}, {whole} in {}{what}", self.names.reader, self.names.writer);
            finding(rule, path, reason, "keep the type as it was, and add a field with the new one".to_owned())
        };
        match (&reader.shape, &writer.shape) {
            (Shape::Named(read), Shape::Named(written)) => {
                if self.seen.insert((read.clone(), written.clone())) {
                    self.open.push((path.to_owned(), read.clone(), written.clone()));
                }
            }
            (Shape::Array(read), Shape::Array(written)) | (Shape::Map(read), Shape::Map(written)) => {
                self.types(path, read, written, found);
            }
            (Shape::Primitive(read), Shape::Primitive(written)) if promotes(written, read) => {
                if self.strictness == Strictness::Consumers && reader.logical != writer.logical {
                    found.push(mismatch(Rule::LogicalTypeChanged, ", so that the number means something else"));
                }
            }
            _ => found.push(mismatch(Rule::TypeMismatch, "")),
        }
    }

    /// Whether a branch of the reader is the one for what was written; whether it can read all of it is another question.
    fn may_match(&self, reader: &Type, writer: &Type) -> bool {
        match (&reader.shape, &writer.shape) {
            (Shape::Named(read), Shape::Named(written)) => {
                same_kind(&self.reader.named[read], &self.writer.named[written])
                    && (short(read) == short(written) || self.has_alias(read, written))
            }
            (Shape::Array(_), Shape::Array(_)) | (Shape::Map(_), Shape::Map(_)) => true,
            (Shape::Primitive(read), Shape::Primitive(written)) => promotes(written, read),
            _ => false,
        }
    }

    fn has_alias(&self, read: &str, written: &str) -> bool {
        self.reader.aliases.get(read).is_some_and(|aliases| aliases.iter().any(|alias| alias == written))
    }

    fn named(&mut self, path: &str, read: &str, written: &str, found: &mut Vec<Finding>) {
        let (reader, writer) = (&self.reader.named[read], &self.writer.named[written]);
        let place = if path.is_empty() { written } else { path };
        let names = self.names;
        if !same_kind(reader, writer) {
            let reason = format!("`{read}` is another kind of type in {} than in {}", names.reader, names.writer);
            found.push(finding(Rule::TypeMismatch, place, reason, "give the new type a name of its own".to_owned()));
            return;
        }
        if read != written && !self.has_alias(read, written) {
            let (rule, fails) = match short(read) == short(written) {
                false => (Rule::NameMismatch, true),
                true => (Rule::NamespaceChanged, self.strictness == Strictness::Consumers),
            };
            if fails {
                let reason = format!("the type is `{read}` in {}, `{written}` in {}", names.reader, names.writer);
                let fix = "keep the message's full name; Avro finds types by it".to_owned();
                found.push(finding(rule, place, reason, fix));
            }
            if rule == Rule::NameMismatch {
                return;
            }
        }
        match (reader, writer) {
            (Named::Record(reader), Named::Record(writer)) => {
                let prefix = if path.is_empty() { read } else { path };
                reader.iter().for_each(|field| self.field(prefix, field, writer, found));
            }
            (Named::Enum { symbols: read, default }, Named::Enum { symbols: written, .. }) => {
                let missing: Vec<_> =
                    written.iter().filter(|symbol| !read.contains(symbol)).map(String::as_str).collect();
                if !missing.is_empty() && default.is_none() {
                    let reason = format!(
                        "{} writes {}, which {} does not know, and the enum has no default",
                        names.writer,
                        missing.join(", "),
                        names.reader
                    );
                    let fix = "keep the symbols, or give the enum a default".to_owned();
                    found.push(finding(Rule::MissingEnumSymbols, place, reason, fix));
                }
            }
            (Named::Fixed { size: read, .. }, Named::Fixed { size: written, .. }) if read != written => {
                let reason = format!("it has {read} bytes in {}, {written} in {}", names.reader, names.writer);
                let fix = "keep the size, and add a type with the new one".to_owned();
                found.push(finding(Rule::FixedSizeMismatch, place, reason, fix));
            }
            _ => {}
        }
    }

    /// A field of the reader: written under its name or an alias, or else it needs a default.
    fn field(&mut self, record: &str, field: &Field, written: &[Field], found: &mut Vec<Finding>) {
        let path = format!("{record}.{}", field.name);
        let by_name = written.iter().find(|other| other.name == field.name);
        match by_name.or_else(|| written.iter().find(|other| field.aliases.contains(&other.name))) {
            Some(other) => self.types(&path, &field.of, &other.of, found),
            None if field.default.is_none() => {
                let Names { reader, writer } = self.names;
                let reason = format!("{reader} needs it, {writer} does not write it, and it has no default");
                let fix = "give the field a default: a Protobuf field that is not `required` has one".to_owned();
                found.push(finding(Rule::ReaderFieldMissingDefaultValue, &path, reason, fix));
            }
            None => {}
        }
    }
}

fn finding(rule: Rule, path: &str, reason: String, fix: String) -> Finding {
    let path = if path.is_empty() { "the schema itself" } else { path };
    Finding { rule, path: path.to_owned(), reason, fix }
}

fn short(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, short)| short)
}

fn same_kind(one: &Named, other: &Named) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// Whether what was written as one primitive type is read as another.
fn promotes(written: &str, read: &str) -> bool {
    written == read
        || matches!(
            (written, read),
            ("int", "long" | "float" | "double")
                | ("long", "float" | "double")
                | ("float", "double")
                | ("string", "bytes")
                | ("bytes", "string")
        )
}
