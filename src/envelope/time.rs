//! RFC 3339 times: checked as senders write them, written from a Protobuf `Timestamp`.
//!
//! In: text, or seconds and nanoseconds. Out: a verdict, or text. Never: a clock, a time zone's name, a rewritten time.

/// Seconds from 1970 of 0001-01-01T00:00:00Z and of 9999-12-31T23:59:59Z: the range of a Protobuf `Timestamp`.
const SECONDS_MIN: i64 = -62_135_596_800;
const SECONDS_MAX: i64 = 253_402_300_799;

/// Checks a time against RFC 3339, section 5.6, in the years 0001 to 9999, with at most nine digits of a second. Gives what
/// is wrong with it. A leap second may only be the last one of a day in UTC (section 5.7).
pub fn check_time(text: &str) -> Result<(), &'static str> {
    let shape = "is not an RFC 3339 time such as `2026-01-31T08:30:00.123Z`";
    let bytes = text.as_bytes();
    let Some((stamp, rest)) = bytes.split_first_chunk::<19>() else { return Err(shape) };
    let number = |from: usize, to: usize| {
        stamp[from..to].iter().try_fold(0u32, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
    };
    let (Some(year), Some(month), Some(day)) = (number(0, 4), number(5, 7), number(8, 10)) else { return Err(shape) };
    let (Some(hour), Some(minute), Some(second)) = (number(11, 13), number(14, 16), number(17, 19)) else {
        return Err(shape);
    };
    let marks = [stamp[4], stamp[7], stamp[10].to_ascii_uppercase(), stamp[13], stamp[16]];
    if marks != *b"--T::" {
        return Err(shape);
    }
    let offset_minutes =
        offset(fraction(rest)?).ok_or("has no valid offset; end it with `Z` or one such as `+01:00`")?;
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return Err("names a day that no calendar has");
    }
    let leap = second == 60 && (i64::from(hour * 60 + minute) - offset_minutes).rem_euclid(24 * 60) == 23 * 60 + 59;
    if hour > 23 || minute > 59 || (second > 59 && !leap) {
        return Err("names a time of day that no clock shows");
    }
    Ok(())
}

/// What stands behind the fraction of a second, if there is one.
fn fraction(rest: &[u8]) -> Result<&[u8], &'static str> {
    let Some(digits_on) = rest.strip_prefix(b".") else { return Ok(rest) };
    let digits = digits_on.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 || digits > 9 {
        return Err("needs one to nine digits after the second's point");
    }
    Ok(&digits_on[digits..])
}

/// Minutes east of UTC.
fn offset(rest: &[u8]) -> Option<i64> {
    let [sign, h1, h2, b':', m1, m2] = *rest else { return matches!(rest, b"Z" | b"z").then_some(0) };
    let digits = [h1, h2, m1, m2];
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let [h1, h2, m1, m2] = digits.map(|b| i64::from(b - b'0'));
    let (hours, minutes) = (h1 * 10 + h2, m1 * 10 + m2);
    let minutes_east = (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)?;
    match sign {
        b'+' => Some(minutes_east),
        b'-' => Some(-minutes_east),
        _ => None,
    }
}

fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A Protobuf `Timestamp` as RFC 3339 in UTC, with 0, 3, 6 or 9 digits of a second as proto3 JSON writes it; none when
/// it is out of range.
pub fn from_timestamp(seconds: i64, nanos: i32) -> Option<String> {
    if !(SECONDS_MIN..=SECONDS_MAX).contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        return None;
    }
    let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let mut out = Vec::with_capacity("0000-00-00T00:00:00.000000000Z".len());
    push_digits(&mut out, year, 4);
    out.push(b'-');
    push_digits(&mut out, month, 2);
    out.push(b'-');
    push_digits(&mut out, day, 2);
    out.push(b'T');
    push_digits(&mut out, second_of_day / 3600, 2);
    out.push(b':');
    push_digits(&mut out, second_of_day / 60 % 60, 2);
    out.push(b':');
    push_digits(&mut out, second_of_day % 60, 2);
    let nanos = i64::from(nanos);
    let (fraction, digits) = match nanos {
        0 => (0, 0),
        _ if nanos % 1_000_000 == 0 => (nanos / 1_000_000, 3),
        _ if nanos % 1_000 == 0 => (nanos / 1_000, 6),
        _ => (nanos, 9),
    };
    if digits > 0 {
        out.push(b'.');
        push_digits(&mut out, fraction, digits);
    }
    out.push(b'Z');
    Some(String::from_utf8(out).expect("digits and marks are ASCII"))
}

fn push_digits(out: &mut Vec<u8>, value: i64, digits: u32) {
    for place in (0..digits).rev() {
        out.push(b'0' + (value / 10i64.pow(place) % 10) as u8);
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar. Years are counted from
/// March, so that the leap day is a year's last; 146,097 days are 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    let from_march_of_0 = days + 719_468;
    let (era, day_of_era) = (from_march_of_0.div_euclid(146_097), from_march_of_0.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Result<(), &str>) {
        let found = check_time(text);
        match expected {
            Ok(()) => assert_eq!(found, Ok(()), "{text}"),
            Err(part) => assert!(found.is_err_and(|e| e.contains(part)), "{text}: {found:?}, not {part}"),
        }
    }

    #[test]
    fn what_is_not_rfc_3339_is_refused() {
        check("", Err("RFC 3339"));
        check("2026-01-31", Err("RFC 3339"));
        check("2026-01-31 08:30:00Z", Err("RFC 3339"));
        check("26-01-31T08:30:00.000Z", Err("RFC 3339"));
        check("2026-1-31T08:30:00.00Z", Err("RFC 3339"));
        check("+026-01-31T08:30:00Z", Err("RFC 3339"));
        check("2026-01-31T08:30:00", Err("offset"));
        check("2026-01-31T08:30:00+0100", Err("offset"));
        check("2026-01-31T08:30:00+24:00", Err("offset"));
        check("2026-01-31T08:30:00+01:60", Err("offset"));
        check("2026-01-31T08:30:00Zulu", Err("offset"));
        check("2026-01-31T08:30:00é", Err("offset"));
        check("2026-01-31T08:30:00.Z", Err("nine digits"));
        check("2026-01-31T08:30:00.1234567890Z", Err("nine digits"));
        check("0000-01-01T00:00:00Z", Err("day"));
        check("2026-00-01T00:00:00Z", Err("day"));
        check("2026-13-01T00:00:00Z", Err("day"));
        check("2026-04-31T00:00:00Z", Err("day"));
        check("2026-02-29T00:00:00Z", Err("day"));
        check("1900-02-29T00:00:00Z", Err("day"));
        check("2026-01-31T24:00:00Z", Err("clock"));
        check("2026-01-31T08:60:00Z", Err("clock"));
        check("2026-01-31T08:30:60Z", Err("clock"));
        check("2026-01-31T23:59:61Z", Err("clock"));
    }

    #[test]
    fn the_examples_of_rfc_3339_are_times() {
        check("1985-04-12T23:20:50.52Z", Ok(()));
        check("1996-12-19T16:39:57-08:00", Ok(()));
        check("1990-12-31T23:59:60Z", Ok(()));
        check("1990-12-31T15:59:60-08:00", Ok(()));
        check("1937-01-01T12:00:27.87+00:20", Ok(()));
        check("2024-02-29t00:00:00.123456789z", Ok(()));
        check("2000-02-29T00:00:00-00:00", Ok(()));
    }

    #[test]
    fn a_timestamp_is_written_as_proto3_json_writes_it() {
        let check = |seconds, nanos, expected: Option<&str>| {
            assert_eq!(from_timestamp(seconds, nanos).as_deref(), expected);
        };
        check(SECONDS_MIN - 1, 0, None);
        check(SECONDS_MAX + 1, 0, None);
        check(0, -1, None);
        check(0, 1_000_000_000, None);
        check(SECONDS_MIN, 0, Some("0001-01-01T00:00:00Z"));
        check(SECONDS_MAX, 999_999_999, Some("9999-12-31T23:59:59.999999999Z"));
        check(0, 0, Some("1970-01-01T00:00:00Z"));
        check(-1, 500_000_000, Some("1969-12-31T23:59:59.500Z"));
        check(951_782_400, 1_000, Some("2000-02-29T00:00:00.000001Z"));
    }

    proptest! {
        #[test]
        fn every_timestamp_in_range_becomes_a_valid_time(seconds in SECONDS_MIN..=SECONDS_MAX, nanos in 0..1_000_000_000) {
            let text = from_timestamp(seconds, nanos).expect("in range");
            prop_assert_eq!(check_time(&text), Ok(()));
            // prost-types knows the calendar independently of us.
            let back: prost_reflect::prost_types::Timestamp = text.parse().expect("prost reads it");
            prop_assert_eq!((back.seconds, back.nanos), (seconds, nanos));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = check_time(&text);
        }
    }
}
