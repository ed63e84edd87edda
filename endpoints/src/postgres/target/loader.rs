//! Chunks of the full load: COPY straight into the table, or by way of a temporary table where rows are kept.

use std::sync::Arc;

use async_trait::async_trait;
use trem_engine::change::ChangeBatch;
use trem_engine::ports::Loader;
use trem_engine::record::{Epoch, RecordChange, TableRecord};
use trem_engine::schema::{TableId, TableSchema};
use trem_engine::{Error, Result};

use super::bookkeeping;
use super::copy::{CopyWriter, all_rows, views_of};
use super::session::Session;
use super::writer::Writer;
use crate::failpoint::{self, Point};
use crate::postgres::config::PgConfig;
use crate::postgres::sqlstate::error as pg;

/// A connection that loads chunks.
pub(super) struct PgLoader {
    session: Session,
    task: String,
    epoch: Epoch,
    /// The table of the last chunk.
    known: Option<Arc<Writer>>,
    open: Option<OpenChunk>,
}

struct OpenChunk {
    table: TableId,
    writer: Arc<Writer>,
    keeps_rows: bool,
    copy: Option<CopyWriter>,
    sent: u64,
}

const STAGED: &str = "pg_temp.trem_load";

impl PgLoader {
    pub(super) async fn open(config: &PgConfig, task: &str, epoch: Epoch) -> Result<Self> {
        let session = Session::open(config, task).await?;
        Ok(Self { session, task: task.to_owned(), epoch, known: None, open: None })
    }

    /// The server's process.
    pub(super) fn pid(&self) -> i32 {
        self.session.pid
    }

    async fn writer(&mut self, table: &Arc<TableSchema>) -> Result<Arc<Writer>> {
        if let Some(writer) = self.known.as_ref().filter(|w| w.schema == *table) {
            return Ok(Arc::clone(writer));
        }
        let writers = Writer::open_all(&self.session, std::slice::from_ref(table), 0).await?;
        let writer = Arc::new(writers.into_iter().next().ok_or_else(|| Error::fatal("internal: a table's writer"))?);
        self.known = Some(Arc::clone(&writer));
        Ok(writer)
    }

    /// Counts rows that a trigger of the target has not let in.
    async fn kept_out(&self, table: &TableId, rows: u64, changes: &[RecordChange]) -> Result<()> {
        let of = |change: &RecordChange| match change {
            RecordChange::ChunkDone { table, .. } => Some(table.clone()),
            _ => None,
        };
        let Some(source) = changes.iter().find_map(of).filter(|_| rows > 0) else { return Ok(()) };
        tracing::warn!(task = %self.task, %table, rows, "a trigger of the target's table has kept rows out");
        bookkeeping::write(&self.session.client, &self.task, &RecordChange::Conflicts(source, rows)).await
    }
}

#[async_trait]
impl Loader for PgLoader {
    async fn start_chunk(&mut self, record: &TableRecord) -> Result<()> {
        let (table, keeps_rows) = (&record.target, record.origin.keeps_rows);
        if self.open.is_some() {
            return Err(Error::fatal("internal: a chunk begins before the last one has ended").target_table(&table.id));
        }
        self.session.client.batch_execute("BEGIN").await.map_err(pg)?;
        let writer = self.writer(table).await?;
        if keeps_rows {
            let sql = format!(
                "CREATE TEMPORARY TABLE {STAGED} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA",
                writer.names(&writer.all()),
                writer.name
            );
            self.session.client.batch_execute(&sql).await.map_err(pg)?;
        }
        self.open = Some(OpenChunk { table: table.id.clone(), writer, keeps_rows, copy: None, sent: 0 });
        Ok(())
    }

    async fn load(&mut self, rows: ChangeBatch) -> Result<()> {
        let open = self.open.as_mut().ok_or_else(|| Error::fatal("internal: rows outside of a chunk"))?;
        let w = &open.writer;
        let all = w.all();
        let mut copy = match open.copy.take() {
            Some(copy) => copy,
            None => {
                let name = if open.keeps_rows { STAGED } else { &w.name };
                let into = format!("{name} ({})", w.names(&all));
                CopyWriter::start(&self.session.client, &into, w.copy_columns(&all)).await?
            }
        };
        let views = views_of(&rows.rows, &w.types)?;
        copy.rows(&views, all_rows(rows.len())).await.map_err(|f| Error::from(f).target_table(&open.table))?;
        open.copy = Some(copy);
        open.sent += rows.len() as u64;
        Ok(())
    }

    async fn finish_chunk(&mut self, changes: &[RecordChange]) -> Result<()> {
        let open = self.open.take().ok_or_else(|| Error::fatal("internal: the end of a chunk that has not begun"))?;
        let at = |e: Error| e.target_table(&open.table);
        let mut taken = match open.copy {
            Some(copy) => copy.finish().await.map_err(|f| at(f.into()))?,
            None => 0,
        };
        let client = &self.session.client;
        if open.keeps_rows {
            let w = &open.writer;
            let names = w.names(&w.all());
            let upsert = w.upsert(&w.all());
            let sql = format!(
                "INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {STAGED} {upsert}",
                w.name,
            );
            let put = client.execute(&sql, &[]).await.map_err(|e| at(pg(e)))?;
            // Of rows that are nothing but a key those that are there already are none that were kept out.
            taken = if upsert.ends_with("DO NOTHING") { taken } else { put };
        }
        bookkeeping::fence(client, &self.task, self.epoch).await?;
        for change in changes {
            bookkeeping::write(client, &self.task, change).await?;
        }
        self.kept_out(&open.table, open.sent.saturating_sub(taken), changes).await?;
        client.batch_execute("COMMIT").await.map_err(pg)?;
        failpoint::crash(Point::LoaderAfterCommit);
        Ok(())
    }
}
