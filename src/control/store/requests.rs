//! Requests and the steps that carry them out: the journal.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::query::Query;
use super::{Lease, Store, StoreError, Tx, document, text};

/// A request that comes in. What it holds is the request module's; the store keeps it as it is.
#[derive(Clone, Debug)]
pub struct NewRequest<'a, D> {
    /// Its id: a UUIDv7, so that ids are in order of time.
    pub id: &'a str,
    /// Who made it.
    pub actor: &'a str,
    /// For which service.
    pub service: &'a str,
    /// Its state's name.
    pub state: &'a str,
    /// All of it.
    pub document: &'a D,
    /// Hash of its plan.
    pub plan_hash: &'a str,
    /// The caller's name of it: a second one with the same key is the first one.
    pub idempotency_key: Option<&'a str>,
}

/// A request as it is kept.
#[derive(Clone, Debug)]
pub struct RequestRow<D> {
    /// Its id.
    pub id: String,
    /// Who made it.
    pub actor: String,
    /// For which service.
    pub service: String,
    /// Its state's name.
    pub state: String,
    /// All of it.
    pub document: D,
    /// Hash of its plan.
    pub plan_hash: String,
    /// Counts its changes: its ETag.
    pub revision: i64,
    /// When it came in, milliseconds since 1970.
    pub created_ms: i64,
    /// When it changed last.
    pub updated_ms: i64,
}

/// Which requests are asked for. Empty: all.
#[derive(Clone, Debug, Default)]
pub struct RequestFilter {
    /// In this state.
    pub state: Option<String>,
    /// For this service.
    pub service: Option<String>,
    /// Made by this one.
    pub actor: Option<String>,
}

impl RequestFilter {
    /// Those in a state.
    pub fn in_state(state: &str) -> RequestFilter {
        RequestFilter { state: Some(state.to_owned()), ..RequestFilter::default() }
    }
}

/// How far a step has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Nobody has begun it.
    Todo,
    /// Somebody has; whether it was done is to be looked at.
    Begun,
    /// It was done, and seen to be.
    Done,
    /// It cannot be done.
    Failed,
}

impl StepState {
    const ALL: [(StepState, &'static str); 4] = [
        (StepState::Todo, "todo"),
        (StepState::Begun, "begun"),
        (StepState::Done, "done"),
        (StepState::Failed, "failed"),
    ];

    /// The name in replies and in the store.
    pub fn as_str(self) -> &'static str {
        StepState::ALL.iter().find(|(state, _)| *state == self).expect("the list has every state").1
    }
}

/// A step as it is kept.
#[derive(Clone, Debug)]
pub struct StepRow<D> {
    /// Its place among the request's steps, from 0.
    pub seq: i64,
    /// What is to be done.
    pub document: D,
    /// How far it has come.
    pub state: StepState,
    /// How often it was begun.
    pub attempts: i64,
    /// What came of it.
    pub result: Option<Value>,
}

impl Tx {
    /// The request that came in with this key before.
    pub async fn request_by_key<D: DeserializeOwned>(
        &mut self,
        key: &str,
    ) -> Result<Option<RequestRow<D>>, StoreError> {
        let row = sqlx::query("SELECT * FROM requests WHERE idempotency_key = $1").bind(key);
        row.fetch_optional(&mut *self.inner).await?.as_ref().map(read).transpose()
    }

    /// Keeps a new request.
    pub async fn add_request<D: Serialize>(&mut self, request: &NewRequest<'_, D>) -> Result<(), StoreError> {
        let insert = "INSERT INTO requests (id, actor, service, state, document, plan_hash, revision, idempotency_key, created_ms, updated_ms)
            VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8, $8)";
        sqlx::query(insert)
            .bind(request.id)
            .bind(request.actor)
            .bind(request.service)
            .bind(request.state)
            .bind(text(request.document))
            .bind(request.plan_hash)
            .bind(request.idempotency_key)
            .bind(self.now_ms)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Writes down what is to be done for a request, before any of it is; behind what was done for it already.
    pub async fn add_steps<S: Serialize>(
        &mut self,
        lease: &Lease,
        request: &str,
        steps: &[S],
    ) -> Result<(), StoreError> {
        self.fenced(lease).await?;
        let row = sqlx::query("SELECT COALESCE(MAX(seq) + 1, 0) AS next FROM steps WHERE request = $1").bind(request);
        let next: i64 = row.fetch_one(&mut *self.inner).await?.try_get("next")?;
        for (seq, step) in (next..).zip(steps) {
            let insert = "INSERT INTO steps (request, seq, document, state, attempts, fence)
                VALUES ($1, $2, $3, 'todo', 0, $4)";
            let insert = sqlx::query(insert).bind(request).bind(seq).bind(text(step)).bind(lease.fence);
            insert.execute(&mut *self.inner).await?;
        }
        Ok(())
    }

    /// The request with this id, as of this transaction.
    pub async fn request<D: DeserializeOwned>(&mut self, id: &str) -> Result<Option<RequestRow<D>>, StoreError> {
        let row = sqlx::query("SELECT * FROM requests WHERE id = $1").bind(id).fetch_optional(&mut *self.inner).await?;
        row.as_ref().map(read).transpose()
    }

    /// Writes a request that was read in this transaction.
    pub async fn put_request<D: Serialize>(&mut self, row: &RequestRow<D>) -> Result<(), StoreError> {
        let update =
            "UPDATE requests SET state = $1, document = $2, plan_hash = $3, revision = revision + 1, updated_ms = $4
            WHERE id = $5 AND revision = $6";
        let done = sqlx::query(update)
            .bind(&row.state)
            .bind(text(&row.document))
            .bind(&row.plan_hash)
            .bind(self.now_ms)
            .bind(&row.id)
            .bind(row.revision)
            .execute(&mut *self.inner)
            .await?;
        if done.rows_affected() == 1 {
            return Ok(());
        }
        let what = format!("request {}", row.id);
        Err(StoreError::Stale { what, found: row.revision + 1, expected: row.revision })
    }

    /// Notes how far a step has come; refused for a node that another one took over from.
    pub async fn put_step(
        &mut self,
        lease: &Lease,
        request: &str,
        seq: i64,
        state: StepState,
        result: Option<&Value>,
    ) -> Result<(), StoreError> {
        self.fenced(lease).await?;
        let update = "UPDATE steps SET state = $1, attempts = attempts + $2, result = COALESCE($3, result), fence = $4
            WHERE request = $5 AND seq = $6";
        sqlx::query(update)
            .bind(state.as_str())
            .bind(i64::from(state == StepState::Begun))
            .bind(result.map(text))
            .bind(lease.fence)
            .bind(request)
            .bind(seq)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }
}

impl Store {
    /// The request with this id.
    pub async fn request<D: DeserializeOwned>(&self, id: &str) -> Result<Option<RequestRow<D>>, StoreError> {
        let row = sqlx::query("SELECT * FROM requests WHERE id = $1").bind(id).fetch_optional(&self.pool).await?;
        row.as_ref().map(read).transpose()
    }

    /// Requests, the newest first, those before this id.
    pub async fn requests<D: DeserializeOwned>(
        &self,
        filter: &RequestFilter,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<RequestRow<D>>, StoreError> {
        let mut query = Query::new("SELECT * FROM requests WHERE 1 = 1".to_owned());
        query.and("state = ", filter.state.clone());
        query.and("service = ", filter.service.clone());
        query.and("actor = ", filter.actor.clone());
        query.and("id < ", before.map(str::to_owned));
        query.fetch(&self.pool, "id DESC", limit).await?.iter().map(read).collect()
    }

    /// A request's steps, in order.
    pub async fn steps<D: DeserializeOwned>(&self, request: &str) -> Result<Vec<StepRow<D>>, StoreError> {
        let rows = sqlx::query("SELECT * FROM steps WHERE request = $1 ORDER BY seq").bind(request);
        rows.fetch_all(&self.pool).await?.iter().map(|row| read_step(row, request)).collect()
    }
}

fn read<D: DeserializeOwned>(row: &AnyRow) -> Result<RequestRow<D>, StoreError> {
    let id: String = row.try_get("id")?;
    Ok(RequestRow {
        actor: row.try_get("actor")?,
        service: row.try_get("service")?,
        state: row.try_get("state")?,
        document: document(row, "document", || format!("request {id}"))?,
        plan_hash: row.try_get("plan_hash")?,
        revision: row.try_get("revision")?,
        created_ms: row.try_get("created_ms")?,
        updated_ms: row.try_get("updated_ms")?,
        id,
    })
}

fn read_step<D: DeserializeOwned>(row: &AnyRow, request: &str) -> Result<StepRow<D>, StoreError> {
    let seq: i64 = row.try_get("seq")?;
    let what = || format!("step {seq} of request {request}");
    let state: String = row.try_get("state")?;
    let known = StepState::ALL.iter().find(|(_, name)| *name == state);
    let unknown = || StoreError::Document {
        what: what(),
        source: serde::de::Error::custom(format!("`{state}` is none that this version knows")),
    };
    let result = match row.try_get::<Option<String>, _>("result")? {
        None => None,
        Some(_) => Some(document(row, "result", what)?),
    };
    Ok(StepRow {
        seq,
        document: document(row, "document", what)?,
        state: known.ok_or_else(unknown)?.0,
        attempts: row.try_get("attempts")?,
        result,
    })
}
