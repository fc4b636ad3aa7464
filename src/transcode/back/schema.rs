//! An Avro schema as the readers of datums need it: an arena of nodes, names resolved, properties of the mappings kept.
//!
//! In: a schema's text and the texts that it refers to. Out: [`AvroSchema`]. Never: judges names, defaults or
//! compatibility (the registry did), so that schemas with Java's `$` in a namespace are read as well.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::transcode::avro_limits::{AvroSize, check_name};

/// A schema that datums can be read by. Immutable, shared by all threads.
#[derive(Clone, Debug)]
pub struct AvroSchema {
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
}

/// Why a text is not a schema that datums can be read by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Avro schema cannot be used: {message}")]
pub struct AvroSchemaError {
    /// What is wrong, with the name of the type or field.
    pub message: String,
}

/// Index of a node.
pub(super) type NodeId = u32;

/// One type.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    pub(super) logical: Logical,
    /// The property `proto.type`: what the type was in Protobuf, where Avro's does not say it.
    pub(super) proto_type: Option<String>,
}

/// What a type is in a datum.
#[derive(Clone, Debug)]
pub(super) enum NodeKind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Symbols),
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
    Record(Record),
    /// A named type whose definition is being read.
    Unfinished,
}

impl NodeKind {
    /// Avro's name of it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            NodeKind::Null => "null",
            NodeKind::Boolean => "boolean",
            NodeKind::Int => "int",
            NodeKind::Long => "long",
            NodeKind::Float => "float",
            NodeKind::Double => "double",
            NodeKind::Bytes => "bytes",
            NodeKind::String => "string",
            NodeKind::Fixed(_) => "fixed",
            NodeKind::Enum(_) => "enum",
            NodeKind::Array(_) => "array",
            NodeKind::Map(_) => "map",
            NodeKind::Union(_) => "union",
            NodeKind::Record(_) | NodeKind::Unfinished => "record",
        }
    }
}

/// What a number or a string means beside its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logical {
    None,
    /// Since 1970, so many to the second.
    Timestamp {
        per_second: i64,
    },
    Decimal {
        scale: u32,
    },
    /// Of an array: its records are the entries of a map.
    Map,
}

/// An enum.
#[derive(Clone, Debug)]
pub(super) struct Symbols {
    pub(super) symbols: Vec<String>,
    /// The property `proto.numbers`; without it symbols count from zero.
    pub(super) numbers: Option<Vec<i32>>,
}

impl Symbols {
    /// The Protobuf number of the symbol at this position.
    pub(super) fn number(&self, at: usize) -> Option<i32> {
        match &self.numbers {
            Some(numbers) => numbers.get(at).copied(),
            None => i32::try_from(at).ok(),
        }
    }
}

/// A record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Full name.
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
}

/// A field of a record.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) node: NodeId,
    /// The property `proto.number`.
    pub(super) number: Option<u32>,
    /// The property `proto.type` of the field, or of its type.
    pub(super) proto_type: Option<String>,
    pub(super) has_default: bool,
}

impl AvroSchema {
    /// Reads a schema's text. `references` are the texts of the types that it names and does not define, each before
    /// those that need it.
    pub fn parse(text: &str, references: &[String]) -> Result<AvroSchema, AvroSchemaError> {
        let mut parser = Parser { nodes: Vec::new(), named: HashMap::new(), size: AvroSize::default() };
        for reference in references {
            parser.text(reference)?;
        }
        let root = parser.text(text)?;
        if let Some(name) = parser.unfinished() {
            return wrong(format!("`{name}` is not defined"));
        }
        Ok(AvroSchema { nodes: parser.nodes, root })
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }
}

struct Parser {
    nodes: Vec<Node>,
    /// Named types by full name.
    named: HashMap<String, NodeId>,
    size: AvroSize,
}

impl Parser {
    fn text(&mut self, text: &str) -> Result<NodeId, AvroSchemaError> {
        // Its parser refuses nesting over 128 levels, so the recursion below is bounded.
        let json: Value = serde_json::from_str(text)
            .map_err(|error| AvroSchemaError { message: format!("it is not JSON: {error}") })?;
        self.schema(&json, "")
    }

    /// `within` is the namespace around it.
    fn schema(&mut self, json: &Value, within: &str) -> Result<NodeId, AvroSchemaError> {
        match json {
            Value::String(name) => self.name(name, within),
            Value::Array(branches) => {
                self.size.union(branches.len()).map_err(over)?;
                let branches: Result<Vec<_>, _> = branches.iter().map(|branch| self.schema(branch, within)).collect();
                let branches = branches?;
                if branches.is_empty() {
                    return wrong("a union is empty");
                }
                self.add(NodeKind::Union(branches))
            }
            Value::Object(object) => self.object(object, within),
            _ => wrong("a type is neither a name, a union nor an object"),
        }
    }

    fn name(&mut self, name: &str, within: &str) -> Result<NodeId, AvroSchemaError> {
        if let Some(kind) = primitive(name) {
            return self.add(kind);
        }
        let full = full_name(name, within);
        check_name(&full).map_err(over)?;
        match self.named.get(&full).or_else(|| self.named.get(name)) {
            Some(id) => Ok(*id),
            None => wrong(format!("`{full}` is not defined before it is used")),
        }
    }

    fn object(&mut self, object: &Map<String, Value>, within: &str) -> Result<NodeId, AvroSchemaError> {
        let Some(of_type) = object.get("type") else { return wrong("a type has no `type`") };
        let Value::String(of_type) = of_type else { return self.schema(of_type, within) };
        let id = match of_type.as_str() {
            "record" | "error" => return self.record(object, within),
            "enum" => self.enumeration(object, within)?,
            "fixed" => {
                let size = object.get("size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
                let Some(size) = size else { return wrong("a fixed type has no `size`") };
                let id = self.add(NodeKind::Fixed(size))?;
                self.define(object, within, id)?;
                id
            }
            "array" => {
                let items = self.schema(member(object, "items")?, within)?;
                self.add(NodeKind::Array(items))?
            }
            "map" => {
                let values = self.schema(member(object, "values")?, within)?;
                self.add(NodeKind::Map(values))?
            }
            name => match primitive(name) {
                Some(kind) => self.add(kind)?,
                None => return self.name(name, within),
            },
        };
        let node = &mut self.nodes[id as usize];
        node.logical = logical(object);
        node.proto_type = text_of(object, "proto.type");
        Ok(id)
    }

    fn record(&mut self, object: &Map<String, Value>, within: &str) -> Result<NodeId, AvroSchemaError> {
        let id = self.add(NodeKind::Unfinished)?;
        let name = self.define(object, within, id)?;
        let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        let Value::Array(declared) = member(object, "fields")? else {
            return wrong(format!("the fields of `{name}` are no list"));
        };
        self.size.add(declared.len()).map_err(over)?;
        let mut fields = Vec::with_capacity(declared.len());
        for field in declared {
            let Value::Object(field) = field else { return wrong(format!("a field of `{name}` is no object")) };
            let Some(field_name) = text_of(field, "name") else {
                return wrong(format!("a field of `{name}` has no name"));
            };
            check_name(&field_name).map_err(over)?;
            let node = self.schema(member(field, "type")?, &namespace)?;
            let number = field.get("proto.number").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
            let proto_type = text_of(field, "proto.type");
            let has_default = field.contains_key("default");
            fields.push(Field { name: field_name, node, number, proto_type, has_default });
        }
        self.nodes[id as usize].kind = NodeKind::Record(Record { name, fields });
        Ok(id)
    }

    fn enumeration(&mut self, object: &Map<String, Value>, within: &str) -> Result<NodeId, AvroSchemaError> {
        let id = self.add(NodeKind::Unfinished)?;
        let name = self.define(object, within, id)?;
        let Value::Array(symbols) = member(object, "symbols")? else {
            return wrong(format!("the symbols of `{name}` are no list"));
        };
        self.size.add(symbols.len()).map_err(over)?;
        let symbols: Option<Vec<_>> = symbols.iter().map(|symbol| Some(symbol.as_str()?.to_owned())).collect();
        let Some(symbols) = symbols else { return wrong(format!("a symbol of `{name}` is no string")) };
        let numbers = object.get("proto.numbers").and_then(Value::as_array).map(|numbers| {
            let number = |number: &Value| number.as_i64().and_then(|number| i32::try_from(number).ok());
            numbers.iter().map_while(number).collect()
        });
        self.nodes[id as usize].kind = NodeKind::Enum(Symbols { symbols, numbers });
        Ok(id)
    }

    /// Makes a named type known, and gives its full name.
    fn define(&mut self, object: &Map<String, Value>, within: &str, id: NodeId) -> Result<String, AvroSchemaError> {
        let Some(name) = text_of(object, "name") else { return wrong("a named type has no name") };
        let namespace = text_of(object, "namespace");
        let full = full_name(&name, namespace.as_deref().unwrap_or(within));
        check_name(&full).map_err(over)?;
        if self.named.insert(full.clone(), id).is_some() {
            return wrong(format!("`{full}` is defined twice"));
        }
        Ok(full)
    }

    fn add(&mut self, kind: NodeKind) -> Result<NodeId, AvroSchemaError> {
        self.size.add(1).map_err(over)?;
        self.nodes.push(Node { kind, logical: Logical::None, proto_type: None });
        Ok((self.nodes.len() - 1) as NodeId)
    }

    fn unfinished(&self) -> Option<&str> {
        let is_open = |id: NodeId| matches!(self.nodes[id as usize].kind, NodeKind::Unfinished);
        self.named.iter().find(|(_, id)| is_open(**id)).map(|(name, _)| name.as_str())
    }
}

fn primitive(name: &str) -> Option<NodeKind> {
    Some(match name {
        "null" => NodeKind::Null,
        "boolean" => NodeKind::Boolean,
        "int" => NodeKind::Int,
        "long" => NodeKind::Long,
        "float" => NodeKind::Float,
        "double" => NodeKind::Double,
        "bytes" => NodeKind::Bytes,
        "string" => NodeKind::String,
        _ => return None,
    })
}

/// A name with a dot is a full one already.
fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn logical(object: &Map<String, Value>) -> Logical {
    match object.get("logicalType").and_then(Value::as_str) {
        Some("timestamp-millis") => Logical::Timestamp { per_second: 1_000 },
        Some("timestamp-micros") => Logical::Timestamp { per_second: 1_000_000 },
        Some("timestamp-nanos") => Logical::Timestamp { per_second: 1_000_000_000 },
        Some("map") => Logical::Map,
        Some("decimal") => {
            let scale = object.get("scale").and_then(Value::as_u64).unwrap_or(0);
            Logical::Decimal { scale: u32::try_from(scale).unwrap_or(u32::MAX) }
        }
        _ => Logical::None,
    }
}

fn text_of(object: &Map<String, Value>, name: &str) -> Option<String> {
    object.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn member<'j>(object: &'j Map<String, Value>, name: &str) -> Result<&'j Value, AvroSchemaError> {
    object.get(name).ok_or_else(|| AvroSchemaError { message: format!("a type has no `{name}`") })
}

fn over(message: String) -> AvroSchemaError {
    AvroSchemaError { message }
}

fn wrong<T>(message: impl Into<String>) -> Result<T, AvroSchemaError> {
    Err(AvroSchemaError { message: message.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_schema_is_refused() {
        let check = |text: &str, expected: &str| {
            let error = AvroSchema::parse(text, &[]).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("{", "it is not JSON");
        check("1", "neither a name, a union nor an object");
        check("[]", "a union is empty");
        check("{}", "has no `type`");
        check(r#""a.B""#, "`a.B` is not defined before it is used");
        check(r#"{"type":"record","fields":[]}"#, "a named type has no name");
        check(r#"{"type":"record","name":"R"}"#, "has no `fields`");
        check(r#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#, "has no `type`");
        check(r#"{"type":"array"}"#, "has no `items`");
        check(r#"{"type":"fixed","name":"F"}"#, "no `size`");
        check(r#"{"type":"enum","name":"E","symbols":[1]}"#, "a symbol of `E` is no string");
        check(r#"[{"type":"fixed","name":"F","size":1},{"type":"fixed","name":"F","size":1}]"#, "defined twice");
        check(&format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(200), "}".repeat(200)), "it is not JSON");
    }

    #[test]
    fn names_are_found_in_the_namespace_around_them_and_in_references() {
        let reference = r#"{"type":"enum","name":"a.E","symbols":["X"]}"#.to_owned();
        let text = r#"{"type":"record","name":"R","namespace":"a","fields":[
            {"name":"e","type":"E"},{"name":"r","type":["null","a.R"]},
            {"name":"j","type":{"type":"record","name":"J$K","namespace":"a.O$P","fields":[]}}]}"#;
        let schema = AvroSchema::parse(text, &[reference]).expect("a schema");
        let NodeKind::Record(record) = &schema.node(schema.root).kind else { panic!("no record") };
        assert_eq!(record.name, "a.R");
        assert!(matches!(&schema.node(record.fields[0].node).kind, NodeKind::Enum(e) if e.symbols == ["X"]));
        assert!(matches!(&schema.node(record.fields[2].node).kind, NodeKind::Record(r) if r.name == "a.O$P.J$K"));
    }
}
