//! The `null` target: counts rows and discards them, for measuring a source. What it remembers of a task lives
//! in memory and is gone with the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use trem_engine::change::{ChangeBatch, Effect, Op, ReducedSet, ReducedStep, TableCounts};
use trem_engine::error::{Error, Result};
use trem_engine::ledger::MemoryLedger;
use trem_engine::ports::{Applied, Finding, Loader, Severity, Source, TablePreview, Target, TargetLane};
use trem_engine::position::Position;
use trem_engine::record::{Epoch, RecordChange, TableRecord, TaskRecord};
use trem_engine::schema::{Catalog, TableId, TableSchema, TypeDefinition};
use trem_engine::task::OnExisting;
use trem_engine::types::Dialect;

use crate::kind::{Configured, Key, Kind, Objects, Wrong};

/// The kind.
#[derive(Debug)]
pub struct Null;

impl Kind for Null {
    fn name(&self) -> &'static str {
        "null"
    }

    fn keys(&self) -> &'static [Key] {
        &[]
    }

    fn configure(&self, _: &BTreeMap<&'static str, String>) -> Result<Arc<dyn Configured>, Vec<Wrong>> {
        Ok(Arc::new(Self))
    }
}

impl Configured for Null {
    fn kind(&self) -> &'static str {
        self.name()
    }

    fn dialect(&self) -> Option<Dialect> {
        None
    }

    fn describe(&self) -> Option<String> {
        None
    }

    fn database(&self) -> Option<String> {
        None
    }

    fn check_task_name(&self, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn objects(&self, _: &str) -> Option<Objects> {
        None
    }

    fn source(&self, _: &str) -> Option<Arc<dyn Source>> {
        None
    }

    fn target(&self, task: &str) -> Option<Arc<dyn Target>> {
        Some(Arc::new(NullTarget::new(task)))
    }
}

/// A target that keeps nothing but its record of the task.
#[derive(Debug)]
pub struct NullTarget {
    task: String,
    ledger: Arc<Mutex<MemoryLedger>>,
}

impl NullTarget {
    /// The target of one task.
    pub fn new(task: &str) -> Self {
        Self { task: task.to_owned(), ledger: Arc::default() }
    }

    fn ledger(&self) -> MutexGuard<'_, MemoryLedger> {
        locked(&self.ledger)
    }
}

fn locked(ledger: &Mutex<MemoryLedger>) -> MutexGuard<'_, MemoryLedger> {
    // Every change under the lock is a single step, so a panic elsewhere leaves it whole.
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Target for NullTarget {
    async fn identity(&self) -> Result<String> {
        Ok(format!("null:{}", self.task))
    }

    async fn check(&self, _loaders: usize) -> Result<Vec<Finding>> {
        Ok(vec![Finding {
            severity: Severity::Warning,
            subject: "target".to_owned(),
            message: "rows are counted and discarded, and nothing is remembered after the process ends".to_owned(),
            remedy: None,
        }])
    }

    async fn plan(&self, catalog: &Catalog, _: &TaskRecord, _: OnExisting, _: bool) -> Result<Vec<TablePreview>> {
        let preview = |table: &Arc<TableSchema>| TablePreview {
            table: Arc::clone(table),
            exists: true,
            ddl: Vec::new(),
            findings: Vec::new(),
        };
        Ok(catalog.tables.iter().map(preview).collect())
    }

    async fn record(&self) -> Result<Option<TaskRecord>> {
        Ok(self.ledger().record())
    }

    async fn take_over(&self) -> Result<(Epoch, TaskRecord)> {
        Ok(self.ledger().take_over())
    }

    async fn open_lane(&self, epoch: Epoch, _: Option<&Position>) -> Result<Box<dyn TargetLane>> {
        self.ledger().enter(epoch)?;
        Ok(Box::new(NullLane { epoch, ledger: Arc::clone(&self.ledger) }))
    }

    async fn open_loader(&self, epoch: Epoch) -> Result<Box<dyn Loader>> {
        self.ledger().enter(epoch)?;
        Ok(Box::new(NullLane { epoch, ledger: Arc::clone(&self.ledger) }))
    }

    async fn request_reload(&self, table: &TableId) -> Result<()> {
        self.ledger().request(table)
    }

    async fn requests(&self) -> Result<Vec<TableId>> {
        Ok(self.ledger().requests())
    }

    async fn forget(&self) -> Result<bool> {
        Ok(self.ledger().forget())
    }
}

/// A lane and a loader: neither has anything to hold.
struct NullLane {
    epoch: Epoch,
    ledger: Arc<Mutex<MemoryLedger>>,
}

#[async_trait]
impl TargetLane for NullLane {
    async fn commit(&mut self, changes: &[RecordChange]) -> Result<()> {
        locked(&self.ledger).commit(self.epoch, changes)
    }

    async fn prepare_types(&mut self, _: &[TypeDefinition]) -> Result<Vec<(TableId, Error)>> {
        Ok(Vec::new())
    }

    async fn prepare(&mut self, table: TableRecord, _: Option<&TableRecord>, _: OnExisting) -> Result<TableRecord> {
        locked(&self.ledger).prepared(self.epoch, table)
    }

    async fn prepare_history(&mut self, _: &Arc<TableSchema>) -> Result<()> {
        Ok(())
    }

    async fn empty(&mut self, _: &Arc<TableSchema>, changes: &[RecordChange]) -> Result<()> {
        self.commit(changes).await
    }

    async fn finish(&mut self, _: &TableRecord, changes: &[RecordChange]) -> Result<()> {
        self.commit(changes).await
    }

    async fn apply(&mut self, set: ReducedSet, changes: &[RecordChange]) -> Result<Applied> {
        let mut counts: BTreeMap<TableId, TableCounts> = BTreeMap::new();
        for step in set.steps {
            let ReducedStep::Table(changes) = step else { continue };
            let counts = counts.entry(changes.table.id.clone()).or_default();
            match &changes.effect {
                Effect::Net(net) => counts.add(&net.counts()),
                Effect::Log(batches) => batches.iter().for_each(|batch| count(batch, counts)),
            }
        }
        self.commit(changes).await?;
        Ok(Applied { tables: counts.into_iter().collect() })
    }

    async fn durable(&mut self, _now: bool) -> Result<Option<Position>> {
        let ledger = locked(&self.ledger);
        ledger.enter(self.epoch)?;
        Ok(ledger.position())
    }
}

#[async_trait]
impl Loader for NullLane {
    async fn start_chunk(&mut self, _: &TableRecord) -> Result<()> {
        Ok(())
    }

    async fn load(&mut self, _: ChangeBatch) -> Result<()> {
        Ok(())
    }

    async fn finish_chunk(&mut self, changes: &[RecordChange]) -> Result<()> {
        self.commit(changes).await
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    use arrow_array::{ArrayRef, Int32Array, RecordBatch};
    use trem_engine::Class;
    use trem_engine::change::{Reducer, Reduction, Span};
    use trem_engine::chunk::Chunk;
    use trem_engine::position::{Checkpoint, Lineage};
    use trem_engine::record::{LaneId, TableState};
    use trem_engine::schema::{Column, Dialect, Identity, Native, Type};

    fn table() -> Arc<TableSchema> {
        let native = Native { dialect: Dialect::new("d"), name: "integer".into(), detail: String::new() };
        let column = Column { name: "id".into(), ty: Type::Int32, native, nullable: false, omissible: false };
        Arc::new(TableSchema {
            id: TableId::new("public", "t"),
            native_id: Some(1),
            columns: vec![column],
            key: vec![0],
            primary_key: vec![0],
            identity: Identity::Key,
            generated: Vec::new(),
            history: Default::default(),
        })
    }

    fn rows(table: &Arc<TableSchema>, n: i32) -> ChangeBatch {
        let column: ArrayRef = Arc::new(Int32Array::from_iter_values(0..n));
        ChangeBatch::inserts(Arc::clone(table), RecordBatch::try_new(table.arrow(), vec![column]).unwrap())
    }

    fn set(batches: Vec<ChangeBatch>, at: u128, open: bool) -> (ReducedSet, Vec<RecordChange>) {
        let end = Position::new(at, at.to_string());
        let next = Checkpoint { lineage: Lineage("l".into()), position: end.clone() };
        let mut reducer = Reducer::new(Reduction::Net);
        batches.into_iter().for_each(|b| reducer.rows(b));
        let span = Span { end, committed_at: None, open, transactions: 1, bytes: 0 };
        let moved = RecordChange::Checkpoint { lane: LaneId::MAIN, at: next, committed_at: None };
        (reducer.finish(span).unwrap(), if open { Vec::new() } else { vec![moved] })
    }

    #[tokio::test]
    async fn a_load_is_counted_and_remembered() {
        let target = NullTarget::new("t");
        assert_eq!(target.record().await.unwrap(), None);
        let table = table();
        let (epoch, _) = target.take_over().await.unwrap();
        let mut lane = target.open_lane(epoch, None).await.unwrap();
        lane.commit(&[RecordChange::Begin(Lineage("l".into()))]).await.unwrap();
        let record = TableRecord::new(&table, &table, TableState::Loading);
        let record = lane.prepare(record, None, OnExisting::Refuse).await.unwrap();
        let chunk = Chunk { id: 0, range: "all".to_owned(), survives: false, rows: 3 };
        lane.commit(&[RecordChange::Chunks(table.id.clone(), vec![chunk])]).await.unwrap();
        let mut loader = target.open_loader(epoch).await.unwrap();
        loader.start_chunk(&record).await.unwrap();
        loader.load(rows(&table, 3)).await.unwrap();
        let done =
            RecordChange::ChunkDone { table: table.id.clone(), chunk: 0, snapshot: Position::new(7, "7"), rows: 3 };
        loader.finish_chunk(&[done]).await.unwrap();
        lane.finish(&record, &[RecordChange::state(&table.id, TableState::Ready)]).await.unwrap();
        let record = target.record().await.unwrap().unwrap();
        assert_eq!(record.tables[0].state, TableState::Ready);
        assert_eq!(record.tables[0].rows_loaded(), 3);
        assert_eq!(record.checkpoint, None);
    }

    #[tokio::test]
    async fn an_open_set_moves_no_checkpoint() {
        let target = NullTarget::new("t");
        let table = table();
        let (epoch, _) = target.take_over().await.unwrap();
        let mut lane = target.open_lane(epoch, None).await.unwrap();
        let record = TableRecord::new(&table, &table, TableState::Ready);
        lane.prepare(record, None, OnExisting::Refuse).await.unwrap();
        let (open, changes) = set(vec![rows(&table, 2)], 1, true);
        let applied = lane.apply(open, &changes).await.unwrap();
        assert_eq!(applied.tables[0].1.inserted, 2);
        assert_eq!(lane.durable(false).await.unwrap(), None);
        let (closing, mut changes) = set(Vec::new(), 2, false);
        changes.push(RecordChange::suspend(&table.id, "r", &"m".into()));
        lane.apply(closing, &changes).await.unwrap();
        assert_eq!(lane.durable(false).await.unwrap(), Some(Position::new(2, "2")));
        assert_eq!(target.record().await.unwrap().unwrap().tables[0].state, TableState::Suspended);
    }

    #[tokio::test]
    async fn an_earlier_lane_is_locked_out() {
        let target = NullTarget::new("t");
        let (first, _) = target.take_over().await.unwrap();
        let mut lane = target.open_lane(first, None).await.unwrap();
        target.take_over().await.unwrap();
        assert_eq!(lane.commit(&[]).await.unwrap_err().class(), Class::Fenced);
        assert!(target.open_loader(first).await.is_err());
    }
}
