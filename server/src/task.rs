//! From a configured task to a runnable one.

use std::path::Path;
use std::sync::Arc;

use trem_engine::Error;
use trem_engine::progress::Reporter;
use trem_engine::runner::Task;

use crate::cli::Pick;
use crate::config::{self, Problem, Problems, TaskConfig};
use crate::exit::Failure;

/// The tasks asked for: all, or those named.
pub fn pick(pick: &Pick) -> Result<Vec<TaskConfig>, Failure> {
    all_and_picked(pick).map(|(_, picked)| picked)
}

/// All tasks of the file, and those asked for.
pub fn all_and_picked(pick: &Pick) -> Result<(Vec<TaskConfig>, Vec<TaskConfig>), Failure> {
    let all = config::load(&pick.file)?.tasks;
    let unknown: Vec<Problem> =
        pick.tasks.iter().filter(|n| !has(&all, n)).map(|n| no_task(&pick.file, n, &all)).collect();
    if !unknown.is_empty() {
        return Err(Problems(unknown).into());
    }
    let wanted = |t: &&TaskConfig| pick.tasks.is_empty() || pick.tasks.contains(&t.plan.name);
    let picked = all.iter().filter(wanted).cloned().collect();
    Ok((all, picked))
}

/// The one task named.
pub fn pick_one(file: &Path, name: &str) -> Result<TaskConfig, Failure> {
    let config = config::load(file)?;
    if !has(&config.tasks, name) {
        return Err(Problems(vec![no_task(file, name, &config.tasks)]).into());
    }
    let found = config.tasks.into_iter().find(|t| t.plan.name == name);
    found.ok_or_else(|| Failure::System(format!("the task {name} is gone")))
}

fn has(tasks: &[TaskConfig], name: &str) -> bool {
    tasks.iter().any(|t| t.plan.name == name)
}

fn no_task(file: &Path, name: &str, tasks: &[TaskConfig]) -> Problem {
    let known: Vec<&str> = tasks.iter().map(|t| t.plan.name.as_str()).collect();
    Problem::of_file(file, format!("--task: no task is called {name:?}: the file has {}", known.join(", ")))
}

/// A runnable task.
pub fn build(config: &TaskConfig) -> Result<Task, Error> {
    let name = &config.plan.name;
    let (source, target) = (config.source.configured.source(name), config.target.configured.target(name));
    Ok(Task {
        plan: config.plan.clone(),
        source: source.ok_or_else(|| Error::refused(format!("{} can only be a target", config.source)))?,
        target: target.ok_or_else(|| Error::refused(format!("{} can only be a source", config.target)))?,
        rules: Arc::new(config.rules.clone()),
        reporter: Reporter::default(),
        budget: config.budget.clone(),
    })
}
