//! Rules that give tables and columns other names.

use std::sync::Arc;

use super::model::ModelTable;
use crate::error::Result;
use crate::ports::Rules;
use crate::route::Route;
use crate::schema::{TableId, TableSchema};

/// What each table is called on the target. The columns of one that has another name there have other names too: the
/// first two each the other's.
#[derive(Clone, Copy, Debug)]
pub struct Renames(pub fn(&TableId) -> TableId);

impl Renames {
    /// Every table, in another schema.
    pub const ALL: Self = Self(|id| TableId::new("dw", format!("{}_of_{}", id.table, id.schema)));

    fn column(columns: &[String], at: usize) -> String {
        match at {
            0 => columns.get(1).cloned().unwrap_or_else(|| format!("{}_there", columns[0])),
            1 => columns[0].clone(),
            _ => format!("{}_there", columns[at]),
        }
    }

    /// The names that the target has of these columns.
    fn columns(self, id: &TableId, columns: &[String]) -> Vec<String> {
        if (self.0)(id) == *id {
            return columns.to_vec();
        }
        (0..columns.len()).map(|at| Self::column(columns, at)).collect()
    }

    /// The table as the target has it.
    pub fn target(self, table: &ModelTable) -> ModelTable {
        let (names, types): (Vec<_>, Vec<_>) = table.columns.iter().cloned().unzip();
        let columns = self.columns(&table.id, &names).into_iter().zip(types).collect();
        ModelTable { id: (self.0)(&table.id), columns, ..table.clone() }
    }
}

impl Rules for Renames {
    fn route(&self, table: &Arc<TableSchema>) -> Result<Route> {
        let names: Vec<String> = table.columns.iter().map(|c| c.name.clone()).collect();
        let mut target = TableSchema::clone(table);
        target.id = (self.0)(&table.id);
        if target.id == table.id {
            return Ok(Route::straight(Arc::clone(table)));
        }
        let columns = target.columns.iter_mut().zip(self.columns(&table.id, &names));
        columns.for_each(|(column, name)| column.name = name);
        Route::renamed(Arc::clone(table), Arc::new(target))
    }
}
