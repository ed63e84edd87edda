//! Frames of the PostgreSQL protocol: bytes in, frame or "need more" out.

use bytes::{Buf, Bytes, BytesMut};

use super::reader::Malformed;

/// After a frame of this size the buffer is made anew, or its tail would keep the whole of it in memory.
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

/// How many bytes must be in the buffer before [`split`] gives a frame; the header's size while that is unknown.
pub(crate) fn wanted(buf: &[u8]) -> usize {
    match buf.get(1..HEADER).and_then(|b| <[u8; 4]>::try_from(b).ok()) {
        Some(length) => (u32::from_be_bytes(length) as usize).saturating_add(1),
        None => HEADER,
    }
}

/// Splits the first frame off without copying it; `None` while it is not whole.
pub(crate) fn split(buf: &mut BytesMut) -> Result<Option<Frame>, Malformed> {
    let Some(length) = buf.get(1..HEADER).and_then(|b| <[u8; 4]>::try_from(b).ok()) else { return Ok(None) };
    let length = i32::from_be_bytes(length);
    let content = usize::try_from(length).ok().and_then(|l| l.checked_sub(4)).ok_or(Malformed("a message's length"))?;
    if buf.len() < HEADER + content {
        return Ok(None);
    }
    let tag = buf[0];
    buf.advance(HEADER);
    let body = buf.split_to(content).freeze();
    if content >= LARGE {
        let tail = BytesMut::from(&buf[..]);
        *buf = tail;
    }
    Ok(Some(Frame { tag, body }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_come_whole_or_not_at_all() {
        let mut buf = BytesMut::from(&b"Z\0\0\0\x05IC\0\0\0\x06o"[..]);
        assert_eq!(split(&mut buf).unwrap(), Some(Frame { tag: b'Z', body: Bytes::from_static(b"I") }));
        assert_eq!(wanted(&buf), 7);
        assert_eq!(split(&mut buf).unwrap(), None);
        buf.extend_from_slice(b"k");
        assert_eq!(split(&mut buf).unwrap(), Some(Frame { tag: b'C', body: Bytes::from_static(b"ok") }));
        assert_eq!(split(&mut buf).unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_a_wait_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut buf = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = split(&mut buf) {
                prop_assert!(frame.body.len() < bytes.len());
            }
        }
    }
}
