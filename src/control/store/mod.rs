//! What the management plane knows, on disk: SQLite in one file, or Postgres for several nodes.
//!
//! In: resources, requests, steps, reservations, audit lines. Out: the same, in transactions. Never: decides anything, holds a
//! password in clear text, waits longer than [`PATIENCE`] for another writer.
//!
//! There is one writer at a time on both engines: SQLite's own lock, an advisory lock on Postgres. Whatever a transaction reads is
//! true until it ends, so that admission against a budget needs no second thought; writes are few (people and reconcile loops make
//! them). The text of every statement is the same for both engines.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::{Any, AnyPool, Executor as _, Row as _, Transaction};

mod schema;
mod audit;
mod counts;
mod files;
mod leases;
mod published;
mod query;
mod requests;
mod reservations;
mod resources;
mod small;
mod seen;

pub use audit::{Audit, AuditLine, BrokenChain};
pub use counts::RequestCount;
pub use leases::{Fence, Lease};
pub use published::{ProxySeen, Published, SenderKey};
pub use requests::{NewRequest, RequestFilter, RequestRow, StepRow, StepState};
pub use reservations::{Need, Reservation, Taken};
pub use resources::{Filter, Page, Resource, ResourceState};
pub use seen::{FindingRow, Unmanaged};
pub use small::{Secret, SecretState, Token};

/// How long a transaction waits for the one before it.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long a transaction may stand still before Postgres ends it: a node that was stopped in the middle of one must not hold up
/// the others.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// Connections; readers do not wait for writers.
const CONNECTIONS_MAX: u32 = 8;
/// The advisory lock that stands for "the writer": any number that nothing else in the database uses.
const WRITER: i64 = 0x1672_a2c0;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum StoreError {
    #[error("the store cannot be used: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the store's address is neither `sqlite:` nor `postgres:`")]
    Address,
    #[error(
        "the store holds what a newer version has written (step {found}, this one knows {known}); start that version"
    )]
    Newer { found: i64, known: i64 },
    #[error("what the store holds of {what} cannot be read: {source}")]
    Document { what: String, source: serde_json::Error },
    #[error("{what} has changed meanwhile (it is at revision {found}, not {expected}); read it again")]
    Stale { what: String, found: i64, expected: i64 },
    #[error("another node has taken over `{lease}`")]
    Fenced { lease: String },
}

/// The store.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
    engine: Engine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Sqlite,
    Postgres,
}

/// A transaction: all of it, or nothing. Dropping it undoes what it did.
pub struct Tx {
    inner: Transaction<'static, Any>,
    now_ms: i64,
}

impl Store {
    /// Opens `sqlite:PATH` or `postgres://…`, and brings its tables up to date.
    pub async fn open(address: &str) -> Result<Store, StoreError> {
        sqlx::any::install_default_drivers();
        let (engine, address) = if let Some(path) = address.strip_prefix("sqlite:") {
            (Engine::Sqlite, format!("sqlite:{path}?mode=rwc"))
        } else if address.starts_with("postgres:") || address.starts_with("postgresql:") {
            (Engine::Postgres, address.to_owned())
        } else {
            return Err(StoreError::Address);
        };
        let options = AnyPoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(PATIENCE);
        let options = options.after_connect(move |connection, _| {
            Box::pin(async move {
                let settings: &[&str] = match engine {
                    // FULL: what was committed outlives power loss.
                    Engine::Sqlite => {
                        &["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA busy_timeout = 5000"]
                    }
                    Engine::Postgres => &[
                        "SET lock_timeout = 5000",
                        "SET statement_timeout = 10000",
                        "SET idle_in_transaction_session_timeout = 10000",
                    ],
                };
                for setting in settings {
                    connection.execute(*setting).await?;
                }
                Ok(())
            })
        });
        debug_assert!(PATIENCE.as_millis() == 5_000 && IDLE_MAX.as_millis() == 10_000, "as the settings above say");
        let store = Store { pool: options.connect(&address).await?, engine };
        store.migrate().await?;
        Ok(store)
    }

    /// Begins a transaction, as the only writer.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let mut inner = match self.engine {
            Engine::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await?,
            Engine::Postgres => {
                let mut inner = self.pool.begin().await?;
                sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(WRITER).execute(&mut *inner).await?;
                inner
            }
        };
        // The pool hands out connections that may have died meanwhile; this one has not.
        inner.execute("SELECT 1").await?;
        Ok(Tx { inner, now_ms: now_ms() })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.pool.execute("SELECT 1").await?;
        Ok(())
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let known = schema::STEPS.len() as i64;
        let mut tx = self.begin().await?;
        tx.inner.execute("CREATE TABLE IF NOT EXISTS schema_version (step BIGINT NOT NULL)").await?;
        let row =
            sqlx::query("SELECT COALESCE(MAX(step), 0) AS step FROM schema_version").fetch_one(&mut *tx.inner).await?;
        let found: i64 = row.try_get("step")?;
        if found > known {
            return Err(StoreError::Newer { found, known });
        }
        for (step, statements) in schema::STEPS.iter().enumerate().skip(found as usize) {
            for statement in *statements {
                tx.inner.execute(*statement).await?;
            }
            sqlx::query("INSERT INTO schema_version (step) VALUES ($1)")
                .bind(step as i64 + 1)
                .execute(&mut *tx.inner)
                .await?;
        }
        tx.commit().await
    }
}

impl Tx {
    /// Makes everything that was done in it last.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.inner.commit().await?)
    }

    /// When it began, milliseconds since 1970: the time of everything that it writes.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Reads a document from a column.
fn document<T: serde::de::DeserializeOwned>(
    row: &AnyRow,
    column: &str,
    what: impl Fn() -> String,
) -> Result<T, StoreError> {
    let text: &str = row.try_get(column)?;
    serde_json::from_str(text).map_err(|source| StoreError::Document { what: what(), source })
}

/// Writes a document for a column.
fn text(document: &impl serde::Serialize) -> String {
    serde_json::to_string(document).expect("documents of ours have string keys and finite numbers")
}
