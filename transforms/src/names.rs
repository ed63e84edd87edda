//! A table under the names that rules give it.

use std::sync::Arc;

use trem_engine::route::Route;
use trem_engine::schema::{TableId, TableSchema};
use trem_engine::template::Names;
use trem_engine::{Error, Result};

/// What a table and its columns are called so far.
pub(crate) struct Renamed<'a> {
    table: &'a Arc<TableSchema>,
    /// The table's name.
    pub(crate) id: TableId,
    columns: Vec<String>,
    generated: Vec<String>,
}

impl<'a> Renamed<'a> {
    /// As the source calls them.
    pub(crate) fn new(table: &'a Arc<TableSchema>) -> Self {
        Self {
            table,
            id: table.id.clone(),
            columns: table.columns.iter().map(|c| c.name.clone()).collect(),
            generated: table.generated.iter().map(|c| c.name.clone()).collect(),
        }
    }

    /// Gives a column another name; whether there is one of this name.
    ///
    /// # Errors
    /// Class `Refused` when another column has the name `to`.
    pub(crate) fn column(&mut self, from: &str, to: &str) -> Result<bool> {
        let mut names = self.columns.iter_mut().chain(&mut self.generated);
        let Some(name) = names.find(|name| *name == from) else { return Ok(false) };
        to.clone_into(name);
        if self.columns.iter().chain(&self.generated).filter(|name| *name == to).count() > 1 {
            let message = format!("column {from:?} would be called {to:?}, as another column is");
            return Err(Error::refused(message).remedy("choose another name, or rename the other column before"));
        }
        Ok(true)
    }

    /// From the table as it is to the table under these names.
    pub(crate) fn route(self) -> Result<Route> {
        let mut target = (**self.table).clone();
        target.id.clone_from(&self.id);
        target.columns.iter_mut().zip(&self.columns).for_each(|(c, name)| c.name.clone_from(name));
        for (column, name) in target.generated.iter_mut().zip(&self.generated) {
            column.name.clone_from(name);
            if let Some(expression) = column.expression.renamed(&self.table.id, &self) {
                column.expression = expression;
            }
        }
        if target == **self.table {
            return Ok(Route::straight(Arc::clone(self.table)));
        }
        // The number is that of the source's table.
        target.native_id = None;
        Route::renamed(Arc::clone(self.table), Arc::new(target))
    }
}

/// Inside the table alone: the names of others, and what is not a column, stay.
impl Names for Renamed<'_> {
    fn table(&self, id: &TableId) -> Option<TableId> {
        Some(if *id == self.table.id { self.id.clone() } else { id.clone() })
    }

    fn column(&self, table: &TableId, column: &str) -> Option<String> {
        let was = self.table.columns.iter().map(|c| &c.name).chain(self.table.generated.iter().map(|c| &c.name));
        let mut names = was.zip(self.columns.iter().chain(&self.generated));
        let name = names.find(|(was, _)| *table == self.table.id && *was == column).map(|(_, is)| is.clone());
        Some(name.unwrap_or_else(|| column.to_owned()))
    }
}
