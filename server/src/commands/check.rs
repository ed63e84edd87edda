//! `trem check`: everything that could stop the tasks later, and the statement that mends it.

use std::process::ExitCode;

use trem_engine::Error;
use trem_engine::ports::{Finding, Severity};
use trem_engine::runner::{Preflight, Task, preflight};

use crate::cli::Pick;
use crate::overlap::overlaps;
use crate::task::{FAILED, Failure};
use crate::{output, task};

/// Prints the findings; fails when one of them refuses a task.
pub async fn check(args: Pick) -> Result<ExitCode, Failure> {
    let configs = task::pick(&args)?;
    let tasks = configs.iter().map(task::build).collect::<Result<Vec<Task>, Error>>()?;
    let doubled = overlaps(&configs, &tasks).await;
    let mut failed = false;
    for ((config, task), doubled) in configs.iter().zip(&tasks).zip(doubled) {
        output::say(format_args!("task {}: {} -> {}", config.plan.name, config.source, config.target));
        let mut findings = doubled;
        match preflight(task).await {
            Ok(found) => {
                let tables = found.previews.len();
                findings.extend(all(found));
                output::findings(findings.iter());
                output::say(format_args!("{tables} tables, {}", verdict(&findings)));
            }
            Err(error) => {
                findings.push(as_finding(&config.plan.name, &error));
                output::findings(findings.iter());
                output::say("the check could not go on");
            }
        }
        failed |= findings.iter().any(|f| f.severity == Severity::Error);
    }
    Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn verdict(findings: &[Finding]) -> String {
    let of = |severity| findings.iter().filter(|f| f.severity == severity).count();
    match of(Severity::Error) {
        0 => format!("ready to run, {} warnings", of(Severity::Warning)),
        n => format!("{n} errors stand against a run, {} warnings", of(Severity::Warning)),
    }
}

/// The findings of endpoints and tables.
pub fn all(preflight: Preflight) -> impl Iterator<Item = Finding> {
    preflight.findings.into_iter().chain(preflight.previews.into_iter().flat_map(|p| p.findings))
}

/// An error of the look itself, as the operator sees findings.
pub fn as_finding(task: &str, error: &Error) -> Finding {
    Finding {
        severity: Severity::Error,
        subject: error.table_id().map_or_else(|| format!("task {task}"), |t| format!("table {t}")),
        message: told(error),
        remedy: error.remedy_text().map(str::to_owned),
    }
}

/// Message and causes, without table and remedy, which have columns of their own.
fn told(error: &Error) -> String {
    let mut text = error.message().to_owned();
    let mut cause = std::error::Error::source(error);
    while let Some(c) = cause {
        text.push_str(&format!(": {c}"));
        cause = c.source();
    }
    text
}
