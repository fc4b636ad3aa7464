//! What was measured over time, kept small: how full a disk was, what goes through a topic, how far a group is behind.
//!
//! In: a value and its time, pass by pass. Out: growth, forecasts, peaks. Never: more than a fixed number of points for each; a
//! forecast of less than three points.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Points of one series: two weeks of hours.
const POINTS_MAX: usize = 336;
/// Days whose peaks are kept.
const DAYS_MAX: usize = 14;

/// Values over time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    points: Vec<(i64, f64)>,
}

impl Series {
    /// Adds a value; those closer together than `spacing_ms` are thinned out, the newest always stays.
    pub fn add(&mut self, at_ms: i64, value: f64, spacing_ms: i64) {
        if let [.., (before, _), (last, _)] = self.points[..]
            && last - before < spacing_ms
        {
            self.points.pop();
        }
        self.points.push((at_ms, value));
        if self.points.len() > POINTS_MAX {
            self.points.remove(0);
        }
    }

    /// Keeps the newest so many points.
    pub fn keep(&mut self, most: usize) {
        self.points.drain(..self.points.len().saturating_sub(most));
    }

    /// The newest value.
    pub fn last(&self) -> Option<f64> {
        Some(self.points.last()?.1)
    }

    /// By how much it grows in a day, as the straight line closest to all points says; none of fewer than three points.
    pub fn growth_per_day(&self) -> Option<f64> {
        if self.points.len() < 3 {
            return None;
        }
        // From the first point, so that no precision is lost on milliseconds since 1970.
        let origin = self.points[0].0;
        let days = |at_ms: i64| (at_ms - origin) as f64 / DAY_MS as f64;
        let count = self.points.len() as f64;
        let mean_x = self.points.iter().map(|(at, _)| days(*at)).sum::<f64>() / count;
        let mean_y = self.points.iter().map(|(_, value)| value).sum::<f64>() / count;
        let spread = self.points.iter().map(|(at, _)| (days(*at) - mean_x).powi(2)).sum::<f64>();
        let together = self.points.iter().map(|(at, value)| (days(*at) - mean_x) * (value - mean_y)).sum::<f64>();
        (spread > 0.0).then(|| together / spread)
    }

    /// When it comes to a limit at the present growth, milliseconds since 1970; none when it does not grow.
    pub fn reaches(&self, limit: f64) -> Option<i64> {
        let (at_ms, value) = *self.points.last()?;
        let growth = self.growth_per_day().filter(|growth| *growth > 0.0)?;
        let days = ((limit - value) / growth).max(0.0);
        // Past a hundred years it is nobody's forecast.
        (days < 36_500.0).then(|| at_ms + (days * DAY_MS as f64) as i64)
    }

    /// Whether it has only grown, over at least three points.
    pub fn only_grows(&self) -> bool {
        self.points.len() >= 3
            && self.points.windows(2).all(|pair| pair[1].1 >= pair[0].1)
            && self.points[self.points.len() - 1].1 > self.points[0].1
    }
}

/// What goes through a topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Traffic {
    /// When it was looked at first and last, milliseconds since 1970.
    pub first_ms: i64,
    /// See `first_ms`.
    pub last_ms: i64,
    /// When its end last moved, as far as was seen.
    pub moved_ms: i64,
    /// Records written since it was made: the sum of its partitions' ends.
    pub end: i64,
    /// Bytes of one copy.
    pub bytes: u64,
    /// Most bytes a second between two looks, by day (days since 1970).
    pub peaks: BTreeMap<i64, f64>,
}

/// A topic at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// When.
    pub at_ms: i64,
    /// Sum of its partitions' first offsets.
    pub begin: i64,
    /// Sum of its partitions' ends.
    pub end: i64,
    /// Bytes of one copy.
    pub bytes: u64,
}

impl Traffic {
    /// Adds a look.
    pub fn add(&mut self, look: Look) {
        let is_first = self.first_ms == 0;
        // A topic that was made anew begins anew.
        if is_first || look.end < self.end {
            let Look { at_ms, end, bytes, .. } = look;
            *self = Traffic { first_ms: at_ms, last_ms: at_ms, moved_ms: at_ms, end, bytes, peaks: BTreeMap::new() };
            return;
        }
        let seconds = (look.at_ms - self.last_ms) as f64 / 1e3;
        let kept = look.end - look.begin;
        if look.end > self.end && seconds > 0.0 {
            // What is on disk tells how large a record is; what was written since the last look may be gone again.
            let record_bytes = if kept > 0 { look.bytes as f64 / kept as f64 } else { 0.0 };
            let rate = (look.end - self.end) as f64 * record_bytes / seconds;
            let peak = self.peaks.entry(look.at_ms / DAY_MS).or_default();
            *peak = peak.max(rate);
            self.moved_ms = look.at_ms;
        } else {
            self.peaks.entry(look.at_ms / DAY_MS).or_default();
        }
        while self.peaks.len() > DAYS_MAX {
            self.peaks.pop_first();
        }
        (self.last_ms, self.end, self.bytes) = (look.at_ms, look.end, look.bytes);
    }

    /// Days for which nothing was written, as far as was looked.
    pub fn idle_days(&self) -> i64 {
        (self.last_ms - self.moved_ms) / DAY_MS
    }

    /// Megabytes (10^6) a second that 95 % of days did not go over; none before there were this many days.
    pub fn peak_mb_per_second(&self, days: usize) -> Option<f64> {
        if self.peaks.len() < days || self.peaks.is_empty() {
            return None;
        }
        let mut peaks: Vec<f64> = self.peaks.values().copied().collect();
        peaks.sort_by(f64::total_cmp);
        let at = ((peaks.len() as f64 * 0.95).ceil() as usize).clamp(1, peaks.len());
        Some(peaks[at - 1] / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[(i64, f64)]) -> Series {
        let mut series = Series::default();
        values.iter().for_each(|(days, value)| series.add(days * DAY_MS, *value, HOUR_MS));
        series
    }

    #[test]
    fn a_disk_is_full_when_its_straight_line_says_so() {
        let growing = series(&[(0, 100.0), (1, 110.0), (2, 120.0)]);
        assert_eq!(growing.growth_per_day(), Some(10.0));
        assert_eq!(growing.reaches(200.0), Some(10 * DAY_MS));
        assert_eq!(growing.reaches(110.0), Some(2 * DAY_MS), "it is past it: now");
        for none in [
            series(&[(0, 100.0), (1, 110.0)]),
            series(&[(0, 120.0), (1, 110.0), (2, 100.0)]),
            series(&[(0, 100.0), (1, 100.0), (2, 100.0)]),
            series(&[]),
        ] {
            assert_eq!(none.reaches(200.0), None, "{none:?}");
        }
        assert_eq!(growing.reaches(1e12), None, "in more than a hundred years");
    }

    #[test]
    fn a_series_is_thinned_out_and_never_longer_than_its_limit() {
        let mut series = Series::default();
        for minute in 0..60_000 {
            series.add(minute * 60_000, minute as f64, HOUR_MS);
        }
        assert_eq!((series.points.len(), series.last()), (POINTS_MAX, Some(59_999.0)));
        assert!(series.points.windows(2).take(POINTS_MAX - 2).all(|pair| pair[1].0 - pair[0].0 >= HOUR_MS));
        assert!((series.growth_per_day().unwrap() - 1_440.0).abs() < 1e-6);
    }

    #[test]
    fn a_lag_grows_only_if_it_never_went_down() {
        assert!(series(&[(0, 1.0), (1, 1.0), (2, 5.0)]).only_grows());
        assert!(!series(&[(0, 1.0), (1, 9.0), (2, 5.0)]).only_grows());
        assert!(!series(&[(0, 5.0), (1, 5.0), (2, 5.0)]).only_grows());
        assert!(!series(&[(0, 1.0), (1, 9.0)]).only_grows());
    }

    #[test]
    fn traffic_is_measured_from_offsets_and_bytes_and_a_topic_made_anew_begins_anew() {
        let mut traffic = Traffic::default();
        let look = |seconds: i64, begin, end, bytes| Look { at_ms: 1_000 * seconds, begin, end, bytes };
        traffic.add(look(10, 0, 0, 0));
        // 1,000 records of 1,000 bytes in 10 s, half of which are gone again.
        traffic.add(look(20, 500, 1_000, 500_000));
        assert_eq!(traffic.peak_mb_per_second(1), Some(0.1));
        assert_eq!(traffic.peak_mb_per_second(2), None, "too few days");
        traffic.add(look(20 + 3 * 86_400, 500, 1_000, 500_000));
        assert_eq!((traffic.idle_days(), traffic.moved_ms), (3, 20_000));
        traffic.add(look(21 + 3 * 86_400, 0, 5, 5_000));
        assert_eq!((traffic.idle_days(), traffic.peaks.len()), (0, 0), "{traffic:?}");
    }

    #[test]
    fn one_bad_day_of_twenty_does_not_make_the_peak_and_old_days_go() {
        let mut traffic = Traffic { first_ms: 1, ..Traffic::default() };
        traffic.peaks = (0..20).map(|day| (day, if day == 3 { 9e6 } else { 1e6 })).collect();
        assert_eq!(traffic.peak_mb_per_second(14), Some(1.0));
        traffic.add(Look { at_ms: 21 * DAY_MS, begin: 0, end: 0, bytes: 0 });
        assert_eq!(traffic.peaks.len(), DAYS_MAX);
    }
}
