//! A row that is put right by hand, while its task stands still.

use async_trait::async_trait;
use trem_engine::change::ChangeBatch;
use trem_engine::ports::Mend;
use trem_engine::{Error, Result};

use super::bookkeeping;
use super::lane::MyLane;
use super::session::Session;
use crate::target::stored;

/// A connection that holds the task up.
pub(super) struct MyMend(MyLane);

impl MyMend {
    pub(super) async fn open(mut session: Session, task: &str) -> Result<Self> {
        let unknown = || Error::refused(format!("the target does not know task {task}"));
        let epoch = bookkeeping::epoch(&mut session, task).await?.ok_or_else(unknown)?;
        let mut lane = MyLane::open(session, task, epoch, None);
        lane.hold().await?;
        Ok(Self(lane))
    }
}

#[async_trait]
impl Mend for MyMend {
    async fn apply(mut self: Box<Self>, rows: ChangeBatch, numbers: &[i64]) -> Result<()> {
        self.0.mend(stored::by_hand(rows)?, numbers).await
    }
}
