//! Messages of the log into change sets. No IO: what must be asked of the server is returned as a [`Need`], and the
//! message comes again when the answer is there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use trem_engine::change::{Commit, Gather, Op, Truncate};
use trem_engine::ports::StreamRequest;
use trem_engine::schema::SchemaChangeKind;
use trem_engine::time::micros_from_2000;
use trem_engine::{Error, Result};

use self::computed::Computed;
use super::drift::Lost;
use super::followed::FollowedTable;
use super::overlap::{Found, RowKey, Verdict};
use super::read::push_row;
use super::{image, lsn, relation};
use crate::postgres::types::TypeBook;
use crate::postgres::wire::copy::CopyRow;
use crate::postgres::wire::pgoutput;
use crate::postgres::wire::pgoutput::{Begin, Message, OldTuple, Relation, Tuple};

/// What must be asked of the server before the message at hand can be taken in.
#[derive(Debug)]
pub(super) enum Need {
    /// What the columns are that were added to a table.
    Added { table: usize, relation: Relation },
    /// A row, by its key, as it was after this transaction or later.
    Row { table: usize, key: Vec<String>, xid: u32 },
}

/// Takes messages of the log in, into one set from the first to the last.
#[derive(Debug)]
pub(super) struct Assembler {
    from: u64,
    tables: Vec<FollowedTable>,
    /// Relation numbers of the log; `None` for tables that are not ours.
    relations: HashMap<u32, Option<usize>>,
    /// What the server has last said of each: it says it once, and tables may be added later.
    descriptions: HashMap<u32, Relation>,
    computed: Computed,
    begin: Option<Begin>,
    /// Where reading stands.
    end: u64,
    answer: Option<Found>,
    /// What the catalogue says of tables, until the log has come to where it was so.
    lost: Vec<Lost>,
    /// Tables of which rows were read again.
    waiting: Vec<usize>,
    /// Tables whose number has come with another name: two records have it, and the other one's name is right.
    renamed: Vec<usize>,
    /// The server has described a table since it was last asked for: its catalogue entry has changed, or is new to us.
    described: bool,
    scratch: Vec<u8>,
}

/// One change of a row.
#[derive(Clone, Copy)]
enum Change<'a> {
    Insert(Tuple<'a>),
    Update(Option<OldTuple<'a>>, Tuple<'a>),
    Delete(OldTuple<'a>),
}

/// A time of the log, which counts microseconds since 2000.
fn time_of(since_2000: i64) -> Option<SystemTime> {
    let micros = u64::try_from(micros_from_2000(since_2000)).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_micros(micros))
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
    pub(super) fn new(request: StreamRequest, types: &TypeBook) -> Result<Self> {
        let from = lsn::of(&request.from)?;
        let mut tables = Vec::with_capacity(request.tables.len());
        for table in request.tables {
            tables.push(FollowedTable::new(table, types, from)?);
        }
        Ok(Self {
            from,
            tables,
            relations: HashMap::new(),
            descriptions: HashMap::new(),
            computed: Computed::default(),
            begin: None,
            end: from,
            answer: None,
            lost: Vec::new(),
            waiting: Vec::new(),
            renamed: Vec::new(),
            described: false,
            scratch: Vec::new(),
        })
    }

    /// The table at `index`.
    pub(super) fn table(&self, index: usize) -> &FollowedTable {
        &self.tables[index]
    }

    /// Whether a transaction has begun and not ended.
    pub(super) fn in_transaction(&self) -> bool {
        self.begin.is_some()
    }

    /// Whether the target lacks a row until the log is where it was read again: its transaction stays open that long,
    /// as nothing would remember the row over a restart.
    fn waits(&self) -> bool {
        let waits = |index: &usize| self.tables[*index].loaded.as_ref().is_some_and(|l| l.waits(self.end));
        self.waiting.iter().any(waits)
    }

    /// Puts in what was read again and held, of tables for which the log has come as far.
    fn release(&mut self, into: &mut Gather) -> Result<()> {
        for index in std::mem::take(&mut self.waiting) {
            match &mut self.tables[index].loaded {
                Some(loaded) if loaded.waits(self.end) => self.waiting.push(index),
                _ => self.put_held(index, self.end, into)?,
            }
        }
        Ok(())
    }

    /// Every transaction that committed before `end` has come: one that comes again is not taken in twice. (Of two
    /// sessions one reads up to a place, and one from there on; if it lies in a page's header, both send what follows.)
    pub(super) fn read_up_to(&mut self, end: u64, into: &mut Gather) -> Result<()> {
        self.from = self.from.max(end);
        self.reached(end, into)
    }

    /// The server has sent everything before this place.
    pub(super) fn reached(&mut self, server_end: u64, into: &mut Gather) -> Result<()> {
        if self.in_transaction() {
            return Ok(());
        }
        self.end = self.end.max(server_end);
        into.reached(lsn::position(self.end));
        self.stands(into)
    }

    /// Reading stands between two transactions: does what is due there.
    fn stands(&mut self, into: &mut Gather) -> Result<()> {
        self.lapse(into)?;
        self.release(into)?;
        into.hold(self.waits());
        Ok(())
    }

    /// Takes one message in. After a [`Need`] the same message is to be given again.
    pub(super) fn message(&mut self, payload: &[u8], whole: &Bytes, into: &mut Gather) -> Result<Option<Need>> {
        let less = self.computed.without(payload)?;
        let (payload, whole) = less.as_ref().map_or((payload, whole), |less| (less.as_ref(), less));
        let need = match Message::decode(payload)? {
            Message::Begin(begin) => {
                self.begin = Some(begin);
                into.begin(Commit {
                    position: lsn::position(begin.final_lsn),
                    at: time_of(begin.time),
                    transaction: begin.xid.to_string(),
                });
                None
            }
            Message::Commit(commit) => {
                self.commit(commit, into)?;
                None
            }
            Message::Relation(relation) => self.relation(relation)?,
            Message::Insert { relation, new } => self.change(relation, Change::Insert(new), whole, into)?,
            Message::Update { relation, old, new } => self.change(relation, Change::Update(old, new), whole, into)?,
            Message::Delete { relation, old } => self.change(relation, Change::Delete(old), whole, into)?,
            Message::Truncate { relations, cascade, restart_identity } => {
                self.truncate(&relations, cascade, restart_identity, into)?
            }
            Message::Origin | Message::Type | Message::Logical => None,
        };
        into.hold(self.waits());
        Ok(need)
    }

    fn commit(&mut self, commit: pgoutput::Commit, into: &mut Gather) -> Result<()> {
        let news = self.begin.take().is_some_and(|begin| begin.final_lsn >= self.from);
        self.end = self.end.max(commit.end_lsn);
        into.commit(lsn::position(self.end), news);
        self.stands(into)
    }

    /// The transaction at hand; `None` if the target has it already.
    fn current(&self) -> Result<Option<Begin>> {
        let begin = self.begin.ok_or_else(|| Error::fatal("the server sent a change outside of a transaction"))?;
        Ok((begin.final_lsn >= self.from).then_some(begin))
    }

    /// The answer to [`Need::Row`].
    pub(super) fn found(&mut self, found: Found) {
        self.answer = Some(found);
    }

    fn change(&mut self, relation: u32, change: Change<'_>, whole: &Bytes, into: &mut Gather) -> Result<Option<Need>> {
        let (index, begin) = match self.live(relation, into)? {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(need) => return Ok(Some(need)),
        };
        let schema = Arc::clone(&self.tables[index].schema);
        let identified = match change {
            Change::Insert(_) => true,
            Change::Update(old, _) => image::identifies(&self.tables[index].schema, old),
            Change::Delete(old) => image::identifies(&self.tables[index].schema, Some(old)),
        };
        if !identified {
            let reason = "a partition of it has another REPLICA IDENTITY than the table, so that the log does not tell \
                          which row was changed";
            let kind = relation::partition_identity(&schema, reason.to_owned());
            self.reshape(index, kind, Vec::new(), into)?;
            return Ok(None);
        }
        self.counted(index, begin, change, whole, into).map_err(|e| e.table(&schema.id))
    }

    fn counted(
        &mut self,
        index: usize,
        begin: Begin,
        change: Change<'_>,
        whole: &Bytes,
        into: &mut Gather,
    ) -> Result<Option<Need>> {
        if self.tables[index].loaded.is_none() {
            self.write(index, change, whole, into)?;
            return Ok(None);
        }
        let (old, new) = keys(&self.tables[index], change)?;
        for key in old.iter().chain(&new) {
            if let Some(row) = self.tables[index].loaded.as_mut().and_then(|l| l.due(key, begin)) {
                self.put_row(index, &row, into)?;
            }
        }
        let loaded = self.tables[index].loaded.as_ref();
        let verdict = match (loaded, &old, &new) {
            (Some(loaded), None, Some(new)) => loaded.insert(new, begin),
            (Some(loaded), Some(old), Some(new)) => loaded.update(old, new, begin),
            (Some(loaded), Some(old), None) => loaded.delete(old, begin),
            (_, _, _) => Verdict::Skip,
        };
        match (verdict, change) {
            (Verdict::Apply, change) => self.write(index, change, whole, into)?,
            (Verdict::DeleteOld, Change::Update(Some(old), _)) => {
                self.write(index, Change::Delete(old), whole, into)?
            }
            (Verdict::PutNew, Change::Update(old_tuple, tuple)) => {
                let Some(new) = &new else { return Ok(None) };
                if image::is_whole(tuple, old_tuple) {
                    self.put(index, old_tuple, tuple, whole, into)?;
                } else if let Some(found) = self.answer.take() {
                    self.put_found(index, new, found, into)?;
                } else {
                    let key = image::key_literals(&self.tables[index], tuple, old_tuple.map(OldTuple::tuple))?;
                    return Ok(Some(Need::Row { table: index, key, xid: begin.xid }));
                }
            }
            _ => {}
        }
        Ok(None)
    }

    /// A row that the target does not have, from an update that has all of it.
    fn put(
        &mut self,
        index: usize,
        old: Option<OldTuple<'_>>,
        new: Tuple<'_>,
        whole: &Bytes,
        into: &mut Gather,
    ) -> Result<()> {
        let (table, scratch) = (&self.tables[index], &mut self.scratch);
        into.row(index, &table.schema, new.bytes(), |batch| {
            let unknown = image::push_new(table, batch, new, old, whole, scratch)?;
            batch.end_row(Op::Insert, &unknown)
        })
    }

    /// What was read again, as the log does not have all of a row that the target does not have.
    fn put_found(&mut self, index: usize, key: &RowKey, found: Found, into: &mut Gather) -> Result<()> {
        let Some(loaded) = &mut self.tables[index].loaded else { return Ok(()) };
        let at_once = loaded.read_again(key, found);
        if loaded.is_too_much() {
            let reason = "too many of its rows have moved while its load was interrupted".to_owned();
            return self.reshape(index, SchemaChangeKind::Reload { reason }, Vec::new(), into);
        }
        if !self.waiting.contains(&index) {
            self.waiting.push(index);
        }
        at_once.iter().try_for_each(|row| self.put_row(index, row, into))
    }

    /// Puts in what is held of a table whose rows were all read before `end`.
    fn put_held(&mut self, index: usize, end: u64, into: &mut Gather) -> Result<()> {
        let held = self.tables[index].loaded.as_mut().map(|l| l.passed(end)).unwrap_or_default();
        held.iter().try_for_each(|row| self.put_row(index, row, into))
    }

    fn put_row(&mut self, index: usize, row: &Bytes, into: &mut Gather) -> Result<()> {
        let (table, scratch) = (&self.tables[index], &mut self.scratch);
        let put = into.row(index, &table.schema, row.len(), |batch| {
            push_row(batch, &table.wires, CopyRow::of(row)?, row, scratch)
        });
        put.map_err(|e| e.table(&table.schema.id))
    }

    fn write(&mut self, index: usize, change: Change<'_>, whole: &Bytes, into: &mut Gather) -> Result<()> {
        let (table, scratch) = (&self.tables[index], &mut self.scratch);
        into.row(index, &table.schema, change.bytes(), |batch| match change {
            Change::Insert(new) => {
                let unknown = image::push_new(table, batch, new, None, whole, scratch)?;
                batch.end_row(Op::Insert, &unknown)
            }
            Change::Update(old, new) => {
                let unknown = image::push_new(table, batch, new, old, whole, scratch)?;
                if let Some(old) = old {
                    image::push_old(table, batch, old, whole, scratch)?;
                    batch.end_old();
                }
                batch.end_row(Op::Update, &unknown)
            }
            Change::Delete(old) => {
                let unknown = image::push_deleted(table, batch, old, whole, scratch)?;
                batch.end_row(Op::Delete, &unknown)
            }
        })
    }

    fn truncate(
        &mut self,
        relations: &[u32],
        cascade: bool,
        restart_identity: bool,
        into: &mut Gather,
    ) -> Result<Option<Need>> {
        let mut tables = Vec::new();
        for relation in relations {
            let (index, begin) = match self.live(*relation, into)? {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(need) => return Ok(Some(need)),
            };
            self.tables[index].emptied_by(begin.xid);
            if let Some(loaded) = &mut self.tables[index].loaded {
                loaded.emptied();
            }
            match &self.tables[index].loaded {
                Some(loaded) if begin.final_lsn < loaded.highest => {
                    let reason = "it was emptied between two snapshots of its load".to_owned();
                    self.reshape(index, SchemaChangeKind::Reload { reason }, Vec::new(), into)?;
                }
                _ => tables.push(Arc::clone(&self.tables[index].schema)),
            }
        }
        into.truncate(Truncate { tables, cascade, restart_identity, commit: None })?;
        Ok(None)
    }
}

/// The old and the new key of the row that a change is of.
fn keys(table: &FollowedTable, change: Change<'_>) -> Result<(Option<RowKey>, Option<RowKey>)> {
    let key = |tuple, fallback| image::row_key(table, tuple, fallback);
    Ok(match change {
        Change::Insert(new) => (None, Some(key(new, None)?)),
        Change::Update(Some(old), new) => (Some(key(old.tuple(), None)?), Some(key(new, Some(old.tuple()))?)),
        Change::Update(None, new) => {
            let key = key(new, None)?;
            (Some(key.clone()), Some(key))
        }
        Change::Delete(old) => (Some(key(old.tuple(), None)?), None),
    })
}

mod computed;
mod tables;
#[cfg(test)]
mod tests;
