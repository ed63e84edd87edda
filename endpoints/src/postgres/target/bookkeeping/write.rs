//! Changes of the engine's record into the rows in schema `trem`, in the open transaction.

use std::time::SystemTime;

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use trem_engine::chunk::Chunk;
use trem_engine::position::{Checkpoint, Position};
use trem_engine::record::{Epoch, LaneId, RecordChange, TableRecord};
use trem_engine::schema::TableId;
use trem_engine::{Error, Remedy, Result};

use super::fence::fence;
use super::quarantine;
use super::read::read;
use crate::postgres::sqlstate::error as pg;
use crate::target::stored::{fenced, not_to_be_loaded, shape_text};

/// The statement that moves a lane's checkpoint: task, lane, epoch, lineage, order, position, commit time.
pub(in super::super) const MOVE: &str = "UPDATE trem.lane SET lineage = $4, position_order = $5::text::numeric, \
    position = $6, committed_at = coalesce($7, committed_at), updated_at = clock_timestamp() \
    WHERE task = $1 AND lane = $2 AND epoch = $3";

/// Moves the checkpoint of a lane by a statement prepared from [`MOVE`], which checks the epoch too.
pub(in super::super) async fn checkpoint(
    client: &Client,
    moves: &tokio_postgres::Statement,
    (task, epoch): (&str, Epoch),
    lane: LaneId,
    at: &Checkpoint,
    committed_at: Option<SystemTime>,
) -> Result<()> {
    let (lane, order) = (i32::from(lane.0), at.position.order().to_string());
    let row: [&(dyn ToSql + Sync); 7] =
        [&task, &lane, &epoch.0, &at.lineage.0, &order, &at.position.resume(), &committed_at];
    if client.execute(moves, &row).await.map_err(pg)? == 1 {
        return Ok(());
    }
    fence(client, task, epoch).await?;
    let sql = "INSERT INTO trem.lane (task, lane, epoch, lineage, position_order, position, committed_at) \
               VALUES ($1, $2, $3, $4, $5::text::numeric, $6, $7) ON CONFLICT DO NOTHING";
    match client.execute(sql, &row).await.map_err(pg)? {
        1 => Ok(()),
        _ => Err(fenced(task)),
    }
}

/// Writes any other change. The epoch is the caller's matter.
pub(in super::super) async fn write(client: &Client, task: &str, change: &RecordChange) -> Result<()> {
    match change {
        RecordChange::Begin(lineage) => {
            let sql = "UPDATE trem.task SET lineage = $2, updated_at = clock_timestamp() WHERE task = $1";
            execute(client, sql, &[&task, &lineage.0]).await.map(drop)
        }
        RecordChange::Checkpoint { .. } => Err(Error::fatal("internal: a checkpoint is moved by its lane")),
        RecordChange::Table(table) => put_table(client, task, table).await,
        RecordChange::Chunks(id, chunks) => put_chunks(client, task, id, chunks).await,
        RecordChange::ChunkDone { table, chunk, snapshot, rows } => {
            chunk_done(client, task, table, *chunk, snapshot, *rows).await
        }
        RecordChange::State { table, state, reason, remedy } => {
            let sql = "UPDATE trem.table_state SET state = $4, reason = $5, remedy = $6, \
                       updated_at = clock_timestamp() WHERE task = $1 AND schema_name = $2 AND table_name = $3";
            let (state, remedy) = (state.name(), remedy.as_ref().map(Remedy::stored));
            known(execute(client, sql, &[&task, &table.schema, &table.table, &state, reason, &remedy]).await?, table)
        }
        RecordChange::Shape { source, target } => {
            let sql = "UPDATE trem.table_state SET shape = $4, target_shape = $5, updated_at = clock_timestamp() \
                       WHERE task = $1 AND schema_name = $2 AND table_name = $3";
            let (shapes, id) = ((shape_text(source)?, shape_text(target)?), &source.id);
            known(execute(client, sql, &[&task, &id.schema, &id.table, &shapes.0, &shapes.1]).await?, id)
        }
        RecordChange::Source(source) => {
            let sql = "UPDATE trem.table_state SET shape = $4, updated_at = clock_timestamp() \
                       WHERE task = $1 AND schema_name = $2 AND table_name = $3";
            let (shape, id) = (shape_text(source)?, &source.id);
            known(execute(client, sql, &[&task, &id.schema, &id.table, &shape]).await?, id)
        }
        RecordChange::Position(tables, position) => put_position(client, task, tables, position).await,
        RecordChange::Conflicts(id, more) => {
            let sql = "UPDATE trem.table_state SET conflicts = conflicts + $4 \
                       WHERE task = $1 AND schema_name = $2 AND table_name = $3";
            let more = i64::try_from(*more).unwrap_or(i64::MAX);
            known(execute(client, sql, &[&task, &id.schema, &id.table, &more]).await?, id)
        }
        RecordChange::Forget(id) => {
            quarantine::forget(client, task, id).await?;
            forget_table(client, task, id).await
        }
        RecordChange::Failing(failing) => {
            let text = serde_json::to_string(failing);
            let text = text.map_err(|e| Error::fatal("internal: what fails cannot be written down").cause(e))?;
            let sql = "UPDATE trem.task SET failing = $2 WHERE task = $1";
            execute(client, sql, &[&task, &text]).await.map(drop)
        }
        RecordChange::Quarantine(changes) => quarantine::put(client, task, changes).await,
        RecordChange::Taken(id) => {
            let sql = "DELETE FROM trem.request WHERE task = $1 AND schema_name = $2 AND table_name = $3";
            execute(client, sql, &[&task, &id.schema, &id.table]).await.map(drop)
        }
    }
}

async fn execute(client: &Client, sql: &str, row: &[&(dyn ToSql + Sync)]) -> Result<u64> {
    client.execute(sql, row).await.map_err(pg)
}

fn known(rows: u64, id: &TableId) -> Result<()> {
    match rows {
        1 => Ok(()),
        _ => Err(Error::fatal("internal: the record does not know this table").table(id)),
    }
}

/// Its chunks are forgotten.
async fn put_table(client: &Client, task: &str, table: &TableRecord) -> Result<()> {
    let (id, to) = (table.id(), &table.target.id);
    forget_table(client, task, id).await?;
    let sql = "INSERT INTO trem.table_state (task, schema_name, table_name, state, shape, created_by_trem, keeps_rows, \
                 target_schema, target_table, target_shape, position_order, position, reason, remedy) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::numeric, $12, $13, $14)";
    let (state, source, target) = (table.state.name(), shape_text(&table.source)?, shape_text(&table.target)?);
    let order = table.position.as_ref().map(|p| p.order().to_string());
    let resume = table.position.as_ref().map(Position::resume);
    let remedy = table.remedy.as_ref().map(Remedy::stored);
    let row: [&(dyn ToSql + Sync); 14] = [
        &task,
        &id.schema,
        &id.table,
        &state,
        &source,
        &table.origin.created,
        &table.origin.keeps_rows,
        &to.schema,
        &to.table,
        &target,
        &order,
        &resume,
        &table.reason,
        &remedy,
    ];
    execute(client, sql, &row).await.map(drop)
}

/// The foreign keys do not forget the chunks: in a session that keeps triggers out of its way nothing cascades.
async fn forget_table(client: &Client, task: &str, id: &TableId) -> Result<()> {
    for table in ["chunk", "table_state"] {
        let sql = format!("DELETE FROM trem.{table} WHERE task = $1 AND schema_name = $2 AND table_name = $3");
        execute(client, &sql, &[&task, &id.schema, &id.table]).await?;
    }
    Ok(())
}

async fn put_chunks(client: &Client, task: &str, id: &TableId, chunks: &[Chunk]) -> Result<()> {
    let sql = "DELETE FROM trem.chunk WHERE task = $1 AND schema_name = $2 AND table_name = $3";
    execute(client, sql, &[&task, &id.schema, &id.table]).await?;
    // What a load had set aside, the next one meets again.
    quarantine::forget(client, task, id).await?;
    let ids: Vec<i64> = chunks.iter().map(|c| i64::from(c.id)).collect();
    let texts = chunks.iter().map(serde_json::to_string).collect::<std::result::Result<Vec<_>, _>>();
    let texts = texts.map_err(|e| Error::fatal("internal: chunks of the table").cause(e))?;
    let sql = "INSERT INTO trem.chunk (task, schema_name, table_name, id, chunk) \
               SELECT $1, $2, $3, c.id, c.chunk FROM unnest($4::bigint[], $5::text[]) AS c (id, chunk)";
    execute(client, sql, &[&task, &id.schema, &id.table, &ids, &texts]).await.map(drop)
}

async fn chunk_done(
    client: &Client,
    task: &str,
    id: &TableId,
    chunk: u32,
    snapshot: &Position,
    rows: u64,
) -> Result<()> {
    let sql = "UPDATE trem.chunk SET snapshot_order = $5::text::numeric, snapshot = $6, row_count = $7 \
               WHERE task = $1 AND schema_name = $2 AND table_name = $3 AND id = $4 AND snapshot IS NULL";
    let (order, rows) = (snapshot.order().to_string(), rows as i64);
    let row: [&(dyn ToSql + Sync); 7] =
        [&task, &id.schema, &id.table, &i64::from(chunk), &order, &snapshot.resume(), &rows];
    match execute(client, sql, &row).await? {
        1 => Ok(()),
        _ => Err(not_to_be_loaded(id)),
    }
}

async fn put_position(client: &Client, task: &str, tables: &[TableId], position: &Position) -> Result<()> {
    let sql = "UPDATE trem.table_state SET position_order = $4::text::numeric, position = $5 \
               WHERE task = $1 AND (schema_name, table_name) IN (SELECT * FROM unnest($2::text[], $3::text[]))";
    let schemas: Vec<&str> = tables.iter().map(|t| t.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|t| t.table.as_str()).collect();
    let order = position.order().to_string();
    execute(client, sql, &[&task, &schemas, &names, &order, &position.resume()]).await.map(drop)
}

/// Writes down that a table is to be loaded again; false if the task does not know it. `requests`: there is a table for
/// them; before, its state says so.
pub(super) async fn put_request(client: &Client, task: &str, id: &TableId, requests: bool) -> Result<bool> {
    let row: [&(dyn ToSql + Sync); 3] = [&task, &id.schema, &id.table];
    if !requests {
        let sql = "UPDATE trem.table_state SET state = 'reload', reason = NULL, remedy = NULL \
                   WHERE task = $1 AND schema_name = $2 AND table_name = $3";
        return Ok(execute(client, sql, &row).await? == 1);
    }
    let sql = "INSERT INTO trem.request (task, schema_name, table_name) \
               SELECT task, schema_name, table_name FROM trem.table_state \
               WHERE task = $1 AND schema_name = $2 AND table_name = $3 \
               ON CONFLICT (task, schema_name, table_name) DO UPDATE SET requested_at = clock_timestamp()";
    Ok(execute(client, sql, &row).await? == 1)
}

/// Writes what version 0.1.0 has written of the task as this one would have.
pub(super) async fn adopt(client: &Client, task: &str, epoch: Epoch) -> Result<()> {
    let sql = "SELECT (SELECT position IS NOT NULL FROM trem.task WHERE task = $1), \
               EXISTS (SELECT FROM trem.table_state WHERE task = $1 AND target_shape IS NULL)";
    let row = client.query_one(sql, &[&task]).await.map_err(pg)?;
    let (place, tables): (bool, bool) = (row.try_get(0).map_err(pg)?, row.try_get(1).map_err(pg)?);
    if !place && !tables {
        return Ok(());
    }
    for table in read(client, task).await?.unwrap_or_default().tables {
        let sql = "UPDATE trem.table_state SET shape = $4, target_schema = schema_name, target_table = table_name, \
                   target_shape = $5 WHERE task = $1 AND schema_name = $2 AND table_name = $3 AND target_shape IS NULL";
        let (id, source, target) = (table.id(), shape_text(&table.source)?, shape_text(&table.target)?);
        execute(client, sql, &[&task, &id.schema, &id.table, &source, &target]).await?;
    }
    if place {
        let sql = "INSERT INTO trem.lane (task, lane, epoch, lineage, position_order, position, committed_at) \
                   SELECT task, 0, $2, lineage, position_order, position, committed_at FROM trem.task WHERE task = $1 \
                   ON CONFLICT (task, lane) DO UPDATE SET epoch = $2, lineage = excluded.lineage, position_order = \
                   excluded.position_order, position = excluded.position, committed_at = excluded.committed_at";
        execute(client, sql, &[&task, &epoch.0]).await?;
        let sql = "UPDATE trem.task SET position_order = NULL, position = NULL, committed_at = NULL WHERE task = $1";
        execute(client, sql, &[&task]).await?;
        tracing::info!(task, "goes on from what an earlier version of trem has written down");
    }
    Ok(())
}
