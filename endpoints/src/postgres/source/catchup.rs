//! Catching up: the same log, read in chunks through SQL.
//!
//! A walsender sends one message at a time and waits for the socket after each; the SQL interface to logical decoding
//! hands over a chunk at once, several times as fast. The chunks are consumed from a temporary copy of the task's
//! slot, which dies with its session; the slot itself stays where the target durably is, and is moved on from time
//! to time so that the server can let go of its log. (`pg_copy_logical_replication_slot`,
//! `pg_logical_slot_get_binary_changes`, `pg_replication_slot_advance`: PostgreSQL manual, "Replication Management
//! Functions".)

mod pace;
mod reader;
mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use trem_engine::ports::StreamRole;
use trem_engine::{Error, Result};

pub(super) use self::pace::Next;
use self::pace::{REST_BYTES, WORTH_BYTES};
use self::reader::{Block, End, Reader};
use self::session::Session;
use super::lsn;
use super::shared::Inner;
use super::walsender::advance;
use crate::postgres::quote;
use crate::postgres::row::get;

/// How often the slot itself is moved on.
const ADVANCE_EVERY: Duration = Duration::from_secs(10);

/// What came from the connection.
pub(super) enum Piece {
    /// A message of the log.
    Message(Bytes),
    /// The chunk has ended: everything before `reached` has been read.
    End { reached: u64, next: Next },
}

/// Chunks of a backlog.
pub(super) struct CatchUp {
    inner: Arc<Inner>,
    blocks: mpsc::UnboundedReceiver<Result<Block>>,
    /// The block at hand.
    block: Option<Block>,
    /// Ends with its owner, and its session with it.
    _reader: JoinSet<()>,
    advance: Option<JoinHandle<()>>,
    advanced_at: Instant,
    /// How often the target has become idle or busy: odd while it has nothing to do.
    idle: Arc<AtomicU64>,
}

impl CatchUp {
    /// A reader, if the log behind `from` is worth it and the server has a slot free.
    pub(super) async fn open(inner: &Arc<Inner>, role: StreamRole, from: u64, binary: bool) -> Result<Option<Self>> {
        let sql = format!("SELECT (pg_current_wal_lsn() - {}::pg_lsn)::int8", quote::literal(&lsn::text(from)));
        let behind: i64 = get(&inner.one(&sql).await?, 0)?;
        if inner.stream_only.load(Ordering::Relaxed) || u64::try_from(behind).unwrap_or(0) < WORTH_BYTES {
            return Ok(None);
        }
        let mut conn = inner.copying().await?;
        let name = quote::literal(&inner.name);
        // Log before the slot is decoded once here, or again with every chunk.
        let move_on = format!(
            "SELECT pg_replication_slot_advance({name}, confirmed_flush_lsn) FROM pg_replication_slots \
             WHERE slot_name = {name} AND confirmed_flush_lsn - restart_lsn > {REST_BYTES} AND active_pid IS NULL"
        );
        if role == StreamRole::Main
            && let Err(error) = conn.query(&move_on).await
        {
            tracing::debug!(slot = inner.name, %error, "the slot could not be moved on");
        }
        let session = match Session::over(conn, inner, binary).await {
            Ok(session) => session,
            Err(e) => {
                tracing::info!(slot = inner.name, "the backlog is streamed, as the slot cannot be copied: {e}");
                return Ok(None);
            }
        };
        tracing::info!(slot = inner.name, behind_bytes = behind, "catching up in chunks");
        let (sender, blocks) = mpsc::unbounded_channel();
        let mut reader = JoinSet::new();
        let idle = Arc::new(AtomicU64::new(0));
        reader.spawn(Reader::new(inner, session, from, binary, Arc::clone(&idle), sender).run());
        Ok(Some(Self {
            inner: Arc::clone(inner),
            blocks,
            block: None,
            _reader: reader,
            advance: None,
            advanced_at: Instant::now(),
            idle,
        }))
    }

    /// Tells whether the target has nothing to do.
    pub(super) fn pace(&self, idle: bool) {
        let times = self.idle.load(Ordering::Relaxed);
        if idle != (times % 2 == 1) {
            self.idle.store(times + 1, Ordering::Relaxed);
        }
    }

    /// The next piece that has been read already.
    pub(super) fn buffered(&mut self) -> Result<Option<Piece>> {
        loop {
            if let Some(message) = self.block.as_mut().and_then(|b| b.messages.next()) {
                return Ok(Some(Piece::Message(message)));
            }
            if let Some(End { reached, next }) = self.block.take().and_then(|b| b.end) {
                return Ok(Some(Piece::End { reached, next }));
            }
            match self.blocks.try_recv() {
                Ok(block) => self.block = Some(block?),
                Err(_) => return Ok(None),
            }
        }
    }

    /// Waits for more. Cancel-safe.
    pub(super) async fn read(&mut self) -> Result<()> {
        let block = self.blocks.recv().await;
        self.block = Some(block.ok_or_else(|| Error::transient("the reader of the backlog ended early"))??);
        Ok(())
    }

    /// Lets the server forget what the target durably has.
    pub(super) fn acknowledge(&mut self, durable: u64) {
        let running = self.advance.as_ref().is_some_and(|a| !a.is_finished());
        if running || self.advanced_at.elapsed() < ADVANCE_EVERY {
            return;
        }
        self.advanced_at = Instant::now();
        let inner = Arc::clone(&self.inner);
        self.advance = Some(tokio::spawn(async move { advance(&inner, durable).await }));
    }

    /// What is still using the task's own slot.
    pub(super) fn advancing(&mut self) -> Option<JoinHandle<()>> {
        self.advance.take()
    }
}
