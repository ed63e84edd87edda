//! Where the rows of a table go, and what becomes of them on the way.

use std::fmt;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;

use crate::change::{ChangeBatch, OldImages, TableCounts};
use crate::error::{Error, Result};
use crate::schema::TableSchema;

/// A source table, the target table it becomes, and the compiled function from rows of one to rows of the other.
///
/// Sources only ever see [`Route::source`], targets only [`Route::target`].
#[derive(Clone)]
pub struct Route {
    source: Arc<TableSchema>,
    target: Arc<TableSchema>,
    rows: Option<Arc<dyn RowMap>>,
}

/// What a route makes of a batch.
#[derive(Debug)]
pub struct Mapped {
    /// The rows for the target.
    pub rows: ChangeBatch,
    /// What did not get there, as `filtered` and `quarantined`.
    pub counts: TableCounts,
}

/// A pure function from rows of a source table to rows of its target table.
pub trait RowMap: Send + Sync {
    /// The rows that come out. Source order is kept.
    fn map(&self, rows: ChangeBatch) -> Result<Mapped>;

    /// The place in the target table of a column of the source table; `None` if its values do not get there.
    fn column(&self, source: usize) -> Option<usize>;
}

impl Route {
    /// The table as it is.
    pub fn straight(table: Arc<TableSchema>) -> Self {
        Self { target: Arc::clone(&table), source: table, rows: None }
    }

    /// The same columns in the same order, under other names.
    ///
    /// # Errors
    /// Class `Fatal` if the columns, or those that are generated, differ in more than their names.
    pub fn renamed(source: Arc<TableSchema>, target: Arc<TableSchema>) -> Result<Self> {
        let same = source.columns.iter().map(|c| &c.ty).eq(target.columns.iter().map(|c| &c.ty))
            && source.generated.len() == target.generated.len();
        if !same || source.old_columns() != target.old_columns() {
            return Err(Error::fatal("internal: a renamed table has other columns than before").table(&source.id));
        }
        let old = target.arrow().project(&target.old_columns());
        let old = old.map_err(|e| Error::fatal("internal: old image columns").cause(e).table(&source.id))?;
        let names = Names { table: Arc::clone(&target), rows: target.arrow(), old: Arc::new(old) };
        Ok(Self { source, target, rows: Some(Arc::new(names)) })
    }

    /// Any other function. Generated columns keep their places.
    pub fn mapped(source: Arc<TableSchema>, target: Arc<TableSchema>, rows: Arc<dyn RowMap>) -> Self {
        Self { source, target, rows: Some(rows) }
    }

    /// The table as the source has it.
    pub fn source(&self) -> &Arc<TableSchema> {
        &self.source
    }

    /// The table as the target has it.
    pub fn target(&self) -> &Arc<TableSchema> {
        &self.target
    }

    /// What the target calls a column of the source; `None` if it does not get there.
    pub fn column(&self, name: &str) -> Option<&str> {
        let (source, target) = (&self.source, &self.target);
        if let Some(at) = source.column(name) {
            let at = self.rows.as_ref().map_or(Some(at), |rows| rows.column(at))?;
            return target.columns.get(at).map(|c| c.name.as_str());
        }
        let at = source.generated.iter().position(|c| c.name == name)?;
        target.generated.get(at).map(|c| c.name.as_str())
    }

    /// What becomes of rows of the source table.
    ///
    /// # Errors
    /// Rows of another shape than the route's, or what a rule does not allow.
    pub fn map(&self, rows: ChangeBatch) -> Result<Mapped> {
        match &self.rows {
            None => Ok(Mapped { rows, counts: TableCounts::default() }),
            Some(map) => map.map(rows).map_err(|e| e.table(&self.source.id)),
        }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Route({} -> {})", self.source.id, self.target.id)
    }
}

/// Rows under other names: columns are shared, not copied.
struct Names {
    table: Arc<TableSchema>,
    rows: SchemaRef,
    old: SchemaRef,
}

impl RowMap for Names {
    fn map(&self, rows: ChangeBatch) -> Result<Mapped> {
        let old = match rows.old {
            Some(old) => Some(OldImages { rows: old.rows, images: relabel(&old.images, &self.old)? }),
            None => None,
        };
        let rows = ChangeBatch { table: Arc::clone(&self.table), rows: relabel(&rows.rows, &self.rows)?, old, ..rows };
        Ok(Mapped { rows, counts: TableCounts::default() })
    }

    fn column(&self, source: usize) -> Option<usize> {
        Some(source)
    }
}

fn relabel(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)
        .map_err(|e| Error::fatal("internal: rows do not fit the renamed table").cause(e))
}
