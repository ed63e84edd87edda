//! Between the values that trem carries and those that an expression computes with.
//!
//! Most are the same. Decimals, which trem carries as text to keep `1.50` and `NaN`, are decimals inside an expression;
//! UUIDs, which it carries as bytes, are text.

use std::sync::Arc;

use arrow_array::builder::{FixedSizeBinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, StringArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::DataType;
use trem_engine::schema::{Length, Type};
use trem_engine::{Class, Error, Result};

/// Digits of the widest decimal.
const MOST_DIGITS: u8 = 76;
/// Digits after the point of a decimal whose type does not say.
const UNSAID_SCALE: i8 = 20;
/// Digits of a decimal of 128 bits.
const NARROW: u16 = 38;

/// What values of a type are inside an expression.
pub(super) fn type_of(ty: &Type) -> DataType {
    match ty {
        Type::Decimal(digits) => decimal(*digits),
        Type::Uuid => DataType::Utf8,
        other => other.arrow(),
    }
}

fn decimal(digits: Option<(u16, i16)>) -> DataType {
    match digits {
        Some((precision, scale)) if (1..=NARROW).contains(&precision) && (0..=precision as i16).contains(&scale) => {
            DataType::Decimal128(precision as u8, scale as i8)
        }
        Some((precision, scale)) if precision <= u16::from(MOST_DIGITS) && (0..=precision as i16).contains(&scale) => {
            DataType::Decimal256(precision as u8, scale as i8)
        }
        _ => DataType::Decimal256(MOST_DIGITS, UNSAID_SCALE),
    }
}

/// Values as an expression wants them.
pub(super) fn typed(values: &ArrayRef, ty: &Type) -> Result<ArrayRef> {
    match ty {
        Type::Uuid => Ok(Arc::new(uuid_text(values))),
        Type::Decimal(_) => cast(values, &type_of(ty), "a number of an expression"),
        _ => Ok(Arc::clone(values)),
    }
}

/// Values of a column of one type as those of a column of another.
///
/// # Errors
/// Class `Table` where one of them does not fit.
pub(crate) fn convert(values: &ArrayRef, from: &Type, to: &Type) -> Result<ArrayRef> {
    let is_text = matches!(to, Type::Text(_) | Type::Named(_));
    if is_text && matches!(from, Type::Decimal(_)) {
        // As it is written: an expression would give it digits that it has not.
        return fit(values, to);
    }
    let values = typed(values, from)?;
    let held = hold(&rounded(&values, to)?, to)?;
    if overflown(&values, &held) {
        return Err(Error::new(Class::Table, format!("a number is too large for {to}")));
    }
    if matches!(to, Type::Json) && !matches!(from, Type::Json) {
        all_json(&held)?;
    }
    Ok(held)
}

/// Whether any value of one type can be one of another.
pub(crate) fn converts(from: &Type, to: &Type) -> bool {
    may_hold(&type_of(from), to)
}

/// Values as text, for people and for what is kept of them: what has no text is NULL.
pub(crate) fn text(values: &ArrayRef, ty: &Type) -> Result<Vec<Option<String>>> {
    let values: ArrayRef = match ty {
        Type::Uuid => Arc::new(uuid_text(values)),
        Type::Binary(_) | Type::Geometry(_) => Arc::new(hex(values)),
        _ => cast_with_options(values, &DataType::Utf8, &CastOptions::default())
            .map_err(|e| Error::fatal("internal: a value as text").cause(e))?,
    };
    Ok(values.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
}

/// Numbers become the nearest whole ones where the type has only those, as PostgreSQL rounds: decimals away from zero
/// at the half, floats to the even one.
fn rounded(values: &ArrayRef, to: &Type) -> Result<ArrayRef> {
    if !to.arrow().is_integer() {
        return Ok(Arc::clone(values));
    }
    match values.data_type() {
        DataType::Decimal128(digits, _) => cast(values, &DataType::Decimal128(*digits, 0), "a whole number"),
        DataType::Decimal256(digits, _) => cast(values, &DataType::Decimal256(*digits, 0), "a whole number"),
        DataType::Float32 => {
            Ok(Arc::new(values.as_primitive::<Float32Type>().unary::<_, Float32Type>(f32::round_ties_even)))
        }
        DataType::Float64 => {
            Ok(Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::round_ties_even)))
        }
        _ => Ok(Arc::clone(values)),
    }
}

/// Whether a number has become infinite that was not.
fn overflown(before: &ArrayRef, after: &ArrayRef) -> bool {
    let (before, after) = (before.as_primitive_opt::<Float64Type>(), after.as_primitive_opt::<Float32Type>());
    let (Some(before), Some(after)) = (before, after) else { return false };
    before.iter().zip(after).any(|(b, a)| b.is_some_and(f64::is_finite) && a.is_some_and(f32::is_infinite))
}

fn all_json(values: &ArrayRef) -> Result<()> {
    let wrong = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_err();
    match values.as_string::<i32>().iter().flatten().any(wrong) {
        true => Err(Error::new(Class::Table, "a text that is no JSON")),
        false => Ok(()),
    }
}

/// Values of an expression as a column of this type holds them.
///
/// # Errors
/// Class `Table` where one of them does not fit.
pub(super) fn hold(values: &ArrayRef, ty: &Type) -> Result<ArrayRef> {
    let what = format!("a value of type {ty}");
    match (values.data_type(), ty) {
        // A digest, most likely.
        (DataType::Binary, Type::Text(_)) => fit(&(Arc::new(hex(values)) as ArrayRef), ty),
        (_, Type::Uuid) => uuid_bytes(&cast(values, &DataType::Utf8, &what)?),
        (from, Type::Decimal(None)) if from.is_decimal() => Ok(Arc::new(plain(values)?)),
        (_, Type::Decimal(digits)) => {
            let exact = cast(values, &decimal(*digits), &what)?;
            cast(&exact, &DataType::Utf8, &what)
        }
        _ => fit(&cast(values, &ty.arrow(), &what)?, ty),
    }
}

/// Whether values of an expression can ever be those of a column of this type.
pub(super) fn may_hold(from: &DataType, ty: &Type) -> bool {
    let to = match ty {
        Type::Uuid => DataType::Utf8,
        Type::Decimal(digits) => decimal(*digits),
        other => other.arrow(),
    };
    matches!((from, ty), (DataType::Binary, Type::Text(_))) || arrow_cast::can_cast_types(from, &to)
}

fn cast(values: &ArrayRef, to: &DataType, what: &str) -> Result<ArrayRef> {
    if values.data_type() == to {
        return Ok(Arc::clone(values));
    }
    // Not to NULL where a value does not fit.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(values, to, &options).map_err(|e| Error::new(Class::Table, format!("not {what}: {e}")))
}

/// Text that is longer than its column, or none of an enum's labels, is told here, where the row is known.
fn fit(values: &ArrayRef, ty: &Type) -> Result<ArrayRef> {
    let too_long = |most: u32| move |text: &str| text.chars().count() > most as usize;
    let wrong: Box<dyn Fn(&str) -> bool> = match ty {
        Type::Text(Length::AtMost(most) | Length::Exactly(most)) => Box::new(too_long(*most)),
        Type::Enum(labels) => Box::new(move |text| !labels.iter().any(|label| label == text)),
        Type::Int8 => return within(values, i8::MIN.into(), i8::MAX.into(), ty),
        Type::UInt8 => return within(values, 0, u8::MAX.into(), ty),
        Type::UInt16 => return within(values, 0, u16::MAX.into(), ty),
        Type::UInt32 => return within(values, 0, u32::MAX.into(), ty),
        _ => return Ok(Arc::clone(values)),
    };
    match values.as_string::<i32>().iter().flatten().find(|text| wrong(text)) {
        Some(text) => Err(Error::new(Class::Table, format!("{} characters do not fit {ty}", text.chars().count()))),
        None => Ok(Arc::clone(values)),
    }
}

/// Numbers of types whose values stand in wider ones.
fn within(values: &ArrayRef, least: i64, most: i64, ty: &Type) -> Result<ArrayRef> {
    let wide = cast(values, &DataType::Int64, "a whole number")?;
    match wide.as_primitive::<Int64Type>().iter().flatten().any(|n| n < least || n > most) {
        true => Err(Error::new(Class::Table, format!("a number is not from {least} to {most}, as {ty} is"))),
        false => Ok(Arc::clone(values)),
    }
}

/// Decimals of any scale without the zeros that only the widest scale has made.
fn plain(values: &ArrayRef) -> Result<StringArray> {
    let scale = match values.data_type() {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => *scale,
        _ => 0,
    };
    let text = cast(values, &DataType::Utf8, "a number")?;
    let shorter = |text: &str| match text.contains('.') && scale >= UNSAID_SCALE {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    Ok(text.as_string::<i32>().iter().map(|text| text.map(shorter)).collect())
}

fn hex(values: &ArrayRef) -> StringArray {
    let one = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    values.as_binary::<i32>().iter().map(|bytes| bytes.map(one)).collect()
}

fn uuid_text(values: &ArrayRef) -> StringArray {
    let values = values.as_fixed_size_binary();
    let mut out = StringBuilder::with_capacity(values.len(), values.len() * 36);
    for bytes in values {
        out.append_option(bytes.map(|bytes| {
            let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
            [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
        }));
    }
    out.finish()
}

fn uuid_bytes(values: &ArrayRef) -> Result<ArrayRef> {
    let text = values.as_string::<i32>();
    let mut out = FixedSizeBinaryBuilder::with_capacity(text.len(), 16);
    for text in text {
        let Some(text) = text else {
            out.append_null();
            continue;
        };
        let bytes = bytes_of_uuid(text)
            .ok_or_else(|| Error::new(Class::Table, format!("{} characters that are no UUID", text.chars().count())))?;
        out.append_value(bytes).map_err(|e| Error::fatal("internal: a UUID").cause(e))?;
    }
    Ok(Arc::new(out.finish()))
}

fn bytes_of_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u32> = text.chars().filter(|c| *c != '-').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    if digits.len() != 32 {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = (pair[0] * 16 + pair[1]) as u8;
    }
    Some(bytes)
}
