//! The well-known types: messages that have a JSON form of their own.
//!
//! In: a message descriptor. Out: which of them it is. Never: trusts a name alone; a message of this name that is
//! declared otherwise is refused, because front-ends and back-ends rely on its fields.

use prost_reflect::{Cardinality, FieldDescriptor, MessageDescriptor};

use super::PlanError;

/// Messages with a JSON form of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WellKnown {
    /// An ordinary message.
    None,
    Timestamp,
    Duration,
    Wrapper,
    Struct,
    Value,
    ListValue,
    FieldMask,
    Any,
}

/// Messages that an `Any` may hold though the schema's files do not import them: every implementation knows them.
pub(super) const EVERYWHERE: [&str; 16] = [
    "Any",
    "BoolValue",
    "BytesValue",
    "DoubleValue",
    "Duration",
    "Empty",
    "FieldMask",
    "FloatValue",
    "Int32Value",
    "Int64Value",
    "ListValue",
    "StringValue",
    "Struct",
    "Timestamp",
    "UInt32Value",
    "UInt64Value",
];

/// Which JSON form a message has; refuses well-known types that are not what they should be.
pub(super) fn well_known(message: &MessageDescriptor) -> Result<WellKnown, PlanError> {
    let name = message.full_name();
    let Some(short) = name.strip_prefix("google.protobuf.") else { return Ok(WellKnown::None) };
    let (well_known, fields): (_, &[(u32, &str)]) = match short {
        "Timestamp" => (WellKnown::Timestamp, &[(1, "int64"), (2, "int32")]),
        "Duration" => (WellKnown::Duration, &[(1, "int64"), (2, "int32")]),
        "DoubleValue" => (WellKnown::Wrapper, &[(1, "double")]),
        "FloatValue" => (WellKnown::Wrapper, &[(1, "float")]),
        "Int64Value" => (WellKnown::Wrapper, &[(1, "int64")]),
        "UInt64Value" => (WellKnown::Wrapper, &[(1, "uint64")]),
        "Int32Value" => (WellKnown::Wrapper, &[(1, "int32")]),
        "UInt32Value" => (WellKnown::Wrapper, &[(1, "uint32")]),
        "BoolValue" => (WellKnown::Wrapper, &[(1, "bool")]),
        "StringValue" => (WellKnown::Wrapper, &[(1, "string")]),
        "BytesValue" => (WellKnown::Wrapper, &[(1, "bytes")]),
        "Struct" => (WellKnown::Struct, &[(1, "google.protobuf.Struct.FieldsEntry")]),
        "Value" => {
            let kinds: &[(u32, &str)] = &[
                (1, "google.protobuf.NullValue"),
                (2, "double"),
                (3, "string"),
                (4, "bool"),
                (5, "google.protobuf.Struct"),
                (6, "google.protobuf.ListValue"),
            ];
            (WellKnown::Value, kinds)
        }
        "ListValue" => (WellKnown::ListValue, &[(1, "google.protobuf.Value")]),
        "FieldMask" => (WellKnown::FieldMask, &[(1, "string")]),
        "Any" => (WellKnown::Any, &[(1, "string"), (2, "bytes")]),
        _ => return Ok(WellKnown::None),
    };
    // Positions are relied on too, so the order of declaration counts.
    let has: Vec<_> = declared_fields(message).iter().map(|field| (field.number(), kind_name(field))).collect();
    let is_list = |short| matches!(short, "ListValue" | "FieldMask" | "Struct");
    let lists_fit = message.fields().all(|f| (f.cardinality() == Cardinality::Repeated) == is_list(short));
    if has.iter().map(|(n, k)| (*n, k.as_str())).eq(fields.iter().copied()) && lists_fit {
        Ok(well_known)
    } else {
        Err(PlanError {
            message: format!("`{name}` is not declared as in protobuf's own file, so its meaning is unknown"),
        })
    }
}

/// The fields of a message in the order of declaration; the descriptor itself iterates by number.
pub(super) fn declared_fields(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let numbers = message.descriptor_proto().field.iter().map(|field| field.number().unsigned_abs());
    numbers.filter_map(|number| message.get_field(number)).collect()
}

fn kind_name(field: &FieldDescriptor) -> String {
    match field.kind() {
        prost_reflect::Kind::Message(message) => message.full_name().to_owned(),
        prost_reflect::Kind::Enum(en) => en.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}
