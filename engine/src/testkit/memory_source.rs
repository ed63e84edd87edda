//! A source in memory: a log of transactions that is kept from a place on, and snapshots of any moment. It speaks
//! `left` unless it is told otherwise.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::convert;
use super::dialects::Tongue;
use super::growth::{self, Growth};
use super::log::Entry;
use super::model::{Database, Event, Key, ModelTable, Row, Value};
use super::ranges::{ALL, holds};
use crate::change::{ChangeBatch, ColumnMask, Commit, Gather, Op, Truncate};
use crate::chunk::{Chunk, LoadedChunk};
use crate::condition::Condition;
use crate::error::{Error, Result};
use crate::ports::{
    ChangeStream, ChunkOptions, Finding, Lag, Snapshot, SnapshotKind, Source, StreamRequest, StreamRole, StreamTable,
};
use crate::position::{Checkpoint, Lineage, Position};
use crate::schema::{Catalog, Column, SchemaChange, SchemaChangeKind, TableId, TableSchema, Type};
use crate::task::Selection;

#[derive(Debug, Default)]
struct State {
    tongue: Tongue,
    tables: Vec<ModelTable>,
    growth: Growth,
    now: Database,
    log: Vec<Vec<Entry>>,
    /// What has been acknowledged; `None` while nothing is retained.
    retained: Option<u128>,
    /// Where retaining began.
    created: u128,
    lineage: String,
    /// How long each batch of a snapshot takes to read.
    read_pause: Duration,
    /// Each table of a snapshot is read at a place of its own.
    apart: bool,
}

/// A source in memory; clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemorySource(Arc<Mutex<State>>);

/// The position after `n` transactions.
fn after(n: usize) -> Position {
    Position::new(n as u128, n.to_string())
}

impl MemorySource {
    /// A source with these tables, empty.
    pub fn new(tables: Vec<ModelTable>) -> Self {
        Self(Arc::new(Mutex::new(State { tables, lineage: "memory-1".to_owned(), ..State::default() })))
    }

    /// One that speaks this dialect.
    #[must_use]
    pub fn speaking(self, tongue: Tongue) -> Self {
        self.0.lock().unwrap().tongue = tongue;
        self
    }

    /// Makes each batch of a snapshot take so long to read.
    pub fn read_slowly(&self, pause: Duration) {
        self.0.lock().unwrap().read_pause = pause;
    }

    /// Makes snapshots read each table as it is when it is first asked for, at a place of its own.
    pub fn read_apart(&self) {
        self.0.lock().unwrap().apart = true;
    }

    /// Adds a table.
    pub fn create(&self, table: ModelTable) {
        self.0.lock().unwrap().tables.push(table);
    }

    /// Commits one transaction.
    pub fn commit(&self, events: &[Event]) {
        let state = &mut *self.0.lock().unwrap();
        let entries = events.iter().map(|e| state.log_entry(e)).collect();
        state.log.push(entries);
    }

    /// All tables now.
    pub fn tables(&self) -> Vec<ModelTable> {
        self.0.lock().unwrap().tables.clone()
    }

    /// All rows now.
    pub fn database(&self) -> Database {
        self.0.lock().unwrap().now.clone()
    }

    /// What has been acknowledged; `None` while that is where retaining began.
    pub fn acknowledged(&self) -> Option<u128> {
        let state = self.0.lock().unwrap();
        state.retained.filter(|at| *at > state.created)
    }

    /// Makes it another database, as a fail-over to a stranger would.
    pub fn change_lineage(&self) {
        self.0.lock().unwrap().lineage.push('x');
    }

    /// Lets go of the log, as another consumer in the place of this one would.
    pub fn steal(&self) {
        let state = &mut *self.0.lock().unwrap();
        state.retained = Some(state.log.len() as u128);
    }
}

impl State {
    fn model(&self, id: &TableId) -> &ModelTable {
        self.tables.iter().find(|t| t.id == *id).expect("a known table")
    }

    fn log_entry(&mut self, event: &Event) -> Entry {
        let before = self.now.clone();
        self.now.apply(&self.tables, event);
        if let Event::AddColumn(id, column, existing) = event {
            let model = self.tables.iter_mut().find(|t| t.id == *id).expect("a known table");
            model.columns.push(column.clone());
            self.growth.add(id, model.columns.len() - 1, existing.clone());
        }
        Entry::of(event, &self.tables, &before, self.tongue)
    }
}

#[async_trait]
impl Source for MemorySource {
    async fn identity(&self) -> Result<String> {
        Ok(format!("memory source {:p}", Arc::as_ptr(&self.0)))
    }

    async fn discover(&self, want: &Selection) -> Result<Catalog> {
        let state = self.0.lock().unwrap();
        let tables = state.tables.iter().filter(|t| want.takes(&t.id)).map(|t| t.schema_in(state.tongue));
        Ok(Catalog { tables: tables.collect(), types: Vec::new(), secondary: Vec::new(), histories: Vec::new() })
    }

    async fn check(&self, _want: &Selection, _cdc: bool, _readers: usize) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    async fn lineage(&self) -> Result<Lineage> {
        Ok(Lineage(self.0.lock().unwrap().lineage.clone()))
    }

    async fn vacant(&self) -> Result<()> {
        match self.0.lock().unwrap().retained {
            Some(_) => Err(Error::refused("something retains the log under this name")),
            None => Ok(()),
        }
    }

    async fn current(&self) -> Result<Position> {
        Ok(after(self.0.lock().unwrap().log.len()))
    }

    async fn select(&self, _tables: &[Arc<TableSchema>], _followed: &[TableId]) -> Result<()> {
        Ok(())
    }

    async fn verify(&self, checkpoint: &Checkpoint) -> Result<Lineage> {
        let state = self.0.lock().unwrap();
        if checkpoint.lineage.0 != state.lineage {
            return Err(Error::lineage("the source is another database than the one loaded"));
        }
        match state.retained {
            None => Err(Error::lineage("the log is not retained any more")),
            Some(at) if at > checkpoint.position.order() => Err(Error::lineage("the log was consumed by someone else")),
            Some(_) => Ok(checkpoint.lineage.clone()),
        }
    }

    async fn snapshot(
        &self,
        _tables: &[Arc<TableSchema>],
        kind: SnapshotKind,
        _readers: usize,
    ) -> Result<Box<dyn Snapshot>> {
        let state = &mut *self.0.lock().unwrap();
        if kind == SnapshotKind::Initial {
            state.created = state.log.len() as u128;
            state.retained = Some(state.created);
        }
        let (source, start) = (self.clone(), after(state.log.len()));
        let tables = if state.apart { None } else { Some(state.now.clone()) };
        Ok(Box::new(MemorySnapshot { source, start, tables, apart: Mutex::default(), pause: state.read_pause }))
    }

    async fn stream(&self, request: StreamRequest) -> Result<Box<dyn ChangeStream>> {
        let next = request.from.order() as usize;
        let retained = self.0.lock().unwrap().retained;
        assert!(retained.is_some_and(|retained| retained <= next as u128), "streams only from a retained place");
        Ok(Box::new(MemoryStream {
            source: self.clone(),
            tables: request.tables.iter().map(followed).collect(),
            role: request.role,
            ended: HashSet::new(),
            next,
            offset: 0,
            absent: HashSet::new(),
        }))
    }

    async fn retire(&self) -> Result<bool> {
        Ok(self.0.lock().unwrap().retained.take().is_some())
    }

    async fn lag(&self, from: Option<&Position>) -> Result<Lag> {
        let end = self.0.lock().unwrap().log.len() as u64;
        let bytes = from.map(|p| end.saturating_sub(p.order() as u64));
        Ok(Lag::of(after(end as usize), bytes))
    }
}

/// The rows of a table, and the place that they were read at.
type Read = (Position, BTreeMap<Key, Row>);

struct MemorySnapshot {
    source: MemorySource,
    start: Position,
    /// All of them, if they were read at once.
    tables: Option<Database>,
    /// Those that have been asked for, if each is read on its own.
    apart: Mutex<BTreeMap<TableId, Read>>,
    pause: Duration,
}

impl MemorySnapshot {
    fn table(&self, id: &TableId) -> Read {
        if let Some(tables) = &self.tables {
            return (self.start.clone(), tables.rows.get(id).cloned().unwrap_or_default());
        }
        let read = || {
            let state = self.source.0.lock().unwrap();
            (after(state.log.len()), state.now.rows.get(id).cloned().unwrap_or_default())
        };
        self.apart.lock().unwrap().entry(id.clone()).or_insert_with(read).clone()
    }
}

#[async_trait]
impl Snapshot for MemorySnapshot {
    fn start(&self) -> &Position {
        &self.start
    }

    fn place(&self, table: &TableSchema) -> Position {
        self.table(&table.id).0
    }

    /// Cuts at integer keys, so that small worlds too have tables of several chunks.
    async fn chunks(&self, table: &Arc<TableSchema>, options: ChunkOptions) -> Result<Vec<Chunk>> {
        let rows = self.table(&table.id).1.len() as u64;
        let column = table.key[0];
        let by_key = rows >= options.resume_above_bytes && table.columns[column].ty == Type::Int64;
        let ranges = match by_key {
            true => ["..3", "3..6", "6..9", "9.."].map(|range| format!("{column}:{range}")).to_vec(),
            false => vec![ALL.to_owned()],
        };
        let chunk = |(range, id)| Chunk { id, range, survives: by_key, rows };
        Ok(ranges.into_iter().zip(0..).map(chunk).collect())
    }

    fn read<'a>(
        &'a self,
        table: &'a Arc<TableSchema>,
        chunk: &'a Chunk,
        _wanted: Option<&'a Condition>,
        _batch_bytes: usize,
    ) -> BoxStream<'a, Result<ChangeBatch>> {
        let (_, rows) = self.table(&table.id);
        let rows: Vec<&Row> = rows.values().filter(|r| holds(&chunk.range, r)).collect();
        let growth = self.source.0.lock().unwrap().growth.clone();
        let batches: Vec<_> = rows.chunks(2).map(|some| growth.batch(table, some)).collect();
        let pause = self.pause;
        let slowly = move |batch| async move {
            tokio::time::sleep(pause).await;
            batch
        };
        futures::stream::iter(batches).then(slowly).boxed()
    }
}

/// The shape of a table and its chunks.
type Followed = (TableId, (Arc<TableSchema>, Vec<LoadedChunk>));

/// What is on the target already is a chunk that was read there.
fn followed(table: &StreamTable) -> Followed {
    let own = table.from.iter().map(|at| LoadedChunk { range: ALL.to_owned(), snapshot: at.clone() });
    let mut loaded: Vec<LoadedChunk> = own.collect();
    if let Some(at) = &table.from {
        loaded.extend(table.loaded.iter().filter(|c| c.snapshot > *at).cloned());
    } else {
        loaded.extend(table.loaded.iter().cloned());
    }
    (table.schema.id.clone(), (Arc::clone(&table.schema), loaded))
}

struct MemoryStream {
    source: MemorySource,
    tables: BTreeMap<TableId, (Arc<TableSchema>, Vec<LoadedChunk>)>,
    role: StreamRole,
    /// Tables of which no later change counts.
    ended: HashSet<TableId>,
    /// The transaction to read next, and how many of its entries have been.
    next: usize,
    offset: usize,
    /// Rows that could not be read again because they had gone on to another key.
    absent: HashSet<(TableId, Key)>,
}

impl MemoryStream {
    /// Whether the snapshot of the row's chunk already has what transaction `next` did.
    fn loaded(&self, table: &TableId, row: &Row) -> bool {
        let mut chunks = self.tables[table].1.iter().filter(|c| holds(&c.range, row));
        chunks.any(|c| (self.next as u128) < c.snapshot.order())
    }

    fn delivers(&self, table: &TableId) -> bool {
        self.tables.contains_key(table) && !self.ended.contains(table)
    }

    /// Takes one log entry in, without what the load has brought already.
    fn take_in(&mut self, entry: Entry, into: &mut Gather) -> Result<()> {
        let Entry::Row { table, op, mut image, old, mut unknown } = entry else {
            return match entry {
                Entry::Truncate(ids) => self.take_in_truncate(ids, into),
                Entry::Added(id, column, existing) => self.take_in_column(&id, column, existing.as_ref(), into),
                Entry::Row { .. } => unreachable!("a row"),
            };
        };
        if !self.delivers(&table) {
            return Ok(());
        }
        let model = self.source.0.lock().unwrap().model(&table).clone();
        let from = model.key_of(old.as_ref().unwrap_or(&image));
        let (had, has) = (self.loaded(&table, old.as_ref().unwrap_or(&image)), self.loaded(&table, &image));
        let orphan = op != Op::Insert && !had && self.absent.remove(&(table.clone(), from));
        match (op, had, has) {
            (Op::Insert | Op::Delete, _, true) | (Op::Update, true, true) => return Ok(()),
            (Op::Delete | Op::Update, ..) if orphan && (has || op == Op::Delete) => return Ok(()),
            (Op::Update, false, true) => {
                let gone = old.expect("a key that moved to another chunk has an old image");
                return self.put(&table, Op::Delete, &gone, None, &unknown, into);
            }
            _ => {}
        }
        let (mut op, mut old) = (op, old);
        if op == Op::Update && (had || orphan) {
            (op, old) = (Op::Insert, None);
            if !unknown.is_empty() {
                let key = model.key_of(&image);
                let Some(row) = self.source.database().rows[&table].get(&key).cloned() else {
                    self.absent.insert((table, key));
                    return Ok(());
                };
                (image, unknown) = (row, ColumnMask::default());
            }
        }
        self.put(&table, op, &image, old.as_ref(), &unknown, into)
    }

    fn put(
        &self,
        table: &TableId,
        op: Op,
        image: &Row,
        old: Option<&Row>,
        unknown: &ColumnMask,
        into: &mut Gather,
    ) -> Result<()> {
        let schema = &self.tables[table].0;
        let (number, image, old) = {
            let state = self.source.0.lock().unwrap();
            let fit = |row: &Row| state.growth.fit(row, schema);
            (state.tables.iter().position(|t| t.id == *table), fit(image), old.map(fit))
        };
        into.row(number.expect("a known table"), schema, 8 * image.len(), |batch| {
            batch.columns().iter_mut().zip(&image).for_each(|(b, v)| convert::push(b, v.as_ref()));
            if let Some(old) = old {
                let (builders, columns) = batch.old_columns();
                builders.iter_mut().zip(columns).for_each(|(b, c)| convert::push(b, old[*c].as_ref()));
                batch.end_old();
            }
            batch.end_row(op, unknown)
        })
    }

    fn take_in_truncate(&mut self, ids: Vec<TableId>, into: &mut Gather) -> Result<()> {
        let mut tables = Vec::new();
        for id in ids.into_iter().filter(|id| self.delivers(id)).collect::<Vec<_>>() {
            self.absent.retain(|(table, _)| *table != id);
            let (schema, chunks) = &self.tables[&id];
            let loaded = chunks.iter().filter(|c| (self.next as u128) < c.snapshot.order()).count();
            match loaded {
                0 => tables.push(Arc::clone(schema)),
                // Every chunk was read after it.
                n if n == chunks.len() => {}
                _ => {
                    let reason = "it was emptied between two parts of its load".to_owned();
                    self.last(&id, SchemaChangeKind::Reload { reason }, into)?;
                }
            }
        }
        into.truncate(Truncate { tables, cascade: false, restart_identity: false, commit: None })
    }

    fn last(&mut self, id: &TableId, kind: SchemaChangeKind, into: &mut Gather) -> Result<()> {
        self.absent.retain(|(table, _)| table != id);
        self.ended.insert(id.clone());
        let table = Arc::clone(&self.tables[id].0);
        into.schema(SchemaChange { table, kind })
    }

    fn take_in_column(
        &mut self,
        id: &TableId,
        column: Column,
        existing: Option<&Value>,
        into: &mut Gather,
    ) -> Result<()> {
        // The shape it is loaded in may have the column already.
        if !self.delivers(id) || self.tables[id].0.column(&column.name).is_some() {
            return Ok(());
        }
        let (change, next) = growth::added(&self.tables[id].0, column, existing)?;
        self.tables.get_mut(id).expect("a table that is followed").0 = next;
        into.schema(change)
    }
}

#[async_trait]
impl ChangeStream for MemoryStream {
    async fn fill(&mut self, into: &mut Gather) -> Result<()> {
        tokio::task::yield_now().await;
        let transaction = self.source.0.lock().unwrap().log.get(self.next).cloned();
        let Some(transaction) = transaction else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            return Ok(());
        };
        into.begin(Commit { position: after(self.next), at: None, transaction: self.next.to_string() });
        while self.offset < transaction.len() {
            if into.full() {
                return Ok(());
            }
            self.take_in(transaction[self.offset].clone(), into)?;
            // A row that is absent is remembered by nobody but us.
            into.hold(!self.absent.is_empty());
            self.offset += 1;
        }
        self.next += 1;
        self.offset = 0;
        into.commit(after(self.next), true);
        Ok(())
    }

    async fn add(&mut self, tables: Vec<StreamTable>) -> Result<()> {
        for table in &tables {
            assert!(self.offset == 0, "tables join between two transactions");
            self.ended.remove(&table.schema.id);
            let (id, followed) = followed(table);
            self.tables.insert(id, followed);
        }
        Ok(())
    }

    fn withdraw(&mut self, table: &TableId, last: SchemaChangeKind, into: &mut Gather) -> Result<()> {
        if self.delivers(table) {
            self.last(table, last, into)?;
            into.hold(!self.absent.is_empty());
        }
        Ok(())
    }

    async fn ack(&mut self, durable: Option<&Position>) -> Result<()> {
        if self.role == StreamRole::Aside {
            return Ok(());
        }
        let state = &mut *self.source.0.lock().unwrap();
        state.retained = state.retained.map(|at| at.max(durable.map_or(0, Position::order)));
        Ok(())
    }

    async fn close(&mut self, durable: Option<&Position>) -> Result<()> {
        self.ack(durable).await
    }
}
