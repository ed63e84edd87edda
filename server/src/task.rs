//! From a configured task to a runnable one, and the exit codes of what can fail on the way.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use trem_endpoints::null::NullTarget;
use trem_endpoints::postgres::{PostgresSource, PostgresTarget};
use trem_engine::Error;
use trem_engine::ports::{Source, Target};
use trem_engine::progress::Reporter;
use trem_engine::runner::Task;

use crate::cli::Pick;
use crate::config::{self, Endpoint, EndpointKind, Problem, Problems, TaskConfig};

/// A task stopped on an error, or a check found one.
pub const FAILED: u8 = 1;
/// Bad usage or configuration.
pub const MISUSED: u8 = 2;

/// Why a command ends early.
#[derive(Debug)]
pub enum Failure {
    /// The configuration or the command line is wrong.
    Config(Problems),
    /// Something around the command is wrong, such as an environment variable.
    Usage(String),
    /// An endpoint refused or failed.
    Engine(Error),
    /// The machine did not give what the program needs.
    System(String),
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Config(_) | Self::Usage(_) => MISUSED,
            Self::Engine(_) | Self::System(_) => FAILED,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(problems) => problems.fmt(f),
            Self::Engine(error) => error.fmt(f),
            Self::Usage(message) | Self::System(message) => f.write_str(message),
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Config(problems)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// The tasks asked for: all, or those named.
pub fn pick(pick: &Pick) -> Result<Vec<TaskConfig>, Failure> {
    let config = config::load(&pick.file)?;
    if pick.tasks.is_empty() {
        return Ok(config.tasks);
    }
    let unknown: Vec<Problem> =
        pick.tasks.iter().filter(|n| !has(&config.tasks, n)).map(|n| no_task(&pick.file, n, &config.tasks)).collect();
    if !unknown.is_empty() {
        return Err(Problems(unknown).into());
    }
    Ok(config.tasks.into_iter().filter(|t| pick.tasks.contains(&t.plan.name)).collect())
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
    Ok(Task {
        plan: config.plan.clone(),
        source: source(&config.source, name)?,
        target: target(&config.target, name),
        transforms: Vec::new(),
        reporter: Reporter::default(),
    })
}

fn source(endpoint: &Endpoint, task: &str) -> Result<Arc<dyn Source>, Error> {
    match &endpoint.kind {
        EndpointKind::Postgres(config) => Ok(Arc::new(PostgresSource::new(config.clone(), task))),
        EndpointKind::Null => Err(Error::refused(format!("endpoint {}: null can only be a target", endpoint.name))),
    }
}

fn target(endpoint: &Endpoint, task: &str) -> Arc<dyn Target> {
    match &endpoint.kind {
        EndpointKind::Postgres(config) => Arc::new(PostgresTarget::new(config.clone(), task)),
        EndpointKind::Null => Arc::new(NullTarget::new(task)),
    }
}
