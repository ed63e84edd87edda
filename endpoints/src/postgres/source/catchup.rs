//! Catching up: the same log, read in chunks through SQL.
//!
//! A walsender sends one message at a time and waits for the socket after each; the SQL interface to logical decoding
//! hands over a chunk at once, several times as fast. The chunks are consumed from a temporary copy of the task's
//! slot, which dies with its session; the slot itself stays where the target durably is, and is moved on from time
//! to time so that the server can let go of its log. (`pg_copy_logical_replication_slot`,
//! `pg_logical_slot_get_binary_changes`, `pg_replication_slot_advance`: PostgreSQL manual, "Replication Management
//! Functions".)

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use trem_engine::{Error, Result};

use super::{Inner, lsn};
use crate::postgres::quote;
use crate::postgres::sqlstate;
use crate::postgres::wire::copy::CopyDecoder;
use crate::postgres::wire::frame::Frame;
use crate::postgres::wire::{Conn, TextRow, text_row};

/// From this much unread log on, reading it in chunks pays.
const WORTH_BYTES: u64 = 16 << 20;
/// A chunk is decoded from the slot's restart point on, which an old transaction holds: when this much is decoded again
/// for every chunk, streaming is cheaper.
const AGAIN_BYTES: u64 = 256 << 20;
/// A chunk is materialised at the source; this much of it is wanted.
const CHUNK_BYTES: u64 = 48 << 20;
const CHUNK_CHANGES: std::ops::RangeInclusive<u64> = 1_000..=400_000;
/// Of the first chunk, while nothing is known of the size of its changes.
const FIRST_CHANGES: u64 = 2_000;
/// How often the slot itself is moved on.
const ADVANCE_EVERY: Duration = Duration::from_secs(10);

/// What came from the connection.
pub(super) enum Piece {
    /// A message of the log.
    Message(Bytes),
    /// The chunk has ended: everything before `reached` has been read. `worth`: another one is worth asking for.
    End { reached: u64, worth: bool },
}

/// A reader of chunks.
pub(super) struct CatchUp {
    inner: Arc<Inner>,
    conn: Conn,
    decoder: CopyDecoder,
    /// The temporary copy.
    slot: String,
    options: String,
    changes: u64,
    read_changes: u64,
    read_bytes: u64,
    ended: Option<Place>,
    /// Where the chunk before was decoded from.
    restart: u64,
    advance: Option<JoinHandle<()>>,
    advanced_at: Instant,
}

impl CatchUp {
    /// A reader, if the log behind `from` is worth it and the server has a slot free.
    pub(super) async fn open(inner: &Arc<Inner>, from: u64, binary: bool) -> Result<Option<Self>> {
        let sql = format!("SELECT (pg_current_wal_lsn() - {}::pg_lsn)::int8", quote::literal(&lsn::text(from)));
        let behind: i64 = super::get(&inner.one(&sql).await?, 0)?;
        if inner.stream_only.load(Ordering::Relaxed) || u64::try_from(behind).unwrap_or(0) < WORTH_BYTES {
            return Ok(None);
        }
        let mut conn = Conn::connect(&inner.config, &inner.application, false).await?;
        let slot = format!("{}_{:08x}", &inner.name[..inner.name.len().min(54)], rand::rng().random::<u32>());
        let copy = format!(
            "SET work_mem = '64MB'; SELECT pg_copy_logical_replication_slot({}, {}, true)",
            quote::literal(&inner.name),
            quote::literal(&slot)
        );
        if let Err(e) = conn.query(&copy).await {
            tracing::info!(slot = inner.name, "the backlog is streamed, as the slot cannot be copied: {e}");
            return Ok(None);
        }
        tracing::info!(slot = inner.name, behind_bytes = behind, "catching up in chunks");
        let options = format!(
            "'proto_version', '1', 'publication_names', {}, 'binary', '{binary}'",
            quote::literal(&quote::ident(&inner.name))
        );
        let mut reader = Self {
            inner: Arc::clone(inner),
            conn,
            decoder: CopyDecoder::default(),
            slot,
            options,
            changes: FIRST_CHANGES,
            read_changes: 0,
            read_bytes: 0,
            ended: None,
            restart: 0,
            advance: None,
            advanced_at: Instant::now(),
        };
        reader.ask();
        Ok(Some(reader))
    }

    /// Asks for the next chunk.
    pub(super) fn ask(&mut self) {
        let slot = quote::literal(&self.slot);
        let sql = format!(
            "COPY (SELECT data FROM pg_catalog.pg_logical_slot_get_binary_changes({slot}, NULL, {}, {})) \
             TO STDOUT (FORMAT binary); \
             SELECT confirmed_flush_lsn::text, pg_current_wal_lsn()::text, restart_lsn::text FROM pg_catalog.pg_replication_slots \
             WHERE slot_name = {slot}\0",
            self.changes, self.options
        );
        (self.read_changes, self.read_bytes, self.ended) = (0, 0, None);
        self.decoder = CopyDecoder::default();
        self.conn.queue(b'Q', sql.as_bytes());
    }

    /// The next piece that is in the buffer already.
    pub(super) fn buffered(&mut self) -> Result<Option<Piece>> {
        while let Some(frame) = self.conn.buffered()? {
            let piece = match frame.tag {
                b'E' => return Err(self.failed(&frame)),
                b'd' => self.message(frame.body)?,
                b'D' => {
                    self.ended = Some(place(&text_row(&frame.body)?)?);
                    None
                }
                b'Z' => Some(self.end()?),
                _ => None,
            };
            if piece.is_some() {
                return Ok(piece);
            }
        }
        Ok(None)
    }

    fn message(&mut self, body: Bytes) -> Result<Option<Piece>> {
        let Some(mut row) = self.decoder.row(&body)? else { return Ok(None) };
        let Some(data) = row.field()? else { return Ok(None) };
        self.read_changes += 1;
        self.read_bytes += data.len() as u64;
        Ok(Some(Piece::Message(body.slice_ref(data))))
    }

    /// The next chunk's length follows the size of the changes met.
    fn end(&mut self) -> Result<Piece> {
        let place =
            self.ended.ok_or_else(|| Error::transient("the server did not say where a chunk of the log ended"))?;
        if let Some(each) = self.read_bytes.checked_div(self.read_changes) {
            self.changes = (CHUNK_BYTES / each.max(1)).clamp(*CHUNK_CHANGES.start(), *CHUNK_CHANGES.end());
        }
        let worth = place.worth(self.restart);
        self.restart = place.restart;
        Ok(Piece::End { reached: place.reached, worth })
    }

    fn failed(&self, frame: &Frame) -> Error {
        // Whatever it was, the walsender may fare better: a transaction too large for the source's disk, say.
        self.inner.stream_only.store(true, Ordering::Relaxed);
        let error = crate::postgres::wire::server_error(&frame.body);
        Error::transient("catching up in chunks failed: the backlog is streamed instead").cause(error)
    }

    /// Reads once from the socket. Cancel-safe.
    pub(super) async fn read(&mut self) -> Result<()> {
        self.conn.flush().await?;
        self.conn.read().await
    }

    /// Lets the server forget what the target durably has.
    pub(super) fn acknowledge(&mut self, durable: u64) {
        let running = self.advance.as_ref().is_some_and(|a| !a.is_finished());
        if running || self.advanced_at.elapsed() < ADVANCE_EVERY {
            return;
        }
        self.advanced_at = Instant::now();
        let inner = Arc::clone(&self.inner);
        self.advance = Some(tokio::spawn(async move {
            if let Err(error) = advance(&inner, durable).await {
                tracing::warn!(slot = inner.name, %error, "could not move the slot on");
            }
        }));
    }

    /// What is still using the task's own slot.
    pub(super) fn advancing(&mut self) -> Option<JoinHandle<()>> {
        self.advance.take()
    }
}

async fn advance(inner: &Inner, durable: u64) -> Result<()> {
    let client = inner.config.connect(&inner.application).await?;
    let sql = "SELECT pg_replication_slot_advance(slot_name, greatest($2::text::pg_lsn, confirmed_flush_lsn)) \
               FROM pg_replication_slots WHERE slot_name = $1";
    client.execute(sql, &[&inner.name, &lsn::text(durable)]).await.map_err(sqlstate::error)?;
    Ok(())
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
    /// Whether another chunk pays. `before`: where this one was decoded from.
    fn worth(self, before: u64) -> bool {
        let held = self.restart <= before && self.reached.saturating_sub(self.restart) > AGAIN_BYTES;
        self.current.saturating_sub(self.reached) >= WORTH_BYTES && !held
    }
}

fn place(row: &TextRow) -> Result<Place> {
    match row.as_slice() {
        [Some(reached), Some(current), Some(restart)] => {
            Ok(Place { reached: lsn::parse(reached)?, current: lsn::parse(current)?, restart: lsn::parse(restart)? })
        }
        _ => Err(Error::transient("the server did not say where a chunk of the log ended")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_restart_point_ends_catching_up() {
        let place = |reached, restart| Place { reached, current: 10 << 30, restart };
        assert!(place(1 << 30, 1 << 20).worth(0), "it moves on");
        assert!(place(200 << 20, 5).worth(5), "little is decoded again");
        assert!(!place(1 << 30, 5).worth(5));
        assert!(!place((10 << 30) - 1, 9 << 30).worth(5), "nothing is left");
    }
}
