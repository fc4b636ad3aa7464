//! The bytes of an Avro datum, read one value at a time.
//!
//! In: a datum. Out: numbers and runs of bytes. Never: trusts a length or a count, reads past the end, or lets a few bytes
//! stand for many items: items that take no bytes are counted against a budget.

use std::ops::Range;

use super::schema::{AvroSchema, NodeId, NodeKind};
use crate::outcome::Code;
use crate::transcode::fail::{Done, Fail};
use crate::transcode::slots::{DEPTH_MAX, too_deep};

/// Items that may take no bytes at all (`null`, records without fields). As many as an event may have list elements.
const EMPTY_ITEMS_MAX: usize = 1 << 18;

/// Fields of a record that count as one item more.
const FIELDS_PER_ITEM: u64 = 8;

/// Values nest at most this deep: of each level of messages a record, a union, a list and its entry.
pub(super) const VALUE_DEPTH_MAX: usize = 4 * DEPTH_MAX;

/// A datum and how far it is read.
#[derive(Debug)]
pub(super) struct Datum<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) pos: usize,
    items_left: u64,
}

impl<'a> Datum<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Datum { bytes, pos: 0, items_left: (EMPTY_ITEMS_MAX + 2 * bytes.len()) as u64 }
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Done {
        match self.bytes.len() - self.pos {
            0 => Ok(()),
            rest => Err(malformed(&format!("{rest} bytes follow the datum"))),
        }
    }

    /// A zig-zag varint of at most 64 bits.
    #[inline]
    pub(super) fn long(&mut self) -> Done<i64> {
        let mut value = 0;
        for (i, byte) in self.bytes[self.pos..].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                if i == 9 && *byte > 1 {
                    break;
                }
                self.pos += i + 1;
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(malformed("a number is cut off or longer than 64 bits"))
    }

    /// The same, of 32 bits.
    #[inline]
    pub(super) fn int(&mut self) -> Done<i32> {
        i32::try_from(self.long()?).map_err(|_| malformed("an int is longer than 32 bits"))
    }

    pub(super) fn boolean(&mut self) -> Done<bool> {
        match self.fixed(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(malformed("a boolean is neither 0 nor 1")),
        }
    }

    /// Four bytes, little endian.
    pub(super) fn float(&mut self) -> Done<u32> {
        let bytes = self.fixed(4)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("the slice has four bytes")))
    }

    /// Eight bytes, little endian.
    pub(super) fn double(&mut self) -> Done<u64> {
        let bytes = self.fixed(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("the slice has eight bytes")))
    }

    /// As many bytes.
    #[inline]
    pub(super) fn fixed(&mut self, len: usize) -> Done<&'a [u8]> {
        match self.bytes[self.pos..].get(..len) {
            Some(bytes) => {
                self.pos += len;
                Ok(bytes)
            }
            None => Err(malformed("the value ends after the datum")),
        }
    }

    /// A length and as many bytes: where they are.
    #[inline]
    pub(super) fn run(&mut self) -> Done<Range<usize>> {
        let len = usize::try_from(self.long()?).map_err(|_| malformed("a length is negative"))?;
        self.fixed(len)?;
        Ok(self.pos - len..self.pos)
    }

    /// The same, of text.
    #[inline]
    pub(super) fn text(&mut self) -> Done<Range<usize>> {
        let run = self.run()?;
        match simdutf8::basic::from_utf8(&self.bytes[run.clone()]) {
            Ok(_) => Ok(run),
            Err(_) => Err(Fail::new(Code::InvalidUtf8, "the string is not valid UTF-8")),
        }
    }

    /// Which of so many branches or symbols.
    #[inline]
    pub(super) fn choice(&mut self, of: usize, what: &str) -> Done<usize> {
        let chosen = self.long()?;
        usize::try_from(chosen)
            .ok()
            .filter(|chosen| *chosen < of)
            .ok_or_else(|| malformed(&format!("{what} number {chosen} is not one of {of}")))
    }

    /// The head of the next block of an array or map: how many items follow. None at the end.
    pub(super) fn block(&mut self) -> Done<Option<u64>> {
        let count = self.long()?;
        if count < 0 {
            // The size lets readers skip the block; what counts is the items.
            let size = self.long()?;
            if usize::try_from(size).map_or(true, |size| size > self.bytes.len() - self.pos) {
                return Err(malformed("a block's size is negative or beyond the datum"));
            }
        }
        let count = count.unsigned_abs();
        self.spend(count)?;
        Ok((count > 0).then_some(count))
    }

    /// Counts items and records, wide ones more often. A schema of records within records can ask for any number of them without a byte read.
    #[inline]
    pub(super) fn spend(&mut self, items: u64) -> Done {
        match self.items_left.checked_sub(items) {
            Some(left) => {
                self.items_left = left;
                Ok(())
            }
            None => Err(self.expands()),
        }
    }

    #[cold]
    fn expands(&self) -> Box<Fail> {
        let len = self.bytes.len();
        let what = format!(
            "the datum of {len} bytes announces more items than it can hold, or more than {EMPTY_ITEMS_MAX} that take \
             no bytes"
        );
        Fail::new(Code::PayloadExpands, what)
    }

    /// Passes over a value, `depth` levels below the root.
    pub(super) fn skip(&mut self, schema: &AvroSchema, id: NodeId, depth: usize) -> Done {
        if depth > VALUE_DEPTH_MAX {
            return Err(too_deep());
        }
        match &schema.node(id).kind {
            NodeKind::Null | NodeKind::Unfinished => {}
            NodeKind::Boolean => {
                self.boolean()?;
            }
            NodeKind::Int => {
                self.int()?;
            }
            NodeKind::Long => {
                self.long()?;
            }
            NodeKind::Float => {
                self.float()?;
            }
            NodeKind::Double => {
                self.double()?;
            }
            NodeKind::Bytes => {
                self.run()?;
            }
            NodeKind::String => {
                self.text()?;
            }
            NodeKind::Fixed(size) => {
                self.fixed(*size)?;
            }
            NodeKind::Enum(en) => {
                self.choice(en.symbols.len(), "symbol")?;
            }
            NodeKind::Array(items) => {
                while let Some(count) = self.block()? {
                    for _ in 0..count {
                        self.skip(schema, *items, depth + 1)?;
                    }
                }
            }
            NodeKind::Map(values) => {
                while let Some(count) = self.block()? {
                    for _ in 0..count {
                        self.text()?;
                        self.skip(schema, *values, depth + 1)?;
                    }
                }
            }
            NodeKind::Union(branches) => {
                let branch = self.choice(branches.len(), "branch")?;
                self.skip(schema, branches[branch], depth + 1)?;
            }
            NodeKind::Record(record) => {
                self.spend(cost(&record.fields))?;
                for field in &record.fields {
                    self.skip(schema, field.node, depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

/// What a record of so many fields counts for: they may all be `null`, and take time without a byte.
pub(super) fn cost<T>(fields: &[T]) -> u64 {
    1 + fields.len() as u64 / FIELDS_PER_ITEM
}

#[cold]
pub(super) fn malformed(what: &str) -> Box<Fail> {
    Fail::new(Code::MalformedAvro, what)
}
