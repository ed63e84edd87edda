//! The record of a task in memory, for targets that have nowhere to store it: gone with the process.

use crate::error::{Class, Error, Result};
use crate::position::Position;
use crate::record::{Epoch, RecordChange, TableRecord, TableState, TaskRecord};
use crate::schema::TableId;

/// A record in memory. The target holds it under a lock, together with what it speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryLedger {
    epoch: i64,
    record: TaskRecord,
}

impl MemoryLedger {
    /// The record; `None` before anything has begun.
    pub fn record(&self) -> Option<TaskRecord> {
        (self.record != TaskRecord::default()).then(|| self.record.clone())
    }

    /// Takes the task over, and locks everyone else out.
    pub fn take_over(&mut self) -> (Epoch, TaskRecord) {
        self.epoch += 1;
        (Epoch(self.epoch), self.record.clone())
    }

    /// Lets the newest owner of the task in and nobody else.
    ///
    /// # Errors
    /// Class `Fenced`.
    pub fn enter(&self, epoch: Epoch) -> Result<()> {
        if epoch.0 == self.epoch {
            return Ok(());
        }
        let error = Error::new(Class::Fenced, "another process has taken the task over");
        Err(error.remedy("let one process run the task"))
    }

    /// Writes changes down.
    ///
    /// # Errors
    /// Class `Fenced`; class `Fatal` for changes of what the record does not have.
    pub fn commit(&mut self, epoch: Epoch, changes: &[RecordChange]) -> Result<()> {
        self.enter(epoch)?;
        changes.iter().try_for_each(|change| self.record.apply(change))
    }

    /// Writes a table down that has been prepared.
    ///
    /// # Errors
    /// As [`MemoryLedger::commit`].
    pub fn prepared(&mut self, epoch: Epoch, table: TableRecord) -> Result<TableRecord> {
        self.commit(epoch, &[RecordChange::Table(Box::new(table.clone()))])?;
        Ok(table)
    }

    /// Where the main lane is.
    pub fn position(&self) -> Option<Position> {
        self.record.checkpoint.as_ref().map(|c| c.position.clone())
    }

    /// The tables that somebody wants to be loaded again.
    pub fn requests(&self) -> Vec<TableId> {
        self.record.requests.clone()
    }

    /// Writes a request down.
    ///
    /// # Errors
    /// Class `Refused` for a table that is not the task's.
    pub fn request(&mut self, table: &TableId) -> Result<()> {
        if self.record.table(table).is_none() {
            return Err(Error::refused("not a table of this task").table(table));
        }
        if !self.record.requests.contains(table) {
            self.record.requests.push(table.clone());
        }
        Ok(())
    }

    /// Forgets the task; whether it was known. Whoever runs it is locked out.
    pub fn forget(&mut self) -> bool {
        let known = self.record != TaskRecord::default();
        *self = Self { epoch: self.epoch + 1, record: TaskRecord::default() };
        known
    }

    /// Tables in a state.
    pub fn in_state(&self, state: TableState) -> impl Iterator<Item = &TableRecord> {
        self.record.tables.iter().filter(move |t| t.state == state)
    }
}
