//! A source in memory: a log of transactions that is kept from a place on, and snapshots of any moment.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::convert;
use super::model::{Database, Event, Key, ModelTable, Row, Value};
use crate::change::{BatchBuilder, ChangeBatch, ChangeSet, ColumnMask, Op, Span, Step, Truncate};
use crate::chunk::{Chunk, ChunkRange, KeyBound, LoadedChunk};
use crate::error::{Error, Result};
use crate::ports::{
    ChangeStream, ChunkOptions, Finding, Lag, Snapshot, SnapshotKind, Source, StreamRequest, StreamRole, StreamTable,
};
use crate::position::{Checkpoint, Lineage, Position};
use crate::schema::{Catalog, SchemaChange, SchemaChangeKind, TableId, TableSchema, Type};
use crate::task::{BatchLimits, Selection};

/// What the log holds of one statement.
#[derive(Clone, Debug)]
enum Entry {
    Row { table: TableId, op: Op, image: Row, old: Option<Row>, unknown: ColumnMask },
    Truncate(Vec<TableId>),
    Last(TableId, SchemaChangeKind),
}

#[derive(Debug, Default)]
struct State {
    tables: Vec<ModelTable>,
    now: Database,
    log: Vec<Vec<Entry>>,
    /// What has been acknowledged; `None` while nothing is retained.
    retained: Option<u128>,
    /// Where retaining began.
    created: u128,
    lineage: String,
    /// How long each batch of a snapshot takes to read.
    read_pause: Duration,
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

    /// Makes each batch of a snapshot take so long to read.
    pub fn read_slowly(&self, pause: Duration) {
        self.0.lock().unwrap().read_pause = pause;
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
        self.now.apply(&self.tables.clone(), event);
        match event {
            Event::Truncate(ids) => Entry::Truncate(ids.clone()),
            Event::Insert(id, row) => Entry::Row {
                table: id.clone(),
                op: Op::Insert,
                image: row.clone(),
                old: None,
                unknown: ColumnMask::default(),
            },
            Event::Delete(id, key) => {
                let model = self.model(id);
                let (mut image, mut unknown) = (before.rows[id][key].clone(), ColumnMask::default());
                for (i, value) in image.iter_mut().enumerate() {
                    if !model.full_image && !model.key.contains(&i) {
                        *value = None;
                        unknown.insert(i);
                    }
                }
                Entry::Row { table: id.clone(), op: Op::Delete, image, old: None, unknown }
            }
            Event::Update(id, key, set) => {
                let model = self.model(id);
                let old = before.rows[id][key].clone();
                let mut image = old.clone();
                set.iter().for_each(|(i, v)| image[*i] = v.clone());
                let rekeyed = model.key_of(&image) != *key;
                let mut unknown = ColumnMask::default();
                for i in model.big.iter().filter(|i| !set.contains_key(i) && !model.full_image && old[**i].is_some()) {
                    image[*i] = None;
                    unknown.insert(*i);
                }
                let old = (rekeyed || model.full_image).then_some(old);
                Entry::Row { table: id.clone(), op: Op::Update, image, old, unknown }
            }
        }
    }
}

#[async_trait]
impl Source for MemorySource {
    async fn identity(&self) -> Result<String> {
        Ok(format!("memory source {:p}", Arc::as_ptr(&self.0)))
    }

    async fn discover(&self, want: &Selection) -> Result<Catalog> {
        let state = self.0.lock().unwrap();
        let tables = state.tables.iter().filter(|t| want.takes(&t.id)).map(ModelTable::schema);
        Ok(Catalog { tables: tables.collect(), types: Vec::new(), secondary: Vec::new() })
    }

    async fn check(&self, _want: &Selection, _cdc: bool) -> Result<Vec<Finding>> {
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
        let start = after(state.log.len());
        Ok(Box::new(MemorySnapshot { start, rows: state.now.clone(), pause: state.read_pause }))
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
            limits: request.limits,
            next,
            offset: 0,
            gathered: Vec::new(),
            rows: 0,
            transactions: 0,
            taken: next,
            absent: HashSet::new(),
            open: false,
        }))
    }

    async fn retire(&self) -> Result<()> {
        self.0.lock().unwrap().retained = None;
        Ok(())
    }

    async fn lag(&self, from: Option<&Position>) -> Result<Lag> {
        let end = self.0.lock().unwrap().log.len() as u64;
        let bytes = from.map(|p| end.saturating_sub(p.order() as u64));
        Ok(Lag { current: after(end as usize), bytes, retained_bytes: None })
    }
}

struct MemorySnapshot {
    start: Position,
    rows: Database,
    pause: Duration,
}

#[async_trait]
impl Snapshot for MemorySnapshot {
    fn start(&self) -> &Position {
        &self.start
    }

    /// Cuts at integer keys, so that small worlds too have tables of several chunks.
    async fn chunks(&self, table: &Arc<TableSchema>, options: ChunkOptions) -> Result<Vec<Chunk>> {
        let rows = self.rows.rows.get(&table.id).map_or(0, BTreeMap::len) as u64;
        let column = table.key[0];
        let by_key = rows >= options.resume_above_bytes && table.columns[column].ty == Type::Int64;
        let bounds: Vec<Option<KeyBound>> = match by_key {
            true => [3, 6, 9].into_iter().map(|b| Some(KeyBound::Int(b))).collect(),
            false => return Ok(vec![Chunk { id: 0, range: ChunkRange::Whole, rows }]),
        };
        let lower = std::iter::once(None).chain(bounds.iter().cloned());
        let upper = bounds.iter().cloned().chain(std::iter::once(None));
        let chunk =
            |(id, (lower, upper))| Chunk { id: id as u32, range: ChunkRange::Key { column, lower, upper }, rows };
        Ok(lower.zip(upper).enumerate().map(chunk).collect())
    }

    fn read<'a>(
        &'a self,
        table: &'a Arc<TableSchema>,
        chunk: &'a Chunk,
        _batch_bytes: usize,
    ) -> BoxStream<'a, Result<ChangeBatch>> {
        let rows: Vec<&Row> = self
            .rows
            .rows
            .get(&table.id)
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(|r| holds(&chunk.range, r))
            .collect();
        let batches: Vec<_> = rows.chunks(2).map(|some| batch(table, some)).collect();
        let pause = self.pause;
        let slowly = move |batch| async move {
            tokio::time::sleep(pause).await;
            batch
        };
        futures::stream::iter(batches).then(slowly).boxed()
    }
}

fn batch(table: &Arc<TableSchema>, rows: &[&Row]) -> Result<ChangeBatch> {
    let mut builder = BatchBuilder::new(Arc::clone(table));
    for row in rows {
        builder.columns().iter_mut().zip(row.iter()).for_each(|(b, v)| convert::push(b, v.as_ref()));
        builder.end_row(Op::Insert, &ColumnMask::default())?;
    }
    builder.finish()
}

fn holds(range: &ChunkRange, row: &Row) -> bool {
    match range {
        ChunkRange::Key { column, lower, upper } => {
            let Some(Value::Int(v)) = &row[*column] else { panic!("an integer key") };
            let v = KeyBound::Int(*v);
            lower.as_ref().is_none_or(|l| *l <= v) && upper.as_ref().is_none_or(|u| v < *u)
        }
        ChunkRange::Whole | ChunkRange::Physical(_) => true,
    }
}

/// The shape of a table and its chunks.
type Followed = (TableId, (Arc<TableSchema>, Vec<LoadedChunk>));

/// What is on the target already is a chunk that was read there.
fn followed(table: &StreamTable) -> Followed {
    let own = table.from.iter().map(|at| LoadedChunk { range: ChunkRange::Whole, snapshot: at.clone() });
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
    limits: BatchLimits,
    /// The transaction to read next, and how many of its entries have been.
    next: usize,
    offset: usize,
    gathered: Vec<Entry>,
    rows: usize,
    transactions: u64,
    /// Where the last set ended.
    taken: usize,
    /// Rows that could not be read again because they had gone on to another key.
    absent: HashSet<(TableId, Key)>,
    /// The last set taken was open.
    open: bool,
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
    fn take_in(&mut self, entry: Entry) {
        let Entry::Row { table, op, mut image, old, mut unknown } = entry else {
            if let Entry::Truncate(ids) = entry {
                self.take_in_truncate(ids);
            }
            return;
        };
        if !self.delivers(&table) {
            return;
        }
        let model = self.source.0.lock().unwrap().model(&table).clone();
        let from = model.key_of(old.as_ref().unwrap_or(&image));
        let (had, has) = (self.loaded(&table, old.as_ref().unwrap_or(&image)), self.loaded(&table, &image));
        let orphan = op != Op::Insert && !had && self.absent.remove(&(table.clone(), from));
        match (op, had, has) {
            (Op::Insert | Op::Delete, _, true) | (Op::Update, true, true) => return,
            (Op::Delete | Op::Update, ..) if orphan && (has || op == Op::Delete) => return,
            (Op::Update, false, true) => {
                let gone = old.expect("a key that moved to another chunk has an old image");
                return self.gathered.push(Entry::Row { table, op: Op::Delete, image: gone, old: None, unknown });
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
                    return;
                };
                (image, unknown) = (row, ColumnMask::default());
            }
        }
        self.gathered.push(Entry::Row { table, op, image, old, unknown });
    }

    fn take_in_truncate(&mut self, ids: Vec<TableId>) {
        let mut empty = Vec::new();
        for id in ids.into_iter().filter(|id| self.delivers(id)).collect::<Vec<_>>() {
            self.absent.retain(|(table, _)| *table != id);
            let chunks = &self.tables[&id].1;
            let loaded = chunks.iter().filter(|c| (self.next as u128) < c.snapshot.order()).count();
            match loaded {
                0 => empty.push(id),
                // Every chunk was read after it.
                n if n == chunks.len() => {}
                _ => {
                    let reason = "it was emptied between two parts of its load".to_owned();
                    self.last(id, SchemaChangeKind::Reload { reason });
                }
            }
        }
        self.gathered.push(Entry::Truncate(empty));
    }

    fn last(&mut self, id: TableId, kind: SchemaChangeKind) {
        self.absent.retain(|(table, _)| *table != id);
        self.ended.insert(id.clone());
        self.gathered.push(Entry::Last(id, kind));
    }

    fn steps(&mut self) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let mut open: BTreeMap<TableId, BatchBuilder> = BTreeMap::new();
        for entry in std::mem::take(&mut self.gathered) {
            match entry {
                Entry::Truncate(ids) => {
                    flush(&mut open, &mut steps)?;
                    let known = ids.iter().filter_map(|id| self.tables.get(id));
                    let tables = known.map(|(schema, _)| Arc::clone(schema)).collect();
                    steps.push(Step::Truncate(Truncate { tables, cascade: false, restart_identity: false }));
                }
                Entry::Last(id, kind) => {
                    flush(&mut open, &mut steps)?;
                    let Some((table, _)) = self.tables.remove(&id) else { continue };
                    steps.push(Step::Schema(SchemaChange { table, kind }));
                }
                Entry::Row { table, op, image, old, unknown } => {
                    if !self.tables.contains_key(&table) {
                        continue;
                    }
                    let schema = &self.tables[&table].0;
                    let builder = open.entry(table).or_insert_with(|| BatchBuilder::new(Arc::clone(schema)));
                    builder.columns().iter_mut().zip(&image).for_each(|(b, v)| convert::push(b, v.as_ref()));
                    if let Some(old) = old {
                        let (builders, columns) = builder.old_columns();
                        builders.iter_mut().zip(columns).for_each(|(b, c)| convert::push(b, old[*c].as_ref()));
                        builder.end_old();
                    }
                    builder.end_row(op, &unknown)?;
                }
            }
        }
        flush(&mut open, &mut steps)?;
        Ok(steps)
    }
}

fn flush(open: &mut BTreeMap<TableId, BatchBuilder>, steps: &mut Vec<Step>) -> Result<()> {
    for (_, mut builder) in std::mem::take(open) {
        steps.push(Step::Rows(builder.finish()?));
    }
    Ok(())
}

#[async_trait]
impl ChangeStream for MemoryStream {
    async fn fill(&mut self) -> Result<()> {
        tokio::task::yield_now().await;
        let transaction = self.source.0.lock().unwrap().log.get(self.next).cloned();
        let Some(transaction) = transaction else {
            return {
                let _: () = tokio::time::sleep(Duration::from_millis(5)).await;
                Ok(())
            };
        };
        while self.offset < transaction.len() {
            if self.rows >= self.limits.max_rows {
                return Ok(());
            }
            self.take_in(transaction[self.offset].clone());
            self.rows += 1;
            self.offset += 1;
        }
        self.next += 1;
        self.offset = 0;
        self.transactions += 1;
        Ok(())
    }

    fn ready(&self) -> bool {
        let closes = self.open && self.absent.is_empty();
        let news = self.next > self.taken || closes || !self.gathered.is_empty();
        news && self.offset == 0 || self.full()
    }

    fn full(&self) -> bool {
        self.rows >= self.limits.max_rows
    }

    fn take(&mut self) -> Result<Option<ChangeSet>> {
        if !self.ready() {
            return Ok(None);
        }
        let steps = self.steps()?;
        // A row that is absent is remembered by nobody but us: no checkpoint may fall before its end.
        self.open = self.offset > 0 || !self.absent.is_empty();
        self.rows = 0;
        self.taken = self.next;
        let span = Span {
            end: after(self.next),
            committed_at: None,
            open: self.open,
            transactions: std::mem::take(&mut self.transactions),
            bytes: 0,
        };
        Ok(Some(ChangeSet { steps, span }))
    }

    fn between(&self) -> Option<Position> {
        (self.offset == 0 && self.absent.is_empty()).then(|| after(self.next))
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

    fn withdraw(&mut self, table: &TableId, last: SchemaChangeKind) -> Result<()> {
        if self.delivers(table) {
            self.last(table.clone(), last);
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
