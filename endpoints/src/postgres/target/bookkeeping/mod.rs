//! What the target remembers of tasks, in schema `trem` of its database: written in the transactions that it speaks of.
//!
//! This file has the layout and who may write; `read` and `write` are between rows there and the engine's record.

mod read;
mod write;

use std::collections::HashMap;

use tokio_postgres::Client;
use trem_engine::record::{Epoch, TaskRecord};
use trem_engine::schema::TableId;
use trem_engine::{Class, Error, Result};

pub(super) use self::read::{read, requests};
pub(super) use self::write::{MOVE, checkpoint, write};
use crate::postgres::catalog::get;
use crate::postgres::quote;
use crate::postgres::sqlstate::error as pg;

/// The layout that this program writes. Format 1 is that of version 0.1.0, which it reads and goes on from.
const FORMAT: i32 = 2;

const CREATE: &str = "
CREATE TABLE trem.meta (format int NOT NULL);
CREATE TABLE trem.task (
    task text PRIMARY KEY,
    epoch bigint NOT NULL,
    lineage text,
    position_order numeric(39),
    position text,
    committed_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE TABLE trem.table_state (
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
CREATE TABLE trem.chunk (
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
INSERT INTO trem.meta VALUES (1);
";

/// From format 1 to 2. What a task of version 0.1.0 still writes while another task is upgraded stays where it is: its
/// place in the log in `task`, its tables without a target of their own.
const UPGRADE: &str = "
CREATE TABLE trem.lane (
    task text NOT NULL REFERENCES trem.task ON DELETE CASCADE,
    lane int NOT NULL,
    epoch bigint NOT NULL,
    lineage text NOT NULL,
    position_order numeric(39) NOT NULL,
    position text NOT NULL,
    committed_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (task, lane)
);
ALTER TABLE trem.table_state ADD COLUMN target_schema text, ADD COLUMN target_table text, ADD COLUMN target_shape text,
    ADD COLUMN position_order numeric(39), ADD COLUMN position text;
CREATE TABLE trem.request (
    task text NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (task, schema_name, table_name)
);
UPDATE trem.meta SET format = 2;
";

/// Waits for others that create or drop the bookkeeping, until the end of the open transaction.
const LOCK: &str = "SELECT pg_advisory_xact_lock(8387219012217)";

/// The tables that hold something of a task, those that refer to others first.
const OF_TASK: [&str; 5] = ["request", "chunk", "table_state", "lane", "task"];

/// The format of what is there; `None` without bookkeeping. Refuses one that a newer program wrote.
pub(super) async fn format(client: &Client) -> Result<Option<i32>> {
    let found: bool = client
        .query_one("SELECT to_regclass('trem.meta') IS NOT NULL AND to_regclass('trem.chunk') IS NOT NULL", &[])
        .await
        .and_then(|r| r.try_get(0))
        .map_err(pg)?;
    if !found {
        return Ok(None);
    }
    let format = client.query_opt("SELECT max(format) FROM trem.meta", &[]).await.map_err(pg)?;
    let format = format.map_or(Ok(None), |r| r.try_get::<_, Option<i32>>(0)).map_err(pg)?;
    match format {
        Some(format @ 1..=FORMAT) => Ok(Some(format)),
        other => {
            let found = other.map_or_else(|| "no format".to_owned(), |f| format!("format {f}"));
            Err(Error::refused(format!("schema trem of the target has {found}, this program knows 1 to {FORMAT}"))
                .remedy("run the program version that wrote it"))
        }
    }
}

/// Takes a task over: the bookkeeping created or brought to this format, everyone else locked out.
pub(super) async fn take_over(client: &Client, task: &str) -> Result<(Epoch, TaskRecord)> {
    client.batch_execute("BEGIN").await.map_err(pg)?;
    let taken = async {
        create(client).await?;
        let epoch = take_epoch(client, task).await?;
        write::adopt(client, task, epoch).await?;
        client.batch_execute("COMMIT").await.map_err(pg)?;
        Ok((epoch, read(client, task).await?.unwrap_or_default()))
    };
    let taken: Result<_> = taken.await;
    if taken.is_err() && !client.is_closed() {
        // The connection is used again for the next question.
        client.batch_execute("ROLLBACK").await.map_err(pg)?;
    }
    taken
}

/// Creates what is missing, in the open transaction.
async fn create(client: &Client) -> Result<()> {
    // Another task may start, or be dropped with all that is there, at the same moment.
    client.batch_execute(LOCK).await.map_err(pg)?;
    let format = format(client).await?;
    if format.is_none() {
        let schema = "SELECT FROM pg_namespace WHERE nspname = 'trem'";
        if client.query_opt(schema, &[]).await.map_err(pg)?.is_none() {
            client.batch_execute("CREATE SCHEMA trem").await.map_err(pg)?;
        }
        client.batch_execute(CREATE).await.map_err(pg)?;
    }
    if format != Some(FORMAT) {
        client.batch_execute(UPGRADE).await.map_err(pg)?;
    }
    Ok(())
}

/// Takes the next epoch of the task. The lanes' own copies make a commit under an earlier one wait, and then fail.
async fn take_epoch(client: &Client, task: &str) -> Result<Epoch> {
    let sql = "INSERT INTO trem.task AS t (task, epoch) VALUES ($1, 1) ON CONFLICT (task) \
               DO UPDATE SET epoch = t.epoch + 1, updated_at = clock_timestamp() RETURNING epoch";
    let row = client.query_one(sql, &[&task]).await.map_err(pg)?;
    let epoch = row.try_get(0).map(Epoch).map_err(pg)?;
    let sql = "UPDATE trem.lane SET epoch = $2 WHERE task = $1";
    client.execute(sql, &[&task, &epoch.0]).await.map_err(pg)?;
    Ok(epoch)
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

/// Waits for other tasks that are about to take this table up, until the end of the open transaction.
pub(super) async fn claim(client: &Client, id: &TableId) -> Result<()> {
    let name = quote::literal(&id.to_string());
    let sql = format!("SELECT pg_advisory_xact_lock(hashtextextended({name}, 8387219012217))");
    client.batch_execute(&sql).await.map_err(pg)
}

/// Which of these target tables other tasks write. A task that has suspended a table does not write it.
pub(super) async fn holders(client: &Client, task: &str, ids: &[&TableId]) -> Result<HashMap<TableId, String>> {
    let (schema, table) = match format(client).await? {
        None => return Ok(HashMap::new()),
        Some(1) => ("s.schema_name", "s.table_name"),
        Some(_) => ("coalesce(s.target_schema, s.schema_name)", "coalesce(s.target_table, s.table_name)"),
    };
    let sql = format!(
        "SELECT w.a, w.b, s.task FROM unnest($2::text[], $3::text[]) AS w (a, b) \
         JOIN trem.table_state s ON {schema} = w.a AND {table} = w.b WHERE s.task <> $1 AND s.state <> 'suspended'"
    );
    let schemas: Vec<&str> = ids.iter().map(|i| i.schema.as_str()).collect();
    let names: Vec<&str> = ids.iter().map(|i| i.table.as_str()).collect();
    let rows = client.query(&sql, &[&task, &schemas, &names]).await.map_err(pg)?;
    rows.iter().map(|row| Ok((TableId { schema: get(row, 0)?, table: get(row, 1)? }, get(row, 2)?))).collect()
}

/// Writes down, from outside of the running task, that a table is to be loaded again; false if the task does not know
/// it.
pub(super) async fn request_reload(client: &Client, task: &str, id: &TableId) -> Result<bool> {
    match format(client).await? {
        None => Ok(false),
        Some(format) => write::put_request(client, task, id, format > 1).await,
    }
}

/// Forgets the task; the last one takes the bookkeeping with it.
pub(super) async fn forget(client: &Client, task: &str) -> Result<()> {
    client.batch_execute(&format!("BEGIN; {LOCK}")).await.map_err(pg)?;
    let Some(format) = format(client).await? else { return client.batch_execute("COMMIT").await.map_err(pg) };
    let there: Vec<&str> = OF_TASK.into_iter().filter(|t| format > 1 || !["request", "lane"].contains(t)).collect();
    for table in &there {
        client.execute(&format!("DELETE FROM trem.{table} WHERE task = $1"), &[&task]).await.map_err(pg)?;
    }
    let left = client.query_opt("SELECT FROM trem.task LIMIT 1", &[]).await.map_err(pg)?;
    if left.is_none() {
        let tables = there.iter().map(|t| format!("trem.{t}")).collect::<Vec<_>>().join(", ");
        let sql = format!("SAVEPOINT trem; DROP TABLE {tables}, trem.meta; DROP SCHEMA trem");
        if let Err(e) = client.batch_execute(&sql).await.map_err(pg) {
            tracing::warn!(error = %e, "schema trem stays on the target: something else is in it");
            client.batch_execute("ROLLBACK TO SAVEPOINT trem").await.map_err(pg)?;
        }
    }
    client.batch_execute("COMMIT").await.map_err(pg)
}
