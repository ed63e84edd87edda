//! Columns put together.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::SchemaRef;
use trem_engine::change::OldImages;
use trem_engine::schema::{Column, TableSchema};
use trem_engine::{Error, Result};

/// Rows of these columns.
pub(super) fn batch(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options)
        .map_err(|e| Error::fatal("internal: rows do not fit the table that rules have made").cause(e))
}

/// Old images with all columns of the table: what they do not have is NULL.
pub(super) fn widened(old: &OldImages, table: &TableSchema) -> Vec<ArrayRef> {
    let has = table.old_columns();
    let column = |(at, column): (usize, &Column)| match has.iter().position(|c| *c == at) {
        Some(place) => Arc::clone(old.images.column(place)),
        None => new_null_array(&column.ty.arrow(), old.images.num_rows()),
    };
    table.columns.iter().enumerate().map(column).collect()
}
