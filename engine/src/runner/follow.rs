//! Following the log: one task reads and gathers while another one applies, so that sets grow by themselves when the
//! target is behind and stay small when it is not. A third one stands between them: it reduces a set to its net effect
//! while the one before is still being applied.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::change::{ChangeSet, Step};
use crate::error::{Error, Result};
use crate::ports::{Applied, ChangeStream, TableState, TargetLane};
use crate::position::{Checkpoint, Position};
use crate::schema::{Identity, SchemaChangeKind, TableId};

use super::Task;
use super::attempt::{End, position_only};

/// How often the source hears from us while nothing else happens.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often a position without changes is made durable, so that an idle table never holds the source's log.
const IDLE_CHECKPOINT: Duration = Duration::from_secs(10);
/// How often the target is asked what it has durably, while something is not yet.
const DURABLE_POLL: Duration = Duration::from_millis(100);
/// Up to so many rows a set is reduced where it is; more would keep others from running.
const REDUCED_AT_ONCE: usize = 2_000;
/// How long a running apply may go on after the task is told to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// And how long the source may take to be told.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

pub(super) struct Follow<'a> {
    pub(super) task: &'a Task,
    pub(super) known: HashMap<TableId, TableState>,
    pub(super) goal: Option<Position>,
    pub(super) stop: CancellationToken,
    pub(super) checkpoint: Checkpoint,
}

enum Work {
    Apply(ChangeSet, Checkpoint),
    /// What the target durably has; whether that is to be all there is.
    AskDurable(bool),
}

enum Outcome {
    Applied { applied: Applied, rows: u64, set: SetNote, durable: Option<Position> },
    Durable(Option<Position>),
}

/// What is to be told of a set once it is applied.
struct SetNote {
    checkpoint: Checkpoint,
    open: bool,
    transactions: u64,
    committed_at: Option<std::time::SystemTime>,
    /// Table, reason, remedy.
    suspended: Vec<(TableId, String, String)>,
    reloads: Vec<(TableId, String)>,
}

impl Follow<'_> {
    pub(super) async fn run(self, stream: Box<dyn ChangeStream>, lane: Box<dyn TargetLane>) -> Result<End> {
        let (work, gathered) = mpsc::channel(1);
        let (reduced, todo) = mpsc::channel(1);
        let (done, outcomes) = mpsc::channel(1);
        let mut appliers = JoinSet::new();
        appliers.spawn(reduce_all(gathered, reduced));
        appliers.spawn(apply_all(lane, todo, done));
        let applied = self.checkpoint.position.clone();
        let (new_tables, found) = mpsc::channel(1);
        let state = Loop {
            stream,
            work,
            outcomes,
            found,
            pending: 0,
            pending_bytes: 0,
            idle: None,
            idle_since: Instant::now(),
            waiting_since: None,
            ask_at: Instant::now(),
            applied,
            durable: None,
            replan: false,
            open: false,
            follow: &self,
        };
        let mut background = JoinSet::new();
        background.spawn(watch_tables(
            Arc::clone(&self.task.source),
            self.task.plan.selection.clone(),
            self.task.plan.rediscover,
            self.known.clone(),
            new_tables,
        ));
        let ended = state.run().await;
        if ended.is_ok() {
            // Idle by now, or past the deadline: its transaction is rolled back.
            appliers.abort_all();
            return ended;
        }
        tokio::select! {
            () = self.stop.cancelled() => ended,
            cause = first_error(&mut appliers) => cause.map_or(ended, Err),
        }
    }
}

/// Their own error is the cause; the reader only saw the channel close. Whoever has none ends its work first.
async fn first_error(appliers: &mut JoinSet<Result<()>>) -> Option<Error> {
    let mut first = None;
    while let Some(applier) = appliers.join_next().await {
        let ended = applier.unwrap_or_else(|e| Err(Error::fatal("reducing or applying a set panicked").cause(e)));
        first = first.or(ended.err());
    }
    first
}

async fn reduce_all(mut gathered: mpsc::Receiver<Work>, reduced: mpsc::Sender<Work>) -> Result<()> {
    while let Some(work) = gathered.recv().await {
        let work = match work {
            Work::Apply(set, checkpoint) if set.rows() > REDUCED_AT_ONCE => {
                let set = spawn_blocking(|| set.reduce()).await;
                Work::Apply(set.map_err(|e| Error::fatal("reducing a set panicked").cause(e))??, checkpoint)
            }
            Work::Apply(set, checkpoint) => Work::Apply(set.reduce()?, checkpoint),
            ask @ Work::AskDurable(_) => ask,
        };
        if reduced.send(work).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn apply_all(
    mut lane: Box<dyn TargetLane>,
    mut todo: mpsc::Receiver<Work>,
    done: mpsc::Sender<Outcome>,
) -> Result<()> {
    let mut asked = Instant::now();
    while let Some(work) = todo.recv().await {
        let outcome = match work {
            Work::AskDurable(now) => Outcome::Durable(lane.durable(now).await?),
            Work::Apply(set, checkpoint) => {
                let note = SetNote::of(&set, &checkpoint);
                let rows = set.rows() as u64;
                let began = Instant::now();
                let applied = lane.apply(set, &checkpoint).await?;
                tracing::debug!(rows, open = note.open, took = ?began.elapsed(), "applied a set");
                let ask = !note.open && asked.elapsed() >= DURABLE_POLL;
                let durable = if ask { lane.durable(false).await? } else { None };
                Outcome::Applied { applied, rows, set: note, durable }
            }
        };
        if matches!(&outcome, Outcome::Durable(_) | Outcome::Applied { durable: Some(_), .. }) {
            asked = Instant::now();
        }
        if done.send(outcome).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

impl SetNote {
    fn of(set: &ChangeSet, checkpoint: &Checkpoint) -> Self {
        let (mut suspended, mut reloads) = (Vec::new(), Vec::new());
        for step in &set.steps {
            let Step::Schema(change) = step else { continue };
            let table = change.table.id.clone();
            match &change.kind {
                SchemaChangeKind::Suspend { reason, remedy } => {
                    suspended.push((table, reason.clone(), remedy.clone()));
                }
                SchemaChangeKind::Reload { reason } => reloads.push((table, reason.clone())),
                SchemaChangeKind::AddColumns { .. } => {}
            }
        }
        Self {
            checkpoint: checkpoint.clone(),
            open: set.open,
            transactions: set.transactions,
            committed_at: set.committed_at,
            suspended,
            reloads,
        }
    }
}

/// Asks the source for tables that are new or lost their key, until there is one.
async fn watch_tables(
    source: Arc<dyn crate::ports::Source>,
    selection: crate::task::Selection,
    every: Duration,
    known: HashMap<TableId, TableState>,
    found: mpsc::Sender<()>,
) {
    loop {
        tokio::time::sleep(every).await;
        // A failure here is met again, and reported, by the stream itself.
        let Ok(catalog) = source.discover(&selection).await else { continue };
        let news = catalog.tables.iter().find(|t| match known.get(&t.id) {
            None => true,
            Some(state) => t.identity == Identity::InsertOnly && *state != TableState::Suspended,
        });
        if let Some(table) = news {
            tracing::info!(table = %table.id, "new, or lost its key: planning anew");
            let _ = found.send(()).await;
            return;
        }
    }
}

struct Loop<'f> {
    stream: Box<dyn ChangeStream>,
    work: mpsc::Sender<Work>,
    outcomes: mpsc::Receiver<Outcome>,
    found: mpsc::Receiver<()>,
    /// What has been sent to the appliers and is not answered: one while they are busy, two while the target is behind.
    pending: u8,
    /// Bytes of the newest set of those.
    pending_bytes: usize,
    /// A position reached without changes since the last set.
    idle: Option<Position>,
    idle_since: Instant,
    /// Since when something is ready, for the linger.
    waiting_since: Option<Instant>,
    /// When to ask again what is durable.
    ask_at: Instant,
    applied: Position,
    /// Not known at first: an earlier lane may have committed what the target's disk does not have yet.
    durable: Option<Position>,
    /// A table is to be loaded, or again.
    replan: bool,
    /// The last set handed over was open: the target's transaction waits for the next one.
    open: bool,
    follow: &'f Follow<'f>,
}

impl Loop<'_> {
    async fn run(mut self) -> Result<End> {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let linger = self.follow.task.plan.batch.linger;
        loop {
            if self.replan && !self.open {
                return self.end(End::Replan).await;
            }
            if self.goal_reached() {
                return self.end(End::Finished).await;
            }
            self.hand_over(linger).await?;
            if self.free() && !self.open && self.unsettled() && self.reaches_goal(&self.applied) {
                self.send(Work::AskDurable(true)).await?;
            }
            let unsettled = self.free() && self.unsettled();
            self.stream.pace(self.free());
            let wake = self.waiting_since.map_or_else(|| Instant::now() + HEARTBEAT, |since| since + linger);
            tokio::select! {
                biased;
                () = self.follow.stop.cancelled() => return self.end(End::Finished).await,
                outcome = self.outcomes.recv() => self.settle(outcome).await?,
                Some(()) = self.found.recv() => self.replan = true,
                _ = heartbeat.tick() => self.stream.ack(self.durable.as_ref()).await?,
                () = sleep_until(self.ask_at), if unsettled => self.send(Work::AskDurable(false)).await?,
                () = sleep_until(wake), if self.waiting_since.is_some() && self.free() => {}
                filled = self.stream.fill(), if !self.stream.full() => filled?,
            }
        }
    }

    fn free(&self) -> bool {
        self.pending == 0
    }

    /// Whether one more set may wait behind the one that is being applied. Behind one that is larger than usual, a part
    /// of a transaction or a row of many megabytes, there is no memory for it.
    fn room_ahead(&self) -> bool {
        let usual = self.follow.task.plan.batch.max_bytes.saturating_mul(2);
        self.pending == 1 && !self.open && self.pending_bytes <= usual
    }

    /// Gives the applier what has gathered, if it is free; or what is full, to be next.
    async fn hand_over(&mut self, linger: Duration) -> Result<()> {
        if !self.stream.ready() {
            self.waiting_since = None;
        } else if self.waiting_since.is_none() {
            self.waiting_since = Some(Instant::now());
        }
        let takes_more = self.free() || (self.room_ahead() && self.stream.full());
        if !takes_more {
            return Ok(());
        }
        let waited = self.waiting_since.is_some_and(|since| since.elapsed() >= linger);
        if waited || self.stream.full() {
            self.waiting_since = None;
            if let Some(set) = self.stream.take()? {
                if set.steps.is_empty() && !set.open && !self.open {
                    self.idle = Some(set.end);
                } else {
                    return self.apply(set).await;
                }
            }
        }
        match self.idle.take() {
            Some(end) if self.idle_since.elapsed() >= IDLE_CHECKPOINT || self.reaches_goal(&end) => {
                self.apply(position_only(end)).await
            }
            later => {
                self.idle = later;
                Ok(())
            }
        }
    }

    async fn apply(&mut self, mut set: ChangeSet) -> Result<()> {
        let transforms = &self.follow.task.transforms;
        let steps = set.steps.into_iter().map(|step| match step {
            Step::Rows(rows) => transforms.iter().try_fold(rows, |rows, t| t.rows(rows)).map(Step::Rows),
            other => Ok(other),
        });
        set.steps = steps.collect::<Result<_>>()?;
        self.idle = None;
        self.idle_since = Instant::now();
        self.open = set.open;
        self.pending_bytes = set.bytes;
        let checkpoint = Checkpoint { lineage: self.follow.checkpoint.lineage.clone(), position: set.end.clone() };
        self.send(Work::Apply(set, checkpoint)).await
    }

    async fn send(&mut self, work: Work) -> Result<()> {
        self.pending += 1;
        self.work.send(work).await.map_err(|_| applier_gone())
    }

    async fn settle(&mut self, outcome: Option<Outcome>) -> Result<()> {
        self.pending = self.pending.saturating_sub(1);
        self.ask_at = Instant::now() + DURABLE_POLL;
        let durable = match outcome.ok_or_else(applier_gone)? {
            Outcome::Durable(durable) => durable,
            Outcome::Applied { applied, rows, set, durable } => {
                self.note(&applied, rows, set);
                durable
            }
        };
        if durable > self.durable {
            self.durable = durable;
            self.stream.ack(self.durable.as_ref()).await?;
            self.follow.task.reporter.update(|p| p.acknowledged = self.durable.clone());
        }
        Ok(())
    }

    fn unsettled(&self) -> bool {
        self.durable.as_ref().is_none_or(|durable| *durable < self.applied)
    }

    fn note(&mut self, applied: &Applied, rows: u64, set: SetNote) {
        let reporter = &self.follow.task.reporter;
        reporter.applied(applied);
        for (table, reason, remedy) in set.suspended {
            let task = &self.follow.task.plan.name;
            tracing::error!(%task, %table, "suspended: {reason} (remedy: {remedy})");
            reporter.table(&table, |t| {
                t.state = Some(TableState::Suspended);
                t.reason = Some(reason);
            });
        }
        for (table, reason) in set.reloads {
            tracing::warn!(task = %self.follow.task.plan.name, table = %table, "loaded again: {reason}");
            reporter.table(&table, |t| t.state = Some(TableState::Reload));
            self.replan = true;
        }
        if !set.open {
            self.applied = set.checkpoint.position;
        }
        reporter.update(|p| {
            p.applied = Some(self.applied.clone());
            p.transactions += set.transactions;
            p.committed_at = set.committed_at.or(p.committed_at);
            p.sets += u64::from(rows > 0);
        });
    }

    fn reaches_goal(&self, position: &Position) -> bool {
        self.follow.goal.as_ref().is_some_and(|goal| position >= goal)
    }

    fn goal_reached(&self) -> bool {
        self.durable.as_ref().is_some_and(|durable| self.reaches_goal(durable))
    }

    /// Lets what is being applied finish, makes it durable and tells the source, each within its deadline.
    async fn end(mut self, end: End) -> Result<End> {
        match timeout(STOP_DEADLINE, self.finish()).await {
            Ok(finished) => finished?,
            Err(_) => tracing::warn!("the target is still busy at the deadline: its transaction is rolled back"),
        }
        match timeout(CLOSE_DEADLINE, self.stream.close(self.durable.as_ref())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the source could not be told what it may forget: the next run does")
            }
            Err(_) => tracing::warn!("the source is busy, and is told by the next run what it may forget"),
        }
        Ok(end)
    }

    /// What is left of an open set is rolled back: nothing waits behind its locks while the source is told.
    async fn finish(&mut self) -> Result<()> {
        let mut heartbeat = interval(HEARTBEAT);
        loop {
            if self.free() {
                if !self.open && !self.unsettled() {
                    return Ok(());
                }
                self.open = false;
                self.send(Work::AskDurable(true)).await?;
            }
            tokio::select! {
                outcome = self.outcomes.recv() => self.settle(outcome).await?,
                _ = heartbeat.tick() => {
                    // A source that is gone is no reason to give up what the target is about to have.
                    if let Err(error) = self.stream.ack(self.durable.as_ref()).await {
                        tracing::debug!(%error, "the source does not hear us");
                    }
                }
            }
            if self.free() && self.unsettled() {
                tokio::time::sleep(DURABLE_POLL / 5).await;
            }
        }
    }
}

fn applier_gone() -> Error {
    Error::fatal("internal: the applier ended early")
}
