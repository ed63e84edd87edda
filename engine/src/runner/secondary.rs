//! Indexes and constraints beside the keys, once the rows are in.

use crate::error::Result;
use crate::ports::TargetLane;
use crate::record::TableState;
use crate::routes::Routes;
use crate::schema::{SecondaryKind, SecondaryObject, TableId};
use crate::task::AfterLoad;

use super::run::Run;

/// Creates those indexes and constraints of tables of the task that it wants and that are not there.
pub(super) async fn create_secondary(
    run: &Run,
    lane: &mut dyn TargetLane,
    routes: &Routes,
    which: impl Fn(&SecondaryObject) -> bool,
) -> Result<()> {
    let wanted = |kind| match run.task.plan.after_load {
        AfterLoad::Keys => false,
        AfterLoad::Indexes => matches!(kind, SecondaryKind::Index | SecondaryKind::UniqueIndex),
        AfterLoad::IndexesAndConstraints => true,
    };
    let there = |id: &TableId| {
        let state = run.book.read(|r| r.of_target(id).map(|t| (t.state, t.chunks.iter().all(|c| c.done.is_some()))));
        matches!(state, Some((TableState::Ready, _) | (TableState::Loading, true)))
    };
    let objects = routes.secondary().iter().filter(|o| wanted(o.kind) && which(o) && there(&o.table));
    let objects: Vec<_> = objects.cloned().collect();
    if objects.is_empty() { Ok(()) } else { lane.create_secondary(&objects).await }
}
