//! A row that is put right from outside of the running task.

use std::time::SystemTime;

use async_trait::async_trait;
use tokio_postgres::Client;
use trem_engine::change::{ChangeBatch, Reducer, Reduction, Span};
use trem_engine::ports::Mend;
use trem_engine::position::Position;
use trem_engine::{Error, Result};

use super::bookkeeping;
use super::lane::PgLane;

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
        let bytes = rows.bytes();
        let mut reducer = Reducer::new(Reduction::Net);
        reducer.rows(rows);
        // It is no set of the log: its place is asked of by nobody.
        let end = Position::new(0, String::new());
        let span = Span { end, committed_at: None::<SystemTime>, open: false, transactions: 0, bytes };
        self.0.mend(reducer.finish(span)?, numbers).await
    }
}
