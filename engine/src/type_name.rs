//! Canonical types by the names that people write: those that [`Type`] prints.

use std::str::FromStr;

use crate::types::{Length, Type};

/// The names, for messages.
pub const NAMES: &str = "bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, decimal(digits,scale), \
    float32, float64, text, text(length), char(length), varbinary, date, time, timestamp, timestamptz, interval, uuid, \
    json, xml";

/// A text that is no type's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoType;

impl FromStr for Type {
    type Err = NoType;

    fn from_str(text: &str) -> Result<Self, NoType> {
        let text = text.trim();
        let (name, sizes) = match text.split_once('(') {
            Some((name, rest)) => (name.trim_end(), sizes(rest.strip_suffix(')').ok_or(NoType)?)?),
            None => (text, Vec::new()),
        };
        let digits = |most: u8| match sizes[..] {
            [] => Ok(most),
            [digits] => u8::try_from(digits).ok().filter(|d| *d <= most).ok_or(NoType),
            _ => Err(NoType),
        };
        let length = |of: fn(u32) -> Length| match sizes[..] {
            [] => Ok(Length::Unlimited),
            [length] => u32::try_from(length).ok().filter(|n| *n > 0).map(of).ok_or(NoType),
            _ => Err(NoType),
        };
        Ok(match name {
            "decimal" => match sizes[..] {
                [] => Self::Decimal(None),
                [precision] => Self::Decimal(Some((u16::try_from(precision).map_err(|_| NoType)?, 0))),
                [precision, scale] => {
                    let precision = u16::try_from(precision).map_err(|_| NoType)?;
                    Self::Decimal(Some((precision, i16::try_from(scale).map_err(|_| NoType)?)))
                }
                _ => return Err(NoType),
            },
            "text" => Self::Text(length(Length::AtMost)?),
            "char" if !sizes.is_empty() => Self::Text(length(Length::Exactly)?),
            "varbinary" => Self::Binary(length(Length::AtMost)?),
            "time" => Self::Time(digits(6)?),
            "timestamp" => Self::Timestamp(digits(6)?),
            "timestamptz" => Self::TimestampTz(digits(6)?),
            _ if !sizes.is_empty() => return Err(NoType),
            "bool" => Self::Bool,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "uint8" => Self::UInt8,
            "uint16" => Self::UInt16,
            "uint32" => Self::UInt32,
            "uint64" => Self::UInt64,
            "float32" => Self::Float32,
            "float64" => Self::Float64,
            "date" => Self::Date,
            "interval" => Self::Interval,
            "uuid" => Self::Uuid,
            "json" => Self::Json,
            "xml" => Self::Xml,
            _ => return Err(NoType),
        })
    }
}

fn sizes(text: &str) -> Result<Vec<i64>, NoType> {
    text.split(',').map(|size| size.trim().parse().map_err(|_| NoType)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        for ty in [
            Type::Bool,
            Type::UInt64,
            Type::Decimal(None),
            Type::Decimal(Some((10, 2))),
            Type::Decimal(Some((3, -2))),
            Type::Text(Length::Unlimited),
            Type::Text(Length::AtMost(20)),
            Type::Text(Length::Exactly(2)),
            Type::Binary(Length::Unlimited),
            Type::Time(3),
            Type::TimestampTz(6),
            Type::Uuid,
            Type::Json,
        ] {
            assert_eq!(ty.to_string().parse(), Ok(ty));
        }
        assert_eq!(" decimal ( 10 , 2 ) ".parse(), Ok(Type::Decimal(Some((10, 2)))));
        assert_eq!("timestamp".parse(), Ok(Type::Timestamp(6)));
    }

    #[test]
    fn nothing_else_is() {
        for text in ["", "int", "text(0)", "text(-1)", "text(1", "char", "time(7)", "decimal(1,2,3)", "bool(1)", "TEXT"]
        {
            assert_eq!(text.parse::<Type>(), Err(NoType), "{text}");
        }
    }

    #[test]
    fn the_names_of_messages_are_names() {
        for name in NAMES.replace("digits,scale", "digits;scale").split(", ") {
            let name = name.replace("digits;scale", "10,2").replace("length", "10");
            assert!(name.parse::<Type>().is_ok(), "{name}");
        }
    }
}
