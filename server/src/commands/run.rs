//! `trem run`: all tasks at once, until they end or are told to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indicatif::MultiProgress;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trem_engine::Error;
use trem_engine::ports::{Finding, Severity};
use trem_engine::progress::Progress;
use trem_engine::record::TableState;
use trem_engine::runner::{Control, Task, Until};

use crate::cli::Run;
use crate::exit::{Exit, Failure};
use crate::overlap::overlaps;
use crate::remedy::Commands;
use crate::{logging, progress, task};

/// The runner lets a running apply finish up to a deadline of its own; past this one the connections are cut,
/// which rolls back on the target, and the next start reads the checkpoint.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// Suspended tables that are told one by one.
const MOST_TOLD: usize = 20;

/// Runs the tasks; the exit code tells whether one failed.
pub async fn run(args: Run) -> Result<Exit, Failure> {
    let (all, configs) = task::all_and_picked(&args.pick)?;
    let bars = MultiProgress::new();
    logging::start(args.log_format, &bars, None)?;
    let until = if args.until_current { Until::Current } else { Until::Stopped };
    let stop = CancellationToken::new();
    watch_signals(&stop)?;

    let tasks = configs.iter().map(task::build).collect::<Result<Vec<Task>, Error>>()?;
    let refusals = overlaps(&all, &tasks).await;
    let shown = tasks.iter().map(|t| (t.plan.name.clone(), t.reporter.clone())).collect();
    let done = CancellationToken::new();
    let display = tokio::spawn(progress::show(shown, bars, done.clone()));
    let mut handles = Vec::new();
    for ((config, task), refusal) in configs.iter().zip(tasks).zip(refusals) {
        tracing::info!(task = %task.plan.name, from = %config.source, to = %config.target, "starting");
        handles.push(tokio::spawn(one(args.pick.file.clone(), Arc::new(task), refusal, until, stop.clone())));
    }
    let tasks = handles.len();
    let exits = wait(handles, &stop).await;
    done.cancel();
    let _ = display.await;
    let failed = exits.iter().filter(|e| **e == Exit::Failed).count();
    tracing::info!(tasks, failed, "all tasks have ended");
    Ok(match failed {
        0 if exits.contains(&Exit::Suspended) => Exit::Suspended,
        _ => Exit::of(failed > 0),
    })
}

/// One task to its end, which is told at once.
async fn one(file: PathBuf, task: Arc<Task>, refusal: Vec<Finding>, until: Until, stop: CancellationToken) -> Exit {
    let name = &task.plan.name;
    for found in refusal.iter().filter(|f| f.severity == Severity::Warning) {
        let remedy = found.remedy.as_ref().map_or_else(String::new, |r| format!(" (remedy: {r})"));
        tracing::warn!(task = %name, "{}{remedy}", found.message);
    }
    let ended = match refused(&refusal) {
        Some(error) => Err(error),
        None => task.run(until, &Control::stopped_by(stop.clone())).await,
    };
    task.reporter.ended(&ended);
    let progress = task.reporter.snapshot();
    let (rows, changes) = (progress.rows_loaded(), progress::changes(&progress));
    let position = progress.applied.as_ref().map(ToString::to_string);
    let commands = Commands::of_file(&file, name);
    let suspended = tell_suspended(&progress, &commands);
    let how = match (stop.is_cancelled(), suspended) {
        (true, _) => "stopped",
        (false, 0) => "done",
        (false, _) => "done, but tables were left suspended",
    };
    match &ended {
        Ok(()) => tracing::info!(task = %name, rows_loaded = rows, changes, position, suspended, "{how}"),
        Err(e) => {
            let error = commands.error(e);
            tracing::error!(task = %name, class = ?e.class(), rows_loaded = rows, changes, position, "failed: {error}");
        }
    }
    match ended {
        Err(_) => Exit::Failed,
        // Whoever stops a task has not asked for it to be done.
        Ok(()) if suspended > 0 && !stop.is_cancelled() => Exit::Suspended,
        Ok(()) => Exit::Done,
    }
}

/// Why tables are left out at the end and how they come back, with commands that can be copied; how many there are.
fn tell_suspended(progress: &Progress, commands: &Commands<'_>) -> usize {
    let suspended = || progress.tables.iter().filter(|(_, t)| t.state == Some(TableState::Suspended));
    for (table, left) in suspended().take(MOST_TOLD) {
        let reason = left.reason.as_deref().unwrap_or("no reason is on record");
        let remedy = left.remedy.as_ref().map_or_else(String::new, |r| format!(" (remedy: {})", commands.remedy(r)));
        tracing::warn!(task = commands.task, %table, "left suspended: {reason}{remedy}");
    }
    let more = suspended().count().saturating_sub(MOST_TOLD);
    if more > 0 {
        tracing::warn!(task = commands.task, more, "more tables are left suspended: `trem status` says why");
    }
    suspended().count()
}

fn refused(findings: &[Finding]) -> Option<Error> {
    let errors: Vec<&Finding> = findings.iter().filter(|f| f.severity == Severity::Error).collect();
    let first = errors.first()?;
    let texts: Vec<String> = errors.iter().map(|f| format!("{}: {}", f.subject, f.message)).collect();
    let error = Error::refused(texts.join("; "));
    Some(match &first.remedy {
        Some(remedy) => error.remedy(remedy.clone()),
        None => error,
    })
}

/// How the tasks ended; one that is cut off is left out.
async fn wait(mut handles: Vec<JoinHandle<Exit>>, stop: &CancellationToken) -> Vec<Exit> {
    let mut exits = Vec::new();
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_DEADLINE).await;
    };
    tokio::pin!(overdue);
    for n in 0..handles.len() {
        tokio::select! {
            ended = &mut handles[n] => exits.push(ended.unwrap_or_else(|panic| {
                tracing::error!("a task ended abnormally: {panic}");
                Exit::Failed
            })),
            () = &mut overdue => {
                tracing::warn!("still busy {} s after being told to stop: cut off", STOP_DEADLINE.as_secs());
                handles[n..].iter().for_each(JoinHandle::abort);
                return exits;
            }
        }
    }
    exits
}

fn watch_signals(stop: &CancellationToken) -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|e| Failure::System(format!("cannot listen for signals: {e}")));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        tracing::info!("stopping: a running transaction is finished first (signal again to stop at once)");
        stop.cancel();
        either(&mut interrupt, &mut terminate).await;
        tracing::warn!("stopped at once: what was not committed is rolled back");
        std::process::exit(Exit::Failed as i32);
    });
    Ok(())
}

async fn either(a: &mut Signal, b: &mut Signal) {
    tokio::select! {
        _ = a.recv() => {}
        _ = b.recv() => {}
    }
}
