//! Rows of one table in source order, with their old images and what is unknown of them.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;

use super::commit::Commits;
use crate::error::{Error, Result};
use crate::schema::TableSchema;

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// The row is new; its image is whole.
    Insert,
    /// The row has this image now.
    Update,
    /// The row is gone; the image holds what identified it, the other columns are unknown.
    Delete,
}

/// A set of columns, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ColumnMask(Vec<u64>);

impl ColumnMask {
    /// Adds a column.
    pub fn insert(&mut self, column: usize) {
        let word = column / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (column % 64);
    }

    /// Whether the column is in the set.
    pub fn contains(&self, column: usize) -> bool {
        self.0.get(column / 64).is_some_and(|w| w & (1 << (column % 64)) != 0)
    }

    /// Whether no column is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    /// The columns that are in both sets.
    pub fn intersect(&self, other: &Self) -> Self {
        let mut words: Vec<u64> = self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect();
        while words.last() == Some(&0) {
            words.pop();
        }
        Self(words)
    }
}

/// Old images of those rows of a batch whose log entry carried one.
#[derive(Clone, Debug)]
pub struct OldImages {
    /// For each old image the batch row it belongs to, ascending.
    pub rows: Vec<u32>,
    /// The images: one column for each of [`TableSchema::old_columns`], in that order.
    pub images: RecordBatch,
}

/// Rows of one table and one schema version, in source order.
#[derive(Clone, Debug)]
pub struct ChangeBatch {
    /// The shape of the rows.
    pub table: Arc<TableSchema>,
    /// What happened to each row.
    pub ops: Vec<Op>,
    /// One row for each op: the image after the change; for a delete the old identity.
    pub rows: RecordBatch,
    /// Old images, of updates only: present when the key changed or the log carries whole old rows.
    pub old: Option<OldImages>,
    /// For each row an index into `masks`; empty when every mask is empty.
    pub mask_of: Vec<u16>,
    /// Columns whose value the log did not send. Unknown is not NULL. `masks[0]` is the empty mask.
    pub masks: Vec<ColumnMask>,
    /// The transactions that they are of.
    pub commits: Commits,
}

impl ChangeBatch {
    /// A batch of inserts, as a full load reads them.
    pub fn inserts(table: Arc<TableSchema>, rows: RecordBatch) -> Self {
        let ops = vec![Op::Insert; rows.num_rows()];
        let masks = vec![ColumnMask::default()];
        Self { table, ops, rows, old: None, mask_of: Vec::new(), masks, commits: Commits::default() }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The columns of `row` that the log did not send.
    pub fn mask(&self, row: usize) -> &ColumnMask {
        let index = self.mask_of.get(row).copied().unwrap_or(0);
        &self.masks[index as usize]
    }

    /// Where in [`OldImages::images`] the old image of `row` is.
    pub fn old_row(&self, row: usize) -> Option<usize> {
        self.old.as_ref().and_then(|old| old.rows.binary_search(&(row as u32)).ok())
    }

    /// Some of the rows, one after the other.
    #[must_use]
    pub fn slice(&self, from: usize, count: usize) -> Self {
        let old = self.old.as_ref().and_then(|old| {
            let first = old.rows.partition_point(|row| (*row as usize) < from);
            let end = old.rows.partition_point(|row| (*row as usize) < from + count);
            let rows = old.rows[first..end].iter().map(|row| row - from as u32).collect();
            (first < end).then(|| OldImages { rows, images: old.images.slice(first, end - first) })
        });
        Self {
            table: Arc::clone(&self.table),
            ops: self.ops[from..from + count].to_vec(),
            rows: self.rows.slice(from, count),
            old,
            mask_of: self.mask_of.get(from..from + count).map(<[u16]>::to_vec).unwrap_or_default(),
            masks: self.masks.clone(),
            commits: self.commits.of_rows(from..from + count),
        }
    }

    /// The rows of several batches of one shape, one behind the other; `None` of none.
    ///
    /// # Errors
    /// Batches of several shapes.
    pub fn concat(batches: &[Self]) -> Result<Option<Self>> {
        let Some(first) = batches.first() else { return Ok(None) };
        let failed = |e| Error::fatal("internal: batches put together").cause(e).target_table(&first.table.id);
        let rows = concat_batches(&first.rows.schema(), batches.iter().map(|b| &b.rows)).map_err(failed)?;
        let mut out = Self { ops: Vec::new(), rows, old: None, mask_of: Vec::new(), ..first.slice(0, 0) };
        let (mut old_rows, mut images) = (Vec::new(), Vec::new());
        for batch in batches {
            let before = out.ops.len();
            out.ops.extend(&batch.ops);
            for row in 0..batch.len() {
                let mask = out.place_of_mask(batch.mask(row)).map_err(|e| e.target_table(&first.table.id))?;
                out.mask_of.push(mask);
            }
            if let Some(old) = &batch.old {
                old_rows.extend(old.rows.iter().map(|row| row + before as u32));
                images.push(&old.images);
            }
            for row in 0..batch.len() {
                if let Some((commit, change)) = batch.commits.of(row) {
                    out.commits.put((before + row) as u32, commit, change);
                }
            }
        }
        if let Some(one) = images.first() {
            let images = concat_batches(&one.schema(), images.iter().copied()).map_err(failed)?;
            out.old = Some(OldImages { rows: old_rows, images });
        }
        Ok(Some(out))
    }

    fn place_of_mask(&mut self, mask: &ColumnMask) -> Result<u16> {
        let place = self.masks.iter().position(|known| known == mask).unwrap_or(self.masks.len());
        if place == self.masks.len() {
            self.masks.push(mask.clone());
        }
        u16::try_from(place).map_err(|_| Error::fatal("internal: more than 65,535 column masks in one batch"))
    }

    /// Bytes of the rows' values alone, wherever they are held.
    pub fn bytes_of_values(&self) -> usize {
        // What has no such size has no values either.
        self.rows.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum()
    }

    /// Bytes of the buffers held.
    pub fn bytes(&self) -> usize {
        self.rows.get_array_memory_size()
            + self.old.as_ref().map_or(0, |o| o.images.get_array_memory_size())
            + self.ops.len()
            + self.mask_of.len() * 2
    }
}
