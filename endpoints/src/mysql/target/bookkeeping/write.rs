//! Changes of the engine's record into the rows in database `trem`, in the open transaction.

use std::time::SystemTime;

use mysql_async::Value;
use trem_engine::chunk::Chunk;
use trem_engine::position::{Checkpoint, Position};
use trem_engine::record::{Epoch, LaneId, RecordChange, TableRecord};
use trem_engine::schema::TableId;
use trem_engine::{Error, Remedy, Result};

use super::super::session::Session;
use super::clock::{TIME, micros};
use super::fence::fence;
use super::quarantine;
use crate::target::stored::{fenced, not_to_be_loaded, shape_text};

/// Which row of `trem.table_state` is meant: task, schema, table.
const WHICH: &str = "WHERE task = ? AND schema_name = ? AND table_name = ?";

/// Parameters of a statement.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$(Value::from($value)),*] };
}

/// Moves the checkpoint of a lane, and checks the epoch.
pub(in super::super) async fn checkpoint(
    session: &mut Session,
    (task, epoch): (&str, Epoch),
    lane: LaneId,
    at: &Checkpoint,
    committed_at: Option<SystemTime>,
) -> Result<()> {
    let (lane, order, micros) = (lane.0, at.position.order().to_string(), micros(committed_at));
    let sql = format!(
        "UPDATE trem.lane SET lineage = ?, position_order = ?, position = ?, committed_at = coalesce({TIME}, \
         committed_at), updated_at = now(6) WHERE task = ? AND lane = ? AND epoch = ?"
    );
    let moved = values![&at.lineage.0, &order, at.position.resume(), micros, task, lane, epoch.0];
    session.execute_with(&sql, moved).await?;
    if session.matched() == 1 {
        return Ok(());
    }
    fence(session, task, epoch).await?;
    let sql = format!(
        "INSERT IGNORE INTO trem.lane (task, lane, epoch, lineage, position_order, position, committed_at) \
         VALUES (?, ?, ?, ?, ?, ?, {TIME})"
    );
    let new = values![task, lane, epoch.0, &at.lineage.0, &order, at.position.resume(), micros];
    match session.execute_with(&sql, new).await? {
        1 => Ok(()),
        _ => Err(fenced(task)),
    }
}

/// Writes any other change. The epoch is the caller's matter.
pub(in super::super) async fn write(session: &mut Session, task: &str, change: &RecordChange) -> Result<()> {
    match change {
        RecordChange::Begin(lineage) => {
            let sql = "UPDATE trem.task SET lineage = ?, updated_at = now(6) WHERE task = ?";
            session.execute_with(sql, values![&lineage.0, task]).await.map(drop)
        }
        RecordChange::Checkpoint { .. } => Err(Error::fatal("internal: a checkpoint is moved by its lane")),
        RecordChange::Table(table) => put_table(session, task, table).await,
        RecordChange::Chunks(id, chunks) => put_chunks(session, task, id, chunks).await,
        RecordChange::ChunkDone { table, chunk, snapshot, rows } => {
            chunk_done(session, task, table, *chunk, snapshot, *rows).await
        }
        RecordChange::State { table, state, reason, remedy } => {
            let remedy = remedy.as_ref().map(Remedy::stored);
            let set = "state = ?, reason = ?, remedy = ?, updated_at = now(6)";
            update(session, set, values![state.name(), reason.as_ref(), remedy], task, table).await
        }
        RecordChange::Shape { source, target } => {
            let shapes = values![shape_text(source)?, shape_text(target)?];
            update(session, "shape = ?, target_shape = ?, updated_at = now(6)", shapes, task, &source.id).await
        }
        RecordChange::Source(source) => {
            update(session, "shape = ?, updated_at = now(6)", values![shape_text(source)?], task, &source.id).await
        }
        RecordChange::Position(tables, position) => {
            for table in tables {
                let at = values![position.order().to_string(), position.resume()];
                update(session, "position_order = ?, position = ?", at, task, table).await?;
            }
            Ok(())
        }
        RecordChange::Conflicts(id, more) => {
            let more = i64::try_from(*more).unwrap_or(i64::MAX);
            update(session, "conflicts = conflicts + ?", values![more], task, id).await
        }
        RecordChange::Forget(id) => {
            quarantine::forget(session, task, id).await?;
            forget_table(session, task, id).await
        }
        RecordChange::Taken(id) => {
            let sql = format!("DELETE FROM trem.request {WHICH}");
            session.execute_with(&sql, values![task, &id.schema, &id.table]).await.map(drop)
        }
        RecordChange::Failing(failing) => {
            let text =
                serde_json::to_string(failing).map_err(|e| Error::fatal("internal: what keeps failing").cause(e))?;
            session.execute_with("UPDATE trem.task SET failing = ? WHERE task = ?", values![text, task]).await.map(drop)
        }
        RecordChange::Quarantine(changes) => quarantine::put(session, task, changes).await,
    }
}

/// Changes the row of a table, which has to be there.
async fn update(session: &mut Session, set: &str, mut values: Vec<Value>, task: &str, id: &TableId) -> Result<()> {
    values.extend(values![task, &id.schema, &id.table]);
    session.execute_with(&format!("UPDATE trem.table_state SET {set} {WHICH}"), values).await?;
    match session.matched() {
        0 => Err(Error::fatal("internal: the target's record does not know this table").table(id)),
        _ => Ok(()),
    }
}

async fn put_table(session: &mut Session, task: &str, table: &TableRecord) -> Result<()> {
    let (id, to) = (table.id(), &table.target.id);
    forget_table(session, task, id).await?;
    let sql = "INSERT INTO trem.table_state (task, schema_name, table_name, state, shape, created_by_trem, keeps_rows, \
               target_schema, target_table, target_shape, position_order, position, reason, remedy, conflicts) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let row = values![
        task,
        &id.schema,
        &id.table,
        table.state.name(),
        shape_text(&table.source)?,
        table.origin.created,
        table.origin.keeps_rows,
        &to.schema,
        &to.table,
        shape_text(&table.target)?,
        table.position.as_ref().map(|p| p.order().to_string()),
        table.position.as_ref().map(Position::resume),
        table.reason.as_ref(),
        table.remedy.as_ref().map(Remedy::stored),
        table.conflicts,
    ];
    session.execute_with(sql, row).await.map(drop)
}

async fn forget_table(session: &mut Session, task: &str, id: &TableId) -> Result<()> {
    for table in ["chunk", "table_state"] {
        let sql = format!("DELETE FROM trem.{table} {WHICH}");
        session.execute_with(&sql, values![task, &id.schema, &id.table]).await?;
    }
    Ok(())
}

async fn put_chunks(session: &mut Session, task: &str, id: &TableId, chunks: &[Chunk]) -> Result<()> {
    let sql = format!("DELETE FROM trem.chunk {WHICH}");
    session.execute_with(&sql, values![task, &id.schema, &id.table]).await?;
    // What a load had set aside, the next one meets again.
    quarantine::forget(session, task, id).await?;
    for some in chunks.chunks(1000) {
        let places = vec!["(?, ?, ?, ?, ?)"; some.len()].join(", ");
        let sql = format!("INSERT INTO trem.chunk (task, schema_name, table_name, id, chunk) VALUES {places}");
        let mut all = Vec::with_capacity(some.len() * 5);
        for chunk in some {
            let text =
                serde_json::to_string(chunk).map_err(|e| Error::fatal("internal: chunks of the table").cause(e))?;
            all.extend(values![task, &id.schema, &id.table, chunk.id, text]);
        }
        session.execute_with(&sql, all).await?;
    }
    Ok(())
}

async fn chunk_done(
    session: &mut Session,
    task: &str,
    id: &TableId,
    chunk: u32,
    snapshot: &Position,
    rows: u64,
) -> Result<()> {
    let sql = format!(
        "UPDATE trem.chunk SET snapshot_order = ?, snapshot = ?, row_count = ? {WHICH} AND id = ? AND snapshot IS NULL"
    );
    let (order, resume) = (snapshot.order().to_string(), snapshot.resume());
    match session.execute_with(&sql, values![order, resume, rows, task, &id.schema, &id.table, chunk]).await? {
        1 => Ok(()),
        _ => Err(not_to_be_loaded(id)),
    }
}

/// Writes down that a table is to be loaded again; false if the task does not know it.
pub(in super::super) async fn put_request(session: &mut Session, task: &str, id: &TableId) -> Result<bool> {
    let sql = format!(
        "INSERT INTO trem.request (task, schema_name, table_name) \
         SELECT task, schema_name, table_name FROM trem.table_state {WHICH} \
         ON DUPLICATE KEY UPDATE requested_at = now(6)"
    );
    Ok(session.execute_with(&sql, values![task, &id.schema, &id.table]).await? > 0)
}
