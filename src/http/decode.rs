//! Decompression within the body limit and the budget.

use std::cell::RefCell;
use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use zstd::zstd_safe::{self, DCtx};

use super::admission::Hold;
use super::body::too_large;
use super::refusal::Refusal;
use crate::outcome::Code;

/// What a gzip decoder holds: a window of 32 KiB twice, an output buffer of 32 KiB, tables.
const GZIP_DECODER_BYTES: usize = 112 * 1024;

/// A gzip body as it arrives.
pub(super) struct Gzip<'b> {
    decoder: MultiGzDecoder<Sink<'b>>,
}

impl<'b> Gzip<'b> {
    pub(super) fn new(bytes_max: usize, mut hold: Hold<'b>) -> Result<Self, Refusal> {
        hold.grow(GZIP_DECODER_BYTES)?;
        let sink = Sink { bytes: Vec::new(), bytes_max, hold, refused: None };
        Ok(Gzip { decoder: MultiGzDecoder::new(sink) })
    }

    /// Takes the next chunk as sent.
    pub(super) fn write(&mut self, chunk: &[u8]) -> Result<(), Refusal> {
        let written = self.decoder.write_all(chunk);
        written.map_err(|_| self.decoder.get_mut().refused.take().unwrap_or_else(|| damaged("gzip")))
    }

    /// The whole body.
    pub(super) fn finish(mut self) -> Result<(Bytes, Hold<'b>), Refusal> {
        if self.decoder.try_finish().is_err() {
            return Err(self.decoder.get_mut().refused.take().unwrap_or_else(|| damaged("gzip")));
        }
        let sink = self.decoder.finish().map_err(|_| damaged("gzip"))?;
        Ok((sink.bytes.into(), sink.hold))
    }
}

/// Where a decoder writes: memory with two limits.
struct Sink<'b> {
    bytes: Vec<u8>,
    bytes_max: usize,
    hold: Hold<'b>,
    /// Why it takes no more; [`io::Error`] could not carry it.
    refused: Option<Refusal>,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let refused = if self.bytes.len() + bytes.len() > self.bytes_max {
            let bytes = self.bytes.len() + bytes.len();
            Err(too_large(format_args!("the decompressed body has {bytes} bytes and more"), self.bytes_max))
        } else {
            self.hold.grow(bytes.len())
        };
        if let Err(refusal) = refused {
            self.refused = Some(refusal);
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

thread_local! {
    /// Tables of 160 KB, no window: one a thread, used within one call only.
    static ZSTD: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// Decompresses a Zstandard body. A frame that does not say how long it will be is tried with growing buffers, each four
/// times the one before, so that all tries together cost at most a third more than the last.
pub(super) fn unzstd(wire: &[u8], bytes_max: usize, hold: &mut Hold<'_>) -> Result<Vec<u8>, Refusal> {
    let declared = zstd_safe::get_frame_content_size(wire).map_err(|_| damaged("zstd"))?;
    if let Some(bytes) = declared
        && bytes > bytes_max as u64
    {
        return Err(too_large(format_args!("the decompressed body has {bytes} bytes"), bytes_max));
    }
    let mut capacity = declared.map_or(wire.len().saturating_mul(4), |bytes| bytes as usize).clamp(1, bytes_max);
    let mut held = 0;
    loop {
        hold.grow(capacity - held)?;
        held = capacity;
        let mut bytes = Vec::with_capacity(capacity);
        match ZSTD.with_borrow_mut(|zstd| zstd.decompress(&mut bytes, wire)) {
            Ok(_) if bytes.len() <= bytes_max => return Ok(bytes),
            Err(code) if !is_too_small(code) => return Err(damaged("zstd")),
            _ if capacity == bytes_max => {
                return Err(too_large(format_args!("the decompressed body has more bytes"), bytes_max));
            }
            _ => capacity = capacity.saturating_mul(4).min(bytes_max),
        }
    }
}

/// `ZSTD_error_dstSize_tooSmall`, known by its name: the safe bindings do not show the number.
fn is_too_small(code: usize) -> bool {
    zstd_safe::get_error_name(code) == "Destination buffer is too small"
}

#[cold]
fn damaged(coding: &str) -> Refusal {
    Refusal::new(Code::InvalidBody, format!("the body is not a whole {coding} stream"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::admission::Budget;
    use super::*;

    const BYTES_MAX: usize = 100_000;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// As an encoder that does not know the length writes it: the frame declares a window, and no content size.
    fn zstd_streamed(bytes: &[u8], window_log: u32) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn ungzip(wire: &[u8], chunk: usize, budget: &Budget) -> Result<Vec<u8>, Code> {
        let mut gzip = Gzip::new(BYTES_MAX, budget.hold()).map_err(|refusal| refusal.code())?;
        for chunk in wire.chunks(chunk) {
            gzip.write(chunk).map_err(|refusal| refusal.code())?;
        }
        gzip.finish().map(|(bytes, _)| bytes.to_vec()).map_err(|refusal| refusal.code())
    }

    fn budget() -> Budget {
        Budget::new(10_000_000, Arc::default())
    }

    fn check_gzip(wire: &[u8], expected: Result<&[u8], Code>) {
        for chunk in [1, 7, wire.len().max(1)] {
            assert_eq!(ungzip(wire, chunk, &budget()).as_deref(), expected.as_ref().copied(), "{chunk} byte chunks");
        }
    }

    fn check_zstd(wire: &[u8], expected: Result<&[u8], Code>) {
        let budget = budget();
        let got = unzstd(wire, BYTES_MAX, &mut budget.hold()).map_err(|refusal| refusal.code());
        assert_eq!(got.as_deref(), expected.as_ref().copied());
    }

    #[test]
    fn a_damaged_stream_is_refused() {
        let whole = gzip(b"{\"event\":\"a\"}");
        for length in 0..whole.len() {
            check_gzip(&whole[..length], Err(Code::InvalidBody));
        }
        check_gzip(b"no gzip at all, just some text", Err(Code::InvalidBody));
        check_gzip(&[&whole[..], b"garbage"].concat(), Err(Code::InvalidBody));
        let whole = zstd::encode_all(&b"{\"event\":\"a\"}"[..], 3).unwrap();
        for length in 0..whole.len() {
            check_zstd(&whole[..length], Err(Code::InvalidBody));
        }
        check_zstd(b"no zstd at all", Err(Code::InvalidBody));
        check_zstd(&[&whole[..], b"garbage"].concat(), Err(Code::InvalidBody));
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let zeros = vec![0; 5_000_000];
        check_gzip(&gzip(&zeros), Err(Code::BodyTooLarge));
        check_zstd(&zstd::encode_all(&zeros[..], 3).unwrap(), Err(Code::BodyTooLarge));
        check_zstd(&zstd::bulk::compress(&zeros, 3).unwrap(), Err(Code::BodyTooLarge));
        let just_over = vec![0; BYTES_MAX + 1];
        check_gzip(&gzip(&just_over), Err(Code::BodyTooLarge));
        check_zstd(&zstd_streamed(&just_over, 17), Err(Code::BodyTooLarge));
    }

    #[test]
    fn what_just_fits_is_taken_whatever_window_it_declares() {
        let just = vec![7; BYTES_MAX];
        check_gzip(&gzip(&just), Ok(&just));
        for window_log in [10, 21, 27] {
            check_zstd(&zstd_streamed(&just, window_log), Ok(&just));
        }
        check_zstd(&zstd_streamed(b"", 21), Ok(b""));
        check_gzip(&gzip(b""), Ok(b""));
    }

    #[test]
    fn several_members_or_frames_are_one_body() {
        check_gzip(&[gzip(b"one "), gzip(b""), gzip(b"two")].concat(), Ok(b"one two"));
        let frames = [zstd_streamed(b"one ", 20), zstd::bulk::compress(b"two", 1).unwrap()].concat();
        check_zstd(&frames, Ok(b"one two"));
    }

    #[test]
    fn what_a_decoder_needs_is_in_the_budget() {
        let small = Budget::new(GZIP_DECODER_BYTES + 10, Arc::default());
        assert_eq!(ungzip(&gzip(&[1; 10]), 1, &small).as_deref(), Ok(&[1; 10][..]));
        assert_eq!(ungzip(&gzip(&[1; 11]), 1, &small), Err(Code::Overloaded));
        let wire = zstd_streamed(&[1; 50_000], 17);
        let refused = unzstd(&wire, BYTES_MAX, &mut Budget::new(1_000, Arc::default()).hold());
        assert_eq!(refused.unwrap_err().code(), Code::Overloaded);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(wire in proptest::collection::vec(any::<u8>(), 0..300), magic in any::<bool>()) {
            let with_magic = |magic_bytes: &[u8]| if magic { [magic_bytes, &wire].concat() } else { wire.clone() };
            let _ = ungzip(&with_magic(&[0x1f, 0x8b, 8, 0]), 13, &budget());
            let _ = unzstd(&with_magic(&[0x28, 0xb5, 0x2f, 0xfd]), BYTES_MAX, &mut budget().hold());
        }
    }
}
