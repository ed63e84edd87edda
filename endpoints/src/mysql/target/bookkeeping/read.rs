//! From the rows in database `trem` to the engine's record.

use std::collections::HashMap;
use std::sync::Arc;

use mysql_async::Row;
use trem_engine::position::{Checkpoint, Lineage, Position};
use trem_engine::record::{ChunkRecord, Origin, TableRecord, TableState, TaskRecord};
use trem_engine::schema::TableId;
use trem_engine::{Remedy, Result};

use super::super::session::Session;
use super::clock::{MICROS, time};
use super::layout::exists;
use crate::mysql::row::get;
use crate::target::stored::{self, damaged, shape_of};

/// What is remembered of the task.
pub(in super::super) async fn read(session: &mut Session, task: &str) -> Result<Option<TaskRecord>> {
    if !exists(session).await? {
        return Ok(None);
    }
    let sql = "SELECT lineage, failing FROM trem.task WHERE task = ?";
    let rows = session.rows(sql, vec![task.into()]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (begun, failing): (Option<String>, Option<String>) = (get(row, 0)?, get(row, 1)?);
    let sql = format!(
        "SELECT lineage, CAST(position_order AS CHAR), position, {MICROS} FROM trem.lane WHERE task = ? AND lane = 0"
    );
    let rows = session.rows(&sql, vec![task.into()]).await?;
    let mut record = TaskRecord {
        lineage: begun.map(Lineage),
        // It is for the eyes only.
        failing: failing.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
        requests: requests(session, task).await?,
        ..TaskRecord::default()
    };
    if let Some(row) = rows.first() {
        let lineage = Lineage(get(row, 0)?);
        record.lineage = Some(lineage.clone());
        record.checkpoint = position(row, 1)?.map(|position| Checkpoint { lineage, position });
        record.committed_at = time(get(row, 3)?);
    }
    let mut chunks = chunks(session, task).await?;
    record.tables = tables(session, task).await?;
    for table in &mut record.tables {
        table.chunks = chunks.remove(table.id()).unwrap_or_default();
    }
    Ok(Some(record))
}

async fn tables(session: &mut Session, task: &str) -> Result<Vec<TableRecord>> {
    let sql = "SELECT schema_name, table_name, state, shape, target_shape, reason, remedy, created_by_trem, \
               keeps_rows, CAST(position_order AS CHAR), position, conflicts, \
               (SELECT count(*) FROM trem.quarantine q WHERE q.task = s.task AND q.schema_name = s.schema_name \
                 AND q.table_name = s.table_name) FROM trem.table_state s WHERE task = ? ORDER BY 1, 2";
    let mut tables = Vec::new();
    for row in &session.rows(sql, vec![task.into()]).await? {
        let id = TableId::new(get::<String>(row, 0)?, get::<String>(row, 1)?);
        let state: String = get(row, 2)?;
        tables.push(TableRecord {
            source: Arc::new(shape_of(&id, &get::<String>(row, 3)?)?),
            target: Arc::new(shape_of(&id, &get::<String>(row, 4)?)?),
            state: TableState::named(&state).ok_or_else(|| damaged(&id, "state"))?,
            origin: Origin { created: get(row, 7)?, keeps_rows: get(row, 8)? },
            reason: get(row, 5)?,
            remedy: get::<Option<String>>(row, 6)?.map(|text| Remedy::of_stored(&text)),
            chunks: Vec::new(),
            position: position(row, 9)?,
            conflicts: get::<i64>(row, 11)?.unsigned_abs(),
            quarantined: get::<i64>(row, 12)?.unsigned_abs(),
        });
    }
    Ok(tables)
}

async fn chunks(session: &mut Session, task: &str) -> Result<HashMap<TableId, Vec<ChunkRecord>>> {
    let sql = "SELECT schema_name, table_name, chunk, CAST(snapshot_order AS CHAR), snapshot, row_count \
               FROM trem.chunk WHERE task = ? ORDER BY 1, 2, id";
    let mut chunks: HashMap<TableId, Vec<ChunkRecord>> = HashMap::new();
    for row in session.rows(sql, vec![task.into()]).await? {
        let id = TableId::new(get::<String>(&row, 0)?, get::<String>(&row, 1)?);
        let text: String = get(&row, 2)?;
        let chunk = serde_json::from_str(&text).map_err(|e| damaged(&id, "chunks").cause(e))?;
        let rows = get::<i64>(&row, 5)?.unsigned_abs();
        chunks.entry(id).or_default().push(ChunkRecord { chunk, done: position(&row, 3)?, rows });
    }
    Ok(chunks)
}

/// The tables that somebody wants to be loaded again.
pub(in super::super) async fn requests(session: &mut Session, task: &str) -> Result<Vec<TableId>> {
    if !exists(session).await? {
        return Ok(Vec::new());
    }
    let sql = "SELECT schema_name, table_name FROM trem.request WHERE task = ? ORDER BY requested_at, 1, 2";
    let rows = session.rows(sql, vec![task.into()]).await?;
    rows.iter().map(|row| Ok(TableId::new(get::<String>(row, 0)?, get::<String>(row, 1)?))).collect()
}

fn position(row: &Row, column: usize) -> Result<Option<Position>> {
    let order: Option<String> = get(row, column)?;
    let resume: Option<String> = get(row, column + 1)?;
    stored::position(order, resume)
}
