//! Columns of a batch with their Arrow types known, as those who write values out look at them.

use arrow_array::types::{
    Date32Type, DurationMicrosecondType, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, RecordBatch, StringArray,
};
use bytes::Bytes;
use trem_engine::change::ChangeBatch;
use trem_engine::schema::{TableSchema, Type};
use trem_engine::{Error, Result};

/// One column of one batch, its Arrow type known.
#[derive(Clone, Copy, Debug)]
pub(crate) enum View<'a> {
    Bool(&'a BooleanArray),
    I16(&'a PrimitiveArray<Int16Type>),
    I32(&'a PrimitiveArray<Int32Type>),
    I64(&'a PrimitiveArray<Int64Type>),
    U64(&'a PrimitiveArray<UInt64Type>),
    F32(&'a PrimitiveArray<Float32Type>),
    F64(&'a PrimitiveArray<Float64Type>),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Uuid(&'a FixedSizeBinaryArray),
    Date(&'a PrimitiveArray<Date32Type>),
    Time(&'a PrimitiveArray<Time64MicrosecondType>),
    Duration(&'a PrimitiveArray<DurationMicrosecondType>),
    Timestamp(&'a PrimitiveArray<TimestampMicrosecondType>, bool),
}

impl<'a> View<'a> {
    /// Looks at `array` as values of type `ty`.
    pub(crate) fn of(array: &'a ArrayRef, ty: &Type) -> Result<Self> {
        use Type as L;
        let any = array.as_any();
        let view = match ty {
            L::Bool => any.downcast_ref().map(Self::Bool),
            L::Int8 | L::UInt8 | L::Int16 | L::Year => any.downcast_ref().map(Self::I16),
            L::UInt16 | L::Int32 => any.downcast_ref().map(Self::I32),
            L::UInt32 | L::Int64 => any.downcast_ref().map(Self::I64),
            L::UInt64 => any.downcast_ref().map(Self::U64),
            L::Float32 => any.downcast_ref().map(Self::F32),
            L::Float64 => any.downcast_ref().map(Self::F64),
            L::Binary(_) | L::Geometry(_) => any.downcast_ref().map(Self::Bytes),
            L::Uuid => any.downcast_ref().map(Self::Uuid),
            L::Date => any.downcast_ref().map(Self::Date),
            L::Time(_) => any.downcast_ref().map(Self::Time),
            L::Duration(_) => any.downcast_ref().map(Self::Duration),
            L::Timestamp(_) => any.downcast_ref().map(|a| Self::Timestamp(a, false)),
            L::TimestampTz(_) => any.downcast_ref().map(|a| Self::Timestamp(a, true)),
            L::Decimal(_) | L::Text(_) | L::Bit(_) | L::Interval | L::Json | L::Xml => {
                any.downcast_ref().map(Self::Text)
            }
            L::Enum(_) | L::Set(_) | L::Array(_) | L::Named(_) => any.downcast_ref().map(Self::Text),
        };
        view.ok_or_else(|| Error::fatal(format!("internal: {} values for a column of type {ty}", array.data_type())))
    }

    /// Whether the value is NULL.
    #[inline]
    pub(crate) fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Bool(a) => a.is_null(row),
            Self::I16(a) => a.is_null(row),
            Self::I32(a) => a.is_null(row),
            Self::I64(a) => a.is_null(row),
            Self::U64(a) => a.is_null(row),
            Self::F32(a) => a.is_null(row),
            Self::F64(a) => a.is_null(row),
            Self::Text(a) => a.is_null(row),
            Self::Bytes(a) => a.is_null(row),
            Self::Uuid(a) => a.is_null(row),
            Self::Date(a) => a.is_null(row),
            Self::Time(a) => a.is_null(row),
            Self::Duration(a) => a.is_null(row),
            Self::Timestamp(a, _) => a.is_null(row),
        }
    }

    /// Bytes of a value of variable length; a small constant for others.
    #[inline]
    pub(crate) fn len(&self, row: usize) -> usize {
        match self {
            Self::Text(a) => a.value_length(row) as usize,
            Self::Bytes(a) => a.value_length(row) as usize,
            _ => 8,
        }
    }

    /// The bytes of a text or binary value, shared with the array's buffer.
    pub(crate) fn shared(&self, row: usize) -> Option<Bytes> {
        let (buffer, offsets) = match self {
            Self::Text(a) => (a.values(), a.value_offsets()),
            Self::Bytes(a) => (a.values(), a.value_offsets()),
            _ => return None,
        };
        let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
        Some(Bytes::from_owner(Shared(buffer.slice_with_length(from, to - from))))
    }
}

struct Shared(arrow_buffer::Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// Typed views of all columns of several batches.
#[derive(Debug)]
pub(crate) struct Views<'a>(Vec<Vec<View<'a>>>);

impl<'a> Views<'a> {
    /// Looks at the columns of each batch as values of these types.
    pub(crate) fn of(batches: impl Iterator<Item = &'a RecordBatch>, types: &[Type]) -> Result<Self> {
        let view = |b: &'a RecordBatch| b.columns().iter().zip(types).map(|(a, ty)| View::of(a, ty)).collect();
        batches.map(view).collect::<Result<_>>().map(Self)
    }

    /// The column of a batch.
    pub(crate) fn at(&self, batch: usize, column: usize) -> &View<'a> {
        &self.0[batch][column]
    }
}

/// Views of the old images of several batches.
#[derive(Debug)]
pub(crate) struct OldViews<'a> {
    views: Views<'a>,
    /// For each batch its place among the views.
    at: Vec<usize>,
    /// For each key column its place in an old image.
    key: Vec<usize>,
}

impl<'a> OldViews<'a> {
    /// Looks at the old images of `batches`.
    pub(crate) fn of(schema: &TableSchema, batches: &'a [ChangeBatch]) -> Result<Self> {
        let columns = schema.old_columns();
        let types: Vec<Type> = columns.iter().map(|i| schema.columns[*i].ty.clone()).collect();
        let key = schema.key.iter().filter_map(|k| columns.iter().position(|c| c == k)).collect();
        let mut at = Vec::new();
        let mut images = Vec::new();
        for batch in batches {
            at.push(images.len());
            images.extend(batch.old.as_ref().map(|o| &o.images));
        }
        Ok(Self { views: Views::of(images.into_iter(), &types)?, at, key })
    }

    /// A column of the key, by its place in the key.
    pub(crate) fn key_column(&self, batch: usize, nth: usize) -> &View<'a> {
        self.views.at(self.at[batch], self.key[nth])
    }
}
