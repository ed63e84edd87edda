//! Values that do not tell what was there: the same ones always become the same others.

use std::fmt;
use std::sync::Arc;

use arrow_array::builder::FixedSizeBinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Int16Type, Int32Type, Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, PrimitiveArray, StringArray, UInt64Array, new_null_array};
use arrow_select::take::take;
use trem_engine::schema::{Length, Type};
use trem_engine::{Error, Result};

use crate::digest::Keyed;
use crate::expression::convert;

/// A secret that makes digests others than everybody's.
#[derive(Clone, PartialEq, Eq)]
pub struct Salt(String);

impl Salt {
    /// This one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// How values are masked. NULL stays NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Masking {
    /// By a digest: two different values become two different ones.
    Hash(Salt),
    /// By asterisks, but for so many characters at the end; all of them in a text that has no more.
    KeepLast(usize),
    /// By this value.
    Fixed(String),
    /// By NULL.
    Null,
    /// What is before the `@` by a digest.
    Email(Salt),
    /// By other digits and letters in the same places; everything else stays.
    Format(Salt),
}

impl fmt::Display for Masking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hash(_) => f.write_str("hash"),
            Self::KeepLast(keep) => write!(f, "keep-last {keep}"),
            Self::Fixed(to) => write!(f, "fixed {to:?}"),
            Self::Null => f.write_str("null"),
            Self::Email(_) => f.write_str("email"),
            Self::Format(_) => f.write_str("format"),
        }
    }
}

/// A masking of columns of one type.
#[derive(Clone, Debug)]
pub(crate) struct Mask {
    masking: Masking,
    ty: Type,
    /// Where the masking has a salt.
    keyed: Keyed,
    /// The value of [`Masking::Fixed`].
    fixed: Option<ArrayRef>,
}

/// Hexadecimal digits that two of thousands of millions of values hardly share.
const UNIQUE: u32 = 32;
/// Hexadecimal digits in the place of the name in an address.
const NAME: usize = 16;

impl Mask {
    /// `key`: the column is part of the key.
    ///
    /// # Errors
    /// Class `Refused` where there is no such mask of the type, or where it would make keys equal.
    pub(crate) fn new(masking: &Masking, ty: &Type, key: bool) -> Result<Self> {
        let most = match ty {
            Type::Text(Length::AtMost(most) | Length::Exactly(most)) => *most,
            _ => u32::MAX,
        };
        let equal = match masking {
            Masking::Hash(_) => most < UNIQUE,
            Masking::Email(_) => most < UNIQUE,
            Masking::KeepLast(_) | Masking::Fixed(_) | Masking::Null | Masking::Format(_) => true,
        };
        if key && equal {
            let what = format!("it is part of the key, and {masking} would make keys equal in a column of type {ty}");
            return Err(Error::refused(what).remedy("use mask = \"hash\" on a longer column, or name another key"));
        }
        let is_text = matches!(ty, Type::Text(_));
        let possible = match masking {
            Masking::Hash(_) => is_text || matches!(ty, Type::Uuid) || bits(ty).is_some(),
            Masking::KeepLast(_) | Masking::Email(_) | Masking::Format(_) => is_text,
            Masking::Fixed(_) | Masking::Null => true,
        };
        if !possible {
            let what = format!("there is no mask {masking} of type {ty}");
            return Err(Error::refused(what).remedy("use mask = \"fixed\" or \"null\", or an expression as `value`"));
        }
        let fixed = match masking {
            Masking::Fixed(to) => {
                let text: ArrayRef = Arc::new(StringArray::from(vec![to.as_str()]));
                let fixed = convert(&text, &Type::Text(Length::Unlimited), ty);
                Some(fixed.map_err(|e| Error::refused(e.reason()).remedy("choose another value in `to`"))?)
            }
            _ => None,
        };
        let keyed = match masking {
            Masking::Hash(salt) | Masking::Email(salt) | Masking::Format(salt) => Keyed::new(&salt.0),
            Masking::KeepLast(_) | Masking::Fixed(_) | Masking::Null => Keyed::new(""),
        };
        Ok(Self { masking: masking.clone(), ty: ty.clone(), keyed, fixed })
    }

    /// Tells it apart from others.
    pub(crate) fn mark(&self) -> String {
        format!("{} {}", self.masking, self.keyed.hex("mark"))
    }

    pub(crate) fn values(&self, values: &ArrayRef) -> Result<ArrayRef> {
        match (&self.masking, &self.fixed) {
            (Masking::Null, _) => Ok(new_null_array(&self.ty.arrow(), values.len())),
            (_, Some(fixed)) => {
                let places: UInt64Array = (0..values.len()).map(|row| values.is_valid(row).then_some(0)).collect();
                take(fixed, &places, None).map_err(|e| Error::fatal("internal: a fixed value").cause(e))
            }
            (Masking::Hash(_), _) => self.hashed(values),
            _ => Ok(self.texts(values, |text| match &self.masking {
                Masking::KeepLast(keep) => keep_last(text, *keep),
                Masking::Email(_) => self.address(text),
                _ => self.keyed.shape(text),
            })),
        }
    }

    fn texts(&self, values: &ArrayRef, masked: impl Fn(&str) -> String) -> ArrayRef {
        let masked: StringArray = values.as_string::<i32>().iter().map(|text| text.map(&masked)).collect();
        Arc::new(masked)
    }

    fn hashed(&self, values: &ArrayRef) -> Result<ArrayRef> {
        match &self.ty {
            Type::Uuid => self.uuids(values),
            Type::Int8 | Type::UInt8 | Type::Int16 => Ok(self.numbers::<Int16Type>(values, |n| n.into(), |n| n as i16)),
            Type::Int32 | Type::UInt16 => Ok(self.numbers::<Int32Type>(values, |n| n.into(), |n| n as i32)),
            Type::Int64 | Type::UInt32 => Ok(self.numbers::<Int64Type>(values, |n| n.into(), |n| n as i64)),
            Type::UInt64 => Ok(self.numbers::<UInt64Type>(values, |n| n.into(), |n| n as u64)),
            _ => Ok(self.texts(values, |text| self.cut(self.keyed.hex(text)))),
        }
    }

    /// Numbers of the same sign, as far as the type goes.
    fn numbers<T: ArrowPrimitiveType>(
        &self,
        values: &ArrayRef,
        wide: impl Fn(T::Native) -> i128,
        narrow: impl Fn(i128) -> T::Native,
    ) -> ArrayRef {
        let bits = bits(&self.ty).unwrap_or(63);
        let one = |n: T::Native| {
            let n = wide(n);
            narrow(if n < 0 { -1 - self.other(-1 - n, bits) } else { self.other(n, bits) })
        };
        let masked: PrimitiveArray<T> = values.as_primitive::<T>().unary(one);
        Arc::new(masked)
    }

    fn other(&self, n: i128, bits: u32) -> i128 {
        self.keyed.number(n as u64, bits).into()
    }

    fn uuids(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let values = values.as_fixed_size_binary();
        let mut out = FixedSizeBinaryBuilder::with_capacity(values.len(), 16);
        for bytes in values {
            match bytes {
                Some(bytes) => out.append_value(self.keyed.uuid(bytes)),
                None => {
                    out.append_null();
                    Ok(())
                }
            }
            .map_err(|e| Error::fatal("internal: a UUID").cause(e))?;
        }
        Ok(Arc::new(out.finish()))
    }

    /// The domain stays, so that mail of one company is still that.
    fn address(&self, text: &str) -> String {
        let most = self.most();
        match text.rsplit_once('@') {
            Some((_, domain)) if domain.chars().count() + 1 + NAME <= most => {
                let digest = self.keyed.hex(&text.to_lowercase());
                format!("{}@{domain}", &digest[..NAME])
            }
            _ => self.cut(self.keyed.hex(text)),
        }
    }

    fn most(&self) -> usize {
        match self.ty {
            Type::Text(Length::AtMost(most) | Length::Exactly(most)) => most as usize,
            _ => usize::MAX,
        }
    }

    fn cut(&self, text: String) -> String {
        let most = self.most();
        if text.len() <= most { text } else { text.chars().take(most).collect() }
    }
}

/// Bits of a whole number, without its sign.
fn bits(ty: &Type) -> Option<u32> {
    match ty {
        Type::Int8 => Some(7),
        Type::UInt8 => Some(8),
        Type::Int16 => Some(15),
        Type::UInt16 => Some(16),
        Type::Int32 => Some(31),
        Type::UInt32 => Some(32),
        Type::Int64 => Some(63),
        Type::UInt64 => Some(64),
        _ => None,
    }
}

fn keep_last(text: &str, keep: usize) -> String {
    let count = text.chars().count();
    let hidden = if keep >= count { count } else { count - keep };
    "*".repeat(hidden) + &text.chars().skip(hidden).collect::<String>()
}

#[cfg(test)]
mod tests;
