//! Where a record says which schema its value has: Confluent's wire format, both ways.
//!
//! In: a schema's registry id or GUID, and for Protobuf the message's place in its file. Out: the bytes in front of the value,
//! or those of the header `__value_schema_id`; and back. Never: the schema, a registry.
//!
//! The indexes say which message of the file: the index of the top-level message, then of each message nested in it, as
//! zig-zag varints after their count. They are those of the registered text, where map fields have no entry messages.

use super::wire::push_varint;

/// The header that names the schema of a value without prefix.
pub const HEADER: &str = "__value_schema_id";

/// First byte of the prefix.
const PREFIX_MAGIC: u8 = 0;
/// First byte of the header.
const HEADER_MAGIC: u8 = 1;
/// Messages nest no deeper than this in any file that protoc takes.
const INDEXES_MAX: u64 = 100;

/// Why bytes name no schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// There are fewer bytes than the framing has.
    #[error("the schema framing is cut short")]
    CutShort,
    /// The first byte is another one.
    #[error("the schema framing begins with byte {found:#04x}, not {expected:#04x}")]
    Magic {
        /// The byte there should be.
        expected: u8,
        /// The byte there is.
        found: u8,
    },
    /// The message indexes are not what a serializer writes.
    #[error("the message indexes of the schema framing are not valid")]
    Indexes,
}

/// The bytes in front of a value: `0x00`, the id as four bytes big endian, and for Protobuf the message indexes.
pub fn write_prefix(id: u32, indexes: Option<&[i32]>) -> Vec<u8> {
    let mut out = vec![PREFIX_MAGIC];
    out.extend_from_slice(&id.to_be_bytes());
    push_indexes(&mut out, indexes);
    out
}

/// The value of [`HEADER`]: `0x01`, the schema's GUID, and for Protobuf the message indexes.
pub fn header_value(guid: [u8; 16], indexes: Option<&[i32]>) -> Vec<u8> {
    let mut out = vec![HEADER_MAGIC];
    out.extend_from_slice(&guid);
    push_indexes(&mut out, indexes);
    out
}

/// The schema id in front of a value, and what follows: for Protobuf the indexes ([`read_indexes`]), else the value.
pub fn read_prefix(value: &[u8]) -> Result<(u32, &[u8]), FramingError> {
    let rest = magic(value, PREFIX_MAGIC)?;
    let (id, rest) = rest.split_first_chunk().ok_or(FramingError::CutShort)?;
    Ok((u32::from_be_bytes(*id), rest))
}

/// The GUID in the value of [`HEADER`], and what follows: for Protobuf the indexes ([`read_indexes`]), else nothing.
pub fn read_header_value(header: &[u8]) -> Result<([u8; 16], &[u8]), FramingError> {
    let rest = magic(header, HEADER_MAGIC)?;
    let (guid, rest) = rest.split_first_chunk().ok_or(FramingError::CutShort)?;
    Ok((*guid, rest))
}

/// The message indexes at the start of `bytes`, and what follows.
pub fn read_indexes(bytes: &[u8]) -> Result<(Vec<i32>, &[u8]), FramingError> {
    let (count, mut rest) = zig_zag(bytes)?;
    if count == 0 {
        return Ok((vec![0], rest));
    }
    let count = u64::try_from(count).ok().filter(|n| *n <= INDEXES_MAX).ok_or(FramingError::Indexes)?;
    let mut indexes = Vec::new();
    for _ in 0..count {
        let (index, after) = zig_zag(rest)?;
        indexes.push(i32::try_from(index).ok().filter(|i| *i >= 0).ok_or(FramingError::Indexes)?);
        rest = after;
    }
    Ok((indexes, rest))
}

fn magic(bytes: &[u8], expected: u8) -> Result<&[u8], FramingError> {
    let (&found, rest) = bytes.split_first().ok_or(FramingError::CutShort)?;
    if found == expected { Ok(rest) } else { Err(FramingError::Magic { expected, found }) }
}

/// The first message of a file, by far the commonest, is the single byte 0 instead of a count and an index.
fn push_indexes(out: &mut Vec<u8>, indexes: Option<&[i32]>) {
    match indexes {
        None => {}
        Some([0]) => out.push(0),
        Some(indexes) => {
            push_zig_zag(out, indexes.len() as i64);
            indexes.iter().for_each(|index| push_zig_zag(out, i64::from(*index)));
        }
    }
}

fn push_zig_zag(out: &mut Vec<u8>, value: i64) {
    push_varint(out, (value << 1 ^ value >> 63) as u64);
}

fn zig_zag(bytes: &[u8]) -> Result<(i64, &[u8]), FramingError> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7F) << (7 * i);
        if byte < 0x80 {
            return Ok(((value >> 1) as i64 ^ -((value & 1) as i64), &bytes[i + 1..]));
        }
    }
    Err(if bytes.len() < 10 { FramingError::CutShort } else { FramingError::Indexes })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(indexes: Option<&[i32]>, expected: &[u8]) {
        let prefix = write_prefix(1, indexes);
        assert_eq!(&prefix[..5], &[0, 0, 0, 0, 1]);
        assert_eq!(&prefix[5..], expected, "{indexes:?}");
        let header = header_value([7; 16], indexes);
        assert_eq!(&header[..17], &[1, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]);
        assert_eq!(&header[17..], expected, "{indexes:?}");
    }

    #[test]
    fn what_is_no_framing_is_refused() {
        assert_eq!(read_prefix(&[]), Err(FramingError::CutShort));
        assert_eq!(read_prefix(&[0, 0, 0, 1]), Err(FramingError::CutShort));
        assert_eq!(read_prefix(b"{\"a\":1}"), Err(FramingError::Magic { expected: 0, found: b'{' }));
        assert_eq!(read_header_value(&[1; 16]), Err(FramingError::CutShort));
        assert_eq!(read_header_value(&[0; 17]), Err(FramingError::Magic { expected: 1, found: 0 }));
        assert_eq!(read_indexes(&[]), Err(FramingError::CutShort));
        assert_eq!(read_indexes(&[4, 0]), Err(FramingError::CutShort));
        assert_eq!(read_indexes(&[1]), Err(FramingError::Indexes));
        assert_eq!(read_indexes(&[2, 1]), Err(FramingError::Indexes));
        assert_eq!(read_indexes(&[0xCA, 0x01, 0]), Err(FramingError::Indexes));
        assert_eq!(read_indexes(&[0xFF; 11]), Err(FramingError::Indexes));
    }

    /// Bytes as confluent-kafka's Python client 2.16 writes them.
    #[test]
    fn framing_is_what_confluents_clients_write() {
        check(None, &[]);
        check(Some(&[0]), &[0x00]);
        check(Some(&[1]), &[0x02, 0x02]);
        check(Some(&[0, 3]), &[0x04, 0x00, 0x06]);
    }

    proptest! {
        #[test]
        fn framing_reads_back(
            id: u32, guid: [u8; 16], value: Vec<u8>, indexes in proptest::collection::vec(0..i32::MAX, 1..8),
        ) {
            let framed = [write_prefix(id, Some(&indexes)), value.clone()].concat();
            let (read_id, rest) = read_prefix(&framed).expect("a prefix");
            prop_assert_eq!(read_id, id);
            prop_assert_eq!(read_indexes(rest), Ok((indexes.clone(), value.as_slice())));
            let header = header_value(guid, Some(&indexes));
            let (read_guid, rest) = read_header_value(&header).expect("a header");
            prop_assert_eq!(read_guid, guid);
            prop_assert_eq!(read_indexes(rest), Ok((indexes, &[][..])));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = (read_prefix(&bytes), read_header_value(&bytes), read_indexes(&bytes));
        }
    }
}
