//! A cursor over the bytes of an event.

use trem_engine::{Error, Result};

/// What is left of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many are left.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of up to eight bytes, the least significant first.
    pub(crate) fn little(&mut self, count: usize) -> Result<u64> {
        Ok(self.take(count)?.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    /// A number of up to eight bytes, the most significant first.
    pub(crate) fn big(&mut self, count: usize) -> Result<u64> {
        Ok(self.take(count)?.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// A number as the protocol packs it. (MySQL manual, "Protocol::LengthEncodedInteger".)
    pub(crate) fn packed(&mut self) -> Result<usize> {
        let number = match self.byte()? {
            0xfc => self.little(2)?,
            0xfd => self.little(3)?,
            0xfe => self.little(8)?,
            small @ 0..=0xfa => small.into(),
            _ => return Err(Error::fatal("the binary log has a length that is none")),
        };
        usize::try_from(number).map_err(|_| short())
    }

    /// Text behind its length.
    pub(crate) fn text(&mut self) -> Result<String> {
        let length = self.packed()?;
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }
}

fn short() -> Error {
    Error::fatal("an event of the binary log is shorter than it says")
}
