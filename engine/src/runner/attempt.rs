//! One attempt: read the record, take up what is missing, load, follow.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::change::ChangeSet;
use crate::error::{Error, Result};
use crate::ports::{
    LoadedChunk, Snapshot, SnapshotKind, StreamRequest, StreamTable, TableRecord, TableState, TargetLane, TaskRecord,
    Transform,
};
use crate::position::{Checkpoint, Lineage, Position};
use crate::progress::Phase;
use crate::schema::{Catalog, Identity, SecondaryKind, TableId, TableSchema};
use crate::task::{AfterLoad, Mode};

use super::follow::Follow;
use super::load::Load;
use super::{Task, preflight};

/// How an attempt ended without an error.
pub(super) enum End {
    /// Stopped, or nothing left to do.
    Finished,
    /// The set of tables changed: plan anew.
    Replan,
}

type Tables = Vec<Arc<TableSchema>>;

pub(super) struct Attempt<'a> {
    pub(super) task: &'a Task,
    pub(super) goal: Option<Position>,
    pub(super) stop: CancellationToken,
}

impl Attempt<'_> {
    /// `before`: the record as it was before this process took the task.
    pub(super) async fn run(self, before: Option<TaskRecord>) -> Result<End> {
        // Until the log is followed a stop needs no care: connections close, and their transactions roll back.
        let (lane, lineage) = tokio::select! {
            () = self.stop.cancelled() => return Ok(End::Finished),
            ready = self.get_ready(before) => ready?,
        };
        match lineage {
            Some(lineage) if !self.stop.is_cancelled() => self.follow(lane, lineage).await,
            _ => Ok(End::Finished),
        }
    }

    /// Everything before the log is followed; the lineage verified, unless it never will be.
    async fn get_ready(&self, before: Option<TaskRecord>) -> Result<(Box<dyn TargetLane>, Option<Lineage>)> {
        if before.is_none_or(|r| r.checkpoint.is_none() && r.tables.is_empty()) {
            // A task that has not started is refused before anything is created for it.
            preflight(self.task).await?.verdict()?;
        }
        let mut lane = self.task.target.open_lane().await?;
        let record = lane.record().await?;
        self.report(&record);
        let (lineage, tables, snapshot) = match (&record.checkpoint, self.task.plan.mode) {
            (_, Mode::FullLoad) => (None, self.discover().await?.tables, None),
            (Some(checkpoint), _) => {
                let (lineage, tables) = self.resume(lane.as_mut(), &record, checkpoint).await?;
                (Some(lineage), tables, None)
            }
            (None, _) => {
                let (lineage, tables, snapshot) = self.start(lane.as_mut(), &record).await?;
                (Some(lineage), tables, Some(snapshot))
            }
        };
        self.bring_in(lane.as_mut(), &tables, snapshot).await?;
        self.after_load(lane.as_mut()).await?;
        Ok((lane, lineage))
    }

    fn report(&self, record: &TaskRecord) {
        for table in &record.tables {
            self.task.reporter.table(&table.schema.id, |t| {
                t.state = Some(table.state);
                t.reason = table.reason.clone();
                t.rows_loaded = table.chunks.iter().filter(|c| c.done.is_some()).map(|c| c.rows).sum();
                t.rows_read = t.rows_loaded;
                t.rows_estimated = table.chunks.iter().map(|c| c.chunk.rows).sum();
            });
        }
        self.task.reporter.update(|p| p.applied = record.checkpoint.as_ref().map(|c| c.position.clone()));
    }

    async fn discover(&self) -> Result<Catalog> {
        mapped(&self.task.transforms, &self.task.source.discover(&self.task.plan.selection).await?)
    }

    /// First start: from here on the source retains its log for this task, of the tables returned.
    async fn start(
        &self,
        lane: &mut dyn TargetLane,
        record: &TaskRecord,
    ) -> Result<(Lineage, Tables, Arc<dyn Snapshot>)> {
        if record.lineage.is_none() {
            // Once the history is on record, what has the task's name at the source is taken for our own leftover.
            self.task.source.vacant().await?;
        }
        let lineage = self.task.source.lineage().await?;
        lane.begin(&lineage).await?;
        let tables = self.discover().await?.tables;
        let snapshot = self.snapshot(&tables, SnapshotKind::Initial).await?;
        let position = snapshot.start().clone();
        tracing::info!(task = %self.task.plan.name, %position, "the log is retained from here on");
        let checkpoint = Checkpoint { lineage: lineage.clone(), position: position.clone() };
        lane.apply(position_only(position), &checkpoint).await?;
        Ok((lineage, tables, snapshot))
    }

    async fn snapshot(&self, tables: &Tables, kind: SnapshotKind) -> Result<Arc<dyn Snapshot>> {
        tracing::info!(
            task = %self.task.plan.name,
            "taking a snapshot; transactions that are open at the source are waited for"
        );
        Ok(Arc::from(self.task.source.snapshot(tables, kind).await?))
    }

    /// Later start: the log must reach back to the checkpoint. The tables returned are selected at the source.
    async fn resume(
        &self,
        lane: &mut dyn TargetLane,
        record: &TaskRecord,
        checkpoint: &Checkpoint,
    ) -> Result<(Lineage, Tables)> {
        let (lineage, catalog) = tokio::join!(self.task.source.verify(checkpoint), self.discover());
        // First of all: nothing that another database says may be written down.
        let lineage = lineage?;
        let mut tables = catalog?.tables;
        for known in &record.tables {
            self.look_after(lane, known, &tables).await?;
        }
        for table in tables.iter().filter(|t| t.identity == Identity::InsertOnly) {
            // Left where it is, it would make the source refuse updates and deletes of this table.
            if !record.tables.iter().any(|r| r.schema.id == table.id && r.state == TableState::Suspended) {
                let remedy = format!("give it a primary key or REPLICA IDENTITY FULL, then {}", self.reload(&table.id));
                self.task.suspend(lane, table, "it has nothing to tell its rows apart by", &remedy).await?;
            }
        }
        let record = lane.record().await?;
        let suspended =
            |t: &TableSchema| record.tables.iter().any(|r| r.schema.id == t.id && r.state == TableState::Suspended);
        tables.retain(|t| !suspended(t));
        let followed = record.tables.iter().filter(|r| r.state == TableState::Ready).map(|r| r.schema.id.clone());
        self.task.source.select(&tables, &followed.collect::<Vec<_>>()).await?;
        Ok((lineage, tables))
    }

    fn reload(&self, table: &TableId) -> String {
        format!("run `trem reload <config> --task {} --table {table}`", self.task.plan.name)
    }

    /// What became of a known table at the source while nobody looked.
    async fn look_after(&self, lane: &mut dyn TargetLane, known: &TableRecord, tables: &Tables) -> Result<()> {
        let (name, id) = (&self.task.plan.name, &known.schema.id);
        if !self.task.plan.selection.takes(id) {
            lane.forget_table(id).await?;
            tracing::info!(task = %name, table = %id, "no longer selected: forgotten, its rows stay");
            return Ok(());
        }
        let number = known.schema.native_id;
        let same = |t: &&Arc<TableSchema>| number != 0 && t.native_id == number;
        let now = match tables.iter().find(|t| t.id == *id) {
            Some(t) if t.native_id == number || known.state != TableState::Ready => return Ok(()),
            Some(_) => "it was dropped at the source and made anew".to_owned(),
            None => match tables.iter().find(same) {
                Some(t) => format!("it is called {} at the source now", t.id),
                None => {
                    tracing::warn!(task = %name, table = %id, "the source no longer has this table");
                    return Ok(());
                }
            },
        };
        if known.state == TableState::Suspended {
            return Ok(());
        }
        let remedy = format!("{}, or deselect it", self.reload(id));
        self.task.suspend(lane, &known.schema, &now, &remedy).await
    }

    /// Prepares and loads every one of these tables that is not on the target yet.
    async fn bring_in(
        &self,
        lane: &mut dyn TargetLane,
        selected: &Tables,
        first: Option<Arc<dyn Snapshot>>,
    ) -> Result<()> {
        let plan = &self.task.plan;
        let record = lane.record().await?;
        let known: HashMap<&TableId, &TableRecord> = record.tables.iter().map(|t| (&t.schema.id, t)).collect();
        let mut pending = selected.clone();
        pending.retain(|t| known.get(&t.id).is_none_or(|r| is_pending(r)));
        if pending.is_empty() {
            return Ok(());
        }
        if plan.mode == Mode::Cdc && known.values().all(|r| r.state != TableState::Reload) {
            return self.without_load(lane, &pending, &known).await;
        }
        self.task.reporter.update(|p| p.phase = Phase::Loading);
        let snapshot = match first {
            Some(snapshot) => snapshot,
            None if plan.mode.follows() => self.snapshot(&pending, SnapshotKind::Additional).await?,
            None => self.snapshot(&pending, SnapshotKind::Standalone).await?,
        };
        // Asked after the snapshot, the catalogue is not older than the rows. Tables that came in between are not
        // selected at the source yet: they are found later.
        let catalog = self.discover().await?;
        let still = |t: &TableSchema| pending.iter().any(|p| p.id == t.id && p.native_id == t.native_id);
        let (types, mut tables) = (catalog.types, catalog.tables);
        tables.retain(|t| still(t));
        lane.prepare_types(&types).await?;
        Load { task: self.task, snapshot, stop: self.stop.clone() }.run(lane, &tables, &known).await
    }

    /// Done again at every start: what is there already is passed over.
    async fn after_load(&self, lane: &mut dyn TargetLane) -> Result<()> {
        let wanted = |kind| match self.task.plan.after_load {
            AfterLoad::Keys => false,
            AfterLoad::Indexes => kind == SecondaryKind::Index,
            AfterLoad::IndexesAndConstraints => true,
        };
        if self.task.plan.after_load == AfterLoad::Keys || self.stop.is_cancelled() {
            return Ok(());
        }
        let record = lane.record().await?;
        let ready = |id: &TableId| record.tables.iter().any(|t| t.schema.id == *id && t.state == TableState::Ready);
        let mut objects = self.discover().await?.secondary;
        objects.retain(|o| wanted(o.kind) && ready(&o.table));
        lane.create_secondary(&objects).await
    }

    async fn without_load(
        &self,
        lane: &mut dyn TargetLane,
        pending: &Tables,
        known: &HashMap<&TableId, &TableRecord>,
    ) -> Result<()> {
        if let Some(half) = known.values().find(|r| r.state == TableState::Loading) {
            return Err(Error::refused("its load is not finished, and mode `cdc` would leave it so")
                .table(&half.schema.id)
                .remedy("finish it with mode `full-load-and-cdc`, or start anew with `trem drop`"));
        }
        lane.prepare_types(&self.discover().await?.types).await?;
        for table in pending {
            match lane.prepare(table, self.task.plan.on_existing, false).await {
                Ok(()) => self.task.reporter.table(&table.id, |t| t.state = Some(TableState::Ready)),
                Err(e) => self.task.refuse_table(lane, table, e, known.is_empty()).await?,
            }
        }
        Ok(())
    }

    async fn follow(self, mut lane: Box<dyn TargetLane>, lineage: Lineage) -> Result<End> {
        let record = lane.record().await?;
        self.report(&record);
        let recorded = record
            .checkpoint
            .ok_or_else(|| Error::fatal("internal: the target has no checkpoint after the start was recorded"))?;
        // The history may have gone on under another name (a failover); what was verified is what is recorded next.
        let checkpoint = Checkpoint { lineage, position: recorded.position };
        let streamed = record.tables.iter().filter(|t| t.state == TableState::Ready);
        let request = StreamRequest {
            from: checkpoint.position.clone(),
            tables: streamed.map(|t| stream_table(t, &checkpoint.position)).collect(),
            limits: self.task.plan.batch,
        };
        let known = record.tables.iter().map(|t| (t.schema.id.clone(), t.state)).collect();
        let stream = self.task.source.stream(request).await?;
        self.task.reporter.update(|p| p.phase = Phase::Following);
        let follow = Follow { task: self.task, known, goal: self.goal, stop: self.stop, checkpoint };
        follow.run(stream, lane).await
    }
}

fn is_pending(record: &TableRecord) -> bool {
    matches!(record.state, TableState::Loading | TableState::Reload)
}

fn stream_table(record: &TableRecord, from: &Position) -> StreamTable {
    let chunks = record
        .chunks
        .iter()
        .filter_map(|c| Some(LoadedChunk { range: c.chunk.range.clone(), snapshot: c.done.clone()? }));
    let mut loaded: Vec<LoadedChunk> = chunks.collect();
    if loaded.iter().all(|c| c.snapshot <= *from) {
        loaded.clear();
    }
    StreamTable { schema: Arc::clone(&record.schema), loaded }
}

/// A set that only moves the checkpoint.
pub(super) fn position_only(end: Position) -> ChangeSet {
    ChangeSet { steps: Vec::new(), end, committed_at: None, open: false, transactions: 0, bytes: 0 }
}

/// The catalogue as it is after the transforms.
pub(super) fn mapped(transforms: &[Arc<dyn Transform>], catalog: &Catalog) -> Result<Catalog> {
    let map =
        |table: &Arc<TableSchema>| transforms.iter().try_fold(Arc::clone(table), |t, transform| transform.schema(&t));
    let tables = catalog.tables.iter().map(map).collect::<Result<Vec<_>>>()?;
    let mut seen = std::collections::HashSet::new();
    if let Some(twice) = tables.iter().find(|t| !seen.insert(&t.id)) {
        return Err(Error::refused("two source tables would become this one target table").table(&twice.id));
    }
    Ok(Catalog { tables, types: catalog.types.clone(), secondary: catalog.secondary.clone() })
}
