//! Questions about tables of the target by their names: one query for a thousand as for one.

use tokio_postgres::Client;
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
pub(super) async fn of_tables(
    client: &Client,
    sql: &str,
    ids: &[&TableId],
) -> Result<Vec<(TableId, tokio_postgres::Row)>> {
    let schemas: Vec<&str> = ids.iter().map(|i| i.schema.as_str()).collect();
    let names: Vec<&str> = ids.iter().map(|i| i.table.as_str()).collect();
    let rows = client.query(&format!("{WANTED} {sql}"), &[&schemas, &names]).await.map_err(pg)?;
    rows.into_iter().map(|row| Ok((TableId { schema: get(&row, 0)?, table: get(&row, 1)? }, row))).collect()
}
