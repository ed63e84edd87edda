//! Whoever keeps a statement of ours waiting is found out while it waits: once it has given up nobody knows any more.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use trem_engine::change::{ChangeBatch, ReducedSet};
use trem_engine::ports::{Applied, Loader, TargetLane};
use trem_engine::position::Position;
use trem_engine::record::{RecordChange, TableRecord};
use trem_engine::schema::{SecondaryObject, TableId, TableSchema, TypeDefinition};
use trem_engine::task::OnExisting;
use trem_engine::{Class, Error, Result};

use crate::postgres::config::PgConfig;
use crate::postgres::others::{Open, blocking, held_by, said};

/// What takes longer may be waiting for somebody, and is looked at as often.
const LOOK: Duration = Duration::from_secs(5);

/// A connection that writes, and whoever keeps it waiting.
pub(super) struct Watched<T> {
    inner: T,
    watch: Watch,
}

impl<T> Watched<T> {
    /// `pid`: the server's process for the connection.
    pub(super) fn new(inner: T, pid: i32, config: &PgConfig, application: String) -> Self {
        Self { inner, watch: Watch { pid, config: config.clone(), application } }
    }
}

struct Watch {
    pid: i32,
    config: PgConfig,
    application: String,
}

impl Watch {
    /// Does this; an error of a lock that was waited for says who had it.
    async fn over<T>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let seen = Mutex::new(None);
        let done = tokio::select! {
            biased;
            done = work => done,
            never = self.look(&seen) => never,
        };
        let held = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.map_err(|error| match held {
            Some(open) if error.class() == Class::Locked => held_by(error, &open),
            _ => error,
        })
    }

    /// Looks again and again who is waited for. Does not end.
    async fn look<T>(&self, seen: &Mutex<Option<Vec<Open>>>) -> Result<T> {
        loop {
            tokio::time::sleep(LOOK).await;
            match self.ask().await {
                Ok(open) if open.is_empty() => {}
                Ok(open) => {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    if seen.is_none() {
                        let who = said(&open);
                        tracing::warn!(session = %self.application, "the target is waited for: locked by {who}");
                    }
                    *seen = Some(open);
                }
                Err(error) => tracing::debug!(%error, "could not ask who keeps a statement waiting"),
            }
        }
    }

    async fn ask(&self) -> Result<Vec<Open>> {
        let client = self.config.connect(&self.application).await?;
        blocking(&client, self.pid).await
    }
}

#[async_trait]
impl<T: TargetLane> TargetLane for Watched<T> {
    fn refresh(&mut self) {
        self.inner.refresh();
    }

    async fn commit(&mut self, changes: &[RecordChange]) -> Result<()> {
        self.watch.over(self.inner.commit(changes)).await
    }

    async fn prepare_types(&mut self, types: &[TypeDefinition]) -> Result<Vec<(TableId, Error)>> {
        self.watch.over(self.inner.prepare_types(types)).await
    }

    async fn prepare(
        &mut self,
        table: TableRecord,
        known: Option<&TableRecord>,
        on_existing: OnExisting,
    ) -> Result<TableRecord> {
        self.watch.over(self.inner.prepare(table, known, on_existing)).await
    }

    async fn prepare_history(&mut self, history: &Arc<TableSchema>) -> Result<()> {
        self.watch.over(self.inner.prepare_history(history)).await
    }

    async fn empty(&mut self, table: &Arc<TableSchema>, changes: &[RecordChange]) -> Result<()> {
        self.watch.over(self.inner.empty(table, changes)).await
    }

    async fn finish(&mut self, table: &TableRecord, changes: &[RecordChange]) -> Result<()> {
        self.watch.over(self.inner.finish(table, changes)).await
    }

    async fn create_secondary(&mut self, objects: &[SecondaryObject]) -> Result<()> {
        self.watch.over(self.inner.create_secondary(objects)).await
    }

    async fn apply(&mut self, set: ReducedSet, changes: &[RecordChange]) -> Result<Applied> {
        self.watch.over(self.inner.apply(set, changes)).await
    }

    async fn durable(&mut self, now: bool) -> Result<Option<Position>> {
        self.inner.durable(now).await
    }
}

#[async_trait]
impl<T: Loader> Loader for Watched<T> {
    async fn start_chunk(&mut self, table: &TableRecord) -> Result<()> {
        self.watch.over(self.inner.start_chunk(table)).await
    }

    async fn load(&mut self, rows: ChangeBatch) -> Result<()> {
        self.watch.over(self.inner.load(rows)).await
    }

    async fn finish_chunk(&mut self, changes: &[RecordChange]) -> Result<()> {
        self.watch.over(self.inner.finish_chunk(changes)).await
    }
}
