//! The ports: what a source and a target must be able to do. Adapters live in `trem-endpoints`.
//!
//! One [`Source`] and one [`Target`] value serve one task for as long as the process runs; streams, snapshots,
//! lanes and loaders live for one attempt and are dropped on any error.

mod browse;
mod finding;
mod preview;
mod rows;
mod rules;

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::change::{ChangeBatch, Gather, ReducedSet, Reduction, TableCounts};
use crate::chunk::{Chunk, LoadedChunk};
use crate::condition::Condition;
use crate::error::{Error, Result};
use crate::position::{Checkpoint, Lineage, Position};
use crate::quarantine::QuarantineEntry;
use crate::record::{Epoch, RecordChange, TableRecord, TaskRecord};
use crate::schema::{
    Catalog, Identity, SchemaChange, SchemaChangeKind, SecondaryObject, TableId, TableSchema, TypeDefinition,
};
use crate::task::{OnExisting, Selection};

pub use browse::{Browse, Listed};
pub use finding::{Finding, Severity};
pub use preview::{Ddl, DdlKind, TablePreview};
pub use rows::{Look, Mend};
pub use rules::{NoRules, Rules, Unmatched};

/// What a snapshot is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotKind {
    /// The task's first: creates what retains the log from here on. A start that was cut off may have left that of
    /// this task's name, which is dropped: see [`Source::vacant`].
    Initial,
    /// A later one, for tables that are not loaded yet, while the log is retained since the first.
    Additional,
    /// For a task that never follows the log: nothing is created at the source.
    Standalone,
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

/// One table of a stream.
#[derive(Clone, Debug)]
pub struct StreamTable {
    /// The shape up to which changes have been applied: an older one than the source's, if the log has still to get
    /// there.
    pub schema: Arc<TableSchema>,
    /// Changes of the table that committed before are on the target and are left out; `None` where the stream starts
    /// no earlier.
    pub from: Option<Position>,
    /// The chunks of the table's load, if any was read at a later place than that: the stream leaves out changes of a
    /// chunk's rows that committed before it was read. Otherwise empty.
    pub loaded: Vec<LoadedChunk>,
}

/// What to stream, and from where.
#[derive(Clone, Debug)]
pub struct StreamRequest {
    /// A place whose lineage has been verified by [`Source::verify`], and from which on the log is retained.
    pub from: Position,
    /// The tables, suspended ones left out: changes of any other table are ignored.
    pub tables: Vec<StreamTable>,
    /// Tables that will be [added](ChangeStream::add) later.
    pub expected: Vec<Arc<TableSchema>>,
    /// Which of the task's streams it is.
    pub role: StreamRole,
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamRole {
    /// The task's own: what it acknowledges lets the source forget its log.
    Main,
    /// Beside that one, for tables that catch up with it. It retains nothing and lets nothing go.
    Aside,
}

/// A database that rows and changes come from.
#[async_trait]
pub trait Source: Send + Sync {
    /// A text that is equal for two endpoints exactly when they are the same database.
    async fn identity(&self) -> Result<String>;

    /// The tables selected, as they are now.
    async fn discover(&self, want: &Selection) -> Result<Catalog>;

    /// Looks at everything that could stop the task later, with every kind of connection that it will have; changes
    /// nothing. `cdc`: the log will be followed; `readers`: how many chunks will be read at a time. A pattern that
    /// covers nothing is an error: the source knows what else is there that may have been meant.
    async fn check(&self, want: &Selection, cdc: bool, readers: usize) -> Result<Vec<Finding>>;

    /// What stands against reading these tables, and against following their changes if they are to be followed: class
    /// `Refused`, each error with its table and what mends it.
    async fn obstacles(&self, tables: &[Arc<TableSchema>], follow: bool) -> Result<Vec<Error>> {
        let keyless = |t: &&Arc<TableSchema>| follow && t.identity == Identity::InsertOnly;
        let error = |t: &Arc<TableSchema>| {
            Error::refused("it has nothing to tell its rows apart by")
                .table(&t.id)
                .remedy("give it a primary key, or let the log carry whole rows")
        };
        Ok(tables.iter().filter(keyless).map(error).collect())
    }

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

    /// Brings what selects tables at the source in step with `tables`. Those named in `followed` have been
    /// selected there all the time since the checkpoint; one of them that is not any more stays so: [`Source::compare`]
    /// tells of it.
    ///
    /// # Errors
    /// Class `Lineage` when what selects tables is gone.
    async fn select(&self, tables: &[Arc<TableSchema>], followed: &[TableId]) -> Result<()>;

    /// Compares tables of the record with what the source says of them now: what has changed that the log from here on
    /// does not tell, or is told by it too late. Asked before the log is followed, after [`Source::select`].
    async fn compare(&self, _tables: &[Arc<TableSchema>]) -> Result<Vec<SchemaChange>> {
        Ok(Vec::new())
    }

    /// Takes a snapshot of all `tables`, of which up to `readers` chunks will be read at a time: a source whose readers
    /// cannot come later to what others see opens that many now.
    async fn snapshot(
        &self,
        tables: &[Arc<TableSchema>],
        kind: SnapshotKind,
        readers: usize,
    ) -> Result<Box<dyn Snapshot>>;

    /// Follows the log.
    async fn stream(&self, request: StreamRequest) -> Result<Box<dyn ChangeStream>>;

    /// Removes everything this task created at the source; whether there was anything.
    async fn retire(&self) -> Result<bool>;

    /// How far `from` is behind the end of the log, and what the source retains for this task.
    async fn lag(&self, from: Option<&Position>) -> Result<Lag>;

    /// The rows that the keys of these have now, each as a batch of one row; `None` where there is none.
    ///
    /// # Errors
    /// Class `Table` where the table is not what it was.
    async fn again(&self, rows: &ChangeBatch, _of: &[usize]) -> Result<Vec<Option<ChangeBatch>>> {
        Err(Error::refused("rows of this source cannot be read again by their keys").table(&rows.table.id))
    }

    /// Tables that may be replicated, by name. Rows are not counted.
    async fn browse(&self, _which: &Browse) -> Result<Vec<Listed>> {
        Err(Error::refused("the tables of this source cannot be listed"))
    }

    /// How many rows a table has now: each is counted.
    async fn count(&self, table: &TableId) -> Result<u64> {
        Err(Error::refused("the rows of this source cannot be counted").table(table))
    }

    /// Some rows of a table as they are now, as inserts; no more than a few, for somebody to look at. Class `Refused`
    /// for a key that is none of the table's.
    async fn look(&self, table: &Arc<TableSchema>, _rows: &Look) -> Result<ChangeBatch> {
        Err(Error::refused("rows of this source cannot be looked at one by one").table(&table.id))
    }
}

/// How far a task is behind its source.
#[derive(Clone, Debug)]
pub struct Lag {
    /// The end of the log.
    pub current: Position,
    /// Bytes of log from the place asked about to the end; `None` where the log has no such measure.
    pub bytes: Option<u64>,
    /// Bytes of log that the source retains for this task; `None` where it cannot say.
    pub retained_bytes: Option<u64>,
    /// Bytes of log above which the source lets go of what it retains; `None` where there is no such limit.
    pub retained_limit_bytes: Option<u64>,
    /// What a load waits for that wants to begin: whose transaction, how old, and what it did last.
    pub waits_for: Option<String>,
}

impl Lag {
    /// Of a source that says no more than this.
    pub fn of(current: Position, bytes: Option<u64>) -> Self {
        Self { current, bytes, retained_bytes: None, retained_limit_bytes: None, waits_for: None }
    }

    /// Seconds behind: the age of the last commit applied, unless nothing is missing; `None` where the log has no
    /// measure or nothing was applied. The source's clock may be ahead of this machine's: that is no lag either.
    pub fn seconds(&self, committed_at: Option<SystemTime>, now: SystemTime) -> Option<f64> {
        match self.bytes? {
            0 => Some(0.0),
            _ => Some(now.duration_since(committed_at?).unwrap_or_default().as_millis() as f64 / 1000.0),
        }
    }
}

/// The tables of a source, each as it was at one place in the log: where the log is kept from, where a stream starts
/// and what the rows have are three questions, and not every source has one answer to them.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// From where on the log has to be kept for that stream: no later than it starts. Earlier, where what begins there
    /// cannot be read without what came before.
    fn retained(&self) -> &Position {
        self.start()
    }

    /// Where a stream has to start so that it misses nothing of any of the tables.
    fn start(&self) -> &Position;

    /// The place that rows of this table are read at, no earlier than the start: every change committed before it is in
    /// them, no later one is. Asked once a chunk of the table has been read.
    fn place(&self, _table: &TableSchema) -> Position {
        self.start().clone()
    }

    /// The table with what the source knows of its past where the rows are read.
    fn seen(&self, table: &Arc<TableSchema>) -> Arc<TableSchema> {
        Arc::clone(table)
    }

    /// Cuts a table into chunks that together hold every row once.
    async fn chunks(&self, table: &Arc<TableSchema>, options: ChunkOptions) -> Result<Vec<Chunk>>;

    /// Reads a chunk in batches of at most about `batch_bytes`. Chunks are read concurrently. `wanted`: what the rows
    /// have to be; the source leaves out those of which it knows that they are not, and need not.
    fn read<'a>(
        &'a self,
        table: &'a Arc<TableSchema>,
        chunk: &'a Chunk,
        wanted: Option<&'a Condition>,
        batch_bytes: usize,
    ) -> BoxStream<'a, Result<ChangeBatch>>;
}

/// The log of a source, from one place on.
///
/// Reading and taking are two steps, so that changes gather while the target is busy: sets are small when the
/// target keeps up and large when it is behind. What is read goes into one [`Gather`], the same from the first call to
/// the last, that stands where the stream was asked to begin.
#[async_trait]
pub trait ChangeStream: Send {
    /// Reads on until something may be taken from the set or its limits are reached: not to be called before there is
    /// room. Where something may be taken already it waits for more, and never returns at once. Cancel-safe. Answers
    /// the server's keepalives.
    async fn fill(&mut self, into: &mut Gather) -> Result<()>;

    /// Tells whether the target has nothing to do: then reading may take more of the source. Called before each fill.
    fn pace(&mut self, _idle: bool) {}

    /// Tells the source what the target durably has, if that is known yet. Also to be called at least every few
    /// seconds while nothing is filled, or the server takes the connection for dead.
    async fn ack(&mut self, durable: Option<&Position>) -> Result<()>;

    /// Delivers changes of these tables too, from where reading stands. To be called [between](Gather::between) two
    /// transactions.
    async fn add(&mut self, tables: Vec<StreamTable>) -> Result<()>;

    /// Delivers no later change of this table but a last step of this kind. A table that is not delivered is not an
    /// error.
    fn withdraw(&mut self, table: &TableId, last: SchemaChangeKind, into: &mut Gather) -> Result<()>;

    /// Ends reading in order, and tells the source once more what is `durable`, so that it lets go of the log before
    /// that although nobody reads from it any more. Nothing else is called afterwards.
    async fn close(&mut self, durable: Option<&Position>) -> Result<()>;
}

/// What a target can do. The runner goes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Whether it wants net changes, or the log as it is.
    pub reduction: Reduction,
    /// Its transaction may stay open over several sets ([`Span::open`](crate::change::Span::open)). Without it a
    /// source's transaction that does not fit the limits is refused.
    pub open_sets: bool,
    /// It can empty tables.
    pub truncate: bool,
    /// It can add columns to tables it has.
    pub add_columns: bool,
}

impl Abilities {
    /// All of a relational database.
    pub const ALL: Self = Self { reduction: Reduction::Net, open_sets: true, truncate: true, add_columns: true };
}

/// What an apply did.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Per target table. inserted + updated + deleted + merged is the number of changes in the set.
    pub tables: Vec<(TableId, TableCounts)>,
}

/// A database that rows and changes go to, and that stores the record of its task.
#[async_trait]
pub trait Target: Send + Sync {
    /// See [`Source::identity`].
    async fn identity(&self) -> Result<String>;

    /// What it can do.
    fn abilities(&self) -> Abilities {
        Abilities::ALL
    }

    /// Looks at privileges, settings and connections; changes nothing. `loaders`: how many will be open at a time.
    async fn check(&self, loaders: usize) -> Result<Vec<Finding>>;

    /// What a run would do for these tables, and what stands against it; changes nothing. `known`: what is remembered
    /// of the task. The catalogue's tables come first, in its order, then its histories.
    async fn plan(
        &self,
        catalog: &Catalog,
        known: &TaskRecord,
        on_existing: OnExisting,
        load: bool,
    ) -> Result<Vec<TablePreview>>;

    /// What is remembered of the task; `None` when nothing is. Changes nothing, takes no lock.
    async fn record(&self) -> Result<Option<TaskRecord>>;

    /// Takes the task over: creates what is missing for the record, and takes a new epoch, which locks every earlier
    /// lane and loader of this task out.
    async fn take_over(&self) -> Result<(Epoch, TaskRecord)>;

    /// Waits for commits under `epoch` that are still on their way, of lanes and loaders that have been dropped, so
    /// that the record that is read next is what remains. Only where such a commit can outlive its connection.
    async fn settled(&self, _epoch: Epoch) -> Result<()> {
        Ok(())
    }

    /// Opens a lane under `epoch`. `committed`: what an earlier lane has committed and the target's disk may not have.
    async fn open_lane(&self, epoch: Epoch, committed: Option<&Position>) -> Result<Box<dyn TargetLane>>;

    /// Opens a connection that loads chunks under `epoch`.
    async fn open_loader(&self, epoch: Epoch) -> Result<Box<dyn Loader>>;

    /// Writes down, from outside of the running task, that a table of the record is to be loaded again.
    async fn request_reload(&self, table: &TableId) -> Result<()>;

    /// The requests that are written down ([`TaskRecord::requests`]).
    async fn requests(&self) -> Result<Vec<TableId>>;

    /// Forgets the task; whether it was known.
    async fn forget(&self) -> Result<bool>;

    /// The row that has the key of the first row of `like`, as it is now: each column with its value as text, in the
    /// order of the table. `None` if there is no such row.
    async fn look(&self, like: &ChangeBatch) -> Result<Option<Vec<(String, Option<String>)>>> {
        let error = Error::refused("rows of this target cannot be looked at one by one");
        Err(error.target_table(&like.table.id))
    }

    /// The changes of the task that have been set aside, in their order.
    async fn quarantined(&self) -> Result<Vec<QuarantineEntry>> {
        Ok(Vec::new())
    }

    /// Forgets changes that have been set aside, by their numbers; how many there were.
    async fn release(&self, _numbers: &[i64]) -> Result<u64> {
        Ok(0)
    }

    /// Keeps the running task from committing until what is returned is used or dropped.
    async fn mend(&self) -> Result<Box<dyn Mend>> {
        Err(Error::refused("this target keeps no changes that have been set aside"))
    }
}

/// One target connection. Every method that writes checks the epoch in its transaction, and writes the changes of the
/// record that it is given in the same one. Only what [`TargetLane::apply`] commits may be taken back by a crash of
/// the target; everything else is durable on return.
#[async_trait]
pub trait TargetLane: Send {
    /// Other lanes have changed tables: what is known of them is to be looked at again.
    fn refresh(&mut self) {}

    /// Writes changes of the record that no rows belong to.
    async fn commit(&mut self, changes: &[RecordChange]) -> Result<()>;

    /// Creates the user-defined types that are missing. Those that cannot be had are returned, each with why: that is
    /// the matter of the tables that use them.
    async fn prepare_types(&mut self, types: &[TypeDefinition]) -> Result<Vec<(TableId, Error)>>;

    /// Creates the target table, or fits the existing one as `on_existing` says, and writes the record of the table
    /// with how it has come to be, which is returned. `known`: what was remembered of it before. Refuses what cannot
    /// fit.
    ///
    /// Where a table does not come into being in the transaction that the record is written in, an intent is written
    /// down before it is made ([`TableState::Preparing`](crate::record::TableState::Preparing)): found there after a
    /// crash, and with `known` in that state, the table is trem's own.
    async fn prepare(
        &mut self,
        table: TableRecord,
        known: Option<&TableRecord>,
        on_existing: OnExisting,
    ) -> Result<TableRecord>;

    /// Creates a table that changes are only added to, or widens the one that is there; its rows stay. Refuses what
    /// cannot fit.
    async fn prepare_history(&mut self, history: &Arc<TableSchema>) -> Result<()>;

    /// Empties a table.
    async fn empty(&mut self, table: &Arc<TableSchema>, changes: &[RecordChange]) -> Result<()>;

    /// Builds keys and indexes after the last chunk of a load. Idempotent.
    async fn finish(&mut self, table: &TableRecord, changes: &[RecordChange]) -> Result<()>;

    /// Creates those of these objects that are not there. One that cannot be created is told of and passed over: the
    /// rows are right without it.
    async fn create_secondary(&mut self, _objects: &[SecondaryObject]) -> Result<()> {
        Ok(())
    }

    /// Applies a set. Rows, changes of the record and epoch check commit in one transaction; committed on return,
    /// unless the set is open, and then `changes` is empty.
    async fn apply(&mut self, set: ReducedSet, changes: &[RecordChange]) -> Result<Applied>;

    /// The end of the last applied set that a crash of the target cannot take back, of this lane or an earlier one;
    /// `None` while none is known to be. `now`: what is committed is made so, where otherwise the target's own
    /// background writing would take its time; a set that was left open is rolled back for it, and ends the lane.
    async fn durable(&mut self, now: bool) -> Result<Option<Position>>;
}

/// One target connection that loads chunks.
#[async_trait]
pub trait Loader: Send {
    /// Begins a chunk.
    async fn start_chunk(&mut self, table: &TableRecord) -> Result<()>;

    /// Writes rows of the chunk at hand; the bulk stream stays open in between.
    async fn load(&mut self, rows: ChangeBatch) -> Result<()>;

    /// Commits the rows together with changes of the record: that the chunk is in, among others.
    async fn finish_chunk(&mut self, changes: &[RecordChange]) -> Result<()>;
}
