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

/// As a pattern that covers this table alone ([`Glob`](crate::task::Glob)), which is what a configuration takes.
impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", escaped(&self.schema), escaped(&self.table))
    }
}

fn escaped(name: &str) -> String {
    let escape = |c: char| matches!(c, '.' | '*' | '?' | '\\').then_some('\\').into_iter().chain([c]);
    name.chars().flat_map(escape).collect()
}
