//! Snapshots: sessions that all see one place of the log, each of which reads chunks.
//!
//! MariaDB tells where in the log a consistent snapshot is, and takes no lock for it: sessions open theirs until enough
//! of them are at one place. (MariaDB knowledge base, "Enhancements for START TRANSACTION WITH CONSISTENT SNAPSHOT".)

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use mysql_async::Row;
use mysql_async::prelude::Queryable;
use tokio::sync::mpsc;
use trem_engine::Result;
use trem_engine::change::ChangeBatch;
use trem_engine::chunk::Chunk;
use trem_engine::condition::Condition;
use trem_engine::ports::{ChunkOptions, Snapshot, SnapshotKind};
use trem_engine::position::Position;
use trem_engine::schema::TableSchema;

use super::place::Place;
use super::read;
use super::readers::Readers;
use super::shared::{Inner, at, no_log};
use crate::mysql::connect::Session;
use crate::mysql::error::error;
use crate::mysql::row::get;

/// How often a session that is at another place than the most opens its snapshot anew.
const TRIES: usize = 20;

pub(super) struct MySnapshot {
    start: Position,
    readers: Arc<Readers>,
}

impl MySnapshot {
    pub(super) async fn take(inner: &Inner, kind: SnapshotKind, count: usize) -> Result<Self> {
        let mut opened = Vec::new();
        for _ in 0..count.max(1) {
            let mut session = inner.open().await?;
            let place = begin(&mut session).await?;
            opened.push((session, place));
        }
        let (mut sessions, place) = agree(opened).await?;
        let start = match (place, kind) {
            (Some((file, offset)), _) => at(&mut sessions[0], file, offset).await?,
            // Nobody follows a log that there is not.
            (None, SnapshotKind::Standalone) => Place::default(),
            (None, _) => return Err(no_log()),
        };
        let start = start.position();
        tracing::debug!(task = inner.task, at = %start, readers = sessions.len(), wanted = count, "a snapshot");
        Ok(Self { start, readers: Arc::new(Readers::new(sessions)) })
    }
}

/// File and offset; `None` without a log.
type Seen = Option<(String, u64)>;

/// Opens a snapshot, and asks where it is.
async fn begin(session: &mut Session) -> Result<Seen> {
    for statement in [
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    ] {
        session.conn.query_drop(statement).await.map_err(error)?;
    }
    let rows: Vec<Row> = session.conn.query("SHOW STATUS LIKE 'binlog_snapshot_%'").await.map_err(error)?;
    let (mut file, mut offset) = (String::new(), None);
    for row in &rows {
        let (name, value): (String, String) = (get(row, 0)?, get(row, 1)?);
        match name.to_lowercase().as_str() {
            "binlog_snapshot_file" => file = value,
            "binlog_snapshot_position" => offset = value.parse().ok(),
            _ => {}
        }
    }
    Ok(offset.filter(|_| !file.is_empty()).map(|offset| (file, offset)))
}

/// The sessions that are at one place in the end, and that place. While others write, those that come late try again;
/// where they never meet, fewer read.
async fn agree(mut opened: Vec<(Session, Seen)>) -> Result<(Vec<Session>, Seen)> {
    for _ in 0..TRIES {
        let newest = opened.iter().map(|(_, place)| place.clone()).max().flatten();
        if opened.iter().all(|(_, place)| *place == newest) {
            break;
        }
        for (session, place) in opened.iter_mut().filter(|(_, place)| *place != newest) {
            session.conn.query_drop("COMMIT").await.map_err(error)?;
            *place = begin(session).await?;
        }
    }
    let newest = opened.iter().map(|(_, place)| place.clone()).max().flatten();
    let sessions = opened.into_iter().filter(|(_, place)| *place == newest).map(|(session, _)| session);
    Ok((sessions.collect(), newest))
}

#[async_trait]
impl Snapshot for MySnapshot {
    fn start(&self) -> &Position {
        &self.start
    }

    async fn chunks(&self, table: &Arc<TableSchema>, options: ChunkOptions) -> Result<Vec<Chunk>> {
        let mut session = self.readers.take().await?;
        let chunks = super::chunks::plan(&mut session, table, options).await.map_err(|e| e.table(&table.id));
        self.readers.give_back(session).await;
        chunks
    }

    fn read<'a>(
        &'a self,
        table: &'a Arc<TableSchema>,
        chunk: &'a Chunk,
        _wanted: Option<&'a Condition>,
        batch_bytes: usize,
    ) -> BoxStream<'a, Result<ChangeBatch>> {
        let (send, batches) = mpsc::channel(1);
        let (readers, table, chunk) = (Arc::clone(&self.readers), Arc::clone(table), chunk.clone());
        tokio::spawn(async move {
            if let Err(error) = read::chunk(&readers, &table, &chunk, batch_bytes, &send).await {
                // Whoever has stopped listening knows why.
                let _ = send.send(Err(error.table(&table.id))).await;
            }
        });
        stream::unfold(batches, |mut batches| async move { Some((batches.recv().await?, batches)) }).boxed()
    }
}
