//! What the engine's runner does with the record of a task, in small: it holds the record, decides as the runner does,
//! and has the target write what it decided.

use std::sync::{Arc, Mutex};

use trem_engine::Result;
use trem_engine::change::{ChangeBatch, ChangeSet, ReducedSet, ReducedStep, Reducer, Reduction, Step};
use trem_engine::chunk::Chunk;
use trem_engine::ports::{Applied, Loader, Target, TargetLane};
use trem_engine::position::{Checkpoint, Lineage, Position};
use trem_engine::record::{Epoch, LaneId, RecordChange, TableRecord, TableState, TaskRecord};
use trem_engine::remedy::Remedy;
use trem_engine::schema::{AddedColumns, SchemaChange, SchemaChangeKind, TableId, TableSchema};
use trem_engine::task::OnExisting;

/// What has been committed on the target.
type Book = Arc<Mutex<TaskRecord>>;

/// A lane, and the record that it writes.
pub struct Keeper {
    pub lane: Box<dyn TargetLane>,
    pub epoch: Epoch,
    book: Book,
    /// Changes of the record of sets that are still open.
    held: Vec<RecordChange>,
}

impl Keeper {
    /// Takes the task over, as a process that starts.
    pub async fn take_over(target: &dyn Target) -> Result<Self> {
        let (epoch, record) = target.take_over().await?;
        let committed = record.checkpoint.as_ref().map(|c| c.position.clone());
        let lane = target.open_lane(epoch, committed.as_ref()).await?;
        Ok(Self { lane, epoch, book: Arc::new(Mutex::new(record)), held: Vec::new() })
    }

    /// A lane beside this one, of the same process.
    pub async fn beside(&self, target: &dyn Target) -> Result<Self> {
        let lane = target.open_lane(self.epoch, None).await?;
        Ok(Self { lane, epoch: self.epoch, book: Arc::clone(&self.book), held: Vec::new() })
    }

    /// What is on record.
    pub fn record(&self) -> TaskRecord {
        self.book.lock().unwrap().clone()
    }

    fn known(&self, id: &TableId) -> Option<TableRecord> {
        self.book.lock().unwrap().table(id).cloned()
    }

    /// What is on record of a table.
    pub fn table(&self, id: &TableId) -> TableRecord {
        self.known(id).expect("a table on record")
    }

    fn note(&self, changes: &[RecordChange]) -> Result<()> {
        note(&self.book, changes)
    }

    pub async fn commit(&mut self, changes: &[RecordChange]) -> Result<()> {
        self.lane.commit(changes).await?;
        self.note(changes)
    }

    pub async fn begin(&mut self, lineage: &Lineage) -> Result<()> {
        self.commit(&[RecordChange::Begin(lineage.clone())]).await
    }

    /// A table on record is to be loaded again when it is prepared once more.
    pub async fn prepare(&mut self, table: &Arc<TableSchema>, on_existing: OnExisting, load: bool) -> Result<()> {
        let known = self.known(&table.id).map(|known| TableRecord { state: TableState::Reload, ..known });
        let state = if load || known.is_some() { TableState::Loading } else { TableState::Ready };
        let record = TableRecord::new(table, table, state);
        let record = self.lane.prepare(record, known.as_ref(), on_existing).await?;
        self.note(&[RecordChange::Table(Box::new(record))])
    }

    /// Rows of an interrupted load go first, and so do all if `empty`; those that the table keeps never do.
    pub async fn plan_chunks(&mut self, table: &Arc<TableSchema>, chunks: &[Chunk], empty: bool) -> Result<()> {
        let record = self.table(&table.id);
        let (kept, loaded) = (record.origin.keeps_rows, record.any_chunk_done());
        assert!(!kept || !loaded, "the runner refuses this");
        let planned = [RecordChange::Chunks(table.id.clone(), chunks.to_vec())];
        if (empty || loaded) && !kept {
            self.lane.empty(&record.target, &planned).await?;
            return self.note(&planned);
        }
        self.commit(&planned).await
    }

    pub async fn open_loader(&self, target: &dyn Target) -> Result<ChunkLoader> {
        let loader = target.open_loader(self.epoch).await?;
        Ok(ChunkLoader { loader, book: Arc::clone(&self.book), open: None })
    }

    pub async fn finish_table(&mut self, table: &Arc<TableSchema>) -> Result<()> {
        let ready = [RecordChange::state(&table.id, TableState::Ready)];
        self.lane.finish(&self.table(&table.id), &ready).await?;
        self.note(&ready)
    }

    /// A table that is not known yet becomes so.
    pub async fn suspend(&mut self, table: &Arc<TableSchema>, reason: &str, remedy: &str) -> Result<()> {
        let mut changes = Vec::new();
        if self.known(&table.id).is_none() {
            changes.push(RecordChange::Table(Box::new(TableRecord::new(table, table, TableState::Suspended))));
        }
        changes.push(RecordChange::suspend(&table.id, reason, &Remedy::Text(remedy.to_owned())));
        self.commit(&changes).await
    }

    pub async fn forget_table(&mut self, table: &TableId) -> Result<()> {
        self.commit(&[RecordChange::Forget(table.clone())]).await
    }

    /// Takes the requests up that have been written down from outside.
    pub async fn take_requests(&mut self, target: &dyn Target) -> Result<()> {
        for id in target.requests().await? {
            self.commit(&[RecordChange::Taken(id.clone()), RecordChange::state(&id, TableState::Reload)]).await?;
        }
        Ok(())
    }

    /// Rows and checkpoint in one transaction, unless the set is open.
    pub async fn apply(&mut self, set: ChangeSet) -> Result<Applied> {
        let at = Checkpoint { lineage: super::checkpoint(0).lineage, position: set.span.end.clone() };
        let committed_at = set.span.committed_at;
        self.apply_with(set, RecordChange::Checkpoint { lane: LaneId::MAIN, at, committed_at }).await
    }

    /// Rows and where they end.
    pub async fn apply_with(&mut self, set: ChangeSet, end: RecordChange) -> Result<Applied> {
        let open = set.span.open;
        let (set, changes) = reduced(set)?;
        self.held.extend(changes);
        let mut changes = Vec::new();
        if !open {
            changes = std::mem::take(&mut self.held);
            changes.push(end);
        }
        let applied = self.lane.apply(set, &changes).await?;
        self.note(&changes)?;
        Ok(applied)
    }

    pub async fn durable(&mut self, now: bool) -> Result<Option<Position>> {
        self.lane.durable(now).await
    }
}

fn note(book: &Book, changes: &[RecordChange]) -> Result<()> {
    let mut record = book.lock().unwrap();
    changes.iter().try_for_each(|change| record.apply(change))
}

/// The net effect of a set of tables that go to the target as they are, and what it does to the record.
fn reduced(set: ChangeSet) -> Result<(ReducedSet, Vec<RecordChange>)> {
    let (mut reducer, mut changes) = (Reducer::new(Reduction::Net), Vec::new());
    for step in set.steps {
        match step {
            Step::Rows(rows) => reducer.rows(rows),
            Step::Truncate(truncate) => reducer.step(ReducedStep::Truncate(truncate))?,
            Step::Schema(SchemaChange { table, kind: SchemaChangeKind::AddColumns { next, existing } }) => {
                changes.push(RecordChange::Shape { source: Arc::clone(&next), target: Arc::clone(&next) });
                reducer.step(ReducedStep::AddColumns(AddedColumns { before: table, next, existing }))?;
            }
            Step::Schema(SchemaChange { table: _, kind: SchemaChangeKind::Noted { next } }) => {
                changes.push(RecordChange::Source(next));
            }
            Step::Schema(SchemaChange { table, kind: SchemaChangeKind::Suspend { reason, remedy } }) => {
                changes.push(RecordChange::suspend(&table.id, &reason, &remedy));
            }
            Step::Schema(SchemaChange { table, kind: SchemaChangeKind::Reload { .. } }) => {
                changes.push(RecordChange::state(&table.id, TableState::Reload));
            }
        }
    }
    Ok((reducer.finish(set.span)?, changes))
}

/// A loader that counts the rows of a chunk, and notes that it is in.
pub struct ChunkLoader {
    loader: Box<dyn Loader>,
    book: Book,
    /// The table and number of the chunk at hand, and its rows so far.
    open: Option<(TableId, u32, u64)>,
}

impl ChunkLoader {
    pub async fn start_chunk(&mut self, table: &Arc<TableSchema>, chunk: &Chunk) -> Result<()> {
        let record = self.book.lock().unwrap().table(&table.id).cloned().expect("a table on record");
        self.open = Some((table.id.clone(), chunk.id, 0));
        self.loader.start_chunk(&record).await
    }

    pub async fn load(&mut self, rows: ChangeBatch) -> Result<()> {
        self.open.as_mut().expect("a chunk was started").2 += rows.len() as u64;
        self.loader.load(rows).await
    }

    pub async fn finish_chunk(&mut self, snapshot: &Position) -> Result<()> {
        let (table, chunk, rows) = self.open.take().expect("a chunk was started");
        let done = RecordChange::ChunkDone { table, chunk, snapshot: snapshot.clone(), rows };
        self.loader.finish_chunk(std::slice::from_ref(&done)).await?;
        note(&self.book, &[done])
    }
}
