//! What the target remembers of tasks, in schema `trem` of its database: written in the transactions that it speaks of.
//!
//! This file has what concerns whole tasks; `layout` has the tables, `fence` who may write, `read` and `write` are
//! between rows there and the engine's record.

mod fence;
mod layout;
mod quarantine;
mod read;
mod write;

use std::collections::HashMap;

use tokio_postgres::Client;
use trem_engine::Result;
use trem_engine::record::{Epoch, TaskRecord};
use trem_engine::schema::TableId;

pub(super) use self::fence::{epoch, hold};
pub(super) use self::fence::{fence, settled};
pub(super) use self::layout::format;
use self::layout::{LOCK, create};
pub(super) use self::quarantine::{quarantined, release};
pub(super) use self::read::{read, requests};
pub(super) use self::write::{MOVE, checkpoint, write};
use super::named::names_of;
use crate::postgres::quote;
use crate::postgres::row::get;
use crate::postgres::sqlstate::error as pg;

/// The tables that hold something of a task, each with the format that brought it, those that refer to others first.
const OF_TASK: [(&str, i32); 6] =
    [("quarantine", 3), ("request", 2), ("chunk", 1), ("table_state", 1), ("lane", 2), ("task", 1)];

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
    let (schemas, names) = names_of(ids);
    let mut found = HashMap::new();
    for row in client.query(&sql, &[&task, &schemas, &names]).await.map_err(pg)? {
        let name = (get::<&str>(&row, 0)?, get::<&str>(&row, 1)?);
        for id in ids.iter().filter(|id| (id.schema.as_str(), id.table.as_str()) == name) {
            found.insert((*id).clone(), get(&row, 2)?);
        }
    }
    Ok(found)
}

/// Writes down, from outside of the running task, that a table is to be loaded again; false if the task does not know
/// it.
pub(super) async fn request_reload(client: &Client, task: &str, id: &TableId) -> Result<bool> {
    match format(client).await? {
        None => Ok(false),
        Some(format) => write::put_request(client, task, id, format > 1).await,
    }
}

/// Forgets the task, and says whether it was known; the last one takes the bookkeeping with it.
pub(super) async fn forget(client: &Client, task: &str) -> Result<bool> {
    client.batch_execute(&format!("BEGIN; {LOCK}")).await.map_err(pg)?;
    let Some(format) = format(client).await? else {
        return client.batch_execute("COMMIT").await.map(|()| false).map_err(pg);
    };
    let mut known = 0;
    let there: Vec<&str> = OF_TASK.iter().filter(|(_, since)| format >= *since).map(|(table, _)| *table).collect();
    for table in &there {
        known += client.execute(&format!("DELETE FROM trem.{table} WHERE task = $1"), &[&task]).await.map_err(pg)?;
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
    client.batch_execute("COMMIT").await.map(|()| known > 0).map_err(pg)
}
