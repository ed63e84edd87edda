//! `/api/v1/rule-sets`

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::access::{Admin, Viewer};
use super::body::{Path, Spec, expected, tag};
use super::problem::Problem;
use super::shared::Shared;
use crate::daemon::{Refusal, RuleSetView};

/// All sets of rules.
#[derive(Serialize, ToSchema)]
pub struct RuleSets {
    rule_sets: Vec<RuleSetView>,
}

/// All sets of rules, by name.
#[utoipa::path(get, path = "/rule-sets", tag = "rule-sets", responses((status = 200, body = RuleSets)))]
pub async fn list(_: Viewer, State(api): State<Shared>) -> Result<Json<RuleSets>, Problem> {
    let rule_sets = api.fleet.store().rule_sets()?.into_iter().map(RuleSetView::from).collect();
    Ok(Json(RuleSets { rule_sets }))
}

/// One set of rules.
#[utoipa::path(get, path = "/rule-sets/{name}", tag = "rule-sets", params(("name" = String, Path)),
    responses((status = 200, body = RuleSetView)))]
pub async fn read(
    _: Viewer,
    State(api): State<Shared>,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let known = api.fleet.store().rule_set(&name)?.ok_or_else(|| Refusal::not_found("rule-set", &name))?;
    Ok((tag(known.revision), Json(RuleSetView::from(known))))
}

/// Puts a set of rules there: the keys of `[rule-sets.NAME]`. Tasks use it from their next start on.
#[utoipa::path(put, path = "/rule-sets/{name}", tag = "rule-sets", params(("name" = String, Path)),
    request_body = Object, responses((status = 200, body = RuleSetView), (status = 201, body = RuleSetView)))]
pub async fn replace(
    Admin(who): Admin,
    State(api): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Spec(spec): Spec,
) -> Result<impl IntoResponse, Problem> {
    let put = api.fleet.put_rule_set(&name, &spec, expected(&headers)?, &who)?;
    let status = if put.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, tag(put.now.revision), Json(put.now)))
}

/// Forgets a set of rules that no task uses.
#[utoipa::path(delete, path = "/rule-sets/{name}", tag = "rule-sets", params(("name" = String, Path)),
    responses((status = 204)))]
pub async fn delete(
    Admin(who): Admin,
    State(api): State<Shared>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    api.fleet.delete_rule_set(&name, &who)?;
    Ok(StatusCode::NO_CONTENT)
}
