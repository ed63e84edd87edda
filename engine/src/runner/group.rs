//! Tables that are taken up together, beside the stream of the others: prepared, read at one snapshot, loaded, and
//! brought to where the others are.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use crate::chunk::Chunk;
use crate::error::{Class, Error, Result};
use crate::ports::{ChunkOptions, Snapshot, SnapshotKind, TargetLane};
use crate::record::{RecordChange, TableRecord, TableState};
use crate::remedy::Remedy;
use crate::route::Route;
use crate::routes::Routes;
use crate::schema::{Catalog, SchemaChangeKind, SecondaryKind, TableId, TableSchema, TypeDefinition};
use crate::side::Side;
use crate::task::OnExisting;

use super::aside::CatchUp;
use super::failing;
use super::history;
use super::load::{Loading, load};
use super::retry::Backoff;
use super::run::{Hold, Joined, Run};
use super::secondary::create_secondary;

/// A table is cut into so many parts for each worker, so that none is left with a long one at the end.
const PARTS_PER_WORKER: u64 = 3;

/// How long a table that could not go on with the others waits for them to get ahead of it.
const AHEAD: Duration = Duration::from_secs(2);

/// Tables that are taken up together.
pub(super) struct Group {
    run: Arc<Run>,
    /// By their names at the source.
    tables: Vec<TableId>,
    /// Those of which somebody holds a lock: the others do not wait for them.
    locked: Vec<TableId>,
    /// The snapshot that the task began with, if it is to be read.
    first: Option<(Arc<dyn Snapshot>, Hold)>,
    /// Those that the main stream has taken over: from then on they are its own matter.
    joined: Joined,
    /// Keeps the log that follows the snapshot.
    held: Mutex<Option<Hold>>,
}

impl Group {
    /// A group of these tables. `first`: the snapshot that the task began with, if it is to be read.
    pub(super) fn new(run: &Arc<Run>, tables: Vec<TableId>, first: Option<(Arc<dyn Snapshot>, Hold)>) -> Self {
        let (locked, joined, held) = Default::default();
        Self { run: Arc::clone(run), tables, locked, first, joined, held }
    }

    /// Takes the tables up until all of them are with the others or suspended. What may heal is tried again without a
    /// word to the others, once they are followed.
    pub(super) async fn run(mut self) -> Result<()> {
        let mut backoff = Backoff::new(self.run.task.plan.retry);
        self.readmit().await?;
        let mut again = false;
        let all = self.tables.clone();
        loop {
            let before = self.run.task.reporter.snapshot().rows_loaded();
            let Err(error) = self.attempt(again).await else {
                if self.locked.is_empty() {
                    failing::of_tables(&self.run, &all, None).await;
                    return Ok(());
                }
                self.tables = std::mem::take(&mut self.locked);
                continue;
            };
            again = true;
            // Their record changes while the one of the target is read, and nothing of them is to be begun again.
            let joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner).clone();
            self.tables.retain(|id| !joined.contains(id));
            if self.run.task.reporter.snapshot().rows_loaded() > before {
                backoff.progressed();
            }
            let pause = match error.class() {
                Class::Table | Class::Again => Some(Duration::ZERO),
                Class::Locked if self.put_off(&error) => Some(Duration::ZERO),
                Class::Locked => backoff.next(),
                // What was refused while others are followed must not stop them: the source may serve so many readers
                // of its log and no more.
                Class::Transient | Class::Refused if self.run.reached().is_some() => backoff.next(),
                _ => None,
            };
            let Some(pause) = pause else { return Err(error) };
            self.run.task.target.settled(self.run.book.epoch).await?;
            let stored = self.run.task.target.record().await?.unwrap_or_default();
            self.run.book.reread(&[&self.tables[..], &self.locked[..]].concat(), stored);
            // Until here it kept the log that parts need whose commits nobody had told of.
            *self.held.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
            if error.class() == Class::Table {
                match self.leave_out(&error).await? {
                    true => continue,
                    false => return Err(error),
                }
            }
            let (task, retry_in_ms) = (&self.run.task.plan.name, pause.as_millis() as u64);
            match error.class() {
                Class::Again => tracing::info!(%task, "{error}"),
                _ => tracing::warn!(%task, retry_in_ms, "loading beside the stream failed: {error}"),
            }
            if let Some(failing) = backoff.lasting(task, &error, &self.tables) {
                failing::of_tables(&self.run, &all, Some(failing)).await;
            }
            self.run.task.reporter.update(|p| p.retries += 1);
            tokio::time::sleep(pause).await;
        }
    }

    /// Puts off the table that an error is about until the others are done; whether there are others.
    fn put_off(&mut self, error: &Error) -> bool {
        let Some(id) = self.run.book.read(|r| r.about(error).map(|t| t.id().clone())) else { return false };
        let others = self.tables.len() > 1 && self.tables.contains(&id);
        if others {
            self.tables.retain(|t| *t != id);
            self.locked.push(id);
        }
        others
    }

    /// A table that has been left out is here because somebody has asked for it again.
    async fn readmit(&self) -> Result<()> {
        let left_out = |id: &&TableId| self.run.book.state(id) == Some(TableState::Suspended);
        let again = self.tables.iter().filter(left_out).map(|id| RecordChange::state(id, TableState::Reload));
        let again: Vec<RecordChange> = again.collect();
        if again.is_empty() { Ok(()) } else { self.run.book.commit(self.lane().await?.as_mut(), &again).await }
    }

    async fn lane(&self) -> Result<Box<dyn TargetLane>> {
        self.run.task.target.open_lane(self.run.book.epoch, None).await
    }

    /// Leaves out the table that an error is about; whether it was about one of these.
    async fn leave_out(&mut self, error: &Error) -> Result<bool> {
        let Some(known) = self.run.book.read(|r| r.about(error).cloned()) else { return Ok(false) };
        if !self.tables.contains(known.id()) {
            return Ok(false);
        }
        self.run.suspend(self.lane().await?.as_mut(), &known, error).await?;
        self.tables.retain(|id| id != known.id());
        Ok(true)
    }

    /// Those of the tables that are not with the others.
    fn pending(&self) -> Vec<TableId> {
        let done = |id: &&TableId| !matches!(self.run.book.state(id), Some(TableState::Ready | TableState::Suspended));
        self.tables.iter().filter(done).cloned().collect()
    }

    /// `again`: one has failed before.
    async fn attempt(&mut self, again: bool) -> Result<()> {
        self.tables = self.pending();
        let plan = &self.run.task.plan;
        if self.tables.is_empty() {
            // All have joined, and what is created behind them may be missing.
            let routes = if again { self.run.look().await?.1 } else { return Ok(()) };
            return self.secondary(self.lane().await?.as_mut(), &routes, |_| true).await;
        }
        if let [table] = &self.tables[..]
            && self.run.book.table(table).is_some_and(|t| t.is_aside())
        {
            return self.catch_up(table.clone()).await;
        }
        let mut lane = self.lane().await?;
        let begun = |id: &TableId| self.run.book.state(id).is_some_and(|s| s != TableState::Preparing);
        if !plan.mode.loads() && !self.tables.iter().any(begun) {
            return self.without_load(lane.as_mut()).await;
        }
        // Of tables that wait for something: the others do not wait for them.
        let mut late: Vec<Error> = Vec::new();
        let Some((snapshot, hold)) = self.snapshot(lane.as_mut(), &mut late).await? else {
            return late.pop().map_or(Ok(()), Err);
        };
        *self.held.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(hold);
        // Asked after the snapshot, the catalogue is not older than the rows.
        let (catalog, routes) = self.run.look().await?;
        self.prepare_types(lane.as_mut(), &catalog, &routes).await?;
        self.refuse(lane.as_mut(), &catalog, &routes).await?;
        let mut tables = Vec::new();
        for id in self.tables.clone() {
            let Some(route) = routes.of_source(&id) else { continue };
            let waits = |e: &Error| e.class() == Class::Locked && is_about(e, route);
            if late.iter().any(waits) {
                continue;
            }
            match self.take_up(lane.as_mut(), snapshot.as_ref(), route).await {
                Ok(loading) => tables.push(loading),
                Err(error) if waits(&error) => late.push(error),
                Err(error) => self.set_aside(lane.as_mut(), route, error).await?,
            }
        }
        let (send, loaded) = mpsc::unbounded_channel();
        let loading = load(&self.run, snapshot, tables, send);
        let joining = self.join(lane, loaded, &routes);
        tokio::try_join!(loading, joining).map(drop).map_err(Error::of_table)?;
        late.pop().map_or(Ok(()), Err)
    }

    /// A table that has been followed goes on by itself until it is with the others again. What it could not do is in
    /// the log behind it: the others have read that first, or it would join them and keep them waiting once more.
    async fn catch_up(&self, table: TableId) -> Result<()> {
        let place = self.run.book.table(&table).and_then(|t| t.position);
        let deadline = Instant::now() + AHEAD;
        while self.run.reached() <= place && Instant::now() < deadline {
            tokio::time::sleep(AHEAD / 20).await;
        }
        CatchUp::new(&self.run, &self.joined).join(vec![table]).await
    }

    /// A snapshot of the tables, and what keeps the log that follows it; `None` if none of them can be taken up.
    /// `late`: tables that wait for something go there.
    async fn snapshot(
        &mut self,
        lane: &mut dyn TargetLane,
        late: &mut Vec<Error>,
    ) -> Result<Option<(Arc<dyn Snapshot>, Hold)>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let hold = self.run.hold();
        let (catalog, routes) = self.run.look().await?;
        self.refuse(lane, &catalog, &routes).await?;
        if self.tables.is_empty() {
            return Ok(None);
        }
        let mut tables = self.own(&catalog);
        let kind = match self.run.task.plan.mode.follows() {
            true => {
                // Before the snapshot: what commits after it is in the log for us.
                while let Err(error) = self.run.publish(&tables).await {
                    let waiting = |t: &Arc<TableSchema>| error.table_id() == Some(&t.id);
                    if error.class() != Class::Locked || !tables.iter().any(waiting) {
                        return Err(error);
                    }
                    tables.retain(|t| !waiting(t));
                    late.push(error);
                }
                if tables.is_empty() {
                    return Ok(None);
                }
                SnapshotKind::Additional
            }
            false => SnapshotKind::Standalone,
        };
        let snapshot = self.run.task.snapshot(&tables, kind).await?;
        hold.from(snapshot.retained());
        Ok(Some((snapshot, hold)))
    }

    /// Those of the catalogue's tables that are to be taken up.
    fn own(&self, catalog: &Catalog) -> Vec<Arc<TableSchema>> {
        catalog.tables.iter().filter(|t| self.tables.contains(&t.id)).cloned().collect()
    }

    /// Creates the types that the tables need; those whose types cannot be had are not taken up.
    async fn prepare_types(&mut self, lane: &mut dyn TargetLane, catalog: &Catalog, routes: &Routes) -> Result<()> {
        let ours = |ty: &&TypeDefinition| ty.users.iter().any(|id| self.tables.contains(id));
        let types: Vec<TypeDefinition> = catalog.types.iter().filter(ours).cloned().collect();
        for (name, error) in lane.prepare_types(&types).await? {
            let users = types.iter().filter(|ty| ty.id == name).flat_map(|ty| &ty.users);
            for route in users.filter_map(|id| routes.of_source(id)) {
                if self.tables.contains(&route.source().id) {
                    self.set_aside(lane, route, copy_of(&error)).await?;
                }
            }
        }
        Ok(())
    }

    /// Tables that cannot be taken up, whatever the target says.
    async fn refuse(&mut self, lane: &mut dyn TargetLane, catalog: &Catalog, routes: &Routes) -> Result<()> {
        for (table, error) in routes.refused() {
            if self.tables.contains(&table.id) {
                let route = Route::straight(Arc::clone(table));
                self.set_aside(lane, &route, copy_of(error)).await?;
            }
        }
        let follows = self.run.task.plan.mode.follows();
        for error in self.run.task.source.obstacles(&self.own(catalog), follows).await? {
            if let Some(route) = error.table_id().and_then(|id| routes.of_source(id)).cloned() {
                self.set_aside(lane, &route, error).await?;
            }
        }
        Ok(())
    }

    /// A table that cannot be taken up stops a task that is about to start, and is left out of one that runs: a table
    /// that appears must not stop the others.
    async fn set_aside(&mut self, lane: &mut dyn TargetLane, route: &Route, error: Error) -> Result<()> {
        let id = &route.source().id;
        if !matches!(error.class(), Class::Refused | Class::Table) {
            return Err(error.table(id));
        }
        if self.run.is_starting() {
            return Err(error.table(id).refuse());
        }
        let table = self.run.book.table(id);
        let table = table.unwrap_or_else(|| TableRecord::new(route.source(), route.target(), TableState::Suspended));
        self.run.suspend(lane, &table, &error).await?;
        self.tables.retain(|t| t != id);
        Ok(())
    }

    /// Prepares one table and says which of its chunks are still to be read.
    async fn take_up(&self, lane: &mut dyn TargetLane, snapshot: &dyn Snapshot, route: &Route) -> Result<Loading> {
        let known = self.run.book.table(&route.source().id);
        let interrupted = known.clone().filter(|r| r.state == TableState::Loading && is_same(r, route));
        // Parts read at two moments need the log to become one.
        if let Some(record) = interrupted.as_ref().filter(|_| self.run.task.plan.mode.follows())
            && let Some(chunks) = rest_of(record)
        {
            let done = record.chunks.len() - chunks.len();
            tracing::info!(table = %record.id(), done, left = chunks.len(), "load goes on");
            return Ok(Loading { route: route.clone(), record: record.clone(), chunks });
        }
        let empty = known.is_some();
        let record = match interrupted {
            Some(record) => record,
            None => self.prepare(lane, &snapshot.seen(route.source()), route, known).await?,
        };
        let plan = &self.run.task.plan;
        let options = ChunkOptions {
            chunk_bytes: plan.load.chunk_bytes,
            parts: plan.load.workers as u64 * PARTS_PER_WORKER,
            resume_above_bytes: plan.load.resume_above_bytes,
            physical: plan.on_existing != OnExisting::Keep && !route.target().id.is_mixed(),
        };
        let chunks = snapshot.chunks(route.source(), options).await?;
        self.begin(lane, &record, &chunks, empty).await?;
        Ok(Loading { route: route.clone(), record, chunks })
    }

    /// Has the target table made, or fitted, and the table written down.
    async fn prepare(
        &self,
        lane: &mut dyn TargetLane,
        source: &Arc<TableSchema>,
        route: &Route,
        known: Option<TableRecord>,
    ) -> Result<TableRecord> {
        let id = &source.id;
        history::prepare(lane, route).await?;
        let known = known.map(|mut record| {
            if record.state == TableState::Loading {
                tracing::warn!(table = %id, "changed while it was being loaded: loaded again from the start");
            }
            if record.state != TableState::Preparing {
                record.state = TableState::Reload;
            }
            record
        });
        let again = known.as_ref().is_some_and(|r| r.state == TableState::Reload);
        let state = if self.run.task.plan.mode.loads() || again { TableState::Loading } else { TableState::Ready };
        let table = TableRecord::new(source, route.target(), state);
        let record = lane.prepare(table, known.as_ref(), self.run.task.plan.on_existing).await?;
        self.run.book.note(&[RecordChange::Table(Box::new(record.clone()))])?;
        if known.is_some() {
            self.run.book.commit(lane, &[RecordChange::Taken(id.clone())]).await?;
        }
        Ok(record)
    }

    /// Writes down which chunks will be read. `empty`: rows of an interrupted load go first.
    async fn begin(
        &self,
        lane: &mut dyn TargetLane,
        record: &TableRecord,
        chunks: &[Chunk],
        empty: bool,
    ) -> Result<()> {
        let loaded = record.any_chunk_done();
        if (record.origin.keeps_rows || record.target.id.is_mixed()) && loaded {
            let what = "its load was interrupted, and the rows loaded so far cannot be told from those it keeps";
            let empty = format!("delete all rows of {} on the target", record.target.id);
            let remedy = Remedy::from(empty).then_reload(record.id());
            return Err(Error::refused(what).table(record.id()).remedy(remedy));
        }
        let planned = [RecordChange::Chunks(record.id().clone(), chunks.to_vec())];
        if (empty || loaded) && !record.origin.keeps_rows && !record.target.id.is_mixed() {
            lane.empty(&record.target, &planned).await?;
            return self.run.book.note(&planned);
        }
        self.run.book.commit(lane, &planned).await
    }

    /// Finishes tables as they are loaded, and brings them to where the others are.
    async fn join(
        &self,
        mut lane: Box<dyn TargetLane>,
        mut loaded: mpsc::UnboundedReceiver<Arc<Loading>>,
        routes: &Routes,
    ) -> Result<()> {
        let follows = self.run.task.plan.mode.follows();
        let (finished, ready) = mpsc::unbounded_channel();
        let finish = async {
            // Moved in, so that the other half learns of the end.
            let finished = finished;
            while let Some(table) = loaded.recv().await {
                self.finish(lane.as_mut(), &table, follows).await?;
                self.secondary(lane.as_mut(), routes, |o| {
                    o.kind != SecondaryKind::ForeignKey && o.table == table.record.target.id
                })
                .await?;
                let _ = finished.send(table.record.id().clone());
            }
            Ok(lane)
        };
        let catch_up = async {
            match follows {
                true => CatchUp::new(&self.run, &self.joined).run(ready).await,
                false => Ok(()),
            }
        };
        let (mut lane, ()) = tokio::try_join!(finish, catch_up)?;
        drop(self.held.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.secondary(lane.as_mut(), routes, |_| true).await
    }

    async fn finish(&self, lane: &mut dyn TargetLane, table: &Loading, follows: bool) -> Result<()> {
        let id = table.record.id();
        let ready = RecordChange::state(id, TableState::Ready);
        let changes: &[RecordChange] = if follows { &[] } else { std::slice::from_ref(&ready) };
        lane.finish(&table.record, changes).await.map_err(|e| e.target_table(&table.record.target.id))?;
        self.run.book.note(changes)?;
        let rows = self.run.book.read(|r| r.table(id).map_or(0, TableRecord::rows_loaded));
        tracing::info!(task = %self.run.task.plan.name, table = %id, rows, "table loaded");
        Ok(())
    }

    /// Creates those indexes and constraints that the task wants and that are not there.
    async fn secondary(
        &self,
        lane: &mut dyn TargetLane,
        routes: &Routes,
        which: impl Fn(&crate::schema::SecondaryObject) -> bool,
    ) -> Result<()> {
        create_secondary(&self.run, lane, routes, which).await
    }

    /// Tables whose rows are taken to be on the target already.
    async fn without_load(&mut self, lane: &mut dyn TargetLane) -> Result<()> {
        let (catalog, routes) = self.run.look().await?;
        self.refuse(lane, &catalog, &routes).await?;
        let tables = self.own(&catalog);
        self.run.publish(&tables).await?;
        let known = self.run.task.source.compare(&tables).await?;
        self.prepare_types(lane, &catalog, &routes).await?;
        for id in self.tables.clone() {
            let Some(route) = routes.of_source(&id) else { continue };
            let noted = known.iter().find_map(|change| match &change.kind {
                SchemaChangeKind::Noted { next } if next.id == id => Some(next),
                _ => None,
            });
            match self.prepare(lane, noted.unwrap_or(route.source()), route, None).await {
                Ok(_) => CatchUp::new(&self.run, &self.joined).join(vec![id]).await?,
                Err(error) => self.set_aside(lane, route, error).await?,
            }
        }
        Ok(())
    }
}

/// Whether an error is about a table that goes this way.
fn is_about(error: &Error, route: &Route) -> bool {
    let table = match error.side() {
        Some(Side::Target) => route.target(),
        _ => route.source(),
    };
    error.table_id() == Some(&table.id)
}

/// Whether what was begun is what would be begun now.
fn is_same(record: &TableRecord, route: &Route) -> bool {
    let same_columns = record.target.id == route.target().id && record.target.same_shape(route.target());
    same_columns && record.source.same_shape(route.source())
}

/// The chunks that an interrupted load has still to read, if it can go on.
fn rest_of(record: &TableRecord) -> Option<Vec<Chunk>> {
    let goes_on = |c: &crate::record::ChunkRecord| c.done.is_some() || c.chunk.survives;
    if record.chunks.is_empty() || !record.chunks.iter().all(goes_on) {
        return None;
    }
    Some(record.chunks.iter().filter(|c| c.done.is_none()).map(|c| c.chunk.clone()).collect())
}

/// Errors have one owner, and the routes are asked again.
fn copy_of(error: &Error) -> Error {
    let copy = Error::new(error.class(), error.reason());
    match error.advice() {
        Some(remedy) => copy.remedy(remedy.clone()),
        None => copy,
    }
}
