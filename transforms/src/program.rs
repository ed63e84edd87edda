//! What rules amount to for the rows of one table: steps that make columns, a filter, and what comes out.

mod aside;
mod filter;
mod hidden;
mod past;
mod rows;
mod step;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::{ArrayRef, NullArray, RecordBatch, new_null_array};
use trem_engine::change::{ChangeBatch, ColumnMask, OldImages, Op, TableCounts, Truncate};
use trem_engine::condition::Condition;
use trem_engine::route::{Emptied, Mapped, RowMap};
use trem_engine::schema::TableSchema;
use trem_engine::{Class, Error, Result};

use crate::metadata::Metadata;
pub(crate) use filter::Filter;
use rows::{batch, widened};
use step::Slots;
pub(crate) use step::{Make, Step};

/// A column that comes out.
#[derive(Clone, Debug)]
pub(crate) struct Out {
    /// Where its values are.
    pub(crate) slot: usize,
    /// The columns of the source that they are made of.
    pub(crate) from: Vec<usize>,
    /// And of what is different for each change.
    pub(crate) of_change: bool,
    /// The steps that have converted them.
    pub(crate) conversions: Vec<usize>,
}

/// What a target keeps of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// Nothing.
    None,
    /// Rows that are deleted; the last column says since when they are.
    SoftDelete,
    /// Every change as a row; the last four columns tell of it.
    History,
}

/// The rules of one table, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) source: Arc<TableSchema>,
    pub(crate) target: Arc<TableSchema>,
    /// The task's name.
    pub(crate) task: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) outs: Vec<Out>,
    /// Where each column of the source is on the target.
    pub(crate) places: Vec<Option<usize>>,
    pub(crate) filter: Option<Filter>,
    pub(crate) past: Past,
    /// The columns of the source that an old image has.
    pub(crate) old: Vec<usize>,
    /// A row that cannot be done is set aside, with the values of these columns of the source.
    pub(crate) set_aside: Option<Vec<usize>>,
}

/// What a batch has come to.
struct Made {
    rows: ChangeBatch,
    misfits: Vec<(String, u64)>,
}

/// The values of a row as text, for people.
///
/// # Errors
/// A batch whose rows are not those of its table.
pub fn row_text(rows: &ChangeBatch, row: usize) -> Result<Vec<Option<String>>> {
    let value = |(at, column): (usize, &trem_engine::schema::Column)| {
        let values = rows.rows.column(at).slice(row, 1);
        Ok(crate::expression::text(&values, &column.ty)?.into_iter().next().flatten())
    };
    rows.table.columns.iter().enumerate().map(value).collect()
}

impl Program {
    /// All slots of rows of the source: its columns, what is known of the changes, and what the steps make. `of`: the
    /// row of the batch that each is of. Beside them the values of each step that did not fit.
    fn slots(
        &self,
        columns: Vec<ArrayRef>,
        (changes, of): (&ChangeBatch, &[usize]),
        unknown: &dyn Fn(usize, usize) -> bool,
    ) -> Result<(Slots, Vec<u64>)> {
        let (mut slots, first) = (columns, self.source.columns.len());
        for (at, metadata) in Metadata::ALL.into_iter().enumerate() {
            let wanted = self.steps.iter().any(|step| step.reads(first + at));
            slots.push(match wanted {
                true => metadata.values(changes, of, &self.task),
                false => Arc::new(NullArray::new(of.len())),
            });
        }
        let mut misfits = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let (made, count) = step.run(&slots, of.len(), &|row| step.is_unknown(row, unknown))?;
            slots.push(made);
            misfits.push(count);
        }
        Ok((slots, misfits))
    }

    /// With what these columns have in all rows, which rows of other tables that become the same have not.
    pub(crate) fn told_apart_by(mut self, columns: &[usize]) -> Result<Self> {
        let mut target = (*self.target).clone();
        let Some(part) = target.id.part.as_mut().filter(|_| !columns.is_empty()) else { return Ok(self) };
        let nothing: Vec<ArrayRef> = self.source.columns.iter().map(|c| new_null_array(&c.ty.arrow(), 1)).collect();
        let row = ChangeBatch::inserts(Arc::clone(&self.source), batch(self.source.arrow(), nothing.clone(), 1)?);
        let (slots, _) = self.slots(nothing, (&row, &[0]), &|_, _| true)?;
        for at in columns {
            let column = &self.target.columns[*at];
            let value = crate::expression::text(&slots[self.outs[*at].slot], &column.ty)?.into_iter().next().flatten();
            part.columns.extend(value.map(|value| (column.name.clone(), value)));
        }
        self.target = Arc::new(target);
        Ok(self)
    }

    /// The slots of old images.
    fn old_slots(&self, rows: &ChangeBatch, old: &OldImages) -> Result<Slots> {
        let of: Vec<usize> = old.rows.iter().map(|row| *row as usize).collect();
        let unknown = |_, column: usize| !self.old.contains(&column);
        Ok(self.slots(widened(old, &self.source), (rows, &of), &unknown)?.0)
    }

    fn out(&self, slots: &Slots, rows: usize) -> Result<RecordBatch> {
        batch(self.target.arrow(), self.outs.iter().map(|out| Arc::clone(&slots[out.slot])).collect(), rows)
    }

    /// The target's old images.
    fn out_old(&self, old: &OldImages, slots: &Slots) -> Result<Option<OldImages>> {
        let columns = self.target.old_columns();
        if columns.is_empty() {
            return Ok(None);
        }
        let schema = self.target.arrow().project(&columns);
        let schema = schema.map_err(|e| Error::fatal("internal: columns of old images").cause(e))?;
        let values = columns.iter().map(|at| Arc::clone(&slots[self.outs[*at].slot])).collect();
        Ok(Some(OldImages { rows: old.rows.clone(), images: batch(Arc::new(schema), values, old.rows.len())? }))
    }

    /// What is unknown of rows of which the source's columns in `mask` are.
    ///
    /// # Errors
    /// Class `Table` where a column of an updated row is made of some that are unknown and of others that are not: it
    /// may have another value now, and nobody can say which.
    fn mask(&self, mask: &ColumnMask, updated: bool) -> Result<ColumnMask> {
        let mut out = ColumnMask::default();
        for (at, column) in self.outs.iter().enumerate() {
            let Some(left_out) = column.from.iter().find(|from| mask.contains(**from)) else { continue };
            let as_it_was = !column.of_change && column.from.iter().all(|from| mask.contains(*from));
            if updated && !as_it_was {
                return Err(self.half_known(at, *left_out));
            }
            out.insert(at);
        }
        Ok(out)
    }

    fn half_known(&self, at: usize, left_out: usize) -> Error {
        let (made, left_out) = (&self.target.columns[at].name, &self.source.columns[left_out].name);
        let what = format!(
            "column {made:?} is made of {left_out:?} and of others, and the log has left out {left_out:?} of a row \
             whose other columns may have changed"
        );
        Error::new(Class::Table, what)
            .remedy(format!("have the source log whole rows of {} (REPLICA IDENTITY FULL)", self.source.id))
    }

    /// What the steps make of rows.
    fn make(&self, rows: &ChangeBatch) -> Result<Made> {
        let old = rows.old.as_ref().map(|old| Ok((old, self.old_slots(rows, old)?)));
        let old: Option<(&OldImages, Slots)> = old.transpose()?;
        let unknown = |row: usize, column: usize| match rows.ops[row] {
            Op::Delete => !self.old.contains(&column),
            Op::Insert | Op::Update => rows.mask(row).contains(column),
        };
        let each: Vec<usize> = (0..rows.len()).collect();
        let (slots, misfits) = self.slots(rows.rows.columns().to_vec(), (rows, &each), &unknown)?;
        let updated: BTreeSet<u16> =
            rows.mask_of.iter().zip(&rows.ops).filter(|(_, op)| **op == Op::Update).map(|(mask, _)| *mask).collect();
        let mask = |(at, mask): (usize, &ColumnMask)| self.mask(mask, updated.contains(&(at as u16)));
        let masks = rows.masks.iter().enumerate().map(mask).collect::<Result<Vec<ColumnMask>>>()?;
        let images = old.as_ref().map(|(old, slots)| self.out_old(old, slots)).transpose()?.flatten();
        let of_column = |(out, column): (&Out, &trem_engine::schema::Column)| {
            let count = out.conversions.iter().map(|step| misfits[*step]).sum();
            (count > 0).then(|| (column.name.clone(), count))
        };
        let misfits = self.outs.iter().zip(&self.target.columns).filter_map(of_column).collect();
        let rows = ChangeBatch {
            table: Arc::clone(&self.target),
            rows: self.out(&slots, rows.len())?,
            old: images,
            masks,
            ops: rows.ops.clone(),
            mask_of: rows.mask_of.clone(),
            commits: rows.commits.clone(),
        };
        Ok(Made { rows, misfits })
    }

    /// What becomes of rows, if all of them can be done.
    fn whole(&self, rows: &ChangeBatch) -> Result<Mapped> {
        let through = match &self.filter {
            None => None,
            Some(filter) => Some(filter.judge(rows)?.apply(rows.clone())?),
        };
        let (rows, counts) = through.as_ref().map_or((rows, TableCounts::default()), |t| (&t.rows, t.counts));
        let made = self.make(rows)?;
        Ok(Mapped { counts, misfits: made.misfits, ..Mapped::all(self.keep_past(made.rows)?) })
    }
}

impl RowMap for Program {
    fn map(&self, rows: ChangeBatch) -> Result<Mapped> {
        match (&self.set_aside, self.whole(&rows)) {
            (Some(shown), Err(error)) if error.class() == Class::Table => self.apart(&rows, &error, shown),
            (_, mapped) => mapped,
        }
    }

    fn column(&self, source: usize) -> Option<usize> {
        self.places.get(source).copied().flatten()
    }

    fn made_of(&self, target: usize) -> Vec<usize> {
        self.outs.get(target).map(|out| out.from.clone()).unwrap_or_default()
    }

    fn emptied(&self, truncate: &Truncate) -> Result<Emptied> {
        self.past_emptied(truncate)
    }

    fn keeps_past(&self) -> bool {
        !matches!(self.past, Past::None)
    }

    fn wants(&self) -> Option<&Condition> {
        self.filter.as_ref().and_then(Filter::condition)
    }

    fn incomplete(&self, rows: &ChangeBatch) -> Result<Vec<usize>> {
        if self.set_aside.is_some() {
            // The row may not be on the target: it may have been set aside when it came.
            let masked = |row: &usize| rows.ops[*row] == Op::Update && !rows.mask(*row).is_empty();
            return Ok((0..rows.len()).filter(masked).collect());
        }
        self.filter.as_ref().map_or(Ok(Vec::new()), |filter| filter.incomplete(rows))
    }

    fn is_certain(&self) -> bool {
        self.set_aside.is_none()
            && !matches!(self.past, Past::SoftDelete)
            && self.filter.as_ref().is_none_or(Filter::is_certain)
    }
}

#[cfg(test)]
mod tests;
