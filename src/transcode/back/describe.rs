//! A message made from the properties of an Avro schema alone: `proto.number`, `proto.type`, `proto.numbers`.
//!
//! In: a schema that the mapping `presence` derived. Out: a descriptor with the same field numbers and wire types, so that
//! what is written by it is read by the message's own generated code. Never: the original's names of messages, packages
//! and oneofs; Avro has no place for the latter.

use std::collections::HashMap;

use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumOptions, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, MessageOptions, OneofDescriptorProto,
};
use prost_reflect::{DescriptorPool, MessageDescriptor};

use super::schema::{AvroSchema, Field, Logical, NodeId, NodeKind, Record, Symbols};
use crate::transcode::PlanError;

/// Where messages of our own making stand; well-known types are taken from the pool's own files.
const FILE: &str = "from_avro.proto";

/// The message of the schema's root.
pub(super) fn describe(schema: &AvroSchema) -> Result<MessageDescriptor, PlanError> {
    let mut maker = Maker {
        schema,
        pool: DescriptorPool::global(),
        messages: Vec::new(),
        names: HashMap::new(),
        pending: Vec::new(),
    };
    let NodeKind::Record(root) = &schema.node(schema.root).kind else {
        return Err(PlanError { message: "only a record can be read without the descriptor of its message".into() });
    };
    let name = maker.record(schema.root, root);
    while let Some((index, record)) = maker.pending.pop() {
        let mut message = std::mem::take(&mut maker.messages[index]);
        for field in &record.fields {
            maker.field(field, record, &mut message)?;
        }
        maker.messages[index] = message;
    }
    let dependency = maker.pool.files().map(|file| file.name().to_owned()).collect();
    let file = FileDescriptorProto {
        name: Some(FILE.to_owned()),
        syntax: Some("proto3".to_owned()),
        message_type: maker.messages,
        dependency,
        ..Default::default()
    };
    let mut pool = maker.pool;
    let added = pool.add_file_descriptor_proto(file);
    added.map_err(|error| PlanError {
        message: format!("the properties of the Avro schema are of no message: {error}"),
    })?;
    let message = pool.get_message_by_name(name.trim_start_matches('.'));
    message.ok_or_else(|| PlanError { message: format!("`{name}` is not there") })
}

struct Maker<'a> {
    schema: &'a AvroSchema,
    pool: DescriptorPool,
    messages: Vec<DescriptorProto>,
    /// Type names by node.
    names: HashMap<NodeId, String>,
    /// Messages without fields yet: schemas may be recursive.
    pending: Vec<(usize, &'a Record)>,
}

/// A field's type.
struct Typed {
    of_type: Type,
    name: Option<String>,
}

impl From<Type> for Typed {
    fn from(of_type: Type) -> Typed {
        Typed { of_type, name: None }
    }
}

impl<'a> Maker<'a> {
    /// The type name of a record, whose fields are made later.
    fn record(&mut self, id: NodeId, record: &'a Record) -> String {
        if self.pool.get_message_by_name(&record.name).is_some() && record.name.starts_with("google.protobuf.") {
            return format!(".{}", record.name);
        }
        if let Some(name) = self.names.get(&id) {
            return name.clone();
        }
        let short = format!("M{}", self.messages.len());
        self.pending.push((self.messages.len(), record));
        self.messages.push(DescriptorProto { name: Some(short.clone()), ..Default::default() });
        self.names.insert(id, format!(".{short}"));
        format!(".{short}")
    }

    /// An enum stands in a message of its own, because symbols are names beside it.
    fn enumeration(&mut self, id: NodeId, en: &Symbols) -> String {
        if let Some(name) = self.names.get(&id) {
            return name.clone();
        }
        let short = format!("M{}", self.messages.len());
        let value = |(at, symbol): (usize, &String)| EnumValueDescriptorProto {
            name: Some(symbol.clone()),
            number: Some(en.number(at).unwrap_or_default()),
            options: None,
        };
        let made = EnumDescriptorProto {
            name: Some("E".to_owned()),
            value: en.symbols.iter().enumerate().map(value).collect(),
            options: Some(EnumOptions { allow_alias: Some(true), ..Default::default() }),
            ..Default::default()
        };
        self.messages.push(DescriptorProto { name: Some(short.clone()), enum_type: vec![made], ..Default::default() });
        self.names.insert(id, format!(".{short}.E"));
        format!(".{short}.E")
    }

    fn field(&mut self, field: &'a Field, record: &Record, message: &mut DescriptorProto) -> Result<(), PlanError> {
        let place = format!("{}.{}", record.name, field.name);
        let Some(number) = field.number.and_then(|number| i32::try_from(number).ok()) else {
            let problem = "has no `proto.number`, so only the descriptor of its message can say what it is";
            return Err(PlanError { message: format!("`{place}` {problem}") });
        };
        let (node, nullable) = match &self.schema.node(field.node).kind {
            NodeKind::Union(branches) => {
                let is_null = |id: &&NodeId| matches!(self.schema.node(**id).kind, NodeKind::Null);
                (*branches.iter().find(|id| !is_null(id)).unwrap_or(&field.node), true)
            }
            _ => (field.node, false),
        };
        let proto_type = field.proto_type.as_deref();
        let (typed, label) = match &self.schema.node(node).kind {
            NodeKind::Map(values) => {
                let value = self.typed(*values, proto_type, &place)?;
                (self.entry(message, number, Type::String.into(), value), Label::Repeated)
            }
            NodeKind::Array(items) => match &self.schema.node(*items).kind {
                NodeKind::Record(entry) if self.is_entry(node, entry) => {
                    let key = self.typed(entry.fields[0].node, entry.fields[0].proto_type.as_deref(), &place)?;
                    let value = self.typed(entry.fields[1].node, entry.fields[1].proto_type.as_deref(), &place)?;
                    (self.entry(message, number, key, value), Label::Repeated)
                }
                _ => (self.typed(*items, proto_type, &place)?, Label::Repeated),
            },
            _ => (self.typed(node, proto_type, &place)?, Label::Optional),
        };
        let mut made = plain_field(&field.name, number, typed, label);
        // A scalar without a default is a required one: it is written also when it is zero.
        let is_scalar = label == Label::Optional && made.r#type() != Type::Message;
        if is_scalar && (nullable || !field.has_default) {
            made.proto3_optional = Some(true);
            made.oneof_index = Some(message.oneof_decl.len() as i32);
            let name = Some(format!("_{}", field.name));
            message.oneof_decl.push(OneofDescriptorProto { name, ..Default::default() });
        }
        message.field.push(made);
        Ok(())
    }

    /// Whether an array is a map whose keys are no strings.
    fn is_entry(&self, array: NodeId, entry: &Record) -> bool {
        let names: Vec<_> = entry.fields.iter().map(|field| field.name.as_str()).collect();
        self.schema.node(array).logical == Logical::Map && names == ["key", "value"]
    }

    /// The message of a map's entries.
    fn entry(&self, message: &mut DescriptorProto, number: i32, key: Typed, value: Typed) -> Typed {
        let short = format!("Entry{number}");
        let within = message.name().to_owned();
        let fields = vec![plain_field("key", 1, key, Label::Optional), plain_field("value", 2, value, Label::Optional)];
        message.nested_type.push(DescriptorProto {
            name: Some(short.clone()),
            field: fields,
            options: Some(MessageOptions { map_entry: Some(true), ..Default::default() }),
            ..Default::default()
        });
        Typed { of_type: Type::Message, name: Some(format!(".{within}.{short}")) }
    }

    /// The Protobuf type of an Avro type: what `proto.type` says, else the plainest.
    fn typed(&mut self, id: NodeId, proto_type: Option<&str>, place: &str) -> Result<Typed, PlanError> {
        let schema = self.schema;
        let node = schema.node(id);
        let proto_type = proto_type.or(node.proto_type.as_deref());
        if let Some(name) = proto_type {
            if let Some(scalar) = scalar(name) {
                return Ok(scalar.into());
            }
            if self.pool.get_message_by_name(name).is_some() {
                return Ok(Typed { of_type: Type::Message, name: Some(format!(".{name}")) });
            }
            // An enum as a string; its numbers are not in the schema.
            let problem = format!("is a `{name}`, which only the descriptor of its message can say more of");
            return Err(PlanError { message: format!("`{place}` {problem}") });
        }
        Ok(match &node.kind {
            NodeKind::Boolean => Type::Bool.into(),
            NodeKind::Int => Type::Int32.into(),
            NodeKind::Long if matches!(node.logical, Logical::Timestamp { .. }) => {
                Typed { of_type: Type::Message, name: Some(".google.protobuf.Timestamp".to_owned()) }
            }
            NodeKind::Long => Type::Int64.into(),
            NodeKind::Float => Type::Float.into(),
            NodeKind::Double => Type::Double.into(),
            NodeKind::Bytes if node.logical == (Logical::Decimal { scale: 0 }) => Type::Uint64.into(),
            NodeKind::Bytes | NodeKind::Fixed(_) => Type::Bytes.into(),
            NodeKind::String => Type::String.into(),
            NodeKind::Enum(en) => Typed { of_type: Type::Enum, name: Some(self.enumeration(id, en)) },
            NodeKind::Record(record) => Typed { of_type: Type::Message, name: Some(self.record(id, record)) },
            other => {
                let problem = format!("Avro `{}` is of no Protobuf type", other.name());
                return Err(PlanError { message: format!("`{place}`: {problem}") });
            }
        })
    }
}

fn plain_field(name: &str, number: i32, typed: Typed, label: Label) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(label as i32),
        r#type: Some(typed.of_type as i32),
        type_name: typed.name,
        ..Default::default()
    }
}

fn scalar(name: &str) -> Option<Type> {
    Some(match name {
        "uint32" => Type::Uint32,
        "fixed32" => Type::Fixed32,
        "sint32" => Type::Sint32,
        "sfixed32" => Type::Sfixed32,
        "uint64" => Type::Uint64,
        "fixed64" => Type::Fixed64,
        "sint64" => Type::Sint64,
        "sfixed64" => Type::Sfixed64,
        _ => return None,
    })
}
