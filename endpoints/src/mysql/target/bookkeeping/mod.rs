//! What the target remembers of tasks, in the database `trem` of its server: written in the transactions that it
//! speaks of.
//!
//! This file has what concerns whole tasks; `layout` has the tables, `fence` who may write, `read` and `write` are
//! between rows there and the engine's record.

mod clock;
mod fence;
mod layout;
mod quarantine;
mod read;
mod write;

use std::collections::HashMap;

use trem_engine::record::{Epoch, Origin, TaskRecord};
use trem_engine::schema::TableId;
use trem_engine::{Error, Result};

pub(super) use self::fence::{epoch, fence, hold, settled};
pub(super) use self::layout::exists;
pub(super) use self::quarantine::{quarantined, release};
pub(super) use self::read::{read, requests};
pub(super) use self::write::{checkpoint, put_request, write};
use super::session::Session;
use crate::mysql::row::get;

/// The tables that hold something of a task.
const OF_TASK: [&str; 6] = ["quarantine", "request", "chunk", "table_state", "lane", "task"];

/// Of whoever creates or drops the bookkeeping.
const LOCK: &str = "trem bookkeeping";

/// Takes a task over: the bookkeeping created, everyone else locked out.
pub(super) async fn take_over(session: &mut Session, task: &str) -> Result<(Epoch, TaskRecord)> {
    session.lock(LOCK).await?;
    let created = layout::create(session).await;
    session.unlock(LOCK).await?;
    created?;
    session.execute("START TRANSACTION").await?;
    let sql = "INSERT INTO trem.task (task, epoch) VALUES (?, 1) ON DUPLICATE KEY UPDATE epoch = epoch + 1, \
               updated_at = now(6)";
    session.execute_with(sql, vec![task.into()]).await?;
    let rows = session.rows("SELECT epoch FROM trem.task WHERE task = ?", vec![task.into()]).await?;
    let row = rows.first().ok_or_else(|| Error::transient("the task is being dropped at this moment"))?;
    let epoch = Epoch(get(row, 0)?);
    session.execute_with("UPDATE trem.lane SET epoch = ? WHERE task = ?", vec![epoch.0.into(), task.into()]).await?;
    session.execute("COMMIT").await?;
    Ok((epoch, read(session, task).await?.unwrap_or_default()))
}

/// Which of these target tables other tasks write. A task that has suspended a table does not write it.
pub(super) async fn holders(session: &mut Session, task: &str, ids: &[&TableId]) -> Result<HashMap<TableId, String>> {
    if !exists(session).await? {
        return Ok(HashMap::new());
    }
    let sql = "SELECT target_schema, target_table, task FROM trem.table_state WHERE task <> ? AND state <> 'suspended'";
    let mut found = HashMap::new();
    for row in session.rows(sql, vec![task.into()]).await? {
        let (schema, table): (String, String) = (get(&row, 0)?, get(&row, 1)?);
        for id in ids.iter().filter(|id| id.schema == schema && id.table == table) {
            found.insert((*id).clone(), get(&row, 2)?);
        }
    }
    Ok(found)
}

/// How a table has come to be that other tables of the source are written to as well, by this task; `None` where there
/// is none of them yet.
pub(super) async fn others(session: &mut Session, task: &str, id: &TableId) -> Result<Option<Origin>> {
    let Some(part) = &id.part else { return Ok(None) };
    if !exists(session).await? {
        return Ok(None);
    }
    let sql = "SELECT max(created_by_trem), max(keeps_rows) FROM trem.table_state s \
               WHERE task = ? AND target_schema = ? AND target_table = ? AND NOT (schema_name = ? AND table_name = ?) \
               AND (state IN ('loading', 'ready', 'reload') OR EXISTS (SELECT 1 FROM trem.chunk c WHERE \
                    c.task = s.task AND c.schema_name = s.schema_name AND c.table_name = s.table_name))";
    let of = [task, &id.schema, &id.table, &part.of.0, &part.of.1];
    let rows = session.rows(sql, of.iter().map(|text| (*text).into()).collect()).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (created, keeps): (Option<bool>, Option<bool>) = (get(row, 0)?, get(row, 1)?);
    Ok(created.map(|created| Origin { created, keeps_rows: keeps.unwrap_or(false) }))
}

/// Forgets the task, and says whether it was known; the last one takes the bookkeeping with it.
pub(super) async fn forget(session: &mut Session, task: &str) -> Result<bool> {
    if !exists(session).await? {
        return Ok(false);
    }
    session.execute("START TRANSACTION").await?;
    let mut known = 0;
    for table in OF_TASK {
        known += session.execute_with(&format!("DELETE FROM trem.{table} WHERE task = ?"), vec![task.into()]).await?;
    }
    session.execute("COMMIT").await?;
    session.lock(LOCK).await?;
    let dropped = layout::drop_if_empty(session).await;
    session.unlock(LOCK).await?;
    dropped.map(|()| known > 0)
}
