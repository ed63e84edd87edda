//! A session that decodes the log, a chunk at a time, for a temporary copy of the task's slot.

use std::sync::Arc;

use bytes::Bytes;
use trem_engine::{Error, Result};

use super::super::lsn;
use super::super::shared::Inner;
use crate::postgres::quote;
use crate::postgres::wire::copy::CopyDecoder;
use crate::postgres::wire::{Conn, TextRow, server_error, text_row};

/// What a session is asked to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// Where to begin: what lies before is another session's, or has been read.
    pub(super) from: u64,
    /// Where to end, up to the end of a record; `None`: with the log.
    pub(super) until: Option<u64>,
    /// After so many changes at the latest, at the end of a transaction.
    pub(super) changes: u64,
    /// Another session reads what is before or behind it.
    pub(super) shared: bool,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Everything before it has been read.
    pub(super) reached: u64,
    /// The end of the server's log.
    pub(super) current: u64,
    /// Where the next chunk is decoded from.
    pub(super) restart: u64,
}

/// What a read of the connection has brought.
#[derive(Default)]
pub(super) struct Read {
    pub(super) messages: Vec<Bytes>,
    /// Their bytes.
    pub(super) bytes: u64,
    /// They are the chunk's first.
    pub(super) first: bool,
    /// The chunk has ended.
    pub(super) ended: Option<Place>,
}

/// A connection and its slot, which dies with it.
pub(super) struct Session {
    conn: Conn,
    slot: String,
    options: String,
    decoder: CopyDecoder,
    place: Option<Place>,
    /// What it is reading, or read last.
    pub(super) asked: Ask,
    /// Changes and bytes of it so far.
    pub(super) changes: u64,
    pub(super) bytes: u64,
    /// Everything before it has been read by this session, or passed over.
    position: u64,
}

impl Session {
    /// A second session, if a slot can be spared: the last free one may be what another task's load needs.
    pub(super) async fn second(inner: Arc<Inner>, binary: bool) -> Result<Self> {
        let mut conn = inner.copying().await?;
        let spare = "SELECT (SELECT count(*) FROM pg_catalog.pg_replication_slots) + 1 \
                     < pg_catalog.current_setting('max_replication_slots')::int4";
        match conn.query(spare).await?.first().and_then(|row| row.first()) {
            Some(Some(yes)) if yes == "t" => Self::over(conn, &inner, binary).await,
            _ => Err(Error::transient("at most one replication slot is free (max_replication_slots)")),
        }
    }

    /// Copies the task's slot.
    pub(super) async fn over(mut conn: Conn, inner: &Inner, binary: bool) -> Result<Self> {
        let slot = inner.temporary_slot();
        let (name, copied) = (quote::literal(&inner.name), quote::literal(&slot));
        let copy = format!("SET work_mem = '64MB'; SELECT pg_copy_logical_replication_slot({name}, {copied}, true)");
        conn.query(&copy).await?;
        let options = format!(
            "'proto_version', '1', 'publication_names', {}, 'binary', '{binary}'",
            quote::literal(&quote::ident(&inner.name))
        );
        Ok(Self {
            conn,
            slot,
            options,
            decoder: CopyDecoder::default(),
            place: None,
            asked: Ask { from: 0, until: None, changes: 0, shared: false },
            changes: 0,
            bytes: 0,
            position: 0,
        })
    }

    /// Asks for a chunk.
    pub(super) async fn ask(&mut self, ask: Ask) -> Result<()> {
        let Self { slot, options, .. } = self;
        let slot = quote::literal(slot);
        let place = |at: u64| format!("{}::pg_lsn", quote::literal(&lsn::text(at)));
        let mut sql = String::new();
        if ask.from > self.position {
            // Passed over without being decoded in full.
            sql = format!(
                "SELECT pg_catalog.pg_replication_slot_advance({slot}, greatest({}, confirmed_flush_lsn)) \
                 FROM pg_catalog.pg_replication_slots WHERE slot_name = {slot}; ",
                place(ask.from)
            );
        }
        let until = ask.until.map_or_else(|| "NULL".to_owned(), place);
        sql.push_str(&format!(
            "COPY (SELECT data FROM pg_catalog.pg_logical_slot_get_binary_changes({slot}, {until}, {}, {options})) \
             TO STDOUT (FORMAT binary); \
             SELECT confirmed_flush_lsn::text, pg_current_wal_lsn()::text, restart_lsn::text \
             FROM pg_catalog.pg_replication_slots WHERE slot_name = {slot}\0",
            ask.changes
        ));
        (self.changes, self.bytes, self.place, self.asked) = (0, 0, None, ask);
        self.decoder = CopyDecoder::default();
        self.conn.queue(b'Q', sql.as_bytes());
        self.conn.flush().await
    }

    /// Reads once from the connection.
    ///
    /// # Errors
    /// [`Failed::Server`] if the chunk could not be read.
    pub(super) async fn read(&mut self) -> Result<Read, Failed> {
        self.conn.read().await?;
        let mut read = Read { first: self.changes == 0, ..Read::default() };
        let before = self.bytes;
        while let Some(message) = self.conn.lend()? {
            match message.tag {
                b'E' => return Err(Failed::Server(server_error(message.body))),
                b'd' => {
                    let Some(mut row) = self.decoder.row(message.body)? else { continue };
                    let Some(data) = row.field()? else { continue };
                    self.changes += 1;
                    self.bytes += data.len() as u64;
                    read.messages.push(message.whole.slice_ref(data));
                }
                // The last row of all is the one that tells the place.
                b'D' => self.place = place(&text_row(message.body).map_err(Error::from)?)?,
                b'Z' => read.ended = Some(self.end()?),
                _ => {}
            }
        }
        read.bytes = self.bytes - before;
        Ok(read)
    }

    fn end(&mut self) -> Result<Place> {
        let place = self.place.ok_or_else(no_end)?;
        self.position = place.reached;
        tracing::debug!(
            slot = self.slot,
            changes = self.changes,
            bytes = self.bytes,
            from = %lsn::text(self.asked.from),
            reached = %lsn::text(place.reached),
            restart = %lsn::text(place.restart),
            "read a chunk of the log"
        );
        Ok(place)
    }
}

/// Why nothing more comes.
pub(super) enum Failed {
    /// The server said so.
    Server(Error),
    /// Something else went wrong.
    Other(Error),
}

impl<E: Into<Error>> From<E> for Failed {
    fn from(e: E) -> Self {
        Self::Other(e.into())
    }
}

/// The place that a row tells; `None` for the answer to passing over.
fn place(row: &TextRow) -> Result<Option<Place>> {
    match row.as_slice() {
        [Some(reached), Some(current), Some(restart)] => Ok(Some(Place {
            reached: lsn::parse(reached)?,
            current: lsn::parse(current)?,
            restart: lsn::parse(restart)?,
        })),
        [_] => Ok(None),
        _ => Err(no_end()),
    }
}

fn no_end() -> Error {
    Error::transient("the server did not say where a chunk of the log ended")
}
