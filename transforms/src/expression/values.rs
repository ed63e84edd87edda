//! Between the values that trem carries and those that an expression computes with.
//!
//! Most are the same. Decimals, which trem carries as text to keep `1.50` and `NaN`, are decimals inside an expression;
//! UUIDs, which it carries as bytes, are text.

use std::sync::Arc;

use arrow_array::builder::{FixedSizeBinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray;
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
        _ => return Ok(Arc::clone(values)),
    };
    match values.as_string::<i32>().iter().flatten().find(|text| wrong(text)) {
        Some(text) => Err(Error::new(Class::Table, format!("{} characters do not fit {ty}", text.chars().count()))),
        None => Ok(Arc::clone(values)),
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
