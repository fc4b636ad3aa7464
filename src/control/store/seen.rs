//! What was seen of clusters: what they said of themselves, what is not as it should be, what nobody manages, what was measured.
//!
//! None of it is desired by anybody: all of it can be seen again, and nothing of it counts a resource's revision up.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::query::Query;
use super::resources::cluster;
use super::{Need, Store, StoreError, Tx, document, text};
use crate::control::resource::{Kind, ResourceId};

/// A finding as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct FindingRow<D> {
    /// Its id.
    pub id: String,
    /// On which cluster.
    pub cluster: String,
    /// What it is about.
    pub resource: String,
    /// What it is.
    pub kind: String,
    /// All of it.
    pub document: D,
    /// Since when, milliseconds since 1970.
    pub first_ms: i64,
}

/// Something on a cluster that nobody manages here.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Unmanaged {
    /// What it would be called.
    #[schema(value_type = String)]
    pub id: ResourceId,
    /// What was seen of it.
    #[schema(value_type = Object)]
    pub observed: Value,
    /// Since when, milliseconds since 1970.
    pub since_ms: i64,
}

impl Tx {
    /// Keeps a finding; one that is known keeps the time since when it is.
    pub async fn put_finding<D: Serialize>(&mut self, row: &FindingRow<D>) -> Result<(), StoreError> {
        let upsert = "INSERT INTO findings (id, cluster, resource, kind, document, first_ms)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET document = excluded.document";
        sqlx::query(upsert)
            .bind(&row.id)
            .bind(&row.cluster)
            .bind(&row.resource)
            .bind(&row.kind)
            .bind(text(&row.document))
            .bind(self.now_ms)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Forgets a finding: it is so no longer.
    pub async fn drop_finding(&mut self, id: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM findings WHERE id = $1").bind(id).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Notes what was seen of a resource, unless it has changed since it was read. Its revision stays: nobody wished anything.
    pub async fn note_observed(
        &mut self,
        id: &ResourceId,
        revision: i64,
        observed: Option<&Value>,
    ) -> Result<(), StoreError> {
        let update = "UPDATE resources SET observed = $1, observed_ms = $2
            WHERE kind = $3 AND cluster = $4 AND name = $5 AND revision = $6";
        sqlx::query(update)
            .bind(observed.map(text))
            .bind(self.now_ms)
            .bind(id.kind.as_str())
            .bind(cluster(id))
            .bind(&id.name)
            .bind(revision)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Keeps what a cluster said of itself.
    pub async fn put_probe<D: Serialize>(&mut self, cluster: &str, probe: &D) -> Result<(), StoreError> {
        let upsert = "INSERT INTO probes (cluster, document, at_ms) VALUES ($1, $2, $3)
            ON CONFLICT (cluster) DO UPDATE SET document = excluded.document, at_ms = excluded.at_ms";
        let upsert = sqlx::query(upsert).bind(cluster).bind(text(probe)).bind(self.now_ms);
        upsert.execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Lists something that nobody manages here.
    pub async fn put_unmanaged(&mut self, id: &ResourceId, observed: &Value) -> Result<(), StoreError> {
        let upsert = "INSERT INTO unmanaged (cluster, kind, name, document, first_ms) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (cluster, kind, name) DO UPDATE SET document = excluded.document";
        sqlx::query(upsert)
            .bind(cluster(id))
            .bind(id.kind.as_str())
            .bind(&id.name)
            .bind(text(observed))
            .bind(self.now_ms)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Takes something off that list: it is gone, or somebody manages it now.
    pub async fn drop_unmanaged(&mut self, id: &ResourceId) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM unmanaged WHERE cluster = $1 AND kind = $2 AND name = $3");
        delete.bind(cluster(id)).bind(id.kind.as_str()).bind(&id.name).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Keeps what was measured of something.
    pub async fn put_measure<D: Serialize>(
        &mut self,
        cluster: &str,
        subject: &str,
        measure: &D,
    ) -> Result<(), StoreError> {
        let upsert = "INSERT INTO measures (cluster, subject, document, at_ms) VALUES ($1, $2, $3, $4)
            ON CONFLICT (cluster, subject) DO UPDATE SET document = excluded.document, at_ms = excluded.at_ms";
        let upsert = sqlx::query(upsert).bind(cluster).bind(subject).bind(text(measure)).bind(self.now_ms);
        upsert.execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Forgets what was measured before this time, of things that are no longer there.
    pub async fn drop_measures(&mut self, cluster: &str, before_ms: i64) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM measures WHERE cluster = $1 AND at_ms < $2");
        delete.bind(cluster).bind(before_ms).execute(&mut *self.inner).await?;
        Ok(())
    }
}

impl Store {
    /// Findings of a cluster (none: of all) of this kind (none: of any), those after this id, in order of id.
    pub async fn findings<D: DeserializeOwned>(
        &self,
        cluster: Option<&str>,
        kind: Option<&str>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<FindingRow<D>>, StoreError> {
        let mut query = Query::new("SELECT * FROM findings WHERE 1 = 1".to_owned());
        query.and("cluster = ", cluster.map(str::to_owned));
        query.and("kind = ", kind.map(str::to_owned));
        query.and("id > ", after.map(str::to_owned));
        query.fetch(&self.pool, "id", limit).await?.iter().map(read_finding).collect()
    }

    /// The finding with this id.
    pub async fn finding<D: DeserializeOwned>(&self, id: &str) -> Result<Option<FindingRow<D>>, StoreError> {
        let row = sqlx::query("SELECT * FROM findings WHERE id = $1").bind(id).fetch_optional(&self.pool).await?;
        row.as_ref().map(read_finding).transpose()
    }

    /// What a cluster said of itself last.
    pub async fn probe<D: DeserializeOwned>(&self, cluster: &str) -> Result<Option<D>, StoreError> {
        let row = sqlx::query("SELECT document FROM probes WHERE cluster = $1").bind(cluster);
        let row = row.fetch_optional(&self.pool).await?;
        row.map(|row| document(&row, "document", || format!("cluster {cluster}"))).transpose()
    }

    /// What nobody manages on a cluster, of this kind (none: of any), after this one, in order of kind and name.
    pub async fn unmanaged(
        &self,
        cluster: &str,
        kind: Option<Kind>,
        after: Option<&ResourceId>,
        limit: u32,
    ) -> Result<Vec<Unmanaged>, StoreError> {
        let mut query = Query::new("SELECT * FROM unmanaged WHERE 1 = 1".to_owned());
        query.and("cluster = ", Some(cluster.to_owned()));
        query.and("kind = ", kind.map(|kind| kind.as_str().to_owned()));
        if let Some(after) = after {
            let place = [cluster.to_owned(), after.kind.as_str().to_owned(), after.name.clone()];
            query.and_after("(cluster, kind, name)", place);
        }
        let rows = query.fetch(&self.pool, "cluster, kind, name", limit).await?;
        rows.iter().map(read_unmanaged).collect()
    }

    /// What was measured on a cluster of subjects whose names begin so, by the rest of their names.
    pub async fn measures<D: DeserializeOwned>(
        &self,
        cluster: &str,
        prefix: &str,
    ) -> Result<Vec<(String, D)>, StoreError> {
        debug_assert!(!prefix.contains(['%', '_', '\\']), "prefixes are words of ours");
        let select = "SELECT subject, document FROM measures WHERE cluster = $1 AND subject LIKE $2 ORDER BY subject";
        let rows = sqlx::query(select).bind(cluster).bind(format!("{prefix}%")).fetch_all(&self.pool).await?;
        let read = |row: &AnyRow| {
            let subject: String = row.try_get("subject")?;
            let measure = document(row, "document", || format!("what was measured of {subject}"))?;
            Ok((subject[prefix.len()..].to_owned(), measure))
        };
        rows.iter().map(read).collect()
    }

    /// What was measured of one subject.
    pub async fn measure<D: DeserializeOwned>(&self, cluster: &str, subject: &str) -> Result<Option<D>, StoreError> {
        let select = sqlx::query("SELECT document FROM measures WHERE cluster = $1 AND subject = $2");
        let row = select.bind(cluster).bind(subject).fetch_optional(&self.pool).await?;
        row.map(|row| document(&row, "document", || format!("what was measured of {subject}"))).transpose()
    }

    /// What each resource of a cluster has reserved, with what requests have asked for it.
    pub async fn reserved(&self, cluster: &str) -> Result<Vec<(String, Need)>, StoreError> {
        let rows = sqlx::query(super::reservations::GREATEST).bind(cluster).fetch_all(&self.pool).await?;
        rows.iter().map(super::reservations::read).collect()
    }
}

fn read_finding<D: DeserializeOwned>(row: &AnyRow) -> Result<FindingRow<D>, StoreError> {
    let id: String = row.try_get("id")?;
    Ok(FindingRow {
        cluster: row.try_get("cluster")?,
        resource: row.try_get("resource")?,
        kind: row.try_get("kind")?,
        document: document(row, "document", || format!("finding {id}"))?,
        first_ms: row.try_get("first_ms")?,
        id,
    })
}

fn read_unmanaged(row: &AnyRow) -> Result<Unmanaged, StoreError> {
    let (kind, cluster, name): (String, String, String) =
        (row.try_get("kind")?, row.try_get("cluster")?, row.try_get("name")?);
    let unknown = || StoreError::Document {
        what: format!("{kind}/{cluster}/{name}"),
        source: serde::de::Error::custom(format!("`{kind}` is no kind that this version knows")),
    };
    let known = Kind::ALL.into_iter().find(|known| known.as_str() == kind).ok_or_else(unknown)?;
    let id = ResourceId { kind: known, cluster: Some(cluster), name };
    let observed = document(row, "document", || id.to_string())?;
    Ok(Unmanaged { id, observed, since_ms: row.try_get("first_ms")? })
}
