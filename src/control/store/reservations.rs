//! What of a cluster is spoken for.
//!
//! A request that is let in holds its reservation from then on; it becomes the resource's when it is applied, and goes when the
//! request fails or the resource is deleted. Admission reads the sum and writes its row in one transaction, so that of two
//! requests that do not fit together one is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::query::{ROWS_MAX, places};
use super::{Store, StoreError, Tx};
use crate::control::resource::ResourceId;

/// What something takes of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Need {
    /// Bytes of disk over all brokers.
    pub disk_bytes: u64,
    /// Partitions, copies counted.
    pub partitions: u64,
    /// Bytes a second that producers send at the peak.
    pub ingress_bytes_per_second: u64,
}

impl Need {
    /// Both together.
    pub fn plus(self, other: Need) -> Need {
        Need {
            disk_bytes: self.disk_bytes.saturating_add(other.disk_bytes),
            partitions: self.partitions.saturating_add(other.partitions),
            ingress_bytes_per_second: self.ingress_bytes_per_second.saturating_add(other.ingress_bytes_per_second),
        }
    }

    /// By how much it is more than another.
    pub fn over(self, other: Need) -> Need {
        Need {
            disk_bytes: self.disk_bytes.saturating_sub(other.disk_bytes),
            partitions: self.partitions.saturating_sub(other.partitions),
            ingress_bytes_per_second: self.ingress_bytes_per_second.saturating_sub(other.ingress_bytes_per_second),
        }
    }
}

/// What is spoken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Of which cluster.
    pub cluster: String,
    /// For which resource.
    pub resource: String,
    /// By which request; empty once it is the resource's own.
    pub request: String,
    /// How much: of a resource that grows, all of it.
    pub need: Need,
}

/// What of a cluster is spoken for by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// By all resources.
    pub all: Need,
    /// By the one that was asked about: to be taken off when it is about to change.
    pub own: Need,
}

impl Tx {
    /// What of a cluster is spoken for, by all and by this resource. Of a resource that is about to change, the greater counts.
    pub async fn taken(&mut self, cluster: &str, resource: &ResourceId) -> Result<Taken, StoreError> {
        let own = self.taken_by(cluster, &[resource]).await?.into_values().next().unwrap_or_default();
        Ok(Taken { all: self.taken_by_all(cluster).await?, own })
    }

    /// What of a cluster is spoken for.
    pub async fn taken_by_all(&mut self, cluster: &str) -> Result<Need, StoreError> {
        need(&sqlx::query(ALL).bind(cluster).fetch_one(&mut *self.inner).await?)
    }

    /// What of a cluster is spoken for by each of these resources, of those that have any.
    pub async fn taken_by(
        &mut self,
        cluster: &str,
        resources: &[&ResourceId],
    ) -> Result<BTreeMap<String, Need>, StoreError> {
        let mut taken = BTreeMap::new();
        for resources in resources.chunks(ROWS_MAX) {
            let select = format!(
                "SELECT resource, MAX(disk_bytes) AS disk_bytes, MAX(partitions) AS partitions,
                    MAX(ingress_bytes_per_second) AS ingress_bytes_per_second
                FROM reservations WHERE cluster = $1 AND resource IN {} GROUP BY resource",
                places(2, 1, resources.len())
            );
            let query = sqlx::query(sqlx::AssertSqlSafe(select)).bind(cluster);
            let query = resources.iter().fold(query, |query, resource| query.bind(resource.to_string()));
            for row in &query.fetch_all(&mut *self.inner).await? {
                taken.extend([read(row)?]);
            }
        }
        Ok(taken)
    }

    /// What of a cluster topics of each of these services have, or have asked for, of those that have any.
    pub async fn taken_by_services(
        &mut self,
        cluster: &str,
        services: &[&str],
    ) -> Result<BTreeMap<String, Need>, StoreError> {
        let mut taken = BTreeMap::new();
        for services in services.chunks(ROWS_MAX) {
            let names = places(2, 1, services.len());
            // Two lists that are each read by an index, the resources first (`CROSS JOIN` keeps that order).
            let select = format!(
                "SELECT service, CAST(SUM(disk_bytes) AS BIGINT) AS disk_bytes,
                    CAST(SUM(partitions) AS BIGINT) AS partitions,
                    CAST(SUM(ingress_bytes_per_second) AS BIGINT) AS ingress_bytes_per_second
                FROM (SELECT service, resource, MAX(disk_bytes) AS disk_bytes, MAX(partitions) AS partitions,
                        MAX(ingress_bytes_per_second) AS ingress_bytes_per_second
                    FROM (SELECT resources.service, own.resource, own.disk_bytes, own.partitions,
                            own.ingress_bytes_per_second
                        FROM resources CROSS JOIN reservations AS own
                        WHERE resources.service IN {names} AND resources.kind = 'topic' AND resources.cluster = $1
                            AND own.cluster = $1
                            AND own.resource = 'topic/' || resources.cluster || '/' || resources.name
                        UNION ALL SELECT requests.service, asked.resource, asked.disk_bytes, asked.partitions,
                            asked.ingress_bytes_per_second
                        FROM reservations AS asked CROSS JOIN requests
                        WHERE asked.request > '' AND asked.cluster = $1 AND requests.id = asked.request
                            AND requests.service IN {names}) AS mine
                    GROUP BY service, resource) AS each
                GROUP BY service"
            );
            let query = sqlx::query(sqlx::AssertSqlSafe(select)).bind(cluster);
            let query = services.iter().fold(query, |query, service| query.bind(*service));
            for row in &query.fetch_all(&mut *self.inner).await? {
                taken.insert(row.try_get("service")?, need(row)?);
            }
        }
        Ok(taken)
    }

    /// Speaks for needs.
    pub async fn reserve(&mut self, reservations: &[Reservation]) -> Result<(), StoreError> {
        for reservations in reservations.chunks(ROWS_MAX) {
            // None of them twice: an engine refuses to update a row that the same statement has written.
            let rows = places(1, reservations.len(), 7);
            let upsert = format!(
                "INSERT INTO reservations (cluster, resource, request, state, disk_bytes, partitions,
                    ingress_bytes_per_second) VALUES {rows}
                ON CONFLICT (cluster, resource, request) DO UPDATE SET disk_bytes = excluded.disk_bytes,
                    partitions = excluded.partitions, ingress_bytes_per_second = excluded.ingress_bytes_per_second"
            );
            let query = sqlx::query(sqlx::AssertSqlSafe(upsert));
            let query = reservations.iter().fold(query, |query, Reservation { cluster, resource, request, need }| {
                let query = query.bind(cluster).bind(resource).bind(request).bind("held");
                let query = query.bind(column(need.disk_bytes)).bind(column(need.partitions));
                query.bind(column(need.ingress_bytes_per_second))
            });
            query.execute(&mut *self.inner).await?;
        }
        Ok(())
    }

    /// What a request had reserved becomes its resources' own, in place of what they had.
    pub async fn settle_reservations(&mut self, request: &str) -> Result<(), StoreError> {
        let old = "DELETE FROM reservations WHERE request = '' AND EXISTS
            (SELECT 1 FROM reservations AS new WHERE new.request = $1 AND new.cluster = reservations.cluster
                AND new.resource = reservations.resource)";
        sqlx::query(old).bind(request).execute(&mut *self.inner).await?;
        let own = sqlx::query("UPDATE reservations SET request = '' WHERE request = $1");
        own.bind(request).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// What a request had reserved is free again.
    pub async fn drop_reservations(&mut self, request: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM reservations WHERE request = $1").bind(request).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// What a resource had reserved is free again: it is gone.
    pub async fn free(&mut self, cluster: &str, resource: &str) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM reservations WHERE cluster = $1 AND resource = $2");
        delete.bind(cluster).bind(resource).execute(&mut *self.inner).await?;
        Ok(())
    }
}

impl Store {
    /// What of a cluster is spoken for.
    pub async fn taken(&self, cluster: &str) -> Result<Need, StoreError> {
        need(&sqlx::query(ALL).bind(cluster).fetch_one(&self.pool).await?)
    }
}

/// What each resource has, with what requests have asked for it.
pub(super) const GREATEST: &str = "SELECT resource, MAX(disk_bytes) AS disk_bytes, MAX(partitions) AS partitions,
        MAX(ingress_bytes_per_second) AS ingress_bytes_per_second
    FROM reservations WHERE cluster = $1 GROUP BY resource";

/// The same of all of them together.
const ALL: &str = "SELECT CAST(SUM(disk_bytes) AS BIGINT) AS disk_bytes, CAST(SUM(partitions) AS BIGINT) AS partitions,
        CAST(SUM(ingress_bytes_per_second) AS BIGINT) AS ingress_bytes_per_second
    FROM (SELECT MAX(disk_bytes) AS disk_bytes, MAX(partitions) AS partitions,
            MAX(ingress_bytes_per_second) AS ingress_bytes_per_second
        FROM reservations WHERE cluster = $1 GROUP BY resource) AS each";

/// What one resource has.
pub(super) fn read(row: &AnyRow) -> Result<(String, Need), StoreError> {
    Ok((row.try_get("resource")?, need(row)?))
}

/// Of no rows at all there is nothing.
fn need(row: &AnyRow) -> Result<Need, StoreError> {
    let number = |column: &str| row.try_get::<Option<i64>, _>(column).map(|number| number.unwrap_or(0).max(0) as u64);
    Ok(Need {
        disk_bytes: number("disk_bytes")?,
        partitions: number("partitions")?,
        ingress_bytes_per_second: number("ingress_bytes_per_second")?,
    })
}

fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
