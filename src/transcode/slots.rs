//! Where a message's values stand between reading and writing: frames of slots, and lists of nodes beside them.
//!
//! In: what the front-ends read. Out: the same by slot, for the back-ends. Never: a copy of a string that needs no
//! decoding, nor an allocation once the vectors have their size.
//!
//! A *frame* is a run of words: presence bits, seen bits, one word a oneof (the slot that is set, plus one), one word
//! a slot. A slot's word is a scalar, a [`Span`] or a [`List`], by the slot's kind and shape; zero is the default of
//! each. Messages inside a Protobuf payload are noted as spans and read only when they are opened, so a message never
//! becomes a tree; messages inside JSON have their frames at once, because JSON must be read to find its end.

use super::fail::{Done, Fail, Naming, Step, path_text};
use super::plan::{Kind, Plan, Shape, Table};
use super::{Output, wire};
use crate::outcome::Code;
use crate::route::UnknownFields;

/// Messages nest at most this deep below the root: Protobuf's own default limit.
pub(super) const DEPTH_MAX: usize = 100;

/// List elements and messages of one event, 4 MiB of memory. A payload of 1 MiB has at most twice as many even if it
/// is made of nothing else.
pub(super) const NODES_MAX: usize = 1 << 18;

/// Words of all frames of one event, 8 MiB of memory: an empty JSON object of two bytes takes a whole frame.
pub(super) const WORDS_MAX: usize = 1 << 20;

/// Memory that is kept between events, in elements; what one huge event needed beyond it is given back.
const KEPT_MAX: usize = 1 << 15;

/// Output may be this much in any case, and `EXPANSION_MAX` times the payload beside. The worst honest case we know is
/// a list of messages with a few of many fields set: about 10.
const EXPANSION_FREE_BYTES: usize = 1 << 16;
const EXPANSION_MAX: usize = 32;

/// Words of the frames that may be filled for one event, one after the other: this many in any case, and so many a byte of payload. An
/// empty message of two bytes has a frame of all its fields, which is work even where nothing is written.
const FILLED_FREE_WORDS: usize = WORDS_MAX;
const FILLED_WORDS_A_BYTE: usize = 64;

/// A run of bytes: in the payload, or in the side buffer, which holds what had to be decoded. Both are shorter than
/// 2^31 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span(pub(super) u64);

impl Span {
    const SIDE: u64 = 1 << 63;

    /// A run of the payload.
    #[inline]
    pub(super) fn payload(offset: usize, len: usize) -> Span {
        Span((offset as u64) << 32 | len as u64)
    }

    /// A run of the side buffer.
    #[inline]
    pub(super) fn side(offset: usize, len: usize) -> Span {
        Span(Span::SIDE | (offset as u64) << 32 | len as u64)
    }

    /// Length in bytes.
    #[inline]
    pub(super) fn len(self) -> usize {
        self.0 as u32 as usize
    }

    /// Whether it is a run of the side buffer.
    #[inline]
    pub(super) fn is_side(self) -> bool {
        self.0 & Span::SIDE != 0
    }

    /// Its place in the payload or the side buffer.
    #[inline]
    pub(super) fn range(self) -> std::ops::Range<usize> {
        let offset = (self.0 >> 32) as usize & 0x7fff_ffff;
        offset..offset + self.len()
    }
}

/// A list as a slot holds it: its first and last node, zero for none.
#[derive(Clone, Copy, Debug)]
pub(super) struct List(pub(super) u64);

impl List {
    /// Index of the first node, zero if the list is empty.
    #[inline]
    pub(super) fn head(self) -> u32 {
        self.0 as u32
    }
}

/// An element of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// A scalar, a [`Span`], or the index of a frame.
    pub(super) value: u64,
    /// Index of the next node, zero at the end.
    pub(super) next: u32,
    pub(super) holds: Holds,
}

/// Where a message is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Message {
    /// All nodes of a list are parts of it, to be merged: a singular field.
    Parts(List),
    /// This node is all of it: an element of a repeated field.
    Element(u32),
}

/// What a node's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// A scalar or the span of a string.
    Value,
    /// The span of a message that was not read yet.
    Unread,
    /// The index of a frame.
    Frame,
    /// The index of a frame that was read from a group; whether all that is required is there was not checked yet.
    Group,
    /// The span of packed scalars, and how many they are.
    Packed(u32),
}

/// Scratch memory of one thread; empty between events, its capacity stays.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) words: Vec<u64>,
    pub(super) nodes: Vec<Node>,
    /// Names of unknown members that become properties.
    pub(super) unknown: Vec<u64>,
    /// What had to be decoded: strings with escapes, base64.
    pub(super) side: Vec<u8>,
    pub(super) path: Vec<Step>,
    /// Node indexes, for finding duplicate keys of long maps.
    pub(super) order: Vec<(u64, u32)>,
    /// Keys of the maps that `direct` is in.
    pub(super) keys: Vec<(u64, u32)>,
    pub(super) out: super::buffer::Buffer,
    /// What payloads of Avro subjects are worked on in.
    pub(super) avro: super::avro_in::AvroScratch,
    /// A payload that came in base64.
    pub(super) decoded: Vec<u8>,
}

impl Scratch {
    /// Empties everything, keeps the memory up to a limit.
    pub(super) fn clear(&mut self) {
        fn empty<T>(vec: &mut Vec<T>) {
            vec.clear();
            vec.shrink_to(KEPT_MAX.max(1 << 20 >> size_of::<T>().ilog2()));
        }
        empty(&mut self.words);
        empty(&mut self.nodes);
        empty(&mut self.side);
        empty(&mut self.order);
        empty(&mut self.keys);
        empty(&mut self.unknown);
        self.path.clear();
        self.out.clear();
        // List heads of zero mean "none", so no list may use node zero.
        self.nodes.push(Node { value: 0, next: 0, holds: Holds::Value });
    }
}

/// Frames and lists of one event, for as long as they are filled.
#[derive(Debug)]
pub(super) struct Frames<'s> {
    pub(super) words: &'s mut Vec<u64>,
    pub(super) nodes: &'s mut Vec<Node>,
}

impl Frames<'_> {
    /// A frame with every slot absent.
    #[inline]
    pub(super) fn frame(&mut self, table: &Table) -> Done<usize> {
        let frame = self.words.len();
        if frame + table.words > WORDS_MAX {
            return Err(too_many_nodes());
        }
        self.words.resize(frame + table.words, 0);
        Ok(frame)
    }

    /// Appends to the list in the word at `at`.
    #[inline]
    pub(super) fn append(&mut self, at: usize, value: u64, holds: Holds) -> Done {
        append(&mut self.words[at], self.nodes, value, holds)
    }
}

/// Appends to a list.
#[inline]
pub(super) fn append(list: &mut u64, nodes: &mut Vec<Node>, value: u64, holds: Holds) -> Done {
    let index = nodes.len();
    if index >= NODES_MAX {
        return Err(too_many_nodes());
    }
    nodes.push(Node { value, next: 0, holds });
    let index = index as u64;
    if *list == 0 {
        *list = index << 32 | index;
    } else {
        nodes[(*list >> 32) as usize].next = index as u32;
        *list = index << 32 | (*list & 0xffff_ffff);
    }
    Ok(())
}

#[cold]
fn too_many_nodes() -> Box<Fail> {
    let what = format!(
        "the payload has more list elements and messages than one event may ({NODES_MAX} elements, {WORDS_MAX} slots, \
         {FILLED_WORDS_A_BYTE} slots a byte)"
    );
    Fail::new(Code::PayloadExpands, what)
}

/// What the back-ends read from: the frames, the bytes they point into, and where the reading is.
pub(super) struct Slots<'a> {
    pub(super) plan: &'a Plan,
    pub(super) payload: &'a [u8],
    pub(super) side: &'a [u8],
    pub(super) naming: Naming,
    pub(super) frames: Frames<'a>,
    pub(super) path: &'a mut Vec<Step>,
    pub(super) order: &'a mut Vec<(u64, u32)>,
    pub(super) notes: Notes<'a>,
    /// Set by the scan when a closed enum had a number that it does not name.
    pub(super) unnamed_enum: bool,
    /// Most bytes that the output may have.
    pub(super) output_bytes_max: usize,
    /// Words of frames that may still be filled.
    pub(super) fillable_words: usize,
}

/// A state of the frames to return to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    words: usize,
    nodes: usize,
}

impl<'a> Slots<'a> {
    /// The most bytes that a payload may become.
    pub(super) fn output_bytes_max(payload: &[u8]) -> usize {
        EXPANSION_FREE_BYTES + EXPANSION_MAX * payload.len()
    }

    /// The words of frames that may be filled for a payload.
    pub(super) fn fillable_words(payload: &[u8]) -> usize {
        FILLED_FREE_WORDS + FILLED_WORDS_A_BYTE * payload.len()
    }

    /// The bytes of a span.
    #[inline]
    pub(super) fn bytes(&self, span: Span) -> &'a [u8] {
        let from = if span.is_side() { self.side } else { self.payload };
        &from[span.range()]
    }

    /// The word of a slot.
    #[inline]
    pub(super) fn word(&self, table: &Table, frame: usize, slot: usize) -> u64 {
        self.frames.words[frame + table.values_at + slot]
    }

    /// Whether a slot with presence is set.
    #[inline]
    pub(super) fn is_present(&self, frame: usize, slot: usize) -> bool {
        self.frames.words[frame + slot / 64] >> (slot % 64) & 1 == 1
    }

    /// Whether a singular slot has a value, or is to be written as if it had one.
    pub(super) fn is_set(&self, table: &Table, frame: usize, slot: usize) -> bool {
        match &table.slots[slot] {
            s if s.shape == Shape::Singular && s.presence => self.is_present(frame, slot),
            // The span of an empty string says where it is.
            s if s.shape == Shape::Singular && matches!(s.kind, Kind::String | Kind::Bytes) => {
                Span(self.word(table, frame, slot)).len() != 0
            }
            _ => self.word(table, frame, slot) != 0,
        }
    }

    /// Goes one step down. Every success is to be followed by [`Slots::leave`] with the mark.
    #[inline]
    pub(super) fn enter(&mut self, step: Step) -> Done<Mark> {
        if self.path.len() >= DEPTH_MAX {
            return Err(too_deep().at(step));
        }
        self.path.push(step);
        Ok(self.mark())
    }

    /// Back up: what was read below is forgotten.
    #[inline]
    pub(super) fn leave(&mut self, mark: Mark) {
        self.path.pop();
        self.forget(mark);
    }

    /// The state of the frames now.
    pub(super) fn mark(&self) -> Mark {
        Mark { words: self.frames.words.len(), nodes: self.frames.nodes.len() }
    }

    /// Forgets what was read since the mark.
    #[inline]
    pub(super) fn forget(&mut self, mark: Mark) {
        self.frames.words.truncate(mark.words);
        self.frames.nodes.truncate(mark.nodes);
    }

    /// The frame of a message. An empty list of parts gives an empty message.
    pub(super) fn open(&mut self, index: u16, message: Message) -> Done<usize> {
        let plan = self.plan;
        let (mut node, all) = match message {
            Message::Parts(list) => (list.head(), true),
            Message::Element(node) => (node, false),
        };
        let table = &plan.tables[usize::from(index)];
        if node != 0 {
            let first = self.frames.nodes[node as usize];
            if let Holds::Frame | Holds::Group = first.holds {
                let frame = first.value as usize;
                if first.holds == Holds::Group {
                    self.check_required(index, frame)?;
                }
                return Ok(frame);
            }
        }
        self.fillable_words = self.fillable_words.checked_sub(table.words).ok_or_else(too_many_nodes)?;
        let frame = self.frames.frame(table)?;
        while node != 0 {
            let Node { value, next, .. } = self.frames.nodes[node as usize];
            wire::scan(self, index, frame, Span(value))?;
            node = if all { next } else { 0 };
        }
        self.check_required(index, frame)?;
        Ok(frame)
    }

    /// Whether every required slot is set.
    pub(super) fn check_required(&self, index: u16, frame: usize) -> Done {
        let table = &self.plan.tables[usize::from(index)];
        match table.required.iter().find(|slot| !self.is_present(frame, usize::from(**slot))) {
            None => Ok(()),
            Some(slot) => Err(missing_field().at(Step::field(index, *slot))),
        }
    }

    /// Reads everything below a message that will not be written, for what must be refused in it.
    pub(super) fn check_message(&mut self, index: u16, frame: usize) -> Done {
        let plan = self.plan;
        let table = &plan.tables[usize::from(index)];
        for (at, slot) in table.slots.iter().enumerate() {
            let Kind::Message(child) = slot.kind else { continue };
            let list = List(self.word(table, frame, at));
            let mut node = list.head();
            while node != 0 {
                let mark = self.enter(Step::field(index, at as u16))?;
                let next = self.frames.nodes[node as usize].next;
                let singular = slot.shape == Shape::Singular;
                let message = if singular { Message::Parts(list) } else { Message::Element(node) };
                let frame = self.open(child, message)?;
                self.check_message(child, frame)?;
                self.leave(mark);
                node = if singular { 0 } else { next };
            }
        }
        Ok(())
    }

    /// A message that is dropped, because a later member of its oneof replaced it, must still be well formed.
    pub(super) fn check_dropped(&mut self, table: u16, list: List, step: Step) -> Done {
        let mark = self.enter(step)?;
        let frame = self.open(table, Message::Parts(list))?;
        self.check_message(table, frame)?;
        self.leave(mark);
        Ok(())
    }

    /// Refuses output that is out of proportion to the payload. To be asked after each message and element.
    #[inline]
    pub(super) fn check_expansion(&self, output_bytes: usize) -> Done {
        if output_bytes <= self.output_bytes_max { Ok(()) } else { Err(self.expands()) }
    }

    #[cold]
    fn expands(&self) -> Box<Fail> {
        let (max, bytes) = (self.output_bytes_max, self.payload.len());
        let what =
            format!("the payload of {bytes} bytes would become more than {max} bytes (limit {EXPANSION_MAX} times)");
        Fail::new(Code::PayloadExpands, what)
    }
}

#[cold]
pub(super) fn too_deep() -> Box<Fail> {
    Fail::new(Code::TooDeep, format!("messages nest deeper than {DEPTH_MAX} levels"))
}

#[cold]
pub(super) fn missing_field() -> Box<Fail> {
    Fail::new(Code::MissingField, "the field is required and missing")
}

/// What the sender is told besides success.
pub(super) struct Notes<'a> {
    pub(super) output: &'a mut Output,
}

impl Notes<'_> {
    /// A field that the schema does not have: refused or left out, as the plan says. `describe` names it.
    #[cold]
    pub(super) fn unknown_field(
        &mut self,
        plan: &Plan,
        path: &[Step],
        naming: Naming,
        describe: &dyn Fn() -> String,
    ) -> Done {
        if plan.unknown_fields == UnknownFields::Reject {
            let what = format!("{}; leave it out, or have it added to the schema", describe());
            return Err(Fail::new(Code::UnknownField, what));
        }
        if self.output.fields_dropped == 0 {
            self.output.first_dropped = format!("{}: {}", path_text(plan, path, None, naming), describe());
        }
        self.output.fields_dropped = self.output.fields_dropped.saturating_add(1);
        Ok(())
    }
}
