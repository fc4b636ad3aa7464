//! An Avro schema -> an [`AvroPlan`].
//!
//! In: the schema's text and those of its references. Out: the plan, or what of the schema is of no use. Never: more than a
//! bounded size, whatever the schema's defaults are.

use std::cell::Cell;
use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, Name, RecordField, UuidSchema};
use serde_json::Value;

use super::{AvroPlan, Branch, Enum, Field, Node, NodeId, Opaque, Record, Whole, push_bytes, push_long};
use crate::route::UnknownFields;
use crate::transcode::PlanError;
use crate::transcode::avro_text::AvroText;
use crate::transcode::slots::DEPTH_MAX;

/// Digits that a decimal may have: the most that 128 bits hold, and the most that Flink, Spark and BigQuery take.
const DECIMAL_DIGITS_MAX: u32 = 38;

/// Largest datum of a field's default, and of all in one schema.
const DEFAULT_BYTES_MAX: usize = 1 << 16;
const DEFAULTS_BYTES_MAX: usize = 1 << 20;

/// Values that all defaults of one schema may have: records without fields have no bytes, and may be in each other twice.
const DEFAULT_VALUES_MAX: u32 = 1 << 16;

pub(super) fn compile(
    text: &str,
    references: &[String],
    key: Option<&str>,
    unknown_fields: UnknownFields,
) -> Result<AvroPlan, PlanError> {
    let text = read(text, references)?;
    let mut plan = tables(&text, unknown_fields)?;
    let too_precise = plan.nodes.iter().find_map(|node| match node {
        Node::Bytes(Opaque::Decimal { precision, .. }) | Node::Fixed(_, Opaque::Decimal { precision, .. })
            if *precision > DECIMAL_DIGITS_MAX =>
        {
            Some(precision)
        }
        _ => None,
    });
    if let Some(digits) = too_precise {
        return Err(refuse(format!("a decimal has {digits} digits, at most {DECIMAL_DIGITS_MAX} are taken")));
    }
    if let Some(path) = key {
        plan.key = find_key(&plan, path)?;
    }
    Ok(plan)
}

/// Whether a text is an Avro schema, and each default in it one of its type.
pub(super) fn check(text: &str, references: &[impl AsRef<str>]) -> Result<(), PlanError> {
    tables(&read(text, references)?, UnknownFields::Reject).map(drop)
}

fn read(text: &str, references: &[impl AsRef<str>]) -> Result<AvroText, PlanError> {
    AvroText::parse(text, references).map_err(|cause| refuse(format!("the Avro schema cannot be read: {cause}")))
}

fn tables(text: &AvroText, unknown_fields: UnknownFields) -> Result<AvroPlan, PlanError> {
    let plan = AvroPlan {
        nodes: Vec::new(),
        records: Vec::new(),
        enums: Vec::new(),
        unions: Vec::new(),
        root: 0,
        key: Vec::new(),
        unknown_fields,
    };
    let mut compiler =
        Compiler { text, plan, named: HashMap::new(), schemas: Vec::new(), default_values: Cell::new(0) };
    // In the order in which they were read, so that a name is known when it is used.
    for schema in text.all() {
        compiler.plan.root = compiler.node(schema)?;
    }
    compiler.defaults()?;
    Ok(compiler.plan)
}

/// The name of a type that has one.
fn name_of(schema: &Schema) -> Option<&Name> {
    match schema {
        Schema::Record(record) => Some(&record.name),
        Schema::Enum(of) => Some(&of.name),
        Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => Some(&fixed.name),
        Schema::Decimal(decimal) => match &decimal.inner {
            InnerDecimalSchema::Fixed(fixed) => Some(&fixed.name),
            InnerDecimalSchema::Bytes => None,
        },
        Schema::Ref { name } => Some(name),
        _ => None,
    }
}

struct Compiler<'s> {
    text: &'s AvroText,
    plan: AvroPlan,
    named: HashMap<&'s Name, NodeId>,
    /// The schemas of the plan's records, for their fields' defaults.
    schemas: Vec<&'s [RecordField]>,
    /// Values of defaults that have been written.
    default_values: Cell<u32>,
}

impl<'s> Compiler<'s> {
    fn node(&mut self, schema: &'s Schema) -> Result<NodeId, PlanError> {
        let Some(name) = name_of(schema) else { return self.unnamed(schema) };
        if let Some(known) = self.named.get(name) {
            return Ok(*known);
        }
        match schema {
            Schema::Ref { .. } => Err(refuse(format!("the type `{name}` is not defined"))),
            Schema::Record(record) => {
                // The record is known before its fields, which may be of its own type.
                let index = self.plan.records.len() as u32;
                self.plan.records.push(Record { name: name.to_string(), fields: Vec::new(), by_name: Vec::new() });
                self.schemas.push(&record.fields);
                let id = self.push(Node::Record(index));
                self.named.insert(name, id);
                if record.fields.len() > usize::from(u16::MAX) {
                    return Err(refuse(format!("record `{name}` has {} fields", record.fields.len())));
                }
                let mut fields = Vec::with_capacity(record.fields.len());
                for field in &record.fields {
                    fields.push(Field { name: field.name.clone(), node: self.node(&field.schema)?, default: None });
                }
                let mut by_name: Vec<u16> = (0..fields.len() as u16).collect();
                by_name.sort_unstable_by(|a, b| fields[usize::from(*a)].name.cmp(&fields[usize::from(*b)].name));
                let record = &mut self.plan.records[index as usize];
                (record.fields, record.by_name) = (fields, by_name);
                Ok(id)
            }
            Schema::Enum(of) => {
                let ordinals = of.symbols.iter().cloned().zip(0..).collect();
                let index = self.plan.enums.len() as u32;
                self.plan.enums.push(Enum { name: name.to_string(), symbols: of.symbols.clone(), ordinals });
                let id = self.push(Node::Enum(index));
                self.named.insert(name, id);
                Ok(id)
            }
            schema => {
                let id = self.unnamed(schema)?;
                self.named.insert(name, id);
                Ok(id)
            }
        }
    }

    fn unnamed(&mut self, schema: &'s Schema) -> Result<NodeId, PlanError> {
        let size = |bytes: usize| u32::try_from(bytes).map_err(|_| refuse(format!("a fixed type has {bytes} bytes")));
        let node = match schema {
            Schema::Null => Node::Null,
            Schema::Boolean => Node::Boolean,
            Schema::Int => Node::Int(Whole::Number),
            Schema::Long => Node::Long(Whole::Number),
            Schema::Float => Node::Float,
            Schema::Double => Node::Double,
            Schema::Bytes | Schema::BigDecimal => Node::Bytes(Opaque::Bytes),
            Schema::String => Node::String,
            Schema::Date => Node::Int(Whole::Date),
            Schema::TimeMillis => Node::Int(Whole::Time(1_000)),
            Schema::TimeMicros => Node::Long(Whole::Time(1_000_000)),
            Schema::TimestampMillis => Node::Long(Whole::Timestamp(1_000)),
            Schema::TimestampMicros => Node::Long(Whole::Timestamp(1_000_000)),
            Schema::TimestampNanos => Node::Long(Whole::Timestamp(1_000_000_000)),
            Schema::LocalTimestampMillis => Node::Long(Whole::LocalTimestamp(1_000)),
            Schema::LocalTimestampMicros => Node::Long(Whole::LocalTimestamp(1_000_000)),
            Schema::LocalTimestampNanos => Node::Long(Whole::LocalTimestamp(1_000_000_000)),
            Schema::Fixed(fixed) | Schema::Duration(fixed) => Node::Fixed(size(fixed.size)?, Opaque::Bytes),
            Schema::Uuid(UuidSchema::String) => Node::UuidText,
            Schema::Uuid(UuidSchema::Bytes) => Node::Bytes(Opaque::Uuid),
            Schema::Uuid(UuidSchema::Fixed(fixed)) => Node::Fixed(size(fixed.size)?, Opaque::Uuid),
            Schema::Decimal(decimal) => {
                let digits = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
                let opaque = Opaque::Decimal { precision: digits(decimal.precision), scale: digits(decimal.scale) };
                match &decimal.inner {
                    InnerDecimalSchema::Bytes => Node::Bytes(opaque),
                    InnerDecimalSchema::Fixed(fixed) => Node::Fixed(size(fixed.size)?, opaque),
                }
            }
            Schema::Array(array) => Node::Array(self.node(&array.items)?),
            Schema::Map(map) => Node::Map(self.node(&map.types)?),
            Schema::Union(union) => {
                let mut branches = Vec::with_capacity(union.variants().len());
                for branch in union.variants() {
                    let node = self.node(branch)?;
                    branches.push(Branch { name: branch_name(branch), node });
                }
                let index = self.plan.unions.len() as u32;
                self.plan.unions.push(branches);
                Node::Union(index)
            }
            Schema::Record(_) | Schema::Enum(_) | Schema::Ref { .. } => unreachable!("these have names"),
        };
        Ok(self.push(node))
    }

    fn push(&mut self, node: Node) -> NodeId {
        self.plan.nodes.push(node);
        self.plan.nodes.len() as NodeId - 1
    }

    /// What a member that is left out becomes: the field's default, else null where its type has that.
    fn defaults(&mut self) -> Result<(), PlanError> {
        // Defaults of records may need those of the records in them, so each is found from the schema alone.
        let mut all = Vec::with_capacity(self.schemas.len());
        let mut bytes = 0;
        for (record, fields) in self.plan.records.iter().zip(&self.schemas) {
            let mut defaults = Vec::with_capacity(fields.len());
            for (field, schema) in record.fields.iter().zip(*fields) {
                let mut datum = Vec::new();
                let written = match self.text.default(schema) {
                    Some(value) => {
                        self.default(field.node, value, 0, &mut datum).then_some(datum).ok_or_else(|| {
                            refuse(format!(
                                "the default of field `{}` of `{}` is none of its type, or too large",
                                field.name, record.name
                            ))
                        })?
                    }
                    None => match self.null(field.node) {
                        Some(null) => null,
                        None => {
                            defaults.push(None);
                            continue;
                        }
                    },
                };
                bytes += written.len();
                if written.len() > DEFAULT_BYTES_MAX || bytes > DEFAULTS_BYTES_MAX {
                    return Err(refuse(format!(
                        "the default of field `{}` of `{}` is too large",
                        field.name, record.name
                    )));
                }
                defaults.push(Some(written));
            }
            all.push(defaults);
        }
        for (record, defaults) in self.plan.records.iter_mut().zip(all) {
            record.fields.iter_mut().zip(defaults).for_each(|(field, default)| field.default = default);
        }
        Ok(())
    }

    /// The datum of null, where the type has it.
    fn null(&self, node: NodeId) -> Option<Vec<u8>> {
        match self.plan.node(node) {
            Node::Null => Some(Vec::new()),
            Node::Union(index) => {
                let branches = &self.plan.unions[index as usize];
                let at = branches.iter().position(|branch| self.plan.node(branch.node) == Node::Null)?;
                let mut datum = Vec::new();
                push_long(&mut datum, at as i64);
                Some(datum)
            }
            _ => None,
        }
    }

    /// Writes a default as schemas hold it: bytes as a string of the characters 0 to 255, a union's bare. Says whether it is
    /// one of the type.
    fn default(&self, node: NodeId, value: &Value, depth: usize, out: &mut Vec<u8>) -> bool {
        let values = self.default_values.get() + 1;
        self.default_values.set(values);
        if depth > DEPTH_MAX || out.len() > DEFAULT_BYTES_MAX || values > DEFAULT_VALUES_MAX {
            return false;
        }
        match (self.plan.node(node), value) {
            (Node::Null, Value::Null) => {}
            (Node::Boolean, Value::Bool(flag)) => out.push(u8::from(*flag)),
            (Node::Int(_), Value::Number(number)) => match number.as_i64().and_then(|n| i32::try_from(n).ok()) {
                Some(number) => push_long(out, i64::from(number)),
                None => return false,
            },
            (Node::Long(_), Value::Number(number)) => match number.as_i64() {
                Some(number) => push_long(out, number),
                None => return false,
            },
            (Node::Float | Node::Double, value) => {
                let number = match value {
                    Value::Number(number) => number.as_f64(),
                    Value::String(name) => special_float(name),
                    _ => None,
                };
                match (self.plan.node(node), number) {
                    (_, None) => return false,
                    (Node::Float, Some(number)) => out.extend_from_slice(&(number as f32).to_le_bytes()),
                    (_, Some(number)) => out.extend_from_slice(&number.to_le_bytes()),
                }
            }
            (Node::Bytes(_), Value::String(text)) => match latin1(text) {
                Some(bytes) => push_bytes(out, &bytes),
                None => return false,
            },
            (Node::Fixed(size, _), Value::String(text)) => match latin1(text) {
                Some(bytes) if bytes.len() == size as usize => out.extend_from_slice(&bytes),
                _ => return false,
            },
            (Node::String | Node::UuidText, Value::String(text)) => push_bytes(out, text.as_bytes()),
            (Node::Enum(index), Value::String(symbol)) => {
                match self.plan.enums[index as usize].ordinals.get(symbol.as_str()) {
                    Some(ordinal) => push_long(out, i64::from(*ordinal)),
                    None => return false,
                }
            }
            (Node::Array(items), Value::Array(values)) => {
                if !values.is_empty() {
                    push_long(out, values.len() as i64);
                }
                if !values.iter().all(|value| self.default(items, value, depth + 1, out)) {
                    return false;
                }
                out.push(0);
            }
            (Node::Map(values), Value::Object(members)) => {
                if !members.is_empty() {
                    push_long(out, members.len() as i64);
                }
                for (key, value) in members {
                    push_bytes(out, key.as_bytes());
                    if !self.default(values, value, depth + 1, out) {
                        return false;
                    }
                }
                out.push(0);
            }
            (Node::Record(index), Value::Object(members)) => {
                let fields = &self.plan.record(index).fields;
                for (field, schema) in fields.iter().zip(self.schemas[index as usize]) {
                    let written = match members.get(&field.name).or_else(|| self.text.default(schema)) {
                        Some(value) => self.default(field.node, value, depth + 1, out),
                        None => false,
                    };
                    if !written {
                        return false;
                    }
                }
            }
            (Node::Union(index), value) => {
                // By the specification a default is of the first branch; since 1.12 it may be of any.
                let start = out.len();
                for (at, branch) in self.plan.unions[index as usize].iter().enumerate() {
                    push_long(out, at as i64);
                    if self.default(branch.node, value, depth + 1, out) {
                        return true;
                    }
                    out.truncate(start);
                }
                return false;
            }
            _ => return false,
        }
        true
    }
}

/// The name by which JSON tags a branch: the full name of a named type, else that of the type below the logical one.
fn branch_name(schema: &Schema) -> String {
    let plain = match schema {
        Schema::Null => "null",
        Schema::Boolean => "boolean",
        Schema::Int | Schema::Date | Schema::TimeMillis => "int",
        Schema::Long
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => "long",
        Schema::Float => "float",
        Schema::Double => "double",
        Schema::String | Schema::Uuid(UuidSchema::String) => "string",
        Schema::Array(_) => "array",
        Schema::Map(_) => "map",
        _ => return name_of(schema).map_or_else(|| "bytes".to_owned(), Name::to_string),
    };
    plain.to_owned()
}

pub(super) fn special_float(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

/// The fields on the way from the root to the key: records, or unions of null and one, down to a type whose text is one.
fn find_key(plan: &AvroPlan, path: &str) -> Result<Vec<u16>, PlanError> {
    let wrong = |message: String| refuse(format!("key `{path}`: {message}"));
    let mut steps = Vec::new();
    let mut node = plan.root;
    for name in path.split('.') {
        let Node::Record(index) = without_null(plan, node) else {
            return Err(wrong(format!("a {} has no field `{name}`", plan.type_name(node))));
        };
        let record = plan.record(index);
        let Some(at) = record.fields.iter().position(|field| field.name == name) else {
            let fields: Vec<_> = record.fields.iter().take(20).map(|field| format!("`{}`", field.name)).collect();
            return Err(wrong(format!("`{}` has no field `{name}`; it has {}", record.name, fields.join(", "))));
        };
        steps.push(at as u16);
        node = record.fields[at].node;
    }
    match without_null(plan, node) {
        Node::Boolean
        | Node::Int(_)
        | Node::Long(_)
        | Node::String
        | Node::UuidText
        | Node::Enum(_)
        | Node::Bytes(Opaque::Bytes | Opaque::Uuid)
        | Node::Fixed(_, Opaque::Bytes | Opaque::Uuid) => Ok(steps),
        _ => Err(wrong(format!(
            "a {} is no key; strings, integers, booleans, enums and bytes are",
            plan.type_name(node)
        ))),
    }
}

/// The only other type of a union with null; any other type is itself.
pub(super) fn without_null(plan: &AvroPlan, node: NodeId) -> Node {
    let Node::Union(index) = plan.node(node) else { return plan.node(node) };
    match plan.unions[index as usize].as_slice() {
        [a, b] if plan.node(a.node) == Node::Null => plan.node(b.node),
        [a, b] if plan.node(b.node) == Node::Null => plan.node(a.node),
        _ => plan.node(node),
    }
}

fn refuse(message: String) -> PlanError {
    PlanError { message }
}
