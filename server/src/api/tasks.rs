//! `/api/v1/tasks`: what they are and what has become of them.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::access::{Admin, Viewer};
use super::body::{Path, Query, Spec, expected, patched, tag};
use super::endpoints::name_of;
use super::problem::Problem;
use super::shared::Shared;
use crate::daemon::{Change, Outdated, Refusal, TableStatus, TaskPut, TaskStatus, TaskView, difference};
use crate::store::{Line, Revision, Run, StoredTask};

/// Some tasks.
#[derive(Serialize, ToSchema)]
pub struct Tasks {
    tasks: Vec<TaskView>,
    /// How many there are that the filter lets through.
    total: usize,
}

/// A task that was put.
#[derive(Serialize, ToSchema)]
pub struct Stored {
    #[serde(flatten)]
    task: TaskView,
    /// The tables that have to be loaded again for it to hold; null if the target could not be asked.
    reload: Option<Vec<Outdated>>,
}

/// What has changed.
#[derive(Serialize, ToSchema)]
pub struct Difference {
    changes: Vec<Change>,
}

/// Between which revisions.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Between {
    /// The older one; the one before, if it is left out.
    from: Option<i64>,
}

/// The tables of a task.
#[derive(Serialize, ToSchema)]
pub struct Tables {
    tables: Vec<TableStatus>,
}

/// The runs of a task.
#[derive(Serialize, ToSchema)]
pub struct Runs {
    runs: Vec<Run>,
}

/// Log lines of a task.
#[derive(Serialize, ToSchema)]
pub struct Logs {
    lines: Vec<Line>,
}

/// What a task was.
#[derive(Serialize, ToSchema)]
pub struct Revisions {
    revisions: Vec<Revision>,
}

/// Which tasks, and in which order.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    /// Only tasks in this state.
    state: Option<String>,
    /// Only tasks whose name has this in it.
    like: Option<String>,
    /// `name`, `state` or `lag`; with a hyphen before it the other way round.
    sort: Option<String>,
    /// So many at most.
    limit: Option<u32>,
    /// Without the first so many.
    offset: Option<u32>,
}

/// How many.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Last {
    /// So many at most.
    limit: Option<u32>,
}

/// How a task goes.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// What the task has created at its ends goes too.
    #[serde(default)]
    drop: bool,
}

/// Tasks with what they do.
#[utoipa::path(get, path = "/tasks", tag = "tasks", params(Listing), responses((status = 200, body = Tasks)))]
pub async fn list(
    _: Viewer,
    State(api): State<Shared>,
    Query(listing): Query<Listing>,
) -> Result<Json<Tasks>, Problem> {
    let mut tasks = Vec::new();
    for stored in api.fleet.store().tasks()? {
        let status = api.fleet.status(&stored.name)?;
        tasks.push(TaskView::of(stored, status));
    }
    tasks.retain(|task| listing.state.as_ref().is_none_or(|state| task.status.state == *state));
    tasks.retain(|task| listing.like.as_ref().is_none_or(|part| task.name.contains(part.as_str())));
    let sort = listing.sort.as_deref().unwrap_or("name");
    match sort.trim_start_matches('-') {
        "name" => {}
        "state" => tasks.sort_by(|a, b| a.status.state.cmp(&b.status.state)),
        "lag" => tasks.sort_by(|a, b| {
            let lag = |task: &TaskView| task.status.lag_seconds.unwrap_or(f64::INFINITY);
            lag(a).total_cmp(&lag(b))
        }),
        _ => return Err(Problem::parameter("sort is not one of name, state and lag")),
    }
    if sort.starts_with('-') {
        tasks.reverse();
    }
    let (total, skip) = (tasks.len(), listing.offset.unwrap_or(0) as usize);
    let tasks = tasks.into_iter().skip(skip).take(listing.limit.unwrap_or(1000) as usize).collect();
    Ok(Json(Tasks { tasks, total }))
}

/// A new task: the keys of `[tasks.NAME]`, and `name`.
#[utoipa::path(post, path = "/tasks", tag = "tasks", request_body = Object, responses((status = 201, body = Stored)))]
pub async fn create(
    Admin(who): Admin,
    State(api): State<Shared>,
    Spec(mut spec): Spec,
) -> Result<impl IntoResponse, Problem> {
    let name = name_of(&mut spec)?;
    put(&api, &who, &name, spec, Some(0)).await
}

/// One task.
#[utoipa::path(get, path = "/tasks/{name}", tag = "tasks", params(("name" = String, Path)),
    responses((status = 200, body = TaskView)))]
pub async fn read(
    _: Viewer,
    State(api): State<Shared>,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let stored = stored(&api, &name)?;
    let status = api.fleet.status(&name)?;
    Ok((tag(stored.revision), Json(TaskView::of(stored, status))))
}

/// Puts a task there: the keys of `[tasks.NAME]`. It is checked as a whole before it is stored. One that runs is
/// started again with what it is now.
#[utoipa::path(put, path = "/tasks/{name}", tag = "tasks", params(("name" = String, Path)), request_body = Object,
    responses((status = 200, body = Stored), (status = 201, body = Stored)))]
pub async fn replace(
    Admin(who): Admin,
    State(api): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Spec(spec): Spec,
) -> Result<impl IntoResponse, Problem> {
    put(&api, &who, &name, spec, expected(&headers)?).await
}

/// Changes keys of a task (RFC 7396): what is null is left out from now on.
#[utoipa::path(patch, path = "/tasks/{name}", tag = "tasks", params(("name" = String, Path)), request_body = Object,
    responses((status = 200, body = Stored)))]
pub async fn change(
    Admin(who): Admin,
    State(api): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Spec(patch): Spec,
) -> Result<impl IntoResponse, Problem> {
    let known = stored(&api, &name)?;
    let expected = expected(&headers)?.or(Some(known.revision));
    put(&api, &who, &name, patched(known.spec, patch), expected).await
}

/// Forgets a task that does not run. The rows that it has brought stay.
#[utoipa::path(delete, path = "/tasks/{name}", tag = "tasks", params(("name" = String, Path), Delete),
    responses((status = 204)))]
pub async fn delete(
    Admin(who): Admin,
    State(api): State<Shared>,
    Path(name): Path<String>,
    Query(how): Query<Delete>,
) -> Result<StatusCode, Problem> {
    api.fleet.delete(&name, how.drop, &who).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a task does.
#[utoipa::path(get, path = "/tasks/{name}/status", tag = "tasks", params(("name" = String, Path)),
    responses((status = 200, body = TaskStatus)))]
pub async fn status(
    _: Viewer,
    State(api): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<TaskStatus>, Problem> {
    stored(&api, &name)?;
    Ok(Json(api.fleet.status(&name)?))
}

/// The tables of a task. Those of one that has not run since the daemon started are read on its target.
#[utoipa::path(get, path = "/tasks/{name}/tables", tag = "tasks", params(("name" = String, Path)),
    responses((status = 200, body = Tables)))]
pub async fn tables(_: Viewer, State(api): State<Shared>, Path(name): Path<String>) -> Result<Json<Tables>, Problem> {
    Ok(Json(Tables { tables: api.fleet.tables(&name).await? }))
}

/// The runs of a task, the latest first.
#[utoipa::path(get, path = "/tasks/{name}/runs", tag = "tasks", params(("name" = String, Path), Last),
    responses((status = 200, body = Runs)))]
pub async fn runs(
    _: Viewer,
    State(api): State<Shared>,
    Path(name): Path<String>,
    Query(last): Query<Last>,
) -> Result<Json<Runs>, Problem> {
    stored(&api, &name)?;
    Ok(Json(Runs { runs: api.fleet.store().runs(&name, last.limit.unwrap_or(100))? }))
}

/// The last log lines of a task, in order.
#[utoipa::path(get, path = "/tasks/{name}/logs", tag = "tasks", params(("name" = String, Path), Last),
    responses((status = 200, body = Logs)))]
pub async fn logs(
    _: Viewer,
    State(api): State<Shared>,
    Path(name): Path<String>,
    Query(last): Query<Last>,
) -> Result<Json<Logs>, Problem> {
    stored(&api, &name)?;
    Ok(Json(Logs { lines: api.fleet.store().lines(&name, last.limit.unwrap_or(200))? }))
}

/// What a task is and was, the latest first.
#[utoipa::path(get, path = "/tasks/{name}/revisions", tag = "tasks", params(("name" = String, Path)),
    responses((status = 200, body = Revisions)))]
pub async fn revisions(
    _: Viewer,
    State(api): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<Revisions>, Problem> {
    stored(&api, &name)?;
    Ok(Json(Revisions { revisions: api.fleet.store().revisions(&name)? }))
}

/// What has changed with a revision.
#[utoipa::path(get, path = "/tasks/{name}/revisions/{revision}/difference", tag = "tasks",
    params(("name" = String, Path), ("revision" = i64, Path), Between), responses((status = 200, body = Difference)))]
pub async fn changes(
    _: Viewer,
    State(api): State<Shared>,
    Path((name, revision)): Path<(String, i64)>,
    Query(between): Query<Between>,
) -> Result<Json<Difference>, Problem> {
    stored(&api, &name)?;
    let all = api.fleet.store().revisions(&name)?;
    let spec = |number: i64| all.iter().find(|r| r.revision == number).map(|r| &r.spec);
    let unknown = |number: i64| Refusal::not_found("revision", &number.to_string());
    let after = spec(revision).ok_or_else(|| unknown(revision))?;
    let before = match between.from {
        Some(from) => spec(from).ok_or_else(|| unknown(from))?,
        None => all.iter().find(|r| r.revision < revision).map_or(&Value::Null, |r| &r.spec),
    };
    Ok(Json(Difference { changes: difference(before, after) }))
}

fn stored(api: &Shared, name: &str) -> Result<StoredTask, Problem> {
    Ok(api.fleet.store().task(name)?.ok_or_else(|| Refusal::not_found("task", name))?)
}

/// Puts a task there, and tells of it.
pub async fn put(
    api: &Shared,
    who: &str,
    name: &str,
    spec: Map<String, Value>,
    expected: Option<i64>,
) -> Result<impl IntoResponse + use<>, Problem> {
    let TaskPut { put, reload } = api.fleet.put_task(name, &spec, expected, who).await?;
    let status = if put.created { StatusCode::CREATED } else { StatusCode::OK };
    let doing = api.fleet.status(name)?;
    Ok((status, tag(put.now.revision), Json(Stored { task: TaskView::of(put.now, doing), reload })))
}
