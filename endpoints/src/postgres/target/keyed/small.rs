//! Few changes of a table: the statements that apply them, and what their answers say.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use trem_engine::change::{NetChanges, TableCounts};
use trem_engine::schema::TableId;
use trem_engine::{Error, Result};

use super::super::failure::Failure;
use super::super::session::{Call, Session};
use super::super::writer::{Feed, Writer};
use super::{ARRAY_BYTES, ARRAY_ROWS, ARRAY_UPDATES, Keyed};

/// Net changes that array statements in the cheap order are enough for.
pub(in super::super) struct Small {
    writer: Arc<Writer>,
    net: NetChanges,
    /// What each call of its is for.
    steps: Vec<Step>,
}

pub(in super::super) enum Step {
    /// Deletes so many rows.
    Delete(u64),
    /// Updates a group of rows.
    Update(usize),
    /// Puts so many rows in, of which none may be there.
    Insert(u64),
    /// Puts so many rows in, over those that are there.
    Upsert(u64),
}

/// The calls that apply net changes, and what each is for.
pub(in super::super) struct Plan {
    pub(in super::super) calls: Vec<Call>,
    pub(in super::super) steps: Vec<Step>,
}

impl Plan {
    /// The calls that apply `net`; `None` if it is not small.
    pub(in super::super) fn of(session: &mut Session, writer: &Writer, net: &NetChanges) -> Result<Option<Self>> {
        let keyed = Keyed::of(session, writer, net)?;
        if !keyed.is_small() {
            return Ok(None);
        }
        let (steps, calls) = keyed.calls()?.into_iter().unzip();
        Ok(Some(Self { calls, steps }))
    }
}

impl Small {
    /// Net changes whose calls are on their way; what each call was for.
    pub(in super::super) fn new(writer: &Arc<Writer>, net: NetChanges, steps: Vec<Step>) -> Self {
        Self { writer: Arc::clone(writer), net, steps }
    }

    /// The table.
    pub(in super::super) fn table(&self) -> &TableId {
        &self.writer.schema.id
    }

    /// How many calls are its own.
    pub(in super::super) fn calls(&self) -> usize {
        self.steps.len()
    }

    /// The error of a call of its.
    pub(in super::super) fn failed(&self, failure: Failure) -> Error {
        Error::from(self.writer.stale(failure)).target_table(self.table())
    }

    /// Whether a row that is there already makes a call of its fail.
    pub(in super::super) fn inserts(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Insert(_)))
    }

    /// Applies the changes by themselves: none of the calls has taken effect.
    pub(in super::super) async fn alone(self, session: &mut Session) -> Result<TableCounts> {
        super::apply(session, &self.writer, &self.net).await
    }

    /// Takes the calls' answers in.
    pub(in super::super) fn answered(self, answers: &[u64]) -> std::result::Result<TableCounts, Box<Short>> {
        let (mut conflicts, mut groups) = (0, Vec::new());
        for (step, answer) in self.steps.iter().zip(answers) {
            match step {
                // An insert that falls short has met a trigger that kept rows out.
                Step::Delete(rows) | Step::Insert(rows) | Step::Upsert(rows) => {
                    conflicts += rows.saturating_sub(*answer);
                }
                Step::Update(group) if *answer < self.net.updates[*group].rows.len() as u64 => {
                    groups.push((*group, *answer));
                }
                Step::Update(_) => {}
            }
        }
        if !groups.is_empty() {
            return Err(Box::new(Short { small: self, conflicts, groups }));
        }
        self.writer.proven.store(true, Ordering::Relaxed);
        Ok(TableCounts { conflicts, ..self.net.counts() })
    }
}

/// Net changes of which updates have met fewer rows than they should.
pub(in super::super) struct Short {
    small: Small,
    conflicts: u64,
    /// Groups of updates, and how many rows each has met.
    groups: Vec<(usize, u64)>,
}

impl Short {
    /// The table.
    pub(in super::super) fn table(&self) -> &TableId {
        self.small.table()
    }

    /// Puts in what was not met.
    pub(in super::super) async fn settle(self, session: &mut Session) -> Result<TableCounts> {
        let Small { writer, net, .. } = &self.small;
        let mut keyed = Keyed::of(session, writer, net)?;
        keyed.conflicts = self.conflicts;
        for (group, met) in &self.groups {
            let group = &net.updates[*group];
            keyed.met_none(&group.rows, *met, &group.unknown).await.map_err(|f| self.small.failed(f))?;
        }
        writer.proven.store(true, Ordering::Relaxed);
        Ok(TableCounts { conflicts: keyed.conflicts, ..net.counts() })
    }
}

impl Keyed<'_> {
    fn is_small(&self) -> bool {
        let (w, net) = (self.writer, self.net);
        let light = |rows| w.weight(&self.views, &w.all(), rows) <= ARRAY_BYTES;
        !w.other_unique
            && !w.partitioned
            && net.moves.is_empty()
            && net.deletes.len() <= ARRAY_ROWS
            && !self.copies(&net.inserts)
            && net.updates.iter().all(|g| g.rows.len() <= ARRAY_UPDATES && light(&g.rows))
    }

    fn calls(&self) -> Result<Vec<(Step, Call)>> {
        let (w, net) = (self.writer, self.net);
        let mut calls = Vec::new();
        if !net.deletes.is_empty() {
            let arrays = w.key_arrays(&self.views, &self.old, &net.deletes)?;
            let call = Call { sql: self.delete_sql(), arrays, returns: false };
            calls.push((Step::Delete(net.deletes.len() as u64), call));
        }
        for (number, group) in net.updates.iter().enumerate() {
            let known = self.known(group);
            let from = Feed::Arrays { columns: &known, ord: false };
            let Some(sql) = self.update_sql(&known, &from) else { continue };
            let arrays = w.arrays(&self.views, &known, &group.rows)?;
            calls.push((Step::Update(number), Call { sql, arrays, returns: false }));
        }
        if !net.inserts.is_empty() {
            let all = w.all();
            let from = Feed::Arrays { columns: &all, ord: false };
            let arrays = w.arrays(&self.views, &all, &net.inserts)?;
            calls.push(if w.meets.load(Ordering::Relaxed) {
                let call = Call { sql: self.upsert_sql(&all, &from), arrays, returns: true };
                (Step::Upsert(net.inserts.len() as u64), call)
            } else {
                (
                    Step::Insert(net.inserts.len() as u64),
                    Call { sql: self.insert_sql(&all, &from), arrays, returns: false },
                )
            });
        }
        Ok(calls)
    }
}
