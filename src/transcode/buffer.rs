//! Where back-ends write: a byte buffer that is filled by position.
//!
//! In: numbers and slices. Out: bytes. Never: shrinks while it is in use, so that after the first events no write has
//! to grow it; its bytes past `len` are left over from earlier events and are never read.

use wide::u8x16;

/// An append-only buffer whose memory is kept from event to event.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// Always initialised to its full length; only the first `len` bytes are content.
    bytes: Vec<u8>,
    len: usize,
}

/// Capacity that is kept between events; what one huge event needed beyond it is given back.
const KEPT_BYTES_MAX: usize = 1 << 20;

impl Buffer {
    /// The content.
    pub(super) fn content(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Bytes written so far.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Forgets the content, keeps the memory up to a limit.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        if self.bytes.len() > KEPT_BYTES_MAX {
            self.bytes.truncate(KEPT_BYTES_MAX);
            self.bytes.shrink_to_fit();
        }
    }

    /// Forgets what was written after the first `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The next `N` bytes, to be filled in whole or in part; `len` is left to the caller.
    #[inline(always)]
    fn next<const N: usize>(&mut self) -> &mut [u8; N] {
        if self.bytes.len() < self.len + N {
            self.grow(N);
        }
        let (from, to) = (self.len, self.len + N);
        (&mut self.bytes[from..to]).try_into().expect("the slice is N long")
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        let wanted = (self.len + more).max(self.bytes.len() * 2).max(512);
        self.bytes.resize(wanted, 0);
    }

    /// One byte.
    #[inline]
    pub(super) fn byte(&mut self, byte: u8) {
        if self.len >= self.bytes.len() {
            self.grow(1);
        }
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    /// Bytes as they are.
    #[inline]
    pub(super) fn slice(&mut self, bytes: &[u8]) {
        // Most strings of events are short. Two overlapping copies of fixed size are a few instructions each; a copy
        // of unknown length is a call.
        let n = bytes.len();
        if n > 64 {
            return self.long_slice(bytes);
        }
        let to = self.next::<64>();
        if let (Some(head), Some(tail)) = (bytes.first_chunk::<32>(), bytes.last_chunk::<32>()) {
            to[..32].copy_from_slice(head);
            to[n - 32..n].copy_from_slice(tail);
        } else if let (Some(head), Some(tail)) = (bytes.first_chunk::<16>(), bytes.last_chunk::<16>()) {
            to[..16].copy_from_slice(head);
            to[n - 16..n].copy_from_slice(tail);
        } else if let (Some(head), Some(tail)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            to[..8].copy_from_slice(head);
            to[n - 8..n].copy_from_slice(tail);
        } else if let (Some(head), Some(tail)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            to[..4].copy_from_slice(head);
            to[n - 4..n].copy_from_slice(tail);
        } else {
            for (to, from) in to.iter_mut().zip(bytes) {
                *to = *from;
            }
        }
        self.len += n;
    }

    /// Bytes as Avro has them, behind their length. Returns true if all are ASCII, which comes for next to nothing while
    /// they are copied; false if they are not, or too many to tell.
    #[inline]
    pub(super) fn avro_bytes(&mut self, bytes: &[u8]) -> bool {
        let n = bytes.len();
        let room = self.bytes.get_mut(self.len..).and_then(|room| room.first_chunk_mut::<64>());
        let (Some([length, to @ ..]), 0..64) = (room, n) else { return self.long_avro_bytes(bytes) };
        *length = (n << 1) as u8;
        let is_ascii = |high: u64| high & 0x8080_8080_8080_8080 == 0;
        // Two overlapping copies of fixed size, as in `slice`; `to_bitmask` has a bit for each byte over 0x7f.
        let all_ascii = if let (Some(head), Some(tail)) = (bytes.first_chunk::<32>(), bytes.last_chunk::<32>()) {
            to[..32].copy_from_slice(head);
            to[n - 32..n].copy_from_slice(tail);
            let halves = [head, tail].map(|half| half.as_chunks::<16>().0);
            let halves = halves.map(|quarters| u8x16::from(quarters[0]) | u8x16::from(quarters[1]));
            (halves[0] | halves[1]).to_bitmask() == 0
        } else if let (Some(head), Some(tail)) = (bytes.first_chunk::<16>(), bytes.last_chunk::<16>()) {
            to[..16].copy_from_slice(head);
            to[n - 16..n].copy_from_slice(tail);
            (u8x16::from(*head) | u8x16::from(*tail)).to_bitmask() == 0
        } else if let (Some(head), Some(tail)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            to[..8].copy_from_slice(head);
            to[n - 8..n].copy_from_slice(tail);
            is_ascii(u64::from_le_bytes(*head) | u64::from_le_bytes(*tail))
        } else if let (Some(head), Some(tail)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            to[..4].copy_from_slice(head);
            to[n - 4..n].copy_from_slice(tail);
            is_ascii(u64::from(u32::from_le_bytes(*head) | u32::from_le_bytes(*tail)))
        } else {
            let mut high = 0;
            for (to, from) in to.iter_mut().zip(bytes) {
                *to = *from;
                high |= u64::from(*from);
            }
            is_ascii(high)
        };
        self.len += 1 + n;
        all_ascii
    }

    /// The same of many bytes, or where there was no room.
    #[inline(never)]
    fn long_avro_bytes(&mut self, bytes: &[u8]) -> bool {
        self.zigzag(bytes.len() as i64);
        self.slice(bytes);
        false
    }

    fn long_slice(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if self.bytes.len() < end {
            self.grow(bytes.len());
        }
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    /// A base-128 varint.
    #[inline]
    pub(super) fn varint(&mut self, value: u64) {
        if value < 0x80 {
            self.byte(value as u8);
        } else {
            self.long_varint(value);
        }
    }

    #[inline(never)]
    fn long_varint(&mut self, mut value: u64) {
        let to = self.next::<10>();
        if value < 1 << 56 {
            // Seven bits a byte, the inverse of what `wire` does when it reads.
            let fours = value & 0x0fff_ffff | (value & 0x00ff_ffff_f000_0000) << 4;
            let pairs = fours & 0x0000_3fff_0000_3fff | (fours & 0x0fff_c000_0fff_c000) << 2;
            let sevens = pairs & 0x007f_007f_007f_007f | (pairs & 0x3f80_3f80_3f80_3f80) << 1;
            let n = varint_len(value);
            let more = 0x8080_8080_8080_8080 & ((1 << (8 * (n - 1))) - 1);
            to[..8].copy_from_slice(&(sevens | more).to_le_bytes());
            self.len += n;
            return;
        }
        let mut n = 0;
        while value >= 0x80 && n < 9 {
            to[n] = value as u8 | 0x80;
            value >>= 7;
            n += 1;
        }
        to[n] = value as u8;
        self.len += n + 1;
    }

    /// A zig-zag varint: Avro's `int` and `long`, Protobuf's `sint64`.
    #[inline]
    pub(super) fn zigzag(&mut self, value: i64) {
        self.varint(((value << 1) ^ (value >> 63)) as u64);
    }

    /// Four bytes, little endian.
    #[inline]
    pub(super) fn fixed32(&mut self, value: u32) {
        *self.next::<4>() = value.to_le_bytes();
        self.len += 4;
    }

    /// Eight bytes, little endian.
    #[inline]
    pub(super) fn fixed64(&mut self, value: u64) {
        *self.next::<8>() = value.to_le_bytes();
        self.len += 8;
    }

    /// Leaves room for the varint length of what is written next, and says where. `guess` is the length expected.
    #[inline]
    pub(super) fn open_length(&mut self, guess: usize) -> OpenLength {
        let width = varint_len(guess as u64);
        let at = self.len;
        for _ in 0..width {
            self.byte(0);
        }
        OpenLength { at, width }
    }

    /// Writes the length of everything since `open` as Protobuf does, moving it if the guess took another number of bytes.
    pub(super) fn close_length(&mut self, open: OpenLength) {
        self.close(open, |length| length as u64);
    }

    /// The same as Avro does, zig-zag encoded.
    pub(super) fn close_avro_length(&mut self, open: OpenLength) {
        self.close(open, |length| (length as u64) << 1);
    }

    /// Writes how many items stand since `open`, as Avro does, in place of a length.
    #[inline]
    pub(super) fn close_avro_count(&mut self, open: OpenLength, count: usize) {
        match self.bytes.get_mut(open.at) {
            Some(byte) if open.width == 1 && count < 64 => *byte = (count << 1) as u8,
            _ => self.close(open, |_| (count as u64) << 1),
        }
    }

    fn close(&mut self, open: OpenLength, prefix: impl Fn(usize) -> u64) {
        let start = open.at + open.width;
        let length = self.len - start;
        let width = varint_len(prefix(length));
        if width != open.width {
            if width > open.width {
                self.next::<10>();
            }
            self.bytes.copy_within(start..self.len, open.at + width);
        }
        // Not by `varint`, which may write over what follows.
        let (prefix, last) = (prefix(length), width - 1);
        for (i, byte) in self.bytes[open.at..=open.at + last].iter_mut().enumerate() {
            *byte = (prefix >> (7 * i)) as u8 & 0x7f | if i < last { 0x80 } else { 0 };
        }
        self.len = open.at + width + length;
    }
}

impl std::io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Room for a length that is not known yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenLength {
    at: usize,
    width: usize,
}

impl OpenLength {
    /// Where the room begins.
    pub(super) fn at(self) -> usize {
        self.at
    }
}

/// Bytes that a varint takes, 1 to 10.
#[inline]
pub(super) fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_takes_as_many_bytes_as_varint_len_says() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut buffer = Buffer::default();
                buffer.varint(value);
                assert_eq!(buffer.len(), varint_len(value), "{value}");
                assert_eq!(prost::decode_length_delimiter(buffer.content()).ok(), usize::try_from(value).ok());
            }
        }
    }

    #[test]
    fn slices_of_every_length_arrive_whole() {
        let bytes: Vec<u8> = (0..100).collect();
        let (mut buffer, mut expected) = (Buffer::default(), Vec::new());
        for n in 0..bytes.len() {
            buffer.slice(&bytes[..n]);
            expected.extend_from_slice(&bytes[..n]);
        }
        assert_eq!(buffer.content(), expected);
    }

    #[test]
    fn only_bytes_of_ascii_are_said_to_be_that() {
        for n in 0..80 {
            for high in (0..n).map(Some).chain([None]) {
                let mut bytes: Vec<u8> = (0..n as u8).collect();
                if let Some(high) = high {
                    bytes[high] |= 0x80;
                }
                let mut buffer = Buffer::default();
                let is_ascii = [0, 1].map(|_| buffer.avro_bytes(&bytes));
                assert!(!is_ascii.contains(&true) || high.is_none(), "{n} {high:?}");
                let length = if n < 64 { vec![(n << 1) as u8] } else { vec![(n << 1) as u8 | 0x80, 1] };
                assert_eq!(buffer.content(), [&length[..], &bytes, &length, &bytes].concat());
                // The first had no room, and was not asked about.
                assert_eq!(is_ascii[1], n < 64 && high.is_none(), "{n} {high:?}");
            }
        }
    }

    #[test]
    fn a_length_is_right_whatever_was_guessed() {
        for guess in [0, 127, 128, 16_383, 16_384, 3_000_000] {
            for length in [0, 1, 127, 128, 16_383, 16_384] {
                let mut buffer = Buffer::default();
                buffer.slice(b"before");
                let open = buffer.open_length(guess);
                buffer.slice(&vec![7; length]);
                buffer.close_length(open);
                let mut expected = b"before".to_vec();
                prost::encode_length_delimiter(length, &mut expected).unwrap();
                expected.resize(expected.len() + length, 7);
                assert_eq!(buffer.content(), expected, "{guess} {length}");
            }
        }
    }
}
