//! Values of one type as values of another.

use std::fmt;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, StringArray, new_null_array};
use arrow_select::concat::concat;
use trem_engine::schema::{Dialect, Length, Native, Type};
use trem_engine::{Class, Error, Result};

use crate::expression::{convert, converts, text};

/// What becomes of a value that the new type does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMisfit {
    /// The row cannot be done.
    #[default]
    Error,
    /// NULL.
    Null,
    /// The nearest one that fits: the greatest or the least number, the beginning of a text.
    Clamp,
}

impl fmt::Display for OnMisfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "",
            Self::Null => ", NULL where a value does not fit",
            Self::Clamp => ", clamped where a value does not fit",
        })
    }
}

/// A type to convert to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// One that trem knows.
    Canonical(Type),
    /// One that only the target knows: it gets the values as text.
    Native {
        /// The target's dialect.
        dialect: Dialect,
        /// Its name there.
        name: String,
    },
}

impl To {
    pub(crate) fn ty(&self) -> Type {
        match self {
            Self::Canonical(ty) => ty.clone(),
            Self::Native { name, .. } => Type::Named(name.clone()),
        }
    }

    pub(crate) fn native(&self) -> Native {
        match self {
            Self::Canonical(ty) => made(ty),
            Self::Native { dialect, name } => {
                Native { dialect: dialect.clone(), name: name.clone(), detail: String::new() }
            }
        }
    }
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Canonical(ty) => ty.fmt(f),
            Self::Native { dialect, name } => write!(f, "{name} ({dialect})"),
        }
    }
}

/// What a column that a rule has made is called by its database: nothing, so that the target takes what it has for the
/// type.
pub(crate) fn made(ty: &Type) -> Native {
    const MADE: Dialect = Dialect::new("trem");
    Native { dialect: MADE, name: ty.to_string(), detail: String::new() }
}

/// From one type to another.
#[derive(Clone, Debug)]
pub(crate) struct Conversion {
    from: Type,
    to: Type,
    on_misfit: OnMisfit,
}

impl Conversion {
    /// # Errors
    /// Class `Refused` if no value of the one is one of the other.
    pub(crate) fn new(from: &Type, to: &Type, on_misfit: OnMisfit) -> Result<Self> {
        let conversion = Self { from: from.clone(), to: to.clone(), on_misfit };
        let is_binary = matches!(from, Type::Binary(_) | Type::Geometry(_));
        if !converts(from, to) || is_binary && !matches!(to, Type::Binary(_) | Type::Text(_)) {
            let what = format!("no value of type {from} becomes one of type {to}");
            return Err(Error::refused(what).remedy("choose another type, or compute a column with create-column"));
        }
        let clamps = is_number(to) || matches!(to, Type::Text(_));
        if on_misfit == OnMisfit::Clamp && !clamps {
            let what = format!("there is no nearest value of type {to}");
            return Err(Error::refused(what).remedy("use on-misfit = \"null\" or \"error\""));
        }
        Ok(conversion)
    }

    /// What a value may lose although it fits.
    pub(crate) fn loses(&self) -> Option<&'static str> {
        let scale = |ty: &Type| match ty {
            Type::Decimal(Some((_, scale))) => Some(*scale),
            Type::Decimal(None) | Type::Float32 | Type::Float64 => Some(i16::MAX),
            _ => ty.arrow().is_integer().then_some(0),
        };
        let digits = |ty: &Type| match ty {
            Type::Time(digits) | Type::Timestamp(digits) | Type::TimestampTz(digits) => Some(*digits),
            _ => None,
        };
        let has_time = matches!(self.from, Type::Timestamp(_) | Type::TimestampTz(_));
        match &self.to {
            Type::Float32 if matches!(self.from, Type::Float64 | Type::Decimal(_) | Type::Int32 | Type::Int64) => {
                Some("digits beyond the seventh")
            }
            Type::Float64 if matches!(self.from, Type::Decimal(_) | Type::Int64 | Type::UInt64) => {
                Some("digits beyond the fifteenth")
            }
            Type::Float32 | Type::Float64 => None,
            Type::Date if has_time => Some("the time of day"),
            Type::Timestamp(_) if matches!(self.from, Type::TimestampTz(_)) => Some("the time zone"),
            Type::Time(_) if has_time => Some("the day"),
            to if digits(&self.from).zip(digits(to)).is_some_and(|(from, to)| from > to) => {
                Some("fractions of a second")
            }
            to if scale(&self.from).zip(scale(to)).is_some_and(|(from, to)| from > to) => {
                Some("digits after the point, by rounding")
            }
            _ => None,
        }
    }

    /// The values, and how many of them are others because they did not fit.
    ///
    /// # Errors
    /// Class `Table` for a value that does not fit and has no other.
    pub(crate) fn values(&self, values: &ArrayRef) -> Result<(ArrayRef, u64)> {
        let error = match convert(values, &self.from, &self.to) {
            Ok(converted) => return Ok((converted, 0)),
            Err(error) if error.class() == Class::Table && self.on_misfit != OnMisfit::Error => error,
            Err(error) => return Err(error),
        };
        match values.len() {
            0 => Err(error),
            1 => Ok((self.instead(values, error)?, 1)),
            // Where one does not fit is found by halves.
            rows => {
                let (first, one) = self.values(&values.slice(0, rows / 2))?;
                let (second, two) = self.values(&values.slice(rows / 2, rows - rows / 2))?;
                let both = concat(&[first.as_ref(), second.as_ref()]);
                Ok((both.map_err(|e| Error::fatal("internal: converted values").cause(e))?, one + two))
            }
        }
    }

    /// What one value becomes that does not fit.
    fn instead(&self, value: &ArrayRef, error: Error) -> Result<ArrayRef> {
        if self.on_misfit == OnMisfit::Null {
            return Ok(new_null_array(&self.to.arrow(), 1));
        }
        let Some(text) = text(value, &self.from)?.into_iter().next().flatten() else { return Err(error) };
        let Some(nearest) = self.nearest(&text) else { return Err(error) };
        let nearest: ArrayRef = Arc::new(StringArray::from(vec![nearest]));
        convert(&nearest, &Type::Text(Length::Unlimited), &self.to)
    }

    /// The value of the new type that is nearest, as text.
    fn nearest(&self, text: &str) -> Option<String> {
        if let Type::Text(Length::AtMost(most) | Length::Exactly(most)) = self.to {
            return Some(text.chars().take(most as usize).collect());
        }
        let number: f64 = text.trim().parse().ok().filter(|n: &f64| !n.is_nan())?;
        let (least, most) = bounds(&self.to)?;
        Some(if number < 0.0 { least } else { most })
    }
}

fn is_number(ty: &Type) -> bool {
    bounds(ty).is_some()
}

/// The least and the greatest number of a type.
fn bounds(ty: &Type) -> Option<(String, String)> {
    let of = |least: i128, most: i128| Some((least.to_string(), most.to_string()));
    match ty {
        Type::Int8 => of(i8::MIN.into(), i8::MAX.into()),
        Type::Int16 => of(i16::MIN.into(), i16::MAX.into()),
        Type::Int32 => of(i32::MIN.into(), i32::MAX.into()),
        Type::Int64 => of(i64::MIN.into(), i64::MAX.into()),
        Type::UInt8 => of(0, u8::MAX.into()),
        Type::UInt16 => of(0, u16::MAX.into()),
        Type::UInt32 => of(0, u32::MAX.into()),
        Type::UInt64 => of(0, u64::MAX.into()),
        Type::Float32 => Some((f32::MIN.to_string(), f32::MAX.to_string())),
        Type::Decimal(Some((precision, scale @ 0..))) if *precision >= *scale as u16 => {
            let (whole, part) = (usize::from(*precision - *scale as u16), *scale as usize);
            let whole = if whole == 0 { "0".to_owned() } else { "9".repeat(whole) };
            let most = if part == 0 { whole } else { format!("{whole}.{}", "9".repeat(part)) };
            Some((format!("-{most}"), most))
        }
        _ => None,
    }
}
