//! Between rows of the model and Arrow batches.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;

use super::model::{Row, Value};
use crate::change::ColumnBuilder;

/// Appends one value.
pub(super) fn push(builder: &mut ColumnBuilder, value: Option<&Value>) {
    match value {
        None => builder.push_null(),
        Some(Value::Int(v)) => builder.push_i64(*v).unwrap(),
        Some(Value::Text(v)) => builder.push_slice(v.as_bytes()).unwrap(),
    }
}

/// Reads one row of a batch.
pub(super) fn row(batch: &RecordBatch, at: usize) -> Row {
    (0..batch.num_columns()).map(|c| value(batch, c, at)).collect()
}

/// Reads one value of a batch.
pub(super) fn value(batch: &RecordBatch, column: usize, at: usize) -> Option<Value> {
    let array = batch.column(column);
    if array.is_null(at) {
        return None;
    }
    Some(match array.as_primitive_opt::<Int64Type>() {
        Some(ints) => Value::Int(ints.value(at)),
        None => Value::Text(array.as_string::<i32>().value(at).to_owned()),
    })
}
