//! PostgreSQL as a source: snapshots by COPY, changes by logical replication.

mod assemble;
#[cfg(feature = "bench")]
pub mod bench;
mod browse;
mod catalogue;
mod catchup;
mod check;
mod chunks;
mod condition;
mod drift;
mod followed;
mod history;
mod holder;
mod identity;
mod image;
mod look;
mod lookup;
mod lsn;
mod obstacles;
mod overlap;
mod range;
mod read;
mod readers;
mod relation;
mod setup;
mod shared;
mod snapshot;
mod stream;
mod unmatched;
mod visibility;
mod walsender;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use trem_engine::change::ChangeBatch;
use trem_engine::ports::{
    Browse, ChangeStream, Finding, Lag, Listed, Look, Snapshot, SnapshotKind, Source, StreamRequest,
};
use trem_engine::position::{Checkpoint, Lineage, Position};
use trem_engine::schema::{Catalog, SchemaChange, TableId, TableSchema};
use trem_engine::task::Selection;
use trem_engine::{Error, Result};

use self::shared::Inner;
use super::catalog;
use super::config::PgConfig;
use super::connect::database_identity;
use super::row::get;
use super::sqlstate;

/// A PostgreSQL database that one task reads from.
pub struct PostgresSource {
    inner: Arc<Inner>,
}

impl fmt::Debug for PostgresSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresSource({}, {})", self.inner.task, self.inner.config.describe())
    }
}

impl PostgresSource {
    /// The source of `task`; connects when it is first asked something.
    pub fn new(config: PgConfig, task: &str) -> Self {
        let mut name = object_name(task);
        name.truncate(LONGEST_NAME);
        Self { inner: Arc::new(Inner::new(config, task, name)) }
    }
}

/// What the server cuts off of a longer name would make it a different one.
pub(super) const LONGEST_NAME: usize = 63;

/// The name of a task's slot and publication: of characters that need no quoting and that slots allow.
pub(super) fn object_name(task: &str) -> String {
    let kept = |c: char| if matches!(c, 'a'..='z' | '0'..='9' | '_') { c } else { '_' };
    format!("trem_{}", task.to_lowercase()).chars().map(kept).collect()
}

#[async_trait]
impl Source for PostgresSource {
    async fn identity(&self) -> Result<String> {
        database_identity(&*self.inner.client().await?).await
    }

    async fn discover(&self, want: &Selection) -> Result<Catalog> {
        catalog::discover(&*self.inner.client().await?, want).await
    }

    async fn check(&self, want: &Selection, cdc: bool, readers: usize) -> Result<Vec<Finding>> {
        check::check(&self.inner, want, cdc, readers).await
    }

    async fn lineage(&self) -> Result<Lineage> {
        Ok(self.inner.history().await?.lineage())
    }

    async fn vacant(&self) -> Result<()> {
        setup::vacant(&self.inner).await
    }

    async fn current(&self) -> Result<Position> {
        Ok(lsn::position(self.inner.current().await?))
    }

    async fn verify(&self, checkpoint: &Checkpoint) -> Result<Lineage> {
        setup::verify(&self.inner, checkpoint).await
    }

    async fn select(&self, tables: &[Arc<TableSchema>], followed: &[TableId]) -> Result<()> {
        setup::publish(&self.inner, tables, Some(followed)).await
    }

    async fn compare(&self, tables: &[Arc<TableSchema>]) -> Result<Vec<SchemaChange>> {
        drift::compare(&self.inner, tables).await
    }

    async fn snapshot(
        &self,
        tables: &[Arc<TableSchema>],
        kind: SnapshotKind,
        _readers: usize,
    ) -> Result<Box<dyn Snapshot>> {
        // A session imports an exported snapshot whenever it comes: how many will is of no account.
        Ok(Box::new(snapshot::PgSnapshot::take(&self.inner, tables, kind).await?))
    }

    async fn stream(&self, request: StreamRequest) -> Result<Box<dyn ChangeStream>> {
        Ok(Box::new(stream::PgStream::open(&self.inner, request).await?))
    }

    async fn obstacles(&self, tables: &[Arc<TableSchema>], follow: bool) -> Result<Vec<Error>> {
        obstacles::all(&self.inner, tables, follow).await
    }

    async fn again(&self, rows: &ChangeBatch, of: &[usize]) -> Result<Vec<Option<ChangeBatch>>> {
        look::again(&self.inner, rows, of).await.map_err(|e| e.table(&rows.table.id))
    }

    async fn look(&self, table: &Arc<TableSchema>, rows: &Look) -> Result<ChangeBatch> {
        look::look(&self.inner, table, rows).await.map_err(|e| e.table(&table.id))
    }

    async fn browse(&self, which: &Browse) -> Result<Vec<Listed>> {
        browse::browse(&*self.inner.client().await?, which).await
    }

    async fn count(&self, table: &TableId) -> Result<u64> {
        browse::count(&*self.inner.client().await?, table).await
    }

    async fn retire(&self) -> Result<bool> {
        setup::retire(&self.inner).await
    }

    async fn lag(&self, from: Option<&Position>) -> Result<Lag> {
        let current = self.inner.current().await?;
        let bytes = from.map(lsn::of).transpose()?.map(|at| current.saturating_sub(at));
        let now = lsn::now("pg_current_wal_lsn");
        let sql = format!(
            "SELECT pg_wal_lsn_diff({now}::pg_lsn, restart_lsn)::int8, \
               (SELECT nullif(setting::int8, -1) * 1048576 FROM pg_settings WHERE name = 'max_slot_wal_keep_size') \
             FROM pg_replication_slots WHERE slot_name = $1"
        );
        let client = self.inner.client().await?;
        let row = client.query_opt(&sql, &[&self.inner.name]).await.map_err(sqlstate::error)?;
        let size = |at| -> Result<Option<u64>> {
            let bytes: Option<i64> = row.as_ref().map(|r| get(r, at)).transpose()?.flatten();
            Ok(bytes.and_then(|b| u64::try_from(b).ok()))
        };
        let (retained_bytes, retained_limit_bytes) = (size(0)?, size(1)?);
        let waits_for = holder::waits_for(&self.inner, &client).await?;
        Ok(Lag { current: lsn::position(current), bytes, retained_bytes, retained_limit_bytes, waits_for })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn names_need_no_quoting() {
        assert_eq!(object_name("shop-to-reports"), "trem_shop_to_reports");
        assert_eq!(object_name("Größe 1"), "trem_gr__e_1");
        let config = PgConfig::parse("postgres://u@h/d").unwrap();
        assert_eq!(PostgresSource::new(config, &"x".repeat(80)).inner.name.len(), 63);
    }
}
