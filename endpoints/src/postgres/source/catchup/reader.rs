//! Reads chunks ahead of whoever takes them in, so that the source decodes the next chunk while the target still works
//! on the last one. What lies between the two is bounded in bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use trem_engine::{Error, Result};

use super::super::{Inner, lsn};
use crate::postgres::quote;
use crate::postgres::wire::copy::CopyDecoder;
use crate::postgres::wire::frame::Frame;
use crate::postgres::wire::{Conn, TextRow, server_error, text_row};

/// From this much unread log on, reading it in chunks pays.
pub(super) const WORTH_BYTES: u64 = 16 << 20;
/// And once it is read so, down to this.
pub(super) const REST_BYTES: u64 = 1 << 20;
/// A chunk is decoded from the slot's restart point on. What lies before the chunk costs a fraction of what the chunk
/// itself does; but when an old transaction holds that point, streaming is cheaper from here on.
const AGAIN_BYTES: u64 = 2 << 30;
/// A chunk is materialised at the source; this much of it is wanted: the least, unless so much is to be decoded again
/// for each chunk that only longer ones pay.
const CHUNK_BYTES: std::ops::RangeInclusive<u64> = 32 << 20..=512 << 20;
/// And at least so many changes, whatever their size.
const LEAST_CHANGES: u64 = 1_000;
/// The first chunk is short, so that the target has something to do, and they grow by this factor.
const FIRST_CHANGES: u64 = 2_000;
const GROWTH: u64 = 3;
/// How much may have been read and not yet taken in.
const AHEAD_BYTES: usize = 16 << 20;

/// Some messages of the log, and perhaps the end of their chunk.
pub(super) struct Block {
    pub(super) messages: std::vec::IntoIter<Bytes>,
    pub(super) end: Option<End>,
    /// Their share of what may lie between.
    _room: OwnedSemaphorePermit,
}

/// Everything before `reached` has been read.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) reached: u64,
    pub(super) next: Next,
}

/// What follows a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Next {
    /// Another chunk.
    Chunk,
    /// Nothing: little is left, or little was when the chunk was asked for.
    Settle,
    /// Nothing, and however much is left, a walsender reads it faster.
    Stream,
}

/// The reading half.
pub(super) struct Reader {
    inner: Arc<Inner>,
    conn: Conn,
    /// The temporary copy of the slot.
    slot: String,
    options: String,
    decoder: CopyDecoder,
    changes: u64,
    read_changes: u64,
    read_bytes: u64,
    ended: Option<Place>,
    /// Where the chunk before was decoded from.
    restart: u64,
    room: Arc<Semaphore>,
    blocks: mpsc::UnboundedSender<Result<Block>>,
}

impl Reader {
    pub(super) fn new(
        inner: &Arc<Inner>,
        conn: Conn,
        slot: String,
        binary: bool,
        blocks: mpsc::UnboundedSender<Result<Block>>,
    ) -> Self {
        let options = format!(
            "'proto_version', '1', 'publication_names', {}, 'binary', '{binary}'",
            quote::literal(&quote::ident(&inner.name))
        );
        Self {
            inner: Arc::clone(inner),
            conn,
            slot,
            options,
            decoder: CopyDecoder::default(),
            changes: FIRST_CHANGES,
            read_changes: 0,
            read_bytes: 0,
            ended: None,
            restart: 0,
            room: Arc::new(Semaphore::new(AHEAD_BYTES)),
            blocks,
        }
    }

    /// Reads chunks until another one does not pay, or nobody takes them.
    pub(super) async fn run(mut self) {
        if let Err(e) = self.read_all().await {
            // Without a taker nobody wants to know.
            let _ = self.blocks.send(Err(e));
        }
    }

    async fn read_all(&mut self) -> Result<()> {
        self.ask();
        loop {
            self.conn.flush().await?;
            self.conn.read().await?;
            let mut messages = Vec::new();
            let mut end = None;
            let before = self.read_bytes;
            while let Some(frame) = self.conn.buffered()? {
                match frame.tag {
                    b'E' => return Err(self.failed(&frame)),
                    b'd' => messages.extend(self.message(&frame.body)?),
                    b'D' => self.ended = Some(place(&text_row(&frame.body)?)?),
                    b'Z' => end = Some(self.end()?),
                    _ => {}
                }
            }
            if messages.is_empty() && end.is_none() {
                continue;
            }
            let bytes = usize::try_from(self.read_bytes.saturating_sub(before)).unwrap_or(AHEAD_BYTES);
            let last = end.is_some_and(|e| e.next != Next::Chunk);
            if end.is_some() && !last {
                // The source works on it while there may be no room for what has come.
                self.ask();
                self.conn.flush().await?;
            }
            let share = u32::try_from(bytes.clamp(1, AHEAD_BYTES)).unwrap_or(1);
            let room = Arc::clone(&self.room).acquire_many_owned(share).await;
            let _room = room.map_err(|e| Error::fatal("internal: the room between reader and taker").cause(e))?;
            let gone = self.blocks.send(Ok(Block { messages: messages.into_iter(), end, _room })).is_err();
            if gone || last {
                return Ok(());
            }
        }
    }

    /// Asks for the next chunk.
    fn ask(&mut self) {
        let slot = quote::literal(&self.slot);
        let sql = format!(
            "COPY (SELECT data FROM pg_catalog.pg_logical_slot_get_binary_changes({slot}, NULL, {}, {})) \
             TO STDOUT (FORMAT binary); \
             SELECT confirmed_flush_lsn::text, pg_current_wal_lsn()::text, restart_lsn::text \
             FROM pg_catalog.pg_replication_slots WHERE slot_name = {slot}\0",
            self.changes, self.options
        );
        (self.read_changes, self.read_bytes, self.ended) = (0, 0, None);
        self.decoder = CopyDecoder::default();
        self.conn.queue(b'Q', sql.as_bytes());
    }

    fn message(&mut self, body: &Bytes) -> Result<Option<Bytes>> {
        let Some(mut row) = self.decoder.row(body)? else { return Ok(None) };
        let Some(data) = row.field()? else { return Ok(None) };
        self.read_changes += 1;
        self.read_bytes += data.len() as u64;
        Ok(Some(body.slice_ref(data)))
    }

    /// The next chunk's length follows the size of the changes met.
    fn end(&mut self) -> Result<End> {
        let place = self.ended.ok_or_else(no_end)?;
        tracing::debug!(
            slot = self.inner.name,
            changes = self.read_changes,
            bytes = self.read_bytes,
            reached = %lsn::text(place.reached),
            restart = %lsn::text(place.restart),
            "read a chunk of the log"
        );
        let cut = self.read_changes >= self.changes;
        if let Some(each) = self.read_bytes.checked_div(self.read_changes) {
            let again = place.reached.saturating_sub(place.restart);
            let bytes = (again / 2).clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end());
            self.changes = (bytes / each.max(1)).min(self.changes.saturating_mul(GROWTH)).max(LEAST_CHANGES);
        }
        let next = place.next(self.restart, cut);
        self.restart = place.restart;
        Ok(End { reached: place.reached, next })
    }

    fn failed(&self, frame: &Frame) -> Error {
        // Whatever it was, the walsender may fare better: a transaction too large for the source's disk, say.
        self.inner.stream_only.store(true, Ordering::Relaxed);
        let error = server_error(&frame.body);
        Error::transient("catching up in chunks failed: the backlog is streamed instead").cause(error)
    }
}

/// Where a chunk ended.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Everything before it has been read.
    reached: u64,
    /// The end of the server's log.
    current: u64,
    /// Where the next chunk is decoded from.
    restart: u64,
}

impl Place {
    /// What pays next. `before`: where this chunk was decoded from; `cut`: it ended by its length, and not by the end
    /// of the log.
    fn next(self, before: u64, cut: bool) -> Next {
        let held = self.restart <= before && self.reached.saturating_sub(self.restart) > AGAIN_BYTES;
        let least = if cut { REST_BYTES } else { WORTH_BYTES };
        if self.current.saturating_sub(self.reached) < least {
            Next::Settle
        } else if held {
            Next::Stream
        } else {
            Next::Chunk
        }
    }
}

fn place(row: &TextRow) -> Result<Place> {
    match row.as_slice() {
        [Some(reached), Some(current), Some(restart)] => {
            Ok(Place { reached: lsn::parse(reached)?, current: lsn::parse(current)?, restart: lsn::parse(restart)? })
        }
        _ => Err(no_end()),
    }
}

fn no_end() -> Error {
    Error::transient("the server did not say where a chunk of the log ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_restart_point_ends_catching_up() {
        let place = |reached, restart| Place { reached, current: 10 << 30, restart };
        assert_eq!(place(3 << 30, 1 << 20).next(0, true), Next::Chunk, "it moves on");
        assert_eq!(place(200 << 20, 5).next(5, true), Next::Chunk, "little is decoded again");
        assert_eq!(place(3 << 30, 5).next(5, true), Next::Stream);
        assert_eq!(place((10 << 30) - 1, 9 << 30).next(5, true), Next::Settle, "nothing is left");
        let near = place((10 << 30) - (2 << 20), 9 << 30);
        assert_eq!(near.next(5, true), Next::Chunk);
        assert_eq!(near.next(5, false), Next::Settle, "what came meanwhile is streamed");
    }
}
