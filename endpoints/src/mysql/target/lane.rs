//! The lane: rows, checkpoint and epoch check in one transaction.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use trem_engine::change::{Effect, Mark, ReducedSet, ReducedStep, TableChanges, Truncate};
use trem_engine::ports::{Applied, TargetLane};
use trem_engine::position::Position;
use trem_engine::record::{Epoch, RecordChange, TableRecord, TableState};
use trem_engine::schema::{TableId, TableSchema, TypeDefinition};
use trem_engine::task::OnExisting;
use trem_engine::{Error, Result};

use super::encode::{self, Form};
use super::grown::{self, Grown};
use super::pipe::{Counts, Kept, Pipe};
use super::prepare::{self, Decision, Facts};
use super::session::Session;
use super::writer::Writer;
use super::{bookkeeping, keyed, keyless};
use crate::failpoint::{self, Point};
use crate::mysql::quote;
use crate::target::findings;
use crate::view::View;

/// How long a server takes at most to bring a commit to its disk that it has answered before: it does so each second.
/// (MySQL manual, `innodb_flush_log_at_timeout`.)
const FLUSHED_AFTER: Duration = Duration::from_secs(3);

/// The lane of a task.
pub(super) struct MyLane {
    session: Session,
    task: String,
    epoch: Epoch,
    /// The tables as the target has them.
    writers: HashMap<TableId, Arc<Writer>>,
    /// So many have been looked at.
    opened: usize,
    in_transaction: bool,
    /// The transaction holds a set whose end is still to come.
    open_set: bool,
    kept: Kept,
    /// Commits that may not be on the disk yet.
    waiting: VecDeque<(Instant, Position)>,
    durable: Option<Position>,
}

impl MyLane {
    pub(super) fn open(session: Session, task: &str, epoch: Epoch, committed: Option<&Position>) -> Self {
        let mut lane = Self {
            session,
            task: task.to_owned(),
            epoch,
            writers: HashMap::new(),
            opened: 0,
            in_transaction: false,
            open_set: false,
            kept: Kept::default(),
            waiting: VecDeque::new(),
            durable: None,
        };
        lane.committed(committed.cloned());
        lane
    }

    /// Keeps everything else of the task from committing until this connection ends.
    pub(super) async fn hold(&mut self) -> Result<()> {
        self.begin().await?;
        bookkeeping::hold(&mut self.session, &self.task).await
    }

    /// Applies rows in the transaction that [`MyLane::hold`] has begun, and ends it.
    pub(super) async fn mend(&mut self, set: ReducedSet, released: &[i64]) -> Result<()> {
        self.steps(set, &[]).await?;
        bookkeeping::release(&mut self.session, &self.task, released).await?;
        self.commit_transaction().await
    }

    fn committed(&mut self, position: Option<Position>) {
        match position {
            Some(position) if self.session.durable => self.durable = Some(position),
            Some(position) => self.waiting.push_back((Instant::now(), position)),
            None => {}
        }
    }

    /// Begins a transaction of bookkeeping and tables. One that failed before, and was not followed by the end of the
    /// lane, is rolled back.
    async fn begin_work(&mut self) -> Result<()> {
        if self.open_set {
            return Err(Error::fatal("internal: tables are looked after while a set is open"));
        }
        self.begin().await
    }

    async fn begin(&mut self) -> Result<()> {
        self.roll_back().await?;
        self.session.execute("START TRANSACTION").await?;
        self.in_transaction = true;
        Ok(())
    }

    async fn roll_back(&mut self) -> Result<()> {
        if std::mem::take(&mut self.in_transaction) {
            self.session.execute("ROLLBACK").await?;
        }
        Ok(())
    }

    /// Ends a transaction of bookkeeping and tables.
    async fn end_work(&mut self, changes: &[RecordChange]) -> Result<()> {
        self.write(changes).await?;
        self.commit_transaction().await
    }

    /// Checks the epoch and writes changes of the record, last, so that rows are locked for the shortest time.
    async fn write(&mut self, changes: &[RecordChange]) -> Result<()> {
        if !changes.iter().any(|c| matches!(c, RecordChange::Checkpoint { .. })) {
            bookkeeping::fence(&mut self.session, &self.task, self.epoch).await?;
        }
        for change in changes {
            match change {
                RecordChange::Checkpoint { lane, at, committed_at } => {
                    let of = (self.task.as_str(), self.epoch);
                    bookkeeping::checkpoint(&mut self.session, of, *lane, at, *committed_at).await?;
                }
                other => bookkeeping::write(&mut self.session, &self.task, other).await?,
            }
        }
        Ok(())
    }

    async fn commit_transaction(&mut self) -> Result<()> {
        failpoint::crash(Point::LaneBeforeCommit);
        if failpoint::fires(Point::LaneCommitLost) {
            let _ = tokio::time::timeout(Duration::from_millis(50), self.session.execute("COMMIT")).await;
            return Err(Error::transient("the connection was lost while the answer to COMMIT was awaited"));
        }
        self.session.execute("COMMIT").await?;
        failpoint::crash(Point::LaneAfterCommit);
        (self.in_transaction, self.open_set) = (false, false);
        Ok(())
    }

    /// Looks at those of the tables that are not known as they are now.
    async fn look_at(&mut self, tables: &[TableChanges]) -> Result<()> {
        let known = |table: &Arc<TableSchema>| self.writers.get(&table.id).is_some_and(|w| w.schema == *table);
        let new: Vec<Arc<TableSchema>> = tables.iter().map(|t| &t.table).filter(|t| !known(t)).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        let writers = Writer::open_all(&mut self.session, &new, self.opened + 1).await?;
        self.opened += writers.len();
        self.writers.extend(writers.into_iter().map(|w| (w.schema.id.clone(), Arc::new(w))));
        Ok(())
    }

    /// Applies what has come of tables so far.
    async fn flush(&mut self, tables: &mut Vec<TableChanges>, applied: &mut Counts) -> Result<()> {
        let tables = std::mem::take(tables);
        self.look_at(&tables).await?;
        let mut pipe = Pipe::new(&mut self.session, &mut self.kept);
        for TableChanges { table, effect } in tables {
            let unknown = || Error::fatal("internal: the table has not been looked at").target_table(&table.id);
            let writer = self.writers.get(&table.id).ok_or_else(unknown)?;
            let done = match effect {
                Effect::Net(net) => keyed::apply(&mut pipe, writer, &net).await,
                Effect::Log(batches) => keyless::apply(&mut pipe, writer, &batches).await,
            };
            done.map_err(|e| e.target_table(&table.id))?;
        }
        pipe.flush().await?;
        for (id, counts) in pipe.counts {
            applied.entry(id).or_default().add(&counts);
        }
        Ok(())
    }

    /// Empties tables so that it can be taken back, which TRUNCATE cannot.
    async fn truncate(&mut self, truncate: &Truncate) -> Result<()> {
        for table in &truncate.tables {
            let sql = quote::QUOTES.delete(&table.id)?;
            self.session.execute(sql).await.map_err(|e| e.target_table(&table.id).of_table())?;
        }
        Ok(())
    }

    async fn mark(&mut self, mark: &Mark) -> Result<()> {
        let column = &mark.table.columns[mark.column];
        let view = View::of(&mark.value, &column.ty)?;
        if view.is_null(0) {
            return Ok(());
        }
        let name = quote::ident(&column.name);
        let mut sql = format!("UPDATE {} SET {name} = ", quote::table(&mark.table.id)).into_bytes();
        encode::put_literal(&view, Form::Plain, 0, &mut sql)?;
        sql.extend_from_slice(format!(" WHERE {name} IS NULL{}", quote::QUOTES.and_own(&mark.table.id)).as_bytes());
        self.session.execute(sql).await.map(drop)
    }

    async fn steps(&mut self, set: ReducedSet, grown: &[Grown]) -> Result<Applied> {
        let (mut applied, mut tables, mut grown) = (Counts::new(), Vec::new(), grown.iter());
        for step in set.steps {
            if let ReducedStep::Table(changes) = step {
                tables.push(changes);
                continue;
            }
            self.flush(&mut tables, &mut applied).await?;
            match step {
                ReducedStep::Table(_) => {}
                ReducedStep::Truncate(truncate) => self.truncate(&truncate).await?,
                ReducedStep::Mark(mark) => {
                    self.mark(&mark).await.map_err(|e| e.target_table(&mark.table.id).of_table())?;
                }
                ReducedStep::AddColumns(added) => {
                    self.writers.remove(&added.next.id);
                    let grown = grown.next().map_or(&[][..], |g| &g.fill);
                    for sql in grown {
                        let filled = self.session.execute(sql.clone()).await;
                        filled.map_err(|e| e.target_table(&added.next.id).of_table())?;
                    }
                }
            }
        }
        self.flush(&mut tables, &mut applied).await?;
        Ok(Applied { tables: applied.into_iter().collect() })
    }

    /// Adds columns that the set will need, before its transaction begins: no such statement can be part of one. Rows
    /// that come before in the set have nothing to say of them.
    async fn grow(&mut self, set: &ReducedSet) -> Result<Vec<Grown>> {
        let mut all = Vec::new();
        for step in &set.steps {
            let ReducedStep::AddColumns(added) = step else { continue };
            let id = &added.next.id;
            if self.open_set {
                let what = "a column was added in the middle of a transaction that does not fit the limits of a batch";
                return Err(Error::refused(what).target_table(id).of_table());
            }
            let grown = grown::grow(&mut self.session, added).await;
            all.push(grown.map_err(|e| e.target_table(id).of_table())?);
        }
        Ok(all)
    }

    /// Makes the tables of a decision; whether anything forbids that is the caller's matter.
    async fn make(&mut self, id: &TableId, decision: &Decision) -> Result<()> {
        for sql in decision.database.iter().chain(&decision.before) {
            let made = self.session.execute(sql.clone()).await;
            // Another task may have made the database at the same moment.
            if decision.database.as_ref() == Some(sql) && made.as_ref().is_err_and(|e| e.message().ends_with("(1007)"))
            {
                continue;
            }
            made.map_err(|e| e.target_table(id))?;
        }
        Ok(())
    }

    async fn prepare_locked(
        &mut self,
        mut record: TableRecord,
        known: Option<&TableRecord>,
        on_existing: OnExisting,
    ) -> Result<TableRecord> {
        let table = Arc::clone(&record.target);
        let facts = Facts::read(&mut self.session, &self.task, &[&table.id]).await?;
        let decision = prepare::decide(&facts, &record, known, on_existing);
        findings::verdict(&table.id, &decision.findings)?;
        record.origin = decision.origin;
        let intent = TableRecord { state: TableState::Preparing, ..record.clone() };
        self.begin_work().await?;
        // It checks the epoch too: whoever is locked out makes no table.
        self.end_work(&if decision.makes { vec![RecordChange::Table(Box::new(intent))] } else { Vec::new() }).await?;
        self.make(&table.id, &decision).await?;
        self.begin_work().await?;
        self.end_work(&[RecordChange::Table(Box::new(record.clone()))]).await?;
        Ok(record)
    }

    async fn prepare_history_locked(&mut self, history: &Arc<TableSchema>) -> Result<()> {
        let mut facts = Facts::read(&mut self.session, &self.task, &[&history.id]).await?;
        let decision = prepare::decide_history(&mut facts, history);
        findings::verdict(&history.id, &decision.findings)?;
        self.begin_work().await?;
        self.end_work(&[]).await?;
        self.make(&history.id, &decision).await
    }

    /// Waits for other tasks that are about to take this table up.
    async fn claim(&mut self, id: &TableId) -> Result<String> {
        self.roll_back().await?;
        self.writers.remove(id);
        let name = format!("trem table {}", id.whole());
        self.session.lock(&name).await?;
        Ok(name)
    }
}

#[async_trait]
impl TargetLane for MyLane {
    fn refresh(&mut self) {
        self.writers.clear();
    }

    async fn commit(&mut self, changes: &[RecordChange]) -> Result<()> {
        self.begin_work().await?;
        self.end_work(changes).await?;
        for change in changes {
            if let RecordChange::Checkpoint { at, .. } = change {
                self.committed(Some(at.position.clone()));
            }
        }
        Ok(())
    }

    async fn prepare_types(&mut self, _: &[TypeDefinition]) -> Result<Vec<(TableId, Error)>> {
        // There are none of their own here.
        Ok(Vec::new())
    }

    async fn prepare(
        &mut self,
        record: TableRecord,
        known: Option<&TableRecord>,
        on_existing: OnExisting,
    ) -> Result<TableRecord> {
        let claimed = self.claim(&record.target.id).await?;
        let prepared = self.prepare_locked(record, known, on_existing).await;
        self.session.unlock(&claimed).await?;
        prepared
    }

    async fn prepare_history(&mut self, history: &Arc<TableSchema>) -> Result<()> {
        let claimed = self.claim(&history.id).await?;
        let prepared = self.prepare_history_locked(history).await;
        self.session.unlock(&claimed).await?;
        prepared
    }

    async fn empty(&mut self, table: &Arc<TableSchema>, changes: &[RecordChange]) -> Result<()> {
        self.begin_work().await?;
        if table.id.part.is_some() {
            self.session.execute(quote::QUOTES.delete(&table.id)?).await.map_err(|e| e.target_table(&table.id))?;
            return self.end_work(changes).await;
        }
        // Whoever is locked out empties nothing.
        self.end_work(&[]).await?;
        let sql = format!("TRUNCATE TABLE {}", quote::table(&table.id));
        self.session.execute(sql).await.map_err(|e| e.target_table(&table.id))?;
        self.begin_work().await?;
        self.end_work(changes).await
    }

    async fn finish(&mut self, record: &TableRecord, changes: &[RecordChange]) -> Result<()> {
        // Its keys came with it.
        self.writers.remove(&record.target.id);
        self.begin_work().await?;
        self.end_work(changes).await
    }

    async fn apply(&mut self, set: ReducedSet, changes: &[RecordChange]) -> Result<Applied> {
        if self.open_set && !self.in_transaction {
            return Err(Error::fatal("internal: the beginning of this transaction has been rolled back"));
        }
        let mut grown = Vec::new();
        if !self.open_set {
            self.roll_back().await?;
            grown = self.grow(&set).await?;
            self.begin().await?;
        } else if set.steps.iter().any(|step| matches!(step, ReducedStep::AddColumns(_))) {
            grown = self.grow(&set).await?;
        }
        let span = set.span.clone();
        failpoint::panic(Point::LanePanics);
        let applied = self.steps(set, &grown).await?;
        if span.open {
            self.open_set = true;
            return Ok(applied);
        }
        self.write(changes).await?;
        self.commit_transaction().await?;
        self.committed(Some(span.end));
        for sql in grown.iter().flat_map(|g| &g.after) {
            self.session.execute(sql.clone()).await?;
        }
        Ok(applied)
    }

    async fn durable(&mut self, now: bool) -> Result<Option<Position>> {
        if now {
            self.roll_back().await?;
            if let Some((since, _)) = self.waiting.back() {
                tokio::time::sleep(FLUSHED_AFTER.saturating_sub(since.elapsed())).await;
            }
        }
        while let Some((_, position)) = self.waiting.pop_front_if(|(since, _)| since.elapsed() >= FLUSHED_AFTER) {
            self.durable = Some(position);
        }
        Ok(self.durable.clone())
    }
}
