//! The lane: rows, checkpoint and epoch check in one transaction.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio_postgres::Client;
use trem_engine::change::{Mark, ReducedSet, ReducedStep, TableChanges, Truncate};
use trem_engine::ports::{Applied, TargetLane};
use trem_engine::position::Position;
use trem_engine::record::{Epoch, RecordChange, TableRecord};
use trem_engine::schema::{AddedColumns, SecondaryKind, SecondaryObject, TableId, TableSchema, TypeDefinition};
use trem_engine::task::OnExisting;
use trem_engine::{Class, Error, Remedy, Result};

use super::create::create_keys;
use super::fit::without_form;
use super::inspect::Facts;
use super::interference::interference;
use super::literal::literal;
use super::pipelined::Counts;
use super::session::{BEGIN_SET, Session};
use super::shape::TargetTable;
use super::tables::{self, Writers};
use super::{bookkeeping, inspect, prepare, secondary, wanted};
use crate::failpoint::{self, Point};
use crate::postgres::sqlstate::error as pg;
use crate::postgres::{counterpart, quote};
use crate::target::findings;
use crate::target::stored::fenced;

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
    pub(super) async fn open(client: Client, task: &str, epoch: Epoch, committed: Option<&Position>) -> Result<Self> {
        let session = Session::over(client).await?;
        let durability = Durability { last: committed.cloned(), ..Durability::default() };
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

    /// Keeps everything else of the task from committing until this connection ends.
    pub(super) async fn hold(&mut self) -> Result<()> {
        self.begin("BEGIN").await?;
        bookkeeping::hold(&self.session.client, &self.task).await
    }

    /// Applies rows in the transaction that [`PgLane::hold`] has begun, and ends it.
    pub(super) async fn mend(&mut self, set: ReducedSet, released: &[i64]) -> Result<()> {
        self.steps(set).await?;
        bookkeeping::release(&self.session.client, &self.task, released).await?;
        self.commit_transaction().await
    }

    /// The server's process.
    pub(super) fn pid(&self) -> i32 {
        self.session.pid
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
    async fn end_work(&mut self, changes: &[RecordChange]) -> Result<()> {
        self.write(changes).await?;
        self.commit_transaction().await
    }

    /// Checks the epoch and writes changes of the record, last, so that rows are locked for the shortest time. A lane
    /// that is locked out learns of it before it has locked the record.
    async fn write(&mut self, changes: &[RecordChange]) -> Result<()> {
        if !changes.iter().any(|c| matches!(c, RecordChange::Checkpoint { .. })) {
            bookkeeping::fence(&self.session.client, &self.task, self.epoch).await?;
        }
        for change in changes {
            let client = Arc::clone(&self.session.client);
            if let RecordChange::Checkpoint { lane, at, committed_at } = change {
                let moves = self.session.statement(bookkeeping::MOVE).await?;
                let of = (self.task.as_str(), self.epoch);
                bookkeeping::checkpoint(&client, &moves, of, *lane, at, *committed_at).await?;
            } else {
                bookkeeping::write(&client, &self.task, change).await?;
            }
        }
        Ok(())
    }

    async fn commit_transaction(&mut self) -> Result<()> {
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
        let held = inspect::held(client, &ids).await?;
        let (deleted, truncated): (Vec<&TableId>, Vec<&TableId>) =
            ids.iter().partition(|id| id.part.is_some() || held.contains(id));
        for id in deleted {
            self.delete_all(id).await?;
        }
        let Some(first) = truncated.first() else { return Ok(()) };
        let names = truncated.iter().map(|id| quote::table(id)).collect::<Vec<_>>().join(", ");
        let restart = if truncate.restart_identity { " RESTART IDENTITY" } else { "" };
        let sql = format!("TRUNCATE {names}{restart}");
        client.batch_execute(&sql).await.map_err(|e| pg(e).target_table(first).of_table())
    }

    /// Empties a table that others have foreign keys to, or that has rows of others.
    async fn delete_all(&self, id: &TableId) -> Result<()> {
        let client = &self.session.client;
        if !self.session.replica
            && let Some(hazard) = inspect::hazards(client, &[id]).await?.remove(id).and_then(|h| h.into_iter().next())
        {
            return Err(hazard.refusal(id, "it must be emptied"));
        }
        client.batch_execute(&quote::QUOTES.delete(id)?).await.map_err(|e| pg(e).target_table(id).of_table())
    }

    async fn mark(&self, mark: &Mark) -> Result<()> {
        let column = &mark.table.columns[mark.column];
        let Some(value) = literal(&mark.value, 0, &column.ty)? else { return Ok(()) };
        let (table, name) = (quote::table(&mark.table.id), quote::ident(&column.name));
        let (ty, own) = (counterpart::name(column), quote::QUOTES.and_own(&mark.table.id));
        let sql = format!("UPDATE {table} SET {name} = {value}::{ty} WHERE {name} IS NULL{own}");
        self.session.client.execute(&sql, &[]).await.map(drop).map_err(pg)
    }

    async fn add_columns(&mut self, added: &AddedColumns) -> Result<()> {
        self.writers.forget(&added.next.id);
        self.session.forget_statements();
        add_columns(&self.session, added).await.map_err(|e| e.target_table(&added.next.id).of_table())
    }

    /// A rule made since the table was looked at swallows changes, and all that is seen of it is that too few rows were
    /// met.
    async fn look_for_rules(&self, applied: &Counts) -> Result<()> {
        let short: Vec<&TableId> = applied.iter().filter(|(_, c)| c.conflicts > 0).map(|(id, _)| id).collect();
        if short.is_empty() {
            return Ok(());
        }
        for (id, found) in interference(&self.session.client, &short, self.session.replica).await? {
            findings::verdict(&id, &found).map_err(Error::of_table)?;
        }
        Ok(())
    }

    async fn steps(&mut self, set: ReducedSet) -> Result<Applied> {
        let mut applied = Counts::new();
        let mut tables = Vec::new();
        for step in set.steps {
            match step {
                ReducedStep::Table(changes) => tables.push(changes),
                ReducedStep::Truncate(truncate) => {
                    self.flush(&mut tables, &mut applied).await?;
                    self.truncate(&truncate).await?;
                }
                ReducedStep::Mark(mark) => {
                    self.flush(&mut tables, &mut applied).await?;
                    self.mark(&mark).await.map_err(|e| e.target_table(&mark.table.id).of_table())?;
                }
                ReducedStep::AddColumns(added) => {
                    self.flush(&mut tables, &mut applied).await?;
                    self.add_columns(&added).await?;
                }
            }
        }
        self.flush(&mut tables, &mut applied).await?;
        self.look_for_rules(&applied).await?;
        Ok(Applied { tables: applied.into_iter().collect() })
    }
}

/// Ends sessions of this task whose process stopped answering inside a transaction: they would hold their rows' locks
/// for as long as the operating system believes in the connection. Their epoch is about to be over anyway.
pub(super) async fn end_stalled(client: &Client) {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = current_setting('application_name') AND datname = current_database() \
               AND usename = current_user AND pid <> pg_backend_pid() AND xact_start IS NOT NULL \
               AND wait_event = 'ClientRead' AND state_change < clock_timestamp() - interval '10 seconds'";
    if let Err(e) = client.batch_execute(sql).await {
        tracing::debug!(error = %e, "could not look for stalled sessions");
    }
}

async fn add_columns(session: &Session, added: &AddedColumns) -> Result<()> {
    let AddedColumns { before, next, existing } = added;
    findings::verdict(&next.id, &without_form(next))?;
    let Session { client, reads, .. } = session;
    let have = TargetTable::read(client, reads, &next.id).await?;
    let gone = || Error::new(Class::Table, "the target table is gone").remedy(Remedy::Reload(next.id.clone()));
    let have = have.ok_or_else(gone)?;
    let name = quote::table(&next.id);
    let added = next.columns.iter().filter(|c| before.column(&c.name).is_none());
    for (column, value) in added.zip(existing.columns()) {
        let (quoted, ty) = (quote::ident(&column.name), counterpart::name(column));
        let value = literal(value, 0, &column.ty)?.map(|v| format!("{v}::{ty}"));
        let shared = next.id.part.is_some();
        let there = have.column(&column.name).is_some();
        if shared && !there {
            client.batch_execute(&format!("ALTER TABLE {name} ADD COLUMN {quoted} {ty}")).await.map_err(pg)?;
        }
        if shared || there {
            // Someone was ahead of the log: the rows that are there get the value they have at the source.
            if let Some(value) = value {
                let own = quote::QUOTES.and_own(&next.id);
                client
                    .batch_execute(&format!("UPDATE {name} SET {quoted} = {value} WHERE true{own}"))
                    .await
                    .map_err(pg)?;
            }
            continue;
        }
        let not_null = if column.nullable { "" } else { " NOT NULL" };
        let default = value.as_ref().map(|v| format!(" DEFAULT {v}")).unwrap_or_default();
        let mut sql = format!("ALTER TABLE {name} ADD COLUMN {quoted} {ty}{default}{not_null};");
        if value.is_some() {
            sql.push_str(&format!("ALTER TABLE {name} ALTER COLUMN {quoted} DROP DEFAULT;"));
        }
        client.batch_execute(&sql).await.map_err(pg)?;
    }
    let have = TargetTable::read(client, reads, &next.id).await?;
    let misfits = have.map(|h| h.misfits(next, true)).unwrap_or_default();
    findings::verdict(&next.id, &misfits)
}

#[async_trait]
impl TargetLane for PgLane {
    fn refresh(&mut self) {
        self.writers.forget_all();
        self.session.forget_statements();
    }

    async fn commit(&mut self, changes: &[RecordChange]) -> Result<()> {
        self.begin_work().await?;
        self.end_work(changes).await?;
        for change in changes {
            if let RecordChange::Checkpoint { at, .. } = change {
                self.durability.last = Some(at.position.clone());
            }
        }
        Ok(())
    }

    async fn prepare_types(&mut self, types: &[TypeDefinition]) -> Result<Vec<(TableId, Error)>> {
        self.begin_work().await?;
        let client = &self.session.client;
        let missing = wanted::missing(client, types).await?;
        let failed = wanted::create(client, missing).await?;
        self.end_work(&[]).await?;
        Ok(failed)
    }

    async fn prepare(
        &mut self,
        mut record: TableRecord,
        known: Option<&TableRecord>,
        on_existing: OnExisting,
    ) -> Result<TableRecord> {
        self.begin_work().await?;
        let table = Arc::clone(&record.target);
        self.writers.forget(&table.id);
        let client = &self.session.client;
        bookkeeping::claim(client, &table.id).await?;
        let (reads, replica) = (&self.session.reads, self.session.replica);
        let facts = Facts::read(client, reads, Some(&self.task), &[&table.id], on_existing, replica).await?;
        let decision = prepare::decide(&facts, &record, known, on_existing);
        if let Err(refused) = findings::verdict(&table.id, &decision.findings) {
            // What has been looked at is the operator's to mend now: no lock stays on it.
            client.batch_execute("ROLLBACK").await.map_err(pg)?;
            self.in_transaction = false;
            return Err(refused);
        }
        for sql in decision.schema.iter().chain(&decision.before) {
            client.batch_execute(sql).await.map_err(|e| pg(e).target_table(&table.id))?;
        }
        record.origin = decision.origin;
        self.end_work(&[RecordChange::Table(Box::new(record.clone()))]).await?;
        Ok(record)
    }

    async fn prepare_history(&mut self, history: &Arc<TableSchema>) -> Result<()> {
        self.begin_work().await?;
        self.writers.forget(&history.id);
        let client = &self.session.client;
        bookkeeping::claim(client, &history.id).await?;
        let (reads, replica) = (&self.session.reads, self.session.replica);
        let mut facts = Facts::read(client, reads, Some(&self.task), &[&history.id], OnExisting::Keep, replica).await?;
        let decision = prepare::decide_history(&mut facts, history);
        if let Err(refused) = findings::verdict(&history.id, &decision.findings) {
            client.batch_execute("ROLLBACK").await.map_err(pg)?;
            self.in_transaction = false;
            return Err(refused);
        }
        for sql in decision.schema.iter().chain(&decision.before) {
            client.batch_execute(sql).await.map_err(|e| pg(e).target_table(&history.id))?;
        }
        self.end_work(&[]).await
    }

    async fn empty(&mut self, table: &Arc<TableSchema>, changes: &[RecordChange]) -> Result<()> {
        self.begin_work().await?;
        let client = &self.session.client;
        if table.id.part.is_none() && inspect::held(client, &[&table.id]).await?.is_empty() {
            let sql = format!("TRUNCATE {}", quote::table(&table.id));
            client.batch_execute(&sql).await.map_err(|e| pg(e).target_table(&table.id))?;
        } else {
            self.delete_all(&table.id).await?;
        }
        self.end_work(changes).await
    }

    async fn finish(&mut self, record: &TableRecord, changes: &[RecordChange]) -> Result<()> {
        self.begin_work().await?;
        let table = &record.target;
        self.writers.forget(&table.id);
        let client = &self.session.client;
        if table.id.part.is_some() {
            // Others may be about to build the same keys.
            bookkeeping::claim(client, &table.id).await?;
        }
        if record.origin.created {
            let have = TargetTable::read(client, &self.session.reads, &table.id).await?;
            for sql in create_keys(table, have.as_ref()) {
                client.batch_execute(&sql).await.map_err(|e| pg(e).target_table(&table.id))?;
            }
        }
        self.end_work(changes).await
    }

    async fn create_secondary(&mut self, objects: &[SecondaryObject]) -> Result<()> {
        self.writers.forget_all();
        // Rows of one transaction come table by table: a foreign key that fires would refuse them on their way.
        let harmless = |o: &&SecondaryObject| self.session.replica || o.kind != SecondaryKind::ForeignKey;
        let (created, left): (Vec<&SecondaryObject>, Vec<_>) = objects.iter().partition(harmless);
        for object in left {
            let (table, name) = (&object.table, &object.name);
            tracing::warn!(%table, "foreign key {name} is not created: the role may not set session_replication_role");
        }
        secondary::create(&self.session.client, &created.into_iter().cloned().collect::<Vec<_>>()).await
    }

    async fn apply(&mut self, set: ReducedSet, changes: &[RecordChange]) -> Result<Applied> {
        if !self.open_set {
            self.begin(BEGIN_SET).await?;
        } else if !self.in_transaction {
            return Err(Error::fatal("internal: the beginning of this transaction has been rolled back"));
        }
        let span = set.span.clone();
        failpoint::panic(Point::LanePanics);
        let applied = self.steps(set).await?;
        if span.open {
            self.open_set = true;
            return Ok(applied);
        }
        self.write(changes).await?;
        self.commit_transaction().await?;
        self.durability.last = Some(span.end);
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
            "UPDATE trem.lane SET updated_at = clock_timestamp() \
             WHERE task = {} AND epoch = {}",
            quote::literal(&self.task),
            self.epoch.0
        );
        match self.session.client.execute(&sql, &[]).await.map_err(pg)? {
            0 => Err(fenced(&self.task)),
            _ => Ok(()),
        }
    }
}
