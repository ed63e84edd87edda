//! The columnar builder that adapters fill row by row.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};

use super::batch::{ChangeBatch, ColumnMask, OldImages, Op};
use super::column::ColumnBuilder;
use super::commit::{Commit, Commits};
use crate::error::{Error, Result};
use crate::schema::TableSchema;

/// Builds a [`ChangeBatch`]: for each row first its columns in order, then [`BatchBuilder::end_row`].
#[derive(Debug)]
pub struct BatchBuilder {
    table: Arc<TableSchema>,
    old_columns: Vec<usize>,
    rows: Vec<ColumnBuilder>,
    old: Vec<ColumnBuilder>,
    old_rows: Vec<u32>,
    ops: Vec<Op>,
    mask_of: Vec<u16>,
    masks: Vec<ColumnMask>,
    mask_index: HashMap<ColumnMask, u16>,
    commits: Commits,
}

impl BatchBuilder {
    /// An empty builder for rows of `table`.
    pub fn new(table: Arc<TableSchema>) -> Self {
        let rows = table.columns.iter().map(|c| ColumnBuilder::new(&c.ty)).collect();
        let old_columns = table.old_columns();
        let old = old_columns.iter().map(|i| ColumnBuilder::new(&table.columns[*i].ty)).collect();
        let masks = vec![ColumnMask::default()];
        let mask_index = HashMap::new();
        Self {
            table,
            old_columns,
            rows,
            old,
            old_rows: Vec::new(),
            ops: Vec::new(),
            mask_of: Vec::new(),
            masks,
            mask_index,
            commits: Commits::default(),
        }
    }

    /// The shape of the rows.
    pub fn table(&self) -> &Arc<TableSchema> {
        &self.table
    }

    /// The column builders of the row image, in table order.
    pub fn columns(&mut self) -> &mut [ColumnBuilder] {
        &mut self.rows
    }

    /// The column builders of the old image, and which table columns they are.
    pub fn old_columns(&mut self) -> (&mut [ColumnBuilder], &[usize]) {
        (&mut self.old, &self.old_columns)
    }

    /// The next row is this change of this transaction, counted from 0.
    pub fn of_commit(&mut self, commit: &Arc<Commit>, change: u64) {
        self.commits.put(self.ops.len() as u32, commit, change);
    }

    /// Ends an old image that was appended for the row about to be ended. Call before [`BatchBuilder::end_row`].
    pub fn end_old(&mut self) {
        self.old_rows.push(self.ops.len() as u32);
    }

    /// Ends a row whose columns have all been appended (unknown ones as NULL, named in `unknown`).
    pub fn end_row(&mut self, op: Op, unknown: &ColumnMask) -> Result<()> {
        self.ops.push(op);
        if unknown.is_empty() {
            if !self.mask_of.is_empty() {
                self.mask_of.push(0);
            }
            return Ok(());
        }
        let index = match self.mask_index.get(unknown) {
            Some(i) => *i,
            None => {
                let i = u16::try_from(self.masks.len())
                    .map_err(|_| Error::fatal("internal: more than 65,535 column masks in one batch"))?;
                self.masks.push(unknown.clone());
                self.mask_index.insert(unknown.clone(), i);
                i
            }
        };
        self.mask_of.resize(self.ops.len() - 1, 0);
        self.mask_of.push(index);
        Ok(())
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The rows as a batch; the builder is empty afterwards.
    pub fn finish(&mut self) -> Result<ChangeBatch> {
        let table = Arc::clone(&self.table);
        let at = |e: Error| e.table(&self.table.id);
        let mut arrays = Vec::with_capacity(self.rows.len());
        for (builder, column) in self.rows.iter_mut().zip(&table.columns) {
            arrays.push(builder.finish(&column.ty).map_err(|e| at(e).context(format!("column {}", column.name)))?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.ops.len()));
        let rows = RecordBatch::try_new_with_options(table.arrow(), arrays, &options)
            .map_err(|e| at(Error::fatal("internal: row images of uneven length").cause(e)))?;
        let old = self.finish_old()?;
        Ok(ChangeBatch {
            table,
            ops: std::mem::take(&mut self.ops),
            rows,
            old,
            mask_of: std::mem::take(&mut self.mask_of),
            masks: {
                self.mask_index.clear();
                std::mem::replace(&mut self.masks, vec![ColumnMask::default()])
            },
            commits: std::mem::take(&mut self.commits),
        })
    }

    fn finish_old(&mut self) -> Result<Option<OldImages>> {
        if self.old_rows.is_empty() {
            return Ok(None);
        }
        let at = |e: Error| e.table(&self.table.id);
        let mut arrays = Vec::with_capacity(self.old.len());
        for (builder, index) in self.old.iter_mut().zip(&self.old_columns) {
            arrays.push(builder.finish(&self.table.columns[*index].ty).map_err(at)?);
        }
        let schema = self
            .table
            .arrow()
            .project(&self.old_columns)
            .map_err(|e| at(Error::fatal("internal: old image columns").cause(e)))?;
        let images = RecordBatch::try_new(Arc::new(schema), arrays)
            .map_err(|e| at(Error::fatal("internal: old images of uneven length").cause(e)))?;
        Ok(Some(OldImages { rows: std::mem::take(&mut self.old_rows), images }))
    }
}
