//! What a scrape asks: numbers over all rows.
//!
//! In: nothing, or a time. Out: numbers. Never: a document, or a row for every resource.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Store, StoreError};

/// The requests in one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestCount {
    /// The state's name.
    pub state: String,
    /// How many are in it.
    pub count: u64,
    /// When the first of them got there, milliseconds since 1970.
    pub oldest_ms: i64,
}

impl Store {
    /// How many requests are in each state, and since when the first of them.
    pub async fn count_requests(&self) -> Result<Vec<RequestCount>, StoreError> {
        let select = "SELECT state, COUNT(*) AS count, MIN(updated_ms) AS oldest_ms FROM requests
            GROUP BY state ORDER BY state";
        let read = |row: &AnyRow| {
            let (state, oldest_ms) = (row.try_get("state")?, row.try_get("oldest_ms")?);
            Ok(RequestCount { state, count: count(row)?, oldest_ms })
        };
        sqlx::query(select).fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// How many findings there are of each cluster and kind.
    pub async fn count_findings(&self) -> Result<Vec<(String, String, u64)>, StoreError> {
        let select =
            "SELECT cluster, kind, COUNT(*) AS count FROM findings GROUP BY cluster, kind ORDER BY cluster, kind";
        let read = |row: &AnyRow| Ok((row.try_get("cluster")?, row.try_get("kind")?, count(row)?));
        sqlx::query(select).fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// How many proxies have asked within so long.
    pub async fn count_proxies(&self, within_ms: i64) -> Result<u64, StoreError> {
        let select = sqlx::query("SELECT COUNT(*) AS count FROM proxies WHERE seen_ms > $1");
        count(&select.bind(super::now_ms() - within_ms).fetch_one(&self.pool).await?)
    }

    /// The revision of the newest snapshot; 0 before there is any.
    pub async fn published_revision(&self) -> Result<i64, StoreError> {
        let select = sqlx::query("SELECT COALESCE(MAX(revision), 0) AS revision FROM snapshots");
        Ok(select.fetch_one(&self.pool).await?.try_get("revision")?)
    }
}

fn count(row: &AnyRow) -> Result<u64, StoreError> {
    Ok(row.try_get::<i64, _>("count")?.max(0) as u64)
}
