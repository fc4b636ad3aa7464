//! What a pass came to, written down: only what is different from what is written down already.
//!
//! In: findings, what was seen, what nobody manages. Out: rows of the store. Never: a long transaction, a row of a node that another one
//! took over from, a finding taken back because nobody could look.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::diff::Compared;
use super::finding::{Finding, FindingKind};
use super::{Pass, ROWS, ReconcileError, Reconciler};
use crate::control::resource::{Kind, ResourceId};
use crate::control::store::{FindingRow, Lease, StoreError};
use crate::control::world::World;

/// What a pass came to.
pub(super) struct Came<'a> {
    pub(super) cluster: &'a str,
    pub(super) compared: &'a Compared,
    pub(super) findings: Vec<Finding>,
    pub(super) unmanaged: Unmanaged,
}

/// What nobody manages, and whether that is all of it.
pub(super) struct Unmanaged {
    pub(super) now: BTreeMap<ResourceId, Value>,
    pub(super) is_whole: bool,
}

impl Reconciler {
    /// Writes down what is different from what is written down; nothing for what is not.
    pub(super) async fn record(
        &self,
        lease: &Lease,
        world: &World,
        came: &Came<'_>,
        mut pass: Pass,
    ) -> Result<Pass, ReconcileError> {
        let Came { cluster, compared, findings, unmanaged } = came;
        let known: HashMap<String, FindingRow<Finding>> =
            self.all_findings(cluster).await?.into_iter().map(|row| (row.id.clone(), row)).collect();
        let now: BTreeSet<&str> = findings.iter().map(|finding| finding.id.as_str()).collect();
        pass.findings = findings.len();
        let changed = findings.iter().filter(|finding| match known.get(&finding.id) {
            None => {
                pass.new += 1;
                true
            }
            Some(row) => Finding { since_ms: 0, ..row.document.clone() } != **finding,
        });
        let changed: Vec<&Finding> = changed.collect();
        let gone =
            known.values().filter(|row| !now.contains(row.id.as_str()) && is_answered(&row.document, world, compared));
        let gone: Vec<&str> = gone.map(|row| row.id.as_str()).collect();
        pass.findings += known.len() - known.keys().filter(|id| now.contains(id.as_str())).count() - gone.len();
        pass.gone = gone.len();

        for findings in changed.chunks(ROWS as usize) {
            let mut tx = self.store.begin().await?;
            tx.fenced(lease).await?;
            for finding in findings {
                let row = FindingRow {
                    id: finding.id.clone(),
                    cluster: (*cluster).to_owned(),
                    resource: finding.resource.to_string(),
                    kind: finding.kind.as_str().to_owned(),
                    document: finding,
                    first_ms: 0,
                };
                tx.put_finding(&row).await?;
            }
            tx.commit().await?;
        }
        for ids in gone.chunks(ROWS as usize) {
            let mut tx = self.store.begin().await?;
            tx.fenced(lease).await?;
            for id in ids {
                tx.drop_finding(id).await?;
            }
            tx.commit().await?;
        }
        for seen in compared.changed.chunks(ROWS as usize) {
            let mut tx = self.store.begin().await?;
            tx.fenced(lease).await?;
            for (id, revision, observed) in seen {
                tx.note_observed(id, *revision, observed.as_ref()).await?;
            }
            tx.commit().await?;
        }
        pass.written = changed.len() + gone.len() + compared.changed.len();
        pass.written += self.list_unmanaged(lease, cluster, world, unmanaged).await?;
        Ok(pass)
    }

    async fn list_unmanaged(
        &self,
        lease: &Lease,
        cluster: &str,
        world: &World,
        unmanaged: &Unmanaged,
    ) -> Result<usize, ReconcileError> {
        let Unmanaged { now, is_whole } = unmanaged;
        let mut known = HashMap::new();
        let mut after: Option<ResourceId> = None;
        loop {
            let rows = self.store.unmanaged(cluster, None, after.as_ref(), ROWS).await?;
            let is_last = rows.len() < ROWS as usize;
            after = rows.last().map(|row| row.id.clone());
            known.extend(rows.into_iter().map(|row| (row.id, row.observed)));
            if is_last {
                break;
            }
        }
        let changed: Vec<_> = now.iter().filter(|(id, observed)| known.get(*id) != Some(*observed)).collect();
        // What could not be seen whole may be there all the same.
        let gone: Vec<_> =
            known.keys().filter(|id| !now.contains_key(*id) && (*is_whole || world.before(id).is_some())).collect();
        for rows in changed.chunks(ROWS as usize) {
            let mut tx = self.store.begin().await?;
            tx.fenced(lease).await?;
            for (id, observed) in rows {
                tx.put_unmanaged(id, observed).await?;
            }
            tx.commit().await?;
        }
        for ids in gone.chunks(ROWS as usize) {
            let mut tx = self.store.begin().await?;
            tx.fenced(lease).await?;
            for id in ids {
                tx.drop_unmanaged(id).await?;
            }
            tx.commit().await?;
        }
        Ok(changed.len() + gone.len())
    }

    /// Notes what stopped a pass; everything else stays as it was known.
    pub(super) async fn note_alone(&self, lease: &Lease, finding: Finding) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        tx.fenced(lease).await?;
        let row = FindingRow {
            id: finding.id.clone(),
            cluster: finding.cluster.clone(),
            resource: finding.resource.to_string(),
            kind: finding.kind.as_str().to_owned(),
            document: &finding,
            first_ms: 0,
        };
        tx.put_finding(&row).await?;
        tx.commit().await
    }

    async fn all_findings(&self, cluster: &str) -> Result<Vec<FindingRow<Finding>>, StoreError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let rows = self.store.findings(Some(cluster), None, after.as_deref(), ROWS).await?;
            let is_last = rows.len() < ROWS as usize;
            after = rows.last().map(|row: &FindingRow<Finding>| row.id.clone());
            all.extend(rows);
            if is_last {
                return Ok(all);
            }
        }
    }
}

/// Whether a pass that does not have a finding any more says that it is gone.
fn is_answered(finding: &Finding, world: &World, compared: &Compared) -> bool {
    use FindingKind::{GroupDead, LagGrowing, RecordsLost};
    match finding.resource.kind {
        Kind::Cluster => true,
        _ if world.before(&finding.resource).is_none() => true,
        _ if matches!(finding.kind, GroupDead | LagGrowing | RecordsLost) && !compared.with_groups => false,
        _ => compared.seen.contains(&finding.resource),
    }
}
