//! What the fields of a message are in Avro, by the mapping.
//!
//! In: a field's descriptor and the mapping. Out: how its values are written, what surrounds them, what stands for
//! absence. Never: the schema's text, which `avro_schema` and `java_schema` write by the same rules.

use prost_reflect::{FieldDescriptor, MessageDescriptor, Value};

use super::PlanError;
use super::buffer::Buffer;
use super::editions::has_presence;
use super::plan::{AvroLayout, AvroOp, Kind};
use super::well_known::{WellKnown, well_known};
use crate::route::{JavaAvro, JavaTimestamp, Mapping, Presence, Uint64Policy, UnknownEnumPolicy};

/// How a field is written.
pub(super) struct AvroField {
    pub(super) op: AvroOp,
    pub(super) layout: AvroLayout,
    /// The datum that stands for absence, with [`AvroLayout::Defaulted`].
    pub(super) default: Box<[u8]>,
}

/// How a field is written. `in_entry`: it is the key or value of a map entry.
pub(super) fn avro_field(
    field: &FieldDescriptor,
    kind: Kind,
    in_entry: bool,
    mapping: &Mapping,
) -> Result<AvroField, PlanError> {
    let op = value_op(field, kind, mapping)?;
    let layout = match mapping {
        _ if field.is_list() => AvroLayout::Array,
        Mapping::Presence(_) if field.is_map() && has_string_keys(field) => AvroLayout::Map,
        _ if field.is_map() => AvroLayout::Entries,
        Mapping::Presence(_) if has_presence(field) && !in_entry && !field.is_required() => AvroLayout::Nullable,
        Mapping::Presence(_) => AvroLayout::Plain,
        Mapping::JavaAvro(_) if matches!(kind, Kind::Message(_)) && !field.is_required() => AvroLayout::Nullable,
        Mapping::JavaAvro(_) => {
            let default = java_default(field).filter(|_| has_presence(field) && !in_entry && !field.is_required());
            if let Some(default) = default {
                return Ok(AvroField { op, layout: AvroLayout::Defaulted, default });
            }
            AvroLayout::Plain
        }
    };
    Ok(AvroField { op, layout, default: Box::default() })
}

/// How a message that stands by itself is written.
pub(super) fn message_op(message: &MessageDescriptor, index: u16, mapping: &Mapping) -> Result<AvroOp, PlanError> {
    let well_known = well_known(message)?;
    Ok(match mapping {
        Mapping::Presence(_) => match well_known {
            WellKnown::Timestamp => AvroOp::Timestamp(index),
            WellKnown::Duration => AvroOp::Duration(index),
            WellKnown::Wrapper => AvroOp::Wrapper(index),
            WellKnown::Struct | WellKnown::Value | WellKnown::ListValue | WellKnown::Any => AvroOp::JsonText(index),
            WellKnown::None | WellKnown::FieldMask => AvroOp::Record(index),
        },
        Mapping::JavaAvro(JavaAvro { timestamp, .. }) => match (well_known, timestamp) {
            (WellKnown::Timestamp, JavaTimestamp::Millis) => AvroOp::JavaMillis(index),
            (WellKnown::Timestamp, JavaTimestamp::Micros) => AvroOp::JavaMicros(index),
            _ => AvroOp::Record(index),
        },
    })
}

fn value_op(field: &FieldDescriptor, kind: Kind, mapping: &Mapping) -> Result<AvroOp, PlanError> {
    Ok(match (kind, mapping) {
        (Kind::Bool, _) => AvroOp::Bool,
        (Kind::Float, _) => AvroOp::Float,
        (Kind::Double, _) => AvroOp::Double,
        (Kind::String | Kind::Bytes, _) => AvroOp::Bytes,
        (Kind::Enum(index), Mapping::Presence(Presence { unknown_enum: UnknownEnumPolicy::String, .. })) => {
            AvroOp::EnumText(index)
        }
        (Kind::Enum(index), _) => AvroOp::Enum(index),
        (Kind::Message(index), _) => {
            let declared = field.kind();
            message_op(declared.as_message().expect("a message kind has a message"), index, mapping)?
        }
        (Kind::Uint32 | Kind::Fixed32, Mapping::JavaAvro(_)) => AvroOp::Int,
        (Kind::Uint64 | Kind::Fixed64, Mapping::Presence(policies)) => match policies.uint64 {
            Uint64Policy::Reject => AvroOp::UnsignedLong,
            Uint64Policy::Wrap => AvroOp::Long,
            Uint64Policy::Decimal => AvroOp::Decimal,
        },
        _ => AvroOp::Long,
    })
}

fn has_string_keys(map: &FieldDescriptor) -> bool {
    let entry = map.kind();
    let key = entry.as_message().map(|entry| entry.map_entry_key_field().kind());
    matches!(key, Some(prost_reflect::Kind::String))
}

/// The datum of a default that is not all zeros: one that the schema sets, or of an enum whose first symbol is not zero.
fn java_default(field: &FieldDescriptor) -> Option<Box<[u8]>> {
    let explicit = field.field_descriptor_proto().default_value.is_some();
    let mut datum = Buffer::default();
    match (field.default_value(), field.kind()) {
        (_, prost_reflect::Kind::Enum(en)) => {
            let symbols = &en.enum_descriptor_proto().value;
            let first = symbols.first()?.number();
            let default = field.default_value().as_enum_number().filter(|_| explicit).unwrap_or(first);
            if default == 0 {
                return None;
            }
            datum.zigzag(symbols.iter().position(|symbol| symbol.number() == default)? as i64);
        }
        _ if !explicit => return None,
        (Value::Bool(flag), _) => datum.byte(u8::from(flag)),
        (Value::I32(number), _) => datum.zigzag(i64::from(number)),
        (Value::U32(number), _) => datum.zigzag(i64::from(number as i32)),
        (Value::I64(number), _) => datum.zigzag(number),
        (Value::U64(number), _) => datum.zigzag(number as i64),
        (Value::F32(number), _) => datum.fixed32(number.to_bits()),
        (Value::F64(number), _) => datum.fixed64(number.to_bits()),
        (Value::String(text), _) => {
            datum.zigzag(text.len() as i64);
            datum.slice(text.as_bytes());
        }
        // Of bytes: the schema is refused.
        _ => return None,
    }
    Some(datum.content().into())
}
