//! What the target remembers of tasks, in schema `trem` of its database: written in the transactions that it speaks of.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::{Client, Row};
use trem_engine::ports::{Chunk, ChunkRecord, Epoch, TableRecord, TableState, TaskRecord};
use trem_engine::position::{Checkpoint, Lineage, Position};
use trem_engine::schema::{TableId, TableSchema};
use trem_engine::{Class, Error, Result};

use crate::postgres::catalog::get;
use crate::postgres::quote;
use crate::postgres::sqlstate::error as pg;

/// The layout that this program reads and writes.
const FORMAT: i32 = 1;

const CREATE: &str = "
CREATE TABLE IF NOT EXISTS trem.meta (format int NOT NULL);
CREATE TABLE IF NOT EXISTS trem.task (
    task text PRIMARY KEY,
    epoch bigint NOT NULL,
    lineage text,
    position_order numeric(39),
    position text,
    committed_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE TABLE IF NOT EXISTS trem.table_state (
    task text NOT NULL REFERENCES trem.task ON DELETE CASCADE,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    state text NOT NULL,
    shape text NOT NULL,
    reason text,
    remedy text,
    created_by_trem boolean NOT NULL,
    keeps_rows boolean NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (task, schema_name, table_name)
);
CREATE TABLE IF NOT EXISTS trem.chunk (
    task text NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    id bigint NOT NULL,
    chunk text NOT NULL,
    snapshot_order numeric(39),
    snapshot text,
    row_count bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (task, schema_name, table_name, id),
    FOREIGN KEY (task, schema_name, table_name) REFERENCES trem.table_state ON DELETE CASCADE
);
INSERT INTO trem.meta SELECT 1 WHERE NOT EXISTS (SELECT FROM trem.meta);
";

/// Waits for others that create or drop the bookkeeping, until the end of the open transaction.
const LOCK: &str = "SELECT pg_advisory_xact_lock(8387219012217)";

/// Whether any bookkeeping is there; refuses one that a newer program wrote.
pub(super) async fn exists(client: &Client) -> Result<bool> {
    let found: bool = client
        .query_one("SELECT to_regclass('trem.meta') IS NOT NULL AND to_regclass('trem.chunk') IS NOT NULL", &[])
        .await
        .and_then(|r| r.try_get(0))
        .map_err(pg)?;
    if !found {
        return Ok(false);
    }
    let format = client.query_opt("SELECT max(format) FROM trem.meta", &[]).await.map_err(pg)?;
    let format = format.map_or(Ok(None), |r| r.try_get::<_, Option<i32>>(0)).map_err(pg)?;
    match format {
        Some(FORMAT) => Ok(true),
        other => {
            Err(Error::refused(format!("schema trem of the target has format {other:?}, this program knows {FORMAT}"))
                .remedy("run the program version that wrote it"))
        }
    }
}

/// Creates what is missing of the bookkeeping, in the open transaction.
pub(super) async fn create(client: &Client) -> Result<()> {
    // Another task may start, or be dropped with all that is there, at the same moment.
    client.batch_execute(LOCK).await.map_err(pg)?;
    if exists(client).await? {
        return Ok(());
    }
    let schema = "SELECT FROM pg_namespace WHERE nspname = 'trem'";
    if client.query_opt(schema, &[]).await.map_err(pg)?.is_none() {
        client.batch_execute("CREATE SCHEMA trem").await.map_err(pg)?;
    }
    client.batch_execute(CREATE).await.map_err(pg)
}

/// Takes the next epoch of the task.
pub(super) async fn take_epoch(client: &Client, task: &str) -> Result<Epoch> {
    let sql = "INSERT INTO trem.task AS t (task, epoch) VALUES ($1, 1) ON CONFLICT (task) \
               DO UPDATE SET epoch = t.epoch + 1, updated_at = clock_timestamp() RETURNING epoch";
    let row = client.query_one(sql, &[&task]).await.map_err(pg)?;
    row.try_get(0).map(Epoch).map_err(pg)
}

/// The refusal of whoever has been locked out.
pub(super) fn fenced(task: &str) -> Error {
    Error::new(Class::Fenced, format!("another process has taken task {task} over"))
        .remedy("stop one of the two, or give them different task names")
}

/// Checks the epoch in the open transaction; it holds until the transaction's end.
pub(super) async fn fence(client: &Client, task: &str, epoch: Epoch) -> Result<()> {
    let sql = "SELECT FROM trem.task WHERE task = $1 AND epoch = $2 FOR SHARE";
    let found = client.query_opt(sql, &[&task, &epoch.0]).await.map_err(pg)?;
    found.map(drop).ok_or_else(|| fenced(task))
}

/// What is remembered of the task.
pub(super) async fn read(client: &Client, task: &str) -> Result<Option<TaskRecord>> {
    if !exists(client).await? {
        return Ok(None);
    }
    let sql = "SELECT lineage, position_order::text, position, committed_at FROM trem.task WHERE task = $1";
    let known = async { client.query_opt(sql, &[&task]).await.map_err(pg) };
    let sql = "SELECT schema_name, table_name, state, shape, reason, remedy FROM trem.table_state WHERE task = $1 \
               ORDER BY 1, 2";
    let tables = async { client.query(sql, &[&task]).await.map_err(pg) };
    let (row, mut chunks, rows) = tokio::try_join!(known, read_chunks(client, task), tables)?;
    let Some(row) = row else { return Ok(None) };
    let lineage = row.try_get::<_, Option<String>>(0).map_err(pg)?.map(Lineage);
    let position = position(&row, 1)?;
    let checkpoint = position.zip(lineage.clone()).map(|(position, lineage)| Checkpoint { lineage, position });
    let committed_at = row.try_get(3).map_err(pg)?;
    let mut tables = Vec::new();
    for row in rows {
        let id = TableId { schema: row.try_get(0).map_err(pg)?, table: row.try_get(1).map_err(pg)? };
        let state: String = row.try_get(2).map_err(pg)?;
        let shape: String = row.try_get(3).map_err(pg)?;
        let schema: TableSchema = serde_json::from_str(&shape).map_err(|e| damaged(&id, "shape").cause(e))?;
        tables.push(TableRecord {
            schema: Arc::new(schema),
            state: state_of(&state).ok_or_else(|| damaged(&id, "state"))?,
            reason: row.try_get(4).map_err(pg)?,
            remedy: row.try_get(5).map_err(pg)?,
            chunks: chunks.remove(&id).unwrap_or_default(),
        });
    }
    Ok(Some(TaskRecord { lineage, checkpoint, committed_at, tables }))
}

async fn read_chunks(client: &Client, task: &str) -> Result<HashMap<TableId, Vec<ChunkRecord>>> {
    let sql = "SELECT schema_name, table_name, chunk, snapshot_order::text, snapshot, row_count FROM trem.chunk \
               WHERE task = $1 ORDER BY 1, 2, id";
    let mut chunks: HashMap<TableId, Vec<ChunkRecord>> = HashMap::new();
    for row in client.query(sql, &[&task]).await.map_err(pg)? {
        let id = TableId { schema: row.try_get(0).map_err(pg)?, table: row.try_get(1).map_err(pg)? };
        let text: String = row.try_get(2).map_err(pg)?;
        let chunk: Chunk = serde_json::from_str(&text).map_err(|e| damaged(&id, "chunk").cause(e))?;
        let rows = row.try_get::<_, i64>(5).map_err(pg)?.unsigned_abs();
        chunks.entry(id).or_default().push(ChunkRecord { chunk, done: position(&row, 3)?, rows });
    }
    Ok(chunks)
}

fn position(row: &Row, column: usize) -> Result<Option<Position>> {
    let order: Option<String> = row.try_get(column).map_err(pg)?;
    let resume: Option<String> = row.try_get(column + 1).map_err(pg)?;
    let Some((order, resume)) = order.zip(resume) else { return Ok(None) };
    let order = order.parse().map_err(|e| Error::fatal("the target's record of the task is damaged").cause(e))?;
    Ok(Some(Position::new(order, resume)))
}

fn damaged(id: &TableId, what: &str) -> Error {
    Error::fatal(format!("the target's record of the table's {what} cannot be read")).table(id)
}

/// The state's name in the record.
pub(super) fn state_name(state: TableState) -> &'static str {
    match state {
        TableState::Loading => "loading",
        TableState::Ready => "ready",
        TableState::Suspended => "suspended",
        TableState::Reload => "reload",
    }
}

fn state_of(name: &str) -> Option<TableState> {
    use TableState as S;
    [S::Loading, S::Ready, S::Suspended, S::Reload].into_iter().find(|s| state_name(*s) == name)
}

/// What is remembered of how a table came to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) state: TableState,
    pub(super) created_by_trem: bool,
    pub(super) keeps_rows: bool,
}

/// How a table came to be, if the task knows it.
pub(super) async fn origin(client: &Client, task: &str, id: &TableId) -> Result<Option<Origin>> {
    let sql = "SELECT state, created_by_trem, keeps_rows FROM trem.table_state \
               WHERE task = $1 AND schema_name = $2 AND table_name = $3";
    let row = client.query_opt(sql, &[&task, &id.schema, &id.table]).await.map_err(pg)?;
    row.map(|row| origin_of(&row, id)).transpose()
}

/// How the task's tables came to be.
pub(super) async fn origins(client: &Client, task: &str) -> Result<HashMap<TableId, Origin>> {
    let sql = "SELECT state, created_by_trem, keeps_rows, schema_name, table_name FROM trem.table_state \
               WHERE task = $1";
    let rows = client.query(sql, &[&task]).await.map_err(pg)?;
    let one = |row: &Row| {
        let id = TableId { schema: get(row, 3)?, table: get(row, 4)? };
        Ok((id.clone(), origin_of(row, &id)?))
    };
    rows.iter().map(one).collect()
}

fn origin_of(row: &Row, id: &TableId) -> Result<Origin> {
    let state: String = get(row, 0)?;
    Ok(Origin {
        state: state_of(&state).ok_or_else(|| damaged(id, "state"))?,
        created_by_trem: get(row, 1)?,
        keeps_rows: get(row, 2)?,
    })
}

/// Waits for other tasks that are about to take this table up, until the end of the open transaction.
pub(super) async fn claim(client: &Client, id: &TableId) -> Result<()> {
    let name = quote::literal(&id.to_string());
    let sql = format!("SELECT pg_advisory_xact_lock(hashtextextended({name}, 8387219012217))");
    client.batch_execute(&sql).await.map_err(pg)
}

/// Which of these tables other tasks write. A task that has suspended a table does not write it.
pub(super) async fn holders(client: &Client, task: &str, ids: &[&TableId]) -> Result<HashMap<TableId, String>> {
    let sql = "SELECT s.schema_name, s.table_name, s.task FROM unnest($2::text[], $3::text[]) AS w (a, b) \
               JOIN trem.table_state s ON s.schema_name = w.a AND s.table_name = w.b \
               WHERE s.task <> $1 AND s.state <> 'suspended'";
    let schemas: Vec<&str> = ids.iter().map(|i| i.schema.as_str()).collect();
    let names: Vec<&str> = ids.iter().map(|i| i.table.as_str()).collect();
    let rows = client.query(sql, &[&task, &schemas, &names]).await.map_err(pg)?;
    rows.iter().map(|row| Ok((TableId { schema: get(row, 0)?, table: get(row, 1)? }, get(row, 2)?))).collect()
}

/// Remembers a table, in the open transaction; its chunks are forgotten.
pub(super) async fn put_table(client: &Client, task: &str, table: &TableSchema, origin: Origin) -> Result<()> {
    let id = &table.id;
    forget_table(client, task, id).await?;
    let sql = "INSERT INTO trem.table_state (task, schema_name, table_name, state, shape, created_by_trem, keeps_rows) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let state = state_name(origin.state);
    let shape = shape_text(table)?;
    let row: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [&task, &id.schema, &id.table, &state, &shape, &origin.created_by_trem, &origin.keeps_rows];
    client.execute(sql, &row).await.map(drop).map_err(pg)
}

/// Forgets a table and its chunks, in the open transaction. The foreign keys do not: in a session that keeps triggers
/// out of its way nothing cascades.
pub(super) async fn forget_table(client: &Client, task: &str, id: &TableId) -> Result<()> {
    for table in ["chunk", "table_state"] {
        let sql = format!("DELETE FROM trem.{table} WHERE task = $1 AND schema_name = $2 AND table_name = $3");
        client.execute(&sql, &[&task, &id.schema, &id.table]).await.map_err(pg)?;
    }
    Ok(())
}

/// The shape as it is stored.
pub(super) fn shape_text(table: &TableSchema) -> Result<String> {
    serde_json::to_string(table).map_err(|e| Error::fatal("internal: the shape of the table").cause(e))
}

/// Changes the state of a table, in the open transaction; false if the task does not know it.
pub(super) async fn set_state(client: &Client, task: &str, id: &TableId, state: TableState) -> Result<bool> {
    let sql = "UPDATE trem.table_state SET state = $4, reason = NULL, remedy = NULL, updated_at = clock_timestamp() \
               WHERE task = $1 AND schema_name = $2 AND table_name = $3";
    let state = state_name(state);
    client.execute(sql, &[&task, &id.schema, &id.table, &state]).await.map(|n| n == 1).map_err(pg)
}

/// Marks a table suspended, and why, in the open transaction.
pub(super) async fn suspend(client: &Client, task: &str, id: &TableId, reason: &str, remedy: &str) -> Result<()> {
    let sql = "UPDATE trem.table_state SET state = $4, reason = $5, remedy = $6, updated_at = clock_timestamp() \
               WHERE task = $1 AND schema_name = $2 AND table_name = $3";
    let state = state_name(TableState::Suspended);
    let row: [&(dyn tokio_postgres::types::ToSql + Sync); 6] = [&task, &id.schema, &id.table, &state, &reason, &remedy];
    client.execute(sql, &row).await.map(drop).map_err(pg)
}

/// Whether any chunk of the table is in.
pub(super) async fn any_chunk_done(client: &Client, task: &str, id: &TableId) -> Result<bool> {
    let sql = "SELECT FROM trem.chunk WHERE task = $1 AND schema_name = $2 AND table_name = $3 \
               AND snapshot IS NOT NULL LIMIT 1";
    client.query_opt(sql, &[&task, &id.schema, &id.table]).await.map(|r| r.is_some()).map_err(pg)
}

/// Replaces the chunks of a table, in the open transaction.
pub(super) async fn put_chunks(client: &Client, task: &str, id: &TableId, chunks: &[Chunk]) -> Result<()> {
    let sql = "DELETE FROM trem.chunk WHERE task = $1 AND schema_name = $2 AND table_name = $3";
    client.execute(sql, &[&task, &id.schema, &id.table]).await.map_err(pg)?;
    let ids: Vec<i64> = chunks.iter().map(|c| i64::from(c.id)).collect();
    let texts = chunks.iter().map(serde_json::to_string).collect::<std::result::Result<Vec<_>, _>>();
    let texts = texts.map_err(|e| Error::fatal("internal: chunks of the table").cause(e))?;
    let sql = "INSERT INTO trem.chunk (task, schema_name, table_name, id, chunk) \
               SELECT $1, $2, $3, c.id, c.chunk FROM unnest($4::bigint[], $5::text[]) AS c (id, chunk)";
    client.execute(sql, &[&task, &id.schema, &id.table, &ids, &texts]).await.map(drop).map_err(pg)
}

/// Remembers that a chunk is in, in the open transaction.
pub(super) async fn chunk_done(
    client: &Client,
    task: &str,
    id: &TableId,
    chunk: u32,
    snapshot: &Position,
    rows: u64,
) -> Result<()> {
    let sql = "UPDATE trem.chunk SET snapshot_order = $5::text::numeric, snapshot = $6, row_count = $7 \
               WHERE task = $1 AND schema_name = $2 AND table_name = $3 AND id = $4";
    let (order, rows) = (snapshot.order().to_string(), rows as i64);
    let row: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [&task, &id.schema, &id.table, &i64::from(chunk), &order, &snapshot.resume(), &rows];
    match client.execute(sql, &row).await.map_err(pg)? {
        1 => Ok(()),
        _ => Err(Error::fatal("internal: a chunk was loaded that the record does not plan").table(id)),
    }
}

/// Forgets the task; the last one takes the bookkeeping with it.
pub(super) async fn forget(client: &Client, task: &str) -> Result<()> {
    client.batch_execute(&format!("BEGIN; {LOCK}")).await.map_err(pg)?;
    if !exists(client).await? {
        return client.batch_execute("COMMIT").await.map_err(pg);
    }
    for table in ["chunk", "table_state", "task"] {
        client.execute(&format!("DELETE FROM trem.{table} WHERE task = $1"), &[&task]).await.map_err(pg)?;
    }
    let left = client.query_opt("SELECT FROM trem.task LIMIT 1", &[]).await.map_err(pg)?;
    if left.is_none() {
        let sql = "SAVEPOINT trem; DROP TABLE trem.chunk, trem.table_state, trem.task, trem.meta; DROP SCHEMA trem";
        if let Err(e) = client.batch_execute(sql).await.map_err(pg) {
            tracing::warn!(error = %e, "schema trem stays on the target: something else is in it");
            client.batch_execute("ROLLBACK TO SAVEPOINT trem").await.map_err(pg)?;
        }
    }
    client.batch_execute("COMMIT").await.map_err(pg)
}
