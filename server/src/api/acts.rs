//! `/api/v1/tasks/{name}/…`: what a task is told to do.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trem_engine::runner::{Found, Until};
use utoipa::{IntoParams, ToSchema};

use super::access::{Admin, Operator};
use super::body::{Path, Query};
use super::problem::Problem;
use super::shared::Shared;
use crate::commands::{check, plan};
use crate::daemon::{Refusal, TaskStatus};
use crate::finding::FindingView;
use crate::remedy::Commands;

/// How long a task runs.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// `current`: the task ends once every change that has committed at the source by now is on the target.
    until: Option<String>,
}

/// How much a plan shows.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Rows of each table, at the source and as they get to the target.
    #[serde(default)]
    #[param(maximum = 1000)]
    sample: u16,
}

/// What a look at both ends has found.
#[derive(Serialize, ToSchema)]
pub struct Checked {
    /// Whether the task can start.
    ready: bool,
    /// Everything that speaks for or against it.
    #[schema(value_type = Vec<Object>)]
    findings: Vec<FindingView>,
}

/// A table that is loaded again.
#[derive(Serialize, ToSchema)]
pub struct Reloaded {
    /// `schema.table` as the source has it.
    table: String,
}

/// Runs a task from now on, also when the daemon starts again. One that is paused goes on.
#[utoipa::path(post, path = "/tasks/{name}/start", tag = "acts", params(("name" = String, Path), Start),
    responses((status = 200, body = TaskStatus)))]
pub async fn start(
    Operator(who): Operator,
    State(api): State<Shared>,
    Path(name): Path<String>,
    Query(start): Query<Start>,
) -> Result<Json<TaskStatus>, Problem> {
    let until = match start.until.as_deref() {
        None => Until::Stopped,
        Some("current") => Until::Current,
        Some(_) => return Err(Problem::parameter("until is to be `current`, or to be left out")),
    };
    api.fleet.start(&name, until, &who).await?;
    Ok(Json(api.fleet.status(&name)?))
}

/// Ends a task, also for when the daemon starts again. What is being applied is finished first.
#[utoipa::path(post, path = "/tasks/{name}/stop", tag = "acts", params(("name" = String, Path)),
    responses((status = 200, body = TaskStatus)))]
pub async fn stop(
    Operator(who): Operator,
    State(api): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<TaskStatus>, Problem> {
    api.fleet.stop(&name, &who).await?;
    Ok(Json(api.fleet.status(&name)?))
}

/// Moves no more rows. Connections stay, and the source retains its log.
#[utoipa::path(post, path = "/tasks/{name}/pause", tag = "acts", params(("name" = String, Path)),
    responses((status = 200, body = TaskStatus)))]
pub async fn pause(
    Operator(who): Operator,
    State(api): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<TaskStatus>, Problem> {
    api.fleet.pause(&name, &who).await?;
    Ok(Json(api.fleet.status(&name)?))
}

/// Goes on with a task that is paused.
#[utoipa::path(post, path = "/tasks/{name}/resume", tag = "acts", params(("name" = String, Path)),
    responses((status = 200, body = TaskStatus)))]
pub async fn resume(
    Operator(who): Operator,
    State(api): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<TaskStatus>, Problem> {
    api.fleet.go_on(&name, &who).await?;
    Ok(Json(api.fleet.status(&name)?))
}

/// Has both ends forget a task that does not run: what it has created at its source is dropped, and its next start
/// loads all tables anew. Rows on the target stay.
#[utoipa::path(post, path = "/tasks/{name}/reset", tag = "acts", params(("name" = String, Path)),
    responses((status = 200, body = TaskStatus)))]
pub async fn reset(
    Admin(who): Admin,
    State(api): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<TaskStatus>, Problem> {
    api.fleet.reset(&name, &who).await?;
    Ok(Json(api.fleet.status(&name)?))
}

/// Looks for everything that could stop a task, and says what mends it. Changes nothing.
#[utoipa::path(post, path = "/tasks/{name}/check", tag = "acts", params(("name" = String, Path)),
    responses((status = 200, body = Checked)))]
pub async fn check(_: Operator, State(api): State<Shared>, Path(name): Path<String>) -> Result<Json<Checked>, Problem> {
    let (config, task) = api.fleet.task(&name)?;
    let (found, _) = check::look(&config, &task).await;
    let overlaps = api.fleet.overlaps(&config, &task).await.into_iter().map(Found::of_task);
    let findings = FindingView::all(overlaps.chain(found), &Commands::of_daemon(&name));
    Ok(Json(Checked { ready: findings.iter().all(FindingView::allows), findings }))
}

/// What a start would do: tables, columns, types, keys and the statements for the target. Changes nothing.
#[utoipa::path(post, path = "/tasks/{name}/plan", tag = "acts", params(("name" = String, Path), Sample),
    responses((status = 200, body = Object)))]
pub async fn plan(
    _: Operator,
    State(api): State<Shared>,
    Path(name): Path<String>,
    Query(Sample { sample }): Query<Sample>,
) -> Result<Json<Value>, Problem> {
    if sample > 1000 {
        return Err(Problem::parameter("sample is at most 1000"));
    }
    let (config, _) = api.fleet.task(&name)?;
    let view = plan::view(&config, &Commands::of_daemon(&name), sample.into()).await;
    let view = view.map_err(|e| Problem::from(Refusal::of_task(&name, &e)))?;
    Ok(Json(serde_json::to_value(view).unwrap_or_default()))
}

/// Has a table loaded again from its start: at once if the task runs, otherwise at its next start.
#[utoipa::path(post, path = "/tasks/{name}/tables/{table}/reload", tag = "acts",
    params(("name" = String, Path), ("table" = String, Path, description = "`schema.table` as the source has it")),
    responses((status = 200, body = Reloaded)))]
pub async fn reload(
    Operator(who): Operator,
    State(api): State<Shared>,
    Path((name, table)): Path<(String, String)>,
) -> Result<Json<Reloaded>, Problem> {
    let table = api.fleet.reload(&name, &table, &who).await?.to_string();
    Ok(Json(Reloaded { table }))
}
