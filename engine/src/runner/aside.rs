//! Tables that are loaded, brought to where the main stream is: at once where that has not gone past them, otherwise by
//! a stream of their own that reads the log from where they were loaded until it meets the main one.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::change::{ChangeSet, Gather, TableCounts};
use crate::error::{Error, Result};
use crate::ports::{ChangeStream, StreamRequest, StreamRole, StreamTable, TargetLane};
use crate::position::Position;
use crate::progress::Station;
use crate::record::{RecordChange, TableRecord, TableState};
use crate::schema::TableId;

use super::pipeline::{conflicts, reduced_by};
use super::room::COPIES;
use super::run::{Ask, Hold, Joined, MEETING, Meeting, Run};
use super::stage::{Held, News, Stage};

/// A stream that was where the main one had been such a time ago is close enough to make that wait.
const CLOSE: Duration = Duration::from_millis(500);
/// The main stream never has to wait longer than this, however far the tables are behind.
const LONGEST_MEETING: Duration = Duration::from_secs(60);
/// How often the source hears from us.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Brings tables to where the others are.
pub(super) struct CatchUp<'a> {
    run: &'a Arc<Run>,
    joined: &'a Joined,
}

impl<'a> CatchUp<'a> {
    pub(super) fn new(run: &'a Arc<Run>, joined: &'a Joined) -> Self {
        Self { run, joined }
    }

    /// Takes tables as they come, all that wait at a time.
    pub(super) async fn run(&self, mut loaded: mpsc::UnboundedReceiver<TableId>) -> Result<()> {
        while let Some(first) = loaded.recv().await {
            let mut tables = vec![first];
            while let Ok(next) = loaded.try_recv() {
                tables.push(next);
            }
            self.join(tables).await?;
        }
        Ok(())
    }

    /// Brings these tables to where the others are.
    pub(super) async fn join(&self, tables: Vec<TableId>) -> Result<()> {
        let Some(Meeting { at, join }) = self.meet(MEETING).await? else { return Ok(()) };
        let (here, behind): (Vec<TableId>, Vec<TableId>) = tables.into_iter().partition(|id| self.is_at(id, &at));
        if !self.hand_over(join, &here, &at) && !here.is_empty() {
            // The main stream did not wait so long.
            return Box::pin(self.join([here, behind].concat())).await;
        }
        if behind.is_empty() { Ok(()) } else { self.follow(behind).await }
    }

    /// Gives the main stream these tables; false if it does not wait any more.
    fn hand_over(&self, join: oneshot::Sender<Vec<StreamTable>>, tables: &[TableId], at: &Position) -> bool {
        let taken = join.send(self.stream_tables(tables, at)).is_ok();
        if taken {
            self.joined.lock().unwrap_or_else(PoisonError::into_inner).extend(tables.iter().cloned());
        }
        taken
    }

    /// Asks the main stream to wait; `None` when it has ended.
    async fn meet(&self, patience: Duration) -> Result<Option<Meeting>> {
        let (ask, meeting) = oneshot::channel();
        if self.run.asks.send(Ask { meeting: ask, patience }).await.is_err() {
            return Ok(None);
        }
        Ok(meeting.await.ok())
    }

    /// Whether the main stream, at this place, has not gone past what the table needs.
    fn is_at(&self, id: &TableId, at: &Position) -> bool {
        let low = self.run.book.read(|r| r.table(id).map(|t| (t.state, t.low())));
        match low {
            // Nothing of it was read: its changes count from where it joins.
            Some((TableState::Ready, _) | (_, None)) | None => true,
            Some((_, Some(low))) => *at <= low,
        }
    }

    fn stream_tables(&self, tables: &[TableId], from: &Position) -> Vec<StreamTable> {
        self.run.book.read(|r| tables.iter().filter_map(|id| r.table(id)).map(|t| stream_table(t, from)).collect())
    }

    /// Follows the log for these tables alone until they are where the main stream is.
    async fn follow(&self, tables: Vec<TableId>) -> Result<()> {
        let low = |r: &crate::record::TaskRecord| tables.iter().filter_map(|id| r.table(id)?.low()).min();
        let missing = || Error::fatal("internal: a table that was loaded has no place in the log");
        let from = self.run.book.read(low).ok_or_else(missing)?;
        let task = &self.run.task;
        tracing::info!(task = %task.plan.name, tables = tables.len(), %from, "catching up beside the stream");
        let request = StreamRequest {
            tables: self.stream_tables(&tables, &from),
            from: from.clone(),
            expected: Vec::new(),
            role: StreamRole::Aside,
        };
        let stream = task.source.stream(request).await?;
        let lane = task.target.open_lane(self.run.book.epoch, None).await?;
        let stage = Stage::new(Arc::clone(&task.rules), task.target.abilities());
        let held = Held::default();
        let gather = Gather::new(task.plan.batch, from.clone());
        let hold = self.run.hold();
        hold.from(&from);
        let aside = Aside {
            run: self.run,
            stream,
            gather,
            lane,
            stage: Some(stage),
            tables,
            held,
            hold,
            applied: from,
            met: Vec::new(),
        };
        aside.run(self).await
    }
}

/// What a stream delivers of a table of the record, where it starts at `from`.
pub(super) fn stream_table(record: &TableRecord, from: &Position) -> StreamTable {
    let own = record.position.clone().filter(|p| p > from);
    let start = own.as_ref().unwrap_or(from);
    let mut loaded = record.loaded();
    if loaded.iter().all(|c| c.snapshot <= *start) {
        loaded.clear();
    }
    StreamTable { schema: Arc::clone(&record.source), from: own, loaded }
}

/// A stream beside the main one.
struct Aside<'a> {
    run: &'a Arc<Run>,
    stream: Box<dyn ChangeStream>,
    gather: Gather,
    lane: Box<dyn TargetLane>,
    /// Always there between two sets.
    stage: Option<Stage>,
    /// The tables that still follow it.
    tables: Vec<TableId>,
    held: Held,
    /// A crash of the target may take back what it has not durably, and then that is needed again.
    hold: Hold,
    applied: Position,
    /// Conflicts of a set that is still open.
    met: Vec<RecordChange>,
}

impl Aside<'_> {
    async fn run(mut self, catch_up: &CatchUp<'_>) -> Result<()> {
        while !self.tables.is_empty() {
            let patience = self.approach().await?.saturating_mul(2).clamp(MEETING, LONGEST_MEETING);
            let Some(Meeting { at, join }) = catch_up.meet(patience).await? else { return Ok(()) };
            // The main stream holds room while it waits: waiting for room here could be waiting for each other.
            self.read_to(&at, false).await?;
            self.settle(true).await?;
            if catch_up.hand_over(join, &self.tables, &at) {
                let (task, at) = (&self.run.task.plan.name, &self.applied);
                tracing::info!(%task, tables = self.tables.len(), %at, "caught up");
                break;
            }
            tracing::debug!(task = %self.run.task.plan.name, %at, "the main stream did not wait so long");
        }
        self.stream.close(None).await
    }

    /// Reads on until the main stream is close, or as close as it gets while changes keep coming: then that one has to
    /// wait, or the two would never meet. How long the last part took.
    async fn approach(&mut self) -> Result<Duration> {
        let mut last = Duration::MAX;
        loop {
            let asked = Instant::now();
            let Some(goal) = self.run.reached() else { return Ok(Duration::ZERO) };
            self.read_to(&goal, true).await?;
            let took = asked.elapsed();
            tracing::debug!(task = %self.run.task.plan.name, %goal, took_ms = took.as_millis() as u64, "nearer");
            if took < CLOSE || took >= last {
                return Ok(took);
            }
            last = took;
        }
    }

    /// Reads and applies everything before this place, and perhaps more; a set at a time, with room for it or without.
    async fn read_to(&mut self, goal: &Position, with_room: bool) -> Result<()> {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (task, mut room) = (&self.run.task, None);
        while self.applied < *goal && !self.tables.is_empty() {
            if with_room && room.is_none() {
                room = Some(task.budget.room(task.plan.batch.max_bytes.saturating_mul(COPIES)).await?);
            }
            if !self.gather.full() {
                self.stream.pace(true);
                tokio::select! {
                    biased;
                    _ = heartbeat.tick() => self.stream.ack(None).await?,
                    filled = self.stream.fill(&mut self.gather) => filled?,
                }
            }
            let there = self.gather.between().is_some_and(|at| at >= goal);
            if (there || self.gather.full())
                && let Some(set) = self.gather.take()?
            {
                self.apply(set).await?;
                room = None;
            }
        }
        Ok(())
    }

    async fn apply(&mut self, set: ChangeSet) -> Result<()> {
        let missing = || Error::fatal("internal: reducing a set has failed before");
        let (rows, reporter, began) = (set.rows(), &self.run.task.reporter, Instant::now());
        reporter.passed(Station::Read, rows, Duration::ZERO);
        let (stage, staged) = reduced_by(self.run, self.stage.take().ok_or_else(missing)?, set).await?;
        reporter.passed(Station::Reduced, rows, began.elapsed());
        self.stage = Some(stage);
        let span = staged.set.span.clone();
        reporter.add(&staged.kept);
        reporter.misfits(&staged.misfits);
        let (mut changes, news) = self.held.with(span.open, staged.changes, staged.news);
        if !span.open {
            changes.push(RecordChange::Position(self.tables.clone(), span.end.clone()));
        }
        let began = Instant::now();
        let applied = self.lane.apply(staged.set, &changes).await.map_err(|e| staged.sources.blame(e))?;
        reporter.passed(Station::Applied, rows, began.elapsed());
        self.run.book.note(&changes)?;
        let counts: Vec<(TableId, TableCounts)> = staged.sources.of(applied);
        reporter.add(&counts);
        self.met.extend(conflicts(&counts));
        if span.open {
            return Ok(());
        }
        if !self.met.is_empty() {
            let met = std::mem::take(&mut self.met);
            self.run.book.commit(self.lane.as_mut(), &met).await?;
        }
        self.applied = span.end;
        self.settle(false).await?;
        self.tell(news)
    }

    /// Keeps the log from where the target durably is. `now`: it is to have everything.
    async fn settle(&mut self, now: bool) -> Result<()> {
        if let Some(durable) = self.lane.durable(now).await? {
            self.hold.from(&durable);
        }
        Ok(())
    }

    /// Tables that cannot be followed do not join the others.
    fn tell(&mut self, news: Vec<News>) -> Result<()> {
        let task = &self.run.task.plan.name;
        let mut gone = HashSet::new();
        let mut again = None;
        for one in news {
            match one {
                News::Suspended { table, reason, remedy } => {
                    tracing::error!(%task, %table, "suspended: {reason} (remedy: {remedy})");
                    gone.insert(table);
                }
                News::Reload { table, reason } => {
                    tracing::warn!(%task, %table, "loaded again: {reason}");
                    again =
                        Some(Error::transient("a table has to be loaded again before it has caught up").table(&table));
                    gone.insert(table);
                }
            }
        }
        self.tables.retain(|t| !gone.contains(t));
        again.map_or(Ok(()), Err)
    }
}
