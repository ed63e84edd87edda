//! `/api/v1/endpoints/{name}/…`: what a database has, for somebody who chooses.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use trem_engine::ports::{Browse, Listed, Source};
use trem_engine::schema::{TableId, TableSchema};
use trem_engine::task::{Glob, Pattern, Selection, TableRule};
use utoipa::{IntoParams, ToSchema};

use super::access::Viewer;
use super::body::{Path, Query};
use super::problem::Problem;
use super::shared::Shared;
use crate::daemon::{Code, Refusal};

/// The schemas of a database.
#[derive(Serialize, ToSchema)]
pub struct Schemas {
    schemas: Vec<Schema>,
}

/// A schema.
#[derive(Serialize, ToSchema)]
pub struct Schema {
    name: String,
    /// How many tables it has.
    tables: usize,
}

/// DatabaseTables of a database.
#[derive(Serialize, ToSchema)]
pub struct DatabaseTables {
    tables: Vec<DatabaseTable>,
    /// How many there are that the filter lets through.
    total: usize,
}

/// A table, with what the database believes of its size.
#[derive(Serialize, ToSchema)]
pub struct DatabaseTable {
    /// `schema.table`, as a task would select it.
    name: String,
    schema: String,
    table: String,
    /// How many rows the database believes it has; none where it has never counted.
    rows_estimated: Option<u64>,
    /// Bytes of its storage, indexes left out.
    bytes: Option<u64>,
}

/// A table, column by column.
#[derive(Serialize, ToSchema)]
pub struct TableDetail {
    /// `schema.table`, as a task would select it.
    name: String,
    columns: Vec<ColumnDetail>,
    /// The columns that tell rows apart in the log, in order.
    key: Vec<String>,
    /// The primary key, in order.
    primary_key: Vec<String>,
    /// How the log tells rows apart: `key`, `key-with-full-image`, `full` or `insert-only`.
    #[schema(value_type = String)]
    identity: trem_engine::schema::Identity,
    /// How many rows it has, if that was asked for: each is counted.
    rows: Option<u64>,
}

/// A column.
#[derive(Serialize, ToSchema)]
pub struct ColumnDetail {
    name: String,
    /// The database's type.
    r#type: String,
    /// What its values mean to trem; none of one that the database computes.
    canonical: Option<String>,
    nullable: bool,
}

/// Which tables.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Only those of this schema.
    schema: Option<String>,
    /// Only those whose name has this in it; with a `%`, those whose name is like it, as SQL says it.
    like: Option<String>,
    /// So many at most.
    limit: Option<u32>,
    /// Without the first so many.
    offset: Option<u32>,
}

/// How much of a table.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// Its rows are counted, which reads all of it.
    #[serde(default)]
    count: bool,
}

/// The schemas that have tables.
#[utoipa::path(get, path = "/endpoints/{name}/schemas", tag = "endpoints", params(("name" = String, Path)),
    responses((status = 200, body = Schemas)))]
pub async fn schemas(_: Viewer, State(api): State<Shared>, Path(name): Path<String>) -> Result<Json<Schemas>, Problem> {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for table in listed(&api, &name, &Browse::default()).await? {
        *found.entry(table.id.schema).or_default() += 1;
    }
    let schemas = found.into_iter().map(|(name, tables)| Schema { name, tables }).collect();
    Ok(Json(Schemas { schemas }))
}

/// The tables that a task could select.
#[utoipa::path(get, path = "/endpoints/{name}/tables", tag = "endpoints", params(("name" = String, Path), Which),
    responses((status = 200, body = DatabaseTables)))]
pub async fn tables(
    _: Viewer,
    State(api): State<Shared>,
    Path(name): Path<String>,
    Query(which): Query<Which>,
) -> Result<Json<DatabaseTables>, Problem> {
    let found = listed(&api, &name, &Browse { schema: which.schema, like: which.like }).await?;
    let (total, skip) = (found.len(), which.offset.unwrap_or(0) as usize);
    let one = |Listed { id, rows, bytes }: Listed| DatabaseTable {
        name: id.to_string(),
        schema: id.schema,
        table: id.table,
        rows_estimated: rows,
        bytes,
    };
    let tables = found.into_iter().skip(skip).take(which.limit.unwrap_or(10_000) as usize).map(one).collect();
    Ok(Json(DatabaseTables { tables, total }))
}

/// One table: columns, keys, and how many rows it has, if that is asked for.
#[utoipa::path(get, path = "/endpoints/{name}/tables/{table}", tag = "endpoints",
    params(("name" = String, Path), ("table" = String, Path, description = "`schema.table`"), Counted),
    responses((status = 200, body = TableDetail)))]
pub async fn table(
    _: Viewer,
    State(api): State<Shared>,
    Path((name, table)): Path<(String, String)>,
    Query(Counted { count }): Query<Counted>,
) -> Result<Json<TableDetail>, Problem> {
    let missing = || {
        Refusal::new(Code::NotFound, format!("endpoint {name} has no table {table} that could be replicated"))
            .remedy(format!("GET /api/v1/endpoints/{name}/tables lists them; names are case-sensitive"))
    };
    let id = Glob::parse(&table).ok().and_then(|glob| glob.exact()).ok_or_else(missing)?;
    let source = source(&api, &name)?;
    let include = vec![Pattern::Glob(Glob::exactly(&id))];
    let selection = Selection { rules: vec![TableRule { include, exclude: Vec::new() }] };
    // A selection that covers nothing is an error of its own, which says no more than that.
    let found = source.discover(&selection).await.map_err(|e| Refusal::of_task("", &e))?;
    let schema = found.tables.into_iter().next().ok_or_else(missing)?;
    let rows = match count {
        true => Some(counted(source.as_ref(), &id).await?),
        false => None,
    };
    Ok(Json(detail(&schema, rows)))
}

async fn counted(source: &dyn Source, id: &TableId) -> Result<u64, Problem> {
    source.count(id).await.map_err(|e| Refusal::of_task("", &e).into())
}

fn detail(schema: &Arc<TableSchema>, rows: Option<u64>) -> TableDetail {
    let named = |places: &[usize]| places.iter().map(|at| schema.columns[*at].name.clone()).collect();
    let sent = schema.columns.iter().map(|c| ColumnDetail {
        name: c.name.clone(),
        r#type: c.native.name.clone(),
        canonical: Some(c.ty.to_string()),
        nullable: c.nullable,
    });
    let computed = schema.generated.iter().map(|c| ColumnDetail {
        name: c.name.clone(),
        r#type: c.native.name.clone(),
        canonical: None,
        nullable: true,
    });
    TableDetail {
        name: schema.id.to_string(),
        columns: sent.chain(computed).collect(),
        key: named(&schema.key),
        primary_key: named(&schema.primary_key),
        identity: schema.identity,
        rows,
    }
}

fn source(api: &Shared, name: &str) -> Result<Arc<dyn Source>, Problem> {
    let endpoint = api.fleet.endpoint(name)?;
    let none = || {
        let what = format!("endpoint {name} is of kind {}, which has no tables", endpoint.configured.kind());
        Refusal::new(Code::Conflict, what).remedy("name an endpoint that can be a source")
    };
    Ok(endpoint.configured.source("").ok_or_else(none)?)
}

async fn listed(api: &Shared, name: &str, which: &Browse) -> Result<Vec<Listed>, Problem> {
    source(api, name)?.browse(which).await.map_err(|e| Refusal::of_task("", &e).into())
}
