//! Reading one chunk: a COPY stream into batches.

use std::sync::Arc;

use bytes::Bytes;
use trem_engine::change::{BatchBuilder, ChangeBatch, ColumnMask, LARGE_ROW, Op};
use trem_engine::chunk::Chunk;
use trem_engine::condition::Condition;
use trem_engine::schema::{TableId, TableSchema};
use trem_engine::{Error, Result};

use super::range::ChunkRange;
use super::readers::Readers;
use super::{chunks, condition};
use crate::postgres::decode::push_binary;
use crate::postgres::quote;
use crate::postgres::types::Wire;
use crate::postgres::wire::copy::{CopyDecoder, CopyRow};
use crate::postgres::wire::{Conn, Copied};

/// The expressions that a COPY statement selects, one for each column.
pub(super) fn select_list(table: &TableSchema, wires: &[Wire]) -> String {
    let columns = table.columns.iter().zip(wires).map(|(column, wire)| {
        let name = quote::ident(&column.name);
        // A cast to text would be another text for some types (inet); NULL must stay NULL, and for a composite
        // IS NULL means something else.
        if *wire == Wire::TextOnly {
            format!("CASE WHEN {name} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {name}) END")
        } else {
            name
        }
    });
    columns.collect::<Vec<_>>().join(", ")
}

/// Appends the fields of a row.
pub(super) fn push_row(
    builder: &mut BatchBuilder,
    wires: &[Wire],
    mut row: CopyRow<'_>,
    whole: &Bytes,
    scratch: &mut Vec<u8>,
) -> Result<()> {
    if row.columns != wires.len() {
        return Err(Error::fatal(format!("a row of {} columns where {} were asked for", row.columns, wires.len())));
    }
    for (index, wire) in wires.iter().enumerate() {
        match row.field()? {
            None => builder.columns()[index].push_null(),
            Some(value) => push_binary(&mut builder.columns()[index], *wire, value, whole, scratch)
                .map_err(|e| e.context(format!("column {}", builder.table().columns[index].name)))?,
        }
    }
    builder.end_row(Op::Insert, &ColumnMask::default())
}

/// A chunk being read.
pub(super) struct Reading<'a> {
    readers: &'a Readers,
    table: &'a Arc<TableSchema>,
    chunk: &'a Chunk,
    wanted: Option<&'a Condition>,
    batch_bytes: usize,
    wires: Vec<Wire>,
    builder: BatchBuilder,
    decoder: CopyDecoder,
    scratch: Vec<u8>,
    /// A large row that waits for the batch before it to be handed out.
    held: Option<Bytes>,
    state: State,
}

enum State {
    Unstarted,
    Open(Conn),
    Ended,
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        readers: &'a Readers,
        table: &'a Arc<TableSchema>,
        chunk: &'a Chunk,
        wanted: Option<&'a Condition>,
        batch_bytes: usize,
    ) -> Self {
        Self {
            readers,
            table,
            chunk,
            wanted,
            batch_bytes: batch_bytes.max(1),
            wires: readers.types().wires(table),
            builder: BatchBuilder::new(Arc::clone(table)),
            decoder: CopyDecoder::default(),
            scratch: Vec::new(),
            held: None,
            state: State::Unstarted,
        }
    }

    pub(super) fn table(&self) -> &TableId {
        &self.table.id
    }

    /// The next batch; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<ChangeBatch>> {
        let mut conn = match std::mem::replace(&mut self.state, State::Ended) {
            State::Unstarted => {
                let mut conn = self.readers.reader().await?;
                let partitioned = self.readers.is_partitioned(self.table);
                let range = ChunkRange::parse(&self.chunk.range)?;
                let wanted = self.wanted.and_then(|wanted| condition::sql(self.table, wanted));
                let source = chunks::from_where(self.table, &range, partitioned, wanted)?;
                // Whatever rewrites the table waits from here on until the transaction ends.
                conn.query(&chunks::lock(self.table, &range, partitioned)?).await?;
                let list = select_list(self.table, &self.wires);
                conn.start_copy(&format!("COPY (SELECT {list} {source}) TO STDOUT (FORMAT binary)")).await?;
                conn
            }
            State::Open(conn) => conn,
            State::Ended => return Ok(None),
        };
        let mut bytes = match self.held.take() {
            Some(held) => self.push(&held, &held)?,
            None => 0,
        };
        while bytes < self.batch_bytes {
            let message = match conn.copied()? {
                Copied::Data(message) => message,
                Copied::More => {
                    conn.read().await?;
                    continue;
                }
                Copied::End => {
                    self.not_rewritten(&mut conn).await?;
                    self.readers.give_back(conn).await?;
                    return self.batch();
                }
            };
            if message.body.len() >= LARGE_ROW && !self.builder.is_empty() {
                self.held = Some(message.whole.slice_ref(message.body));
                break;
            }
            bytes += self.push(message.body, message.whole)?;
        }
        self.state = State::Open(conn);
        self.batch()
    }

    /// Takes a row in; how much of a batch it is.
    fn push(&mut self, message: &[u8], whole: &Bytes) -> Result<usize> {
        if let Some(row) = self.decoder.row(message)? {
            push_row(&mut self.builder, &self.wires, row, whole, &mut self.scratch)?;
        }
        Ok(if message.len() >= LARGE_ROW { self.batch_bytes } else { message.len() })
    }

    /// Fails if the rows read are those of another file than the snapshot's.
    ///
    /// A statement that rewrites a table (`ALTER TABLE ... TYPE`, `TRUNCATE`) leaves a file whose rows are all of its
    /// own transaction: to an older snapshot the table is empty. The lock that the COPY took is held, so what is seen
    /// here is what was read. (PostgreSQL manual, "Caveats" of concurrency control.)
    async fn not_rewritten(&self, conn: &mut Conn) -> Result<()> {
        let range = ChunkRange::parse(&self.chunk.range)?;
        let rows = conn.query(&chunks::same_files(self.table, &range)?).await?;
        match rows.first().and_then(|r| r.first()).and_then(Option::as_deref) {
            Some("t") => Ok(()),
            _ => Err(Error::transient(
                "the table was rewritten, emptied or created after the snapshot was taken: it is read at a new one",
            )
            .table(&self.table.id)),
        }
    }

    fn batch(&mut self) -> Result<Option<ChangeBatch>> {
        if self.builder.is_empty() { Ok(None) } else { self.builder.finish().map(Some) }
    }
}
