//! The `null` target: counts rows and discards them, for measuring a source. What it remembers of a task lives
//! in memory and is gone with the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use trem_engine::change::{ChangeBatch, ChangeSet, Effect, Op, Step, TableCounts};
use trem_engine::error::{Class, Error, Result};
use trem_engine::ports::{
    Applied, Chunk, ChunkRecord, Epoch, Finding, Loader, Severity, TablePreview, TableRecord, TableState, Target,
    TargetLane, TaskRecord,
};
use trem_engine::position::{Checkpoint, Lineage, Position};
use trem_engine::schema::{Catalog, SchemaChange, SchemaChangeKind, TableId, TableSchema, TypeDefinition};
use trem_engine::task::OnExisting;

/// A target that keeps nothing but its record of the task.
#[derive(Debug)]
pub struct NullTarget {
    task: String,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    epoch: i64,
    begun: bool,
    record: TaskRecord,
}

impl NullTarget {
    /// The target of one task.
    pub fn new(task: &str) -> Self {
        Self { task: task.to_owned(), state: Arc::default() }
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Every change under the lock is a single step, so a panic elsewhere leaves it whole.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn table(&mut self, id: &TableId) -> Result<&mut TableRecord> {
        let found = self.record.tables.iter_mut().find(|t| t.schema.id == *id);
        found.ok_or_else(|| Error::fatal("the table was not prepared on the null target").table(id))
    }
}

#[async_trait]
impl Target for NullTarget {
    async fn identity(&self) -> Result<String> {
        Ok(format!("null:{}", self.task))
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        Ok(vec![Finding {
            severity: Severity::Warning,
            subject: "target".to_owned(),
            message: "rows are counted and discarded, and nothing is remembered after the process ends".to_owned(),
            remedy: None,
        }])
    }

    async fn plan(&self, catalog: &Catalog, _: OnExisting, _: bool) -> Result<Vec<TablePreview>> {
        let preview = |table: &Arc<TableSchema>| TablePreview {
            table: Arc::clone(table),
            exists: true,
            ddl: Vec::new(),
            findings: Vec::new(),
        };
        Ok(catalog.tables.iter().map(preview).collect())
    }

    async fn record(&self) -> Result<Option<TaskRecord>> {
        let state = locked(&self.state);
        Ok(state.begun.then(|| state.record.clone()))
    }

    async fn open_lane(&self) -> Result<Box<dyn TargetLane>> {
        let mut state = locked(&self.state);
        state.epoch += 1;
        let fence = Fence { task: self.task.clone(), epoch: Epoch(state.epoch), state: Arc::clone(&self.state) };
        Ok(Box::new(NullLane { fence, pending: BTreeMap::new() }))
    }

    async fn open_loader(&self, epoch: Epoch) -> Result<Box<dyn Loader>> {
        let fence = Fence { task: self.task.clone(), epoch, state: Arc::clone(&self.state) };
        drop(fence.enter()?);
        Ok(Box::new(NullLoader { fence, chunk: None, rows: 0 }))
    }

    async fn reload(&self, table: &TableId) -> Result<()> {
        locked(&self.state).table(table)?.state = TableState::Reload;
        Ok(())
    }

    async fn forget(&self) -> Result<()> {
        let mut state = locked(&self.state);
        let epoch = state.epoch + 1;
        *state = State { epoch, ..State::default() };
        Ok(())
    }
}

/// Lets the newest lane and its loaders in and nobody else.
struct Fence {
    task: String,
    epoch: Epoch,
    state: Arc<Mutex<State>>,
}

impl Fence {
    fn enter(&self) -> Result<MutexGuard<'_, State>> {
        let state = locked(&self.state);
        if state.epoch == self.epoch.0 {
            return Ok(state);
        }
        let message = format!("another run has taken the task {} over", self.task);
        Err(Error::new(Class::Fenced, message).remedy("let one process run the task"))
    }
}

struct NullLane {
    fence: Fence,
    /// Changes of shape of a transaction that is still open: they take effect with its checkpoint.
    pending: BTreeMap<TableId, SchemaChangeKind>,
}

#[async_trait]
impl TargetLane for NullLane {
    fn epoch(&self) -> Epoch {
        self.fence.epoch
    }

    async fn record(&mut self) -> Result<TaskRecord> {
        Ok(self.fence.enter()?.record.clone())
    }

    async fn begin(&mut self, lineage: &Lineage) -> Result<()> {
        let mut state = self.fence.enter()?;
        state.begun = true;
        state.record.lineage = Some(lineage.clone());
        Ok(())
    }

    async fn prepare_types(&mut self, _: &[TypeDefinition]) -> Result<()> {
        Ok(())
    }

    async fn prepare(&mut self, table: &Arc<TableSchema>, _: OnExisting, load: bool) -> Result<()> {
        let mut state = self.fence.enter()?;
        state.record.tables.retain(|t| t.schema.id != table.id);
        state.record.tables.push(record(table, if load { TableState::Loading } else { TableState::Ready }));
        Ok(())
    }

    async fn plan_chunks(&mut self, table: &Arc<TableSchema>, chunks: &[Chunk], empty: bool) -> Result<()> {
        let mut state = self.fence.enter()?;
        let record = state.table(&table.id)?;
        if empty {
            record.chunks.clear();
        }
        // A chunk that is in stays in: only what is new or still to be read is planned.
        for chunk in chunks {
            match record.chunks.iter_mut().find(|c| c.chunk.id == chunk.id) {
                Some(known) if known.done.is_some() => {}
                Some(known) => known.chunk = chunk.clone(),
                None => record.chunks.push(ChunkRecord { chunk: chunk.clone(), done: None, rows: 0 }),
            }
        }
        Ok(())
    }

    async fn finish_table(&mut self, table: &Arc<TableSchema>) -> Result<()> {
        self.fence.enter()?.table(&table.id)?.state = TableState::Ready;
        Ok(())
    }

    async fn suspend(&mut self, table: &Arc<TableSchema>, reason: &str, remedy: &str) -> Result<()> {
        let mut state = self.fence.enter()?;
        if state.table(&table.id).is_err() {
            state.record.tables.push(record(table, TableState::Suspended));
        }
        let kind = SchemaChangeKind::Suspend { reason: reason.to_owned(), remedy: remedy.to_owned() };
        reshape(state.table(&table.id)?, kind);
        Ok(())
    }

    async fn forget_table(&mut self, table: &TableId) -> Result<()> {
        self.fence.enter()?.record.tables.retain(|t| t.schema.id != *table);
        Ok(())
    }

    async fn apply(&mut self, set: ChangeSet, next: &Checkpoint) -> Result<Applied> {
        let mut counts: BTreeMap<TableId, TableCounts> = BTreeMap::new();
        let open = set.open;
        for step in set.steps {
            match step {
                Step::Rows(batch) => count(&batch, counts.entry(batch.table.id.clone()).or_default()),
                Step::Table(changes) => {
                    let counts = counts.entry(changes.table.id.clone()).or_default();
                    match &changes.effect {
                        Effect::Net(net) => counts.add(&net.counts()),
                        Effect::Log(batches) => batches.iter().for_each(|batch| count(batch, counts)),
                    }
                }
                Step::Truncate(_) => {}
                Step::Schema(SchemaChange { table, kind }) => drop(self.pending.insert(table.id.clone(), kind)),
            }
        }
        let mut state = self.fence.enter()?;
        if !open {
            for (id, kind) in std::mem::take(&mut self.pending) {
                reshape(state.table(&id)?, kind);
            }
            state.begun = true;
            state.record.checkpoint = Some(next.clone());
        }
        Ok(Applied { tables: counts.into_iter().collect() })
    }

    async fn durable(&mut self, _now: bool) -> Result<Option<Position>> {
        Ok(self.fence.enter()?.record.checkpoint.as_ref().map(|c| c.position.clone()))
    }
}

fn record(table: &Arc<TableSchema>, state: TableState) -> TableRecord {
    TableRecord { schema: Arc::clone(table), state, reason: None, remedy: None, chunks: Vec::new() }
}

fn count(batch: &ChangeBatch, counts: &mut TableCounts) {
    for op in &batch.ops {
        match op {
            Op::Insert => counts.inserted += 1,
            Op::Update => counts.updated += 1,
            Op::Delete => counts.deleted += 1,
        }
    }
}

fn reshape(record: &mut TableRecord, kind: SchemaChangeKind) {
    match kind {
        SchemaChangeKind::AddColumns { next, .. } => record.schema = next,
        SchemaChangeKind::Reload { reason } => {
            record.state = TableState::Reload;
            record.reason = Some(reason);
        }
        SchemaChangeKind::Suspend { reason, remedy } => {
            record.state = TableState::Suspended;
            record.reason = Some(reason);
            record.remedy = Some(remedy);
        }
    }
}

struct NullLoader {
    fence: Fence,
    chunk: Option<(TableId, u32)>,
    rows: u64,
}

#[async_trait]
impl Loader for NullLoader {
    async fn start_chunk(&mut self, table: &Arc<TableSchema>, chunk: &Chunk) -> Result<()> {
        self.chunk = Some((table.id.clone(), chunk.id));
        self.rows = 0;
        Ok(())
    }

    async fn load(&mut self, rows: ChangeBatch) -> Result<()> {
        self.rows += rows.len() as u64;
        Ok(())
    }

    async fn finish_chunk(&mut self, snapshot: &Position) -> Result<u64> {
        let (table, id) = self.chunk.take().ok_or_else(|| Error::fatal("a chunk was finished that was never begun"))?;
        let mut state = self.fence.enter()?;
        let record = state.table(&table)?;
        let chunk = record.chunks.iter_mut().find(|c| c.chunk.id == id);
        let chunk = chunk.ok_or_else(|| Error::fatal("a chunk was finished that was never planned").table(&table))?;
        chunk.done = Some(snapshot.clone());
        chunk.rows = self.rows;
        Ok(self.rows)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    use arrow_array::{ArrayRef, Int32Array, RecordBatch};
    use trem_engine::ports::ChunkRange;
    use trem_engine::schema::{Column, Identity, LogicalType, NativeType};

    fn table() -> Arc<TableSchema> {
        let native = NativeType { name: "integer".into(), id: 23, modifier: -1 };
        Arc::new(TableSchema {
            id: TableId::new("public", "t"),
            native_id: 1,
            columns: vec![Column { name: "id".into(), logical: LogicalType::Int32, native, nullable: false }],
            key: vec![0],
            primary_key: vec![0],
            identity: Identity::Key,
            generated: Vec::new(),
        })
    }

    fn rows(table: &Arc<TableSchema>, n: i32) -> ChangeBatch {
        let column: ArrayRef = Arc::new(Int32Array::from_iter_values(0..n));
        ChangeBatch::inserts(Arc::clone(table), RecordBatch::try_new(table.arrow(), vec![column]).unwrap())
    }

    fn set(steps: Vec<Step>, at: u128, open: bool) -> (ChangeSet, Checkpoint) {
        let end = Position::new(at, at.to_string());
        let next = Checkpoint { lineage: Lineage("l".into()), position: end.clone() };
        (ChangeSet { steps, end, committed_at: None, open, transactions: 1, bytes: 0 }, next)
    }

    #[tokio::test]
    async fn a_load_is_counted_and_remembered() {
        let target = NullTarget::new("t");
        assert_eq!(target.record().await.unwrap(), None);
        let table = table();
        let mut lane = target.open_lane().await.unwrap();
        lane.begin(&Lineage("l".into())).await.unwrap();
        lane.prepare(&table, OnExisting::Refuse, true).await.unwrap();
        let chunk = Chunk { id: 0, range: ChunkRange::Whole, rows: 3 };
        lane.plan_chunks(&table, std::slice::from_ref(&chunk), false).await.unwrap();
        let mut loader = target.open_loader(lane.epoch()).await.unwrap();
        loader.start_chunk(&table, &chunk).await.unwrap();
        loader.load(rows(&table, 3)).await.unwrap();
        assert_eq!(loader.finish_chunk(&Position::new(7, "7")).await.unwrap(), 3);
        lane.finish_table(&table).await.unwrap();
        let record = target.record().await.unwrap().unwrap();
        assert_eq!(record.tables[0].state, TableState::Ready);
        assert_eq!(record.tables[0].chunks[0].rows, 3);
        assert_eq!(record.checkpoint, None);
    }

    #[tokio::test]
    async fn an_open_set_moves_no_checkpoint() {
        let target = NullTarget::new("t");
        let table = table();
        let mut lane = target.open_lane().await.unwrap();
        lane.prepare(&table, OnExisting::Refuse, false).await.unwrap();
        let suspend = SchemaChangeKind::Suspend { reason: "r".into(), remedy: "m".into() };
        let change = SchemaChange { table: Arc::clone(&table), kind: suspend };
        let (open, next) = set(vec![Step::Rows(rows(&table, 2)), Step::Schema(change)], 1, true);
        let applied = lane.apply(open, &next).await.unwrap();
        assert_eq!(applied.tables[0].1.inserted, 2);
        assert_eq!(lane.durable(false).await.unwrap(), None);
        assert_eq!(lane.record().await.unwrap().tables[0].state, TableState::Ready);
        let (closing, next) = set(Vec::new(), 2, false);
        lane.apply(closing, &next).await.unwrap();
        assert_eq!(lane.durable(false).await.unwrap(), Some(Position::new(2, "2")));
        assert_eq!(lane.record().await.unwrap().tables[0].state, TableState::Suspended);
    }

    #[tokio::test]
    async fn an_earlier_lane_is_locked_out() {
        let target = NullTarget::new("t");
        let mut first = target.open_lane().await.unwrap();
        let mut second = target.open_lane().await.unwrap();
        let error = first.record().await.unwrap_err();
        assert_eq!(error.class(), Class::Fenced);
        assert!(second.record().await.is_ok());
        assert!(target.open_loader(first.epoch()).await.is_err());
    }
}
