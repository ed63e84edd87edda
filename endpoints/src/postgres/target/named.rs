//! Questions about tables of the target by their names: one query for a thousand as for one.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_postgres::{Client, Row};
use trem_engine::Result;
use trem_engine::schema::TableId;

use crate::postgres::row::get;
use crate::postgres::sqlstate::error as pg;

/// The tables asked for, by name, with their numbers.
const WANTED: &str = "WITH wanted AS (SELECT w.schema_name, w.table_name, c.oid \
    FROM unnest($1::text[], $2::text[]) AS w (schema_name, table_name) \
    JOIN pg_namespace n ON n.nspname = w.schema_name \
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.table_name)";

/// Runs a query on [`WANTED`] whose first two columns are a table's name.
pub(super) async fn of_tables(client: &Client, sql: &str, ids: &[&TableId]) -> Result<Vec<(TableId, Arc<Row>)>> {
    let (schemas, names) = names_of(ids);
    let rows = client.query(&format!("{WANTED} {sql}"), &[&schemas, &names]).await.map_err(pg)?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows.into_iter().map(Arc::new) {
        let (schema, table): (&str, &str) = (get(&row, 0)?, get(&row, 1)?);
        let own = ids.iter().filter(|id| (id.schema.as_str(), id.table.as_str()) == (schema, table));
        found.extend(own.map(|id| ((*id).clone(), Arc::clone(&row))));
    }
    Ok(found)
}

/// Schemas and names of tables, each table once, whatever its parts.
pub(super) fn names_of<'a>(ids: &[&'a TableId]) -> (Vec<&'a str>, Vec<&'a str>) {
    let names: BTreeSet<(&str, &str)> = ids.iter().map(|id| (id.schema.as_str(), id.table.as_str())).collect();
    names.into_iter().unzip()
}
