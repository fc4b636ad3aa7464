//! What proxies get: what is published of each resource, the snapshots that were made of it, and who asks for them.
//!
//! Every write that a snapshot follows from counts the same counter up, in its own transaction: whoever has seen the counter knows
//! whether there is anything new, and reads nothing else to know it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Store, StoreError, Tx, document, text};
use crate::control::resource::ResourceId;

/// What is published of a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Of which.
    pub resource: ResourceId,
    /// What proxies get; none: nothing yet.
    pub live: Option<Value>,
    /// What they are to get as soon as nothing is missing.
    pub next: Option<Value>,
    /// What is missing.
    pub reason: String,
}

/// A key of a sender, as far as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderKey {
    /// Whose.
    pub sender: ResourceId,
    /// SHA-256 of the key, in hex.
    pub sha256: String,
    /// Until when it is taken, milliseconds since 1970.
    pub expires_ms: Option<i64>,
}

/// A proxy that has asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySeen {
    /// Its name.
    pub name: String,
    /// How long ago.
    pub ago_ms: i64,
    /// What it has.
    pub revision: i64,
}

/// Snapshots that are kept.
const SNAPSHOTS_KEPT: i64 = 100;
/// For how long a proxy that is gone is remembered.
const PROXY_KEPT_MS: i64 = 86_400_000;
const COLUMNS: &str = "SELECT resource, live, next, reason FROM published";
const LAST_CHANGE: &str = "SELECT value FROM counters WHERE name = 'published'";

impl Tx {
    /// Publishes this of a resource; nothing waits any more.
    pub async fn publish(&mut self, id: &ResourceId, live: &Value) -> Result<(), StoreError> {
        let upsert = "INSERT INTO published (resource, live, next, reason, changed_ms) VALUES ($1, $2, NULL, '', $3)
            ON CONFLICT (resource) DO UPDATE SET live = excluded.live, next = NULL, reason = '',
                changed_ms = excluded.changed_ms";
        let query = sqlx::query(upsert).bind(id.to_string()).bind(text(live)).bind(self.now_ms);
        query.execute(&mut *self.inner).await?;
        self.note_change().await
    }

    /// Notes what is to be published, and what it waits for; what is published stays as it is. Proxies are told of what is not
    /// published at all.
    pub async fn publish_later(&mut self, id: &ResourceId, next: &Value, reason: &str) -> Result<(), StoreError> {
        let before = self.published_of(id).await?;
        let upsert = "INSERT INTO published (resource, live, next, reason, changed_ms) VALUES ($1, NULL, $2, $3, $4)
            ON CONFLICT (resource) DO UPDATE SET next = excluded.next, reason = excluded.reason,
                changed_ms = excluded.changed_ms";
        let query = sqlx::query(upsert).bind(id.to_string()).bind(text(next)).bind(reason).bind(self.now_ms);
        query.execute(&mut *self.inner).await?;
        match before {
            // Proxies have what is published, or know already what it waits for.
            Some(before) if before.live.is_some() => Ok(()),
            Some(before) if before.next.as_ref() == Some(next) && before.reason == reason => Ok(()),
            _ => self.note_change().await,
        }
    }

    /// Publishes nothing of a resource any more.
    pub async fn withdraw(&mut self, id: &ResourceId) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM published WHERE resource = $1").bind(id.to_string());
        delete.execute(&mut *self.inner).await?;
        // What comes later under its name is another thing.
        self.lift_brake(id).await?;
        self.note_change().await
    }

    /// What is published of a resource, as of this transaction.
    pub async fn published_of(&mut self, id: &ResourceId) -> Result<Option<Published>, StoreError> {
        let select = sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE resource = $1"))).bind(id.to_string());
        select.fetch_optional(&mut *self.inner).await?.as_ref().map(read).transpose()
    }

    /// Everything that is published, in order.
    pub async fn published(&mut self) -> Result<Vec<Published>, StoreError> {
        let select = sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS} ORDER BY resource")));
        select.fetch_all(&mut *self.inner).await?.iter().map(read).collect()
    }

    /// The keys of all senders that are taken now, the newest of each first.
    pub async fn sender_keys(&mut self) -> Result<Vec<SenderKey>, StoreError> {
        let select =
            "SELECT resource, digest, expires_ms FROM secrets WHERE resource LIKE 'sender/%' AND digest IS NOT NULL
            AND (expires_ms IS NULL OR expires_ms > $1) ORDER BY resource, generation DESC";
        let rows = sqlx::query(select).bind(self.now_ms).fetch_all(&mut *self.inner).await?;
        let read = |row: &AnyRow| {
            Ok(SenderKey {
                sender: resource(row)?,
                sha256: row.try_get("digest")?,
                expires_ms: row.try_get("expires_ms")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// The number of changes of what snapshots follow from, this transaction's included.
    pub async fn last_change(&mut self) -> Result<i64, StoreError> {
        Ok(sqlx::query(LAST_CHANGE).fetch_one(&mut *self.inner).await?.try_get("value")?)
    }

    /// Counts a change of what snapshots follow from.
    pub(super) async fn note_change(&mut self) -> Result<(), StoreError> {
        let count = sqlx::query("UPDATE counters SET value = value + 1 WHERE name = 'published'");
        count.execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Puts a snapshot in force; gives its revision: at least so much, and more than that of any before. The last hundred are kept.
    pub async fn put_snapshot<D: Serialize>(&mut self, snapshot: &D, at_least: i64) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(revision), 0) AS revision FROM snapshots")
            .fetch_one(&mut *self.inner)
            .await?;
        let revision = (row.try_get::<i64, _>("revision")? + 1).max(at_least);
        let insert = sqlx::query("INSERT INTO snapshots (revision, document, created_ms) VALUES ($1, $2, $3)");
        insert.bind(revision).bind(text(snapshot)).bind(self.now_ms).execute(&mut *self.inner).await?;
        let forget = "DELETE FROM snapshots WHERE revision NOT IN
            (SELECT revision FROM snapshots ORDER BY revision DESC LIMIT $1)";
        sqlx::query(forget).bind(SNAPSHOTS_KEPT).execute(&mut *self.inner).await?;
        Ok(revision)
    }

    /// The newest snapshot and its revision.
    pub async fn snapshot<D: DeserializeOwned>(&mut self) -> Result<Option<(i64, D)>, StoreError> {
        let select = "SELECT * FROM snapshots ORDER BY revision DESC LIMIT 1";
        let Some(row) = sqlx::query(select).fetch_optional(&mut *self.inner).await? else { return Ok(None) };
        let revision = row.try_get("revision")?;
        Ok(Some((revision, document(&row, "document", || format!("snapshot {revision}"))?)))
    }
}

impl Store {
    /// What is published of a resource.
    pub async fn published_of(&self, id: &ResourceId) -> Result<Option<Published>, StoreError> {
        let select = sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE resource = $1"))).bind(id.to_string());
        select.fetch_optional(&self.pool).await?.as_ref().map(read).transpose()
    }

    /// What waits to be published, the longest wait first.
    pub async fn waiting(&self, limit: u32) -> Result<Vec<Published>, StoreError> {
        let select = format!("{COLUMNS} WHERE next IS NOT NULL ORDER BY changed_ms, resource LIMIT {limit}");
        sqlx::query(sqlx::AssertSqlSafe(select)).fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// The number of changes of what snapshots follow from.
    pub async fn last_change(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query(LAST_CHANGE).fetch_one(&self.pool).await?.try_get("value")?)
    }

    /// Every proxy that has asked within so long, by name.
    pub async fn proxies(&self, within_ms: i64) -> Result<Vec<ProxySeen>, StoreError> {
        let now_ms = super::now_ms();
        let select = sqlx::query("SELECT name, seen_ms, revision FROM proxies WHERE seen_ms > $1 ORDER BY name");
        let rows = select.bind(now_ms - within_ms).fetch_all(&self.pool).await?;
        let read = |row: &AnyRow| {
            let ago_ms = (now_ms - row.try_get::<i64, _>("seen_ms")?).max(0);
            Ok(ProxySeen { name: row.try_get("name")?, ago_ms, revision: row.try_get("revision")? })
        };
        rows.iter().map(read).collect()
    }

    /// Notes which proxies a node has seen; gives how many all nodes have, within so long.
    pub async fn note_proxies(&self, seen: &[ProxySeen], within_ms: i64) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let upsert = "INSERT INTO proxies (name, seen_ms, revision) VALUES ($1, $2, $3)
            ON CONFLICT (name) DO UPDATE SET revision = excluded.revision,
                seen_ms = CASE WHEN excluded.seen_ms > proxies.seen_ms THEN excluded.seen_ms ELSE proxies.seen_ms END";
        for proxy in seen {
            let query = sqlx::query(upsert).bind(&proxy.name).bind(tx.now_ms - proxy.ago_ms).bind(proxy.revision);
            query.execute(&mut *tx.inner).await?;
        }
        let forget = sqlx::query("DELETE FROM proxies WHERE seen_ms < $1").bind(tx.now_ms - PROXY_KEPT_MS);
        forget.execute(&mut *tx.inner).await?;
        let count = sqlx::query("SELECT COUNT(*) AS count FROM proxies WHERE seen_ms > $1").bind(tx.now_ms - within_ms);
        let count: i64 = count.fetch_one(&mut *tx.inner).await?.try_get("count")?;
        tx.commit().await?;
        Ok(count.max(0) as u64)
    }
}

fn read(row: &AnyRow) -> Result<Published, StoreError> {
    let resource = resource(row)?;
    let part = |column: &str| match row.try_get::<Option<String>, _>(column)? {
        None => Ok(None),
        Some(_) => document(row, column, || format!("what is published of {resource}")).map(Some),
    };
    Ok(Published {
        live: part("live")?,
        next: part("next")?,
        reason: row.try_get("reason")?,
        resource: resource.clone(),
    })
}

fn resource(row: &AnyRow) -> Result<ResourceId, StoreError> {
    let name: String = row.try_get("resource")?;
    name.parse().map_err(|error| StoreError::Document { what: name, source: serde::de::Error::custom(error) })
}
