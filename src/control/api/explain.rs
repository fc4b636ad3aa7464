//! What a topic would become, and what a cluster has left: read only, for whoever wants to know before they ask.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Api;
use super::extract::Json;
use super::problem::{Problem, kinds};
use super::requests::read_spec;
use crate::control::capacity::{self, Resolved, Wanted};
use crate::control::provider;
use crate::control::resource::{ClusterSpec, Kind, ResourceId, Spec, Violation, rule};
use crate::control::store::{Filter, Page as StorePage, Resource};
use crate::control::world::{ClusterView, World};

/// Most clusters that there are.
pub(super) const CLUSTERS_MAX: u32 = 1_000;

/// The body of `POST /v1/explain`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// On which cluster.
    pub cluster: String,
    /// The topic, as it would be asked for.
    #[schema(value_type = Object)]
    pub spec: Value,
}

/// What becomes of a topic, and how that comes about.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Explanation {
    /// What was put in, with what is assumed where nothing was said.
    pub inputs: Wanted,
    /// What comes out, with every step of the way.
    pub resolved: Resolved,
    /// What it costs a month by the cluster's prices; none where it has none.
    pub monthly_cost: Option<f64>,
}

/// `POST /v1/explain`
pub async fn explain(State(api): State<Api>, Json(question): Json<Question>) -> Result<Response, Problem> {
    let id = ResourceId::on(Kind::Topic, &question.cluster, "topic");
    let Some(Spec::Topic(spec)) = read_spec(&id, Some(question.spec))? else {
        return Err(Problem::new(kinds::MALFORMED, "body: `spec` is an object"));
    };
    let views = views(&api).await?;
    let Some(view) = views.get(&question.cluster) else {
        return Err(Problem::not_found(format_args!("cluster {}", question.cluster)));
    };
    let mut world = World::of(&[], "");
    world.add_cluster(&question.cluster, view.clone());
    let resolved = provider::resolve(&spec, &world, &question.cluster).map_err(|wrong| {
        let violations: Vec<_> = wrong
            .into_iter()
            .map(|wrong| Violation {
                resource: id.clone(),
                field: wrong.field.to_owned(),
                rule: rule::CAPACITY.id.to_owned(),
                problem: wrong.problem,
                fix: wrong.fix,
            })
            .collect();
        let detail = format!("{} things are wrong", violations.len());
        Problem { violations, ..Problem::new(kinds::INVALID, detail) }
    })?;
    let monthly_cost = cost(&resolved, &view.spec);
    Ok(axum::Json(Explanation { inputs: spec.wanted(), resolved, monthly_cost }).into_response())
}

/// What a topic costs a month, where the cluster has prices.
pub(super) fn monthly_cost(resource: &Resource, views: &BTreeMap<String, ClusterView>) -> Option<f64> {
    let (Spec::Topic(spec), Some(cluster)) = (&resource.spec, &resource.id.cluster) else { return None };
    let view = views.get(cluster)?;
    let mut world = World::of(&[], "");
    world.add_cluster(cluster, view.clone());
    cost(&provider::resolve(spec, &world, cluster).ok()?, &view.spec)
}

fn cost(resolved: &Resolved, cluster: &ClusterSpec) -> Option<f64> {
    let (gb, partition) = (cluster.gb_month_price, cluster.partition_month_price);
    // Cents are enough, and a float's tail helps nobody.
    let round = |cost: f64| (cost * 100.0).round() / 100.0;
    (gb > 0.0 || partition > 0.0).then(|| round(capacity::monthly_cost(resolved, gb, partition)))
}

/// The registered clusters, with what is known of their brokers.
pub(super) async fn views(api: &Api) -> Result<BTreeMap<String, ClusterView>, Problem> {
    let filter = Filter { kind: Some(Kind::Cluster), ..Filter::default() };
    let rows = api.store.resources(&filter, &StorePage { after: None, limit: CLUSTERS_MAX }).await?;
    let known = api.clusters.load();
    let view = |row: Resource| {
        let Spec::Cluster(spec) = row.spec else { return None };
        let view = known.get(&row.id.name).cloned().unwrap_or_default();
        Some((row.id.name, view.with_spec(spec)))
    };
    Ok(rows.into_iter().filter_map(view).collect())
}
