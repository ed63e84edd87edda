//! A filter is a view of the table: a row that leaves it is deleted on the target, one that enters it is put in.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_select::interleave::interleave;
use trem_engine::change::{ChangeBatch, OldImages, Op, TableCounts};
use trem_engine::condition::Condition;
use trem_engine::route::Mapped;
use trem_engine::schema::TableSchema;
use trem_engine::{Class, Error, Result};

use super::hidden::without_value;
use super::rows::{batch, widened};
use crate::expression::Expression;
use crate::formula::Formula;

/// The rows that are let through: those for which an expression over the source's columns is true.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    expression: Expression,
    table: Arc<TableSchema>,
    /// An old image, where there is one, says whether the row was let through.
    by_old: bool,
    /// The key alone says it.
    by_key: bool,
    /// It reads what does not get to the target: an error must not show its values.
    hidden: bool,
}

/// What becomes of each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// As it is.
    Pass,
    /// It was not let through before: it comes whole.
    Enter,
    /// It is let through no more: a delete of what it was before.
    Leave,
    /// Neither before nor now.
    Keep,
}

/// Whether each row is let through.
struct Views {
    now: BooleanArray,
    /// Of each old image, where that tells.
    old: Option<BooleanArray>,
    by_key: bool,
}

impl Views {
    /// Whether a row that is updated was let through before; `None` if the log does not tell.
    fn before(&self, rows: &ChangeBatch, row: usize) -> Option<bool> {
        match (rows.old_row(row), &self.old) {
            (Some(image), Some(old)) => Some(old.value(image)),
            (None, _) if self.by_key => Some(self.now.value(row)),
            _ => None,
        }
    }
}

/// Of every row of a batch.
pub(super) struct Verdicts(Vec<Verdict>);

impl Filter {
    /// Of the columns of this table.
    pub(crate) fn new(expression: Expression, table: &Arc<TableSchema>) -> Self {
        let old = table.old_columns();
        let by_old = expression.inputs().all(|at| old.contains(&at));
        let by_key = expression.inputs().all(|at| table.key.contains(&at));
        Self { expression, table: Arc::clone(table), by_old, by_key, hidden: false }
    }

    /// Only these columns of the source may be shown.
    pub(crate) fn hide_all_but(&mut self, shown: &BTreeSet<usize>) {
        self.hidden = !self.expression.inputs().all(|at| shown.contains(&at));
    }

    pub(crate) fn formula(&self) -> &Formula {
        self.expression.formula()
    }

    /// What is true of every row that is let through, in words that others understand.
    pub(crate) fn condition(&self) -> Option<&Condition> {
        self.expression.condition()
    }

    /// Whether the log says of every row if it was let through before.
    pub(crate) fn is_certain(&self) -> bool {
        self.by_old
    }

    pub(super) fn judge(&self, rows: &ChangeBatch) -> Result<Verdicts> {
        let views = self.views(rows)?;
        let one = |row: usize| {
            let now = views.now.value(row);
            Ok(match rows.ops[row] {
                Op::Insert if now => Verdict::Pass,
                Op::Insert => Verdict::Keep,
                // The image is what it was.
                Op::Delete if self.by_old && !now => Verdict::Keep,
                Op::Delete => Verdict::Pass,
                Op::Update if self.expression.inputs().any(|at| rows.mask(row).contains(at)) => {
                    return Err(self.left_out());
                }
                Op::Update => match (views.before(rows, row), now) {
                    (Some(false), false) => Verdict::Keep,
                    (Some(false) | None, true) if !rows.mask(row).is_empty() => return Err(self.left_out()),
                    (Some(false), true) => Verdict::Enter,
                    (Some(true) | None, true) => Verdict::Pass,
                    (Some(true) | None, false) => Verdict::Leave,
                },
            })
        };
        (0..rows.len()).map(one).collect::<Result<_>>().map(Verdicts)
    }

    /// The rows that may come to be let through, and of which the log has left something out.
    pub(super) fn incomplete(&self, rows: &ChangeBatch) -> Result<Vec<usize>> {
        let views = self.views(rows)?;
        let may_enter = |row: &usize| {
            rows.ops[*row] == Op::Update
                && !rows.mask(*row).is_empty()
                && views.now.value(*row)
                && views.before(rows, *row) != Some(true)
        };
        Ok((0..rows.len()).filter(may_enter).collect())
    }

    fn views(&self, rows: &ChangeBatch) -> Result<Views> {
        let old = match &rows.old {
            Some(old) if self.by_old => Some(self.passes_old(old)?),
            _ => None,
        };
        Ok(Views { now: self.passes(rows.rows.columns(), rows.len())?, old, by_key: self.by_key })
    }

    fn left_out(&self) -> Error {
        let what = "the log has left out a value that the filter needs, or that a row needs which comes to pass it";
        Error::new(Class::Table, what).remedy(format!("have the source log whole rows of {}", self.table.id))
    }

    /// Whether each row is let through: what is neither true nor false is not.
    fn passes(&self, columns: &[ArrayRef], rows: usize) -> Result<BooleanArray> {
        let value = self.expression.evaluate(columns, rows).map_err(|error| match self.hidden {
            true => without_value(error, Some(self.formula())),
            false => error,
        })?;
        let value = value.as_boolean_opt().ok_or_else(|| Error::fatal("internal: a filter that is no condition"))?;
        Ok(value.iter().map(|v| Some(v == Some(true))).collect())
    }

    fn passes_old(&self, old: &OldImages) -> Result<BooleanArray> {
        self.passes(&widened(old, &self.table), old.images.num_rows())
    }
}

impl Verdicts {
    /// The rows that are left, as the source has them: what is not let through is not looked at by any rule.
    pub(super) fn apply(self, rows: ChangeBatch) -> Result<Mapped> {
        let Self(verdicts) = self;
        let kept: Vec<usize> = (0..rows.len()).filter(|row| verdicts[*row] != Verdict::Keep).collect();
        let filtered = (rows.len() - kept.len()) as u64;
        let counts = TableCounts { filtered, ..TableCounts::default() };
        let changed = |v: &Verdict| matches!(v, Verdict::Keep | Verdict::Enter | Verdict::Leave);
        if !verdicts.iter().any(changed) {
            return Ok(Mapped { counts, ..Mapped::all(rows) });
        }
        // Where each row's image is: among the new ones, or, for the end of a row that had another key, the old ones.
        let place = |row: &usize| match (verdicts[*row], rows.old_row(*row)) {
            (Verdict::Leave, Some(old)) => (1, old),
            _ => (0, *row),
        };
        let places: Vec<(usize, usize)> = kept.iter().map(place).collect();
        let old = match &rows.old {
            Some(old) => widened(old, &rows.table),
            None => RecordBatch::new_empty(rows.rows.schema()).columns().to_vec(),
        };
        let column = |at: usize| {
            let both: [&dyn Array; 2] = [rows.rows.column(at).as_ref(), old[at].as_ref()];
            interleave(&both, &places).map_err(|e| Error::fatal("internal: filtered rows").cause(e))
        };
        let columns = (0..rows.rows.num_columns()).map(column).collect::<Result<Vec<ArrayRef>>>()?;
        let op = |row: &usize| match verdicts[*row] {
            Verdict::Enter => Op::Insert,
            Verdict::Leave => Op::Delete,
            Verdict::Pass | Verdict::Keep => rows.ops[*row],
        };
        let images = rows.old.as_ref().map(|images| left(images, &kept, &verdicts)).transpose()?.flatten();
        let mask_of = match rows.mask_of.is_empty() {
            true => Vec::new(),
            false => kept.iter().map(|row| if op(row) == rows.ops[*row] { rows.mask_of[*row] } else { 0 }).collect(),
        };
        let out = ChangeBatch {
            rows: batch(rows.rows.schema(), columns, kept.len())?,
            ops: kept.iter().map(op).collect(),
            commits: rows.commits.of_rows(kept.iter().copied()),
            old: images,
            mask_of,
            table: rows.table,
            masks: rows.masks,
        };
        Ok(Mapped { counts, ..Mapped::all(out) })
    }
}

/// Old images of the rows that are still updates.
fn left(old: &OldImages, kept: &[usize], verdicts: &[Verdict]) -> Result<Option<OldImages>> {
    let (mut rows, mut places) = (Vec::new(), Vec::new());
    for (place, row) in kept.iter().enumerate() {
        if verdicts[*row] == Verdict::Pass
            && let Ok(image) = old.rows.binary_search(&(*row as u32))
        {
            rows.push(place as u32);
            places.push(image as u32);
        }
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let places = arrow_array::UInt32Array::from(places);
    let images = arrow_select::take::take_record_batch(&old.images, &places);
    Ok(Some(OldImages { rows, images: images.map_err(|e| Error::fatal("internal: old images").cause(e))? }))
}
