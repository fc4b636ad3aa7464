//! The short way from Protobuf on the wire to Avro: one pass, no slots.
//!
//! In: a message whose fields come in the order of their declaration, as every serialiser writes them if the schema
//! declares them by ascending number. Out: its datum, the same as by way of slots, in half the time (193 ns against 402 in
//! the same minute, for the benches' event). Never: an error. Whatever is not so plain (fields out of order, twice or
//! unknown, a value that must be refused) ends the attempt, and the event takes the way over slots, which knows what to do
//! or to say. What was written is forgotten then. There is one attempt an event, so the worst payload costs less than
//! twice as much as without.
//!
//! A message inside that declares its fields in another order, or that Avro has no record for (a timestamp, a wrapper),
//! takes the way over slots by itself.

use std::collections::HashSet;

use super::avro::{write_inner, write_value};
use super::buffer::Buffer;
use super::fail::Step;
use super::plan::{AvroLayout, AvroOp, EnumTable, Kind, Plan, Read, Shape, Slot, Table, read_of};
use super::slots::{DEPTH_MAX, Holds, List, Message, NODES_MAX, Slots, Span, WORDS_MAX, append};
use super::{json_out, maps, wire};

/// How a message's fields are written as they come.
#[derive(Debug)]
pub(super) struct Direct {
    /// By ascending number, which is the order of declaration; then one that no tag leads to.
    fields: Vec<Field>,
    /// What stands for the fields when they are absent, one after the other.
    absent: Vec<u8>,
    /// Where in `absent` each field begins, and where the last ends.
    absent_at: Vec<u32>,
    /// For each field, and for the end: the next field from it on for whose absence nothing stands.
    needed: Vec<u16>,
}

/// One field.
#[derive(Debug)]
struct Field {
    /// The tag that is expected, which of a list is the packed or the unpacked one.
    tag: u32,
    nullable: bool,
    /// What is done with the field, and with one value of it.
    field: Value,
    value: Value,
    kind: Kind,
    /// How one value is read and written.
    read: Read,
    op: AvroOp,
    /// One bit for the oneof that the field is a member of, or none.
    oneof: u64,
}

/// What is done with a value. What most fields are has a case of its own, which reads and writes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Text,
    Bytes,
    /// A varint, as it is or truncated to 32 bits, that becomes a long.
    Long,
    SignedLong32,
    UnsignedLong32,
    Bool,
    /// Bytes that stay as they are.
    Fixed32,
    Fixed64,
    /// Other scalars, read and written as by way of slots.
    Scalar,
    /// A number that must have a symbol.
    Symbol(u16),
    /// A message of this table.
    Record(u16),
    /// A message that takes the way over slots.
    Inner,
    List,
    /// A list of this table's messages, each key once.
    Map(u16),
    /// Nothing: the attempt ends.
    Never,
}

/// The oneofs of one message are bits of a word.
const ONEOFS_MAX: usize = u64::BITS as usize;

impl Direct {
    /// The short ways of all messages that declare their fields in the order of their numbers.
    pub(super) fn compile(plan: &mut Plan) {
        let slots = plan.tables.iter().flat_map(|table| &table.slots);
        let entries: HashSet<Kind> = slots.filter(|slot| slot.shape == Shape::Map).map(|slot| slot.kind).collect();
        for (index, table) in plan.tables.iter_mut().enumerate() {
            let is_entry = entries.contains(&Kind::Message(index as u16));
            table.direct = Direct::of(table, is_entry, &plan.enums);
        }
    }

    fn of(table: &Table, is_entry: bool, enums: &[EnumTable]) -> Option<Direct> {
        let in_order = table.by_number.iter().map(|slot| usize::from(*slot)).eq(0..table.slots.len());
        let first_oneof = 2 * table.bit_words;
        if !in_order || table.values_at - first_oneof > ONEOFS_MAX {
            return None;
        }
        // No tag is zero.
        let end = Field {
            tag: 0,
            nullable: false,
            field: Value::Never,
            value: Value::Never,
            kind: Kind::Bool,
            read: Read::Unknown,
            op: AvroOp::Long,
            oneof: 0,
        };
        let fields = table.slots.iter().map(|slot| field(slot, first_oneof, enums)).chain([end]).collect();
        let (mut absent, mut absent_at, mut needed) = (Buffer::default(), vec![0], Vec::new());
        for (at, slot) in table.slots.iter().enumerate() {
            let at = at as u16;
            // An entry always has a value; a message that is missing is an empty one.
            let is_value = is_entry && (slot.layout == AvroLayout::Nullable || table.missing_value != 0);
            if is_value || table.required.contains(&at) || !write_absent(slot, enums, &mut absent) {
                needed.resize(usize::from(at) + 1, at);
            }
            absent_at.push(absent.len() as u32);
        }
        needed.resize(table.slots.len() + 1, table.slots.len() as u16);
        Some(Direct { fields, absent: absent.content().into(), absent_at, needed })
    }

    /// The field of a tag that is not the expected one; what stands for those before it is written. None if the tag is
    /// unknown or its field has been passed.
    #[inline(never)]
    fn pass_absent(&self, table: &Table, at: usize, tag: u32, out: &mut Buffer) -> Option<usize> {
        let hit = table.hit(tag);
        let found = usize::from(hit.slot);
        if hit.read == Read::Unknown || found < at {
            return None;
        }
        out.slice(self.absent(at, found)?);
        Some(found)
    }

    /// What stands for the absence of the fields `from..to`.
    #[inline]
    fn absent(&self, from: usize, to: usize) -> Option<&[u8]> {
        if usize::from(*self.needed.get(from)?) < to {
            return None;
        }
        self.absent.get(*self.absent_at.get(from)? as usize..*self.absent_at.get(to)? as usize)
    }
}

fn field(slot: &Slot, first_oneof: usize, enums: &[EnumTable]) -> Field {
    let wire_type = if slot.packed { 2 } else { slot.kind.wire_type() };
    let value = match (slot.kind, slot.avro) {
        _ if slot.group => Value::Never,
        (Kind::String, _) => Value::Text,
        (Kind::Bytes, _) => Value::Bytes,
        (Kind::Int64 | Kind::Uint64, AvroOp::Long) => Value::Long,
        (Kind::Int32, AvroOp::Long) => Value::SignedLong32,
        (Kind::Uint32, AvroOp::Long) => Value::UnsignedLong32,
        (Kind::Bool, _) => Value::Bool,
        (Kind::Float, _) => Value::Fixed32,
        (Kind::Double, _) => Value::Fixed64,
        (Kind::Enum(en), _) => Value::Symbol(en),
        (Kind::Message(_), AvroOp::Record(child)) => Value::Record(child),
        (Kind::Message(_), _) => Value::Inner,
        _ => Value::Scalar,
    };
    Field {
        tag: slot.number << 3 | wire_type,
        nullable: slot.layout == AvroLayout::Nullable,
        field: match (slot.shape, slot.kind) {
            (Shape::Map, Kind::Message(entry)) => Value::Map(entry),
            (Shape::Repeated, _) => Value::List,
            _ => value,
        },
        value,
        kind: slot.kind,
        read: match read_of(slot.kind, enums) {
            Read::ClosedEnum => Read::VarintSigned32,
            read => read,
        },
        op: slot.avro,
        oneof: slot.oneof.map_or(0, |word| 1 << (usize::from(word) - first_oneof)),
    }
}

/// Writes what stands for a field that is absent, if something does.
fn write_absent(slot: &Slot, enums: &[EnumTable], out: &mut Buffer) -> bool {
    let zeros = match (slot.layout, slot.avro) {
        (AvroLayout::Defaulted, _) => {
            out.slice(&slot.default);
            0
        }
        (AvroLayout::Plain, AvroOp::Enum(en)) => match enums[usize::from(en)].ordinal(0) {
            Some(ordinal) => {
                out.zigzag(i64::from(ordinal));
                0
            }
            None => return false,
        },
        (AvroLayout::Plain, AvroOp::Float) => 4,
        (AvroLayout::Plain, AvroOp::Double) => 8,
        (AvroLayout::Plain, AvroOp::Bool | AvroOp::Long | AvroOp::Int | AvroOp::UnsignedLong | AvroOp::Bytes) => 1,
        (AvroLayout::Plain, _) => return false,
        (AvroLayout::Nullable | AvroLayout::Array | AvroLayout::Map | AvroLayout::Entries, _) => 1,
    };
    out.slice(&[0; 8][..zeros]);
    true
}

/// Writes the payload's key and value, if it goes by the short way: whether it has a key, and how many bytes that is.
/// Else nothing is written.
pub(super) fn write(slots: &mut Slots<'_>, keys: &mut Vec<(u64, u32)>, out: &mut Buffer) -> Option<(bool, usize)> {
    let AvroOp::Record(root) = slots.plan.root else { return None };
    let (start, mark) = (out.len(), slots.mark());
    let (fillable_words, dropped) = (slots.fillable_words, slots.notes.output.fields_dropped);
    let defaulted = slots.notes.output.enums_defaulted;
    let payload = slots.payload;
    let mut writer = Writer { slots, keys, words_left: WORDS_MAX, elements_left: NODES_MAX };
    let key = if writer.slots.plan.key.is_empty() { Some(false) } else { writer.key(payload, out) };
    let key_bytes = out.len() - start;
    if let Some(has_key) = key
        && writer.message(root, payload, out).is_some()
    {
        return Some((has_key, key_bytes));
    }
    out.truncate(start);
    slots.forget(mark);
    slots.path.clear();
    slots.fillable_words = fillable_words;
    slots.notes.output.fields_dropped = dropped;
    slots.notes.output.enums_defaulted = defaulted;
    None
}

struct Writer<'s, 'a> {
    slots: &'s mut Slots<'a>,
    /// The keys of the map that is being written, behind those of the maps around it.
    keys: &'s mut Vec<(u64, u32)>,
    /// What would need more slots or nodes than these is left to the way over slots, which refuses it or does not.
    words_left: usize,
    elements_left: usize,
}

impl<'a> Writer<'_, 'a> {
    /// Writes a message as a record.
    fn message(&mut self, index: u16, mut rest: &'a [u8], out: &mut Buffer) -> Option<()> {
        let plan = self.slots.plan;
        let table = &plan.tables[usize::from(index)];
        let direct = table.direct.as_ref()?;
        self.words_left = self.words_left.checked_sub(table.words)?;
        let (mut at, mut oneofs) = (0, 0);
        while !rest.is_empty() {
            let tag = tag(&mut rest)?;
            let mut field = &direct.fields[at];
            if field.tag != tag {
                at = direct.pass_absent(table, at, tag, out)?;
                field = &direct.fields[at];
            }
            if field.oneof & oneofs != 0 {
                return None;
            }
            oneofs |= field.oneof;
            let step = Step::field(index, at as u16);
            at += 1;
            rest = match field.field {
                Value::List => self.list(field, tag, rest, step, out)?,
                Value::Map(entry) => self.map(entry, tag, rest, out)?,
                value => {
                    if field.nullable {
                        out.byte(2);
                    }
                    self.value(value, field, rest, step, out)?
                }
            };
        }
        if at < table.slots.len() {
            out.slice(direct.absent(at, table.slots.len())?);
        }
        self.slots.check_expansion(out.len()).ok()
    }

    /// Writes the value that follows a tag, and returns what follows the value.
    #[inline(always)]
    fn value(
        &mut self,
        value: Value,
        field: &Field,
        mut rest: &'a [u8],
        step: Step,
        out: &mut Buffer,
    ) -> Option<&'a [u8]> {
        match value {
            Value::Text => {
                let text = within(&mut rest)?;
                if !out.avro_bytes(text) && !wire::is_long_utf8(text) {
                    return None;
                }
            }
            Value::Bytes => drop(out.avro_bytes(within(&mut rest)?)),
            Value::Long => out.zigzag(varint(&mut rest)? as i64),
            Value::SignedLong32 => out.zigzag(i64::from(varint(&mut rest)? as i32)),
            Value::UnsignedLong32 => out.zigzag(i64::from(varint(&mut rest)? as u32)),
            Value::Bool => out.byte(u8::from(varint(&mut rest)? != 0)),
            Value::Fixed32 => {
                let (number, after) = rest.split_first_chunk()?;
                out.fixed32(u32::from_le_bytes(*number));
                rest = after;
            }
            Value::Fixed64 => {
                let (number, after) = rest.split_first_chunk()?;
                out.fixed64(u64::from_le_bytes(*number));
                rest = after;
            }
            Value::Symbol(en) => {
                let number = varint(&mut rest)? as i32;
                let ordinal = self.slots.plan.enums[usize::from(en)].ordinal(number)?;
                match field.op {
                    AvroOp::Enum(_) => out.zigzag(i64::from(ordinal)),
                    op => write_value(self.slots, op, number as u64, step, out).ok()?,
                }
            }
            Value::Record(child) => self.record(child, within(&mut rest)?, step, out)?,
            Value::Scalar => return self.scalar(field, rest, step, out),
            Value::Inner => self.inner(field.op, within(&mut rest)?, step, out)?,
            Value::List | Value::Map(_) | Value::Never => return None,
        }
        Some(rest)
    }

    #[inline(never)]
    fn scalar(&mut self, field: &Field, rest: &'a [u8], step: Step, out: &mut Buffer) -> Option<&'a [u8]> {
        let mut pos = 0;
        let word = wire::read_value(rest, 0, &mut pos, field.read, step).ok()?;
        write_value(self.slots, field.op, word, step, out).ok()?;
        rest.get(pos..)
    }

    /// Writes a message one level down.
    fn record(&mut self, child: u16, message: &'a [u8], step: Step, out: &mut Buffer) -> Option<()> {
        if self.slots.plan.tables[usize::from(child)].direct.is_none() {
            return self.inner(AvroOp::Record(child), message, step, out);
        }
        self.elements_left = self.elements_left.checked_sub(1)?;
        if self.slots.path.len() >= DEPTH_MAX {
            return None;
        }
        self.slots.path.push(step);
        self.message(child, message, out)?;
        self.slots.path.pop();
        Some(())
    }

    /// Writes a message by way of its slots.
    #[inline(never)]
    fn inner(&mut self, op: AvroOp, message: &'a [u8], step: Step, out: &mut Buffer) -> Option<()> {
        self.elements_left = self.elements_left.checked_sub(1)?;
        let (mark, dropped) = (self.slots.mark(), self.slots.notes.output.fields_dropped);
        let mut list = List(0);
        append(&mut list.0, self.slots.frames.nodes, self.span(message).0, Holds::Unread).ok()?;
        write_inner(self.slots, op, Message::Parts(list), step, out).ok()?;
        self.slots.forget(mark);
        // What was dropped is told with its place, which here is known but for the position in a list.
        (self.slots.notes.output.fields_dropped == dropped).then_some(())
    }

    /// Where a part of the payload is in it.
    fn span(&self, part: &[u8]) -> Span {
        Span::payload(part.as_ptr().addr() - self.slots.payload.as_ptr().addr(), part.len())
    }

    /// Writes a list, a run of packed scalars or elements that follow each other; returns what follows it.
    #[inline(never)]
    fn list(&mut self, field: &Field, tag: u32, mut rest: &'a [u8], step: Step, out: &mut Buffer) -> Option<&'a [u8]> {
        let (open, mut count) = (out.open_length(0), 0);
        if tag & 7 == 2 && field.kind.wire_type() != 2 {
            let mut run = within(&mut rest)?;
            while !run.is_empty() {
                run = self.value(field.value, field, run, step, out)?;
                count += 1;
            }
            if count == 0 {
                out.truncate(open.at());
            }
        } else {
            loop {
                rest = self.value(field.value, field, rest, step, out)?;
                count += 1;
                if !takes_tag(&mut rest, tag) {
                    break;
                }
            }
            self.elements_left = self.elements_left.checked_sub(count)?;
        }
        if count > 0 {
            out.close_avro_count(open, count);
        }
        out.byte(0);
        Some(rest)
    }

    /// Writes a map's entries, which follow each other; returns what follows them.
    #[inline(never)]
    fn map(&mut self, entry: u16, tag: u32, mut rest: &'a [u8], out: &mut Buffer) -> Option<&'a [u8]> {
        let table = &self.slots.plan.tables[usize::from(entry)];
        let first = self.keys.len();
        let open = out.open_length(0);
        loop {
            let content = within(&mut rest)?;
            let key = self.map_key(&table.slots[maps::KEY], content)?;
            self.keys.push((key, self.keys.len() as u32));
            self.message(entry, content, out)?;
            if !takes_tag(&mut rest, tag) {
                break;
            }
        }
        let count = self.keys.len() - first;
        self.elements_left = self.elements_left.checked_sub(count)?;
        out.close_avro_count(open, count);
        out.byte(0);
        let payload = self.slots.payload;
        let duplicate = maps::find_duplicate(table, &mut self.keys[first..], &|span: Span| &payload[span.range()]);
        self.keys.truncate(first);
        duplicate.is_none().then_some(rest)
    }

    /// The key of a map's entry as a slot would hold it, if the entry begins with it or is without one.
    #[inline]
    fn map_key(&self, slot: &Slot, mut entry: &'a [u8]) -> Option<u64> {
        if !takes_tag(&mut entry, slot.number << 3 | slot.kind.wire_type()) {
            return Some(0);
        }
        match slot.kind {
            Kind::String => Some(self.span(within(&mut entry)?).0),
            kind => wire::read_value(entry, 0, &mut 0, read_of(kind, &[]), Step::field(0, 0)).ok(),
        }
    }

    /// Writes the text of the record's key, if there is one, and says whether. The field's first appearance is it: were
    /// there another, the attempt would end.
    fn key(&self, mut rest: &'a [u8], text: &mut Buffer) -> Option<bool> {
        let plan = self.slots.plan;
        let mut table = &plan.tables[0];
        for at in plan.key.iter().copied() {
            let (slot, field) = (&table.slots[usize::from(at)], &table.direct.as_ref()?.fields[usize::from(at)]);
            let is_there = find_field(table, at, &mut rest)?;
            if slot.presence && !is_there {
                return Some(false);
            }
            match field.value {
                Value::Record(child) => (table, rest) = (&plan.tables[usize::from(child)], within(&mut rest)?),
                Value::Inner | Value::List | Value::Map(_) | Value::Never => return None,
                _ if !is_there => json_out::write_text(plan, slot.kind, 0, &[], text),
                Value::Text | Value::Bytes => json_out::write_text(plan, slot.kind, 0, within(&mut rest)?, text),
                _ => {
                    let word = wire::read_value(rest, 0, &mut 0, field.read, Step::field(0, at)).ok()?;
                    json_out::write_text(plan, slot.kind, word, &[], text);
                }
            }
        }
        Some(true)
    }
}

/// Moves to the value of a field, if it is there; else to where it would be.
fn find_field(table: &Table, slot: u16, rest: &mut &[u8]) -> Option<bool> {
    while !rest.is_empty() {
        let tag = tag(rest)?;
        let hit = table.hit(tag);
        if matches!(hit.read, Read::Unknown | Read::Group) {
            return None;
        }
        if hit.slot >= slot {
            return Some(hit.slot == slot);
        }
        *rest = rest.get(wire::skip(rest, 0, tag, 0).ok()?..)?;
    }
    Some(false)
}

/// Takes a tag: of field numbers up to 15 it is one byte, up to 2,047 two.
#[inline(always)]
fn tag(rest: &mut &[u8]) -> Option<u32> {
    match **rest {
        [first @ 8..0x80, ref after @ ..] => {
            *rest = after;
            Some(u32::from(first))
        }
        [first @ 0x80..=0xff, second @ 1..0x80, ref after @ ..] => {
            *rest = after;
            Some(u32::from(first & 0x7f) | u32::from(second) << 7)
        }
        _ => {
            let (tag, after) = long_tag(rest)?;
            *rest = after;
            Some(tag)
        }
    }
}

#[cold]
fn long_tag(rest: &[u8]) -> Option<(u32, &[u8])> {
    let mut pos = 0;
    let tag = wire::read_tag(rest, &mut pos).ok()?;
    Some((tag, rest.get(pos..)?))
}

/// Takes the next tag if it is this one.
#[inline]
fn takes_tag(rest: &mut &[u8], expected: u32) -> bool {
    let mut after = *rest;
    let takes = !rest.is_empty() && tag(&mut after) == Some(expected);
    if takes {
        *rest = after;
    }
    takes
}

/// Takes a varint.
#[inline(always)]
fn varint(rest: &mut &[u8]) -> Option<u64> {
    match **rest {
        [first @ 0..0x80, ref after @ ..] => {
            *rest = after;
            Some(u64::from(first))
        }
        [first, second @ 0..0x80, ref after @ ..] => {
            *rest = after;
            Some(u64::from(first & 0x7f) | u64::from(second) << 7)
        }
        _ => {
            let (value, width) = wire::long_varint(rest, 0)?;
            *rest = rest.get(width..)?;
            Some(value)
        }
    }
}

/// Takes what stands behind a length.
#[inline(always)]
fn within<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = varint(rest)?;
    let (within, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = after;
    Some(within)
}
