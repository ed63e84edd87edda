//! A builder for one column: typed appends without dispatch through Arrow's dynamic builders.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, DurationMicrosecondType, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, UInt64Type,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, StringArray, TimestampMicrosecondArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::DataType;
use bytes::Bytes;

use crate::error::{Class, Error, Result};
use crate::schema::Type;

/// Values of one column in the making. The variant is the physical form; `Date32` and the like share theirs.
#[derive(Debug)]
pub enum ColumnBuilder {
    /// Booleans.
    Bool(BooleanBufferBuilder, NullBufferBuilder),
    /// 16-bit integers.
    I16(Vec<i16>, NullBufferBuilder),
    /// 32-bit integers and days.
    I32(Vec<i32>, NullBufferBuilder),
    /// 64-bit integers and microseconds.
    I64(Vec<i64>, NullBufferBuilder),
    /// 64-bit integers without a sign.
    U64(Vec<u64>, NullBufferBuilder),
    /// 32-bit floats.
    F32(Vec<f32>, NullBufferBuilder),
    /// 64-bit floats.
    F64(Vec<f64>, NullBufferBuilder),
    /// Text and bytes.
    Var(VarBuilder, NullBufferBuilder),
    /// 16-byte values.
    Fixed16(Vec<u8>, NullBufferBuilder),
}

/// Values of variable length: one buffer and the ends of the values in it.
#[derive(Debug)]
pub struct VarBuilder {
    offsets: Vec<i32>,
    data: Vec<u8>,
    /// A value too large to copy, adopted as it came from the wire; then it is the only value with content.
    adopted: Option<Bytes>,
}

/// From this size on a value is adopted instead of copied, if it is the first of its column.
pub const ADOPT_BYTES: usize = 1 << 20;

impl VarBuilder {
    fn new() -> Self {
        Self { offsets: vec![0], data: Vec::new(), adopted: None }
    }

    fn len(&self) -> usize {
        self.adopted.as_ref().map_or(self.data.len(), |b| b.len())
    }

    fn end_value(&mut self) -> Result<()> {
        let end = i32::try_from(self.len())
            .map_err(|_| Error::fatal("a batch holds more than 2 GiB of one column; lower batch.max-bytes"))?;
        self.offsets.push(end);
        Ok(())
    }

    /// Un-adopts, so that more content can follow.
    fn own(&mut self) {
        if let Some(bytes) = self.adopted.take() {
            self.data = bytes.to_vec();
        }
    }

    fn push(&mut self, value: &[u8]) -> Result<()> {
        if !value.is_empty() {
            self.own();
            self.data.extend_from_slice(value);
        }
        self.end_value()
    }

    fn push_bytes(&mut self, value: Bytes) -> Result<()> {
        if value.len() >= ADOPT_BYTES && self.len() == 0 {
            self.adopted = Some(value);
            return self.end_value();
        }
        self.push(&value)
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let data = match self.adopted.take() {
            Some(bytes) => Buffer::from(bytes),
            None => Buffer::from_vec(std::mem::take(&mut self.data)),
        };
        (OffsetBuffer::new(ScalarBuffer::from(offsets)), data)
    }
}

impl ColumnBuilder {
    /// An empty builder for values of this type.
    pub fn new(ty: &Type) -> Self {
        let nulls = NullBufferBuilder::new(0);
        match ty.arrow() {
            DataType::Boolean => Self::Bool(BooleanBufferBuilder::new(0), nulls),
            DataType::Int16 => Self::I16(Vec::new(), nulls),
            DataType::Int32 | DataType::Date32 => Self::I32(Vec::new(), nulls),
            DataType::UInt64 => Self::U64(Vec::new(), nulls),
            DataType::Float32 => Self::F32(Vec::new(), nulls),
            DataType::Float64 => Self::F64(Vec::new(), nulls),
            DataType::FixedSizeBinary(_) => Self::Fixed16(Vec::new(), nulls),
            DataType::Utf8 | DataType::Binary => Self::Var(VarBuilder::new(), nulls),
            _ => Self::I64(Vec::new(), nulls),
        }
    }

    /// Appends NULL (also where a value is unknown; the batch's mask tells the two apart).
    pub fn push_null(&mut self) {
        match self {
            Self::Bool(v, n) => {
                v.append(false);
                n.append_null();
            }
            Self::I16(v, n) => {
                v.push(0);
                n.append_null();
            }
            Self::I32(v, n) => {
                v.push(0);
                n.append_null();
            }
            Self::I64(v, n) => {
                v.push(0);
                n.append_null();
            }
            Self::U64(v, n) => {
                v.push(0);
                n.append_null();
            }
            Self::F32(v, n) => {
                v.push(0.0);
                n.append_null();
            }
            Self::F64(v, n) => {
                v.push(0.0);
                n.append_null();
            }
            Self::Var(v, n) => {
                let end = v.offsets.last().copied().unwrap_or(0);
                v.offsets.push(end);
                n.append_null();
            }
            Self::Fixed16(v, n) => {
                v.extend_from_slice(&[0; 16]);
                n.append_null();
            }
        }
    }

    /// Appends a boolean.
    pub fn push_bool(&mut self, value: bool) -> Result<()> {
        let Self::Bool(v, n) = self else { return Err(wrong_kind("bool")) };
        v.append(value);
        n.append_non_null();
        Ok(())
    }

    /// Appends a 16-bit integer.
    pub fn push_i16(&mut self, value: i16) -> Result<()> {
        let Self::I16(v, n) = self else { return Err(wrong_kind("i16")) };
        v.push(value);
        n.append_non_null();
        Ok(())
    }

    /// Appends a 32-bit integer, or days since 1970.
    pub fn push_i32(&mut self, value: i32) -> Result<()> {
        let Self::I32(v, n) = self else { return Err(wrong_kind("i32")) };
        v.push(value);
        n.append_non_null();
        Ok(())
    }

    /// Appends a 64-bit integer, or microseconds.
    pub fn push_i64(&mut self, value: i64) -> Result<()> {
        let Self::I64(v, n) = self else { return Err(wrong_kind("i64")) };
        v.push(value);
        n.append_non_null();
        Ok(())
    }

    /// Appends a 64-bit integer without a sign.
    pub fn push_u64(&mut self, value: u64) -> Result<()> {
        let Self::U64(v, n) = self else { return Err(wrong_kind("u64")) };
        v.push(value);
        n.append_non_null();
        Ok(())
    }

    /// Appends a 32-bit float.
    pub fn push_f32(&mut self, value: f32) -> Result<()> {
        let Self::F32(v, n) = self else { return Err(wrong_kind("f32")) };
        v.push(value);
        n.append_non_null();
        Ok(())
    }

    /// Appends a 64-bit float.
    pub fn push_f64(&mut self, value: f64) -> Result<()> {
        let Self::F64(v, n) = self else { return Err(wrong_kind("f64")) };
        v.push(value);
        n.append_non_null();
        Ok(())
    }

    /// Appends text or bytes. Text is validated once, for the whole column, by [`ColumnBuilder::finish`].
    pub fn push_slice(&mut self, value: &[u8]) -> Result<()> {
        let Self::Var(v, n) = self else { return Err(wrong_kind("text or bytes")) };
        v.push(value)?;
        n.append_non_null();
        Ok(())
    }

    /// As [`ColumnBuilder::push_slice`]; a very large value is kept as it is instead of being copied.
    pub fn push_bytes(&mut self, value: Bytes) -> Result<()> {
        let Self::Var(v, n) = self else { return Err(wrong_kind("text or bytes")) };
        v.push_bytes(value)?;
        n.append_non_null();
        Ok(())
    }

    /// Appends a 16-byte value.
    pub fn push_16(&mut self, value: &[u8; 16]) -> Result<()> {
        let Self::Fixed16(v, n) = self else { return Err(wrong_kind("16 bytes")) };
        v.extend_from_slice(value);
        n.append_non_null();
        Ok(())
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Bool(v, _) => v.len(),
            Self::I16(v, _) => v.len(),
            Self::I32(v, _) => v.len(),
            Self::I64(v, _) => v.len(),
            Self::U64(v, _) => v.len(),
            Self::F32(v, _) => v.len(),
            Self::F64(v, _) => v.len(),
            Self::Var(v, _) => v.offsets.len() - 1,
            Self::Fixed16(v, _) => v.len() / 16,
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values as an array of the type's Arrow form; the builder is empty afterwards.
    ///
    /// # Errors
    /// Text that is not UTF-8 (a source database in encoding SQL_ASCII can hold it).
    pub fn finish(&mut self, ty: &Type) -> Result<ArrayRef> {
        Ok(match self {
            Self::Bool(v, n) => Arc::new(BooleanArray::new(v.finish(), n.finish())),
            Self::I16(v, n) => primitive::<Int16Type>(v, n),
            Self::I32(v, n) => match ty {
                Type::Date => primitive::<Date32Type>(v, n),
                _ => primitive::<Int32Type>(v, n),
            },
            Self::I64(v, n) => match ty {
                Type::Time(_) => primitive::<Time64MicrosecondType>(v, n),
                Type::Duration(_) => primitive::<DurationMicrosecondType>(v, n),
                Type::Timestamp(_) => primitive::<TimestampMicrosecondType>(v, n),
                Type::TimestampTz(_) => {
                    let values = ScalarBuffer::from(std::mem::take(v));
                    Arc::new(TimestampMicrosecondArray::new(values, n.finish()).with_timezone("UTC"))
                }
                _ => primitive::<Int64Type>(v, n),
            },
            Self::U64(v, n) => primitive::<UInt64Type>(v, n),
            Self::F32(v, n) => primitive::<Float32Type>(v, n),
            Self::F64(v, n) => primitive::<Float64Type>(v, n),
            Self::Var(v, n) => {
                let (offsets, data) = v.finish();
                let nulls = n.finish();
                if ty.arrow() == DataType::Binary {
                    Arc::new(BinaryArray::try_new(offsets, data, nulls).map_err(arrow_error)?)
                } else {
                    Arc::new(StringArray::try_new(offsets, data, nulls).map_err(not_utf8)?)
                }
            }
            Self::Fixed16(v, n) => {
                let data = Buffer::from_vec(std::mem::take(v));
                Arc::new(FixedSizeBinaryArray::try_new(16, data, n.finish()).map_err(arrow_error)?)
            }
        })
    }
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: &mut NullBufferBuilder) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(std::mem::take(values)), nulls.finish()))
}

fn wrong_kind(what: &str) -> Error {
    Error::fatal(format!("internal: {what} appended to a column of another kind"))
}

fn arrow_error(e: arrow_schema::ArrowError) -> Error {
    Error::fatal("internal: column buffers do not fit").cause(e)
}

fn not_utf8(e: arrow_schema::ArrowError) -> Error {
    Error::new(Class::Table, "the source sent text that is not valid UTF-8")
        .remedy("correct the text at the source, in the encoding of the database")
        .cause(e)
        .remedy("find the rows whose text is not valid in the encoding of its column, and correct them at the source")
}
