//! Targets that keep what the source has no more: rows that are marked as deleted, or every change as a row.

use std::sync::Arc;
use std::time::SystemTime;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, BooleanArray, new_null_array};
use arrow_select::nullif::nullif;
use trem_engine::change::{ChangeBatch, ColumnMask, Mark, Op, Truncate};
use trem_engine::route::Emptied;
use trem_engine::{Error, Result};

use super::rows::batch;
use super::{Past, Program};
use crate::metadata::{operations, positions, sequences, times};

/// The columns that tell of a change in a history.
const OF_CHANGE: usize = 4;

impl Program {
    /// Rows for the target, with what it keeps.
    pub(super) fn keep_past(&self, rows: ChangeBatch) -> Result<ChangeBatch> {
        match self.past {
            Past::None => Ok(rows),
            Past::SoftDelete => self.marked(rows),
            Past::History => self.told(rows),
        }
    }

    /// What becomes of the target's table when the source's is emptied.
    pub(super) fn past_emptied(&self, truncate: &Truncate) -> Result<Emptied> {
        let (commit, sequence) = truncate.commit.as_ref().map(|(commit, at)| (commit, *at)).unzip();
        match self.past {
            Past::None => Ok(Emptied::Empty),
            Past::SoftDelete => Ok(Emptied::Marked(Mark {
                table: Arc::clone(&self.target),
                column: self.target.columns.len() - 1,
                value: times([commit.and_then(|c| c.at).or_else(|| Some(SystemTime::now()))].into_iter()),
            })),
            Past::History => {
                let told = self.target.columns.len() - OF_CHANGE;
                let of_row = self.target.columns[..told].iter().map(|c| new_null_array(&c.ty.arrow(), 1));
                let mut operation = StringBuilder::new();
                operation.append_value("truncate");
                let columns = of_row.chain([
                    Arc::new(operation.finish()) as ArrayRef,
                    positions([commit].into_iter()),
                    sequences([sequence].into_iter()),
                    times([commit.and_then(|c| c.at)].into_iter()),
                ]);
                let rows = batch(self.target.arrow(), columns.collect(), 1)?;
                Ok(Emptied::Told(ChangeBatch::inserts(Arc::clone(&self.target), rows)))
            }
        }
    }

    /// What is not known of a row that is gone.
    fn forgotten(&self) -> ColumnMask {
        let mut mask = ColumnMask::default();
        for (at, out) in self.outs.iter().enumerate() {
            if out.from.iter().any(|from| !self.old.contains(from)) {
                mask.insert(at);
            }
        }
        mask
    }

    /// Deletes become updates that say so. A row that is put in may be there already, as one that has been deleted.
    fn marked(&self, rows: ChangeBatch) -> Result<ChangeBatch> {
        let gone = |row: usize| rows.ops[row] == Op::Delete;
        let at = |row: usize| rows.commits.of(row).and_then(|(commit, _)| commit.at).unwrap_or_else(SystemTime::now);
        let marks = times((0..rows.len()).map(|row| gone(row).then(|| at(row))));
        let mut columns = rows.rows.columns().to_vec();
        columns.pop();
        columns.push(marks);
        let mut masks = rows.masks.clone();
        let forgotten = masks.len() as u16;
        masks.push(self.forgotten());
        let mask = |row: usize| if gone(row) { forgotten } else { rows.mask_of.get(row).copied().unwrap_or(0) };
        let op = |row: usize| match rows.ops[row] {
            // What a load reads is there for the first time.
            Op::Insert if rows.commits.of(row).is_none() => Op::Insert,
            _ => Op::Update,
        };
        Ok(ChangeBatch {
            mask_of: (0..rows.len()).map(mask).collect(),
            ops: (0..rows.len()).map(op).collect(),
            rows: batch(rows.rows.schema(), columns, rows.len())?,
            masks,
            ..rows
        })
    }

    /// Each change becomes a row that is put in.
    fn told(&self, rows: ChangeBatch) -> Result<ChangeBatch> {
        let commit = |row: usize| rows.commits.of(row).map(|(commit, _)| commit);
        let each = 0..rows.len();
        let gone: BooleanArray = rows.ops.iter().map(|op| Some(*op == Op::Delete)).collect();
        let forgotten = self.forgotten();
        let told = self.target.columns.len() - OF_CHANGE;
        let of_row = |(at, values): (usize, &ArrayRef)| match forgotten.contains(at) {
            true => nullif(values, &gone).map_err(|e| Error::fatal("internal: rows of a history").cause(e)),
            false => Ok(Arc::clone(values)),
        };
        let columns = rows.rows.columns()[..told].iter().enumerate().map(of_row).collect::<Result<Vec<ArrayRef>>>()?;
        let of_change = [
            operations(each.clone().map(|row| (rows.ops[row], commit(row).is_none()))),
            positions(each.clone().map(commit)),
            sequences(each.clone().map(|row| Some(rows.commits.of(row)?.1))),
            times(each.map(|row| commit(row)?.at)),
        ];
        let columns = columns.into_iter().chain(of_change).collect();
        let out = batch(rows.rows.schema(), columns, rows.len())?;
        Ok(ChangeBatch::inserts(rows.table, out))
    }
}
