//! One attempt: take the task over, see that the log can be followed, take up what is missing, follow.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::error::{Class, Error, Result};
use crate::ports::{Snapshot, SnapshotKind, TargetLane};
use crate::position::{Checkpoint, Position};
use crate::progress::Phase;
use crate::record::{Epoch, LaneId, RecordChange, TableRecord, TableState, TaskRecord};
use crate::remedy::Remedy;
use crate::routes::Routes;
use crate::schema::{Catalog, Identity, SchemaChange, SchemaChangeKind, TableId, TableSchema};

use super::book::Book;
use super::control::Control;
use super::failing;
use super::follow::Follow;
use super::group::Group;
use super::history;
use super::preflight::preflight;
use super::rerouted::rerouted;
use super::run::{Hold, Run, is_followed};
use super::secondary::create_secondary;
use super::task::Task;

pub(super) struct Attempt<'a> {
    pub(super) task: &'a Task,
    pub(super) control: &'a Control,
    pub(super) goal: Option<Position>,
    /// The last epoch that this process has taken.
    pub(super) taken: &'a mut Option<Epoch>,
}

/// A task that has begun or goes on.
struct Started {
    checkpoint: Checkpoint,
    /// The tables that are selected and not left out.
    tables: Vec<TableId>,
    /// Those of them that somebody has locked, which the snapshot does not have.
    locked: Vec<TableId>,
    /// The snapshot that it began with.
    first: Option<(Arc<dyn Snapshot>, Hold)>,
}

impl Attempt<'_> {
    /// `before`: the record as it was before this process took the task.
    pub(super) async fn run(self, before: Option<TaskRecord>) -> Result<()> {
        // Until the log is followed a stop needs no care: connections close, and their transactions roll back.
        tokio::select! {
            () = self.control.token().cancelled() => return Ok(()),
            looked = self.look_first(before) => looked?,
        }
        let (epoch, record) = tokio::select! {
            () = self.control.token().cancelled() => return Ok(()),
            taken = self.task.target.take_over() => taken?,
        };
        *self.taken = Some(epoch);
        let starting = record.tables.is_empty();
        let book = Book::new(epoch, record, self.task.reporter.clone());
        let (run, asks) = Run::new(self.task, self.control, book, starting);
        if !self.task.plan.mode.follows() {
            return tokio::select! {
                () = self.control.token().cancelled() => Ok(()),
                loaded = load_only(&run) => loaded,
            };
        }
        let ready = async {
            let committed = run.book.read(|r| r.checkpoint.as_ref().map(|c| c.position.clone()));
            let mut lane = self.task.target.open_lane(run.book.epoch, committed.as_ref()).await?;
            let started = begin_or_resume(&run, lane.as_mut()).await?;
            Ok::<_, Error>((lane, started))
        };
        let (lane, started) = tokio::select! {
            () = self.control.token().cancelled() => return Ok(()),
            ready = ready => ready?,
        };
        let (mut groups, mut taken) = (JoinSet::new(), Vec::new());
        let pending = pending(&run, &started.tables);
        let alone = |id: &TableId| started.locked.contains(id) || run.book.table(id).is_some_and(|t| t.is_aside());
        let (alone, pending): (Vec<TableId>, Vec<TableId>) = pending.into_iter().partition(alone);
        // Each by itself: none waits for another one's lock.
        for (tables, first) in
            std::iter::once((pending, started.first)).chain(alone.into_iter().map(|id| (vec![id], None)))
        {
            if !tables.is_empty() {
                let group = Group::new(&run, tables.clone(), first);
                taken.push((groups.spawn(group.run()).id(), tables));
            }
        }
        let until_current = self.goal.is_some();
        let followed = Arc::clone(&run);
        Follow { run, asks, groups, taken, goal: self.goal, checkpoint: started.checkpoint }.run(lane).await?;
        if until_current && !self.control.token().is_cancelled() {
            failing::healed(&followed).await;
        }
        Ok(())
    }

    /// A task that has not started is refused before anything is created for it.
    async fn look_first(&self, before: Option<TaskRecord>) -> Result<()> {
        if before.is_none_or(|r| r.is_new()) {
            preflight(self.task).await?.verdict()?;
        }
        Ok(())
    }
}

/// Those of the tables that are not ready.
fn pending(run: &Run, tables: &[TableId]) -> Vec<TableId> {
    let done = |id: &&TableId| !matches!(run.book.state(id), Some(TableState::Ready | TableState::Suspended));
    tables.iter().filter(done).cloned().collect()
}

/// All rows once; no log is followed.
async fn load_only(run: &Arc<Run>) -> Result<()> {
    let (_, routes) = run.look().await?;
    let mut lane = run.task.target.open_lane(run.book.epoch, None).await?;
    take_requests(run, lane.as_mut()).await?;
    let tables: Vec<TableId> = selected(&routes);
    let pending = pending(run, &tables);
    if pending.is_empty() {
        return create_secondary(run, lane.as_mut(), &routes, |_| true).await;
    }
    drop(lane);
    run.task.reporter.update(|p| p.phase = Phase::Loading);
    Group::new(run, pending, None).run().await?;
    failing::healed(run).await;
    Ok(())
}

/// All tables that the task selects, those that no route leads from included: they are told of where they are taken up.
fn selected(routes: &Routes) -> Vec<TableId> {
    let refused = routes.refused().iter().map(|(t, _)| t.id.clone());
    routes.all().iter().map(|r| r.source().id.clone()).chain(refused).collect()
}

async fn begin_or_resume(run: &Arc<Run>, lane: &mut dyn TargetLane) -> Result<Started> {
    let checkpoint = run.book.read(|r| r.checkpoint.clone());
    match checkpoint {
        Some(checkpoint) => resume(run, lane, checkpoint).await,
        None => start(run, lane).await,
    }
}

/// First start: from here on the source retains its log for this task, of the tables returned.
async fn start(run: &Arc<Run>, lane: &mut dyn TargetLane) -> Result<Started> {
    let task = &run.task;
    if run.book.read(|r| r.lineage.is_none()) {
        // Once the history is on record, what has the task's name at the source is taken for our own leftover.
        task.source.vacant().await?;
    }
    let lineage = task.source.lineage().await?;
    run.book.commit(lane, &[RecordChange::Begin(lineage.clone())]).await?;
    let (catalog, routes) = run.look().await?;
    let hold = run.hold();
    let (snapshot, tables, locked) = first_snapshot(task, catalog.tables).await?;
    run.selected(tables).await;
    let position = snapshot.start().clone();
    hold.from(snapshot.retained());
    tracing::info!(task = %task.plan.name, position = %snapshot.retained(), "the log is retained from here on");
    let checkpoint = Checkpoint { lineage, position };
    let begun = RecordChange::Checkpoint { lane: LaneId::MAIN, at: checkpoint.clone(), committed_at: None };
    run.book.commit(lane, &[begun]).await?;
    let first = task.plan.mode.loads().then_some((snapshot, hold));
    Ok(Started { checkpoint, tables: selected(&routes), locked, first })
}

/// The snapshot to begin with, the tables that it has, and those that it does not have because somebody has locked
/// them: the others do not wait for those.
async fn first_snapshot(
    task: &Task,
    mut tables: Vec<Arc<TableSchema>>,
) -> Result<(Arc<dyn Snapshot>, Vec<Arc<TableSchema>>, Vec<TableId>)> {
    let mut locked = Vec::new();
    loop {
        let error = match task.snapshot(&tables, SnapshotKind::Initial).await {
            Ok(snapshot) => return Ok((snapshot, tables, locked)),
            Err(error) => error,
        };
        let held = error.table_id().filter(|_| error.class() == Class::Locked && tables.len() > 1).cloned();
        let Some(held) = held else { return Err(error) };
        tracing::warn!(task = %task.plan.name, "the others begin without it: {error}");
        tables.retain(|t| t.id != held);
        locked.push(held);
    }
}

/// Later start: the log must reach back to the checkpoint. The tables returned are selected at the source.
async fn resume(run: &Arc<Run>, lane: &mut dyn TargetLane, checkpoint: Checkpoint) -> Result<Started> {
    let (lineage, looked) = tokio::join!(run.task.source.verify(&checkpoint), run.look());
    // First of all: nothing that another database says may be written down.
    let lineage = lineage?;
    let (catalog, routes) = looked?;
    take_requests(run, lane).await?;
    for known in run.book.read(|r| r.tables.clone()) {
        look_after(run, lane, &known, &catalog, &routes).await?;
    }
    leave_keyless(run, lane, &routes).await?;
    let suspended = |id: &TableId| run.book.state(id) == Some(TableState::Suspended);
    let known: Vec<Arc<TableSchema>> = catalog
        .tables
        .iter()
        .filter(|t| t.identity != Identity::InsertOnly)
        .filter(|t| matches!(run.book.state(&t.id), Some(TableState::Ready | TableState::Loading)))
        .cloned()
        .collect();
    run.publish(&known).await?;
    compare(run, lane).await?;
    let tables: Vec<TableId> = selected(&routes).into_iter().filter(|id| !suspended(id)).collect();
    if pending(run, &tables).is_empty() {
        create_secondary(run, lane, &routes, |_| true).await?;
    }
    // The history may have gone on under another name (a failover); what was verified is what is recorded next.
    Ok(Started { checkpoint: Checkpoint { lineage, ..checkpoint }, tables, locked: Vec::new(), first: None })
}

/// Takes up requests that were written down while nobody ran.
async fn take_requests(run: &Run, lane: &mut dyn TargetLane) -> Result<()> {
    for id in run.book.read(|r| r.requests.clone()) {
        let mut changes = vec![RecordChange::Taken(id.clone())];
        if run.book.state(&id).is_some() {
            changes.push(RecordChange::state(&id, TableState::Reload));
        }
        run.book.commit(lane, &changes).await?;
    }
    Ok(())
}

/// Left where they are, tables that have lost their key would make the source refuse updates and deletes of them.
async fn leave_keyless(run: &Run, lane: &mut dyn TargetLane, routes: &Routes) -> Result<()> {
    let keyless = routes.all().iter().filter(|r| r.source().identity == Identity::InsertOnly);
    let keyless = keyless.filter(|r| run.book.state(&r.source().id) != Some(TableState::Suspended));
    let tables: Vec<Arc<TableSchema>> = keyless.map(|r| Arc::clone(r.source())).collect();
    if tables.is_empty() {
        return Ok(());
    }
    for error in run.task.source.obstacles(&tables, true).await? {
        if let Some(route) = error.table_id().and_then(|id| routes.of_source(id)) {
            let table = TableRecord::new(route.source(), route.target(), TableState::Suspended);
            run.suspend(lane, &table, &error).await?;
        }
    }
    Ok(())
}

/// What has become of tables at the source that the log will not tell, or too late for who ends before it comes so far.
async fn compare(run: &Run, lane: &mut dyn TargetLane) -> Result<()> {
    let followed = run.book.read(|r| r.tables.iter().filter(|t| is_followed(t)).cloned().collect::<Vec<_>>());
    let tables: Vec<Arc<TableSchema>> = followed.iter().map(|t| Arc::clone(&t.source)).collect();
    for SchemaChange { table, kind } in run.task.source.compare(&tables).await? {
        let Some(known) = followed.iter().find(|t| t.source.id == table.id) else { continue };
        match kind {
            SchemaChangeKind::Noted { next } => run.book.commit(lane, &[RecordChange::Source(next)]).await?,
            SchemaChangeKind::Suspend { reason, remedy } if known.state == TableState::Ready || known.is_aside() => {
                run.suspend(lane, known, &Error::refused(reason).remedy(remedy)).await?;
            }
            SchemaChangeKind::Suspend { reason, .. } | SchemaChangeKind::Reload { reason } => {
                tracing::warn!(task = %run.task.plan.name, table = %table.id, "loaded again: {reason}");
                let (table, state) = (table.id.clone(), TableState::Reload);
                let again = RecordChange::State { table, state, reason: Some(reason), remedy: None };
                run.book.commit(lane, &[again]).await?;
            }
            SchemaChangeKind::AddColumns { .. } => {}
        }
    }
    Ok(())
}

/// What became of a known table at the source, or by the rules, while nobody looked.
async fn look_after(
    run: &Run,
    lane: &mut dyn TargetLane,
    known: &TableRecord,
    catalog: &Catalog,
    routes: &Routes,
) -> Result<()> {
    let (name, id) = (&run.task.plan.name, known.id());
    if !run.task.plan.selection.takes(id) {
        run.book.commit(lane, &[RecordChange::Forget(id.clone())]).await?;
        run.task.reporter.update(|p| drop(p.tables.remove(id)));
        tracing::info!(task = %name, table = %id, "no longer selected: forgotten, its rows stay");
        return Ok(());
    }
    if known.state == TableState::Suspended {
        return Ok(());
    }
    let number = known.source.native_id;
    let same = |t: &&Arc<TableSchema>| number.is_some() && t.native_id == number;
    let reload = Remedy::Reload(id.clone());
    let (now, remedy) = match catalog.tables.iter().find(|t| t.id == *id) {
        Some(_) if known.state != TableState::Ready && !known.is_aside() => return Ok(()),
        Some(t) if t.native_id != number => ("it was dropped at the source and made anew".to_owned(), reload),
        Some(_) => match rerouted(run.task.rules.as_ref(), known) {
            Ok(None) => return history::look_after(run, lane, known).await,
            Ok(Some(now)) => (now, reload.or("write the rules as they were, and reload it then")),
            Err(error) => (error.reason(), Remedy::from("correct the rules").then(reload)),
        },
        None => match catalog.tables.iter().find(same) {
            Some(t) => {
                // Under that name it is selected too.
                let go_on = format!("exclude {id} in [[tables]]: as {} it is loaded and followed anyway", t.id);
                let back = Remedy::from(format!("give it the name {id} again at the source")).then(reload);
                (format!("it is called {} at the source now", t.id), Remedy::from(go_on).or(back))
            }
            None if routes.refused().iter().any(|(t, _)| t.id == *id) => return Ok(()),
            // Whether its log was followed to the end is seen when it is compared.
            None if is_followed(known) => {
                tracing::warn!(task = %name, table = %id, "the source no longer has this table");
                return Ok(());
            }
            None => {
                let remedy = Remedy::from(format!("exclude {id} in [[tables]]"));
                ("the source no longer has this table".to_owned(), remedy.or("create it there again"))
            }
        },
    };
    let error = Error::refused(now).remedy(remedy);
    run.suspend(lane, known, &error).await
}
