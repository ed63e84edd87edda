//! `trem check`: everything that could stop the tasks later, and the statement that mends it.

use std::path::Path;
use std::process::ExitCode;

use trem_engine::Error;
use trem_engine::ports::{Finding, Severity};
use trem_engine::runner::{Preflight, Task, preflight};

use crate::cli::Pick;
use crate::config::TaskConfig;
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
                name(&mut findings, &args.file, &config.plan.name);
                output::findings(findings.iter());
                output::say(verdict(tables, findings.iter()));
            }
            Err(error) => {
                findings.extend(why(config, task, &error).await);
                name(&mut findings, &args.file, &config.plan.name);
                output::findings(findings.iter());
                output::say("the check could not go on");
            }
        }
        failed |= findings.iter().any(|f| f.severity == Severity::Error);
    }
    Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// Names file and task in the remedies.
pub fn name(findings: &mut [Finding], file: &Path, task: &str) {
    for finding in findings {
        finding.remedy = finding.remedy.take().map(|r| output::with_names(&r, file, task));
    }
}

/// A look at both ends in one line.
pub fn verdict<'a>(tables: usize, findings: impl Iterator<Item = &'a Finding> + Clone) -> String {
    let of = |severity| findings.clone().filter(|f| f.severity == severity).count();
    let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
    let ready = if errors == 0 { "ready to run" } else { "refused until the errors are mended" };
    format!("{ready}: tables {tables}, errors {errors}, warnings {warnings}")
}

/// The findings of endpoints and tables.
pub fn all(preflight: Preflight) -> impl Iterator<Item = Finding> {
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
    let remedy = error.remedy_text().map(str::to_owned);
    Finding { severity: Severity::Error, subject, message: told(error), remedy }
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
