//! Before the log is followed: the first tables that are loaded are waited for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::error::Result;
use crate::ports::TargetLane;
use crate::position::Position;
use crate::progress::Phase;
use crate::record::TableState;

use super::run::{Ask, Meeting, Run, Taken, group_ended, made_ready};

/// How long the first tables that are loaded wait for others before they are followed.
const GRACE: Duration = Duration::from_secs(1);

/// Waits until there is something to follow, or nothing left to wait for.
pub(super) async fn first_tables(
    run: &Arc<Run>,
    asks: &mut mpsc::Receiver<Ask>,
    (groups, taken): (&mut JoinSet<Result<()>>, &mut Taken),
    at: &Position,
    lane: &mut dyn TargetLane,
) -> Result<()> {
    let ready = |run: &Run| !run.book.in_state(&[TableState::Ready]).is_empty();
    if ready(run) {
        // They have waited long enough.
        return Ok(());
    }
    run.task.reporter.update(|p| p.phase = Phase::Loading);
    let grace = Instant::now() + GRACE;
    while !groups.is_empty() && (Instant::now() < grace || !ready(run)) {
        tokio::select! {
            Some(Ask { meeting, .. }) = asks.recv() => {
                let (join, joining) = oneshot::channel();
                let _ = meeting.send(Meeting { at: at.clone(), join });
                if let Ok(tables) = joining.await {
                    run.book.commit(lane, &made_ready(&tables)).await?;
                }
            }
            Some(ended) = groups.join_next_with_id() => group_ended(taken, ended)?,
            () = sleep_until(grace), if Instant::now() < grace => {}
        }
    }
    Ok(())
}
