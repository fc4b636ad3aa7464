//! Protobuf's wire format, field by field.
//!
//! In: the bytes of a message. Out: its fields, borrowed. Never: a schema, an allocation, recursion.

/// Groups in unknown fields may nest this deep, as with protobuf's own parsers.
const GROUP_DEPTH_MAX: usize = 100;

/// Where and why bytes are no Protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WireError {
    /// Byte offset in the message.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// A field's content, as far as the envelope's messages need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Of a kind that no message of ours has: fixed width, or a group.
    Other,
}

/// A position in a message.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub fn new(message: &'a [u8]) -> Self {
        Fields { message, at: 0 }
    }

    /// The next field's number and content; none at the end.
    pub fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, WireError> {
        if self.at == self.message.len() {
            return Ok(None);
        }
        let (number, wire_type) = self.tag()?;
        let field = match wire_type {
            0 => Field::Varint(self.varint()?),
            2 => Field::Bytes(self.bytes()?),
            3 => {
                self.skip_group(number)?;
                Field::Other
            }
            wire_type => {
                self.skip_fixed(wire_type)?;
                Field::Other
            }
        };
        Ok(Some((number, field)))
    }

    fn tag(&mut self) -> Result<(u32, u8), WireError> {
        let start = self.at;
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 || tag > u64::from(u32::MAX) {
            return Err(WireError { at: start, what: "a field number is not in 1 to 536870911" });
        }
        Ok((number as u32, (tag & 7) as u8))
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let start = self.at;
        let mut value = 0u64;
        for shift in 0..10 {
            let Some(&byte) = self.message.get(self.at) else {
                return Err(WireError { at: start, what: "the message ends inside a number" });
            };
            self.at += 1;
            // The tenth byte has one bit left to give; protobuf's own parsers drop the others, too.
            value |= u64::from(byte & 0x7F) << (7 * shift);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError { at: start, what: "a number has more than ten bytes" })
    }

    fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let start = self.at;
        let length = self.varint()?;
        self.take(length).ok_or(WireError { at: start, what: "a field is longer than what is left of the message" })
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let end = self.at.checked_add(usize::try_from(length).ok()?)?;
        let taken = self.message.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn skip_fixed(&mut self, wire_type: u8) -> Result<(), WireError> {
        let at = self.at;
        let skipped = match wire_type {
            1 => self.take(8),
            5 => self.take(4),
            4 => return Err(WireError { at, what: "a group ends that did not begin" }),
            _ => return Err(WireError { at, what: "there is no such wire type" }),
        };
        skipped.map(|_| ()).ok_or(WireError { at, what: "the message ends inside a number" })
    }

    /// Skips a group whose start tag was read, with the groups inside it.
    fn skip_group(&mut self, number: u32) -> Result<(), WireError> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            let at = self.at;
            if at == self.message.len() {
                return Err(WireError { at, what: "the message ends inside a group" });
            }
            match self.tag()? {
                (_, 0) => {
                    self.varint()?;
                }
                (_, 2) => {
                    self.bytes()?;
                }
                (_, 3) if open.len() == GROUP_DEPTH_MAX => {
                    return Err(WireError { at, what: "groups nest deeper than 100 levels" });
                }
                (number, 3) => open.push(number),
                (number, 4) if number == innermost => {
                    open.pop();
                }
                (_, wire_type) => self.skip_fixed(wire_type)?,
            }
        }
        Ok(())
    }
}

/// Appends a number as a varint.
pub(super) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that a number takes as a varint.
pub(super) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(message: &[u8], expected: Result<&[(u32, Field<'_>)], &str>) {
        let mut fields = Fields::new(message);
        let mut read = Vec::new();
        let found = loop {
            match fields.next() {
                Ok(Some(field)) => read.push(field),
                Ok(None) => break Ok(read.as_slice()),
                Err(error) => break Err(error.what),
            }
        };
        assert_eq!(found, expected, "{message:02x?}");
    }

    #[test]
    fn bytes_that_are_no_message_are_told_why() {
        check(&[0x08], Err("the message ends inside a number"));
        check(&[0x00, 0x01], Err("a field number is not in 1 to 536870911"));
        check(&[0x80, 0x80, 0x80, 0x80, 0x10, 0x01], Err("a field number is not in 1 to 536870911"));
        check(&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], Err("a number has more than ten bytes"));
        check(&[0x0A, 0x03, 1, 2], Err("a field is longer than what is left of the message"));
        check(
            &[0x0A, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
            Err("a field is longer than what is left of the message"),
        );
        check(&[0x0D, 1, 2, 3], Err("the message ends inside a number"));
        check(&[0x0E], Err("there is no such wire type"));
        check(&[0x0C], Err("a group ends that did not begin"));
        check(&[0x0B, 0x08, 0x01], Err("the message ends inside a group"));
        check(&[0x0B, 0x14], Err("a group ends that did not begin"));
        check(&[0x0B; 101], Err("groups nest deeper than 100 levels"));
    }

    #[test]
    fn fields_come_in_their_order() {
        check(&[], Ok(&[]));
        check(&[0x08, 0xAC, 0x02, 0x12, 0x01, 7], Ok(&[(1, Field::Varint(300)), (2, Field::Bytes(&[7]))]));
        check(&[0x0B, 0x08, 0x01, 0x13, 0x14, 0x0C, 0x1D, 0, 0, 0, 0], Ok(&[(1, Field::Other), (3, Field::Other)]));
    }

    proptest! {
        #[test]
        fn a_number_reads_back_and_its_length_is_known(value: u64) {
            let mut out = vec![0x08];
            push_varint(&mut out, value);
            prop_assert_eq!(out.len() - 1, varint_len(value));
            prop_assert_eq!(Fields::new(&out).next(), Ok(Some((1, Field::Varint(value)))));
        }

        #[test]
        fn no_bytes_panic(message: Vec<u8>) {
            let mut fields = Fields::new(&message);
            while let Ok(Some(_)) = fields.next() {}
        }
    }
}
