//! The lane: rows, checkpoint and epoch check in one transaction.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio_postgres::Client;
use trem_engine::change::{ChangeSet, Step, TableChanges, Truncate};
use trem_engine::ports::{Applied, Chunk, Epoch, TableState, TargetLane, TaskRecord};
use trem_engine::position::{Checkpoint, Lineage, Position};
use trem_engine::schema::{SchemaChange, SchemaChangeKind, SecondaryObject, TableId, TableSchema, TypeDefinition};
use trem_engine::task::OnExisting;
use trem_engine::{Error, Result};

use super::facts::Facts;
use super::session::{BEGIN_SET, Session};
use super::shape::{TargetTable, create_keys};
use super::tables::{self, Counts, Writers};
use super::{bookkeeping, facts, prepare, secondary};
use crate::failpoint::{self, Point};
use crate::postgres::quote;
use crate::postgres::sqlstate::error as pg;

/// How long an acknowledgement may wait for the target's own background flush.
const FLUSH_AFTER: Duration = Duration::from_secs(1);

/// The lane of a task.
pub(super) struct PgLane {
    session: Session,
    task: String,
    epoch: Epoch,
    writers: Writers,
    in_transaction: bool,
    /// The transaction holds a set whose end is still to come.
    open_set: bool,
    durability: Durability,
}

/// Which commits the target's disk has.
#[derive(Default)]
struct Durability {
    /// The last commit, while its place in the target's log has not been asked for.
    last: Option<Position>,
    /// Commits and a place in the target's log that is not before them.
    waiting: VecDeque<(u64, Position, Instant)>,
    durable: Option<Position>,
}

impl Durability {
    /// Everything committed is on disk.
    fn all(&mut self) {
        let last = self.last.take().or_else(|| self.waiting.pop_back().map(|w| w.1));
        self.waiting.clear();
        self.durable = last.or(self.durable.take());
    }

    /// The target's log ends at `insert` and is on disk up to `flush`.
    fn seen(&mut self, insert: u64, flush: u64) {
        if let Some(last) = self.last.take() {
            self.waiting.push_back((insert, last, Instant::now()));
        }
        while let Some((_, position, _)) = self.waiting.pop_front_if(|(at, ..)| *at <= flush) {
            self.durable = Some(position);
        }
    }
}

impl PgLane {
    pub(super) async fn open(client: Client, task: &str) -> Result<Self> {
        let session = Session::over(client).await?;
        let client = &session.client;
        end_stalled(client).await;
        client.batch_execute("BEGIN").await.map_err(pg)?;
        bookkeeping::create(client).await?;
        let epoch = bookkeeping::take_epoch(client, task).await?;
        client.batch_execute("COMMIT").await.map_err(pg)?;
        let mut durability = Durability::default();
        let record = bookkeeping::read(client, task).await?;
        durability.last = record.and_then(|r| r.checkpoint).map(|c| c.position);
        Ok(Self {
            session,
            task: task.to_owned(),
            epoch,
            writers: Writers::default(),
            in_transaction: false,
            open_set: false,
            durability,
        })
    }

    /// Begins a transaction of bookkeeping and tables. One that failed before, and was not followed by the end of the
    /// lane, is rolled back.
    async fn begin_work(&mut self) -> Result<()> {
        if self.open_set {
            return Err(Error::fatal("internal: tables are looked after while a set is open"));
        }
        self.begin("BEGIN").await
    }

    async fn begin(&mut self, begin: &str) -> Result<()> {
        if self.in_transaction {
            self.session.client.batch_execute("ROLLBACK").await.map_err(pg)?;
        }
        self.session.client.batch_execute(begin).await.map_err(pg)?;
        self.in_transaction = true;
        Ok(())
    }

    /// Ends a transaction of bookkeeping and tables.
    async fn end_work(&mut self) -> Result<()> {
        bookkeeping::fence(&self.session.client, &self.task, self.epoch).await?;
        self.commit().await
    }

    async fn commit(&mut self) -> Result<()> {
        failpoint::crash(Point::LaneBeforeCommit);
        if failpoint::fires(Point::LaneCommitLost) {
            let client = &self.session.client;
            let _ = tokio::time::timeout(Duration::from_millis(50), client.batch_execute("COMMIT")).await;
            return Err(Error::transient("the connection was lost while the answer to COMMIT was awaited"));
        }
        self.session.client.batch_execute("COMMIT").await.map_err(pg)?;
        failpoint::crash(Point::LaneAfterCommit);
        self.in_transaction = false;
        self.open_set = false;
        self.session.transaction_ended();
        Ok(())
    }

    /// Applies what has come of tables so far.
    async fn flush(&mut self, tables: &mut Vec<TableChanges>, applied: &mut Counts) -> Result<()> {
        tables::apply(std::mem::take(tables), &mut self.session, &mut self.writers, applied).await
    }

    /// Empties the tables of a TRUNCATE at the source, and no other: the log names every one that it emptied there.
    async fn truncate(&mut self, truncate: &Truncate) -> Result<()> {
        let client = &self.session.client;
        let ids: Vec<&TableId> = truncate.tables.iter().map(|t| &t.id).collect();
        let held = facts::held(client, &ids).await?;
        let (deleted, truncated): (Vec<&TableId>, Vec<&TableId>) = ids.iter().partition(|id| held.contains(id));
        for id in deleted {
            self.delete_all(id).await?;
        }
        let Some(first) = truncated.first() else { return Ok(()) };
        let names = truncated.iter().map(|id| quote::table(id)).collect::<Vec<_>>().join(", ");
        let restart = if truncate.restart_identity { " RESTART IDENTITY" } else { "" };
        let sql = format!("TRUNCATE {names}{restart}");
        client.batch_execute(&sql).await.map_err(|e| pg(e).table(first).of_table())
    }

    /// Empties a table that others have foreign keys to.
    async fn delete_all(&self, id: &TableId) -> Result<()> {
        let client = &self.session.client;
        if !self.session.replica
            && let Some(hazard) = facts::hazards(client, &[id]).await?.remove(id).and_then(|h| h.into_iter().next())
        {
            return Err(hazard.refusal(id, "it must be emptied"));
        }
        let sql = format!("DELETE FROM {}", quote::table(id));
        client.batch_execute(&sql).await.map_err(|e| pg(e).table(id).of_table())
    }

    async fn change_schema(&mut self, change: &SchemaChange) -> Result<()> {
        let id = &change.table.id;
        self.writers.forget(id);
        self.session.forget_statements();
        let client = &self.session.client;
        match &change.kind {
            SchemaChangeKind::AddColumns { next, existing } => {
                let added = add_columns(&self.session, &change.table, next, existing).await;
                added.map_err(|e| e.table(id).of_table())?;
                let shape = bookkeeping::shape_text(next)?;
                let sql = "UPDATE trem.table_state SET shape = $4, updated_at = clock_timestamp() \
                           WHERE task = $1 AND schema_name = $2 AND table_name = $3";
                client.execute(sql, &[&self.task, &id.schema, &id.table, &shape]).await.map_err(pg)?;
            }
            SchemaChangeKind::Reload { .. } => {
                bookkeeping::set_state(client, &self.task, id, TableState::Reload).await?;
            }
            SchemaChangeKind::Suspend { reason, remedy } => {
                bookkeeping::suspend(client, &self.task, id, reason, remedy).await?;
            }
        }
        Ok(())
    }

    async fn steps(&mut self, set: ChangeSet) -> Result<Applied> {
        let mut applied = Counts::new();
        let mut tables = Vec::new();
        for step in set.reduce()?.steps {
            match step {
                Step::Table(changes) => tables.push(changes),
                Step::Rows(batch) => return Err(Error::fatal("internal: rows were not reduced").table(&batch.table.id)),
                Step::Truncate(truncate) => {
                    self.flush(&mut tables, &mut applied).await?;
                    self.truncate(&truncate).await?;
                }
                Step::Schema(change) => {
                    self.flush(&mut tables, &mut applied).await?;
                    self.change_schema(&change).await?;
                }
            }
        }
        self.flush(&mut tables, &mut applied).await?;
        Ok(Applied { tables: applied.into_iter().collect() })
    }
}

/// Ends sessions of this task whose process stopped answering inside a transaction: they would hold their rows' locks
/// for as long as the operating system believes in the connection. Their epoch is about to be over anyway.
async fn end_stalled(client: &tokio_postgres::Client) {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = current_setting('application_name') AND datname = current_database() \
               AND usename = current_user AND pid <> pg_backend_pid() AND xact_start IS NOT NULL \
               AND wait_event = 'ClientRead' AND state_change < clock_timestamp() - interval '10 seconds'";
    if let Err(e) = client.batch_execute(sql).await {
        tracing::debug!(error = %e, "could not look for stalled sessions");
    }
}

async fn add_columns(
    session: &Session,
    before: &TableSchema,
    next: &TableSchema,
    existing: &[Option<String>],
) -> Result<()> {
    let Session { client, reads, .. } = session;
    let have = TargetTable::read(client, reads, &next.id).await?;
    let have = have.ok_or_else(|| Error::fatal("the target table is gone").remedy("reload the table"))?;
    let name = quote::table(&next.id);
    let added = next.columns.iter().filter(|c| before.column(&c.name).is_none());
    for (column, value) in added.zip(existing.iter().chain(std::iter::repeat(&None))) {
        let quoted = quote::ident(&column.name);
        let value = value.as_ref().map(|v| format!("{}::{}", quote::literal(v), column.native.name));
        if have.column(&column.name).is_some() {
            // Someone was ahead of the log: the rows that are there get the value they have at the source.
            if let Some(value) = value {
                client.batch_execute(&format!("UPDATE {name} SET {quoted} = {value}")).await.map_err(pg)?;
            }
            continue;
        }
        let not_null = if column.nullable { "" } else { " NOT NULL" };
        let default = value.as_ref().map(|v| format!(" DEFAULT {v}")).unwrap_or_default();
        let mut sql = format!("ALTER TABLE {name} ADD COLUMN {quoted} {}{default}{not_null};", column.native.name);
        if value.is_some() {
            sql.push_str(&format!("ALTER TABLE {name} ALTER COLUMN {quoted} DROP DEFAULT;"));
        }
        client.batch_execute(&sql).await.map_err(pg)?;
    }
    let have = TargetTable::read(client, reads, &next.id).await?;
    let misfits = have.map(|h| h.misfits(next, true)).unwrap_or_default();
    prepare::verdict(next, &misfits)
}

#[async_trait]
impl TargetLane for PgLane {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    async fn record(&mut self) -> Result<TaskRecord> {
        Ok(bookkeeping::read(&self.session.client, &self.task).await?.unwrap_or_default())
    }

    async fn begin(&mut self, lineage: &Lineage) -> Result<()> {
        let sql = "UPDATE trem.task SET lineage = $3, updated_at = clock_timestamp() WHERE task = $1 AND epoch = $2";
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&self.task, &self.epoch.0, &lineage.0];
        match self.session.client.execute(sql, &parameters).await.map_err(pg)? {
            1 => Ok(()),
            _ => Err(bookkeeping::fenced(&self.task)),
        }
    }

    async fn prepare_types(&mut self, types: &[TypeDefinition]) -> Result<()> {
        self.begin_work().await?;
        for sql in prepare::missing_types(&self.session.client, types).await? {
            self.session.client.batch_execute(&sql).await.map_err(pg)?;
        }
        self.end_work().await
    }

    async fn prepare(&mut self, table: &Arc<TableSchema>, on_existing: OnExisting, load: bool) -> Result<()> {
        self.begin_work().await?;
        self.writers.forget(&table.id);
        let client = &self.session.client;
        bookkeeping::claim(client, &table.id).await?;
        let known = bookkeeping::origin(client, &self.task, &table.id).await?;
        let (reads, replica) = (&self.session.reads, self.session.replica);
        let facts = Facts::read(client, reads, Some(&self.task), &[&table.id], on_existing, replica).await?;
        let decision = prepare::decide(&facts, table, on_existing, load, known);
        if let Err(refused) = prepare::verdict(table, &decision.findings) {
            // What has been looked at is the operator's to mend now: no lock stays on it.
            client.batch_execute("ROLLBACK").await.map_err(pg)?;
            self.in_transaction = false;
            return Err(refused);
        }
        for sql in &decision.before {
            client.batch_execute(sql).await.map_err(|e| pg(e).table(&table.id))?;
        }
        bookkeeping::put_table(client, &self.task, table, decision.origin).await?;
        self.end_work().await
    }

    async fn plan_chunks(&mut self, table: &Arc<TableSchema>, chunks: &[Chunk], empty: bool) -> Result<()> {
        self.begin_work().await?;
        let client = &self.session.client;
        let keeps = bookkeeping::origin(client, &self.task, &table.id).await?.is_some_and(|o| o.keeps_rows);
        // A chunk that is in and is not to stay was read at a snapshot that is gone.
        let loaded = bookkeeping::any_chunk_done(client, &self.task, &table.id).await?;
        if keeps && loaded {
            return Err(Error::refused(
                "its load was interrupted, and the rows loaded so far cannot be told from those it keeps",
            )
            .table(&table.id)
            .remedy(format!("empty it on the target (DELETE FROM {}), then reload it", quote::table(&table.id))));
        }
        if !keeps && (empty || loaded) {
            if facts::held(client, &[&table.id]).await?.is_empty() {
                let sql = format!("TRUNCATE {}", quote::table(&table.id));
                client.batch_execute(&sql).await.map_err(|e| pg(e).table(&table.id))?;
            } else {
                self.delete_all(&table.id).await?;
            }
        }
        bookkeeping::put_chunks(client, &self.task, &table.id, chunks).await?;
        self.end_work().await
    }

    async fn finish_table(&mut self, table: &Arc<TableSchema>) -> Result<()> {
        self.begin_work().await?;
        self.writers.forget(&table.id);
        let client = &self.session.client;
        let created = bookkeeping::origin(client, &self.task, &table.id).await?.is_some_and(|o| o.created_by_trem);
        if created {
            let have = TargetTable::read(client, &self.session.reads, &table.id).await?;
            for sql in create_keys(table, have.as_ref()) {
                client.batch_execute(&sql).await.map_err(|e| pg(e).table(&table.id))?;
            }
        }
        if !bookkeeping::set_state(client, &self.task, &table.id, TableState::Ready).await? {
            return Err(Error::fatal("internal: a table is finished that the record does not know").table(&table.id));
        }
        self.end_work().await
    }

    async fn create_secondary(&mut self, objects: &[SecondaryObject]) -> Result<()> {
        self.writers.forget_all();
        secondary::create(&self.session.client, objects).await
    }

    async fn suspend(&mut self, table: &Arc<TableSchema>, reason: &str, remedy: &str) -> Result<()> {
        self.begin_work().await?;
        let client = &self.session.client;
        if bookkeeping::origin(client, &self.task, &table.id).await?.is_none() {
            let state = TableState::Suspended;
            let origin = bookkeeping::Origin { state, created_by_trem: false, keeps_rows: false };
            bookkeeping::put_table(client, &self.task, table, origin).await?;
        }
        bookkeeping::suspend(client, &self.task, &table.id, reason, remedy).await?;
        self.end_work().await
    }

    async fn forget_table(&mut self, table: &TableId) -> Result<()> {
        self.begin_work().await?;
        self.writers.forget(table);
        bookkeeping::forget_table(&self.session.client, &self.task, table).await?;
        self.end_work().await
    }

    async fn apply(&mut self, set: ChangeSet, next: &Checkpoint) -> Result<Applied> {
        if !self.open_set {
            self.begin(BEGIN_SET).await?;
        } else if !self.in_transaction {
            return Err(Error::fatal("internal: the beginning of this transaction has been rolled back"));
        }
        let (open, committed_at) = (set.open, set.committed_at);
        let applied = self.steps(set).await?;
        if open {
            self.open_set = true;
            return Ok(applied);
        }
        // Last, so that the row is locked for the shortest time.
        let sql = "UPDATE trem.task SET lineage = $3, position_order = $4::text::numeric, position = $5, \
                   committed_at = coalesce($6, committed_at), updated_at = clock_timestamp() \
                   WHERE task = $1 AND epoch = $2";
        let order = next.position.order().to_string();
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&self.task, &self.epoch.0, &next.lineage.0, &order, &next.position.resume(), &committed_at];
        let statement = self.session.statement(sql).await?;
        if self.session.client.execute(&statement, &parameters).await.map_err(pg)? != 1 {
            return Err(bookkeeping::fenced(&self.task));
        }
        self.commit().await?;
        self.durability.last = Some(next.position.clone());
        Ok(applied)
    }

    async fn durable(&mut self, now: bool) -> Result<Option<Position>> {
        if now && self.in_transaction {
            self.session.client.batch_execute("ROLLBACK").await.map_err(pg)?;
            self.in_transaction = false;
        }
        if self.durability.last.is_none() && self.durability.waiting.is_empty() {
            return Ok(self.durability.durable.clone());
        }
        let late = self.durability.waiting.front().is_some_and(|w| w.2.elapsed() > FLUSH_AFTER);
        if (now || late) && !self.in_transaction {
            self.force_flush().await?;
            self.durability.all();
            return Ok(self.durability.durable.clone());
        }
        let sql = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::text, \
                   (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::text, \
                   current_setting('synchronous_standby_names') <> ''";
        let statement = self.session.statement(sql).await?;
        let row = self.session.client.query_one(&statement, &[]).await.map_err(pg)?;
        let lsn = |i: usize| -> Result<u64> {
            let text: String = row.try_get(i).map_err(pg)?;
            text.parse().map_err(|e| Error::fatal("the target's log position is not a number").cause(e))
        };
        let (insert, flush) = (lsn(0)?, lsn(1)?);
        // A failover keeps what the standbys have, which only a synchronous commit waits for.
        let replicated: bool = row.try_get(2).map_err(pg)?;
        self.durability.seen(insert, if replicated { 0 } else { flush });
        Ok(self.durability.durable.clone())
    }
}

impl PgLane {
    /// A synchronous commit takes everything before it to disk, where the background writer leaves the last page.
    async fn force_flush(&self) -> Result<()> {
        let sql = format!(
            "UPDATE trem.task SET updated_at = clock_timestamp() \
             WHERE task = {} AND epoch = {}",
            quote::literal(&self.task),
            self.epoch.0
        );
        match self.session.client.execute(&sql, &[]).await.map_err(pg)? {
            1 => Ok(()),
            _ => Err(bookkeeping::fenced(&self.task)),
        }
    }
}
