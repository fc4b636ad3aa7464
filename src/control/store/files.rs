//! Which file of its repository a resource comes from.

use std::collections::HashMap;

use sqlx::Row as _;

use super::query::{ROWS_MAX, places};
use super::{StoreError, Tx};
use crate::control::resource::ResourceId;

impl Tx {
    /// The files that these resources come from, of those that come from one.
    pub async fn files_of(&mut self, ids: &[&ResourceId]) -> Result<Vec<(ResourceId, String)>, StoreError> {
        let mut files = Vec::new();
        for ids in ids.chunks(ROWS_MAX) {
            let select = format!("SELECT resource, file FROM files WHERE resource IN {}", places(1, 1, ids.len()));
            let query =
                ids.iter().fold(sqlx::query(sqlx::AssertSqlSafe(select)), |query, id| query.bind(id.to_string()));
            let of: HashMap<String, &ResourceId> = ids.iter().map(|id| (id.to_string(), *id)).collect();
            for row in query.fetch_all(&mut *self.inner).await? {
                let name: String = row.try_get("resource")?;
                files.extend(of.get(&name).map(|id| ResourceId::clone(id)).zip(row.try_get("file")?));
            }
        }
        Ok(files)
    }

    /// Notes the file that a resource comes from; none: it comes from none any more.
    pub async fn put_file(&mut self, id: &ResourceId, file: Option<&str>) -> Result<(), StoreError> {
        let Some(file) = file else {
            sqlx::query("DELETE FROM files WHERE resource = $1").bind(id.to_string()).execute(&mut *self.inner).await?;
            return Ok(());
        };
        let put = "INSERT INTO files (resource, file) VALUES ($1, $2)
            ON CONFLICT (resource) DO UPDATE SET file = excluded.file";
        sqlx::query(put).bind(id.to_string()).bind(file).execute(&mut *self.inner).await?;
        Ok(())
    }
}
