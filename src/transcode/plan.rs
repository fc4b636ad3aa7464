//! The compiled plan: tables that say, for every field of a message and of the messages inside it, how it is read
//! from Protobuf or JSON, where it is kept meanwhile, and how it is written.
//!
//! In: a message descriptor and the settings. Out: [`Plan`], immutable. Never: looks at a payload. Everything that
//! depends on the mapping is decided here, so that the loops that emit only follow the tables.

use std::collections::HashMap;

use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, MessageDescriptor, Syntax};

use super::names::NameTable;
use super::{PlanError, PlanSettings, avro_schema, key};
use crate::route::{Encoding, Mapping, UnknownFields};

/// A compiled schema. Immutable, shared by all threads.
#[derive(Debug)]
pub struct Plan {
    /// The root message's table is the first.
    pub(super) tables: Vec<Table>,
    pub(super) enums: Vec<EnumTable>,
    pub(super) encoding: Encoding,
    pub(super) mapping: Mapping,
    pub(super) unknown_fields: UnknownFields,
    /// Slots that lead to the key, the root's first; empty if the event type has no key field.
    pub(super) key: Vec<u16>,
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
    by_tag: Vec<Hit>,
    /// The same for large field numbers: the table above must not grow with the largest number.
    far: HashMap<u32, Hit>,
}

/// Field numbers up to this one are looked up in a dense table (8 entries of 4 bytes each).
const DENSE_NUMBER_MAX: u32 = 511;

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
    const UNKNOWN: Hit = Hit { slot: 0, read: Read::Unknown, store: Store::Implicit };
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
    pub(super) avro: AvroOp,
    pub(super) layout: AvroLayout,
}

/// Protobuf type; messages and enums by their index in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Sign-extended or zero-extended already: every 32-bit integer, and signed 64-bit ones.
    Long,
    /// Over 2^63-1 the policy decides.
    UnsignedLong,
    Float,
    Double,
    /// Length and bytes: string and bytes.
    Bytes,
    Enum(u16),
    Record(u16),
    /// Microseconds of a `Timestamp`.
    Timestamp(u16),
    /// Microseconds of a `Duration`.
    Duration(u16),
    /// The value inside a wrapper message.
    Wrapper(u16),
    /// `Struct`, `Value`, `ListValue`: their JSON text.
    JsonText(u16),
}

/// What surrounds a field's value or values in Avro.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AvroLayout {
    Plain,
    /// Union of null and the type.
    Nullable,
    Array,
    /// An Avro map: string keys.
    Map,
    /// An array of records of key and value: other keys.
    Entries,
}

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
    dense_from: i32,
    /// Ordinal plus one, zero for none.
    dense: Vec<u16>,
    sparse: HashMap<i32, u16>,
    /// Symbol -> ordinal.
    names: NameTable,
    /// The number of each symbol.
    numbers: Vec<i32>,
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

/// Compiles the message and every message it can hold.
pub(super) fn compile(message: &MessageDescriptor, settings: &PlanSettings<'_>) -> Result<Plan, PlanError> {
    if settings.encoding == Encoding::RawJson {
        return Err(PlanError { message: "encoding `raw_json` has no schema, so there is nothing to compile".into() });
    }
    if well_known(message)? != WellKnown::None {
        let name = message.full_name();
        return Err(PlanError { message: format!("`{name}` has a JSON form of its own and cannot be an event") });
    }
    if settings.encoding == Encoding::Avro {
        avro_schema::derive(message, &settings.mapping)?;
    }
    let mut compiler = Compiler::default();
    compiler.message(message)?;
    let mut done = 0;
    while let Some(message) = compiler.pending.get(done).cloned() {
        let table = compiler.table(&message)?;
        compiler.tables.push(table);
        done += 1;
    }
    let Compiler { tables, enums, .. } = compiler;
    let (mapping, unknown_fields) = (settings.mapping, settings.unknown_fields);
    let mut plan = Plan { tables, enums, encoding: settings.encoding, mapping, unknown_fields, key: Vec::new() };
    if let Some(path) = settings.key {
        plan.key = key::compile(&plan, path)?;
    }
    Ok(plan)
}

/// The fields of a message in the order of declaration; the descriptor itself iterates by number.
pub(super) fn declared_fields(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let numbers = message.descriptor_proto().field.iter().map(|field| field.number().unsigned_abs());
    numbers.filter_map(|number| message.get_field(number)).collect()
}

/// Which JSON form a message has; refuses well-known types that are not supported or not what they should be.
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
        "Any" => {
            let message = "`google.protobuf.Any` is not supported: the schema does not say what is inside; \
                           use a oneof of the messages that it may hold";
            return Err(PlanError { message: message.into() });
        }
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

fn kind_name(field: &FieldDescriptor) -> String {
    match field.kind() {
        prost_reflect::Kind::Message(message) => message.full_name().to_owned(),
        prost_reflect::Kind::Enum(en) => en.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

#[derive(Default)]
struct Compiler {
    /// Messages in the order of their tables; those from `tables.len()` on wait to be compiled.
    pending: Vec<MessageDescriptor>,
    message_index: HashMap<String, u16>,
    tables: Vec<Table>,
    enum_index: HashMap<String, u16>,
    enums: Vec<EnumTable>,
}

impl Compiler {
    /// The index of a message's table, which is compiled later if it is new: schemas may be recursive.
    fn message(&mut self, message: &MessageDescriptor) -> Result<u16, PlanError> {
        if let Some(index) = self.message_index.get(message.full_name()) {
            return Ok(*index);
        }
        let index = small(self.pending.len(), message.full_name(), "messages")?;
        self.message_index.insert(message.full_name().to_owned(), index);
        self.pending.push(message.clone());
        Ok(index)
    }

    fn table(&mut self, message: &MessageDescriptor) -> Result<Table, PlanError> {
        let name = message.full_name().to_owned();
        let fields = declared_fields(message);
        small(fields.len() * 2, &name, "fields")?;
        let bit_words = fields.len().div_ceil(64);
        let oneofs: Vec<_> = message.oneofs().filter(|oneof| !oneof.is_synthetic()).collect();
        let mut slots = Vec::with_capacity(fields.len());
        for field in &fields {
            let oneof = field.containing_oneof().and_then(|of| oneofs.iter().position(|o| *o == of));
            let oneof = oneof.map(|i| (2 * bit_words + i) as u16);
            slots.push(self.slot(field, message.is_map_entry(), oneof)?);
        }
        let mut by_number: Vec<u16> = (0..slots.len() as u16).collect();
        by_number.sort_by_key(|slot| slots[usize::from(*slot)].number);
        let required = (0..slots.len() as u16).filter(|slot| fields[usize::from(*slot)].is_required()).collect();
        let names = NameTable::new(slots.iter().map(|slot| [slot.json_name.as_str(), slot.name.as_str()]));
        let names = names.map_err(|clash| PlanError {
            message: format!("`{name}`: two fields have the JSON name `{clash}`; rename one or set `json_name`"),
        })?;
        if message.is_map_entry() && slots.iter().map(|slot| slot.number).ne([1, 2]) {
            return Err(PlanError { message: format!("`{name}` is a map entry, but has not just a key and a value") });
        }
        let (by_tag, far) = tag_tables(&slots, &by_number, &self.enums);
        let values_at = 2 * bit_words + oneofs.len();
        let words = values_at + slots.len();
        let well_known = well_known(message)?;
        Ok(Table { name, well_known, slots, by_number, required, names, words, bit_words, values_at, by_tag, far })
    }

    fn slot(&mut self, field: &FieldDescriptor, in_entry: bool, oneof: Option<u16>) -> Result<Slot, PlanError> {
        if field.is_group() {
            return Err(PlanError {
                message: format!("`{}` is a group, which is not supported; use a message", field.full_name()),
            });
        }
        let kind = self.kind(field)?;
        let shape = match (field.is_map(), field.is_list()) {
            (true, _) => Shape::Map,
            (_, true) => Shape::Repeated,
            _ => Shape::Singular,
        };
        let presence = shape == Shape::Singular && field.supports_presence();
        let avro = avro_op(field, kind)?;
        let layout = match shape {
            Shape::Map if has_string_keys(field) => AvroLayout::Map,
            Shape::Map => AvroLayout::Entries,
            Shape::Repeated => AvroLayout::Array,
            Shape::Singular if presence && !in_entry && !field.is_required() => AvroLayout::Nullable,
            Shape::Singular => AvroLayout::Plain,
        };
        Ok(Slot {
            name: field.name().to_owned(),
            json_name: field.json_name().to_owned(),
            json_key: format!("{}\":", field.json_name()).into_bytes(),
            number: field.number(),
            kind,
            shape,
            presence,
            oneof,
            packed: field.is_packed(),
            avro,
            layout,
        })
    }

    fn kind(&mut self, field: &FieldDescriptor) -> Result<Kind, PlanError> {
        use prost_reflect::Kind as Declared;
        Ok(match field.kind() {
            Declared::Bool => Kind::Bool,
            Declared::Int32 => Kind::Int32,
            Declared::Sint32 => Kind::Sint32,
            Declared::Sfixed32 => Kind::Sfixed32,
            Declared::Uint32 => Kind::Uint32,
            Declared::Fixed32 => Kind::Fixed32,
            Declared::Int64 => Kind::Int64,
            Declared::Sint64 => Kind::Sint64,
            Declared::Sfixed64 => Kind::Sfixed64,
            Declared::Uint64 => Kind::Uint64,
            Declared::Fixed64 => Kind::Fixed64,
            Declared::Float => Kind::Float,
            Declared::Double => Kind::Double,
            Declared::String => Kind::String,
            Declared::Bytes => Kind::Bytes,
            Declared::Enum(en) => Kind::Enum(self.enumeration(&en)?),
            Declared::Message(message) => Kind::Message(self.message(&message)?),
        })
    }

    fn enumeration(&mut self, en: &EnumDescriptor) -> Result<u16, PlanError> {
        if let Some(index) = self.enum_index.get(en.full_name()) {
            return Ok(*index);
        }
        let index = small(self.enums.len(), en.full_name(), "enums")?;
        self.enum_index.insert(en.full_name().to_owned(), index);
        self.enums.push(enum_table(en)?);
        Ok(index)
    }
}

fn enum_table(en: &EnumDescriptor) -> Result<EnumTable, PlanError> {
    let declared = &en.enum_descriptor_proto().value;
    small(declared.len(), en.full_name(), "symbols")?;
    // Enums are mostly small and start at zero; numbers beyond stand in the hash table.
    let dense_from = declared.iter().map(|v| v.number()).min().unwrap_or(0).max(-64);
    let (mut dense, mut sparse) = (Vec::new(), HashMap::new());
    for (ordinal, value) in declared.iter().enumerate() {
        let (number, ordinal) = (value.number(), ordinal as u16);
        match usize::try_from(i64::from(number) - i64::from(dense_from)) {
            Ok(i) if i < 256 => {
                dense.resize(dense.len().max(i + 1), 0);
                if dense[i] == 0 {
                    dense[i] = ordinal + 1;
                }
            }
            _ => {
                sparse.entry(number).or_insert(ordinal);
            }
        }
    }
    let names = NameTable::new(declared.iter().map(|value| [value.name(); 2]))
        .expect("a descriptor is refused when an enum has a symbol twice");
    Ok(EnumTable {
        name: en.full_name().to_owned(),
        closed: en.parent_file().syntax() == Syntax::Proto2,
        is_null: en.full_name() == "google.protobuf.NullValue",
        symbols: declared.iter().map(|value| value.name().to_owned()).collect(),
        dense_from,
        dense,
        sparse,
        names,
        numbers: declared.iter().map(|value| value.number()).collect(),
    })
}

fn has_string_keys(map: &FieldDescriptor) -> bool {
    let entry = map.kind();
    let key = entry.as_message().map(|entry| entry.map_entry_key_field().kind());
    matches!(key, Some(prost_reflect::Kind::String))
}

fn avro_op(field: &FieldDescriptor, kind: Kind) -> Result<AvroOp, PlanError> {
    Ok(match kind {
        Kind::Bool => AvroOp::Bool,
        Kind::Uint64 | Kind::Fixed64 => AvroOp::UnsignedLong,
        Kind::Float => AvroOp::Float,
        Kind::Double => AvroOp::Double,
        Kind::String | Kind::Bytes => AvroOp::Bytes,
        Kind::Enum(index) => AvroOp::Enum(index),
        Kind::Message(index) => {
            let declared = field.kind();
            let message = declared.as_message().expect("a message kind has a message");
            match well_known(message)? {
                WellKnown::Timestamp => AvroOp::Timestamp(index),
                WellKnown::Duration => AvroOp::Duration(index),
                WellKnown::Wrapper => AvroOp::Wrapper(index),
                WellKnown::Struct | WellKnown::Value | WellKnown::ListValue => AvroOp::JsonText(index),
                WellKnown::None | WellKnown::FieldMask => AvroOp::Record(index),
            }
        }
        _ => AvroOp::Long,
    })
}

fn tag_tables(slots: &[Slot], by_number: &[u16], enums: &[EnumTable]) -> (Vec<Hit>, HashMap<u32, Hit>) {
    let numbers = by_number.iter().map(|slot| slots[usize::from(*slot)].number);
    let dense_max = numbers.filter(|number| *number <= DENSE_NUMBER_MAX).max();
    let mut dense = vec![Hit::UNKNOWN; dense_max.map_or(0, |number| (number as usize + 1) * 8)];
    let mut far = HashMap::new();
    for (index, slot) in slots.iter().enumerate() {
        let store = match slot {
            Slot { kind: Kind::Message(_), .. } => Store::Messages,
            Slot { shape: Shape::Repeated, .. } => Store::List,
            Slot { presence: true, .. } => Store::Present,
            _ => Store::Implicit,
        };
        let mut put = |wire_type: u32, read| {
            let (tag, hit) = (slot.number << 3 | wire_type, Hit { slot: index as u16, read, store });
            match dense.get_mut(tag as usize) {
                Some(entry) => *entry = hit,
                None => drop(far.insert(tag, hit)),
            }
        };
        let wire_type = slot.kind.wire_type();
        let read = read_of(slot.kind, enums);
        let is_oneof = slot.oneof.is_some() && read != Read::ClosedEnum;
        put(wire_type, if is_oneof { Read::Oneof } else { read });
        if slot.shape == Shape::Repeated && wire_type != 2 {
            put(2, if read == Read::ClosedEnum { Read::PackedClosedEnum } else { Read::Packed });
        }
    }
    (dense, far)
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

/// Plans index with 16 bits.
fn small(n: usize, name: &str, what: &str) -> Result<u16, PlanError> {
    let refused = |_| PlanError { message: format!("`{name}`: a plan can hold at most 65,535 {what}") };
    u16::try_from(n).map_err(refused)
}
