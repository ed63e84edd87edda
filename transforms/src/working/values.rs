//! Columns whose values are computed, masked or converted.

use std::collections::BTreeSet;

use trem_engine::schema::{Column, Type};
use trem_engine::{Error, Result};

use super::{Work, Working};
use crate::columns::Columns;
use crate::conversion::{Conversion, OnMisfit, To, made};
use crate::expression::{Expression, Input};
use crate::formula::Formula;
use crate::mask::{Mask, Masking};
use crate::metadata::Metadata;
use crate::program::{Make, Step};

/// What has been computed.
struct Computation {
    slot: usize,
    /// The columns of the source that it is made of.
    from: BTreeSet<usize>,
    /// It is made of what is different for each change.
    of_change: bool,
    /// It is made of the table's name, and of nothing that differs between its rows.
    of_name: bool,
}

impl Working<'_> {
    /// Its inputs are the columns, then all [`Metadata`].
    pub(super) fn expression(&self, formula: &Formula) -> Result<Expression> {
        let types = Metadata::ALL.map(Metadata::ty);
        let columns = self.columns.iter().map(|c| Input { name: &c.column.name, ty: &c.column.ty, called: false });
        let metadata = Metadata::ALL.iter().zip(&types).map(|(m, ty)| Input { name: m.name(), ty, called: true });
        Expression::new(formula, &columns.chain(metadata).collect::<Vec<Input<'_>>>())
    }

    /// The slot of the next step.
    fn next_slot(&self) -> usize {
        self.table.columns.len() + Metadata::ALL.len() + self.steps.len()
    }

    /// Has something made of these columns; the slot.
    fn make(&mut self, make: Make, slots: Vec<usize>, ty: Type, from: BTreeSet<usize>) -> Result<usize> {
        let slot = self.next_slot();
        self.steps.push(Step::new(make, slots, ty, from)?);
        Ok(slot)
    }

    /// Has an expression computed.
    fn compute(&mut self, formula: &Formula, ty: &Type) -> Result<Computation> {
        let expression = self.expression(formula)?;
        let (mut from, mut of_change, mut of_name) = (BTreeSet::new(), false, false);
        for at in expression.inputs() {
            match self.columns.get(at) {
                Some(work) => {
                    from.extend(&work.from);
                    of_change |= work.of_change;
                    of_name |= work.of_name;
                }
                None => {
                    let metadata = Metadata::ALL[at - self.columns.len()];
                    of_change |= !metadata.is_constant();
                    of_name |= metadata.is_name();
                }
            }
        }
        of_name &= from.is_empty() && !of_change;
        let metadata = self.table.columns.len()..self.table.columns.len() + Metadata::ALL.len();
        let slots = self.columns.iter().map(|c| c.slot).chain(metadata).collect();
        let slot = self.make(Make::Compute(expression), slots, ty.clone(), from.clone())?;
        Ok(Computation { slot, from, of_change, of_name })
    }

    fn omissible(&self, from: &BTreeSet<usize>) -> bool {
        from.iter().any(|at| self.table.columns[*at].omissible)
    }

    fn covered(&self, columns: &Columns) -> Vec<usize> {
        (0..self.columns.len()).filter(|at| columns.cover(&self.columns[*at].column)).collect()
    }

    /// Puts other values into columns; whether there are such.
    pub(crate) fn set(&mut self, columns: &Columns, value: &Formula) -> Result<bool> {
        let covered = self.covered(columns);
        // All see the columns as they were before.
        let made = covered.iter().map(|at| self.compute(value, &self.columns[*at].column.ty.clone()));
        let made = made.collect::<Result<Vec<_>>>()?;
        for (at, made) in covered.iter().zip(made) {
            let (omissible, key) = (self.omissible(&made.from), self.is_key(*at));
            let work = &mut self.columns[*at];
            (work.slot, work.from, work.column.omissible) = (made.slot, made.from, omissible);
            (work.of_change, work.of_name) = (made.of_change, made.of_name);
            (work.replaced, work.conversions) = (true, Vec::new());
            // An expression may give NULL where the source has none.
            work.column.nullable |= !key;
        }
        Ok(!covered.is_empty())
    }

    /// Masks columns; whether there are such.
    pub(crate) fn mask(&mut self, columns: &Columns, masking: &Masking) -> Result<bool> {
        let covered = self.covered(columns);
        for at in &covered {
            let (key, work) = (self.is_key(*at), &self.columns[*at]);
            let mask = Mask::new(masking, &work.column.ty, key).map_err(|e| e.context(&work.column.name))?;
            let (slots, ty, from) = (vec![work.slot], work.column.ty.clone(), work.from.clone());
            let slot = self.make(Make::Mask(mask), slots, ty, from)?;
            let work = &mut self.columns[*at];
            (work.slot, work.replaced, work.conversions) = (slot, true, Vec::new());
            work.column.nullable |= matches!(masking, Masking::Null);
        }
        Ok(!covered.is_empty())
    }

    /// Gives columns another type; whether there are such.
    pub(crate) fn change_type(&mut self, columns: &Columns, to: &To, on_misfit: OnMisfit) -> Result<bool> {
        let covered = self.covered(columns);
        for at in &covered {
            let (key, work) = (self.is_key(*at), &self.columns[*at]);
            if key && on_misfit != OnMisfit::Error {
                let what = format!("column {:?} is part of the key: two rows might get one key", work.column.name);
                return Err(Error::refused(what).remedy("leave `on-misfit` out for it"));
            }
            let (ty, native) = (to.ty(), to.native());
            let conversion =
                Conversion::new(&work.column.ty, &ty, on_misfit).map_err(|e| e.context(&work.column.name))?;
            if let Some(what) = conversion.loses() {
                self.losses.push(format!("{} loses {what}", work.column.name));
            }
            let (slots, from) = (vec![work.slot], work.from.clone());
            let slot = self.make(Make::Convert(conversion), slots, ty.clone(), from)?;
            let step = self.steps.len() - 1;
            let work = &mut self.columns[*at];
            (work.slot, work.column.ty, work.column.native) = (slot, ty, native);
            work.conversions.push(step);
            work.column.nullable |= on_misfit == OnMisfit::Null;
        }
        Ok(!covered.is_empty())
    }

    /// Adds a column.
    pub(crate) fn create(&mut self, name: &str, ty: &Type, value: &Formula) -> Result<()> {
        self.is_free(name)?;
        let Computation { slot, from, of_change, of_name } = self.compute(value, ty)?;
        let omissible = self.omissible(&from);
        let column = Column { name: name.to_owned(), ty: ty.clone(), native: made(ty), nullable: true, omissible };
        let (source, replaced, conversions) = (None, true, Vec::new());
        self.columns.push(Work { column, slot, from, of_change, of_name, source, replaced, conversions });
        Ok(())
    }

    /// Adds a column that is NULL until something else is put in.
    pub(super) fn create_empty(&mut self, name: &str, ty: &Type) -> Result<()> {
        self.is_free(name)?;
        let slot = self.make(Make::Nothing, Vec::new(), ty.clone(), BTreeSet::new())?;
        let (native, from) = (made(ty), BTreeSet::new());
        let column = Column { name: name.to_owned(), ty: ty.clone(), native, nullable: true, omissible: false };
        let (source, replaced, conversions) = (None, true, Vec::new());
        let (of_change, of_name) = (true, false);
        self.columns.push(Work { column, slot, from, of_change, of_name, source, replaced, conversions });
        Ok(())
    }

    fn is_free(&self, name: &str) -> Result<()> {
        if name.is_empty() {
            return Err(Error::refused("a name must not be empty").remedy("give it a name"));
        }
        if self.names().any(|known| known == name) {
            let what = format!("there is a column {name:?} already");
            return Err(Error::refused(what).remedy("choose another name, or use set-value"));
        }
        Ok(())
    }
}
