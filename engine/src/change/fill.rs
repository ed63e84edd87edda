//! Rows that the log has left something out of, made whole by what the source has now.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_select::interleave::interleave;
use arrow_select::take::take_record_batch;

use super::batch::{ChangeBatch, OldImages, Op};
use crate::error::{Error, Result};

impl ChangeBatch {
    /// With these updated rows whole. `found`: for each of them the row that its key has at the source now, as a batch
    /// of one; only what is unknown is taken of it. One that is not there any more becomes a delete of what it was: a
    /// later change tells where it has gone.
    ///
    /// # Errors
    /// Rows of another shape.
    pub fn filled(self, rows: &[usize], found: &[Option<ChangeBatch>]) -> Result<Self> {
        let table = Arc::clone(&self.table);
        let mask_of = |row: usize| self.mask_of.get(row).copied().unwrap_or(0);
        let mut out = Self { mask_of: (0..self.len()).map(mask_of).collect(), ..self.clone() };
        let columns = (0..table.columns.len()).map(|at| self.column(at, rows, found)).collect::<Result<_>>()?;
        for (row, found) in rows.iter().zip(found) {
            out.mask_of[*row] = 0;
            if found.is_none() {
                out.ops[*row] = Op::Delete;
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.len()));
        let whole = RecordBatch::try_new_with_options(self.rows.schema(), columns, &options);
        out.rows = whole.map_err(|e| failed(e, &self))?;
        out.old = self.old.as_ref().map(|old| kept(old, &out.ops)).transpose().map_err(|e| failed(e, &self))?.flatten();
        Ok(out)
    }

    /// One column, what was unknown of these rows taken from those that were found.
    fn column(&self, at: usize, rows: &[usize], found: &[Option<ChangeBatch>]) -> Result<ArrayRef> {
        let mut sources: Vec<&dyn Array> = vec![self.rows.column(at).as_ref()];
        let mut places: Vec<(usize, usize)> = (0..self.len()).map(|row| (0, row)).collect();
        let old_place = self.table.old_columns().iter().position(|old| *old == at);
        for (row, found) in rows.iter().zip(found) {
            let old = self.old_row(*row).zip(self.old.as_ref()).zip(old_place);
            match (found, old) {
                (Some(found), _) if self.mask(*row).contains(at) => {
                    places[*row] = (sources.len(), 0);
                    sources.push(found.rows.column(at).as_ref());
                }
                (None, Some(((image, old), place))) => {
                    places[*row] = (sources.len(), image);
                    sources.push(old.images.column(place).as_ref());
                }
                _ => {}
            }
        }
        if sources.len() == 1 {
            return Ok(Arc::clone(self.rows.column(at)));
        }
        interleave(&sources, &places).map_err(|e| failed(e, self))
    }
}

/// Old images of rows that are still updates.
fn kept(old: &OldImages, ops: &[Op]) -> Result<Option<OldImages>, arrow_schema::ArrowError> {
    let kept = |(image, row): (usize, &u32)| (ops[*row as usize] == Op::Update).then_some((image as u32, *row));
    let (images, rows): (Vec<u32>, Vec<u32>) = old.rows.iter().enumerate().filter_map(kept).unzip();
    if rows.is_empty() {
        return Ok(None);
    }
    Ok(Some(OldImages { rows, images: take_record_batch(&old.images, &UInt32Array::from(images))? }))
}

fn failed(error: arrow_schema::ArrowError, batch: &ChangeBatch) -> Error {
    Error::fatal("internal: rows made whole").cause(error).table(&batch.table.id)
}
