//! A row that is put right from outside of the running task.

use async_trait::async_trait;
use tokio_postgres::Client;
use trem_engine::change::ChangeBatch;
use trem_engine::ports::Mend;
use trem_engine::{Error, Result};

use super::bookkeeping;
use super::lane::PgLane;
use crate::target::stored;

/// A connection that holds the task up.
pub(super) struct PgMend(PgLane);

impl PgMend {
    pub(super) async fn open(client: Client, task: &str) -> Result<Self> {
        let unknown = || Error::refused(format!("the target does not know task {task}"));
        let epoch = bookkeeping::epoch(&client, task).await?.ok_or_else(unknown)?;
        let mut lane = PgLane::open(client, task, epoch, None).await?;
        lane.hold().await?;
        Ok(Self(lane))
    }
}

#[async_trait]
impl Mend for PgMend {
    async fn apply(mut self: Box<Self>, rows: ChangeBatch, numbers: &[i64]) -> Result<()> {
        self.0.mend(stored::by_hand(rows)?, numbers).await
    }
}
