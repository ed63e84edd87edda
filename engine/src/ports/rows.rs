//! Single rows that somebody looks at or puts right.

use async_trait::async_trait;

use crate::change::ChangeBatch;
use crate::error::Result;

/// Which rows to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Any, up to so many.
    Some(usize),
    /// The one of this key: a value as text for each column of [`TableSchema::key`](crate::schema::TableSchema::key).
    Key(Vec<String>),
    /// The one of this key, whether it is there or not, without its other values.
    KeyAlone(Vec<String>),
}

/// A target whose task stands still, for a row that is put right from outside of it.
#[async_trait]
pub trait Mend: Send {
    /// Applies rows and forgets these changes that had been set aside, in one transaction.
    async fn apply(self: Box<Self>, rows: ChangeBatch, numbers: &[i64]) -> Result<()>;
}
