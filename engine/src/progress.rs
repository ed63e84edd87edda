//! What a running task has done so far: shared between the runner, which writes, and whoever shows it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use crate::change::TableCounts;
use crate::position::Position;
use crate::record::TableState;
use crate::remedy::Remedy;
use crate::schema::TableId;

/// What the task is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Connecting, discovering, preparing.
    #[default]
    Starting,
    /// Loading tables.
    Loading,
    /// Following the log.
    Following,
    /// Told to move no rows for a while.
    Paused,
    /// Waiting before the next attempt.
    Retrying {
        /// Why.
        error: String,
    },
    /// Ended.
    Done,
    /// Stopped on an error.
    Failed {
        /// Which.
        error: String,
    },
}

/// One table, by its name at the source.
#[derive(Clone, Debug, Default)]
pub struct TableProgress {
    /// Its name on the target, once known.
    pub target: Option<TableId>,
    /// The state, once known.
    pub state: Option<TableState>,
    /// Rows that the load will bring, estimated.
    pub rows_estimated: u64,
    /// Rows loaded and committed.
    pub rows_loaded: u64,
    /// Rows read by the load so far, committed or not.
    pub rows_read: u64,
    /// Changes applied.
    pub counts: TableCounts,
    /// Why it is suspended.
    pub reason: Option<String>,
    /// What the operator should do about it.
    pub remedy: Option<Remedy>,
}

/// A task at one moment.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// The tables.
    pub tables: BTreeMap<TableId, TableProgress>,
    /// Where the target is.
    pub applied: Option<Position>,
    /// What the source has been told.
    pub acknowledged: Option<Position>,
    /// When the last applied transaction committed at the source.
    pub committed_at: Option<SystemTime>,
    /// Transactions applied.
    pub transactions: u64,
    /// Change sets applied.
    pub sets: u64,
    /// Attempts that failed and were retried.
    pub retries: u64,
}

/// A handle on the progress of one task; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Reporter(Arc<Mutex<Progress>>);

impl Reporter {
    /// A copy of the whole.
    pub fn snapshot(&self) -> Progress {
        self.lock().clone()
    }

    /// Changes the whole.
    pub fn update(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.lock());
    }

    /// Changes one table.
    pub fn table(&self, id: &TableId, change: impl FnOnce(&mut TableProgress)) {
        change(self.lock().tables.entry(id.clone()).or_default());
    }

    /// Adds what became of changes.
    pub fn add(&self, counts: &[(TableId, TableCounts)]) {
        let mut progress = self.lock();
        for (id, counts) in counts {
            progress.tables.entry(id.clone()).or_default().counts.add(counts);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        // A panic while holding it leaves counters at worst one update behind.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Progress {
    /// Rows loaded and committed, over all tables.
    pub fn rows_loaded(&self) -> u64 {
        self.tables.values().map(|t| t.rows_loaded).sum()
    }
}
