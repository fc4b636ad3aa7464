//! The compiled plan: tables that say, for every field of a message and of the messages inside it, how it is read
//! from Protobuf or JSON, where it is kept meanwhile, and how it is written.
//!
//! In: what `compile` makes of a message descriptor and the settings. Out: [`Plan`], immutable. Never: looks at a payload.
//! Everything that depends on the mapping is decided when it is compiled, so that the loops that emit only follow the
//! tables.

use std::collections::HashMap;

use super::direct::Direct;
use super::names::NameTable;
use super::well_known::WellKnown;
use crate::route::{Encoding, UnknownFields};

/// A compiled schema. Immutable, shared by all threads.
#[derive(Debug)]
pub struct Plan {
    /// The root message's table is the first.
    pub(super) tables: Vec<Table>,
    pub(super) enums: Vec<EnumTable>,
    pub(super) encoding: Encoding,
    /// What the root message is in Avro.
    pub(super) root: AvroOp,
    pub(super) unnamed_enum: UnnamedEnum,
    /// Whether a `Timestamp` out of range becomes the nearest in range; else it is refused.
    pub(super) clamp_timestamps: bool,
    pub(super) unknown_fields: UnknownFields,
    /// Full names of the messages that an `Any` may hold; empty if there is no `Any`.
    pub(super) any: HashMap<String, u16>,
    /// Slots that lead to the key, the root's first; empty if the event type has no key field.
    pub(super) key: Vec<u16>,
}

impl Plan {
    /// The table of the message that a `google.protobuf.Any` with this type URL holds: its name is what follows the
    /// last `/`.
    pub(super) fn type_of_any(&self, url: &[u8]) -> Option<u16> {
        let slash = url.iter().rposition(|byte| *byte == b'/')?;
        let name = std::str::from_utf8(&url[slash + 1..]).ok()?;
        self.any.get(name).copied()
    }
}

/// What becomes of an open enum's number without a symbol, where Avro has an enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnnamedEnum {
    FirstSymbol,
    Reject,
}

/// One message.
#[derive(Debug)]
pub(super) struct Table {
    /// Full name.
    pub(super) name: String,
    pub(super) well_known: WellKnown,
    /// In the order of declaration, which is Avro's order.
    pub(super) slots: Vec<Slot>,
    /// Indexes of `slots` by ascending field number, which is canonical Protobuf's order.
    pub(super) by_number: Vec<u16>,
    /// Slots that must be set (proto2 `required`).
    pub(super) required: Vec<u16>,
    /// JSON member names to slots.
    pub(super) names: NameTable,
    /// Words of a frame: one bit a slot for presence, the same for what was seen, one word a oneof, one word a slot.
    pub(super) words: usize,
    /// Words of presence bits; as many words of seen bits follow.
    pub(super) bit_words: usize,
    /// Where the words of the slots begin.
    pub(super) values_at: usize,
    /// What to do with a tag, for the tags of small field numbers.
    pub(super) by_tag: Vec<Hit>,
    /// The same for large field numbers: the table above must not grow with the largest number.
    pub(super) far: HashMap<u32, Hit>,
    /// Of a map entry: the word of a value that is missing. Not zero for a closed enum without a zero.
    pub(super) missing_value: u64,
    /// How Avro is written of the wire without slots, if that can be.
    pub(super) direct: Option<Direct>,
}

/// Field numbers up to this one are looked up in a dense table (8 entries of 4 bytes each).
pub(super) const DENSE_NUMBER_MAX: u32 = 511;

/// What the wire scan does with a tag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    pub(super) slot: u16,
    pub(super) read: Read,
    pub(super) store: Store,
}

/// How a value on the wire is read. Ordered: what comes after `Blob` is not one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Read {
    Varint64,
    /// Truncated to 32 bits, then sign-extended.
    VarintSigned32,
    /// Truncated to 32 bits.
    VarintUnsigned32,
    Zigzag32,
    Zigzag64,
    Bool,
    Fixed32,
    SignedFixed32,
    Fixed64,
    Text,
    /// Bytes, or a message.
    Blob,
    /// A run of repeated scalars; the slot says of which kind.
    Packed,
    /// A member of a oneof, which clears another: read by its kind.
    Oneof,
    /// A number that a closed enum does not name is an unknown field.
    ClosedEnum,
    /// A run of a closed enum's numbers.
    PackedClosedEnum,
    /// A message between a start and an end tag.
    Group,
    /// No known field with this wire type: skipped.
    Unknown,
}

/// Where a value that was read goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    /// Overwrites; zero means absent.
    Implicit,
    /// Overwrites and sets the presence bit.
    Present,
    /// Appends.
    List,
    /// Appends a message, or a part of one, and sets the presence bit.
    Messages,
}

impl Hit {
    pub(super) const UNKNOWN: Hit = Hit { slot: 0, read: Read::Unknown, store: Store::Implicit };
}

/// One field.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) json_name: String,
    /// `name":`, as a JSON sender writes it after the opening quote.
    pub(super) json_key: Vec<u8>,
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) shape: Shape,
    /// Whether absence differs from the default value. Of singular fields only.
    pub(super) presence: bool,
    /// Word of the oneof in the frame, if the field is a member of one.
    pub(super) oneof: Option<u16>,
    /// Whether canonical Protobuf packs it.
    pub(super) packed: bool,
    /// Whether a message stands between tags instead of behind a length.
    pub(super) group: bool,
    pub(super) avro: AvroOp,
    pub(super) layout: AvroLayout,
    /// The datum that stands for absence, with [`AvroLayout::Defaulted`].
    pub(super) default: Box<[u8]>,
}

/// Protobuf type; messages and enums by their index in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Bool,
    Int32,
    Sint32,
    Sfixed32,
    Uint32,
    Fixed32,
    Int64,
    Sint64,
    Sfixed64,
    Uint64,
    Fixed64,
    Float,
    Double,
    String,
    Bytes,
    Enum(u16),
    Message(u16),
}

impl Kind {
    /// The wire type of one value.
    pub(super) fn wire_type(self) -> u32 {
        match self {
            Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => 1,
            Kind::String | Kind::Bytes | Kind::Message(_) => 2,
            Kind::Fixed32 | Kind::Sfixed32 | Kind::Float => 5,
            _ => 0,
        }
    }
}

/// How many values a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Singular,
    Repeated,
    /// A list of entries; the kind is the entry message.
    Map,
}

/// How one value is written as Avro.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AvroOp {
    Bool,
    /// Sign-extended or zero-extended already.
    Long,
    /// The lower 32 bits as a signed number: over 2^31-1 they wrap.
    Int,
    /// Over 2^63-1 it is refused.
    UnsignedLong,
    /// An unsigned number as `decimal(20,0)`.
    Decimal,
    Float,
    Double,
    /// Length and bytes: string and bytes.
    Bytes,
    Enum(u16),
    /// An enum's symbol, or its number, as a string.
    EnumText(u16),
    Record(u16),
    /// Microseconds of a `Timestamp`.
    Timestamp(u16),
    /// Milliseconds of a `Timestamp` by Java's arithmetic.
    JavaMillis(u16),
    /// Microseconds of a `Timestamp` by Java's arithmetic.
    JavaMicros(u16),
    /// Microseconds of a `Duration`.
    Duration(u16),
    /// The value inside a wrapper message.
    Wrapper(u16),
    /// `Struct`, `Value`, `ListValue`, `Any`: their JSON text.
    JsonText(u16),
}

/// What surrounds a field's value or values in Avro.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AvroLayout {
    Plain,
    /// Union of null and the type.
    Nullable,
    /// The type itself; absence is written as the slot's default.
    Defaulted,
    Array,
    /// An Avro map: string keys.
    Map,
    /// An array of records of key and value.
    Entries,
}

/// One enum.
#[derive(Debug)]
pub(super) struct EnumTable {
    /// Full name.
    pub(super) name: String,
    /// Whether unknown numbers are unknown fields (proto2).
    pub(super) closed: bool,
    /// `google.protobuf.NullValue`, which JSON writes as `null`.
    pub(super) is_null: bool,
    /// In the order of declaration, aliases included.
    pub(super) symbols: Vec<String>,
    /// Numbers of the symbols that stand in `dense`, the first of them.
    pub(super) dense_from: i32,
    /// Ordinal plus one, zero for none.
    pub(super) dense: Vec<u16>,
    pub(super) sparse: HashMap<i32, u16>,
    /// Symbol -> ordinal.
    pub(super) names: NameTable,
    /// The number of each symbol.
    pub(super) numbers: Vec<i32>,
}

impl EnumTable {
    /// Position in `symbols` of the first one with this number.
    #[inline]
    pub(super) fn ordinal(&self, number: i32) -> Option<u16> {
        let near = usize::try_from(i64::from(number) - i64::from(self.dense_from)).ok();
        match near.and_then(|i| self.dense.get(i)) {
            Some(0) => None,
            Some(ordinal) => Some(ordinal - 1),
            None => self.sparse.get(&number).copied(),
        }
    }

    /// The number of a symbol.
    pub(super) fn number(&self, symbol: &[u8]) -> Option<i32> {
        self.names.find(symbol).map(|ordinal| self.numbers[usize::from(ordinal)])
    }
}

impl Table {
    /// What to do with a tag.
    #[inline]
    pub(super) fn hit(&self, tag: u32) -> Hit {
        match self.by_tag.get(tag as usize) {
            Some(hit) => *hit,
            None if self.far.is_empty() => Hit::UNKNOWN,
            None => self.far.get(&tag).copied().unwrap_or(Hit::UNKNOWN),
        }
    }

    /// The word of a slot in a frame.
    #[inline]
    pub(super) fn at(&self, slot: u16) -> usize {
        self.values_at + usize::from(slot)
    }

    /// The slot with this field number.
    pub(super) fn slot_of(&self, number: u32) -> Option<u16> {
        let found = self.by_number.binary_search_by_key(&number, |slot| self.slots[usize::from(*slot)].number);
        found.ok().map(|i| self.by_number[i])
    }
}

/// How a value of this kind is read, oneofs aside.
pub(super) fn read_of(kind: Kind, enums: &[EnumTable]) -> Read {
    match kind {
        Kind::Bool => Read::Bool,
        Kind::Int32 => Read::VarintSigned32,
        Kind::Sint32 => Read::Zigzag32,
        Kind::Sfixed32 => Read::SignedFixed32,
        Kind::Uint32 => Read::VarintUnsigned32,
        Kind::Fixed32 | Kind::Float => Read::Fixed32,
        Kind::Int64 | Kind::Uint64 => Read::Varint64,
        Kind::Sint64 => Read::Zigzag64,
        Kind::Sfixed64 | Kind::Fixed64 | Kind::Double => Read::Fixed64,
        Kind::String => Read::Text,
        Kind::Bytes | Kind::Message(_) => Read::Blob,
        Kind::Enum(index) if enums[usize::from(index)].closed => Read::ClosedEnum,
        Kind::Enum(_) => Read::VarintSigned32,
    }
}
