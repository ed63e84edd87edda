//! What becomes of tables on their way, as the engine asks for it.

use std::sync::Arc;

use crate::error::Result;
use crate::route::Route;
use crate::schema::TableSchema;

/// What becomes of tables on their way.
pub trait Rules: Send + Sync {
    /// Where rows of `table` go.
    ///
    /// # Errors
    /// Class `Refused` where the rules cannot be applied to this table.
    fn route(&self, table: &Arc<TableSchema>) -> Result<Route>;

    /// Whether `table` has what the rules say of it. Asked of tables as they are now, where [`Rules::route`] is asked
    /// of shapes of the past too, which may lack a column that is there now.
    ///
    /// # Errors
    /// Class `Refused` where a rule that names just this table names a column that it has not.
    fn check(&self, _table: &Arc<TableSchema>) -> Result<()> {
        Ok(())
    }

    /// The rules that cover none of `tables`: most likely misspelt.
    fn unmatched(&self, _tables: &[Arc<TableSchema>]) -> Vec<Unmatched> {
        Vec::new()
    }
}

/// A rule that covers no table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// The rule.
    pub rule: String,
    /// The table that may have been meant.
    pub nearest: Option<String>,
}

/// Every table as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRules;

impl Rules for NoRules {
    fn route(&self, table: &Arc<TableSchema>) -> Result<Route> {
        Ok(Route::straight(Arc::clone(table)))
    }
}
