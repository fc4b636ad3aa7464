//! What is really there, against what is desired: one pass per cluster, under a lease.
//!
//! In: clusters, and the resources that are desired on them. Out: findings with evidence and a fix, what each cluster is and has room
//! for, what nobody manages, what was measured. Never: a change, except as an ordinary request that the policy approves by itself;
//! *absent* for what was not seen; a touch on what nobody manages here.
//!
//! ```text
//!  probe ─▶ snapshot ─▶ compare ─▶ look again ─▶ diagnose ─▶ findings ─┬─ accept ──▶ request
//!  (what    (all of it, (in        (at the few   (each                 ├─ restore ─▶ request
//!   it is)   few calls)  memory)    that differ)  topic)               └─ policy ──▶ request
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`finding`] | what can be found, and what to do about it |
//! | [`snapshot`] | a cluster at one moment, which answers like the cluster |
//! | [`diff`] | desired against actual |
//! | [`diagnose`] | what is wrong with one topic |
//! | [`topic`] | one topic looked at now |
//! | [`room`], [`budget`] | what lies on which broker, what is free, when it is full |
//! | [`history`], [`measure`] | what goes through topics and groups over time |
//! | [`settle`] | a finding accepted or restored |

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::actor::{Actor, Role};
use super::kafka::AdminError;
use super::policy::Verdict;
use super::probe::{Probe, probe};
use super::provider::{Providers, Reach};
use super::request::{Ask, Desk, RequestError};
use super::resource::{ClusterSpec, Kind, ResourceId, Spec};
use super::store::{Filter, Lease, Page, Store, StoreError};
use super::world::{Change, ClusterView, World};

pub mod finding;
pub mod snapshot;
pub mod diff;
pub mod diagnose;
pub mod topic;
pub mod room;
pub mod budget;
pub mod history;
pub mod measure;
pub mod settle;
mod cluster;
mod record;

pub use budget::Budget;
pub use finding::{Finding, FindingKind, Severity, Way};
pub use settle::{SettleError, Settlement};

use diff::Compared;
use history::Series;
use record::{Came, Unmanaged};
use room::Room;
use snapshot::Snapshot;

/// For how long a node has the right to reconcile a cluster; a pass that takes longer writes nothing.
const LEASE: Duration = Duration::from_secs(120);
/// Clusters that are passed over at a time: each takes the memory of what is on it.
const PASSES_MAX: usize = 8;
/// Rows read and written at a time: no transaction holds the others up for long.
const ROWS: u32 = 500;
/// Resources that are looked at between two turns of other tasks.
const SLICE: usize = 256;
/// Up to so many differences are a day's work. More, and more than [`MASS_SHARE`] of what was compared, or more than
/// [`MASS_MAX`] in any case: something happened that somebody should look at before anything is done.
const MASS_MIN: usize = 5;
const MASS_MAX: usize = 20;
const MASS_SHARE: f64 = 0.05;
/// Points of a disk's series are this far apart.
const SPACING_MS: i64 = 3_600_000;
/// What was measured of things that are gone is kept for so long.
const MEASURE_KEPT_MS: i64 = 30 * 24 * 3_600_000;
/// The actor of what the plane does by itself.
const SELF: &str = "control";

/// How a reconciler works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From one pass to the next.
    pub every: Duration,
    /// What was changed so shortly before a pass is left for the next one.
    pub settle: Duration,
    /// From one measurement of topics and groups to the next.
    pub measure_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            every: Duration::from_secs(60),
            settle: Duration::from_secs(10),
            measure_every: Duration::from_secs(600),
        }
    }
}

/// Reconciles clusters.
#[derive(Clone)]
pub struct Reconciler {
    store: Store,
    desk: Desk,
    providers: Providers,
    reach: Reach,
    /// What plans are judged against: each pass puts what it saw there.
    clusters: Arc<ArcSwap<BTreeMap<String, ClusterView>>>,
    /// This node's name in leases.
    node: String,
    settings: Settings,
}

/// What a pass came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Resources that were compared.
    pub compared: usize,
    /// Resources that could not be seen.
    pub unknown: usize,
    /// Findings there are now.
    pub findings: usize,
    /// Those of them that were not there before.
    pub new: usize,
    /// Findings that went.
    pub gone: usize,
    /// Requests that the policy approved by itself.
    pub healed: usize,
    /// Rows that were written.
    pub written: usize,
    /// Whether the brake held it.
    pub held: bool,
    /// How long it took.
    pub took: Duration,
}

/// Why there was no pass.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ReconcileError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("another node reconciles cluster `{cluster}`")]
    NotOurs { cluster: String },
    #[error("cluster `{cluster}` is not registered")]
    NotRegistered { cluster: String },
    #[error("cluster `{cluster}` is not in the configuration")]
    NotConfigured { cluster: String },
    #[error("cluster `{cluster}` cannot be seen: {source}")]
    Unseen { cluster: String, source: AdminError },
    #[error("another cluster answers as `{cluster}`: its id is {found}, and was {known}")]
    OtherCluster { cluster: String, found: String, known: String },
}

impl Reconciler {
    /// A reconciler of this node.
    pub fn new(
        store: Store,
        desk: Desk,
        providers: Providers,
        reach: Reach,
        clusters: Arc<ArcSwap<BTreeMap<String, ClusterView>>>,
        node: &str,
        settings: Settings,
    ) -> Reconciler {
        Reconciler { store, desk, providers, reach, clusters, node: node.to_owned(), settings }
    }

    /// Puts what is known of clusters from earlier, so that plans need no Kafka. To be called once, at the start.
    pub async fn remember(&self) -> Result<(), StoreError> {
        for name in self.reach.clusters.keys() {
            if let Some(probe) = self.store.probe::<Probe>(name).await? {
                self.publish(name, probe.view(ClusterSpec::default()));
            }
        }
        Ok(())
    }

    /// Passes over every cluster, again and again, each by itself, until it is dropped or stopped.
    pub async fn run(&self, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(PASSES_MAX));
        let mut clusters = JoinSet::new();
        for cluster in self.reach.clusters.keys() {
            let (reconciler, cluster, stop) = (self.clone(), cluster.clone(), stop.clone());
            let room = Arc::clone(&room);
            clusters.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = reconciler.pass_again_and_again(&cluster, &room) => {}
                }
            });
        }
        while let Some(ended) = clusters.join_next().await {
            if let Err(error) = ended {
                error!(%error, "nobody compares a cluster any more");
            }
        }
    }

    async fn pass_again_and_again(&self, cluster: &str, room: &Semaphore) {
        let mut turn = tokio::time::interval(self.settings.every);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            let _place = room.acquire().await.expect("nobody closes it");
            match self.pass(cluster).await {
                Ok(pass) if pass.held => {
                    let (findings, new) = (pass.findings, pass.new);
                    warn!(
                        cluster,
                        findings, new, "so much of a cluster is not as desired that nothing is done by itself"
                    );
                }
                Ok(pass) if pass.new > 0 => {
                    info!(cluster, findings = pass.findings, new = pass.new, "a cluster is not as desired");
                }
                Ok(pass) => {
                    let (findings, took_ms) = (pass.findings, pass.took.as_millis() as u64);
                    info!(cluster, findings, took_ms, "a cluster was compared");
                }
                Err(ReconcileError::NotOurs { .. } | ReconcileError::NotRegistered { .. }) => {}
                Err(error) => warn!(cluster, %error, "a cluster was not compared"),
            }
        }
    }

    /// One pass over one cluster.
    pub async fn pass(&self, cluster: &str) -> Result<Pass, ReconcileError> {
        let name = format!("reconcile/{cluster}");
        let lease = self.store.lease(&name, &self.node, LEASE.as_millis() as i64).await?;
        let lease = lease.ok_or_else(|| ReconcileError::NotOurs { cluster: cluster.to_owned() })?;
        let passed = self.pass_under(&lease, cluster).await;
        self.store.release(&lease).await?;
        passed
    }

    async fn pass_under(&self, lease: &Lease, cluster: &str) -> Result<Pass, ReconcileError> {
        let began = Instant::now();
        let id = ResourceId::of(Kind::Cluster, cluster);
        let not_registered = || ReconcileError::NotRegistered { cluster: cluster.to_owned() };
        let row = self.store.resource(&id).await?.ok_or_else(not_registered)?;
        let not_configured = || ReconcileError::NotConfigured { cluster: cluster.to_owned() };
        let admin = Arc::clone(self.reach.clusters.get(cluster).ok_or_else(not_configured)?);
        let Spec::Cluster(spec) = &row.spec else { return Err(not_registered()) };

        // What was known of a cluster that was registered anew is of another one.
        let before = self.store.probe::<Probe>(cluster).await?.filter(|before| before.at_ms >= row.created_ms);
        let (topics, users) = (self.names(cluster, Kind::Topic).await?, self.names(cluster, Kind::User).await?);
        let seen = async {
            let seen = probe(admin.as_ref()).await?;
            Ok::<_, AdminError>((seen, Snapshot::take(admin.as_ref(), &topics, &users).await?))
        };
        let (mut seen, snapshot) = match seen.await {
            Ok(seen) => seen,
            Err(source) => {
                let summary = format!("cluster `{cluster}` cannot be seen: {source}");
                let evidence = json!({ "code": source.code(), "error": source.to_string() });
                self.note_alone(lease, Finding::new(cluster, &id, FindingKind::Unreachable, summary, evidence)).await?;
                return Err(ReconcileError::Unseen { cluster: cluster.to_owned(), source });
            }
        };
        if let Some(before) = &before
            && before.cluster_id != seen.cluster_id
        {
            let (known, found) = (before.cluster_id.clone(), seen.cluster_id.clone());
            let summary = format!("another cluster answers as `{cluster}`");
            let evidence = json!({ "known": known, "found": found });
            self.note_alone(lease, Finding::new(cluster, &id, FindingKind::OtherCluster, summary, evidence)).await?;
            return Err(ReconcileError::OtherCluster { cluster: cluster.to_owned(), found, known });
        }
        seen.remember(before.as_ref(), &snapshot.brokers_with_replicas());
        let mut world = self.world(cluster).await?;
        let room = self.lay_out(lease, cluster, &mut seen, &snapshot).await?;
        // Without what is said of it, which may change until somebody plans with it.
        self.publish(cluster, seen.view(ClusterSpec::default()));
        world.add_cluster(cluster, seen.view(spec.clone()));

        let snapshot = Arc::new(snapshot);
        let mut pass = self.compare(lease, &world, &snapshot, &seen, &room, cluster).await?;
        pass.took = began.elapsed();
        Ok(pass)
    }

    /// Everything after the looking: compares, diagnoses, and writes down what came of it.
    async fn compare(
        &self,
        lease: &Lease,
        world: &World,
        snapshot: &Arc<Snapshot>,
        seen: &Probe,
        room: &Room,
        cluster: &str,
    ) -> Result<Pass, ReconcileError> {
        let settle_ms = self.settings.settle.as_millis() as i64;
        let mut compared = diff::compare(cluster, world, snapshot, &self.providers, &self.reach, settle_ms).await;
        let held = is_mass(compared.findings.len(), compared.seen.len());
        if !held {
            self.look_again(cluster, world, &mut compared).await;
        }
        let measured = self.measure(lease, cluster, world, snapshot, seen, room).await?;
        compared.with_groups = measured.readers.is_some();
        let mut findings = cluster::findings(cluster, world, snapshot, seen, room, &compared);
        let index = topic::Index::of(cluster, world, snapshot);
        for (at, id) in compared.seen.iter().filter(|id| id.kind == Kind::Topic).enumerate() {
            if at % SLICE == SLICE - 1 {
                tokio::task::yield_now().await;
            }
            let facts = topic::facts_of(id, world, snapshot, &index, &measured, room);
            // That it is missing is told with what was desired of it.
            let diagnosed = diagnose::diagnose(id, &facts).into_iter();
            findings.extend(diagnosed.filter(|finding| finding.kind != FindingKind::Missing));
        }
        let healed = if held { 0 } else { self.heal(world, &compared.findings).await? };
        let pass =
            Pass { compared: compared.seen.len(), unknown: compared.unknown.len(), healed, held, ..Pass::default() };
        findings.append(&mut compared.findings);
        let now = diff::unmanaged(cluster, world, snapshot);
        let unmanaged = Unmanaged { now, is_whole: snapshot.unknown().is_empty() };
        self.record(lease, world, &Came { cluster, compared: &compared, findings, unmanaged }, pass).await
    }

    /// Looks at what differs once more, at the cluster itself: it may have changed since, or the broker that answered was behind.
    async fn look_again(&self, cluster: &str, world: &World, compared: &mut Compared) {
        let mut still = Vec::new();
        for found in std::mem::take(&mut compared.findings) {
            let looked = world.before(&found.resource).zip(self.providers.of(found.resource.kind));
            let Some((resource, provider)) = looked else { continue };
            match provider.observe(&resource.id, &self.reach).await {
                Ok(observed) => {
                    still.extend(diff::finding(cluster, resource, provider.as_ref(), world, &observed));
                    let value = settle::value_of(observed);
                    compared.changed.retain(|(id, ..)| *id != resource.id);
                    if value != resource.observed {
                        compared.changed.push((resource.id.clone(), resource.revision, value));
                    }
                }
                Err(error) => {
                    compared.seen.remove(&resource.id);
                    compared.changed.retain(|(id, ..)| *id != resource.id);
                    compared.unknown.insert(resource.id.clone(), error.to_string());
                }
            }
        }
        compared.findings = still;
    }

    /// Submits what the policy approves by itself; with the table that comes with the program that is nothing of what is critical.
    async fn heal(&self, world: &World, found: &[Finding]) -> Result<usize, ReconcileError> {
        let roles = BTreeSet::from([Role::Admin]);
        let actor = Actor { name: SELF.to_owned(), groups: BTreeSet::new(), roles };
        let mut healed = 0;
        for finding in found.iter().filter(|finding| finding.ways.contains(&Way::Restore)) {
            let Some(resource) = world.before(&finding.resource) else { continue };
            let ask = |dry_run: bool| Ask {
                changes: vec![Change {
                    id: resource.id.clone(),
                    desired: Some(resource.spec.clone()),
                    if_match: Some(resource.revision),
                }],
                reason: finding.summary.clone(),
                dry_run,
                idempotency_key: (!dry_run).then(|| format!("heal/{}/{}", finding.id, resource.revision)),
                managed_by: resource.managed_by.clone(),
                source: self.node.clone(),
            };
            if self.desk.submit(&actor, ask(true)).await?.verdict == Verdict::Auto {
                self.desk.submit(&actor, ask(false)).await?;
                healed += 1;
            }
        }
        Ok(healed)
    }

    /// Lays reservations out over the brokers, and keeps what the cluster said with it.
    async fn lay_out(
        &self,
        lease: &Lease,
        cluster: &str,
        seen: &mut Probe,
        snapshot: &Snapshot,
    ) -> Result<Room, ReconcileError> {
        let prefix = format!("topic/{cluster}/");
        let reserved = self.store.reserved(cluster).await?;
        let by_topic =
            reserved.iter().filter_map(|(resource, need)| Some((resource.strip_prefix(&prefix)?, need.disk_bytes)));
        let room = room::room(snapshot, &by_topic.collect());
        for broker in &mut seen.brokers {
            broker.committed_bytes = room.committed.get(&broker.id).copied().unwrap_or(0);
        }
        (seen.unmanaged_bytes, seen.placed_bytes) = (room.unmanaged_bytes, room.placed_bytes);
        let mut tx = self.store.begin().await?;
        tx.fenced(lease).await?;
        tx.put_probe(cluster, seen).await?;
        tx.commit().await?;
        Ok(room)
    }

    /// Everything that is desired on a cluster, with the services that it belongs to.
    pub(super) async fn world(&self, cluster: &str) -> Result<World, StoreError> {
        let mut world = World::of(&[], SELF);
        let on_cluster = Filter { cluster: Some(cluster.to_owned()), ..Filter::default() };
        let of = |kind| Filter { kind: Some(kind), ..Filter::default() };
        for filter in [on_cluster, of(Kind::Service), of(Kind::EventType)] {
            let mut after = None;
            loop {
                let rows = self.store.resources(&filter, &Page { after, limit: ROWS }).await?;
                let is_last = rows.len() < ROWS as usize;
                after = rows.last().map(|row| row.id.clone());
                rows.into_iter().for_each(|row| world.add(row));
                if is_last {
                    break;
                }
            }
        }
        Ok(world)
    }

    async fn names(&self, cluster: &str, kind: Kind) -> Result<Vec<String>, StoreError> {
        let filter = Filter { kind: Some(kind), cluster: Some(cluster.to_owned()), ..Filter::default() };
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let rows = self.store.resources(&filter, &Page { after, limit: ROWS }).await?;
            let is_last = rows.len() < ROWS as usize;
            after = rows.last().map(|row| row.id.clone());
            names.extend(rows.into_iter().map(|row| row.id.name));
            if is_last {
                return Ok(names);
            }
        }
    }

    fn publish(&self, cluster: &str, view: ClusterView) {
        self.clusters.rcu(|known| {
            let mut known = BTreeMap::clone(known);
            known.insert(cluster.to_owned(), view.clone());
            known
        });
    }

    /// Findings, the oldest id first, those after this id.
    pub async fn findings(
        &self,
        cluster: Option<&str>,
        kind: Option<FindingKind>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Finding>, StoreError> {
        let rows = self.store.findings::<Finding>(cluster, kind.map(FindingKind::as_str), after, limit).await?;
        Ok(rows.into_iter().map(|row| Finding { since_ms: row.first_ms, ..row.document }).collect())
    }

    /// What of each registered cluster is taken.
    pub async fn budgets(&self) -> Result<Vec<Budget>, StoreError> {
        let filter = Filter { kind: Some(Kind::Cluster), ..Filter::default() };
        let mut budgets = Vec::new();
        for row in self.store.resources(&filter, &Page { after: None, limit: ROWS }).await? {
            let Spec::Cluster(spec) = &row.spec else { continue };
            let name = &row.id.name;
            let probe = self.store.probe::<Probe>(name).await?;
            let series: HashMap<String, Series> = self.store.measures(name, "broker/").await?.into_iter().collect();
            let taken = self.store.taken(name).await?;
            budgets.push(Budget::of(name, spec, probe.as_ref(), taken, |id| series.get(&id.to_string())));
        }
        Ok(budgets)
    }

    /// What a cluster said of itself last; none: it was never looked at.
    pub async fn probed(&self, cluster: &str) -> Result<Option<Probe>, StoreError> {
        self.store.probe(cluster).await
    }
}

/// Whether so many differences among so many are more than a day's work.
fn is_mass(different: usize, of: usize) -> bool {
    different > MASS_MAX || (different > MASS_MIN && different as f64 > of as f64 * MASS_SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brake_holds_what_is_more_than_a_days_work() {
        for (different, of, held) in
            [(0, 0, false), (5, 5, false), (6, 100, true), (6, 200, false), (20, 10_000, false), (21, 10_000, true)]
        {
            assert_eq!(is_mass(different, of), held, "{different} of {of}");
        }
    }
}
