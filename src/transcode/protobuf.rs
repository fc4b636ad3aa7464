//! The Protobuf back-end: a frame -> the message in canonical form.
//!
//! In: a message's slots. Out: fields by ascending number, repeated scalars packed where the schema packs them, fields
//! without presence left out when they have their default, map entries with both key and value. The same slots give
//! the same bytes, always. Never: an unknown field.

use super::buffer::Buffer;
use super::fail::{Done, Step};
use super::maps::{self, KEY, VALUE};
use super::plan::{Kind, Shape, Slot, Table};
use super::slots::{Holds, List, Message, Node, Slots, Span};
use super::wire::Unpack;

/// Writes a message, without a length.
pub(super) fn write_message(slots: &mut Slots<'_>, index: u16, frame: usize, out: &mut Buffer) -> Done {
    let plan = slots.plan;
    let table = &plan.tables[usize::from(index)];
    for at in &table.by_number {
        let slot = &table.slots[usize::from(*at)];
        if !slots.is_set(table, frame, usize::from(*at)) {
            continue;
        }
        let word = slots.word(table, frame, usize::from(*at));
        let step = Step::field(index, *at);
        match slot.shape {
            Shape::Singular => write_field(slots, slot, word, step, out)?,
            Shape::Repeated if slot.packed => write_packed(slots, slot, List(word), out),
            Shape::Repeated => write_list(slots, slot, List(word), step, out)?,
            Shape::Map => write_map(slots, slot, List(word), step, out)?,
        }
    }
    slots.check_expansion(out.len())
}

/// Wire types of the start and the end of a group.
const START: u32 = 3;
const END: u32 = 4;

fn write_tag(slot: &Slot, wire_type: u32, out: &mut Buffer) {
    out.varint(u64::from(slot.number << 3 | wire_type));
}

/// Tag and value of a singular field or of a key or value in a map entry.
#[inline]
fn write_field(slots: &mut Slots<'_>, slot: &Slot, word: u64, step: Step, out: &mut Buffer) -> Done {
    match slot.kind {
        Kind::Message(child) => write_inner(slots, slot, child, Message::Parts(List(word)), step, out),
        kind => {
            write_tag(slot, kind.wire_type(), out);
            write_scalar(slots, kind, word, out);
            Ok(())
        }
    }
}

#[inline]
fn write_scalar(slots: &Slots<'_>, kind: Kind, word: u64, out: &mut Buffer) {
    match kind {
        Kind::String | Kind::Bytes => {
            let bytes = slots.bytes(Span(word));
            out.varint(bytes.len() as u64);
            out.slice(bytes);
        }
        Kind::Sint32 | Kind::Sint64 => out.zigzag(word as i64),
        Kind::Fixed32 | Kind::Sfixed32 | Kind::Float => out.fixed32(word as u32),
        Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => out.fixed64(word),
        _ => out.varint(word),
    }
}

fn write_inner(slots: &mut Slots<'_>, slot: &Slot, child: u16, message: Message, step: Step, out: &mut Buffer) -> Done {
    let mark = slots.enter(step)?;
    let frame = slots.open(child, message)?;
    if slot.group {
        write_tag(slot, START, out);
        write_message(slots, child, frame, out)?;
        write_tag(slot, END, out);
    } else {
        write_tag(slot, 2, out);
        let length = out.open_length(expected_len(slots, message));
        write_message(slots, child, frame, out)?;
        out.close_length(length);
    }
    slots.leave(mark);
    Ok(())
}

/// A message mostly keeps its length; one that came from JSON is guessed to be short.
fn expected_len(slots: &Slots<'_>, message: Message) -> usize {
    let node = match message {
        Message::Parts(list) => list.head(),
        Message::Element(node) => node,
    };
    match slots.frames.nodes[node as usize] {
        Node { value, holds: Holds::Unread, .. } => Span(value).len(),
        _ => 0,
    }
}

fn write_packed(slots: &mut Slots<'_>, slot: &Slot, list: List, out: &mut Buffer) {
    write_tag(slot, 2, out);
    let length = out.open_length(0);
    let mut node = list.head();
    while node != 0 {
        let Node { value, next, holds } = slots.frames.nodes[node as usize];
        if let Holds::Packed(_) = holds {
            for word in Unpack::new(slots.bytes(Span(value)), slot.kind) {
                write_scalar(slots, slot.kind, word, out);
            }
        } else {
            write_scalar(slots, slot.kind, value, out);
        }
        node = next;
    }
    out.close_length(length);
}

fn write_list(slots: &mut Slots<'_>, slot: &Slot, list: List, step: Step, out: &mut Buffer) -> Done {
    let (mut node, mut index) = (list.head(), 0);
    while node != 0 {
        let Node { value, next, holds } = slots.frames.nodes[node as usize];
        let step = Step { index, ..step };
        match (slot.kind, holds) {
            (Kind::Message(child), _) => write_inner(slots, slot, child, Message::Element(node), step, out)?,
            (kind, Holds::Packed(_)) => {
                for word in Unpack::new(slots.bytes(Span(value)), kind) {
                    write_field(slots, slot, word, step, out)?;
                }
            }
            _ => write_field(slots, slot, value, step, out)?,
        }
        index += if let Holds::Packed(count) = holds { count } else { 1 };
        node = next;
    }
    Ok(())
}

fn write_map(slots: &mut Slots<'_>, slot: &Slot, list: List, step: Step, out: &mut Buffer) -> Done {
    let Kind::Message(entry) = slot.kind else { unreachable!("a map's kind is its entry") };
    let plan = slots.plan;
    let table: &Table = &plan.tables[usize::from(entry)];
    let mark = slots.mark();
    let list = maps::open_entries(slots, entry, list, step)?;
    let (mut node, mut index) = (list.head(), 0);
    while node != 0 {
        let Node { value: frame, next, .. } = slots.frames.nodes[node as usize];
        let step = Step { index, ..step };
        write_tag(slot, 2, out);
        let length = out.open_length(0);
        for part in [KEY, VALUE] {
            let word = slots.word(table, frame as usize, part);
            write_field(slots, &table.slots[part], word, step, out)?;
        }
        out.close_length(length);
        (node, index) = (next, index + 1);
    }
    slots.forget(mark);
    Ok(())
}
