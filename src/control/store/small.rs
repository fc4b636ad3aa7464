//! What needs little: tokens, secrets, policies.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Store, StoreError, Tx, document, text};

/// A token of the API, by the hash of its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Token<D> {
    /// SHA-256 of the token, in hex; all that is kept of it.
    pub hash: String,
    /// Its name; there is one of each.
    pub name: String,
    /// What it may do.
    pub document: D,
    /// When it ends, milliseconds since 1970.
    pub expires_ms: Option<i64>,
}

/// A secret that somebody may read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Of which resource.
    pub resource: String,
    /// Which of its secrets.
    pub generation: i64,
    /// The secret, sealed; none once it was read, or when it was given to a sink.
    pub sealed: Option<String>,
    /// What of it is kept for ever: the hash of an API key.
    pub digest: Option<String>,
    /// Who may read it.
    pub reader: String,
    /// Until when it is taken, milliseconds since 1970; none: until it is replaced.
    pub expires_ms: Option<i64>,
}

/// What is known of a resource's secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretState {
    /// The newest that was proved to work.
    pub verified: Option<i64>,
    /// The newest.
    pub newest: Option<i64>,
    /// Whether all of them were forgotten.
    pub locked: bool,
}

impl Tx {
    /// Keeps a token; one of the same name is replaced.
    pub async fn put_token<D: Serialize>(&mut self, token: &Token<D>) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM tokens WHERE name = $1").bind(&token.name).execute(&mut *self.inner).await?;
        let insert = "INSERT INTO tokens (hash, name, document, created_ms, expires_ms) VALUES ($1, $2, $3, $4, $5)";
        sqlx::query(insert)
            .bind(&token.hash)
            .bind(&token.name)
            .bind(text(&token.document))
            .bind(self.now_ms)
            .bind(token.expires_ms)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Takes a token away; says whether there was one.
    pub async fn delete_token(&mut self, name: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM tokens WHERE name = $1").bind(name).execute(&mut *self.inner).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Keeps a secret.
    pub async fn put_secret(&mut self, secret: &Secret) -> Result<(), StoreError> {
        // Whoever of this name was locked out is not the one that gets this.
        let forget = sqlx::query("DELETE FROM secrets WHERE resource = $1 AND locked = 1");
        forget.bind(&secret.resource).execute(&mut *self.inner).await?;
        let insert =
            "INSERT INTO secrets (resource, generation, sealed, digest, reader, created_ms, locked, expires_ms)
            VALUES ($1, $2, $3, $4, $5, $6, 0, $7)
            ON CONFLICT (resource, generation) DO UPDATE SET sealed = excluded.sealed, digest = excluded.digest,
                reader = excluded.reader, expires_ms = excluded.expires_ms";
        sqlx::query(insert)
            .bind(&secret.resource)
            .bind(secret.generation)
            .bind(&secret.sealed)
            .bind(&secret.digest)
            .bind(&secret.reader)
            .bind(self.now_ms)
            .bind(secret.expires_ms)
            .execute(&mut *self.inner)
            .await?;
        self.note_change().await
    }

    /// Notes that a secret was proved to work; those before it are of no more use to anybody.
    pub async fn verify_secret(&mut self, resource: &str, generation: i64) -> Result<(), StoreError> {
        let verify = sqlx::query("UPDATE secrets SET verified_ms = $1 WHERE resource = $2 AND generation = $3");
        verify.bind(self.now_ms).bind(resource).bind(generation).execute(&mut *self.inner).await?;
        let forget = sqlx::query("UPDATE secrets SET sealed = NULL WHERE resource = $1 AND generation < $2");
        forget.bind(resource).bind(generation).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Lets every secret of a resource before this one end, after so long.
    pub async fn expire_secrets(&mut self, resource: &str, before: i64, in_ms: i64) -> Result<(), StoreError> {
        let until_ms = self.now_ms + in_ms;
        let expire = "UPDATE secrets SET expires_ms = $1 WHERE resource = $2 AND generation < $3
            AND (expires_ms IS NULL OR expires_ms > $1)";
        sqlx::query(expire).bind(until_ms).bind(resource).bind(before).execute(&mut *self.inner).await?;
        self.note_change().await
    }

    /// Forgets every secret of a resource: nobody knows it any more.
    pub async fn lock_secrets(&mut self, resource: &str) -> Result<(), StoreError> {
        let lock = "UPDATE secrets SET sealed = NULL, digest = NULL, locked = 1 WHERE resource = $1";
        sqlx::query(lock).bind(resource).execute(&mut *self.inner).await?;
        self.note_change().await
    }

    /// Takes a secret out, for the one who may read it: it is there once.
    pub async fn take_secret(
        &mut self,
        resource: &str,
        generation: i64,
        reader: &str,
    ) -> Result<Option<String>, StoreError> {
        let select =
            "SELECT sealed FROM secrets WHERE resource = $1 AND generation = $2 AND reader = $3 AND sealed IS NOT NULL";
        let row =
            sqlx::query(select).bind(resource).bind(generation).bind(reader).fetch_optional(&mut *self.inner).await?;
        let Some(row) = row else { return Ok(None) };
        let sealed = row.try_get("sealed")?;
        let update = "UPDATE secrets SET sealed = NULL, read_ms = $1 WHERE resource = $2 AND generation = $3";
        sqlx::query(update).bind(self.now_ms).bind(resource).bind(generation).execute(&mut *self.inner).await?;
        Ok(sealed)
    }

    /// Puts a policy in force; gives its revision.
    pub async fn put_policy<D: Serialize>(&mut self, policy: &D, actor: &str) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(revision), 0) AS revision FROM policies")
            .fetch_one(&mut *self.inner)
            .await?;
        let revision = row.try_get::<i64, _>("revision")? + 1;
        let insert =
            sqlx::query("INSERT INTO policies (revision, document, actor, created_ms) VALUES ($1, $2, $3, $4)");
        insert.bind(revision).bind(text(policy)).bind(actor).bind(self.now_ms).execute(&mut *self.inner).await?;
        Ok(revision)
    }
}

impl Store {
    /// The token with this hash, unless its time is up.
    pub async fn token<D: DeserializeOwned>(&self, hash: &str) -> Result<Option<Token<D>>, StoreError> {
        let select = "SELECT * FROM tokens WHERE hash = $1 AND (expires_ms IS NULL OR expires_ms > $2)";
        let row = sqlx::query(select).bind(hash).bind(super::now_ms()).fetch_optional(&self.pool).await?;
        row.as_ref().map(read_token).transpose()
    }

    /// All tokens, those whose time is up too, by name.
    pub async fn tokens<D: DeserializeOwned>(&self) -> Result<Vec<Token<D>>, StoreError> {
        let rows = sqlx::query("SELECT * FROM tokens ORDER BY name").fetch_all(&self.pool).await?;
        rows.iter().map(read_token).collect()
    }

    /// The tokens that end, the soonest first; those that ended more than a day ago are left out.
    pub async fn tokens_that_end<D: DeserializeOwned>(&self, limit: usize) -> Result<Vec<Token<D>>, StoreError> {
        const DAY_MS: i64 = 86_400_000;
        let select = "SELECT * FROM tokens WHERE expires_ms > $1 ORDER BY expires_ms, name LIMIT $2";
        let select = sqlx::query(select).bind(super::now_ms() - DAY_MS).bind(limit as i64);
        select.fetch_all(&self.pool).await?.iter().map(read_token).collect()
    }

    /// A secret as it is sealed, whoever may read it: for giving Kafka the same one again.
    pub async fn sealed_secret(&self, resource: &str, generation: i64) -> Result<Option<String>, StoreError> {
        let select = sqlx::query("SELECT sealed FROM secrets WHERE resource = $1 AND generation = $2");
        let row = select.bind(resource).bind(generation).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.try_get::<Option<String>, _>("sealed")).transpose()?.flatten())
    }

    /// What is known of a resource's secrets.
    pub async fn secret_state(&self, resource: &str) -> Result<SecretState, StoreError> {
        let select = "SELECT MAX(CASE WHEN verified_ms IS NULL THEN NULL ELSE generation END) AS verified,
                MAX(generation) AS newest, MAX(locked) AS locked FROM secrets WHERE resource = $1";
        let row = sqlx::query(select).bind(resource).fetch_one(&self.pool).await?;
        let locked = row.try_get::<Option<i64>, _>("locked")?.unwrap_or(0) != 0;
        Ok(SecretState { verified: row.try_get("verified")?, newest: row.try_get("newest")?, locked })
    }

    /// Secrets of a resource that count now: hashes of API keys.
    pub async fn digests(&self, resource: &str) -> Result<Vec<String>, StoreError> {
        let select = "SELECT digest FROM secrets WHERE resource = $1 AND digest IS NOT NULL
            AND (expires_ms IS NULL OR expires_ms > $2) ORDER BY generation DESC";
        let rows = sqlx::query(select).bind(resource).bind(super::now_ms()).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(row.try_get("digest")?)).collect()
    }

    /// The policy in force and its revision.
    pub async fn policy<D: DeserializeOwned>(&self) -> Result<Option<(i64, D)>, StoreError> {
        let row =
            sqlx::query("SELECT * FROM policies ORDER BY revision DESC LIMIT 1").fetch_optional(&self.pool).await?;
        let Some(row) = row else { return Ok(None) };
        let revision = row.try_get("revision")?;
        Ok(Some((revision, document(&row, "document", || format!("policy {revision}"))?)))
    }
}

fn read_token<D: DeserializeOwned>(row: &AnyRow) -> Result<Token<D>, StoreError> {
    let name: String = row.try_get("name")?;
    Ok(Token {
        hash: row.try_get("hash")?,
        document: document(row, "document", || format!("token {name}"))?,
        expires_ms: row.try_get("expires_ms")?,
        name,
    })
}
