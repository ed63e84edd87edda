//! What a source has, for somebody who chooses.

use crate::schema::TableId;

/// A table, as a list of many has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub id: TableId,
    /// How many rows the database believes it has; `None` where it has never counted.
    pub rows: Option<u64>,
    /// Bytes of its storage, indexes left out, as far as the database knows.
    pub bytes: Option<u64>,
}

/// Which tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Browse {
    /// Only those of this schema.
    pub schema: Option<String>,
    /// Only those whose name has this in it; with a `%`, those whose name is like this, as SQL says it.
    pub like: Option<String>,
}
