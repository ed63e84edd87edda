//! Who may write for a task: whoever has taken it over last.

use tokio_postgres::Client;
use trem_engine::record::Epoch;
use trem_engine::{Class, Error, Result};

use crate::postgres::sqlstate::error as pg;

/// The refusal of whoever has been locked out.
pub(in super::super) fn fenced(task: &str) -> Error {
    Error::new(Class::Fenced, format!("another process has taken task {task} over"))
        .remedy("stop one of the two, or give them different task names")
}

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
