//! MySQL and MariaDB as a target: few statements of many rows, and everything that must hold together in one
//! transaction.

mod bookkeeping;
mod check;
mod create;
mod encode;
mod fit;
mod grown;
mod have;
mod keyed;
mod keyless;
mod lane;
mod loader;
mod look;
mod mend;
mod misfits;
mod part;
mod pipe;
mod prepare;
mod session;
mod statements;
mod writer;

use async_trait::async_trait;
use mysql_async::prelude::Queryable;
use tokio::sync::Mutex;
use trem_engine::Result;
use trem_engine::change::ChangeBatch;
use trem_engine::ports::{Finding, Loader, Mend, TablePreview, Target, TargetLane};
use trem_engine::position::Position;
use trem_engine::quarantine::QuarantineEntry;
use trem_engine::record::{Epoch, TaskRecord};
use trem_engine::schema::{Catalog, TableId};
use trem_engine::task::OnExisting;

use self::session::Session;
use super::config::MyConfig;
use super::identity;
use crate::target::stored;

/// A server of MySQL or MariaDB that one task writes to.
pub struct MysqlTarget {
    config: MyConfig,
    task: String,
    /// A connection that has been asked something and is free again.
    idle: Mutex<Option<Session>>,
}

impl MysqlTarget {
    /// The target of `task` at `config`; nothing is connected yet.
    pub fn new(config: MyConfig, task: &str) -> Self {
        Self { config, task: task.to_owned(), idle: Mutex::new(None) }
    }

    async fn connect(&self) -> Result<Session> {
        let idle = self.idle.lock().await.take();
        if let Some(mut session) = idle
            && session.conn.ping().await.is_ok()
        {
            return Ok(session);
        }
        Session::open(&self.config, &format!("trem {}", self.task)).await
    }

    /// Asks over a connection, and keeps it for the next question if that went well.
    async fn ask<T>(&self, question: impl AsyncFnOnce(&mut Session) -> Result<T>) -> Result<T> {
        let mut session = self.connect().await?;
        let answer = question(&mut session).await?;
        *self.idle.lock().await = Some(session);
        Ok(answer)
    }
}

impl std::fmt::Debug for MysqlTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MysqlTarget").field("config", &self.config).field("task", &self.task).finish_non_exhaustive()
    }
}

#[async_trait]
impl Target for MysqlTarget {
    async fn identity(&self) -> Result<String> {
        self.ask(async |session| identity(&mut session.conn).await).await
    }

    async fn check(&self, loaders: usize) -> Result<Vec<Finding>> {
        // Lanes of the stream and of tables that are taken up beside it, and one for questions.
        self.ask(async |session| check::check(session, loaders + 3).await).await
    }

    async fn plan(
        &self,
        catalog: &Catalog,
        known: &TaskRecord,
        on_existing: OnExisting,
        load: bool,
    ) -> Result<Vec<TablePreview>> {
        self.ask(async |session| prepare::plan(session, &self.task, catalog, (on_existing, load), known).await).await
    }

    async fn record(&self) -> Result<Option<TaskRecord>> {
        self.ask(async |session| bookkeeping::read(session, &self.task).await).await
    }

    async fn take_over(&self) -> Result<(Epoch, TaskRecord)> {
        self.ask(async |session| bookkeeping::take_over(session, &self.task).await).await
    }

    async fn settled(&self, epoch: Epoch) -> Result<()> {
        self.ask(async |session| bookkeeping::settled(session, &self.task, epoch).await).await
    }

    async fn open_lane(&self, epoch: Epoch, committed: Option<&Position>) -> Result<Box<dyn TargetLane>> {
        Ok(Box::new(lane::MyLane::open(self.connect().await?, &self.task, epoch, committed)))
    }

    async fn open_loader(&self, epoch: Epoch) -> Result<Box<dyn Loader>> {
        Ok(Box::new(loader::MyLoader::open(self.connect().await?, &self.task, epoch)))
    }

    async fn request_reload(&self, table: &TableId) -> Result<()> {
        let known = self.ask(async |session| match bookkeeping::exists(session).await? {
            true => bookkeeping::put_request(session, &self.task, table).await,
            false => Ok(false),
        });
        if known.await? {
            return Ok(());
        }
        Err(stored::unknown_table(&self.task, table))
    }

    async fn requests(&self) -> Result<Vec<TableId>> {
        self.ask(async |session| bookkeeping::requests(session, &self.task).await).await
    }

    async fn forget(&self) -> Result<bool> {
        self.ask(async |session| bookkeeping::forget(session, &self.task).await).await
    }

    async fn look(&self, like: &ChangeBatch) -> Result<Option<Vec<(String, Option<String>)>>> {
        let row = self.ask(async |session| look::look(session, like).await).await;
        row.map_err(|e| e.target_table(&like.table.id))
    }

    async fn quarantined(&self) -> Result<Vec<QuarantineEntry>> {
        self.ask(async |session| bookkeeping::quarantined(session, &self.task).await).await
    }

    async fn release(&self, numbers: &[i64]) -> Result<u64> {
        self.ask(async |session| match bookkeeping::exists(session).await? {
            true => bookkeeping::release(session, &self.task, numbers).await,
            false => Ok(0),
        })
        .await
    }

    async fn mend(&self) -> Result<Box<dyn Mend>> {
        Ok(Box::new(mend::MyMend::open(self.connect().await?, &self.task).await?))
    }
}
