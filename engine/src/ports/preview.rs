//! What a run would do with a table, before it does.

use std::sync::Arc;

use super::finding::Finding;
use crate::schema::TableSchema;

/// What a statement of a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DdlKind {
    /// A schema that is missing.
    Schema,
    /// A user-defined type that is missing.
    Type,
    /// The table, before its rows are loaded.
    BeforeLoad,
    /// The table, after its rows are loaded.
    AfterLoad,
}

/// A statement that a run would execute on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ddl {
    /// What for.
    pub kind: DdlKind,
    /// The statement, in the target's SQL.
    pub sql: String,
}

/// What `plan` says about one table.
#[derive(Clone, Debug)]
pub struct TablePreview {
    /// The target table.
    pub table: Arc<TableSchema>,
    /// Whether it exists on the target now.
    pub exists: bool,
    /// Statements that the run would execute, in order. What several tables need stands with the first of them.
    pub ddl: Vec<Ddl>,
    /// Everything that speaks for or against it.
    pub findings: Vec<Finding>,
}

impl TablePreview {
    /// What is planned for another table, told with this one.
    pub fn take_in(&mut self, other: Option<&Self>) {
        self.ddl.extend(other.iter().flat_map(|other| other.ddl.clone()));
        self.findings.extend(other.iter().flat_map(|other| other.findings.clone()));
    }
}
