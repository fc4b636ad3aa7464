//! The Avro back-end: a frame -> an Avro datum.
//!
//! In: a message's slots. Out: its datum by the plan's operations, appended to the buffer. Never: decides about the
//! mapping (the plan did), builds a value, or writes more than the payload's share.

use super::buffer::Buffer;
use super::fail::{Done, Fail, Step};
use super::maps::{self, KEY, VALUE};
use super::plan::{AvroLayout, AvroOp, Kind, Slot, UnnamedEnum};
use super::slots::{Holds, List, Message, Node, Slots, Span};
use super::wire::Unpack;
use super::{json_out, time};
use crate::outcome::Code;

/// Writes the root message, which is mostly a record.
pub(super) fn write_root(slots: &mut Slots<'_>, frame: usize, out: &mut Buffer) -> Done {
    match slots.plan.root {
        AvroOp::Record(_) => write_message(slots, 0, frame, out),
        op => write_opened(slots, op, 0, frame, out),
    }
}

/// Writes a message as a record.
pub(super) fn write_message(slots: &mut Slots<'_>, index: u16, frame: usize, out: &mut Buffer) -> Done {
    let plan = slots.plan;
    let table = &plan.tables[usize::from(index)];
    for (at, slot) in table.slots.iter().enumerate() {
        let word = slots.word(table, frame, at);
        let step = Step::field(index, at as u16);
        match slot.layout {
            AvroLayout::Plain => {}
            AvroLayout::Nullable if slots.is_present(frame, at) => out.byte(2),
            AvroLayout::Nullable => {
                out.byte(0);
                continue;
            }
            AvroLayout::Defaulted if slots.is_present(frame, at) => {}
            AvroLayout::Defaulted => {
                out.slice(&slot.default);
                continue;
            }
            AvroLayout::Array => {
                write_array(slots, slot, List(word), step, out)?;
                continue;
            }
            AvroLayout::Map | AvroLayout::Entries => {
                write_map(slots, slot, List(word), step, out)?;
                continue;
            }
        }
        // One place to call it, so that it is part of this loop.
        write_value(slots, slot.avro, word, step, out)?;
    }
    slots.check_expansion(out.len())
}

/// Writes the value of a singular field or of a map entry.
#[inline(always)]
pub(super) fn write_value(slots: &mut Slots<'_>, op: AvroOp, word: u64, step: Step, out: &mut Buffer) -> Done {
    match op {
        AvroOp::Long => out.zigzag(word as i64),
        AvroOp::Bytes => {
            out.avro_bytes(slots.bytes(Span(word)));
        }
        AvroOp::Bool => out.byte(word as u8),
        AvroOp::Double => out.fixed64(word),
        AvroOp::Float => out.fixed32(word as u32),
        AvroOp::Enum(en) => write_enum(slots, en, word as i32, step, out)?,
        AvroOp::UnsignedLong => {
            if word > i64::MAX as u64 {
                return Err(too_large().at(step));
            }
            out.zigzag(word as i64);
        }
        AvroOp::Int => out.zigzag(i64::from(word as i32)),
        _ => return write_inner(slots, op, Message::Parts(List(word)), step, out),
    }
    Ok(())
}

/// Writes what stands in a message of its own.
#[inline(never)]
pub(super) fn write_inner(slots: &mut Slots<'_>, op: AvroOp, message: Message, step: Step, out: &mut Buffer) -> Done {
    let (AvroOp::Record(child)
    | AvroOp::Timestamp(child)
    | AvroOp::JavaMillis(child)
    | AvroOp::JavaMicros(child)
    | AvroOp::Duration(child)
    | AvroOp::Wrapper(child)
    | AvroOp::JsonText(child)) = op
    else {
        return write_rare(slots, op, message, step, out);
    };
    let mark = slots.enter(step)?;
    let frame = slots.open(child, message)?;
    write_opened(slots, op, child, frame, out)?;
    slots.leave(mark);
    Ok(())
}

/// Writes a message that is open.
#[inline(always)]
fn write_opened(slots: &mut Slots<'_>, op: AvroOp, child: u16, frame: usize, out: &mut Buffer) -> Done {
    let plan = slots.plan;
    let table = &plan.tables[usize::from(child)];
    let seconds_and_nanos = || (slots.word(table, frame, 0) as i64, slots.word(table, frame, 1) as i32);
    match op {
        AvroOp::Timestamp(_) => {
            let (seconds, nanos) = seconds_and_nanos();
            out.zigzag(time::timestamp_micros(seconds, nanos, plan.clamp_timestamps)?);
        }
        AvroOp::JavaMillis(_) => {
            let (seconds, nanos) = seconds_and_nanos();
            out.zigzag(time::java_count(seconds, nanos, 1_000));
        }
        AvroOp::JavaMicros(_) => {
            let (seconds, nanos) = seconds_and_nanos();
            out.zigzag(time::java_count(seconds, nanos, 1_000_000));
        }
        AvroOp::Duration(_) => {
            let (seconds, nanos) = seconds_and_nanos();
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
    Ok(())
}

/// Writes scalars that few schemas have.
#[inline(never)]
fn write_rare(slots: &mut Slots<'_>, op: AvroOp, value: Message, step: Step, out: &mut Buffer) -> Done {
    let Message::Parts(List(word)) = value else { unreachable!("an element of a list of scalars is no message") };
    match op {
        AvroOp::Decimal => {
            // Big-endian two's complement without leading zeros, but with one where the sign bit would be set.
            let bytes = u128::from(word).to_be_bytes();
            let width = (65 - word.leading_zeros()).div_ceil(8).max(1) as usize;
            out.zigzag(width as i64);
            out.slice(&bytes[bytes.len() - width..]);
            Ok(())
        }
        AvroOp::EnumText(en) => {
            let length = out.open_length(8);
            json_out::write_text(slots.plan, Kind::Enum(en), word, &[], out);
            out.close_avro_length(length);
            // One byte of payload may be a long symbol.
            slots.check_expansion(out.len()).map_err(|fail| fail.at(step))
        }
        _ => unreachable!("messages are written by write_inner, other scalars by write_value"),
    }
}

#[inline(never)]
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
                Holds::Unread | Holds::Frame | Holds::Group => {
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
#[inline(never)]
fn write_map(slots: &mut Slots<'_>, slot: &Slot, list: List, step: Step, out: &mut Buffer) -> Done {
    let Kind::Message(entry) = slot.kind else { unreachable!("a map's kind is its entry") };
    if list.head() != 0 {
        let mark = slots.mark();
        let list = maps::open_entries(slots, entry, list, step)?;
        let plan = slots.plan;
        let table = &plan.tables[usize::from(entry)];
        let (key, value) = (table.slots[KEY].avro, table.slots[VALUE].avro);
        let nullable = table.slots[VALUE].layout == AvroLayout::Nullable;
        let count = count(slots, list);
        if count > 0 {
            out.zigzag(count);
        }
        let (mut node, mut index) = (list.head(), 0);
        while node != 0 {
            let Node { value: frame, next, .. } = slots.frames.nodes[node as usize];
            let step = Step { index, ..step };
            write_value(slots, key, slots.word(table, frame as usize, KEY), step, out)?;
            if nullable {
                out.byte(2);
            }
            write_value(slots, value, slots.word(table, frame as usize, VALUE), step, out)?;
            (node, index) = (next, index + 1);
        }
        slots.forget(mark);
    }
    out.byte(0);
    Ok(())
}

#[inline(never)]
fn write_enum(slots: &mut Slots<'_>, en: u16, number: i32, step: Step, out: &mut Buffer) -> Done {
    let table = &slots.plan.enums[usize::from(en)];
    match table.ordinal(number) {
        Some(ordinal) => out.zigzag(i64::from(ordinal)),
        None if slots.plan.unnamed_enum == UnnamedEnum::FirstSymbol => {
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
        "the number is over 9,223,372,036,854,775,807, the most that an Avro long holds; set `uint64 = \"decimal\"`";
    Fail::new(Code::OutOfRange, what)
}
