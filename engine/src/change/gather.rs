//! Gathering: what a source reads from its log, row by row, into sets of whole transactions within the limits.

use std::sync::Arc;
use std::time::SystemTime;

use super::builder::BatchBuilder;
use super::commit::Commit;
use super::set::{ChangeSet, Span, Step, Truncate};
use crate::error::Result;
use crate::position::Position;
use crate::schema::{SchemaChange, TableSchema};
use crate::task::BatchLimits;

/// A row of this many bytes is a batch of its own, so that its large values are handed on uncopied.
pub const LARGE_ROW: usize = 1 << 20;

/// A set that is being gathered. A source fills it, whoever applies sets takes from it.
///
/// A source says where transactions begin and end, and gives what is between: rows, truncates, changes of a table's
/// shape. It numbers its tables as it likes, from 0. Rows of one table are one batch up to the next step that is not
/// rows.
#[derive(Debug)]
pub struct Gather {
    limits: BatchLimits,
    /// By the numbers of their tables.
    tables: Vec<Option<Open>>,
    steps: Vec<Step>,
    /// Rows since the last take.
    rows: usize,
    /// What they take, about.
    bytes: usize,
    /// Bytes of the buffers in the steps.
    step_bytes: usize,
    end: Position,
    /// The end has moved since the last take.
    moved: bool,
    inside: bool,
    /// The transaction that began last.
    commit: Option<Arc<Commit>>,
    /// Changes of rows in it so far.
    changes: u64,
    held: bool,
    /// The last set taken was open.
    open: bool,
    committed_at: Option<SystemTime>,
    transactions: u64,
}

/// The rows of a table that are not a step yet.
#[derive(Debug)]
struct Open {
    builder: BatchBuilder,
    /// What a row takes beside the bytes of its values.
    width: usize,
}

impl Gather {
    /// Nothing yet, from this place on.
    pub fn new(limits: BatchLimits, from: Position) -> Self {
        Self {
            limits,
            tables: Vec::new(),
            steps: Vec::new(),
            rows: 0,
            bytes: 0,
            step_bytes: 0,
            end: from,
            moved: false,
            inside: false,
            commit: None,
            changes: 0,
            held: false,
            open: false,
            committed_at: None,
            transactions: 0,
        }
    }

    /// Whether the limits are reached. Between transactions that is soon; inside one there is as much room again, so
    /// that only a transaction that is itself large is split.
    pub fn full(&self) -> bool {
        let room = if self.inside { 2 } else { 1 };
        self.rows >= self.limits.max_rows.saturating_mul(room)
            || self.bytes >= self.limits.max_bytes.saturating_mul(room)
    }

    /// Whether [`Gather::take`] has something to give: transactions that are whole, a part of one that exceeds the
    /// limits, or a position that has moved on without changes.
    pub fn ready(&self) -> bool {
        if self.inside {
            return self.full();
        }
        self.moved || !self.steps.is_empty() || (self.open && !self.held)
    }

    /// Where reading stands, if between two transactions and with nothing that a target has still to wait for.
    pub fn between(&self) -> Option<&Position> {
        (!self.inside && !self.held).then_some(&self.end)
    }

    /// What has been gathered; `None` unless ready. A set without steps only moves the position on.
    ///
    /// # Errors
    /// Rows that make no batch.
    pub fn take(&mut self) -> Result<Option<ChangeSet>> {
        if !self.ready() {
            return Ok(None);
        }
        self.barrier()?;
        self.open = self.inside || self.held;
        self.moved = false;
        (self.rows, self.bytes) = (0, 0);
        let span = Span {
            end: self.end.clone(),
            // The set that ends an open one may come with no transaction of its own.
            committed_at: if self.open { self.committed_at } else { self.committed_at.take() },
            open: self.open,
            transactions: std::mem::take(&mut self.transactions),
            bytes: std::mem::take(&mut self.step_bytes),
        };
        Ok(Some(ChangeSet { steps: std::mem::take(&mut self.steps), span }))
    }

    /// A transaction begins.
    pub fn begin(&mut self, commit: Commit) {
        if !std::mem::replace(&mut self.inside, true) {
            self.changes = 0;
        }
        self.commit = Some(Arc::new(commit));
    }

    /// The transaction ends, and the log stands at `end` behind it. `news`: not for one that the target has already, of
    /// which nothing was gathered.
    pub fn commit(&mut self, end: Position, news: bool) {
        self.inside = false;
        self.transactions += u64::from(news);
        self.committed_at = self.commit.as_ref().and_then(|commit| commit.at);
        self.reached(end);
    }

    /// Everything before `end` has been read. Inside of a transaction that is not known: nothing changes.
    pub fn reached(&mut self, end: Position) {
        if !self.inside && end > self.end {
            (self.end, self.moved) = (end, true);
        }
    }

    /// Whether the target lacks something that only the source remembers: its transaction stays open that long, so that
    /// no checkpoint falls before its end.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Takes a row of the table with this number in. `put` appends it and ends it; `bytes` is what its values take.
    ///
    /// # Errors
    /// Those of `put`; the set is not to be used any more.
    pub fn row(
        &mut self,
        table: usize,
        schema: &Arc<TableSchema>,
        bytes: usize,
        put: impl FnOnce(&mut BatchBuilder) -> Result<()>,
    ) -> Result<()> {
        let large = bytes >= LARGE_ROW;
        if large {
            self.cut(table)?;
        }
        let (commit, change) = (self.commit.clone(), self.changes);
        self.changes += 1;
        let open = self.of_shape(table, schema)?;
        if let Some(commit) = &commit {
            open.builder.of_commit(commit, change);
        }
        put(&mut open.builder)?;
        let width = open.width;
        self.rows += 1;
        self.bytes += bytes + width;
        if large { self.cut(table) } else { Ok(()) }
    }

    /// Tables are emptied, behind the rows that came before and ahead of those that come after.
    ///
    /// # Errors
    /// Rows that make no batch.
    pub fn truncate(&mut self, truncate: Truncate) -> Result<()> {
        if truncate.tables.is_empty() {
            return Ok(());
        }
        self.barrier()?;
        let commit = self.commit.clone().map(|commit| (commit, self.changes));
        self.changes += 1;
        self.steps.push(Step::Truncate(Truncate { commit, ..truncate }));
        Ok(())
    }

    /// A table's shape changes, between rows as [`Gather::truncate`] does.
    ///
    /// # Errors
    /// Rows that make no batch.
    pub fn schema(&mut self, change: SchemaChange) -> Result<()> {
        self.barrier()?;
        self.steps.push(Step::Schema(change));
        Ok(())
    }

    /// Where rows of that shape go. What is open in another one is ended.
    fn of_shape(&mut self, table: usize, schema: &Arc<TableSchema>) -> Result<&mut Open> {
        if self.tables.len() <= table {
            self.tables.resize_with(table + 1, || None);
        }
        let same = |open: &Open| Arc::ptr_eq(open.builder.table(), schema);
        if !self.tables[table].as_ref().is_some_and(same) {
            self.cut(table)?;
            self.tables[table] = None;
        }
        let open = || Open { builder: BatchBuilder::new(Arc::clone(schema)), width: width(schema) };
        Ok(self.tables[table].get_or_insert_with(open))
    }

    /// Ends the batch of a table.
    fn cut(&mut self, table: usize) -> Result<()> {
        if let Some(Some(open)) = self.tables.get_mut(table)
            && !open.builder.is_empty()
        {
            let batch = open.builder.finish()?;
            self.step_bytes += batch.bytes();
            self.steps.push(Step::Rows(batch));
        }
        Ok(())
    }

    fn barrier(&mut self) -> Result<()> {
        (0..self.tables.len()).try_for_each(|table| self.cut(table))
    }
}

/// Bytes that a row takes in the builders whatever its values are: NULL takes as much as a number, and what the log
/// leaves out takes its place all the same.
fn width(schema: &TableSchema) -> usize {
    // The operation, and what masks and batches cost by the row.
    const OVERHEAD: usize = 16;
    let fixed = schema.columns.iter().map(|c| c.ty.arrow().primitive_width().unwrap_or(4));
    OVERHEAD + fixed.sum::<usize>()
}

#[cfg(test)]
mod tests;
