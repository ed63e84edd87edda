//! Arrow values as PostgreSQL reads them: binary fields, COPY text fields, array parameters.

use arrow_schema::DataType;
use trem_engine::schema::Type;
use trem_engine::time::{days_to_2000, micros_to_2000};
use trem_engine::{Error, Result};

use crate::datetime;
use crate::postgres::numeric;
use crate::view::View;

/// A binary field's form, by the receive function of the target column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    /// The text's own bytes.
    Text,
    /// A version byte, then the text.
    Jsonb,
    Bytea,
    Uuid,
    Date,
    Time,
    Timestamp,
    /// Microseconds, then no days and no months.
    Interval,
}

impl Form {
    /// The form that carries values of type `ty` to a type with this receive function, if one does.
    pub(super) fn of(ty: &Type, receive: &str) -> Option<Self> {
        use Type as L;
        let text = ty.arrow() == DataType::Utf8 && !matches!(ty, L::Decimal(_));
        Some(match (ty, receive) {
            (L::Bool, "boolrecv") => Self::Bool,
            (L::Int8 | L::UInt8 | L::Int16 | L::Year, "int2recv") => Self::Int2,
            (L::Int8 | L::UInt8 | L::Int16 | L::Year | L::UInt16 | L::Int32, "int4recv") => Self::Int4,
            (L::Int8 | L::UInt8 | L::Int16 | L::Year, "int8recv")
            | (L::UInt16 | L::Int32 | L::UInt32 | L::Int64, "int8recv") => Self::Int8,
            (L::Float32, "float4recv") => Self::Float4,
            (L::Float64, "float8recv") => Self::Float8,
            (L::Decimal(_) | L::UInt64, "numeric_recv") => Self::Numeric,
            (_, "textrecv" | "varcharrecv" | "bpcharrecv" | "namerecv" | "citextrecv") if text => Self::Text,
            (L::Enum(_) | L::Named(_) | L::Text(_), "enum_recv") | (L::Json, "json_recv") => Self::Text,
            (L::Json, "jsonb_recv") => Self::Jsonb,
            (L::Binary(_) | L::Geometry(_), "bytearecv") => Self::Bytea,
            (L::Uuid, "uuid_recv") => Self::Uuid,
            (L::Date, "date_recv") => Self::Date,
            (L::Time(_), "time_recv") => Self::Time,
            (L::Timestamp(_), "timestamp_recv") | (L::TimestampTz(_), "timestamptz_recv") => Self::Timestamp,
            (L::Duration(_), "interval_recv") => Self::Interval,
            _ => return None,
        })
    }

    /// The built-in type whose arrays carry values of this form as a parameter, with its number.
    pub(super) fn element(self) -> (&'static str, u32) {
        match self {
            Self::Bool => ("bool", 16),
            Self::Int2 => ("int2", 21),
            Self::Int4 => ("int4", 23),
            Self::Int8 => ("int8", 20),
            Self::Float4 => ("float4", 700),
            Self::Float8 => ("float8", 701),
            Self::Numeric => ("numeric", 1700),
            Self::Text => ("text", 25),
            Self::Jsonb => ("jsonb", 3802),
            Self::Bytea => ("bytea", 17),
            Self::Uuid => ("uuid", 2950),
            Self::Date => ("date", 1082),
            Self::Time => ("time", 1083),
            Self::Timestamp => ("timestamp", 1114),
            Self::Interval => ("interval", 1186),
        }
    }
}

impl View<'_> {
    /// Appends a binary field: its length, then its bytes.
    pub(super) fn put_binary(&self, form: Form, row: usize, out: &mut Vec<u8>) -> Result<()> {
        if self.is_null(row) {
            out.extend_from_slice(&(-1i32).to_be_bytes());
            return Ok(());
        }
        let field = |out: &mut Vec<u8>, bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
            out.extend_from_slice(bytes);
        };
        match (self, form) {
            (Self::Bool(a), _) => field(out, &[u8::from(a.value(row))]),
            (Self::I16(a), _) => put_integer(i64::from(a.value(row)), form, out),
            (Self::I32(a), _) => put_integer(i64::from(a.value(row)), form, out),
            (Self::I64(a), _) => put_integer(a.value(row), form, out),
            (Self::F32(a), _) => field(out, &a.value(row).to_be_bytes()),
            (Self::F64(a), _) => field(out, &a.value(row).to_be_bytes()),
            (Self::U64(a), _) => measured(out, |out| {
                numeric::encode_u64(a.value(row), out);
                Ok(())
            })?,
            (Self::Text(a), Form::Numeric) => measured(out, |out| numeric::encode(a.value(row), out))?,
            (Self::Text(a), Form::Jsonb) => {
                let text = a.value(row).as_bytes();
                out.extend_from_slice(&(text.len() as i32 + 1).to_be_bytes());
                out.push(1);
                out.extend_from_slice(text);
            }
            (Self::Text(a), _) => field(out, a.value(row).as_bytes()),
            (Self::Bytes(a), _) => field(out, a.value(row)),
            (Self::Uuid(a), _) => field(out, a.value(row)),
            (Self::Date(a), _) => field(out, &days_to_2000(a.value(row)).to_be_bytes()),
            (Self::Time(a), _) => field(out, &a.value(row).to_be_bytes()),
            (Self::Duration(a), _) => {
                out.extend_from_slice(&16i32.to_be_bytes());
                out.extend_from_slice(&a.value(row).to_be_bytes());
                out.extend_from_slice(&[0; 8]);
            }
            (Self::Timestamp(a, _), _) => field(out, &micros_to_2000(a.value(row)).to_be_bytes()),
        }
        Ok(())
    }

    /// Appends the canonical text of a value that is not NULL.
    pub(super) fn put_text(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Bool(a) => out.push(if a.value(row) { b't' } else { b'f' }),
            Self::I16(a) => put_display(a.value(row), out),
            Self::I32(a) => put_display(a.value(row), out),
            Self::I64(a) => put_display(a.value(row), out),
            Self::U64(a) => put_display(a.value(row), out),
            Self::F32(a) => put_float(f64::from(a.value(row)), a.value(row), out),
            Self::F64(a) => put_float(a.value(row), a.value(row), out),
            Self::Text(a) => out.extend_from_slice(a.value(row).as_bytes()),
            Self::Bytes(a) => {
                out.extend_from_slice(b"\\x");
                put_hex(a.value(row), out);
            }
            Self::Uuid(a) => put_hex(a.value(row), out),
            Self::Date(a) => datetime::write_date(a.value(row), out),
            Self::Time(a) => datetime::write_time(a.value(row), out),
            Self::Duration(a) => datetime::write_duration(a.value(row), out),
            Self::Timestamp(a, zoned) => datetime::write_timestamp(a.value(row), *zoned, out),
        }
    }

    /// Appends a COPY text field, escaped.
    pub(super) fn put_copy_text(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return out.extend_from_slice(b"\\N");
        }
        match self {
            Self::Text(a) => escape(a.value(row).as_bytes(), out),
            Self::Bytes(a) => {
                out.extend_from_slice(b"\\\\x");
                put_hex(a.value(row), out);
            }
            _ => self.put_text(row, out),
        }
    }
}

/// Appends what `put` appends, after its length.
fn measured(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    put(out)?;
    let len = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
    Ok(())
}

fn put_integer(value: i64, form: Form, out: &mut Vec<u8>) {
    match form {
        Form::Int2 => {
            out.extend_from_slice(&2i32.to_be_bytes());
            out.extend_from_slice(&(value as i16).to_be_bytes());
        }
        Form::Int4 => {
            out.extend_from_slice(&4i32.to_be_bytes());
            out.extend_from_slice(&(value as i32).to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&8i32.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

fn put_display(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    use std::io::Write as _;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{value}");
}

fn put_float(wide: f64, shown: impl std::fmt::Display, out: &mut Vec<u8>) {
    if wide.is_infinite() {
        out.extend_from_slice(if wide > 0.0 { b"Infinity" } else { b"-Infinity" });
    } else {
        put_display(shown, out);
    }
}

/// Appends hexadecimal digits.
pub(super) fn put_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(bytes.len() * 2);
    for b in bytes {
        out.push(DIGITS[usize::from(b >> 4)]);
        out.push(DIGITS[usize::from(b & 15)]);
    }
}

/// Appends text escaped for COPY.
pub(super) fn escape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| matches!(b, b'\\' | b'\n' | b'\r' | b'\t')) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\\');
        out.push(match rest[at] {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            other => other,
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// A value: where it stands.
pub(super) type Cell<'a> = (View<'a>, usize);

/// A one-dimensional array in binary form: of `form` if given, otherwise of canonical text.
pub(super) fn array<'a>(form: Option<Form>, cells: impl ExactSizeIterator<Item = Cell<'a>>) -> Result<Vec<u8>> {
    let count = i32::try_from(cells.len()).map_err(|_| Error::fatal("internal: too many values in one array"))?;
    let element = form.map_or(25, |f| f.element().1);
    let mut out = Vec::with_capacity(20 + cells.len() * 12);
    for word in [1, 1, element as i32, count, 1] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for (view, row) in cells {
        match form {
            Some(form) => view.put_binary(form, row, &mut out)?,
            None if view.is_null(row) => out.extend_from_slice(&(-1i32).to_be_bytes()),
            None => measured(&mut out, |out| {
                view.put_text(row, out);
                Ok(())
            })?,
        }
    }
    Ok(out)
}

/// An array of consecutive numbers.
pub(super) fn ordinals(from: i32, count: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(20 + count * 8);
    for word in [1, 0, 23, count as i32, 1] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for n in 0..count as i32 {
        out.extend_from_slice(&4i32.to_be_bytes());
        out.extend_from_slice(&(from + n).to_be_bytes());
    }
    out
}

/// A parameter that is in binary form already.
#[derive(Debug)]
pub(super) struct Raw(pub(super) Vec<u8>);

impl tokio_postgres::types::ToSql for Raw {
    fn to_sql(
        &self,
        _: &tokio_postgres::types::Type,
        out: &mut bytes::BytesMut,
    ) -> std::result::Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(tokio_postgres::types::IsNull::No)
    }

    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use arrow_array::types::{DurationMicrosecondType, Float32Type, Float64Type, Int16Type, UInt64Type};
    use arrow_array::{ArrayRef, BinaryArray, PrimitiveArray, StringArray};

    use super::*;
    use std::sync::Arc;
    use trem_engine::schema::Length;

    const TEXT: Type = Type::Text(Length::Unlimited);

    fn text(array: ArrayRef, ty: &Type) -> String {
        let mut out = Vec::new();
        View::of(&array, ty).unwrap().put_copy_text(0, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn copy_text_escapes_what_copy_would_read_otherwise() {
        let shown = |s: &str| text(Arc::new(StringArray::from(vec![s])), &TEXT);
        assert_eq!(shown("a\tb\nc\\N\r"), "a\\tb\\nc\\\\N\\r");
        assert_eq!(shown("\\."), "\\\\.");
        let null: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
        assert_eq!(text(null, &TEXT), "\\N");
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&[0u8, 255][..]]));
        assert_eq!(text(bytes, &Type::Binary(Length::Unlimited)), "\\\\x00ff");
    }

    #[test]
    fn floats_keep_their_shortest_form() {
        let shown = |f: f64| text(Arc::new(PrimitiveArray::<Float64Type>::from(vec![f])), &Type::Float64);
        assert_eq!([shown(0.1), shown(-0.0), shown(f64::NAN)], ["0.1", "-0", "NaN"]);
        assert_eq!([shown(f64::INFINITY), shown(f64::NEG_INFINITY)], ["Infinity", "-Infinity"]);
        let single: ArrayRef = Arc::new(PrimitiveArray::<Float32Type>::from(vec![0.1f32]));
        assert_eq!(text(single, &Type::Float32), "0.1");
    }

    #[test]
    fn integers_widen_to_the_column() {
        let array: ArrayRef = Arc::new(PrimitiveArray::<Int16Type>::from(vec![-2i16]));
        let mut out = Vec::new();
        View::of(&array, &Type::Int16).unwrap().put_binary(Form::Int8, 0, &mut out).unwrap();
        assert_eq!(out, [0, 0, 0, 8, 255, 255, 255, 255, 255, 255, 255, 254]);
        assert_eq!(Form::of(&Type::Int64, "int4recv"), None);
    }

    #[test]
    fn durations_and_unsigned_integers_keep_their_value() {
        let spans: ArrayRef = Arc::new(PrimitiveArray::<DurationMicrosecondType>::from(vec![-3_020_399_000_001]));
        assert_eq!(text(Arc::clone(&spans), &Type::Duration(6)), "-838:59:59.000001");
        let mut out = Vec::new();
        View::of(&spans, &Type::Duration(6)).unwrap().put_binary(Form::Interval, 0, &mut out).unwrap();
        assert_eq!((out.len(), i64::from_be_bytes(out[4..12].try_into().unwrap())), (20, -3_020_399_000_001));
        let most: ArrayRef = Arc::new(PrimitiveArray::<UInt64Type>::from(vec![u64::MAX]));
        assert_eq!(text(Arc::clone(&most), &Type::UInt64), "18446744073709551615");
        let (mut out, mut same) = (Vec::new(), Vec::new());
        View::of(&most, &Type::UInt64).unwrap().put_binary(Form::Numeric, 0, &mut out).unwrap();
        let decimal: ArrayRef = Arc::new(StringArray::from(vec!["18446744073709551615"]));
        View::of(&decimal, &Type::Decimal(None)).unwrap().put_binary(Form::Numeric, 0, &mut same).unwrap();
        assert_eq!(out, same);
    }
}
