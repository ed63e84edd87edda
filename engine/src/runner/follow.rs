//! Following the log: the main stream gathers while the pipeline applies, so that sets grow by themselves when the
//! target is behind and stay small when it is not. Tables that are loaded meanwhile join it where it stands.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout, timeout_at};

use crate::change::{ChangeSet, Gather};
use crate::error::Result;
use crate::ports::{ChangeStream, StreamRequest, StreamRole, StreamTable, TargetLane};
use crate::position::{Checkpoint, Position};
use crate::progress::{Phase, Station};
use crate::record::TableState;
use crate::schema::{SchemaChangeKind, TableId};

use super::aside::stream_table;
use super::first::first_tables;
use super::group::Group;
use super::pipeline::{DURABLE_POLL, Outcome, Pipeline, Work};
use super::room::SetRoom;
use super::run::{Ask, Meeting, Run, Taken, group_ended, made_ready};
use super::stage::News;
use super::watch::{Found, Watch};

/// How often the source hears from us while nothing else happens.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often a position without changes is made durable, so that an idle table never holds the source's log.
const IDLE_CHECKPOINT: Duration = Duration::from_secs(10);
/// How long a running apply may go on after the task is told to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// And how long the source may take to be told.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

pub(super) struct Follow {
    pub(super) run: Arc<Run>,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) groups: JoinSet<Result<()>>,
    /// The tables of each group.
    pub(super) taken: Taken,
    pub(super) goal: Option<Position>,
    /// What was verified, and where the stream starts.
    pub(super) checkpoint: Checkpoint,
}

impl Follow {
    /// Follows the log until told to stop, or until the goal is reached.
    pub(super) async fn run(mut self, mut lane: Box<dyn TargetLane>) -> Result<()> {
        let from = self.checkpoint.position.clone();
        let groups = (&mut self.groups, &mut self.taken);
        tokio::select! {
            () = self.run.control.token().cancelled() => return Ok(()),
            ready = first_tables(&self.run, &mut self.asks, groups, &from, lane.as_mut()) => ready?,
        }
        let (tables, expected) = self.run.book.read(|r| {
            let of = |state| r.tables.iter().filter(move |t| t.state == state);
            let tables: Vec<_> = of(TableState::Ready).map(|t| stream_table(t, &from)).collect();
            (tables, of(TableState::Loading).map(|t| Arc::clone(&t.source)).collect())
        });
        let request = StreamRequest { from: from.clone(), tables, expected, role: StreamRole::Main };
        let stream = self.run.task.source.stream(request).await?;
        let gather = Gather::new(self.run.task.plan.batch, from.clone());
        self.run.set_reached(from);
        let phase = if self.run.control.is_paused() { Phase::Paused } else { Phase::Following };
        self.run.task.reporter.update(|p| p.phase = phase);
        let pipeline = Pipeline::start(&self.run, lane, self.checkpoint.lineage.clone());
        let run = Arc::clone(&self.run);
        let mut state = Loop::new(self, stream, gather, pipeline);
        let ended = state.run().await;
        if ended.is_ok() {
            // Idle by now, or past the deadline: its transaction is rolled back.
            state.pipeline.abort();
            return ended;
        }
        tokio::select! {
            () = run.control.token().cancelled() => ended,
            cause = state.pipeline.cause() => cause.map_or(ended, Err),
        }
    }
}

/// Tables that are about to join.
enum Joining {
    /// They have asked, and the stream is not between two transactions yet.
    Asked(Ask),
    /// The stream waits for them, for so long.
    Awaited(oneshot::Receiver<Vec<StreamTable>>, Instant),
}

struct Loop {
    follow: Follow,
    stream: Box<dyn ChangeStream>,
    gather: Gather,
    pipeline: Pipeline,
    watch: Watch,
    joining: Option<Joining>,
    /// Tables that have joined, whose record is still to be written.
    joined: Vec<StreamTable>,
    /// Tables that are to be loaded, once no group has them any more.
    wanted: BTreeSet<TableId>,
    /// What has been sent to the pipeline and is not answered: one while it is busy, two while the target is behind.
    pending: u8,
    /// Bytes of the newest set of those.
    pending_bytes: usize,
    /// Room for what the stream gathers.
    room: SetRoom,
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
    /// The last set handed over was open: the target's transaction waits for the next one.
    open: bool,
}

impl Loop {
    fn new(follow: Follow, stream: Box<dyn ChangeStream>, gather: Gather, pipeline: Pipeline) -> Self {
        let now = Instant::now();
        Self {
            watch: Watch::new(&follow.run),
            room: SetRoom::new(&follow.run.task.budget, follow.run.task.plan.batch.max_bytes),
            applied: follow.checkpoint.position.clone(),
            follow,
            stream,
            gather,
            pipeline,
            joining: None,
            joined: Vec::new(),
            wanted: BTreeSet::new(),
            pending: 0,
            pending_bytes: 0,
            idle: None,
            idle_since: now,
            waiting_since: None,
            ask_at: now,
            durable: None,
            open: false,
        }
    }

    async fn run(&mut self) -> Result<()> {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let run = Arc::clone(&self.follow.run);
        let linger = run.task.plan.batch.linger;
        let mut pauses = run.control.pauses();
        loop {
            self.take_up_wanted();
            if self.goal_reached() {
                return self.end().await;
            }
            self.meet();
            let moves = !run.control.is_paused() && !matches!(self.joining, Some(Joining::Awaited(..)));
            if moves {
                self.hand_over(linger).await?;
            }
            if self.free() && !self.open && self.unsettled() && self.reaches_goal(&self.applied) {
                self.send(Work::AskDurable(true)).await?;
            }
            let fills = moves && !self.gather.full() && self.has_room();
            let unsettled = self.free() && self.unsettled();
            self.stream.pace(self.free());
            let wake = self.waiting_since.map_or_else(|| Instant::now() + HEARTBEAT, |since| since + linger);
            tokio::select! {
                biased;
                () = run.control.token().cancelled() => return self.end().await,
                outcome = self.pipeline.outcome() => self.settle(outcome?).await?,
                joined = awaited(&mut self.joining) => self.join(joined).await?,
                Some(ask) = self.follow.asks.recv(), if self.joining.is_none() => {
                    self.joining = Some(Joining::Asked(ask));
                }
                Some(ended) = self.follow.groups.join_next_with_id() => group_ended(&mut self.follow.taken, ended)?,
                found = self.watch.next() => self.found(found)?,
                _ = pauses.changed() => self.tell_paused(),
                _ = heartbeat.tick() => self.acknowledge().await?,
                () = sleep_until(self.ask_at), if unsettled => self.send(Work::AskDurable(false)).await?,
                () = sleep_until(wake), if moves && self.waiting_since.is_some() && self.free() => {}
                granted = self.room.granted(), if moves => granted?,
                filled = self.stream.fill(&mut self.gather), if fills => filled?,
            }
        }
    }

    fn tell_paused(&mut self) {
        let paused = self.follow.run.control.is_paused();
        tracing::info!(task = %self.follow.run.task.plan.name, paused, "told to pause or to go on");
        self.follow.run.task.reporter.update(|p| p.phase = if paused { Phase::Paused } else { Phase::Following });
        if paused {
            self.room.give_back();
        }
    }

    fn has_room(&mut self) -> bool {
        let gathered = self.gather.ready() || self.gather.between().is_none();
        self.room.is_for_more(gathered)
    }

    fn free(&self) -> bool {
        self.pending == 0
    }

    /// Whether one more set may wait behind the one that is being applied. Behind one that is larger than usual, a part
    /// of a transaction or a row of many megabytes, there is no memory for it.
    fn room_ahead(&self) -> bool {
        let usual = self.follow.run.task.plan.batch.max_bytes.saturating_mul(2);
        self.pending == 1 && !self.open && self.pending_bytes <= usual
    }

    /// Waits here for the tables that have asked, if that is between two transactions.
    fn meet(&mut self) {
        let Some(at) = self.gather.between().cloned() else { return };
        self.follow.run.set_reached(at.clone());
        if self.open {
            return;
        }
        match self.joining.take() {
            Some(Joining::Asked(Ask { meeting, patience })) => {
                let (join, joining) = oneshot::channel();
                // Whoever has gone meanwhile drops the other end of it.
                let _ = meeting.send(Meeting { at, join });
                self.joining = Some(Joining::Awaited(joining, Instant::now() + patience));
            }
            other => self.joining = other,
        }
    }

    /// Follows the tables that have come.
    async fn join(&mut self, tables: Option<Vec<StreamTable>>) -> Result<()> {
        self.joining = None;
        let Some(tables) = tables.filter(|t| !t.is_empty()) else { return Ok(()) };
        self.joined.extend(tables.iter().cloned());
        self.stream.add(tables).await
    }

    /// Gives the pipeline what has gathered, if it is free; or what is full, to be next.
    async fn hand_over(&mut self, linger: Duration) -> Result<()> {
        if !self.joined.is_empty() {
            // The record says that they are ready before a change of theirs is applied.
            if !self.free() {
                return Ok(());
            }
            let joined = std::mem::take(&mut self.joined);
            let tables = joined.iter().map(|t| t.schema.id.clone()).collect();
            return self.send(Work::Commit(made_ready(&joined), tables)).await;
        }
        if !self.gather.ready() {
            self.waiting_since = None;
        } else if self.waiting_since.is_none() {
            self.waiting_since = Some(Instant::now());
        }
        let takes_more = self.free() || (self.room_ahead() && self.gather.full());
        if !takes_more {
            return Ok(());
        }
        let waited = self.waiting_since.is_some_and(|since| since.elapsed() >= linger);
        if waited || self.gather.full() {
            self.waiting_since = None;
            if let Some(set) = self.gather.take()? {
                if set.steps.is_empty() && !set.span.open && !self.open {
                    self.idle = Some(set.span.end);
                } else {
                    return self.apply(set).await;
                }
            }
        }
        match self.idle.take() {
            Some(end) if self.idle_since.elapsed() >= IDLE_CHECKPOINT || self.reaches_goal(&end) => {
                self.apply(ChangeSet::position_only(end)).await
            }
            later => {
                self.idle = later;
                Ok(())
            }
        }
    }

    async fn apply(&mut self, set: ChangeSet) -> Result<()> {
        self.idle = None;
        self.idle_since = Instant::now();
        self.open = set.span.open;
        self.pending_bytes = set.span.bytes;
        self.follow.run.task.reporter.passed(Station::Read, set.rows(), Duration::ZERO);
        let room = self.room.take();
        self.send(Work::Apply(set, room)).await
    }

    async fn send(&mut self, work: Work) -> Result<()> {
        self.pending += 1;
        self.pipeline.send(work).await
    }

    async fn settle(&mut self, outcome: Outcome) -> Result<()> {
        self.pending = self.pending.saturating_sub(1);
        self.ask_at = Instant::now() + DURABLE_POLL;
        let durable = match outcome {
            Outcome::Committed => None,
            Outcome::Durable(durable) => durable,
            Outcome::Applied { span, news, rows, durable } => {
                if !span.open {
                    self.applied = span.end;
                }
                self.follow.run.task.reporter.update(|p| {
                    p.applied = Some(self.applied.clone());
                    p.transactions += span.transactions;
                    p.committed_at = span.committed_at.or(p.committed_at);
                    p.sets += u64::from(rows > 0);
                });
                news.into_iter().for_each(|one| self.tell(one));
                durable
            }
        };
        if durable > self.durable {
            self.durable = durable;
            self.acknowledge().await?;
        }
        Ok(())
    }

    /// Tells the source what it may forget.
    async fn acknowledge(&mut self) -> Result<()> {
        let released = self.follow.run.release(self.durable.clone());
        self.stream.ack(released.as_ref()).await?;
        self.follow.run.task.reporter.update(|p| p.acknowledged = released);
        Ok(())
    }

    fn unsettled(&self) -> bool {
        self.durable.as_ref().is_none_or(|durable| *durable < self.applied)
    }

    fn tell(&mut self, news: News) {
        let task = &self.follow.run.task.plan.name;
        match news {
            News::Suspended { table, reason, remedy } => {
                tracing::error!(%task, %table, "suspended: {reason} (remedy: {remedy})");
                // Left where it is, the source might refuse updates and deletes of this table, now or later.
                let run = Arc::clone(&self.follow.run);
                self.follow.groups.spawn(async move { run.publish(&[]).await });
            }
            News::Reload { table, reason } => {
                tracing::warn!(%task, %table, "loaded again: {reason}");
                self.wanted.insert(table);
            }
        }
    }

    /// What was found beside the log.
    fn found(&mut self, found: Found) -> Result<()> {
        match found {
            Found::New(table) => drop(self.wanted.insert(table)),
            Found::Asked(table) => match self.run_state(&table) {
                Some(TableState::Ready) => {
                    let reason = "asked for".to_owned();
                    self.stream.withdraw(&table, SchemaChangeKind::Reload { reason }, &mut self.gather)?;
                }
                // A group that has not begun to load it takes the request along.
                Some(TableState::Suspended | TableState::Reload) if self.is_taken(&table) => {}
                Some(TableState::Suspended | TableState::Reload) => drop(self.wanted.insert(table)),
                // What is being loaded is asked for again when it is there.
                Some(TableState::Loading | TableState::Preparing) | None => {}
            },
            Found::Unkeyed(table, error) => {
                let (reason, remedy) = (error.reason(), error.way_back(&table));
                self.stream.withdraw(&table, SchemaChangeKind::Suspend { reason, remedy }, &mut self.gather)?;
            }
        }
        Ok(())
    }

    /// Begins a group of the tables that are to be loaded and that no other group has.
    fn take_up_wanted(&mut self) {
        let (free, taken): (BTreeSet<_>, _) =
            std::mem::take(&mut self.wanted).into_iter().partition(|id| !self.is_taken(id));
        self.wanted = taken;
        // Whoever had it meanwhile has loaded it, and it is about to be with the others, or is.
        let had = |id: &TableId| matches!(self.run_state(id), Some(TableState::Loading | TableState::Ready));
        let tables: Vec<TableId> = free.into_iter().filter(|id| !had(id)).collect();
        if tables.is_empty() {
            return;
        }
        let group = Group::new(&self.follow.run, tables.clone(), None);
        let handle = self.follow.groups.spawn(group.run());
        self.follow.taken.push((handle.id(), tables));
    }

    /// Whether a group has the table.
    fn is_taken(&self, id: &TableId) -> bool {
        self.follow.taken.iter().any(|(_, tables)| tables.contains(id))
    }

    fn run_state(&self, id: &TableId) -> Option<TableState> {
        self.follow.run.book.state(id)
    }

    fn reaches_goal(&self, position: &Position) -> bool {
        self.follow.goal.as_ref().is_some_and(|goal| position >= goal)
    }

    fn goal_reached(&self) -> bool {
        let busy = !self.follow.groups.is_empty() || !self.wanted.is_empty() || !self.joined.is_empty();
        !busy && self.durable.as_ref().is_some_and(|durable| self.reaches_goal(durable))
    }

    /// Lets what is being applied finish, makes it durable and tells the source, each within its deadline.
    async fn end(&mut self) -> Result<()> {
        self.follow.groups.abort_all();
        match timeout(STOP_DEADLINE, self.finish()).await {
            Ok(finished) => finished?,
            Err(_) => tracing::warn!("the target is still busy at the deadline: its transaction is rolled back"),
        }
        let released = self.follow.run.release(self.durable.clone());
        match timeout(CLOSE_DEADLINE, self.stream.close(released.as_ref())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the source could not be told what it may forget: the next run does")
            }
            Err(_) => tracing::warn!("the source is busy, and is told by the next run what it may forget"),
        }
        Ok(())
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
                outcome = self.pipeline.outcome() => self.settle(outcome?).await?,
                _ = heartbeat.tick() => {
                    // A source that is gone is no reason to give up what the target is about to have.
                    if let Err(error) = self.acknowledge().await {
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

/// The tables that the stream waits for; `None` when none come.
async fn awaited(joining: &mut Option<Joining>) -> Option<Vec<StreamTable>> {
    match joining {
        Some(Joining::Awaited(tables, until)) => {
            if let Ok(came) = timeout_at(*until, &mut *tables).await {
                return came.ok();
            }
            // Whoever was told that they have come must not be left out: from here on nobody is.
            tables.close();
            tables.try_recv().ok()
        }
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tables_that_came_at_the_last_moment_are_taken() {
        for _ in 0..64 {
            let (join, joining) = oneshot::channel();
            join.send(Vec::new()).unwrap();
            let mut late = Some(Joining::Awaited(joining, Instant::now()));
            assert!(awaited(&mut late).await.is_some(), "whoever sent them was told that they are taken");
        }
        let (join, joining) = oneshot::channel();
        let mut late = Some(Joining::Awaited(joining, Instant::now()));
        assert!(awaited(&mut late).await.is_none());
        assert!(join.send(Vec::new()).is_err(), "nobody takes them any more");
    }
}
