//! Compiles a message descriptor to a [`Plan`].
//!
//! In: the descriptor and the settings. Out: the tables, or why there can be none. Never: looks at a payload.

use std::collections::HashMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, MessageDescriptor, Syntax};

use super::avro_ops::{self, AvroField};
use super::buffer::Buffer;
use super::direct::Direct;
use super::names::NameTable;
use super::plan::{
    DENSE_NUMBER_MAX, EnumTable, Hit, Kind, Plan, Read, Shape, Slot, Store, Table, UnnamedEnum, read_of,
};
use super::well_known::{EVERYWHERE, WellKnown, declared_fields, well_known};
use super::{PlanError, PlanSettings, avro_schema, editions, json_out, key};
use crate::route::{Encoding, JavaUnknownEnum, Mapping, TimestampPolicy, UnknownEnumPolicy};

/// Fields of one message: each has two names in JSON, and all names are indexed with 16 bits.
const FIELDS_MAX: usize = 32_767;

/// Compiles the message and every message it can hold.
pub(super) fn compile(message: &MessageDescriptor, settings: &PlanSettings<'_>) -> Result<Plan, PlanError> {
    if settings.encoding == Encoding::RawJson {
        return Err(PlanError { message: "encoding `raw_json` has no schema, so there is nothing to compile".into() });
    }
    let mapping = settings.mapping;
    if settings.encoding == Encoding::Avro {
        avro_schema(message, &mapping)?;
    }
    let mut compiler = Compiler::new(mapping);
    compiler.message(message)?;
    compiler.compile_pending()?;
    let any = compiler.compile_what_any_may_hold(message)?;
    let mut plan = Plan {
        root: avro_ops::message_op(message, 0, &mapping)?,
        unnamed_enum: match mapping {
            Mapping::Presence(policies) if policies.unknown_enum == UnknownEnumPolicy::Reject => UnnamedEnum::Reject,
            Mapping::JavaAvro(java) if java.unknown_enum == JavaUnknownEnum::Throw => UnnamedEnum::Reject,
            _ => UnnamedEnum::FirstSymbol,
        },
        clamp_timestamps: matches!(mapping, Mapping::Presence(p) if p.invalid_timestamp == TimestampPolicy::Clamp),
        tables: compiler.tables,
        enums: compiler.enums,
        encoding: settings.encoding,
        unknown_fields: settings.unknown_fields,
        any,
        key: Vec::new(),
    };
    if plan.encoding == Encoding::Avro {
        Direct::compile(&mut plan);
    }
    if let Some(path) = settings.key {
        plan.key = key::compile(&plan, path)?;
    }
    Ok(plan)
}

struct Compiler {
    mapping: Mapping,
    /// Messages in the order of their tables; those from `tables.len()` on wait to be compiled.
    pending: Vec<MessageDescriptor>,
    message_index: HashMap<String, u16>,
    tables: Vec<Table>,
    enum_index: HashMap<String, u16>,
    enums: Vec<EnumTable>,
}

impl Compiler {
    fn new(mapping: Mapping) -> Self {
        Compiler {
            mapping,
            pending: Vec::new(),
            message_index: HashMap::new(),
            tables: Vec::new(),
            enum_index: HashMap::new(),
            enums: Vec::new(),
        }
    }

    /// Compiles the messages that wait, and those that they hold.
    fn compile_pending(&mut self) -> Result<(), PlanError> {
        while let Some(message) = self.pending.get(self.tables.len()).cloned() {
            let table = self.table(&message)?;
            self.tables.push(table);
        }
        Ok(())
    }

    /// An `Any` may hold every message that the schema's files declare, and the well-known types.
    fn compile_what_any_may_hold(&mut self, root: &MessageDescriptor) -> Result<HashMap<String, u16>, PlanError> {
        if self.tables.iter().all(|table| table.well_known != WellKnown::Any) {
            return Ok(HashMap::new());
        }
        let global = prost_reflect::DescriptorPool::global();
        let pool = root.parent_pool();
        let everywhere = EVERYWHERE.iter().map(|name| format!("google.protobuf.{name}"));
        let everywhere = everywhere.filter(|name| pool.get_message_by_name(name).is_none());
        let everywhere: Vec<_> = everywhere.filter_map(|name| global.get_message_by_name(&name)).collect();
        let messages = pool.all_messages().filter(|message| !message.is_map_entry()).chain(everywhere);
        let named = messages.map(|message| Ok((message.full_name().to_owned(), self.message(&message)?)));
        let named = named.collect::<Result<_, PlanError>>()?;
        self.compile_pending()?;
        Ok(named)
    }

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
        if fields.len() > FIELDS_MAX {
            let (has, max) = (fields.len(), FIELDS_MAX);
            return Err(PlanError { message: format!("`{name}` has {has} fields; at most {max} are allowed") });
        }
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
        let missing_value = if message.is_map_entry() { missing_value(&fields[1]) } else { 0 };
        let values_at = 2 * bit_words + oneofs.len();
        let words = values_at + slots.len();
        let well_known = well_known(message)?;
        Ok(Table {
            name,
            well_known,
            slots,
            by_number,
            required,
            names,
            words,
            bit_words,
            values_at,
            by_tag,
            far,
            missing_value,
            direct: None,
        })
    }

    fn slot(&mut self, field: &FieldDescriptor, in_entry: bool, oneof: Option<u16>) -> Result<Slot, PlanError> {
        let kind = self.kind(field)?;
        let shape = match (field.is_map(), field.is_list()) {
            (true, _) => Shape::Map,
            (_, true) => Shape::Repeated,
            _ => Shape::Singular,
        };
        let presence = shape == Shape::Singular && editions::has_presence(field);
        let AvroField { op, layout, default } = avro_ops::avro_field(field, kind, in_entry, &self.mapping)?;
        Ok(Slot {
            name: field.name().to_owned(),
            json_name: field.json_name().to_owned(),
            json_key: json_key(field.json_name()),
            number: field.number(),
            kind,
            shape,
            presence,
            oneof,
            packed: is_packed(field),
            group: field.is_group(),
            avro: op,
            layout,
            default,
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
        closed: editions::is_closed(en),
        is_null: en.full_name() == "google.protobuf.NullValue",
        symbols: declared.iter().map(|value| value.name().to_owned()).collect(),
        dense_from,
        dense,
        sparse,
        names,
        numbers: declared.iter().map(|value| value.number()).collect(),
    })
}

/// `name":`, escaped as our JSON is.
fn json_key(name: &str) -> Vec<u8> {
    let mut key = Buffer::default();
    json_out::write_quoted(name.as_bytes(), &mut key);
    key.byte(b':');
    key.content()[1..].to_vec()
}

/// What a map entry without a value has: the default, which of an enum is its first symbol.
fn missing_value(value: &FieldDescriptor) -> u64 {
    match value.kind() {
        prost_reflect::Kind::Enum(en) => {
            en.enum_descriptor_proto().value.first().map_or(0, |first| first.number() as u64)
        }
        _ => 0,
    }
}

/// Whether the schema packs a field. `FieldDescriptor::is_packed` is decided before the options of a file that was
/// compiled from text are read, so it does not know `[packed = …]`.
fn is_packed(field: &FieldDescriptor) -> bool {
    use prost_reflect::Kind as Declared;
    let is_long = matches!(field.kind(), Declared::String | Declared::Bytes | Declared::Message(_));
    let set = field.field_descriptor_proto().options.as_ref().and_then(|options| options.packed);
    field.is_list() && !is_long && set.unwrap_or(field.parent_file().syntax() == Syntax::Proto3)
}

fn tag_tables(slots: &[Slot], by_number: &[u16], enums: &[EnumTable]) -> (Vec<Hit>, HashMap<u32, Hit>) {
    let numbers = by_number.iter().map(|slot| slots[usize::from(*slot)].number);
    // Ten thousand messages of one field with a large number each would have a plan of 160 MB.
    let near = DENSE_NUMBER_MAX.min(64 + 16 * slots.len() as u32);
    let dense_max = numbers.filter(|number| *number <= near).max();
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
        if slot.group {
            put(3, Read::Group);
            continue;
        }
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

/// Plans index with 16 bits.
fn small(n: usize, name: &str, what: &str) -> Result<u16, PlanError> {
    let refused = |_| PlanError { message: format!("`{name}`: a plan can hold at most 65,535 {what}") };
    u16::try_from(n).map_err(refused)
}
