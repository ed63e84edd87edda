//! What rules amount to for the rows of one table: steps that compute columns, a filter, and what comes out.

mod filter;
mod rows;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, new_null_array};
use trem_engine::change::{ChangeBatch, ColumnMask, OldImages, Op, TableCounts};
use trem_engine::route::{Mapped, RowMap};
use trem_engine::schema::{TableSchema, Type};
use trem_engine::{Class, Error, Result};

use crate::expression::Expression;
use crate::formula::Formula;
pub(crate) use filter::Filter;
use rows::{batch, widened};

/// Values are in slots: those of the source's columns first, then one for each step.
type Slots = Vec<ArrayRef>;

/// A column that is computed.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    expression: Expression,
    /// The slot of each column that the expression was compiled for.
    slots: Vec<usize>,
    ty: Type,
    /// The columns of the source that it is made of.
    from: BTreeSet<usize>,
}

impl Step {
    /// Computes a column of this type. `slots`: of the columns that the expression was compiled for.
    ///
    /// # Errors
    /// Class `Refused` if no value of the expression could be one of the type.
    pub(crate) fn new(expression: Expression, slots: Vec<usize>, ty: Type, from: BTreeSet<usize>) -> Result<Self> {
        expression.becomes(&ty)?;
        Ok(Self { expression, slots, ty, from })
    }

    pub(crate) fn formula(&self) -> &Formula {
        self.expression.formula()
    }

    /// `unknown`: whether what it is made of is not known of a row, which is not computed then.
    fn run(&self, slots: &Slots, rows: usize, unknown: &dyn Fn(usize) -> bool) -> Result<ArrayRef> {
        let columns: Vec<ArrayRef> = self.slots.iter().map(|slot| Arc::clone(&slots[*slot])).collect();
        let whole = self.expression.values(&columns, rows, &self.ty);
        let Err(error) = whole else { return whole };
        if rows == 1 {
            return if unknown(0) { Ok(new_null_array(&self.ty.arrow(), 1)) } else { Err(error) };
        }
        // A row that is not known in full may be what fails.
        let one = |row: usize| {
            let slice: Slots = slots.iter().map(|values| values.slice(row, 1)).collect();
            self.run(&slice, 1, &|_| unknown(row))
        };
        let each = (0..rows).map(one).collect::<Result<Vec<ArrayRef>>>()?;
        let each: Vec<&dyn arrow_array::Array> = each.iter().map(AsRef::as_ref).collect();
        arrow_select::concat::concat(&each).map_err(|e| Error::fatal("internal: values of a rule").cause(e))
    }
}

/// A column that comes out.
#[derive(Clone, Debug)]
pub(crate) struct Out {
    /// Where its values are.
    pub(crate) slot: usize,
    /// The columns of the source that they are made of.
    pub(crate) from: Vec<usize>,
}

/// From rows of a source table to rows of its target table.
#[derive(Debug)]
pub(crate) struct Program {
    source: Arc<TableSchema>,
    target: Arc<TableSchema>,
    steps: Vec<Step>,
    outs: Vec<Out>,
    /// For each column of the source its place in the target's table.
    places: Vec<Option<usize>>,
    filter: Option<Filter>,
    /// The columns of the source that an old image has.
    old: Vec<usize>,
}

impl Program {
    /// Of these steps. `places`: see [`RowMap::column`].
    pub(crate) fn new(
        source: Arc<TableSchema>,
        target: Arc<TableSchema>,
        steps: Vec<Step>,
        outs: Vec<Out>,
        places: Vec<Option<usize>>,
        filter: Option<Filter>,
    ) -> Self {
        let old = source.old_columns();
        Self { source, target, steps, outs, places, filter, old }
    }

    /// All slots of rows of the source.
    fn slots(&self, mut slots: Slots, rows: usize, unknown: &dyn Fn(usize, usize) -> bool) -> Result<Slots> {
        for step in &self.steps {
            let missing = |row: usize| step.from.iter().any(|column| unknown(row, *column));
            slots.push(step.run(&slots, rows, &missing)?);
        }
        Ok(slots)
    }

    /// The slots of old images.
    fn old_slots(&self, old: &OldImages) -> Result<Slots> {
        self.slots(widened(old, &self.source), old.images.num_rows(), &|_, column| !self.old.contains(&column))
    }

    fn out(&self, slots: &Slots, rows: usize) -> Result<RecordBatch> {
        batch(self.target.arrow(), self.outs.iter().map(|out| Arc::clone(&slots[out.slot])).collect(), rows)
    }

    /// The columns of the target's old images.
    fn out_old(&self, slots: &Slots, rows: usize) -> Result<RecordBatch> {
        let columns = self.target.old_columns();
        let schema = self.target.arrow().project(&columns);
        let schema = schema.map_err(|e| Error::fatal("internal: columns of old images").cause(e))?;
        let values = columns.iter().map(|at| Arc::clone(&slots[self.outs[*at].slot])).collect();
        batch(Arc::new(schema), values, rows)
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
            if updated && !column.from.iter().all(|from| mask.contains(*from)) {
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
}

impl RowMap for Program {
    fn map(&self, rows: ChangeBatch) -> Result<Mapped> {
        let old = rows.old.as_ref().map(|old| self.old_slots(old)).transpose()?;
        let unknown = |row: usize, column: usize| match rows.ops[row] {
            Op::Delete => !self.old.contains(&column),
            Op::Insert | Op::Update => rows.mask(row).contains(column),
        };
        let slots = self.slots(rows.rows.columns().to_vec(), rows.len(), &unknown)?;
        let updated: BTreeSet<u16> =
            rows.mask_of.iter().zip(&rows.ops).filter(|(_, op)| **op == Op::Update).map(|(mask, _)| *mask).collect();
        let mask = |(at, mask): (usize, &ColumnMask)| self.mask(mask, updated.contains(&(at as u16)));
        let masks = rows.masks.iter().enumerate().map(mask).collect::<Result<Vec<ColumnMask>>>()?;
        let images = match (&rows.old, &old) {
            (Some(images), Some(slots)) => {
                Some(OldImages { rows: images.rows.clone(), images: self.out_old(slots, images.images.num_rows())? })
            }
            _ => None,
        };
        let out = ChangeBatch {
            table: Arc::clone(&self.target),
            rows: self.out(&slots, rows.len())?,
            old: images,
            masks,
            ops: rows.ops.clone(),
            mask_of: rows.mask_of.clone(),
        };
        let Some(filter) = &self.filter else { return Ok(Mapped { rows: out, counts: TableCounts::default() }) };
        let verdicts = filter.judge(&rows)?;
        let gone = old.as_ref().map(|slots| self.out(slots, slots.first().map_or(0, |s| s.len()))).transpose()?;
        verdicts.apply(out, gone.as_ref())
    }

    fn column(&self, source: usize) -> Option<usize> {
        self.places.get(source).copied().flatten()
    }

    fn made_of(&self, target: usize) -> Vec<usize> {
        self.outs.get(target).map(|out| out.from.clone()).unwrap_or_default()
    }

    fn is_certain(&self) -> bool {
        self.filter.as_ref().is_none_or(Filter::is_certain)
    }
}
