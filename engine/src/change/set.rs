//! Whole source transactions on their way: what a change stream gives.

use std::sync::Arc;
use std::time::SystemTime;

use super::batch::ChangeBatch;
use super::commit::Commit;
use crate::position::Position;
use crate::schema::{SchemaChange, TableSchema};

/// Tables emptied by one statement.
#[derive(Clone, Debug)]
pub struct Truncate {
    /// The tables.
    pub tables: Vec<Arc<TableSchema>>,
    /// Tables that refer to these by a foreign key are emptied too.
    pub cascade: bool,
    /// Sequences owned by the tables start again.
    pub restart_identity: bool,
    /// By this transaction, and which of its changes this is; [`Gather`](super::Gather) says it.
    pub commit: Option<(Arc<Commit>, u64)>,
}

/// One step of a change set. Between two steps that are not rows, batches of different tables may be applied
/// in any order, those of one table in theirs.
#[derive(Clone, Debug)]
pub enum Step {
    /// Rows of one table, as the log has them.
    Rows(ChangeBatch),
    /// Tables emptied.
    Truncate(Truncate),
    /// A table's shape changed.
    Schema(SchemaChange),
}

/// Whole source transactions, in commit order, as the source has them.
#[derive(Clone, Debug)]
pub struct ChangeSet {
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// The transactions.
    pub span: Span,
}

/// Which transactions a set holds.
#[derive(Clone, Debug)]
pub struct Span {
    /// Where the source's log stands after this set: the next checkpoint.
    pub end: Position,
    /// When the last transaction committed at the source, by the source's clock; `None` without one.
    pub committed_at: Option<SystemTime>,
    /// The last transaction goes on in the next set, or the target is not to be left as it is: its transaction stays
    /// open.
    pub open: bool,
    /// Transactions that end in this set.
    pub transactions: u64,
    /// Bytes of the buffers held.
    pub bytes: usize,
}

impl ChangeSet {
    /// A set that only moves the checkpoint.
    pub fn position_only(end: Position) -> Self {
        Self { steps: Vec::new(), span: Span { end, committed_at: None, open: false, transactions: 0, bytes: 0 } }
    }

    /// Number of changed rows.
    pub fn rows(&self) -> usize {
        let rows = self.steps.iter().map(|step| match step {
            Step::Rows(batch) => batch.len(),
            Step::Truncate(_) | Step::Schema(_) => 0,
        });
        rows.sum()
    }
}
