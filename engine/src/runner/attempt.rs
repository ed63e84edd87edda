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
use crate::position::{Checkpoint, Position};
use crate::progress::Phase;
use crate::schema::{Catalog, Identity, TableId, TableSchema};
use crate::task::Mode;

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

pub(super) struct Attempt<'a> {
    pub(super) task: &'a Task,
    pub(super) goal: Option<Position>,
    pub(super) stop: CancellationToken,
}

impl Attempt<'_> {
    pub(super) async fn run(self) -> Result<End> {
        let plan = &self.task.plan;
        self.refuse_early().await?;
        let mut lane = self.task.target.open_lane().await?;
        let record = lane.record().await?;
        self.report(&record);
        let snapshot = match (&record.checkpoint, plan.mode) {
            (_, Mode::FullLoad) => None,
            (Some(checkpoint), _) => {
                self.resume(lane.as_mut(), &record, checkpoint).await?;
                None
            }
            (None, _) => Some(self.start(lane.as_mut(), &record).await?),
        };
        self.bring_in(lane.as_mut(), snapshot).await?;
        if self.stop.is_cancelled() || !plan.mode.follows() {
            return Ok(End::Finished);
        }
        self.follow(lane).await
    }

    /// A task that has not started is refused before anything is created for it.
    async fn refuse_early(&self) -> Result<()> {
        let record = self.task.target.record().await?;
        let started = record.is_some_and(|r| r.checkpoint.is_some() || !r.tables.is_empty());
        if started { Ok(()) } else { preflight(self.task).await?.verdict() }
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

    /// First start: from here on the source retains its log for this task.
    async fn start(&self, lane: &mut dyn TargetLane, record: &TaskRecord) -> Result<Arc<dyn Snapshot>> {
        let lineage = self.task.source.lineage().await?;
        lane.begin(&lineage).await?;
        let tables = self.discover().await?.tables;
        let kind = SnapshotKind::Initial { discard_leftover: record.lineage.is_some() };
        let snapshot = self.task.source.snapshot(&tables, kind).await?;
        let position = snapshot.start().clone();
        tracing::info!(task = %self.task.plan.name, %position, "the log is retained from here on");
        lane.apply(position_only(position.clone()), &Checkpoint { lineage, position }).await?;
        Ok(Arc::from(snapshot))
    }

    /// Later start: the log must reach back to the checkpoint.
    async fn resume(&self, lane: &mut dyn TargetLane, record: &TaskRecord, checkpoint: &Checkpoint) -> Result<()> {
        let selection = &self.task.plan.selection;
        let mut tables = self.discover().await?.tables;
        for known in &record.tables {
            let id = &known.schema.id;
            if !selection.takes(id) {
                lane.forget_table(id).await?;
                let task = &self.task.plan.name;
                tracing::info!(%task, table = %id, "no longer selected: forgotten, its rows stay");
            } else if !tables.iter().any(|t| t.id == *id) {
                tracing::warn!(task = %self.task.plan.name, table = %id, "the source no longer has this table");
            }
        }
        let suspended = |r: &TableRecord| r.state == TableState::Suspended;
        for table in tables.iter().filter(|t| t.identity == Identity::InsertOnly) {
            // Left where it is, it would make the source refuse updates and deletes of this table.
            if !record.tables.iter().any(|r| r.schema.id == table.id && suspended(r)) {
                let remedy = "give it a primary key or REPLICA IDENTITY FULL, then reload the table";
                self.task.suspend(lane, table, "it has nothing to tell its rows apart by", remedy).await?;
            }
        }
        let record = lane.record().await?;
        let suspended =
            |t: &TableSchema| record.tables.iter().any(|r| r.schema.id == t.id && r.state == TableState::Suspended);
        tables.retain(|t| !suspended(t));
        let followed = record.tables.iter().filter(|r| r.state == TableState::Ready).map(|r| r.schema.id.clone());
        self.task.source.resume(checkpoint, &tables, &followed.collect::<Vec<_>>()).await
    }

    /// Prepares and loads every table that is not on the target yet.
    async fn bring_in(&self, lane: &mut dyn TargetLane, first: Option<Arc<dyn Snapshot>>) -> Result<()> {
        let plan = &self.task.plan;
        let catalog = self.discover().await?;
        let record = lane.record().await?;
        let known: HashMap<&TableId, &TableRecord> = record.tables.iter().map(|t| (&t.schema.id, t)).collect();
        let pending: Vec<Arc<TableSchema>> =
            catalog.tables.iter().filter(|t| known.get(&t.id).is_none_or(|r| is_pending(r))).cloned().collect();
        if pending.is_empty() {
            return Ok(());
        }
        if plan.mode == Mode::Cdc && record.tables.iter().all(|t| t.state != TableState::Reload) {
            return self.without_load(lane, &catalog, &pending).await;
        }
        self.task.reporter.update(|p| p.phase = Phase::Loading);
        let snapshot = match first {
            Some(snapshot) => snapshot,
            None => {
                let kind = if plan.mode.follows() { SnapshotKind::Additional } else { SnapshotKind::Standalone };
                Arc::from(self.task.source.snapshot(&pending, kind).await?)
            }
        };
        lane.prepare_types(&catalog.types).await?;
        Load { task: self.task, snapshot, stop: self.stop.clone() }.run(lane, &pending, &known).await
    }

    async fn without_load(
        &self,
        lane: &mut dyn TargetLane,
        catalog: &Catalog,
        pending: &[Arc<TableSchema>],
    ) -> Result<()> {
        lane.prepare_types(&catalog.types).await?;
        for table in pending {
            lane.prepare(table, self.task.plan.on_existing, false).await?;
            self.task.reporter.table(&table.id, |t| t.state = Some(TableState::Ready));
        }
        Ok(())
    }

    async fn follow(self, mut lane: Box<dyn TargetLane>) -> Result<End> {
        let record = lane.record().await?;
        self.report(&record);
        let checkpoint = record
            .checkpoint
            .ok_or_else(|| Error::fatal("internal: the target has no checkpoint after the start was recorded"))?;
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
    Ok(Catalog { tables, types: catalog.types.clone() })
}
