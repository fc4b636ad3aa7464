//! The bytes by which a record names its schema, made once per schema.
//!
//! In: the registry's id or GUID, and for Protobuf the message's index. Out: the prefix of the value, or the value of
//! the header `__value_schema_id` (Confluent wire formats v0 and v1). Never: per-event work.

/// What stands in front of a value: `0x00`, the id as four bytes big endian, and for Protobuf the message's indexes.
pub fn prefix(id: u32, message_index: Option<u32>) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&id.to_be_bytes());
    push_indexes(&mut bytes, message_index);
    bytes
}

/// The header's value: `0x01`, the GUID's 16 bytes, and for Protobuf the message's indexes.
pub fn header(guid: uuid::Uuid, message_index: Option<u32>) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend_from_slice(guid.as_bytes());
    push_indexes(&mut bytes, message_index);
    bytes
}

/// The indexes of a top-level message: their number and each of them as zig-zag varints; `[0]` is the single byte 0.
fn push_indexes(bytes: &mut Vec<u8>, message_index: Option<u32>) {
    match message_index {
        None => {}
        Some(0) => bytes.push(0),
        Some(index) => {
            push_zigzag(bytes, 1);
            push_zigzag(bytes, index);
        }
    }
}

fn push_zigzag(bytes: &mut Vec<u8>, number: u32) {
    let mut rest = u64::from(number) << 1;
    while rest > 0x7f {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    // The vectors are what confluent-kafka 2.16 for Python writes.
    #[test]
    fn prefixes_are_those_of_confluent() {
        assert_eq!(prefix(1, None), [0, 0, 0, 0, 1]);
        assert_eq!(prefix(1, Some(0)), [0, 0, 0, 0, 1, 0]);
        assert_eq!(prefix(1, Some(1)), [0, 0, 0, 0, 1, 2, 2]);
        assert_eq!(prefix(0x0102_0304, Some(64)), [0, 1, 2, 3, 4, 2, 0x80, 1]);
        assert_eq!(prefix(u32::MAX, Some(u32::MAX))[5..], [2, 0xfe, 0xff, 0xff, 0xff, 0x1f]);
    }

    #[test]
    fn headers_are_those_of_confluent() {
        let guid = uuid::Uuid::from_bytes([7; 16]);
        assert_eq!(header(guid, None), [&[1][..], &[7; 16]].concat());
        assert_eq!(header(guid, Some(1)), [&[1][..], &[7; 16], &[2, 2]].concat());
    }
}
