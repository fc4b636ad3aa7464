//! Dates, times, decimals, UUIDs and base64, as JSON holds them.
//!
//! In: text. Out: what Avro's logical types are made of; none for what is no such text. Never: a clock, a time zone.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::transcode::time::parse_timestamp;

/// Days since 1970-01-01 of `2026-01-31`.
pub(super) fn date(text: &[u8]) -> Option<i64> {
    if text.len() != 10 {
        return None;
    }
    let (seconds, _) = parse_timestamp(&[text, b"T00:00:00Z"].concat())?;
    Some(seconds / 86_400)
}

/// Units since midnight of `08:30`, `08:30:00` or `08:30:00.125`, rounded down.
pub(super) fn time(text: &[u8], per_second: i64) -> Option<i128> {
    if text.len() < 5 || text.len() > 18 || text.ends_with(b"Z") {
        return None;
    }
    let seconds: &[u8] = if text.len() == 5 { b":00" } else { b"" };
    let (seconds, nanos) = parse_timestamp(&[b"1970-01-01T", text, seconds, b"Z"].concat())?;
    // An offset would lead out of the day, or hide in it.
    let plain = text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b':' | b'.'));
    plain.then(|| count(seconds, nanos, per_second))
}

/// Units since 1970 of an RFC 3339 timestamp, rounded down.
pub(super) fn timestamp(text: &[u8], per_second: i64) -> Option<i128> {
    let (seconds, nanos) = parse_timestamp(text)?;
    Some(count(seconds, nanos, per_second))
}

/// The same of a timestamp without an offset.
pub(super) fn local_timestamp(text: &[u8], per_second: i64) -> Option<i128> {
    let plain = text.iter().skip(10).all(|byte| matches!(byte, b'0'..=b'9' | b':' | b'.' | b'T'));
    if !plain {
        return None;
    }
    timestamp(&[text, b"Z"].concat(), per_second)
}

fn count(seconds: i64, nanos: i32, per_second: i64) -> i128 {
    i128::from(seconds) * i128::from(per_second) + i128::from(nanos) * i128::from(per_second) / 1_000_000_000
}

/// The unscaled value of a JSON number; none if it has more digits than the precision, or than the scale behind the point.
pub(super) fn decimal(number: &[u8], precision: u32, scale: u32) -> Option<i128> {
    let text = std::str::from_utf8(number).ok()?;
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    // The power of ten by which the significant digits are to be multiplied.
    let dropped = i32::try_from(digits.len() - significant.len()).ok()?;
    let behind = i32::try_from(fraction.len()).ok()?;
    let power = exponent.checked_sub(behind)?.checked_add(dropped)?.checked_add(i32::try_from(scale).ok()?)?;
    let power = u32::try_from(power).ok()?;
    if significant.len() as u64 + u64::from(power) > u64::from(precision) {
        return None;
    }
    let magnitude = significant.parse::<i128>().ok()?.checked_mul(10i128.checked_pow(power)?)?;
    Some(if whole.starts_with('-') { -magnitude } else { magnitude })
}

/// The fewest bytes that hold a number in two's complement.
pub(super) fn shortest(number: &[u8; 16]) -> &[u8] {
    let mut rest = &number[..];
    while let [first @ (0 | 0xff), second, ..] = rest
        && (first ^ second) & 0x80 == 0
    {
        rest = &rest[1..];
    }
    rest
}

/// A UUID in its usual form, hyphens included.
pub(super) fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != 36 {
        return None;
    }
    uuid::Uuid::try_parse_ascii(text).ok().map(uuid::Uuid::into_bytes)
}

/// Appends what base64 in the standard or the URL alphabet, padded or not, holds; false if it is not that. `\/`, as some
/// serializers of JSON write it, is `/`.
pub(in crate::transcode) fn base64(text: &[u8], out: &mut Vec<u8>) -> bool {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, CONFIG);
    const FOR_URLS: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, CONFIG);
    let unescaped;
    let text = match memchr::memchr(b'\\', text) {
        None => text,
        Some(_) => {
            unescaped = unescape_slashes(text);
            &unescaped
        }
    };
    let engine = if text.iter().any(|byte| matches!(byte, b'-' | b'_')) { &FOR_URLS } else { &PLAIN };
    engine.decode_vec(text, out).is_ok()
}

fn unescape_slashes(text: &[u8]) -> Vec<u8> {
    let escape = |at: &usize| text[*at] == b'\\' && text.get(at + 1) == Some(&b'/');
    (0..text.len()).filter(|at| !escape(at)).map(|at| text[at]).collect()
}
