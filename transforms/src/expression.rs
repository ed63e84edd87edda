//! SQL expressions over the columns of a table: planned and type-checked once for each shape of it, evaluated on whole
//! batches.

mod condition;
mod functions;
mod input;
mod narrowing;
mod plan;
mod values;

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::DataType;
use trem_engine::condition::Condition;
use trem_engine::schema::Type;
use trem_engine::{Class, Error, Result};

use crate::formula::Formula;
pub(crate) use input::Input;
use plan::Planned;
pub(crate) use values::{convert, converts, text};

/// Fails unless this is an expression, as far as can be told without a table.
///
/// # Errors
/// Class `Refused`, with what is wrong and where in the text.
pub fn check_expression(formula: &Formula) -> Result<()> {
    plan::check(formula.text()).map_err(|e| formula.error(e))
}

/// A compiled expression.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    formula: Formula,
    planned: Planned,
}

impl Expression {
    /// Plans it over these columns.
    ///
    /// # Errors
    /// Class `Refused`, with what is wrong and where in the text.
    pub(crate) fn new(formula: &Formula, columns: &[Input<'_>]) -> Result<Self> {
        let planned = plan::compile(formula.text(), columns).map_err(|e| formula.error(e))?;
        Ok(Self { formula: formula.clone(), planned })
    }

    /// As it was written.
    pub(crate) fn formula(&self) -> &Formula {
        &self.formula
    }

    /// What comes out.
    pub(crate) fn ty(&self) -> &DataType {
        &self.planned.ty
    }

    /// Whether it is a condition.
    pub(crate) fn is_bool(&self) -> bool {
        matches!(self.planned.ty, DataType::Boolean | DataType::Null)
    }

    /// A condition that is true of every row of which it is; `None` where there is none that others understand.
    pub(crate) fn condition(&self) -> Option<&Condition> {
        self.planned.condition.as_ref().filter(|_| self.is_bool())
    }

    /// Fails unless a column of this type may hold what comes out.
    pub(crate) fn becomes(&self, ty: &Type) -> Result<()> {
        if values::may_hold(&self.planned.ty, ty) {
            return Ok(());
        }
        let what = format!("it gives {}, which a column of type {ty} cannot hold", self.planned.ty);
        Err(self.formula.error(Error::refused(what).remedy("convert it in the expression: CAST(... AS ...)")))
    }

    /// The columns it reads, by their places among those it was compiled for.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = usize> + '_ {
        self.planned.inputs.iter().map(|(at, _)| *at)
    }

    /// Its value for each of `rows` rows, as a column of type `ty` holds it. See [`Expression::evaluate`].
    pub(crate) fn values(&self, columns: &[ArrayRef], rows: usize, ty: &Type) -> Result<ArrayRef> {
        let value = self.evaluate(columns, rows)?;
        values::hold(&value, ty).map_err(|e| self.formula.error(e))
    }

    /// Its value for each of `rows` rows of all the columns that it was compiled for.
    ///
    /// # Errors
    /// Class `Table`: what one of the rows cannot be done with.
    pub(crate) fn evaluate(&self, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let typed = self.planned.inputs.iter().map(|(at, ty)| values::typed(&columns[*at], ty));
        let typed = typed.collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.planned.schema), typed, &options)
            .map_err(|e| Error::fatal("internal: columns of an expression").cause(e))?;
        let value = self.planned.compiled.evaluate(&batch).and_then(|value| value.into_array(rows));
        value.map_err(|e| self.formula.error(Error::new(Class::Table, plan::said(&e))))
    }
}

#[cfg(test)]
mod tests;
