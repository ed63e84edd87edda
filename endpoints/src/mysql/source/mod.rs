//! MySQL and MariaDB as a source: snapshots by consistent reads, changes by the binary log.

mod check;
mod chunks;
mod followed;
mod obstacles;
mod place;
mod read;
mod readers;
mod rights;
mod shape;
mod shared;
mod snapshot;
mod statement;
mod stream;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use trem_engine::ports::{ChangeStream, Finding, Lag, Snapshot, SnapshotKind, Source, StreamRequest};
use trem_engine::position::{Checkpoint, Lineage, Position};
use trem_engine::schema::{Catalog, SchemaChange, SchemaChangeKind, TableId, TableSchema};
use trem_engine::task::Selection;
use trem_engine::{Error, Remedy, Result};

use self::place::Place;
use self::shared::Inner;
use super::catalog;
use super::config::MyConfig;
use super::error::error;
use super::identity;
use super::row::get;

/// A server of MySQL or MariaDB that one task reads from.
pub struct MysqlSource {
    inner: Arc<Inner>,
}

impl fmt::Debug for MysqlSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MysqlSource({}, {})", self.inner.task, self.inner.config.describe())
    }
}

impl MysqlSource {
    /// The source of `task`; connects when it is first asked something.
    pub fn new(config: MyConfig, task: &str) -> Self {
        Self { inner: Arc::new(Inner::new(config, task)) }
    }
}

/// Places of different servers with one history can be compared: GTIDs go on where a replica takes over.
fn lineage() -> Lineage {
    Lineage("GTIDs of MariaDB".to_owned())
}

#[async_trait]
impl Source for MysqlSource {
    async fn identity(&self) -> Result<String> {
        let mut session = self.inner.session().await?;
        let identity = identity(&mut session.conn).await?;
        self.inner.give_back(session).await;
        Ok(identity)
    }

    async fn discover(&self, want: &Selection) -> Result<Catalog> {
        let mut session = self.inner.session().await?;
        let catalog = catalog::discover(&mut session, want).await?;
        self.inner.give_back(session).await;
        Ok(catalog)
    }

    async fn check(&self, want: &Selection, cdc: bool, _readers: usize) -> Result<Vec<Finding>> {
        check::check(&self.inner, want, cdc).await
    }

    async fn obstacles(&self, tables: &[Arc<TableSchema>], follow: bool) -> Result<Vec<Error>> {
        if follow && let Some(error) = check::settings(&self.inner).await?.into_iter().next() {
            return Err(error);
        }
        let tables: Vec<&TableSchema> = tables.iter().map(AsRef::as_ref).collect();
        obstacles::of(&self.inner, &tables, follow).await
    }

    async fn lineage(&self) -> Result<Lineage> {
        Ok(lineage())
    }

    async fn vacant(&self) -> Result<()> {
        // Nothing is created at the source.
        Ok(())
    }

    async fn current(&self) -> Result<Position> {
        let current = self.inner.current().await;
        Ok(rights::explained(&self.inner, current).await?.position())
    }

    async fn verify(&self, checkpoint: &Checkpoint) -> Result<Lineage> {
        let gone = |what: String| Error::lineage(what).remedy(Remedy::StartAnew);
        if checkpoint.lineage != lineage() {
            return Err(gone(format!("the task has followed another history: {}", checkpoint.lineage)));
        }
        let current = self.inner.current().await?.position();
        if current < checkpoint.position {
            return Err(gone(format!("the source's log ends at {current}, before {}", checkpoint.position)));
        }
        // Only the server knows what it has still.
        let mut log = Box::pin(stream::open_log(&self.inner, &Place::of(&checkpoint.position)?, true).await?);
        while let Some(event) = log.next().await {
            // Past what every answer begins with.
            if event.map_err(error)?.header().event_type_raw() == 162 {
                break;
            }
        }
        Ok(lineage())
    }

    async fn select(&self, _tables: &[Arc<TableSchema>], _followed: &[TableId]) -> Result<()> {
        // The log has every table.
        Ok(())
    }

    async fn compare(&self, tables: &[Arc<TableSchema>]) -> Result<Vec<SchemaChange>> {
        let mut session = self.inner.session().await?;
        let ids = tables.iter().map(|table| table.id.clone()).collect();
        let now = catalog::describe(&mut session, ids).await?;
        self.inner.give_back(session).await;
        // The log may be past the statement already, and rows say nothing of labels. Columns that are added it tells.
        let one = |table: &Arc<TableSchema>| {
            let reason = shape::changed(table, now.iter().find(|now| now.id == table.id)?)?;
            let remedy = Remedy::from("see that it is what you want").then_reload(&table.id);
            Some(SchemaChange { table: Arc::clone(table), kind: SchemaChangeKind::Suspend { reason, remedy } })
        };
        Ok(tables.iter().filter_map(one).collect())
    }

    async fn snapshot(
        &self,
        _tables: &[Arc<TableSchema>],
        kind: SnapshotKind,
        readers: usize,
    ) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(snapshot::MySnapshot::take(&self.inner, kind, readers).await?))
    }

    async fn stream(&self, request: StreamRequest) -> Result<Box<dyn ChangeStream>> {
        Ok(Box::new(stream::MyStream::open(&self.inner, request).await?))
    }

    async fn retire(&self) -> Result<bool> {
        Ok(false)
    }

    async fn lag(&self, from: Option<&Position>) -> Result<Lag> {
        let current = self.inner.current().await?;
        let bytes = match from.map(Place::of).transpose()? {
            Some(from) if from.gtids.order() >= current.gtids.order() => Some(0),
            Some(from) => self.between(&from, &current).await?,
            None => None,
        };
        Ok(Lag::of(current.position(), bytes))
    }
}

impl MysqlSource {
    /// Bytes of log between two places; `None` where the first is in a file that the server does not have.
    async fn between(&self, from: &Place, to: &Place) -> Result<Option<u64>> {
        let (mut bytes, mut known) = (0, false);
        for row in &self.inner.rows("SHOW BINARY LOGS").await? {
            let (file, size): (String, u64) = (get(row, 0)?, get(row, 1)?);
            known |= file == from.file;
            if known && file != to.file {
                bytes += size;
            }
            if file == to.file {
                break;
            }
        }
        Ok(known.then(|| (bytes + to.offset).saturating_sub(from.offset)))
    }
}
