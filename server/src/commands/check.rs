//! `trem check`: everything that could stop the tasks later, and the statement that mends it.

use trem_engine::Error;
use trem_engine::ports::{Finding, Severity};
use trem_engine::runner::{Preflight, Task, preflight};

use crate::cli::Pick;
use crate::config::TaskConfig;
use crate::exit::{Exit, Failure};
use crate::finding::{self, FindingView, verdict};
use crate::overlap::overlaps;
use crate::remedy::Commands;
use crate::{output, task};

/// Prints the findings; fails when one of them refuses a task.
pub async fn check(args: Pick) -> Result<Exit, Failure> {
    let configs = task::pick(&args)?;
    let tasks = configs.iter().map(task::build).collect::<Result<Vec<Task>, Error>>()?;
    let doubled = overlaps(&configs, &tasks).await;
    let mut failed = false;
    for ((config, task), mut found) in configs.iter().zip(&tasks).zip(doubled) {
        output::say(format_args!("task {}: {} -> {}", config.plan.name, config.source, config.target));
        let (looked, tables) = match preflight(task).await {
            Ok(looked) => {
                let tables = looked.previews.len();
                (all(looked).collect(), Some(tables))
            }
            Err(error) => (why(config, task, &error).await, None),
        };
        found.extend(looked);
        let found = FindingView::all(found, &Commands { file: &args.file, task: &config.plan.name });
        finding::print(found.iter());
        output::say(match tables {
            Some(tables) => verdict(tables, found.iter()),
            None => "the check could not go on".to_owned(),
        });
        failed |= found.iter().any(|f| f.severity == Severity::Error);
    }
    Ok(Exit::of(failed))
}

/// The findings of endpoints and tables.
fn all(preflight: Preflight) -> impl Iterator<Item = Finding> {
    preflight.findings.into_iter().chain(preflight.previews.into_iter().flat_map(|p| p.findings))
}

/// Why the look at both ends did not come to its end: each end that cannot be asked, or the error itself.
pub async fn why(config: &TaskConfig, task: &Task, error: &Error) -> Vec<Finding> {
    let (source, target) = (task.source.identity().await, task.target.identity().await);
    let source = source.err().map(|e| as_finding(format!("source {}", config.source.name), &e));
    let target = target.err().map(|e| as_finding(format!("target {}", config.target.name), &e));
    let ends: Vec<Finding> = source.into_iter().chain(target).collect();
    if !ends.is_empty() {
        return ends;
    }
    let subject = error.table_id().map_or_else(|| format!("task {}", config.plan.name), |t| format!("table {t}"));
    vec![as_finding(subject, error)]
}

fn as_finding(subject: String, error: &Error) -> Finding {
    Finding { severity: Severity::Error, subject, message: error.reason(), remedy: error.advice().cloned() }
}
