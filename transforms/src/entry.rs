//! What an entry of `tables` says of the tables that it selects, beside their names.

use trem_engine::schema::TableId;
use trem_engine::task::Pattern;

use crate::columns::Columns;
use crate::formula::Formula;

/// Which rows and columns of some tables are let through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableEntry {
    /// The tables, by their names at the source.
    pub include: Vec<Pattern>,
    /// But not these.
    pub exclude: Vec<Pattern>,
    /// Which rows: an expression over the columns as the source has them.
    pub filter: Option<Formula>,
    /// Which columns, by their names at the source.
    pub columns: Option<Columns>,
    /// But not these.
    pub exclude_columns: Option<Columns>,
}

impl TableEntry {
    pub(crate) fn covers(&self, id: &TableId) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(id));
        any(&self.include) && !any(&self.exclude)
    }

    /// Whether it says anything but which tables.
    pub fn is_more_than_names(&self) -> bool {
        self.filter.is_some() || self.columns.is_some() || self.exclude_columns.is_some()
    }

    /// Whether it says the same of rows and columns.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        (&self.filter, &self.columns, &self.exclude_columns) == (&other.filter, &other.columns, &other.exclude_columns)
    }
}
