//! Applying beside reading: one task reduces a set to its net effect while another one applies the set before it.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Duration, Instant};

use crate::budget::Room;
use crate::change::{ChangeSet, Span, TableCounts};
use crate::error::{Error, Result};
use crate::ports::TargetLane;
use crate::position::{Checkpoint, Lineage, Position};
use crate::progress::Station;
use crate::record::{LaneId, RecordChange};
use crate::schema::TableId;

use super::run::Run;
use super::stage::{Held, News, Stage, Staged};
use super::whole::complete;

/// Up to so many rows a set is reduced where it is; more would keep others from running.
const REDUCED_AT_ONCE: usize = 2_000;
/// How often the target is asked what it has durably, while something is not yet.
pub(super) const DURABLE_POLL: Duration = Duration::from_millis(100);

/// What the main stream has to be done.
pub(super) enum Work {
    /// A set, and the room that it takes until it is applied.
    Apply(ChangeSet, Option<Room>),
    /// Changes of the record; of these tables changes come from now on.
    Commit(Vec<RecordChange>, Vec<TableId>),
    /// What the target durably has; whether that is to be all there is.
    AskDurable(bool),
}

/// What has come of it.
pub(super) enum Outcome {
    Applied { span: Span, news: Vec<News>, rows: u64, durable: Option<Position> },
    Committed,
    Durable(Option<Position>),
}

enum Ready {
    Apply(Box<Staged>, usize, Option<Room>),
    Commit(Vec<RecordChange>),
    AskDurable(bool),
}

/// The two tasks. Work goes in on one side, outcomes come out on the other, in the same order.
pub(super) struct Pipeline {
    work: mpsc::Sender<Work>,
    outcomes: mpsc::Receiver<Outcome>,
    tasks: JoinSet<Result<()>>,
}

impl Pipeline {
    pub(super) fn start(run: &Arc<Run>, lane: Box<dyn TargetLane>, lineage: Lineage) -> Self {
        let (work, gathered) = mpsc::channel(1);
        let (reduced, todo) = mpsc::channel(1);
        let (done, outcomes) = mpsc::channel(1);
        let stage = Stage::new(Arc::clone(&run.task.rules), run.task.target.abilities());
        let mut tasks = JoinSet::new();
        tasks.spawn(reduce_all(Arc::clone(run), stage, gathered, reduced));
        let applier = Applier {
            run: Arc::clone(run),
            lane,
            lineage,
            held: Held::default(),
            asked: Instant::now(),
            met: Vec::new(),
        };
        tasks.spawn(applier.run(todo, done));
        Self { work, outcomes, tasks }
    }

    pub(super) async fn send(&self, work: Work) -> Result<()> {
        self.work.send(work).await.map_err(|_| gone())
    }

    /// The next outcome. Cancel-safe.
    pub(super) async fn outcome(&mut self) -> Result<Outcome> {
        self.outcomes.recv().await.ok_or_else(gone)
    }

    /// Ends what is being done, if anything is: its transaction is rolled back.
    pub(super) fn abort(&mut self) {
        self.tasks.abort_all();
    }

    /// The error that ended it, if one did: whoever only saw the other end of a channel close has none.
    pub(super) async fn cause(self) -> Option<Error> {
        let Self { work, outcomes, mut tasks } = self;
        drop((work, outcomes));
        let mut first = None;
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.unwrap_or_else(|e| Err(Error::fatal("reducing or applying a set panicked").cause(e)));
            first = first.or(ended.err());
        }
        first
    }
}

fn gone() -> Error {
    Error::fatal("internal: the applier ended early")
}

async fn reduce_all(
    run: Arc<Run>,
    mut stage: Stage,
    mut gathered: mpsc::Receiver<Work>,
    reduced: mpsc::Sender<Ready>,
) -> Result<()> {
    while let Some(work) = gathered.recv().await {
        let ready = match work {
            Work::Apply(set, room) => {
                let rows = set.rows();
                let staged;
                let began = Instant::now();
                (stage, staged) = reduced_by(&run, stage, set).await?;
                run.task.reporter.passed(Station::Reduced, rows, began.elapsed());
                run.task.reporter.add(&staged.kept);
                run.task.reporter.misfits(&staged.misfits);
                Ready::Apply(Box::new(staged), rows, room)
            }
            Work::Commit(changes, tables) => {
                tables.iter().for_each(|t| stage.resume(t));
                Ready::Commit(changes)
            }
            Work::AskDurable(now) => Ready::AskDurable(now),
        };
        if reduced.send(ready).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Reduces a set, out of the way of others if it is large.
pub(super) async fn reduced_by(run: &Run, mut stage: Stage, mut set: ChangeSet) -> Result<(Stage, Staged)> {
    complete(run.task.source.as_ref(), &mut stage, &mut set).await?;
    if set.rows() <= REDUCED_AT_ONCE {
        let staged = stage.reduce(set)?;
        return Ok((stage, staged));
    }
    let reduce = spawn_blocking(move || {
        let staged = stage.reduce(set)?;
        Ok((stage, staged))
    });
    reduce.await.map_err(|e| Error::fatal("reducing a set panicked").cause(e))?
}

/// Changes of the record for those that met another row on the target than the source had.
pub(super) fn conflicts(applied: &[(TableId, TableCounts)]) -> Vec<RecordChange> {
    let met = applied.iter().filter(|(_, counts)| counts.conflicts > 0);
    met.map(|(id, counts)| RecordChange::Conflicts(id.clone(), counts.conflicts)).collect()
}

struct Applier {
    run: Arc<Run>,
    lane: Box<dyn TargetLane>,
    lineage: Lineage,
    held: Held,
    asked: Instant,
    /// Conflicts of a set that is still open.
    met: Vec<RecordChange>,
}

impl Applier {
    async fn run(mut self, mut todo: mpsc::Receiver<Ready>, done: mpsc::Sender<Outcome>) -> Result<()> {
        while let Some(ready) = todo.recv().await {
            let outcome = match ready {
                Ready::Apply(staged, rows, room) => {
                    let outcome = self.apply(*staged, rows).await?;
                    drop(room);
                    outcome
                }
                Ready::Commit(changes) => {
                    self.lane.refresh();
                    self.run.book.commit(self.lane.as_mut(), &changes).await?;
                    Outcome::Committed
                }
                Ready::AskDurable(now) => Outcome::Durable(self.lane.durable(now).await?),
            };
            if matches!(&outcome, Outcome::Durable(_) | Outcome::Applied { durable: Some(_), .. }) {
                self.asked = Instant::now();
            }
            if done.send(outcome).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn apply(&mut self, staged: Staged, rows: usize) -> Result<Outcome> {
        let Staged { set, changes, news, kept: _, misfits: _, sources } = staged;
        let span = set.span.clone();
        let (mut changes, news) = self.held.with(span.open, changes, news);
        if !span.open {
            let at = Checkpoint { lineage: self.lineage.clone(), position: span.end.clone() };
            changes.push(RecordChange::Checkpoint { lane: LaneId::MAIN, at, committed_at: span.committed_at });
        }
        let began = Instant::now();
        let applied = self.lane.apply(set, &changes).await.map_err(|e| sources.blame(e))?;
        self.run.book.note(&changes)?;
        self.run.task.reporter.passed(Station::Applied, rows, began.elapsed());
        tracing::debug!(rows, open = span.open, took = ?began.elapsed(), "applied a set");
        let counts = sources.of(applied);
        self.run.task.reporter.add(&counts);
        self.met.extend(conflicts(&counts));
        if !span.open && !self.met.is_empty() {
            let met = std::mem::take(&mut self.met);
            self.run.book.commit(self.lane.as_mut(), &met).await?;
        }
        let ask = !span.open && self.asked.elapsed() >= DURABLE_POLL;
        let durable = if ask { self.lane.durable(false).await? } else { None };
        Ok(Outcome::Applied { span, news, rows: rows as u64, durable })
    }
}
