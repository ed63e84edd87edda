//! A task with everything it needs, and the questions that several parts of the runner ask of its ends.

use std::sync::Arc;
use std::time::Duration;

use crate::budget::Budget;
use crate::error::{Class, Result};
use crate::ports::{Rules, Snapshot, SnapshotKind, Source, Target};
use crate::progress::Reporter;
use crate::routes::Routes;
use crate::schema::{Catalog, TableSchema};
use crate::task::TaskPlan;

/// A snapshot that takes so long waits for something.
const WAITED: Duration = Duration::from_secs(5);
/// How often what it waits for is told.
const AGAIN: Duration = Duration::from_secs(60);

/// A task with everything it needs.
#[derive(Clone)]
pub struct Task {
    /// What to do.
    pub plan: TaskPlan,
    /// Where rows come from.
    pub source: Arc<dyn Source>,
    /// Where they go.
    pub target: Arc<dyn Target>,
    /// What becomes of them in between.
    pub rules: Arc<dyn Rules>,
    /// Where progress is told.
    pub reporter: Reporter,
    /// The task's share of the memory of the process.
    pub budget: Budget,
}

impl Task {
    /// The source's tables as they are now, and where they go.
    pub(super) async fn look(&self) -> Result<(Catalog, Routes)> {
        let catalog = self.source.discover(&self.plan.selection).await?;
        let routes = Routes::of(self.rules.as_ref(), &catalog);
        Ok((catalog, routes))
    }

    pub(super) async fn snapshot(&self, tables: &[Arc<TableSchema>], kind: SnapshotKind) -> Result<Arc<dyn Snapshot>> {
        tracing::info!(
            task = %self.plan.name,
            "taking a snapshot; transactions that are open at the source are waited for"
        );
        let mut snapshot = self.source.snapshot(tables, kind, self.plan.load.workers);
        let mut pause = WAITED;
        loop {
            tokio::select! {
                snapshot = &mut snapshot => return Ok(Arc::from(snapshot?)),
                () = tokio::time::sleep(pause) => self.tell_waiting().await,
            }
            pause = AGAIN;
        }
    }

    /// Says what a snapshot waits for: only whoever has those transactions can end them.
    async fn tell_waiting(&self) {
        let task = &self.plan.name;
        match self.source.lag(None).await.map(|lag| lag.waits_for) {
            Ok(Some(others)) => {
                tracing::warn!(%task, "a load waits for transactions that are open at the source: {others}");
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "could not ask what a snapshot waits for"),
        }
    }
}

/// Asks both ends at the same time. Of two errors the one that does not heal by itself is told, or the first.
pub(super) async fn both<A, B>(
    first: impl Future<Output = Result<A>>,
    second: impl Future<Output = Result<B>>,
) -> Result<(A, B)> {
    match tokio::join!(first, second) {
        (Ok(first), Ok(second)) => Ok((first, second)),
        (Err(first), Err(second)) if first.class() == Class::Transient => {
            Err(if second.class() == Class::Transient { first } else { second })
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[tokio::test]
    async fn the_error_that_stays_is_told() {
        let fail = |error: Error| async { Err::<(), _>(error) };
        let told = async |a, b| both(fail(a), fail(b)).await.map_err(|e| e.message().to_owned());
        let (down, wrong) = (|| Error::transient("down"), || Error::refused("wrong password"));
        assert_eq!(told(down(), wrong()).await, Err("wrong password".to_owned()));
        assert_eq!(told(wrong(), down()).await, Err("wrong password".to_owned()));
        assert_eq!(told(down(), Error::transient("too")).await, Err("down".to_owned()));
    }
}
