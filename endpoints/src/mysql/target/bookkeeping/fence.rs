//! Who may write for a task: whoever has taken it over last.

use trem_engine::Result;
use trem_engine::record::Epoch;

use super::super::session::Session;
use super::layout::exists;
use crate::mysql::row::get;
use crate::target::stored::fenced;

/// Checks the epoch in the open transaction; it holds until the transaction's end.
pub(in super::super) async fn fence(session: &mut Session, task: &str, epoch: Epoch) -> Result<()> {
    look_for(session, task, epoch, "LOCK IN SHARE MODE").await
}

/// Waits for every transaction that has passed the fence: a COMMIT goes on when its connection is gone.
pub(in super::super) async fn settled(session: &mut Session, task: &str, epoch: Epoch) -> Result<()> {
    look_for(session, task, epoch, "FOR UPDATE").await
}

async fn look_for(session: &mut Session, task: &str, epoch: Epoch, lock: &str) -> Result<()> {
    let sql = format!("SELECT 1 FROM trem.task WHERE task = ? AND epoch = ? {lock}");
    let found = session.rows(&sql, vec![task.into(), epoch.0.into()]).await?;
    if found.is_empty() { Err(fenced(task)) } else { Ok(()) }
}

/// Keeps every lane and loader of the task from committing until the end of the open transaction.
pub(in super::super) async fn hold(session: &mut Session, task: &str) -> Result<()> {
    for table in ["task", "lane"] {
        let sql = format!("SELECT 1 FROM trem.{table} WHERE task = ? FOR UPDATE");
        session.rows(&sql, vec![task.into()]).await?;
    }
    Ok(())
}

/// The epoch of whoever has taken the task over last.
pub(in super::super) async fn epoch(session: &mut Session, task: &str) -> Result<Option<Epoch>> {
    if !exists(session).await? {
        return Ok(None);
    }
    let rows = session.rows("SELECT epoch FROM trem.task WHERE task = ?", vec![task.into()]).await?;
    rows.first().map(|row| get(row, 0).map(Epoch)).transpose()
}
