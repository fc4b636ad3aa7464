//! Resources: what is desired of each, and what was seen of it last.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::query::Query;
use super::{Store, StoreError, Tx, document, text};
use crate::control::resource::{Kind, ManagedBy, ResourceId, Spec};

/// How far a resource has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResourceState {
    /// It is being made or changed.
    Applying,
    /// It is as it was asked for.
    Ready,
    /// It waits for something that may come by itself, such as a schema.
    Waiting,
    /// It could not be made; its message says why.
    Failed,
    /// It is being taken away.
    Deleting,
}

impl ResourceState {
    const ALL: [(ResourceState, &'static str); 5] = [
        (ResourceState::Applying, "applying"),
        (ResourceState::Ready, "ready"),
        (ResourceState::Waiting, "waiting"),
        (ResourceState::Failed, "failed"),
        (ResourceState::Deleting, "deleting"),
    ];

    /// The name in replies and in the store.
    pub fn as_str(self) -> &'static str {
        ResourceState::ALL.iter().find(|(state, _)| *state == self).expect("the list has every state").1
    }
}

/// One resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Resource {
    /// Its name.
    #[schema(value_type = String)]
    pub id: ResourceId,
    /// The service that owns it; empty for clusters.
    pub service: String,
    /// What is desired.
    #[serde(flatten)]
    pub spec: Spec,
    /// Counts what was desired of it so far.
    pub generation: i64,
    /// Counts every change of the row: its ETag.
    pub revision: i64,
    /// How far it has come.
    pub state: ResourceState,
    /// Why it is not ready; empty when it is.
    pub message: String,
    /// Who may change it.
    pub managed_by: ManagedBy,
    /// Kafka's own id of a topic: a topic of the same name with another id is another topic.
    pub kafka_id: Option<String>,
    /// What was seen of it last.
    #[schema(value_type = Option<Object>)]
    pub observed: Option<Value>,
    /// When that was, milliseconds since 1970.
    pub observed_ms: Option<i64>,
    /// When it was made, milliseconds since 1970.
    pub created_ms: i64,
    /// When its row changed last, milliseconds since 1970.
    pub updated_ms: i64,
}

impl Resource {
    /// One that is as it should be, managed by the API, and not in the store yet.
    pub fn new(id: ResourceId, service: String, spec: Spec) -> Resource {
        Resource {
            id,
            service,
            spec,
            generation: 1,
            revision: 0,
            state: ResourceState::Ready,
            message: String::new(),
            managed_by: ManagedBy::Api,
            kafka_id: None,
            observed: None,
            observed_ms: None,
            created_ms: 0,
            updated_ms: 0,
        }
    }
}

/// Which resources are asked for. Empty: all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this kind.
    pub kind: Option<Kind>,
    /// On this cluster.
    pub cluster: Option<String>,
    /// Of this service.
    pub service: Option<String>,
    /// With this text in name, service or description.
    pub text: Option<String>,
    /// That have come this far.
    pub state: Option<ResourceState>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// Only what comes after this one; none: from the first.
    pub after: Option<ResourceId>,
    /// Most that are wanted.
    pub limit: u32,
}

const COLUMNS: &str = "kind, cluster, name, service, spec, generation, revision, state, message, managed_by, kafka_id, observed, observed_ms, created_ms, updated_ms";

impl Store {
    /// The resource of this name.
    pub async fn resource(&self, id: &ResourceId) -> Result<Option<Resource>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(one())).bind(id.kind.as_str()).bind(cluster(id)).bind(&id.name);
        row.fetch_optional(&self.pool).await?.as_ref().map(read).transpose()
    }

    /// Resources in order of kind, cluster and name; one more than the limit says that there are more.
    pub async fn resources(&self, filter: &Filter, page: &Page) -> Result<Vec<Resource>, StoreError> {
        let text = filter.text.as_ref().map(|text| format!("%{}%", escape_like(&text.to_lowercase())));
        let mut query = Query::new(format!("SELECT {COLUMNS} FROM resources WHERE 1 = 1"));
        query.and("kind = ", filter.kind.map(|kind| kind.as_str().to_owned()));
        query.and("cluster = ", filter.cluster.clone());
        query.and("service = ", filter.service.clone());
        query.and("state = ", filter.state.map(|state| state.as_str().to_owned()));
        query.and_then("search LIKE ", text, " ESCAPE '\\'");
        if let Some(after) = &page.after {
            query.and_after(
                "(kind, cluster, name)",
                [after.kind.as_str().to_owned(), cluster(after), after.name.clone()],
            );
        }
        let rows = query.fetch(&self.pool, "kind, cluster, name", page.limit).await?;
        rows.iter().map(read).collect()
    }
}

impl Tx {
    /// The resource of this name, as of this transaction.
    pub async fn resource(&mut self, id: &ResourceId) -> Result<Option<Resource>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(one())).bind(id.kind.as_str()).bind(cluster(id)).bind(&id.name);
        row.fetch_optional(&mut *self.inner).await?.as_ref().map(read).transpose()
    }

    /// Writes a resource that was read in this transaction, or a new one; its revision is counted up, and told.
    pub async fn put_resource(&mut self, resource: &Resource) -> Result<i64, StoreError> {
        let found = self.resource(&resource.id).await?.map_or(0, |found| found.revision);
        if found != resource.revision {
            let what = resource.id.to_string();
            return Err(StoreError::Stale { what, found, expected: resource.revision });
        }
        let revision = found + 1;
        let statement =
            "INSERT INTO resources (kind, cluster, name, service, spec, generation, revision, state, message,
                managed_by, kafka_id, observed, observed_ms, created_ms, updated_ms, search)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
            ON CONFLICT (kind, cluster, name) DO UPDATE SET service = excluded.service, spec = excluded.spec,
                generation = excluded.generation, revision = excluded.revision, state = excluded.state,
                message = excluded.message, managed_by = excluded.managed_by, kafka_id = excluded.kafka_id,
                observed = excluded.observed, observed_ms = excluded.observed_ms, updated_ms = excluded.updated_ms,
                search = excluded.search";
        let created_ms = if found == 0 { self.now_ms } else { resource.created_ms };
        sqlx::query(statement)
            .bind(resource.id.kind.as_str())
            .bind(cluster(&resource.id))
            .bind(&resource.id.name)
            .bind(&resource.service)
            .bind(text(&resource.spec))
            .bind(resource.generation)
            .bind(revision)
            .bind(resource.state.as_str())
            .bind(&resource.message)
            .bind(text(&resource.managed_by))
            .bind(&resource.kafka_id)
            .bind(resource.observed.as_ref().map(text))
            .bind(resource.observed_ms)
            .bind(created_ms)
            .bind(self.now_ms)
            .bind(search_text(resource))
            .execute(&mut *self.inner)
            .await?;
        Ok(revision)
    }

    /// Resources of a kind on a cluster whose name or description ends in this: grants on a topic, event types that go to it. More
    /// may end so than are meant.
    pub async fn named_after(&mut self, kind: Kind, cluster: &str, text: &str) -> Result<Vec<Resource>, StoreError> {
        let select =
            format!("SELECT {COLUMNS} FROM resources WHERE kind = $1 AND cluster = $2 AND search LIKE $3 ESCAPE '\\'");
        // Every part of the text stands in this program; what callers bring is bound.
        let query = sqlx::query(sqlx::AssertSqlSafe(select)).bind(kind.as_str()).bind(cluster);
        let query = query.bind(format!("%{}", escape_like(&text.to_lowercase())));
        query.fetch_all(&mut *self.inner).await?.iter().map(read).collect()
    }

    /// Forgets a resource.
    pub async fn delete_resource(&mut self, id: &ResourceId) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM resources WHERE kind = $1 AND cluster = $2 AND name = $3");
        delete.bind(id.kind.as_str()).bind(cluster(id)).bind(&id.name).execute(&mut *self.inner).await?;
        Ok(())
    }
}

fn one() -> String {
    format!("SELECT {COLUMNS} FROM resources WHERE kind = $1 AND cluster = $2 AND name = $3")
}

/// The column: a key has no nulls.
pub(super) fn cluster(id: &ResourceId) -> String {
    id.cluster.clone().unwrap_or_default()
}

/// What a search looks at, in lower case.
fn search_text(resource: &Resource) -> String {
    let description = match &resource.spec {
        Spec::Service(spec) => spec.description.as_str(),
        Spec::Topic(spec) => spec.description.as_str(),
        Spec::Group(spec) => spec.description.as_str(),
        Spec::EventType(spec) => spec.topic.as_str(),
        Spec::Access(spec) => spec.target.as_str(),
        _ => "",
    };
    format!("{} {} {description}", resource.id, resource.service).to_lowercase()
}

fn escape_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

fn read(row: &AnyRow) -> Result<Resource, StoreError> {
    let (kind, cluster, name): (String, String, String) =
        (row.try_get("kind")?, row.try_get("cluster")?, row.try_get("name")?);
    let what = || format!("resource {kind}/{cluster}/{name}");
    let wrong = |text: &str| StoreError::Document {
        what: what(),
        source: serde::de::Error::custom(format!("`{text}` is none that this version knows")),
    };
    let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind).ok_or_else(|| wrong(&kind))?;
    let state: String = row.try_get("state")?;
    let state = ResourceState::ALL.iter().find(|(_, name)| *name == state).ok_or_else(|| wrong(&state))?.0;
    let observed = match row.try_get::<Option<String>, _>("observed")? {
        None => None,
        Some(_) => Some(document(row, "observed", what)?),
    };
    Ok(Resource {
        service: row.try_get("service")?,
        spec: document(row, "spec", what)?,
        generation: row.try_get("generation")?,
        revision: row.try_get("revision")?,
        state,
        message: row.try_get("message")?,
        managed_by: document(row, "managed_by", what)?,
        kafka_id: row.try_get("kafka_id")?,
        observed,
        observed_ms: row.try_get("observed_ms")?,
        created_ms: row.try_get("created_ms")?,
        updated_ms: row.try_get("updated_ms")?,
        id: ResourceId { kind, cluster: (!cluster.is_empty()).then_some(cluster), name },
    })
}
