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
    /// Those of its rows that are meant, where several tables of a source become this one; `None`: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Box<Part>>,
}

/// The rows of a target table that one table of the source has become: those of others are beside them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Part {
    /// The name of the source's table.
    pub of: (String, String),
    /// What all of its rows have, and no row of another part has: columns of the target table, with their values as
    /// text. Without any nobody can say which rows are its own.
    pub columns: Vec<(String, String)>,
}

impl TableId {
    /// Names a table.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self { schema: schema.into(), table: table.into(), part: None }
    }

    /// All of the table.
    #[must_use]
    pub fn whole(&self) -> Self {
        Self::new(self.schema.clone(), self.table.clone())
    }

    /// Whether both are the same table, or parts of it.
    pub fn same_table(&self, other: &Self) -> bool {
        (&self.schema, &self.table) == (&other.schema, &other.table)
    }

    /// Whether it is a part that nobody can tell from the others.
    pub fn is_mixed(&self) -> bool {
        self.part.as_ref().is_some_and(|part| part.columns.is_empty())
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
