//! Row images: bytes of the log into columns. What a load reads by the binary protocol has to come out the same.
//!
//! Formats: MySQL source documentation, "Rows_log_event", and `Field::pack` of each type.

use std::fmt::Write;

use trem_engine::change::ColumnBuilder;
use trem_engine::schema::{Column, Length, Type};
use trem_engine::{Class, Error, Result};

use super::bytes::Bytes;
use super::table_map::Logged;
use super::temporal;
use crate::mysql::charset::{Charset, Charsets};

/// The bytes of one value of a column, NULL excepted.
pub(crate) fn value<'a>(logged: Logged, bytes: &mut Bytes<'a>) -> Result<&'a [u8]> {
    let Logged { kind, meta } = logged;
    let length = match kind {
        1 | 13 => 1,
        2 => 2,
        9 | 10 | 11 | 14 => 3,
        3 | 4 | 7 => 4,
        5 | 8 | 12 => 8,
        // What stands before the fraction, and the fraction.
        17 => 4 + fraction(meta),
        18 => 5 + fraction(meta),
        19 => 3 + fraction(meta),
        15 => return prefixed(bytes, if meta < 256 { 1 } else { 2 }),
        16 => usize::from(meta >> 8) + usize::from(meta & 0xff != 0),
        242 | 245 | 249..=252 | 255 => return prefixed(bytes, meta.into()),
        246 => decimal_length(meta),
        247 | 248 => usize::from(meta & 0xff),
        253 | 254 => match (meta >> 8) as u8 {
            247 | 248 => usize::from(meta & 0xff),
            // Two bits of a length above 255 are where the real type is, turned over.
            real => {
                let most = (meta & 0xff) | ((u16::from(real) & 0x30) ^ 0x30) << 4;
                return prefixed(bytes, if most < 256 { 1 } else { 2 });
            }
        },
        _ => return Err(Error::fatal(format!("internal: a value of type {kind} in the binary log"))),
    };
    bytes.take(length)
}

fn prefixed<'a>(bytes: &mut Bytes<'a>, prefix: usize) -> Result<&'a [u8]> {
    let length = bytes.little(prefix)? as usize;
    bytes.take(length)
}

/// Bytes of a fraction of so many digits.
fn fraction(digits: u16) -> usize {
    usize::from(digits.div_ceil(2))
}

/// How a column is read.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    ty: Type,
    logged: Logged,
    unsigned: bool,
    charset: Charset,
}

impl Reading {
    /// Of a column that stands in the log like this; `None` where it cannot be read.
    pub(crate) fn new(column: &Column, logged: Logged, charsets: &Charsets) -> Option<Self> {
        let unsigned = column.native.name.contains(" unsigned") || column.native.name.contains(" zerofill");
        let fits = match (&column.ty, logged.kind) {
            (Type::Int8 | Type::UInt8, 1) | (Type::Int16 | Type::UInt16, 2) | (Type::Int32, 3 | 9) => true,
            (Type::UInt32, 3) | (Type::Int64 | Type::UInt64, 8) | (Type::Year, 13) => true,
            (Type::Float32, 4) | (Type::Float64, 5) | (Type::Decimal(_), 246) | (Type::Bit(_), 16) => true,
            (Type::Date, 10 | 14) | (Type::Duration(_), 19) | (Type::Timestamp(_), 18) | (Type::TimestampTz(_), 17) => {
                true
            }
            (Type::Text(_) | Type::Binary(_), 15 | 249..=252 | 253 | 254) => true,
            // MariaDB's is text.
            (Type::Json, 252) => true,
            (Type::Enum(_) | Type::Set(_), 247 | 248 | 254) => true,
            (Type::Uuid, 254) => true,
            _ => false,
        };
        let charset = charsets.get(&column.native.detail)?;
        fits.then(|| Self { ty: column.ty.clone(), logged, unsigned, charset })
    }

    /// The bytes of its next value, NULL excepted.
    pub(crate) fn value<'a>(&self, bytes: &mut Bytes<'a>) -> Result<&'a [u8]> {
        value(self.logged, bytes)
    }

    /// Appends a value.
    pub(crate) fn push(&self, builder: &mut ColumnBuilder, raw: &[u8]) -> Result<()> {
        let mut bytes = Bytes::new(raw);
        match &self.ty {
            Type::Int8 => builder.push_i16((raw_u64(raw) as i8).into()),
            Type::UInt8 => builder.push_i16(raw_u64(raw) as i16),
            Type::Int16 => builder.push_i16(raw_u64(raw) as i16),
            Type::UInt16 => builder.push_i32(raw_u64(raw) as i32),
            Type::Int32 if raw.len() == 3 && !self.unsigned => builder.push_i32((raw_u64(raw) as i32) << 8 >> 8),
            Type::Int32 => builder.push_i32(raw_u64(raw) as i32),
            Type::UInt32 | Type::Int64 => builder.push_i64(raw_u64(raw) as i64),
            Type::UInt64 => builder.push_u64(raw_u64(raw)),
            Type::Float32 => builder.push_f32(f32::from_bits(raw_u64(raw) as u32)),
            Type::Float64 => builder.push_f64(f64::from_bits(raw_u64(raw))),
            Type::Decimal(_) => builder.push_slice(decimal(self.logged.meta, bytes)?.as_bytes()),
            Type::Year => builder.push_i16(year(bytes.byte()?)),
            Type::Date => builder.push_i32(date(raw_u64(raw) as u32)?),
            Type::Duration(_) => builder.push_i64(duration(self.logged.meta, bytes)?),
            Type::Timestamp(_) => builder.push_i64(datetime(self.logged.meta, bytes)?),
            Type::TimestampTz(_) => builder.push_i64(timestamp(self.logged.meta, bytes)?),
            Type::Bit(length) => builder.push_slice(bits(raw, *length).as_bytes()),
            Type::Binary(Length::Exactly(length)) => builder.push_slice(&filled(raw, *length as usize)),
            Type::Binary(_) => builder.push_slice(raw),
            Type::Text(_) | Type::Json => builder.push_slice(&self.charset.decode(raw)?),
            Type::Enum(labels) => builder.push_slice(label(labels, raw_u64(raw))?.as_bytes()),
            Type::Set(labels) => builder.push_slice(chosen(labels, raw_u64(raw))?.as_bytes()),
            Type::Uuid => {
                let whole = filled(raw, 16);
                let whole: &[u8; 16] = whole.as_slice().try_into().map_err(|_| wrong("a UUID"))?;
                builder.push_16(whole)
            }
            other => Err(Error::fatal(format!("internal: a value of type {other} in the binary log"))),
        }
    }
}

fn wrong(what: &str) -> Error {
    Error::new(Class::Table, format!("the binary log has what is not {what}"))
}

/// A number of as many bytes as there are, the least significant first.
fn raw_u64(raw: &[u8]) -> u64 {
    raw.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

/// Bytes of a group of decimal digits.
const GROUP: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

fn decimal_length(meta: u16) -> usize {
    let (precision, scale) = (usize::from(meta >> 8), usize::from(meta & 0xff));
    let whole = precision.saturating_sub(scale);
    whole / 9 * 4 + GROUP[whole % 9] + scale / 9 * 4 + GROUP[scale % 9]
}

/// A decimal as text, its scale kept. (MySQL source, `decimal2bin`: groups of nine digits, the sign turned over into
/// the first bit, all bits of a negative number turned over.)
fn decimal(meta: u16, mut bytes: Bytes<'_>) -> Result<String> {
    let (precision, scale) = (usize::from(meta >> 8), usize::from(meta & 0xff));
    let whole = precision.saturating_sub(scale);
    let mut raw = bytes.take(decimal_length(meta))?.to_vec();
    let negative = raw.first().is_some_and(|first| first & 0x80 == 0);
    if let Some(first) = raw.first_mut() {
        *first ^= 0x80;
    }
    if negative {
        raw.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let mut groups = Bytes::new(&raw);
    let mut digits = String::with_capacity(precision + 3);
    let mut put = |count: usize| -> Result<()> {
        if count > 0 {
            let group = groups.big(GROUP[count])?;
            // Writing to a string does not fail.
            let _ = write!(digits, "{group:0count$}");
        }
        Ok(())
    };
    put(whole % 9)?;
    (0..whole / 9).try_for_each(|_| put(9))?;
    (0..scale / 9).try_for_each(|_| put(9))?;
    put(scale % 9)?;
    let (whole, part) = digits.split_at_checked(whole).ok_or_else(|| wrong("a decimal"))?;
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let zero = whole == "0" && part.bytes().all(|digit| digit == b'0');
    let sign = if negative && !zero { "-" } else { "" };
    Ok(if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") })
}

/// The year of a byte: none of them is 1900. (MySQL manual, "The YEAR Type".)
fn year(byte: u8) -> i16 {
    if byte == 0 { 0 } else { 1900 + i16::from(byte) }
}

/// What no calendar has: the server stores it where its `sql_mode` allows it.
pub(crate) fn no_such_day(year: u32, month: u32, day: u32) -> Error {
    Error::new(Class::Table, format!("the date {year:04}-{month:02}-{day:02} is in no calendar"))
        .remedy("give its rows a date or NULL at the source (UPDATE ...)")
}

fn date(packed: u32) -> Result<i32> {
    let (year, month, day) = (packed >> 9, packed >> 5 & 15, packed & 31);
    temporal::days(year, month, day).ok_or_else(|| no_such_day(year, month, day))
}

/// Microseconds of a fraction of so many digits.
fn micros_of(digits: u16, value: u64) -> i64 {
    value as i64 * [1, 10_000, 100, 1][fraction(digits).min(3)]
}

/// A TIME: hours of up to ten bits, minutes and seconds of six, then the fraction, the whole moved up by half its
/// range; a negative one is the complement of the whole.
fn duration(digits: u16, mut bytes: Bytes<'_>) -> Result<i64> {
    let count = 3 + fraction(digits);
    let moved = 1i64 << (8 * count - 1);
    let packed = bytes.big(count)? as i64 - moved;
    let (negative, packed) = (packed < 0, packed.unsigned_abs());
    let bits = 8 * fraction(digits) as u32;
    let (time, part) = (packed >> bits, packed & ((1 << bits) - 1));
    let seconds = (time >> 12 & 0x3ff) * 3600 + (time >> 6 & 0x3f) * 60 + (time & 0x3f);
    let micros = seconds as i64 * temporal::SECOND + micros_of(digits, part);
    Ok(if negative { -micros } else { micros })
}

/// A DATETIME: 17 bits of year times 13 plus month, five of day, five of hour, six and six, then the fraction.
fn datetime(digits: u16, mut bytes: Bytes<'_>) -> Result<i64> {
    let packed = bytes.big(5)?.wrapping_sub(0x80_0000_0000);
    let part = bytes.big(fraction(digits))?;
    let months = (packed >> 22 & 0x1ffff) as u32;
    let (year, month, day) = (months / 13, months % 13, (packed >> 17 & 0x1f) as u32);
    let time = ((packed >> 12 & 0x1f) as u32, (packed >> 6 & 0x3f) as u32, (packed & 0x3f) as u32);
    let micros = temporal::micros((year, month, day), time, micros_of(digits, part) as u32);
    micros.ok_or_else(|| no_such_day(year, month, day))
}

/// A TIMESTAMP: seconds since 1970-01-01 in UTC, then the fraction. The first moment stands for `0000-00-00`.
fn timestamp(digits: u16, mut bytes: Bytes<'_>) -> Result<i64> {
    let (seconds, part) = (bytes.big(4)?, bytes.big(fraction(digits))?);
    if (seconds, part) == (0, 0) {
        return Err(no_such_day(0, 0, 0));
    }
    Ok(seconds as i64 * temporal::SECOND + micros_of(digits, part))
}

/// Bits as digits, as many as the column has.
pub(crate) fn bits(raw: &[u8], length: Length) -> String {
    let digits: String = raw.iter().map(|byte| format!("{byte:08b}")).collect();
    match length {
        Length::Exactly(count) => {
            let cut = digits.len().saturating_sub(count as usize);
            format!("{:0>1$}", &digits[cut..], count as usize)
        }
        _ => digits,
    }
}

/// The log leaves zero bytes at the end out.
fn filled(raw: &[u8], length: usize) -> Vec<u8> {
    let mut whole = raw.to_vec();
    whole.resize(length.max(raw.len()), 0);
    whole
}

/// Number 0 is what the server has made of a label that there is not: an empty text.
fn label(labels: &[String], number: u64) -> Result<&str> {
    match usize::try_from(number).ok().and_then(|n| n.checked_sub(1)) {
        None => Ok(""),
        Some(at) => labels.get(at).map(String::as_str).ok_or_else(|| wrong("a label of its ENUM")),
    }
}

fn chosen(labels: &[String], set: u64) -> Result<String> {
    if labels.len() > 64 || (labels.len() < 64 && set >> labels.len() != 0) {
        return Err(wrong("a choice of its SET"));
    }
    let chosen = labels.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1).map(|(_, label)| label.as_str());
    Ok(chosen.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Bytes that a server has written, taken down from its log.
    #[test]
    fn negative_times_have_fractions() {
        let time = |digits, raw: &[u8]| duration(digits, Bytes::new(raw)).unwrap();
        assert_eq!(time(2, &[0x7f, 0xff, 0xff, 0xff]), -10_000);
        assert_eq!(time(0, &[0x7f, 0xff, 0xff]), -1_000_000);
        assert_eq!(time(0, &[0x80, 0x00, 0x01]), 1_000_000);
        assert_eq!(time(6, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff]), -1);
        assert_eq!(time(0, &[0xb4, 0x6e, 0xfb]), (838 * 3600 + 59 * 60 + 59) * 1_000_000);
    }

    #[test]
    fn decimals_keep_their_scale() {
        let text = |precision: u16, scale: u16, raw: &[u8]| decimal(precision << 8 | scale, Bytes::new(raw)).unwrap();
        // (MySQL source, comment of `decimal2bin`: 1234567890.1234, and its negative.)
        let positive = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        let negative = [0x7e, 0xf2, 0x04, 0xc7, 0x2d, 0xfb, 0x2d];
        assert_eq!(text(14, 4, &positive), "1234567890.1234");
        assert_eq!(text(14, 4, &negative), "-1234567890.1234");
        assert_eq!(text(3, 2, &[0x80, 0x32]), "0.50");
        assert_eq!(text(2, 0, &[0x80]), "0");
    }

    #[test]
    fn labels_and_bits() {
        let labels = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        assert_eq!((label(&labels, 0).unwrap(), label(&labels, 3).unwrap()), ("", "c"));
        assert!(label(&labels, 4).is_err() && chosen(&labels, 8).is_err());
        assert_eq!(chosen(&labels, 5).unwrap(), "a,c");
        assert_eq!(bits(&[1, 1], Length::Exactly(9)), "100000001");
        assert_eq!(bits(&[1], Length::Exactly(1)), "1");
        assert_eq!((year(0), year(1), year(255)), (0, 1901, 2155));
    }
}
