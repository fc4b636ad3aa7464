//! The Protobuf front-end: a message on the wire -> a frame.
//!
//! In: the bytes of one message. Out: its slots, by the rules of the wire format: the last scalar wins, messages merge,
//! a oneof's later member clears the earlier, a known field with another wire type is an unknown field, packed and
//! unpacked mix. Never: reads past the message's end, looks into messages below (those are opened when they are
//! written), or trusts a length.

use super::fail::{Done, Fail, Step};
use super::plan::{Kind, Read, Slot, Store, Table};
use super::slots::{DEPTH_MAX, Frames, Holds, List, Slots, Span, append, too_deep};
use crate::outcome::Code;

/// Reads one message into a frame that may hold an earlier part of the same message.
pub(super) fn scan(slots: &mut Slots<'_>, index: u16, frame: usize, span: Span) -> Done {
    let plan = slots.plan;
    let table = &plan.tables[usize::from(index)];
    let bytes = slots.bytes(span);
    // Spans of what is inside count from where this one counts from.
    let base = span.0 & !0xffff_ffff;
    let mut pos = 0;
    while pos < bytes.len() {
        let tag;
        (tag, pos) = read_tag(bytes, pos)?;
        let hit = table.hit(tag);
        let slot = usize::from(hit.slot);
        let value = match hit.read {
            Read::Varint64 => varint(bytes, &mut pos, index, hit.slot)?,
            Read::VarintSigned32 => varint(bytes, &mut pos, index, hit.slot)? as i32 as u64,
            Read::VarintUnsigned32 => u64::from(varint(bytes, &mut pos, index, hit.slot)? as u32),
            Read::Zigzag32 => unzigzag(u64::from(varint(bytes, &mut pos, index, hit.slot)? as u32)),
            Read::Zigzag64 => unzigzag(varint(bytes, &mut pos, index, hit.slot)?),
            Read::Bool => u64::from(varint(bytes, &mut pos, index, hit.slot)? != 0),
            Read::Fixed32 => u64::from(fixed32(bytes, &mut pos, index, hit.slot)?),
            Read::SignedFixed32 => fixed32(bytes, &mut pos, index, hit.slot)? as i32 as u64,
            Read::Fixed64 => fixed64(bytes, &mut pos, index, hit.slot)?,
            Read::Text => {
                let start = length_delimited(bytes, &mut pos, index, hit.slot)?;
                if !is_utf8(&bytes[start..pos]) {
                    return Err(not_utf8().at(Step::field(index, hit.slot)));
                }
                base + Span::payload(start, pos - start).0
            }
            Read::Blob => {
                let start = length_delimited(bytes, &mut pos, index, hit.slot)?;
                base + Span::payload(start, pos - start).0
            }
            Read::Message => {
                let start = length_delimited(bytes, &mut pos, index, hit.slot)?;
                let span = base + Span::payload(start, pos - start).0;
                if hit.store == Store::Oneof {
                    choose(slots, table, index, frame, hit.slot)?;
                }
                slots.frames.append(frame + table.values_at + slot, span, Holds::Unread)?;
                set_present(&mut slots.frames, frame, slot);
                continue;
            }
            Read::ClosedEnum => {
                let number = varint(bytes, &mut pos, index, hit.slot)? as i32;
                if is_unnamed(slots, &table.slots[slot], number) {
                    closed_enum(slots, index, hit.slot)?;
                    continue;
                }
                number as u64
            }
            Read::Packed => {
                let start = length_delimited(bytes, &mut pos, index, hit.slot)?;
                packed(slots, table, index, hit.slot, frame, bytes, base, start..pos)?;
                continue;
            }
            Read::Unknown => {
                pos = skip(bytes, pos, tag, 0)?;
                unknown(slots, table, tag >> 3)?;
                continue;
            }
        };
        let words = &mut slots.frames.words[frame..frame + table.words];
        match hit.store {
            Store::Implicit => words[table.values_at + slot] = value,
            Store::Present => {
                words[table.values_at + slot] = value;
                words[slot / 64] |= 1 << (slot % 64);
            }
            Store::List => append(&mut words[table.values_at + slot], slots.frames.nodes, value, Holds::Value)?,
            Store::Oneof => {
                choose(slots, table, index, frame, hit.slot)?;
                slots.frames.words[frame + table.values_at + slot] = value;
                set_present(&mut slots.frames, frame, slot);
            }
        }
    }
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

/// A run of packed scalars: checked for framing and counted; kept as a span until it is written.
#[expect(clippy::too_many_arguments, reason = "the state of the scan, which is split only to keep the hot loop small")]
fn packed(
    slots: &mut Slots<'_>,
    table: &Table,
    index: u16,
    slot: u16,
    frame: usize,
    bytes: &[u8],
    base: u64,
    run: std::ops::Range<usize>,
) -> Done {
    let at = frame + table.at(slot);
    let content = &bytes[run.clone()];
    let kind = table.slots[usize::from(slot)].kind;
    let whole = match kind.wire_type() {
        5 => content.len().is_multiple_of(4).then_some(content.len() / 4),
        1 => content.len().is_multiple_of(8).then_some(content.len() / 8),
        _ => count_varints(content),
    };
    let Some(count) = whole else {
        return Err(
            Fail::new(Code::MalformedProtobuf, "the packed values end within a value").at(Step::field(index, slot))
        );
    };
    if count == 0 {
        return Ok(());
    }
    if let Kind::Enum(en) = kind
        && slots.plan.enums[usize::from(en)].closed
    {
        // Unknown numbers are taken out, so the run cannot stay as it is.
        let mut pos = 0;
        while pos < content.len() {
            let number = varint(content, &mut pos, index, slot)? as i32;
            if is_unnamed(slots, &table.slots[usize::from(slot)], number) {
                closed_enum(slots, index, slot)?;
            } else {
                slots.frames.append(at, number as u64, Holds::Value)?;
            }
        }
        return Ok(());
    }
    let span = base + Span::payload(run.start, run.len()).0;
    slots.frames.append(at, span, Holds::Packed(count as u32))
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
            _ => raw_varint(rest, 0),
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
fn skip(bytes: &[u8], mut pos: usize, tag: u32, depth: usize) -> Done<usize> {
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
            let inner;
            (inner, pos) = read_tag(bytes, pos)?;
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

#[inline]
fn read_tag(bytes: &[u8], pos: usize) -> Done<(u32, usize)> {
    let first = bytes[pos];
    if (8..0x80).contains(&first) {
        return Ok((u32::from(first), pos + 1));
    }
    long_tag(bytes, pos)
}

fn long_tag(bytes: &[u8], pos: usize) -> Done<(u32, usize)> {
    if let [first @ 0x80..=0xff, second @ 0x01..0x80, ..] = bytes[pos..] {
        return Ok((u32::from(first & 0x7f) | u32::from(second) << 7, pos + 2));
    }
    let (tag, end) = raw_varint(bytes, pos).ok_or_else(bad_varint)?;
    let Ok(tag) = u32::try_from(tag) else {
        return Err(malformed("a field number is over 536,870,911"));
    };
    if tag >> 3 == 0 { Err(malformed("a field has the number zero")) } else { Ok((tag, end)) }
}

#[inline]
fn varint(bytes: &[u8], pos: &mut usize, index: u16, slot: u16) -> Done<u64> {
    if let Some(first) = bytes.get(*pos)
        && *first < 0x80
    {
        *pos += 1;
        return Ok(u64::from(*first));
    }
    match raw_varint(bytes, *pos) {
        Some((value, end)) => {
            *pos = end;
            Ok(value)
        }
        None => Err(bad_varint().at(Step::field(index, slot))),
    }
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
fn fixed32(bytes: &[u8], pos: &mut usize, index: u16, slot: u16) -> Done<u32> {
    match bytes[*pos..].first_chunk() {
        Some(chunk) => {
            *pos += 4;
            Ok(u32::from_le_bytes(*chunk))
        }
        None => Err(truncated().at(Step::field(index, slot))),
    }
}

#[inline]
fn fixed64(bytes: &[u8], pos: &mut usize, index: u16, slot: u16) -> Done<u64> {
    match bytes[*pos..].first_chunk() {
        Some(chunk) => {
            *pos += 8;
            Ok(u64::from_le_bytes(*chunk))
        }
        None => Err(truncated().at(Step::field(index, slot))),
    }
}

/// Reads a length and passes over as many bytes; returns where they start.
#[inline]
fn length_delimited(bytes: &[u8], pos: &mut usize, index: u16, slot: u16) -> Done<usize> {
    let len = varint(bytes, pos, index, slot)?;
    let start = *pos;
    if len > (bytes.len() - start) as u64 {
        return Err(truncated().at(Step::field(index, slot)));
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
        return simdutf8::basic::from_utf8(bytes).is_ok();
    }
    let (chunks, rest) = bytes.as_chunks::<8>();
    let high = chunks.iter().fold(0, |high, chunk| high | u64::from_le_bytes(*chunk));
    let high = rest.iter().fold(high, |high, byte| high | u64::from(*byte));
    high & 0x8080_8080_8080_8080 == 0 || std::str::from_utf8(bytes).is_ok()
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
fn truncated() -> Box<Fail> {
    malformed("the value ends after the message that it is in")
}

#[cold]
fn not_utf8() -> Box<Fail> {
    Fail::new(Code::InvalidUtf8, "the string is not valid UTF-8")
}
