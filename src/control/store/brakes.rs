//! Brakes by resource. Their change counts as one of what snapshots follow from.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::any::AnyRow;

use super::{Store, StoreError, Tx, document, text};
use crate::control::resource::ResourceId;

/// Most that are read: somebody put each of them on by hand.
const BRAKES: &str = "SELECT document FROM brakes ORDER BY resource LIMIT 10000";

impl Tx {
    /// Puts a brake on, in the place of the one before.
    pub async fn put_brake<D: Serialize>(&mut self, id: &ResourceId, brake: &D) -> Result<(), StoreError> {
        let upsert = "INSERT INTO brakes (resource, document, at_ms) VALUES ($1, $2, $3)
            ON CONFLICT (resource) DO UPDATE SET document = excluded.document, at_ms = excluded.at_ms";
        let query = sqlx::query(upsert).bind(id.to_string()).bind(text(brake)).bind(self.now_ms);
        query.execute(&mut *self.inner).await?;
        self.note_change().await
    }

    /// Lifts a brake; false where there is none.
    pub async fn lift_brake(&mut self, id: &ResourceId) -> Result<bool, StoreError> {
        let delete = sqlx::query("DELETE FROM brakes WHERE resource = $1").bind(id.to_string());
        let was_on = delete.execute(&mut *self.inner).await?.rows_affected() > 0;
        if was_on {
            self.note_change().await?;
        }
        Ok(was_on)
    }

    /// All brakes, as of this transaction.
    pub async fn brakes<D: DeserializeOwned>(&mut self) -> Result<Vec<D>, StoreError> {
        sqlx::query(BRAKES).fetch_all(&mut *self.inner).await?.iter().map(read).collect()
    }
}

impl Store {
    /// All brakes, by resource.
    pub async fn brakes<D: DeserializeOwned>(&self) -> Result<Vec<D>, StoreError> {
        sqlx::query(BRAKES).fetch_all(&self.pool).await?.iter().map(read).collect()
    }
}

fn read<D: DeserializeOwned>(row: &AnyRow) -> Result<D, StoreError> {
    document(row, "document", || "a brake".to_owned())
}
