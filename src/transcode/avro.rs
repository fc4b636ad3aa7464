//! The Avro back-end: a frame -> an Avro datum.
//!
//! In: a message's slots. Out: its datum by the plan's operations, appended to the buffer. Never: decides about the
//! mapping (the plan did), builds a value, or writes more than the payload's share.

use super::buffer::Buffer;
use super::fail::{Done, Fail, Step};
use super::maps::{self, KEY, VALUE};
use super::plan::{AvroLayout, AvroOp, Kind, Slot};
use super::slots::{Holds, List, Message, Node, Slots, Span};
use super::wire::Unpack;
use super::{json_out, time};
use crate::outcome::Code;
use crate::route::{TimestampPolicy, Uint64Policy, UnknownEnumPolicy};

/// Writes a message as a record.
pub(super) fn write_message(slots: &mut Slots<'_>, index: u16, frame: usize, out: &mut Buffer) -> Done {
    let plan = slots.plan;
    let table = &plan.tables[usize::from(index)];
    for (at, slot) in table.slots.iter().enumerate() {
        let word = slots.word(table, frame, at);
        let step = Step::field(index, at as u16);
        match slot.layout {
            AvroLayout::Plain => write_value(slots, slot.avro, word, step, out)?,
            AvroLayout::Nullable if slots.is_present(frame, at) => {
                out.byte(2);
                write_value(slots, slot.avro, word, step, out)?;
            }
            AvroLayout::Nullable => out.byte(0),
            AvroLayout::Array => write_array(slots, slot, List(word), step, out)?,
            AvroLayout::Map | AvroLayout::Entries => write_map(slots, slot, List(word), step, out)?,
        }
    }
    slots.check_expansion(out.len())
}

/// Writes the value of a singular field or of a map entry.
#[inline]
fn write_value(slots: &mut Slots<'_>, op: AvroOp, word: u64, step: Step, out: &mut Buffer) -> Done {
    match op {
        AvroOp::Long => out.zigzag(word as i64),
        AvroOp::Bytes => {
            let bytes = slots.bytes(Span(word));
            out.zigzag(bytes.len() as i64);
            out.slice(bytes);
        }
        AvroOp::Bool => out.byte(word as u8),
        AvroOp::Double => out.fixed64(word),
        AvroOp::Float => out.fixed32(word as u32),
        AvroOp::Enum(en) => write_enum(slots, en, word as i32, step, out)?,
        AvroOp::UnsignedLong => {
            if word > i64::MAX as u64 && slots.plan.mapping.uint64 == Uint64Policy::Reject {
                return Err(too_large().at(step));
            }
            out.zigzag(word as i64);
        }
        _ => return write_inner(slots, op, Message::Parts(List(word)), step, out),
    }
    Ok(())
}

/// Writes what stands in a message of its own.
fn write_inner(slots: &mut Slots<'_>, op: AvroOp, message: Message, step: Step, out: &mut Buffer) -> Done {
    let (AvroOp::Record(child)
    | AvroOp::Timestamp(child)
    | AvroOp::Duration(child)
    | AvroOp::Wrapper(child)
    | AvroOp::JsonText(child)) = op
    else {
        unreachable!("scalars are written by write_value")
    };
    let mark = slots.enter(step)?;
    let plan = slots.plan;
    let table = &plan.tables[usize::from(child)];
    let frame = slots.open(child, message)?;
    match op {
        AvroOp::Timestamp(_) => {
            let (seconds, nanos) = (slots.word(table, frame, 0) as i64, slots.word(table, frame, 1) as i32);
            let clamp = plan.mapping.invalid_timestamp == TimestampPolicy::Clamp;
            out.zigzag(time::timestamp_micros(seconds, nanos, clamp)?);
        }
        AvroOp::Duration(_) => {
            let (seconds, nanos) = (slots.word(table, frame, 0) as i64, slots.word(table, frame, 1) as i32);
            out.zigzag(time::duration_micros(seconds, nanos)?);
        }
        AvroOp::Wrapper(_) => {
            let value = slots.word(table, frame, 0);
            write_value(slots, table.slots[0].avro, value, Step::field(child, 0), out)?;
        }
        AvroOp::JsonText(_) => {
            let length = out.open_length(64);
            json_out::write_message(slots, child, frame, out)?;
            out.close_avro_length(length);
        }
        _ => write_message(slots, child, frame, out)?,
    }
    slots.leave(mark);
    Ok(())
}

fn write_array(slots: &mut Slots<'_>, slot: &Slot, list: List, step: Step, out: &mut Buffer) -> Done {
    let count = count(slots, list);
    if count > 0 {
        out.zigzag(count);
        let (mut node, mut index) = (list.head(), 0);
        while node != 0 {
            let Node { value, next, holds } = slots.frames.nodes[node as usize];
            match holds {
                Holds::Value => write_value(slots, slot.avro, value, Step { index, ..step }, out)?,
                Holds::Packed(_) => {
                    for (more, word) in (0..).zip(Unpack::new(slots.bytes(Span(value)), slot.kind)) {
                        write_value(slots, slot.avro, word, Step { index: index + more, ..step }, out)?;
                    }
                }
                Holds::Unread | Holds::Frame => {
                    let message = Message::Element(node);
                    write_inner(slots, slot.avro, message, Step { index, ..step }, out)?;
                }
            }
            index += if let Holds::Packed(count) = holds { count } else { 1 };
            node = next;
        }
    }
    out.byte(0);
    Ok(())
}

fn count(slots: &Slots<'_>, list: List) -> i64 {
    let (mut node, mut count) = (list.head(), 0);
    while node != 0 {
        let Node { next, holds, .. } = slots.frames.nodes[node as usize];
        count += if let Holds::Packed(n) = holds { i64::from(n) } else { 1 };
        node = next;
    }
    count
}

/// An Avro map, or an array of records of key and value: their bytes are the same but for the type of the key.
fn write_map(slots: &mut Slots<'_>, slot: &Slot, list: List, step: Step, out: &mut Buffer) -> Done {
    let Kind::Message(entry) = slot.kind else { unreachable!("a map's kind is its entry") };
    if list.head() != 0 {
        let mark = slots.mark();
        let list = maps::open_entries(slots, entry, list, step)?;
        let plan = slots.plan;
        let table = &plan.tables[usize::from(entry)];
        let (key, value) = (table.slots[KEY].avro, table.slots[VALUE].avro);
        let count = count(slots, list);
        if count > 0 {
            out.zigzag(count);
        }
        let (mut node, mut index) = (list.head(), 0);
        while node != 0 {
            let Node { value: frame, next, .. } = slots.frames.nodes[node as usize];
            let step = Step { index, ..step };
            write_value(slots, key, slots.word(table, frame as usize, KEY), step, out)?;
            write_value(slots, value, slots.word(table, frame as usize, VALUE), step, out)?;
            (node, index) = (next, index + 1);
        }
        slots.forget(mark);
    }
    out.byte(0);
    Ok(())
}

fn write_enum(slots: &mut Slots<'_>, en: u16, number: i32, step: Step, out: &mut Buffer) -> Done {
    let table = &slots.plan.enums[usize::from(en)];
    match table.ordinal(number) {
        Some(ordinal) => out.zigzag(i64::from(ordinal)),
        None if slots.plan.mapping.unknown_enum == UnknownEnumPolicy::DefaultSymbol => {
            slots.notes.output.enums_defaulted += 1;
            out.byte(0);
        }
        None => {
            let what = format!("the number is none that enum `{}` names", table.name);
            return Err(Fail::new(Code::UnknownEnumValue, what).at(step));
        }
    }
    Ok(())
}

#[cold]
fn too_large() -> Box<Fail> {
    let what =
        "the number is over 9,223,372,036,854,775,807, the most that an Avro long holds; set `uint64 = \"wrap\"`";
    Fail::new(Code::OutOfRange, what)
}
