//! The walsender that reads the task's slot: how it is started, told what is durable, and left; and how the slot is
//! moved on without reading from it.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use trem_engine::{Error, Result};

use super::lsn;
use super::shared::Inner;
use crate::postgres::wire::{Conn, server_error};
use crate::postgres::{quote, sqlstate};

/// How long a walsender may take to end.
const LEAVE: Duration = Duration::from_secs(2);

/// Starts a walsender.
///
/// Versions above 1 of the protocol add streamed and prepared transactions, which are not asked for: whole
/// transactions are what the target commits.
pub(super) async fn start(inner: &Inner, from: u64, binary: bool) -> Result<Conn> {
    let conn = inner.replication().await?;
    start_at(conn, inner, &inner.name, from, binary).await
}

/// Starts a walsender beside the task's own, on a temporary copy of its slot, which goes with the connection.
pub(super) async fn start_aside(inner: &Inner, from: u64, binary: bool) -> Result<Conn> {
    let mut conn = inner.replication().await?;
    let slot = inner.temporary_slot();
    let (name, copied) = (quote::literal(&inner.name), quote::literal(&slot));
    let copy = format!("SELECT pg_catalog.pg_copy_logical_replication_slot({name}, {copied}, true)");
    conn.query(&copy).await.map_err(|e| e.context(format!("copying replication slot {}", inner.name)))?;
    start_at(conn, inner, &slot, from, binary).await
}

async fn start_at(mut conn: Conn, inner: &Inner, slot: &str, from: u64, binary: bool) -> Result<Conn> {
    let sql = format!(
        "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {}, binary '{binary}')",
        quote::ident(slot),
        lsn::text(from),
        quote::literal(&quote::ident(&inner.name)),
    );
    conn.start_copy(&sql).await.map_err(|e| on_stream(e).context(format!("reading replication slot {slot}")))?;
    Ok(conn)
}

/// A publication or a slot dropped under the stream: the next attempt looks at both and says what that means.
pub(super) fn on_stream(e: Error) -> Error {
    match sqlstate::code(&e) {
        Some("42704") => Error::transient("the stream cannot go on").cause(e),
        _ => e,
    }
}

/// From version 18 on a missing publication is a warning, and its changes are left out.
pub(super) fn left_out(notice: &[u8]) -> Result<()> {
    let notice = server_error(notice);
    match sqlstate::code(&notice) {
        Some("55000") => Err(Error::transient("the server leaves changes out of the stream").cause(notice)),
        _ => Ok(()),
    }
}

/// A standby status update: everything before `received` has come, and what lies before `durable` is not needed any
/// more; `ask`: the server is to answer. (PostgreSQL manual, "Streaming Replication Protocol".)
pub(super) fn queue_status(conn: &mut Conn, received: u64, durable: u64, ask: bool) {
    let mut body = [0; 34];
    body[0] = b'r';
    body[1..9].copy_from_slice(&received.max(durable).to_be_bytes());
    body[9..17].copy_from_slice(&durable.to_be_bytes());
    body[17..25].copy_from_slice(&durable.to_be_bytes());
    body[33] = ask.into();
    conn.queue(b'd', &body);
}

/// Tells the server what is durable and ends the stream. What was still on its way is discarded. Whether the slot is
/// free then: in the middle of a transaction a server sends all of it first, for which it is not waited long. It has
/// been told in any case, and such a connection is of no further use.
pub(super) async fn leave(conn: &mut Conn, received: u64, durable: u64) -> Result<bool> {
    queue_status(conn, received, durable, false);
    conn.queue(b'c', &[]);
    conn.flush().await?;
    let ended = async {
        while conn.next().await.map_err(on_stream)?.tag != b'Z' {}
        Ok(true)
    };
    timeout(LEAVE, ended).await.unwrap_or(Ok(false))
}

/// Moves the task's own slot on to what the target durably has, and lets the server forget what lies before.
///
/// A walsender takes our word for the place without decoding up to it. The start of the log that the slot retains moves
/// only when it is decoded, and only as far as had been confirmed before; hence the second statement.
pub(super) async fn advance(inner: &Inner, durable: u64) {
    let name = quote::literal(&inner.name);
    let sql = format!(
        "SELECT pg_catalog.pg_replication_slot_advance(slot_name, confirmed_flush_lsn) \
         FROM pg_catalog.pg_replication_slots WHERE slot_name = {name}"
    );
    let moved = async {
        let mut conn = start(inner, durable, false).await?;
        if leave(&mut conn, durable, durable).await? {
            conn.query(&sql).await?;
        }
        Ok::<_, Error>(())
    };
    if let Err(error) = moved.await {
        // It is tried again, or met by whoever reads from the slot.
        tracing::warn!(slot = inner.name, %error, "could not move the slot on");
    }
}

/// The same, once what is still at it is done.
pub(super) async fn advance_after(running: Option<JoinHandle<()>>, inner: &Inner, durable: u64) {
    if let Some(running) = running {
        // It has said itself what went wrong.
        let _ = running.await;
    }
    advance(inner, durable).await;
}
