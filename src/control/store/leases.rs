//! Who works on what: one node at a time, and a number that tells an old holder from the new one.

use sqlx::Row as _;

use super::{Store, StoreError, Tx};

/// A lease that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// On what.
    pub name: String,
    /// Greater than that of every holder before.
    pub fence: Fence,
}

/// The number of a holder. Whatever a holder writes is refused once there is a greater one.
pub type Fence = i64;

impl Store {
    /// Takes a lease for so long, or keeps one that this holder has; none while another one holds it.
    pub async fn lease(&self, name: &str, holder: &str, for_ms: i64) -> Result<Option<Lease>, StoreError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query("SELECT holder, fence, until_ms FROM leases WHERE name = $1").bind(name);
        let row = row.fetch_optional(&mut *tx.inner).await?;
        let fence = match row {
            None => 1,
            Some(row) => {
                let (held_by, fence, until_ms): (String, Fence, i64) =
                    (row.try_get("holder")?, row.try_get("fence")?, row.try_get("until_ms")?);
                match (held_by == holder, until_ms > tx.now_ms) {
                    (true, true) => fence,
                    (false, true) => return Ok(None),
                    // Also the holder itself gets a new number: somebody may have looked in between.
                    (_, false) => fence + 1,
                }
            }
        };
        let upsert = "INSERT INTO leases (name, holder, fence, until_ms) VALUES ($1, $2, $3, $4)
            ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, fence = excluded.fence, until_ms = excluded.until_ms";
        let until_ms = tx.now_ms + for_ms;
        sqlx::query(upsert).bind(name).bind(holder).bind(fence).bind(until_ms).execute(&mut *tx.inner).await?;
        tx.commit().await?;
        Ok(Some(Lease { name: name.to_owned(), fence }))
    }

    /// Lets go of a lease.
    pub async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let release = sqlx::query("UPDATE leases SET until_ms = 0 WHERE name = $1 AND fence = $2");
        release.bind(&lease.name).bind(lease.fence).execute(&self.pool).await?;
        Ok(())
    }
}

impl Tx {
    /// Refuses to go on for a holder that another one took over from.
    pub async fn fenced(&mut self, lease: &Lease) -> Result<(), StoreError> {
        let row = sqlx::query("SELECT fence FROM leases WHERE name = $1").bind(&lease.name);
        let row = row.fetch_optional(&mut *self.inner).await?;
        let current: Option<Fence> = row.map(|row| row.try_get("fence")).transpose()?;
        if current == Some(lease.fence) { Ok(()) } else { Err(StoreError::Fenced { lease: lease.name.clone() }) }
    }
}
