//! What is known of a change beside the row: what expressions call `operation()`, `commit_time()` and so on.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, Int64Array, TimestampMicrosecondArray};
use trem_engine::change::{ChangeBatch, Commit, Op};
use trem_engine::schema::{Length, Type};

/// One thing that is known of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metadata {
    /// `insert`, `update`, `delete`, or `load`.
    Operation,
    /// `load` or `change`.
    Phase,
    /// When the transaction committed at the source; NULL of rows that a load has read.
    CommitTime,
    /// Where its commit stands in the log; NULL of rows that a load has read.
    CommitPosition,
    /// What the source calls it; NULL of rows that a load has read.
    TransactionId,
    /// The place of the change in its transaction, from 0; NULL of rows that a load has read.
    CommitSequence,
    /// The table's schema at the source.
    SourceSchema,
    /// The table's name at the source.
    SourceTable,
    /// The task's name.
    Task,
}

impl Metadata {
    pub(crate) const ALL: [Self; 9] = [
        Self::Operation,
        Self::Phase,
        Self::CommitTime,
        Self::CommitPosition,
        Self::TransactionId,
        Self::CommitSequence,
        Self::SourceSchema,
        Self::SourceTable,
        Self::Task,
    ];

    /// The function of expressions.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Operation => "operation",
            Self::Phase => "phase",
            Self::CommitTime => "commit_time",
            Self::CommitPosition => "commit_position",
            Self::TransactionId => "transaction_id",
            Self::CommitSequence => "commit_sequence",
            Self::SourceSchema => "source_schema",
            Self::SourceTable => "source_table",
            Self::Task => "task",
        }
    }

    pub(crate) fn ty(self) -> Type {
        match self {
            Self::CommitTime => Type::TimestampTz(6),
            Self::CommitSequence => Type::Int64,
            _ => Type::Text(Length::Unlimited),
        }
    }

    /// Whether it is the same for all changes of a table.
    pub(crate) fn is_constant(self) -> bool {
        matches!(self, Self::SourceSchema | Self::SourceTable | Self::Task)
    }

    /// Whether it is the table's name, or a part of that.
    pub(crate) fn is_name(self) -> bool {
        matches!(self, Self::SourceSchema | Self::SourceTable)
    }

    /// Of these rows of a batch of the source's table.
    pub(crate) fn values(self, batch: &ChangeBatch, rows: &[usize], task: &str) -> ArrayRef {
        let commit = |row: &usize| batch.commits.of(*row).map(|(commit, _)| commit);
        let text = |of: &dyn Fn(&usize) -> Option<String>| {
            let mut out = StringBuilder::with_capacity(rows.len(), rows.len() * 8);
            rows.iter().for_each(|row| out.append_option(of(row)));
            Arc::new(out.finish()) as ArrayRef
        };
        match self {
            Self::Operation => operations(rows.iter().map(|row| (batch.ops[*row], commit(row).is_none()))),
            Self::Phase => text(&|row| Some(if commit(row).is_some() { "change" } else { "load" }.to_owned())),
            Self::CommitTime => times(rows.iter().map(|row| commit(row)?.at)),
            Self::CommitPosition => positions(rows.iter().map(commit)),
            Self::TransactionId => text(&|row| Some(commit(row)?.transaction.clone())),
            Self::CommitSequence => sequences(rows.iter().map(|row| Some(batch.commits.of(*row)?.1))),
            Self::SourceSchema => text(&|_| Some(batch.table.id.schema.clone())),
            Self::SourceTable => text(&|_| Some(batch.table.id.table.clone())),
            Self::Task => text(&|_| Some(task.to_owned())),
        }
    }
}

/// What has become of rows, and whether a load has read them.
pub(crate) fn operations(rows: impl Iterator<Item = (Op, bool)>) -> ArrayRef {
    let mut out = StringBuilder::new();
    for (op, loaded) in rows {
        out.append_value(match op {
            Op::Insert if loaded => "load",
            Op::Insert => "insert",
            Op::Update => "update",
            Op::Delete => "delete",
        });
    }
    Arc::new(out.finish())
}

/// Moments, in a column of type `timestamptz`.
pub(crate) fn times(times: impl Iterator<Item = Option<SystemTime>>) -> ArrayRef {
    let micros = |at: SystemTime| match at.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_micros() as i64,
        Err(before) => -(before.duration().as_micros() as i64),
    };
    let times: TimestampMicrosecondArray = times.map(|at| at.map(micros)).collect();
    Arc::new(times.with_timezone("UTC"))
}

/// Places of commits.
pub(crate) fn positions<'a>(commits: impl Iterator<Item = Option<&'a Arc<Commit>>>) -> ArrayRef {
    let mut out = StringBuilder::new();
    commits.for_each(|commit| out.append_option(commit.map(|c| c.position.to_string())));
    Arc::new(out.finish())
}

/// Places in transactions.
pub(crate) fn sequences(of: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(of.map(|n| n.map(|n| n as i64)).collect::<Int64Array>())
}
