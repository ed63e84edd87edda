//! Arrow values as the server reads them: literals of statements, and fields of LOAD DATA.

use std::io::Write;

use trem_engine::schema::Type;
use trem_engine::{Class, Error, Result};

use crate::datetime;
use crate::view::View;

/// What a column wants of its values, beyond what their own type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing.
    Plain,
    /// An exact number that comes as text.
    Decimal,
    /// Bits that come as digits.
    Bits,
    /// Bytes, of what has a text of its own.
    Bytes,
    /// A year in four digits: of fewer the server makes others.
    Year,
}

impl Form {
    /// For values of `ty` in a column whose type begins with this word.
    pub(super) fn of(ty: &Type, word: &str) -> Self {
        match (ty, word) {
            (Type::Decimal(_), "decimal") => Self::Decimal,
            (Type::Bit(_), "bit") => Self::Bits,
            (Type::Uuid, "binary") => Self::Bytes,
            (Type::Year, "year") => Self::Year,
            _ => Self::Plain,
        }
    }
}

const DAY: i64 = 86_400_000_000;
/// The first and the last day that DATE and DATETIME have, without the year 0. (MySQL manual, "The DATE, DATETIME, and
/// TIMESTAMP Types".)
const FIRST_DAY: i32 = -719_162;
const LAST_DAY: i32 = 2_932_896;
/// The longest TIME: 838:59:59, and less than one second.
const LONGEST: i64 = (839 * 3600 - 1) * 1_000_000 + 999_999;

/// Appends a value as it stands in a statement.
///
/// # Errors
/// Class `Table` for a value that no column of the server's takes.
pub(super) fn put_literal(view: &View<'_>, form: Form, row: usize, out: &mut Vec<u8>) -> Result<()> {
    if view.is_null(row) {
        out.extend_from_slice(b"NULL");
        return Ok(());
    }
    match view {
        View::Text(a) => match form {
            Form::Decimal => put_decimal(a.value(row), out)?,
            Form::Bits => {
                out.extend_from_slice(b"b'");
                out.extend_from_slice(a.value(row).as_bytes());
                out.push(b'\'');
            }
            _ => put_quoted(a.value(row).as_bytes(), out),
        },
        View::I16(a) if form == Form::Year => put_year(a.value(row), out),
        View::Bytes(a) => put_bytes(a.value(row), out),
        View::Uuid(a) if form == Form::Bytes => put_bytes(a.value(row), out),
        View::Uuid(_) | View::Date(_) | View::Time(_) | View::Duration(_) | View::Timestamp(..) => {
            out.push(b'\'');
            put_bare(view, row, out)?;
            out.push(b'\'');
        }
        // The sign of a literal is an operation, which 0 has none of.
        View::F64(a) if is_negative_zero(a.value(row)) => out.extend_from_slice(b"'-0'"),
        View::F32(a) if is_negative_zero(f64::from(a.value(row))) => out.extend_from_slice(b"'-0'"),
        _ => put_bare(view, row, out)?,
    }
    Ok(())
}

/// Appends a value as a field of LOAD DATA, in a file of character set `binary` whose fields end with tabs and whose
/// lines with line feeds.
///
/// # Errors
/// Class `Table` for a value that no column of the server's takes.
pub(super) fn put_field(view: &View<'_>, form: Form, row: usize, out: &mut Vec<u8>) -> Result<()> {
    if view.is_null(row) {
        out.extend_from_slice(b"\\N");
        return Ok(());
    }
    match view {
        View::Text(a) => match form {
            Form::Decimal => put_decimal(a.value(row), out)?,
            Form::Bits => escape(&bits(a.value(row)), out),
            _ => escape(a.value(row).as_bytes(), out),
        },
        View::I16(a) if form == Form::Year => put_year(a.value(row), out),
        View::Bytes(a) => escape(a.value(row), out),
        View::Uuid(a) if form == Form::Bytes => escape(a.value(row), out),
        _ => put_bare(view, row, out)?,
    }
    Ok(())
}

/// Appends a text as it stands in a statement of a session in which a backslash escapes.
pub(super) fn put_quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| matches!(b, b'\'' | b'\\')) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[rest[at], rest[at]]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'\'');
}

/// Appends bytes as they stand in a statement.
pub(super) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"x'");
    put_hex(bytes, out);
    out.push(b'\'');
}

fn put_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]));
}

/// Appends what is neither text nor bytes.
fn put_bare(view: &View<'_>, row: usize, out: &mut Vec<u8>) -> Result<()> {
    match view {
        View::Bool(a) => out.push(b'0' + u8::from(a.value(row))),
        View::I16(a) => put_display(a.value(row), out),
        View::I32(a) => put_display(a.value(row), out),
        View::I64(a) => put_display(a.value(row), out),
        View::U64(a) => put_display(a.value(row), out),
        // In digits of the wider type it is compared as what it is, and stored as what it was.
        View::F32(a) => put_float(f64::from(a.value(row)), out)?,
        View::F64(a) => put_float(a.value(row), out)?,
        View::Uuid(a) => put_uuid(a.value(row), out),
        View::Date(a) => {
            let days = a.value(row);
            in_range((FIRST_DAY..=LAST_DAY).contains(&days), "a date", |text| datetime::write_date(days, text))?;
            datetime::write_date(days, out);
        }
        View::Time(a) => datetime::write_time(a.value(row), out),
        View::Duration(a) => {
            let micros = a.value(row);
            in_range(micros.abs() <= LONGEST, "a span of time", |text| datetime::write_duration(micros, text))?;
            datetime::write_duration(micros, out);
        }
        View::Timestamp(a, zoned) => {
            let micros = a.value(row);
            let (first, after) = (i64::from(FIRST_DAY) * DAY, i64::from(LAST_DAY + 1) * DAY);
            let show = |text: &mut Vec<u8>| datetime::write_timestamp(micros, *zoned, text);
            in_range((first..after).contains(&micros), "a timestamp", show)?;
            datetime::write_timestamp(micros, false, out);
        }
        View::Text(_) | View::Bytes(_) => return Err(Error::fatal("internal: text and bytes have forms of their own")),
    }
    Ok(())
}

fn in_range(fits: bool, kind: &str, show: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
    if fits {
        return Ok(());
    }
    let mut text = Vec::new();
    show(&mut text);
    Err(unfit(kind, &String::from_utf8_lossy(&text)))
}

/// A value for which the server has no form.
fn unfit(kind: &str, value: &str) -> Error {
    Error::new(Class::Table, format!("the server has nothing for {value} as {kind}"))
        .remedy("correct the value at the source, or change the column with a rule")
}

fn put_display(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(out, "{value}");
}

fn put_year(year: i16, out: &mut Vec<u8>) {
    let _ = write!(out, "{year:04}");
}

fn put_float(value: f64, out: &mut Vec<u8>) -> Result<()> {
    if !value.is_finite() {
        return Err(unfit("a number", &value.to_string()));
    }
    if is_negative_zero(value) {
        out.extend_from_slice(b"-0");
        return Ok(());
    }
    let _ = write!(out, "{value:e}");
    Ok(())
}

fn is_negative_zero(value: f64) -> bool {
    value == 0.0 && value.is_sign_negative()
}

fn put_decimal(text: &str, out: &mut Vec<u8>) -> Result<()> {
    if text.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'.' | b'-')) {
        return Err(unfit("a number", text));
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn put_uuid(bytes: &[u8], out: &mut Vec<u8>) {
    for (n, byte) in bytes.iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        put_hex(std::slice::from_ref(byte), out);
    }
}

/// Digits 0 and 1 as the bytes of a number, the highest first.
fn bits(digits: &str) -> Vec<u8> {
    let digits = digits.as_bytes();
    let first = digits.len() % 8;
    let byte = |digits: &[u8]| digits.iter().fold(0, |byte, digit| byte << 1 | (digit & 1));
    let start = (first > 0).then(|| byte(&digits[..first]));
    start.into_iter().chain(digits[first..].chunks(8).map(byte)).collect()
}

/// Appends what a field holds, so that none of it ends the field or the line.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| matches!(b, b'\\' | b'\t' | b'\n' | b'\0')) {
        out.extend_from_slice(&rest[..at]);
        let escaped = match rest[at] {
            b'\t' => b't',
            b'\n' => b'n',
            b'\0' => b'0',
            other => other,
        };
        out.extend_from_slice(&[b'\\', escaped]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::sync::Arc;

    use arrow_array::types::{Date32Type, DurationMicrosecondType, Float32Type, Float64Type, Int16Type};
    use arrow_array::{ArrayRef, BinaryArray, FixedSizeBinaryArray, PrimitiveArray, StringArray};
    use trem_engine::schema::Length;

    const TEXT: Type = Type::Text(Length::Unlimited);

    /// As a literal and as a field.
    fn shown(array: ArrayRef, ty: &Type, form: Form) -> Result<(String, String)> {
        let view = View::of(&array, ty)?;
        let (mut literal, mut field) = (Vec::new(), Vec::new());
        put_literal(&view, form, 0, &mut literal)?;
        put_field(&view, form, 0, &mut field)?;
        Ok((String::from_utf8(literal).unwrap(), String::from_utf8(field).unwrap()))
    }

    fn text(value: &str) -> ArrayRef {
        Arc::new(StringArray::from(vec![value]))
    }

    fn both(literal: &str, field: &str) -> (String, String) {
        (literal.to_owned(), field.to_owned())
    }

    #[test]
    fn text_and_bytes_are_escaped() {
        let odd = shown(text("it's\\\t\n\0ü"), &TEXT, Form::Plain).unwrap();
        assert_eq!(odd, both("'it''s\\\\\t\n\0ü'", "it's\\\\\\t\\n\\0ü"));
        let null: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
        assert_eq!(shown(null, &TEXT, Form::Plain).unwrap(), both("NULL", "\\N"));
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"\0a\\"[..]]));
        assert_eq!(shown(bytes, &Type::Binary(Length::Unlimited), Form::Plain).unwrap(), both("x'00615c'", "\\0a\\\\"));
        let uuid: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter([[0x61u8; 16]].iter()).unwrap());
        let told = "61616161-6161-6161-6161-616161616161";
        assert_eq!(shown(Arc::clone(&uuid), &Type::Uuid, Form::Plain).unwrap(), both(&format!("'{told}'"), told));
        assert_eq!(shown(uuid, &Type::Uuid, Form::Bytes).unwrap().1, "a".repeat(16));
    }

    #[test]
    fn numbers_keep_every_digit() {
        let double =
            |f: f64| shown(Arc::new(PrimitiveArray::<Float64Type>::from(vec![f])), &Type::Float64, Form::Plain);
        assert_eq!(double(0.1).unwrap(), both("1e-1", "1e-1"));
        assert_eq!(double(-0.0).unwrap(), both("'-0'", "-0"));
        assert_eq!(double(f64::MAX).unwrap().0, "1.7976931348623157e308");
        assert_eq!(double(f64::NAN).unwrap_err().class(), Class::Table);
        let single: ArrayRef = Arc::new(PrimitiveArray::<Float32Type>::from(vec![1.1f32]));
        assert_eq!(shown(single, &Type::Float32, Form::Plain).unwrap().0, "1.100000023841858e0");
        let decimal = |t: &str| shown(text(t), &Type::Decimal(Some((10, 2))), Form::Decimal);
        assert_eq!(decimal("-1.50").unwrap(), both("-1.50", "-1.50"));
        assert!(decimal("NaN").is_err() && decimal("Infinity").is_err());
        let unbounded = shown(text("NaN"), &Type::Decimal(None), Form::Plain).unwrap();
        assert_eq!(unbounded, both("'NaN'", "NaN"));
    }

    #[test]
    fn years_have_four_digits() {
        let year: ArrayRef = Arc::new(PrimitiveArray::<Int16Type>::from(vec![0i16]));
        assert_eq!(shown(year, &Type::Year, Form::Year).unwrap(), both("0000", "0000"));
    }

    #[test]
    fn bits_are_a_number() {
        let ty = Type::Bit(Length::Exactly(9));
        assert_eq!(shown(text("001100001"), &ty, Form::Bits).unwrap(), both("b'001100001'", "\\0a"));
        assert_eq!(bits("1"), [1]);
        assert_eq!(bits("1010000011"), [2, 131]);
        assert_eq!(bits(""), [0u8; 0]);
    }

    #[test]
    fn what_the_server_has_no_form_of_is_refused() {
        let date = |d: i32| shown(Arc::new(PrimitiveArray::<Date32Type>::from(vec![d])), &Type::Date, Form::Plain);
        assert_eq!(date(FIRST_DAY).unwrap().0, "'0001-01-01'");
        assert_eq!(date(LAST_DAY).unwrap().0, "'9999-12-31'");
        for day in [FIRST_DAY - 1, LAST_DAY + 1, i32::MAX, i32::MIN] {
            let error = date(day).unwrap_err();
            assert!(error.class() == Class::Table && error.advice().is_some(), "{error}");
        }
        assert!(date(i32::MAX).unwrap_err().to_string().contains("infinity"));
        let span = |micros: i64| {
            let array: ArrayRef = Arc::new(PrimitiveArray::<DurationMicrosecondType>::from(vec![micros]));
            shown(array, &Type::Duration(6), Form::Plain)
        };
        assert_eq!(span(-LONGEST).unwrap().0, "'-838:59:59.999999'");
        assert!(span(LONGEST + 1).is_err());
    }
}
