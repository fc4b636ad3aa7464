//! What is not as it should be: a closed set of kinds, each with evidence and what to do about it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::control::resource::ResourceId;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It can wait.
    Info,
    /// It will hurt if nobody does anything.
    Warning,
    /// It hurts now, or records may be lost.
    Critical,
}

impl Severity {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// What somebody may do about a difference between what is desired and what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// What is there becomes what is desired.
    Accept,
    /// What is desired is made so again.
    Restore,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Finding {
    /// Its id: the same for the same kind of thing about the same resource.
    pub id: String,
    /// On which cluster.
    pub cluster: String,
    /// What it is about.
    #[schema(value_type = String)]
    pub resource: ResourceId,
    /// What it is.
    pub kind: FindingKind,
    /// How much it matters.
    pub severity: Severity,
    /// For people: one sentence.
    pub summary: String,
    /// What was seen.
    #[schema(value_type = Object)]
    pub evidence: Value,
    /// What to do about it.
    pub fix: String,
    /// What can be asked for right here.
    pub ways: BTreeSet<Way>,
    /// Since when, milliseconds since 1970.
    pub since_ms: i64,
}

impl Finding {
    /// A finding that nobody can accept or restore; `since_ms` is for the store to say.
    pub fn new(cluster: &str, resource: &ResourceId, kind: FindingKind, summary: String, evidence: Value) -> Finding {
        let (_, severity, fix) = kind.told();
        Finding {
            id: id(resource, kind),
            cluster: cluster.to_owned(),
            resource: resource.clone(),
            kind,
            severity,
            summary,
            evidence,
            fix: fix.to_owned(),
            ways: BTreeSet::new(),
            since_ms: 0,
        }
    }
}

/// The id of what is found: short enough for a path.
fn id(resource: &ResourceId, kind: FindingKind) -> String {
    let hash = Sha256::digest(format!("{resource}\n{}", kind.as_str()).as_bytes());
    hash.iter().take(10).map(|byte| format!("{byte:02x}")).collect()
}

// Derived, it would have the names of the variants: the macro below hides their serde names from the derive.
impl utoipa::ToSchema for FindingKind {}
impl utoipa::PartialSchema for FindingKind {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let names = FindingKind::ALL.iter().map(|kind| kind.as_str());
        let text = utoipa::openapi::schema::Type::String;
        utoipa::openapi::ObjectBuilder::new().schema_type(text).enum_values(Some(names)).build().into()
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $severity:ident, $fix:literal;)*) => {
        /// What can be found. The names are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum FindingKind {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl FindingKind {
            /// All of them.
            pub const ALL: &'static [FindingKind] = &[$(FindingKind::$name,)*];

            /// Its name, how much it matters, and what to do about it.
            pub const fn told(self) -> (&'static str, Severity, &'static str) {
                match self {
                    $(FindingKind::$name => ($text, Severity::$severity, $fix),)*
                }
            }

            /// Its name.
            pub const fn as_str(self) -> &'static str {
                self.told().0
            }
        }
    };
}

kinds! {
    /// It is desired and not there.
    Missing = "missing", Critical, "restore it, or accept that it is gone";
    /// It is there and not as desired.
    Drift = "drift", Warning, "restore what is desired, or accept what is there";
    /// A topic was deleted and made anew by somebody else: what was in it is gone.
    Recreated = "recreated", Critical, "find out who did it; accept the new topic if it is the right one";

    /// A replica is not in sync.
    UnderReplicated = "under_replicated", Warning, "bring the brokers that are named back, or move its replicas away from them";
    /// A partition has no leader: nobody reads or writes it.
    OfflinePartition = "offline_partition", Critical, "bring one of its brokers back; only as a last resort elect a leader that is not in sync";
    /// Fewer replicas are in sync than producers with `acks=all` need.
    BelowMinInsync = "below_min_insync", Critical, "bring the brokers that are named back; until then such producers are refused";
    /// More replicas must be in sync than there are.
    MinInsyncImpossible = "min_insync_impossible", Critical, "restore `min.insync.replicas`; it must be below the number of copies";
    /// One broker leads much more than its share.
    SkewedLeaders = "skewed_leaders", Warning, "elect the preferred leaders (`kafka-leader-election.sh --election-type preferred`)";
    /// It may take more disk than is reserved for it.
    OverReserve = "over_reserve", Warning, "restore its retention, or ask for the capacity that it takes";
    /// Records are kept longer than declared, since only closed segments are deleted.
    RetentionUnderSegment = "retention_under_segment", Warning, "restore `segment.ms`; it must be below `retention.ms`";
    /// It refuses records that the proxy lets through.
    MessageSize = "message_size", Warning, "restore `max.message.bytes`, or lower the limit of the event type";
    /// No user of its owner may read or write it.
    NoAccess = "no_access", Warning, "grant the owner's user `produce` or `consume`";
    /// It is closed to everybody.
    Closed = "closed", Warning, "call its deletion off, or take the rule that denies it to `User:*` away";
    /// A quota is below what is declared: Kafka slows its clients down.
    QuotaThrottles = "quota_throttles", Warning, "raise the quota, or declare less";
    /// A group falls behind.
    LagGrowing = "lag_growing", Warning, "add consumers, up to one for each partition, or make them faster";
    /// A group has nobody in it, and records wait for it.
    GroupDead = "group_dead", Warning, "start its consumers, or delete the group if nobody needs it";
    /// Records went before a group had read them.
    RecordsLost = "records_lost", Critical, "ask for a longer retention, and make the consumers faster than it";
    /// Nothing has been written to it for long.
    Unused = "unused", Info, "ask its owner whether it may be deleted";
    /// It carries much less than declared.
    OverDeclared = "over_declared", Info, "declare what is measured: what is reserved becomes free for others";
    /// It carries more than declared.
    UnderDeclared = "under_declared", Warning, "declare what is measured, so that disk and partitions are there for it";

    /// A disk is over 70 % full.
    DiskFilling = "disk_filling", Warning, "look at the forecast; topics that are declared too large are listed as `over_declared`";
    /// A disk is over 85 % full.
    DiskFull = "disk_full", Critical, "add disks or brokers, or carry out the trim plan in the evidence";
    /// A directory of a broker cannot be used.
    DiskFailed = "disk_failed", Critical, "replace the disk; the replicas on it are offline";
    /// Nobody knows how much room there is.
    BudgetUnknown = "budget_unknown", Warning, "set `disk_bytes` of the cluster; until then every topic is reviewed";
    /// Kinds that cannot be managed there.
    Unsupported = "unsupported", Info, "give our user the rights that are named, or leave these kinds alone";
    /// It did not answer.
    Unreachable = "unreachable", Critical, "look whether its brokers are up and our user may log in";
    /// Some of it could not be seen: nothing is concluded about it.
    Unobserved = "unobserved", Warning, "give our user the rights that are named";
    /// Another cluster answers under this name.
    OtherCluster = "other_cluster", Critical, "correct the brokers in the configuration; until then nothing is compared or changed";
    /// More is otherwise than a day's work explains.
    MassChange = "mass_change", Critical, "find out what happened before anything is restored; nothing is done by itself";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_one_name_that_is_read_back() {
        let names: BTreeSet<&str> = FindingKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names.len(), FindingKind::ALL.len());
        for kind in FindingKind::ALL {
            let text = serde_json::to_value(kind).unwrap();
            assert_eq!(text, kind.as_str());
            assert_eq!(serde_json::from_value::<FindingKind>(text).unwrap(), *kind);
        }
    }

    #[test]
    fn the_same_finding_has_the_same_id_and_another_has_another() {
        let (one, other) = ("topic/core/a".parse().unwrap(), "topic/core/b".parse().unwrap());
        assert_eq!(id(&one, FindingKind::Drift), id(&one, FindingKind::Drift));
        assert_ne!(id(&one, FindingKind::Drift), id(&other, FindingKind::Drift));
        assert_ne!(id(&one, FindingKind::Drift), id(&one, FindingKind::Missing));
        assert_eq!(id(&one, FindingKind::Drift).len(), 20);
    }
}
