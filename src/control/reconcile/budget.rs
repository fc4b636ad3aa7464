//! How much of a cluster is taken, how full its disks are, when they will be, and what to do about it.
//!
//! In: what a cluster said of itself, what is reserved, what was measured. Out: a [`Budget`] for people, the rung of the ladder that
//! its fullest disk stands on, a plan of what to trim. Never: I/O; a plan that deletes a topic.

use serde::{Deserialize, Serialize};

use super::history::Series;
use crate::control::probe::Probe;
use crate::control::resource::ClusterSpec;
use crate::control::store::Need;

/// What becomes of a cluster as its fullest disk fills up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Nothing.
    Calm,
    /// From 70 %: owners are told.
    Warn,
    /// From 80 %: no growth without a person.
    Hold,
    /// From 85 %: somebody is woken up, and there is a plan of what to trim.
    Page,
    /// From 90 %: the plan is to be carried out.
    Trim,
}

/// The rung that a share of a disk stands on.
pub fn rung(used: f64) -> Rung {
    match used {
        used if used >= 0.90 => Rung::Trim,
        used if used >= 0.85 => Rung::Page,
        used if used >= 0.80 => Rung::Hold,
        used if used >= 0.70 => Rung::Warn,
        _ => Rung::Calm,
    }
}

/// What of a cluster is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Budget {
    /// The cluster.
    pub cluster: String,
    /// When it was looked at, milliseconds since 1970; none: never.
    pub at_ms: Option<i64>,
    /// Bytes of disk that topics may reserve; none when nobody knows.
    pub disk_bytes: Option<u64>,
    /// Bytes that are reserved, by topics and by requests that wait.
    pub reserved_bytes: u64,
    /// Bytes that topics which nobody manages here may come to take.
    pub unmanaged_bytes: u64,
    /// Bytes that are free to reserve.
    pub free_bytes: Option<u64>,
    /// Most partitions, copies counted.
    pub partitions_max: Option<u32>,
    /// Partitions that are reserved, copies counted.
    pub partitions: u64,
    /// Most bytes a second of all producers.
    pub ingress_max: Option<u64>,
    /// Bytes a second that are reserved.
    pub ingress: u64,
    /// What the fullest disk asks for.
    pub rung: Rung,
    /// Each broker.
    pub brokers: Vec<BrokerBudget>,
}

/// What of a broker is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BrokerBudget {
    /// Its id.
    pub id: i32,
    /// Whether it was up.
    pub is_up: bool,
    /// Bytes of its disks.
    pub total_bytes: Option<u64>,
    /// The share of them that is in use, by whatever.
    pub used: Option<f64>,
    /// Bytes that topics may come to take there.
    pub committed_bytes: u64,
    /// Bytes by which its use grows in a day.
    pub growth_bytes_per_day: Option<f64>,
    /// When its disks are full at that rate, milliseconds since 1970.
    pub full_ms: Option<i64>,
}

impl Budget {
    /// The budget of a cluster; `series` has what of a broker's disks was in use.
    pub fn of<'s>(
        cluster: &str,
        spec: &ClusterSpec,
        probe: Option<&Probe>,
        taken: Need,
        series: impl Fn(i32) -> Option<&'s Series>,
    ) -> Budget {
        let view = probe.map(|probe| probe.view(spec.clone()));
        let disk_bytes = view.as_ref().map_or(spec.disk_bytes, |view| view.disk_bytes_max);
        let unmanaged_bytes = probe.map_or(0, |probe| probe.unmanaged_bytes);
        let brokers = probe.into_iter().flat_map(|probe| &probe.brokers).map(|broker| {
            let series = series(broker.id);
            BrokerBudget {
                id: broker.id,
                is_up: broker.is_up,
                total_bytes: broker.total_bytes,
                used: broker.used(),
                committed_bytes: broker.committed_bytes,
                growth_bytes_per_day: series.and_then(Series::growth_per_day),
                full_ms: broker.total_bytes.and_then(|total| series?.reaches(total as f64)),
            }
        });
        Budget {
            cluster: cluster.to_owned(),
            at_ms: probe.map(|probe| probe.at_ms),
            disk_bytes,
            reserved_bytes: taken.disk_bytes,
            unmanaged_bytes,
            free_bytes: disk_bytes.map(|all| all.saturating_sub(taken.disk_bytes).saturating_sub(unmanaged_bytes)),
            partitions_max: spec.partitions_max,
            partitions: taken.partitions,
            ingress_max: spec.ingress_bytes_per_second,
            ingress: taken.ingress_bytes_per_second,
            rung: rung(view.and_then(|view| view.disk_used).unwrap_or(0.0)),
            brokers: brokers.collect(),
        }
    }
}

/// A topic as a trim plan sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// Its name.
    pub topic: String,
    /// Bytes on disk, all copies.
    pub bytes: u64,
    /// Partitions and copies of each.
    pub partitions: u32,
    /// See `partitions`.
    pub replicas: u32,
    /// `retention.bytes`, of each partition.
    pub retention_bytes: u64,
}

/// One step of a trim plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Trim {
    /// The topic.
    pub topic: String,
    /// `retention.bytes` as it is: what brings it back.
    pub from_retention_bytes: u64,
    /// What it would be.
    pub to_retention_bytes: u64,
    /// Bytes that this frees at least, over all copies.
    pub frees_bytes: u64,
}

/// Halves the retention of those topics of which that frees most, until so much is free. The topics stay, and their newest half.
pub fn trim_plan(held: &[Held], to_free: u64) -> Vec<Trim> {
    let trim = |held: &Held| {
        let to = held.retention_bytes / 2;
        let kept = to.saturating_mul(u64::from(held.partitions) * u64::from(held.replicas));
        let frees_bytes = held.bytes.saturating_sub(kept);
        let (topic, from) = (held.topic.clone(), held.retention_bytes);
        Trim { topic, from_retention_bytes: from, to_retention_bytes: to, frees_bytes }
    };
    let mut trims: Vec<Trim> = held.iter().map(trim).filter(|trim| trim.frees_bytes > 0).collect();
    trims.sort_by(|one, other| other.frees_bytes.cmp(&one.frees_bytes).then_with(|| one.topic.cmp(&other.topic)));
    let mut freed = 0_u64;
    let wanted = trims.into_iter().take_while(|trim| {
        let is_wanted = freed < to_free;
        freed = freed.saturating_add(trim.frees_bytes);
        is_wanted
    });
    wanted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rung_begins_where_it_says() {
        let rungs = [0.0, 0.699, 0.70, 0.80, 0.849, 0.85, 0.90, 1.0].map(rung);
        use Rung::{Calm, Hold, Page, Trim, Warn};
        assert_eq!(rungs, [Calm, Calm, Warn, Hold, Hold, Page, Trim, Trim]);
    }

    #[test]
    fn what_frees_most_is_trimmed_first_and_no_more_than_is_needed() {
        let held = |topic: &str, bytes, retention_bytes| Held {
            topic: topic.into(),
            bytes,
            partitions: 2,
            replicas: 2,
            retention_bytes,
        };
        let topics = [held("small", 400, 100), held("large", 4_000, 1_000), held("empty", 0, 1_000)];
        let names = |to_free| trim_plan(&topics, to_free).into_iter().map(|trim| trim.topic).collect::<Vec<_>>();
        assert_eq!(names(1), ["large"]);
        assert_eq!(names(2_000), ["large"]);
        assert_eq!(names(2_001), ["large", "small"]);
        assert_eq!(names(u64::MAX), ["large", "small"], "what holds nothing frees nothing");
        assert_eq!(names(0), Vec::<String>::new());
        let trim = &trim_plan(&topics, 1)[0];
        assert_eq!((trim.from_retention_bytes, trim.to_retention_bytes, trim.frees_bytes), (1_000, 500, 2_000));
    }

    #[test]
    fn what_is_typed_in_counts_where_disks_are_hidden() {
        let spec = ClusterSpec { disk_bytes: Some(1_000), ..ClusterSpec::default() };
        let taken = Need { disk_bytes: 300, ..Need::default() };
        let budget = Budget::of("core", &spec, None, taken, |_| None);
        assert_eq!((budget.disk_bytes, budget.free_bytes, budget.rung), (Some(1_000), Some(700), Rung::Calm));
        let unknown = Budget::of("core", &ClusterSpec::default(), None, taken, |_| None);
        assert_eq!((unknown.disk_bytes, unknown.free_bytes, unknown.at_ms), (None, None, None));
    }
}
