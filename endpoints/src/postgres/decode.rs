//! Values from the wire, binary or text, into column builders.

use bytes::Bytes;
use trem_engine::change::ColumnBuilder;
use trem_engine::schema::Type;
use trem_engine::time::{days_from_2000, micros_from_2000};
use trem_engine::{Class, Error, Result};

use super::numeric;
use super::types::Wire;
use super::wire::reader::Malformed;
use crate::datetime;

/// From this size on a value is handed on as a slice of what was read.
const SLICE_BYTES: usize = 1 << 20;

/// Appends a value in binary form. `whole` is the message that `value` lies in; `scratch` is emptied.
pub(crate) fn push_binary(
    builder: &mut ColumnBuilder,
    wire: Wire,
    value: &[u8],
    whole: &Bytes,
    scratch: &mut Vec<u8>,
) -> Result<()> {
    match wire {
        Wire::Bool => builder.push_bool(fixed::<1>(value)? != [0]),
        Wire::Int2 => builder.push_i16(i16::from_be_bytes(fixed(value)?)),
        Wire::Int4 => builder.push_i32(i32::from_be_bytes(fixed(value)?)),
        Wire::Int8 | Wire::Time => builder.push_i64(i64::from_be_bytes(fixed(value)?)),
        Wire::Float4 => builder.push_f32(f32::from_be_bytes(fixed(value)?)),
        Wire::Float8 => builder.push_f64(f64::from_be_bytes(fixed(value)?)),
        Wire::Date => builder.push_i32(days_from_2000(i32::from_be_bytes(fixed(value)?))),
        Wire::Timestamp => builder.push_i64(micros_from_2000(i64::from_be_bytes(fixed(value)?))),
        Wire::Uuid => builder.push_16(&fixed(value)?),
        Wire::Numeric => {
            scratch.clear();
            numeric::decode(value, scratch)?;
            builder.push_slice(scratch)
        }
        Wire::Text | Wire::Bytea => push_content(builder, value, whole),
        Wire::Jsonb => match value.split_first() {
            Some((1, text)) => push_content(builder, text, whole),
            _ => Err(Error::new(Class::Table, "a jsonb value of an unknown version")),
        },
        // The column was cast to text by the statement that reads it.
        Wire::TextOnly => push_content(builder, value, whole),
    }
}

/// Appends a value in the form the type's output function gives it.
pub(crate) fn push_text(
    builder: &mut ColumnBuilder,
    ty: &Type,
    value: &[u8],
    whole: &Bytes,
    scratch: &mut Vec<u8>,
) -> Result<()> {
    match ty {
        Type::Bool => match value {
            b"t" => builder.push_bool(true),
            b"f" => builder.push_bool(false),
            _ => Err(unreadable("boolean", value)),
        },
        Type::Int16 => builder.push_i16(parse("smallint", value)?),
        Type::Int32 => builder.push_i32(parse("integer", value)?),
        Type::Int64 => builder.push_i64(parse("bigint", value)?),
        Type::Float32 => builder.push_f32(parse("real", value)?),
        Type::Float64 => builder.push_f64(parse("double precision", value)?),
        Type::Date => builder.push_i32(datetime::parse_date(value)?),
        Type::Time(_) => builder.push_i64(datetime::parse_time(value)?),
        Type::Timestamp(_) | Type::TimestampTz(_) => builder.push_i64(datetime::parse_timestamp(value)?),
        Type::Uuid => builder.push_16(&uuid(value).ok_or_else(|| unreadable("uuid", value))?),
        Type::Binary(_) => {
            scratch.clear();
            unhex(value, scratch).ok_or_else(|| unreadable("bytea", value))?;
            if scratch.len() >= SLICE_BYTES {
                builder.push_bytes(Bytes::from(std::mem::take(scratch)))
            } else {
                builder.push_slice(scratch)
            }
        }
        // Whatever else the server has is carried as its text.
        _ => push_content(builder, value, whole),
    }
}

fn push_content(builder: &mut ColumnBuilder, value: &[u8], whole: &Bytes) -> Result<()> {
    if value.len() >= SLICE_BYTES { builder.push_bytes(whole.slice_ref(value)) } else { builder.push_slice(value) }
}

fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], Malformed> {
    value.try_into().map_err(|_| Malformed("a value of fixed size"))
}

fn parse<T: std::str::FromStr>(what: &str, value: &[u8]) -> Result<T> {
    std::str::from_utf8(value).ok().and_then(|t| t.parse().ok()).ok_or_else(|| unreadable(what, value))
}

fn unreadable(what: &str, value: &[u8]) -> Error {
    Error::new(Class::Table, format!("the server sent a {what} of {} bytes that cannot be read", value.len()))
}

fn digit(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        b'A'..=b'F' => Some(c - b'A' + 10),
        _ => None,
    }
}

fn unhex(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let digits = value.strip_prefix(b"\\x")?;
    out.reserve(digits.len() / 2);
    let (pairs, rest) = digits.as_chunks::<2>();
    for [high, low] in pairs {
        out.push(digit(*high)? << 4 | digit(*low)?);
    }
    rest.is_empty().then_some(())
}

pub(crate) fn uuid(value: &[u8]) -> Option<[u8; 16]> {
    let mut out = [0; 16];
    let mut digits = value.iter().copied().filter(|c| *c != b'-');
    for byte in &mut out {
        *byte = digit(digits.next()?)? << 4 | digit(digits.next()?)?;
    }
    digits.next().is_none().then_some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;
    use trem_engine::schema::Length;

    use super::*;
    use crate::postgres::types::NATIVE;

    const TEXT: Type = Type::Text(Length::Unlimited);

    fn both(ty: &Type, wire: Wire, binary: &[u8], text: &str) {
        let mut scratch = Vec::new();
        let whole = Bytes::copy_from_slice(binary);
        let mut a = ColumnBuilder::new(ty);
        push_binary(&mut a, wire, &whole, &whole, &mut scratch).unwrap();
        let whole = Bytes::copy_from_slice(text.as_bytes());
        let mut b = ColumnBuilder::new(ty);
        push_text(&mut b, ty, &whole, &whole, &mut scratch).unwrap();
        let (a, b) = (a.finish(ty).unwrap(), b.finish(ty).unwrap());
        assert_eq!(format!("{a:?}"), format!("{b:?}"), "{text}");
    }

    #[test]
    fn text_and_binary_are_the_same_value() {
        use Type as L;
        both(&L::Bool, Wire::Bool, &[1], "t");
        both(&L::Date, Wire::Date, &i32::MAX.to_be_bytes(), "infinity");
        both(&L::Date, Wire::Date, &(-2_451_545i32).to_be_bytes(), "4714-11-24 BC");
        both(&L::Time(6), Wire::Time, &86_400_000_000i64.to_be_bytes(), "24:00:00");
        both(&L::Timestamp(6), Wire::Timestamp, &i64::MIN.to_be_bytes(), "-infinity");
        both(&L::Timestamp(6), Wire::Timestamp, &1i64.to_be_bytes(), "2000-01-01 00:00:00.000001");
        both(&L::TimestampTz(6), Wire::Timestamp, &0i64.to_be_bytes(), "2000-01-01 00:00:00+00");
        both(&L::Json, Wire::Jsonb, b"\x01{\"a\": 1}", "{\"a\": 1}");
        both(&L::Binary(Length::Unlimited), Wire::Bytea, b"\x00\xff", "\\x00ff");
        both(&L::Uuid, Wire::Uuid, &[0x11; 16], "11111111-1111-1111-1111-111111111111");
        both(&L::Float64, Wire::Float8, &f64::NAN.to_be_bytes(), "NaN");
        both(&L::Float32, Wire::Float4, &f32::NEG_INFINITY.to_be_bytes(), "-Infinity");
        both(&TEXT, Wire::Text, b"x ", "x ");
    }

    #[test]
    fn a_large_value_is_a_slice_of_the_message() {
        let whole = Bytes::from(vec![b'x'; SLICE_BYTES + 5]);
        let mut builder = ColumnBuilder::new(&TEXT);
        push_content(&mut builder, &whole[5..], &whole).unwrap();
        let array = builder.finish(&TEXT).unwrap();
        let text = array.as_any().downcast_ref::<arrow_array::StringArray>().unwrap();
        assert_eq!(text.value(0).as_ptr(), whole[5..].as_ptr());
    }

    proptest! {
        #[test]
        fn integers_and_floats_agree(i in any::<i64>(), f in any::<f64>(), g in any::<f32>()) {
            both(&Type::Int64, Wire::Int8, &i.to_be_bytes(), &i.to_string());
            both(&Type::Float64, Wire::Float8, &f.to_be_bytes(), &f.to_string());
            both(&Type::Float32, Wire::Float4, &g.to_be_bytes(), &g.to_string());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), at in 0..NATIVE.len()) {
            let (_, _, meaning, wire, _) = NATIVE[at];
            let ty = meaning(-1);
            let whole = Bytes::from(bytes);
            let mut scratch = Vec::new();
            let mut builder = ColumnBuilder::new(&ty);
            let _ = push_binary(&mut builder, wire, &whole, &whole, &mut scratch);
            let _ = push_text(&mut builder, &ty, &whole, &whole, &mut scratch);
        }
    }
}
