//! What keeps failing is written down on the target, for whoever asks for the state of the task, until it has healed.

use std::time::Duration;

use crate::error::Result;
use crate::ports::Target;
use crate::record::{Epoch, Failing, RecordChange};
use crate::schema::TableId;

use super::run::Run;

/// A target that is busy or gone is not waited for longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes down that the task as a whole keeps failing. Where the target is what fails, whoever asks it learns that. The
/// task is not taken over for it: by now it may be another process's.
pub(super) async fn of_task(target: &dyn Target, epoch: Epoch, failing: Failing) {
    let written = async {
        let record = target.record().await?.unwrap_or_default();
        let all = with(record.failing, &[], Some(failing));
        target.open_lane(epoch, None).await?.commit(&[RecordChange::Failing(all)]).await
    };
    ignore(tokio::time::timeout(PATIENCE, written).await);
}

/// Writes down that these tables keep failing beside the others, or that they have healed.
pub(super) async fn of_tables(run: &Run, tables: &[TableId], failing: Option<Failing>) {
    let known = run.book.read(|r| r.failing.clone());
    let all = with(known.clone(), tables, failing);
    if all != known {
        ignore(tokio::time::timeout(PATIENCE, write(run, all)).await);
    }
}

/// The task as a whole goes on. Tables beside it are another matter.
pub(super) async fn healed(run: &Run) {
    of_tables(run, &[], None).await;
}

async fn write(run: &Run, all: Vec<Failing>) -> Result<()> {
    let mut lane = run.task.target.open_lane(run.book.epoch, None).await?;
    run.book.commit(lane.as_mut(), &[RecordChange::Failing(all)]).await
}

/// All that fails, with this in the place of what was known of the same tables.
fn with(mut all: Vec<Failing>, tables: &[TableId], failing: Option<Failing>) -> Vec<Failing> {
    let same = |known: &Failing| match tables {
        [] => known.tables.is_empty(),
        tables => known.tables.iter().any(|id| tables.contains(id)),
    };
    all.retain(|known| !same(known));
    all.extend(failing);
    all
}

fn ignore(written: std::result::Result<Result<()>, tokio::time::error::Elapsed>) {
    match written {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "what keeps failing could not be written down"),
        Err(_) => tracing::debug!("the target took too long to write down what keeps failing"),
    }
}
