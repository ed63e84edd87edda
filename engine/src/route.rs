//! Where the rows of a table go, and what becomes of them on the way.

use std::fmt;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;

use crate::change::{ChangeBatch, Mark, OldImages, TableCounts, Truncate};
use crate::condition::Condition;
use crate::error::{Error, Result};
use crate::quarantine::Quarantined;
use crate::schema::{Column, TableSchema};

/// A source table, the target table it becomes, and the compiled function from rows of one to rows of the other.
///
/// Sources only ever see [`Route::source`], targets only [`Route::target`].
#[derive(Clone)]
pub struct Route {
    source: Arc<TableSchema>,
    target: Arc<TableSchema>,
    rows: Option<Arc<dyn RowMap>>,
    history: Option<Arc<Self>>,
}

/// What a route makes of a batch.
#[derive(Debug)]
pub struct Mapped {
    /// The rows for the target.
    pub rows: ChangeBatch,
    /// What did not get there, as `filtered` and `quarantined`.
    pub counts: TableCounts,
    /// Values that do not fit their column and were put in as others, by the target's column.
    pub misfits: Vec<(String, u64)>,
    /// The changes that a rule could not be applied to.
    pub quarantined: Vec<Quarantined>,
}

impl Mapped {
    /// All of it.
    pub fn all(rows: ChangeBatch) -> Self {
        Self { rows, counts: TableCounts::default(), misfits: Vec::new(), quarantined: Vec::new() }
    }
}

/// What becomes of a target table when its source table is emptied.
#[derive(Debug)]
pub enum Emptied {
    /// It is emptied.
    Empty,
    /// Its rows are marked.
    Marked(Mark),
    /// It gets a row that says so.
    Told(ChangeBatch),
}

/// A pure function from rows of a source table to rows of its target table.
pub trait RowMap: Send + Sync {
    /// The rows that come out. Source order is kept.
    fn map(&self, rows: ChangeBatch) -> Result<Mapped>;

    /// The place in the target table of a column of the source table; `None` if its values do not get there.
    fn column(&self, source: usize) -> Option<usize>;

    /// The columns of the source table that a column of the target table is made of.
    fn made_of(&self, target: usize) -> Vec<usize>;

    /// What becomes of the target table when the source table is emptied.
    fn emptied(&self, _truncate: &Truncate) -> Result<Emptied> {
        Ok(Emptied::Empty)
    }

    /// Whether the target table holds what cannot be had from the source any more: what was there before.
    fn keeps_past(&self) -> bool {
        false
    }

    /// What is true of every row that gets to the target, so that a load may leave others out; `None` where all rows
    /// are to be read.
    fn wants(&self) -> Option<&Condition> {
        None
    }

    /// The rows that are needed whole, and of which the log has left something out.
    ///
    /// # Errors
    /// See [`RowMap::map`].
    fn incomplete(&self, _rows: &ChangeBatch) -> Result<Vec<usize>> {
        Ok(Vec::new())
    }

    /// Whether every change that comes out finds the target as it says. Where the log does not say whether a row was
    /// there before, an update may be an insert, and a delete one of nothing.
    fn is_certain(&self) -> bool {
        true
    }
}

impl Route {
    /// The table as it is.
    pub fn straight(table: Arc<TableSchema>) -> Self {
        Self { target: Arc::clone(&table), source: table, rows: None, history: None }
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
        Ok(Self { source, target, rows: Some(Arc::new(names)), history: None })
    }

    /// Any other function. Generated columns keep their places.
    pub fn mapped(source: Arc<TableSchema>, target: Arc<TableSchema>, rows: Arc<dyn RowMap>) -> Self {
        Self { source, target, rows: Some(rows), history: None }
    }

    /// With a table beside the target's, to which every change is added by this route.
    pub fn with_history(self, history: Self) -> Self {
        Self { history: Some(Arc::new(history)), ..self }
    }

    /// Where every change is added as a row, beside the table. What a load reads is no change.
    pub fn history(&self) -> Option<&Self> {
        self.history.as_deref()
    }

    /// The table as the source has it.
    pub fn source(&self) -> &Arc<TableSchema> {
        &self.source
    }

    /// The table as the target has it.
    pub fn target(&self) -> &Arc<TableSchema> {
        &self.target
    }

    /// See [`RowMap::is_certain`].
    pub fn is_certain(&self) -> bool {
        self.rows.as_ref().is_none_or(|rows| rows.is_certain())
    }

    /// See [`RowMap::keeps_past`].
    pub fn keeps_past(&self) -> bool {
        self.rows.as_ref().is_some_and(|rows| rows.keeps_past())
    }

    /// What becomes of the target table when the source table is emptied.
    ///
    /// # Errors
    /// What a rule does not allow.
    pub fn emptied(&self, truncate: &Truncate) -> Result<Emptied> {
        self.rows.as_ref().map_or(Ok(Emptied::Empty), |rows| rows.emptied(truncate))
    }

    /// See [`RowMap::wants`].
    pub fn wants(&self) -> Option<&Condition> {
        self.rows.as_ref().and_then(|rows| rows.wants())
    }

    /// See [`RowMap::incomplete`].
    ///
    /// # Errors
    /// See [`Route::map`].
    pub fn incomplete(&self, rows: &ChangeBatch) -> Result<Vec<usize>> {
        let rows = self.rows.as_ref().map(|map| map.incomplete(rows));
        rows.unwrap_or_else(|| Ok(Vec::new())).map_err(|e| e.table(&self.source.id))
    }

    /// What the target calls a column of the source; `None` if it does not get there.
    pub fn column(&self, name: &str) -> Option<&str> {
        let (source, target) = (&self.source, &self.target);
        if let Some(at) = source.column(name) {
            let at = self.place(at)?;
            return target.columns.get(at).map(|c| c.name.as_str());
        }
        let at = source.generated.iter().position(|c| c.name == name)?;
        target.generated.get(at).map(|c| c.name.as_str())
    }

    /// The columns of the source table that a column of the target table is made of.
    pub fn made_of(&self, target: usize) -> Vec<usize> {
        self.rows.as_ref().map_or_else(|| vec![target], |rows| rows.made_of(target))
    }

    /// The place in the target table of a column of the source table; `None` if its values do not get there.
    pub fn place(&self, source: usize) -> Option<usize> {
        self.rows.as_ref().map_or(Some(source), |rows| rows.column(source))
    }

    /// The values of columns that the target's table has more than that of `before`, for rows from before, in the order
    /// of the target's table. `existing`: those of the columns that the source's table has more. `None` if a rule
    /// computes one of them.
    pub fn added(&self, before: &Self, existing: &RecordBatch) -> Option<RecordBatch> {
        let is_new = |then: &TableSchema, name: &str| then.column(name).is_none();
        let new = |(at, _): &(usize, &Column)| is_new(&before.source, &self.source.columns[*at].name);
        let new: Vec<usize> = self.source.columns.iter().enumerate().filter(new).map(|(at, _)| at).collect();
        let mut wanted = Vec::new();
        for (at, column) in self.target.columns.iter().enumerate() {
            if is_new(&before.target, &column.name) {
                wanted.push(new.iter().position(|source| self.place(*source) == Some(at))?);
            }
        }
        existing.project(&wanted).ok()
    }

    /// What becomes of rows of the source table.
    ///
    /// # Errors
    /// Rows of another shape than the route's, or what a rule does not allow.
    pub fn map(&self, rows: ChangeBatch) -> Result<Mapped> {
        match &self.rows {
            None => Ok(Mapped::all(rows)),
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
        Ok(Mapped::all(rows))
    }

    fn column(&self, source: usize) -> Option<usize> {
        Some(source)
    }

    fn made_of(&self, target: usize) -> Vec<usize> {
        vec![target]
    }
}

fn relabel(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)
        .map_err(|e| Error::fatal("internal: rows do not fit the renamed table").cause(e))
}
