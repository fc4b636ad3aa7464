//! The resolution rules of the Avro specification ("Schema Resolution"): whether a reader's schema takes every datum that
//! was written by a writer's.
//!
//! In: two schemas with their names resolved. Out: what a reader cannot take. Types are followed through names, which
//! libraries that compare references by name do not do. Never: recursion over more than one definition at a time, or more
//! findings than somebody reads.

use std::collections::{HashMap, HashSet};

use super::super::avro::{Field, Named, SHOWN_CHARS_MAX, Shape, Structure, Type, limited};
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

/// Findings of two schemas; whoever mends these finds the others.
const FINDINGS_MAX: usize = 500;

/// What keeps a reader from reading what a writer wrote.
pub fn compare(reader: &Structure, writer: &Structure, names: Names<'_>, strictness: Strictness) -> Vec<Finding> {
    let mut by_short_name: HashMap<_, Vec<_>> = HashMap::new();
    reader.named.keys().for_each(|name| by_short_name.entry(short(name)).or_default().push(name.as_str()));
    let mut by_alias: HashMap<_, Vec<_>> = HashMap::new();
    for (name, aliases) in &reader.aliases {
        aliases.iter().for_each(|alias| by_alias.entry(alias.as_str()).or_default().push(name.as_str()));
    }
    let (seen, open) = (HashSet::new(), Vec::new());
    let mut resolution = Resolution { reader, writer, names, strictness, by_short_name, by_alias, seen, open };
    let mut found = Vec::new();
    resolution.types("", &reader.root, &writer.root, &mut found);
    while let Some((path, read, written)) = resolution.open.pop() {
        if found.len() >= FINDINGS_MAX {
            break;
        }
        resolution.named(&path, &read, &written, &mut found);
    }
    found.truncate(FINDINGS_MAX);
    found
}

struct Resolution<'a> {
    reader: &'a Structure,
    writer: &'a Structure,
    names: Names<'a>,
    strictness: Strictness,
    /// Named types of the reader: unions may be long, so that looking at each branch for each of the other would take too long.
    by_short_name: HashMap<&'a str, Vec<&'a str>>,
    by_alias: HashMap<&'a str, Vec<&'a str>>,
    /// Pairs of named types that are compared or waiting to be.
    seen: HashSet<(String, String)>,
    open: Vec<(String, String, String)>,
}

impl<'a> Resolution<'a> {
    fn types(&mut self, path: &str, reader: &Type, writer: &Type, found: &mut Vec<Finding>) {
        self.branches(path, reader, writer, writer, found);
    }

    /// `whole` is what was written there: `writer`, or the union that it is a branch of.
    fn branches(&mut self, path: &str, reader: &Type, writer: &Type, whole: &Type, found: &mut Vec<Finding>) {
        if let Shape::Union(branches) = &writer.shape {
            // The datum may be of any branch; what several of them break is told once.
            let before = found.len();
            for branch in branches {
                if found.len() >= before + FINDINGS_MAX {
                    break;
                }
                self.branches(path, reader, branch, whole, found);
            }
            let mut of_branches = found.split_off(before);
            of_branches.dedup();
            return found.extend(of_branches);
        }
        if let Shape::Union(branches) = &reader.shape {
            return match self.branch_for(branches, writer) {
                Some(branch) => self.branches(path, branch, writer, whole, found),
                None => {
                    let (whole, read, Names { reader, writer }) = (whole.shown(), reader.shown(), self.names);
                    let reason = format!("{writer} writes {whole}, {reader} reads only {read}");
                    let fix = "keep every type that was ever written there".to_owned();
                    found.push(finding(Rule::MissingUnionBranch, path, reason, fix));
                }
            };
        }
        let mismatch = |rule, what: &str| {
            let (reader, whole) = (reader.shown(), whole.shown());
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

    /// The branch of the reader for what was written; whether it can read all of it is another question. One of the same name or
    /// type goes before one that only takes it too.
    fn branch_for<'t>(&self, branches: &'t [Type], writer: &Type) -> Option<&'t Type> {
        let Shape::Named(written) = &writer.shape else {
            let same = branches.iter().find(|branch| branch.shape == writer.shape);
            return same.or_else(|| branches.iter().find(|branch| may_match(branch, writer)));
        };
        let named = |name: &str| branches.iter().find(|branch| matches!(&branch.shape, Shape::Named(n) if n == name));
        if self.reader.named.contains_key(written)
            && let Some(same) = named(written)
        {
            return Some(same);
        }
        let of = |names: Option<&Vec<&'a str>>| names.into_iter().flatten().copied().collect::<Vec<_>>();
        let mut others = of(self.by_short_name.get(short(written)));
        others.extend(of(self.by_alias.get(written.as_str())));
        others.retain(|name| same_kind(&self.reader.named[*name], &self.writer.named[written]));
        if others.is_empty() {
            return None;
        }
        branches.iter().find(|branch| matches!(&branch.shape, Shape::Named(name) if others.contains(&name.as_str())))
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
                // Schemas may lead through records without end; where that is, the record's own name says it better.
                let prefix = if path.is_empty() || path.len() > SHOWN_CHARS_MAX { read } else { path };
                let written: HashMap<_, _> = writer.iter().map(|field| (field.name.as_str(), field)).collect();
                reader.iter().for_each(|field| self.field(prefix, field, &written, found));
            }
            (Named::Enum { symbols: read, default }, Named::Enum { symbols: written, .. }) => {
                let known: HashSet<_> = read.iter().collect();
                let missing: Vec<_> =
                    written.iter().filter(|symbol| !known.contains(symbol)).map(String::as_str).collect();
                if !missing.is_empty() && default.is_none() {
                    let Names { reader, writer } = names;
                    let missing = limited(&missing.join(", "));
                    let reason =
                        format!("{writer} writes {missing}, which {reader} does not know, and the enum has no default");
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
    fn field(&mut self, record: &str, field: &Field, written: &HashMap<&str, &Field>, found: &mut Vec<Finding>) {
        let path = format!("{record}.{}", field.name);
        let by_alias = || field.aliases.iter().find_map(|alias| written.get(alias.as_str()));
        match written.get(field.name.as_str()).or_else(by_alias) {
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

/// Whether a branch that is no named type can be for a type that is none.
fn may_match(reader: &Type, writer: &Type) -> bool {
    match (&reader.shape, &writer.shape) {
        (Shape::Array(_), Shape::Array(_)) | (Shape::Map(_), Shape::Map(_)) => true,
        (Shape::Primitive(read), Shape::Primitive(written)) => promotes(written, read),
        _ => false,
    }
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
