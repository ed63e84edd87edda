//! `/api/v1/endpoints`

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::access::{Admin, Operator, Viewer};
use super::body::{Path, Spec, expected, patched, tag};
use super::problem::Problem;
use super::shared::Shared;
use crate::daemon::{EndpointView, Refusal};

/// All endpoints.
#[derive(Serialize, ToSchema)]
pub struct Endpoints {
    endpoints: Vec<EndpointView>,
}

/// What came of asking an endpoint.
#[derive(Serialize, ToSchema)]
pub struct Tested {
    /// Whether it answers.
    ok: bool,
    /// Whom and where, without secrets.
    described: Option<String>,
    /// Seconds that it took.
    seconds: f64,
    /// Why it does not.
    reason: Option<String>,
    /// What to do about that.
    remedy: Option<String>,
}

/// All endpoints, by name.
#[utoipa::path(get, path = "/endpoints", tag = "endpoints", responses((status = 200, body = Endpoints)))]
pub async fn list(_: Viewer, State(api): State<Shared>) -> Result<Json<Endpoints>, Problem> {
    let endpoints = api.fleet.store().endpoints()?.into_iter().map(EndpointView::from).collect();
    Ok(Json(Endpoints { endpoints }))
}

/// A new endpoint: the keys of `[endpoints.NAME]`, and `name`.
#[utoipa::path(post, path = "/endpoints", tag = "endpoints", request_body = Object,
    responses((status = 201, body = EndpointView)))]
pub async fn create(
    Admin(who): Admin,
    State(api): State<Shared>,
    Spec(mut spec): Spec,
) -> Result<impl IntoResponse, Problem> {
    let name = name_of(&mut spec)?;
    put(&api, &who, &name, spec, Some(0))
}

/// One endpoint.
#[utoipa::path(get, path = "/endpoints/{name}", tag = "endpoints", params(("name" = String, Path)),
    responses((status = 200, body = EndpointView)))]
pub async fn read(
    _: Viewer,
    State(api): State<Shared>,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let known = api.fleet.store().endpoint(&name)?.ok_or_else(|| Refusal::not_found("endpoint", &name))?;
    Ok((tag(known.revision), Json(EndpointView::from(known))))
}

/// Puts an endpoint there: the keys of `[endpoints.NAME]`. A password that is `***`, as it is shown, stays what it is.
#[utoipa::path(put, path = "/endpoints/{name}", tag = "endpoints", params(("name" = String, Path)),
    request_body = Object, responses((status = 200, body = EndpointView), (status = 201, body = EndpointView)))]
pub async fn replace(
    Admin(who): Admin,
    State(api): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Spec(spec): Spec,
) -> Result<impl IntoResponse, Problem> {
    put(&api, &who, &name, spec, expected(&headers)?)
}

/// Changes keys of an endpoint (RFC 7396): what is null is left out from now on.
#[utoipa::path(patch, path = "/endpoints/{name}", tag = "endpoints", params(("name" = String, Path)),
    request_body = Object, responses((status = 200, body = EndpointView)))]
pub async fn change(
    Admin(who): Admin,
    State(api): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Spec(patch): Spec,
) -> Result<impl IntoResponse, Problem> {
    let known = api.fleet.store().endpoint(&name)?.ok_or_else(|| Refusal::not_found("endpoint", &name))?;
    let before = api.fleet.store().endpoint_spec(&name)?.unwrap_or_default();
    let expected = expected(&headers)?.or(Some(known.revision));
    put(&api, &who, &name, patched(before, patch), expected)
}

/// Forgets an endpoint that no task uses.
#[utoipa::path(delete, path = "/endpoints/{name}", tag = "endpoints", params(("name" = String, Path)),
    responses((status = 204)))]
pub async fn delete(
    Admin(who): Admin,
    State(api): State<Shared>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    api.fleet.delete_endpoint(&name, &who)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Connects to an endpoint.
#[utoipa::path(post, path = "/endpoints/{name}/test", tag = "endpoints", params(("name" = String, Path)),
    responses((status = 200, body = Tested)))]
pub async fn test(_: Operator, State(api): State<Shared>, Path(name): Path<String>) -> Result<Json<Tested>, Problem> {
    let endpoint = api.fleet.endpoint(&name)?;
    let (configured, began) = (&endpoint.configured, Instant::now());
    let answer = match (configured.source(""), configured.target("")) {
        (Some(source), _) => source.identity().await,
        (None, Some(target)) => target.identity().await,
        (None, None) => Ok(String::new()),
    };
    let refusal = answer.err().map(|e| Refusal::of_task("", &e));
    Ok(Json(Tested {
        ok: refusal.is_none(),
        described: configured.describe(),
        seconds: began.elapsed().as_secs_f64(),
        remedy: refusal.as_ref().and_then(|r| r.remedy.clone()),
        reason: refusal.map(|r| r.detail),
    }))
}

fn put(
    api: &Shared,
    who: &str,
    name: &str,
    spec: Map<String, Value>,
    expected: Option<i64>,
) -> Result<impl IntoResponse + use<>, Problem> {
    let put = api.fleet.put_endpoint(name, spec, expected, who)?;
    let status = if put.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, tag(put.now.revision), Json(put.now)))
}

/// The name that stands in a body.
pub fn name_of(spec: &mut Map<String, Value>) -> Result<String, Problem> {
    match spec.remove("name") {
        Some(Value::String(name)) => Ok(name),
        _ => Err(Problem::body("the body has no `name`, which is to be a string")),
    }
}
