//! Row images of the log into a table's builder.

use bytes::Bytes;
use trem_engine::change::{BatchBuilder, ColumnBuilder, ColumnMask};
use trem_engine::schema::{Column, Identity, TableSchema};
use trem_engine::{Class, Error, Result};

use super::followed::FollowedTable;
use super::overlap::{self, RowKey};
use crate::postgres::decode::{push_binary, push_text};
use crate::postgres::types::Wire;
use crate::postgres::wire::pgoutput::{Field, OldTuple, Tuple};

fn push(
    builder: &mut ColumnBuilder,
    column: &Column,
    wire: Wire,
    field: Field<'_>,
    whole: &Bytes,
    scratch: &mut Vec<u8>,
) -> Result<()> {
    let pushed = match field {
        Field::Null | Field::Unchanged => {
            builder.push_null();
            Ok(())
        }
        Field::Text(value) => push_text(builder, &column.ty, value, whole, scratch),
        Field::Binary(_) if wire == Wire::TextOnly => {
            Err(Error::fatal(format!("the server sent type {} in its binary form", column.native.name)))
        }
        Field::Binary(value) => push_binary(builder, wire, value, whole, scratch),
    };
    pushed.map_err(|e| e.context(format!("column {}", column.name)))
}

fn same_length(table: &FollowedTable, tuple: Tuple<'_>) -> Result<()> {
    if tuple.len() == table.schema.columns.len() {
        return Ok(());
    }
    let message =
        format!("the log has a row of {} columns where {} are known", tuple.len(), table.schema.columns.len());
    Err(Error::fatal(message))
}

/// A value that a new image leaves out, from the old one.
///
/// What is left out is a large value, so it was not NULL: an old image that has NULL there is one of the key alone. A
/// partition with another identity than its partitioned table logs such, and they come marked as whole.
fn known<'a>(old: OldTuple<'a>, index: usize) -> Option<Field<'a>> {
    let field = old.tuple().fields().nth(index);
    field.filter(|f| matches!(f, Field::Text(_) | Field::Binary(_)))
}

/// Whether the log has every value of the row, in the new image or the old one.
pub(super) fn is_whole(tuple: Tuple<'_>, old: Option<OldTuple<'_>>) -> bool {
    let has = |(index, field)| field != Field::Unchanged || old.is_some_and(|o| known(o, index).is_some());
    tuple.fields().enumerate().all(has)
}

/// Whether an update or a delete says enough of its row: all of it where no key tells rows apart, else the key.
pub(super) fn identifies(schema: &TableSchema, old: Option<OldTuple<'_>>) -> bool {
    match (schema.identity, old) {
        (Identity::Full, old) => matches!(old, Some(OldTuple::Full(_))),
        (_, Some(old)) => {
            let mut fields = old.tuple().fields().enumerate();
            // No column of a key is NULL.
            fields.all(|(index, field)| field != Field::Null || !schema.key.contains(&index))
        }
        (_, None) => true,
    }
}

/// Appends a new image. Values that it lacks come from the old one as far as that has them; the others are returned.
pub(super) fn push_new(
    table: &FollowedTable,
    batch: &mut BatchBuilder,
    new: Tuple<'_>,
    old: Option<OldTuple<'_>>,
    whole: &Bytes,
    scratch: &mut Vec<u8>,
) -> Result<ColumnMask> {
    same_length(table, new)?;
    let mut unknown = ColumnMask::default();
    let schema = &table.schema;
    let columns = schema.columns.iter().zip(&table.wires).zip(batch.columns());
    for (index, (((column, wire), builder), mut field)) in columns.zip(new.fields()).enumerate() {
        if field == Field::Unchanged {
            match old.and_then(|o| known(o, index)) {
                Some(value) => field = value,
                None => unknown.insert(index),
            }
        }
        push(builder, column, *wire, field, whole, scratch)?;
    }
    Ok(unknown)
}

/// Appends an old image. Of what it has beside the key only a whole one is to be believed.
pub(super) fn push_old(
    table: &FollowedTable,
    batch: &mut BatchBuilder,
    old: OldTuple<'_>,
    whole: &Bytes,
    scratch: &mut Vec<u8>,
) -> Result<()> {
    same_length(table, old.tuple())?;
    let schema = &table.schema;
    let (builders, indices) = batch.old_columns();
    let fields: Vec<_> = old.tuple().fields().collect();
    for (builder, index) in builders.iter_mut().zip(indices) {
        let known = matches!(old, OldTuple::Full(_)) || schema.key.contains(index);
        let field = if known { fields[*index] } else { Field::Null };
        if field == Field::Unchanged {
            return Err(Error::new(Class::Table, "the log has an old row with a value left out"));
        }
        push(builder, &schema.columns[*index], table.wires[*index], field, whole, scratch)?;
    }
    Ok(())
}

/// Appends what identified a deleted row; the other columns are returned.
pub(super) fn push_deleted(
    table: &FollowedTable,
    batch: &mut BatchBuilder,
    old: OldTuple<'_>,
    whole: &Bytes,
    scratch: &mut Vec<u8>,
) -> Result<ColumnMask> {
    let tuple = old.tuple();
    same_length(table, tuple)?;
    let mut unknown = ColumnMask::default();
    let all = matches!(old, OldTuple::Full(_));
    let schema = &table.schema;
    let columns = schema.columns.iter().zip(&table.wires).zip(batch.columns());
    for (index, (((column, wire), builder), field)) in columns.zip(tuple.fields()).enumerate() {
        if all || schema.key.contains(&index) {
            push(builder, column, *wire, field, whole, scratch)?;
        } else {
            unknown.insert(index);
            builder.push_null();
        }
    }
    Ok(unknown)
}

/// The key's fields, those that a new image lacks from the old one.
pub(super) fn key_fields<'a>(
    table: &FollowedTable,
    tuple: Tuple<'a>,
    old: Option<Tuple<'a>>,
) -> Result<Vec<Field<'a>>> {
    same_length(table, tuple)?;
    let fields: Vec<_> = tuple.fields().collect();
    let of = |index: &usize| match fields[*index] {
        Field::Unchanged => old.and_then(|o| o.fields().nth(*index)).unwrap_or(Field::Unchanged),
        field => field,
    };
    Ok(table.schema.key.iter().map(of).collect())
}

/// A key as SQL literals.
pub(super) fn key_literals(table: &FollowedTable, tuple: Tuple<'_>, old: Option<Tuple<'_>>) -> Result<Vec<String>> {
    let fields = key_fields(table, tuple, old)?;
    let literals =
        table.schema.key.iter().zip(fields).map(|(index, field)| overlap::literal(table.wires[*index], field));
    literals.collect()
}

/// A key as one string of bytes.
pub(super) fn raw(fields: &[Field<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        if let Field::Text(value) | Field::Binary(value) = field {
            out.extend_from_slice(&(value.len() as u64).to_be_bytes());
            out.extend_from_slice(value);
        }
    }
    out
}

/// The key of a row, as the filter of loaded rows needs it; values that a tuple does not have come from `fallback`.
pub(super) fn row_key(table: &FollowedTable, tuple: Tuple<'_>, fallback: Option<Tuple<'_>>) -> Result<RowKey> {
    let schema = &table.schema;
    if matches!(schema.identity, Identity::Full | Identity::InsertOnly) {
        // Such a table is loaded at one snapshot only.
        return Ok(RowKey { first: None, whole: Vec::new() });
    }
    let fields = key_fields(table, tuple, fallback)?;
    let first = match (fields.first(), schema.key.first()) {
        (Some(field), Some(&column)) => overlap::bound(&schema.columns[column].ty, table.wires[column], *field)?,
        _ => None,
    };
    Ok(RowKey { first, whole: raw(&fields) })
}
