//! A connection of our own: the driver used for ordinary SQL can neither replicate nor hand out COPY data
//! without a copy for each row.
//!
//! The codecs ([`frame`], [`pgoutput`], [`copy`]) do no IO; [`Conn`] moves bytes and knows the simple protocol.

mod auth;
pub(crate) mod copy;
pub(crate) mod frame;
pub(crate) mod pgoutput;
pub(crate) mod reader;

use std::fmt;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::backend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trem_engine::{Error, Result};

use self::frame::Frame;
use self::reader::{Malformed, Reader};
use super::sqlstate;
use super::transport::Transport;

/// How much is asked of the socket at a time.
const READ_BYTES: usize = 256 << 10;

/// A connection in the simple protocol.
pub(crate) struct Conn {
    socket: Transport,
    input: BytesMut,
    /// Whole messages of the input.
    whole: Bytes,
    /// Bytes of it that have been lent out.
    lent: usize,
    output: BytesMut,
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").field("buffered", &(self.whole.len() + self.input.len())).finish_non_exhaustive()
    }
}

/// A message that is lent until the next one is asked for.
pub(crate) struct Lent<'a> {
    pub(crate) tag: u8,
    pub(crate) body: &'a [u8],
    /// What the body is a part of.
    pub(crate) whole: &'a Bytes,
}

/// The next piece of a copy.
pub(crate) enum Copied<'a> {
    /// The content of a CopyData.
    Data(Lent<'a>),
    /// The copy and its statement have ended.
    End,
    /// Nothing whole is in the buffer: it is to be read on.
    More,
}

/// A row of a simple query.
pub(crate) type TextRow = Vec<Option<String>>;

impl Conn {
    fn new(socket: Transport) -> Self {
        let (input, output) = (BytesMut::with_capacity(READ_BYTES), BytesMut::new());
        Self { socket, input, whole: Bytes::new(), lent: 0, output }
    }

    /// Where in `whole` the next message is that is in the buffer already: its tag and its content.
    fn next_whole(&mut self) -> Result<Option<(u8, Range<usize>)>> {
        self.whole.advance(std::mem::take(&mut self.lent));
        if self.whole.is_empty() {
            self.whole = frame::split_whole(&mut self.input)?;
        }
        Ok(frame::first(&self.whole)?.map(|content| (self.whole[0], content)))
    }

    /// The next message that is in the buffer already.
    pub(crate) fn buffered(&mut self) -> Result<Option<Frame>> {
        let Some((tag, content)) = self.next_whole()? else { return Ok(None) };
        let mut message = self.whole.split_to(content.end);
        message.advance(content.start);
        Ok(Some(Frame { tag, body: message }))
    }

    /// As [`Conn::buffered`], without a share of the buffer for each.
    pub(crate) fn lend(&mut self) -> Result<Option<Lent<'_>>> {
        Ok(self.next_whole()?.map(|(tag, content)| self.lend_at(tag, content)))
    }

    fn lend_at(&mut self, tag: u8, content: Range<usize>) -> Lent<'_> {
        self.lent = content.end;
        Lent { tag, body: &self.whole[content], whole: &self.whole }
    }

    /// Reads once from the socket. Cancel-safe.
    pub(crate) async fn read(&mut self) -> Result<()> {
        let missing = frame::wanted(&self.input).saturating_sub(self.input.len());
        self.input.reserve(missing.max(READ_BYTES / 2));
        match self.socket.read_buf(&mut self.input).await {
            Ok(0) => Err(Error::transient("the source's server closed the connection")),
            Ok(_) => Ok(()),
            Err(e) => Err(lost(e)),
        }
    }

    /// The next message, whatever it is. Cancel-safe.
    async fn any(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            self.read().await?;
        }
    }

    /// The next message that is not a notice, a parameter or a notification; an error message is an error.
    pub(crate) async fn next(&mut self) -> Result<Frame> {
        loop {
            let frame = self.any().await?;
            if let Some(frame) = sift(frame)? {
                return Ok(frame);
            }
        }
    }

    /// Puts bytes into the output buffer; [`Conn::flush`] sends them.
    pub(crate) fn queue(&mut self, tag: u8, body: &[u8]) {
        self.output.extend_from_slice(&[tag]);
        // Messages written here are short statements and status reports.
        self.output.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        self.output.extend_from_slice(body);
    }

    /// Sends what is queued. Cancel-safe: what has not been sent stays queued.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        while !self.output.is_empty() {
            match self.socket.write_buf(&mut self.output).await {
                Ok(0) => return Err(Error::transient("the source's server closed the connection")),
                Ok(_) => {}
                Err(e) => return Err(lost(e)),
            }
        }
        self.socket.flush().await.map_err(lost)
    }

    async fn send_query(&mut self, sql: &str) -> Result<()> {
        let mut body = Vec::with_capacity(sql.len() + 1);
        body.extend_from_slice(sql.as_bytes());
        body.push(0);
        self.queue(b'Q', &body);
        self.flush().await
    }

    /// Runs statements and returns the rows of all, as text.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Vec<TextRow>> {
        self.send_query(sql).await?;
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            let frame = match self.any().await {
                Ok(frame) => frame,
                // The server says why before it closes.
                Err(e) => return Err(failed.unwrap_or(e)),
            };
            match frame.tag {
                b'Z' => return failed.map_or(Ok(rows), Err),
                b'D' => rows.push(text_row(&frame.body)?),
                b'E' => failed = Some(server_error(&frame.body)),
                _ => {}
            }
        }
    }

    /// Starts a statement that answers with CopyOutResponse (`H`) or CopyBothResponse (`W`).
    ///
    /// After an error the connection is not to be used again.
    pub(crate) async fn start_copy(&mut self, sql: &str) -> Result<()> {
        self.send_query(sql).await?;
        loop {
            match self.next().await?.tag {
                b'H' | b'W' => return Ok(()),
                b'Z' => return Err(Error::fatal("the server did not start the copy that was asked for")),
                _ => {}
            }
        }
    }

    /// What of a copy is in the buffer already.
    pub(crate) fn copied(&mut self) -> Result<Copied<'_>> {
        while let Some((tag, content)) = self.next_whole()? {
            match tag {
                b'd' => return Ok(Copied::Data(self.lend_at(tag, content))),
                b'Z' => {
                    self.buffered()?;
                    return Ok(Copied::End);
                }
                _ => drop(self.buffered()?.map(sift).transpose()?),
            }
        }
        Ok(Copied::More)
    }

    /// The content of the next CopyData; `None` after the end of the copy and of its statement.
    pub(crate) async fn copy_data(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.copied()? {
                Copied::Data(data) => return Ok(Some(data.whole.slice_ref(data.body))),
                Copied::End => return Ok(None),
                Copied::More => self.read().await?,
            }
        }
    }
}

/// Keeps what matters: notices, parameters and notifications are dropped, an error message becomes an error.
pub(crate) fn sift(frame: Frame) -> Result<Option<Frame>> {
    match frame.tag {
        b'N' | b'S' | b'A' => Ok(None),
        b'E' => Err(server_error(&frame.body)),
        _ => Ok(Some(frame)),
    }
}

/// The fields of a DataRow message in text form.
pub(crate) fn text_row(body: &[u8]) -> Result<TextRow, Malformed> {
    let mut r = Reader(body);
    let count = r.u16("a row")?;
    let mut row = Vec::with_capacity(usize::from(count).min(body.len()));
    for _ in 0..count {
        let length = r.i32("a row")?;
        row.push(match usize::try_from(length) {
            Ok(n) => Some(String::from_utf8_lossy(r.take(n, "a row")?).into_owned()),
            Err(_) => None,
        });
    }
    Ok(row)
}

/// The error that an ErrorResponse message tells of.
pub(crate) fn server_error(body: &[u8]) -> Error {
    let mut message = BytesMut::with_capacity(frame::HEADER + body.len());
    message.extend_from_slice(b"E");
    message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(body);
    match backend::Message::parse(&mut message) {
        Ok(Some(backend::Message::ErrorResponse(body))) => sqlstate::response(&body),
        _ => Malformed("an error message").into(),
    }
}

fn lost(e: std::io::Error) -> Error {
    Error::transient("the connection to the source was lost").cause(e)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn an_error_message_keeps_its_words_and_code() {
        let e = server_error(b"SERROR\0C55006\0Mreplication slot \"trem_x\" is active for PID 7\0\0");
        assert!(e.to_string().contains("is active for PID 7"), "{e}");
    }

    #[test]
    fn rows_of_text() {
        assert_eq!(text_row(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff").unwrap(), [Some("a".to_owned()), None]);
        assert!(text_row(b"\0\x02\0\0\0\x05a").is_err());
    }
}
