//! The rules that wishes are judged by, for whoever is about to wish for something.

use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::extract::Params;
use super::requests::Page;
use crate::control::resource::rule::{RULES, Rule};

/// What is asked of the rules.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct RuleParams {
    /// Only those about this field, such as `topic.capacity`, or this kind.
    about: Option<String>,
}

/// `GET /v1/rules`
pub async fn list(Params(params): Params<RuleParams>) -> Response {
    let is_asked = |rule: &&Rule| params.about.as_deref().is_none_or(|field| rule.is_about(field));
    let items: Vec<Rule> = RULES.iter().filter(is_asked).copied().collect();
    axum::Json(Page { items, next: None }).into_response()
}
