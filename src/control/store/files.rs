//! Which file of its repository a resource comes from.

use sqlx::Row as _;

use super::{StoreError, Tx};
use crate::control::resource::ResourceId;

impl Tx {
    /// The file that a resource comes from, if it comes from one.
    pub async fn file(&mut self, id: &ResourceId) -> Result<Option<String>, StoreError> {
        let query = sqlx::query("SELECT file FROM files WHERE resource = $1").bind(id.to_string());
        let row = query.fetch_optional(&mut *self.inner).await?;
        Ok(row.map(|row| row.try_get("file")).transpose()?)
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
