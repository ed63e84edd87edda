//! What the parts of one attempt share: the record, the chunks at a time, what keeps the log, and how they meet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinError;

use crate::error::{Error, Result};
use crate::ports::StreamTable;
use crate::position::Position;
use crate::record::{RecordChange, TableRecord, TableState};
use crate::routes::Routes;
use crate::schema::{Catalog, TableId, TableSchema};

use super::book::Book;
use super::control::Control;
use super::task::Task;

/// Tables want to go on with the others from where the main stream is.
pub(super) struct Ask {
    pub(super) meeting: oneshot::Sender<Meeting>,
    /// How long the main stream may have to wait for them.
    pub(super) patience: Duration,
}

/// How long the main stream waits for tables that are about to join, unless they cannot come as near as that.
pub(super) const MEETING: Duration = Duration::from_secs(5);

/// The main stream waits.
pub(super) struct Meeting {
    /// Everything before has been read, and no change of a table that joins has been taken in.
    pub(super) at: Position,
    /// The tables that join here. Dropped, the main stream goes on without.
    pub(super) join: oneshot::Sender<Vec<StreamTable>>,
}

/// What the parts of an attempt share.
pub(super) struct Run {
    pub(super) task: Task,
    pub(super) control: Control,
    pub(super) book: Book,
    /// The task was not known when the attempt began: what stands against a table stops it.
    starting: bool,
    /// Chunks that may be read and written at a time.
    pub(super) chunks: Arc<Semaphore>,
    pub(super) asks: mpsc::Sender<Ask>,
    /// What selects tables at the source is changed by one at a time. Tables that are selected there and that the
    /// record does not have yet: who comes next must not take them out again.
    publishing: tokio::sync::Mutex<Vec<Arc<TableSchema>>>,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    /// How far the main stream has read.
    reached: Option<Position>,
    /// What the source has been told that it may forget.
    released: Option<Position>,
    /// From where on loads that are under way need the log.
    holds: BTreeMap<u64, Position>,
    next: u64,
}

/// Keeps the source's log from a place on while it lives.
pub(super) struct Hold {
    run: Arc<Run>,
    number: u64,
}

impl Run {
    pub(super) fn new(task: &Task, control: &Control, book: Book, starting: bool) -> (Arc<Self>, mpsc::Receiver<Ask>) {
        let (asks, asked) = mpsc::channel(1);
        let run = Self {
            task: task.clone(),
            control: control.clone(),
            book,
            starting,
            chunks: Arc::new(Semaphore::new(task.plan.load.workers.max(1))),
            asks,
            publishing: tokio::sync::Mutex::default(),
            places: Mutex::default(),
        };
        (Arc::new(run), asked)
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing of the task is followed yet that an error about one table could stop.
    pub(super) fn is_starting(&self) -> bool {
        self.starting && self.reached().is_none()
    }

    /// How far the main stream has read; `None` while it has not begun.
    pub(super) fn reached(&self) -> Option<Position> {
        self.places().reached.clone()
    }

    pub(super) fn set_reached(&self, at: Position) {
        self.places().reached = Some(at);
    }

    /// What of `durable` the source may forget: not what tables that are not with the others yet still need.
    pub(super) fn release(&self, durable: Option<Position>) -> Option<Position> {
        let low = self.book.low();
        let mut places = self.places();
        let held = places.holds.values().min().cloned();
        let free = [durable?].into_iter().chain(low).chain(held).min();
        // What has been told is not taken back.
        places.released = free.max(places.released.take());
        places.released.clone()
    }

    /// Keeps the log from here on.
    pub(super) fn hold(self: &Arc<Self>) -> Hold {
        let mut places = self.places();
        let number = places.next;
        places.next += 1;
        let from =
            places.released.clone().or_else(|| self.book.read(|r| Some(r.checkpoint.as_ref()?.position.clone())));
        if let Some(from) = from {
            places.holds.insert(number, from);
        }
        Hold { run: Arc::clone(self), number }
    }

    /// The source's tables as they are now, and where they go.
    pub(super) async fn look(&self) -> Result<(Catalog, Routes)> {
        self.task.look().await
    }

    /// Tables that the source has selected with the first snapshot, and that come into the record one by one.
    pub(super) async fn selected(&self, tables: Vec<Arc<TableSchema>>) {
        self.publishing.lock().await.extend(tables);
    }

    /// Brings what selects tables at the source in step with the record and these tables.
    pub(super) async fn publish(&self, more: &[Arc<TableSchema>]) -> Result<()> {
        let mut coming = self.publishing.lock().await;
        let new: BTreeSet<&TableId> = more.iter().map(|t| &t.id).collect();
        let (mut tables, followed) = self.book.read(|record| {
            coming.retain(|t| !new.contains(&t.id) && record.table(&t.id).is_none_or(|known| !has_come(known, t)));
            // What waits to be taken up is selected by whoever takes it up.
            let left = [TableState::Suspended, TableState::Preparing, TableState::Reload];
            let known = record.tables.iter().filter(|t| !left.contains(&t.state));
            let tables: Vec<Arc<TableSchema>> = known.clone().map(|t| Arc::clone(&t.source)).collect();
            let followed: Vec<TableId> = known.filter(|t| is_followed(t)).map(|t| t.id().clone()).collect();
            (tables, followed)
        });
        coming.extend(more.iter().cloned());
        tables.retain(|t| !coming.iter().any(|new| new.id == t.id));
        tables.extend(coming.iter().cloned());
        let selected = self.task.source.select(&tables, &followed).await;
        if selected.is_err() {
            coming.retain(|t| !more.iter().any(|new| new.id == t.id));
        }
        selected
    }

    /// Leaves a table out from here on, so that the others go on. It need not be known before.
    pub(super) async fn suspend(
        &self,
        lane: &mut dyn crate::ports::TargetLane,
        table: &TableRecord,
        error: &Error,
    ) -> Result<()> {
        let remedy = error.way_back(table.id());
        let reason = error.reason();
        tracing::error!(task = %self.task.plan.name, table = %table.id(), "suspended: {reason} (remedy: {remedy})");
        let mut changes = Vec::new();
        if self.book.state(table.id()).is_none() {
            changes.push(RecordChange::Table(Box::new(table.clone())));
        }
        changes.push(RecordChange::suspend(table.id(), &reason, &remedy));
        self.book.commit(lane, &changes).await
    }
}

/// Whether the record says of a table what was selected, or that it is left out.
fn has_come(known: &TableRecord, selected: &TableSchema) -> bool {
    match known.state {
        TableState::Suspended => true,
        TableState::Loading | TableState::Ready => known.source.native_id == selected.native_id,
        TableState::Preparing | TableState::Reload => false,
    }
}

/// Whether changes of a table that have been in the log since it was loaded are needed.
pub(super) fn is_followed(table: &TableRecord) -> bool {
    table.state == TableState::Ready || (table.state == TableState::Loading && table.low().is_some())
}

impl Hold {
    /// The log before this place is not needed any more.
    pub(super) fn from(&self, place: &Position) {
        self.run.places().holds.insert(self.number, place.clone());
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.run.places().holds.remove(&self.number);
    }
}

/// What is written down of tables that join.
pub(super) fn made_ready(tables: &[StreamTable]) -> Vec<RecordChange> {
    tables.iter().map(|t| RecordChange::state(&t.schema.id, TableState::Ready)).collect()
}

/// Tables that have been handed to the main stream, by their names at the source.
pub(super) type Joined = Mutex<BTreeSet<TableId>>;

/// The tables of each group.
pub(super) type Taken = Vec<(tokio::task::Id, Vec<TableId>)>;

/// Its tables are free for another group.
pub(super) fn group_ended(
    taken: &mut Taken,
    ended: std::result::Result<(tokio::task::Id, Result<()>), JoinError>,
) -> Result<()> {
    let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
    taken.retain(|(group, _)| *group != id);
    let panicked = |e| Err(Error::fatal("loading beside the stream panicked").cause(e));
    ended.map_or_else(panicked, |(_, ended)| ended)
}
