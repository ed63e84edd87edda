//! Between rows of the model and Arrow batches.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, DurationMicrosecondType, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;

use super::model::{Row, Value};
use crate::change::ColumnBuilder;

/// Appends one value.
pub(super) fn push(builder: &mut ColumnBuilder, value: Option<&Value>) {
    match (value, &builder) {
        (None, _) => builder.push_null(),
        (Some(Value::Int(v)), ColumnBuilder::Bool(..)) => builder.push_bool(*v != 0).unwrap(),
        (Some(Value::Int(v)), ColumnBuilder::I16(..)) => builder.push_i16((*v).try_into().unwrap()).unwrap(),
        (Some(Value::Int(v)), ColumnBuilder::I32(..)) => builder.push_i32((*v).try_into().unwrap()).unwrap(),
        (Some(Value::Int(v)), _) => builder.push_i64(*v).unwrap(),
        (Some(Value::Unsigned(v)), _) => builder.push_u64(*v).unwrap(),
        (Some(Value::Float(v)), ColumnBuilder::F32(..)) => {
            builder.push_f32(f32::from_bits((*v).try_into().unwrap())).unwrap();
        }
        (Some(Value::Float(v)), _) => builder.push_f64(f64::from_bits(*v)).unwrap(),
        (Some(Value::Text(v)), _) => builder.push_slice(v.as_bytes()).unwrap(),
        (Some(Value::Bytes(v)), ColumnBuilder::Fixed16(..)) => builder.push_16(v[..].try_into().unwrap()).unwrap(),
        (Some(Value::Bytes(v)), _) => builder.push_slice(v).unwrap(),
    }
}

/// Reads one row of a batch.
pub(super) fn row(batch: &RecordBatch, at: usize) -> Row {
    (0..batch.num_columns()).map(|c| value(batch, c, at)).collect()
}

/// Reads one value of a batch.
pub(super) fn value(batch: &RecordBatch, column: usize, at: usize) -> Option<Value> {
    let a = batch.column(column);
    if a.is_null(at) {
        return None;
    }
    Some(match a.data_type() {
        DataType::Boolean => Value::Int(a.as_boolean().value(at).into()),
        DataType::Int16 => Value::Int(a.as_primitive::<Int16Type>().value(at).into()),
        DataType::Int32 => Value::Int(a.as_primitive::<Int32Type>().value(at).into()),
        DataType::Int64 => Value::Int(a.as_primitive::<Int64Type>().value(at)),
        DataType::Date32 => Value::Int(a.as_primitive::<Date32Type>().value(at).into()),
        DataType::Time64(_) => Value::Int(a.as_primitive::<Time64MicrosecondType>().value(at)),
        DataType::Duration(_) => Value::Int(a.as_primitive::<DurationMicrosecondType>().value(at)),
        DataType::Timestamp(..) => Value::Int(a.as_primitive::<TimestampMicrosecondType>().value(at)),
        DataType::UInt64 => Value::Unsigned(a.as_primitive::<UInt64Type>().value(at)),
        DataType::Float32 => Value::Float(a.as_primitive::<Float32Type>().value(at).to_bits().into()),
        DataType::Float64 => Value::Float(a.as_primitive::<Float64Type>().value(at).to_bits()),
        DataType::Binary => Value::Bytes(a.as_binary::<i32>().value(at).to_vec()),
        DataType::FixedSizeBinary(_) => Value::Bytes(a.as_fixed_size_binary().value(at).to_vec()),
        _ => Value::Text(a.as_string::<i32>().value(at).to_owned()),
    })
}
