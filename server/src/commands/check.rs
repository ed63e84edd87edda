//! `trem check`: everything that could stop the tasks later, and the statement that mends it.

use trem_engine::Error;
use trem_engine::ports::{Finding, Severity};
use trem_engine::runner::{Found, Preflight, Task, preflight};
use trem_engine::side::Side;

use crate::cli::Pick;
use crate::config::TaskConfig;
use crate::exit::{Exit, Failure};
use crate::finding::{self, FindingView, verdict};
use crate::overlap::overlaps;
use crate::remedy::Commands;
use crate::{output, task};

/// Prints the findings; fails when one of them refuses a task.
pub async fn check(args: Pick) -> Result<Exit, Failure> {
    let (all_tasks, configs) = task::all_and_picked(&args)?;
    let tasks = configs.iter().map(task::build).collect::<Result<Vec<Task>, Error>>()?;
    let doubled = overlaps(&all_tasks, &tasks).await;
    let mut failed = false;
    for ((config, task), overlaps) in configs.iter().zip(&tasks).zip(doubled) {
        output::tell("", format_args!("task {}: {} -> {}", config.plan.name, config.source, config.target));
        let (looked, tables) = look(config, task).await;
        let found = overlaps.into_iter().map(Found::of_task).chain(looked);
        let found = FindingView::all(found, &Commands::of_file(&args.file, &config.plan.name));
        finding::print(found.iter());
        output::say(match tables {
            Some(tables) => verdict(tables, found.iter()),
            None => "the check could not go on".to_owned(),
        });
        failed |= found.iter().any(|f| f.severity == Severity::Error);
    }
    Ok(Exit::of(failed))
}

/// Looks at both ends, as far as it comes: what was found, and how many tables there are if they were looked at.
pub async fn look(config: &TaskConfig, task: &Task) -> (Vec<Found>, Option<usize>) {
    match preflight(task).await {
        Ok(looked) => {
            let tables = looked.previews.len();
            (all(looked).collect(), Some(tables))
        }
        Err(error) => (why(config, task, &error).await, None),
    }
}

/// The findings of endpoints and tables.
fn all(preflight: Preflight) -> impl Iterator<Item = Found> {
    let tables = preflight.previews.into_iter().flat_map(|p| p.findings);
    preflight.findings.into_iter().chain(tables.map(|f| Found::at(Side::Target, f)))
}

/// Why the look at both ends did not come to its end: each end that cannot be asked, or the error itself.
pub async fn why(config: &TaskConfig, task: &Task, error: &Error) -> Vec<Found> {
    let (source, target) = (task.source.identity().await, task.target.identity().await);
    let at = |side, name: &str, e: Error| Found::at(side, as_finding(format!("{side} {name}"), &e));
    let source = source.err().map(|e| at(Side::Source, &config.source.name, e));
    let target = target.err().map(|e| at(Side::Target, &config.target.name, e));
    let ends: Vec<Found> = source.into_iter().chain(target).collect();
    if !ends.is_empty() {
        return ends;
    }
    let subject = error.table_id().map_or_else(|| format!("task {}", config.plan.name), |t| format!("table {t}"));
    vec![Found::of_task(as_finding(subject, error))]
}

fn as_finding(subject: String, error: &Error) -> Finding {
    Finding { severity: Severity::Error, subject, message: error.reason(), remedy: error.advice().cloned() }
}
