//! Snapshots: the tables at the start of a slot, read by any number of connections.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::Mutex;
use tokio_postgres::Client;
use trem_engine::change::ChangeBatch;
use trem_engine::chunk::Chunk;
use trem_engine::condition::Condition;
use trem_engine::ports::{ChunkOptions, Snapshot, SnapshotKind};
use trem_engine::position::Position;
use trem_engine::schema::{History, TableId, TableSchema};
use trem_engine::{Error, Result};

use super::read::Reading;
use super::readers::{Readers, expired};
use super::shared::Inner;
use super::{chunks, drift, holder, lsn, setup};
use crate::postgres::row::get;
use crate::postgres::types::{TypeBook, table_number};
use crate::postgres::wire::Conn;
use crate::postgres::{quote, sqlstate};

/// What keeps the exported snapshot alive: dropped, its session ends.
enum Holder {
    /// The connection that created the slot, which must not run another command.
    Slot { _conn: Mutex<Conn> },
    /// A transaction of an ordinary connection.
    Transaction { _client: Client },
}

/// The tables of a database at one place in its log.
pub(super) struct PgSnapshot {
    start: Position,
    readers: Readers,
    /// Sees the snapshot; plans chunks.
    planner: Client,
    /// What it has seen of the tables' past, by their numbers.
    past: HashMap<u32, History>,
    _holder: Holder,
}

impl PgSnapshot {
    pub(super) async fn take(inner: &Arc<Inner>, tables: &[Arc<TableSchema>], kind: SnapshotKind) -> Result<Self> {
        let started = async {
            match kind {
                SnapshotKind::Initial => initial(inner, tables).await,
                SnapshotKind::Additional => additional(inner).await,
                SnapshotKind::Standalone => standalone(inner).await,
            }
        };
        // Both to their end: cut off, the creation of a slot goes on at the server.
        let (started, planner) = tokio::join!(started, inner.config.connect(&inner.application));
        let ((start, name, holder), planner) = (started?, planner?);
        let name = quote::literal(&name);
        let begin = "SET lock_timeout TO '5s'; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        planner.batch_execute(begin).await.map_err(sqlstate::error)?;
        let import = format!("SET TRANSACTION SNAPSHOT {name}");
        planner.batch_execute(&import).await.map_err(snapshot_gone)?;
        let types = TypeBook::of(&planner, tables.iter().map(AsRef::as_ref)).await?;
        let partitioned = partitioned(&planner, tables).await?;
        let past = match kind {
            SnapshotKind::Initial | SnapshotKind::Additional => drift::loaded(inner, &planner, tables).await?,
            SnapshotKind::Standalone => HashMap::new(),
        };
        Ok(Self {
            start: lsn::position(start),
            readers: Readers::new(inner, name, types, partitioned),
            planner,
            past,
            _holder: holder,
        })
    }

    /// Lets go of the locks that planning took.
    async fn renew_planner(&self) -> Result<()> {
        let renew = format!(
            "COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            self.readers.name()
        );
        self.planner.batch_execute(&renew).await.map_err(snapshot_gone)
    }
}

async fn partitioned(client: &Client, tables: &[Arc<TableSchema>]) -> Result<HashSet<TableId>> {
    let sql = "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind = 'p'";
    let rows = client.query(sql, &[]).await.map_err(sqlstate::error)?;
    let ids = rows.iter().map(|r| Ok(TableId::new(get::<String>(r, 0)?, get::<String>(r, 1)?)));
    let all = ids.collect::<Result<HashSet<_>>>()?;
    Ok(tables.iter().map(|t| t.id.clone()).filter(|id| all.contains(id)).collect())
}

type Started = (u64, String, Holder);

/// Slot and publication, in the order in which no change falls between them.
async fn initial(inner: &Inner, tables: &[Arc<TableSchema>]) -> Result<Started> {
    setup::drop_slot(inner).await?;
    setup::publish(inner, tables, None).await?;
    let mut conn = inner.replication().await?;
    let slot = setup::create_slot(&mut conn, &inner.name, false).await?;
    Ok((slot.start, slot.snapshot, Holder::Slot { _conn: Mutex::new(conn) }))
}

/// The task's own slot keeps the log; a temporary one gives the place of the snapshot in it.
async fn additional(inner: &Inner) -> Result<Started> {
    let mut conn = inner.replication().await?;
    let slot = setup::create_slot(&mut conn, &inner.temporary_slot(), true).await?;
    Ok((slot.start, slot.snapshot, Holder::Slot { _conn: Mutex::new(conn) }))
}

/// Nothing is created: no log will be followed, so the place is for the eyes only.
async fn standalone(inner: &Inner) -> Result<Started> {
    let start = inner.current().await?;
    let client = inner.config.connect(&inner.application).await?;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    client.batch_execute(begin).await.map_err(sqlstate::error)?;
    let row = client.query_one("SELECT pg_export_snapshot()", &[]).await.map_err(sqlstate::error)?;
    Ok((start, get(&row, 0)?, Holder::Transaction { _client: client }))
}

fn snapshot_gone(e: tokio_postgres::Error) -> Error {
    expired(sqlstate::error(e))
}

#[async_trait]
impl Snapshot for PgSnapshot {
    // A slot keeps by itself what it takes to decode from its start, and the snapshot it exports is of that place.
    fn start(&self) -> &Position {
        &self.start
    }

    fn seen(&self, table: &Arc<TableSchema>) -> Arc<TableSchema> {
        match self.past.get(&table_number(table)) {
            Some(past) => Arc::new(table.with_history(past.clone())),
            None => Arc::clone(table),
        }
    }

    async fn chunks(&self, table: &Arc<TableSchema>, options: ChunkOptions) -> Result<Vec<Chunk>> {
        let planned = chunks::plan(&self.planner, table, options).await;
        self.renew_planner().await?;
        match planned {
            Ok(chunks) => Ok(chunks),
            Err(e) => Err(holder::locked(&self.planner, e, &[table_number(table)]).await.table(&table.id)),
        }
    }

    fn read<'a>(
        &'a self,
        table: &'a Arc<TableSchema>,
        chunk: &'a Chunk,
        wanted: Option<&'a Condition>,
        batch_bytes: usize,
    ) -> BoxStream<'a, Result<ChangeBatch>> {
        let reading = Reading::new(&self.readers, table, chunk, wanted, batch_bytes);
        stream::try_unfold(reading, |mut reading| async move {
            let batch = reading.next().await.map_err(|e| e.table(reading.table()))?;
            Ok(batch.map(|batch| (batch, reading)))
        })
        .boxed()
    }
}
