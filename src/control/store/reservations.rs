//! What of a cluster is spoken for.
//!
//! A request that is let in holds its reservation from then on; it becomes the resource's when it is applied, and goes when the
//! request fails or the resource is deleted. Admission reads the sum and writes its row in one transaction, so that of two
//! requests that do not fit together one is refused.

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Store, StoreError, Tx};

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
    pub async fn taken(&mut self, cluster: &str, resource: &str) -> Result<Taken, StoreError> {
        Ok(Taken { all: self.taken_by_all(cluster).await?, own: self.taken_by(cluster, resource).await? })
    }

    /// What of a cluster is spoken for.
    pub async fn taken_by_all(&mut self, cluster: &str) -> Result<Need, StoreError> {
        need(&sqlx::query(ALL).bind(cluster).fetch_one(&mut *self.inner).await?)
    }

    /// What of a cluster is spoken for by a resource.
    pub async fn taken_by(&mut self, cluster: &str, resource: &str) -> Result<Need, StoreError> {
        let own = "SELECT MAX(disk_bytes) AS disk_bytes, MAX(partitions) AS partitions,
                MAX(ingress_bytes_per_second) AS ingress_bytes_per_second
            FROM reservations WHERE cluster = $1 AND resource = $2";
        need(&sqlx::query(own).bind(cluster).bind(resource).fetch_one(&mut *self.inner).await?)
    }

    /// Bytes of disk of a cluster that topics of a service have, or have asked for.
    pub async fn disk_of_service(&mut self, service: &str, cluster: &str) -> Result<u64, StoreError> {
        let select = "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS bytes FROM (
                SELECT MAX(disk_bytes) AS bytes FROM reservations WHERE cluster = $1 AND (
                    resource IN (SELECT 'topic/' || cluster || '/' || name FROM resources
                        WHERE kind = 'topic' AND cluster = $1 AND service = $2)
                    OR request IN (SELECT id FROM requests WHERE service = $2))
                GROUP BY resource) AS mine";
        let row = sqlx::query(select).bind(cluster).bind(service).fetch_one(&mut *self.inner).await?;
        Ok(row.try_get::<i64, _>("bytes")?.max(0) as u64)
    }

    /// Speaks for a need.
    pub async fn reserve(&mut self, reservation: &Reservation) -> Result<(), StoreError> {
        let Reservation { cluster, resource, request, need } = reservation;
        let upsert = "INSERT INTO reservations (cluster, resource, request, state, disk_bytes, partitions, ingress_bytes_per_second)
            VALUES ($1, $2, $3, 'held', $4, $5, $6)
            ON CONFLICT (cluster, resource, request) DO UPDATE SET disk_bytes = excluded.disk_bytes,
                partitions = excluded.partitions, ingress_bytes_per_second = excluded.ingress_bytes_per_second";
        sqlx::query(upsert)
            .bind(cluster)
            .bind(resource)
            .bind(request)
            .bind(column(need.disk_bytes))
            .bind(column(need.partitions))
            .bind(column(need.ingress_bytes_per_second))
            .execute(&mut *self.inner)
            .await?;
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
