//! Capacity and retention -> partitions, configs and the disk that must be kept for them.
//!
//! In: what a team says of its traffic ([`Capacity`]), the tier, and what the cluster's brokers can do. Out: a [`Resolved`]
//! topic, the bytes to reserve, and every step of the way for `explain`. Never: I/O, a config that Kafka refuses, a
//! reservation that the topic can outgrow while its traffic is as declared.
//!
//! The disk promise is `retention.bytes`, not `retention.ms`: whatever a producer sends, a partition holds no more than that
//! and the segments that Kafka has not closed or deleted yet.

use serde::{Deserialize, Serialize};

/// The version of the formulas; stored with what they gave, so that a later version changes no topic by itself.
pub const VERSION: u32 = 1;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Partition counts that are given: each divides the next ones, so that a topic that grows keeps its keys' order in most
/// consumers' assignments, and consumers share them evenly.
const LADDER: [u32; 7] = [3, 6, 12, 24, 48, 96, 192];
/// The share of a partition's measured rate that is planned for.
const FILL: f64 = 0.7;
/// Partitions are never evenly filled.
const SKEW: f64 = 1.25;
/// What the indexes of an active segment take on disk beside it (2 × `segment.index.bytes`, preallocated).
const INDEX_BYTES: u64 = 20 * MIB;
/// For how long a partition may go on growing after it is over its limit: the check for what to delete comes round every five
/// minutes (`log.retention.check.interval.ms`), and files go a minute later (`file.delete.delay.ms`).
const DELETE_LAG_SECONDS: f64 = 360.0;

/// What a team says of a topic's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// Average megabytes (10^6) a second, after compression.
    pub mb_per_second: f64,
    /// How long records are kept, hours.
    #[serde(default = "retention_hours")]
    pub retention_hours: f64,
    /// Most consumers of one group that read side by side.
    #[serde(default = "consumers")]
    pub consumers: u32,
    /// The busiest minute over the average.
    #[serde(default = "peak_factor")]
    pub peak_factor: f64,
    /// Growth to plan for, as a factor.
    #[serde(default = "growth")]
    pub growth: f64,
}

impl Capacity {
    /// So much a second, and all else as it is when nobody says.
    pub fn of(mb_per_second: f64) -> Capacity {
        Capacity {
            mb_per_second,
            retention_hours: retention_hours(),
            consumers: consumers(),
            peak_factor: peak_factor(),
            growth: growth(),
        }
    }
}

fn retention_hours() -> f64 {
    24.0
}
fn consumers() -> u32 {
    3
}
fn peak_factor() -> f64 {
    3.0
}
fn growth() -> f64 {
    1.5
}

/// What a topic is for: how many copies, which acknowledgement, and what becomes of old records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Events: two copies, the leader acknowledges, old records are deleted. A leader that dies uncleanly may take records with
    /// it that it had acknowledged.
    #[default]
    Standard,
    /// Money, orders: three copies, two of them acknowledge.
    Critical,
    /// The latest record of each key: copies as `critical`, compacted.
    State,
}

impl Tier {
    /// The name in requests and rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Tier::Standard => "standard",
            Tier::Critical => "critical",
            Tier::State => "state",
        }
    }

    /// Copies of each partition.
    pub const fn replicas(self) -> u32 {
        match self {
            Tier::Standard => 2,
            Tier::Critical | Tier::State => 3,
        }
    }

    /// `min.insync.replicas`.
    pub const fn min_insync(self) -> u32 {
        match self {
            Tier::Standard => 1,
            Tier::Critical | Tier::State => 2,
        }
    }

    /// What event types of its topics are produced with.
    pub const fn acks(self) -> &'static str {
        match self {
            Tier::Standard => "leader",
            Tier::Critical | Tier::State => "all",
        }
    }
}

/// What is asked of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Its traffic.
    pub capacity: Capacity,
    /// What it is for.
    #[serde(default)]
    pub tier: Tier,
    /// For tier `state`: bytes of the latest records of all keys, over all partitions, one copy.
    #[serde(default)]
    pub state_bytes: Option<u64>,
}

/// What a cluster's brokers can do, and what it allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Class {
    /// Megabytes (10^6) a second that one partition takes; 5 until measured.
    pub produce_mb_per_second: f64,
    /// Megabytes a second that one consumer reads of one partition; 5 until measured.
    pub consume_mb_per_second: f64,
    /// Most partitions of one topic without a person's consent.
    pub topic_partitions_max: u32,
    /// Brokers: no topic has more copies.
    pub brokers: u32,
    /// Most copies of each partition where an operator has said so; a tier that keeps more keeps these.
    pub replicas_max: Option<u32>,
    /// Largest record batch that the proxy produces.
    pub message_bytes_max: u64,
}

impl Default for Class {
    fn default() -> Self {
        Class {
            produce_mb_per_second: 5.0,
            consume_mb_per_second: 5.0,
            topic_partitions_max: 48,
            brokers: 3,
            replicas_max: None,
            message_bytes_max: MIB,
        }
    }
}

impl Class {
    /// Copies of each partition of a tier's topics here.
    pub fn replicas(&self, tier: Tier) -> u32 {
        tier.replicas().min(self.replicas_max.unwrap_or(u32::MAX)).max(1)
    }
}

/// A topic as it is to be on Kafka.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Resolved {
    /// The formulas' version ([`VERSION`]).
    pub version: u32,
    /// Partitions.
    pub partitions: u32,
    /// Copies of each.
    pub replicas: u32,
    /// Kafka's settings by name; sorted, each explicit, so that a change of a broker's default changes nothing.
    pub configs: std::collections::BTreeMap<String, String>,
    /// Bytes of disk over all brokers that the topic can take at most.
    pub reserve_bytes: u64,
    /// Bytes a second that producers send at the peak, before copying.
    pub ingress_bytes_per_second: u64,
    /// How it came about, step by step.
    pub steps: Vec<Term>,
}

/// One step of a resolution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Term {
    /// What is computed.
    pub name: String,
    /// From what.
    pub formula: String,
    /// With the numbers in their places.
    pub with: String,
    /// What came out, with its unit.
    pub value: String,
}

/// A number that cannot be worked with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}; {fix}")]
pub struct Unresolvable {
    /// Path of the field.
    pub field: &'static str,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub fix: String,
}

/// Resolves what is asked; or says all that is wrong with it.
pub fn resolve(wanted: &Wanted, class: &Class) -> Result<Resolved, Vec<Unresolvable>> {
    let wrong = problems(wanted, class);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut steps = Steps::default();
    let Capacity { mb_per_second, retention_hours, consumers, peak_factor, growth } = wanted.capacity;
    let average = mb_per_second * growth;
    steps.add("average", "mb_per_second × growth", format!("{mb_per_second} × {growth}"), format!("{average} MB/s"));
    let peak = average * peak_factor;
    steps.add("peak", "average × peak_factor", format!("{average} × {peak_factor}"), format!("{peak} MB/s"));

    let partitions = partitions(peak, consumers, class, &mut steps)?;
    let retention_ms = (retention_hours * HOUR_MS as f64).round() as u64;
    let kept = average * 1e6 * SKEW * (retention_ms as f64 / 1e3) / f64::from(partitions);
    let least = 16 * MIB;
    let retention_bytes = (kept.ceil() as u64).max(least);
    steps.add(
        "retention.bytes",
        "average × 1.25 × retention ÷ partitions, at least 16 MiB",
        format!("{average} MB/s × {SKEW} × {retention_hours} h ÷ {partitions}"),
        format!("{retention_bytes} bytes a partition"),
    );
    let segment_bytes = (retention_bytes / 10).clamp(16 * MIB, GIB);
    steps.add(
        "segment.bytes",
        "retention.bytes ÷ 10, between 16 MiB and 1 GiB",
        format!("{retention_bytes} ÷ 10"),
        format!("{segment_bytes} bytes"),
    );
    let segment_ms = (retention_ms / 10).clamp(10 * MINUTE_MS, 24 * HOUR_MS);
    steps.add(
        "segment.ms",
        "retention ÷ 10, between 10 min and 24 h",
        format!("{retention_hours} h ÷ 10"),
        format!("{segment_ms} ms"),
    );

    let replicas = class.replicas(wanted.tier);
    let held = held(wanted, partitions, retention_bytes, segment_bytes);
    let late = late(peak);
    let indexes = indexes(held, segment_bytes, late, partitions);
    let reserve_bytes = reserve(wanted, replicas, partitions, retention_bytes, segment_bytes);
    steps.add(
        "reserve",
        "replicas × (partitions × (held + segment.bytes + indexes) + peak × 360 s)",
        format!("{replicas} × ({partitions} × ({held} + {segment_bytes} + {indexes}) + {late})"),
        format!("{reserve_bytes} bytes over all brokers"),
    );

    let mut configs: std::collections::BTreeMap<String, String> = [
        ("compression.type", "producer".to_owned()),
        ("max.message.bytes", class.message_bytes_max.to_string()),
        ("message.timestamp.type", "CreateTime".to_owned()),
        ("min.insync.replicas", wanted.tier.min_insync().min(replicas).to_string()),
        ("segment.bytes", segment_bytes.to_string()),
        ("segment.ms", segment_ms.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    match wanted.tier {
        Tier::State => {
            configs.insert("cleanup.policy".to_owned(), "compact".to_owned());
            // However little is new: what was deleted must go at some time.
            configs.insert("max.compaction.lag.ms".to_owned(), retention_ms.max(HOUR_MS).to_string());
        }
        Tier::Standard | Tier::Critical => {
            configs.insert("cleanup.policy".to_owned(), "delete".to_owned());
            configs.insert("retention.ms".to_owned(), retention_ms.to_string());
            configs.insert("retention.bytes".to_owned(), retention_bytes.to_string());
        }
    }
    let ingress_bytes_per_second = (peak * 1e6).ceil() as u64;
    Ok(Resolved {
        version: VERSION,
        partitions,
        replicas,
        configs,
        reserve_bytes,
        ingress_bytes_per_second,
        steps: steps.0,
    })
}

/// Bytes of disk over all brokers that a topic can take at most, with these settings of each partition.
pub fn reserve(wanted: &Wanted, replicas: u32, partitions: u32, retention_bytes: u64, segment_bytes: u64) -> u64 {
    let Capacity { mb_per_second, peak_factor, growth, .. } = wanted.capacity;
    let late = late(mb_per_second * growth * peak_factor);
    let held = held(wanted, partitions, retention_bytes, segment_bytes);
    let each = held.saturating_add(segment_bytes).saturating_add(indexes(held, segment_bytes, late, partitions));
    let one_copy = u64::from(partitions).saturating_mul(each).saturating_add(late);
    u64::from(replicas).saturating_mul(one_copy)
}

/// Bytes that a partition keeps beside its active segment.
fn held(wanted: &Wanted, partitions: u32, retention_bytes: u64, segment_bytes: u64) -> u64 {
    match wanted.state_bytes {
        // Compaction begins when half of a log is new (`min.cleanable.dirty.ratio`), and writes the new segment beside the old.
        Some(bytes) => 2 * bytes.div_ceil(u64::from(partitions)) + segment_bytes,
        None => retention_bytes,
    }
}

/// Bytes that come in until the oldest are gone.
fn late(peak: f64) -> u64 {
    (peak * 1e6 * DELETE_LAG_SECONDS).ceil() as u64
}

/// Indexes of closed segments, 20 bytes for each 4,096 of data (`index.interval.bytes`), and of the active one.
fn indexes(held: u64, segment_bytes: u64, late: u64, partitions: u32) -> u64 {
    held.saturating_add(segment_bytes).saturating_add(late / u64::from(partitions)).div_ceil(200) + INDEX_BYTES
}

/// What a month costs, from a cluster's prices.
pub fn monthly_cost(resolved: &Resolved, gb_month: f64, partition_month: f64) -> f64 {
    let gigabytes = resolved.reserve_bytes as f64 / 1e9;
    gigabytes * gb_month + f64::from(resolved.partitions * resolved.replicas) * partition_month
}

fn problems(wanted: &Wanted, class: &Class) -> Vec<Unresolvable> {
    let Capacity { mb_per_second, retention_hours, consumers, peak_factor, growth } = wanted.capacity;
    let mut wrong = Vec::new();
    let mut within = |field, value: f64, least: f64, most: f64, unit: &str| {
        if !(least..=most).contains(&value) {
            let fix = format!("it must be between {least} and {most}{unit}");
            wrong.push(Unresolvable { field, problem: format!("{value} is out of range"), fix });
        }
    };
    // A thousand megabytes a second is past the ladder by far; what is asked beyond it is a slip of the pen.
    within("capacity.mb_per_second", mb_per_second, 0.000_001, 1_000.0, " MB/s");
    within("capacity.retention_hours", retention_hours, 1.0, 24.0 * 365.0, " hours");
    within("capacity.peak_factor", peak_factor, 1.0, 100.0, "");
    within("capacity.growth", growth, 1.0, 100.0, "");
    within("capacity.consumers", f64::from(consumers), 1.0, f64::from(LADDER[LADDER.len() - 1]), "");
    match (wanted.tier, wanted.state_bytes) {
        (Tier::State, None) => wrong.push(Unresolvable {
            field: "state_bytes",
            problem: "a compacted topic has no limit by time or size".to_owned(),
            fix: "say how many bytes the latest records of all keys take".to_owned(),
        }),
        (Tier::State, Some(bytes)) if bytes > 100_000 * GIB => wrong.push(Unresolvable {
            field: "state_bytes",
            problem: format!("{bytes} bytes are out of range"),
            fix: "it must be at most 100,000 GiB".to_owned(),
        }),
        (Tier::Standard | Tier::Critical, Some(_)) => wrong.push(Unresolvable {
            field: "state_bytes",
            problem: "it is about compacted topics".to_owned(),
            fix: "leave it out, or ask for tier `state`".to_owned(),
        }),
        _ => {}
    }
    if class.replicas(wanted.tier) > class.brokers {
        wrong.push(Unresolvable {
            field: "tier",
            problem: format!(
                "`{}` keeps {} copies, and the cluster has {} brokers",
                wanted.tier.as_str(),
                wanted.tier.replicas(),
                class.brokers
            ),
            fix: "choose another tier or cluster".to_owned(),
        });
    }
    wrong
}

fn partitions(peak: f64, consumers: u32, class: &Class, steps: &mut Steps) -> Result<u32, Vec<Unresolvable>> {
    let Class { produce_mb_per_second, consume_mb_per_second, .. } = *class;
    let share = |rate: f64| (peak / (rate * FILL)).ceil() as u64;
    let (to_produce, to_consume) = (share(produce_mb_per_second), share(consume_mb_per_second));
    let least = to_produce.max(to_consume).max(u64::from(consumers)).max(u64::from(LADDER[0]));
    let Some(partitions) = LADDER.into_iter().find(|step| u64::from(*step) >= least) else {
        let most = LADDER[LADDER.len() - 1];
        return Err(vec![Unresolvable {
            field: "capacity.mb_per_second",
            problem: format!("it needs {least} partitions, and a topic gets at most {most}"),
            fix: "split the events over several topics".to_owned(),
        }]);
    };
    steps.add(
        "partitions",
        "the most of peak ÷ (0.7 × what one partition takes), peak ÷ (0.7 × what one consumer reads), consumers, 3; then the next of 3, 6, 12, 24, 48, 96, 192",
        format!("most of {to_produce}, {to_consume}, {consumers}, 3"),
        format!("{partitions} partitions"),
    );
    Ok(partitions)
}

#[derive(Default)]
struct Steps(Vec<Term>);

impl Steps {
    fn add(&mut self, name: &str, formula: &str, with: String, value: String) {
        self.0.push(Term { name: name.to_owned(), formula: formula.to_owned(), with, value });
    }
}

#[cfg(test)]
#[path = "capacity_tests.rs"]
mod tests;
