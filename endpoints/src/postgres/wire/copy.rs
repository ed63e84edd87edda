//! The binary COPY format: one CopyData message is one row, the header and the trailer excepted.

use bytes::Bytes;

use super::reader::{Malformed, Reader};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Reads the rows of a COPY stream, message by message.
#[derive(Debug, Default)]
pub(crate) struct CopyDecoder {
    started: bool,
}

/// The fields of one row; `None` is NULL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyRow<'a> {
    rest: Reader<'a>,
    /// Number of fields.
    pub(crate) columns: usize,
}

impl<'a> CopyRow<'a> {
    /// The row in a message that is known to hold one.
    pub(crate) fn of(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut decoder = CopyDecoder { started: true };
        decoder.row(message)?.ok_or(Malformed("a COPY row"))
    }

    /// The row alone, as a message that [`CopyRow::of`] reads.
    pub(crate) fn message(&self, whole: &Bytes) -> Bytes {
        let count = size_of::<i16>();
        whole.slice(whole.len().saturating_sub(self.rest.0.len() + count)..)
    }

    /// The next field.
    pub(crate) fn field(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.rest.i32("a field of a COPY row")? {
            -1 => Ok(None),
            n => {
                let length = usize::try_from(n).map_err(|_| Malformed("a field of a COPY row"))?;
                self.rest.take(length, "a field of a COPY row").map(Some)
            }
        }
    }
}

impl CopyDecoder {
    /// The row in this message; `None` for the header alone and for the trailer.
    pub(crate) fn row<'a>(&mut self, message: &'a [u8]) -> Result<Option<CopyRow<'a>>, Malformed> {
        let mut r = Reader(message);
        if !self.started {
            if r.take(SIGNATURE.len(), "the COPY header")? != SIGNATURE {
                return Err(Malformed("the COPY header"));
            }
            r.u32("the COPY header")?;
            let extension = r.u32("the COPY header")? as usize;
            r.take(extension, "the COPY header")?;
            self.started = true;
            // PostgreSQL up to 17 sends the first row in the header's message, later ones may not.
            if r.0.is_empty() {
                return Ok(None);
            }
        }
        match r.i16("a COPY row")? {
            -1 => Ok(None),
            n => {
                let columns = usize::try_from(n).map_err(|_| Malformed("a COPY row"))?;
                Ok(Some(CopyRow { rest: r, columns }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn header_row_and_trailer() {
        let mut decoder = CopyDecoder::default();
        let mut first = SIGNATURE.to_vec();
        first.extend_from_slice(&[0; 8]);
        assert!(decoder.row(&first).unwrap().is_none());
        let mut row = decoder.row(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff").unwrap().unwrap();
        assert_eq!(row.columns, 2);
        assert_eq!(row.field().unwrap(), Some(&b"a"[..]));
        assert_eq!(row.field().unwrap(), None);
        assert!(row.field().is_err());
        assert!(decoder.row(b"\xff\xff").unwrap().is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut decoder = CopyDecoder { started: true };
            if let Ok(Some(mut row)) = decoder.row(&bytes) {
                while row.field().is_ok() {}
            }
        }
    }
}
