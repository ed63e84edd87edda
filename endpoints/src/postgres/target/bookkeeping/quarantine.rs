//! Changes that were set aside, in `trem.quarantine`.

use std::time::SystemTime;

use tokio_postgres::{Client, Row};
use trem_engine::Result;
use trem_engine::quarantine::{QuarantineEntry, Quarantined};
use trem_engine::schema::TableId;

use crate::postgres::row::get;
use crate::postgres::sqlstate::error as pg;
use crate::target::stored::{operation, operation_of, values_of, values_text};

/// Puts them there, in the open transaction.
pub(super) async fn put(client: &Client, task: &str, changes: &[Quarantined]) -> Result<()> {
    let sql = "INSERT INTO trem.quarantine \
               (task, schema_name, table_name, operation, position, committed_at, error, row_key, row_values) \
               SELECT $1, q.s, q.t, q.o, q.p, q.c, q.e, q.k, q.v FROM unnest($2::text[], $3::text[], \
               $4::text[], $5::text[], $6::timestamptz[], $7::text[], $8::text[], $9::text[]) \
               AS q (s, t, o, p, c, e, k, v)";
    let text = |of: fn(&Quarantined) -> &str| changes.iter().map(of).collect::<Vec<&str>>();
    let (schemas, tables) = (text(|q| &q.table.schema), text(|q| &q.table.table));
    let operations = text(|q| operation(q.op));
    let positions: Vec<Option<&str>> = changes.iter().map(|q| q.position.as_deref()).collect();
    let times: Vec<Option<SystemTime>> = changes.iter().map(|q| q.committed_at).collect();
    let errors: Vec<String> = changes.iter().map(|q| q.error.replace('\0', " ")).collect();
    let keys = changes.iter().map(|q| values_text(&q.key)).collect::<Result<Vec<String>>>()?;
    let rows = changes.iter().map(|q| values_text(&q.row)).collect::<Result<Vec<String>>>()?;
    client
        .execute(sql, &[&task, &schemas, &tables, &operations, &positions, &times, &errors, &keys, &rows])
        .await
        .map(drop)
        .map_err(|e| pg(e).context("trem.quarantine"))
}

/// Forgets those of a table.
pub(super) async fn forget(client: &Client, task: &str, id: &TableId) -> Result<()> {
    let sql = "DELETE FROM trem.quarantine WHERE task = $1 AND schema_name = $2 AND table_name = $3";
    client.execute(sql, &[&task, &id.schema, &id.table]).await.map(drop).map_err(pg)
}

/// Those of a task, in their order.
pub(in super::super) async fn quarantined(client: &Client, task: &str) -> Result<Vec<QuarantineEntry>> {
    if super::format(client).await?.is_none_or(|format| format < 3) {
        return Ok(Vec::new());
    }
    let sql = "SELECT id, quarantined_at, schema_name, table_name, operation, position, committed_at, error, \
               row_key, row_values FROM trem.quarantine WHERE task = $1 ORDER BY id";
    client.query(sql, &[&task]).await.map_err(pg)?.iter().map(entry).collect()
}

/// Forgets these; how many there were.
pub(in super::super) async fn release(client: &Client, task: &str, numbers: &[i64]) -> Result<u64> {
    client.execute("DELETE FROM trem.quarantine WHERE task = $1 AND id = ANY($2)", &[&task, &numbers]).await.map_err(pg)
}

fn entry(row: &Row) -> Result<QuarantineEntry> {
    let op = operation_of(&get::<String>(row, 4)?);
    let change = Quarantined {
        table: TableId::new(get::<String>(row, 2)?, get::<String>(row, 3)?),
        op,
        position: get(row, 5)?,
        committed_at: get(row, 6)?,
        error: get(row, 7)?,
        key: values_of(&get::<String>(row, 8)?)?,
        row: values_of(&get::<String>(row, 9)?)?,
    };
    Ok(QuarantineEntry { number: get(row, 0)?, since: get(row, 1)?, change })
}
