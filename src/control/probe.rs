//! What a cluster is, what it can do, and how much room it has.
//!
//! In: a cluster's answers, and what was known of it before. Out: a [`Probe`], and the [`ClusterView`] that plans are judged against,
//! so that planning needs no Kafka. Never: a write, not even one that is only checked; a "no" made of a question that nobody
//! answered: that is *unknown*, and what was known before stays.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::capacity::Class;
use super::kafka::acls::{AclFilter, AclNameFilter, AclOperation, AclPattern};
use super::kafka::cluster::ClusterDescription;
use super::kafka::configs::{ConfigEntry, ConfigResource};
use super::kafka::log_dirs::LogDir;
use super::kafka::quotas::{QuotaFilter, QuotaMatch};
use super::kafka::{AdminError, Each, KafkaAdmin};
use super::resource::{ClusterSpec, Kind};
use super::store::now_ms;
use super::world::{BrokerRoom, ClusterView};

/// The share of a disk that topics may reserve: what is over it is for everything that is not in a reservation's formula.
const DISK_SHARE: f64 = 0.85;
/// The name that nothing has: whoever may ask for it is told that it is not there.
const NOBODY: &str = "iguazu.probe";
/// Whether whoever has no ACL may do everything.
const OPEN: &str = "allow.everyone.if.no.acl.found";
const MECHANISMS: &str = "sasl.enabled.mechanisms";

/// What a cluster said of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Probe {
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// The cluster's own id: another id under the same name is another cluster.
    pub cluster_id: String,
    /// The broker that changes are sent to.
    pub controller: Option<i32>,
    /// Its brokers, by id; those that are down too, as they were when they were seen last.
    pub brokers: Vec<BrokerProbe>,
    /// Whether each kind can be managed there.
    pub support: BTreeMap<Kind, Support>,
    /// Whether whoever has no ACL may do everything; none when it did not tell.
    pub is_open: Option<bool>,
    /// Bytes that topics which nobody manages here may come to take.
    pub unmanaged_bytes: u64,
    /// Bytes of reservations whose topics have their place on brokers.
    pub placed_bytes: u64,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BrokerProbe {
    /// Its id.
    pub id: i32,
    /// Its rack, when it has one.
    pub rack: Option<String>,
    /// Whether it was up.
    pub is_up: bool,
    /// Bytes of its disks; none where it does not tell.
    pub total_bytes: Option<u64>,
    /// Bytes of them that are free to Kafka.
    pub usable_bytes: Option<u64>,
    /// Bytes of replicas.
    pub kafka_bytes: u64,
    /// Directories that it cannot use.
    pub failed_dirs: Vec<String>,
    /// Bytes that topics may come to take there: managed ones what they have reserved, others what they may grow to.
    pub committed_bytes: u64,
}

/// Whether a kind can be managed on a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "supported", rename_all = "snake_case")]
pub enum Support {
    /// It can.
    Yes,
    /// It cannot.
    No {
        /// Why.
        why: String,
    },
    /// The cluster did not answer.
    Unknown {
        /// What happened instead.
        why: String,
    },
}

impl Probe {
    /// What plans are judged against.
    pub fn view(&self, spec: ClusterSpec) -> ClusterView {
        let brokers: Vec<BrokerRoom> = self.brokers.iter().map(BrokerProbe::room).collect();
        let unsupported = self.support.iter().filter_map(|(kind, support)| match support {
            Support::No { why } => Some((*kind, why.clone())),
            Support::Yes | Support::Unknown { .. } => None,
        });
        let view = ClusterView {
            class: Class { brokers: self.brokers.len() as u32, ..Class::default() },
            disk_bytes_max: brokers.iter().map(|broker| broker.limit_bytes).sum(),
            is_open: self.is_open,
            unsupported: unsupported.collect(),
            unmanaged_bytes: self.unmanaged_bytes,
            placed_bytes: self.placed_bytes,
            disk_used: self.disk_used(),
            brokers,
            spec: ClusterSpec::default(),
        };
        view.with_spec(spec)
    }

    /// The fullest broker's share of its disk that is in use; none when no broker tells.
    pub fn disk_used(&self) -> Option<f64> {
        self.brokers.iter().filter_map(BrokerProbe::used).max_by(f64::total_cmp)
    }

    /// Keeps what an older probe knew and this one could not learn: kinds that nobody told of, and brokers that are down and
    /// still have replicas.
    pub fn remember(&mut self, before: Option<&Probe>, with_replicas: &BTreeSet<i32>) {
        for (kind, support) in &mut self.support {
            let known = before.and_then(|before| before.support.get(kind));
            if let (Support::Unknown { .. }, Some(known)) = (&*support, known) {
                support.clone_from(known);
            }
        }
        self.is_open = self.is_open.or(before.and_then(|before| before.is_open));
        let up: BTreeSet<i32> = self.brokers.iter().map(|broker| broker.id).collect();
        for id in with_replicas.difference(&up) {
            let known = before.and_then(|before| before.brokers.iter().find(|broker| broker.id == *id));
            let unknown = BrokerProbe::unknown(*id, None);
            self.brokers.push(BrokerProbe { is_up: false, ..known.cloned().unwrap_or(unknown) });
        }
        for broker in self.brokers.iter_mut().filter(|broker| broker.total_bytes.is_none()) {
            let known = before.and_then(|before| before.brokers.iter().find(|known| known.id == broker.id));
            if let Some(known) = known {
                (broker.total_bytes, broker.usable_bytes) = (known.total_bytes, known.usable_bytes);
                broker.kafka_bytes = known.kafka_bytes;
            }
        }
        self.brokers.sort_by_key(|broker| broker.id);
    }
}

impl BrokerProbe {
    fn unknown(id: i32, rack: Option<String>) -> BrokerProbe {
        BrokerProbe {
            id,
            rack,
            is_up: true,
            total_bytes: None,
            usable_bytes: None,
            kafka_bytes: 0,
            failed_dirs: vec![],
            committed_bytes: 0,
        }
    }

    /// The share of its disks that is in use, by whatever.
    pub fn used(&self) -> Option<f64> {
        let total = self.total_bytes.filter(|total| *total > 0)?;
        Some(total.saturating_sub(self.usable_bytes?) as f64 / total as f64)
    }

    fn room(&self) -> BrokerRoom {
        let limit_bytes = self.total_bytes.map(|total| (total as f64 * DISK_SHARE) as u64);
        BrokerRoom { id: self.id, limit_bytes, committed_bytes: self.committed_bytes }
    }
}

/// Asks a cluster what it is. An error: nobody can tell.
pub async fn probe(admin: &dyn KafkaAdmin) -> Result<Probe, AdminError> {
    let cluster = admin.describe_cluster().await?;
    let ids: Vec<i32> = cluster.brokers.iter().map(|broker| broker.id).collect();
    let nobody = [NOBODY.to_owned()];
    let acls =
        AclFilter { name: AclNameFilter::Exactly(AclPattern::Literal, NOBODY.to_owned()), ..AclFilter::default() };
    let quotas =
        QuotaFilter { user: Some(QuotaMatch::Exactly(NOBODY.to_owned())), strict: true, ..QuotaFilter::default() };
    let brokers: Vec<ConfigResource> = ids.iter().map(|id| ConfigResource::Broker(*id)).collect();
    let (topics, acls, users, quotas, groups, configs, dirs) = tokio::join!(
        admin.describe_topics(&nobody),
        admin.describe_acls(&acls),
        admin.describe_users(&nobody),
        admin.describe_quotas(&quotas),
        admin.list_groups(),
        admin.describe_configs(&brokers),
        admin.describe_log_dirs(&ids),
    );
    let configs: Vec<Vec<ConfigEntry>> = configs.unwrap_or_default().into_iter().flatten().collect();
    let support = BTreeMap::from([
        (Kind::Topic, supports(first(topics), "topics")),
        (Kind::Access, supports(acls, "access rules").and(may(&cluster, AclOperation::Alter, "access rules"))),
        (
            Kind::User,
            supports(first(users), "users").and(has_scram(&configs)).and(may(&cluster, AclOperation::Alter, "users")),
        ),
        (Kind::Quota, supports(quotas, "quotas").and(may(&cluster, AclOperation::AlterConfigs, "quotas"))),
        (Kind::Group, supports(groups, "groups")),
    ]);
    Ok(Probe {
        at_ms: now_ms(),
        controller: cluster.controller,
        brokers: brokers_of(&cluster, dirs.unwrap_or_default()),
        support,
        is_open: is_open(&configs),
        unmanaged_bytes: 0,
        placed_bytes: 0,
        cluster_id: cluster.id,
    })
}

/// The answer about the one thing that was asked for.
fn first<T>(answer: Result<Each<T>, AdminError>) -> Result<(), AdminError> {
    answer.and_then(|each| each.into_iter().next().map_or(Ok(()), |one| one.map(drop)))
}

fn supports<T>(answer: Result<T, AdminError>, what: &str) -> Support {
    match answer {
        // What nobody has is not there.
        Ok(_) | Err(AdminError::NotFound(_)) => Support::Yes,
        Err(error @ AdminError::SecurityDisabled(_)) => Support::No { why: error.to_string() },
        Err(AdminError::NotSupported { what }) => Support::No { why: what },
        Err(error @ AdminError::Forbidden(_)) => Support::No { why: format!("our user may not see {what}: {error}") },
        Err(error) => Support::Unknown { why: error.to_string() },
    }
}

impl Support {
    /// The first that is not a plain yes.
    fn and(self, other: Support) -> Support {
        if self == Support::Yes { other } else { self }
    }
}

/// Whether our user may do to the cluster what a kind needs. A cluster that does not tell is taken at its word later.
fn may(cluster: &ClusterDescription, operation: AclOperation, what: &str) -> Support {
    match &cluster.may {
        Some(may) if !may.contains(&operation) && !may.contains(&AclOperation::All) => {
            Support::No { why: format!("our user may not change {what}: it lacks {operation:?} on the cluster") }
        }
        _ => Support::Yes,
    }
}

/// Whether some listener takes SCRAM passwords. Listeners may have settings of their own, which are not told by their listener's
/// name; where there are such, nothing is concluded.
fn has_scram(brokers: &[Vec<ConfigEntry>]) -> Support {
    let entries = || brokers.iter().flatten();
    let is_own = |entry: &&ConfigEntry| entry.name.starts_with("listener.name.") && entry.name.contains("scram");
    let offered = entries().find(|entry| entry.name == MECHANISMS).and_then(|entry| entry.value.as_deref());
    match offered {
        Some(offered) if !offered.contains("SCRAM") && entries().find(is_own).is_none() => {
            Support::No { why: format!("no listener takes passwords: `{MECHANISMS}` is {offered}") }
        }
        _ => Support::Yes,
    }
}

/// A broker shows that the setting is in its file, and keeps the value to itself, since it is the authorizer's own. Whoever writes
/// it down writes it to open the cluster, so that it is taken as open unless the value is told.
fn is_open(brokers: &[Vec<ConfigEntry>]) -> Option<bool> {
    let told = brokers.iter().filter(|entries| !entries.is_empty());
    let open = told.map(|entries| {
        entries.iter().any(|entry| entry.name == OPEN && entry.value.as_deref().is_none_or(|value| value != "false"))
    });
    open.reduce(|one, other| one || other)
}

fn brokers_of(cluster: &ClusterDescription, dirs: Each<Vec<LogDir>>) -> Vec<BrokerProbe> {
    let mut dirs = dirs.into_iter();
    let brokers = cluster.brokers.iter().map(|broker| {
        let unknown = BrokerProbe::unknown(broker.id, broker.rack.clone());
        let Some(Ok(dirs)) = dirs.next() else { return unknown };
        let disks = disks(&dirs);
        BrokerProbe {
            total_bytes: disks.map(|(total, _)| total),
            usable_bytes: disks.map(|(_, usable)| usable),
            kafka_bytes: dirs.iter().flat_map(|dir| &dir.replicas).map(|replica| replica.bytes).sum(),
            failed_dirs: dirs.iter().filter(|dir| dir.failed.is_some()).map(|dir| dir.path.clone()).collect(),
            ..unknown
        }
    });
    brokers.collect()
}

/// Bytes of a broker's disks and what is free of them. Directories on one file system each say the whole of it: those that say
/// nearly the same are taken as one, so that of two like disks one may be left out, and none is counted twice.
pub(super) fn disks(dirs: &[LogDir]) -> Option<(u64, u64)> {
    let mut seen: Vec<(u64, u64)> = Vec::new();
    for dir in dirs.iter().filter(|dir| dir.failed.is_none()) {
        let (total, usable) = (dir.total_bytes?, dir.usable_bytes?);
        let is_known = |(known, free): &(u64, u64)| *known == total && free.abs_diff(usable) <= total / 100;
        if !seen.iter().any(is_known) {
            seen.push((total, usable));
        }
    }
    let sum = |(total, usable): (u64, u64), (more, free): (u64, u64)| (total + more, usable + free);
    seen.into_iter().reduce(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::kafka::configs::ConfigSource;

    fn dir(total: Option<u64>, usable: u64) -> LogDir {
        LogDir { path: "d".into(), failed: None, total_bytes: total, usable_bytes: Some(usable), replicas: vec![] }
    }

    #[test]
    fn directories_of_one_disk_are_counted_once_and_a_hidden_disk_is_unknown() {
        assert_eq!(disks(&[dir(Some(1_000), 400), dir(Some(1_000), 405)]), Some((1_000, 400)), "one file system");
        assert_eq!(disks(&[dir(Some(1_000), 400), dir(Some(1_000), 900)]), Some((2_000, 1_300)), "two like disks");
        assert_eq!(disks(&[dir(Some(1_000), 400), dir(None, 0)]), None);
        assert_eq!(disks(&[]), None);
    }

    fn entry(name: &str, value: Option<&str>) -> ConfigEntry {
        ConfigEntry {
            name: name.into(),
            value: value.map(str::to_owned),
            source: ConfigSource::BrokerFile,
            is_sensitive: value.is_none(),
            is_read_only: true,
        }
    }

    #[test]
    fn a_cluster_is_open_when_a_broker_has_the_setting_and_unknown_when_no_broker_tells() {
        let other = entry("num.io.threads", Some("2"));
        assert_eq!(is_open(&[]), None);
        assert_eq!(is_open(&[vec![]]), None);
        assert_eq!(is_open(&[vec![other.clone()]]), Some(false));
        assert_eq!(is_open(&[vec![other.clone()], vec![entry(OPEN, None)]]), Some(true), "its value is hidden");
        assert_eq!(is_open(&[vec![other, entry(OPEN, Some("false"))]]), Some(false));
    }

    #[test]
    fn a_cluster_without_passwords_has_no_users() {
        let plain = entry(MECHANISMS, Some("GSSAPI"));
        assert!(matches!(has_scram(&[vec![plain.clone()]]), Support::No { why } if why.contains("GSSAPI")));
        assert_eq!(has_scram(&[vec![entry(MECHANISMS, Some("PLAIN,SCRAM-SHA-512"))]]), Support::Yes);
        let own = entry("listener.name.sasl.scram-sha-512.sasl.jaas.config", None);
        assert_eq!(has_scram(&[vec![plain, own]]), Support::Yes);
        assert_eq!(has_scram(&[]), Support::Yes);
    }

    fn probe_of(support: Support, brokers: &[(i32, Option<u64>)]) -> Probe {
        let broker = |(id, total): &(i32, Option<u64>)| BrokerProbe {
            total_bytes: *total,
            usable_bytes: total.map(|total| total / 2),
            ..BrokerProbe::unknown(*id, None)
        };
        Probe {
            at_ms: 1,
            cluster_id: "c".into(),
            controller: None,
            brokers: brokers.iter().map(broker).collect(),
            support: BTreeMap::from([(Kind::User, support)]),
            is_open: None,
            unmanaged_bytes: 0,
            placed_bytes: 0,
        }
    }

    #[test]
    fn what_nobody_answered_stays_as_it_was_known() {
        let no = Support::No { why: "no listener".into() };
        let unknown = Support::Unknown { why: "no answer".into() };
        let mut before = probe_of(no.clone(), &[(1, Some(1_000)), (2, Some(1_000)), (3, Some(1_000))]);
        before.is_open = Some(true);
        let mut now = probe_of(unknown, &[(1, Some(1_000)), (2, None)]);
        now.remember(Some(&before), &BTreeSet::from([1, 2, 3]));
        assert_eq!((now.support.get(&Kind::User), now.is_open), (Some(&no), Some(true)));
        let brokers: Vec<_> = now.brokers.iter().map(|broker| (broker.id, broker.is_up, broker.total_bytes)).collect();
        assert_eq!(brokers, [(1, true, Some(1_000)), (2, true, Some(1_000)), (3, false, Some(1_000))]);
        // A broker that is down still counts: quotas and copies are shared out over all.
        assert_eq!(now.view(ClusterSpec::default()).class.brokers, 3);
        assert_eq!(now.view(ClusterSpec::default()).disk_bytes_max, Some(2_550));
        // What is said of it goes before what it says, wherever it is looked at.
        let said =
            ClusterSpec { disk_bytes: Some(7), replicas_max: Some(1), shares_disks: true, ..ClusterSpec::default() };
        let view = now.view(said);
        assert_eq!((view.disk_bytes_max, view.class.replicas_max, view.disk_used), (Some(7), Some(1), None));
        assert_eq!(now.disk_used(), Some(0.5));
    }

    #[test]
    fn one_broker_that_does_not_tell_hides_the_budget() {
        let probe = probe_of(Support::Yes, &[(1, Some(1_000)), (2, None)]);
        assert_eq!(probe.view(ClusterSpec::default()).disk_bytes_max, None);
        assert_eq!(probe.view(ClusterSpec::default()).unsupported, BTreeMap::new());
    }
}
