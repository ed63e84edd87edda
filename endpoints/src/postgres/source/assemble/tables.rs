//! Which table a message is of, and whether that table can still be followed.

use std::sync::Arc;

use trem_engine::Result;
use trem_engine::change::Gather;
use trem_engine::ports::StreamTable;
use trem_engine::schema::{SchemaChange, SchemaChangeKind, TableId, TableSchema};

use super::{Assembler, Need};
use crate::postgres::source::drift::{Lost, Verdict};
use crate::postgres::source::followed::FollowedTable;
use crate::postgres::source::relation::{self, Difference};
use crate::postgres::types::{TypeBook, Wire, table_number};
use crate::postgres::wire::pgoutput::{Begin, Relation};

impl Assembler {
    /// The tables that are followed, each with its index.
    pub(in crate::postgres::source) fn followed(&self) -> Vec<(usize, Arc<TableSchema>)> {
        let followed = self.tables.iter().enumerate().filter(|(_, t)| !t.suspended && t.schema.native_id.is_some());
        followed.map(|(index, t)| (index, Arc::clone(&t.known))).collect()
    }

    /// Takes changes of these tables in too, from where reading stands.
    pub(in crate::postgres::source) fn add(&mut self, tables: Vec<StreamTable>, types: &TypeBook) -> Result<()> {
        for table in tables {
            let live = FollowedTable::new(table, types, self.end)?;
            let (id, number) = (live.schema.id.clone(), table_number(&live.schema));
            let index = match self.tables.iter().position(|t| t.schema.id == id) {
                Some(index) => {
                    self.tables[index] = live;
                    index
                }
                None => {
                    self.tables.push(live);
                    self.tables.len() - 1
                }
            };
            self.lost.retain(|lost| lost.index != index);
            self.waiting.retain(|waiting| *waiting != index);
            let own = self.descriptions.values().filter(|r| r.id == number);
            for relation in own.cloned().collect::<Vec<_>>() {
                self.relations.insert(relation.id, Some(index));
                self.unchecked(index, relation, &[]);
            }
        }
        Ok(())
    }

    /// Takes no later change of a table in, but `last`.
    pub(in crate::postgres::source) fn withdraw(
        &mut self,
        table: &TableId,
        last: SchemaChangeKind,
        into: &mut Gather,
    ) -> Result<()> {
        match self.tables.iter().position(|t| t.schema.id == *table && !t.suspended) {
            Some(index) => self.reshape(index, last, Vec::new(), into),
            None => Ok(()),
        }
    }

    /// The catalogue says something of a table, as of a place in the log, that is not in the log itself; what was
    /// logged before still counts.
    pub(in crate::postgres::source) fn is_lost(&mut self, lost: Lost) {
        if !self.lost.iter().any(|known| known.index == lost.index) {
            self.lost.push(lost);
        }
    }

    /// Whether the server has described a table anew since the last call.
    pub(in crate::postgres::source) fn described(&mut self) -> bool {
        std::mem::take(&mut self.described)
    }

    /// Passes on what the catalogue has said of the place that is reached.
    pub(super) fn lapse(&mut self, into: &mut Gather) -> Result<()> {
        while let Some(at) = self.lost.iter().position(|lost| lost.place <= self.end) {
            let Lost { index, of, verdict, .. } = self.lost.swap_remove(at);
            let table = &self.tables[index];
            if table.suspended || !Arc::ptr_eq(&table.known, &of) {
                continue;
            }
            let kind = match verdict {
                Verdict::Change(kind) => kind,
                Verdict::Emptied { by, change, .. } if by.iter().all(|x| table.emptied.contains(x)) => change,
                Verdict::Emptied { otherwise, .. } => otherwise,
            };
            self.reshape(index, kind, Vec::new(), into)?;
        }
        Ok(())
    }

    pub(super) fn relation(&mut self, relation: Relation) -> Result<Option<Need>> {
        let named = |t: &FollowedTable| (&t.schema.id.schema, &t.schema.id.table) == (&relation.schema, &relation.name);
        let numbered = |t: &FollowedTable| table_number(&t.schema) == relation.id;
        // A renamed table that was taken in under its new name is recorded twice with one number.
        let exact = self.tables.iter().position(|t| numbered(t) && named(t));
        let by_number = || self.tables.iter().position(numbered);
        let found = exact.or_else(by_number).or_else(|| self.tables.iter().position(named));
        let others = self.tables.iter().enumerate().filter(|(i, t)| numbered(t) && Some(*i) != found && !t.suspended);
        let others: Vec<usize> = others.map(|(i, _)| i).collect();
        self.renamed.retain(|i| table_number(&self.tables[*i].schema) != relation.id);
        for index in others {
            self.unchecked(index, relation.clone(), &[]);
            self.renamed.push(index);
        }
        self.relations.insert(relation.id, found);
        self.descriptions.insert(relation.id, relation.clone());
        if let Some(index) = found {
            self.described = true;
            self.unchecked(index, relation, &[]);
        }
        Ok(None)
    }

    /// The server has described a table, which has these generated columns too.
    fn unchecked(&mut self, index: usize, relation: Relation, computed: &[String]) {
        let known = &self.tables[index].schema.generated;
        let is_generated = |name: &str| known.iter().any(|g| g.name == name) || computed.iter().any(|c| c == name);
        self.tables[index].unchecked = Some(self.computed.describe(relation, is_generated));
    }

    /// The answer to [`Need::Added`] if some of the columns are generated.
    pub(in crate::postgres::source) fn computed(&mut self, index: usize, relation: u32, columns: &[String]) {
        if let Some(described) = self.descriptions.get(&relation).cloned() {
            self.unchecked(index, described, columns);
        }
    }

    /// A change that commits at `commit` has come for this number under a name that is not that of all its records.
    fn names_taken(&mut self, relation: u32, commit: u64, into: &mut Gather) -> Result<()> {
        let due = |t: &FollowedTable| {
            table_number(&t.schema) == relation && t.loaded.as_ref().is_none_or(|l| commit >= l.lowest)
        };
        while let Some(at) = self.renamed.iter().position(|i| due(&self.tables[*i])) {
            let index = self.renamed.swap_remove(at);
            if !self.tables[index].suspended {
                self.checked(index, into)?;
            }
        }
        Ok(())
    }

    /// Compares what the server last said of a table's shape with the shape that the target has.
    fn checked(&mut self, index: usize, into: &mut Gather) -> Result<Option<Need>> {
        let Some(relation) = self.tables[index].unchecked.take() else { return Ok(None) };
        match relation::compare(&self.tables[index].schema, &relation) {
            Difference::None => Ok(None),
            Difference::Added(_) => {
                self.tables[index].unchecked = Some(relation.clone());
                Ok(Some(Need::Added { table: index, relation }))
            }
            Difference::Renamed(now) => {
                let kind = relation::renamed(&self.tables[index].schema, &now);
                self.reshape(index, kind, Vec::new(), into)?;
                Ok(None)
            }
            Difference::Other(reason) => {
                self.suspend(index, reason, into)?;
                Ok(None)
            }
        }
    }

    pub(super) fn suspend(&mut self, index: usize, reason: String, into: &mut Gather) -> Result<()> {
        let kind = relation::suspend(&self.tables[index].schema, reason);
        self.reshape(index, kind, Vec::new(), into)
    }

    /// The answer to [`Need::Added`].
    pub(in crate::postgres::source) fn reshape(
        &mut self,
        index: usize,
        kind: SchemaChangeKind,
        wires: Vec<Wire>,
        into: &mut Gather,
    ) -> Result<()> {
        let table = &mut self.tables[index];
        let kind = match kind {
            // It was read without the column, and changes that wrote that were seen.
            SchemaChangeKind::AddColumns { .. } if table.loaded.as_ref().is_some_and(|l| l.waits(self.end)) => {
                let reason = "a column was added while rows that had moved were read again".to_owned();
                SchemaChangeKind::Reload { reason }
            }
            kind => kind,
        };
        let before = Arc::clone(&table.schema);
        match &kind {
            SchemaChangeKind::AddColumns { next, .. } => {
                table.schema = Arc::clone(next);
                table.known = Arc::clone(next);
                table.wires = wires;
            }
            // Rows go on as they are.
            SchemaChangeKind::Noted { next } => table.known = Arc::clone(next),
            SchemaChangeKind::Suspend { .. } | SchemaChangeKind::Reload { .. } => {
                table.suspended = true;
                table.loaded = None;
            }
        }
        into.schema(SchemaChange { table: before, kind })?;
        into.hold(self.waits());
        Ok(())
    }

    /// The table that a change is of, its shape compared; `None` if the change does not count.
    pub(super) fn live(&mut self, relation: u32, into: &mut Gather) -> Result<Result<Option<(usize, Begin)>, Need>> {
        let index = *self.relations.get(&relation).ok_or_else(|| relation::undescribed(relation))?;
        let (Some(index), Some(begin)) = (index, self.current()?) else { return Ok(Ok(None)) };
        let commit = begin.final_lsn;
        self.names_taken(relation, commit, into)?;
        if self.tables[index].loaded.as_ref().is_some_and(|l| l.done(commit)) {
            self.put_held(index, commit, into)?;
            self.tables[index].loaded = None;
        }
        let table = &self.tables[index];
        if table.suspended || table.loaded.as_ref().is_some_and(|l| commit < l.lowest) {
            return Ok(Ok(None));
        }
        if let Some(need) = self.checked(index, into)? {
            return Ok(Err(need));
        }
        Ok(Ok((!self.tables[index].suspended).then_some((index, begin))))
    }
}
