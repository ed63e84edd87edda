//! From the rows in schema `trem` to the engine's record.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::{Client, Row};
use trem_engine::position::{Checkpoint, Lineage, Position};
use trem_engine::record::{ChunkRecord, Origin, TableRecord, TableState, TaskRecord};
use trem_engine::schema::TableId;
use trem_engine::{Remedy, Result};

use super::super::format1;
use super::layout::format;
use crate::postgres::row::get;
use crate::postgres::sqlstate::error as pg;
use crate::target::stored::{self, damaged, shape_of};

/// What is remembered of the task, in whichever format.
pub(in super::super) async fn read(client: &Client, task: &str) -> Result<Option<TaskRecord>> {
    match format(client).await? {
        None => Ok(None),
        Some(format) => read_as(client, task, format).await,
    }
}

async fn read_as(client: &Client, task: &str, format: i32) -> Result<Option<TaskRecord>> {
    let failing = if format == 1 { "NULL" } else { "failing" };
    let sql = format!(
        "SELECT lineage, position_order::text, position, committed_at, {failing}::text FROM trem.task WHERE task = $1"
    );
    let known = async { client.query_opt(&sql, &[&task]).await.map_err(pg) };
    let lane = async {
        let sql = "SELECT lineage, position_order::text, position, committed_at FROM trem.lane \
                   WHERE task = $1 AND lane = 0";
        if format == 1 { Ok(None) } else { client.query_opt(sql, &[&task]).await.map_err(pg) }
    };
    let requests = async { if format == 1 { Ok(Vec::new()) } else { requests(client, task).await } };
    let (row, lane, requests, chunks, tables) =
        tokio::try_join!(known, lane, requests, chunks(client, task), tables(client, task, format))?;
    let Some(row) = row else { return Ok(None) };
    // A place in `task` is of version 0.1.0, and then nothing newer is in `lane`.
    let at = lane.as_ref().filter(|_| get::<Option<String>>(&row, 2).is_ok_and(|p| p.is_none())).unwrap_or(&row);
    let lineage = match get::<Option<String>>(at, 0)? {
        Some(lineage) => Some(lineage),
        None => get(&row, 0)?,
    };
    let lineage = lineage.map(Lineage);
    let checkpoint = position(at, 1)?.zip(lineage.clone());
    let checkpoint = checkpoint.map(|(position, lineage)| Checkpoint { lineage, position });
    // It is for the eyes only.
    let failing = get::<Option<&str>>(&row, 4)?.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let mut record = TaskRecord { lineage, checkpoint, committed_at: get(at, 3)?, tables, requests, failing };
    let mut chunks = chunks;
    for table in &mut record.tables {
        table.chunks = chunks.remove(table.id()).unwrap_or_default();
    }
    Ok(Some(record))
}

async fn tables(client: &Client, task: &str, format: i32) -> Result<Vec<TableRecord>> {
    let newer = match format {
        1 => "NULL::text, NULL::text, NULL::text, 0::int8, 0::int8",
        2 => "target_shape, position_order::text, position, conflicts, 0::int8",
        _ => {
            "target_shape, position_order::text, position, conflicts, (SELECT count(*) FROM trem.quarantine q WHERE \
             (q.task, q.schema_name, q.table_name) = (s.task, s.schema_name, s.table_name))"
        }
    };
    let sql = format!(
        "SELECT schema_name, table_name, state, shape, reason, remedy, created_by_trem, keeps_rows, {newer} \
         FROM trem.table_state s WHERE task = $1 ORDER BY 1, 2"
    );
    let mut tables = Vec::new();
    for row in &client.query(&sql, &[&task]).await.map_err(pg)? {
        let id = TableId::new(get::<String>(row, 0)?, get::<String>(row, 1)?);
        let state: String = get(row, 2)?;
        let shape: String = get(row, 3)?;
        let (source, target) = match get::<Option<String>>(row, 8)? {
            Some(target) => (Arc::new(shape_of(&id, &shape)?), Arc::new(shape_of(&id, &target)?)),
            None => {
                // Version 0.1.0 knew no rules: the target's table is the source's.
                let table = Arc::new(format1::table_schema(&shape).map_err(|e| e.table(&id))?);
                (Arc::clone(&table), table)
            }
        };
        tables.push(TableRecord {
            source,
            target,
            state: TableState::named(&state).ok_or_else(|| damaged(&id, "state"))?,
            origin: Origin { created: get(row, 6)?, keeps_rows: get(row, 7)? },
            reason: get(row, 4)?,
            remedy: get::<Option<&str>>(row, 5)?.map(Remedy::of_stored),
            chunks: Vec::new(),
            position: position(row, 9)?,
            conflicts: get::<i64>(row, 11)?.unsigned_abs(),
            quarantined: get::<i64>(row, 12)?.unsigned_abs(),
        });
    }
    Ok(tables)
}

async fn chunks(client: &Client, task: &str) -> Result<HashMap<TableId, Vec<ChunkRecord>>> {
    let sql = "SELECT schema_name, table_name, chunk, snapshot_order::text, snapshot, row_count FROM trem.chunk \
               WHERE task = $1 ORDER BY 1, 2, id";
    let mut chunks: HashMap<TableId, Vec<ChunkRecord>> = HashMap::new();
    for row in client.query(sql, &[&task]).await.map_err(pg)? {
        let id = TableId::new(get::<String>(&row, 0)?, get::<String>(&row, 1)?);
        let text: String = get(&row, 2)?;
        // One that version 0.1.0 planned has the range itself where a text is now.
        let chunk = serde_json::from_str(&text).or_else(|_| format1::chunk(&text).map_err(|e| e.table(&id)))?;
        let rows = get::<i64>(&row, 5)?.unsigned_abs();
        chunks.entry(id).or_default().push(ChunkRecord { chunk, done: position(&row, 3)?, rows });
    }
    Ok(chunks)
}

/// The tables that somebody wants to be loaded again.
pub(in super::super) async fn requests(client: &Client, task: &str) -> Result<Vec<TableId>> {
    let sql = "SELECT schema_name, table_name FROM trem.request WHERE task = $1 ORDER BY requested_at, 1, 2";
    let rows = client.query(sql, &[&task]).await.map_err(pg)?;
    rows.iter().map(|row| Ok(TableId::new(get::<String>(row, 0)?, get::<String>(row, 1)?))).collect()
}

fn position(row: &Row, column: usize) -> Result<Option<Position>> {
    let order: Option<String> = get(row, column)?;
    let resume: Option<String> = get(row, column + 1)?;
    stored::position(order, resume)
}
