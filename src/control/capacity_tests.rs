//! The formulas against a simulation of what Kafka keeps, segment by segment.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

fn wanted(mb_per_second: f64) -> Wanted {
    let capacity = Capacity { mb_per_second, retention_hours: 24.0, consumers: 3, peak_factor: 3.0, growth: 1.5 };
    Wanted { capacity, tier: Tier::Standard, state_bytes: None }
}

fn number(resolved: &Resolved, config: &str) -> u64 {
    resolved.configs[config].parse().unwrap()
}

#[test]
fn five_megabytes_a_second_for_a_day_are_twelve_partitions_of_67_gigabytes() {
    let resolved = resolve(&wanted(5.0), &Class::default()).unwrap();
    assert_eq!((resolved.partitions, resolved.replicas), (12, 2));
    assert_eq!(number(&resolved, "retention.bytes"), 67_500_000_000);
    assert_eq!(number(&resolved, "segment.bytes"), GIB);
    assert_eq!(number(&resolved, "retention.ms"), 86_400_000);
    // 1.9 to 2 times the naive average × time × copies (0.86 TB), near the factor 2 that others advise.
    assert!((1_640_000_000_000..1_690_000_000_000).contains(&resolved.reserve_bytes), "{}", resolved.reserve_bytes);
    assert_eq!(resolved.steps.last().unwrap().name, "reserve");
}

#[test]
fn every_number_out_of_range_is_named_at_once() {
    let capacity = Capacity {
        mb_per_second: f64::NAN,
        retention_hours: 0.0,
        consumers: 0,
        peak_factor: 0.5,
        growth: f64::INFINITY,
    };
    let wrong =
        resolve(&Wanted { capacity, tier: Tier::State, state_bytes: None }, &Class { brokers: 2, ..Class::default() });
    let fields: Vec<&str> = wrong.unwrap_err().iter().map(|wrong| wrong.field).collect();
    let all = ["mb_per_second", "retention_hours", "peak_factor", "growth", "consumers"];
    let all = all.map(|field| format!("capacity.{field}"));
    assert_eq!(fields[..5], all);
    assert_eq!(fields[5..], ["state_bytes", "tier"]);
}

#[test]
fn more_than_the_ladder_has_is_split_over_topics() {
    let wrong = resolve(&wanted(900.0), &Class::default()).unwrap_err();
    assert_eq!(
        wrong[0].to_string(),
        "capacity.mb_per_second: it needs 1158 partitions, and a topic gets at most 192; split the events over several topics"
    );
}

#[test]
fn a_state_topic_is_compacted_and_reserves_its_state_twice() {
    let resolved =
        resolve(&Wanted { tier: Tier::State, state_bytes: Some(30 * GIB), ..wanted(0.1) }, &Class::default()).unwrap();
    assert_eq!(resolved.configs["cleanup.policy"], "compact");
    assert!(!resolved.configs.contains_key("retention.bytes"));
    assert_eq!((resolved.replicas, number(&resolved, "min.insync.replicas")), (3, 2));
    assert!(resolved.reserve_bytes >= 3 * 2 * 30 * GIB);
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    (0.000_01..40.0f64, 1.0..500.0f64, 1..100u32, 1.0..8.0f64, 1.0..4.0f64).prop_map(
        |(mb_per_second, retention_hours, consumers, peak_factor, growth)| Wanted {
            capacity: Capacity { mb_per_second, retention_hours, consumers, peak_factor, growth },
            tier: Tier::Standard,
            state_bytes: None,
        },
    )
}

proptest! {
    #[test]
    fn more_of_anything_never_takes_less(base in any_wanted(), factor in 1.0..3.0f64) {
        let class = Class::default();
        let Ok(before) = resolve(&base, &class) else { return Ok(()) };
        let capacity = base.capacity;
        let grown = [
            Capacity { mb_per_second: capacity.mb_per_second * factor, ..capacity },
            Capacity { retention_hours: capacity.retention_hours * factor, ..capacity },
            Capacity { consumers: (f64::from(capacity.consumers) * factor) as u32, ..capacity },
            Capacity { peak_factor: capacity.peak_factor * factor, ..capacity },
            Capacity { growth: capacity.growth * factor, ..capacity },
        ];
        for (field, capacity) in grown.into_iter().enumerate() {
            let Ok(after) = resolve(&Wanted { capacity, ..base }, &class) else { continue };
            prop_assert!(after.partitions >= before.partitions, "{field}");
            let total = |resolved: &Resolved| number(resolved, "retention.bytes") * u64::from(resolved.partitions);
            // Rounding up takes up to one byte a partition.
            prop_assert!(total(&after) + u64::from(after.partitions) >= total(&before), "{field}");
            prop_assert!(after.ingress_bytes_per_second >= before.ingress_bytes_per_second, "{field}");
        }
    }

    #[test]
    fn what_is_reserved_holds_whatever_kafka_keeps(
        wanted in any_wanted(),
        shares in prop::collection::vec(0.0..1.0f64, 3..=24),
        phase in 0.0..1.0f64,
    ) {
        let Ok(resolved) = resolve(&wanted, &Class::default()) else { return Ok(()) };
        let shares = &shares[..shares.len().min(resolved.partitions as usize)];
        let sum: f64 = shares.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let peak = resolved.ingress_bytes_per_second as f64;
        let written: u64 = shares.iter().map(|share| Partition::full(&resolved).most_kept(peak * share / sum, phase)).sum();
        let idle = u64::from(resolved.partitions) - shares.len() as u64;
        let kept = u64::from(resolved.replicas) * (written + idle * Partition::full(&resolved).kept());
        prop_assert!(kept <= resolved.reserve_bytes, "{kept} > {}", resolved.reserve_bytes);
    }
}

/// One copy of a partition as Kafka keeps it: segments are closed when they are full or old; every five minutes the oldest closed
/// ones are marked while what is left without them is as much as `retention.bytes`; a minute later their files are gone.
struct Partition {
    limit: f64,
    segment: f64,
    segment_seconds: f64,
    closed: VecDeque<f64>,
    active: f64,
    active_seconds: f64,
    marked: f64,
}

impl Partition {
    const CHECK_SECONDS: f64 = 300.0;
    const DELETE_DELAY_SECONDS: f64 = 60.0;

    /// As full as it can be right after a check: with one byte more the oldest segment would have gone.
    fn full(resolved: &Resolved) -> Partition {
        let (limit, segment) = (number(resolved, "retention.bytes") as f64, number(resolved, "segment.bytes") as f64);
        let most = limit + segment - 1.0;
        let whole = (most / segment).floor();
        let closed = std::iter::repeat_n(segment, whole as usize).collect();
        let segment_seconds = number(resolved, "segment.ms") as f64 / 1e3;
        Partition {
            limit,
            segment,
            segment_seconds,
            closed,
            active: most - whole * segment,
            active_seconds: 0.0,
            marked: 0.0,
        }
    }

    /// The most that it takes while it is written at this rate for three checks, the first of which comes after so much of the time
    /// between two.
    fn most_kept(mut self, bytes_per_second: f64, phase: f64) -> u64 {
        let mut most = self.kept();
        for check in 0..3 {
            let pause = if check == 0 { Self::CHECK_SECONDS * phase } else { Self::CHECK_SECONDS };
            // Files that an earlier check marked go a minute after it.
            let before = pause.min(Self::DELETE_DELAY_SECONDS);
            self.write(bytes_per_second, before);
            most = most.max(self.kept());
            self.marked = 0.0;
            self.write(bytes_per_second, pause - before);
            most = most.max(self.kept());
            self.check();
        }
        self.write(bytes_per_second, Self::DELETE_DELAY_SECONDS);
        most.max(self.kept())
    }

    fn write(&mut self, bytes_per_second: f64, mut seconds: f64) {
        while seconds > 0.0 {
            let to_full = (self.segment - self.active) / bytes_per_second.max(f64::MIN_POSITIVE);
            let step = seconds.min(to_full).min(self.segment_seconds - self.active_seconds);
            self.active += bytes_per_second * step;
            self.active_seconds += step;
            seconds -= step;
            if self.active + 0.5 >= self.segment || self.active_seconds + 1e-6 >= self.segment_seconds {
                self.closed.push_back(std::mem::take(&mut self.active));
                self.active_seconds = 0.0;
            }
        }
    }

    fn check(&mut self) {
        let mut total: f64 = self.closed.iter().sum::<f64>() + self.active;
        while let Some(oldest) = self.closed.front().copied().filter(|oldest| total - oldest >= self.limit) {
            total -= oldest;
            self.marked += oldest;
            self.closed.pop_front();
        }
    }

    /// Bytes on disk: data, 20 bytes of index for each 4,096 of it, and what is preallocated for the active segment.
    fn kept(&self) -> u64 {
        let data = self.closed.iter().sum::<f64>() + self.active + self.marked;
        (data * (1.0 + 20.0 / 4096.0)) as u64 + INDEX_BYTES
    }
}
