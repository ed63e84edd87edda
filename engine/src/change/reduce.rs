//! Rows of a set brought together by table, those of a table with a key reduced to their net effect.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::ArrayRef;

use super::batch::ChangeBatch;
use super::net::NetChanges;
use super::set::{Span, Truncate};
use crate::error::Result;
use crate::schema::{AddedColumns, Identity, TableId, TableSchema};

/// What a set amounts to on the target.
#[derive(Clone, Debug)]
pub struct ReducedSet {
    /// What to do, in order.
    pub steps: Vec<ReducedStep>,
    /// The transactions.
    pub span: Span,
}

/// One step of a reduced set.
#[derive(Clone, Debug)]
pub enum ReducedStep {
    /// All changes of one table up to the next step that is not of rows.
    Table(TableChanges),
    /// Tables emptied.
    Truncate(Truncate),
    /// Columns added to a table.
    AddColumns(AddedColumns),
    /// A column of all rows that have NULL there.
    Mark(Mark),
}

/// A value for a column of all rows that have NULL there: that they are gone, mostly.
#[derive(Clone, Debug)]
pub struct Mark {
    /// The table.
    pub table: Arc<TableSchema>,
    /// The index of the column.
    pub column: usize,
    /// One value.
    pub value: ArrayRef,
}

/// Whether changes of a table with a key are reduced to their net effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// They are.
    Net,
    /// Each change goes to the target, in the log's order.
    Log,
}

/// All changes of one table between two steps that are not rows.
#[derive(Clone, Debug)]
pub struct TableChanges {
    /// The shape of the rows.
    pub table: Arc<TableSchema>,
    /// What they amount to.
    pub effect: Effect,
}

/// What changes of a table amount to.
#[derive(Clone, Debug)]
pub enum Effect {
    /// For a table with a key: what is left to be done.
    Net(NetChanges),
    /// For any other: each change, in source order.
    Log(Vec<ChangeBatch>),
}

impl TableChanges {
    fn of(table: Arc<TableSchema>, batches: Vec<ChangeBatch>, reduction: Reduction) -> Result<Self> {
        let effect = match (table.identity, reduction) {
            (Identity::Key | Identity::KeyWithFullImage, Reduction::Net) => {
                Effect::Net(NetChanges::of(batches).map_err(|e| e.target_table(&table.id))?)
            }
            _ => Effect::Log(batches),
        };
        Ok(Self { table, effect })
    }

    /// Takes the deletes out. A row may go from one table to another that becomes the same: it is deleted first.
    fn take_deletes(&mut self) -> Option<Self> {
        let Effect::Net(net) = &mut self.effect else { return None };
        let deletes = net.take_deletes()?;
        Some(Self { table: Arc::clone(&self.table), effect: Effect::Net(deletes) })
    }

    /// Number of changes in the log.
    pub fn changes(&self) -> usize {
        match &self.effect {
            Effect::Net(net) => net.changes(),
            Effect::Log(batches) => batches.iter().map(ChangeBatch::len).sum(),
        }
    }
}

impl ReducedSet {
    /// Number of changes in the log.
    pub fn rows(&self) -> usize {
        let changes = |step: &ReducedStep| if let ReducedStep::Table(t) = step { t.changes() } else { 0 };
        self.steps.iter().map(changes).sum()
    }
}

/// Puts the steps of a set together: rows by table, everything else in its place among them.
pub struct Reducer {
    reduction: Reduction,
    /// Tables in the order of their first change since the last step that was not of rows.
    tables: Vec<(Arc<TableSchema>, Vec<ChangeBatch>)>,
    places: HashMap<TableId, usize>,
    steps: Vec<ReducedStep>,
}

impl Reducer {
    /// Nothing yet.
    pub fn new(reduction: Reduction) -> Self {
        Self { reduction, tables: Vec::new(), places: HashMap::new(), steps: Vec::new() }
    }

    /// Rows of one table.
    pub fn rows(&mut self, batch: ChangeBatch) {
        if batch.is_empty() {
            return;
        }
        match self.places.get(&batch.table.id) {
            Some(place) => self.tables[*place].1.push(batch),
            None => {
                self.places.insert(batch.table.id.clone(), self.tables.len());
                self.tables.push((Arc::clone(&batch.table), vec![batch]));
            }
        }
    }

    /// A step that all rows before it come before.
    ///
    /// # Errors
    /// Those of [`NetChanges::of`].
    pub fn step(&mut self, step: ReducedStep) -> Result<()> {
        self.flush()?;
        self.steps.push(step);
        Ok(())
    }

    /// The set.
    ///
    /// # Errors
    /// Those of [`NetChanges::of`].
    pub fn finish(mut self, span: Span) -> Result<ReducedSet> {
        self.flush()?;
        Ok(ReducedSet { steps: self.steps, span })
    }

    fn flush(&mut self) -> Result<()> {
        self.places.clear();
        let tables = std::mem::take(&mut self.tables);
        let moves = |table: &TableSchema| {
            table.trusts_keys() && tables.iter().filter(|(other, _)| other.id.same_table(&table.id)).count() > 1
        };
        let moving: Vec<bool> = tables.iter().map(|(table, _)| moves(table)).collect();
        let (mut first, mut then) = (Vec::new(), Vec::new());
        for ((table, batches), moves) in tables.into_iter().zip(moving) {
            let mut changes = TableChanges::of(table, batches, self.reduction)?;
            if moves {
                first.extend(changes.take_deletes().map(ReducedStep::Table));
            }
            then.push(ReducedStep::Table(changes));
        }
        self.steps.extend(first.into_iter().chain(then));
        Ok(())
    }
}
