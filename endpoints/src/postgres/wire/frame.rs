//! Frames of the PostgreSQL protocol: bytes in, frames or "need more" out.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::reader::Malformed;

/// When so much is split off the buffer is made anew, or its tail would keep the whole of it in memory.
const LARGE: usize = 1 << 20;
/// What a header takes: a tag and a length that counts itself.
pub(crate) const HEADER: usize = 5;

/// One message: its tag and what follows the length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The message's tag.
    pub(crate) tag: u8,
    /// The content, a slice of the read buffer.
    pub(crate) body: Bytes,
}

/// How many bytes must be in the buffer before [`split_whole`] gives a frame; the header's size while that is unknown.
pub(crate) fn wanted(buf: &[u8]) -> usize {
    match buf.get(1..HEADER).and_then(|b| <[u8; 4]>::try_from(b).ok()) {
        Some(length) => (u32::from_be_bytes(length) as usize).saturating_add(1),
        None => HEADER,
    }
}

/// Splits all whole frames off without copying them; empty while there is none.
pub(crate) fn split_whole(buf: &mut BytesMut) -> Result<Bytes, Malformed> {
    let mut end = 0;
    while let Some(content) = first(&buf[end..])? {
        end += HEADER + content.len();
    }
    if end == 0 {
        return Ok(Bytes::new());
    }
    let whole = buf.split_to(end).freeze();
    if end >= LARGE {
        let tail = BytesMut::from(&buf[..]);
        *buf = tail;
    }
    Ok(whole)
}

/// Where the content of the first frame lies; `None` while it is not whole.
pub(crate) fn first(buf: &[u8]) -> Result<Option<Range<usize>>, Malformed> {
    let Some(length) = buf.get(1..HEADER).and_then(|b| <[u8; 4]>::try_from(b).ok()) else { return Ok(None) };
    let length = i32::from_be_bytes(length);
    let content = usize::try_from(length).ok().and_then(|l| l.checked_sub(4)).ok_or(Malformed("a message's length"))?;
    Ok((buf.len() - HEADER >= content).then_some(HEADER..HEADER + content))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_come_whole_or_not_at_all() {
        let mut buf = BytesMut::from(&b"Z\0\0\0\x05IN\0\0\0\x04C\0\0\0\x06o"[..]);
        let whole = split_whole(&mut buf).unwrap();
        assert_eq!(whole, &b"Z\0\0\0\x05IN\0\0\0\x04"[..]);
        assert_eq!(first(&whole).unwrap(), Some(5..6));
        assert_eq!(first(&whole[6..]).unwrap(), Some(5..5));
        assert_eq!(wanted(&buf), 7);
        assert_eq!(split_whole(&mut buf).unwrap(), Bytes::new());
        buf.extend_from_slice(b"k");
        assert_eq!(split_whole(&mut buf).unwrap(), &b"C\0\0\0\x06ok"[..]);
        assert_eq!(buf, &b""[..]);
    }

    #[test]
    fn a_length_that_cannot_be_is_refused() {
        for length in [[0, 0, 0, 3], [0xff; 4]] {
            let mut buf = BytesMut::from(&b"C"[..]);
            buf.extend_from_slice(&length);
            assert!(split_whole(&mut buf).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_a_wait_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut buf = BytesMut::from(&bytes[..]);
            if let Ok(whole) = split_whole(&mut buf) {
                prop_assert_eq!([&whole[..], &buf[..]].concat(), bytes);
                let mut rest = &whole[..];
                while let Some(content) = first(rest).unwrap() {
                    rest = &rest[content.end..];
                }
                prop_assert!(rest.is_empty());
            }
        }
    }
}
