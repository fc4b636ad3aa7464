//! The Protobuf front-end: a message on the wire -> a frame.
//!
//! In: the bytes of one message. Out: its slots, by the rules of the wire format: the last scalar wins, messages merge,
//! a oneof's later member clears the earlier, a known field with another wire type is an unknown field, packed and
//! unpacked mix. Never: reads past the message's end, looks into messages below (those are opened when they are
//! written), or trusts a length.

use super::fail::{Done, Fail, Step};
use super::plan::{Hit, Kind, Read, Shape, Slot, Store, Table, read_of};
use super::slots::{DEPTH_MAX, Frames, Holds, List, Node, Slots, Span, append, too_deep};
use crate::outcome::Code;

/// Reads one message into a frame that may hold an earlier part of the same message.
pub(super) fn scan(slots: &mut Slots<'_>, index: u16, frame: usize, span: Span) -> Done {
    let plan = slots.plan;
    let table = &plan.tables[usize::from(index)];
    let mut message = Cursor {
        bytes: slots.bytes(span),
        // Spans of what is inside count from where this one counts from.
        base: span.0 & !0xffff_ffff,
        pos: 0,
        table: index,
    };
    loop {
        let words = &mut slots.frames.words[frame..frame + table.words];
        match scan_plain(&mut message, table, words, slots.frames.nodes)? {
            None => return Ok(()),
            Some((tag, hit)) => read_rare(slots, table, frame, &mut message, tag, hit)?,
        }
    }
}

/// A message's bytes and how far they are read.
struct Cursor<'a> {
    bytes: &'a [u8],
    base: u64,
    pos: usize,
    table: u16,
}

/// The hot loop: reads fields until the end, or until one that needs more than its own frame; its tag is read then.
/// What is rare is kept out of it, so that its state stays in registers.
#[inline(never)]
fn scan_plain(
    message: &mut Cursor<'_>,
    table: &Table,
    words: &mut [u64],
    nodes: &mut Vec<Node>,
) -> Done<Option<(u32, Hit)>> {
    let Cursor { bytes, base, mut pos, table: index } = *message;
    while pos < bytes.len() {
        let tag = read_tag(bytes, &mut pos)?;
        let hit = table.hit(tag);
        let step = Step::field(index, hit.slot);
        if hit.read > Read::Blob {
            if hit.read != Read::Packed {
                message.pos = pos;
                return Ok(Some((tag, hit)));
            }
            let start = length_delimited(bytes, &mut pos, step)?;
            let count = count_packed(&bytes[start..pos], table.slots[usize::from(hit.slot)].kind, step)?;
            if count > 0 {
                let span = base + Span::payload(start, pos - start).0;
                append(&mut words[table.at(hit.slot)], nodes, span, Holds::Packed(count))?;
            }
            continue;
        }
        let value = read_value(bytes, base, &mut pos, hit.read, step)?;
        let slot = usize::from(hit.slot);
        match hit.store {
            Store::Implicit => words[table.values_at + slot] = value,
            Store::Present => {
                words[table.values_at + slot] = value;
                words[slot / 64] |= 1 << (slot % 64);
            }
            Store::List => append(&mut words[table.values_at + slot], nodes, value, Holds::Value)?,
            Store::Messages => {
                append(&mut words[table.values_at + slot], nodes, value, Holds::Unread)?;
                words[slot / 64] |= 1 << (slot % 64);
            }
        }
    }
    Ok(None)
}

/// Reads the value after a tag: a scalar as the frame holds it, or the span of a string or message.
#[inline(always)]
pub(super) fn read_value(bytes: &[u8], base: u64, pos: &mut usize, read: Read, step: Step) -> Done<u64> {
    Ok(match read {
        Read::Varint64 => varint(bytes, pos, step)?,
        Read::VarintSigned32 => varint(bytes, pos, step)? as i32 as u64,
        Read::VarintUnsigned32 => u64::from(varint(bytes, pos, step)? as u32),
        Read::Zigzag32 => unzigzag(u64::from(varint(bytes, pos, step)? as u32)),
        Read::Zigzag64 => unzigzag(varint(bytes, pos, step)?),
        Read::Bool => u64::from(varint(bytes, pos, step)? != 0),
        Read::Fixed32 => u64::from(fixed32(bytes, pos, step)?),
        Read::SignedFixed32 => fixed32(bytes, pos, step)? as i32 as u64,
        Read::Fixed64 => fixed64(bytes, pos, step)?,
        Read::Text => {
            let start = length_delimited(bytes, pos, step)?;
            if !is_utf8(&bytes[start..*pos]) {
                return Err(not_utf8(step));
            }
            base + Span::payload(start, *pos - start).0
        }
        Read::Blob => {
            let start = length_delimited(bytes, pos, step)?;
            base + Span::payload(start, *pos - start).0
        }
        Read::Unknown | Read::Oneof | Read::ClosedEnum | Read::Packed | Read::PackedClosedEnum | Read::Group => {
            unreachable!("these are more than a value")
        }
    })
}

/// Reads a field that the hot loop leaves alone.
#[inline(never)]
fn read_rare(slots: &mut Slots<'_>, table: &Table, frame: usize, message: &mut Cursor<'_>, tag: u32, hit: Hit) -> Done {
    let (index, slot) = (message.table, usize::from(hit.slot));
    let step = Step::field(index, hit.slot);
    match hit.read {
        Read::Unknown => {
            message.pos = skip(message.bytes, message.pos, tag, 0)?;
            unknown(slots, table, tag >> 3)
        }
        Read::Group => read_group(slots, table, hit.slot, frame, message),
        Read::PackedClosedEnum => read_packed_enum(slots, table, hit.slot, frame, message),
        Read::ClosedEnum => {
            let number = varint(message.bytes, &mut message.pos, step)? as i32;
            if is_unnamed(slots, &table.slots[slot], number) {
                return closed_enum(slots, index, hit.slot);
            }
            // The last number decides whether a map's entry is unknown.
            slots.unnamed_enum = false;
            if table.slots[slot].oneof.is_some() {
                choose(slots, table, index, frame, hit.slot)?;
            }
            match hit.store {
                Store::List => slots.frames.append(frame + table.at(hit.slot), number as u64, Holds::Value)?,
                _ => slots.frames.words[frame + table.at(hit.slot)] = number as u64,
            }
            set_present(&mut slots.frames, frame, slot);
            Ok(())
        }
        _ => {
            let read = read_of(table.slots[slot].kind, &slots.plan.enums);
            let value = read_value(message.bytes, message.base, &mut message.pos, read, step)?;
            choose(slots, table, index, frame, hit.slot)?;
            match hit.store {
                Store::Messages => slots.frames.append(frame + table.at(hit.slot), value, Holds::Unread)?,
                _ => slots.frames.words[frame + table.at(hit.slot)] = value,
            }
            set_present(&mut slots.frames, frame, slot);
            Ok(())
        }
    }
}

/// A known group: its fields are read at once, because its end is found only by reading them.
fn read_group(slots: &mut Slots<'_>, table: &Table, at: u16, frame: usize, message: &mut Cursor<'_>) -> Done {
    let slot = &table.slots[usize::from(at)];
    let Kind::Message(child) = slot.kind else { unreachable!("a group is a message") };
    let step = Step::field(message.table, at);
    if slots.path.len() >= DEPTH_MAX {
        return Err(too_deep().at(step));
    }
    if slot.oneof.is_some() {
        choose(slots, table, message.table, frame, at)?;
    }
    let word = frame + table.at(at);
    let list = List(slots.frames.words[word]);
    let inner_table = &slots.plan.tables[usize::from(child)];
    let inner = if slot.shape == Shape::Singular && list.head() != 0 {
        slots.frames.nodes[list.head() as usize].value as usize
    } else {
        let inner = slots.frames.frame(inner_table)?;
        slots.frames.append(word, inner as u64, Holds::Group)?;
        inner
    };
    set_present(&mut slots.frames, frame, usize::from(at));
    slots.path.push(step);
    let mut group = Cursor { table: child, ..*message };
    loop {
        let words = &mut slots.frames.words[inner..inner + inner_table.words];
        match scan_plain(&mut group, inner_table, words, slots.frames.nodes)? {
            None => return Err(malformed("a group has no end")),
            Some((tag, _)) if tag == slot.number << 3 | 4 => break,
            // The end of another group is a mistake, which skipping it finds.
            Some((tag, hit)) => read_rare(slots, inner_table, inner, &mut group, tag, hit)?,
        }
    }
    slots.path.pop();
    message.pos = group.pos;
    Ok(())
}

fn set_present(frames: &mut Frames<'_>, frame: usize, slot: usize) {
    frames.words[frame + slot / 64] |= 1 << (slot % 64);
}

/// Makes `slot` the member of its oneof that is set; what another member held is gone.
fn choose(slots: &mut Slots<'_>, table: &Table, index: u16, frame: usize, slot: u16) -> Done {
    let case = frame + usize::from(table.slots[usize::from(slot)].oneof.expect("only members of a oneof get here"));
    let chosen = u64::from(slot) + 1;
    let before = std::mem::replace(&mut slots.frames.words[case], chosen);
    if before == 0 || before == chosen {
        return Ok(());
    }
    let other = before as usize - 1;
    let held = std::mem::take(&mut slots.frames.words[frame + table.values_at + other]);
    slots.frames.words[frame + other / 64] &= !(1 << (other % 64));
    match table.slots[other].kind {
        Kind::Message(child) => slots.check_dropped(child, List(held), Step::field(index, other as u16)),
        _ => Ok(()),
    }
}

/// A run of a closed enum's numbers: unknown ones are taken out, so it cannot stay as it is.
fn read_packed_enum(slots: &mut Slots<'_>, table: &Table, slot: u16, frame: usize, message: &mut Cursor<'_>) -> Done {
    let (index, step) = (message.table, Step::field(message.table, slot));
    let start = length_delimited(message.bytes, &mut message.pos, step)?;
    let content = &message.bytes[start..message.pos];
    let field = &table.slots[usize::from(slot)];
    count_packed(content, field.kind, step)?;
    let mut pos = 0;
    while pos < content.len() {
        let number = varint(content, &mut pos, step)? as i32;
        if is_unnamed(slots, field, number) {
            closed_enum(slots, index, slot)?;
        } else {
            slots.frames.append(frame + table.at(slot), number as u64, Holds::Value)?;
        }
    }
    Ok(())
}

/// How many scalars a packed run holds; it must end with the end of one.
#[inline(never)]
pub(super) fn count_packed(content: &[u8], kind: Kind, step: Step) -> Done<u32> {
    let whole = match kind.wire_type() {
        5 => content.len().is_multiple_of(4).then_some(content.len() / 4),
        1 => content.len().is_multiple_of(8).then_some(content.len() / 8),
        _ => count_varints(content),
    };
    match whole {
        Some(count) => Ok(count as u32),
        None => Err(malformed("the packed values end within a value").at(step)),
    }
}

/// How many varints these bytes are, if they end with the end of one and none is longer than ten bytes.
fn count_varints(bytes: &[u8]) -> Option<usize> {
    let count = bytes.iter().filter(|byte| **byte < 0x80).count();
    if bytes.last().is_some_and(|last| *last >= 0x80) {
        return None;
    }
    let too_long = bytes.len() > 10 && bytes.windows(10).any(|run| run.iter().all(|byte| *byte >= 0x80));
    (!too_long).then_some(count)
}

/// The scalars of a packed run, as the frame would hold them.
pub(super) struct Unpack<'a> {
    bytes: &'a [u8],
    pos: usize,
    kind: Kind,
}

impl<'a> Unpack<'a> {
    /// The run's values; the scan has checked its framing.
    pub(super) fn new(bytes: &'a [u8], kind: Kind) -> Self {
        Unpack { bytes, pos: 0, kind }
    }
}

impl Iterator for Unpack<'_> {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        let rest = self.bytes.get(self.pos..).filter(|rest| !rest.is_empty())?;
        let fixed = match self.kind.wire_type() {
            1 => rest.first_chunk().map(|chunk| (u64::from_le_bytes(*chunk), 8)),
            5 => rest.first_chunk().map(|chunk| (u64::from(u32::from_le_bytes(*chunk)), 4)),
            _ if rest[0] < 0x80 => Some((u64::from(rest[0]), 1)),
            _ => long_varint(rest, 0),
        };
        let (raw, width) = fixed?;
        self.pos += width;
        Some(match self.kind {
            Kind::Int32 | Kind::Enum(_) | Kind::Sfixed32 => raw as i32 as u64,
            Kind::Uint32 => u64::from(raw as u32),
            Kind::Sint32 => unzigzag(u64::from(raw as u32)),
            Kind::Sint64 => unzigzag(raw),
            Kind::Bool => u64::from(raw != 0),
            _ => raw,
        })
    }
}

fn is_unnamed(slots: &Slots<'_>, slot: &Slot, number: i32) -> bool {
    match slot.kind {
        Kind::Enum(index) => slots.plan.enums[usize::from(index)].ordinal(number).is_none(),
        _ => false,
    }
}

/// A closed enum's unknown number makes the field an unknown one.
#[cold]
fn closed_enum(slots: &mut Slots<'_>, index: u16, slot: u16) -> Done {
    let plan = slots.plan;
    slots.unnamed_enum = true;
    let field = &plan.tables[usize::from(index)].slots[usize::from(slot)];
    let describe = || format!("field {} has a number that its enum does not name", field.number);
    let noted = slots.notes.unknown_field(plan, slots.path, slots.naming, &describe);
    noted.map_err(|mut fail| {
        fail.code = Code::UnknownEnumValue;
        fail.at(Step::field(index, slot))
    })
}

#[cold]
fn unknown(slots: &mut Slots<'_>, table: &Table, number: u32) -> Done {
    let describe = || match table.slot_of(number) {
        None => format!("`{}` has no field {number}", table.name),
        Some(_) => format!("field {number} of `{}` has another wire type", table.name),
    };
    slots.notes.unknown_field(slots.plan, slots.path, slots.naming, &describe)
}

/// Skips the value of a tag that was just read; groups must nest and balance.
pub(super) fn skip(bytes: &[u8], mut pos: usize, tag: u32, depth: usize) -> Done<usize> {
    match tag & 7 {
        0 => {
            let (_, end) = raw_varint(bytes, pos).ok_or_else(bad_varint)?;
            return Ok(end);
        }
        1 => pos += 8,
        2 => {
            let (len, start) = raw_varint(bytes, pos).ok_or_else(bad_varint)?;
            pos = usize::try_from(len).ok().and_then(|len| start.checked_add(len)).unwrap_or(usize::MAX);
        }
        3 if depth >= DEPTH_MAX => return Err(too_deep()),
        3 => loop {
            if pos >= bytes.len() {
                return Err(malformed("a group has no end"));
            }
            let inner = read_tag(bytes, &mut pos)?;
            if inner & 7 == 4 {
                if inner >> 3 != tag >> 3 {
                    return Err(malformed("a group ends with the number of another"));
                }
                return Ok(pos);
            }
            pos = skip(bytes, pos, inner, depth + 1)?;
        },
        4 => return Err(malformed("a group ends that did not begin")),
        5 => pos += 4,
        _ => return Err(malformed("a field has wire type 6 or 7, which do not exist")),
    }
    if pos > bytes.len() {
        return Err(malformed("an unknown field ends after the message that it is in"));
    }
    Ok(pos)
}

#[inline(always)]
pub(super) fn read_tag(bytes: &[u8], pos: &mut usize) -> Done<u32> {
    // Field numbers up to 15 take one byte, up to 2,047 two.
    match bytes[*pos..] {
        [first @ 8..0x80, ..] => {
            *pos += 1;
            Ok(u32::from(first))
        }
        [first @ 0x80..=0xff, second @ 1..0x80, ..] => {
            *pos += 2;
            Ok(u32::from(first & 0x7f) | u32::from(second) << 7)
        }
        _ => long_tag(bytes, pos),
    }
}

#[cold]
fn long_tag(bytes: &[u8], pos: &mut usize) -> Done<u32> {
    let (tag, end) = raw_varint(bytes, *pos).ok_or_else(bad_varint)?;
    *pos = end;
    let Ok(tag) = u32::try_from(tag) else {
        return Err(malformed("a field number is over 536,870,911"));
    };
    if tag >> 3 == 0 { Err(malformed("a field has the number zero")) } else { Ok(tag) }
}

#[inline(always)]
fn varint(bytes: &[u8], pos: &mut usize, step: Step) -> Done<u64> {
    if let Some(first) = bytes.get(*pos)
        && *first < 0x80
    {
        *pos += 1;
        return Ok(u64::from(*first));
    }
    match long_varint(bytes, *pos) {
        Some((value, end)) => {
            *pos = end;
            Ok(value)
        }
        None => Err(bad_varint().at(step)),
    }
}

#[inline(never)]
pub(super) fn long_varint(bytes: &[u8], pos: usize) -> Option<(u64, usize)> {
    // Eight bytes at once: where the first one without its high bit is, and what stands before, seven bits of each byte.
    if let Some(chunk) = bytes.get(pos..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*chunk);
        let ends = !word & 0x8080_8080_8080_8080;
        if ends != 0 {
            let sevens = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
            let pairs = sevens & 0x007f_007f_007f_007f | (sevens & 0x7f00_7f00_7f00_7f00) >> 1;
            let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
            let value = fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4;
            return Some((value, pos + 1 + ends.trailing_zeros() as usize / 8));
        }
    }
    raw_varint(bytes, pos)
}

/// A varint of at most ten bytes, and where it ends. Bits over 64 are dropped, as every implementation does.
#[inline]
fn raw_varint(bytes: &[u8], pos: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for (i, byte) in bytes.get(pos..)?.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            return Some((value, pos + i + 1));
        }
    }
    None
}

#[inline]
fn fixed32(bytes: &[u8], pos: &mut usize, step: Step) -> Done<u32> {
    match bytes[*pos..].first_chunk() {
        Some(chunk) => {
            *pos += 4;
            Ok(u32::from_le_bytes(*chunk))
        }
        None => Err(truncated(step)),
    }
}

#[inline]
fn fixed64(bytes: &[u8], pos: &mut usize, step: Step) -> Done<u64> {
    match bytes[*pos..].first_chunk() {
        Some(chunk) => {
            *pos += 8;
            Ok(u64::from_le_bytes(*chunk))
        }
        None => Err(truncated(step)),
    }
}

/// Reads a length and passes over as many bytes; returns where they start.
#[inline(always)]
pub(super) fn length_delimited(bytes: &[u8], pos: &mut usize, step: Step) -> Done<usize> {
    let len = varint(bytes, pos, step)?;
    let start = *pos;
    if len > (bytes.len() - start) as u64 {
        return Err(truncated(step));
    }
    *pos = start + len as usize;
    Ok(start)
}

#[inline]
fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

/// Event strings are mostly short and ASCII: eight bytes a step, and no call.
#[inline]
fn is_utf8(bytes: &[u8]) -> bool {
    if bytes.len() > 64 {
        return is_long_utf8(bytes);
    }
    let high = match bytes.last_chunk::<8>() {
        Some(last) => {
            let (chunks, _) = bytes.as_chunks::<8>();
            chunks.iter().fold(u64::from_le_bytes(*last), |high, chunk| high | u64::from_le_bytes(*chunk))
        }
        None => bytes.iter().fold(0, |high, byte| high | u64::from(*byte)),
    };
    high & 0x8080_8080_8080_8080 == 0 || is_long_utf8(bytes)
}

#[inline(never)]
pub(super) fn is_long_utf8(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok()
}

#[cold]
fn malformed(what: &str) -> Box<Fail> {
    Fail::new(Code::MalformedProtobuf, what)
}

#[cold]
fn bad_varint() -> Box<Fail> {
    malformed("a varint is cut off or longer than 10 bytes")
}

#[cold]
fn truncated(step: Step) -> Box<Fail> {
    malformed("the value ends after the message that it is in").at(step)
}

#[cold]
fn not_utf8(step: Step) -> Box<Fail> {
    Fail::new(Code::InvalidUtf8, "the string is not valid UTF-8").at(step)
}
