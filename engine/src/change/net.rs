//! Net effect of a table's changes: at most one delete and one put for each row, in an order that is always safe.
//!
//! A set is applied in three phases, deletes, updates, inserts, so that swaps and chains of keys
//! need no care at the target. Every row is followed by its *origin*, the key it had on the target before the set.

use arrow_array::RecordBatch;

use super::batch::{ChangeBatch, ColumnMask};
use crate::error::Result;

/// A row image: a row of one of [`NetChanges::batches`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowRef {
    /// Index into the batches.
    pub batch: u32,
    /// Row in the batch.
    pub row: u32,
}

/// A key as it stands on the target before the set is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyRef {
    /// The key columns of a row image.
    Row(RowRef),
    /// The key columns of an old image: `row` counts in [`super::OldImages::images`] of the batch.
    Old(RowRef),
}

/// Rows whose key stays and whose other columns are set, all but those in `unknown`.
#[derive(Clone, Debug)]
pub struct UpdateGroup {
    /// Columns that keep what the target has.
    pub unknown: ColumnMask,
    /// The images, in key order.
    pub rows: Vec<RowRef>,
}

/// A row whose key changes while some columns are known to the target alone.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// Where it is on the target.
    pub from: KeyRef,
    /// What it becomes; [`ChangeBatch::mask`] of that row says what is unknown.
    pub to: RowRef,
}

/// What remains to be done for one table, in the order of the fields.
#[derive(Clone, Debug)]
pub struct NetChanges {
    /// The images that the references point into: the batches given, and last, if any were merged, a batch of images made here.
    pub batches: Vec<ChangeBatch>,
    /// Rows to delete, in key order.
    pub deletes: Vec<KeyRef>,
    /// Rows to take out and keep what is unknown of them: to be put in again after the updates.
    pub moves: Vec<Move>,
    /// Rows to update, grouped by what is unknown.
    pub updates: Vec<UpdateGroup>,
    /// Rows to insert, in key order.
    pub inserts: Vec<RowRef>,
    /// Changes that are contained in another one.
    pub merged: u64,
}

impl NetChanges {
    /// Merges the changes of one table with a key (`Identity::Key` or `KeyWithFullImage`); all batches have the same shape.
    pub fn of(batches: Vec<ChangeBatch>) -> Result<Self> {
        let _ = (&batches, None::<RecordBatch>);
        unimplemented!()
    }
}
