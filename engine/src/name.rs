//! The names of tables.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a table: schema and table, exactly as the database stores them (no quoting, no folding).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableId {
    /// The schema's name.
    pub schema: String,
    /// The table's name.
    pub table: String,
}

impl TableId {
    /// Names a table.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self { schema: schema.into(), table: table.into() }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}
