//! Which tables a task replicates.

use super::pattern::Pattern;
use crate::schema::TableId;

/// One `[[tables]]` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRule {
    /// A table is taken if one of these covers it,
    pub include: Vec<Pattern>,
    /// and none of these does.
    pub exclude: Vec<Pattern>,
}

/// The tables of a task: those that at least one rule takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The rules.
    pub rules: Vec<TableRule>,
}

impl Selection {
    /// Whether the table is selected.
    pub fn takes(&self, id: &TableId) -> bool {
        self.rules.iter().any(|r| r.include.iter().any(|g| g.matches(id)) && !r.exclude.iter().any(|g| g.matches(id)))
    }

    /// Whether a glob without wildcards names exactly this table.
    pub fn names(&self, id: &TableId) -> bool {
        self.rules.iter().flat_map(|r| &r.include).any(|g| g.exact().as_ref() == Some(id))
    }
}
