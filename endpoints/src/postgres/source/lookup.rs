//! What the change stream asks of the server beside reading its log: the shape of a table, or a row.

use std::sync::Arc;

use bytes::Bytes;
use trem_engine::schema::{SchemaChangeKind, TableSchema};
use trem_engine::{Error, Result};

use super::assemble::{Assembler, Need};
use super::overlap::Found;
use super::read::select_list;
use super::relation;
use super::shared::Inner;
use super::visibility::Visibility;
use crate::postgres::quote;
use crate::postgres::types::TypeBook;
use crate::postgres::wire::Conn;
use crate::postgres::wire::copy::CopyDecoder;
use crate::postgres::wire::pgoutput::Relation;

/// A [`Need`] with all that asking takes.
pub(super) enum Question {
    Shape(Arc<TableSchema>, Relation),
    Row { table: Arc<TableSchema>, select: String, xid: u32 },
}

/// What the server said.
pub(super) enum Answer {
    Shape(SchemaChangeKind, TypeBook),
    /// These columns are generated.
    Computed(Vec<String>),
    /// The connection is for the next row.
    Row(Found, Conn),
}

impl Question {
    pub(super) fn of(assembler: &Assembler, need: &Need) -> Self {
        match need {
            Need::Added { table, relation } => {
                Self::Shape(Arc::clone(&assembler.table(*table).known), relation.clone())
            }
            Need::Row { table, key, xid } => {
                let table = assembler.table(*table);
                let select = relation::by_key(&table.schema, &select_list(&table.schema, &table.wires), key);
                Self::Row { table: Arc::clone(&table.schema), select, xid: *xid }
            }
        }
    }

    /// Asks; `rows` is a connection that has read a row before.
    pub(super) async fn ask(self, inner: Arc<Inner>, rows: Option<Conn>) -> Result<Answer> {
        match self {
            Self::Shape(table, relation) => added(&inner, &table, &relation).await.map_err(|e| e.table(&table.id)),
            Self::Row { table, select, xid } => {
                let row = read_row(&inner, rows, &table, &select, xid).await;
                row.map_err(|e| e.table(&table.id).context("reading a row again by its key"))
            }
        }
    }
}

async fn added(inner: &Inner, table: &TableSchema, relation: &Relation) -> Result<Answer> {
    let client = inner.client().await?;
    let computed = relation::computed(&client, relation).await?;
    if !computed.is_empty() {
        return Ok(Answer::Computed(computed));
    }
    let kind = relation::added(&client, &inner.name, table, relation).await?;
    let types = match &kind {
        SchemaChangeKind::AddColumns { next, .. } => TypeBook::of(&client, [next.as_ref()]).await?,
        _ => TypeBook::default(),
    };
    Ok(Answer::Shape(kind, types))
}

/// Reads a row as it is now, after a transaction that must be seen.
async fn read_row(inner: &Inner, conn: Option<Conn>, table: &TableSchema, select: &str, xid: u32) -> Result<Answer> {
    let mut conn = match conn {
        Some(conn) => conn,
        None => {
            let mut conn = inner.copying().await?;
            conn.query("SET lock_timeout = '30s'").await?;
            conn
        }
    };
    // The lock comes before the snapshot: what rewrites a table hides its rows from older ones.
    let begin = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE {} IN ACCESS SHARE MODE; \
         SELECT pg_current_snapshot()",
        quote::table(&table.id)
    );
    let rows = conn.query(&begin).await?;
    let seen = rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
    let seen = Visibility::parse(seen.unwrap_or_default())?;
    if !seen.has(xid) {
        // The chunk that the row has left was read after the transaction, and before now.
        return Err(Error::transient(format!("transaction {xid} is in a chunk, and not seen by a later session")));
    }
    let row = first_row(&mut conn, select).await?;
    conn.query("COMMIT").await?;
    Ok(Answer::Row(Found { row, seen, until: inner.current().await? }, conn))
}

/// The first row of a COPY statement, as a message of its own.
async fn first_row(conn: &mut Conn, copy: &str) -> Result<Option<Bytes>> {
    conn.start_copy(copy).await?;
    let mut decoder = CopyDecoder::default();
    let mut first = None;
    while let Some(message) = conn.copy_data().await? {
        if let Some(row) = decoder.row(&message)?
            && first.is_none()
        {
            // It may be held for long, and would hold the buffer that it came in.
            first = Some(Bytes::copy_from_slice(&row.message(&message)));
        }
    }
    Ok(first)
}
