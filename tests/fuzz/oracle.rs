//! What a message must become, written down independently of the plan: over prost-reflect's message and apache-avro's values.

use apache_avro::types::Value as Avro;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Syntax, Value};

/// What a payload is by the wire format's own rules.
pub struct Reading {
    /// Whether it is a message, with strings in UTF-8 wherever they are.
    pub is_message: bool,
    /// Whether a known field has another wire type, which makes it an unknown field; prost adds an element all the same.
    pub is_mistyped: bool,
}

/// Reads a payload with nothing but the rules in mind.
pub fn read(message: &MessageDescriptor, payload: &[u8]) -> Reading {
    let mut is_mistyped = false;
    let is_message = read_fields(Some(message), &mut &payload[..], None, &mut is_mistyped).is_some();
    Reading { is_message, is_mistyped }
}

/// Passes over fields to the end, or to the end of the group with this number.
fn read_fields(
    message: Option<&MessageDescriptor>,
    rest: &mut &[u8],
    group: Option<u64>,
    is_mistyped: &mut bool,
) -> Option<()> {
    while !rest.is_empty() {
        let tag = u64::from(u32::try_from(varint(rest)?).ok()?);
        let (number, wire_type) = (tag >> 3, tag & 7);
        if number == 0 {
            return None;
        }
        let field = message.and_then(|message| message.get_field(number as u32));
        *is_mistyped |= field.as_ref().is_some_and(|field| !takes(field, wire_type)) && wire_type != 4;
        match wire_type {
            0 => drop(varint(rest)?),
            1 => *rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(varint(rest)?).ok()?;
                let (content, after) = rest.split_at_checked(length)?;
                *rest = after;
                field.map_or(Some(()), |field| read_content(&field, content, is_mistyped))?;
            }
            3 => {
                let known = field.filter(|field| field.is_group()).map(|field| field.kind());
                read_fields(known.as_ref().and_then(|kind| kind.as_message()), rest, Some(number), is_mistyped)?;
            }
            4 => return (group == Some(number)).then_some(()),
            5 => *rest = rest.get(4..)?,
            _ => return None,
        }
    }
    group.is_none().then_some(())
}

/// Whether a field's values may have this wire type.
fn takes(field: &FieldDescriptor, wire_type: u64) -> bool {
    let own = match field.kind() {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => 1,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => 5,
        Kind::Message(_) if field.is_group() => 3,
        Kind::Message(_) | Kind::String | Kind::Bytes => 2,
        _ => 0,
    };
    wire_type == own || (wire_type == 2 && own != 3 && field.is_list())
}

/// The content of a field with a length.
fn read_content(field: &FieldDescriptor, mut content: &[u8], is_mistyped: &mut bool) -> Option<()> {
    match field.kind() {
        Kind::String => std::str::from_utf8(content).ok().map(drop),
        Kind::Message(message) if !field.is_group() => read_fields(Some(&message), &mut content, None, is_mistyped),
        Kind::Message(_) | Kind::Bytes => Some(()),
        _ if !field.is_list() => Some(()),
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => content.len().is_multiple_of(8).then_some(()),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => content.len().is_multiple_of(4).then_some(()),
        _ => {
            while !content.is_empty() {
                varint(&mut content)?;
            }
            Some(())
        }
    }
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for at in 0..10 {
        let byte = *rest.get(at)?;
        value |= u64::from(byte & 0x7f).checked_shl(7 * at as u32).unwrap_or(0);
        if byte < 0x80 {
            *rest = &rest[at + 1..];
            return Some(value);
        }
    }
    None
}

/// Whether a closed enum somewhere in the message has a number that it does not name. Protobuf makes such a field an unknown one, prost
/// keeps it.
pub fn has_unnamed_enum(message: &DynamicMessage) -> bool {
    fn in_value(value: &Value, kind: &Kind) -> bool {
        match (value, kind) {
            (Value::EnumNumber(number), Kind::Enum(en)) => {
                en.parent_file().syntax() == Syntax::Proto2 && en.get_value(*number).is_none()
            }
            (Value::Message(message), _) => has_unnamed_enum(message),
            (Value::List(items), kind) => items.iter().any(|item| in_value(item, kind)),
            (Value::Map(entries), Kind::Message(entry)) => {
                let kind = entry.map_entry_value_field().kind();
                entries.values().any(|value| in_value(value, &kind))
            }
            _ => false,
        }
    }
    message.fields().any(|(field, value)| in_value(value, &field.kind()))
}

/// The Avro value of a message by the `presence` mapping, with `uint64 = "wrap"` and `invalid_timestamp = "clamp"`.
pub fn avro_of(message: &DynamicMessage) -> Avro {
    let descriptor = message.descriptor();
    let declared = descriptor.descriptor_proto().field.iter().map(|field| field.number() as u32);
    let fields: Vec<_> = declared.filter_map(|number| descriptor.get_field(number)).collect();
    let members = fields.iter().map(|field| (field.name().to_owned(), member_of(message, field)));
    Avro::Record(members.collect())
}

fn member_of(message: &DynamicMessage, field: &FieldDescriptor) -> Avro {
    match &*message.get_field(field) {
        Value::List(items) => Avro::Array(items.iter().map(|item| value_of(item, &field.kind())).collect()),
        Value::Map(entries) => {
            let entry = field.kind();
            let entry = entry.as_message().expect("a map's kind is its entry");
            let kind = entry.map_entry_value_field().kind();
            if entry.map_entry_key_field().kind() == Kind::String {
                let text = |key: &MapKey| key.as_str().expect("a string").to_owned();
                return Avro::Map(entries.iter().map(|(key, value)| (text(key), value_of(value, &kind))).collect());
            }
            let pair = |(key, value): (&MapKey, &Value)| {
                let key = value_of(&Value::from(key.clone()), &entry.map_entry_key_field().kind());
                Avro::Record(vec![("key".to_owned(), key), ("value".to_owned(), value_of(value, &kind))])
            };
            Avro::Array(entries.iter().map(pair).collect())
        }
        value if !field.supports_presence() || field.is_required() => value_of(value, &field.kind()),
        _ if !message.has_field(field) => Avro::Union(0, Box::new(Avro::Null)),
        value => Avro::Union(1, Box::new(value_of(value, &field.kind()))),
    }
}

fn value_of(value: &Value, kind: &Kind) -> Avro {
    match (value, kind) {
        (Value::Bool(b), _) => Avro::Boolean(*b),
        (Value::I32(n), _) => Avro::Int(*n),
        (Value::I64(n), _) => Avro::Long(*n),
        (Value::U32(n), _) => Avro::Long(i64::from(*n)),
        (Value::U64(n), _) => Avro::Long(*n as i64),
        (Value::F32(x), _) => Avro::Float(*x),
        (Value::F64(x), _) => Avro::Double(*x),
        (Value::String(text), _) => Avro::String(text.clone()),
        (Value::Bytes(bytes), _) => Avro::Bytes(bytes.to_vec()),
        (Value::EnumNumber(number), Kind::Enum(en)) => {
            let symbols: Vec<_> = en.enum_descriptor_proto().value.iter().collect();
            let at = symbols.iter().position(|symbol| symbol.number() == *number).unwrap_or(0);
            Avro::Enum(at as u32, symbols[at].name().to_owned())
        }
        (Value::Message(message), Kind::Message(_)) => message_value(message),
        (value, _) => panic!("a value of another kind than its field: {value}"),
    }
}

fn message_value(message: &DynamicMessage) -> Avro {
    let part = |number| message.get_field_by_number(number).expect("well-known types have it").into_owned();
    let seconds_and_nanos = || (part(1).as_i64().unwrap_or(0), part(2).as_i32().unwrap_or(0));
    let descriptor = message.descriptor();
    match descriptor.full_name().strip_prefix("google.protobuf.") {
        Some("Timestamp") => {
            let (seconds, nanos) = seconds_and_nanos();
            let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
            let (first, last) = (-62_135_596_800_000_000_000, 253_402_300_799_999_999_999);
            Avro::TimestampMicros((total.clamp(first, last).div_euclid(1_000)) as i64)
        }
        Some("Duration") => {
            let (seconds, nanos) = seconds_and_nanos();
            Avro::Long((i128::from(seconds) * 1_000_000 + i128::from(nanos.div_euclid(1_000))) as i64)
        }
        Some("Struct" | "Value" | "ListValue" | "Any") => {
            // What prost-reflect has no JSON for, such as an empty `Any`, is null here and like everything.
            serde_json::to_string(message).map_or(Avro::Null, Avro::String)
        }
        Some(name) if name.ends_with("Value") => {
            let field = descriptor.fields().next().expect("a wrapper has a field");
            value_of(&message.get_field(&field), &field.kind())
        }
        _ => avro_of(message),
    }
}

/// Whether two values are the same: floats by their bits, JSON text by what it says, pairs of maps in any order.
pub fn same(ours: &Avro, theirs: &Avro) -> bool {
    is_same(ours, theirs, 0)
}

/// The same, but for floats: serde_json reads them quickly rather than exactly, unless asked.
pub fn nearly_same(ours: &Avro, theirs: &Avro) -> bool {
    is_same(ours, theirs, 4)
}

/// The members of two records that differ, and how.
pub fn differences(ours: &Avro, theirs: &Avro) -> String {
    let (Avro::Record(ours), Avro::Record(theirs)) = (ours, theirs) else { return format!("{ours:?} and {theirs:?}") };
    let pairs = ours.iter().zip(theirs).filter(|((_, x), (_, y))| !same(x, y));
    pairs.map(|((name, x), (_, y))| format!("{name}: we have {x:?}, they have {y:?}\n")).collect()
}

fn is_same(ours: &Avro, theirs: &Avro, float_steps: u64) -> bool {
    let same = |ours: &Avro, theirs: &Avro| is_same(ours, theirs, float_steps);
    match (ours, theirs) {
        (Avro::Float(a), Avro::Float(b)) => a.to_bits().abs_diff(b.to_bits()) <= float_steps as u32,
        (Avro::Double(a), Avro::Double(b)) => a.to_bits().abs_diff(b.to_bits()) <= float_steps,
        (Avro::Union(a, x), Avro::Union(b, y)) => a == b && same(x, y),
        (Avro::Record(a), Avro::Record(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((m, x), (n, y))| m == n && same(x, y))
        }
        (Avro::Map(a), Avro::Map(b)) => {
            a.len() == b.len() && a.iter().all(|(key, x)| b.get(key).is_some_and(|y| same(x, y)))
        }
        (Avro::Array(a), Avro::Array(b)) => {
            let in_order = a.len() == b.len() && a.iter().zip(b).all(|(x, y)| same(x, y));
            in_order || (a.len() == b.len() && a.iter().all(|x| is_pair(x) && b.iter().any(|y| same(x, y))))
        }
        (Avro::String(_), Avro::Null) => true,
        (Avro::String(a), Avro::String(b)) if a != b => {
            let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
            parsed(a).is_some() && parsed(a) == parsed(b)
        }
        (a, b) => a == b,
    }
}

fn is_pair(value: &Avro) -> bool {
    matches!(value, Avro::Record(members) if members.len() == 2 && members[0].0 == "key")
}
