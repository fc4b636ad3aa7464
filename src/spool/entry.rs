//! One entry: a record with everything that it takes to produce it later, as bytes.
//!
//! In: an [`Entry`]. Out: its bytes, and back; what is not an entry is told apart, never guessed. Never: I/O.
//!
//! ```text
//! length  u32   bytes of the body
//! sum     u32   CRC-32C over the segment's salt, the length and the body
//! body          flags u8, lane u8, event u16, topic u16, reserved u16, headers u32, key u32, partition i32, timestamp i64,
//!               then event, topic, key, each header (name u32, value u32, name, value), and the value to the end
//! ```
//! Numbers are little endian; `event`, `topic`, `key`, `name` and `value` are lengths in bytes, `headers` is a count.

use crate::envelope::headers::HeaderBuffer;
use crate::route::Lane;

/// Length and checksum.
pub(super) const FRAME_BYTES: usize = 8;
/// The part of a body whose length is fixed.
const FIXED_BYTES: usize = 28;
/// What is looked at before the checksum.
pub(super) const HEAD_BYTES: usize = FRAME_BYTES + FIXED_BYTES;
/// Most bytes of a body. More than the largest record of any cluster (`body_bytes_max` ends at 100 MiB), so that a length over
/// it is damage.
pub(super) const BODY_BYTES_MAX: usize = 128 * 1024 * 1024;

const HAS_KEY: u8 = 1;
const HAS_PARTITION: u8 = 2;
const TRIED: u8 = 4;

/// A record that waits, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Event name: the account of the ledger that it belongs to, with the spool's cluster.
    pub event: &'a str,
    /// Topic.
    pub topic: &'a str,
    /// Lane that it was to be produced through, or was.
    pub lane: Lane,
    /// Partition, where it was not left to key and partitioner.
    pub partition: Option<i32>,
    /// Whether it was tried before, so that it may be in Kafka already: the one cause of a duplicate that an entry knows.
    pub tried: bool,
    /// When the event was received, milliseconds since 1970: the record's timestamp.
    pub timestamp_ms: i64,
    /// Key; none is a null key.
    pub key: Option<&'a [u8]>,
    /// Headers; the event's id is in them.
    pub headers: &'a HeaderBuffer,
    /// Value.
    pub value: &'a [u8],
}

impl Entry<'_> {
    /// Bytes that the entry takes in a segment.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.bytes() + 8 * self.headers.len();
        let key = self.key.map_or(0, <[u8]>::len);
        FRAME_BYTES + FIXED_BYTES + self.event.len() + self.topic.len() + key + headers + self.value.len()
    }

    /// Whether it can be written: names of up to 65,535 bytes, 128 MiB in all.
    pub(super) fn fits(&self) -> bool {
        let names = self.event.len().max(self.topic.len());
        names <= usize::from(u16::MAX) && self.bytes() <= FRAME_BYTES + BODY_BYTES_MAX
    }

    /// Appends the entry. Must be called only if it [`Entry::fits`].
    pub(super) fn write(&self, salt: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(self.bytes());
        out.extend_from_slice(&[0; FRAME_BYTES]);
        let mut flags = 0;
        for (flag, is_set) in
            [(HAS_KEY, self.key.is_some()), (HAS_PARTITION, self.partition.is_some()), (TRIED, self.tried)]
        {
            flags |= if is_set { flag } else { 0 };
        }
        let key = self.key.unwrap_or_default();
        out.extend_from_slice(&[flags, lane_code(self.lane)]);
        out.extend_from_slice(&(self.event.len() as u16).to_le_bytes());
        out.extend_from_slice(&(self.topic.len() as u16).to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&(self.headers.len() as u32).to_le_bytes());
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.partition.unwrap_or(-1).to_le_bytes());
        out.extend_from_slice(&self.timestamp_ms.to_le_bytes());
        out.extend_from_slice(self.event.as_bytes());
        out.extend_from_slice(self.topic.as_bytes());
        out.extend_from_slice(key);
        for (name, value) in self.headers.iter() {
            out.extend_from_slice(&(name.len() as u32).to_le_bytes());
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
        }
        out.extend_from_slice(self.value);
        let length = ((out.len() - start - FRAME_BYTES) as u32).to_le_bytes();
        let sum = checksum(salt, length, &out[start + FRAME_BYTES..]).to_le_bytes();
        out[start..start + 4].copy_from_slice(&length);
        out[start + 4..start + FRAME_BYTES].copy_from_slice(&sum);
    }

    /// Reads the body of an entry whose checksum is right; its headers go into `headers`. None when it is no entry after all.
    pub(super) fn read<'b>(body: &'b [u8], headers: &'b mut HeaderBuffer) -> Option<Entry<'b>> {
        let (fixed, mut rest) = body.split_at_checked(FIXED_BYTES)?;
        let mut fixed = Fixed(fixed);
        let [flags, lane] = fixed.take();
        let (event, topic) = (u16::from_le_bytes(fixed.take()), u16::from_le_bytes(fixed.take()));
        let [_, _] = fixed.take();
        let (count, key) = (u32::from_le_bytes(fixed.take()), u32::from_le_bytes(fixed.take()));
        let (partition, timestamp_ms) = (i32::from_le_bytes(fixed.take()), i64::from_le_bytes(fixed.take()));
        let event = take_text(&mut rest, event.into())?;
        let topic = take_text(&mut rest, topic.into())?;
        let key = take(&mut rest, key)?;
        headers.clear();
        for _ in 0..count {
            let mut lengths = Fixed(take(&mut rest, 8)?);
            let (name, value) = (u32::from_le_bytes(lengths.take()), u32::from_le_bytes(lengths.take()));
            let name = take_text(&mut rest, name)?;
            headers.push(name, take(&mut rest, value)?);
        }
        Some(Entry {
            event,
            topic,
            lane: lane_of(lane)?,
            partition: (flags & HAS_PARTITION != 0).then_some(partition),
            tried: flags & TRIED != 0,
            timestamp_ms,
            key: (flags & HAS_KEY != 0).then_some(key),
            headers,
            value: rest,
        })
    }
}

/// Bytes of the body by an entry's first [`HEAD_BYTES`]; none when no entry begins so. `left` is what the segment has from here
/// on. It looks at everything that is cheap to look at, because a search for the next sound entry asks at every byte.
pub(super) fn body_length(head: &[u8], left: u64) -> Option<usize> {
    let mut head = Fixed(head.get(..HEAD_BYTES)?);
    let length = u32::from_le_bytes(head.take()) as usize;
    let ([_, _, _, _], [flags, lane]) = (head.take(), head.take());
    let (event, topic) = (u16::from_le_bytes(head.take()), u16::from_le_bytes(head.take()));
    let (reserved, headers, key) = (head.take(), u32::from_le_bytes(head.take()), u32::from_le_bytes(head.take()));
    let least = FIXED_BYTES as u64 + u64::from(event) + u64::from(topic) + u64::from(key) + 8 * u64::from(headers);
    let is_plausible = flags & !(HAS_KEY | HAS_PARTITION | TRIED) == 0 && lane_of(lane).is_some() && reserved == [0, 0];
    let fits = least <= length as u64 && length <= BODY_BYTES_MAX && (length + FRAME_BYTES) as u64 <= left;
    (is_plausible && fits).then_some(length)
}

/// Whether frame and body belong together and to the segment with this salt.
pub(super) fn is_sound(salt: u32, entry: &[u8]) -> bool {
    let (frame, body) = entry.split_at(FRAME_BYTES);
    let (length, sum) = frame.split_at(4);
    let length = length.try_into().expect("a frame has eight bytes");
    checksum(salt, length, body).to_le_bytes() == sum
}

fn checksum(salt: u32, length: [u8; 4], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(salt, &length), body)
}

const fn lane_code(lane: Lane) -> u8 {
    match lane {
        Lane::Standard => 0,
        Lane::Slow => 1,
        Lane::All => 2,
        Lane::Wal => 3,
        // Written only of what was given up in it, which is sent again by the configuration.
        Lane::DeadLetter => 4,
    }
}

fn lane_of(code: u8) -> Option<Lane> {
    Lane::ALL.into_iter().find(|lane| lane_code(*lane) == code)
}

/// Numbers in a row whose length was checked.
struct Fixed<'a>(&'a [u8]);

impl Fixed<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (first, rest) = self.0.split_first_chunk().expect("its length was checked");
        self.0 = rest;
        *first
    }
}

fn take<'b>(rest: &mut &'b [u8], length: u32) -> Option<&'b [u8]> {
    let (first, after) = rest.split_at_checked(length as usize)?;
    *rest = after;
    Some(first)
}

fn take_text<'b>(rest: &mut &'b [u8], length: u32) -> Option<&'b str> {
    std::str::from_utf8(take(rest, length)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(entry: Entry<'_>) {
        let mut bytes = Vec::new();
        entry.write(7, &mut bytes);
        assert_eq!(bytes.len(), entry.bytes());
        assert_eq!(body_length(&bytes, bytes.len() as u64), Some(bytes.len() - FRAME_BYTES));
        assert!(is_sound(7, &bytes) && !is_sound(8, &bytes));
        let mut headers = HeaderBuffer::default();
        let read = Entry::read(&bytes[FRAME_BYTES..], &mut headers).expect("it was just written");
        assert_eq!(format!("{read:?}"), format!("{entry:?}"));
    }

    #[test]
    fn what_was_written_is_read_back() {
        let (none, mut two) = (HeaderBuffer::default(), HeaderBuffer::default());
        two.push("ce_id", b"1");
        two.push("", b"");
        let entry = Entry {
            event: "orders.placed",
            topic: "orders",
            lane: Lane::All,
            partition: Some(0),
            tried: true,
            timestamp_ms: -1,
            key: Some(b""),
            headers: &two,
            value: b"v",
        };
        check(entry);
        check(Entry { key: None, partition: None, tried: false, headers: &none, value: b"", ..entry });
        check(Entry { event: "", topic: "ü", lane: Lane::Slow, ..entry });
        check(Entry { lane: Lane::Standard, key: Some(&[0; 1000]), value: &[255; 70_000], ..entry });
    }

    #[test]
    fn a_name_that_its_length_field_cannot_hold_does_not_fit() {
        let headers = HeaderBuffer::default();
        let long = "x".repeat(65_536);
        let entry = Entry {
            event: &long,
            topic: "t",
            lane: Lane::All,
            partition: None,
            tried: false,
            timestamp_ms: 0,
            key: None,
            headers: &headers,
            value: b"",
        };
        assert!(!entry.fits());
        assert!(Entry { event: &long[1..], ..entry }.fits());
    }

    proptest! {
        #[test]
        fn bytes_that_are_no_entry_are_refused_and_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut headers = HeaderBuffer::default();
            let _ = Entry::read(&body, &mut headers);
            prop_assert!(body_length(&body, 1_000).is_none_or(|length| (FIXED_BYTES..1_000).contains(&length)));
        }
    }
}
