//! A run as it is told.

use std::time::SystemTime;

use trem_engine::progress::{Phase, Progress, load_seconds_left};
use trem_engine::record::TableState;

use super::supervise::Running;
use super::views::{TableNumbers, TaskStatus, remedy};
use crate::progress::changes;
use crate::store::Run;

/// A task that has run in this process.
pub(super) fn of_run(name: &str, running: &Running) -> TaskStatus {
    let progress = running.reporter().snapshot();
    let (state, reason, help) = phase(name, &progress, running);
    let lag = progress.lag.as_ref().filter(|_| !running.has_ended());
    let tables = progress.tables.values();
    let of = |state: TableState| tables.clone().filter(|t| t.state == Some(state)).count();
    TaskStatus {
        name: name.to_owned(),
        state,
        reason,
        remedy: help,
        revision: Some(running.revision()),
        run: Some(running.run()),
        position: progress.applied.as_ref().map(ToString::to_string),
        source_position: lag.map(|l| l.current.to_string()),
        lag_seconds: lag.and_then(|_| progress.lag_seconds(SystemTime::now())),
        lag_bytes: lag.and_then(|l| l.bytes),
        retained_bytes: lag.and_then(|l| l.retained_bytes),
        retained_limit_bytes: lag.and_then(|l| l.retained_limit_bytes),
        waits_for: lag.and_then(|l| l.waits_for.clone()),
        rows_loaded: progress.rows_loaded(),
        rows_estimated: tables.clone().map(|t| t.rows_estimated.max(t.rows_read)).sum(),
        load_seconds_left: load_seconds_left(tables.clone()),
        changes: changes(&progress),
        transactions: progress.transactions,
        retries: progress.retries,
        tables: TableNumbers {
            total: progress.tables.len(),
            ready: of(TableState::Ready),
            suspended: of(TableState::Suspended),
        },
    }
}

/// State, reason and remedy.
fn phase(task: &str, progress: &Progress, running: &Running) -> (String, Option<String>, Option<String>) {
    let (ended, stopped, paused) = (running.has_ended(), running.was_stopped(), running.is_paused());
    let plain = |state: &str| (state.to_owned(), None, None);
    match &progress.phase {
        Phase::Failed(trouble) | Phase::Retrying(trouble) => {
            let table = trouble.table.as_ref().map_or_else(String::new, |table| format!("{table}: "));
            let reason = format!("{table}{}", trouble.reason);
            let help = trouble.remedy.as_ref().map(|r| remedy(task, r));
            match (&progress.phase, ended && stopped) {
                (_, true) => plain("stopped"),
                (phase, false) => (phase.name().to_owned(), Some(reason), help),
            }
        }
        _ if ended && stopped => plain("stopped"),
        Phase::Loading | Phase::Following if paused => plain("paused"),
        phase => plain(phase.name()),
    }
}

/// A task that has not run since the daemon started, by its last run.
pub(super) fn of_last_run(name: &str, last: Option<Run>) -> TaskStatus {
    let mut status = TaskStatus { name: name.to_owned(), state: "stopped".to_owned(), ..TaskStatus::default() };
    if let Some(last) = last {
        if matches!(last.outcome.as_deref(), Some("failed" | "done")) {
            status.state = last.outcome.unwrap_or_default();
        }
        status.revision = Some(last.revision);
        (status.reason, status.remedy) = (last.reason, last.remedy);
    }
    status
}
