//! Histories that are kept beside tables: made with them, and widened as they are.

use arrow_array::{RecordBatch, RecordBatchOptions, new_null_array};

use crate::error::{Class, Result};
use crate::ports::TargetLane;
use crate::record::TableRecord;
use crate::route::Route;
use crate::schema::AddedColumns;

use super::run::Run;

/// Makes, or widens, the history beside a table, if one is kept.
pub(super) async fn prepare(lane: &mut dyn TargetLane, route: &Route) -> Result<()> {
    let Some(history) = route.history() else { return Ok(()) };
    lane.prepare_history(history.target()).await.map_err(|e| e.instead(&route.source().id))
}

/// The same for a table that is followed: the rules may keep a history from now on, or it is gone.
pub(super) async fn look_after(run: &Run, lane: &mut dyn TargetLane, known: &TableRecord) -> Result<()> {
    let route = run.task.rules.route(&known.source)?;
    match prepare(lane, &route).await {
        Err(error) if error.class() == Class::Refused => run.suspend(lane, known, &error).await,
        prepared => prepared,
    }
}

/// What the history gets more with its table. Of changes from before nobody knows what they would have had there.
pub(super) fn widened(before: &Route, next: &Route) -> Option<AddedColumns> {
    let (before, next) = (before.history()?.target(), next.history()?.target());
    let new: Vec<usize> =
        (0..next.columns.len()).filter(|at| before.column(&next.columns[*at].name).is_none()).collect();
    let nothing = new.iter().map(|at| new_null_array(&next.columns[*at].ty.arrow(), 1)).collect();
    let schema = next.arrow().project(&new).ok()?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let existing = RecordBatch::try_new_with_options(schema.into(), nothing, &options).ok()?;
    (!new.is_empty()).then(|| AddedColumns { before: before.clone(), next: next.clone(), existing })
}
