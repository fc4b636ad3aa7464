//! Map fields: entries in the order of their first appearance, each key once.
//!
//! In: the list of a map field's entries. Out: a list of their frames without duplicate keys. Never: hashes a key, so
//! senders cannot make keys collide.

use super::fail::{Done, Step};
use super::plan::{Kind, Table};
use super::slots::{Frames, Holds, List, Message, Node, Slots, Span};

/// The slot of the key in an entry; its field number is 1.
pub(super) const KEY: usize = 0;
/// The slot of the value in an entry; its field number is 2.
pub(super) const VALUE: usize = 1;

/// Maps up to this long are compared pair by pair; longer ones are sorted.
const PAIRWISE_MAX: usize = 16;

/// Opens the entries of a map field that came from Protobuf: of entries with the same key the first gives the place
/// and the last the value, as in generated Java classes. JSON's have no duplicates.
pub(super) fn open_entries(slots: &mut Slots<'_>, entry: u16, list: List, field: Step) -> Done<List> {
    let first = match list.head() {
        0 => return Ok(list),
        head => slots.frames.nodes[head as usize],
    };
    if first.holds == Holds::Frame {
        return Ok(list);
    }
    let table = &slots.plan.tables[usize::from(entry)];
    let (mut opened, mut count, mut node) = (List(0), 0, list.head());
    while node != 0 {
        slots.unnamed_enum = false;
        let frame = slots.open(entry, Message::Element(node)).map_err(|mut fail| {
            // Senders know the map, not the entry message.
            fail.at = Some(Step { index: count, ..field });
            fail
        })?;
        if table.missing_value != 0 && !slots.is_present(frame, VALUE) {
            slots.frames.words[frame + table.values_at + VALUE] = table.missing_value;
        }
        // A closed enum's unknown number makes the whole entry unknown.
        if !slots.unnamed_enum {
            super::slots::append(&mut opened.0, slots.frames.nodes, frame as u64, Holds::Frame)?;
        }
        count += 1;
        node = slots.frames.nodes[node as usize].next;
    }
    let mut order = std::mem::take(slots.order);
    let bytes = |span| slots.bytes(span);
    let duplicates = find_duplicates(&slots.frames, table, opened, &mut order, &bytes);
    if let Some(first) = duplicates {
        merge_duplicates(slots, table, opened, first, &order, field)?;
    }
    *slots.order = order;
    Ok(opened)
}

/// Whether two entries, given by their frames, have the same key.
fn same_key<'a>(table: &Table, a: u64, b: u64, bytes: &impl Fn(Span) -> &'a [u8]) -> bool {
    match table.slots[KEY].kind {
        Kind::String => bytes(Span(a)) == bytes(Span(b)),
        _ => a == b,
    }
}

/// Sorts the keys of a list of entry frames into `order` (key, node) if there are duplicates, and gives the first
/// position of a duplicate there. Equal keys stand in the order of the list.
pub(super) fn find_duplicates<'a>(
    frames: &Frames<'_>,
    table: &Table,
    entries: List,
    order: &mut Vec<(u64, u32)>,
    bytes: &impl Fn(Span) -> &'a [u8],
) -> Option<usize> {
    order.clear();
    let mut node = entries.head();
    while node != 0 {
        let Node { value, next, .. } = frames.nodes[node as usize];
        order.push((frames.words[value as usize + table.values_at + KEY], node));
        node = next;
    }
    find_duplicate(table, order, bytes)
}

/// The same of keys and nodes that stand in `order` already, in the order of the list.
pub(super) fn find_duplicate<'a>(
    table: &Table,
    order: &mut [(u64, u32)],
    bytes: &impl Fn(Span) -> &'a [u8],
) -> Option<usize> {
    if order.len() <= PAIRWISE_MAX {
        let earlier = |i: usize| order[..i].iter().any(|(key, _)| same_key(table, *key, order[i].0, bytes));
        if !(1..order.len()).any(earlier) {
            return None;
        }
    }
    match table.slots[KEY].kind {
        Kind::String => order.sort_unstable_by(|a, b| (bytes(Span(a.0)), a.1).cmp(&(bytes(Span(b.0)), b.1))),
        _ => order.sort_unstable(),
    }
    (1..order.len()).find(|i| same_key(table, order[*i].0, order[i - 1].0, bytes))
}

/// Gives the first entry of each key the value of the last, and takes the others out of the list.
fn merge_duplicates(
    slots: &mut Slots<'_>,
    table: &Table,
    entries: List,
    first: usize,
    order: &[(u64, u32)],
    field: Step,
) -> Done {
    let mut keeper = order[first - 1];
    for (key, node) in &order[first..] {
        if !same_key(table, keeper.0, *key, &|span| slots.bytes(span)) {
            keeper = (*key, *node);
            continue;
        }
        let kept = slots.frames.nodes[keeper.1 as usize].value as usize;
        let gone = slots.frames.nodes[*node as usize].value as usize;
        let dropped = slots.word(table, kept, VALUE);
        if let Kind::Message(child) = table.slots[VALUE].kind {
            slots.check_dropped(child, List(dropped), field)?;
        }
        slots.frames.words.copy_within(gone..gone + table.words, kept);
        slots.frames.nodes[*node as usize].holds = Holds::Value;
    }
    let mut last = entries.head() as usize;
    let mut node = slots.frames.nodes[last].next;
    while node != 0 {
        let Node { next, holds, .. } = slots.frames.nodes[node as usize];
        if holds == Holds::Frame {
            slots.frames.nodes[last].next = node;
            last = node as usize;
        }
        node = next;
    }
    slots.frames.nodes[last].next = 0;
    Ok(())
}
