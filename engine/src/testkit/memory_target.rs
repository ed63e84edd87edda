//! A target in memory: transactions, a disk that lags behind, fencing, and faults on demand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::convert;
use super::model::{Database, Key, Row};
use crate::change::{ChangeBatch, ChangeSet, Effect, KeyRef, NetChanges, RowRef, Step, TableChanges};
use crate::error::{Class, Error, Result};
use crate::ports::{
    Applied, Chunk, ChunkRecord, Epoch, Finding, Loader, TablePreview, TableRecord, TableState, Target, TargetLane,
    TaskRecord,
};
use crate::position::{Checkpoint, Lineage, Position};
use crate::schema::{Catalog, SchemaChangeKind, TableId, TableSchema, TypeDefinition};
use crate::task::OnExisting;

/// What goes wrong at a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The transaction is rolled back and says so.
    Rejected,
    /// The transaction commits, but the answer is lost.
    AnswerLost,
    /// The target crashes: what its disk does not have is gone.
    Crash,
}

/// What a transaction makes visible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Committed {
    rows: Database,
    lineage: Option<Lineage>,
    checkpoint: Option<Checkpoint>,
    tables: BTreeMap<TableId, TableRecord>,
}

#[derive(Debug, Default)]
struct State {
    now: Committed,
    /// What survives a crash.
    disk: Committed,
    epoch: i64,
    /// Below this epoch connections died in a crash.
    alive_from: i64,
    faults: VecDeque<Fault>,
    /// Commits between two flushes.
    flush_every: u32,
    unflushed: u32,
}

/// A target in memory; clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryTarget(Arc<Mutex<State>>);

impl MemoryTarget {
    /// An empty target whose disk gets every `flush_every`th commit, and whose commits meet these faults.
    pub fn new(flush_every: u32, faults: impl IntoIterator<Item = Fault>) -> Self {
        let faults = faults.into_iter().collect();
        Self(Arc::new(Mutex::new(State { flush_every, faults, ..State::default() })))
    }

    /// All rows now.
    pub fn database(&self) -> Database {
        self.0.lock().unwrap().now.rows.clone()
    }

    /// What a crash would leave.
    pub fn durable_position(&self) -> Option<u128> {
        self.0.lock().unwrap().disk.checkpoint.as_ref().map(|c| c.position.order())
    }

    /// Faults not met yet.
    pub fn faults_left(&self) -> usize {
        self.0.lock().unwrap().faults.len()
    }

    fn commit(&self, epoch: Epoch, change: impl FnOnce(&mut Committed) -> Result<()>) -> Result<()> {
        let state = &mut *self.0.lock().unwrap();
        if epoch.0 != state.epoch {
            return Err(Error::new(Class::Fenced, "another process has taken the task over"));
        }
        if epoch.0 < state.alive_from {
            return Err(Error::transient("connection lost"));
        }
        let fault = state.faults.pop_front().unwrap_or(Fault::None);
        if fault == Fault::Rejected {
            return Err(Error::transient("the target rolled back"));
        }
        let mut next = state.now.clone();
        change(&mut next)?;
        state.now = next;
        state.unflushed += 1;
        if state.unflushed >= state.flush_every {
            state.flush();
        }
        match fault {
            Fault::AnswerLost => Err(Error::transient("connection lost during COMMIT")),
            Fault::Crash => {
                state.now = state.disk.clone();
                state.alive_from = state.epoch + 1;
                Err(Error::transient("the target crashed"))
            }
            _ => Ok(()),
        }
    }
}

impl State {
    fn flush(&mut self) {
        self.disk = self.now.clone();
        self.unflushed = 0;
    }
}

#[async_trait]
impl Target for MemoryTarget {
    async fn identity(&self) -> Result<String> {
        Ok(format!("memory target {:p}", Arc::as_ptr(&self.0)))
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    async fn plan(&self, _catalog: &Catalog, _existing: OnExisting, _load: bool) -> Result<Vec<TablePreview>> {
        Ok(Vec::new())
    }

    async fn record(&self) -> Result<Option<TaskRecord>> {
        let record = self.0.lock().unwrap().now.record();
        Ok((record != TaskRecord::default()).then_some(record))
    }

    async fn open_lane(&self) -> Result<Box<dyn TargetLane>> {
        let state = &mut *self.0.lock().unwrap();
        state.epoch += 1;
        Ok(Box::new(MemoryLane { target: self.clone(), epoch: Epoch(state.epoch), open: None }))
    }

    async fn open_loader(&self, epoch: Epoch) -> Result<Box<dyn Loader>> {
        Ok(Box::new(MemoryLoader { target: self.clone(), epoch, chunk: None }))
    }

    async fn reload(&self, table: &TableId) -> Result<()> {
        let state = &mut *self.0.lock().unwrap();
        match state.now.tables.get_mut(table) {
            Some(record) => record.state = TableState::Reload,
            None => return Err(Error::refused("not a table of this task").table(table)),
        }
        state.flush();
        Ok(())
    }

    async fn forget(&self) -> Result<()> {
        let state = &mut *self.0.lock().unwrap();
        let rows = std::mem::take(&mut state.now).rows;
        state.now.rows = rows;
        state.flush();
        Ok(())
    }
}

impl Committed {
    fn record(&self) -> TaskRecord {
        TaskRecord {
            lineage: self.lineage.clone(),
            checkpoint: self.checkpoint.clone(),
            committed_at: None,
            tables: self.tables.values().cloned().collect(),
        }
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Table(TableChanges { table, effect: Effect::Net(net) }) => self.net(table, net),
            Step::Rows(_) | Step::Table(_) => Err(Error::fatal("the memory target has tables with keys only")),
            Step::Truncate(truncate) => {
                truncate.tables.iter().for_each(|t| self.rows.table(&t.id).clear());
                Ok(())
            }
            Step::Schema(change) => {
                let record = self.tables.get_mut(&change.table.id).expect("a known table");
                match &change.kind {
                    SchemaChangeKind::AddColumns { next, .. } => record.schema = Arc::clone(next),
                    SchemaChangeKind::Reload { .. } => record.state = TableState::Reload,
                    SchemaChangeKind::Suspend { reason, .. } => {
                        record.state = TableState::Suspended;
                        record.reason = Some(reason.clone());
                    }
                }
                Ok(())
            }
        }
    }

    fn net(&mut self, table: &TableSchema, net: &NetChanges) -> Result<()> {
        let image = |at: RowRef| convert::row(&net.batches[at.batch as usize].rows, at.row as usize);
        let key_of = |row: &Row| -> Key { table.key.iter().map(|i| row[*i].clone()).collect() };
        let key = |at: KeyRef| match at {
            KeyRef::Row(at) => key_of(&image(at)),
            KeyRef::Old(at) => {
                let columns = table.old_columns();
                let images = &net.batches[at.batch as usize].old.as_ref().unwrap().images;
                let place = |k: &usize| columns.iter().position(|c| c == k).unwrap();
                table.key.iter().map(|k| convert::value(images, place(k), at.row as usize)).collect()
            }
        };
        let rows = self.rows.table(&table.id);
        for gone in &net.deletes {
            let key = key(*gone);
            rows.remove(&key)
                .ok_or_else(|| Error::fatal(format!("a deleted row was not there: {key:?}")).table(&table.id))?;
        }
        let fill = |old: &Row, at: RowRef| -> Row {
            let mask = net.batches[at.batch as usize].mask(at.row as usize);
            image(at).into_iter().enumerate().map(|(i, v)| if mask.contains(i) { old[i].clone() } else { v }).collect()
        };
        let mut put = Vec::new();
        for moved in &net.moves {
            let old = rows.remove(&key(moved.from)).ok_or_else(|| Error::fatal("a moved row was not there"))?;
            put.push(fill(&old, moved.to));
        }
        for at in net.updates.iter().flat_map(|g| &g.rows) {
            let old = rows.get(&key_of(&image(*at))).ok_or_else(|| Error::fatal("an updated row was not there"))?;
            let row = fill(old, *at);
            rows.insert(key_of(&row), row);
        }
        put.extend(net.inserts.iter().map(|at| image(*at)));
        for row in put {
            let met = rows.insert(key_of(&row), row);
            assert!(met.is_none(), "an inserted row met another one: {met:?}");
        }
        Ok(())
    }
}

struct MemoryLane {
    target: MemoryTarget,
    epoch: Epoch,
    /// Steps of sets whose transaction is still open.
    open: Option<Vec<Step>>,
}

#[async_trait]
impl TargetLane for MemoryLane {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    async fn record(&mut self) -> Result<TaskRecord> {
        Ok(self.target.0.lock().unwrap().now.record())
    }

    async fn begin(&mut self, lineage: &Lineage) -> Result<()> {
        self.target.commit(self.epoch, |c| {
            c.lineage = Some(lineage.clone());
            Ok(())
        })?;
        self.target.0.lock().unwrap().flush();
        Ok(())
    }

    async fn prepare_types(&mut self, _types: &[TypeDefinition]) -> Result<()> {
        Ok(())
    }

    async fn prepare(&mut self, table: &Arc<TableSchema>, existing: OnExisting, load: bool) -> Result<()> {
        self.target.commit(self.epoch, |c| {
            let reloaded = c.tables.contains_key(&table.id);
            let rows = c.rows.table(&table.id);
            match existing {
                _ if reloaded => rows.clear(),
                OnExisting::Refuse if load && !rows.is_empty() => {
                    return Err(Error::refused("the target table has rows").table(&table.id));
                }
                OnExisting::Refuse | OnExisting::Keep => {}
                OnExisting::Truncate | OnExisting::Recreate => rows.clear(),
            }
            let state = if load { TableState::Loading } else { TableState::Ready };
            let schema = Arc::clone(table);
            let record = TableRecord { schema, state, reason: None, remedy: None, chunks: Vec::new() };
            c.tables.insert(table.id.clone(), record);
            Ok(())
        })
    }

    async fn plan_chunks(&mut self, table: &Arc<TableSchema>, chunks: &[Chunk], empty: bool) -> Result<()> {
        self.target.commit(self.epoch, |c| {
            if empty {
                c.rows.table(&table.id).clear();
            }
            let planned = chunks.iter().map(|chunk| ChunkRecord { chunk: chunk.clone(), done: None, rows: 0 });
            c.tables.get_mut(&table.id).expect("prepared").chunks = planned.collect();
            Ok(())
        })
    }

    async fn finish_table(&mut self, table: &Arc<TableSchema>) -> Result<()> {
        self.target.commit(self.epoch, |c| {
            c.tables.get_mut(&table.id).expect("prepared").state = TableState::Ready;
            Ok(())
        })
    }

    async fn suspend(&mut self, table: &Arc<TableSchema>, reason: &str, remedy: &str) -> Result<()> {
        self.target.commit(self.epoch, |c| {
            let record = TableRecord {
                schema: Arc::clone(table),
                state: TableState::Suspended,
                reason: Some(reason.to_owned()),
                remedy: Some(remedy.to_owned()),
                chunks: Vec::new(),
            };
            c.tables.insert(table.id.clone(), record);
            Ok(())
        })
    }

    async fn forget_table(&mut self, table: &TableId) -> Result<()> {
        self.target.commit(self.epoch, |c| {
            c.tables.remove(table);
            Ok(())
        })
    }

    async fn apply(&mut self, set: ChangeSet, next: &Checkpoint) -> Result<Applied> {
        let mut steps = self.open.take().unwrap_or_default();
        let (rows, set) = (set.rows(), set.reduce()?);
        assert_eq!(set.rows(), rows, "every change is counted once");
        steps.extend(set.steps);
        if set.open {
            self.open = Some(steps);
            return Ok(Applied::default());
        }
        self.target.commit(self.epoch, |c| {
            steps.iter().try_for_each(|s| c.step(s))?;
            c.checkpoint = Some(next.clone());
            Ok(())
        })?;
        Ok(Applied::default())
    }

    async fn durable(&mut self, now: bool) -> Result<Option<Position>> {
        if now {
            self.open = None;
        }
        let state = &mut *self.target.0.lock().unwrap();
        if self.epoch.0 < state.alive_from {
            return Err(Error::transient("connection lost"));
        }
        let durable = state.disk.checkpoint.as_ref().map(|c| c.position.clone());
        // Asked again, the disk has caught up: an idle target flushes too.
        state.flush();
        Ok(durable)
    }
}

struct MemoryLoader {
    target: MemoryTarget,
    epoch: Epoch,
    chunk: Option<(TableId, u32, Vec<Row>)>,
}

#[async_trait]
impl Loader for MemoryLoader {
    async fn start_chunk(&mut self, table: &Arc<TableSchema>, chunk: &Chunk) -> Result<()> {
        self.chunk = Some((table.id.clone(), chunk.id, Vec::new()));
        Ok(())
    }

    async fn load(&mut self, rows: ChangeBatch) -> Result<()> {
        let (_, _, loaded) = self.chunk.as_mut().expect("a chunk was started");
        loaded.extend((0..rows.len()).map(|r| convert::row(&rows.rows, r)));
        Ok(())
    }

    async fn finish_chunk(&mut self, snapshot: &Position) -> Result<u64> {
        let (table, id, rows) = self.chunk.take().expect("a chunk was started");
        let count = rows.len() as u64;
        self.target.commit(self.epoch, |c| {
            let record = c.tables.get_mut(&table).expect("prepared");
            let key = record.schema.key.clone();
            let chunk = record.chunks.iter_mut().find(|c| c.chunk.id == id).expect("planned");
            chunk.done = Some(snapshot.clone());
            chunk.rows = count;
            for row in rows {
                c.rows.table(&table).insert(key.iter().map(|i| row[*i].clone()).collect(), row);
            }
            Ok(())
        })?;
        Ok(count)
    }
}
