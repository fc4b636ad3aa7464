//! Moments and lengths of time on the command line.
//!
//! In: what people write: RFC 3339, `90s`, `15m`, `1h`, `2d`. Out: milliseconds since 1970, durations. Never: a time zone that is
//! guessed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_reflect::prost_types::Timestamp;

use crate::envelope::time;

/// A moment as RFC 3339, in milliseconds since 1970; for clap.
pub fn moment(text: &str) -> Result<i64, String> {
    time::check_time(text).map_err(|problem| format!("{problem}; write `2026-01-31T09:00:00Z`"))?;
    let parsed: Timestamp = text.parse().map_err(|_| "it is no time; write `2026-01-31T09:00:00Z`".to_owned())?;
    Ok(parsed.seconds * 1_000 + i64::from(parsed.nanos) / 1_000_000)
}

/// A length of time such as `90s`, `15m`, `1h` or `2d`; for clap.
pub fn length(text: &str) -> Result<Duration, String> {
    let wrong = || "it is no length of time; write `90s`, `15m`, `1h` or `2d`".to_owned();
    let (at, unit) = text.char_indices().next_back().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..at].parse().map_err(|_| wrong())?;
    number
        .checked_mul(seconds)
        .filter(|seconds| (1..=366 * 86_400).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

/// A moment for people and for [`moment`].
pub fn shown(milliseconds: i64) -> String {
    let nanos = milliseconds.rem_euclid(1_000) * 1_000_000;
    time::from_timestamp(milliseconds.div_euclid(1_000), nanos as i32).unwrap_or_else(|| format!("{milliseconds} ms"))
}

/// Now.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_rfc_3339_and_come_back() {
        for (text, ms) in [("1970-01-01T00:00:01Z", 1_000), ("2026-01-31T10:00:00.250+01:00", 1_769_850_000_250)] {
            assert_eq!(moment(text), Ok(ms), "{text}");
        }
        assert_eq!(moment(&shown(1_769_850_000_250)), Ok(1_769_850_000_250));
        for text in ["", "now", "2026-01-31", "2026-01-31 10:00", "1769850000"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_have_a_unit() {
        assert_eq!(length("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(length("2d"), Ok(Duration::from_secs(172_800)));
        for text in ["", "s", "5", "0m", "-1h", "1.5h", "5ü", "999999999999999999d"] {
            assert!(length(text).is_err(), "{text}");
        }
    }
}
