//! Tables that several tables of a source become: what is done with the rows of one leaves those of the others alone.

use tokio_postgres::Client;
use trem_engine::Result;
use trem_engine::record::Origin;
use trem_engine::schema::{TableId, TableSchema};

use super::bookkeeping;
use super::fit::nullable;
use super::shape::TargetTable;
use crate::postgres::row::get;
use crate::postgres::sqlstate::error as pg;
use crate::postgres::{counterpart, quote};

/// How a table has come to be that other tables of the source are written to as well, by this task; `None` where there
/// is none of them yet.
pub(super) async fn others(client: &Client, task: &str, id: &TableId) -> Result<Option<Origin>> {
    let Some(part) = &id.part else { return Ok(None) };
    // What was written before knows of no rules.
    if bookkeeping::format(client).await?.is_none_or(|format| format < 2) {
        return Ok(None);
    }
    let sql = "SELECT bool_or(created_by_trem), bool_or(keeps_rows) FROM trem.table_state s \
               WHERE task = $1 AND (target_schema, target_table) = ($2, $3) AND (schema_name, table_name) <> ($4, $5) \
               AND (state IN ('loading', 'ready', 'reload') OR EXISTS (SELECT FROM trem.chunk c \
                    WHERE (c.task, c.schema_name, c.table_name) = (s.task, s.schema_name, s.table_name)))";
    let row = client.query_one(sql, &[&task, &id.schema, &id.table, &part.of.0, &part.of.1]).await.map_err(pg)?;
    let created: Option<bool> = get(&row, 0)?;
    let keeps_rows: Option<bool> = get(&row, 1)?;
    Ok(created.map(|created| Origin { created, keeps_rows: keeps_rows.unwrap_or(false) }))
}

/// The statements that let a table that trem has made take the rows of one more, and what it is after them.
pub(super) fn widened(have: &TargetTable, table: &TableSchema) -> (Vec<String>, TargetTable) {
    let (mut have, name) = (have.clone(), quote::table(&table.id));
    let mut statements = Vec::new();
    let is_key = |column: &str| table.key.iter().chain(&table.primary_key).any(|k| table.columns[*k].name == column);
    for column in have.columns.iter_mut().filter(|c| c.not_null && !c.has_default && !c.generated) {
        let nullable = table.column(&column.name).is_none_or(|at| table.columns[at].nullable);
        if nullable && !is_key(&column.name) {
            statements.push(format!("ALTER TABLE {name} ALTER COLUMN {} DROP NOT NULL", quote::ident(&column.name)));
            column.not_null = false;
        }
    }
    for column in &table.columns {
        if have.column(&column.name).is_none() {
            let ty = counterpart::name(column);
            statements.push(format!("ALTER TABLE {name} ADD COLUMN {} {ty}", quote::ident(&column.name)));
            have.columns.push(nullable(&column.name, &ty));
        }
    }
    (statements, have)
}
