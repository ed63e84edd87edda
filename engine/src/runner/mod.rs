//! The runner: takes one task from nothing to following the log, and through every failure back again.
//!
//! An attempt starts from what the target remembers ([`crate::record::TaskRecord`]) and from nothing else; any
//! error ends it, and the retry policy in this file is the only place that decides what follows.

mod aside;
mod attempt;
mod book;
mod control;
mod failing;
mod first;
mod follow;
mod group;
mod history;
mod load;
mod pipeline;
mod preflight;
mod rerouted;
mod retry;
mod room;
mod run;
mod secondary;
mod stage;
mod task;
mod watch;
mod whole;

use crate::error::{Class, Error, Result};
use crate::position::Position;
use crate::progress::{Phase, Trouble};
use crate::record::{Epoch, RecordChange, TableRecord, TableState};

use attempt::Attempt;
pub use control::{Command, Control};
pub use preflight::{Found, Preflight, preflight};
pub use rerouted::outdated;
use retry::Backoff;
pub use task::Task;
use task::both;

/// How long a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until it is stopped; a task that only loads ends by itself.
    Stopped,
    /// Until everything that had committed at the source when it started is durably on the target.
    Current,
}

impl Task {
    /// Runs the task until it is done or told to stop, retrying what may heal. Its end is for
    /// the caller to report, once it has been kept: [`Reporter::ended`].
    ///
    /// # Errors
    /// Whatever the operator has to look at: every class but `Transient` and `Locked`, and those too when the retry
    /// policy gives up.
    pub async fn run(&self, until: Until, control: &Control) -> Result<()> {
        let stop = control.token();
        let (mut goal, mut epoch) = (None, None);
        let mut backoff = Backoff::new(self.plan.retry);
        loop {
            let before = self.reporter.snapshot();
            let error = match self.attempt(until, &mut goal, &mut epoch, control).await {
                Ok(()) => return Ok(()),
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
                // What is known of the task is its tables: before that nothing may be touched.
                Class::Table | Class::Refused if error.table_id().is_some() => match self.leave_out(&error).await {
                    Ok(true) => continue,
                    Ok(false) => error,
                    Err(other) => other,
                },
                Class::Locked => match self.step_aside(&error).await {
                    Ok(true) => continue,
                    Ok(false) => error,
                    Err(other) => other,
                },
                Class::Again => {
                    tracing::info!(task = %self.plan.name, "{error}");
                    continue;
                }
                _ => error,
            };
            let heals = matches!(error.class(), Class::Transient | Class::Locked);
            let pause = if heals { backoff.next() } else { None };
            let Some(pause) = pause else { return Err(error) };
            tracing::warn!(task = %self.plan.name, retry_in_ms = pause.as_millis() as u64, "attempt failed: {error}");
            if let Some(failing) = backoff.lasting(&self.plan.name, &error, &[])
                && let Some(epoch) = epoch
            {
                failing::of_task(self.target.as_ref(), epoch, failing).await;
            }
            self.reporter.update(|p| {
                p.phase = Phase::Retrying(Trouble::from(&error));
                p.retries += 1;
            });
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Leaves out the table that an error is about; whether it was about one that was not left out already.
    async fn leave_out(&self, error: &Error) -> Result<bool> {
        let before = self.target.record().await?.unwrap_or_default();
        if before.about(error).is_none_or(|known| known.state == TableState::Suspended) {
            return Ok(false);
        }
        let (epoch, record) = self.target.take_over().await?;
        let Some(known) = record.about(error) else { return Ok(false) };
        let (reason, remedy) = (error.reason(), error.way_back(known.id()));
        tracing::error!(task = %self.plan.name, table = %known.id(), "suspended: {reason} (remedy: {remedy})");
        let mut lane = self.target.open_lane(epoch, None).await?;
        lane.commit(&[RecordChange::suspend(known.id(), &reason, &remedy)]).await?;
        self.reporter.table(known.id(), |t| {
            t.state = Some(TableState::Suspended);
            (t.reason, t.remedy) = (Some(reason), Some(remedy));
        });
        Ok(true)
    }

    /// Lets a followed table that somebody has locked catch up beside the others, from the checkpoint on: they do not
    /// wait for it. Whether there are others.
    async fn step_aside(&self, error: &Error) -> Result<bool> {
        let (epoch, record) = self.target.take_over().await?;
        let ready = |t: &&TableRecord| t.state == TableState::Ready;
        let Some(known) = record.about(error).filter(ready) else { return Ok(false) };
        let Some(checkpoint) = record.checkpoint.as_ref().filter(|_| record.tables.iter().filter(ready).count() > 1)
        else {
            return Ok(false);
        };
        tracing::warn!(task = %self.plan.name, table = %known.id(), "the others go on without it: {}", error.reason());
        let from = known.position.clone().max(Some(checkpoint.position.clone()));
        let changes = from.map(|from| RecordChange::Position(vec![known.id().clone()], from));
        let (table, state) = (known.id().clone(), TableState::Loading);
        let (reason, remedy) = (Some(error.reason()), error.advice().cloned());
        let changes: Vec<_> =
            changes.into_iter().chain([RecordChange::State { table, state, reason, remedy }]).collect();
        self.target.open_lane(epoch, None).await?.commit(&changes).await?;
        Ok(true)
    }

    /// `epoch`: the last one that this process has taken.
    async fn attempt(
        &self,
        until: Until,
        goal: &mut Option<Position>,
        epoch: &mut Option<Epoch>,
        control: &Control,
    ) -> Result<()> {
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
            () = control.token().cancelled() => return Ok(()),
            answers = both(current, self.target.record()) => answers?,
        };
        Attempt { task: self, control, goal: goal.clone(), taken: epoch }.run(record).await
    }
}
