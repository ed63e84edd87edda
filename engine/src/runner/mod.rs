//! The runner: takes one task from nothing to following the log, and through every failure back again.
//!
//! An attempt starts from what the target remembers ([`crate::ports::TaskRecord`]) and from nothing else; any
//! error ends it, and the retry policy in this file is the only place that decides what follows.

mod attempt;
mod follow;
mod load;
mod preflight;
mod retry;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::error::{Class, Error, Result};
use crate::ports::{Source, TableState, Target, TargetLane, Transform};
use crate::position::Position;
use crate::progress::{Phase, Reporter};
use crate::schema::TableSchema;
use crate::task::TaskPlan;

use attempt::{Attempt, End};
pub use preflight::{Preflight, preflight};
use retry::Backoff;

/// A task with everything it needs.
pub struct Task {
    /// What to do.
    pub plan: TaskPlan,
    /// Where rows come from.
    pub source: Arc<dyn Source>,
    /// Where they go.
    pub target: Arc<dyn Target>,
    /// What happens to them in between, in order.
    pub transforms: Vec<Arc<dyn Transform>>,
    /// Where progress is told.
    pub reporter: Reporter,
}

/// How long a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until it is stopped; a task that only loads ends by itself.
    Stopped,
    /// Until everything that had committed at the source when it started is durably on the target.
    Current,
}

impl Task {
    /// Runs the task until it is done or `stop` is cancelled, retrying what may heal.
    ///
    /// # Errors
    /// Whatever the operator has to look at: every class but `Transient`, and that one too when the retry
    /// policy gives up.
    pub async fn run(&self, until: Until, stop: CancellationToken) -> Result<()> {
        let mut goal = None;
        let mut backoff = Backoff::new(self.plan.retry);
        loop {
            let before = self.reporter.snapshot();
            let error = match self.attempt(until, &mut goal, &stop).await {
                Ok(End::Finished) => {
                    self.reporter.update(|p| p.phase = Phase::Done);
                    return Ok(());
                }
                Ok(End::Replan) => continue,
                Err(error) if stop.is_cancelled() => {
                    tracing::warn!(task = %self.plan.name, "while stopping: {error}");
                    return Ok(());
                }
                Err(error) => error,
            };
            let after = self.reporter.snapshot();
            if after.sets > before.sets || after.rows_loaded() > before.rows_loaded() {
                backoff.progressed();
            }
            let error = match error.class() {
                Class::Table => match self.leave_out(&error).await {
                    Ok(true) => continue,
                    Ok(false) => error,
                    Err(other) => other,
                },
                _ => error,
            };
            let pause = if error.class() == Class::Transient { backoff.next() } else { None };
            let Some(pause) = pause else {
                let text = error.to_string();
                self.reporter.update(|p| p.phase = Phase::Failed { error: text });
                return Err(error);
            };
            tracing::warn!(task = %self.plan.name, retry_in_ms = pause.as_millis() as u64, "attempt failed: {error}");
            self.reporter.update(|p| {
                p.phase = Phase::Retrying { error: error.to_string() };
                p.retries += 1;
            });
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Leaves a table out from here on, so that the others go on.
    async fn suspend(
        &self,
        lane: &mut dyn TargetLane,
        table: &Arc<TableSchema>,
        reason: &str,
        remedy: &str,
    ) -> Result<()> {
        tracing::error!(task = %self.plan.name, table = %table.id, "suspended: {reason} (remedy: {remedy})");
        self.reporter.table(&table.id, |t| {
            t.state = Some(TableState::Suspended);
            t.reason = Some(reason.to_owned());
        });
        lane.suspend(table, reason, remedy).await
    }

    /// A table that cannot be taken up stops a task that is about to start, and is left out of one that runs: a table
    /// that appears must not stop the others.
    async fn refuse_table(
        &self,
        lane: &mut dyn TargetLane,
        table: &Arc<TableSchema>,
        error: Error,
        starting: bool,
    ) -> Result<()> {
        if starting || !matches!(error.class(), Class::Refused | Class::Table) {
            return Err(error.table(&table.id));
        }
        let remedy = error.remedy_text().unwrap_or("mend this, then reload the table");
        self.suspend(lane, table, &error.reason(), remedy).await
    }

    /// Leaves out the table that an error is about; whether it was about a table of the record.
    async fn leave_out(&self, error: &Error) -> Result<bool> {
        let Some(id) = error.table_id() else { return Ok(false) };
        let mut lane = self.target.open_lane().await?;
        let record = lane.record().await?;
        let Some(known) = record.tables.iter().find(|t| t.schema.id == *id) else { return Ok(false) };
        let remedy = error.remedy_text().unwrap_or("mend this, then reload the table");
        self.suspend(lane.as_mut(), &known.schema, &error.reason(), remedy).await?;
        Ok(true)
    }

    async fn attempt(&self, until: Until, goal: &mut Option<Position>, stop: &CancellationToken) -> Result<End> {
        self.reporter.update(|p| p.phase = Phase::Starting);
        let wanted = until == Until::Current && goal.is_none() && self.plan.mode.follows();
        let current = async {
            if wanted {
                *goal = Some(self.source.current().await?);
            }
            Ok(())
        };
        // Each is the first thing that its end is asked: they connect at the same time.
        let ((), record) = tokio::select! {
            () = stop.cancelled() => return Ok(End::Finished),
            answers = both(current, self.target.record()) => answers?,
        };
        Attempt { task: self, goal: goal.clone(), stop: stop.clone() }.run(record).await
    }
}

/// Asks both ends at the same time. Of two errors the one that does not heal by itself is told, or the first.
async fn both<A, B>(first: impl Future<Output = Result<A>>, second: impl Future<Output = Result<B>>) -> Result<(A, B)> {
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
