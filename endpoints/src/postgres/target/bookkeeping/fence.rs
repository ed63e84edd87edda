//! Who may write for a task: whoever has taken it over last.

use tokio_postgres::Client;
use trem_engine::Result;
use trem_engine::record::Epoch;

use crate::postgres::sqlstate::error as pg;
use crate::target::stored::fenced;

/// Checks the epoch in the open transaction; it holds until the transaction's end.
pub(in super::super) async fn fence(client: &Client, task: &str, epoch: Epoch) -> Result<()> {
    let sql = "SELECT FROM trem.task WHERE task = $1 AND epoch = $2 FOR SHARE";
    let found = client.query_opt(sql, &[&task, &epoch.0]).await.map_err(pg)?;
    found.map(drop).ok_or_else(|| fenced(task))
}

/// Waits for every transaction that has passed the fence: a COMMIT goes on when its connection is gone.
pub(in super::super) async fn settled(client: &Client, task: &str, epoch: Epoch) -> Result<()> {
    let sql = "SELECT FROM trem.task WHERE task = $1 AND epoch = $2 FOR UPDATE";
    let found = client.query_opt(sql, &[&task, &epoch.0]).await.map_err(pg)?;
    found.map(drop).ok_or_else(|| fenced(task))
}

/// The epoch of whoever has taken the task over last.
pub(in super::super) async fn epoch(client: &Client, task: &str) -> Result<Option<Epoch>> {
    if super::format(client).await?.is_none() {
        return Ok(None);
    }
    let row = client.query_opt("SELECT epoch FROM trem.task WHERE task = $1", &[&task]).await.map_err(pg)?;
    row.map(|row| row.try_get(0).map(Epoch).map_err(pg)).transpose()
}

/// Keeps every lane and loader of the task from committing until the end of the open transaction.
pub(in super::super) async fn hold(client: &Client, task: &str) -> Result<()> {
    for table in ["task", "lane"] {
        let sql = format!("SELECT FROM trem.{table} WHERE task = $1 FOR UPDATE");
        client.query(&sql, &[&task]).await.map_err(pg)?;
    }
    Ok(())
}
