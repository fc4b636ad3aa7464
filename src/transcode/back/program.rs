//! How the values of an Avro schema become the slots of a message: decided once per schema and message.
//!
//! In: an Avro schema, the plan of a message and its descriptor. Out: a [`Program`]: for each record which field fills
//! which slot, and how. Never: looks at a datum. Fields are matched by the property `proto.number`, without it by name, so
//! that schemas of any version and of either mapping can be read into any version of the message; what cannot be converted
//! is refused here.

use std::collections::HashMap;

use prost_reflect::{FieldDescriptor, MessageDescriptor, Value as Default};

use super::schema::{AvroSchema, Field, Logical, Node, NodeId, NodeKind, Record};
use crate::transcode::PlanError;
use crate::transcode::buffer::Buffer;
use crate::transcode::plan::{Kind, Plan, Shape, Slot};
use crate::transcode::well_known::WellKnown;

/// What a datum's records do to frames.
#[derive(Debug)]
pub(super) struct Program {
    /// How the whole datum is read.
    pub(super) root: Read,
    pub(super) records: Vec<RecordProgram>,
    /// Numbers of symbols by position; none for a symbol that the message's enum does not have.
    pub(super) enums: Vec<Vec<Option<i32>>>,
}

/// One record, read into frames of one table.
#[derive(Debug)]
pub(super) struct RecordProgram {
    pub(super) table: u16,
    /// In the order of the datum.
    pub(super) fields: Vec<FieldProgram>,
}

/// One field.
#[derive(Debug)]
pub(super) struct FieldProgram {
    pub(super) name: String,
    /// The field's type, for skipping it.
    pub(super) node: NodeId,
    /// Of a union of null and a type: the position of null.
    pub(super) null: Option<i64>,
    pub(super) fill: Fill,
}

/// What becomes of a field's value.
#[derive(Debug)]
pub(super) enum Fill {
    /// The message has no such field.
    Unknown,
    /// One value. With `absent`, a value of just these bytes means that the field was not set.
    One { slot: u16, read: Read, absent: Option<Box<[u8]>> },
    /// A list of scalars, which become one packed run.
    Packed { slot: u16, read: Read },
    /// A list of strings or messages.
    List { slot: u16, read: Read },
    /// An Avro map.
    Map { slot: u16, read: Read },
    /// A list of records of key and value.
    Entries { slot: u16, record: u32 },
}

/// How one value is read.
#[derive(Clone, Debug)]
pub(super) enum Read {
    Bool,
    Int,
    Long,
    Float,
    FloatAsDouble,
    Double,
    /// An int whose bits are an unsigned number.
    IntAsUnsigned,
    /// A long from 0 to 2^32-1.
    Unsigned32,
    Text,
    Bytes,
    Fixed(usize),
    /// An unsigned number of 64 bits in big-endian bytes.
    Decimal,
    /// Index in [`Program::enums`].
    Enum(u32),
    /// A symbol or a number as text, of this enum of the plan.
    EnumText(u16),
    /// The table, and the index in [`Program::records`].
    Record(u16, u32),
    /// So many to the second, into seconds and nanos.
    Timestamp(u16, i64),
    /// Microseconds into seconds and nanos.
    Duration(u16),
    /// The value inside a wrapper message.
    Wrapper(u16, Box<Read>),
    /// The proto3 JSON of a message.
    JsonText(u16),
}

/// Compiles a program. `plan` is that of `message`.
pub(super) fn compile(schema: &AvroSchema, plan: &Plan, message: &MessageDescriptor) -> Result<Program, PlanError> {
    let mut compiler =
        Compiler { schema, plan, records: Vec::new(), pending: Vec::new(), known: HashMap::new(), enums: Vec::new() };
    let root = compiler.message(schema.root, 0, message, message.full_name())?;
    while let Some((index, node, table, message)) = compiler.pending.pop() {
        let NodeKind::Record(record) = &schema.node(node).kind else { unreachable!("only records are put off") };
        let fields = record.fields.iter().map(|field| compiler.field(record, field, table, &message));
        compiler.records[index as usize].fields = fields.collect::<Result<_, _>>()?;
    }
    Ok(Program { root, records: compiler.records, enums: compiler.enums })
}

struct Compiler<'a> {
    schema: &'a AvroSchema,
    plan: &'a Plan,
    records: Vec<RecordProgram>,
    /// Records whose fields are still to be compiled: schemas may be recursive.
    pending: Vec<(u32, NodeId, u16, MessageDescriptor)>,
    known: HashMap<(NodeId, u16), u32>,
    enums: Vec<Vec<Option<i32>>>,
}

impl Compiler<'_> {
    fn record(&mut self, node: NodeId, table: u16, message: &MessageDescriptor) -> u32 {
        if let Some(known) = self.known.get(&(node, table)) {
            return *known;
        }
        let index = self.records.len() as u32;
        self.records.push(RecordProgram { table, fields: Vec::new() });
        self.known.insert((node, table), index);
        self.pending.push((index, node, table, message.clone()));
        index
    }

    fn field(
        &mut self,
        record: &Record,
        field: &Field,
        table: u16,
        message: &MessageDescriptor,
    ) -> Result<FieldProgram, PlanError> {
        let place = format!("{}.{}", record.name, field.name);
        let (node, null) = self.non_null(field.node, &place)?;
        let slots = &self.plan.tables[usize::from(table)];
        let found = match field.number {
            Some(number) => slots.slot_of(number),
            None => slots.slots.iter().position(|slot| slot.name == field.name).map(|slot| slot as u16),
        };
        let fill = match found {
            None => Fill::Unknown,
            Some(at) => {
                let slot = &slots.slots[usize::from(at)];
                let declared = message.get_field(slot.number).expect("the plan is of this message");
                self.fill(node, at, slot, field, &declared, null.is_some(), &place)?
            }
        };
        Ok(FieldProgram { name: field.name.clone(), node: field.node, null, fill })
    }

    /// The type beside null in a union of the two, and where null is.
    fn non_null(&self, id: NodeId, place: &str) -> Result<(NodeId, Option<i64>), PlanError> {
        let NodeKind::Union(branches) = &self.schema.node(id).kind else { return Ok((id, None)) };
        let is_null = |id: &NodeId| matches!(self.schema.node(*id).kind, NodeKind::Null);
        match branches.as_slice() {
            [null, other] if is_null(null) && !is_null(other) => Ok((*other, Some(0))),
            [other, null] if is_null(null) && !is_null(other) => Ok((*other, Some(1))),
            _ => Err(refused(place, "a union can become a field only if it is of null and one type")),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "all say what one field is, on either side")]
    fn fill(
        &mut self,
        node: NodeId,
        at: u16,
        slot: &Slot,
        field: &Field,
        declared: &FieldDescriptor,
        nullable: bool,
        place: &str,
    ) -> Result<Fill, PlanError> {
        match (slot.shape, &self.schema.node(node).kind) {
            (Shape::Singular, _) => {
                let read = self.value(node, slot.kind, declared, place)?;
                // Where Avro cannot say that a field is absent, its default stands for it.
                let lost = !nullable && field.has_default && slot.presence;
                let absent = if lost { self.default_datum(node, declared) } else { None };
                Ok(Fill::One { slot: at, read, absent })
            }
            (Shape::Repeated, NodeKind::Array(items)) => {
                let read = self.value(*items, slot.kind, declared, place)?;
                Ok(match slot.kind {
                    Kind::String | Kind::Bytes | Kind::Message(_) => Fill::List { slot: at, read },
                    _ => Fill::Packed { slot: at, read },
                })
            }
            (Shape::Map, kind) => {
                let Kind::Message(entry) = slot.kind else { unreachable!("a map's kind is its entry") };
                let message = declared.kind();
                let message = message.as_message().expect("a map is a list of entry messages");
                match kind {
                    NodeKind::Map(values) => {
                        if message.map_entry_key_field().kind() != prost_reflect::Kind::String {
                            return Err(refused(
                                place,
                                "the keys of an Avro map are strings, those of the field are not",
                            ));
                        }
                        let value = message.map_entry_value_field();
                        let kind = self.plan.tables[usize::from(entry)].slots[1].kind;
                        Ok(Fill::Map { slot: at, read: self.value(*values, kind, &value, place)? })
                    }
                    NodeKind::Array(items) if matches!(self.schema.node(*items).kind, NodeKind::Record(_)) => {
                        Ok(Fill::Entries { slot: at, record: self.record(*items, entry, message) })
                    }
                    other => Err(mismatch(place, other, "a map")),
                }
            }
            (Shape::Repeated, other) => Err(mismatch(place, other, "a repeated field")),
        }
    }

    fn value(&mut self, id: NodeId, kind: Kind, declared: &FieldDescriptor, place: &str) -> Result<Read, PlanError> {
        let node = self.schema.node(id);
        Ok(match (&node.kind, kind) {
            (_, Kind::Message(child)) => {
                let message = declared.kind();
                let message = message.as_message().expect("a message kind has a message").clone();
                return self.message(id, child, &message, place);
            }
            (NodeKind::Boolean, Kind::Bool) => Read::Bool,
            (
                NodeKind::Int,
                Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Int64 | Kind::Sint64 | Kind::Sfixed64,
            ) => Read::Int,
            (NodeKind::Int, Kind::Uint32 | Kind::Fixed32) => Read::IntAsUnsigned,
            (NodeKind::Long, Kind::Uint32 | Kind::Fixed32) => Read::Unsigned32,
            (NodeKind::Long, Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64) => Read::Long,
            (NodeKind::Bytes, Kind::Uint64 | Kind::Fixed64) if node.logical == (Logical::Decimal { scale: 0 }) => {
                Read::Decimal
            }
            (NodeKind::Float, Kind::Float) => Read::Float,
            (NodeKind::Float, Kind::Double) => Read::FloatAsDouble,
            (NodeKind::Double, Kind::Double) => Read::Double,
            (NodeKind::String, Kind::String) => Read::Text,
            (NodeKind::Bytes, Kind::Bytes) => Read::Bytes,
            (NodeKind::Fixed(size), Kind::Bytes) => Read::Fixed(*size),
            (NodeKind::String, Kind::Enum(en)) => Read::EnumText(en),
            (NodeKind::Enum(symbols), Kind::Enum(en)) => {
                let table = &self.plan.enums[usize::from(en)];
                // The message's own enum comes first; a symbol that it does not have keeps its number, if that is known.
                let known = symbols.symbols.iter().enumerate().map(|(at, symbol)| {
                    let own = table.number(symbol.as_bytes());
                    own.or_else(|| symbols.numbers.is_some().then(|| symbols.number(at)).flatten())
                });
                self.enums.push(known.collect());
                Read::Enum((self.enums.len() - 1) as u32)
            }
            (other, _) => return Err(mismatch(place, other, &format!("`{:?}`", declared.kind()))),
        })
    }

    /// How a value becomes a message.
    fn message(&mut self, id: NodeId, child: u16, message: &MessageDescriptor, place: &str) -> Result<Read, PlanError> {
        let node = self.schema.node(id);
        let table = &self.plan.tables[usize::from(child)];
        Ok(match (&node.kind, table.well_known) {
            (NodeKind::Record(_), _) => Read::Record(child, self.record(id, child, message)),
            (NodeKind::Long, WellKnown::Timestamp) => match node.logical {
                Logical::Timestamp { per_second } => Read::Timestamp(child, per_second),
                _ => return Err(refused(place, "a long without a logical type of timestamps has no unit")),
            },
            (NodeKind::Long, WellKnown::Duration) if node.proto_type.is_some() => Read::Duration(child),
            (_, WellKnown::Wrapper) => {
                let slot = &table.slots[0];
                let inner = message.get_field(slot.number).expect("the plan is of this message");
                Read::Wrapper(child, Box::new(self.value(id, slot.kind, &inner, place)?))
            }
            (NodeKind::String, WellKnown::None | WellKnown::Timestamp | WellKnown::Duration | WellKnown::FieldMask) => {
                return Err(mismatch(place, &node.kind, &format!("`{}`", message.full_name())));
            }
            (NodeKind::String, _) => Read::JsonText(child),
            (other, _) => return Err(mismatch(place, other, &format!("`{}`", message.full_name()))),
        })
    }

    /// The datum of a scalar's default.
    fn default_datum(&self, id: NodeId, declared: &FieldDescriptor) -> Option<Box<[u8]>> {
        let Node { kind, .. } = self.schema.node(id);
        let mut datum = Buffer::default();
        match (kind, declared.default_value()) {
            (NodeKind::Boolean, Default::Bool(flag)) => datum.byte(u8::from(flag)),
            (NodeKind::Int, Default::I32(number)) => datum.zigzag(i64::from(number)),
            (NodeKind::Int, Default::U32(number)) => datum.zigzag(i64::from(number as i32)),
            (NodeKind::Long, Default::U32(number)) => datum.zigzag(i64::from(number)),
            (NodeKind::Long, Default::I64(number)) => datum.zigzag(number),
            (NodeKind::Long, Default::U64(number)) => datum.zigzag(number as i64),
            (NodeKind::Float, Default::F32(number)) => datum.fixed32(number.to_bits()),
            (NodeKind::Double, Default::F64(number)) => datum.fixed64(number.to_bits()),
            (NodeKind::String, Default::String(text)) => {
                datum.zigzag(text.len() as i64);
                datum.slice(text.as_bytes());
            }
            (NodeKind::Bytes, Default::Bytes(bytes)) => {
                datum.zigzag(bytes.len() as i64);
                datum.slice(&bytes);
            }
            (NodeKind::Enum(symbols), Default::EnumNumber(number)) => {
                let en = declared.kind();
                let value = en.as_enum()?.get_value(number)?;
                let at = symbols.symbols.iter().position(|symbol| symbol == value.name())?;
                datum.zigzag(at as i64);
            }
            _ => return None,
        }
        Some(datum.content().into())
    }
}

fn refused(place: &str, what: &str) -> PlanError {
    PlanError { message: format!("`{place}`: {what}") }
}

fn mismatch(place: &str, node: &NodeKind, wanted: &str) -> PlanError {
    refused(place, &format!("Avro `{}` cannot become {wanted}", node.name()))
}
