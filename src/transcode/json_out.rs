//! The JSON back-end: a frame -> proto3 JSON.
//!
//! In: a message's slots. Out: its proto3 JSON, compact, members in the order of declaration, fields without presence
//! left out when they have their default. Never: writes what proto3 JSON cannot say (a timestamp out of range, an
//! infinite number in a `Value`): those are refused.

use super::buffer::Buffer;
use super::fail::{Done, Fail, Step};
use super::maps::{self, KEY, VALUE};
use super::plan::{Kind, Plan, Shape, Slot, Table};
use super::slots::{Holds, List, Message, Node, Slots, Span};
use super::time;
use super::well_known::WellKnown;
use super::wire::Unpack;
use crate::outcome::Code;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Writes a message in its JSON form: an object, unless it is a well-known type with another form.
pub(super) fn write_message(slots: &mut Slots<'_>, index: u16, frame: usize, out: &mut Buffer) -> Done {
    let plan = slots.plan;
    let table = &plan.tables[usize::from(index)];
    match table.well_known {
        WellKnown::None => write_object(slots, index, frame, out)?,
        WellKnown::Timestamp => {
            let (seconds, nanos) = (slots.word(table, frame, 0) as i64, slots.word(table, frame, 1) as i32);
            let (seconds, nanos) = time::timestamp_in_range(seconds, nanos, plan.clamp_timestamps)?;
            write_quoted(time::timestamp_text(seconds, nanos).as_bytes(), out);
        }
        WellKnown::Duration => {
            let (seconds, nanos) = (slots.word(table, frame, 0) as i64, slots.word(table, frame, 1) as i32);
            time::duration_micros(seconds, nanos)?;
            write_quoted(time::duration_text(seconds, nanos).as_bytes(), out);
        }
        WellKnown::Wrapper => {
            write_value(slots, table.slots[0].kind, slots.word(table, frame, 0), step_in(index), out)?
        }
        WellKnown::FieldMask => write_field_mask(slots, List(slots.word(table, frame, 0)), out)?,
        WellKnown::Struct => {
            let list = List(slots.word(table, frame, 0));
            write_map(slots, &table.slots[0], list, step_in(index), out)?;
        }
        WellKnown::ListValue => {
            let list = List(slots.word(table, frame, 0));
            write_list(slots, &table.slots[0], list, step_in(index), out)?;
        }
        WellKnown::Value => write_any_value(slots, table, index, frame, out)?,
        WellKnown::Any => write_any(slots, table, index, frame, out)?,
    }
    slots.check_expansion(out.len())
}

fn step_in(table: u16) -> Step {
    Step::field(table, 0)
}

fn write_object(slots: &mut Slots<'_>, index: u16, frame: usize, out: &mut Buffer) -> Done {
    out.byte(b'{');
    write_members(slots, index, frame, true, out)?;
    out.byte(b'}');
    Ok(())
}

fn write_members(slots: &mut Slots<'_>, index: u16, frame: usize, mut first: bool, out: &mut Buffer) -> Done {
    let plan = slots.plan;
    let table = &plan.tables[usize::from(index)];
    for (at, slot) in table.slots.iter().enumerate() {
        if !slots.is_set(table, frame, at) {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.byte(b',');
        }
        out.byte(b'"');
        out.slice(&slot.json_key);
        let word = slots.word(table, frame, at);
        let step = Step::field(index, at as u16);
        match slot.shape {
            Shape::Singular => write_value(slots, slot.kind, word, step, out)?,
            Shape::Repeated => write_list(slots, slot, List(word), step, out)?,
            Shape::Map => write_map(slots, slot, List(word), step, out)?,
        }
    }
    Ok(())
}

/// Position of the fields of `google.protobuf.Any`.
const TYPE_URL: usize = 0;
const CONTENT: usize = 1;

/// A `google.protobuf.Any`: the message inside with its type beside, or an empty object for nothing at all.
fn write_any(slots: &mut Slots<'_>, table: &Table, index: u16, frame: usize, out: &mut Buffer) -> Done {
    let plan = slots.plan;
    let url = slots.bytes(Span(slots.word(table, frame, TYPE_URL)));
    let content = Span(slots.word(table, frame, CONTENT));
    if url.is_empty() && content.len() == 0 {
        out.slice(b"{}");
        return Ok(());
    }
    let Some(child) = plan.type_of_any(url) else { return Err(unknown_any()) };
    let mark = slots.enter(Step::field(index, CONTENT as u16))?;
    let inner = slots.frames.frame(&plan.tables[usize::from(child)])?;
    super::wire::scan(slots, child, inner, content)?;
    slots.check_required(child, inner)?;
    out.slice(b"{\"@type\":");
    write_quoted(url, out);
    if plan.tables[usize::from(child)].well_known == WellKnown::None {
        write_members(slots, child, inner, false, out)?;
    } else {
        out.slice(b",\"value\":");
        write_message(slots, child, inner, out)?;
    }
    out.byte(b'}');
    slots.leave(mark);
    Ok(())
}

#[cold]
pub(super) fn unknown_any() -> Box<Fail> {
    let what = "the `google.protobuf.Any` holds a message that the schema's files do not declare; import its file";
    Fail::new(Code::InvalidPayload, what)
}

/// A `google.protobuf.Value`: the member of its oneof that is set.
fn write_any_value(slots: &mut Slots<'_>, table: &Table, index: u16, frame: usize, out: &mut Buffer) -> Done {
    let Some(at) = (0..table.slots.len()).find(|at| slots.is_set(table, frame, *at)) else {
        return Err(Fail::new(Code::InvalidPayload, "a `google.protobuf.Value` with nothing in it has no JSON form"));
    };
    let word = slots.word(table, frame, at);
    if table.slots[at].kind == Kind::Double && !f64::from_bits(word).is_finite() {
        return Err(Fail::new(
            Code::OutOfRange,
            "a `google.protobuf.Value` cannot be infinite or not a number in JSON",
        ));
    }
    write_value(slots, table.slots[at].kind, word, Step::field(index, at as u16), out)
}

fn write_value(slots: &mut Slots<'_>, kind: Kind, word: u64, step: Step, out: &mut Buffer) -> Done {
    match kind {
        Kind::Message(child) => return write_inner(slots, child, Message::Parts(List(word)), step, out),
        Kind::String => write_quoted(slots.bytes(Span(word)), out),
        Kind::Float | Kind::Double if !is_finite(kind, word) => quoted_text(slots, kind, word, out),
        Kind::Bytes | Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => {
            quoted_text(slots, kind, word, out);
        }
        Kind::Enum(en) if slots.plan.enums[usize::from(en)].is_null => out.slice(b"null"),
        Kind::Enum(en) if slots.plan.enums[usize::from(en)].ordinal(word as i32).is_some() => {
            quoted_text(slots, kind, word, out);
        }
        _ => write_text(slots.plan, kind, word, &[], out),
    }
    slots.check_expansion(out.len())
}

fn is_finite(kind: Kind, word: u64) -> bool {
    if kind == Kind::Float { f32::from_bits(word as u32).is_finite() } else { f64::from_bits(word).is_finite() }
}

fn quoted_text(slots: &Slots<'_>, kind: Kind, word: u64, out: &mut Buffer) {
    let bytes = if kind == Kind::Bytes { slots.bytes(Span(word)) } else { &[] };
    out.byte(b'"');
    write_text(slots.plan, kind, word, bytes, out);
    out.byte(b'"');
}

/// A scalar's JSON text without quotes or escapes, which is also its text as a key. `bytes` is what a string or
/// bytes field's span points to.
pub(super) fn write_text(plan: &Plan, kind: Kind, word: u64, bytes: &[u8], out: &mut Buffer) {
    match kind {
        Kind::Bool => out.slice(if word != 0 { b"true" } else { b"false" }),
        Kind::Uint32 | Kind::Fixed32 | Kind::Uint64 | Kind::Fixed64 => write_integer(word, false, out),
        Kind::Float => write_float(f32::from_bits(word as u32), out),
        Kind::Double => write_float(f64::from_bits(word), out),
        Kind::String => out.slice(bytes),
        Kind::Bytes => {
            for chunk in bytes.chunks(48) {
                let mut text = [0; 64];
                let n = STANDARD.encode_slice(chunk, &mut text).expect("48 bytes are 64 characters of base64");
                out.slice(&text[..n]);
            }
        }
        Kind::Enum(en) => {
            let table = &plan.enums[usize::from(en)];
            match table.ordinal(word as i32) {
                Some(ordinal) => out.slice(table.symbols[usize::from(ordinal)].as_bytes()),
                None => write_integer((word as i64).unsigned_abs(), (word as i64) < 0, out),
            }
        }
        Kind::Message(_) => unreachable!("only scalars have a text"),
        _ => write_integer((word as i64).unsigned_abs(), (word as i64) < 0, out),
    }
}

fn write_integer(mut value: u64, negative: bool, out: &mut Buffer) {
    let mut digits = [0; 21];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    if negative {
        at -= 1;
        digits[at] = b'-';
    }
    out.slice(&digits[at..]);
}

fn write_float<F: serde::Serialize + Into<f64> + Copy>(value: F, out: &mut Buffer) {
    let wide: f64 = value.into();
    if wide.is_finite() {
        serde_json::to_writer(out, &value).expect("writing a number into memory cannot fail");
    } else if wide.is_nan() {
        out.slice(b"NaN");
    } else {
        out.slice(if wide > 0.0 { b"Infinity" } else { b"-Infinity" });
    }
}

/// A string in quotes, escaped where JSON needs it.
pub(super) fn write_quoted(text: &[u8], out: &mut Buffer) {
    out.byte(b'"');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| matches!(b, 0..0x20 | b'"' | b'\\')) {
        out.slice(&rest[..at]);
        match rest[at] {
            b'"' => out.slice(b"\\\""),
            b'\\' => out.slice(b"\\\\"),
            b'\n' => out.slice(b"\\n"),
            b'\r' => out.slice(b"\\r"),
            b'\t' => out.slice(b"\\t"),
            control => {
                let hex = |n: u8| b"0123456789abcdef"[usize::from(n & 15)];
                out.slice(&[b'\\', b'u', b'0', b'0', hex(control >> 4), hex(control)]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.slice(rest);
    out.byte(b'"');
}

fn write_inner(slots: &mut Slots<'_>, child: u16, message: Message, step: Step, out: &mut Buffer) -> Done {
    let mark = slots.enter(step)?;
    let frame = slots.open(child, message)?;
    write_message(slots, child, frame, out)?;
    slots.leave(mark);
    Ok(())
}

fn write_list(slots: &mut Slots<'_>, slot: &Slot, list: List, step: Step, out: &mut Buffer) -> Done {
    out.byte(b'[');
    let (mut node, mut index) = (list.head(), 0);
    while node != 0 {
        let Node { value, next, holds } = slots.frames.nodes[node as usize];
        if index > 0 {
            out.byte(b',');
        }
        let step = Step { index, ..step };
        index += 1;
        match (slot.kind, holds) {
            (Kind::Message(child), _) => write_inner(slots, child, Message::Element(node), step, out)?,
            (kind, Holds::Packed(count)) => {
                for (i, word) in Unpack::new(slots.bytes(Span(value)), kind).enumerate() {
                    if i > 0 {
                        out.byte(b',');
                    }
                    write_value(slots, kind, word, step, out)?;
                }
                index += count - 1;
            }
            (kind, _) => write_value(slots, kind, value, step, out)?,
        }
        node = next;
    }
    out.byte(b']');
    Ok(())
}

fn write_map(slots: &mut Slots<'_>, slot: &Slot, list: List, step: Step, out: &mut Buffer) -> Done {
    let Kind::Message(entry) = slot.kind else { unreachable!("a map's kind is its entry") };
    let plan = slots.plan;
    let table = &plan.tables[usize::from(entry)];
    let (key_kind, value_kind) = (table.slots[KEY].kind, table.slots[VALUE].kind);
    let mark = slots.mark();
    let list = maps::open_entries(slots, entry, list, step)?;
    out.byte(b'{');
    let (mut node, mut index) = (list.head(), 0);
    while node != 0 {
        let Node { value: frame, next, .. } = slots.frames.nodes[node as usize];
        if index > 0 {
            out.byte(b',');
        }
        let key = slots.word(table, frame as usize, KEY);
        match key_kind {
            Kind::String => write_quoted(slots.bytes(Span(key)), out),
            kind => quoted_text(slots, kind, key, out),
        }
        out.byte(b':');
        let word = slots.word(table, frame as usize, VALUE);
        write_value(slots, value_kind, word, Step { index, ..step }, out)?;
        (node, index) = (next, index + 1);
    }
    out.byte(b'}');
    slots.forget(mark);
    Ok(())
}

/// Paths joined by commas, in lowerCamelCase.
fn write_field_mask(slots: &mut Slots<'_>, list: List, out: &mut Buffer) -> Done {
    let mut text = Vec::new();
    let mut node = list.head();
    while node != 0 {
        let Node { value, next, .. } = slots.frames.nodes[node as usize];
        if !text.is_empty() {
            text.push(b',');
        }
        let mut after_underscore = false;
        for byte in slots.bytes(Span(value)) {
            match byte {
                b'_' if !after_underscore => after_underscore = true,
                b'a'..=b'z' if std::mem::take(&mut after_underscore) => text.push(byte.to_ascii_uppercase()),
                b'A'..=b'Z' | b'_' | b',' => return Err(no_camel_case()),
                _ if after_underscore => return Err(no_camel_case()),
                _ => text.push(*byte),
            }
        }
        if after_underscore {
            return Err(no_camel_case());
        }
        node = next;
    }
    write_quoted(&text, out);
    Ok(())
}

fn no_camel_case() -> Box<Fail> {
    Fail::new(Code::InvalidPayload, "a path of the field mask cannot be written in lowerCamelCase and read back")
}
