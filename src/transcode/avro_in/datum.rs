//! Datum -> canonical datum, and the key that stands in one.
//!
//! In: bytes that claim to be a datum. Out: the same value in the form that is written for JSON: the shortest numbers, lists in
//! one block. Never: trusts a length or a count; what one costs is bounded by the payload's length.

use super::compile::without_null;
use super::{
    AvroPlan, AvroScratch, EXPANSION_FREE_BYTES, EXPANSION_MAX, Node, NodeId, Opaque, Seg, check_map_keys, close_block,
    expands, push_bytes, push_long, text, too_deep,
};
use crate::outcome::Code;
use crate::transcode::fail::{Done, Fail};
use crate::transcode::slots::DEPTH_MAX;

/// Checks the whole payload and writes it in canonical form.
pub(super) fn write_root(plan: &AvroPlan, datum: &[u8], scratch: &mut AvroScratch) -> Done {
    let values_max = EXPANSION_FREE_BYTES + EXPANSION_MAX * datum.len();
    let mut writer = Writer { plan, datum, at: 0, scratch, values: 0, values_max };
    writer.value(plan.root, 0)?;
    match datum.len() - writer.at {
        0 => Ok(()),
        left => Err(malformed(writer.at, &format!("{left} bytes follow the datum"))),
    }
}

struct Writer<'w> {
    plan: &'w AvroPlan,
    datum: &'w [u8],
    /// Bytes that are read.
    at: usize,
    scratch: &'w mut AvroScratch,
    /// Values that are read: some have no bytes, so the payload's length alone bounds nothing.
    values: usize,
    values_max: usize,
}

impl<'w> Writer<'w> {
    fn value(&mut self, id: NodeId, depth: usize) -> Done {
        self.values += 1;
        if self.values > self.values_max {
            return Err(expands(self.datum.len(), self.values_max));
        }
        if depth > DEPTH_MAX {
            return Err(too_deep());
        }
        match self.plan.node(id) {
            Node::Null => {}
            Node::Boolean => match self.take(1)? {
                [flag @ (0 | 1)] => self.scratch.out.push(*flag),
                _ => return Err(malformed(self.at - 1, "a boolean is 0 or 1")),
            },
            Node::Int(_) => {
                let from = self.at;
                let value = self.long()?;
                let value = i32::try_from(value).map_err(|_| malformed(from, "an int has more than 32 bits"))?;
                push_long(&mut self.scratch.out, i64::from(value));
            }
            Node::Long(_) => {
                let value = self.long()?;
                push_long(&mut self.scratch.out, value);
            }
            Node::Float => {
                let bytes = self.take(4)?;
                self.scratch.out.extend_from_slice(bytes);
            }
            Node::Double => {
                let bytes = self.take(8)?;
                self.scratch.out.extend_from_slice(bytes);
            }
            Node::Bytes(Opaque::Uuid) => {
                let bytes = self.bytes()?;
                if bytes.len() != 16 {
                    return Err(Fail::new(Code::InvalidPayload, "a UUID has 16 bytes"));
                }
                push_bytes(&mut self.scratch.out, bytes);
            }
            Node::Bytes(_) => {
                let bytes = self.bytes()?;
                push_bytes(&mut self.scratch.out, bytes);
            }
            Node::String => {
                let bytes = self.string()?;
                push_bytes(&mut self.scratch.out, bytes);
            }
            Node::UuidText => {
                let bytes = self.string()?;
                text::uuid(bytes).ok_or_else(|| Fail::new(Code::InvalidPayload, "the string is not a UUID"))?;
                push_bytes(&mut self.scratch.out, bytes);
            }
            Node::Fixed(size, _) => {
                let bytes = self.take(size as usize)?;
                self.scratch.out.extend_from_slice(bytes);
            }
            Node::Enum(index) => {
                let known = &self.plan.enums[index as usize];
                let ordinal = self.index(known.symbols.len());
                let ordinal = ordinal?.ok_or_else(|| {
                    let what = format!("the ordinal is none of the symbols of enum `{}`", known.name);
                    Fail::new(Code::UnknownEnumValue, what)
                })?;
                push_long(&mut self.scratch.out, ordinal as i64);
            }
            Node::Union(index) => {
                let from = self.at;
                let branches = &self.plan.unions[index as usize];
                let branch = self.index(branches.len())?;
                let branch = branch.ok_or_else(|| malformed(from, "the union has no such branch"))?;
                push_long(&mut self.scratch.out, branch as i64);
                self.value(branches[branch].node, depth + 1)?;
            }
            Node::Record(index) => {
                let fields = &self.plan.record(index).fields;
                for (at, field) in (0..).zip(fields) {
                    self.scratch.path.push(Seg::Field { record: index, field: at });
                    self.value(field.node, depth + 1)?;
                    self.scratch.path.pop();
                }
            }
            Node::Array(items) => self.list(|writer| writer.value(items, depth + 1))?,
            Node::Map(values) => self.list(|writer| {
                let key = writer.string()?;
                push_bytes(&mut writer.scratch.out, key);
                let end = writer.scratch.out.len();
                writer.scratch.keys.push(((end - key.len()) as u32, end as u32));
                writer.value(values, depth + 1)
            })?,
        }
        Ok(())
    }

    /// Blocks of items, up to the empty one; written as one block.
    fn list(&mut self, mut item: impl FnMut(&mut Self) -> Done) -> Done {
        let (start, first_key) = (self.scratch.out.len(), self.scratch.keys.len());
        let mut index = 0u32;
        loop {
            let from = self.at;
            let mut count = self.long()?;
            if count == 0 {
                break;
            }
            if count < 0 {
                // The block's size in bytes follows, for readers that skip it.
                let bytes = self.long()?;
                if bytes < 0 || bytes as u64 > (self.datum.len() - self.at) as u64 {
                    return Err(malformed(from, "a block is larger than the rest of the payload"));
                }
                count = count.checked_neg().ok_or_else(|| malformed(from, "a block has too many items"))?;
            }
            for _ in 0..count {
                self.scratch.path.push(Seg::Item(index));
                item(self)?;
                self.scratch.path.pop();
                index += 1;
            }
        }
        check_map_keys(&mut self.scratch.keys, first_key, &self.scratch.out)?;
        close_block(&mut self.scratch.out, start, index);
        Ok(())
    }

    fn string(&mut self) -> Done<&'w [u8]> {
        let bytes = self.bytes()?;
        match simdutf8::basic::from_utf8(bytes) {
            Ok(_) => Ok(bytes),
            Err(_) => Err(Fail::new(Code::InvalidUtf8, "a string is not valid UTF-8")),
        }
    }

    fn bytes(&mut self) -> Done<&'w [u8]> {
        let from = self.at;
        let length = self.long()?;
        match usize::try_from(length) {
            Ok(length) => self.take(length),
            Err(_) => Err(malformed(from, "a length is negative")),
        }
    }

    fn index(&mut self, count: usize) -> Done<Option<usize>> {
        let index = self.long()?;
        Ok(usize::try_from(index).ok().filter(|index| *index < count))
    }

    fn take(&mut self, length: usize) -> Done<&'w [u8]> {
        let bytes = self.datum[self.at..].get(..length);
        let bytes = bytes.ok_or_else(|| malformed(self.at, "the payload ends within a value"))?;
        self.at += length;
        Ok(bytes)
    }

    fn long(&mut self) -> Done<i64> {
        match read_long(&self.datum[self.at..]) {
            Some((value, length)) => {
                self.at += length;
                Ok(value)
            }
            None => Err(malformed(self.at, "the payload ends within a number, or the number has more than 64 bits")),
        }
    }
}

#[cold]
fn malformed(at: usize, what: &str) -> Box<Fail> {
    Fail::new(Code::MalformedAvro, format!("{what}, at byte {at} of the payload"))
}

/// A zig-zag varint of at most 64 bits, and its length.
fn read_long(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        if at == 9 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(((value >> 1) as i64 ^ -((value & 1) as i64), at + 1));
        }
    }
    None
}

/// Appends the key's text, if the field is there: a string as it is, numbers and booleans as JSON has them, an enum's symbol,
/// bytes in base64. `datum` is one that was written here, so it is what the plan says.
pub(super) fn write_key(plan: &AvroPlan, datum: &[u8], key: &mut Vec<u8>) -> bool {
    let mut cursor = Cursor { plan, datum, at: 0 };
    let mut node = plan.root;
    for at in &plan.key {
        let Some(Node::Record(index)) = cursor.enter(node) else { return false };
        let fields = &plan.record(index).fields;
        fields[..usize::from(*at)].iter().for_each(|field| cursor.skip(field.node));
        node = fields[usize::from(*at)].node;
    }
    match cursor.enter(node) {
        None => return false,
        Some(Node::Boolean) => key.extend_from_slice(if cursor.take(1) == [1] { b"true" } else { b"false" }),
        Some(Node::Int(_) | Node::Long(_)) => key.extend_from_slice(cursor.long().to_string().as_bytes()),
        Some(Node::String | Node::UuidText) => key.extend_from_slice(cursor.bytes()),
        Some(Node::Enum(index)) => {
            let symbols = &plan.enums[index as usize].symbols;
            key.extend_from_slice(symbols[cursor.long() as usize].as_bytes());
        }
        Some(Node::Bytes(opaque)) => push_key_bytes(opaque, cursor.bytes(), key),
        Some(Node::Fixed(size, opaque)) => push_key_bytes(opaque, cursor.take(size as usize), key),
        Some(_) => unreachable!("compile takes no other types for keys"),
    }
    true
}

fn push_key_bytes(opaque: Opaque, bytes: &[u8], key: &mut Vec<u8>) {
    use base64::Engine as _;
    let text = match (opaque, uuid::Uuid::from_slice(bytes)) {
        (Opaque::Uuid, Ok(uuid)) => uuid.to_string(),
        _ => base64::engine::general_purpose::STANDARD.encode(bytes),
    };
    key.extend_from_slice(text.as_bytes());
}

/// Reads a datum that was written here.
struct Cursor<'c> {
    plan: &'c AvroPlan,
    datum: &'c [u8],
    at: usize,
}

impl<'c> Cursor<'c> {
    /// Steps into a union's branch; none when that is null.
    fn enter(&mut self, id: NodeId) -> Option<Node> {
        if let Node::Union(index) = self.plan.node(id) {
            let branch = self.long() as usize;
            if self.plan.node(self.plan.unions[index as usize][branch].node) == Node::Null {
                return None;
            }
        }
        Some(without_null(self.plan, id))
    }

    fn skip(&mut self, id: NodeId) {
        match self.plan.node(id) {
            Node::Null => {}
            Node::Boolean => self.at += 1,
            Node::Int(_) | Node::Long(_) | Node::Enum(_) => drop(self.long()),
            Node::Float => self.at += 4,
            Node::Double => self.at += 8,
            Node::Bytes(_) | Node::String | Node::UuidText => drop(self.bytes()),
            Node::Fixed(size, _) => self.at += size as usize,
            Node::Union(index) => {
                let branch = self.long() as usize;
                self.skip(self.plan.unions[index as usize][branch].node);
            }
            Node::Record(index) => {
                let plan = self.plan;
                plan.record(index).fields.iter().for_each(|field| self.skip(field.node));
            }
            Node::Array(items) => self.skip_list(|cursor| cursor.skip(items)),
            Node::Map(values) => self.skip_list(|cursor| {
                cursor.bytes();
                cursor.skip(values);
            }),
        }
    }

    fn skip_list(&mut self, item: impl Fn(&mut Self)) {
        loop {
            let count = self.long();
            if count == 0 {
                return;
            }
            (0..count).for_each(|_| item(self));
        }
    }

    fn long(&mut self) -> i64 {
        let (value, length) = read_long(&self.datum[self.at..]).expect("the datum was written here");
        self.at += length;
        value
    }

    fn bytes(&mut self) -> &'c [u8] {
        let length = self.long() as usize;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> &'c [u8] {
        self.at += length;
        &self.datum[self.at - length..self.at]
    }
}
