//! A target in memory that speaks `right`: transactions, a disk that lags behind, fencing, and faults on demand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::columns::{self, Columns};
use super::model::{Database, Key, Row};
use crate::change::{
    ChangeBatch, Effect, KeyRef, NetChanges, Op, ReducedSet, ReducedStep, Reduction, RowRef, TableChanges, TableCounts,
};
use crate::error::{Error, Result};
use crate::ledger::MemoryLedger;
use crate::ports::{Abilities, Applied, Finding, Loader, TablePreview, Target, TargetLane};
use crate::position::Position;
use crate::record::{Epoch, RecordChange, TableRecord, TableState, TaskRecord};
use crate::schema::{AddedColumns, Catalog, TableId, TableSchema, TypeDefinition};
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
    tables: BTreeMap<TableId, Columns>,
    ledger: MemoryLedger,
}

#[derive(Debug)]
struct State {
    now: Committed,
    /// What survives a crash.
    disk: Committed,
    /// Connections opened so far, and how many of them died in a crash.
    connections: u64,
    dead: u64,
    faults: VecDeque<Fault>,
    /// Commits between two flushes.
    flush_every: u32,
    unflushed: u32,
    abilities: Abilities,
    /// Tables are made outside of transactions, and an intent is written down before.
    eager_ddl: bool,
}

/// A target in memory; clones share it.
#[derive(Clone, Debug)]
pub struct MemoryTarget(Arc<Mutex<State>>);

impl MemoryTarget {
    /// An empty target whose disk gets every `flush_every`th commit, and whose commits meet these faults.
    pub fn new(flush_every: u32, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: Committed::default(),
            disk: Committed::default(),
            connections: 0,
            dead: 0,
            faults: faults.into_iter().collect(),
            flush_every,
            unflushed: 0,
            abilities: Abilities::ALL,
            eager_ddl: false,
        })))
    }

    /// One that wants each change of the log.
    #[must_use]
    pub fn wanting_the_log(self) -> Self {
        self.0.lock().unwrap().abilities.reduction = Reduction::Log;
        self
    }

    /// One whose tables are there at once, whatever becomes of the transaction.
    #[must_use]
    pub fn with_eager_ddl(self) -> Self {
        self.0.lock().unwrap().eager_ddl = true;
        self
    }

    /// Puts rows there that no task has brought.
    pub fn put(&self, table: &TableId, key: Key, row: Row) {
        let state = &mut *self.0.lock().unwrap();
        state.now.rows.table(table).insert(key, row);
        state.flush();
    }

    /// All rows now.
    pub fn database(&self) -> Database {
        self.0.lock().unwrap().now.rows.clone()
    }

    /// What a crash would leave.
    pub fn durable_position(&self) -> Option<u128> {
        self.0.lock().unwrap().disk.ledger.position().map(|p| p.order())
    }

    /// Faults not met yet.
    pub fn faults_left(&self) -> usize {
        self.0.lock().unwrap().faults.len()
    }

    fn connect(&self, epoch: Epoch) -> Connection {
        let state = &mut *self.0.lock().unwrap();
        state.connections += 1;
        Connection { target: self.clone(), epoch, number: state.connections }
    }
}

/// Dies when the target crashes.
struct Connection {
    target: MemoryTarget,
    epoch: Epoch,
    number: u64,
}

impl Connection {
    fn commit<T>(&self, change: impl FnOnce(&mut Committed) -> Result<T>) -> Result<T> {
        let state = &mut *self.target.0.lock().unwrap();
        state.alive(self.number)?;
        state.now.ledger.enter(self.epoch)?;
        let fault = state.faults.pop_front().unwrap_or(Fault::None);
        if fault == Fault::Rejected {
            return Err(Error::transient("the target rolled back"));
        }
        let mut next = state.now.clone();
        let value = change(&mut next)?;
        state.now = next;
        state.unflushed += 1;
        if state.unflushed >= state.flush_every {
            state.flush();
        }
        match fault {
            Fault::AnswerLost => Err(Error::transient("connection lost during COMMIT")),
            Fault::Crash => {
                state.crash();
                Err(Error::transient("the target crashed"))
            }
            _ => Ok(value),
        }
    }

    /// A commit that is on the disk when it is answered.
    fn commit_durably<T>(&self, change: impl FnOnce(&mut Committed) -> Result<T>) -> Result<T> {
        let value = self.commit(change)?;
        self.target.0.lock().unwrap().flush();
        Ok(value)
    }
}

impl State {
    fn flush(&mut self) {
        self.disk = self.now.clone();
        self.unflushed = 0;
    }

    fn crash(&mut self) {
        self.now = self.disk.clone();
        self.dead = self.connections;
    }

    fn alive(&self, connection: u64) -> Result<()> {
        if connection > self.dead { Ok(()) } else { Err(Error::transient("connection lost")) }
    }
}

#[async_trait]
impl Target for MemoryTarget {
    async fn identity(&self) -> Result<String> {
        Ok(format!("memory target {:p}", Arc::as_ptr(&self.0)))
    }

    fn abilities(&self) -> Abilities {
        self.0.lock().unwrap().abilities
    }

    async fn check(&self, _loaders: usize) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    async fn plan(&self, catalog: &Catalog, _: &TaskRecord, _: OnExisting, _: bool) -> Result<Vec<TablePreview>> {
        let now = &self.0.lock().unwrap().now;
        let preview = |table: &Arc<TableSchema>| TablePreview {
            table: Arc::clone(table),
            exists: now.tables.contains_key(&table.id),
            ddl: Vec::new(),
            findings: columns::without_form(table),
        };
        Ok(catalog.tables.iter().map(preview).collect())
    }

    async fn record(&self) -> Result<Option<TaskRecord>> {
        Ok(self.0.lock().unwrap().now.ledger.record())
    }

    async fn take_over(&self) -> Result<(Epoch, TaskRecord)> {
        let state = &mut *self.0.lock().unwrap();
        let taken = state.now.ledger.take_over();
        // A crash takes no epoch back: nobody's connection survives it.
        state.flush();
        Ok(taken)
    }

    async fn open_lane(&self, epoch: Epoch, _committed: Option<&Position>) -> Result<Box<dyn TargetLane>> {
        Ok(Box::new(MemoryLane { to: self.connect(epoch), open: None, aside: None }))
    }

    async fn open_loader(&self, epoch: Epoch) -> Result<Box<dyn Loader>> {
        Ok(Box::new(MemoryLoader { to: self.connect(epoch), chunk: None }))
    }

    async fn request_reload(&self, table: &TableId) -> Result<()> {
        let state = &mut *self.0.lock().unwrap();
        state.now.ledger.request(table)?;
        state.flush();
        Ok(())
    }

    async fn requests(&self) -> Result<Vec<TableId>> {
        Ok(self.0.lock().unwrap().now.ledger.requests())
    }

    async fn forget(&self) -> Result<bool> {
        let state = &mut *self.0.lock().unwrap();
        let known = state.now.ledger.forget();
        state.flush();
        Ok(known)
    }
}

impl Committed {
    fn step(&mut self, step: &ReducedStep) -> Result<()> {
        match step {
            ReducedStep::Table(TableChanges { table, effect: Effect::Net(net) }) => self.net(table, net),
            ReducedStep::Table(TableChanges { table, effect: Effect::Log(batches) }) => {
                batches.iter().try_for_each(|batch| self.log(table, batch))
            }
            ReducedStep::Truncate(truncate) => {
                truncate.tables.iter().for_each(|t| self.known(t).clear());
                Ok(())
            }
            ReducedStep::Mark(mark) => {
                let value = columns::mark(mark);
                let unmarked = self.known(&mark.table).values_mut().filter(|row| row[mark.column].is_none());
                unmarked.for_each(|row| row[mark.column].clone_from(&value));
                Ok(())
            }
            ReducedStep::AddColumns(added) => {
                self.add_columns(added).map_err(|e| e.target_table(&added.next.id).of_table())
            }
        }
    }

    /// The rows of a table that has to be here in just this shape.
    fn known(&mut self, table: &TableSchema) -> &mut BTreeMap<Key, Row> {
        assert_eq!(self.tables.get(&table.id), columns::of(table).ok().as_ref(), "{} has other columns", table.id);
        self.rows.table(&table.id)
    }

    fn add_columns(&mut self, added: &AddedColumns) -> Result<()> {
        let (next, existing) = (columns::of(&added.next)?, columns::existing(added));
        self.known(&added.before).values_mut().for_each(|row| row.extend(existing.iter().cloned()));
        self.tables.insert(added.next.id.clone(), next);
        Ok(())
    }

    /// Each change as the log has it.
    fn log(&mut self, table: &TableSchema, batch: &ChangeBatch) -> Result<()> {
        let rows = self.known(table);
        let key_of = |row: &Row| -> Key { table.key.iter().map(|i| row[*i].clone()).collect() };
        for at in 0..batch.len() {
            let image = columns::row(batch, at);
            let old = batch.old_row(at).map(|n| columns::old_key(batch, n));
            let from = old.unwrap_or_else(|| key_of(&image));
            let before = if batch.ops[at] == Op::Insert { None } else { Some(rows.remove(&from)) };
            let before = before.map(|row| row.ok_or_else(|| Error::fatal(format!("a row was not there: {from:?}"))));
            let before = before.transpose()?;
            if batch.ops[at] == Op::Delete {
                continue;
            }
            let mask = batch.mask(at);
            let value = |(i, v)| if mask.contains(i) { before.as_ref().expect("an update")[i].clone() } else { v };
            let row: Row = image.into_iter().enumerate().map(value).collect();
            let met = rows.insert(key_of(&row), row);
            assert!(met.is_none(), "a row met another one: {met:?}");
        }
        Ok(())
    }

    fn net(&mut self, table: &TableSchema, net: &NetChanges) -> Result<()> {
        let image = |at: RowRef| columns::row(&net.batches[at.batch as usize], at.row as usize);
        let key_of = |row: &Row| -> Key { table.key.iter().map(|i| row[*i].clone()).collect() };
        let key = |at: KeyRef| match at {
            KeyRef::Row(at) => key_of(&image(at)),
            KeyRef::Old(at) => columns::old_key(&net.batches[at.batch as usize], at.row as usize),
        };
        let rows = self.known(table);
        for gone in &net.deletes {
            let key = key(*gone);
            rows.remove(&key)
                .ok_or_else(|| Error::fatal(format!("a deleted row was not there: {key:?}")).target_table(&table.id))?;
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

/// What a step does to rows of its table.
fn counts(step: &ReducedStep) -> Option<(TableId, TableCounts)> {
    let ReducedStep::Table(TableChanges { table, effect }) = step else { return None };
    let mut counts = TableCounts::default();
    match effect {
        Effect::Net(net) => counts = net.counts(),
        Effect::Log(batches) => batches.iter().flat_map(|b| &b.ops).for_each(|op| match op {
            Op::Insert => counts.inserted += 1,
            Op::Update => counts.updated += 1,
            Op::Delete => counts.deleted += 1,
        }),
    }
    Some((table.id.clone(), counts))
}

struct MemoryLane {
    to: Connection,
    /// Steps of sets whose transaction is still open.
    open: Option<Vec<ReducedStep>>,
    /// One of the tables that catch up by it, if it is not the main lane.
    aside: Option<TableId>,
}

impl MemoryLane {
    /// Makes the table; what is done with rows that are there.
    fn fit(
        committed: &mut Committed,
        table: &TableRecord,
        known: Option<&TableRecord>,
        existing: OnExisting,
    ) -> Result<()> {
        committed.tables.insert(table.target.id.clone(), columns::of(&table.target)?);
        let rows = committed.rows.table(&table.target.id);
        let load = table.state == TableState::Loading;
        match existing {
            _ if known.is_some() => rows.clear(),
            OnExisting::Refuse if load && !rows.is_empty() => {
                return Err(Error::refused("the target table has rows").target_table(&table.target.id));
            }
            OnExisting::Refuse | OnExisting::Keep => {}
            OnExisting::Truncate | OnExisting::Recreate => rows.clear(),
        }
        Ok(())
    }
}

#[async_trait]
impl TargetLane for MemoryLane {
    async fn commit(&mut self, changes: &[RecordChange]) -> Result<()> {
        self.to.commit_durably(|c| c.ledger.commit(self.to.epoch, changes))
    }

    async fn prepare_types(&mut self, _types: &[TypeDefinition]) -> Result<Vec<(TableId, Error)>> {
        Ok(Vec::new())
    }

    async fn prepare(
        &mut self,
        table: TableRecord,
        known: Option<&TableRecord>,
        existing: OnExisting,
    ) -> Result<TableRecord> {
        columns::of(&table.target)?;
        if self.to.target.0.lock().unwrap().eager_ddl {
            let intent = TableRecord { state: TableState::Preparing, ..table.clone() };
            self.to.commit_durably(|c| c.ledger.prepared(self.to.epoch, intent))?;
            let state = &mut *self.to.target.0.lock().unwrap();
            // Made, and on the disk, whatever comes of the rest.
            Self::fit(&mut state.now, &table, known, existing)?;
            state.flush();
        }
        self.to.commit_durably(|c| {
            Self::fit(c, &table, known, existing)?;
            c.ledger.prepared(self.to.epoch, table)
        })
    }

    async fn prepare_history(&mut self, history: &Arc<TableSchema>) -> Result<()> {
        let columns = columns::of(history)?;
        self.to.target.0.lock().unwrap().now.tables.insert(history.id.clone(), columns);
        Ok(())
    }

    async fn empty(&mut self, table: &Arc<TableSchema>, changes: &[RecordChange]) -> Result<()> {
        self.to.commit_durably(|c| {
            c.known(table).clear();
            c.ledger.commit(self.to.epoch, changes)
        })
    }

    async fn finish(&mut self, _table: &TableRecord, changes: &[RecordChange]) -> Result<()> {
        self.commit(changes).await
    }

    async fn apply(&mut self, set: ReducedSet, changes: &[RecordChange]) -> Result<Applied> {
        let mut steps = self.open.take().unwrap_or_default();
        steps.extend(set.steps);
        if set.span.open {
            assert!(changes.is_empty(), "an open set changes no record");
            self.open = Some(steps);
            return Ok(Applied::default());
        }
        if let Some(RecordChange::Position(tables, _)) = changes.last() {
            self.aside = tables.first().cloned();
        }
        self.to.commit(|c| {
            steps.iter().try_for_each(|s| c.step(s))?;
            c.ledger.commit(self.to.epoch, changes)
        })?;
        Ok(Applied { tables: steps.iter().filter_map(counts).collect() })
    }

    async fn durable(&mut self, now: bool) -> Result<Option<Position>> {
        if now {
            self.open = None;
        }
        let state = &mut *self.to.target.0.lock().unwrap();
        state.alive(self.to.number)?;
        let durable = match &self.aside {
            Some(table) => {
                if now {
                    state.flush();
                }
                state.disk.ledger.record().and_then(|r| r.table(table)?.position.clone())
            }
            None => state.disk.ledger.position(),
        };
        // Asked again, the disk has caught up: an idle target flushes too.
        state.flush();
        Ok(durable)
    }
}

struct MemoryLoader {
    to: Connection,
    chunk: Option<(TableRecord, Vec<Row>)>,
}

#[async_trait]
impl Loader for MemoryLoader {
    async fn start_chunk(&mut self, table: &TableRecord) -> Result<()> {
        self.chunk = Some((table.clone(), Vec::new()));
        Ok(())
    }

    async fn load(&mut self, rows: ChangeBatch) -> Result<()> {
        let (_, loaded) = self.chunk.as_mut().expect("a chunk was started");
        loaded.extend((0..rows.len()).map(|r| columns::row(&rows, r)));
        Ok(())
    }

    async fn finish_chunk(&mut self, changes: &[RecordChange]) -> Result<()> {
        let (table, rows) = self.chunk.take().expect("a chunk was started");
        self.to.commit_durably(|c| {
            let key = &table.target.key;
            let there = c.known(&table.target);
            for row in rows {
                there.insert(key.iter().map(|i| row[*i].clone()).collect(), row);
            }
            c.ledger.commit(self.to.epoch, changes)
        })
    }
}
