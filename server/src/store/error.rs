//! Why the state could not be read or written.

use std::fmt;

/// Why the state could not be read or written.
#[derive(Debug)]
pub enum StoreError {
    /// SQLite says so: a full disk, say.
    Sqlite(rusqlite::Error),
    /// The file is not one that this program can use; says why, and what to do.
    Unusable(String),
    /// What was there is another revision than the one expected.
    Changed,
}

/// Shorthand for results of the store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(e) => write!(f, "the state file: {e}"),
            Self::Unusable(why) => f.write_str(why),
            Self::Changed => f.write_str("it has been changed by somebody else"),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(e: rusqlite::Error) -> Self {
        Self::Sqlite(e)
    }
}
