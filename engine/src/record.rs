//! What is remembered of a task: the record. The engine decides what is in it and keeps it in memory while the task
//! runs; a target stores it, change by change, in the transactions that it speaks of.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::chunk::{Chunk, LoadedChunk};
use crate::error::{Class, Error, Result};
use crate::position::{Checkpoint, Lineage, Position};
use crate::quarantine::Quarantined;
use crate::remedy::Remedy;
use crate::schema::{TableId, TableSchema};
use crate::side::Side;

/// Fencing number: who took the task over last is the only one that can commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub i64);

/// Which lane of a task a checkpoint belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u16);

impl LaneId {
    /// The lane that follows the log for all tables that are ready. So far the only one with a checkpoint of its own.
    pub const MAIN: Self = Self(0);
}

/// The state of one table of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableState {
    /// Its target table is about to be made. Stored only for a target whose DDL is not transactional, so that a table
    /// found there after a crash is known to be trem's own.
    Preparing,
    /// The target table stands; rows are being loaded chunk by chunk, then caught up.
    Loading,
    /// All chunks are in, keys are built, the main lane applies its changes.
    Ready,
    /// No change is applied until the table is loaded again.
    Suspended,
    /// To be emptied and loaded again.
    Reload,
}

impl TableState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Preparing, Self::Loading, Self::Ready, Self::Suspended, Self::Reload];

    /// The name in the record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Suspended => "suspended",
            Self::Reload => "reload",
        }
    }

    /// The state of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// How a target table came to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// trem created it.
    pub created: bool,
    /// It had rows when the task met it, and they stay.
    pub keeps_rows: bool,
}

/// What is remembered of a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRecord {
    /// The chunk.
    pub chunk: Chunk,
    /// The place in the log that it was read at, once it is in.
    pub done: Option<Position>,
    /// Rows loaded.
    pub rows: u64,
}

/// What is remembered of a table. Its name at the source is its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRecord {
    /// The source's shape up to which changes have been applied.
    pub source: Arc<TableSchema>,
    /// The shape that the target has.
    pub target: Arc<TableSchema>,
    /// The state.
    pub state: TableState,
    /// How the target table came to be.
    pub origin: Origin,
    /// Why it is suspended, or to be loaded again.
    pub reason: Option<String>,
    /// What the operator should do about it.
    pub remedy: Option<Remedy>,
    /// The chunks of its load; empty before they are planned.
    pub chunks: Vec<ChunkRecord>,
    /// Every change of this table that committed before is on the target, wherever the checkpoint is: set while it
    /// catches up on its own.
    pub position: Option<Position>,
    /// Changes since the load that met another row on the target than the source had, or none, and were put right: at
    /// least so many.
    pub conflicts: u64,
    /// Changes that are set aside because a rule could not be applied to them; the target knows better what has become
    /// of them since.
    pub quarantined: u64,
}

impl TableRecord {
    /// A table that nothing is known of yet.
    pub fn new(source: &Arc<TableSchema>, target: &Arc<TableSchema>, state: TableState) -> Self {
        Self {
            source: Arc::clone(source),
            target: Arc::clone(target),
            state,
            origin: Origin::default(),
            reason: None,
            remedy: None,
            chunks: Vec::new(),
            position: None,
            conflicts: 0,
            quarantined: 0,
        }
    }

    /// The name at the source.
    pub fn id(&self) -> &TableId {
        &self.source.id
    }

    /// The chunks that are in, each with the place it was read at.
    pub fn loaded(&self) -> Vec<LoadedChunk> {
        let done = |c: &ChunkRecord| Some(LoadedChunk { range: c.chunk.range.clone(), snapshot: c.done.clone()? });
        self.chunks.iter().filter_map(done).collect()
    }

    /// From where on the log is needed to bring the loaded rows to where the others are; `None` while nothing is
    /// loaded.
    pub fn low(&self) -> Option<Position> {
        let read_at = self.chunks.iter().filter_map(|c| c.done.as_ref());
        self.position.clone().or_else(|| read_at.min().cloned())
    }

    /// Whether it has been followed, and catches up beside the others because it could not go on with them.
    pub fn is_aside(&self) -> bool {
        self.state == TableState::Loading && self.position.is_some() && self.reason.is_some()
    }

    /// Rows of the chunks that are in.
    pub fn rows_loaded(&self) -> u64 {
        self.chunks.iter().filter(|c| c.done.is_some()).map(|c| c.rows).sum()
    }

    /// Whether any chunk is in.
    pub fn any_chunk_done(&self) -> bool {
        self.chunks.iter().any(|c| c.done.is_some())
    }
}

/// An error that has stayed for so long that somebody should look at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// The tables that are held up, by their names at the source; none where it is the task as a whole.
    pub tables: Vec<TableId>,
    /// Since when, by the clock of this process.
    pub since: SystemTime,
    /// How often it was tried.
    pub times: u64,
    /// What may be done about it.
    pub class: Class,
    /// What happened the last time.
    pub reason: String,
    /// What the operator should do.
    pub remedy: Option<Remedy>,
}

/// What is remembered of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskRecord {
    /// The history being followed; written before anything is created at the source.
    pub lineage: Option<Lineage>,
    /// The durable resume point of the main lane; written when the log is retained from there on.
    pub checkpoint: Option<Checkpoint>,
    /// When the last transaction before the checkpoint committed at the source, by the source's clock.
    pub committed_at: Option<SystemTime>,
    /// The tables, by their name at the source.
    pub tables: Vec<TableRecord>,
    /// Tables that somebody outside of the running task wants to be loaded again.
    pub requests: Vec<TableId>,
    /// What keeps failing and is tried again.
    pub failing: Vec<Failing>,
}

/// One change of the record.
#[derive(Clone, Debug)]
pub enum RecordChange {
    /// The history that will be followed.
    Begin(Lineage),
    /// Everything before this place has taken effect.
    Checkpoint {
        /// In this lane.
        lane: LaneId,
        /// The place.
        at: Checkpoint,
        /// When the last transaction before it committed, if there was one.
        committed_at: Option<SystemTime>,
    },
    /// A table as a whole, without its chunks, which are forgotten.
    Table(Box<TableRecord>),
    /// The chunks of a load that is about to begin.
    Chunks(TableId, Vec<Chunk>),
    /// A chunk is in.
    ChunkDone {
        /// Its table.
        table: TableId,
        /// Its number.
        chunk: u32,
        /// The place in the log that it was read at.
        snapshot: Position,
        /// Its rows.
        rows: u64,
    },
    /// Another state, and why.
    State {
        /// The table.
        table: TableId,
        /// The state.
        state: TableState,
        /// Why.
        reason: Option<String>,
        /// What the operator should do.
        remedy: Option<Remedy>,
    },
    /// Another shape.
    Shape {
        /// The source's.
        source: Arc<TableSchema>,
        /// The target's.
        target: Arc<TableSchema>,
    },
    /// The same shape, and more of the source's table's past.
    Source(Arc<TableSchema>),
    /// Changes of tables that catch up on their own have been applied up to here.
    Position(Vec<TableId>, Position),
    /// So many more changes of a table met another row on the target than the source had.
    Conflicts(TableId, u64),
    /// The table is no longer part of the task.
    Forget(TableId),
    /// A request to load a table again has been taken up.
    Taken(TableId),
    /// All that keeps failing now.
    Failing(Vec<Failing>),
    /// Changes that were set aside. The target keeps them; the record has their number.
    Quarantine(Vec<Quarantined>),
}

impl RecordChange {
    /// A table that is left out from now on.
    pub fn suspend(table: &TableId, reason: &str, remedy: &Remedy) -> Self {
        Self::State {
            table: table.clone(),
            state: TableState::Suspended,
            reason: Some(reason.to_owned()),
            remedy: Some(remedy.clone()),
        }
    }

    /// A table in another state, without a reason.
    pub fn state(table: &TableId, state: TableState) -> Self {
        Self::State { table: table.clone(), state, reason: None, remedy: None }
    }
}

impl TaskRecord {
    /// The table of this name at the source.
    pub fn table(&self, id: &TableId) -> Option<&TableRecord> {
        self.tables.iter().find(|t| t.source.id == *id)
    }

    /// The table of this name on the target.
    pub fn of_target(&self, id: &TableId) -> Option<&TableRecord> {
        self.tables.iter().find(|t| t.target.id == *id)
    }

    /// The table that an error is about.
    pub fn about(&self, error: &Error) -> Option<&TableRecord> {
        let id = error.table_id()?;
        match error.side()? {
            Side::Source => self.table(id),
            Side::Target => self.of_target(id),
        }
    }

    /// The state of a table, if it is known.
    pub fn state(&self, id: &TableId) -> Option<TableState> {
        self.table(id).map(|t| t.state)
    }

    /// Whether nothing has begun.
    pub fn is_new(&self) -> bool {
        self.checkpoint.is_none() && self.tables.is_empty()
    }

    fn known(&mut self, id: &TableId) -> Result<&mut TableRecord> {
        let unknown = || Error::fatal("internal: the record does not know this table").table(id);
        self.tables.iter_mut().find(|t| t.source.id == *id).ok_or_else(unknown)
    }

    /// Takes a change in that the target has committed.
    ///
    /// # Errors
    /// Class `Fatal` for a change of what the record does not have.
    pub fn apply(&mut self, change: &RecordChange) -> Result<()> {
        match change.clone() {
            RecordChange::Begin(lineage) => self.lineage = Some(lineage),
            RecordChange::Checkpoint { lane: _, at, committed_at } => {
                self.lineage = Some(at.lineage.clone());
                self.checkpoint = Some(at);
                self.committed_at = committed_at.or(self.committed_at);
            }
            RecordChange::Table(table) => {
                let table = TableRecord { chunks: Vec::new(), ..*table };
                match self.tables.iter_mut().find(|t| t.source.id == table.source.id) {
                    Some(known) => *known = table,
                    None => {
                        let place = self.tables.partition_point(|t| t.source.id < table.source.id);
                        self.tables.insert(place, table);
                    }
                }
            }
            RecordChange::Chunks(id, chunks) => {
                let planned = chunks.into_iter().map(|chunk| ChunkRecord { chunk, done: None, rows: 0 });
                let table = self.known(&id)?;
                (table.chunks, table.quarantined) = (planned.collect(), 0);
            }
            RecordChange::ChunkDone { table, chunk, snapshot, rows } => {
                let unplanned = || Error::fatal("internal: a chunk was loaded that was not planned").table(&table);
                let found = self.known(&table)?.chunks.iter_mut().find(|c| c.chunk.id == chunk);
                let found = found.ok_or_else(unplanned)?;
                (found.done, found.rows) = (Some(snapshot), rows);
            }
            RecordChange::State { table, state, reason, remedy } => {
                let known = self.known(&table)?;
                (known.state, known.reason, known.remedy) = (state, reason, remedy);
            }
            RecordChange::Shape { source, target } => {
                let known = self.known(&source.id)?;
                (known.source, known.target) = (source, target);
            }
            RecordChange::Source(source) => {
                let known = self.known(&source.id)?;
                known.source = source;
            }
            RecordChange::Position(tables, position) => {
                for table in tables {
                    self.known(&table)?.position = Some(position.clone());
                }
            }
            RecordChange::Conflicts(table, more) => self.known(&table)?.conflicts += more,
            RecordChange::Forget(table) => self.tables.retain(|t| t.source.id != table),
            RecordChange::Taken(table) => self.requests.retain(|r| *r != table),
            RecordChange::Failing(failing) => self.failing = failing,
            RecordChange::Quarantine(changes) => {
                for change in changes {
                    self.known(&change.table)?.quarantined += 1;
                }
            }
        }
        Ok(())
    }
}
