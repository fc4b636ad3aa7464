//! Timestamps and durations: `google.protobuf.Timestamp` and `Duration` against RFC 3339 and microseconds.
//!
//! In: seconds and nanoseconds, or text. Out: the other. Never: a clock.

use super::fail::{Done, Fail};
use crate::outcome::Code;

/// 0001-01-01T00:00:00Z, as timestamp.proto says.
const SECONDS_MIN: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z.
const SECONDS_MAX: i64 = 253_402_300_799;
/// About 10,000 years, as duration.proto says.
const DURATION_SECONDS_MAX: i64 = 315_576_000_000;
const NANOS: i128 = 1_000_000_000;

/// Microseconds since 1970, rounded down; out of range is refused, or becomes the nearest timestamp in range.
pub(super) fn timestamp_micros(seconds: i64, nanos: i32, clamp: bool) -> Done<i64> {
    let (seconds, nanos) = timestamp_in_range(seconds, nanos, clamp)?;
    Ok(seconds * 1_000_000 + i64::from(nanos / 1_000))
}

/// The timestamp itself if it is in range, else refused or the nearest one.
pub(super) fn timestamp_in_range(seconds: i64, nanos: i32, clamp: bool) -> Done<(i64, i32)> {
    if (SECONDS_MIN..=SECONDS_MAX).contains(&seconds) && (0..1_000_000_000).contains(&nanos) {
        return Ok((seconds, nanos));
    }
    if !clamp {
        let what = "the timestamp is outside 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999999Z, \
                    or its nanos outside 0 to 999,999,999";
        return Err(Fail::new(Code::OutOfRange, what));
    }
    let all = i128::from(seconds) * NANOS + i128::from(nanos);
    let all = all.clamp(i128::from(SECONDS_MIN) * NANOS, i128::from(SECONDS_MAX) * NANOS + NANOS - 1);
    Ok((all.div_euclid(NANOS) as i64, all.rem_euclid(NANOS) as i32))
}

/// Units of a timestamp as Java's conversions count them: nanoseconds are cut off towards zero, whatever is out of range is
/// carried, and what a `long` cannot hold wraps.
pub(super) fn java_count(seconds: i64, nanos: i32, per_second: i64) -> i64 {
    seconds.wrapping_mul(per_second).wrapping_add(i64::from(nanos) / (1_000_000_000 / per_second))
}

/// Microseconds, rounded down; out of range is refused.
pub(super) fn duration_micros(seconds: i64, nanos: i32) -> Done<i64> {
    let in_range = (-DURATION_SECONDS_MAX..=DURATION_SECONDS_MAX).contains(&seconds);
    let signs_agree = seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0);
    if !in_range || !signs_agree || nanos.unsigned_abs() > 999_999_999 {
        let what = "the duration is over 315,576,000,000 seconds, or its nanos are over 999,999,999 or of another sign";
        return Err(Fail::new(Code::OutOfRange, what));
    }
    Ok(seconds * 1_000_000 + i64::from(nanos).div_euclid(1_000))
}

/// Seconds and nanos of a count since 1970 of so many to the second.
pub(super) fn split(count: i64, per_second: i64) -> (i64, i32) {
    let nanos = count.rem_euclid(per_second) * (1_000_000_000 / per_second);
    (count.div_euclid(per_second), nanos as i32)
}

/// RFC 3339 with `Z` and 0, 3, 6 or 9 digits of fraction, as proto3 JSON asks. In range only.
pub(super) fn timestamp_text(seconds: i64, nanos: i32) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let fraction = fraction_text(nanos.unsigned_abs());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Seconds with 0, 3, 6 or 9 digits of fraction and `s`.
pub(super) fn duration_text(seconds: i64, nanos: i32) -> String {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    format!("{sign}{}{}s", seconds.unsigned_abs(), fraction_text(nanos.unsigned_abs()))
}

fn fraction_text(nanos: u32) -> String {
    match nanos {
        0 => String::new(),
        n if n % 1_000_000 == 0 => format!(".{:03}", n / 1_000_000),
        n if n % 1_000 == 0 => format!(".{:06}", n / 1_000),
        n => format!(".{n:09}"),
    }
}

/// Reads RFC 3339: upper-case `T` and `Z`, an offset, at most nine digits of fraction, in range.
pub(super) fn parse_timestamp(text: &[u8]) -> Option<(i64, i32)> {
    let number = |at: usize, n: usize| digits(text.get(at..at + n)?);
    let fixed = |at: usize, byte: u8| (*text.get(at)? == byte).then_some(());
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    fixed(4, b'-')?;
    fixed(7, b'-')?;
    fixed(10, b'T')?;
    fixed(13, b':')?;
    fixed(16, b':')?;
    if !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, rest) = parse_fraction(&text[19..])?;
    let offset = match rest {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3_600 + minutes * 60;
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    (SECONDS_MIN..=SECONDS_MAX).contains(&seconds).then_some((seconds, nanos))
}

/// Reads `-1.5s`: at most nine digits of fraction, in range.
pub(super) fn parse_duration(text: &[u8]) -> Option<(i64, i32)> {
    let text = text.strip_suffix(b"s")?;
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let whole = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if whole == 0 || whole > 12 {
        return None;
    }
    let seconds = digits(&text[..whole])?;
    let (nanos, rest) = parse_fraction(&text[whole..])?;
    let sign = if negative { -1 } else { 1 };
    let in_range = rest.is_empty() && seconds <= DURATION_SECONDS_MAX;
    in_range.then_some((seconds * sign, nanos * sign as i32))
}

/// Reads `.` and one to nine digits, if there are any; the rest is what follows.
fn parse_fraction(text: &[u8]) -> Option<(i32, &[u8])> {
    let Some(fraction) = text.strip_prefix(b".") else { return Some((0, text)) };
    let n = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if n == 0 || n > 9 {
        return None;
    }
    let nanos = digits(&fraction[..n])? * 10i64.pow(9 - n as u32);
    Some((nanos as i32, &fraction[n..]))
}

fn digits(text: &[u8]) -> Option<i64> {
    let digit = |value: i64, byte: &u8| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'));
    text.iter().try_fold(0, digit)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar. Years count from March, so that the leap day
/// is the last of its year; 400 years are 146,097 days.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_that_is_not_rfc_3339_or_out_of_range_is_refused() {
        for text in [
            "",
            "2024",
            "2024-01-01",
            "2024-01-01T00:00:00",
            "2024-01-01t00:00:00Z",
            "2024-01-01T00:00:00z",
            "2024-01-01 00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-01-32T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:60Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00.1234567890Z",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00+0100",
            "2024-01-01T00:00:00Z ",
            "0000-12-31T23:59:59Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "10000-01-01T00:00:00Z",
            "+024-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_timestamp(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_timestamp_is_read_and_written_alike() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("1969-12-31T23:59:59.999999999Z", -1, 999_999_999),
            ("2024-02-29T12:34:56.120Z", 1_709_210_096, 120_000_000),
            ("2000-03-01T00:00:00.000001Z", 951_868_800, 1_000),
            ("0001-01-01T00:00:00Z", SECONDS_MIN, 0),
            ("9999-12-31T23:59:59.999999999Z", SECONDS_MAX, 999_999_999),
        ] {
            assert_eq!(parse_timestamp(text.as_bytes()), Some((seconds, nanos)), "{text}");
            assert_eq!(timestamp_text(seconds, nanos), text);
        }
        assert_eq!(parse_timestamp(b"2024-01-01T01:30:00.5+01:30"), Some((1_704_067_200, 500_000_000)));
        assert_eq!(parse_timestamp(b"2023-12-31T22:30:00-01:30"), Some((1_704_067_200, 0)));
    }

    #[test]
    fn every_day_of_the_range_is_its_own_inverse() {
        for days in (SECONDS_MIN / 86_400..=SECONDS_MAX / 86_400).step_by(17) {
            let (year, month, day) = civil(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
    }

    #[test]
    fn a_duration_is_read_and_written_alike() {
        for (text, parsed) in [
            ("1.500s", Some((1, 500_000_000))),
            ("-1.500s", Some((-1, -500_000_000))),
            ("-0.000000001s", Some((0, -1))),
            ("0s", Some((0, 0))),
            ("315576000000s", Some((315_576_000_000, 0))),
        ] {
            assert_eq!(parse_duration(text.as_bytes()), parsed, "{text}");
            let (seconds, nanos) = parsed.unwrap();
            assert_eq!(duration_text(seconds, nanos), text);
        }
        for text in ["", "s", "1", "1.s", ".5s", "+1s", "1.0000000001s", "315576000001s", "1 s", "--1s", "1e3s"] {
            assert_eq!(parse_duration(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn microseconds_round_down_and_the_policy_decides_outside_the_range() {
        assert_eq!(timestamp_micros(-1, 1, false).unwrap(), -1_000_000);
        assert_eq!(timestamp_micros(-1, 999_999_999, false).unwrap(), -1);
        assert_eq!(timestamp_micros(0, 1_000_000_000, false).unwrap_err().code, Code::OutOfRange);
        assert_eq!(timestamp_micros(SECONDS_MAX + 1, 0, false).unwrap_err().code, Code::OutOfRange);
        assert_eq!(timestamp_micros(0, 1_000_000_000, true).unwrap(), 1_000_000);
        assert_eq!(timestamp_micros(0, -1, true).unwrap(), -1);
        assert_eq!(timestamp_micros(i64::MAX, i32::MAX, true).unwrap(), SECONDS_MAX * 1_000_000 + 999_999);
        assert_eq!(timestamp_micros(i64::MIN, i32::MIN, true).unwrap(), SECONDS_MIN * 1_000_000);
        assert_eq!(duration_micros(-1, -1).unwrap(), -1_000_001);
        assert_eq!(duration_micros(1, -1).unwrap_err().code, Code::OutOfRange);
    }
}
