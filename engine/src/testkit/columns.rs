//! Tables as the memory target has them: columns of the dialect that it speaks, and values as those hold them.

use std::sync::Arc;

use arrow_array::RecordBatch;

use super::convert;
use super::dialects::{RIGHT, to_right};
use super::model::{Key, Row, Value};
use crate::change::{ChangeBatch, Mark};
use crate::error::{Error, Result};
use crate::ports::{Finding, Severity};
use crate::schema::{AddedColumns, Column, TableSchema, Type};
use crate::types::{Counterpart, Verdict};

/// Name and type of each column.
pub(super) type Columns = Vec<(String, String)>;

fn counterpart(column: &Column) -> Option<Counterpart> {
    if column.native.dialect == RIGHT.dialect() {
        return Some(Counterpart { name: column.native.name.clone(), verdict: Verdict::Exact });
    }
    to_right(&column.ty)
}

/// The columns of a table.
///
/// # Errors
/// Class `Refused` for a table with a column that nothing here holds.
pub(super) fn of(table: &TableSchema) -> Result<Columns> {
    if let Some(Finding { subject, message, remedy, .. }) = without_form(table).into_iter().next() {
        let error = Error::refused(format!("{subject}: {message}")).target_table(&table.id);
        return Err(error.remedy(remedy.expect("there is always one")));
    }
    let name = |c: &Column| (c.name.clone(), counterpart(c).expect("a form").name);
    Ok(table.columns.iter().map(name).collect())
}

/// Columns that nothing here holds without a loss.
pub(super) fn without_form(table: &TableSchema) -> Vec<Finding> {
    let one = |column: &Column| {
        let native = &column.native;
        let message = match counterpart(column) {
            None => format!("nothing holds values of type {} ({})", native.name, native.dialect),
            Some(Counterpart { verdict: Verdict::Lossy(why), name }) => {
                format!("type {name} would not hold all of {} ({}): {why}", native.name, native.dialect)
            }
            Some(_) => return None,
        };
        let remedy = Some("exclude the table, or change the column's type at the source".into());
        Some(Finding { severity: Severity::Error, subject: format!("{}.{}", table.id, column.name), message, remedy })
    };
    table.columns.iter().filter_map(one).collect()
}

/// A value as the type of `right` holds it that stands for this one.
pub fn held_by_right(ty: &Type, value: Value) -> Value {
    match (ty, value) {
        (Type::UInt64, Value::Unsigned(n)) => Value::Text(n.to_string()),
        (Type::Uuid, Value::Bytes(bytes)) => Value::Text(bytes.iter().map(|b| format!("{b:02x}")).collect()),
        (_, value) => value,
    }
}

/// What [`held_by_right`] was given.
pub fn read_from_right(ty: &Type, value: Value) -> Value {
    match (ty, value) {
        (Type::UInt64, Value::Text(digits)) => Value::Unsigned(digits.parse().unwrap()),
        (Type::Uuid, Value::Text(hex)) => {
            Value::Bytes((0..16).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect())
        }
        (_, value) => value,
    }
}

fn held(column: &Column, value: Option<Value>) -> Option<Value> {
    if column.native.dialect == RIGHT.dialect() { value } else { value.map(|v| held_by_right(&column.ty, v)) }
}

/// One row of a batch, as it is held.
pub(super) fn row(batch: &ChangeBatch, at: usize) -> Row {
    let values = convert::row(&batch.rows, at).into_iter();
    batch.table.columns.iter().zip(values).map(|(column, value)| held(column, value)).collect()
}

/// The key of an old image, as it is held.
pub(super) fn old_key(batch: &ChangeBatch, at: usize) -> Key {
    let (table, images) = (&batch.table, &batch.old.as_ref().unwrap().images);
    let columns = table.old_columns();
    let place = |k: &usize| columns.iter().position(|c| c == k).unwrap();
    table.key.iter().map(|k| held(&table.columns[*k], convert::value(images, place(k), at))).collect()
}

/// What rows that are there have in columns that are added.
pub(super) fn existing(added: &AddedColumns) -> Row {
    let AddedColumns { before, next, existing } = added;
    let new = next.columns.iter().skip(before.columns.len());
    new.enumerate().map(|(at, column)| held(column, convert::value(existing, at, 0))).collect()
}

/// The value of a mark.
pub(super) fn mark(mark: &Mark) -> Option<Value> {
    let one = RecordBatch::try_from_iter([("mark", Arc::clone(&mark.value))]).unwrap();
    held(&mark.table.columns[mark.column], convert::value(&one, 0, 0))
}
