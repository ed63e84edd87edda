//! `/api/v1/tasks/{name}/tables/…`: tables that come to a task or leave it, and what becomes of one of their rows.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde_json::{Map, Value, json};
use trem_engine::task::Glob;

use super::access::{Admin, Operator};
use super::body::{Path, Spec};
use super::problem::Problem;
use super::shared::Shared;
use super::tasks::{Stored, put};
use crate::commands::explain;
use crate::daemon::Refusal;

/// Has a task take up more tables: the body is an entry of `tables`. A task that runs goes on with them.
#[utoipa::path(post, path = "/tasks/{name}/tables", tag = "tasks", params(("name" = String, Path)),
    request_body = Object, responses((status = 200, body = Stored)))]
pub async fn add(
    Admin(who): Admin,
    State(api): State<Shared>,
    Path(name): Path<String>,
    Spec(entry): Spec,
) -> Result<impl axum::response::IntoResponse, Problem> {
    let (mut spec, revision) = known(&api, &name)?;
    let mut entries = entries(&mut spec);
    entries.push(Value::Object(entry));
    spec.insert("tables".to_owned(), Value::Array(entries));
    put(&api, &who, &name, spec, Some(revision)).await
}

/// Has a task leave a table out from now on: it is excluded. Its rows on the target stay.
#[utoipa::path(delete, path = "/tasks/{name}/tables/{table}", tag = "tasks",
    params(("name" = String, Path), ("table" = String, Path, description = "`schema.table` as the source has it")),
    responses((status = 200, body = Stored)))]
pub async fn remove(
    Admin(who): Admin,
    State(api): State<Shared>,
    Path((name, table)): Path<(String, String)>,
) -> Result<impl axum::response::IntoResponse, Problem> {
    let exact = Glob::parse(&table).ok().and_then(|glob| glob.exact());
    if exact.is_none() {
        return Err(Problem::parameter("the table is to be named as schema.table, without a pattern"));
    }
    let (mut spec, revision) = known(&api, &name)?;
    let mut entries = entries(&mut spec);
    entries
        .retain(|entry| entry.get("include") != Some(&json!(table)) && entry.get("include") != Some(&json!([table])));
    for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
        let mut excluded = match entry.remove("exclude") {
            Some(Value::Array(all)) => all,
            Some(one) => vec![one],
            None => Vec::new(),
        };
        if !excluded.contains(&json!(table)) {
            excluded.push(json!(table));
        }
        entry.insert("exclude".to_owned(), Value::Array(excluded));
    }
    spec.insert("tables".to_owned(), Value::Array(entries));
    put(&api, &who, &name, spec, Some(revision)).await
}

/// One row by its key: at the source, what each rule does to it, and on the target. `table=schema.table`, and `key` for
/// each column of the key, in its order.
#[utoipa::path(get, path = "/tasks/{name}/explain", tag = "tasks",
    params(("name" = String, Path), ("table" = String, Query), ("key" = Vec<String>, Query)),
    responses((status = 200, body = Object)))]
pub async fn explain(
    _: Operator,
    State(api): State<Shared>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let (mut table, mut keys) = (None, Vec::new());
    for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match key.as_ref() {
            "table" => table = Glob::parse(&value).ok().and_then(|glob| glob.exact()),
            "key" => keys.push(value.into_owned()),
            _ => return Err(Problem::parameter("the parameters are `table` and `key`")),
        }
    }
    let table = table.ok_or_else(|| Problem::parameter("`table` is to name one table as schema.table"))?;
    let (config, _) = api.fleet.task(&name)?;
    let row = explain::row(&config, &table, keys).await.map_err(|e| Refusal::of_task(&name, &e))?;
    Ok(Json(serde_json::to_value(row.0).unwrap_or_default()))
}

fn known(api: &Shared, name: &str) -> Result<(Map<String, Value>, i64), Problem> {
    let stored = api.fleet.store().task(name)?.ok_or_else(|| Refusal::not_found("task", name))?;
    Ok((stored.spec, stored.revision))
}

/// The entries of `tables`, taken out of it.
fn entries(spec: &mut Map<String, Value>) -> Vec<Value> {
    match spec.remove("tables") {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    }
}
