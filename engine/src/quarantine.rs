//! Changes that were set aside because a rule could not be applied to them.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::change::Op;
use crate::schema::TableId;

/// A change that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its table, as the source has it.
    pub table: TableId,
    /// What happened to the row; `None` of a row that a load has read.
    pub op: Option<Op>,
    /// Where the commit of its transaction stands in the log; `None` of a row that a load has read.
    pub position: Option<String>,
    /// When that committed.
    pub committed_at: Option<SystemTime>,
    /// What could not be done.
    pub error: String,
    /// The key, by the source's columns.
    pub key: Vec<QuarantinedValue>,
    /// The row: those of the source's columns that the target is to have, as text.
    pub row: Vec<QuarantinedValue>,
}

/// One value of a row that was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedValue {
    /// The column.
    pub column: String,
    /// The value as text; `None` is NULL.
    pub value: Option<String>,
}

/// A change that has been set aside, where the target keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineEntry {
    /// Its number.
    pub number: i64,
    /// When it was set aside, by the target's clock.
    pub since: SystemTime,
    /// The change.
    pub change: Quarantined,
}
