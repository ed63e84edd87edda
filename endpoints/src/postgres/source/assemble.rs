//! Messages of the log into change sets. No IO: what must be asked of the server is returned as a [`Need`], and the
//! message comes again when the answer is there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use trem_engine::change::{BatchBuilder, ChangeSet, Op, Step, Truncate};
use trem_engine::ports::StreamRequest;
use trem_engine::schema::{SchemaChange, SchemaChangeKind, TableSchema};
use trem_engine::task::BatchLimits;
use trem_engine::time::micros_from_2000;
use trem_engine::{Error, Result};

use super::loaded::{Loaded, RowKey, Verdict};
use super::read::{LARGE_ROW, push_row};
use super::relation::{self, Difference};
use super::{image, lsn};
use crate::postgres::types::{TypeBook, Wire};
use crate::postgres::wire::copy::CopyRow;
use crate::postgres::wire::pgoutput::{Begin, Commit, Message, OldTuple, Relation, Tuple};

/// What must be asked of the server before the message at hand can be taken in.
#[derive(Debug)]
pub(super) enum Need {
    /// What the columns are that were added to a table.
    Added { table: usize, relation: Relation },
    /// A row, by its key.
    Row { table: usize, key: Vec<String> },
}

/// A table of the stream.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) schema: Arc<TableSchema>,
    pub(super) wires: Vec<Wire>,
    pub(super) builder: BatchBuilder,
    loaded: Option<Loaded>,
    suspended: bool,
    /// Compared with the shape only when a change of it counts: before the table's snapshot it may be an older one.
    unchecked: Option<Relation>,
}

/// Gathers whole transactions.
#[derive(Debug)]
pub(super) struct Assembler {
    task: String,
    limits: BatchLimits,
    from: u64,
    tables: Vec<Live>,
    /// Relation numbers of the log; `None` for tables that are not ours.
    relations: HashMap<u32, Option<usize>>,
    begin: Option<Begin>,
    steps: Vec<Step>,
    rows: usize,
    bytes: usize,
    step_bytes: usize,
    end: u64,
    taken: u64,
    /// The target's transaction is open since the last take.
    open: bool,
    committed_at: Option<SystemTime>,
    transactions: u64,
    answer: Option<Option<Bytes>>,
    /// Tables that the catalogue no longer has, and by which place in the log that was so.
    gone: Vec<(u64, usize)>,
    scratch: Vec<u8>,
}

/// One change of a row.
#[derive(Clone, Copy)]
enum Change<'a> {
    Insert(Tuple<'a>),
    Update(Option<OldTuple<'a>>, Tuple<'a>),
    Delete(OldTuple<'a>),
}

impl Change<'_> {
    fn bytes(&self) -> usize {
        match self {
            Self::Insert(new) => new.bytes(),
            Self::Update(old, new) => old.map_or(0, |o| o.tuple().bytes()) + new.bytes(),
            Self::Delete(old) => old.tuple().bytes(),
        }
    }
}

impl Assembler {
    pub(super) fn new(task: &str, request: StreamRequest, types: &TypeBook) -> Result<Self> {
        let from = lsn::of(&request.from)?;
        let mut tables = Vec::with_capacity(request.tables.len());
        for table in request.tables {
            tables.push(Live {
                wires: types.wires(&table.schema),
                builder: BatchBuilder::new(Arc::clone(&table.schema)),
                loaded: Loaded::new(&table.loaded, from)?,
                schema: table.schema,
                suspended: false,
                unchecked: None,
            });
        }
        Ok(Self {
            task: task.to_owned(),
            limits: request.limits,
            from,
            tables,
            relations: HashMap::new(),
            begin: None,
            steps: Vec::new(),
            rows: 0,
            bytes: 0,
            step_bytes: 0,
            end: from,
            taken: from,
            open: false,
            committed_at: None,
            transactions: 0,
            answer: None,
            gone: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// The table at `index`.
    pub(super) fn table(&self, index: usize) -> &Live {
        &self.tables[index]
    }

    /// Whether a transaction has begun and not ended.
    pub(super) fn in_transaction(&self) -> bool {
        self.begin.is_some()
    }

    /// Whether the limits are reached. Between transactions that is soon; inside one there is as much room again, so
    /// that only a transaction that is itself large is split.
    pub(super) fn full(&self) -> bool {
        let room = if self.in_transaction() { 2 } else { 1 };
        self.rows >= self.limits.max_rows.saturating_mul(room)
            || self.bytes >= self.limits.max_bytes.saturating_mul(room)
    }

    /// Whether [`Assembler::take`] has something to give.
    pub(super) fn ready(&self) -> bool {
        if self.in_transaction() {
            return self.full();
        }
        self.end != self.taken || !self.steps.is_empty() || (self.open && !self.waits())
    }

    /// Whether a row is missing on the target until the log says what became of it: the target's transaction stays
    /// open that long, as nothing would remember the row over a restart.
    fn waits(&self) -> bool {
        self.tables.iter().filter_map(|t| t.loaded.as_ref()).any(Loaded::waits)
    }

    /// The server has sent everything before this place.
    pub(super) fn reached(&mut self, server_end: u64) -> Result<()> {
        if self.in_transaction() {
            return Ok(());
        }
        self.end = self.end.max(server_end);
        self.lapse()
    }

    /// The numbers of the tables that are followed.
    pub(super) fn followed(&self) -> Vec<u32> {
        let followed = self.tables.iter().filter(|t| !t.suspended && t.schema.native_id != 0);
        followed.map(|t| t.schema.native_id).collect()
    }

    /// The catalogue has no table of this number, at `place` in the log. Nothing in the log says so; what was logged
    /// of it before still counts.
    pub(super) fn is_gone(&mut self, native_id: u32, place: u64) {
        let index = self.tables.iter().position(|t| t.schema.native_id == native_id);
        if let Some(index) = index.filter(|i| !self.gone.iter().any(|(_, known)| known == i)) {
            self.gone.push((place, index));
        }
    }

    fn lapse(&mut self) -> Result<()> {
        while let Some(at) = self.gone.iter().position(|(place, _)| *place <= self.end) {
            let (_, index) = self.gone.swap_remove(at);
            if !self.tables[index].suspended {
                self.suspend(index, "the table was dropped, or dropped and created anew, at the source".to_owned())?;
            }
        }
        Ok(())
    }

    /// Takes one message in. After a [`Need`] the same message is to be given again.
    pub(super) fn message(&mut self, payload: &[u8], whole: &Bytes) -> Result<Option<Need>> {
        match Message::decode(payload)? {
            Message::Begin(begin) => self.begin = Some(begin),
            Message::Commit(commit) => self.commit(commit)?,
            Message::Relation(relation) => return self.relation(relation),
            Message::Insert { relation, new } => return self.change(relation, Change::Insert(new), whole),
            Message::Update { relation, old, new } => return self.change(relation, Change::Update(old, new), whole),
            Message::Delete { relation, old } => return self.change(relation, Change::Delete(old), whole),
            Message::Truncate { relations, cascade, restart_identity } => {
                return self.truncate(&relations, cascade, restart_identity);
            }
            Message::Origin | Message::Type | Message::Logical => {}
        }
        Ok(None)
    }

    fn commit(&mut self, commit: Commit) -> Result<()> {
        self.begin = None;
        self.end = self.end.max(commit.end_lsn);
        self.transactions += 1;
        let micros = micros_from_2000(commit.time);
        self.committed_at = u64::try_from(micros).ok().map(|m| SystemTime::UNIX_EPOCH + Duration::from_micros(m));
        self.lapse()
    }

    /// Where the transaction at hand committed; `None` if the target has it already.
    fn commit_lsn(&self) -> Result<Option<u64>> {
        let begin = self.begin.ok_or_else(|| Error::fatal("the server sent a change outside of a transaction"))?;
        Ok((begin.final_lsn >= self.from).then_some(begin.final_lsn))
    }

    fn relation(&mut self, relation: Relation) -> Result<Option<Need>> {
        let numbered = self.tables.iter().position(|t| t.schema.native_id == relation.id);
        let named = |t: &Live| (&t.schema.id.schema, &t.schema.id.table) == (&relation.schema, &relation.name);
        let found = numbered.or_else(|| self.tables.iter().position(named));
        self.relations.insert(relation.id, found);
        if let Some(index) = found {
            self.tables[index].unchecked = Some(relation);
        }
        Ok(None)
    }

    /// Compares what the server last said of a table's shape with the shape that the target has.
    fn checked(&mut self, index: usize) -> Result<Option<Need>> {
        let Some(relation) = self.tables[index].unchecked.take() else { return Ok(None) };
        match relation::compare(&self.tables[index].schema, &relation) {
            Difference::None => Ok(None),
            Difference::Added(_) => {
                self.tables[index].unchecked = Some(relation.clone());
                Ok(Some(Need::Added { table: index, relation }))
            }
            Difference::Other(reason) => {
                self.suspend(index, reason)?;
                Ok(None)
            }
        }
    }

    fn suspend(&mut self, index: usize, reason: String) -> Result<()> {
        let remedy = relation::remedy(&self.task, &self.tables[index].schema);
        self.reshape(index, SchemaChangeKind::Suspend { reason, remedy }, Vec::new())
    }

    /// The answer to [`Need::Added`].
    pub(super) fn reshape(&mut self, index: usize, kind: SchemaChangeKind, wires: Vec<Wire>) -> Result<()> {
        self.barrier()?;
        let table = &mut self.tables[index];
        let before = Arc::clone(&table.schema);
        match &kind {
            SchemaChangeKind::AddColumns { next, .. } => {
                table.schema = Arc::clone(next);
                table.builder = BatchBuilder::new(Arc::clone(next));
                table.wires = wires;
            }
            SchemaChangeKind::Suspend { .. } | SchemaChangeKind::Reload { .. } => {
                table.suspended = true;
                table.loaded = None;
            }
        }
        self.steps.push(Step::Schema(SchemaChange { table: before, kind }));
        Ok(())
    }

    /// The answer to [`Need::Row`]: the COPY row, if the row is there.
    pub(super) fn found(&mut self, row: Option<Bytes>) {
        self.answer = Some(row);
    }

    /// The table that a change is of, its shape compared; `None` if the change does not count.
    fn live(&mut self, relation: u32) -> Result<Result<Option<(usize, u64)>, Need>> {
        let index = *self.relations.get(&relation).ok_or_else(|| relation::undescribed(relation))?;
        let (Some(index), Some(commit)) = (index, self.commit_lsn()?) else { return Ok(Ok(None)) };
        let table = &mut self.tables[index];
        if table.loaded.as_ref().is_some_and(|l| l.done(commit)) {
            table.loaded = None;
        }
        if table.suspended || table.loaded.as_ref().is_some_and(|l| commit < l.lowest) {
            return Ok(Ok(None));
        }
        if let Some(need) = self.checked(index)? {
            return Ok(Err(need));
        }
        Ok(Ok((!self.tables[index].suspended).then_some((index, commit))))
    }

    fn change(&mut self, relation: u32, change: Change<'_>, whole: &Bytes) -> Result<Option<Need>> {
        let (index, commit) = match self.live(relation)? {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(need) => return Ok(Some(need)),
        };
        let id = self.tables[index].schema.id.clone();
        self.counted(index, commit, change, whole).map_err(|e| e.table(&id))
    }

    fn counted(&mut self, index: usize, commit: u64, change: Change<'_>, whole: &Bytes) -> Result<Option<Need>> {
        let table = &self.tables[index];
        let Some(loaded) = &table.loaded else {
            self.write(index, change, whole)?;
            return Ok(None);
        };
        let key = |tuple, fallback| image::row_key(table, tuple, fallback);
        let (old, new) = match change {
            Change::Insert(new) => (None, Some(key(new, None)?)),
            Change::Update(Some(old), new) => (Some(key(old.tuple(), None)?), Some(key(new, Some(old.tuple()))?)),
            Change::Update(None, new) => {
                let key = key(new, None)?;
                (Some(key.clone()), Some(key))
            }
            Change::Delete(old) => (Some(key(old.tuple(), None)?), None),
        };
        let verdict = match (&old, &new) {
            (None, Some(new)) => loaded.insert(new, commit),
            (Some(old), Some(new)) => loaded.update(old, new, commit),
            (Some(old), None) => loaded.delete(old, commit),
            (None, None) => Verdict::Skip,
        };
        match (verdict, change) {
            (Verdict::Apply, change) => self.write(index, change, whole)?,
            (Verdict::DeleteOld, Change::Update(Some(old), _)) => self.write(index, Change::Delete(old), whole)?,
            (Verdict::PutNew, Change::Update(old_tuple, tuple)) => {
                let (Some(old), Some(new)) = (&old, &new) else { return Ok(None) };
                return self.put(index, old, new, old_tuple, tuple, whole);
            }
            _ => {}
        }
        if let Some(loaded) = &mut self.tables[index].loaded {
            for key in old.iter().chain(&new) {
                loaded.settled(key);
            }
        }
        Ok(None)
    }

    /// A row that the target does not have, from an update: as it is in the log, or read again if the log does not
    /// have all of it. What follows in the log then corrects what was read too new.
    fn put(
        &mut self,
        index: usize,
        old: &RowKey,
        new: &RowKey,
        old_tuple: Option<OldTuple<'_>>,
        tuple: Tuple<'_>,
        whole: &Bytes,
    ) -> Result<Option<Need>> {
        let full = match old_tuple {
            Some(OldTuple::Full(full)) => Some(full),
            _ => None,
        };
        let mut there = true;
        if full.is_some() || image::is_whole(tuple) {
            let table = &mut self.tables[index];
            let unknown = image::push_new(table, tuple, full, whole, &mut self.scratch)?;
            table.builder.end_row(Op::Insert, &unknown)?;
            self.count(tuple.bytes());
        } else {
            match self.answer.take() {
                None => {
                    let key = image::key_literals(&self.tables[index], tuple, old_tuple.map(OldTuple::tuple))?;
                    return Ok(Some(Need::Row { table: index, key }));
                }
                Some(Some(row)) => {
                    let table = &mut self.tables[index];
                    push_row(&mut table.builder, &table.wires, CopyRow::of(&row)?, &row, &mut self.scratch)?;
                    self.count(row.len());
                }
                Some(None) => there = false,
            }
        }
        if let Some(loaded) = &mut self.tables[index].loaded {
            loaded.settled(old);
            if there { loaded.settled(new) } else { loaded.is_missing(new) }
        }
        Ok(None)
    }

    fn write(&mut self, index: usize, change: Change<'_>, whole: &Bytes) -> Result<()> {
        let bytes = change.bytes();
        let large = bytes >= LARGE_ROW;
        if large {
            self.close(index)?;
        }
        let table = &mut self.tables[index];
        match change {
            Change::Insert(new) => {
                let unknown = image::push_new(table, new, None, whole, &mut self.scratch)?;
                table.builder.end_row(Op::Insert, &unknown)?;
            }
            Change::Update(old, new) => {
                let fallback = old.map(OldTuple::tuple);
                let unknown = image::push_new(table, new, fallback, whole, &mut self.scratch)?;
                if let Some(old) = old {
                    image::push_old(table, old, whole, &mut self.scratch)?;
                    table.builder.end_old();
                }
                table.builder.end_row(Op::Update, &unknown)?;
            }
            Change::Delete(old) => {
                let unknown = image::push_deleted(table, old, whole, &mut self.scratch)?;
                table.builder.end_row(Op::Delete, &unknown)?;
            }
        }
        self.count(bytes);
        if large {
            self.close(index)?;
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) {
        // What a row costs beside its values.
        const OVERHEAD: usize = 16;
        self.rows += 1;
        self.bytes += bytes + OVERHEAD;
    }

    fn truncate(&mut self, relations: &[u32], cascade: bool, restart_identity: bool) -> Result<Option<Need>> {
        let mut tables = Vec::new();
        for relation in relations {
            let (index, commit) = match self.live(*relation)? {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(need) => return Ok(Some(need)),
            };
            if let Some(loaded) = &mut self.tables[index].loaded {
                loaded.emptied();
            }
            match &self.tables[index].loaded {
                Some(loaded) if commit < loaded.highest => {
                    let reason = "it was emptied between two snapshots of its load".to_owned();
                    self.reshape(index, SchemaChangeKind::Reload { reason }, Vec::new())?;
                }
                _ => tables.push(Arc::clone(&self.tables[index].schema)),
            }
        }
        if !tables.is_empty() {
            self.barrier()?;
            self.steps.push(Step::Truncate(Truncate { tables, cascade, restart_identity }));
        }
        Ok(None)
    }

    /// Ends the batch of a table.
    fn close(&mut self, index: usize) -> Result<()> {
        let table = &mut self.tables[index];
        if !table.builder.is_empty() {
            let batch = table.builder.finish()?;
            self.step_bytes += batch.bytes();
            self.steps.push(Step::Rows(batch));
        }
        Ok(())
    }

    fn barrier(&mut self) -> Result<()> {
        (0..self.tables.len()).try_for_each(|index| self.close(index))
    }

    /// What has been gathered; `None` unless ready.
    pub(super) fn take(&mut self) -> Result<Option<ChangeSet>> {
        if !self.ready() {
            return Ok(None);
        }
        self.barrier()?;
        self.taken = self.end;
        self.open = self.in_transaction() || self.waits();
        (self.rows, self.bytes) = (0, 0);
        Ok(Some(ChangeSet {
            steps: std::mem::take(&mut self.steps),
            end: lsn::position(self.end),
            committed_at: self.committed_at.take(),
            open: self.open,
            transactions: std::mem::take(&mut self.transactions),
            bytes: std::mem::take(&mut self.step_bytes),
        }))
    }
}

#[cfg(test)]
mod tests;
