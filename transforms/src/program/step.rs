//! Columns that are made on the way.

use std::collections::BTreeSet;

use arrow_array::{ArrayRef, new_null_array};
use sha2::{Digest, Sha256};
use trem_engine::schema::Type;
use trem_engine::{Error, Result};

use super::hidden::without_value;
use crate::conversion::Conversion;
use crate::expression::Expression;
use crate::mask::Mask;

/// Values are in slots: those of the source's columns first, then what is known of the change, then one for each step.
pub(super) type Slots = Vec<ArrayRef>;

/// How a column is made of others.
#[derive(Clone, Debug)]
pub(crate) enum Make {
    /// Of those that the expression was compiled for.
    Compute(Expression),
    /// Of one.
    Mask(Mask),
    /// Of one.
    Convert(Conversion),
    /// Of none: NULL.
    Nothing,
}

/// A column that is made.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    make: Make,
    /// The slots of what it is made of.
    slots: Vec<usize>,
    ty: Type,
    /// The columns of the source that it is made of.
    from: BTreeSet<usize>,
    /// Some of those do not get to the target as they are: an error must not show their values.
    hidden: bool,
}

impl Step {
    /// Makes a column of this type.
    ///
    /// # Errors
    /// Class `Refused` if no value of an expression could be one of the type.
    pub(crate) fn new(make: Make, slots: Vec<usize>, ty: Type, from: BTreeSet<usize>) -> Result<Self> {
        if let Make::Compute(expression) = &make {
            expression.becomes(&ty)?;
        }
        Ok(Self { make, slots, ty, from, hidden: false })
    }

    /// Only these columns of the source may be shown.
    pub(crate) fn hide_all_but(&mut self, shown: &BTreeSet<usize>) {
        self.hidden = !self.from.is_subset(shown);
    }

    /// Tells the step apart from others.
    pub(crate) fn mark(&self, hash: &mut Sha256) {
        match &self.make {
            Make::Compute(expression) => hash.update(expression.formula().text()),
            Make::Mask(mask) => hash.update(mask.mark()),
            Make::Convert(conversion) => hash.update(format!("{conversion:?}")),
            Make::Nothing => {}
        }
    }

    /// Whether it is made of what is in this slot.
    pub(super) fn reads(&self, slot: usize) -> bool {
        match &self.make {
            Make::Compute(expression) => expression.inputs().any(|input| self.slots[input] == slot),
            Make::Mask(_) | Make::Convert(_) | Make::Nothing => self.slots.contains(&slot),
        }
    }

    /// Whether what it is made of is not known of a row. `unknown`: whether a column of the source is not.
    pub(super) fn is_unknown(&self, row: usize, unknown: &dyn Fn(usize, usize) -> bool) -> bool {
        self.from.iter().any(|column| unknown(row, *column))
    }

    /// The values, and how many of them are others because they did not fit. `unknown`: whether what it is made of is
    /// not known of a row, which is not computed then.
    pub(super) fn run(&self, slots: &Slots, rows: usize, unknown: &dyn Fn(usize) -> bool) -> Result<(ArrayRef, u64)> {
        let whole = self.made(slots, rows);
        let Err(error) = whole else { return whole };
        if rows == 1 {
            return match unknown(0) {
                true => Ok((new_null_array(&self.ty.arrow(), 1), 0)),
                false => Err(self.error(error)),
            };
        }
        // A row that is not known in full may be what fails.
        if !(0..rows).any(unknown) {
            return Err(self.error(error));
        }
        let one = |row: usize| {
            let slice: Slots = slots.iter().map(|values| values.slice(row, 1)).collect();
            self.run(&slice, 1, &|_| unknown(row))
        };
        let each = (0..rows).map(one).collect::<Result<Vec<(ArrayRef, u64)>>>()?;
        let misfits = each.iter().map(|(_, count)| count).sum();
        let each: Vec<&dyn arrow_array::Array> = each.iter().map(|(values, _)| values.as_ref()).collect();
        let values = arrow_select::concat::concat(&each);
        Ok((values.map_err(|e| Error::fatal("internal: values of a rule").cause(e))?, misfits))
    }

    fn made(&self, slots: &Slots, rows: usize) -> Result<(ArrayRef, u64)> {
        match &self.make {
            Make::Compute(expression) => {
                let columns: Vec<ArrayRef> = self.slots.iter().map(|slot| slots[*slot].clone()).collect();
                Ok((expression.values(&columns, rows, &self.ty)?, 0))
            }
            Make::Mask(mask) => Ok((mask.values(&slots[self.slots[0]])?, 0)),
            Make::Convert(conversion) => conversion.values(&slots[self.slots[0]]),
            Make::Nothing => Ok((new_null_array(&self.ty.arrow(), rows), 0)),
        }
    }

    fn error(&self, error: Error) -> Error {
        let formula = match &self.make {
            Make::Compute(expression) => Some(expression.formula()),
            Make::Mask(_) | Make::Convert(_) | Make::Nothing => None,
        };
        if self.hidden { without_value(error, formula) } else { error }
    }
}
