//! The rules for a message whose events are stored by the Avro schema that it derives.
//!
//! In: a message as a reader and a writer know it, both with their derived schema. Out: what Avro's own rules refuse
//! ([`super::avro`], strictly), and what they let pass because every derived field and enum has a default, but which
//! would make values disappear: Avro knows fields and symbols by name, Protobuf by number.

use std::collections::{BTreeMap, HashSet};

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use super::super::avro::{Structure, StructureError};
use super::avro::{self, Strictness};
use super::protobuf::shown;
use super::{Direction, Finding, Names, Rule};
use crate::route::Mapping;
use crate::transcode::{self, PlanError};

/// A message with the Avro schema that it derives.
#[derive(Clone, Debug)]
pub struct Derived {
    message: MessageDescriptor,
    text: String,
    structure: Structure,
}

/// Why a message derives no schema.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the causes say it")]
pub enum DeriveError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("the derived schema is not legal Avro: {0}")]
    Structure(#[from] StructureError),
    #[error("the derived schema is not legal Avro: {0}")]
    Avro(String),
}

impl Derived {
    /// Derives the schema of a message; what Avro's own parser refuses is an error.
    pub fn new(message: &MessageDescriptor, mapping: &Mapping) -> Result<Derived, DeriveError> {
        let text = transcode::avro_schema(message, mapping)?;
        let structure = Structure::parse(&text, [])?;
        Ok(Derived { message: message.clone(), text, structure })
    }

    /// The message.
    pub fn message(&self) -> &MessageDescriptor {
        &self.message
    }

    /// The schema's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The schema.
    pub fn structure(&self) -> &Structure {
        &self.structure
    }
}

/// What a reader would not get of what a writer wrote. With [`Direction::Forward`] the reader is the older one.
pub fn compare(reader: &Derived, writer: &Derived, names: Names<'_>, direction: Direction) -> Vec<Finding> {
    let mut found = avro::compare(&reader.structure, &writer.structure, names, Strictness::Consumers);
    found.extend(losses(&reader.message, &writer.message, names, direction));
    found
}

/// The part of [`compare`] that Avro's own rules do not see.
pub fn losses(
    reader: &MessageDescriptor,
    writer: &MessageDescriptor,
    names: Names<'_>,
    direction: Direction,
) -> Vec<Finding> {
    let mut loss = Loss { names, direction, found: Vec::new(), seen: HashSet::new() };
    let mut open = vec![(reader.clone(), writer.clone())];
    while let Some((read, written)) = open.pop() {
        open.extend(loss.message(&read, &written));
    }
    loss.found
}

struct Loss<'a> {
    names: Names<'a>,
    direction: Direction,
    found: Vec<Finding>,
    seen: HashSet<String>,
}

impl Loss<'_> {
    /// Compares two messages; those that both refer to are to be compared next.
    fn message(
        &mut self,
        reader: &MessageDescriptor,
        writer: &MessageDescriptor,
    ) -> Vec<(MessageDescriptor, MessageDescriptor)> {
        let mut referred = Vec::new();
        if !self.seen.insert(writer.full_name().to_owned()) {
            return referred;
        }
        let read: BTreeMap<u32, FieldDescriptor> = reader.fields().map(|field| (field.number(), field)).collect();
        for written in writer.fields() {
            let Some(field) = read.get(&written.number()) else { continue };
            if field.name() != written.name() {
                self.renamed(field, &written);
            }
            match (field.kind(), written.kind()) {
                (Kind::Message(read), Kind::Message(written)) => referred.push((read, written)),
                (Kind::Enum(read), Kind::Enum(written)) => self.enumeration(&read, &written),
                _ => {}
            }
        }
        referred
    }

    /// A number under two names: a field that was renamed, or a number that was given to another field.
    fn renamed(&mut self, reader: &FieldDescriptor, writer: &FieldDescriptor) {
        let Names { reader: of_reader, writer: of_writer } = self.names;
        let (now, then, number) = (reader.name(), writer.name(), writer.number());
        let path = writer.full_name().to_owned();
        if shown(reader) == shown(writer) {
            let reason = format!(
                "field {number} is `{now}` in {of_reader}, `{then}` in {of_writer}: Avro finds fields by name, so it would read the default"
            );
            let fix = format!("keep the name `{}`; `json_name` may change what JSON calls it", self.older(now, then));
            self.found.push(Finding { rule: Rule::FieldRenamed, path, reason, fix });
        } else {
            let reason = format!(
                "field {number} is `{} {now}` in {of_reader}, `{} {then}` in {of_writer}",
                shown(reader),
                shown(writer)
            );
            let fix = format!("give the new field a number that was never used, and add `reserved {number};`");
            self.found.push(Finding { rule: Rule::FieldNumberReused, path, reason, fix });
        }
    }

    fn enumeration(&mut self, reader: &EnumDescriptor, writer: &EnumDescriptor) {
        // Another enum altogether is told of already.
        if reader.name() != writer.name() || !self.seen.insert(writer.full_name().to_owned()) {
            return;
        }
        let Names { reader: of_reader, writer: of_writer } = self.names;
        // Of several names of one number the first is written.
        let mut numbers = HashSet::new();
        let declared = &writer.enum_descriptor_proto().value;
        for value in declared.iter().filter(|value| numbers.insert(value.number())) {
            let (name, number) = (value.name(), value.number());
            if reader.get_value_by_name(name).is_some() {
                continue;
            }
            let path = format!("{}.{name}", writer.full_name());
            match reader.get_value(number) {
                Some(other) => {
                    let reason = format!(
                        "value {number} is `{}` in {of_reader}, `{name}` in {of_writer}: Avro finds symbols by name, so it would read the default",
                        other.name()
                    );
                    let fix = format!("keep the name `{}`", self.older(other.name(), name));
                    self.found.push(Finding { rule: Rule::EnumValueRenamed, path, reason, fix });
                }
                // An older reader takes a symbol that it does not know yet for the default: that is how enums grow.
                None if self.direction == Direction::Backward => {
                    let reason =
                        format!("{of_writer} writes it, {of_reader} does not know it and would read the default");
                    let fix = "keep the value; mark it `deprecated` if nobody should send it".to_owned();
                    self.found.push(Finding { rule: Rule::EnumValueRemoved, path, reason, fix });
                }
                None => {}
            }
        }
    }

    /// The older one of what reader and writer have.
    fn older<'n>(&self, of_reader: &'n str, of_writer: &'n str) -> &'n str {
        match self.direction {
            Direction::Backward => of_writer,
            Direction::Forward => of_reader,
        }
    }
}
