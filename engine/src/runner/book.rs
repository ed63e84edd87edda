//! The record in memory, while an attempt runs: what has been committed on the target, and nothing else.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::ports::TargetLane;
use crate::position::Position;
use crate::progress::Reporter;
use crate::record::{Epoch, RecordChange, TableRecord, TableState, TaskRecord};
use crate::schema::TableId;

/// The record, and who is told of its changes.
pub(super) struct Book {
    pub(super) epoch: Epoch,
    record: Mutex<TaskRecord>,
    reporter: Reporter,
}

impl Book {
    pub(super) fn new(epoch: Epoch, record: TaskRecord, reporter: Reporter) -> Self {
        for table in &record.tables {
            report(&reporter, table);
        }
        reporter.update(|p| p.applied = record.checkpoint.as_ref().map(|c| c.position.clone()));
        Self { epoch, record: Mutex::new(record), reporter }
    }

    fn lock(&self) -> MutexGuard<'_, TaskRecord> {
        // Each change is taken in as a whole, and an attempt in which somebody panicked ends.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the record.
    pub(super) fn read<T>(&self, look: impl FnOnce(&TaskRecord) -> T) -> T {
        look(&self.lock())
    }

    /// What is known of a table, by its name at the source.
    pub(super) fn table(&self, id: &TableId) -> Option<TableRecord> {
        self.lock().table(id).cloned()
    }

    /// The state of a table.
    pub(super) fn state(&self, id: &TableId) -> Option<TableState> {
        self.lock().state(id)
    }

    /// Tables in a state, by their names at the source.
    pub(super) fn in_state(&self, states: &[TableState]) -> Vec<TableId> {
        let record = self.lock();
        record.tables.iter().filter(|t| states.contains(&t.state)).map(|t| t.id().clone()).collect()
    }

    /// From where on tables that are not with the others yet need the log.
    pub(super) fn low(&self) -> Option<Position> {
        self.lock().tables.iter().filter(|t| t.state == TableState::Loading).filter_map(TableRecord::low).min()
    }

    /// Takes in what the target has committed.
    pub(super) fn note(&self, changes: &[RecordChange]) -> Result<()> {
        let mut record = self.lock();
        for change in changes {
            record.apply(change)?;
            let known = match change {
                RecordChange::Table(table) => record.table(table.id()),
                RecordChange::Chunks(id, _) | RecordChange::State { table: id, .. } => record.table(id),
                _ => None,
            };
            if let Some(table) = known {
                report(&self.reporter, table);
            }
        }
        Ok(())
    }

    /// Takes over what the target really has of these tables: after a failure nobody knows what of it took effect.
    pub(super) fn reread(&self, tables: &[TableId], stored: TaskRecord) {
        let mut record = self.lock();
        record.tables.retain(|t| !tables.contains(t.id()));
        record.tables.extend(stored.tables.into_iter().filter(|t| tables.contains(t.id())));
        record.tables.sort_by(|a, b| a.id().cmp(b.id()));
        for table in record.tables.iter().filter(|t| tables.contains(t.id())) {
            report(&self.reporter, table);
        }
    }

    /// Writes changes down that no rows belong to.
    pub(super) async fn commit(&self, lane: &mut dyn TargetLane, changes: &[RecordChange]) -> Result<()> {
        lane.commit(changes).await?;
        self.note(changes)
    }
}

fn report(reporter: &Reporter, table: &TableRecord) {
    reporter.table(table.id(), |t| {
        t.target = Some(table.target.id.clone());
        t.state = Some(table.state);
        t.reason = table.reason.clone();
        t.remedy = table.remedy.clone();
        t.rows_loaded = table.rows_loaded();
        t.rows_read = t.rows_loaded;
        t.load_began = t.load_began.filter(|_| table.state == TableState::Loading);
        if t.rows_loaded == 0 {
            t.bytes_loaded = 0;
        }
        t.rows_estimated = table.chunks.iter().map(|c| c.chunk.rows).sum();
    });
}
