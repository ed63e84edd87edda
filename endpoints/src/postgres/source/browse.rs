//! What the database has, for somebody who chooses.

use tokio_postgres::Client;
use trem_engine::Result;
use trem_engine::ports::{Browse, Listed};
use trem_engine::schema::TableId;

use crate::postgres::quote;
use crate::postgres::row::get;
use crate::postgres::sqlstate::error as pg;

/// Tables and partitioned tables; a partition is part of its table. Sizes are those of the statistics.
pub(super) async fn browse(client: &Client, which: &Browse) -> Result<Vec<Listed>> {
    let sql = "SELECT n.nspname::text, c.relname::text, \
                 CASE WHEN c.reltuples >= 0 THEN c.reltuples::int8 END, \
                 CASE WHEN c.relkind = 'r' THEN c.relpages::int8 * current_setting('block_size')::int8 END \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' \
               AND n.nspname NOT IN ('information_schema', 'trem') AND n.nspname !~ '^pg_' \
               AND ($1::text IS NULL OR n.nspname = $1) \
               AND ($2::text IS NULL OR CASE WHEN strpos($2, '%') > 0 THEN c.relname LIKE $2 \
                                             ELSE strpos(c.relname, $2) > 0 END) \
               ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\"";
    let size = |value: Option<i64>| value.and_then(|v| u64::try_from(v).ok());
    let rows = client.query(sql, &[&which.schema, &which.like]).await.map_err(pg)?;
    let one = |row: &tokio_postgres::Row| {
        let id = TableId::new(get::<String>(row, 0)?, get::<String>(row, 1)?);
        Ok(Listed { id, rows: size(get(row, 2)?), bytes: size(get(row, 3)?) })
    };
    rows.iter().map(one).collect()
}

/// Reads the whole table.
pub(super) async fn count(client: &Client, table: &TableId) -> Result<u64> {
    let sql = format!("SELECT count(*) FROM {}", quote::table(table));
    let count: i64 = get(&client.query_one(&sql, &[]).await.map_err(|e| pg(e).table(table))?, 0)?;
    Ok(count.unsigned_abs())
}
