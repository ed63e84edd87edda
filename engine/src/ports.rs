//! The ports: what a source and a target must be able to do. Adapters live in `trem-endpoints`.
//!
//! One [`Source`] and one [`Target`] value serve one task for as long as the process runs; streams, snapshots,
//! lanes and loaders live for one attempt and are dropped on any error.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::change::{ChangeBatch, ChangeSet, TableCounts};
use crate::error::Result;
use crate::position::{Checkpoint, Lineage, Position};
use crate::route::Route;
use crate::schema::{Catalog, SecondaryObject, TableId, TableSchema, TypeDefinition};
use crate::task::{BatchLimits, OnExisting, Selection};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As it should be, worth saying.
    Ok,
    /// Works, but the operator should know.
    Warning,
    /// The task is refused until this is mended.
    Error,
}

/// One result of looking at an endpoint before anything is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// The setting, privilege or table looked at.
    pub subject: String,
    /// What was found.
    pub message: String,
    /// The statement or setting that mends it.
    pub remedy: Option<String>,
}

/// What a snapshot is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotKind {
    /// The task's first: creates what retains the log from here on (PostgreSQL: publication and slot). A start that
    /// was cut off may have left one of this task's name, which is dropped: see [`Source::vacant`].
    Initial,
    /// A later one, for tables that are not loaded yet, while the log is retained since the first.
    Additional,
    /// For a task that never follows the log: nothing is created at the source.
    Standalone,
}

/// A bound of a key range: a value the engine and the source order alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyBound {
    /// Integers, dates and timestamps, as they stand in Arrow.
    Int(i64),
    /// Values ordered byte by byte: uuid, text under the C collation (hex in the record).
    Bytes(Vec<u8>),
}

/// Which rows of a table a chunk holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChunkRange {
    /// All.
    Whole,
    /// Meaningful within one snapshot only (PostgreSQL: blocks); read by the source alone.
    Physical(String),
    /// Rows with `lower <= key < upper`; means the same under every snapshot.
    Key {
        /// Index of the first key column in the table's columns.
        column: usize,
        /// Inclusive; `None` is unbounded.
        lower: Option<KeyBound>,
        /// Exclusive; `None` is unbounded.
        upper: Option<KeyBound>,
    },
}

impl ChunkRange {
    /// Whether the range still means the same rows under a later snapshot.
    pub fn survives(&self) -> bool {
        matches!(self, Self::Key { .. })
    }
}

/// A part of a table that is read in one go and becomes visible on the target in one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Number within the table, from 0.
    pub id: u32,
    /// Its rows.
    pub range: ChunkRange,
    /// Estimated number of rows, for progress only.
    pub rows: u64,
}

/// How to cut a table into chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkOptions {
    /// Wanted size of a chunk in bytes of the source's storage.
    pub chunk_bytes: u64,
    /// How many are wanted at least, of a table that is not small, so that there is one for each worker.
    pub parts: u64,
    /// Tables of at least this many bytes are cut by key, so that an interrupted load goes on.
    pub resume_above_bytes: u64,
    /// Physical ranges may be used: an interrupted table may be emptied and read again.
    pub physical: bool,
}

/// A chunk that the target already holds, and the snapshot it was read at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedChunk {
    /// Its rows.
    pub range: ChunkRange,
    /// Every change committed before this place is in the rows.
    pub snapshot: Position,
}

/// One table of a stream.
#[derive(Clone, Debug)]
pub struct StreamTable {
    /// The shape that the target has now: an older one than the source's, if the log has still to get there.
    pub schema: Arc<TableSchema>,
    /// The chunks of the table's load, if any was read at a snapshot later than where the stream starts: the
    /// stream leaves out changes of a chunk's rows that committed before its snapshot. Otherwise empty.
    pub loaded: Vec<LoadedChunk>,
}

/// What to stream, and from where.
#[derive(Clone, Debug)]
pub struct StreamRequest {
    /// The durable checkpoint; its lineage has been verified by [`Source::verify`].
    pub from: Position,
    /// The tables, suspended ones left out: changes of any other table are ignored.
    pub tables: Vec<StreamTable>,
    /// When a set is full.
    pub limits: BatchLimits,
}

/// A database that rows and changes come from.
#[async_trait]
pub trait Source: Send + Sync {
    /// A text that is equal for two endpoints exactly when they are the same database.
    async fn identity(&self) -> Result<String>;

    /// The tables selected, as they are now.
    async fn discover(&self, want: &Selection) -> Result<Catalog>;

    /// Looks at everything that could stop the task later; changes nothing. `cdc`: the log will be followed.
    async fn check(&self, want: &Selection, cdc: bool) -> Result<Vec<Finding>>;

    /// The history that this source's positions belong to now.
    async fn lineage(&self) -> Result<Lineage>;

    /// Whether nothing at the source has the name of what this task would create there. Asked before the task has
    /// written down that it starts: what is found later is its own.
    ///
    /// # Errors
    /// Class `Refused` when something has: it belongs to someone else.
    async fn vacant(&self) -> Result<()>;

    /// A place in the log behind every change committed before the call.
    async fn current(&self) -> Result<Position>;

    /// Verifies that the log can be followed from `checkpoint` without a gap; changes nothing. Returns the lineage that
    /// positions have from now on: another one than the checkpoint's when the same history has gone on under another
    /// name.
    ///
    /// # Errors
    /// Class `Lineage` when the history is another or the log since the checkpoint is gone.
    async fn verify(&self, checkpoint: &Checkpoint) -> Result<Lineage>;

    /// Brings what selects tables at the source (PostgreSQL: the publication) in step with `tables`. Those named in
    /// `followed` have been selected there all the time since the checkpoint.
    ///
    /// # Errors
    /// Class `Lineage` when a table that was followed is not selected there any more.
    async fn select(&self, tables: &[Arc<TableSchema>], followed: &[TableId]) -> Result<()>;

    /// Takes a snapshot of all `tables` at one place in the log.
    async fn snapshot(&self, tables: &[Arc<TableSchema>], kind: SnapshotKind) -> Result<Box<dyn Snapshot>>;

    /// Follows the log.
    async fn stream(&self, request: StreamRequest) -> Result<Box<dyn ChangeStream>>;

    /// Removes everything this task created at the source. What is not there is not an error.
    async fn retire(&self) -> Result<()>;

    /// How much log the source retains for this task, in bytes; `None` where it cannot say.
    async fn retained_bytes(&self) -> Result<Option<u64>>;
}

/// The tables of a source at one place in its log.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// The place: every change committed before it is in the rows, no later one is.
    fn start(&self) -> &Position;

    /// Cuts a table into chunks that together hold every row once.
    async fn chunks(&self, table: &Arc<TableSchema>, options: ChunkOptions) -> Result<Vec<Chunk>>;

    /// Reads a chunk in batches of at most about `batch_bytes`. Chunks are read concurrently.
    fn read<'a>(
        &'a self,
        table: &'a Arc<TableSchema>,
        chunk: &'a Chunk,
        batch_bytes: usize,
    ) -> BoxStream<'a, Result<ChangeBatch>>;
}

/// The log of a source, from one place on.
///
/// Reading and taking are two steps, so that changes gather while the target is busy: sets are small when the
/// target keeps up and large when it is behind.
#[async_trait]
pub trait ChangeStream: Send {
    /// Reads on until [`ChangeStream::ready`] may have changed. Cancel-safe. Answers the server's keepalives.
    async fn fill(&mut self) -> Result<()>;

    /// Tells whether the target has nothing to do: then reading may take more of the source. Called before each fill.
    fn pace(&mut self, _idle: bool) {}

    /// Whether [`ChangeStream::take`] has something to give: gathered transactions that are whole, a part of
    /// one that exceeds the limits, or a position that moved on without changes.
    fn ready(&self) -> bool;

    /// Whether the limits are reached, so that [`ChangeStream::fill`] must wait for a take.
    fn full(&self) -> bool;

    /// What has been gathered; `None` unless ready. A set without steps only moves the position on.
    fn take(&mut self) -> Result<Option<ChangeSet>>;

    /// Tells the source what the target durably has, if that is known yet. Also to be called at least every few
    /// seconds while nothing is filled, or the server takes the connection for dead.
    async fn ack(&mut self, durable: Option<&Position>) -> Result<()>;

    /// Ends reading in order, and tells the source once more what is `durable`, so that it lets go of the log before
    /// that although nobody reads from it any more. Nothing else is called afterwards.
    async fn close(&mut self, durable: Option<&Position>) -> Result<()>;
}

/// The state of one table of a task. Stored on the target, changed together with the rows it speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableState {
    /// Set by `prepare`: the target table stands, rows are being loaded chunk by chunk.
    Loading,
    /// Set by `finish_table`: all chunks are in, keys are built, changes are applied.
    Ready,
    /// Set by `apply` (a schema change): no change is applied until the operator reloads the table.
    Suspended,
    /// Set by `trem reload`: the next start empties the table and loads it again.
    Reload,
}

/// What the target remembers of a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRecord {
    /// The chunk.
    pub chunk: Chunk,
    /// The snapshot it was read at, once it is in.
    pub done: Option<Position>,
    /// Rows loaded.
    pub rows: u64,
}

/// What the target remembers of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRecord {
    /// The shape up to which changes have been applied.
    pub schema: Arc<TableSchema>,
    /// The state.
    pub state: TableState,
    /// Why it is suspended.
    pub reason: Option<String>,
    /// What the operator should do about it.
    pub remedy: Option<String>,
    /// The chunks of its load; empty before they are planned.
    pub chunks: Vec<ChunkRecord>,
}

/// What the target remembers of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskRecord {
    /// The history being followed; written before anything is created at the source.
    pub lineage: Option<Lineage>,
    /// The durable resume point; written when the log is retained from there on.
    pub checkpoint: Option<Checkpoint>,
    /// When the last transaction before the checkpoint committed at the source, by the source's clock.
    pub committed_at: Option<SystemTime>,
    /// The tables.
    pub tables: Vec<TableRecord>,
}

/// What `plan` says about one table.
#[derive(Clone, Debug)]
pub struct TablePreview {
    /// The target table.
    pub table: Arc<TableSchema>,
    /// Whether it exists on the target now.
    pub exists: bool,
    /// Statements that the run would execute before loading it, and after.
    pub ddl: Vec<String>,
    /// Everything that speaks for or against it.
    pub findings: Vec<Finding>,
}

/// Fencing number: the lane that was opened last is the only one that can commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub i64);

/// What an apply did.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Per table. inserted + updated + deleted + merged is the number of changes in the set.
    pub tables: Vec<(TableId, TableCounts)>,
}

/// A database that rows and changes go to.
#[async_trait]
pub trait Target: Send + Sync {
    /// See [`Source::identity`].
    async fn identity(&self) -> Result<String>;

    /// Looks at privileges and settings; changes nothing.
    async fn check(&self) -> Result<Vec<Finding>>;

    /// What a run would do for these tables, and what stands against it; changes nothing.
    async fn plan(&self, catalog: &Catalog, on_existing: OnExisting, load: bool) -> Result<Vec<TablePreview>>;

    /// What is remembered of the task; `None` when nothing is. Changes nothing, takes no lock.
    async fn record(&self) -> Result<Option<TaskRecord>>;

    /// Opens the lane, creating the bookkeeping if it is missing and taking a new epoch, which locks every
    /// earlier lane and loader of this task out.
    async fn open_lane(&self) -> Result<Box<dyn TargetLane>>;

    /// Opens a connection that loads chunks under `epoch`.
    async fn open_loader(&self, epoch: Epoch) -> Result<Box<dyn Loader>>;

    /// Marks a table to be loaded again at the next start.
    async fn reload(&self, table: &TableId) -> Result<()>;

    /// Forgets the task. What is not there is not an error.
    async fn forget(&self) -> Result<()>;
}

/// One target connection with its checkpoint. Every method that writes checks the epoch in its transaction.
/// Only what `apply` commits may be taken back by a crash of the target; everything else is durable on return.
#[async_trait]
pub trait TargetLane: Send {
    /// The epoch taken.
    fn epoch(&self) -> Epoch;

    /// What is remembered of the task.
    async fn record(&mut self) -> Result<TaskRecord>;

    /// Remembers the history, before anything is created at the source.
    async fn begin(&mut self, lineage: &Lineage) -> Result<()>;

    /// Creates the user-defined types that are missing.
    async fn prepare_types(&mut self, types: &[TypeDefinition]) -> Result<()>;

    /// Creates the table, or fits the existing one as `on_existing` says, and remembers it as `Loading`
    /// (`load`) or `Ready` (no load). Refuses what cannot fit.
    async fn prepare(&mut self, table: &Arc<TableSchema>, on_existing: OnExisting, load: bool) -> Result<()>;

    /// Remembers the chunks of a table about to be loaded. `empty`: rows of an interrupted load go first.
    async fn plan_chunks(&mut self, table: &Arc<TableSchema>, chunks: &[Chunk], empty: bool) -> Result<()>;

    /// Builds keys and indexes after the last chunk and marks the table `Ready`. Idempotent.
    async fn finish_table(&mut self, table: &Arc<TableSchema>) -> Result<()>;

    /// Creates those of these objects that are not there. One that cannot be created is told of and passed over: the
    /// rows are right without it.
    async fn create_secondary(&mut self, _objects: &[SecondaryObject]) -> Result<()> {
        Ok(())
    }

    /// Marks a table `Suspended`: it cannot be taken up, the others go on. It need not be known before.
    async fn suspend(&mut self, table: &Arc<TableSchema>, reason: &str, remedy: &str) -> Result<()>;

    /// Forgets a table that is no longer part of the task; its rows stay.
    async fn forget_table(&mut self, table: &TableId) -> Result<()>;

    /// Applies a set. Rows, checkpoint and epoch check commit in one transaction; committed on return, unless
    /// the set is open.
    async fn apply(&mut self, set: ChangeSet, next: &Checkpoint) -> Result<Applied>;

    /// The last checkpoint that a crash of the target cannot take back, of this lane or an earlier one; `None`
    /// while none is known to be. `now`: what is committed is made so, where otherwise the target's own background
    /// writing would take its time; a set that was left open is rolled back for it, and ends the lane.
    async fn durable(&mut self, now: bool) -> Result<Option<Position>>;
}

/// One target connection that loads chunks.
#[async_trait]
pub trait Loader: Send {
    /// Begins a chunk.
    async fn start_chunk(&mut self, table: &Arc<TableSchema>, chunk: &Chunk) -> Result<()>;

    /// Writes rows of the chunk at hand; the bulk stream stays open in between.
    async fn load(&mut self, rows: ChangeBatch) -> Result<()>;

    /// Commits the rows together with the note that the chunk is in, read at `snapshot`. Returns the rows.
    async fn finish_chunk(&mut self, snapshot: &Position) -> Result<u64>;
}

/// What becomes of tables on their way.
pub trait Rules: Send + Sync {
    /// Where rows of `table` go.
    ///
    /// # Errors
    /// Class `Refused` where the rules cannot be applied to this table.
    fn route(&self, table: &Arc<TableSchema>) -> Result<Route>;
}

/// Every table as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRules;

impl Rules for NoRules {
    fn route(&self, table: &Arc<TableSchema>) -> Result<Route> {
        Ok(Route::straight(Arc::clone(table)))
    }
}

/// A pure function over batches.
pub trait Transform: Send + Sync {
    /// The shape of what comes out.
    fn schema(&self, input: &Arc<TableSchema>) -> Result<Arc<TableSchema>>;

    /// The rows that come out.
    fn rows(&self, input: ChangeBatch) -> Result<ChangeBatch>;
}
