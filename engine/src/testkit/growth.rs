//! What rows of the past have in columns that came later.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;

use super::convert;
use super::model::{Row, Value};
use crate::change::{BatchBuilder, ChangeBatch, ColumnBuilder, ColumnMask, Op};
use crate::error::{Error, Result};
use crate::schema::{Column, SchemaChange, SchemaChangeKind, TableId, TableSchema};

/// Values of added columns, by table and place.
#[derive(Clone, Debug, Default)]
pub(super) struct Growth(BTreeMap<(TableId, usize), Option<Value>>);

impl Growth {
    /// Rows that are there have this value in a column that is added.
    pub(super) fn add(&mut self, table: &TableId, at: usize, existing: Option<Value>) {
        self.0.insert((table.clone(), at), existing);
    }

    /// A row with as many columns as `table` has, which may be of another time.
    pub(super) fn fit(&self, row: &Row, table: &TableSchema) -> Row {
        let missing = |at: usize| self.0[&(table.id.clone(), at)].clone();
        let value = |at: usize| row.get(at).cloned().unwrap_or_else(|| missing(at));
        (0..table.columns.len()).map(value).collect()
    }

    /// Rows of a load.
    pub(super) fn batch(&self, table: &Arc<TableSchema>, rows: &[&Row]) -> Result<ChangeBatch> {
        if rows.iter().any(|row| row.len() > table.columns.len()) {
            return Err(Error::transient("the table has got a column since it was looked at").table(&table.id));
        }
        let mut builder = BatchBuilder::new(Arc::clone(table));
        for row in rows.iter().map(|row| self.fit(row, table)) {
            builder.columns().iter_mut().zip(&row).for_each(|(b, v)| convert::push(b, v.as_ref()));
            builder.end_row(Op::Insert, &ColumnMask::default())?;
        }
        builder.finish()
    }
}

/// A column is added to a table, which becomes the one returned.
pub(super) fn added(
    table: &Arc<TableSchema>,
    column: Column,
    existing: Option<&Value>,
) -> Result<(SchemaChange, Arc<TableSchema>)> {
    let mut builder = ColumnBuilder::new(&column.ty);
    convert::push(&mut builder, existing);
    let values = [(column.name.clone(), builder.finish(&column.ty)?)];
    let existing = RecordBatch::try_from_iter_with_nullable(values.map(|(name, array)| (name, array, true))).unwrap();
    let mut next = TableSchema::clone(table);
    next.columns.push(column);
    let next = Arc::new(next);
    let kind = SchemaChangeKind::AddColumns { next: Arc::clone(&next), existing };
    Ok((SchemaChange { table: Arc::clone(table), kind }, next))
}
