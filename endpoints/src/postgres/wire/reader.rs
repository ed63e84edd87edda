//! A bounds-checked cursor over bytes from the wire.

use std::fmt;

/// Bytes that do not follow the protocol, and what they were taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server sent bytes that break the protocol, in {}", self.0)
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for trem_engine::Error {
    fn from(e: Malformed) -> Self {
        // TCP delivers what was sent, so the next attempt would meet the same bytes.
        Self::fatal(e.to_string())
    }
}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `n` bytes.
    pub(crate) fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(Malformed(what))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Malformed(what))?;
        self.0 = tail;
        Ok(*head)
    }

    /// A byte.
    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        Ok(self.array::<1>(what)?[0])
    }

    /// A 16-bit count.
    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    /// A signed 16-bit number.
    pub(crate) fn i16(&mut self, what: &'static str) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.array(what)?))
    }

    /// A 32-bit number.
    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    /// A signed 32-bit number.
    pub(crate) fn i32(&mut self, what: &'static str) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array(what)?))
    }

    /// A 64-bit number.
    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }

    /// A signed 64-bit number.
    pub(crate) fn i64(&mut self, what: &'static str) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array(what)?))
    }

    /// Text up to a NUL, which is taken too.
    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str, Malformed> {
        let end = self.0.iter().position(|b| *b == 0).ok_or(Malformed(what))?;
        let bytes = self.take(end, what)?;
        self.u8(what)?;
        std::str::from_utf8(bytes).map_err(|_| Malformed(what))
    }
}
